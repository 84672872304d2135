"""Rules and the ledger as users see them: points for states and events, forms, automation steps, changes, refusals, replay; and
that the fold in SQL is the fold in Python at any moment. One module, because compiling dbt's SQL takes most of the time.
"""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.errors import UserError
from orchestration.lib.landing import landed_files
from orchestration.lib.ledger import TABLE, fold, land_adjustment
from orchestration.lib.rules import read_rule, read_rules, rule_catalogue
from orchestration.lib.workspace import Workspace
from orchestration.lib.workspace_setup import create_workspace
from tests.unit.ledger_world import World, compiled_models

START = datetime(2026, 1, 1)
#: Few hours, so that moments often coincide.
MOMENTS = st.integers(0, 12).map(lambda hours: START + timedelta(hours=hours))
LARGE = """
title: Large company
operation: add
points: 10
conditions:
  rules: [{field: employees, operator: ">=", value: 200}]
"""
FORM = """
title: Contact form
operation: add
points: 7
how_often: every_event
event:
  rules:
    - {field: signal, operator: "=", value: form_submission}
    - {field: form_name, operator: "=", value: contact}
"""
AFTER_THE_SERIES = """
title: Did not click
operation: subtract
points: 5
how_often: every_event
event:
  rules:
    - {field: signal, operator: "=", value: email_delivered}
    - {field: campaign_id, operator: "=", value: spring}
last_of_series: true
delay_days: 3
unless:
  rules: [{field: touchpoints.email_clicked, operator: happened, value: 3}]
"""
VIEWS = """
title: Pricing page
operation: add
points: {points}
how_often: every_event
effective: {effective}
event:
  rules: [{{field: signal, operator: "=", value: pricing_page_view}}]
"""


KEEN_DIRECTOR = """
title: Director of a large company who looked at prices twice
subject: contact
operation: add
points: 9
conditions:
  rules:
    - {field: contact.seniority, operator: "=", value: director}
    - {field: touchpoints.pricing_page_view, operator: happened, value: {within_days: 30, at_least: 2}}
    - {field: employees, operator: ">=", value: 200}
"""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[CompiledModel]:
    return compiled_models(tmp_path_factory.mktemp("compiled") / "workspace")


@pytest.fixture
def world(models: list[CompiledModel], tmp_path: Path) -> World:
    return World(tmp_path / "world", models)


@pytest.fixture(scope="module")
def folding_world(models: list[CompiledModel], tmp_path_factory: pytest.TempPathFactory) -> World:
    return World(tmp_path_factory.mktemp("folding"), models)


def test_rule__gives_points_once_to_whom_its_condition_holds_and_again_changes_nothing(world: World) -> None:
    world.account("big", employees=500)
    world.account("small", employees=20)
    world.account("unknown")
    world.rule("large", LARGE)
    assert world.refresh("2026-03-01T10:00") == {"big": 10}
    first = world.ledger()
    assert world.refresh("2026-03-01T10:00") == {"big": 10}
    assert world.ledger() == first
    assert world.refresh("2026-03-02T10:00") == {"big": 10}
    assert len(landed_files(world.workspace, TABLE)) == 1


def test_ledger__after_the_warehouse_was_deleted_is_the_same(world: World) -> None:
    world.account("big", employees=500)
    world.touch("v1", "big", "pricing_page_view", "2026-03-02T09:00")
    world.rule("large", LARGE)
    world.rule("views", VIEWS.format(points=3, effective="always"))
    world.refresh("2026-03-01T10:00")
    assert world.refresh("2026-03-03T10:00") == {"big": 13}
    before = world.ledger()
    world.rebuild()
    assert world.refresh("2026-03-03T10:00") == {"big": 13}
    assert world.ledger() == before


def test_refresh__that_looks_back_makes_nothing_happen_in_the_past(world: World) -> None:
    world.account("big", employees=500)
    world.rule("large", LARGE)
    world.refresh("2026-03-10T10:00")
    assert world.refresh("2026-03-05T10:00") == {}
    assert world.count == 0
    assert world.refresh("2026-03-11T10:00") == {"big": 10}
    assert len(world.ledger()) == 1


