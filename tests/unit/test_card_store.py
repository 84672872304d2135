"""Versions of the scorecard: immutable, at most one active, and every change of state is a landed decision."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.lib.card_store import (
    ACTIVATIONS,
    SCORECARDS,
    SETTINGS,
    active_card,
    decisions,
    save_card,
    save_settings_copy,
    set_state,
    shadow_cards,
    stored_cards,
    version_before_active,
)
from orchestration.lib.documents import landed_documents
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def states(workspace: Workspace) -> dict[str, str]:
    return {card.version: card.state for card in stored_cards(workspace)}


def activate(workspace: Workspace, version: str) -> None:
    set_state(workspace, version, "active", author="ada", note="better on later deals")


def test_versions__are_numbered_in_the_order_of_landing_and_start_as_drafts(workspace: Workspace) -> None:
    assert active_card(workspace) is None
    assert stored_cards(workspace) == []
    assert [save_card(workspace, {"note": text}) for text in "abc"] == ["v1", "v2", "v3"]
    assert states(workspace) == {"v1": "draft", "v2": "draft", "v3": "draft"}
    assert [card.document["note"] for card in stored_cards(workspace)] == ["a", "b", "c"]
    assert active_card(workspace) is None


def test_activation__retires_the_one_before_and_a_rollback_brings_it_back(workspace: Workspace) -> None:
    for note in "abc":
        save_card(workspace, {"note": note})
    activate(workspace, "v1")
    activate(workspace, "v2")
    assert states(workspace) == {"v1": "retired", "v2": "active", "v3": "draft"}
    activate(workspace, "v1")
    assert states(workspace) == {"v1": "active", "v2": "retired", "v3": "draft"}
    card = active_card(workspace)
    assert card is not None
    assert card.activation is not None
    assert (card.version, card.activation["author"], card.activation["note"]) == ("v1", "ada", "better on later deals")
    assert len(landed_documents(workspace, ACTIVATIONS)) == 3


def test_retirement__of_the_active_one_leaves_none_and_of_another_changes_nothing(workspace: Workspace) -> None:
    for note in "ab":
        save_card(workspace, {"note": note})
    activate(workspace, "v2")
    set_state(workspace, "v1", "retired", author="ada", note="never used")
    assert states(workspace)["v2"] == "active"
    set_state(workspace, "v2", "retired", author="ada", note="wrong label")
    assert active_card(workspace) is None
    assert states(workspace)["v2"] == "retired"


def test_decision__on_a_version_that_does_not_exist_names_those_that_do(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="'v1' does not exist; there are: none"):
        activate(workspace, "v1")
    save_card(workspace, {})
    with pytest.raises(UserError, match="'v7' does not exist; there are: v1"):
        activate(workspace, "v7")
    assert landed_documents(workspace, ACTIVATIONS) == []


def test_decision__needs_a_reason(workspace: Workspace) -> None:
    save_card(workspace, {})
    with pytest.raises(UserError, match="needs a note that says why"):
        set_state(workspace, "v1", "active", author="ada", note="  ")
    assert active_card(workspace) is None


def test_decision__is_a_state_that_a_version_can_have(workspace: Workspace) -> None:
    save_card(workspace, {})
    with pytest.raises(UserError, match=r"shadow, active, retired.*'activ'"):
        set_state(workspace, "v1", "activ", author="ada", note="a slip of the pen")
    assert landed_documents(workspace, ACTIVATIONS) == []


def test_shadow__scores_beside_the_active_one_until_it_is_activated_or_retired(workspace: Workspace) -> None:
    for note in "abc":
        save_card(workspace, {"note": note})
    activate(workspace, "v1")
    for version in ("v2", "v3"):
        set_state(workspace, version, "shadow", author="ada", note="let us watch it")
    assert [card.version for card in shadow_cards(workspace)] == ["v2", "v3"]
    activate(workspace, "v2")
    set_state(workspace, "v3", "retired", author="ada", note="no better")
    assert states(workspace) == {"v1": "retired", "v2": "active", "v3": "retired"}
    with pytest.raises(UserError, match="v2 is active: activate another one first"):
        set_state(workspace, "v2", "shadow", author="ada", note="x")


def test_rollback__steps_back_and_not_to_and_fro(workspace: Workspace) -> None:
    assert version_before_active(workspace) is None
    for note in "abcd":
        save_card(workspace, {"note": note})
    for version in ("v1", "v2", "v3"):
        activate(workspace, version)
    assert version_before_active(workspace) == "v2"
    set_state(workspace, "v2", "active", author="ada", note="v3 was wrong", rollback_of="v3")
    assert version_before_active(workspace) == "v1"
    set_state(workspace, "v1", "active", author="ada", note="v2 as well", rollback_of="v2")
    assert version_before_active(workspace) is None
    activate(workspace, "v4")
    assert version_before_active(workspace) == "v1"
    assert [(d.version, d.rollback_of) for d in decisions(workspace)][3:] == [("v2", "v3"), ("v1", "v2"), ("v4", None)]


def test_training_rows__belong_to_their_version(workspace: Workspace) -> None:
    save_card(workspace, {})
    save_card(workspace, {}, training_rows=b"rows of v2")
    one, two = stored_cards(workspace)
    assert one.training_rows is None
    assert two.training_rows is not None
    assert two.training_rows.read_bytes() == b"rows of v2"


def test_card__is_landed_as_text_that_people_can_read(workspace: Workspace) -> None:
    save_card(workspace, {"note": "Größe > 50 €", "card": {"bands": [1, 2]}})
    (path,) = landed_documents(workspace, SCORECARDS)
    text = path.read_text("utf-8")
    assert "Größe > 50 €" in text
    assert json.loads(text) == {"scorecard_version": "v1", "note": "Größe > 50 €", "card": {"bands": [1, 2]}}


def test_settings_copy__is_kept_once_per_content(workspace: Workspace, tmp_path: Path) -> None:
    file = tmp_path / "scorecard.yml"
    for text in ("a", "a", "b", "b", "a"):
        file.write_text(text)
        save_settings_copy(workspace, file)
    assert [path.read_text() for path in landed_documents(workspace, SETTINGS)] == ["a", "b", "a"]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    taken=st.lists(
        st.tuples(st.sampled_from(["v1", "v2", "v3"]), st.sampled_from(["active", "retired", "shadow"])), max_size=6
    )
)
def test_states__follow_the_decisions_in_their_order(
    tmp_path_factory: pytest.TempPathFactory, taken: list[tuple[str, str]]
) -> None:
    workspace = Workspace(tmp_path_factory.mktemp("cards"))
    for _ in range(3):
        save_card(workspace, {})
    expected: dict[str, str] = {}
    for version, state in taken:
        if state == "shadow" and expected.get(version) == "active":
            with pytest.raises(UserError, match="is active"):
                set_state(workspace, version, state, author="a", note="n")
            continue
        set_state(workspace, version, state, author="a", note="n")
        if state == "active":
            expected = {v: "retired" if s == "active" else s for v, s in expected.items()}
        expected[version] = state
    assert states(workspace) == {v: expected.get(v, "draft") for v in ("v1", "v2", "v3")}
    assert list(states(workspace).values()).count("active") <= 1
