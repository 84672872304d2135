"""Makes the pipeline forecast as of the last refresh and keeps it as it was made; loads the kept ones for dbt.

Here: which deals and periods, what is landed and in which tables it is read back. The method is `ml.forecast`; what is shown of it are
the marts under `dbt_project/models/marts/forecast`. A landed forecast never changes, whatever becomes of settings, owners or periods.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from orchestration.lib.account_series import read_account_series
from orchestration.lib.documents import land_document, landed_documents
from orchestration.lib.errors import UserError
from orchestration.lib.scorecard_settings import Forecast
from orchestration.lib.stage_orders import not_restored, stage_orders
from orchestration.lib.warehouse import open_warehouse, quoted
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from ml.forecast.hazard import HazardModel
    from ml.forecast.history import DealHistory

FORECASTS = "scoring/forecasts"
FORECAST_DEALS = "scoring/forecast_deals"
EFFECTS = "scoring/forecast_effects"
BACKTESTS = "scoring/forecast_backtests"
METHOD_VERSION = 4
"""Raised when `ml.forecast` would say something else of the same deals."""

#: The first sets the sum of new business. Region and segment are the account's as of the moment.
DIMENSIONS = ("owner", "team", "product", "region", "segment")
RUN_RATE_DAYS = 90
#: Open deals of which it is kept why their chances are what they are, those with the most to expect of this quarter first.
MOST_EXPLAINED = 20_000
#: A silence of all deals up to three times as long as any of the last three years, and up to two months in any case, is believed.
LEAST_SILENCE_DAYS = 61
SILENCE_SEEN_DAYS = 3 * 365
HORIZONS_DAYS = (30, 90)
BACKTEST_EVERY = timedelta(days=28)
#: Won in the period so far, from deals that are open, from deals that nobody has opened yet, and their sum.
PARTS = ("won", "open", "new", "total")
LEVEL_COLUMNS = ("p02_5", "p05", "p10", "p25", "p50", "p75", "p90", "p95", "p97_5")

_LEVELS = dict.fromkeys(LEVEL_COLUMNS, "decimal(18,2)")
#: The tables of the schema `history` that hold them, by the folder of their documents.
TABLES = {
    "forecasts": (
        FORECASTS,
        {
            "forecast_id": "varchar",
            "as_of_at": "timestamp",
            "method_version": "bigint",
            "inputs_fingerprint": "varchar",
            "calibrated_on": "bigint",
            "lacking": "varchar",
            "method": "varchar",
            "dimension": "varchar",
            "label": "varchar",
            "period_type": "varchar",
            "period_start": "date",
            "period_end": "date",
            "period_label": "varchar",
            "part": "varchar",
            "mean_amount": "decimal(18,2)",
            **_LEVELS,
        },
    ),
    "forecast_deals": (
        FORECAST_DEALS,
        {
            "forecast_id": "varchar",
            "as_of_at": "timestamp",
            "opportunity_id": "varchar",
            "win_probability": "double",
            "loss_probability": "double",
            "won_this_month_probability": "double",
            "won_this_quarter_probability": "double",
            "won_next_quarter_probability": "double",
            "close_date_low": "date",
            "close_date": "date",
            "close_date_high": "date",
            "slip_probability": "double",
        },
    ),
    "forecast_effects": (
        EFFECTS,
        {
            "forecast_id": "varchar",
            "as_of_at": "timestamp",
            "opportunity_id": "varchar",
            "factor": "varchar",
            "observed": "varchar",
            "won_this_month_effect": "decimal(9,6)",
            "won_this_quarter_effect": "decimal(9,6)",
            "won_next_quarter_effect": "decimal(9,6)",
        },
    ),
    "forecast_backtests": (
        BACKTESTS,
        {
            "backtest_id": "varchar",
            "method_version": "bigint",
            "origin_at": "timestamp",
            "horizon_days": "bigint",
            "dimension": "varchar",
            "label": "varchar",
            "method": "varchar",
            "origins_before": "bigint",
            "point_amount": "decimal(18,2)",
            "actual_amount": "decimal(18,2)",
            **_LEVELS,
        },
    ),
}

#: Landed for the next calibration alone: a warehouse that was made before has no such column.
LANDED_ALONE = {"forecast_backtests": {"doubt_sd": "double"}}


@dataclass(frozen=True)
class Deals:
    """Everything that is known of the deals up to the last refresh, in memory.

    Attributes
    ----------
    categories : of the open deals as of the refresh: opportunity_id, owner, team, product, region, segment, amount, expected_close_date,
        forecast_category, stage_win_rate.
    fingerprint : equal deals have an equal one.
    also_lacking : what the sources do not say of regions and segments, as sentences.
    not_restored : what is known now, but of no past moment, as sentences.
    """

    as_of_at: datetime
    history: DealHistory
    open_deals: pd.DataFrame
    fingerprint: str
    won_count: int
    also_lacking: tuple[str, ...] = ()
    not_restored: tuple[str, ...] = ()

    def lacking_then(self) -> list[str]:
        """What a backtest cannot see as it was at its past moments, as sentences."""
        return [*self.history.lacking(), *self.also_lacking, *self.not_restored]


@dataclass(frozen=True)
class MadeForecast:
    """A landed forecast."""

    forecast_id: str
    as_of_at: datetime
    file: Path
    row_count: int
    deal_count: int
    lacking: list[str]
    calibrated_on: int


def read_deals(workspace: Workspace) -> Deals:
    """Read the history of deals from the warehouse. The caller holds the writer lock; it can be given back afterwards.

    Raises
    ------
    UserError
        Nothing has been refreshed, or no deal has been won yet.
    """
    from ml.forecast.history import DealHistory

    if not workspace.warehouse.exists():
        raise UserError("there is no warehouse yet: run scoring refresh first")
    with open_warehouse(workspace) as con:
        as_of_at = con.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]
        versions = con.execute(
            """
            select
                history.opportunity_id as deal_id,
                -- A deal whose account came into another region or segment is known anew.
                greatest(history.valid_from, account_groups.valid_from) as known_from,
                history.status,
                history.opened_at,
                history.closed_at,
                case when history.status = 'open' then history.stage end as stage,
                cast(history.amount * 100 as double) as amount_cents,
                history.expected_close_date,
                history.owner_id as owner,
                users.team,
                history.product,
                nullif(account_groups.region, '(none)') as region,
                nullif(account_groups.segment, '(none)') as segment,
                history.account_id as account,
                false as is_deleted
            from intermediate.int_deals__history as history
            inner join intermediate.int_accounts__groups as account_groups
                on coalesce(history.account_id, '(none)') = account_groups.account_id
                and history.valid_from < account_groups.valid_to and account_groups.valid_from < history.valid_to
            left join staging.stg_crm__users as users on history.owner_id = users.user_id
            where history.status = 'open' or history.closed_at is not null
            order by history.opportunity_id, known_from
            """
        ).df()
        # A deal of which nothing holds any more was deleted then, or merged into another one; it may have come back since.
        gone = con.execute(
            """
            select deal_id, valid_to as known_from from (
                select opportunity_id as deal_id, valid_to,
                    lead(valid_from) over (partition by opportunity_id order by valid_from) as next_from
                from intermediate.int_deals__history
            ) as spans
            where valid_to < timestamp '9999-01-01' and (next_from is null or next_from > valid_to)
            order by valid_to, deal_id
            """
        ).df()
        known_of_accounts = read_account_series(con, workspace)
        stages = [
            stage
            for (stage,) in con.execute("select stage from intermediate.int_deals__stages order by stage_no").fetchall()
        ]
        has_regions, has_segments, changed_at = con.execute(
            """
            select coalesce(bool_or(region <> '(none)'), false), coalesce(bool_or(segment <> '(none)'), false),
                min(case when valid_from > timestamp '1901-01-01' then valid_from end)
            from intermediate.int_accounts__groups
            """
        ).fetchall()[0]
        open_deals = con.execute(
            """
            select
                deals.opportunity_id,
                coalesce(deals.owner_id, '(none)') as owner,
                coalesce(users.team, '(none)') as team,
                coalesce(deals.product, '(none)') as product,
                account_groups.region,
                account_groups.segment,
                coalesce(deals.amount, 0) as amount,
                deals.expected_close_date,
                lower(trim(deals.forecast_category)) as forecast_category,
                coalesce(rates.win_rate, 0) as stage_win_rate
            from intermediate.int_deals as deals
            inner join intermediate.int_accounts__groups as account_groups
                on coalesce(deals.account_id, '(none)') = account_groups.account_id
                and account_groups.valid_from <= $as_of and account_groups.valid_to > $as_of
            left join intermediate.int_stage_win_rates as rates on deals.stage = rates.stage
            left join staging.stg_crm__users as users on deals.owner_id = users.user_id
            where deals.status = 'open'
            order by deals.opportunity_id
            """,
            {"as_of": as_of_at},
        ).df()
    won_count = int(versions.loc[versions["status"] == "won", "deal_id"].nunique())
    if not won_count:
        raise UserError("no deal has been won yet: there is nothing to learn a forecast from")
    fingerprint = _fingerprint(versions, known_of_accounts.engagement, known_of_accounts.scores)
    if len(gone):
        import pandas as pd

        before = versions.sort_values("known_from", kind="stable")
        last = pd.merge_asof(gone, before, on="known_from", by="deal_id").dropna(subset="status")
        versions = pd.concat([versions, last.assign(is_deleted=True)], ignore_index=True)
    # What no deal has is not known, instead of known to be nothing.
    empty = [n for n in ("stage", "amount_cents", "expected_close_date") if versions[n].isna().all()]
    orders = stage_orders(workspace)
    history = DealHistory.from_versions(
        versions.drop(columns=empty), stages=stages, groups=DIMENSIONS[1:], stage_orders=orders
    )
    lacking = group_history_lacking(has_regions, has_segments, changed_at)
    not_then = (*not_restored(orders), "teams of owners: they count in their present ones at every moment")
    return Deals(as_of_at, known_of_accounts.given_to(history), open_deals, fingerprint, won_count, lacking, not_then)


def _require_news(deals: Deals) -> None:
    """Deals of which nothing is heard are not known to have stopped: a source may be silent, and a forecast would take it for the truth."""
    import numpy as np

    from ml.forecast.history import day

    now = day(deals.as_of_at)
    known = np.concatenate([deals.history.known_from, deals.history.opened, deals.history.closed])
    heard = np.unique(np.floor(known[(known <= now) & (known > now - SILENCE_SEEN_DAYS)]))
    newest = float(heard[-1]) if len(heard) else -np.inf
    longest = float(np.diff(heard).max()) if len(heard) > 1 else 0.0
    allowed = max(LEAST_SILENCE_DAYS, 3 * longest)
    if len(heard) > 1 and now - newest > allowed:
        raise UserError(
            f"nothing has been recorded of any deal for {now - newest:.0f} days, and never for more than {longest:.0f} before: "
            "land what has happened since, or forecast as of an earlier moment with --as-of"
        )


def group_history_lacking(has_regions: bool, has_segments: bool, changed_at: datetime | None) -> tuple[str, ...]:
    """What is not known of regions and segments at past moments, as sentences; changed_at: of the first change, None = none."""
    if not (has_regions or has_segments):
        return ("no regions and no segments of accounts",)
    names = " and ".join(name for name, has in (("regions", has_regions), ("segments", has_segments)) if has)
    since = f"before {changed_at:%Y-%m-%d}" if changed_at else "at any earlier moment"
    return (f"no record of {names} of accounts {since}: they count as those that were first seen",)


def make_forecast(
    workspace: Workspace,
    deals: Deals,
    settings: Forecast,
    *,
    seed: int = 0,
    say: Callable[[str], None] = lambda text: None,
) -> MadeForecast:
    """Forecast what will be won per month and quarter, land it and every open deal's chances.

    Parameters
    ----------
    settings : how many months ahead, and where the fiscal year begins
    seed : the only source of chance

    Raises
    ------
    UserError
        Too few deals to learn from, or nothing has been heard of any deal for far longer than ever before.

    Notes
    -----
    Intervals are calibrated on the newest landed backtest by the same method version; without one, on the method's prior alone.
    """
    import pandas as pd

    from ml.forecast.backtest import calibrate
    from ml.forecast.baselines import baseline_points
    from ml.forecast.hazard import deal_forecasts
    from ml.forecast.totals import fit_forecast, simulate

    as_of_at = deals.as_of_at
    _require_news(deals)
    periods = forecast_periods(as_of_at.date(), settings.months, settings.fiscal_year_start_month)
    say(f"learning from {counted(deals.won_count, 'won deal')} and all others")
    try:
        model = fit_forecast(deals.history, as_of_at, fiscal_start_month=settings.fiscal_year_start_month, seed=seed)
    except ValueError as error:
        raise UserError(f"too few deals to learn a forecast from: {error}") from error
    say(f"drawing {len(deals.open_deals):,} open deals and those to come")
    totals = simulate(model, deals.history, periods, dimensions=DIMENSIONS, seed=seed)
    calibrations = read_calibrations(workspace, deals.as_of_at)
    calibrated_on = max((each.origins for each in calibrations), default=0)
    if calibrations:
        import numpy as np

        horizons = np.array(sorted(each.horizon for each in calibrations))
        baselines = baseline_points(deals.history, model.as_of, horizons, model.creation, model.values)
        windows = simulate(model, deals.history, _windows(as_of_at, horizons), seed=seed).draws()[:, 0, :]
        points = {
            horizon: {"model": float(np.median(windows[:, k])), **{name: float(v[k]) for name, v in baselines.items()}}
            for k, horizon in enumerate(horizons)
        }
        totals = calibrate(totals, points, calibrations)
    quantiles = totals.quantiles(parts=PARTS)
    frame = quantiles.merge(periods, on="period_label")
    for name in ("mean", *LEVEL_COLUMNS):
        frame[name] = (frame[name] / 100).round(2)
    frame = frame.rename(columns={"mean": "mean_amount"}).assign(method="forecast")
    won = frame[frame["part"] == "won"].drop_duplicates(["dimension", "label", "period_label"])
    frame = pd.concat(
        [frame, _by_hand(deals.open_deals, won, periods), _run_rate(deals.history, as_of_at, won)], ignore_index=True
    )

    # Whatever would make another forecast of the same moment makes another name.
    tested = landed_documents(workspace, BACKTESTS)
    made_from = (deals.fingerprint, METHOD_VERSION, settings.model_dump_json(), seed, tested[-1].name if tested else "")
    forecast_id = f"{as_of_at:%Y%m%dT%H%M%S}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:8]}"
    lacking = [*deals.history.lacking(), *deals.also_lacking, *model.deal.left_out]
    frame = frame.assign(
        forecast_id=forecast_id,
        as_of_at=as_of_at,
        method_version=METHOD_VERSION,
        inputs_fingerprint=deals.fingerprint,
        calibrated_on=calibrated_on,
        lacking="; ".join(lacking),
    )
    ends = _deal_dates(as_of_at.date(), settings.fiscal_year_start_month)
    # A month may end with its quarter.
    by_deal = deal_forecasts(model.deal, deals.history, as_of_at, sorted(set(ends.values())))
    by_deal = by_deal.rename(
        columns={"deal_id": "opportunity_id", "p_won": "win_probability", "p_lost": "loss_probability"}
    ).assign(
        forecast_id=forecast_id,
        as_of_at=as_of_at,
        **{name: by_deal[f"p_won_by_{day:%Y-%m-%d}"] for name, day in ends.items()},
    )
    effects = _effects(model.deal, deals.history, as_of_at, by_deal, ends, seed)
    _land(workspace, "forecast_effects", effects.assign(forecast_id=forecast_id, as_of_at=as_of_at), forecast_id)
    # The deals first: a forecast is there when its sums are.
    _land(workspace, "forecast_deals", by_deal, forecast_id)
    file = _land(workspace, "forecasts", frame, forecast_id)
    return MadeForecast(forecast_id, as_of_at, file, len(frame), len(by_deal), lacking, calibrated_on)


def make_backtest(
    workspace: Workspace,
    deals: Deals,
    origins: Sequence[date],
    settings: Forecast,
    *,
    seed: int = 0,
) -> pd.DataFrame:
    """Replay the forecast at earlier moments and land what it would have said beside what came.

    Parameters
    ----------
    origins : days; what was known at the end of each

    Returns
    -------
    The rows as landed: one per origin, horizon, dimension, label and method.

    Raises
    ------
    UserError
        No origin has a window that has ended, or there are too few deals.
    """
    from ml.forecast.backtest import backtest

    last = deals.as_of_at.date() - timedelta(days=min(HORIZONS_DAYS))
    usable = [origin for origin in origins if origin <= last]
    if not usable:
        raise UserError(f"a backtest needs origins up to {last}: what came of later ones is not known yet")
    try:
        frame = backtest(
            deals.history,
            [datetime.combine(origin, datetime.min.time()) for origin in usable],
            HORIZONS_DAYS,
            dimensions=DIMENSIONS,
            fiscal_start_month=settings.fiscal_year_start_month,
            seed=seed,
        )
    except ValueError as error:
        raise UserError(f"too few deals for a backtest: {error}") from error
    # A window that has not ended says nothing yet.
    import pandas as pd

    ends = pd.to_datetime(frame["origin"]) + pd.to_timedelta(frame["horizon_days"], unit="D")
    frame = frame[ends <= deals.as_of_at].reset_index(drop=True)
    if frame.empty:
        raise UserError("too few deals for a backtest: none had been closed before any of the moments")
    for name in ("point", "actual", *LEVEL_COLUMNS):
        frame[name] = (frame[name] / 100).round(2)
    made_from = (deals.fingerprint, METHOD_VERSION, settings.model_dump_json(), seed, usable)
    backtest_id = f"{deals.as_of_at:%Y%m%dT%H%M%S}-{hashlib.sha256(repr(made_from).encode()).hexdigest()[:8]}"
    frame = frame.rename(columns={"origin": "origin_at", "point": "point_amount", "actual": "actual_amount"}).assign(
        backtest_id=backtest_id, method_version=METHOD_VERSION
    )
    _land(workspace, "forecast_backtests", frame, backtest_id)
    return frame


def backtest_is_due(workspace: Workspace, as_of_at: datetime) -> bool:
    """Whether the newest backtest is by another version of the method, or of deals four weeks older than these."""
    rows = _backtest_up_to(workspace, as_of_at)
    if rows is None or rows["method_version"].iloc[0] != METHOD_VERSION:
        return True
    tested = datetime.strptime(rows["backtest_id"].iloc[0].split("-")[0], "%Y%m%dT%H%M%S")
    return not timedelta() <= as_of_at - tested < BACKTEST_EVERY


def past_origins(deals: Deals) -> list[date]:
    """The first days of the last two years' months that have half a year of closings before them and a window after them."""
    import numpy as np

    from ml.forecast.history import timestamps

    last = deals.as_of_at.date() - timedelta(days=min(HORIZONS_DAYS))
    if not np.isfinite(deals.history.observed_from):
        return []
    observed = timestamps(np.array([deals.history.observed_from]))[0].astype("datetime64[D]").astype(object)
    return monthly_origins(max(observed + timedelta(days=182), last - timedelta(days=730)), last)


