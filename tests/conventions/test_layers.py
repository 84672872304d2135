"""The flow is one way: raw -> staging -> intermediate -> features -> marts, and no package knows more than it should."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from orchestration.lib.settings_tables import CARD_TABLES
from orchestration.lib.workspace import PROJECT_ROOT
from tests.conventions.project import (
    MACROS,
    Model,
    imports_of,
    models,
    models_of,
    python_files,
    shown,
    without_comments,
)

#: Staging models that may join, because a record's survivor is found by following its own table, and what they may read beside it.
RESOLVE_MERGES: dict[str, set[str]] = {
    "stg_crm__account_merges": set(),
    "stg_crm__contact_merges": set(),
    "stg_crm__account_survivors": {"stg_crm__account_merges"},
    "stg_crm__contact_survivors": {"stg_crm__contact_merges"},
}
#: An account's state asks whether anything is known of it at all, whatever the card makes of it.
ASKS_WHETHER_THERE_ARE_FEATURES = {"int_accounts__states"}
HEAVY = {
    "dagster",
    "dbt",
    "great_expectations",
    "mlflow",
    "sklearn",
    "scipy",
    "pandas",
    "pyarrow",
}


def layers_read(model: Model) -> set[str]:
    return {models()[name].layer for name in model.refs}


def test_refs__name_models_that_exist() -> None:
    unknown = {f"{model}: {name}" for model in models().values() for name in model.refs if name not in models()}
    assert not unknown


def is_after_the_card(model: Model) -> bool:
    return model.layer == "marts" or model.path.parent.name == "scores"


@pytest.mark.parametrize("model", models_of("staging"), ids=str)
def test_staging__reads_one_raw_table_and_joins_nothing(model: Model) -> None:
    assert set(model.refs) == RESOLVE_MERGES.get(model.name, set())
    assert len(model.sources) == 1
    assert {source for source, _ in model.sources} == {"raw"}
    if model.name not in RESOLVE_MERGES:
        assert not re.search(r"\bjoin\b", model.sql)
        assert not re.search(r"\bwhere\b", model.sql), "staging leaves nothing out; the version macros know the moment"


@pytest.mark.parametrize("model", models_of("intermediate"), ids=str)
def test_intermediate__reads_staging_intermediate_and_settings(model: Model) -> None:
    # The landed score records are read where scores are: after the card.
    assert {source for source, _ in model.sources} <= {
        "settings",
        "increment",
        *(["history"] if is_after_the_card(model) else []),
    }
    allowed = {"staging", "intermediate"}
    if is_after_the_card(model) or model.name in ASKS_WHETHER_THERE_ARE_FEATURES:
        allowed.add("features")
    assert layers_read(model) <= allowed
    if is_after_the_card(model) and "features" in layers_read(model):
        assert model.sql.strip().startswith("{{ points_of("), "a value meets a band in points_of and nowhere else"


@pytest.mark.parametrize("model", models_of("features"), ids=str)
def test_features__are_one_call_of_a_feature_macro_on_a_spine(model: Model) -> None:
    kind = model.name.rsplit("__", 1)[1]
    assert kind in ("explicit", "implicit")
    call = re.fullmatch(
        rf"{{{{ {kind}_features\(ref\('(int_spine__\w+)'\)(, per_contact=true)?\) }}}}", model.sql.strip()
    )
    assert call, f"{model.name} must be one call of {kind}_features and nothing else: a feature has one definition"
    assert call[1].removeprefix("int_spine__") == model.name.removeprefix("ftr_").rsplit("__", 1)[0]


@pytest.mark.parametrize("model", models_of("marts"), ids=str)
def test_marts__read_models_and_settings_and_of_the_loader_its_reports_only(model: Model) -> None:
    # Past scores are marts of their own landed records.
    assert {source for source, _ in model.sources} <= {"settings", "load", "quarantine", "history"}
    assert model.area in ("scoring", "forecast") or "history" not in {source for source, _ in model.sources}
    assert "features" not in layers_read(model), "marts read points; values are theirs through int_*__points"
    if {"load", "quarantine"} & {source for source, _ in model.sources}:
        assert model.area == "operations"


def test_macros__read_no_raw_table() -> None:
    for path in sorted(MACROS.glob("*.sql")):
        assert "source('raw'" not in without_comments(path.read_text("utf-8")), shown(path)


def test_models_before_the_card__need_no_card() -> None:
    """The first of dbt's two steps runs before there is a card, so nothing in it may read the card or a later model."""
    for model in models().values():
        if not is_after_the_card(model):
            assert not {table for source, table in model.sources if source == "settings"} & CARD_TABLES.keys(), (
                model.name
            )
            assert not [name for name in model.refs if is_after_the_card(models()[name])], model.name


@pytest.mark.parametrize("path", python_files("ml"), ids=shown)
def test_ml__knows_neither_the_warehouse_nor_who_runs_it(path: Path) -> None:
    foreign = {"dagster", "dbt", "duckdb", "orchestration"}
    found = [
        f"{shown(path)}:{line}: {name}"
        for line, name in imports_of(path, only_at_import=False)
        if name.split(".")[0] in foreign
    ]
    assert not found


@pytest.mark.parametrize("path", python_files("orchestration"), ids=shown)
def test_orchestration__imports_late_what_is_slow_to_import(path: Path) -> None:
    """dagster belongs to the definitions; lib and cli start without it."""
    parts = path.relative_to(PROJECT_ROOT).parts
    slow = HEAVY | {"orchestration.defs"}
    if parts[1] in ("defs", "definitions.py"):
        slow = HEAVY - {"dagster"}
    elif parts[1:3] == ("lib", "demo_company"):
        slow = HEAVY - {"pyarrow"}  # it makes Arrow tables and is itself imported late; the probe below proves it
    found = [
        f"{shown(path)}:{line}: {name}"
        for line, name in imports_of(path, only_at_import=True)
        if name.split(".")[0] in slow or ".".join(name.split(".")[:2]) in slow
    ]
    assert not found


@pytest.mark.parametrize("path", python_files("orchestration"), ids=shown)
def test_lib__knows_neither_the_definitions_nor_the_command_line(path: Path) -> None:
    """What says how must not need what says that it exists. job_runner is the bridge: it runs the definitions."""
    parts = path.relative_to(PROJECT_ROOT).parts
    above = {"lib": ("orchestration.defs", "orchestration.cli"), "defs": ("orchestration.cli",)}.get(parts[1], ())
    if parts[1:] == ("lib", "job_runner.py"):
        above = ("orchestration.cli",)
    found = [
        f"{shown(path)}:{line}: {name}"
        for line, name in imports_of(path, only_at_import=False)
        if name.startswith(above)
    ]
    assert not above or not found


def test_command_line__starts_without_anything_heavy() -> None:
    """Measured, not read: also what is imported through other modules."""
    probe = (
        "import sys; import orchestration.cli; import orchestration.cli.main; "
        f"print(' '.join(sorted({HEAVY!r} & set(sys.modules))))"
    )
    result = subprocess.run([sys.executable, "-c", probe], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.split() == []
