"""What was known of the account behind a deal at any moment: how engaged it was, how it was scored.

Belongs here: values of accounts that hold from a moment on, looked up as of any moment, and the bands that they are cut
into. Does not: where they come from (dbt models in a warehouse), versions of deals (`ml.forecast.history`).

A value is seen as of the moment that is asked for and never later, so the same lookup serves a landmark of years ago and a
forecast of today. A fit may look at an account on any day; that is why steps are kept and not values on a grid of days.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

SCORE = "score"
"""The account's chance to win as its card of that day saw it."""

ENGAGEMENT = "engagement"
"""Days on which people of the account did something, counted per person, of the `TREND_DAYS` days before."""

TREND = "engagement_trend"
"""Engagement less the engagement `TREND_DAYS` earlier."""

NAMES = (SCORE, ENGAGEMENT)

TREND_DAYS = 28.0
"""Engagement is compared with what it was so long before: twice the same window, without a day in both."""

LEAST_CLOSINGS = 50
"""A value that was known at fewer closed deals says nothing yet: two outcomes and some five bands are learnt from them."""

_SPAN = np.int64(2**34)
"""Seconds that fit into one account's part of a key: more than 500 years from 1970 on."""


@dataclass(frozen=True)
class AccountSeries:
    """Values of accounts over time, each from a moment until the account's next one.

    Attributes
    ----------
    keys : account code and second since 1970 in one number, ascending, shape (steps,).
    values : NaN = unknown from then on, shape (steps,).
    begins : float day from which an account without a step has the value `before`; unknown before that day for all.
    """

    keys: np.ndarray
    values: np.ndarray
    begins: float
    before: float

    @classmethod
    def of(
        cls, steps: pd.DataFrame, accounts: np.ndarray, *, begins: float = -np.inf, before: float = np.nan
    ) -> AccountSeries:
        """Sort steps of the accounts of a history.

        Parameters
        ----------
        steps : `account`, `known_from`, `value`; other accounts are left out, of one moment the last row holds.
        accounts : account of each code, shape (accounts,).
        begins : first float day of which the value is known; before : value of an account before its first step.
        """
        code = pd.Index(accounts).get_indexer(pd.Index(steps["account"]))
        moment = pd.to_datetime(steps["known_from"]).to_numpy().astype("datetime64[us]")
        kept = (code >= 0) & ~np.isnat(moment)
        # A step within a second counts from the next one on: never early.
        seconds = -(-moment[kept].astype(np.int64) // 1_000_000)
        keys = code[kept].astype(np.int64) * _SPAN + np.clip(seconds, 0, _SPAN - 1)
        order = np.lexsort((np.arange(len(keys)), keys))
        keys, values = keys[order], steps["value"].to_numpy("float64", na_value=np.nan)[kept][order]
        last = np.ones(len(keys), dtype=bool)
        last[:-1] = np.diff(keys) != 0
        return cls(keys[last], values[last], begins, before)

    def at(self, account: np.ndarray, moment: np.ndarray) -> np.ndarray:
        """Values as of moments (float days), NaN where unknown; account codes, -1 = no account. Shapes (n,)."""
        # Float days hold seconds only to some microseconds: what became known in a second is known at its end.
        seconds = np.floor(np.clip(moment, 0.0, 1e5) * 86_400 + 1e-3).astype(np.int64)
        place = np.searchsorted(self.keys, account.astype(np.int64) * _SPAN + seconds, side="right") - 1
        found = place >= 0
        found[found] = self.keys[place[found]] // _SPAN == account[found]
        result = np.full(len(place), self.before)
        result[found] = self.values[place[found]]
        result[(account < 0) | (moment < self.begins)] = np.nan
        return result


def account_features(
    series: Mapping[str, AccountSeries], account: np.ndarray, moment: np.ndarray
) -> dict[str, np.ndarray]:
    """What is known of accounts at moments, by the name of the feature; NaN where unknown. Shapes (n,)."""
    found: dict[str, np.ndarray] = {}
    if SCORE in series:
        found[SCORE] = series[SCORE].at(account, moment)
    if ENGAGEMENT in series:
        found[ENGAGEMENT] = series[ENGAGEMENT].at(account, moment)
        found[TREND] = found[ENGAGEMENT] - series[ENGAGEMENT].at(account, moment - TREND_DAYS)
    return found


def engagement_edges(values: np.ndarray) -> np.ndarray:
    """Cuts of engagement: nothing at all is a band of its own, the rest is cut into three of equal mass."""
    busy = values[values > 0]
    return np.unique(np.concatenate([[0.5], _halves(busy, (1 / 3, 2 / 3))])) if len(busy) else np.empty(0)


def trend_edges(values: np.ndarray) -> np.ndarray:
    """Cuts of the trend: falling by more or less, as before, rising by less or more."""
    known = values[np.isfinite(values)]
    falling, rising = known[known < 0], known[known > 0]
    none = np.empty(0)
    parts: list[np.ndarray] = [
        _halves(falling, (0.5,)),
        np.array([-0.5]) if len(falling) else none,
        np.array([0.5]) if len(rising) else none,
        _halves(rising, (0.5,)),
    ]
    return np.unique(np.concatenate(parts)) if len(known) else np.empty(0)


def _halves(counts: np.ndarray, shares: tuple[float, ...]) -> np.ndarray:
    """Quantiles of whole numbers, put between two of them."""
    return np.floor(np.quantile(counts, shares)) + 0.5 if len(counts) else np.empty(0)
