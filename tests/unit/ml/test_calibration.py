"""A calibration is a table that never falls, is right where the answer is planted, and knows how unsure it is."""

import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit

from ml.calibration import CURVE_FROM_DEALS, calibrate, flat_calibration, weight_variance_by_total
from ml.card import WEIGHT_PER_POINT, Calibration, Card, CardBand, points_from_weights
from ml.evaluate import log_losses, probability_between, rounding_cost, total_weights

RANGE = {"lowest_points": -150, "highest_points": 150}
EXPECTED = {"expected_win_rate": 0.25, "expected_win_rate_deals": 10}


def deals(curve, count, seed, spread=35):
    generator = np.random.default_rng(seed)
    points = generator.normal(0, spread, count).round()
    return points, (generator.random(count) < curve(points)).astype(int)


def straight(points):
    return expit(-1.1 + WEIGHT_PER_POINT * points)


def saturating(points):
    return expit(-1.1 + 1.2 * np.tanh(points / 30))


def test_calibrate__recovers_a_planted_line():
    def planted(points):
        return expit(-1 + 0.02 * points)

    points, won = deals(planted, 20_000, 5)
    found = calibrate(points, won, **RANGE, **EXPECTED)
    assert (found.method, found.deal_count) == ("sigmoid", 20_000)
    totals = np.arange(-80, 81, 20)
    p, low, high = found.win_probability(totals)
    np.testing.assert_allclose(p, planted(totals), atol=0.015)
    assert (high - low < 0.05).all()


def test_calibrate__without_deals_is_the_prior_and_noise_shrinks_to_flat():
    prior = calibrate([], [], **RANGE, **EXPECTED)
    p, low, high = prior.win_probability([0, 20])
    assert p[0] == pytest.approx(0.25)
    assert p[1] / (1 - p[1]) == pytest.approx(2 * p[0] / (1 - p[0]), rel=1e-6)
    assert low[0] < 0.12
    assert high[0] > 0.4
    generator = np.random.default_rng(6)
    points, won = generator.normal(0, 20, 5000).round(), generator.integers(0, 2, 5000)
    p = calibrate(points, won, **RANGE, **EXPECTED).win_probability([-20, 20])[0]
    assert np.ptp(p) < 0.05


def test_calibrate__points_that_rank_the_wrong_way_give_a_flat_table():
    points, won = deals(straight, 3000, 1)
    found = calibrate(-points, won, **RANGE, **EXPECTED)
    assert found.method == "flat"
    assert np.ptp(found.probability) < 1e-6
    assert found.probability[0] == pytest.approx(won.mean(), abs=0.01)


@pytest.mark.parametrize(("curve", "count", "method"), [(straight, 150, "sigmoid"), (saturating, 12_000, "isotonic")])
def test_calibrate__interval_covers_the_true_probability(curve, count, method):
    hits, methods = [], set()
    for seed in range(120 if count < 1000 else 25):
        points, won = deals(curve, count, seed, spread=30)
        found = calibrate(points, won, **RANGE, **EXPECTED)
        methods.add(found.method)
        totals = np.array([-40, -15, 0, 20, 50])
        _, low, high = found.win_probability(totals)
        hits.append((low < curve(totals)) & (curve(totals) < high))
    assert methods == {method}
    assert 0.84 <= np.mean(hits) <= 0.98


def test_calibrate__takes_a_curve_only_from_1000_deals_on_and_only_where_it_pays():
    chosen = {name: [] for name in ("straight", "saturating")}
    for name, curve in (("straight", straight), ("saturating", saturating)):
        for seed in range(12):
            points, won = deals(curve, 4000, seed)
            found = calibrate(points, won, **RANGE, **EXPECTED)
            few = CURVE_FROM_DEALS - 1
            line = calibrate(points[:few], won[:few], **RANGE, **EXPECTED)
            assert line.method == "sigmoid"
            later, later_won = deals(curve, 50_000, seed + 1000)
            losses = [log_losses(later_won, c.win_probability(later)[0]).mean() for c in (found, line)]
            chosen[name].append((found.method, losses[0] - losses[1]))
    assert [method for method, _ in chosen["saturating"]] == ["isotonic"] * 12
    assert [method for method, _ in chosen["straight"]].count("isotonic") <= 2
    assert np.mean([gap for _, gap in chosen["saturating"]]) < -0.003
    assert np.mean([gap for _, gap in chosen["straight"]]) < 0.0


