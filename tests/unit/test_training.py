"""Between the warehouse and `ml`: criteria as `ml` takes them, features as it reads them, limits of the matrix.

The fit as a whole runs in the integration suite, on the demo company.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestration.lib.scorecard_settings import CELLS, ScorecardSettings, criterion_key
from orchestration.lib.training import (
    card_spec,
    cell_of,
    definitions_of,
    least_points_of_share,
    matrix_limits,
    read_features,
)

CRITERIA = {
    "employees": {
        "kind": "explicit",
        "attribute": "employees",
        "missing": -2,
        "monotone": "increasing",
        "bands": [{"below": 10, "points": -15, "label": "tiny"}, {"below": 250, "points": 5}, {"points": 9}],
    },
    "industry": {
        "kind": "explicit",
        "attribute": "industry",
        "type": "category",
        "bands": [{"values": [" Food", "RETAIL"], "points": 4}, {"points": -3}],
    },
    "views": {"kind": "implicit", "signals": ["page_view"], "half_life_days": 30},
    "last_touch": {"kind": "implicit", "signals": ["page_view"], "measure": "days_since_last"},
}


@pytest.fixture(scope="module")
def settings() -> ScorecardSettings:
    return ScorecardSettings.model_validate(
        {
            "version": 1,
            "currency": "EUR",
            "beliefs": {"deals": 25, "base_win_rate": 0.3},
            "matrix": {
                "fit_grades": {"method": "points", "A": 20.2, "B": 10, "C": -5},
                "engagement_levels": {"method": "shares", "1": 25, "2": 25, "3": 25},
                "next_actions": {"sales": list(CELLS)},
            },
            "criteria": CRITERIA,
        }
    )


def test_card_spec__has_the_criteria_in_their_order_with_the_experts_beliefs(settings: ScorecardSettings) -> None:
    spec = card_spec(settings)
    assert [criterion.name for criterion in spec.criteria] == list(CRITERIA)
    assert (spec.belief_deals, spec.expected_win_rate) == (25, 0.3)
    employees, industry, views, last_touch = spec.criteria
    assert [(b.label, b.lower, b.upper, b.points) for b in employees.bands or ()] == [
        ("tiny", None, 10, -15),
        (None, 10, 250, 5),
        (None, 250, None, 9),
    ]
    assert (employees.missing_points, employees.monotone) == (-2, "increasing")
    assert [(b.values, b.points) for b in industry.bands or ()] == [(("food", "retail"), 4)]
    assert industry.other_points == -3, "the last band of a category is the rest"
    assert (views.bands, views.kind, views.whole_numbers) == (None, "implicit", None)
    assert last_touch.whole_numbers is True


@pytest.fixture
def con(settings: ScorecardSettings) -> Iterator[duckdb.DuckDBPyConnection]:
    keys = {name: criterion_key(name, c.definition()) for name, c in settings.criteria.items()}
    with duckdb.connect() as con:
        con.execute("create schema features")
        for kind in ("explicit", "implicit"):
            con.execute(
                f"create table features.ftr_deals__{kind} "
                "(spine_id varchar, criterion_key varchar, value_micro bigint, value_text varchar)"
            )
        values = [
            ("explicit", "d2", keys["employees"], 12_345_678, "12.34"),
            ("explicit", "d2", keys["industry"], None, "food"),
            ("explicit", "d1", keys["employees"], None, None),
            ("explicit", "d1", keys["industry"], None, None),
            ("explicit", "d1", "employees@00000000", 99_000_000, "99"),
            ("implicit", "d2", keys["views"], 0, "0"),
            ("implicit", "d1", keys["views"], 1_500_000, "1.50"),
        ]
        for kind, *row in values:
            con.execute(f"insert into features.ftr_deals__{kind} values (?, ?, ?, ?)", row)
        yield con


def test_features__are_one_row_per_deal_and_one_column_per_criterion(
    con: duckdb.DuckDBPyConnection, settings: ScorecardSettings
) -> None:
    """Also the criterion that no row has; and not that of another definition with the same name."""
    found = read_features(con, definitions_of(settings), "deals")
    assert list(found.index) == ["d1", "d2"]
    assert list(found.columns) == list(CRITERIA)
    assert found["employees"].isna().tolist() == [True, False]
    assert found.loc["d2", "employees"] == 12.345678
    assert found["views"].tolist() == [1.5, 0.0], "zero is a value"
    assert found.loc["d2", "industry"] == "food"
    assert found.loc["d1"].isna().tolist() == [True, True, False, True]
    assert found["last_touch"].isna().all()


class CardOfFixedPoints:
    """Stands for a fitted card where only points per criterion and its kinds are asked for."""

    def __init__(self, kinds: dict[str, str]):
        self.bands = [type("Band", (), {"criterion": name, "kind": kind}) for name, kind in kinds.items()]

    def points(self, features: pd.DataFrame) -> pd.DataFrame:
        return features


def test_matrix_limits__are_points_as_written_or_shares_of_the_accounts(settings: ScorecardSettings) -> None:
    card = CardOfFixedPoints({"employees": "explicit", "industry": "explicit", "views": "implicit"})
    accounts = pd.DataFrame({"employees": [9, 9, 9, 9], "industry": [1, 1, 1, 1], "views": [40, 0, 10, -10]})
    assert matrix_limits(settings, card, accounts) == {  # type: ignore[arg-type]
        "fit_grades": {"A": 21, "B": 10, "C": -5},
        "engagement_levels": {"1": 40, "2": 10, "3": 0},
    }


def test_matrix_limits__by_capacity_hand_over_as_many_as_can_be_worked(settings: ScorecardSettings) -> None:
    """Shares keep their proportions; never more accounts than the capacity, and not far fewer where points are spread."""
    card = CardOfFixedPoints({"employees": "explicit", "views": "implicit"})
    numbers = np.random.default_rng(3).integers(-60, 60, (2, 5_000))
    accounts = pd.DataFrame({"employees": numbers[0], "views": numbers[1]})
    actions = {"sales": ["A1", "A2", "B1"], "nurture": [cell for cell in CELLS if cell not in ("A1", "A2", "B1")]}
    for capacity in (1, 120, 900):
        document = settings.model_dump(by_alias=True, mode="json", exclude={"matrix"})
        matrix = {"next_actions": actions, "capacity": {"action": "sales", "accounts": capacity}}
        by_capacity = ScorecardSettings.model_validate({**document, "matrix": matrix})
        limits = matrix_limits(by_capacity, card, accounts)  # type: ignore[arg-type]
        cells = [cell_of(limits, fit, views) for fit, views in zip(*numbers.tolist(), strict=True)]
        handed_over = sum(cell in actions["sales"] for cell in cells)
        assert 0.7 * capacity - 10 <= handed_over <= capacity
        assert max(limits["fit_grades"].values()) == limits["fit_grades"]["A"]


def test_matrix_limits__without_accounts_grade_nobody_on_a_made_up_limit(settings: ScorecardSettings) -> None:
    card = CardOfFixedPoints({"employees": "explicit", "views": "implicit"})
    limits = matrix_limits(settings, card, pd.DataFrame({"employees": [], "views": []}))  # type: ignore[arg-type]
    assert limits["engagement_levels"] == {"1": 0, "2": 0, "3": 0}


@pytest.mark.parametrize(
    ("totals", "share", "least"),
    [
        ([30, 20, 10, 0], 50, 20),
        ([30, 20, 20, 0], 25, 30),
        ([30, 20, 20, 20], 50, 30),  # one account is closer to two than all four are, with equal distance to neither
        ([5, 5, 5, 5], 10, 6),
        ([5, 5, 5, 5], 100, 5),
        ([], 10, 0),
        ([10, 0], 0, 11),
    ],
)
def test_share__gives_the_points_that_come_closest_to_it(totals: list[int], share: float, least: int) -> None:
    assert least_points_of_share(totals, share) == least


@given(
    totals=st.lists(st.integers(-100, 100), min_size=1, max_size=60),
    shares=st.lists(st.floats(0, 100), min_size=2, max_size=2),
)
def test_share__never_tears_equal_accounts_apart_and_grows_with_the_share(
    totals: list[int], shares: list[float]
) -> None:
    small, large = sorted(shares)
    reached = [sum(t >= least_points_of_share(totals, share) for t in totals) for share in (small, large)]
    assert reached[0] <= reached[1]
    # No other limit would come closer: the counts that limits can reach are those of the distinct totals.
    possible = [0, *np.cumsum(np.unique(totals, return_counts=True)[1][::-1])]
    for share, found in zip((small, large), reached, strict=True):
        allowed = possible if share >= 100 else possible[:-1]
        wanted = len(totals) * share / 100
        assert abs(found - wanted) == pytest.approx(min(abs(count - wanted) for count in allowed))
