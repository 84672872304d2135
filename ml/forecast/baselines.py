"""Simple forecasts of won value in the next days: what a forecast has to be better than.

Belongs here: point forecasts as of a moment, from what was known then. Does not: intervals, scores
(`ml.forecast.backtest`).
"""

from __future__ import annotations

import numpy as np

from ml.forecast.hazard import HazardModel, fit_hazard, incidence, incidence_of_new
from ml.forecast.history import OPEN, WON, DealHistory
from ml.forecast.new_business import Creation, Values
from ml.forecast.person_periods import WEEK

NAMES = ("run_rate", "last_year", "open_win_rate", "stage_weighted", "age_hazard")

RATE_DAYS = 365.0
"""Win rates are of deals closed in so many days."""


def baseline_points(
    history: DealHistory, as_of: float, horizons: np.ndarray, creation: Creation, values: Values
) -> dict[str, np.ndarray]:
    """Won value in cents in ``(as_of, as_of + h]`` for each horizon, by method; NaN where history does not reach.

    `run_rate`: what was won in the last h days, again. `last_year`: what was won in these days a year before.
    `open_win_rate`: all open amounts x the win rate, whenever they may close. `stage_weighted`: amounts promised to close by
    then (all, without promised dates) x the win rate of deals that were once in that stage. `age_hazard`: weekly hazards
    by age alone on open deals and on creation at its present rate.
    """
    now = history.live(history.as_of(as_of))
    status = history.status[now]
    closed = now[(status != OPEN) & (history.closed[now] > as_of - RATE_DAYS)]
    rows = now[status == OPEN]
    amount = np.where(history.amount[rows] > 0, history.amount[rows], values.mean)
    win_rate = float((history.status[closed] == WON).mean()) if len(closed) else np.nan
    result = {name: np.full(len(horizons), np.nan) for name in NAMES}
    result["open_win_rate"][:] = amount.sum() * win_rate
    stage_rate = _stage_win_rates(history, closed, win_rate)
    promised = history.promised[rows]
    age_model = fit_hazard_by_age(history, as_of)
    edges = np.asarray(horizons, dtype=float)
    order = np.argsort(edges)
    from_open = amount @ incidence(age_model, history, rows, np.full(len(rows), as_of), edges[order]).won
    for place, number in enumerate(order):
        horizon = edges[number]
        result["run_rate"][number] = won_between(history, now, as_of - horizon, as_of)
        result["last_year"][number] = won_between(history, now, as_of - 365, as_of - 365 + horizon)
        due = np.ones(len(rows), dtype=bool) if np.isnan(promised).all() else promised <= as_of + horizon
        result["stage_weighted"][number] = float((amount * stage_rate[history.stage[rows]])[due].sum())
        weeks = int(np.ceil(horizon / WEEK))
        start = WEEK * (np.arange(weeks) + 0.5)
        won = incidence_of_new(age_model, as_of + start, weeks)
        grid = WEEK * np.arange(weeks + 1)
        share = [np.interp(max(horizon - begin, 0.0), grid, each) for begin, each in zip(start, won, strict=True)]
        days = np.minimum(WEEK, horizon - WEEK * np.arange(weeks))
        result["age_hazard"][number] = from_open[place] + creation.per_day * values.mean * float(np.dot(share, days))
    return result


def fit_hazard_by_age(history: DealHistory, as_of: float) -> HazardModel:
    """Weekly hazards by age alone: the life table that everybody can make."""
    from ml.forecast.history import timestamps

    return fit_hazard(history, timestamps(np.array([as_of]))[0], by_season=False, with_features=False)


def won_between(history: DealHistory, rows: np.ndarray, after: float, until: float) -> float:
    """Won value in cents of these versions with ``after < closed_at <= until``; NaN before the record begins."""
    if after < history.observed_from - 1:
        return float("nan")
    closed = history.closed[rows]
    won = rows[(history.status[rows] == WON) & (closed > after) & (closed <= until)]
    return float(np.nansum(history.amount[won]))


def won_lately(history: DealHistory, as_of: float, days: float, name: str) -> np.ndarray | None:
    """Won value in cents in ``(as_of - days, as_of]`` of each of `group_labels`; None where the record does not reach back so far."""
    if as_of - days < history.observed_from - 1:
        return None
    now = history.live(history.as_of(as_of))
    won = now[
        (history.status[now] == WON)
        & (history.closed[now] > as_of - days)
        & (history.closed[now] <= as_of)
        & np.isfinite(history.amount[now])
    ]
    size = len(history.labels[name]) + 1
    return np.bincount(history.codes[name][won] % size, weights=history.amount[won], minlength=size)


def _stage_win_rates(history: DealHistory, closed: np.ndarray, win_rate: float) -> np.ndarray:
    """Win rate by stage code of closed deals that had a version in it, one deal added at the overall rate; the last for
    no stage."""
    size = len(history.labels.get("stage", ())) + 1
    outcome = np.full(len(history.deal_ids), -1)
    outcome[history.deal[closed]] = history.status[closed] == WON
    seen = np.flatnonzero((outcome[history.deal] >= 0) & (history.status == OPEN) & (history.stage >= 0))
    pairs = np.unique(history.deal[seen].astype(np.int64) * size + history.stage[seen])
    stage = pairs % size
    won = np.bincount(stage, weights=outcome[pairs // size], minlength=size)
    rate = (won + win_rate) / (np.bincount(stage, minlength=size) + 1.0)
    rate[-1] = win_rate
    return np.asarray(rate)
