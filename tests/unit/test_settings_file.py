"""Reading a settings file: every mistake is told with file, line, key, rule and value, and told once."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest
from pydantic import BaseModel, ConfigDict, StrictInt, StrictStr, model_validator

from orchestration.lib.settings_file import SettingsError, line_of, read_settings, read_yaml_with_lines


class Part(BaseModel):
    model_config = ConfigDict(extra="forbid")
    size: StrictInt
    label: StrictStr = ""


class Whole(BaseModel):
    model_config = ConfigDict(extra="forbid")
    name: StrictStr
    parts: list[Part] | Literal["auto"] = "auto"
    by_key: dict[StrictStr, Part] = {}

    @model_validator(mode="after")
    def _not_both(self) -> Whole:
        if self.parts != "auto" and self.by_key:
            raise ValueError("either `parts` or `by_key`")
        return self


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "whole.yml"


def problems_of(file: Path, text: str) -> list[str]:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError) as caught:
        read_settings(file, Whole)
    assert str(caught.value) == "\n".join(caught.value.problems)
    return [problem.removeprefix(f"{file}:") for problem in caught.value.problems]


def test_read__gives_the_model(file: Path) -> None:
    file.write_text("name: a\nparts:\n  - {size: 3}\n", encoding="utf-8")
    assert read_settings(file, Whole) == Whole(name="a", parts=[Part(size=3)])


def test_read__a_byte_order_mark_and_other_alphabets_are_text(file: Path) -> None:
    file.write_text("\ufeffname: Жуков & Søn\n", encoding="utf-8")
    assert read_settings(file, Whole).name == "Жуков & Søn"


def test_lines__are_those_of_keys_and_items(file: Path) -> None:
    file.write_text("# comment\nname: a\n\nparts:\n  - size: 1\n  -\n    size: 2\n", encoding="utf-8")
    data, lines = read_yaml_with_lines(file)
    assert data == {"name": "a", "parts": [{"size": 1}, {"size": 2}]}
    places = {("name",): 2, ("parts",): 4, ("parts", 0): 5, ("parts", 1, "size"): 7}
    assert {place: lines[place] for place in places} == places
    assert line_of(lines, ("parts", 1, "nothing", "here")) == 7
    assert line_of({}, ("name",)) == 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: a\ncolour: red\n", ["2: colour: extra inputs are not permitted (value: 'red')"]),
        ("parts: auto\n", ["1: name: field required"]),
        ("", ["1: name: field required"]),
        ("- a\n", ["1: the file: input should be a valid dictionary or instance of Whole"]),
        ("name: 3\n", ["1: name: input should be a valid string (value: 3)"]),
        (
            "name: NO\n",
            [
                "1: name: input should be a valid string; YAML reads unquoted yes, no, on and off as booleans: "
                "put quotes around it (value: False)"
            ],
        ),
        ("name: a\nby_key:\n  x: {}\n", ["3: by_key.x.size: field required"]),
        ("name: a\nparts: [{size: 1}]\nby_key: {x: {size: 1}}\n", ["1: the file: either `parts` or `by_key`"]),
    ],
)
def test_mistake__is_told_with_line_key_rule_and_value(file: Path, text: str, expected: list[str]) -> None:
    assert problems_of(file, text) == expected


def test_mistakes__are_all_told_in_the_order_of_the_file(file: Path) -> None:
    found = problems_of(file, "parts:\n  - {size: x}\n  - {siez: 1, size: 2}\nname: 1\n")
    assert [text.split(": ")[0] for text in found] == ["2", "3", "4"]
    assert found[1] == "3: parts.1.siez: extra inputs are not permitted (value: 1)"


def test_mistake_in_a_list__is_not_told_once_more_as_a_missing_word(file: Path) -> None:
    """`parts` may be a list or `auto`: who writes a list is not to hear that it should have been `auto`."""
    assert problems_of(file, "name: a\nparts:\n  - {size: x}\n") == [
        "3: parts.0.size: input should be a valid integer (value: 'x')"
    ]


def test_mistake_in_the_word__names_both_that_would_do(file: Path) -> None:
    assert problems_of(file, "name: a\nparts: atuo\n") == [
        "2: parts: input should be a valid list, or input should be 'auto' (value: 'atuo')"
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("name: [1\n", r"2: not valid YAML: expected ',' or '\]'"),
        ("name: a\n\tparts: auto\n", r"2: not valid YAML: .*'\\t'"),
        ("name: *nowhere\n", r"1: not valid YAML: found undefined alias"),
        ("name: !!python/object:os.system a\n", r"1: not valid YAML: could not determine a constructor"),
        ("name: a\n---\nname: b\n", r"2: not valid YAML: but found another document"),
        ("{[a]: b}\n", r"1: not valid YAML: found unhashable key"),
    ],
)
def test_broken_yaml__is_told_with_its_line(file: Path, text: str, expected: str) -> None:
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=expected):
        read_settings(file, Whole)


def test_same_key_twice__is_an_error_and_not_the_last_one(file: Path) -> None:
    """YAML itself keeps the last one without a word."""
    text = "name: a\nby_key:\n  x: {size: 1}\n  x: {size: 2}\nname: b\n"
    assert problems_of(file, text) == ["4: by_key.x: the key stands twice", "5: name: the key stands twice"]


def test_missing_file__is_told_with_its_path(file: Path) -> None:
    with pytest.raises(SettingsError, match=r"whole\.yml: the file does not exist"):
        read_settings(file, Whole)


def test_bytes_that_are_no_text__are_told_with_their_place(file: Path) -> None:
    file.write_bytes(b"name: a\xff\n")
    with pytest.raises(SettingsError, match="not UTF-8 text at byte 7"):
        read_settings(file, Whole)
