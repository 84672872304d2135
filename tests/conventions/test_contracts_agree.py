"""Contracts, dbt and the loader name the same tables, columns, signals and settings."""

from __future__ import annotations

import re

import pytest
import yaml

from orchestration.lib import mart_contracts, settings_tables
from orchestration.lib.contracts import load_contracts, search_key
from orchestration.lib.mart_contracts import read_marts
from orchestration.lib.signals import known_signals
from orchestration.lib.workspace import MART_CONTRACTS, PROJECT_ROOT, SOURCE_CONTRACTS
from tests.conventions.project import MODELS, Model, models, models_of

CONTRACTS = load_contracts(SOURCE_CONTRACTS)
#: What staging adds: the time for which a version held, and where its row came from.
TECHNICAL = {"version_no", "version_at", "valid_from", "valid_to", "_file", "_row", "_key_hash"}


def sources() -> dict[str, list[str]]:
    document = yaml.safe_load((MODELS / "sources.yml").read_text("utf-8"))
    return {source["name"]: [table["name"] for table in source["tables"]] for source in document["sources"]}


def staged(model: Model) -> tuple[str, list[str]] | None:
    """The landed table that a staging model renames, and its columns; None for models that answer a question instead."""
    renamed = re.search(r"renamed as \(\s*select\s+(.*?)\s+from source\s*\)", model.sql, re.DOTALL)
    if not renamed:
        return None
    ((_, table),) = model.sources
    # One column per line; one that staging writes in another way keeps its name.
    return table, [line.strip().rstrip(",").split(" as ")[-1] for line in renamed[1].splitlines()]


@pytest.mark.parametrize("model", models_of("staging"), ids=str)
def test_staging__has_the_columns_of_its_contract(model: Model) -> None:
    found = staged(model)
    if found is None:
        assert model.name.endswith(("_merges", "_survivors", "_clock")) or re.search("__(changed|landed)_", model.name)
        return
    table, columns = found
    if table.endswith("__custom"):
        assert columns == ["_file", "_row", "field", "value"]
        return
    contract = CONTRACTS[table]
    keys = {search_key(prop.name) for prop in contract.properties if prop.is_searched}
    assert [column for column in columns if column not in TECHNICAL | keys] == list(contract.column_names)
    assert keys <= set(columns)


def test_contract__of_every_landed_table_has_one_staging_model_of_its_source() -> None:
    tables = [found[0] for model in models_of("staging") if (found := staged(model))]
    assert sorted(table for table in tables if not table.endswith("__custom")) == sorted(CONTRACTS)
    for model in models_of("staging"):
        ((_, table),) = model.sources
        assert table.split("__")[0] == model.area, model.name


def test_sources__are_the_tables_of_the_contracts() -> None:
    declared = sources()
    assert [name for name in declared["raw"] if not name.endswith("__custom")] == sorted(CONTRACTS)
    assert {name.removesuffix("__custom") for name in declared["raw"]} == set(CONTRACTS)
    assert declared["quarantine"] == sorted(CONTRACTS)


def test_sources__are_all_read() -> None:
    """But for those that a loop names, and for the parts of a card, which points_of names."""
    text = "\n".join(path.read_text("utf-8") for path in sorted(MODELS.parent.rglob("*.sql")))
    unread = [
        f"{source}.{table}"
        for source, tables in sources().items()
        for table in tables
        if f"source('{source}', '{table}')" not in text
        and source != "quarantine"
        and f"source('{source}', card ~ '{table.removeprefix('shadow_').removeprefix('scorecard')}')" not in text
    ]
    assert not unread


def test_quarantined_rows__reads_every_quarantine_table() -> None:
    listed = re.search(r"set landed_tables = \[(.*?)\]", models()["quarantined_rows"].sql, re.DOTALL)
    assert listed
    assert re.findall(r"'(\w+)'", listed[1]) == sorted(CONTRACTS)


def test_settings__tables_are_those_of_the_sources() -> None:
    assert sources()["settings"] == list(settings_tables._TABLES)


def test_settings__are_described_in_the_design() -> None:
    page = (PROJECT_ROOT / "docs" / "design.md").read_text("utf-8")
    section = page.split("**settings.\\***")[1].split("\n\n", 2)[1]
    described = {}
    for line in section.splitlines()[2:]:
        name, _, columns = (cell.strip() for cell in line.strip("|").split("|"))
        described[name.strip("`")] = re.sub(r" \([^)]*\)", "", columns).split(", ")
    promised = {
        name: [column.split()[0] for column in columns.split(", ")] for name, columns in settings_tables._TABLES.items()
    }
    assert described == promised


