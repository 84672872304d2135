"""Runs a Dagster job in this process, with one line of progress per step: what the commands `refresh` and `fit` do.

The same jobs as the daemon's; only who starts them differs.
"""

from __future__ import annotations

import atexit
import gc
import logging
import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from orchestration.lib.errors import UserError
from orchestration.lib.run_records import causes_of, close_dead_runs, delete_old_runs
from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import make_stores

if TYPE_CHECKING:
    import dagster as dg


@dataclass(frozen=True)
class JobOutcome:
    """How a run ended.

    `errors` are the causes of failed steps; `blocked` says which tables and files broke their rules while the rest went on.
    """

    run_id: str
    success: bool
    seconds: float
    errors: list[str] = field(default_factory=list)
    blocked: list[str] = field(default_factory=list)


def prepare_process(workspace: Workspace) -> None:
    """Point Dagster at the workspace's own store, made where it is missing, and switch every tool's telemetry off."""
    if workspace.scorecard_file.is_file():
        make_stores(workspace)
    os.environ["DAGSTER_HOME"] = str(workspace.dagster)
    os.environ["SCORING_HOME"] = str(workspace.home)
    for name, value in TELEMETRY_OFF.items():
        os.environ[name] = value
    # What a run intends to do is written at once; see `OpenSqliteEventLog.store_event_batch`.
    os.environ["DAGSTER_EVENT_BATCH_SIZE"] = "1000"


def collect_garbage_rarely() -> None:
    """Let Python look for unreachable cycles after every 100,000 new objects and not after every 700.

    Dagster, dbt and Great Expectations leave a million objects that live as long as the process. Each full search goes through all
    of them, and finds next to nothing; the interpreter does more when it ends. Without them a refresh of 5,000 records at 20,000
    accounts took 10.4 s instead of 13.
    """
    gc.set_threshold(100_000, 20, 100)
    atexit.unregister(gc.freeze)
    atexit.register(gc.freeze)


TELEMETRY_OFF = {
    "DAGSTER_DISABLE_TELEMETRY": "1",
    "DBT_SEND_ANONYMOUS_USAGE_STATS": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
}


def run_job(
    workspace: Workspace,
    job_name: str,
    *,
    config: Mapping[str, Mapping[str, Any]] | None = None,
    quiet: bool = False,
    wait_seconds: float = 600,
) -> JobOutcome:
    """Run a job to its end.

    Parameters
    ----------
    config : op name -> its configuration
    quiet : print nothing on the way
    wait_seconds : how long to wait for another writer
    """
    prepare_process(workspace)
    import dagster as dg

    from orchestration.defs.build import build_defs

    started = time.monotonic()
    definitions = build_defs(
        workspace, wait_seconds=wait_seconds, loggers={"progress": _progress_logger(started, quiet)}
    )
    # Given as run configuration, so that the run's record shows what was asked for.
    run_config = {
        "ops": {name: {"config": dict(values)} for name, values in (config or {}).items()},
        "loggers": {"progress": {}},
    }
    with open_records(workspace) as instance:
        close_dead_runs(instance, workspace)
        result = definitions.resolve_job_def(job_name).execute_in_process(
            instance=instance, run_config=run_config, raise_on_error=False
        )
        # Who refreshes by a timetable of their own has no daemon that does it. A few at a time: there may be years of them.
        delete_old_runs(instance, now=datetime.now(UTC), limit=20)
    blocked = []
    for event in result.all_events:
        if event.event_type_value == "ASSET_CHECK_EVALUATION":
            evaluation: Any = event.event_specific_data
            # Checks that only warn are the business of the model's health.
            if not evaluation.passed and evaluation.severity == dg.AssetCheckSeverity.ERROR:
                reasons = (evaluation.description or evaluation.check_name).split("\n")
                blocked += [f"{evaluation.asset_key.path[-1]}: {reason}" for reason in reasons]
    return JobOutcome(
        run_id=result.run_id,
        success=result.success,
        seconds=time.monotonic() - started,
        errors=causes_of(result.all_events),
        blocked=blocked,
    )


@contextmanager
def open_records(workspace: Workspace) -> Iterator[dg.DagsterInstance]:
    """Dagster's records of runs.

    Raises
    ------
    UserError
        They can be neither read nor written.
    """
    import dagster as dg
    from sqlalchemy.exc import OperationalError

    try:
        instance = dg.DagsterInstance.get()
    except OperationalError as error:
        raise UserError(
            f"the records of runs in {workspace.dagster}: {error.orig}; is the disk full, or read-only?"
        ) from None
    with instance:
        yield instance


def _progress_logger(started: float, quiet: bool) -> Any:
    """A Dagster logger that prints what assets say, and nothing of Dagster's own."""
    import dagster as dg

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            meta = getattr(record, "dagster_meta", None) or {}
            text = meta.get("orig_message") if isinstance(meta, dict) else getattr(meta, "orig_message", None)
            is_event = meta.get("dagster_event") if isinstance(meta, dict) else getattr(meta, "dagster_event", None)
            # Which steps cannot run after a failure Dagster says in lines of thousands of characters; why is said at the end.
            if text and not is_event and not text.startswith("Dependencies for step "):
                print(f"{time.monotonic() - started:6.1f} s  {text}", file=sys.stderr, flush=True)

    def progress_logger(_: Any) -> logging.Logger:
        logger = logging.Logger("scoring.progress", logging.ERROR if quiet else logging.INFO)
        logger.addHandler(Lines())
        return logger

    return dg.LoggerDefinition(progress_logger, description="One line of progress per step")
