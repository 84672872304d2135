"""Builds the models of the compiled project in the warehouse and runs their data tests: what `dbt build` does, without its start.

Of a refresh of a small company, dbt's own work around each model (contexts, templates, events) was three quarters of the time; the
SQL is the same for every refresh until the project changes, so dbt compiles it once and it is run here. A test holds both equal.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import duckdb

from orchestration.lib.compiled_project import CompiledModel, CompiledProject, CompiledTest, Following, Kept
from orchestration.lib.contracts import SEARCH_NUMBER, search_key
from orchestration.lib.differences import ANEW, ROWS, SAME, Differences, State, rows_of_either
from orchestration.lib.publishing import MartChange
from orchestration.lib.warehouse import drop_relation, quoted, transaction
from orchestration.lib.wording import counted

#: Schemas of models; all others are written by something else.
LAYERS = ("staging", "intermediate", "features", "marts")
#: After a way in `Following.reads_by`: the rows that differ say which rows of the model do, but it reads the table as a whole.
AS_A_WHOLE = ", as a whole"
#: Tables of fewer rows are tested whole: that is sooner done than choosing rows.
LARGE_ROWS = 100_000
#: Ids that tables may hold as whole numbers, too or instead, and then are searched by.
KEYS_OF_IDS = {"account_id": "account_key", "contact_id": "contact_key"}
#: As the macro `id_key`; a test holds both equal.
ID_KEY = "case when {0} is not null then cast(hash({0}) >> 1 as bigint) end"
_COMPLETE_NAME = re.compile(r'"[^"]+"\."[^"]+"\."[^"]+"')
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
    differences: Differences | None = None,
) -> Iterator[BuildResult]:
    """Build the models in their order, each test right after the last model that it reads.

    What depends on a failure is skipped, everything else is built, so that one run names all that is wrong.

    Parameters
    ----------
    con : the warehouse, open for writing
    differences : from the last build; None where there is no book of builds: every model is made anew
    """
    con.execute("set preserve_insertion_order = false")
    for schema in sorted({model.layer for model in models}):
        con.execute(f"create schema if not exists {schema}")
    after = last_read(models, tests)
    views = {model.name: model for model in models if model.materialized == "view" and model.following.rows_by}
    missing: set[str] = set()  # not built
    broken: set[str] = set()  # not built, or not as its tests say
    for model in models:
        if not broken.isdisjoint(model.depends_on):
            broken.add(model.name)
            missing.add(model.name)
            yield BuildResult("model", model.name, model.name, SKIPPED, "something that it reads has failed")
        else:
            result = _build_model(con, model, differences, views)
            if result.status == FAILED:
                broken.add(model.name)
                missing.add(model.name)
            yield result
        for test in after.get(model.name, ()):
            if not missing.isdisjoint(test.models):
                yield BuildResult("test", test.name, model.name, SKIPPED, "a model that it reads has failed")
                continue
            if differences is not None and all(differences.of(name) == SAME for name in test.models):
                yield _as_before(con, test, model.name)
                continue
            restricted = None if differences is None else _of_differing_rows(con, test, differences)
            result = _run_test(con, test, model.name, restricted or test.sql)
            if differences is not None:
                _remember(con, result)
            if result.status == FAILED:
                broken.update(test.models)
            yield result
    if differences is not None:
        differences.keep()


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


def make_rows(
    con: duckdb.DuckDBPyConnection, model: CompiledModel, models: Mapping[str, CompiledModel], values: Sequence[str]
) -> None:
    """Make a table of these rows alone, in the transaction that is open.

    Parameters
    ----------
    model : follows by a column, see `Following.rows_by`
    models : all of the project
    values : of that column
    """
    views = {name: other for name, other in models.items() if other.materialized == "view" and other.following.rows_by}
    con.execute("create or replace temp table keys_of_rows as select unnest(?::varchar[]) as k", [list(values)])
    of_keys = f'"{model.following.rows_by}" in (select k from temp.main.keys_of_rows)'
    con.execute(
        f"create or replace temp table new_rows as select * from ({_restrict(con, model, views)}) where {of_keys}"
    )
    con.execute(f"create or replace table {model.relation} as from temp.main.new_rows")


@contextmanager
def rolled_back(con: duckdb.DuckDBPyConnection) -> Iterator[None]:
    """Whatever happens inside leaves no trace, also after a kill: it was never committed."""
    con.execute("begin")
    try:
        yield
    finally:
        con.execute("rollback")


def _build_model(
    con: duckdb.DuckDBPyConnection,
    model: CompiledModel,
    differences: Differences | None,
    views: Mapping[str, CompiledModel],
) -> BuildResult:
    started = time.perf_counter()
    con.execute(f"set disabled_optimizers = '{'build_side_probe_side' if model.joins_as_written else ''}'")
    try:
        if differences is None or differences.keeps_nothing:
            with transaction(con):
                _make_anew(con, model, model.sql)
        else:
            with differences.undone_with(), transaction(con):
                _renew(con, model, differences, views)
    except duckdb.Error as error:
        return BuildResult("model", model.name, model.name, FAILED, str(error), seconds=time.perf_counter() - started)
    return BuildResult("model", model.name, model.name, GOOD, seconds=time.perf_counter() - started)


def _make_anew(con: duckdb.DuckDBPyConnection, model: CompiledModel, sql: str) -> None:
    if model.materialized == "view":
        _replace(con, model, "view")
        con.execute(f"create or replace view {model.relation} as {sql}")
        return
    _replace(con, model, "table")
    if model.columns:
        _create_by_contract(con, model, sql)
    else:
        con.execute(f"create or replace table {model.relation} as {sql}")


def _renew(
    con: duckdb.DuckDBPyConnection,
    model: CompiledModel,
    differences: Differences,
    views: Mapping[str, CompiledModel],
) -> None:
    """Bring a model to what it is now, by as little as its inputs ask for, and say what differs in it."""
    how = model.following
    read = tables_read(model.increment_sql) - {model.relation}
    states = {relation: _state_of(relation, differences) for relation in read}
    must = how.is_difference or how.every_refresh or not differences.is_known
    if how.differs_in and model.materialized == "view" and differences.is_known:
        return
    if not must and set(states.values()) <= {SAME}:
        if how.is_compared:
            differences.write(model.name, f"select *, 1 as _side from {model.relation} limit 0")
        differences.set(model.name, SAME)
    elif model.kept is not None and (differences.is_known or not how.every_day):
        _bring_up_to_date(con, model, model.kept, differences)
    elif not must and how.rows_by and _find_keys(con, model, states, differences):
        _renew_rows(con, model, differences, views)
    elif how.is_compared:
        _make_and_compare(con, model, differences)
    else:
        _make_anew(con, model, model.increment_sql if model.kept is None else model.sql)
        if how.is_difference:
            differences.show(model.name, model.relation)
        else:
            differences.set(model.name, ANEW)
    if differences.of(model.name) != ANEW:
        for statement in overwriting(con, model):
            con.execute(statement.format(target=model.relation))


def overwriting(con: duckdb.DuckDBPyConnection, model: CompiledModel) -> list[str]:
    """What brings the columns of a table up to date that change in every row at each refresh; `{target}` stands for the table."""
    how = model.following
    statements = []
    if how.refreshed_from:
        source, columns = _refreshed(con, model)
        assigned = ", ".join(f'"{column}" = refreshed."{column}"' for column in columns)
        differ = " or ".join(f'kept."{column}" is distinct from refreshed."{column}"' for column in columns)
        statements.append(
            f"update {{target}} as kept set {assigned} from {source} as refreshed "
            f'where kept."{how.rows_by}" = refreshed."{how.rows_by}" and ({differ})'
        )
    if how.stamped:
        column, _, condition = how.stamped.partition(" where ")
        statements.append(f"update {{target}} set {column} = (select as_of_at from settings.refresh) where {condition}")
    return statements


def _refreshed(con: duckdb.DuckDBPyConnection, model: CompiledModel) -> tuple[str, list[str]]:
    how = model.following
    (source,) = (name for name in tables_read(model.sql) if _name(name) == how.refreshed_from)
    return source, [column for column in _columns(con, source) if column != how.rows_by]


def changes_of_marts(
    con: duckdb.DuckDBPyConnection, project: CompiledProject, differences: Differences
) -> dict[str, MartChange] | None:
    """How the marts differ from those of the last build, for publishing; None = in everything."""
    if not differences.is_known:
        return None
    changes = {}
    for model in project.models.values():
        if model.layer != "marts":
            continue
        state, how = differences.of(model.name), model.following
        overwrite = tuple(overwriting(con, model))
        if state == ANEW:
            changes[model.name] = MartChange()
        elif state == ROWS:
            changes[model.name] = MartChange(how.rows_by, differences.rows(model.name), overwrite)
        elif overwrite:
            changes[model.name] = MartChange(how.rows_by or "*", "", overwrite)
    return changes


def tables_read(sql: str) -> set[str]:
    """The complete names of the tables and views in a compiled query."""
    return set(_COMPLETE_NAME.findall(sql))


def _state_of(relation: str, differences: Differences) -> State:
    _, schema, name = (part.strip('"') for part in relation.split("."))
    return differences.of(name) if schema in LAYERS else differences.of_source(schema, name)


def _name(relation: str) -> str:
    return relation.rsplit(".", 1)[1].strip('"')


def _find_keys(
    con: duckdb.DuckDBPyConnection, model: CompiledModel, states: Mapping[str, State], differences: Differences
) -> bool:
    """Whether all that differs in the inputs says which of the model's rows it is about; they are then in `keys_of_rows`."""
    how = model.following
    relations = {_name(relation): relation for relation in states}
    queries = []
    for relation, state in states.items():
        ways = [rows for table, rows in how.reads_by if table == _name(relation)] or [how.rows_by]
        if state == SAME or ways == ["-"] or _name(relation) == how.refreshed_from:
            continue
        if state == ANEW:
            return False
        differing = differences.rows(_name(relation))
        for way in ways:
            column, _, link = way.removesuffix(AS_A_WHOLE).partition(" = ")
            if not differences.has_column(_name(relation), column):
                return False
            if link:
                linked, linked_column = link.split(".")
                of_link = f'select "{_own_column(how, linked)}" as k from {relations[linked]}'
                which = _searched(con, relations[linked], linked_column, f'select "{column}" from {differing}')
                queries.append(f"{of_link} where {which}")
            else:
                queries.append(f'select "{column}" as k from {differing}')
    found = " union ".join(queries) or "select null as k"
    con.execute(f"create or replace temp table keys_of_rows as select k from ({found}) where k is not null")
    return True


