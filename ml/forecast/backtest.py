"""How right the forecast would have been: earlier moments replayed with what was known then.

Belongs here: replaying origins, blending with the baselines, calibrating intervals, scores. Does not: the
forecast itself (`ml.forecast.totals`), the baselines (`ml.forecast.baselines`).

Method. Rolling origins (Tashman 2000): at each one everything is fitted anew on what was known. The forecast of an
origin is then calibrated on *earlier* origins whose window had ended by it, never on its own or later ones. Its centre is a
log-linear pool of the model and the baselines, weighted by the inverse of their mean squared log errors (Bates and
Granger 1969), each drawn to a prior; its bias is taken off, drawn to 0. How far it is believed to be wrong is the noise of the window
and the weighted errors of what is pooled: what the model's scenarios doubt of the model itself counts by the model's weight alone.
Its spread is learnt from errors that it made *when it was made*, with the weights and the bias of then (prequential, Dawid 1984):
errors of the windows that weights and bias were fitted on are too small. The spread stays uncertain: intervals are the
predictive quantiles over a scale (log-normal prior) and a shape (Student's t: one month out of all order must not widen all others),
weighted by the windows that were seen. Windows overlap: they count as many as a series with that overlap is worth (Bayley and
Hammersley 1946).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm, t

from ml.forecast.baselines import NAMES, baseline_points, won_between
from ml.forecast.history import DealHistory, day, days, timestamps
from ml.forecast.totals import ALL, LEVELS, SCENARIOS, Totals, doubt_sd, fit_forecast, level_name, simulate

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

SHAPES = (4.0, 8.0, 100.0)
"""Degrees of freedom that errors beyond the scenarios may have, each as likely as the other beforehand: fat tails to none."""

MOST_DOUBT = 0.8
"""No more of the variance of scenarios than this is doubt of the model itself."""

_SECOND = 1.0 / 86_400
_SCORES = np.arange(0.25, 3.01, 0.25)
_MOST_LOG_ERROR = 1.5


@dataclass(frozen=True)
class Calibration:
    """What earlier origins say of forecasts over one horizon.

    Attributes
    ----------
    weights : method -> share in the pool; sums to 1.
    bias : log of what came over the pool, to be added.
    spread : factor on log distances from the median, at P10 and P90.
    log_error : method -> root mean square log error, for intervals of the baselines alone.
    origins : origins looked at; independent : windows that fit between them.
    believed : what the spread would be if nothing were learnt of it: standard deviation of the pool's error over that of the scenarios.
    stretch : `spread` at the normal scores 0.25, 0.5 ... 3 of a scenario; empty where it is the same at all.
    """

    horizon: float
    weights: dict[str, float]
    bias: float
    spread: float
    log_error: dict[str, float]
    origins: int
    independent: float
    believed: float = 1.0
    stretch: tuple[float, ...] = ()

    def spread_at(self, scores: np.ndarray) -> np.ndarray:
        """Factor on log distances from the median of scenarios with these normal scores, the same shape."""
        if not self.stretch:
            return np.full(np.shape(scores), self.spread)
        return np.interp(np.abs(scores), _SCORES, self.stretch)

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


def fit_calibration(
    past: pd.DataFrame,
    horizon: float,
    model_sd: float | None = None,
    doubt: float = 0.0,
    pooled: Collection[str] | None = None,
) -> Calibration:
    """Learn from origins whose windows have ended.

    Parameters
    ----------
    past : rows of one horizon: `origin`, `actual`, a column per method, `model_sd` (standard deviation of the model's
        scenarios in logs), and where they are known `doubt_sd` (the part of it that is doubt of the model) and what was said at the time,
        `centre` and `issued_sd` (else it is replayed). May be empty: the prior holds.
    model_sd, doubt : the same of the forecast that is to be calibrated, where there is one.
    pooled : methods that have a point now; None = those that had one at the last of these origins. What the others would be wrong by
        is in no pool.
    """
    usable = past[past["model"] > 0] if len(past) else past
    n = len(usable)
    if n and "centre" not in usable:
        usable = _as_issued(usable, horizon)
    pool = _fit_pool(usable, horizon, model_sd, doubt, pooled)
    standardised, worth = np.empty(0), 0.0
    if n:
        standardised = _log_errors(usable["actual"], usable["centre"]) / usable["issued_sd"].to_numpy(float)
        standardised = standardised[np.isfinite(standardised)]
        worth = _worth(days(usable["origin"]), horizon) / n
    stretch = pool.believed * predictive_quantiles(standardised, np.full(len(standardised), worth)) / _SCORES
    spread = float(np.interp(norm.ppf(0.9), _SCORES, stretch))
    return replace(pool, spread=spread, stretch=tuple(stretch.tolist()))


def _fit_pool(
    usable: pd.DataFrame, horizon: float, model_sd: float | None, doubt: float, pooled: Collection[str] | None
) -> Calibration:
    """Weights, bias and what the pool is believed to be wrong by, of windows that have ended; nothing learnt of the spread yet."""
    methods = ("model", *NAMES)
    n = len(usable)
    moments = days(usable["origin"]) if n else np.empty(0)
    independent = min(float(n), (moments.max() - moments.min()) / horizon + 1) if n else 0.0
    share = independent / n if n else 0.0
    sds = usable["model_sd"].to_numpy(float) if n else np.empty(0)
    doubts = usable["doubt_sd"].to_numpy(float) if n and "doubt_sd" in usable else np.zeros(n)
    all_sds, all_doubts = (sds, doubts) if model_sd is None else (np.append(sds, model_sd), np.append(doubts, doubt))
    if len(all_sds) == 0:
        all_sds, all_doubts = np.array([PRIOR_NOISE]), np.zeros(1)
    all_doubts = np.minimum(np.nan_to_num(all_doubts) ** 2, MOST_DOUBT * all_sds**2)
    windows = all_sds**2 - all_doubts
    noise = float(np.sqrt(windows.mean()))
    prior = prior_own_squares(noise)
    # The model is wrong by no less than what it says itself.
    prior["model"] = max(prior["model"], float(all_doubts.mean()))
    own: dict[str, float] = {}
    for name in methods:
        missed = _log_errors(usable["actual"], usable[name]) if n else np.empty(0)
        known = np.isfinite(missed)
        beyond = float((missed[known] ** 2 - windows[:n][known]).sum()) if n else 0.0
        own[name] = (share * max(beyond, 0.0) + PRIOR_ORIGINS * prior[name]) / (
            share * float(known.sum()) + PRIOR_ORIGINS
        )
    raw = {name: own[name] ** -SHARPNESS for name in methods}
    total = sum(raw.values())
    weights = {name: value / total for name, value in raw.items()}
    # The pool is wrong by the noise of the window and by what those methods that are in it are wrong by beyond it.
    if pooled is None:
        pooled = with_points(usable.iloc[int(np.argmax(moments))].to_dict()) if n else methods
    inside = [name for name in methods if name in pooled] or ["model"]
    mass = sum(weights[name] for name in inside)
    error = noise**2 + sum((weights[name] / mass) ** 2 * own[name] for name in inside)
    believed = float(np.sqrt(error / (all_sds**2).mean()))
    log_error = {name: float(np.sqrt(value + noise**2)) for name, value in own.items()}
    plain = Calibration(horizon, weights, 0.0, believed, log_error, n, independent, believed)
    if n == 0:
        return plain
    centre = [plain.centre(dict(zip(methods, row, strict=True))) for row in usable[list(methods)].to_numpy(float)]
    missed = _log_errors(usable["actual"], pd.Series(centre))
    missed = missed[np.isfinite(missed)]
    bias = float(missed.mean()) * independent / (independent + PRIOR_ORIGINS) if len(missed) else 0.0
    return replace(plain, bias=bias)


def with_points(record: Mapping[Any, Any]) -> tuple[str, ...]:
    """Methods that say something of a window: those whose point is above 0."""
    return tuple(name for name in ("model", *NAMES) if record.get(name, np.nan) > 0)


def _as_issued(past: pd.DataFrame, horizon: float) -> pd.DataFrame:
    """With `centre` and `issued_sd`: what would have been said at each origin, of windows that had ended by then."""
    ordered = past.assign(_moment=days(past["origin"])).sort_values("_moment").reset_index(drop=True)
    if "doubt_sd" not in ordered:
        ordered["doubt_sd"] = 0.0
    moments = ordered["_moment"].to_numpy()
    centre, issued_sd = np.empty(len(ordered)), np.empty(len(ordered))
    records: list[dict[str, Any]] = ordered.to_dict("records")  # type: ignore[assignment]
    for number, row in enumerate(records):
        # In order of time: those whose windows had ended are the first ones.
        ended = ordered.iloc[: int(np.searchsorted(moments + horizon, moments[number], side="right"))]
        known = _fit_pool(ended, horizon, row["model_sd"], row["doubt_sd"], with_points(row))
        centre[number], issued_sd[number] = known.centre(row), row["model_sd"] * known.believed
    return ordered.drop(columns="_moment").assign(centre=centre, issued_sd=issued_sd)


def _worth(moments: np.ndarray, horizon: float) -> float:
    """How many independent squared errors those of windows from these moments are worth, 1 to their number.

    Errors of two windows are correlated by the share r that they have in common, their squares by r squared; n values with
    correlations c are worth n^2 / sum of c (Bayley and Hammersley 1946).
    """
    common = np.maximum(1.0 - np.abs(moments[:, None] - moments[None, :]) / horizon, 0.0)
    return float(len(moments) ** 2 / (common**2).sum())


@cache
def _scale_grid() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Scales, log of their prior, distances, and P(error < distance), shape (shapes, scales, distances)."""
    # Known as well as from so many errors: the log of a standard deviation estimated from n has 1 / (2 n) for variance.
    sd = 1.0 / np.sqrt(2.0 * PRIOR_ORIGINS)
    log_scale = np.linspace(-6.0 * sd, 6.0 * sd, 73)
    distance = np.concatenate([np.linspace(0.0, 6.0, 121), np.geomspace(6.1, 120.0, 60)])
    scale = np.exp(log_scale)
    below = np.stack([t.cdf(distance[None, :] / scale[:, None], shape) for shape in SHAPES])
    return scale, -0.5 * (log_scale / sd) ** 2, distance, below


