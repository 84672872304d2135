"""`scoring changes` and `history`: what moved an account's points since a day, and how it stood before."""

from __future__ import annotations

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.marts_reader import find_account, open_marts
from orchestration.lib.score_movements import (
    changes_of_account,
    history_of_account,
    movers,
    recorded_day,
    state_on,
)
from orchestration.lib.workspace import Workspace


@click.command()
@click.argument("account", required=False)
@click.option(
    "--since",
    default="yesterday",
    show_default=True,
    metavar="DAY",
    help="yesterday, last-week or a date: from its end.",
)
@click.option("--top", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many accounts.")
@click.pass_obj
def changes(workspace: Workspace, account: str | None, since: str, top: int) -> None:
    """Show what changed since a day, by criterion; without ACCOUNT, the accounts that moved most.

    The changes of an account add up to the change of its total.
    """
    out = screens.console()
    with open_marts(workspace.require()) as con:
        day = recorded_day(con, since)
        if account is None:
            result = screens.table(
                f"Moved most since the end of {day}", "account", ">points then", ">now", ">change", "cell", "because of",
            )  # fmt: skip
            for row in movers(con, day, top):
                result.add_row(
                    escape(row["account_name"] or row["account_id"]), _points(row["points_then"]),
                    _points(row["total_points"]), screens.signed(row["change_points"]),
                    _arrow(row["cell_then"], row["cell"] or row["state"]), escape(row["changes"].replace("; ", "\n")),
                )  # fmt: skip
            out.print(result if result.row_count else f"No account's points have changed since the end of {day}.")
            return
        found = find_account(con, account)
        then = state_on(con, found["account_id"], day)
        listed = changes_of_account(con, found["account_id"], day)
    points_then = (then or {}).get("total_points")
    out.print(
        f"[bold]{escape(found['account_name'])}[/bold]: {_points(points_then)} points at the end of {day}, "
        f"{_points(found['total_points'])} now; {_arrow((then or {}).get('cell'), found['cell'] or found['state'])}"
    )
    if then and found["scorecard_version"] != then["scorecard_version"]:
        out.print(f"Scorecard {then['scorecard_version']} then, {found['scorecard_version']} now")
    result = screens.table(
        "What changed", "kind", "criterion", ">change", "band then", "band now", "reason", "last on",
    )  # fmt: skip
    for row in listed:
        result.add_row(
            row["kind"], row["criterion"].replace("_", " "), screens.signed(row["change_points"]),
            escape(row["band_then"] or ""), escape(row["band_now"] or ""), row["reasons"], f"{row['last_change_date']}",
        )  # fmt: skip
    result.add_section()
    result.add_row("", "total", screens.signed(sum(row["change_points"] for row in listed)), "", "", "", "")
    out.print(result if listed else "Nothing has changed.")


@click.command()
@click.argument("account")
@click.pass_obj
def history(workspace: Workspace, account: str) -> None:
    """Show how an account was scored on past days, newest first."""
    out = screens.console()
    with open_marts(workspace.require()) as con:
        found = find_account(con, account)
        listed = history_of_account(con, found["account_id"])
    result = screens.table(
        f"{escape(found['account_name'])} at the end of each day", "from", "until before", "state", ">fit", ">engagement",
        ">adjustments", ">total", "cell", "next action", ">win probability", "scorecard",
    )  # fmt: skip
    for row in listed:
        result.add_row(
            f"{row['from_date']}", f"{row['until_date'] or ''}", row["state"], _points(row["fit_points"]),
            _points(row["engagement_points"]), _points(row["adjustment_points"]), _points(row["total_points"]),
            row["cell"] or "", row["next_action"] or "", screens.percent(row["win_probability"]), row["scorecard_version"] or "",
        )  # fmt: skip
    out.print(result)


def _points(points: int | None) -> str:
    return "none" if points is None else str(points)


def _arrow(before: str | None, after: str | None) -> str:
    return f"{after}" if before == after else f"{before or 'none'} -> {after or 'none'}"