def test_form__gives_its_points_once_its_person_is_known_dated_when_it_was_filled_in(world: World) -> None:
    world.account("acme")
    world.touch("f1", None, "form_submission", "2026-02-20T09:00")
    world.touch("f2", None, "form_submission", "2026-02-20T09:30")
    world.add("stg_web__events", event_id="f1", form_name="Contact")
    world.add("stg_web__events", event_id="f2", form_name="newsletter")
    world.rule("contact_form", FORM)
    assert world.refresh("2026-02-10T00:00") == {}
    assert world.refresh("2026-03-01T00:00") == {}
    # The visitor opts in on 10 March: from then on it is known whose form it was.
    world.con.execute(
        "update intermediate.int_touchpoints set account_id = 'acme', known_at = timestamp '2026-03-10 08:00'"
    )
    assert world.refresh("2026-03-10T07:59") == {}
    assert world.refresh("2026-03-10T08:05") == {"acme": 7}
    assert world.ledger("source", "occurred_at", "recorded_at", "trigger_id") == [
        ("form", datetime(2026, 2, 20, 9), datetime(2026, 3, 10, 8), "web:f1")
    ]
    assert world.refresh("2026-03-10T08:10") == {"acme": 7}


def test_automation__fires_at_the_first_refresh_after_its_moment_unless_something_happened(world: World) -> None:
    for name in ("silent", "clicked"):
        world.account(name)
        for number, day in enumerate(("2026-03-03", "2026-03-05"), 1):
            world.touch(
                f"{name}{number}",
                name,
                "email_delivered",
                f"{day}T09:00",
                source="email",
                contact_id=name,
                campaign_id="spring",
            )
    world.touch(
        "c", "clicked", "email_clicked", "2026-03-07T09:00", source="email", contact_id="clicked", campaign_id="spring"
    )
    world.rule("no_click", AFTER_THE_SERIES)
    world.refresh("2026-02-01T00:00")
    # The first email is not the last of its series any more at its moment, the 6th; the second one's moment is the 8th.
    assert world.refresh("2026-03-08T08:59") == {}
    assert world.refresh("2026-03-09T12:00") == {"silent": -5}
    assert world.ledger("source", "operation", "occurred_at") == [("automation", "subtract", datetime(2026, 3, 8, 9))]
    # A click after the moment changes nothing any more.
    world.touch(
        "late", "silent", "email_clicked", "2026-03-10T09:00", source="email", contact_id="silent", campaign_id="spring"
    )
    assert world.refresh("2026-03-11T12:00") == {"silent": -5}


@pytest.mark.parametrize(
    ("effective", "balance"),
    [
        ("now", 3 + 3 + 8),  # earlier views keep their three points
        ("{from: 2026-03-02}", 3 + 8 + 8),  # those from the 2nd on are taken back and given anew
        ("always", 8 + 8 + 8),
    ],
)
def test_change_of_a_rule__holds_from_now_on_or_from_a_date(world: World, effective: str, balance: int) -> None:
    world.account("acme")
    for day in (1, 2):
        world.touch(f"v{day}", "acme", "pricing_page_view", f"2026-03-0{day}T09:00")
    world.rule("views", VIEWS.format(points=3, effective="always"))
    assert world.refresh("2026-03-04T00:00") == {"acme": 6}
    world.rule("views", VIEWS.format(points=8, effective=effective))
    world.refresh("2026-03-05T00:00")
    world.touch("v6", "acme", "pricing_page_view", "2026-03-06T09:00")
    assert world.refresh("2026-03-07T00:00") == {"acme": balance}
    assert world.refresh("2026-03-08T00:00") == {"acme": balance}
    # Back to the first text, over all the past: the same again, under a new version.
    world.rule("views", VIEWS.format(points=3, effective="always"))
    assert world.refresh("2026-03-09T00:00") == {"acme": 9}
    assert world.refresh("2026-03-10T00:00") == {"acme": 9}


