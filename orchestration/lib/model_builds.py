"""Builds the models of the compiled project in the warehouse and runs their data tests: what `dbt build` does, without its start.

Of a refresh of a small company, dbt's own work around each model (contexts, templates, events) was three quarters of the time; the
SQL is the same for every refresh until the project changes, so dbt compiles it once and it is run here. A test holds both equal.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from orchestration.lib.compiled_project import CompiledModel, CompiledTest, Kept
from orchestration.lib.warehouse import drop_relation, quoted

GOOD, WARNED, FAILED, SKIPPED = "good", "warned", "failed", "skipped"


@dataclass(frozen=True)
class BuildResult:
    """What became of one model or data test.

    Attributes
    ----------
    kind : "model" or "test"
    model : the model itself, or the last one that the test reads
    status : "good", "warned" (a test that only warns), "failed" or "skipped" (something that it needs has failed)
    message : why, in words; "" when good
    failures : rows that break the test
    """

    kind: str
    name: str
    model: str
    status: str
    message: str = ""
    failures: int = 0
    seconds: float = 0.0


def build(
    con: duckdb.DuckDBPyConnection,
    models: Sequence[CompiledModel],
    tests: Sequence[CompiledTest],
    *,
    full: bool,
) -> Iterator[BuildResult]:
    """Build the models in their order, each test right after the last model that it reads.

    What depends on a failure is skipped, everything else is built, so that one run names all that is wrong.

    Parameters
    ----------
    con : the warehouse, open for writing
    full : nothing is kept of the last build; False only after `increments.plan_build` has said so
    """
    con.execute("set preserve_insertion_order = false")
    for schema in sorted({model.layer for model in models}):
        con.execute(f"create schema if not exists {schema}")
    after = last_read(models, tests)
    missing: set[str] = set()  # not built
    broken: set[str] = set()  # not built, or not as its tests say
    for model in models:
        if not broken.isdisjoint(model.depends_on):
            broken.add(model.name)
            missing.add(model.name)
            yield BuildResult("model", model.name, model.name, SKIPPED, "something that it reads has failed")
        else:
            result = _build_model(con, model, full=full)
            if result.status == FAILED:
                broken.add(model.name)
                missing.add(model.name)
            yield result
        for test in after.get(model.name, ()):
            if not missing.isdisjoint(test.models):
                yield BuildResult("test", test.name, model.name, SKIPPED, "a model that it reads has failed")
                continue
            result = _run_test(con, test, model.name)
            if result.status == FAILED:
                broken.update(test.models)
            yield result


def last_read(models: Sequence[CompiledModel], tests: Sequence[CompiledTest]) -> dict[str, list[CompiledTest]]:
    """Model -> the tests that can be answered once it is built. Each test reads one of the models at least."""
    position = {model.name: number for number, model in enumerate(models)}
    found: dict[str, list[CompiledTest]] = {}
    for test in tests:
        last = max((name for name in test.models if name in position), key=position.__getitem__)
        found.setdefault(last, []).append(test)
    return found


def run_models(con: duckdb.DuckDBPyConnection, models: Sequence[CompiledModel]) -> None:
    """Build the tables of these models anew in the transaction that is open; views read the new tables by themselves."""
    for model in models:
        if model.is_table:
            con.execute(f"create or replace table {model.relation} as {model.sql}")


@contextmanager
def rolled_back(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Whatever happens inside leaves no trace, also after a kill: it was never committed."""
    con.execute("begin")
    try:
        yield
    finally:
        con.execute("rollback")


