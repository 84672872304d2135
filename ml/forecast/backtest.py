"""How right the forecast would have been: earlier moments replayed with what was known then.

Belongs here: replaying origins, blending with the baselines, calibrating intervals, scores. Does not: the
forecast itself (`ml.forecast.totals`), the baselines (`ml.forecast.baselines`).

Method. Rolling origins (Tashman 2000): at each one everything is fitted anew on what was known. The forecast of an
origin is then calibrated on *earlier* origins whose window had ended by it, never on its own or later ones. Its centre is a
log-linear pool of the model and the baselines, weighted by the inverse of their mean squared log errors (Bates and
Granger 1969), each drawn to a prior; its bias is taken off, drawn to 0; its spread is stretched by the root mean
square of the standardised errors, drawn to 1. Windows overlap: as many independent origins are counted as windows fit
between the first and the last one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.stats import norm

from ml.forecast.baselines import NAMES, baseline_points, won_between
from ml.forecast.history import DealHistory, day, timestamps
from ml.forecast.totals import ALL, LEVELS, SCENARIOS, Totals, fit_forecast, level_name, simulate

PRIOR_ORIGINS = 4.0
"""How many independent origins the prior beliefs below are worth."""

PRIOR_NOISE = 0.12
"""Standard deviation in logs of what comes in a window, where no scenarios say it."""

PRIOR_OWN_ERROR = {
    "model": 0.10,
    "run_rate": 0.11,
    "last_year": 0.25,
    "age_hazard": 0.22,
    "stage_weighted": 1.5,
    "open_win_rate": 1.5,
}
"""What each method is believed to be wrong by, in logs, beyond the noise of the window that comes, before any origin was seen. The last
two do not ask when a deal closes: until they have been close they say nothing of a window."""

REPEATED = ("run_rate", "last_year")
"""These say what a past window held, which was as noisy as the one that comes."""

SHARPNESS = 1.0
"""Weights are mean squared errors to the power of minus this."""

_SECOND = 1.0 / 86_400
_MOST_LOG_ERROR = 1.5


@dataclass(frozen=True)
class Calibration:
    """What earlier origins say of forecasts over one horizon.

    Attributes
    ----------
    weights : method -> share in the pool; sums to 1.
    bias : log of what came over the pool, to be added.
    spread : factor on log distances from the median.
    log_error : method -> root mean square log error, for intervals of the baselines alone.
    origins : origins looked at; independent : windows that fit between them.
    """

    horizon: float
    weights: dict[str, float]
    bias: float
    spread: float
    log_error: dict[str, float]
    origins: int
    independent: float

    def centre(self, points: Mapping[str, float]) -> float:
        """Pool of the methods that have a point, bias taken off; the model's own point must be among them."""
        usable = {name: weight for name, weight in self.weights.items() if points.get(name, np.nan) > 0}
        total = sum(usable.values())
        if total <= 0:
            return float(points["model"])
        log_centre = sum(weight * np.log(points[name]) for name, weight in usable.items()) / total
        return float(np.exp(log_centre + self.bias))


def prior_own_squares(noise: float) -> dict[str, float]:
    """Mean squared log error beyond the noise of the coming window that each method is believed to have.

    Parameters
    ----------
    noise : standard deviation in logs of what comes in a window. Who repeats a past window repeats its noise, too.
    """
    return {name: error**2 + (noise**2 if name in REPEATED else 0.0) for name, error in PRIOR_OWN_ERROR.items()}


