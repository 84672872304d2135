"""What the published marts say of the newest forecast and of its record, as rows for plots and pages.

Belongs here: queries and the figures that follow from their rows. Does not: how they are drawn (`forecast_plots`) or told
(`forecast_report`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from orchestration.lib.marts_reader import rows

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]
NO_FORECAST = "No forecast has been made yet: run scoring forecast make (the schedule does it every morning). It takes a deal that was won."
NOT_TESTED = (
    "it takes half a year of closed deals before a month that is over, and then scoring forecast backtest tells."
)
#: Share of the moments that an interval is stated to hold -> the mart's column that says whether it did.
STATED = {0.5: "is_within_50", 0.8: "is_within_80", 0.95: "is_within_95"}


def newest(con: duckdb.DuckDBPyConnection) -> Row | None:
    """forecast_id, forecast_as_of_at, lacking, calibrated_on of the newest forecast; None = there is none."""
    found = rows(
        con,
        "select forecast_id, forecast_as_of_at, lacking, calibrated_on from forecast_snapshots where is_newest limit 1",
    )
    return found[0] if found else None


def sums(con: duckdb.DuckDBPyConnection, dimension: str = "all", period: str | None = None) -> list[Row]:
    """One row per period and label of the newest forecast, in time order, within a period the largest median first.

    label, name, team, period_type, period_start, period_end, period_label, target, won, run_rate, stage_weighted, committed, best_case
    and the quantiles. Targets are of owners: by product, region and segment there are none. Labels without any amount are left out; whoever
    has a target and is not in the forecast, because no deal of theirs was ever seen, has a row with the target alone.
    """
    return rows(
        con,
        """
        with asked as (select ? as dimension, ? as period),
        mine as (
            select made.* from forecast_snapshots as made, asked
            where made.is_newest and made.dimension = asked.dimension and (asked.period is null or made.period_label = asked.period)
        ),
        periods as (select distinct period_type, period_start, period_end, period_label, forecast_as_of_at from mine),
        beside as (
            select label, period_label,
                max(case when method = 'forecast' and part = 'won' then mean_amount end) as won,
                max(case when method = 'run_rate' then mean_amount end) as run_rate,
                max(case when method = 'stage_weighted' then mean_amount end) as stage_weighted,
                max(case when method = 'commit' then mean_amount end) as committed,
                max(case when method = 'best_case' then mean_amount end) as best_case
            from mine group by label, period_label
        ),
        goals as (
            select case asked.dimension when 'all' then 'all' when 'owner' then owner_id when 'team' then team end as label,
                period_type, period_start, sum(target_amount) as target
            from targets, asked where target_amount is not null and asked.dimension in ('all', 'owner', 'team') group by 1, 2, 3
        ),
        cells as (
            select label, period_type, period_start from mine where method = 'forecast' and part = 'total'
            union
            select label, period_type, period_start from goals where target > 0
        ),
        people as (select owner_id, max(owner_name) as owner_name, max(team) as team from targets group by owner_id)
        select cells.label, coalesce(people.owner_name, cells.label) as name, people.team, periods.period_type, periods.period_start,
            periods.period_end, periods.period_label, periods.forecast_as_of_at, goals.target, beside.won, beside.run_rate,
            beside.stage_weighted, beside.committed, beside.best_case,
            made.mean_amount, made.p02_5, made.p10, made.p25, made.p50, made.p75, made.p90, made.p97_5
        from cells cross join asked
        inner join periods on cells.period_type = periods.period_type and cells.period_start = periods.period_start
        left join mine as made on cells.label = made.label and periods.period_label = made.period_label
            and made.method = 'forecast' and made.part = 'total'
        left join beside on cells.label = beside.label and periods.period_label = beside.period_label
        left join goals on cells.label = goals.label and cells.period_type = goals.period_type and cells.period_start = goals.period_start
        left join people on asked.dimension = 'owner' and cells.label = people.owner_id
        where made.p97_5 > 0 or goals.target > 0 or beside.best_case > 0 or cells.label = 'all'
        order by periods.period_type, periods.period_start, made.p50 desc nulls last, cells.label
        """,
        [dimension, period],
    )


def tests(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """The forecast of everything at past moments beside what came: rows of `forecast_backtest`, the oldest first."""
    return rows(
        con,
        "select * from forecast_backtest where dimension = 'all' and method = 'forecast' order by horizon_days, origin_at",
    )


def coverage(con: duckdb.DuckDBPyConnection, dimension: str = "all") -> list[Row]:
    """How often the intervals held: horizon_days, stated, held, low, high, count, first_at, last_at.

    low and high are the ends of Wilson's 90 % interval for that many independent moments (of labels x moments, for a dimension). Windows
    that overlap are not independent: the truth is less certain than that.
    """
    from ml.evaluate import wilson_interval

    found = []
    for row in rows(
        con,
        f"""
        select horizon_days, count(*) as n, min(origin_at) as first_at, max(origin_at) as last_at,
            {", ".join(f"sum(case when {name} then 1 else 0 end) as {name}" for name in STATED.values())}
        from forecast_backtest where dimension = ? and method = 'forecast' and (label = 'all' or actual_amount > 0 or p97_5 > 0)
        group by horizon_days order by horizon_days
        """,
        [dimension],
    ):
        for stated, name in STATED.items():
            low, high = wilson_interval(row[name], row["n"])
            found.append(
                {
                    "horizon_days": row["horizon_days"], "stated": stated, "held": row[name] / row["n"], "low": float(low),
                    "high": float(high), "count": row["n"], "first_at": row["first_at"], "last_at": row["last_at"],
                }
            )  # fmt: skip
    return found


def errors(con: duckdb.DuckDBPyConnection) -> list[Row]:
    """How far off each method was: horizon_days, method, wape, pinball, count; the forecast first, then the nearest.

    wape: sum of absolute errors over the sum of what came. A method that has fewer moments than the forecast is compared on those.
    """
    return rows(
        con,
        """
        with same as (
            select other.method, other.horizon_days, other.absolute_error_amount, other.pinball_amount, other.actual_amount,
                forecast.absolute_error_amount as own_error
            from forecast_backtest as other
            inner join forecast_backtest as forecast
                on other.origin_at = forecast.origin_at and other.horizon_days = forecast.horizon_days
                and forecast.dimension = 'all' and forecast.method = 'forecast'
            where other.dimension = 'all'
        )
        select horizon_days, method, count(*) as count,
            cast(sum(absolute_error_amount) / nullif(sum(actual_amount), 0) as double) as wape,
            cast(sum(own_error) / nullif(sum(actual_amount), 0) as double) as own_wape,
            cast(sum(pinball_amount) / nullif(sum(actual_amount), 0) as double) as pinball
        from same group by horizon_days, method
        having sum(actual_amount) > 0
        order by horizon_days, case method when 'forecast' then 0 else 1 end, wape, method
        """,
    )


def riskiest(con: duckdb.DuckDBPyConnection, most: int) -> list[Row]:
    """Risks of the open deals that have a risk with which deals were won less often, the largest amounts first; at most `most` deals."""
    return rows(
        con,
        """
        with chosen as (
            select opportunity_id, max(amount) as amount,
                row_number() over (order by max(amount) desc nulls last, count(*) desc, opportunity_id) as place
            from deal_risks where effect = 'won less often' group by opportunity_id
        )
        select chosen.place, risks.*, deals.won_this_quarter_probability, deals.win_probability, deals.slip_probability,
            count(*) over () as row_count, (select count(*) from chosen) as deal_count, (select sum(amount) from chosen) as total_amount
        from deal_risks as risks
        inner join chosen on risks.opportunity_id = chosen.opportunity_id
        left join deal_forecasts as deals on risks.opportunity_id = deals.opportunity_id
        where chosen.place <= ?
        order by chosen.place, case risks.effect when 'won less often' then 0 else 1 end, risks.risk
        """,
        [most],
    )
