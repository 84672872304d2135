"""Deals in other currencies: one conversion for what they are now, what they were, and what changed between two moments."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.workspace import Workspace

MODELS = (
    "int_exchange_rates", "int_deals__merges", "int_deals", "int_deals__history", "int_deals__stages", "pipeline_changes", "deal_currencies",
)  # fmt: skip
START = datetime(2026, 1, 1)
NOW = datetime(2026, 3, 2, 12)
END_OF_TIME = datetime(9999, 12, 31)
TABLES = {
    "settings.refresh": "as_of_at timestamp, as_of_date date, currency varchar",
    "settings.pipeline_comparisons": "comparison varchar, start_at timestamp, end_at timestamp",
    "settings.pipeline_stages": "stage varchar, stage_no integer",
    "intermediate.int_accounts__groups": "account_id varchar, region varchar, segment varchar, valid_from timestamp, valid_to timestamp",
    "staging.stg_crm__users": "user_id varchar, user_name varchar, team varchar, region varchar",
    "staging.stg_crm__account_survivors": "account_id varchar, surviving_account_id varchar",
    "staging.stg_market__exchange_rates": "currency varchar, to_currency varchar, rate_date date, rate decimal(18,12)",
    "staging.stg_crm__opportunity_stage_changes": "opportunity_id varchar, stage varchar, changed_at timestamp, amount decimal(18,2), "
    "expected_close_date date, owner_id varchar, forecast_category varchar",
    "staging.stg_crm__opportunity_versions": "opportunity_id varchar, opportunity_name varchar, account_id varchar, contact_id varchar, "
    "owner_id varchar, product varchar, stage varchar, status varchar, amount decimal(18,2), currency varchar, opened_at timestamp, "
    "expected_close_date date, closed_at timestamp, lead_source varchar, campaign_id varchar, loss_reason varchar, deal_type varchar, "
    "forecast_category varchar, merged_into_opportunity_id varchar, is_deleted boolean, version_at timestamp, valid_from timestamp, valid_to timestamp",
}
STATE = "opportunity_id, status, amount, currency, deal_amount, exchange_rate, owner_id, closed_at"


class World:
    """Deals and rates of a company that reports in euros."""

    def __init__(self, models: list[CompiledModel]):
        self.models = {model.name: model for model in models}
        self.con = duckdb.connect(":memory:")
        self.con.execute("attach ':memory:' as warehouse")
        self.con.execute("use warehouse")
        for schema in ("settings", "staging", "intermediate", "marts"):
            self.con.execute(f"create schema {schema}")
        for name, columns in TABLES.items():
            self.con.execute(f"create table {name} ({columns})")
        self.add("settings.refresh", currency="EUR")
        self.add("settings.pipeline_stages", stage="Offer", stage_no=1)
        self.add("settings.pipeline_stages", stage="Contract", stage_no=2)
        self.add(
            "intermediate.int_accounts__groups",
            account_id="(none)", region="(none)", segment="(none)", valid_from=datetime(1900, 1, 1), valid_to=END_OF_TIME,
        )  # fmt: skip

    def add(self, table: str, **values: Any) -> None:
        self.con.execute(
            f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", [*values.values()]
        )

    def rate(self, day: float, rate: Decimal | str, currency: str = "USD", to: str = "EUR") -> None:
        self.add(
            "staging.stg_market__exchange_rates",
            currency=currency, to_currency=to, rate_date=at(day).date(), rate=Decimal(str(rate)),
        )  # fmt: skip

    def deal(self, name: str, *versions: tuple[float, dict[str, Any]]) -> None:
        """A deal that each version changes, from its day on; the first one opens it."""
        state = {
            "opened_at": at(versions[0][0]), "status": "open", "stage": "Offer", "owner_id": "ada", "currency": "USD", "amount": 100,
            "expected_close_date": date(2026, 6, 1), "closed_at": None, "is_deleted": False,
        }  # fmt: skip
        for place, (day, changed) in enumerate(versions):
            state |= changed
            if state["status"] != "open":
                state["closed_at"] = state["closed_at"] or at(day)
            else:
                state["closed_at"] = None
            self.add(
                "staging.stg_crm__opportunity_versions",
                **state, opportunity_id=name, version_at=at(day), valid_from=datetime(1900, 1, 1) if place == 0 else at(day),
                valid_to=at(versions[place + 1][0]) if place + 1 < len(versions) else END_OF_TIME,
            )  # fmt: skip

    def build(self, *names: str, as_of_at: datetime = NOW) -> None:
        self.con.execute("update settings.refresh set as_of_at = ?, as_of_date = ?", [as_of_at, as_of_at.date()])
        for name in names or MODELS:
            model = self.models[name]
            self.con.execute(f"create or replace table {model.relation} as {model.sql}")

    def compare(self, first: float, last: float) -> None:
        self.add("settings.pipeline_comparisons", comparison="c", start_at=at(first), end_at=at(last))

    def changes(self) -> list[tuple[Any, ...]]:
        return self.con.execute(
            "select opportunity_id, side, bucket, owner_id, start_amount, change_amount, end_amount from marts.pipeline_changes "
            "order by all"
        ).fetchall()


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return read_project(Workspace(tmp_path_factory.mktemp("currencies"))).select(*MODELS)


@pytest.fixture
def world(models: list[CompiledModel]) -> Iterator[World]:
    result = World(models)
    yield result
    result.con.close()


def at(day: float) -> datetime:
    return START + timedelta(days=day)


def test_rates__hold_until_another_one_does_and_are_of_the_workspace_currency(world: World) -> None:
    world.rate(0, "0.9")
    world.rate(1, "0.9")
    world.rate(2, "0.8")
    world.rate(2, "1.3", to="GBP")
    world.rate(500, "0.1")
    world.build("int_exchange_rates")
    assert world.con.execute("from intermediate.int_exchange_rates order by all").fetchall() == [
        ("USD", date(2026, 1, 1), date(2026, 1, 3), Decimal("0.9")),
        ("USD", date(2026, 1, 3), date(9999, 12, 31), Decimal("0.8")),
    ]


def test_waterfall__tells_what_a_deal_did_from_what_its_currency_did(world: World) -> None:
    world.rate(0, "0.90")
    world.rate(10, "0.80")
    world.deal("grown", (1, {}), (12, {"amount": 150}))
    world.deal("moved", (1, {}), (12, {"owner_id": "bo"}))
    world.deal("same", (1, {}))
    world.deal("euro", (1, {"currency": None}))
    world.deal("won", (1, {}), (12, {"status": "won"}))
    world.deal("new", (12, {}))
    world.deal("switched", (1, {}), (12, {"currency": "EUR", "amount": 95}))
    world.compare(5, 20)
    world.build()
    assert world.changes() == [
        ("euro", "stayed", "unchanged", "ada", 100, 0, 100),
        ("grown", "revalued", "currency", "ada", 0, -15, -15),
        ("grown", "stayed", "up", "ada", 90, 45, 135),
        ("moved", "arrived", "owner_moved", "bo", 0, 90, 90),
        ("moved", "left", "owner_moved", "ada", 90, -90, 0),
        ("moved", "revalued", "currency", "bo", 0, -10, -10),
        ("new", "stayed", "new", "ada", 0, 80, 80),
        ("same", "revalued", "currency", "ada", 0, -10, -10),
        ("same", "stayed", "unchanged", "ada", 90, 0, 90),
        ("switched", "stayed", "up", "ada", 90, 5, 95),
        ("won", "stayed", "won", "ada", 90, -90, 0),
    ]
    assert world.con.execute("select sum(won_amount) from marts.pipeline_changes").fetchall() == [(80,)]


def test_waterfall__of_a_currency_that_gets_its_first_rate_is_the_currencys_doing(world: World) -> None:
    world.rate(10, "0.80")
    world.deal("a", (1, {}))
    world.compare(5, 20)
    world.build()
    assert world.changes() == [
        ("a", "revalued", "currency", "ada", 0, 80, 80),
        ("a", "stayed", "unchanged", "ada", 0, 0, 0),
    ]


def test_currencies__without_a_rate_are_named(world: World) -> None:
    world.rate(10, "0.8")
    world.rate(12, "0.8")
    world.rate(10, "1.2", currency="CHF")
    world.deal("early", (1, {}), (9, {"status": "won"}))
    world.deal("late", (1, {}))
    world.deal("pound", (1, {"currency": "GBP", "amount": 70}))
    world.deal("unvalued", (1, {"currency": "GBP", "amount": None}))
    world.deal("euro", (1, {"currency": "eur "}))
    world.build()
    query = (
        "select currency, is_workspace_currency, deal_count, open_deal_count, without_rate_count, without_rate_amount, last_rate_date, "
        "status from marts.deal_currencies order by currency"
    )
    assert world.con.execute(query).fetchall() == [
        ("CHF", False, 0, 0, 0, 0, date(2026, 1, 11), "complete"),
        ("EUR", True, 1, 1, 0, 0, None, "complete"),
        ("GBP", False, 2, 2, 1, 70, None, "no rates"),
        ("USD", False, 2, 1, 1, 100, date(2026, 1, 13), "rates begin too late"),
    ]


state = st.fixed_dictionaries(
    {
        "status": st.sampled_from(["open", "open", "open", "won", "lost"]),
        "amount": st.one_of(
            st.none(),
            st.integers(0, 1_000_00).map(lambda cents: Decimal(cents) / 100),
            # As large as the contracts let an amount be.
            st.just(Decimal(9_000_000_000_000)),
        ),
        "currency": st.sampled_from(["USD", "USD", "USD", "GBP", "EUR", None]),
        "owner_id": st.sampled_from(["ada", "bo"]),
        "stage": st.sampled_from(["Offer", "Contract"]),
        "expected_close_date": st.integers(60, 150).map(lambda day: at(day).date()),
        "is_deleted": st.sampled_from([False, False, False, True]),
        # Into another one, itself, or one that never landed.
        "merged_into_opportunity_id": st.sampled_from([None, None, "d0", "d1", "d2", "d3", "never landed"]),
    }
)
deal = st.lists(st.tuples(st.integers(0, 55), state), min_size=1, max_size=4, unique_by=lambda version: version[0])
rates = st.dictionaries(
    st.tuples(st.sampled_from(["USD", "GBP"]), st.integers(-5, 55)),
    st.one_of(st.integers(1, 3_000_000), st.just(1_000_000_000)),
    max_size=8,
)


def merged(deals: list[Any], day: float) -> dict[str, str]:
    """Deals that counted in another one on a day -> which one: what the model says, one moment at a time."""
    opened = {f"d{number}": min(version[0] for version in versions) for number, versions in enumerate(deals)}
    links = {}
    for name, versions in zip(opened, deals, strict=True):
        ordered = sorted(versions, key=lambda version: version[0])
        held = [changed for begun, changed in ordered if begun <= day] or [ordered[0][1]]
        into = held[-1]["merged_into_opportunity_id"]
        if into != name and opened.get(into, day + 1) <= day:
            links[name] = into
    circling = set()
    for name in links:
        at_deal = links.get(name)
        for _ in deals:
            circling |= {name} if at_deal == name else set()
            at_deal = links.get(at_deal) if at_deal else None
    return {name: into for name, into in links.items() if name not in circling}


def there(deals: list[Any], day: float) -> set[str]:
    """Deals that are opened, not deleted and counted in no other one on a day."""
    gone = merged(deals, day)
    found = set()
    for number, versions in enumerate(deals):
        held = [changed for begun, changed in sorted(versions, key=lambda version: version[0]) if begun <= day]
        if held and not held[-1]["is_deleted"] and f"d{number}" not in gone:
            found.add(f"d{number}")
    return found


@given(st.lists(deal, min_size=1, max_size=4), rates, st.tuples(st.integers(0, 58), st.integers(0, 58)))
@settings(max_examples=20, deadline=None)
def test_amounts__are_one_and_the_same_at_any_moment_and_the_waterfall_leads_from_one_to_the_other(
    models: list[CompiledModel], deals: list[Any], known_rates: dict[tuple[str, int], int], days: tuple[int, int]
) -> None:
    """History at a moment = the deals as of it; start + changes = end, to the cent, for all and for each owner."""
    world = World(models)
    try:
        for (currency, day), micro in known_rates.items():
            world.rate(day, Decimal(micro) / 1_000_000, currency)
        for number, versions in enumerate(deals):
            world.deal(f"d{number}", *sorted(versions, key=lambda version: version[0]))
        first, last = sorted(days)
        world.compare(first, last)
        world.build()
        history = {
            day: world.con.execute(
                f"select {STATE} from intermediate.int_deals__history where valid_from <= ? and valid_to > ? order by all",
                [at(day), at(day)],
            ).fetchall()
            for day in (first, last)
        }
        for owner in ("ada", "bo"):
            sums = world.con.execute(
                "select coalesce(sum(start_amount), 0), coalesce(sum(change_amount), 0), coalesce(sum(end_amount), 0) "
                "from marts.pipeline_changes where owner_id = ?",
                [owner],
            ).fetchall()[0]
            known = [
                sum(row[2] or 0 for row in history[day] if row[1] == "open" and row[6] == owner)
                for day in (first, last)
            ]
            assert (sums[0], sums[2]) == tuple(known)
            assert sums[0] + sums[1] == sums[2]
        for day in (first, last):
            world.build("int_deals__merges", "int_deals", as_of_at=at(day))
            assert (
                world.con.execute(f"select {STATE} from intermediate.int_deals order by all").fetchall() == history[day]
            )
            assert {row[0] for row in history[day]} == there(deals, day)
        buckets = dict(
            world.con.execute(
                "select opportunity_id, bucket from marts.pipeline_changes where side <> 'revalued'"
            ).fetchall()
        )
        gone = {row[0] for row in history[first] if row[1] == "open"} - {row[0] for row in history[last]}
        assert {name for name, bucket in buckets.items() if bucket in ("merged", "deleted")} == gone
        assert {name for name, bucket in buckets.items() if bucket == "merged"} == gone & merged(deals, last).keys()
    finally:
        world.con.close()
