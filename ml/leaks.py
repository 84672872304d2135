"""Leak guard: criteria that know the outcome because they were filled, or changed, after it.

Belongs here: three rules on plain frames, the findings as sentences, leaving a criterion out of a specification.
Does not: reading the history of values (the caller does), honest evidence on criteria (`ml.evidence`).

Rules. Each can be wrong, so each finding carries its figures, and a person may insist on a criterion.

``filled_late``
    Most values of a criterion were first seen when the deal had closed. Deals none of whose values was seen before
    they closed are not judged: they came with the first export, which dates everything alike.
``too_good``
    What is known when a deal opens says little: single criteria of honest tables reach an AUC of 0.6-0.77. One that
    alone ranks at 0.90 or better is taken for a leak; one that ranks at 0.80 or better is, if alone it also beats all the
    ordinary criteria together. A call's duration in the UCI bank table: alone 0.82, the 19 others together 0.79 (in the
    first 80 % of the calls 0.88 and 0.67); its next best criterion reaches 0.77. A criterion is also taken for a
    leak when the mere fact that it is known (nearly) settles the outcome, as a reason for losing does, or one
    value of it does so for winning.
``changed_since``
    The band in which a deal opened is history. Where it is another one today, for deals that had closed, the
    criterion is being written after the fact.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

from ml.card import CardSpec, Choices, CriterionSpec, column_of
from ml.evaluate import auc, wilson_interval
from ml.evidence import AUC_ROWS, Classes, classes_of, univariate_auc

Rule = Literal["filled_late", "too_good", "changed_since"]

LATE_SHARE = 0.5
"""Share of a criterion's values first seen at or after close from which it is a leak: most of them."""

FEWEST_VALUES = 20
"""Values that a rule on shares needs."""

LEAK_AUC = 0.90
"""AUC of one criterion alone that no honest one has shown (low end of its 90 % interval)."""

SUSPICIOUS_AUC = 0.80
"""AUC of one criterion alone that is a leak if it also beats all ordinary criteria together."""

SUSPICIOUS_LOW = 0.75
"""What the low end of the interval must reach for that: few deals make no leak."""

FEWEST_OTHERS = 3
"""Ordinary criteria without which "better than all others together" says nothing."""

FEWEST_DEALS, FEWEST_RARER = 50, 10
"""Closed deals, and deals of the rarer outcome, that `too_good` needs."""

SETTLED_RATIO = 0.1
"""A known value settles the outcome when one outcome is so many times rarer with it than without it."""

CHANGED_SHARE = 0.02
"""Share of closed deals in another band from which a criterion is a leak (low end of the interval): records that
arrive some days late move fewer."""

CLASSES = 20
MOST_VALUES = 50
"""Finer than for honest evidence: a leak may sit in one value."""

TOGETHER_ROWS = 20_000
"""Deals at most for the model of all ordinary criteria."""


@dataclass(frozen=True)
class Leak:
    """A criterion that a rule takes for a leak.

    Attributes
    ----------
    evidence : a sentence with the figures.
    is_left_out : False where a person insists on the criterion.
    """

    criterion: str
    rule: Rule
    evidence: str
    is_left_out: bool = True

    def to_document(self) -> dict[str, Any]:
        """Plain text and booleans."""
        return asdict(self)


def filled_late(
    first_known_at: pd.DataFrame, opened_at: Any, closed_at: Any, *, insist: Collection[str] = ()
) -> list[Leak]:
    """Criteria whose values mostly appeared when the deal had closed.

    Parameters
    ----------
    first_known_at : deals x criteria: when the value that the deal has today was first seen; NaT = it has no value, or
        nobody knows.
    opened_at, closed_at : shape (n,).
    insist : criteria that stay.
    """
    opened = pd.to_datetime(pd.Series(np.asarray(opened_at))).to_numpy()
    closed = pd.to_datetime(pd.Series(np.asarray(closed_at))).to_numpy()
    seen = (
        first_known_at.apply(pd.to_datetime)
        .to_numpy(dtype="datetime64[us]")
        .reshape(len(closed), first_known_at.shape[1])
    )
    known = ~np.isnat(seen)
    late = known & (seen >= closed[:, None])
    # A deal that came with the first export after its close has late values only: it tells nothing.
    watched = (known & ~late).any(axis=1)
    result = []
    for number, name in enumerate(first_known_at.columns):
        values = known[:, number] & watched
        count, late_count = int(values.sum()), int(late[watched, number].sum())
        if count < FEWEST_VALUES or late_count / count < LATE_SHARE:
            continue
        by_opening = int((values & (seen[:, number] <= opened)).sum())
        result.append(
            Leak(
                str(name),
                "filled_late",
                f"{late_count:,} of {count:,} values ({late_count / count:.0%}) of {name} first appeared when the deal had "
                f"closed, {by_opening:,} were there when it opened.",
                name not in insist,
            )
        )
    return result


