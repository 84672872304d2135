"""One writer at a time, whoever asks and however the last one ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from orchestration.lib.errors import UserError
from orchestration.lib.warehouse import (
    has_large_gaps,
    is_writer_active,
    open_warehouse,
    remove_warehouse,
    warehouse_stays_open,
    writer_lock,
)
from orchestration.lib.workspace import PROJECT_ROOT, Workspace

HOLDER = """
import sys, time
from pathlib import Path
from orchestration.lib.warehouse import writer_lock
from orchestration.lib.workspace import Workspace
with writer_lock(Workspace(Path(sys.argv[1]))):
    print("holding", flush=True)
    time.sleep(float(sys.argv[2]))
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def test_warehouse__has_the_newest_format_of_its_duckdb_and_an_older_file_is_taken_as_it_is(
    workspace: Workspace,
) -> None:
    workspace.home.mkdir()
    with duckdb.connect() as con:
        con.execute(f"attach '{workspace.home / 'newest.duckdb'}' as newest (storage_version 'latest')")
        [(newest,)] = con.execute(
            "select tags['storage_version'] from duckdb_databases() where database_name = 'newest'"
        ).fetchall()
    formats = "select tags['storage_version'] from duckdb_databases() where database_name = 'warehouse'"
    with open_warehouse(workspace) as con:
        assert con.execute(formats).fetchall() == [(newest,)]

    remove_warehouse(workspace)
    with duckdb.connect(str(workspace.warehouse)) as con:
        con.execute("create table t as select 1 as a")
        older = con.execute(formats).fetchall()
    with open_warehouse(workspace) as con:
        assert con.execute(formats).fetchall() == older != [(newest,)]
        assert con.execute("from t").fetchall() == [(1,)]


def test_warehouse__killed_while_it_was_made_is_made_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.home.mkdir()

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as kill:
        kill.setattr("orchestration.lib.warehouse.os.replace", killed)
        with pytest.raises(KeyboardInterrupt), open_warehouse(workspace):
            pass
    # Nothing is there that the next run would take for a warehouse; what was half made may be any bytes.
    [half_made] = workspace.home.iterdir()
    half_made.write_bytes(b"half")
    # Nor is a log read that belongs to a file which somebody has deleted.
    workspace.warehouse.with_name("warehouse.duckdb.wal").write_bytes(b"not a log of this file")
    with open_warehouse(workspace) as con:
        con.execute("create table t as select 1 as a")
    with open_warehouse(workspace) as con:
        assert con.execute("from t").fetchall() == [(1,)]
    assert [path.name for path in workspace.home.iterdir()] == ["warehouse.duckdb"]


def test_warehouse__of_no_bytes_is_made_again_and_one_of_other_bytes_is_named(workspace: Workspace) -> None:
    workspace.home.mkdir()
    workspace.warehouse.write_bytes(b"")
    with open_warehouse(workspace) as con:
        assert con.execute("select 1").fetchall() == [(1,)]
    workspace.warehouse.write_bytes(b"something else" * 1_000)
    with (
        pytest.raises(UserError, match=r"warehouse\.duckdb is not a DuckDB file.*delete it"),
        open_warehouse(workspace),
    ):
        pass
    assert workspace.warehouse.stat().st_size == 14_000, "nothing is deleted by itself"


