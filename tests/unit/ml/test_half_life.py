"""Half-lives compared on deals whose true half-life is known."""

import numpy as np
import pytest
from scipy.special import expit

from ml.half_life import HalfLifeFit, compare_half_lives

DAYS = (3, 10, 30, 90, 300, 0)


def counts_of_deals(
    deal_count: int, seed: int, *, effect: float
) -> tuple[dict[int, np.ndarray], np.ndarray, np.ndarray]:
    """Touchpoints of 1.5 years before each deal, decayed at several speeds; the outcome follows a half-life of 30 days."""
    generator = np.random.default_rng(seed)
    touches = generator.poisson(6, deal_count)
    deal = np.repeat(np.arange(deal_count), touches)
    age = generator.integers(0, 550, len(deal))
    values = {
        days: np.bincount(deal, weights=2.0 ** (-age / days) if days else None, minlength=deal_count).astype(float)
        for days in DAYS
    }
    others = generator.normal(0, 0.8, deal_count)
    line = -1.2 + others + effect * np.log1p(4 * values[30])
    return values, others, (generator.random(deal_count) < expit(line)).astype(int)


def test_half_life__the_planted_one_is_found() -> None:
    found = compare_half_lives(*counts_of_deals(4_000, 1, effect=0.9))
    assert found.days == DAYS
    assert found.best == 30
    assert found.chance.sum() == pytest.approx(1)
    low, high = found.interval
    assert low in (10, 30)
    assert high in (30, 90)
    assert found.says_something


def test_half_life__the_interval_holds_the_planted_one_as_often_as_it_says() -> None:
    place = {days: number for number, days in enumerate(DAYS)}
    held = 0
    for seed in range(20):
        low, high = compare_half_lives(*counts_of_deals(500, seed, effect=0.8)).interval
        held += place[low] <= place[30] <= place[high]
    assert held >= 17


def test_half_life__of_a_behaviour_that_tells_nothing_is_left_open() -> None:
    found = compare_half_lives(*counts_of_deals(2_000, 2, effect=0.0))
    low, high = (DAYS.index(end) for end in found.interval)
    assert high - low >= 3


def test_half_life__does_not_move_with_a_behaviour_that_nobody_had_recorded() -> None:
    values, others, won = counts_of_deals(1_500, 3, effect=0.9)
    unknown = np.arange(1_500) % 3 == 0
    values = {days: np.where(unknown, np.nan, value) for days, value in values.items()}
    assert compare_half_lives(values, others, won).best in (10, 30, 90)


def test_interval__is_the_shortest_run_that_holds_ninety_per_cent() -> None:
    fit = HalfLifeFit((7, 30, 90, 0), np.array([0.05, 0.6, 0.32, 0.03]), np.zeros(4), 100, 50)
    assert fit.interval == (30, 90)
    assert fit.best == 30
    assert not HalfLifeFit((7, 30), np.array([0.5, 0.5]), np.zeros(2), 100, 50).says_something


def test_half_life__needs_deals_and_something_to_compare() -> None:
    values, others, won = counts_of_deals(60, 1, effect=0.0)
    with pytest.raises(ValueError, match="at least two are needed, got 1"):
        compare_half_lives({30: values[30]}, others, won)
    with pytest.raises(ValueError, match="at least 20 won and 20 lost"):
        compare_half_lives(values, others, np.zeros(60, dtype=int))
    with pytest.raises(ValueError, match=r"one figure per deal \(60\)"):
        compare_half_lives(values, others[:-1], won)
