"""`sources.yml`: where each contract's data comes from, how it is written, and how its columns map.

Only the settings and the resolving of names: files are collected by `landing` and read by `loading`.
"""

from __future__ import annotations

import codecs
import difflib
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal
from zoneinfo import available_timezones

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from orchestration.lib.contracts import Contract
from orchestration.lib.settings_file import SettingsError, line_of, read_settings, read_yaml_with_lines

EPOCH_FORMATS = ("epoch_s", "epoch_ms")
DELIMITER_NAMES = {"comma": ",", "semicolon": ";", "tab": "\t", "pipe": "|"}


def _text(value: Any) -> Any:
    # A value of another system is text for us, even where YAML sees a number or a date; but a boolean has
    # lost its spelling (yes, on, true), so it cannot be given back.
    if isinstance(value, bool):
        raise ValueError(f"put quotes around it: YAML reads it as the boolean {value}")
    return str(value) if value is not None and not isinstance(value, dict | list | str) else value


def _text_keys(value: Any) -> Any:
    return {_text(key): item for key, item in value.items()} if isinstance(value, dict) else value


def _list(value: Any) -> Any:
    return [value] if isinstance(value, str) else value


Text = Annotated[str, BeforeValidator(_text)]
TextList = Annotated[list[Text], BeforeValidator(_list)]


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class Format(_Settings):
    """How the text of a source's files is to be read.

    What is not said is the usual: comma, UTF-8, ISO dates, UTC.
    """

    type: Literal["csv", "jsonl", "parquet"] | None = None
    delimiter: str | None = None
    encoding: str = "utf-8"
    quote: str = '"'
    escape: str | None = None
    decimal: Literal[".", ","] = "."
    thousands: str | None = None
    date: TextList = []
    timestamp: TextList = []
    timezone: str = "UTC"
    nulls: TextList = [""]
    true_values: TextList = ["true", "t", "yes", "y", "1"]
    false_values: TextList = ["false", "f", "no", "n", "0"]

    @field_validator("delimiter")
    @classmethod
    def _delimiter(cls, value: str | None) -> str | None:
        value = DELIMITER_NAMES.get(value or "", value)
        if value is not None and (len(value) != 1 or value in '"\r\n'):
            raise ValueError("must be one character, or one of " + ", ".join(DELIMITER_NAMES))
        return value

    @field_validator("quote", "escape", "thousands")
    @classmethod
    def _one_character(cls, value: str | None) -> str | None:
        if value is not None and len(value) > 1:
            raise ValueError("must be one character")
        return value

    @field_validator("encoding")
    @classmethod
    def _encoding(cls, value: str) -> str:
        try:
            return codecs.lookup(value).name
        except LookupError:
            raise ValueError("is not a known encoding; usual ones are utf-8, cp1252, latin-1, utf-16") from None

    @field_validator("timezone")
    @classmethod
    def _timezone(cls, value: str) -> str:
        if value not in available_timezones():
            raise ValueError(f"is not a known time zone{_did_you_mean(value, available_timezones())}")
        return value

    @field_validator("date", "timestamp")
    @classmethod
    def _time_format(cls, value: list[str]) -> list[str]:
        for item in value:
            if "%" not in item and item not in EPOCH_FORMATS:
                raise ValueError(f"{item!r} is not a format such as %d.%m.%Y, {' or '.join(EPOCH_FORMATS)}")
        return value

    @model_validator(mode="after")
    def _distinct(self) -> Format:
        if self.thousands and self.thousands == self.decimal:
            raise ValueError(f"decimal and thousands are both {self.decimal!r}")
        both = {item.lower() for item in self.true_values} & {item.lower() for item in self.false_values}
        if both:
            raise ValueError(f"{sorted(both)} stand in true_values and in false_values")
        return self


class ColumnMapping(_Settings):
    """Where one contract column takes its values from: a source column, or the same constant in every row."""

    source: str | None = Field(default=None, alias="from")
    value: Text | None = None
    values: Annotated[dict[Text, Text | None], BeforeValidator(_text_keys)] = {}
    others: Text | None = None
    scale: Decimal | None = None
    round: bool = False
    optional: bool = False

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnMapping:
        if (self.source is None) == (self.value is None):
            raise ValueError("needs either from (a source column) or value (a constant)")
        if self.value is not None and (self.values or self.others is not None or self.scale is not None):
            raise ValueError("a constant value takes no values, others or scale")
        if self.others is not None and not self.values:
            raise ValueError("others needs values beside it")
        if self.scale is not None and (not self.scale.is_finite() or self.scale == 0):
            raise ValueError("scale must be a number other than 0")
        return self


