"""Reading of sources.yml and the matching of a file's header to a contract."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestration.lib.contracts import load_contracts
from orchestration.lib.settings_file import SettingsError
from orchestration.lib.sources import DEFAULT_SOURCES_YML, TableSource, read_sources, resolve_header
from orchestration.lib.workspace import PROJECT_ROOT, SOURCE_CONTRACTS

CONTRACTS = load_contracts(SOURCE_CONTRACTS)


def read(tmp_path: Path, text: str) -> dict[str, TableSource]:
    path = tmp_path / "sources.yml"
    path.write_text(text, encoding="utf-8")
    return read_sources(path, CONTRACTS)


def accounts(tmp_path: Path, settings: str) -> TableSource:
    indented = "\n".join("      " + line for line in settings.splitlines())
    return read(tmp_path, f"sources:\n  crm:\n    accounts:\n{indented}\n")["crm__accounts"]


def test_read_sources__without_a_word_every_contract_reads_its_inbox(tmp_path):
    sources = read(tmp_path, "sources: {}")
    assert set(sources) == set(CONTRACTS)
    assert sources["web__events"].files == ("inbox/web/events/*",)
    assert not sources["web__events"].is_configured


def test_read_sources__default_text_is_valid(tmp_path):
    assert set(read(tmp_path, DEFAULT_SOURCES_YML)) == set(CONTRACTS)


def test_read_sources__commented_examples_of_the_default_text_are_valid(tmp_path):
    # Each example opens with "# sources:"; the first is the legend, with placeholders.
    examples = []
    for block in DEFAULT_SOURCES_YML.split("\n# sources:\n")[1:]:
        lines = []
        for line in block.splitlines():
            if not line.startswith("#   "):
                break
            lines.append(line[2:])
        examples.append("sources:\n" + "\n".join(lines) + "\n")
    assert len(examples) == 3
    legend = examples[0].replace("<source>", "crm").replace("<table>", "opportunities")
    names = {
        "industry": "lead_source",
        "annual_revenue": "amount",
        "region": "product",
        "account_id": "account_id",
    }
    data = yaml.safe_load(legend)
    columns = data["sources"]["crm"]["opportunities"]["columns"]
    data["sources"]["crm"]["opportunities"]["columns"] = {names.get(key, key): value for key, value in columns.items()}
    source = read(tmp_path, yaml.safe_dump(data))["crm__opportunities"]
    assert source.format.escape == "\\"
    assert source.settings.columns["status"].others == "open"
    for example in examples[1:]:
        configured = [name for name, item in read(tmp_path, example).items() if item.is_configured]
        assert {"crm__accounts", "crm__opportunities"} <= set(configured)


def test_read_sources__maven_example_is_valid():
    sources = read_sources(PROJECT_ROOT / "docs" / "examples" / "maven_crm" / "sources.yml", CONTRACTS)
    configured = {name for name, source in sources.items() if source.is_configured}
    assert configured == {"crm__accounts", "crm__opportunities", "crm__users", "crm__products"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "sources:\n  crm:\n    acounts: {}\n",
            ":3: sources.crm.acounts: no contract has this table; did you mean 'accounts'?",
        ),
        ("sources:\n  crn: {}\n", ":2: sources.crn: no contract has this source; did you mean 'crm'?"),
        (
            "sources:\n  crm:\n    accounts:\n      columns:\n        acount_id: Id\n",
            ":5: sources.crm.accounts.columns.acount_id: the contract crm__accounts has no such column; "
            "did you mean 'account_id'?",
        ),
        ("sources:\n  crm:\n    accounts:\n      colums: {}\n", ":4: sources.crm.accounts.colums"),
        (
            "sources:\n  crm:\n    accounts:\n      format: {timezone: Europe/Berln}\n",
            "did you mean 'Europe/Berlin'?",
        ),
        ("sources:\n  crm:\n    accounts:\n      format: {encoding: cp9999}\n", "not a known encoding"),
        ("sources:\n  crm:\n    accounts:\n      format: {delimiter: ';;'}\n", "one character"),
        ("sources:\n  crm:\n    accounts:\n      format: {decimal: ',', thousands: ','}\n", "both ','"),
        (
            "sources:\n  crm:\n    accounts:\n      format: {date: DD.MM.YYYY}\n",
            "'DD.MM.YYYY' is not a format",
        ),
        (
            "sources:\n  crm:\n    accounts:\n      format: {true_values: [x], false_values: [X]}\n",
            "['x'] stand in",
        ),
        (
            "sources:\n  crm:\n    accounts:\n      columns:\n        industry: {from: A, values: {No: x}}\n",
            "put quotes around it",
        ),
        (
            "sources:\n  crm:\n    accounts:\n      columns:\n        city: {from: A, value: B}\n",
            "either from",
        ),
        (
            "sources:\n  crm:\n    accounts:\n      columns:\n        city: {from: A, others: B}\n",
            "others needs values",
        ),
        (
            "sources:\n  crm:\n    accounts:\n      columns:\n        city: {from: A, scale: 2}\n",
            "scale is for numbers",
        ),
        ("sources:\n  crm:\n    accounts:\n      max_bad_share: 2\n", "less than or equal to 1 (value: 2)"),
        ("{}\n", "sources: field required"),
    ],
)
def test_read_sources__errors_name_line_and_rule(tmp_path, text, expected):
    with pytest.raises(SettingsError) as caught:
        read(tmp_path, text)
    assert expected in str(caught.value)
    assert str(tmp_path / "sources.yml") in str(caught.value)


def test_fingerprint__follows_what_changes_rows_and_not_where_files_are(tmp_path):
    plain = accounts(tmp_path, "columns: {industry: Branche}").fingerprint
    assert accounts(tmp_path, "files: x.csv\ncolumns: {industry: {from: Branche}}").fingerprint == plain
    assert accounts(tmp_path, "columns: {industry: Sector}").fingerprint != plain
    assert accounts(tmp_path, "columns: {industry: Branche}\nformat: {decimal: ','}").fingerprint != plain
    assert accounts(tmp_path, "columns: {industry: Branche}\nmax_bad_share: 0.5").fingerprint != plain


def used(source: TableSource, header: list[str]) -> tuple[dict[str, str | None], list[str], tuple[str, ...]]:
    resolved = resolve_header(CONTRACTS["crm__accounts"], source, header)
    columns = {column.name: header[column.position] for column in resolved.columns if column.position is not None}
    return columns, [name for name, _ in resolved.custom], resolved.problems


def test_resolve_header__same_names_feed_and_others_pass_through(tmp_path):
    source = accounts(tmp_path, "ignore: [Notes]")
    columns, custom, problems = used(source, ["Tier", "account_id", " CITY ", "Notes", ""])
    assert columns == {"account_id": "account_id", "city": " CITY "}
    assert custom == ["Tier", "column_5"]
    assert problems == ()


def test_resolve_header__one_source_column_may_feed_several_and_does_not_pass_through(tmp_path):
    source = accounts(tmp_path, "columns: {account_id: account, account_name: account}")
    columns, custom, _ = used(source, ["account", "sector"])
    assert columns == {"account_id": "account", "account_name": "account"}
    assert custom == ["sector"]


def test_resolve_header__missing_columns_are_named_with_what_the_file_has(tmp_path):
    source = accounts(tmp_path, "columns: {industry: Branche, city: {from: Ort, optional: true}}")
    _, _, problems = used(source, ["Id", "Branchen"])
    assert len(problems) == 2
    assert "the required column 'account_id' is missing" in problems[0]
    assert "the file has: Id, Branchen" in problems[0]
    assert "'Branche', mapped to 'industry' in sources.yml, is missing; did you mean 'Branchen'?" in problems[1]


def test_resolve_header__duplicate_names_are_a_problem_and_case_decides_between_likes(tmp_path):
    source = accounts(tmp_path, "columns: {account_id: Id}")
    _, _, problems = used(source, ["Id", "city", "city"])
    assert problems == ("the column 'city' stands 2 times in the header",)
    columns, custom, problems = used(source, ["Id", "ID"])
    assert columns == {"account_id": "Id"}
    assert custom == ["ID"]
    assert problems == ()
