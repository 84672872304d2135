"""The landing zone: a verbatim, immutable copy of every file that ever came in, named by arrival and content.

Everything about names and copies is here; nothing looks into a file. What a file holds is the business of
`loading`. A crash at any instant leaves either no copy or a whole one: files are written under a temporary
name, synced, renamed.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from orchestration.lib.contracts import Contract
from orchestration.lib.errors import UserError
from orchestration.lib.sources import TableSource
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import duckdb

LANDED_NAME = re.compile(r"(\d{8}T\d{12}Z)-([0-9a-f]{12})-(.+)", re.DOTALL)
# Written by us; the process id lets a later run tell a leftover from a file that is still being written.
OWN_TEMPORARY_NAME = re.compile(r"\..+\.tmp-(\d+)", re.DOTALL)
ARRIVED_FORMAT = "%Y%m%dT%H%M%S%fZ"

TEMPORARY_SUFFIXES = (
    ".tmp",
    ".temp",
    ".part",
    ".partial",
    ".crdownload",
    ".download",
    ".filepart",
    ".lock",
    ".swp",
    "~",
    "#",
)
NOT_DATA = {".ds_store", ".gitkeep", ".gitignore", ".keep", "thumbs.db", "desktop.ini"}
MEMO_NAME = ".collected.json"
# A file can change twice within one tick of a coarse clock (2 s on some shares), so a younger one is never
# memoised.
CLOCK_TICK_SECONDS = 2.0
COPY_BLOCK = 1 << 20
LEFTOVER_SECONDS = 3600.0
MAX_NAME_BYTES = 200  # with arrival and hash before it, under the usual limit of 255


@dataclass(frozen=True)
class LandedFile:
    """One file of the landing zone.

    `arrived_at` is naive UTC; `sha12` the first 12 hex digits of its SHA-256.
    """

    source_table: str
    path: Path
    original_name: str
    sha12: str
    arrived_at: datetime
    size_bytes: int

    @property
    def file(self) -> str:
        """The landed name, unique within the table."""
        return self.path.name


@dataclass(frozen=True)
class Notice:
    """A file that was seen and did not land, or a configured place without a file."""

    source_table: str
    original_name: str
    status: Literal["duplicate", "waiting", "missing"]
    message: str


@dataclass(frozen=True)
class Collection:
    """What one collection brought in."""

    landed: tuple[LandedFile, ...]
    notices: tuple[Notice, ...]


def collect(
    workspace: Workspace,
    contracts: dict[str, Contract],
    sources: dict[str, TableSource],
    now: datetime | None = None,
    *,
    settle_seconds: float = 2.0,
) -> Collection:
    """Copy every new or changed file of all sources into the landing zone.

    Parameters
    ----------
    workspace : Workspace
    contracts, sources : dict
        By the contract's name.
    now : datetime, optional
        Moment of arrival (UTC); the clock's when not given. Within a table arrivals always increase: a moment
        that is not later than the last one is moved to the microsecond after it.
    settle_seconds : float
        A file that was modified this short a time ago may still be being written, and waits for the next
        collection.
    """
    moment = _naive_utc(now)
    workspace.landing.mkdir(parents=True, exist_ok=True)
    memo = _Memo.read(workspace)
    landed: list[LandedFile] = []
    notices: list[Notice] = []
    for name, contract in contracts.items():
        table = _Table(workspace, name)
        table.clean()
        collector = _Collector(table, memo, moment, settle_seconds)
        collector.adopt()
        collector.collect_from(workspace, sources[name])
        landed.extend(collector.landed)
        notices.extend(collector.notices)
        if not sources[name].is_configured:
            # A newcomer finds the place to drop files by looking.
            (workspace.inbox / contract.source / contract.table).mkdir(parents=True, exist_ok=True)
    notices.extend(_misplaced(workspace, contracts))
    memo.write()
    return Collection(tuple(landed), tuple(notices))


def land_file(workspace: Workspace, table_name: str, path: Path, now: datetime | None = None) -> LandedFile:
    """Copy one file into the landing zone of `<source>__<table>`, also of tables without a contract.

    Where the newest landed file of the same name has the same content, that one is returned and nothing is
    written.

    Raises
    ------
    UserError
        The file cannot be read, or changed while it was copied.
    """
    table = _Table(workspace, table_name)
    try:
        copied = table.copy(path, path.name, _naive_utc(now))
    except OSError as error:
        raise UserError(f"{path}: cannot be copied into the landing zone: {error.strerror or error}") from error
    if copied is None:
        raise UserError(f"{path}: changed while it was copied into the landing zone; run the command again")
    return copied


@contextmanager
def landing_file(
    workspace: Workspace, table_name: str, name: str, arrived_at: datetime | None = None
) -> Iterator[Path]:
    """Land a file that the caller writes: yields a temporary path in the landing zone, renamed when the block
    ends.

    Nothing lands when the block raises. Where the newest landed file of the same name has the same content,
    the new one is dropped.

    Examples
    --------
    >>> with landing_file(workspace, "web__events", "events-0001.parquet") as path:  # doctest: +SKIP
    ...     pyarrow.parquet.write_table(table, path)
    """
    table = _Table(workspace, table_name)
    table.folder.mkdir(parents=True, exist_ok=True)
    temporary = table.temporary_path(name)
    try:
        yield temporary
        table.keep(temporary, name, _hash_file(temporary), _naive_utc(arrived_at))
    finally:
        temporary.unlink(missing_ok=True)


def land_due(con: duckdb.DuckDBPyConnection, workspace: Workspace, table_name: str, query: str, name: str) -> int:
    """Land what a query says, as one Parquet file of facts that the next refresh reads. Returns how many rows that were.

    Nothing is landed where there are none; a second call lands nothing twice, as the keys are the same.

    Parameters
    ----------
    query : columns of the table's contract, in an order of its own
    name : what a person recognises the file by, without its ending
    """
    found = con.execute(query).to_arrow_table()
    if not found.num_rows:
        return 0
    import pyarrow.parquet as pq

    with landing_file(workspace, table_name, f"{name}.parquet") as path:
        pq.write_table(found, path)
    return found.num_rows


def landed_files(workspace: Workspace, table_name: str) -> list[LandedFile]:
    """The landed files of a table in order of arrival (then of content).

    Temporary and foreign names are not among them.
    """
    return list(_Table(workspace, table_name).files())


class _Table:
    """The landing folder of one table."""

    def __init__(self, workspace: Workspace, name: str):
        source, separator, table = name.partition("__")
        if not separator or not re.fullmatch(r"[a-z][a-z0-9_]*", source) or not re.fullmatch(r"[a-z0-9_]+", table):
            raise ValueError(f"a landed table is called <source>__<table>, not {name!r}")
        self.name = name
        self.folder = workspace.landing / source / table
        # Read once per collection: an inbox of 10,000 files would otherwise scan the folder 10,000 times.
        self._files: list[LandedFile] | None = None
        self._newest: dict[str, LandedFile] = {}
        self._by_content: dict[str, LandedFile] = {}

    def files(self) -> list[LandedFile]:
        if self._files is None:
            found = []
            for entry in _scan(self.folder):
                arrived_at = _arrival(entry.name)
                if arrived_at is None or not entry.is_file(follow_symlinks=False):
                    continue
                _, sha12, original_name = LANDED_NAME.fullmatch(entry.name).groups()  # type: ignore[union-attr]
                size = entry.stat().st_size
                found.append(LandedFile(self.name, Path(entry.path), original_name, sha12, arrived_at, size))
            self._files = sorted(found, key=lambda file: (file.arrived_at, file.sha12, file.file))
            self._newest = {file.original_name: file for file in self._files}
            self._by_content = {file.sha12: file for file in reversed(self._files)}
        return self._files

    def newest_named(self, original_name: str) -> LandedFile | None:
        self.files()
        return self._newest.get(original_name)

    def first_with_content(self, sha256: str) -> LandedFile | None:
        self.files()
        return self._by_content.get(sha256[:12])

    def temporary_path(self, name: str) -> Path:
        return self.folder / f".{_landing_name(name)}.tmp-{os.getpid()}"

    def clean(self) -> None:
        """Remove what killed processes have left half written."""
        for entry in _scan(self.folder):
            match = OWN_TEMPORARY_NAME.fullmatch(entry.name)
            # In a container every process may have the same id, so a running one counts only while it writes.
            if match and not (_is_running(int(match[1])) and _age_seconds(Path(entry.path)) < LEFTOVER_SECONDS):
                Path(entry.path).unlink(missing_ok=True)

    def copy(self, path: Path, name: str, moment: datetime) -> LandedFile | None:
        """Land a copy; None when the file changed meanwhile."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.temporary_path(name)
        try:
            digest = hashlib.sha256()
            with path.open("rb") as source, temporary.open("wb") as target:
                before = os.fstat(source.fileno())
                while block := source.read(COPY_BLOCK):
                    digest.update(block)
                    target.write(block)
            if _identity(before) != _identity(path.stat()):
                return None
            return self.keep(temporary, name, digest.hexdigest(), moment)
        finally:
            temporary.unlink(missing_ok=True)

    def keep(self, temporary: Path, name: str, sha256: str, moment: datetime) -> LandedFile:
        """Rename a whole temporary file to its landed name, unless the newest file of that name is the
        same.
        """
        original_name = _landing_name(name)
        files = self.files()
        newest = self.newest_named(original_name)
        if newest is not None and newest.sha12 == sha256[:12]:
            return newest
        if files:
            moment = max(moment, files[-1].arrived_at + timedelta(microseconds=1))
        _sync(temporary)
        temporary.chmod(0o444)
        size = temporary.stat().st_size
        target = self.folder / f"{moment.strftime(ARRIVED_FORMAT)}-{sha256[:12]}-{original_name}"
        os.replace(temporary, target)
        _sync(self.folder)
        landed = LandedFile(self.name, target, original_name, sha256[:12], moment, size)
        files.append(landed)
        self._newest[original_name] = landed
        self._by_content.setdefault(landed.sha12, landed)
        return landed


