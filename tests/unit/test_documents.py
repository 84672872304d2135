"""Landed documents: whole or not at all, never changed, in the order in which they came."""

from __future__ import annotations

import hashlib
import os
import stat
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.lib import documents
from orchestration.lib.documents import land_document, landed_documents
from orchestration.lib.workspace import Workspace

FOLDER = "scoring/scorecards"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path)


def test_document__tells_its_arrival_and_content_by_its_name(workspace: Workspace) -> None:
    before = datetime.now(UTC).replace(tzinfo=None)
    path = land_document(workspace, FOLDER, "v1.json", b"{}\n")
    moment, sha12, name = path.name.split("-", 2)
    assert path.parent == workspace.landing / FOLDER
    assert before <= datetime.strptime(moment, "%Y%m%dT%H%M%S%fZ") <= datetime.now(UTC).replace(tzinfo=None)
    assert (sha12, name) == (hashlib.sha256(b"{}\n").hexdigest()[:12], "v1.json")
    assert path.read_bytes() == b"{}\n"
    assert stat.S_IMODE(path.stat().st_mode) == 0o444


def test_documents__of_one_folder_are_read_in_the_order_of_landing(workspace: Workspace) -> None:
    landed = [land_document(workspace, FOLDER, f"v{number}.json", b"same") for number in range(30)]
    land_document(workspace, "scoring/activations", "elsewhere.json", b"same")
    assert landed_documents(workspace, FOLDER) == landed
    assert landed_documents(workspace, "scoring/nothing") == []


def test_documents__keep_their_order_when_the_clock_is_set_back(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Clock(datetime):
        year_now = 2026

        @classmethod
        def now(cls, tz=None):  # type: ignore[no-untyped-def]
            return datetime(cls.year_now, 1, 1, tzinfo=tz)

    monkeypatch.setattr(documents, "datetime", Clock)
    first = land_document(workspace, FOLDER, "first", b"1")
    second = land_document(workspace, FOLDER, "second", b"0")
    Clock.year_now = 2025
    third = land_document(workspace, FOLDER, "third", b"2")
    assert landed_documents(workspace, FOLDER) == [first, second, third]
    assert third.name.startswith("20260101T000000000002Z-")


def test_document__that_was_not_finished_is_not_there(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a kill before the renaming leaves behind is no document, and the next one lands as ever."""
    land_document(workspace, FOLDER, "v1.json", b"1")

    def killed(descriptor: int) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", killed)
        with pytest.raises(KeyboardInterrupt):
            land_document(workspace, FOLDER, "v2.json", b"2")
    assert [path.name.split("-")[2] for path in landed_documents(workspace, FOLDER)] == ["v1.json"]
    assert len(list((workspace.landing / FOLDER).iterdir())) == 2, "the test has not met a half-written file"
    land_document(workspace, FOLDER, "v2.json", b"2")
    assert [path.name.split("-")[2] for path in landed_documents(workspace, FOLDER)] == ["v1.json", "v2.json"]


def test_files__that_no_landing_made_are_no_documents(workspace: Workspace) -> None:
    folder = workspace.landing / FOLDER
    folder.mkdir(parents=True)
    for name in ("notes.txt", "20260101-abc-v1.json", "20260101T000000000000Z-xyz-v1.json", ".DS_Store"):
        (folder / name).touch()
    assert landed_documents(workspace, FOLDER) == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=300))
def test_document__keeps_any_bytes(workspace: Workspace, content: bytes) -> None:
    path = land_document(workspace, "any", "bytes", content)
    assert path.read_bytes() == content
    assert landed_documents(workspace, "any")[-1] == path
