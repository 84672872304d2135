"""Scorecard versions and the decisions on them: landed documents, immutable once written.

How a card is fitted is in `ml`; how dbt sees the active one and its shadows is in `settings_tables`. Here: names, order and
states of versions, who decided what and why, and which deals each fit saw.
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
TRAINING_ROWS = "scoring/training_rows"

#: States that somebody decides; a version that nobody has decided on is a draft.
DECIDED_STATES = ("shadow", "active", "retired")


@dataclass(frozen=True)
class Decision:
    """What somebody, or an automatic fit, decided on a version.

    Attributes
    ----------
    state : what the version became.
    rollback_of : the version that was taken back by this activation; None = not a rollback.
    """

    version: str
    state: str
    author: str
    note: str
    at: datetime
    rollback_of: str | None = None


@dataclass(frozen=True)
class StoredCard:
    """One landed scorecard version.

    Attributes
    ----------
    document : scorecard_version, created_at, as_of_at, author, note, parent, mlflow_run_id, criteria (name ->
        criterion_key and definition), label, matrix (least points of grades and levels) and card (see
        `ml.card.Card.to_document`).
    activation : the decision that made it active, the last one if it was so several times.
    training_rows : Parquet with one row per deal of the fit; None = made without deals, or by an import.
    """

    version: str
    state: str
    document: dict[str, Any]
    activation: dict[str, Any] | None
    training_rows: Path | None = None


def save_card(workspace: Workspace, document: dict[str, Any], training_rows: bytes | None = None) -> str:
    """Land a new version as a draft and return its name, v1, v2, ... in the order of landing.

    Parameters
    ----------
    training_rows : Parquet of the deals of the fit: spine_id, is_won, closed_at, fit_points and engagement_points by
        a fit that had not seen the deal (null where there was none), and `band__<criterion>`
    """
    version = f"v{len(landed_documents(workspace, SCORECARDS)) + 1}"
    if training_rows is not None:
        # First: a version must not be seen without its rows, rows without a version harm nobody.
        land_document(workspace, TRAINING_ROWS, f"{version}.parquet", training_rows)
    content = {"scorecard_version": version, **document}
    land_document(workspace, SCORECARDS, f"{version}.json", _encode(content))
    return version


def set_state(
    workspace: Workspace, version: str, state: str, *, author: str, note: str, rollback_of: str | None = None
) -> None:
    """Land the decision that a version becomes shadow, active or retired.

    Raises
    ------
    UserError
        The version does not exist, the state is not one that is decided, the note is empty, or the active version would
        become a shadow of itself.
    """
    if state not in DECIDED_STATES:
        raise UserError(
            f"scorecard version {version}: a decision is one of {', '.join(DECIDED_STATES)} (value: {state!r})"
        )
    found = find_card(workspace, version)
    if not note.strip():
        raise UserError(f"a decision on scorecard version {version} needs a note that says why")
    if state == "shadow" and found.state == "active":
        raise UserError(f"scorecard version {version} is active: activate another one first, then it can be a shadow")
    at = datetime.now(UTC).replace(tzinfo=None).isoformat()
    decision = {"scorecard_version": version, "state": state, "author": author, "note": note, "at": at}
    if rollback_of is not None:
        decision["rollback_of"] = rollback_of
    land_document(workspace, ACTIVATIONS, f"{version}-{state}.json", _encode(decision))


def decisions(workspace: Workspace) -> list[Decision]:
    """All decisions in the order in which they were landed."""
    return [
        Decision(
            d["scorecard_version"],
            d["state"],
            d["author"],
            d["note"],
            datetime.fromisoformat(d["at"]),
            d.get("rollback_of"),
        )
        for d in _read(workspace, ACTIVATIONS)
    ]


def stored_cards(workspace: Workspace) -> list[StoredCard]:
    """All versions in the order of landing. At most one is active: the one that was activated last."""
    landed = _read(workspace, ACTIVATIONS)
    states: dict[str, str] = {}
    was_active: dict[str, dict[str, Any]] = {}
    for decision in landed:
        if decision["state"] == "active":
            states.update({version: "retired" for version, state in states.items() if state == "active"})
            was_active[decision["scorecard_version"]] = decision
        states[decision["scorecard_version"]] = decision["state"]
    rows = {_version_of(path): path for path in landed_documents(workspace, TRAINING_ROWS)}
    cards = []
    for document in _read(workspace, SCORECARDS):
        version = document["scorecard_version"]
        cards.append(
            StoredCard(
                version,
                states.get(version, "draft"),
                document,
                was_active.get(version),
                training_rows=rows.get(version),
            )
        )
    return cards


def active_card(workspace: Workspace) -> StoredCard | None:
    """The version that scores, or None before the first fit."""
    return next((card for card in stored_cards(workspace) if card.state == "active"), None)


def shadow_cards(workspace: Workspace) -> list[StoredCard]:
    """The versions that score beside the active one without deciding anything."""
    return [card for card in stored_cards(workspace) if card.state == "shadow"]


def find_card(workspace: Workspace, version: str) -> StoredCard:
    """The version of this name.

    Raises
    ------
    UserError
        There is none; the message names those that there are.
    """
    cards = stored_cards(workspace)
    for card in cards:
        if card.version == version:
            return card
    known = ", ".join(card.version for card in cards) or "none"
    raise UserError(f"scorecard version {version!r} does not exist; there are: {known}")


def version_before_active(workspace: Workspace) -> str | None:
    """The version that a rollback brings back: the one that was active before the active one.

    A rollback steps back and not to and fro: after v1, v2, v3 a first rollback gives v2, a second v1.
    """
    line: list[str] = []
    for decision in decisions(workspace):
        if decision.state == "retired" and line and line[-1] == decision.version:
            line.pop()
        if decision.state != "active":
            continue
        if decision.rollback_of is not None and line and line[-1] == decision.rollback_of:
            line.pop()
        if not line or line[-1] != decision.version:
            line.append(decision.version)
    return line[-2] if len(line) > 1 else None


def save_settings_copy(workspace: Workspace, file: Path) -> None:
    """Keep what `scorecard.yml` said, once per content, so that an old fit can be understood later."""
    content = file.read_bytes()
    landed = landed_documents(workspace, SETTINGS)
    if not landed or landed[-1].read_bytes() != content:
        land_document(workspace, SETTINGS, file.name, content)


def _version_of(path: Path) -> str:
    """<arrived>-<sha12>-v7.parquet -> v7"""
    return path.name.split("-", 2)[2].removesuffix(".parquet")


def _read(workspace: Workspace, folder: str) -> list[dict[str, Any]]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in landed_documents(workspace, folder)]


def _encode(document: dict[str, Any]) -> bytes:
    return (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
