"""The forecast on Maven CRM, replayed over 2017.

``uv run python -m tests.trials.forecast_maven --data DIR`` with the folder that holds sales_pipeline.csv
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd

from ml.forecast.backtest import backtest, scores
from ml.forecast.history import DealHistory, versions_of_deals

HORIZONS = (30, 90)

FIRST = {30: "2017-04-30", 90: "2017-05-31"}
"""First origin that is judged: by then a whole window has been seen that can be repeated."""


def read(folder: Path) -> DealHistory:
    """Deals with dates; an open deal's amount is its product's list price, for the value is written at the close."""
    pipeline = pd.read_csv(folder / "sales_pipeline.csv", parse_dates=["engage_date", "close_date"])
    products = pd.read_csv(folder / "products.csv").set_index("product")["sales_price"]
    teams = pd.read_csv(folder / "sales_teams.csv").set_index("sales_agent")
    product = pipeline["product"].replace("GTXPro", "GTX Pro")
    deals = pd.DataFrame(
        {
            "deal_id": pipeline["opportunity_id"],
            "opened_at": pipeline["engage_date"],
            "closed_at": pipeline["close_date"],
            "status": pipeline["deal_stage"].map({"Won": "won", "Lost": "lost"}).fillna("open"),
            "amount_cents": product.map(products) * 100,
            "closed_amount_cents": pipeline["close_value"] * 100,
            "owner": pipeline["sales_agent"],
            "team": pipeline["sales_agent"].map(teams["manager"]),
            "product": product,
        }
    )
    return DealHistory.from_versions(versions_of_deals(deals), groups=["team", "product"])


def study(folder: Path, *, every: str = "W-WED", scenarios: int = 1000) -> pd.DataFrame:
    """Backtest rows of origins whose window ended in 2017. Calibration may look at earlier origins than those judged."""
    origins = pd.date_range("2017-03-31", "2017-11-30", freq=every)
    rows = backtest(read(folder), list(origins), HORIZONS, scenarios=scenarios)
    first = rows["horizon_days"].map({h: pd.Timestamp(moment) for h, moment in FIRST.items()})
    ends = rows["origin"] + pd.to_timedelta(rows["horizon_days"], unit="D")
    return rows[(rows["origin"] >= first) & (ends <= pd.Timestamp("2017-12-31"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    asked = parser.parse_args()
    for every, name in (("ME", "month ends"), ("W-WED", "every week")):
        rows = study(asked.data, every=every)
        found = scores(rows).set_index(["horizon_days", "method"])
        print(f"origins: {name}")
        print(found.round(3).to_string())
        print("mean over both horizons")
        print(found.groupby("method")[["wape", "pinball", "coverage_80"]].mean().round(4).to_string(), flush=True)


if __name__ == "__main__":
    main()
