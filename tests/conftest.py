"""Fixtures of the whole suite: real workspaces in temporary directories, each built once per session."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any

# Before numpy is loaded: several test processes with several threads each wait for one another. One test of the
# calibration took 18 s with two threads and 3 s with one.
for _threads in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "SCORING_THREADS"):
    os.environ.setdefault(_threads, "1")

import pytest  # noqa: E402

from orchestration.lib.workspace import PROJECT_ROOT, Workspace  # noqa: E402

DEMO_END = date(2026, 6, 30)
DEMO_ACCOUNTS = 2_000


@dataclass(frozen=True)
class Company:
    """A demo company in a refreshed workspace. Shared by the session: tests that write take a copy."""

    workspace: Workspace
    as_of: str
    truth: dict[str, Any]

    def copy(self, directory: Path) -> Workspace:
        """The workspace once more, to be changed. The published snapshots are left behind."""
        shutil.copytree(self.workspace.home, directory, symlinks=True, ignore=shutil.ignore_patterns("marts"))
        (directory / "marts").mkdir()
        return Workspace(directory)


@pytest.fixture(scope="session", autouse=True)
def _process_like_the_command_line_s() -> None:
    from orchestration.lib.job_runner import TELEMETRY_OFF, collect_garbage_rarely

    os.environ.update(TELEMETRY_OFF)
    collect_garbage_rarely()


@pytest.fixture(scope="session")
def refresh() -> Callable[..., Any]:
    """Run the refresh job in this process; fails the test unless it publishes."""
    from orchestration.lib.job_runner import run_job

    def run(workspace: Workspace, as_of: str = "", *, full: bool = False) -> Any:
        outcome = run_job(
            workspace,
            "scoring_refresh",
            config={"scoring_settings": {"as_of": as_of}, "raw_tables": {"full": full}},
            quiet=True,
        )
        assert outcome.success, outcome.errors
        return outcome

    return run


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Company:
    """The demo company, landed, fitted, scored and published by the jobs that production runs.

    Of the processes that run tests the first to come here makes it, and each has a copy of its own: a warehouse has one writer.
    """
    from orchestration.lib.demo_company import TRUTH_FILE

    own = tmp_path_factory.getbasetemp()
    shared = Workspace((own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "demo_of_all" / "workspace")
    made = shared.home.parent / "made"
    shared.home.parent.mkdir(exist_ok=True)
    with (shared.home.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.exists():
            _make_demo(shared)
            made.touch()
    workspace = Workspace(own / "demo" / "workspace")
    shutil.copytree(shared.home, workspace.home, symlinks=True)
    return Company(workspace, DEMO_END.isoformat(), json.loads((workspace.home / TRUTH_FILE).read_text()))


def _make_demo(workspace: Workspace) -> None:
    from orchestration.cli.demo import land_company
    from orchestration.lib.job_runner import run_job

    land_company(workspace, accounts=DEMO_ACCOUNTS, events=None, months=24, seed=7, until=DEMO_END, quiet=True)
    outcome = run_job(
        workspace, "scoring_forecast", config={"scoring_settings": {"as_of": DEMO_END.isoformat()}}, quiet=True
    )
    assert outcome.success, outcome.errors


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """In each folder, after the first file that wants the demo company come those that do not: they need not wait until it is made."""
    files = dict.fromkeys(item.path for item in items)
    of_demo = [path for path in files if any("demo" in getattr(i, "fixturenames", ()) for i in items if i.path == path)]
    later = set(of_demo[1:])
    items.sort(key=lambda item: (item.nodeid.split("/")[1:2], item.path in later))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with real data sets, which are not part of the project. Tests that need it are skipped where it is absent."""
    folder = Path(os.environ.get("SCORING_SHARED_DATA") or PROJECT_ROOT.parent / "shared" / "data")
    if not folder.is_dir():
        pytest.skip(f"no real data sets at {folder}: set SCORING_SHARED_DATA to the folder that holds maven_crm/")
    return folder
