"""Weights of bands: what criteria, choices of people and closed deals together make of them.

Belongs here: codes of bands, limits that people set, the fit of all bands on one set of deals. Does not: finding
bands (`ml.banding`) or pairs (`ml.pairs`), segments (`ml.segments`), the solver (`ml.classifier`), rows of a card
(`ml.scorecard`).

Level. Raising all bands of a criterion and lowering the intercept by as much changes no prediction: deals
cannot see it, only the pseudo-deals can. So the level of each criterion stays where the experts put it:
their scale survives the fit, and "missing" without an opinion or deals stays at 0. No further centring is
done. Where people pin a band, the average of the criterion's other bands stays where it was without the pin:
otherwise they would all follow it, and a pin of -30 would mean nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.isotonic import IsotonicRegression

from ml.card import WEIGHT_PER_POINT, Band, CardSpec, CriterionBands, column_of
from ml.classifier import LARGEST_BELIEF, BandDesign, Beliefs, Learnt, Level, count_identical, learn_weights
from ml.woe import (
    LEAST_SHARE,
    MOST_ROWS,
    ORIGINS,
    RARER_FROM,
    WORTHS,
    WoeBelief,
    choose_on_later_deals,
    fit_woe,
)

VARIANCE_ROWS = 2_000
"""Rows on which the variance of a total is computed: it is a smooth function of the total."""


@dataclass(frozen=True)
class Limits:
    """What people hold, per band in the order of criteria and bands: least and most log-odds; equal = pinned."""

    lower: np.ndarray
    upper: np.ndarray

    @property
    def is_pinned(self) -> np.ndarray:
        return np.asarray(self.lower == self.upper)


def limits_of(spec: CardSpec, criteria: Sequence[CriterionBands]) -> Limits:
    """Pins and signs of the specification on these bands; those for criteria that are not there are left out.

    Raises
    ------
    ValueError
        A pin names a band that its criterion has not.
    """
    asked = {criterion.name: criterion.sign for criterion in spec.criteria}
    offsets = band_offsets(criteria)
    lower, upper = np.full(offsets[-1], -np.inf), np.full(offsets[-1], np.inf)
    for criterion, offset in zip(criteria, offsets[:-1], strict=True):
        sign = spec.choices.signs.get(criterion.name, asked.get(criterion.name))
        pins = {
            pin.band: pin.points for pin in spec.choices.pins if pin.criterion == criterion.name and not pin.segment
        }
        check_pins(criterion, pins)
        for place, band in enumerate(criterion.bands):
            at = offset + place
            if sign == "positive" and band.band_type != "missing":
                lower[at] = 0.0
            if sign == "negative" and band.band_type != "missing":
                upper[at] = 0.0
            if band.is_pinned:
                lower[at] = upper[at] = band.expert_points * WEIGHT_PER_POINT
            if band.label in pins:
                lower[at] = upper[at] = pins[band.label] * WEIGHT_PER_POINT
    return Limits(lower, upper)


def check_pins(criterion: CriterionBands, labels: Sequence[str] | dict[str, int]) -> None:
    """ValueError for a pin on a band that is not there: silence would drop what a person decided."""
    known = [band.label for band in criterion.bands]
    for label in labels:
        if label not in known:
            raise ValueError(
                f"criterion {criterion.name}: the pinned band {label!r} is not among its bands ({', '.join(known)}); "
                "lock the bands together with the pin"
            )


@dataclass(frozen=True)
class Weights:
    """Weights of all bands, in the order of the criteria and their bands; every array has shape (bands,).

    `learnt` has one column per group of tied bands: `column` names each band's, 1-based (0 is the intercept).
    Without won or lost deals there is nothing learnt, and `covariance` is that of the beliefs, shape
    (1 + columns, 1 + columns). `woe_shift`, shape (bands,), is what of `mean` is owed to the weights of evidence.
    """

    mean: np.ndarray
    sd: np.ndarray
    data_share: np.ndarray
    trust: float
    belief_deals: float
    column: np.ndarray
    covariance: np.ndarray
    learnt: Learnt | None
    woe_belief: WoeBelief | None = None
    woe_shift: np.ndarray | None = None


def encode(criteria: Sequence[CriterionBands], X: pd.DataFrame) -> np.ndarray:
    """Band positions, shape (deals, criteria), int16, 0-based within the criterion, in column order."""
    codes = np.empty((len(X), len(criteria)), dtype=np.int16, order="F")
    for number, criterion in enumerate(criteria):
        codes[:, number] = criterion.encode(column_of(X, criterion.name))
    return codes


def band_offsets(criteria: Sequence[CriterionBands]) -> np.ndarray:
    """Place of each criterion's first band among all bands, and their number at the end."""
    return np.concatenate([[0], np.cumsum([len(c.bands) for c in criteria])]).astype(np.int64)


