"""The forecast on simulated companies whose hazards are known: do the intervals hold, and is P(won by D) calibrated?

``uv run python -m tests.trials.forecast_company --seeds 30``; ``--size`` times 1,000,000 deals instead, ``--volume`` has many deals and ten
months of closings, dates, amounts and owners alone: with ``--seeds 40`` 13 minutes.
"""

from __future__ import annotations

import argparse
import gc
import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from ml.forecast.backtest import backtest, scores
from ml.forecast.hazard import deal_forecasts, fit_hazard
from ml.forecast.history import WON, DealHistory, day, versions_of_deals
from ml.forecast.months import PRIOR_DRIFT_SD, PRIOR_MONTH_SD
from ml.forecast.totals import fit_forecast, month_periods, simulate

FIRST_DAY = pd.Timestamp("2023-01-02")
STAGES = ("discovery", "proposal", "negotiation")
WIN_PER_WEEK = np.array([0.004, 0.02, 0.07])
LOSE_PER_WEEK = np.array([0.035, 0.025, 0.02])
ADVANCE_PER_WEEK = np.array([0.14, 0.12, 0.0])
BACK_PER_WEEK = 0.01
SEASON = np.array([0.75, 0.95, 1.3])
"""Factor on winning by month of the quarter."""

TOUCHES_PER_WEEK = 0.5
INTEREST_SD = 1.1
INTEREST_KEPT = 0.9
"""An account's interest, the log of its touches per week, wanders; of each week so much stays in the next."""

TYPICAL_TOUCHES = 3.0
MONTH_SD = 0.15
CREATION_SD = 0.15
OWNER_SD = 0.3


@dataclass(frozen=True)
class Company:
    """Deal versions up to the end, all of them; `weeks` were simulated."""

    versions: pd.DataFrame
    weeks: int
    engagement: pd.DataFrame
    """`account`, `known_from`, `value`: touches of the 28 days before a day, whenever they became other ones."""

    def history(self, *, with_engagement: bool = True) -> DealHistory:
        history = DealHistory.from_versions(self.versions, stages=STAGES, groups=["team"])
        if not (with_engagement and len(self.engagement)):
            return history
        return history.with_account_series(
            {"engagement": self.engagement}, begins={"engagement": day(FIRST_DAY) + 28}, before={"engagement": 0.0}
        )


