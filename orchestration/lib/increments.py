"""Says what a build of the warehouse may keep from the one before, and keeps the book that this needs (schema `increment`).

Here: which files are new, which tables of the last build stand beside the new ones, and when nothing may be kept. What is done with
it is SQL (`dbt_project/macros/increments.sql`). A build that did not come to its end leaves no book, so that the next one is full.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import duckdb

#: Tables that every build makes anew and the next one compares with: as they were, they stand beside the new ones as <name>__last.
COMPARED = (
    ("staging", "stg_crm__account_survivors"),
    ("staging", "stg_crm__contact_survivors"),
    ("intermediate", "int_account_descendants"),
    ("intermediate", "int_contact_accounts"),
    ("intermediate", "int_contact_emails"),
    ("intermediate", "int_contacts__role_weights"),
    ("intermediate", "int_visitor_identities"),
    ("intermediate", "int_signals"),
    ("intermediate", "int_spine__accounts"),
    ("intermediate", "int_spine__account_months"),
    ("intermediate", "int_spine__contacts"),
    ("intermediate", "int_spine__deals"),
)
_TABLES = {
    "plan": "seen_until timestamp, are_definitions_new boolean, project varchar, definitions varchar",
    "new_files": "file varchar",
    "last_build": "as_of_at timestamp, project varchar, definitions varchar",
    "built_files": "file varchar, loaded_at timestamp",
}


@dataclass(frozen=True)
class Plan:
    """How the next build goes.

    Attributes
    ----------
    is_full : bool
        Nothing is kept.
    reason : str
        Why it is full, or what is new, in words.
    """

    is_full: bool
    reason: str


def plan_build(con: duckdb.DuckDBPyConnection, project: str, kept: Sequence[str] = ()) -> Plan:
    """Decide what the build that follows may keep, and put the last build's tables beside. All of it or nothing.

    Parameters
    ----------
    con : the warehouse, open for writing, loaded and with its settings written
    project : fingerprint of the transformations; another one than the last build's keeps nothing
    kept : tables that are kept from build to build, as schema.table; where one is missing, nothing is kept

    Notes
    -----
    Until `complete_build` there is no last build: if this one is interrupted, the next is full.
    """
    con.execute("begin")
    try:
        con.execute("create schema if not exists increment")
        for name, columns in _TABLES.items():
            con.execute(f"create table if not exists increment.{name} ({columns})")
        project = f"{project} {duckdb.__version__} {_digest(con, *_BOT_RULES)}"
        definitions = _digest(con, *_DEFINITIONS)
        last = con.execute("select as_of_at, project, definitions from increment.last_build").fetchone()
        reason = _reason_for_a_full_build(con, last, project, kept)
        for schema, table in COMPARED:
            con.execute(f"drop table if exists {schema}.{table}__last")
            if reason is None:
                con.execute(f"alter table {schema}.{table} rename to {table}__last")
        con.execute("delete from increment.plan")
        con.execute("delete from increment.new_files")
        con.execute("delete from increment.last_build")
        are_new = reason is not None or last is None or last[2] != definitions
        con.execute(
            "insert into increment.plan values (?, ?, ?, ?)",
            [None if reason is not None or last is None else last[0], are_new, project, definitions],
        )
        if reason is None:
            con.execute(
                "insert into increment.new_files select file from load.files "
                "where file not in (select file from increment.built_files)"
            )
        (new_files,) = con.execute("select count(*) from increment.new_files").fetchall()[0]
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
    if reason is not None:
        return Plan(True, f"everything is built anew: {reason}")
    return Plan(False, f"{new_files:,} new files" + (", new definitions of criteria" if are_new else ""))


def complete_build(con: duckdb.DuckDBPyConnection) -> None:
    """Enter into the book that the planned build came to its end: the next one may keep what it made."""
    con.execute("begin")
    try:
        con.execute("delete from increment.last_build")
        con.execute(
            "insert into increment.last_build select refresh.as_of_at, plan.project, plan.definitions "
            "from increment.plan as plan cross join settings.refresh as refresh"
        )
        con.execute("delete from increment.built_files")
        con.execute("insert into increment.built_files select file, loaded_at from load.files")
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise


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
    needed = [*(f"{schema}.{table}" for schema, table in COMPARED), *kept]
    missing = [name for name in needed if name not in there]
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
