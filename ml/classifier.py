"""The numerical core: logistic regression whose prior is stated in deals, on bands or on any numeric matrix.

Belongs here: pseudo-deals, the solver, what is learnt about the experts and the criteria by marginal likelihood,
and `ScorecardClassifier`. Does not: criteria, bands, points, cards (`ml.scorecard`).

Method. A belief "column j has log-odds m, worth S deals" enters as S rows with that column alone switched on,
a share ``1 / (1 + exp(-m))`` of them won; "columns j and k differ by d, worth R deals" as R rows with +1 and -1.
All beliefs agree with one point, so that point is the prior's mode, and Laplace's approximation gives the
marginal likelihood of both prior and posterior from a Hessian (MacKay 1992, "Bayesian interpolation").
Learnt from it: S for all columns, on a grid with exact refits; then, per group of columns (a criterion), how
many times S it deserves and how alike neighbours are, on the Gaussian that the refit left behind. A criterion
that says nothing is so drawn to its prior, one that says much is let go (automatic relevance determination).
*Trust* is the slope of one logistic line on the experts' totals.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any, Protocol

import numpy as np
from scipy import sparse
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit, softmax
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.multiclass import check_classification_targets, type_of_target
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data
from threadpoolctl import threadpool_limits

from ml.calibration import logistic_line_posterior

INTERCEPT_DEALS = 20.0
"""Pseudo-deals that hold the intercept, at the rate that the trust line gives to 0 points."""

EVIDENCE_ROWS = 30_000
"""Rows for choosing the beliefs: how far weights stray from the experts is well seen on so many."""

CHUNK_ROWS = 20_000
"""Rows that are dense at a time while a Hessian is summed: one matrix product each, 20 MB at 250 columns."""

SINGLE_FROM = 5_000
"""Rows from which Hessians are summed in single precision and serve several steps: 1e-6 of a Hessian, or one of a
point nearby, moves no step's end, only its length."""

THREADS_FROM = 50_000
"""Rows from which several threads save more than they cost in a Hessian."""

LONGEST_STEP = 2.0
"""Log-odds that a weight may move in one step of the solver."""

STALE_AFTER = 0.25
"""Largest change of a weight (18 % of odds less 1 point in 3) after which a Hessian is made anew at the mode."""

WIDENED_COLUMNS = 2_000
"""Columns up to which intervals hold the doubt of the strengths as well."""

LEVEL_PRECISION = 1e6
"""Precision that holds a level, in 1 / log-odds squared: more than any deals' pull on it."""

LARGEST_BELIEF = 1e-6
"""Pseudo-deals are never more one-sided than this share: a won share of exactly 0 has no finite weight."""

GROUP_FACTORS = (0.0625, 0.25, 1.0, 4.0, 16.0, 64.0)
"""Multiples of the common belief that a group of columns may deserve."""

GROUP_FACTOR_SD = math.log(4.0)
GROUP_FACTOR_SD_FEW = math.log(2.0)
FEW_DEALS = 500
"""How unlike groups are expected to be: standard deviation of the logarithm of their factors; smaller under 500 deals,
where the wide one followed noise (log loss .508 instead of .503 at 40 deals with good experts)."""

SHAPE_FACTORS = ((0.0, 0.0), (1.0, 0.0), (4.0, 0.0), (16.0, 0.0), (0.0, 4.0), (0.0, 16.0), (0.0, 64.0), (0.0, 256.0))
"""Deals, in multiples of the group's belief, that "neighbours are alike" and "three in a row lie on a line" may be
worth."""


# --------------------------------------------------------------------------- rows


class Design(Protocol):
    """A matrix whose first column is 1, as the solver sees it."""

    @property
    def shape(self) -> tuple[int, int]: ...

    def times(self, theta: np.ndarray) -> np.ndarray:
        """Matrix times vector, shape (rows,)."""

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        """Transposed matrix times vector, shape (columns,)."""

    def information(self, weight: np.ndarray) -> np.ndarray:
        """Transposed matrix times diag(weight) times matrix, shape (columns, columns)."""

    def take(self, rows: Any) -> Design:
        """Some of the rows."""