def _own_column(how: Following, table: str) -> str:
    """What a table calls the column by which the model's rows are followed."""
    names = [rows for name, rows in how.reads_by if name == table and " = " not in rows and rows != "-"]
    return names[0] if names else how.rows_by


def _restrict(
    con: duckdb.DuckDBPyConnection, model: CompiledModel, views: Mapping[str, CompiledModel], prefix: str = ""
) -> str:
    """The model's query for the rows in `keys_of_rows` alone: each table that has them is read by them.

    So are the tables of a view that follows by the same values: DuckDB joins all of their rows before it chooses any of the view's.
    """
    how = model.following
    sql = model.increment_sql
    relations = {_name(relation): relation for relation in tables_read(sql)}
    for name, relation in relations.items():
        ways = [rows for table, rows in how.reads_by if table == name]
        if not ways and {how.rows_by, KEYS_OF_IDS.get(how.rows_by)} & set(_columns(con, relation)):
            ways = [how.rows_by]
        asked: dict[str, list[str]] = {}
        if any(way.endswith(AS_A_WHOLE) for way in ways):
            continue
        for way in ways:
            column, _, link = way.partition(" = ")
            if link:
                linked, linked_column = link.split(".")
                of_keys = _searched(
                    con, relations[linked], _own_column(how, linked), "select k from temp.main.keys_of_rows"
                )
                asked.setdefault(column, []).append(
                    f'select "{linked_column}" from {relations[linked]} where {of_keys}'
                )
            elif column != "-":
                asked.setdefault(column, []).append("select k from temp.main.keys_of_rows")
        if asked:
            # One search for all values of a column: with `or` between two of them DuckDB asks both of every row.
            conditions = [
                _searched(con, relation, column, " union all ".join(values)) for column, values in asked.items()
            ]
            read, view = relation, views.get(name)
            if view is not None and ways == [view.following.rows_by]:
                read = f"({_restrict(con, view, views, f'{prefix}{name}__')}\n)"
            chosen = f'temp.main."{prefix}{name}"'
            con.execute(f"create or replace temp view {chosen} as select * from {read} where {' or '.join(conditions)}")
            sql = sql.replace(relation, chosen)
    return sql


