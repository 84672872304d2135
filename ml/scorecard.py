"""The fit of the weights: experts' points as pseudo-deals, then logistic regression on band indicators.

Belongs here: `ScorecardClassifier`, the numerical core on any numeric matrix, and `fit_card`, the whole
road from closed deals to a `Card`. Does not: reading features, storing cards, deciding which card is active.

Method. Every band has an indicator. A band that the experts give weight e enters as S rows with that
indicator alone switched on, a share ``1 / (1 + exp(-t e))`` of them won: a proper prior, so that any
number of deals gives a card. Two figures are learnt. *Trust* t is the slope of one logistic line on the
experts' total, with prior 0.7 +- 0.3. *Belief* S, how many deals an opinion is worth, maximises Laplace's
approximation of the marginal likelihood over a grid.

Level. Raising all bands of a criterion and lowering the intercept by as much changes no prediction: deals
cannot see it, only the pseudo-deals can. So the level of each criterion stays where the experts put it:
their scale survives the fit, and "missing" without an opinion or deals stays at 0. No further centring is
done.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy import sparse
from scipy.special import betaln, expit, log_expit
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ml import evaluate
from ml.banding import band_criteria
from ml.calibration import calibrate, flat_calibration, logistic_line_posterior
from ml.card import (
    WEIGHT_PER_POINT,
    Z_90,
    Calibration,
    Card,
    CardBand,
    CardSpec,
    CriterionBands,
    column_of,
    points_from_weights,
    points_range,
)

INTERCEPT_DEALS = 20.0
"""Pseudo-deals that hold the intercept, at the rate that the trust line gives to 0 points."""

DENSE_CELLS = 20_000_000
"""Largest matrix that is solved dense by Newton's method (160 MB); above, sparse L-BFGS."""

EVIDENCE_ROWS = 50_000
"""Rows for choosing the belief: how far weights stray from the experts is well seen on so many."""

CHUNK_ROWS = 20_000
"""Rows that are dense at a time while the Hessian is summed: one matrix product each, 40 MB at 250 bands."""

LARGEST_BELIEF = 1e-6
"""Pseudo-deals are never more one-sided than this share: a won share of exactly 0 has no finite weight."""

THREADS_FROM = 50_000
"""Deals from which several threads save more than they cost."""

THIN_EVIDENCE = 40
"""Won (or lost) deals under which the verdict says that the card is mostly expert judgement."""


class ScorecardClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression whose prior is stated in deals.

    Parameters
    ----------
    expert_weights : log-odds that experts give to each column, shape (p,); None = no opinion.
    prior_trust, trust_sd : slope on all expert weights before any row, and its standard deviation; 0 = fixed.
    belief_deals : rows that each opinion is worth: centre of what is learnt, or fixed.
    belief_grid : strengths to choose from by marginal likelihood; None or empty = `belief_deals` is fixed.
    belief_scale : strength per column relative to the others, shape (p,); None = all 1.

    Attributes
    ----------
    classes_ : the two outcomes; the second is "won".
    coef_, intercept_ : shapes (1, p) and (1,).
    trust_, belief_deals_ : the two learnt figures.
    prior_coef_ : trust times expert weights, shape (p,): where a column without data stays.
    covariance_ : Laplace posterior of (intercept, weights), shape (p + 1, p + 1).
    data_share_ : share of the information on each weight that is from rows, shape (p,), 0-1.
    prior_precision_ : information of the pseudo-deals on each weight, shape (p,).
    log_evidence_ : dict, belief -> log marginal likelihood (empty when the belief is fixed).

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[1.0, 0.0], [0.0, 1.0]] * 4)
    >>> model = ScorecardClassifier(expert_weights=[0.5, -0.5]).fit(X, [1, 0] * 3 + [0, 1])
    >>> bool(model.coef_[0, 0] > model.coef_[0, 1])
    True
    """

    def __init__(
        self,
        expert_weights: Any = None,
        *,
        prior_trust: float = 0.7,
        trust_sd: float = 0.3,
        belief_deals: float = 40.0,
        belief_grid: Any = (10.0, 20.0, 40.0, 80.0, 160.0),
        belief_scale: Any = None,
    ) -> None:
        self.expert_weights = expert_weights
        self.prior_trust = prior_trust
        self.trust_sd = trust_sd
        self.belief_deals = belief_deals
        self.belief_grid = belief_grid
        self.belief_scale = belief_scale

    def fit(self, X, y, sample_weight=None):
        """Fit to X (n, p), dense or CSR, two outcomes y (n,), and optional row weights (n,).

        Raises
        ------
        ValueError
            Not exactly two outcomes, or an expert weight too many or too few.
        """
        X, y = validate_data(self, X, y, accept_sparse="csr", dtype=np.float64)
        weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        check_classification_targets(y)
        kind = type_of_target(y, input_name="y")
        if kind != "binary":
            raise ValueError(f"Only binary classification is supported. The type of the target is {kind}.")
        self.classes_, codes = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(f"y must hold two classes, got 1 class: {self.classes_[0]!r}")
        won = codes.astype(np.float64)
        expert = self._per_column("expert_weights", X.shape[1], 0.0)
        scale = self._per_column("belief_scale", X.shape[1], 1.0)

        total = np.asarray(X @ expert, dtype=float).ravel()
        intercept, self.trust_ = self._learn_trust(total, won, weight)
        self.prior_coef_ = self.trust_ * expert
        prior = np.concatenate([[intercept], self.prior_coef_])

        # A column without rows stays exactly at its prior and needs no solving.
        filled = np.flatnonzero(np.asarray(abs(X).sum(axis=0)).ravel() > 0)
        design = _with_intercept(X[:, filled])
        used = np.concatenate([[0], filled + 1])

        def strengths(belief: float) -> np.ndarray:
            return np.concatenate([[INTERCEPT_DEALS], belief * scale])

        self.log_evidence_: dict[float, float] = {}
        self.belief_deals_ = float(self.belief_deals)
        start = prior[used]
        grid = sorted({float(b) for b in (self.belief_grid or ())} | {self.belief_deals_})
        if self.belief_grid:
            step = max(1, math.ceil(X.shape[0] / EVIDENCE_ROWS))
            part, part_won, part_weight = design[::step], won[::step], weight[::step]
            for belief in grid:
                solution = _solve(part, part_won, part_weight, prior[used], strengths(belief)[used], start)
                start = solution.theta
                # Without rows all beliefs explain them alike: a wide prior round the given one then decides.
                lean = -0.5 * (math.log(belief / self.belief_deals) / math.log(4.0)) ** 2
                self.log_evidence_[belief] = solution.log_evidence + lean
            self.belief_deals_ = max(grid, key=lambda belief: self.log_evidence_[belief])
        solution = _solve(design, won, weight, prior[used], strengths(self.belief_deals_)[used], start)

        size = X.shape[1] + 1
        theta = prior.copy()
        theta[used] = solution.theta
        p0 = np.clip(expit(prior), LARGEST_BELIEF, 1 - LARGEST_BELIEF)
        prior_precision = strengths(self.belief_deals_) * p0 * (1 - p0)
        self.covariance_ = np.zeros((size, size))
        np.fill_diagonal(self.covariance_, 1.0 / prior_precision)
        self.covariance_[np.ix_(used, used)] = np.linalg.inv(solution.hessian)
        share = np.zeros(size)
        share[used] = solution.data_information / np.diag(solution.hessian)
        self.prior_precision_ = prior_precision[1:]
        self.data_share_ = share[1:]
        self.intercept_ = theta[:1]
        self.coef_ = theta[None, 1:]
        return self

    def _per_column(self, name: str, count: int, default: float) -> np.ndarray:
        given = getattr(self, name)
        values = np.full(count, default) if given is None else np.asarray(given, dtype=float)
        if values.shape != (count,):
            raise ValueError(f"{name} must have one figure per column ({count}), got shape {values.shape}")
        return values

    def _learn_trust(self, total: np.ndarray, won: np.ndarray, weight: np.ndarray) -> tuple[float, float]:
        """Intercept at 0 points and slope on the experts' totals; the slope is never below 0.

        A negative slope would turn every belief round, also where no deal has spoken: experts who are wrong
        in sum are not listened to, the deals alone then say which way a band goes.
        """
        rate = (weight @ won + 0.5) / (weight.sum() + 1.0)
        centre = float(np.average(total, weights=weight)) if weight.sum() > 0 else 0.0
        values, place = np.unique(total, return_inverse=True)
        wins = np.bincount(place, weights=weight * won, minlength=len(values))
        losses = np.bincount(place, weights=weight * (1 - won), minlength=len(values))
        base = float(np.log(rate / (1 - rate)))
        slope_sd = self.trust_sd if np.ptp(values) > 0 else 0.0
        theta, _ = logistic_line_posterior(values - centre, wins, losses, (base, self.prior_trust), (2.0, slope_sd))
        if theta[1] < 0:
            theta, _ = logistic_line_posterior(values - centre, wins, losses, (base, 0.0), (2.0, 0.0))
        return float(theta[0] - theta[1] * centre), float(theta[1])

    def decision_function(self, X):
        """Log-odds of the second class, shape (n,)."""
        check_is_fitted(self)
        X = validate_data(self, X, accept_sparse="csr", dtype=np.float64, reset=False)
        return np.asarray(X @ self.coef_[0]).ravel() + self.intercept_[0]

    def predict_proba(self, X):
        """Probabilities of both classes, shape (n, 2)."""
        won = expit(self.decision_function(X))
        return np.column_stack([1 - won, won])

    def predict(self, X):
        """The likelier class, shape (n,)."""
        above = self.decision_function(X) > 0
        return self.classes_[above.astype(int)]

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        tags.classifier_tags.multi_class = False
        return tags


@dataclass(frozen=True)
class _Solution:
    theta: np.ndarray
    hessian: np.ndarray
    data_information: np.ndarray
    log_evidence: float


def _with_intercept(X: Any) -> Any:
    ones = np.ones((X.shape[0], 1))
    return sparse.hstack([sparse.csr_array(ones), X], format="csr") if sparse.issparse(X) else np.hstack([ones, X])


def _solve(
    design: Any,
    won: np.ndarray,
    weight: np.ndarray,
    prior: np.ndarray,
    strength: np.ndarray,
    start: np.ndarray,
) -> _Solution:
    """Mode of rows plus pseudo-deals, its Hessian, and Laplace's log marginal likelihood.

    design (n, d), won and weight (n,), prior log-odds, strength in deals and start (d,).
    """
    d = design.shape[1]
    p0 = np.clip(expit(prior), LARGEST_BELIEF, 1 - LARGEST_BELIEF)
    alpha, beta = strength * p0, strength * (1 - p0)
    target = np.concatenate([won, np.ones(d), np.zeros(d)])
    weights = np.concatenate([weight, alpha, beta])
    # C=inf: all that holds the weights back are the pseudo-deals. The step after it (below) is exact to
    # 1e-8, so the solver may stop early; points do not hang on its tolerance.
    options: dict[str, Any] = {"C": np.inf, "fit_intercept": False, "warm_start": True}
    if design.shape[0] * d <= DENSE_CELLS:
        dense = design.toarray() if sparse.issparse(design) else design
        rows: Any = np.vstack([dense, np.eye(d), np.eye(d)])
        column_size = np.ones(d)
        model = LogisticRegression(solver="newton-cholesky", tol=1e-8, max_iter=100, **options)
        design = dense
    else:
        # Columns scaled to like curvature: 30 instead of 200 rounds where shares run from 0.1 % to 99 %.
        square = design.multiply(design) if sparse.issparse(design) else design**2
        column_size = 1 / np.sqrt(np.asarray(square.T @ weight).ravel() + strength)
        eye = sparse.eye_array(d, format="csr")
        rows = sparse.vstack([sparse.csr_array(design), eye, eye], format="csr")
        rows.data = rows.data * column_size[rows.indices] * math.sqrt(weights.sum())
        column_size = column_size * math.sqrt(weights.sum())
        model = LogisticRegression(solver="lbfgs", tol=1e-6, max_iter=1000, **options)
    model.coef_ = (start / column_size)[None, :]
    model.intercept_ = np.zeros(1)
    model.classes_ = np.array([0.0, 1.0])
    model.fit(rows, target, sample_weight=weights)
    theta = model.coef_[0] * column_size

    # Newton steps on the same loss take the solver's tolerance out of the result. Near the mode one Hessian
    # serves them all; at a million deals it costs as much as 40 gradients.
    hessian = np.empty((0, 0))
    data_information = np.empty(0)
    for _ in range(5):
        p = expit(np.asarray(design @ theta).ravel())
        q = expit(theta)
        if len(hessian) == 0:
            hessian = _information(design, weight * p * (1 - p))
            data_information = np.diag(hessian).copy()
            hessian[np.diag_indices(d)] += strength * q * (1 - q)
        gradient = np.asarray(design.T @ (weight * (won - p))).ravel() + alpha - strength * q
        step = np.linalg.solve(hessian, gradient)
        if np.abs(step).max() > 1.0:
            break  # far from the mode (a badly scaled matrix): the solver's result stands
        theta = theta + step
        if np.abs(step).max() < 1e-8:
            break
    line = np.asarray(design @ theta).ravel()
    likelihood = weight @ np.where(won > 0, log_expit(line), log_expit(-line))
    log_prior = np.sum(alpha * log_expit(theta) + beta * log_expit(-theta) - betaln(alpha, beta))
    _, log_determinant = np.linalg.slogdet(hessian)
    evidence = float(likelihood + log_prior + 0.5 * d * math.log(2 * math.pi) - 0.5 * log_determinant)
    return _Solution(theta, hessian, data_information, evidence)


def _information(design: Any, row_information: np.ndarray) -> np.ndarray:
    """``design.T @ diag(row_information) @ design``, dense (d, d), summed over dense chunks of rows.

    A sparse product of two indicator matrices costs (criteria)^2 scattered additions per deal; a dense
    product of a chunk is ten times faster at 40 criteria.
    """
    root = np.sqrt(row_information)
    total = np.zeros((design.shape[1], design.shape[1]))
    for begin in range(0, design.shape[0], CHUNK_ROWS):
        chunk = design[begin : begin + CHUNK_ROWS]
        rows = (chunk.toarray() if sparse.issparse(chunk) else chunk) * root[begin : begin + CHUNK_ROWS, None]
        total += rows.T @ rows
    return total


# --------------------------------------------------------------------------- the card


@dataclass(frozen=True)
class _Weights:
    """Weights of all bands, in the order of the criteria and their bands; every array has shape (bands,)."""

    mean: np.ndarray
    sd: np.ndarray
    data_share: np.ndarray
    trust: float
    belief_deals: float


@dataclass(frozen=True)
class Fitted:
    """A card and what its fit saw of each deal.

    Attributes
    ----------
    out_of_fold : index of the deals, int64 columns `fit_points` (explicit criteria) and `engagement_points`
        (implicit) by fits that did not see the deal; None where one outcome is too rare for folds.
    band_numbers : index of the deals, `band_no` per criterion, pairs last.
    """

    card: Card
    out_of_fold: pd.DataFrame | None
    band_numbers: pd.DataFrame


def fit_card(spec: CardSpec, X: pd.DataFrame, y: Any, closed_at: Any, **options: Any) -> Card:
    """The card alone of `fit`."""
    return fit(spec, X, y, closed_at, **options).card


def fit(
    spec: CardSpec,
    X: pd.DataFrame,
    y: Any,
    closed_at: Any,
    *,
    seed: int,
    population: pd.DataFrame | None = None,
    with_evaluation: bool = True,
    active: Card | None = None,
) -> Fitted:
    """The card of these closed deals, from none to millions.

    Until one deal is won and one is lost, the card is the experts' card, point for point. After that every
    weight is the mode of deals and pseudo-deals together. Points never depend on the verdict; but where
    the deals closed later, and all deals out of fold, both show no signal, the win probability is flat at
    the base rate.

    Parameters
    ----------
    X : closed deals x criteria (more columns are ignored): numbers as float, NaN = missing; categories as
        text, None = missing. As known when the deal opened.
    y : shape (n,), 1 = won, 0 = lost.
    closed_at : shape (n,), when each deal closed.
    seed : of folds, bootstrap and the gradient-boosted baseline.
    population : accounts of today, columns as `X`. While few deals have closed it places automatic bands
        and says what an average account's points are. None = unknown.
    with_evaluation : False leaves out the test on later deals (and with it the verdict on the signal).
    active : the card in use, judged on the same later deals.

    Raises
    ------
    ValueError
        Lengths differ, an outcome is not 0 or 1, a close time or a column is missing, text for a number.
    """
    won, closed = _check_deals(X, y, closed_at)
    # Threads that wait for one another on a busy machine made a fit of 400 deals take 20 s instead of 1.
    with threadpool_limits(limits=1 if len(X) < THREADS_FROM else None):
        card, out_of_fold = _fit_checked(
            spec, X, won, closed, seed=seed, population=population, with_evaluation=with_evaluation, active=active
        )
    by_kind = None
    if out_of_fold is not None:
        by_kind = pd.DataFrame(out_of_fold, index=X.index, columns=["fit_points", "engagement_points"])
    return Fitted(card, by_kind, card.band_numbers(X))


def _fit_checked(
    spec: CardSpec,
    X: pd.DataFrame,
    won: np.ndarray,
    closed: np.ndarray,
    *,
    seed: int,
    population: pd.DataFrame | None,
    with_evaluation: bool,
    active: Card | None,
) -> tuple[Card, np.ndarray | None]:
    card, out_of_fold = _fit_without_evaluation(spec, X, won, seed=seed, population=population)
    if not with_evaluation:
        return replace(card, verdict=tuple(evidence_sentences(card))), out_of_fold

    def fit_earlier(X_earlier: pd.DataFrame, won_earlier: np.ndarray) -> Card:
        return _fit_without_evaluation(spec, X_earlier, won_earlier, seed=seed, population=None)[0]

    total = None if out_of_fold is None else out_of_fold.sum(axis=1)
    result = evaluate.on_later_deals(fit_earlier, X, won, closed, out_of_fold=total, seed=seed)
    if result["signal"] == "none":
        card = replace(
            card,
            calibration=flat_calibration(
                won,
                lowest_points=card.calibration.points_from,
                highest_points=card.calibration.points_to,
                expected_win_rate=spec.expected_win_rate,
                expected_win_rate_deals=spec.expected_win_rate_deals,
            ),
        )
    verdict = (*evaluate.verdict_sentences(result), *evidence_sentences(card))
    return replace(card, evaluation=result, verdict=verdict), out_of_fold


def _check_deals(X: pd.DataFrame, y: Any, closed_at: Any) -> tuple[np.ndarray, np.ndarray]:
    outcome = pd.to_numeric(pd.Series(np.asarray(y)), errors="coerce").to_numpy(dtype=float)
    if len(outcome) != len(X):
        raise ValueError(f"y must have one outcome per deal ({len(X)}), got {len(outcome)}")
    wrong = ~np.isin(outcome, (0.0, 1.0))
    if wrong.any():
        first = int(np.flatnonzero(wrong)[0])
        raise ValueError(f"y must be 0 (lost) or 1 (won), got {np.asarray(y)[first]!r} in row {first}")
    closed = pd.to_datetime(pd.Series(np.asarray(closed_at))).to_numpy(dtype="datetime64[us]")
    if len(closed) != len(X):
        raise ValueError(f"closed_at must have one time per deal ({len(X)}), got {len(closed)}")
    if np.isnat(closed).any():
        raise ValueError(f"closed_at must be known for every deal, missing in row {int(np.isnat(closed).argmax())}")
    return outcome.astype(np.int64), closed


def _fit_without_evaluation(
    spec: CardSpec, X: pd.DataFrame, won: np.ndarray, *, seed: int, population: pd.DataFrame | None
) -> tuple[Card, np.ndarray | None]:
    """The card and each deal's points out of fold (None where folds were impossible)."""
    criteria = band_criteria(spec, X, won, population)
    codes = encode(criteria, X)
    expert_points = np.array([b.expert_points for c in criteria for b in c.bands], dtype=float)
    rarer = int(min(won.sum(), len(won) - won.sum()))
    out_of_fold: np.ndarray | None = None
    prior: dict[str, float] = {}
    if rarer == 0 or not criteria:
        weights = _belief_only(spec, criteria, expert_points * WEIGHT_PER_POINT, trust=1.0)
        calibration_points = _points(points_from_weights(weights.mean), criteria, codes)
        # The points are the experts' own; how far they are to be trusted stands in the probability alone.
        prior = {
            "prior_slope": spec.trust * WEIGHT_PER_POINT,
            "prior_slope_sd": max(spec.trust_sd, 0.01) * WEIGHT_PER_POINT,
        }
    else:
        weights = _fit_weights(spec, criteria, codes, won)
        if rarer >= 2:
            out_of_fold = _out_of_fold_points(spec, criteria, codes, won, weights, seed=seed)
            calibration_points = out_of_fold.sum(axis=1)
        else:
            # One deal of an outcome cannot be both fitted and tested: the experts' points have seen neither.
            expected = weights.trust * expert_points * WEIGHT_PER_POINT
            calibration_points = _points(points_from_weights(expected), criteria, codes)
    points = points_from_weights(weights.mean)
    centre: float | None = None
    if population is not None and len(population) > 0 and len(won) < 2 * spec.expected_win_rate_deals:
        centre = float(_points(points, criteria, encode(criteria, population)).mean())
    rows = _card_bands(criteria, codes, won, weights, points)
    lowest, highest = points_range(rows)
    calibration: Calibration = calibrate(
        calibration_points,
        won,
        lowest_points=lowest,
        highest_points=highest,
        expected_win_rate=spec.expected_win_rate,
        expected_win_rate_deals=spec.expected_win_rate_deals,
        **prior,
        centre_points=centre,
        seed=seed,
    )
    card = Card(
        bands=rows,
        calibration=calibration,
        base_rate=float(won.mean()) if len(won) else spec.expected_win_rate,
        trust=weights.trust,
        belief_deals=weights.belief_deals,
        deal_count=len(won),
        won_count=int(won.sum()),
    )
    return card, out_of_fold


