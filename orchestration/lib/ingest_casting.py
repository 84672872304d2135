"""Writes the SQL that turns a file's columns into a contract's typed columns. No row is touched here.

The rule of every cast: a value is taken exactly or not at all. What does not fit exactly becomes NULL with
its text kept beside it, and `loading` sends that row to the quarantine.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal

from orchestration.lib.contracts import Contract, Property
from orchestration.lib.ingest_reading import SourceColumn
from orchestration.lib.sources import EPOCH_FORMATS, Format, ResolvedColumn, ResolvedHeader

SIGNED = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT")
INTEGERS = {*SIGNED, *("U" + name for name in SIGNED)}
FLOATS = {"FLOAT", "DOUBLE"}
TIMESTAMPS = {"TIMESTAMP", "TIMESTAMP_S", "TIMESTAMP_MS", "TIMESTAMP_NS"}
ZONED = "TIMESTAMP WITH TIME ZONE"

ANY_DAY = r"\d{4}-\d{1,2}-\d{1,2}"
PLAIN_TIME = r"\d{4}-\d{2}-\d{2}([T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?)?"
ANY_TIME = r"\d{4}-\d{1,2}-\d{1,2}([T ]\d{1,2}:\d{2}(:\d{2}([.,]\d{1,9})?)?( ?(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?))?)?"
ZONE = r":\d{2}([.,]\d+)? ?(Z|z|UTC|GMT|[+-]\d{2}(:?\d{2})?)$"


@dataclass(frozen=True)
class Cast:
    """One contract column as SQL over a table with the source columns s0, s1, ...

    `given` is the value before the cast (NULL where the cell is empty) and `value` the typed one, which may
    use the column `given_name`. A row fails where `given` is there and `value` is not.
    """

    prop: Property
    given_name: str
    given: str
    value: str

    @property
    def can_fail(self) -> bool:
        return self.value != self.given_name


@dataclass(frozen=True)
class CastPlan:
    """How a file's rows become a contract's. `problems` say why they cannot."""

    casts: tuple[Cast, ...]
    custom: tuple[tuple[str, str], ...]
    problems: tuple[str, ...]


def plan_casts(contract: Contract, header: ResolvedHeader, columns: list[SourceColumn], fmt: Format) -> CastPlan:
    """Plan the casts of a file whose header was resolved without problems."""
    casts, problems = [], []
    for number, (prop, resolved) in enumerate(zip(contract.properties, header.columns, strict=True)):
        source = columns[resolved.position] if resolved.position is not None else None
        reason = _incompatible(prop, resolved, source, fmt)
        if reason:
            problems.append(reason)
            continue
        casts.append(_cast(prop, resolved, source, fmt, f"g{number}"))
    custom = tuple((name, _as_text(f"s{position}", columns[position].type, fmt)) for name, position in header.custom)
    return CastPlan(tuple(casts), custom, tuple(problems))


def sql_text(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def sql_name(name: str) -> str:
    """A SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


def _incompatible(prop: Property, resolved: ResolvedColumn, source: SourceColumn | None, fmt: Format) -> str | None:
    if source is None or source.type == "VARCHAR" or prop.sql_type == "varchar":
        return None
    if resolved.mapping is not None and resolved.mapping.values:
        return None  # compared and replaced as text
    base = prop.sql_type.partition("(")[0]
    numeric = INTEGERS | FLOATS
    is_decimal = source.type.startswith("DECIMAL")
    epoch = any(item in EPOCH_FORMATS for item in fmt.timestamp)
    allowed = {
        "bigint": source.type in numeric or is_decimal,
        "decimal": source.type in numeric or is_decimal,
        "boolean": source.type == "BOOLEAN" or source.type in INTEGERS,
        "date": source.type == "DATE" or source.type in TIMESTAMPS or source.type == ZONED,
        "timestamp": source.type == "DATE"
        or source.type in TIMESTAMPS
        or source.type == ZONED
        or (epoch and source.type in INTEGERS),
    }[base]
    if allowed or source.type == '"NULL"':
        return None
    hint = "; say epoch_s or epoch_ms as its timestamp format" if base == "timestamp" and source.type in numeric else ""
    return f"the column {source.name!r} holds {source.type}, and {prop.name!r} is {prop.sql_type}{hint}"


