"""Two made-up marts that show a mixed snapshot, and the processes that publish and read them while a test
interferes. The tests are in `test_publishing`.

Every row carries the number of the snapshot that it was made for. A process is started with
`python -m tests.unit.made_up_marts <process> <workspace>`.
"""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
from datetime import datetime
from pathlib import Path
from types import FrameType
from typing import Any

import duckdb

from orchestration.lib import publishing
from orchestration.lib.marts_reader import open_marts
from orchestration.lib.publishing import Publication, publish, published_versions
from orchestration.lib.workspace import Workspace

AS_OF = datetime(2026, 6, 30, 12)

READ = """
    select
        (select version from publication),
        least((select min(stamp) from many), (select min(stamp) from few)),
        greatest((select max(stamp) from many), (select max(stamp) from few)),
        (select count(*) from many),
        (select count(*) from few)
"""


def refresh(workspace: Workspace, rows: int = 2_000, keep: int = 3) -> Publication:
    """Make both marts anew and publish them."""
    with duckdb.connect(str(workspace.warehouse)) as con:
        stamp = max(published_versions(workspace), default=0) + 1
        con.execute("begin")
        con.execute("create schema if not exists marts")
        for name, key, count in (("many", "account_id", rows), ("few", "cell", 16)):
            con.execute(
                f"create or replace table marts.{name} as "
                f"select {stamp} as stamp, i as {key} from range({count}) as numbers(i)"
            )
        con.execute("commit")
        return publish(con, workspace, as_of_at=AS_OF, keep=keep)


def snapshot(workspace: Workspace) -> list[int]:
    """What a reader sees now: version, least and greatest stamp, rows of both marts."""
    with open_marts(workspace) as con:
        return list(con.execute(READ).fetchall()[0])


def write_on(workspace: Workspace) -> None:
    """Refresh until somebody ends the process."""
    print("ready", flush=True)
    while True:
        refresh(workspace, rows=200_000)


def read_on(workspace: Workspace) -> None:
    """Read until the file `stop` is there, once more after that, then print all that was seen."""
    seen: list[list[int]] = []
    print("ready", flush=True)
    while True:
        is_last = (workspace.home / "stop").exists()
        seen.append(snapshot(workspace))
        if is_last:
            break
    print(json.dumps(seen))


def kill_before_lines(workspace: Workspace) -> None:
    """Publish once per number n on standard input, killed with -9 before the n-th new line of publishing.py.

    Prints whether that line was reached. The trials are forks of this process, which has opened no database, but has
    imported what DuckDB looks for when it is given parameters: that would take most of the time.
    """
    for module in ("numpy", "pandas", "pyarrow", "pytz"):
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(_killed_before(workspace, int(line))), flush=True)


def _killed_before(workspace: Workspace, n: int) -> bool:
    process = os.fork()
    if process == 0:
        seen: set[int] = set()

        def trace(frame: FrameType, event: str, argument: Any) -> Any:
            if frame.f_code.co_filename != publishing.__file__:
                return None
            if event == "line":
                seen.add(frame.f_lineno)
                if len(seen) == n:
                    os.kill(os.getpid(), signal.SIGKILL)
            return trace

        code = 1
        try:
            with duckdb.connect(str(workspace.warehouse)) as con:
                sys.settrace(trace)
                publish(con, workspace, as_of_at=AS_OF, keep=3)
                sys.settrace(None)
            code = 0
        finally:
            os._exit(code)
    code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
    if code not in (0, -signal.SIGKILL):
        raise RuntimeError(f"the trial {n} failed by itself, with code {code}")
    return code != 0


if __name__ == "__main__":
    {"write": write_on, "read": read_on, "kill": kill_before_lines}[sys.argv[1]](Workspace(Path(sys.argv[2])))