def fit_calibration(past: pd.DataFrame, horizon: float, model_sd: float | None = None) -> Calibration:
    """Learn from origins whose windows have ended.

    Parameters
    ----------
    past : rows of one horizon: `origin`, `actual`, a column per method, `model_sd` (standard deviation of the model's
        scenarios in logs). May be empty: the prior holds.
    model_sd : the same of the forecast that is to be calibrated, where there is one.
    """
    methods = ("model", *NAMES)
    usable = past[past["model"] > 0] if len(past) else past
    n = len(usable)
    independent = 0.0
    if n:
        moments = days_between(usable["origin"])
        independent = min(float(n), (moments.max() - moments.min()) / horizon + 1)
    share = independent / n if n else 0.0
    sds = [*(usable["model_sd"] if n else ()), *([] if model_sd is None else [model_sd])]
    noise = float(np.sqrt(np.mean(np.square(sds)))) if sds else PRIOR_NOISE
    prior = prior_own_squares(noise)
    own: dict[str, float] = {}
    errors: dict[str, np.ndarray] = {}
    for name in methods:
        errors[name] = _log_errors(usable["actual"], usable[name]) if n else np.empty(0)
        known = np.isfinite(errors[name])
        seen = share * float(known.sum())
        beyond = float((errors[name][known] ** 2 - usable["model_sd"].to_numpy(float)[known] ** 2).sum()) if n else 0.0
        own[name] = (share * max(beyond, 0.0) + PRIOR_ORIGINS * prior[name]) / (seen + PRIOR_ORIGINS)
    raw = {name: own[name] ** -SHARPNESS for name in methods}
    total = sum(raw.values())
    weights = {name: value / total for name, value in raw.items()}
    # The pool is wrong by the noise of the window and by what its methods are wrong by beyond it.
    believed = 1.0 + sum(weights[name] ** 2 * own[name] for name in methods) / noise**2
    plain = Calibration(
        horizon, weights, 0.0, float(np.sqrt(believed)),
        {name: float(np.sqrt(value + noise**2)) for name, value in own.items()}, n, independent,
    )  # fmt: skip
    if n == 0:
        return plain
    centre = np.array(
        [plain.centre(dict(zip(methods, row, strict=True))) for row in usable[list(methods)].to_numpy(float)]
    )
    error = _log_errors(usable["actual"], pd.Series(centre))
    bias = float(error.mean()) * independent / (independent + PRIOR_ORIGINS)
    standardised = (error - bias) / np.maximum(usable["model_sd"].to_numpy(), 1e-3)
    spread = np.sqrt((share * (standardised**2).sum() + PRIOR_ORIGINS * believed) / (independent + PRIOR_ORIGINS))
    return Calibration(horizon, plain.weights, bias, float(spread), plain.log_error, n, independent)


def calibrations_of(rows: pd.DataFrame) -> list[Calibration]:
    """One calibration per horizon from the rows of a `backtest`, of which all windows have ended.

    The spread of the model's scenarios is read from their P10 and P90.
    """
    found = []
    whole = rows[rows["dimension"] == ALL]
    for horizon in sorted(whole["horizon_days"].unique()):
        group = whole[whole["horizon_days"] == horizon]
        model = group[group["method"] == "model"].set_index("origin")
        if model.empty:
            continue
        points = group.pivot_table(index="origin", columns="method", values="point", aggfunc="first")
        past = points.reindex(columns=["model", *NAMES]).astype(float)
        past["actual"] = model["actual"].astype(float)
        low, high = (model[level_name(level)].astype(float).reindex(past.index).to_numpy() for level in (0.1, 0.9))
        with np.errstate(divide="ignore", invalid="ignore"):
            sd = np.log(high / np.maximum(low, 0.01 * high)) / (2 * norm.ppf(0.9))
        past["model_sd"] = np.clip(np.nan_to_num(sd, nan=1.0), 0.005, 2.0)
        found.append(fit_calibration(past.reset_index(), float(horizon)))
    return found


def days_between(column: pd.Series) -> np.ndarray:
    """Dates as float days."""
    return np.array([day(value) for value in column])


def _log_errors(actual: pd.Series, point: pd.Series) -> np.ndarray:
    """log(actual / point), held within 1.5; NaN where there is no point."""
    a, p = actual.to_numpy(float), point.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        error = np.clip(np.log(a) - np.log(p), -_MOST_LOG_ERROR, _MOST_LOG_ERROR)
    return np.where(p > 0, error, np.nan)


