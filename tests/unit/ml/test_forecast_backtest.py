"""The backtest: calibrated on earlier origins only, scored by hand, right on planted hazards."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ml.forecast.backtest import Calibration, backtest, calibrate, fit_calibration, scores
from ml.forecast.baselines import NAMES, baseline_points
from ml.forecast.history import DealHistory, day
from ml.forecast.totals import LEVELS, fit_forecast, level_name, month_periods, simulate
from tests.trials import forecast_company as trial

MADE = trial.company(31, weeks=120, deals_per_week=15.0, owners=6)
HISTORY = MADE.history()
ORIGINS = list(pd.date_range("2024-07-31", "2024-12-31", freq="ME"))
ROWS = backtest(HISTORY, ORIGINS, (30, 60), dimensions=("team",), scenarios=150, seed=2)
QUANTILES = [level_name(level) for level in LEVELS]


def past(errors, *, every=30, sd=0.1, **methods):
    """Backtest records of one horizon whose model was wrong by these log errors."""
    actual = 1e6 * np.exp(np.asarray(errors))
    frame = pd.DataFrame(
        {"origin": pd.date_range("2024-01-01", periods=len(actual), freq=f"{every}D"), "actual": actual}
    )
    frame["model"], frame["model_sd"] = 1e6, sd
    for name in NAMES:
        frame[name] = actual * np.exp(methods[name]) if name in methods else np.nan
    return frame


def test_calibration__without_a_past_is_the_prior():
    plain = fit_calibration(pd.DataFrame(), 30)
    assert (plain.bias, plain.origins) == (0, 0)
    # What the pool is believed to be wrong by beyond the noise of the window.
    assert 1 < plain.spread < 1.3
    assert sum(plain.weights.values()) == pytest.approx(1)
    assert max(plain.weights, key=lambda name: plain.weights[name]) == "model"


def test_calibration__where_windows_are_noisy_who_repeats_one_is_trusted_less():
    calm, noisy = (fit_calibration(pd.DataFrame(), 30, model_sd=sd) for sd in (0.1, 0.3))
    assert noisy.weights["run_rate"] < calm.weights["run_rate"] / 2
    assert noisy.weights["model"] > calm.weights["model"] > 0.5
    assert noisy.spread < calm.spread


def test_calibration__learns_weights_bias_and_spread_by_the_windows_that_were_seen():
    generator = np.random.default_rng(0)
    wide = fit_calibration(past(generator.normal(0, 0.3, 60)), 30)
    assert 2.4 < wide.spread < 3.4
    narrow = fit_calibration(past(generator.normal(0, 0.05, 60)), 30)
    assert 0.45 < narrow.spread < 0.7
    low = fit_calibration(past(np.full(60, 0.2)), 30)
    assert low.bias == pytest.approx(0.2, abs=0.03)
    good = fit_calibration(past(generator.normal(0, 0.3, 60), run_rate=0.02, last_year=0.5), 30)
    assert good.weights["run_rate"] > 0.5 > 5 * good.weights["last_year"]
    # Sixty origins one day apart are two months, not sixty.
    assert fit_calibration(past(np.full(60, 0.2), every=1), 30).bias < 0.1


def test_centre__pools_what_is_there():
    calibration = Calibration(30, {"model": 0.5, "run_rate": 0.5, "last_year": 0.2}, 0.0, 1.0, {}, 0, 0.0)
    assert calibration.centre({"model": 100.0, "run_rate": 400.0, "last_year": np.nan}) == pytest.approx(200.0)
    assert calibration.centre({"model": 100.0, "run_rate": 0.0}) == pytest.approx(100.0)


def test_scores__are_the_definitions_by_hand():
    frame = pd.DataFrame({"horizon_days": 30, "method": "m", "point": [110.0, 80.0], "actual": [100.0, 100.0]})
    for level in LEVELS:
        frame[level_name(level)] = frame["point"] + 10 * norm.ppf(level)
    found = scores(frame).iloc[0]
    assert found["wape"] == pytest.approx(0.15)
    assert found["bias"] == pytest.approx(-0.05)
    # 10 over its point by one standard deviation, 20 under by two.
    assert (found["coverage_50"], found["coverage_80"], found["coverage_95"]) == (0, 0.5, 0.5)
    losses = []
    for shift in (10, -20):
        for level in LEVELS:
            gap = -shift - 10 * norm.ppf(level)
            losses.append(max(level * gap, (level - 1) * gap))
    assert found["pinball"] == pytest.approx(np.mean(losses) / 100)


def test_backtest__of_an_origin_does_not_change_with_what_came_after_it():
    until = pd.Timestamp("2024-09-30")
    cut = DealHistory.from_versions(
        MADE.versions[MADE.versions["known_from"] <= until], stages=trial.STAGES, groups=["team"]
    )
    earlier = [origin for origin in ORIGINS if origin <= until]
    again = backtest(cut, earlier, (30, 60), dimensions=("team",), scenarios=150, seed=2)
    full = ROWS[ROWS["origin"] <= until].reset_index(drop=True)
    columns = ["origin", "horizon_days", "dimension", "label", "method", "point", "origins_before", *QUANTILES]
    pd.testing.assert_frame_equal(full[columns], again[columns])


def test_backtest__counts_only_windows_that_had_ended():
    whole = ROWS[(ROWS["dimension"] == "all") & (ROWS["method"] == "forecast")].set_index(["horizon_days", "origin"])
    before = whole["origins_before"]
    assert before.loc[30].tolist() == list(range(len(ORIGINS)))  # a month has 30 days or more
    assert before.loc[60].tolist() == [max(number - 1, 0) for number in range(len(ORIGINS))]
    assert (np.diff(whole[QUANTILES].to_numpy(), axis=1) >= 0).all()
    teams = ROWS[(ROWS["dimension"] == "team") & (ROWS["method"] == "forecast")]
    sums = teams.groupby(["horizon_days", "origin"])["actual"].sum()
    pd.testing.assert_series_equal(sums, whole["actual"].sort_index(), check_exact=False)


def test_baselines__are_what_they_say():
    moment = day("2024-12-31")
    model = fit_forecast(HISTORY, "2024-12-31", seed=2)
    points = baseline_points(HISTORY, moment, np.array([60.0, 30.0]), model.creation, model.values)
    now = HISTORY.as_of(moment)
    won = now[HISTORY.status[now] == 1]
    last = HISTORY.closed[won] > moment - 30
    assert points["run_rate"][1] == pytest.approx(HISTORY.amount[won][last].sum())
    rows = HISTORY.open_as_of(moment)
    closed = now[(HISTORY.status[now] != 0) & (HISTORY.closed[now] > moment - 365)]
    rate = (HISTORY.status[closed] == 1).mean()
    assert points["open_win_rate"] == pytest.approx(HISTORY.amount[rows].sum() * rate)
    assert points["age_hazard"][0] > points["age_hazard"][1] > 0
    assert points["stage_weighted"][0] >= points["stage_weighted"][1] > 0
    assert np.isnan(
        baseline_points(HISTORY, day("2023-12-01"), np.array([30.0]), model.creation, model.values)["last_year"]
    ).all()


def test_calibrated_scenarios__have_the_pool_in_the_middle_and_still_add_up():
    model = fit_forecast(HISTORY, "2025-01-01", seed=2)
    totals = simulate(model, HISTORY, month_periods("2025-01-01", 3), dimensions=("team",), scenarios=200)
    calibrations = [Calibration(h, {"model": 1.0}, bias, 1.0, {}, 5, 5.0) for h, bias in ((31, 0.0), (90, 0.3))]
    blocks = np.median((totals.open["all"] + totals.new["all"])[:, 0], axis=0)
    points = {31.0: {"model": blocks[0]}, 90.0: {"model": blocks.sum()}}
    moved = calibrate(totals, points, calibrations)
    np.testing.assert_allclose(moved.draws("team").sum(axis=1), moved.draws()[:, 0], rtol=1e-4, atol=10)
    before, after = (np.median(each.draws()[:, 0], axis=0) for each in (totals, moved))
    assert after[0] == pytest.approx(before[0], rel=0.03)
    assert after.sum() == pytest.approx(before.sum() * np.exp(0.3), rel=0.03)


def test_simulated_companies__intervals_hold_and_probabilities_are_calibrated():
    results = [trial.study(seed, every=63, weeks=118, deals_per_week=15.0) for seed in range(3)]
    rows = pd.concat([each.rows for each in results])
    found = scores(rows[rows["dimension"] == "team"], ["method"]).set_index("method")
    assert 0.68 <= found.loc["forecast", "coverage_80"] <= 0.92
    whole = scores(rows[rows["dimension"] == "all"], ["method"]).set_index("method")
    assert whole.loc["forecast", "pinball"] < whole.loc["run_rate", "pinball"]
    _, slope = trial.calibration_slope(*(np.concatenate([getattr(r, n) for r in results]) for n in ("promised", "won")))
    assert 0.8 < slope < 1.25
