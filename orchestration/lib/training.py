"""From the warehouse's features to a fitted scorecard version: reads the training rows, calls `ml`, stores the result.

How weights are fitted is in `ml`; what a feature is, in the dbt project. Here the two meet.
"""

from __future__ import annotations

import getpass
import math
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import duckdb

from orchestration.lib.card_store import active_card, save_card, save_settings_copy, set_state
from orchestration.lib.scorecard_settings import (
    GRADES,
    LEVELS,
    Criterion,
    Grades,
    Levels,
    ScorecardSettings,
    criterion_key,
)
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from ml.card import Card, CardSpec

#: Folds and bootstraps must come out the same for the same deals.
FIT_SEED = 20_260_101


@dataclass(frozen=True)
class FitResult:
    """A stored fit."""

    version: str
    is_active: bool
    card: Card
    run_id: str


def card_spec(settings: ScorecardSettings) -> CardSpec:
    """The settings' criteria as `ml` takes them. Categories are lower case, as the features are."""
    from ml.card import BandSpec, CardSpec, CriterionSpec

    def bands_of(criterion: Criterion) -> tuple[BandSpec, ...] | None:
        if criterion.bands == "auto":
            return None
        if criterion.type == "category":
            listed = [band for band in criterion.bands if band.values is not None]
            return tuple(
                BandSpec(label=b.label, values=tuple(v.strip().lower() for v in b.values or ()), points=b.points)
                for b in listed
            )
        lower: float | None = None
        specs = []
        for band in criterion.bands:
            specs.append(BandSpec(label=band.label, lower=lower, upper=band.below, points=band.points))
            lower = band.below
        return tuple(specs)

    criteria = tuple(
        CriterionSpec(
            name=name,
            kind=criterion.kind,
            value_type=criterion.type,
            bands=bands_of(criterion),
            missing_points=criterion.missing,
            monotone=criterion.monotone,
            other_points=criterion.bands[-1].points
            if criterion.type == "category" and criterion.bands != "auto"
            else 0,
            whole_numbers=criterion.measure == "days_since_last" or None,
        )
        for name, criterion in settings.criteria.items()
    )
    return CardSpec(
        criteria=criteria,
        belief_deals=settings.beliefs.deals,
        expected_win_rate=settings.beliefs.base_win_rate,
    )


def read_features(con: duckdb.DuckDBPyConnection, settings: ScorecardSettings, subject: str) -> pd.DataFrame:
    """One column per criterion of `scorecard.yml`, one row per spine row, indexed by spine_id, in its order.

    Parameters
    ----------
    subject : "deals" or "accounts"
    """
    columns = []
    for name, criterion in settings.criteria.items():
        key = criterion_key(name, criterion.definition()).replace("'", "''")
        value = "value_text" if criterion.type == "category" else "cast(value_micro as double) / 1000000"
        columns.append(f"max(case when criterion_key = '{key}' then {value} end) as \"{name}\"")
    return (
        con.execute(
            f"""
        select spine_id, {", ".join(columns)}
        from (
            select * from features.ftr_{subject}__explicit
            union all
            select * from features.ftr_{subject}__implicit
        )
        group by spine_id
        order by spine_id
        """
        )
        .df()
        .set_index("spine_id")
    )