def test_rule_for_contacts__asks_the_person_and_the_account_and_its_points_are_the_persons(world: World) -> None:
    world.account("big", employees=500)
    world.account("small", employees=20)
    for name, account, seniority in (
        ("ann", "big", "director"), ("bob", "big", "entry"), ("cem", "big", "director"), ("dee", "small", "director"),
    ):  # fmt: skip
        world.contact(name, account, seniority=seniority)
    # cem saw the prices once; that colleagues did, too, is no doing of cem's.
    for person, account, count in (("ann", "big", 2), ("bob", "big", 3), ("cem", "big", 1), ("dee", "small", 2)):
        for number in range(count):
            at = f"2026-02-2{number}T09:00"
            world.touch(f"{person}{number}", account, "pricing_page_view", at, contact_id=person)
    world.rule("keen", KEEN_DIRECTOR)
    assert world.refresh("2026-03-01T10:00") == {"ann": 9}
    assert world.ledger("subject_kind", "account_id", "contact_id") == [("contact", None, "ann")]
    before = world.ledger()
    world.rebuild()
    assert world.refresh("2026-03-02T10:00") == {"ann": 9}
    assert world.ledger() == before


def test_rule_for_contacts__fires_on_events_of_people_without_an_account_and_again_for_nobody_after_a_merge(
    world: World,
) -> None:
    world.contact("lone")
    world.contact("twin")
    world.rule("views", VIEWS.format(points=3, effective="always") + "subject: contact\ncap: 8\n")
    for number in range(2):
        world.touch(f"v{number}", None, "pricing_page_view", f"2026-02-2{number}T09:00", contact_id="lone")
    world.touch("v2", None, "pricing_page_view", "2026-02-25T09:00", contact_id="twin")
    world.touch("v3", "acme", "pricing_page_view", "2026-02-26T09:00")  # of nobody in particular
    assert world.refresh("2026-03-01T10:00") == {"lone": 6, "twin": 3}
    # twin turns out to be lone: what both have done counts together, and the cap leaves nothing for more.
    world.con.execute("insert into staging.stg_crm__contact_survivors values ('twin', 'lone')")
    world.con.execute("update intermediate.int_touchpoints set contact_id = 'lone' where contact_id = 'twin'")
    world.con.execute("delete from intermediate.int_contacts where contact_id = 'twin'")
    world.touch("v4", None, "pricing_page_view", "2026-03-02T09:00", contact_id="lone")
    assert world.refresh("2026-03-03T10:00") == {"lone": 9}


def test_rule__that_changes_whose_points_it_gives_takes_the_others_back_when_it_looks_back(world: World) -> None:
    world.account("acme")
    world.contact("acme", "acme")  # keys of accounts and contacts are two worlds
    world.touch("v1", "acme", "pricing_page_view", "2026-02-25T09:00", contact_id="acme")
    once = VIEWS.format(points=3, effective="always").replace("every_event", "once")
    world.rule("views", once)
    world.refresh("2026-03-01T10:00")
    world.rule("views", once + "subject: contact\n")
    world.refresh("2026-03-02T10:00")
    balances = "select subject_kind, points from intermediate.int_adjustments__balances order by 1"
    assert world.con.execute(balances).fetchall() == [("contact", 3)]
    before = world.ledger()
    world.refresh("2026-03-03T10:00")
    assert world.ledger() == before


def test_rule_that_was_taken_away__fires_no_more_and_keeps_what_it_gave(world: World) -> None:
    world.account("acme")
    world.rule("views", VIEWS.format(points=3, effective="now"))
    world.refresh("2026-03-01T00:00")
    world.touch("v1", "acme", "pricing_page_view", "2026-03-02T09:00")
    assert world.refresh("2026-03-03T00:00") == {"acme": 3}
    (world.workspace.rules / "views.yml").unlink()
    world.touch("v2", "acme", "pricing_page_view", "2026-03-04T09:00")
    assert world.refresh("2026-03-05T00:00") == {"acme": 3}


