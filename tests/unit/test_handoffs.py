"""Who was handed over to sales, at which moment, and what became of it: the refresh's own SQL on a few accounts, several times a day."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.lib import handoffs as lib
from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.contracts import load_contracts
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.landing import landed_files
from orchestration.lib.loading import create_tables
from orchestration.lib.marts_reader import rows
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

MODELS = ("stg_scoring__handoff_crossings", "stg_scoring__handoff_clock", "int_handoffs__due", "handoffs")
#: Relations that the models read, as those before them leave them.
GIVEN = """
    create table settings.refresh (as_of_at timestamp, as_of_date date);
    create table settings.matrix_rules as select 'sales' as handoff_action, 4 as follow_up_hours;
    create table settings.matrix_actions as
        select * from (values ('A1', 'sales'), ('A2', 'sales'), ('B2', 'nurture')) as t (cell, next_action);
    create table settings.scorecard as select 'v1' as scorecard_version;
    create table staging.stg_crm__account_survivors (account_id varchar, surviving_account_id varchar);
    create table staging.stg_scoring__handoff_feedback
        (feedback_id varchar, account_id varchar, decision varchar, note varchar, author varchar, occurred_at timestamp);
    create table intermediate.int_accounts (account_id varchar, owner_id varchar, is_holdout boolean);
    create table intermediate.int_accounts__states (account_id varchar, state varchar);
    create table intermediate.int_accounts__scored (account_id varchar, cell varchar, model_points bigint, win_probability double);
    create table intermediate.int_adjustments__balances (account_id varchar, subject_kind varchar, points bigint);
    create table intermediate.int_scores__recorded (account_id varchar, record_date date, cell varchar, state varchar);
    create table intermediate.int_handoff_activities (account_id varchar, occurred_at timestamp);
    create table marts.scored_accounts (account_id varchar, account_name varchar);
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return read_project(Workspace(tmp_path_factory.mktemp("compiled"))).select(*MODELS)


@dataclass
class Company:
    """A landing zone, and what stands in it at the moment of a refresh: cells are given, everything after them is real."""

    workspace: Workspace
    models: list[CompiledModel]
    calls: list[tuple[str, datetime]] = field(default_factory=list)
    answers: list[tuple[str, str, datetime]] = field(default_factory=list)
    recorded: list[tuple[str, datetime, str | None, str]] = field(default_factory=list)

    def refresh(self, at: datetime, cells: dict[str, str], *, action: str = "sales") -> list[dict[str, Any]]:
        """An empty warehouse at each refresh: what it knows of the past it has from the landing zone."""
        with duckdb.connect(":memory:") as con:
            con.execute("attach ':memory:' as warehouse; use warehouse")
            create_tables(con, {lib.CROSSINGS: load_contracts(SOURCE_CONTRACTS)[lib.CROSSINGS]})
            con.execute(
                "".join(f"create schema {s};" for s in ("settings", "staging", "intermediate", "marts")) + GIVEN
            )
            for landed in landed_files(self.workspace, lib.CROSSINGS):
                con.execute(
                    f"insert into raw.{lib.CROSSINGS} by name select *, hash(crossing_id) // 2 as _key_hash, 0 as _row_hash, "
                    "? as _file, 1 as _row, cast(? as timestamp) as _arrived_at from read_parquet(?)",
                    [landed.file, landed.arrived_at, str(landed.path)],
                )
            con.execute("insert into settings.refresh values (?, ?)", [at, at.date()])
            con.execute("update settings.matrix_rules set handoff_action = ?", [action])
            for account, cell in cells.items():
                state = "scored" if len(cell) == 2 else cell
                con.execute("insert into intermediate.int_accounts values (?, 'owner', false)", [account])
                con.execute("insert into intermediate.int_accounts__states values (?, ?)", [account, state])
                con.execute("insert into staging.stg_crm__account_survivors values (?, ?)", [account, account])
                con.execute("insert into marts.scored_accounts values (?, upper(?))", [account, account])
                if state == "scored":
                    con.execute(
                        "insert into intermediate.int_accounts__scored values (?, ?, 40, 0.123456789)", [account, cell]
                    )
            con.execute("insert into intermediate.int_adjustments__balances values ('a', 'account', 2)")
            for table, found in (
                ("int_scores__recorded", [row for row in self.recorded if row[1].date() < at.date()]),
                ("int_handoff_activities", [row for row in self.calls if row[1] <= at]),
            ):
                for row in found:
                    con.execute(f"insert into intermediate.{table} values ({', '.join('?' * len(row))})", list(row))
            for n, (account, decision, moment) in enumerate(self.answers):
                if moment <= at:
                    con.execute(
                        "insert into staging.stg_scoring__handoff_feedback values (?, ?, ?, 'a reason', 'ann', ?)",
                        [f"f{n}", account, decision, moment],
                    )
            for model in self.models:
                con.execute(f"create {'table' if model.is_table else 'view'} {model.relation} as {model.sql}")
            found = rows(con, "select * from marts.handoffs order by account_id, handed_over_at")
            lib.land_crossings(con, self.workspace, at)
        return found

    def files(self) -> int:
        return len(landed_files(self.workspace, lib.CROSSINGS))


@pytest.fixture
def company(tmp_path: Path, models: list[CompiledModel]) -> Company:
    return Company(Workspace(tmp_path / "workspace"), models)


def at(day: int, hour: int = 12, minute: int = 0) -> datetime:
    return datetime(2026, 3, 1, hour, minute) + timedelta(days=day)


