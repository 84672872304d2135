"""How good a card is on deals that closed later than those it was fitted on, and what that means in words.

Belongs here: splits by close time, metrics with bootstrap intervals, baselines, the verdict on the signal, the
comparison that decides on activation. Does not: fitting the card (a callable is passed in), what single
criteria say (`ml.evidence`), leaks (`ml.leaks`), monitoring a card in use.

The evaluation of a card
------------------------
`Card.evaluation` is a JSON-able dict. Shares and rates are 0-1 unless the key ends in ``_pct``; all intervals
are ``[low, high]``, central 90 %, null where they cannot be computed; times are ISO text.

Always there:

``state``
    "tested" or "too_few_deals" (under 30 deals, or 5 of one outcome, on either side of the split).
``signal``
    "shown" (the ranking beats chance on the later deals), "none" (100 or more later deals, and all deals out of
    fold, show nothing: the calibration is flat), "not_shown" (between the two), "unknown" (not tested).
``deal_count``, ``won_count``
    all closed deals of the fit.

When tested, on the newest 20 % of the deals by close time (the *final test*), fitted on the others:

``earlier_count``, ``later_count``, ``later_won_count``, ``earlier_until``, ``later_until``
    deals fitted on and tested on, and when the last of each closed.
``card``
    *figures*: ``auc``, ``log_loss`` (nats), ``brier``, ``ece`` (10 equal-mass bins), ``calibration_intercept`` (log-odds,
    0 is right), ``calibration_slope`` (1 is right, null where the probability is constant), ``lift_10``, ``lift_20``
    (win rate among the best 10 / 20 % over that of all).
``baselines``
    name -> figures on the same deals, each fitted on the same earlier deals: ``base_rate``, ``expert_card`` (experts'
    points alone; absent without any), ``active_card`` (as it scores today; absent when not given or too few deals
    closed after its own fit), ``naive_bayes`` (CategoricalNB on the card's bands, Laplace smoothing),
    ``logistic_regression`` (on the card's bands), ``gradient_boosting`` (on the raw values: the ceiling).
    ``active_card`` is judged on the later deals that closed after its fit: it also has ``deal_count`` and ``card``
    (this card's figures on those very deals).
``intervals``
    of each figure of the card by its name, and ``gain_over_<baseline>``: how much lower the card's log loss is, paired
    by deal (above 0 = the card is better).
``gains``
    10 rows, the best 10, 20 ... 100 % by points: ``top_pct``, ``deal_count``, ``won_count``, ``won_share_pct``, and where
    amounts are known ``won_amount``, ``won_amount_share_pct``. Deals of equal points are shared evenly, so the
    counts need not be whole.
``reliability``
    at most 10 rows, equal-mass bins of the win probability, lowest first: ``deal_count``, ``won_count``,
    ``win_probability`` (mean promised), ``win_rate`` (seen), ``win_rate_low``, ``win_rate_high`` (Wilson).
``rounding``
    what whole points cost: ``log_loss_weights``, ``log_loss_points``, ``log_loss_cost`` (points minus weights),
    ``auc_weights``, ``auc_points``, ``auc_cost`` (weights minus points), ``largest_points`` (largest distance of a total
    from its unrounded weights), ``bound_points`` (half a point per criterion: it can never be larger).
``origins``
    1-4 rolling origins, oldest first: at each the card and baselines are fitted on what had closed up to
    ``earlier_until`` and judged on the next fifth of the deals. ``earlier_until``, ``later_until``, ``earlier_count`` (all
    closed by then), ``fitted_count``, ``later_count`` and ``later_won_count`` (judged), ``card``, ``baselines``. The last
    one is the final test. The others are fitted on the newest 30,000 deals at most and judged on 30,000 at most.
``origins_mean``
    means over the origins, weighted by the deals that closed in each fifth: ``origin_count``, ``later_count`` (judged),
    ``card``, ``baselines`` (those that every origin has), ``intervals`` (deals drawn within each origin).
``out_of_fold_auc``, ``out_of_fold_auc_interval``
    only where the later deals show nothing: the same question asked of all deals out of fold.

Added by the fit where they apply:

``leaks``
    list of `ml.leaks.Leak` as dicts: ``criterion``, ``rule``, ``evidence`` (a sentence), ``is_left_out``; empty where
    none was found.
``criteria``
    list of `ml.evidence.CriterionEvidence` as dicts, on all deals of the fit; see there.
``protected``
    criterion -> groups and differences, see `ml.evidence.protected_differences`.
``choices_price``
    what holding people's choices costs on the newest deals, see `ml.scorecard.choices_price`; null = unknown.
``edited``
    where points were changed by hand without a new fit: the figures above are those of the version before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ml.baselines import Prediction, baseline_predictions, card_prediction
from ml.calibration import logistic_line_posterior
from ml.card import WEIGHT_PER_POINT, Card

LATER_SHARE = 0.2
"""Share of the deals, the newest by close time, that are kept for the test."""

FEWEST_LATER = 30
"""Deals that the test needs; under it an AUC's interval is wider than +- 0.15 and says nothing."""

