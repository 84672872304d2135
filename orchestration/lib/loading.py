"""Loads landed files into the warehouse: each file once, in one transaction, every row of it accounted for.

Here stands the ledger (`load.files`), what counts as already there, when a file is refused and when a table
is loaded anew. How a file is read is in `ingest_reading`, how text becomes typed values in `ingest_casting`,
which rows break a rule in `validation`. Nothing here collects files: that is `landing`.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from orchestration.lib.contracts import SEARCH_NUMBER, Contract, search_key
from orchestration.lib.ingest_casting import CastPlan, plan_casts, sql_name, sql_text
from orchestration.lib.ingest_reading import OpenedFile, UnreadableFileError, open_file
from orchestration.lib.landing import LandedFile, Notice, landed_files
from orchestration.lib.sources import TableSource, resolve_header
from orchestration.lib.validation import RuleChecker, RuleError
from orchestration.lib.warehouse import transaction
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pyarrow as pa

# Raised whenever the same file would be loaded differently: all tables then load anew from the landing zone.
LOADER_VERSION = 2
#: Of such a file nothing could be loaded.
FAILED = ["refused", "unreadable"]
#: Whether a good file of the same table has come after a `failed` one; {} stands for the table with the files.
IS_MENDED = (
    "exists (select 1 from {} as later where later.source_table = failed.source_table "
    "and later.status = 'loaded' and later.arrived_at > failed.arrived_at)"
)
# So many combinations of values that kept a table's rules are remembered; a table of unique amounts has too many.
MAX_PASSED = 1_000
# Below this many bad rows a share says little, so a small file is refused only when all of its rows are bad.
MIN_BAD_ROWS = 10
EXAMPLES = 3
TEMPORARY_PREFIX = ".loading-"
OWN_COLUMNS = (
    ("_key_hash", "bigint"),
    ("_row_hash", "bigint"),
    ("_file", "varchar"),
    ("_row", "bigint"),
    ("_arrived_at", "timestamp"),
    # Whether the key has come more than once: what has not needs no ranking of its versions, whoever reads it.
    ("_is_repeated", "boolean"),
)
FILE_COLUMNS = (
    ("file", "varchar"),
    ("source_table", "varchar"),
    ("original_name", "varchar"),
    ("sha256", "varchar"),
    ("size_bytes", "bigint"),
    ("arrived_at", "timestamp"),
    ("loaded_at", "timestamp"),
    ("status", "varchar"),
    ("rows_in", "bigint"),
    ("rows_loaded", "bigint"),
    ("rows_already_there", "bigint"),
    ("rows_quarantined", "bigint"),
    ("message", "varchar"),
    ("fingerprint", "varchar"),
)
CUSTOM_COLUMNS = (("_file", "varchar"), ("_row", "bigint"), ("field", "varchar"), ("value", "varchar"))
QUARANTINE_COLUMNS = (
    ("file", "varchar"),
    ("row", "bigint"),
    ("column_name", "varchar"),
    ("rule", "varchar"),
    ("value", "varchar"),
    ("record", "varchar"),
    ("quarantined_at", "timestamp"),
)
PASSED_COLUMNS = (("source_table", "varchar"), ("fingerprint", "varchar"), ("combination", "varchar"))
NOTICE_COLUMNS = (
    ("source_table", "varchar"),
    ("original_name", "varchar"),
    ("status", "varchar"),
    ("message", "varchar"),
)


class BalanceError(AssertionError):
    """Rows in are not rows loaded + already there + quarantined: a fault of the loader.

    The file was not committed.
    """


@dataclass(frozen=True)
class Failure:
    """A file that keeps a table from being complete. The run goes on with the table's other rows, and its exit status says so."""

    source_table: str
    file: str
    status: str
    message: str


@dataclass(frozen=True)
class RowCounts:
    """Rows of some files. `rows_in` is the sum of the other three."""

    files: int = 0
    rows_in: int = 0
    rows_loaded: int = 0
    rows_already_there: int = 0
    rows_quarantined: int = 0

    def __add__(self, other: RowCounts) -> RowCounts:
        return RowCounts(
            self.files + other.files,
            self.rows_in + other.rows_in,
            self.rows_loaded + other.rows_loaded,
            self.rows_already_there + other.rows_already_there,
            self.rows_quarantined + other.rows_quarantined,
        )


