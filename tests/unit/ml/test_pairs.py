"""Pairs: a planted one is found and closes the gap to boosting, noise gives none, and a pair scores like any criterion."""

import json
from dataclasses import replace

import numpy as np
import pytest

from ml.card import Card, Choices, Pin
from ml.scorecard import fit
from tests.trials import pairs as trial

DEALS = trial.simulate(4000, 1)
FITTED = fit(trial.spec_of(DEALS.X), DEALS.X, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False)


def test_pairs__a_planted_one_closes_most_of_the_gap_to_gradient_boosting():
    result = trial.study(4000, 3, later_count=8000)
    assert "employees & industry" in result.pairs
    assert result.closed > 0.6
    assert result.with_pairs < result.main - 0.01


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_pairs__noise_gives_none(seed):
    deals = trial.simulate(3000, 50 + seed, planted=0.0)
    card = fit(trial.spec_of(deals.X), deals.X, deals.y, deals.closed_at, seed=seed, with_evaluation=False).card
    assert card.pairs == ()


def test_pairs__are_rows_like_any_other_and_the_total_is_their_sum():
    card = FITTED.card
    pair = card.pairs[0]
    rows = card.rows()[pair.name]
    assert rows[-1].band_type == "other"
    assert (rows[-1].points, rows[-1].is_pinned, rows[-1].evidence) == (0, False, "the rest: no points")
    assert {b.kind for b in rows} == {"explicit"}
    numbers, points = card.band_numbers(DEALS.X), card.points(DEALS.X)
    assert list(points.columns) == list(card.criteria)
    assert card.total_points(DEALS.X).tolist() == points.sum(axis=1).tolist()
    table = {value: b.points for b in rows for value in b.values or ()}
    made = numbers[pair.left].astype(str) + "|" + numbers[pair.right].astype(str)
    assert points[pair.name].tolist() == [table.get(value, 0) for value in made]
    assert FITTED.band_numbers.equals(numbers)
    counted = {b.band_no: b.deal_count for b in rows}
    seen = numbers[pair.name].value_counts()
    assert counted == {number: int(seen.get(number, 0)) for number in counted}


def test_pairs__survive_a_document():
    again = Card.from_document(json.loads(json.dumps(FITTED.card.to_document(), allow_nan=False)))
    assert again == FITTED.card
    assert again.total_points(DEALS.X).equals(FITTED.card.total_points(DEALS.X))


def test_pairs__kind_is_implicit_when_one_side_is():
    spec = trial.spec_of(DEALS.X)
    criteria = tuple(replace(c, kind="implicit") if c.name == "industry" else c for c in spec.criteria)
    card = fit(replace(spec, criteria=criteria), DEALS.X, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False).card
    assert card.rows()["employees & industry"][0].kind == "implicit"


def test_pairs__are_off_at_0_and_never_more_than_asked():
    spec = replace(trial.spec_of(DEALS.X), max_pairs=0)
    assert fit(spec, DEALS.X, DEALS.y, DEALS.closed_at, seed=1, with_evaluation=False).card.pairs == ()
    assert len(FITTED.card.pairs) <= 3


def test_pairs__a_pinned_cell_holds_and_its_pair_stays_without_a_search():
    pair = FITTED.card.pairs[0]
    cell = FITTED.card.rows()[pair.name][0]
    bands, pairs = FITTED.card.locked([pair.name])
    assert set(bands) == {pair.name, pair.left, pair.right}
    choices = Choices((Pin(pair.name, cell.band, 12),), {}, bands, pairs)
    few = slice(0, 300)  # too few to look for pairs
    spec = replace(trial.spec_of(DEALS.X), choices=choices)
    card = fit(spec, DEALS.X[few], DEALS.y[few], DEALS.closed_at[few], seed=1, with_evaluation=False).card
    rows = card.rows()[pair.name]
    assert card.pairs == (pair,)
    assert (rows[0].points, rows[0].is_pinned) == (12, True)
    assert [b.values for b in rows] == [b.values for b in FITTED.card.rows()[pair.name]]
    with pytest.raises(ValueError, match=r"the bands of employees & industry must be locked with it"):
        Choices(locked_pairs=pairs)


def test_pairs__do_not_move_when_rows_change_places():
    order = np.random.default_rng(0).permutation(len(DEALS.X))
    mixed = fit(
        trial.spec_of(DEALS.X),
        DEALS.X.iloc[order],
        DEALS.y[order],
        DEALS.closed_at[order],
        seed=1,
        with_evaluation=False,
    ).card
    assert [p.name for p in mixed.pairs] == [p.name for p in FITTED.card.pairs]
