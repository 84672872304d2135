"""What rules did and who entered or left segments at a refresh, landed before anybody sees it. What that is, dbt says."""

from collections.abc import Sequence

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.rules import land_firings
from orchestration.lib.segments import land_changes
from orchestration.lib.warehouse import open_warehouse


def build_rules_assets(marts: Sequence[dg.AssetKey]) -> list[dg.AssetsDefinition]:
    """The firings and the changes of segments. They follow the marts, so that what those could not show is not landed, and precede
    publishing."""

    @dg.asset(
        group_name="rules",
        owners=["team:marketing-operations"],
        kinds={"parquet"},
        deps=[*marts, dg.AssetKey(["intermediate", "int_rules__due"])],
        description="What the rules did at this refresh and never before, landed as facts",
    )
    def rule_firings(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        with open_warehouse(home) as connection:
            as_of_at = connection.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]
            count = land_firings(connection, home, as_of_at)
        if count:
            context.log.info(f"rules: {count:,} operations")
        return dg.MaterializeResult(metadata={"operations": count})

    @dg.asset(
        group_name="rules",
        owners=["team:marketing-operations"],
        kinds={"parquet"},
        deps=[*marts, dg.AssetKey(["intermediate", "int_segments__due"])],
        description="Who entered or left a segment at this refresh, landed as facts",
    )
    def segment_changes_landed(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        with open_warehouse(home) as connection:
            as_of_at = connection.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]
            count = land_changes(connection, home, as_of_at)
        if count:
            context.log.info(f"segments: {count:,} accounts entered or left")
        return dg.MaterializeResult(metadata={"changes": count})

    return [rule_firings, segment_changes_landed]
