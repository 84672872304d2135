"""The hazard: known cases by hand, planted effects found, dates and slips that agree with the probabilities."""

import numpy as np
import pandas as pd
import pytest

from ml.forecast.hazard import (
    _season_sd,
    all_months,
    deal_forecasts,
    doubted,
    fit_hazard,
    incidence,
    incidence_of_new,
    with_months,
)
from ml.forecast.history import WON, DealHistory, day, versions_of_deals
from ml.forecast.person_periods import count_cells, spells_from_openings
from tests.trials.forecast_company import STAGES, company

MADE = company(11, weeks=100, deals_per_week=40.0, owners=8)
HISTORY = MADE.history()
AS_OF = pd.Timestamp("2024-10-15")
MODEL = fit_hazard(HISTORY, AS_OF, seed=1)
DEALS = deal_forecasts(MODEL, HISTORY, AS_OF, ["2024-11-15", "2025-01-15"])


def constant_deals(count, *, win=0.04, lose=0.02, seed=0):
    """Deals with constant weekly hazards, opened over two years, with dates alone."""
    generator = np.random.default_rng(seed)
    opened = pd.Timestamp("2024-01-01") + pd.to_timedelta(generator.integers(0, 700, count), unit="D")
    weeks = generator.geometric(win + lose, count)
    closed = opened + pd.to_timedelta(7 * (weeks - 1) + generator.integers(0, 7, count), unit="D")
    status = np.where(generator.random(count) < win / (win + lose), "won", "lost")
    later = closed > pd.Timestamp("2025-12-31")
    return pd.DataFrame(
        {
            "deal_id": np.arange(count),
            "opened_at": opened,
            "closed_at": closed.where(~later),
            "status": np.where(later, "open", status),
        }
    )


def test_person_periods__of_three_deals_are_the_rows_by_hand():
    deals = pd.DataFrame(
        {
            "deal_id": ["a", "b", "c"],
            "opened_at": ["2026-01-01"] * 3,
            "closed_at": ["2026-01-16", "2026-01-03", None],
            "status": ["won", "lost", "open"],
        }
    )
    history = DealHistory.from_versions(versions_of_deals(deals), observed_from="2026-01-01")
    spells = spells_from_openings(history, day("2026-01-25"))
    # Won in its third week; lost in its first; open for three whole weeks and a part that is left out.
    assert sorted(zip(spells.weeks, spells.event, strict=True)) == [(1, 2), (3, 0), (3, 1)]
    week = {"week": lambda number, at: np.full(len(at), number)}
    cells = count_cells(spells, {}, {"week": 9}, week)
    assert cells.codes["week"].tolist() == [0, 1, 2]
    assert cells.counts.tolist() == [[2, 0, 1], [2, 0, 0], [1, 1, 0]]


def test_hazard__of_constant_weeks_is_found_from_dates_alone():
    history = DealHistory.from_versions(versions_of_deals(constant_deals(4_000)), observed_from="2024-01-01")
    model = fit_hazard(history, "2025-12-31")
    assert not model.from_landmarks
    assert model.counts["cells"] < 100 < 20_000 < model.counts["weeks"]
    deals = deal_forecasts(model, history, "2025-12-31", ["2026-02-04"])
    alive = 0.94**5
    assert deals["p_won_by_2026-02-04"].mean() == pytest.approx((1 - alive) * 2 / 3, rel=0.12)
    assert deals["p_won"].mean() == pytest.approx(2 / 3, abs=0.04)


def test_probabilities__add_up_and_grow_with_the_date():
    assert len(DEALS) > 200
    assert ((DEALS["p_won"] + DEALS["p_lost"]) <= 1 + 1e-6).all()
    assert (DEALS["p_won_by_2024-11-15"] <= DEALS["p_won_by_2025-01-15"] + 1e-9).all()
    assert (DEALS["p_won_by_2025-01-15"] <= DEALS["p_won"] + 1e-9).all()
    assert ((DEALS["close_date_low"] <= DEALS["close_date"]) & (DEALS["close_date"] <= DEALS["close_date_high"])).all()
    assert (DEALS["close_date_low"] >= AS_OF).all()


def test_integrated_hazards__and_incidence_are_one_thing():
    row = HISTORY.open_as_of(day(AS_OF))[:50]
    found = incidence(MODEL, HISTORY, row, np.full(50, day(AS_OF)), np.array([10.0, 45.0, 200.0]))
    survival = np.exp(-np.cumsum(found.won_hazard + found.lost_hazard, axis=1))
    np.testing.assert_allclose(1 - found.won - found.lost, survival, atol=1e-5)


