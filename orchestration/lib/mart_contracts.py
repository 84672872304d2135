"""Writes what is derived from the marts' dbt YAML: one ODCS file per published mart, and the tables in docs/tables.md.

The YAML beside a mart is the one home of its columns; here is only the translation, and the comparison of files and
of a published snapshot with it. Contracts of landed tables are read by `contracts`.

`python -m orchestration.lib.mart_contracts` writes; with `--check` it changes nothing, prints what differs and fails.
"""

from __future__ import annotations

import argparse
import difflib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from orchestration.lib.contracts import STANDARD_VERSION
from orchestration.lib.errors import UserError
from orchestration.lib.warehouse import quoted
from orchestration.lib.workspace import DBT_PROJECT, MART_CONTRACTS, PROJECT_ROOT

TABLES_PAGE = PROJECT_ROOT / "docs" / "tables.md"
BEGIN, END = "<!-- begin: marts -->", "<!-- end: marts -->"
_HEADER = "# Made from dbt_project/models/marts by: python -m orchestration.lib.mart_contracts\n"
#: What `publishing` adds to the marts: which snapshot this is. No model makes it.
PUBLICATION = "publication"

_LOGICAL_TYPES = {
    "varchar": "string",
    "bigint": "integer",
    "integer": "integer",
    "double": "number",
    "decimal": "number",
    "boolean": "boolean",
    "date": "date",
    "timestamp": "timestamp",
}
#: Keys in YAML that this translation understands. Another one would be lost in the contract without a word.
_MODEL_KEYS = {"name", "description", "columns", "data_tests", "config"}
_COLUMN_KEYS = {"name", "data_type", "description", "constraints", "data_tests"}


@dataclass(frozen=True)
class MartColumn:
    """One column of a published mart, as its YAML says.

    `data_type` is DuckDB's name in lower case, e.g. `decimal(18,2)`. `accepted_values` is empty where any value may stand.
    """

    name: str
    data_type: str
    description: str
    is_required: bool
    is_unique: bool
    accepted_values: tuple[str, ...]


@dataclass(frozen=True)
class Mart:
    """One published mart. `key` holds the columns that it has one row per combination of; empty where it has no key."""

    name: str
    area: str
    description: str
    columns: tuple[MartColumn, ...]
    key: tuple[str, ...]


def read_marts(models: Path = DBT_PROJECT / "models" / "marts") -> list[Mart]:
    """The marts in the order of their names, from `<area>/<mart>.yml`.

    Raises
    ------
    UserError
        The YAML uses something that the contract could not say: an unknown key, type or test.
    """
    marts = []
    for path in sorted(models.glob("*/*.yml")):
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        for model in document.get("models", []):
            marts.append(_mart(path, model))
    return sorted(marts, key=lambda mart: mart.name)


def _mart(path: Path, model: dict[str, Any]) -> Mart:
    where = f"{path.name}: {model['name']}"
    _refuse_others(where, model, _MODEL_KEYS)
    columns = []
    for column in model["columns"]:
        place = f"{where}.{column['name']}"
        _refuse_others(place, column, _COLUMN_KEYS)
        constraints = {constraint["type"] for constraint in column.get("constraints", [])}
        if constraints - {"not_null"}:
            raise UserError(f"{place}: only the constraint not_null has a place in the contract (value: {constraints})")
        if column["data_type"].split("(")[0] not in _LOGICAL_TYPES:
            raise UserError(f"{place}: the type has no logical type (value: {column['data_type']!r})")
        values: tuple[str, ...] = ()
        is_unique = False
        for test in column.get("data_tests", []):
            name, arguments = _test(test)
            if name == "unique":
                is_unique = True
            elif name == "accepted_values":
                values = tuple(arguments["values"])
            elif name != "relationships":
                raise UserError(f"{place}: the test has no place in the contract (value: {name!r})")
        columns.append(
            MartColumn(
                name=column["name"],
                data_type=column["data_type"],
                description=_one_line(column["description"]),
                is_required="not_null" in constraints,
                is_unique=is_unique,
                accepted_values=values,
            )
        )
    keys = [(column.name,) for column in columns if column.is_unique and column.is_required]
    for test in model.get("data_tests", []):
        name, arguments = _test(test)
        if name != "one_row_per":
            raise UserError(f"{where}: the test has no place in the contract (value: {name!r})")
        keys.append(tuple(arguments["columns"]))
    if len(keys) > 1:
        raise UserError(f"{where}: a mart has one key (value: {keys})")
    return Mart(
        name=model["name"],
        area=path.parent.name,
        description=_one_line(model["description"]),
        columns=tuple(columns),
        key=keys[0] if keys else (),
    )


