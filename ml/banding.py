"""Where the bands lie: few, stable, readable ranges of numbers and groups of categories.

Belongs here: turning a `CriterionSpec` into `CriterionBands`, by the analyst's limits or from the deals,
and the same for a plain matrix as a scikit-learn transformer. Does not: weights (`ml.scorecard`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from ml.card import (
    Band,
    CardSpec,
    CriterionBands,
    CriterionSpec,
    Direction,
    as_numbers,
    column_of,
    range_label,
)

SUPERVISED_FROM = 50
"""Won and lost deals (each) from which outcomes may move an edge; below, edges would follow noise."""

MIN_BAND_COUNT = 5
"""A band found automatically holds at least so many deals."""

THIN_ABOVE = 100_000
"""Rows beyond which edges are found on every k-th: a quantile of 100,000 rows is good to 0.3 % of share."""

ENOUGH_FOR_A_CATEGORY = 100
"""Rows with which a value has a band of its own, however small its share."""

RARE_VALUES_DIFFER = 0.001
"""Chance below which rare values are taken to differ in their win rates."""

MOST_RARE_GROUPS = 3

MOST_TURNS = 2
"""A number's win rate may turn twice over its bands (rise, fall, rise): more turns are noise far more often than true.
Against any number of turns: a band fewer per number and AUC +0.004 on 1,000 simulated credits, -0.001 on 16,000 bank
calls; one turn at most lost 0.006 there."""

BANDS_BY_RARER = ((150, 5), (1500, 7), (math.inf, 10))
"""Most ranges of a number, by the deals of the rarer outcome: five ranges keep 90 % of what a number says, ten 98 %,
and as many deals as that are needed before ten do not follow noise."""

FEW_DEALS = 100
"""Below so many deals the edges come from the accounts of today, where those are given."""


def roundest_between(low: float, high: float, near: float, whole_numbers: bool) -> float | None:
    """The most readable number in ``(low, high]``: multiples of 100, 50, 25, 20, 10, 5, ... in this order.

    Of several multiples of the same step, the one closest to `near`. None when nothing of six decimals lies
    between (the warehouse keeps millionths).
    """
    top = max(abs(low), abs(high), 1e-6)
    if low < 0 <= high:
        return 0.0
    for exponent in range(math.floor(math.log10(top)), -7, -1):
        for digits in (10.0, 5.0, 2.5, 2.0, 1.0):
            step = digits * 10.0**exponent
            if whole_numbers and not step.is_integer():
                continue
            # 2.5 and 0.25 are no rounder than 2 or 3, but 25 and 250 are.
            if digits == 2.5 and exponent < 1:
                continue
            first = math.floor(low / step) + 1
            last = math.floor(high / step * (1 + 1e-12))
            if first <= last:
                multiple = min(max(round(near / step), first), last)
                edge = round(multiple * step, 6)
                if low < edge <= high:
                    return edge
    return None


def find_edges(
    values: np.ndarray,
    won: np.ndarray | None = None,
    *,
    max_bands: int = 5,
    min_share: float = 0.05,
    monotone: Direction | None = None,
) -> list[float]:
    """Inner edges of at most `max_bands` ranges of a number.

    Equal-mass cuts, each moved to the roundest number near it; bands under `min_share` join a neighbour; then
    neighbours join whose outcomes differ least, and, where `monotone` is asked, those out of order. Outcomes
    count only from 50 won and 50 lost deals on.

    Parameters
    ----------
    values : shape (n,), NaN = missing (ignored).
    won : shape (n,), 0 or 1; None = outcomes unknown.

    Returns
    -------
    Increasing edges; a band is ``[edge, next edge)``. Empty = one band.
    """
    known = np.isfinite(values)
    x = values[known]
    y = None if won is None else np.asarray(won, dtype=float)[known]
    if len(x) > THIN_ABOVE:
        step = math.ceil(len(x) / THIN_ABOVE)
        x, y = x[::step], None if y is None else y[::step]
    distinct, counts = np.unique(x, return_counts=True)
    if len(distinct) < 2:
        return []
    supervised = y is not None and min(y.sum(), len(y) - y.sum()) >= SUPERVISED_FROM
    cut_count = max(2 * max_bands, 10) if supervised else max_bands
    whole = bool(np.all(distinct == np.floor(distinct)))
    # share_below[k] = share of rows under distinct[k]: what any edge in (distinct[k-1], distinct[k]] cuts
    # off.
    share_below = np.concatenate([[0.0], np.cumsum(counts)[:-1] / len(x)])
    # How far a cut may move for a rounder number, in share of rows: under half the distance of two cuts,
    # so that
    # they do not swap; less where the outcomes say which cuts matter.
    tolerance = (0.25 if supervised else 0.4) / cut_count
    edges: set[float] = set()
    for cut in np.arange(1, cut_count) / cut_count:
        near = np.flatnonzero(np.abs(share_below[1:] - cut) <= tolerance) + 1
        if len(near) == 0:
            near = np.array([1 + int(np.argmin(np.abs(share_below[1:] - cut)))])
        centre = distinct[1 + int(np.argmin(np.abs(share_below[1:] - cut)))]
        edge = roundest_between(distinct[near[0] - 1], distinct[near[-1]], centre, whole)
        if edge is not None:
            edges.add(edge)
    result = sorted(edges)
    band_of = np.searchsorted(result, x, side="right")
    n = np.bincount(band_of, minlength=len(result) + 1).astype(float)
    w = np.bincount(band_of, weights=y, minlength=len(result) + 1) if y is not None else np.zeros_like(n)

    def merge(left: int) -> None:
        nonlocal n, w
        n[left] += n[left + 1]
        w[left] += w[left + 1]
        n, w = np.delete(n, left + 1), np.delete(w, left + 1)
        del result[left]

    smallest = max(min_share * len(x), MIN_BAND_COUNT)
    while result and n.min() < smallest:
        thin = int(n.argmin())
        losses = _merge_losses(n, w) if supervised else n[:-1] + n[1:]
        sides = [side for side in (thin - 1, thin) if 0 <= side < len(result)]
        merge(min(sides, key=lambda side: losses[side]))
    if monotone is not None and supervised:
        sign = 1.0 if monotone == "increasing" else -1.0
        while result:
            falls = sign * np.diff(w / n)
            worst = int(falls.argmin())
            if falls[worst] >= 0:
                break
            merge(worst)
    while supervised and monotone is None and _turns(w / n) > MOST_TURNS:
        merge(int(_merge_losses(n, w).argmin()))
    while len(result) + 1 > max_bands:
        losses = _merge_losses(n, w) if supervised else n[:-1] + n[1:]
        merge(int(losses.argmin()))
    return result


def _turns(rates: np.ndarray) -> int:
    """How often a sequence changes from rising to falling or back."""
    signs = np.sign(np.diff(rates))
    signs = signs[signs != 0]
    return int(np.count_nonzero(signs[1:] != signs[:-1]))


def _merge_losses(n: np.ndarray, w: np.ndarray) -> np.ndarray:
    """Log-likelihood lost by giving each pair of neighbours one win rate, shape (bands - 1,)."""

    def likelihood(count: np.ndarray, wins: np.ndarray) -> np.ndarray:
        rate = (wins + 0.5) / (count + 1.0)  # half a deal each way: a band without wins is no certainty
        return wins * np.log(rate) + (count - wins) * np.log1p(-rate)

    return likelihood(n[:-1], w[:-1]) + likelihood(n[1:], w[1:]) - likelihood(n[:-1] + n[1:], w[:-1] + w[1:])


def find_groups(
    column: pd.Series, won: np.ndarray | None = None, *, max_categories: int = 12, min_share: float = 0.05
) -> list[tuple[str, ...]]:
    """Bands of a category: single values, most frequent first, then groups of rare ones; the rest is "other".

    A value has a band of its own from `min_share` of the known rows on (at most 1 in 50, so that a long list of
    industries is not all "other"; 100 rows suffice anywhere), and from 5 rows. The others stay in "other" unless
    their outcomes differ by more than chance (chi-squared, 0.1 %): then they are parted in two or three groups of
    like win rates, which is where a weight of their own pays most.
    """
    known = column.notna().to_numpy()
    values = column[known].astype(str)
    counts = values.value_counts()
    if counts.empty:
        return []
    smallest = max(min(min(min_share, 0.02) * counts.sum(), ENOUGH_FOR_A_CATEGORY), MIN_BAND_COUNT)
    ordered = sorted(counts.items(), key=lambda item: (-item[1], str(item[0])))
    single: list[tuple[str, ...]] = []
    single += [(str(value),) for value, count in ordered if count >= smallest][:max_categories]
    if won is None:
        return single
    taken = {values[0] for values in single}
    rare = [str(value) for value, count in ordered if count >= MIN_BAND_COUNT and str(value) not in taken]
    wins = pd.Series(np.asarray(won, dtype=float)[known], index=values.index).groupby(values).sum()
    return single + _groups_by_rate(rare, counts[rare].to_numpy(float), wins[rare].to_numpy(float), smallest)


def _groups_by_rate(values: list[str], n: np.ndarray, w: np.ndarray, smallest: float) -> list[tuple[str, ...]]:
    """Rare values in order of win rate, cut where most likelihood is won; none where chance explains it all."""
    if len(values) < 2 or not 0 < w.sum() < n.sum():
        return []
    rate = w.sum() / n.sum()
    chi_squared = float((((w - n * rate) ** 2) / (n * rate * (1 - rate))).sum())
    if stats.chi2.sf(chi_squared, len(values) - 1) > RARE_VALUES_DIFFER:
        return []
    order = np.lexsort((np.array(values), -(w + rate) / (n + 1)))
    members = [[values[k]] for k in order]
    n, w = n[order], w[order]
    while len(members) > 1 and (len(members) > MOST_RARE_GROUPS or n.min() < smallest):
        losses = _merge_losses(n, w)
        left = int(losses.argmin())
        if len(members) <= MOST_RARE_GROUPS:
            thin = int(n.argmin())
            left = min((side for side in (thin - 1, thin) if 0 <= side < len(losses)), key=lambda side: losses[side])
        members[left] += members.pop(left + 1)
        n[left] += n[left + 1]
        w[left] += w[left + 1]
        n, w = np.delete(n, left + 1), np.delete(w, left + 1)
    # The largest of them is as good as "other", and unseen values will be like it.
    largest = int(n.argmax())
    return [tuple(sorted(group)) for number, group in enumerate(members) if number != largest]


def band_criteria(
    spec: CardSpec, X: pd.DataFrame, won: np.ndarray, population: pd.DataFrame | None = None
) -> tuple[CriterionBands, ...]:
    """Bands of every criterion of `spec`, in its order.

    Parameters
    ----------
    X : closed deals x criteria; numbers as float (NaN = missing), categories as text (None = missing). Criteria
        whose bands people locked keep those.
    won : shape (n,), 0 or 1.
    population : accounts of today x criteria; where bands are to be found and fewer than 100 deals have
        closed, edges and groups come from here.

    Raises
    ------
    ValueError
        A column is missing or holds text for a number.
    """
    source, outcome = X, won
    if population is not None and len(X) < FEW_DEALS and len(population) > len(X):
        source, outcome = population, None  # type: ignore[assignment]
    locked = spec.choices.locked_bands
    return tuple(
        _locked(criterion, locked[criterion.name])
        if criterion.name in locked
        else _band_one(spec, criterion, source, outcome)
        for criterion in spec.criteria
    )


def _locked(criterion: CriterionSpec, kept: CriterionBands) -> CriterionBands:
    """The kept bands, with the experts' points of today where the labels are the same."""
    if kept.value_type != criterion.value_type:
        raise ValueError(
            f"criterion {criterion.name}: its locked bands are those of a {kept.value_type}, it is a {criterion.value_type}"
        )
    believed = {band.label: band for band in criterion.bands or () if band.label}
    bands = tuple(
        replace(band, expert_points=believed[band.label].points, is_pinned=believed[band.label].is_pinned)
        if band.label in believed
        else band
        for band in kept.bands
    )
    return replace(kept, name=criterion.name, kind=criterion.kind, bands=bands, monotone=criterion.monotone)


