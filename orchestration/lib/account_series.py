"""What was known of accounts over time, read from the warehouse for the forecast.

Here: the steps of engagement and of scores, and from when on they are known at all. Not here: how engagement is counted
(`int_accounts__engagement`), how scores were recorded (`orchestration.lib.score_records`), what is made of both (`ml.forecast`).

A score of the past is only what was recorded then. The card of today has learnt from how the deals ended that a past moment asks
about; points by it as of that moment would know the answer. So a score counts from the moment on which its record was landed, also
where a history was filled in afterwards, and before the first record it is unknown.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import duckdb

from orchestration.lib.score_records import load_score_records
from orchestration.lib.workspace import Workspace

if TYPE_CHECKING:
    import pandas as pd

    from ml.forecast.history import DealHistory


@dataclass(frozen=True)
class KnownOfAccounts:
    """Steps by the name that `ml.forecast.account_series` gives them: `account`, `known_from`, `value`.

    Attributes
    ----------
    engagement_begins : float day of the first count whose whole window was recorded; infinity where nothing was.
    """

    engagement: pd.DataFrame
    scores: pd.DataFrame
    engagement_begins: float

    def given_to(self, history: DealHistory) -> DealHistory:
        """The deals with what was known of their accounts; what no account has is not known, instead of known to be nothing."""
        from ml.forecast.account_series import ENGAGEMENT, SCORE

        found = {ENGAGEMENT: self.engagement, SCORE: self.scores}
        return history.with_account_series(
            {name: steps for name, steps in found.items() if len(steps)},
            begins={ENGAGEMENT: self.engagement_begins},
            before={ENGAGEMENT: 0.0},
        )


def read_account_series(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> KnownOfAccounts:
    """Read what was known of the accounts of all deals up to the last refresh. Landed score records that the warehouse does not
    hold yet are loaded."""
    import numpy as np

    from ml.forecast.account_series import TREND_DAYS
    from ml.forecast.history import day

    load_score_records(con, workspace)
    engagement = con.execute(
        """
        select account_id as account, known_from, person_day_count as value
        from intermediate.int_accounts__engagement
        order by account_id, known_from
        """
    ).df()
    ((first_at,),) = con.execute(
        """
        select min(signals.first_occurred_at)
        from intermediate.int_signals as signals
        inner join settings.engaging_signals as engaging on signals.signal = engaging.signal
        """
    ).fetchall()
    # The chance and not the points: points of two cards are not on one scale.
    scores = con.execute(
        """
        with records as (
            select
                accounts.account_id,
                greatest(days.as_of_at, days.recorded_at) as known_from,
                days.record_date,
                accounts.win_probability
            from history.score_accounts as accounts
            inner join history.score_days as days on accounts.record_date = days.record_date
            cross join settings.refresh as refresh
            where
                days.record_date < refresh.as_of_date
                and days.as_of_at <= refresh.as_of_at
                and days.recorded_at <= refresh.as_of_at
                and accounts.account_id in (select account_id from intermediate.int_deals__history)
        ),

        compared as (
            select
                *,
                lag(win_probability) over (partition by account_id order by known_from, record_date) as probability_before,
                row_number() over (partition by account_id order by known_from, record_date) as record_no
            from records
        )

        select account_id as account, known_from, win_probability as value
        from compared
        where record_no = 1 or win_probability is distinct from probability_before
        order by account_id, known_from, record_date
        """
    ).df()
    # The first day may have been recorded in part: the first whole window begins after it.
    begins = np.inf if first_at is None else float(np.floor(day(first_at))) + 1 + TREND_DAYS
    return KnownOfAccounts(engagement, scores, begins)
