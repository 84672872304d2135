"""What people do with scorecard versions: change points, refit round a choice, take one live, take it back, move it.

Each makes a landed document and changes no score by itself: the next refresh scores with the active version. The states are
in `card_store`, the fit in `training`, what a change would do in `preview`.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb

from orchestration.lib.card_exchange import WeightRow, changed_rows, read_weights_file, write_weights_csv
from orchestration.lib.card_store import StoredCard, active_card, find_card, save_card, set_state, version_before_active
from orchestration.lib.errors import UserError
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.training import (
    FIT_SEED,
    author,
    read_features,
    read_training_rows,
    refit_spec,
    store_version,
    to_parquet,
)
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from ml.card import Card, CardBand, Choices

#: Written at the head of an exported version, so that a file of something else is not taken for one.
EXPORT_FORMAT = "scorecard-version/1"


@dataclass(frozen=True)
class Tuned:
    """A card changed by a person, before or after it was stored.

    Attributes
    ----------
    version : None while nothing is stored.
    price : AUC and log loss before and after on the deals that closed last; see `ml.edits.price_of_change`.
    """

    version: str | None
    base: str
    card: Card
    price: dict[str, Any]


@dataclass(frozen=True)
class Change:
    """What a person wants of a card. `segment` None means everywhere.

    Attributes
    ----------
    sets : (segment, criterion, band, points) for this version only.
    pins, unpins : points that later fits hold, and rows that they no longer hold.
    signs : criterion -> positive, negative, or free.
    locks, unlocks : criteria whose bands later fits keep, and no longer keep.
    """

    sets: tuple[WeightRow, ...] = ()
    pins: tuple[WeightRow, ...] = ()
    unpins: tuple[tuple[str, str, str], ...] = ()
    signs: tuple[tuple[str, str], ...] = ()
    locks: tuple[str, ...] = ()
    unlocks: tuple[str, ...] = ()

    @property
    def needs_refit(self) -> bool:
        """Whether the other weights have to find their place round the choice."""
        return bool(self.pins or self.unpins or self.signs or self.locks or self.unlocks)


def card_of(stored: StoredCard) -> Card:
    """The fitted card of a version."""
    from ml.card import Card

    return Card.from_document(stored.document["card"])


def base_version(workspace: Workspace, version: str | None) -> StoredCard:
    """The named version, else the active one.

    Raises
    ------
    UserError
        There is no such version, or none is active.
    """
    if version is not None:
        return find_card(workspace, version)
    active = active_card(workspace)
    if active is None:
        raise UserError("no scorecard version is active yet: run scoring refresh first")
    return active


@dataclass(frozen=True)
class RowChange:
    """A row's points in two cards; None where a card has no such row."""

    segment: str
    criterion: str
    band: str
    before: int | None
    after: int | None


def differing_rows(before: Card, after: Card) -> list[RowChange]:
    """The rows whose points differ or that only one card has, in the order of the first card."""
    one = {(b.segment, b.criterion, b.band): b.points for b in before.bands}
    other = {(b.segment, b.criterion, b.band): b.points for b in after.bands}
    names = [*one, *(name for name in other if name not in one)]
    return [RowChange(*name, one.get(name), other.get(name)) for name in names if one.get(name) != other.get(name)]


# --------------------------------------------------------------------------- what a person asks for


