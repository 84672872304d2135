"""The forecast on Maven CRM."""
import pandas as pd
from pathlib import Path
from ml.forecast.history import DealHistory, versions_of_deals
def read(folder: Path) -> DealHistory:
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
