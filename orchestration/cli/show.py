"""`scoring report`, `explain`, `sql` and `loads`: what the published marts say."""

from __future__ import annotations

import csv
import json
import sys
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.cli.forecast import show_forecast
from orchestration.lib.card_store import active_card
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import find_account, open_marts, rows
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace


def print_report(workspace: Workspace, limit: int) -> None:
    """The screen that `demo` ends with."""
    out = screens.console()
    card = active_card(workspace)
    with open_marts(workspace) as con:
        screens.show_card(out, con, card.document["card"]["verdict"] if card else [])
        screens.show_top_accounts(out, con, limit)
        screens.show_matrix(out, con)
        if not show_forecast(out, con):
            screens.show_forecast(out, con)
        screens.show_health(out, con)
        screens.show_where(out, con, workspace)


@click.command()
@click.option("--top", default=10, show_default=True, type=click.IntRange(1, 1000), help="How many accounts.")
@click.pass_obj
def report(workspace: Workspace, top: int) -> None:
    """Show the top accounts, the matrix and the forecast."""
    print_report(workspace.require(), top)


@click.command()
@click.argument("account")
@click.option(
    "--at",
    type=click.DateTime(),
    default=None,
    help="As of this moment (UTC): in the past, or to come if nothing happens.",
)
@click.option("--decay", is_flag=True, help="How the points fade over the next half year if nothing happens.")
@click.pass_obj
def explain(workspace: Workspace, account: str, at: datetime | None, decay: bool) -> None:
    """Show every point of one account and the evidence behind it.

    ACCOUNT is its id or name.
    """
    out = screens.console()
    if at is not None or decay:
        _explain_at(out, workspace.require(), account, at, decay)
        return
    with open_marts(workspace.require()) as con:
        found = find_account(con, account)
        out.print(
            f"[bold]{escape(found['account_name'])}[/bold] ({escape(found['account_id'])}), as of {found['as_of_at']:%Y-%m-%d %H:%M} UTC"
        )
        out.print(f"State: {found['state']} - {escape(found['state_reason'])}")
        if found["state"] != "scored":
            out.print(NO_POINTS)
            return
        out.print(
            f"Cell {found['cell']} -> {found['next_action']}; rank {found['rank']:,}; "
            f"{found['total_points']} points = fit {found['fit_points']} + engagement {found['engagement_points']} "
            f"+ adjustments {found['adjustment_points']}"
        )
        out.print(
            f"A deal opened now is won with {screens.percent(found['win_probability'])} "
            f"(90 % interval {screens.percent(found['win_probability_low'])} to {screens.percent(found['win_probability_high'])})\n"
        )
        contributions = rows(
            con,
            """
            select c.kind, c.criterion, c.value, c.band, c.points, s.expert_points, s.deal_count, s.won_count,
            s.data_share_pct
            from score_contributions as c
            left join scorecard as s on c.criterion = s.criterion and c.band = s.band
            where c.account_id = ?
            order by c.kind, abs(c.points) desc, c.criterion
            """,
            [found["account_id"]],
        )
    result = screens.table(
        f"Every point, scorecard {found['scorecard_version']}", "kind", "criterion", "value", "band", ">points", "evidence",
    )  # fmt: skip
    for row in contributions:
        result.add_row(
            row["kind"], row["criterion"].replace("_", " "), escape(row["value"] or "missing"), escape(row["band"]),
            screens.signed(row["points"]), _evidence(row),
        )  # fmt: skip
    result.add_section()
    result.add_row("", "total", "", "", str(sum(row["points"] for row in contributions)), "")
    out.print(result)


NO_POINTS = "It has no points: only scored accounts are ranked."
#: Days from now at which the decay is shown.
DECAY_DAYS = (0, 7, 14, 30, 60, 90, 180)


def _explain_at(out: Any, workspace: Workspace, account: str, at: datetime | None, decay: bool) -> None:
    from datetime import timedelta

    from orchestration.lib.job_runner import prepare_process
    from orchestration.lib.score_replay import score_at
    from orchestration.lib.scorecard_settings import settings_of
    from orchestration.lib.warehouse import writer_lock

    with open_marts(workspace) as con:
        found = find_account(con, account)
    prepare_process(workspace)
    start = at or found["as_of_at"]
    moments = [start + timedelta(days=days) for days in DECAY_DAYS] if decay else [start]
    with writer_lock(workspace):
        scored = score_at(
            workspace,
            settings_of(workspace),
            found["account_id"],
            moments,
            say=lambda text: click.echo(text, err=True),
        )
    now = scored[0].account
    out.print(
        f"[bold]{escape(found['account_name'])}[/bold] ({escape(found['account_id'])}), as of {start:%Y-%m-%d %H:%M} UTC"
    )
    if not any(one.contributions for one in scored):
        out.print(f"State: {now['state']} - {escape(now['state_reason'])}\n{NO_POINTS}")
        return
    if not decay:
        out.print(f"State: {now['state']}; {now['total_points']} points, cell {now['cell']}")
        table = screens.table(
            f"Every point, scorecard {now['scorecard_version']}", "kind", "criterion", "value", "band", ">points"
        )
        for row in scored[0].contributions:
            table.add_row(
                row["kind"], row["criterion"].replace("_", " "), escape(row["value"] or "missing"), escape(row["band"]),
                screens.signed(row["points"]),
            )  # fmt: skip
        table.add_section()
        table.add_row("", "total", "", "", str(sum(row["points"] for row in scored[0].contributions)))
        out.print(table)
        return
    criteria = list(dict.fromkeys(row["criterion"] for one in scored for row in one.contributions))
    points = [{row["criterion"]: row["points"] for row in one.contributions} for one in scored]
    fading = [name for name in criteria if len({each.get(name) for each in points}) > 1]
    table = screens.table(
        "If nothing happens", "criterion", *(">then" if not days else f">in {days} days" for days in DECAY_DAYS)
    )
    for name in fading:
        table.add_row(name.replace("_", " "), *(screens.signed(each.get(name)) for each in points))
    rest = [sum(value for name, value in each.items() if name not in fading) for each in points]
    table.add_row("all others", *(screens.signed(value) for value in rest))
    table.add_section()
    totals = [one.account["total_points"] for one in scored]
    table.add_row("total", *("" if total is None else str(total) for total in totals))
    table.add_row("cell", *(str(one.account["cell"] or one.account["state"]) for one in scored))
    out.print(table)