@dataclass(frozen=True)
class MatrixDesign:
    """Any numeric matrix, dense or CSR, with its column of ones."""

    matrix: Any

    @classmethod
    def with_intercept(cls, X: Any) -> MatrixDesign:
        ones = np.ones((X.shape[0], 1))
        if sparse.issparse(X):
            return cls(sparse.hstack([sparse.csr_array(ones), X], format="csr"))
        return cls(np.hstack([ones, X]))

    @property
    def shape(self) -> tuple[int, int]:
        return tuple(self.matrix.shape)

    def times(self, theta: np.ndarray) -> np.ndarray:
        return np.asarray(self.matrix @ theta).ravel()

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(self.matrix.T @ values).ravel()

    def information(self, weight: np.ndarray) -> np.ndarray:
        root = np.sqrt(weight)
        total = np.zeros((self.shape[1], self.shape[1]))
        for begin in range(0, self.shape[0], CHUNK_ROWS):
            chunk = self.matrix[begin : begin + CHUNK_ROWS]
            rows = (chunk.toarray() if sparse.issparse(chunk) else chunk) * root[begin : begin + CHUNK_ROWS, None]
            total += rows.T @ rows
        return total

    def take(self, rows: Any) -> MatrixDesign:
        return MatrixDesign(self.matrix[rows])


@dataclass(frozen=True)
class BandDesign:
    """Indicators of bands, kept as codes: a million deals of 40 criteria are 80 MB and never a matrix.

    Attributes
    ----------
    codes : shape (rows, criteria), whole numbers, best in column order.
    columns : per criterion, the column of each code, 1-based (0 is the intercept); -1 = no column (weight 0).
    column_count : columns with the intercept.
    """

    codes: np.ndarray
    columns: tuple[np.ndarray, ...]
    column_count: int

    @property
    def shape(self) -> tuple[int, int]:
        return len(self.codes), self.column_count

    def times(self, theta: np.ndarray) -> np.ndarray:
        padded = np.append(theta, 0.0)
        result = np.full(len(self.codes), theta[0])
        for number, columns in enumerate(self.columns):
            result += padded[columns][self.codes[:, number]]
        return result

    def transposed_times(self, values: np.ndarray) -> np.ndarray:
        result = np.zeros(self.column_count + 1)
        result[0] = values.sum()
        for number, columns in enumerate(self.columns):
            np.add.at(result, columns, np.bincount(self.codes[:, number], weights=values, minlength=len(columns)))
        return result[:-1]

    def information(self, weight: np.ndarray) -> np.ndarray:
        # A dense product of indicator chunks is ten times faster than a sparse one at 40 criteria.
        number_type = np.float32 if len(self.codes) >= SINGLE_FROM else np.float64
        root = np.sqrt(weight).astype(number_type)
        total = np.zeros((self.column_count, self.column_count))
        # The only product that several threads make faster; on small matrices they wait for one another, and a
        # look for the libraries that have threads costs more than the product.
        limits = threadpool_limits(os.cpu_count(), "blas") if len(self.codes) >= THREADS_FROM else nullcontext()
        with limits:
            self._add_information(root, number_type, total)
        return total

    def _add_information(self, root: np.ndarray, number_type: Any, total: np.ndarray) -> None:
        block = np.zeros((min(CHUNK_ROWS, len(self.codes)), self.column_count + 1), dtype=number_type)
        for begin in range(0, len(self.codes), CHUNK_ROWS):
            codes, part = self.codes[begin : begin + CHUNK_ROWS], root[begin : begin + CHUNK_ROWS]
            rows = block[: len(codes)]
            rows[:] = 0
            rows[:, 0] = part
            order = np.arange(len(codes))
            for number, columns in enumerate(self.columns):
                rows[order, columns[codes[:, number]]] = part
            used = rows[:, :-1]
            total += used.T @ used

    def take(self, rows: Any) -> BandDesign:
        return replace(self, codes=self.codes[rows])

    def variance(self, covariance: np.ndarray) -> np.ndarray:
        """``x' covariance x`` of every row x, without the intercept, shape (rows,)."""
        padded = np.zeros((self.column_count + 1, self.column_count + 1))
        padded[:-1, :-1] = covariance
        padded[0, :] = padded[:, 0] = 0.0
        result = np.zeros(len(self.codes))
        placed = [columns[self.codes[:, number]] for number, columns in enumerate(self.columns)]
        for number, left in enumerate(placed):
            result += padded[left, left]
            for right in placed[:number]:
                result += 2 * padded[left, right]
        return result


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


# --------------------------------------------------------------------------- pseudo-deals


