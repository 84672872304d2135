"""Metrics agree with scikit-learn or with arithmetic; the test is on later deals only."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ml import evaluate
from ml.calibration import calibrate, flat_calibration
from ml.card import WEIGHT_PER_POINT


@pytest.fixture(scope="module")
def scored() -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(0)
    p = np.round(generator.beta(2, 5, 2000), 2).clip(0.01, 0.99)
    return (generator.random(2000) < p).astype(int), p


def test_auc__equals_scikit_learn_with_ties_and_weights(scored):
    y, p = scored
    weight = np.random.default_rng(1).integers(0, 3, len(y)).astype(float)
    assert evaluate.auc(y, p) == pytest.approx(roc_auc_score(y, p))
    assert evaluate.auc(y, p, weight) == pytest.approx(roc_auc_score(y, p, sample_weight=weight))
    assert np.isnan(evaluate.auc(np.ones(3), np.arange(3)))


def test_figures__of_true_probabilities_are_calibrated(scored):
    y, p = scored
    found = evaluate.figures(y, p)
    assert found["calibration_slope"] == pytest.approx(1, abs=0.15)
    assert found["calibration_intercept"] == pytest.approx(0, abs=0.15)
    assert found["ece"] < 0.04
    doubled = evaluate.figures(y, 1 / (1 + np.exp(-2 * np.log(p / (1 - p)))))
    assert doubled["calibration_slope"] == pytest.approx(found["calibration_slope"] / 2, rel=0.01)
    assert doubled["ece"] > found["ece"]
    assert doubled["auc"] == pytest.approx(found["auc"])


def test_expected_calibration_error__by_hand():
    y = np.array([0, 0, 0, 1, 1, 1, 1, 0])
    p = np.array([0.2] * 4 + [0.6] * 4)
    assert evaluate.expected_calibration_error(y, p, bins=2) == pytest.approx((0.05 + 0.15) / 2)


def test_gains__by_hand_and_ties_are_shared():
    y = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    score = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0.0])
    assert evaluate.gains(y, score, [0.1, 0.2, 0.5, 1.0]) == pytest.approx([1 / 3, 2 / 3, 1, 1])
    assert evaluate.gains(y, np.zeros(10), [0.1, 0.5]) == pytest.approx([0.1, 0.5])


def test_bootstrap__holds_the_figure_is_seeded_and_narrows(scored):
    y, p = scored
    base = {"base": np.full(len(y), y.mean())}
    found = evaluate.bootstrap_intervals(y, p, p, base, seed=3)
    assert found == evaluate.bootstrap_intervals(y, p, p, base, seed=3)
    figures = evaluate.figures(y, p)
    for key in ("auc", "log_loss", "brier", "lift_10", "lift_20"):
        assert found[key][0] < figures[key] < found[key][1]
    assert found["gain_over_base"][0] > 0
    few = evaluate.bootstrap_intervals(y[:100], p[:100], p[:100], {}, seed=3)
    assert np.ptp(few["auc"]) > 3 * np.ptp(found["auc"])


def test_split__is_strictly_later_and_keeps_same_moments_together():
    closed = np.repeat(pd.date_range("2024-01-01", periods=50).to_numpy(), 4)
    later, last = evaluate.split_by_close_time(closed)
    assert later.sum() == 40
    assert closed[later].min() > last == closed[~later].max()
    assert not evaluate.split_by_close_time(np.repeat(closed[:1], 200))[0].any()
    assert not evaluate.split_by_close_time(closed[:59])[0].any()


def test_evaluation__fits_on_earlier_deals_only():
    from simulated_deals import simulate

    from ml.scorecard import fit_card

    deals = simulate(300, 1)
    seen = []

    def fit(X, won):
        seen.append(X.index.to_numpy())
        return fit_card(deals.spec, X, won, deals.closed_at[X.index], seed=1, with_evaluation=False)

    closed = deals.closed_at.to_numpy()
    result = evaluate.on_later_deals(fit, deals.X, deals.y, closed, out_of_fold=None, seed=1)
    assert len(seen) == 1
    assert seen[0].max() == 239
    assert (result["earlier_count"], result["later_count"]) == (240, 60)
    assert result["earlier_until"] == str(deals.closed_at[239])


def test_calibrate__recovers_a_planted_line():
    generator = np.random.default_rng(5)
    points = generator.normal(10, 40, 20_000).round()
    won = (generator.random(20_000) < 1 / (1 + np.exp(-(-1 + 0.02 * points)))).astype(int)
    found = calibrate(points, won, expected_win_rate=0.25, expected_win_rate_deals=10)
    assert found.intercept == pytest.approx(-1, abs=0.06)
    assert found.slope == pytest.approx(0.02, abs=0.0015)
    assert 0 < found.var_slope < 1e-6


def test_calibrate__without_deals_is_the_prior_and_noise_shrinks_to_flat():
    prior = calibrate([], [], expected_win_rate=0.25, expected_win_rate_deals=10)
    assert prior.slope == WEIGHT_PER_POINT
    assert prior.win_probability(0)[0] == pytest.approx(0.25)
    generator = np.random.default_rng(6)
    points = generator.normal(0, 20, 5000).round()
    noise = calibrate(points, generator.integers(0, 2, 5000), expected_win_rate=0.25, expected_win_rate_deals=10)
    assert abs(noise.slope) < 0.1 * WEIGHT_PER_POINT


def test_calibrate__interval_covers_the_true_probability():
    generator = np.random.default_rng(7)
    hits = []
    for _ in range(200):
        points = generator.normal(0, 30, 150).round()
        won = (generator.random(150) < 1 / (1 + np.exp(1.1 - WEIGHT_PER_POINT * points))).astype(int)
        _, low, high = calibrate(points, won, expected_win_rate=0.25, expected_win_rate_deals=10).win_probability(20)
        hits.append(low < 1 / (1 + np.exp(1.1 - WEIGHT_PER_POINT * 20)) < high)
    assert 0.84 <= np.mean(hits) <= 0.97


def test_flat_calibration__is_the_win_rate_at_any_points():
    flat = flat_calibration(np.array([1] * 630 + [0] * 370), expected_win_rate=0.25, expected_win_rate_deals=10)
    p, low, high = flat.win_probability(np.array([-100, 100]))
    assert p[0] == p[1] == pytest.approx(0.63, abs=0.005)
    assert low[0] < 0.63 < high[0]
    assert high[0] - low[0] == pytest.approx(2 * 1.645 * np.sqrt(0.63 * 0.37 / 1010), rel=0.02)
