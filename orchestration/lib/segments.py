"""Segments: saved conditions over accounts, who is in them, and what leaves for other systems.

Belongs here: the files of the workspace's folder `segments`, the view from which dbt makes the members, the landing of who entered
and left, exports and the feed of changes for a consumer. Does not: what a condition is (`conditions`), ranks and members (dbt:
`segment_members`, `segment_changes`).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr

from orchestration.lib.condition_files import (
    Refusal,
    check_conditions,
    ensure_relations,
    read_definition,
    read_each,
    replace_matches,
    runnable,
)
from orchestration.lib.conditions import (
    Catalogue,
    Group,
    attributes_of,
    condition_catalogue,
    expression_of,
    select_accounts,
)
from orchestration.lib.contracts import load_contracts
from orchestration.lib.errors import UserError
from orchestration.lib.landing import land_due
from orchestration.lib.settings_file import SettingsError
from orchestration.lib.settings_tables import SEGMENT_TABLES
from orchestration.lib.warehouse import transaction
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

if TYPE_CHECKING:
    import pyarrow as pa

CHANGES = "scoring__segment_changes"
DUE = "intermediate.int_segments__due"
FORMATS = ("csv", "parquet", "json")


class Definition(BaseModel):
    """What a segment's file says."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    description: StrictStr = ""
    conditions: dict[str, Any]
    rank_by: Literal["likelihood", "expected_value", "both"] = "likelihood"
    most: Annotated[StrictInt, Field(ge=1, le=10_000_000)] | None = None


@dataclass(frozen=True)
class Segment:
    """One segment that can run: its definition with its checked condition."""

    name: str
    definition: Definition
    condition: Group

    @property
    def definition_hash(self) -> str:
        """Changes when other accounts may be in it; a new title is no change."""
        said = self.definition.model_dump(mode="json", exclude={"title", "description"})
        # A segment that it asks for may change without its own file.
        said["condition"] = self.condition.text
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]


# --------------------------------------------------------------------------- files


def segment_catalogue(workspace: Workspace) -> Catalogue:
    """The fields of conditions, with the saved segments among them; files that cannot be read are left out."""
    # What is left out is told by `read_segments`; whoever asks for it hears that there is no such segment.
    found, _ = read_each(workspace.segments, _definition)
    documents = {name: definition.conditions for name, definition in found}
    return condition_catalogue(load_contracts(SOURCE_CONTRACTS), documents)


def read_segments(workspace: Workspace, catalogue: Catalogue) -> tuple[list[Segment], list[Refusal]]:
    """All segments, and the files that are refused."""
    return read_each(workspace.segments, lambda path: read_segment(path, catalogue))


def read_segment(path: Path, catalogue: Catalogue) -> Segment | None:
    """One file; None where everything in it is a comment.

    Raises
    ------
    SettingsError
        With the file, the field, the rule and the value of each problem.
    """
    read = _definition(path)
    if read is None:
        return None
    name, definition = read
    trees, problems = check_conditions(path, {"conditions": definition.conditions}, catalogue)
    condition = trees["conditions"]
    if condition is None:
        raise SettingsError(problems)
    return Segment(name, definition, condition)


def _definition(path: Path) -> tuple[str, Definition] | None:
    definition = read_definition(path, Definition)
    return None if definition is None else (path.stem, definition)


# --------------------------------------------------------------------------- what a refresh does with them


def prepare_segments(
    con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of_at: datetime
) -> tuple[int, list[Refusal]]:
    """Make the segments run at this refresh. Returns how many do, and the files that are refused.

    A refresh of an earlier moment than that of the last change looks back: nobody enters or leaves in the past.
    """
    segments, refused = read_segments(workspace, segment_catalogue(workspace))
    ensure_relations(con)
    running, cannot_run = runnable(con, segments, lambda segment: workspace.segments / f"{segment.name}.yml", _matches)
    last = con.execute(f"select max(changed_at) from raw.{CHANGES}").fetchall()[0][0]
    write_segments(con, running, is_looking_back=last is not None and as_of_at <= last)
    return len(running), [*refused, *cannot_run]


def write_segments(con: duckdb.DuckDBPyConnection, segments: Sequence[Segment], *, is_looking_back: bool) -> None:
    """Replace `settings.segments`, `settings.segment_clock` and the view `settings.segment_matches`.

    The attributes that the conditions read are asked for, beside those that rules asked for.
    """
    with transaction(con):
        con.execute("create schema if not exists settings")
        con.execute(f"create or replace table settings.segments ({SEGMENT_TABLES['segments']})")
        con.execute(f"create or replace table settings.segment_clock ({SEGMENT_TABLES['segment_clock']})")
        con.execute("insert into settings.segment_clock values (?)", [is_looking_back])
        for segment in segments:
            said = segment.definition
            row = [
                segment.name, said.title, said.description.strip(), said.rank_by, said.most, segment.condition.text,
                segment.definition_hash,
            ]  # fmt: skip
            con.execute(f"insert into settings.segments values ({', '.join('?' * len(row))})", row)
        for name in sorted({name for segment in segments for name in attributes_of(segment.condition)}):
            con.execute(
                "insert into settings.condition_attributes select ? where ? not in (from settings.condition_attributes)",
                [name, name],
            )
        replace_matches(
            con, "segment_matches", SEGMENT_TABLES["segment_matches"], [_matches(segment) for segment in segments]
        )


def _matches(segment: Segment) -> Any:
    from sqlglot import exp

    found: Any = select_accounts(expression_of(segment.condition))
    return found.select(exp.alias_(exp.Literal.string(segment.name), "segment"))


