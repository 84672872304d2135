"""`scoring forecast`: what will be won, how sure that is, how right it was before, and why."""

from __future__ import annotations

from datetime import date, datetime
from pathlib import Path
from typing import Any

import click
import duckdb
from rich.console import Console
from rich.markup import escape

from orchestration.cli import forecast_submissions, screens
from orchestration.cli.run import as_of_option, finish
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_effects import CALLED, effects_in_sum, effects_of, reasons
from orchestration.lib.forecast_marts import NO_FORECAST, NOT_TESTED
from orchestration.lib.forecast_plots import METHODS
from orchestration.lib.job_runner import run_job
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.moments import parse_moment
from orchestration.lib.personal_records import utc_now
from orchestration.lib.pipeline_changes import period_label
from orchestration.lib.run_records import FORECAST
from orchestration.lib.wording import counted, told_apart
from orchestration.lib.workspace import Workspace

BY = ("all", "owner", "team", "product", "region", "segment")
_MODEL = (
    *("target_amount", "won_amount", "gap_amount", "forecast_low_amount", "forecast_amount", "forecast_high_amount"),
    *("run_rate_amount", "stage_weighted_amount", "commit_amount", "best_case_amount"),
)
#: What people say beside it: how a column is called -> the column of `forecast_comparison`.
_PEOPLE = {
    "submitted commit": "submitted_commit_amount",
    "submitted best case": "submitted_best_case_amount",
    "manager": "submitted_manager_amount",
    "override": "override_amount",
}


@click.group(invoke_without_command=True)
@click.option("--by", type=click.Choice(BY), default="all", show_default=True, help="One line for each of them.")
@click.option("--period", metavar="PERIOD", help="Only this one, e.g. 2026-07 or 2026-Q3.")
@click.pass_context
def forecast(ctx: click.Context, by: str, period: str | None) -> None:
    """Show what will be won per month and quarter, with its 80 % interval; or one of the commands below."""
    if ctx.invoked_subcommand is not None:
        return
    label = period_label(period) if period else None
    out = screens.console()
    with open_marts(ctx.obj.require()) as con:
        if not show_forecast(out, con, by, label):
            out.print(NO_FORECAST)


def show_forecast(out: Console, con: duckdb.DuckDBPyConnection, by: str = "all", period: str | None = None) -> bool:
    """Print the newest forecast and how right the method was before. Returns whether there is one."""
    newest = _newest(con)
    if newest is None:
        return False
    found = rows(
        con,
        """
        select * from forecast_comparison
        where dimension = ? and (? is null or period_label = ?) and (
            forecast_amount is not null or coalesce(
                submitted_commit_amount, submitted_best_case_amount, submitted_manager_amount, override_amount
            ) is not null
        )
        order by period_type, period_start, forecast_amount desc nulls last, label
        """,
        [by, period, period],
    )
    if not found:
        raise UserError(f"the newest forecast has no period {period!r}: it has {', '.join(_periods(con))}")
    named = [] if by == "all" else [by]
    names = told_apart({row["label"]: row["label_name"] for row in found})
    # What nobody said of any period takes no room.
    shown = {title: name for title, name in _PEOPLE.items() if any(row[name] is not None for row in found)}
    lines = []
    for row in found:
        who = [escape(names[row["label"]])] if named else []
        lines.append([row["period_label"], *who, *(screens.money(row[name]) for name in (*_MODEL, *shown.values()))])
    own = ">target", ">won so far", ">missing", ">P10", ">median", ">P90"
    others = ">run rate", ">stage-weighted", ">commit", ">best case", *(f">{title}" for title in shown)
    screens.print_table(
        out,
        f"Won by the end of the period, forecast as of {newest['forecast_as_of_at']:%Y-%m-%d}",
        ["period", *named],
        [*own, *others],
        lines,
        beside=len(own),
    )
    _say_what_is_newer(out, con, newest["forecast_as_of_at"], found)
    for row in found:
        if row["override_amount"] is not None:
            until = f" until {row['override_expires_at']:%Y-%m-%d %H:%M}" if row["override_expires_at"] else ""
            out.print(
                f"{row['period_label']}, {escape(row['label_name'])}: overridden{until} by {escape(row['override_author'])}: "
                f"{escape(row['override_note'])}"
            )
    for row in rows(
        con,
        """
        select * from forecast_submissions
        where status = 'in force' and amount is null and dimension = ? and (? is null or period_label = ?) order by all
        """,
        [by, period, period],
    ):
        out.print(
            f"[bold]{row['period_label']}, {escape(row['label_name'])}: {row['kind'].replace('_', ' ')} of "
            f"{screens.money(row['submitted_amount'])} {escape(row['currency'])}[/bold] has no exchange rate of "
            f"{row['recorded_at']:%Y-%m-%d} and counts as not known: land market__exchange_rates"
        )
    if named and len({row["label"] for row in found}) > 1:
        out.print(
            f"Medians and ends of {by}s do not add up to those of all: they rarely have their good month together."
        )
    for sentence in track_record(con):
        out.print(sentence)
    for row in rows(
        con,
        "select currency, without_rate_count, without_rate_amount from deal_currencies where without_rate_count > 0 order by currency",
    ):
        out.print(
            f"[bold]{counted(row['without_rate_count'], 'deal')} over {screens.money(row['without_rate_amount'])} "
            f"{escape(row['currency'])}[/bold] without an exchange rate of the day, counted without an amount: land market__exchange_rates"
        )
    if newest["lacking"]:
        out.print(f"[dim]Not known to it: {escape(newest['lacking'])}[/dim]")
    out.print()
    return True