def total_points(points: np.ndarray, criteria: Sequence[CriterionBands], codes: np.ndarray) -> np.ndarray:
    """Total points of every row of `codes`, int64."""
    total = np.zeros(len(codes), dtype=np.int64)
    for number, offset in enumerate(band_offsets(criteria)[:-1]):
        total += points[offset + codes[:, number]]
    return total


def total_weight(mean: np.ndarray, criteria: Sequence[CriterionBands], codes: np.ndarray) -> np.ndarray:
    """Log-odds of every row of `codes` but for the intercept, shape (rows,)."""
    total = np.zeros(len(codes))
    for number, offset in enumerate(band_offsets(criteria)[:-1]):
        total += mean[offset + codes[:, number]]
    return total


def believed_weights(spec: CardSpec, criteria: Sequence[CriterionBands]) -> Weights:
    """The experts' weights at face value within the limits of people: the card before there is anything to learn."""
    limits = limits_of(spec, criteria)
    expert = _expert_weights(criteria)
    mean = np.clip(expert, limits.lower, limits.upper)
    p0 = np.clip(expit(mean), LARGEST_BELIEF, 1 - LARGEST_BELIEF)
    precision = spec.belief_deals * p0 * (1 - p0)
    covariance = np.diag(np.concatenate([[0.0], np.where(limits.is_pinned, 0.0, 1 / precision)]))
    column = 1 + np.arange(len(mean))
    sd = contrast_sd(criteria, covariance[1:, 1:], precision)
    return Weights(mean, sd, np.zeros(len(mean)), 1.0, spec.belief_deals, column, covariance, None)


def fit_weights(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    *,
    like: Weights | None = None,
    column: np.ndarray | None = None,
    level_of: np.ndarray | None = None,
) -> Weights:
    """Fit all bands; `like` fixes trust and beliefs at those of another fit; `column` gives bands a common one;
    `level_of` are the weights, shape (bands,), whose levels criteria with pins keep (None = those without the pins).

    A criterion that must be monotone and is not has its two worst neighbours tied and is fitted again:
    pooling of adjacent violators on the joint likelihood.
    """
    offsets = band_offsets(criteria)
    limits = limits_of(spec, criteria)
    pinned_criteria = _with_pins(criteria, limits)
    if pinned_criteria and level_of is None:
        level_of = (
            like.mean if like is not None else fit_weights(_without_pins(spec), _unpinned(criteria), codes, won).mean
        )
    if column is None:
        column = 1 + np.arange(offsets[-1]) if like is None else like.column
    expert = _expert_weights(criteria)
    group_of_band = np.repeat(np.arange(len(criteria)), np.diff(offsets))
    count = int(column.max())
    bands_per_column = np.bincount(column - 1, minlength=count).astype(float)
    group = np.zeros(count, dtype=int)
    group[column - 1] = group_of_band
    lower, upper = np.full(count, -np.inf), np.full(count, np.inf)
    np.maximum.at(lower, column - 1, limits.lower)
    np.minimum.at(upper, column - 1, limits.upper)
    beliefs = Beliefs(
        expert=np.bincount(column - 1, weights=expert, minlength=count) / bands_per_column,
        scale=bands_per_column,
        group=group,
        chains=_chains(criteria, offsets, column),
        lower=lower,
        upper=np.maximum(upper, lower),
        levels=tuple(
            level
            for number in pinned_criteria
            if (level := _level(criteria, number, codes, column, limits, level_of)) is not None
        ),
    )
    distinct, wins, losses = count_identical(codes, won)
    deals = (wins + losses).astype(float)
    learnt = learn_weights(
        band_design(criteria, distinct, column),
        wins / deals,
        deals,
        beliefs,
        prior_trust=spec.trust,
        trust_sd=spec.trust_sd,
        belief_deals=spec.belief_deals,
        belief_grid=spec.belief_grid,
        like=None if like is None or like.learnt is None or len(like.learnt.theta) != count + 1 else like.learnt,
    )
    mean = learnt.theta[column]
    tied = _tie_worst(criteria, offsets, mean, column, limits.is_pinned)
    if tied is not None:
        return fit_weights(spec, criteria, codes, won, like=like, column=tied, level_of=level_of)
    precision = (np.diag(learnt.prior.precision(learnt.prior.centre))[1:] / bands_per_column)[column - 1]
    sd = np.where(limits.is_pinned, 0.0, contrast_sd(criteria, learnt.covariance[np.ix_(column, column)], precision))
    share = np.where(limits.is_pinned, 0.0, learnt.data_share[column - 1])
    return Weights(mean, sd, share, learnt.trust, learnt.belief, column, learnt.covariance, learnt)