FEWEST_RARER = 5
"""Won deals, and lost deals, that the test needs."""

NEGLIGIBLE_AUC = 0.52
"""An AUC out of fold that is not above this, beyond doubt, keeps nobody from saying "no signal": with thousands of deals 0.505 is
beyond chance and worth nothing."""

ENOUGH_TO_DENY = 100
"""Later deals from which "no signal" may be said; with fewer the test is silent, not negative."""

MOST_ORIGINS = 4
"""Origins that are tried, a fifth of the deals apart; the oldest then is fitted on a fifth."""

ORIGIN_ROWS = 30_000
"""Deals at most that an origin before the last is fitted on (the newest) and judged on (every k-th): five fits must
not cost five times one."""

BOOTSTRAP_ROUNDS = 300
BOOTSTRAP_CELLS = 15_000_000
"""Deals times rounds at most: with a million deals the interval is so narrow that 50 rounds show it."""

BINS = 10

P_FLOOR = 1e-6
"""No probability is scored as more certain than this, baselines included."""

WORST_GAIN = -0.002
"""Mean loss in log loss (nats per deal) that a challenger may show and still count as not worse. Simulated with 1,000
deals, 300 of them later: a card that had lost one of its 8 criteria (0.0055 worse on average) passed in 86 % of the trials
by the interval alone and in 36 % with this limit. With 4,000 deals a card with two useless criteria more (0.0003
worse) passed in 88 %. The same method on the same deals gains exactly 0 and passes always."""

FIGURES = ("auc", "log_loss", "brier", "ece", "calibration_intercept", "calibration_slope", "lift_10", "lift_20")


def split_by_close_time(closed_at: np.ndarray, later_share: float = LATER_SHARE) -> tuple[np.ndarray, Any]:
    """Mask of the newest deals, shape (n,), and the last close time of the others.

    At least 30 deals are kept for the test, and at least 30 for the fit. Deals that closed at the same
    moment stay on the earlier side, so that the test is strictly later. Mask all False and None when that
    leaves nothing on one side.
    """
    n = len(closed_at)
    later_count = max(FEWEST_LATER, round(n * later_share))
    if n < later_count + FEWEST_LATER:
        return np.zeros(n, dtype=bool), None
    last_earlier = np.sort(closed_at)[n - later_count - 1]
    return closed_at > last_earlier, last_earlier


@dataclass(frozen=True)
class Origin:
    """A moment in the past: what had closed by then, and what closed next. Masks of shape (n,)."""

    until: Any
    earlier: np.ndarray
    later: np.ndarray


def rolling_origins(closed_at: np.ndarray, won: np.ndarray) -> list[Origin]:
    """Up to four origins, oldest first; the last is the split of `split_by_close_time`.

    Each tests the block of deals that closed next, as many as the last one tests. An origin needs 30 deals and
    5 of each outcome on either side.
    """
    later, until = split_by_close_time(closed_at)
    if until is None:
        return []
    n = len(closed_at)
    block = max(FEWEST_LATER, round(n * LATER_SHARE))
    ordered = np.sort(closed_at)
    result = [Origin(until, ~later, later)]
    for number in range(2, MOST_ORIGINS + 1):
        if n - number * block < FEWEST_LATER:
            break
        cut = ordered[n - number * block - 1]
        result.append(Origin(cut, closed_at <= cut, (closed_at > cut) & (closed_at <= result[-1].until)))
    return [origin for origin in reversed(result) if _is_enough(won[origin.earlier]) and _is_enough(won[origin.later])]


def _is_enough(won: np.ndarray) -> bool:
    return len(won) >= FEWEST_LATER and min(won.sum(), len(won) - won.sum()) >= FEWEST_RARER


# --------------------------------------------------------------------------- metrics


def auc(won: np.ndarray, score: np.ndarray, weight: np.ndarray | None = None) -> float:
    """Chance that a won deal outranks a lost one (ties count half), NaN with one outcome only."""
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) != 0]))
    w = np.ones(len(won)) if weight is None else weight
    return _auc_sorted((w * won)[order], (w * (1 - won))[order], starts)


