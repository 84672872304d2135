"""Jobs and when they run: a refresh every five minutes, a fit every week, a forecast record every day."""

from typing import Any

import dagster as dg

from orchestration.lib.warehouse import is_writer_active
from orchestration.lib.workspace import Workspace

#: Everything from files to published marts; only the fit and the daily record are left out.
REFRESH = "scoring_refresh"
FIT = "scoring_fit"
FORECAST = "scoring_forecast"

#: One run of any of these jobs at a time; see the run coordinator in the instance's dagster.yaml.
WRITER_TAG = {"scoring/writer": "warehouse"}
#: A run that takes longer hangs: the daemon ends it.
MAX_SECONDS = {"dagster/max_runtime": "3600"}


def build_jobs() -> list[Any]:
    """The three asset jobs. All steps run in the run's own process: starting one per step costs more than the work."""
    everything = dg.AssetSelection.all()
    fit, record = dg.AssetSelection.assets("fitted_scorecard"), dg.AssetSelection.assets("forecast_record")
    return [
        dg.define_asset_job(
            REFRESH,
            selection=everything - fit - record,
            description="Load what is new, score every account, publish",
            executor_def=dg.in_process_executor,
            tags={**WRITER_TAG, **MAX_SECONDS},
        ),
        dg.define_asset_job(
            FIT,
            selection=everything - record,
            description="The same with a new scorecard version fitted in between",
            executor_def=dg.in_process_executor,
            tags={**WRITER_TAG, **MAX_SECONDS},
        ),
        dg.define_asset_job(
            FORECAST,
            selection=record,
            description="Land the published forecast as it is today",
            executor_def=dg.in_process_executor,
            tags=MAX_SECONDS,
        ),
    ]


def build_schedules(workspace: Workspace) -> list[dg.ScheduleDefinition]:
    """The three schedules, switched on from the start. None starts while another writer is at work."""

    def unless_writing(job_name: str, cron: str, name: str) -> dg.ScheduleDefinition:
        @dg.schedule(
            name=name,
            job_name=job_name,
            cron_schedule=cron,
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        )
        def schedule(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
            unfinished = context.instance.get_run_records(
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
            if unfinished:
                return dg.SkipReason(f"run {unfinished[0].dagster_run.run_id} has not finished")
            if is_writer_active(workspace):
                return dg.SkipReason("somebody refreshes or fits at the command line")
            return dg.RunRequest()

        return schedule

    return [
        unless_writing(REFRESH, "*/5 * * * *", "every_five_minutes"),
        unless_writing(FIT, "2 3 * * 1", "every_monday_at_night"),
        dg.ScheduleDefinition(
            name="every_day_at_six",
            job_name=FORECAST,
            cron_schedule="1 6 * * *",
            execution_timezone="UTC",
            default_status=dg.DefaultScheduleStatus.RUNNING,
        ),
    ]