def read_change(
    card: Card,
    *,
    sets: Sequence[str] = (),
    pins: Sequence[str] = (),
    unpins: Sequence[str] = (),
    signs: Sequence[str] = (),
    locks: Sequence[str] = (),
    unlocks: Sequence[str] = (),
    segment: str | None = None,
) -> Change:
    """The change that these texts describe: "industry/software=15", "employees=positive", "industry".

    A pin without points holds those that the row has. Without `segment` the rows of everybody and of all segments are
    meant.

    Raises
    ------
    UserError
        Nothing is asked for, or a text names no row, criterion, sign or whole number.
    """
    criteria = list(dict.fromkeys(band.criterion for band in card.bands))
    segments = list(dict.fromkeys(band.segment for band in card.bands))
    if segment is not None and segment not in segments:
        named = ", ".join(s for s in segments if s) or "no segments"
        raise UserError(f"the card has {named} (value: {segment!r})")

    def criterion_named(text: str, option: str) -> str:
        if text not in criteria:
            close = difflib.get_close_matches(text, criteria, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f"; it has: {', '.join(criteria)}"
            raise UserError(f"{option}: the card has no criterion of this name{hint} (value: {text!r})")
        return text

    def rows_named(text: str, option: str) -> list[CardBand]:
        name, slash, label = text.partition("/")
        if not slash:
            raise UserError(f"{option}: write CRITERION/BAND (value: {text!r})")
        name = criterion_named(name, option)
        here = [b for b in card.bands if b.criterion == name and (segment is None or b.segment == segment)]
        found = [b for b in here if b.band.casefold() == label.strip().casefold()]
        if not found:
            labels = ", ".join(dict.fromkeys(repr(b.band) for b in here))
            raise UserError(f"{option}: {name} has no band of this name; it has: {labels} (value: {label!r})")
        return found

    def with_points(text: str, option: str, *, required: bool) -> list[WeightRow]:
        # Labels may hold "=" themselves (">= 1000"): the points stand after the last one.
        row, equals, number = text.rpartition("=")
        match = re.fullmatch(r"\s*([+-]?\d{1,4})\s*", number) if equals else None
        if match is None:
            if required:
                raise UserError(f"{option}: write CRITERION/BAND=POINTS with whole points (value: {text!r})")
            return [WeightRow(b.segment, b.criterion, b.band, b.points) for b in rows_named(text, option)]
        points = int(match[1])
        if abs(points) > 1000:
            raise UserError(f"{option}: points lie between -1000 and 1000 (value: {points})")
        return [WeightRow(b.segment, b.criterion, b.band, points) for b in rows_named(row, option)]

    def sign_of(text: str) -> tuple[str, str]:
        name, _, sign = text.partition("=")
        if sign not in ("positive", "negative", "free"):
            raise UserError(f"--sign: write CRITERION=positive, negative or free (value: {text!r})")
        return criterion_named(name, "--sign"), sign

    pinned = [row for text in pins for row in with_points(text, "--pin", required=False)]
    if segment is None:
        # A pin of everybody's row holds those of all segments with it.
        pinned = [row for row in pinned if row.segment == ""]
    change = Change(
        sets=tuple(row for text in sets for row in with_points(text, "--set", required=True)),
        pins=tuple(pinned),
        unpins=tuple((segment or "", b.criterion, b.band) for text in unpins for b in rows_named(text, "--unpin")[:1]),
        signs=tuple(sign_of(text) for text in signs),
        locks=tuple(criterion_named(text, "--lock") for text in locks),
        unlocks=tuple(criterion_named(text, "--unlock") for text in unlocks),
    )
    if change == Change():
        raise UserError("nothing to change: give --set, --pin, --unpin, --sign, --lock or --unlock")
    return change


# --------------------------------------------------------------------------- points by hand


def set_points(
    workspace: Workspace,
    settings: ScorecardSettings,
    base: StoredCard,
    rows: Sequence[WeightRow],
    *,
    note: str,
    dry_run: bool = False,
) -> Tuned:
    """A new draft with these points and all others as they are in `base`.

    Needs no warehouse: each deal's points out of fold are kept with the version and move with its bands.

    Raises
    ------
    UserError
        No row changes anything, or the note is empty.
    """
    from ml.edits import edit_points

    card = card_of(base)
    changed = changed_rows(rows, card)
    if not changed:
        raise UserError(f"nothing changes: these points stand in {base.version} already")
    edited = edit_points(
        card,
        {row[:3]: row.points for row in changed},
        _training_rows(base),
        expected_win_rate=settings.beliefs.base_win_rate,
        expected_win_rate_deals=10.0,
        seed=FIT_SEED,
    )
    result = replace(
        edited.card, evaluation={**card.evaluation, "edited": _told(changed, card, base.version, edited.price)}
    )
    if dry_run:
        return Tuned(None, base.version, result, edited.price)
    _require(note)
    document = {
        **base.document,
        "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
        "author": author(),
        "note": note,
        "parent": base.version,
        "card": result.to_document(),
    }
    # Not a run of its own: nothing was fitted. The parent's run holds the fit.
    document.pop("scorecard_version", None)
    rows_after = None if edited.training_rows is None else to_parquet(edited.training_rows)
    version = save_card(workspace, document, training_rows=rows_after)
    return Tuned(version, base.version, result, edited.price)


def _told(changed: Sequence[WeightRow], card: Card, base: str, price: dict[str, Any]) -> dict[str, Any]:
    before = {(b.segment, b.criterion, b.band): b.points for b in card.bands}
    return {
        "from_version": base,
        "rows": [{**row._asdict(), "points_before": before[row[:3]]} for row in changed],
        "price": price,
    }


def _training_rows(stored: StoredCard) -> pd.DataFrame | None:
    import pandas as pd

    return None if stored.training_rows is None else pd.read_parquet(stored.training_rows)


# --------------------------------------------------------------------------- refit round a choice


def refit(
    con: duckdb.DuckDBPyConnection,
    workspace: Workspace,
    settings: ScorecardSettings,
    base: StoredCard,
    change: Change,
    *,
    note: str,
    dry_run: bool = False,
    say: Callable[[str], None],
) -> Tuned:
    """A new draft: what the person fixed holds, everything else is fitted again on the deals that are closed now.

    The bands stay those of `base`, so that both cards can be compared row by row.

    Raises
    ------
    UserError
        The warehouse has no features for the definitions of `base`, or the note is empty.
    """
    from ml.edits import price_of_change
    from ml.scorecard import fit

    card = card_of(base)
    definitions = base.document["criteria"]
    known = {key for (key,) in con.execute("select criterion_key from settings.criteria").fetchall()}
    missing = [name for name, stored in definitions.items() if stored["criterion_key"] not in known]
    if missing:
        raise UserError(
            f"scorecard version {base.version} cannot be refitted: the warehouse no longer computes {', '.join(missing)} "
            f"as it defines them. Tune the active version, or make it a shadow and refresh first"
        )
    lasting = choices_after(card, change)
    rows = read_training_rows(con, settings, definitions)
    population = read_features(con, definitions, "accounts")
    say(f"refitting on {len(rows.won):,} closed deals, {int(rows.won.sum()):,} of them won")
    spec = refit_spec(settings, card, with_pins(lasting, change.sets))
    fitted = fit(
        spec, rows.features, rows.won, rows.closed_at, seed=FIT_SEED, population=population, groups=rows.account_id
    )
    # What was set for this version only must not hold in later ones.
    result = replace(fitted.card, choices=lasting)
    fitted = replace(fitted, card=result)
    old = _training_rows(base)
    price: dict[str, Any] = {}
    if old is not None:
        from orchestration.lib.training import training_frame

        new = training_frame(fitted, rows)
        both = old[old["spine_id"].isin(set(new["spine_id"]))].set_index("spine_id").sort_index()
        price = price_of_change(card, result, both, new.set_index("spine_id").loc[both.index], seed=FIT_SEED)
    if dry_run:
        return Tuned(None, base.version, result, price)
    _require(note)
    version, _, _ = store_version(
        con, workspace, settings, fitted, rows, definitions, note=note, parent=base, population=population
    )
    return Tuned(version, base.version, result, price)


def choices_after(card: Card, change: Change) -> Choices:
    """The card's choices with the change's pins, signs and locks added or lifted. A pin keeps its criterion's bands."""
    from ml.card import Choices, Pin

    pins = {(p.segment, p.criterion, p.band): p for p in card.choices.pins}
    for name in change.unpins:
        if name not in pins:
            held = ", ".join("/".join(filter(None, key)) for key in pins) or "none"
            raise UserError(f"{'/'.join(filter(None, name))} is not pinned; pinned are: {held}")
        del pins[name]
    for row in change.pins:
        pins[row[:3]] = Pin(row.criterion, row.band, row.points, row.segment)
    signs = dict(card.choices.signs)
    for criterion, sign in change.signs:
        if sign == "free":
            signs.pop(criterion, None)
        else:
            signs[criterion] = sign  # type: ignore[assignment]
    bands = {b.name: b for b in card.criterion_bands()}
    locked = {n: b for n, b in card.choices.locked_bands.items() if n not in change.unlocks}
    for criterion in (*change.locks, *(pin.criterion for pin in pins.values())):
        if criterion in bands:
            locked.setdefault(criterion, bands[criterion])
    return Choices(pins=tuple(pins.values()), signs=signs, locked_bands=locked)


def with_pins(choices: Choices, rows: Sequence[WeightRow]) -> Choices:
    """The choices with some more points held."""
    from ml.card import Pin

    names = {row[:3] for row in rows}
    kept = tuple(p for p in choices.pins if (p.segment, p.criterion, p.band) not in names)
    return replace(choices, pins=(*kept, *(Pin(r.criterion, r.band, r.points, r.segment) for r in rows)))


# --------------------------------------------------------------------------- live and back


def decide(workspace: Workspace, version: str, state: str, *, note: str) -> None:
    """A person's word that a version becomes active, shadow or retired.

    Raises
    ------
    UserError
        The active version would be retired without another one in its place, or as `card_store.set_state`.
    """
    if state == "retired" and find_card(workspace, version).state == "active":
        raise UserError(f"scorecard version {version} is active: activate another one instead")
    set_state(workspace, version, state, author=author(), note=note)


def rollback(workspace: Workspace, *, note: str) -> tuple[str, str]:
    """Bring back the version that was active before; returns the one taken back and the one that scores again.

    Raises
    ------
    UserError
        There is none before the active one, or the note is empty.
    """
    active = active_card(workspace)
    before = version_before_active(workspace)
    if active is None or before is None:
        raise UserError("there is no version to go back to: no other one was active before")
    set_state(workspace, before, "active", author=author(), note=note, rollback_of=active.version)
    return active.version, before


# --------------------------------------------------------------------------- files


def export_version(stored: StoredCard, file: Path) -> Path:
    """Write a version as JSON (whole) or CSV (its points, for a spreadsheet), by the file's ending.

    Raises
    ------
    UserError
        Another ending.
    """
    if file.suffix.lower() == ".csv":
        return write_weights_csv(card_of(stored), file)
    if file.suffix.lower() != ".json":
        raise UserError(f"a version is exported as .json or .csv (value: {file.name!r})")
    document = {"export_format": EXPORT_FORMAT, **stored.document}
    file.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return file


def import_version(
    workspace: Workspace, settings: ScorecardSettings, file: Path, *, base: StoredCard | None, note: str
) -> Tuned:
    """Land an exported version as a new draft: a whole one (JSON), or points edited in a spreadsheet (CSV).

    Parameters
    ----------
    base : the version whose points a CSV file changes; not used for JSON

    Raises
    ------
    UserError
        The file is not such a version; each problem with its place, rule and value.
    """
    _require(note)
    if file.suffix.lower() == ".csv":
        if base is None:
            raise UserError("no scorecard version is active yet, whose points the file could change")
        return set_points(workspace, settings, base, read_weights_file(file, card_of(base)), note=note)
    document = _read_export(file)
    from ml.card import Card

    try:
        card = Card.from_document(document["card"])
        missing = sorted(
            {band.criterion for band in card.bands} - set(document["criteria"]) - {p.name for p in card.pairs}
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{file}: not a scorecard version: {error}") from error
    if missing:
        raise UserError(f"{file}: the card scores criteria without a definition: {', '.join(missing)}")
    content = {key: value for key, value in document.items() if key not in ("export_format", "scorecard_version")}
    version = save_card(
        workspace,
        {
            **content,
            "created_at": datetime.now(UTC).replace(tzinfo=None).isoformat(),
            "author": author(),
            "note": note,
            "parent": None,
            "imported_from": {"file": file.name, "scorecard_version": document.get("scorecard_version")},
        },
    )
    return Tuned(version, str(document.get("scorecard_version")), card, {})


def _read_export(file: Path) -> dict[str, Any]:
    try:
        document = json.loads(file.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UserError(f"{file}: the file cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{file}: not JSON: {error}") from error
    found = document.get("export_format") if isinstance(document, dict) else None
    if found != EXPORT_FORMAT:
        raise UserError(f"{file}: export_format must be {EXPORT_FORMAT!r} (value: {found!r})")
    lacking = [key for key in ("card", "criteria", "matrix", "as_of_at") if key not in document]
    if lacking:
        raise UserError(f"{file}: not a whole scorecard version: {', '.join(lacking)} missing")
    return dict(document)


def _require(note: str) -> None:
    if not note.strip():
        raise UserError("a new version needs a note that says why it was made")
