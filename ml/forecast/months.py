"""How much months differ from what was expected of them, and how far the level of winning drifts from month to month.

Belongs here: the spread of a factor that all deals of a month share, learnt from won deals by month. Does not: who expects how
many (`ml.forecast.hazard`), scenarios (`ml.forecast.totals`).

Method. Won deals of a month over those expected are a local level model (Harvey 1989): a level that walks at random, a factor that
each month has by itself, chance, and a season whose three means were fitted on the same months. The season is projected out,
whatever it was fitted to be (restricted likelihood, Patterson and Thompson 1971). Standard deviations have half-normal priors: an
inverse-gamma one, which is what averaging a variance with a belief amounts to, rules out that months hardly differ (Gelman 2006). What
is reported are root mean squares over the posterior.

Months are described twice: by what the hazards expected, and as the same season again whatever is in the pipeline. How far each of
them is believed goes by the evidence for it (Bayesian model averaging, Hoeting et al. 1999). What months differ by under the
description that is believed is what nobody foresees; what the hazards are off by beyond that is their own doing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

PRIOR_MONTH_SD = 0.15
"""Scale of the half-normal prior on how much months differ: its mean square is that of months that differ by 15 %."""

PRIOR_DRIFT_SD = 0.04
"""The same of how far the level goes from one month to the next."""

SPREADS = np.linspace(0.0, 4 * PRIOR_MONTH_SD, 31)
DRIFTS = np.linspace(0.0, 5 * PRIOR_DRIFT_SD, 21)


@dataclass(frozen=True)
class MonthCounts:
    """Won deals by month. Arrays have shape (months,).

    Attributes
    ----------
    month : months since January 1970; place : month of the fiscal quarter, 0-2.
    won, expected : how many were won, and were expected to be. chance : variance of `won` by chance alone.
    """

    month: np.ndarray
    place: np.ndarray
    won: np.ndarray
    expected: np.ndarray
    chance: np.ndarray

    @classmethod
    def of(
        cls,
        first: int,
        won: np.ndarray,
        expected: np.ndarray,
        fiscal_start_month: int,
        *,
        weight: float = 1.0,
    ) -> MonthCounts:
        """Consecutive months from `first`; each deal stands for `weight` deals."""
        month = first + np.arange(len(won))
        return cls(month, (month - (fiscal_start_month - 1)) % 3, weight * won, weight * expected, weight**2 * expected)

    def __add__(self, other: MonthCounts) -> MonthCounts:
        """Of two groups of deals, in the months that either has."""
        first = min(self.month[0], other.month[0])
        count = max(self.month[-1], other.month[-1]) - first + 1
        place = (first + np.arange(count) - self.month[0] + self.place[0]) % 3
        sums = [np.zeros(count) for _ in range(3)]
        for each in (self, other):
            at = each.month - first
            for total, values in zip(sums, (each.won, each.expected, each.chance), strict=True):
                total[at] += values
        return MonthCounts(first + np.arange(count), place, *sums)

    def whole(self, begin: float, end: float) -> MonthCounts:
        """The months that lie between two days as a whole: a part of one says when in a month deals close, not how the month was."""
        starts, ends = first_day(self.month), first_day(self.month + 1)
        kept = (starts >= begin) & (ends <= end) & (self.expected > 0)
        return MonthCounts(*(values[kept] for values in vars(self).values()))


@dataclass(frozen=True)
class MonthSpread:
    """Standard deviations in logs.

    Attributes
    ----------
    month_sd : of the factor that a month has on what the hazards expect of it; drift_sd : of the level's step from month to month.
    common_sd : what of `month_sd` nobody foresees, who describes months better than the hazards among them. Never above it.
    belief : how far the hazards are believed to describe months better than the same season again; 0-1.
    """

    month_sd: float
    drift_sd: float
    common_sd: float
    belief: float


def fit_months(counts: MonthCounts) -> MonthSpread:
    """Learn from whole months; the prior where a season is all that they tell."""
    prior = MonthSpread(PRIOR_MONTH_SD, PRIOR_DRIFT_SD, PRIOR_MONTH_SD, 0.5)
    if len(counts.month) == 0 or counts.won.sum() <= 0 or counts.expected.sum() <= 0:
        return prior
    scale = counts.won.sum() / counts.expected.sum()
    length = first_day(counts.month + 1) - first_day(counts.month)
    as_ever = length * counts.won.sum() / length.sum()
    by_hazard = _posterior(counts, counts.expected * scale, scale)
    by_season = _posterior(counts, as_ever, scale)
    if by_hazard is None or by_season is None:
        return prior
    variance, drift, evidence = by_hazard
    belief = 1.0 / (1.0 + np.exp(np.clip(by_season[2] - evidence, -50.0, 50.0)))
    common = min(belief * variance + (1 - belief) * by_season[0], variance)
    return MonthSpread(float(np.sqrt(variance)), float(np.sqrt(drift)), float(np.sqrt(common)), float(belief))


def _posterior(counts: MonthCounts, expected: np.ndarray, scale: float) -> tuple[float, float, float] | None:
    """Mean squares of the month's factor and of the drift, and log evidence of a description; None where the season takes all months."""
    distance = counts.won / expected - 1.0
    season = np.eye(3)[counts.place]
    season = season[:, season.any(axis=0)]
    if season.shape[1] >= len(distance):
        return None
    # What is left when the season's means are projected out, on an orthonormal basis.
    free = np.linalg.svd(season, full_matrices=True)[0][:, season.shape[1] :]
    seen = free.T @ distance
    months = (counts.month - counts.month[0]).astype(float)
    walk = free.T @ np.minimum.outer(months, months) @ free
    chance = free.T @ ((counts.chance * scale / expected**2)[:, None] * free)
    spread2, drift2 = SPREADS**2, DRIFTS**2
    # The factor of a month adds the same to all directions: those of drift and chance serve every spread.
    own, directions = np.linalg.eigh(drift2[:, None, None] * walk + chance)
    along = np.einsum("qij,i->qj", directions, seen) ** 2
    variance = spread2[:, None, None] + np.maximum(own, 1e-12)
    log_weight = -0.5 * (np.log(variance) + along / variance).sum(axis=2)
    log_weight -= 0.5 * (spread2[:, None] / PRIOR_MONTH_SD**2 + drift2 / PRIOR_DRIFT_SD**2)
    most = float(log_weight.max())
    weight = np.exp(log_weight - most)
    total = float(weight.sum())
    # The evidence is of the counts, not of their distances from what was expected.
    evidence = most + float(np.log(total)) - float(np.log(expected).sum())
    return float(spread2 @ weight.sum(axis=1)) / total, float(weight.sum(axis=0) @ drift2) / total, evidence


def first_day(month: np.ndarray) -> np.ndarray:
    """Float days since January 1970 of the first day of months."""
    return month.astype("datetime64[M]").astype("datetime64[D]").astype(float)
