"""Our estimators keep scikit-learn's rules, and the core solves what it says."""

from dataclasses import replace

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.utils.estimator_checks import parametrize_with_checks

from ml import classifier
from ml.banding import Bander
from ml.classifier import (
    BandDesign,
    Beliefs,
    GroupFactors,
    MatrixDesign,
    ScorecardClassifier,
    count_identical,
    learn_trust,
    learn_weights,
    solve,
)


@parametrize_with_checks([ScorecardClassifier(), ScorecardClassifier(belief_grid=None), Bander()])
def test_estimator__keeps_the_rules_of_scikit_learn(estimator, check):
    check(estimator)


def _indicators(seed: int, n: int = 300) -> tuple[np.ndarray, np.ndarray]:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 3, (n, 2))
    X = np.hstack([np.eye(3)[codes[:, 0]], np.eye(3)[codes[:, 1]]])
    return X, (generator.random(n) < expit(X @ [0.8, 0, -0.8, 0.5, 0, -0.5])).astype(int)


def test_classifier__is_the_mode_of_deals_and_pseudo_deals():
    X, y = _indicators(0)
    expert = np.array([0.5, 0, -0.5, 0, 0.3, 0])
    model = ScorecardClassifier(expert, prior_trust=0.8, trust_sd=0, belief_deals=30, belief_grid=None).fit(X, y)

    def loss(theta):
        line = theta[0] + X @ theta[1:]
        won = expit(0.8 * expert)
        base = expit(learn_trust(X @ expert, y.astype(float), np.ones(len(y)), 0.8, 0.0)[0])
        rows = y @ log_expit(line) + (1 - y) @ log_expit(-line)
        pseudo = 30 * (won @ log_expit(theta[1:]) + (1 - won) @ log_expit(-theta[1:]))
        return -(rows + pseudo + 20 * (base * log_expit(theta[0]) + (1 - base) * log_expit(-theta[0])))

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(np.concatenate([model.intercept_, model.coef_[0]]), best, atol=1e-5)


def test_designs__dense_sparse_and_codes_are_the_same_matrix():
    generator = np.random.default_rng(1)
    codes = np.asfortranarray(generator.integers(0, 3, (700, 2)).astype(np.int16))
    X = np.hstack([np.eye(3)[codes[:, 0]], np.eye(3)[codes[:, 1]]])
    X[:, 5] = 0  # the last code of the second criterion has no column
    columns = (np.array([1, 2, 3]), np.array([4, 5, -1]))
    designs = [
        MatrixDesign.with_intercept(X[:, :5]),
        MatrixDesign.with_intercept(sparse.csr_array(X[:, :5])),
        BandDesign(codes, columns, 6),
    ]
    theta, values, weight = generator.normal(size=6), generator.normal(size=700), generator.random(700)
    dense = np.hstack([np.ones((700, 1)), X[:, :5]])
    for design in designs:
        assert design.shape == (700, 6)
        np.testing.assert_allclose(design.times(theta), dense @ theta)
        np.testing.assert_allclose(design.transposed_times(values), dense.T @ values)
        np.testing.assert_allclose(design.information(weight), dense.T @ (dense * weight[:, None]))
        np.testing.assert_allclose(design.take(slice(3, 9)).times(theta), dense[3:9] @ theta)
    covariance = dense.T @ dense
    np.testing.assert_allclose(
        designs[2].variance(covariance), np.einsum("ij,jk,ik->i", X[:, :5], covariance[1:, 1:], X[:, :5])
    )


def test_solver__many_rows_reuse_a_hessian_and_end_at_the_same_mode(monkeypatch):
    X, y = _indicators(1, 3000)
    exact = ScorecardClassifier(belief_grid=None).fit(X, y)
    monkeypatch.setattr(classifier, "SINGLE_FROM", 0)
    monkeypatch.setattr(classifier, "EVIDENCE_ROWS", 400)
    monkeypatch.setattr(classifier, "CHUNK_ROWS", 170)
    rough = ScorecardClassifier(belief_grid=None).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(rough.coef_, exact.coef_, atol=1e-6)
    np.testing.assert_allclose(rough.covariance_, exact.covariance_, rtol=0.02, atol=1e-3)


def test_solver__bounds_hold_and_the_rest_is_the_constrained_optimum():
    X, y = _indicators(6, 800)
    design = MatrixDesign.with_intercept(X)
    beliefs = Beliefs(np.zeros(6), np.ones(6), np.full(6, -1), (), np.full(6, -np.inf), np.full(6, np.inf))
    prior = beliefs.pseudo_deals(0.0, 1.0, 20.0, GroupFactors.neutral(0))
    lower, upper = np.full(7, -np.inf), np.full(7, np.inf)
    lower[[2, 3]], upper[2] = 0.4, 0.4  # the second weight is pinned, the third may not fall below
    found = solve(design, y.astype(float), np.ones(800), prior, np.zeros(7), lower=lower, upper=upper).theta

    def loss(theta):
        line = design.times(theta)
        return -(y @ log_expit(line) + (1 - y) @ log_expit(-line)) + prior.loss(theta)

    best = minimize(loss, np.full(7, 0.4), method="L-BFGS-B", bounds=list(zip(lower, upper, strict=True)), tol=1e-12)
    np.testing.assert_allclose(found, best.x, atol=1e-3)
    assert (found[2], found[3]) == (0.4, 0.4)
    assert loss(found) <= best.fun + 1e-9


