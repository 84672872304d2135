"""`scoring pipeline risks`: what may keep open deals from being won, and what each sign has meant before. What a risk is, dbt says."""

from __future__ import annotations

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.forecast_submissions import find_subject
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.workspace import Workspace

RISKS = ("stuck", "overdue", "no_activity", "single_threaded", "pushed_often")


@click.command()
@click.option("--owner", help="Deals of this user only: the id or the name.")
@click.option("--risk", type=click.Choice(RISKS), help="This risk only.")
@click.option("--top", default=30, show_default=True, type=click.IntRange(1, 10_000), help="How many deals.")
@click.pass_obj
def risks(workspace: Workspace, owner: str | None, risk: str | None, top: int) -> None:
    """List open deals with signs of danger, the largest first, and how often past deals with each sign were won.

    A sign is no proof that it is the cause: a deal may be stuck because it is lost.
    """
    out = screens.console()
    with open_marts(workspace.require()) as con:
        owner_id = find_subject(con, f"owner={owner}").label if owner else None
        chosen = "(? is null or owner_id = ?) and (? is null or risk = ?)"
        parameters = [owner_id, owner_id, risk, risk]
        # What a risk has meant is a property of the risk, so that any of its rows says it.
        measured = rows(
            con,
            f"""
            select
                risk, count(*) as deals, sum(amount) as amount,
                any_value(effect) as effect,
                any_value(win_rate_with) as win_rate_with, any_value(win_rate_with_low) as with_low,
                any_value(win_rate_with_high) as with_high, any_value(deal_count_with) as deals_with,
                any_value(win_rate_without) as win_rate_without, any_value(win_rate_without_low) as without_low,
                any_value(win_rate_without_high) as without_high, any_value(deal_count_without) as deals_without
            from deal_risks where {chosen} group by risk order by deals desc, risk
            """,
            parameters,
        )
        listed = rows(
            con,
            f"""
            select
                opportunity_id, any_value(opportunity_name) as opportunity_name, any_value(account_name) as account_name,
                any_value(owner_name) as owner_name, any_value(stage) as stage, any_value(amount) as amount,
                any_value(expected_close_date) as expected_close_date,
                list(risk || ' (' || found_value || ', limit ' || limit_value || ')' order by risk) as found
            from deal_risks where {chosen} group by opportunity_id
            order by amount desc nulls last, count(*) desc, opportunity_id limit ?
            """,
            [*parameters, top],
        )
    if not listed:
        out.print("No open deal has a sign of danger.")
        return
    effects = screens.table(
        "What each sign has meant", "risk", ">open deals", ">amount", "past deals with it", ">won with it", ">90 % interval",
        ">won without it", ">90 % interval",
    )  # fmt: skip
    for row in measured:
        effects.add_row(
            row["risk"].replace("_", " "), f"{row['deals']:,}", screens.money(row["amount"]), row["effect"],
            *_rate(row["win_rate_with"], row["with_low"], row["with_high"], row["deals_with"]),
            *_rate(row["win_rate_without"], row["without_low"], row["without_high"], row["deals_without"]),
        )  # fmt: skip
    out.print(effects)
    result = screens.table(
        "Open deals, the largest first", "deal", "account", "owner", "stage", ">amount", "promised", "risks"
    )
    for row in listed:
        result.add_row(
            escape(row["opportunity_name"] or row["opportunity_id"]), escape(row["account_name"] or ""), escape(row["owner_name"]),
            escape(row["stage"] or ""), screens.money(row["amount"]), f"{row['expected_close_date'] or ''}",
            escape("\n".join(row["found"]).replace("_", " ")),
        )  # fmt: skip
    out.print(result)


def _rate(rate: float | None, low: float | None, high: float | None, deals: int) -> tuple[str, str]:
    if rate is None:
        return "no past deal", ""
    return f"{screens.percent(rate)} of {deals:,}", f"{screens.percent(low)[:-2]}-{screens.percent(high)}"
