"""What was known when: one version per deal and moment, and nothing of what came later."""

import numpy as np
import pandas as pd
import pytest

from ml.forecast.hazard import deal_forecasts, fit_hazard
from ml.forecast.history import DealHistory, day, versions_of_deals
from ml.forecast.person_periods import spells_from_landmarks, spells_from_openings
from ml.forecast.totals import fit_forecast, month_periods, simulate
from tests.trials.forecast_company import STAGES, company

MADE = company(5, weeks=60, deals_per_week=12.0, owners=6)
HISTORY = MADE.history()
AS_OF = pd.Timestamp("2023-12-01")


def versions(*rows):
    columns = [
        "deal_id",
        "known_from",
        "status",
        "opened_at",
        "closed_at",
        "stage",
        "expected_close_date",
        "amount_cents",
    ]
    return pd.DataFrame(rows, columns=columns)


ONE = versions(
    ("a", "2026-01-05", "open", "2026-01-01", None, "discovery", "2026-03-01", 100),
    ("a", "2026-01-20", "open", "2026-01-01", None, "proposal", "2026-04-01", 120),
    ("a", "2026-02-10", "open", "2026-01-01", None, "discovery", "2026-03-15", 120),
    ("a", "2026-02-20", "open", "2026-01-01", None, "discovery", "2026-05-01", 120),
    ("a", "2026-03-10", "won", "2026-01-01", "2026-03-02", "discovery", "2026-05-01", 90),
)


def test_snapshot__is_the_last_version_known_by_then():
    history = DealHistory.from_versions(ONE, stages=STAGES)
    assert history.snapshot("2026-01-04").empty
    first = history.snapshot("2026-01-05").iloc[0]
    assert (first["amount_cents"], first["stage_no"], str(first["stage_since"])[:10]) == (100, 0, "2026-01-01")
    later = history.snapshot("2026-02-25").iloc[0]
    assert (later["moves_back"], later["pushes"], str(later["stage_since"])[:10]) == (1, 2, "2026-02-10")
    # Closed on the 2nd, recorded on the 10th.
    assert history.snapshot("2026-03-05").iloc[0]["status"] == "open"
    assert history.snapshot("2026-03-10").iloc[0]["status"] == "won"


def test_versions__of_one_moment_the_last_holds_and_order_of_rows_does_not_matter():
    doubled = pd.concat([ONE, ONE.tail(1).assign(amount_cents=77)])
    assert DealHistory.from_versions(doubled).snapshot("2026-04-01")["amount_cents"].tolist() == [77]
    one, other = (DealHistory.from_versions(rows, stages=STAGES) for rows in (ONE, ONE.sample(frac=1, random_state=3)))
    for moment in ("2026-01-10", "2026-02-15", "2026-03-20"):
        pd.testing.assert_frame_equal(one.snapshot(moment), other.snapshot(moment))


def test_dates_alone__are_enough_and_it_says_what_is_lacking():
    deals = pd.DataFrame(
        {
            "deal_id": ["a", "b", "c"],
            "opened_at": ["2026-01-01", "2026-01-05", None],
            "closed_at": ["2026-02-01", None, None],
            "status": ["won", "open", "open"],
        }
    )
    history = DealHistory.from_versions(versions_of_deals(deals))
    assert history.snapshot("2026-01-31")["status"].tolist() == ["open", "open"]
    assert history.snapshot("2026-02-01")["status"].tolist() == ["won", "open"]
    said = " ".join(history.lacking())
    for what in ("no stage history", "no promised close dates", "no amounts", "1 deals have no opening date"):
        assert what in said
    with pytest.raises(ValueError, match="today's stage only"):
        versions_of_deals(deals.assign(stage="won"))


@pytest.mark.parametrize(
    ("change", "said"),
    [({"status": "Won"}, "'Won'"), ({"status": "won", "closed_at": None}, "needs closed_at: 'a'")],
)
def test_versions__that_are_wrong_are_named(change, said):
    with pytest.raises(ValueError, match=said):
        DealHistory.from_versions(ONE.assign(**change))


def test_spells__of_landmarks_hold_no_deal_that_was_closed_by_then():
    spells = spells_from_landmarks(HISTORY, day(AS_OF), since=-np.inf)
    assert len(spells) > 200
    assert (HISTORY.known_from[spells.row] <= spells.start).all()
    assert (HISTORY.status[spells.row] == 0).all()
    assert (spells.start + 7 * spells.weeks <= day(AS_OF)).all()


def test_spells__enter_late_where_the_record_begins_late():
    cut = DealHistory.from_versions(MADE.versions, stages=STAGES, observed_from="2023-09-01")
    spells = spells_from_openings(cut, day(AS_OF))
    assert (spells.start + 7 * spells.enter >= day("2023-09-01")).all()
    assert (spells.weeks > spells.enter).all()


