"""`scoring status`: whether everything runs, for people and for what watches over machines."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.cli.run import EXIT_BLOCKED
from orchestration.lib.job_runner import open_records, prepare_process
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace


@click.command()
@click.option(
    "--max-age",
    type=click.IntRange(1),
    metavar="MINUTES",
    help="Also end with status 1 where the marts were published longer ago than this.",
)
@click.pass_obj
def status(workspace: Workspace, max_age: int | None) -> None:
    """Show how old the marts are, how the last runs ended, what is blocked, and what the disk holds.

    Exit status: 0 all is well; 1 something is not, as said at the end; 3 a file is blocked, and all else is well.
    """
    prepare_process(workspace.require())
    from orchestration.lib.status import in_words, size, status_of

    out = screens.console()
    with open_records(workspace) as instance:
        found = status_of(workspace, instance, now=datetime.now(UTC))
    if found.published is not None:
        age = in_words(found.now - found.published.published_at)
        out.print(
            f"Snapshot {found.published.version:,}, published {found.published.published_at:%Y-%m-%d %H:%M} UTC, {age} ago; "
            f"as of {found.published.as_of_at:%Y-%m-%d %H:%M} UTC"
            + (", a moment to come" if found.published.as_of_at > found.now else "")
        )
    result = screens.table("Newest run of each job", "job", "began (UTC)", "how", ">took, s")
    for run in found.runs:
        took = "" if run.seconds is None else f"{run.seconds:,.0f}"
        result.add_row(run.job, f"{run.began_at:%Y-%m-%d %H:%M}", run.status, took)
    out.print(result if found.runs else "No job has run yet.")
    if found.failed:
        count = counted(found.failed_count, "run")
        result = screens.table(f"{count} failed in the last seven days", "job", "began (UTC)", "why")
        for run in found.failed:
            result.add_row(run.job, f"{run.began_at:%Y-%m-%d %H:%M}", escape(run.cause or "no reason is known"))
        if found.failed_count > len(found.failed):
            result.add_row("...", "", f"{found.failed_count - len(found.failed):,} more")
        out.print(result)
    result = screens.table(f"On the disk; {size(found.free_bytes)} are free", "part", ">files", ">size")
    for part in found.usage:
        result.add_row(part.part, f"{part.file_count:,}", size(part.size_bytes))
    out.print(result)
    for reason in found.passed_over:
        click.echo(
            f"Nothing was loaded of this file, and none of its name has come since (told for seven days): {reason}",
            err=True,
        )
    worries = found.worries(None if max_age is None else timedelta(minutes=max_age))
    for worry in worries:
        click.echo(f"Look at this: {worry}", err=True)
    for reason in found.blocked:
        click.echo(f"Blocked: {reason}", err=True)
    if worries:
        sys.exit(1)
    if found.blocked:
        sys.exit(EXIT_BLOCKED)
    click.echo("All is well", err=True)
