"""`scoring demo` and `generate`: a made-up company with planted weights, to see and to test the whole line on."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime

import click

from orchestration.cli.run import finish
from orchestration.cli.show import print_report
from orchestration.lib.demo_company import (
    DEFAULT_ACCOUNTS,
    DEFAULT_EVENTS_PER_ACCOUNT,
    DEFAULT_MONTHS,
    DEFAULT_SEED,
    TRUTH_FILE,
    DemoSummary,
)
from orchestration.lib.demo_company import generate as generate_company
from orchestration.lib.errors import UserError
from orchestration.lib.job_runner import run_job
from orchestration.lib.landing import landing_file
from orchestration.lib.run_records import FORECAST
from orchestration.lib.warehouse import writer_lock
from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import TEMPLATES, create_workspace

_accounts = click.option(
    "--accounts", default=DEFAULT_ACCOUNTS, show_default=True, type=click.IntRange(1), help="Companies."
)
_events = click.option(
    "--events",
    default=None,
    type=click.IntRange(0),
    help=f"Touchpoints, about. Default: {DEFAULT_EVENTS_PER_ACCOUNT} per account.",
)
_months = click.option(
    "--months",
    default=DEFAULT_MONTHS,
    show_default=True,
    type=click.IntRange(1),
    help="Length of the history.",
)
_seed = click.option("--seed", default=DEFAULT_SEED, show_default=True, type=int, help="The only source of chance.")
_until = click.option(
    "--until",
    default=None,
    type=click.DateTime(["%Y-%m-%d"]),
    help="The day before whose midnight (UTC) the history ends. Default: today.",
)


def land_company(
    workspace: Workspace,
    *,
    accounts: int,
    events: int | None,
    months: int,
    seed: int,
    until: date,
    quiet: bool = False,
) -> DemoSummary:
    """Generate a company into the landing zone of a workspace, which is made if need be."""
    if workspace.landing.is_dir() and any(workspace.landing.rglob("*")) and not (workspace.home / TRUTH_FILE).exists():
        raise UserError(f"{workspace.home} already holds landed records that are not a demo's: choose another --home")
    create_workspace(workspace, extra_criteria=(TEMPLATES / "demo_criteria.yml").read_text(encoding="utf-8"))

    def progress(done: int, total: int) -> None:
        if not quiet and sys.stderr.isatty():
            click.echo(f"\r  {done:,} of {total:,} accounts", nl=done == total, err=True)

    with writer_lock(workspace, wait_seconds=60):
        return generate_company(
            lambda table, name: landing_file(workspace, table, name),
            accounts=accounts,
            events=events,
            months=months,
            seed=seed,
            until=until,
            truth_directory=workspace.home,
            progress=progress,
        )


def _end(until: datetime | None) -> date:
    return until.date() if until else datetime.now(UTC).date()


@click.command()
@_accounts
@_events
@_months
@_seed
@_until
@click.pass_obj
def generate(
    workspace: Workspace, accounts: int, events: int | None, months: int, seed: int, until: datetime | None
) -> None:
    """Land a demo company's data, of any size, in the workspace. The weights that decide its deals are in
    demo_truth.json."""
    summary = land_company(workspace, accounts=accounts, events=events, months=months, seed=seed, until=_end(until))
    for table, count in sorted(summary.row_counts.items()):
        click.echo(f"  {table:32} {count:>13,} rows in {summary.file_counts[table]} files")
    click.echo(
        f"{summary.closed_count:,} closed deals, {summary.win_rate:.1%} won. Next: scoring --home {workspace.home} refresh"
    )


@click.command()
@_accounts
@_events
@_months
@_seed
@_until
@click.pass_obj
def demo(
    workspace: Workspace, accounts: int, events: int | None, months: int, seed: int, until: datetime | None
) -> None:
    """Make a demo company, score it, and show what came out.

    Runs the same jobs as production: land, check contracts, transform, fit, score, forecast, publish.
    """
    end = _end(until)
    click.echo(
        f"Workspace {workspace.home}: a company of {accounts:,} accounts with {months} months of history until {end}",
        err=True,
    )
    summary = land_company(workspace, accounts=accounts, events=events, months=months, seed=seed, until=end)
    click.echo(f"Landed {sum(summary.row_counts.values()):,} records of {len(summary.row_counts)} tables", err=True)
    outcome = run_job(workspace, FORECAST, config={"scoring_settings": {"as_of": end.isoformat()}})
    finish(outcome)
    click.echo()
    print_report(workspace, 10)
    command = "scoring" if workspace == Workspace.locate() else f"scoring --home {workspace.home}"
    click.echo(f"  {command} explain ACCOUNT   shows every point of an account")
    click.echo(f"  {command} serve             runs all of this every five minutes, with a page")