def test_forecast__is_the_same_whatever_comes_later():
    """A deal created after the as-of moment, and every later version of the others, may say anything."""
    known = MADE.versions["known_from"] <= AS_OF
    poison = MADE.versions[~known].assign(amount_cents=10**11, stage="negotiation", owner=99, status="won")
    poison["closed_at"] = poison["known_from"]
    results = []
    for frame in (MADE.versions[known], MADE.versions, pd.concat([MADE.versions[known], poison])):
        history = DealHistory.from_versions(frame, stages=STAGES, groups=["team"])
        model = fit_forecast(history, AS_OF, seed=1)
        deals = deal_forecasts(model.deal, history, AS_OF, ["2024-01-31"]).sort_values("deal_id", ignore_index=True)
        totals = simulate(model, history, month_periods(AS_OF, 3), dimensions=("team",), scenarios=50, seed=1)
        results.append((deals, totals.quantiles()))
    for deals, quantiles in results[1:]:
        pd.testing.assert_frame_equal(deals, results[0][0])
        pd.testing.assert_frame_equal(quantiles, results[0][1])


def test_fit__without_a_week_at_risk_says_so():
    with pytest.raises(ValueError, match="no deal was at risk for a whole week as of 2023-01-03"):
        fit_hazard(HISTORY, "2023-01-03")


def path(deal, stages, won, *, opened="2026-01-01"):
    """A deal that comes into a stage every day, and is won two days after the last one, or stays open."""
    days = [str((pd.Timestamp(opened) + pd.Timedelta(days=k)).date()) for k in range(len(stages) + 2)]
    rows = [(deal, moment, "open", opened, None, stage, None, 100) for moment, stage in zip(days, stages, strict=False)]
    if won:
        rows.append((deal, days[-1], "won", opened, days[-1], None, None, 100))
    return rows


LEARNT = versions(
    *path("a", ["call", "offer", "talk"], True),
    *path("moving", ["talk", "call"], False, opened="2026-01-10"),
    # Later ones go another way, and one of them comes into a stage of which nobody knew.
    *path("b", ["talk", "call", "trial", "offer"], True, opened="2026-02-01"),
    *path("c", ["talk", "call", "trial", "offer"], True, opened="2026-02-02"),
    *path("d", ["talk", "call", "trial", "offer"], True, opened="2026-02-02"),
)


def test_stages__learnt_at_a_moment_know_the_deals_won_by_then_alone():
    history = DealHistory.from_versions(
        LEARNT, stages=["talk", "call", "trial", "offer"], stage_orders=[("2026-01-01", [])]
    )
    assert history.stages_learnt(day("2026-01-04")) == []
    assert history.stages_learnt(day("2026-01-31")) == ["call", "offer", "talk"]
    assert history.stages_learnt(day("2026-03-01")) == ["talk", "call", "trial", "offer"]
    then = history.staged_as_of(day("2026-01-31"))
    moving = then.snapshot("2026-01-31").set_index("deal_id").loc["moving"]
    assert (moving["stage_no"], moving["moves_back"]) == (0, 1)
    now = history.staged_as_of(day("2026-03-01")).snapshot("2026-03-01").set_index("deal_id").loc["moving"]
    assert (now["stage_no"], now["moves_back"]) == (1, 0)


def test_stages__that_were_listed_hold_from_when_they_were_listed_and_the_first_ones_before():
    orders = [("2026-01-15", ["call", "talk"]), ("2026-02-15", ["talk", "call", "offer"])]
    history = DealHistory.from_versions(LEARNT, stages=["talk", "call", "offer"], stage_orders=orders)
    listed = {
        moment: list(history.staged_as_of(day(moment)).labels["stage"])
        for moment in ("2026-01-01", "2026-02-14", "2026-02-15")
    }
    assert listed == {
        "2026-01-01": ["call", "talk"], "2026-02-14": ["call", "talk"], "2026-02-15": ["talk", "call", "offer"],
    }  # fmt: skip
    as_made = DealHistory.from_versions(LEARNT, stages=["call", "talk"]).snapshot("2026-02-10")
    pd.testing.assert_frame_equal(history.staged_as_of(day("2026-02-10")).snapshot("2026-02-10"), as_made)


def test_backtest__of_an_origin_does_not_know_the_order_of_stages_that_later_deals_have():
    """What is won after the window changes how stages are ordered now, and nothing that was forecast."""
    from ml.forecast.backtest import backtest

    made = MADE.versions
    origin = pd.Timestamp("2023-12-01")
    later = made.assign(stage=made["stage"].where(made["known_from"] <= origin + pd.Timedelta(days=31), None))
    found = [
        backtest(
            DealHistory.from_versions(rows, stages=names, stage_orders=[("2023-01-01", [])]),
            [origin], [30], scenarios=50,
        )
        for rows, names in ((made, STAGES), (later, list(reversed(STAGES))))
    ]  # fmt: skip
    assert len(found[0]) > 2
    pd.testing.assert_frame_equal(*found)
