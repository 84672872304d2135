"""One writer at a time, whoever asks and however the last one ended."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path

import duckdb
import pytest

from orchestration.lib.errors import UserError
from orchestration.lib.warehouse import is_writer_active, open_warehouse, writer_lock
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
