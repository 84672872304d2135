"""Keeps Dagster's records of runs true and small: runs whose process died are closed, old ones are deleted.

Runs are records of what happened, not state: nothing in the warehouse or the marts depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from orchestration.lib.warehouse import is_writer_active
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import dagster as dg

#: The jobs: everything from files to published marts; the same with a fit, or with a forecast, in between; the clean-up.
REFRESH, FIT, FORECAST, HOUSEKEEPING = "scoring_refresh", "scoring_fit", "scoring_forecast", "scoring_housekeeping"
JOBS = (REFRESH, FIT, FORECAST, HOUSEKEEPING)
#: Carried by every run that writes to the warehouse.
WRITER_TAG = {"scoring/writer": "warehouse"}
#: A run that has begun takes the right to write within seconds; one that has not, after this time, is dead.
STARTING_TIME = timedelta(minutes=2)
#: At one run every five minutes, of two and a half megabytes of events each.
KEEP_GOOD_RUNS = timedelta(days=2)
KEEP_OTHER_RUNS = timedelta(days=30)
#: What DuckDB says of a block that the disk gave back otherwise than it was written.
DAMAGED = "Corrupt database file"


@dataclass(frozen=True)
class RunSummary:
    """One run as a person reads it.

    Attributes
    ----------
    status : "good", "failed", "at work", "waiting" or "stopped"
    began_at : naive UTC; when it was asked for, where it has not begun
    seconds : None where it has not ended
    cause : why it failed; "" otherwise
    """

    run_id: str
    job: str
    status: str
    began_at: datetime
    seconds: float | None
    cause: str = ""


def newest_run(instance: dg.DagsterInstance, job: str) -> RunSummary | None:
    """The newest run of a job, or None where there is none, or none any more."""
    import dagster as dg

    found = instance.get_run_records(dg.RunsFilter(job_name=job), limit=1)
    return _summary(instance, found[0]) if found else None


def failed_runs(instance: dg.DagsterInstance, *, since: datetime, limit: int) -> list[RunSummary]:
    """The newest runs that failed, newest first.

    Parameters
    ----------
    since : aware
    limit : how many; why each failed is looked up in its events
    """
    return [_summary(instance, record) for record in instance.get_run_records(_failed(since), limit=limit)]


def failed_run_count(instance: dg.DagsterInstance, *, since: datetime) -> int:
    """How many runs failed since an aware moment."""
    return instance.get_runs_count(_failed(since))


def _failed(since: datetime) -> dg.RunsFilter:
    import dagster as dg

    return dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=since)


def _summary(instance: dg.DagsterInstance, record: dg.RunRecord) -> RunSummary:
    import dagster as dg

    run = record.dagster_run
    words = {
        dg.DagsterRunStatus.SUCCESS: "good",
        dg.DagsterRunStatus.FAILURE: "failed",
        dg.DagsterRunStatus.CANCELED: "stopped",
        dg.DagsterRunStatus.QUEUED: "waiting",
        dg.DagsterRunStatus.NOT_STARTED: "waiting",
    }
    cause = ""
    if run.status == dg.DagsterRunStatus.FAILURE:
        kinds = {dg.DagsterEventType.STEP_FAILURE, dg.DagsterEventType.RUN_FAILURE}
        entries = instance.all_logs(run.run_id, of_type=kinds)
        events = [entry.dagster_event for entry in entries if entry.dagster_event is not None]
        # Of a run whose process died there is only the word of who found it.
        cause = next(iter(causes_of(events) or (event.message or "" for event in events)), "")
    start = record.start_time
    began_at = datetime.fromtimestamp(start, UTC) if start else record.create_timestamp
    return RunSummary(
        run_id=run.run_id,
        job=run.job_name,
        status=words.get(run.status, "at work"),
        began_at=began_at.astimezone(UTC).replace(tzinfo=None),
        seconds=record.end_time - start if start and record.end_time else None,
        cause=cause,
    )


def causes_of(events: Iterable[Any]) -> list[str]:
    """Why a run failed: the causes of its failed steps, each once."""
    causes = [cause_of(event) for event in events if event.is_step_failure or event.is_failure]
    return [cause for cause in dict.fromkeys(causes) if cause]


def cause_of(event: Any) -> str:
    """The innermost message of a failed step: what a person can act on."""
    data = event.event_specific_data
    error = getattr(data, "error", None)
    if error is None:
        return ""
    while error.cause is not None:
        error = error.cause
    failure = getattr(data, "user_failure_data", None)
    if failure is not None and failure.description:
        return str(failure.description)
    # "package.module.Class: text": people need the text.
    head, _, tail = error.message.partition(": ")
    said = (tail if "." in head or head.endswith("Error") else error.message).strip()
    if DAMAGED in said:
        said += ". The warehouse holds nothing that the landing zone does not: `scoring refresh --full` makes it anew; look after the disk"
    return said


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


def delete_old_runs(instance: dg.DagsterInstance, *, now: datetime, limit: int | None = None) -> int:
    """Delete the records of old runs, good ones sooner, the oldest first. Returns how many.

    Parameters
    ----------
    now : aware; ages are counted from here
    limit : of good ones and of others no more than so many
    """
    import dagster as dg

    finished = [dg.DagsterRunStatus.SUCCESS, dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]
    filters = (
        dg.RunsFilter(statuses=finished[:1], created_before=now - KEEP_GOOD_RUNS),
        dg.RunsFilter(statuses=finished[1:], created_before=now - KEEP_OTHER_RUNS),
    )
    old = [record for chosen in filters for record in instance.get_run_records(chosen, limit=limit, ascending=True)]
    for record in old:
        instance.delete_run(record.dagster_run.run_id)
        # Dagster leaves what its processes printed.
        instance.compute_log_manager.delete_logs(prefix=[record.dagster_run.run_id])
    return len(old)
