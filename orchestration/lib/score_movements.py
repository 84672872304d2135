"""What the marts of past scores say between two days. Sums over published rows, nothing else: how the rows come about is in dbt."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import duckdb

from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows

#: Words for a day, counted back from the day of the snapshot.
DAYS_BACK = {"yesterday": 1, "last-week": 7}


def recorded_day(con: duckdb.DuckDBPyConnection, text: str) -> date:
    """The newest recorded day that is not later than the day meant; its end is where changes are counted from.

    Parameters
    ----------
    con : connection to the published marts
    text : "yesterday", "last-week" or an ISO date

    Raises
    ------
    UserError
        The text is no day, or nothing was recorded by then.
    """
    days = rows(con, "select record_date, is_recorded from score_days order by record_date")
    today = days[-1]["record_date"]
    try:
        meant = today - timedelta(days=DAYS_BACK[text]) if text in DAYS_BACK else date.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"--since must be yesterday, last-week or a date such as 2026-06-30 (value: {text!r})"
        ) from None
    if meant >= today and text not in DAYS_BACK:
        raise UserError(f"--since must be a day before {today}, that of the last refresh (value: {text!r})")
    found = [day["record_date"] for day in days if day["is_recorded"] and day["record_date"] <= meant]
    if not found:
        first = days[0]["record_date"]
        raise UserError(
            f"no scores are on record for {meant} or before: the history begins with {first}"
            + ("; the first day is recorded by the first refresh after it" if not days[0]["is_recorded"] else "")
        )
    return found[-1]


def state_on(con: duckdb.DuckDBPyConnection, account_id: str, day: date) -> dict[str, Any] | None:
    """The row of `score_history` that held at the end of a day; None = the account was not on record yet."""
    found = rows(
        con,
        "select * from score_history where account_id = ? and from_date <= ? and coalesce(until_date > ?, true)",
        [account_id, day, day],
    )
    return found[0] if found else None


def changes_of_account(con: duckdb.DuckDBPyConnection, account_id: str, since: date) -> list[dict[str, Any]]:
    """Per criterion: kind, change_points, points and band then and now, reasons, last_change_date; the largest change first.

    The changes add up to the change of the total, also with criteria that went to and fro.
    """
    return rows(
        con,
        """
        select
            kind, criterion, cast(sum(change_points) as bigint) as change_points,
            min_by(coalesce(points_before, 0), change_date) as points_then,
            max_by(coalesce(points_after, 0), change_date) as points_now,
            arg_min_null(band_before, change_date) as band_then, arg_max_null(band_after, change_date) as band_now,
            string_agg(distinct reason, ', ' order by reason) as reasons, max(change_date) as last_change_date
        from score_changes
        where account_id = ? and change_date > ?
        group by kind, criterion
        order by abs(sum(change_points)) desc, criterion
        """,
        [account_id, since],
    )


def movers(con: duckdb.DuckDBPyConnection, since: date, limit: int) -> list[dict[str, Any]]:
    """The accounts whose total changed most: points and cell then and now, change_points and the largest changes in words."""
    return rows(
        con,
        """
        with by_criterion as (
            select account_id, criterion, sum(change_points) as points,
                string_agg(distinct reason, ', ' order by reason) as reason
            from score_changes where change_date > $1
            group by account_id, criterion having sum(change_points) <> 0
        ),
        moved as (
            select account_id, cast(sum(points) as bigint) as change_points,
                string_agg(
                    format('{:+d} {} ({})', cast(points as bigint), replace(criterion, '_', ' '), reason), '; '
                    order by abs(points) desc, criterion
                ) as changes
            from by_criterion group by account_id
        )
        select moved.*, accounts.account_name, accounts.state, accounts.cell, accounts.total_points, accounts.next_action,
            earlier.cell as cell_then, earlier.total_points as points_then
        from moved
        left join scored_accounts as accounts on moved.account_id = accounts.account_id
        left join score_history as earlier
            on moved.account_id = earlier.account_id
            and earlier.from_date <= $1 and coalesce(earlier.until_date > $1, true)
        where change_points <> 0
        order by abs(change_points) desc, moved.account_id
        limit $2
        """,
        [since, limit],
    )


def history_of_account(con: duckdb.DuckDBPyConnection, account_id: str) -> list[dict[str, Any]]:
    """The rows of `score_history`, newest first."""
    return rows(con, "select * from score_history where account_id = ? order by from_date desc", [account_id])
