"""What changed in the open pipeline between two moments: held comparisons as published, any others by the mart's own SQL.

Belongs here: choosing the moments, and sums over rows of `pipeline_changes`. Does not: what a change is; that is in the model.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any

import duckdb

from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

MART = "pipeline_changes"
#: Steps between the start and the end, in the order in which a waterfall shows them.
STEPS = (
    "new",
    "reopened",
    "pulled_in",
    "pushed_out",
    "up",
    "down",
    "currency",
    "stage_forward",
    "stage_back",
    "owner_moved",
    "merged",
    "deleted",
    "won",
    "lost",
)
#: What the waterfall can be divided by -> the columns of the mart: what is grouped by, and how it is called.
GROUPS = {
    "owner": ("owner_id", "owner_name"),
    "team": ("team", "team"),
    "product": ("product", "product"),
    "region": ("region", "region"),
    "segment": ("segment", "segment"),
    "month": ("close_month", "strftime(close_month, '%Y-%m')"),
}
NO_GROUP = "(none)"


@dataclass(frozen=True)
class Chosen:
    """Which rows of one comparison are summed.

    Attributes
    ----------
    period : promised months, from the first day of the first one to before the second day; None = all, also deals without any
    filters : column of the mart -> the value that it must have
    """

    comparison: str
    period: tuple[date, date] | None = None
    filters: tuple[tuple[str, str], ...] = ()

    def where(self) -> tuple[str, list[Any]]:
        """The condition and its parameters."""
        conditions = ["comparison = ?"]
        parameters: list[Any] = [self.comparison]
        if self.period is not None:
            conditions.append("close_month >= ? and close_month < ?")
            parameters += self.period
        for column, value in self.filters:
            conditions.append(f'"{column}" = ?')
            parameters.append(value)
        return " and ".join(conditions), parameters


@contextmanager
def changes_between(
    workspace: Workspace, start_at: datetime, end_at: datetime | None
) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """The mart for any two moments (naive UTC), as each was known then. The caller holds the writer lock.

    Yields the warehouse, in a transaction that is rolled back, and the name of the comparison. end_at: None = the last refresh's moment.

    Raises
    ------
    UserError
        The moments are not in order, the end is later than what is known, or nothing was ever refreshed.
    """
    if not workspace.warehouse.exists():
        raise UserError("there is no warehouse yet: run scoring refresh first")
    models = read_project(workspace).select(MART)
    with open_warehouse(workspace) as con:
        known_until = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
        last = end_at or known_until
        if last > known_until:
            raise UserError(
                f"the end of a comparison must not be later than the last refresh, as of {known_until:%Y-%m-%d %H:%M} "
                f"(value: {last:%Y-%m-%d %H:%M})"
            )
        if start_at > last:
            raise UserError(
                "the start of a comparison must not be later than its end "
                f"(values: {start_at:%Y-%m-%d %H:%M} and {last:%Y-%m-%d %H:%M})"
            )
        with rolled_back(con):
            con.execute("delete from settings.pipeline_comparisons")
            con.execute("insert into settings.pipeline_comparisons values ('chosen', ?, ?)", [start_at, last])
            run_models(con, models)
            yield con, "chosen"


def held_comparison(con: duckdb.DuckDBPyConnection, text: str) -> str | None:
    """The comparison of the published mart with this name, with - for _ too; None = there is none."""
    name = text.strip().lower().replace("-", "_")
    found = con.execute("select 1 from marts.pipeline_changes where comparison = ? limit 1", [name]).fetchone()
    return name if found else None


def comparisons(con: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """The comparisons that have rows: comparison, start_at, end_at; the latest start first."""
    return rows(
        con,
        "select distinct comparison, start_at, end_at from marts.pipeline_changes order by start_at desc, comparison",
    )


def waterfall(con: duckdb.DuckDBPyConnection, chosen: Chosen, *, by: str | None = None) -> list[dict[str, Any]]:
    """Steps of the waterfall: group, step, deals, amount; start, then `STEPS`, then end. start + steps = end, to the cent.

    Parameters
    ----------
    con : the published marts, or what `changes_between` yields
    by : None or one of `GROUPS`; "" is the group of everything

    Notes
    -----
    Steps without any deal are left out. Of owners with one name the id stands beside it. In a group, the deals of `owner_moved` and of
    another month are those that left it or arrived.
    """
    group_by, called = GROUPS[by] if by else ("''", "''")
    condition, parameters = chosen.where()
    found = rows(
        con,
        f"""
        with chosen as (
            select {group_by} as group_id, {called} as group_name, * from marts.pipeline_changes where {condition}
        ),
        steps as (
            select group_id, group_name, 'start' as step, sum(start_count) as deals, sum(start_amount) as amount
            from chosen group by all
            union all
            select group_id, group_name, bucket, count(distinct opportunity_id), sum(change_amount) from chosen
            where bucket <> 'unchanged' group by all
            union all
            select group_id, group_name, 'end', sum(end_count), sum(end_amount) from chosen group by all
        )
        select
            coalesce(group_name, '{NO_GROUP}')
            || case
                when min(group_id) over namesakes <> max(group_id) over namesakes then ' (' || cast(group_id as varchar) || ')' else ''
            end as "group",
            step, cast(deals as bigint) as deals, amount
        from steps
        window namesakes as (partition by group_name)
        order by group_name nulls last, group_id
        """,
        parameters,
    )
    order = {step: number for number, step in enumerate(("start", *STEPS, "end"))}
    groups = {name: number for number, name in enumerate(dict.fromkeys(row["group"] for row in found))}
    return sorted(found, key=lambda row: (groups[row["group"]], order[row["step"]]))


def won_deals(con: duckdb.DuckDBPyConnection, chosen: Chosen) -> dict[str, Any]:
    """deals, amount: how many were won, and at what amounts; the waterfall has what left the open pipeline by them."""
    condition, parameters = chosen.where()
    return rows(
        con,
        "select count(distinct opportunity_id) as deals, coalesce(sum(won_amount), 0) as amount from marts.pipeline_changes "
        f"where {condition} and bucket = 'won'",
        parameters,
    )[0]


def deals_of(con: duckdb.DuckDBPyConnection, chosen: Chosen) -> list[dict[str, Any]]:
    """The rows behind the waterfall, without the unchanged ones, in the order of `STEPS`, the largest change first."""
    condition, parameters = chosen.where()
    found = rows(
        con,
        f"""
        select bucket, opportunity_id, merged_into_opportunity_id, side, owner_name, product, close_month, stage_before, stage_after,
            start_amount, change_amount, end_amount, won_amount
        from marts.pipeline_changes where {condition} and bucket <> 'unchanged'
        order by abs(change_amount) desc, opportunity_id, side desc
        """,
        parameters,
    )
    return sorted(found, key=lambda row: STEPS.index(row["bucket"]))


def parse_period(text: str, fiscal_year_start_month: int) -> tuple[date, date]:
    """First day of a period and of the one after it: 2026-07 a month, 2026-Q3 a fiscal quarter, 2026 a fiscal year.

    A fiscal year has the number of the calendar year in which it ends.

    >>> parse_period("2026-Q3", 1)
    (datetime.date(2026, 7, 1), datetime.date(2026, 10, 1))

    Raises
    ------
    UserError
        The text is none of these.
    """
    year_text, _, part = text.strip().upper().partition("-")
    try:
        year = int(year_text)
        # Months since the year 0, to count over New Year.
        first = year * 12 + fiscal_year_start_month - 1 - (12 if fiscal_year_start_month > 1 else 0)
        if not part:
            months = (first, 12)
        elif part.startswith("Q") and int(part[1:]) in range(1, 5):
            months = (first + 3 * (int(part[1:]) - 1), 3)
        else:
            months = (year * 12 + date(year, int(part), 1).month - 1, 1)
        return _first_day(months[0]), _first_day(months[0] + months[1])
    except ValueError:
        raise UserError(f"a period is 2026-07, 2026-Q3 or 2026 (value: {text!r})") from None


def period_label(text: str) -> str:
    """How the marts call the period that somebody calls so; errors as of `parse_period`.

    >>> period_label("2026-7"), period_label(" 2026-q3"), period_label("2026")
    ('2026-07', '2026-Q3', '2026')
    """
    parse_period(text, 1)
    year, _, part = text.strip().upper().partition("-")
    if not part:
        return f"{int(year):04}"
    return f"{int(year):04}-Q{int(part[1:])}" if part.startswith("Q") else f"{int(year):04}-{int(part):02}"


def since(text: str, as_of_at: datetime) -> datetime | None:
    """The moment of `yesterday` or `monday` before another one: its first instant; None for other words."""
    word = text.strip().lower()
    midnight = datetime.combine(as_of_at.date(), datetime.min.time())
    if word == "yesterday":
        return midnight - timedelta(days=1)
    if word == "monday":
        return midnight - timedelta(days=midnight.weekday())
    return None


def check_sum(steps: Sequence[dict[str, Any]]) -> bool:
    """Whether start + steps = end in every group."""
    totals: dict[str, Any] = {}
    for row in steps:
        totals[row["group"]] = totals.get(row["group"], 0) + (-row["amount"] if row["step"] == "end" else row["amount"])
    return not any(totals.values())


def _first_day(month: int) -> date:
    return date(month // 12, month % 12 + 1, 1)
