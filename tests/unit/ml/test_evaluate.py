"""Metrics agree with scikit-learn or with arithmetic; the test is on later deals only."""

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from ml import evaluate


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


def _fit_of(deals, seen=None):
    from ml.scorecard import fit_card

    def fit(X, won):
        if seen is not None:
            seen.append(X.index.to_numpy())
        return fit_card(deals.spec, X, won, deals.closed_at[X.index], seed=1, with_evaluation=False)

    return fit


@pytest.fixture(scope="module")
def evaluated():
    from simulated_deals import simulate

    deals = simulate(600, 1)
    seen = []
    active = _fit_of(deals)(deals.X.iloc[:500], deals.y[:500])
    result = evaluate.on_later_deals(
        _fit_of(deals, seen),
        deals.X,
        deals.y,
        deals.closed_at.to_numpy(),
        out_of_fold=None,
        seed=1,
        active=active,
        active_fitted_at=deals.closed_at[499],
        amount=np.arange(600, dtype=float),
    )
    return deals, seen, result, active


def test_evaluation__every_origin_fits_on_what_had_closed_and_tests_what_closed_next(evaluated):
    deals, seen, result, _ = evaluated
    assert sorted((rows.min(), rows.max()) for rows in seen) == [(0, 119), (0, 239), (0, 359), (0, 479)]
    origins = result["origins"]
    assert [origin["earlier_count"] for origin in origins] == [120, 240, 360, 480]
    assert [origin["fitted_count"] for origin in origins] == [120, 240, 360, 480]
    assert [origin["later_count"] for origin in origins] == [120] * 4
    assert [o["later_until"] for o in origins[:-1]] == [o["earlier_until"] for o in origins[1:]]
    assert (result["earlier_count"], result["later_count"]) == (480, 120)
    assert result["earlier_until"] == str(deals.closed_at[479])
    assert result["later_until"] == str(deals.closed_at[599])
    assert {key: origins[-1][key] for key in ("card", "baselines")} == {
        key: result[key] for key in ("card", "baselines")
    }


def test_evaluation__says_the_same_again_and_a_later_deal_changes_no_earlier_origin(evaluated):
    deals, _, result, active = evaluated

    def again(won):
        return evaluate.on_later_deals(
            _fit_of(deals),
            deals.X,
            won,
            deals.closed_at.to_numpy(),
            out_of_fold=None,
            seed=1,
            active=active,
            active_fitted_at=deals.closed_at[499],
            amount=np.arange(600, dtype=float),
        )

    assert again(deals.y) == result
    turned = deals.y.copy()
    turned[480:] = 1 - turned[480:]
    other = again(turned)
    assert other["origins"][:-1] == result["origins"][:-1]
    assert other["card"]["auc"] < 0.5 < result["card"]["auc"]


def test_evaluation__is_json_and_holds_what_its_head_promises(evaluated):
    import json

    _, _, result, _ = evaluated
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    for key in result:
        assert f"``{key}``" in evaluate.__doc__, f"{key} is not explained"
    assert set(result["card"]) == set(evaluate.FIGURES)
    assert set(result["baselines"]) == {
        "base_rate",
        "expert_card",
        "active_card",
        "naive_bayes",
        "logistic_regression",
        "gradient_boosting",
    }
    assert set(result["intervals"]) == {*evaluate.FIGURES, *(f"gain_over_{name}" for name in result["baselines"])}
    for key in evaluate.FIGURES:
        low, high = result["intervals"][key]
        assert low <= result["card"][key] <= high
        low, high = result["origins_mean"]["intervals"][key]
        assert low <= result["origins_mean"]["card"][key] <= high


def test_evaluation__judges_the_active_card_on_deals_it_has_not_seen(evaluated):
    deals, _, result, active = evaluated
    judged = result["baselines"]["active_card"]
    assert judged["deal_count"] == 100
    unseen = slice(500, 600)
    points = active.total_points(deals.X[unseen]).to_numpy()
    expected = evaluate.figures(deals.y[unseen], active.win_probability(points)[0], points.astype(float))
    assert {key: judged[key] for key in expected} == expected
    gain = judged["log_loss"] - judged["card"]["log_loss"]
    low, high = result["intervals"]["gain_over_active_card"]
    assert low < gain < high
    assert all("active_card" not in origin["baselines"] for origin in result["origins"][:-1])
    assert "active_card" not in result["origins_mean"]["baselines"]
    with pytest.raises(ValueError, match="active_fitted_at must be given"):
        evaluate.on_later_deals(
            _fit_of(deals), deals.X, deals.y, deals.closed_at.to_numpy(), out_of_fold=None, seed=1, active=active
        )


