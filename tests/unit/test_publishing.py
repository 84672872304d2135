"""Publishing: whole snapshots, whatever is killed and whoever reads, on the marts of `made_up_marts`."""

from __future__ import annotations

import json
import os
import random
import signal
import stat
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import pytest

from orchestration.lib.marts_reader import open_marts
from orchestration.lib.publishing import FILE_NAME, MartChange, current_version, publish, published_versions
from orchestration.lib.workspace import PROJECT_ROOT, Workspace
from tests.unit.made_up_marts import AS_OF, READ, refresh, snapshot


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    home = tmp_path / "o'brien's workspace"  # a quote and a blank in the path must not matter
    home.mkdir()
    return Workspace(home)


def assert_whole(workspace: Workspace, *, rows: int = 2_000) -> int:
    """The snapshot that readers see is of one piece; returns its version."""
    version, least, greatest, many, few = snapshot(workspace)
    assert (least, greatest, many, few) == (version, version, rows, 16)
    assert version == current_version(workspace)
    return version


def test_publish__the_first_snapshot_is_one_and_each_next_one_more(workspace: Workspace) -> None:
    assert current_version(workspace) is None
    assert published_versions(workspace) == []
    first, second = refresh(workspace), refresh(workspace)
    assert (first.version, second.version) == (1, 2)
    assert second.row_counts == {"few": 16, "many": 2_000}
    assert second.file == workspace.marts / "v00000002" / FILE_NAME
    assert assert_whole(workspace) == 2


def test_publish__says_what_it_is(workspace: Workspace) -> None:
    refresh(workspace)
    with open_marts(workspace) as con:
        row = con.execute("select version, as_of_at, table_count, published_at from publication").fetchall()
    assert row[0][:3] == (1, AS_OF, 2)
    assert abs((row[0][3] - datetime.now(UTC).replace(tzinfo=None)).total_seconds()) < 60


def test_publish__keeps_the_last_snapshots_only(workspace: Workspace) -> None:
    for _ in range(5):
        refresh(workspace, keep=2)
    assert published_versions(workspace) == [4, 5]
    assert sorted(path.name for path in workspace.marts.iterdir()) == ["current", "v00000004", "v00000005"]


def test_publish__refuses_to_keep_less_than_two(workspace: Workspace) -> None:
    with pytest.raises(ValueError, match=r"keep must be at least 2.*\(value: 1\)"):
        refresh(workspace, keep=1)
    assert not workspace.marts.exists()


def test_publish__the_link_is_relative_so_that_the_folder_can_be_moved(workspace: Workspace) -> None:
    refresh(workspace)
    assert os.readlink(workspace.marts / "current") == "v00000001"
    moved = Workspace(workspace.home.with_name("moved"))
    workspace.home.rename(moved.home)
    assert assert_whole(moved) == 1


def test_publish__the_snapshot_cannot_be_written(workspace: Workspace) -> None:
    publication = refresh(workspace)
    assert stat.S_IMODE(publication.file.stat().st_mode) == 0o444
    assert stat.S_IMODE(publication.file.parent.stat().st_mode) == 0o555
    assert [path.name for path in publication.file.parent.iterdir()] == [FILE_NAME]
    with open_marts(workspace) as con, pytest.raises(duckdb.InvalidInputException, match="read-only"):
        con.execute("delete from many")


def test_publish__the_file_is_of_the_oldest_storage_version(workspace: Workspace) -> None:
    """As an old DuckDB reads the header: "DUCK" from byte 8, then the version, which is 64 for DuckDB 1.0."""
    publication = refresh(workspace)
    header = publication.file.read_bytes()[:20]
    assert header[8:12] == b"DUCK"
    assert int.from_bytes(header[12:20], "little") == 64


def test_publish__comments_come_with_the_tables(workspace: Workspace) -> None:
    with duckdb.connect(str(workspace.warehouse)) as con:
        con.execute("create schema marts; create table marts.t (a integer, b integer)")
        con.execute("comment on table marts.t is 'The table''s grain'; comment on column marts.t.b is 'Unit: days'")
        publish(con, workspace, as_of_at=AS_OF, keep=2)
    with open_marts(workspace) as con:
        assert con.execute("select comment from duckdb_tables() where table_name = 't'").fetchall() == [
            ("The table's grain",)
        ]
        columns = "select column_name, comment from duckdb_columns() where table_name = 't' order by 1"
        assert con.execute(columns).fetchall() == [("a", None), ("b", "Unit: days")]


def test_publish__only_the_named_marts(workspace: Workspace) -> None:
    """A model that was renamed leaves its old table in the warehouse; readers must not go on seeing it."""
    with duckdb.connect(str(workspace.warehouse)) as con:
        con.execute("create schema marts; create table marts.renamed as select 1 as a")
        con.execute("comment on table marts.renamed is 'no longer made'")
        con.execute("create table marts.kept as select 2 as a; create schema other; create table other.t (a integer)")
        assert publish(con, workspace, as_of_at=AS_OF, keep=2, tables=["kept"]).row_counts == {"kept": 1}
        with pytest.raises(RuntimeError, match="snapshot 2: the warehouse lacks the mart never_built"):
            publish(con, workspace, as_of_at=AS_OF, keep=2, tables=["kept", "never_built"])
    with open_marts(workspace) as con:
        names = con.execute("select table_name from duckdb_tables() order by 1").fetchall()
    assert names == [("kept",), ("publication",)]
    assert current_version(workspace) == 1


