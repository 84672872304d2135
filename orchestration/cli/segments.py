"""`scoring segments`: saved conditions, their members, and what leaves for other systems. The work is in `orchestration.lib.segments`."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.markup import escape

from orchestration.cli import screens
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import duckdb


@click.group()
def segments() -> None:
    """Saved conditions over accounts: who is in them, who entered and left, files for a CRM or mail tool."""


@segments.command("list")
@click.pass_obj
def list_segments(workspace: Workspace) -> None:
    """All segments with their conditions in words; refused files with the reason."""
    from orchestration.lib.segments import described, read_segments, segment_catalogue

    workspace = workspace.require()
    found, refused = read_segments(workspace, segment_catalogue(workspace))
    with open_marts(workspace) as con:
        counted = {
            row["segment"]: row["member_count"] for row in rows(con, "select segment, member_count from segments")
        }
    out = screens.console()
    table = screens.table("Segments", "segment", "title", ">accounts", "ranked by", ">most", "condition")
    for row in described(found):
        count = counted.get(row["segment"])
        table.add_row(
            escape(row["segment"]),
            escape(row["title"]),
            "from the next refresh on" if count is None else f"{count:,}",
            row["rank_by"].replace("_", " "),
            "" if row["most"] is None else f"{row['most']:,}",
            escape(row["condition"]),
        )
    out.print(table)
    screens.show_refusals(out, refused)
    if not found and not refused:
        out.print(f"No segments yet. {workspace.segments / 'example.yml'} shows how to write one.")


@segments.command()
@click.argument("name")
@click.option("--top", default=20, show_default=True, type=click.IntRange(1, 100_000))
@click.pass_obj
def members(workspace: Workspace, name: str, top: int) -> None:
    """The accounts in a segment, best first, as of the last refresh."""
    with open_marts(workspace.require()) as con:
        _known(con, name)
        found = rows(con, "select * from segment_members where segment = ? order by rank_no limit ?", [name, top])
        count = rows(con, "select count(*) as n from segment_members where segment = ?", [name])[0]["n"]
    out = screens.console()
    table = screens.table(
        f"{name}: {counted(count, 'account')}", ">rank", "account", "cell", "next action", ">points", ">win probability",
        ">expected value", "in it since",
    )  # fmt: skip
    for row in found:
        table.add_row(
            str(row["rank_no"]),
            escape(row["account_name"] or row["account_id"]),
            row["cell"] or "",
            row["next_action"] or "",
            "" if row["total_points"] is None else str(row["total_points"]),
            screens.percent(row["win_probability"]),
            screens.money(row["expected_value"]),
            "" if row["member_since_at"] is None else f"{row['member_since_at']:%Y-%m-%d %H:%M}",
        )
    out.print(table)


@segments.command()
@click.argument("name", required=False)
@click.option("--since", type=click.DateTime(), default=None, help="Only changes at or after this moment (UTC).")
@click.option("--top", default=50, show_default=True, type=click.IntRange(1, 100_000))
@click.pass_obj
def changes(workspace: Workspace, name: str | None, since: datetime | None, top: int) -> None:
    """Who entered and who left, newest first, and whether the account or the segment changed."""
    with open_marts(workspace.require()) as con:
        if name is not None:
            _known(con, name)
        found = rows(
            con,
            """
            select changes.*, accounts.account_name
            from segment_changes as changes left join scored_accounts as accounts using (account_id)
            where (? is null or changes.segment = ?) and (? is null or changes.changed_at >= ?)
            order by changes.changed_at desc, changes.segment, changes.change, changes.account_id limit ?
            """,
            [name, name, since, since, top],
        )
    out = screens.console()
    table = screens.table("Changes", "at (UTC)", "segment", "account", "change", "because")
    for row in found:
        table.add_row(
            f"{row['changed_at']:%Y-%m-%d %H:%M}",
            escape(row["segment"]),
            escape(row["account_name"] or row["account_id"]),
            row["change"],
            row["reason"],
        )
    out.print(table)


@segments.command("export")
@click.argument("name")
@click.option("--format", "form", type=click.Choice(["csv", "parquet", "json"]), default="csv", show_default=True)
@click.option(
    "--to", "path", type=click.Path(dir_okay=False, path_type=Path), default=None, help="Default: NAME.FORMAT"
)
@click.option(
    "--consumer",
    default=None,
    help="Only what changed since this consumer confirmed last. Confirm with: scoring segments confirm.",
)
@click.pass_obj
def export_members(workspace: Workspace, name: str, form: str, path: Path | None, consumer: str | None) -> None:
    """Write the members of a segment to a file; with --consumer, what is new for it."""
    from orchestration.lib import segments as lib

    workspace = workspace.require()
    path = path or Path(f"{name}.{form}")
    if not path.absolute().parent.is_dir():
        raise UserError(f"--to: there is no folder {path.absolute().parent} (value: {str(path)!r})")
    with open_marts(workspace) as con:
        now = lib.members(con, name)
    if consumer is None:
        lib.write_rows(now, path, form)
        click.echo(f"{counted(now.num_rows, 'account')} of {name} written to {path}")
        return
    found = lib.feed(workspace, consumer, name, now)
    lib.write_rows(found.rows, path, form)
    changes = "change" if found.rows.num_rows == 1 else "changes"
    click.echo(f"{found.rows.num_rows:,} {changes} of {name} for {consumer} written to {path}")
    click.echo(f"When {consumer} has them: scoring segments confirm {name} --consumer {consumer} {found.feed_id}")


@segments.command()
@click.argument("name")
@click.argument("feed_id")
@click.option("--consumer", required=True)
@click.pass_obj
def confirm(workspace: Workspace, name: str, feed_id: str, consumer: str) -> None:
    """Say that a consumer has what an export wrote: the next one starts from there."""
    from orchestration.lib import segments as lib

    lib.confirm(workspace.require(), consumer, name, feed_id)
    click.echo(f"{consumer} has {name} up to {feed_id}")


def _known(con: duckdb.DuckDBPyConnection, name: str) -> None:
    known: list[Any] = [row["segment"] for row in rows(con, "select segment from segments order by 1")]
    if name not in known:
        raise UserError(
            f"there is no segment {name!r} in the published tables; there is {', '.join(known) or 'none'}: "
            f"write segments/{name}.yml and refresh"
        )