def fit_scorecard(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    settings: ScorecardSettings,
    *,
    activate: bool,
    note: str,
    progress: Callable[[str], None],
) -> FitResult:
    """Fit a card on the closed deals, log it, land it as a draft, and activate it if asked or if it is the first.

    Parameters
    ----------
    con : connection to the warehouse, with features built for the criteria of `settings`
    """
    from ml.scorecard import fit_card
    from ml.tracking import log_card, set_alias

    spine = con.execute(
        "select spine_id, is_won, closed_at from intermediate.int_spine__deals where is_won is not null order by spine_id"
    ).df()
    features = read_features(con, settings, "deals").reindex(spine["spine_id"])
    population = read_features(con, settings, "accounts")
    as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
    progress(f"fitting on {len(spine):,} closed deals, {int(spine['is_won'].sum()):,} of them won")
    card = fit_card(
        card_spec(settings),
        features,
        spine["is_won"],
        spine["closed_at"],
        seed=FIT_SEED,
        population=population,
    )
    run_id, registered_version = log_card(
        card,
        tracking_dir=workspace.mlflow,
        params={
            "deals": len(spine),
            "criteria": len(settings.criteria),
            "as_of_at": as_of_at.isoformat(),
            "seed": FIT_SEED,
        },
        tags={"note": note},
    )
    scored = con.execute("select account_id from intermediate.int_accounts__states where state = 'scored'").fetchall()
    parent = active_card(workspace)
    save_settings_copy(workspace, workspace.scorecard_file)
    version = save_card(
        workspace,
        {
            "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
            "as_of_at": as_of_at.isoformat(),
            "author": author(),
            "note": note,
            "parent": parent.version if parent else None,
            "mlflow_run_id": run_id,
            "mlflow_version": registered_version,
            "criteria": {
                name: {"criterion_key": criterion_key(name, c.definition()), "definition": c.definition()}
                for name, c in settings.criteria.items()
            },
            "matrix": matrix_limits(settings, card, population.loc[[row[0] for row in scored]]),
            "card": card.to_document(),
        },
    )
    is_active = activate or parent is None
    if is_active:
        reason = note if activate else "the first card: there is none to compare it with"
        set_state(workspace, version, "active", author=author(), note=reason)
    set_alias(registered_version, "champion" if is_active else "challenger", tracking_dir=workspace.mlflow)
    for sentence in card.verdict:
        progress(sentence)
    progress(f"scorecard {version} is {'active' if is_active else 'a draft; activate it with: scoring fit --activate'}")
    return FitResult(version, is_active, card, run_id)


def matrix_limits(settings: ScorecardSettings, card: Card, accounts: pd.DataFrame) -> dict[str, dict[str, int]]:
    """Least points of each grade and level: as the settings give them, or so that the stated share of accounts is in
    each.

    Parameters
    ----------
    accounts : features of the accounts that are scored; with none, only limits given in points can be kept, and shares
        fall back to 0 points, so that nobody is graded on a limit that no account has seen
    """
    by_criterion = card.points(accounts)
    kinds = {band.criterion: band.kind for band in card.bands}

    def least(model: Grades | Levels, limits: list[float], kind: str, labels: tuple[str, ...]) -> dict[str, int]:
        if model.method == "points":
            return {label: math.ceil(limit) for label, limit in zip(labels, limits, strict=False)}
        names = [name for name, its_kind in kinds.items() if its_kind == kind]
        totals = sorted(by_criterion[names].sum(axis=1).astype(int).tolist(), reverse=True)
        share = 0.0
        found: dict[str, int] = {}
        for label, limit in zip(labels, limits, strict=False):
            share += limit
            found[label] = least_points_of_share(totals, share)
        return found

    grades, levels = settings.matrix.fit_grades, settings.matrix.engagement_levels
    return {
        "fit_grades": least(grades, [grades.A, grades.B, grades.C], "explicit", GRADES),
        "engagement_levels": least(levels, [levels.level_1, levels.level_2, levels.level_3], "implicit", LEVELS),
    }


def least_points_of_share(totals: list[int], share_pct: float) -> int:
    """The least points with which about `share_pct` of the accounts reach a grade.

    Accounts with equal points are never torn apart: all or none of them reach it, whichever comes closer to the share.
    Where
    all accounts are equal, nobody stands out and nobody reaches it.

    >>> least_points_of_share([30, 20, 10, 0], 50)
    20
    >>> least_points_of_share([5, 5, 5, 5], 10)
    6
    """
    if not totals:
        return 0
    wanted = len(totals) * share_pct / 100
    falling = sorted(set(totals), reverse=True)
    best, best_distance = falling[0] + 1, wanted
    for points in falling[:-1] if share_pct < 100 else falling:
        distance = abs(sum(total >= points for total in totals) - wanted)
        if distance <= best_distance:
            best, best_distance = points, distance
    return best


def author() -> str:
    """Who runs this, for the record."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"
