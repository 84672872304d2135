"""What people say of a forecast: which of it counts when, what stands beside the model, and who was closer."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from click.testing import CliRunner, Result

from orchestration.cli.main import main
from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_submissions import Period, Subject, closeness, land_submission, period_of
from orchestration.lib.landing import landed_files
from orchestration.lib.marts_reader import open_marts
from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import create_workspace
from tests.unit.forecast_world import World, models

NOW = datetime(2026, 7, 10, 12)
JULY = Period("month", date(2026, 7, 1), "2026-07", date(2026, 8, 1))
ALL = Subject("all", "all", "all")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return models(Workspace(tmp_path_factory.mktemp("submissions")))


@pytest.fixture
def world(built: list[CompiledModel]) -> Iterator[World]:
    result = World(built)
    yield result
    result.con.close()


def ago(**parts: float) -> datetime:
    return NOW - timedelta(**parts)


def statuses(world: World, at: datetime = NOW) -> dict[str, str]:
    world.build(at)
    return dict(world.rows("select submission_id, status from marts.forecast_submissions"))


def test_submission__of_one_kind_and_cell_the_newest_counts(world: World) -> None:
    world.say("old", ago(days=2), 100)
    world.say("new", ago(days=1), 200)
    world.say("manager", ago(days=3), 300, kind="manager")
    world.say("owner", ago(days=3), 300, dimension="owner", label="u1")
    world.say("august", ago(days=3), 300, period_start=date(2026, 8, 1))
    world.say("later", NOW + timedelta(seconds=1), 400)
    assert statuses(world) == {
        "old": "replaced", "new": "in force", "manager": "in force", "owner": "in force", "august": "in force",
    }  # fmt: skip


def test_submission__counts_from_its_moment_until_its_expiry_and_what_it_replaced_counts_again(world: World) -> None:
    world.say("lasting", ago(days=9), 100, kind="override")
    world.say("short", ago(days=5), 200, kind="override", expires_at=ago(days=1))
    assert statuses(world, ago(days=5)) == {"lasting": "replaced", "short": "in force"}
    assert statuses(world, ago(days=5, seconds=1)) == {"lasting": "in force"}
    assert statuses(world, ago(days=1, seconds=1)) == {"lasting": "replaced", "short": "in force"}
    assert statuses(world, ago(days=1)) == {"lasting": "in force", "short": "expired"}


def test_withdrawal__ends_a_submission_and_keeps_its_row_with_the_reason(world: World) -> None:
    world.say("first", ago(days=9), 100)
    world.say("wrong", ago(days=5), 200, expires_at=ago(days=1))
    world.say("void", ago(days=3), kind="void", void_of="wrong", note="a typo", author="bob")
    world.say("again", ago(days=2), kind="void", void_of="wrong", note="once more")
    assert statuses(world, ago(days=3, seconds=1)) == {"first": "replaced", "wrong": "in force"}
    assert statuses(world) == {"first": "in force", "wrong": "withdrawn"}
    assert world.rows(
        "select withdrawn_by, withdrawn_note from marts.forecast_submissions where withdrawn_by <> ''"
    ) == [("void", "a typo")]


def test_submission__outlives_the_period_and_the_fiscal_year_that_it_was_made_in(world: World) -> None:
    world.period("quarter", date(2026, 7, 1), date(2026, 10, 1), "2026-Q3")
    world.say("q3", ago(days=1), 100, period_type="quarter")
    world.build(NOW)
    query = "select period_label, period_end, amount, status from marts.forecast_submissions"
    assert world.rows(query) == [("2026-Q3", date(2026, 10, 1), Decimal(100), "in force")]
    world.con.execute("delete from settings.target_periods")
    world.build(datetime(2027, 3, 1))
    assert world.rows(query) == [("2026-07-01", date(2026, 10, 1), Decimal(100), "in force")]
    assert world.rows("select count(*) from marts.forecast_comparison where submitted_commit_amount is not null") == [
        (0,)
    ]


def test_override__stands_beside_the_models_number_until_it_expires(world: World) -> None:
    world.forecast(
        ago(days=1), is_newest=True, forecast=500, stage_weighted=600, run_rate=450, commit=400, best_case=700
    )
    world.say("o", ago(hours=1), 800, kind="override", expires_at=NOW + timedelta(days=1), note="a big deal")
    world.say("m", ago(hours=1), 550, kind="manager")
    world.add(
        "intermediate.int_deals", opportunity_id="d", owner_id="u1", status="won", amount=120, closed_at=datetime(2026, 7, 3)
    )  # fmt: skip
    query = (
        "select forecast_low_amount, forecast_amount, forecast_high_amount, stage_weighted_amount, run_rate_amount, commit_amount, "
        "submitted_manager_amount, override_amount, override_note, target_amount, gap_amount, forecast_gap_amount "
        "from marts.forecast_comparison where dimension = 'all'"
    )
    world.build(NOW)
    assert world.rows(query) == [(450, 500, 550, 600, 450, 400, 550, 800, "a big deal", 3000, 2880, 2500)]
    world.build(NOW + timedelta(days=1))
    assert world.rows(query) == [(450, 500, 550, 600, 450, 400, 550, None, None, 3000, 2880, 2500)]


def test_comparison__has_teams_targets_as_sums_and_no_period_that_is_over(world: World) -> None:
    world.say("t", ago(days=1), 40, dimension="team", label="north")
    world.build(NOW)
    query = "select label, target_amount, submitted_commit_amount from marts.forecast_comparison where dimension = 'team' order by 1"
    assert world.rows(query) == [("north", 2000, 40), ("south", 1000, None)]
    world.con.execute("update marts.targets set period_status = 'over'")
    world.build(datetime(2026, 8, 1))
    assert world.rows("select count(*) from marts.forecast_comparison") == [(0,)]


def test_accuracy__scores_people_by_what_they_had_said_when_the_model_spoke(world: World) -> None:
    world.forecast(datetime(2026, 6, 20), forecast=500, stage_weighted=900)
    world.forecast(datetime(2026, 6, 25), forecast=480)
    world.forecast(datetime(2026, 7, 20), forecast=410)
    world.say("m1", datetime(2026, 6, 1), 390, kind="manager")
    world.say("m2", datetime(2026, 6, 22), 100, kind="manager")
    world.say("o", datetime(2026, 6, 1), 400, kind="override", expires_at=datetime(2026, 6, 21))
    world.say("c", datetime(2026, 7, 20, 0, 0, 1), 400)
    world.add(
        "intermediate.int_deals", opportunity_id="d", owner_id="u1", status="won", amount=400, closed_at=datetime(2026, 7, 31, 23)
    )  # fmt: skip
    world.build(datetime(2026, 8, 1))
    query = (
        "select forecast_id, method, forecast_amount, error_amount, is_closest, standing_horizon_days from marts.forecast_accuracy "
        "order by forecast_id, method"
    )
    assert world.rows(query) == [
        ("20260620", "forecast", 500, 100, False, None),
        ("20260620", "override", 400, 0, True, 30),
        ("20260620", "stage_weighted", 900, 500, False, 30),
        ("20260620", "submitted_manager", 390, -10, False, None),
        ("20260625", "forecast", 480, 80, True, 30),
        ("20260625", "submitted_manager", 100, -300, False, 30),
        ("20260720", "forecast", 410, 10, True, 7),
        ("20260720", "submitted_manager", 100, -300, False, 7),
    ]


def test_submission__from_the_command_line_is_landed_shown_and_withdrawn(world: World, tmp_path: Any) -> None:
    workspace = Workspace(tmp_path / "company")
    create_workspace(workspace)
    # The moment is far enough ahead that what is landed now counts.
    moment = datetime.now() + timedelta(days=1)
    now = moment.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    period = f"{now:%Y-%m}"
    end = (now + timedelta(days=32)).replace(day=1)
    world.period("month", now.date(), end.date(), period)
    world.forecast(now - timedelta(days=1), is_newest=True, forecast=500)
    world.build(moment)
    world.publish(workspace)

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(main, ["--home", str(workspace.home), "forecast", *arguments])

    assert (
        run("submit", period, "120,000.50", "--for", "owner=ada", "--kind", "manager", "--note", "seen").exit_code == 0
    )
    assert (
        run("override", period, "90000", "--for", "team=north", "--note", "cut", "--expires", "2999-01-01").exit_code
        == 0
    )
    for arguments, reason in {
        ("submit", period, "1", "--for", "owner=Bo", "--note", "x"): "give the id, one of u2, u3",
        ("submit", period, "1", "--for", "owner=Cy", "--note", "x"): "known: Ada, Bo, Bo",
        ("submit", period, "1", "--for", "boss", "--note", "x"): "must be all, owner=NAME",
        ("submit", "2026-Q7", "1", "--note", "x"): "2026-Q3",
        ("submit", f"{now.year + 20}", "1", "--note", "x"): "is too far off: periods are known up to",
        ("submissions", "soon"): "a period is 2026-07, 2026-Q3 or 2026 (value: 'soon')",
        ("targets", "2026-13"): "(value: '2026-13')",
        ("accuracy", "--period", "Q3"): "(value: 'Q3')",
        ("--period", "soon"): "(value: 'soon')",
        ("explain", "soon"): "(value: 'soon')",
        ("make", "--as-of", "2999-01-01"): "not made as of a moment to come",
        ("submit", period, "much", "--note", "x"): "'much'",
        ("submit", period, "nan", "--note", "x"): "an amount is from 0",
        ("submit", period, "1234,56", "--note", "x"): "such as 120000, 120,000 or 120000.50 (value: '1234,56')",
        ("submit", period, "-5", "--note", "x"): "an amount is from 0",
        ("submit", f"{now - timedelta(days=1):%Y-%m}", "1", "--note", "x"): "it is over",
        ("submit", period, "0.001", "--note", "x"): "two digits",
        ("submit", period, "1", "--note", " "): "needs a note",
        ("override", period, "1", "--note", "x", "--expires", "2020-01-01"): "a moment to come",
        ("withdraw", "0000", "--note", "x"): "no published submission",
    }.items():
        refused = run(*arguments)
        assert refused.exit_code == 1, refused.output
        assert reason in refused.output
    assert len(landed_files(workspace, "scoring__forecast_submissions")) == 2

    world.take_landed(workspace)
    world.build(moment)
    world.publish(workspace)
    shown = run("submissions", period)
    assert "120,000" in shown.output
    assert "until 2999-01-01" in shown.output
    assert "cut" in run("--by", "team").output
    ((key,),) = world.rows("select submission_id from marts.forecast_submissions where kind = 'manager'")
    assert run("withdraw", key[:6], "--note", "never mind").exit_code == 0
    assert len(landed_files(workspace, "scoring__forecast_submissions")) == 3
    world.con.execute("delete from raw.scoring__forecast_submissions")
    world.take_landed(workspace)
    world.build(moment)
    world.publish(workspace)
    assert "never mind" in run("submissions").output
    assert "already" in run("withdraw", key[:6], "--note", "again").output
    assert "cro: plan" in run("targets", "2026-07", "--by", "owner").output
    assert run("submissions", f"{now.year}-{now.month}").output == run("submissions", period).output


def test_submission__in_a_currency_without_a_rate_is_said_to_be_unknown(world: World, tmp_path: Any) -> None:
    workspace = Workspace(tmp_path / "company")
    create_workspace(workspace)
    world.forecast(ago(days=1), is_newest=True, forecast=500)
    world.say("known", ago(hours=2), 100)
    world.say("francs", ago(hours=1), 90_000, currency="chf")
    world.build(NOW)
    world.publish(workspace)
    shown = CliRunner().invoke(main, ["--home", str(workspace.home), "forecast"])
    assert (
        "2026-07, all: commit of 90,000 CHF has no exchange rate of 2026-07-10 and counts as not known" in shown.output
    )
    listed = CliRunner().invoke(main, ["--home", str(workspace.home), "forecast", "submissions"])
    assert "no rate (90,000 CHF)" in listed.output


def test_accuracy__by_owner_has_a_line_per_owner_and_leaves_out_those_of_whom_there_is_nothing(
    world: World, tmp_path: Any
) -> None:
    workspace = Workspace(tmp_path / "company")
    create_workspace(workspace)
    # Ada's commit was off by 20 %, Bo's by 50; the model by 100 and 10. Nobody said anything of u3, of whom nothing came.
    for label, won, commit, model in (("u1", 100, 80, 200), ("u2", 1000, 500, 900), ("u3", 0, None, 0)):
        world.forecast(datetime(2026, 6, 25), label, forecast=model, stage_weighted=model)
        if won:
            world.add(
                "intermediate.int_deals", opportunity_id=label, owner_id=label, status="won", amount=won, closed_at=datetime(2026, 7, 31)
            )  # fmt: skip
        if commit:
            world.say(label, datetime(2026, 6, 1), commit, dimension="owner", label=label)
    world.build(datetime(2026, 8, 1))
    world.publish(workspace)
    with open_marts(workspace) as con:
        assert [
            (row["method"], row["periods"], row["closest"]) for row in closeness(con, "owner")
        ] == [("forecast", 2, 1), ("stage_weighted", 2, 1), ("submitted_commit", 2, 1)]  # fmt: skip
        each = closeness(con, "owner", by_label=True)
    assert [(row["label"], row["method"], row["wape"]) for row in each] == [
        ("u1", "submitted_commit", 0.2), ("u1", "forecast", 1.0), ("u1", "stage_weighted", 1.0),
        ("u2", "forecast", 0.1), ("u2", "stage_weighted", 0.1), ("u2", "submitted_commit", 0.5),
    ]  # fmt: skip
    shown = CliRunner().invoke(main, ["--home", str(workspace.home), "forecast", "accuracy", "--by", "owner"]).output
    lines = [line.split() for line in shown.splitlines()]
    assert lines.index(["Bo", "(u2)", "1,000", "0.100", "0.500", "0.100"]) < lines.index(
        ["Ada", "100", "1.000", "0.200", "1.000"]
    )


def test_targets__show_what_is_attained_and_how_often_open_deals_cover_what_is_missing(
    world: World, tmp_path: Any
) -> None:
    workspace = Workspace(tmp_path / "company")
    create_workspace(workspace)
    # Ada has won 200 of 1,000, and 2,000 are open in July; Bo has met the target; nothing is open for the other Bo.
    world.con.execute("update marts.targets set won_amount = 200, gap_amount = 800 where owner_id = 'u1'")
    world.con.execute("update marts.targets set won_amount = 1200, gap_amount = -200 where owner_id = 'u2'")
    world.build(NOW)
    world.publish(workspace)
    with duckdb.connect(str(workspace.published)) as con:
        con.execute(
            "insert into marts.pipeline_forecast values ('u1', 'Ada', 'north', '2026-07-01', 1500), ('u1', 'Ada', 'north', '2026-07-01', 500), "
            "('u9', 'New', null, '2026-07-01', 40), ('u1', 'Ada', 'north', '2026-08-01', 7)"
        )

    def lines(*arguments: str) -> list[list[str]]:
        shown = CliRunner().invoke(main, ["--home", str(workspace.home), "forecast", "targets", *arguments])
        assert shown.exit_code == 0, shown.output
        return [line.split() for line in shown.output.splitlines()]

    assert [
        "2026-07",
        "running",
        "3,000",
        "1,400",
        "47",
        "%",
        "1,600",
        "2,040",
        "1.3",
        "x",
        "set",
        "cro;",
        "cro:",
        "plan",
    ] in lines()
    by_owner = lines("--by", "owner")
    assert [line[1:3] for line in by_owner if "(u2)" in line or "(u3)" in line] == [["Bo", "(u2)"], ["Bo", "(u3)"]]
    assert [
        "2026-07",
        "Ada",
        "running",
        "1,000",
        "200",
        "20",
        "%",
        "800",
        "2,000",
        "2.5",
        "x",
        "set",
        "cro:",
        "plan",
    ] in by_owner


def test_landing__refuses_an_amount_that_is_none(tmp_path: Any) -> None:
    for amount in ("NaN", "-1", "Infinity", "9000000000001"):
        with pytest.raises(UserError, match="an amount is from 0"):
            land_submission(Workspace(tmp_path), JULY, ALL, Decimal(amount), kind="commit", note="x", author="y")
    assert not any(tmp_path.iterdir())


def test_period__is_dates_whatever_the_fiscal_year_calls_it() -> None:
    assert period_of("2026-07", 4) == JULY
    assert period_of("2026-q1", 2) == Period("quarter", date(2025, 2, 1), "2026-Q1", date(2025, 5, 1))
    assert period_of("2026", 1) == Period("year", date(2026, 1, 1), "2026", date(2027, 1, 1))