def backtest(
    history: DealHistory,
    origins: Sequence[object],
    horizons: Sequence[float],
    *,
    dimensions: Sequence[str] = (),
    fiscal_start_month: int = 1,
    scenarios: int = SCENARIOS,
    seed: int = 0,
) -> pd.DataFrame:
    """Replay origins, oldest first.

    Parameters
    ----------
    origins : moments. Windows are ``(origin, origin + horizon]``, in days; what came is read in the latest versions.
    dimensions : also by these; calibrated with the whole's calibration.

    Returns
    -------
    One row per origin, horizon, dimension, label and method: `point`, `actual`, a column per level of
    `ml.forecast.totals.LEVELS`, `origins_before` (calibrated on). Methods: `forecast` (calibrated), `model` (as fitted), and for the
    whole the baselines, whose intervals come from their own earlier errors. In cents. An origin without a deal at
    risk has no rows.
    """
    windows = np.asarray(sorted(horizons), dtype=float)
    final = history.live(history.as_of(np.inf))
    past: dict[float, list[dict[str, float]]] = {horizon: [] for horizon in windows}
    found: list[pd.DataFrame] = []
    for origin in sorted(origins, key=day):
        moment = day(origin)
        then = history.staged_as_of(moment)
        try:
            model = fit_forecast(then, origin, fiscal_start_month=fiscal_start_month, seed=seed)
        except ValueError:
            continue
        stamp = timestamps(np.array([moment]))[0]
        totals = simulate(model, then, _windows(moment, windows), dimensions=dimensions, scenarios=scenarios, seed=seed)
        baselines = baseline_points(then, moment, windows, model.creation, model.values)
        draws = totals.draws(ALL)[:, 0, :].astype(float)
        for k, horizon in enumerate(windows):
            record = {"origin": stamp, "actual": won_between(history, final, moment, moment + horizon)}
            record |= {name: float(points[k]) for name, points in baselines.items()}
            record |= {"model": float(np.median(draws[:, k])), "model_sd": log_sd(draws[:, k])}
            ended = [row for row in past[horizon] if day(row["origin"]) + horizon <= moment]
            calibration = fit_calibration(pd.DataFrame(ended), horizon, record["model_sd"])
            factor = _scenario_factor(draws[:, k], calibration.centre(record), calibration.spread)
            for dimension in totals.labels:
                parts = totals.draws(dimension)[:, :, k].astype(float)
                actual = _actual_by(history, final, totals, dimension, moment, horizon)
                labels = totals.labels[dimension]
                found.append(_rows("model", labels, actual, parts))
                found.append(_rows("forecast", labels, actual, parts * factor[:, None]))
                if dimension == ALL:
                    found += [_baseline_row(name, record, calibration) for name in NAMES]
                for frame in found[-(2 + (len(NAMES) if dimension == ALL else 0)) :]:
                    frame["origin"], frame["horizon_days"], frame["dimension"] = stamp, horizon, dimension
                    frame["origins_before"] = calibration.origins
            past[horizon].append(record)
    columns = ["origin", "horizon_days", "dimension", "label", "method", "point", "actual", "origins_before"]
    levels = [level_name(level) for level in LEVELS]
    if not found:
        return pd.DataFrame(columns=columns + levels)
    return pd.concat(found, ignore_index=True)[columns + levels]


def _windows(moment: float, horizons: np.ndarray) -> pd.DataFrame:
    """Periods that begin just after the moment: what was won at the moment itself is known, not forecast."""
    begin = pd.Timestamp(timestamps(np.array([moment + _SECOND]))[0])
    return pd.DataFrame(
        {
            "period_start": begin,
            "period_end": [begin + pd.Timedelta(days=float(h)) for h in horizons],
            "period_label": [f"{h:g} days" for h in horizons],
        }
    )


def log_sd(draws: np.ndarray) -> float:
    """Standard deviation of scenarios in logs, by their central 68 %."""
    low, middle, high = np.quantile(draws, [0.16, 0.5, 0.84])
    if middle <= 0:
        return 1.0
    return float(np.clip((np.log(high) - np.log(max(low, 0.01 * high))) / 2, 0.005, 2.0))


def _scenario_factor(total: np.ndarray, centre: float, spread: float) -> np.ndarray:
    """Factor of each scenario that puts the median at `centre` and stretches log distances from it."""
    middle = float(np.median(total))
    if middle <= 0:
        return np.ones(len(total))
    wanted = centre * (total / middle) ** spread
    return np.where(total > 0, wanted / np.where(total > 0, total, 1.0), 1.0)


