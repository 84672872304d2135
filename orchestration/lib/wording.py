"""Words that depend on a number."""

from __future__ import annotations


def counted(count: int, thing: str) -> str:
    """1 deal, 2,000 deals."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def differing(count: int) -> str:
    """1 row differs, 2 rows differ."""
    return f"{counted(count, 'row')} differ{'s' if count == 1 else ''}"
