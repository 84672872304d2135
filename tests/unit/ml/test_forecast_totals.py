"""Sums as distributions: parts add up in every scenario, what is known is not forecast, months move together."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml.forecast.history import WON, day
from ml.forecast.months import MonthSpread
from ml.forecast.totals import coefficient_paths, doubt_sd, fit_forecast, month_periods, simulate
from tests.trials.forecast_company import company

MADE = company(21, weeks=90, deals_per_week=25.0, owners=8)
HISTORY = MADE.history()
AS_OF = pd.Timestamp("2024-08-12")
MODEL = fit_forecast(HISTORY, AS_OF, seed=1)
PERIODS = pd.concat([month_periods("2024-07-01", 6), month_periods("2024-07-01", 2, months=3)], ignore_index=True)
SURE = replace(MODEL.deal, spread=MonthSpread(0.0, 0.0, 0.0, 1.0), season_sd=0.0, level_sd=0.0, doubts=())
"""The same hazards without a doubt."""
TOTALS = simulate(MODEL, HISTORY, PERIODS, dimensions=("owner", "team"), scenarios=600, seed=3)


@pytest.mark.parametrize("part", ["won", "open", "new", "total"])
def test_parts__add_up_in_every_scenario(part):
    whole = TOTALS.draws("all", part)[:, 0, :]
    for dimension in ("owner", "team"):
        np.testing.assert_allclose(TOTALS.draws(dimension, part).sum(axis=1), whole, rtol=1e-4, atol=10)
    np.testing.assert_allclose(whole[:, 0:3].sum(axis=1), whole[:, 6], rtol=1e-4, atol=10)
    np.testing.assert_allclose(whole[:, 3:6].sum(axis=1), whole[:, 7], rtol=1e-4, atol=10)


def test_medians__of_parts_are_not_forced_to_add_up():
    wide = TOTALS.quantiles(["owner", "all"])
    december = wide[wide["period_label"] == "2024-12"]
    sums = december.groupby("dimension")[["mean", "p10", "p50", "p90"]].sum()
    assert sums.loc["owner", "mean"] == pytest.approx(sums.loc["all", "mean"], rel=1e-4)
    assert sums.loc["owner", "p90"] > 1.1 * sums.loc["all", "p90"]
    assert sums.loc["owner", "p10"] < 0.9 * sums.loc["all", "p10"]


def test_period_that_ended__is_what_was_won_and_nothing_else():
    now = HISTORY.as_of(day(AS_OF))
    july = (HISTORY.closed[now] >= day("2024-07-01")) & (HISTORY.closed[now] < day("2024-08-01"))
    won = HISTORY.amount[now][july & (HISTORY.status[now] == WON)].sum()
    draws = TOTALS.draws()[:, 0, 0]
    assert won > 0
    assert draws.min() == draws.max() == pytest.approx(won, rel=1e-6)


def test_new_business__begins_at_nothing_and_grows():
    new = TOTALS.draws("all", "new")[:, 0, :].mean(axis=0)
    old = TOTALS.draws("all", "open")[:, 0, :].mean(axis=0)
    assert new[0] == 0
    assert new[1] < new[3] < new[5]
    assert old[2] > old[4]


def test_owners__move_together_as_far_as_months_differ():
    """The sum is wider than of independent owners where months are good or bad for all, and only there."""
    ratio = {}
    for sd in (0.0, 0.4):
        model = replace(MODEL, deal=replace(SURE, spread=MonthSpread(sd, 0.0, sd, 1.0)))
        draws = simulate(model, HISTORY, PERIODS, dimensions=("owner",), scenarios=600, seed=5).draws("owner", "open")
        owners = draws[:, :, 7].astype(float)
        ratio[sd] = owners.sum(axis=1).var() / owners.var(axis=0).sum()
    assert ratio[0.0] == pytest.approx(1.0, abs=0.2)
    assert ratio[0.4] > 1.5


def test_season__moves_months_apart_and_not_the_quarter():
    """Doubt of the season widens a month, and hardly a whole quarter, in which what one month has more another has less."""
    width = {}
    for sd in (0.0, 0.5):
        model = replace(MODEL, deal=replace(SURE, season_sd=sd))
        quarter = pd.concat([month_periods("2024-09-01", 1, months=n) for n in (1, 3)], ignore_index=True)
        draws = simulate(model, HISTORY, quarter, scenarios=600, seed=5).draws("all", "open")[:, 0].astype(float)
        width[sd] = draws.std(axis=0) / draws.mean(axis=0)
    assert width[0.5][0] > 2 * width[0.0][0]
    assert width[0.5][1] - width[0.0][1] < 0.5 * (width[0.5][0] - width[0.0][0])


def test_drift__widens_the_later_months_and_not_the_first():
    width = {}
    for sd in (0.0, 0.3):
        model = replace(MODEL, deal=replace(SURE, spread=MonthSpread(0.0, sd, 0.0, 1.0)))
        draws = simulate(model, HISTORY, month_periods(AS_OF, 4), scenarios=600, seed=5).draws("all", "open")
        width[sd] = (draws[:, 0].std(axis=0) / draws[:, 0].mean(axis=0)).astype(float)
    assert width[0.3][0] == pytest.approx(width[0.0][0], rel=0.15)
    assert (width[0.3][2:] > 1.5 * width[0.0][2:]).all()


def test_doubt__is_that_of_the_level_of_creation_and_of_what_others_foresee():
    found = doubt_sd(MODEL, TOTALS)
    assert found.shape == (len(TOTALS.periods),)
    assert (found[1:] >= MODEL.deal.level_sd).all()
    common = replace(MODEL, deal=replace(MODEL.deal, spread=replace(MODEL.deal.spread, common_sd=0.0, month_sd=0.0)))
    late = replace(common, creation=replace(MODEL.creation, level_sd=1.0))
    share = TOTALS.draws("all", "new")[:, 0].mean(axis=0) / TOTALS.draws()[:, 0].mean(axis=0)
    np.testing.assert_allclose(
        doubt_sd(late, TOTALS) ** 2 - MODEL.deal.level_sd**2, share.astype(float) ** 2, rtol=1e-3, atol=1e-6
    )
    # What all months have by themselves is a third of it over three months, as far as nothing of them was won before.
    foreseen = replace(
        common, deal=replace(common.deal, spread=replace(MODEL.deal.spread, common_sd=0.0, month_sd=0.3))
    )
    ahead = simulate(foreseen, HISTORY, month_periods("2024-09-01", 3, months=1), scenarios=100, seed=5)
    quarter = simulate(foreseen, HISTORY, month_periods("2024-09-01", 1, months=3), scenarios=100, seed=5)
    parts, whole = (doubt_sd(foreseen, each) ** 2 - doubt_sd(common, each) ** 2 for each in (ahead, quarter))
    np.testing.assert_allclose(parts, 0.09, rtol=1e-3)
    assert whole[0] == pytest.approx(0.03, rel=0.1)


def test_effects__that_might_be_others_move_the_sums_and_parts_still_add_up():
    for paths in coefficient_paths(MODEL, HISTORY, TOTALS.block_end):
        assert paths.shape[1] == len(TOTALS.block_end)
        assert len(paths) > 10
        np.testing.assert_allclose(paths.mean(axis=0), 1.0)
        assert (paths.std(axis=0)[:3] > 0).all()
    unsure = replace(
        MODEL.deal, doubts=tuple(replace(draw, intercept=draw.intercept * 9) for draw in MODEL.deal.doubts)
    )
    wide = simulate(replace(MODEL, deal=unsure), HISTORY, PERIODS, dimensions=("owner",), scenarios=300, seed=3)
    assert wide.draws("all", "open")[:, 0, 3].std() > 1.1 * TOTALS.draws("all", "open")[:, 0, 3].std()
    np.testing.assert_allclose(wide.draws("owner").sum(axis=1), wide.draws()[:, 0], rtol=1e-4)


def test_scenarios__are_the_same_for_the_same_seed():
    again = simulate(MODEL, HISTORY, PERIODS, dimensions=("owner", "team"), scenarios=600, seed=3)
    assert (again.draws("team") == TOTALS.draws("team")).all()
    other = simulate(MODEL, HISTORY, PERIODS, scenarios=600, seed=4)
    assert other.draws()[:, 0].mean() == pytest.approx(TOTALS.draws()[:, 0].mean(), rel=0.05)


def test_adjusted__moves_and_stretches_the_whole_and_parts_still_add_up():
    blocks = len(TOTALS.block_end)
    moved = TOTALS.adjusted(np.full(blocks, 1.2), np.full(blocks, 1.5))
    np.testing.assert_allclose(moved.draws("team").sum(axis=1), moved.draws()[:, 0], rtol=1e-4, atol=10)
    before, after = (
        np.quantile(t.draws("all", "open")[:, 0, 3] + t.draws("all", "new")[:, 0, 3], [0.1, 0.5, 0.9])
        for t in (TOTALS, moved)
    )
    assert after[1] == pytest.approx(1.2 * before[1], rel=0.01)
    assert np.log(after[2] / after[0]) == pytest.approx(1.5 * np.log(before[2] / before[0]), rel=0.05)
    assert (moved.draws("all", "won") == TOTALS.draws("all", "won")).all()


def test_simulate__names_what_is_wrong():
    with pytest.raises(ValueError, match="unknown: region"):
        simulate(MODEL, HISTORY, PERIODS, dimensions=("region",))
    with pytest.raises(ValueError, match="every period ended"):
        simulate(MODEL, HISTORY, month_periods("2024-05-01", 2))
    with pytest.raises(ValueError, match="part must be one of"):
        TOTALS.draws(part="lost")
