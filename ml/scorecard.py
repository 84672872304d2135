"""The whole road from closed deals to a `Card`: bands, weights, pairs, segments, points, probability, evaluation.

Belongs here: the order of these steps, points out of fold, the rows of the card and what they rest on in words. Does
not: the steps themselves (`ml.banding`, `ml.weights`, `ml.pairs`, `ml.segments`, `ml.calibration`, `ml.evaluate`),
reading features, storing cards, deciding which card is active.

Method. Every band has an indicator in one logistic regression. A band that the experts give weight e enters as S
rows with that indicator alone switched on, a share ``1 / (1 + exp(-t e))`` of them won: a proper prior, so that any
number of deals gives a card. How far the experts are trusted, what a belief is worth, what each criterion deserves
and how smooth a number's weights are is learnt (`ml.classifier`). Where deals closed later ask for it, a share of every
weight is what its criterion says alone (`ml.woe`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import StratifiedKFold
from threadpoolctl import threadpool_limits

from ml import evaluate
from ml.banding import band_criteria
from ml.calibration import calibrate, flat_calibration, weight_variance_by_total
from ml.card import (
    WEIGHT_PER_POINT,
    Z_90,
    Calibration,
    Card,
    CardBand,
    CardSpec,
    Choices,
    CriterionBands,
    Pair,
    points_from_weights,
    points_range,
)
from ml.evidence import criterion_evidence, protected_differences
from ml.leaks import History, Leak, find_leaks, leak_sentences, without_leaks
from ml.pairs import find_pairs, with_pair_codes
from ml.segments import SegmentWeights, fit_segments
from ml.weights import (
    Limits,
    Weights,
    band_offsets,
    believed_weights,
    encode,
    fit_weights,
    is_rest,
    learn_woe_belief,
    limits_of,
    total_points,
    total_variance,
    with_woe,
)

THREADS_FROM = 50_000
"""Deals from which several threads save more than they cost."""

THIN_EVIDENCE = 40
"""Won (or lost) deals under which the verdict says that the card is mostly expert judgement."""


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
    groups: Any = None,
) -> Fitted:
    """The card of these closed deals, from none to millions.

    Until one deal is won and one is lost, the card is the experts' card, point for point. After that every
    weight is the mode of deals and pseudo-deals together, within what people hold (`CardSpec.choices`).
    Points never depend on the verdict; but where the deals closed later, and all deals out of fold, both show
    no signal, the win probability is flat at the base rate.

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
    groups : rows that belong together, such as the months of one account, shape (n,); the tests of single criteria
        then take their variance between groups. None = rows are independent.

    Raises
    ------
    ValueError
        Lengths differ, an outcome is not 0 or 1, a close time or a column is missing, text for a number, a pin on
        a band that is not there.
    """
    won, closed = _check_deals(X, y, closed_at)
    leaks = find_leaks(spec, X, won, closed, seed=seed, history=history)
    spec = without_leaks(spec, leaks)
    given = X.index
    X = X.reset_index(drop=True)  # rows are found again by number
    # Threads that wait for one another on a busy machine made a fit of 400 deals take 20 s instead of 1.
    limits = {"blas": 1} if len(X) >= THREADS_FROM else {"blas": 1, "openmp": 1}
    with threadpool_limits(limits=limits):
        made = _fit_without_evaluation(spec, X, won, closed, seed=seed, population=population)
        card = replace(made.card, verdict=tuple(evidence_sentences(made.card)))
        if with_evaluation:
            paid = None if amount is None else np.asarray(amount, dtype=float)
            card = _evaluated(spec, made, X, won, closed, seed, active, active_fitted_at, paid)
            card = _with_evidence(spec, card, X, won, leaks, protected, groups, seed=seed)
    if leaks:
        card = replace(card, verdict=(*card.verdict, *leak_sentences(leaks)))
    by_kind = None
    if made.out_of_fold is not None:
        by_kind = pd.DataFrame(made.out_of_fold, index=given, columns=["fit_points", "engagement_points"])
    names = [*(c.name for c in made.criteria)]
    numbers = pd.DataFrame(made.codes.astype(np.int64) + 1, index=given, columns=names)
    return Fitted(card, by_kind, numbers)


@dataclass(frozen=True)
class _Made:
    """A card with the bands of its deals: `criteria` and the columns of `codes` hold the pairs last."""

    card: Card
    out_of_fold: np.ndarray | None
    criteria: tuple[CriterionBands, ...]
    codes: np.ndarray


def _evaluated(
    spec: CardSpec,
    made: _Made,
    X: pd.DataFrame,
    won: np.ndarray,
    closed: np.ndarray,
    seed: int,
    active: Card | None,
    active_fitted_at: Any,
    amount: np.ndarray | None,
) -> Card:
    """The card with its test on later deals, and flat where that shows nothing."""

    def fit_earlier(X_earlier: pd.DataFrame, won_earlier: np.ndarray) -> Card:
        their_closed = closed[X_earlier.index.to_numpy()]
        return _fit_without_evaluation(spec, X_earlier, won_earlier, their_closed, seed=seed, population=None).card

    card = made.card
    total = None if made.out_of_fold is None else made.out_of_fold.sum(axis=1)
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
    if has_choices(spec):
        result["choices_price"] = choices_price(spec, X, won, closed, seed=seed)
        verdict = (*verdict, *price_sentences(result["choices_price"]))
    return replace(card, evaluation=result, verdict=verdict)


def _with_evidence(
    spec: CardSpec,
    card: Card,
    X: pd.DataFrame,
    won: np.ndarray,
    leaks: Sequence[Leak],
    protected: Sequence[str],
    groups: Any,
    *,
    seed: int,
) -> Card:
    """The card with what stands beside its figures: leaks, single criteria, protected groups."""
    found: dict[str, Any] = {"leaks": [leak.to_document() for leak in leaks]}
    given = {c.name for c in spec.criteria if c.bands is not None} - set(spec.choices.locked_bands)
    evidence = criterion_evidence(card, X, won, seed=seed, fixed_bands=given, groups=groups)
    found["criteria"] = [entry.to_document() for entry in evidence]
    if protected:
        found["protected"] = protected_differences(card, X, won, protected)
    return replace(card, evaluation={**card.evaluation, **found})


def has_choices(spec: CardSpec) -> bool:
    """Whether people hold points, signs or bands of this card."""
    return bool(spec.choices) or any(
        criterion.sign is not None or any(band.is_pinned for band in criterion.bands or ())
        for criterion in spec.criteria
    )


def without_choices(spec: CardSpec) -> CardSpec:
    """The same specification with nothing held: expert points stay beliefs."""
    criteria = tuple(
        replace(
            criterion,
            sign=None,
            bands=None
            if criterion.bands is None
            else tuple(replace(band, is_pinned=False) for band in criterion.bands),
        )
        for criterion in spec.criteria
    )
    return replace(spec, criteria=criteria, choices=Choices())


def choices_price(
    spec: CardSpec, X: pd.DataFrame, won: np.ndarray, closed: np.ndarray, *, seed: int
) -> dict[str, Any] | None:
    """What holding people's choices costs on the newest deals: both cards are fitted on the earlier ones.

    Returns
    -------
    deal_count, won_count, with_choices and without_choices (auc, log_loss), cost (log loss with less that without;
    above 0 = the choices cost) and its paired 90 % interval; None where the later deals are too few to say.
    """
    later, _ = evaluate.split_by_close_time(closed)
    y = won[later]
    earlier = won[~later]
    if min(y.sum(), len(y) - y.sum(), earlier.sum(), len(earlier) - earlier.sum()) < evaluate.FEWEST_RARER:
        return None
    chances, scores = {}, {}
    for name, asked in (("with_choices", spec), ("without_choices", without_choices(spec))):
        card = _fit_without_evaluation(asked, X.loc[~later], earlier, closed[~later], seed=seed, population=None).card
        points = card.total_points(X.loc[later]).to_numpy()
        chances[name], scores[name] = card.win_probability(points)[0], points.astype(float)
    figures = {name: evaluate.figures(y, chances[name], scores[name]) for name in chances}
    intervals = evaluate.bootstrap_intervals(
        y, chances["without_choices"], scores["without_choices"], {"choices": chances["with_choices"]}, seed=seed
    )
    return {
        "deal_count": len(y),
        "won_count": int(y.sum()),
        **{name: {key: its[key] for key in ("auc", "log_loss")} for name, its in figures.items()},
        "cost": figures["with_choices"]["log_loss"] - figures["without_choices"]["log_loss"],  # type: ignore[operator]
        "cost_interval": intervals["gain_over_choices"],
    }


def price_sentences(price: dict[str, Any] | None) -> list[str]:
    """The price of the choices in one sentence; none where it is unknown."""
    if price is None:
        return []
    with_, without = price["with_choices"], price["without_choices"]
    low, high = price["cost_interval"]
    verdict = "they cost" if low > 0 else "they pay" if high < 0 else "that is within chance"
    return [
        f"What people hold: on the {price['deal_count']:,} newest deals log loss is {with_['log_loss']:.4f} with their "
        f"choices and {without['log_loss']:.4f} without, AUC {with_['auc']:.3f} and {without['auc']:.3f}: {verdict}."
    ]


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
    spec: CardSpec,
    X: pd.DataFrame,
    won: np.ndarray,
    closed: np.ndarray,
    *,
    seed: int,
    population: pd.DataFrame | None,
) -> _Made:
    """The card and each deal's points out of fold (None where folds were impossible)."""
    criteria = band_criteria(spec, X, won, population)
    codes = encode(criteria, X)
    rarer = int(min(won.sum(), len(won) - won.sum()))
    out_of_fold: np.ndarray | None = None
    prior: dict[str, float] = {}
    pairs: list[tuple[Pair, CriterionBands]] = []
    segments: SegmentWeights | None = None
    if rarer == 0 or not criteria:
        weights = believed_weights(spec, criteria)
        calibration_points = total_points(points_from_weights(weights.mean), criteria, codes)
        # The points are the experts' own; how far they are to be trusted stands in the probability alone.
        prior = {
            "prior_slope": spec.trust * WEIGHT_PER_POINT,
            "prior_slope_sd": max(spec.trust_sd, 0.01) * WEIGHT_PER_POINT,
        }
    else:
        weights = fit_weights(spec, criteria, codes, won)
        woe_belief = learn_woe_belief(spec, criteria, codes, won, closed, weights)
        pairs = find_pairs(spec, criteria, codes, won, closed, weights, seed=seed)
        if pairs:
            codes = with_pair_codes(codes, criteria, pairs)
            criteria = (*criteria, *(bands for _, bands in pairs))
            weights = fit_weights(spec, criteria, codes, won)
        weights = with_woe(spec, criteria, codes, won, weights, woe_belief)
        pair_names = [pair.name for pair, _ in pairs]
        segments = fit_segments(spec, criteria, codes, won, weights, pair_names=pair_names)
        if rarer >= 2:
            out_of_fold = _out_of_fold_points(spec, criteria, codes, won, weights, segments, pair_names, seed=seed)
            calibration_points = out_of_fold.sum(axis=1)
        else:
            # One deal of an outcome cannot be both fitted and tested: the experts' points have seen neither.
            expert = np.array([b.expert_points for c in criteria for b in c.bands], dtype=float)
            expected = points_from_weights(weights.trust * expert * WEIGHT_PER_POINT)
            calibration_points = total_points(expected, criteria, codes)
        if segments is not None:
            weights = segments.common
    points = points_from_weights(weights.mean)
    accounts: np.ndarray | None = None
    centre: float | None = None
    if population is not None and len(population) > 0:
        accounts = with_pair_codes(encode(criteria[: len(criteria) - len(pairs)], population), criteria, pairs)
        if len(won) < 2 * spec.expected_win_rate_deals:
            centre = float(total_points(points, criteria, accounts).mean())
    rows = _card_bands(spec, criteria, codes, won, weights, segments, accounts)
    lowest, highest = points_range(rows)
    seen = codes if len(codes) else accounts if accounts is not None else codes
    variance, at = total_variance(criteria, seen, weights)
    calibration: Calibration = calibrate(
        calibration_points,
        won,
        lowest_points=lowest,
        highest_points=highest,
        expected_win_rate=spec.expected_win_rate,
        expected_win_rate_deals=spec.expected_win_rate_deals,
        **prior,
        centre_points=centre,
        weight_variance=weight_variance_by_total(
            total_points(points, criteria, seen[at]), variance, lowest_points=lowest, highest_points=highest
        ),
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
        pairs=tuple(pair for pair, _ in pairs),
        segment_by=spec.segment_by,
        choices=spec.choices,
        woe_share=0.0 if weights.woe_belief is None else weights.woe_belief.share,
    )
    return _Made(card, out_of_fold, tuple(criteria), codes)