def _searched(con: duckdb.DuckDBPyConnection, relation: str, column: str, values: str) -> str:
    """The condition that a column of a table has one of these values, by the column's key where it has one."""
    columns = _columns(con, relation)
    for key, number in ((KEYS_OF_IDS.get(column), ID_KEY), (search_key(column), SEARCH_NUMBER)):
        if key in columns:
            return f'"{key}" in (select {number.format("value")} from ({values}) as searched(value))'
    return f'"{column}" in ({values})'


def _columns(con: duckdb.DuckDBPyConnection, relation: str) -> list[str]:
    return [str(column[0]) for column in con.execute(f"select * from {relation} limit 0").description or ()]


def _renew_rows(
    con: duckdb.DuckDBPyConnection,
    model: CompiledModel,
    differences: Differences,
    views: Mapping[str, CompiledModel],
) -> None:
    key = model.following.rows_by
    if not con.execute("select 1 from temp.main.keys_of_rows limit 1").fetchone():
        differences.write(model.name, f"select *, 1 as _side from {model.relation} limit 0")
        return
    if model.materialized == "view":
        differences.write(model.name, f'select k as "{key}" from temp.main.keys_of_rows')
        return
    of_keys = f'"{key}" in (select k from temp.main.keys_of_rows)'
    con.execute(
        f"create or replace temp table new_rows as select * from ({_restrict(con, model, views)}) where {of_keys}"
    )
    _find_old_rows(con, model, key, of_keys)
    if _compare(con, model, differences, "new_rows", "old_rows", key) == ROWS:
        differing = f'select "{key}" from {differences.rows(model.name)}'
        _delete_old_rows(con, model, differing)
        con.execute(f'insert into {model.relation} by name select * from new_rows where "{key}" in ({differing})')
    for table in ("new_rows", "old_ids", "old_rows"):
        con.execute(f"drop table {table}")


def _compare(
    con: duckdb.DuckDBPyConnection, model: CompiledModel, differences: Differences, new: str, old: str, key: str
) -> State:
    how = model.following
    left_out = {how.stamped.partition(" where ")[0]}
    if how.refreshed_from:
        left_out.update(_refreshed(con, model)[1])
    columns = [column for column in _columns(con, new) if column not in left_out]
    return differences.write(model.name, rows_of_either(new, old, columns, key))


def _make_and_compare(con: duckdb.DuckDBPyConnection, model: CompiledModel, differences: Differences) -> None:
    last = f"{model.name}__last"
    con.execute(f"drop table if exists {model.layer}.{last}")
    con.execute(f"alter table {model.relation} rename to {last}")
    _make_anew(con, model, model.increment_sql)
    _compare(con, model, differences, model.relation, f"{model.layer}.{last}", model.following.rows_by)
    con.execute(f"drop table {model.layer}.{last}")


def _replace(con: duckdb.DuckDBPyConnection, model: CompiledModel, kind: str) -> None:
    # "create or replace" refuses where a relation of the other kind has the name.
    other = "duckdb_views()" if kind == "table" else "duckdb_tables()"
    name = "view_name" if kind == "table" else "table_name"
    query = f"select 1 from {other} where database_name = current_database() and schema_name = ? and {name} = ?"
    if con.execute(query, [model.layer, model.name]).fetchone():
        drop_relation(con, model.layer, model.name)


def _bring_up_to_date(
    con: duckdb.DuckDBPyConnection, model: CompiledModel, kept: Kept, differences: Differences
) -> None:
    key = kept.unique_key
    removed = [kept.remove_after] if kept.remove_after else []
    if key and kept.own_rows:
        _find_old_rows(con, model, key, kept.own_rows, *removed)
        sql = model.increment_sql.replace(model.relation, 'temp.main."old_rows"')
        con.execute(f"create or replace temp table new_rows as {sql}")
    else:
        if kept.remove_before:
            con.execute(f"delete from {model.relation} where {kept.remove_before}")
        # Aside first: the model may read the table that it is added to.
        con.execute(f"create or replace temp table new_rows as {model.increment_sql}")
        if not key:
            con.execute(f"insert into {model.relation} by name select * from new_rows")
            con.execute("drop table new_rows")
            differences.set(model.name, ANEW)
            return
        _find_old_rows(con, model, key, f"{key} in (select {key} from new_rows)", *removed)
    if kept.remove_after:
        con.execute(f"delete from new_rows where {kept.remove_after}")
    # Told elsewhere what differs: all of them are written.
    differing = "old_rows", "new_rows"
    if not model.following.differs_in:
        _compare(con, model, differences, "new_rows", "old_rows", key)
        differing = (differences.rows(model.name),) * 2
    _delete_old_rows(con, model, f"select {key} from {differing[0]}")
    con.execute(
        f"insert into {model.relation} by name select * from new_rows where {key} in (select {key} from {differing[1]})"
    )
    con.execute("drop table new_rows")
    con.execute("drop table old_ids")
    con.execute("drop table old_rows")


def _find_old_rows(con: duckdb.DuckDBPyConnection, model: CompiledModel, key: str, *conditions: str) -> None:
    """Put rows of the model's table aside that meet any of the conditions.

    Which ones first: with all columns in one query, all of them are read of all rows. A search for each condition: with `or` between them
    DuckDB asks both of every row.
    """
    searches = " union ".join(
        f'select rowid as id, "{key}" as k from {model.relation} where {condition}' for condition in conditions
    )
    con.execute(f"create or replace temp table old_ids as {searches}")
    con.execute(
        f"create or replace temp table old_rows as select * from {model.relation} where rowid in (select id from old_ids)"
    )


