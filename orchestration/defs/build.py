"""Puts the stations together into one set of definitions for one workspace. Jobs and schedules are in `jobs`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dagster as dg

from orchestration.defs.forecast.assets import build_forecast_assets
from orchestration.defs.history.assets import build_history_assets
from orchestration.defs.ingest.assets import build_ingest_assets, source_contracts
from orchestration.defs.jobs import build_jobs, build_schedules
from orchestration.defs.publish.assets import build_publish_assets
from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.defs.rules.assets import build_rules_assets
from orchestration.defs.transform.assets import build_transform_assets
from orchestration.defs.weights.assets import build_weights_assets
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.workspace import Workspace


def build_defs(
    workspace: Workspace, *, wait_seconds: float = 0, loggers: Mapping[str, Any] | None = None
) -> dg.Definitions:
    """Assets, checks, jobs and schedules over a workspace.

    Parameters
    ----------
    workspace : need not exist yet: the definitions only name it
    wait_seconds : how long a run waits for another writer before it gives up
    loggers : instead of Dagster's own console
    """
    contracts = source_contracts()
    project = read_project(workspace)
    transform = build_transform_assets(project)
    marts = sorted((key for assets in transform for key in assets.keys if key.path[0] == "marts"), key=str)
    home = str(workspace.home)
    return dg.Definitions(
        assets=[
            *build_ingest_assets(contracts),
            *build_history_assets(),
            *transform,
            *build_weights_assets(),
            *build_rules_assets(marts),
            *build_publish_assets(project, marts),
            *build_forecast_assets(),
        ],
        jobs=build_jobs(),
        schedules=build_schedules(workspace),
        loggers=loggers,
        resources={
            "workspace": ScoringWorkspace(home=home),
            "writer_lock": WriterLock(home=home, wait_seconds=wait_seconds),
        },
    )
