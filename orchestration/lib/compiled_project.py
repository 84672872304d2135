"""dbt's project as it runs: every model and data test with all names filled in, in the order in which they are built.

dbt compiles it once per state of the project (`dbt_runner`); `model_builds` runs it. Only data here: neither dbt nor DuckDB is called.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

#: The tag of models that join the active card. All others can be built before there is one.
AFTER_THE_CARD = "after_the_card"


@dataclass(frozen=True)
class Column:
    """A column of an enforced contract."""

    name: str
    data_type: str
    is_required: bool
    description: str


@dataclass(frozen=True)
class Kept:
    """How a table that is kept from build to build is brought up to date.

    Attributes
    ----------
    remove_before : condition on the table's rows that go before the model runs; "" = none
    own_rows : condition on the table's rows that are replaced, instead of looking for keys when the model has run: no other row has a key
        that it returns, and it reads no other of its own. "" = unknown
    unique_key : rows with a key that the model returns are replaced; "" = the model's rows are only added
    remove_after : condition on the rows that go at the end; "" = none
    """

    remove_before: str = ""
    own_rows: str = ""
    unique_key: str = ""
    remove_after: str = ""


@dataclass(frozen=True)
class Following:
    """How a model follows the tables that it reads, when only some of their rows differ from the last build's.

    Attributes
    ----------
    rows_by : a column; the model's rows of one value of it are made from rows of that value in every table that has the column (or is
        named in `reads_by`), and from the others as a whole. "" = any difference makes the model anew.
    reads_by : (table, which rows of it belong to a value). Either its column that holds the value, or "column = link.column" where the
        link is a table that the model reads and that has both `rows_by` and the column; with ", as a whole" behind it, the table is
        searched so for what differs and read as a whole; or "-": a table that differs only where another one does, read as a whole.
        A table may be named more than once.
    differs_in : a model or raw table whose differences are those of this one: told there, not found here
    is_difference : the model itself says what differs, and is made at each build
    every_refresh : it reads the as-of moment in another way than by comparing moments of rows with it
    every_day : a table that is kept, and of which all rows may be others on another day: made anew then
    is_compared : made anew, it is compared with the table of the last build
    stamped : "column where condition": in these rows the column is the refresh's as-of moment, which makes no row differ
    refreshed_from : a table with one row per value of `rows_by`, whose other columns are this table's, too, and are written over at each
        refresh: what of a row hangs on all other rows
    """

    rows_by: str = ""
    reads_by: tuple[tuple[str, str], ...] = ()
    differs_in: str = ""
    is_difference: bool = False
    every_refresh: bool = False
    every_day: bool = False
    is_compared: bool = False
    stamped: str = ""
    refreshed_from: str = ""


@dataclass(frozen=True)
class CompiledModel:
    """One model.

    Attributes
    ----------
    layer : schema of the warehouse that it is in
    group : folder below the layer, e.g. "scores"
    relation : quoted and complete
    materialized : "view", "table" or "kept"
    sql : as a full build runs it
    increment_sql : as a build runs it that keeps what it can; reads the last build's tables
    depends_on : names of models
    sources : (source, table) that it reads
    columns : of the contract, in order; empty = none is enforced
    following : how it follows what it reads
    joins_as_written : the right side of each join is the small one. For models whose large side DuckDB takes for small, because it
        comes out of a condition that it cannot estimate: it would keep years of touchpoints in memory.
    """

    name: str
    layer: str
    group: str
    relation: str
    materialized: str
    description: str
    tags: tuple[str, ...]
    sql: str
    increment_sql: str
    depends_on: tuple[str, ...]
    sources: tuple[tuple[str, str], ...]
    kept: Kept | None = None
    columns: tuple[Column, ...] = ()
    joins_as_written: bool = False
    following: Following = field(default_factory=Following)

    @property
    def is_table(self) -> bool:
        return self.materialized != "view"

    @property
    def is_after_the_card(self) -> bool:
        return AFTER_THE_CARD in self.tags


@dataclass(frozen=True)
class CompiledTest:
    """One data test: its query returns the rows that break it.

    Attributes
    ----------
    rows_by : column of each table that it reads; the rows of one value keep the test or break it whatever the others are. "" = it is
        about tables as a whole
    sources : (source, table) that it reads beside models
    """

    name: str
    sql: str
    only_warns: bool
    models: tuple[str, ...]
    rows_by: str = ""
    sources: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class CompiledProject:
    """All models by name, each after those that it reads, and all data tests."""

    models: dict[str, CompiledModel]
    tests: list[CompiledTest] = field(default_factory=list)

    @classmethod
    def of(cls, models: Iterable[CompiledModel], tests: Iterable[CompiledTest]) -> CompiledProject:
        """Put models into the order of building; a given set always comes in the same order."""
        by_name = {model.name: model for model in sorted(models, key=lambda m: m.name)}
        graph = {name: {d for d in model.depends_on if d in by_name} for name, model in by_name.items()}
        # Who reads a table whose differences another one tells comes after that one, unless it is made from it.
        made_from = {
            told: _upstream(graph, told) for told in {m.following.differs_in for m in by_name.values()} if told in graph
        }
        for name in by_name:
            for read in list(graph[name]):
                told = by_name[read].following.differs_in
                if told in made_from and name not in made_from[told]:
                    graph[name].add(told)
        ordered = TopologicalSorter(graph).static_order()
        return cls({name: by_name[name] for name in ordered}, sorted(tests, key=lambda t: t.name))

    def select(self, *names: str) -> list[CompiledModel]:
        """These models, in the order of building.

        Raises
        ------
        KeyError
            There is no such model.
        """
        wanted = {self.models[name].name for name in names}
        return [model for name, model in self.models.items() if name in wanted]

    def upstream_of(self, *names: str) -> list[CompiledModel]:
        """These models and all that they are made from, in the order of building."""
        wanted: set[str] = set()
        waiting = list(names)
        while waiting:
            name = waiting.pop()
            if name not in wanted:
                wanted.add(name)
                waiting.extend(self.models[name].depends_on)
        return self.select(*wanted)

    def between(self, first: str, *last: str) -> list[CompiledModel]:
        """The models that are made from `first` and that `last` are made from, `last` included, in the order of building."""
        made_from = {first}
        for model in self.models.values():  # each stands after those that it reads
            if not made_from.isdisjoint(model.depends_on):
                made_from.add(model.name)
        return [model for model in self.upstream_of(*last) if model.name in made_from - {first}]

    def step(self, *, after_the_card: bool) -> list[CompiledModel]:
        """The models of one of the two steps of a refresh."""
        return [model for model in self.models.values() if model.is_after_the_card == after_the_card]

    def tests_of(self, models: Iterable[CompiledModel], *, already_built: Iterable[str] = ()) -> list[CompiledTest]:
        """The tests that can be answered when these models are built, and not before: each reads one of them at least.

        Parameters
        ----------
        already_built : names of models that need not be among them
        """
        new = {model.name for model in models}
        there = new | set(already_built)
        return [t for t in self.tests if there.issuperset(t.models) and not new.isdisjoint(t.models)]

    def write(self, path: Path) -> None:
        """Write the project as JSON, whole or not at all."""
        document = {"models": [asdict(m) for m in self.models.values()], "tests": [asdict(t) for t in self.tests]}
        building = path.with_name(f"{path.name}.{os.getpid()}")
        building.write_text(json.dumps(document), encoding="utf-8")
        building.replace(path)

    @classmethod
    def read(cls, path: Path) -> CompiledProject:
        """The project that `write` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            {model["name"]: _model(model) for model in document["models"]},
            [_test(test) for test in document["tests"]],
        )


def _test(document: dict[str, Any]) -> CompiledTest:
    sources = tuple((source, table) for source, table in document["sources"])
    return CompiledTest(**{**document, "models": tuple(document["models"]), "sources": sources})


def _upstream(graph: Mapping[str, set[str]], name: str) -> set[str]:
    """A model and all that it is made from."""
    found: set[str] = set()
    waiting = [name]
    while waiting:
        one = waiting.pop()
        if one not in found:
            found.add(one)
            waiting.extend(graph[one])
    return found


def _model(values: dict[str, Any]) -> CompiledModel:
    return CompiledModel(
        **{
            **values,
            "tags": tuple(values["tags"]),
            "depends_on": tuple(values["depends_on"]),
            "sources": tuple((source, table) for source, table in values["sources"]),
            "kept": Kept(**values["kept"]) if values["kept"] else None,
            "columns": tuple(Column(**column) for column in values["columns"]),
            "following": _following(values["following"]),
        }
    )


def _following(values: dict[str, Any]) -> Following:
    return Following(**{**values, "reads_by": tuple((table, rows) for table, rows in values["reads_by"])})