def _auc_sorted(wins: np.ndarray, losses: np.ndarray, starts: np.ndarray) -> float:
    """AUC of weights already in order of score; `starts` are the first places of equal scores."""
    if len(wins) == 0:
        return math.nan
    won, lost = np.add.reduceat(wins, starts), np.add.reduceat(losses, starts)
    pairs = won.sum() * lost.sum()
    if pairs == 0:
        return math.nan
    return float(won @ (np.cumsum(lost) - 0.5 * lost) / pairs)


def gains(won: np.ndarray, score: np.ndarray, shares: Any) -> np.ndarray:
    """Share of all won deals (0-1) among the best `shares` (0-1) by score; ties are shared evenly."""
    values, place = np.unique(-score, return_inverse=True)
    count = np.bincount(place, minlength=len(values)).astype(float)
    wins = np.bincount(place, weights=won, minlength=len(values))
    reached = np.concatenate([[0.0], np.cumsum(count)]) / len(won)
    captured = np.concatenate([[0.0], np.cumsum(wins)]) / max(won.sum(), 1)
    return np.interp(np.asarray(shares, dtype=float), reached, captured)


def expected_calibration_error(won: np.ndarray, p: np.ndarray, bins: int = BINS) -> float:
    """Mean gap between promised and seen win rate over equal-mass bins, weighted by their deals."""
    order = np.argsort(p, kind="stable")
    gaps = [len(part) * abs(won[part].mean() - p[part].mean()) for part in np.array_split(order, min(bins, len(order)))]
    return float(sum(gaps) / len(won))


def calibration_line(won: np.ndarray, p: np.ndarray) -> tuple[float | None, float | None]:
    """Intercept and slope of the outcome on logit(p); (0, 1) is perfect, slope None when p is constant.

    The intercept is that of the line through all deals at slope 1 (calibration in the large).
    """
    line = logit(np.clip(p, P_FLOOR, 1 - P_FLOOR))
    intercept = 0.0
    for _ in range(50):  # Newton in one dimension on a monotone score function
        q = expit(line + intercept)
        step = float((won - q).sum() / max((q * (1 - q)).sum(), 1e-12))
        intercept += float(np.clip(step, -2, 2))
        if abs(step) < 1e-9:
            break
    if np.ptp(line) < 1e-9:
        return intercept, None
    return intercept, float(_recalibration(won, line)[0][1])


def _recalibration(won: np.ndarray, line: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Intercept, slope) of the outcome on the log-odds `line`, and their covariance.

    A prior of 100 either way keeps the slope finite where the two outcomes do not overlap.
    """
    values, place = np.unique(line, return_inverse=True)
    wins = np.bincount(place, weights=won, minlength=len(values))
    losses = np.bincount(place, minlength=len(values)) - wins
    return logistic_line_posterior(values, wins, losses, (0.0, 1.0), (100.0, 100.0))


def log_losses(won: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Log loss of each deal, nats, shape (n,); probabilities are held in [1e-6, 1 - 1e-6]."""
    clipped = np.clip(p, P_FLOOR, 1 - P_FLOOR)
    return -np.where(won == 1, np.log(clipped), np.log1p(-clipped))


