"""How much months differ: what was planted is found, the season is not taken for it, and who describes months better is believed."""

import numpy as np
import pytest

from ml.forecast.months import PRIOR_DRIFT_SD, PRIOR_MONTH_SD, MonthCounts, fit_months

FIRST = 12 * 47
"""January 2017, in months since January 1970."""
SEASON = np.array([0.7, 1.0, 1.3])


def months(count, generator, *, month_sd=0.0, drift_sd=0.0, per_month=400.0, pipeline_sd=0.0):
    """Months of planted spread; the hazards know of the pipeline, and not of the season."""
    season = np.resize(SEASON, count)
    pipeline = np.exp(generator.normal(0, pipeline_sd, count))
    level = np.cumsum(generator.normal(0, drift_sd, count))
    factor = np.exp(generator.normal(0, month_sd, count) - month_sd**2 / 2 + level)
    won = generator.poisson(per_month * season * pipeline * factor).astype(float)
    return MonthCounts.of(FIRST, won, per_month * pipeline, 1)


def test_months__differ_by_as_much_as_was_planted_though_the_season_was_fitted_on_them():
    generator = np.random.default_rng(2)
    for planted in (0.0, 0.15, 0.3):
        found = [fit_months(months(36, generator, month_sd=planted)) for _ in range(60)]
        mean = np.sqrt(np.mean([each.month_sd**2 for each in found]))
        # A belief is drawn to: a little up where months do not differ at all, a little down where they differ much.
        assert mean == pytest.approx(planted, rel=0.15, abs=0.05)


def test_months__that_hardly_differ_are_believed_after_three_quarters():
    """A belief worth four months, averaged with the variance seen, could not be below .083 after nine months that do not differ at all."""
    generator = np.random.default_rng(3)
    found = [fit_months(months(9, generator, month_sd=0.02, per_month=2000.0)).month_sd for _ in range(60)]
    assert np.median(found) < 0.06
    assert np.quantile(found, 0.9) < 0.09


def test_months__of_one_season_are_the_prior():
    generator = np.random.default_rng(4)
    for count in (0, 1, 3):
        found = fit_months(months(count, generator))
        assert (found.month_sd, found.drift_sd, found.common_sd) == (PRIOR_MONTH_SD, PRIOR_DRIFT_SD, PRIOR_MONTH_SD)
    nothing = MonthCounts.of(FIRST, np.zeros(12), np.full(12, 5.0), 1)
    assert fit_months(nothing).month_sd == PRIOR_MONTH_SD


def test_drift__is_told_from_months_that_differ():
    generator = np.random.default_rng(5)
    still = [fit_months(months(36, generator, month_sd=0.15)).drift_sd for _ in range(40)]
    moving = [fit_months(months(36, generator, drift_sd=0.09)) for _ in range(40)]
    assert np.median([each.drift_sd for each in moving]) > 1.5 * np.median(still)
    # Of months that only drift little is taken for factors of their own.
    assert np.median([each.month_sd for each in moving]) < 0.1


def test_description__by_the_evidence_and_what_the_hazards_are_off_by_is_nobodys_chance():
    generator = np.random.default_rng(6)
    known = [fit_months(months(18, generator, month_sd=0.05, pipeline_sd=0.4)) for _ in range(20)]
    assert min(each.belief for each in known) > 0.9
    np.testing.assert_allclose([each.common_sd for each in known], [each.month_sd for each in known], atol=0.02)
    misled = []
    for _ in range(20):
        made = months(18, generator, month_sd=0.05)
        wrong = made.expected * np.exp(generator.normal(0, 0.4, 18))
        misled.append(fit_months(MonthCounts.of(FIRST, made.won, wrong, 1)))
    assert max(each.belief for each in misled) < 0.1
    assert np.median([each.month_sd for each in misled]) > 0.25
    assert np.median([each.common_sd for each in misled]) < 0.1
    assert all(each.common_sd <= each.month_sd for each in [*known, *misled])


def test_description__of_few_won_deals_is_told_by_neither():
    """Chance explains the months: a hazard that expects otherwise is not believed to be wrong."""
    generator = np.random.default_rng(7)
    found = [fit_months(months(12, generator, month_sd=0.1, per_month=5.0)) for _ in range(20)]
    assert 0.3 < np.median([each.belief for each in found]) < 0.7


def test_counts__of_a_sample_know_that_they_are_one():
    whole = MonthCounts.of(FIRST, np.array([40.0, 50.0]), np.array([44.0, 46.0]), 1)
    tenth = MonthCounts.of(FIRST, np.array([4.0, 5.0]), np.array([4.4, 4.6]), 1, weight=10.0)
    np.testing.assert_allclose(tenth.won, whole.won)
    np.testing.assert_allclose(tenth.expected, whole.expected)
    np.testing.assert_allclose(tenth.chance, 10 * whole.chance)


def test_counts__of_two_groups_are_summed_by_month_and_parts_of_months_left_out():
    early = MonthCounts.of(FIRST, np.array([1.0, 2.0]), np.array([1.5, 1.5]), 2)
    late = MonthCounts.of(FIRST + 1, np.array([10.0, 20.0]), np.array([11.0, 19.0]), 2)
    for both in (early + late, late + early):
        assert both.month.tolist() == [FIRST, FIRST + 1, FIRST + 2]
        assert both.won.tolist() == [1, 12, 20]
        assert both.place.tolist() == [2, 0, 1]
    # January to March 2017.
    begin, end = (np.datetime64(text, "D").astype(float) for text in ("2017-01-01", "2017-03-30"))
    assert both.whole(begin, end).won.tolist() == [1, 12]
    assert both.whole(begin + 1, end + 2).won.tolist() == [12, 20]
