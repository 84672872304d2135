"""From points to a win probability: the table that a card carries, learnt on out-of-fold points.

Belongs here: the Bayesian line, the monotone curve, the choice between them, their intervals over every total.
Does not: how the points were fitted (`ml.scorecard`), whether they rank well (`ml.evaluate`), reading the
table (`ml.card.Calibration`).

Method. Under 1,000 closed deals a line in log-odds ("sigmoid", Platt 1999) with a prior on its level and
slope: two figures are all that so few deals can teach. From 1,000 on also a curve that never falls
("isotonic"): log-odds piecewise linear between quantiles of the points, each slope at least 0 and drawn
towards the line's. It is kept where its log loss in cross-validation is lower by more than a standard error.
Steps by pooled neighbours (scikit-learn's `IsotonicRegression`) were not taken: they promise 0 and 1 at the
ends, hold no interval, and give accounts of different points the same probability.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit, log_expit

from ml.card import WEIGHT_PER_POINT, Calibration

CURVE_FROM_DEALS = 1000
"""Closed deals from which a curve may be learnt: under it isotonic calibration overfits (Niculescu-Mizil and
Caruana 2005 find the same 1,000)."""

DEALS_PER_KNOT = 200
MOST_KNOTS = 12
"""The curve bends at most so often, and once per so many deals."""

FOLDS = 5


def logistic_line_posterior(
    x: np.ndarray,
    won: np.ndarray,
    lost: np.ndarray,
    prior_mean: tuple[float, float],
    prior_sd: tuple[float, float],
) -> tuple[np.ndarray, np.ndarray]:
    """Mode and Laplace covariance of ``logit p = a + b * x`` under independent Gaussian priors on a and b.

    Parameters
    ----------
    x : shape (n,).
    won, lost : weights of won and lost deals at each x, shape (n,), not negative.
    prior_mean, prior_sd : of (a, b); an sd of 0 fixes the parameter at its mean.

    Returns
    -------
    mode, shape (2,), and covariance, shape (2, 2).
    """
    mean = np.array(prior_mean, dtype=float)
    sd = np.array(prior_sd, dtype=float)
    free = sd > 0
    precision = np.diag(np.where(free, 1.0 / np.where(free, sd, 1.0) ** 2, 0.0))
    design = np.column_stack([np.ones_like(x, dtype=float), x])
    total = won + lost

    def loss(theta: np.ndarray) -> float:
        line = design @ theta
        step = theta - mean
        return float(0.5 * step @ precision @ step - won @ log_expit(line) - lost @ log_expit(-line))

    theta, value = mean.copy(), loss(mean)
    hessian = precision
    # Newton with halved steps on a strictly convex loss of two parameters: a few rounds suffice.
    for _ in range(100):
        p = expit(design @ theta)
        gradient = precision @ (theta - mean) - design.T @ (won - total * p)
        hessian = precision + design.T @ (design * (total * p * (1 - p))[:, None])
        step = np.zeros(2)
        step[free] = np.linalg.solve(hessian[np.ix_(free, free)], gradient[free])
        size = 1.0
        while loss(theta - size * step) > value + 1e-12 * abs(value) and size > 1e-9:
            size /= 2
        theta = theta - size * step
        value = loss(theta)
        if np.abs(size * step).max() < 1e-10:
            break
    covariance = np.zeros((2, 2))
    covariance[np.ix_(free, free)] = np.linalg.inv(hessian[np.ix_(free, free)])
    return theta, covariance


@dataclass(frozen=True)
class _Deals:
    """Deals by their points: distinct points ascending, and the won and lost deals at each."""

    points: np.ndarray
    wins: np.ndarray
    losses: np.ndarray

    @classmethod
    def count(cls, points: np.ndarray, won: np.ndarray) -> _Deals:
        values, place = np.unique(points, return_inverse=True)
        wins = np.bincount(place, weights=won, minlength=len(values))
        return cls(values, wins, np.bincount(place, minlength=len(values)) - wins)

    def log_loss(self, log_odds: np.ndarray) -> float:
        """Sum over deals, of log-odds at each of `points`."""
        return float(-(self.wins @ log_expit(log_odds)) - self.losses @ log_expit(-log_odds))


@dataclass(frozen=True)
class _Prior:
    """What holds before any deal: the level at average points, and the slope, as normal distributions."""

    centre: float
    level: float
    level_sd: float
    slope: float
    slope_sd: float


@dataclass(frozen=True)
class _Curve:
    """Log-odds ``level + sum_j slope_j * (r_j(x) - r_j(centre))``: piecewise linear, straight beyond the knots.

    `knots` empty = one straight line. theta = (level, slopes), covariance of the two together.
    """

    knots: np.ndarray
    centre: float
    theta: np.ndarray
    covariance: np.ndarray

    def rows(self, points: np.ndarray) -> np.ndarray:
        return _rows(points, self.knots, self.centre)

    def log_odds(self, points: np.ndarray) -> np.ndarray:
        return self.rows(points) @ self.theta

    def variance(self, points: np.ndarray) -> np.ndarray:
        rows = self.rows(points)
        return np.maximum(np.einsum("ij,jk,ik->i", rows, self.covariance, rows), 0.0)

    def slope(self, points: np.ndarray) -> np.ndarray:
        """Log-odds per point at each of `points`."""
        return self.theta[1:][np.searchsorted(self.knots, points, side="right")]


def _rows(points: np.ndarray, knots: np.ndarray, centre: float) -> np.ndarray:
    """Shape (points, 2 + knots): 1, and how far each piece has been walked from the centre."""
    lower, upper = np.concatenate([[-np.inf], knots]), np.concatenate([knots, [np.inf]])
    walked = np.clip(points[:, None], lower, upper) - np.clip(centre, lower, upper)
    return np.column_stack([np.ones(len(points)), walked])


def _line(deals: _Deals, prior: _Prior) -> _Curve:
    """The Bayesian line; its slope is never below 0: points that rank the wrong way tell nothing."""
    x = deals.points - prior.centre
    for slope, slope_sd in ((prior.slope, prior.slope_sd), (0.0, 0.0)):
        theta, covariance = logistic_line_posterior(
            x, deals.wins, deals.losses, (prior.level, slope), (prior.level_sd, slope_sd)
        )
        if theta[1] >= 0:
            break
    return _Curve(np.empty(0), prior.centre, theta, covariance)


def _knots(deals: _Deals) -> np.ndarray:
    """Equal-mass cuts of the deals' points, distinct."""
    count = deals.wins + deals.losses
    pieces = int(min(MOST_KNOTS, count.sum() // DEALS_PER_KNOT)) + 1
    # Inverted-CDF quantiles of the counted deals.
    cuts = np.searchsorted(np.cumsum(count), count.sum() * np.arange(1, pieces) / pieces)
    return np.unique(deals.points[cuts])


def _monotone_curve(deals: _Deals, prior: _Prior, line: _Curve) -> _Curve:
    """Mode and Laplace covariance of the curve; each slope has the line's as its prior mean and deviation.

    The covariance leaves the bounds out: where a slope lies at 0 the interval is wider than it had to be.
    """
    knots = _knots(deals)
    rows = _rows(deals.points, knots, prior.centre)
    slope = max(float(line.theta[1]), 0.05 * WEIGHT_PER_POINT)
    mean = np.concatenate([[prior.level], np.full(rows.shape[1] - 1, slope)])
    sd = np.concatenate([[prior.level_sd], np.full(rows.shape[1] - 1, slope)])
    # In units of the prior: all columns of like size, which the solver needs.
    scaled = rows * sd
    offset = rows @ mean
    total = deals.wins + deals.losses

    def loss(z: np.ndarray) -> tuple[float, np.ndarray]:
        log_odds = offset + scaled @ z
        gradient = z - scaled.T @ (deals.wins - total * expit(log_odds))
        return 0.5 * float(z @ z) + deals.log_loss(log_odds), gradient

    bounds = [(None, None)] + [(-1.0, None)] * (len(mean) - 1)  # z = -1 is a slope of 0
    start = np.concatenate([[(line.theta[0] - prior.level) / prior.level_sd], np.zeros(len(mean) - 1)])
    options = {"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-14, "gtol": 1e-9}
    z = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds, options=options).x
    p = expit(offset + scaled @ z)
    information = scaled.T @ (scaled * (total * p * (1 - p))[:, None]) + np.eye(len(mean))
    covariance = np.linalg.inv(information) * np.outer(sd, sd)
    theta = mean + sd * z
    theta[1:] = np.maximum(theta[1:], 0.0)
    return _Curve(knots, prior.centre, theta, covariance)


def _curve_pays(points: np.ndarray, won: np.ndarray, prior: _Prior, seed: int) -> bool:
    """Whether the curve's log loss on deals that it did not see is lower than the line's, beyond doubt of one
    standard error (Breiman's rule): on a true line the curve was taken in 7 of 30 trials of 1,000 deals without it.
    """
    fold = np.random.default_rng(seed).permutation(len(points)) % FOLDS
    gain = square = 0.0
    for number in range(FOLDS):
        seen, unseen = (_Deals.count(points[part], won[part]) for part in (fold != number, fold == number))
        line = _line(seen, prior)
        curve = _monotone_curve(seen, prior, line).log_odds(unseen.points)
        straight = line.log_odds(unseen.points)
        if_won = log_expit(curve) - log_expit(straight)
        if_lost = log_expit(-curve) - log_expit(-straight)
        gain += float(unseen.wins @ if_won + unseen.losses @ if_lost)
        square += float(unseen.wins @ if_won**2 + unseen.losses @ if_lost**2)
    return gain > (square - gain**2 / len(points)) ** 0.5


def calibrate(
    points: Any,
    won: Any,
    *,
    lowest_points: int,
    highest_points: int,
    expected_win_rate: float,
    expected_win_rate_deals: float,
    prior_slope: float = WEIGHT_PER_POINT,
    prior_slope_sd: float = 0.25 * WEIGHT_PER_POINT,
    centre_points: float | None = None,
    weight_variance: Any = None,
    seed: int = 0,
) -> Calibration:
    """Calibration table of total points, from deals that the points were not fitted on.

    The prior says: a deal of average points wins at the expected rate (worth `expected_win_rate_deals`
    deals), and 20 points double the odds, give or take a quarter. Without deals that prior is the result,
    with its wide interval. Points that tell nothing out of fold pull the slope to 0 as the deals become many.

    Parameters
    ----------
    points : whole total points out of fold, shape (n,).
    won : 0 or 1, shape (n,).
    lowest_points, highest_points : totals that the card can give; see `ml.card.points_range`.
    prior_slope, prior_slope_sd : log-odds per point before any deal, and its standard deviation.
    centre_points : points of an average deal; None = the mean of `points`, 0 where there are none.
    weight_variance : variance of an account's log-odds due to the card's weights, shape (totals,), lowest
        first; see `weight_variance_by_total`. It widens the interval, scaled by the squared steepness of the
        calibration. None = the interval of the calibration alone.
    seed : of the folds that choose between line and curve.

    Returns
    -------
    Calibration over lowest_points ... highest_points.

    Raises
    ------
    ValueError
        lowest_points above highest_points, or a weight_variance of another length.
    """
    totals = _totals(lowest_points, highest_points)
    x = np.asarray(points, dtype=float)
    y = np.asarray(won, dtype=float)
    if centre_points is None:
        centre_points = float(x.mean()) if len(x) else 0.0
    rate = expected_win_rate
    prior = _Prior(
        centre_points,
        float(np.log(rate / (1 - rate))),
        (expected_win_rate_deals * rate * (1 - rate)) ** -0.5,
        prior_slope,
        prior_slope_sd,
    )
    deals = _Deals.count(x, y)
    curve = _line(deals, prior)
    method = "sigmoid" if curve.theta[1] > 0 else "flat"
    if len(x) >= CURVE_FROM_DEALS and len(deals.points) > 2 and _curve_pays(x, y, prior, seed):
        candidate = _monotone_curve(deals, prior, curve)
        if (candidate.theta[1:] > 0).any():
            curve, method = candidate, "isotonic"
    variance = curve.variance(totals)
    if weight_variance is not None:
        given = np.asarray(weight_variance, dtype=float)
        if given.shape != totals.shape:
            raise ValueError(f"weight_variance must have one figure per total ({len(totals)}), got {given.shape}")
        variance = variance + given * (curve.slope(totals) / WEIGHT_PER_POINT) ** 2
    return Calibration.from_log_odds(
        # Sums of many pieces may fall by a last bit where the curve is level.
        np.maximum.accumulate(curve.log_odds(totals)),
        np.sqrt(variance),
        method=method,  # type: ignore[arg-type]
        deal_count=len(x),
        points_from=lowest_points,
    )


def flat_calibration(
    won: Any,
    *,
    lowest_points: int,
    highest_points: int,
    expected_win_rate: float,
    expected_win_rate_deals: float,
) -> Calibration:
    """The same win probability at any points: what is honest when points tell nothing about later deals."""
    totals = _totals(lowest_points, highest_points)
    y = np.asarray(won, dtype=float)
    wins = float(y.sum()) + expected_win_rate * expected_win_rate_deals
    losses = len(y) - float(y.sum()) + (1 - expected_win_rate) * expected_win_rate_deals
    return Calibration.from_log_odds(
        np.full(len(totals), np.log(wins / losses)),
        np.full(len(totals), np.sqrt(1 / wins + 1 / losses)),
        method="flat",
        deal_count=len(y),
        points_from=lowest_points,
    )


def weight_variance_by_total(
    total_points: Any, variance: Any, *, lowest_points: int, highest_points: int
) -> np.ndarray:
    """Variance of the weights' sum at every total, from that of single deals or accounts.

    A parabola through the rows: totals at the ends are sums of rare, ill-known bands. It is held between the
    least and the largest variance seen, so that no total is surer or vaguer than any row was.

    Parameters
    ----------
    total_points : whole points of rows, shape (n,).
    variance : ``x' Sigma x`` of each row's band indicators x, shape (n,), in squared log-odds.

    Returns
    -------
    shape (highest_points - lowest_points + 1,), for `calibrate`; zeros where there are no rows.
    """
    totals = _totals(lowest_points, highest_points)
    x, v = np.asarray(total_points, dtype=float), np.asarray(variance, dtype=float)
    if len(x) == 0:
        return np.zeros(len(totals))
    centre, size = x.mean(), max(x.std(), 1.0)
    degree = min(2, len(np.unique(x)) - 1)
    fitted = np.polynomial.polynomial.polyfit((x - centre) / size, v, degree)
    return np.clip(np.polynomial.polynomial.polyval((totals - centre) / size, fitted), v.min(), v.max())


def _totals(lowest_points: int, highest_points: int) -> np.ndarray:
    if lowest_points > highest_points:
        raise ValueError(f"lowest_points must not exceed highest_points, got {lowest_points} and {highest_points}")
    return np.arange(lowest_points, highest_points + 1, dtype=float)
