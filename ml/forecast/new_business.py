"""Deals that nobody has opened yet: how many come, how they convert, what won deals are worth.

Belongs here: the rate of creation and its doubt, shares of groups, values of won deals, how amounts change until
the close. Does not: hazards (`ml.forecast.hazard`), scenarios (`ml.forecast.totals`).

Method. Creation per four weeks is a Poisson count with a lognormal factor: its level an exponentially weighted
mean, its spread by the method of moments, its drift by how much faster counts part with the time between them
(variogram). Shares and mean values of groups are drawn to the whole (Dirichlet prior; Buehlmann credibility).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ml.forecast.history import OPEN, WON, DealHistory

BLOCK_DAYS = 28.0
MOST_BLOCKS = 26
HALF_LIFE_BLOCKS = 6.0
"""Creation half a year ago counts half."""

PRIOR_RATE_SD = 0.15
PRIOR_BLOCKS = 4.0
"""What is believed of four weeks' creation before any was seen, and how many of them that is worth."""

PRIOR_DRIFT_SD = 0.04
"""Belief about how far the level of creation moves in four weeks."""

VALUE_DAYS = 730.0
MOST_SAMPLES = 4096

NONE = "(none)"
"""Label of deals without one."""


@dataclass(frozen=True)
class Creation:
    """New deals per day and their doubt.

    Attributes
    ----------
    per_day : level as of the moment.
    block_sd : standard deviation of the log factor of four weeks; level_sd : of the level; drift_sd : of its random walk
        per four weeks.
    """

    per_day: float
    block_sd: float
    level_sd: float
    drift_sd: float