def _cast(prop: Property, resolved: ResolvedColumn, source: SourceColumn | None, fmt: Format, given_name: str) -> Cast:
    mapping = resolved.mapping
    if source is None:
        constant = mapping.value if mapping is not None else None
        if constant is None:
            return Cast(prop, given_name, f"null::{prop.sql_type}", given_name)
        # A constant is written for us, not by the source: the source's decimal comma does not apply to it.
        return Cast(prop, given_name, sql_text(constant), _from_text(prop, given_name, Format(), None, round_=False))
    raw = f"s{resolved.position}"
    scale = mapping.scale if mapping is not None else None
    round_ = mapping.round if mapping is not None else False
    if source.type == "VARCHAR" or (mapping is not None and mapping.values):
        text = raw if source.type == "VARCHAR" else _plain_text(raw, source.type)
        text = (
            _replaced(text, mapping.values, mapping.others, fmt)
            if mapping is not None and mapping.values
            else _without_nulls(text, fmt)
        )
        return Cast(prop, given_name, text, _from_text(prop, given_name, fmt, scale, round_=round_))
    return _from_typed(prop, given_name, raw, source.type, fmt, scale, round_=round_)


def _without_nulls(text: str, fmt: Format) -> str:
    nulls = ", ".join(sql_text(item) for item in dict.fromkeys(["", *fmt.nulls]))
    return f"case when {text} in ({nulls}) then null else {text} end"


def _replaced(text: str, values: dict[str, str | None], others: str | None, fmt: Format) -> str:
    """Exact values replaced; the empty cell can be named as ''.

    A null of the format that is not named stays null.
    """
    whens = " ".join(
        f"when {sql_text(key)} then {'null' if value is None else sql_text(value)}" for key, value in values.items()
    )
    rest = _without_nulls(text, fmt)
    if others is not None:
        rest = f"case when ({rest}) is null then null else {sql_text(others)} end"
    return f"case coalesce({text}, '') {whens} else {rest} end"


def _plain_text(raw: str, type_name: str) -> str:
    """The text of a typed value as a person would write it."""
    if type_name in FLOATS:
        # 15 digits are what a double surely holds: 0.1 + 0.2 is 0.3. A key that pandas made a float gets its
        # digits back.
        return f"case when isnan({raw}) then null else format('{{:.15g}}', {raw}::double) end"
    if type_name == "BOOLEAN" or type_name in INTEGERS or type_name.startswith("DECIMAL"):
        return f"cast({raw} as varchar)"
    if type_name == ZONED:
        return f"strftime(timezone('UTC', {raw}), '%Y-%m-%dT%H:%M:%S.%fZ')"
    if type_name.startswith(("STRUCT", "MAP")) or type_name.endswith("]"):
        return f"cast(to_json({raw}) as varchar)"
    return f"cast({raw} as varchar)"


def _as_text(raw: str, type_name: str, fmt: Format) -> str:
    text = raw if type_name == "VARCHAR" else _plain_text(raw, type_name)
    return _without_nulls(text, fmt)


def _from_text(prop: Property, given: str, fmt: Format, scale: Decimal | None, *, round_: bool) -> str:
    base = prop.sql_type.partition("(")[0]
    if base == "varchar":
        return given
    text = f"trim({given})"
    if base == "boolean":
        true = ", ".join(sql_text(item.lower()) for item in fmt.true_values)
        false = ", ".join(sql_text(item.lower()) for item in fmt.false_values)
        return f"case when lower({text}) in ({true}) then true when lower({text}) in ({false}) then false end"
    if base == "date":
        return _date_from_text(text, fmt, round_=round_)
    if base == "timestamp":
        return _timestamp_from_text(text, fmt)
    return _number_from_text(prop, text, fmt, scale, round_=round_)


