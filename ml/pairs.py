"""Pairs of criteria that together say what neither says alone: found on earlier deals, kept if they pay on later ones.

Belongs here: the search over all pairs, the cells that get points of their own, the test on later deals. Does not:
the weights of the cells, which are fitted like those of any band (`ml.weights`), and how a pair scores (`ml.card`).

Method. As GA2M finds its pairs (Lou, Caruana, Gehrke, Hooker 2013, "Accurate intelligible models with pairwise
interactions"): the card without pairs is fitted first, and every pair's table of cells is asked how much of what that
card leaves over falls into its cells. With R the sum of the residuals of a cell and V that of p (1 - p), R^2 / V is
about chi-squared where there is nothing but chance, which gives all pairs, of few or many cells, one measure. Only
pairs beyond what the best of so many would reach by chance go on. Each in turn is fitted on the earlier deals and
kept if its log loss on the later ones is lower with 95 % confidence (bootstrap, paired by deal).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
from scipy import stats
from scipy.special import expit, log_expit, logit

from ml.card import Band, CardSpec, CriterionBands, Kind, Pair, pair_value
from ml.weights import Weights, band_design, fit_weights

RARER_FROM = 150
"""Deals of the rarer outcome from which pairs are looked for: the later third must still show a gain."""

LATER_SHARE = 1 / 3
"""Share of the deals, the newest, on which a pair must pay."""

MOST_ROWS = 150_000
"""Deals on which pairs are looked for and tested: what is too small to be seen on so many helps nobody."""

CHANCE = 0.01
"""Chance that the best of all pairs without any effect goes on to the test."""

TRIED_PER_PLACE = 2
"""Pairs that are tested for each that may be kept."""

CELL_DEALS = 20
CELL_Z = 1.5
MOST_CELLS = 24
"""A cell has points of its own from 20 deals and 1.5 standard errors on; a pair has at most 24 such cells. What is kept
by chance is drawn to 0 by the beliefs like any other band."""

BLOCKS = 2_000
ROUNDS = 400


def find_pairs(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    closed_at: np.ndarray,
    weights: Weights,
    *,
    seed: int,
) -> list[tuple[Pair, CriterionBands]]:
    """Pairs worth adding to these criteria, best first, each with its bands: cells, then "other".

    Parameters
    ----------
    codes : shape (n, criteria), 0-based bands; won : 0 or 1; closed_at : datetime64; both of shape (n,).
    weights : of the card without pairs on all these deals.
    """
    rarer = min(int(won.sum()), len(won) - int(won.sum()))
    kept: list[tuple[Pair, CriterionBands]] = [
        (p, spec.choices.locked_bands[p.name]) for p in spec.choices.locked_pairs
    ]
    if len(kept) >= spec.max_pairs or len(criteria) < 2 or rarer < RARER_FROM or weights.learnt is None:
        return kept
    step = -(-len(codes) // MOST_ROWS)
    if step > 1:
        codes, won, closed_at = np.asfortranarray(codes[::step]), won[::step], closed_at[::step]
    order = np.argsort(closed_at, kind="stable")
    last_earlier = closed_at[order[int(len(order) * (1 - LATER_SHARE)) - 1]]
    earlier, later = np.flatnonzero(closed_at <= last_earlier), np.flatnonzero(closed_at > last_earlier)
    if min(won[earlier].sum(), won[later].sum(), (1 - won[earlier]).sum(), (1 - won[later]).sum()) < RARER_FROM / 5:
        return kept
    chosen, chosen_codes = [*criteria, *(bands for _, bands in kept)], with_pair_codes(codes, criteria, kept)
    main = fit_weights(spec, chosen, chosen_codes[earlier], won[earlier])
    p = _chances(chosen, chosen_codes[earlier], main)
    found = _promising(criteria, codes[earlier], won[earlier], p, spec.max_pairs * TRIED_PER_PLACE)
    best = _later_losses(chosen, chosen_codes[later], won[later], main)
    names = {pair.name for pair, _ in kept}
    for left, right in found:
        if len(kept) >= spec.max_pairs:
            break
        bands = _pair_bands(criteria, left, right, codes[earlier], won[earlier], p)
        if bands is None or bands.name in names:
            continue
        pair = Pair(bands.name, criteria[left].name, criteria[right].name)
        tried = [*chosen, bands]
        tried_codes = with_pair_codes(chosen_codes, criteria, [(pair, bands)])  # its column goes last
        fitted = fit_weights(spec, tried, tried_codes[earlier], won[earlier])
        losses = _later_losses(tried, tried_codes[later], won[later], fitted)
        if _lower_bound(best - losses, seed) > 0:
            kept.append((pair, bands))
            chosen, chosen_codes, best = tried, tried_codes, losses
            p = _chances(chosen, chosen_codes[earlier], fitted)
    return kept


def with_pair_codes(
    codes: np.ndarray, criteria: Sequence[CriterionBands], pairs: Sequence[tuple[Pair, CriterionBands]]
) -> np.ndarray:
    """Codes with one more column per pair: the band of the pair's cell. `criteria` are those of the first columns."""
    place = {criterion.name: number for number, criterion in enumerate(criteria)}
    result = np.empty((len(codes), codes.shape[1] + len(pairs)), dtype=codes.dtype, order="F")
    result[:, : codes.shape[1]] = codes
    for number, (pair, bands) in enumerate(pairs):
        left, right = place[pair.left], place[pair.right]
        lookup = np.full((len(criteria[left].bands), len(criteria[right].bands)), len(bands.bands) - 1)
        for band_number, band in enumerate(bands.bands):
            for value in band.values or ():
                left_no, right_no = value.split("|")
                lookup[int(left_no) - 1, int(right_no) - 1] = band_number
        result[:, codes.shape[1] + number] = lookup[codes[:, left], codes[:, right]]
    return result


