"""dbt's own unit tests, on a warehouse that a refresh has built: dbt takes the columns' types from it, and no rows."""

from __future__ import annotations

import pytest

from orchestration.lib.dbt_runner import UnitTestResult, run_unit_tests
from orchestration.lib.mart_contracts import published_problems, read_marts
from orchestration.lib.marts_reader import open_marts, rows
from tests.conftest import Company
from tests.conventions.project import unit_tests


@pytest.fixture(scope="module")
def results(demo: Company) -> dict[str, UnitTestResult]:
    """Results by the unit test's name."""
    return {result.name: result for result in run_unit_tests(demo.workspace)}


@pytest.mark.parametrize("name", list(unit_tests()))
def test_dbt_unit_test__passes(results: dict[str, UnitTestResult], name: str) -> None:
    assert name in results, "dbt did not run it"
    assert results[name].is_good, results[name].message


def test_dbt_unit_tests__all_that_dbt_knows_are_in_our_files(results: dict[str, UnitTestResult]) -> None:
    assert set(results) == set(unit_tests())


def test_published_marts__keep_their_contracts(demo: Company) -> None:
    assert published_problems(demo.workspace.published, read_marts()) == []


def test_published_win_rates__have_the_interval_that_scipy_computes(demo: Company) -> None:
    from scipy.stats import binomtest

    compared = 0
    with open_marts(demo.workspace) as con:
        for table in ("score_matrix", "win_rate_by_score", "win_rate_by_criterion"):
            for row in rows(con, f"select won_count, deal_count, win_rate_low, win_rate_high from {table}"):
                if row["deal_count"] == 0:
                    assert row["win_rate_low"] is row["win_rate_high"] is None
                    continue
                interval = binomtest(row["won_count"], row["deal_count"]).proportion_ci(0.9, method="wilson")
                assert row["win_rate_low"] == pytest.approx(interval.low, abs=1e-12)
                assert row["win_rate_high"] == pytest.approx(interval.high, abs=1e-12)
                assert 0 <= row["win_rate_low"] <= row["win_rate_high"] <= 1
                compared += 1
    assert compared > 50
