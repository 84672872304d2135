"""How an account is scored as of any moment, past or to come, by the refresh's own SQL in a transaction that is rolled back.

Before the last refresh: only what had happened and was known by then counts. After it: what is left if nothing happens until then,
which is how points decay. What an account *was shown with* on a past day is another question: see `score_history`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from orchestration.lib.card_store import active_card
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.rules import write_rules
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace


@dataclass(frozen=True)
class ScoredAt:
    """One account as of one moment: its row of `scored_accounts` and its rows of `score_contributions`."""

    account: dict[str, Any]
    contributions: list[dict[str, Any]]


def score_at(
    workspace: Workspace,
    settings: ScorecardSettings,
    account_id: str,
    moments: Sequence[datetime],
    *,
    say: Callable[[str], None],
) -> list[ScoredAt]:
    """The account as of each moment (naive UTC), by the active scorecard. The caller holds the writer lock.

    No rule fires in it: what rules did up to the moment stands in the ledger.

    Raises
    ------
    UserError
        Nothing is scored yet, or the account did not exist at a moment.
    """
    card = active_card(workspace)
    if card is None or not workspace.warehouse.exists():
        raise UserError("nothing is scored yet: run scoring refresh first")
    models = read_project(workspace).upstream_of("scored_accounts", "score_contributions")
    result = []
    with open_warehouse(workspace) as con:
        for moment in moments:
            say(f"scoring as of {moment:%Y-%m-%d %H:%M}")
            with rolled_back(con):
                write_settings(con, settings, card, moment, in_transaction=True)
                write_rules(con, [], {}, moment, in_transaction=True)
                run_models(con, models)
                found = rows(con, "select * from marts.scored_accounts where account_id = ?", [account_id])
                if not found:
                    raise UserError(f"account {account_id} was not known on {moment:%Y-%m-%d %H:%M}")
                contributions = rows(
                    con,
                    "select * from marts.score_contributions where account_id = ? order by kind, abs(points) desc, criterion",
                    [account_id],
                )
                result.append(ScoredAt(found[0], contributions))
    return result
