"""Segments: weights of a region, product line or team that borrow from the whole what their own deals do not say.

Belongs here: the joint fit of the common weights and the segments' differences. Does not: the common weights alone
(`ml.weights`), which segment an account is in (`ml.card`).

Method. Partial pooling by the device that holds all weights: a segment's weight is the common one plus a difference,
and every difference enters with T pseudo-deals at 0, half of them won. Common weights and differences are fitted
together, so that no deal counts twice. T is learnt: each value of a grid that ends at "no differences at all" has a
marginal likelihood, and the fits are averaged with these as weights (Hoeting et al. 1999, "Bayesian model averaging"),
which no few deals can tip over as they would a choice. The level of a segment is the weight of its own band in the
criterion that makes the segments; differences of that criterion are not fitted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, log_expit, softmax

from ml.card import WEIGHT_PER_POINT, CardSpec, CriterionBands
from ml.classifier import LONGEST_STEP, BandDesign
from ml.weights import Limits, Weights, band_design, band_offsets, check_pins, contrast_sd, limits_of, within_limits

STRENGTHS = (4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 1024.0, math.inf)
"""Deals that "this segment is like the whole" may be worth, per band; inf = it is the whole."""

LOG_4 = math.log(4.0)

LEAST_CHANCE = 0.03
"""Strengths less likely than this are left out of the average."""

CHANCE_OF_NO_DIFFERENCE = 0.5
"""Before any deal: that segments do not differ. With none at all, tables of 80 won deals were made worse by segments."""

CHANCE_OF_NO_DIFFERENCE_IN_INTERVALS = 0.1
"""The same for how wide intervals are: what guards the weights against noise must not vouch for them. With 0.5 the
intervals of segments that differ by 0.5 held 83 % of the planted weights, not 86 %."""

MANY_DEALS = 20_000
"""Deals from which strengths are sorted out on one Gaussian before they are fitted."""


@dataclass(frozen=True)
class SegmentWeights:
    """Weights of all bands in each segment.

    Attributes
    ----------
    labels : names of the segments; places : their 0-based bands in the criterion that makes them.
    mean, sd, data_share : shape (segments, bands), as in `Weights`.
    common : weights for everybody else, from the same joint fit.
    strengths : deals that likeness is worth -> its chance.
    """

    labels: tuple[str, ...]
    places: tuple[int, ...]
    mean: np.ndarray
    sd: np.ndarray
    data_share: np.ndarray
    common: Weights
    strengths: Mapping[float, float]


@dataclass(frozen=True)
class _Part:
    """The deals of one segment; `held` are columns that people pinned there, with their weights."""

    design: BandDesign
    won: np.ndarray
    held: np.ndarray
    held_at: np.ndarray

    def weights(self, common: np.ndarray, own: np.ndarray, difference: np.ndarray) -> np.ndarray:
        theta = common.copy()
        theta[own] += difference
        theta[self.held] = self.held_at
        return theta

    def look(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Gradient and information of the deals at theta, none of it on columns that are held."""
        p = expit(self.design.times(theta))
        gradient = self.design.transposed_times(p - self.won)
        information = self.design.information(p * (1 - p))
        gradient[self.held] = 0.0
        information[self.held, :] = 0.0
        information[:, self.held] = 0.0
        return gradient, information

    def loss(self, theta: np.ndarray) -> float:
        line = self.design.times(theta)
        return float(-(self.won @ log_expit(line)) - (1 - self.won) @ log_expit(-line))


@dataclass(frozen=True)
class _Joint:
    """Mode and covariance of common weights and differences at one strength."""

    theta: np.ndarray
    difference: np.ndarray
    common_covariance: np.ndarray
    segment_covariance: list[np.ndarray]
    own_share: np.ndarray
    log_evidence: float


