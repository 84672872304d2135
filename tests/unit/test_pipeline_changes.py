"""The waterfall of the open pipeline in SQL, against the one in Python and against what it is for: start + changes = end."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import duckdb
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.forecast.history import DealHistory
from ml.forecast.waterfall import pipeline_changes
from ml.forecast.waterfall import waterfall as waterfall_in_python
from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.pipeline_changes import (
    STEPS,
    Chosen,
    check_sum,
    deals_of,
    parse_period,
    period_label,
    since,
    waterfall,
)
from orchestration.lib.settings_tables import comparison_starts
from orchestration.lib.workspace import Workspace

MODELS = ("int_deals__stages", "pipeline_changes")
STAGES = ["first", "middle", "last"]
START = datetime(2026, 1, 1)
BEGINNING = datetime(1900, 1, 1)
#: Account -> its regions and from which day on.
REGIONS: dict[str, list[tuple[int | None, str]]] = {
    "acme": [(None, "north"), (20, "south"), (40, "north")],
    "bolt": [(None, "south")],
}
END_OF_TIME = datetime(9999, 12, 31)
HISTORY = (
    "opportunity_id varchar, valid_from timestamp, valid_to timestamp, account_id varchar, owner_id varchar, product varchar, "
    "stage varchar, status varchar, amount decimal(18, 2), opened_at timestamp, expected_close_date date, closed_at timestamp, "
    "forecast_category varchar, currency varchar, deal_amount decimal(18, 2), exchange_rate decimal(18, 12)"
)
Row = dict[str, Any]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return read_project(Workspace(tmp_path_factory.mktemp("pipeline"))).select(*MODELS)


class World:
    """A history of deals, and the mart over it."""

    def __init__(self, models: list[CompiledModel], stages: list[str] = STAGES):
        self.con = duckdb.connect(":memory:")
        self.con.execute("attach ':memory:' as warehouse")
        self.con.execute("use warehouse")
        for schema in ("settings", "staging", "intermediate", "marts"):
            self.con.execute(f"create schema {schema}")
        self.con.execute(
            f"""
            create table intermediate.int_deals__history ({HISTORY});
            create table intermediate.int_deals (opportunity_id varchar, status varchar);
            create table intermediate.int_deals__merges
                (opportunity_id varchar, merged_into_opportunity_id varchar, valid_from timestamp, valid_to timestamp);
            create table staging.stg_crm__users (user_id varchar, user_name varchar, team varchar, region varchar);
            insert into staging.stg_crm__users values ('ada', 'Ada', 'north', 'DE'), ('bo', 'Bo', 'north', 'DE'), ('cy', 'Cy', 'south', 'IT');
            create table intermediate.int_accounts__groups
                (account_id varchar, region varchar, segment varchar, valid_from timestamp, valid_to timestamp);
            create table settings.pipeline_comparisons (comparison varchar, start_at timestamp, end_at timestamp);
            create table settings.pipeline_stages (stage varchar, stage_no integer);
            """
        )
        for number, stage in enumerate(stages, start=1):
            self.con.execute("insert into settings.pipeline_stages values (?, ?)", [stage, number])
        spans = [("(none)", "(none)", "(none)", BEGINNING, END_OF_TIME)]
        for account, regions in REGIONS.items():
            for (day, region), (until, _) in pairwise([*regions, (None, "")]):
                span = (BEGINNING if day is None else at(day), END_OF_TIME if until is None else at(until))
                spans.append((account, region, f"segment of {account}", *span))
        self.con.executemany("insert into intermediate.int_accounts__groups values (?, ?, ?, ?, ?)", spans)
        self.models = models

    def of(
        self, history: list[Row], moments: list[tuple[datetime, datetime]], merges: Iterable[tuple[Any, ...]] = ()
    ) -> None:
        """Build the mart for pairs of moments, called 0, 1, ...; merges: deal, into which, from when and until when."""
        columns = [column.split()[0] for column in re.sub(r"\(.*?\)", "", HISTORY).split(", ")]
        self.con.execute("delete from intermediate.int_deals__history; delete from intermediate.int_deals")
        self.con.execute("delete from settings.pipeline_comparisons; delete from intermediate.int_deals__merges")
        for merge in merges:
            self.con.execute("insert into intermediate.int_deals__merges values (?, ?, ?, ?)", merge)
        # Deals of other currencies are in test_currencies.
        values = [
            [
                ({"currency": "EUR", "deal_amount": row.get("amount"), "exchange_rate": 1} | row).get(column)
                for column in columns
            ]
            for row in history
        ]
        if values:
            self.con.executemany(
                f"insert into intermediate.int_deals__history values ({', '.join('?' * len(columns))})", values
            )
        self.con.execute(
            "insert into intermediate.int_deals select opportunity_id, status from intermediate.int_deals__history "
            "where valid_to = ?",
            [END_OF_TIME],
        )
        for number, (start, end) in enumerate(moments):
            self.con.execute("insert into settings.pipeline_comparisons values (?, ?, ?)", [str(number), start, end])
        for model in self.models:
            self.con.execute(f"create or replace table {model.relation} as {model.sql}")

    def changes(self, comparison: str = "0") -> pd.DataFrame:
        return self.con.execute("from marts.pipeline_changes where comparison = ?", [comparison]).df()


@pytest.fixture
def world(models: list[CompiledModel]) -> Iterator[World]:
    result = World(models)
    yield result
    result.con.close()


def at(day: float) -> datetime:
    return START + timedelta(days=day)


state = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["open", "open", "open", "won", "lost", "deleted", "merged"]),
        "owner_id": st.sampled_from(["ada", "bo", "cy", None]),
        "product": st.sampled_from(["p", "q"]),
        "stage": st.sampled_from([*STAGES, "unlisted", None]),
        "amount": st.one_of(st.none(), st.integers(0, 10_000_00).map(lambda cents: Decimal(cents) / 100)),
        "expected_close_date": st.one_of(st.none(), st.integers(0, 150).map(lambda day: at(day).date())),
    }
)
deal = st.lists(st.tuples(st.integers(0, 60), state), min_size=1, max_size=5, unique_by=lambda version: version[0])
#: The same with an account, which may have moved to another region meanwhile.
deal_of_account = st.builds(
    lambda versions, account: [(day, {**values, "account_id": account}) for day, values in versions],
    deal,
    st.sampled_from(["acme", "bolt", None]),
)


def history_of(deals: list[list[tuple[int, Row]]]) -> list[Row]:
    """Rows of the model: what each deal was from a day until the next; nothing while it was deleted or counted in another one."""
    found = []
    for number, versions in enumerate(deals):
        ordered = sorted(versions, key=lambda version: version[0])
        ends = [at(day) for day, _ in ordered[1:]] + [END_OF_TIME]
        for (day, values), until in zip(ordered, ends, strict=True):
            closed = at(day) if values["status"] in ("won", "lost") else None
            found.append(
                {
                    "opportunity_id": f"d{number}", "valid_from": at(day), "valid_to": until, "opened_at": at(ordered[0][0]),
                    "closed_at": closed, **values,
                }
            )  # fmt: skip
    return [row for row in found if row["status"] not in ("deleted", "merged")]


def merges_of(deals: list[list[tuple[int, Row]]]) -> list[tuple[str, str, datetime, datetime]]:
    """When each deal counted in another one, which was in no forecast itself."""
    found = []
    for number, versions in enumerate(deals):
        for (day, values), (until, _) in pairwise([*sorted(versions, key=lambda version: version[0]), (None, {})]):
            if values["status"] == "merged":
                found.append((f"d{number}", "survivor", at(day), END_OF_TIME if until is None else at(until)))
    return found


def in_python(
    history: list[Row], start: datetime, end: datetime, merges: Iterable[tuple[str, str, datetime, datetime]] = ()
) -> pd.DataFrame:
    """The mart's rows as `ml.forecast.waterfall` makes them, from the same history; a gap or an end in it is a deletion."""
    rows = []
    for row, after in zip(history, [*history[1:], None], strict=True):
        rows.append(row | {"is_deleted": False})
        is_last = after is None or after["opportunity_id"] != row["opportunity_id"]
        if (is_last and row["valid_to"] < END_OF_TIME) or (
            not is_last and after and after["valid_from"] > row["valid_to"]
        ):
            rows.append(row | {"is_deleted": True, "valid_from": row["valid_to"]})
    for name, into, begun, _ in merges:
        # What held before it holds in it too; a deal that began as a merged one was never there.
        before = [row for row in rows if row["opportunity_id"] == name and row["valid_from"] <= begun]
        if before:
            rows.append(max(before, key=lambda row: row["valid_from"]) | {"valid_from": begun, "merged_into": into})
    versions = pd.DataFrame(
        {
            "deal_id": [row["opportunity_id"] for row in rows],
            "known_from": [row["valid_from"] for row in rows],
            "status": [row["status"] for row in rows],
            "opened_at": [row["opened_at"] for row in rows],
            "closed_at": pd.to_datetime([row["closed_at"] for row in rows]),
            "owner": [row["owner_id"] or "(none)" for row in rows],
            "product": [row["product"] for row in rows],
            "stage": pd.array([row["stage"] for row in rows], dtype=object),
            "amount_cents": pd.array(
                [None if row["amount"] is None else int(row["amount"] * 100) for row in rows], dtype="Float64"
            ),
            "expected_close_date": pd.to_datetime([row["expected_close_date"] for row in rows]),
            "is_deleted": [row["is_deleted"] for row in rows],
            "merged_into": [row.get("merged_into") for row in rows],
        }
    )
    made = DealHistory.from_versions(versions, stages=STAGES, groups=("product",), observed_from=START)
    return pipeline_changes(made, start, end, dimensions=("owner", "product"))


