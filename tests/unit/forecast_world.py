"""A made-up company for tests of what people say of forecasts: landed records, the models on them, and a published file for the commands.

Belongs here: the tables that the models read, and how they are built. Does not: tests; those are in `test_forecast_submissions`.
"""

from __future__ import annotations

import functools
from datetime import date, datetime
from typing import Any

import duckdb

from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.contracts import load_contracts
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.forecast_submissions import TABLE
from orchestration.lib.landing import landed_files
from orchestration.lib.publishing import FILE_NAME
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

MODELS = (
    *("stg_scoring__forecast_submissions", "int_forecast_submissions", "int_won_amounts"),
    *("forecast_submissions", "forecast_comparison", "forecast_accuracy"),
)
PUBLISHED = ("forecast_submissions", "forecast_comparison", "forecast_accuracy", "forecast_snapshots", "targets")
MONTH = ("month", date(2026, 7, 1), date(2026, 8, 1), "2026-07")
TABLES = {
    "settings.refresh": "as_of_at timestamp, as_of_date date, currency varchar",
    "settings.target_periods": "period_type varchar, period_start date, period_end date, period_label varchar",
    "staging.stg_crm__users": "user_id varchar, user_name varchar, team varchar",
    "intermediate.int_deals": "opportunity_id varchar, account_id varchar, owner_id varchar, product varchar, status varchar, "
    "amount decimal(18,2), closed_at timestamp",
    "intermediate.int_exchange_rates": "currency varchar, from_date date, until_date date, rate decimal(18,12)",
    "intermediate.int_accounts__groups": "account_id varchar, region varchar, segment varchar, valid_from timestamp, valid_to timestamp",
    "marts.targets": "covered_month_count bigint, period_type varchar, period_start date, period_end date, period_label varchar, period_status varchar, "
    "owner_id varchar, owner_name varchar, team varchar, target_amount decimal(18,2), won_amount decimal(18,2), "
    "gap_amount decimal(18,2), target_source varchar, target_author varchar, target_note varchar",
    "marts.forecast_snapshots": "forecast_id varchar, forecast_as_of_at timestamp, is_newest boolean, lacking varchar, method varchar, "
    "dimension varchar, label varchar, period_type varchar, period_start date, period_end date, period_label varchar, part varchar, "
    "mean_amount decimal(18,2), p10 decimal(18,2), p50 decimal(18,2), p90 decimal(18,2)",
}


@functools.cache
def contract_columns() -> dict[str, str]:
    """Columns of the landed table -> their types."""
    contract = load_contracts(SOURCE_CONTRACTS)[TABLE]
    return {name: contract.property_named(name).sql_type for name in contract.column_names}


def models(workspace: Workspace) -> list[CompiledModel]:
    """The models, in their order."""
    return read_project(workspace).select(*MODELS)