class _Collector:
    """One collection of one table."""

    def __init__(self, table: _Table, memo: _Memo, moment: datetime, settle_seconds: float):
        self.table = table
        self.memo = memo
        self.moment = moment
        self.settle_seconds = settle_seconds
        self.landed: list[LandedFile] = []
        self.notices: list[Notice] = []

    def note(self, name: str, status: Literal["duplicate", "waiting", "missing"], message: str) -> None:
        self.notices.append(Notice(self.table.name, name, status, message))

    def adopt(self) -> None:
        """Give files that somebody put into the landing folder by hand a landed name."""
        for entry in sorted(_scan(self.table.folder), key=lambda entry: entry.name):
            if _arrival(entry.name) is not None or OWN_TEMPORARY_NAME.fullmatch(entry.name):
                continue
            path = Path(entry.path)
            if path.name.lower() in NOT_DATA or not entry.is_file(follow_symlinks=False):
                continue
            if not self._is_settled(path, path.name):
                continue
            try:
                sha256 = _hash_file(path)
                adopted = self.table.keep(path, path.name, sha256, self.moment)
            except OSError as error:
                self.note(path.name, "waiting", f"cannot be read in the landing zone: {error.strerror or error}")
                continue
            if path.exists():
                # `keep` found the same content under the same name: the stray is a second copy of a landed
                # file.
                path.unlink()
            else:
                self.landed.append(adopted)

    def collect_from(self, workspace: Workspace, source: TableSource) -> None:
        candidates: dict[Path, None] = {}
        for pattern in source.files:
            found = _matching(workspace, pattern, is_folder=not source.is_configured)
            if not found and source.is_configured:
                self.note(
                    pattern,
                    "missing",
                    f"no file matches {pattern!r}, which sources.yml names for {source.name}",
                )
            candidates.update(dict.fromkeys(found))
        for path, name in _distinct_names(list(candidates)):
            try:
                self._collect_one(path, name)
            except OSError as error:
                self.note(name, "waiting", f"{path} cannot be read: {error.strerror or error}")

    def _collect_one(self, path: Path, name: str) -> None:
        if not self._is_settled(path, name):
            return
        before = path.stat()
        sha256 = self.memo.sha256_of(path, before)
        if sha256 is None:
            sha256 = _hash_file(path)
            if _identity(before) != _identity(path.stat()):
                self.note(name, "waiting", f"{path} is still being written")
                return
            self.memo.remember(path, before, sha256)
        newest = self.table.newest_named(_landing_name(name))
        if newest is not None:
            # The same name again: silent when unchanged. A file that went back to an earlier content is a
            # change.
            if newest.sha12 == sha256[:12]:
                return
        else:
            twin = self.table.first_with_content(sha256)
            if twin is not None:
                arrived = f"{twin.arrived_at:%Y-%m-%d %H:%M:%S}"
                self.note(name, "duplicate", f"{path} has the content of {twin.original_name}, landed {arrived} UTC")
                return
        landed = self.table.copy(path, name, self.moment)
        if landed is None or landed.sha12 != sha256[:12]:
            # Copied while it changed: if something landed it is a whole content of a moment, so it may stay.
            self.note(name, "waiting", f"{path} is still being written")
        if landed is not None:
            self.landed.append(landed)

    def _is_settled(self, path: Path, name: str) -> bool:
        lowered = path.name.lower()
        if lowered.startswith((".", "~")) or lowered.endswith(TEMPORARY_SUFFIXES):
            self.note(name, "waiting", f"{path} has a temporary name")
            return False
        # A date in the future (a clock that is wrong) says nothing about now, so it does not keep a file
        # waiting.
        if 0 <= time.time() - path.stat().st_mtime < self.settle_seconds:
            self.note(name, "waiting", f"{path} was modified less than {self.settle_seconds:g} s ago")
            return False
        return True