def _number_from_text(prop: Property, text: str, fmt: Format, scale: Decimal | None, *, round_: bool) -> str:
    # Without these patterns DuckDB reads 12.5 as the integer 13, 1_000 as 1000 and 12.345 as 12.35 without a
    # word.
    number = _normal_number(text, fmt)
    wide = f"try_cast({number} as decimal(38, 12))"
    if scale is not None:
        literal = format(scale, "f")
        digits = len(literal.replace("-", "").replace(".", ""))
        places = len(literal.partition(".")[2])
        wide = f"try({wide} * {literal}::decimal({max(digits, places + 1)}, {places}))"
    if round_:
        return f"try_cast({wide} as {prop.sql_type})"
    exact = f"case when try_cast({wide} as {prop.sql_type}) = {wide} then try_cast({wide} as {prop.sql_type}) end"
    if scale is not None:
        return exact
    places = prop.decimal_scale
    fits = rf"[+-]?[0-9]*(\.[0-9]{{0,{places}}}0*)?"
    return (
        f"case when regexp_full_match({number}, '{fits}') then try_cast({number} as {prop.sql_type}) "
        f"when contains(lower({number}), 'e') then {exact} end"
    )


def _normal_number(text: str, fmt: Format) -> str:
    """SQL of a number with a decimal point and nothing else, NULL where the text is no number of this
    format.
    """
    mark = re.escape(fmt.decimal)
    plain = rf"[+-]?([0-9]+({mark}[0-9]*)?|{mark}[0-9]+)([eE][+-]?[0-9]+)?"
    pointed = text if fmt.decimal == "." else f"replace({text}, ',', '.')"
    if not fmt.thousands:
        return f"case when regexp_full_match({text}, {sql_text(plain)}) then {pointed} end"
    mark_of = fmt.thousands
    if mark_of == " ":
        # Exports write the no-break spaces where a person sees a space.
        text = f"replace(replace({text}, '\u00a0', ' '), '\u202f', ' ')"
        pointed = text if fmt.decimal == "." else f"replace({text}, ',', '.')"
    group = re.escape(mark_of)
    # Groups must stand where groups stand, so that 1.5 in a German file is refused and not read as 15.
    grouped = rf"[+-]?[0-9]{{1,3}}({group}[0-9]{{2,3}})*{group}[0-9]{{3}}({mark}[0-9]*)?"
    bare = f"replace({text}, {sql_text(mark_of)}, '')"
    bare = bare if fmt.decimal == "." else f"replace({bare}, ',', '.')"
    return (
        f"case when regexp_full_match({text}, {sql_text(plain)}) then {pointed} "
        f"when regexp_full_match({text}, {sql_text(grouped)}) then {bare} end"
    )


def _to_utc(local: str, fmt: Format) -> str:
    if fmt.timezone in ("UTC", "Etc/UTC"):
        return local
    return f"timezone('UTC', timezone({sql_text(fmt.timezone)}, {local}))"


def _to_local(utc: str, fmt: Format) -> str:
    if fmt.timezone in ("UTC", "Etc/UTC"):
        return utc
    return f"timezone({sql_text(fmt.timezone)}, timezone('UTC', {utc}))"


def _iso_utc(text: str, fmt: Format) -> str:
    # A plain cast of 12:00+02:00 to TIMESTAMP drops the zone without a word; only TIMESTAMPTZ counts it.
    # Minutes without seconds and a blank before the zone are usual in exports, and no cast takes them.
    complete = f"replace({text}, ',', '.')"
    complete = rf"regexp_replace({complete}, '^(\S+[T ]\d{{1,2}}:\d{{2}})([^:\d.].*)?$', '\1:00\2')"
    complete = rf"regexp_replace({complete}, ' ?(Z|z|UTC|GMT)$', 'Z')"
    complete = rf"regexp_replace({complete}, ' ([+-]\d{{2}}(:?\d{{2}})?)$', '\1')"
    zoned = f"timezone('UTC', try_cast({complete} as timestamptz))"
    local = _to_utc(f"try_cast({complete} as timestamp)", fmt)
    plain = _to_utc(f"try_cast({text} as timestamp)", fmt)
    return (
        f"case when regexp_full_match({text}, '{PLAIN_TIME}') then {plain} "
        f"when regexp_full_match({text}, '{ANY_TIME}') then "
        f"case when regexp_matches({text}, '{ZONE}') then {zoned} else {local} end end"
    )