def fit_segments(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: Weights,
    *,
    pair_names: Sequence[str] = (),
    strengths: Mapping[float, float] | None = None,
) -> SegmentWeights | None:
    """Weights of each segment that has a closed deal or a pin; None where there is none.

    Parameters
    ----------
    weights : of the card without segments on these deals.
    pair_names : criteria that keep the common weights.
    strengths : chances from another fit, to be used as they are.
    """
    names = [criterion.name for criterion in criteria]
    if spec.segment_by not in names or weights.learnt is None:
        return None
    by = names.index(spec.segment_by)
    pins = [pin for pin in spec.choices.pins if pin.segment]
    pinned_in = {pin.segment for pin in pins}
    count = np.bincount(codes[:, by], minlength=len(criteria[by].bands))
    places = tuple(
        place
        for place, band in enumerate(criteria[by].bands)
        if band.band_type == "values" and (count[place] or band.label in pinned_in)
    )
    labels = tuple(criteria[by].bands[place].label for place in places)
    for missing in sorted(pinned_in - set(labels)):
        raise ValueError(f"segment {missing!r} has pinned points but is no band of {spec.segment_by}")
    if not places:
        return None
    limits = limits_of(spec, criteria)
    offsets = band_offsets(criteria)
    column = weights.column
    shared = {by, *(names.index(name) for name in pair_names)}
    free = np.zeros(len(weights.learnt.theta), dtype=bool)
    for number in range(len(criteria)):
        if number not in shared:
            free[column[offsets[number] : offsets[number + 1]]] = True
    free[column[limits.is_pinned]] = False
    own = np.flatnonzero(free)
    design = band_design(criteria, codes, column)
    parts, held_bands = [], []
    for place, label in zip(places, labels, strict=True):
        bands: dict[int, float] = {}
        for number, criterion in enumerate(criteria):
            its = {pin.band: pin.points for pin in pins if pin.segment == label and pin.criterion == criterion.name}
            check_pins(criterion, its)
            for at, band in enumerate(criterion.bands):
                if band.label in its:
                    bands[int(offsets[number]) + at] = its[band.label] * WEIGHT_PER_POINT
        held_bands.append(bands)
        held = np.array([column[band] for band in bands], dtype=int)
        rows = np.flatnonzero(codes[:, by] == place)
        parts.append(_Part(design.take(rows), won[rows].astype(float), held, np.array(list(bands.values()))))
    rows = np.flatnonzero(~np.isin(codes[:, by], places))
    rest = _Part(design.take(rows), won[rows].astype(float), np.empty(0, dtype=int), np.empty(0))
    scale = np.bincount(column, minlength=len(free)).astype(float)[own]
    model = _Model(weights, parts, rest, own, scale, ~_pinned_columns(limits, column, len(free)))
    tried = tuple(strengths) if strengths is not None else model.strengths_to_try(len(codes))
    start = np.zeros((len(parts), len(own)))
    theta = weights.learnt.theta
    fits: dict[float, _Joint] = {}
    for strength in sorted(tried, reverse=True):  # from the whole to ever freer segments: each starts near its mode
        fits[strength] = model.fit(strength, theta, start)
        theta, start = fits[strength].theta, fits[strength].difference
    chances = dict(strengths) if strengths is not None else _chances(fits, CHANCE_OF_NO_DIFFERENCE)
    doubted = chances if strengths is not None else _chances(fits, CHANCE_OF_NO_DIFFERENCE_IN_INTERVALS)
    return _averaged(criteria, weights, limits, own, labels, places, fits, chances, doubted, held_bands)


def _pinned_columns(limits: Limits, column: np.ndarray, count: int) -> np.ndarray:
    pinned = np.zeros(count, dtype=bool)
    pinned[column[limits.is_pinned]] = True
    return pinned


