"""Writes a text file with one kind of line end where it has several: what DuckDB's reader refuses as a whole.

It happens to files that were put together from two systems, and to values with a carriage return that nobody quoted. No
value is changed: line ends become line feeds, and a value with a carriage return is quoted.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# DuckDB reads no longer row.
MOST_BYTES = 2_000_000


def lines_with_equal_ends(path: Path, target: Path) -> None:
    """Copy a file without quotes, such as JSON Lines, where a carriage return can only end a line."""
    # Python ends a line at each of \n, \r and \r\n. What is not UTF-8 stays as it is, for the reader to name.
    with (
        path.open("r", encoding="utf-8", errors="surrogateescape", newline=None) as source,
        target.open("w", encoding="utf-8", errors="surrogateescape", newline="\n") as copy,
    ):
        shutil.copyfileobj(source, copy)


def csv_with_equal_line_ends(path: Path, target: Path, delimiter: str, quote: str, escape: str) -> None:
    """Copy a CSV file; what stands in quotes stays as it is.

    A carriage return before the end of a line belongs to the end. One amid a value that is not quoted belongs to the value,
    and no row ends there: a row cut in two would be two rows with false values. Without a quote character it cannot be kept
    apart, and ends the line.

    Parameters
    ----------
    path, target : Path
    delimiter : str
    quote : str
        "" where the file has no quotes.
    escape : str
        What makes a quote within quotes a character; the quote itself where it is doubled.
    """
    if not quote:
        lines_with_equal_ends(path, target)
        return
    mark, between = quote.encode(), delimiter.encode()
    is_doubled = not escape or escape == quote
    other = b"[^%b]" % re.escape(mark) if is_doubled else b"[^%b]" % re.escape(mark + escape.encode())
    escaped = re.escape(mark + mark if is_doubled else escape.encode()) + (b"" if is_doubled else b".")
    quoted = b"%b(?:%b|%b)*%b" % (re.escape(mark), other, escaped, re.escape(mark))
    plain = b"[^%b]*" % re.escape(mark + between)
    # What stands in quotes, to be passed over; or a whole value without quotes that has a carriage return.
    value = re.compile(
        b"%b|(?<![^%b])(%b\r%b)(?![^%b])" % (quoted, re.escape(between), plain, plain, re.escape(between)), re.DOTALL
    )
    with path.open("rb") as source, target.open("wb") as copy:
        for record in _records(source, mark, None if is_doubled else escaped):
            body, end = (record.rstrip(b"\r\n"), b"\n") if record.endswith(b"\n") else (record, b"")
            if b"\r" in body:
                body = value.sub(lambda found: mark + found[1] + mark if found[1] else found[0], body)
            copy.write(body + end)


def _records(source: BinaryIO, mark: bytes, escaped: bytes | None) -> Iterator[bytes]:
    """Lines, those together that a quoted line end divides; of a quote that is never closed, what a row can hold."""
    record, is_open = b"", False
    for line in source:
        is_open ^= bool((re.sub(escaped, b"", line, flags=re.DOTALL) if escaped else line).count(mark) % 2)
        record += line
        if not is_open or len(record) > MOST_BYTES:
            yield record
            record, is_open = b"", False
    if record:
        yield record