@settings(max_examples=60, deadline=None)
@given(deals=st.lists(deal, min_size=1, max_size=6), days=st.tuples(st.integers(-1, 62), st.integers(-1, 62)))
def test_pipeline_changes__in_sql_are_those_in_python(
    models: list[CompiledModel], deals: list[list[tuple[int, Row]]], days: tuple[int, int]
) -> None:
    history = history_of(deals)
    if not history:
        return
    start, end = at(min(days) + 0.5), at(max(days) + 0.5)
    world = World(models)
    try:
        world.of(history, [(start, end)], merges_of(deals))
        found = world.con.execute(
            """
            select opportunity_id, bucket, side, owner_id, product, coalesce(strftime(close_month, '%Y-%m'), '(none)'),
                cast(100 * start_amount as bigint), cast(100 * change_amount as bigint), cast(100 * end_amount as bigint),
                cast(100 * won_amount as bigint)
            from marts.pipeline_changes order by all
            """
        ).fetchall()
        expected = in_python(history, start, end, merges_of(deals))
        assert found == sorted(tuple(row) for row in expected.itertuples(index=False))
        steps = {row["step"]: row["amount"] for row in waterfall(world.con, Chosen("0"))}
        same = waterfall_in_python(expected)
        assert {step: cents for step, cents in zip(same["step"], same["cents"], strict=True) if cents} == {
            step: int(100 * amount) for step, amount in steps.items() if amount
        }
    finally:
        world.con.close()


