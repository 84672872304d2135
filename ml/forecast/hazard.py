"""Whether and when a deal is won or lost: a discrete-time hazard with two outcomes.

Belongs here: the regression, probabilities by date, close dates, slip, effects of owners, how much months differ.
Does not: rows (`ml.forecast.person_periods`), sums over deals (`ml.forecast.totals`).

Method. Multinomial logistic regression of (open, won, lost) on person-period rows: the discrete-time competing
risks model (Allison 1982; Tutz and Schmid 2016). Ordered bands are coded by steps ("this band or above"), so that
the ridge penalty draws neighbours together, not to zero; effects of what was known at a landmark may fade with
the weeks since. Owners are partially pooled: a gamma-Poisson factor on the hazard of winning (empirical Bayes),
1 for owners with few deals. Months differ by more than chance: a shared lognormal factor (`ml.forecast.months`).
The effects themselves are uncertain: other fits that the same record allows are drawn from the normal approximation
of their posterior (Laplace).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ml.forecast.account_series import ENGAGEMENT, LEAST_CLOSINGS, SCORE, TREND
from ml.forecast.account_series import NAMES as ACCOUNT_VALUES
from ml.forecast.history import LOST, OPEN, WON, DealHistory, day, timestamps
from ml.forecast.months import PRIOR_DRIFT_SD, PRIOR_MONTH_SD, MonthCounts, MonthSpread, first_day, fit_months
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
    landmark_count,
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

LEVEL_HALF_LIFE_MONTHS = 3.0
"""Selling speeds up and slows down: the level of the hazard of winning is that of the latest months."""

RIDGE = 2.0
"""Precision of the Gaussian prior on each step, in log-odds."""

MOST_CELLS = 10_000
OPEN_PER_EVENT = 3.0
"""Above so many cells, weeks in which a deal stayed open are thinned to three per closing."""

COEFFICIENT_DRAWS = 40
"""How many other fits stand for the doubt of the effects."""

_LEAST_PRECISION = 1e-3
_CHUNK = 20_000


@dataclass(frozen=True)
class CoefficientDraw:
    """Effects that the fit might as well have found: differences from its own, in the shapes of `HazardModel`."""

    intercept: np.ndarray
    tables: dict[str, np.ndarray]
    fading: dict[str, np.ndarray]


@dataclass(frozen=True)
class MonthRecord:
    """What a fit saw of months.

    Attributes
    ----------
    all : won deals of all weeks at risk that the fit looked at; young : of those before a deal's first landmark alone, where it began with
        openings.
    begin, end : first day of the record, and the day until which every week at risk was seen.
    concentration, lag : of the weights by which the level follows the months: sum of their squares, and of the squares of what is left
        of them after each month (what a step of the level has not reached yet). chance : variance of the level by chance, in logs.
    """

    all: MonthCounts
    young: MonthCounts
    begin: float
    end: float
    concentration: float
    lag: float
    chance: float


@dataclass(frozen=True)
class HazardModel:
    """A fitted hazard. Tables have shape (codes, 2): log-odds of won and of lost against open, per week.

    Attributes
    ----------
    edges : factor -> cuts of its bands (weeks for age, lead and promise). `ripe` is coarse age by month of the quarter.
    tables : factor -> effects; fading : factor -> effects that are multiplied by 1 / (1 + weeks since / 8).
    owner_log_factor : by the owner's code in the history of the fit, of the hazard of winning.
    spread : how much months differ by a factor that they have on all hazards of winning, and how far the level drifts.
    season_sd : standard deviation in logs of the effect of a month of the quarter, learnt from as few months as there were of it.
    level_sd : the same of the level of the fit itself, by the events and months that it saw.
    doubts : other effects that the fit might as well have found.
    record : won deals by month, and how the level was learnt from them.
    counts : cells, weeks at risk, won, lost.
    left_out : sentences on what the sources have, but known at too few closings to be learnt from.
    """

    from_landmarks: bool
    intercept: np.ndarray
    edges: dict[str, np.ndarray]
    tables: dict[str, np.ndarray]
    fading: dict[str, np.ndarray]
    owner_log_factor: np.ndarray
    spread: MonthSpread
    season_sd: float
    level_sd: float
    fiscal_start_month: int
    counts: dict[str, int]
    left_out: tuple[str, ...] = ()
    doubts: tuple[CoefficientDraw, ...] = ()
    record: MonthRecord | None = None

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
    intercept, tables, fading, doubts = _regress(_thinned(cells, seed), sizes, tuple(static), worth, seed)
    owner_count = len(history.labels.get("owner", ()))
    model = HazardModel(
        from_landmarks=has_features,
        intercept=intercept,
        edges=edges,
        tables=tables,
        fading=fading,
        owner_log_factor=np.zeros(owner_count),
        spread=MonthSpread(PRIOR_MONTH_SD, PRIOR_DRIFT_SD, PRIOR_MONTH_SD, 0.5),
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
        doubts=doubts,
    )
    return _with_owners_and_months(model, history, spells, calendar, moment)


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
    cells: Cells, sizes: dict[str, int], static: tuple[str, ...], worth: float, seed: int
) -> tuple[np.ndarray, dict[str, np.ndarray], dict[str, np.ndarray], tuple[CoefficientDraw, ...]]:
    """Intercept (2,), tables and fading tables, by scikit-learn's multinomial logistic regression, and what they might be instead;
    each row counts for `worth`."""
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
    doubts = _coefficient_draws(X, used, cells.counts.sum(axis=1) * worth, intercept, coefficients, designs, seed)
    return intercept, tables, fading, doubts


def _coefficient_draws(
    X: np.ndarray,
    used: np.ndarray,
    weight: np.ndarray,
    intercept: np.ndarray,
    coefficients: np.ndarray,
    designs: list[tuple[str, bool, np.ndarray]],
    seed: int,
) -> tuple[CoefficientDraw, ...]:
    """Draws from the normal approximation of the posterior of the effects (Laplace: the inverse of the information).

    Each outcome by itself. What all draws of winning have in common, how much is won over all rows, is taken
    out: the level has a doubt of its own.

    Parameters
    ----------
    X : design, shape (cells, columns), of which `used` were fitted; weight : weeks at risk of each cell, by what they are worth.
    """
    odds = np.exp(np.minimum(intercept + X @ coefficients, 30.0))
    chance = odds / (1.0 + odds.sum(axis=1, keepdims=True))
    rows = np.column_stack([np.ones(len(X)), X[:, used]])
    # Of three classes with the same ridge the contrast of two has two thirds of its precision; the intercept has none.
    ridge = np.full(rows.shape[1], RIDGE * 2.0 / 3.0)
    ridge[0] = _LEAST_PRECISION
    generator = np.random.default_rng(seed)
    steps = np.empty((2, rows.shape[1], COEFFICIENT_DRAWS))
    for outcome in range(2):
        p = chance[:, outcome]
        information = (rows * (weight * p * (1 - p))[:, None]).T @ rows + np.diag(ridge)
        lower = np.linalg.cholesky(information)
        steps[outcome] = np.linalg.solve(lower.T, generator.standard_normal(steps.shape[1:]))
    won = weight * chance[:, 0]
    if won.sum() > 0:
        steps[0, 0] -= np.log(won @ np.exp(np.clip(rows @ steps[0], -3.0, 3.0)) / won.sum())
    found = []
    for number in range(COEFFICIENT_DRAWS):
        change = np.zeros((X.shape[1], 2))
        change[used] = steps[:, 1:, number].T
        tables: dict[str, np.ndarray] = {}
        fading: dict[str, np.ndarray] = {}
        at = 0
        for name, fades, design in designs:
            (fading if fades else tables)[name] = design @ change[at : at + design.shape[1]]
            at += design.shape[1]
        found.append(CoefficientDraw(steps[:, 0, number], tables, fading))
    return tuple(found)


def doubted(model: HazardModel, draw: CoefficientDraw) -> HazardModel:
    """The same model with one of its `doubts` for its effects."""
    return replace(
        model,
        intercept=model.intercept + draw.intercept,
        tables={name: table + draw.tables[name] for name, table in model.tables.items()},
        fading={name: table + draw.fading[name] for name, table in model.fading.items()},
    )


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
    model: HazardModel, history: DealHistory, spells: Spells, calendar: Calendar, moment: float
) -> HazardModel:
    """Won deals seen and expected, per owner and per month, give the owners' factors, the level and what months differ by."""
    prepared = prepare(model, history, spells.row, spells.start)
    first_month = int(calendar.month_of(spells.start + WEEK * spells.enter).min())
    months = int(calendar.month_of(spells.start + WEEK * spells.weeks).max()) - first_month + 1
    by_owner = np.zeros((2, len(model.owner_log_factor) + 1))
    # For the level: weeks by the month of their middle, as they were fitted. For what months differ by: days by their month,
    # and once more those before a deal's first landmark; one month more for the end of a last week that is in two.
    by_month, by_day, young = np.zeros((2, months)), np.zeros((2, months + 1)), np.zeros((2, months + 1))
    # From landmarks each week at risk is looked at once: by the last landmark before it.
    weeks = int(spells.weeks.max())
    if model.from_landmarks:
        weeks = min(weeks, int(LANDMARK_DAYS / WEEK))
    begin = max(moment - HISTORY_DAYS, history.observed_from)
    first_landmark = _first_landmark(spells.start, moment, begin)
    closed = _closed_by(history, spells, moment)
    owner = history.codes["owner"][spells.row] if "owner" in history.codes else np.full(len(spells), -1)
    for week in range(weeks):
        at = np.flatnonzero((spells.enter <= week) & (week < spells.weeks))
        if len(at) == 0:
            continue
        expected = prepared.weekly(week, at)[0].astype(float)
        seen = ((spells.event[at] == WON) & (spells.weeks[at] == week + 1)).astype(float)
        start = spells.start[at] + WEEK * week
        month = calendar.month_of(start + WEEK / 2) - first_month
        for k, value in enumerate((seen, expected)):
            by_owner[k] += np.bincount(owner[at] % by_owner.shape[1], weights=value, minlength=by_owner.shape[1])
            by_month[k] += np.bincount(month, weights=value, minlength=months)[:months]
        low, high = (calendar.month_of(when) - first_month for when in (start, start + WEEK))
        # Of a week in two months so much is in the second one, of one with the first landmark in it so much is before that.
        into = np.where(high > low, (start + WEEK - first_day(first_month + high)) / WEEK, 0.0)
        before = np.clip((first_landmark[at] - start) / WEEK, 0.0, 1.0)
        on = closed[at[seen > 0]]
        for counts, share, kept in ((by_day, 1.0, on > 0), (young, before, on <= first_landmark[at[seen > 0]])):
            counts[0] += np.bincount(calendar.month_of(on[kept]) - first_month, minlength=months + 1)
            if not np.any(share):
                continue
            for month, part in ((low, 1 - into), (high, into)):
                counts[1] += np.bincount(month, weights=expected * share * part, minlength=months + 1)
    # The level of the latest months, not of all that were fitted: won deals seen over expected, both fading into the past,
    # and one month's worth of expecting what is expected.
    weight = 0.5 ** (np.arange(months)[::-1] / LEVEL_HALF_LIFE_MONTHS)
    seen, expected = weight * by_month[0], weight * by_month[1]
    prior = float(by_month[1].sum()) / max(int((by_month[1] > 0).sum()), 1)
    level = (float(seen.sum()) + prior) / (float(expected.sum()) + prior) if prior > 0 else 1.0
    concentration = float((expected**2).sum()) / max(float(expected.sum()), 1e-9) ** 2
    # A step of the level is in it by the weight of the months since.
    not_yet = np.cumsum(expected)[:-1] / max(float(expected.sum()), 1e-9)
    # Chance in a weighted count: its variance is the sum of weight^2 x count, not the weighted count.
    chance = float((weight * seen).sum()) / max(float(seen.sum()), 1.0) ** 2 if seen.sum() > 0 else 1.0
    fiscal, scale = model.fiscal_start_month, 1.0 / spells.share
    record = MonthRecord(
        MonthCounts.of(first_month, by_day[0], by_day[1], fiscal, weight=scale),
        MonthCounts.of(first_month, young[0], young[1], fiscal, weight=scale),
        begin,
        moment - WEEK,
        min(concentration, 1.0),
        float((not_yet**2).sum()),
        min(chance, 1.0),
    )
    found = replace(
        model,
        intercept=model.intercept + np.array([np.log(level), 0.0]),
        owner_log_factor=_pooled_log_factor(by_owner[0, :-1], by_owner[1, :-1]),
        record=record,
    )
    return with_months(found, record.all)