def _refuse_others(where: str, given: dict[str, Any], known: set[str]) -> None:
    if set(given) - known:
        raise UserError(f"{where}: no translation to the contract (value: {sorted(set(given) - known)})")


def _test(test: str | dict[str, Any]) -> tuple[str, dict[str, Any]]:
    if isinstance(test, str):
        return test, {}
    ((name, body),) = test.items()
    return name, body.get("arguments", {})


def _one_line(text: str) -> str:
    return " ".join(text.split())


def contract_document(mart: Mart) -> dict[str, Any]:
    """The mart's contract as the Open Data Contract Standard writes it."""
    properties: list[dict[str, Any]] = []
    for column in mart.columns:
        entry: dict[str, Any] = {
            "name": column.name,
            "logicalType": _LOGICAL_TYPES[column.data_type.split("(")[0]],
            "physicalType": column.data_type,
            "description": column.description,
        }
        if column.name in mart.key:
            entry |= {"primaryKey": True, "primaryKeyPosition": mart.key.index(column.name) + 1}
        if column.is_required:
            entry["required"] = True
        if column.is_unique:
            entry["unique"] = True
        if column.accepted_values:
            entry["quality"] = [
                {
                    "type": "library",
                    "metric": "invalidValues",
                    "arguments": {"validValues": list(column.accepted_values)},
                    "mustBe": 0,
                }
            ]
        properties.append(entry)
    return {
        "apiVersion": STANDARD_VERSION,
        "kind": "DataContract",
        "id": f"urn:account-scoring:marts:{mart.name}",
        "name": mart.name,
        "version": "1.0.0",
        "status": "active",
        "domain": mart.area,
        "description": {"purpose": mart.description},
        "schema": [
            {
                "name": mart.name,
                "physicalName": f"marts.{mart.name}",
                "physicalType": "table",
                "description": mart.description,
                "properties": properties,
            }
        ],
    }


def contract_file(mart: Mart) -> Path:
    """Where the mart's contract stands."""
    return MART_CONTRACTS / f"{mart.name}.odcs.yaml"


def contract_text(mart: Mart) -> str:
    """The whole text of the mart's contract file.

    Raises
    ------
    UserError
        The document breaks the standard's own schema.
    """
    import jsonschema
    import open_data_contract_standard

    document = contract_document(mart)
    schema = json.loads(Path(open_data_contract_standard.__file__).with_name("schema.json").read_text(encoding="utf-8"))
    for problem in jsonschema.validators.validator_for(schema)(schema).iter_errors(document):
        raise UserError(f"{mart.name}: {'.'.join(map(str, problem.absolute_path))}: {problem.message}")
    return _HEADER + yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=110)


def tables_text(marts: Sequence[Mart]) -> str:
    """What stands between the markers of docs/tables.md: an overview, then the columns of each mart."""
    lines = ["| mart | what | key |", "|---|---|---|"]
    for mart in marts:
        key = ", ".join(f"`{name}`" for name in mart.key) or "none"
        lines.append(f"| [`{mart.name}`](#{mart.name}) | {_cell(mart.description)} | {key} |")
    for mart in marts:
        lines += ["", f"### {mart.name}", "", "| column | type | what |", "|---|---|---|"]
        for column in mart.columns:
            empty = "" if column.is_required else " (may be empty)"
            lines.append(f"| `{column.name}` | {column.data_type}{empty} | {_cell(column.description)} |")
    return "\n".join(lines)


def _cell(text: str) -> str:
    return re.sub(r"([|<>])", r"\\\1", text)


def expected_files(marts: Sequence[Mart]) -> dict[Path, str]:
    """Every derived file with the text that it should have.

    Raises
    ------
    UserError
        docs/tables.md has lost its markers.
    """
    expected = {contract_file(mart): contract_text(mart) for mart in marts}
    page = TABLES_PAGE.read_text(encoding="utf-8")
    if page.count(BEGIN) != 1 or page.count(END) != 1:
        raise UserError(f"{TABLES_PAGE.name}: the lines {BEGIN!r} and {END!r} must each stand once")
    before, rest = page.split(BEGIN)
    expected[TABLES_PAGE] = f"{before}{BEGIN}\n\n{tables_text(marts)}\n\n{END}{rest.split(END)[1]}"
    return expected