def _build_model(con: duckdb.DuckDBPyConnection, model: CompiledModel, *, full: bool) -> BuildResult:
    started = time.perf_counter()
    con.execute(f"set disabled_optimizers = '{'build_side_probe_side' if model.joins_as_written else ''}'")
    con.execute("begin")
    try:
        if model.materialized == "view":
            _replace(con, model, "view")
            con.execute(f"create or replace view {model.relation} as {model.sql}")
        elif model.kept is not None and not full:
            _bring_up_to_date(con, model, model.kept)
        else:
            _replace(con, model, "table")
            sql = model.sql if full else model.increment_sql
            if model.columns:
                _create_by_contract(con, model, sql)
            else:
                con.execute(f"create or replace table {model.relation} as {sql}")
        con.execute("commit")
    except duckdb.Error as error:
        con.execute("rollback")
        return BuildResult("model", model.name, model.name, FAILED, str(error), seconds=time.perf_counter() - started)
    return BuildResult("model", model.name, model.name, GOOD, seconds=time.perf_counter() - started)


def _replace(con: duckdb.DuckDBPyConnection, model: CompiledModel, kind: str) -> None:
    # "create or replace" refuses where a relation of the other kind has the name.
    other = "duckdb_views()" if kind == "table" else "duckdb_tables()"
    name = "view_name" if kind == "table" else "table_name"
    query = f"select 1 from {other} where database_name = current_database() and schema_name = ? and {name} = ?"
    if con.execute(query, [model.layer, model.name]).fetchone():
        drop_relation(con, model.layer, model.name)


def _bring_up_to_date(con: duckdb.DuckDBPyConnection, model: CompiledModel, kept: Kept) -> None:
    if kept.remove_before:
        con.execute(f"delete from {model.relation} where {kept.remove_before}")
    # Aside first: the model may read the table that it is added to.
    con.execute(f"create or replace temp table new_rows as {model.increment_sql}")
    if kept.unique_key:
        key = kept.unique_key
        con.execute(f"delete from {model.relation} where {key} in (select {key} from new_rows)")
    con.execute(f"insert into {model.relation} by name select * from new_rows")
    con.execute("drop table new_rows")
    if kept.remove_after:
        con.execute(f"delete from {model.relation} where {kept.remove_after}")


def _create_by_contract(con: duckdb.DuckDBPyConnection, model: CompiledModel, sql: str) -> None:
    promised = {column.name: column.data_type for column in model.columns}
    types = con.execute(f"select {', '.join(f'null::{type_}' for type_ in promised.values())} limit 0").description
    found = con.execute(f"select * from ({sql}) limit 0").description
    expected = {name: str(type_[1]) for name, type_ in zip(promised, types or (), strict=True)}
    returned = {column[0]: str(column[1]) for column in found or ()}
    wrong = [
        f"{name} is {returned.get(name, 'missing')} and not {expected.get(name, 'in the contract')}"
        for name in {**expected, **returned}
        if expected.get(name) != returned.get(name)
    ]
    if wrong:
        raise duckdb.InvalidInputException(f"{model.layer}.{model.name} breaks its contract: {'; '.join(wrong)}")
    columns = [f'"{c.name}" {c.data_type}{" not null" if c.is_required else ""}' for c in model.columns]
    con.execute(f"create or replace table {model.relation} ({', '.join(columns)})")
    names = ", ".join(f'"{name}"' for name in promised)
    con.execute(f"insert into {model.relation} ({names}) select {names} from ({sql})")
    # What a BI tool shows beside a table and a column.
    con.execute(f"comment on table {model.relation} is {quoted(model.description)}")
    for column in model.columns:
        if column.description:
            con.execute(f'comment on column {model.relation}."{column.name}" is {quoted(column.description)}')


def _run_test(con: duckdb.DuckDBPyConnection, test: CompiledTest, model: str) -> BuildResult:
    started = time.perf_counter()
    try:
        failures = con.execute(f"select count(*) from ({test.sql}) as failures").fetchall()[0][0]
    except duckdb.Error as error:
        return BuildResult("test", test.name, model, FAILED, str(error), seconds=time.perf_counter() - started)
    seconds = time.perf_counter() - started
    if not failures:
        return BuildResult("test", test.name, model, GOOD, seconds=seconds)
    status = WARNED if test.only_warns else FAILED
    return BuildResult("test", test.name, model, status, f"{failures:,} rows break it", failures, seconds)