def _out_of_fold_points(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: Weights,
    segments: SegmentWeights | None,
    pair_names: Sequence[str],
    *,
    seed: int,
) -> np.ndarray:
    """Each deal's whole points (explicit, implicit), shape (n, 2), by a fit that did not see it, at the trust
    and beliefs of the whole fit.

    The fewer the deals, the more folds (each fit must resemble the final one); from 20,000 on halves do.
    """
    most = 10 if len(won) < 200 else 5 if len(won) < 20_000 else 2
    folds = StratifiedKFold(n_splits=int(min(most, won.sum(), len(won) - won.sum())), shuffle=True, random_state=seed)
    result = np.zeros((len(won), 2), dtype=np.int64)
    implicit = np.repeat([c.kind == "implicit" for c in criteria], [len(c.bands) for c in criteria])
    for train, test in folds.split(codes, won):
        seen, unseen = np.asfortranarray(codes[train]), np.asfortranarray(codes[test])
        fold = fit_weights(spec, criteria, seen, won[train], like=weights)
        fold = with_woe(spec, criteria, seen, won[train], fold, weights.woe_belief)
        means = [(np.ones(len(test), dtype=bool), fold.mean)]
        if segments is not None:
            parts = fit_segments(
                spec, criteria, seen, won[train], fold, pair_names=pair_names, strengths=segments.strengths
            )
            if parts is not None:
                by = [c.name for c in criteria].index(str(spec.segment_by))
                means = [(~np.isin(unseen[:, by], parts.places), parts.common.mean)]
                means += [(unseen[:, by] == place, mean) for place, mean in zip(parts.places, parts.mean, strict=True)]
        for inside, mean in means:
            points = points_from_weights(mean)
            result[test[inside], 0] = total_points(np.where(implicit, 0, points), criteria, unseen[inside])
            result[test[inside], 1] = total_points(np.where(implicit, points, 0), criteria, unseen[inside])
    return result


