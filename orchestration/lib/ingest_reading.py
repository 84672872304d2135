"""Reads one landed file, CSV, JSON Lines or Parquet, in parts: source columns with row numbers, as Arrow tables or as queries.

Only the reading: nothing is mapped, cast or judged here (that is `ingest_casting` and `validation`), except
what cannot be read at all: a broken line becomes a `Reject`, a broken file an `UnreadableFileError`.
"""

from __future__ import annotations

import csv
import itertools
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import duckdb

from orchestration.lib.ingest_line_ends import csv_with_equal_line_ends, lines_with_equal_ends
from orchestration.lib.sources import Format

if TYPE_CHECKING:
    import pyarrow as pa

COMPRESSIONS = (".gz", ".zst", ".bz2", ".xz", ".zip")
TYPES_BY_SUFFIX = {
    ".csv": "csv",
    ".tsv": "csv",
    ".txt": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".parquet": "parquet",
    ".pq": "parquet",
}
DELIMITERS = ",;\t|"
BYTE_ORDER_MARKS = ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16"))
COPY_BLOCK = 1 << 20
# Rows per part given out: 500,000 of a usual width take 100-300 MB with everything that is made of them.
CHUNK_CELLS = 10_000_000
CHUNK_ROWS = 500_000
# A part that DuckDB reads itself exists once and not also as an Arrow table, and the file's row groups are read two at a time.
QUERIED_CHUNKS = 2
# A control character never stands raw in JSON, so the CSV reader gives whole lines back.
LINE_OPTIONS = (
    "columns={'line': 'VARCHAR'}, auto_detect=false, header=false, delim='\x01', quote='', escape='', "
    "max_line_size=16000000"
)


# These say that a statement of ours is wrong, so they are not the file's fault.
OUR_FAULTS = (
    duckdb.ParserException,
    duckdb.BinderException,
    duckdb.CatalogException,
    duckdb.InternalException,
    # Nor is a machine that has no more memory, or a person who stops us.
    duckdb.OutOfMemoryException,
    duckdb.InterruptException,
)


class UnreadableFileError(Exception):
    """The file as a whole cannot be read: cut off, in another encoding, not what its name says."""


@dataclass(frozen=True)
class SourceColumn:
    """One column as the file has it. `type` is DuckDB's name, VARCHAR for all of CSV and JSON Lines."""

    name: str
    type: str


@dataclass(frozen=True)
class Reject:
    """A line that is not a row. `row` counts as `_row` does, 1 for the first data row."""

    row: int
    rule: str
    record: str


