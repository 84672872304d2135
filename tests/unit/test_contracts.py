"""Reading of contract files: what is accepted, and how an error names file, line and rule."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from orchestration.lib.contracts import ContractError, load_contracts
from orchestration.lib.workspace import SOURCE_CONTRACTS


def document() -> dict:
    return {
        "apiVersion": "v3.1.0",
        "kind": "DataContract",
        "id": "urn:test",
        "name": "crm__deals",
        "version": "1.0.0",
        "status": "active",
        "domain": "crm",
        "schema": [
            {
                "name": "deals",
                "physicalName": "crm__deals",
                "physicalType": "table",
                "description": "Deals",
                "properties": [
                    {
                        "name": "deal_id",
                        "logicalType": "string",
                        "physicalType": "varchar",
                        "primaryKey": True,
                        "primaryKeyPosition": 1,
                        "required": True,
                    },
                    {
                        "name": "amount",
                        "logicalType": "number",
                        "physicalType": "decimal(18, 2)",
                        "logicalTypeOptions": {"minimum": 0},
                    },
                    {
                        "name": "status",
                        "logicalType": "string",
                        "physicalType": "varchar",
                        "quality": [
                            {
                                "type": "library",
                                "metric": "invalidValues",
                                "arguments": {"validValues": ["open", "won"]},
                                "mustBe": 0,
                            }
                        ],
                    },
                ],
            }
        ],
    }


def write(folder: Path, content: dict, name: str = "crm__deals") -> Path:
    path = folder / f"{name}.odcs.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def table(content: dict) -> dict:
    return content["schema"][0]


def column(content: dict, number: int) -> dict:
    return table(content)["properties"][number]


def test_load_contracts__reads_all_contracts_of_the_project():
    contracts = load_contracts(SOURCE_CONTRACTS)
    assert {path.name.removesuffix(".odcs.yaml") for path in SOURCE_CONTRACTS.glob("*.odcs.yaml")} == set(contracts)
    accounts = contracts["crm__accounts"]
    assert (accounts.source, accounts.table, accounts.key) == ("crm", "accounts", ("account_id",))
    assert accounts.property_named("annual_revenue").sql_type == "decimal(18,2)"
    assert accounts.property_named("employees").maximum == 10_000_000
    opportunities = contracts["crm__opportunities"]
    assert opportunities.property_named("status").valid_values == ("open", "won", "lost")
    assert opportunities.table_rules[1].columns == ("closed_at", "opened_at")
    assert contracts["crm__opportunity_stage_history"].key == ("opportunity_id", "changed_at", "stage")


def test_searched__is_the_one_custom_property_that_is_read(tmp_path: Path) -> None:
    content = document()
    column(content, 1)["customProperties"] = [{"property": "searched", "value": True}]
    write(tmp_path, content)
    deals = load_contracts(tmp_path)["crm__deals"]
    assert [prop.is_searched for prop in deals.properties] == [number == 1 for number in range(len(deals.properties))]
    for wrong in ({"property": "serched", "value": True}, {"property": "searched", "value": "yes"}):
        column(content, 1)["customProperties"] = [wrong]
        write(tmp_path, content)
        with pytest.raises(ContractError, match="not read by the loader; known is searched: true"):
            load_contracts(tmp_path)


def test_load_contracts__key_is_required_even_where_not_said(tmp_path):
    content = document()
    del column(content, 0)["required"]
    write(tmp_path, content)
    assert load_contracts(tmp_path)["crm__deals"].property_named("deal_id").required


def test_fingerprint__ignores_words_and_follows_rules(tmp_path):
    def fingerprint(change) -> str:
        content = document()
        change(content)
        write(tmp_path, content)
        return load_contracts(tmp_path)["crm__deals"].fingerprint

    plain = fingerprint(lambda content: None)
    assert fingerprint(lambda content: column(content, 1).update(description="Other words")) == plain
    assert fingerprint(lambda content: column(content, 1).update(required=True)) != plain
    assert fingerprint(lambda content: column(content, 1).update(physicalType="decimal(18,4)")) != plain
    assert fingerprint(lambda content: column(content, 1)["logicalTypeOptions"].update(minimum=1)) != plain


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda c: column(c, 1).update(requird=True), "requird"),
        (lambda c: column(c, 1).update(physicalType="float"), "physicalType: amount: must be one of varchar"),
        (lambda c: column(c, 1).update(logicalType="string", logicalTypeOptions={}), "is logically number"),
        (lambda c: column(c, 0).update(name="Deal Id"), "lower case"),
        (lambda c: column(c, 1).update(name="deal_id"), "stands twice"),
        (lambda c: column(c, 0).update(primaryKey=False), "no column is marked primaryKey"),
        (lambda c: column(c, 0).update(primaryKeyPosition=2), "must count 1, 2"),
        (lambda c: c.update(domain="web"), "must be 'crm'"),
        (lambda c: c.update(apiVersion="v3.0.2"), "apiVersion: must be v3.1.0"),
        (lambda c: c["schema"].append(dict(c["schema"][0])), "exactly one table"),
        (
            lambda c: column(c, 2)["quality"][0]["arguments"].update(validValues=["yes", False]),
            "unquoted yes, no, on and off as booleans (value: False)",
        ),
        (lambda c: column(c, 2)["quality"][0].update(metric="nullValues"), "not run by the loader"),
        (
            lambda c: column(c, 1)["logicalTypeOptions"].update(exclusiveMinimum=0),
            "not checked by the loader",
        ),
        (lambda c: column(c, 2).update(logicalTypeOptions={"pattern": "["}), "not a regular expression"),
        (
            lambda c: table(c).update(
                quality=[
                    {
                        "type": "custom",
                        "engine": "great-expectations",
                        "implementation": {
                            "expectation_type": "expect_column_values_to_not_be_null",
                            "kwargs": {"column": "nope"},
                        },
                    }
                ]
            ),
            "no column 'nope'",
        ),
        (
            lambda c: table(c).update(quality=[{"type": "text", "description": "be good"}]),
            "not run by the loader",
        ),
    ],
)
def test_load_contracts__refuses_what_it_would_not_honour(tmp_path, change, expected):
    content = document()
    change(content)
    path = write(tmp_path, content)
    with pytest.raises(ContractError) as caught:
        load_contracts(tmp_path)
    assert expected in str(caught.value)
    assert str(path) + ":" in str(caught.value)


def test_load_contracts__refuses_boolean_for_text_with_its_line(tmp_path):
    path = tmp_path / "crm__deals.odcs.yaml"
    text = yaml.safe_dump(document(), sort_keys=False).replace("description: Deals", "description: NO")
    path.write_text(text, encoding="utf-8")
    line = next(number for number, item in enumerate(text.splitlines(), 1) if "description: NO" in item)
    with pytest.raises(ContractError, match=rf"{path.name}:{line}: schema.0.description"):
        load_contracts(tmp_path)


def test_load_contracts__names_every_broken_file(tmp_path):
    write(tmp_path, document() | {"status": 5})
    write(tmp_path, document() | {"name": "crm__other"}, "crm__other")
    with pytest.raises(ContractError) as caught:
        load_contracts(tmp_path)
    assert "crm__deals.odcs.yaml" in str(caught.value)
    assert "crm__other.odcs.yaml" in str(caught.value)


def test_load_contracts__empty_directory_is_an_error(tmp_path):
    with pytest.raises(ContractError, match="no contract"):
        load_contracts(tmp_path)


def test_load_contracts__sees_a_changed_file(tmp_path):
    write(tmp_path, document())
    before = load_contracts(tmp_path)["crm__deals"]
    content = document()
    column(content, 1)["name"] = "value"
    write(tmp_path, content)
    assert load_contracts(tmp_path)["crm__deals"].column_names == ("deal_id", "value", "status")
    assert before.column_names == ("deal_id", "amount", "status")
