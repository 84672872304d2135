"""The shape of each landed table, read from its Open Data Contract Standard file.

Only the reading: a contract becomes frozen Python objects, or an error that names the file, the line and the
rule. How rows are checked against it is in `validation`, how they are loaded in `loading`, where they come
from in `sources`.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

from orchestration.lib.errors import UserError
from orchestration.lib.settings_file import Location, line_of, read_yaml_with_lines

STANDARD_VERSION = "v3.1.0"

# physical type -> logical types that may stand beside it. What is not listed has no cast rules in `loading`.
LOGICAL_TYPES = {
    "varchar": {"string"},
    "bigint": {"integer"},
    "decimal": {"number"},
    "boolean": {"boolean"},
    "date": {"date"},
    "timestamp": {"timestamp"},
}
OPTIONS = {"minimum", "maximum", "pattern"}
#: The custom property of a column by whose values years of rows are searched.
SEARCHED = "searched"
#: The number for a value of such a column; {} stands for the value. As the macro `search_number`; a test holds both equal.
SEARCH_NUMBER = "cast(hash({0}) >> 33 as integer)"
DECIMAL = re.compile(r"decimal\((\d{1,2}),\s?(\d{1,2})\)")
IDENTIFIER = re.compile(r"[a-z][a-z0-9_]*")


def search_key(column: str) -> str:
    """What the number for the values of a searched column is called in raw tables: null for none, else 31 bits (`search_number` in dbt).

    Years of events are searched by it in a quarter of the time that the text takes. Some values share a number: who searches finds more
    rows than asked for, never fewer.
    """
    return f"_{column}_key"


class ContractError(UserError):
    """A contract file breaks a rule of the standard or of this project.

    `problems` holds one line per broken rule.
    """

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class TableRule:
    """A Great Expectations rule over whole rows, as the contract writes it."""

    description: str
    expectation_type: str
    kwargs: dict[str, Any] = field(hash=False)

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that the expectation is about (those of a row condition are not among them)."""
        named = [self.kwargs[key] for key in ("column", "column_A", "column_B") if key in self.kwargs]
        return tuple(named + list(self.kwargs.get("column_list", [])))


@dataclass(frozen=True)
class Property:
    """One column of a landed table.

    `sql_type` is DuckDB's name in lower case: varchar, bigint, decimal(p,s), boolean, date or timestamp (UTC,
    no zone). `is_searched`: the raw table has a whole number for each value, by which years of rows are searched.
    """

    name: str
    logical_type: str
    sql_type: str
    required: bool
    is_key: bool
    minimum: int | float | None
    maximum: int | float | None
    pattern: str | None
    valid_values: tuple[str, ...]
    classification: str | None
    description: str
    is_searched: bool = False

    @property
    def decimal_scale(self) -> int:
        """Digits after the decimal point; 0 for a type that is not decimal."""
        match = DECIMAL.fullmatch(self.sql_type)
        return int(match[2]) if match else 0


@dataclass(frozen=True)
class Contract:
    """One landed table.

    `key` holds the names of the key columns in key order. `fingerprint` changes exactly when rows would be
    loaded differently: a reworded description does not make a table load again.
    """

    name: str
    source: str
    table: str
    description: str
    properties: tuple[Property, ...]
    key: tuple[str, ...]
    table_rules: tuple[TableRule, ...]
    path: Path
    fingerprint: str

    @property
    def column_names(self) -> tuple[str, ...]:
        return tuple(prop.name for prop in self.properties)

    def property_named(self, name: str) -> Property:
        """The property, or KeyError."""
        for prop in self.properties:
            if prop.name == name:
                return prop
        raise KeyError(name)


def load_contracts(directory: Path) -> dict[str, Contract]:
    """Read every `*.odcs.yaml` of a directory.

    Returns
    -------
    dict
        Contracts by name, e.g. `crm__accounts`, in the order of their names.

    Raises
    ------
    ContractError
        With one line per broken rule of any file: ``file:line: key: rule``.
    """
    problems: list[str] = []
    contracts: dict[str, Contract] = {}
    files = sorted(directory.glob("*.odcs.yaml"))
    if not files:
        raise ContractError([f"{directory}: no contract (*.odcs.yaml) is here"])
    for path in files:
        try:
            contract = _read_contract(path, path.read_bytes())
        except ContractError as error:
            problems.extend(error.problems)
        else:
            contracts[contract.name] = contract
    if problems:
        raise ContractError(problems)
    return contracts


@lru_cache(maxsize=512)
def _read_contract(path: Path, content: bytes) -> Contract:
    # Checking 16 files against the standard's schema costs half a second, so a file is checked once per
    # process as long as its content stays the same. The content is an argument only to be part of the cache's
    # key.
    data, lines = read_yaml_with_lines(path)
    problems = _schema_problems(path, data, lines)
    if problems:
        raise ContractError(problems)
    return _Reader(path, data, lines).contract()


