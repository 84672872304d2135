"""Person-period rows: a deal in a week at risk, what was known of it, and whether it was won, lost or stayed open.

Belongs here: spells from openings and from landmarks, their features and bands, counting equal rows. Does not:
the regression on them (`ml.forecast.hazard`), who knew what when (`ml.forecast.history`).

Method. Discrete-time survival data (Allison 1982; Singer and Willett 2003): one row per deal and week, censored
where the observation ends. Deals that were opened before the record begins enter late (left truncation). A deal
changes stage while it runs, so a hazard of "this week, given today's stage" cannot be carried forward with the
stage frozen: rows are made from *landmarks* (van Houwelingen 2007), features as of the landmark, weeks at risk
after it. What was fitted is then what is asked: the next months of a deal in this state.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ml.forecast.account_series import ENGAGEMENT, TREND, account_features, engagement_edges, trend_edges
from ml.forecast.history import OPEN, DealHistory

WEEK = 7.0
LANDMARK_DAYS = 28.0
"""Landmarks lie so far apart: every week at risk is then seen from 0-3, 4-7 ... weeks before."""

MOST_LANDMARK_SPELLS = 20_000
"""Spells of a fit with features, drawn at random above it: about 12,000 closings for some 70 effects."""

LONGEST_WEEKS = 156
"""Weeks at risk after the start of a spell that are looked at."""

LEAD_EDGES = np.array([1.0, 2.0, 4.0, 8.0, 13.0, 26.0])
"""Weeks after the landmark at which the hazard may change."""

PROMISE_EDGES = np.array([-8.0, -4.0, -1.0, 0.0, 1.0, 4.0, 8.0])
"""Weeks from the promised close date to the week at risk."""

BANDS = 5
"""Bands of a feature, of equal mass, beside one for missing."""

AGE_BANDS = 14

WeekCodes = Callable[[int, "np.ndarray | slice"], np.ndarray]
"""Codes of a factor in a week of the spells at these positions."""


@dataclass(frozen=True)
class Spells:
    """Stretches of time in which a deal was at risk. Arrays have shape (spells,).

    Attributes
    ----------
    row : version of the deal that held at the start.
    start : day of the start; age : days since the opening, at the start.
    enter, weeks : first week at risk and end of the weeks seen (exclusive), counted from the start.
    event : OPEN (censored), WON or LOST in the last of them.
    share : of all such spells these are so many, drawn at random.
    """

    row: np.ndarray
    start: np.ndarray
    age: np.ndarray
    enter: np.ndarray
    weeks: np.ndarray
    event: np.ndarray
    share: float = 1.0

    def __len__(self) -> int:
        return len(self.row)


def spells_from_openings(history: DealHistory, as_of: float, *, since: float = -np.inf) -> Spells:
    """Every deal once, from its opening: for hazards by age and season alone.

    Parameters
    ----------
    since : weeks at risk before this day, or before the record begins, are left out; their deals enter later.
    """
    row = history.live(history.as_of(as_of))
    start = history.opened[row]
    enter = np.ceil(np.maximum(max(since, history.observed_from) - start, 0.0) / WEEK).astype(np.int64)
    return _observed(history, row, row, start, enter, as_of)


def landmark_count(as_of: float, first: float) -> int:
    """How many landmarks lie between the first day of which weeks at risk are looked at and a moment."""
    return int(max(as_of - first, 0.0) // LANDMARK_DAYS)


def spells_from_landmarks(history: DealHistory, as_of: float, *, since: float, seed: int = 0) -> Spells:
    """Deals open at moments 4, 8, 12 ... weeks before `as_of`, as they were known then.

    A deal known at a landmark but merged or deleted since is left out; so is one that had been closed already
    though nobody knew yet.
    """
    outcome_of = np.full(len(history.deal_ids), -1, dtype=np.int64)
    now = history.live(history.as_of(as_of))
    outcome_of[history.deal[now]] = now
    first = max(since, history.observed_from)
    moments = [as_of - LANDMARK_DAYS * k for k in range(1, landmark_count(as_of, first) + 1)]
    found = []
    for moment in moments:
        row = history.open_as_of(moment)
        outcome = outcome_of[history.deal[row]]
        row, outcome = row[outcome >= 0], outcome[outcome >= 0]
        unknown_then = ~(history.closed[outcome] <= moment)
        row, outcome = row[unknown_then], outcome[unknown_then]
        found.append((row, outcome, np.full(len(row), moment)))
    if not found:
        empty = np.empty(0, dtype=np.int64)
        found = [(empty, empty, np.empty(0))]
    row, outcome, start = (np.concatenate(parts) for parts in zip(*found, strict=True))
    share = 1.0
    if len(row) > MOST_LANDMARK_SPELLS:
        share = MOST_LANDMARK_SPELLS / len(row)
        kept = np.sort(np.random.default_rng(seed).choice(len(row), MOST_LANDMARK_SPELLS, replace=False))
        row, outcome, start = row[kept], outcome[kept], start[kept]
    return replace(_observed(history, row, outcome, start, np.zeros(len(row), dtype=np.int64), as_of), share=share)


def _observed(
    history: DealHistory, row: np.ndarray, outcome: np.ndarray, start: np.ndarray, enter: np.ndarray, as_of: float
) -> Spells:
    """Whole weeks that were seen. The part of a week before `as_of` is left out, with the closings in it."""
    seen = np.floor((as_of - start) / WEEK + 1e-9).astype(np.int64)
    closed = history.status[outcome] != OPEN
    last = np.where(closed, np.floor(np.maximum(np.nan_to_num(history.closed[outcome]) - start, 0.0) / WEEK), seen)
    happened = closed & (last < np.minimum(seen, LONGEST_WEEKS))
    weeks = np.where(happened, last + 1, np.minimum(seen, LONGEST_WEEKS)).astype(np.int64)
    event = np.where(happened, history.status[outcome], OPEN).astype(np.int8)
    kept = weeks > enter
    return Spells(row[kept], start[kept], (start - history.opened[row])[kept], enter[kept], weeks[kept], event[kept])


# --------------------------------------------------------------------------------------------------------------
# Features of a spell, known at its start


def start_features(history: DealHistory, row: np.ndarray, moment: np.ndarray) -> dict[str, np.ndarray]:
    """What is known at the start of a spell by name; NaN where unknown. `stage` is a code, the others numbers.

    Parameters
    ----------
    row : version that held, shape (n,); moment : as of which, shape (n,).
    """
    found: dict[str, np.ndarray] = {}
    if "stage" in history.given:
        found["stage"] = np.where(history.stage[row] >= 0, history.stage[row], np.nan)
        found["time_in_stage"] = moment - history.stage_since[row]
        found["moves_back"] = history.moves_back[row].astype(float)
    if "expected_close_date" in history.given:
        found["pushes"] = history.pushes[row].astype(float)
    if "amount_cents" in history.given:
        found["amount"] = history.amount[row]
    if history.account_series:
        found |= account_features(history.account_series, history.codes["account"][row], moment)
    return found


def band_edges(name: str, values: np.ndarray) -> np.ndarray:
    """Cuts between bands of equal mass; counts are cut at 1, 2, 3, categories between their codes."""
    known = values[np.isfinite(values)]
    if name == "stage":
        return np.arange(1, int(known.max(initial=0)) + 1) - 0.5
    if name in ("moves_back", "pushes"):
        return np.array([0.5, 1.5, 2.5])
    if name == ENGAGEMENT:
        return engagement_edges(known)
    if name == TREND:
        return trend_edges(known)
    if len(known) == 0:
        return np.empty(0)
    edges = np.unique(np.quantile(known, np.arange(1, BANDS) / BANDS))
    return edges[edges > known.min()]


def band_codes(values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """0 = missing, 1 ... len(edges) + 1 = bands from the lowest."""
    codes = np.searchsorted(edges, values, side="right") + 1
    return np.where(np.isfinite(values), codes, 0).astype(np.int64)


# --------------------------------------------------------------------------------------------------------------
# Weeks


@dataclass(frozen=True)
class Calendar:
    """Month of the fiscal quarter (0, 1, 2) and month number of any day, by table."""

    first_day: int
    month: np.ndarray
    fiscal_start_month: int

    @classmethod
    def over(cls, first: float, last: float, fiscal_start_month: int = 1) -> Calendar:
        """Days from `first` to `last`, with a year to spare at both ends."""
        low = int(first) - 400
        dates = np.arange(low, int(last) + 400).astype("datetime64[D]")
        return cls(low, dates.astype("datetime64[M]").astype(np.int64), fiscal_start_month)

    def month_of(self, day: np.ndarray) -> np.ndarray:
        """Months since January 1970."""
        place = np.clip(day.astype(np.int64) - self.first_day, 0, len(self.month) - 1)
        return self.month[place]

    def month_of_quarter(self, day: np.ndarray) -> np.ndarray:
        """0 for the first month of a fiscal quarter, 2 for its last."""
        return (self.month_of(day) - (self.fiscal_start_month - 1)) % 3


@dataclass(frozen=True)
class Cells:
    """Equal person-period rows counted once: codes by factor, shape (cells,), and counts, shape (cells, 3) by outcome."""

    codes: dict[str, np.ndarray]
    counts: np.ndarray


def count_cells(
    spells: Spells,
    static: dict[str, np.ndarray],
    sizes: dict[str, int],
    week_codes: dict[str, WeekCodes],
) -> Cells:
    """Count equal person-period rows, week by week: memory grows with spells, not with spells x weeks of detail.

    Parameters
    ----------
    static : factor -> codes at the start, shape (spells,).
    sizes : number of codes of every factor, static ones and weekly ones.
    week_codes : factor -> function (week, positions) -> codes of those spells in that week.
    """
    names = [*static, *week_codes]
    static_key = np.zeros(len(spells), dtype=np.int64)
    for name, code in static.items():
        static_key = static_key * sizes[name] + code
    keys, counts = [], []
    for week in range(int(spells.weeks.max(initial=0))):
        at_risk = np.flatnonzero((spells.enter <= week) & (week < spells.weeks))
        if len(at_risk) == 0:
            continue
        key = static_key[at_risk]
        for name, code_of in week_codes.items():
            key = key * sizes[name] + code_of(week, at_risk)
        outcome = np.where(week + 1 == spells.weeks[at_risk], spells.event[at_risk], OPEN)
        found, count = np.unique(key * 3 + outcome, return_counts=True)
        keys.append(found)
        counts.append(count)
    if not keys:
        return Cells({name: np.empty(0, dtype=np.int64) for name in names}, np.empty((0, 3)))
    key, place = np.unique(np.concatenate(keys), return_inverse=True)
    count = np.bincount(place, weights=np.concatenate(counts), minlength=len(key))
    cell, place = np.unique(key // 3, return_inverse=True)
    result = np.zeros((len(cell), 3))
    np.add.at(result, (place, key % 3), count)
    codes: dict[str, np.ndarray] = {}
    for name in reversed(names):
        codes[name] = cell % sizes[name]
        cell = cell // sizes[name]
    return Cells({name: codes[name] for name in names}, result)
