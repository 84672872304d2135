"""Our estimators keep scikit-learn's rules, and the core solves what it says."""

import numpy as np
import pytest
from scipy import sparse
from scipy.optimize import minimize
from scipy.special import expit, log_expit
from sklearn.utils.estimator_checks import parametrize_with_checks

from ml import classifier
from ml.banding import Bander
from ml.classifier import MatrixDesign, ScorecardClassifier, count_identical


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
        base = expit(model._learn_trust(X @ expert, y.astype(float), np.ones(len(y)))[0])
        rows = y @ log_expit(line) + (1 - y) @ log_expit(-line)
        pseudo = 30 * (won @ log_expit(theta[1:]) + (1 - won) @ log_expit(-theta[1:]))
        return -(rows + pseudo + 20 * (base * log_expit(theta[0]) + (1 - base) * log_expit(-theta[0])))

    best = minimize(loss, np.zeros(7), method="BFGS", options={"gtol": 1e-7}).x
    np.testing.assert_allclose(np.concatenate([model.intercept_, model.coef_[0]]), best, atol=1e-5)


def test_classifier__sparse_lbfgs_and_dense_newton_agree(monkeypatch):
    X, y = _indicators(1, 2000)
    dense = ScorecardClassifier(belief_grid=None).fit(X, y)
    monkeypatch.setattr(scorecard, "DENSE_CELLS", 0)
    lbfgs = ScorecardClassifier(belief_grid=None).fit(sparse.csr_array(X), y)
    np.testing.assert_allclose(lbfgs.coef_, dense.coef_, atol=1e-7)
    np.testing.assert_allclose(lbfgs.covariance_, dense.covariance_, atol=1e-7)


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
