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
    closed by then), ``fitted_count`` (the newest 50,000 of them at most, but for the last origin),
    ``later_count``, ``later_won_count``, ``card``, ``baselines``. The last one is the final test.
``origins_mean``
    means over the origins weighted by ``later_count``: ``origin_count``, ``later_count``, ``card``, ``baselines`` (those that
    every origin has), ``intervals`` (deals drawn within each origin).
``out_of_fold_auc``, ``out_of_fold_auc_interval``
    only where the later deals show nothing: the same question asked of all deals out of fold.

Added by the fit where they apply:

``leaks``
    list of `ml.leaks.Leak` as dicts: ``criterion``, ``rule``, ``evidence`` (a sentence), ``is_left_out``.
``criteria``
    list of `ml.evidence.CriterionEvidence` as dicts, on all deals of the fit; see there.
``protected``
    criterion -> groups and differences, see `ml.evidence.protected_differences`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit, logit

from ml.card import WEIGHT_PER_POINT, Card, as_numbers, column_of

LATER_SHARE = 0.2
"""Share of the deals, the newest by close time, that are kept for the test."""

FEWEST_LATER = 30
"""Deals that the test needs; under it an AUC's interval is wider than +- 0.15 and says nothing."""

FEWEST_RARER = 5
"""Won deals, and lost deals, that the test needs."""

ENOUGH_TO_DENY = 100
"""Later deals from which "no signal" may be said; with fewer the test is silent, not negative."""

BOOTSTRAP_ROUNDS = 300
BOOTSTRAP_CELLS = 30_000_000
"""Deals times rounds at most: with a million deals the interval is so narrow that 50 rounds show it."""

BOOSTING_ROWS = 100_000
"""Earlier deals at most for the gradient-boosted ceiling."""

BINS = 10

P_FLOOR = 1e-6
"""No probability is scored as more certain than this, baselines included."""


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
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=np.inf, solver="newton-cholesky", tol=1e-8).fit(line[:, None], won)
    return intercept, float(model.coef_[0, 0])


