"""Weights of evidence: how much of them a card keeps, and what they leave alone."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit

from ml.card import BandSpec, CardSpec, Choices, CriterionSpec, Pin
from ml.scorecard import fit
from ml.weights import band_offsets, encode, fit_weights, with_woe
from ml.woe import WoeBelief, choose_on_later_deals, fit_woe
from tests.unit.ml.simulated_deals import simulate

ERAS = 40


def deals_of_eras(
    count: int, seed: int, *, own_rate: float
) -> tuple[CardSpec, pd.DataFrame, np.ndarray, pd.DatetimeIndex]:
    """Four figures of the economy stand still within each of 40 eras and show one cause; `own_rate` = standard
    deviation of what an era adds of its own, which thousands of deals of the era make the joint fit believe.
    """
    generator = np.random.default_rng(seed)
    era = np.arange(count) * ERAS // count
    cause = generator.normal(0, 1, ERAS)
    economy = cause[:, None] + generator.normal(0, 0.7, (ERAS, 4))
    own = generator.normal(0, own_rate, ERAS)
    interest = generator.normal(0, 1, count)
    line = -1.5 + 0.5 * cause[era] + own[era] + 0.4 * interest
    y = (generator.random(count) < expit(line)).astype(int)
    # Without eras the same figures come in any order.
    economy = economy[era] if own_rate > 0 else generator.permutation(economy[era])
    X = pd.DataFrame(economy, columns=[f"economy_{k}" for k in range(4)]).assign(interest=interest)
    spec = CardSpec(tuple(CriterionSpec(name, value_type="number") for name in X), max_pairs=0)
    closed_at = pd.DatetimeIndex(pd.Timestamp("2024-01-01") + pd.to_timedelta(np.arange(count), unit="h"))
    return spec, X, y, closed_at


def test_woe_share__is_large_where_eras_look_like_effects():
    shares = []
    for seed in range(3):
        spec, X, y, closed_at = deals_of_eras(12_000, seed, own_rate=0.7)
        shares.append(fit(spec, X, y, closed_at, seed=1, with_evaluation=False).card.woe_share)
    assert np.mean(shares) > 0.3


def test_woe_share__is_small_where_the_deals_stay_alike():
    spec, X, y, closed_at = deals_of_eras(12_000, 1, own_rate=0.0)
    assert fit(spec, X, y, closed_at, seed=1, with_evaluation=False).card.woe_share < 0.3


def test_woe_share__is_nothing_while_few_deals_have_closed():
    made = simulate(200, 1)
    assert fit(made.spec, made.X, made.y, made.closed_at, seed=1, with_evaluation=False).card.woe_share == 0.0


@pytest.fixture(scope="module")
def joint_fit():
    made = simulate(2_000, 3)
    criteria = fit(made.spec, made.X, made.y, made.closed_at, seed=1, with_evaluation=False).card.criterion_bands()
    codes = encode(criteria, made.X)
    return made, criteria, codes


def test_with_woe__mixes_both_by_the_share_and_keeps_each_criterions_level(joint_fit):
    made, criteria, codes = joint_fit
    joint = fit_weights(made.spec, criteria, codes, made.y)
    belief = WoeBelief(0.4, joint.trust, joint.belief_deals, len(criteria))
    mixed = with_woe(made.spec, criteria, codes, made.y, joint, belief)
    whole = with_woe(made.spec, criteria, codes, made.y, joint, replace(belief, share=1.0))
    np.testing.assert_allclose(mixed.mean, 0.6 * joint.mean + 0.4 * whole.mean)
    assert np.abs(whole.mean - joint.mean).max() > 0.02
    offsets = band_offsets(criteria)
    for number, (begin, end) in enumerate(pairwise(offsets)):
        deals = np.bincount(codes[:, number], minlength=end - begin)
        assert deals @ whole.mean[begin:end] == pytest.approx(deals @ joint.mean[begin:end], abs=1e-6)
    assert (mixed.sd >= joint.sd).all()  # not knowing which is right is doubt, too


def test_with_woe__leaves_pins_and_asked_directions_as_people_hold_them(joint_fit):
    made, criteria, codes = joint_fit
    held = replace(made.spec, choices=Choices(pins=(Pin("criterion_0", "a", 33),), signs={"criterion_1": "positive"}))
    joint = fit_weights(held, criteria, codes, made.y)
    belief = WoeBelief(0.9, joint.trust, joint.belief_deals, len(criteria))
    mixed = with_woe(held, criteria, codes, made.y, joint, belief)
    place = [band.label for band in criteria[0].bands].index("a")
    assert mixed.mean[place] == joint.mean[place]
    begin, end = band_offsets(criteria)[1:3]
    known = [band.band_type != "missing" for band in criteria[1].bands]
    assert (mixed.mean[begin:end][known] >= 0).all()


def test_with_woe__keeps_a_number_monotone():
    generator = np.random.default_rng(2)
    x = generator.uniform(0, 100, 3_000)
    other = np.where(generator.random(3_000) < x / 100, "often", "seldom").astype(object)
    line = -1 + 0.3 * (x > 50) + 1.5 * (other == "seldom")  # alone, x falls; beside the other, it rises
    y = (generator.random(3_000) < expit(line)).astype(int)
    spec = CardSpec(
        (CriterionSpec("x", value_type="number", monotone="increasing"), CriterionSpec("other", value_type="category"))
    )
    bands = (BandSpec(upper=25), BandSpec(lower=25, upper=50), BandSpec(lower=50, upper=75), BandSpec(lower=75))
    spec = replace(spec, criteria=(replace(spec.criteria[0], bands=bands), spec.criteria[1]))
    X = pd.DataFrame({"x": x, "other": other})
    closed_at = pd.date_range("2024-01-01", periods=3_000, freq="h")
    criteria = fit(spec, X, y, closed_at, seed=1, with_evaluation=False).card.criterion_bands()
    criteria = (replace(criteria[0], monotone="increasing"), criteria[1])
    codes = encode(criteria, X)
    joint = fit_weights(spec, criteria, codes, y)
    mixed = with_woe(spec, criteria, codes, y, joint, WoeBelief(0.9, 1.0, 40.0, 2))
    assert (np.diff(mixed.mean[:4]) >= 0).all()


def test_fit_woe__one_criterion_is_its_log_odds_shrunk_by_the_belief():
    codes = np.array([[0]] * 100 + [[1]] * 300)
    wins = np.concatenate([np.ones(50), np.zeros(50), np.ones(30), np.zeros(270)])
    card = fit_woe(WoeBelief(1.0, 1.0, 1e-6, 1), np.array([0, 2]), np.zeros(2), codes, wins, 1 - wins)
    # odds of 1 to 1 against 1 to 9
    assert card.weight[0] - card.weight[1] == pytest.approx(np.log(9), rel=0.05)
    assert expit(card.line(np.array([[0], [1]]))) == pytest.approx([0.5, 0.1], abs=0.02)
    strong = fit_woe(WoeBelief(1.0, 1.0, 1e6, 1), np.array([0, 2]), np.zeros(2), codes, wins, 1 - wins)
    assert np.abs(strong.weight).max() < 0.01


def test_choose_on_later_deals__takes_the_card_that_ranks_them():
    generator = np.random.default_rng(3)
    lines = []
    for _ in range(3):
        true = generator.normal(0, 1.5, 600)
        won = (generator.random(600) < expit(true)).astype(float)
        lines.append((generator.normal(0, 1, 600), [generator.normal(0, 1, 600), true], won))
    best, share = choose_on_later_deals(lines)
    assert best == 1
    assert share > 0.9
    assert choose_on_later_deals([(true, [joint], won) for joint, (_, true), won in lines])[1] < 0.1


def test_fit_woe__experts_belief_counts():
    codes = np.array([[0], [1]] * 5)
    wins = np.array([1.0, 0.0] * 5)
    expert = np.array([1.0, -1.0])
    believing = fit_woe(WoeBelief(1.0, 1.0, 40.0, 1), np.array([0, 2]), expert, codes, wins, 1 - wins)
    blank = fit_woe(WoeBelief(1.0, 0.0, 40.0, 1), np.array([0, 2]), expert, codes, wins, 1 - wins)
    assert np.ptp(believing.weight) > np.ptp(blank.weight)
