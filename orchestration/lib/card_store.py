"""Scorecard versions and their activations: landed documents, immutable once written.

How a card is fitted is in `ml`; how dbt sees the active one is in `settings_tables`. Here: names, order and states of
versions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestration.lib.documents import land_document, landed_documents
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace

SCORECARDS = "scoring/scorecards"
ACTIVATIONS = "scoring/activations"
SETTINGS = "scoring/settings"

#: States that somebody decides; a version that nobody has decided on is a draft.
DECIDED_STATES = ("active", "retired")


@dataclass(frozen=True)
class StoredCard:
    """One landed scorecard version.

    `document` has: scorecard_version, created_at, as_of_at, author, note, parent, mlflow_run_id, criteria (name ->
    criterion_key and
    definition), matrix (least points of grades and levels) and card (see `ml.card.Card.to_document`).
    """

    version: str
    state: str
    document: dict[str, Any]
    activation: dict[str, Any] | None


def save_card(workspace: Workspace, document: dict[str, Any]) -> str:
    """Land a new version as a draft and return its name, v1, v2, ... in the order of landing."""
    version = f"v{len(landed_documents(workspace, SCORECARDS)) + 1}"
    content = {"scorecard_version": version, **document}
    land_document(workspace, SCORECARDS, f"{version}.json", _encode(content))
    return version


def set_state(workspace: Workspace, version: str, state: str, *, author: str, note: str) -> None:
    """Land the decision that a version becomes active or retired.

    Raises
    ------
    UserError
        The version does not exist, the state is not one that is decided, or the note is empty.
    """
    if state not in DECIDED_STATES:
        raise UserError(
            f"scorecard version {version}: a decision is one of {', '.join(DECIDED_STATES)} (value: {state!r})"
        )
    known = [card["scorecard_version"] for card in _read(workspace, SCORECARDS)]
    if version not in known:
        raise UserError(f"scorecard version {version!r} does not exist; there are: {', '.join(known) or 'none'}")
    if not note.strip():
        raise UserError(f"a decision on scorecard version {version} needs a note that says why")
    at = datetime.now(UTC).replace(tzinfo=None).isoformat()
    decision = {"scorecard_version": version, "state": state, "author": author, "note": note, "at": at}
    land_document(workspace, ACTIVATIONS, f"{version}-{state}.json", _encode(decision))


def stored_cards(workspace: Workspace) -> list[StoredCard]:
    """All versions in the order of landing. At most one is active: the one that was activated last."""
    decisions = _read(workspace, ACTIVATIONS)
    active = None
    was_active: dict[str, dict[str, Any]] = {}
    decided = {decision["scorecard_version"] for decision in decisions}
    for decision in decisions:
        if decision["state"] == "active":
            active = decision["scorecard_version"]
            was_active[active] = decision
        elif decision["scorecard_version"] == active:
            active = None
    cards = []
    for document in _read(workspace, SCORECARDS):
        version = document["scorecard_version"]
        state = "active" if version == active else "retired" if version in decided else "draft"
        cards.append(StoredCard(version, state, document, was_active.get(version)))
    return cards


def active_card(workspace: Workspace) -> StoredCard | None:
    """The version that scores, or None before the first fit."""
    return next((card for card in stored_cards(workspace) if card.state == "active"), None)


def save_settings_copy(workspace: Workspace, file: Path) -> None:
    """Keep what `scorecard.yml` said, once per content, so that an old fit can be understood later."""
    content = file.read_bytes()
    landed = landed_documents(workspace, SETTINGS)
    if not landed or landed[-1].read_bytes() != content:
        land_document(workspace, SETTINGS, file.name, content)


def _read(workspace: Workspace, folder: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in landed_documents(workspace, folder)]


def _encode(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