@dataclass(frozen=True)
class _Model:
    weights: Weights
    parts: list[_Part]
    rest: _Part
    own: np.ndarray
    scale: np.ndarray
    free: np.ndarray

    def strengths_to_try(self, deal_count: int) -> tuple[float, ...]:
        """All strengths; of many deals those that are not ruled out by the Gaussian round the common weights, and the
        next freer one: that Gaussian takes segments for more alike than they are.
        """
        if deal_count < MANY_DEALS:
            return STRENGTHS
        assert self.weights.learnt is not None
        theta = self.weights.learnt.theta
        zero = np.zeros(len(self.own))
        looks = [part.look(part.weights(theta, self.own, zero)) for part in self.parts]
        _, rest = self.rest.look(theta)
        common = rest + self.weights.learnt.prior.precision(theta) + sum(h for _, h in looks)
        evidence = []
        for strength in STRENGTHS:
            if math.isinf(strength):
                evidence.append(-0.5 * _log_determinant(common[np.ix_(self.free, self.free)]))
                continue
            precision = 0.25 * strength * self.scale
            schur = common.copy()
            pull = np.zeros(len(theta))
            found = 0.0
            for gradient, information in looks:
                cross = information[:, self.own]
                inner = cho_factor(information[np.ix_(self.own, self.own)] + np.diag(precision))
                toward = cho_solve(inner, -gradient[self.own])
                schur -= cross @ cho_solve(inner, cross.T)
                pull -= cross @ toward
                found += 0.5 * (np.log(precision).sum() - 2 * np.log(np.diag(inner[0])).sum())
                found += 0.5 * float(-gradient[self.own] @ toward)
            inside = np.ix_(self.free, self.free)
            found += 0.5 * float(pull[self.free] @ np.linalg.solve(schur[inside], pull[self.free]))
            evidence.append(found - 0.5 * _log_determinant(schur[inside]))
        likely = np.flatnonzero(softmax(np.array(evidence)) >= LEAST_CHANCE / 10)
        return STRENGTHS[max(int(likely.min()) - 1, 0) : int(likely.max()) + 1]

    def loss(self, theta: np.ndarray, difference: np.ndarray, strength: float) -> float:
        assert self.weights.learnt is not None
        total = self.rest.loss(theta) + self.weights.learnt.prior.loss(theta)
        for part, own in zip(self.parts, difference, strict=True):
            total += part.loss(part.weights(theta, self.own, own))
        if math.isfinite(strength):
            total -= (
                0.5 * strength * float((self.scale * (log_expit(difference) + log_expit(-difference) + LOG_4)).sum())
            )
        return total

    def fit(self, strength: float, theta: np.ndarray, difference: np.ndarray) -> _Joint:
        """Newton's method on the arrow-shaped Hessian: differences of two segments meet only in the common weights."""
        assert self.weights.learnt is not None
        prior = self.weights.learnt.prior
        theta, difference = theta.copy(), difference.copy()
        inside = np.ix_(self.free, self.free)
        # At infinite strength the differences are held at 0 by a precision that no deals overcome.
        deals = min(strength, 1e9) * self.scale
        value = self.loss(theta, difference, min(strength, 1e9))
        for final in range(40):
            looks = [
                part.look(part.weights(theta, self.own, d)) for part, d in zip(self.parts, difference, strict=True)
            ]
            gradient, common = self.rest.look(theta)
            gradient = gradient + prior.gradient(theta) + sum(g for g, _ in looks)
            common = common + prior.precision(theta) + sum(h for _, h in looks)
            q = expit(difference)
            inner = [
                cho_factor(h[np.ix_(self.own, self.own)] + np.diag(deals * share * (1 - share)))
                for (_, h), share in zip(looks, q, strict=True)
            ]
            pulls = [g[self.own] + deals * (share - 0.5) for (g, _), share in zip(looks, q, strict=True)]
            crosses = [h[:, self.own] for _, h in looks]
            solved = [cho_solve(factor, cross.T) for factor, cross in zip(inner, crosses, strict=True)]
            schur = common - sum(cross @ part for cross, part in zip(crosses, solved, strict=True))
            right = gradient - sum(part.T @ pull for part, pull in zip(solved, pulls, strict=True))
            step = np.zeros(len(theta))
            step[self.free] = np.linalg.solve(schur[inside], right[self.free])
            steps = np.array(
                [
                    cho_solve(factor, pull - cross.T @ step)
                    for factor, pull, cross in zip(inner, pulls, crosses, strict=True)
                ]
            )
            if max(np.abs(step).max(), np.abs(steps).max(initial=0.0)) < 1e-6 or final == 39:
                break
            size = min(1.0, LONGEST_STEP / max(np.abs(step).max(), np.abs(steps).max(initial=0.0)))
            while True:
                candidate = theta - size * step, difference - size * steps
                new = self.loss(*candidate, min(strength, 1e9))
                if new <= value + 1e-12 * abs(value) or size < 1e-4:
                    break
                size /= 2
            theta, difference = candidate
            value = new
        whole = np.zeros_like(common)
        whole[inside] = np.linalg.inv(schur[inside])
        covariances, shares = [], np.zeros((len(self.parts), len(theta)))
        for number, ((_, h), factor, part) in enumerate(zip(looks, inner, solved, strict=True)):
            its = whole.copy()
            cross = -whole @ part.T
            its[:, self.own] += cross
            its[self.own, :] += cross.T
            its[np.ix_(self.own, self.own)] += cho_solve(factor, np.eye(len(self.own))) + part @ whole @ part.T
            covariances.append(its)
            information = np.diag(h)[self.own]
            shares[number, self.own] = information / (information + 0.25 * deals)
        evidence = -value - 0.5 * _log_determinant(schur[inside])
        for factor in inner:
            evidence += 0.5 * float(np.log(0.25 * deals).sum()) - float(np.log(np.diag(factor[0])).sum())
        return _Joint(theta, difference, whole, covariances, shares, evidence)


