"""Bands are few, readable, cover everything, and never follow noise."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.banding import band_criteria, find_edges, find_groups, roundest_between
from ml.card import BandSpec, CardSpec, CriterionSpec, range_label


@pytest.mark.parametrize(
    ("low", "high", "near", "whole", "expected"),
    [
        (44, 53, 47.31, True, 50),
        (220, 270, 240, True, 250),
        (900, 1100, 950, True, 1000),
        (0, 0.03, 0.015, False, 0.02),
        (0, 1, 1, True, 1),
        (17.2, 18.9, 18, False, 18),
        (-3, 4, 1, False, 0),
        (-48, -44, -46, True, -45),
        (0.41, 0.58, 0.5, False, 0.5),
    ],
)
def test_roundest_between__is_what_a_person_would_write(low, high, near, whole, expected):
    assert roundest_between(low, high, near, whole) == expected


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.booleans())
def test_roundest_between__lies_between_and_fits_millionths(low, width, whole):
    edge = roundest_between(low, low + width, low + width / 2, whole)
    if edge is None:
        assert whole
        assert np.floor(low + width) <= low
    else:
        assert low < edge <= low + width
        assert edge == round(edge, 6)


@given(st.lists(st.one_of(st.integers(0, 30), st.floats(-5, 500)), max_size=200), st.integers(1, 6))
def test_find_edges__increasing_few_and_no_band_under_its_share(values, max_bands):
    x = np.array(values, dtype=float)
    edges = find_edges(x, max_bands=max_bands, min_share=0.1)
    assert len(edges) < max_bands
    assert edges == sorted(set(edges))
    if edges:
        counts = np.bincount(np.searchsorted(edges, x, side="right"), minlength=len(edges) + 1)
        assert counts.min() >= max(5, 0.1 * len(x))


def test_find_edges__company_sizes_get_readable_limits():
    sizes = np.round(np.exp(np.random.default_rng(0).normal(4, 1.5, 5000)))
    edges = find_edges(sizes)
    assert len(edges) == 4
    assert all(edge % 5 == 0 for edge in edges)


def test_find_edges__zero_inflated_counts_keep_zero_apart():
    views = np.concatenate([np.zeros(700), np.random.default_rng(1).integers(1, 20, 300)])
    edges = find_edges(views)
    assert edges[0] == 1
    assert len(edges) >= 2


def test_find_edges__outcomes_move_the_edges_where_they_change():
    x = np.random.default_rng(2).uniform(0, 100, 4000)
    won = (np.random.default_rng(3).random(4000) < np.where(x < 30, 0.1, 0.6)).astype(int)
    assert find_edges(x, won, max_bands=2) == [30]


def test_find_edges__monotone_joins_what_is_out_of_order():
    generator = np.random.default_rng(4)
    x = generator.uniform(0, 100, 4000)
    won = (generator.random(4000) < np.where((x > 40) & (x < 60), 0.1, x / 150)).astype(int)
    edges = find_edges(x, won, monotone="increasing")
    rates = [won[np.searchsorted(edges, x, side="right") == b].mean() for b in range(len(edges) + 1)]
    assert len(edges) >= 1
    assert rates == sorted(rates)


def test_find_edges__nothing_to_cut():
    assert find_edges(np.array([])) == []
    assert find_edges(np.full(50, np.nan)) == []
    assert find_edges(np.full(50, 3.0)) == []
    assert find_edges(np.array([1.0, 2, 3, 4, 5])) == []


def test_find_groups__rare_values_are_left_to_other():
    column = pd.Series(["it"] * 60 + ["retail"] * 30 + ["tecnolgy"] * 1 + [None] * 9)
    assert find_groups(column) == [("it",), ("retail",)]


@pytest.mark.parametrize(
    ("lower", "upper", "whole", "label"),
    [
        (None, 10, True, "< 10"),
        (10, 50, True, "10-49"),
        (50, 250, True, "50-249"),
        (1000, None, True, ">= 1000"),
        (0.5, 2, False, "0.5-2"),
        (1, 2, True, "1"),
        (-5, 0, True, "-5 to -1"),
        (1e6, 2.5e6, True, "1M-2.5M"),
        (12_345, 1.6e9, True, "12,345-1.6B"),
        (None, None, True, "any value"),
    ],
)
def test_range_label__reads_as_written(lower, upper, whole, label):
    assert range_label(lower, upper, whole) == label


def _bands(criterion: CriterionSpec, values: list[object]):
    X = pd.DataFrame({criterion.name: pd.Series(values)})
    return band_criteria(CardSpec((criterion,)), X, np.zeros(len(X)))[0], X[criterion.name]


def test_fixed_ranges__gaps_are_filled_and_every_value_has_one_band():
    criterion = CriterionSpec(
        "employees",
        bands=(BandSpec(lower=50, upper=250, points=20), BandSpec(lower=10, upper=30, points=5)),
        other_points=-3,
        missing_points=-1,
    )
    bands, column = _bands(criterion, [9.0, 10.0, 29.0, 30.0, 50.0, 249.0, 250.0, np.inf, -np.inf, np.nan])
    labels = [b.label for b in bands.bands]
    assert labels == ["< 10", "10-29", "30-49", "50-249", ">= 250", "missing"]
    assert [b.expert_points for b in bands.bands] == [-3, 5, -3, 20, -3, -1]
    assert bands.encode(column).tolist() == [0, 1, 1, 2, 3, 3, 4, 4, 0, 5]


def test_fixed_values__unknown_is_other_and_none_is_missing():
    criterion = CriterionSpec("industry", value_type="category", bands=(BandSpec(values=("it", "media"), points=9),))
    bands, column = _bands(criterion, ["it", "media", "mining", None, float("nan"), "IT"])
    assert [b.label for b in bands.bands] == ["it, media", "other", "missing"]
    assert bands.encode(column).tolist() == [0, 0, 1, 2, 2, 1]


def test_population__places_the_bands_before_the_first_deal():
    spec = CardSpec((CriterionSpec("employees"), CriterionSpec("industry", value_type="category")))
    accounts = pd.DataFrame({"employees": np.arange(1.0, 401.0), "industry": ["it", "media"] * 200})
    employees, industry = band_criteria(spec, accounts.iloc[:0], np.zeros(0), population=accounts)
    assert len(employees.bands) > 3
    assert [b.label for b in industry.bands] == ["it", "media", "other", "missing"]


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"bands": (BandSpec(lower=0, upper=10), BandSpec(lower=5, upper=20))}, "must not overlap"),
        ({"bands": (BandSpec(lower=10, upper=10),)}, "lower limit must be under"),
        (
            {"value_type": "category", "bands": (BandSpec(values=("a",)), BandSpec(values=("a", "b")))},
            "one band",
        ),
        ({"value_type": "category", "bands": (BandSpec(),)}, "lists its values"),
        ({"value_type": "category", "monotone": "increasing"}, "no order"),
        ({"kind": "fit"}, "kind must be explicit or implicit, got 'fit'"),
    ],
)
def test_criterion_spec__errors_name_criterion_rule_and_value(kwargs, message):
    with pytest.raises(ValueError, match=f"criterion size.*{message}"):
        CriterionSpec("size", **kwargs)


def test_encode__text_for_a_number_names_the_criterion():
    bands, _ = _bands(CriterionSpec("employees", bands=(BandSpec(lower=0, points=1),)), [1.0])
    with pytest.raises(ValueError, match="criterion employees"):
        bands.encode(pd.Series(["many"]))
