"""Words that depend on a number, and names that several have."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping


def counted(count: int, thing: str) -> str:
    """1 deal, 2,000 deals."""
    return f"{count:,} {thing}{'' if count == 1 else 's'}"


def differing(count: int) -> str:
    """1 row differs, 2 rows differ."""
    return f"{counted(count, 'row')} differ{'s' if count == 1 else ''}"


def told_apart(names: Mapping[str, str]) -> dict[str, str]:
    """What each id is called, with the id beside a name that several have.

    >>> told_apart({"u1": "Ada", "u2": "Bo", "u3": "Bo"})
    {'u1': 'Ada', 'u2': 'Bo (u2)', 'u3': 'Bo (u3)'}
    """
    counts = Counter(names.values())
    return {key: f"{name} ({key})" if counts[name] > 1 else name for key, name in names.items()}
