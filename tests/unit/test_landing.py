"""The landing zone: what lands, what waits, what is a duplicate, and that nothing is ever half there."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest

from orchestration.lib.contracts import load_contracts
from orchestration.lib.errors import UserError
from orchestration.lib.landing import (
    LANDED_NAME,
    MEMO_NAME,
    Collection,
    collect,
    land_file,
    landed_files,
    landing_file,
)
from orchestration.lib.sources import read_sources
from orchestration.lib.workspace import PROJECT_ROOT, SOURCE_CONTRACTS, Workspace

CONTRACTS = load_contracts(SOURCE_CONTRACTS)
NOON = datetime(2024, 5, 1, 12, 0, 0)
ACCOUNTS = "crm__accounts"


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    made = Workspace(tmp_path / "home [1]")  # brackets are wildcards to glob and to DuckDB
    (made.inbox / "crm" / "accounts").mkdir(parents=True)
    made.sources_file.write_text("sources: {}", encoding="utf-8")
    return made


def put(workspace: Workspace, name: str, content: str | bytes) -> Path:
    path = workspace.inbox / "crm" / "accounts" / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def run(workspace: Workspace, now: datetime = NOON, settle_seconds: float = 0) -> Collection:
    sources = read_sources(workspace.sources_file, CONTRACTS)
    return collect(workspace, CONTRACTS, sources, now, settle_seconds=settle_seconds)


def statuses(collection: Collection) -> list[tuple[str, str]]:
    return [(notice.original_name, notice.status) for notice in collection.notices]


def test_collect__lands_an_immutable_verbatim_copy(workspace):
    put(workspace, "a.csv", b"\xff\x00raw")
    (landed,) = run(workspace).landed
    assert landed.path.parent == workspace.landing / "crm" / "accounts"
    assert landed.path.name == f"20240501T120000000000Z-{landed.sha12}-a.csv"
    assert landed.path.read_bytes() == b"\xff\x00raw"
    assert landed.path.stat().st_mode & 0o777 == 0o444
    assert (landed.arrived_at, landed.original_name, landed.size_bytes) == (NOON, "a.csv", 5)
    assert landed_files(workspace, ACCOUNTS) == [landed]


def test_collect__an_unchanged_file_is_silent(workspace):
    put(workspace, "a.csv", "x")
    run(workspace)
    again = run(workspace)
    assert again == Collection((), ())


def test_collect__a_copy_under_another_name_is_a_duplicate(workspace):
    put(workspace, "a.csv", "x")
    run(workspace)
    put(workspace, "b.csv", "x")
    again = run(workspace)
    assert again.landed == ()
    assert statuses(again) == [("b.csv", "duplicate")]
    assert "content of a.csv, landed 2024-05-01 12:00:00" in again.notices[0].message


def test_collect__a_changed_file_lands_again_and_so_does_one_that_changed_back(workspace):
    for content in ("A", "B", "A"):
        put(workspace, "a.csv", content)
        assert len(run(workspace).landed) == 1
        assert run(workspace).landed == ()
    contents = [file.path.read_text() for file in landed_files(workspace, ACCOUNTS)]
    assert contents == ["A", "B", "A"]


def test_collect__arrivals_increase_whatever_the_clock_says(workspace):
    put(workspace, "a.csv", "1")
    put(workspace, "b.csv", "2")
    run(workspace, NOON)
    put(workspace, "a.csv", "3")
    run(workspace, NOON - timedelta(days=1))
    arrivals = [file.arrived_at for file in landed_files(workspace, ACCOUNTS)]
    assert arrivals == [NOON, NOON + timedelta(microseconds=1), NOON + timedelta(microseconds=2)]


@pytest.mark.parametrize("name", ["a.csv.part", "a.csv.tmp", "A.CSV.CRDOWNLOAD", ".a.csv", "~a.csv", ".~lock.a.csv#"])
def test_collect__temporary_names_wait(workspace, name):
    put(workspace, name, "x")
    collection = run(workspace)
    assert collection.landed == ()
    assert statuses(collection) == [(name, "waiting")]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", ".gitkeep"])
def test_collect__what_is_never_data_is_ignored(workspace, name):
    put(workspace, name, "x")
    assert run(workspace) == Collection((), ())


def test_collect__a_file_that_was_just_written_waits_and_lands_later(workspace):
    path = put(workspace, "a.csv", "x")
    assert statuses(run(workspace, settle_seconds=30)) == [("a.csv", "waiting")]
    os.utime(path, (time.time() - 60, time.time() - 60))
    assert len(run(workspace, settle_seconds=30).landed) == 1


def test_collect__a_file_from_the_future_does_not_wait_for_ever(workspace):
    path = put(workspace, "a.csv", "x")
    os.utime(path, (time.time() + 9999, time.time() + 9999))
    assert len(run(workspace, settle_seconds=30).landed) == 1


def test_collect__a_file_that_changes_while_it_is_read_waits(workspace, monkeypatch):
    path = put(workspace, "a.csv", "x" * 100)
    from orchestration.lib import landing

    real = landing._hash_file

    def grow(target: Path) -> str:
        digest = real(target)
        with path.open("ab") as file:
            file.write(b"more")
        return digest

    monkeypatch.setattr(landing, "_hash_file", grow)
    collection = run(workspace)
    assert collection.landed == ()
    assert statuses(collection) == [("a.csv", "waiting")]


def test_collect__an_unreadable_file_stops_no_other(workspace):
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    put(workspace, "a.csv", "x").chmod(0)
    put(workspace, "b.csv", "y")
    collection = run(workspace)
    assert [file.original_name for file in collection.landed] == ["b.csv"]
    assert statuses(collection) == [("a.csv", "waiting")]


def test_collect__configured_globs_are_read_and_a_glob_without_a_file_is_missing(workspace, tmp_path):
    elsewhere = tmp_path / "share"
    (elsewhere / "north").mkdir(parents=True)
    (workspace.home / "exports").mkdir()
    (workspace.home / "exports" / "acc1.csv").write_text("1")
    (elsewhere / "north" / "acc2.csv").write_text("2")
    workspace.sources_file.write_text(
        f"sources:\n  crm:\n    accounts:\n      files: ['exports/acc*.csv', '{elsewhere}/**/*.csv', 'none/*.csv']\n",
        encoding="utf-8",
    )
    put(workspace, "ignored.csv", "3")
    collection = run(workspace)
    assert sorted(file.original_name for file in collection.landed) == ["acc1.csv", "acc2.csv"]
    assert statuses(collection) == [("none/*.csv", "missing")]


def test_collect__same_name_in_two_folders_never_alternates(workspace):
    for folder in ("north", "south"):
        (workspace.home / folder).mkdir()
        (workspace.home / folder / "acc.csv").write_text(folder)
    workspace.sources_file.write_text("sources: {crm: {accounts: {files: '*/acc.csv'}}}", encoding="utf-8")
    assert sorted(f.original_name for f in run(workspace).landed) == ["north--acc.csv", "south--acc.csv"]
    for _ in range(3):
        assert run(workspace) == Collection((), ())


def test_collect__a_file_in_no_tables_folder_is_told(workspace):
    (workspace.inbox / "crm" / "acounts").mkdir()
    (workspace.inbox / "crm" / "acounts" / "a.csv").write_text("x")
    (notice,) = run(workspace).notices
    assert (notice.original_name, notice.status) == ("a.csv", "waiting")
    assert "inbox/crm/acounts/a.csv is in no table's folder" in notice.message


def test_collect__adopts_files_put_into_landing_by_hand(workspace):
    folder = workspace.landing / "crm" / "accounts"
    folder.mkdir(parents=True)
    (folder / "by hand.csv").write_text("x")
    (landed,) = run(workspace).landed
    assert [path.name for path in folder.iterdir()] == [landed.file]
    assert LANDED_NAME.fullmatch(landed.file)[3] == "by hand.csv"
    assert landed.path.read_text() == "x"
    assert run(workspace).landed == ()


def test_collect__does_not_read_unchanged_files_again_and_survives_a_broken_memo(workspace, monkeypatch):
    from orchestration.lib import landing

    path = put(workspace, "a.csv", "x")
    os.utime(path, (time.time() - 100, time.time() - 100))
    run(workspace)
    hashed = []
    real = landing._hash_file
    monkeypatch.setattr(landing, "_hash_file", lambda target: hashed.append(target) or real(target))
    run(workspace)
    assert hashed == []
    for broken in ("{not json", "[]", '{"' + str(path) + '": [1]}', ""):
        (workspace.landing / MEMO_NAME).write_text(broken)
        assert run(workspace) == Collection((), ())
    assert hashed == [path] * 4


def test_collect__odd_names_land_and_come_back(workspace):
    names = ["a b;ü.csv", "with\nnewline.csv", "glob[1]*?.csv", "x" * 240 + ".csv.gz"]
    for number, name in enumerate(names):
        put(workspace, name, str(number))
    landed = run(workspace).landed
    assert len(landed) == 4
    assert all(len(file.file.encode()) <= 255 for file in landed)
    assert {file.path.read_text() for file in landed_files(workspace, ACCOUNTS)} == {"0", "1", "2", "3"}
    assert any(file.original_name.endswith(".csv.gz") for file in landed)
    assert run(workspace) == Collection((), ())


def test_landing_file__renames_what_the_caller_wrote(workspace):
    moment = datetime(2024, 5, 1, 14, 0, tzinfo=timezone(timedelta(hours=2)))
    with landing_file(workspace, "web__events", "events-0001.parquet", moment) as path:
        assert not path.name.endswith(".parquet")
        path.write_bytes(b"PAR1")
        assert landed_files(workspace, "web__events") == []
    (landed,) = landed_files(workspace, "web__events")
    assert (landed.arrived_at, landed.original_name) == (NOON, "events-0001.parquet")
    with landing_file(workspace, "web__events", "events-0001.parquet") as path:
        path.write_bytes(b"PAR1")
    assert landed_files(workspace, "web__events") == [landed]


def test_landing_file__lands_nothing_when_the_caller_fails(workspace):
    def fail() -> None:
        with landing_file(workspace, "web__events", "e.parquet") as path:
            path.write_bytes(b"half")
            raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        fail()
    assert list((workspace.landing / "web" / "events").iterdir()) == []


def test_land_file__also_for_tables_without_a_contract(workspace, tmp_path):
    document = tmp_path / "card.json"
    for content in ("1", "1", "2", "1"):
        document.write_text(content)
        land_file(workspace, "scoring__scorecards", document, datetime.now(UTC))
    landed = landed_files(workspace, "scoring__scorecards")
    assert [file.path.read_text() for file in landed] == ["1", "2", "1"]
    with pytest.raises(UserError, match=r"gone\.json: cannot be copied"):
        land_file(workspace, "scoring__scorecards", tmp_path / "gone.json")
    with pytest.raises(ValueError, match="<source>__<table>"):
        land_file(workspace, "../x", document)


def test_collect__removes_what_a_killed_process_left_and_nothing_of_a_running_one(workspace):
    folder = workspace.landing / "crm" / "accounts"
    folder.mkdir(parents=True)
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    (folder / f".a.csv.tmp-{ended.pid}").write_text("half")
    (folder / f".b.csv.tmp-{os.getpid()}").write_text("being written")
    run(workspace)
    assert [path.name for path in folder.iterdir()] == [f".b.csv.tmp-{os.getpid()}"]


def test_collect__killed_while_copying_leaves_nothing_half(workspace):
    put(workspace, "big.csv", os.urandom(60_000_000))
    script = (
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[2])\n"
        "from orchestration.lib.landing import *; from orchestration.lib.contracts import load_contracts\n"
        "from orchestration.lib.sources import read_sources; from orchestration.lib.workspace import *\n"
        "w = Workspace(Path(sys.argv[1])); c = load_contracts(SOURCE_CONTRACTS)\n"
        "s = read_sources(w.sources_file, c)\n"
        "print('ready', flush=True); collect(w, c, s, settle_seconds=0)\n"
    )
    folder = workspace.landing / "crm" / "accounts"
    killed_in_the_middle = False
    for _ in range(5):
        command = [sys.executable, "-c", script, str(workspace.home), str(PROJECT_ROOT)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        while process.poll() is None and not any(folder.glob(".*tmp*")):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        if not landed_files(workspace, ACCOUNTS):
            killed_in_the_middle = True
            break
        for path in folder.iterdir():
            path.unlink()
    assert killed_in_the_middle
    (landed,) = run(workspace).landed
    assert landed.size_bytes == 60_000_000
    assert [path.name for path in folder.iterdir()] == [landed.file]