def test_firing_that_a_person_took_back__does_not_come_again(world: World) -> None:
    world.account("big", employees=500)
    world.rule("large", LARGE)
    world.refresh("2026-03-01T10:00")
    ((key,),) = world.ledger("ledger_id")
    world.operation(
        adjustment_id="x", account_id="big", operation="void", points=0, void_of=key, occurred_at=datetime(2026, 3, 2)
    )
    world.refresh("2026-03-03T10:00")
    world.refresh("2026-03-04T10:00")
    assert world.ledger("operation", "entry_status", "balance_after") == [("add", "voided", 0), ("void", "void", 0)]


def test_events__that_arrive_in_any_order_give_the_same_firings(models: list[CompiledModel], tmp_path: Path) -> None:
    def play(name: str, batches: list[list[int]]) -> list[tuple[object, ...]]:
        world = World(tmp_path / name, models)
        world.account("acme")
        world.rule("views", VIEWS.format(points=3, effective="now"))
        world.rule("weekly", VIEWS.format(points=20, effective="now").replace("every_event", "{once_per_days: 7}"))
        world.refresh("2026-03-01T00:00")
        for number, batch in enumerate(batches):
            for day in batch:
                world.touch(f"v{day:02d}", "acme", "pricing_page_view", f"2026-03-{day:02d}T09:00")
            world.refresh(f"2026-03-2{number}T00:00")
        return world.ledger("rule_id", "occurred_at", "points_applied", "balance_after", "trigger_id")

    at_once = play("at_once", [[2, 3, 9, 10]])
    assert len(at_once) == 4 + 2
    assert play("late", [[9, 2], [10, 3]]) == at_once
    assert play("one_by_one", [[2], [9], [3], [10]]) == at_once


WEEKLY = VIEWS.format(points=20, effective="now").replace("every_event", "{once_per_days: 7}")


def counting(world: World) -> list[tuple[Any, ...]]:
    """Subject, event and points of the firings that count."""
    return world.con.execute(
        "select subject_id, trigger_id, points from intermediate.int_ledger where entry_status = 'counts' order by all"
    ).fetchall()


def test_once_per_days__counts_from_the_last_firing_and_a_late_event_moves_what_follows(world: World) -> None:
    world.account("acme")
    world.rule("weekly", WEEKLY)
    world.refresh("2026-03-01T00:00")

    def view(day: int) -> None:
        world.touch(f"v{day:02d}", "acme", "pricing_page_view", f"2026-03-{day:02d}T09:00")

    for day in (5, 8, 12, 13):
        view(day)
    world.refresh("2026-03-20T00:00")
    # The 8th and the 13th are less than a week after the firing before them, on whichever days weeks begin.
    assert [event for _, event, _ in counting(world)] == ["web:v05", "web:v12"]
    view(4)
    world.refresh("2026-03-20T01:00")
    assert [event for _, event, _ in counting(world)] == ["web:v04", "web:v12"]
    assert ("void", "an event became known later, and this one is too near to another firing") in world.ledger(
        "operation", "note"
    )
    view(1)
    world.refresh("2026-03-20T02:00")
    # The 4th gives way to the 1st, so the 8th may fire; the 12th is too near to it then, and so is the 13th.
    assert [event for _, event, _ in counting(world)] == ["web:v01", "web:v08"]
    for event in ("x", "y"):
        world.touch(event, "acme", "pricing_page_view", "2026-02-01T09:00", known="2026-03-20T02:30")
    world.refresh("2026-03-20T03:00")
    assert [event for _, event, _ in counting(world)] == ["web:v01", "web:v08", "web:x"]
    before = world.ledger()
    world.refresh("2026-03-21T00:00")
    assert world.ledger() == before
    world.rebuild()
    world.refresh("2026-03-21T00:00")
    assert world.ledger() == before


