"""The top of the command line: global options, the list of commands, and how errors look."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from typing import Any

import click

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import DEFAULT_HOME, HOME_VARIABLE, Workspace

#: Command -> (module, its one-line help). The help stands here so that --help imports nothing else.
COMMANDS = {
    "init": ("orchestration.cli.setup", "Make a workspace with commented settings files."),
    "demo": ("orchestration.cli.demo", "Make a demo company, score it, and show what came out."),
    "generate": ("orchestration.cli.demo", "Land a demo company's data, of any size, in the workspace."),
    "refresh": ("orchestration.cli.run", "Load what is new, score every account, publish."),
    "fit": ("orchestration.cli.run", "Fit a new scorecard version, then refresh."),
    "weights": ("orchestration.cli.weights", "List, compare, tune, preview and activate scorecard versions."),
    "serve": ("orchestration.cli.run", "Run the web page and the schedules on this machine."),
    "status": ("orchestration.cli.status", "Show whether everything runs: age, runs, blocked files, disk."),
    "report": ("orchestration.cli.show", "Show the top accounts, the matrix and the forecast."),
    "forecast": (
        "orchestration.cli.forecast",
        "Show what will be won, how sure that is, what people say and who was closer.",
    ),
    "explain": ("orchestration.cli.show", "Show every point of one account and its evidence."),
    "changes": ("orchestration.cli.history", "Show what changed since a day, by criterion, with the reason."),
    "history": ("orchestration.cli.history", "Show how an account was scored on past days."),
    "pipeline": ("orchestration.cli.pipeline", "Show what changed in the open pipeline, and which deals are at risk."),
    "handoffs": ("orchestration.cli.handoffs", "List the accounts handed over to sales, with follow-up and feedback."),
    "handoff": ("orchestration.cli.handoffs", "Accept an account handed over to sales, or send it back."),
    "segments": ("orchestration.cli.segments", "List saved segments, their members and changes; export them."),
    "bots": ("orchestration.cli.bots", "Show how many points accounts would have if bots counted."),
    "sql": ("orchestration.cli.show", "Query the published marts."),
    "loads": ("orchestration.cli.show", "Show what became of every file, and the rows in quarantine."),
    "adjust": ("orchestration.cli.adjust", "Add, subtract or set points of an account or contact, with a reason."),
    "adjustments": ("orchestration.cli.adjust", "Show the ledger of an account, or take an operation back."),
    "rules": ("orchestration.cli.rules", "List, test and preview the rules that give points."),
    "benchmark": ("orchestration.cli.benchmark", "Measure time and memory against one hand-written script."),
}


class _Commands(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[cmd_name][0]), cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except UserError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(1)


@click.command(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option(
    "--home",
    type=click.Path(path_type=Path),
    help=f"The workspace. Default: the environment variable {HOME_VARIABLE}, else ./{DEFAULT_HOME}",
)
@click.version_option(package_name="account-scoring")
@click.pass_context
def main(ctx: click.Context, home: Path | None) -> None:
    """Account scoring in your own warehouse: points that anyone can explain, and a forecast beside the targets."""
    # Before any tool is imported: none of them may call home.
    from orchestration.lib.job_runner import TELEMETRY_OFF, collect_garbage_rarely

    collect_garbage_rarely()
    os.environ.update(TELEMETRY_OFF)
    ctx.obj = Workspace.locate(home)