def _band_one(spec: CardSpec, criterion: CriterionSpec, X: pd.DataFrame, won: np.ndarray | None) -> CriterionBands:
    column = column_of(X, criterion.name)
    bands: list[Band]
    if criterion.value_type == "number":
        values = as_numbers(criterion.name, column)
        if criterion.bands is None:
            edges = find_edges(
                values,
                won,
                max_bands=spec.max_bands if spec.max_bands is not None else automatic_max_bands(won),
                min_share=spec.min_band_share,
                monotone=criterion.monotone,
            )
            ranges = [Band("", "range", low, high) for low, high in _pairs(edges)]
        else:
            ranges = _cover_line(criterion)
        whole = criterion.whole_numbers
        if whole is None:
            finite = values[np.isfinite(values)]
            seen = finite if len(finite) else np.array([b.lower for b in ranges if b.lower is not None])
            whole = bool(np.all(seen == np.floor(seen)))
        bands = [replace(b, label=b.label or range_label(b.lower, b.upper, whole)) for b in ranges]
    else:
        if criterion.bands is None:
            groups = find_groups(column, won, max_categories=spec.max_categories, min_share=spec.min_band_share)
            bands = [Band(", ".join(values), "values", values=values) for values in groups]
        else:
            bands = [
                Band(b.label or ", ".join(b.values or ()), "values", None, None, b.values, b.points, b.is_pinned)
                for b in criterion.bands
            ]
        bands.append(Band("other", "other", expert_points=criterion.other_points))
    bands.append(Band("missing", "missing", expert_points=criterion.missing_points))
    return CriterionBands(criterion.name, criterion.kind, criterion.value_type, tuple(bands), criterion.monotone)