def company(
    seed: int,
    *,
    weeks: int = 130,
    deals_per_week: float = 25.0,
    owners: int = 12,
    stuck: float = 0.0,
    engagement: float = 0.0,
    month_sd: float = MONTH_SD,
    drift_sd: float = 0.0,
) -> Company:
    """Planted weekly hazards: by stage, age, owner, month of the quarter, and a factor that a month has by itself.

    Parameters
    ----------
    stuck : share of deals that never move, are never won, and are seldom lost.
    engagement : exponent with which an account's touches of the last four weeks, over a typical number, multiply its chance to win;
        half of it counts against losing, and a third more for what has grown since four weeks before. 0 = nobody touches anything.
    month_sd : standard deviation in logs of the factor of a month; drift_sd : of the step of the level from month to month.
    """
    generator = np.random.default_rng(seed)
    months = int(weeks / 4) + 3
    month_factor = np.exp(generator.normal(0, month_sd, months) - month_sd**2 / 2)
    if drift_sd:
        # By a generator of its own: the same company otherwise.
        month_factor *= np.exp(np.cumsum(np.random.default_rng([seed, 2]).normal(0, drift_sd, months)))
    creation_factor = np.exp(generator.normal(0, CREATION_SD, months))
    owner_factor = np.exp(generator.normal(0, OWNER_SD, owners))
    begin = FIRST_DAY + pd.to_timedelta(7 * np.arange(weeks), unit="D")
    month_no = (begin.year - begin[0].year) * 12 + begin.month - begin[0].month
    day_no = FIRST_DAY + pd.to_timedelta(np.arange(7 * weeks), unit="D")
    month_of_day = ((day_no.year - FIRST_DAY.year) * 12 + day_no.month - FIRST_DAY.month).to_numpy()
    count = generator.poisson(deals_per_week * creation_factor[month_no])
    opened_week = np.repeat(np.arange(weeks), count)
    n = len(opened_week)
    opened = 7.0 * opened_week + generator.random(n) * 7
    owner = generator.integers(0, owners, n)
    amount = np.round(np.exp(generator.normal(13.5, 0.9, n)))
    promised = opened + generator.normal(90, 25, n).clip(20)
    never = generator.random(n) < stuck
    account, touches = _touches(seed, n, weeks) if engagement else (np.arange(n), np.zeros((0, 0), dtype=np.int64))
    stage = np.zeros(n, dtype=np.int64)
    status = np.zeros(n, dtype=np.int8)
    closed = np.full(n, np.nan)
    found: list[tuple[np.ndarray, ...]] = []

    def note(which: np.ndarray, known: np.ndarray) -> None:
        found.append((*tuple(a[which].copy() for a in (status, stage, amount, promised, closed)), which, known))

    first = np.concatenate([[0], np.cumsum(count)])
    alive = np.empty(0, dtype=np.int64)
    for week in range(weeks):
        at = 7.0 * week
        born = np.arange(first[week], first[week + 1])
        note(born, opened[born])
        # A deal is first at risk in the week after its opening.
        moment = at + 7 * generator.random(len(alive))
        # Months begin and end within weeks.
        month = month_of_day[moment.astype(np.int64)]
        season = SEASON[month % 3] * month_factor[month]
        age = (at - opened[alive]) / 7
        slow = np.where(age > 30, 0.4, 1.0) * ~never[alive]
        win = WIN_PER_WEEK[stage[alive]] * owner_factor[owner[alive]] * season * slow
        lose = LOSE_PER_WEEK[stage[alive]] * np.where(never[alive], 0.1, 1.0)
        if engagement:
            now, before = (touches[account[alive], max(at_week, 0)] for at_week in (week, week - 4))
            warm = np.log((now + 1) / (TYPICAL_TOUCHES + 1))
            rise = np.log((now + 1) / (before + 1)) / 3
            win = win * np.exp(engagement * (warm + rise))
            lose = lose * np.exp(-engagement / 2 * warm)
        u = generator.random(len(alive))
        won, lost = alive[u < win], alive[(u >= win) & (u < win + lose)]
        gone = u < win + lose
        amount[won] = np.round(amount[won] * np.exp(generator.normal(-0.05, 0.15, len(won))))
        status[won], status[lost] = 1, 2
        closed[alive[gone]] = moment[gone]
        note(alive[gone], moment[gone])
        alive, moment = alive[~gone], moment[~gone]
        move = generator.random(len(alive))
        forward = (move < ADVANCE_PER_WEEK[stage[alive]]) & ~never[alive]
        back = (move > 1 - BACK_PER_WEEK) & (stage[alive] > 0)
        late = (promised[alive] < moment) & (generator.random(len(alive)) < 0.6)
        stage[alive] += forward.astype(int) - back.astype(int)
        promised[alive[late]] = moment[late] + 30
        changed = forward | back | late
        note(alive[changed], moment[changed])
        alive = np.concatenate([alive, born])
    columns = [np.concatenate(parts) for parts in zip(*found, strict=True)]
    v_status, v_stage, v_amount, v_promised, v_closed, deal, known = columns

    def dates(values: np.ndarray) -> np.ndarray:
        return FIRST_DAY.to_datetime64() + np.where(np.isnan(values), np.nan, values * 86_400).astype("timedelta64[s]")

    versions = pd.DataFrame(
        {
            "deal_id": deal,
            "known_from": dates(known),
            "status": np.array(["open", "won", "lost"], dtype=object)[v_status],
            "opened_at": dates(opened[deal]),
            "closed_at": dates(v_closed),
            "stage": np.array(STAGES, dtype=object)[v_stage],
            "amount_cents": v_amount,
            "expected_close_date": dates(v_promised),
            "owner": owner[deal],
            "team": owner[deal] % 4,
            "account": account[deal],
        }
    )
    return Company(versions, weeks, _steps_of(touches))