def predictive_quantiles(errors: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """How far the next error may lie: quantiles at the normal scores 0.25, 0.5 ... 3 of one of which neither scale nor shape is certain.

    Errors are Student's t around 0 with a scale and one of `SHAPES` degrees of freedom. The scale is 1 by belief (log-normal, worth
    `PRIOR_ORIGINS` errors). The quantiles are of the predictive distribution, the mixture over what is still believed of both: few errors
    leave it wider than the best fit, as a t quantile is wider than a normal one (Geisser 1993, "Predictive inference").

    Parameters
    ----------
    errors : standardised by what was believed, shape (n,), may be empty; counts : what each is worth (a power of its
        likelihood: overlapping windows are less than one), shape (n,).
    """
    scale, log_prior, distance, below = _scale_grid()
    log_weight = np.repeat(log_prior[None, :], len(SHAPES), axis=0)
    for number, shape in enumerate(SHAPES):
        density = t.logpdf(errors[:, None] / scale[None, :], shape) - np.log(scale)
        log_weight[number] += counts @ density
    weight = np.exp(log_weight - log_weight.max())
    mixed = np.tensordot(weight / weight.sum(), below, axes=2)
    return np.interp(norm.cdf(_SCORES), mixed, distance)


def calibrations_of(rows: pd.DataFrame) -> list[Calibration]:
    """One calibration per horizon from the rows of a `backtest`, of which all windows have ended.

    The spread of the model's scenarios is read from their P10 and P90, what they doubt of the model from `doubt_sd` where it is.
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
        past["doubt_sd"] = model["doubt_sd"].astype(float).reindex(past.index) if "doubt_sd" in model else 0.0
        found.append(fit_calibration(past.reset_index(), float(horizon)))
    return found


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
    `ml.forecast.totals.LEVELS`, `origins_before` (calibrated on), `doubt_sd` (of the model's row of the whole: how much of its spread
    in logs is doubt of the model). Methods: `forecast` (calibrated), `model` (as fitted), and for the whole the baselines, whose
    intervals come from their own earlier errors. In cents. An origin without a deal at risk has no rows.
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
        doubts = doubt_sd(model, totals)
        for k, horizon in enumerate(windows):
            record = {"origin": stamp, "actual": won_between(history, final, moment, moment + horizon)}
            record |= {name: float(points[k]) for name, points in baselines.items()}
            record |= {"model": float(np.median(draws[:, k])), "model_sd": log_sd(draws[:, k]), "doubt_sd": doubts[k]}
            ended = [row for row in past[horizon] if day(row["origin"]) + horizon <= moment]
            calibration = fit_calibration(
                pd.DataFrame(ended), horizon, record["model_sd"], record["doubt_sd"], with_points(record)
            )
            record["centre"] = calibration.centre(record)
            record["issued_sd"] = record["model_sd"] * calibration.believed
            factor = _scenario_factor(draws[:, k], record["centre"], calibration)
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
                    of_model = dimension == ALL and frame["method"].iloc[0] == "model"
                    frame["doubt_sd"] = record["doubt_sd"] if of_model else np.nan
            past[horizon].append(record)
    columns = [
        "origin",
        "horizon_days",
        "dimension",
        "label",
        "method",
        "point",
        "actual",
        "origins_before",
        "doubt_sd",
    ]
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


def normal_scores(values: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of the ranks along the first axis, the same shape."""
    rank = np.argsort(np.argsort(values, axis=0, kind="stable"), axis=0)
    return np.asarray(norm.ppf((np.arange(len(values)) + 0.5) / max(len(values), 1)))[rank]


def _scenario_factor(total: np.ndarray, centre: float, calibration: Calibration) -> np.ndarray:
    """Factor of each scenario that puts the median at `centre` and stretches log distances from it."""
    middle = float(np.median(total))
    if middle <= 0:
        return np.ones(len(total))
    wanted = centre * (total / middle) ** calibration.spread_at(normal_scores(total))
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
    # Between two horizons the spread goes from one's to the other's; a horizon's is that of its middle.
    place = np.clip(np.interp((begin + end) / 2, at / 2, np.arange(len(at))), 0, len(at) - 1)
    near = np.minimum(place.astype(int), max(len(at) - 2, 0))
    scores = normal_scores((totals.open[ALL] + totals.new[ALL])[:, 0, :])
    by_horizon = [each.spread_at(scores) for each in ordered]
    spread = np.empty_like(scores)
    for block, (low_at, share) in enumerate(zip(near, place - near, strict=True)):
        high_at = min(low_at + 1, len(at) - 1)
        spread[:, block] = (1 - share) * by_horizon[low_at][:, block] + share * by_horizon[high_at][:, block]
    return totals.adjusted(shared @ factor / shared.sum(axis=1), spread)
