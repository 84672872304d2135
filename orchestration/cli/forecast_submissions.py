"""`scoring forecast submit`, `override`, `submissions`, `withdraw`, `targets` and `accuracy`: what people say, what they aim at, who was
closer. They are commands of the group in `forecast`, which shows the model's own numbers."""

from __future__ import annotations

import re
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any

import click
from rich.markup import escape
from rich.table import Table

from orchestration.cli import screens
from orchestration.cli.arguments import CommandWithNumbers
from orchestration.lib import forecast_submissions as said
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.pipeline_changes import period_label
from orchestration.lib.training import author
from orchestration.lib.wording import told_apart
from orchestration.lib.workspace import Workspace

#: Labels of which `accuracy` has a line.
MOST_LABELS = 40

_for = click.option(
    "--for",
    "whom",
    default="all",
    show_default=True,
    metavar="WHOM",
    help="all, owner=NAME, team=NAME or product=NAME.",
)
_note = click.option("--note", required=True, help="The reason; everybody who looks at the period will read it.")
_expires = click.option(
    "--expires", default=None, type=click.DateTime(), help="When it stops to count (UTC). Default: never."
)
_currency = click.option("--currency", default="", metavar="CODE", help="Default: the workspace's.")


@click.command(cls=CommandWithNumbers)
@click.argument("period")
@click.argument("amount")
@_for
@click.option("--kind", type=click.Choice(said.KINDS), default="commit", show_default=True, help="What is said.")
@_note
@_expires
@_currency
@click.pass_obj
def submit(
    workspace: Workspace,
    period: str,
    amount: str,
    whom: str,
    kind: str,
    note: str,
    expires: datetime | None,
    currency: str,
) -> None:
    """Say what will have been won by the end of a PERIOD (2026-07, 2026-Q3, 2026). Counts from the next refresh on.

    Example: scoring forecast submit 2026-Q3 120000 --for owner="Ada Young" --kind manager --note "without Acme"
    """
    _land(workspace, period, amount, whom, kind, note, expires, currency)


@click.command(cls=CommandWithNumbers)
@click.argument("period")
@click.argument("amount")
@_for
@_note
@_expires
@_currency
@click.pass_obj
def override(
    workspace: Workspace, period: str, amount: str, whom: str, note: str, expires: datetime | None, currency: str
) -> None:
    """Say what is to count of a PERIOD instead of the model's number, until it expires.

    The model goes on beside it: nothing is frozen.
    """
    _land(workspace, period, amount, whom, said.OVERRIDE, note, expires, currency)


def _land(
    workspace: Workspace,
    period_text: str,
    amount_text: str,
    whom: str,
    kind: str,
    note: str,
    expires: datetime | None,
    currency: str,
) -> None:
    from orchestration.lib.scorecard_settings import settings_of

    settings = settings_of(workspace.require())
    fiscal_year_start_month = settings.forecast.fiscal_year_start_month
    period = said.period_of(period_text, fiscal_year_start_month)
    with open_marts(workspace) as con:
        said.require_to_come(con, period, fiscal_year_start_month)
        subject = said.find_subject(con, whom)
    amount = _amount(amount_text)
    code = currency.strip().upper()
    if code and not (len(code) == 3 and code.isascii() and code.isalpha()):
        raise click.UsageError(f"a currency is three letters, such as EUR (value: {currency!r})")
    key = said.land_submission(
        workspace, period, subject, amount,
        kind=kind, note=note, author=author(), currency=code, expires_at=expires,
    )  # fmt: skip
    click.echo(
        f"{period.label}, {subject.name}: {_called(kind)} {amount:,.2f}{' ' + code if code else ''} from the next refresh on "
        f"(submission {key[:8]})"
    )
    if code and code != settings.currency:
        click.echo(
            f"It is converted at the rate of {code} of today. Without one (market__exchange_rates) it counts as not known, and replaces "
            "what was said before all the same."
        )


