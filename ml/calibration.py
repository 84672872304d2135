"""From points to a win probability: a Bayesian logistic line with two parameters.

Belongs here: the posterior of ``intercept + slope * x`` under a Gaussian prior, and its use on out-of-fold
points. Does not: how the points were fitted (`ml.scorecard`), whether they rank well (`ml.evaluate`).
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.special import expit, log_expit

from ml.card import WEIGHT_PER_POINT, Calibration


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


def calibrate(
    points: Any,
    won: Any,
    *,
    expected_win_rate: float,
    expected_win_rate_deals: float,
    prior_slope: float = WEIGHT_PER_POINT,
    prior_slope_sd: float = 0.25 * WEIGHT_PER_POINT,
    centre_points: float | None = None,
) -> Calibration:
    """Calibration of total points on deals that the points were not fitted on.

    The prior says: a deal of average points wins at the expected rate (worth `expected_win_rate_deals`
    deals), and 20 points double the odds, give or take a quarter. Without deals that prior is the result,
    with its wide interval. Points that tell nothing out of fold pull the slope to 0 as the deals become many.

    Parameters
    ----------
    points : whole total points out of fold, shape (n,).
    won : 0 or 1, shape (n,).
    prior_slope, prior_slope_sd : log-odds per point before any deal, and its standard deviation.
    centre_points : points of an average deal; None = the mean of `points`, 0 where there are none.
    """
    x = np.asarray(points, dtype=float)
    y = np.asarray(won, dtype=float)
    if centre_points is None:
        centre_points = float(x.mean()) if len(x) else 0.0
    values, place = np.unique(x, return_inverse=True)
    wins = np.bincount(place, weights=y, minlength=len(values))
    losses = np.bincount(place, weights=1 - y, minlength=len(values))
    rate = expected_win_rate
    theta, covariance = logistic_line_posterior(
        values - centre_points,
        wins,
        losses,
        (float(np.log(rate / (1 - rate))), prior_slope),
        ((expected_win_rate_deals * rate * (1 - rate)) ** -0.5, prior_slope_sd),
    )
    # Back from "at average points" to "at 0 points": a = a' - b * centre.
    back = np.array([[1.0, -centre_points], [0.0, 1.0]])
    theta, covariance = back @ theta, back @ covariance @ back.T
    return Calibration(
        float(theta[0]),
        float(theta[1]),
        float(covariance[0, 0]),
        float(covariance[0, 1]),
        float(covariance[1, 1]),
    )


def flat_calibration(won: Any, *, expected_win_rate: float, expected_win_rate_deals: float) -> Calibration:
    """The same win probability at any points: what is honest when points tell nothing about later deals."""
    y = np.asarray(won, dtype=float)
    wins = float(y.sum()) + expected_win_rate * expected_win_rate_deals
    losses = len(y) - float(y.sum()) + (1 - expected_win_rate) * expected_win_rate_deals
    return Calibration(float(np.log(wins / losses)), 0.0, 1 / wins + 1 / losses, 0.0, 0.0)
