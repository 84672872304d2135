"""The records of what was scored and forecast on past days. What they hold is in `orchestration.lib.score_records` and `forecasts`."""

from datetime import UTC, datetime

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.forecasts import load_forecasts
from orchestration.lib.score_records import land_score_records, load_score_records
from orchestration.lib.warehouse import open_warehouse


def build_history_assets() -> list[dg.AssetsDefinition]:
    """One asset: the landed days, forecasts and backtests as tables."""

    @dg.asset(
        group_name="history",
        owners=["team:marketing-operations"],
        kinds={"parquet", "duckdb"},
        deps=["scoring_settings", "pipeline_forecasts"],
        description="What the last snapshot of each past day said, landed by the first refresh of a later day, never changed; "
        "forecasts and backtests as they were made",
    )
    def score_records(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        with open_warehouse(home) as connection:
            as_of_date = connection.execute("select as_of_date from settings.refresh").fetchall()[0][0]
            # A refresh as of a day to come does not end today.
            landed = land_score_records(home, min(as_of_date, datetime.now(UTC).date()))
            loaded = load_score_records(connection, home)
            forecasts = load_forecasts(connection, home)
        for record in landed:
            context.log.info(f"recorded the scores of {record.day}")
        return dg.MaterializeResult(
            metadata={"days_landed": len(landed), "days_loaded": loaded, "forecasts_loaded": forecasts}
        )

    return [score_records]
