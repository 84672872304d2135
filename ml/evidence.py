"""What closed deals say about single criteria and about groups of accounts, with the doubt that is due.

Belongs here: tests of one criterion at a time with control of false discoveries, what the experts believed beside
what the deals say, importance in the card, stability of a distribution, differences between protected groups.
Does not: leaks (`ml.leaks`), the card's accuracy (`ml.evaluate`), fitting.

Tests. A band that was cut where the deals differ differs on these deals: testing it on them finds what is not
there. So a criterion is tested on classes that never saw an outcome (fifths of a number, frequent values of a
category, missing apart), unless its bands were given beforehand. The statistic is Pearson's chi-square of classes
against outcome, which is the score test of a logistic regression on the classes. Where a class expects under five
deals of an outcome its distribution is not chi-square; then the wins are dealt out to the classes at random with the
margins held (a Monte Carlo form of Fisher's exact test). Rows of one account in many months are not
independent: with `groups` the score test takes its variance between accounts (Liang and Zeger 1986).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy import stats

from ml.card import Card, CardBand, ValueType, as_numbers, column_of, range_label
from ml.evaluate import auc, wilson_interval

SIGNIFICANT = 0.05
"""Share of false discoveries that is accepted among the criteria called significant."""

TEST_CLASSES = 5
"""Classes of a number: a trend needs few, and every class more costs power."""

MOST_VALUES = 12
"""Most frequent values of a category that are tested apart; the others are one class."""

FEWEST_EXPECTED = 5.0
"""Expected deals of an outcome in a class under which chi-square is not trusted (Cochran 1954)."""

MONTE_CARLO_DRAWS = 9999
"""Random tables of the exact test: the smallest p-value is 1 in 10,000."""

AUC_ROWS = 100_000
"""Deals at most for a single criterion's AUC: its interval is +- 0.002 then."""

FOLDS = 5

STABLE_BELOW, SHIFTING_BELOW = 0.10, 0.25
"""Limits of the population stability index that credit scoring uses (Siddiqi 2006)."""


# --------------------------------------------------------------------------- classes that saw no outcome


@dataclass(frozen=True)
class Classes:
    """A column in few classes, made without the outcome.

    Attributes
    ----------
    codes : class of each row, shape (n,), 0-based.
    labels : text of each class; the last is "missing".
    """

    codes: np.ndarray
    labels: tuple[str, ...]

    @property
    def missing(self) -> int:
        """Code of the missing values."""
        return len(self.labels) - 1


def classes_of(
    name: str, column: pd.Series, value_type: ValueType, *, count: int = TEST_CLASSES, most_values: int = MOST_VALUES
) -> Classes:
    """Equal-mass classes of a number, frequent values of a category; missing is the last class.

    Raises
    ------
    ValueError
        A number criterion got text.
    """
    if value_type == "number":
        values = as_numbers(name, column)
        known = values[~np.isnan(values)]
        # Cuts are values that occur. One that many share, often 0, stands alone.
        cuts = np.unique(np.quantile(known, np.arange(1, count) / count, method="higher")) if len(known) else known
        if len(known) and known.max() > known.min():
            cuts = cuts[cuts > known.min()]
            if (known == known.min()).mean() >= 1 / count:
                cuts = np.unique(np.append(cuts, known[known > known.min()].min()))
        else:
            cuts = cuts[:0]
        codes = np.searchsorted(cuts, values, side="right")
        whole = bool((known == np.floor(known)).all())
        edges = [None, *map(float, cuts), None]
        labels = [range_label(edges[k], edges[k + 1], whole) for k in range(len(cuts) + 1)]
        codes[np.isnan(values)] = len(labels)
        return Classes(codes.astype(np.int64), (*labels, "missing"))
    found, known_values = pd.factorize(column, use_na_sentinel=True)
    frequency = np.bincount(found[found >= 0], minlength=len(known_values))
    text = np.array([str(value) for value in known_values], dtype=object)
    by_frequency = np.lexsort((text, -frequency))[:most_values] if len(text) else np.empty(0, dtype=int)
    labels = [str(text[k]) for k in by_frequency]
    place = np.full(len(known_values) + 1, len(labels), dtype=np.int64)  # the rest
    place[by_frequency] = np.arange(len(by_frequency))
    if len(known_values) > len(labels):
        labels.append("other")
    place[-1] = len(labels)
    return Classes(place[found], (*labels, "missing"))


