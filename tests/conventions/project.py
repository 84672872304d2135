"""The repository as text: dbt models, Python modules and tracked files. Nothing is built or imported to look at it."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from orchestration.lib.workspace import DBT_PROJECT, PROJECT_ROOT

MODELS = DBT_PROJECT / "models"
MACROS = DBT_PROJECT / "macros"
#: The one file in which engines may differ.
ENGINE = MACROS / "engine.sql"
PYTHON_PACKAGES = ("orchestration", "ml", "tests")

_REF = re.compile(r"ref\('(\w+)'\)")
_SOURCE = re.compile(r"source\('(\w+)', (?:'(\w+)'|(\w+))\)")


@dataclass(frozen=True)
class Model:
    """One dbt model as its file says. `sources` are pairs (source, table); the table is empty where a loop fills it in."""

    name: str
    path: Path
    layer: str
    area: str
    sql: str

    @property
    def refs(self) -> set[str]:
        return set(_REF.findall(self.sql))

    @property
    def sources(self) -> set[tuple[str, str]]:
        return {(source, table) for source, table, _ in _SOURCE.findall(self.sql)}

    def __str__(self) -> str:
        return self.name


@cache
def models() -> dict[str, Model]:
    """All models by name."""
    found = {}
    for path in sorted(MODELS.rglob("*.sql")):
        layer, *area = path.relative_to(MODELS).parts[:-1]
        found[path.stem] = Model(path.stem, path, layer, "/".join(area), without_comments(path.read_text("utf-8")))
    return found


def models_of(layer: str) -> list[Model]:
    """The models of staging, intermediate, features or marts."""
    chosen = [model for model in models().values() if model.layer == layer]
    assert chosen, f"no model is in the layer {layer!r}"
    return chosen


@cache
def model_yaml() -> dict[str, tuple[Path, dict[str, Any]]]:
    """Model name -> the YAML file that describes it and what it says."""
    found: dict[str, tuple[Path, dict[str, Any]]] = {}
    for path in sorted(MODELS.rglob("*.yml")):
        for model in (yaml.safe_load(path.read_text("utf-8")) or {}).get("models", []):
            assert model["name"] not in found, f"{model['name']} is described in {found[model['name']][0]} and {path}"
            found[model["name"]] = (path, model)
    return found


@cache
def unit_tests() -> dict[str, dict[str, Any]]:
    """dbt unit tests by name."""
    found: dict[str, dict[str, Any]] = {}
    for path in sorted(MODELS.rglob("unit_tests.yml")):
        for test in yaml.safe_load(path.read_text("utf-8"))["unit_tests"]:
            assert test["name"] not in found, f"two unit tests are called {test['name']}"
            found[test["name"]] = test
    return found


def without_comments(sql: str) -> str:
    """SQL without `--` and `{# #}` comments; line numbers stay."""
    sql = re.sub(r"{#.*?#}", lambda match: "\n" * match[0].count("\n"), sql, flags=re.DOTALL)
    return re.sub(r"--[^\n]*", "", sql)


def without_jinja(sql: str) -> str:
    """SQL with each expression replaced by a name and each statement by nothing; line numbers stay."""

    def blank(match: re.Match[str]) -> str:
        return "\n" * match[0].count("\n")

    sql = re.sub(r"{%.*?%}", blank, sql, flags=re.DOTALL)
    return re.sub(r"{{.*?}}", lambda match: "jinja_value" + blank(match), sql, flags=re.DOTALL)


def without_strings(sql: str) -> str:
    """SQL with the text between single quotes left out."""
    return re.sub(r"'[^'\n]*'", "''", sql)


def sql_files() -> list[Path]:
    """Models, macros and tests of dbt, but for the engine file."""
    return [path for path in sorted(DBT_PROJECT.rglob("*.sql")) if path != ENGINE and "target" not in path.parts]


@cache
def tracked_files() -> tuple[Path, ...]:
    """What git would put into a commit: tracked files, and new ones that are not ignored."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=PROJECT_ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    return tuple(sorted(path for name in listed.split("\0") if name and (path := PROJECT_ROOT / name).is_file()))


def python_files(*packages: str) -> list[Path]:
    """Tracked modules of the named packages."""
    return [
        path
        for path in tracked_files()
        if path.suffix == ".py" and path.relative_to(PROJECT_ROOT).parts[0] in (packages or PYTHON_PACKAGES)
    ]


def imports_of(path: Path, *, only_at_import: bool) -> Iterator[tuple[int, str]]:
    """Line and full name of each imported module.

    Parameters
    ----------
    only_at_import : leave out what is imported inside functions or for type checkers only, which costs nothing at import
    """

    def visit(node: ast.AST) -> Iterator[tuple[int, str]]:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield (node.lineno, node.module or "")
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        if only_at_import and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            return
        if only_at_import and isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        for child in ast.iter_child_nodes(node):
            yield from visit(child)

    yield from visit(ast.parse(path.read_text("utf-8")))


def shown(path: Path) -> str:
    """A path as people write it."""
    return str(path.relative_to(PROJECT_ROOT))