def with_woe(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: Weights,
    belief: WoeBelief | None,
) -> Weights:
    """The joint fit of these deals with the share of weights of evidence mixed in (None = as it is).

    Each criterion keeps its level, a band without deals its belief, and what people hold holds. Not knowing which of
    the two is right enters the intervals.
    """
    if belief is None:
        return weights
    limits = limits_of(spec, criteria)
    distinct, wins, losses = count_identical(codes, won)
    woe = fit_woe(belief, band_offsets(criteria), _expert_weights(criteria), distinct, wins, losses)
    apart = np.zeros(len(weights.mean))
    for number, (begin, end) in enumerate(pairwise(woe.offsets)):
        count = np.bincount(distinct[:, number], weights=wins + losses, minlength=end - begin)
        count[limits.is_pinned[begin:end]] = 0.0
        if count.sum() > 0:
            apart[begin:end] = woe.weight[begin:end] - weights.mean[begin:end]
            apart[begin:end] -= count @ apart[begin:end] / count.sum()
            apart[begin:end][count == 0] = 0.0  # pinned, or nothing is known of it
    mean = within_limits(criteria, limits, weights.mean + belief.share * apart, 1 / np.maximum(weights.sd, 1e-6) ** 2)
    sd = np.sqrt(weights.sd**2 + belief.share * (1 - belief.share) * apart**2)
    return replace(weights, mean=mean, sd=sd, woe_belief=belief, woe_shift=mean - weights.mean)


def within_limits(
    criteria: Sequence[CriterionBands], limits: Limits, mean: np.ndarray, certainty: np.ndarray
) -> np.ndarray:
    """Weights moved no further than signs and asked directions demand, the surest ones least."""
    result = mean.copy()
    for criterion, offset in zip(criteria, band_offsets(criteria)[:-1], strict=True):
        if criterion.monotone is not None:
            ranges = np.arange(offset, offset + len(criterion.bands) - 1)
            ranges = ranges[~limits.is_pinned[ranges]]
            order = IsotonicRegression(increasing=criterion.monotone == "increasing")
            result[ranges] = order.fit_transform(
                np.arange(len(ranges)), mean[ranges], sample_weight=np.minimum(certainty[ranges], 1e9)
            )
    return np.clip(result, limits.lower, limits.upper)