def automatic_max_bands(won: np.ndarray | None) -> int:
    """Most ranges of a number that these outcomes carry."""
    rarer = 0 if won is None else min(float(np.sum(won)), len(won) - float(np.sum(won)))
    return next(bands for limit, bands in BANDS_BY_RARER if rarer < limit)


def _pairs(edges: Sequence[float]) -> list[tuple[float | None, float | None]]:
    limits: list[float | None] = [None, *edges, None]
    return list(pairwise(limits))


def _cover_line(criterion: CriterionSpec) -> list[Band]:
    """The analyst's ranges in order, with ranges of `other_points` where they leave a gap."""
    result: list[Band] = []
    reached: float | None = None  # upper limit so far; None before the first band means minus infinity
    listed = sorted(criterion.bands or (), key=lambda b: -math.inf if b.lower is None else b.lower)
    for number, band in enumerate(listed):
        starts_open = band.lower is None or band.lower == -math.inf
        if not starts_open and (number == 0 or band.lower != reached):
            result.append(Band("", "range", reached, band.lower, None, criterion.other_points))
        lower = None if starts_open else band.lower
        upper = None if band.upper == math.inf else band.upper
        result.append(Band(band.label or "", "range", lower, upper, None, band.points, band.is_pinned))
        reached = upper
    if not result or reached is not None:
        result.append(Band("", "range", reached, None, None, criterion.other_points))
    return result