def encode(criteria: Sequence[CriterionBands], X: pd.DataFrame) -> np.ndarray:
    """Band positions, shape (deals, criteria), int16, 0-based within the criterion."""
    codes = np.empty((len(X), len(criteria)), dtype=np.int16)
    for number, criterion in enumerate(criteria):
        codes[:, number] = criterion.encode(column_of(X, criterion.name))
    return codes


def _offsets(criteria: Sequence[CriterionBands]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum([len(c.bands) for c in criteria])]).astype(np.int64)


def _points(points: np.ndarray, criteria: Sequence[CriterionBands], codes: np.ndarray) -> np.ndarray:
    """Total points of every row of `codes`, int64."""
    total = np.zeros(len(codes), dtype=np.int64)
    for number, offset in enumerate(_offsets(criteria)[:-1]):
        total += points[offset + codes[:, number]]
    return total


def indicators(criteria: Sequence[CriterionBands], codes: np.ndarray, column_of_band: np.ndarray) -> Any:
    """Sparse band indicators, CSR (deals, columns); bands that share a column share a weight."""
    offsets = _offsets(criteria)[:-1]
    columns = column_of_band[offsets + codes].astype(np.int32)
    starts = np.arange(len(codes) + 1, dtype=np.int32 if codes.size < 2**31 else np.int64) * codes.shape[1]
    shape = (len(codes), int(column_of_band.max()) + 1)
    return sparse.csr_array((np.ones(columns.size), columns.ravel(), starts), shape=shape)


