"""`scoring refresh`, `fit` and `serve`: the jobs in the foreground, and the server that runs them unattended."""

from __future__ import annotations

import sys
from typing import Any

import click

from orchestration.lib.errors import UserError
from orchestration.lib.job_runner import JobOutcome, prepare_process, run_job
from orchestration.lib.moments import parse_moment
from orchestration.lib.run_records import FIT, REFRESH
from orchestration.lib.workspace import Workspace

#: The marts are new, but a file broke its contract and its table kept its last good rows, or a rule or segment was refused.
EXIT_BLOCKED = 3


def finish(outcome: JobOutcome, *, quiet: bool = False) -> None:
    """Say how a run ended, or only what went wrong; exit with 1 when nothing was published, with 3 when a file was refused."""
    for error in outcome.errors:
        click.echo(f"Error: {error}", err=True)
    if not outcome.success:
        click.echo(
            f"Failed after {outcome.seconds:.0f} s; the published marts are as they were. Run {outcome.run_id}",
            err=True,
        )
        sys.exit(1)
    for reason in outcome.blocked:
        click.echo(f"Blocked: {reason}", err=True)
    if not quiet:
        click.echo(f"Done in {outcome.seconds:.0f} s", err=True)
    if outcome.blocked:
        sys.exit(EXIT_BLOCKED)


def _config(as_of: str, full: bool) -> dict[str, Any]:
    return {"scoring_settings": {"as_of": as_of}, "raw_tables": {"full": full}}


def _checked(context: click.Context, parameter: click.Parameter, text: str) -> str:
    """The moment as it was written. Looked at here, because `--full` deletes before anything else looks at it."""
    if text:
        try:
            parse_moment(text)
        except UserError as error:
            raise click.BadParameter(str(error), context, parameter) from None
    return text


as_of_option = click.option(
    "--as-of",
    default="",
    metavar="MOMENT",
    callback=_checked,
    help="See everything as of this ISO moment (UTC). Default: now.",
)
_full = click.option("--full", is_flag=True, help="Delete the warehouse and load the whole landing zone again.")
_quiet = click.option("--quiet", is_flag=True, help="Print errors only.")


@click.command()
@as_of_option
@_full
@_quiet
@click.pass_obj
def refresh(workspace: Workspace, as_of: str, full: bool, quiet: bool) -> None:
    """Load what is new, score every account, publish.

    Exit status: 0 published; 1 failed, and the marts are as they were; 3 published, but a file was refused.
    """
    finish(run_job(workspace.require(), REFRESH, config=_config(as_of, full), quiet=quiet), quiet=quiet)


@click.command()
@as_of_option
@click.option("--activate", is_flag=True, help="Score with the new version at once. Without it, it stays a draft.")
@click.option("--note", default="", help="Why the version was made; required with --activate.")
@_quiet
@click.pass_obj
def fit(workspace: Workspace, as_of: str, activate: bool, note: str, quiet: bool) -> None:
    """Fit a new scorecard version on the closed deals, then refresh."""
    if activate and not note.strip():
        raise click.UsageError("--activate needs --note: say why this version is to score from now on")
    config = {
        **_config(as_of, False),
        "fitted_scorecard": {"mode": "activate" if activate else "draft", "note": note or "fit by hand"},
    }
    finish(run_job(workspace.require(), FIT, config=config, quiet=quiet), quiet=quiet)


@click.command()
@click.option("--port", default=3000, show_default=True, type=click.IntRange(1, 65535))
@click.pass_obj
def serve(workspace: Workspace, port: int) -> None:
    """Run the web page and the schedules: a refresh every five minutes, a fit every Monday, a forecast record every
    day.

    Listens on this machine only (127.0.0.1). Stop it with Ctrl-C.
    """
    from orchestration.lib.server import serve_until_stopped

    prepare_process(workspace.require())
    sys.exit(serve_until_stopped(workspace, port, say=click.echo))