def _say_what_is_newer(
    out: Console, con: duckdb.DuckDBPyConnection, forecast_at: datetime, found: list[dict[str, Any]]
) -> None:
    """What was won is as of the last refresh; intervals are older, and so may be the fiscal calendar of their quarters."""
    (refreshed_at,) = con.execute("select as_of_at from publication").fetchall()[0]
    if refreshed_at > forecast_at:
        out.print(
            f"Won so far and targets are as of {refreshed_at:%Y-%m-%d %H:%M} UTC, the forecast as of {forecast_at:%Y-%m-%d %H:%M} UTC."
        )
    if any(
        row["forecast_high_amount"] is not None and (row["won_amount"] or 0) > row["forecast_high_amount"]
        for row in found
    ):
        out.print(
            "[bold]More has been won since than the interval of a period holds:[/bold] scoring forecast make looks again."
        )
    fiscal = rows(
        con,
        """
        with made as (
            select distinct period_label, period_start from forecast_snapshots where is_newest and period_type = 'quarter'
        ),
        set_now as (select distinct period_label, period_start from targets where period_type = 'quarter')
        select 1 from made cross join set_now
        where (month(made.period_start) - month(set_now.period_start)) % 3 <> 0
            or (made.period_label = set_now.period_label) <> (made.period_start = set_now.period_start)
        limit 1
        """,
    )
    if fiscal:
        out.print(
            "[bold]Its quarters are of another fiscal calendar than the one that is set now:[/bold] scoring forecast make makes them anew."
        )


def track_record(con: duckdb.DuckDBPyConnection) -> list[str]:
    """How right the method was at past moments, as sentences; one that says so where it was not tested."""
    found = rows(
        con,
        """
        select horizon_days, count(*) as n, avg(case when is_within_80 then 1.0 else 0.0 end) as coverage,
            sum(absolute_error_amount) / nullif(sum(actual_amount), 0) as wape, min(origin_at) as first_at, max(origin_at) as last_at
        from forecast_backtest where dimension = 'all' and method = 'forecast'
        group by horizon_days order by horizon_days
        """,
    )
    if not found:
        return [f"How right it would have been before is not known: {NOT_TESTED}"]
    simple = {
        (row["horizon_days"]): row
        for row in rows(
            con,
            """
            select horizon_days, arg_min(method, wape) as method, min(wape) as wape from (
                select horizon_days, method, sum(absolute_error_amount) / nullif(sum(actual_amount), 0) as wape
                from forecast_backtest where dimension = 'all' and method not in ('forecast', 'model') group by all
            ) as methods where wape is not null group by horizon_days
            """,
        )
    }
    said = []
    for row in found:
        best = simple.get(row["horizon_days"])
        beside = (
            f"; best simple method: {METHODS[best['method']]}, off by {screens.percent(best['wape'])}" if best else ""
        )
        said.append(
            f"{row['horizon_days']} days ahead, at {row['n']} past moments from {row['first_at']:%Y-%m} to {row['last_at']:%Y-%m}: "
            f"the 80 % interval held {screens.percent(row['coverage'])}, "
            + (
                "nothing was won in them"
                if row["wape"] is None
                else f"the median was off by {screens.percent(row['wape'])}{beside}"
            )
        )
    return said