@settings(max_examples=40, deadline=None)
@given(
    deals=st.lists(deal_of_account, min_size=1, max_size=6), days=st.tuples(st.integers(-1, 62), st.integers(-1, 62))
)
def test_pipeline_changes__lead_from_the_pipeline_then_to_the_pipeline_now_by_any_group(
    models: list[CompiledModel], deals: list[list[tuple[int, Row]]], days: tuple[int, int]
) -> None:
    """Both ends are counted in the history itself, so that the identity is not one by construction."""
    history = history_of(deals)
    start, end = at(min(days) + 0.5), at(max(days) + 0.5)
    world = World(models)
    try:
        world.of(history, [(start, end)], merges_of(deals))
        names = {"owner": "owner_id", "product": "product", "region": "region", "month": "close_month"}
        for by in (None, "owner", "team", "product", "region", "segment", "month"):
            steps = waterfall(world.con, Chosen("0"), by=by)
            assert check_sum(steps)
            if by in names:
                for step, moment in (("start", start), ("end", end)):
                    there = [
                        row
                        for row in history
                        if row["status"] == "open" and row["valid_from"] <= moment < row["valid_to"]
                    ]
                    wanted: dict[str, tuple[int, Decimal]] = {}
                    for row in there:
                        value = {**row, "close_month": row["expected_close_date"], "region": region_of(row, moment)}[
                            names[by]
                        ]
                        name = "(none)" if value is None else f"{value:%Y-%m}" if by == "month" else str(value)
                        count, amount = wanted.get(name, (0, Decimal(0)))
                        wanted[name] = (count + 1, amount + (row["amount"] or 0))
                    found = {
                        row["group"].lower(): (row["deals"], row["amount"])
                        for row in steps
                        if row["step"] == step and (row["deals"] or row["amount"])
                    }
                    assert found == wanted
        buckets = world.con.execute(
            "select max(n) from (select count(distinct bucket) as n from marts.pipeline_changes group by opportunity_id)"
        ).fetchall()[0][0]
        assert buckets in (None, 1)
    finally:
        world.con.close()