@dataclass
class OpenedFile:
    """A file that is ready to be read.

    Parameters
    ----------
    columns : list of SourceColumn
    row_count : int
        Data rows, the rejected ones included.
    rejects : list of Reject
    query : str
        Selects the source columns as s0, s1, ... in the order of the file; see `parts`.
    number : str
        SQL of the row's number, from 0, among the columns that `query` reads; "" where the file has none and rows are counted.
    """

    connection: duckdb.DuckDBPyConnection
    columns: list[SourceColumn]
    row_count: int
    rejects: list[Reject]
    query: str
    number: str = ""
    header_rows: int = 0
    skipped_rows: frozenset[int] = field(default_factory=frozenset)

    @property
    def status(self) -> str:
        """`empty` (no columns either), `header_only` or `rows`."""
        if self.row_count:
            return "rows"
        return "header_only" if self.columns else "empty"

    def parts(self) -> Iterator[pa.Table | str]:
        """Parts of the file with `_row` (int64, from 1) and the source columns s0, s1, ...; rejected rows are not among them.

        A part is an Arrow table, or a query where DuckDB reads the file without us: a numbered row is found again. Such a query
        raises `duckdb.Error` when it is run and the file is broken there, see `require_readable`; that its rows are as many as
        `row_count` says is for the caller to check.

        Raises
        ------
        UnreadableFileError
            Also in the middle of a file; what was given out before must then be forgotten.
        """
        if self.row_count == len(self.rejects):
            return
        limit = max(20_000, min(CHUNK_ROWS, CHUNK_CELLS // max(1, len(self.columns))))
        if not self.number:
            yield from self._counted_parts(limit)
            return
        limit *= QUERIED_CHUNKS
        for begin in range(0, self.row_count, limit):
            yield f"{self.query} where {self.number} >= {begin} and {self.number} < {begin + limit}"

    def require_readable(self, part: str) -> None:
        """Read a part that is a query, and do nothing else.

        Raises
        ------
        UnreadableFileError
        """
        counted = ", ".join(f"count(s{number})" for number in range(len(self.columns)))
        try:
            self.connection.execute(f"select {counted} from ({part})").fetchall()
        except duckdb.Error as error:
            raise _reading_error(error) from error

    def _counted_parts(self, limit: int) -> Iterator[pa.Table]:
        import numpy as np
        import pyarrow as pa

        # The k-th good row (from 1) has as its number k plus the rejected rows before it.
        gaps = np.array(sorted(self.skipped_rows), dtype=np.int64)
        gaps = gaps - np.arange(len(gaps))
        header_rows, good = self.header_rows, 0
        try:
            reader = self.connection.execute(self.query).to_arrow_reader(limit)
            for batch in reader:
                table = pa.Table.from_batches([batch])
                if header_rows:
                    dropped = min(header_rows, table.num_rows)
                    header_rows -= dropped
                    if not header_rows:
                        self._check_header(table.slice(dropped - 1, 1))
                    table = table.slice(dropped)
                if not table.num_rows:
                    continue
                position = np.arange(good + 1, good + table.num_rows + 1, dtype=np.int64)
                number = position + np.searchsorted(gaps, position, side="right")
                good += table.num_rows
                yield table.add_column(0, "_row", pa.array(number))
        except duckdb.Error as error:
            raise _reading_error(error) from error
        if good != self.row_count - len(self.rejects):
            raise UnreadableFileError(f"{good} rows were read where {self.row_count - len(self.rejects)} were counted")

    def _check_header(self, table: pa.Table) -> None:
        # Two readers look at a CSV header (Python's for the names, DuckDB's for the rows); should they ever
        # disagree where it ends, a data row would be taken for it.
        found = [
            str(table.column(number)[0].as_py() or "").strip().lstrip("\ufeff") for number in range(len(self.columns))
        ]
        if found != [column.name.strip() for column in self.columns]:
            raise UnreadableFileError(f"the header cannot be told from the rows: {found}")


def open_file(connection: duckdb.DuckDBPyConnection, path: Path, name: str, fmt: Format, folder: Path) -> OpenedFile:
    """Open a landed file.

    Parameters
    ----------
    connection : duckdb.DuckDBPyConnection
        Used for reading only, and until the last chunk for nothing else.
    path : Path
    name : str
        The original name; its end tells the format and the compression.
    fmt : Format
    folder : Path
        An empty folder for temporary files.

    Raises
    ------
    UnreadableFileError
    """
    if path.stat().st_size == 0:
        return OpenedFile(connection, [], 0, [], "")
    try:
        plain = _decompressed(path, name, folder)
        kind = fmt.type or _kind(plain, name)
        if kind == "parquet":
            return _open_parquet(connection, plain)
        plain = _as_utf8(plain, fmt.encoding, folder)
        if _is_blank(plain):
            return OpenedFile(connection, [], 0, [], "")
        return _open_text(connection, plain, name, kind, fmt, folder / "line_ends")
    except duckdb.Error as error:
        raise _reading_error(error) from error
    except OSError as error:
        raise UnreadableFileError(str(error)) from error


def _reading_error(error: duckdb.Error) -> Exception:
    """What an error of DuckDB means that came while a file was read: the file's fault, or the error itself where it is ours."""
    if isinstance(error, OUR_FAULTS):
        return error
    lines = [line for line in str(error).splitlines() if line.strip()]
    return UnreadableFileError(lines[0] if lines else type(error).__name__)


def _suffixes(name: str) -> tuple[str, str]:
    """(type suffix, compression suffix) of a name in lower case, each possibly empty."""
    path = Path(name.lower())
    compression = path.suffix if path.suffix in COMPRESSIONS else ""
    return (Path(path.stem).suffix if compression else path.suffix), compression


def _kind(path: Path, name: str) -> str:
    with path.open("rb") as file:
        start = file.read(4)
    if start == b"PAR1":
        return "parquet"
    suffix, _ = _suffixes(name)
    if start == b"PK\x03\x04" or suffix in (".xlsx", ".xls", ".ods"):
        raise UnreadableFileError("a workbook is not read; export the sheet as CSV")
    return TYPES_BY_SUFFIX.get(suffix, "csv")


def _decompressed(path: Path, name: str, folder: Path) -> Path:
    """The path of the plain content.

    Read in Python: DuckDB takes a gzip file that is cut off for a whole one.
    """
    _, compression = _suffixes(name)
    if not compression:
        return path
    plain = folder / "plain"
    try:
        with plain.open("wb") as target:
            if compression == ".zip":
                _unzip(path, target)
            else:
                with _decompressor(path, compression) as source:
                    shutil.copyfileobj(source, target, COPY_BLOCK)
    except UnreadableFileError:
        raise
    except Exception as error:  # each codec has errors of its own
        raise UnreadableFileError(f"the {compression[1:]} compression is damaged or cut off: {error}") from error
    return plain


def _decompressor(path: Path, compression: str) -> BinaryIO:
    if compression == ".gz":
        import gzip

        return gzip.open(path, "rb")  # type: ignore[return-value]
    if compression == ".bz2":
        import bz2

        return bz2.open(path, "rb")  # type: ignore[return-value]
    if compression == ".xz":
        import lzma

        return lzma.open(path, "rb")  # type: ignore[return-value]
    import pyarrow as pa

    return pa.input_stream(str(path), compression="zstd")


def _unzip(path: Path, target: BinaryIO) -> None:
    import zipfile

    with zipfile.ZipFile(path) as archive:
        members = [
            member
            for member in archive.infolist()
            if not member.is_dir() and not member.filename.startswith("__MACOSX/")
        ]
        if len(members) != 1:
            names = ", ".join(member.filename for member in members[:5]) or "none"
            raise UnreadableFileError(f"a zip file must hold exactly one file; it holds {len(members)}: {names}")
        with archive.open(members[0]) as source:
            shutil.copyfileobj(source, target, COPY_BLOCK)


def _as_utf8(path: Path, encoding: str, folder: Path) -> Path:
    """The path of the same text in UTF-8; without a copy where it is UTF-8 already."""
    with path.open("rb") as file:
        start = file.read(4)
    marked = next((name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), None)
    encoding = marked or encoding
    if encoding in ("utf-8", "ascii", "utf-8-sig"):
        return path
    text = folder / "utf8"
    try:
        with (
            path.open("r", encoding=encoding, newline="") as source,
            text.open("w", encoding="utf-8", newline="") as target,
        ):
            shutil.copyfileobj(source, target, COPY_BLOCK)
    except UnicodeError as error:
        raise UnreadableFileError(f"the text is not {encoding} ({error}); say its encoding in sources.yml") from error
    return text


def _has_carriage_return(path: Path) -> bool:
    with path.open("rb") as file:
        return any(b"\r" in block for block in iter(lambda: file.read(COPY_BLOCK), b""))


def _is_blank(path: Path) -> bool:
    with path.open("rb") as file:
        for block in iter(lambda: file.read(COPY_BLOCK), b""):
            if block.removeprefix(b"\xef\xbb\xbf").strip():
                return False
    return True


def _quoted(text: str) -> str:
    """A SQL string."""
    return "'" + text.replace("'", "''") + "'"


def _file_pattern(path: Path) -> str:
    """A path as DuckDB's readers want it, where *, ? and [ would be wildcards."""
    return _quoted(re.sub(r"([*?\[])", r"[\1]", str(path)))


def _open_text(
    connection: duckdb.DuckDBPyConnection, path: Path, name: str, kind: str, fmt: Format, copy: Path
) -> OpenedFile:
    """A CSV or JSON Lines file; through a copy where its line ends differ, which DuckDB takes for errors."""
    delimiter = fmt.delimiter or ("\t" if _suffixes(name)[0] == ".tsv" else _delimiter(path, fmt.quote))
    escape = fmt.quote if fmt.escape is None else fmt.escape

    def opened(path: Path) -> OpenedFile:
        return _open_jsonl(connection, path) if kind == "jsonl" else _open_csv(connection, path, delimiter, escape, fmt)

    try:
        found = opened(path)
        if not found.rejects or not _has_carriage_return(path):
            return found
    except duckdb.InvalidInputException:
        if not _has_carriage_return(path):
            raise
    if kind == "jsonl":
        lines_with_equal_ends(path, copy)
    else:
        csv_with_equal_line_ends(path, copy, delimiter, fmt.quote, escape)
    return opened(copy)


def _open_csv(
    connection: duckdb.DuckDBPyConnection, path: Path, delimiter: str, escape: str, fmt: Format
) -> OpenedFile:
    blank, header = _header(path, delimiter, fmt)
    names = [f"s{number}" for number in range(len(header))]
    columns = "{" + ", ".join(f"'{name}': 'VARCHAR'" for name in names) + "}"
    # Columns are given by position under names of our own: the header is matched in `sources.resolve_header`,
    # because DuckDB's `columns` would rename the file's columns by position without a word.
    reader = (
        f"read_csv({_file_pattern(path)}, columns={columns}, auto_detect=false, header=false, "
        f"delim={_quoted(delimiter)}, quote={_quoted(fmt.quote)}, escape={_quoted(escape)}, "
        "store_rejects=true, rejects_table='csv_rejects', rejects_scan='csv_scans', rejects_limit=0)"
    )
    for table in ("csv_rejects", "csv_scans"):
        connection.execute(f"drop table if exists {table}")
    # Every column is counted so that every column is read: text that is not UTF-8 shows only then.
    counted = ", ".join(f"count({name})" for name in names)
    # Broken lines are written down when the result has been read to its end, so fetchone() would lose them.
    (counts,) = connection.execute(f"select count(*), {counted} from {reader}").fetchall()
    # With one column an empty line is a row with an empty cell; with more it is no row.
    header_rows = 1 + (blank if len(header) == 1 else 0)
    rejects = _csv_rejects(connection, path, header_rows if len(header) == 1 else blank + 1)
    for table in ("csv_rejects", "csv_scans"):
        connection.execute(f"drop table if exists {table}")
    return OpenedFile(
        connection,
        [SourceColumn(name, "VARCHAR") for name in header],
        counts[0] - header_rows + len(rejects),
        rejects,
        f"select {', '.join(names)} from {reader}",
        header_rows=header_rows,
        skipped_rows=frozenset(reject.row for reject in rejects),
    )


def _csv_rejects(connection: duckdb.DuckDBPyConnection, path: Path, header_line: int) -> list[Reject]:
    found = connection.execute(
        "select line, line_byte_position, min(error_type::varchar), min(error_message), min(csv_line) "
        "from csv_rejects group by line, line_byte_position order by line, line_byte_position"
    ).fetchall()
    if not found:
        return []
    if found[0][0] <= header_line:
        raise UnreadableFileError(f"the header cannot be read: {found[0][3]}")
    blank_lines = _blank_lines(path, found[-1][1])
    rejects, before, row = [], 0, 0
    for line, position, error_type, message, record in found:
        while before < len(blank_lines) and blank_lines[before] < position:
            before += 1
        # Two broken rows can never have the same number, whatever the blank lines between them.
        row = max(row + 1, line - header_line - max(0, before - (header_line - 1)))
        reason = _CSV_REASONS.get(error_type, message.splitlines()[0] if message else error_type)
        counts = re.search(r"Expected Number of Columns: (\d+) Found: (\d+)", message or "")
        if counts:
            # The parser stops counting at the first column that is one too many.
            reason = f"{'more' if int(counts[2]) > int(counts[1]) else 'fewer'} columns than the header's {counts[1]}"
        rejects.append(Reject(row, f"csv: {reason}", (record or "").strip("\r\n")))
    return rejects


_CSV_REASONS = {
    "UNQUOTED VALUE": "a quote is not closed, or text follows it",
    "LINE SIZE OVER MAXIMUM": "the line is longer than 2 MB",
    "INVALID ENCODING": "the text is not UTF-8; say the encoding in sources.yml",
}


def _blank_lines(path: Path, end: int) -> list[int]:
    """Positions in bytes of the blank lines before `end`."""
    found, position = [], 0
    with path.open("rb") as file:
        for line in file:
            if position > end:
                break
            if not line.strip(b"\r\n"):
                found.append(position)
            position += len(line)
    return found


def _delimiter(path: Path, quote: str) -> str:
    """The usual delimiter that stands most often in the header, outside of quotes."""
    with path.open("r", encoding="utf-8", errors="replace", newline="") as file:
        header = next((line for line in file if line.strip("\r\n\ufeff ")), "")
    if quote:
        header = re.sub(f"{re.escape(quote)}[^{re.escape(quote)}]*{re.escape(quote)}", "", header)
    return max(DELIMITERS, key=header.count)


def _header(path: Path, delimiter: str, fmt: Format) -> tuple[int, list[str]]:
    """(number of blank lines before the header, names in the header)."""
    try:
        # What is not UTF-8 below the header is the business of the row that it stands in.
        with path.open("r", encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(
                file,
                delimiter=delimiter,
                quotechar=fmt.quote or None,
                quoting=csv.QUOTE_MINIMAL if fmt.quote else csv.QUOTE_NONE,
                escapechar=fmt.escape if fmt.escape and fmt.escape != fmt.quote else None,
            )
            for blank in itertools.count():
                names = next(reader)
                if names:
                    "".join(names).encode("utf-8")  # raises where a byte could not be decoded
                    return blank, names
    except StopIteration:
        return 0, []
    except UnicodeEncodeError:
        raise UnreadableFileError("the header is not UTF-8; say its encoding in sources.yml") from None
    except csv.Error as error:
        raise UnreadableFileError(f"the header cannot be read: {error}") from error
    raise AssertionError("unreachable")


def _open_jsonl(connection: duckdb.DuckDBPyConnection, path: Path) -> OpenedFile:
    reader = f"read_csv({_file_pattern(path)}, {LINE_OPTIONS})"
    with path.open("r", encoding="utf-8-sig", errors="replace") as file:
        start = next((line.lstrip() for line in file if line.strip()), "")
    if start.startswith("["):
        raise UnreadableFileError("the file is one JSON array; JSON Lines has one object per line")
    is_object = "(case when json_valid(line) then json_type(line) = 'OBJECT' else false end)"
    is_blank = "coalesce(trim(line, ' \t\r\ufeff') = '', true)"
    numbered = f"select row_number() over () as n, ltrim(line, '\ufeff') as line from {reader}"
    bad = connection.execute(
        f"select n, case when {is_blank} then null else line end from ({numbered}) where not {is_object} order by n"
    ).fetchall()
    total = connection.execute(f"select count(*) from {reader}").fetchone()
    assert total is not None
    rejects = [Reject(n, "json: not an object on one line", line) for n, line in bad if line is not None]
    if rejects and len(rejects) == total[0] - sum(line is None for _, line in bad):
        raise UnreadableFileError("no line is a JSON object; JSON Lines has one object per line")
    # A map is asked for the keys only; in CASE, because a filter may be run after the keys were taken.
    keys = [
        key
        for (key,) in connection.execute(
            f"select distinct unnest(case when {is_object} then json_keys(line) end) as k "
            f"from (select ltrim(line, '\ufeff') as line from {reader}) order by k"
        ).fetchall()
    ]
    pointers = ", ".join(_quoted("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys)
    selected = ", ".join(f"v[{number + 1}] as s{number}" for number in range(len(keys)))
    values = f"case when {is_object} then json_extract_string(line, [{pointers}]) end" if keys else "null"
    query = (
        f"select {selected or 'null as s0'} from (select {is_object} as good, {values} as v "
        f"from (select ltrim(line, '\ufeff') as line from {reader})) where good"
    )
    return OpenedFile(
        connection,
        [SourceColumn(key, "VARCHAR") for key in keys],
        total[0] - sum(line is None for _, line in bad),
        rejects,
        query,
        skipped_rows=frozenset(n for n, _ in bad),
    )


def _open_parquet(connection: duckdb.DuckDBPyConnection, path: Path) -> OpenedFile:
    reader = f"read_parquet({_file_pattern(path)}, binary_as_string=true, file_row_number=true)"
    described = connection.execute(f"describe select * exclude (file_row_number) from {reader}").fetchall()
    rows = connection.execute(
        f"select sum(num_rows)::bigint from parquet_file_metadata({_file_pattern(path)})"
    ).fetchone()
    assert rows is not None
    selected = ", ".join(
        '"' + name.replace('"', '""') + f'" as s{number}' for number, (name, *_) in enumerate(described)
    )
    return OpenedFile(
        connection,
        [SourceColumn(name, str(type_name)) for name, type_name, *_ in described],
        int(rows[0] or 0),
        [],
        f"select file_row_number + 1 as _row, {selected} from {reader}",
        number="file_row_number",
    )