def differences(marts: Sequence[Mart]) -> str:
    """What is in the files and should not be, and the other way round, as a unified diff; empty when all is fresh."""
    expected = expected_files(marts)
    texts: list[str] = []
    for path in sorted({*expected, *MART_CONTRACTS.glob("*.odcs.yaml")}):
        found = path.read_text(encoding="utf-8") if path.is_file() else ""
        name = str(path.relative_to(PROJECT_ROOT))
        wanted = expected.get(path, "")
        texts += difflib.unified_diff(found.splitlines(), wanted.splitlines(), name, f"{name} (from dbt)", lineterm="")
    return "\n".join(texts)


def write_files(marts: Sequence[Mart]) -> list[Path]:
    """Write what is not fresh and remove contracts of marts that are gone. Returns the changed paths."""
    expected = expected_files(marts)
    changed = []
    for path, text in expected.items():
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    for path in sorted(set(MART_CONTRACTS.glob("*.odcs.yaml")) - set(expected)):
        path.unlink()
        changed.append(path)
    return changed


def published_problems(file: Path, marts: Sequence[Mart]) -> list[str]:
    """What a published file does not keep of its contracts: tables, columns and types, in their order, and their rules.

    Parameters
    ----------
    file : a snapshot, opened read-only
    """
    import duckdb

    problems = []
    with duckdb.connect(str(file), read_only=True) as con:
        found = {name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()}
        wanted = {mart.name for mart in marts} | {PUBLICATION}
        problems += [f"{name}: published without a contract" for name in sorted(found - wanted)]
        problems += [f"{name}: not published" for name in sorted(wanted - found)]
        for mart in marts:
            if mart.name not in found:
                continue
            columns = con.execute(
                "select column_name, lower(data_type), comment from duckdb_columns() where table_name = ? order by column_index",
                [mart.name],
            ).fetchall()
            promised = [(column.name, column.data_type, column.description) for column in mart.columns]
            published = [(name, data_type, _one_line(comment or "")) for name, data_type, comment in columns]
            problems += [
                f"{mart.name}.{(theirs or ours)[0]}: published {theirs}, contract {ours}"
                for theirs, ours in _pairs(published, promised)
                if theirs != ours
            ]
            if {name for name, _, _ in published} == {name for name, _, _ in promised}:
                problems += _broken_rules(con, mart)
    return problems


def _pairs(left: list[Any], right: list[Any]) -> list[tuple[Any, Any]]:
    length = max(len(left), len(right))
    return list(zip(left + [None] * (length - len(left)), right + [None] * (length - len(right)), strict=True))


def _broken_rules(con: Any, mart: Mart) -> list[str]:
    rules = {f"{c.name} is required": f'"{c.name}" is null' for c in mart.columns if c.is_required}
    for column in mart.columns:
        if column.accepted_values:
            values = ", ".join(quoted(str(value)) for value in column.accepted_values)
            rules[f"{column.name} is one of {values}"] = f'"{column.name}" not in ({values})'
    problems = []
    for rule, broken in rules.items():
        count = con.execute(f'select count(*) from marts."{mart.name}" where {broken}').fetchall()[0][0]
        if count:
            problems.append(f"{mart.name}: {rule}: {count} rows do not keep it")
    keys = [mart.key] if mart.key else []
    for key in [*keys, *((c.name,) for c in mart.columns if c.is_unique and (c.name,) != mart.key)]:
        names = ", ".join(f'"{name}"' for name in key)
        count = con.execute(
            f'select count(*) from (select {names} from marts."{mart.name}" group by {names} having count(*) > 1)'
        ).fetchall()[0][0]
        if count:
            problems.append(f"{mart.name}: one row per {', '.join(key)}: {count} keys have more")
    return problems


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m orchestration.lib.mart_contracts", description=__doc__)
    parser.add_argument("--check", action="store_true", help="change nothing; print what is not fresh and fail")
    options = parser.parse_args(arguments)
    marts = read_marts()
    if options.check:
        text = differences(marts)
        if text:
            print(text)
            print("not fresh; write them with: python -m orchestration.lib.mart_contracts")
        return 1 if text else 0
    for path in write_files(marts):
        print(path.relative_to(PROJECT_ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