@dataclass(frozen=True)
class LoadResult:
    """What one load did.

    Attributes
    ----------
    tables : dict
        Counts of this load by table; every table is there.
    failures : tuple of Failure
        Files that were refused or unreadable and that no later good file of the same table has followed, also
        from earlier loads.
    notices : tuple of str
        What is worth knowing and blocks nothing.
    """

    tables: dict[str, RowCounts]
    failures: tuple[Failure, ...]
    notices: tuple[str, ...]

    @property
    def total(self) -> RowCounts:
        return sum(self.tables.values(), RowCounts())


@dataclass
class _Outcome:
    """What becomes of one file."""

    status: str
    message: str = ""
    rows_in: int = 0
    loaded: int = 0
    already_there: int = 0
    quarantined: int = 0


@dataclass
class _Tally:
    """Bad rows of a file so far, and which rules they broke most."""

    bad_rows: int = 0
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=dict)

    def add(self, rule: str, column: str, value: str | None) -> None:
        key = (rule, column)
        self.rules[key] += 1
        kept = self.examples.setdefault(key, [])
        shown = "nothing" if value is None else repr(value if len(value) <= 60 else value[:57] + "...")
        if len(kept) < EXAMPLES and shown not in kept:
            kept.append(shown)

    def worst(self) -> str:
        (rule, column), count = self.rules.most_common(1)[0]
        place = f"{column}: " if column else ""
        return f"{place}{rule} ({counted(count, 'row')}, e.g. {', '.join(self.examples[(rule, column)])})"


def create_tables(con: duckdb.DuckDBPyConnection, contracts: dict[str, Contract]) -> None:
    """Create the schemas raw, quarantine and load with the tables of all contracts, where they are missing.

    A table whose columns are no longer those of its contract is emptied and made anew, to be loaded from the
    landing zone.
    """
    for schema in ("raw", "quarantine", "load"):
        con.execute(f"create schema if not exists {schema}")
    _create(con, "load", "files", FILE_COLUMNS)
    _create(con, "load", "notices", NOTICE_COLUMNS)
    _create(con, "load", "passed", PASSED_COLUMNS)
    existing: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for schema, table, column, sql_type in con.execute(
        "select table_schema, table_name, column_name, lower(data_type) from information_schema.columns "
        "where table_catalog = current_database() and table_schema in ('raw', 'quarantine') "
        "order by ordinal_position"
    ).fetchall():
        existing.setdefault((schema, table), []).append((column, sql_type))
    for name, contract in contracts.items():
        wanted = {("raw", name): _raw_columns(contract), ("raw", f"{name}__custom"): CUSTOM_COLUMNS}
        wanted["quarantine", name] = QUARANTINE_COLUMNS
        if any(existing.get(place) != list(columns) for place, columns in wanted.items()):
            _reset(con, contract)


def _raw_columns(contract: Contract) -> tuple[tuple[str, str], ...]:
    keys = ((search_key(prop.name), "integer") for prop in contract.properties if prop.is_searched)
    return (*((prop.name, prop.sql_type) for prop in contract.properties), *keys, *OWN_COLUMNS)


def _create(con: duckdb.DuckDBPyConnection, schema: str, table: str, columns: tuple[tuple[str, str], ...]) -> None:
    described = ", ".join(f"{sql_name(name)} {sql_type}" for name, sql_type in columns)
    con.execute(f"create table if not exists {schema}.{sql_name(table)} ({described})")


def _reset(con: duckdb.DuckDBPyConnection, contract: Contract) -> None:
    """Make a table empty and forget its files, all at once: whatever happens later, the rest is loaded
    again.
    """
    with transaction(con):
        for schema, table, columns in (
            ("raw", contract.name, _raw_columns(contract)),
            ("raw", f"{contract.name}__custom", CUSTOM_COLUMNS),
            ("quarantine", contract.name, QUARANTINE_COLUMNS),
        ):
            con.execute(f"drop table if exists {schema}.{sql_name(table)}")
            _create(con, schema, table, columns)
        for table in ("files", "passed"):
            con.execute(f"delete from load.{table} where source_table = ?", [contract.name])


def write_notices(con: duckdb.DuckDBPyConnection, notices: tuple[Notice, ...]) -> None:
    """Replace `load.notices` by those of the last collection."""
    con.execute("create schema if not exists load")
    _create(con, "load", "notices", NOTICE_COLUMNS)
    with transaction(con):
        con.execute("delete from load.notices")
        for notice in notices:
            row = [notice.source_table, notice.original_name, notice.status, notice.message]
            con.execute("insert into load.notices values (?, ?, ?, ?)", row)


