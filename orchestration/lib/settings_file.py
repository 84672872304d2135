"""Reads a YAML settings file into a pydantic model; every error names file, line, rule and value.

Only the reading and the form of the errors: what the settings mean is in the modules that own the models.
"""

from __future__ import annotations

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
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        data = yaml.safe_load(text)
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
                    problems.append(f"{path}:{key_node.start_mark.line + 1}: {_dotted(child)}: the key stands twice")
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
        raise SettingsError([_describe(path, lines, problem) for problem in error.errors()]) from None


def line_of(lines: dict[Location, int], location: Location) -> int:
    """The line of a location, or of its nearest parent that is written in the file."""
    while location and location not in lines:
        location = location[:-1]
    return lines.get(location, 1)


def _describe(path: Path, lines: dict[Location, int], problem: Any) -> str:
    # pydantic adds the name of the union member or validator to the location: keep only what stands in the file.
    location: Location = ()
    for part in problem["loc"]:
        if (*location, part) in lines:
            location = (*location, part)
    missing = problem["type"] == "missing"
    shown = (*location, problem["loc"][-1]) if missing else location
    rule = problem["msg"].removeprefix("Value error, ")
    rule = rule[:1].lower() + rule[1:]
    if problem["type"] == "string_type" and isinstance(problem["input"], bool):
        rule += "; YAML reads unquoted yes, no, on and off as booleans: put quotes around it"
    value = "" if missing or isinstance(problem["input"], dict | list) else f" (value: {problem['input']!r})"
    return f"{path}:{line_of(lines, location)}: {_dotted(shown) or 'the file'}: {rule}{value}"


def _dotted(location: Location) -> str:
    return ".".join(str(part) for part in location)
