"""Records of runs stay few and say why a run failed; what `scoring status` worries about."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dagster as dg
import pytest

from orchestration.lib.run_records import delete_old_runs, failed_run_count, failed_runs, newest_run
from orchestration.lib.status import Published, Status, usage_of
from orchestration.lib.workspace import Workspace

NOW = datetime(2026, 7, 1, 12, 0)


@dg.op
def good_op() -> None:
    pass


@dg.op
def bad_op() -> None:
    try:
        raise ValueError("line 7 of settings.yml is no number")
    except ValueError as error:
        raise RuntimeError("the step ended") from error


@dg.op
def damaged_op() -> None:
    raise OSError("IO Error: Corrupt database file: computed checksum 8 does not match stored checksum 4")


@dg.job
def damaged_job() -> None:
    damaged_op()


@dg.job
def good_job() -> None:
    good_op()


@dg.job
def bad_job() -> None:
    bad_op()


@pytest.fixture
def instance() -> Iterator[dg.DagsterInstance]:
    with dg.DagsterInstance.ephemeral() as found:
        yield found


def test_newest_run__says_how_it_ended_and_why(instance: dg.DagsterInstance) -> None:
    assert newest_run(instance, "good_job") is None
    good_job.execute_in_process(instance=instance)
    bad_job.execute_in_process(instance=instance, raise_on_error=False)
    good, bad = newest_run(instance, "good_job"), newest_run(instance, "bad_job")
    assert good is not None
    assert bad is not None
    assert (good.status, good.cause, bad.status, bad.cause) == (
        "good",
        "",
        "failed",
        "line 7 of settings.yml is no number",
    )
    assert abs(datetime.now(UTC).replace(tzinfo=None) - good.began_at) < timedelta(minutes=1)
    earlier, later = datetime.now(UTC) - timedelta(hours=1), datetime.now(UTC) + timedelta(hours=1)
    assert [run.job for run in failed_runs(instance, since=earlier, limit=5)] == ["bad_job"]
    assert failed_runs(instance, since=later, limit=5) == []
    assert (failed_run_count(instance, since=earlier), failed_run_count(instance, since=later)) == (1, 0)


def test_newest_run__says_what_to_do_about_a_damaged_warehouse(instance: dg.DagsterInstance) -> None:
    damaged_job.execute_in_process(instance=instance, raise_on_error=False)
    run = newest_run(instance, "damaged_job")
    assert run is not None
    assert "does not match stored checksum 4. The warehouse holds nothing" in run.cause
    assert "`scoring refresh --full` makes it anew" in run.cause


def test_delete_old_runs__keeps_failed_ones_longer_and_deletes_a_few_at_a_time(instance: dg.DagsterInstance) -> None:
    for _ in range(3):
        good_job.execute_in_process(instance=instance)
    bad_job.execute_in_process(instance=instance, raise_on_error=False)
    newest = newest_run(instance, "good_job")
    assert newest is not None
    now = datetime.now(UTC)
    assert delete_old_runs(instance, now=now + timedelta(days=1)) == 0
    assert delete_old_runs(instance, now=now + timedelta(days=3), limit=2) == 2
    assert [record.dagster_run.run_id for record in instance.get_run_records(dg.RunsFilter(job_name="good_job"))] == [
        newest.run_id
    ]
    assert delete_old_runs(instance, now=now + timedelta(days=3)) == 1
    assert delete_old_runs(instance, now=now + timedelta(days=31)) == 1
    assert instance.get_run_records() == []


def test_worries__are_about_age_failures_and_room() -> None:
    well = Status(
        now=NOW,
        published=Published(7, NOW - timedelta(minutes=20), NOW - timedelta(minutes=21)),
        runs=(),
        failed=(),
        failed_count=0,
        blocked=(),
        passed_over=(),
        usage=(),
        free_bytes=3 * 2**30,
        needed_bytes=2 * 2**30,
    )
    assert well.worries() == well.worries(timedelta(minutes=20)) == []
    assert well.worries(timedelta(minutes=15)) == ["the marts were published 20 minutes ago, more than 15 minutes"]
    assert replace(well, published=None).worries() == ["nothing has been published yet"]
    (full,) = replace(well, free_bytes=2**30).worries()
    assert full == "1.0 GiB are free on the disk, and a refresh may write 2.0 GiB before it deletes"


def test_usage_of__counts_each_file_once_and_follows_no_link(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    for name, count in (
        ("landing/crm/a.csv", 10),
        ("marts/v1/scoring.duckdb", 20),
        ("warehouse.duckdb", 5),
        ("warehouse.duckdb.wal", 2),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x" * count)
    (tmp_path / "scorecard.yml").write_bytes(b"abc")
    (tmp_path / "marts" / "current").symlink_to("v1")
    found = {part.part: (part.file_count, part.size_bytes) for part in usage_of(workspace) if part.file_count}
    assert found == {"landing": (1, 10), "marts": (1, 20), "warehouse": (2, 7), "everything else": (1, 3)}
