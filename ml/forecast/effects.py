"""Why a deal's chance is what it is: what each thing known of it adds to the chance of the company's typical deal.

Belongs here: effects on P(won by D) that add up to it, per deal. Does not: the chance itself (`ml.forecast.hazard`), sums over deals.

Method. Every week has log-odds of winning and of losing that are sums over factors, P(won by D) is a smooth function of all of them.
The typical deal has the mean of each factor's part over the deals that were open at the landmarks of the fit. All parts move evenly and
at once from the typical deal's to the deal's own, and every factor gets what its part changes on the way: Aumann and Shapley 1974,
"Values of non-atomic games"; integrated gradients in Sundararajan, Taly and Yan 2017, "Axiomatic attribution for deep networks". So the
effects and the typical chance sum to the chance, whatever the order, and a factor that is as usual has none. The integral is Gauss and
Legendre's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ml.forecast.account_series import ENGAGEMENT, SCORE, TREND
from ml.forecast.hazard import HISTORY_DAYS, HazardModel, fade_by_lead, week_codes
from ml.forecast.history import DealHistory, day, timestamps
from ml.forecast.person_periods import (
    LEAD_EDGES,
    WEEK,
    Calendar,
    band_codes,
    spells_from_landmarks,
    start_features,
)

TYPICAL = "typical"
"""The row that holds the chance of the typical deal; effects are added to it."""

FACTORS = {
    "age": ("age", "ripe"),
    "stage": ("stage",),
    "time_in_stage": ("time_in_stage",),
    "moves_back": ("moves_back",),
    "promised_date": ("promise",),
    "pushes": ("pushes",),
    "amount": ("amount",),
    "account_score": (SCORE,),
    "engagement": (ENGAGEMENT,),
    "engagement_trend": (TREND,),
    "owner": ("owner",),
}
"""What people know of a deal -> the factors of the hazard that speak of it. The season and the weeks ahead are the same for all."""

PARTS_PER_WHOLE = 1_000_000
"""Effects are whole millionths, so that they add up exactly."""

_NODES = 8
_CHUNK = 2_000


def deal_effects(
    model: HazardModel, history: DealHistory, as_of: object, by: Sequence[object], row: np.ndarray, *, seed: int = 0
) -> pd.DataFrame:
    """Effects on P(won by D), deal by deal.

    Parameters
    ----------
    by : dates D, none before `as_of`
    row : versions of open deals as of then, shape (n,), from `DealHistory.open_as_of`
    seed : of the draw of past deals where there are too many

    Returns
    -------
    One row per deal and factor that the model knows, the first of each deal being `TYPICAL`: `deal_id`, `factor`, `observed` (what is
    known, in words) and a column ``effect_by_<date>`` per date, in millionths; their sum over a deal is its chance, to the millionth.
    """
    moment = day(as_of)
    dates = np.array([day(date) - moment for date in by])
    weeks = int(np.ceil(dates.max(initial=0.0) / WEEK)) + 1
    start = np.full(len(row), moment)
    calendar = Calendar.over(moment, moment + WEEK * weeks, model.fiscal_start_month)
    spells = spells_from_landmarks(history, moment, since=moment - HISTORY_DAYS, seed=seed)
    usual_row, usual_start = (spells.row, spells.start) if len(spells) else (row, start)
    usual = {
        name: part.mean(axis=0)
        for name, part in _parts(model, history, usual_row, usual_start, moment, weeks, calendar).items()
    }
    level, now = np.zeros((weeks, 2)) + model.intercept, np.array([moment])
    for name in ("month_of_quarter", "lead"):
        if name in model.tables:
            codes = week_codes(model.edges, now, now - moment, now, calendar)[name]
            level += np.concatenate([model.tables[name][codes(week, slice(0, 1))] for week in range(weeks)])
    typical = level + sum(usual.values(), np.zeros((weeks, 2)))
    frames = []
    for low in range(0, len(row), _CHUNK):
        each = row[low : low + _CHUNK]
        own = _parts(model, history, each, start[low : low + _CHUNK], moment, weeks, calendar)
        moved = {name: part - usual[name] for name, part in own.items()}
        frames.append(_frame(history, each, moment, by, dates, typical, moved))
    names = ["deal_id", "factor", "observed", *(f"effect_by_{pd.Timestamp(date):%Y-%m-%d}" for date in by)]  # type: ignore[arg-type]
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=names)


def _parts(
    model: HazardModel,
    history: DealHistory,
    row: np.ndarray,
    start: np.ndarray,
    moment: float,
    weeks: int,
    calendar: Calendar,
) -> dict[str, np.ndarray]:
    """Name of `FACTORS` -> its part of the log-odds of winning and losing, shape (n, weeks, 2), as if the weeks began at the moment."""
    numbers = np.arange(weeks)
    fade = np.ones(weeks)
    if "lead" in model.edges:
        fade = fade_by_lead()[np.searchsorted(LEAD_EDGES, numbers, side="right") + 1]
    values = start_features(history, row, start) if model.from_landmarks else {}
    # As far before its promised date, and as old, as it was at its own start.
    promised = history.promised[row] + moment - start
    at = np.full(len(row), moment)
    weekly = week_codes(model.edges, at, start - history.opened[row], promised, calendar)
    found = {}
    for name, factors in FACTORS.items():
        part = None
        for factor in factors:
            if factor == "owner":
                if "owner" in history.codes and len(model.owner_log_factor):
                    effect = np.append(model.owner_log_factor, 0.0)[history.codes["owner"][row]]
                    part = np.stack([effect, np.zeros(len(row))], axis=1)[:, None, :] + np.zeros((1, weeks, 1))
            elif factor in values and factor in model.tables:
                table, fading = model.tables[factor], model.fading[factor]
                codes = np.minimum(band_codes(values[factor], model.edges[factor]), len(table) - 1)
                part = table[codes][:, None, :] + fading[codes][:, None, :] * fade[None, :, None]
            elif factor in weekly and factor in model.tables:
                table = model.tables[factor]
                seen = np.stack([table[weekly[factor](week, slice(None))] for week in range(weeks)], axis=1)
                part = seen if part is None else part + seen
        if part is not None:
            found[name] = part
    return found


def _frame(
    history: DealHistory,
    row: np.ndarray,
    moment: float,
    by: Sequence[object],
    dates: np.ndarray,
    typical: np.ndarray,
    moved: dict[str, np.ndarray],
) -> pd.DataFrame:
    """The rows of some deals."""
    path = sum(moved.values(), np.zeros((len(row), *typical.shape)))
    # What of each week lies before a date.
    reached = np.clip(dates[:, None] / WEEK - np.arange(len(typical))[None, :], 0.0, 1.0)
    effects = np.zeros((len(moved), len(row), len(dates)))
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    for node, weight in zip((nodes + 1) / 2, weights / 2, strict=True):
        for k, slope in enumerate(_chance(typical + node * path, reached)[1]):
            for number, part in enumerate(moved.values()):
                effects[number, :, k] += weight * np.einsum("nwo,nwo->n", slope, part)
    usual, own = _chance(typical[None], reached)[0], _chance(typical + path, reached)[0]
    whole = _in_millionths(usual, own, effects)
    count = len(moved) + 1
    frame = pd.DataFrame(
        {
            "deal_id": np.repeat(history.deal_ids[history.deal[row]], count),
            "factor": np.tile(np.array([TYPICAL, *moved], dtype=object), len(row)),
            "observed": np.stack([_words(name, history, row, moment) for name in (TYPICAL, *moved)], axis=1).ravel(),
        }
    )
    for k, date in enumerate(by):
        frame[f"effect_by_{pd.Timestamp(date):%Y-%m-%d}"] = whole[:, :, k].T.ravel()  # type: ignore[arg-type]
    return frame


def _chance(log_odds: np.ndarray, reached: np.ndarray) -> tuple[np.ndarray, list[np.ndarray]]:
    """P(won by each date), shape (n, dates), and its slope by the log-odds of every week, per date of shape (n, weeks, 2).

    Parameters
    ----------
    log_odds : of winning and losing against staying open, shape (n, weeks, 2)
    reached : share of each week that lies before each date, shape (dates, weeks)
    """
    odds = np.exp(np.minimum(log_odds, 30.0))
    p = odds / (odds.sum(axis=2, keepdims=True) + 1.0)
    stay = 1.0 - p.sum(axis=2)
    open_before = np.cumprod(np.concatenate([np.ones((len(p), 1)), stay[:, :-1]], axis=1), axis=1)
    chances, slopes = [], []
    for share in reached:
        won = open_before * share * p[:, :, 0]
        later = won.sum(axis=1, keepdims=True) - np.cumsum(won, axis=1)
        # A week more likely to end it takes from what it gives itself and from all later weeks.
        slope = -p * (won + later)[:, :, None]
        slope[:, :, 0] += won
        chances.append(won.sum(axis=1))
        slopes.append(slope)
    return np.stack(chances, axis=1), slopes


def _in_millionths(usual: np.ndarray, own: np.ndarray, effects: np.ndarray) -> np.ndarray:
    """The typical chance and the effects as whole numbers that sum to the chance; shape (1 + factors, n, dates)."""
    result = np.rint(np.concatenate([np.broadcast_to(usual, own.shape)[None], effects]) * PARTS_PER_WHOLE).astype(
        np.int64
    )
    rest = np.rint(own * PARTS_PER_WHOLE).astype(np.int64) - result.sum(axis=0)
    # What rounding and the integration leave, some millionths, goes to the largest effect.
    largest = 1 + np.abs(effects).argmax(axis=0) if len(effects) else np.zeros(own.shape, dtype=np.int64)
    deal, date = np.indices(own.shape)
    result[largest, deal, date] += rest
    return result


def _words(name: str, history: DealHistory, row: np.ndarray, moment: float) -> np.ndarray:
    """What is known of deals by name of `FACTORS`, shape (n,)."""
    at = np.full(len(row), moment)

    def told(values: np.ndarray, form: str) -> np.ndarray:
        return np.array(
            [form.format(value) if np.isfinite(value) else "unknown" for value in values.tolist()], dtype=object
        )

    if name == TYPICAL:
        return np.full(len(row), "", dtype=object)
    if name in ("stage", "owner"):
        labels = (
            history.label_of("owner", row)
            if name == "owner"
            else np.append(history.labels["stage"], np.array([None], dtype=object))[history.stage[row]]
        )
        return np.array(["unknown" if label is None else str(label) for label in labels], dtype=object)
    if name == "promised_date":
        dates = timestamps(history.promised[row]).astype("datetime64[D]")
        return np.where(np.isnat(dates), "none", dates.astype(str)).astype(object)
    if name == "age":
        return told((moment - history.opened[row]) / WEEK, "{:.0f} weeks")
    values = start_features(history, row, at)
    return {
        "time_in_stage": lambda: told(values["time_in_stage"] / WEEK, "{:.0f} weeks"),
        "moves_back": lambda: told(values["moves_back"], "{:.0f}"),
        "pushes": lambda: told(values["pushes"], "{:.0f}"),
        "amount": lambda: told(values["amount"] / 100, "{:,.0f}"),
        "account_score": lambda: told(100 * values[SCORE], "{:.0f} %"),
        "engagement": lambda: told(values[ENGAGEMENT], "{:.0f} days of people in 4 weeks"),
        "engagement_trend": lambda: told(values[TREND], "{:+.0f} against 4 weeks before"),
    }[name]()