def _evidence(row: dict[str, Any]) -> str:
    if row["kind"] == "adjustment":
        return counted(int(row["value"]), "operation")
    if not row["deal_count"]:
        return f"no closed deals: experts' belief ({screens.signed(row['expert_points'])})"
    return (
        f"{row['won_count']:,} of {row['deal_count']:,} deals won; experts {screens.signed(row['expert_points'])}; "
        f"{row['data_share_pct']:.0f} % from data"
    )


@click.command()
@click.argument("query")
@click.option("--format", "form", type=click.Choice(["table", "csv", "json"]), default="table", show_default=True)
@click.pass_obj
def sql(workspace: Workspace, query: str, form: str) -> None:
    """Query the published marts, read-only. Tables stand in the schema marts, which need not be written.

    Example: scoring sql "select cell, count(*) from scored_accounts group by cell order by cell"
    """
    import duckdb

    with open_marts(workspace.require()) as con:
        try:
            if form == "table":
                relation = con.sql(query)
                click.echo("no rows" if relation is None else str(relation).rstrip())
                return
            found = rows(con, query)
        except duckdb.Error as error:
            raise UserError(f"the query failed: {error}") from None
    if form == "json":
        click.echo(json.dumps([{k: _plain(v) for k, v in row.items()} for row in found], ensure_ascii=False, indent=1))
    elif found:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(found[0])
        writer.writerows(row.values() for row in found)


def _plain(value: Any) -> Any:
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date | datetime):
        return value.isoformat()
    return value


@click.command()
@click.option("--bad", default=20, show_default=True, type=click.IntRange(0, 10_000), help="How many quarantined rows.")
@click.option(
    "--files",
    "limit",
    default=100,
    show_default=True,
    type=click.IntRange(0),
    help="How many files that loaded as a whole, and how many others: the newest of each.",
)
@click.pass_obj
def loads(workspace: Workspace, bad: int, limit: int) -> None:
    """Show what became of every file, and the rows in quarantine.

    All files are in the mart load_report.
    """
    out = screens.console()
    with open_marts(workspace.require()) as con:
        files = rows(
            con,
            "select * from load_report qualify row_number() over ("
            "partition by status <> 'loaded' or rows_quarantined > 0 order by arrived_at desc nulls first, source_table, file_name) <= ? "
            "order by source_table, arrived_at, file_name",
            [limit],
        )
        totals = rows(
            con,
            "select source_table, count(*) as file_count, sum(rows_in)::bigint as rows_in, sum(rows_loaded)::bigint as rows_loaded, "
            "sum(rows_already_there)::bigint as rows_already_there, sum(rows_quarantined)::bigint as rows_quarantined, "
            "max(arrived_at) as arrived_at from load_report where arrived_at is not null group by all order by all",
        )
        broken = rows(
            con,
            "select * from quarantined_rows order by source_table, file_name, row_no, rule limit ?",
            [bad],
        )
        count = rows(con, "select count(*) as n from quarantined_rows")[0]["n"]
    result = screens.table(
        "Files", "table", "file", "status", ">rows in", ">loaded", ">already there", ">quarantined", "message",
    )  # fmt: skip
    for row in files:
        result.add_row(
            row["source_table"], escape(row["file_name"] or ""), row["status"], f"{row['rows_in']:,}", f"{row['rows_loaded']:,}",
            f"{row['rows_already_there']:,}", f"{row['rows_quarantined']:,}", escape(row["message"] or ""),
        )  # fmt: skip
    out.print(result)
    file_count = sum(row["file_count"] for row in totals)
    shown = sum(row["arrived_at"] is not None for row in files)
    if shown < file_count:
        result = screens.table(
            f"All {counted(file_count, 'file')}, of which {shown:,} are above", "table", ">files", ">rows in", ">loaded",
            ">already there", ">quarantined", "newest (UTC)",
        )  # fmt: skip
        for row in totals:
            result.add_row(
                row["source_table"], f"{row['file_count']:,}", f"{row['rows_in']:,}", f"{row['rows_loaded']:,}",
                f"{row['rows_already_there']:,}", f"{row['rows_quarantined']:,}", f"{row['arrived_at']:%Y-%m-%d %H:%M}",
            )  # fmt: skip
        out.print(result)
    if broken:
        result = screens.table(
            f"Quarantine: {len(broken):,} of {count:,} broken rules",
            "table",
            "file",
            ">row",
            "column",
            "rule",
            "value",
        )
        for row in broken:
            result.add_row(
                row["source_table"], escape(row["file_name"] or ""), str(row["row_no"] or ""), row["column_name"] or "",
                escape(row["rule"]), escape(row["value"] or ""),
            )  # fmt: skip
        out.print(result)
