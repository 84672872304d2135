"""Points by hand: the card, the deals' points out of fold and the price all follow, and nothing else moves."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from ml.card import Card, CardSpec, CriterionSpec
from ml.edits import BAND_PREFIX, edit_points
from ml.scorecard import Fitted, fit

EXPECTED = {"expected_win_rate": 0.3, "expected_win_rate_deals": 10.0, "seed": 3}


@pytest.fixture(scope="module")
def fitted() -> tuple[Fitted, pd.DataFrame]:
    generator = np.random.default_rng(5)
    n = 3_000
    X = pd.DataFrame(
        {
            "size": generator.choice([5.0, 50.0, 500.0], n),
            "clicks": generator.choice([0.0, 1.0, 4.0], n),
        }
    )
    line = -1 + 0.8 * (X["size"] == 500) + 0.9 * (X["clicks"] > 0)
    won = (generator.random(n) < 1 / (1 + np.exp(-line))).astype(int).to_numpy()
    closed = pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(n), unit="h")
    spec = CardSpec((CriterionSpec("size"), CriterionSpec("clicks", kind="implicit")), max_pairs=0)
    result = fit(spec, X, won, closed, seed=3, with_evaluation=False)
    assert result.out_of_fold is not None
    rows = pd.DataFrame({"is_won": won, "closed_at": closed}).join(result.out_of_fold)
    for name, numbers in result.band_numbers.items():
        rows[BAND_PREFIX + name] = numbers
    return result, rows


def row_of(card: Card, criterion: str, band_no: int) -> tuple[str, str, str]:
    (band,) = [b for b in card.bands if (b.criterion, b.band_no) == (criterion, band_no)]
    return band.segment, band.criterion, band.band


def test_edit__moves_the_named_row_and_its_deals_and_nothing_else(fitted: tuple[Fitted, pd.DataFrame]) -> None:
    result, rows = fitted
    card = result.card
    row = row_of(card, "clicks", 1)
    before = next(b.points for b in card.bands if (b.segment, b.criterion, b.band) == row)
    edited = edit_points(card, {row: before + 13}, rows, **EXPECTED)
    changed = [(old, new) for old, new in zip(card.bands, edited.card.bands, strict=True) if old != new]
    assert [(new.criterion, new.band_no, new.points - old.points) for old, new in changed] == [("clicks", 1, 13)]
    assert changed[0][1].evidence.startswith(f"set to {before + 13:+d} by hand, {before:+d} before")
    assert edited.training_rows is not None
    moved = edited.training_rows["engagement_points"] - rows["engagement_points"]
    assert (moved == np.where(rows[BAND_PREFIX + "clicks"] == 1, 13, 0)).all()
    assert (edited.training_rows["fit_points"] == rows["fit_points"]).all()


def test_edit__makes_the_probability_anew_over_all_totals(fitted: tuple[Fitted, pd.DataFrame]) -> None:
    result, rows = fitted
    card = result.card
    row = row_of(card, "size", 1)
    edited = edit_points(card, {row: 90}, rows, **EXPECTED).card
    assert edited.calibration.points_to > card.calibration.points_to
    X = pd.DataFrame({"size": [5.0, 500.0], "clicks": [0.0, 4.0]})
    assert edited.total_points(X).between(edited.calibration.points_from, edited.calibration.points_to).all()


def test_price__of_a_harmful_edit_is_a_higher_log_loss_with_its_interval(fitted: tuple[Fitted, pd.DataFrame]) -> None:
    result, rows = fitted
    row = row_of(result.card, "clicks", 1)
    price = edit_points(result.card, {row: 100}, rows, **EXPECTED).price
    assert price["deal_count"] == 600
    assert price["after"]["auc"] < price["before"]["auc"] - 0.05
    assert price["gain"] < 0
    assert price["gain_interval"][1] < 0
    none = edit_points(result.card, {row: 0}, None, **EXPECTED)
    assert (none.price, none.training_rows) == ({}, None)


def test_edit__of_a_row_that_is_not_there_is_refused(fitted: tuple[Fitted, pd.DataFrame]) -> None:
    with pytest.raises(ValueError, match=r"no row .*'nowhere'"):
        edit_points(fitted[0].card, {("", "size", "nowhere"): 1}, None, **EXPECTED)