def load(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    contracts: dict[str, Contract],
    sources: dict[str, TableSource],
    progress: Callable[[str], None] = lambda message: None,
) -> LoadResult:
    """Load every landed file that is not loaded yet.

    Parameters
    ----------
    con : duckdb.DuckDBPyConnection
        The warehouse, open for writing, without an open transaction.
    workspace : Workspace
    contracts, sources : dict
        By the contract's name.
    progress : callable
        Given one line of text per file, and per some hundred thousand rows of a large one.

    Notes
    -----
    A table is emptied and loaded anew when its contract, its mapping, DuckDB's or the loader's version
    changed, when a landed file is gone, or when one came in whose arrival is earlier than what is loaded: its
    content is always that of its landed files in their order of arrival.
    """
    _remove_leftovers(workspace)
    create_tables(con, contracts)
    counts: dict[str, RowCounts] = {}
    notices: list[str] = []
    failed_now: set[tuple[str, str]] = set()
    for name, contract in contracts.items():
        counts[name] = RowCounts()
        loader = _TableLoader(con, workspace, contract, sources[name], progress)
        for landed in loader.pending(notices):
            outcome = loader.load_file(landed)
            if outcome.status in FAILED:
                failed_now.add((name, landed.file))
            counts[name] += RowCounts(1, outcome.rows_in, outcome.loaded, outcome.already_there, outcome.quarantined)
            if outcome.status in ("empty", "header_only") or (outcome.status == "loaded" and outcome.message):
                notices.append(f"{name}: {landed.original_name}: {outcome.message}")
    return LoadResult(counts, _failures(con, contracts, failed_now), tuple(notices))


def _failures(
    con: duckdb.DuckDBPyConnection, contracts: dict[str, Contract], failed_now: Collection[tuple[str, str]]
) -> tuple[Failure, ...]:
    """What this load could not read, and of earlier ones what no later file of the table has mended.

    Of files that came together, one that loads mends none of the others: which of them is the later is a matter of their names.
    """
    rows = con.execute(
        f"select source_table, original_name, status, message, file, {IS_MENDED.format('load.files')} as is_mended "
        "from load.files as failed where status in (select unnest(?)) order by source_table, arrived_at",
        [FAILED],
    ).fetchall()
    return tuple(
        Failure(table, name, status, message)
        for table, name, status, message, file, is_mended in rows
        if table in contracts and ((table, file) in failed_now or not is_mended)
    )


class _TableLoader:
    """Loads the files of one table."""

    def __init__(
        self,
        con: duckdb.DuckDBPyConnection,
        workspace: Workspace,
        contract: Contract,
        source: TableSource,
        progress: Callable[[str], None],
    ):
        self.con = con
        self.workspace = workspace
        self.contract = contract
        self.source = source
        self.progress = progress
        self.checker = RuleChecker(contract)
        parts = (contract.fingerprint, source.fingerprint, duckdb.__version__, str(LOADER_VERSION))
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]
        self.raw = f"raw.{sql_name(contract.name)}"
        self.custom = f"raw.{sql_name(contract.name + '__custom')}"
        self.quarantine = f"quarantine.{sql_name(contract.name)}"
        # The moment that a row version counts from; staging orders versions by the same expression.
        has_update = any(prop.name == "updated_at" and prop.sql_type == "timestamp" for prop in contract.properties)
        self.version_at = "coalesce(updated_at, {arrived})" if has_update else "{arrived}"

    def pending(self, notices: list[str]) -> list[LandedFile]:
        """The files to load, in order; the table is emptied first where it has to be loaded anew."""
        landed = landed_files(self.workspace, self.contract.name)
        known = dict(
            self.con.execute(
                "select file, fingerprint from load.files where source_table = ?", [self.contract.name]
            ).fetchall()
        )
        pending = [file for file in landed if file.file not in known]
        last_loaded = max((number for number, file in enumerate(landed) if file.file in known), default=-1)
        reason = None
        if any(fingerprint != self.fingerprint for fingerprint in known.values()):
            reason = "its contract, its mapping or the loader has changed"
        elif set(known) - {file.file for file in landed}:
            reason = "a landed file is gone"
        elif any(file.file not in known for file in landed[: last_loaded + 1]):
            reason = "a file arrived before one that is loaded"
        if reason is None:
            return pending
        _reset(self.con, self.contract)
        notices.append(f"{self.contract.name}: loaded anew from {counted(len(landed), 'file')}, because {reason}")
        self.progress(notices[-1])
        return landed

    def load_file(self, landed: LandedFile) -> _Outcome:
        """Load one file in one transaction and enter it into the ledger, whatever becomes of it."""
        folder = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=self.workspace.home))
        reading = self.con.cursor()
        work = _FileLoad(self, landed, folder)
        try:
            sha256 = _sha256(landed.path)
            try:
                if sha256[:12] != landed.sha12:
                    raise UnreadableFileError(
                        "the landed file is no longer what its name says: its content was changed"
                    )
                opened = open_file(reading, landed.path, landed.original_name, self.source.format, folder)
                outcome = work.run(opened)
            except UnreadableFileError as error:
                outcome = work.give_up(_Outcome("unreadable", str(error)))
            except RuleError as error:
                outcome = work.refuse(work.row_count, str(error))
            work.commit(outcome, sha256)
        finally:
            work.close()
            reading.close()
            shutil.rmtree(folder, ignore_errors=True)
        self.progress(_describe(self.contract.name, landed, outcome))
        return outcome


