"""Whether and when a deal is won or lost: a discrete-time hazard with two outcomes.

Belongs here: the regression, probabilities by date, close dates, slip, effects of owners, how much months differ.
Does not: rows (`ml.forecast.person_periods`), sums over deals (`ml.forecast.totals`).

Method. Multinomial logistic regression of (open, won, lost) on person-period rows: the discrete-time competing
risks model (Allison 1982; Tutz and Schmid 2016). Ordered bands are coded by steps ("this band or above"), so that
the ridge penalty draws neighbours together, not to zero; effects of what was known at a landmark may fade with
the weeks since. Owners are partially pooled: a gamma-Poisson factor on the hazard of winning (empirical Bayes),
1 for owners with few deals. Months differ by more than chance: a shared lognormal factor, its variance by the
method of moments from won deals seen and expected per month.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from ml.forecast.account_series import ENGAGEMENT, LEAST_CLOSINGS, SCORE, TREND
from ml.forecast.account_series import NAMES as ACCOUNT_VALUES
from ml.forecast.history import LOST, OPEN, WON, DealHistory, day, timestamps
from ml.forecast.person_periods import (
    AGE_BANDS,
    LANDMARK_DAYS,
    LEAD_EDGES,
    PROMISE_EDGES,
    WEEK,
    Calendar,
    Cells,
    Spells,
    WeekCodes,
    band_codes,
    band_edges,
    count_cells,
    spells_from_landmarks,
    spells_from_openings,
    start_features,
)

HISTORY_DAYS = 1095.0
"""Weeks at risk before that are left out of a fit: selling changes."""

HORIZON_WEEKS = 104
"""A deal that is open for two more years counts as neither won nor lost."""

FADE_WEEKS = 8.0
"""The fading part of an effect is half as strong so many weeks after the landmark."""

PRIOR_MONTH_SD = 0.15
PRIOR_MONTHS = 4.0
"""What is believed of months before any was seen: they differ by 15 %, a belief worth 4 months."""

MONTHS_FITTED = 3.0
"""Level and season were fitted on the same months: the distances that are left are smaller by so many of them."""

LEVEL_HALF_LIFE_MONTHS = 3.0
"""Selling speeds up and slows down: the level of the hazard of winning is that of the latest months."""

RIDGE = 2.0
"""Precision of the Gaussian prior on each step, in log-odds."""

MOST_CELLS = 10_000
OPEN_PER_EVENT = 3.0
"""Above so many cells, weeks in which a deal stayed open are thinned to three per closing."""

_CHUNK = 20_000


@dataclass(frozen=True)
class HazardModel:
    """A fitted hazard. Tables have shape (codes, 2): log-odds of won and of lost against open, per week.

    Attributes
    ----------
    edges : factor -> cuts of its bands (weeks for age, lead and promise). `ripe` is coarse age by month of the quarter.
    tables : factor -> effects; fading : factor -> effects that are multiplied by 1 / (1 + weeks since / 8).
    owner_log_factor : by the owner's code in the history of the fit, of the hazard of winning.
    month_sd : standard deviation of the log factor that a month has on all hazards of winning.
    season_sd : the same of the effect of a month of the quarter, learnt from as few months as there were of it.
    level_sd : the same of the level of the fit itself, by the events and months that it saw.
    counts : cells, weeks at risk, won, lost.
    left_out : sentences on what the sources have, but known at too few closings to be learnt from.
    """

    from_landmarks: bool
    intercept: np.ndarray
    edges: dict[str, np.ndarray]
    tables: dict[str, np.ndarray]
    fading: dict[str, np.ndarray]
    owner_log_factor: np.ndarray
    month_sd: float
    season_sd: float
    level_sd: float
    fiscal_start_month: int
    counts: dict[str, int]
    left_out: tuple[str, ...] = ()

    def effects(self) -> pd.DataFrame:
        """One row per factor and band: log-odds of won and lost per week against open, at the landmark."""
        parts = []
        for name, table in self.tables.items():
            total = table + self.fading.get(name, np.zeros_like(table))
            parts.append(
                pd.DataFrame(
                    {"factor": name, "band_no": np.arange(len(table)), "won": total[:, 0], "lost": total[:, 1]}
                )
            )
        return (
            pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=["factor", "band_no", "won", "lost"])
        )


@dataclass(frozen=True)
class _Prepared:
    """Spells ready for their hazards week by week."""

    model: HazardModel
    calendar: Calendar
    start: np.ndarray
    age: np.ndarray
    promised: np.ndarray
    base: np.ndarray
    fades: np.ndarray
    tables: dict[str, np.ndarray]

    def weekly(self, week: int, at: np.ndarray | slice) -> tuple[np.ndarray, np.ndarray]:
        """Probability of being won and of being lost in a week, of the spells at these positions, if open before."""
        model = self.model
        # Weeks that were one to the fit are one here.
        fade = fade_by_lead()[np.searchsorted(LEAD_EDGES, week, side="right") + 1] if "lead" in model.edges else 1.0
        eta = self.base[at] + self.fades[at] * np.float32(fade)
        for name, codes in week_codes(model.edges, self.start, self.age, self.promised, self.calendar).items():
            eta += self.tables[name][codes(week, at)]
        odds = np.exp(np.minimum(eta, np.float32(30.0)))
        total = odds[:, 0] + odds[:, 1] + 1
        return odds[:, 0] / total, odds[:, 1] / total


def fade_by_lead() -> np.ndarray:
    """What is left of the fading part of an effect, by code of the weeks since the landmark: that of the middle of a band."""
    first = np.concatenate([[0.0], LEAD_EDGES])
    last = np.concatenate([LEAD_EDGES - 1, [LEAD_EDGES[-1] + WEEK]])
    return np.concatenate([[1.0], 1.0 / (1.0 + (first + last) / 2 / FADE_WEEKS)])


def week_codes(
    edges: dict[str, np.ndarray], start: np.ndarray, age: np.ndarray, promised: np.ndarray, calendar: Calendar
) -> dict[str, WeekCodes]:
    """Factor -> function (week, positions) -> codes: what changes from week to week and is known beforehand."""
    found: dict[str, WeekCodes] = {
        "age": lambda week, at: np.searchsorted(edges["age"], age[at] / WEEK + week, side="right") + 1
    }
    if "month_of_quarter" in edges:
        found["month_of_quarter"] = lambda week, at: calendar.month_of_quarter(start[at] + WEEK * week + WEEK / 2) + 1
    if "ripe" in edges:
        # Quarter-ends pull ripe deals forward and leave young ones alone: a season's effect differs by age.
        found["ripe"] = lambda week, at: (
            3 * np.searchsorted(edges["ripe"], age[at] / WEEK + week, side="right")
            + calendar.month_of_quarter(start[at] + WEEK * week + WEEK / 2)
            + 1
        )
    if "lead" in edges:
        # One code for all spells of a week.
        found["lead"] = lambda week, at: np.searchsorted(edges["lead"], [week], side="right") + 1
    if "promise" in edges:
        # Weeks by which the middle of the week at risk lies after the promised date.
        found["promise"] = lambda week, at: band_codes((start[at] - promised[at]) / WEEK + week + 0.5, edges["promise"])
    return found


def fit_hazard(
    history: DealHistory,
    as_of: object,
    *,
    by_season: bool = True,
    with_features: bool = True,
    fiscal_start_month: int = 1,
    seed: int = 0,
) -> HazardModel:
    """Fit on what was known at a moment.

    Parameters
    ----------
    as_of : moment; nothing known later is looked at.
    by_season : whether the month of the fiscal quarter matters; people close deals at a quarter's end.
    with_features : False, or a history with dates and owners alone = every deal once from its opening, by age.
    fiscal_start_month : 1-12, first month of the fiscal year.
    seed : of the draw of spells where there are too many.

    Raises
    ------
    ValueError
        No deal was at risk for a whole week.
    """
    moment = day(as_of)
    since = moment - HISTORY_DAYS
    has_features = with_features and bool(
        history.given & {"stage", "amount_cents", "expected_close_date", *ACCOUNT_VALUES}
    )
    if has_features:
        spells = spells_from_landmarks(history, moment, since=since, seed=seed)
    if not has_features or not (spells.event != OPEN).any():
        has_features = False
        spells = spells_from_openings(history, moment, since=since)
    if len(spells) == 0:
        raise ValueError(
            f"no deal was at risk for a whole week as of {pd.Timestamp(timestamps(np.array([moment]))[0])}"
        )
    calendar = Calendar.over(float(spells.start.min()), moment + WEEK * HORIZON_WEEKS, fiscal_start_month)

    values = start_features(history, spells.row, spells.start) if has_features else {}
    values, left_out = _known_often_enough(values, history, spells)
    edges = {"age": _age_edges(spells)}
    if by_season:
        edges["month_of_quarter"] = np.array([1.5, 2.5])
        edges["ripe"] = edges["age"][1::3]
    if has_features:
        edges["lead"] = LEAD_EDGES
        if "expected_close_date" in history.given:
            edges["promise"] = PROMISE_EDGES
    edges |= {name: band_edges(name, value) for name, value in values.items()}
    static = {name: band_codes(value, edges[name]) for name, value in values.items()}
    sizes = {name: len(cuts) + 2 for name, cuts in edges.items()}
    if by_season:
        sizes["ripe"] = 3 * (len(edges["ripe"]) + 1) + 1
    weekly = week_codes(edges, spells.start, spells.age, history.promised[spells.row], calendar)
    cells = count_cells(spells, static, sizes, weekly)
    # From landmarks a deal counts several times; it is worth one to the prior.
    worth = len(np.unique(history.deal[spells.row])) / len(spells)
    intercept, tables, fading = _regress(_thinned(cells, seed), sizes, tuple(static), worth)
    owner_count = len(history.labels.get("owner", ()))
    model = HazardModel(
        from_landmarks=has_features,
        intercept=intercept,
        edges=edges,
        tables=tables,
        fading=fading,
        owner_log_factor=np.zeros(owner_count),
        month_sd=PRIOR_MONTH_SD,
        season_sd=0.0,
        level_sd=PRIOR_MONTH_SD,
        fiscal_start_month=fiscal_start_month,
        counts={
            "cells": len(cells.counts),
            "weeks": int(cells.counts.sum()),
            "won": int(cells.counts[:, WON].sum()),
            "lost": int(cells.counts[:, LOST].sum()),
        },
        left_out=left_out,
    )
    return _with_owners_and_months(model, history, spells, calendar)


_WORDS = {
    SCORE: "scores of accounts",
    ENGAGEMENT: "the engagement of accounts",
    TREND: "the trend of the engagement of accounts",
}


def _known_often_enough(
    values: dict[str, np.ndarray], history: DealHistory, spells: Spells
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Without what is known of accounts at too few closed deals, and sentences on what that is. Records of accounts begin some
    day: an effect would be learnt from the deals of a few weeks, and their luck would be taken for it."""
    closed = spells.event != OPEN
    kept, left_out = {}, []
    for name, value in values.items():
        count = len(np.unique(history.deal[spells.row[closed & np.isfinite(value)]]))
        if name in _WORDS and count < LEAST_CLOSINGS:
            left_out.append(
                f"{_WORDS[name]} were known at {count} closed deals: left out, for fewer than {LEAST_CLOSINGS} say nothing"
            )
        else:
            kept[name] = value
    return kept, tuple(left_out)