# --------------------------------------------------------------------------- one criterion against the outcome


@dataclass(frozen=True)
class Link:
    """Whether classes and outcome hang together.

    p_value is None where there is nothing to test: one class, or one outcome only.
    """

    p_value: float | None
    method: Literal["chi-square", "exact", "score by group", "none"]


def link_test(codes: np.ndarray, won: np.ndarray, *, seed: int, groups: np.ndarray | None = None) -> Link:
    """Test of classes against the outcome; see the head of this module.

    Parameters
    ----------
    codes : class of each deal, shape (n,), 0-based; won : 0 or 1, shape (n,).
    seed : of the random tables.
    groups : rows that belong together, such as the account's id, shape (n,); None = rows are independent.
    """
    _, codes = np.unique(codes, return_inverse=True)
    total = np.bincount(codes).astype(np.int64)
    wins = np.bincount(codes, weights=won).round().astype(np.int64)
    won_count, n = int(wins.sum()), int(total.sum())
    if len(total) < 2 or won_count in (0, n):
        return Link(None, "none")
    if groups is not None and len(np.unique(groups)) < n:
        return _link_by_group(codes, won, total, groups)
    rate = won_count / n

    def statistic(wins_by_class: np.ndarray) -> np.ndarray:
        return ((wins_by_class - total * rate) ** 2 / (total * rate * (1 - rate))).sum(axis=-1)

    found = float(statistic(wins))
    if total.min() * min(rate, 1 - rate) >= FEWEST_EXPECTED:
        return Link(float(stats.chi2.sf(found, len(total) - 1)), "chi-square")
    generator = np.random.default_rng(seed)
    tables = generator.multivariate_hypergeometric(total, won_count, size=MONTE_CARLO_DRAWS, method="marginals")
    # Tables as unlikely as the found one count, also where a sum's last bit differs.
    as_far = int((statistic(tables) >= found * (1 - 1e-9)).sum())
    return Link((as_far + 1) / (MONTE_CARLO_DRAWS + 1), "exact")


def _link_by_group(codes: np.ndarray, won: np.ndarray, total: np.ndarray, groups: np.ndarray) -> Link:
    rate = float(won.mean())
    # Classes too small for a normal sum are one class; that choice sees the margins only.
    small = total * min(rate, 1 - rate) < FEWEST_EXPECTED
    place = np.where(small, -1, np.cumsum(~small) - 1)[codes]
    place[place < 0] = int((~small).sum())
    used = np.unique(place)
    if len(used) < 2:
        return Link(None, "none")
    place = np.searchsorted(used, place)
    _, group = np.unique(groups, return_inverse=True)
    size = len(used)
    residual = won - rate
    by_group = np.bincount(group * size + place, weights=residual, minlength=(group.max() + 1) * size)
    by_group = by_group.reshape(-1, size)
    # The overall rate is estimated from the same rows: take out what its score moves.
    share = np.bincount(place, minlength=size) / len(place)
    by_group = by_group - by_group.sum(axis=1, keepdims=True) * share
    score = by_group.sum(axis=0)[:-1]
    variance = (by_group.T @ by_group)[:-1, :-1]
    found = float(score @ np.linalg.pinv(variance) @ score)
    return Link(float(stats.chi2.sf(found, size - 1)), "score by group")