def region_of(row: Row, moment: datetime) -> str | None:
    held = [region for day, region in REGIONS.get(row["account_id"], []) if day is None or at(day) <= moment]
    return held[-1] if held else None


def open_deal(name: str, first: float, last: float | None = None, **values: Any) -> Row:
    return {
        "opportunity_id": name, "valid_from": at(first), "valid_to": END_OF_TIME if last is None else at(last), "opened_at": at(first),
        "owner_id": "ada", "product": "p", "stage": "first", "status": "open", "amount": Decimal(100),
        "expected_close_date": date(2026, 3, 31), **values,
    }  # fmt: skip


def test_pipeline_changes__a_deal_that_moved_and_grew_leaves_the_old_owner_and_arrives_at_the_new_one(
    world: World,
) -> None:
    world.of(
        [open_deal("a", 0, 10), open_deal("a", 10, owner_id="cy", amount=Decimal(130)), open_deal("b", 0)],
        [(at(5), at(15))],
    )
    by_owner = [
        (row["group"], row["step"], row["deals"], row["amount"])
        for row in waterfall(world.con, Chosen("0"), by="owner")
    ]
    assert by_owner == [
        ("Ada", "start", 2, 200), ("Ada", "owner_moved", 1, -100), ("Ada", "end", 1, 100),
        ("Cy", "start", 0, 0), ("Cy", "owner_moved", 1, 130), ("Cy", "end", 1, 130),
    ]  # fmt: skip
    whole = [(row["step"], row["deals"], row["amount"]) for row in waterfall(world.con, Chosen("0"))]
    assert whole == [("start", 2, 200), ("owner_moved", 1, 30), ("end", 2, 230)]
    assert [(row["side"], row["change_amount"]) for row in deals_of(world.con, Chosen("0"))] == [
        ("arrived", 130),
        ("left", -100),
    ]


