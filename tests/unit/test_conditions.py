"""Conditions: what a query builder emits finds whom it should, a hostile value stays a value, and errors name what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlglot import exp

from orchestration.lib.conditions import (
    DIALECT,
    RELATIONS,
    Catalogue,
    ConditionError,
    attributes_of,
    check_condition,
    compile_condition,
    condition_catalogue,
    contact_catalogue,
    contacts_now,
    expression_of,
    select_accounts,
)
from orchestration.lib.contracts import load_contracts
from orchestration.lib.scorecard_settings import CATEGORY_ATTRIBUTES, NUMBER_ATTRIBUTES
from orchestration.lib.workspace import SOURCE_CONTRACTS
from tests.conventions.project import models

NOW = datetime(2026, 6, 30, 12)
ALL = {"acme", "bolt", "core"}


@pytest.fixture(scope="module")
def catalogue() -> Catalogue:
    def large(least: int) -> dict[str, Any]:
        return {"combinator": "and", "rules": [{"field": "employees", "operator": ">=", "value": least}]}

    return condition_catalogue(
        load_contracts(SOURCE_CONTRACTS),
        segments={
            "large": large(200),
            "busy": {
                "rules": [
                    {
                        "field": "touchpoints.pricing_page_view",
                        "operator": "happened",
                        "value": {"within_days": 30, "at_least": 2},
                    }
                ]
            },
            "a circle": {"rules": [{"field": "segment", "operator": "=", "value": "a circle"}]},
        },
    )


@pytest.fixture(scope="module")
def con() -> Iterator[duckdb.DuckDBPyConnection]:
    """acme is large, in software and busy; bolt is small and silent; of core nothing is known but its name."""
    with duckdb.connect(":memory:") as con:
        for schema in ("intermediate", "staging", "settings"):
            con.execute(f"create schema {schema}")
        for name, columns in RELATIONS.items():
            con.execute(f"create table {name} ({columns})")
        con.execute("create table settings.refresh as select timestamp '2026-06-30 12:00' as as_of_at")

        def add(name: str, *rows: tuple[Any, ...]) -> None:
            for row in rows:
                con.execute(f"insert into {name} values ({', '.join('?' * len(row))})", list(row))

        created = datetime(2026, 6, 1)
        add(
            "intermediate.int_accounts",
            ("acme", "Acme 100% GmbH", "acme.de", datetime(2024, 1, 1), 2, False),
            ("bolt", "Bolt_Systems", "bolt.com", created, 0, True),
            ("core", "Core", None, None, 0, False),
        )
        always = (datetime(1900, 1, 1), datetime(9999, 12, 31))
        add(
            "intermediate.int_account_attributes",
            ("acme", "industry", "software", None, *always),
            ("acme", "employees", "500", 500_000_000, *always),
            ("bolt", "industry", "metal works", None, datetime(1900, 1, 1), datetime(2026, 6, 1)),
            ("bolt", "industry", "logistics", None, datetime(2026, 6, 1), datetime(9999, 12, 31)),
            ("bolt", "employees", "20", 20_000_000, *always),
            ("acme", "custom.erp", "sap", None, *always),
            ("bolt", "custom.erp", "12.5", 12_500_000, *always),
        )
        add("intermediate.int_accounts__states", ("acme", "scored"), ("bolt", "customer"), ("core", "no data"))
        add("intermediate.int_accounts__scored", ("acme", 40, -5, 35, "A", "3", "A3", 0.31))
        add("intermediate.int_spine__contacts", ("ada", "acme"), ("bob", "acme"), ("cyd", "bolt"))
        add(
            "intermediate.int_contacts",
            ("ada", "Chief Buyer", "purchasing", "c_level", False),
            ("bob", "Engineer", "it", "staff", True),
            ("cyd", None, "it", "vp", False),
            ("dan", None, None, None, False),
        )
        add(
            "intermediate.int_touchpoints",
            ("web", "1", "pricing_page_view", datetime(2026, 6, 29), datetime(2026, 6, 29), "ada", "acme", None),
            ("web", "2", "pricing_page_view", datetime(2026, 6, 10), datetime(2026, 6, 10), "bob", "acme", None),
            ("web", "3", "form_submission", datetime(2026, 1, 1), datetime(2026, 1, 1), "bob", "acme", "c1"),
            ("email", "3", "email_clicked", datetime(2026, 5, 1), datetime(2026, 5, 1), "cyd", "bolt", "c1"),
            ("web", "4", "download", datetime(2026, 6, 1), datetime(2026, 7, 1), "cyd", "bolt", None),
        )
        add("staging.stg_web__events", ("3", "/x", "contact", None))
        yield con


def found(con: duckdb.DuckDBPyConnection, catalogue: Catalogue, *rules: Any, **group: Any) -> set[str]:
    condition = compile_condition({"combinator": "and", "rules": list(rules), **group}, catalogue)
    return {name for (name,) in con.execute(select_accounts(condition).sql(dialect=DIALECT)).fetchall()}


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("industry", "=", "Software", {"acme"}),
        ("industry", "!=", "software", {"bolt"}),  # a missing value fulfils no comparison
        ("industry", "in", "software, logistics", {"acme", "bolt"}),
        ("industry", "notIn", ["software"], {"bolt"}),
        ("industry", "=", "metal works", set()),  # it was, until June
        ("industry", "null", None, {"core"}),
        ("industry", "notNull", None, {"acme", "bolt"}),
        ("employees", ">=", "200", {"acme"}),
        ("employees", "<", 20.5, {"bolt"}),
        ("employees", "between", "20,500", {"acme", "bolt"}),
        ("employees", "notBetween", [0, 20], {"acme"}),
        ("employees", "in", [20, 21], {"bolt"}),
        ("account_name", "contains", "100%", {"acme"}),
        ("account_name", "contains", "_", {"bolt"}),
        ("account_name", "beginsWith", "bolt", {"bolt"}),
        ("account_name", "doesNotBeginWith", "bolt", {"acme", "core"}),
        ("account_name", "endsWith", "systems", {"bolt"}),
        ("domain", "doesNotContain", "acme", {"bolt"}),
        ("domain", "doesNotEndWith", ".com", {"acme"}),
        ("domain", "matches", r"^\w+\.de$", {"acme"}),
        ("created_at", ">=", "2026-06-01", {"bolt"}),
        ("created_at", "<", datetime(2026, 6, 1), {"acme"}),
        ("account_age_days", "<", 30, {"bolt"}),
        ("account_age_days", ">", 365, {"acme"}),
        ("account_age_days", "between", [20, 40], {"bolt"}),
        ("is_holdout", "=", True, {"bolt"}),
        ("won_deal_count", ">", 1, {"acme"}),
        ("state", "in", ["customer", "no data"], {"bolt", "core"}),
        ("cell", "=", "a3", {"acme"}),
        ("engagement_points", "<", 0, {"acme"}),
        ("engagement_points", "=", -5, {"acme"}),
        ("win_probability", ">", 0.3, {"acme"}),
        ("custom.erp", "=", "SAP", {"acme"}),
        ("custom.erp", ">", 12, {"bolt"}),
        ("contacts.seniority", "=", "c_level", {"acme"}),
        ("contacts.job_title", "matches", "chief", {"acme"}),
        ("touchpoints.pricing_page_view", "happened", 30, {"acme"}),
        ("touchpoints.pricing_page_view", "happened", {"within_days": 30, "at_least": 2}, {"acme"}),
        ("touchpoints.pricing_page_view", "happened", {"within_days": 10, "at_least": 2}, set()),
        ("touchpoints.pricing_page_view", "notHappened", {"within_days": 10, "at_least": 2}, ALL),
        ("touchpoints.form_submission", "notHappened", 30, ALL),
        ("touchpoints.form_submission", "happened", None, {"acme"}),
        ("touchpoints.download", "happened", 90, set()),  # known only tomorrow
        ("touchpoints.form_name", "=", "contact", {"acme"}),  # the email with the same key is no form
        ("segment", "=", "large", {"acme"}),
        ("segment", "!=", "large", {"bolt", "core"}),
    ],
)
def test_rule__finds_whom_it_should(
    con: duckdb.DuckDBPyConnection, catalogue: Catalogue, field: str, operator: str, value: Any, expected: set[str]
) -> None:
    assert found(con, catalogue, {"field": field, "operator": operator, "value": value}) == expected
    inverted = found(con, catalogue, {"field": field, "operator": operator, "value": value}, **{"not": True})
    assert inverted == ALL - expected, "every condition is true or false, never neither"


@pytest.mark.parametrize(
    ("field", "operator", "value", "expected"),
    [
        ("contact.seniority", "=", "c_level", {"ada"}),
        ("contact.job_title", "null", None, {"cyd", "dan"}),
        ("contact.is_unsubscribed", "=", True, {"bob"}),
        ("contacts.seniority", "=", "c_level", {"ada", "bob"}),  # somebody of the person's account
        ("touchpoints.form_submission", "happened", None, {"bob"}),  # the person's own
        ("touchpoints.pricing_page_view", "happened", {"within_days": 30, "at_least": 2}, set()),
        ("segment", "=", "busy", {"ada", "bob"}),  # but a segment is of accounts
        ("employees", "<", 100, {"cyd"}),
        ("employees", "null", None, {"dan"}),  # of no account
        ("cell", "=", "A3", {"ada", "bob"}),
    ],
)
def test_contact_rule__asks_the_person_and_of_the_account_the_rest(
    con: duckdb.DuckDBPyConnection, catalogue: Catalogue, field: str, operator: str, value: Any, expected: set[str]
) -> None:
    document = {"rules": [{"field": field, "operator": operator, "value": value}]}
    condition = expression_of(check_condition(document, contact_catalogue(catalogue)))
    source: Any = contacts_now()
    query = exp.select("subject.contact_id").from_(source).where(condition)
    assert {name for (name,) in con.execute(query.sql(dialect=DIALECT)).fetchall()} == expected


def test_account_rule__has_no_person_of_its_own(catalogue: Catalogue) -> None:
    with pytest.raises(
        ConditionError, match=r"'contact.seniority': there is no such field; did you mean contacts.seniority"
    ):
        check_condition({"rules": [{"field": "contact.seniority", "operator": "=", "value": "vp"}]}, catalogue)


@pytest.mark.parametrize(
    ("mode", "threshold", "expected"),
    [
        ("some", None, {"acme", "bolt"}),
        ("none", None, {"core"}),
        ("all", None, {"bolt", "core"}),
        ("atLeast", 2, set()),
        ("atMost", 0, {"core"}),
        ("exactly", 1, {"acme", "bolt"}),
    ],
)
def test_match__counts_the_contacts_that_fulfil_the_group_together(
    con: duckdb.DuckDBPyConnection, catalogue: Catalogue, mode: str, threshold: int | None, expected: set[str]
) -> None:
    person = {"combinator": "and", "rules": [{"field": "job_function", "operator": "=", "value": "it"}]}
    match = {"mode": mode} | ({"threshold": threshold} if threshold is not None else {})
    assert found(con, catalogue, {"field": "contacts", "match": match, "value": person}) == expected


def test_groups__nest_with_and_or_and_not(con: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
    small = {"field": "employees", "operator": "<", "value": 100}
    chief = {"field": "contacts.seniority", "operator": "=", "value": "c_level", "id": "0.1", "valueSource": "value"}
    unknown = {"not": True, "rules": [{"field": "employees", "operator": "notNull"}]}
    assert found(con, catalogue, small, chief, combinator="or") == {"acme", "bolt"}
    assert found(con, catalogue, small, chief) == set()
    assert found(con, catalogue, {"combinator": "or", "rules": [unknown, {"combinator": "and", "rules": [small]}]}) == {
        "bolt",
        "core",
    }


def test_moment__hides_what_happened_or_was_known_later(con: duckdb.DuckDBPyConnection, catalogue: Catalogue) -> None:
    condition = compile_condition(
        {"rules": [{"field": "touchpoints.pricing_page_view", "operator": "happened", "value": 30}]}, catalogue
    )

    def holds(moment: str, known: str) -> bool:
        subject = f"(select 'acme' as account_id, timestamp '{moment}' as moment_at, timestamp '{known}' as known_at) as subject"
        return con.execute(f"select {condition.sql(dialect=DIALECT)} from {subject}").fetchall()[0][0]

    assert holds("2026-06-10", "2026-06-30")
    assert not holds("2026-06-09", "2026-06-30")
    assert not holds("2026-06-10", "2026-06-09")
    assert not holds("2026-08-01", "2026-08-01")


@settings(max_examples=60, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1, max_size=40) | st.sampled_from(["'", "''; drop table intermediate.int_accounts; --", "\\", "\\'", "%", "_", "{{ x }}", "$1", "?", "/* */", '"', "\n"]))  # fmt: skip
def test_value__of_any_letters_stays_a_value(con: duckdb.DuckDBPyConnection, catalogue: Catalogue, text: str) -> None:
    con.execute("begin")
    con.execute("update intermediate.int_accounts set account_name = ? where account_id = 'core'", [text])
    try:
        for operator in ("=", "contains", "beginsWith", "endsWith"):
            assert "core" in found(con, catalogue, {"field": "account_name", "operator": operator, "value": text})
        assert "core" not in found(con, catalogue, {"field": "account_name", "operator": "!=", "value": text})
        assert found(
            con, catalogue, {"field": "account_name", "operator": "in", "value": [text, "Acme 100% GmbH"]}
        ) == {"acme", "core"}
    finally:
        con.execute("rollback")


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ({"field": "emploees", "operator": "=", "value": 1}, "field 'emploees': there is no such field; did you mean employees?"),
        ({"field": "employees", "operator": "contains", "value": "1"}, "the operator must be one of .* as it is a number"),
        ({"field": "industry", "operator": "begins", "value": "1"}, "did you mean beginsWith"),
        ({"field": "employees", "operator": ">", "value": "many"}, r"must be a number \(value: 'many'\)"),
        ({"field": "employees", "operator": ">", "value": True}, "must be a number"),
        ({"field": "employees", "operator": ">", "value": "1e400"}, "must be a number"),
        ({"field": "created_at", "operator": ">", "value": "soon"}, "must be a date or time"),
        ({"field": "employees", "operator": "between", "value": [1]}, "between needs two values"),
        ({"field": "employees", "operator": "in", "value": []}, "in needs a list of values"),
        ({"field": "cell", "operator": "=", "value": "E1"}, "must be one of A1, A2"),
        ({"field": "account_name", "operator": "=", "value": "a\x00b"}, "must be text"),
        ({"field": "account_name", "operator": "matches", "value": "("}, "not a regular expression: missing"),
        ({"field": "industry", "operator": "=", "value": "region", "valueSource": "field"}, "comparing two fields"),
        ({"field": "contacts.job_titel", "operator": "=", "value": "x"}, "did you mean contacts.job_title"),
        ({"field": "contacts", "match": {"mode": "most"}, "value": {"rules": []}}, "match.mode must be one of"),
        ({"field": "touchpoints", "match": {"mode": "atLeast", "threshold": 0.5}, "value": {}}, "threshold of atLeast must be a whole"),
        ({"field": "touchpoints.pricing_view", "operator": "happened", "value": 3}, "no such signal; did you mean pricing_page_view"),
        ({"field": "touchpoints.download", "operator": "=", "value": 3}, "must be happened or notHappened"),
        ({"field": "touchpoints.download", "operator": "happened", "value": {"days": 3}}, "but no days"),
        ({"field": "segment", "operator": "=", "value": "larg"}, "no such segment; did you mean large"),
        ({"field": "segment", "operator": "=", "value": "a circle"}, "ask for each other in a circle"),
        ({"combinator": "xor", "rules": [1]}, "combinator must be and, or or"),
        ({"rules": []}, "an empty group would hold for everybody"),
        ("and", "must be a rule with field, operator and value"),
    ],
)  # fmt: skip
def test_error__names_place_field_rule_and_value(catalogue: Catalogue, rule: Any, complaint: str) -> None:
    with pytest.raises(ConditionError, match=complaint) as error:
        compile_condition({"rules": [{"field": "state", "operator": "=", "value": "scored"}, rule]}, catalogue)
    assert str(error.value).startswith(("conditions, rule 2", "segment a circle, rule 1"))
    assert len(error.value.problems) == 1


def test_errors__are_told_all_at_once(catalogue: Catalogue) -> None:
    with pytest.raises(ConditionError) as error:
        compile_condition({"rules": [{"field": "x"}, {"field": "employees", "operator": "~"}]}, catalogue)
    assert len(error.value.problems) == 2


def test_attributes__that_a_condition_asks_are_named(catalogue: Catalogue) -> None:
    rules = [{"field": "segment", "operator": "=", "value": "large"}, {"field": "custom.erp", "operator": "null"}, {"field": "cell", "operator": "null"}]  # fmt: skip
    assert attributes_of(check_condition({"rules": rules}, catalogue)) == {"employees", "custom.erp"}


def test_catalogue__has_the_types_of_the_contract_and_the_columns_of_the_models(catalogue: Catalogue) -> None:
    accounts = load_contracts(SOURCE_CONTRACTS)["crm__accounts"]
    for name in (*NUMBER_ATTRIBUTES, *CATEGORY_ATTRIBUTES):
        if name in accounts.column_names:
            is_number = accounts.property_named(name).logical_type in ("integer", "number")
            assert is_number == (catalogue.fields[name].type == "micro"), name
    assert {name.split(".")[1] for name in RELATIONS} <= set(models())
    rows = catalogue.describe()
    assert len({row["name"] for row in rows}) == len(rows)
    depended = models()["int_rules__matches"].path.read_text("utf-8")
    for name in RELATIONS:
        assert f"ref('{name.split('.')[1]}')" in depended, f"{name} must be built before the rules are matched"
