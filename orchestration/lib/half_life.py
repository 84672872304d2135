"""Half-lives asked of the warehouse: the same counts at several speeds of decay, by the refresh's own SQL.

The criterion is defined once per half-life, the model of the deals' implicit features runs on these definitions in a
transaction that is rolled back, and `ml.half_life` compares the results. Nothing is stored.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from orchestration.lib.card_store import StoredCard
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.training import BEHIND_BEHAVIOUR, SPINES, definitions_of, read_features, read_training_rows
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    from ml.half_life import HalfLifeFit

DAYS = (3, 7, 14, 30, 60, 90, 180, 365, 0)
"""Half-lives that are tried; 0 = no decay."""


def fit_half_life(
    workspace: Workspace,
    settings: ScorecardSettings,
    card: StoredCard,
    criterion: str,
    *,
    days: Sequence[int] = DAYS,
    say: Callable[[str], None],
) -> HalfLifeFit:
    """Chance of each half-life of one criterion, beside the other criteria of the card. The caller holds the writer lock.

    Raises
    ------
    UserError
        The criterion is no count with a decay, or the deals are too few.
    """
    import numpy as np

    from ml.card import WEIGHT_PER_POINT, Card
    from ml.half_life import compare_half_lives

    asked = settings.criteria.get(criterion)
    if asked is None:
        raise UserError(f"scorecard.yml has no criterion {criterion!r}; it has {', '.join(settings.criteria)}")
    if asked.kind != "implicit" or asked.measure != "count":
        raise UserError(f"criterion {criterion}: only counts of behaviour decay (value: {asked.kind}, {asked.measure})")
    if not workspace.warehouse.exists():
        raise UserError("there is no warehouse yet: run scoring refresh first")
    subject = SPINES[settings.label.target]
    models = read_project(workspace).select(*BEHIND_BEHAVIOUR, f"ftr_{subject}__implicit")
    fitted = Card.from_document(card.document["card"])
    stored = card.document["criteria"]
    candidates = {f"{criterion}__{d or 'none'}": asked.model_copy(update={"half_life_days": d or None}) for d in days}
    trial = settings.model_copy(update={"criteria": {**settings.criteria, **candidates}})
    definitions = definitions_of(trial)
    with open_warehouse(workspace) as con:
        as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
        rows = read_training_rows(con, settings, stored)
        with rolled_back(con):
            write_settings(con, trial, card, as_of_at, in_transaction=True)
            say(f"counting {criterion} at {len(days)} half-lives")
            run_models(con, models)
            counted = read_features(con, {name: definitions[name] for name in candidates}, subject)
    counted = counted.reindex(rows.features.index)
    points: Any = fitted.points(rows.features)
    others = points[[name for name in points.columns if name != criterion]].sum(axis=1).to_numpy(dtype=float)
    values = {d: counted[f"{criterion}__{d or 'none'}"].to_numpy(dtype=float) for d in days}
    try:
        return compare_half_lives(values, others * WEIGHT_PER_POINT, np.asarray(rows.won))
    except ValueError as error:
        raise UserError(f"criterion {criterion}: {error}") from error
