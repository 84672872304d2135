"""What was known of accounts: looked up as of a moment and never later, learnt where it matters, left out where it is too little."""

import numpy as np
import pandas as pd
import pytest

from ml.forecast.account_series import LEAST_CLOSINGS, AccountSeries, account_features, engagement_edges, trend_edges
from ml.forecast.hazard import deal_forecasts, fit_hazard
from ml.forecast.history import DealHistory, day
from ml.forecast.person_periods import band_codes
from ml.forecast.totals import fit_forecast, month_periods, simulate
from tests.trials.forecast_company import STAGES, company, log_loss

MADE = company(21, weeks=80, deals_per_week=40.0, owners=6, engagement=0.8)
HISTORY = MADE.history()
AS_OF = pd.Timestamp("2024-05-15")
BEGINS = day("2023-01-30")


def series(*steps, **options):
    frame = pd.DataFrame(steps, columns=["account", "known_from", "value"])
    frame["known_from"] = [pd.Timestamp(moment) for moment in frame["known_from"]]
    return AccountSeries.of(frame, np.array(["a", "b", "c"], dtype=object), **options)


def test_series__says_what_held_at_the_moment_and_nothing_later():
    found = series(
        ("b", "2026-01-10", 3.0), ("b", "2026-01-05", 2.0), ("a", "2026-01-05 12:00:00.5", 7.0), ("unknown", "2026-01-01", 9.0),
        ("b", "2026-01-20", np.nan), ("b", "2026-01-10", 4.0),
        begins=day("2026-01-03"), before=0.0,
    )  # fmt: skip
    cases = [
        (1, "2026-01-02 23:59:59", np.nan),  # before anything was recorded
        (1, "2026-01-03", 0.0),
        (1, "2026-01-04 23:59:59", 0.0),
        (1, "2026-01-05", 2.0),
        (1, "2026-01-09 23:59:59", 2.0),
        (1, "2026-01-10", 4.0),  # of one moment the last row holds
        (1, "2026-01-21", np.nan),
        (0, "2026-01-05 12:00:00", 0.0),  # half a second later it is known
        (0, "2026-01-05 12:00:01", 7.0),
        (2, "2026-02-01", 0.0),
        (-1, "2026-02-01", np.nan),  # a deal of no account
    ]
    codes, moments, expected = zip(*cases, strict=True)
    np.testing.assert_array_equal(found.at(np.array(codes), np.array([day(m) for m in moments])), expected)


def test_trend__compares_with_four_weeks_before_and_is_unknown_where_those_are():
    steps = series(("a", "2026-02-01", 2.0), ("a", "2026-03-01", 5.0), begins=day("2026-01-20"), before=0.0)
    moments = [day("2026-02-10"), day("2026-02-20"), day("2026-03-01"), day("2026-03-29")]
    found = account_features({"engagement": steps}, np.zeros(4, dtype=int), np.array(moments))
    assert found["engagement"].tolist() == [2, 2, 5, 5]
    np.testing.assert_array_equal(found["engagement_trend"], [np.nan, 2, 3, 0])


def test_bands__keep_nothing_at_all_and_no_change_by_themselves():
    counts = np.array([0, 0, 0, 0, 1, 2, 3, 4, 5, 9, np.nan])
    codes = band_codes(counts, engagement_edges(counts[:-1]))
    assert codes[-1] == 0
    assert set(codes[:4]) == {1}
    assert codes[4] > 1
    assert codes[9] > codes[4]
    changes = np.array([-6, -1, 0, 1, 8, np.nan])
    assert len(set(band_codes(changes, trend_edges(changes)))) == 6


def test_series__of_deals_without_accounts_or_by_another_name_are_refused():
    with pytest.raises(ValueError, match="must be among score, engagement, got mood"):
        HISTORY.with_account_series({"mood": MADE.engagement})
    nobody = DealHistory.from_versions(MADE.versions.drop(columns="account"), stages=STAGES)
    with pytest.raises(ValueError, match="must have the column account"):
        nobody.with_account_series({"engagement": MADE.engagement})


def test_planted_engagement__is_found_and_makes_chances_better():
    plain = MADE.history(with_engagement=False)
    by = AS_OF + pd.Timedelta(days=30)
    losses = []
    rows = HISTORY.open_as_of(day(AS_OF))
    final = HISTORY.as_of(np.inf)
    last = final[np.searchsorted(HISTORY.deal[final], HISTORY.deal[rows])]
    won = (HISTORY.status[last] == 1) & (HISTORY.closed[last] <= day(by))
    assert won.sum() > 30
    for history in (HISTORY, plain):
        model = fit_hazard(history, AS_OF, seed=1)
        losses.append(
            log_loss(deal_forecasts(model, history, AS_OF, [by])[f"p_won_by_{by:%Y-%m-%d}"].to_numpy(), won).mean()
        )
    assert losses[0] < losses[1] - 0.005
    effects = fit_hazard(HISTORY, AS_OF, seed=1).effects().set_index(["factor", "band_no"])
    engagement = effects.loc["engagement", "won"].to_numpy()[1:]
    # From no touch to many: the planted factor lies between exp(0.8 * log(1/4)) and more than 1.
    assert (np.diff(engagement) > 0).all()
    assert engagement[-1] - engagement[0] > 0.7
    assert "no account scores as they stood then" in HISTORY.lacking()
    assert not any("engagement" in sentence for sentence in HISTORY.lacking())


def test_forecast__is_the_same_whatever_becomes_of_accounts_later():
    later = MADE.engagement["known_from"] > AS_OF
    assert later.any()
    results = []
    for steps in (
        MADE.engagement[~later],
        MADE.engagement,
        MADE.engagement.assign(value=lambda f: f["value"].where(~later, 1e6)),
    ):
        history = MADE.history(with_engagement=False).with_account_series(
            {"engagement": steps}, begins={"engagement": BEGINS}, before={"engagement": 0.0}
        )
        model = fit_forecast(history, AS_OF, seed=1)
        totals = simulate(model, history, month_periods(AS_OF, 2), scenarios=40, seed=1)
        results.append(totals.quantiles())
    pd.testing.assert_frame_equal(results[0], results[1])
    pd.testing.assert_frame_equal(results[0], results[2])


def test_scores__known_at_too_few_closed_deals_are_left_out_in_words_and_change_nothing():
    accounts = pd.DataFrame({"account": MADE.versions["account"].unique()})
    records = accounts.assign(known_from=AS_OF - pd.Timedelta(days=36), value=np.linspace(0, 1, len(accounts)))
    plain = MADE.history(with_engagement=False)
    young = plain.with_account_series({"score": records.iloc[::5]})
    model = fit_hazard(young, AS_OF, seed=1)
    (sentence,) = model.left_out
    assert f"left out, for fewer than {LEAST_CLOSINGS}" in sentence
    assert sentence.startswith("scores of accounts")
    np.testing.assert_array_equal(model.intercept, fit_hazard(plain, AS_OF, seed=1).intercept)
    old = plain.with_account_series({"score": records.assign(known_from=AS_OF - pd.Timedelta(days=300))})
    known = fit_hazard(old, AS_OF, seed=1)
    assert not known.left_out
    assert "score" in known.tables
