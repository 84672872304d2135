"""Readers through whole refreshes: what a dashboard sees while the system refreshes again and again.

Two refreshes by default, because each costs some fifteen seconds; SCORING_READER_REFRESHES=10 for ten.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from orchestration.lib.publishing import current_version
from orchestration.lib.workspace import Workspace
from tests.conftest import DEMO_END

REFRESHES = int(os.environ.get("SCORING_READER_REFRESHES", "2"))

#: Opens the marts as a dashboard would, until the file `stop` appears; prints what it saw at the end.
READER = """
import json, sys, time
from pathlib import Path
import duckdb

marts, stop = Path(sys.argv[1]), Path(sys.argv[2])
seen, wrong, reads = set(), [], 0
print("ready", flush=True)
while not stop.exists():
    with duckdb.connect(str(marts / "current" / "scoring.duckdb"), read_only=True) as con:
        version, as_of = con.execute("select version, as_of_at from marts.publication").fetchall()[0]
        # Several statements on one connection: all must be of the same snapshot.
        moments = con.execute(
            "select distinct as_of_at from marts.scored_accounts union select distinct as_of_at from marts.scored_opportunities"
        ).fetchall()
        differing = con.execute(
            "select count(*) from (select account_id, max(total_points) as total, sum(points) as summed"
            " from marts.scored_accounts join marts.score_contributions using (account_id) group by account_id)"
            " where total <> summed"
        ).fetchall()[0][0]
    if moments != [(as_of,)] or differing:
        wrong.append([version, str(as_of), str(moments), differing])
    seen.add(version)
    reads += 1
    time.sleep(0.25)
print(json.dumps({"seen": sorted(seen), "wrong": wrong, "reads": reads}), flush=True)
"""


def test_readers_in_a_loop__see_only_whole_snapshots_through_whole_refreshes(
    tmp_path: Path, refresh: Callable[..., Any]
) -> None:
    from orchestration.cli.demo import land_company

    workspace = Workspace(tmp_path / "workspace")
    land_company(workspace, accounts=60, events=None, months=6, seed=3, until=DEMO_END, quiet=True)
    start = datetime.combine(DEMO_END, datetime.min.time())
    refresh(workspace, start.isoformat())
    stop = tmp_path / "stop"
    readers = [
        subprocess.Popen(
            [sys.executable, "-c", READER, str(workspace.marts), str(stop)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    try:
        for reader in readers:
            assert reader.stdout is not None
            assert reader.stdout.readline().strip() == "ready"
        for number in range(1, REFRESHES + 1):
            # Each refresh sees a later moment, so that a mixture of two snapshots shows.
            refresh(workspace, (start + timedelta(hours=number)).isoformat())
    finally:
        stop.touch()
        ends = [reader.communicate(timeout=60) for reader in readers]
    for reader, (out, err) in zip(readers, ends, strict=True):
        assert reader.returncode == 0, err
        told = json.loads(out)
        assert told["wrong"] == []
        assert told["reads"] > 20
        assert len(told["seen"]) >= max(2, REFRESHES - 1), "the reader must have lived through the refreshes"
    assert current_version(workspace) == REFRESHES + 1
