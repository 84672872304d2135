"""What people hold is held exactly, the rest is fitted round it, and its price is shown."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st
from simulated_deals import simulate

from ml.card import Card, Choices, CriterionSpec, Pin
from ml.scorecard import choices_price, fit, without_choices

DEALS = simulate(1200, 5)


def made(spec, *, deals=DEALS, with_evaluation=False) -> Card:
    return fit(spec, deals.X, deals.y, deals.closed_at, seed=1, with_evaluation=with_evaluation).card


def points_of(card: Card) -> dict[tuple[str, str], int]:
    return {(b.criterion, b.band): b.points for b in card.bands if not b.segment}


FREE = made(DEALS.spec)


@settings(deadline=None, max_examples=12, phases=[Phase.explicit, Phase.generate])  # a fit is too slow to shrink
@example({("criterion_0", "d"): 100, ("criterion_0", "a"): 0, ("criterion_0", "b"): 0, ("criterion_1", "a"): 100})
@given(
    st.dictionaries(
        st.tuples(st.sampled_from([f"criterion_{k}" for k in range(8)]), st.sampled_from("abcd")),
        st.integers(-120, 120),
        min_size=1,
        max_size=6,
    )
)
def test_pins__hold_to_the_point_whatever_they_are(pins):
    choices = Choices(tuple(Pin(criterion, band, points) for (criterion, band), points in pins.items()))
    card = made(replace(DEALS.spec, choices=choices))
    found = points_of(card)
    assert {key: found[key] for key in pins} == pins
    for band in card.bands:
        assert band.is_pinned == ((band.criterion, band.band) in pins)
        if band.is_pinned:
            assert band.weight_low == band.weight == band.weight_high
            assert band.evidence == f"held at {band.points:+d} by choice"
            assert band.data_share_pct == 0


def test_pins__the_rest_is_fitted_round_them():
    # One band is lifted by 40 points: the average of its criterion's other bands stays, or they would all follow it and
    # the pin would mean nothing; other criteria, independent of it, hardly move.
    key = ("criterion_0", "a")
    lifted = made(replace(DEALS.spec, choices=Choices((Pin(*key, points_of(FREE)[key] + 40),))))
    before, after = FREE.rows()["criterion_0"][1:4], lifted.rows()["criterion_0"][1:4]
    deals = np.array([b.deal_count for b in before])
    assert deals @ [b.weight for b in after] == pytest.approx(
        deals @ [b.weight for b in before], abs=0.01 * deals.sum()
    )
    others = [
        lifted.rows()[f"criterion_{k}"][v].points - FREE.rows()[f"criterion_{k}"][v].points
        for k in range(1, 8)
        for v in range(4)
    ]
    assert np.abs(others).max() <= 8


def test_pins__of_bands_in_the_specification_hold_too():
    bands = tuple(replace(band, points=33, is_pinned=True) for band in DEALS.spec.criteria[2].bands)
    criteria = list(DEALS.spec.criteria)
    criteria[2] = replace(criteria[2], bands=bands)
    card = made(replace(DEALS.spec, criteria=tuple(criteria)))
    assert [b.points for b in card.rows()["criterion_2"][:4]] == [33] * 4


def test_pins__hold_before_any_deal():
    none = simulate(0, 1)
    spec = replace(none.spec, choices=Choices((Pin("criterion_1", "b", -17),), signs={"criterion_0": "negative"}))
    card = made(spec, deals=none)
    assert points_of(card)["criterion_1", "b"] == -17
    assert all(b.points <= 0 for b in card.rows()["criterion_0"])


@pytest.mark.parametrize("sign", ["positive", "negative"])
def test_signs__bind_known_bands_and_leave_missing_free(sign):
    X = DEALS.X.copy()
    X.loc[X.index[DEALS.y == (sign == "negative")][:200], "criterion_3"] = None  # missing speaks against the sign
    insisted = tuple(replace(c, insist=True) for c in DEALS.spec.criteria)  # so much against it that it looks a leak
    spec = replace(DEALS.spec, criteria=insisted, choices=Choices(signs={"criterion_3": sign}))
    card = fit(spec, X, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False).card
    bands = card.rows()["criterion_3"]
    known = np.array([b.points for b in bands if b.band_type != "missing"])
    assert np.all(known >= 0 if sign == "positive" else known <= 0)
    assert np.ptp([b.points for b in bands if b.band_type == "values"]) > 10
    missing = next(b for b in bands if b.band_type == "missing")
    assert (missing.points < 0) == (sign == "positive")
    asked_in_spec = list(insisted)
    asked_in_spec[3] = replace(asked_in_spec[3], sign=sign)
    again = fit(
        replace(DEALS.spec, criteria=tuple(asked_in_spec)), X, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False
    )
    assert points_of(again.card) == points_of(card)


def test_locked_bands__stay_when_the_deals_would_move_them():
    generator = np.random.default_rng(3)
    X = DEALS.X.assign(size=np.exp(generator.normal(3, 1, len(DEALS.X))))
    spec = replace(DEALS.spec, criteria=(CriterionSpec("size"),), max_pairs=0)
    early = fit(spec, X[:400], DEALS.y[:400], DEALS.closed_at[:400], seed=1, with_evaluation=False).card
    later = X.assign(size=X["size"] * 7)
    locked_bands, locked_pairs = early.locked(["size"])
    assert locked_pairs == ()
    held = replace(spec, choices=Choices(locked_bands=locked_bands))
    card = fit(held, later, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False).card
    free = fit(spec, later, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False).card
    assert [(b.lower, b.upper, b.band) for b in card.bands] == [(b.lower, b.upper, b.band) for b in early.bands]
    assert [b.lower for b in free.bands] != [b.lower for b in early.bands]


def test_choices__survive_a_document():
    bands, _ = FREE.locked(["criterion_1"])
    choices = Choices((Pin("criterion_1", "a", 3),), {"criterion_2": "positive"}, bands)
    card = made(replace(DEALS.spec, choices=choices))
    assert Card.from_document(card.to_document()).choices == choices
    assert not Choices()
    with pytest.raises(ValueError, match="the card has no criterion nothing"):
        FREE.locked(["nothing"])


def test_choices__a_pin_on_a_band_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="criterion criterion_0: the pinned band 'z' is not among its bands"):
        made(replace(DEALS.spec, choices=Choices((Pin("criterion_0", "z", 1),))))
    # A criterion that has left the card takes its choices with it.
    assert points_of(made(replace(DEALS.spec, choices=Choices((Pin("gone", "z", 1),))))) == points_of(FREE)


def test_choices_price__a_bad_pin_costs_and_none_is_asked_when_nothing_is_held():
    worst = {(b.criterion): b for b in FREE.bands if b.band_type == "values" and b.weight > 0.5}
    choices = Choices(tuple(Pin(b.criterion, b.band, -100) for b in worst.values()))
    spec = replace(DEALS.spec, choices=choices)
    card = made(spec, with_evaluation=True)
    price = card.evaluation["choices_price"]
    assert price["cost"] > 0.02
    assert price["cost_interval"][0] > 0
    assert price["with_choices"]["auc"] < price["without_choices"]["auc"]
    assert price["deal_count"] == 240
    assert card.verdict[-1].startswith("What people hold: on the 240 newest deals")
    assert card.verdict[-1].endswith("they cost.")
    assert without_choices(spec) == replace(DEALS.spec, choices=Choices())
    assert "choices_price" not in made(DEALS.spec, with_evaluation=True).evaluation


def test_choices_price__is_unknown_with_few_deals():
    few = simulate(40, 1)
    spec = replace(few.spec, choices=Choices((Pin("criterion_0", "a", 9),)))
    assert choices_price(spec, few.X, few.y[:40], few.closed_at.to_numpy(), seed=1) is None
