"""dbt's models as assets and their data tests as checks, in two steps: features before the card, points and marts after it.

The transformations themselves are in `dbt_project/`; how they are run is in `orchestration.lib.model_builds`.
"""

import hashlib
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import dagster as dg

from orchestration.defs.ingest.assets import raw_key
from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.compiled_project import CompiledModel, CompiledProject, CompiledTest
from orchestration.lib.dbt_runner import project_fingerprint
from orchestration.lib.differences import FEATURES, MARTS
from orchestration.lib.increments import complete_features, complete_marts, differences_of, plan_build
from orchestration.lib.model_builds import FAILED, GOOD, WARNED, BuildResult, build, last_read
from orchestration.lib.settings_tables import CARD_TABLES
from orchestration.lib.warehouse import open_warehouse

#: One check per model; which of its tests were broken is in the check's metadata.
CHECK = "data_tests"

_OWNERS = {"marts": "team:marketing-operations", "features": "team:data-science"}


def build_transform_assets(project: CompiledProject) -> list[dg.AssetsDefinition]:
    """Both steps, one asset per model."""
    before, after = project.step(after_the_card=False), project.step(after_the_card=True)
    tests_before, tests_after = project.tests_of(before), project.tests_of(after, already_built=project.models)

    @dg.multi_asset(
        name="dbt_features",
        specs=[_spec(project, model) for model in before],
        check_specs=_check_specs(before, tests_before),
    )
    def dbt_features(context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock):
        with open_warehouse(workspace.locate()) as connection:
            kept = [f"{model.layer}.{model.name}" for model in project.models.values() if model.is_table]
            plan = plan_build(connection, project_fingerprint(), kept)
            context.log.info(plan.reason)
            differences = differences_of(connection, project, FEATURES)
            yield from _run(context, project, build(connection, before, tests_before, differences))
            complete_features(connection, project)

    @dg.multi_asset(
        name="dbt_marts",
        specs=[_spec(project, model) for model in after],
        check_specs=_check_specs(after, tests_after),
    )
    def dbt_marts(context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock):
        with open_warehouse(workspace.locate()) as connection:
            differences = differences_of(connection, project, MARTS)
            yield from _run(context, project, build(connection, after, tests_after, differences))
            complete_marts(connection, project)

    return [dbt_features, dbt_marts]


def model_key(model: CompiledModel) -> dg.AssetKey:
    """<layer>/<model>."""
    return dg.AssetKey([model.layer, model.name])


def _spec(project: CompiledProject, model: CompiledModel) -> dg.AssetSpec:
    deps = {model_key(project.models[name]) for name in model.depends_on}
    deps |= {_source_key(source, table) for source, table in model.sources}
    metadata: dict[str, Any] = {"dagster/table_name": f"{model.layer}.{model.name}"}
    if model.columns:
        columns = [dg.TableColumn(c.name, c.data_type, c.description) for c in model.columns]
        metadata["dagster/column_schema"] = dg.TableSchema(columns)
    is_score = model.layer == "intermediate" and model.is_after_the_card
    return dg.AssetSpec(
        model_key(model),
        deps=sorted(deps),
        description=model.description,
        metadata=metadata,
        skippable=True,
        group_name="scores" if is_score else model.layer,
        code_version=hashlib.sha256(model.sql.encode()).hexdigest()[:16],
        owners=[_OWNERS.get(model.layer, "team:data-engineering")],
        kinds={"dbt", "duckdb", "view" if not model.is_table else "table"},
    )


def _source_key(source: str, table: str) -> dg.AssetKey:
    """The asset that writes a table which is no model."""
    if source == "settings":
        return dg.AssetKey("active_scorecard" if table in CARD_TABLES else "scoring_settings")
    if source == "history":
        return dg.AssetKey("score_records")
    if source in ("raw", "quarantine"):
        return raw_key(table.removesuffix("__custom"))
    return raw_key("crm__accounts")  # `load` is written with every raw table; one of them stands for all


def _check_specs(models: Sequence[CompiledModel], tests: Sequence[CompiledTest]) -> list[dg.AssetCheckSpec]:
    found = last_read(models, tests)
    return [
        dg.AssetCheckSpec(CHECK, asset=model_key(model), description="\n".join(test.name for test in found[model.name]))
        for model in models
        if model.name in found
    ]


def _run(
    context: dg.AssetExecutionContext, project: CompiledProject, results: Iterator[BuildResult]
) -> Iterator[dg.MaterializeResult]:
    broken: list[str] = []
    counts = {"model": 0, "test": 0}
    # A model comes with its tests right after it.
    for name, group in groupby(results, key=lambda result: result.model):
        built, *tested = group
        for result in (built, *tested):
            counts[result.kind] += 1
            if result.status == FAILED:
                broken.append(f"{result.kind} {result.name}: {result.message}")
        if built.status == GOOD:
            key = model_key(project.models[name])
            yield dg.MaterializeResult(
                asset_key=key,
                metadata={"seconds": round(built.seconds, 3)},
                check_results=[_check_result(key, tested)] if tested else [],
            )
    if broken:
        raise dg.Failure(f"dbt: {len(broken)} failed; nothing is published. " + " | ".join(broken))
    context.log.info(f"built {counts['model']} models, {counts['test']} tests passed")


def _check_result(key: dg.AssetKey, tested: Sequence[BuildResult]) -> dg.AssetCheckResult:
    bad = [result for result in tested if result.status != GOOD]
    return dg.AssetCheckResult(
        asset_key=key,
        check_name=CHECK,
        passed=not bad,
        severity=(
            dg.AssetCheckSeverity.WARN
            if all(result.status == WARNED for result in bad)
            else dg.AssetCheckSeverity.ERROR
        ),
        description="; ".join(f"{result.name}: {result.message}" for result in bad) or None,
        metadata={"tests": len(tested), **{result.name: result.failures for result in bad}},
    )