def test_evaluation__mean_over_origins_is_weighted_and_surer_than_one_test(evaluated):
    _, _, result, _ = evaluated
    mean, origins = result["origins_mean"], result["origins"]
    assert mean["later_count"] == 480
    assert mean["card"]["auc"] == pytest.approx(np.mean([o["card"]["auc"] for o in origins]))
    for name in ("naive_bayes", "gradient_boosting"):
        assert mean["baselines"][name]["log_loss"] == pytest.approx(
            np.mean([o["baselines"][name]["log_loss"] for o in origins])
        )
    low, high = mean["intervals"]["auc"]
    assert low < mean["card"]["auc"] < high
    said = evaluate.verdict_sentences({**result, "signal": "shown"})[1]
    assert said.startswith(
        f"Refitted at 4 moments of the past and judged on the deals that closed next, its mean AUC is {mean['card']['auc']:.2f}"
    )
    assert high - low < 0.7 * np.ptp(result["intervals"]["auc"])


def test_rolling_origins__need_deals_on_both_sides_and_fall_back():
    closed = np.arange(100).astype("datetime64[D]")
    won = np.tile([0, 1, 0], 34)[:100]
    assert [int(o.earlier.sum()) for o in evaluate.rolling_origins(closed, won)] == [40, 70]
    assert evaluate.rolling_origins(closed[:59], won[:59]) == []
    won[:70] = 0
    assert evaluate.rolling_origins(closed, won) == []


def test_origins__of_many_deals_before_the_last_are_thinned(evaluated, monkeypatch):
    deals, _, result, _ = evaluated
    monkeypatch.setattr(evaluate, "ORIGIN_ROWS", 100)
    seen = []
    limited = evaluate.on_later_deals(
        _fit_of(deals, seen), deals.X, deals.y, deals.closed_at.to_numpy(), out_of_fold=None, seed=1
    )
    assert sorted((rows.min(), rows.max()) for rows in seen) == [(0, 479), (20, 119), (140, 239), (260, 359)]
    assert [o["fitted_count"] for o in limited["origins"]] == [100, 100, 100, 480]
    assert [o["later_count"] for o in limited["origins"]] == [60, 60, 60, 120]
    assert limited["origins_mean"]["later_count"] == 300
    assert limited["card"] == result["card"]


def test_naive_bayes__is_laplace_smoothed_on_the_cards_bands():
    from simulated_deals import simulate

    from ml.baselines import baseline_predictions

    deals = simulate(300, 3, criterion_count=3)
    card = _fit_of(deals)(deals.X, deals.y)
    new = pd.DataFrame({"criterion_0": ["a", None], "criterion_1": ["b", "never seen"], "criterion_2": ["c", "d"]})
    found = baseline_predictions(card, deals.X, deals.y, new, seed=1)["naive_bayes"]
    odds = np.full(2, deals.y.mean() / (1 - deals.y.mean()))
    for name, sizes in zip(new, (6, 6, 6), strict=True):
        earlier, later = card.band_numbers(deals.X)[name], card.band_numbers(new)[name]
        for row, band in enumerate(later):
            chance = [((earlier == band) & (deals.y == y)).sum() + 1 for y in (1, 0)]
            total = [(deals.y == y).sum() + sizes for y in (1, 0)]
            odds[row] *= (chance[0] / total[0]) / (chance[1] / total[1])
    np.testing.assert_allclose(found.p, odds / (1 + odds), rtol=1e-9)


