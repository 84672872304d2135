"""Says whether a workspace is well: how old the published marts are, how the last runs ended, what is blocked, how full the disk is.

Reads only what no writer ever holds: the published marts, Dagster's records and the sizes of files.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib.loading import FAILED, IS_MENDED
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.publishing import published_versions
from orchestration.lib.run_records import JOBS, RunSummary, failed_run_count, failed_runs, newest_run
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import dagster as dg

#: Failed runs are told of for so long, and of so many of them why.
FAILED_SINCE = timedelta(days=7)
FAILED_TOLD = 5
#: What a refresh needs beside a snapshot: the log of what it writes, and what does not fit into memory.
WORK_BYTES = 2**30


@dataclass(frozen=True)
class Published:
    """The snapshot that readers see; moments are naive UTC."""

    version: int
    published_at: datetime
    as_of_at: datetime


@dataclass(frozen=True)
class Usage:
    """What one part of a workspace takes on the disk."""

    part: str
    file_count: int
    size_bytes: int


@dataclass(frozen=True)
class Status:
    """What `scoring status` shows.

    Attributes
    ----------
    runs : the newest of each job that has run
    failed, failed_count : of the last seven days the newest ones, and how many there are
    blocked : files that were refused or unreadable and that no good file of the same table has followed
    passed_over : such files of the last seven days that one has followed, but none of the same name: of a table of events, what they
        hold is missing all the same
    needed_bytes : what a refresh writes before it deletes anything: a snapshot, and `WORK_BYTES`
    """

    now: datetime
    published: Published | None
    runs: tuple[RunSummary, ...]
    failed: tuple[RunSummary, ...]
    failed_count: int
    blocked: tuple[str, ...]
    passed_over: tuple[str, ...]
    usage: tuple[Usage, ...]
    free_bytes: int
    needed_bytes: int

    def worries(self, max_age: timedelta | None = None) -> list[str]:
        """What somebody should look at, but for blocked files.

        Parameters
        ----------
        max_age : since the marts were published; None = any
        """
        found = []
        if self.published is None:
            found.append("nothing has been published yet")
        elif max_age is not None and self.now - self.published.published_at > max_age:
            age = in_words(self.now - self.published.published_at)
            found.append(f"the marts were published {age} ago, more than {in_words(max_age)}")
        found += [
            f"the last run of {run.job} failed at {run.began_at:%Y-%m-%d %H:%M} UTC: {run.cause or 'no reason is known'}"
            for run in self.runs
            if run.status == "failed"
        ]
        if self.free_bytes < self.needed_bytes:
            found.append(
                f"{size(self.free_bytes)} are free on the disk, and a refresh may write {size(self.needed_bytes)} before it deletes"
            )
        return found


def status_of(workspace: Workspace, instance: dg.DagsterInstance, *, now: datetime) -> Status:
    """Look at a workspace.

    Parameters
    ----------
    now : aware
    """
    published, failed_files = None, []
    if workspace.published.exists():
        with open_marts(workspace) as con:
            published = Published(**rows(con, "select version, published_at, as_of_at from publication limit 1")[0])
            failed_files = rows(
                con,
                f"select source_table, file_name, status, message, arrived_at, {IS_MENDED.format('load_report')} as is_followed, "
                "exists (select 1 from load_report as later where later.source_table = failed.source_table and later.status = 'loaded' "
                "and later.file_name = failed.file_name and later.arrived_at > failed.arrived_at) as is_replaced "
                "from load_report as failed where status in (select unnest(?)) order by source_table, arrived_at",
                [FAILED],
            )
    utc = now.astimezone(UTC).replace(tzinfo=None)
    usage = usage_of(workspace)
    snapshots = published_versions(workspace)
    marts = next(part.size_bytes for part in usage if part.part == "marts")
    return Status(
        now=utc,
        published=published,
        runs=tuple(run for run in (newest_run(instance, job) for job in JOBS) if run is not None),
        failed=tuple(failed_runs(instance, since=now - FAILED_SINCE, limit=FAILED_TOLD)),
        failed_count=failed_run_count(instance, since=now - FAILED_SINCE),
        blocked=tuple(_told(row) for row in failed_files if not row["is_followed"]),
        passed_over=tuple(
            _told(row)
            for row in failed_files
            if row["is_followed"] and not row["is_replaced"] and row["arrived_at"] > utc - FAILED_SINCE
        ),
        usage=tuple(usage),
        free_bytes=shutil.disk_usage(workspace.home).free,
        needed_bytes=WORK_BYTES + (marts // len(snapshots) if snapshots else 0),
    )


def _told(file: dict[str, Any]) -> str:
    return f"{file['source_table']}: {file['file_name']}: {file['status']}: {file['message']}"


def usage_of(workspace: Workspace) -> list[Usage]:
    """What each part of a workspace takes, the rest last."""
    parts: dict[str, Sequence[Path]] = {
        "inbox": [workspace.inbox],
        "landing": [workspace.landing],
        "warehouse": sorted(workspace.home.glob(f"{workspace.warehouse.name}*")),
        "marts": [workspace.marts],
        "dagster": [workspace.dagster],
        "mlflow": [workspace.mlflow],
    }
    named = {path for paths in parts.values() for path in paths}
    parts["everything else"] = [path for path in workspace.home.iterdir() if path not in named]
    return [
        Usage(part, sum(1 for _ in files), sum(files))
        for part, files in (
            (part, [found for path in paths for found in _sizes(path)]) for part, paths in parts.items()
        )
    ]


def _sizes(path: Path) -> list[int]:
    """Sizes of the files below; links are not followed, and a file that goes away meanwhile has none."""
    if path.is_symlink():
        return []
    files = [path] if path.is_file() else [Path(folder, name) for folder, _, names in os.walk(path) for name in names]
    found = []
    for file in files:
        try:
            if not file.is_symlink():
                found.append(file.lstat().st_size)
        except FileNotFoundError:
            continue
    return found


def size(count: int) -> str:
    """1.5 GiB; 12 KiB.

    >>> size(0), size(2048), size(3 * 2**30)
    ('0 KiB', '2 KiB', '3.0 GiB')
    """
    if count >= 2**30:
        return f"{count / 2**30:,.1f} GiB"
    return f"{count / 2**20:,.0f} MiB" if count >= 10 * 2**20 else f"{count / 2**10:,.0f} KiB"


def in_words(age: timedelta) -> str:
    """An age in its largest unit.

    >>> in_words(timedelta(minutes=7)), in_words(timedelta(hours=50)), in_words(timedelta(seconds=5))
    ('7 minutes', '2 days', '5 seconds')
    """
    seconds = max(int(age.total_seconds()), 0)
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= 2 * length or seconds == length:
            return counted(seconds // length, unit)
    return counted(seconds, "second")
