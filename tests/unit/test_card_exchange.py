"""The points of a card as a CSV file: what is written comes back, also through a spreadsheet, and errors say where."""

from __future__ import annotations

import csv
import io
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ml.card import Calibration, Card, CardBand, points_from_weights
from orchestration.lib.card_exchange import (
    COLUMNS,
    WeightRow,
    changed_rows,
    read_weights_csv,
    read_weights_file,
    weights_table_csv,
    write_weights_csv,
)
from orchestration.lib.errors import UserError


def band(criterion: str, number: int, label: str, points: int, *, segment: str = "", evidence: str = "") -> CardBand:
    weight = points * 0.034657
    return CardBand(
        criterion=criterion,
        kind="explicit",
        band_no=number,
        band=label,
        band_type="values",
        lower=None,
        upper=None,
        values=(label,),
        expert_points=points - 2,
        points=points,
        weight=weight,
        weight_low=weight - 0.2,
        weight_high=weight + 0.2,
        deal_count=40,
        won_count=11,
        data_share_pct=25.0,
        segment=segment,
        evidence=evidence,
    )


def card_of(*bands: CardBand) -> Card:
    return Card(
        bands=bands,
        calibration=Calibration("flat", 0, 0, (0.25,), (0.2,), (0.3,)),
        base_rate=0.25,
        trust=1.0,
        belief_deals=40.0,
        deal_count=80,
        won_count=22,
    )


CARD = card_of(
    band("employees", 1, "< 10", -15, evidence="11 of 40 deals won"),
    band("employees", 2, "10-49", -7),
    band("employees", 3, "missing", 0),
    band("industry", 1, "Müller & Söhne; Bau", 12),
    band("industry", 2, "other", 3),
)
SEGMENTED = card_of(
    band("region", 1, "north", 5),
    band("region", 2, "south", -5),
    band("region", 1, "north", 9, segment="north"),
    band("region", 2, "south", -9, segment="north"),
)