def test_once_per_days__fires_again_what_was_taken_back_but_not_what_a_person_took_back(world: World) -> None:
    world.account("acme")
    world.rule("weekly", WEEKLY + "cap: 50\n")
    world.refresh("2026-03-01T00:00")
    for number, day in enumerate((12, 8, 4)):
        world.touch(f"v{day:02d}", "acme", "pricing_page_view", f"2026-03-{day:02d}T09:00")
        world.refresh(f"2026-03-20T0{number}:00")
    # The 12th fired, was taken back for the 8th, and fires again, as the 4th leaves no room for the 8th.
    assert counting(world) == [("acme", "web:v04", 20), ("acme", "web:v12", 20)]
    (key,) = [
        row[0] for row in world.ledger("ledger_id", "trigger_id", "entry_status") if row[1:] == ("web:v12", "counts")
    ]
    at = datetime(2026, 3, 20, 4)
    world.operation(adjustment_id="x", account_id="acme", operation="void", points=0, void_of=key, occurred_at=at)
    world.touch("v14", "acme", "pricing_page_view", "2026-03-14T09:00")
    world.touch("v19", "acme", "pricing_page_view", "2026-03-19T09:00")
    world.refresh("2026-03-20T05:00")
    # Its week stays taken: it has fired, though it does not count. The cap leaves ten of twenty.
    assert counting(world) == [("acme", "web:v04", 20), ("acme", "web:v19", 10)]


def test_once_per_days__of_merged_accounts_is_one_accounts_and_parted_they_have_their_own_again(world: World) -> None:
    for name, day in (("a", 5), ("b", 8)):
        world.account(name)
        world.touch(f"v{name}", name, "pricing_page_view", f"2026-03-{day:02d}T09:00", known="2026-03-10T00:00")
    world.rule("weekly", WEEKLY)
    world.refresh("2026-03-01T00:00")
    apart = {"a": 20, "b": 20}
    assert world.refresh("2026-03-11T00:00") == apart
    world.con.execute("insert into staging.stg_crm__account_survivors values ('b', 'a')")
    world.con.execute("update intermediate.int_touchpoints set account_id = 'a'")
    assert world.refresh("2026-03-12T00:00") == {"a": 20}
    world.con.execute("delete from staging.stg_crm__account_survivors")
    world.con.execute("update intermediate.int_touchpoints set account_id = 'b' where touchpoint_id = 'vb'")
    assert world.refresh("2026-03-13T00:00") == apart
    assert world.refresh("2026-03-14T00:00") == apart


def test_once_per_days__of_a_state_counts_from_the_last_time(world: World) -> None:
    world.account("big", employees=500)
    world.rule("large", LARGE + "how_often: {once_per_days: 7}\n")
    balances = [world.refresh(f"2026-03-{day:02d}T10:00")["big"] for day in (4, 4, 5, 10, 11, 12, 17, 18)]
    assert balances == [10, 10, 10, 10, 20, 20, 20, 30]


@settings(max_examples=10, deadline=None)
@given(
    days=st.lists(st.integers(1, 28), min_size=1, max_size=12, unique=True),
    apart=st.integers(1, 9),
    seed=st.integers(0, 10_000),
    batch_count=st.integers(1, 4),
)
def test_once_per_days__fires_as_if_events_had_come_in_their_order(
    models: list[CompiledModel],
    tmp_path_factory: pytest.TempPathFactory,
    days: list[int],
    apart: int,
    seed: int,
    batch_count: int,
) -> None:
    expected: list[int] = []
    for day in sorted(days):
        if not expected or day >= expected[-1] + apart:
            expected.append(day)
    world = World(tmp_path_factory.mktemp("apart") / "world", models)
    world.account("acme")
    world.rule("weekly", WEEKLY.replace("7", str(apart)))
    world.refresh("2026-01-31T00:00")
    shuffled = list(days)
    random.Random(seed).shuffle(shuffled)
    for number in range(batch_count):
        for day in shuffled[number::batch_count]:
            world.touch(f"v{day:02d}", "acme", "pricing_page_view", f"2026-02-{day:02d}T09:00")
        world.refresh(f"2026-03-0{number + 1}T00:00")
    assert [event for _, event, _ in counting(world)] == [f"web:v{day:02d}" for day in expected]
    assert world.balances() == {"acme": 20 * len(expected)}
    before = world.ledger()
    world.refresh("2026-03-09T00:00")
    assert world.ledger() == before


