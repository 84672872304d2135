"""`scoring rules`: which rules there are, for whom they hold and what they would do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.condition_files import condition_files
from orchestration.lib.conditions import contact_catalogue
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import find_account, find_contact, open_marts, rows
from orchestration.lib.rules import DaysApart, Rule, read_rule, read_rules, rule_catalogue
from orchestration.lib.segments import segment_catalogue
from orchestration.lib.warehouse import writer_lock
from orchestration.lib.workspace import Workspace

MOST_SHOWN = 20


@click.group()
def rules() -> None:
    """List, test and preview rules. They stand in the folder rules of the workspace and run at every refresh."""


@rules.command("list")
@click.pass_obj
def list_rules(workspace: Workspace) -> None:
    """Show all rules, what they have done, and what is wrong with those that are refused."""
    out = screens.console()
    found, refused = read_rules(workspace.require(), segment_catalogue(workspace))
    done = _done(workspace)
    if found:
        table = screens.table("Rules", "rule", "title", "does", "how often", "effective", ">fired", ">points", "last")
        for rule in found:
            said, did = rule.definition, done.get(rule.rule_id, {})
            table.add_row(
                escape(rule.rule_id), escape(said.title), f"{said.operation} {said.points} to each {said.subject}",
                _how_often(rule), _effective(rule),
                str(did.get("fired", 0)), str(did.get("points", 0)),
                f"{did['last_at']:%Y-%m-%d %H:%M}" if did.get("last_at") else "never",
            )  # fmt: skip
        out.print(table)
    elif not refused:
        out.print(f"There are no rules yet. {escape(str(workspace.rules / 'example.yml'))} shows how they are written.")
    screens.show_refusals(out, refused)


@rules.command("fields")
@click.pass_obj
def list_fields(workspace: Workspace) -> None:
    """Show all fields that conditions can ask, with their operators."""
    out = screens.console()
    table = screens.table("Fields of conditions", "field", "type", "operators", "values")
    for row in contact_catalogue(rule_catalogue()).describe():
        values = ", ".join(row["values"][:8]) + (", ..." if len(row["values"]) > 8 else "")
        table.add_row(row["name"], row["type"], escape(" ".join(row["operators"])), escape(values))
    table.add_row("touchpoints.<signal>", "signal", "happened notHappened", "days, or {within_days: N, at_least: K}")
    table.add_row("segment", "saved condition", "= != in notIn", "")
    table.add_row("custom.<column>", "text or a number", "all", "")
    out.print(table)
    out.print(
        "In a rule with `subject: contact`, contact.<field> is the person's own, touchpoints are the person's, and all else is of "
        "the person's account. Other rules have no contact.<field>."
    )


@rules.command("test")
@click.argument("rule")
@click.option("--account", default=None, help="Id or name. Without it: for how many accounts the rule holds.")
@click.option("--contact", default=None, metavar="ID", help="The same for a rule with `subject: contact`.")
@click.pass_obj
def test_rule(workspace: Workspace, rule: str, account: str | None, contact: str | None) -> None:
    """Show whether a rule holds for an account or contact, and which part of it does not.

    RULE is its name, or the path of a file.
    """
    from orchestration.lib.rule_trials import check_parts, preview_rule

    found = _find(workspace.require(), rule)
    out = screens.console()
    kind = found.definition.subject
    if {"account": contact, "contact": account}[kind] is not None:
        raise UserError(f"rule {found.rule_id} gives its points to {kind}s: test it with --{kind}")
    if account is None and contact is None:
        with writer_lock(workspace, wait_seconds=60):
            trial = preview_rule(workspace, found)
        out.print(
            f"{escape(found.definition.title)}: holds for {trial.matched:,} of {trial.looked_at:,} {kind}s "
            f"as of {trial.as_of_at:%Y-%m-%d %H:%M} UTC"
        )
        return
    with open_marts(workspace) as con:
        subject = find_account(con, account) if account is not None else find_contact(con, contact or "")
    with writer_lock(workspace, wait_seconds=60):
        as_of_at, matched, parts = check_parts(workspace, found, subject[f"{kind}_id"])
    verdict = "holds" if matched else "does not hold"
    events = f" ({matched:,} events)" if found.event is not None and matched else ""
    out.print(
        f"[bold]{escape(found.definition.title)}[/bold] {verdict} for {escape(subject[f'{kind}_name'] or subject[f'{kind}_id'])}{events}, "
        f"as of {as_of_at:%Y-%m-%d %H:%M} UTC"
    )
    for part in parts:
        out.print(f"{'  ' * part.depth}{'yes' if part.holds else 'NO '}  {escape(part.text)}", soft_wrap=True)


@rules.command()
@click.argument("rule")
@click.pass_obj
def preview(workspace: Workspace, rule: str) -> None:
    """Show who would gain or lose what if a rule ran now. Nothing is kept.

    RULE is its name, or the path of a file.
    """
    from orchestration.lib.rule_trials import preview_rule

    found = _find(workspace.require(), rule)
    kind = found.definition.subject
    out = screens.console()
    with writer_lock(workspace, wait_seconds=60):
        trial = preview_rule(workspace, found)
    changes = [effect.after_points - effect.before_points for effect in trial.effects]
    out.print(
        f"[bold]{escape(found.definition.title)}[/bold] as of {trial.as_of_at:%Y-%m-%d %H:%M} UTC: holds for {trial.matched:,} of "
        f"{trial.looked_at:,} {kind}s; {sum(c > 0 for c in changes):,} would gain {sum(c for c in changes if c > 0):,} points, "
        f"{sum(c < 0 for c in changes):,} would lose {-sum(c for c in changes if c < 0):,}"
    )
    if found.event is not None and found.definition.effective == "now":
        out.print(
            "Its events count from the first refresh that sees it; `effective: always`, or {from: DATE}, also takes earlier ones."
        )
    if not trial.effects:
        return
    table = screens.table(
        f"{kind.capitalize()}s", kind, "id", ">fires", ">taken back", "first at", ">balance now", ">then", ">change"
    )
    for effect in trial.effects[:MOST_SHOWN]:
        table.add_row(
            escape(effect.name), escape(effect.subject_id), str(effect.firing_count), str(effect.void_count),
            f"{effect.first_at:%Y-%m-%d %H:%M}", str(effect.before_points), str(effect.after_points),
            screens.signed(effect.after_points - effect.before_points),
        )  # fmt: skip
    out.print(table)
    if len(trial.effects) > MOST_SHOWN:
        out.print(f"... and {len(trial.effects) - MOST_SHOWN:,} more")


def _find(workspace: Workspace, name: str) -> Rule:
    catalogue = segment_catalogue(workspace)
    path = Path(name)
    if path.suffix not in (".yml", ".yaml"):
        path = workspace.rules / f"{name}.yml"
        if not path.is_file():
            known = ", ".join(file.stem for file in condition_files(workspace.rules)) or "none"
            raise UserError(f"there is no rule {name!r} in {workspace.rules}; there are: {known}")
    rule = read_rule(path, catalogue)
    if rule is None:
        raise UserError(f"{path} is a comment from end to end: it is no rule")
    return rule


def _how_often(rule: Rule) -> str:
    said = rule.definition
    often = (
        f"at most once in {said.how_often.once_per_days} days"
        if isinstance(said.how_often, DaysApart)
        else said.how_often.replace("_", " ")
    )
    return often + (f", at most {said.cap} points" if said.cap is not None else "")


def _effective(rule: Rule) -> str:
    said = rule.definition.effective
    return said if isinstance(said, str) else f"from {said.since:%Y-%m-%d}"


def _done(workspace: Workspace) -> dict[str, Any]:
    """What each rule has done, as published; nothing before the first refresh."""
    if not workspace.published.exists():
        return {}
    with open_marts(workspace) as con:
        found = rows(
            con,
            "select rule_id, count(*) as fired, sum(points_applied) as points, max(occurred_at) as last_at from score_ledger "
            "where rule_id is not null and operation <> 'void' group by rule_id",
        )
    return {row["rule_id"]: row for row in found}