def with_months(model: HazardModel, counts: MonthCounts) -> HazardModel:
    """The same model with what these won deals by month say of how much months differ."""
    record = model.record
    if record is None:
        return model
    whole = counts.whole(record.begin - 1, record.end)
    spread = fit_months(whole)
    variance = spread.month_sd**2 * record.concentration + spread.drift_sd**2 * record.lag + record.chance
    seasonal = "month_of_quarter" in model.edges
    return replace(
        model,
        spread=spread,
        season_sd=_season_sd(whole.expected, spread.month_sd) if seasonal else 0.0,
        level_sd=float(np.sqrt(variance)),
    )


def all_months(deal: HazardModel, entry: HazardModel) -> MonthCounts | None:
    """Won deals by month, every week at risk once: by the last landmark before it, and from the opening of a deal that had none yet.

    Who is opened and closed between two landmarks counts in no fit from landmarks; where that is the many, months are told by the few.
    """
    if deal.record is None or entry.record is None:
        return None
    return deal.record.all + entry.record.young if deal.from_landmarks else deal.record.all


def _first_landmark(start: np.ndarray, moment: float, begin: float) -> np.ndarray:
    """The first landmark of a fit as of a moment that is not before these days; the moment itself where there is none."""
    lowest = moment - LANDMARK_DAYS * landmark_count(moment, begin)
    return np.maximum(moment - LANDMARK_DAYS * np.floor((moment - start) / LANDMARK_DAYS), lowest)


def _closed_by(history: DealHistory, spells: Spells, moment: float) -> np.ndarray:
    """Day on which the deals of spells were closed, as it is known at a moment; NaN while they are open."""
    now = history.live(history.as_of(moment))
    found = np.full(len(history.deal_ids), np.nan)
    found[history.deal[now]] = np.where(history.status[now] == OPEN, np.nan, history.closed[now])
    return found[history.deal[spells.row]]


def _season_sd(expected: np.ndarray, month_sd: float) -> float:
    """Standard deviation of the log effect of a month of the quarter: the mean of a third of the months, each off by its own factor. What
    is chance in it is among the doubts of the fit."""
    months = float(expected.sum() ** 2 / (expected**2).sum()) if expected.sum() > 0 else 0.0
    return month_sd * float(np.sqrt(3.0 / max(months, 3.0)))


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