def _actual_by(
    history: DealHistory, final: np.ndarray, totals: Totals, dimension: str, moment: float, horizon: float
) -> np.ndarray:
    if dimension == ALL:
        return np.array([won_between(history, final, moment, moment + horizon)])
    code = history.codes[dimension][final] % len(totals.labels[dimension])
    return np.array(
        [won_between(history, final[code == k], moment, moment + horizon) for k in range(len(totals.labels[dimension]))]
    )


def _rows(method: str, labels: np.ndarray, actual: np.ndarray, draws: np.ndarray) -> pd.DataFrame:
    frame = pd.DataFrame({"label": labels, "method": method, "actual": actual})
    for level, values in zip(LEVELS, np.quantile(draws, LEVELS, axis=0), strict=True):
        frame[level_name(level)] = values
    frame["point"] = frame[level_name(0.5)]
    return frame


def _baseline_row(name: str, record: Mapping[str, float], calibration: Calibration) -> pd.DataFrame:
    frame = pd.DataFrame({"label": [ALL], "method": name, "actual": record["actual"], "point": record[name]})
    for level in LEVELS:
        frame[level_name(level)] = record[name] * np.exp(norm.ppf(level) * calibration.log_error[name])
    return frame


def scores(rows: pd.DataFrame, by: Sequence[str] = ("horizon_days", "method")) -> pd.DataFrame:
    """One row per group of backtest rows: `origin_count`, `wape` (sum of absolute errors over sum of what came),
    `bias` (what was forecast over what came, minus 1), `pinball` (mean over origins and levels, over the mean of what came) and
    `coverage_50`, `coverage_80`, `coverage_95`. Rows without a point are left out.
    """
    known = rows[rows["point"].notna()]
    found = []
    for key, group in known.groupby(list(by), sort=True):
        actual = group["actual"].to_numpy(float)
        scale = max(float(actual.mean()), 1e-9)
        losses = []
        for level in LEVELS:
            gap = actual - group[level_name(level)].to_numpy(float)
            losses.append(np.maximum(level * gap, (level - 1) * gap).mean())
        row = dict(zip(by, key if isinstance(key, tuple) else (key,), strict=True))
        row |= {
            "origin_count": len(group),
            "wape": float(np.abs(actual - group["point"]).mean()) / scale,
            "bias": float(group["point"].mean()) / scale - 1,
            "pinball": float(np.mean(losses)) / scale,
        }
        for mass in (0.5, 0.8, 0.95):
            low, high = (group[level_name(round(level, 3))] for level in ((1 - mass) / 2, (1 + mass) / 2))
            row[f"coverage_{mass * 100:.0f}"] = float(((low <= actual) & (actual <= high)).mean())
        found.append(row)
    return pd.DataFrame(found)


def calibrate(
    totals: Totals, points: Mapping[float, Mapping[str, float]], calibrations: Sequence[Calibration]
) -> Totals:
    """Scenarios in use, moved and stretched as earlier origins say.

    Parameters
    ----------
    totals : as simulated; points : horizon -> method -> point as of the same moment, with `model`.
    calibrations : one per horizon. Beyond the last one its correction stays.

    Returns
    -------
    Totals whose parts still add up, scenario by scenario.
    """
    ordered = sorted(calibrations, key=lambda each: each.horizon)
    if not ordered:
        return totals
    at = np.array([each.horizon for each in ordered])
    model = np.array([points[each.horizon]["model"] for each in ordered])
    centre = np.array([each.centre(points[each.horizon]) for each in ordered])
    # What the longer window has over the shorter one is put between their ends, so that each window has its own centre.
    with np.errstate(divide="ignore", invalid="ignore"):
        between = np.diff(centre, prepend=0.0) / np.diff(model, prepend=0.0)
    whole = centre[-1] / model[-1] if model[-1] > 0 else 1.0
    factor = np.append(np.clip(np.where(np.isfinite(between), between, whole), 0.25, 4.0), whole)
    begin, end = np.concatenate([[0.0], totals.block_end[:-1]]), totals.block_end
    low, high = np.concatenate([[0.0], at]), np.concatenate([at, [np.inf]])
    shared = np.maximum(np.minimum(end[:, None], high) - np.maximum(begin[:, None], low), 0.0)
    middle = (begin + end) / 2
    return totals.adjusted(
        shared @ factor / shared.sum(axis=1), np.interp(middle, at / 2, [each.spread for each in ordered])
    )