def count_identical(codes: np.ndarray, won: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct rows of `codes`, and the won and the lost deals of each.

    Rows are told apart by a sum of random 64-bit figures per column and code, which sorts 20 times faster
    than rows of 40 columns; that no two rows collided is checked. Where few rows repeat, the rows come
    back as they are.
    """
    if codes.size == 0:
        return codes, won, 1 - won
    generator = np.random.Generator(np.random.PCG64(0))  # only names rows: no result depends on it
    key = np.zeros(len(codes), dtype=np.uint64)
    for number in range(codes.shape[1]):
        names = generator.integers(0, 2**63, size=int(codes[:, number].max()) + 1, dtype=np.uint64)
        key += names[codes[:, number]]
    _, first, place = np.unique(key, return_index=True, return_inverse=True)
    if len(first) > 0.8 * len(codes) or not np.array_equal(codes, codes[first][place]):
        return codes, won, 1 - won
    wins = np.bincount(place, weights=won, minlength=len(first))
    losses = np.bincount(place, weights=1 - won, minlength=len(first))
    return codes[first], wins, losses


def _belief_only(spec: CardSpec, criteria: Sequence[CriterionBands], expert: np.ndarray, trust: float) -> _Weights:
    p0 = np.clip(expit(trust * expert), LARGEST_BELIEF, 1 - LARGEST_BELIEF)
    precision = spec.belief_deals * p0 * (1 - p0)
    covariance = np.diag(1 / precision) if len(precision) else np.zeros((0, 0))
    sd = _contrast_sd(criteria, covariance, precision)
    return _Weights(trust * expert, sd, np.zeros(len(expert)), trust, spec.belief_deals)


def _fit_weights(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    *,
    like: _Weights | None = None,
    ties: np.ndarray | None = None,
) -> _Weights:
    """Fit all bands; `like` fixes trust and belief at those of another fit; `ties` gives bands a common
    column.

    A criterion that must be monotone and is not has its two worst neighbours tied and is fitted again:
    pooling of adjacent violators on the joint likelihood.
    """
    offsets = _offsets(criteria)
    column = np.arange(offsets[-1]) if ties is None else ties
    expert = np.array([b.expert_points for c in criteria for b in c.bands]) * WEIGHT_PER_POINT
    bands_per_column = np.bincount(column).astype(float)
    column_expert = np.bincount(column, weights=expert) / bands_per_column
    model = ScorecardClassifier(
        column_expert,
        prior_trust=spec.trust if like is None else like.trust,
        trust_sd=spec.trust_sd if like is None else 0.0,
        belief_deals=spec.belief_deals if like is None else like.belief_deals,
        belief_grid=spec.belief_grid if like is None else None,
        belief_scale=bands_per_column,
    )
    distinct, wins, losses = count_identical(codes, won)
    rows = np.concatenate([np.flatnonzero(wins), np.flatnonzero(losses)])
    X = indicators(criteria, distinct, column)[rows]
    outcome = np.concatenate([np.ones(np.count_nonzero(wins)), np.zeros(np.count_nonzero(losses))])
    weight = np.concatenate([wins[wins > 0], losses[losses > 0]]).astype(float)
    # Fitted rows keep no order of outcome: the belief is chosen on every k-th.
    order = np.argsort(rows, kind="stable")
    model.fit(X[order], outcome[order], sample_weight=weight[order])
    mean = model.coef_[0][column]
    tied = _tie_worst(criteria, offsets, mean, column)
    if tied is not None:
        return _fit_weights(spec, criteria, codes, won, like=like, ties=tied)
    covariance = model.covariance_[1:, 1:][np.ix_(column, column)]
    precision = (model.prior_precision_ / bands_per_column)[column]
    sd = _contrast_sd(criteria, covariance, precision)
    return _Weights(mean, sd, model.data_share_[column], model.trust_, model.belief_deals_)


def _tie_worst(
    criteria: Sequence[CriterionBands], offsets: np.ndarray, mean: np.ndarray, column: np.ndarray
) -> np.ndarray | None:
    """Columns with the worst pair of each non-monotone criterion made one; None when all are in order."""
    tied = column.copy()
    for number, criterion in enumerate(criteria):
        if criterion.monotone is None:
            continue
        ranges = np.arange(offsets[number], offsets[number] + len(criterion.bands) - 1)
        rises = np.diff(mean[ranges]) * (1 if criterion.monotone == "increasing" else -1)
        if len(rises) and rises.min() < -1e-9:
            worst = int(rises.argmin())
            tied[tied == tied[ranges[worst + 1]]] = tied[ranges[worst]]
    if np.array_equal(tied, column):
        return None
    return np.unique(tied, return_inverse=True)[1]


def _contrast_sd(criteria: Sequence[CriterionBands], covariance: np.ndarray, precision: np.ndarray) -> np.ndarray:
    """Standard deviation of each band against the mean of its criterion's bands (weighted by the belief)."""
    variance = np.diag(covariance).copy()
    offsets = _offsets(criteria)
    for begin, end in pairwise(offsets):
        share = precision[begin:end] / precision[begin:end].sum()
        contrast = np.eye(end - begin) - share[None, :]
        variance[begin:end] = np.diag(contrast @ covariance[begin:end, begin:end] @ contrast.T)
    return np.sqrt(np.maximum(variance, 0.0))


def _out_of_fold_points(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: _Weights,
    *,
    seed: int,
) -> np.ndarray:
    """Each deal's whole points (explicit, implicit), shape (n, 2), by a fit that did not see it, at the trust
    and belief of the whole fit.

    The fewer the deals, the more folds (each fit must resemble the final one); from 20,000 on halves do.
    """
    most = 10 if len(won) < 200 else 5 if len(won) < 20_000 else 2
    folds = StratifiedKFold(n_splits=int(min(most, won.sum(), len(won) - won.sum())), shuffle=True, random_state=seed)
    result = np.zeros((len(won), 2), dtype=np.int64)
    implicit = np.repeat([c.kind == "implicit" for c in criteria], [len(c.bands) for c in criteria])
    for train, test in folds.split(codes, won):
        fold = _fit_weights(spec, criteria, codes[train], won[train], like=weights)
        points = points_from_weights(fold.mean)
        result[test, 0] = _points(np.where(implicit, 0, points), criteria, codes[test])
        result[test, 1] = _points(np.where(implicit, points, 0), criteria, codes[test])
    return result


def _card_bands(
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: _Weights,
    points: np.ndarray,
) -> tuple[CardBand, ...]:
    rows: list[CardBand] = []
    for number, (criterion, offset) in enumerate(zip(criteria, _offsets(criteria)[:-1], strict=True)):
        deals = np.bincount(codes[:, number], minlength=len(criterion.bands))
        wins = np.bincount(codes[:, number], weights=won, minlength=len(criterion.bands))
        for place, band in enumerate(criterion.bands):
            at = int(offset) + place
            mean, half = float(weights.mean[at]), Z_90 * float(weights.sd[at])
            rows.append(
                CardBand(
                    criterion=criterion.name,
                    kind=criterion.kind,
                    band_no=place + 1,
                    band=band.label,
                    band_type=band.band_type,
                    lower=band.lower,
                    upper=band.upper,
                    values=band.values,
                    expert_points=band.expert_points,
                    points=int(points[at]),
                    weight=mean,
                    weight_low=mean - half,
                    weight_high=mean + half,
                    deal_count=int(deals[place]),
                    won_count=int(wins[place]),
                    data_share_pct=round(100 * float(weights.data_share[at]), 2),
                )
            )
    return tuple(rows)


def evidence_sentences(card: Card) -> list[str]:
    """What the number of deals means for this card, in plain sentences."""
    lost_count = card.deal_count - card.won_count
    if card.deal_count == 0:
        return ["No closed deals yet: the card is the experts' card."]
    if card.won_count == 0:
        return [f"None of {card.deal_count:,} closed deals was won: the card is still the experts' card."]
    if lost_count == 0:
        return [f"None of {card.deal_count:,} closed deals was lost: the card is still the experts' card."]
    sentences = []
    believed = any(band.expert_points for band in card.bands)
    source = "mostly expert judgement" if believed else "little more than a guess"
    for count, word in ((card.won_count, "won"), (lost_count, "lost")):
        if count < THIN_EVIDENCE:
            sentences.append(f"Only {count} {word} deal{'s' if count > 1 else ''}: the card is {source}.")
            break
    if believed:
        sentences.append(
            f"The experts' points count for {card.trust:.0%} of their face value; "
            f"each of their beliefs is worth {card.belief_deals:g} deals."
        )
    return sentences
