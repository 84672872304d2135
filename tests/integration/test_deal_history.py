"""The history of deals says at any past moment what the deals were as of that moment."""

from __future__ import annotations

from datetime import datetime

import pytest

from orchestration.lib.dbt_runner import read_project
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

STATE = "opportunity_id, owner_id, stage, status, amount, opened_at, expected_close_date, closed_at, forecast_category"


@pytest.fixture(scope="module")
def workspace(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo.copy(tmp_path_factory.mktemp("deal_history") / "workspace")


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
