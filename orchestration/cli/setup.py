"""`scoring init`."""

from __future__ import annotations

from pathlib import Path

import click

from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import create_workspace


@click.command()
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@click.pass_obj
def init(workspace: Workspace, directory: Path | None) -> None:
    """Make a workspace with commented settings files.

    DIRECTORY is where; by default the workspace of --home. What is there already is left as it is.
    """
    if directory is not None:
        workspace = Workspace.locate(directory)
    written = create_workspace(workspace)
    click.echo(f"Workspace {workspace.home}")
    for path in written:
        click.echo(f"  wrote {path.relative_to(workspace.home)}")
    if not written:
        click.echo("  everything was there already")
    click.echo(
        f"Next: put exports under {workspace.inbox} (or say in sources.yml where they are), then: scoring refresh"
    )
