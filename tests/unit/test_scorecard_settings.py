"""scorecard.yml: what is accepted, what is refused and in which words, and what a criterion's key depends on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from orchestration.lib.contracts import load_contracts
from orchestration.lib.scorecard_settings import (
    CATEGORY_ATTRIBUTES,
    CELLS,
    NUMBER_ATTRIBUTES,
    Criterion,
    ScorecardSettings,
    criterion_key,
    fitted_criteria,
    protected_criteria,
    read_scorecard_settings,
)
from orchestration.lib.settings_file import SettingsError
from orchestration.lib.signals import known_signals
from orchestration.lib.workspace import PROJECT_ROOT, SOURCE_CONTRACTS
from tests.conventions.project import MODELS

SIGNALS = {"page_view", "pricing_page_view", "email_clicked"}
Read = Callable[..., ScorecardSettings]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    """Read settings that are whole but for what the test changes."""

    def read_changed(criteria: dict[str, Any] | None = None, **changes: Any) -> ScorecardSettings:
        document: dict[str, Any] = {
            "version": 1,
            "currency": "EUR",
            "matrix": {"next_actions": {"sales": list(CELLS)}},
            "criteria": {"employees": {"kind": "explicit", "attribute": "employees"}} if criteria is None else criteria,
            **changes,
        }
        path = tmp_path / "scorecard.yml"
        path.write_text(yaml.safe_dump(document, sort_keys=False), encoding="utf-8")
        return read_scorecard_settings(path, SIGNALS)

    return read_changed


@pytest.mark.parametrize(
    "path",
    [
        PROJECT_ROOT / "orchestration" / "templates" / "scorecard.yml",
        PROJECT_ROOT / "docs" / "examples" / "maven_crm" / "scorecard.yml",
    ],
    ids=lambda path: path.parent.name,
)
def test_settings_that_we_ship__are_valid(path: Path) -> None:
    settings = read_scorecard_settings(path, known_signals(load_contracts(SOURCE_CONTRACTS)))
    assert len(settings.criteria) >= 3


def test_defaults__are_those_of_the_template(read: Read) -> None:
    settings = read()
    assert (settings.beliefs.deals, settings.beliefs.base_win_rate) == (40, 0.25)
    assert settings.states.customer_when == ["flag"]
    assert settings.publish_history == 5
    assert settings.criteria["employees"].bands == "auto"


def test_protected_criteria__are_those_on_a_protected_attribute(read: Read) -> None:
    criteria = {
        "old": {"kind": "explicit", "attribute": "custom.Age"},
        "gender": {"kind": "explicit", "attribute": "custom.g", "type": "category"},
        "company_age": {"kind": "explicit", "attribute": "custom.company_age"},
        "employees": {"kind": "explicit", "attribute": "employees"},
    }
    settings = read(criteria)
    assert protected_criteria(settings) == ("old", "gender")
    assert list(fitted_criteria(settings)) == ["company_age", "employees"]
    allowed = read(criteria, protected={"use": True})
    assert protected_criteria(allowed) == ("old", "gender"), "the report shows them when they are used"
    assert list(fitted_criteria(allowed)) == list(criteria)
    own = read(criteria, protected={"attributes": ["company age"]})
    assert protected_criteria(own) == ("company_age",)
    with pytest.raises(SettingsError, match="on a protected attribute and is left out of the fit"):
        read(criteria, segments={"by": "gender"})


def test_label__has_one_definition_whatever_the_order_and_spelling_of_its_words(read: Read) -> None:
    first = read(label={"exclude_deal_types": ["Renewal ", "upsell"], "since": "2026-01-01"}).label.definition()
    second = read(label={"exclude_deal_types": ["upsell", "renewal"], "since": "2026-01-01"}).label.definition()
    assert first == second
    assert json.loads(json.dumps(first)) == first
    assert read(label={"within_days": 30}).label.definition() == read().label.definition(), "deal_won has no such time"
    target = {"target": "account_wins"}
    assert read(label={**target, "within_days": 30}).label.definition() != read(label=target).label.definition()


def explicit(**changes: Any) -> dict[str, Any]:
    return {"it": {"kind": "explicit", "attribute": "employees", **changes}}


def implicit(**changes: Any) -> dict[str, Any]:
    return {"it": {"kind": "implicit", "signals": ["page_view"], **changes}}


@pytest.mark.parametrize(
    ("criteria", "rule"),
    [
        ({"it": {"kind": "explicit"}}, "an explicit criterion needs `attribute`"),
        ({"it": {"kind": "implicit"}}, "an implicit criterion needs `signals`"),
        (explicit(half_life_days=30), "`half_life_days` is for implicit criteria only"),
        (implicit(attribute="employees"), "`attribute` is for explicit criteria only"),
        (implicit(type="category"), "an implicit criterion is a number"),
        (
            implicit(measure="days_since_last", half_life_days=3),
            "has neither half-life, decay, caps, floor nor ceiling",
        ),
        (implicit(measure="days_since_last", ceiling=3), "has neither half-life, decay, caps, floor nor ceiling"),
        (implicit(half_life_days=3, decay="linear", window_days=9), "two ways to fade"),
        (implicit(decay="linear"), "ends at `window_days`, which is missing"),
        (implicit(decay={30: 0.2, 60: 0.5}), "must not grow with age in `decay` (value: {30: 0.2, 60: 0.5})"),
        (implicit(decay={30: 1.5}), "less than or equal to 1"),
        (implicit(floor=5, ceiling=4), "`floor` must not be above `ceiling` (value: 5 > 4)"),
        (explicit(decay="linear"), "`decay` is for implicit criteria only"),
        (implicit(half_life_days=0), "greater than or equal to 1"),
        (implicit(cap_per_day=0.0001), "greater than or equal to 0.001"),
        (implicit(signals={"page_view": 0}), "greater than or equal to 0.001"),
        (explicit(attribute="employes"), "did you mean 'employees'?"),
        (explicit(attribute="custom."), "not an attribute of an account"),
        (explicit(attribute="industry"), "the attribute is a category: write `type: category`"),
        (explicit(type="category"), "the attribute is a number: write `type: number`"),
        (implicit(signals=["page_vew"]), "no contract records this signal; did you mean 'page_view'?"),
        (explicit(attribute="industry", type="category", monotone="increasing"), "`monotone` is for numbers only"),
        (explicit(bands=[]), "`bands` is empty"),
        (explicit(bands=[{"below": 5}]), "the last band, and only it, must be the rest"),
        (explicit(bands=[{"points": 1}, {"below": 5}]), "the last band, and only it, must be the rest"),
        (explicit(bands=[{"below": 5}, {"points": 1}, {}]), "the last band, and only it, must be the rest"),
        (explicit(bands=[{"below": 5}, {"below": 5}, {}]), "must rise (value: [5.0, 5.0])"),
        (explicit(bands=[{"values": ["a"]}, {}]), "ranges of numbers are written with `below`"),
        (explicit(bands=[{"below": 5, "values": ["a"]}, {}]), "either `below` or `values`, not both"),
        (explicit(bands=[{"below": float("inf")}, {}]), "finite number"),
        (explicit(bands=[{"below": 5, "points": 2.5}, {}]), "valid integer (value: 2.5)"),
        (explicit(bands=[{"below": 5, "points": 2000}, {}]), "less than or equal to 1000 (value: 2000)"),
        (
            explicit(attribute="industry", type="category", bands=[{"values": ["a", " A"]}, {}]),
            "the category stands in two bands (value: 'a')",
        ),
        (
            explicit(attribute="industry", type="category", bands=[{"values": []}, {}]),
            "must name at least one category",
        ),
        (explicit(attribute="industry", type="category", bands=[{"below": 1}, {}]), "`below` is for numbers"),
        ({"It": {"kind": "explicit", "attribute": "employees"}}, "criteria.It"),
    ],
)
def test_criterion__that_makes_no_sense_is_refused_with_the_reason(
    read: Read, criteria: dict[str, Any], rule: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        read(criteria)
    assert len(caught.value.problems) == 1, caught.value
    assert rule in str(caught.value)
    assert "scorecard.yml:" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"currency": "eur"}, "currency"),
        ({"forecast": {"segment_by": "employees"}}, "forecast.segment_by: not a category of an account"),
        ({"segments": {"by": "region"}}, "not a criterion of this file (value: 'region')"),
        ({"segments": {"by": "employees"}}, "segments are made by a category, not by a number"),
        ({"holdout": {"share_pct": 10}}, "a holdout needs `since`"),
        ({"holdout": {"share_pct": 95, "since": "2026-01-01"}}, "less than or equal to 90"),
        ({"health": {"psi": {"warn": 2, "fail": 1}}}, "`warn` must not be above `fail` (value: 2 > 1)"),
        (
            {"label": {"stages": {"won": ["Live"], "lost": ["live "]}}},
            "a stage is won or lost, not both (value: 'live')",
        ),
        ({"label": {"reopened": "last"}}, "'newest' or 'first' (value: 'last')"),
        ({"effort": {"order_of_work": "random"}}, "'newest_first', 'oldest_first' or 'largest_first'"),
        ({"pairs": {"most": 21}}, "less than or equal to 20"),
        ({"protected": {"attributes": ["employees"]}}, "nothing is left to learn from"),
        ({"publish_history": 1}, "greater than or equal to 2"),
        ({"criteria": {}}, "at least 1 item"),
        ({"version": 2}, "input should be 1 (value: 2)"),
        ({"beliefs": {"base_win_rate": 1}}, "less than 1"),
        ({"states": {"customer_when": ["always"]}}, "'flag' or 'won_deal'"),
        ({"matrix": {"next_actions": {"sales": list(CELLS[:-1])}}}, "missing: D4"),
        ({"matrix": {"next_actions": {"sales": [*CELLS, "A1"]}}}, "the cell has two actions (value: 'A1')"),
        (
            {"matrix": {"next_actions": {"sales": [*CELLS, "E1"]}}},
            "a cell is a grade A-D and a level 1-4 (value: 'E1')",
        ),
    ],
)
def test_settings__that_make_no_sense_are_refused(read: Read, changes: dict[str, Any], rule: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read(**changes)
    assert rule in str(caught.value)


@pytest.mark.parametrize(
    ("limits", "rule"),
    [
        ({"method": "shares", "A": 50, "B": 30, "C": 21}, "must not add up to more than 100"),
        ({"method": "shares", "A": -1, "B": 30, "C": 21}, "must not add up to more than 100"),
        ({"method": "points", "A": 10, "B": 10, "C": 0}, "must fall from the best to the worst"),
    ],
)
def test_matrix__limits_must_be_in_order(read: Read, limits: dict[str, Any], rule: str) -> None:
    with pytest.raises(SettingsError, match=rule):
        read(matrix={"fit_grades": limits, "next_actions": {"sales": list(CELLS)}})


def test_matrix__levels_may_be_written_as_numbers(read: Read) -> None:
    levels = {"method": "points", 1: 30, 2: 20, 3: -5}
    settings = read(matrix={"engagement_levels": levels, "next_actions": {"sales": list(CELLS)}})
    found = settings.matrix.engagement_levels
    assert (found.level_1, found.level_2, found.level_3) == (30, 20, -5)


def test_all_problems__are_told_at_once_each_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "scorecard.yml"
    path.write_text(
        "version: 1\ncurrency: EUR\nmatrix:\n  next_actions:\n"
        f"    sales: [{', '.join(CELLS)}]\n"
        "criteria:\n"
        "  a:\n    kind: implicit\n    signals:\n      - email_clickd\n"
        "  b:\n    kind: explicit\n    attribute: industri\n    type: category\n",
        encoding="utf-8",
    )
    with pytest.raises(SettingsError) as caught:
        read_scorecard_settings(path, SIGNALS)
    assert [text.split(": ")[0] for text in caught.value.problems] == [f"{path}:9", f"{path}:13"]


def test_attributes__are_those_that_the_warehouse_makes() -> None:
    """The names here and in int_account_attributes must be the same, or a criterion would silently have no value."""
    sql = (MODELS / "intermediate" / "accounts" / "int_account_attributes.sql").read_text("utf-8")
    for name in (*NUMBER_ATTRIBUTES, *CATEGORY_ATTRIBUTES):
        assert f"'{name}'" in sql, name


def test_key__changes_with_the_definition_and_with_nothing_else() -> None:
    def key(**changes: Any) -> str:
        criterion = Criterion.model_validate(
            {"kind": "implicit", "signals": ["a", "b"], "half_life_days": 30, **changes}
        )
        return criterion_key("it", criterion.definition())

    assert key() == key(signals={"b": 1, "a": 1.0})
    assert key() == key(bands=[{"below": 1, "points": -5}, {"points": 5}], missing=3, monotone="increasing")
    assert key() == key(description="in other words")
    others = [
        key(signals=["a"]),
        key(half_life_days=31),
        key(window_days=90),
        key(cap_per_day=1),
        key(cap_per_person=1),
        key(ceiling=1),
        key(floor=1),
        key(half_life_days=None, decay={30: 0.5}),
        key(half_life_days=None, decay="linear", window_days=30),
    ]
    assert len({key(), *others}) == 10
    assert key().startswith("it@")


def test_key__is_the_same_in_every_process_and_version() -> None:
    """Keys stand in landed cards: if this one changed, every card in use would lose its features."""
    criterion = Criterion.model_validate({"kind": "explicit", "attribute": "employees"})
    assert criterion_key("employees", criterion.definition()) == "employees@801c0092"


def test_key__of_behaviour_changes_with_roles_and_hierarchy_and_with_no_other_word_of_them(read: Read) -> None:
    criteria = {
        "views": {"kind": "implicit", "signals": ["page_view"]},
        "last": {"kind": "implicit", "signals": ["page_view"], "measure": "days_since_last"},
        "employees": {"kind": "explicit", "attribute": "employees"},
        "breadth": {"kind": "explicit", "attribute": "engaged_person_count"},
    }

    def keys(**changes: Any) -> dict[str, str]:
        settings = read(criteria, **changes)
        return {name: criterion_key(name, settings.definition_of(name)) for name in criteria}

    def weights(**fields: dict[str, float]) -> dict[str, str]:
        return keys(people={"role_weights": fields})

    plain = keys()
    assert plain == {name: criterion_key(name, read(criteria).criteria[name].definition()) for name in criteria}
    assert weights(functions={"it": 1}) == plain == keys(hierarchy={"roll_up": False}), (
        "what is not set leaves keys as they were"
    )
    rolled = keys(hierarchy={"roll_up": True})
    assert {name for name in criteria if rolled[name] != plain[name]} == {"views", "last", "breadth"}
    weighed = weights(functions={"it": 0.5})
    assert {name for name in criteria if weighed[name] != plain[name]} == {"views"}, "when somebody came weighs nothing"
    assert weighed == weights(functions={" IT": 0.5, "sales": 1.0}, seniorities={"head": 1})
    different = [
        weighed,
        weights(functions={"it": 0.501}),
        weights(seniorities={"it": 0.5}),
        weights(functions={"it": 0}),
    ]
    assert len({plain["views"], rolled["views"], *(other["views"] for other in different)}) == 6


def test_people__of_near_functions_have_a_share_of_the_points(read: Read) -> None:
    people = {
        "functions": {"Purchasing": 10, "it": -3},
        "near_functions": {"Finance ": {"to": "purchasing", "share_pct": 25}},
        "seniorities": {"c_level": 7},
    }
    assert read(people=people).people.points() == [
        ("job_function", "purchasing", 10),
        ("job_function", "it", -3),
        ("job_function", "finance", 3),
        ("seniority", "c_level", 7),
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"people": {"near_functions": {"hr": {"to": "sales", "share_pct": 50}}}}, "must be one of `functions`"),
        ({"people": {"engaged_by": ["page_vew"]}}, "did you mean 'page_view'"),
        ({"people": {"role_weights": {"functions": {"it": 11}}}}, "less than or equal to 10"),
        ({"people": {"role_weights": {"functions": {"it": -1}}}}, "greater than or equal to 0"),
        ({"people": {"role_weights": {"seniorities": {"head": 0.0004}}}}, "kept in thousandths"),
        ({"people": {"role_weights": {"functions": {"it": 1, "IT": 2}}}}, "stands here twice"),
        ({"hierarchy": {"roll_up": "yes"}}, "hierarchy.roll_up"),
        ({"handoff": {"action": "sale"}}, "did you mean 'sales'"),
        (
            {"matrix": {"next_actions": {"sales": list(CELLS)}, "capacity": {"action": "call", "accounts": 9}}},
            "no cell has this action",
        ),
        (
            {
                "matrix": {
                    "next_actions": {"sales": list(CELLS)},
                    "capacity": {"action": "sales", "accounts": 9},
                    "fit_grades": {"method": "points", "A": 9, "B": 5, "C": 1},
                }
            },
            "capacity scales shares",
        ),
    ],
)
def test_settings__of_people_handoff_and_capacity_name_what_exists(
    read: Read, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(SettingsError, match=words):
        read(**changes)