class World:
    """One company as of a moment that `build` may move."""

    def __init__(self, built: list[CompiledModel]):
        self.models = built
        self.con = duckdb.connect(":memory:")
        self.con.execute("attach ':memory:' as warehouse")
        self.con.execute("use warehouse")
        for schema in ("settings", "raw", "staging", "intermediate", "marts"):
            self.con.execute(f"create schema {schema}")
        raw = ", ".join(f"{name} {its_type}" for name, its_type in contract_columns().items())
        tables = TABLES | {
            f"raw.{TABLE}": f"{raw}, _is_repeated boolean, _arrived_at timestamp, _file varchar, _row bigint"
        }
        for name, columns in tables.items():
            self.con.execute(f"create table {name} ({columns})")
        self.add("settings.refresh", currency="EUR")
        self.add(
            "intermediate.int_accounts__groups",
            account_id="(none)", region="(none)", segment="(none)", valid_from=datetime(1900, 1, 1), valid_to=datetime(9999, 12, 31),
        )  # fmt: skip
        self.period(*MONTH)
        for key, name, team in (("u1", "Ada", "north"), ("u2", "Bo", "north"), ("u3", "Bo", "south")):
            self.add("staging.stg_crm__users", user_id=key, user_name=name, team=team)
            self.add(
                "marts.targets",
                **dict(zip(("period_type", "period_start", "period_end", "period_label"), MONTH, strict=True)),
                period_status="running", owner_id=key, owner_name=name, team=team, target_amount=1000, won_amount=0,
                gap_amount=1000, target_source="set", target_author="cro", target_note="plan" if key == "u1" else None,
            )  # fmt: skip

    def add(self, table: str, **values: Any) -> None:
        """One row; what is not given is null."""
        self.con.execute(
            f"insert into {table} ({', '.join(values)}) values ({', '.join('?' * len(values))})", [*values.values()]
        )

    def period(self, period_type: str, start: date, end: date, label: str) -> None:
        """A period that the settings know."""
        self.add(
            "settings.target_periods", period_type=period_type, period_start=start, period_end=end, period_label=label
        )

    def say(self, key: str, at: datetime, amount: float = 0, **changed: Any) -> None:
        """A landed record; a commit of everything for July unless it says otherwise."""
        record = {
            "submission_id": key, "kind": "commit", "period_type": "month", "period_start": date(2026, 7, 1), "dimension": "all",
            "label": "all", "amount": amount, "note": "why", "author": "ann", "recorded_at": at,
        } | changed  # fmt: skip
        self.add(f"raw.{TABLE}", **record, _is_repeated=False, _arrived_at=at, _file="f", _row=1)

    def take_landed(self, workspace: Workspace) -> None:
        """Read what the commands landed, as the loader would."""
        for landed in landed_files(workspace, TABLE):
            columns = ", ".join(
                f"cast(nullif({name}, '') as {its_type})" for name, its_type in contract_columns().items()
            )
            self.con.execute(
                f"insert into raw.{TABLE} select {columns}, false, now()::timestamp, 'f', 1 "
                "from read_csv(?, all_varchar = true, header = true)",
                [str(landed.path)],
            )

    def forecast(self, at: datetime, label: str = "all", *, is_newest: bool = False, **points: float) -> None:
        """A forecast of July by method; the model's interval is 10 % to either side."""
        period = dict(zip(("period_type", "period_start", "period_end", "period_label"), MONTH, strict=True))
        for method, point in points.items():
            is_model = method == "forecast"
            self.add(
                "marts.forecast_snapshots",
                **period, forecast_id=f"{at:%Y%m%d}", forecast_as_of_at=at, is_newest=is_newest, method=method, part="total",
                dimension="all" if label == "all" else "owner", label=label, mean_amount=point,
                p10=point * 0.9 if is_model else None, p50=point if is_model else None, p90=point * 1.1 if is_model else None,
            )  # fmt: skip

    def build(self, as_of_at: datetime) -> None:
        """The marts as of a moment."""
        self.con.execute("update settings.refresh set as_of_at = ?, as_of_date = ?", [as_of_at, as_of_at.date()])
        for model in self.models:
            kind = "view" if model.name == "int_won_amounts" else "table"
            self.con.execute(f"create or replace {kind} {model.relation} as {model.sql}")

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        return self.con.execute(query).fetchall()

    def publish(self, workspace: Workspace) -> None:
        """The marts as the commands find them."""
        folder = workspace.published.parent
        folder.mkdir(parents=True, exist_ok=True)
        (folder / FILE_NAME).unlink(missing_ok=True)
        self.con.execute(f"attach '{folder / FILE_NAME}' as published")
        self.con.execute("create schema published.marts")
        for mart in PUBLISHED:
            self.con.execute(f"create table published.marts.{mart} as from warehouse.marts.{mart}")
        for empty, columns in {
            "pipeline_forecast": "owner_id varchar, owner_name varchar, team varchar, period_start date, open_amount decimal(18,2)",
            "scored_opportunities": "product varchar",
            "forecast_backtest": "horizon_days bigint, is_within_80 boolean, absolute_error_amount decimal(18,2), "
            "actual_amount decimal(18,2), origin_at timestamp, dimension varchar, method varchar",
        }.items():
            self.con.execute(f"create table published.marts.{empty} ({columns})")
        self.con.execute("create table published.marts.publication as select as_of_at from warehouse.settings.refresh")
        self.con.execute("detach published")