def _timestamp_from_text(text: str, fmt: Format) -> str:
    if not fmt.timestamp and not fmt.date:
        return _iso_utc(text, fmt)
    tried = []
    for item in fmt.timestamp or ():
        if item == "epoch_s":
            tried.append(f"make_timestamp(try_cast(try_cast({text} as decimal(24, 6)) * 1000000 as bigint))")
        elif item == "epoch_ms":
            tried.append(f"make_timestamp(try_cast(try_cast({text} as decimal(24, 3)) * 1000 as bigint))")
        elif "%z" in item or "%Z" in item:
            tried.append(f"timezone('UTC', try_strptime({text}, {sql_text(item)}))")
        else:
            tried.append(_to_utc(f"try_strptime({text}, {sql_text(item)})", fmt))
    if not fmt.timestamp:
        tried.append(_iso_utc(text, fmt))
    # A day without a time is its midnight.
    tried.extend(_to_utc(f"try_strptime({text}, {sql_text(item)})", fmt) for item in fmt.date)
    if not fmt.date:
        day = f"case when regexp_full_match({text}, '{ANY_DAY}') then try_cast({text} as timestamp) end"
        tried.append(_to_utc(day, fmt))
    return f"coalesce({', '.join(tried)})"


def _day(utc: str, fmt: Format, *, round_: bool) -> str:
    """A day from a moment: midnight where the source lives, or midnight UTC; any other moment only if
    rounding is asked for.
    """
    local = _to_local(utc, fmt)
    otherwise = f"else cast({local} as date) " if round_ else ""
    return (
        f"case when {local} = date_trunc('day', {local}) then cast({local} as date) "
        f"when {utc} = date_trunc('day', {utc}) then cast({utc} as date) {otherwise}end"
    )


def _date_from_text(text: str, fmt: Format, *, round_: bool) -> str:
    tried = [f"cast(try_strptime({text}, {sql_text(item)}) as date)" for item in fmt.date]
    if not tried:
        tried = [f"case when regexp_full_match({text}, '{ANY_DAY}') then try_cast({text} as date) end"]
    tried.append(_day(f"({_timestamp_from_text(text, fmt)})", fmt, round_=round_))
    return f"coalesce({', '.join(tried)})"


def _from_typed(
    prop: Property, given: str, raw: str, type_name: str, fmt: Format, scale: Decimal | None, *, round_: bool
) -> Cast:
    base = prop.sql_type.partition("(")[0]
    if type_name == '"NULL"':
        return Cast(prop, given, f"null::{prop.sql_type}", given)
    if base == "varchar":
        return Cast(prop, given, _as_text(raw, type_name, fmt), given)
    if base in ("bigint", "decimal") or (base == "boolean" and type_name != "BOOLEAN"):
        if type_name in INTEGERS and base == "bigint" and scale is None:
            return Cast(prop, given, raw, given if type_name == "BIGINT" else f"try_cast({given} as bigint)")
        # Through its text: one rule of exactness for all numbers, and a typed number has a decimal point
        # everywhere.
        own = fmt.model_copy(update={"decimal": ".", "thousands": None})
        text = _as_text(raw, type_name, own)
        return Cast(prop, given, text, _from_text(prop, given, own, scale, round_=round_))
    if base == "boolean":
        return Cast(prop, given, raw, given)
    if base == "date":
        if type_name == "DATE":
            return Cast(prop, given, raw, given)
        utc = f"timezone('UTC', {given})" if type_name == ZONED else _to_utc(f"cast({given} as timestamp)", fmt)
        return Cast(prop, given, raw, _day(f"({utc})", fmt, round_=round_))
    if type_name == ZONED:
        return Cast(prop, given, raw, f"timezone('UTC', {given})")
    if type_name in INTEGERS:
        return Cast(prop, given, f"cast({raw} as varchar)", _timestamp_from_text(given, fmt))
    if type_name == "TIMESTAMP" and fmt.timezone in ("UTC", "Etc/UTC"):
        return Cast(prop, given, raw, given)
    return Cast(prop, given, raw, _to_utc(f"try_cast({given} as timestamp)", fmt))
