"""Loading real files into a real DuckDB: what is loaded, what is quarantined, that it adds up."""

from __future__ import annotations

import bz2
import datetime as dt
import gzip
import json
import lzma
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from decimal import Decimal
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestration.lib import ingest_reading
from orchestration.lib.contracts import SEARCH_NUMBER, TableRule, load_contracts
from orchestration.lib.landing import collect, landed_files, landing_file
from orchestration.lib.loading import LoadResult, load, write_notices
from orchestration.lib.sources import Format, read_sources
from orchestration.lib.validation import BrokenRule, RuleChecker
from orchestration.lib.workspace import PROJECT_ROOT, SOURCE_CONTRACTS, Workspace

CONTRACTS = load_contracts(SOURCE_CONTRACTS)
ACCOUNTS, DEALS, EVENTS = "crm__accounts", "crm__opportunities", "web__events"
SHARED_DATA = Path(os.environ.get("SCORING_SHARED_DATA") or PROJECT_ROOT.parent / "shared" / "data")
MAVEN = SHARED_DATA / "maven_crm"


class Company:
    """A workspace with its warehouse, and short ways to put files in and look at tables."""

    def __init__(self, home: Path):
        self.workspace = Workspace(home)
        home.mkdir(parents=True, exist_ok=True)
        self.configure("sources: {}")
        self.con = duckdb.connect(str(self.workspace.warehouse))
        self.clock = dt.datetime(2024, 5, 1, 12, 0, 0)

    def configure(self, text: str) -> None:
        self.workspace.sources_file.write_text(text, encoding="utf-8")

    def accounts(self, settings: str) -> None:
        indented = "\n".join("      " + line for line in settings.splitlines())
        self.configure(f"sources:\n  crm:\n    accounts:\n{indented}\n")

    def land(self, name: str, content: str | bytes, table: str = ACCOUNTS) -> None:
        self.clock += dt.timedelta(minutes=1)
        with landing_file(self.workspace, table, name, self.clock) as path:
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def land_parquet(self, name: str, table: pa.Table, into: str = ACCOUNTS) -> None:
        self.clock += dt.timedelta(minutes=1)
        with landing_file(self.workspace, into, name, self.clock) as path:
            pq.write_table(table, path)

    def load(self) -> LoadResult:
        sources = read_sources(self.workspace.sources_file, CONTRACTS)
        self.said: list[str] = []
        return load(self.con, self.workspace, CONTRACTS, sources, self.said.append)

    def rows(self, query: str) -> list[tuple]:
        return self.con.execute(query).fetchall()

    def files(self) -> list[tuple]:
        return self.rows(
            "select original_name, status, rows_in, rows_loaded, rows_already_there, rows_quarantined "
            "from load.files order by arrived_at"
        )

    def quarantine(self, table: str = ACCOUNTS) -> list[tuple]:
        return self.rows(
            f"select row, column_name, rule, value from quarantine.{table} order by row nulls last, column_name, rule"
        )


@pytest.fixture
def company(tmp_path) -> Iterator[Company]:
    made = Company(tmp_path / "home [1]")  # brackets are wildcards to DuckDB's readers
    yield made
    made.con.close()


# ---------------------------------------------------------------- tables and the ledger


def test_load__makes_all_tables_of_the_design_before_any_file(company):
    result = company.load()
    assert result.total.files == 0
    assert result.failures == ()
    columns = company.rows(
        "select column_name, lower(data_type) from information_schema.columns "
        "where table_schema = 'raw' and table_name = 'crm__accounts' order by ordinal_position"
    )
    contract = [(prop.name, prop.sql_type) for prop in CONTRACTS[ACCOUNTS].properties]
    assert columns[: len(contract)] == contract
    assert columns[len(contract) :] == [
        ("_key_hash", "bigint"),
        ("_row_hash", "bigint"),
        ("_file", "varchar"),
        ("_row", "bigint"),
        ("_arrived_at", "timestamp"),
        ("_is_repeated", "boolean"),
    ]
    for name in CONTRACTS:
        for table in (f"raw.{name}", f"raw.{name}__custom", f"quarantine.{name}"):
            assert company.rows(f"select count(*) from {table}") == [(0,)]


def test_load__has_a_number_for_each_value_of_a_searched_column(company):
    """The number is what dbt makes of the value when it searches by it; of no value there is none."""
    company.land(
        "a.csv",
        "event_id,occurred_at,event_type,visitor_id,email\n1,2024-04-01,download,v1,A@x.de\n2,2024-04-01,download,v1,\n",
        EVENTS,
    )
    company.land("b.csv", "event_id,occurred_at,event_type,visitor_id,email\n2,2024-04-01,download,v2,b@x.de\n", EVENTS)
    company.load()
    number = f"case when {{0}} is not null then {SEARCH_NUMBER} end"
    assert company.rows(
        f"select event_id, _visitor_id_key = {number.format('visitor_id')}, _email_key is not distinct from {number.format('email')}, "
        "_email_key is null, _contact_id_key is null from raw.web__events order by all"
    ) == [("1", True, True, False, True), ("2", True, True, False, True), ("2", True, True, True, True)]


def test_load__fills_raw_custom_and_ledger(company):
    company.land("a.csv", "account_id,employees,Tier\nA1,5,gold\nA2,,\n")
    result = company.load()
    assert (result.tables[ACCOUNTS].rows_in, result.tables[ACCOUNTS].rows_loaded) == (2, 2)
    (landed,) = landed_files(company.workspace, ACCOUNTS)
    assert company.rows("select account_id, employees, city, _file, _row, _arrived_at from raw.crm__accounts") == [
        ("A1", 5, None, landed.file, 1, landed.arrived_at),
        ("A2", None, None, landed.file, 2, landed.arrived_at),
    ]
    assert company.rows("from raw.crm__accounts__custom") == [(landed.file, 1, "Tier", "gold")]
    row = company.rows("select file, source_table, sha256[:12], size_bytes, message from load.files")
    assert row == [(landed.file, ACCOUNTS, landed.sha12, landed.size_bytes, None)]
    assert company.said == ["crm__accounts: a.csv: 2 rows loaded"]
    assert company.load().total.files == 0
    assert not list(company.workspace.home.glob(".loading-*"))


def test_write_notices__replaces_those_of_the_last_collection(company):
    sources = read_sources(company.workspace.sources_file, CONTRACTS)
    collection = collect(company.workspace, CONTRACTS, sources, settle_seconds=0)
    inbox = company.workspace.inbox / "crm" / "accounts"
    for name in ("a.csv", "b.csv"):
        (inbox / name).write_text("account_id\n1\n")
    (inbox / "c.csv.part").write_text("x")
    collection = collect(company.workspace, CONTRACTS, sources, settle_seconds=0)
    for _ in range(2):
        write_notices(company.con, collection.notices)
    found = company.rows("select source_table, original_name, status from load.notices order by original_name")
    assert found == [(ACCOUNTS, "b.csv", "duplicate"), (ACCOUNTS, "c.csv.part", "waiting")]
    write_notices(company.con, ())
    assert company.rows("from load.notices") == []


