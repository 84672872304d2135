"""What bots would do to scores if nobody told them from people: asked of the warehouse by the refresh's own SQL, then rolled back.

Flagged touchpoints are counted as if they were a person's, and the accounts that have some are scored again. Nothing is stored; how a
bot is recognised is dbt's business (`int_bots`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

_TOUCHPOINTS = "int_touchpoints__kept"
_OF_ALL = ("int_touchpoints__moved", "int_signals__daily", "int_signals")
_FLAGGED = f"""
    select account_id, count(*) as touchpoint_count, string_agg(distinct bot_reason, ', ' order by bot_reason) as reasons
    from intermediate.{_TOUCHPOINTS} where bot_reason is not null and account_id is not null group by account_id
"""


@dataclass(frozen=True)
class CriterionPoints:
    """Value and points of one criterion; `counted` without the flagged touchpoints, as published, `with_bots` with them."""

    criterion: str
    kind: str
    counted_value: str | None
    with_bots_value: str | None
    counted_points: int
    with_bots_points: int


@dataclass(frozen=True)
class BotEffect:
    """One account that has flagged touchpoints.

    Attributes
    ----------
    reasons : what gave the bots away, in words
    counted_cell, with_bots_cell : None where the account is not scored
    criteria : those whose value or points differ
    """

    account_id: str
    account_name: str
    touchpoint_count: int
    reasons: str
    counted_engagement: int
    with_bots_engagement: int
    counted_fit: int
    with_bots_fit: int
    counted_cell: str | None
    with_bots_cell: str | None
    criteria: list[CriterionPoints]

    @property
    def change(self) -> int:
        """Points that the account would have more, or fewer, if bots counted."""
        return self.with_bots_engagement + self.with_bots_fit - self.counted_engagement - self.counted_fit


@dataclass(frozen=True)
class BotEffects:
    """All accounts with flagged touchpoints, the largest change first; `unmatched_count`: flagged ones of no known account."""

    as_of_at: datetime
    scored_count: int
    unmatched_count: int
    accounts: list[BotEffect]


def bot_effects(workspace: Workspace, *, say: Callable[[str], None]) -> BotEffects:
    """The points of the accounts with flagged touchpoints, with and without these. The caller holds the writer lock.

    Raises
    ------
    UserError
        Nothing is scored yet.
    """
    if not workspace.warehouse.exists():
        raise UserError("nothing is scored yet: run scoring refresh first")
    models = read_project(workspace).between(_TOUCHPOINTS, "int_accounts__scored")
    with open_warehouse(workspace) as con:
        if not con.execute("select count(*) from settings.scorecard").fetchall()[0][0]:
            raise UserError("nothing is scored yet: no accounts have landed")
        ((as_of_at,),) = con.execute("select as_of_at from settings.refresh").fetchall()
        ((scored_count,),) = con.execute("select count(*) from intermediate.int_accounts__scored").fetchall()
        ((unmatched,),) = con.execute(
            f"select count(*) from intermediate.{_TOUCHPOINTS} where bot_reason is not null and account_id is null"
        ).fetchall()
        with rolled_back(con):
            con.execute(f"create temp table flagged as {_FLAGGED}")
            _keep(con, "counted")
            ((count,),) = con.execute("select count(*) from flagged").fetchall()
            say(f"scoring {count:,} accounts with what bots did")
            con.execute(f"update intermediate.{_TOUCHPOINTS} set bot_reason = null where bot_reason is not null")
            # From when a signal has been recorded at all is told by everybody's touchpoints, all else by those of the accounts that can
            # differ: their own, and those of accounts below.
            of_all = [model for model in models if model.name in _OF_ALL]
            run_models(con, of_all)
            con.execute(
                f"""
                create temp table theirs as select * from intermediate.{_TOUCHPOINTS} where account_id in (
                    select account_id from flagged
                    union
                    select below_account_id from intermediate.int_account_descendants
                    where account_id in (select account_id from flagged)
                )
                """
            )
            con.execute(f"create or replace table intermediate.{_TOUCHPOINTS} as from theirs")
            con.execute(
                "delete from intermediate.int_spine__accounts where account_id not in (select account_id from flagged)"
            )
            run_models(con, [model for model in models if model not in of_all])
            _keep(con, "with_bots")
            found = _compared(con)
    return BotEffects(as_of_at, scored_count, unmatched, found)


def _keep(con: duckdb.DuckDBPyConnection, name: str) -> None:
    """Put what the flagged accounts have now aside: their points by criterion and their cells."""
    con.execute(
        f"""
        create temp table {name}_points as
        select spine_id as account_id, criterion, kind, value, points from intermediate.int_accounts__points
        where spine_id in (select account_id from flagged)
        """
    )
    con.execute(
        f"""
        create temp table {name}_cells as
        select account_id, cell from intermediate.int_accounts__scored
        where account_id in (select account_id from flagged)
        """
    )


def _compared(con: duckdb.DuckDBPyConnection) -> list[BotEffect]:
    criteria: dict[str, list[CriterionPoints]] = {}
    for row in rows(
        con,
        """
        select account_id, criterion, kind, counted.value as counted_value, bots.value as with_bots_value,
            counted.points as counted_points, bots.points as with_bots_points
        from counted_points as counted inner join with_bots_points as bots using (account_id, criterion, kind)
        where counted.value is distinct from bots.value or counted.points <> bots.points
        order by account_id, abs(bots.points - counted.points) desc, criterion
        """,
    ):
        criteria.setdefault(row.pop("account_id"), []).append(CriterionPoints(**row))
    sums = ", ".join(
        f"coalesce(sum({side}.points) filter (where {side}.kind = '{kind}'), 0)::bigint as {side}_{name}"
        for side in ("counted", "with_bots")
        for kind, name in (("implicit", "engagement"), ("explicit", "fit"))
    )
    found = rows(
        con,
        f"""
        with points as (
            select account_id, {sums}
            from counted_points as counted inner join with_bots_points as with_bots using (account_id, criterion, kind)
            group by account_id
        )
        select account_id, coalesce(accounts.account_name, account_id) as account_name, touchpoint_count, reasons,
            counted_engagement, with_bots_engagement, counted_fit, with_bots_fit,
            counted_cells.cell as counted_cell, with_bots_cells.cell as with_bots_cell
        from flagged inner join points using (account_id) inner join intermediate.int_accounts as accounts using (account_id)
        left join counted_cells using (account_id) left join with_bots_cells using (account_id)
        """,
    )
    effects = [BotEffect(**row, criteria=criteria.get(row["account_id"], [])) for row in found]
    return sorted(effects, key=lambda effect: (-abs(effect.change), effect.account_id))