def test_publish__a_copy_that_differs_is_not_swapped_in(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from orchestration.lib import publishing

    refresh(workspace)
    write = publishing._write

    def write_too_little(con, file, *rest):  # type: ignore[no-untyped-def]
        counts = write(con, file, *rest)
        with duckdb.connect(str(file)) as copy:
            copy.execute("delete from marts.many where account_id = 7")
        return counts

    monkeypatch.setattr(publishing, "_write", write_too_little)
    with pytest.raises(RuntimeError, match="snapshot 2: many has 1999 rows, the warehouse has 2000"):
        refresh(workspace)
    assert assert_whole(workspace) == 1
    assert sorted(path.name for path in workspace.marts.iterdir()) == ["current", "v00000001"]
    monkeypatch.undo()
    assert refresh(workspace).version == 2
    assert assert_whole(workspace) == 2


def changed(
    workspace: Workspace, since: int, changes: dict[str, MartChange]
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Change the marts in the warehouse, publish that, and read both: rows 3 and 4 go, 7 is another, one comes; `few` is anew."""
    with duckdb.connect(str(workspace.warehouse)) as con:
        con.execute("update marts.many set stamp = 99 where account_id = 7")
        con.execute("delete from marts.many where account_id in (3, 4)")
        con.execute("insert into marts.many values (99, 5000)")
        con.execute("create or replace table marts.few as select 50 as stamp, i as cell from range(3) as numbers(i)")
        con.execute("create schema if not exists increment")
        con.execute("create or replace table increment.many as select unnest([3, 4, 7, 5000]) as account_id")
        publish(con, workspace, as_of_at=AS_OF, keep=3, changes=changes, since=since)
        query = "from {}.many union all from {}.few order by all"
        in_warehouse = con.execute(query.format("marts", "marts")).fetchall()
    with open_marts(workspace) as con:
        return in_warehouse, con.execute("from many union all from few order by all").fetchall()


FOLLOWED = {"many": MartChange("account_id", "increment.many"), "few": MartChange()}


def test_publish__by_difference_says_what_the_warehouse_says(workspace: Workspace) -> None:
    first = refresh(workspace)
    before = first.file.read_bytes()
    in_warehouse, published = changed(workspace, 1, FOLLOWED)
    assert published == in_warehouse
    assert (99, 5000) in published
    assert first.file.read_bytes() == before, "who reads the old one reads what was in it"
    assert current_version(workspace) == 2


def test_publish__by_difference_many_times_does_not_pile_up_what_went_away(workspace: Workspace) -> None:
    rows = 300_000
    size = "select estimated_size from duckdb_tables() where table_name = 'many'"
    with duckdb.connect(str(workspace.warehouse)) as con:
        # As a run has it: DuckDB itself closes no gap.
        con.execute("set max_vacuum_tasks = 0")
        con.execute("create schema if not exists marts")
        con.execute("create schema if not exists increment")
        con.execute(
            f"create or replace table marts.many as select i as account_id, hash(i) as h from range({rows}) as n(i)"
        )
        con.execute("comment on column marts.many.h is 'told'")
        publish(con, workspace, as_of_at=AS_OF, keep=2)
        sizes = []
        for since in range(1, 9):
            con.execute(f"update marts.many set h = hash(h) where account_id % 5 = {since % 5}")
            con.execute(
                f"create or replace table increment.many as select i as account_id from range({since % 5}, {rows}, 5) as n(i)"
            )
            changes = {"many": MartChange("account_id", "increment.many")}
            publish(con, workspace, as_of_at=AS_OF, keep=2, changes=changes, since=since)
            with open_marts(workspace) as published:
                sizes.append(published.execute(size).fetchall()[0][0] / rows)
        in_warehouse = con.execute("from marts.many order by all").fetchall()
    with open_marts(workspace) as con:
        assert con.execute("from many order by all").fetchall() == in_warehouse
        assert ("told",) in con.execute("select comment from duckdb_columns() where table_name = 'many'").fetchall()
    assert max(sizes) <= 1.5
    assert sizes.count(1) > 1, "it was written anew, and more than once"


def test_publish__overwrites_what_changes_in_every_row(workspace: Workspace) -> None:
    refresh(workspace)
    with duckdb.connect(str(workspace.warehouse)) as con:
        con.execute("update marts.many set stamp = 12")
        stamped = MartChange("*", "", ("update {target} set stamp = 12",))
        publish(con, workspace, as_of_at=AS_OF, keep=3, changes={"many": stamped}, since=1)
    with open_marts(workspace) as con:
        assert con.execute("select distinct stamp from many").fetchall() == [(12,)]
        assert con.execute("select distinct stamp from few").fetchall() == [(1,)], "not named, and not touched"


def test_publish__by_difference_from_a_snapshot_that_is_no_longer_the_last_writes_all_anew(
    workspace: Workspace,
) -> None:
    refresh(workspace)
    refresh(workspace)
    in_warehouse, published = changed(workspace, 1, {})
    assert published == in_warehouse, "no change was named, and none was lost"


def test_publish__by_a_difference_that_is_wrong_is_not_swapped_in(workspace: Workspace) -> None:
    refresh(workspace)
    with pytest.raises(RuntimeError, match="many has 2000 rows, the warehouse has 1999"):
        changed(workspace, 1, {"few": MartChange()})
    assert assert_whole(workspace) == 1


def test_old_snapshot__stays_readable_while_new_ones_come_and_it_is_removed(workspace: Workspace) -> None:
    refresh(workspace)
    with open_marts(workspace) as con:
        for _ in range(4):
            refresh(workspace, keep=2)
        assert published_versions(workspace) == [4, 5]
        assert con.execute(READ).fetchall() == [(1, 1, 1, 2_000, 16)]
    assert assert_whole(workspace) == 5


def start(process: str, workspace: Workspace) -> subprocess.Popen[str]:
    """One of the processes of `made_up_marts`."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unit.made_up_marts", process, str(workspace.home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=PROJECT_ROOT,
    )


def line_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_reader_in_a_loop__sees_only_whole_snapshots_through_ten_publishes(workspace: Workspace) -> None:
    """One reader in a process of its own, one in a thread of the writer's; both follow the link each time."""
    refresh(workspace)
    in_thread: list[list[int]] = []
    errors: list[Exception] = []
    stop = workspace.home / "stop"

    def read_on() -> None:
        try:
            while not stop.exists():
                in_thread.append(snapshot(workspace))
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=read_on)
    with start("read", workspace) as reader:
        assert line_of(reader) == "ready"
        thread.start()
        try:
            for _ in range(10):
                refresh(workspace, keep=2)
        finally:
            stop.touch()
        thread.join(30)
        in_process = json.loads(line_of(reader))
    assert reader.returncode == 0
    assert not errors, errors
    assert in_process[-1][0] == 11
    for seen in (in_process, in_thread):
        assert all(row == [row[0], row[0], row[0], 2_000, 16] for row in seen)
        versions = [row[0] for row in seen]
        assert versions == sorted(versions), "a reader must never go back to an older snapshot"
        assert len(set(versions)) >= 4, f"the reader saw too few snapshots to tell anything: {set(versions)}"


def test_kill__before_any_line_leaves_the_snapshot_whole_and_the_next_publish_works(
    workspace: Workspace,
) -> None:
    refresh(workspace, rows=50)
    version, left_half_built, not_swapped, swapped, n = 1, 0, 0, 0, 0
    with start("kill", workspace) as killer:
        assert killer.stdin is not None
        killed = True
        while killed:
            n += 1
            killer.stdin.write(f"{n}\n")
            killer.stdin.flush()
            killed = json.loads(line_of(killer))
            with open_marts(workspace) as con:
                now, *_, many, few = con.execute(READ).fetchall()[0]
            assert now == current_version(workspace)
            assert (many, few) == (50, 16)
            assert now >= version, f"killed before line {n}: version {now} after {version}"
            names = {path.name for path in workspace.marts.iterdir()}
            left_half_built += any(name.startswith(".building-") for name in names)
            not_swapped += max(published_versions(workspace)) > now
            swapped += killed and now > version
            version = now
        killer.stdin.close()
    assert killer.returncode == 0
    # The trials met all of it: half-built folders, a finished folder without its link, after the swap.
    assert n > 50
    assert left_half_built > 20
    assert not_swapped >= 1
    assert swapped >= 2
    # The last trial, which nobody killed, has cleared away what the others left.
    versions = published_versions(workspace)
    assert len(versions) == 3
    assert names == {"current", *(f"v{number:08d}" for number in versions)}


def test_kill__at_a_random_moment_inside_of_duckdb_changes_nothing_for_readers(workspace: Workspace) -> None:
    """Larger marts, so that most of the time is spent in DuckDB's own code, where no tracer reaches."""
    rows = 200_000
    refresh(workspace, rows=rows)
    moments = random.Random(20_261_122)
    half_built = trials = 0
    while trials < 6 or (half_built < 2 and trials < 25):
        trials += 1
        before = assert_whole(workspace, rows=rows)
        with start("write", workspace) as writer:
            assert line_of(writer) == "ready"
            time.sleep(moments.uniform(0.02, 0.4))
            writer.send_signal(signal.SIGKILL)
        half_built += any(path.name.startswith(".building-") for path in workspace.marts.iterdir())
        assert assert_whole(workspace, rows=rows) >= before
    assert half_built >= 2, f"{trials} kills never met a publish half-way"
    refresh(workspace, rows=rows)
    assert_whole(workspace, rows=rows)
    assert not any(path.name.startswith(".") for path in workspace.marts.iterdir())