@forecast.command()
@as_of_option
@click.pass_obj
def make(workspace: Workspace, as_of: str) -> None:
    """Refresh with a new forecast in between. It is landed and never changes."""
    if as_of and parse_moment(as_of) > utc_now():
        raise UserError(f"a forecast is kept for good, and is not made as of a moment to come (value: {as_of!r})")
    finish(run_job(workspace.require(), FORECAST, config={"scoring_settings": {"as_of": as_of}}))


@forecast.command()
@click.argument("period")
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many deals.")
@click.option("--deal", metavar="ID", help="Every effect on the chance of this open deal.")
@click.pass_obj
def explain(workspace: Workspace, period: str, top: int, deal: str | None) -> None:
    """Say what the forecast of a PERIOD (2026-07, 2026-Q3) is made of, and why.

    An open deal's chance is that of the company's typical deal, and what is known of it adds to it or takes from it.
    """
    period = period_label(period)
    out = screens.console()
    with open_marts(workspace.require()) as con:
        if _newest(con) is None:
            raise UserError(NO_FORECAST)
        parts = rows(
            con,
            "select * from forecast_snapshots where is_newest and method = 'forecast' and dimension = 'all' and period_label = ?",
            [period],
        )
        if not parts:
            raise UserError(f"the newest forecast has no period {period!r}: it has {', '.join(_periods(con))}")
        by_part = {row["part"]: row for row in parts}
        total = by_part["total"]
        result = screens.table(
            f"{period}: {total['period_start']:%Y-%m-%d} to before {total['period_end']:%Y-%m-%d}, forecast {total['forecast_id']}",
            "part", ">mean", ">P10", ">median", ">P90",
        )  # fmt: skip
        names = {
            "won": "won so far",
            "open": "from deals that are open",
            "new": "from deals nobody has opened yet",
            "total": "total",
        }
        for part, text in names.items():
            row = by_part[part]
            result.add_row(text, *(screens.money(row[name]) for name in ("mean_amount", "p10", "p50", "p90")))
        out.print(result)
        out.print(
            f"Only means add up. Intervals were calibrated on {total['calibrated_on']} past moments."
            if total["calibrated_on"]
            else "Only means add up. Intervals were calibrated on no past moment yet."
        )
        earlier = rows(
            con,
            "select forecast_as_of_at, p10, p50, p90 from forecast_snapshots where not is_newest and method = 'forecast' "
            "and part = 'total' and dimension = 'all' and period_label = ? order by forecast_as_of_at desc limit 5",
            [period],
        )
        for row in earlier:
            out.print(
                f"  as of {row['forecast_as_of_at']:%Y-%m-%d %H:%M} it said {screens.money(row['p50'])} "
                f"({screens.money(row['p10'])} to {screens.money(row['p90'])})"
            )
        column = _chance_by(total)
        if deal is not None:
            _show_effects_of(out, con, deal, column, period)
            return
        if column:
            _show_effects(out, con, column, total["period_end"])
            deals = rows(
                con,
                f"select *, {column} as chance, {column} * amount as worth from deal_forecasts "
                "where amount is not null order by worth desc nulls last, opportunity_id limit ?",
                [top],
            )
            why = effects_of(con, [row["opportunity_id"] for row in deals], column)
            listed = screens.table(
                "Open deals that say most", "deal", "stage", ">amount", ">won in time", ">expected", "promised",
                "likely close (80 %)", ">slips", *(["why (points of %)"] if why else []),
            )  # fmt: skip
            for row in deals:
                listed.add_row(
                    escape(row["opportunity_name"] or row["opportunity_id"]), escape(row["stage"] or ""), screens.money(row["amount"]),
                    screens.percent(row["chance"]), screens.money(row["worth"]), f"{row['expected_close_date'] or ''}",
                    f"{row['close_date_low']:%m-%d} .. {row['close_date_high']:%Y-%m-%d}" if row["close_date_low"] else "",
                    screens.percent(row["slip_probability"]),
                    *([escape(reasons(why.get(row["opportunity_id"], [])))] if why else []),
                )  # fmt: skip
            out.print(listed)
        for sentence in track_record(con):
            out.print(sentence)


