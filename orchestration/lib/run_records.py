"""Keeps Dagster's records of runs true and small: runs whose process died are closed, old ones are deleted.

Runs are records of what happened, not state: nothing in the warehouse or the marts depends on them.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from orchestration.lib.warehouse import is_writer_active
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import dagster as dg

#: Carried by every run that writes to the warehouse.
WRITER_TAG = {"scoring/writer": "warehouse"}
#: A run that has begun takes the right to write within seconds; one that has not, after this time, is dead.
STARTING_TIME = timedelta(minutes=2)
#: At one run every five minutes, of about one megabyte of events each.
KEEP_GOOD_RUNS = timedelta(days=2)
KEEP_OTHER_RUNS = timedelta(days=30)


def close_dead_runs(instance: dg.DagsterInstance, workspace: Workspace) -> list[str]:
    """Mark as failed the writing runs that a kill or a power cut left open. Returns their ids.

    A living writer holds the workspace's lock, which the operating system frees when its process ends; so where nobody
    holds it, nobody writes.
    """
    import dagster as dg

    if is_writer_active(workspace):
        return []
    before = datetime.now(UTC) - STARTING_TIME
    dead = instance.get_run_records(
        dg.RunsFilter(
            tags=WRITER_TAG,
            statuses=[dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.CANCELING],
            updated_before=before,
        )
    )
    for record in dead:
        instance.report_run_failed(record.dagster_run, "the process of this run ended without a word")
    return [record.dagster_run.run_id for record in dead]


def unfinished_run(instance: dg.DagsterInstance) -> str | None:
    """The id of a writing run that is waiting or at work."""
    import dagster as dg

    found = instance.get_run_records(
        dg.RunsFilter(
            tags=WRITER_TAG,
            statuses=[
                dg.DagsterRunStatus.QUEUED,
                dg.DagsterRunStatus.NOT_STARTED,
                dg.DagsterRunStatus.STARTING,
                dg.DagsterRunStatus.STARTED,
            ],
        ),
        limit=1,
    )
    return found[0].dagster_run.run_id if found else None


def delete_old_runs(instance: dg.DagsterInstance, *, now: datetime) -> int:
    """Delete the records of old runs, good ones sooner. Returns how many.

    Parameters
    ----------
    now : aware; ages are counted from here
    """
    import dagster as dg

    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    old = [
        *instance.get_run_records(
            dg.RunsFilter(statuses=[dg.DagsterRunStatus.SUCCESS], created_before=now - KEEP_GOOD_RUNS)
        ),
        *instance.get_run_records(dg.RunsFilter(statuses=finished[1:], created_before=now - KEEP_OTHER_RUNS)),
    ]
    for record in old:
        instance.delete_run(record.dagster_run.run_id)
    return len(old)