def false_discovery_control(p_values: Sequence[float | None]) -> list[float | None]:
    """q-values by Benjamini and Hochberg (1995): the false share among all with a q at most as high.

    None (not tested) stays None and does not count as a test.
    """
    tested = [k for k, p in enumerate(p_values) if p is not None]
    result: list[float | None] = [None] * len(p_values)
    if tested:
        adjusted = stats.false_discovery_control([float(p_values[k]) for k in tested])  # type: ignore[arg-type]
        for k, q in zip(tested, adjusted, strict=True):
            result[k] = float(q)
    return result


def information_value(wins: Any, losses: Any) -> float:
    """``sum (share of wins - share of losses) * ln(share of wins / share of losses)``, half a deal added per cell.

    Under 0.02 it is usually called useless, 0.1-0.3 medium, over 0.5 suspicious (Siddiqi 2006).
    """
    won, lost = np.asarray(wins, dtype=float) + 0.5, np.asarray(losses, dtype=float) + 0.5
    won, lost = won / won.sum(), lost / lost.sum()
    return float(((won - lost) * np.log(won / lost)).sum())


def score_out_of_fold(codes: np.ndarray, won: np.ndarray, *, seed: int) -> np.ndarray:
    """Log-odds of each deal's class among the deals of the other folds, half a deal added, shape (n,)."""
    fold = np.random.default_rng(seed).permutation(len(codes)) % FOLDS
    size = int(codes.max()) + 1 if len(codes) else 1
    rate = (won.sum() + 0.5) / (len(won) + 1.0)
    wins = np.bincount(fold * size + codes, weights=won, minlength=FOLDS * size).reshape(FOLDS, size)
    total = np.bincount(fold * size + codes, minlength=FOLDS * size).reshape(FOLDS, size)
    wins, total = wins.sum(axis=0) - wins, total.sum(axis=0) - total
    log_odds = np.log((wins + rate) / (total - wins + 1 - rate))
    return log_odds[fold, codes]


def auc_interval(value: float, won_count: int, lost_count: int) -> tuple[float, float]:
    """Central 90 % interval of an AUC by Hanley and McNeil (1982), within 0 and 1; (0, 1) without both outcomes."""
    if won_count == 0 or lost_count == 0 or not np.isfinite(value):
        return 0.0, 1.0
    q1, q2 = value / (2 - value), 2 * value**2 / (1 + value)
    variance = value * (1 - value) + (won_count - 1) * (q1 - value**2) + (lost_count - 1) * (q2 - value**2)
    # A perfect order of few deals has no variance by the formula: as if half a pair were the wrong way round.
    least = 0.5 / (won_count * lost_count)
    half = 1.645 * float(np.sqrt(max(variance / (won_count * lost_count), least**2)))
    return max(value - half, 0.0), min(value + half, 1.0)


