"""What rules and segments have in common: a folder of the workspace with one YAML file each, whose conditions become a view.

Belongs here: which files there are, reading each on its own so that a wrong one is refused, told and stops no other, and the view
of what the conditions match. Does not: what a condition is (`conditions`), what a rule or a segment says and does (`rules`, `segments`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import duckdb
from pydantic import BaseModel

from orchestration.lib.conditions import DIALECT, RELATIONS, Catalogue, ConditionError, Group, check_condition
from orchestration.lib.errors import UserError
from orchestration.lib.settings_file import read_settings, read_yaml_with_lines
from orchestration.lib.settings_tables import REFUSAL_TABLES
from orchestration.lib.warehouse import drop_relation, transaction

if TYPE_CHECKING:
    from sqlglot import exp

Model = TypeVar("Model", bound=BaseModel)
Found = TypeVar("Found")


@dataclass(frozen=True)
class Refusal:
    """A file that is left out of a refresh; `reasons` holds one line per broken rule: file, field, rule and value."""

    path: Path
    reasons: tuple[str, ...]


def condition_files(folder: Path) -> list[Path]:
    """The files of a folder, by name."""
    return sorted(path for path in folder.glob("*.yml") if not path.name.startswith("."))


def read_definition(path: Path, model: type[Model]) -> Model | None:
    """What one file says, its conditions not yet checked; None where everything in it is a comment.

    Raises
    ------
    SettingsError
        With the file, the line, the field, the rule and the value of each problem.
    """
    return None if read_yaml_with_lines(path)[0] is None else read_settings(path, model)


def check_conditions(
    path: Path, documents: Mapping[str, Any], catalogue: Catalogue, *, of: Mapping[str, str] | None = None
) -> tuple[dict[str, Group | None], list[str]]:
    """The conditions of a file as checked trees, None where there is no document, and one line for each thing wrong with them.

    Parameters
    ----------
    documents : field of the file -> its document or None
    of : field -> "contacts" or "touchpoints", where its condition is on one of these and not on the subject
    """
    trees: dict[str, Group | None] = dict.fromkeys(documents)
    problems: list[str] = []
    for name, document in documents.items():
        if document is None:
            continue
        try:
            trees[name] = check_condition(document, catalogue, of=(of or {}).get(name), where=name)
        except ConditionError as error:
            problems += [f"{path}: {problem}" for problem in error.problems]
    return trees, problems


def read_each(folder: Path, read: Callable[[Path], Found | None]) -> tuple[list[Found], list[Refusal]]:
    """What `read` makes of each file, and the files that it refuses. Files of which it makes None are in neither."""
    found: list[Found] = []
    refused: list[Refusal] = []
    for path in condition_files(folder):
        try:
            one = read(path)
        except UserError as error:
            refused.append(Refusal(path, tuple(str(error).split("\n"))))
        else:
            found += [one] if one is not None else []
    return found, refused


def runnable(
    con: duckdb.DuckDBPyConnection,
    found: Sequence[Found],
    path_of: Callable[[Found], Path],
    query_of: Callable[[Found], exp.Expression],
) -> tuple[list[Found], list[Refusal]]:
    """Those whose query the warehouse can run, and the files of the others: one that fails in the view would stop all."""
    running: list[Found] = []
    refused: list[Refusal] = []
    for one in found:
        try:
            con.execute(f"explain {query_of(one).sql(dialect=DIALECT)}")
        except duckdb.Error as error:
            refused.append(Refusal(path_of(one), (f"{path_of(one)}: the warehouse cannot run it: {error}",)))
        else:
            running.append(one)
    return running, refused


def ensure_relations(con: duckdb.DuckDBPyConnection) -> None:
    """Make the relations that conditions read, empty, where dbt has not built them yet in the shape that they need.

    The view of the matches is made before dbt runs, and a view needs something to stand on. dbt replaces all of them in
    the same refresh.
    """
    for name, columns in RELATIONS.items():
        schema, table = name.split(".")
        needed = {column.split()[0] for column in columns.split(", ")}
        there = {
            column
            for (column,) in con.execute(
                "select column_name from information_schema.columns where table_schema = ? and table_name = ?",
                [schema, table],
            ).fetchall()
        }
        if not needed <= there:
            con.execute(f"create schema if not exists {schema}")
            drop_relation(con, schema, table)
            con.execute(f"create table {schema}.{table} ({columns})")


def replace_matches(con: duckdb.DuckDBPyConnection, name: str, columns: str, queries: Sequence[exp.Expression]) -> None:
    """Make the view `settings.<name>` of all rows of the queries.

    Parameters
    ----------
    columns : "name type, name type": what the view has where there is no query, in the order of the queries' columns
    """
    from sqlglot import exp

    typed = [column.split() for column in columns.split(", ")]
    matches: Any = exp.select(*(exp.alias_(exp.cast(exp.null(), kind), column) for column, kind in typed))
    matches = matches.where(exp.false())
    for query in queries:
        matches = exp.union(matches, query, distinct=False)
    drop_relation(con, "settings", name)
    con.execute(f"create view settings.{name} as {matches.sql(dialect=DIALECT)}")


def write_refusals(con: duckdb.DuckDBPyConnection, refused: Sequence[Refusal]) -> None:
    """Replace the table `settings.refused_files`: one row per file, its reasons in lines."""
    with transaction(con):
        con.execute("create schema if not exists settings")
        con.execute(f"create or replace table settings.refused_files ({REFUSAL_TABLES['refused_files']})")
        for refusal in refused:
            row = [refusal.path.parent.name, refusal.path.name, "\n".join(refusal.reasons)]
            con.execute("insert into settings.refused_files values (?, ?, ?)", row)
