"""Engagement of accounts as of any day against counting by hand, and scores as they were recorded and not as they would be today."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest

from ml.forecast.account_series import TREND_DAYS, AccountSeries
from ml.forecast.history import DealHistory, day
from orchestration.lib.account_series import KnownOfAccounts, read_account_series
from orchestration.lib.contracts import SEARCH_NUMBER
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.model_builds import ID_KEY
from orchestration.lib.score_records import TABLES as RECORDED
from orchestration.lib.workspace import Workspace

NOW = datetime(2026, 6, 30, 12)
TABLES = {
    "settings.refresh": "as_of_at timestamp, as_of_date date",
    "settings.engaging_signals": "signal varchar",
    "intermediate.int_signals": "signal varchar, first_occurred_at timestamp",
    "intermediate.int_deals__history": "account_id varchar",
    "intermediate.int_touchpoints__daily": "account_id varchar, contact_id varchar, signal varchar, event_date date, known_date date, "
    f"touchpoint_count bigint, account_key bigint as ({ID_KEY.format('account_id')}), "
    f"contact_key bigint as ({ID_KEY.format('contact_id')})",
    **{
        f"history.{table}": ", ".join(f"{name} {its_type}" for name, its_type in columns.items())
        for table, columns in RECORDED.items()
    },
}


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("series"))


@pytest.fixture(scope="module")
def engagement_sql(workspace: Workspace) -> str:
    (model,) = read_project(workspace).select("int_accounts__engagement")
    return model.sql


@pytest.fixture
def con(engagement_sql: str) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect(":memory:") as con:
        con.execute("attach ':memory:' as warehouse")
        con.execute("use warehouse")
        for schema in ("settings", "intermediate", "history"):
            con.execute(f"create schema {schema}")
        for name, columns in TABLES.items():
            con.execute(f"create table {name} ({columns})")
        con.execute("insert into settings.refresh values (?, ?)", [NOW, NOW.date()])
        con.execute("insert into settings.engaging_signals values ('meeting'), ('call')")
        con.execute(
            "insert into intermediate.int_signals values ('meeting', '2026-01-10 09:00'), ('email_sent', '2020-01-01')"
        )
        con.execute("insert into intermediate.int_deals__history values ('a'), ('a'), ('b')")
        con.execute(f"create view intermediate.int_accounts__engagement as {engagement_sql}")
        yield con


def touch(
    con: duckdb.DuckDBPyConnection, account: str, contact: str | None, event: date, known: date, **other: Any
) -> None:
    con.execute(
        "insert into intermediate.int_touchpoints__daily values (?, ?, ?, ?, ?, ?)",
        [account, contact, other.get("signal", "meeting"), event, known, other.get("count", 1)],
    )


def test_id_key__in_python_is_the_macro(engagement_sql: str) -> None:
    assert f"{ID_KEY.format('account_id')} as account_key" in engagement_sql


def test_search_number__in_python_is_the_macro(workspace: Workspace) -> None:
    (model,) = read_project(workspace).select("int_bots")
    assert f"_message_id_key in (select {SEARCH_NUMBER.format('message_id')} from" in model.increment_sql


def series(found: KnownOfAccounts) -> AccountSeries:
    return AccountSeries.of(
        found.engagement, np.array(["a", "b"], dtype=object), begins=found.engagement_begins, before=0.0
    )


def test_engagement__of_any_day_is_what_counting_by_hand_says(
    con: duckdb.DuckDBPyConnection, workspace: Workspace
) -> None:
    generator = np.random.default_rng(4)
    first = date(2026, 1, 10)
    touches = []
    for _ in range(400):
        event = first + timedelta(days=int(generator.integers(0, 160)))
        known = event + timedelta(days=int(generator.choice([0, 0, 0, 1, 10, 27, 28, 90])))
        touches.append(
            ("ab"[generator.integers(0, 2)], [None, "x", "y"][generator.integers(0, 3)], event, known, int(generator.integers(1, 5)))
        )  # fmt: skip
    for account, contact, event, known, count in touches:
        touch(con, account, contact, event, known, count=count, signal=["meeting", "call"][count % 2])
        touch(con, account, "z", event, known, signal="email_sent")
    touch(con, "without a deal", "x", first, first)
    found = read_account_series(con, workspace)
    assert found.engagement_begins == day("2026-01-11") + TREND_DAYS
    steps = series(found)
    assert set(found.engagement["account"]) == {"a", "b"}
    moments = [datetime(2026, 2, 8) + timedelta(hours=7 * k) for k in range(480)]
    for code, account in enumerate("ab"):
        by_hand = [
            len(
                {
                    (contact, event)
                    for a, contact, event, known, _ in touches
                    if a == account and known < moment.date() and 1 <= (moment.date() - event).days <= TREND_DAYS
                }
            )
            for moment in moments
            if moment <= NOW
        ]
        at = np.array([day(moment) for moment in moments if moment <= NOW])
        np.testing.assert_array_equal(steps.at(np.full(len(at), code), at), by_hand)
        assert len(set(by_hand)) > 10
    assert np.isnan(steps.at(np.array([0]), np.array([day("2026-02-07")]))[0])


def test_engagement__that_nobody_recorded_is_unknown(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    con.execute("delete from intermediate.int_signals where signal = 'meeting'")
    found = read_account_series(con, workspace)
    assert found.engagement.empty
    assert found.engagement_begins == np.inf
    versions = pd.DataFrame(
        {
            "deal_id": ["d"],
            "known_from": [NOW],
            "status": ["open"],
            "opened_at": [NOW],
            "closed_at": [None],
            "account": ["a"],
        }
    )
    history = found.given_to(DealHistory.from_versions(versions))
    assert not history.account_series
    assert {"no account scores as they stood then", "no engagement of accounts and no trend of it"} <= set(
        history.lacking()
    )


def test_scores__count_from_the_moment_they_were_recorded(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Two days that were lived, one that was filled in later, one of a refresh still to come, and a day without a change."""

    def record(scored: date, recorded_at: datetime, **chances: float | None) -> None:
        con.execute(
            "insert into history.score_days values (?, ?, ?, false, ?)",
            [scored, datetime.combine(scored, datetime.min.time()) + timedelta(hours=23), recorded_at, str(scored)],
        )
        for account, chance in chances.items():
            con.execute(
                "insert into history.score_accounts (record_date, account_id, win_probability) values (?, ?, ?)",
                [scored, account, chance],
            )

    record(date(2026, 3, 1), datetime(2026, 6, 1, 8), a=0.9)
    record(date(2026, 6, 1), datetime(2026, 6, 2, 8), a=0.2, b=0.3, stranger=0.5)
    record(date(2026, 6, 2), datetime(2026, 6, 3, 8), a=0.2, b=None)
    record(date(2026, 6, 30), datetime(2026, 6, 30, 11), a=0.7)
    record(date(2026, 6, 29), datetime(2026, 7, 1, 8), b=0.8)
    found = read_account_series(con, workspace).scores
    rows = [(row.account, str(row.known_from), row.value) for row in found.itertuples()]
    assert rows[:2] == [("a", "2026-06-01 08:00:00", 0.9), ("a", "2026-06-02 08:00:00", 0.2)]
    assert rows[2] == ("b", "2026-06-02 08:00:00", 0.3)
    assert rows[3][:2] == ("b", "2026-06-03 08:00:00")
    assert np.isnan(rows[3][2])
    assert len(rows) == 4
