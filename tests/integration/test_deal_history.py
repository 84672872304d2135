"""The history of deals says at any past moment what the deals were as of that moment; so do changes between two."""

from __future__ import annotations

import shutil
from datetime import datetime

import pytest
from click.testing import CliRunner

from orchestration.cli.pipeline import pipeline
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import open_marts
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.pipeline_changes import Chosen, changes_between, check_sum, waterfall
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

STATE = "opportunity_id, owner_id, stage, status, amount, opened_at, expected_close_date, closed_at, forecast_category"


@pytest.fixture(scope="module")
def workspace(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Its own warehouse, and the snapshot that was published of it."""
    result = demo.copy(tmp_path_factory.mktemp("deal_history") / "workspace")
    shutil.copytree(demo.workspace.marts, result.marts, symlinks=True, dirs_exist_ok=True)
    return result


@pytest.mark.parametrize(
    "moment", [datetime(2025, 3, 31), datetime(2025, 10, 1, 12), datetime(2026, 2, 14, 9, 30), datetime(2026, 6, 29)]
)
def test_history__at_a_past_moment_is_the_deals_as_of_that_moment(workspace: Workspace, moment: datetime) -> None:
    models = read_project(workspace).select("int_deals")
    with open_warehouse(workspace) as con:
        known = con.execute(
            f"select {STATE} from intermediate.int_deals__history where valid_from <= ? and valid_to > ? order by all",
            [moment, moment],
        ).fetchall()
        with rolled_back(con):
            con.execute("update settings.refresh set as_of_at = ?, as_of_date = ?", [moment, moment.date()])
            run_models(con, models)
            then = con.execute(f"select {STATE} from intermediate.int_deals order by all").fetchall()
    assert known == then
    statuses = {row[3] for row in known}
    assert statuses == {"open", "won", "lost"}
    assert len({row[2] for row in known if row[3] == "open"}) > 2, "open deals are in one stage: the test shows little"


def test_changes_between__two_past_moments_start_and_end_with_the_pipelines_known_then(workspace: Workspace) -> None:
    first, last = datetime(2025, 10, 1, 12), datetime(2026, 2, 14, 9, 30)
    with open_marts(workspace) as con:
        published = con.execute("select * from marts.pipeline_changes order by all").fetchall()
    with changes_between(workspace, first, last) as (con, comparison):
        steps = {row["step"]: row for row in waterfall(con, Chosen(comparison))}
        by_owner = waterfall(con, Chosen(comparison), by="owner")
        known = {
            moment: con.execute(
                "select count(*), sum(coalesce(amount, 0)) from intermediate.int_deals__history "
                "where status = 'open' and valid_from <= ? and valid_to > ?",
                [moment, moment],
            ).fetchall()[0]
            for moment in (first, last)
        }
    assert (steps["start"]["deals"], steps["start"]["amount"]) == known[first]
    assert (steps["end"]["deals"], steps["end"]["amount"]) == known[last]
    assert {"new", "won", "lost"} <= set(steps)
    assert check_sum([*steps.values(), *by_owner])
    with open_warehouse(workspace) as con:
        assert con.execute("select * from marts.pipeline_changes order by all").fetchall() == published
        assert con.execute("select count(*) from settings.pipeline_comparisons").fetchall() == [(6,)]


def test_changes_between__moments_that_are_not_known_or_not_in_order_are_refused(workspace: Workspace) -> None:
    with (
        pytest.raises(UserError, match="later than the last refresh"),
        changes_between(workspace, datetime(2026, 1, 1), datetime(2030, 1, 1)),
    ):
        pass
    with (
        pytest.raises(UserError, match="later than its end"),
        changes_between(workspace, datetime(2026, 2, 1), datetime(2026, 1, 1)),
    ):
        pass


def test_pipeline_command__prints_the_published_changes_and_those_between_any_moments(workspace: Workspace) -> None:
    def run(*arguments: str) -> str:
        result = CliRunner().invoke(pipeline, ["changes", *arguments], obj=workspace, catch_exceptions=False)
        assert result.exit_code == 0
        return " ".join(result.output.split())

    held = run("--from", "30-days", "--by", "team")
    assert all(text in held for text in ("start", "By team", "Won at"))
    chosen = run("--from", "2026-01-01", "--to", "2026-02-01", "--period", "2026-Q1", "--deals")
    assert "Open pipeline from 2026-01-01 00:00 to 2026-02-01 00:00 UTC" in chosen
    assert "Deals" in chosen
    # Words are of the end, whichever it is.
    assert "from 2026-01-25 00:00 to 2026-02-01 00:00 UTC" in run("--to", "2026-02-01")
    assert "from 2026-01-01 00:00 to 2026-02-15 00:00 UTC" in run("--from", "quarter-start", "--to", "2026-02-15")
    with pytest.raises(UserError, match="7-days"):
        CliRunner().invoke(pipeline, ["changes", "--from", "someday"], obj=workspace, catch_exceptions=False)