def figures(won: np.ndarray, p: np.ndarray, score: np.ndarray | None = None) -> dict[str, float | None]:
    """All metrics of one model on one set of deals.

    Parameters
    ----------
    won : shape (n,), 0 or 1.
    p : win probabilities, shape (n,).
    score : what ranks, shape (n,); None = `p`. A card ranks by points even where its probability is flat.
    """
    rank = p if score is None else score
    clipped = np.clip(p, P_FLOOR, 1 - P_FLOOR)
    intercept, slope = calibration_line(won, p)
    top = gains(won, rank, [0.1, 0.2])
    return {
        "auc": _finite(auc(won, rank)),
        "log_loss": float(-np.mean(np.where(won == 1, np.log(clipped), np.log1p(-clipped)))),
        "brier": float(np.mean((won - p) ** 2)),
        "ece": expected_calibration_error(won, p),
        "calibration_intercept": intercept,
        "calibration_slope": slope,
        "lift_10": float(top[0] / 0.1),
        "lift_20": float(top[1] / 0.2),
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _interval(draws: list[float]) -> list[float] | None:
    kept = np.array([d for d in draws if math.isfinite(d)])
    return [float(np.quantile(kept, 0.05)), float(np.quantile(kept, 0.95))] if len(kept) else None


def bootstrap_intervals(
    won: np.ndarray, p: np.ndarray, score: np.ndarray, others: Mapping[str, np.ndarray], *, seed: int
) -> dict[str, list[float] | None]:
    """90 % intervals over deals drawn with replacement, of AUC, log loss, Brier, ECE and lift.

    `gain_over_<name>` is how much lower the log loss is than that of each other model on the same draws
    (above 0 = better than it): paired, so it sees differences that two separate intervals hide.
    """
    n = len(won)
    rounds = int(min(BOOTSTRAP_ROUNDS, max(50, BOOTSTRAP_CELLS // max(n, 1))))
    generator = np.random.default_rng(seed)
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(score[order]) != 0]))
    y, probability = won[order], p[order]
    # Deals sorted by score once: a draw is then a vector of counts and every metric a weighted sum.
    clipped = np.clip(probability, P_FLOOR, 1 - P_FLOOR)
    loss = -np.where(y == 1, np.log(clipped), np.log1p(-clipped))
    gain = {}
    for name, other in others.items():
        q = np.clip(other[order], P_FLOOR, 1 - P_FLOOR)
        gain[f"gain_over_{name}"] = -np.where(y == 1, np.log(q), np.log1p(-q)) - loss
    square = (y - probability) ** 2
    by_p = np.argsort(probability, kind="stable")
    draws: dict[str, list[float]] = {
        key: [] for key in ("auc", "log_loss", "brier", "ece", "lift_10", "lift_20", *gain)
    }
    for _ in range(rounds):
        count = np.bincount(generator.integers(0, n, size=n), minlength=n).astype(float)
        draws["auc"].append(_auc_sorted(count * y, count * (1 - y), starts))
        draws["log_loss"].append(float(count @ loss / n))
        draws["brier"].append(float(count @ square / n))
        for key, difference in gain.items():
            draws[key].append(float(count @ difference / n))
        weight = count[by_p]
        which = np.minimum((np.cumsum(weight) - 0.5 * weight) / n * BINS, BINS - 1e-9).astype(int)
        gap = np.bincount(which, weights=weight * (y[by_p] - probability[by_p]), minlength=BINS)
        draws["ece"].append(float(np.abs(gap).sum() / n))
        mass = np.add.reduceat(count, starts)[::-1].cumsum() / n
        wins = np.add.reduceat(count * y, starts)[::-1].cumsum()
        captured = np.interp([0.1, 0.2], np.concatenate([[0], mass]), np.concatenate([[0], wins]))
        draws["lift_10"].append(float(captured[0] / max(wins[-1], 1) / 0.1))
        draws["lift_20"].append(float(captured[1] / max(wins[-1], 1) / 0.2))
    return {key: _interval(values) for key, values in draws.items()}


# --------------------------------------------------------------------------- baselines


def _level(total: np.ndarray, won: np.ndarray) -> float:
    """Intercept that makes the mean of sigmoid(intercept + total) the share won."""
    intercept = float(logit((won.sum() + 0.5) / (len(won) + 1.0))) - float(total.mean())
    for _ in range(100):
        q = expit(intercept + total)
        step = (won.sum() + 0.5 - q.sum() * (len(won) + 1) / len(won)) / max((q * (1 - q)).sum(), 1e-9)
        intercept += float(np.clip(step, -1, 1))
        if abs(step) < 1e-9:
            break
    return intercept


def _expert_totals(card: Card, X: pd.DataFrame) -> np.ndarray:
    numbers = card.band_numbers(X)
    table: dict[str, list[int]] = {}
    for band in card.bands:
        table.setdefault(band.criterion, []).append(band.expert_points)
    return np.sum([np.asarray(table[name])[numbers[name].to_numpy() - 1] for name in table], axis=0)


def _baselines(
    card: Card, X_earlier: pd.DataFrame, won_earlier: np.ndarray, X_later: pd.DataFrame, seed: int
) -> dict[str, np.ndarray]:
    """Win probabilities of the later deals by simpler and by freer models, each fitted on the earlier
    deals.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder

    result: dict[str, np.ndarray] = {}
    if any(band.expert_points for band in card.bands):
        earlier = _expert_totals(card, X_earlier) * WEIGHT_PER_POINT
        later = _expert_totals(card, X_later) * WEIGHT_PER_POINT
        result["expert_card"] = expit(_level(earlier, won_earlier) + later)
    encoder = OneHotEncoder(handle_unknown="ignore")
    earlier_bands = encoder.fit_transform(card.band_numbers(X_earlier))
    model = LogisticRegression(max_iter=1000).fit(earlier_bands, won_earlier)
    result["logistic_regression"] = model.predict_proba(encoder.transform(card.band_numbers(X_later)))[:, 1]
    if len(won_earlier) >= 2 * FEWEST_LATER:
        result["gradient_boosting"] = _boosting(card, X_earlier, won_earlier, X_later, seed)
    return result


def _boosting(
    card: Card, X_earlier: pd.DataFrame, won_earlier: np.ndarray, X_later: pd.DataFrame, seed: int
) -> np.ndarray:
    from sklearn.ensemble import HistGradientBoostingClassifier

    rows = slice(None, None, max(1, math.ceil(len(X_earlier) / BOOSTING_ROWS)))
    columns_earlier, columns_later, categorical = [], [], []
    for criterion in card.criterion_bands():
        earlier, later = column_of(X_earlier, criterion.name).iloc[rows], column_of(X_later, criterion.name)
        categorical.append(criterion.value_type == "category")
        if criterion.value_type == "number":
            columns_earlier.append(as_numbers(criterion.name, earlier))
            columns_later.append(as_numbers(criterion.name, later))
            continue
        # At most 254 codes are allowed; the rarest values and unseen ones count as missing.
        known = earlier.dropna().astype(str).value_counts().index[:250]
        code = {value: float(number) for number, value in enumerate(sorted(known))}
        for target, column in ((columns_earlier, earlier), (columns_later, later)):
            target.append(np.array([code.get(str(v), np.nan) for v in column.to_numpy(dtype=object)]))
    # A column without two known values tells nothing, and scikit-learn 1.9 stops at one without any.
    kept = [k for k, column in enumerate(columns_earlier) if len(np.unique(column[~np.isnan(column)])) > 1]
    if not kept:
        return np.full(len(X_later), float(won_earlier.mean()))
    model = HistGradientBoostingClassifier(
        max_iter=200,
        learning_rate=0.06,
        max_leaf_nodes=15,
        early_stopping=len(columns_earlier[0]) >= 1000,
        validation_fraction=0.15,
        categorical_features=[categorical[k] for k in kept],
        random_state=seed,
    )
    model.fit(np.column_stack([columns_earlier[k] for k in kept]), won_earlier[rows])
    return np.asarray(model.predict_proba(np.column_stack([columns_later[k] for k in kept]))[:, 1])


# --------------------------------------------------------------------------- the test and its words


def on_later_deals(
    fit: Callable[[pd.DataFrame, np.ndarray], Card],
    X: pd.DataFrame,
    won: np.ndarray,
    closed_at: np.ndarray,
    *,
    out_of_fold: np.ndarray | None,
    seed: int,
) -> dict[str, Any]:
    """Fit on the earlier deals, test on the newest 20 % by close time.

    Parameters
    ----------
    fit : makes a card of deals and outcomes; it is given the earlier deals only.
    out_of_fold : points of all deals by fits that did not see them, a second look at the signal; None =
        unknown.

    Returns
    -------
    JSON-able dict. `state`: "tested" or "too_few_deals". `signal`: "shown" (the ranking beats chance on
    the later deals), "none" (100 or more later deals, and all deals out of fold, show nothing),
    "not_shown" (between the two), "unknown" (not tested). Then counts, times, `card` and `baselines` with
    figures, `intervals`, `gains` (won share captured in the best 10, 20, ... 100 %).
    """
    later, last_earlier = split_by_close_time(closed_at)
    result: dict[str, Any] = {
        "state": "too_few_deals",
        "signal": "unknown",
        "deal_count": len(won),
        "won_count": int(won.sum()),
    }
    y = won[later]
    earlier_won = won[~later]
    rarer = min(y.sum(), len(y) - y.sum(), earlier_won.sum(), len(earlier_won) - earlier_won.sum())
    if len(y) < FEWEST_LATER or rarer < FEWEST_RARER or X.shape[1] == 0:
        return result
    X_earlier, X_later = X.loc[~later], X.loc[later]
    card = fit(X_earlier, earlier_won)
    points = card.total_points(X_later).to_numpy()
    p = card.win_probability(points)[0]
    base = np.full(len(y), float(earlier_won.mean()))
    baselines = {"base_rate": base, **_baselines(card, X_earlier, earlier_won, X_later, seed)}
    intervals = bootstrap_intervals(y, p, points.astype(float), baselines, seed=seed)
    result.update(
        state="tested",
        earlier_count=len(earlier_won),
        later_count=len(y),
        later_won_count=int(y.sum()),
        earlier_until=str(pd.Timestamp(last_earlier)),
        later_until=str(pd.Timestamp(closed_at.max())),
        card=figures(y, p, points.astype(float)),
        intervals=intervals,
        baselines={name: figures(y, q) for name, q in baselines.items()},
        gains=[
            {"top_pct": 10 * (k + 1), "won_share_pct": round(100 * float(share), 2)}
            for k, share in enumerate(gains(y, points.astype(float), np.arange(1, 11) / 10))
        ],
    )
    result["signal"] = _signal(result, won, out_of_fold, seed)
    return result


def _signal(result: dict[str, Any], won: np.ndarray, out_of_fold: np.ndarray | None, seed: int) -> str:
    intervals = result["intervals"]
    if intervals["auc"] is not None and intervals["auc"][0] > 0.5:
        return "shown"
    if result["later_count"] < ENOUGH_TO_DENY or intervals["gain_over_base_rate"][0] > 0:
        return "not_shown"
    if out_of_fold is not None:
        constant = np.full(len(won), float(won.mean()))
        whole = bootstrap_intervals(won, constant, out_of_fold.astype(float), {}, seed=seed)["auc"]
        result["out_of_fold_auc"] = _finite(auc(won, out_of_fold.astype(float)))
        result["out_of_fold_auc_interval"] = whole
        if whole is not None and whole[0] > 0.5:
            return "not_shown"
    return "none"


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
