"""Says what a build of the warehouse may keep from the one before, and keeps the book that this needs (schema `increment`).

Here: which files are new, when nothing may be kept, and when all that did not change may be. Which rows differ is found in
`differences`; what is done with it is SQL (`dbt_project/macros/increments.sql`) and `model_builds`. A build whose features did not come
to their end leaves no book, so that the next one is full; one whose marts did not makes them all anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

from orchestration.lib.compiled_project import CompiledModel, CompiledProject
from orchestration.lib.differences import FEATURES, MARTS, Differences, forget, keep_digests
from orchestration.lib.warehouse import transaction

_TABLES = {
    "plan": "seen_until timestamp, are_definitions_new boolean, project varchar, definitions varchar, is_known boolean, "
    "is_finished boolean",
    "new_files": "file varchar, arrived_at timestamp",
    "last_build": "as_of_at timestamp, project varchar, definitions varchar",
    "built_files": "file varchar, loaded_at timestamp",
    "differences": "name varchar, state varchar",
    "passed": "id varchar",
    "published": "version bigint, builds_since bigint",
    "warnings": "test varchar, message varchar, failures bigint",
    "source_digests": "step varchar, name varchar, digest varchar",
}


@dataclass(frozen=True)
class Plan:
    """How the next build goes.

    Attributes
    ----------
    is_full : bool
        Nothing is kept.
    is_known : bool
        It is the day of the last build, which came to its end: what nothing has touched since is still right.
    reason : str
        Why it is full, or what is new, in words.
    """

    is_full: bool
    is_known: bool
    reason: str


def plan_build(con: duckdb.DuckDBPyConnection, project: str, kept: Sequence[str] = ()) -> Plan:
    """Decide what the build that follows may keep, and enter it into the book, all of it or nothing.

    Parameters
    ----------
    con : the warehouse, open for writing, loaded and with its settings written
    project : fingerprint of the transformations; another one than the last build's keeps nothing
    kept : tables that the build may leave as they are, as schema.table; where one is missing, nothing is kept

    Notes
    -----
    Until `complete_features` there is no last build: if this one is interrupted, the next is full.
    """
    with transaction(con):
        open_book(con)
        project = f"{project} {duckdb.__version__} {_digest(con, *_BOT_RULES)}"
        definitions = _digest(con, *_DEFINITIONS)
        last = con.execute("select as_of_at, project, definitions from increment.last_build").fetchone()
        reason = _reason_for_a_full_build(con, last, project, kept)
        is_known = reason is None and bool(
            con.execute(
                "select 1 from increment.plan cross join increment.last_build as last cross join settings.refresh as refresh "
                "where plan.is_finished and cast(last.as_of_at as date) = refresh.as_of_date"
            ).fetchone()
        )
        if reason is not None:
            forget(con)
        for name in ("plan", "new_files", "last_build", "differences", "passed"):
            con.execute(f"delete from increment.{name}")
        con.execute("update increment.published set builds_since = builds_since + 1")
        are_new = reason is not None or last is None or last[2] != definitions
        con.execute(
            "insert into increment.plan values (?, ?, ?, ?, ?, false)",
            [None if reason is not None or last is None else last[0], are_new, project, definitions, is_known],
        )
        if reason is None:
            con.execute(
                "insert into increment.new_files select file, arrived_at from load.files "
                "where file not in (select file from increment.built_files)"
            )
        (new_files,) = con.execute("select count(*) from increment.new_files").fetchall()[0]
    if reason is not None:
        return Plan(True, False, f"everything is built anew: {reason}")
    said = f"{new_files:,} new files" + (", new definitions of criteria" if are_new else "")
    return Plan(
        False,
        is_known,
        said if is_known else f"{said}; another day than the last build's, or its marts were not finished",
    )


def differences_of(con: duckdb.DuckDBPyConnection, project: CompiledProject, step: str) -> Differences:
    """What differs from the last build, for a step of the build that `plan_build` has planned.

    Parameters
    ----------
    step : FEATURES or MARTS; settings may change between the two
    """
    seen_until, is_known = con.execute("select seen_until, is_known from increment.plan").fetchall()[0]
    told_in = {
        model.name: model.following.differs_in for model in project.models.values() if model.following.differs_in
    }
    return Differences(con, is_known=is_known, step=step, told_in=told_in, keeps_nothing=seen_until is None)


def complete_features(con: duckdb.DuckDBPyConnection, project: CompiledProject) -> None:
    """Enter into the book that the features of the planned build came to their end: the next build may keep what it made."""
    with transaction(con):
        con.execute("delete from increment.last_build")
        con.execute(
            "insert into increment.last_build select refresh.as_of_at, plan.project, plan.definitions "
            "from increment.plan as plan cross join settings.refresh as refresh"
        )
        con.execute("delete from increment.built_files")
        con.execute("insert into increment.built_files select file, loaded_at from load.files")
        keep_digests(con, FEATURES, _sources(project.step(after_the_card=False)))


def complete_marts(con: duckdb.DuckDBPyConnection, project: CompiledProject) -> None:
    """Enter into the book that the marts came to their end, too: what nothing touches until the next build on this day is kept by it."""
    with transaction(con):
        keep_digests(con, MARTS, _sources(project.step(after_the_card=True)))
        con.execute("update increment.plan set is_finished = true")


def snapshot_before(con: duckdb.DuckDBPyConnection) -> int | None:
    """The snapshot that was published from the build before this one; None where that one was not published."""
    found = con.execute("select version from increment.published where builds_since = 1").fetchone()
    return None if found is None else int(found[0])


def note_published(con: duckdb.DuckDBPyConnection, version: int) -> None:
    """Enter into the book which snapshot says what the marts now do. Nobody asks any more what differed: it is not kept on disk."""
    with transaction(con):
        con.execute("delete from increment.published")
        con.execute("insert into increment.published values (?, 0)", [version])
        forget(con)


def _sources(models: Iterable[CompiledModel]) -> set[tuple[str, str]]:
    return {source for model in models for source in model.sources}


def open_book(con: duckdb.DuckDBPyConnection) -> None:
    """The tables of the book; one of another form was kept by another version of this program and is begun again."""
    con.execute("create schema if not exists increment")
    found = dict(
        con.execute(
            "select table_name, string_agg(column_name, ' ' order by column_index) from duckdb_columns() "
            "where database_name = current_database() and schema_name = 'increment' group by table_name"
        ).fetchall()
    )
    for name, columns in _TABLES.items():
        if found.get(name) != " ".join(column.split()[0] for column in columns.split(", ")):
            con.execute(f"drop table if exists increment.{name}")
            con.execute(f"create table increment.{name} ({columns})")


def _reason_for_a_full_build(
    con: duckdb.DuckDBPyConnection, last: tuple[datetime, str, str] | None, project: str, kept: Sequence[str]
) -> str | None:
    if last is None:
        return "no build has come to its end before"
    seen_until, built_by, _ = last
    if built_by != project:
        return "the transformations or the rules for bots have changed"
    (as_of_at,) = con.execute("select as_of_at from settings.refresh").fetchall()[0]
    if as_of_at < seen_until:
        return f"the as-of moment {as_of_at} is before that of the last build, {seen_until}"
    reloaded = con.execute(
        "select count(*) from increment.built_files as built left join load.files as files using (file) "
        "where files.loaded_at is distinct from built.loaded_at"
    ).fetchall()[0][0]
    if reloaded:
        return f"{reloaded:,} files were loaded again or are gone"
    there = {
        f"{schema}.{table}"
        for schema, table in con.execute(
            "select schema_name, table_name from duckdb_tables() where database_name = current_database()"
        ).fetchall()
    }
    missing = [name for name in kept if name not in there]
    return f"{', '.join(missing)} is missing" if missing else None


#: Which events are no person's decides which touchpoints there are.
_BOT_RULES = ("from settings.bots", "from settings.bot_agents order by all")
#: What makes the value of an implicit criterion. Which card uses it makes no difference.
_DEFINITIONS = (
    "select criterion_key, measure, decay_key, window_days, cap_per_day_milli, cap_per_person_micro, floor_micro, ceiling_micro, "
    "role_key, is_rolled_up from settings.criteria where kind = 'implicit' order by all",
    "select criterion_key, signal, multiplier_milli from settings.criterion_signals order by all",
    "select decay_key, count(*), sum(factor_nano) from settings.decay group by decay_key order by all",
)


def _digest(con: duckdb.DuckDBPyConnection, *queries: str) -> str:
    digest = hashlib.sha256()
    for query in queries:
        digest.update(repr(con.execute(query).fetchall()).encode())
    return digest.hexdigest()
