"""What rules did, who entered or left segments and who crossed to sales at a refresh, landed before anybody sees it. What that is, dbt
says."""

from collections.abc import Callable, Sequence
from datetime import datetime

import dagster as dg
import duckdb

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.handoffs import land_crossings
from orchestration.lib.rules import land_firings
from orchestration.lib.segments import land_changes
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace


def build_rules_assets(marts: Sequence[dg.AssetKey]) -> list[dg.AssetsDefinition]:
    """The firings, the changes of segments and the crossings to sales. They follow the marts, so that what those could not show is
    not landed, and precede publishing."""
    return [
        _landed(
            "rule_firings",
            [*marts, dg.AssetKey(["intermediate", "int_rules__due"])],
            land_firings,
            what="operations",
            description="What the rules did at this refresh and never before, landed as facts",
        ),
        _landed(
            "segment_changes_landed",
            [*marts, dg.AssetKey(["intermediate", "int_segments__due"])],
            land_changes,
            what="accounts that entered or left a segment",
            description="Who entered or left a segment at this refresh, landed as facts",
        ),
        _landed(
            "handoff_crossings_landed",
            [*marts, dg.AssetKey(["intermediate", "int_handoffs__due"])],
            land_crossings,
            what="accounts that were handed over to sales or left its cells",
            description="Who entered or left the cells with the hand-over action at this refresh, landed as facts",
        ),
    ]


def _landed(
    name: str,
    deps: Sequence[dg.AssetKey],
    land: Callable[[duckdb.DuckDBPyConnection, Workspace, datetime], int],
    *,
    what: str,
    description: str,
) -> dg.AssetsDefinition:
    """An asset that lands what one model says is due; `land` returns how many rows that were."""

    @dg.asset(
        name=name,
        group_name="rules",
        owners=["team:marketing-operations"],
        kinds={"parquet"},
        deps=deps,
        description=description,
    )
    def landed(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        with open_warehouse(home) as connection:
            as_of_at = connection.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]
            count = land(connection, home, as_of_at)
        if count:
            context.log.info(f"landed {count:,} {what}")
        return dg.MaterializeResult(metadata={"landed": count})

    return landed
