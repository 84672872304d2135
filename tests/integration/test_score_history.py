"""Past scores as they were landed, folded and explained: the refresh's own SQL on small tables, day after day."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pytest

from orchestration.lib import score_records
from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.model_builds import run_models
from orchestration.lib.publishing import publish
from orchestration.lib.score_movements import changes_of_account, movers, recorded_day, state_on
from orchestration.lib.score_records import land_score_records, load_score_records
from orchestration.lib.workspace import Workspace

DAY_0 = date(2026, 3, 1)
CRITERIA = {"employees": "explicit", "industry": "explicit", "visits": "implicit", "mails": "implicit"}
MARTS = ("score_days", "score_history", "score_changes")
PUBLISHED = (*MARTS, "score_contributions", "scored_accounts")
#: account -> state and, where scored, criterion -> (band_no, points).
Scores = dict[str, tuple[str, dict[str, tuple[int, int]]]]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    workspace = Workspace(tmp_path_factory.mktemp("compiled"))
    selected = ("int_score_days", "int_scores__recorded", "score_history", "score_changes", "score_days")
    return read_project(workspace).select(*selected)


@dataclass
class Company:
    """A workspace whose scores are given and not computed; everything after them is real."""

    workspace: Workspace
    models: list[CompiledModel]

    def refresh(self, at: datetime, scores: Scores, version: str = "v1", *, now: date | None = None) -> int:
        """What the refresh does after scoring; returns how many days it landed."""
        with duckdb.connect(str(self.workspace.warehouse)) as con:
            self._write(con, at, scores, version)
            landed = land_score_records(self.workspace, min(at.date(), now or at.date()))
            load_score_records(con, self.workspace)
            run_models(con, self.models)
            publish(con, self.workspace, as_of_at=at, keep=3, tables=PUBLISHED)
        return len(landed)

    def marts(self) -> dict[str, list[dict[str, Any]]]:
        with open_marts(self.workspace) as con:
            return {table: rows(con, f"select * from {table} order by all") for table in MARTS}

    def _write(self, con: duckdb.DuckDBPyConnection, at: datetime, scores: Scores, version: str) -> None:
        for schema in ("settings", "marts", "intermediate"):
            con.execute(f"create schema if not exists {schema}")
        con.execute(
            "create or replace table settings.refresh as select cast(? as timestamp) as as_of_at, cast(? as date) as as_of_date",
            [at, at.date()],
        )
        con.execute(
            "create or replace table settings.matrix_rules as select cast(0 as bigint) as hysteresis_points, "
            "400 as history_days"
        )
        con.execute("create or replace table settings.scorecard as select ? as scorecard_version", [version])
        con.execute(
            "create or replace table settings.scorecard_bands (segment varchar, criterion varchar, band varchar, points bigint)"
        )
        # The card gives what any account has of a band.
        given = {(name, band) for _, bands in scores.values() for name, band in bands.items()}
        con.executemany(
            "insert into settings.scorecard_bands values ('', ?, ?, ?)",
            [[name, f"band {band_no}", points] for name, (band_no, points) in sorted(given)]
            or [[name, "none", 0] for name in CRITERIA],
        )
        con.execute(
            "create or replace table marts.score_contributions (account_id varchar, kind varchar, criterion varchar, "
            "band_no integer, band varchar, points bigint)"
        )
        con.execute(
            "create or replace table marts.scored_accounts (account_id varchar, account_name varchar, state varchar, "
            "owner_id varchar, segment varchar, fit_points bigint, engagement_points bigint, adjustment_points bigint, "
            "total_points bigint, fit_grade varchar, engagement_level varchar, cell varchar, next_action varchar, "
            "win_probability double, scorecard_version varchar)"
        )
        for account, (state, bands) in scores.items():
            fit = sum(points for name, (_, points) in bands.items() if CRITERIA[name] == "explicit")
            engagement = sum(points for name, (_, points) in bands.items() if CRITERIA[name] == "implicit")
            scored: list[Any] = [None] * 8
            if state == "scored":
                grade, level = "A" if fit > 0 else "B", "1" if engagement > 0 else "2"
                action = "sales" if grade + level == "A1" else "nurture"
                scored = [fit, engagement, 0, fit + engagement, grade, level, grade + level, action]
            con.execute(
                f"insert into marts.scored_accounts values (?, ?, ?, 'owner', ?, {', '.join('?' * 8)}, 0.25, ?)",
                [account, account.upper(), state, "" if state == "scored" else None, *scored, version],
            )
            for name, (band_no, points) in bands.items():
                con.execute(
                    "insert into marts.score_contributions values (?, ?, ?, ?, ?, ?)",
                    [account, CRITERIA[name], name, band_no, f"band {band_no}", points],
                )


@pytest.fixture
def company(tmp_path: Path, models: list[CompiledModel]) -> Company:
    return Company(Workspace(tmp_path / "workspace"), models)


@pytest.fixture(autouse=True)
def _home(tmp_path: Path) -> None:
    (tmp_path / "workspace").mkdir()


def scored(**bands: tuple[int, int]) -> tuple[str, dict[str, tuple[int, int]]]:
    return "scored", bands


def at(day: int, hour: int = 12) -> datetime:
    return datetime.combine(DAY_0 + timedelta(days=day), datetime.min.time()) + timedelta(hours=hour)


def moved(rng: random.Random, scores: Scores) -> Scores:
    """The next state: some bands move, some accounts come, go, or stop to be scored."""
    result: Scores = {}
    for account, (state, bands) in scores.items():
        chance = rng.random()
        if chance < 0.04:
            continue
        if chance < 0.1:
            result[account] = ("customer", {}) if state == "scored" else scored(**_bands(rng))
            continue
        kept = {name: (_band(rng) if rng.random() < 0.15 else its) for name, its in bands.items()}
        result[account] = (state, kept)
    for n in range(12):
        if f"a{n}" not in result and rng.random() < 0.2:
            result[f"a{n}"] = scored(**_bands(rng))
    return result


def _band(rng: random.Random) -> tuple[int, int]:
    band_no = rng.randrange(4)
    return band_no, (-5, 0, 5, 5)[band_no]


def _bands(rng: random.Random) -> dict[str, tuple[int, int]]:
    return {name: _band(rng) for name in CRITERIA}


def total(scores: Scores, account: str) -> int | None:
    state, bands = scores.get(account, ("gone", {}))
    return sum(points for _, points in bands.values()) if state == "scored" else None


def test_history__of_any_course_is_what_was_scored_and_its_changes_add_up(
    company: Company, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Days with several refreshes, days without one, whole records between small ones, accounts that come, go and return."""
    monkeypatch.setattr(score_records, "WHOLE_EVERY", 4)
    rng = random.Random(1)
    scores: Scores = moved(rng, {})
    ends: dict[date, Scores] = {}
    for day in range(14):
        if rng.random() < 0.2:
            scores = moved(rng, scores)
            continue
        for hour in sorted(rng.sample(range(24), rng.choice([1, 1, 2]))):
            scores = moved(rng, scores)
            company.refresh(at(day, hour), scores)
        ends[at(day).date()] = scores
    assert sum(record.is_whole for record in score_records.score_records(company.workspace)) >= 2

    accounts = sorted({account for state in ends.values() for account in state})
    *past, today = sorted(ends)
    with open_marts(company.workspace) as con:
        days = rows(con, "select record_date from score_days where is_recorded order by 1")
        assert [row["record_date"] for row in days] == past
        compared = 0
        for day in rng.sample(past, 5):
            for account in accounts:
                then = state_on(con, account, day)
                known = [d for d in ends if d <= day and account in ends[d]]
                if not known:
                    assert then is None
                    continue
                state, bands = ends[day].get(account, ("gone", {}))
                assert then is not None
                assert (then["state"], then["total_points"]) == (state, total(ends[day], account))
                changes = changes_of_account(con, account, day)
                now_total, then_total = total(ends[today], account) or 0, total(ends[day], account) or 0
                assert sum(row["change_points"] for row in changes) == now_total - then_total
                for row in changes:
                    before = bands.get(row["criterion"])
                    assert row["band_then"] == (f"band {before[0]}" if before else None)
                    after = ends[today].get(account, ("gone", {}))[1].get(row["criterion"])
                    assert row["band_now"] == (f"band {after[0]}" if after else None)
                unchanged = set(CRITERIA) - {row["criterion"] for row in changes}
                assert all(bands.get(name) == ends[today].get(account, ("gone", {}))[1].get(name) for name in unchanged)
                compared += len(changes)
        assert compared > 40

    # The warehouse is a cache: without it the same moment gives the same marts.
    before = company.marts()
    company.workspace.warehouse.unlink()
    last_hour = before["score_days"][-1]["as_of_at"]
    assert company.refresh(last_hour, ends[today]) == 0
    assert company.marts() == before