def test_gains_table__counts_deals_wins_and_amounts():
    y = np.array([1, 1, 0, 0, 1, 0, 0, 0, 0, 0])
    score = np.array([9, 8, 7, 6, 5, 4, 3, 2, 1, 0.0])
    amount = np.array([100.0, np.nan, 50, 0, 300, 7, 7, 7, 7, 7])
    rows = evaluate.gains_table(y, score, amount)
    assert rows[1] == {
        "top_pct": 20,
        "deal_count": 2,
        "won_count": 2,
        "won_share_pct": 66.67,
        "won_amount": 100,
        "won_amount_share_pct": 25,
    }
    assert (rows[-1]["won_count"], rows[-1]["won_amount"], rows[-1]["won_amount_share_pct"]) == (3, 400, 100)
    tied = evaluate.gains_table(y, np.zeros(10), amount)
    assert [row["won_amount"] for row in tied] == pytest.approx([40 * k for k in range(1, 11)])


def test_reliability_table__has_equal_bins_and_wilson_intervals(scored):
    y, p = scored
    rows = evaluate.reliability_table(y, p)
    assert sum(row["deal_count"] for row in rows) == len(y)
    assert [row["win_probability"] for row in rows] == sorted(row["win_probability"] for row in rows)
    inside = [row["win_rate_low"] <= row["win_probability"] <= row["win_rate_high"] for row in rows]
    assert np.mean(inside) >= 0.7
    low, high = evaluate.wilson_interval(1, 10)
    assert (round(float(low), 4), round(float(high), 4)) == (0.0226, 0.3477)
    assert len(evaluate.reliability_table(y, np.full(len(y), 0.3))) == 1


def test_bootstrap__of_the_calibration_slope_is_that_of_refits(scored):
    y, p = scored
    found = evaluate.bootstrap_intervals(y, p, p, {}, seed=3)
    generator = np.random.default_rng(9)
    refits = []
    for _ in range(200):
        rows = generator.integers(0, len(y), len(y))
        refits.append(evaluate.calibration_line(y[rows], p[rows]))
    for number, key in enumerate(("calibration_intercept", "calibration_slope")):
        expected = np.quantile([refit[number] for refit in refits], [0.05, 0.95])
        np.testing.assert_allclose(found[key], expected, atol=0.35 * np.ptp(expected))


# --------------------------------------------------------------------------- whether a refit may replace a card


def _compare(deals, champion, fitted, **change):
    return evaluate.compare_on_later_deals(
        change.get("fit", _fit_of(deals)),
        champion,
        deals.X,
        deals.y,
        deals.closed_at.to_numpy(),
        deals.closed_at[fitted - 1],
        seed=1,
    )


def test_compare__the_same_method_is_not_worse_and_a_spoilt_one_is():
    from simulated_deals import simulate

    deals = simulate(900, 4)
    champion = _fit_of(deals)(deals.X.iloc[:500], deals.y[:500])
    seen = []
    same = _compare(deals, champion, 500, fit=_fit_of(deals, seen))
    assert [rows.max() for rows in seen] == [499]
    assert (same["decision"], same["fitted_count"], same["deal_count"]) == ("not_worse", 500, 400)
    assert same["gain"] == pytest.approx(0, abs=1e-12)
    assert same["challenger"] == same["champion"]
    assert same["auc_gain_interval"] == [0, 0]

    def spoilt(X, won):
        return _fit_of(deals)(X, np.random.default_rng(0).permutation(won))

    worse = _compare(deals, champion, 500, fit=spoilt)
    assert worse["decision"] == "worse"
    assert worse["gain"] < -0.02
    assert worse["gain_interval"][0] < worse["gain"] < worse["gain_interval"][1]
    assert worse["auc_gain"] < 0
    assert "it is worse" in worse["sentence"]
    better = _compare(deals, spoilt(deals.X.iloc[:500], deals.y[:500]), 500)
    assert better["decision"] == "not_worse"
    assert better["gain_interval"][0] > 0


def test_compare__says_when_too_few_deals_have_closed():
    from simulated_deals import simulate

    deals = simulate(300, 4)
    champion = _fit_of(deals)(deals.X.iloc[:280], deals.y[:280])
    found = _compare(deals, champion, 280)
    assert found["decision"] == "too_few"
    assert found["sentence"].startswith("Too few deals to compare: 20 deals have closed since")
    assert "gain" not in found
