"""Effects of what is known of a deal: they add up to its chance, and say what was planted."""

import numpy as np
import pandas as pd
import pytest

from ml.forecast.effects import PARTS_PER_WHOLE, TYPICAL, _chance, deal_effects
from ml.forecast.hazard import deal_forecasts, fit_hazard
from ml.forecast.history import day
from tests.trials.forecast_company import company

MADE = company(11, weeks=100, deals_per_week=40.0, owners=8)
HISTORY = MADE.history()
AS_OF = pd.Timestamp("2024-10-15")
DATES = ["2024-10-31", "2024-12-31", "2025-03-31"]
MODEL = fit_hazard(HISTORY, AS_OF, seed=1)
ROW = HISTORY.open_as_of(day(AS_OF))
EFFECTS = deal_effects(MODEL, HISTORY, AS_OF, DATES, ROW)
DEALS = deal_forecasts(MODEL, HISTORY, AS_OF, DATES)


@pytest.mark.parametrize("date", DATES)
def test_effects__of_a_deal_add_up_to_its_chance(date):
    summed = EFFECTS.groupby("deal_id", sort=False)[f"effect_by_{date}"].sum()
    chance = DEALS.set_index("deal_id")[f"p_won_by_{date}"].loc[summed.index]
    # Weeks are in single precision there.
    np.testing.assert_allclose(summed / PARTS_PER_WHOLE, chance, atol=2e-6)
    assert chance.max() - chance.min() > 0.1


def test_effects__begin_with_one_typical_deal_for_all():
    typical = EFFECTS[EFFECTS["factor"] == TYPICAL]
    assert len(typical) == len(ROW) == EFFECTS["deal_id"].nunique()
    assert all(typical[f"effect_by_{date}"].nunique() == 1 for date in DATES)
    by_date = [typical[f"effect_by_{date}"].iloc[0] for date in DATES]
    assert 0 < by_date[0] < by_date[1] < by_date[2] < PARTS_PER_WHOLE


def test_slopes__are_those_of_small_steps():
    generator = np.random.default_rng(3)
    log_odds = generator.normal(-3, 1, (4, 6, 2))
    reached = np.array([[1, 1, 0.4, 0, 0, 0], [1, 1, 1, 1, 1, 0.7]])
    slopes = _chance(log_odds, reached)[1]
    for week in range(6):
        for outcome in range(2):
            step = np.zeros_like(log_odds)
            step[:, week, outcome] = 1e-5
            measured = (_chance(log_odds + step, reached)[0] - _chance(log_odds - step, reached)[0]) / 2e-5
            for k in range(2):
                np.testing.assert_allclose(slopes[k][:, week, outcome], measured[:, k], atol=1e-8)


def test_effects__integrated_leave_next_to_nothing_to_be_rounded_away():
    """What the integration misses would be given to the largest effect: it must be no more than rounding."""
    from ml.forecast import effects

    kept, effects._NODES = effects._NODES, 40
    try:
        finer = deal_effects(MODEL, HISTORY, AS_OF, DATES, ROW[:300])
    finally:
        effects._NODES = kept
    coarse = EFFECTS.iloc[: len(finer)]
    assert (finer["deal_id"].to_numpy() == coarse["deal_id"].to_numpy()).all()
    assert (finer[f"effect_by_{DATES[2]}"] - coarse[f"effect_by_{DATES[2]}"]).abs().max() <= 20


def test_effects__of_stages_rise_from_the_first_to_the_last():
    """Winning was planted to be likelier the later the stage."""
    stage = EFFECTS[EFFECTS["factor"] == "stage"].groupby("observed")[f"effect_by_{DATES[1]}"].mean()
    ordered = stage.reindex(HISTORY.labels["stage"])
    assert ordered.iloc[0] < 0 < ordered.iloc[-1]
    assert ordered.is_monotonic_increasing


def test_effects__in_dates_alone_are_of_age_and_owner():
    plain = fit_hazard(HISTORY, AS_OF, with_features=False, seed=1)
    found = deal_effects(plain, HISTORY, AS_OF, DATES[:1], ROW[:5])
    assert set(found["factor"]) == {TYPICAL, "age", "owner"}
    by_deal = found.groupby("deal_id", sort=False)[f"effect_by_{DATES[0]}"].sum() / PARTS_PER_WHOLE
    expected = deal_forecasts(plain, HISTORY, AS_OF, DATES[:1])[f"p_won_by_{DATES[0]}"].iloc[:5]
    np.testing.assert_allclose(by_deal, expected, atol=2e-6)
