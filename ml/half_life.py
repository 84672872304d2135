"""Which half-life of a behaviour's count goes best with the outcomes of deals, and how sure that is.

Belongs here: the comparison of counts that decay at different speeds. Does not: counting (the warehouse does, by the one
definition of a feature), the weights of a card (`ml.weights`).

Method. The count at each half-life is cut into ranges by the deals' own quantiles, never by outcomes, so that no
half-life gains from a luckier cut. One logistic regression per half-life, on the card's points of all other criteria and
on the ranges under the same prior as a card's, has a marginal likelihood (`ml.classifier`); with every half-life as likely
before, these are the chances after (MacKay 1992, "Bayesian interpolation").
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp, softmax

from ml.banding import find_edges
from ml.classifier import Beliefs, MatrixDesign, learn_weights

MOST_RANGES = 5

OTHERS_DEALS = 1_000.0
"""Deals that "the other criteria's points are right as they are" is worth: the comparison is about one criterion."""

STRENGTHS = (10.0, 20.0, 40.0, 80.0, 160.0)

FEWEST_RARER = 20
"""Won and lost deals (each) without which no half-life is told from another."""

SURE = 0.9
"""Chance that the interval holds."""


@dataclass(frozen=True)
class HalfLifeFit:
    """What the deals say of a half-life.

    Attributes
    ----------
    days : the half-lives tried, ascending; 0 stands for no decay and comes last.
    chance : of each, adding up to 1; shape (days,).
    log_evidence : log marginal likelihood of each, shape (days,).
    deal_count, won_count : deals that were looked at.
    """

    days: tuple[int, ...]
    chance: np.ndarray
    log_evidence: np.ndarray
    deal_count: int
    won_count: int

    @property
    def best(self) -> int:
        return self.days[int(self.chance.argmax())]

    @property
    def interval(self) -> tuple[int, int]:
        """The shortest run of half-lives tried that holds 90 % of the chance: its first and last."""
        total = np.concatenate([[0.0], np.cumsum(self.chance)])
        count = len(self.days)
        for width in range(1, count + 1):
            inside = total[width:] - total[:-width]
            if inside.max() >= SURE - 1e-12:
                start = int(inside.argmax())
                return self.days[start], self.days[start + width - 1]
        return self.days[0], self.days[-1]  # pragma: no cover - the whole always holds it

    @property
    def says_something(self) -> bool:
        """Whether the interval leaves any of the tried half-lives out."""
        return self.interval != (self.days[0], self.days[-1])


def compare_half_lives(values: Mapping[int, np.ndarray], others: np.ndarray, won: np.ndarray) -> HalfLifeFit:
    """Chance of each half-life.

    Parameters
    ----------
    values : half-life in days (0 = no decay) -> count of each deal as of its opening, shape (n,), NaN = unknown.
    others : log-odds of each deal by all other criteria, shape (n,).
    won : 0 or 1, shape (n,).

    Raises
    ------
    ValueError
        Fewer than two half-lives, lengths that differ, or too few won or lost deals.
    """
    if len(values) < 2:
        raise ValueError(f"half-lives are compared with one another: at least two are needed, got {len(values)}")
    y = np.asarray(won, dtype=float)
    if any(len(v) != len(y) for v in values.values()) or len(others) != len(y):
        raise ValueError(f"values and others must have one figure per deal ({len(y)})")
    rarer = int(min(y.sum(), len(y) - y.sum()))
    if rarer < FEWEST_RARER:
        raise ValueError(
            f"{rarer} deals of the rarer outcome: at least {FEWEST_RARER} won and {FEWEST_RARER} lost are needed"
        )
    days = tuple(sorted(values, key=lambda d: (d == 0, d)))
    evidence = np.array([_log_evidence(np.asarray(values[d], dtype=float), others, y) for d in days])
    return HalfLifeFit(days, softmax(evidence), evidence, len(y), int(y.sum()))


def _log_evidence(value: np.ndarray, others: np.ndarray, won: np.ndarray) -> float:
    """Log marginal likelihood, every strength of the prior being as likely before."""
    known = np.isfinite(value)
    positive = known & (value > 0)
    edges = find_edges(value[positive], max_bands=MOST_RANGES) if positive.any() else []
    codes = np.where(positive, 1 + np.searchsorted(edges, value, side="right"), 0)
    codes[~known] = len(edges) + 2
    columns = np.zeros((len(value), len(edges) + 3))
    columns[np.arange(len(value)), codes] = 1.0
    count = 1 + columns.shape[1]
    learnt = learn_weights(
        MatrixDesign.with_intercept(np.column_stack([others - others.mean(), columns])),
        won,
        np.ones(len(won)),
        Beliefs(
            expert=np.concatenate([[1.0], np.zeros(count - 1)]),
            scale=np.concatenate([[OTHERS_DEALS / STRENGTHS[0]], np.ones(count - 1)]),
            group=np.full(count, -1),
            chains=(),
            lower=np.full(count, -np.inf),
            upper=np.full(count, np.inf),
        ),
        prior_trust=1.0,
        trust_sd=0.0,
        belief_deals=STRENGTHS[len(STRENGTHS) // 2],
        belief_grid=STRENGTHS,
    )
    return float(logsumexp(list(learnt.log_evidence.values())))
