"""Weights of evidence: what each band says alone, one slope per criterion; and how much of that a card should keep.

Belongs here: the card of weights of evidence, the share that later deals give it. Does not: the joint fit
(`ml.weights`), which takes its expectations for a share of every deal's outcome.

Method. A joint fit parts what criteria that go together say as the deals of its period did. Where the period
changes, the parting no longer holds, and what every criterion says alone holds longer. The classical scorecard
(Siddiqi 2006, "Credit Risk Scorecards", ch. 6) keeps to that: each band's weight of evidence times one slope per
criterion. Both are compared on deals closed later than those they were fitted on, at several moments; the
likelihood of their mixture there gives its share (stacking, Wolpert 1992; on later data as in Yao et al. 2018).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit, logit, logsumexp, softmax

SHARES = tuple(np.linspace(0.0, 1.0, 11).tolist())

LEAN = 6.0
"""Nats of likelihood that later deals must give before the weights of evidence alone are as likely as the joint fit:
without drift the joint fit is the better one, and a few deals prefer either by chance."""

RARER_FROM = 100
"""Won and lost deals (each) from which later deals are asked."""

MOST_ROWS = 30_000
"""Deals on which the share is learnt: every k-th of more."""

ORIGINS = (1 / 2, 2 / 3, 5 / 6, 1.0)
"""Shares of the deals, oldest first, at which a fit ends and its test begins."""

WORTHS = (1.0, 4.0, 16.0)
"""Deals that the expected rate of a band may be worth, in multiples of a belief: a band that was seen in one short
period says less of the next one than its number of deals claims."""

LEAST_SHARE = 0.02
"""A share under this changes no point: the joint fit stands as it is."""


@dataclass(frozen=True)
class WoeBelief:
    """How the weights of evidence enter a fit.

    Attributes
    ----------
    share : part of each deal's outcome (0-1) that is taken from them.
    trust : slope on the experts' weights; belief_deals : deals that each band's expected rate is worth.
    criteria_count : criteria that have such weights, the first ones; pairs come after them and say nothing alone.
    """

    share: float
    trust: float
    belief_deals: float
    criteria_count: int


@dataclass(frozen=True)
class WoeCard:
    """Log-odds by weights of evidence: `weight` of all bands in order, shape (bands,), and the intercept."""

    weight: np.ndarray
    offsets: np.ndarray
    intercept: float

    def line(self, codes: np.ndarray) -> np.ndarray:
        """Log-odds of every row of band positions; further columns (pairs) say nothing."""
        result = np.full(len(codes), self.intercept)
        for number, offset in enumerate(self.offsets[:-1]):
            result += self.weight[offset + codes[:, number]]
        return result


def fit_woe(
    belief: WoeBelief, offsets: np.ndarray, expert: np.ndarray, codes: np.ndarray, wins: np.ndarray, losses: np.ndarray
) -> WoeCard:
    """The card of weights of evidence.

    Parameters
    ----------
    offsets : place of each criterion's first band, and the end; expert : log-odds by the experts, per band.
    codes : shape (rows, criteria or more); wins, losses : deals of each row.
    """
    offsets = offsets[: belief.criteria_count + 1]
    base = (wins.sum() + 0.5) / (wins.sum() + losses.sum() + 1.0)
    evidence = np.zeros(offsets[-1])
    columns = np.empty((len(codes), belief.criteria_count))
    for number, (begin, end) in enumerate(pairwise(offsets)):
        won, lost = (np.bincount(codes[:, number], weights=w, minlength=end - begin) for w in (wins, losses))
        expected = expit(logit(base) + belief.trust * expert[begin:end])
        rate = (won + belief.belief_deals * expected) / (won + lost + belief.belief_deals)
        evidence[begin:end] = logit(np.clip(rate, 1e-9, 1 - 1e-9)) - logit(base)
        columns[:, number] = evidence[begin + codes[:, number]]
    intercept, slopes = _slopes(columns, wins, losses, float(logit(base)))
    return WoeCard(evidence * np.repeat(slopes, np.diff(offsets)), offsets, intercept)


def _slopes(columns: np.ndarray, wins: np.ndarray, losses: np.ndarray, start: float) -> tuple[float, np.ndarray]:
    """Intercept and slopes of a logistic regression with ridge 1 round 0."""
    theta = np.concatenate([[start], np.zeros(columns.shape[1])])
    rows = np.column_stack([np.ones(len(columns)), columns])
    ridge = np.concatenate([[1e-9], np.ones(columns.shape[1])])
    deals = wins + losses

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        line = rows @ theta
        value = -(wins @ log_expit(line) + losses @ log_expit(-line)) + 0.5 * ridge @ theta**2
        return float(value), rows.T @ (deals * expit(line) - wins) + ridge * theta

    found = minimize(loss, theta, jac=True, method="L-BFGS-B", options={"maxiter": 200}).x
    return float(found[0]), found[1:]


Lines = tuple[np.ndarray, Sequence[np.ndarray], np.ndarray]
"""Of some later deals: log-odds by the joint fit, by each card of weights of evidence, and outcome (0 or 1)."""


def choose_on_later_deals(lines: Sequence[Lines]) -> tuple[int, float]:
    """The card of weights of evidence that later deals prefer, and the posterior mean of its share, 0-1.

    Parameters
    ----------
    lines : per origin; each origin has a level of its own, all have one slope.
    """
    origin = np.concatenate([np.full(len(won), number) for number, (_, _, won) in enumerate(lines)])
    joint, won = np.concatenate([line[0] for line in lines]), np.concatenate([line[2] for line in lines])
    shares = np.array(SHARES)
    log_posterior = np.empty((len(lines[0][1]), len(shares)))
    for card in range(len(log_posterior)):
        alone = np.concatenate([line[1][card] for line in lines])
        for place, share in enumerate(shares):
            likelihood = _log_likelihood((1 - share) * joint + share * alone, won, origin)
            log_posterior[card, place] = likelihood - LEAN * share
    best = int(logsumexp(log_posterior, axis=1).argmax())
    return best, float(softmax(log_posterior[best]) @ shares)


def _log_likelihood(line: np.ndarray, won: np.ndarray, origin: np.ndarray) -> float:
    """Of the outcomes, with the best slope of at least 0 and the best level of each origin."""

    def loss(theta: np.ndarray) -> tuple[float, np.ndarray]:
        total = theta[0] * line + theta[1:][origin]
        away = expit(total) - won
        value = -(won @ log_expit(total) + (1 - won) @ log_expit(-total))
        return float(value), np.concatenate([[away @ line], np.bincount(origin, weights=away)])

    levels = int(origin.max()) + 1
    bounds = [(0.0, None), *[(None, None)] * levels]
    start = np.concatenate([[1.0], np.zeros(levels)])
    return -float(minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).fun)