def test_handoffs__twice_within_a_day_are_two_each_with_its_own_answer_and_follow_up(company: Company) -> None:
    company.recorded = [("a", at(0), "B2", "scored")]
    company.answers = [("a", "sent_back", at(1, 11)), ("a", "accepted", at(1, 15))]
    company.calls = [("a", at(1, 9)), ("a", at(1, 14, 50))]
    company.refresh(at(1, 8), {"a": "B2"})
    company.refresh(at(1, 9, 5), {"a": "A1"})
    company.refresh(at(1, 10), {"a": "A2"})
    company.refresh(at(1, 12), {"a": "C3"})
    company.refresh(at(1, 14, 30), {"a": "A2"})
    first, second = company.refresh(at(1, 16), {"a": "A1"})
    assert (first["handed_over_at"], first["left_at"]) == (at(1, 9, 5), at(1, 12))
    assert (first["from_cell"], first["cell"], first["total_points"]) == ("B2", "A1", 42)
    assert first["win_probability"] == 0.123456789
    assert (first["feedback"], first["status"], first["first_follow_up_at"]) == ("sent_back", "sent back", None)
    assert (second["handed_over_at"], second["left_at"]) == (at(1, 14, 30), None)
    assert (second["from_cell"], second["cell"]) == ("C3", "A2"), "where it went when it left, earlier on the same day"
    assert (second["feedback"], second["status"], second["follow_up_minutes"]) == ("accepted", "followed up", 20)


def test_handoffs__are_the_same_at_every_later_refresh_and_land_nothing_twice(company: Company) -> None:
    company.refresh(at(1, 9), {"a": "A1", "b": "B2"})
    company.refresh(at(1, 10), {"a": "B2", "b": "A1"})
    assert company.files() == 2
    then = company.refresh(at(1, 11), {"a": "B2", "b": "A1"})
    again = company.refresh(at(1, 11), {"a": "B2", "b": "A1"})
    assert then == again
    assert company.files() == 2
    # As of an earlier moment: what had been seen by then, and nobody crosses in the past.
    (earlier,) = company.refresh(at(1, 9, 30), {"a": "A1", "b": "A2"})
    assert (earlier["account_id"], earlier["left_at"]) == ("a", None)
    assert company.files() == 2


def test_handoffs__of_a_moment_to_come_are_shown_and_not_landed(company: Company) -> None:
    future = datetime.now().replace(microsecond=0) + timedelta(days=300)
    assert len(company.refresh(future, {"a": "A1"})) == 1
    assert company.files() == 0


def test_handoffs__end_when_the_account_is_no_longer_scored_or_gone(company: Company) -> None:
    company.refresh(at(1), {"won": "A1", "gone": "A1"})
    company.refresh(at(2), {"won": "customer"})
    found = {row["account_id"]: row for row in company.refresh(at(3), {"won": "customer"})}
    assert found["won"]["left_at"] == found["gone"]["left_at"] == at(2)
    again = company.refresh(at(4), {"won": "A1", "gone": "A2"})
    assert {row["account_id"]: row["from_cell"] for row in again if row["handed_over_at"] == at(4)} == {
        "won": "customer",
        "gone": "gone",
    }


def test_handoffs__are_judged_by_the_hours_agreed_and_a_day_without_a_time_is_given_the_benefit(
    company: Company,
) -> None:
    midnight = at(1, 0)
    company.calls = [
        ("prompt", at(1, 13)), ("late", at(1, 13, 1)), ("dated", midnight), ("before", at(1, 8, 59)), ("next_day", at(2, 0)),
    ]  # fmt: skip
    company.refresh(at(1, 8, 30), {})
    names = ("prompt", "late", "dated", "before", "next_day", "left")
    company.refresh(at(1, 9), dict.fromkeys(names, "A1"))
    company.refresh(at(1, 12), dict.fromkeys(names[:-1], "A1"))
    soon = {row["account_id"]: row["status"] for row in company.refresh(at(1, 12, 30), dict.fromkeys(names[:-1], "A1"))}
    assert soon["before"] == "open"
    found = {row["account_id"]: row for row in company.refresh(at(3), dict.fromkeys(names[:-1], "A1"))}
    assert {name: row["status"] for name, row in found.items()} == {
        "prompt": "followed up",
        "late": "followed up late",
        "dated": "followed up",
        "before": "overdue",
        "next_day": "followed up late",
        "left": "left",
    }
    assert (found["dated"]["follow_up_minutes"], found["dated"]["follow_up_days"]) == (None, 0)
    assert found["prompt"]["follow_up_minutes"] == 240


def test_handoffs__stay_as_they_were_when_the_agreement_names_other_cells(company: Company) -> None:
    company.refresh(at(1), {"a": "A1", "b": "B2"})
    company.refresh(at(2), {"a": "A1", "b": "B2"}, action="nurture")
    found = company.refresh(at(3), {"a": "A1", "b": "B2"}, action="nurture")
    assert [(row["account_id"], row["handed_over_at"], row["left_at"]) for row in found] == [
        ("a", at(1), at(2)),
        ("b", at(2), None),
    ]


def test_answer__without_a_reason_is_refused(company: Company) -> None:
    with pytest.raises(UserError, match="needs a note"):
        lib.land_answer(company.workspace, "a", "accept", note=" ", author="ann")
    lib.land_answer(company.workspace, "a", "send-back", note="too small", author="ann")
    (landed,) = landed_files(company.workspace, lib.FEEDBACK)
    assert "sent_back,too small,ann" in landed.path.read_text("utf-8")
