"""What changed in the open pipeline between two moments, deal by deal, to the cent.

Belongs here: the buckets, and rows for which start + change = end under any filter. Does not: forecasts.
docs/forecast.md has the same as SQL.

A deal is in exactly one bucket, the first that fits in the order of `BUCKETS`. A deal whose owner, group or promised month
changed has two rows, one that leaves under the old attributes and one that arrives under the new ones: a filter sees
the side that is its own, and the sum over both is the deal's change.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ml.forecast.history import OPEN, WON, DealHistory, day

BUCKETS = (
    "won",
    "lost",
    "merged",
    "deleted",
    "reopened",
    "new",
    "owner_moved",
    "pulled_in",
    "pushed_out",
    "up",
    "down",
    "stage_forward",
    "stage_back",
    "unchanged",
)
"""In order of precedence. `merged` and `deleted`: gone from the records, into another deal or not. `reopened`: closed, merged or deleted
before. `owner_moved`: the owner, or another attribute that is grouped by. `pulled_in`, `pushed_out`: the month promised is
an earlier or later one; no promised date is later than any. `up`, `down`: the amount alone."""

NO_MONTH = "(none)"


def pipeline_changes(
    history: DealHistory, start_at: object, end_at: object, *, dimensions: Sequence[str] = ("owner",)
) -> pd.DataFrame:
    """Changes of the open pipeline between two as-of moments, also back-dated ones.

    Parameters
    ----------
    dimensions : columns of codes in the history to filter by; those that it does not have are left out.

    Returns
    -------
    One row per deal that was open at either moment, or was closed between them, and set of attributes: `deal_id`, `bucket`,
    `side` (stayed, left, arrived), a column per dimension, `close_month` (promised, YYYY-MM), `start_cents`, `change_cents`,
    `end_cents`, `won_cents` (value of a won deal, on one row of it). Integers; no amount is 0.

    Raises
    ------
    ValueError
        The moments are not in order.
    """
    first, last = day(start_at), day(end_at)
    if first > last:
        raise ValueError(f"the start must not be after the end, got {start_at} and {end_at}")
    names = [name for name in dimensions if name in history.codes]
    before, after = (_row_of(history, moment) for moment in (first, last))
    was_live, is_live = (_among(history, rows) for rows in (before, after))
    was_open = was_live & (history.status[before] == OPEN)
    is_open = is_live & (history.status[after] == OPEN)
    closed_since = (
        is_live
        & ~is_open
        & ~was_open
        & (
            ~was_live
            | (history.status[before] != history.status[after])
            | (history.closed[before] != history.closed[after])
        )
    )
    deal = np.flatnonzero(was_open | is_open | closed_since)
    before, after = before[deal], after[deal]
    was_live, is_live, was_open, is_open = was_live[deal], is_live[deal], was_open[deal], is_open[deal]
    start_cents, end_cents = (_cents(history, rows, here) for rows, here in ((before, was_open), (after, is_open)))
    start_month, end_month = (_months(history, rows) for rows in (before, after))
    both = was_open & is_open
    moved = np.zeros(len(deal), dtype=bool)
    for name in names:
        moved |= history.codes[name][before] != history.codes[name][after]
    stage_before, stage_after = history.stage[before], history.stage[after]
    staged = (stage_before >= 0) & (stage_after >= 0)
    merged = np.zeros(len(deal), dtype=bool)
    if "merged_into" in history.codes:
        merged = history.codes["merged_into"][after] >= 0
    fits = {
        "won": is_live & ~is_open & (history.status[after] == WON),
        "lost": is_live & ~is_open,
        "merged": ~is_live & merged,
        "deleted": ~is_live,
        "reopened": ~was_open & (before >= 0),
        "new": ~was_open,
        "owner_moved": moved,
        "pulled_in": end_month < start_month,
        "pushed_out": end_month > start_month,
        "up": end_cents > start_cents,
        "down": end_cents < start_cents,
        "stage_forward": staged & (stage_after > stage_before),
        "stage_back": staged & (stage_after < stage_before),
        "unchanged": np.ones(len(deal), dtype=bool),
    }
    bucket = np.select(list(fits.values()), np.arange(len(BUCKETS)))
    won_cents = np.where(bucket == 0, _cents(history, after, is_live), 0)
    splits = both & (moved | (start_month != end_month))

    def rows(
        which: np.ndarray, side: str, version: np.ndarray, month: np.ndarray, start: np.ndarray, end: np.ndarray
    ) -> pd.DataFrame:
        frame = {
            "deal_id": history.deal_ids[deal[which]],
            "bucket": np.array(BUCKETS, dtype=object)[bucket[which]],
            "side": side,
        }
        frame |= {name: history.label_of(name, version[which]) for name in names}
        frame["close_month"] = _month_names(month[which])
        frame["start_cents"], frame["change_cents"], frame["end_cents"] = start[which], (end - start)[which], end[which]
        frame["won_cents"] = np.where(side == "left", 0, won_cents[which])
        return pd.DataFrame(frame)

    zero = np.zeros(len(deal), dtype=np.int64)
    # A deal that left the pipeline keeps the attributes that it had in it; one that came has its present ones.
    version, month = np.where(was_open, before, after), np.where(was_open, start_month, end_month)
    return pd.concat(
        [
            rows(~splits, "stayed", version, month, start_cents, end_cents),
            rows(splits, "left", before, start_month, start_cents, zero),
            rows(splits, "arrived", after, end_month, zero, end_cents),
        ],
        ignore_index=True,
    )


def waterfall(changes: pd.DataFrame) -> pd.DataFrame:
    """Steps of a waterfall from (filtered) rows of `pipeline_changes`: `step`, `deal_count`, `cents`; start + buckets = end.

    A bucket's `deal_count` is of deals, not of rows.
    """
    by_bucket = changes.groupby("bucket")
    deals, cents = by_bucket["deal_id"].nunique(), by_bucket["change_cents"].sum()
    steps = [name for name in BUCKETS if name != "unchanged"]
    started, ended = changes["side"] != "arrived", changes["side"] != "left"
    present = {
        "start": changes["start_cents"].sum(),
        "end": changes["end_cents"].sum(),
    }
    rows = [("start", int((started & (changes["start_cents"] != 0)).sum()), int(present["start"]))]
    rows += [(name, int(deals.get(name, 0)), int(cents.get(name, 0))) for name in steps]
    rows.append(("end", int((ended & (changes["end_cents"] != 0)).sum()), int(present["end"])))
    return pd.DataFrame(rows, columns=["step", "deal_count", "cents"])


def _row_of(history: DealHistory, moment: float) -> np.ndarray:
    """Version that held at a moment, by deal; -1 where there was none."""
    result = np.full(len(history.deal_ids), -1, dtype=np.int64)
    rows = history.as_of(moment)
    result[history.deal[rows]] = rows
    return result


def _among(history: DealHistory, row: np.ndarray) -> np.ndarray:
    """Which deals had a version and were neither deleted nor merged in it."""
    result = np.zeros(len(row), dtype=bool)
    live = history.live(row[row >= 0])
    result[history.deal[live]] = True
    return result


def _cents(history: DealHistory, row: np.ndarray, counts: np.ndarray) -> np.ndarray:
    amount = np.where(counts & np.isfinite(history.amount[row]), history.amount[row], 0.0)
    return np.floor(amount + 0.5).astype(np.int64)


def _months(history: DealHistory, row: np.ndarray) -> np.ndarray:
    """Months since 1970 of the promised date; a far one where none was promised."""
    promised = history.promised[row]
    known = np.isfinite(promised)
    dates = np.where(known, promised, 0).astype(np.int64).astype("datetime64[D]")
    return np.where(known, dates.astype("datetime64[M]").astype(np.int64), np.iinfo(np.int32).max)


def _month_names(month: np.ndarray) -> np.ndarray:
    known = month < np.iinfo(np.int32).max
    names = np.where(known, month, 0).astype("datetime64[M]").astype(str).astype(object)
    names[~known] = NO_MONTH
    return names
