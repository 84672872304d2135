"""Sums over deals as distributions: won so far, from open deals, from deals not yet created, by period and group.

Belongs here: fitting all that a forecast needs, scenarios, quantiles of sums. Does not: how far they may be
believed (`ml.forecast.backtest`).

Method. Monte Carlo scenarios. In each one every month has its own factor on all hazards of winning (a shared
frailty: deals of one month are won or missed together) and its own factor on creation; given these, open deals are
drawn one by one and new won deals as a compound Poisson sum. One draw of a deal serves every group that it is in:
any sum of parts is a distribution over the same scenarios. Medians of parts need not add up to the median of
their sum, nor P90s to its P90: parts rarely have their good quarter together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from ml.forecast.hazard import (
    HazardModel,
    all_months,
    doubted,
    fit_hazard,
    incidence,
    incidence_of_new,
    with_months,
)
from ml.forecast.history import OPEN, WON, DealHistory, day
from ml.forecast.new_business import (
    BLOCK_DAYS,
    Creation,
    Values,
    fit_creation,
    fit_values,
    group_labels,
    group_shares,
    group_values,
)
from ml.forecast.person_periods import WEEK, Calendar

SCENARIOS = 1000
LEVELS = (0.025, 0.05, 0.10, 0.25, 0.50, 0.75, 0.90, 0.95, 0.975)
ALL = "all"
"""Dimension with one group: everything."""

PARTS = ("won", "open", "new", "total")

_DEALS_AT_ONCE = 16_384
_DEALS_OF_PATHS = 1_000


@dataclass(frozen=True)
class ForecastModel:
    """All that was learnt as of a moment. `deal` speaks of open deals, `entry` of a deal from its opening."""

    as_of: float
    deal: HazardModel
    entry: HazardModel
    creation: Creation
    values: Values


def fit_forecast(history: DealHistory, as_of: object, *, fiscal_start_month: int = 1, seed: int = 0) -> ForecastModel:
    """Fit everything on what was known at a moment.

    Raises
    ------
    ValueError
        No deal was at risk for a whole week by then.
    """
    moment = day(as_of)
    deal = fit_hazard(history, as_of, fiscal_start_month=fiscal_start_month, seed=seed)
    entry = deal
    if deal.from_landmarks:
        entry = fit_hazard(history, as_of, with_features=False, fiscal_start_month=fiscal_start_month, seed=seed)
    months = all_months(deal, entry)
    if months is not None:
        deal = with_months(deal, months)
    return ForecastModel(moment, deal, entry, fit_creation(history, moment), fit_values(history, moment, seed=seed))


@dataclass(frozen=True)
class Totals:
    """Scenarios of won value in cents.

    Attributes
    ----------
    periods : `period_start`, `period_end` (exclusive), `period_label`, one row per period; they may overlap.
    labels : dimension -> its groups.
    won : dimension -> won so far, shape (groups, periods).
    open, new : dimension -> shape (scenarios, groups, blocks), float32. Blocks are months, cut at the as-of moment and at
        the ends of periods.
    block_end : days after the as-of moment, shape (blocks,); in_period : shape (blocks, periods), 0 or 1.
    block_month : months from that of the as-of moment on, shape (blocks,).
    """

    as_of: float
    periods: pd.DataFrame
    labels: dict[str, np.ndarray]
    won: dict[str, np.ndarray]
    open: dict[str, np.ndarray]
    new: dict[str, np.ndarray]
    block_end: np.ndarray
    in_period: np.ndarray
    block_month: np.ndarray

    def draws(self, dimension: str = ALL, part: str = "total") -> np.ndarray:
        """Scenarios of a part, shape (scenarios, groups, periods)."""
        if part not in PARTS:
            raise ValueError(f"part must be one of {', '.join(PARTS)}, got {part!r}")
        won = self.won[dimension][None].astype(np.float32)
        if part == "won":
            return np.repeat(won, len(self.open[dimension]), axis=0)
        kept = {"open": ("open",), "new": ("new",), "total": ("open", "new")}[part]
        blocks = sum(getattr(self, name)[dimension] for name in kept)
        total = blocks @ self.in_period.astype(np.float32)
        return total + won if part == "total" else total

    def quantiles(
        self,
        dimensions: Sequence[str] | None = None,
        parts: Sequence[str] = ("total",),
        levels: Sequence[float] = LEVELS,
    ) -> pd.DataFrame:
        """One row per dimension, group, period and part: `mean` and a column per level (`p10` = 10 %), in cents."""
        frames = []
        for dimension in dimensions or list(self.labels):
            groups, periods = len(self.labels[dimension]), len(self.periods)
            for part in parts:
                draws = self.draws(dimension, part)
                draws = np.sort(draws.reshape(len(draws), -1), axis=0)
                # Linear between order statistics; sorting once is all the work.
                place = np.asarray(levels) * (len(draws) - 1)
                low = np.floor(place).astype(int)
                high = np.minimum(low + 1, len(draws) - 1)
                found = draws[low] + (place - low)[:, None] * (draws[high] - draws[low])
                frame = pd.DataFrame(
                    {
                        "dimension": dimension,
                        "label": np.repeat(self.labels[dimension], periods),
                        "period_label": np.tile(self.periods["period_label"].to_numpy(), groups),
                        "part": part,
                        "mean": draws.mean(axis=0, dtype=np.float64),
                    }
                )
                for level, values in zip(levels, found, strict=True):
                    frame[level_name(level)] = values
                frames.append(frame)
        return pd.concat(frames, ignore_index=True)

    def adjusted(self, centre: np.ndarray, spread: np.ndarray) -> Totals:
        """The same scenarios with each block's sum over everything moved and stretched; parts keep their shares in it.

        Within a scenario and block all groups and both parts are multiplied by one factor, so sums of parts remain
        the totals.

        Parameters
        ----------
        centre : factor on each block's median, shape (blocks,); spread : factor on log distances from it, shape (blocks,) or
            (scenarios, blocks).
        """
        total = (self.open[ALL] + self.new[ALL])[:, 0, :].astype(np.float64)
        middle = np.median(total, axis=0)
        # In logs, so that a stretched scenario never falls under 0.
        wanted = centre * middle * (total / np.where(middle > 0, middle, 1.0)) ** spread
        factor = np.where((total > 0) & (middle > 0), wanted / np.where(total > 0, total, 1.0), centre)[
            :, None, :
        ].astype(np.float32)
        return replace(
            self,
            open={name: draws * factor for name, draws in self.open.items()},
            new={name: draws * factor for name, draws in self.new.items()},
        )


def level_name(level: float) -> str:
    """0.1 -> p10, 0.025 -> p02_5."""
    percent = round(level * 1000)
    return f"p{percent // 10:02d}" + (f"_{percent % 10}" if percent % 10 else "")


def month_periods(first: object, count: int, *, months: int = 1) -> pd.DataFrame:
    """Periods of whole months from the month of `first` on: months=3 gives quarters."""
    starts = pd.period_range(pd.Timestamp(first), periods=count * months + 1, freq="M").to_timestamp()[::months]  # type: ignore[arg-type]
    labels = [f"{start:%Y-%m}" if months == 1 else f"{start:%Y-%m} +{months}" for start in starts[:-1]]
    return pd.DataFrame({"period_start": starts[:-1], "period_end": starts[1:], "period_label": labels})


def simulate(
    model: ForecastModel,
    history: DealHistory,
    periods: pd.DataFrame,
    *,
    dimensions: Sequence[str] = (),
    scenarios: int = SCENARIOS,
    seed: int = 0,
) -> Totals:
    """Scenarios of what will have been won per period and group.

    Parameters
    ----------
    periods : `period_start`, `period_end`, `period_label`; may overlap (months and quarters) and may have begun.
    dimensions : columns of codes in the history, the finest first ("owner", then "team", "product"). The first one
        sets the sum of new business; the others share it out.

    Raises
    ------
    ValueError
        An unknown dimension, or periods that all ended before the as-of moment.
    """
    unknown = [name for name in dimensions if name not in history.codes]
    if unknown:
        raise ValueError(f"dimensions must be columns of the deal versions, unknown: {', '.join(unknown)}")
    moment = model.as_of
    generator = np.random.default_rng(seed)
    starts, ends = days_of(periods["period_start"]), days_of(periods["period_end"])
    edges, in_period = _blocks(moment, starts, ends)
    block_start = np.concatenate([[0.0], edges[:-1]])
    calendar = Calendar.over(moment, moment + float(edges[-1]))
    months = calendar.month_of(moment + block_start)
    months = months - months[0]

    labels = {ALL: np.array([ALL], dtype=object)} | {name: group_labels(history, name) for name in dimensions}
    now = history.live(history.as_of(moment))

    def code_of(name: str, rows: np.ndarray) -> np.ndarray:
        if name == ALL:
            return np.zeros(len(rows), dtype=np.int64)
        return (history.codes[name][rows] % len(labels[name])).astype(np.int64)

    won_rows = now[(history.status[now] == WON) & np.isfinite(history.amount[now])]
    won = {name: np.zeros((len(labels[name]), len(periods))) for name in labels}
    for number, (low, high) in enumerate(zip(starts, ends, strict=True)):
        rows = won_rows[(history.closed[won_rows] >= low) & (history.closed[won_rows] < high)]
        for name in labels:
            won[name][:, number] = np.bincount(
                code_of(name, rows), weights=history.amount[rows], minlength=len(labels[name])
            )

    # The factor of each month on all hazards of winning, and the doubts about their level and about the season; mean 1.
    sd, drift_sd = model.deal.spread.month_sd, model.deal.spread.drift_sd
    season_sd, level_sd = model.deal.season_sd, model.deal.level_sd
    by_season = generator.standard_normal((scenarios, 3))
    # What the three months of the quarter have in common is the level.
    by_season -= by_season.mean(axis=1, keepdims=True)
    month_no = np.arange(int(months.max()) + 1)
    # The level is that of now; from month to month it drifts.
    steps = generator.standard_normal((scenarios, len(month_no))) * (month_no > 0)
    month_factor = np.exp(
        sd * generator.standard_normal((scenarios, len(month_no)))
        + season_sd * by_season[:, month_no % 3]
        + level_sd * generator.standard_normal((scenarios, 1))
        + drift_sd * np.cumsum(steps, axis=1)
        - (sd**2 + season_sd**2 * 2 / 3 + level_sd**2 + drift_sd**2 * month_no) / 2
    )
    factor = month_factor[:, months]
    rows = now[history.status[now] == OPEN]
    found = incidence(model.deal, history, rows, np.full(len(rows), moment), edges)
    amount = history.amount[rows]
    priced = np.isfinite(amount) & (amount > 0)
    open_draws = _open_draws(
        np.ascontiguousarray(found.won_hazard.T),
        np.ascontiguousarray(found.lost_hazard.T),
        factor.astype(np.float32),
        np.where(priced, amount, model.values.mean).astype(np.float32),
        priced,
        model.values,
        {name: code_of(name, rows) for name in labels},
        {name: len(labels[name]) for name in labels},
        generator,
    )
    new_draws = _new_draws(model, history, labels, dimensions, edges, factor, generator)
    # Other effects that the fit might as well have found: each moves what is won by block, all groups alike.
    by_part = coefficient_paths(model, history, edges, seed=seed)
    for draws, paths in zip((open_draws, new_draws), by_part, strict=True):
        path = paths[generator.integers(0, len(paths), scenarios)].astype(np.float32)[:, None, :]
        for name in draws:
            draws[name] = draws[name] * path
    return Totals(moment, periods.reset_index(drop=True), labels, won, open_draws, new_draws, edges, in_period, months)


def coefficient_paths(
    model: ForecastModel, history: DealHistory, edges: np.ndarray, *, seed: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """What is expected to be won by block under each of `HazardModel.doubts`, over their mean: of open and of new deals.

    Parameters
    ----------
    edges : ends of the blocks in days after the moment, shape (blocks,). Of many open deals some are drawn.

    Returns
    -------
    Two arrays of shape (draws, blocks).
    """
    rows = history.live(history.as_of(model.as_of))
    rows = rows[history.status[rows] == OPEN]
    if len(rows) > _DEALS_OF_PATHS:
        rows = np.random.default_rng(seed).choice(rows, _DEALS_OF_PATHS, replace=False)
    amount = history.amount[rows]
    worth = np.where(np.isfinite(amount) & (amount > 0), amount, max(model.values.mean, 1.0))
    start = np.full(len(rows), model.as_of)
    by_open = [
        np.diff(worth @ incidence(doubted(model.deal, draw), history, rows, start, edges).won, prepend=0.0)
        for draw in model.deal.doubts
    ]
    weeks = int(np.ceil(edges[-1] / WEEK))
    begin = WEEK * (np.arange(weeks) + 0.5)
    grid = WEEK * np.arange(weeks + 1)
    by_new = []
    for draw in model.entry.doubts:
        won = incidence_of_new(doubted(model.entry, draw), model.as_of + begin, weeks)
        by_edge = [np.interp(np.maximum(edges - at, 0.0), grid, each) for at, each in zip(begin, won, strict=True)]
        by_new.append(np.diff(np.sum(by_edge, axis=0), prepend=0.0))
    return _over_mean(by_open, len(edges)), _over_mean(by_new, len(edges))


def _over_mean(paths: Sequence[np.ndarray], blocks: int) -> np.ndarray:
    if not paths:
        return np.ones((1, blocks))
    found = np.array(paths)
    mean = found.mean(axis=0)
    return np.where(mean > 0, found / np.where(mean > 0, mean, 1.0), 1.0)


def doubt_sd(model: ForecastModel, totals: Totals) -> np.ndarray:
    """How much of the spread of scenarios is doubt of the model itself, and not chance of the periods: standard deviation in logs, shape
    (periods,).

    The level of the hazards moves everything, that of creation the share which is not yet created; and what months differ by from the
    hazards' expectations, beyond what nobody foresees, is the hazards' doing. Other effects that the fit might have found are not among it:
    they are what a model is believed to be wrong by anyway (`ml.forecast.backtest.PRIOR_OWN_ERROR`).
    """
    block = {part: getattr(totals, part)[ALL][:, 0, :].mean(axis=0, dtype=np.float64) for part in ("open", "new")}
    inside = totals.in_period.astype(float)
    total = totals.draws(ALL)[:, 0, :].mean(axis=0, dtype=np.float64)
    over = 1.0 / np.where(total > 0, total, np.inf)
    share_new = (block["new"] @ inside) * over
    month = np.eye(int(totals.block_month.max()) + 1)[totals.block_month]
    shares = month.T @ ((block["open"] + block["new"])[:, None] * inside) * over
    misfit = model.deal.spread.month_sd**2 - model.deal.spread.common_sd**2
    variance = model.deal.level_sd**2 + (share_new * model.creation.level_sd) ** 2
    return np.asarray(np.sqrt(variance + misfit * (shares**2).sum(axis=0)))


def days_of(column: pd.Series) -> np.ndarray:
    """A column of dates as float days."""
    return np.array([day(value) for value in column])


def _blocks(moment: float, starts: np.ndarray, ends: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ends of blocks in days after the moment, and which block belongs to which period."""
    last = float(ends.max(initial=-np.inf))
    if last <= moment:
        raise ValueError("every period ended before the as-of moment")
    first_month, last_month = (np.datetime64(int(value), "D").astype("datetime64[M]") for value in (moment, last + 31))
    month_starts = np.arange(first_month, last_month).astype("datetime64[D]").astype(float)
    cuts = np.unique(np.concatenate([month_starts, starts, ends]))
    edges = cuts[(cuts > moment) & (cuts <= last)]
    begin = np.concatenate([[moment], edges[:-1]])
    in_period = (begin[:, None] >= starts[None]) & (edges[:, None] <= ends[None])
    # The block that has begun belongs to the periods that have.
    in_period[0] |= (starts <= moment) & (edges[0] <= ends)
    return edges - moment, in_period.astype(np.int8)


