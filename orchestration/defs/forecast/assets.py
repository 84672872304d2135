"""The daily record of the forecast as it was made. The forecast itself is the mart `pipeline_forecast`, made at each
refresh."""

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace
from orchestration.lib.forecast_records import record_forecast


def build_forecast_assets() -> list[dg.AssetsDefinition]:
    """The stored forecasts."""

    @dg.asset(
        group_name="forecast",
        owners=["team:revenue-operations"],
        kinds={"parquet"},
        deps=["published_marts"],
        description="The published pipeline forecast, landed once a day and never changed, to be compared with what came",
    )
    def forecast_record(context: dg.AssetExecutionContext, workspace: ScoringWorkspace) -> dg.MaterializeResult:
        record = record_forecast(workspace.locate())
        context.log.info(f"forecast recorded: {record.row_count} rows as of {record.as_of_at}")
        return dg.MaterializeResult(metadata={"file": record.file.name, "rows": record.row_count})

    return [forecast_record]
