"""Floors on a real table: UCI Bank Marketing, which is kept outside of the repository."""

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ml import evaluate
from ml.card import CardSpec, CriterionSpec
from ml.scorecard import fit_card

SHARED = Path(os.environ.get("SCORING_SHARED_DATA", Path(__file__).parents[3].parent / "shared" / "data"))
BANK = SHARED / "bank_marketing" / "bank-additional-full.csv.gz"

pytestmark = pytest.mark.skipif(
    not BANK.exists(),
    reason="bank_marketing is not there; set SCORING_SHARED_DATA to the folder that holds it",
)


@pytest.fixture(scope="module")
def bank() -> tuple[CardSpec, pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    table = pd.read_csv(BANK, sep=";").drop(columns="duration")  # known only after the call: a leak
    y = (table.pop("y") == "yes").to_numpy().astype(int)
    table["pdays"] = table["pdays"].astype(float).where(table["pdays"] != 999)
    numbers = set(table.select_dtypes("number").columns)
    spec = CardSpec(
        tuple(CriterionSpec(name, value_type="number" if name in numbers else "category") for name in table.columns)
    )
    closed_at = pd.Timestamp("2008-05-01") + pd.to_timedelta(np.arange(len(table)) * 30, unit="min")
    return spec, table, y, pd.DatetimeIndex(closed_at)


def plain_logistic_regression(spec: CardSpec, X: pd.DataFrame, y: np.ndarray, train, test) -> dict[str, float]:
    """Figures on `test` of one-hot categories and standardised numbers, fitted on `train`."""
    from sklearn.compose import make_column_transformer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    filled = X.assign(pdays=X["pdays"].fillna(999))
    names = {kind: [c.name for c in spec.criteria if c.value_type == kind] for kind in ("number", "category")}
    plain = make_pipeline(
        make_column_transformer(
            (OneHotEncoder(handle_unknown="ignore"), names["category"]), (StandardScaler(), names["number"])
        ),
        LogisticRegression(max_iter=2000),
    ).fit(filled.iloc[train], y[train])
    return evaluate.figures(y[test], plain.predict_proba(filled.iloc[test])[:, 1])


def test_bank__integer_card_with_automatic_bands_is_as_good_as_plain_logistic_regression(bank):
    spec, X, y, closed_at = bank
    order = np.random.default_rng(0).permutation(len(X))
    train, test = order[:16_000], order[16_000:]
    card = fit_card(spec, X.iloc[train], y[train], closed_at[train], seed=1, with_evaluation=False)
    points = card.total_points(X.iloc[test]).to_numpy()
    mine = evaluate.figures(y[test], card.win_probability(points)[0])
    theirs = plain_logistic_regression(spec, X, y, train, test)
    assert mine["auc"] > theirs["auc"] - 0.01
    assert mine["log_loss"] < theirs["log_loss"] + 0.003
    assert mine["ece"] < 0.02


def test_bank__on_the_newest_fifth_the_card_ranks_as_well_as_plain_logistic_regression(bank):
    spec, X, y, closed_at = bank
    older = int(0.8 * len(X))
    train, test = np.arange(older), np.arange(older, len(X))
    card = fit_card(spec, X.iloc[train], y[train], closed_at[train], seed=1, with_evaluation=False)
    points = card.total_points(X.iloc[test]).to_numpy(dtype=float)
    theirs = plain_logistic_regression(spec, X, y, train, test)
    assert card.woe_share > 0.3  # without it the card ranks at .711
    assert evaluate.auc(y[test], points) > theirs["auc"] - 0.01


def test_bank__on_later_calls_the_card_is_as_good_as_logistic_regression_on_its_bands(bank):
    spec, X, y, closed_at = bank
    result = fit_card(spec, X, y, closed_at, seed=1).evaluation
    assert result["signal"] == "shown"
    assert result["card"]["auc"] > result["baselines"]["logistic_regression"]["auc"] - 0.01
    assert result["card"]["log_loss"] < result["baselines"]["base_rate"]["log_loss"] - 0.15
