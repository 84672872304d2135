"""A stranger finds the file from the table's name, and every table says what one row of it is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from orchestration.lib.workspace import DBT_PROJECT, PROJECT_ROOT
from tests.conventions.project import Model, model_yaml, models, models_of, python_files, shown, unit_tests

VAGUE = {"util", "utils", "helper", "helpers", "manager", "managers", "misc", "common"}
NAME_OF_LAYER = {
    "staging": r"stg_{area}__[a-z]+(_[a-z]+)*",
    "intermediate": r"int_[a-z]+(_[a-z]+)*(__[a-z]+(_[a-z]+)*)?",
    "features": r"ftr_[a-z]+(_[a-z]+)*__(explicit|implicit)",
    "marts": r"(?!stg_|int_|ftr_)[a-z]+(_[a-z]+)*",
}


@pytest.mark.parametrize("model", list(models().values()), ids=str)
def test_model__name_fits_its_folder(model: Model) -> None:
    assert model.layer in NAME_OF_LAYER
    assert re.fullmatch(NAME_OF_LAYER[model.layer].format(area=model.area), model.name)


@pytest.mark.parametrize("model", list(models().values()), ids=str)
def test_model__description_ends_with_the_grain(model: Model) -> None:
    assert model.name in model_yaml(), f"{model.name} has no description"
    text = " ".join(model_yaml()[model.name][1].get("description", "").split())
    assert re.search(r"(^|[.!?] )One row per [^.]+\.$", text), f"{model.name}: {text!r} must end with: One row per ..."


def test_yaml__describes_no_model_that_is_gone() -> None:
    assert set(model_yaml()) == set(models())


@pytest.mark.parametrize("model", models_of("marts"), ids=str)
def test_mart__has_its_yaml_beside_it_with_every_column_described(model: Model) -> None:
    path, described = model_yaml()[model.name]
    assert path == model.path.with_suffix(".yml")
    for column in described["columns"]:
        assert column.get("data_type"), f"{model.name}.{column['name']} has no type"
        assert column.get("description", "").strip(), f"{model.name}.{column['name']} has no description"


def test_column__of_one_name_has_one_type_in_all_marts() -> None:
    types: dict[str, dict[str, list[str]]] = {}
    for model in models_of("marts"):
        for column in model_yaml()[model.name][1]["columns"]:
            types.setdefault(column["name"], {}).setdefault(column["data_type"], []).append(model.name)
    assert {name: found for name, found in types.items() if len(found) > 1} == {}


def test_column__name_says_its_type_and_unit() -> None:
    ends = {
        "_at": {"timestamp"},
        "_date": {"date"},
        "_count": {"bigint"},
        "_points": {"bigint"},
        "_amount": {"decimal(18,2)"},
    }
    starts = {"is_": {"boolean"}, "has_": {"boolean"}}
    for model in models_of("marts"):
        for column in model_yaml()[model.name][1]["columns"]:
            for mark, types in [*ends.items(), *starts.items()]:
                named = column["name"].endswith(mark) if mark in ends else column["name"].startswith(mark)
                assert not named or column["data_type"] in types, (
                    f"{model.name}.{column['name']}: {column['data_type']}"
                )


def test_singular_tests__state_a_fact() -> None:
    found = sorted((DBT_PROJECT / "tests").glob("*.sql"))
    assert found
    for path in found:
        assert path.stem.startswith("assert_"), shown(path)


@pytest.mark.parametrize("name", list(unit_tests()))
def test_unit_test__says_what_it_tests_and_how_that_behaves(name: str) -> None:
    assert re.fullmatch(r"test_[a-z_]+[a-z]__[a-z][a-z0-9_]+", name)
    assert unit_tests()[name]["model"] in models()


def test_models_with_logic__have_a_unit_test() -> None:
    """Where a number or a match is decided. Each of these has rules that data tests cannot see."""
    decided_in = {
        "stg_crm__account_merges",
        "int_account_domains",
        "int_contact_accounts",
        "int_visitor_identities",
        "int_touchpoints__kept",
        "int_bots",
        "int_deals",
        "int_deals__labelled",
        "int_spine__account_months",
        "int_accounts__states",
        "int_ledger",
        "int_ledger__entries",
        "int_rules__due",
        "int_accounts__points",
        "int_deals__scored",
        "ftr_accounts__implicit",
        "ftr_deals__explicit",
        "score_matrix",
        "campaign_performance",
        "win_rate_by_source",
        "nps",
        "int_buying_groups",
        "pipeline_forecast",
    }
    assert decided_in <= {test["model"] for test in unit_tests().values()}


@pytest.mark.parametrize("path", python_files(), ids=shown)
def test_module__opens_with_what_belongs_in_it(path: Path) -> None:
    text = path.read_text("utf-8")
    if not text.strip():
        assert path.name == "__init__.py", f"{shown(path)} is empty"
        return
    docstring = ast.get_docstring(ast.parse(text))
    assert docstring, f"{shown(path)} has no docstring"
    assert len(docstring.split()) >= 2, f"{shown(path)}: {docstring!r} says nothing"


@pytest.mark.parametrize("path", python_files(), ids=shown)
def test_module__name_says_what_is_in_it(path: Path) -> None:
    words = {word for part in path.relative_to(PROJECT_ROOT).with_suffix("").parts for word in part.split("_")}
    assert not words & VAGUE


@pytest.mark.parametrize("path", python_files("tests"), ids=shown)
def test_test__says_what_it_tests_and_how_that_behaves(path: Path) -> None:
    if not path.name.startswith("test_"):
        return
    tree = ast.parse(path.read_text("utf-8"))
    names = [n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    assert names, f"{shown(path)} holds no test"
    assert [name for name in names if "__" not in name] == [], "test_<what>__<behaviour>"


@pytest.mark.parametrize("path", python_files("orchestration", "ml"), ids=shown)
def test_public_function__is_typed_and_described(path: Path) -> None:
    """Described where others build on it: in lib and ml. What the command line and the definitions hold, they show."""
    tree = ast.parse(path.read_text("utf-8"))
    is_library = {"lib", "ml"} & set(path.relative_to(PROJECT_ROOT).parts)
    missing = []
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)]:
        if function.name.startswith("_"):
            continue
        if is_library and not ast.get_docstring(function):
            missing.append(f"{shown(path)}:{function.lineno}: {function.name} has no docstring")
        if isinstance(function, ast.FunctionDef):
            arguments = [*function.args.posonlyargs, *function.args.args, *function.args.kwonlyargs]
            untyped = [a.arg for a in arguments if a.annotation is None and a.arg not in ("self", "cls")]
            if untyped or function.returns is None:
                missing.append(f"{shown(path)}:{function.lineno}: {function.name} is not typed: {untyped or 'return'}")
    assert not missing