def _show_effects(out: Console, con: duckdb.DuckDBPyConnection, chance: str, end: date) -> None:
    """Print what raises and what lowers what is expected of the open deals."""
    found = effects_in_sum(con, chance)
    if not found:
        out.print("Why deals have their chances was not kept: scoring forecast make keeps it.")
        return
    typical, effects = found[0], found[1:]
    result = screens.table(
        f"What is expected of {counted(typical['deals'], 'open deal')} before {end:%Y-%m-%d}, at their amounts, and why",
        "what is known", ">a deal's chance", ">expected amount", ">raises", ">lowers",
    )  # fmt: skip
    result.add_row(
        "if each were the typical deal",
        screens.percent(float(typical["effect"])),
        screens.money(typical["amount"]), "", "",
    )  # fmt: skip
    for row in effects:
        result.add_row(
            CALLED[row["factor"]], f"{100 * row['effect']:+z.1f}", f"{row['amount']:+z,.0f}",
            counted(row["raised"], "deal"), counted(row["lowered"], "deal"),
        )  # fmt: skip
    result.add_section()
    result.add_row(
        "as they are",
        screens.percent(float(sum(row["effect"] for row in found))),
        screens.money(sum(row["amount"] for row in found)), "", "",
    )  # fmt: skip
    out.print(result)
    out.print(
        "The typical deal is the mean of those that were open in the last three years. Lines add up to the last one, chances in percentage "
        "points. What is won before the period begins is among them. The forecast above is of the period alone, and also reckons with "
        "amounts that change until the close, and with how right it was before."
    )


def _show_effects_of(out: Console, con: duckdb.DuckDBPyConnection, deal: str, chance: str | None, period: str) -> None:
    """Print every effect on one deal's chance."""
    if chance is None:
        raise UserError(
            f"why a deal is won is kept for the present month, the present and the next quarter (value: {period!r})"
        )
    effects = effects_of(con, [deal], chance).get(deal)
    if not effects:
        raise UserError(
            f"the newest forecast does not explain the deal {deal!r}: it is not open, not known to it, or too small"
        )
    result = screens.table(f"Why {escape(deal)} is won in time", "what is known", "of this deal", ">points of %")
    result.add_row("the typical deal", "", f"{100 * effects[0]['effect']:.1f}")
    for row in effects[1:]:
        result.add_row(CALLED[row["factor"]], escape(row["observed"]), f"{100 * row['effect']:+z.1f}")
    result.add_section()
    result.add_row("chance", "", f"{100 * sum(row['effect'] for row in effects):.1f}")
    out.print(result)


@forecast.command()
@click.option("--from", "first", type=click.DateTime(["%Y-%m-%d"]), help="First moment. Default: two years ago.")
@click.option(
    "--to",
    "last",
    type=click.DateTime(["%Y-%m-%d"]),
    help="Last moment. Default: the last with a window that has ended.",
)
@click.option(
    "--every",
    default="month",
    show_default=True,
    type=click.Choice(["week", "month"]),
    help="Distance between moments.",
)
@click.pass_obj
def backtest(workspace: Workspace, first: datetime | None, last: datetime | None, every: str) -> None:
    """Replay past moments with what was known then alone, and show how right the forecast would have been."""
    from orchestration.lib.forecasts import HORIZONS_DAYS, make_backtest, past_origins, read_deals, weekly_origins
    from orchestration.lib.scorecard_settings import settings_of
    from orchestration.lib.warehouse import writer_lock

    workspace.require()
    with writer_lock(workspace, wait_seconds=600, on_wait=lambda text: click.echo(text, err=True)):
        deals = read_deals(workspace)
    settings = settings_of(workspace).forecast
    origins = past_origins(deals) if every == "month" else weekly_origins(deals)
    origins = [o for o in origins if (first is None or o >= first.date()) and (last is None or o <= last.date())]
    if not origins:
        raise UserError(
            "no past moment in this range has half a year of closed deals before it and a window that has ended after it"
        )
    click.echo(f"replaying {len(origins)} moments from {origins[0]} to {origins[-1]}", err=True)
    frame = make_backtest(workspace, deals, origins, settings)
    show_scores(screens.console(), frame, HORIZONS_DAYS)
    for sentence in deals.lacking_then():
        click.echo(f"Could not be restored: {sentence}")
    click.echo("Landed; shown by the marts and used for intervals from the next forecast on (scoring forecast make).")