def too_good(
    criteria: Sequence[CriterionSpec], X: pd.DataFrame, won: Any, *, seed: int, insist: Collection[str] = ()
) -> list[Leak]:
    """Criteria that alone predict too well to be known when a deal opens.

    Parameters
    ----------
    X : closed deals x criteria, as the fit sees them; won : 0 or 1, shape (n,).
    seed : of the folds.
    insist : criteria that stay.
    """
    y = np.asarray(won, dtype=float)
    rarer = int(min(y.sum(), len(y) - y.sum()))
    if len(y) < FEWEST_DEALS or rarer < FEWEST_RARER:
        return []
    step = max(1, -(-len(y) // AUC_ROWS))
    X, y = X.iloc[::step], y[::step]
    classes = {
        c.name: classes_of(c.name, column_of(X, c.name), c.value_type, count=CLASSES, most_values=MOST_VALUES)
        for c in criteria
    }
    areas = {name: univariate_auc(of.codes, y, seed=seed) for name, of in classes.items()}
    suspects = [n for n, (value, low, _) in areas.items() if value >= SUSPICIOUS_AUC and low >= SUSPICIOUS_LOW]
    # Suspects are not compared with one another: two copies of a leak would hide each other.
    ordinary = [name for name in areas if name not in suspects]
    together: float | None = None
    if suspects and len(ordinary) >= FEWEST_OTHERS:
        together = _auc_together([classes[name] for name in ordinary], y, seed)
    result = []
    for name, (value, low, high) in areas.items():
        alone = f"Alone, {name} ranks the closed deals with an AUC of {value:.2f} (90 % interval {low:.2f}-{high:.2f})"
        evidence: str | None = None
        if low >= LEAK_AUC:
            evidence = f"{alone}: nothing that is known when a deal opens does."
        elif name in suspects and together is not None and value > together:
            evidence = f"{alone}, the {len(ordinary)} ordinary criteria together with {together:.2f}."
        settled = _settled(name, classes[name], y)
        if settled is not None and (evidence is None or low < LEAK_AUC):
            evidence = settled if evidence is None else f"{evidence} {settled}"
        if evidence is not None:
            result.append(Leak(name, "too_good", evidence, name not in insist))
    return result


def _auc_together(ordinary: Sequence[Classes], won: np.ndarray, seed: int) -> float:
    """AUC out of fold of a logistic regression on the classes of all ordinary criteria."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.preprocessing import OneHotEncoder
    from threadpoolctl import threadpool_limits

    step = max(1, -(-len(won) // TOGETHER_ROWS))
    codes = np.column_stack([of.codes[::step] for of in ordinary])
    y = won[::step]
    folds = StratifiedKFold(n_splits=5, shuffle=True, random_state=seed)
    with threadpool_limits(limits=1):
        score = cross_val_predict(
            LogisticRegression(max_iter=500),
            OneHotEncoder(handle_unknown="ignore").fit_transform(codes),
            y,
            cv=folds,
            method="decision_function",
        )
    return auc(y, score)


def _settled(name: str, classes: Classes, won: np.ndarray) -> str | None:
    """A sentence where a known value, or one value, (nearly) settles the outcome and its absence does not.

    One value that never won is no leak (a country without a salesman), one that always won is.
    """
    known = classes.codes != classes.missing
    for outcome, word in ((1 - won, "won"), (won, "lost")):
        if _is_rare(outcome, known):
            return (
                f"{_rate_text(outcome, known, word, f'deals where {name} is known')}, {_rate_text(outcome, ~known, word, 'others')}: "
                "it is filled because of the outcome."
            )
    for code, label in enumerate(classes.labels[:-1]):
        inside = classes.codes == code
        if _is_rare(1 - won, inside):
            return (
                f"{_rate_text(1 - won, inside, 'won', f'deals where {name} is {label!r}')}, "
                f"{_rate_text(1 - won, ~inside, 'won', 'others')}: it is set because of the outcome."
            )
    return None


def _is_rare(outcome: np.ndarray, inside: np.ndarray) -> bool:
    """Whether an outcome is ten times rarer inside than outside, beyond doubt of the two intervals."""
    count, without = int(inside.sum()), int((~inside).sum())
    if min(count, without) < FEWEST_VALUES:
        return False
    _, most = wilson_interval(outcome[inside].sum(), count)
    least, _ = wilson_interval(outcome[~inside].sum(), without)
    return bool(most <= SETTLED_RATIO * least)


def _rate_text(outcome: np.ndarray, inside: np.ndarray, word: str, where: str) -> str:
    count = int(inside.sum())
    ended = count - int(outcome[inside].sum())
    return f"{ended:,} of the {count:,} {where} were {word} ({ended / count:.1%})"


def changed_since(before: pd.DataFrame, now: pd.DataFrame, *, insist: Collection[str] = ()) -> list[Leak]:
    """Criteria in which deals that had closed have another value than they had then.

    Parameters
    ----------
    before : deals x criteria, values or `band_no`, as an earlier fit or an earlier moment saw deals that had closed by then.
    now : the same as of today; bands by the *same bands* (the earlier card's), or bands that moved would count as
        values that changed. Deals and criteria that only one of the two has are not judged.
    insist : criteria that stay.
    """
    deals = before.index.intersection(now.index)
    result = []
    for name in before.columns.intersection(now.columns):
        then, today = before.loc[deals, name], now.loc[deals, name]
        both_missing = then.isna().to_numpy() & today.isna().to_numpy()
        # As objects: a missing category is not comparable with text in every column type.
        changed = (then.to_numpy(dtype=object) != today.to_numpy(dtype=object)) & ~both_missing
        count = int(changed.sum())
        if len(deals) < FEWEST_VALUES or wilson_interval(count, len(deals))[0] < CHANGED_SHARE:
            continue
        result.append(
            Leak(
                str(name),
                "changed_since",
                f"{name} of {count:,} of {len(deals):,} deals ({count / len(deals):.0%}) has changed since they closed.",
                name not in insist,
            )
        )
    return result


@dataclass(frozen=True)
class History:
    """What is known of how values came about; whatever is None is not asked.

    Attributes
    ----------
    first_known_at, opened_at : as in `filled_late`, rows as in the deals of the fit.
    before, now : as in `changed_since`.
    """

    first_known_at: pd.DataFrame | None = None
    opened_at: Any = None
    before: pd.DataFrame | None = None
    now: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        if self.first_known_at is not None and self.opened_at is None:
            raise ValueError("first_known_at needs opened_at of the same deals")
        if (self.before is None) != (self.now is None):
            raise ValueError("before and now must be given together")


def find_leaks(
    spec: CardSpec, X: pd.DataFrame, won: Any, closed_at: Any, *, seed: int, history: History | None = None
) -> list[Leak]:
    """All findings of all rules on the criteria of a specification, in its order, at most one per criterion and rule.

    `CriterionSpec.insist` keeps a criterion in; the finding stays, with `is_left_out` False.

    Parameters
    ----------
    X, won, seed : as in `too_good`.
    closed_at : shape (n,).
    history : None = only `too_good` is asked.
    """
    insist = {criterion.name for criterion in spec.criteria if criterion.insist}
    found = too_good(spec.criteria, X, won, seed=seed, insist=insist)
    if history is not None and history.first_known_at is not None:
        found += filled_late(history.first_known_at, history.opened_at, closed_at, insist=insist)
    if history is not None and history.before is not None and history.now is not None:
        found += changed_since(history.before, history.now, insist=insist)
    place = {criterion.name: number for number, criterion in enumerate(spec.criteria)}
    return sorted(
        (leak for leak in found if leak.criterion in place), key=lambda leak: (place[leak.criterion], leak.rule)
    )


def without_leaks(spec: CardSpec, leaks: Sequence[Leak]) -> CardSpec:
    """The specification without the criteria that are left out, and without what people fixed of them."""
    gone = {leak.criterion for leak in leaks if leak.is_left_out}
    if not gone:
        return spec
    choices = spec.choices
    return replace(
        spec,
        criteria=tuple(criterion for criterion in spec.criteria if criterion.name not in gone),
        segment_by=None if spec.segment_by in gone else spec.segment_by,
        choices=Choices(
            pins=tuple(pin for pin in choices.pins if pin.criterion not in gone),
            signs={name: sign for name, sign in choices.signs.items() if name not in gone},
            locked_bands={name: bands for name, bands in choices.locked_bands.items() if name not in gone},
        ),
    )


def leak_sentences(leaks: Sequence[Leak]) -> list[str]:
    """The findings for people: what was left out or kept, and why."""
    return [
        f"{leak.evidence} It is taken for a leak and left out; set `insist: true` on the criterion to keep it."
        if leak.is_left_out
        else f"{leak.evidence} It looks like a leak and is kept because somebody insists."
        for leak in leaks
    ]