class _FileLoad:
    """The load of one file: a transaction that is committed as a whole or not at all."""

    def __init__(self, loader: _TableLoader, landed: LandedFile, folder: Path):
        self.loader = loader
        self.con = loader.con
        self.contract = loader.contract
        self.landed = landed
        self.tally = _Tally()
        self.kept_bad_rows = _BadRows(folder / "bad_rows.arrow")
        self.row_count = 0
        self.is_open = False

    def run(self, opened: OpenedFile) -> _Outcome:
        contract, source = self.contract, self.loader.source
        self.row_count = opened.row_count
        if opened.status == "empty":
            return _Outcome("empty", "the file is empty")
        header = resolve_header(contract, source, [column.name for column in opened.columns])
        if header.problems:
            return self.refuse(opened.row_count, "; ".join(header.problems))
        plan = plan_casts(contract, header, opened.columns, source.format)
        if plan.problems:
            return self.refuse(opened.row_count, "; ".join(plan.problems))
        if opened.status == "header_only":
            return _Outcome("header_only", "the file has a header and no rows")

        for reject in opened.rejects:
            self.tally.bad_rows += 1
            self.tally.add(reject.rule, "", reject.record)
        self.kept_bad_rows.add_rejects(opened)
        outcome = _Outcome("loaded", rows_in=opened.row_count)
        refused = self.refusal(opened.row_count)
        done = len(opened.rejects)
        for part in opened.parts() if not refused else ():
            rows, loaded, bad = self.load_part(part, plan, opened)
            outcome.loaded += loaded
            outcome.already_there += rows - bad - loaded
            self.tally.bad_rows += bad
            done += rows
            refused = self.refusal(opened.row_count)
            if refused:
                break
            if opened.row_count > done:
                name = self.landed.original_name
                self.loader.progress(f"{contract.name}: {name}: {done:,} of {opened.row_count:,} rows")
        if refused:
            return self.refuse(opened.row_count, refused)
        if done != opened.row_count:
            raise UnreadableFileError(f"{done:,} rows were read where {opened.row_count:,} were counted")
        outcome.quarantined = self.tally.bad_rows
        if outcome.quarantined:
            outcome.message = f"{counted(outcome.quarantined, 'row')} quarantined; most: {self.tally.worst()}"
        return outcome

    def refusal(self, row_count: int) -> str | None:
        """Why the file is refused, as soon as its bad rows are too many for any good rest."""
        bad = self.tally.bad_rows
        if bad <= self.loader.source.max_bad_share * row_count:
            return None
        if bad < MIN_BAD_ROWS and not (bad == row_count and row_count > 1):
            return None
        return (
            f"at least {bad:,} of {row_count:,} rows are bad, more than the share of "
            f"{self.loader.source.max_bad_share:g} that sources.yml allows (max_bad_share); "
            f"most: {self.tally.worst()}"
        )

    def load_part(self, part: pa.Table | str, plan: CastPlan, opened: OpenedFile) -> tuple[int, int, int]:
        """Load some rows of the file inside its transaction. Returns (rows, rows loaded, bad rows)."""
        con = self.con
        if isinstance(part, str):
            con.execute(f"create or replace temp view source_rows as {part}")
        else:
            con.register("source_rows", part)
        try:
            try:
                self.cast(plan)
            except duckdb.Error:
                # A full disk, say, is no fault of the file: it is unreadable only where reading it alone fails, too.
                if isinstance(part, str):
                    opened.require_readable(part)
                raise
            # Not before the first part is there: what a transaction has written itself DuckDB reads with one thread, and nearly
            # all files are one part.
            self.begin()
            counted = con.execute("select count(*) from typed").fetchone()
            assert counted is not None
            bad = self.find_bad_rows(plan, opened)
            self.find_new_rows()
            return counted[0], self.insert(plan), bad
        finally:
            # Lets go of an Arrow table.
            con.unregister("source_rows")

    def cast(self, plan: CastPlan) -> None:
        """Make the temporary table `typed`: contract columns, hashes, and `_fails` for a cast that failed."""
        values = ", ".join(f"{cast.value}::{cast.prop.sql_type} as {sql_name(cast.prop.name)}" for cast in plan.casts)
        fails = " or ".join(_fails(cast.given_name, cast.prop.name) for cast in plan.casts if cast.can_fail)
        names = ", ".join(sql_name(prop.name) for prop in self.contract.properties)
        key = ", ".join(sql_name(name) for name in self.contract.key)
        # Names and values with separators that text does not hold; a column that is empty or not in the file
        # is the same.
        fields = ", ".join(
            f"case when c{number} is not null then {sql_text(name)} || chr(30) || c{number} end"
            for number, (name, _) in sorted(enumerate(plan.custom), key=lambda item: item[1][0])
        )
        customs = f"concat_ws(chr(31), {fields})" if fields else "''"
        self.con.execute(
            f"create or replace temp table typed as select _row, {names}, "
            f"(hash({key}) >> 1)::bigint as _key_hash, (hash({names}, {customs}) >> 1)::bigint as _row_hash, "
            f"{fails or 'false'} as _fails "
            f"from (select *, {values} from ({_given_sql(plan)}))"
        )

    def find_bad_rows(self, plan: CastPlan, opened: OpenedFile) -> int:
        """Make the temporary table `bad_rows` (one row per broken rule) and keep it.

        Returns the number of bad rows.
        """
        con = self.con
        con.execute(
            "create or replace temp table bad_rows (row bigint, column_name varchar, rule varchar, value varchar)"
        )
        failed = con.execute("select count(*) from typed where _fails").fetchone()
        if failed and failed[0]:
            for cast in plan.casts:
                if cast.can_fail:
                    con.execute(
                        f"insert into bad_rows select _row, {sql_text(cast.prop.name)}, "
                        f"{sql_text('type ' + cast.prop.sql_type)}, {cast.given_name}::varchar "
                        f"from (select _row, {cast.given_name}, {cast.value}::{cast.prop.sql_type} as value "
                        f"from ({_given_sql(plan)}) "
                        "semi join (select _row from typed where _fails) using (_row)) "
                        f"where {_fails(cast.given_name, 'value')}"
                    )
        self.check_rules()
        counted = con.execute("select count(distinct row) from bad_rows").fetchone()
        assert counted is not None
        if counted[0]:
            for rule, column, value in con.execute("select rule, column_name, value from bad_rows").fetchall():
                self.tally.add(rule, column, value)
            record = ", ".join(
                f"{sql_text(column.name or f'column_{number + 1}')}, s{number}::varchar"
                for number, column in enumerate(opened.columns)
            )
            self.kept_bad_rows.add(
                con.execute(
                    "select bad_rows.*, record from bad_rows join (select _row, "
                    f"json_object({record})::varchar as record from source_rows "
                    "semi join (select row as _row from bad_rows) using (_row)) on _row = row "
                    "order by row, column_name, rule"
                ).to_arrow_table()
            )
        return int(counted[0])

    def check_rules(self) -> None:
        """Add the rows that break a rule of the contract to `bad_rows`.

        A rule is about one row, so each combination of the columns that the rules read is checked once, and never again
        where it has kept the rules of this contract before. A row that surely keeps all rules stands in none (`surely_good`): for
        ordinary rows Great Expectations is not even imported. A value that surely keeps its own column's rules is none (`surely_kept`).
        """
        import numpy as np
        import pyarrow as pa

        con, loader, checker = self.con, self.loader, self.loader.checker
        # Also where every combination is known, or no rule names a column: a rule that cannot be run never lets a row pass.
        checker.require_rules_over_rows()
        if not checker.rules:
            return
        read = {
            name: f"case when typed.{sql_name(name)} is not null then true end"
            if name in checker.presence_columns
            else f"typed.{sql_name(name)}"
            for name in checker.columns
        }
        for name, condition in checker.surely_kept(con, "typed").items():
            read[name] = f"case when {condition} then null else typed.{sql_name(name)} end"
        names = ", ".join(sql_name(name) for name in read)
        values = ", ".join(f"{value} as {sql_name(name)}" for name, value in read.items())
        # Each value as text: a number of 30 digits would be rounded in JSON, and two be taken for one.
        text = ", ".join(f"{sql_text(name)}, {sql_name(name)}::varchar" for name in read)
        good = checker.surely_good(con, "typed")
        con.execute(
            f"create or replace temp table combinations as select distinct {values} from typed where not _fails"
            + (f" and not ({good})" if good else "")
        )
        place = f"source_table = {sql_text(self.contract.name)} and fingerprint = {sql_text(loader.fingerprint)}"
        counted = con.execute(
            f"select (select count(*) from combinations), (select count(*) from load.passed where {place})"
        ).fetchone()
        assert counted is not None
        if not counted[0]:
            return
        is_remembered = counted[0] <= MAX_PASSED and counted[1] <= 10 * MAX_PASSED
        chosen = "from combinations"
        if is_remembered:
            known = f"select combination from load.passed where {place}"
            chosen += f" where json_object({text})::varchar not in ({known})"
        unknown = con.execute(f"select {names} {chosen}").to_arrow_table()
        is_broken = np.zeros(unknown.num_rows, dtype=bool)
        same = " and ".join(f"({value}) is not distinct from broken.{sql_name(name)}" for name, value in read.items())
        for broken in checker.check(unknown):
            is_broken[broken.positions] = True
            found = unknown.take(pa.array(broken.positions))
            shown = pa.array(_shown_values(found, broken.rule.columns), pa.string())
            con.register("broken", found.append_column("_shown", shown))
            con.execute(
                f"insert into bad_rows select _row, {sql_text(', '.join(broken.rule.columns))}, "
                f"{sql_text(broken.rule.text)}, broken._shown from (select * from typed where not _fails) as typed "
                f"join broken on {same} order by _row"
            )
            con.unregister("broken")
        if is_remembered and unknown.num_rows:
            con.register("passed", unknown.filter(pa.array(~is_broken)))
            con.execute(
                f"insert into load.passed select {sql_text(self.contract.name)}, {sql_text(loader.fingerprint)}, "
                f"json_object({text})::varchar from passed"
            )
            con.unregister("passed")

    def find_new_rows(self) -> None:
        """Make the temporary table `new_rows`: good rows that say something that raw does not say yet.

        A row says nothing new when the version of its key that it would follow, in the order that staging
        uses, is identical: then no moment in time sees a difference. So A, B, A loads three versions and A, A
        only one.
        """
        con, loader = self.con, self.loader
        con.execute(
            "create or replace temp table good as select _row, _key_hash, _row_hash, "
            f"{loader.version_at.format(arrived=_timestamp(self.landed.arrived_at))} as version_at "
            "from typed where not _fails and _row not in (select row from bad_rows)"
        )
        # The hash of the key is all that is read of a large table; the rest only of the few rows that match.
        con.execute(
            f"create or replace temp table known_ids as select rowid as id from {loader.raw} "
            "where _key_hash in (select _key_hash from good)"
        )
        known = con.execute("select count(*) from known_ids").fetchone()
        # By a table of the distinct ones, which both cores make; to count them in place is the work of one.
        repeated = con.execute(
            "select (select count(*) from good) - (select count(*) from (select distinct _key_hash from good))"
        ).fetchone()
        assert known is not None
        assert repeated is not None
        if not known[0] and not repeated[0]:
            con.execute("create or replace temp table new_rows as select _row, false as is_repeated from good")
            return
        file = sql_text(self.landed.file)
        con.execute(
            f"create or replace temp table known_keys as select distinct _key_hash from {loader.raw} "
            "where rowid in (select id from known_ids)"
        )
        con.execute(
            f"""
            create or replace temp table new_rows as
            with versions as (
                select _key_hash, _row_hash, {loader.version_at.format(arrived="_arrived_at")} as version_at,
                    _arrived_at, _file, _row, false as is_candidate
                from {loader.raw} where rowid in (select id from known_ids)
                union all
                select _key_hash, _row_hash, version_at, {_timestamp(self.landed.arrived_at)}, {file}, _row,
                true from good
            ),
            ordered as (
                select _row, is_candidate, _row_hash, lag(_row_hash) over (
                    partition by _key_hash order by version_at, _arrived_at, _file, _row
                ) as previous_hash
                from versions
            )
            select good._row, good._key_hash in (select _key_hash from known_keys)
                or count(*) over (partition by good._key_hash) > 1 as is_repeated
            from ordered join good using (_row)
            where ordered.is_candidate and ordered.previous_hash is distinct from ordered._row_hash
            """
        )
        if known[0]:
            con.execute(
                f"update {loader.raw} set _is_repeated = true where not _is_repeated "
                "and rowid in (select id from known_ids) "
                "and _key_hash in (select _key_hash from good join new_rows using (_row))"
            )

    def insert(self, plan: CastPlan) -> int:
        """Insert the new rows and their custom columns. Returns the number of rows."""
        con = self.con
        counted = con.execute("select (select count(*) from new_rows), (select count(*) from typed)").fetchone()
        assert counted is not None
        new_count, typed_count = counted
        # Nearly always all rows are new: then nothing is joined.
        repeated = con.execute("select count(*) from new_rows where is_repeated").fetchone()
        is_plain = new_count == typed_count and repeated is not None and not repeated[0]
        chosen = "" if new_count == typed_count else "semi join new_rows using (_row)"
        names = ", ".join(sql_name(name) for name in self.contract.column_names)
        for prop in self.contract.properties:
            if prop.is_searched:
                column = sql_name(prop.name)
                names += f", case when {column} is not null then {SEARCH_NUMBER.format(column)} end"
        origin = f"{sql_text(self.landed.file)}, _row, {_timestamp(self.landed.arrived_at)}"
        con.execute(
            f"insert into {self.loader.raw} select {names}, _key_hash, _row_hash, {origin}, "
            + ("false from typed" if is_plain else "is_repeated from typed join new_rows using (_row)")
        )
        if plan.custom:
            fields = " union all ".join(
                f"select _row, {sql_text(name)} as field, c{number} as value from fields where c{number} is not null"
                for number, (name, _) in enumerate(plan.custom)
            )
            customs = ", ".join(f"{expression} as c{number}" for number, (_, expression) in enumerate(plan.custom))
            con.execute(
                f"insert into {self.loader.custom} with fields as (select _row, {customs} from source_rows "
                f"{chosen}) select {sql_text(self.landed.file)}, _row, field, value "
                f"from ({fields})"
            )
        return int(new_count)

    def refuse(self, row_count: int, message: str) -> _Outcome:
        """Nothing of the file is loaded; what is known of its bad rows is kept, with one line for the whole
        file.
        """
        self.kept_bad_rows.add_file(message)
        return self.give_up(_Outcome("refused", message, rows_in=row_count, quarantined=row_count))

    def give_up(self, outcome: _Outcome) -> _Outcome:
        if self.is_open:
            self.con.execute("rollback")
            self.is_open = False
        if outcome.status == "unreadable":
            self.kept_bad_rows.forget()
            self.kept_bad_rows.add_file(f"unreadable: {outcome.message}")
        return outcome

    def begin(self) -> None:
        if not self.is_open:
            self.con.execute("begin")
            self.is_open = True

    def commit(self, outcome: _Outcome, sha256: str) -> None:
        """Write the quarantine and the ledger, check the balance and commit."""
        self.begin()
        landed, now = self.landed, datetime.now(UTC).replace(tzinfo=None)
        self.check_balance(outcome)
        reader = self.kept_bad_rows.reader()
        if reader is not None:
            self.con.register("kept_bad_rows", reader)
            self.con.execute(
                f"insert into {self.loader.quarantine} "
                f"select {sql_text(landed.file)}, row, column_name, rule, value, record, {_timestamp(now)} "
                "from kept_bad_rows"
            )
            self.con.unregister("kept_bad_rows")
        values = [
            landed.file,
            self.contract.name,
            landed.original_name,
            sha256,
            landed.size_bytes,
            landed.arrived_at,
            now,
            outcome.status,
            outcome.rows_in,
            outcome.loaded,
            outcome.already_there,
            outcome.quarantined,
            outcome.message or None,
            self.loader.fingerprint,
        ]
        self.con.execute(f"insert into load.files values ({', '.join('?' * len(values))})", values)
        self.con.execute("commit")
        self.is_open = False

    def check_balance(self, outcome: _Outcome) -> None:
        if outcome.rows_in != outcome.loaded + outcome.already_there + outcome.quarantined:
            raise BalanceError(f"{self.contract.name}: {self.landed.file}: {outcome}")

    def close(self) -> None:
        """Leave no transaction and no temporary table behind, also after an error."""
        self.kept_bad_rows.close()
        if self.is_open:
            with suppress(duckdb.Error):
                self.con.execute("rollback")
            self.is_open = False
        # A view of our own, or one that came back with the transaction.
        with suppress(duckdb.Error):
            self.con.execute("drop view if exists temp.source_rows")
        for table in ("typed", "bad_rows", "combinations", "good", "known_ids", "known_keys", "new_rows"):
            with suppress(duckdb.Error):
                self.con.execute(f"drop table if exists temp.{table}")


