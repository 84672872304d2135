"""What people say of a period, beside the model, with how right each of them was before: rows for the page of the revenue meeting.

Belongs here: queries of submissions, overrides and targets for one period, and each source's record. Does not: landing them
(`forecast_submissions`), the page (`forecast_report`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, Any

from orchestration.lib.forecast_submissions import closeness
from orchestration.lib.marts_reader import rows

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]
#: Method of `forecast_accuracy` -> how it is called before people; the order in which they are listed.
CALLED = {
    "forecast": "the model",
    "submitted_commit": "submitted commit",
    "submitted_best_case": "submitted best case",
    "submitted_manager": "manager",
    "override": "override",
    "commit": "deals' category commit",
    "best_case": "deals' category best case",
    "stage_weighted": "stage-weighted",
    "run_rate": "run rate",
}


@dataclass(frozen=True)
class Said:
    """What stands on the page of one period.

    Attributes
    ----------
    numbers : submissions and overrides in force, whole company first: dimension, label_name, method, amount, author, note, recorded_at,
        expires_at; low, middle, high of the model's newest forecast of the same, None where it has none.
    no_longer : how many of the period were replaced, withdrawn or have expired.
    targets : owner_name, team, target_amount, gap_amount, middle (of the model), source, author, note; the largest first.
    records : rows of `closeness`, with their dimension, of everything and of the dimensions that somebody spoke of.
    horizon_days : the tested distance to the end of a period that is nearest to this one's.
    """

    numbers: Sequence[Row]
    no_longer: int
    targets: Sequence[Row]
    records: Sequence[Row]
    horizon_days: int | None

    def record_of(self, number: Row) -> Row | None:
        """How right who said this was before, this far from the end; None = no period with such a number is over."""
        return next(
            (
                row
                for row in self.records
                if (row["dimension"], row["method"], row["horizon_days"])
                == (number["dimension"], number["method"], self.horizon_days)
            ),
            None,
        )


def said_of(con: duckdb.DuckDBPyConnection, period: str, days_left: int) -> Said:
    """What is said of a period, from the published marts.

    Parameters
    ----------
    period : its label, 2026-Q3
    days_left : from the forecast to the end of the period
    """
    numbers = rows(
        con,
        """
        select submissions.dimension, submissions.label_name,
            case submissions.kind when 'override' then 'override' else 'submitted_' || submissions.kind end as method,
            submissions.amount, submissions.submitted_amount, submissions.currency, submissions.author, submissions.note,
            submissions.recorded_at, submissions.expires_at,
            beside.forecast_low_amount as low, beside.forecast_amount as middle, beside.forecast_high_amount as high
        from forecast_submissions as submissions
        left join forecast_comparison as beside
            on submissions.dimension = beside.dimension and submissions.label = beside.label
            and submissions.period_type = beside.period_type and submissions.period_start = beside.period_start
        where submissions.period_label = ? and submissions.status = 'in force'
        order by case submissions.dimension when 'all' then 0 when 'team' then 1 when 'owner' then 2 else 3 end,
            submissions.label_name, submissions.kind, submissions.recorded_at
        """,
        [period],
    )
    no_longer = rows(
        con,
        "select count(*) as n from forecast_submissions where period_label = ? and status <> 'in force'",
        [period],
    )[0]["n"]
    targets = rows(
        con,
        """
        select targets.owner_name, targets.team, targets.target_amount, targets.gap_amount, targets.target_source as source,
            targets.target_author as author, targets.target_note as note, beside.forecast_amount as middle
        from targets
        left join forecast_comparison as beside
            on beside.dimension = 'owner' and targets.owner_id = beside.label
            and targets.period_type = beside.period_type and targets.period_start = beside.period_start
        where targets.period_label = ? and targets.target_amount is not null
        order by targets.target_amount desc, targets.owner_name
        """,
        [period],
    )
    spoken_of = dict.fromkeys(["all", *(row["dimension"] for row in numbers)])
    records = [{"dimension": name, **row} for name in spoken_of for row in closeness(con, name)]
    horizons = sorted({row["horizon_days"] for row in records}, key=lambda each: (abs(each - days_left), each))
    return Said(numbers, no_longer, targets, records, horizons[0] if horizons else None)


def until(number: Row) -> str:
    """Until when a number counts, in words; empty = until somebody replaces it."""
    expires: date | None = number["expires_at"]
    return f"until {expires:%Y-%m-%d}" if expires else ""
