"""Moments as people write them. All times in the system are naive UTC."""

from __future__ import annotations

from datetime import UTC, datetime

from orchestration.lib.errors import UserError


def parse_moment(text: str) -> datetime:
    """An as-of moment as naive UTC; a date alone means its first instant.

    Raises
    ------
    UserError
        The text is not an ISO date or time.
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"as-of must be an ISO date or time such as 2026-06-30 or 2026-06-30T12:00 (value: {text!r})"
        ) from None
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment
