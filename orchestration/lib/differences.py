"""Knows, table by table, which rows differ from the last build's, so that a build makes anew what depends on them and nothing else.

A table is the `same`, or differs in `rows` that are told in `increment.<name>__differences` (old and new rows), or is made `anew` and
nobody says what differs. For what no model makes: settings and histories by a digest of their rows, raw tables by what has landed and
by whose moment has come. What is done with it is in `model_builds`; which book it is kept in, in `increments`.

It rests on one law of the models: within a day a row differs only where a row that it is made from does, or where one of their moments
has passed the as-of moment. A model that breaks it says `every_refresh`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

import duckdb

from orchestration.lib.warehouse import drop_relation, quoted

State = Literal["same", "rows", "anew"]
SAME: State = "same"
ROWS: State = "rows"
ANEW: State = "anew"

#: The steps of a build. Between them a fit may write other settings.
FEATURES, MARTS = "features", "marts"

#: Histories of more rows are told apart by their number of rows: they only grow, by whole days.
_HASHED_ROWS = 2_000_000
#: Columns of settings that are the refresh's own moment.
_MOMENTS = {"refresh": "as_of_at", "pipeline_comparisons": "end_at"}


class Differences:
    """What differs from the last build, as far as this build has come. One object per step of a build; the book is in the warehouse.

    Parameters
    ----------
    con : the warehouse, open for writing
    step : FEATURES or MARTS
    is_known : the last build came to its end on the same day, so that its tables stand for what did not change
    keeps_nothing : every table is made as if there had been no build before
    told_in : model -> the model or raw table that tells its differences
    """

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        *,
        is_known: bool,
        step: str,
        told_in: Mapping[str, str] | None = None,
        keeps_nothing: bool = False,
    ):
        self.con = con
        self.is_known = is_known
        self.keeps_nothing = keeps_nothing
        self.step = step
        self._told_in = told_in or {}
        self._states: dict[str, State] = {}
        self._columns: dict[str, list[str]] = {}
        self._states = dict(con.execute("select name, state from increment.differences").fetchall())

    @contextmanager
    def undone_with(self) -> Iterator[None]:
        """What is found inside is forgotten where it ends in an error: its rows are rolled back."""
        before = dict(self._states)
        try:
            yield
        except BaseException:
            self._states, self._columns = before, {}
            raise

    def keep(self) -> None:
        """Write what was found into the book, for the next step. A build that does not come to its end leaves none: the next is full."""
        self.con.execute("delete from increment.differences")
        if self._states:
            names, states = list(self._states), list(self._states.values())
            self.con.execute("insert into increment.differences select unnest(?), unnest(?)", [names, states])

    def of(self, name: str) -> State:
        """What has been found of a model."""
        return self._states.get(self._told_in.get(name, name), ANEW) if self.is_known else ANEW

    def tells_rows_itself(self, name: str) -> bool:
        """Whether a model is the same, or differs in rows that are its own and not told by another table."""
        return self.of(name) == SAME or (self.of(name) == ROWS and name not in self._told_in)

    def rows(self, name: str) -> str:
        """The table that holds the differing rows of a model or raw table."""
        return rows_that_differ(self._told_in.get(name, name))

    def of_source(self, source: str, table: str) -> State:
        """What differs in a table that no model makes; found when it is asked for the first time."""
        if not self.is_known:
            return ANEW
        name = table if source == "raw" else f"{self.step}: {source}.{table}"
        if name not in self._states:
            self.set(name, self._compare_source(source, table))
        return self._states[name]

    def set(self, name: str, state: State) -> None:
        """Enter what was found of a model or source."""
        self._states[name] = state

    def has_column(self, name: str, column: str) -> bool:
        """Whether the rows that differ say this of themselves."""
        return column in self.columns(name)

    def columns(self, name: str) -> list[str]:
        """The columns of the rows that differ."""
        name = self._told_in.get(name, name)
        if name not in self._columns:
            found = self.con.execute(f"select * from {rows_that_differ(name)} limit 0").description or ()
            self._columns[name] = [str(column[0]) for column in found]
        return self._columns[name]

    def write(self, name: str, query: str) -> State:
        """Keep the rows that differ, columns of the table and `_side` (1 = new, -1 = old); none makes the table the same."""
        self.con.execute(f"create or replace table {rows_that_differ(name)} as {query}")
        return self._found(name)

    def show(self, name: str, relation: str) -> State:
        """A model that says itself what differs: its own rows."""
        self.con.execute(f"create or replace view {rows_that_differ(name)} as select * from {relation}")
        return self._found(name)

    def _found(self, name: str) -> State:
        self._columns.pop(name, None)
        (count,) = self.con.execute(f"select count(*) from {rows_that_differ(name)}").fetchall()[0]
        state = ROWS if count else SAME
        self.set(name, state)
        return state

    def _compare_source(self, source: str, table: str) -> State:
        if source == "increment":
            return self._compare_book(table)
        if source == "raw":
            return self._compare_raw(table)
        if source == "load":
            # What is said of files that did not land is said anew at each refresh.
            return ANEW
        if source == "quarantine":
            (count,) = self.con.execute("select count(*) from increment.new_files").fetchall()[0]
            return ANEW if count else SAME
        before = self.con.execute(
            "select digest from increment.source_digests where step = ? and name = ?", [self.step, f"{source}.{table}"]
        ).fetchone()
        is_same = before is not None and before == (digest_of(self.con, source, table),)
        return SAME if is_same and not self._has_passed(source, table, self._passing(source, table)) else ANEW

    def _compare_book(self, table: str) -> State:
        if table == "plan":
            query = "select count(*) from increment.plan where are_definitions_new"
        else:
            query = f"select count(*) from increment.{table}"
        return ANEW if self.con.execute(query).fetchall()[0][0] else SAME

    def _compare_raw(self, table: str) -> State:
        """New files of the table, and rows of which any moment lies between the two builds."""
        if table.endswith("__custom"):
            # Fields of the rows of another table, and never without one of those.
            return ANEW if self.of_source("raw", table.removesuffix("__custom")) != SAME else SAME
        (new,) = self.con.execute(
            "select count(*) from load.files inner join increment.new_files using (file) where source_table = ?",
            [table],
        ).fetchall()[0]
        passing = self._passing("raw", table)
        has_passed = self._has_passed("raw", table, passing)
        if not new and not has_passed:
            return SAME
        keys = [name for name, _ in self._types("raw", table) if name.endswith("_id")]
        if not keys:
            return ANEW
        own, *_ = keys
        if passing:
            # One query for each column: a condition on one column is asked of the table's statistics first, and most of it not read.
            for condition in passing:
                self.con.execute(
                    f'insert into increment.passed select "{own}" from raw.{table} where {condition} '
                    "and _file not in (select file from increment.new_files)"
                )
        names = ", ".join(keys)
        # Files follow each other in the table: a join by arrival reads the end of it. A key that came once has no other row than this one.
        found = (
            f"select {names}, _key_hash, _is_repeated from raw.{table} as landed inner join increment.new_files as new_files "
            "on landed._arrived_at = new_files.arrived_at and landed._file = new_files.file"
        )
        if has_passed:
            for condition in passing:
                found += f" union all select {names}, _key_hash, _is_repeated from raw.{table} where {condition}"
        return self.write(
            table,
            f"with found as materialized ({found}) select {names} from found union select {names} from raw.{table} "
            "where _is_repeated and _key_hash in (select _key_hash from found where _is_repeated)",
        )

    def _types(self, schema: str, table: str) -> list[tuple[str, str]]:
        # Ten times as fast as a look into the catalogue, which reads all of it for one table.
        return [
            (str(column[0]), str(column[1]))
            for column in self.con.execute(f"select * from {schema}.{table} limit 0").description or ()
        ]

    def _passing(self, schema: str, table: str) -> list[str]:
        """Conditions on rows, one per column: its moment lies between the two builds."""
        since, until = self.con.execute(
            "select seen_until, as_of_at from increment.plan cross join settings.refresh"
        ).fetchall()[0]
        return [
            f'("{name}" > timestamp {quoted(str(since))} and "{name}" <= timestamp {quoted(str(until))})'
            for name, kind in self._types(schema, table)
            if kind == "TIMESTAMP" and name != _MOMENTS.get(table)
        ]

    def _has_passed(self, schema: str, table: str, passing: Sequence[str]) -> bool:
        return any(
            self.con.execute(f"select 1 from {schema}.{table} where {condition} limit 1").fetchone()
            for condition in passing
        )


def rows_that_differ(name: str) -> str:
    """The table that holds the differing rows of a model."""
    return f'increment."{name}__differences"'


def forget(con: duckdb.DuckDBPyConnection) -> None:
    """Drop the differing rows of all tables: what was a table may be told by a view from now on."""
    found = con.execute("select table_name from information_schema.tables where table_schema = 'increment'").fetchall()
    for (name,) in found:
        if name.endswith("__differences"):
            drop_relation(con, "increment", name)


def digest_of(con: duckdb.DuckDBPyConnection, source: str, table: str) -> str:
    """A digest of the rows, in whichever order they stand. The refresh's moment does not count: models compare others with it."""
    (count,) = con.execute(f"select count(*) from {source}.{table}").fetchall()[0]
    if source == "history" and count > _HASHED_ROWS:
        return f"{count}"
    columns = f"* exclude ({_MOMENTS[table]})" if source == "settings" and table in _MOMENTS else "*"
    (digest,) = con.execute(
        f"select cast(coalesce(sum(cast(hash(rows) as hugeint)), 0) as varchar) from (select {columns} from {source}.{table}) as rows"
    ).fetchall()[0]
    return f"{count} {digest}"


def keep_digests(con: duckdb.DuckDBPyConnection, step: str, sources: Iterable[tuple[str, str]]) -> None:
    """Enter what the sources of a step hold at its end, for the next build to compare with."""
    con.execute("delete from increment.source_digests where step = ?", [step])
    query = "select schema_name, table_name from duckdb_tables() where database_name = current_database()"
    # A view's rows are made of other tables, and not for nothing.
    for source, table in sorted(set(sources) & {*con.execute(query).fetchall()}):
        if source in ("settings", "history"):
            con.execute(
                "insert into increment.source_digests values (?, ?, ?)",
                [step, f"{source}.{table}", digest_of(con, source, table)],
            )


def rows_of_either(new: str, old: str, columns: Sequence[str], key: str = "") -> str:
    """The rows of the keys of which not all rows are the same on both sides: `columns` and `_side`, 1 for new ones and -1 for old ones.

    Rows are told apart by 64 bits of their columns, so that text is read once and not kept. A key of which a moment has passed is told,
    too, though its rows are the same: who reads them compares that moment with the as-of moment, and the version that came true may say
    nothing.

    Parameters
    ----------
    key : column; "" = each row by itself
    """
    names = ", ".join(f'"{column}"' for column in columns)
    digest = f"hash({names})"
    chosen = f'"{key}"' if key else digest
    differing = (
        f"select k from (select {chosen} as k, {digest} as h, 1 as side from {new} "
        f"union all select {chosen} as k, {digest} as h, -1 as side from {old}) group by k, h having sum(side) <> 0"
    )
    if key:
        passed = "cast(k as varchar) in (select id from increment.passed)"
        differing += "".join(
            f' union select k from (select "{key}" as k from {side}) where {passed}' for side in (new, old)
        )
    return (
        f"with differing as materialized ({differing}) "
        f"select {names}, 1 as _side from {new} where {chosen} in (select k from differing) "
        f"union all select {names}, -1 as _side from {old} where {chosen} in (select k from differing)"
    )