def test_rule_that_is_wrong__is_refused_by_name_and_the_others_run(world: World) -> None:
    world.account("big", employees=500)
    world.rule("large", LARGE)
    world.rule("typo", LARGE.replace("employees", "emploees"))
    world.rule("kind", LARGE.replace("200", "many"))
    world.rule("key", LARGE.replace("points: 10", "point: 10"))
    assert world.refresh("2026-03-01T10:00") == {"big": 10}
    assert [refusal.path.name for refusal in world.refused] == ["key.yml", "kind.yml", "typo.yml"]
    text = "\n".join(reason for refusal in world.refused for reason in refusal.reasons)
    folder = world.workspace.rules
    assert (
        f"{folder}/typo.yml: conditions, rule 1: field 'emploees': there is no such field; did you mean employees?"
        in text
    )
    assert (
        f"{folder}/kind.yml: conditions, rule 1: field 'employees': the value must be a number (value: 'many')" in text
    )
    assert f"{folder}/key.yml:4: point" in text


def test_rule__with_an_event_has_no_age_and_without_one_no_delay(tmp_path: Path) -> None:
    path = tmp_path / "r.yml"
    path.write_text(
        FORM.replace('{field: form_name, operator: "=", value: contact}', '{field: days_ago, operator: "<", value: 3}')
    )
    with pytest.raises(UserError, match="days_ago"):
        read_rule(path, rule_catalogue())
    path.write_text(LARGE + "delay_days: 3\n")
    with pytest.raises(UserError, match="needs an `event`"):
        read_rule(path, rule_catalogue())


