"""Operations on balances: how they are landed, and what their balance was at any moment.

Which operations count now is said by dbt (`int_ledger`); `fold` says the same of any other moment, from the published rows.
What rules do is in `rules`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.lib.errors import UserError
from orchestration.lib.landing import landed_files
from orchestration.lib.marts_reader import rows
from orchestration.lib.personal_records import checked_end, checked_note, land_record, utc_now
from orchestration.lib.workspace import Workspace

TABLE = "scoring__adjustments"
#: So begin the names of files in which refreshes land what rules gave.
FIRINGS = "firings-"
#: The columns of the contract, in its order.
COLUMNS = (
    *(
        "adjustment_id",
        "account_id",
        "contact_id",
        "operation",
        "points",
        "note",
        "author",
        "occurred_at",
        "expires_at",
    ),
    *("source", "title", "recorded_at", "void_of", "rule_id", "rule_version", "firing_slot", "trigger_id"),
)
#: Fewer letters of a key could be anybody's.
SHORTEST_KEY = 4


@dataclass(frozen=True)
class Folded:
    """One operation within its balance as of a moment; `status` as in the mart `score_ledger`."""

    ledger_id: str
    status: str
    points_applied: int
    balance_after: int


def fold(entries: Iterable[Mapping[str, Any]], at: datetime) -> list[Folded]:
    """The ledger of one account or contact as of a moment, in its order; the last balance is the balance.

    Parameters
    ----------
    entries : rows with ledger_id, operation (add, subtract, set or void), points, occurred_at, recorded_at, expires_at, void_of;
        in any order
    at : naive UTC; what happened, was recorded, ran out or was taken back later is as if it were not
    """
    known = [entry for entry in entries if entry["occurred_at"] <= at and entry["recorded_at"] <= at]
    voided = {entry["void_of"] for entry in known if entry["operation"] == "void"}
    balance = 0
    folded = []
    for entry in sorted(known, key=lambda e: (e["occurred_at"], e["recorded_at"], e["ledger_id"])):
        before = balance
        if entry["operation"] == "void":
            status = "void"
        elif entry["ledger_id"] in voided:
            status = "voided"
        elif entry["expires_at"] is not None and entry["expires_at"] <= at:
            status = "expired"
        else:
            status = "counts"
            sign = -1 if entry["operation"] == "subtract" else 1
            balance = sign * entry["points"] + (0 if entry["operation"] == "set" else balance)
        folded.append(Folded(entry["ledger_id"], status, balance - before, balance))
    return folded


def land_adjustment(
    workspace: Workspace,
    *,
    account_id: str | None = None,
    contact_id: str | None = None,
    operation: str,
    points: int,
    note: str,
    author: str,
    title: str = "",
    expires_at: datetime | None = None,
    void_of: str = "",
) -> str:
    """Land one operation of a person. Returns its key; it counts from the next refresh on.

    Raises
    ------
    UserError
        The note is empty, or the points would run out before they count.
    """
    now = utc_now()
    record = {
        "account_id": account_id or "",
        "contact_id": contact_id or "",
        "operation": operation,
        "points": points,
        "note": checked_note(note, "an adjustment"),
        "author": author,
        "occurred_at": now.isoformat(),
        "expires_at": checked_end(expires_at, now),
        "source": "manual",
        "title": title.strip(),
        "recorded_at": now.isoformat(),
        "void_of": void_of,
    }
    return land_record(workspace, TABLE, "adjustment_id", record)


def waiting_count(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> int:
    """Operations that people have landed since the last refresh began.

    Parameters
    ----------
    con : connection to the published marts
    """
    found = con.execute("select arrived_at from load_report where source_table = ?", [TABLE]).fetchall()
    loaded = {arrived_at for (arrived_at,) in found}
    waiting = [file.original_name for file in landed_files(workspace, TABLE) if file.arrived_at not in loaded]
    return sum(not name.startswith(FIRINGS) for name in waiting)


def find_operation(con: duckdb.DuckDBPyConnection, key: str) -> dict[str, Any]:
    """The published operation with this key, or the beginning of it.

    Raises
    ------
    UserError
        None fits, several do, or it is already taken back or is itself a taking back.
    """
    found = (
        rows(con, "select * from score_ledger where starts_with(ledger_id, ?) order by ledger_id limit 3", [key])
        if len(key) >= SHORTEST_KEY
        else []
    )
    exact = [row for row in found if row["ledger_id"] == key]
    found = exact or found
    if not found:
        raise UserError(
            f"no operation in the published ledger has the key {key!r} (at least its first {SHORTEST_KEY} letters). "
            "One that was made since the last refresh can be found after the next"
        )
    if len(found) > 1:
        raise UserError(f"{key!r} is the beginning of several keys: {', '.join(row['ledger_id'] for row in found)}")
    row = found[0]
    if row["operation"] == "void":
        raise UserError(f"operation {row['ledger_id']} takes another one back: make a new adjustment instead")
    if row["voided_by"] is not None:
        raise UserError(f"operation {row['ledger_id']} has been taken back by {row['voided_by']} already")
    return row