def hold(workspace: Workspace, seconds: float) -> subprocess.Popen[str]:
    """Another process that holds the lock."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(workspace.home), str(seconds)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "holding\n"
    return process


def test_warehouse__works_in_utc_and_is_free_again_afterwards(workspace: Workspace) -> None:
    workspace.home.mkdir()
    with open_warehouse(workspace) as con:
        con.execute("create table t as select 1 as a")
        assert con.execute("select current_setting('TimeZone')").fetchall() == [("UTC",)]
    with duckdb.connect(str(workspace.warehouse), read_only=True) as con:
        assert con.execute("from t").fetchall() == [(1,)]


def test_warehouse__is_closed_when_the_work_fails(workspace: Workspace) -> None:
    workspace.home.mkdir()
    with pytest.raises(duckdb.CatalogException), open_warehouse(workspace) as con:
        con.execute("from nothing")
    with pytest.raises(duckdb.ConnectionException):
        con.execute("select 1")


def test_warehouse__that_stays_open_is_one_until_the_end_and_each_step_begins_as_if_alone(workspace: Workspace) -> None:
    workspace.home.mkdir()
    limit = "select current_setting('memory_limit')"
    with open_warehouse(workspace) as con:
        alone = con.execute(limit).fetchall()
    with warehouse_stays_open(workspace):
        with open_warehouse(workspace) as con:
            con.execute("create table t as select 1 as a; create temp table own as select 1 as a")
            con.execute("set preserve_insertion_order = false")
            con.execute("set disabled_optimizers = 'build_side_probe_side'")
        assert workspace.warehouse.with_suffix(".duckdb.wal").exists(), "the log is written into the file at the end"
        with open_warehouse(workspace) as con:
            assert con.execute(limit).fetchall() == alone
            assert con.execute(
                "select current_setting('preserve_insertion_order'), current_setting('disabled_optimizers')"
            ).fetchall() == [(True, "")]
            assert con.execute("select table_name from duckdb_tables()").fetchall() == [("t",)]
    assert not workspace.warehouse.with_suffix(".duckdb.wal").exists()
    with duckdb.connect(str(workspace.warehouse), read_only=True) as con:
        assert con.execute("from t").fetchall() == [(1,)]


def test_warehouse__takes_as_many_threads_as_it_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.home.mkdir()
    for told, taken in (("3", 3), ("1", 1), ("", len(os.sched_getaffinity(0)))):
        monkeypatch.setenv("SCORING_THREADS", told)
        with open_warehouse(workspace) as con:
            assert con.execute("select current_setting('threads')").fetchall() == [(taken,)]
    for wrong in ("0", "-1", "many", "1.5"):
        monkeypatch.setenv("SCORING_THREADS", wrong)
        with pytest.raises(UserError, match=f"SCORING_THREADS must be a whole number above 0, got '{wrong}'"):
            open_warehouse(workspace).__enter__()
        with pytest.raises(UserError, match="SCORING_THREADS"):
            warehouse_stays_open(workspace).__enter__()


def test_warehouse__that_stays_open_can_be_deleted_and_begun_again(workspace: Workspace) -> None:
    workspace.home.mkdir()
    with warehouse_stays_open(workspace):
        with open_warehouse(workspace) as con:
            con.execute("create table t as select 1 as a")
        remove_warehouse(workspace)
        with open_warehouse(workspace) as con:
            assert con.execute("select table_name from duckdb_tables()").fetchall() == []
            con.execute("create table u as select 2 as a")
    with duckdb.connect(str(workspace.warehouse), read_only=True) as con:
        assert con.execute("from u").fetchall() == [(2,)]


def test_warehouse__keeps_less_memory_where_a_build_follows_the_last_one(workspace: Workspace) -> None:
    def limit() -> float:
        with open_warehouse(workspace) as con:
            amount, unit = con.execute("select current_setting('memory_limit')").fetchall()[0][0].split()
            return float(amount) * {"MiB": 1 / 1024, "GiB": 1.0, "TiB": 1024.0}[unit]

    workspace.home.mkdir()
    without_a_plan = limit()
    for is_known, is_finished, share in (
        (False, False, 0.4),
        (True, False, 0.18),
        (True, True, 0.18),
        (False, True, 0.18),
    ):
        with open_warehouse(workspace) as con:
            con.execute("create schema if not exists increment")
            con.execute(
                f"create or replace table increment.plan as select {is_known} as is_known, {is_finished} as is_finished"
            )
        assert limit() == pytest.approx(without_a_plan * share / 0.4, abs=0.11)


def test_gaps__of_a_large_file_are_closed_when_there_are_many(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestration.lib.warehouse.LARGE_BYTES", 0)
    workspace.home.mkdir()
    sizes = "select estimated_size from duckdb_tables() where table_name = 't'"
    with warehouse_stays_open(workspace), open_warehouse(workspace) as con:
        con.execute("create table t as select range as a from range(1_000_000)")
    for seventh in range(3):
        with warehouse_stays_open(workspace), open_warehouse(workspace) as con:
            con.execute(f"delete from t where a % 7 = {seventh}")
            assert has_large_gaps(con) == (seventh == 2)
        with duckdb.connect(str(workspace.warehouse), read_only=True) as con:
            assert (con.execute(sizes).fetchall()[0][0] < 1_000_000) == (seventh == 2)
            assert not has_large_gaps(con)
            assert con.execute("select count(*) from t where a % 7 > ?", [seventh]).fetchall()[0][0] > 500_000


def test_lock__is_held_by_one_and_free_afterwards(workspace: Workspace) -> None:
    assert not is_writer_active(workspace)
    with writer_lock(workspace):
        assert is_writer_active(workspace)
        with pytest.raises(UserError, match="another refresh or fit is writing"), writer_lock(workspace):
            pass
        assert is_writer_active(workspace), "asking must not free it"
    assert not is_writer_active(workspace)
    with writer_lock(workspace):
        pass


def test_lock__names_the_process_that_holds_it(workspace: Workspace) -> None:
    with hold(workspace, 60) as other:
        try:
            with pytest.raises(UserError, match=rf"\(process {other.pid}\)"), writer_lock(workspace):
                pass
        finally:
            other.kill()


def test_lock__of_a_killed_process_is_free(workspace: Workspace) -> None:
    with hold(workspace, 60) as other:
        assert is_writer_active(workspace)
        other.send_signal(signal.SIGKILL)
        other.wait(10)
        assert not is_writer_active(workspace)


def test_lock__waits_as_long_as_asked_and_says_so_once(workspace: Workspace) -> None:
    said: list[str] = []
    with hold(workspace, 0.8) as other:
        with writer_lock(workspace, wait_seconds=20, on_wait=said.append):
            other.wait(10)
        assert said == [f"waiting for another writer (process {other.pid})"]


def test_lock__gives_up_after_the_time_that_was_asked(workspace: Workspace) -> None:
    with hold(workspace, 60) as other:
        try:
            started = time.monotonic()
            with pytest.raises(UserError), writer_lock(workspace, wait_seconds=0.4):
                pass
            assert 0.4 <= time.monotonic() - started < 5
        finally:
            other.kill()


@pytest.mark.parametrize("is_large", [True, False])
def test_pieces__of_many_refreshes_are_put_together_at_once_or_once_a_day(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, is_large: bool
) -> None:
    if is_large:
        monkeypatch.setattr("orchestration.lib.warehouse.LARGE_BYTES", 0)

    def refresh(rows: int, *, is_known: bool) -> int:
        with warehouse_stays_open(workspace), open_warehouse(workspace) as con:
            con.execute("create schema if not exists increment")
            con.execute(
                "create or replace table increment.plan as select ? as is_known, true as is_finished", [is_known]
            )
            con.execute("create table if not exists events (id bigint)")
            con.execute(f"insert into events select range from range({rows})")
        with open_warehouse(workspace) as con:
            assert con.execute("select count(*) from events").fetchall() == [(expected,)]
            return con.execute("select count(distinct row_group_id) from pragma_storage_info('events')").fetchall()[0][
                0
            ]

    workspace.home.mkdir()
    expected = 200_000
    whole = refresh(200_000, is_known=False)
    for _ in range(8):
        expected += 10
        pieces = refresh(10, is_known=True)
    assert pieces >= whole + 8 if is_large else pieces <= whole + 1
    expected += 10
    assert refresh(10, is_known=False) <= whole + 1
