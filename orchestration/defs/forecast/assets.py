"""The forecast of the day, landed as it was made. How it is made is in `orchestration.lib.forecasts`, the method in `ml.forecast`."""

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.errors import UserError
from orchestration.lib.forecasts import backtest_is_due, make_backtest, make_forecast, past_origins, read_deals
from orchestration.lib.scorecard_settings import settings_of
from orchestration.lib.wording import counted


def build_forecast_assets() -> list[dg.AssetsDefinition]:
    """One asset. It follows the deals and precedes the marts, so that the refresh that makes a forecast shows it."""

    @dg.asset(
        group_name="forecast",
        owners=["team:revenue-operations"],
        kinds={"scikitlearn", "parquet"},
        deps=[
            dg.AssetKey(["intermediate", "int_deals__history"]),
            dg.AssetKey(["intermediate", "int_deals"]),
            dg.AssetKey(["intermediate", "int_accounts__engagement"]),
            dg.AssetKey(["intermediate", "int_accounts__groups"]),
            dg.AssetKey(["intermediate", "int_deals__stages"]),
            dg.AssetKey(["intermediate", "int_stage_win_rates"]),
        ],
        description="What will be won per month and quarter as a distribution, and every open deal's chances, landed and never changed",
    )
    def pipeline_forecasts(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        settings = settings_of(home).forecast
        try:
            deals = read_deals(home)
            if backtest_is_due(home, deals.as_of_at):
                origins = past_origins(deals)
                if origins:
                    context.log.info(f"testing the forecast on {counted(len(origins), 'past month')}")
                    try:
                        make_backtest(home, deals, origins, settings)
                    except UserError as error:
                        # Too thin a past to be tested on; the present may still be forecast.
                        context.log.info(f"no backtest: {error}")
            made = make_forecast(home, deals, settings, say=context.log.info)
        except UserError as error:
            # A company without closed deals is refreshed all the same.
            context.log.info(f"no forecast: {error}")
            return dg.MaterializeResult(metadata={"forecast": "none", "reason": str(error)})
        context.log.info(
            f"forecast of {counted(made.deal_count, 'open deal')} landed, calibrated on {counted(made.calibrated_on, 'past month')}"
        )
        return dg.MaterializeResult(
            metadata={
                "forecast": made.forecast_id,
                "rows": made.row_count,
                "open_deals": made.deal_count,
                "calibrated_on": made.calibrated_on,
                "lacking": "; ".join(made.lacking) or "nothing",
            }
        )

    return [pipeline_forecasts]
