"""A build that keeps what did not change gives the very tables of a build of everything, whatever arrives and in whatever order. Bots
among it are told from people.
"""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pytest
import yaml

from orchestration.defs.ingest.assets import source_contracts
from orchestration.lib import score_replay
from orchestration.lib.card_store import active_card
from orchestration.lib.compiled_project import CompiledModel, CompiledTest
from orchestration.lib.dbt_runner import project_fingerprint, read_project
from orchestration.lib.differences import FEATURES, MARTS
from orchestration.lib.errors import UserError
from orchestration.lib.forecasts import load_forecasts
from orchestration.lib.increments import Plan, complete_features, complete_marts, differences_of, plan_build
from orchestration.lib.landing import landing_file
from orchestration.lib.loading import load
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import GOOD, WARNED, build, rolled_back, run_models
from orchestration.lib.rules import prepare_rules, write_rules
from orchestration.lib.score_records import load_score_records
from orchestration.lib.scorecard_settings import read_scorecard_settings, settings_of
from orchestration.lib.segments import prepare_segments, segment_catalogue
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.signals import known_signals
from orchestration.lib.sources import read_sources
from orchestration.lib.training import fit_scorecard
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

START = datetime(2026, 6, 30)


class Warehouse:
    """A demo company whose tables are built as the refresh builds them, without the rest of it."""

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self.contracts = source_contracts()
        self.project = read_project(workspace)
        self.landed = 0

    def land(self, table: str, *records: dict[str, Any]) -> None:
        for record in records:
            self.landed += 1
            with landing_file(self.workspace, table, f"{self.landed}.parquet") as path:
                duckdb.connect().from_df(pd.DataFrame([record])).write_parquet(str(path))

    def land_frame(self, table: str, frame: pd.DataFrame) -> None:
        self.landed += 1
        with landing_file(self.workspace, table, f"{self.landed}.parquet") as path:
            duckdb.connect().from_df(frame).write_parquet(str(path))

    def build(self, as_of_at: datetime, *, full: bool = False) -> Plan:
        settings = read_scorecard_settings(self.workspace.scorecard_file, known_signals(self.contracts))
        project = self.project
        before, after = project.step(after_the_card=False), project.step(after_the_card=True)
        with open_warehouse(self.workspace) as con:
            load(con, self.workspace, self.contracts, read_sources(self.workspace.sources_file, self.contracts))
            write_settings(con, settings, active_card(self.workspace), as_of_at)
            prepare_rules(con, self.workspace, as_of_at, segment_catalogue(self.workspace))
            prepare_segments(con, self.workspace, as_of_at)
            load_score_records(con, self.workspace)
            load_forecasts(con, self.workspace)
            if full:
                con.execute("delete from increment.last_build")
            tables = [f"{model.layer}.{model.name}" for model in project.models.values() if model.is_table]
            plan = plan_build(con, project_fingerprint(), tables)
            self._build(con, before, project.tests_of(before), FEATURES)
            complete_features(con, project)
            if active_card(self.workspace) is None:
                fit_scorecard(
                    con, self.workspace, settings, mode="draft", note="for the test", progress=lambda line: None
                )
                write_settings(con, settings, active_card(self.workspace), as_of_at)
            self._build(con, after, project.tests_of(after, already_built=project.models), MARTS)
            complete_marts(con, project)
        return plan

    def _build(
        self, con: duckdb.DuckDBPyConnection, models: list[CompiledModel], tests: list[CompiledTest], step: str
    ) -> None:
        results = build(con, models, tests, differences_of(con, self.project, step))
        assert not [r for r in results if r.status not in (GOOD, WARNED)]

    def newest(self, table: str, key: str, **changes: Any) -> dict[str, Any]:
        """The record as it landed last, columns of its own included, with changes."""
        entity = {"crm__opportunities": "opportunity"}.get(table, table.split("__")[1].removesuffix("s"))
        with open_warehouse(self.workspace) as con:
            found = con.execute(
                f"select * from raw.{table} where {entity}_id = ? order by updated_at desc, _arrived_at desc limit 1",
                [key],
            )
            names = [column[0] for column in found.description or ()]
            row = dict(zip(names, found.fetchall()[0], strict=True))
            own = con.execute(
                f"select field, value from raw.{table}__custom where _file = ? and _row = ?",
                [row["_file"], row["_row"]],
            ).fetchall()
        known = {name: value for name, value in row.items() if name[0] != "_" and value is not None}
        return {**known, **dict(own), **changes}

    def rows(self, query: str, values: list[Any] | None = None) -> list[tuple[Any, ...]]:
        with open_warehouse(self.workspace) as con:
            return con.execute(query, values).fetchall()

    def tables(self) -> dict[str, list[tuple[Any, ...]]]:
        """All rows of all tables that are not about the build itself, sorted."""
        books = {
            f"{model.layer}.{model.name}" for model in self.project.models.values() if model.following.is_difference
        }
        with open_warehouse(self.workspace) as con:
            names = con.execute(
                "select schema_name || '.' || table_name from duckdb_tables() "
                "where schema_name in ('staging', 'intermediate', 'features', 'marts') order by all"
            ).fetchall()
            return {name: con.execute(f"from {name} order by all").fetchall() for (name,) in names if name not in books}


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory) -> Warehouse:
    from orchestration.cli.demo import land_company

    workspace = Workspace(tmp_path_factory.mktemp("increments") / "workspace")
    land_company(workspace, accounts=120, events=4_000, months=12, seed=7, until=date(2026, 6, 30), quiet=True)
    settings = yaml.safe_load(workspace.scorecard_file.read_text("utf-8"))
    for attribute in ("engaged_person_count", "buying_group_pct"):
        settings["criteria"][attribute] = {"kind": "explicit", "attribute": attribute, "bands": "auto"}
    workspace.scorecard_file.write_text(yaml.safe_dump(settings, sort_keys=False), "utf-8")
    made = Warehouse(workspace)
    assert made.build(START).is_full
    assert made.rows("select count(*) > 0 from intermediate.int_people__engaged") == [(True,)]
    return made