class _Memo:
    """Remembers the hash of files that did not change, by path, size, time and inode.

    Losing it only costs time.
    """

    def __init__(self, path: Path, known: dict[str, list[object]]):
        self.path = path
        self.known = known
        self.seen: dict[str, list[object]] = {}

    @classmethod
    def read(cls, workspace: Workspace) -> _Memo:
        path = workspace.landing / MEMO_NAME
        try:
            known = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            known = {}
        return cls(path, known if isinstance(known, dict) else {})

    def sha256_of(self, path: Path, status: os.stat_result) -> str | None:
        entry = self.known.get(str(path))
        if not isinstance(entry, list) or len(entry) != 2 or entry[0] != _identity(status):
            return None
        if not isinstance(entry[1], str) or not re.fullmatch(r"[0-9a-f]{64}", entry[1]):
            return None
        self.seen[str(path)] = entry
        return entry[1]

    def remember(self, path: Path, status: os.stat_result, sha256: str) -> None:
        if abs(time.time() - status.st_mtime) > CLOCK_TICK_SECONDS:
            self.seen[str(path)] = [_identity(status), sha256]

    def write(self) -> None:
        if self.seen == self.known:
            return
        temporary = self.path.with_name(f"{MEMO_NAME}.tmp-{os.getpid()}")
        try:
            temporary.write_text(json.dumps(self.seen), encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError:
            with suppress(OSError):
                temporary.unlink(missing_ok=True)


def _naive_utc(moment: datetime | None) -> datetime:
    if moment is None:
        moment = datetime.now(UTC)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _arrival(name: str) -> datetime | None:
    match = LANDED_NAME.fullmatch(name)
    try:
        return datetime.strptime(match[1], ARRIVED_FORMAT) if match else None
    except ValueError:
        return None


def _age_seconds(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _identity(status: os.stat_result) -> list[int]:
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _scan(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return []


def _matching(workspace: Workspace, pattern: str, *, is_folder: bool) -> list[Path]:
    """Files of a glob, in order of their names; of a plain folder also those with a leading dot."""
    place = Path(os.path.expanduser(pattern))
    if is_folder:
        paths = [Path(entry.path) for entry in _scan(workspace.home / place.parent)]
        paths = [path for path in paths if path.name.lower() not in NOT_DATA]
    else:
        # Relative to the workspace; `root_dir` is not used, because an absolute pattern would lose its root.
        full = str(place) if place.is_absolute() else os.path.join(glob.escape(str(workspace.home)), str(place))
        paths = [Path(path) for path in glob.glob(full, recursive=True)]
    return sorted(path for path in paths if path.is_file())


def _distinct_names(paths: list[Path]) -> list[tuple[Path, str]]:
    """Give files of the same name in different folders different names: with their folders before it."""
    names = {path: path.name for path in paths}
    for depth in range(1, 16):
        counts = Counter(names.values())
        clashing = [path for path in paths if counts[names[path]] > 1]
        if not clashing:
            break
        for path in clashing:
            names[path] = "--".join(path.parts[-depth - 1 :]).replace("/", "")
    return list(names.items())


def _landing_name(name: str) -> str:
    """The name as it may stand in the landing zone: no control characters, no wildcards, not too long."""
    name = re.sub(r"[\x00-\x1f\x7f/\\*?\[\]]", "_", name)
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) <= MAX_NAME_BYTES:
        return name
    # The end tells the format (.csv.gz), a digest keeps two long names apart.
    digest = hashlib.sha256(encoded).hexdigest()[:8]
    end = "".join(Path(name).suffixes[-2:])[-20:]
    return encoded[: MAX_NAME_BYTES - 40].decode("utf-8", "ignore") + f"-{digest}{end}"


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_running(process_id: int) -> bool:
    if process_id == os.getpid():
        return True
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _misplaced(workspace: Workspace, contracts: dict[str, Contract]) -> list[Notice]:
    """Files in the inbox that no table would ever read."""
    notices = []
    folders = {(contract.source, contract.table) for contract in contracts.values()}
    for root, directories, names in os.walk(workspace.inbox):
        parts = Path(root).relative_to(workspace.inbox).parts
        if parts in folders:
            directories.clear()
            continue
        near = sorted(folder for folder in folders if folder[0] == parts[0]) if parts else []
        known = ", ".join(f"inbox/{source}/{table}" for source, table in near or sorted(folders))
        for name in sorted(names):
            if name.lower() in NOT_DATA or name.startswith((".", "~")):
                continue
            place = "/".join(("inbox", *parts, name))
            notices.append(
                Notice(
                    "__".join(parts),
                    name,
                    "waiting",
                    f"{place} is in no table's folder; move it to one of {known}",
                )
            )
    return notices