def weekly_origins(deals: Deals) -> list[date]:
    """Every seventh day of the time that `past_origins` spans."""
    months = past_origins(deals)
    if not months:
        return []
    last = deals.as_of_at.date() - timedelta(days=min(HORIZONS_DAYS))
    return [months[0] + timedelta(days=7 * k) for k in range((last - months[0]).days // 7 + 1)]


def monthly_origins(first: date, last: date) -> list[date]:
    """The first days of the months from one day to another, both included."""
    found = []
    day = first.replace(day=1) if first.day == 1 else (first.replace(day=1) + timedelta(days=32)).replace(day=1)
    while day <= last:
        found.append(day)
        day = (day + timedelta(days=32)).replace(day=1)
    return found


def read_calibrations(workspace: Workspace, as_of_at: datetime) -> list[Any]:
    """What the newest landed backtest of this method's version says of each horizon, none of a later moment; empty where there is none."""
    from ml.forecast.backtest import calibrations_of

    rows = _backtest_up_to(workspace, as_of_at)
    if rows is None or rows["method_version"].iloc[0] != METHOD_VERSION:
        return []
    return calibrations_of(
        rows.rename(columns={"origin_at": "origin", "point_amount": "point", "actual_amount": "actual"})
    )


def _backtest_up_to(workspace: Workspace, as_of_at: datetime) -> pd.DataFrame | None:
    """The landed backtest that the mart shows as of the moment; None = there is none."""
    import pandas as pd

    best, reaches = None, pd.Timestamp.min
    for path in landed_documents(workspace, BACKTESTS):
        rows = pd.read_parquet(path)
        ends = rows["origin_at"] + pd.to_timedelta(rows["horizon_days"], unit="D")
        if len(rows) and ends.max() <= as_of_at and rows["origin_at"].max() >= reaches:
            best, reaches = rows, rows["origin_at"].max()
    return best


def load_forecasts(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> int:
    """Read the landed forecasts and backtests that the warehouse does not have yet; returns how many documents those were."""
    con.execute("begin")
    try:
        con.execute("create schema if not exists history")
        loaded = 0
        for table, (folder, columns) in TABLES.items():
            typed = ", ".join(f"{name} {its_type}" for name, its_type in columns.items())
            con.execute(f"create table if not exists history.{table} ({typed}, made_at timestamp)")
            con.execute("create table if not exists history.forecast_files (table_name varchar, file_name varchar)")
            known = {
                name
                for (name,) in con.execute(
                    "select file_name from history.forecast_files where table_name = ?", [table]
                ).fetchall()
            }
            key = next(iter(columns))
            names = ", ".join(f"cast({name} as {its_type})" for name, its_type in columns.items())
            for path in landed_documents(workspace, folder):
                if path.name not in known:
                    # The same forecast made again says the same: the first one stays.
                    made_at = datetime.strptime(path.name.split("-")[0], "%Y%m%dT%H%M%S%fZ")
                    con.execute(
                        f"insert into history.{table} select {names}, timestamp '{made_at}' from read_parquet({quoted(str(path))}) "
                        f"where {key} not in (select {key} from history.{table})"
                    )
                    con.execute("insert into history.forecast_files values (?, ?)", [table, path.name])
                    loaded += 1
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
    return loaded


def forecast_periods(today: date, months: int, fiscal_year_start_month: int) -> pd.DataFrame:
    """Months and fiscal quarters from the present ones on: period_type, period_start, period_end (exclusive), period_label.

    Quarters are those of which every day is forecast. A quarter of the fiscal year that ends in 2026 is "2026-Q3".
    """
    import pandas as pd

    first = today.replace(day=1)
    while (first.month - fiscal_year_start_month) % 3:
        first = (first - timedelta(days=1)).replace(day=1)
    starts = [first]
    while len(starts) <= months + 3:
        starts.append((starts[-1] + timedelta(days=32)).replace(day=1))
    present = starts.index(today.replace(day=1))
    rows: list[tuple[str, date, date, str]] = [
        ("month", starts[k], starts[k + 1], f"{starts[k]:%Y-%m}") for k in range(present, present + months)
    ]
    for k in range(0, present + months - 2, 3):
        begin = starts[k]
        # A fiscal year that begins in another month than January has the name of the year in which it ends.
        year = begin.year + (fiscal_year_start_month > 1 and begin.month >= fiscal_year_start_month)
        number = (begin.month - fiscal_year_start_month) % 12 // 3 + 1
        rows.append(("quarter", begin, starts[k + 3], f"{year}-Q{number}"))
    frame = pd.DataFrame(rows, columns=["period_type", "period_start", "period_end", "period_label"])
    return frame.assign(
        period_start=pd.to_datetime(frame["period_start"]), period_end=pd.to_datetime(frame["period_end"])
    )


def _deal_dates(today: date, fiscal_year_start_month: int) -> dict[str, date]:
    periods = forecast_periods(today, 9, fiscal_year_start_month)
    month = periods[periods["period_type"] == "month"]["period_end"].iloc[0]
    quarters = periods[periods["period_type"] == "quarter"]["period_end"]
    return {
        "won_this_month_probability": month.date(),
        "won_this_quarter_probability": quarters.iloc[0].date(),
        "won_next_quarter_probability": quarters.iloc[1].date(),
    }


def _effects(
    model: HazardModel,
    history: DealHistory,
    as_of_at: datetime,
    by_deal: pd.DataFrame,
    ends: dict[str, date],
    seed: int,
) -> pd.DataFrame:
    """Why the chances of the deals that say most are what they are: a row per deal and factor."""
    import numpy as np

    from ml.forecast.effects import PARTS_PER_WHOLE, deal_effects
    from ml.forecast.history import day

    row = history.open_as_of(day(as_of_at))
    worth = by_deal["won_this_quarter_probability"].to_numpy() * np.nan_to_num(history.amount[row])
    said = np.sort(np.argsort(-worth, kind="stable")[:MOST_EXPLAINED])
    frame = deal_effects(model, history, as_of_at, sorted(set(ends.values())), row[said], seed=seed)
    names = {name.replace("_probability", "_effect"): f"effect_by_{day:%Y-%m-%d}" for name, day in ends.items()}
    return frame.rename(columns={"deal_id": "opportunity_id"}).assign(
        **{name: (frame[its] / PARTS_PER_WHOLE).astype(float).round(6) for name, its in names.items()}
    )


def _windows(as_of_at: datetime, horizons: Any) -> pd.DataFrame:
    import pandas as pd

    begin = pd.Timestamp(as_of_at) + pd.Timedelta(seconds=1)
    return pd.DataFrame(
        {
            "period_start": begin,
            "period_end": [begin + pd.Timedelta(days=float(h)) for h in horizons],
            "period_label": [f"{h:g} days" for h in horizons],
        }
    )


def _by_hand(open_deals: pd.DataFrame, won: pd.DataFrame, periods: pd.DataFrame) -> pd.DataFrame:
    """What people forecast without a model: won so far and the open deals promised to close in the period, weighted by the win rate
    of their stage, or those alone that their owners commit to, or also their best cases."""
    import pandas as pd

    promised = pd.to_datetime(open_deals["expected_close_date"])
    amount = open_deals["amount"].astype(float)
    category = open_deals["forecast_category"].fillna("")
    weights = {
        "stage_weighted": open_deals["stage_win_rate"].astype(float),
        "commit": (category == "commit").astype(float),
        "best_case": category.isin(["commit", "best case"]).astype(float),
    }
    labelled = open_deals.assign(all="all")
    keys = ["dimension", "label", "period_label", "period_type", "period_start", "period_end"]
    frames = []
    for method, weight in weights.items():
        value = (amount * weight).round(2)
        sums = []
        for period in periods.to_dict("records"):
            inside = (promised >= period["period_start"]) & (promised < period["period_end"])
            for dimension in ("all", *DIMENSIONS):
                by_label = value[inside].groupby(labelled.loc[inside, dimension]).sum()
                sums.append(
                    pd.DataFrame(
                        {
                            "dimension": dimension,
                            "label": by_label.index,
                            "period_label": period["period_label"],
                            "promised": by_label.to_numpy(),
                        }
                    )
                )
        added = pd.concat(sums, ignore_index=True)
        frame = won[[*keys, "mean_amount"]].merge(added, on=["dimension", "label", "period_label"], how="left")
        frame["mean_amount"] = (frame["mean_amount"] + frame.pop("promised").fillna(0)).round(2)
        frames.append(frame.assign(method=method, part="total"))
    return pd.concat(frames, ignore_index=True)


def _run_rate(history: DealHistory, as_of_at: datetime, won: pd.DataFrame) -> pd.DataFrame:
    """Won so far, and on every day that remains as much as on a day of the last `RUN_RATE_DAYS`; no rows where the record is shorter."""
    import pandas as pd

    from ml.forecast.baselines import won_lately
    from ml.forecast.history import day
    from ml.forecast.new_business import group_labels

    rates = []
    for name in DIMENSIONS:
        lately = won_lately(history, day(as_of_at), RUN_RATE_DAYS, name)
        if lately is None:
            return won.iloc[:0].assign(method="run_rate")
        per_day = lately / 100 / RUN_RATE_DAYS
        rates.append(pd.DataFrame({"dimension": name, "label": group_labels(history, name), "per_day": per_day}))
    rates.append(pd.DataFrame({"dimension": ["all"], "label": ["all"], "per_day": [rates[0]["per_day"].sum()]}))
    keys = ["dimension", "label", "period_label", "period_type", "period_start", "period_end", "mean_amount"]
    frame = won[keys].merge(pd.concat(rates, ignore_index=True), on=["dimension", "label"], how="left")
    begin = frame["period_start"].where(frame["period_start"] > as_of_at, pd.Timestamp(as_of_at))
    days = (frame["period_end"] - begin).dt.total_seconds() / 86_400
    frame["mean_amount"] = (frame["mean_amount"] + frame.pop("per_day") * days).round(2)
    return frame.assign(method="run_rate", part="total")


def _fingerprint(*frames: pd.DataFrame) -> str:
    import pandas as pd

    digest = hashlib.sha256()
    for frame in frames:
        digest.update(pd.util.hash_pandas_object(frame, index=False).to_numpy().tobytes())
    return digest.hexdigest()


def _land(workspace: Workspace, table: str, frame: pd.DataFrame, name: str) -> Path:
    folder, columns = TABLES[table]
    columns = columns | LANDED_ALONE.get(table, {})
    complete = frame.reindex(columns=list(columns))
    con = duckdb.connect()
    con.execute("set TimeZone = 'UTC'")
    con.register("made", complete)
    typed = ", ".join(f"cast({column} as {its_type}) as {column}" for column, its_type in columns.items())
    arrow = con.execute(f"select {typed} from made").to_arrow_table()
    import pyarrow.parquet as pq

    buffer = io.BytesIO()
    pq.write_table(arrow, buffer)
    return land_document(workspace, folder, f"{table.replace('_', '-')}-{name}.parquet", buffer.getvalue())