def learn_woe_belief(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    closed_at: np.ndarray,
    weights: Weights,
) -> WoeBelief | None:
    """How much of the weights of evidence deals closed later ask for; None where that is nothing, or deals are few.

    Parameters
    ----------
    codes : shape (n, criteria); won : 0 or 1; closed_at : datetime64; weights : the joint fit of all of them.
    """
    if weights.learnt is None or min(won.sum(), len(won) - won.sum()) < RARER_FROM:
        return None
    rows = np.argsort(closed_at, kind="stable")[:: -(-len(won) // MOST_ROWS)]
    tried = [WoeBelief(1.0, weights.trust, worth * weights.belief_deals, len(criteria)) for worth in WORTHS]
    known = replace(spec, belief_deals=weights.belief_deals, belief_grid=(weights.belief_deals,))
    offsets = band_offsets(criteria)
    expert = _expert_weights(criteria)
    lines = []
    for begin, end in pairwise(int(share * len(rows)) for share in ORIGINS):
        earlier, later = np.asfortranarray(codes[rows[:begin]]), codes[rows[begin:end]]
        y, y_later = won[rows[:begin]], won[rows[begin:end]]
        if min(y.sum(), len(y) - y.sum()) < 2 or min(y_later.sum(), len(y_later) - y_later.sum()) < 1:
            continue
        # What each criterion deserves is learnt anew: the whole fit has seen the later deals.
        joint = total_weight(fit_weights(known, criteria, earlier, y).mean, criteria, later)
        distinct, wins, losses = count_identical(earlier, y)
        alone = [fit_woe(belief, offsets, expert, distinct, wins, losses).line(later) for belief in tried]
        lines.append((joint, alone, y_later.astype(float)))
    if not lines:
        return None
    best, share = choose_on_later_deals(lines)
    return replace(tried[best], share=share) if share >= LEAST_SHARE else None


def _expert_weights(criteria: Sequence[CriterionBands]) -> np.ndarray:
    return np.array([b.expert_points for c in criteria for b in c.bands], dtype=float) * WEIGHT_PER_POINT


def is_rest(band: Band) -> bool:
    """The rest of a pair: at 0 points by what a pair is, not by anyone's choice."""
    return band.band_type == "other" and band.is_pinned and band.expert_points == 0


def _with_pins(criteria: Sequence[CriterionBands], limits: Limits) -> list[int]:
    offsets = band_offsets(criteria)
    return [
        number
        for number, criterion in enumerate(criteria)
        if any(
            limits.is_pinned[offsets[number] + place] and not is_rest(band)
            for place, band in enumerate(criterion.bands)
        )
        and not any(is_rest(band) for band in criterion.bands)  # a pair's level is held by its rest
    ]


def _without_pins(spec: CardSpec) -> CardSpec:
    return replace(spec, choices=replace(spec.choices, pins=()))


def _unpinned(criteria: Sequence[CriterionBands]) -> tuple[CriterionBands, ...]:
    return tuple(
        replace(c, bands=tuple(b if is_rest(b) else replace(b, is_pinned=False) for b in c.bands)) for c in criteria
    )


def _level(
    criteria: Sequence[CriterionBands],
    number: int,
    codes: np.ndarray,
    column: np.ndarray,
    limits: Limits,
    level_of: np.ndarray | None,
) -> Level | None:
    """The level of a criterion's bands that are not pinned, by their deals; None where all are."""
    assert level_of is not None
    offsets = band_offsets(criteria)
    bands = np.arange(offsets[number], offsets[number + 1])
    deals = np.bincount(codes[:, number], minlength=len(bands)).astype(float)
    deals[np.isin(column[bands], column[bands[limits.is_pinned[bands]]])] = 0.0
    if deals.sum() == 0:
        return None
    shares = np.bincount(column[bands] - 1, weights=deals / deals.sum(), minlength=int(column.max()))
    return Level(shares, float(deals @ level_of[bands] / deals.sum()))


def band_design(criteria: Sequence[CriterionBands], codes: np.ndarray, column: np.ndarray) -> BandDesign:
    """The rows as the solver sees them; `column` is 1-based, per band."""
    offsets = band_offsets(criteria)
    columns = tuple(column[begin:end] for begin, end in pairwise(offsets))
    return BandDesign(codes, columns, 1 + int(column.max(initial=0)))


def total_variance(
    criteria: Sequence[CriterionBands], codes: np.ndarray, weights: Weights
) -> tuple[np.ndarray, np.ndarray]:
    """Variance of single rows' log-odds against that of the average row, and the rows that were looked at.

    The level that all rows share is left to the calibration, which sees it.
    """
    rows = np.unique(np.linspace(0, len(codes) - 1, min(VARIANCE_ROWS, len(codes))).astype(int))
    design = band_design(criteria, codes[rows], weights.column)
    average = design.transposed_times(np.full(len(rows), 1 / max(len(rows), 1)))
    average[0] = 0.0
    inner = weights.covariance.copy()
    inner[0, :] = inner[:, 0] = 0.0
    toward = inner @ average
    variance = design.variance(inner) - 2 * design.times(toward) + average @ toward
    return np.maximum(variance, 0.0), rows


def _chains(criteria: Sequence[CriterionBands], offsets: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, ...]:
    """The 0-based columns of each number's ranges in order; tied ranges are one column."""
    chains = []
    for criterion, offset in zip(criteria, offsets[:-1], strict=True):
        ranges = [column[offset + k] - 1 for k, band in enumerate(criterion.bands) if band.band_type == "range"]
        if len(chain := list(dict.fromkeys(ranges))) > 1:
            chains.append(np.array(chain, dtype=int))
    return tuple(chains)


def _tie_worst(
    criteria: Sequence[CriterionBands],
    offsets: np.ndarray,
    mean: np.ndarray,
    column: np.ndarray,
    is_pinned: np.ndarray,
) -> np.ndarray | None:
    """Columns with the worst pair of each non-monotone criterion made one; None when all are in order.

    Two pins out of order stay as they are: a person's points go before a person's order.
    """
    tied = column.copy()
    for number, criterion in enumerate(criteria):
        if criterion.monotone is None:
            continue
        ranges = np.arange(offsets[number], offsets[number] + len(criterion.bands) - 1)
        rises = np.diff(mean[ranges]) * (1 if criterion.monotone == "increasing" else -1)
        rises[is_pinned[ranges][1:] & is_pinned[ranges][:-1]] = 0.0
        if len(rises) and rises.min() < -1e-9:
            worst = int(rises.argmin())
            tied[tied == tied[ranges[worst + 1]]] = tied[ranges[worst]]
    if np.array_equal(tied, column):
        return None
    return 1 + np.unique(tied, return_inverse=True)[1]


def contrast_sd(criteria: Sequence[CriterionBands], covariance: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Standard deviation of each band against the mean of its criterion's bands (weighted by the belief)."""
    variance = np.diag(covariance).copy()
    offsets = band_offsets(criteria)
    for begin, end in pairwise(offsets):
        share = precision[begin:end] / max(precision[begin:end].sum(), 1e-300)
        contrast = np.eye(end - begin) - share[None, :]
        variance[begin:end] = np.diag(contrast @ covariance[begin:end, begin:end] @ contrast.T)
    return np.sqrt(np.maximum(variance, 0.0))