def test_pipeline_changes__a_deal_whose_account_came_into_another_region_leaves_one_and_arrives_in_the_other(
    world: World,
) -> None:
    world.of(
        [open_deal("a", 0, account_id="acme"), open_deal("b", 0, account_id="bolt")], [(at(5), at(25)), (at(5), at(45))]
    )
    by_region = [(row["group"], row["step"], row["amount"]) for row in waterfall(world.con, Chosen("0"), by="region")]
    assert by_region == [
        ("north", "start", 100), ("north", "owner_moved", -100), ("north", "end", 0),
        ("south", "start", 100), ("south", "owner_moved", 100), ("south", "end", 200),
    ]  # fmt: skip
    # There and back again is no change.
    assert [(row["group"], row["step"], row["amount"]) for row in waterfall(world.con, Chosen("1"), by="region")] == [
        ("north", "start", 100), ("north", "end", 100), ("south", "start", 100), ("south", "end", 100),
    ]  # fmt: skip


def test_waterfall__of_two_people_with_one_name_has_a_group_for_each(world: World) -> None:
    world.con.execute("update staging.stg_crm__users set user_name = 'Ada' where user_id = 'bo'")
    history = [open_deal("a", 0, owner_id="ada"), open_deal("b", 0, owner_id="bo"), open_deal("c", 0, owner_id="cy")]
    world.of(history, [(at(5), at(15))])
    found = waterfall(world.con, Chosen("0"), by="owner")
    world.con.execute("update staging.stg_crm__users set user_name = 'Bo' where user_id = 'bo'")
    assert [(row["group"], row["step"], row["amount"]) for row in found] == [
        ("Ada (ada)", "start", 100), ("Ada (ada)", "end", 100), ("Ada (bo)", "start", 100), ("Ada (bo)", "end", 100),
        ("Cy", "start", 100), ("Cy", "end", 100),
    ]  # fmt: skip


def test_pipeline_changes__a_deal_pushed_out_of_a_quarter_leaves_it(world: World) -> None:
    history = [open_deal("a", 0, 10), open_deal("a", 10, expected_close_date=date(2026, 4, 1), amount=Decimal("90.05"))]
    world.of(history, [(at(5), at(15))])
    first, second = (Chosen("0", parse_period(text, 1)) for text in ("2026-Q1", "2026-q2"))
    assert [(row["step"], row["amount"]) for row in waterfall(world.con, first)] == [
        ("start", 100), ("pushed_out", -100), ("end", 0),
    ]  # fmt: skip
    assert [(row["step"], row["amount"]) for row in waterfall(world.con, second)] == [
        ("start", 0), ("pushed_out", Decimal("90.05")), ("end", Decimal("90.05")),
    ]  # fmt: skip


def test_pipeline_changes__a_merged_deal_leaves_with_its_amount_and_the_other_one_grows_by_its_own(
    world: World,
) -> None:
    history = [
        open_deal("a", 0, 10), open_deal("gone", 0, 10),
        open_deal("b", 0, 10, owner_id="cy"), open_deal("b", 10, owner_id="cy", amount=Decimal(190)),
    ]  # fmt: skip
    world.of(history, [(at(5), at(15))], [("a", "b", at(10), END_OF_TIME)])
    assert [
        (row["bucket"], row["opportunity_id"], row["change_amount"], row["merged_into_opportunity_id"])
        for row in deals_of(world.con, Chosen("0"))
    ] == [("up", "b", 90, None), ("merged", "a", -100, "b"), ("deleted", "gone", -100, None)]
    by_owner = [(row["group"], row["step"], row["amount"]) for row in waterfall(world.con, Chosen("0"), by="owner")]
    assert by_owner == [
        ("Ada", "start", 200), ("Ada", "merged", -100), ("Ada", "deleted", -100), ("Ada", "end", 0),
        ("Cy", "start", 100), ("Cy", "up", 90), ("Cy", "end", 190),
    ]  # fmt: skip


