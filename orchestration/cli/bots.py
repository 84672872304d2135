"""`scoring bots`: what mail gateways and crawlers would do to scores. The work is in `orchestration.lib.bot_effects`."""

from __future__ import annotations

from typing import Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.marts_reader import find_account, open_marts
from orchestration.lib.workspace import Workspace


@click.command()
@click.option("--account", default=None, help="Id or name: its criteria one by one.")
@click.option("--top", default=20, show_default=True, type=click.IntRange(1, 100_000), help="How many accounts.")
@click.pass_obj
def bots(workspace: Workspace, account: str | None, top: int) -> None:
    """Show how many points accounts would have if what bots did were counted. Changes nothing.

    Which touchpoints that were, and what gave them away: scoring sql "from flagged_touchpoints".
    """
    from orchestration.lib.bot_effects import bot_effects
    from orchestration.lib.warehouse import writer_lock

    with open_marts(workspace.require()) as con:
        chosen = find_account(con, account)["account_id"] if account is not None else None
    with writer_lock(workspace, wait_seconds=60):
        found = bot_effects(workspace, say=lambda text: click.echo(text, err=True))
    out = screens.console()
    if chosen is not None:
        _show_one(out, [effect for effect in found.accounts if effect.account_id == chosen])
        return
    touchpoints = sum(effect.touchpoint_count for effect in found.accounts)
    changed = [effect for effect in found.accounts if effect.change]
    moved = sum(effect.counted_cell != effect.with_bots_cell for effect in found.accounts)
    out.print(
        f"As of {found.as_of_at:%Y-%m-%d %H:%M} UTC: {touchpoints:,} touchpoints of {len(found.accounts):,} accounts are a bot's, "
        f"{found.unmatched_count:,} more of no known account; {found.scored_count:,} accounts are scored"
    )
    if not found.accounts:
        return
    out.print(
        f"Counted, they would change the points of {len(changed):,} accounts: "
        f"{sum(max(effect.change, 0) for effect in changed):,} more in all, "
        f"{sum(max(-effect.change, 0) for effect in changed):,} fewer; {moved:,} would be in another cell"
    )
    table = screens.table(
        "Engagement points", "account", "id", ">flagged", ">as it is", ">with bots", ">change", ">of fit", "cell", "recognised by"
    )  # fmt: skip
    for effect in found.accounts[:top]:
        table.add_row(
            escape(effect.account_name), escape(effect.account_id), f"{effect.touchpoint_count:,}", str(effect.counted_engagement),
            str(effect.with_bots_engagement), screens.signed(effect.with_bots_engagement - effect.counted_engagement),
            screens.signed(effect.with_bots_fit - effect.counted_fit), _cells(effect), escape(effect.reasons),
        )  # fmt: skip
    out.print(table)
    if len(found.accounts) > top:
        out.print(f"... and {len(found.accounts) - top:,} more")


def _show_one(out: Any, found: list[Any]) -> None:
    if not found:
        out.print("No touchpoint of this account was a bot's")
        return
    effect = found[0]
    out.print(
        f"[bold]{escape(effect.account_name)}[/bold] ({escape(effect.account_id)}): {effect.touchpoint_count:,} flagged touchpoints "
        f"({escape(effect.reasons)}); cell {_cells(effect)}"
    )
    table = screens.table("Points", "criterion", ">value", ">with bots", ">points", ">with bots", ">change")
    for row in effect.criteria:
        table.add_row(
            row.criterion.replace("_", " "), escape(row.counted_value or "missing"), escape(row.with_bots_value or "missing"),
            screens.signed(row.counted_points), screens.signed(row.with_bots_points),
            screens.signed(row.with_bots_points - row.counted_points),
        )  # fmt: skip
    table.add_section()
    before, after = effect.counted_engagement + effect.counted_fit, effect.with_bots_engagement + effect.with_bots_fit
    table.add_row("all criteria", "", "", str(before), str(after), screens.signed(effect.change))
    out.print(table)


def _cells(effect: Any) -> str:
    before, after = effect.counted_cell or "not scored", effect.with_bots_cell or "not scored"
    return before if before == after else f"{before} -> {after}"