class _BadRows:
    """Quarantine rows of one file, kept outside of the transaction: a refused file's rows outlive its
    rollback.
    """

    def __init__(self, path: Path):
        self.path = path
        self._writer: Any = None
        self._sink: Any = None

    def add(self, rows: pa.Table) -> None:
        import pyarrow as pa

        if self._writer is None:
            self._sink = pa.OSFile(str(self.path), "wb")
            self._writer = pa.ipc.new_stream(self._sink, self._schema())
        self._writer.write_table(rows.cast(self._schema()))

    def _schema(self) -> pa.Schema:
        import pyarrow as pa

        return pa.schema(
            [("row", pa.int64())] + [(name, pa.string()) for name in ("column_name", "rule", "value", "record")]
        )

    def _add_lists(self, rows: list[tuple[int | None, str, str, str | None, str | None]]) -> None:
        import pyarrow as pa

        if rows:
            schema = self._schema()
            dicts = [dict(zip(schema.names, row, strict=True)) for row in rows]
            self.add(pa.Table.from_pylist(dicts, schema=schema))

    def add_rejects(self, opened: OpenedFile) -> None:
        """Lines that are no rows: the record is the line as it stands in the file."""
        self._add_lists([(reject.row, "", reject.rule, None, reject.record) for reject in opened.rejects])

    def add_file(self, message: str) -> None:
        """One row without a number, for the file as a whole."""
        self._add_lists([(None, "", f"file: {message}", None, None)])

    def forget(self) -> None:
        self.close()
        self.path.unlink(missing_ok=True)

    def reader(self) -> Any:
        """The kept rows as an Arrow reader, or None where there are none."""
        import pyarrow as pa

        self.close()
        return pa.ipc.open_stream(pa.memory_map(str(self.path))) if self.path.exists() else None

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._sink.close()
            self._writer = None