def test_flat_calibration__is_the_win_rate_at_any_points():
    flat = flat_calibration(np.array([1] * 630 + [0] * 370), **RANGE, **EXPECTED)
    p, low, high = flat.win_probability(np.array([-100, 100]))
    assert flat.method == "flat"
    assert p[0] == p[1] == pytest.approx(0.63, abs=0.005)
    assert low[0] < 0.63 < high[0]
    assert high[0] - low[0] == pytest.approx(2 * 1.645 * np.sqrt(0.63 * 0.37 / 1010), rel=0.02)


@settings(deadline=None, max_examples=60)
@given(
    st.integers(0, 2500),
    st.integers(0, 10_000),
    st.floats(0, 400),
    st.floats(-0.5, 0.5),
    st.sampled_from([0.001, 0.25, 0.97]),
)
def test_table__is_whole_inside_0_and_1_and_never_falls(count, seed, spread, steepness, rate):
    points, won = deals(lambda x: expit(-1 + steepness * x), count, seed, spread=spread)
    lowest, highest = -900, 1100
    table = calibrate(
        points, won, lowest_points=lowest, highest_points=highest, expected_win_rate=rate, expected_win_rate_deals=10
    )
    p, low, high = table.win_probability(np.arange(lowest, highest + 1))
    assert len(table.probability) == highest - lowest + 1
    assert (np.diff(p) >= 0).all()
    assert (low > 0).all()
    assert (low <= p).all()
    assert (p <= high).all()
    assert (high < 1).all()
    assert all(value == round(value, 9) for value in table.probability[::97])
    assert table.win_probability([lowest - 50, highest + 50])[0].tolist() == [p[0], p[-1]]


def test_weight_variance__widens_the_interval_and_nothing_else():
    points, won = deals(straight, 3000, 2)
    own = calibrate(points, won, **RANGE, **EXPECTED)
    extra = np.full(301, 0.09)
    wide = calibrate(points, won, **RANGE, **EXPECTED, weight_variance=extra)
    assert wide.probability == own.probability

    def half(table):
        return (np.log(table.high[150] / (1 - table.high[150])) - np.log(table.low[150] / (1 - table.low[150]))) / 3.29

    steepness = (
        np.diff(np.log(np.array(own.probability)[[140, 160]] / (1 - np.array(own.probability)[[140, 160]])))[0] / 20
    )
    assert half(wide) ** 2 - half(own) ** 2 == pytest.approx(0.09 * (steepness / WEIGHT_PER_POINT) ** 2, rel=1e-3)
    with pytest.raises(ValueError, match=r"one figure per total \(301\), got \(3,\)"):
        calibrate(points, won, **RANGE, **EXPECTED, weight_variance=[1, 2, 3])


def test_weight_variance_by_total__is_a_parabola_within_what_was_seen():
    totals = np.array([-10, 0, 10, 20])
    found = weight_variance_by_total(totals, 0.1 + (totals / 100) ** 2, lowest_points=-10, highest_points=40)
    np.testing.assert_allclose(found[[0, 10, 15]], [0.11, 0.1, 0.1025], atol=1e-12)
    assert found[-1] == pytest.approx(0.14)
    assert weight_variance_by_total([], [], lowest_points=0, highest_points=2).tolist() == [0, 0, 0]