def test_stages_and_owners__are_found_and_owners_are_drawn_to_the_whole():
    open_rows = HISTORY.open_as_of(day(AS_OF))
    by_stage = DEALS.groupby(HISTORY.stage[open_rows])["p_won_by_2024-11-15"].mean()
    assert by_stage.is_monotonic_increasing
    assert by_stage.iloc[2] > 2.5 * by_stage.iloc[0]
    spread = MODEL.owner_log_factor
    assert 0.05 < spread.std() < 0.6
    # Owners given at random differ by chance alone.
    shuffled = MADE.versions.assign(owner=MADE.versions["deal_id"] % 7)
    alike = DealHistory.from_versions(shuffled, stages=STAGES)
    assert np.abs(fit_hazard(alike, AS_OF, seed=1).owner_log_factor).max() < 0.5 * np.abs(spread).max()


def test_slip__is_certain_for_overdue_deals_and_rarer_the_later_the_promise():
    rows = HISTORY.open_as_of(day(AS_OF))
    left = HISTORY.promised[rows] - day(AS_OF)
    slip = DEALS["slip_probability"].to_numpy()
    assert (slip[left < -1] == 1).all()
    assert slip[(left > 0) & (left < 20)].mean() > slip[left > 60].mean() + 0.1
    assert ((slip >= 0) & (slip <= 1)).all()


def test_dates_to_be_won_by__lie_ahead():
    with pytest.raises(ValueError, match="must not lie before 2024-10-15"):
        deal_forecasts(MODEL, HISTORY, AS_OF, ["2024-10-01"])


def test_months__count_every_won_deal_once():
    """From landmarks who is opened and closed between two of them is missing; with the weeks before the first landmark nobody is."""
    entry = fit_hazard(HISTORY, AS_OF, with_features=False, seed=1)
    now = HISTORY.as_of(day(AS_OF))
    closed = HISTORY.closed[now][HISTORY.status[now] == WON]
    counts = all_months(MODEL, entry).whole(HISTORY.observed_from, day(AS_OF) - 7)
    starts = counts.month.astype("datetime64[M]").astype("datetime64[D]").astype(float)
    ends = (counts.month + 1).astype("datetime64[M]").astype("datetime64[D]").astype(float)
    expected = [((closed >= low) & (closed < high)).sum() for low, high in zip(starts, ends, strict=True)]
    assert len(counts.month) >= 18
    np.testing.assert_array_equal(counts.won, expected)
    landmarks = MODEL.record.all.whole(HISTORY.observed_from, day(AS_OF) - 7)
    assert 0.9 < landmarks.won.sum() / counts.won.sum() < 1
    # Expectations were fitted on them.
    assert counts.expected.sum() == pytest.approx(counts.won.sum(), rel=0.1)
    known = with_months(MODEL, all_months(MODEL, entry))
    assert known.spread != MODEL.spread
    assert 0 < known.spread.common_sd <= known.spread.month_sd < 0.3


def test_doubts__are_as_far_as_fits_of_other_records_of_the_same_company_lie_apart():
    """How much of what a new deal wins in half a year it wins in the first month: the level is another doubt."""

    def early(model):
        won = incidence_of_new(model, np.array([day("2026-01-01")]), 26)[0]
        return np.log(won[4] / won[26])

    fits = []
    for seed in range(24):
        history = DealHistory.from_versions(versions_of_deals(constant_deals(400, seed=seed)))
        fits.append(fit_hazard(history, "2025-12-31", by_season=False, with_features=False))
    apart = np.std([early(model) for model in fits])
    doubts = [np.std([early(doubted(model, draw)) for draw in model.doubts]) for model in fits[:6]]
    assert 0.5 * apart < np.mean(doubts) < 2 * apart
    many = DealHistory.from_versions(versions_of_deals(constant_deals(6400)))
    sure = fit_hazard(many, "2025-12-31", by_season=False, with_features=False)
    assert np.std([early(doubted(sure, draw)) for draw in sure.doubts]) < 0.5 * np.mean(doubts)


def test_season__is_known_the_better_the_more_months_there_were_of_it():
    sds = [_season_sd(np.full(count, 50.0), 0.15) for count in (3, 12, 48)]
    # A quarter of a year says of each month what one month says.
    assert sds[0] == pytest.approx(0.15)
    assert sds[1] == pytest.approx(sds[0] / 2)
    assert sds[2] == pytest.approx(sds[1] / 2)
    assert np.isfinite([_season_sd(np.zeros(3), 0.15), _season_sd(np.array([1e-9]), 0.15)]).all()
    assert MODEL.season_sd > 0 == fit_hazard(HISTORY, AS_OF, by_season=False, with_features=False).season_sd