def land_changes(con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of_at: datetime) -> int:
    """Land who entered and left at this refresh, as facts that the next one reads. Returns how many."""
    query = f"select * from {DUE} order by change_id"
    return land_due(con, workspace, CHANGES, query, f"changes-{as_of_at:%Y%m%dT%H%M%S%f}")


# --------------------------------------------------------------------------- exports


@dataclass(frozen=True)
class Feed:
    """What a consumer has not confirmed yet.

    Attributes
    ----------
    feed_id : names this difference; the same difference has the same name.
    rows : members that entered or changed with all columns, those that left with the key alone; column `change` first.
    """

    feed_id: str
    rows: pa.Table


def members(con: duckdb.DuckDBPyConnection, name: str) -> pa.Table:
    """The published members of a segment in their order.

    Raises
    ------
    UserError
        There is no such segment in the published marts.
    """
    known = [row[0] for row in con.execute("select distinct segment from segment_members order by 1").fetchall()]
    found = con.execute("select * from segment_members where segment = ? order by rank_no, account_id", [name])
    table = found.to_arrow_table()
    if not table.num_rows and name not in known:
        there = con.execute("select count(*) from segments where segment = ?", [name]).fetchall()[0][0]
        if not there:
            raise UserError(
                f"there is no segment {name!r} in the published tables: write segments/{name}.yml and refresh"
            )
    return table


def feed(workspace: Workspace, consumer: str, name: str, now: pa.Table) -> Feed:
    """What changed for a consumer since the state that it confirmed last; everything before its first confirmation.

    The state of this feed is kept until it is confirmed. Asking again without confirming gives the same rows, and those that
    changed meanwhile: sending a feed twice does no harm.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    folder = _consumer_folder(workspace, consumer, name)
    confirmed = folder / "confirmed.parquet"
    with duckdb.connect(":memory:") as con:
        con.register("now_members", now)
        if confirmed.exists():
            con.register("confirmed_members", pq.read_table(confirmed))
        else:
            con.register("confirmed_members", now.slice(0, 0))
        # The moment of the refresh alone is no change.
        columns = [c for c in now.column_names if c not in ("account_id", "as_of_at")]
        same = " and ".join(f'fresh."{c}" is not distinct from old."{c}"' for c in columns)
        rows = con.execute(
            f"""
            select case when old.account_id is null then 'entered' else 'changed' end as change, fresh.*
            from now_members as fresh left join confirmed_members as old on fresh.account_id = old.account_id
            where old.account_id is null or not ({same})
            union all by name
            select 'left' as change, old.segment, old.account_id
            from confirmed_members as old left join now_members as fresh on old.account_id = fresh.account_id
            where fresh.account_id is null
            order by change, account_id
            """
        ).to_arrow_table()
    comparable = rows.drop_columns(["as_of_at"])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, comparable.schema) as writer:
        writer.write_table(comparable.combine_chunks())
    feed_id = hashlib.sha256(sink.getvalue().to_pybytes()).hexdigest()[:12]
    folder.mkdir(parents=True, exist_ok=True)
    _write_whole(now, folder / f"{feed_id}.parquet")
    return Feed(feed_id, rows)


def confirm(workspace: Workspace, consumer: str, name: str, feed_id: str) -> None:
    """The consumer has what the feed said: the next one starts from there.

    Raises
    ------
    UserError
        There is no such feed, for example because it was confirmed before.
    """
    folder = _consumer_folder(workspace, consumer, name)
    state = folder / f"{feed_id}.parquet"
    if not feed_id.isalnum() or not state.exists():
        waiting = sorted(old.stem for old in folder.glob("*.parquet") if old.name != "confirmed.parquet")
        raise UserError(
            f"consumer {consumer}, segment {name}: there is no feed to confirm of this name (value: {feed_id!r}); "
            + (f"waiting: {', '.join(waiting)}" if waiting else "none is waiting")
        )
    os.replace(state, folder / "confirmed.parquet")
    for old in folder.glob("*.parquet"):
        if old.name != "confirmed.parquet":
            old.unlink()


def _consumer_folder(workspace: Workspace, consumer: str, name: str) -> Path:
    if not consumer.replace("-", "").replace("_", "").isalnum():
        raise UserError(f"a consumer's name is made of letters, digits, - and _ (value: {consumer!r})")
    return workspace.home / "exports" / consumer / name


def write_rows(rows: pa.Table, path: Path, form: str) -> None:
    """Write a table whole or not at all: whoever waits for the file never reads half of it."""
    if form == "parquet":
        _write_whole(rows, path)
        return
    partial = path.with_name(f".{path.name}.partial")
    try:
        with duckdb.connect(":memory:") as con:
            con.register("rows_to_write", rows)
            options = "format csv, header" if form == "csv" else "format json, array true"
            con.execute(f"copy rows_to_write to '{str(partial).replace(chr(39), chr(39) * 2)}' ({options})")
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def _write_whole(table: pa.Table, path: Path) -> None:
    import pyarrow.parquet as pq

    partial = path.with_name(f".{path.name}.partial")
    try:
        pq.write_table(table, partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


def described(segments: Sequence[Segment]) -> list[Mapping[str, Any]]:
    """One row per segment for a screen: name, title, condition in words, rank_by, most."""
    return [
        {
            "segment": segment.name,
            "title": segment.definition.title,
            "condition": segment.condition.text,
            "rank_by": segment.definition.rank_by,
            "most": segment.definition.most,
        }
        for segment in segments
    ]
