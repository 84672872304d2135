"""The published snapshot that readers open. How it is swapped is in `orchestration.lib.publishing`."""

from collections.abc import Sequence
from datetime import timedelta

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.compiled_project import CompiledProject
from orchestration.lib.differences import MARTS
from orchestration.lib.increments import differences_of, note_published, snapshot_before
from orchestration.lib.model_builds import changes_of_marts
from orchestration.lib.publishing import publish
from orchestration.lib.scorecard_settings import settings_of
from orchestration.lib.warehouse import open_warehouse

#: Three missed five-minute refreshes are a reason to look; an hour without one, to act.
WARN_WINDOW = timedelta(minutes=15)
FAIL_WINDOW = timedelta(hours=1)


def build_publish_assets(project: CompiledProject, marts: Sequence[dg.AssetKey]) -> list[dg.AssetsDefinition]:
    """One asset: all marts, swapped in at once."""

    @dg.asset(
        group_name="publish",
        owners=["team:marketing-operations"],
        kinds={"duckdb"},
        deps=[*marts, "rule_firings", "segment_changes_landed", "handoff_crossings_landed"],
        description="marts/current/scoring.duckdb: all marts of one refresh, read-only, swapped in whole",
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=FAIL_WINDOW, warn_window=WARN_WINDOW),
    )
    def published_marts(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        settings = settings_of(home)
        with open_warehouse(home) as connection:
            as_of_at = connection.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]
            differences = differences_of(connection, project, MARTS)
            publication = publish(
                connection,
                home,
                as_of_at=as_of_at,
                keep=settings.publish_history,
                # Named, so that the table of a mart that was renamed is not published for ever.
                tables=[key.path[-1] for key in marts],
                changes=changes_of_marts(connection, project, differences),
                since=snapshot_before(connection),
            )
            note_published(connection, publication.version)
        context.log.info(
            f"published snapshot {publication.version}: {publication.row_counts.get('scored_accounts', 0):,} accounts, "
            f"{publication.row_counts.get('score_contributions', 0):,} contributions"
        )
        return dg.MaterializeResult(
            metadata={
                "version": publication.version,
                **{f"rows/{k}": v for k, v in publication.row_counts.items()},
            }
        )

    return [published_marts]
