"""Simple forecasts of won value in the next days: what a forecast has to be better than.

Belongs here: point forecasts as of a moment, from what was known then. Does not: intervals, scores
(`ml.forecast.backtest`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ml.forecast.hazard import HazardModel, fit_hazard, incidence, incidence_of_new
from ml.forecast.history import OPEN, WON, DealHistory, day
from ml.forecast.new_business import NONE, Creation, Values
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


def run_rate_to_come(
    history: DealHistory, as_of: object, periods: pd.DataFrame, dimensions: Sequence[str]
) -> pd.DataFrame:
    """What is still to be won of each period if it goes on as in as many days before the moment as the period has.

    Parameters
    ----------
    periods : `period_label`, `period_start`, `period_end` (exclusive)
    dimensions : columns of the history to divide by; beside them `all`

    Returns
    -------
    `dimension`, `label`, `period_label`, `amount_cents`: won in those days, times the share of the period that is to come. Labels that won
    nothing have no row; periods longer than the record of closings have none at all.
    """
    moment = day(as_of)
    rows = history.live(history.as_of(moment))
    rows = rows[(history.status[rows] == WON) & ~np.isnan(history.amount[rows])]
    labels = {name: history.label_of(name, rows) for name in dimensions}
    frames = []
    for period in periods.to_dict("records"):
        start, end = day(period["period_start"]), day(period["period_end"])
        length = end - start
        if moment - length < history.observed_from - 1:
            continue
        recent = (history.closed[rows] > moment - length) & (history.closed[rows] <= moment)
        to_come = history.amount[rows[recent]] * (end - min(max(moment, start), end)) / length
        for name in ("all", *dimensions):
            groups = "all" if name == "all" else pd.Series(labels[name][recent], dtype=object).fillna(NONE).to_numpy()
            frames.append(
                pd.DataFrame(
                    {
                        "dimension": name,
                        "label": groups,
                        "period_label": period["period_label"],
                        "amount_cents": to_come,
                    }
                )
            )
    if not frames:
        return pd.DataFrame({"dimension": [], "label": [], "period_label": [], "amount_cents": []})
    sums = pd.concat(frames, ignore_index=True).groupby(["dimension", "label", "period_label"])[["amount_cents"]].sum()
    return sums.reset_index()
