"""Reads a YAML settings file into a pydantic model; every error names file, line, rule and value.

Only the reading and the form of the errors: what the settings mean is in the modules that own the models.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from orchestration.lib.errors import UserError

Model = TypeVar("Model", bound=BaseModel)
Location = tuple[str | int, ...]


class SettingsError(UserError):
    """A settings file breaks a rule. `problems` holds one line of text per broken rule."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


def read_yaml_with_lines(path: Path) -> tuple[Any, dict[Location, int]]:
    """Parse a YAML file.

    Returns
    -------
    (data, lines)
        `lines` maps the location of each key or item, e.g. ("criteria", "employees", "bands", 0), to its line, from 1.

    Raises
    ------
    SettingsError
        The file is missing, is not YAML, or has the same key twice in one mapping.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError([f"{path}: the file does not exist"]) from None
    except UnicodeDecodeError as error:
        raise SettingsError([f"{path}: not UTF-8 text at byte {error.start}"]) from None
    try:
        node, data = _parse(text, yaml.CSafeLoader if yaml.__with_libyaml__ else yaml.SafeLoader)
    except yaml.YAMLError:
        # Parsed again for the message: the Python parser tells more exactly what is wrong, and where.
        try:
            node, data = _parse(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise SettingsError([f"{path}:{line}: not valid YAML: {error.problem}"]) from None
        except yaml.YAMLError as error:
            raise SettingsError([f"{path}:1: not valid YAML: {error}"]) from None

    lines: dict[Location, int] = {}
    problems: list[str] = []

    def visit(node: yaml.Node, location: Location) -> None:
        lines.setdefault(location, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            for key_node, value_node in node.value:
                child = (*location, str(key_node.value))
                if child in lines:
                    # Not looked into: the keys of the second mapping would seem to stand twice as well.
                    line = key_node.start_mark.line + 1
                    problems.append(f"{path}:{line}: {_dotted(child)}: the key stands twice")
                    continue
                lines[child] = key_node.start_mark.line + 1
                visit(value_node, child)
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                visit(item, (*location, index))

    if node is not None:
        visit(node, ())
    if problems:
        raise SettingsError(problems)
    return data, lines


def _parse(text: str, loader_class: Any) -> tuple[yaml.Node | None, Any]:
    # libyaml's parser reads the sixteen contracts in a tenth of the time.
    loader = loader_class(text)
    try:
        node = loader.get_single_node()
        return node, loader.construct_document(node) if node is not None else None
    finally:
        loader.dispose()


def read_settings(path: Path, model: type[Model]) -> Model:
    """Read and validate a settings file.

    Raises
    ------
    SettingsError
        With one line per broken rule: ``file:line: key: rule (value)``.
    """
    data, lines = read_yaml_with_lines(path)
    try:
        return model.model_validate(data if data is not None else {})
    except ValidationError as error:
        raise SettingsError(_describe_all(path, lines, error.errors())) from None


def line_of(lines: dict[Location, int], location: Location) -> int:
    """The line of a location, or of its nearest parent that is written in the file."""
    while location and location not in lines:
        location = location[:-1]
    return lines.get(location, 1)


def _describe_all(path: Path, lines: dict[Location, int], problems: Sequence[Any]) -> list[str]:
    """One text per place in the file.

    Where a value may be one of several kinds, pydantic tells for each kind why it is not that one. What was meant is the
    kind that got deepest into the value; kinds that got equally deep are alternatives.
    """
    by_place: dict[tuple[Location, Location], list[Any]] = {}
    for problem in problems:
        location = _in_file(lines, problem["loc"])
        shown = (*location, problem["loc"][-1]) if problem["type"] == "missing" else location
        by_place.setdefault((location, shown), []).append(problem)

    def is_another_kind(location: Location, found: list[Any]) -> bool:
        deeper = any(len(other) > len(location) and other[: len(location)] == location for _, other in by_place)
        return deeper and all(len(problem["loc"]) > len(location) for problem in found)

    texts = []
    for (location, shown), found in by_place.items():
        if is_another_kind(shown, found):
            continue
        rules = list(dict.fromkeys(_rule(problem) for problem in found))
        value = found[0]["input"]
        is_long = isinstance(value, dict | list) or found[0]["type"] == "missing"
        shown_value = "" if is_long else f" (value: {value!r})"
        line = line_of(lines, location)
        texts.append((line, f"{path}:{line}: {_dotted(shown) or 'the file'}: {', or '.join(rules)}{shown_value}"))
    return [text for _, text in sorted(texts, key=lambda item: item[0])]


def _in_file(lines: dict[Location, int], location: Location) -> Location:
    # pydantic adds the name of the union member or validator to the location: keep only what stands in the file.
    kept: Location = ()
    for part in location:
        if (*kept, part) in lines:
            kept = (*kept, part)
    return kept


def _rule(problem: Any) -> str:
    rule = problem["msg"].removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    if problem["type"] == "string_type" and isinstance(problem["input"], bool):
        rule += "; YAML reads unquoted yes, no, on and off as booleans: put quotes around it"
    return rule


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