def _given_sql(plan: CastPlan) -> str:
    """The source rows with each column before its cast."""
    given = [f"{cast.given} as {cast.given_name}" for cast in plan.casts]
    custom = [f"{expression} as c{number}" for number, (_, expression) in enumerate(plan.custom)]
    return f"select _row, {', '.join(given + custom)} from source_rows"


def _fails(given: str, value: str) -> str:
    return f"({given} is not null and {sql_name(value)} is null)"


def _shown_values(rows: pa.Table, columns: tuple[str, ...]) -> list[str | None]:
    def show(value: Any) -> str | None:
        return None if value is None else str(value).lower() if isinstance(value, bool) else str(value)

    if len(columns) == 1:
        return [show(value) for value in rows[columns[0]].to_pylist()]
    return [
        ", ".join(f"{column}={'' if row[column] is None else show(row[column])}" for column in columns)
        for row in rows.to_pylist()
    ]


def _timestamp(moment: datetime) -> str:
    return f"timestamp '{moment.isoformat(sep=' ', timespec='microseconds')}'"


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _remove_leftovers(workspace: Workspace) -> None:
    """Temporary folders of a load that was killed; there is one writer, so nobody else's are met."""
    for entry in os.scandir(workspace.home):
        if entry.name.startswith(TEMPORARY_PREFIX) and entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)


def _describe(table: str, landed: LandedFile, outcome: _Outcome) -> str:
    if outcome.status == "loaded":
        parts = [f"{counted(outcome.loaded, 'row')} loaded"]
        if outcome.already_there:
            parts.append(f"{outcome.already_there:,} already there")
        if outcome.quarantined:
            parts.append(f"{outcome.quarantined:,} quarantined")
        return f"{table}: {landed.original_name}: {', '.join(parts)}"
    return f"{table}: {landed.original_name}: {outcome.status.replace('_', ' ')}: {outcome.message}"
