"""A scorecard's points as a CSV file that an analyst edits in a spreadsheet, and back again.

Belongs here: the columns of that file, what spreadsheets do to it, the checks of what comes back.
Does not: making a version of the edited points and moving whole versions between workspaces (`versions`).
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from orchestration.lib.errors import UserError

if TYPE_CHECKING:
    from ml.card import Card

COLUMNS = (
    "segment",
    "criterion",
    "band",
    "points",
    "expert_points",
    "points_low",
    "points_high",
    "won_count",
    "deal_count",
    "evidence",
)

#: Columns that an edited file needs; all others are there to be read and are not read back.
NEEDED = ("criterion", "band", "points")

#: A cell that begins so is run as a formula by spreadsheets (OWASP, "CSV Injection").
_FORMULA = re.compile(r"^\s*[=+\-@\t\r\uff1d\uff0b\uff0d\uff20|%]")

#: "10-49" comes back from a spreadsheet as a date in October 1949, "007" as 7, "1e5" as 100000.
_CONVERTED = re.compile(r"^\s*[\d.,]*\d")

#: "5", "+5", "-5" and what spreadsheets make of them: a typographic minus, "5.0" or "5,00". "1,000" stays an error: it is
#: a thousand to some and one to others.
_WHOLE = re.compile(r"([+\-\u2212]?)(\d+)(?:[.,]0{1,2})?")


class WeightRow(NamedTuple):
    """Points that a file gives to one row of a card; `segment` is empty for everybody."""

    segment: str
    criterion: str
    band: str
    points: int


def weights_table_csv(card: Card) -> str:
    """One line per row of the card, in the card's order: comma separated, CRLF, no byte-order mark.

    `points_low` and `points_high` are the weight's 90 % interval in points. A text that a spreadsheet would run as a
    formula or turn into a date or a number is written with an apostrophe before it; `read_weights_csv` takes it off.
    """
    from ml.card import points_from_weights

    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for band in card.bands:
        low, high = (int(points_from_weights(weight)) for weight in (band.weight_low, band.weight_high))
        writer.writerow(
            [
                _guarded(band.segment),
                _guarded(band.criterion),
                _guarded(band.band),
                band.points,
                band.expert_points,
                low,
                high,
                band.won_count,
                band.deal_count,
                _harmless(band.evidence),
            ]
        )
    return out.getvalue()


def write_weights_csv(card: Card, path: Path) -> Path:
    """Write `weights_table_csv` so that spreadsheets see UTF-8 (with a byte-order mark); returns `path`."""
    path.write_bytes(weights_table_csv(card).encode("utf-8-sig"))
    return path


def read_weights_csv(text: str | bytes, card: Card) -> list[WeightRow]:
    """The points that a file gives, in its order; rows of the card that the file leaves out are unchanged.

    Parameters
    ----------
    text : the file, comma, semicolon or tab separated, with or without byte-order mark; bytes may be UTF-8, UTF-16 or
        Windows-1252.
    card : the card that was exported: its segments, criteria and bands are the ones that may be named.

    Raises
    ------
    UserError
        One line per broken rule, each with the line of the file, criterion, band, rule and value.
    """
    lines = _rows(_decoded(text) if isinstance(text, bytes) else text)
    at, header = next(lines, (1, []))
    place = _columns(at, header, has_segments=any(band.segment for band in card.bands))
    names = _Names(card)
    problems: list[str] = []
    found: dict[tuple[str, str, str], tuple[int, int]] = {}
    result: list[WeightRow] = []
    for line, cells in lines:
        cell = {name: cells[number].strip() if number < len(cells) else "" for name, number in place.items()}
        where = f"line {line}: criterion {cell['criterion']!r}, band {cell['band']!r}"
        if cell.get("segment"):
            where += f", segment {cell['segment']!r}"
        row, problem = names.find(cell.get("segment", ""), cell["criterion"], cell["band"])
        points, points_problem = _whole_points(cell["points"])
        problems += [f"{where}: {text}" for text in (problem, points_problem) if text]
        if row is None:
            continue
        if row in found:
            first, given = found[row]
            problems.append(
                f"{where}: a row may stand in the file once; line {first} gives it {given} points already "
                f"(value: {cell['points']!r})"
            )
        elif points is not None:
            found[row] = (line, points)
            result.append(WeightRow(*row, points))
    if problems:
        raise UserError("the weights cannot be imported:\n" + "\n".join(problems))
    if not result:
        raise UserError(f"the weights cannot be imported: the file has no row below its header (value: {header})")
    return result


def read_weights_file(path: Path, card: Card) -> list[WeightRow]:
    """`read_weights_csv` of a file; its errors begin with the file's name.

    Raises
    ------
    UserError
        As `read_weights_csv`, or the file cannot be read.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path}: the file cannot be read: {error.strerror}") from error
    try:
        return read_weights_csv(content, card)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error


def changed_rows(rows: Sequence[WeightRow], card: Card) -> list[WeightRow]:
    """Those of `rows` whose points are not what the card gives today."""
    today = {(band.segment, band.criterion, band.band): band.points for band in card.bands}
    return [row for row in rows if today.get(row[:3]) != row.points]