def table(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def test_export__holds_the_cards_figures_row_by_row() -> None:
    header, first, *rest = table(weights_table_csv(CARD))
    assert tuple(header) == COLUMNS
    low, high = (str(int(points_from_weights(w))) for w in (CARD.bands[0].weight_low, CARD.bands[0].weight_high))
    assert first == ["", "employees", "< 10", "-15", "-17", low, high, "11", "40", "11 of 40 deals won"]
    assert len(rest) == 4
    assert weights_table_csv(CARD).endswith("\r\n")


@pytest.mark.parametrize("card", [CARD, SEGMENTED])
def test_export__comes_back_as_it_was(card: Card, tmp_path: Path) -> None:
    expected = [WeightRow(b.segment, b.criterion, b.band, b.points) for b in card.bands]
    assert read_weights_csv(weights_table_csv(card), card) == expected
    file = write_weights_csv(card, tmp_path / "weights.csv")
    assert file.read_bytes().startswith(b"\xef\xbb\xbf")
    assert read_weights_file(file, card) == expected
    assert changed_rows(expected, card) == []


@given(
    labels=st.lists(
        st.text(alphabet=st.sampled_from("=+-@'\"\t ;,|1a\n9.%<é"), min_size=1, max_size=8), min_size=1, max_size=6
    )
)
def test_export__any_label_survives(labels: list[str]) -> None:
    # Labels that a person cannot tell apart (white space, case, a leading apostrophe) are not given to one criterion.
    told_apart = {" ".join(label.strip().lstrip("'").split()).casefold(): label for label in labels if label.strip()}
    if not told_apart:
        return
    card = card_of(*(band("c", n + 1, label, n) for n, label in enumerate(told_apart.values())))
    assert [row.band for row in read_weights_csv(weights_table_csv(card), card)] == list(told_apart.values())


@pytest.mark.parametrize(
    "text", ["=HYPERLINK(0)", "+1", "-1 to 3", "@SUM(A1)", "\t=1", " =1+1", "\uff1d1", "%0", "|calc"]
)
def test_export__no_text_begins_like_a_formula(text: str) -> None:
    card = card_of(band("c", 1, text, 5, segment=text, evidence=text))
    segment, _, label, *_, evidence = table(weights_table_csv(card))[1]
    assert {segment, label, evidence} == {f"'{text}"}


@pytest.mark.parametrize("label", ["10-49", "1-2", "007", "3/4", "12.50", "1e5", "10 %"])
def test_export__a_label_that_a_spreadsheet_would_convert_is_marked_as_text(label: str) -> None:
    assert table(weights_table_csv(card_of(band("c", 1, label, 5))))[1][2] == f"'{label}"


@pytest.mark.parametrize(
    "text",
    [
        "criterion;band;points\r\nemployees;10-49;5\r\n",
        "\ufeffcriterion;band;points\r\nemployees;10-49;5\r\n",
        "sep=;\r\ncriterion;band;points\r\nemployees;10-49;5\r\n",
        '"criterion","band","points"\n"employees","10-49","5"\n',
        "criterion\tband\tpoints\nemployees\t10-49\t5\n",
        "Points, Band ,CRITERION,notes\n+5, '10-49 , Employees,why not\n\n,,,\n",
        "criterion,band,points\nemployees,10-49,5.0",
        'criterion;band;points\nemployees;10-49;"5,00"',
    ],
)
def test_import__reads_what_spreadsheets_write(text: str) -> None:
    assert read_weights_csv(text, CARD) == [WeightRow("", "employees", "10-49", 5)]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
def test_import__reads_the_encodings_of_spreadsheets(encoding: str) -> None:
    text = 'criterion;band;points\r\nindustry;"Müller & Söhne; Bau";-4\r\n'
    assert read_weights_csv(text.encode(encoding), CARD) == [WeightRow("", "industry", "Müller & Söhne; Bau", -4)]


def test_import__typographic_minus_is_a_minus() -> None:
    assert read_weights_csv("criterion,band,points\nemployees,< 10,\u22123", CARD)[0].points == -3


def test_import__only_what_differs_is_a_change() -> None:
    rows = read_weights_csv("criterion,band,points\nemployees,< 10,-15\nemployees,10-49,1", CARD)
    assert changed_rows(rows, CARD) == [WeightRow("", "employees", "10-49", 1)]


def test_import__all_broken_rules_are_named_with_their_line() -> None:
    text = (
        "criterion,band,points\n"
        "employes,< 10,5\n"
        '"employees","Oct 49",5\n'
        "employees,10-49,5.5\n"
        "employees,missing,\n"
        "employees,missing,3\n"
        "employees,missing,3\n"
        "industry,other,1001\n"
        'industry,other,"1,000"\n'
    )
    with pytest.raises(UserError) as raised:
        read_weights_csv(text, CARD)
    lines = str(raised.value).splitlines()
    assert lines[0] == "the weights cannot be imported:"
    expected = [
        r"line 2: criterion 'employes', band '< 10': criterion must be one of employees, industry \(value: 'employes'\)",
        r"line 3: .*band must be one of < 10, 10-49, missing \(value: 'Oct 49'\); spreadsheets turn",
        r"line 4: criterion 'employees', band '10-49': points must be a whole number \(value: '5.5'\)",
        r"line 5: .*points must be a whole number \(value: ''\)",
        r"line 7: .*a row may stand in the file once; line 6 gives it 3 points already \(value: '3'\)",
        r"line 8: .*points must be less than or equal to 1000 \(value: '1001'\)",
        r"line 9: .*points must be a whole number \(value: '1,000'\)",
    ]
    assert len(lines) == len(expected) + 1
    for line, pattern in zip(lines[1:], expected, strict=True):
        assert re.match(pattern, line), line


def test_import__lines_are_counted_as_an_editor_counts_them() -> None:
    text = 'sep=;\ncriterion;band;points;note\n\nemployees;< 10;1;"two\nlines"\nemployees;10-49;x;\n'
    with pytest.raises(UserError, match="line 6: criterion 'employees', band '10-49'"):
        read_weights_csv(text, CARD)


def test_import__segments_must_be_named_where_the_card_has_them() -> None:
    with pytest.raises(UserError, match="missing: segment"):
        read_weights_csv("criterion,band,points\nregion,north,1", SEGMENTED)
    with pytest.raises(UserError, match=r"segment must be one of empty \(everybody\), north \(value: 'west'\)"):
        read_weights_csv("segment,criterion,band,points\nwest,region,north,1", SEGMENTED)
    rows = read_weights_csv("segment,criterion,band,points\n,region,north,1\nnorth,region,north,2", SEGMENTED)
    assert rows == [WeightRow("", "region", "north", 1), WeightRow("north", "region", "north", 2)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"line 1: the header must name .*missing: criterion, band, points"),
        ("a,b\n1,2", r"missing: criterion, band, points \(value: \['a', 'b'\]\)"),
        ("criterion,band,points,points\nx,y,1,1", "must name points once"),
        ("criterion,band,points\n", "no row below its header"),
    ],
)
def test_import__a_file_without_rows_or_columns_is_refused(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_weights_csv(text, CARD)


def test_import__errors_of_a_file_begin_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.csv: the file cannot be read"):
        read_weights_file(tmp_path / "absent.csv", CARD)
    file = tmp_path / "w.csv"
    file.write_text("criterion,band,points\nemployees,< 10,x", encoding="utf-8")
    with pytest.raises(UserError, match=r"w\.csv: the weights cannot be imported:\nline 2"):
        read_weights_file(file, CARD)
