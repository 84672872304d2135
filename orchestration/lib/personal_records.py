"""Records that one person makes by a command: a row of a landed table, with a note that says why.

Belongs here: what all of them share, landing the row and what a note and an end must be. Does not: what they mean (`ledger`,
`forecast_submissions`, `handoffs`).
"""

from __future__ import annotations

import csv
import io
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime

from orchestration.lib.errors import UserError
from orchestration.lib.landing import landing_file
from orchestration.lib.workspace import Workspace


def utc_now() -> datetime:
    """The moment, naive UTC."""
    return datetime.now(UTC).replace(tzinfo=None)


def checked_note(note: str, what: str) -> str:
    """The note without white space around it; what: the record, in words.

    Raises
    ------
    UserError
        It is empty.
    """
    if not note.strip():
        raise UserError(f"{what} needs a note that says why")
    return note.strip()


def checked_end(expires_at: datetime | None, now: datetime) -> str:
    """Until when a record counts, as it lands; empty = for ever.

    Raises
    ------
    UserError
        It would run out before it counts.
    """
    if expires_at is None:
        return ""
    if expires_at <= now:
        raise UserError(f"--expires must be a moment to come, in UTC (value: {expires_at:%Y-%m-%d %H:%M})")
    return expires_at.isoformat()


def land_record(workspace: Workspace, table: str, key_name: str, record: Mapping[str, object]) -> str:
    """Land a record under a new key, the first of its columns. Returns the key; the record counts from the next refresh on."""
    key = uuid.uuid4().hex
    row = {key_name: key, **record}
    text = io.StringIO()
    writer = csv.DictWriter(text, row)
    writer.writeheader()
    writer.writerow(row)
    with landing_file(workspace, table, f"{key}.csv") as path:
        path.write_text(text.getvalue(), encoding="utf-8")
    return key
