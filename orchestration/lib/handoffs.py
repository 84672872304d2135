"""Hand-overs to sales: what a refresh sees of them is landed, and what sales answers.

Belongs here: the landing of crossings and of answers. Does not: who crossed (dbt: `int_handoffs__due`), what became of it
(dbt: `handoffs`).
"""

from __future__ import annotations

from datetime import datetime

import duckdb

from orchestration.lib.landing import land_due
from orchestration.lib.personal_records import checked_note, land_record, utc_now
from orchestration.lib.workspace import Workspace

CROSSINGS = "scoring__handoff_crossings"
FEEDBACK = "scoring__handoff_feedback"
DUE = "intermediate.int_handoffs__due"
#: What people say -> what lands.
DECISIONS = {"accept": "accepted", "send-back": "sent_back"}


def land_crossings(con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of_at: datetime) -> int:
    """Land who entered and left the cells with the hand-over action at this refresh, as facts that the next one reads.

    Returns how many. A refresh as of a moment to come shows what would be, and lands nothing.
    """
    if as_of_at > utc_now():
        return 0
    query = f"select * from {DUE} order by crossing_id"
    return land_due(con, workspace, CROSSINGS, query, f"crossings-{as_of_at:%Y%m%dT%H%M%S%f}")


def land_answer(workspace: Workspace, account_id: str, decision: str, *, note: str, author: str) -> None:
    """Land what sales says of an account's newest hand-over; it counts from the next refresh on.

    Parameters
    ----------
    decision : one of `DECISIONS`

    Raises
    ------
    UserError
        The note is empty.
    """
    record = {
        "account_id": account_id,
        "decision": DECISIONS[decision],
        "note": checked_note(note, "an answer to a hand-over"),
        "author": author,
        "occurred_at": utc_now().isoformat(),
    }
    land_record(workspace, FEEDBACK, "feedback_id", record)