def test_classifier__a_group_that_says_nothing_is_held_tighter_than_one_that_does():
    generator = np.random.default_rng(8)
    codes = generator.integers(0, 8, (4000, 2))
    X = np.hstack([np.eye(8)[codes[:, 0]], np.eye(8)[codes[:, 1]]])
    y = (generator.random(4000) < expit(np.linspace(-2, 2, 8)[codes[:, 0]])).astype(int)
    model = ScorecardClassifier(groups=np.repeat([0, 1], 8)).fit(X, y)
    assert model.group_factors_[0] < 1 < model.group_factors_[1]
    alone = ScorecardClassifier().fit(X, y)
    assert np.abs(model.coef_[0, 8:]).max() < 0.8 * np.abs(alone.coef_[0, 8:]).max()


def test_group_factors__a_straight_trend_is_seen_as_one():
    generator = np.random.default_rng(9)
    codes = generator.integers(0, 8, (1500, 1)).astype(np.int16)
    design = BandDesign(codes, (1 + np.arange(8),), 9)
    weights = np.linspace(-1, 1, 8)
    y = (generator.random(1500) < expit(weights[codes[:, 0]])).astype(float)
    beliefs = Beliefs(
        np.zeros(8), np.ones(8), np.zeros(8, dtype=int), (np.arange(8),), np.full(8, -np.inf), np.full(8, np.inf)
    )
    asked = {"prior_trust": 1.0, "trust_sd": 0.0, "belief_deals": 40.0}
    smooth = learn_weights(design, y, np.ones(1500), beliefs, belief_grid=(10.0, 40.0), **asked)
    rough = learn_weights(design, y, np.ones(1500), replace(beliefs, chains=()), belief_grid=(10.0, 40.0), **asked)
    assert smooth.factors.straight[0] > 0

    def miss(learnt):
        found = learnt.theta[1:] - learnt.theta[1:].mean()
        return np.sqrt(np.mean((found - weights) ** 2))

    assert miss(smooth) < miss(rough)


def test_classifier__a_column_without_rows_stays_at_trust_times_expert():
    X, y = _indicators(2)
    X[:, 2] = 0
    model = ScorecardClassifier([1.0, 0, 0.9, 0, 0, 0]).fit(X, y)
    assert model.coef_[0, 2] == model.trust_ * 0.9
    assert model.data_share_[2] == 0
    assert model.data_share_[0] > 0.4


def test_classifier__trust_follows_how_right_the_experts_were():
    X, y = _indicators(3, 2000)
    truth = np.array([0.8, 0, -0.8, 0.5, 0, -0.5])
    exaggerating = ScorecardClassifier(2 * truth, trust_sd=0.3).fit(X, y).trust_
    exact = ScorecardClassifier(truth, trust_sd=0.3).fit(X, y).trust_
    wrong = ScorecardClassifier(-truth, trust_sd=0.3).fit(X, y).trust_
    assert 0.35 < exaggerating < 0.65
    assert 0.8 < exact < 1.2
    assert wrong == 0


def test_classifier__belief_is_large_for_exact_experts_and_small_for_wrong_ones():
    generator = np.random.default_rng(4)
    truth = generator.normal(0, 0.8, 40)
    codes = generator.integers(0, 40, 8000)
    y = (generator.random(8000) < expit(truth[codes])).astype(int)
    X = sparse.csr_array(np.eye(40)[codes])
    assert ScorecardClassifier(truth).fit(X, y).belief_deals_ == 160
    assert ScorecardClassifier(generator.permutation(truth) * 2).fit(X, y).belief_deals_ == 10


@pytest.mark.parametrize("y", [np.zeros(4), np.array([0, 1, 2, 1])])
def test_classifier__refuses_anything_but_two_outcomes(y):
    with pytest.raises(ValueError, match=r"class"):
        ScorecardClassifier().fit(np.eye(4), y)


def test_classifier__refuses_a_wrong_number_of_expert_weights():
    with pytest.raises(ValueError, match=r"expert_weights must have one figure per column \(4\)"):
        ScorecardClassifier([1.0]).fit(np.eye(4), [0, 1, 0, 1])


def test_count_identical__keeps_every_deal():
    generator = np.random.default_rng(5)
    codes = generator.integers(0, 3, (500, 3)).astype(np.int16)
    won = generator.integers(0, 2, 500)
    distinct, wins, losses = count_identical(codes, won)
    assert len(distinct) == len(np.unique(codes, axis=0)) == 27
    assert (wins.sum(), losses.sum()) == (won.sum(), 500 - won.sum())
    for row, win, loss in zip(distinct, wins, losses, strict=True):
        same = (codes == row).all(axis=1)
        assert (win, loss) == (won[same].sum(), (1 - won[same]).sum())