def fit_creation(history: DealHistory, as_of: float) -> Creation:
    """Rate of creation from deals opened by a moment, since the record is complete."""
    opened = history.opened[history.live(history.as_of(as_of))]
    since = max(history.observed_from, as_of - BLOCK_DAYS * MOST_BLOCKS)
    blocks = int((as_of - since) // BLOCK_DAYS)
    age = (as_of - opened) / BLOCK_DAYS
    if blocks < 1:
        length = max(as_of - since, 1.0)
        rate = float(((opened > since) & (opened <= as_of)).sum()) / length
        return Creation(rate, PRIOR_RATE_SD, 2 * PRIOR_RATE_SD, PRIOR_DRIFT_SD)
    seen = np.bincount(age[(age >= 0) & (age < blocks)].astype(int), minlength=blocks).astype(float)
    weight = 0.5 ** (np.arange(blocks) / HALF_LIFE_BLOCKS)
    weight /= weight.sum()
    level = float(weight @ seen)
    if level <= 0:
        return Creation(0.0, PRIOR_RATE_SD, 2 * PRIOR_RATE_SD, PRIOR_DRIFT_SD)
    # A year at most, and no trend: half the squared difference of neighbours.
    near = np.diff(seen[:14])
    variance = max(float((near**2).mean()) / 2 - level, 0.0) / level**2 if len(near) else 0.0
    block_sd = np.sqrt((len(near) * variance + PRIOR_BLOCKS * PRIOR_RATE_SD**2) / (len(near) + PRIOR_BLOCKS))
    far = seen[6:14] - seen[: len(seen[6:14])]
    drift = max(float((far**2).mean() - (near**2).mean()) / 5, 0.0) / level**2 if len(far) else 0.0
    drift_sd = np.sqrt((len(far) * drift + 8 * PRIOR_DRIFT_SD**2) / (len(far) + 8))
    concentration = float((weight**2).sum())
    level_sd = np.sqrt(concentration * (block_sd**2 + 1 / level) + drift_sd**2 * float(weight @ np.arange(blocks)))
    return Creation(level / BLOCK_DAYS, float(block_sd), float(level_sd), float(drift_sd))


@dataclass(frozen=True)
class Values:
    """What won deals are worth, in cents.

    Attributes
    ----------
    mean : of a won deal.
    relative : won values over their mean, a sample: a deal without an amount is worth mean x one of these.
    kept : value at the close over the amount four weeks before, of won deals, a sample.
    """

    mean: float
    relative: np.ndarray
    kept: np.ndarray

    @property
    def variation(self) -> float:
        """Squared coefficient of variation of a won deal's value."""
        return float(self.relative.var())


def fit_values(history: DealHistory, as_of: float, *, seed: int = 0) -> Values:
    """Values of deals won in the two years before a moment; all of them at 0 where no won deal has an amount."""
    now = history.live(history.as_of(as_of))
    won = now[
        (history.status[now] == WON) & (history.closed[now] > as_of - VALUE_DAYS) & np.isfinite(history.amount[now])
    ]
    value = history.amount[won]
    if len(value) == 0 or value.mean() <= 0:
        return Values(0.0, np.ones(1), np.ones(1))
    # The version that held four weeks before the close, or the deal's first.
    earlier = won.copy()
    while True:
        step = (history.known_from[earlier] > history.closed[won] - BLOCK_DAYS) & (earlier > 0)
        step[step] = history.deal[earlier[step] - 1] == history.deal[earlier[step]]
        if not step.any():
            break
        earlier[step] -= 1
    before = history.amount[earlier]
    known = (earlier != won) & (history.status[earlier] == OPEN) & (before > 0)
    kept = value[known] / before[known]
    generator = np.random.default_rng(seed)
    return Values(
        float(value.mean()),
        _sample(value / value.mean(), generator),
        _sample(kept, generator) if len(kept) else np.ones(1),
    )


def _sample(values: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    return values if len(values) <= MOST_SAMPLES else generator.choice(values, MOST_SAMPLES, replace=False)


def group_labels(history: DealHistory, name: str) -> np.ndarray:
    """Labels of a dimension; the last one stands for deals without."""
    return np.append(history.labels[name], NONE)


def group_shares(history: DealHistory, as_of: float, name: str) -> np.ndarray:
    """Share of new deals of each of `group_labels`, recent ones counting more; sums to 1.

    Labels that opened a deal within a year have half a deal more (a Dirichlet prior), the others none.
    """
    now = history.live(history.as_of(as_of))
    age = (as_of - history.opened[now]) / BLOCK_DAYS
    used = (age >= 0) & (age < 13) & (history.opened[now] >= min(history.observed_from, as_of - BLOCK_DAYS))
    size = len(history.labels[name]) + 1
    code = history.codes[name][now][used] % size
    counts = np.bincount(code, weights=0.5 ** (age[used] / HALF_LIFE_BLOCKS), minlength=size)
    counts = counts + 0.5 * (counts > 0)
    return counts / counts.sum() if counts.sum() > 0 else np.full(size, 1.0 / size)


def group_values(history: DealHistory, as_of: float, name: str, values: Values) -> np.ndarray:
    """Mean value of a won deal of each of `group_labels`, drawn to the whole (credibility n / (n + k)).

    k = variance within groups over variance between them (Buehlmann 1967).
    """
    now = history.live(history.as_of(as_of))
    won = now[
        (history.status[now] == WON) & (history.closed[now] > as_of - VALUE_DAYS) & np.isfinite(history.amount[now])
    ]
    size = len(history.labels[name]) + 1
    code = history.codes[name][won] % size
    count = np.bincount(code, minlength=size).astype(float)
    total = np.bincount(code, weights=history.amount[won], minlength=size)
    if count.sum() == 0 or values.mean <= 0:
        return np.full(size, values.mean)
    mean = total / np.maximum(count, 1)
    within = float(((history.amount[won] - mean[code]) ** 2).sum() / max(count.sum() - (count > 0).sum(), 1))
    spread = count.sum() - (count**2).sum() / count.sum()
    excess = (count * (mean - values.mean) ** 2).sum() - ((count > 0).sum() - 1) * within
    between = max(excess / spread, 0.0) if spread > 0 else 0.0
    credibility = count * between / np.maximum(count * between + within, 1e-300)
    return values.mean + credibility * (mean - values.mean)