def test_touchpoints__have_the_signals_that_the_contracts_record() -> None:
    """A macro makes the names in SQL, `signals` derives them from the contracts: both must come to the same."""
    macro = (MODELS.parent / "macros" / "touchpoints.sql").read_text("utf-8")
    landed = re.findall(r"{%- set part %}(.*?){%- endset %}", macro, re.DOTALL)
    staging = dict(re.findall(r"'(\w+)': ref\('(\w+)'\)", models()["int_touchpoints__landed"].sql))
    assert landed
    assert staging
    made: set[str] = set()
    for part in landed:
        name = re.search(r"(?:'(\w+)'(?: \|\| )?)?(?:(?:\w+\.)?(\w+))? as signal", part)
        source = re.search(r"sources\.(\w+)", part)
        assert name, part
        assert source, part
        text, column = name.groups()
        if column is None:
            made.add(text)
            continue
        ((_, table),) = models()[staging[source[1]]].sources
        left_out = set(re.findall(rf"{column} <> '(\w+)'", part))
        values = set(CONTRACTS[table].property_named(column).valid_values) - left_out
        assert values, f"{table}.{column}: its contract lists no values"
        made |= {(text or "") + value for value in values}
    assert made == known_signals(CONTRACTS)


def test_touchpoints__are_searched_in_every_source_that_names_somebody() -> None:
    """A source that is left out would keep the touchpoints of people who are somebody else by now, until the next full build."""
    macro = (MODELS.parent / "macros" / "touchpoints.sql").read_text("utf-8")
    landed = re.findall(r"{%- set part %}(.*?){%- endset %}", macro, re.DOTALL)
    staging = dict(re.findall(r"'(\w+)': ref\('(\w+)'\)", models()["int_touchpoints__landed"].sql))
    named: dict[str, dict[str, str]] = {source: {} for source in staging}
    for kind, column in (
        ("contact", "contact_id"),
        ("email", "email_spelling"),
        ("visitor", "visitor_id"),
        ("account", "account_id"),
    ):
        for part in landed:
            (source,) = re.findall(r"sources\.(\w+)", part)
            (written,) = re.findall(rf"^ +(?:(.+) as )?((?:\w+\.)?{column}),$", part, re.MULTILINE)
            expression = (written[0] or written[1]).replace("events.", "")
            if not expression.startswith("cast(null"):
                ((_, table),) = models()[staging[source]].sources
                is_searched = CONTRACTS[table].property_named(expression).is_searched
                named[source][kind] = search_key(expression) if is_searched else expression
    (searched,) = re.findall(r"set searched = {\n(.*?)\n}", macro, re.DOTALL)
    assert {
        source: dict(re.findall(r"'(\w+)': '(\w+)'", columns))
        for source, columns in re.findall(r"'(\w+)': {(.*?)}", searched)
    } == named
    tables = {
        name: {
            source: models()[view].sources
            for source, view in re.findall(r"'(\w+)': ref\('(\w+)'\)", models()[name].sql)
        }
        for name in ("int_touchpoints__landed", "int_touchpoints__looked_at", "int_touchpoints__arrived")
    }
    assert tables["int_touchpoints__landed"] == tables["int_touchpoints__looked_at"]
    assert tables["int_touchpoints__landed"] == tables["int_touchpoints__arrived"]
    assert set(tables["int_touchpoints__landed"]) == set(re.findall(r"sources\.(\w+) }}", macro))


def test_mart_contracts__and_tables_page_are_what_dbt_says() -> None:
    difference = mart_contracts.differences(read_marts())
    assert not difference, difference + "\nwrite them with: python -m orchestration.lib.mart_contracts"


def test_mart_contracts__are_one_per_mart() -> None:
    names = {path.name.removesuffix(".odcs.yaml") for path in MART_CONTRACTS.glob("*")}
    assert names == {model.name for model in models_of("marts")}


def test_mart_contracts__every_mart_has_a_key_but_those_of_files() -> None:
    """Without a key a reader cannot join. A file may break one rule twice, and be named twice."""
    assert {mart.name for mart in read_marts() if not mart.key} == {"load_report", "quarantined_rows"}