def test_history__seen_as_of_an_earlier_day_ends_there_and_lands_nothing(company: Company) -> None:
    first, second = {"a": scored(visits=(1, 5))}, {"a": scored(visits=(2, 9))}
    company.refresh(at(0), first)
    company.refresh(at(1), second)
    as_it_was = company.marts()
    company.refresh(at(2), first)
    company.refresh(at(3), second)
    files = sorted((company.workspace.landing / score_records.SCORE_RECORDS).iterdir())
    assert company.refresh(at(1), second) == 0
    assert company.marts() == as_it_was
    assert sorted((company.workspace.landing / score_records.SCORE_RECORDS).iterdir()) == files
    # And then on as if nothing had been: the day before is still recorded from its own last snapshot.
    assert company.refresh(at(4), first) == 1
    assert [row["record_date"] for row in company.marts()["score_days"]] == [at(day).date() for day in range(5)]


def test_history__a_refresh_of_a_day_to_come_does_not_end_today(company: Company) -> None:
    company.refresh(at(0), {"a": scored(visits=(1, 5))})
    today = at(0).date()
    assert company.refresh(at(300), {"a": scored(visits=(1, 5))}, now=today) == 0
    company.refresh(at(0, 20), {"a": scored(visits=(2, 9))}, now=today)
    assert company.refresh(at(1), {"a": scored(visits=(2, 9))}) == 1
    assert [(row["from_date"], row["total_points"]) for row in company.marts()["score_history"]] == [(today, 9)]


