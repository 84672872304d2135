"""Dagster's event log as a workspace configures it: the same records as Dagster's own class, from several processes."""

from __future__ import annotations

import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.defs.event_store import OpenSqliteEventLog
from orchestration.lib.run_records import KEEP_GOOD_RUNS, delete_old_runs
from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import create_workspace


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    create_workspace(workspace)
    monkeypatch.setenv("DAGSTER_HOME", str(workspace.dagster))
    return workspace


def materialize(instance: dg.DagsterInstance) -> str:
    @dg.asset
    def one() -> int:
        return 1

    result = dg.materialize([one], instance=instance)
    assert result.success
    return result.run_id


def test_workspace__uses_it_and_another_process_reads_what_was_written(workspace: Workspace) -> None:
    with dg.DagsterInstance.get() as instance:
        assert isinstance(instance.event_log_storage, OpenSqliteEventLog)
        run_id = materialize(instance)
        count = len(instance.all_logs(run_id))
        assert count > 5
        code = f"import dagster as dg\nwith dg.DagsterInstance.get() as i: print(len(i.all_logs({run_id!r})))"
        # While this process has the file open.
        seen = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert int(seen) == count
    with dg.DagsterInstance.get() as instance:
        assert len(instance.all_logs(run_id)) == count


def test_delete_old_runs__leaves_nothing_of_a_run(workspace: Workspace) -> None:
    @dg.asset(check_specs=[dg.AssetCheckSpec("good", asset="checked")])
    def checked() -> object:
        yield dg.Output(1)
        yield dg.AssetCheckResult(passed=True)

    with dg.DagsterInstance.get() as instance:
        old = dg.materialize([checked], instance=instance).run_id
        new = dg.materialize([checked], instance=instance).run_id
        printed = workspace.dagster / "storage"
        for run_id in (old, new):
            (printed / run_id / "compute_logs").mkdir(parents=True, exist_ok=True)
            (printed / run_id / "compute_logs" / "x.err").write_text("much")
        assert delete_old_runs(instance, now=datetime.now(UTC) + KEEP_GOOD_RUNS + timedelta(minutes=1), limit=1) == 1
        assert not (printed / old).exists()
        assert (printed / new / "compute_logs" / "x.err").exists()
        with instance.event_log_storage.index_connection() as connection:
            for table in ("event_logs", "asset_check_executions"):
                found = {run for (run,) in connection.exec_driver_sql(f"select run_id from {table}")}
                assert new in found, table
                assert old not in found, table


def test_processes__write_at_once_and_nothing_is_lost(workspace: Workspace) -> None:
    """The daemon, the page and a run are processes of their own."""
    code = (
        "import dagster as dg\n"
        "@dg.asset\n"
        "def one(): return 1\n"
        "with dg.DagsterInstance.get() as i:\n"
        "    for _ in range(3): print(dg.materialize([one], instance=i).run_id)\n"
    )
    with dg.DagsterInstance.get():
        pass  # the files are made by the first of all; two at once would each make them
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ends = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0], ends
    runs = [run_id for out, _ in ends for run_id in out.split()]
    with dg.DagsterInstance.get() as instance:
        assert len(set(runs)) == 6
        assert len({len(instance.all_logs(run_id)) for run_id in runs}) == 1


def test_disposed__it_opens_again_when_asked(workspace: Workspace) -> None:
    storage = OpenSqliteEventLog(str(workspace.dagster))
    assert storage.has_table("event_logs")
    storage.dispose()
    with storage.index_connection() as connection:
        assert connection.exec_driver_sql("pragma synchronous").fetchall() == [(1,)]
    storage.dispose()
