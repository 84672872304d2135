"""The forecast of the demo company: made, landed, loaded and shown as it was made."""

from __future__ import annotations

import shutil
from datetime import date, datetime
from typing import Any

import pandas as pd
import pytest

from ml.forecast.history import day
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.documents import landed_documents
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_effects import CALLED, effects_in_sum, effects_of, reasons
from orchestration.lib.forecasts import (
    BACKTESTS,
    EFFECTS,
    FORECAST_DEALS,
    FORECASTS,
    TABLES,
    MadeForecast,
    backtest_is_due,
    forecast_periods,
    load_forecasts,
    make_backtest,
    make_forecast,
    monthly_origins,
    read_calibrations,
    read_deals,
)
from orchestration.lib.model_builds import GOOD, build
from orchestration.lib.scorecard_settings import Forecast
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

MARTS = (
    *("forecast_snapshots", "forecast_accuracy", "forecast_backtest", "deal_forecasts", "forecast_comparison"),
    *("deal_forecast_effects", "pipeline_forecast"),
)


@pytest.fixture(scope="module")
def workspace(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The demo company before anybody forecast anything."""
    result = demo.copy(tmp_path_factory.mktemp("forecasts") / "workspace")
    for folder in (FORECASTS, FORECAST_DEALS, EFFECTS, BACKTESTS):
        shutil.rmtree(result.landing / folder)
    with open_warehouse(result) as con:
        for table in (*TABLES, "forecast_files"):
            con.execute(f"drop table history.{table}")
        # Of some deals nobody says what they are about: one group, which the key of the snapshots holds.
        for model in ("int_deals", "int_deals__history"):
            con.execute(f"update intermediate.{model} set product = null where opportunity_id like '%7'")
    return result


@pytest.fixture(scope="module")
def made(workspace: Workspace) -> MadeForecast:
    """A backtest of four months and a forecast that is calibrated on it, loaded and shown."""
    deals = read_deals(workspace)
    assert backtest_is_due(workspace, deals.as_of_at)
    make_backtest(workspace, deals, monthly_origins(date(2026, 1, 1), date(2026, 6, 30)), Forecast())
    assert not backtest_is_due(workspace, deals.as_of_at)
    result = make_forecast(workspace, deals, Forecast())
    show(workspace)
    return result


def show(workspace: Workspace) -> None:
    project = read_project(workspace)
    models = project.select(*MARTS)
    with open_warehouse(workspace) as con:
        load_forecasts(con, workspace)
        assert {r.status for r in build(con, models, project.tests_of(models, already_built=project.models))} == {GOOD}


def rows(workspace: Workspace, query: str) -> list[tuple[Any, ...]]:
    with open_warehouse(workspace) as con:
        return con.execute(query).fetchall()


def test_forecast__parts_and_owners_are_of_the_same_scenarios(workspace: Workspace, made: MadeForecast) -> None:
    """Means add up, over parts and over owners; P90s of owners add up to more than that of all."""
    by_part = rows(
        workspace,
        "select sum(case when part = 'total' then mean_amount else -mean_amount end), max(mean_amount), count(*) "
        "from marts.forecast_snapshots where method = 'forecast' group by dimension, label, period_label",
    )
    assert len(by_part) > 50
    assert all(abs(rest) <= 0.03 and n == 4 for rest, _, n in by_part)
    sums = dict(
        rows(
            workspace,
            "select dimension, sum(mean_amount) from marts.forecast_snapshots "
            "where method = 'forecast' and part = 'total' and period_type = 'quarter' group by dimension",
        )
    )
    for dimension in ("owner", "team", "product", "region", "segment"):
        assert float(sums[dimension]) == pytest.approx(float(sums["all"]), rel=1e-4)
    high = dict(
        rows(
            workspace,
            "select dimension, sum(p90) from marts.forecast_snapshots "
            "where method = 'forecast' and part = 'total' and period_label = '2026-07' group by dimension",
        )
    )
    assert float(high["owner"]) > float(high["all"]) * 1.05


def test_forecast__counts_what_is_won_already_and_what_people_say(workspace: Workspace, made: MadeForecast) -> None:
    (won,), (forecast,) = (
        rows(workspace, query)[0]
        for query in (
            "select sum(amount) from intermediate.int_deals where status = 'won' and closed_at >= '2026-04-01'",
            "select p50 from marts.forecast_snapshots where part = 'won' and dimension = 'all' and period_label = '2026-Q2'",
        )
    )
    assert won == forecast > 0
    ((committed,),) = rows(
        workspace,
        "select sum(amount) from intermediate.int_deals where status = 'open' and lower(forecast_category) = 'commit' "
        "and expected_close_date >= '2026-07-01' and expected_close_date < '2026-08-01'",
    )
    ((said,),) = rows(
        workspace,
        "select mean_amount from marts.forecast_snapshots where method = 'commit' and dimension = 'all' and period_label = '2026-07'",
    )
    assert committed == said > 0


def test_forecast__by_region_is_of_the_accounts_regions_and_beside_the_run_rate(
    workspace: Workspace, made: MadeForecast
) -> None:
    won = rows(
        workspace,
        "select places.region, sum(deals.amount) from intermediate.int_deals as deals "
        "inner join intermediate.int_accounts__groups as places on deals.account_id = places.account_id and places.valid_to > '2026-06-30' "
        "where deals.status = 'won' and deals.closed_at >= '2026-04-01' group by all order by all",
    )
    assert len(won) == 4
    assert won == rows(
        workspace,
        "select label, p50 from marts.forecast_snapshots where part = 'won' and dimension = 'region' and period_label = '2026-Q2' "
        "and p50 > 0 order by all",
    )
    ((lately, as_of),) = rows(
        workspace,
        "select sum(amount), max(as_of_at) from intermediate.int_deals, settings.refresh "
        "where status = 'won' and closed_at > as_of_at - interval 90 day",
    )
    assert as_of.date() == date(2026, 6, 30)
    run_rate = rows(
        workspace,
        "select dimension, sum(mean_amount) from marts.forecast_snapshots where method = 'run_rate' and period_label = '2026-07' group by all",
    )
    assert len(run_rate) == 6
    assert [float(amount) for _, amount in run_rate] == pytest.approx([float(lately) * 31 / 90] * 6, abs=0.2)
    assert rows(
        workspace,
        "select sum(run_rate_amount) > 0 from marts.pipeline_forecast where period_label = '2026-07'",
    ) == [(True,)]


def test_deal_forecasts__every_open_deal_has_chances_that_fit_together(
    workspace: Workspace, made: MadeForecast
) -> None:
    ((known, deals),) = rows(
        workspace,
        "select (select count(*) from marts.deal_forecasts), "
        "(select count(*) from intermediate.int_deals where status = 'open' and opened_at is not null)",
    )
    assert known == deals == made.deal_count
    assert not rows(
        workspace,
        "from marts.deal_forecasts where won_this_month_probability > won_this_quarter_probability + 1e-9 "
        "or won_this_quarter_probability > won_next_quarter_probability + 1e-9 "
        "or won_next_quarter_probability > win_probability + 1e-6 or win_probability + loss_probability > 1 + 1e-6 "
        "or close_date_low > close_date or close_date > close_date_high",
    )


def test_effects__say_of_every_open_deal_why_and_add_up_to_what_is_expected(
    workspace: Workspace, made: MadeForecast
) -> None:
    ((explained, expected),) = rows(
        workspace, "select count(*), sum(won_this_quarter_probability * amount) from marts.deal_forecasts"
    )
    assert explained == made.deal_count
    with open_warehouse(workspace) as con:
        con.execute("use warehouse.marts")
        found = effects_in_sum(con, "won_this_quarter_probability")
        name, chance = con.execute(
            "select opportunity_id, won_this_quarter_probability from deal_forecasts "
            "where amount is not null order by won_this_quarter_probability desc limit 1"
        ).fetchall()[0]
        why = effects_of(con, [name], "won_this_quarter_probability")[name]
    assert found[0]["factor"] == "typical"
    assert {"age", "stage", "owner", "engagement"} < {row["factor"] for row in found}
    assert float(sum(row["amount"] for row in found)) == pytest.approx(float(expected), rel=1e-5)
    assert float(sum(row["effect"] for row in why)) == pytest.approx(chance, abs=2e-6)
    assert sum(row["effect"] for row in why) > 2 * why[0]["effect"], (
        "the best deal is hardly better than the typical one"
    )
    said = reasons(why)
    assert CALLED[why[1]["factor"]] in said
    assert f"({why[1]['observed']})" in said


def test_stages__learnt_in_python_are_those_learnt_in_sql(workspace: Workspace) -> None:
    deals = read_deals(workspace)
    listed = [
        stage for (stage,) in rows(workspace, "select stage from intermediate.int_deals__stages order by stage_no")
    ]
    assert deals.history.stages_learnt(day(deals.as_of_at)) == listed
    assert len(listed) > 3
    early = deals.history.staged_as_of(day(datetime(2025, 3, 1)))
    assert set(early.labels["stage"]) <= set(listed)
    assert any("teams of owners" in sentence for sentence in deals.lacking_then())


def test_deals__that_were_merged_for_a_time_are_not_open_in_it(workspace: Workspace, made: MadeForecast) -> None:
    """Nothing holds in the history of a deal while it is deleted or counts in another one."""
    model = "intermediate.int_deals__history"
    with open_warehouse(workspace) as con:
        name, begun = con.execute(
            f"select opportunity_id, max(valid_from) from {model} group by opportunity_id "
            "having max_by(status, valid_from) = 'open' and max(valid_from) < '2026-06-15' order by 1 limit 1"
        ).fetchall()[0]
        con.execute(
            f"insert into {model} select * replace (valid_from + interval 9 days as valid_from) from {model} "
            "where opportunity_id = ? and valid_from = ?",
            [name, begun],
        )
        con.execute(
            f"update {model} set valid_to = valid_from + interval 3 days where opportunity_id = ? and valid_from = ?",
            [name, begun],
        )
    history = read_deals(workspace).history
    open_on = [
        name in history.deal_ids[history.deal[history.open_as_of(day(begun) + days)]]
        for days in (1, 2.9, 3, 8.9, 9, 14)
    ]
    with open_warehouse(workspace) as con:
        con.execute(f"delete from {model} where opportunity_id = ? and valid_from > ?", [name, begun])
        con.execute(
            f"update {model} set valid_to = '9999-12-31' where opportunity_id = ? and valid_from = ?", [name, begun]
        )
    assert open_on == [True, True, False, False, True, True]


def test_backtest__knows_ended_windows_only_and_calibrates_the_forecast(
    workspace: Workspace, made: MadeForecast
) -> None:
    found = rows(
        workspace,
        "select horizon_days, count(distinct origin_at), max(origin_at + to_days(cast(horizon_days as integer))) "
        "from marts.forecast_backtest group by all order by all",
    )
    assert [(horizon, n) for horizon, n, _ in found] == [(30, 5), (90, 4)]
    assert all(str(last) <= "2026-06-30 00:00:00" for _, _, last in found)
    assert [c.origins for c in read_calibrations(workspace, datetime(2026, 6, 30))] == [5, 4]
    assert made.calibrated_on == 5
    # What of the spread was doubt of the model is landed for the next calibration; the warehouse does not need it.
    landed = pd.read_parquet(landed_documents(workspace, BACKTESTS)[-1])
    doubted = landed[landed["doubt_sd"].notna()]
    assert set(zip(doubted["method"], doubted["dimension"], strict=True)) == {("model", "all")}
    assert len(doubted) == 9
    assert (doubted["doubt_sd"] > 0).all()
    assert "doubt_sd" not in TABLES["forecast_backtests"][1]


def test_snapshots__stay_as_they_were_made_whatever_becomes_of_the_settings(
    workspace: Workspace, made: MadeForecast
) -> None:
    query = f"select * exclude (is_newest) from marts.forecast_snapshots where forecast_id = '{made.forecast_id}' and part = 'total' order by all"
    before = rows(workspace, query)
    assert len(before) > 100
    other = make_forecast(workspace, read_deals(workspace), Forecast(months=3, fiscal_year_start_month=2))
    show(workspace)
    assert rows(workspace, query) == before
    assert rows(workspace, "select distinct forecast_id from marts.forecast_snapshots where is_newest") == [
        (other.forecast_id,)
    ]
    # From the landing zone alone, the same.
    with open_warehouse(workspace) as con:
        for table in (*TABLES, "forecast_files"):
            con.execute(f"drop table history.{table}")
        assert load_forecasts(con, workspace) == 7
        assert load_forecasts(con, workspace) == 0
    show(workspace)
    assert rows(workspace, query) == before


def test_forecast__of_equal_deals_and_settings_is_equal(workspace: Workspace, made: MadeForecast) -> None:
    again = make_forecast(workspace, read_deals(workspace), Forecast())
    assert again.forecast_id == made.forecast_id
    assert again.file.read_bytes() == made.file.read_bytes()


def test_backtest__without_an_ended_window_says_so(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="up to 2026-05-31"):
        make_backtest(workspace, read_deals(workspace), [date(2026, 6, 10)], Forecast())


def test_periods__are_months_and_whole_fiscal_quarters() -> None:
    def labels(today: date, months: int, first: int) -> list[str]:
        return list(forecast_periods(today, months, first)["period_label"])

    assert labels(date(2026, 5, 20), 4, 1) == ["2026-05", "2026-06", "2026-07", "2026-08", "2026-Q2"]
    assert labels(date(2026, 5, 1), 5, 1)[-2:] == ["2026-Q2", "2026-Q3"]
    # The year that begins in February 2026 is named after 2027, in which it ends.
    assert labels(date(2026, 1, 31), 4, 2) == ["2026-01", "2026-02", "2026-03", "2026-04", "2026-Q4", "2027-Q1"]