def _column(value: Any) -> Any:
    return {"from": str(value)} if isinstance(value, str | int) and not isinstance(value, bool) else value


class TableSettings(_Settings):
    """What `sources.yml` says of one contract."""

    files: TextList = []
    format: Format = Format()
    columns: dict[str, Annotated[ColumnMapping, BeforeValidator(_column)]] = {}
    ignore: TextList = []
    max_bad_share: float = Field(default=0.2, ge=0, le=1)


class SourcesFile(_Settings):
    """The whole of `sources.yml`."""

    sources: dict[str, dict[str, TableSettings]]


@dataclass(frozen=True)
class TableSource:
    """Where the data of one contract comes from and how it is written.

    Parameters
    ----------
    name : str
        The contract's name, e.g. crm__accounts.
    files : tuple of str
        Globs, relative to the workspace or absolute.
    is_configured : bool
        The globs stand in sources.yml, so a glob without a file is worth a notice.
    settings : TableSettings
    """

    name: str
    files: tuple[str, ...]
    is_configured: bool
    settings: TableSettings

    @property
    def format(self) -> Format:
        return self.settings.format

    @property
    def max_bad_share(self) -> float:
        return self.settings.max_bad_share

    @property
    def fingerprint(self) -> str:
        """Changes exactly when a landed file would be loaded differently; where files are collected does not
        count.
        """
        shape = self.settings.model_dump(mode="json", by_alias=True, exclude={"files"})
        return hashlib.sha256(json.dumps(shape, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class ResolvedColumn:
    """One contract column and the position of the source column that feeds it (None: constant or always
    empty).
    """

    name: str
    position: int | None
    mapping: ColumnMapping | None


@dataclass(frozen=True)
class ResolvedHeader:
    """What each column of a file is used for.

    `custom` holds (name, position) of the columns that pass through; `problems` why the file cannot be
    loaded.
    """

    columns: tuple[ResolvedColumn, ...]
    custom: tuple[tuple[str, int], ...]
    problems: tuple[str, ...]


def read_sources(path: Path, contracts: dict[str, Contract]) -> dict[str, TableSource]:
    """Read `sources.yml`.

    Returns
    -------
    dict
        One TableSource for every contract, also for those that the file does not name: these read their inbox
        folder.

    Raises
    ------
    SettingsError
        With one line per broken rule: ``file:line: key: rule (value)``.
    """
    settings = read_settings(path, SourcesFile)
    _, lines = read_yaml_with_lines(path)
    problems: list[str] = []

    def fail(location: tuple[str | int, ...], rule: str) -> None:
        problems.append(f"{path}:{line_of(lines, location)}: {'.'.join(str(part) for part in location)}: {rule}")

    known_sources = sorted({contract.source for contract in contracts.values()})
    for source, tables in settings.sources.items():
        if source not in known_sources:
            fail(("sources", source), f"no contract has this source{_did_you_mean(source, known_sources)}")
            continue
        known_tables = sorted(contract.table for contract in contracts.values() if contract.source == source)
        for table, table_settings in tables.items():
            if table not in known_tables:
                fail(
                    ("sources", source, table),
                    f"no contract has this table{_did_you_mean(table, known_tables)}",
                )
                continue
            contract = contracts[f"{source}__{table}"]
            for column, mapping in table_settings.columns.items():
                place = ("sources", source, table, "columns", column)
                if column not in contract.column_names:
                    hint = _did_you_mean(column, contract.column_names)
                    fail(place, f"the contract {contract.name} has no such column{hint}")
                elif mapping.scale is not None and contract.property_named(column).logical_type not in (
                    "integer",
                    "number",
                ):
                    fail(
                        place,
                        f"scale is for numbers; this column is {contract.property_named(column).sql_type}",
                    )
    if problems:
        raise SettingsError(problems)
    return {
        name: _table_source(contract, settings.sources.get(contract.source, {}).get(contract.table))
        for name, contract in contracts.items()
    }


def _table_source(contract: Contract, settings: TableSettings | None) -> TableSource:
    configured = tuple(settings.files) if settings else ()
    default = (f"inbox/{contract.source}/{contract.table}/*",)
    return TableSource(contract.name, configured or default, bool(configured), settings or TableSettings())


def resolve_header(contract: Contract, source: TableSource, header: Sequence[str]) -> ResolvedHeader:
    """Say what each column of a file is used for.

    A name is matched exactly, else without regard to case where that is unambiguous. A column that is mapped
    feeds the mapped columns only; one with a contract column's name feeds that; the rest passes through.
    """
    names = [name.strip() for name in header]
    problems = [
        f"the column {name!r} stands {names.count(name)} times in the header"
        for name in dict.fromkeys(names)
        if name and names.count(name) > 1
    ]
    listing = "the file has: " + (", ".join(names) or "no columns")
    ignored = {name.strip() for name in source.settings.ignore}

    def find(name: str) -> int | None:
        if name in names:
            return names.index(name)
        alike = [position for position, other in enumerate(names) if other.lower() == name.lower()]
        return alike[0] if len(alike) == 1 else None

    columns: list[ResolvedColumn] = []
    used: set[int] = set()
    for prop in contract.properties:
        mapping = source.settings.columns.get(prop.name)
        position: int | None = None
        if mapping is None:
            position = find(prop.name)
            if position is not None and names[position] in ignored:
                position = None
            if position is None and prop.required:
                problems.append(
                    f"the required column {prop.name!r} is missing, and sources.yml maps no other to it; {listing}"
                )
        elif mapping.source is not None:
            position = find(mapping.source.strip())
            if position is None and (prop.required or not mapping.optional):
                hint = _did_you_mean(mapping.source, names)
                problems.append(
                    f"the column {mapping.source!r}, mapped to {prop.name!r} in sources.yml, is missing"
                    f"{hint}; {listing}"
                )
        if position is not None:
            used.add(position)
        columns.append(ResolvedColumn(prop.name, position, mapping))
    custom = tuple(
        (name or f"column_{position + 1}", position)
        for position, name in enumerate(names)
        if position not in used and name not in ignored
    )
    return ResolvedHeader(tuple(columns), custom, tuple(problems))


def _did_you_mean(name: str, known: Any) -> str:
    choices = sorted(known)
    close = difflib.get_close_matches(name, choices, n=1, cutoff=0.5)
    if close:
        return f"; did you mean {close[0]!r}?"
    return "; known are " + ", ".join(choices) if 0 < len(choices) <= 12 else ""


DEFAULT_SOURCES_YML = """\
# Where each table's data comes from and how it is written.
#
# With nothing below, every table reads the files that you put into inbox/<source>/<table>/ of this workspace,
# with the column names of the contracts (data_contracts/sources/). Files may be CSV, JSON Lines or Parquet,
# also as .gz, .zst, .bz2, .xz or .zip. Each file is copied to landing/ once, the base of everything else.
#
# sources:
#   <source>:                     # crm, web, email, social, survey, market, scoring
#     <table>:                    # accounts, contacts, opportunities, events, ...
#       files: exports/acc*.csv   # a glob or a list of globs, relative to this file or absolute;
#                                 # without it: inbox/<source>/<table>/*
#       format:                   # only what is not as usual
#         type: csv               # csv, jsonl or parquet; without it: by the file's name
#         delimiter: ";"          # without it: the one of , ; tab | that the header uses most
#         encoding: cp1252        # utf-8
#         quote: '"'              # "" for none
#         escape: '\\'               # without it: a quote is doubled
#         decimal: ","            # .
#         thousands: "."          # none
#         date: "%d.%m.%Y"        # one format or a list; without it: 2024-12-31
#         timestamp: "%d.%m.%Y %H:%M"   # also epoch_s, epoch_ms; without it: 2024-12-31T23:59:59Z
#         timezone: Europe/Berlin # of times that name no zone; UTC
#         nulls: ["", "NULL"]     # what stands for an empty cell; [""]
#         true_values: ["ja", "1"]      # without it: true t yes y 1, in any case
#         false_values: ["nein", "0"]   # without it: false f no n 0
#       columns:                  # contract column: source column; the same names need no line
#         account_id: Id
#         industry: {from: Branche, values: {technolgy: technology}}    # exact values; others pass
#         status: {from: Stage, values: {"Closed Won": won, "Closed Lost": lost}, others: open}   # all others
#         annual_revenue: {from: Umsatz in Mio, scale: 1000000}         # multiply
#         amount: {from: Betrag, round: true}       # to the column's decimals (a time to its day);
#                                                   # else what does not fit exactly is quarantined
#         currency: {value: EUR}                    # the same in every row
#         region: {from: Gebiet, optional: true}    # older files need not have it
#       ignore: [InternalNotes]   # columns that are neither mapped nor kept
#       max_bad_share: 0.2        # a file with a larger share of bad rows is refused as a whole
#
# A source column may feed several contract columns. A column that nothing names passes through: it can be
# scored by its own name in scorecard.yml.
#
# Salesforce (Data Export or Data Loader, one CSV per object):
#
# sources:
#   crm:
#     accounts:
#       files: salesforce/Account*.csv
#       columns:
#         account_id: Id
#         account_name: Name
#         domain: Website
#         industry: Industry
#         employees: {from: NumberOfEmployees, optional: true}
#         annual_revenue: {from: AnnualRevenue, round: true, optional: true}
#         country: BillingCountry
#         city: BillingCity
#         account_type: Type
#         lead_source: {from: AccountSource, optional: true}
#         owner_id: OwnerId
#         parent_account_id: ParentId
#         merged_into_account_id: {from: MasterRecordId, optional: true}
#         created_at: CreatedDate
#         updated_at: SystemModstamp
#         is_deleted: {from: IsDeleted, optional: true}
#     contacts:
#       files: salesforce/Contact*.csv
#       columns:
#         contact_id: Id
#         account_id: AccountId
#         email: Email
#         contact_name: {from: Name, optional: true}
#         job_title: Title
#         job_function: {from: Department, optional: true}
#         is_unsubscribed: {from: HasOptedOutOfEmail, optional: true}
#         created_at: CreatedDate
#         updated_at: SystemModstamp
#     opportunities:
#       files: salesforce/Opportunity*.csv
#       columns:
#         opportunity_id: Id
#         opportunity_name: Name
#         account_id: AccountId
#         owner_id: OwnerId
#         stage: StageName
#         status: {from: StageName, values: {"Closed Won": won, "Closed Lost": lost}, others: open}
#         amount: {from: Amount, round: true}
#         opened_at: CreatedDate
#         expected_close_date: CloseDate
#         closed_at: CloseDate      # of an open deal it is only the day that is hoped for, and is not used
#         lead_source: LeadSource
#         campaign_id: {from: CampaignId, optional: true}
#         deal_type: Type
#         forecast_category: ForecastCategoryName
#         updated_at: SystemModstamp
#     opportunity_stage_history:
#       files: salesforce/OpportunityHistory*.csv
#       columns:
#         opportunity_id: OpportunityId
#         changed_at: CreatedDate
#         stage: StageName
#         amount: {from: Amount, round: true}
#         expected_close_date: CloseDate
#
# HubSpot (export of companies, contacts and deals; times as your account shows them):
#
# sources:
#   crm:
#     accounts:
#       files: hubspot/*companies*.csv
#       format: {timestamp: ["%Y-%m-%d %H:%M"], timezone: Europe/Berlin}
#       columns:
#         account_id: Record ID
#         account_name: Company name
#         domain: Company Domain Name
#         industry: Industry
#         employees: {from: Number of Employees, optional: true}
#         annual_revenue: {from: Annual Revenue, round: true, optional: true}
#         country: {from: Country/Region, optional: true}
#         city: {from: City, optional: true}
#         lifecycle_stage: {from: Lifecycle Stage, optional: true}
#         owner_id: Company owner
#         created_at: Create Date
#         updated_at: {from: Last Modified Date, optional: true}
#     opportunities:
#       files: hubspot/*deals*.csv
#       format: {timestamp: ["%Y-%m-%d %H:%M"], timezone: Europe/Berlin}
#       columns:
#         opportunity_id: Record ID
#         opportunity_name: Deal Name
#         account_id: Associated Company IDs
#         owner_id: Deal owner
#         stage: Deal Stage
#         status: {from: Deal Stage, values: {"Closed Won": won, "Closed Lost": lost}, others: open}
#         amount: {from: Amount, round: true}
#         opened_at: Create Date
#         expected_close_date: {from: Close Date, round: true}
#         closed_at: Close Date
#         updated_at: {from: Last Modified Date, optional: true}

sources: {}
"""