def _touches(seed: int, deals: int, weeks: int) -> tuple[np.ndarray, np.ndarray]:
    """The account of each deal, shape (deals,), and touches of an account in the four weeks before a week, shape (accounts, weeks)."""
    generator = np.random.default_rng([seed, 1])
    accounts = max(deals * 2 // 3, 1)
    interest = generator.normal(0, INTEREST_SD, accounts)
    found = np.zeros((accounts, weeks + 1), dtype=np.int64)
    innovation = INTEREST_SD * np.sqrt(1 - INTEREST_KEPT**2)
    for week in range(weeks):
        found[:, week + 1] = generator.poisson(TOUCHES_PER_WEEK * np.exp(interest))
        interest = INTEREST_KEPT * interest + generator.normal(0, innovation, accounts)
    total = np.cumsum(found, axis=1)
    earlier = np.concatenate([np.zeros((accounts, 4), dtype=np.int64), total[:, :-4]], axis=1)
    return generator.integers(0, accounts, deals), (total - earlier)[:, :weeks]


def _steps_of(touches: np.ndarray) -> pd.DataFrame:
    """One row per account and week from which the touches of the four weeks before are other ones."""
    changed = touches != 0 if touches.size == 0 else np.diff(touches, axis=1, prepend=0) != 0
    account, week = np.nonzero(changed)
    known_from = FIRST_DAY.to_datetime64() + (7 * week).astype("timedelta64[D]")
    return pd.DataFrame({"account": account, "known_from": known_from, "value": touches[account, week].astype(float)})


@dataclass(frozen=True)
class Result:
    """Backtest rows of one company, and promises for its deals: P(won by D), whether each was, the promise of a fit that knows nothing of
    accounts, and the effects of engagement that the last fit found."""

    rows: pd.DataFrame
    promised: np.ndarray
    won: np.ndarray
    promised_without: np.ndarray
    effects: pd.DataFrame


def study(
    seed: int, *, horizons: tuple[int, ...] = (30, 90), every: int = 49, from_week: int = 78, **options: float
) -> Result:
    """One company: every seven weeks an origin, from a year and a half on."""
    made = company(seed, **options)  # type: ignore[arg-type]
    history = made.history()
    last = made.weeks * 7 - max(horizons)
    origins = [FIRST_DAY + pd.Timedelta(days=d) for d in range(from_week * 7, last, every)]
    rows = backtest(history, origins, horizons, dimensions=("team",), scenarios=400, seed=seed).assign(seed=seed)
    plain = made.history(with_engagement=False)
    promises, outcomes, without, effects = [], [], [], pd.DataFrame()
    final = history.as_of(np.inf)
    for origin in origins[:: max(len(origins) // 2, 1)]:
        model = fit_hazard(history, origin, seed=seed)
        by = [origin + pd.Timedelta(days=h) for h in horizons]
        deals = deal_forecasts(model, history, origin, by)
        row = final[np.searchsorted(history.deal[final], history.deal[history.open_as_of(day(origin))])]
        for date in by:
            promises.append(deals[f"p_won_by_{date:%Y-%m-%d}"].to_numpy())
            outcomes.append((history.status[row] == WON) & (history.closed[row] <= day(date)))
        if history.account_series:
            effects = model.effects()
            deals = deal_forecasts(fit_hazard(plain, origin, seed=seed), plain, origin, by)
        without += [deals[f"p_won_by_{date:%Y-%m-%d}"].to_numpy() for date in by]
    if len(effects):
        effects = effects[effects["factor"].str.startswith("engagement")].assign(seed=seed)
    return Result(rows, np.concatenate(promises), np.concatenate(outcomes), np.concatenate(without), effects)


VOLUME_WEEKS = 104
VOLUME_DAYS = 306.0
"""Days of which closings are known, at the end."""


def volume_study(
    seed: int, *, month_sd: float, drift_sd: float = 0.0, horizons: tuple[int, ...] = (30, 90)
) -> pd.DataFrame:
    """Backtest rows of a company with 150 deals a week that exports what was closed in ten months: an origin every two weeks, judged from
    when a window has been seen that can be repeated."""
    made = company(seed, weeks=VOLUME_WEEKS, deals_per_week=150.0, owners=35, month_sd=month_sd, drift_sd=drift_sd)
    versions = made.versions.sort_values(["deal_id", "known_from"], kind="stable")
    first, last = versions.groupby("deal_id").first(), versions.groupby("deal_id").last()
    end = FIRST_DAY + pd.Timedelta(weeks=VOLUME_WEEKS)
    begin = end - pd.Timedelta(days=VOLUME_DAYS)
    deals = pd.DataFrame(
        {
            "deal_id": first.index,
            "opened_at": first["opened_at"],
            "closed_at": last["closed_at"],
            "status": last["status"],
            "amount_cents": first["amount_cents"],
            "closed_amount_cents": last["amount_cents"].where(last["status"] == "won", 0),
            "owner": first["owner"],
        }
    )
    history = DealHistory.from_versions(versions_of_deals(deals[~(deals["closed_at"] < begin)]))
    origins = pd.date_range(begin + pd.Timedelta(days=30), end - pd.Timedelta(days=31), freq="14D")
    rows = backtest(history, list(origins), horizons, scenarios=400, seed=seed).assign(seed=seed)
    window = pd.to_timedelta(rows["horizon_days"], unit="D")
    seen = rows["origin"] >= begin + window + pd.Timedelta(days=1)
    return rows[seen & (rows["origin"] + window <= end)]


def believed_months(seed: int) -> tuple[float, float]:
    """How much the months of a company differ and how far its level drifts, drawn from what `ml.forecast.months` believes before it has
    seen any: over such companies intervals hold what they say, if all else is right (Cook, Gelman and Rubin 2006)."""
    generator = np.random.default_rng([seed, 7])
    month_sd, drift_sd = np.abs(generator.normal(0, [PRIOR_MONTH_SD, PRIOR_DRIFT_SD]))
    return float(month_sd), float(drift_sd)


def volume(first: int, seeds: int) -> None:
    """Does the interval hold where chance is small: for months that differ, months that hardly do, and months as they are believed to be?"""
    kinds: dict[str, Callable[[int], tuple[float, float]]] = {
        f"differ by {MONTH_SD:.0%}": lambda _: (MONTH_SD, 0.0),
        "differ by 4%": lambda _: (0.04, 0.0),
        "are as believed beforehand": believed_months,
    }
    for name, months_of in kinds.items():
        found = []
        for seed in range(first, first + seeds):
            month_sd, drift_sd = months_of(seed)
            found.append(volume_study(seed, month_sd=month_sd, drift_sd=drift_sd))
        rows = pd.concat(found)
        print(f"150 deals a week, months {name}")
        print(scores(rows).round(3).to_string())
        # Windows of one company overlap and share the error of its level: companies are counted, not windows. Of a handful even that says
        # too little: where all of them happen to be held well, they do not differ.
        each = scores(rows[rows["method"] == "forecast"], ["horizon_days", "seed"])
        for horizon, group in each.groupby("horizon_days"):
            held = group["coverage_80"].to_numpy(float)
            error = 1.96 * held.std(ddof=1) / np.sqrt(len(held)) if len(held) > 1 else np.nan
            print(
                f"{horizon:g} days: 80 % interval covers {held.mean():.3f} +- {error:.3f} ({len(held)} companies)",
                flush=True,
            )


def log_loss(promised: np.ndarray, won: np.ndarray) -> np.ndarray:
    """Per promise, in nats."""
    p = np.clip(promised, 1e-6, 1 - 1e-6)
    return -np.where(won, np.log(p), np.log1p(-p))


def calibration_slope(promised: np.ndarray, won: np.ndarray) -> tuple[float, float]:
    """Intercept and slope of a logistic regression of the outcome on the promised log-odds; 0 and 1 are right."""
    from sklearn.linear_model import LogisticRegression

    p = np.clip(promised, 1e-6, 1 - 1e-6)
    fitted = LogisticRegression(C=1e9).fit(np.log(p / (1 - p))[:, None], won)
    return float(fitted.intercept_[0]), float(fitted.coef_[0, 0])


def size(engagement: float) -> None:
    """A million deals with two hundred thousand open: seconds and memory of a forecast of 24 periods by 500 owners."""
    made = company(1, weeks=182, deals_per_week=5_500, owners=500, stuck=0.16, engagement=engagement)
    deal = made.versions["deal_id"]
    groups = {"product": deal % 6, "region": deal // 7 % 12, "segment": deal // 11 % 8}
    history = DealHistory.from_versions(made.versions.assign(**groups), stages=STAGES, groups=["team", *groups])
    if len(made.engagement):
        history = history.with_account_series(
            {"engagement": made.engagement}, begins={"engagement": day(FIRST_DAY) + 28}, before={"engagement": 0.0}
        )
    as_of = FIRST_DAY + pd.Timedelta(days=182 * 7)
    print(
        f"{len(history.deal_ids):,} deals, {len(history.deal):,} versions, {len(history.open_as_of(day(as_of))):,} open",
        flush=True,
    )
    dimensions = ("owner", "team", *groups)
    made_peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    del made, deal, groups
    gc.collect()
    # From here on Linux counts the greatest memory anew.
    Path("/proc/self/clear_refs").write_text("5")
    clock = [(time.perf_counter(), time.process_time())]

    def done(what: str) -> None:
        clock.append((time.perf_counter(), time.process_time()))
        wall, cpu = (after - before for before, after in zip(clock[-2], clock[-1], strict=True))
        print(f"{what}: {wall:.1f} s, of the processor {cpu:.1f} s", flush=True)

    model = fit_forecast(history, as_of)
    done(f"fit, {model.deal.counts}")
    totals = simulate(model, history, month_periods(as_of, 24), dimensions=dimensions, scenarios=1000)
    done("1,000 scenarios")
    done(f"{len(totals.quantiles()):,} rows of quantiles")
    done(f"{len(deal_forecasts(model.deal, history, as_of)):,} deals")
    (peak,) = [
        line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM:")
    ]
    print(f"peak memory {int(peak) / 2**20:.1f} GiB; of the making of the data {made_peak:.1f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=30)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--engagement", type=float, default=0.0, help="planted effect of engagement, e.g. 0.5")
    parser.add_argument("--size", action="store_true")
    parser.add_argument("--volume", action="store_true")
    asked = parser.parse_args()
    if asked.size:
        size(asked.engagement)
        return
    if asked.volume:
        volume(asked.first, asked.seeds)
        return
    results = [study(seed, engagement=asked.engagement) for seed in range(asked.first, asked.first + asked.seeds)]
    rows = pd.concat([each.rows for each in results])
    whole = rows[rows["dimension"] == "all"]
    print(scores(whole).round(3).to_string())
    print(scores(whole, ["method"]).round(3).to_string())
    print("by team")
    print(scores(rows[rows["dimension"] == "team"], ["horizon_days", "method"]).round(3).to_string())
    each = scores(whole[whole["method"] == "forecast"], ["seed"])["coverage_80"]
    print(f"80 % interval covers {each.mean():.3f} +- {1.96 * each.std() / np.sqrt(len(each)):.3f} (seeds)")
    promised, won = np.concatenate([r.promised for r in results]), np.concatenate([r.won for r in results])
    intercept, slope = calibration_slope(promised, won)
    print(
        f"P(won by D): {len(won):,} promises, mean {promised.mean():.4f}, won {won.mean():.4f}, slope {slope:.3f}, intercept {intercept:+.3f}"
    )
    if asked.engagement:
        gain = np.array([(log_loss(r.promised_without, r.won) - log_loss(r.promised, r.won)).mean() for r in results])
        loss = [
            log_loss(np.concatenate([getattr(r, n) for r in results]), won).mean()
            for n in ("promised", "promised_without")
        ]
        print(
            f"log loss {loss[0]:.4f}, without engagement {loss[1]:.4f}; less by {gain.mean():.4f} +- "
            f"{1.96 * gain.std() / np.sqrt(len(gain)):.4f} (seeds), in {(gain > 0).sum()} of {len(gain)} companies"
        )
        found = pd.concat([r.effects for r in results]).groupby(["factor", "band_no"])[["won", "lost"]]
        print(found.agg(["mean", "std"]).round(2).to_string())


if __name__ == "__main__":
    main()
