"""What people say of a forecast: submissions, overrides of the model's number and withdrawals, landed like any other record.

Belongs here: landing them, finding whom and what they are about, and how close everybody was, from the published marts. Does not: which
of them counts at a moment; that is in dbt (`submissions_in_force`). The model's own number is `forecasts`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb

from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows
from orchestration.lib.personal_records import checked_end, checked_note, land_record, utc_now
from orchestration.lib.pipeline_changes import parse_period, period_label
from orchestration.lib.settings_tables import fiscal_periods
from orchestration.lib.workspace import Workspace

TABLE = "scoring__forecast_submissions"
#: What a person can submit; an override is made by another command, a void by a withdrawal.
KINDS = ("commit", "best_case", "manager")
OVERRIDE = "override"
DIMENSIONS = ("owner", "team", "product")
MOST_AMOUNT = Decimal(9_000_000_000_000)
#: Fewer letters of a key could be anybody's.
SHORTEST_KEY = 4
#: Where the labels of a dimension are found, with their names.
_LABELS = {
    "owner": "select owner_id as label, owner_name as name from targets union select owner_id, owner_name from pipeline_forecast",
    "team": "select team as label, team as name from targets "
    "union select label, label from forecast_snapshots where is_newest and dimension = 'team'",
    "product": "select product as label, product as name from scored_opportunities where product is not null "
    "union select label, label from forecast_snapshots where is_newest and dimension = 'product'",
}


@dataclass(frozen=True)
class Subject:
    """Whom something is said of. `label` is an owner's id, a team or a product; of everything `all`."""

    dimension: str
    label: str
    name: str


@dataclass(frozen=True)
class Period:
    """A month, fiscal quarter or fiscal year. `label` is what it is called under the present settings; only dates are landed."""

    period_type: str
    start: date
    label: str
    end: date  # the first day after it


def period_of(text: str, fiscal_year_start_month: int) -> Period:
    """The period that is called 2026-07, 2026-Q3 or 2026.

    >>> period_of("2026-q3", 2)
    Period(period_type='quarter', start=datetime.date(2025, 8, 1), label='2026-Q3', end=datetime.date(2025, 11, 1))

    Raises
    ------
    UserError
        The text is none of these.
    """
    start, end = parse_period(text, fiscal_year_start_month)
    months = (end.year - start.year) * 12 + end.month - start.month
    period_type = {1: "month", 3: "quarter", 12: "year"}[months]
    return Period(period_type, start, period_label(text), end)


def require_to_come(con: duckdb.DuckDBPyConnection, period: Period, fiscal_year_start_month: int) -> None:
    """Refuse a period that had ended by the last refresh, for what is said of it now is no forecast, and one further off than the marts
    have periods.

    Raises
    ------
    UserError
    """
    (as_of_at,) = con.execute("select as_of_at from publication").fetchall()[0]
    if period.end <= as_of_at.date():
        last = period.end - timedelta(days=1)
        raise UserError(
            f"{period.label} ended on {last:%Y-%m-%d}, and the last refresh was as of {as_of_at:%Y-%m-%d %H:%M} UTC: it is over"
        )
    known_until = max(end for _, _, end, _ in fiscal_periods(as_of_at.date(), fiscal_year_start_month))
    if period.end > known_until:
        raise UserError(
            f"{period.label} is too far off: periods are known up to {known_until - timedelta(days=1):%Y-%m-%d} (value: {period.label!r})"
        )


def find_subject(con: duckdb.DuckDBPyConnection, text: str) -> Subject:
    """Whom `all`, `owner=NAME`, `team=NAME` or `product=NAME` means, by its id or name as the published marts know it.

    Raises
    ------
    UserError
        It is none of these, nobody has the name, or several have.
    """
    dimension, separator, wanted = (part.strip() for part in text.partition("="))
    if not separator and dimension == "all":
        return Subject("all", "all", "all")
    if not separator or dimension not in DIMENSIONS or not wanted:
        raise UserError(f"--for must be all, owner=NAME, team=NAME or product=NAME (value: {text!r})")
    known = rows(con, f"select distinct label, name from ({_LABELS[dimension]}) as labels order by name, label")
    found = [row for row in known if row["label"] == wanted] or [
        row for row in known if row["name"].lower() == wanted.lower()
    ]
    if not found:
        names = ", ".join(row["name"] for row in known[:10]) or "none"
        raise UserError(
            f"no {dimension} has the id or name {wanted!r}; known: {names}{', ...' if len(known) > 10 else ''}"
        )
    if len(found) > 1:
        ids = ", ".join(row["label"] for row in found)
        raise UserError(f"several {dimension}s are called {wanted!r}: give the id, one of {ids}")
    return Subject(dimension, found[0]["label"], found[0]["name"])


def names_of(con: duckdb.DuckDBPyConnection, dimension: str) -> dict[str, str]:
    """What the labels of a dimension are called."""
    if dimension not in _LABELS:
        return {}
    return {row["label"]: row["name"] for row in rows(con, f"select label, name from ({_LABELS[dimension]}) as labels")}