def univariate_auc(codes: np.ndarray, won: np.ndarray, *, seed: int) -> tuple[float, float, float]:
    """AUC of a criterion alone, out of fold, and its 90 % interval; half, or a little under, means nothing.

    A class scores by the other folds' deals, so that many classes do not look good by chance.
    """
    step = max(1, -(-len(codes) // AUC_ROWS))
    codes, won = codes[::step], won[::step]
    value = auc(won, score_out_of_fold(codes, won, seed=seed))
    return (value, *auc_interval(value, int(won.sum()), int(len(won) - won.sum())))


# --------------------------------------------------------------------------- all criteria of a card


@dataclass(frozen=True)
class BandEvidence:
    """One band: what it shows alone, and in the card beside the others.

    raw_weight : log-odds of its win rate; adjusted_weight : its weight in the card; both against the mean deal of
        the criterion, so that they compare. None without deals.
    """

    band_no: int
    band: str
    deal_count: int
    won_count: int
    raw_weight: float | None
    adjusted_weight: float | None


@dataclass(frozen=True)
class CriterionEvidence:
    """What the deals of a fit say about one criterion.

    Attributes
    ----------
    deal_count : deals with a known value; a pair's deals outside of "other".
    auc, auc_low, auc_high : of the criterion alone, out of fold; None for a pair and without both outcomes.
    information_value : of the card's bands.
    p_value, test : of a link with the outcome, alone; None and "none" for a pair, which was chosen on these deals, and
        where there is nothing to test.
    q_value, is_significant : after control of false discoveries over all criteria; None where not tested.
    importance_points : mean distance of a deal's points from their mean: the spread it gives to totals.
    importance_share_pct : its part of the sum of all criteria's.
    belief : "agree", "reverse", "unclear" (deals do not say), "none" (experts give all bands the same).
    belief_p_value : two-sided, of the experts' points against the outcome.
    sentence : belief and deals in words.
    """

    criterion: str
    kind: str
    deal_count: int
    auc: float | None
    auc_low: float | None
    auc_high: float | None
    information_value: float
    p_value: float | None
    test: str
    q_value: float | None
    is_significant: bool | None
    importance_points: float
    importance_share_pct: float
    belief: Literal["agree", "reverse", "unclear", "none"]
    belief_p_value: float | None
    sentence: str
    bands: tuple[BandEvidence, ...]

    def to_document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        document = asdict(self)
        document["bands"] = [asdict(band) for band in self.bands]
        return document


def criterion_evidence(
    card: Card,
    X: pd.DataFrame,
    won: Any,
    *,
    seed: int,
    fixed_bands: Collection[str] = (),
    groups: Any = None,
) -> list[CriterionEvidence]:
    """Evidence on every criterion of a card, in its order, from the deals of its fit.

    Parameters
    ----------
    X : deals x criteria; won : 0 or 1, shape (n,).
    fixed_bands : criteria whose bands were given before any deal was seen: they are tested on these bands.
    groups : as in `link_test`.
    """
    y = np.asarray(won, dtype=float)
    numbers = card.band_numbers(X)
    points = card.points(X)
    importance = {name: _mean_distance(points[name].to_numpy(dtype=float)) for name in card.criteria}
    whole = sum(importance.values())
    pairs = {pair.name for pair in card.pairs}
    value_types = {bands.name: bands.value_type for bands in card.criterion_bands()}
    of_groups = None if groups is None else np.asarray(groups)
    rows = card.rows()
    links: dict[str, Link] = {}
    areas: dict[str, tuple[float, float, float]] = {}
    beliefs: dict[str, tuple[float, float] | None] = {}
    for name in card.criteria:
        codes = numbers[name].to_numpy() - 1
        beliefs[name] = None if name in pairs else _belief_score(rows[name], codes, y, of_groups, seed)
        if name in pairs:
            links[name] = Link(None, "none")
            continue
        if name not in fixed_bands:
            codes = classes_of(name, column_of(X, name), value_types[name]).codes
        links[name] = link_test(codes, y, seed=seed, groups=of_groups)
        areas[name] = univariate_auc(codes, y, seed=seed) if len(y) else (np.nan, 0.0, 1.0)
    q_values = false_discovery_control([links[name].p_value for name in card.criteria])
    belief_p = {name: None if score is None else score[1] for name, score in beliefs.items()}
    belief_q = dict(zip(card.criteria, false_discovery_control(list(belief_p.values())), strict=True))
    result = []
    for name, q in zip(card.criteria, q_values, strict=True):
        bands, codes = rows[name], numbers[name].to_numpy() - 1
        deals = np.bincount(codes, minlength=len(bands))
        wins = np.bincount(codes, weights=y, minlength=len(bands))
        left_out = [k for k, band in enumerate(bands) if band.band_type == ("other" if name in pairs else "missing")]
        area = areas.get(name)
        is_known = area is not None and bool(np.isfinite(area[0]))
        belief = _belief_word(beliefs[name], belief_q[name])
        result.append(
            CriterionEvidence(
                criterion=name,
                kind=bands[0].kind,
                deal_count=int(deals.sum() - deals[left_out].sum()),
                auc=float(area[0]) if area is not None and is_known else None,
                auc_low=float(area[1]) if area is not None and is_known else None,
                auc_high=float(area[2]) if area is not None and is_known else None,
                information_value=information_value(wins, deals - wins) if len(y) else 0.0,
                p_value=links[name].p_value,
                test=links[name].method,
                q_value=q,
                is_significant=None if q is None else q <= SIGNIFICANT,
                importance_points=importance[name],
                importance_share_pct=round(100 * importance[name] / whole, 2) if whole > 0 else 0.0,
                belief=belief,
                belief_p_value=belief_p[name],
                sentence=_sentence(name, bands, belief, belief_p[name], q, name in pairs),
                bands=_band_evidence(bands, deals, wins),
            )
        )
    return result


def _mean_distance(points: np.ndarray) -> float:
    return float(np.abs(points - points.mean()).mean()) if len(points) else 0.0


def _belief_score(
    bands: Sequence[CardBand], codes: np.ndarray, won: np.ndarray, groups: np.ndarray | None, seed: int
) -> tuple[float, float] | None:
    """Score test of the experts' points as a slope: score (above 0 = they rank the right way) and two-sided p-value.

    None where the experts give all bands the same. Few deals and groups as in `link_test`.
    """
    points = np.array([band.expert_points for band in bands], dtype=float)
    if np.ptp(points) == 0:
        return None
    expert = points[codes]
    rate = float(won.mean()) if len(won) else 0.0
    if rate in (0.0, 1.0) or np.ptp(expert) == 0:
        return 0.0, 1.0
    centred = expert - expert.mean()
    score = float((won - rate) @ centred)
    if groups is not None and len(np.unique(groups)) < len(won):
        _, group = np.unique(groups, return_inverse=True)
        by_group = np.bincount(group, weights=(won - rate) * centred)
        return score, float(2 * stats.norm.sf(abs(score) / max(np.sqrt((by_group**2).sum()), 1e-12)))
    total = np.bincount(codes, minlength=len(bands)).astype(np.int64)
    if total[total > 0].min() * min(rate, 1 - rate) >= FEWEST_EXPECTED:
        spread = rate * (1 - rate) * float((centred**2).sum())
        return score, float(2 * stats.norm.sf(abs(score) / np.sqrt(spread)))
    generator = np.random.default_rng(seed)
    tables = generator.multivariate_hypergeometric(total, int(won.sum()), size=MONTE_CARLO_DRAWS, method="marginals")
    drawn = tables @ (points - expert.mean())
    as_far = int((np.abs(drawn) >= abs(score) * (1 - 1e-9)).sum())
    return score, (as_far + 1) / (MONTE_CARLO_DRAWS + 1)


def _belief_word(score: tuple[float, float] | None, q: float | None) -> Literal["agree", "reverse", "unclear", "none"]:
    if score is None:
        return "none"
    if q is None or q > SIGNIFICANT:
        return "unclear"
    return "agree" if score[0] > 0 else "reverse"


def _belief_text(name: str, bands: Sequence[CardBand]) -> str:
    """The experts' points in words: "more employees helps", "'it' is best"."""
    known = [band for band in bands if band.band_type in ("range", "values")]
    points = [band.expert_points for band in known]
    best = max(bands, key=lambda band: band.expert_points)
    worst = min(bands, key=lambda band: band.expert_points)
    if known and len(set(points)) > 1 and known[0].band_type == "range":
        if points == sorted(points):
            return f"more {name} helps"
        if points == sorted(points, reverse=True):
            return f"less {name} helps"
    if known and len(set(points)) == 1:
        missing = next((band for band in bands if band.band_type == "missing"), None)
        if missing is not None and missing.expert_points != points[0]:
            return f"a known {name} {'helps' if missing.expert_points < points[0] else 'harms'}"
    return f"{name} is best at {best.band!r} and worst at {worst.band!r}"


def _sentence(
    name: str, bands: Sequence[CardBand], belief: str, p: float | None, q: float | None, is_pair: bool
) -> str:
    if is_pair:
        return "A pair that the fit found and kept because it pays on later deals; it has no test of its own."
    if belief == "none":
        if q is None:
            return "Experts: no opinion; the deals cannot say."
        return f"Experts: no opinion; the deals {'show a link' if q <= SIGNIFICANT else 'show none'} (q {_p_text(q)})."
    said = {"agree": "the deals agree", "reverse": "the deals say the reverse", "unclear": "the deals do not say"}
    return f"Experts: {_belief_text(name, bands)}; {said[belief]} (p {_p_text(p)})."


def _p_text(p: float | None) -> str:
    if p is None:
        return "unknown"
    return "< 0.001" if p < 0.001 else f"{p:.3f}" if p < 0.01 else f"{p:.2f}"


def _band_evidence(bands: Sequence[CardBand], deals: np.ndarray, wins: np.ndarray) -> tuple[BandEvidence, ...]:
    raw = np.log((wins + 0.5) / (deals - wins + 0.5))
    adjusted = np.array([band.weight for band in bands])
    filled = deals > 0
    if filled.any():
        raw = raw - np.average(raw[filled], weights=deals[filled])
        adjusted = adjusted - np.average(adjusted[filled], weights=deals[filled])
    return tuple(
        BandEvidence(
            band_no=band.band_no,
            band=band.band,
            deal_count=int(deals[k]),
            won_count=int(wins[k]),
            raw_weight=float(raw[k]) if filled[k] else None,
            adjusted_weight=float(adjusted[k]) if filled[k] else None,
        )
        for k, band in enumerate(bands)
    )


# --------------------------------------------------------------------------- stability


@dataclass(frozen=True)
class Stability:
    """How far a distribution over bands has moved.

    Attributes
    ----------
    psi : population stability index, ``sum (a - e) ln(a / e)`` over shares, half a row added per band.
    word : "stable" (under 0.10), "shifting" (under 0.25) or "shifted".
    psi_by_chance : what the index stays under in 95 of 100 cases where nothing has moved, from so few rows
        (Yurdakul and Naranjo 2020). An index under it shows nothing, whatever its word.
    """

    psi: float
    word: Literal["stable", "shifting", "shifted"]
    psi_by_chance: float


def stability(expected: Any, actual: Any) -> Stability:
    """Stability of counts per band, both of shape (bands,), in the same order.

    Raises
    ------
    ValueError
        The two have not the same bands, or one of them has no rows.
    """
    before, now = np.asarray(expected, dtype=float), np.asarray(actual, dtype=float)
    if before.shape != now.shape or before.ndim != 1:
        raise ValueError(f"counts must be given for the same bands, got shapes {before.shape} and {now.shape}")
    if before.sum() <= 0 or now.sum() <= 0:
        raise ValueError(f"counts must not be all 0, got {before.sum():g} rows before and {now.sum():g} now")
    used = (before > 0) | (now > 0)
    before, now = before[used], now[used]
    e, a = (before + 0.5) / (before + 0.5).sum(), (now + 0.5) / (now + 0.5).sum()
    psi = float(((a - e) * np.log(a / e)).sum())
    by_chance = float(stats.chi2.ppf(0.95, max(len(e) - 1, 1)) * (1 / before.sum() + 1 / now.sum()))
    word: Literal["stable", "shifting", "shifted"] = (
        "stable" if psi < STABLE_BELOW else "shifting" if psi < SHIFTING_BELOW else "shifted"
    )
    return Stability(psi, word, by_chance)


# --------------------------------------------------------------------------- protected attributes


def protected_differences(card: Card, X: pd.DataFrame, won: Any, names: Collection[str]) -> dict[str, dict[str, Any]]:
    """Points, win probability and win rate by group of each protected attribute.

    A difference is no proof of unfairness, and none is no proof of fairness: other criteria may stand in for the
    attribute. It is what a person has to look at.

    Parameters
    ----------
    X : deals x criteria and protected attributes (which need not be criteria of the card).
    won : 0 or 1, shape (n,).
    names : columns of X. Groups are the card's bands where it is a criterion, else quarters of a number or the
        frequent values of a category.

    Returns
    -------
    JSON-able: name -> `is_scored` (it is a criterion of the card), `reference` (the largest group), `groups` (`group`,
    `deal_count`, `won_count`, `points_mean`, `win_probability_mean`, `win_rate`, `win_rate_low`, `win_rate_high`) and
    `differences` to the reference (`group`; `points`, `win_probability`, `win_rate`, each with `_low` and `_high`,
    central 90 %: Welch's for means, Newcombe's for rates; None for groups of one deal).

    Raises
    ------
    ValueError
        X has no such column.
    """
    y = np.asarray(won, dtype=float)
    points = card.total_points(X).to_numpy(dtype=float)
    p = card.win_probability(points)[0]
    rows = card.rows()
    result: dict[str, dict[str, Any]] = {}
    for name in names:
        if name in rows:
            codes = card.band_numbers(X)[name].to_numpy() - 1
            labels: Sequence[str] = [band.band for band in rows[name]]
        else:
            column = column_of(X, name)
            is_number = pd.api.types.is_numeric_dtype(column) and not pd.api.types.is_bool_dtype(column)
            classes = classes_of(name, column, "number" if is_number else "category", count=4)
            codes, labels = classes.codes, classes.labels
        found = np.unique(codes)
        if len(found) == 0:
            result[name] = {"is_scored": name in rows, "reference": None, "groups": [], "differences": []}
            continue
        reference = int(max(found, key=lambda k: ((codes == k).sum(), -k)))
        groups, differences = [], []
        for k in found:
            inside = codes == k
            low, high = wilson_interval(y[inside].sum(), inside.sum())
            groups.append(
                {
                    "group": labels[k],
                    "deal_count": int(inside.sum()),
                    "won_count": int(y[inside].sum()),
                    "points_mean": float(points[inside].mean()),
                    "win_probability_mean": float(p[inside].mean()),
                    "win_rate": float(y[inside].mean()),
                    "win_rate_low": float(low),
                    "win_rate_high": float(high),
                }
            )
            if k != reference:
                other = codes == reference
                differences.append(
                    {
                        "group": labels[k],
                        **_mean_difference("points", points[inside], points[other]),
                        **_mean_difference("win_probability", p[inside], p[other]),
                        **_rate_difference(y[inside], y[other]),
                    }
                )
        result[name] = {
            "is_scored": name in rows,
            "reference": labels[reference],
            "groups": groups,
            "differences": differences,
        }
    return result


def _mean_difference(key: str, a: np.ndarray, b: np.ndarray) -> dict[str, float | None]:
    difference = float(a.mean() - b.mean())
    if min(len(a), len(b)) < 2:
        return {key: difference, f"{key}_low": None, f"{key}_high": None}
    va, vb = a.var(ddof=1) / len(a), b.var(ddof=1) / len(b)
    if va + vb == 0:
        return {key: difference, f"{key}_low": difference, f"{key}_high": difference}
    freedom = (va + vb) ** 2 / (va**2 / (len(a) - 1) + vb**2 / (len(b) - 1))
    half = float(stats.t.ppf(0.95, freedom) * np.sqrt(va + vb))
    return {key: difference, f"{key}_low": difference - half, f"{key}_high": difference + half}


def _rate_difference(a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Newcombe's (1998) interval of a difference of two shares, from their Wilson intervals."""
    (low_a, high_a), (low_b, high_b) = wilson_interval(a.sum(), len(a)), wilson_interval(b.sum(), len(b))
    difference = float(a.mean() - b.mean())
    return {
        "win_rate": difference,
        "win_rate_low": difference - float(np.hypot(a.mean() - low_a, high_b - b.mean())),
        "win_rate_high": difference + float(np.hypot(high_a - a.mean(), b.mean() - low_b)),
    }
