"""Publishes the marts: a new read-only folder per refresh, then one atomic swap of the link that readers
follow. The file is written anew, or copied from the snapshot before and changed where the marts have.

Nothing here knows what is in the marts. Why folders and a link, and not a file renamed over another:
`docs/decisions.md`.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from orchestration.lib.documents import sync_directory
from orchestration.lib.warehouse import quoted, tables_with_gaps
from orchestration.lib.workspace import Workspace

#: Read by every DuckDB from 1.0.0 on.
STORAGE_VERSION = "v1.0.0"
FILE_NAME = "scoring.duckdb"
#: What readers look up, the most selective first; a mart is sorted by those of them that it has.
_READING_ORDER = (
    "account_id",
    "contact_id",
    "opportunity_id",
    "from_date",
    "change_date",
    "record_date",
    "kind",
    "criterion",
    "band_no",
    "period_start",
    "owner_id",
    "points_from",
    "cell",
    "source_table",
    "arrived_at",
    "file_name",
)
_VERSION = re.compile(r"^v(\d{8})$")


@dataclass(frozen=True)
class Publication:
    """One published snapshot."""

    version: int
    file: Path
    row_counts: dict[str, int]


@dataclass(frozen=True)
class MartChange:
    """How a mart differs from what the snapshot before says.

    Attributes
    ----------
    key : column by whose values rows are replaced; "" = all of them
    rows : table with the values of the key whose rows differ; "" = none do
    overwrite : statements that bring columns up to date which change in every row; `{target}` stands for the table
    """

    key: str = ""
    rows: str = ""
    overwrite: tuple[str, ...] = ()


def published_versions(workspace: Workspace) -> list[int]:
    """Numbers of the snapshots that are kept, oldest first."""
    if not workspace.marts.is_dir():
        return []
    matches = (_VERSION.match(path.name) for path in workspace.marts.iterdir())
    return sorted(int(match[1]) for match in matches if match)


def current_version(workspace: Workspace) -> int | None:
    """The snapshot that readers see, or None before the first refresh."""
    try:
        return int(os.readlink(workspace.marts / "current").lstrip("v"))
    except FileNotFoundError:
        return None


def publish(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    *,
    as_of_at: datetime,
    keep: int,
    tables: Collection[str] | None = None,
    changes: Mapping[str, MartChange] | None = None,
    since: int | None = None,
) -> Publication:
    """Copy the schema `marts` of the warehouse into a new snapshot and make it the current one.

    Parameters
    ----------
    con : connection to the warehouse
    as_of_at : the moment that the marts describe, naive UTC
    keep : how many snapshots stay, the new one included; at least 2, as a reader may be opening the last
    tables : the marts to publish; None for every table of the schema, also one that no model makes any more
    changes : mart -> how it differs from the snapshot `since`; one that is not named does not. None writes all of them anew
    since : the snapshot that the changes follow; where it is no longer the current one, all marts are written anew

    Raises
    ------
    ValueError
        `keep` is less than 2.
    RuntimeError
        A mart is missing, or the copy does not have the warehouse's rows; the current snapshot stays.
    """
    if keep < 2:
        raise ValueError(
            f"keep must be at least 2, so that the snapshot before the new one stays readable (value: {keep})"
        )
    workspace.marts.mkdir(parents=True, exist_ok=True)
    _remove_leftovers(workspace)
    version = max(published_versions(workspace), default=0) + 1
    building = workspace.marts / f".building-{os.getpid()}"
    building.mkdir()
    try:
        file = building / FILE_NAME
        if changes is not None and since is not None and since == current_version(workspace):
            shutil.copyfile(workspace.marts / f"v{since:08d}" / FILE_NAME, file)
            counts = _write(con, file, version, as_of_at, tables, changes)
        else:
            counts = _write(con, file, version, as_of_at, tables, None)
        _check(file, version, counts)

        file.chmod(0o444)
        _sync_file(file)
        building.chmod(0o555)
        sync_directory(building)
        folder = workspace.marts / f"v{version:08d}"
        building.rename(folder)
    except BaseException:
        # A full disk must not stay full for what nobody can read.
        _remove_folder(building)
        raise
    link = workspace.marts / f".current-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    os.replace(link, workspace.marts / "current")
    sync_directory(workspace.marts)
    for old in published_versions(workspace)[:-keep]:
        _remove_folder(workspace.marts / f"v{old:08d}")
    return Publication(version, folder / FILE_NAME, counts)


def _write(
    con: duckdb.DuckDBPyConnection,
    file: Path,
    version: int,
    as_of_at: datetime,
    wanted: Collection[str] | None,
    changes: Mapping[str, MartChange] | None,
) -> dict[str, int]:
    there = [
        name
        for (name,) in con.execute(
            "select table_name from duckdb_tables() where database_name = current_database() "
            "and schema_name = 'marts' and not temporary order by table_name"
        ).fetchall()
    ]
    tables = there if wanted is None else sorted(wanted)
    missing = sorted(set(tables) - set(there))
    if missing:
        raise RuntimeError(
            f"snapshot {version}: the warehouse lacks the mart {', '.join(missing)}; the current snapshot stays"
        )
    escaped = str(file).replace("'", "''")
    con.execute(f"attach '{escaped}' as publication (storage_version '{STORAGE_VERSION}')")
    try:
        con.execute("create schema if not exists publication.marts")
        published = {
            name
            for (name,) in con.execute(
                "select table_name from duckdb_tables() where database_name = 'publication'"
            ).fetchall()
        }
        for name in sorted(published - {*tables, "publication"}):
            con.execute(f'drop table publication.marts."{name}"')
        anew = [
            name
            for name in tables
            if changes is None or name not in published or (name in changes and not changes[name].key)
        ]
        _write_anew(con, anew)
        for name in sorted({*tables} & {*(changes or ())} - {*anew}):
            _replace_rows(con, name, (changes or {})[name])
        # What a table lost stays in the file that the next snapshot is a copy of: a day of refreshes would make it many times as large.
        _write_anew(con, [name for _, name in tables_with_gaps(con, "'publication'")])
        counts: dict[str, int] = {
            name: con.execute(f'select count(*) from marts."{name}"').fetchall()[0][0] for name in tables
        }
        con.execute(
            "create or replace table publication.marts.publication as "
            "select cast(? as bigint) as version, cast(? as timestamp) as published_at, "
            "cast(? as timestamp) as as_of_at, cast(? as bigint) as table_count",
            [version, datetime.now(UTC).replace(tzinfo=None), as_of_at, len(tables)],
        )
        con.execute("checkpoint publication")
    finally:
        con.execute("detach publication")
    return counts


def _write_anew(con: duckdb.DuckDBPyConnection, tables: Collection[str]) -> None:
    for name in tables:
        order = _reading_order(con, name)
        con.execute(f'create or replace table publication.marts."{name}" as select * from marts."{name}"{order}')
    _copy_comments(con, tables)


def _replace_rows(con: duckdb.DuckDBPyConnection, name: str, change: MartChange) -> None:
    target = f'publication.marts."{name}"'
    if change.rows:
        differ = f'"{change.key}" in (select "{change.key}" from {change.rows})'
        con.execute(f"delete from {target} where {differ}")
        con.execute(
            f'insert into {target} by name select * from marts."{name}" where {differ}{_reading_order(con, name)}'
        )
    for statement in change.overwrite:
        con.execute(statement.format(target=target))


def _reading_order(con: duckdb.DuckDBPyConnection, table: str) -> str:
    """The order of the rows in the file, so that what is looked up together stands together."""
    # Of the query's own description: a look into the catalogue reads all of it for one table.
    columns = {column[0] for column in con.execute(f'select * from marts."{table}" limit 0').description or ()}
    keys = [column for column in _READING_ORDER if column in columns]
    return f" order by {', '.join(keys)}" if keys else ""


def _copy_comments(con: duckdb.DuckDBPyConnection, tables: Collection[str]) -> None:
    # CREATE TABLE AS drops them, and they are what a BI tool shows beside a column.
    for table, comment in con.execute(
        "select table_name, comment from duckdb_tables() where database_name = current_database() "
        "and schema_name = 'marts' and comment is not null"
    ).fetchall():
        if table in tables:
            con.execute(f'comment on table publication.marts."{table}" is {quoted(comment)}')
    for table, column, comment in con.execute(
        "select table_name, column_name, comment from duckdb_columns() "
        "where database_name = current_database() and schema_name = 'marts' and comment is not null"
    ).fetchall():
        if table in tables:
            con.execute(f'comment on column publication.marts."{table}"."{column}" is {quoted(comment)}')


def _check(file: Path, version: int, counts: dict[str, int]) -> None:
    if file.with_suffix(".duckdb.wal").exists():
        raise RuntimeError(
            f"snapshot {version}: a write-ahead log was left beside the file; the current snapshot stays"
        )
    with duckdb.connect(str(file), read_only=True) as check:
        stamped = check.execute("select version from marts.publication").fetchall()
        if stamped != [(version,)]:
            raise RuntimeError(f"snapshot {version}: it says that it is {stamped}; the current snapshot stays")
        for table, expected in counts.items():
            found = check.execute(f'select count(*) from marts."{table}"').fetchall()[0][0]
            if found != expected:
                raise RuntimeError(
                    f"snapshot {version}: {table} has {found} rows, the warehouse has {expected}; "
                    "the current snapshot stays"
                )


def _remove_leftovers(workspace: Workspace) -> None:
    # A killed writer leaves a half-built folder or a link that nothing points through.
    for path in workspace.marts.iterdir():
        if path.name.startswith(".building-"):
            _remove_folder(path)
        elif path.name.startswith(".current-"):
            path.unlink()


def _remove_folder(path: Path) -> None:
    # Readers that hold the file open keep reading it: only its name goes.
    path.chmod(0o755)
    shutil.rmtree(path)


def _sync_file(file: Path) -> None:
    descriptor = os.open(file, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