def figures(won: np.ndarray, p: np.ndarray, score: np.ndarray | None = None) -> dict[str, float | None]:
    """All metrics of one model on one set of deals.

    Parameters
    ----------
    won : shape (n,), 0 or 1.
    p : win probabilities, shape (n,).
    score : what ranks, shape (n,); None = `p`. A card ranks by points even where its probability is flat.
    """
    rank = p if score is None else score
    intercept, slope = calibration_line(won, p)
    top = gains(won, rank, [0.1, 0.2])
    return {
        "auc": _finite(auc(won, rank)),
        "log_loss": float(log_losses(won, p).mean()),
        "brier": float(np.mean((won - p) ** 2)),
        "ece": expected_calibration_error(won, p),
        "calibration_intercept": intercept,
        "calibration_slope": slope,
        "lift_10": float(top[0] / 0.1),
        "lift_20": float(top[1] / 0.2),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def wilson_interval(count: Any, total: Any, z: float = 1.645) -> tuple[np.ndarray, np.ndarray]:
    """Wilson's interval of a share (0-1), as the warehouse computes it; (0, 1) where `total` is 0."""
    k, n = np.asarray(count, dtype=float), np.asarray(total, dtype=float)
    size = np.where(n > 0, n, 1.0)
    share = np.where(n > 0, k / size, 0.5)
    centre = (share + z**2 / (2 * size)) / (1 + z**2 / size)
    half = z / (1 + z**2 / size) * np.sqrt(share * (1 - share) / size + z**2 / (4 * size**2))
    low, high = np.maximum(centre - half, 0.0), np.minimum(centre + half, 1.0)
    return np.where(n > 0, low, 0.0), np.where(n > 0, high, 1.0)


def gains_table(won: np.ndarray, score: np.ndarray, amount: np.ndarray | None = None) -> list[dict[str, float]]:
    """The best 10, 20 ... 100 % of the deals: how many, how many of them won, and for how much.

    amount : of each deal, shape (n,), NaN = unknown (counts as 0); None = no amounts.
    """
    shares = np.arange(1, 11) / 10
    captured = gains(won, score, shares)
    rows = [
        {
            "top_pct": 10 * (k + 1),
            "deal_count": round(len(won) * float(share), 2),
            "won_count": round(float(won.sum() * captured[k]), 2),
            "won_share_pct": round(100 * float(captured[k]), 2),
        }
        for k, share in enumerate(shares)
    ]
    if amount is not None:
        won_amount = np.where(won == 1, np.nan_to_num(amount), 0.0)
        values, place = np.unique(-score, return_inverse=True)
        reached = np.cumsum(np.bincount(place, minlength=len(values))) / len(won)
        total = np.cumsum(np.bincount(place, weights=won_amount, minlength=len(values)))
        held = np.interp(shares, np.concatenate([[0.0], reached]), np.concatenate([[0.0], total]))
        for row, value in zip(rows, held, strict=True):
            row["won_amount"] = round(float(value), 2)
            row["won_amount_share_pct"] = round(100 * float(value / total[-1]), 2) if total[-1] > 0 else 0.0
    return rows


def reliability_table(won: np.ndarray, p: np.ndarray, bins: int = BINS) -> list[dict[str, float]]:
    """Promised against seen win rate in equal-mass bins of the promise, lowest first; equal promises stay together."""
    order = np.argsort(p, kind="stable")
    rank = np.searchsorted(p[order], p, side="left")
    which = np.minimum(rank * bins // len(p), bins - 1)
    rows = []
    for number in np.unique(which):
        inside = which == number
        low, high = wilson_interval(won[inside].sum(), inside.sum())
        rows.append(
            {
                "deal_count": int(inside.sum()),
                "won_count": int(won[inside].sum()),
                "win_probability": float(p[inside].mean()),
                "win_rate": float(won[inside].mean()),
                "win_rate_low": float(low),
                "win_rate_high": float(high),
            }
        )
    return rows


def bootstrap_intervals(
    won: np.ndarray, p: np.ndarray, score: np.ndarray, others: Mapping[str, np.ndarray], *, seed: int
) -> dict[str, list[float] | None]:
    """90 % intervals of all figures over deals drawn with replacement.

    `gain_over_<name>` is how much lower the log loss is than that of each other model on the same draws
    (above 0 = better than it): paired, so it sees differences that two separate intervals hide.

    Parameters
    ----------
    others : name -> win probabilities of the same deals, shape (n,).
    """
    predictions = {name: Prediction(q, q) for name, q in others.items()}
    rounds = _rounds(len(won))
    return _intervals(_draws(won, Prediction(p, score), predictions, rounds, np.random.default_rng(seed)))


def _rounds(deal_count: int) -> int:
    return int(min(BOOTSTRAP_ROUNDS, max(50, BOOTSTRAP_CELLS // max(deal_count, 1))))


def _draws(
    won: np.ndarray,
    card: Prediction,
    others: Mapping[str, Prediction],
    rounds: int,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Figure -> its value in each draw, shape (rounds,), NaN where a draw has none."""
    n = len(won)
    order = np.argsort(card.score, kind="stable")
    score = card.score[order]
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score) != 0]))
    y, p = won[order], card.p[order]
    # Deals sorted by score once: a draw is then a vector of counts and every metric a weighted sum.
    loss = log_losses(y, p)
    gain = {}
    for name, other in others.items():
        judged = np.ones(n) if other.judged is None else other.judged[order].astype(float)
        gain[f"gain_over_{name}"] = (judged * (log_losses(y, other.p[order]) - loss), judged)
    square = (y - p) ** 2
    by_p = np.argsort(p, kind="stable")
    # The calibration's line moves with a draw by its influence function: no refit per draw.
    line = logit(np.clip(p, P_FLOOR, 1 - P_FLOOR))
    intercept, slope = calibration_line(y, p)
    at_slope_1 = expit(line + intercept)
    shift = (y - at_slope_1) / max(float((at_slope_1 * (1 - at_slope_1)).sum()), 1e-12)
    tilt = None
    if slope is not None:
        theta, covariance = _recalibration(y, line)
        tilt = (y - expit(theta[0] + theta[1] * line)) * (covariance[1, 0] + covariance[1, 1] * line)
    draws = {key: np.full(rounds, np.nan) for key in (*FIGURES, *gain)}
    for number in range(rounds):
        # Drawn in the order of the deals, not of the scores: two models with one seed see the same draw.
        count = np.bincount(generator.integers(0, n, size=n), minlength=n)[order].astype(float)
        draws["auc"][number] = _auc_sorted(count * y, count * (1 - y), starts)
        draws["log_loss"][number] = count @ loss / n
        draws["brier"][number] = count @ square / n
        for key, (difference, judged) in gain.items():
            deals = count @ judged
            draws[key][number] = count @ difference / deals if deals > 0 else np.nan
        weight = count[by_p]
        which = np.minimum((np.cumsum(weight) - 0.5 * weight) / n * BINS, BINS - 1e-9).astype(int)
        gap = np.bincount(which, weights=weight * (y[by_p] - p[by_p]), minlength=BINS)
        draws["ece"][number] = np.abs(gap).sum() / n
        draws["calibration_intercept"][number] = intercept + (count - 1) @ shift
        if tilt is not None and slope is not None:
            draws["calibration_slope"][number] = slope + (count - 1) @ tilt
        mass = np.add.reduceat(count, starts)[::-1].cumsum() / n
        wins = np.add.reduceat(count * y, starts)[::-1].cumsum()
        captured = np.interp([0.1, 0.2], np.concatenate([[0], mass]), np.concatenate([[0], wins]))
        draws["lift_10"][number] = captured[0] / max(wins[-1], 1) / 0.1
        draws["lift_20"][number] = captured[1] / max(wins[-1], 1) / 0.2
    # A draw repeats deals, which adds to every bin's gap: left alone, the interval lies above the figure itself.
    draws["ece"] = np.maximum(draws["ece"] - draws["ece"].mean() + expected_calibration_error(y, p), 0.0)
    return draws


def _intervals(draws: Mapping[str, np.ndarray]) -> dict[str, list[float] | None]:
    result: dict[str, list[float] | None] = {}
    for key, values in draws.items():
        kept = values[np.isfinite(values)]
        result[key] = [float(np.quantile(kept, 0.05)), float(np.quantile(kept, 0.95))] if len(kept) else None
    return result


# --------------------------------------------------------------------------- the test


@dataclass(frozen=True)
class _Tested:
    """One origin: the card that was fitted there, and all models on what closed next."""

    origin: Origin
    fitted_count: int
    card: Card
    won: np.ndarray
    own: Prediction
    baselines: dict[str, Prediction]
    draws: dict[str, np.ndarray]

    def figures(self) -> dict[str, Any]:
        """Card and baselines."""
        baselines: dict[str, dict[str, Any]] = {}
        for name, other in self.baselines.items():
            if other.judged is None:
                baselines[name] = figures(self.won, other.p, other.score)
                continue
            on = other.judged
            baselines[name] = {
                **figures(self.won[on], other.p[on], other.score[on]),
                "deal_count": int(on.sum()),
                "card": figures(self.won[on], self.own.p[on], self.own.score[on]),
            }
        return {"card": figures(self.won, self.own.p, self.own.score), "baselines": baselines}

    def row(self) -> dict[str, Any]:
        """The entry of `origins`, without the time at which its block ends."""
        return {
            "earlier_until": _text(self.origin.until),
            "earlier_count": int(self.origin.earlier.sum()),
            "fitted_count": self.fitted_count,
            "later_count": len(self.won),
            "later_won_count": int(self.won.sum()),
            **self.figures(),
        }


def _text(moment: Any) -> str:
    return str(pd.Timestamp(moment))


def _test_at(
    origin: Origin,
    fit: Callable[[pd.DataFrame, np.ndarray], Card],
    X: pd.DataFrame,
    won: np.ndarray,
    closed_at: np.ndarray,
    active: Card | None,
    active_fitted_at: Any,
    most_rows: int | None,
    rounds: int,
    seed: int,
) -> _Tested:
    earlier = origin.earlier
    if most_rows is not None and earlier.sum() > most_rows:
        oldest = np.sort(closed_at[earlier])[-most_rows]
        newest = earlier & (closed_at >= oldest)
        earlier = newest if _is_enough(won[newest]) else earlier
    later = np.flatnonzero(origin.later)
    if most_rows is not None:
        later = later[:: max(1, math.ceil(len(later) / most_rows))]
    X_earlier, X_later, y = X.loc[earlier], X.iloc[later], won[later]
    card = fit(X_earlier, won[earlier])
    baselines = baseline_predictions(card, X_earlier, won[earlier], X_later, seed=seed)
    if active is not None:
        unseen = closed_at[later] > np.datetime64(pd.Timestamp(active_fitted_at))
        if _is_enough(y[unseen]):
            baselines["active_card"] = card_prediction(active, X_later, unseen)
    own = card_prediction(card, X_later)
    draws = _draws(y, own, baselines, rounds, np.random.default_rng(seed))
    return _Tested(origin, int(earlier.sum()), card, y, own, baselines, draws)


def on_later_deals(
    fit: Callable[[pd.DataFrame, np.ndarray], Card],
    X: pd.DataFrame,
    won: np.ndarray,
    closed_at: np.ndarray,
    *,
    out_of_fold: np.ndarray | None,
    seed: int,
    active: Card | None = None,
    active_fitted_at: Any = None,
    amount: np.ndarray | None = None,
) -> dict[str, Any]:
    """Fit on the earlier deals, test on those that closed next: at the newest 20 %, and at earlier origins.

    Parameters
    ----------
    fit : makes a card of deals and outcomes; it is given deals that had closed by the origin, and no others.
    X : deals x criteria, its index unique; won 0 or 1, closed_at datetime64, both of shape (n,).
    out_of_fold : points of all deals by fits that did not see them, a second look at the signal; None =
        unknown.
    active, active_fitted_at : the card in use and the as-of moment of its fit; it is judged on deals that closed
        after that moment, as it scores today.
    amount : of each deal, shape (n,), for the gains table; NaN = unknown.

    Returns
    -------
    JSON-able dict, see the head of this module.

    Raises
    ------
    ValueError
        `active` is given without `active_fitted_at`.
    """
    if active is not None and active_fitted_at is None:
        raise ValueError("active_fitted_at must be given with the active card: it says which deals the card has seen")
    result: dict[str, Any] = {
        "state": "too_few_deals",
        "signal": "unknown",
        "deal_count": len(won),
        "won_count": int(won.sum()),
    }
    later, until = split_by_close_time(closed_at)
    origins = rolling_origins(closed_at, won)
    # A test of yesteryear does not stand in for that on the newest deals.
    if not origins or origins[-1].until != until or X.shape[1] == 0:
        return result
    rounds = _rounds(sum(int(origin.later.sum()) for origin in origins))
    tested = []
    for number, origin in enumerate(origins):
        most_rows = None if origin is origins[-1] else ORIGIN_ROWS
        tested.append(
            _test_at(origin, fit, X, won, closed_at, active, active_fitted_at, most_rows, rounds, seed + number)
        )
    last = tested[-1]
    rows = [test.row() for test in tested]
    for row, test in zip(rows, tested, strict=True):
        row["later_until"] = _text(closed_at[test.origin.later].max())
    result.update(
        state="tested",
        **{
            key: rows[-1][key]
            for key in (
                "earlier_count",
                "later_count",
                "later_won_count",
                "earlier_until",
                "later_until",
                "card",
                "baselines",
            )
        },
        intervals=_intervals(last.draws),
        gains=gains_table(last.won, last.own.score, None if amount is None else amount[later]),
        reliability=reliability_table(last.won, last.own.p),
        rounding=rounding_cost(last.card, X.loc[later], last.won),
        origins=rows,
        origins_mean=_origins_mean(tested, rows),
    )
    result["signal"] = _signal(result, won, out_of_fold, seed)
    return result


def _origins_mean(tested: list[_Tested], rows: list[dict[str, Any]]) -> dict[str, Any]:
    weight = np.array([test.origin.later.sum() for test in tested], dtype=float)

    def mean(parts: list[dict[str, Any]]) -> dict[str, float | None]:
        kept: dict[str, float | None] = {}
        for key in FIGURES:
            values = [part[key] for part in parts]
            whole = None if None in values else float(np.average(values, weights=weight))
            kept[key] = whole
        return kept

    # The active card is judged on a part of some blocks only: no mean of it is comparable.
    names = [name for name in rows[0]["baselines"] if all(name in row["baselines"] for row in rows)]
    names = [name for name in names if name != "active_card"]
    keys = (*FIGURES, *(f"gain_over_{name}" for name in names))
    share = weight / weight.sum()
    draws = {
        key: np.sum([part * test.draws[key] for part, test in zip(share, tested, strict=True)], axis=0) for key in keys
    }
    return {
        "origin_count": len(rows),
        "later_count": sum(len(test.won) for test in tested),
        "card": mean([row["card"] for row in rows]),
        "baselines": {name: mean([row["baselines"][name] for row in rows]) for name in names},
        "intervals": _intervals(draws),
    }


def total_weights(card: Card, X: pd.DataFrame) -> np.ndarray:
    """Sum of the unrounded weights of every row, log-odds, shape (n,)."""
    numbers = card.band_numbers(X)
    segment_of = card.segments_of(X).to_numpy()
    total = np.zeros(len(X))
    for segment in card.segments:
        inside = np.flatnonzero(segment_of == segment) if len(card.segments) > 1 else slice(None)
        for name, bands in card.rows(segment).items():
            total[inside] += np.array([band.weight for band in bands])[numbers[name].to_numpy()[inside] - 1]
    return total


def rounding_cost(card: Card, X: pd.DataFrame, won: np.ndarray) -> dict[str, float | None]:
    """What whole points cost against the weights that they round; keys at the head of this module.

    The weights' probability is read from the same calibration, between two entries of its table.
    """
    points = card.total_points(X).to_numpy().astype(float)
    exact = total_weights(card, X) / WEIGHT_PER_POINT
    p_points, p_weights = card.win_probability(points)[0], probability_between(card, exact)
    loss_points, loss_weights = float(log_losses(won, p_points).mean()), float(log_losses(won, p_weights).mean())
    auc_points, auc_weights = auc(won, points), auc(won, exact)
    return {
        "log_loss_weights": loss_weights,
        "log_loss_points": loss_points,
        "log_loss_cost": loss_points - loss_weights,
        "auc_weights": _finite(auc_weights),
        "auc_points": _finite(auc_points),
        "auc_cost": _finite(auc_weights - auc_points),
        "largest_points": float(np.abs(points - exact).max()) if len(points) else 0.0,
        "bound_points": len(card.criteria) / 2,
    }


def probability_between(card: Card, points: np.ndarray) -> np.ndarray:
    """Win probability of totals that are not whole, on the straight line in log-odds between two entries."""
    table = card.calibration
    log_odds = logit(np.asarray(table.probability))
    return expit(np.interp(points, np.arange(table.points_from, table.points_to + 1), log_odds))


def _signal(result: dict[str, Any], won: np.ndarray, out_of_fold: np.ndarray | None, seed: int) -> str:
    intervals = result["intervals"]
    if intervals["auc"] is not None and intervals["auc"][0] > 0.5:
        return "shown"
    if result["later_count"] < ENOUGH_TO_DENY or intervals["gain_over_base_rate"][0] > 0:
        return "not_shown"
    at_all_origins = result["origins_mean"]["intervals"]["auc"]
    if at_all_origins is not None and at_all_origins[0] > 0.5:
        return "not_shown"
    if out_of_fold is not None:
        constant = np.full(len(won), float(won.mean()))
        whole = bootstrap_intervals(won, constant, out_of_fold.astype(float), {}, seed=seed)["auc"]
        result["out_of_fold_auc"] = _finite(auc(won, out_of_fold.astype(float)))
        result["out_of_fold_auc_interval"] = whole
        if whole is not None and whole[0] > NEGLIGIBLE_AUC:
            return "not_shown"
    return "none"


# --------------------------------------------------------------------------- whether a refit may replace a card


def compare_on_later_deals(
    challenger_fit: Callable[[pd.DataFrame, np.ndarray], Card],
    champion: Card,
    X: pd.DataFrame,
    won: Any,
    closed_at: Any,
    champion_fitted_at: Any,
    *,
    seed: int,
) -> dict[str, Any]:
    """The challenger's method against the card in use, on deals that neither has seen.

    A challenger that was fitted on yesterday's deals would be judged on deals that it knows. So its method is
    fitted again on what had closed when the champion was fitted, and both are judged on what closed since. The
    gain is paired: per deal, how much lower the challenger's log loss is.

    *Not worse* means that the 90 % interval of the mean gain is not entirely below 0 and that the mean itself
    is above -0.002. The interval alone would let a clearly worse card pass where deals are few and the
    interval is wide; the mean alone would hold back or wave through by the noise of a dozen deals, so under 30
    deals, or 5 of one outcome, nothing is decided.

    Parameters
    ----------
    challenger_fit : makes a card of deals and outcomes.
    X : deals x criteria of both cards; won 0 or 1, and closed_at, both of shape (n,) in the order of X.
    champion_fitted_at : as-of moment of the champion's fit.

    Returns
    -------
    JSON-able dict: `decision` ("not_worse", "worse", "too_few"), `sentence`, `since` (ISO text), `fitted_count`,
    `deal_count`, `won_count`; and, when judged, `challenger` and `champion` (figures), `gain` (mean, nats per deal),
    `gain_interval` and `auc_gain`, `auc_gain_interval`.
    """
    moment = pd.Timestamp(champion_fitted_at)
    won = np.asarray(won).astype(np.int64)
    since = pd.to_datetime(pd.Series(np.asarray(closed_at))).to_numpy() > np.datetime64(moment)
    y = won[since]
    result: dict[str, Any] = {
        "decision": "too_few",
        "since": _text(moment),
        "fitted_count": int((~since).sum()),
        "deal_count": len(y),
        "won_count": int(y.sum()),
    }
    closed = f"{len(y):,} deals have closed since {result['since'][:10]}, {int(y.sum()):,} of them won"
    if not _is_enough(y):
        result["sentence"] = (
            f"Too few deals to compare: {closed}; at least {FEWEST_LATER} are needed, with {FEWEST_RARER} of each outcome."
        )
        return result
    X_since = X.loc[since]
    challenger = card_prediction(challenger_fit(X.loc[~since], won[~since]), X_since)
    holder = card_prediction(champion, X_since)
    rounds = _rounds(len(y))
    own = _draws(y, challenger, {"champion": holder}, rounds, np.random.default_rng(seed))
    # The same seed draws the same deals, so that the two AUCs of a draw are paired.
    other = _draws(y, holder, {}, rounds, np.random.default_rng(seed))
    gain = float((log_losses(y, holder.p) - log_losses(y, challenger.p)).mean())
    low, high = _intervals(own)["gain_over_champion"] or [math.nan, math.nan]
    is_worse = high < 0 or gain <= WORST_GAIN
    result.update(
        decision="worse" if is_worse else "not_worse",
        challenger=figures(y, challenger.p, challenger.score),
        champion=figures(y, holder.p, holder.score),
        gain=gain,
        gain_interval=[low, high],
        auc_gain=_finite(auc(y, challenger.score) - auc(y, holder.score)),
        auc_gain_interval=_intervals({"auc": own["auc"] - other["auc"]})["auc"],
    )
    result["sentence"] = (
        f"On the {len(y):,} deals closed since {result['since'][:10]} the refit's log loss is "
        f"{result['challenger']['log_loss']:.4f} against {result['champion']['log_loss']:.4f} of the active card "
        f"(gain {gain:+.4f}, 90 % interval {low:+.4f} to {high:+.4f}): it is {'worse' if is_worse else 'not worse'}."
    )
    return result


def verdict_sentences(result: dict[str, Any]) -> list[str]:
    """The evaluation in plain sentences, the most important first."""
    if result["state"] == "too_few_deals":
        return [
            f"Not enough closed deals to evaluate ({result['deal_count']:,}, "
            f"{result['won_count']:,} of them won; "
            f"the earlier and the newest ones must be at least {FEWEST_LATER} each, "
            f"with {FEWEST_RARER} of each outcome)."
        ]
    card, base = result["card"], result["baselines"]["base_rate"]
    low, high = result["intervals"]["auc"]
    where = f"on the {result['later_count']:,} deals closed after {result['earlier_until'][:10]}"
    area = f"the card's AUC is {card['auc']:.2f} (90 % interval {low:.2f}-{high:.2f})"
    losses = f"{card['log_loss']:.3f} against {base['log_loss']:.3f}"
    if result["signal"] == "none":
        return [
            f"There is no signal: {where} {area} and its log loss is not better than the base rate's "
            f"({losses}). Do not rank by these weights.",
            "The win probability is therefore the base rate for every account.",
        ]
    if result["signal"] == "not_shown":
        return [
            f"No signal has been shown yet: {where} {area}, log loss {losses} at the base rate. "
            "Treat the ranking as an opinion."
        ]
    better = result["intervals"]["gain_over_base_rate"][0] > 0
    sentences = [
        f"The card ranks better than chance: {where} {area}, log loss {losses} at the base rate; "
        f"the best 20 % hold {card['lift_20'] * 20:.0f} % of the won deals."
    ]
    mean = result.get("origins_mean")
    if mean is not None and mean["origin_count"] > 1 and mean["intervals"]["auc"] is not None:
        low, high = mean["intervals"]["auc"]
        sentences.append(
            f"Refitted at {mean['origin_count']} moments of the past and judged on the deals that closed next, its mean AUC is "
            f"{mean['card']['auc']:.2f} ({low:.2f}-{high:.2f}), log loss {mean['card']['log_loss']:.3f} against "
            f"{mean['baselines']['base_rate']['log_loss']:.3f} at the base rate."
        )
    if not better:
        sentences.append(
            "Its win probabilities are not better than the base rate on those deals: use the order, not the figures."
        )
    expert = result["baselines"].get("expert_card")
    if expert is not None and result["intervals"]["gain_over_expert_card"][1] < 0:
        sentences.append(
            f"The experts' points alone did better there (log loss {expert['log_loss']:.3f}): "
            "more deals are needed before the data improve on them."
        )
    return sentences