@dataclass(frozen=True)
class PseudoDeals:
    """Beliefs on single columns and on contrasts of them, all at ease with the point `centre`.

    Attributes
    ----------
    own : shape (d,), deals of each column alone; rows : (r, d), contrasts; strength : (r,), deals of each contrast.
    centre : (d,), the prior's mode.
    level_rows, level_values : shapes (l, d) and (l,), averages that are held where they are.
    """

    own: np.ndarray
    rows: np.ndarray
    strength: np.ndarray
    centre: np.ndarray
    level_rows: np.ndarray
    level_values: np.ndarray

    @property
    def share(self) -> np.ndarray:
        """Won share of the deals of each column alone, shape (d,)."""
        return np.clip(expit(self.centre), LARGEST_BELIEF, 1 - LARGEST_BELIEF)

    @property
    def contrast_share(self) -> np.ndarray:
        """Won share of the deals of each contrast, shape (r,)."""
        return np.clip(expit(self.rows @ self.centre), LARGEST_BELIEF, 1 - LARGEST_BELIEF)

    def precision(self, theta: np.ndarray) -> np.ndarray:
        """Their Hessian at theta, shape (d, d)."""
        q, p = expit(theta), expit(self.rows @ theta)
        result = self.rows.T @ (self.rows * (self.strength * p * (1 - p))[:, None])
        result[np.diag_indices(len(theta))] += self.own * q * (1 - q)
        return result + LEVEL_PRECISION * self.level_rows.T @ self.level_rows

    def loss(self, theta: np.ndarray) -> float:
        line = self.rows @ theta
        single = self.own @ (np.logaddexp(0.0, theta) - self.share * theta)
        away = self.level_rows @ theta - self.level_values
        held = 0.5 * LEVEL_PRECISION * away @ away
        return float(single + held + self.strength @ (np.logaddexp(0.0, line) - self.contrast_share * line))

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        pull = self.rows.T @ (self.strength * (expit(self.rows @ theta) - self.contrast_share))
        back = LEVEL_PRECISION * self.level_rows.T @ (self.level_rows @ theta - self.level_values)
        return self.own * (expit(theta) - self.share) + pull + back


# --------------------------------------------------------------------------- the solver


@dataclass(frozen=True)
class Solution:
    """Mode of rows and pseudo-deals.

    Attributes
    ----------
    theta : shape (d,), the intercept first.
    data_hessian : information of the rows, shape (d, d); hessian : with that of the pseudo-deals.
    log_evidence : Laplace's log marginal likelihood of the rows.
    """

    theta: np.ndarray
    data_hessian: np.ndarray
    hessian: np.ndarray
    log_evidence: float


