"""Opens the warehouse for its one writer, and keeps other writers out.

Readers never come here: they open the published marts.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import duckdb

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace


@contextmanager
def open_warehouse(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the warehouse, closed at the end: the file has one writer at a time, and readers none of it.

    It keeps at most two fifths of the machine's memory, instead of DuckDB's four fifths, and writes the rest to disk: dashboards and
    a fit run beside it, and what DuckDB needs beyond its limit came to 1.5 GiB at a hundred million touchpoints. Where the build follows
    the last one's rows it keeps less, as it needs no more: there a refresh of 50,000 records took 101 s and 5.3 GiB, and with two fifths
    104 s and 10.3 GiB. The environment variable `SCORING_THREADS` says how many threads it takes, all cores without it.

    Raises
    ------
    UserError
        `SCORING_THREADS` is no whole number above 0, or the file is none of DuckDB's.
    """
    threads = _threads()
    # A file of no bytes is left by a kill while an earlier version of this program made it.
    if not workspace.warehouse.exists() or workspace.warehouse.stat().st_size == 0:
        _create(workspace.warehouse)
    if workspace.warehouse in _staying_open and _staying_open[workspace.warehouse] is None:
        first = _staying_open[workspace.warehouse] = _connect(workspace.warehouse)
        if workspace.warehouse.stat().st_size > LARGE_BYTES:
            first.execute("set max_vacuum_tasks = 0")
    connection = _connect(workspace.warehouse)
    try:
        # The file may have been open already, as a step before has left it.
        for name in ("memory_limit", "preserve_insertion_order", "disabled_optimizers"):
            connection.execute(f"reset {name}")
        connection.execute("set TimeZone = 'UTC'")
        # DuckDB would draw its bars between the lines that a command says.
        connection.execute("set enable_progress_bar = false")
        share = 0.18 if _follows_the_last_build(connection) else 0.4
        connection.execute(f"set memory_limit = '{_part_of_memory(connection, share)}'")
        # A refresh commits each model. Writing the log into the file after every 16 MB, as by default, took an eighth of a tick's time at
        # 30 million touchpoints; it is written when the connection closes, and after a kill by the next one that opens.
        connection.execute("set checkpoint_threshold = '512MB'")
        connection.execute(f"set threads = {threads}" if threads else "reset threads")
        yield connection
    finally:
        connection.close()


def _connect(path: Path) -> duckdb.DuckDBPyConnection:
    try:
        return duckdb.connect(str(path))
    except duckdb.IOException as error:
        if "not a valid DuckDB database" not in str(error):
            raise
        raise UserError(
            f"{path} is not a DuckDB file. It holds nothing that the landing zone does not: "
            "delete it, and the next refresh makes it anew"
        ) from None  # a run says the innermost cause


def _create(path: Path) -> None:
    """An empty file in the newest format of this DuckDB, which it keeps. Only we read it, and whoever cannot may delete it.

    The format that older ones read too takes twice the processor to write, for want of its compression of text: 3.8 million web
    events 13.7 s, and 7.5 s in this one.

    It appears when it is whole: a kill in between would leave a file that no later refresh could open. The log of a file that is no
    longer there goes, as it would be read into the new one.
    """
    made = path.with_name(f"{path.name}.new")
    for left in (made, made.with_name(f"{made.name}.wal"), path.with_name(f"{path.name}.wal")):
        left.unlink(missing_ok=True)
    with duckdb.connect() as con:
        con.execute(f"attach {quoted(str(made))} as warehouse (storage_version 'latest')")
        con.execute("detach warehouse")
    os.replace(made, path)


#: Of a warehouse in which gaps are not closed at every refresh: of 800 MB that took 0.8 of 10 s.
LARGE_BYTES = 2**28

#: Warehouse -> what keeps it open between two `open_warehouse`, once the first has come.
_staying_open: dict[Path, duckdb.DuckDBPyConnection | None] = {}


@contextmanager
def warehouse_stays_open(workspace: Workspace) -> Iterator[None]:
    """Inside, the file is opened by the first `open_warehouse` and closed at the end, and not by each.

    A refresh has ten steps. To read the catalogue of three hundred tables and to write the log into the file for each took 2 s.

    Rows that went away leave gaps. By default DuckDB writes every table with gaps together again whenever it writes the log into the
    file, which was a seventh of the processor time of a tick at 10 million touchpoints. In a large file that waits until a table has
    many, and is done once a day: each refresh adds its few rows as a piece of their own, and a year of them would be a hundred thousand
    pieces. In a small one it is soon done, and the pieces of 22 refreshes made it and the marts twice as large.
    """
    # A run that could not open it ends before it has deleted or landed anything.
    _threads()
    if workspace.warehouse in _staying_open:
        yield
        return
    _staying_open[workspace.warehouse] = None
    try:
        yield
    finally:
        if (connection := _staying_open.pop(workspace.warehouse)) is not None:
            # Whatever has become of the file, a run does not fail for its gaps, and the file is closed.
            with suppress(duckdb.Error):
                if has_large_gaps(connection) or _was_built_anew(connection):
                    connection.execute("reset max_vacuum_tasks")
            connection.close()