def test_calibration__of_an_old_document_is_the_table_of_its_line():
    line = {"intercept": -1.0, "slope": 0.03, "var_intercept": 0.04, "covariance": -1e-4, "var_slope": 1e-5}
    table = Calibration.from_document(line, lowest_points=-60, highest_points=90, deal_count=70)
    assert (table.method, table.deal_count, table.points_from, table.points_to) == ("sigmoid", 70, -60, 90)
    for points in (-60, 0, 37):
        half = 1.645 * math.sqrt(0.04 - 2e-4 * points + 1e-5 * points**2)
        expected = expit(np.array([0, -half, half]) - 1 + 0.03 * points)
        np.testing.assert_allclose(np.array(table.win_probability(points)), expected, atol=1e-9)
    assert Calibration.from_document(table.to_document(), lowest_points=0, highest_points=0, deal_count=0) == table


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "magic"}, "method must be sigmoid, isotonic or flat, got 'magic'"),
        ({"low": (0.1,)}, "same number of entries, at least 1, got 2, 1 and 2"),
        ({"probability": (0.3, 0.2)}, "must not fall with points, got 0.2 after 0.3 at 8 points"),
        ({"high": (0.9, 1.0)}, r"must hold, got 0.1, 0.4, 1.0 at 8 points"),
        ({"low": (0.1, math.nan)}, "must hold, got nan"),
    ],
)
def test_calibration__refuses_a_table_that_is_none(change, message):
    good = {"probability": (0.2, 0.4), "low": (0.1, 0.1), "high": (0.5, 0.6)}
    with pytest.raises(ValueError, match=message):
        Calibration(**{"method": "sigmoid", "deal_count": 1, "points_from": 7, **good, **change})


def card_of(weights: list[list[float]], table: Calibration) -> Card:
    bands = []
    for number, of_criterion in enumerate(weights):
        for place, weight in enumerate(of_criterion):
            is_last = place == len(of_criterion) - 1
            bands.append(
                CardBand(
                    criterion=f"c{number}",
                    kind="explicit",
                    band_no=place + 1,
                    band=str(place),
                    band_type="missing" if is_last else "values",
                    lower=None,
                    upper=None,
                    values=None if is_last else (str(place),),
                    expert_points=0,
                    points=int(points_from_weights(weight)),
                    weight=weight,
                    weight_low=weight - 1,
                    weight_high=weight + 1,
                    deal_count=0,
                    won_count=0,
                    data_share_pct=0.0,
                )
            )
    return Card(tuple(bands), table, 0.25, 1.0, 40.0, 0, 0)


@settings(deadline=None, max_examples=60)
@given(st.integers(1, 12), st.integers(0, 10_000), st.floats(0.05, 2.0))
def test_points__give_the_probability_of_the_weights_within_half_a_point_per_criterion(count, seed, spread):
    generator = np.random.default_rng(seed)
    weights = [list(generator.normal(0, spread, 4)) for _ in range(count)]
    points, won = deals(straight, 400, seed)
    reach = 2 + int(sum(max(abs(w) for w in row) for row in weights) / WEIGHT_PER_POINT) + count
    table = calibrate(points, won, lowest_points=-reach, highest_points=reach, **EXPECTED)
    card = card_of(weights, table)
    codes = generator.integers(0, 4, (50, count))
    X = pd.DataFrame({f"c{j}": np.array(["0", "1", "2", None], dtype=object)[codes[:, j]] for j in range(count)})
    exact = total_weights(card, X)
    np.testing.assert_allclose(exact, np.array(weights)[np.arange(count), codes].sum(axis=1), atol=1e-12)
    total = card.total_points(X).to_numpy()
    bound = count / 2
    assert (np.abs(total - exact / WEIGHT_PER_POINT) <= bound + 1e-9).all()
    p = card.win_probability(total)[0]
    least, most = (probability_between(card, exact / WEIGHT_PER_POINT + side * bound) for side in (-1, 1))
    assert (least - 1e-9 <= p).all()
    assert (p <= most + 1e-9).all()
    cost = rounding_cost(card, X, generator.integers(0, 2, 50))
    assert cost["bound_points"] == bound
    assert cost["largest_points"] == pytest.approx(np.abs(total - exact / WEIGHT_PER_POINT).max())
    # Half a point per criterion is at most this much log-odds: log loss cannot move by more.
    steepest = np.diff(np.log(np.array(table.probability) / (1 - np.array(table.probability)))).max()
    assert abs(cost["log_loss_cost"]) <= bound * steepest + 1e-6