@lru_cache(maxsize=1)
def _standard_validator() -> Any:
    from importlib.resources import files

    from jsonschema import Draft201909Validator

    schema = json.loads((files("open_data_contract_standard") / "schema.json").read_text(encoding="utf-8"))
    return Draft201909Validator(schema)


def _schema_problems(path: Path, data: Any, lines: dict[Location, int]) -> list[str]:
    # The model accepts misspelt keys and the JSON schema does not; the model refuses some shapes that the
    # schema lets pass through its alternatives: so both are asked.
    problems = [
        _problem(path, lines, tuple(error.absolute_path), _shorten(error.message))
        for error in sorted(_standard_validator().iter_errors(data), key=lambda error: str(error.absolute_path))
    ]
    if problems:
        return problems
    from open_data_contract_standard.model import OpenDataContractStandard
    from pydantic import ValidationError

    try:
        OpenDataContractStandard.model_validate(data)
    except ValidationError as error:
        return [_problem(path, lines, tuple(item["loc"]), item["msg"]) for item in error.errors()]
    return []


def _problem(path: Path, lines: dict[Location, int], location: Location, rule: str) -> str:
    dotted = ".".join(str(part) for part in location) or "the file"
    return f"{path}:{line_of(lines, location)}: {dotted}: {rule}"


