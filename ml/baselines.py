"""What a card is measured against: simpler models, freer ones, and the card in use.

Belongs here: each baseline's win probabilities on later deals, fitted on the same earlier deals as the card.
Does not: splits, figures and intervals (`ml.evaluate`), the card's own fit (`ml.scorecard`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.special import expit, logit
from threadpoolctl import threadpool_limits

from ml.card import WEIGHT_PER_POINT, Card, as_numbers, column_of

FEWEST_FOR_BOOSTING = 60
"""Earlier deals under which gradient boosting is no ceiling but noise."""

BOOSTING_ROWS = 50_000
"""Earlier deals at most for the gradient-boosted ceiling, every k-th."""

REGRESSION_ROWS = 200_000
"""Earlier deals at most for plain logistic regression, every k-th: a weight is then known to +- 0.02."""


@dataclass(frozen=True)
class Prediction:
    """One model on the later deals.

    Attributes
    ----------
    p : win probability, shape (n,).
    score : what ranks, shape (n,).
    judged : deals that count, shape (n,); None = all. The card in use has seen some of them.
    """

    p: np.ndarray
    score: np.ndarray
    judged: np.ndarray | None = None


def baseline_predictions(
    card: Card, X_earlier: pd.DataFrame, won_earlier: np.ndarray, X_later: pd.DataFrame, *, seed: int
) -> dict[str, Prediction]:
    """Every baseline but the card in use, by name.

    Parameters
    ----------
    card : fitted on the earlier deals; gives the bands and the experts' points.
    won_earlier : shape (earlier,), both outcomes present.
    """
    base = np.full(len(X_later), float(won_earlier.mean()))
    result = {"base_rate": Prediction(base, base)}
    rows = card.rows()
    # Pairs are the card's own device: the baselines are what is had without it.
    names = [criterion.name for criterion in card.criterion_bands()]
    earlier_bands = card.band_numbers(X_earlier)[names].to_numpy() - 1
    later_bands = card.band_numbers(X_later)[names].to_numpy() - 1
    expert = [np.array([band.expert_points for band in rows[name]]) * WEIGHT_PER_POINT for name in names]
    if any(points.any() for points in expert):
        earlier, later = (
            np.sum([points[bands[:, k]] for k, points in enumerate(expert)], axis=0)
            for bands in (earlier_bands, later_bands)
        )
        result["expert_card"] = Prediction(expit(_level(earlier, won_earlier) + later), later)
    sizes = np.array([len(rows[name]) for name in names])
    result["naive_bayes"] = _naive_bayes(earlier_bands, won_earlier, later_bands, sizes)
    # One thread: on a busy machine threads that wait for one another made boosting 400 deals take 20 s instead of 0.2, and
    # 100,000 deals 40 s.
    with threadpool_limits(limits=1):
        result["logistic_regression"] = _logistic_regression(earlier_bands, won_earlier, later_bands)
        if len(won_earlier) >= FEWEST_FOR_BOOSTING:
            p = _boosting(card, X_earlier, won_earlier, X_later, seed)
            result["gradient_boosting"] = Prediction(p, p)
    return result


def card_prediction(card: Card, X: pd.DataFrame, judged: np.ndarray | None = None) -> Prediction:
    """A card on deals: it ranks by points, also where its probability is flat."""
    points = card.total_points(X).to_numpy()
    return Prediction(card.win_probability(points)[0], points.astype(float), judged)


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


def _naive_bayes(
    earlier_bands: np.ndarray, won_earlier: np.ndarray, later_bands: np.ndarray, sizes: np.ndarray
) -> Prediction:
    """Naive Bayes with Laplace smoothing: how the lead scoring of open-source CRM systems works."""
    from sklearn.naive_bayes import CategoricalNB

    model = CategoricalNB(alpha=1.0, min_categories=sizes).fit(earlier_bands, won_earlier)
    joint = model.predict_joint_log_proba(later_bands)
    log_odds = joint[:, 1] - joint[:, 0]
    # Ranked by log-odds: with many criteria its probabilities are 0 or 1 to the last bit, and tie.
    return Prediction(expit(log_odds), log_odds)


def _logistic_regression(earlier_bands: np.ndarray, won_earlier: np.ndarray, later_bands: np.ndarray) -> Prediction:
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import OneHotEncoder

    step = max(1, math.ceil(len(won_earlier) / REGRESSION_ROWS))
    earlier_bands, won_earlier = earlier_bands[::step], won_earlier[::step]
    encoder = OneHotEncoder(handle_unknown="ignore")
    model = LogisticRegression(max_iter=1000).fit(encoder.fit_transform(earlier_bands), won_earlier)
    log_odds = model.decision_function(encoder.transform(later_bands))
    return Prediction(expit(log_odds), log_odds)


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
            place, values = pd.factorize(column, use_na_sentinel=True)
            target.append(np.array([code.get(str(value), np.nan) for value in values] + [np.nan])[place])
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
