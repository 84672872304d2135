"""`scoring pipeline`: what changed in the open pipeline, to the cent. Risks and forecasts are elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
import duckdb
from rich.markup import escape

from orchestration.cli import screens
from orchestration.cli.deal_risks import risks
from orchestration.lib import pipeline_changes as changes_of_pipeline
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_submissions import find_subject
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.moments import parse_moment
from orchestration.lib.pipeline_changes import GROUPS, Chosen
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace


@click.group()
def pipeline() -> None:
    """The open pipeline: what changed in it, and what is at risk."""


pipeline.add_command(risks)


@pipeline.command()
@click.option(
    "--from", "start", default="7-days", show_default=True, metavar="MOMENT",
    help="yesterday, monday, 1-day, 7-days, 30-days, month-start, quarter-start, year-start or an ISO moment (UTC).",
)  # fmt: skip
@click.option("--to", "end", metavar="MOMENT", help="An ISO moment (UTC). Default: the last refresh's.")
@click.option("--by", type=click.Choice([*GROUPS]), help="A waterfall for each of them; month: the promised one.")
@click.option("--period", metavar="PERIOD", help="Deals promised for 2026-07, 2026-Q3 or 2026 only; fiscal ones.")
@click.option("--owner", help="Deals of this user only: the id or the name.")
@click.option("--team", help="Deals of this team only.")
@click.option("--product", help="Deals of this product only.")
@click.option("--region", help="Deals with accounts of this region only.")
@click.option("--segment", help="Deals with accounts of this segment only (forecast.segment_by in scorecard.yml).")
@click.option("--deals", is_flag=True, help="List every deal that changed.")
@click.pass_obj
def changes(
    workspace: Workspace,
    start: str,
    end: str | None,
    by: str | None,
    period: str | None,
    deals: bool,
    **filters: str | None,
) -> None:
    """Show how the open pipeline came from one moment to another: start + changes = end, to the cent.

    Each deal is in one step, the first that fits: won, lost, deleted, reopened, new, owner moved, pulled in, pushed out, up, down,
    stage forward, stage back. Both moments are seen as they were known then.
    """
    from orchestration.lib.scorecard_settings import settings_of

    workspace.require()
    months = None
    if period is not None:
        months = changes_of_pipeline.parse_period(period, settings_of(workspace).forecast.fiscal_year_start_month)
    unknown: UserError | None = None
    if filters["owner"] is not None:
        with open_marts(workspace) as marts:
            try:
                filters["owner"] = find_subject(marts, f"owner={filters['owner']}").label
            except UserError as error:
                # The id of somebody who has left: only the deals of then know it.
                unknown = error
    wanted = tuple((changes_of_pipeline.GROUPS[name][0], value) for name, value in filters.items() if value is not None)
    with _between(workspace, start, end) as (con, comparison):
        chosen = Chosen(comparison, months, wanted)
        moments = rows(
            con, "select distinct start_at, end_at from marts.pipeline_changes where comparison = ?", [comparison]
        )
        whole = changes_of_pipeline.waterfall(con, chosen)
        won = changes_of_pipeline.won_deals(con, chosen)
        divided = changes_of_pipeline.waterfall(con, chosen, by=by) if by else []
        listed = changes_of_pipeline.deals_of(con, chosen) if deals else []
    out = screens.console()
    if not whole and unknown:
        raise unknown
    if not whole:
        of_these = f" of those asked for ({', '.join(value for _, value in wanted)})" if wanted else ""
        out.print(f"No deal{of_these} was open at either moment, or closed between them.")
        return
    if not changes_of_pipeline.check_sum([*whole, *divided]):
        raise AssertionError("the start and the changes of the pipeline do not add up to its end")
    first, last = (f"{moments[0][name]:%Y-%m-%d %H:%M}" for name in ("start_at", "end_at"))
    out.print(f"[bold]Open pipeline from {first} to {last} UTC[/bold]\n")
    out.print(_waterfall(whole))
    out.print("Amounts add up. Numbers of deals need not: who came and closed in between is won or lost, and not new.")
    if won["deals"]:
        out.print(
            f"Won at {won['amount']:,.2f} ({counted(won['deals'], 'deal')}), whatever their amount was when they were open\n"
        )
    if by:
        wide = _by_group(divided, by)
        out.print(wide if screens.fits(out, wide) else _by_group_and_step(divided, by))
    if deals:
        out.print(_listed(listed))


@pipeline.command()
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--from", "start", default="7-days", show_default=True, metavar="MOMENT", help="As of pipeline changes.")
@click.option("--to", "end", metavar="MOMENT", help="An ISO moment (UTC). Default: the last refresh's.")
@click.option("--by", type=click.Choice([*GROUPS]), help="A waterfall for each of them, the largest ones.")
@click.option("--period", metavar="PERIOD", help="Deals promised for 2026-07, 2026-Q3 or 2026 only; fiscal ones.")
@click.pass_obj
def chart(workspace: Workspace, file: Path, start: str, end: str | None, by: str | None, period: str | None) -> None:
    """Draw how the open pipeline came from one moment to another into a .png, .svg or .html FILE."""
    from orchestration.lib import pipeline_plots
    from orchestration.lib.forecast_plots import SUFFIXES
    from orchestration.lib.forecast_report import write_waterfall
    from orchestration.lib.page_plots import check_file
    from orchestration.lib.scorecard_settings import settings_of

    check_file(file, SUFFIXES)
    settings = settings_of(workspace.require())
    months = None
    if period is not None:
        months = changes_of_pipeline.parse_period(period, settings.forecast.fiscal_year_start_month)
    with _between(workspace, start, end) as (con, comparison):
        chosen = Chosen(comparison, months)
        moments = rows(
            con, "select distinct start_at, end_at from marts.pipeline_changes where comparison = ?", [comparison]
        )
        whole = changes_of_pipeline.waterfall(con, chosen)
        divided = changes_of_pipeline.waterfall(con, chosen, by=by) if by else []
    if not whole:
        raise UserError("no deal was open at either moment, or closed between them: there is nothing to draw")
    if not changes_of_pipeline.check_sum([*whole, *divided]):
        raise AssertionError("the start and the changes of the pipeline do not add up to its end")
    promised = f"promised for {period}" if period else ""
    if file.suffix.lower() == ".html":
        write_waterfall(
            whole,
            divided,
            file,
            by=by,
            currency=settings.currency,
            chosen=f"of deals {promised}" if promised else "",
            **moments[0],
        )
    else:
        title = (
            f"Open pipeline from {moments[0]['start_at']:%Y-%m-%d %H:%M} to {moments[0]['end_at']:%Y-%m-%d %H:%M} UTC"
        )
        pipeline_plots.draw_changes(divided or whole, file, title=f"{title}, {promised}" if promised else title)
    click.echo(f"written: {file}")


@contextmanager
def _between(workspace: Workspace, start: str, end: str | None) -> Iterator[tuple[duckdb.DuckDBPyConnection, str]]:
    """Rows of `pipeline_changes` and the name of their comparison: the published ones where the moments are among them.

    Words such as 7-days are of the end, whichever it is.
    """
    from orchestration.lib.scorecard_settings import settings_of
    from orchestration.lib.settings_tables import comparison_starts

    with open_marts(workspace) as con:
        held = None if end else changes_of_pipeline.held_comparison(con, start)
        if held:
            yield con, held
            return
        as_of_at = rows(con, "select as_of_at from publication")[0]["as_of_at"]
    last = parse_moment(end) if end else None
    starts = comparison_starts(last or as_of_at, settings_of(workspace).forecast.fiscal_year_start_month)
    first = changes_of_pipeline.since(start, last or as_of_at) or starts.get(start.strip().lower().replace("-", "_"))
    if first is None:
        try:
            first = parse_moment(start)
        except UserError:
            names = ", ".join(name.replace("_", "-") for name in starts)
            raise UserError(
                f"--from must be yesterday, monday, {names} or an ISO moment such as 2026-06-30 (value: {start!r})"
            ) from None
    from orchestration.lib.job_runner import prepare_process
    from orchestration.lib.warehouse import writer_lock

    prepare_process(workspace)
    with (
        writer_lock(workspace),
        changes_of_pipeline.changes_between(workspace, first, last) as (con, comparison),
    ):
        yield con, comparison


def _waterfall(steps: list[dict[str, Any]]) -> Any:
    result = screens.table("", "step", ">deals", ">amount")
    for row in steps:
        is_end = row["step"] in ("start", "end")
        if row["step"] == "end":
            result.add_section()
        result.add_row(
            row["step"].replace("_", " "),
            f"{row['deals']:,}",
            f"{row['amount']:,.2f}" if is_end else f"{row['amount']:+,.2f}",
        )
    return result


def _by_group(steps: list[dict[str, Any]], by: str) -> Any:
    names = [step for step in ("start", *changes_of_pipeline.STEPS, "end") if any(row["step"] == step for row in steps)]
    result = screens.table(f"By {by}", by, *(f">{name.replace('_', ' ')}" for name in names))
    for group in dict.fromkeys(row["group"] for row in steps):
        amounts = {row["step"]: row["amount"] for row in steps if row["group"] == group}
        result.add_row(escape(group), *(f"{amounts[name]:,.2f}" if name in amounts else "" for name in names))
    return result


def _by_group_and_step(steps: list[dict[str, Any]], by: str) -> Any:
    """The same with a line for each step, for a screen that is too narrow for a column each."""
    result = screens.table(f"By {by}", by, "step", ">deals", ">amount")
    for row in steps:
        is_end = row["step"] in ("start", "end")
        result.add_row(
            escape(row["group"]) if row["step"] == "start" else "",
            row["step"].replace("_", " "),
            f"{row['deals']:,}",
            f"{row['amount']:,.2f}" if is_end else f"{row['amount']:+,.2f}",
            end_section=row["step"] == "end",
        )
    return result


def _listed(listed: list[dict[str, Any]]) -> Any:
    result = screens.table(
        "Deals",
        "step",
        "deal",
        "side",
        "owner",
        "product",
        "promised for",
        "stage",
        ">before",
        ">change",
        ">after",
        ">won",
    )
    for row in listed:
        before, after = row["stage_before"], row["stage_after"]
        into = row["merged_into_opportunity_id"]
        result.add_row(
            f"{row['bucket'].replace('_', ' ')}{f' into {escape(into)}' if into else ''}", escape(row["opportunity_id"]),
            "" if row["side"] == "stayed" else row["side"],
            escape(row["owner_name"]), escape(row["product"]), f"{row['close_month']:%Y-%m}" if row["close_month"] else "",
            escape(after or before or "" if before == after or not before or not after else f"{before} -> {after}"),
            f"{row['start_amount']:,.2f}", f"{row['change_amount']:+,.2f}", f"{row['end_amount']:,.2f}",
            f"{row['won_amount']:,.2f}" if row["won_amount"] else "",
        )  # fmt: skip
    return result
