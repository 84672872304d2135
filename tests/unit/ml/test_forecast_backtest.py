"""The backtest: calibrated on earlier origins only, scored by hand, right on planted hazards."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import norm

from ml.forecast.backtest import (
    Calibration,
    _as_issued,
    _worth,
    backtest,
    calibrate,
    calibrations_of,
    fit_calibration,
    normal_scores,
    predictive_quantiles,
    scores,
    with_points,
)
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
    # What the pool is believed to be wrong by beyond the noise of the window, and that this is a belief.
    assert 1 < plain.believed < plain.spread < 1.15 * plain.believed < 1.5
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


def test_calibration__doubt_of_the_model_counts_by_its_weight_alone():
    sure, doubted = (fit_calibration(pd.DataFrame(), 90, 0.15, doubt) for doubt in (0.0, 0.1))
    assert doubted.believed < sure.believed
    # What is left of the window's noise, and of each method what it is wrong by beyond it.
    noise = 0.15**2 - 0.1**2
    own = {"model": 0.1**2, "run_rate": 0.11**2 + noise, "last_year": 0.25**2 + noise, "age_hazard": 0.22**2}
    own |= {"stage_weighted": 1.5**2, "open_win_rate": 1.5**2}
    total = sum(1 / value for value in own.values())
    pooled = noise + sum((1 / value / total) ** 2 * value for value in own.values())
    assert doubted.believed == pytest.approx(np.sqrt(pooled) / 0.15)


def test_calibration__who_says_nothing_of_a_window_is_in_no_pool():
    """Where the record is too short to repeat a window the model is not made surer by methods that say nothing."""
    every, alone = (fit_calibration(pd.DataFrame(), 90, 0.15, 0.05, names) for names in (("model", *NAMES), ("model",)))
    assert every == fit_calibration(pd.DataFrame(), 90, 0.15, 0.05)
    assert alone.weights == every.weights
    # Alone it is wrong by all that it is believed to be wrong by.
    assert alone.believed == pytest.approx(np.sqrt(0.15**2 - 0.05**2 + 0.1**2) / 0.15)
    assert alone.believed > 1.05 * every.believed
    record = {"model": 1e6, "run_rate": np.nan, "last_year": 0.0, "age_hazard": 2e6}
    assert with_points(record) == ("model", "age_hazard")
    # As it was said at the time: the last window could be repeated from the third origin on.
    known = past(np.zeros(5), run_rate=0.0)
    known.loc[:1, "run_rate"] = np.nan
    replayed = _as_issued(known, 30)
    none, some = (fit_calibration(pd.DataFrame(), 30, 0.1, 0.0, names) for names in (("model",), ("model", "run_rate")))
    assert replayed["issued_sd"][0] == pytest.approx(0.1 * none.believed)
    assert replayed["issued_sd"][4] < replayed["issued_sd"][1]
    # Of landed rows: who said something at the last origin.
    assert fit_calibration(replayed, 30) == fit_calibration(replayed, 30, pooled=("model", "run_rate"))
    assert fit_calibration(replayed, 30).believed < fit_calibration(replayed, 30, pooled=("model",)).believed
    assert some.believed < none.believed


def test_calibration__spread_is_of_errors_as_they_were_made():
    """Weights and bias follow the windows they are fitted on: errors that are left there are smaller than the next one will be."""
    generator = np.random.default_rng(4)
    known = past(generator.normal(0, 0.1, 6))
    known["run_rate"] = known["actual"] * np.exp(generator.normal(0, 0.15, 6))
    replayed = _as_issued(known, 30)
    for number in range(6):
        then = fit_calibration(replayed.iloc[:number], 30, 0.1, pooled=("model", "run_rate"))
        assert replayed["centre"][number] == pytest.approx(then.centre(known.iloc[number]))
        assert replayed["issued_sd"][number] == pytest.approx(0.1 * then.believed)
    assert fit_calibration(known, 30) == fit_calibration(replayed, 30)
    # Whatever it was wrong by then, and not what it would be wrong by now.
    worse = replayed.assign(centre=replayed["centre"] * 2)
    assert fit_calibration(worse, 30).spread > 1.5 * fit_calibration(replayed, 30).spread


def test_calibration__holds_in_a_world_of_known_noise():
    """The model and the last window are right up to noise and errors of known size; six windows one after the other."""
    generator = np.random.default_rng(7)
    inside, outer = [], []
    for _ in range(60):
        noise = float(generator.choice([0.1, 0.2, 0.4]))
        frame = past(generator.normal(0, np.hypot(noise, 0.1), 6), sd=noise)
        # A window's own noise is in what came; the model is off by 0.1, whoever repeats by a window's noise as well.
        frame["run_rate"] = frame["actual"].shift(1)
        frame = _as_issued(frame, 30)
        for number in range(6):
            made = fit_calibration(frame.iloc[:number], 30, noise, pooled=with_points(frame.iloc[number].to_dict()))
            error = np.log(frame["actual"][number] / frame["centre"][number]) / noise
            reach = norm.ppf(0.9) * made.spread
            inside.append(abs(error) < reach)
            outer.append(abs(error) < norm.ppf(0.975) * made.spread_at(np.array([norm.ppf(0.975)]))[0])
    assert 0.75 <= np.mean(inside) <= 0.88
    # Wide by what the last window is believed to be wrong by beyond noise: in this world by nothing.
    assert 0.93 <= np.mean(outer) <= 0.995


def test_calibration__is_a_number_whatever_is_seen():
    generator = np.random.default_rng(3)
    for case in range(18):
        count = int(generator.integers(1, 8))
        frame = past(generator.normal(0, 0.3, count) * (case % 3), sd=float(generator.choice([0.005, 0.2, 2.0])))
        frame["run_rate"] = generator.choice([np.nan, 0.0, 1e6], count)
        frame.loc[0, "actual"] = (0.0, 1e12, frame["actual"][0])[case % 3]
        frame["doubt_sd"] = generator.choice([np.nan, 0.0, 0.1, 9.0], count)
        found = fit_calibration(frame, 30, 0.1, 0.3)
        assert np.isfinite([found.bias, found.spread, found.believed, *found.stretch, *found.weights.values()]).all()
        assert min(found.spread, *found.stretch) > 0


def test_predictive_quantiles__are_those_of_the_next_error():
    """The scale is drawn from the belief, the shape from the shapes: what is said holds for any number of errors seen."""
    generator = np.random.default_rng(11)
    for count in (0, 3, 12):
        inside = []
        for _ in range(400):
            scale = np.exp(generator.normal(0, 1 / np.sqrt(8)))
            errors = scale * generator.standard_t(generator.choice([4.0, 8.0, 100.0]), count + 1)
            # The tenth score of a quarter each is 2.5, the fifth 1.25: 78.9 % lie within it.
            inside.append(abs(errors[-1]) < predictive_quantiles(errors[:-1], np.ones(count))[4])
        assert np.mean(inside) == pytest.approx(0.789, abs=0.05)


def test_predictive_quantiles__narrow_with_what_is_seen_and_are_not_pulled_by_one():
    generator = np.random.default_rng(5)
    at_80 = 4
    seen = norm.ppf((np.arange(200) + 0.5) / 200)
    none, few, many = (
        predictive_quantiles(errors, np.ones(len(errors)))
        for errors in (np.empty(0), generator.permutation(seen)[:8], seen)
    )
    assert (np.diff([none, few, many], axis=1) > 0).all()
    # From ever more normal errors the quantiles become normal ones; before, they lie further out.
    np.testing.assert_allclose(many[:8], np.arange(0.25, 2.01, 0.25), rtol=0.05)
    assert none[-1] > 1.2 * many[-1]
    assert predictive_quantiles(2 * seen, np.ones(200))[at_80] == pytest.approx(2.5, rel=0.05)
    # Half of the weight, half of the evidence.
    twice = np.concatenate([seen[:9], seen[:9]])
    np.testing.assert_allclose(
        predictive_quantiles(twice, np.full(18, 0.5)), predictive_quantiles(seen[:9], np.ones(9))
    )
    shocked = predictive_quantiles(np.append(seen[::8], 8.0), np.ones(26))
    calm = predictive_quantiles(seen[::8], np.ones(25))
    # By root mean squares it would be 1.9 times as far.
    assert calm[at_80] < shocked[at_80] < 1.25 * calm[at_80]


def test_worth__is_of_windows_apart_their_number_and_of_the_same_window_one():
    assert _worth(np.array([0.0, 30.0, 60.0]), 30.0) == pytest.approx(3)
    assert _worth(np.array([5.0, 5.0, 5.0]), 30.0) == pytest.approx(1)
    # Half in common: squares are correlated by a quarter.
    assert _worth(np.array([0.0, 15.0]), 30.0) == pytest.approx(4 / 2.5)


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


def test_calibrated_scenarios__are_stretched_by_their_rank_and_still_add_up():
    model = fit_forecast(HISTORY, "2025-01-01", seed=2)
    totals = simulate(model, HISTORY, month_periods("2025-01-01", 1), dimensions=("team",), scenarios=400)
    far = tuple(np.linspace(1.0, 2.0, 12))
    point = {31.0: {"model": float(np.median(totals.draws()[:, 0, 0]))}}
    moved = calibrate(totals, point, [Calibration(31, {"model": 1.0}, 0.0, 1.4, {}, 5, 5.0, 1.0, far)])
    np.testing.assert_allclose(moved.draws("team").sum(axis=1), moved.draws()[:, 0], rtol=1e-4, atol=10)
    before, after = (each.draws()[:, 0, 0].astype(float) for each in (totals, moved))
    middle = np.median(before)
    factor = np.log(after / middle) / np.log(before / middle)
    rank = np.abs(normal_scores(before))
    assert factor[rank < 0.2] == pytest.approx(1.0, abs=0.02)
    assert factor[rank > 2.6] == pytest.approx(1.9, abs=0.1)
    assert (np.argsort(before) == np.argsort(after)).all()


def test_calibrations_of__landed_rows_are_those_of_the_backtest():
    """From quantiles alone, and the doubt: as what the backtest itself would learn of all its windows."""
    found = {each.horizon: each for each in calibrations_of(ROWS)}
    assert sorted(found) == [30, 60]
    assert all(each.origins == len(ORIGINS) and np.isfinite(each.stretch).all() for each in found.values())
    model = ROWS[(ROWS["method"] == "model") & (ROWS["dimension"] == "all")]
    assert (model["doubt_sd"] > 0).all()
    assert ROWS[ROWS["method"] != "model"]["doubt_sd"].isna().all()
    wider = calibrations_of(ROWS.assign(doubt_sd=0.0))
    assert all(found[each.horizon].weights != each.weights for each in wider)


def test_simulated_companies__intervals_hold_and_probabilities_are_calibrated():
    results = [trial.study(seed, every=63, weeks=118, deals_per_week=15.0) for seed in range(3)]
    rows = pd.concat([each.rows for each in results])
    found = scores(rows[rows["dimension"] == "team"], ["method"]).set_index("method")
    assert 0.68 <= found.loc["forecast", "coverage_80"] <= 0.92
    whole = scores(rows[rows["dimension"] == "all"], ["method"]).set_index("method")
    assert whole.loc["forecast", "pinball"] < whole.loc["run_rate", "pinball"]
    _, slope = trial.calibration_slope(*(np.concatenate([getattr(r, n) for r in results]) for n in ("promised", "won")))
    assert 0.8 < slope < 1.25
