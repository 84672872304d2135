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

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from scipy.special import expit
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ml import evaluate
from ml.banding import band_criteria
from ml.calibration import calibrate, flat_calibration
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
from ml.classifier import LARGEST_BELIEF, BandDesign, Beliefs, Learnt, count_identical, learn_weights
from ml.evidence import criterion_evidence, protected_differences
from ml.leaks import History, Leak, find_leaks, leak_sentences, without_leaks

THREADS_FROM = 50_000
"""Deals from which several threads save more than they cost."""

THIN_EVIDENCE = 40
"""Won (or lost) deals under which the verdict says that the card is mostly expert judgement."""


@dataclass(frozen=True)
class _Weights:
    """Weights of all bands, in the order of the criteria and their bands; every array has shape (bands,).

    `learnt` has one column per group of tied bands: `column` names each band's, 1-based (0 is the intercept).
    Without won or lost deals there is nothing learnt.
    """

    mean: np.ndarray
    sd: np.ndarray
    data_share: np.ndarray
    trust: float
    belief_deals: float
    column: np.ndarray
    learnt: Learnt | None


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
    active_fitted_at: Any = None,
    amount: Any = None,
    history: History | None = None,
    protected: Sequence[str] = (),
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
    active, active_fitted_at : the card in use, judged on the later deals that closed after the moment of its fit.
    amount : of each deal, shape (n,), for the gains table; NaN = unknown.
    history : how values came about, for the leak guard. What it takes for a leak is left out, unless the criterion's
        specification insists.
    protected : columns of `X` whose groups are compared in the evaluation.

    Raises
    ------
    ValueError
        Lengths differ, an outcome is not 0 or 1, a close time or a column is missing, text for a number.
    """
    won, closed = _check_deals(X, y, closed_at)
    leaks = find_leaks(spec, X, won, closed, seed=seed, history=history)
    spec = without_leaks(spec, leaks)
    # Threads that wait for one another on a busy machine made a fit of 400 deals take 20 s instead of 1.
    with threadpool_limits(limits=1 if len(X) < THREADS_FROM else None):
        card, out_of_fold = _fit_checked(
            spec,
            X,
            won,
            closed,
            seed=seed,
            population=population,
            with_evaluation=with_evaluation,
            active=active,
            active_fitted_at=active_fitted_at,
            amount=None if amount is None else np.asarray(amount, dtype=float),
        )
        if with_evaluation:
            card = _with_evidence(spec, card, X, won, leaks, protected, seed=seed)
    if leaks:
        card = replace(card, verdict=(*card.verdict, *leak_sentences(leaks)))
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
    active_fitted_at: Any,
    amount: np.ndarray | None,
) -> tuple[Card, np.ndarray | None]:
    card, out_of_fold = _fit_without_evaluation(spec, X, won, seed=seed, population=population)
    if not with_evaluation:
        return replace(card, verdict=tuple(evidence_sentences(card))), out_of_fold

    def fit_earlier(X_earlier: pd.DataFrame, won_earlier: np.ndarray) -> Card:
        return _fit_without_evaluation(spec, X_earlier, won_earlier, seed=seed, population=None)[0]

    total = None if out_of_fold is None else out_of_fold.sum(axis=1)
    result = evaluate.on_later_deals(
        fit_earlier,
        X,
        won,
        closed,
        out_of_fold=total,
        seed=seed,
        active=active,
        active_fitted_at=active_fitted_at,
        amount=amount,
    )
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


def _with_evidence(
    spec: CardSpec,
    card: Card,
    X: pd.DataFrame,
    won: np.ndarray,
    leaks: Sequence[Leak],
    protected: Sequence[str],
    *,
    seed: int,
) -> Card:
    """The card with what stands beside its figures: leaks, single criteria, protected groups."""
    found: dict[str, Any] = {"leaks": [leak.to_document() for leak in leaks]}
    given = {c.name for c in spec.criteria if c.bands is not None} - set(spec.choices.locked_bands)
    evidence = criterion_evidence(card, X, won, seed=seed, fixed_bands=given)
    found["criteria"] = [entry.to_document() for entry in evidence]
    if protected:
        found["protected"] = protected_differences(card, X, won, protected)
    return replace(card, evaluation={**card.evaluation, **found})


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


def _belief_only(spec: CardSpec, criteria: Sequence[CriterionBands], expert: np.ndarray, trust: float) -> _Weights:
    p0 = np.clip(expit(trust * expert), LARGEST_BELIEF, 1 - LARGEST_BELIEF)
    precision = spec.belief_deals * p0 * (1 - p0)
    covariance = np.diag(1 / precision) if len(precision) else np.zeros((0, 0))
    sd = _contrast_sd(criteria, covariance, precision)
    column = 1 + np.arange(len(expert))
    return _Weights(trust * expert, sd, np.zeros(len(expert)), trust, spec.belief_deals, column, None)


def _fit_weights(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    *,
    like: _Weights | None = None,
    column: np.ndarray | None = None,
) -> _Weights:
    """Fit all bands; `like` fixes trust and beliefs at those of another fit; `column` gives bands a common one.

    A criterion that must be monotone and is not has its two worst neighbours tied and is fitted again:
    pooling of adjacent violators on the joint likelihood.
    """
    offsets = _offsets(criteria)
    if column is None:
        column = 1 + np.arange(offsets[-1]) if like is None else like.column
    expert = np.array([b.expert_points for c in criteria for b in c.bands]) * WEIGHT_PER_POINT
    group_of_band = np.repeat(np.arange(len(criteria)), np.diff(offsets))
    count = int(column.max())
    bands_per_column = np.bincount(column - 1, minlength=count).astype(float)
    group = np.zeros(count, dtype=int)
    group[column - 1] = group_of_band
    beliefs = Beliefs(
        expert=np.bincount(column - 1, weights=expert, minlength=count) / bands_per_column,
        scale=bands_per_column,
        group=group,
        chains=_chains(criteria, offsets, column),
        lower=np.full(count, -np.inf),
        upper=np.full(count, np.inf),
    )
    distinct, wins, losses = count_identical(codes, won)
    columns = tuple(column[begin:end] for begin, end in pairwise(offsets))
    design = BandDesign(distinct, columns, 1 + count)
    deals = (wins + losses).astype(float)
    learnt = learn_weights(
        design,
        wins / deals,
        deals,
        beliefs,
        prior_trust=spec.trust,
        trust_sd=spec.trust_sd,
        belief_deals=spec.belief_deals,
        belief_grid=spec.belief_grid,
        like=None if like is None or like.learnt is None or len(like.learnt.theta) != count + 1 else like.learnt,
    )
    mean = learnt.theta[column]
    tied = _tie_worst(criteria, offsets, mean, column)
    if tied is not None:
        return _fit_weights(spec, criteria, codes, won, like=like, column=tied)
    precision = (np.diag(learnt.prior.precision(learnt.prior.centre))[1:] / bands_per_column)[column - 1]
    sd = _contrast_sd(criteria, learnt.covariance[np.ix_(column, column)], precision)
    return _Weights(mean, sd, learnt.data_share[column - 1], learnt.trust, learnt.belief, column, learnt)


def _chains(criteria: Sequence[CriterionBands], offsets: np.ndarray, column: np.ndarray) -> tuple[np.ndarray, ...]:
    """The 0-based columns of each number's ranges in order; tied ranges are one column."""
    chains = []
    for criterion, offset in zip(criteria, offsets[:-1], strict=True):
        ranges = [column[offset + k] - 1 for k, band in enumerate(criterion.bands) if band.band_type == "range"]
        if len(chain := list(dict.fromkeys(ranges))) > 1:
            chains.append(np.array(chain, dtype=int))
    return tuple(chains)


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
    return 1 + np.unique(tied, return_inverse=True)[1]


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
