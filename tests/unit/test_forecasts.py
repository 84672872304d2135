"""Forecasts of hardly any deals: an answer or a reason, never a fault. Whole ones are in tests/integration/test_forecasts.py."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd
import pytest

from ml.forecast.history import DealHistory
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_plots import draw_forecast
from orchestration.lib.forecasts import DIMENSIONS, Deals, group_history_lacking, make_backtest, make_forecast
from orchestration.lib.scorecard_settings import Forecast
from orchestration.lib.workspace import Workspace

AS_OF = datetime(2026, 6, 30)


def version(deal: str, known_from: datetime, status: str, opened_at: datetime) -> dict[str, Any]:
    closed_at = known_from if status != "open" else pd.NaT
    return {
        "deal_id": deal, "known_from": known_from, "status": status, "opened_at": opened_at, "closed_at": closed_at,
        "amount_cents": 100_00.0, "owner": "o", "team": "t", "product": "p", "region": "r", "segment": None,
    }  # fmt: skip


def deals_of(*versions: dict[str, Any]) -> Deals:
    """Deals of which none is open."""
    history = DealHistory.from_versions(pd.DataFrame(versions), groups=DIMENSIONS[1:])
    columns = [
        "opportunity_id",
        "owner",
        "team",
        "product",
        "region",
        "segment",
        "amount",
        "expected_close_date",
        "forecast_category",
        "stage_win_rate",
    ]
    return Deals(AS_OF, history, pd.DataFrame(columns=columns), "f" * 64, 1)


def test_forecast__of_one_deal_says_that_it_is_too_few(tmp_path: Path) -> None:
    deals = deals_of(version("a", datetime(2026, 6, 29, 23), "won", datetime(2026, 6, 29, 22)))
    with pytest.raises(UserError, match="too few deals"):
        make_forecast(Workspace(tmp_path), deals, Forecast())
    with pytest.raises(UserError, match="too few deals"):
        make_backtest(Workspace(tmp_path), deals, [date(2026, 1, 1)], Forecast())


def test_forecast__of_deals_that_fell_silent_says_so(tmp_path: Path) -> None:
    """A CRM that delivers no longer looks like a company that has stopped selling."""
    begun = [datetime(2026, 1, 1) + timedelta(days=week) for week in range(0, 84, 7)]
    deals = deals_of(*(version(f"d{n}", opened, "won", opened) for n, opened in enumerate(begun)))
    with pytest.raises(UserError, match=r"for 103 days, and never for more than 7 before: .* --as-of"):
        make_forecast(Workspace(tmp_path), deals, Forecast())


def test_forecast__without_an_open_deal_is_of_those_to_come(tmp_path: Path) -> None:
    opened = datetime(2026, 1, 1)
    deals = deals_of(
        *(version(f"d{k}", opened, "open", opened) for k in range(4)),
        *(version(f"d{k}", datetime(2026, 2 + k, 1), "won" if k else "lost", opened) for k in range(4)),
    )
    made = make_forecast(Workspace(tmp_path), deals, Forecast())
    assert made.deal_count == 0
    landed = pd.read_parquet(made.file)
    assert set(landed["part"]) == {"won", "open", "new", "total"}
    quarter = landed[
        (landed["dimension"] == "all") & (landed["period_label"] == "2026-Q2") & (landed["method"] == "forecast")
    ]
    assert float(quarter.loc[quarter["part"] == "won", "p50"].iloc[0]) == 200.0
    # One deal of 100 was won in the 90 days up to June 30: that of May 1; April 1 is the day before them.
    rate = landed[(landed["method"] == "run_rate") & (landed["period_label"] == "2026-Q3")]
    per_quarter = {(row.dimension, row.label): float(row.mean_amount) for row in rate.itertuples()}
    assert {key for key, amount in per_quarter.items() if amount} == {
        ("all", "all"), ("owner", "o"), ("team", "t"), ("product", "p"), ("region", "r"), ("segment", "(none)"),
    }  # fmt: skip
    assert set(per_quarter.values()) == {0.0, round(100 / 90 * 92, 2)}


def test_lacking__says_since_when_regions_and_segments_are_on_record() -> None:
    assert group_history_lacking(False, False, None) == ("no regions and no segments of accounts",)
    assert "regions of accounts at any earlier moment" in group_history_lacking(True, False, None)[0]
    assert (
        "regions and segments of accounts before 2026-03-01"
        in group_history_lacking(True, True, datetime(2026, 3, 1))[0]
    )


def test_chart__of_another_kind_or_into_no_folder_is_refused(tmp_path: Path) -> None:
    with duckdb.connect() as con:
        with pytest.raises(UserError, match=r"png or \.svg"):
            draw_forecast(con, tmp_path / "x.gif")
        with pytest.raises(UserError, match="folder does not exist"):
            draw_forecast(con, tmp_path / "nowhere" / "x.png")
