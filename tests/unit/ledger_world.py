"""A warehouse of a few rows on which the refresh's own SQL of rules and ledger runs in milliseconds, without dbt or Dagster."""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import duckdb

from orchestration.lib.compiled_project import CompiledModel
from orchestration.lib.condition_files import Refusal
from orchestration.lib.conditions import RELATIONS
from orchestration.lib.contracts import load_contracts
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.landing import landed_files
from orchestration.lib.ledger import COLUMNS, TABLE
from orchestration.lib.loading import create_tables
from orchestration.lib.rules import land_firings, prepare_rules, rule_catalogue
from orchestration.lib.settings_tables import RULE_TABLES
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

MODELS = (
    "stg_scoring__adjustments",
    "int_rules__matches",
    "int_rules__due",
    "int_ledger__entries",
    "int_ledger",
    "int_adjustments__balances",
)


def compiled_models(directory: Path) -> list[CompiledModel]:
    """The SQL of rules and ledger as dbt compiles it."""
    return read_project(Workspace(directory)).select(*MODELS)


class World:
    """Accounts, people and touchpoints as the models before the rules leave them, and a landing zone.

    `refresh` does what a refresh does from the rules' files to the ledger, and lands the firings.
    """

    def __init__(self, directory: Path, models: Sequence[CompiledModel]):
        self.workspace = Workspace(directory)
        self.workspace.rules.mkdir(parents=True)
        self.models = models
        self.catalogue = rule_catalogue()
        self.refused: list[Refusal] = []
        self.rebuild()

    def rebuild(self) -> None:
        """Begin with an empty warehouse; the landing zone stays."""
        old = getattr(self, "con", None)
        tables = {name: old.execute(f"select * from {name}").fetchall() for name in RELATIONS} if old else {}
        self.con = duckdb.connect(":memory:")
        self.con.execute("attach ':memory:' as warehouse")
        self.con.execute("use warehouse")
        create_tables(self.con, {TABLE: load_contracts(SOURCE_CONTRACTS)[TABLE]})
        for schema in ("settings", "staging", "intermediate"):
            self.con.execute(f"create schema {schema}")
        self.con.execute("create table settings.refresh (as_of_at timestamp, as_of_date date)")
        for name, columns in RULE_TABLES.items():
            self.con.execute(f"create table settings.{name} ({columns})")
        for entity in ("account", "contact"):
            self.con.execute(
                f"create table staging.stg_crm__{entity}_survivors ({entity}_id varchar, surviving_{entity}_id varchar)"
            )
        for name, columns in RELATIONS.items():
            self.con.execute(f"create table {name} ({columns})")
            for row in tables.get(name, ()):
                self.con.execute(f"insert into {name} values ({', '.join('?' * len(row))})", list(row))
        self.loaded: set[str] = set()

    def add(self, relation: str, **values: Any) -> None:
        """A row of a relation; columns that are not named are null."""
        name = next(known for known in RELATIONS if known.endswith(f".{relation}"))
        self.con.execute(
            f"insert into {name} ({', '.join(values)}) values ({', '.join('?' * len(values))})", [*values.values()]
        )

    def account(self, account_id: str, **attributes: Any) -> None:
        self.add("int_accounts", account_id=account_id, account_name=account_id, won_deal_count=0, is_holdout=False)
        for name, value in attributes.items():
            is_number = not isinstance(value, str)
            self.add(
                "int_account_attributes",
                account_id=account_id, attribute=name, value_text=str(value).lower(),
                value_micro=value * 1_000_000 if is_number else None,
                valid_from=datetime(1900, 1, 1), valid_to=datetime(9999, 12, 31),
            )  # fmt: skip

    def contact(self, contact_id: str, account_id: str | None = None, **fields: Any) -> None:
        self.add("int_contacts", contact_id=contact_id, **fields)
        if account_id is not None:
            self.add("int_spine__contacts", contact_id=contact_id, account_id=account_id)

    def touch(
        self, key: str, account_id: str | None, signal: str, at: str, *, known: str | None = None, **more: Any
    ) -> None:
        self.add(
            "int_touchpoints",
            source=more.pop("source", "web"), touchpoint_id=key, signal=signal, account_id=account_id,
            occurred_at=datetime.fromisoformat(at), known_at=datetime.fromisoformat(known or at), **more,
        )  # fmt: skip

    def rule(self, name: str, text: str) -> None:
        (self.workspace.rules / f"{name}.yml").write_text(text, encoding="utf-8")

    def operation(self, **values: Any) -> None:
        """A row that was loaded into raw, as the loader leaves it."""
        row = {"note": "n", "author": "a", **values}
        arrived = row.pop("_arrived_at", datetime(2026, 1, 1))
        columns = ", ".join([*row, "_key_hash", "_row_hash", "_file", "_row", "_arrived_at"])
        marks = ", ".join("?" * (len(row) + 5))
        key = hash(row["adjustment_id"])
        self.con.execute(
            f"insert into raw.{TABLE} ({columns}) values ({marks})", [*row.values(), key, key, "f", 1, arrived]
        )

    def refresh(self, as_of: str | datetime) -> dict[str, int]:
        """Load what was landed, run the rules, fold. Returns the balance of each account that has one."""
        moment = datetime.fromisoformat(as_of) if isinstance(as_of, str) else as_of
        for landed in landed_files(self.workspace, TABLE):
            if landed.file not in self.loaded and os.path.splitext(landed.file)[1] == ".parquet":
                self.loaded.add(landed.file)
                columns = ", ".join(COLUMNS)
                self.con.execute(
                    f"insert into raw.{TABLE} ({columns}, _key_hash, _row_hash, _file, _row, _arrived_at) "
                    f"select {columns}, hash(adjustment_id) // 2, 0, ?, 1, ? from read_parquet(?)",
                    [landed.file, landed.arrived_at, str(landed.path)],
                )
        self.con.execute("delete from settings.refresh")
        self.con.execute("insert into settings.refresh values (?, ?)", [moment, moment.date()])
        self.count, self.refused = prepare_rules(self.con, self.workspace, moment, self.catalogue)
        self.fold()
        land_firings(self.con, self.workspace, moment)
        return self.balances()

    def fold(self) -> None:
        for model in self.models:
            kind = "table" if model.is_table else "view"
            self.con.execute(f"create or replace {kind} {model.relation} as {model.sql}")

    def balances(self) -> dict[str, int]:
        found = self.con.execute(
            "select coalesce(account_id, contact_id), points from intermediate.int_adjustments__balances"
        ).fetchall()
        return dict(found)

    def ledger(self, *columns: str) -> list[tuple[Any, ...]]:
        names = ", ".join(columns) or "*"
        return self.con.execute(
            f"select {names} from intermediate.int_ledger order by subject_kind, subject_id, entry_no"
        ).fetchall()