def has_large_gaps(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether a table of the warehouse has half as many rows that went away as rows that are there."""
    return bool(tables_with_gaps(con, "current_database()"))


def tables_with_gaps(con: duckdb.DuckDBPyConnection, database: str) -> list[tuple[str, str]]:
    """Schema and name of the tables with half as many rows that went away as rows that are there.

    Tables of no more than 122,880 rows, one of DuckDB's pieces, do not count: their gaps are small, and closed once a day.

    Parameters
    ----------
    database : SQL of its name
    """
    tables = con.execute(
        "select database_name, schema_name, table_name, estimated_size from duckdb_tables() "
        f"where database_name = {database} and not temporary and estimated_size > 122880"
    ).fetchall()
    # The size is that of all rows that were ever written and are not yet put together.
    return [
        (schema, table)
        for name, schema, table, size in tables
        if size > 1.5 * con.execute(f'select count(*) from "{name}"."{schema}"."{table}"').fetchall()[0][0]
    ]


def remove_warehouse(workspace: Workspace) -> None:
    """Delete the warehouse: a cache, which the landing zone fills again."""
    if (connection := _staying_open.get(workspace.warehouse)) is not None:
        connection.close()
        _staying_open[workspace.warehouse] = None
    for path in (workspace.warehouse, workspace.warehouse.with_suffix(".duckdb.wal")):
        path.unlink(missing_ok=True)


def _threads() -> str:
    """How many threads the environment asks for, "" where it does not say."""
    told = os.environ.get("SCORING_THREADS", "")
    if told and (not told.isdecimal() or int(told) < 1):
        raise UserError(f"SCORING_THREADS must be a whole number above 0, got {told!r}")
    return told


def _follows_the_last_build(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the build that runs does, or, where none runs, the last one came to its end. A warehouse without a plan follows none."""
    return any(_plan(con) or ())


def _was_built_anew(con: duckdb.DuckDBPyConnection) -> bool:
    """Whether the last build did not follow the rows of one before: the first of a day, or a full one."""
    return (_plan(con) or (True,))[0] is False


def _plan(con: duckdb.DuckDBPyConnection) -> tuple[bool, bool] | None:
    """Whether the newest build follows the rows of the one before (`is_known`), and whether it came to its end; None before the first."""
    try:
        found: tuple[bool, bool] | None = con.execute("select is_known, is_finished from increment.plan").fetchone()
    except duckdb.CatalogException:
        return None
    return found


def _part_of_memory(con: duckdb.DuckDBPyConnection, share: float) -> str:
    # DuckDB's own default is 80 % of what the machine, or the container, has.
    amount, unit = con.execute("select current_setting('memory_limit')").fetchall()[0][0].split()
    return f"{float(amount) * share / 0.8:.1f}{unit}"


@contextmanager
def writer_lock(
    workspace: Workspace, *, wait_seconds: float = 0, on_wait: Callable[[str], None] = lambda message: None
) -> Iterator[None]:
    """Hold the workspace's only right to write.

    Raises
    ------
    UserError
        Another process still writes after `wait_seconds`.
    """
    workspace.home.mkdir(parents=True, exist_ok=True)
    busy = f"another refresh or fit is writing to {workspace.home} (process {{}}); try again when it is done"
    with only_process(workspace.lock_file, busy, wait_seconds=wait_seconds, on_wait=on_wait):
        yield


@contextmanager
def only_process(
    lock_file: Path, busy: str, *, wait_seconds: float = 0, on_wait: Callable[[str], None] = lambda message: None
) -> Iterator[None]:
    """Be the only process that holds a lock. The operating system frees it when the process ends, however it ends.

    Parameters
    ----------
    busy : what is said where another one has it; {} stands for its number

    Raises
    ------
    UserError
        Another process still holds it after `wait_seconds`.
    """
    descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        deadline = time.monotonic() + wait_seconds
        said = False
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                holder = os.pread(descriptor, 64, 0).decode(errors="replace").strip() or "unknown"
                if time.monotonic() >= deadline:
                    raise UserError(busy.replace("{}", holder)) from None
                if not said:
                    on_wait(f"waiting for another writer (process {holder})")
                    said = True
                time.sleep(0.5)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(descriptor)


def is_writer_active(workspace: Workspace) -> bool:
    """Whether some process holds the right to write now."""
    try:
        with writer_lock(workspace):
            return False
    except UserError:
        return True


@contextmanager
def transaction(con: duckdb.DuckDBPyConnection, *, is_open: bool = False) -> Iterator[None]:
    """All of what happens inside, or nothing. With `is_open` the caller has begun it, and commits or rolls back itself."""
    if is_open:
        yield
        return
    con.execute("begin")
    try:
        yield
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise


def drop_relation(con: duckdb.DuckDBPyConnection, schema: str, name: str) -> None:
    """Drop a table or a view, whichever it is; nothing where there is none."""
    kinds = con.execute(
        "select table_type from information_schema.tables where table_schema = ? and table_name = ?", [schema, name]
    ).fetchall()
    for (kind,) in kinds:
        con.execute(f"drop {'view' if kind == 'VIEW' else 'table'} {schema}.{name}")


def quoted(text: str) -> str:
    """The text as a literal of SQL, where a parameter cannot stand."""
    escaped = text.replace("'", "''")
    return f"'{escaped}'"