def _shorten(text: str, limit: int = 200) -> str:
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _Reader:
    """Turns one file that the standard accepts into a Contract, refusing what the loader would not honour."""

    def __init__(self, path: Path, data: dict[str, Any], lines: dict[Location, int]):
        self.path = path
        self.data = data
        self.lines = lines
        self.problems: list[str] = []
        self.rules: list[TableRule] = []

    def fail(self, location: Location, rule: str) -> None:
        self.problems.append(_problem(self.path, self.lines, location, rule))

    def contract(self) -> Contract:
        data = self.data
        if data.get("apiVersion") != STANDARD_VERSION:
            self.fail(("apiVersion",), f"must be {STANDARD_VERSION} (value: {data.get('apiVersion')!r})")
        tables = data.get("schema") or []
        if len(tables) != 1:
            self.fail(("schema",), f"must hold exactly one table (it holds {len(tables)})")
            raise ContractError(self.problems)
        table = tables[0]
        name = str(data.get("name", ""))
        source, _, table_name = name.partition("__")
        if not IDENTIFIER.fullmatch(source) or not IDENTIFIER.fullmatch(table_name):
            self.fail(("name",), f"must be <source>__<table> in lower case (value: {name!r})")
        for place, value, expected in (
            (("domain",), data.get("domain"), source),
            (("schema", 0, "name"), table.get("name"), table_name),
            (("schema", 0, "physicalName"), table.get("physicalName"), name),
        ):
            if value != expected:
                self.fail(place, f"must be {expected!r}, as the name {name!r} says (value: {value!r})")
        if self.path.name != f"{name}.odcs.yaml":
            self.fail(("name",), f"the file of {name!r} must be called {name}.odcs.yaml")

        properties: list[Property] = []
        positions: dict[str, int] = {}
        for number, item in enumerate(table.get("properties") or []):
            location: Location = ("schema", 0, "properties", number)
            prop = self.property(item, location)
            if any(other.name == prop.name for other in properties):
                self.fail(location, f"the column {prop.name!r} stands twice")
            properties.append(prop)
            if prop.is_key:
                positions[prop.name] = item.get("primaryKeyPosition", 1)
        if not positions:
            self.fail(("schema", 0, "properties"), "no column is marked primaryKey")
        elif sorted(positions.values()) != list(range(1, len(positions) + 1)):
            self.fail(("schema", 0, "properties"), f"primaryKeyPosition must count 1, 2, ... (values: {positions})")
        for number, rule in enumerate(table.get("quality") or []):
            self.table_rule(rule, ("schema", 0, "quality", number), properties, None)
        for number, item in enumerate(table.get("properties") or []):
            for position, rule in enumerate(item.get("quality") or []):
                if rule.get("type") == "custom":
                    at: Location = ("schema", 0, "properties", number, "quality", position)
                    self.table_rule(rule, at, properties, str(item["name"]))
        if self.problems:
            raise ContractError(self.problems)
        key = tuple(sorted(positions, key=lambda column: positions[column]))
        return Contract(
            name=name,
            source=source,
            table=table_name,
            description=str(table.get("description") or ""),
            properties=tuple(properties),
            key=key,
            table_rules=tuple(self.rules),
            path=self.path,
            fingerprint=_fingerprint(name, properties, key, self.rules),
        )

    def property(self, item: dict[str, Any], location: Location) -> Property:
        name = str(item.get("name"))
        if not IDENTIFIER.fullmatch(name):
            # A leading underscore is the loader's own (_row, _file ...).
            self.fail((*location, "name"), f"must be lower case letters, digits and _ (value: {name!r})")
        sql_type = str(item.get("physicalType", "")).lower().replace(", ", ",")
        base = "decimal" if DECIMAL.fullmatch(sql_type) else sql_type
        logical = str(item.get("logicalType", ""))
        if base not in LOGICAL_TYPES:
            known = ", ".join(known if known != "decimal" else "decimal(p,s)" for known in LOGICAL_TYPES)
            self.fail((*location, "physicalType"), f"{name}: must be one of {known} (value: {sql_type!r})")
        elif logical not in LOGICAL_TYPES[base]:
            expected = " or ".join(sorted(LOGICAL_TYPES[base]))
            self.fail(
                (*location, "logicalType"),
                f"{name}: a {sql_type} is logically {expected} (value: {logical!r})",
            )
        options = item.get("logicalTypeOptions") or {}
        for option in sorted(set(options) - OPTIONS):
            place: Location = (*location, "logicalTypeOptions", option)
            self.fail(place, f"{name}: not checked by the loader; known are {', '.join(sorted(OPTIONS))}")
        if base not in ("bigint", "decimal") and {"minimum", "maximum"} & set(options):
            self.fail((*location, "logicalTypeOptions"), f"{name}: minimum and maximum are for numbers only")
        pattern = options.get("pattern")
        if pattern is not None:
            try:
                re.compile(pattern)
            except re.error as error:
                self.fail((*location, "logicalTypeOptions", "pattern"), f"{name}: not a regular expression: {error}")
        return Property(
            name=name,
            logical_type=logical,
            sql_type=sql_type,
            required=bool(item.get("required")) or bool(item.get("primaryKey")),
            is_key=bool(item.get("primaryKey")),
            minimum=options.get("minimum"),
            maximum=options.get("maximum"),
            pattern=pattern,
            valid_values=self.valid_values(name, base, item.get("quality") or [], location),
            classification=item.get("classification"),
            description=str(item.get("description") or ""),
            is_searched=self.is_searched(name, item, location),
        )

    def is_searched(self, name: str, item: dict[str, Any], location: Location) -> bool:
        found = False
        for number, custom in enumerate(item.get("customProperties") or []):
            if custom.get("property") != SEARCHED or custom.get("value") is not True:
                self.fail(
                    (*location, "customProperties", number),
                    f"{name}: not read by the loader; known is {SEARCHED}: true",
                )
            found = True
        return found

    def valid_values(self, name: str, base: str, rules: list[dict[str, Any]], location: Location) -> tuple[str, ...]:
        found: tuple[str, ...] = ()
        for position, rule in enumerate(rules):
            place: Location = (*location, "quality", position)
            if rule.get("type") == "custom":
                continue
            values = (rule.get("arguments") or {}).get("validValues")
            if rule.get("metric") != "invalidValues" or rule.get("mustBe") != 0 or not values:
                self.fail(
                    place,
                    f"{name}: not run by the loader; write metric: invalidValues with validValues, mustBe: 0",
                )
                continue
            if base != "varchar":
                self.fail(place, f"{name}: validValues are for varchar columns only")
            for index, value in enumerate(values):
                if not isinstance(value, str):
                    hint = "; YAML reads unquoted yes, no, on and off as booleans" if isinstance(value, bool) else ""
                    item: Location = (*place, "arguments", "validValues", index)
                    self.fail(item, f"{name}: must be text, in quotes{hint} (value: {value!r})")
            found += tuple(str(value) for value in values)
        return found

    def table_rule(
        self, rule: dict[str, Any], location: Location, properties: list[Property], column: str | None
    ) -> None:
        if rule.get("type") != "custom" or rule.get("engine") != "great-expectations":
            self.fail(location, "not run by the loader; write type: custom with engine: great-expectations")
            return
        implementation = rule.get("implementation")
        if not isinstance(implementation, dict) or not isinstance(implementation.get("kwargs", {}), dict):
            self.fail((*location, "implementation"), "must be a mapping of expectation_type and kwargs")
            return
        kwargs = dict(implementation.get("kwargs") or {})
        expectation = implementation.get("expectation_type")
        if not isinstance(expectation, str) or not expectation.startswith("expect_"):
            place: Location = (*location, "implementation", "expectation_type")
            self.fail(place, f"must name an expectation of Great Expectations (value: {expectation!r})")
            return
        if column is not None:
            kwargs.setdefault("column", column)
        built = TableRule(str(rule.get("description") or expectation), expectation, kwargs)
        names = {prop.name for prop in properties}
        for named in built.columns:
            if named not in names:
                self.fail((*location, "implementation", "kwargs"), f"the table has no column {named!r}")
        self.rules.append(built)


def _fingerprint(name: str, properties: list[Property], key: tuple[str, ...], rules: list[TableRule]) -> str:
    shape = {
        "name": name,
        "key": key,
        "properties": [
            [p.name, p.sql_type, p.required, p.minimum, p.maximum, p.pattern, p.valid_values] for p in properties
        ],
        # The words of a rule stand in the quarantine, so they count.
        "rules": [[rule.description, rule.expectation_type, rule.kwargs] for rule in rules],
    }
    return hashlib.sha256(json.dumps(shape, sort_keys=True, default=str).encode()).hexdigest()[:16]