def show_scores(out: Console, frame: Any, horizons: tuple[int, ...]) -> None:
    """Print error, pinball loss and coverage of every method."""
    from ml.forecast.backtest import scores

    whole = frame[frame["dimension"] == "all"].rename(columns={"point_amount": "point", "actual_amount": "actual"})
    found = scores(
        whole.assign(
            **{name: whole[name].astype(float) for name in whole.columns if name[0] == "p" or name == "actual"}
        )
    )
    for horizon in horizons:
        part = found[found["horizon_days"] == horizon].sort_values("wape")
        result = screens.table(
            f"{horizon} days ahead",
            "method",
            ">moments",
            ">off by (WAPE)",
            ">bias",
            ">pinball",
            ">50 % held",
            ">80 % held",
            ">95 % held",
        )
        for row in part.to_dict("records"):
            result.add_row(
                METHODS[row["method"]], str(row["origin_count"]), f"{row['wape']:.3f}", f"{row['bias']:+z.3f}",
                f"{row['pinball']:.4f}",
                *(screens.percent(row[f"coverage_{mass}"]) for mass in (50, 80, 95)),
            )  # fmt: skip
        out.print(result)


@forecast.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.pass_obj
def chart(workspace: Workspace, file: Path) -> None:
    """Draw the forecast beside the target, and how right it was, into a .png, .svg or .html FILE."""
    from orchestration.lib.forecast_plots import SUFFIXES, draw_forecast
    from orchestration.lib.forecast_report import write_chart
    from orchestration.lib.page_plots import check_file
    from orchestration.lib.scorecard_settings import settings_of

    check_file(file, SUFFIXES)
    with open_marts(workspace.require()) as con:
        if _newest(con) is None:
            raise UserError(NO_FORECAST)
        if file.suffix.lower() == ".html":
            write_chart(con, file, currency=settings_of(workspace).currency)
        else:
            draw_forecast(con, file)
    click.echo(f"written: {file}")


@forecast.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--period", metavar="PERIOD", help="What the page is about, e.g. 2026-Q3. Default: the present quarter.")
@click.pass_obj
def report(workspace: Workspace, file: Path, period: str | None) -> None:
    """Write the page for the revenue meeting: one .html FILE that needs nothing else."""
    from orchestration.lib.forecast_report import write_report
    from orchestration.lib.scorecard_settings import settings_of

    with open_marts(workspace.require()) as con:
        label = period_label(period) if period else None
        write_report(con, file, currency=settings_of(workspace).currency, period=label)
    click.echo(f"written: {file}")


def _newest(con: duckdb.DuckDBPyConnection) -> dict[str, Any] | None:
    found = rows(con, "select forecast_id, forecast_as_of_at, lacking from forecast_snapshots where is_newest limit 1")
    return found[0] if found else None


def _periods(con: duckdb.DuckDBPyConnection) -> list[str]:
    query = (
        "select distinct period_type, period_start, period_label from forecast_snapshots where is_newest order by all"
    )
    return [row["period_label"] for row in rows(con, query)]


def _chance_by(total: dict[str, Any]) -> str | None:
    """The column of `deal_forecasts` that speaks of the end of this period, where there is one."""
    as_of, end = total["forecast_as_of_at"].date(), total["period_end"]
    if total["period_start"] <= as_of < end:
        return "won_this_month_probability" if total["period_type"] == "month" else "won_this_quarter_probability"
    return "won_next_quarter_probability" if total["period_type"] == "quarter" and (end - as_of).days <= 184 else None


for _command in forecast_submissions.COMMANDS:
    forecast.add_command(_command)