def land_submission(
    workspace: Workspace,
    period: Period,
    subject: Subject,
    amount: Decimal,
    *,
    kind: str,
    note: str,
    author: str,
    currency: str = "",
    expires_at: datetime | None = None,
) -> str:
    """Land what somebody says will have been won by the end of a period. Returns its key; it counts from the next refresh on.

    Parameters
    ----------
    kind : one of `KINDS`, or `OVERRIDE`
    currency : ISO 4217; empty = the workspace's
    expires_at : naive UTC; None = it counts until a newer one or a withdrawal

    Raises
    ------
    UserError
        The note is empty, the amount is none, or it would run out before it counts.
    """
    if not amount.is_finite() or not 0 <= amount <= MOST_AMOUNT:
        raise UserError(f"an amount is from 0 to {MOST_AMOUNT:,} (value: {amount})")
    if amount != round(amount, 2):
        raise UserError(f"an amount has at most two digits after the point (value: {amount})")
    now = utc_now()
    return _land(
        workspace,
        {
            "kind": kind,
            "period_type": period.period_type,
            "period_start": period.start.isoformat(),
            "dimension": subject.dimension,
            "label": subject.label,
            "amount": f"{amount:.2f}",
            "currency": currency,
            "note": note,
            "author": author,
            "recorded_at": now.isoformat(),
            "expires_at": checked_end(expires_at, now),
            "void_of": "",
        },
    )


def land_withdrawal(workspace: Workspace, submission: dict[str, Any], *, note: str, author: str) -> str:
    """Land that a published submission no longer counts. Its row stays. Returns the key of the withdrawal.

    Raises
    ------
    UserError
        The note is empty.
    """
    return _land(
        workspace,
        {
            "kind": "void",
            "period_type": submission["period_type"],
            "period_start": submission["period_start"].isoformat(),
            "dimension": submission["dimension"],
            "label": submission["label"],
            "amount": "0",
            "currency": "",
            "note": note,
            "author": author,
            "recorded_at": utc_now().isoformat(),
            "expires_at": "",
            "void_of": submission["submission_id"],
        },
    )


def find_submission(con: duckdb.DuckDBPyConnection, key: str) -> dict[str, Any]:
    """The published submission with this key, or the beginning of it.

    Raises
    ------
    UserError
        None fits, several do, or it is withdrawn already.
    """
    query = "select * from forecast_submissions where starts_with(submission_id, ?) order by submission_id limit 3"
    found = rows(con, query, [key]) if len(key) >= SHORTEST_KEY else []
    found = [row for row in found if row["submission_id"] == key] or found
    if not found:
        raise UserError(
            f"no published submission has the key {key!r} (at least its first {SHORTEST_KEY} letters). "
            "One that was made since the last refresh can be found after the next"
        )
    if len(found) > 1:
        raise UserError(f"{key!r} is the beginning of several keys: {', '.join(row['submission_id'] for row in found)}")
    if found[0]["withdrawn_by"] is not None:
        raise UserError(
            f"submission {found[0]['submission_id']} has been withdrawn by {found[0]['withdrawn_by']} already"
        )
    return found[0]


def closeness(
    con: duckdb.DuckDBPyConnection, dimension: str = "all", period: str | None = None, *, by_label: bool = False
) -> list[dict[str, Any]]:
    """Who was how close at the standing horizons, of periods that are over; sums over the labels of a dimension, or each label alone.

    Of a label of which nothing was said and nothing came, nobody was close: it does not count.

    Returns
    -------
    horizon_days, label (None where they are summed), method, periods (said by this method), wape (sum of errors over what was won),
    model_wape (of the model at the very same moments, periods and labels), bias (sum of signed errors over what was won), closest (how
    often nobody was closer), actual_amount (what was won). The longest horizon first, within it by label, within that the least wape.
    """
    label = "said.label" if by_label else "cast(null as varchar)"
    return rows(
        con,
        f"""
        with cells as (
            select *, max(abs(forecast_amount)) over (
                partition by forecast_id, dimension, label, period_type, period_start
            ) as most_said
            from forecast_accuracy where dimension = ? and (? is null or period_label = ?)
        )
        select
            said.standing_horizon_days as horizon_days,
            {label} as label,
            said.method,
            count(*) as periods,
            cast(sum(abs(said.error_amount)) as double) / nullif(sum(said.actual_amount), 0) as wape,
            cast(sum(abs(model.error_amount)) as double) / nullif(sum(said.actual_amount), 0) as model_wape,
            cast(sum(said.error_amount) as double) / nullif(sum(said.actual_amount), 0) as bias,
            sum(case when said.is_closest then 1 else 0 end) as closest,
            sum(said.actual_amount) as actual_amount
        from cells as said
        inner join cells as model
            on said.forecast_id = model.forecast_id and said.dimension = model.dimension and said.label = model.label
            and said.period_type = model.period_type and said.period_start = model.period_start
        where said.standing_horizon_days is not null and model.method = 'forecast'
            and (said.most_said > 0 or said.actual_amount <> 0)
        group by all
        order by horizon_days desc, label, wape nulls last, said.method
        """,
        [dimension, period, period],
    )


def _land(workspace: Workspace, record: dict[str, str]) -> str:
    noted = {**record, "note": checked_note(record["note"], "what is said of a forecast")}
    return land_record(workspace, TABLE, "submission_id", noted)