def _chances(fits: Mapping[float, _Joint], no_difference: float) -> dict[float, float]:
    """Chance of each strength from its marginal likelihood and the one before it, unlikely ones left out."""
    finite = len(STRENGTHS) - 1
    before = [no_difference if math.isinf(s) else (1 - no_difference) / finite for s in fits]
    chance = softmax(np.array([joint.log_evidence for joint in fits.values()]) + np.log(before))
    kept = {s: float(c) for s, c in zip(fits, chance, strict=True) if c >= LEAST_CHANCE}
    return {s: c / sum(kept.values()) for s, c in kept.items()}


def _averaged(
    criteria: Sequence[CriterionBands],
    weights: Weights,
    limits: Limits,
    own: np.ndarray,
    labels: tuple[str, ...],
    places: tuple[int, ...],
    fits: Mapping[float, _Joint],
    chances: Mapping[float, float],
    doubted: Mapping[float, float],
    held_bands: list[dict[int, float]],
) -> SegmentWeights:
    """The average of the fits by their `chances`, with the spread between them, as `doubted`, in the intervals; then
    what people hold.
    """
    column = weights.column
    assert weights.learnt is not None
    precision = np.diag(weights.learnt.prior.precision(weights.learnt.prior.centre))[column]
    precision = precision / np.bincount(column)[column]

    used = {strength: fits[strength] for strength in fits if strength in chances or strength in doubted}
    chance, doubt_of = (np.array([of.get(strength, 0.0) for strength in used]) for of in (chances, doubted))
    joints = list(used.values())

    def mixed(means: np.ndarray, covariances: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        centre = chance @ means
        between = np.einsum("k,ki,kj->ij", doubt_of, means - centre, means - centre)
        total = sum(c * covariance for c, covariance in zip(doubt_of, covariances, strict=True)) + between
        return centre, np.asarray(total)

    centre, covariance = mixed(np.array([j.theta for j in joints]), [j.common_covariance for j in joints])
    pinned = limits.is_pinned
    at_bands = np.ix_(column, column)
    # What the weights of evidence move, they move in every segment.
    shift, doubt = np.zeros(len(column)), np.zeros(len(column))
    if weights.woe_shift is not None and weights.woe_belief is not None:
        shift = weights.woe_shift
        doubt = (1 / weights.woe_belief.share - 1) * shift**2
    common = replace(
        weights,
        mean=within_limits(criteria, limits, centre[column] + shift, 1 / np.maximum(np.diag(covariance)[column], 1e-9)),
        sd=np.where(pinned, 0.0, np.sqrt(contrast_sd(criteria, covariance[at_bands], precision) ** 2 + doubt)),
        covariance=covariance,
    )
    means, sds, shares = [], [], []
    for number, bands in enumerate(held_bands):
        thetas = []
        for joint in joints:
            theta = joint.theta.copy()
            theta[own] += joint.difference[number]
            thetas.append(theta)
        centre, covariance = mixed(np.array(thetas), [joint.segment_covariance[number] for joint in joints])
        certainty = 1 / np.maximum(np.diag(covariance)[column], 1e-9)
        mean = within_limits(criteria, limits, centre[column] + shift, certainty)
        sd = np.where(pinned, 0.0, np.sqrt(contrast_sd(criteria, covariance[at_bands], precision) ** 2 + doubt))
        own_share = (chance @ np.array([joint.own_share[number] for joint in joints]))[column]
        share = np.where(pinned, 0.0, own_share + (1 - own_share) * weights.data_share)
        for band, weight in bands.items():
            mean[band], sd[band], share[band] = weight, 0.0, 0.0
        means.append(mean)
        sds.append(sd)
        shares.append(share)
    return SegmentWeights(labels, places, np.array(means), np.array(sds), np.array(shares), common, dict(chances))


def _log_determinant(matrix: np.ndarray) -> float:
    return float(np.linalg.slogdet(matrix)[1])