class Bander(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Cut every column into few readable ranges; the number of the range replaces the value.

    The same edges as a card's automatic bands, for use in a scikit-learn pipeline.

    Parameters
    ----------
    max_bands : most ranges per column.
    min_share : smallest share of the known values in a range, 0-1.
    monotone : None, "increasing" or "decreasing": order of the win rates that ranges must keep; needs `y`.

    Attributes
    ----------
    edges_ : list of arrays, inner edges per column.
    n_features_in_ : number of columns.

    Examples
    --------
    >>> import numpy as np
    >>> employees = np.repeat([3.0, 20.0, 120.0, np.nan], 25).reshape(-1, 1)
    >>> bander = Bander(max_bands=3).fit(employees)
    >>> bander.transform([[3.0], [20.0], [5000.0], [np.nan]]).ravel().tolist()
    [0, 1, 2, 3]
    """

    def __init__(self, max_bands: int = 5, min_share: float = 0.05, monotone: Direction | None = None) -> None:
        self.max_bands = max_bands
        self.min_share = min_share
        self.monotone = monotone

    def fit(self, X, y=None):
        """Find the edges. X: (n, p) numbers, NaN = missing. y: (n,) two outcomes, or anything else =
        not used.
        """
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        if self.max_bands < 1:
            raise ValueError(f"max_bands must be at least 1, got {self.max_bands}")
        won = None
        if y is not None:
            classes, codes = np.unique(np.asarray(y), return_inverse=True)
            if len(classes) == 2 and len(codes) == len(X):
                won = codes
        if self.monotone is not None and won is None:
            raise ValueError(f"monotone={self.monotone!r} needs y with two outcomes")
        self.edges_ = [
            np.array(
                find_edges(
                    X[:, number],
                    won,
                    max_bands=self.max_bands,
                    min_share=self.min_share,
                    monotone=self.monotone,
                )
            )
            for number in range(X.shape[1])
        ]
        return self

    def transform(self, X):
        """Range numbers, (n, p) int64: 0 to the number of edges; one more for missing."""
        check_is_fitted(self)
        X = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan", reset=False)
        codes = np.empty(X.shape, dtype=np.int64)
        for number, edges in enumerate(self.edges_):
            codes[:, number] = np.searchsorted(edges, X[:, number], side="right")
            codes[np.isnan(X[:, number]), number] = len(edges) + 1
        return codes

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = []
        return tags