def test_example_rule__of_a_new_workspace_does_nothing_until_it_is_uncommented(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    create_workspace(workspace)
    example = workspace.rules / "example.yml"
    assert read_rules(workspace, rule_catalogue()) == ([], [])
    lines = example.read_text().splitlines()
    begin = next(number for number, line in enumerate(lines) if line.startswith("# title"))
    end = lines.index("#", begin)
    example.write_text("\n".join(line.removeprefix("# ") for line in lines[begin:end]))
    rules, refused = read_rules(workspace, rule_catalogue())
    assert refused == []
    assert [rule.rule_id for rule in rules] == ["example"]


# --------------------------------------------------------------------------- the fold


@st.composite
def histories(draw: st.DrawFn) -> list[dict[str, Any]]:
    """Operations on two accounts and a contact, some of which take others back."""
    entries: list[dict[str, Any]] = []
    for number in range(draw(st.integers(1, 14))):
        occurred = draw(MOMENTS)
        whose = draw(st.sampled_from([{"account_id": "a"}, {"account_id": "b"}, {"contact_id": "a"}]))
        operation = draw(st.sampled_from(["add", "add", "subtract", "set", "void"]))
        entry = {
            "adjustment_id": f"op{number:02d}",
            "account_id": None,
            "contact_id": None,
            "operation": operation,
            "points": 0 if operation == "void" else draw(st.integers(0, 100)),
            "occurred_at": occurred,
            "recorded_at": draw(st.none() | MOMENTS),
            "expires_at": draw(st.none() | MOMENTS),
            "void_of": None,
            **whose,
        }
        if operation == "void":
            if not entries:
                continue
            taken_back = draw(st.sampled_from(entries))
            subject = {name: taken_back[name] for name in ("account_id", "contact_id")}
            entry = {**entry, **subject, "void_of": taken_back["adjustment_id"], "expires_at": None}
        entries.append(entry)
    return entries


def folded_in_sql(
    world: World, entries: list[dict[str, Any]], at: datetime
) -> dict[tuple[Any, Any], list[tuple[Any, ...]]]:
    world.con.execute("delete from raw.scoring__adjustments")
    world.con.execute("delete from settings.refresh")
    world.con.execute("insert into settings.refresh values (?, ?)", [at, at.date()])
    for number, entry in enumerate(entries):
        world.operation(**entry, _arrived_at=START + timedelta(seconds=number))
    world.fold()
    found: dict[tuple[Any, Any], list[tuple[Any, ...]]] = {}
    for account, contact, *row in world.ledger(
        "account_id", "contact_id", "ledger_id", "entry_status", "points_applied", "balance_after"
    ):
        found.setdefault((account, contact), []).append(tuple(row))
    return found


def folded_in_python(entries: list[dict[str, Any]], at: datetime) -> dict[tuple[Any, Any], list[tuple[Any, ...]]]:
    subjects: dict[tuple[Any, Any], list[dict[str, Any]]] = {}
    for entry in entries:
        recorded = entry["recorded_at"] or entry["occurred_at"]
        row = {**entry, "ledger_id": entry["adjustment_id"], "recorded_at": recorded}
        subjects.setdefault((entry["account_id"], entry["contact_id"]), []).append(row)
    folds = {subject: fold(rows, at) for subject, rows in subjects.items()}
    return {
        subject: [(e.ledger_id, e.status, e.points_applied, e.balance_after) for e in folded]
        for subject, folded in folds.items()
        if folded
    }


@settings(max_examples=25, deadline=None)
@given(entries=histories(), at=MOMENTS)
def test_ledger__of_any_history_is_the_same_in_sql_and_in_python_at_any_moment(
    folding_world: World, entries: list[dict[str, Any]], at: datetime
) -> None:
    in_sql = folded_in_sql(folding_world, entries, at)
    assert in_sql == folded_in_python(entries, at)
    for rows in in_sql.values():
        assert sum(row[2] for row in rows) == rows[-1][3]


@settings(max_examples=10, deadline=None)
@given(entries=histories(), seed=st.integers(0, 1000))
def test_ledger__does_not_depend_on_the_order_of_arrival(
    folding_world: World, entries: list[dict[str, Any]], seed: int
) -> None:
    at = START + timedelta(hours=24)
    expected = folded_in_sql(folding_world, entries, at)
    shuffled = list(entries)
    random.Random(seed).shuffle(shuffled)
    assert folded_in_sql(folding_world, shuffled, at) == expected


def test_fold__an_expired_set_gives_back_what_was_before_it() -> None:
    entries = [
        {"ledger_id": "1", "operation": "add", "points": 10, "occurred_at": START, "recorded_at": START, "expires_at": None, "void_of": None},
        {"ledger_id": "2", "operation": "set", "points": 100, "occurred_at": START + timedelta(days=1), "recorded_at": START + timedelta(days=1), "expires_at": START + timedelta(days=3), "void_of": None},
        {"ledger_id": "3", "operation": "add", "points": 5, "occurred_at": START + timedelta(days=2), "recorded_at": START + timedelta(days=2), "expires_at": None, "void_of": None},
    ]  # fmt: skip
    balances = [fold(entries, START + timedelta(days=day, hours=1))[-1].balance_after for day in range(4)]
    assert balances == [10, 100, 105, 15]


def test_land_adjustment__needs_a_reason_and_time_to_count(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path)
    with pytest.raises(UserError, match="needs a note"):
        land_adjustment(workspace, account_id="a", operation="add", points=1, note=" ", author="x")
    with pytest.raises(UserError, match="moment to come"):
        land_adjustment(
            workspace, account_id="a", operation="add", points=1, note="n", author="x", expires_at=datetime(2020, 1, 1)
        )
    assert not workspace.landing.exists()
