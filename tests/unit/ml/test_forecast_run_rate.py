"""The run rate of each group: the last days again, for what is left of a period."""

import numpy as np
import pandas as pd
import pytest

from ml.forecast.baselines import run_rate_to_come
from ml.forecast.history import DealHistory


def won(deal: str, closed: str, cents: float, owner: str | None) -> list[dict]:
    opened = pd.Timestamp("2026-01-01")
    row = {"deal_id": deal, "opened_at": opened, "amount_cents": cents, "owner": owner, "is_deleted": False}
    return [
        row | {"known_from": opened, "status": "open", "closed_at": pd.NaT},
        row | {"known_from": pd.Timestamp(closed), "status": "won", "closed_at": pd.Timestamp(closed)},
    ]


HISTORY = DealHistory.from_versions(
    pd.DataFrame(
        [
            *won("first", "2026-01-02", 7.0, "a"),
            *won("early", "2026-04-10", 1000.0, "a"),
            *won("a", "2026-05-20", 400.0, "a"),
            *won("b", "2026-06-10", 200.0, "b"),
            *won("nobody", "2026-06-14", 100.0, None),
            *won("unvalued", "2026-06-14", np.nan, "b"),
            *won("later", "2026-06-17", 5000.0, "a"),
            *won("deleted", "2026-06-01", 9000.0, "a"),
            won("deleted", "2026-06-01", 9000.0, "a")[1]
            | {"known_from": pd.Timestamp("2026-06-02"), "is_deleted": True},
        ]
    )
)
PERIODS = pd.DataFrame(
    {
        "period_label": ["2026-06", "2026-07", "2026"],
        "period_start": pd.to_datetime(["2026-06-01", "2026-07-01", "2026-01-01"]),
        "period_end": pd.to_datetime(["2026-07-01", "2026-08-01", "2027-01-01"]),
    }
)


def test_run_rate__is_of_as_many_days_before_and_for_those_that_are_left() -> None:
    found = run_rate_to_come(HISTORY, pd.Timestamp("2026-06-16"), PERIODS, ["owner"])
    amounts = found.set_index(["period_label", "dimension", "label"])["amount_cents"]
    # Half of June is left; of July everything. A year is longer than the record.
    assert amounts.to_dict() == {
        ("2026-06", "all", "all"): pytest.approx(350.0),
        ("2026-06", "owner", "a"): pytest.approx(200.0),
        ("2026-06", "owner", "b"): pytest.approx(100.0),
        ("2026-06", "owner", "(none)"): pytest.approx(50.0),
        ("2026-07", "all", "all"): pytest.approx(700.0),
        ("2026-07", "owner", "a"): pytest.approx(400.0),
        ("2026-07", "owner", "b"): pytest.approx(200.0),
        ("2026-07", "owner", "(none)"): pytest.approx(100.0),
    }
