"""`scoring handoffs` and `handoff`: the accounts that were handed over to sales, and what sales says of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.errors import UserError
from orchestration.lib.handoffs import DECISIONS, land_answer
from orchestration.lib.marts_reader import find_account, open_marts, rows
from orchestration.lib.training import author
from orchestration.lib.workspace import Workspace


@click.command()
@click.option("--overdue", is_flag=True, help="Only those whose follow-up is overdue, the oldest first.")
@click.option("--top", default=50, show_default=True, type=click.IntRange(1, 10_000), help="How many.")
@click.pass_obj
def handoffs(workspace: Workspace, overdue: bool, top: int) -> None:
    """List the accounts handed over to sales, with follow-up and feedback."""
    out = screens.console()
    with open_marts(workspace.require()) as con:
        counted = rows(con, "select status, count(*) as n from handoffs group by status order by n desc, status")
        listed = rows(
            con,
            "select * from handoffs where ? = false or status = 'overdue' "
            "order by handed_over_at" + ("" if overdue else " desc") + ", total_points desc, account_id limit ?",
            [overdue, top],
        )
    said = ", ".join(f"{row['n']:,} {row['status']}" for row in counted)
    if overdue and said and not listed:
        said = f"None is overdue; {said}"
    out.print(said or "No account has been handed over yet.")
    if not listed:
        return
    result = screens.table(
        "Handed over", "on", "account", "to", "cell", ">points", "due", "first follow-up", ">after", "feedback", "status",
    )  # fmt: skip
    for row in listed:
        result.add_row(
            f"{row['handed_over_at']:%Y-%m-%d %H:%M}", escape(row["account_name"] or row["account_id"]), escape(row["handed_to"] or ""),
            f"{row['from_cell']} -> {row['cell']}" if row["from_cell"] else row["cell"], str(row["total_points"]),
            f"{row['due_at']:%Y-%m-%d %H:%M}", f"{row['first_follow_up_at']:%Y-%m-%d %H:%M}" if row["first_follow_up_at"] else "",
            _after(row),
            escape(f"{row['feedback'].replace('_', ' ')}: {row['feedback_note']}" if row["feedback"] else ""), row["status"],
        )  # fmt: skip
    out.print(result)


def _after(row: Mapping[str, Any]) -> str:
    """How long the first follow-up took, in the unit in which one would say it."""
    minutes = row["follow_up_minutes"]
    if minutes is None:
        return "" if row["follow_up_days"] is None else f"{row['follow_up_days']} d"
    return (
        f"{minutes} min"
        if minutes < 90
        else f"{minutes / 60:.0f} h"
        if minutes < 60 * 48
        else f"{minutes / 1440:.0f} d"
    )


@click.command()
@click.argument("account")
@click.argument("decision", type=click.Choice(list(DECISIONS)))
@click.option(
    "--note", required=True, help="The reason; marketing reads it beside the cell that the account came from."
)
@click.pass_obj
def handoff(workspace: Workspace, account: str, decision: str, note: str) -> None:
    """Accept an account that was handed over to sales, or send it back. Counts from the next refresh on."""
    workspace = workspace.require()
    with open_marts(workspace) as con:
        found = find_account(con, account)
        if not rows(con, "select 1 from handoffs where account_id = ? limit 1", [found["account_id"]]):
            raise UserError(f"{found['account_name']} ({found['account_id']}) has not been handed over to sales")
    land_answer(workspace, found["account_id"], decision, note=note, author=author())
    click.echo(f"{found['account_name']}: {DECISIONS[decision].replace('_', ' ')}; counts from the next refresh on")