def _chances(criteria: Sequence[CriterionBands], codes: np.ndarray, weights: Weights) -> np.ndarray:
    assert weights.learnt is not None
    return expit(band_design(criteria, codes, weights.column).times(weights.learnt.theta))


def _cells(
    criteria: Sequence[CriterionBands], left: int, right: int, codes: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Sum of `values` per cell, shape (bands of left, bands of right)."""
    shape = (len(criteria[left].bands), len(criteria[right].bands))
    cell = codes[:, left].astype(np.int32) * shape[1] + codes[:, right]
    return np.bincount(cell, weights=values, minlength=shape[0] * shape[1]).reshape(shape)


def _promising(
    criteria: Sequence[CriterionBands], codes: np.ndarray, won: np.ndarray, p: np.ndarray, most: int
) -> list[tuple[int, int]]:
    """Pairs whose cells hold more of the residuals than chance gives the best of all pairs, surest first."""
    residual, information = won - p, p * (1 - p)
    places = list(combinations(range(len(criteria)), 2))
    scored = []
    for left, right in places:
        r, v = (_cells(criteria, left, right, codes, values) for values in (residual, information))
        seen = v >= 1.0  # under it R^2 / V is no chi-squared figure
        rows, columns = seen.any(axis=1).sum(), seen.any(axis=0).sum()
        freedom = int(seen.sum() - rows - columns + 1)
        if freedom < 1:
            continue
        chance = float(stats.chi2.logsf((r[seen] ** 2 / v[seen]).sum(), freedom))
        scored.append((chance, left, right))
    scored.sort()
    return [(left, right) for chance, left, right in scored[:most] if chance < np.log(CHANCE / len(places))]


def _pair_bands(
    criteria: Sequence[CriterionBands], left: int, right: int, codes: np.ndarray, won: np.ndarray, p: np.ndarray
) -> CriterionBands | None:
    """The cells with evidence of their own, in the order of the two criteria's bands, then "other"."""
    r = _cells(criteria, left, right, codes, won - p)
    v = _cells(criteria, left, right, codes, p * (1 - p))
    n = _cells(criteria, left, right, codes, np.ones(len(codes)))
    z = np.where(n >= CELL_DEALS, np.abs(r) / np.sqrt(np.maximum(v, 0.5)), 0.0)
    strongest = np.argsort(-z, axis=None, kind="stable")[:MOST_CELLS]
    cells = sorted(int(cell) for cell in strongest if z.flat[cell] >= CELL_Z)
    if not cells:
        return None
    one, other = criteria[left], criteria[right]
    bands = []
    for cell in cells:
        a, b = divmod(cell, z.shape[1])
        label = f"{_named(one, a)} & {_named(other, b)}"
        bands.append(Band(label, "values", values=(pair_value(a + 1, b + 1),)))
    kind: Kind = "explicit" if one.kind == other.kind == "explicit" else "implicit"
    return CriterionBands(
        f"{one.name} & {other.name}", kind, "category", (*bands, Band("other", "other", is_pinned=True))
    )


def _named(criterion: CriterionBands, place: int) -> str:
    band = criterion.bands[place]
    # "missing & other" would say nothing of which criterion.
    return f"{criterion.name} {band.label}" if band.band_type in ("missing", "other") else band.label


def _later_losses(
    criteria: Sequence[CriterionBands], codes: np.ndarray, won: np.ndarray, weights: Weights
) -> np.ndarray:
    """Log loss of each later deal, after the level is set to theirs: a new base rate is no matter of pairs."""
    assert weights.learnt is not None
    line = band_design(criteria, codes, weights.column).times(weights.learnt.theta)
    shift = float(logit((won.sum() + 0.5) / (len(won) + 1.0)) - logit(np.clip(expit(line).mean(), 1e-9, 1 - 1e-9)))
    for _ in range(20):  # Newton in one dimension on a monotone score function
        q = expit(line + shift)
        step = float((won - q).sum() / max((q * (1 - q)).sum(), 1e-9))
        shift += float(np.clip(step, -1, 1))
        if abs(step) < 1e-9:
            break
    return np.asarray(-np.where(won == 1, log_expit(line + shift), log_expit(-line - shift)))


def _lower_bound(gain: np.ndarray, seed: int) -> float:
    """5 % quantile of the mean gain over deals drawn with replacement; many deals are drawn in blocks of chance."""
    generator = np.random.default_rng(seed)
    if len(gain) > BLOCKS:
        mixed = generator.permutation(gain)
        gain = np.array([block.mean() for block in np.array_split(mixed, BLOCKS)])
    draws = generator.integers(0, len(gain), size=(ROUNDS, len(gain)))
    return float(np.quantile(gain[draws].mean(axis=1), 0.05))
