"""Risks of open deals, each at its limit and one day before it, and what they meant for past deals."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import pytest

from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.model_builds import ID_KEY
from orchestration.lib.workspace import Workspace

MODELS = ("int_deals__watched", "int_deals__stage_runs", "int_deals__stage_limits", "int_deals__risks", "deal_risks")
NOW = datetime(2026, 6, 30, 12)
END_OF_TIME = datetime(9999, 12, 31)
TABLES = {
    "settings.refresh": "as_of_at timestamp, as_of_date date",
    "settings.deal_risk_rules": "overdue_days integer, silent_days integer, people_days integer, least_people integer, "
    "pushes integer, least_deals bigint, most_deals bigint",
    "settings.deal_risk_moments": "seen_at timestamp",
    "settings.engaging_signals": "signal varchar",
    "staging.stg_crm__users": "user_id varchar, user_name varchar, team varchar",
    "intermediate.int_signals": "signal varchar, first_occurred_at timestamp",
    "intermediate.int_accounts": "account_id varchar, account_name varchar",
    "intermediate.int_touchpoints__daily": "account_id varchar, contact_id varchar, signal varchar, event_date date, known_date date, "
    f"account_key bigint as ({ID_KEY.format('account_id')}), contact_key bigint as ({ID_KEY.format('contact_id')})",
    "intermediate.int_deals__history": "opportunity_id varchar, valid_from timestamp, valid_to timestamp, account_id varchar, "
    "owner_id varchar, stage varchar, status varchar, amount decimal(18,2), opened_at timestamp, expected_close_date date, "
    "closed_at timestamp",
}


class World:
    def __init__(self, models: list[CompiledModel]):
        self.models = models
        self.con = duckdb.connect(":memory:")
        self.con.execute("attach ':memory:' as warehouse")
        self.con.execute("use warehouse")
        for schema in ("settings", "staging", "intermediate", "marts"):
            self.con.execute(f"create schema {schema}")
        for name, columns in TABLES.items():
            self.con.execute(f"create table {name} ({columns})")
        self.add("settings.refresh", as_of_at=NOW, as_of_date=NOW.date())
        self.add(
            "settings.deal_risk_rules",
            overdue_days=0, silent_days=30, people_days=90, least_people=2, pushes=2, least_deals=3, most_deals=1000,
        )  # fmt: skip
        self.add("settings.engaging_signals", signal="meeting")
        self.add("intermediate.int_signals", signal="meeting", first_occurred_at=datetime(2024, 1, 1))
        self.add("intermediate.int_accounts", account_id="a", account_name="A")

    def add(self, table: str, **values: Any) -> None:
        self.con.execute(
            f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", [*values.values()]
        )

    def deal(self, name: str, *versions: tuple[datetime, dict[str, Any]], account: str = "a") -> None:
        """A deal that each version changes; the first one opens it."""
        state = {
            "opened_at": versions[0][0], "account_id": account, "status": "open", "stage": "Offer", "owner_id": "ada",
            "expected_close_date": date(2027, 1, 1),
        }  # fmt: skip
        ends = [moment for moment, _ in versions[1:]] + [END_OF_TIME]
        for (moment, changed), until in zip(versions, ends, strict=True):
            state |= changed
            self.add("intermediate.int_deals__history", opportunity_id=name, valid_from=moment, valid_to=until, **state)

    def meeting(self, contact: str | None, day: date, *, account: str = "a", signal: str = "meeting") -> None:
        self.add(
            "intermediate.int_touchpoints__daily",
            account_id=account, contact_id=contact, signal=signal, event_date=day, known_date=day,
        )  # fmt: skip

    def build(self) -> dict[tuple[str, str], dict[str, Any]]:
        """The mart by deal and risk."""
        self.con.execute(
            "create or replace table intermediate.int_deals as select *, opportunity_id as opportunity_name "
            "from intermediate.int_deals__history where valid_to = ?",
            [END_OF_TIME],
        )
        for model in self.models:
            self.con.execute(f"create or replace table {model.relation} as {model.sql}")
        found = self.con.execute("from marts.deal_risks").df().to_dict("records")
        return {
            (row["opportunity_id"], row["risk"]): {str(name): value for name, value in row.items()} for row in found
        }


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return read_project(Workspace(tmp_path_factory.mktemp("risks"))).select(*MODELS)


@pytest.fixture
def world(models: list[CompiledModel]) -> Iterator[World]:
    result = World(models)
    yield result
    result.con.close()


def ago(days: float) -> datetime:
    return NOW - timedelta(days=days)


def test_overdue__is_a_promised_date_that_has_passed_and_not_one_that_is_today(world: World) -> None:
    world.deal("late", (ago(5), {"expected_close_date": date(2026, 6, 29)}))
    world.deal("today", (ago(5), {"expected_close_date": date(2026, 6, 30)}))
    world.deal("none", (ago(5), {"expected_close_date": None}))
    found = world.build()
    assert {key for key in found if key[1] == "overdue"} == {("late", "overdue")}
    row = found["late", "overdue"]
    assert (row["found_value"], row["limit_value"], row["since_date"].date()) == (1, 0, date(2026, 6, 30))


def test_pushed_often__counts_later_dates_only_and_begins_with_the_push_that_reached_the_limit(world: World) -> None:
    dates = [date(2026, 7, 1), date(2026, 8, 1), date(2026, 7, 15), date(2026, 9, 1), date(2026, 10, 1)]
    world.deal("often", *((ago(50 - 10 * n), {"expected_close_date": day}) for n, day in enumerate(dates)))
    world.deal("once", (ago(9), {"expected_close_date": dates[0]}), (ago(8), {"expected_close_date": dates[1]}))
    found = world.build()
    row = found["often", "pushed_often"]
    assert (row["found_value"], row["limit_value"], row["since_date"].date()) == (3, 2, ago(20).date())
    assert ("once", "pushed_often") not in found


def test_no_activity__begins_so_many_days_after_the_last_thing_that_counts(world: World) -> None:
    for account, days in (("silent", 30), ("heard", 29)):
        world.deal(account, (ago(100), {}), account=account)
        world.meeting("x", ago(days).date(), account=account)
        world.meeting("x", ago(3).date(), account=account, signal="email_sent")
    world.deal("fresh", (ago(10), {}), account="unheard_of")
    world.deal("old", (ago(45), {}), account="unheard_of")
    found = {deal: row for (deal, risk), row in world.build().items() if risk == "no_activity"}
    assert set(found) == {"silent", "old"}
    assert (found["silent"]["found_value"], found["silent"]["since_date"].date()) == (30, NOW.date())
    assert (found["old"]["found_value"], found["old"]["since_date"].date()) == (45, ago(15).date())


def test_no_activity__is_not_said_where_nothing_was_recorded_for_so_long(world: World) -> None:
    world.con.execute("update intermediate.int_signals set first_occurred_at = ?", [ago(10)])
    world.deal("old", (ago(45), {}))
    assert not {risk for _, risk in world.build()} & {"no_activity", "single_threaded"}


def test_single_threaded__begins_when_the_second_person_was_last_heard_of_long_enough_ago(world: World) -> None:
    world.deal("two", (ago(200), {}), account="two")
    world.deal("one", (ago(200), {}), account="one")
    for account, days in (("two", 89), ("one", 91)):
        world.meeting("x", ago(1).date(), account=account)
        world.meeting("y", ago(days).date(), account=account)
        world.meeting(None, ago(2).date(), account=account)
    found = {deal: row for (deal, risk), row in world.build().items() if risk == "single_threaded"}
    assert set(found) == {"one"}
    assert (found["one"]["found_value"], found["one"]["limit_value"]) == (1, 2)
    assert found["one"]["unit"] == "person of the account who did anything lately"
    assert found["one"]["since_date"].date() == ago(1).date()


def won_after(world: World, stays: list[int], closed: datetime) -> None:
    for number, days in enumerate(stays):
        world.deal(
            f"won{closed:%y%m}{number}",
            (closed - timedelta(days=days), {}), (closed, {"status": "won", "stage": "Won", "closed_at": closed}),
        )  # fmt: skip


def test_stuck__is_longer_in_the_stage_than_nine_of_ten_won_deals_and_a_new_stay_begins_anew(world: World) -> None:
    won_after(world, [10, 20, 30], ago(100))  # nine of ten: 28 days
    world.deal("stuck", (ago(29), {}))
    world.deal("not_yet", (ago(28), {}))
    world.deal("back", (ago(90), {}), (ago(60), {"stage": "Talk"}), (ago(5), {"stage": "Offer"}))
    world.deal("elsewhere", (ago(300), {"stage": "Talk"}))  # too few won deals were in it
    found = {deal: row for (deal, risk), row in world.build().items() if risk == "stuck"}
    assert set(found) == {"stuck"}
    row = found["stuck"]
    assert (row["found_value"], row["limit_value"], row["since_date"].date()) == (29, 28, NOW.date())
    assert row["unit"] == "days in the stage Offer"


def test_effect__is_counted_on_past_deals_each_once_and_is_not_said_of_a_few(world: World) -> None:
    """Twenty overdue deals of which two were won, twenty that were not of which fifteen were; each open at two of the moments."""
    for seen in (datetime(2025, 10, 1), datetime(2025, 11, 1)):
        world.add("settings.deal_risk_moments", seen_at=seen)
    for number in range(40):
        is_late = number < 20
        is_won = number < 2 or 20 <= number < 35
        opened = datetime(2025, 8, 1) + timedelta(days=number)
        closed = {"status": "won" if is_won else "lost", "closed_at": datetime(2025, 12, 1)}
        promised = date(2025, 9, 15) if is_late else date(2026, 9, 15)
        world.deal(f"past{number}", (opened, {"expected_close_date": promised}), (datetime(2025, 12, 1), closed))
    world.deal("late", (ago(5), {"expected_close_date": date(2026, 6, 29)}))
    row = world.build()["late", "overdue"]
    counts = [row[name] for name in ("deal_count_with", "won_count_with", "deal_count_without", "won_count_without")]
    assert counts == [20, 2, 20, 15]
    assert (row["win_rate_with"], row["win_rate_without"], row["effect"]) == (0.1, 0.75, "won less often")
    assert row["win_rate_with_low"] < 0.1 < row["win_rate_with_high"] < row["win_rate_without_low"]
    world.con.execute("update settings.deal_risk_rules set most_deals = 10")
    drawn = world.build()["late", "overdue"]
    assert 0 < drawn["deal_count_with"] + drawn["deal_count_without"] <= 10
    world.con.execute("update settings.deal_risk_rules set most_deals = 1000, least_deals = 21")
    assert world.build()["late", "overdue"]["effect"] == "too few deals"


def test_stuck_in_the_past__is_by_the_limit_that_was_known_then(world: World) -> None:
    """Of the deals that were won later nine of ten stayed for 400 days; then it was 28."""
    won_after(world, [10, 20, 30], datetime(2025, 3, 1))
    won_after(world, [400] * 30, datetime(2026, 5, 1))
    world.add("settings.deal_risk_moments", seen_at=datetime(2025, 10, 1))
    world.build()
    found = world.con.execute(
        "select distinct is_now, limit_value, is_present from intermediate.int_deals__risks where risk = 'stuck'"
    ).fetchall()
    assert found == [(0, 28, 1)]