# ---------------------------------------------------------------- CSV as the world writes it

GERMAN = """\
Id;Name;Umsatz;Gegründet;Geändert
1;"Müller; Söhne";1.234.567,89;1999;31.12.2024 23:59
2;Größe;12,5;;
"""
GERMAN_SETTINGS = """\
format: {delimiter: ";", decimal: ",", thousands: ".", timestamp: "%d.%m.%Y %H:%M", timezone: Europe/Berlin}
columns:
  {account_id: Id, account_name: Name, annual_revenue: Umsatz, founded_year: Gegründet,
   updated_at: Geändert}"""
GERMAN_ROWS = [
    ("1", "Müller; Söhne", Decimal("1234567.89"), 1999, dt.datetime(2024, 12, 31, 22, 59)),
    ("2", "Größe", Decimal("12.50"), None, None),
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252", "utf-16", "latin-1"])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_load__csv_in_any_encoding_with_decimal_comma_and_local_times(company, encoding, line_end):
    company.accounts(GERMAN_SETTINGS.replace('";",', f'";", encoding: {encoding},', 1))
    company.land("a.csv", GERMAN.replace("\n", line_end).encode(encoding))
    result = company.load()
    assert result.failures == ()
    columns = "account_id, account_name, annual_revenue, founded_year, updated_at"
    assert company.rows(f"select {columns} from raw.crm__accounts order by 1") == GERMAN_ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_load__csv_delimiter_is_found_in_the_header(company, delimiter):
    company.land("a.csv", f'account_id{delimiter}"city, {delimiter} x"\n1{delimiter}"a{delimiter}b"\n')
    company.load()
    assert company.rows("select account_id from raw.crm__accounts") == [("1",)]
    assert company.rows("select value from raw.crm__accounts__custom") == [(f"a{delimiter}b",)]


def compressions(content: bytes, folder: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(folder / "x.zip", "w") as archive:
        archive.writestr("inner.csv", content)
    return {
        "a.csv.gz": gzip.compress(content),
        "a.csv.bz2": bz2.compress(content),
        "a.csv.xz": lzma.compress(content),
        "a.csv.zst": pa.compress(content, "zstd", asbytes=True),
        "a.csv.zip": (folder / "x.zip").read_bytes(),
    }


def test_load__compressed_files(company, tmp_path):
    for number, name in enumerate(["a.csv.gz", "a.csv.bz2", "a.csv.xz", "a.csv.zst", "a.csv.zip"]):
        company.land(name, compressions(f"account_id\n{number}\n".encode(), tmp_path)[name])
    assert company.load().failures == ()
    assert company.rows("select account_id from raw.crm__accounts order by 1") == [(str(n),) for n in range(5)]


def test_load__damaged_compressed_files_are_unreadable_and_stop_no_other(company, tmp_path):
    content = ("account_id\n" + "".join(f"{number}\n" for number in range(20_000))).encode()
    whole = compressions(content, tmp_path)
    for name, data in whole.items():
        company.land(name, data[: len(data) // 2])
    company.land("b.csv", "account_id\n1\n")
    company.load()
    assert [row[1] for row in company.files()] == ["unreadable"] * 5 + ["loaded"]
    assert company.rows("select account_id from raw.crm__accounts") == [("1",)]


def test_load__zip_with_two_files_is_unreadable(company, tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("a.csv", "account_id\n1\n")
        archive.writestr("b.csv", "account_id\n2\n")
    company.land("a.zip", (tmp_path / "x.zip").read_bytes())
    (failure,) = company.load().failures
    assert (failure.status, failure.source_table) == ("unreadable", ACCOUNTS)
    assert "exactly one file; it holds 2: a.csv, b.csv" in failure.message


def test_load__columns_are_read_by_name_in_any_order(company):
    company.land("a.csv", "account_id,city,country\n1,Bonn,DE\n")
    company.land("b.csv", "country,account_id,city\nFR,2,Lyon\n")
    company.load()
    found = company.rows("select account_id, city, country from raw.crm__accounts order by 1")
    assert found == [("1", "Bonn", "DE"), ("2", "Lyon", "FR")]


def test_load__quoted_line_breaks_blank_lines_and_doubled_quotes(company):
    company.land("a.csv", 'account_id,city\n1,"a\nb"\n\n2,"say ""hi"""\n\n3,\n')
    company.load()
    found = company.rows("select _row, account_id, city from raw.crm__accounts order by 1")
    assert found == [(1, "1", "a\nb"), (2, "2", 'say "hi"'), (3, "3", None)]


def test_load__line_ends_of_two_systems_and_stray_carriage_returns_cost_no_row(company):
    text = 'account_id,city\r\n1,a\n\n2,b\rc\r\n3,"d\r\ne"\r\n4,f\r\r\n5\n6,g\n\n7,h\ri\r\n'
    company.land("a.csv", text, ACCOUNTS)
    company.land("b.jsonl", '{"account_id": "8", "city": "k"}\r\n{"account_id": "9", \r}\n{"account_id": "10"}\n')
    company.accounts("max_bad_share: 1")
    company.load()
    assert company.files() == [("a.csv", "loaded", 7, 6, 0, 1), ("b.jsonl", "loaded", 4, 2, 0, 2)]
    found = company.rows("select account_id, city from raw.crm__accounts order by account_id::integer")
    cities = {"1": "a", "2": "b\rc", "3": "d\r\ne", "4": "f", "6": "g", "7": "h\ri", "8": "k", "10": None}
    assert found == list(cities.items())
    assert (5, "", "csv: fewer columns than the header's 2", None) in company.quarantine()


CARRIAGE_CELL = st.text(alphabet='ab;"\r\n\\ ', max_size=6)


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(st.lists(CARRIAGE_CELL, min_size=2, max_size=2), min_size=1, max_size=6),
    ends=st.lists(st.sampled_from(["\n", "\r\n", "\r\r\n"]), min_size=7, max_size=7),
    bare=st.booleans(),
    escape=st.sampled_from(['"', "\\"]),
)
def test_open_file__reads_each_value_whatever_the_line_ends(tmp_path_factory, rows, ends, bare, escape):
    def written(value: str) -> str:
        # Without quotes a value may have a carriage return, though none at its end, where it would belong to the line.
        if bare and not set(value) & set('";\n\\') and value and value == value.strip():
            return value
        value = value.replace("\\", "\\\\") if escape == "\\" else value
        return '"' + value.replace('"', escape + '"') + '"'

    folder = tmp_path_factory.mktemp("csv")
    lines = ["a;b", *(";".join(written(value) for value in row) for row in rows)]
    with (folder / "a.csv").open("w", encoding="utf-8", newline="") as file:
        file.write("".join(line + end for line, end in zip(lines, ends, strict=False)))
    fmt = Format(type="csv", delimiter=";", escape=escape)
    opened = ingest_reading.open_file(duckdb.connect(), folder / "a.csv", "a.csv", fmt, folder)
    found = [row for part in opened.parts() for row in part.select(["s0", "s1"]).to_pylist()]
    assert [[row["s0"] or "", row["s1"] or ""] for row in found] == rows
    assert opened.rejects == []


def test_load__broken_csv_lines_are_quarantined_under_their_own_row_number(company):
    lines = ["account_id,city"] + [f"{number},x" for number in range(1, 31)]
    lines[3] = "3"
    lines[5] = "5,x,y"
    lines[9] = '9,"a"b'
    company.land("a.csv", "\n".join(lines[:7]) + "\n\n" + "\n".join(lines[7:]) + "\n")
    company.load()
    assert company.files() == [("a.csv", "loaded", 30, 27, 0, 3)]
    assert company.quarantine() == [
        (3, "", "csv: fewer columns than the header's 2", None),
        (5, "", "csv: more columns than the header's 2", None),
        (9, "", "csv: a quote is not closed, or text follows it", None),
    ]
    assert company.rows("select record from quarantine.crm__accounts where row = 5") == [("5,x,y",)]
    assert company.rows("select bool_and(account_id = _row::varchar) from raw.crm__accounts") == [(True,)]


def test_load__text_that_is_not_utf8_is_quarantined_or_refused_with_the_way_out(company):
    good = [f"{number},x\n".encode() for number in range(30)]
    company.land("a.csv", b"account_id,city\n" + b"".join(good) + b"99,K\xf6ln\n")
    company.load()
    assert company.files() == [("a.csv", "loaded", 31, 30, 0, 1)]
    assert "say the encoding in sources.yml" in company.quarantine()[0][2]
    company.land("b.csv", b"account_id,St\xe4dte\n1,x\n")
    company.load()
    (failure,) = company.load().failures
    assert failure.status == "unreadable"
    assert "say its encoding in sources.yml" in failure.message


def test_load__wrong_encoding_said_is_unreadable(company):
    company.accounts("format: {encoding: utf-16-le}")
    company.land("a.csv", b"account_id\n1\n")
    assert company.load().failures[0].status == "unreadable"


# ---------------------------------------------------------------- files that are no use


def test_load__empty_header_only_and_unreadable_files_are_reported_each(company):
    company.land("empty.csv", b"")
    company.land("bom.csv", b"\xef\xbb\xbf\n\n")
    company.land("header.csv", "account_id,city\n")
    company.land("no.parquet", b"PAR1 but nothing more")
    company.land("book.xlsx", b"PK\x03\x04 a workbook")
    company.land("list.json", '[\n{"account_id": 1}\n]\n')
    company.land("good.csv", "account_id\n1\n", "crm__accounts")
    result = company.load()
    assert [(row[0], row[1]) for row in company.files()] == [
        ("empty.csv", "empty"),
        ("bom.csv", "empty"),
        ("header.csv", "header_only"),
        ("no.parquet", "unreadable"),
        ("book.xlsx", "unreadable"),
        ("list.json", "unreadable"),
        ("good.csv", "loaded"),
    ]
    # Whoever reads an exit status hears of each once, whatever the name of the good one; that came after them, so nothing is wrong with
    # the table as it stands.
    assert [failure.file for failure in result.failures] == ["no.parquet", "book.xlsx", "list.json"]
    assert company.load().failures == ()
    assert len(result.notices) == 3
    messages = dict(company.rows("select original_name, message from load.files"))
    assert "export the sheet as CSV" in messages["book.xlsx"]
    assert "one object per line" in messages["list.json"]


def test_load__a_landed_file_whose_content_was_changed_is_unreadable(company):
    company.land("a.csv", "account_id\n1\n")
    (landed,) = landed_files(company.workspace, ACCOUNTS)
    landed.path.chmod(0o644)
    landed.path.write_text("account_id\n2\n")
    (failure,) = company.load().failures
    assert "content was changed" in failure.message
    assert company.rows("select count(*) from raw.crm__accounts") == [(0,)]


def test_load__a_missing_column_blocks_that_table_only(company):
    company.land("good.csv", "account_id\n1\n")
    company.load()
    company.land("bad.csv", "Id,city\n2,Bonn\n3,Bonn\n")
    company.land("deals.csv", "opportunity_id,status\n1,open\n", DEALS)
    (failure,) = company.load().failures
    assert (failure.source_table, failure.file, failure.status) == (ACCOUNTS, "bad.csv", "refused")
    assert "the required column 'account_id' is missing" in failure.message
    assert "the file has: Id, city" in failure.message
    assert company.files()[1] == ("bad.csv", "refused", 2, 0, 0, 2)
    assert company.rows("select account_id from raw.crm__accounts") == [("1",)]
    assert company.rows("select count(*) from raw.crm__opportunities") == [(1,)]
    # It stays a failure until a good file follows.
    assert company.load().failures == (failure,)
    company.land("bad.csv", "account_id,city\n2,Bonn\n3,Bonn\n")
    assert company.load().failures == ()


def test_load__duplicate_header_names_are_refused(company):
    company.land("a.csv", "account_id,city,city\n1,a,b\n")
    (failure,) = company.load().failures
    assert "the column 'city' stands 2 times" in failure.message


def test_load__a_column_of_another_type_refuses_the_file_and_names_rule_count_and_examples(company):
    company.land("a.csv", "account_id,employees\n" + "".join(f"{n},many\n" for n in range(12)))
    (failure,) = company.load().failures
    assert "12 of 12 rows are bad" in failure.message
    assert "employees: type bigint (12 rows, e.g. 'many')" in failure.message
    assert company.files() == [("a.csv", "refused", 12, 0, 0, 12)]
    reasons = company.quarantine()
    assert reasons[0] == (1, "employees", "type bigint", "many")
    assert (len(reasons), reasons[-1][0]) == (13, None)


def test_load__max_bad_share_decides_between_quarantine_and_refusal(company):
    content = "account_id,employees\n" + "".join(f"{n},{'x' if n < 30 else n}\n" for n in range(100))
    company.land("a.csv", content)
    assert company.load().failures[0].status == "refused"
    company.accounts("max_bad_share: 0.3")
    result = company.load()
    assert result.failures == ()
    assert company.files() == [("a.csv", "loaded", 100, 70, 0, 30)]
    assert "loaded anew" in result.notices[0]


# ---------------------------------------------------------------- exact values or none


def values_of(company: Company, column: str, settings: str, cells: list[str]) -> list:
    """Loaded values by cell in order; 'quarantined' for what did not load."""
    table = DEALS if column not in CONTRACTS[ACCOUNTS].column_names else ACCOUNTS
    key = CONTRACTS[table].key[0]
    source, name = table.split("__")
    extra = "        status: {value: open}\n" if table == DEALS else ""
    company.configure(
        f"sources:\n  {source}:\n    {name}:\n      max_bad_share: 1\n"
        f"      columns:\n{extra}        {key}: key\n        {column}: {settings.split('|')[0]}\n"
        + (f"      format: {settings.split('|')[1]}\n" if "|" in settings else "")
    )
    quoted = "".join(f'{number}~"{cell}"\n' for number, cell in enumerate(cells)).replace("~", ",")
    company.land(f"{column}.csv", f"key,cell\n{quoted}", table)
    result = company.load()
    assert result.failures == ()
    found = dict(company.rows(f"select {key}::bigint, {column} from raw.{table}"))
    return [found.get(number, "quarantined") for number in range(len(cells))]


BAD = "quarantined"


@pytest.mark.parametrize(
    ("column", "settings", "cells", "expected"),
    [
        (
            "employees",
            "cell",
            ["12", " 12 ", "+12", "12.0", "12.", "1e3", ""],
            [12, 12, 12, 12, 12, 1000, None],
        ),
        (
            "employees",
            "cell",
            ["12.5", "1_000", "0x1F", "1,000", "twelve", "99999999999999999999", "1e-3"],
            [BAD] * 7,
        ),
        ("employees", "{from: cell, round: true}", ["12.5", "12.4", "x"], [13, 12, BAD]),
        ("employees", "{from: cell, scale: 1000}", ["1.5", "0.0005", "2"], [1500, BAD, 2000]),
        (
            "annual_revenue",
            "cell",
            ["12.34", "12.340", ".5", "1e2", "1234567890123.45"],
            [Decimal("12.34"), Decimal("12.34"), Decimal("0.50"), Decimal(100), Decimal("1234567890123.45")],
        ),
        ("annual_revenue", "cell", ["12.345", "nan", "inf", "1,5", "12345678901234567.00"], [BAD] * 5),
        (
            "annual_revenue",
            "{from: cell, round: true}",
            ["12.345", "12.344"],
            [Decimal("12.35"), Decimal("12.34")],
        ),
        (
            "annual_revenue",
            "{from: cell, scale: 1000000}",
            ["1100.04", "0.00000001", "-1"],
            [Decimal(1100040000), Decimal("0.01"), BAD],
        ),
        (
            "annual_revenue",
            "cell|{decimal: ',', thousands: '.'}",
            ["1.234,5", "1234,5", "1.234.567", "1.5", "12.34.567", "1,2,3"],
            [Decimal("1234.50"), Decimal("1234.50"), Decimal(1234567), BAD, Decimal(1234567), BAD],
        ),
        (
            "annual_revenue",
            "cell|{decimal: ',', thousands: ' '}",
            ["1 234,5", "1\u00a0234,5", "1\u202f234,5"],
            [Decimal("1234.50")] * 3,
        ),
        (
            "is_customer",
            "cell",
            ["TRUE", "f", "Yes", "0", "", "ja"],
            [True, False, True, False, None, BAD],
        ),
        (
            "is_customer",
            "cell|{true_values: [ja], false_values: [nein]}",
            ["Ja", "NEIN", "true"],
            [True, False, BAD],
        ),
        (
            "created_at",
            "cell",
            [
                "2024-06-01 12:00:00",
                "2024-06-01T12:00:00Z",
                "2024-06-01T12:00:00.000+0000",
                "2024-06-01 14:00:00+02:00",
                "2024-06-01T14:00+02",
                "2024-06-01 12:00 UTC",
                "2024-06-01T12:00",
                "2024-06-01T05:00:00.000000 -0700",
            ],
            [dt.datetime(2024, 6, 1, 12)] * 8,
        ),
        (
            "created_at",
            "cell|{timezone: Europe/Berlin}",
            ["2024-06-01 12:00:00", "2024-12-01 12:00", "2024-06-01T12:00:00Z", "2024-06-01"],
            [
                dt.datetime(2024, 6, 1, 10),
                dt.datetime(2024, 12, 1, 11),
                dt.datetime(2024, 6, 1, 12),
                dt.datetime(2024, 5, 31, 22),
            ],
        ),
        (
            "created_at",
            "cell",
            [
                "2024-02-30",
                "01.06.2024",
                "infinity",
                "epoch",
                "2024-06-01 25:00:00",
                "1717243200",
                "12:00:00",
            ],
            [BAD] * 7,
        ),
        (
            "created_at",
            "cell|{timestamp: ['%d.%m.%Y %H:%M', '%Y/%m/%d %H:%M %z', epoch_ms], date: '%d.%m.%Y'}",
            [
                "01.06.2024 12:00",
                "2024/06/01 14:00 +0200",
                "1717243200000",
                "01.06.2024",
                "2024-06-01 12:00:00",
            ],
            [*[dt.datetime(2024, 6, 1, 12)] * 3, dt.datetime(2024, 6, 1), BAD],
        ),
        (
            "created_at",
            "cell|{timestamp: epoch_s}",
            ["1717243200", "1717243200.5", "x"],
            [dt.datetime(2024, 6, 1, 12), dt.datetime(2024, 6, 1, 12, 0, 0, 500000), BAD],
        ),
        (
            "expected_close_date",
            "cell",
            ["2024-06-01", "2024-06-01 00:00:00", "2024-06-01T00:00:00Z", "2024-06-01 13:00", "1.6.2024", ""],
            [*[dt.date(2024, 6, 1)] * 3, BAD, BAD, None],
        ),
        (
            "expected_close_date",
            "{from: cell, round: true}|{timezone: America/New_York}",
            ["2024-06-01 23:00", "2024-06-02T03:00:00Z", "2024-06-02T00:00:00Z"],
            [dt.date(2024, 6, 1), dt.date(2024, 6, 1), dt.date(2024, 6, 2)],
        ),
        (
            "expected_close_date",
            "cell|{date: '%d/%m/%Y'}",
            ["01/06/2024", "13/31/2024"],
            [dt.date(2024, 6, 1), BAD],
        ),
        ("city", "cell", [" Bonn ", "NULL", ""], [" Bonn ", "NULL", None]),
        ("city", "cell|{nulls: ['NULL', '-']}", ["NULL", "-", "", "x"], [None, None, None, "x"]),
        (
            "city",
            "{from: cell, values: {K: Köln, '': none, gone: null}}",
            ["K", "", "gone", "k"],
            ["Köln", "none", None, "k"],
        ),
        (
            "city",
            "{from: cell, values: {W: won, L: lost}, others: open}",
            ["W", "L", "x", ""],
            ["won", "lost", "open", None],
        ),
        ("city", "{value: Bonn}", ["x"], ["Bonn"]),
    ],
)
def test_load__takes_a_value_exactly_or_not_at_all(company, column, settings, cells, expected):
    assert values_of(company, column, settings, cells) == expected


def test_load__quarantine_names_row_column_rule_value_and_record(company):
    lines = [f"{number},5,,2024-01-01\n" for number in range(1, 40)]
    lines[4] = "5,many,no mail,2024-13-01\n"
    lines[9] = ",-1,,\n"
    company.land("a.csv", "account_id,employees,Notes,created_at\n" + "".join(lines))
    company.load()
    assert company.quarantine() == [
        (5, "created_at", "type timestamp", "2024-13-01"),
        (5, "employees", "type bigint", "many"),
        (10, "account_id", "required", None),
        (10, "employees", "0 to 10000000", "-1"),
    ]
    (record,) = {row[0] for row in company.rows("select record from quarantine.crm__accounts where row = 5")}
    assert json.loads(record) == {
        "account_id": "5",
        "employees": "many",
        "Notes": "no mail",
        "created_at": "2024-13-01",
    }
    assert company.files() == [("a.csv", "loaded", 39, 37, 0, 2)]


def test_load__rules_over_rows_are_quarantined_with_both_values(company):
    company.land(
        "d.csv",
        "opportunity_id,status,opened_at,closed_at\n1,won,2024-01-02,\n2,won,2024-01-02,2024-01-01\n3,open,,\n",
        DEALS,
    )
    company.load()
    assert company.quarantine(DEALS) == [
        (1, "closed_at", "a won or lost deal has a close time", None),
        (
            2,
            "closed_at, opened_at",
            "a deal closes after it opened",
            "closed_at=2024-01-01 00:00:00, opened_at=2024-01-02 00:00:00",
        ),
    ]


# ---------------------------------------------------------------- JSON Lines and Parquet


def test_load__json_lines(company):
    lines = [
        {"account_id": 1, "employees": 5, "annual_revenue": 1.25, "is_customer": True, "tags": ["a", "b"]},
        {
            "account_id": "2",
            "employees": None,
            "annual_revenue": "3.50",
            "is_customer": "no",
            'odd "/~key': "x",
        },
        {"created_at": "2024-06-01T12:00:00Z", "account_id": "3"},
    ]
    text = "\n".join(json.dumps(line) for line in lines)
    good = "".join(json.dumps({"account_id": f"g{n}"}) + "\n" for n in range(20))
    company.land("a.jsonl", "\ufeff" + text + "\n\nnot json\n[1, 2]\n" + good)
    company.load()
    assert company.files() == [("a.jsonl", "loaded", 25, 23, 0, 2)]
    found = company.rows(
        "select account_id, employees, annual_revenue, is_customer, created_at, _row from raw.crm__accounts "
        "where _row < 4 order by _row"
    )
    assert found == [
        ("1", 5, Decimal("1.25"), True, None, 1),
        ("2", None, Decimal("3.50"), False, None, 2),
        ("3", None, None, None, dt.datetime(2024, 6, 1, 12), 3),
    ]
    assert company.rows("select _row, field, value from raw.crm__accounts__custom order by _row") == [
        (1, "tags", '["a","b"]'),
        (2, 'odd "/~key', "x"),
    ]
    assert [row[:3] for row in company.quarantine()] == [
        (5, "", "json: not an object on one line"),
        (6, "", "json: not an object on one line"),
    ]
    assert company.rows("select min(_row) from raw.crm__accounts where account_id = 'g0'") == [(7,)]


def test_load__parquet_of_many_types(company):
    noon = dt.datetime(2024, 6, 1, 12)
    table = pa.table(
        {
            "account_id": pa.array([1.0, 2.0, 3.0]),  # pandas makes a key with gaps a float
            "employees": pa.array([5, None, 7], pa.int32()),
            "annual_revenue": pa.array([0.1 + 0.2, float("nan"), 12.5]),
            "founded_year": pa.array([1999.0, None, 2001.0]),
            "is_customer": pa.array([True, None, False]),
            "created_at": pa.array([noon, None, noon], pa.timestamp("ns")),
            "updated_at": pa.array([noon, None, noon], pa.timestamp("us", tz="Europe/Berlin")),
            "score": pa.array([Decimal("1.50"), None, Decimal("2.00")], pa.decimal128(9, 2)),
        }
    )
    company.land_parquet("a.parquet", table)
    assert company.load().failures == ()
    utc = dt.datetime(2024, 6, 1, 12)
    found = company.rows(
        "select account_id, employees, annual_revenue, founded_year, is_customer, created_at, updated_at "
        "from raw.crm__accounts order by _row"
    )
    assert found == [
        ("1", 5, Decimal("0.30"), 1999, True, utc, utc),
        ("2", None, None, None, None, None, None),
        ("3", 7, Decimal("12.50"), 2001, False, utc, utc),
    ]
    assert company.rows("select _row, value from raw.crm__accounts__custom order by 1") == [
        (1, "1.50"),
        (3, "2.00"),
    ]


def test_load__parquet_values_that_do_not_fit_are_quarantined(company):
    table = pa.table(
        {
            "account_id": [str(number) for number in range(20)],
            "employees": pa.array([12.5] + [3.0] * 19),
            "annual_revenue": pa.array([1.0, 1.005] + [2.0] * 18),
        }
    )
    company.land_parquet("a.parquet", table)
    company.load()
    assert company.quarantine() == [
        (1, "employees", "type bigint", "12.5"),
        (2, "annual_revenue", "type decimal(18,2)", "1.005"),
    ]


def test_load__parquet_column_of_another_type_is_refused_with_its_type(company):
    company.land_parquet("a.parquet", pa.table({"account_id": ["1"], "created_at": [True], "employees": [[1]]}))
    (failure,) = company.load().failures
    assert "'created_at' holds BOOLEAN, and 'created_at' is timestamp" in failure.message
    assert "'employees' holds" in failure.message


def test_load__parquet_without_rows_is_header_only(company):
    company.land_parquet("a.parquet", pa.table({"account_id": pa.array([], pa.string())}))
    company.load()
    assert company.files() == [("a.parquet", "header_only", 0, 0, 0, 0)]


def parquet_of_parts(tmp_path: Path, monkeypatch, numbers: list[int]) -> bytes:
    """A Parquet file that is read in parts of 40,000 rows and has pieces of 15,000."""
    monkeypatch.setattr(ingest_reading, "CHUNK_ROWS", 20_000)
    monkeypatch.setattr(ingest_reading, "CHUNK_CELLS", 1)
    table = pa.table({"account_id": [f"a{number}" for number in numbers], "employees": [float(n) for n in numbers]})
    pq.write_table(table, tmp_path / "made.parquet", row_group_size=15_000, use_dictionary=False)
    return (tmp_path / "made.parquet").read_bytes()


def test_load__parquet_in_parts_keeps_row_numbers_and_sees_earlier_parts(company, tmp_path, monkeypatch):
    numbers = [*range(1, 90_001), *range(1, 101)]
    content = parquet_of_parts(tmp_path, monkeypatch, numbers)
    company.land("a.parquet", content)
    company.load()
    assert company.files() == [("a.parquet", "loaded", 90_100, 90_000, 100, 0)]
    found = company.rows("select bool_and(_row = employees), min(_row), max(_row), count(*) from raw.crm__accounts")
    assert found == [(True, 1, 90_000, 90_000)]
    assert [line.rsplit(": ", 1)[1] for line in company.said if " of 90,100 rows" in line] == [
        "40,000 of 90,100 rows",
        "80,000 of 90,100 rows",
    ]


@pytest.mark.parametrize("at", [0.02, 0.75])
def test_load__parquet_that_is_broken_inside_is_unreadable_as_a_whole(company, tmp_path, monkeypatch, at):
    content = bytearray(parquet_of_parts(tmp_path, monkeypatch, list(range(90_000))))
    begin = int(len(content) * at)
    content[begin : begin + 4_000] = b"\xff" * 4_000
    company.land("broken.parquet", bytes(content))
    company.land("good.parquet", parquet_of_parts(tmp_path, monkeypatch, [1, 2, 3]))
    company.load()
    assert company.files() == [("broken.parquet", "unreadable", 0, 0, 0, 0), ("good.parquet", "loaded", 3, 3, 0, 0)]
    assert company.rows("select count(*) from raw.crm__accounts") == [(3,)]


def test_load__a_full_disk_is_not_the_fault_of_the_file(company, tmp_path, monkeypatch):
    company.land("a.parquet", parquet_of_parts(tmp_path, monkeypatch, list(range(50))))

    def fail(*_: object) -> None:
        raise duckdb.IOException("could not write: no space left on device")

    with monkeypatch.context() as broken:
        broken.setattr("orchestration.lib.loading._FileLoad.cast", fail)
        with pytest.raises(duckdb.IOException, match="no space"):
            company.load()
    assert company.files() == []
    company.load()
    assert company.files() == [("a.parquet", "loaded", 50, 50, 0, 0)]


def test_load__chunks_keep_row_numbers_and_see_earlier_chunks_of_the_same_file(company, monkeypatch):
    monkeypatch.setattr(ingest_reading, "CHUNK_ROWS", 20_000)
    monkeypatch.setattr(ingest_reading, "CHUNK_CELLS", 1)
    numbers = [*range(1, 45_001), *range(1, 101)]
    lines = ["account_id,employees", *(f"{number},{number}" for number in numbers)]
    lines[30_000] = "30000,x"
    lines[40_000] = "40000"
    company.land("a.csv", "\n".join(lines) + "\n")
    company.load()
    assert company.files() == [("a.csv", "loaded", 45_100, 44_998, 100, 2)]
    assert company.rows("select bool_and(_row = employees), max(_row) from raw.crm__accounts") == [(True, 45_000)]
    assert [row[:2] for row in company.quarantine()] == [(30_000, "employees"), (40_000, "")]
    assert sum("45,100 rows" in line for line in company.said) >= 2


# ---------------------------------------------------------------- already there


def one(company: Company, name: str, city: str, updated_at: str | None = None) -> tuple[int, int]:
    company.land(name, f"account_id,city,updated_at\n1,{city},{updated_at or ''}\n")
    counts = company.load().tables[ACCOUNTS]
    return counts.rows_loaded, counts.rows_already_there


def test_load__a_row_as_it_was_is_already_there_and_one_that_changed_back_is_not(company):
    assert one(company, "1.csv", "A") == (1, 0)
    company.land("2.csv", "city,account_id\nA,1\n")
    assert company.load().tables[ACCOUNTS].rows_already_there == 1
    assert one(company, "3.csv", "B") == (1, 0)
    assert one(company, "4.csv", "A") == (1, 0)
    assert company.rows("select city from raw.crm__accounts order by _arrived_at") == [("A",), ("B",), ("A",)]


def test_load__versions_with_their_own_times_are_each_loaded_once(company):
    history = "account_id,city,updated_at\n1,A,2024-01-01\n1,B,2024-01-02\n"
    company.land("1.csv", history)
    company.land("2.csv", history + "1,C,2024-01-03\n")
    company.land("3.csv", "account_id,city,updated_at\n1,A,2024-01-01\n")
    company.load()
    assert [row[3:5] for row in company.files()] == [(2, 0), (1, 2), (0, 1)]
    newest = "select city from raw.crm__accounts order by coalesce(updated_at, _arrived_at) desc limit 1"
    assert company.rows(newest) == [("C",)]


def test_load__a_late_older_version_is_loaded_and_does_not_win(company):
    assert one(company, "1.csv", "B", "2024-01-02") == (1, 0)
    assert one(company, "2.csv", "A", "2024-01-01") == (1, 0)
    assert one(company, "3.csv", "B", "2024-01-02") == (0, 1)


def test_load__within_one_file_repeats_are_dropped_and_changes_kept(company):
    company.land("1.csv", "account_id,city\n1,A\n1,A\n1,B\n1,A\n2,A\n1,A\n")
    company.load()
    assert company.files() == [("1.csv", "loaded", 6, 4, 2, 0)]
    assert company.rows("select _row from raw.crm__accounts order by 1") == [(1,), (3,), (4,), (5,)]


def test_load__a_changed_custom_column_makes_a_row_new(company):
    company.land("1.csv", "account_id,Tier,Zone\n1,gold,\n")
    company.land("2.csv", "account_id,Tier\n1,gold\n")
    company.land("3.csv", "account_id,Zone,Tier\n1,,silver\n")
    company.load()
    assert [row[3:5] for row in company.files()] == [(1, 0), (0, 1), (1, 0)]


# ---------------------------------------------------------------- loading anew


def snapshot(company: Company) -> list:
    tables = ("raw.crm__accounts", "raw.crm__accounts__custom")
    return [sorted(map(repr, company.rows(f"from {table}"))) for table in tables] + [
        company.quarantine(),
        company.files(),
    ]


def land_history(company: Company) -> None:
    company.land("1.csv", "account_id,city,Tier\n1,A,x\n2,A,\n")
    company.land("2.csv", "account_id,city,Tier\n1,B,\n2,A,\n" + "3,C,\n,D,\n")
    company.land("1.csv", "account_id,city,Tier\n1,A,x\n2,B,y\n")


def test_load__a_new_warehouse_gives_the_same_tables(company, tmp_path):
    land_history(company)
    company.load()
    again = Company(tmp_path / "again")
    shutil.copytree(company.workspace.landing, again.workspace.landing)
    again.load()
    assert snapshot(again) == snapshot(company)
    again.con.close()


def test_load__file_by_file_is_the_same_as_all_at_once(company, tmp_path):
    land_history(company)
    company.load()
    stepwise = Company(tmp_path / "stepwise")
    for landed in landed_files(company.workspace, ACCOUNTS):
        with landing_file(stepwise.workspace, ACCOUNTS, landed.original_name, landed.arrived_at) as path:
            shutil.copyfile(landed.path, path)
        stepwise.load()
    assert snapshot(stepwise) == snapshot(company)
    stepwise.con.close()


def test_load__a_changed_mapping_loads_that_table_anew_and_no_other(company):
    land_history(company)
    company.land("d.csv", "opportunity_id,status\n1,open\n", DEALS)
    company.load()
    company.accounts("columns: {region: city}")
    result = company.load()
    assert result.tables[ACCOUNTS].files == 3
    assert result.tables[DEALS].files == 0
    assert company.rows("select distinct city is not null, region is null from raw.crm__accounts") == [(True, False)]
    assert company.load().total.files == 0


def test_load__a_landed_file_that_is_gone_takes_its_rows_along(company):
    land_history(company)
    company.load()
    second = landed_files(company.workspace, ACCOUNTS)[1]
    second.path.unlink()
    company.load()
    assert company.rows("select distinct account_id from raw.crm__accounts order by 1") == [("1",), ("2",)]
    assert len(company.files()) == 2


def test_load__a_file_that_arrives_out_of_order_gives_the_same_as_in_order(company, tmp_path):
    land_history(company)
    company.load()
    late = Company(tmp_path / "late")
    folder = late.workspace.landing / "crm" / "accounts"
    folder.mkdir(parents=True)
    first, second, third = landed_files(company.workspace, ACCOUNTS)
    for landed in (third, first, second):
        shutil.copy(landed.path, folder / landed.file)
        late.load()
    assert snapshot(late) == snapshot(company)
    late.con.close()


def test_load__a_table_of_another_shape_is_made_anew(company):
    company.land("1.csv", "account_id\n1\n")
    company.load()
    company.con.execute("alter table raw.crm__accounts drop column city")
    assert company.load().tables[ACCOUNTS].rows_loaded == 1
    assert company.rows("select city from raw.crm__accounts") == [(None,)]


# ---------------------------------------------------------------- the balance

CELL = st.sampled_from(["", "1", "2", "3", "12.5", "x", "-1", "99999999999"])
LINE = st.one_of(
    st.tuples(st.sampled_from(["", "A", "B", "C"]), CELL).map(",".join),
    st.sampled_from(["A", "A,1,1", "B,1,", ",", '"A",1', '"B"x,2']),
)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(files=st.lists(st.lists(LINE, max_size=14), min_size=1, max_size=3), share=st.sampled_from([0.2, 0.5, 1]))
def test_load__rows_in_are_loaded_or_already_there_or_quarantined(files, share):
    with tempfile.TemporaryDirectory() as folder:
        company = Company(Path(folder) / "home")
        company.accounts(f"max_bad_share: {share}")
        for number, lines in enumerate(files):
            company.land(f"{number}.csv", "account_id,employees\n" + "".join(line + "\n" for line in lines))
        result = company.load()
        by_file = {row[0]: row for row in company.files()}
        for number, lines in enumerate(files):
            _, status, rows_in, loaded, already_there, quarantined = by_file[f"{number}.csv"]
            assert rows_in == len(lines)
            assert rows_in == loaded + already_there + quarantined
            assert status == ("header_only" if not lines else status)
            assert status in ("loaded", "refused", "header_only")
        name = "load.files.original_name"
        loaded_rows = company.rows(
            f"select {name}, rows_loaded, (select count(*) from raw.crm__accounts where _file = file), "
            "rows_quarantined, (select count(distinct row) from quarantine.crm__accounts as q "
            "where q.file = files.file), status from load.files"
        )
        for _, said, counted, quarantined, listed, status in loaded_rows:
            assert said == counted
            assert listed == quarantined or status == "refused"
        assert result.total.rows_in == sum(len(lines) for lines in files)
        company.con.close()


# ---------------------------------------------------------------- killed at any moment

LOAD_SCRIPT = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import great_expectations, duckdb
from orchestration.lib import ingest_reading
from orchestration.lib.contracts import load_contracts
from orchestration.lib.loading import load
from orchestration.lib.sources import Format, read_sources
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace
ingest_reading.CHUNK_ROWS = 20_000
workspace = Workspace(Path(sys.argv[1]))
contracts = load_contracts(SOURCE_CONTRACTS)
con = duckdb.connect(str(workspace.warehouse))
sources = read_sources(workspace.sources_file, contracts)
load(con, workspace, contracts, sources, lambda line: print(line, flush=True))
print("done", flush=True)
"""


@pytest.mark.parametrize("lines_before_kill", [1, 3])
def test_load__killed_in_the_middle_loads_exactly_once_afterwards(company, lines_before_kill):
    company.land("0.csv", "account_id,employees\nfirst,1\n")
    for number in (1, 2):
        rows = "".join(f"{number}-{row},{row % 7 or 'x'}\n" for row in range(1, 100_001))
        company.land(f"{number}.csv", "account_id,employees\n" + rows)
    company.con.close()
    command = [sys.executable, "-c", LOAD_SCRIPT, str(company.workspace.home), str(PROJECT_ROOT)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    seen = [process.stdout.readline() for _ in range(lines_before_kill)]
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    rest = process.stdout.read()
    process.wait()
    process.stdout.close()
    assert "done" not in rest, f"the load ended before it was killed: {seen}"
    company.con = duckdb.connect(str(company.workspace.warehouse))
    assert len(company.files()) < 3
    company.load()
    bad = 100_000 // 7
    assert company.files() == [
        ("0.csv", "loaded", 1, 1, 0, 0),
        ("1.csv", "loaded", 100_000, 100_000 - bad, 0, bad),
        ("2.csv", "loaded", 100_000, 100_000 - bad, 0, bad),
    ]
    total = company.rows("select count(*), count(distinct account_id) from raw.crm__accounts")
    assert total == [(200_001 - 2 * bad, 200_001 - 2 * bad)]
    assert company.rows("select count(*) from quarantine.crm__accounts") == [(2 * bad,)]
    assert not list(company.workspace.home.glob(".loading-*"))


# ---------------------------------------------------------------- a real export


@pytest.mark.skipif(not MAVEN.is_dir(), reason=f"the Maven CRM export is not here: {MAVEN} (set SCORING_SHARED_DATA)")
def test_load__maven_crm_through_its_sources_file_alone(company):
    example = PROJECT_ROOT / "docs" / "examples" / "maven_crm" / "sources.yml"
    company.configure(example.read_text(encoding="utf-8"))
    shutil.copytree(MAVEN, company.workspace.home / "maven_crm")
    sources = read_sources(company.workspace.sources_file, CONTRACTS)
    collection = collect(company.workspace, CONTRACTS, sources, settle_seconds=0)
    assert collection.notices == ()
    result = company.load()
    assert result.failures == ()
    assert {name: counts.rows_in for name, counts in result.tables.items() if counts.files} == {
        ACCOUNTS: 85,
        DEALS: 8800,
        "crm__users": 35,
        "crm__products": 7,
    }
    assert result.total.rows_in == result.total.rows_loaded + result.total.rows_quarantined
    status = company.rows(
        "select status, count(*), count(account_id) from raw.crm__opportunities group by 1 order by 1"
    )
    assert status == [("lost", 2473, 2473), ("open", 2089, 664), ("won", 4238, 4238)]
    assert round(4238 / (4238 + 2473) * 100, 2) == 63.15
    unknown = "select count(*) from raw.crm__opportunities where {} not in (select {} from raw.{}) and {} is not null"
    assert company.rows(unknown.format("product", "product", "crm__products", "product")) == [(0,)]
    assert company.rows(unknown.format("account_id", "account_id", "crm__accounts", "account_id")) == [(0,)]
    assert company.rows(unknown.format("owner_id", "user_id", "crm__users", "owner_id")) == [(0,)]
    found = "select industry, annual_revenue, founded_year from raw.crm__accounts where account_id = {}"
    assert company.rows(found.format("'Acme Corporation'")) == [("technology", Decimal("1100040000.00"), 1996)]
    assert company.rows("select sum(amount) from raw.crm__opportunities where status = 'won'") == [
        (Decimal("10005534"),)
    ]


def test_load__marks_the_rows_of_keys_that_came_more_than_once(company):
    """Also rows of earlier files; a row that says nothing new is not loaded and marks nothing."""
    company.land("a.csv", "account_id,employees\nA1,5\nA2,6\nA3,7\n")
    company.land("b.csv", "account_id,employees\nA1,8\nA2,6\nA4,1\nA4,2\n")
    company.load()
    assert company.rows("select account_id, employees, _is_repeated from raw.crm__accounts order by all") == [
        ("A1", 5, True),
        ("A1", 8, True),
        ("A2", 6, False),
        ("A3", 7, False),
        ("A4", 1, True),
        ("A4", 2, True),
    ]


def test_load__what_surely_keeps_the_rules_is_not_checked_and_a_bad_row_always_is(company, monkeypatch):
    checked: list[int] = []
    check = RuleChecker.check

    def counting(self: RuleChecker, table: pa.Table) -> list[BrokenRule]:
        checked.append(table.num_rows)
        return check(self, table)

    monkeypatch.setattr(RuleChecker, "check", counting)
    head = "event_id,occurred_at,event_type,visitor_id\n"
    good = [f"{number},2024-04-01T10:00:00Z,{kind},v{number}\n" for number, kind in enumerate(["page_view"] * 9)]
    company.land("a.csv", head + "".join(good) + "x,2024-04-01T10:00:00Z,download,v1\n", EVENTS)
    company.load()
    assert checked == [], "ordinary events are asked about nowhere"
    more = [line.replace("page_view", "download").replace("2024", "2023", 1) for line in good]
    bad = ["b1,2024-04-02T10:00:00Z,teleport,v1\n", "b2,2024-04-02T10:00:00Z,download,\n"]
    for name in ("b.csv", "c.csv"):
        checked.clear()
        company.land(name, head + "".join(f"{name}{line}" for line in more + bad), EVENTS)
        result = company.load().tables[EVENTS]
        assert (result.rows_loaded, result.rows_quarantined) == (9, 2)
        assert checked == [2], "only what may break a rule is asked about"
    found = company.rows('select "row", column_name, value from quarantine.web__events order by file, "row"')
    assert found == [(10, "event_type", "teleport"), (11, "visitor_id", None)] * 2


def test_load__a_changed_contract_forgets_what_passed(company):
    head = "event_id,occurred_at,event_type,visitor_id\n"
    company.land("a.csv", head + "1,2024-04-01T10:00:00Z,page_view,v1\n2,2024-04-01T10:00:00Z,download,v1\n", EVENTS)
    company.load()
    events = CONTRACTS[EVENTS]
    kinds = tuple(
        replace(prop, valid_values=("page_view",)) if prop.name == "event_type" else prop for prop in events.properties
    )
    stricter = replace(events, properties=kinds, fingerprint="stricter")
    sources = read_sources(company.workspace.sources_file, CONTRACTS)
    result = load(company.con, company.workspace, {EVENTS: stricter}, sources)
    assert result.tables[EVENTS].rows_quarantined == 1


def test_load__what_passed_is_remembered_by_the_text_of_each_value(company):
    head = "opportunity_id,account_id,opened_at,status,amount\n"
    company.land("a.csv", head + "1,a,2024-01-01,open,0.10\n2,a,2024-01-01,open,\n", DEALS)
    company.load()
    kept = [json.loads(text)["amount"] for (text,) in company.rows("select combination from load.passed order by 1")]
    assert kept == [None], "an amount that keeps its bounds need not be asked about"
    key, status = "opportunity_id", "status"
    assert company.rows(f"select combination ->> '{key}', combination ->> '{status}' from load.passed") == [
        ("true", "open")
    ]


def test_load__a_rule_without_a_column_refuses_the_file_and_lets_no_row_pass(company):
    company.land("a.csv", "user_id,user_name\n1,Ann\n", "crm__users")
    users = CONTRACTS["crm__users"]
    properties = tuple(replace(prop, required=False) for prop in users.properties)
    rule = TableRule("seven rows", "expect_table_row_count_to_equal", {"value": 7})
    odd = replace(users, properties=properties, table_rules=(rule,), fingerprint="odd")
    sources = read_sources(company.workspace.sources_file, CONTRACTS)
    result = load(company.con, company.workspace, {"crm__users": odd}, sources)
    (failure,) = result.failures
    assert (failure.status, result.tables["crm__users"].rows_loaded) == ("refused", 0)
    assert "crm__users.odcs.yaml: the rule 'seven rows' names no column" in failure.message
