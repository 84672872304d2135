"""Jobs and when they run: a refresh every five minutes, a fit every week, a forecast and a clean-up every day."""

from datetime import UTC, datetime
from typing import Any

import dagster as dg

from orchestration.lib.run_records import (
    FIT,
    FORECAST,
    HOUSEKEEPING,
    REFRESH,
    WRITER_TAG,
    close_dead_runs,
    delete_old_runs,
    unfinished_run,
)
from orchestration.lib.warehouse import is_writer_active
from orchestration.lib.workspace import Workspace

#: A run that takes longer hangs: the daemon ends it.
MAX_SECONDS = {"dagster/max_runtime": "3600"}


def build_jobs() -> list[Any]:
    """All jobs. All steps run in the run's own process: starting one per step costs more than the work."""
    everything = dg.AssetSelection.all()
    fit, forecast = dg.AssetSelection.assets("fitted_scorecard"), dg.AssetSelection.assets("pipeline_forecasts")
    return [
        dg.define_asset_job(
            REFRESH,
            selection=everything - fit - forecast,
            description="Load what is new, score every account, publish",
            executor_def=dg.in_process_executor,
            tags={**WRITER_TAG, **MAX_SECONDS},
        ),
        dg.define_asset_job(
            FIT,
            selection=everything - forecast,
            description="The same with a new scorecard version fitted in between",
            executor_def=dg.in_process_executor,
            tags={**WRITER_TAG, **MAX_SECONDS},
        ),
        dg.define_asset_job(
            FORECAST,
            selection=everything - fit,
            description="A refresh with a forecast made in between",
            executor_def=dg.in_process_executor,
            tags={**WRITER_TAG, **MAX_SECONDS},
        ),
        housekeeping,
    ]


@dg.op(description="Delete the records of old runs, so that years of them do not fill the disk")
def delete_old_run_records(context: dg.OpExecutionContext) -> None:
    count = delete_old_runs(context.instance, now=datetime.now(UTC))
    context.log.info(f"deleted the records of {count:,} old runs")


@dg.job(name=HOUSEKEEPING, executor_def=dg.in_process_executor, tags=MAX_SECONDS)
def housekeeping() -> None:
    """Keep Dagster's own store small."""
    delete_old_run_records()


def build_schedules(workspace: Workspace) -> list[dg.ScheduleDefinition]:
    """All schedules, switched on from the start. A refresh that would meet another writer is left out: the next is five
    minutes away. A fit and a forecast wait for their turn in the queue instead."""

    @dg.schedule(
        name="every_five_minutes",
        job_name=REFRESH,
        cron_schedule="*/5 * * * *",
        execution_timezone="UTC",
        default_status=dg.DefaultScheduleStatus.RUNNING,
    )
    def every_five_minutes(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        close_dead_runs(context.instance, workspace)
        unfinished = unfinished_run(context.instance)
        if unfinished:
            return dg.SkipReason(f"run {unfinished} has not finished")
        if is_writer_active(workspace):
            return dg.SkipReason("somebody refreshes or fits at the command line")
        return dg.RunRequest()

    def regular(name: str, job_name: str, cron: str) -> dg.ScheduleDefinition:
        return dg.ScheduleDefinition(
            name=name,
            job_name=job_name,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )

    return [
        every_five_minutes,
        regular("every_monday_at_three", FIT, "2 3 * * 1"),
        regular("every_day_at_four", HOUSEKEEPING, "7 4 * * *"),
        regular("every_day_at_six", FORECAST, "1 6 * * *"),
    ]