def _delete_old_rows(con: duckdb.DuckDBPyConnection, model: CompiledModel, keys: str) -> None:
    """Delete the rows that were put aside and have one of these keys, by their places alone: no column of the table is read for it."""
    con.execute(f"delete from {model.relation} where rowid in (select id from old_ids where k in ({keys}))")


def _create_by_contract(con: duckdb.DuckDBPyConnection, model: CompiledModel, sql: str) -> None:
    # A statement may end in a comment: what closes it stands on a line of its own.
    promised = {column.name: column.data_type for column in model.columns}
    types = con.execute(f"select {', '.join(f'null::{type_}' for type_ in promised.values())} limit 0").description
    found = con.execute(f"select * from ({sql}\n) limit 0").description
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
    con.execute(f"insert into {model.relation} ({names}) select {names} from ({sql}\n)")
    # What a BI tool shows beside a table and a column.
    con.execute(f"comment on table {model.relation} is {quoted(model.description)}")
    for column in model.columns:
        if column.description:
            con.execute(f'comment on column {model.relation}."{column.name}" is {quoted(column.description)}')


def _as_before(con: duckdb.DuckDBPyConnection, test: CompiledTest, model: str) -> BuildResult:
    """What a test says whose tables are as they were: what it said then."""
    warned = con.execute("select message, failures from increment.warnings where test = ?", [test.name]).fetchone()
    if warned is None:
        return BuildResult("test", test.name, model, GOOD, "nothing that it reads differs")
    return BuildResult("test", test.name, model, WARNED, *warned)


def _remember(con: duckdb.DuckDBPyConnection, result: BuildResult) -> None:
    con.execute("delete from increment.warnings where test = ?", [result.name])
    if result.status == WARNED:
        con.execute("insert into increment.warnings values (?, ?, ?)", [result.name, result.message, result.failures])


def _of_differing_rows(con: duckdb.DuckDBPyConnection, test: CompiledTest, differences: Differences) -> str | None:
    """The test's query for the rows by whose keys something differs; None where it has to be asked of whole tables.

    What does not differ kept the test at the last build, or there would be none to follow; what only warned then is asked whole.
    """
    relations = {_name(relation): relation for relation in tables_read(test.sql)}
    tested = {name: relations[name] for name in test.models if name in relations}
    if not test.rows_by or len(tested) < len(test.models) or not all(map(differences.tells_rows_itself, test.models)):
        return None
    if any(differences.of_source(source, table) != SAME for source, table in test.sources):
        return None
    followed = {name: relation for name, relation in tested.items() if test.rows_by in _columns(con, relation)}
    differing = [name for name in test.models if differences.of(name) != SAME]
    if not all(name in followed and differences.has_column(name, test.rows_by) for name in differing):
        return None
    if con.execute("select 1 from increment.warnings where test = ?", [test.name]).fetchone():
        return None
    counts = " union all ".join(f"select count(*) as n from {relation}" for relation in tested.values())
    if con.execute(f"select max(n) from ({counts})").fetchall()[0][0] < LARGE_ROWS:
        return None
    keys = " union ".join(f'select "{test.rows_by}" as k from {differences.rows(name)}' for name in differing)
    con.execute(f"create or replace temp table keys_of_test as {keys}")
    sql = test.sql
    for name, relation in followed.items():
        con.execute(
            f'create or replace temp view "tested__{name}" as select * from {relation} '
            f'where "{test.rows_by}" in (select k from temp.main.keys_of_test)'
        )
        sql = sql.replace(relation, f'temp.main."tested__{name}"')
    return sql


def _run_test(con: duckdb.DuckDBPyConnection, test: CompiledTest, model: str, sql: str) -> BuildResult:
    started = time.perf_counter()
    try:
        failures = con.execute(f"select count(*) from ({sql}\n) as failures").fetchall()[0][0]
    except duckdb.Error as error:
        return BuildResult("test", test.name, model, FAILED, str(error), seconds=time.perf_counter() - started)
    seconds = time.perf_counter() - started
    if not failures:
        return BuildResult("test", test.name, model, GOOD, seconds=seconds)
    status = WARNED if test.only_warns else FAILED
    return BuildResult("test", test.name, model, status, f"broken by {counted(failures, 'row')}", failures, seconds)
