"""The same dbt project is to run on another engine: what differs between engines stands in macros/engine.sql only."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestration.lib.workspace import DBT_PROJECT
from tests.conventions.project import MODELS, shown, sql_files, without_comments, without_jinja, without_strings

#: What one engine alone understands, and what to write instead.
NOT_PORTABLE = {
    r"\bqualify\b": "row_number() in a subquery, then where",
    r"\b(group|order)\s+by\s+all\b": "the columns by name",
    r"\bfilter\s*\(\s*where\b": "sum(case when ... then ... end)",
    r"\basof\b": "a join by inequality, then row_number() = 1",
    r"\b(un)?pivot\b": "max(case when ... then ... end)",
    r"::": "cast(... as ...)",
    r"\*\s*(exclude|replace)\b": "the columns by name",
    r"\bignore\s+nulls\b": "a windowed max over a case",
    r"\bilike\b": "lower(...) like",
    r"//|\bdiv\b": "integer_divide",
    r"\btry_cast\b": "the macro try_cast",
    r"\bsemi\s+join\b|\banti\s+join\b|\bpositional\b": "exists or a left join",
    r"\busing\s*\(": "on, so that it is clear whose column is read",
    r"\[": "no lists",
    r"\bstruct\b|\bunnest\b|\blateral\b": "a row per element",
    r"\binterval\b": "dbt.dateadd",
    r'"': "adapter.quote('...'): some engines read double quotes as text",
    r"\\": "no backslash: it escapes in some engines and not in others",
    r"\bwith\s+recursive\b": "a fixed number of steps",
    r"\blimit\b": "row_number(), because which rows come first is not defined",
}
#: Functions that give the same in every engine that dbt runs on. A new one is added here once that has been looked up.
FUNCTIONS = {
    *(
        "abs",
        "avg",
        "cast",
        "coalesce",
        "count",
        "exp",
        "extract",
        "floor",
        "greatest",
        "lag",
        "lead",
        "least",
        "ln",
        "lower",
    ),
    *("max", "min", "mod", "nullif", "percentile_cont", "replace", "row_number", "sqrt", "sum", "trim", "upper"),
}
#: Words before a bracket that are no functions, and types with a length.
WORDS = {
    *(
        "and",
        "as",
        "by",
        "case",
        "decimal",
        "else",
        "exists",
        "filter",
        "from",
        "group",
        "in",
        "join",
        "not",
        "on",
        "or",
    ),
    *("over", "partition", "select", "then", "union", "values", "when", "where", "with"),
}
#: Results that differ: datediff counts differently per engine, and these are safe only inside of engine.sql.
JINJA_NOT_PORTABLE = {
    r"dbt\.datediff\(": "days_between",
    r"\bvar\(": "a table of settings: a changed variable makes dbt parse everything again",
    r"config\(.*merge": "a full table, or delete+insert",
}


def lines_of(path: Path) -> list[str]:
    return without_strings(without_jinja(without_comments(path.read_text("utf-8")))).splitlines()


@pytest.mark.parametrize("path", sql_files(), ids=shown)
def test_sql__is_understood_by_every_engine(path: Path) -> None:
    found = [
        f"{shown(path)}:{number}: {match[0]!r}; write {instead}"
        for number, line in enumerate(lines_of(path), 1)
        for pattern, instead in NOT_PORTABLE.items()
        if (match := re.search(pattern, line))
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sql_files(), ids=shown)
def test_sql__calls_functions_that_every_engine_has(path: Path) -> None:
    found = [
        f"{shown(path)}:{number}: {name}; add it to FUNCTIONS if every engine has it, else to macros/engine.sql"
        for number, line in enumerate(lines_of(path), 1)
        for name in re.findall(r"\b([a-z_][a-z_0-9]*)\s*\(", line)
        if name not in FUNCTIONS | WORDS and not name.startswith("jinja_value")
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize("path", sql_files(), ids=shown)
def test_jinja__uses_nothing_that_differs_between_engines(path: Path) -> None:
    text = without_comments(path.read_text("utf-8"))
    found = [f"{shown(path)}: {p}; write {instead}" for p, instead in JINJA_NOT_PORTABLE.items() if re.search(p, text)]
    assert not found


@pytest.mark.parametrize("path", sql_files(), ids=shown)
def test_sql__orders_nulls_by_its_own_word_where_it_orders_downwards(path: Path) -> None:
    """Engines put nulls first or last as they like; what is ordered downwards must not be null, or must say where they go."""
    never_null = {
        "_arrived_at", "_file", "_row", "changed_at", "stage", "total_points", "version_at", "identified_at", "points"
    }  # fmt: skip
    for number, line in enumerate(lines_of(path), 1):
        for column in re.findall(r"([\w.]+)\)?\s+desc\b(?!\s+nulls)", line):
            assert column.split(".")[-1] in never_null, f"{shown(path)}:{number}: {column} desc"


@pytest.mark.parametrize("path", sorted(MODELS.rglob("*.sql")), ids=shown)
def test_model__is_lower_case_and_indented_by_four(path: Path) -> None:
    text = without_strings(without_jinja(without_comments(path.read_text("utf-8"))))
    assert text == text.lower(), "SQL is written in lower case"
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        assert "\t" not in line, f"{shown(path)}:{number}: a tab"
        assert line == line.rstrip(), f"{shown(path)}:{number}: blanks at the end"
        assert len(line) <= 140, f"{shown(path)}:{number}: {len(line)} characters"
        indent = len(line) - len(line.lstrip())
        assert indent % 4 == 0 or line.lstrip().startswith(("--", "{%", "}}")), (
            f"{shown(path)}:{number}: indent {indent}"
        )


def test_dbt__has_no_packages() -> None:
    """A package would have to be downloaded on the user's machine, in the middle of the first run."""
    assert not [name for name in ("packages.yml", "dependencies.yml") if (DBT_PROJECT / name).exists()]
