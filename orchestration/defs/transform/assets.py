"""dbt's models as assets and its tests as checks, in two steps: features before the card, points and marts after it.

The transformations themselves are in `dbt_project/`; how dbt is run is in `orchestration.lib.dbt_runner`.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import dagster as dg
from dagster_dbt import DagsterDbtTranslator, DagsterDbtTranslatorSettings, dbt_assets
from dagster_dbt.asset_utils import get_asset_check_key_for_test

from orchestration.defs.ingest.assets import raw_key
from orchestration.defs.resources import Dbt, ScoringWorkspace, WriterLock
from orchestration.lib.dbt_runner import project_fingerprint
from orchestration.lib.increments import complete_build, plan_build
from orchestration.lib.settings_tables import CARD_TABLES
from orchestration.lib.warehouse import open_warehouse

#: Models that join the active card. All others can be built before there is one.
AFTER_THE_CARD = "tag:after_the_card"

_GROUPS = {"staging": "staging", "intermediate": "intermediate", "features": "features", "marts": "marts"}


class Translator(DagsterDbtTranslator):
    """Names: a model is <layer>/<model>; a source is the asset that writes it."""

    def __init__(self) -> None:
        super().__init__(settings=DagsterDbtTranslatorSettings(enable_duplicate_source_asset_keys=True))

    def get_asset_key(self, dbt_resource_props: Mapping[str, Any]) -> dg.AssetKey:
        if dbt_resource_props["resource_type"] == "source":
            source, table = dbt_resource_props["source_name"], dbt_resource_props["name"]
            if source == "settings":
                return dg.AssetKey("active_scorecard" if table in CARD_TABLES else "scoring_settings")
            if source == "history":
                return dg.AssetKey("score_records")
            if source in ("raw", "quarantine"):
                return raw_key(table.removesuffix("__custom"))
            return raw_key("crm__accounts")  # `load` is written with every raw table; one of them stands for all
        return dg.AssetKey([dbt_resource_props["config"]["schema"], dbt_resource_props["name"]])

    def get_group_name(self, dbt_resource_props: Mapping[str, Any]) -> str | None:
        if "scores" in dbt_resource_props["fqn"]:
            return "scores"  # after the card; the other intermediate models come before it
        return _GROUPS.get(dbt_resource_props["config"].get("schema") or "")

    def get_owners(self, dbt_resource_props: Mapping[str, Any]) -> list[str]:
        owner = (dbt_resource_props.get("config") or {}).get("group") or "data engineering"
        return [
            {"marts": "team:marketing-operations", "features": "team:data-science"}.get(owner, "team:data-engineering")
        ]

    def get_description(self, dbt_resource_props: Mapping[str, Any]) -> str:
        return dbt_resource_props.get("description") or ""


def build_transform_assets(manifest: Mapping[str, Any]) -> list[dg.AssetsDefinition]:
    """Both steps, from dbt's manifest."""
    translator = Translator()

    def run(
        context: dg.AssetExecutionContext, dbt: Dbt, *, select: str, exclude: str, full: bool
    ) -> Iterator[dg.MaterializeResult | dg.AssetCheckResult]:
        results = dbt.runner().build(select=select, exclude=exclude, full=full)
        known_checks = {spec.key for spec in context.assets_def.check_specs}
        broken = []
        for result in results:
            node = manifest["nodes"].get(result.unique_id)
            if node is None:
                continue
            if not result.is_good and result.status not in ("skipped", "warn"):
                broken.append(f"{node['resource_type']} {node['name']}: {result.message or result.status}")
            if node["resource_type"] == "test":
                check = get_asset_check_key_for_test(manifest, translator, result.unique_id, None)
                if check is not None and check in known_checks:
                    yield dg.AssetCheckResult(
                        asset_key=check.asset_key,
                        check_name=check.name,
                        passed=result.is_good,
                        severity=dg.AssetCheckSeverity.WARN if result.status == "warn" else dg.AssetCheckSeverity.ERROR,
                        description=result.message or None,
                        metadata={"failures": result.failures or 0},
                    )
            elif result.is_good:
                yield dg.MaterializeResult(
                    asset_key=translator.get_asset_key(node), metadata={"seconds": round(result.seconds, 3)}
                )
        if broken:
            raise dg.Failure(f"dbt: {len(broken)} failed; nothing is published. " + " | ".join(broken))
        models = sum(manifest["nodes"][r.unique_id]["resource_type"] == "model" for r in results)
        context.log.info(f"built {models} models, {len(results) - models} tests passed")

    @dbt_assets(
        name="dbt_features",
        manifest=manifest,
        exclude=AFTER_THE_CARD,
        dagster_dbt_translator=translator,
    )
    def dbt_features(context: dg.AssetExecutionContext, dbt: Dbt, workspace: ScoringWorkspace, writer_lock: WriterLock):
        home = workspace.locate()
        with open_warehouse(home) as connection:
            plan = plan_build(connection, project_fingerprint())
        context.log.info(plan.reason)
        yield from run(context, dbt, select="fqn:*", exclude=AFTER_THE_CARD, full=plan.is_full)
        with open_warehouse(home) as connection:
            complete_build(connection)

    @dbt_assets(
        name="dbt_marts",
        manifest=manifest,
        select=AFTER_THE_CARD,
        dagster_dbt_translator=translator,
    )
    def dbt_marts(context: dg.AssetExecutionContext, dbt: Dbt, writer_lock: WriterLock):
        yield from run(context, dbt, select=AFTER_THE_CARD, exclude="", full=True)

    return [dbt_features, dbt_marts]