def test_record__of_a_day_holds_only_what_changed(company: Company) -> None:
    same = scored(employees=(1, 5), visits=(1, 5))
    company.refresh(at(0), {"a": same, "b": same, "c": same})
    company.refresh(at(1), {"a": scored(employees=(1, 5), visits=(2, 9)), "b": same, "c": same})
    company.refresh(at(2), {"a": scored(employees=(1, 5), visits=(2, 9)), "b": same, "c": same})
    company.refresh(at(3), {"a": scored(employees=(1, 5), visits=(2, 9)), "b": same, "c": same})
    whole, changed, nothing = score_records.score_records(company.workspace)
    with duckdb.connect() as con:
        sizes = [
            con.execute("select count(*), coalesce(sum(len(points)), 0) from read_parquet(?)", [str(r.file)]).fetchone()
            for r in (whole, changed, nothing)
        ]
    assert sizes == [(3, 6), (1, 1), (0, 0)]
    runs = [(row["account_id"], row["from_date"]) for row in company.marts()["score_history"]]
    assert runs == [("a", at(0).date()), ("a", at(1).date()), ("b", at(0).date()), ("c", at(0).date())]


def test_changes__say_why(company: Company) -> None:
    e, f = scored(employees=(0, -5)), scored(visits=(1, 5), employees=(1, 0))
    company.refresh(
        at(0), {"a": scored(visits=(1, 5)), "b": scored(visits=(1, 5)), "c": ("no data", {}), "e": e, "f": f}
    )
    company.refresh(
        at(1),
        {
            "a": scored(visits=(2, 9)),
            "b": ("customer", {}),
            "c": scored(visits=(1, 5)),
            "d": scored(visits=(0, 1)),
            "e": e,
            "f": f,
        },
    )
    # For visits v2 gives other points; for employees it gives the same, where e and f have changed places.
    company.refresh(
        at(2),
        {
            "a": scored(visits=(2, 12)),
            "c": scored(visits=(1, 7)),
            "e": scored(employees=(1, 0)),
            "f": scored(visits=(2, 12), employees=(0, -5)),
        },
        "v2",
    )
    found = {
        (r["account_id"], r["change_date"]): (r["reason"], r["change_points"])
        for r in company.marts()["score_changes"]
        if r["account_id"] != "f"
    }
    of_f = {
        r["criterion"]: (r["reason"], r["change_points"])
        for r in company.marts()["score_changes"]
        if r["account_id"] == "f"
    }
    assert of_f == {"visits": ("card", 7), "employees": ("band", -5)}
    one, two = at(1).date(), at(2).date()
    assert found == {
        ("a", one): ("band", 4),
        ("b", one): ("no longer scored", -5),
        ("c", one): ("newly scored", 5),
        ("d", one): ("newly scored", 1),
        ("a", two): ("card", 3),
        ("c", two): ("card", 2),
        ("d", two): ("no longer scored", -1),
        ("e", two): ("band", 5),
    }
    with open_marts(company.workspace) as con:
        most = [(r["account_id"], r["change_points"]) for r in movers(con, DAY_0, 9)]
        assert most == [("a", 7), ("c", 7), ("b", -5), ("e", 5), ("f", 2)]
        assert recorded_day(con, "yesterday") == one
        with pytest.raises(UserError, match="history begins with 2026-03-01"):
            recorded_day(con, "last-week")
        with pytest.raises(UserError, match="'soon'"):
            recorded_day(con, "soon")