def solve(
    design: Design,
    share_won: np.ndarray,
    weight: np.ndarray,
    prior: PseudoDeals,
    start: np.ndarray,
    *,
    lower: np.ndarray | None = None,
    upper: np.ndarray | None = None,
    hessian: np.ndarray | None = None,
) -> Solution:
    """Newton's method with bounds (projected, Bertsekas 1982) on rows plus pseudo-deals, a strictly convex loss.

    Parameters
    ----------
    share_won, weight : shape (n,): of each row, the won share (0-1) and the deals that it stands for.
    lower, upper : shape (d,), limits of theta; equal = held.
    hessian : data information near the mode, where it is known; many rows then cost gradients only.
    """
    n, d = design.shape
    low = np.full(d, -np.inf) if lower is None else lower
    high = np.full(d, np.inf) if upper is None else upper
    theta = start.copy()
    # From off its level the first step would be judged by that alone, and could end anywhere.
    for row, level in zip(prior.level_rows, prior.level_values, strict=True):
        theta += row * (level - row @ theta) / (row @ row)
    theta = np.clip(theta, low, high)
    many = n >= SINGLE_FROM

    def likelihood_loss(line: np.ndarray) -> float:
        return float(weight @ (np.logaddexp(0.0, line) - share_won * line))

    line = design.times(theta)
    value = likelihood_loss(line) + prior.loss(theta)
    data_hessian, made_at = hessian, theta
    moved = math.inf
    for _ in range(100):
        p = expit(line)
        if data_hessian is None:
            data_hessian, made_at = design.information(weight * p * (1 - p)), theta
        gradient = design.transposed_times(weight * (p - share_won)) + prior.gradient(theta)
        held = (low == high) | ((theta <= low) & (gradient > 0)) | ((theta >= high) & (gradient < 0))
        free = np.flatnonzero(~held)
        total = data_hessian + prior.precision(theta)
        step = np.zeros(d)
        if len(free):
            step[free] = _solve_positive(total[np.ix_(free, free)], gradient[free])
        if np.abs(step).max(initial=0.0) < 1e-8:
            break
        # Far from the mode a full step may end where every deal is certain: no curvature leads back from there.
        longest = min(1.0, LONGEST_STEP / float(np.abs(step).max()))
        size = longest
        while True:
            candidate = np.clip(theta - size * step, low, high)
            candidate_line = design.times(candidate)
            candidate_value = likelihood_loss(candidate_line) + prior.loss(candidate)
            wanted = 1e-4 * float(gradient @ (theta - candidate))
            if candidate_value <= value - wanted + 1e-13 * abs(value) or size < 1e-6:
                break
            size /= 2
        if size < 1e-6 and candidate_value > value:
            break  # as near as figures of this size can tell
        change = float(np.abs(candidate - theta).max())
        theta, line, value = candidate, candidate_line, candidate_value
        if change < 1e-9:
            break
        # One Hessian of many rows costs as much as 40 gradients: it serves while steps shrink fast.
        if not (many and size == 1.0 and change < 0.3 * moved):
            data_hessian = None
        moved = change
    if data_hessian is None or np.abs(theta - made_at).max() > STALE_AFTER:
        p = expit(line)
        data_hessian = design.information(weight * p * (1 - p))
    total = data_hessian + prior.precision(theta)
    free = np.flatnonzero(low < high)
    inside = np.ix_(free, free)
    evidence = prior.loss(prior.centre) - value
    evidence += 0.5 * (_log_determinant(prior.precision(prior.centre)[inside]) - _log_determinant(total[inside]))
    return Solution(theta, data_hessian, total, float(evidence))


