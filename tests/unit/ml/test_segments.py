"""Segments: rows of their own that borrow from the whole, are worth their keep, and can be held."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from ml.card import Card, Choices, Pin
from ml.scorecard import fit
from tests.trials import segments as trial

WORLD = trial.world(3, spread=0.5)
COUNTS = np.array([0, 10, 20, 40, 80, 150])
X, Y, CLOSED = trial.deals_of(WORLD, COUNTS, 7)


def made(spec=WORLD.spec, **options):
    return fit(spec, X, Y, CLOSED, seed=1, with_evaluation=False, **options)


FITTED = made()


def test_segments__gain_on_average_and_never_lose_much():
    results = [trial.study(seed, spread=0.5, later_each=600) for seed in range(6)]
    segments, pooled, experts = (
        np.mean([getattr(r, name) for r in results]) for name in ("segments", "pooled", "experts")
    )
    assert segments < pooled - 0.002
    assert segments < experts
    alike = [trial.study(seed, spread=0.0, later_each=600) for seed in range(4)]
    assert np.mean([r.segments.mean() - r.pooled.mean() for r in alike]) < 0.001


def test_segments__have_rows_where_deals_closed_with_their_own_counts():
    card = FITTED.card
    assert card.segments == ("", "region 2", "region 5", "region 10", "region 20", "region 40")
    for segment in card.segments[1:]:
        rows = card.rows(segment)
        assert list(rows) == list(card.rows())
        inside = X["region"] == segment
        assert sum(b.deal_count for b in rows["c0"]) == inside.sum()
        assert sum(b.won_count for b in rows["c0"]) == Y[inside].sum()
        # The segment's level is what its own band of the criterion gives, there as everywhere.
        assert [b.points for b in rows["region"]] == [b.points for b in card.rows()["region"]]
    assert sum(b.deal_count for b in card.rows()["c0"]) == len(X)


def test_segments__the_more_deals_the_further_from_the_whole():
    common = FITTED.card.rows()

    def distance(segment):
        rows = FITTED.card.rows(segment)
        return np.mean([abs(b.weight - c.weight) for n in common for b, c in zip(rows[n], common[n], strict=True)])

    assert distance("region 2") < distance("region 40")
    assert distance("region 2") > 0


def test_segments__points_are_those_of_the_rows_of_each_account():
    card = FITTED.card
    accounts = pd.concat([X[:50], X[:3].assign(region="region 0"), X[:3].assign(region=None)], ignore_index=True)
    assert card.segments_of(accounts).tolist() == [*X["region"][:50], *[""] * 6]
    points, numbers = card.points(accounts), card.band_numbers(accounts)
    for place, segment in enumerate(card.segments_of(accounts)):
        rows = card.rows(segment)
        for name in rows:
            assert points[name][place] == rows[name][numbers[name][place] - 1].points
    assert card.total_points(accounts).tolist() == points.sum(axis=1).tolist()


def test_segments__survive_a_document():
    again = Card.from_document(json.loads(json.dumps(FITTED.card.to_document(), allow_nan=False)))
    assert again == FITTED.card
    assert again.total_points(X).equals(FITTED.card.total_points(X))


def test_segments__points_out_of_fold_are_sums_of_the_same_kind():
    assert FITTED.out_of_fold is not None
    assert FITTED.out_of_fold.index.equals(X.index)
    assert FITTED.out_of_fold["engagement_points"].eq(0).all()
    own = FITTED.card.total_points(X)
    assert np.corrcoef(own, FITTED.out_of_fold["fit_points"])[0, 1] > 0.7


def test_segments__pins_hold_in_one_segment_or_everywhere_and_signs_in_all():
    pins = (Pin("c0", "a", 25, segment="region 40"), Pin("c1", "b", -9), Pin("c2", "c", 4, segment="region 0"))
    card = made(replace(WORLD.spec, choices=Choices(pins, {"c3": "positive"}))).card
    for segment in card.segments:
        rows = card.rows(segment)
        assert rows["c0"][0].points == 25 or segment != "region 40"
        assert rows["c0"][0].is_pinned == (segment == "region 40")
        assert rows["c1"][1].points == -9
        assert rows["c1"][1].is_pinned
        assert all(b.points >= 0 for b in rows["c3"] if b.band_type != "missing")
    assert card.rows("region 0")["c2"][2].points == 4  # a pin gives a segment rows before any deal does
    with pytest.raises(ValueError, match="segment 'nowhere' has pinned points but is no band of region"):
        made(replace(WORLD.spec, choices=Choices((Pin("c0", "a", 1, segment="nowhere"),))))


def test_segments__accounts_are_counted_in_theirs():
    accounts = pd.concat([X[:60], X[:5].assign(region="region 0")], ignore_index=True)
    card = made(population=accounts).card
    assert sum(b.account_count for b in card.rows()["c0"]) == 65
    for segment in card.segments[1:]:
        assert sum(b.account_count for b in card.rows(segment)["c0"]) == (accounts["region"] == segment).sum()


def test_evidence__says_what_a_row_rests_on():
    rows = FITTED.card.rows("region 2")["c0"]
    for band in rows:
        if band.deal_count == 0:
            assert band.evidence == "no deals here: as everybody's"
        else:
            assert band.evidence.startswith(f"{band.won_count} won of {band.deal_count} deal")
            assert band.evidence.endswith("from data, here and elsewhere")
    few = fit(WORLD.spec, X[:30], Y[:30], CLOSED[:30], seed=1, with_evaluation=False).card.rows()["c1"]
    texts = {band.evidence for band in few if band.band_type == "values" and band.deal_count}
    assert all(text.endswith(": mostly expert judgement") for text in texts)
    assert next(b for b in few if b.band_type == "missing").evidence == "no deals: experts' belief"