# --------------------------------------------------------------------------- cells


def _guarded(text: str) -> str:
    """The text with an apostrophe before it where a spreadsheet would change it or run it."""
    return f"'{text}" if text.startswith("'") or _FORMULA.match(text) or _CONVERTED.match(text) else text


def _harmless(text: str) -> str:
    """A sentence that is not read back: only what would be run as a formula is marked."""
    return f"'{text}" if _FORMULA.match(text) else text


def _plain(text: str) -> str:
    """What people mean by a cell: without the apostrophe, case and runs of white space."""
    return " ".join(text.strip().removeprefix("'").split()).casefold()


def _whole_points(cell: str) -> tuple[int | None, str | None]:
    from pydantic import TypeAdapter, ValidationError

    from orchestration.lib.scorecard_settings import Points

    match = _WHOLE.fullmatch(cell.removeprefix("'"))
    if match is None:
        return None, f"points must be a whole number (value: {cell!r})"
    points = int(match[2]) * (1 if match[1] in ("", "+") else -1)
    try:
        return TypeAdapter(Points).validate_python(points), None
    except ValidationError as error:
        rule = error.errors()[0]["msg"].removeprefix("Input should be ")
        return None, f"points must be {rule} (value: {cell!r})"


class _Names:
    """The segments, criteria and bands of a card, found by their exact text or else by what people mean by it."""

    def __init__(self, card: Card) -> None:
        self.bands: dict[str, dict[str, dict[str, str]]] = {}
        for band in card.bands:
            self.bands.setdefault(band.segment, {}).setdefault(band.criterion, {})[band.band] = band.band

    def find(self, segment: str, criterion: str, band: str) -> tuple[tuple[str, str, str] | None, str | None]:
        """The row's name in the card, or None with the rule that it breaks."""
        segment_name = _match(segment, self.bands) if segment or "" not in self.bands else ""
        if segment_name is None:
            return None, f"segment must be {_choice(self.bands)} (value: {segment!r})"
        criteria = self.bands[segment_name]
        criterion_name = _match(criterion, criteria)
        if criterion_name is None:
            return None, f"criterion must be {_choice(criteria)} (value: {criterion!r})"
        bands = criteria[criterion_name]
        band_name = _match(band, bands)
        if band_name is None:
            hint = "; spreadsheets turn labels into dates and numbers: keep the apostrophe before them"
            return None, f"band must be {_choice(bands)} (value: {band!r}){hint if any(map(str.isdigit, band)) else ''}"
        return (segment_name, criterion_name, band_name), None


def _match(cell: str, choices: Iterable[str]) -> str | None:
    names = list(choices)
    exported = {_guarded(name).strip(): name for name in names}  # first: "'=1" is what the label "=1" was written as
    for text in (exported.get(cell), cell):
        if text is not None and text in names:
            return text
    alike = [name for name in names if _plain(name) == _plain(cell)]
    return alike[0] if len(alike) == 1 else None


def _choice(names: Iterable[str]) -> str:
    shown = [name or "empty (everybody)" for name in names]
    most = 12  # a message that lists hundreds is not read
    rest = f" or one of {len(shown) - most} more" if len(shown) > most else ""
    return f"one of {', '.join(shown[:most])}{rest}"


# --------------------------------------------------------------------------- the file


def _decoded(content: bytes) -> str:
    if content[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return content.decode("utf-16", errors="replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", errors="replace")  # what a spreadsheet on Windows writes as plain "CSV"


def _rows(text: str) -> Iterator[tuple[int, list[str]]]:
    """Line (1-based, where the row begins) and cells of each row that is not blank."""
    text = text.removeprefix("\ufeff")
    skipped = 0
    declared = re.match(r"sep=(.)\r?\n", text)
    if declared:  # some spreadsheets state their separator first
        text, skipped = text[declared.end() :], 1
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = declared[1] if declared else max(",;\t", key=lambda mark: first.count(mark))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    begins = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield begins + skipped, cells
            begins = reader.line_num + 1
    except csv.Error as error:
        raise UserError(f"the weights cannot be imported: line {begins + skipped}: not a CSV row: {error}") from error


def _columns(line: int, header: list[str], *, has_segments: bool) -> dict[str, int]:
    names = [cell.strip().casefold() for cell in header]
    needed = (*NEEDED, "segment") if has_segments else NEEDED
    missing = [name for name in needed if name not in names]
    if missing:
        raise UserError(
            f"the weights cannot be imported: line {line}: the header must name {', '.join(needed)}; "
            f"missing: {', '.join(missing)} (value: {header})"
        )
    twice = [name for name in (*NEEDED, "segment") if names.count(name) > 1]
    if twice:
        raise UserError(
            f"the weights cannot be imported: line {line}: the header must name {twice[0]} once (value: {header})"
        )
    return {name: names.index(name) for name in (*NEEDED, "segment") if name in names}
