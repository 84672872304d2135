"""A person's own points on a fitted card: the same card with some rows changed, its probability made anew, and the price.

Belongs here: changing points without a fit. Does not: fitting round points that a person holds (`ml.scorecard`, by
`CardSpec.choices`), files that people edit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from ml import evaluate
from ml.calibration import calibrate, flat_calibration
from ml.card import WEIGHT_PER_POINT, Card, CardBand, points_range

BAND_PREFIX = "band__"
"""Columns of the training rows that hold the place of a deal's band: band__<criterion>."""

Row = tuple[str, str, str]
"""Segment, criterion, band: the name of a card's row."""


@dataclass(frozen=True)
class EditedCard:
    """The changed card with what it costs.

    Attributes
    ----------
    training_rows : as given, with the points out of fold changed alike; None where none were given.
    price : see `price_of_change`; empty without deals.
    """

    card: Card
    training_rows: pd.DataFrame | None
    price: dict[str, Any]


def edit_points(
    card: Card,
    points: Mapping[Row, int],
    training_rows: pd.DataFrame | None,
    *,
    expected_win_rate: float,
    expected_win_rate_deals: float,
    seed: int,
) -> EditedCard:
    """The card with these points in the named rows and all others as they are.

    The points out of fold of each deal change by the difference of its row, which no deal had a say in; so the new
    calibration is as honest as the old.

    Parameters
    ----------
    points : row -> its new points.
    training_rows : one row per deal: is_won, closed_at, fit_points, engagement_points (null = not out of fold) and
        band__<criterion>, the 1-based place of the band.

    Raises
    ------
    ValueError
        The card has no row of a given name.
    """
    rows = {(band.segment, band.criterion, band.band): band for band in card.bands}
    for name in points:
        if name not in rows:
            raise ValueError(f"the card has no row {name!r}")
    bands = tuple(_edited(band, points.get((band.segment, band.criterion, band.band))) for band in card.bands)
    edited = replace(card, bands=bands)
    changed = None
    price: dict[str, Any] = {}
    totals = np.zeros(0)
    won = np.zeros(0)
    if training_rows is not None and len(training_rows):
        changed = _moved(card, points, training_rows)
        seen = changed["fit_points"].notna().to_numpy()
        won = changed["is_won"].to_numpy(dtype=float)[seen]
        totals = (changed["fit_points"] + changed["engagement_points"]).to_numpy(dtype=float)[seen]
    lowest, highest = points_range(bands)
    expected = {"expected_win_rate": expected_win_rate, "expected_win_rate_deals": expected_win_rate_deals}
    if card.calibration.method == "flat":
        calibration = flat_calibration(won, lowest_points=lowest, highest_points=highest, **expected)
    else:
        calibration = calibrate(totals, won, lowest_points=lowest, highest_points=highest, seed=seed, **expected)
    edited = replace(edited, calibration=calibration)
    if changed is not None and training_rows is not None and len(totals):
        price = price_of_change(card, edited, training_rows, changed, seed=seed)
    return EditedCard(edited, changed, price)


def price_of_change(
    before: Card, after: Card, rows_before: pd.DataFrame, rows_after: pd.DataFrame, *, seed: int
) -> dict[str, Any]:
    """What a change of points does on the deals that closed last, each scored by a fit that had not seen it.

    Returns
    -------
    deal_count, won_count, closed_from; before and after: AUC and log_loss; gain: how much lower the log loss is after
    the change, with its 90 % interval (paired by deal). All None but the counts where the deals are too few.
    """
    seen = (rows_before["fit_points"].notna() & rows_after["fit_points"].notna()).to_numpy()
    old, new = rows_before[seen], rows_after[seen]
    closed = pd.to_datetime(old["closed_at"]).to_numpy(dtype="datetime64[us]")
    later, _ = evaluate.split_by_close_time(closed)
    won = old["is_won"].to_numpy(dtype=np.int64)[later]
    result: dict[str, Any] = {
        "deal_count": len(won),
        "won_count": int(won.sum()),
        "closed_from": str(pd.Timestamp(closed[later].min())) if later.any() else None,
        "before": None,
        "after": None,
        "gain": None,
        "gain_interval": None,
    }
    if not 0 < won.sum() < len(won):
        return result
    totals = [(rows["fit_points"] + rows["engagement_points"]).to_numpy(dtype=float)[later] for rows in (old, new)]
    chances = [card.win_probability(total)[0] for card, total in zip((before, after), totals, strict=True)]
    for name, total, chance in zip(("before", "after"), totals, chances, strict=True):
        its = evaluate.figures(won, chance, total)
        result[name] = {"auc": its["auc"], "log_loss": its["log_loss"]}
    result["gain"] = result["before"]["log_loss"] - result["after"]["log_loss"]
    intervals = evaluate.bootstrap_intervals(won, chances[1], totals[1], {"before": chances[0]}, seed=seed)
    result["gain_interval"] = intervals["gain_over_before"]
    return result


def _edited(band: CardBand, points: int | None) -> CardBand:
    if points is None or points == band.points:
        return band
    weight = points * WEIGHT_PER_POINT
    # A person's figure has no interval of its own, and nothing of it is from deals.
    return replace(
        band,
        points=points,
        weight=weight,
        weight_low=weight,
        weight_high=weight,
        data_share_pct=0.0,
        evidence=f"set to {points:+d} by hand, {band.points:+d} before ({band.won_count:,} of {band.deal_count:,} deals won)",
    )


def _moved(card: Card, points: Mapping[Row, int], rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with their points out of fold moved by the difference of their bands' points."""
    changed = rows.copy()
    segments = _segments(card, rows)
    for criterion in {name[1] for name in points}:
        numbers = rows[BAND_PREFIX + criterion].to_numpy()
        column = "fit_points"
        difference = np.zeros(len(rows), dtype=np.int64)
        for band in card.bands:
            if band.criterion != criterion:
                continue
            column = "fit_points" if band.kind == "explicit" else "engagement_points"
            name = (band.segment, band.criterion, band.band)
            if name in points:
                here = (numbers == band.band_no) & (segments == band.segment)
                difference[here] = points[name] - band.points
        changed[column] = changed[column] + difference
    return changed


def _segments(card: Card, rows: pd.DataFrame) -> np.ndarray:
    """The segment whose rows score each deal."""
    if card.segment_by is None:
        return np.full(len(rows), "", dtype=object)
    own = {band.segment for band in card.bands}
    label = {
        band.band_no: band.band if band.band in own else ""
        for band in card.bands
        if band.criterion == card.segment_by and band.segment == ""
    }
    return rows[BAND_PREFIX + card.segment_by].map(label).fillna("").to_numpy(dtype=object)
