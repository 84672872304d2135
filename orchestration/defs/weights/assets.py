"""The scorecard: a fit on closed deals, and the active version as tables for dbt. The fit itself is in `ml`."""

import dagster as dg

from orchestration.defs.resources import ScoringWorkspace, WriterLock
from orchestration.lib.card_store import active_card, shadow_cards
from orchestration.lib.scorecard_settings import settings_of
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.training import fit_mode, fit_scorecard
from orchestration.lib.warehouse import open_warehouse

OWNERS = ["team:data-science"]
_FEATURES = [
    dg.AssetKey(["features", name])
    for name in (
        "ftr_accounts__explicit",
        "ftr_accounts__implicit",
        "ftr_deals__explicit",
        "ftr_deals__implicit",
    )
]


class FitConfig(dg.Config):
    """mode: "automatic" (active if the figures allow it), "draft" or "activate". note: why it was made."""

    mode: str = "automatic"
    note: str = "scheduled fit"


def build_weights_assets() -> list[dg.AssetsDefinition]:
    """The fitted and the active scorecard."""

    @dg.asset(
        group_name="weights",
        owners=OWNERS,
        kinds={"scikitlearn", "mlflow"},
        deps=_FEATURES,
        description="A new scorecard version, landed as a draft: expert points moved as far as closed deals say",
    )
    def fitted_scorecard(
        context: dg.AssetExecutionContext,
        config: FitConfig,
        workspace: ScoringWorkspace,
        writer_lock: WriterLock,
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        settings = settings_of(home)
        with open_warehouse(home) as connection:
            result = fit_scorecard(
                connection,
                home,
                settings,
                mode=fit_mode(config.mode),
                note=config.note,
                progress=context.log.info,
            )
        return dg.MaterializeResult(
            metadata={
                "scorecard_version": result.version,
                "is_active": result.is_active,
                "reason": result.reason,
                "deals": result.card.deal_count,
                "won": result.card.won_count,
                "mlflow_run_id": result.run_id,
                "verdict": dg.MetadataValue.md("\n\n".join(result.card.verdict)),
            }
        )

    @dg.asset(
        group_name="weights",
        owners=OWNERS,
        kinds={"duckdb"},
        deps=[*_FEATURES, "fitted_scorecard", "scoring_settings"],
        description="The scorecard version that scores now. The first refresh with accounts fits it, later ones only read it",
    )
    def active_scorecard(
        context: dg.AssetExecutionContext, workspace: ScoringWorkspace, writer_lock: WriterLock
    ) -> dg.MaterializeResult:
        home = workspace.locate()
        settings = settings_of(home)
        with open_warehouse(home) as connection:
            as_of_at, account_count = connection.execute(
                "select max(as_of_at), (select count(*) from intermediate.int_accounts) from settings.refresh"
            ).fetchall()[0]
            if active_card(home) is None and account_count:
                fit_scorecard(
                    connection,
                    home,
                    settings,
                    mode="draft",
                    note="first refresh with accounts",
                    progress=context.log.info,
                )
            card = active_card(home)
            if card is not None:
                write_settings(connection, settings, card, as_of_at, shadows=shadow_cards(home))
        if card is None:
            context.log.info("no accounts have landed: there is nothing to score yet")
            return dg.MaterializeResult(metadata={"scorecard_version": "none"})
        return dg.MaterializeResult(
            metadata={
                "scorecard_version": card.version,
                "verdict": " ".join(card.document["card"]["verdict"]),
            }
        )

    return [fitted_scorecard, active_scorecard]