def mail_traffic(emails: list[str], start: datetime, seed: int) -> pd.DataFrame:
    """Messages to these people, half of them read by people and half followed by a gateway that calls itself a browser.

    A gateway clicks all links within seconds, the unsubscription often among them, right after delivery or a minute later; or, from one
    network address, one link of each of many messages in a burst. A person opens after a while, reads for some seconds at least before
    the first click and between clicks, and seldom unsubscribes afterwards. The column `is_gateway` is the truth and is not landed.
    """
    chance = np.random.default_rng(seed)
    rows: list[dict[str, Any]] = []

    def add(
        kind: str, message: int, seconds: float, is_gateway: bool, link: str | None = None, ip: str | None = None
    ) -> None:
        rows.append({"event_id": f"g-{len(rows)}", "occurred_at": start + timedelta(seconds=round(seconds)), "event_type": kind,
                     "message_id": f"gm-{message}", "email": emails[message % len(emails)], "link_url": link,
                     "user_agent": "Mozilla/5.0 (Windows NT 10.0; Win64; x64)", "ip_address": ip, "is_gateway": is_gateway})  # fmt: skip

    for message in range(1_200):
        sent = float(chance.uniform(0, 30_000))
        add("delivered", message, sent, False)
        if message % 2:
            at = sent + float(chance.exponential(3_000)) + 3
            add("opened", message, at, False, ip=f"198.51.100.{chance.integers(1, 250)}")
            for number in range(int(chance.integers(0, 4))):
                at += 4 + float(chance.exponential(40))
                add(
                    "clicked",
                    message,
                    at,
                    False,
                    f"https://a.example/{number}",
                    f"198.51.100.{chance.integers(1, 250)}",
                )
            if chance.random() < 0.02:
                add("unsubscribed", message, at + 5 + float(chance.exponential(30)), False)
        elif message % 10:
            at = sent + (0 if chance.random() < 0.5 else 60) + float(chance.uniform(1, 4))
            for number in range(int(chance.integers(3, 8))):
                add("clicked", message, at + number * 0.5, True, f"https://a.example/{number}")
            if chance.random() < 0.5:
                add("clicked", message, at + 3, True, "https://a.example/unsubscribe")
        else:
            burst = 40_000 + 60 * (message // 200)
            add("clicked", message, burst + float(chance.uniform(1, 50)), True, "https://a.example/0", "203.0.113.9")
    return pd.DataFrame(rows)


def assert_equal_to_a_full_build(warehouse: Warehouse, as_of_at: datetime) -> None:
    kept = warehouse.tables()
    assert warehouse.build(as_of_at, full=True).is_full
    anew = warehouse.tables()
    assert set(kept) == set(anew)
    for name in kept:
        different = set(kept[name]) ^ set(anew[name])
        assert kept[name] == anew[name], f"{name}: {len(different)} rows differ, e.g. {sorted(map(str, different))[:4]}"


def assert_replay_equals_the_company(warehouse: Warehouse, *moments: datetime) -> None:
    """The replay of one account says what a refresh of everybody says of it: of those that were merged or had parents, bots, people from
    elsewhere, and of some others."""
    found = warehouse.rows(
        """
        (select account_id from raw.crm__accounts group by account_id
            order by max(merged_into_account_id is not null) desc, max(parent_account_id is not null) desc, hash(account_id) limit 4)
        union
        (select account_id from intermediate.int_touchpoints__kept where account_id is not null group by account_id
            order by count(*) filter (bot_reason is not null) desc, account_id limit 2)
        union
        (select account_id from intermediate.int_contact_accounts where account_id is not null group by account_id
            order by count(*) filter (landed_contact_id <> contact_id) desc, max(valid_from) desc, account_id limit 2)
        """
    )
    accounts = [account for (account,) in found]
    settings, card = settings_of(warehouse.workspace), active_card(warehouse.workspace)
    assert card is not None
    told = f"* exclude ({', '.join(score_replay.NOT_TOLD)})"
    contributions = (
        "select * from marts.score_contributions where account_id = ? order by kind, abs(points) desc, criterion"
    )
    before = warehouse.tables()
    for moment in moments:
        with open_warehouse(warehouse.workspace) as con, rolled_back(con):
            write_settings(con, settings, card, moment, in_transaction=True)
            write_rules(con, [], {}, moment, in_transaction=True)
            run_models(con, warehouse.project.upstream_of(*score_replay.MARTS))
            expected = {
                account: (
                    rows(con, f"select {told} from marts.scored_accounts where account_id = ?", [account]),
                    rows(con, contributions, [account]),
                )
                for account in accounts
            }
        known = [account for account in accounts if expected[account][0]]
        assert len(known) > len(accounts) / 2
        for account in known:
            (found,) = score_replay.score_at(warehouse.workspace, settings, account, [moment], say=print)
            assert ([found.account], found.contributions) == expected[account], (account, moment)
        for account in set(accounts) - set(known):
            with pytest.raises(UserError, match="was not known on"):
                score_replay.score_at(warehouse.workspace, settings, account, [moment], say=print)
    assert warehouse.tables() == before, "a replay leaves no trace"


def test_increment__equals_a_full_build(warehouse: Warehouse) -> None:
    """New, late, duplicate, corrected, future and deleted records, a merge of contacts and one of accounts, a visitor who becomes
    known, a contact who changes sides; on the same day as the last build.
    """
    moment = START + timedelta(hours=5)
    contacts = warehouse.rows(
        "select contact_id, min(account_id), max(email) from raw.crm__contacts where account_id is not null "
        "group by contact_id order by contact_id"
    )
    (anonymous,) = warehouse.rows(
        "select visitor_id from intermediate.int_touchpoints where match_status = 'no_person' "
        "group by visitor_id order by count(*) desc, visitor_id limit 1"
    )[0]
    visitor, identified = warehouse.rows(
        "select visitor_id, contact_id from intermediate.int_touchpoints where visitor_id is not null "
        "and contact_id is not null group by all order by count(*) desc, visitor_id limit 1"
    )[0]
    web = dict(
        zip(
            ("event_id", "occurred_at", "event_type", "visitor_id", "contact_id"),
            warehouse.rows(
                "select event_id, occurred_at, event_type, visitor_id, contact_id from raw.web__events "
                "where contact_id is not null order by event_id limit 1"
            )[0],
            strict=True,
        )
    )
    email = warehouse.rows("select event_id, occurred_at, contact_id from raw.email__events order by event_id limit 1")[
        0
    ]
    activities = warehouse.rows(
        "select activity_id, activity_type, occurred_at, contact_id, account_id from raw.crm__activities "
        "where contact_id is not null order by occurred_at desc, activity_id limit 3"
    )
    accounts = [
        account for (account,) in warehouse.rows("select distinct account_id from raw.crm__accounts order by 1")
    ]

    def visit(number: str, at: datetime, who: str, kind: str = "pricing_page_view", **more: Any) -> dict[str, Any]:
        return {"event_id": f"t-{number}", "occurred_at": at, "event_type": kind, "visitor_id": who, **more}

    # New ones by a known and by a new visitor, one that is known a moment later; late; later than the as-of moment.
    warehouse.land("web__events", visit("1", moment - timedelta(minutes=9), visitor),
                   visit("2", moment - timedelta(minutes=8), "t-new"),
                   visit("3", moment - timedelta(minutes=7), "t-new", "form_submission", email=contacts[3][2]),
                   visit("4", START - timedelta(days=40), visitor),
                   visit("5", START + timedelta(days=1, hours=1), visitor))  # fmt: skip
    # The same again; then corrected in kind and person.
    warehouse.land("web__events", web)
    warehouse.land("web__events", {**web, "event_type": "download", "contact_id": contacts[5][0]})
    warehouse.land("email__events", {"event_id": email[0], "occurred_at": email[1] - timedelta(days=3),
                                     "event_type": "clicked", "contact_id": contacts[6][0]})  # fmt: skip
    # Somebody of whom the next build hears, by an address in its own spelling.
    warehouse.land("email__events", {"event_id": "t-unheard", "occurred_at": START - timedelta(days=2), "event_type": "clicked",
                                     "email": " Unheard@Own.Example"})  # fmt: skip
    # A visitor with a history becomes known.
    warehouse.land(
        "web__events", visit("6", moment - timedelta(minutes=5), anonymous, "opt_in", contact_id=contacts[8][0])
    )
    for (activity, kind, at, contact, account), change in zip(
        activities,
        ({"is_deleted": True}, {"activity_type": "trade_fair_visit"}, {"account_id": accounts[9]}),
        strict=True,
    ):
        warehouse.land("crm__activities", {"activity_id": activity, "activity_type": kind, "occurred_at": at,
                                           "contact_id": contact, "account_id": account, "updated_at": moment, **change})  # fmt: skip
    warehouse.land("crm__contacts",
                   {"contact_id": identified, "email": "merged@x.example", "merged_into_contact_id": contacts[10][0], "updated_at": moment},
                   {"contact_id": contacts[11][0], "email": contacts[11][2], "account_id": accounts[20], "updated_at": moment},
                   {"contact_id": "t-late", "email": "late@x.example", "account_id": accounts[21], "created_at": moment, "updated_at": moment})  # fmt: skip
    warehouse.land(
        "crm__accounts", {"account_id": contacts[0][1], "merged_into_account_id": accounts[30], "updated_at": moment}
    )
    warehouse.land("crm__opportunities", {"opportunity_id": "t-deal", "account_id": accounts[30], "status": "open", "stage": "Discovery",
                                          "amount": 1000.0, "opened_at": moment, "updated_at": moment})  # fmt: skip
    # One deal is merged into it, another one into a deal of which nothing is known yet.
    first, second = warehouse.rows(
        "select opportunity_id from intermediate.int_deals where status = 'open' order by 1 limit 2"
    )
    for (deal,), into in ((first, "t-deal"), (second, "t-unknown")):
        merged = warehouse.newest("crm__opportunities", deal, merged_into_opportunity_id=into, updated_at=moment)
        warehouse.land("crm__opportunities", merged)

    # Members of campaigns: a person who is merged and its survivor in the same one, and one who answers.
    campaign, member = warehouse.rows(
        "select campaign_id, contact_id from raw.crm__campaign_members where member_status = 'invited' order by all limit 1"
    )[0]
    warehouse.land("crm__campaign_members", *({"campaign_id": campaign, "contact_id": contact, "member_status": "responded",
                                               "responded_at": moment - timedelta(hours=hours), "updated_at": moment}
                                              for hours, contact in enumerate((member, identified, contacts[10][0]))))  # fmt: skip

    for number, at in ((1, 0), (2, 1), (4, 2), (5, 3)):
        warehouse.land("email__events", {"event_id": f"b-{number}", "occurred_at": START - timedelta(days=3, seconds=at),
                                         "event_type": "clicked", "message_id": "b" if number < 3 else "b2", "email": contacts[0][2],
                                         "link_url": f"b{number}" if number < 5 else "b/unsubscribe"})  # fmt: skip

    assert not warehouse.build(moment).is_full
    moved, all_of_them = warehouse.rows(
        "select (select count(*) from intermediate.int_touchpoints__moved), count(*) from intermediate.int_touchpoints"
    )[0]
    assert 20 < moved < all_of_them / 4, "something moved, and not everything"
    assert warehouse.rows("select match_status from intermediate.int_touchpoints where visitor_id = ?", [anonymous])[
        0
    ] == ("matched",)
    assert warehouse.rows("select opportunity_id, merged_into_opportunity_id from intermediate.int_deals__merges") == [
        (*first, "t-deal")
    ]
    assert_replay_equals_the_company(warehouse, moment - timedelta(days=20), moment - timedelta(minutes=1), moment)
    assert_equal_to_a_full_build(warehouse, moment)


def test_increment__after_midnight_with_what_was_undone_equals_a_full_build(warehouse: Warehouse) -> None:
    """A day later: both merges are taken back, versions come out of order, a visitor becomes somebody else, a contact is deleted, an
    event is older than its signal's first, and one that had landed for later has come.
    """
    moment = START + timedelta(days=2)
    merged, survivor = warehouse.rows("select contact_id, surviving_contact_id from staging.stg_crm__contact_survivors "
                                      "where contact_id <> surviving_contact_id order by contact_id")[-1]  # fmt: skip
    account = warehouse.rows("select account_id from raw.crm__accounts where merged_into_account_id is not null "
                             "order by _arrived_at desc limit 1")[0][0]  # fmt: skip
    (visitor,) = warehouse.rows("select visitor_id from raw.web__events where event_id = 't-6'")[0]
    assert warehouse.rows("select count(*) from intermediate.int_touchpoints where touchpoint_id = 't-5'") == [(0,)]
    emails = sorted(e for (e,) in warehouse.rows("select email from intermediate.int_contact_emails"))[:60]
    (email_of_b,) = warehouse.rows("select email from raw.email__events where event_id = 'b-1'")[0]
    assert warehouse.rows(
        "select count(*) from intermediate.int_touchpoints where touchpoint_id in ('b-1', 'b-2')"
    ) == [(2,)]
    signal, first_at = warehouse.rows(
        "select signal, first_occurred_at from intermediate.int_signals where signal = 'pricing_page_view'"
    )[0]
    warehouse.land("crm__contacts", {"contact_id": merged, "email": "merged@x.example", "updated_at": moment})
    warehouse.land(
        "crm__contacts", {"contact_id": survivor, "account_id": "nobody", "updated_at": START - timedelta(days=90)}
    )
    warehouse.land(
        "crm__contacts", {"contact_id": "t-late", "email": "late@x.example", "is_deleted": True, "updated_at": moment}
    )
    warehouse.land("crm__accounts", {"account_id": account, "updated_at": moment})
    # A deal that others point at comes to be known, and one of them goes in a circle from now on.
    ((deal,),) = warehouse.rows("select opportunity_id from intermediate.int_deals__merges")
    warehouse.land(
        "crm__opportunities",
        warehouse.newest("crm__opportunities", "t-deal", merged_into_opportunity_id=deal, updated_at=moment),
    )
    warehouse.land("crm__opportunities", {"opportunity_id": "t-unknown", "account_id": account, "status": "open", "stage": "Discovery",
                                          "amount": 700.0, "opened_at": START, "updated_at": moment})  # fmt: skip
    warehouse.land("web__events",
                   {"event_id": "t-7", "occurred_at": START + timedelta(days=1), "event_type": "opt_in", "visitor_id": visitor, "contact_id": survivor},
                   {"event_id": "t-8", "occurred_at": first_at - timedelta(days=30), "event_type": signal, "visitor_id": visitor},
                   {"event_id": "t-1", "occurred_at": moment + timedelta(days=9), "event_type": signal, "visitor_id": visitor})  # fmt: skip
    # The third link of a message whose first two have counted until now gives all three away; a gateway's click is corrected.
    warehouse.land("email__events", *({"event_id": f"b-{n}", "occurred_at": START - timedelta(days=3), "event_type": "clicked",
                                       "message_id": "b", "email": email_of_b, "link_url": f"b{n}"} for n in (3, 6)))  # fmt: skip
    warehouse.land("email__events", {"event_id": "b-5", "occurred_at": START - timedelta(days=2), "event_type": "clicked",
                                     "message_id": "b", "email": email_of_b, "link_url": "b5"})  # fmt: skip
    traffic = mail_traffic(emails, START + timedelta(days=1), seed=3)
    warehouse.land_frame("email__events", traffic.drop(columns="is_gateway"))
    # As a source with mistakes may do: the same moment twice, the first one is replaced.
    warehouse.land("crm__activities",
                   {"activity_id": "t-a", "activity_type": "call", "occurred_at": START, "account_id": account, "updated_at": moment},
                   {"activity_id": "t-a", "activity_type": "meeting", "occurred_at": START, "account_id": account, "updated_at": moment})  # fmt: skip

    warehouse.land(
        "crm__contacts",
        {"contact_id": "t-heard", "email": "unheard@own.example", "created_at": START, "updated_at": START},
    )
    assert not warehouse.build(moment).is_full
    assert warehouse.rows("select count(*) from intermediate.int_touchpoints where touchpoint_id = 't-5'") == [(1,)]
    assert warehouse.rows("select contact_id from intermediate.int_touchpoints where touchpoint_id = 't-unheard'") == [
        ("t-heard",)
    ]
    assert warehouse.rows("select count(*) from intermediate.int_touchpoints where touchpoint_id = 't-1'") == [(0,)]
    flagged = {
        event
        for (event,) in warehouse.rows(
            "select touchpoint_id from intermediate.int_touchpoints__kept where bot_reason is not null"
        )
    }
    assert flagged & {f"b-{n}" for n in range(1, 7)} == {"b-1", "b-2", "b-3", "b-6"}, (
        "b-4 had b-5 beside it and has no more"
    )
    is_flagged = traffic["event_id"].isin(flagged)
    assert is_flagged[traffic["is_gateway"]].mean() >= 0.95, "synthetic gateways are recognised"
    by_people = ~traffic["is_gateway"] & (traffic["event_type"] != "delivered")
    assert by_people.sum() > 1_000
    assert is_flagged[by_people].mean() <= 0.01, "and people are not lost"
    ends = warehouse.rows("select merged_into_opportunity_id, valid_to from intermediate.int_deals__merges order by 1")
    assert [(into, to <= moment) for into, to in ends] == [("t-deal", True), ("t-unknown", False)]
    assert warehouse.rows(
        f"select count(*) from intermediate.int_deals where opportunity_id in ('t-deal', '{deal}')"
    ) == [(2,)]
    assert_replay_equals_the_company(warehouse, moment - timedelta(days=20), moment - timedelta(minutes=1), moment)
    assert_equal_to_a_full_build(warehouse, moment)


@pytest.fixture(scope="module")
def holding(warehouse: Warehouse) -> tuple[datetime, list[str]]:
    """Accounts below accounts, roles that weigh, and a build of a later day that has found both switched on: its moment, and the accounts
    with the most touchpoints, four pairs and one chain among them.
    """
    moment = START + timedelta(days=3)
    file = warehouse.workspace.scorecard_file
    settings = yaml.safe_load(file.read_text("utf-8"))
    settings["people"]["role_weights"] = {"functions": {"it": 0.25, "purchasing": 2}, "seniorities": {"head": 1.5}}
    file.write_text(yaml.safe_dump({**settings, "hierarchy": {"roll_up": True}}, sort_keys=False), "utf-8")
    accounts = [
        account
        for (account,) in warehouse.rows(
            "select account_id from intermediate.int_touchpoints where (account_id, contact_id) in "
            "(select (account_id, contact_id) from intermediate.int_spine__contacts) and account_id not in "
            "(select account_id from raw.crm__accounts where parent_account_id is not null or merged_into_account_id is not null) "
            "group by account_id order by count(*) desc, account_id limit 12"
        )
    ]
    child, middle, top, other, kept, _, _, _, *pairs = accounts
    for below, above in ((child, middle), (middle, top), (kept, other), (pairs[0], pairs[1]), (pairs[2], pairs[3])):
        warehouse.land(
            "crm__accounts", warehouse.newest("crm__accounts", below, parent_account_id=above, updated_at=moment)
        )
    assert not warehouse.build(moment).is_full
    assert {(child, middle), (child, top), (middle, top), (kept, other)} <= below_whom(warehouse)
    return moment, accounts


def below_whom(warehouse: Warehouse) -> set[tuple[str, str]]:
    return set(
        warehouse.rows(
            "select below_account_id, account_id from intermediate.int_account_descendants, settings.refresh "
            "where as_of_at >= valid_from and as_of_at < valid_to"
        )
    )


def some_contact(warehouse: Warehouse, account: str) -> str:
    """The contact of the account that did the most."""
    ((contact, _),) = warehouse.rows(
        "select contact_id, count(*) from intermediate.int_touchpoints where account_id = ? and contact_id is not null "
        "and contact_id in (select contact_id from intermediate.int_spine__contacts where account_id = ?) "
        "group by contact_id order by count(*) desc, contact_id limit 1",
        [account, account],
    )
    return str(contact)


def test_increment__of_parents_and_roles_equals_a_full_build(
    warehouse: Warehouse, holding: tuple[datetime, list[str]]
) -> None:
    """On one day: an account goes to another parent, that one is merged away, two accounts become each other's parents, one has had a
    parent before; and where the hierarchy stays, somebody below acts now, somebody acted long ago, and a role changes.
    """
    start, (child, middle, top, other, kept, buyer, late, _, *pairs) = holding
    (once_above,) = warehouse.rows(
        "select account_id from intermediate.int_spine__deals where account_id not in "
        f"({', '.join('?' * len(holding[1]))}) group by account_id order by min(as_of_at), account_id limit 1",
        list(holding[1]),
    )[0]
    moment = start + timedelta(hours=2)
    visits = [
        {"event_id": f"h-{number}", "occurred_at": at, "event_type": "pricing_page_view", "visitor_id": f"h-{number}",
         "contact_id": some_contact(warehouse, account)}
        for number, (account, at) in enumerate(
            ((child, moment - timedelta(minutes=9)), (pairs[0], moment - timedelta(minutes=8)), (pairs[0], START - timedelta(days=40)))
        )
    ]  # fmt: skip
    warehouse.land("web__events", *visits)
    accounts = "crm__accounts"
    (first_version,) = warehouse.rows("select min(updated_at) from raw.crm__accounts where account_id = ?", [late])[0]
    for account, changes in (
        (child, {"parent_account_id": other}),
        (other, {"merged_into_account_id": buyer}),
        (top, {"parent_account_id": middle}),
    ):
        record = warehouse.newest(accounts, account, updated_at=moment - timedelta(minutes=30), **changes)
        warehouse.land(accounts, record)
    # A version that is older than all that landed: deals opened in its time see another hierarchy.
    warehouse.land(
        accounts,
        warehouse.newest(accounts, late, parent_account_id=once_above, updated_at=first_version - timedelta(days=30)),
    )
    # Known now, and not before the next build's moment.
    warehouse.land(
        accounts, warehouse.newest(accounts, kept, parent_account_id=top, updated_at=moment + timedelta(minutes=30))
    )
    contact = some_contact(warehouse, pairs[2])
    warehouse.land(
        "crm__contacts",
        warehouse.newest("crm__contacts", contact, job_function="it", seniority="head", updated_at=moment),
    )

    assert not warehouse.build(moment).is_full
    assert warehouse.rows("select count(*) from intermediate.int_touchpoints where touchpoint_id like 'h-%'") == [(3,)]
    below = below_whom(warehouse)
    assert {(child, buyer), (kept, buyer)} <= below, "who was below the merged account is below its survivor"
    assert not {(middle, top), (top, middle), (child, middle)} & below
    assert set(warehouse.rows("select account_id from intermediate.int_account_parents where link_state = 'in a circle'")) == {
        (middle,),
        (top,),
    }  # fmt: skip
    assert warehouse.rows(
        "select count(*) > 0 from intermediate.int_spine__deals as deals join intermediate.int_account_descendants as below "
        "using (account_id) where below.below_account_id = ? and as_of_at >= valid_from and as_of_at < valid_to",
        [late],
    ) == [(True,)], "deals of the past look at it"
    assert_replay_equals_the_company(warehouse, moment - timedelta(days=20), moment - timedelta(minutes=1), moment)
    assert_equal_to_a_full_build(warehouse, moment)


def test_merge__that_is_taken_back_restores_both_sides_exactly(
    warehouse: Warehouse, holding: tuple[datetime, list[str]]
) -> None:
    """Two contacts of different accounts and two accounts, with roles that weigh and accounts below: what each had is what it has again, and
    while they were merged the one that stays had both, once.
    """
    start, (child, _, _, _, _, buyer, late, aside, *_) = holding
    moment = start + timedelta(hours=3)
    assert not warehouse.build(moment).is_full
    gone, stays = some_contact(warehouse, late), some_contact(warehouse, child)
    what_counts = (
        *("features.ftr_accounts__implicit", "features.ftr_accounts__explicit", "features.ftr_contacts__implicit"),
        *("features.ftr_deals__implicit", "features.ftr_deals__explicit", "intermediate.int_touchpoints__daily"),
        *("intermediate.int_touchpoints__kept", "intermediate.int_signals", "intermediate.int_accounts__states"),
    )

    def of(column: str, key: str) -> int:
        return int(warehouse.rows(f"select count(*) from intermediate.int_touchpoints where {column} = ?", [key])[0][0])

    def tables() -> dict[str, list[tuple[Any, ...]]]:
        found = warehouse.tables()
        return {name: found[name] for name in what_counts}

    before = tables()
    counts = {key: of(column, key) for column, key in
              (("contact_id", gone), ("contact_id", stays), ("account_id", aside), ("account_id", buyer))}  # fmt: skip
    assert min(counts.values()) > 0
    records = {
        "crm__contacts": (gone, "merged_into_contact_id", stays),
        "crm__accounts": (aside, "merged_into_account_id", buyer),
    }
    as_they_were = {table: warehouse.newest(table, key) for table, (key, *_) in records.items()}
    moment += timedelta(hours=1)
    for table, (key, column, into) in records.items():
        warehouse.land(table, warehouse.newest(table, key, **{column: into}, updated_at=moment))
    assert not warehouse.build(moment).is_full
    assert (of("contact_id", gone), of("contact_id", stays)) == (0, counts[gone] + counts[stays])
    assert (of("account_id", aside), of("account_id", buyer)) == (0, counts[aside] + counts[buyer])
    merged = tables()
    assert len(merged["intermediate.int_touchpoints__kept"]) == len(before["intermediate.int_touchpoints__kept"]), (
        "nothing counts twice"
    )
    assert all(merged[name] != before[name] for name in what_counts if "implicit" in name)

    moment += timedelta(hours=1)
    for table, record in as_they_were.items():
        warehouse.land(table, {**record, "updated_at": moment})
    assert not warehouse.build(moment).is_full
    after = tables()
    for name in what_counts:
        different = set(before[name]) ^ set(after[name])
        assert before[name] == after[name], (
            f"{name}: {len(different)} rows differ, e.g. {sorted(map(str, different))[:4]}"
        )
    assert_equal_to_a_full_build(warehouse, moment)


def test_plan__is_full_where_nothing_may_be_kept(warehouse: Warehouse, tmp_path: Path) -> None:
    """On a copy: an interrupted build, an earlier as-of moment, other transformations, a table that was loaded again."""
    copy = tmp_path / "copy.duckdb"
    copy.write_bytes(warehouse.workspace.warehouse.read_bytes())
    with duckdb.connect(str(copy)) as con:
        project = project_fingerprint()

        def plan_of(change: str) -> Plan:
            con.execute(change)
            return plan_build(con, project)

        assert not plan_of("select 1").is_full
        assert "come to its end" in plan_of("select 1").reason, "the plan before was never completed"
        complete_features(con, warehouse.project)
        assert (
            "is before that of the last build"
            in plan_of("update settings.refresh set as_of_at = timestamp '2026-01-01'").reason
        )
        complete_features(con, warehouse.project)
        assert "loaded again" in plan_of("update load.files set loaded_at = loaded_at + interval 1 second").reason
        con.execute("update settings.refresh set as_of_at = timestamp '2027-01-01'")
        complete_features(con, warehouse.project)
        project = "another"
        assert "the transformations or the rules" in plan_of("select 1").reason