def test_stages__that_nobody_listed_are_in_the_order_in_which_won_deals_came_into_them(
    models: list[CompiledModel],
) -> None:
    world = World(models, stages=[])
    path = ["Qualification", "Proposal", "Agreement"]
    history = [open_deal("w", day, day + 1, stage=stage) for day, stage in enumerate(path)]
    history += [open_deal("w", 3, status="won", closed_at=at(3), stage="Won")]
    history += [open_deal("moving", 0, 5, stage="Agreement"), open_deal("moving", 5, stage="Proposal")]
    world.of(history, [(at(4), at(6))])
    stages = world.con.execute("select stage, stage_no from intermediate.int_deals__stages order by 2").fetchall()
    bucket = world.con.execute("select bucket from marts.pipeline_changes").fetchall()
    world.con.close()
    assert stages == [("Qualification", 1), ("Proposal", 2), ("Agreement", 3)]
    assert bucket == [("stage_back",)]


def test_comparisons__begin_with_a_day_the_month_the_fiscal_quarter_and_the_fiscal_year() -> None:
    starts = comparison_starts(datetime(2026, 2, 28, 18, 30), 4)
    assert starts == {
        "1_day": datetime(2026, 2, 27),
        "7_days": datetime(2026, 2, 21),
        "30_days": datetime(2026, 1, 29),
        "month_start": datetime(2026, 2, 1),
        "quarter_start": datetime(2026, 1, 1),
        "year_start": datetime(2025, 4, 1),
    }


@pytest.mark.parametrize(
    ("text", "first_month", "period"),
    [
        ("2026-07", 4, (date(2026, 7, 1), date(2026, 8, 1))),
        ("2026-Q3", 1, (date(2026, 7, 1), date(2026, 10, 1))),
        ("2026-q4", 4, (date(2026, 1, 1), date(2026, 4, 1))),
        ("2026-Q1", 4, (date(2025, 4, 1), date(2025, 7, 1))),
        ("2026", 1, (date(2026, 1, 1), date(2027, 1, 1))),
        ("2026", 10, (date(2025, 10, 1), date(2026, 10, 1))),
    ],
)
def test_period__is_a_month_a_fiscal_quarter_or_a_fiscal_year(
    text: str, first_month: int, period: tuple[date, date]
) -> None:
    assert parse_period(text, first_month) == period


def test_period_label__is_how_the_marts_call_it() -> None:
    assert [period_label(text) for text in ("2026-7", "2026-12", " 2026-q3", "2026-Q03", "2026")] == [
        "2026-07", "2026-12", "2026-Q3", "2026-Q3", "2026",
    ]  # fmt: skip
    with pytest.raises(UserError, match="a period is"):
        period_label("soon")


@pytest.mark.parametrize("text", ["2026-Q5", "2026-13", "Q3", "", "2026-Q", "0-Q1"])
def test_period__that_is_none_is_refused(text: str) -> None:
    with pytest.raises(UserError, match="a period is"):
        parse_period(text, 1)


def test_since__monday_is_the_one_of_the_week() -> None:
    assert since("Monday", datetime(2026, 6, 3, 9)) == datetime(2026, 6, 1)
    assert since("monday", datetime(2026, 6, 1)) == datetime(2026, 6, 1)
    assert since("yesterday", datetime(2026, 6, 3, 9)) == datetime(2026, 6, 2)
    assert since("2026-06-01", datetime(2026, 6, 3)) is None


def test_steps__are_all_buckets_that_change_something(world: World) -> None:
    from ml.forecast.waterfall import BUCKETS

    # The method in Python knows one currency.
    assert {*STEPS, "unchanged"} == {*BUCKETS, "currency"}


def test_pipeline_changes__a_deal_that_was_closed_before_and_edited_since_is_in_none(world: World) -> None:
    closed = {"status": "won", "closed_at": at(3)}
    history = [open_deal("a", 0, 3), open_deal("a", 3, 10, **closed), open_deal("a", 10, **closed, amount=Decimal(7))]
    world.of(history, [(at(5), at(15)), (at(1), at(15))])
    assert world.changes("0").empty
    assert world.changes("1")[["bucket", "change_amount", "won_amount"]].values.tolist() == [["won", -100, 7]]