def _solve_positive(matrix: np.ndarray, vector: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(cho_solve(cho_factor(matrix, check_finite=False), vector, check_finite=False))
    except np.linalg.LinAlgError:  # single precision on columns of very unlike size
        return np.asarray(np.linalg.lstsq(matrix, vector, rcond=None)[0])


def _log_determinant(matrix: np.ndarray) -> float:
    return float(np.linalg.slogdet(matrix)[1])


# --------------------------------------------------------------------------- what is learnt of the beliefs


@dataclass(frozen=True)
class GroupFactors:
    """Per group of columns: how many times the common belief its columns deserve, and, in multiples of that, how
    many deals "neighbours are alike" and "three in a row lie on a line" are worth. Shapes (groups,).
    """

    factor: np.ndarray
    alike: np.ndarray
    straight: np.ndarray

    @classmethod
    def neutral(cls, group_count: int) -> GroupFactors:
        """The common belief for all, neighbours free."""
        return cls(np.ones(group_count), np.zeros(group_count), np.zeros(group_count))


@dataclass(frozen=True)
class Level:
    """The average of some columns, weighted by `shares` (p,), is to stay at `value`."""

    shares: np.ndarray
    value: float


@dataclass(frozen=True)
class Beliefs:
    """What is believed of the columns, before their strength is learnt.

    Attributes
    ----------
    expert : log-odds by the experts, shape (p,); scale : strength relative to the common one, shape (p,).
    group : number of each column's group (its criterion), shape (p,); -1 = in none: the common strength holds.
    chains : columns in their natural order, each chain of one group, no column twice.
    lower, upper : limits of the weights, shape (p,); equal = held.
    levels : averages of columns that stay where they are.
    """

    expert: np.ndarray
    scale: np.ndarray
    group: np.ndarray
    chains: tuple[np.ndarray, ...]
    lower: np.ndarray
    upper: np.ndarray
    levels: tuple[Level, ...] = ()

    def pseudo_deals(self, intercept: float, trust: float, belief: float, factors: GroupFactors) -> PseudoDeals:
        """Rows for the intercept, every column, every two and three neighbours."""
        p = len(self.expert)
        # Group -1 reads the last entry: the factor 1 of columns without a group.
        single = belief * np.append(factors.factor, 1.0)[self.group] * self.scale
        pieces, strength = [np.zeros((0, 1 + p))], [np.zeros(0)]
        for chain in self.chains:
            group = int(self.group[chain[0]])
            own = belief * factors.factor[group]
            for worth, pattern in ((factors.alike[group], ALIKE), (factors.straight[group], STRAIGHT)):
                if worth > 0 and len(chain) >= len(pattern):
                    local = contrasts(len(chain), pattern)
                    rows = np.zeros((len(local), 1 + p))
                    rows[:, 1 + chain] = local
                    pieces.append(rows)
                    strength.append(np.full(len(local), own * worth))
        centre = np.concatenate([[intercept], trust * self.expert])
        own_deals = np.concatenate([[INTERCEPT_DEALS], single])
        level_rows = np.zeros((len(self.levels), 1 + p))
        for number, level in enumerate(self.levels):
            level_rows[number, 1:] = level.shares
        level_values = np.array([level.value for level in self.levels])
        return PseudoDeals(own_deals, np.vstack(pieces), np.concatenate(strength), centre, level_rows, level_values)


ALIKE = np.array([-1.0, 1.0])
STRAIGHT = np.array([1.0, -2.0, 1.0])


def contrasts(length: int, pattern: np.ndarray) -> np.ndarray:
    """The pattern at every place of a chain, shape (length - len(pattern) + 1, length)."""
    rows = np.zeros((max(length - len(pattern) + 1, 0), length))
    for place, row in enumerate(rows):
        row[place : place + len(pattern)] = pattern
    return rows


Spread = tuple[np.ndarray, np.ndarray]
"""Some columns of theta, shape (k,), and a covariance of theirs, shape (k, k)."""


def choose_group_factors(
    beliefs: Beliefs, solution: Solution, prior: PseudoDeals, belief: float, deal_count: float
) -> tuple[GroupFactors, list[Spread]]:
    """Factor of the common belief and likeness of neighbours per group, by marginal likelihood.

    Also, per group, the covariance of its weights over all combinations, each by its probability: the best one alone
    would claim to know the strength of a belief that a few deals have chosen.

    The rows are replaced by the Gaussian that they look like near `solution`, found with `prior` at the common
    strength `belief` and no neighbours; then each group in turn takes the best of all combinations while the
    others stand, twice round. Columns that are held take no part.
    """
    group_count = int(beliefs.group.max(initial=-1)) + 1
    chosen = GroupFactors.neutral(group_count)
    expected_spread = GROUP_FACTOR_SD_FEW if deal_count < FEW_DEALS else GROUP_FACTOR_SD
    free = np.flatnonzero(np.concatenate([[True], beliefs.lower < beliefs.upper]))
    inside = np.ix_(free, free)
    place = np.full(len(solution.theta), -1)
    place[free] = np.arange(len(free))
    centre, share = prior.centre, prior.share
    unit = share * (1 - share)
    # Where the gradients of rows and pseudo-deals balance, the rows' pull from the centre is known from both.
    data = solution.data_hessian[inside]
    pull = data @ (solution.theta - centre)[free] + prior.gradient(solution.theta)[free]
    blocks = []
    for group in range(group_count):
        columns = 1 + np.flatnonzero(beliefs.group == group)
        columns = columns[place[columns] >= 0]
        own = np.diag(belief * beliefs.scale[columns - 1] * unit[columns])
        shapes = [np.zeros_like(own), np.zeros_like(own)]
        local = {int(column): number for number, column in enumerate(columns)}
        for chain in beliefs.chains:
            if beliefs.group[chain[0]] != group or not all(1 + int(column) in local for column in chain):
                continue
            for shape, pattern in zip(shapes, (ALIKE, STRAIGHT), strict=True):
                rows = np.zeros((max(len(chain) - len(pattern) + 1, 0), len(columns)))
                rows[:, [local[1 + int(column)] for column in chain]] = contrasts(len(chain), pattern)
                at_ease = expit(rows @ centre[columns])
                shape += belief * rows.T @ (rows * (at_ease * (1 - at_ease))[:, None])
        blocks.append((place[columns], own, *shapes))
    posterior = data + prior.precision(centre)[inside]
    covariance = np.linalg.inv(posterior)
    for _ in range(2):
        changed = False
        for group, (at, own, alike, straight) in enumerate(blocks):
            if len(at) == 0:
                continue
            block = np.ix_(at, at)
            held = chosen.factor[group], chosen.alike[group], chosen.straight[group]
            current = held[0] * (own + held[1] * alike + held[2] * straight)
            marginal = np.linalg.inv(covariance[block])
            rows_alone = marginal - current  # what rows and the other groups' beliefs say of this one
            pulled = marginal @ (covariance @ pull)[at]
            best, best_choice, best_precision = -math.inf, held, current
            for factor in GROUP_FACTORS:
                for worth_alike, worth_straight in SHAPE_FACTORS if alike.any() else SHAPE_FACTORS[:1]:
                    candidate = factor * (own + worth_alike * alike + worth_straight * straight)
                    total = rows_alone + candidate
                    found = 0.5 * (_log_determinant(candidate) - _log_determinant(total))
                    found += 0.5 * float(pulled @ np.linalg.solve(total, pulled))
                    found -= 0.5 * (math.log(factor) / expected_spread) ** 2
                    if found > best + 1e-9:
                        best, best_choice, best_precision = found, (factor, worth_alike, worth_straight), candidate
            if best_choice != held:
                changed = True
                chosen.factor[group], chosen.alike[group], chosen.straight[group] = best_choice
                # Woodbury: only this block of the posterior's precision has changed.
                change = best_precision - current
                inner = change @ np.linalg.inv(np.eye(len(at)) + covariance[block] @ change)
                covariance -= covariance[:, at] @ inner @ covariance[at, :]
        if not changed:
            break
    spreads = []
    for group, (at, own, alike, straight) in enumerate(blocks):
        if len(at) == 0:
            continue
        block = np.ix_(at, at)
        marginal = np.linalg.inv(covariance[block])
        rows_alone = marginal - chosen.factor[group] * (
            own + chosen.alike[group] * alike + chosen.straight[group] * straight
        )
        pulled = marginal @ (covariance @ pull)[at]
        evidence, means, covariances = [], [], []
        for factor in GROUP_FACTORS:
            for worth_alike, worth_straight in SHAPE_FACTORS if alike.any() else SHAPE_FACTORS[:1]:
                candidate = factor * (own + worth_alike * alike + worth_straight * straight)
                covariances.append(np.linalg.inv(rows_alone + candidate))
                means.append(covariances[-1] @ pulled)
                found = 0.5 * (_log_determinant(candidate) - _log_determinant(rows_alone + candidate))
                lean = 0.5 * (math.log(factor) / expected_spread) ** 2
                evidence.append(found + 0.5 * float(pulled @ means[-1]) - lean)
        share = softmax(np.array(evidence))
        centred = np.array(means) - share @ np.array(means)
        within = np.tensordot(share, np.array(covariances), axes=1)
        spreads.append((free[at], within + (centred * share[:, None]).T @ centred))
    return chosen, spreads


@dataclass(frozen=True)
class Learnt:
    """Weights with all that was learnt of the beliefs.

    Attributes
    ----------
    trust, belief : slope on the experts' weights; deals that an opinion is worth in common.
    factors : per group.
    theta, covariance : intercept and weights, shape (p + 1,), and their Laplace posterior; columns that are held
        have no variance, columns without rows that of the beliefs.
    prior : the pseudo-deals of the fit.
    data_hessian : information of the rows, shape (p + 1, p + 1); deal_weight : their deals.
    data_share : share of the information on each weight that is from rows, shape (p,).
    log_evidence : belief -> log marginal likelihood, empty where it was given.
    """

    trust: float
    belief: float
    factors: GroupFactors
    theta: np.ndarray
    covariance: np.ndarray
    prior: PseudoDeals
    data_hessian: np.ndarray
    data_share: np.ndarray
    log_evidence: dict[float, float]
    deal_weight: float


def learn_weights(
    design: Design,
    share_won: np.ndarray,
    weight: np.ndarray,
    beliefs: Beliefs,
    *,
    prior_trust: float,
    trust_sd: float,
    belief_deals: float,
    belief_grid: Sequence[float],
    like: Learnt | None = None,
) -> Learnt:
    """Trust, strengths and weights of rows of which some are won and some lost.

    Parameters
    ----------
    share_won, weight : shape (n,): of each row, the won share (0-1) and the deals that it stands for.
    like : take trust, strengths and the start from this fit, whose rows these are a part of.
    """
    intercept, trust, doubt = learn_trust(
        design.times(np.concatenate([[0.0], beliefs.expert])),
        share_won,
        weight,
        prior_trust if like is None else like.trust,
        trust_sd if like is None else 0.0,
    )
    low, high = (
        np.concatenate([[limit], given]) for limit, given in ((-np.inf, beliefs.lower), (np.inf, beliefs.upper))
    )
    group_count = int(beliefs.group.max(initial=-1)) + 1
    neutral = GroupFactors.neutral(group_count)
    evidence: dict[float, float] = {}
    spreads: list[Spread] = []
    hessian = None
    if like is None:
        step = max(1, math.ceil(design.shape[0] / EVIDENCE_ROWS))
        part = design if step == 1 else design.take(slice(None, None, step))
        rows = (part, share_won[::step], weight[::step])
        belief, factors = float(belief_deals), neutral
        start = beliefs.pseudo_deals(intercept, trust, belief, neutral).centre
        solutions: dict[float, tuple[Solution, PseudoDeals]] = {}
        grid = sorted({float(b) for b in belief_grid} | {belief}) if len(belief_grid) else []
        for tried in grid:
            prior = beliefs.pseudo_deals(intercept, trust, tried, neutral)
            solution = solve(*rows, prior, start, lower=low, upper=high, hessian=hessian)
            start = solution.theta
            hessian = solution.data_hessian if part.shape[0] >= SINGLE_FROM else None
            solutions[tried] = solution, prior
            # Without rows all beliefs explain them alike: a wide prior round the given one then decides.
            lean = -0.5 * (math.log(tried / belief_deals) / math.log(4.0)) ** 2
            evidence[tried] = solution.log_evidence + lean
        if grid:
            belief = max(grid, key=lambda tried: evidence[tried])
            solution, prior = solutions[belief]
            start = solution.theta
            if group_count:
                factors, spreads = choose_group_factors(beliefs, solution, prior, belief, float(weight.sum()))
        prior = beliefs.pseudo_deals(intercept, trust, belief, factors)
        if step > 1:
            solution = solve(*rows, prior, start, lower=low, upper=high, hessian=hessian)
            start, hessian = solution.theta, solution.data_hessian * (weight.sum() / weight[::step].sum())
    else:
        belief, factors, start = like.belief, like.factors, like.theta
        prior = beliefs.pseudo_deals(intercept, trust, belief, factors)
        if design.shape[0] >= SINGLE_FROM:
            # A random half of many rows bends as the whole does, at half the height.
            hessian = like.data_hessian * (weight.sum() / like.deal_weight)
    solution = solve(design, share_won, weight, prior, start, lower=low, upper=high, hessian=hessian)
    free = np.flatnonzero(low < high)
    covariance = np.zeros_like(solution.hessian)
    covariance[np.ix_(free, free)] = np.linalg.inv(solution.hessian[np.ix_(free, free)])
    if like is None:
        covariance += _of_doubt(beliefs, solution, covariance, doubt)
        if len(solution.theta) <= WIDENED_COLUMNS:
            for columns, spread in spreads:
                covariance[np.ix_(columns, columns)] += _excess(spread, covariance[np.ix_(columns, columns)])
    share = np.diag(solution.data_hessian) / np.maximum(np.diag(solution.hessian), 1e-300)
    return Learnt(
        trust=trust,
        belief=belief,
        factors=factors,
        theta=solution.theta,
        covariance=covariance,
        prior=prior,
        data_hessian=solution.data_hessian,
        data_share=share[1:],
        log_evidence=evidence,
        deal_weight=float(weight.sum()),
    )


def learn_trust(
    total: np.ndarray, share_won: np.ndarray, weight: np.ndarray, prior_trust: float, trust_sd: float
) -> tuple[float, float, float]:
    """Intercept at 0 points, slope on the experts' totals (n,), and the slope's standard deviation; it is never below 0.

    A negative slope would turn every belief round, also where no deal has spoken: experts who are wrong
    in sum are not listened to, the deals alone then say which way a band goes.
    """
    rate = (weight @ share_won + 0.5) / (weight.sum() + 1.0)
    centre = float(np.average(total, weights=weight)) if weight.sum() > 0 else 0.0
    # Sums in another order differ by a last bit and are the same total.
    values, place = np.unique(np.round(total, 9), return_inverse=True)
    wins = np.bincount(place, weights=weight * share_won, minlength=len(values))
    losses = np.bincount(place, weights=weight * (1 - share_won), minlength=len(values))
    base = float(np.log(rate / (1 - rate)))
    slope_sd = trust_sd if np.ptp(values) > 0 else 0.0
    theta, covariance = logistic_line_posterior(values - centre, wins, losses, (base, prior_trust), (2.0, slope_sd))
    doubt = math.sqrt(max(float(covariance[1, 1]), 0.0))
    if theta[1] < 0:
        theta, _ = logistic_line_posterior(values - centre, wins, losses, (base, 0.0), (2.0, 0.0))
    return float(theta[0] - theta[1] * centre), float(theta[1]), doubt


def _of_doubt(beliefs: Beliefs, solution: Solution, covariance: np.ndarray, doubt: float) -> np.ndarray:
    """Covariance of the weights that comes from not knowing the trust: they move with the centre that it sets."""
    centre = np.concatenate([[0.0], beliefs.expert])
    moved = covariance @ ((solution.hessian - solution.data_hessian) @ centre)
    return doubt**2 * np.outer(moved, moved)


def _excess(spread: np.ndarray, covariance: np.ndarray) -> np.ndarray:
    """What of a covariance goes beyond another one, in the directions in which it does."""
    values, vectors = np.linalg.eigh((spread + spread.T) / 2 - (covariance + covariance.T) / 2)
    return (vectors * np.maximum(values, 0.0)) @ vectors.T


# --------------------------------------------------------------------------- the estimator


class ScorecardClassifier(ClassifierMixin, BaseEstimator):
    """Logistic regression whose prior is stated in deals.

    Parameters
    ----------
    expert_weights : log-odds that experts give to each column, shape (p,); None = no opinion.
    prior_trust, trust_sd : slope on all expert weights before any row, and its standard deviation; 0 = fixed.
    belief_deals : rows that each opinion is worth: centre of what is learnt, or fixed.
    belief_grid : strengths to choose from by marginal likelihood; None or empty = `belief_deals` is fixed.
    belief_scale : strength per column relative to the others, shape (p,); None = all 1.
    groups : number of each column's criterion, 0 to k - 1, shape (p,): each gets a strength of its own, learnt
        together with the grid; None = one strength for all.

    Attributes
    ----------
    classes_ : the two outcomes; the second is "won".
    coef_, intercept_ : shapes (1, p) and (1,).
    trust_, belief_deals_ : the two learnt figures.
    group_factors_ : how many times `belief_deals_` the beliefs of each group are worth, shape (k,).
    prior_coef_ : trust times expert weights, shape (p,): where a column without data stays.
    covariance_ : Laplace posterior of (intercept, weights), shape (p + 1, p + 1).
    data_share_ : share of the information on each weight that is from rows, shape (p,), 0-1.
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
        groups: Any = None,
    ) -> None:
        self.expert_weights = expert_weights
        self.prior_trust = prior_trust
        self.trust_sd = trust_sd
        self.belief_deals = belief_deals
        self.belief_grid = belief_grid
        self.belief_scale = belief_scale
        self.groups = groups

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
        count = X.shape[1]
        beliefs = Beliefs(
            expert=self._per_column("expert_weights", count, 0.0),
            scale=self._per_column("belief_scale", count, 1.0),
            group=self._per_column("groups", count, -1.0).astype(int),
            chains=(),
            lower=np.full(count, -np.inf),
            upper=np.full(count, np.inf),
        )
        learnt = learn_weights(
            MatrixDesign.with_intercept(X),
            codes.astype(np.float64),
            weight,
            beliefs,
            prior_trust=self.prior_trust,
            trust_sd=self.trust_sd,
            belief_deals=self.belief_deals,
            belief_grid=self.belief_grid or (),
        )
        self.trust_ = learnt.trust
        self.belief_deals_ = learnt.belief
        self.group_factors_ = learnt.factors.factor
        self.prior_coef_ = learnt.trust * beliefs.expert
        self.covariance_ = learnt.covariance
        self.data_share_ = learnt.data_share
        self.log_evidence_ = learnt.log_evidence
        self.intercept_ = learnt.theta[:1]
        self.coef_ = learnt.theta[None, 1:]
        return self

    def _per_column(self, name: str, count: int, default: float) -> np.ndarray:
        given = getattr(self, name)
        values = np.full(count, default) if given is None else np.asarray(given, dtype=float)
        if values.shape != (count,):
            raise ValueError(f"{name} must have one figure per column ({count}), got shape {values.shape}")
        return values

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