@click.command()
@click.argument("period", required=False)
@click.option("--top", default=50, show_default=True, type=click.IntRange(1), help="How many, newest first.")
@click.pass_obj
def submissions(workspace: Workspace, period: str | None, top: int) -> None:
    """Show what people said, of a PERIOD or of all, with what became of it."""
    label = period_label(period) if period else None
    out = screens.console()
    with open_marts(workspace.require()) as con:
        found = rows(
            con,
            "select * from forecast_submissions where ? is null or period_label = ? order by recorded_at desc, submission_id limit ?",
            [label, label, top],
        )
    if not found:
        of_it = f" of {label}" if label else ""
        out.print(
            f"Nobody has said anything{of_it} up to the last refresh. Do so with: scoring forecast submit PERIOD AMOUNT --note WHY"
        )
        return
    result = screens.table(
        "What people said, the newest first", "key", "period", "for", "kind", ">amount", "note", "author", "recorded",
        "status",
    )  # fmt: skip
    for row in found:
        amount = screens.money(row["amount"])
        if row["amount"] is None or row["amount"] != row["submitted_amount"]:
            amount = f"{amount or 'no rate'} ({screens.money(row['submitted_amount'])} {row['currency']})"
        status = row["status"]
        if status == "in force" and row["expires_at"] is not None:
            status = f"until {row['expires_at']:%Y-%m-%d %H:%M}"
        elif status == "withdrawn":
            status = f"withdrawn by {row['withdrawn_author']}: {row['withdrawn_note']}"
        result.add_row(
            row["submission_id"][:8], row["period_label"], escape(row["label_name"]), _called(row["kind"]), amount,
            escape(row["note"]), escape(row["author"]), f"{row['recorded_at']:%Y-%m-%d %H:%M}", escape(status),
        )  # fmt: skip
    out.print(result)


@click.command()
@click.argument("submission_id", metavar="ID")
@click.option("--note", required=True, help="The reason; it stands in the history beside what was said.")
@click.pass_obj
def withdraw(workspace: Workspace, submission_id: str, note: str) -> None:
    """Withdraw a submission or an override from the next refresh on. Its row stays in the history.

    ID is its key, or the beginning of it.
    """
    with open_marts(workspace.require()) as con:
        found = said.find_submission(con, submission_id)
    said.land_withdrawal(workspace, found, note=note, author=author())
    click.echo(
        f"{found['period_label']}, {found['label_name']}: {_called(found['kind'])} {found['submitted_amount']:,.2f} "
        f"({found['note']}) no longer counts from the next refresh on"
    )


@click.command()
@click.argument("period", required=False)
@click.option("--by", type=click.Choice(["owner", "team"]), help="One line per owner or team.")
@click.pass_obj
def targets(workspace: Workspace, period: str | None, by: str | None) -> None:
    """Show targets, what was won and what is missing: of a PERIOD, or of all that are not over.

    Coverage is what open deals promise for the period, at their whole amounts, over what is missing.
    """
    # By whom it is divided, and what they are called: two people may have one name.
    groups = {"owner": ("owner_id", "owner_name"), "team": ("coalesce(team, '(none)')",) * 2}
    label = period_label(period) if period else None
    out = screens.console()
    with open_marts(workspace.require()) as con:
        group, name = groups[by] if by else ("''", "''")
        found = rows(
            con,
            f"""
            with aimed as (
                select
                    period_type, period_start, period_label, period_status, {group} as group_id, max({name}) as name,
                    sum(target_amount) as target, sum(won_amount) as won,
                    sum(case when target_amount is not null then gap_amount end) as gap,
                    count(distinct target_source) as sources, min(target_source) as source,
                    min(covered_month_count) as months,
                    string_agg(distinct nullif(concat_ws(': ', target_author, target_note), ''), '; ' order by
                        nullif(concat_ws(': ', target_author, target_note), '')) as said
                from targets
                where case when ? is null then period_status <> 'over' and target_amount is not null else period_label = ? end
                group by period_type, period_start, period_label, period_status, {group}
            ),
            -- Months further off than the forecast goes have no row: of what is promised in them nothing is said.
            promised as (
                select periods.period_type, periods.period_start, {group} as group_id, sum(open_amount) as promised
                from (select distinct period_type, period_start, period_end from targets) as periods
                inner join pipeline_forecast as months
                    on months.period_start >= periods.period_start and months.period_start < periods.period_end
                where periods.period_end <= (select max(period_start) + interval 1 month from pipeline_forecast)
                group by all
            )
            select aimed.*, promised.promised
            from aimed left join promised using (period_type, period_start, group_id)
            order by period_type, period_start, name, group_id
            """,
            [label, label],
        )
        held = rows(con, "select min(period_start) as first, max(period_end) as last from targets")[0]
    if not found:
        where = f" of {label}; periods are known from {held['first']} to {held['last']}" if period else ""
        out.print(f"There are no targets and nothing was won{where}. Targets land as crm__targets.")
        return
    named = [by] if by else []
    names = told_apart({row["group_id"]: row["name"] for row in found})
    result = screens.table(
        "Targets", "period", *named, "status", ">target", ">won", ">attained", ">missing", ">open", ">coverage", "set as",
        "by whom and why",
    )  # fmt: skip
    for row in found:
        who = [escape(names[row["group_id"]])] if by else []
        source = "" if row["source"] is None else row["source"] if row["sources"] == 1 else "several ways"
        whole = {"quarter": 3, "year": 12}.get(row["period_type"])
        if source.startswith("sum of ") and whole and (row["months"] or 0) < whole:
            source = f"sum of {row['months']} of {whole} months"
        attained = float(row["won"]) / float(row["target"]) if row["target"] else None
        is_short = row["promised"] is not None and (row["gap"] or 0) > 0
        coverage = f"{float(row['promised']) / float(row['gap']):.1f} x" if is_short else ""
        result.add_row(
            row["period_label"], *who, row["period_status"], screens.money(row["target"]), screens.money(row["won"]),
            screens.percent(attained), screens.money(row["gap"]), screens.money(row["promised"]), coverage, source,
            escape(row["said"] or ""),
        )  # fmt: skip
    out.print(result)


