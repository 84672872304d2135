"""Landing files as Parquet: schemas from the data contracts, columns from numpy arrays, files that grow
block by block.

Nothing here knows what the demo company does; only how its columns become files. The shape of a table is
read from its contract, so that a contract's change reaches the generator without a second definition.
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path
from types import TracebackType

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from numpy.typing import NDArray

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import SOURCE_CONTRACTS

OpenFile = Callable[[str, str], AbstractContextManager[Path]]
"""``open_file(table_name, file_name)`` gives a path to write to; leaving the context lands the file."""

ROW_GROUP_ROWS = 500_000

# libyaml's loader, where PyYAML was built with it, reads the 15 contracts in 40 ms instead of half a second.
_YAML_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

_ARROW_TYPES = {
    "varchar": pa.string(),
    "bigint": pa.int64(),
    "boolean": pa.bool_(),
    "date": pa.date32(),
    "timestamp": pa.timestamp("us"),
    "double": pa.float64(),
}


@cache
def contract_schema(table: str) -> pa.Schema:
    """The columns of a landed table with Arrow types, in the order of its contract.

    Raises
    ------
    UserError
        There is no such contract, or a physical type has no Parquet form here.
    """
    path = SOURCE_CONTRACTS / f"{table}.odcs.yaml"
    if not path.is_file():
        raise UserError(f"{path}: the data contract of table {table} is missing")
    properties = yaml.load(path.read_text(encoding="utf-8"), Loader=_YAML_LOADER)["schema"][0]["properties"]
    fields = []
    for column in properties:
        kind = str(column["physicalType"])
        decimal = re.fullmatch(r"decimal\((\d+), ?(\d+)\)", kind)
        if decimal:
            arrow = pa.decimal128(int(decimal[1]), int(decimal[2]))
        elif kind in _ARROW_TYPES:
            arrow = _ARROW_TYPES[kind]
        else:
            raise UserError(f"{path}: column {column['name']}: physicalType {kind} is not known to the generator")
        fields.append(pa.field(column["name"], arrow))
    return pa.schema(fields)


def directory_target(directory: Path) -> OpenFile:
    """A target that writes ``<directory>/<source>/<table>/<file>``; a file appears whole or not at all."""

    @contextmanager
    def open_file(table: str, file_name: str) -> Iterator[Path]:
        source, _, name = table.partition("__")
        final = directory / source / name / file_name
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(f".{file_name}.partial")
        try:
            yield temporary
            temporary.replace(final)
        finally:
            temporary.unlink(missing_ok=True)

    return open_file


# --- columns
# -------------------------------------------------------------------------------------------------------

Mask = NDArray[np.bool_]


def texts(words: Sequence[str] | pa.Array, codes: NDArray, absent: Mask | None = None) -> pa.DictionaryArray:
    """Words by code, shape (n,); written as plain text, but each word is stored once per row group."""
    dictionary = words if isinstance(words, pa.Array) else pa.array(words, pa.string())
    return pa.DictionaryArray.from_arrays(pa.array(codes.astype(np.int32), mask=absent), dictionary)


def numbered(prefix: str, numbers: NDArray[np.int64], width: int, absent: Mask | None = None) -> pa.Array:
    """Keys such as ``w-000000000042``, shape (n,); written four digits at a time because 100 million are
    needed.

    Raises
    ------
    ValueError
        `width` is no multiple of four, or a number needs more digits than that, which would make keys
        collide.
    """
    count = len(numbers)
    if width % 4:
        raise ValueError(f"key {prefix}: the width must be a multiple of 4 (value: {width})")
    if count and int(numbers.max()) >= 10**width:
        raise ValueError(f"key {prefix}: number {int(numbers.max())} has more than {width} digits")
    places = [f"digits_{place}" for place in range(width // 4)]
    keys = np.empty(count, dtype=[("prefix", f"S{len(prefix)}"), *((place, "<u4") for place in places)])
    keys["prefix"] = prefix.encode()
    four_digits = _four_digits()
    rest = numbers
    for place in reversed(places):
        rest, digits = np.divmod(rest, 10_000)
        keys[place] = four_digits[digits]
    offsets = np.arange(count + 1, dtype=np.int32) * keys.itemsize
    validity = None if absent is None else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    return pa.Array.from_buffers(
        pa.string(), count, [validity, pa.py_buffer(offsets), pa.py_buffer(keys.view(np.uint8))]
    )


@cache
def _four_digits() -> NDArray[np.uint32]:
    """The text of 0000 to 9999, four bytes in one word each."""
    return np.frombuffer("".join(f"{i:04d}" for i in range(10_000)).encode(), dtype="<u4")


def moments(seconds: NDArray[np.int64], absent: Mask | None = None, micros: int = 0) -> pa.Array:
    """UTC timestamps without zone from seconds since 1970 plus a constant part of a second."""
    return pa.array(seconds * 1_000_000 + micros, mask=absent).view(pa.timestamp("us"))


def dates(days: NDArray[np.int64], absent: Mask | None = None) -> pa.Array:
    """Dates from days since 1970."""
    return pa.array(days.astype(np.int32), mask=absent).view(pa.date32())


def decimals(scaled: NDArray[np.int64], precision: int, scale: int, absent: Mask | None = None) -> pa.Array:
    """Exact decimals from integers in units of ``10^-scale``."""
    words = np.stack([scaled, scaled >> 63], axis=1)  # little-endian 128 bits: low word, sign
    validity = None if absent is None else pa.py_buffer(np.packbits(~absent, bitorder="little"))
    return pa.Array.from_buffers(
        pa.decimal128(precision, scale), len(scaled), [validity, pa.py_buffer(words.tobytes())]
    )


def money(whole_units: NDArray[np.int64], absent: Mask | None = None) -> pa.Array:
    """Amounts as decimal(18,2) from whole currency units."""
    return decimals(whole_units * 100, 18, 2, absent)


# --- files
# ---------------------------------------------------------------------------------------------------------


class LandingFiles:
    """Parquet files in the making: the first rows open a file, leaving the context lands all in that order.

    Encoding and compressing take as long as drawing the rows, so one thread of its own does them; what is
    given to it is written in the order given, and at most `PENDING_BATCHES` wait, which bounds the memory.

    Attributes
    ----------
    row_counts : dict
        Rows per table, over all its files.
    file_counts : dict
        Files per table.
    """

    PENDING_BATCHES = 4

    def __init__(self, open_file: OpenFile):
        self._open_file = open_file
        self._open: dict[tuple[str, str], tuple[AbstractContextManager[Path], pq.ParquetWriter]] = {}
        self._thread = ThreadPoolExecutor(max_workers=1)
        self._pending: deque[Future[None]] = deque()
        self._has_failed = False
        self.row_counts: dict[str, int] = {}
        self.file_counts: dict[str, int] = {}

    def __enter__(self) -> LandingFiles:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            try:
                for name in list(self._open):
                    self.finish(*name)
                self._wait(0)
            except BaseException as failure:
                self._abandon(failure)
                raise
            self._thread.shutdown()
        else:
            self._abandon(error)

    def append(
        self,
        table: str,
        file_name: str,
        columns: Mapping[str, pa.Array | NDArray],
        custom: Mapping[str, pa.Array | NDArray] | None = None,
    ) -> None:
        """Add rows to a file.

        Parameters
        ----------
        columns : mapping
            Contract columns, equal lengths; contract columns that are absent are written as null.
        custom : mapping, optional
            Columns that the contract does not name.

        Raises
        ------
        ValueError
            A column is not in the contract, or its type is not the contract's.
        """
        batch = _contract_table(table, columns, custom or {})
        key = (table, file_name)
        if key not in self._open:
            context = self._open_file(table, file_name)
            self._open[key] = (context, _parquet_writer(context.__enter__(), batch.schema))
            self.file_counts[table] = self.file_counts.get(table, 0) + 1
        writer = self._open[key][1]
        self._wait(self.PENDING_BATCHES - 1)
        self._submit(lambda: writer.write_table(batch, ROW_GROUP_ROWS))
        self.row_counts[table] = self.row_counts.get(table, 0) + batch.num_rows

    def finish(self, table: str, file_name: str) -> None:
        """Land one file, if it has rows, once they are written; nothing may be appended to it afterwards."""
        self._submit(lambda: self._land(table, file_name))

    def _land(self, table: str, file_name: str) -> None:
        if (table, file_name) not in self._open:
            return
        context, writer = self._open[table, file_name]
        writer.close()
        del self._open[table, file_name]
        context.__exit__(None, None, None)

    def _submit(self, task: Callable[[], None]) -> None:
        def run() -> None:
            # After a failed write the file lacks rows: what is queued behind it must not land it.
            if self._has_failed:
                return
            try:
                task()
            except BaseException:
                self._has_failed = True
                raise

        self._pending.append(self._thread.submit(run))

    def _wait(self, allowed: int) -> None:
        """Until no more than `allowed` tasks wait; raises what the thread raised."""
        while len(self._pending) > allowed:
            self._pending.popleft().result()

    def _abandon(self, error: BaseException) -> None:
        """Hand the error to the context of every file that is not finished, so that none of them lands."""
        self._thread.shutdown()
        while self._open:
            _, (context, writer) = self._open.popitem()
            with suppress(Exception):
                writer.close()
            with suppress(type(error)):
                context.__exit__(type(error), error, error.__traceback__)


def _parquet_writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=1,
        use_dictionary=[field.name for field in schema if pa.types.is_dictionary(field.type)],
        dictionary_pagesize_limit=4_000_000,
        # Statistics of texts cost a third of the writing and no reader asks for them.
        write_statistics=[field.name for field in schema if pa.types.is_timestamp(field.type)],
        # Without Arrow's own schema in the footer a repeated text is read as text, not as a dictionary.
        store_schema=False,
    )


def _contract_table(
    table: str, columns: Mapping[str, pa.Array | NDArray], custom: Mapping[str, pa.Array | NDArray]
) -> pa.Table:
    schema = contract_schema(table)
    unknown = set(columns) - set(schema.names)
    if unknown:
        raise ValueError(f"{table}: columns {sorted(unknown)} are not in its contract")
    length = len(next(iter(columns.values())))
    arrays: dict[str, pa.Array] = {}
    for field in schema:
        given = columns.get(field.name)
        array = pa.nulls(length, field.type) if given is None else pa.array(given)
        written = array.type.value_type if pa.types.is_dictionary(array.type) else array.type
        if written != field.type:
            raise ValueError(f"{table}.{field.name}: the contract's type is {field.type}, not {written}")
        arrays[field.name] = array
    arrays.update({name: pa.array(values) for name, values in custom.items()})
    return pa.table(arrays)