# --------------------------------------------------------------------------- rows and words


def _card_bands(
    spec: CardSpec,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    weights: Weights,
    segments: SegmentWeights | None,
    accounts: np.ndarray | None,
) -> tuple[CardBand, ...]:
    limits = limits_of(spec, criteria)
    everywhere = np.ones(len(codes), dtype=bool)
    all_accounts = None if accounts is None else np.ones(len(accounts), dtype=bool)
    result = _rows(
        spec, "", criteria, codes, won, everywhere, accounts, all_accounts,
        (weights.mean, weights.sd, weights.data_share), limits,
    )  # fmt: skip
    if segments is not None:
        by = [c.name for c in criteria].index(str(spec.segment_by))
        for number, (label, place) in enumerate(zip(segments.labels, segments.places, strict=True)):
            figures = segments.mean[number], segments.sd[number], segments.data_share[number]
            inside = codes[:, by] == place
            accounts_inside = None if accounts is None else accounts[:, by] == place
            result += _rows(
                spec, label, criteria, codes, won, inside, accounts, accounts_inside, figures, limits
            )  # fmt: skip
    return tuple(result)


def _rows(
    spec: CardSpec,
    segment: str,
    criteria: Sequence[CriterionBands],
    codes: np.ndarray,
    won: np.ndarray,
    inside: np.ndarray,
    accounts: np.ndarray | None,
    accounts_inside: np.ndarray | None,
    figures: tuple[np.ndarray, np.ndarray, np.ndarray],
    limits: Limits,
) -> list[CardBand]:
    """The rows of one segment; deals and accounts are counted where they are `inside` it."""
    means, sds, shares = figures
    points = points_from_weights(means)
    pinned = {(pin.criterion, pin.band) for pin in spec.choices.pins if pin.segment == segment and segment}
    rows: list[CardBand] = []
    for number, (criterion, offset) in enumerate(zip(criteria, band_offsets(criteria)[:-1], strict=True)):
        count = len(criterion.bands)
        deals = np.bincount(codes[inside, number], minlength=count)
        wins = np.bincount(codes[inside, number], weights=won[inside], minlength=count)
        counted = None
        if accounts is not None and accounts_inside is not None:
            counted = np.bincount(accounts[accounts_inside, number], minlength=count)
        believed = any(band.expert_points for band in criterion.bands)
        for place, band in enumerate(criterion.bands):
            at = int(offset) + place
            mean, half = float(means[at]), Z_90 * float(sds[at])
            is_pinned = (bool(limits.is_pinned[at]) and not is_rest(band)) or (criterion.name, band.label) in pinned
            row = CardBand(
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
                # A sign that people demand also bounds what may be.
                weight_low=float(max(mean - half, min(limits.lower[at], mean))),
                weight_high=float(min(mean + half, max(limits.upper[at], mean))),
                deal_count=int(deals[place]),
                won_count=int(wins[place]),
                data_share_pct=round(100 * float(shares[at]), 2),
                segment=segment,
                account_count=None if counted is None else int(counted[place]),
                is_pinned=is_pinned,
            )
            rows.append(replace(row, evidence="the rest: no points" if is_rest(band) else _evidence(row, believed)))
    return rows


def _evidence(row: CardBand, believed: bool) -> str:
    """What a row rests on; `believed` = the experts gave points to its criterion."""
    if row.is_pinned:
        return f"held at {row.points:+d} by choice"
    if row.deal_count == 0:
        if row.segment:
            return "no deals here: as everybody's"
        return "no deals: experts' belief" if believed else "no deals, no belief"
    seen = f"{row.won_count:,} won of {row.deal_count:,} deal{'s' if row.deal_count > 1 else ''}"
    if row.segment:
        return f"{seen} here; {row.data_share_pct:.0f} % from data, here and elsewhere"
    if row.data_share_pct < 50:
        return f"{seen}: mostly expert judgement" if believed else f"{seen}: too few to say much"
    return f"{seen}: {row.data_share_pct:.0f} % from data"


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