@click.command()
@click.option(
    "--by", type=click.Choice(["all", *said.DIMENSIONS]), default="all", show_default=True, help="Whose numbers."
)
@click.option("--period", metavar="PERIOD", help="Only this one, e.g. 2026-07 or 2026-Q3.")
@click.pass_obj
def accuracy(workspace: Workspace, by: str, period: str | None) -> None:
    """Show who was closer: the model, simple methods, categories, submissions and overrides, of periods that are over.

    Each is compared with the model at the very same moments: 90, 30 and 7 days before the end of a period. Of a label of which nothing was
    said and nothing came, nobody was close.
    """
    out = screens.console()
    label = period_label(period) if period else None
    with open_marts(workspace.require()) as con:
        found = said.closeness(con, by, label)
        each = said.closeness(con, by, label, by_label=True) if by != "all" else []
        names = told_apart(said.names_of(con, by))
    if not found:
        out.print(f"{f'Of {label} no forecast' if label else 'No period that was forecast'} is over yet.")
        return
    for horizon in dict.fromkeys(row["horizon_days"] for row in found):
        result = screens.table(
            f"{horizon} days before the end, or a little more", "who", ">periods", ">off by (WAPE)", ">model on the same", ">bias",
            ">nobody closer",
        )  # fmt: skip
        for row in found:
            if row["horizon_days"] == horizon:
                result.add_row(
                    _called("the model" if row["method"] == "forecast" else row["method"]), str(row["periods"]),
                    *(screens.figure(row[name], 3) for name in ("wape", "model_wape")),
                    "" if row["bias"] is None else f"{row['bias']:+z.3f}", str(row["closest"]),
                )  # fmt: skip
        out.print(result)
        if each:
            out.print(_of_each([row for row in each if row["horizon_days"] == horizon], by, names))


def _of_each(found: list[dict[str, Any]], by: str, names: dict[str, str]) -> Table:
    """How far off each source was, a line per label, those of which most was won first."""
    methods = sorted(
        {row["method"] for row in found} - {"forecast"}, key=lambda name: (not name.startswith("subm"), name)
    )
    won: dict[str, Any] = {}
    cells: dict[tuple[str, str], str] = {}
    for row in found:
        # The model speaks of every period, the others of some.
        won[row["label"]] = max(won.get(row["label"], 0), row["actual_amount"])
        cells[row["label"], row["method"]] = screens.figure(row["wape"], 3) or "nothing won"
    ordered = sorted(won, key=lambda label: (-won[label], label))
    shown = ordered[:MOST_LABELS]
    title = f"Off by (WAPE) by {by}" + (
        f": the {len(shown)} with most won of {len(ordered)}" if shown != ordered else ""
    )
    result = screens.table(title, by, ">won", ">the model", *(f">{_called(method)}" for method in methods))
    for label in shown:
        figures = (cells.get((label, method), "") for method in ("forecast", *methods))
        result.add_row(escape(names.get(label, label)), screens.money(won[label]), *figures)
    return result


def _amount(text: str) -> Decimal:
    # A comma divides thousands and nothing else: 1234,56 is no hundredfold of itself.
    plain = re.sub(r"(?<=\d)[,_](?=\d{3}(?!\d))", "", text.strip())
    try:
        if "," in plain:
            raise InvalidOperation
        return Decimal(plain)
    except InvalidOperation:
        raise UserError(f"an amount is a number such as 120000, 120,000 or 120000.50 (value: {text!r})") from None


def _called(kind: str) -> str:
    return {"manager": "manager's number"}.get(kind, kind.replace("_", " "))


COMMANDS: tuple[Any, ...] = (submit, override, submissions, withdraw, targets, accuracy)