def _open_draws(
    won_hazard: np.ndarray,
    lost_hazard: np.ndarray,
    factor: np.ndarray,
    amount: np.ndarray,
    priced: np.ndarray,
    values: Values,
    codes: dict[str, np.ndarray],
    sizes: dict[str, int],
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Deal by deal, scenario by scenario: a deal closes in the block in which its integrated hazard passes an
    exponential draw; it is won there with its share of the hazard.

    Parameters
    ----------
    won_hazard, lost_hazard : shape (blocks, deals); factor : shape (scenarios, blocks).
    """
    blocks, deals = won_hazard.shape
    scenarios = len(factor)
    result = {name: np.zeros((scenarios, size, blocks), dtype=np.float32) for name, size in sizes.items()}
    kept = values.kept.astype(np.float32)
    relative = values.relative.astype(np.float32)
    # So many deals at a time as stay in the processor's cache: three times faster than all at once.
    for low in range(0, deals, _DEALS_AT_ONCE):
        part = slice(low, low + _DEALS_AT_ONCE)
        win, lose = np.ascontiguousarray(won_hazard[:, part]), np.ascontiguousarray(lost_hazard[:, part])
        code = {name: each[part] * blocks for name, each in codes.items()}
        worth, has_amount = amount[part], priced[part]
        count = win.shape[1]
        step = np.empty(count, dtype=np.float32)
        block_of = np.empty(count, dtype=np.int16)
        still = np.empty(count, dtype=bool)
        for scenario in range(scenarios):
            left = np.asarray(generator.standard_exponential(count, dtype=np.float32))
            block_of[:] = 0
            for block in range(blocks):
                np.multiply(win[block], factor[scenario, block], out=step)
                np.add(step, lose[block], out=step)
                left -= step
                np.greater(left, 0.0, out=still)
                np.add(block_of, still, out=block_of)
            closed = np.flatnonzero(block_of < blocks)
            place = block_of[closed].astype(np.int64)
            hazard = win[place, closed] * factor[scenario, place]
            is_won = generator.random(len(closed), dtype=np.float32) * (hazard + lose[place, closed]) < hazard
            deal, place = closed[is_won], place[is_won]
            ratio = np.where(
                has_amount[deal],
                kept[generator.integers(0, len(kept), len(deal))],
                relative[generator.integers(0, len(relative), len(deal))],
            )
            value = worth[deal] * ratio
            for name, size in sizes.items():
                cell = code[name][deal] + place
                found = np.bincount(cell, weights=value, minlength=size * blocks)
                result[name][scenario] += found.reshape(size, blocks)
    return result


def _new_draws(
    model: ForecastModel,
    history: DealHistory,
    labels: dict[str, np.ndarray],
    dimensions: Sequence[str],
    edges: np.ndarray,
    factor: np.ndarray,
    generator: np.random.Generator,
) -> dict[str, np.ndarray]:
    """Compound Poisson sums: won deals that were opened after the moment. Sums of n values are gamma with n values'
    mean and variance."""
    scenarios, blocks = factor.shape
    moment, creation = model.as_of, model.creation
    weeks = int(np.ceil(edges[-1] / WEEK))
    start = WEEK * (np.arange(weeks) + 0.5)
    won = incidence_of_new(model.entry, moment + start, weeks)
    grid = WEEK * np.arange(weeks + 1)
    by_edge = np.stack(
        [np.interp(np.maximum(edges - begin, 0.0), grid, each) for begin, each in zip(start, won, strict=True)]
    )
    per_week = (
        np.diff(by_edge, axis=1, prepend=0.0)
        * creation.per_day
        * np.minimum(WEEK, np.maximum(edges[-1] - start + 3.5, 0))[:, None]
    )
    four_weeks = (start // BLOCK_DAYS).astype(int)
    shocks = generator.standard_normal((scenarios, four_weeks.max() + 1))
    walk = np.cumsum(generator.standard_normal(shocks.shape), axis=1)
    steps = np.arange(1, shocks.shape[1] + 1)
    variance = creation.block_sd**2 + creation.level_sd**2 + creation.drift_sd**2 * steps
    level = generator.standard_normal((scenarios, 1))
    log_rate = creation.block_sd * shocks + creation.level_sd * level + creation.drift_sd * walk - variance / 2
    expected = (np.exp(log_rate)[:, four_weeks] @ per_week) * factor

    def compound(name: str) -> np.ndarray:
        share = group_shares(history, moment, name) if name != ALL else np.ones(1)
        mean = group_values(history, moment, name, model.values) if name != ALL else np.array([model.values.mean])
        if name == "owner" and len(model.entry.owner_log_factor):
            converts = np.exp(np.append(model.entry.owner_log_factor, 0.0))
            share = share * converts / max(float(share @ converts), 1e-12)
        shape_each = 1.0 / max(model.values.variation, 1e-6)
        result = np.zeros((scenarios, len(share), blocks), dtype=np.float32)
        used = np.flatnonzero(share > 0)
        for scenario in range(scenarios):
            count = generator.poisson(share[used, None] * expected[scenario][None, :])
            group, block = np.nonzero(count)
            total = generator.standard_gamma(count[group, block] * shape_each, dtype=np.float32)
            result[scenario, used[group], block] = total * (mean[used][group] / shape_each)
        return result

    first = dimensions[0] if dimensions else ALL
    drawn = {first: compound(first)}
    total = drawn[first].sum(axis=1, keepdims=True)
    drawn[ALL] = total
    for name in dimensions[1:]:
        parent = _parent_of(history, moment, first, name, len(labels[first]), len(labels[name]))
        if parent is not None:
            summed = np.zeros((scenarios, len(labels[name]), blocks), dtype=np.float32)
            for child, above in enumerate(parent):
                summed[:, above] += drawn[first][:, child]
            drawn[name] = summed
            continue
        own = compound(name)
        own_total = own.sum(axis=1, keepdims=True)
        share = group_shares(history, moment, name).astype(np.float32)[None, :, None]
        drawn[name] = np.where(own_total > 0, own / np.where(own_total > 0, own_total, 1) * total, share * total)
    return drawn


def _parent_of(
    history: DealHistory, moment: float, child: str, above: str, children: int, parents: int
) -> np.ndarray | None:
    """The one group of `above` that holds all deals of each child, where there is one for every child; else None."""
    now = history.live(history.as_of(moment))
    now = now[(history.status[now] == OPEN) | (history.opened[now] > moment - 365)]
    c, p = history.codes[child][now] % children, history.codes[above][now] % parents
    pairs = np.unique(c.astype(np.int64) * parents + p)
    if len(np.unique(pairs // parents)) < len(pairs):
        return None
    result = np.full(children, parents - 1)
    result[pairs // parents] = pairs % parents
    return result