def _age_edges(spells: Spells) -> np.ndarray:
    """Weeks of age between bands: equal mass of the closings, and beyond the oldest closing equal mass of the weeks."""
    happened = spells.event != OPEN
    at_event = spells.age[happened] / WEEK + spells.weeks[happened] - 1
    at_end = spells.age / WEEK + spells.weeks - 1
    if len(at_event) == 0:
        return np.array([4.0, 13.0, 26.0])
    count = int(np.clip(len(at_event) // 20, 2, AGE_BANDS))
    edges = np.floor(np.quantile(at_event, np.arange(1, count) / count)) + 1
    oldest = np.floor(np.quantile(at_event, 0.995)) + 1
    beyond = at_end[at_end > oldest]
    tail = [oldest] if len(beyond) else []
    return np.unique(np.concatenate([edges, tail]))


#: Factors without an order: each band has an effect of its own.
_UNORDERED = ("stage", "month_of_quarter", "ripe", "promise")


def _steps(name: str, size: int) -> np.ndarray:
    """Design of a factor's codes, shape (codes, columns): code 0 is missing; an ordered band has the steps up to it."""
    bands = size - 1
    result = np.zeros((size, bands))
    result[0, 0] = 1.0
    for band in range(1, bands):
        if name in _UNORDERED:
            result[band + 1, band] = 1.0
        else:
            result[band + 1 :, band] = 1.0
    return result


def _thinned(cells: Cells, seed: int) -> Cells:
    """Where there are many cells, of the weeks in which nothing happened a random share that counts for all of them
    (case-control sampling, King and Zeng 2001): the fit takes time in proportion to its rows."""
    events = cells.counts[:, 1:].sum()
    weeks = cells.counts[:, OPEN].sum()
    if len(cells.counts) <= MOST_CELLS or weeks <= OPEN_PER_EVENT * events:
        return cells
    share = OPEN_PER_EVENT * events / weeks
    counts = cells.counts.copy()
    counts[:, OPEN] = np.random.default_rng(seed).binomial(counts[:, OPEN].astype(np.int64), share) / share
    kept = counts.any(axis=1)
    return Cells({name: code[kept] for name, code in cells.codes.items()}, counts[kept])


def _regress(
    cells: Cells, sizes: dict[str, int], static: tuple[str, ...], worth: float
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Intercept (2,), tables and fading tables, by scikit-learn's multinomial logistic regression; each row
    counts for `worth`."""
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    designs: list[tuple[str, bool, np.ndarray]] = [(name, False, _steps(name, sizes[name])) for name in cells.codes]
    designs += [(name, True, _steps(name, sizes[name])) for name in static]
    columns = []
    fade = None
    if "lead" in cells.codes:
        fade = fade_by_lead()[cells.codes["lead"]]
    for name, fades, design in designs:
        block = design[cells.codes[name]]
        columns.append(block * fade[:, None] if fades and fade is not None else block)
    X = np.concatenate(columns, axis=1)
    used = np.flatnonzero(X.any(axis=0))
    place, outcome = np.nonzero(cells.counts)
    # Half a deal won and half a deal lost, spread over all cells' middle: a history without any has a fit too.
    middle = np.average(X[:, used], axis=0, weights=cells.counts.sum(axis=1))
    rows = np.vstack([X[:, used][place], middle, middle])
    y = np.concatenate([outcome, [WON, LOST]])
    weight = np.concatenate([cells.counts[place, outcome] * worth, [0.5, 0.5]])
    # Newton steps: with steps as columns the problem is ill-conditioned, and L-BFGS is ten times slower to the same fit.
    model = LogisticRegression(C=1.0 / RIDGE, solver="newton-cholesky", max_iter=50, tol=1e-4)
    with threadpool_limits(limits=1):
        fitted = model.fit(rows, y, sample_weight=weight)
    known = {int(label): k for k, label in enumerate(fitted.classes_)}
    against = fitted.coef_[known[OPEN]] if OPEN in known else 0.0
    level = fitted.intercept_[known[OPEN]] if OPEN in known else 0.0
    coefficients = np.zeros((X.shape[1], 2))
    for k, outcome_code in enumerate((WON, LOST)):
        coefficients[used, k] = fitted.coef_[known[outcome_code]] - against
    intercept = np.array([fitted.intercept_[known[code]] - level for code in (WON, LOST)])
    tables: dict[str, np.ndarray] = {}
    fading: dict[str, np.ndarray] = {}
    at = 0
    for name, fades, design in designs:
        part = coefficients[at : at + design.shape[1]]
        (fading if fades else tables)[name] = design @ part
        at += design.shape[1]
    return intercept, tables, fading


def prepare(model: HazardModel, history: DealHistory, row: np.ndarray, start: np.ndarray) -> _Prepared:
    """Everything that does not change from week to week, of spells that begin at `start` in the state `row`."""
    values = start_features(history, row, start) if model.from_landmarks else {}
    base = np.repeat(model.intercept[None, :], len(row), axis=0)
    fades = np.zeros((len(row), 2))
    for name in values:
        if name in model.tables:
            codes = np.minimum(band_codes(values[name], model.edges[name]), len(model.tables[name]) - 1)
            base += model.tables[name][codes]
            fades += model.fading[name][codes]
    if "owner" in history.codes and len(model.owner_log_factor):
        base[:, 0] += np.append(model.owner_log_factor, 0.0)[history.codes["owner"][row]]
    low, high = (float(start.min()), float(start.max())) if len(start) else (0.0, 0.0)
    calendar = Calendar.over(low, high + WEEK * 4 * HORIZON_WEEKS, model.fiscal_start_month)
    # Single precision: this is the longest loop over open deals.
    single = {name: table.astype(np.float32) for name, table in model.tables.items()}
    base, fades = base.astype(np.float32), fades.astype(np.float32)
    return _Prepared(model, calendar, start, start - history.opened[row], history.promised[row], base, fades, single)


def incidence_of_new(model: HazardModel, start: np.ndarray, weeks: int) -> np.ndarray:
    """Probability that a deal opened on a day has been won 0, 1 ... weeks later; shape (starts, weeks + 1).

    Parameters
    ----------
    model : fitted from openings (``with_features=False``); start : float days, shape (starts,).
    """
    calendar = Calendar.over(float(start.min()), float(start.max()) + WEEK * weeks, model.fiscal_start_month)
    zero, unknown = np.zeros(len(start)), np.full(len(start), np.nan)
    base = np.repeat(model.intercept[None, :], len(start), axis=0)
    prepared = _Prepared(model, calendar, start, zero, unknown, base, np.zeros_like(base), model.tables)
    at = slice(None)
    survival = np.ones(len(start))
    won = np.zeros((len(start), weeks + 1))
    for week in range(weeks):
        p_won, p_lost = prepared.weekly(week, at)
        won[:, week + 1] = won[:, week] + survival * p_won
        survival = survival * (1 - p_won - p_lost)
    return won


def _with_owners_and_months(
    model: HazardModel, history: DealHistory, spells: Spells, calendar: Calendar
) -> HazardModel:
    """Won deals seen and expected, per owner and per month, give the owners' factors and the months' variance."""
    prepared = prepare(model, history, spells.row, spells.start)
    first_month = int(calendar.month_of(spells.start + WEEK * spells.enter).min())
    months = int(calendar.month_of(spells.start + WEEK * spells.weeks).max()) - first_month + 1
    by_owner = np.zeros((2, len(model.owner_log_factor) + 1))
    by_month = np.zeros((2, months))
    # From landmarks each week at risk is looked at once: by the last landmark before it.
    weeks = int(spells.weeks.max())
    if model.from_landmarks:
        weeks = min(weeks, int(LANDMARK_DAYS / WEEK))
    owner = history.codes["owner"][spells.row] if "owner" in history.codes else np.full(len(spells), -1)
    for week in range(weeks):
        at = np.flatnonzero((spells.enter <= week) & (week < spells.weeks))
        if len(at) == 0:
            continue
        expected = prepared.weekly(week, at)[0]
        seen = ((spells.event[at] == WON) & (spells.weeks[at] == week + 1)).astype(float)
        month = calendar.month_of(spells.start[at] + WEEK * week + WEEK / 2) - first_month
        for k, value in enumerate((seen, expected)):
            by_owner[k] += np.bincount(owner[at] % by_owner.shape[1], weights=value, minlength=by_owner.shape[1])
            by_month[k] += np.bincount(month, weights=value, minlength=months)[:months]
    month_sd = _spread_of(by_month[0], by_month[1])
    # The level of the latest months, not of all that were fitted: won deals seen over expected, both fading into the past,
    # and one month's worth of expecting what is expected.
    weight = 0.5 ** (np.arange(months)[::-1] / LEVEL_HALF_LIFE_MONTHS)
    seen, expected = weight * by_month[0], weight * by_month[1]
    prior = float(by_month[1].sum()) / max(int((by_month[1] > 0).sum()), 1)
    level = (float(seen.sum()) + prior) / (float(expected.sum()) + prior) if prior > 0 else 1.0
    concentration = float((expected**2).sum()) / max(float(expected.sum()), 1e-9) ** 2
    fields = dict(vars(model))
    fields["intercept"] = model.intercept + np.array([np.log(level), 0.0])
    fields["owner_log_factor"] = _pooled_log_factor(by_owner[0, :-1], by_owner[1, :-1])
    fields["month_sd"] = month_sd
    fields["season_sd"] = _season_sd(by_month[1], month_sd) if "month_of_quarter" in model.edges else 0.0
    # Chance in a weighted count: its variance is the sum of weight^2 x count, not the weighted count.
    chance = float((weight * seen).sum()) / max(float(seen.sum()), 1.0) ** 2 if seen.sum() > 0 else 1.0
    fields["level_sd"] = float(np.sqrt(month_sd**2 * min(concentration, 1.0) + min(chance, 1.0)))
    return HazardModel(**fields)


def _spread_of(seen: np.ndarray, expected: np.ndarray) -> float:
    """Standard deviation of a shared factor with mean 1 over Poisson counts, drawn to the prior.

    Method of moments with degrees of freedom (Pearson's dispersion, McCullagh and Nelder 1989): squared distances from expectations
    that were fitted on the same months are too small by the months fitted, what is chance in them as well as what is the factor.
    So they are enlarged first, and what chance explains is taken off then.
    """
    used = expected > 0
    seen, expected = seen[used], expected[used]
    if expected.sum() <= 0:
        return PRIOR_MONTH_SD
    expected = expected * (max(seen.sum(), 1e-9) / expected.sum())
    months = _effective_months(expected)
    distances = ((seen - expected) ** 2).sum() * months / max(months - MONTHS_FITTED, 1.0)
    variance = (distances - seen.sum()) / (expected**2).sum()
    pooled = (months * max(variance, 0.0) + PRIOR_MONTHS * PRIOR_MONTH_SD**2) / (months + PRIOR_MONTHS)
    return float(np.sqrt(pooled))


def _effective_months(expected: np.ndarray) -> float:
    """As many months as the large ones are worth."""
    return float(expected.sum() ** 2 / (expected**2).sum())


def _season_sd(expected: np.ndarray, month_sd: float) -> float:
    """Standard deviation of the log effect of a month of the quarter: the mean of a third of the months, each off by its own factor and
    by chance."""
    if expected.sum() <= 0:
        return PRIOR_MONTH_SD
    months = _effective_months(expected)
    return float(np.sqrt(min((month_sd**2 + months / expected.sum()) * 3.0 / max(months, 3.0), 1.0)))


def _pooled_log_factor(seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """Log of (seen + k) / (expected + k): k by the method of moments, so that owners who differ by chance alone get 0."""
    if len(seen) < 2 or expected.sum() <= 0:
        return np.zeros(len(seen))
    scaled = expected * (seen.sum() / expected.sum()) if seen.sum() > 0 else expected
    variance = ((seen - scaled) ** 2 - seen).sum() / max((scaled**2).sum(), 1e-9)
    if variance <= 1e-6:
        return np.zeros(len(seen))
    k = 1.0 / variance
    return np.log((seen + k) / (scaled + k))


# --------------------------------------------------------------------------------------------------------------
# What the fit says of open deals


@dataclass(frozen=True)
class Incidence:
    """Of spells up to days after their start, shape (spells, edges).

    Attributes
    ----------
    won, lost : probability of having been won or lost by each edge.
    won_hazard, lost_hazard : integrated hazard between an edge and the one before.
    """

    won: np.ndarray
    lost: np.ndarray
    won_hazard: np.ndarray
    lost_hazard: np.ndarray


def incidence(
    model: HazardModel, history: DealHistory, row: np.ndarray, start: np.ndarray, edges: np.ndarray
) -> Incidence:
    """Cumulative incidence of winning and losing (Aalen-Johansen form of the fitted hazards).

    Parameters
    ----------
    row, start : state and beginning of each spell, shape (n,).
    edges : ascending days after the start, shape (edges,). Within a week the hazard is constant.
    """
    count, width = len(row), len(edges)
    result = Incidence(*(np.zeros((count, width), dtype=np.float32) for _ in range(4)))
    for low in range(0, count, _CHUNK):
        part = slice(low, min(low + _CHUNK, count))
        prepared = prepare(model, history, row[part], start[part])
        at = slice(None)
        survival = np.ones(part.stop - part.start)
        won, lost = np.zeros(len(survival)), np.zeros(len(survival))
        k = 0
        for week in range(int(np.ceil(edges[-1] / WEEK))) if width else ():
            p_won, p_lost = prepared.weekly(week, at)
            hazard = -np.log1p(-np.minimum(p_won + p_lost, 1 - 1e-9))
            share = p_won / np.maximum(p_won + p_lost, 1e-300)
            begin = WEEK * week
            while begin < WEEK * (week + 1) and k < width:
                end = min(WEEK * (week + 1), float(edges[k]))
                if end > begin:
                    piece = hazard * ((end - begin) / WEEK)
                    closing = survival * -np.expm1(-piece)
                    survival = survival - closing
                    won, lost = won + share * closing, lost + (1 - share) * closing
                    result.won_hazard[part, k] += share * piece
                    result.lost_hazard[part, k] += (1 - share) * piece
                    begin = end
                if end >= edges[k]:
                    result.won[part, k], result.lost[part, k] = won, lost
                    k += 1
    return result


def deal_forecasts(
    model: HazardModel, history: DealHistory, as_of: object, by: Sequence[object] = (), *, interval: float = 0.8
) -> pd.DataFrame:
    """One row per deal open as of a moment: whether and when.

    Parameters
    ----------
    by : dates D; each gives a column ``p_won_by_<date>``.
    interval : mass of the interval of the close date.

    Returns
    -------
    `deal_id`, `p_won`, `p_lost` (within two years), `p_won_by_...`, `close_date_low`, `close_date`, `close_date_high` (quantiles
    of when it closes either way, given that it does within two years), `slip_probability` (still open at the end of the
    promised day; NaN without one).
    """
    moment = day(as_of)
    row = history.open_as_of(moment)
    start = np.full(len(row), moment)
    ends = np.arange(1, HORIZON_WEEKS + 1) * WEEK
    dates = [day(date) - moment for date in by]
    if any(value < 0 for value in dates):
        raise ValueError(f"a date to be won by must not lie before {pd.Timestamp(timestamps(np.array([moment]))[0])}")
    tail = (1 - interval) / 2
    parts = []
    for low in range(0, len(row), _CHUNK):
        part = row[low : low + _CHUNK]
        found = incidence(model, history, part, start[low : low + _CHUNK], ends)
        zero = np.zeros((len(part), 1))
        grid = np.concatenate([[0.0], ends])
        won = np.hstack([zero, found.won])
        closed = won + np.hstack([zero, found.lost])
        columns: dict[str, np.ndarray] = {
            "deal_id": history.deal_ids[history.deal[part]],
            "p_won": won[:, -1],
            "p_lost": closed[:, -1] - won[:, -1],
        }
        for date, value in zip(by, dates, strict=True):
            columns[f"p_won_by_{pd.Timestamp(date):%Y-%m-%d}"] = _at(won, grid, np.full(len(part), value))  # type: ignore[arg-type]
        for name, level in (("close_date_low", tail), ("close_date", 0.5), ("close_date_high", 1 - tail)):
            columns[name] = timestamps(moment + _crossing(closed, grid, level * closed[:, -1]))
        left = history.promised[part] + 1 - moment
        slip = np.where(left > 0, 1 - _at(closed, grid, np.clip(np.nan_to_num(left), 0, grid[-1])), 1.0)
        columns["slip_probability"] = np.where(np.isnan(left), np.nan, slip)
        parts.append(pd.DataFrame(columns))
    chances = [f"p_won_by_{pd.Timestamp(date):%Y-%m-%d}" for date in by]  # type: ignore[arg-type]
    names = [
        "deal_id",
        "p_won",
        "p_lost",
        *chances,
        "close_date_low",
        "close_date",
        "close_date_high",
        "slip_probability",
    ]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=names)


def _at(values: np.ndarray, grid: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Each row's values on an even grid, interpolated at that row's x."""
    step = np.clip(x / (grid[1] - grid[0]), 0, len(grid) - 1)
    low = np.minimum(step.astype(int), len(grid) - 2)
    each = np.arange(len(values))
    return values[each, low] + (step - low) * (values[each, low + 1] - values[each, low])


def _crossing(values: np.ndarray, grid: np.ndarray, level: np.ndarray) -> np.ndarray:
    """Where each row, which never falls and begins at 0, first reaches its level."""
    place = np.clip((values < level[:, None]).sum(axis=1), 1, len(grid) - 1)
    each = np.arange(len(values))
    before, after = values[each, place - 1], values[each, place]
    share = np.where(after > before, (level - before) / np.maximum(after - before, 1e-12), 1.0)
    return grid[place - 1] + np.clip(share, 0, 1) * (grid[place] - grid[place - 1])
