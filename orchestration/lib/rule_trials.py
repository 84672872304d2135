"""What a rule says of one account, and what it would do if it ran now: on the warehouse as it is, in a transaction rolled back.

The SQL is the refresh's own, as in `preview`; nothing of a trial is landed.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.lib.conditions import DIALECT, Comparison, Group, Node, attributes_of, expression_of
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.ledger import COLUMNS, TABLE
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import rolled_back, run_models
from orchestration.lib.rules import DUE, Rule, ensure_relations, matches_of, version_of, write_rules
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace

#: What turns the matches of rules into balances.
LEDGER = ("int_rules__due", "int_ledger__entries", "int_ledger", "int_adjustments__balances")
_BALANCES = "intermediate.int_adjustments__balances"


@dataclass(frozen=True)
class PartResult:
    """One rule or group of a condition for one account; `depth` 0 = the whole condition of that name."""

    depth: int
    text: str
    holds: bool


@dataclass(frozen=True)
class Effect:
    """What would happen to one account or contact: how often the rule fires, and its balance before and after."""

    subject_id: str
    name: str
    firing_count: int
    void_count: int
    first_at: datetime
    before_points: int
    after_points: int


@dataclass(frozen=True)
class Trial:
    """What a rule would do. `looked_at` accounts or contacts were looked at, for `matched` of them its conditions hold."""

    as_of_at: datetime
    looked_at: int
    matched: int
    effects: list[Effect]


def check_parts(workspace: Workspace, rule: Rule, subject_id: str) -> tuple[datetime, int, list[PartResult]]:
    """Each part of the rule's conditions for one account, or contact, as of the last refresh. The caller holds the writer lock.

    Parameters
    ----------
    subject_id : of an account or a contact, as the rule's `subject` says

    Returns
    -------
    (as_of_at, matches, parts)
        `matches`: in how many ways the rule holds for it; without an event 0 or 1, with one the number of its events.
    """
    models = _attribute_models(workspace, rule)
    key = f"{rule.definition.subject}_id"
    with open_warehouse(workspace) as con, rolled_back(con):
        as_of_at = _ready(con, rule, models)
        subject = _subject(con, key, subject_id, as_of_at)
        parts: list[PartResult] = []
        for name, tree in (("conditions", rule.conditions), ("unless", rule.unless)):
            if tree is not None:
                _add_parts(con, tree, subject, parts, 0, name)
        if rule.event is not None:
            count = con.execute(
                "select count(*) from intermediate.int_touchpoints as touchpoints where touchpoints."
                + f"{key} = ? and {expression_of(rule.event, 'touchpoints').sql(dialect=DIALECT)}",
                [subject_id],
            ).fetchall()[0][0]
            parts.append(PartResult(0, f"event: {rule.event.text} ({counted(count, 'touchpoint')})", count > 0))
        matched = con.execute(
            f"select count(*) from ({matches_of(rule, as_of_at).sql(dialect=DIALECT)}) as matches where {key} = ?",
            [subject_id],
        ).fetchall()[0][0]
    return as_of_at, matched, parts


def preview_rule(workspace: Workspace, rule: Rule) -> Trial:
    """What the rule would do if it ran now beside what is in the ledger already. The caller holds the writer lock."""
    ledger = read_project(workspace).select(*LEDGER)
    kind = rule.definition.subject
    models = _attribute_models(workspace, rule)
    with open_warehouse(workspace) as con, rolled_back(con):
        as_of_at = _ready(con, rule, models)
        _settle(con, as_of_at)
        before = _balances(con, kind)
        write_rules(con, [rule], {rule.rule_id: version_of(workspace, rule, as_of_at)}, as_of_at, in_transaction=True)
        run_models(con, ledger)
        after = _balances(con, kind)
        matched = con.execute(f"select count(distinct {kind}_id) from settings.rule_matches").fetchall()[0][0]
        looked_at = con.execute(f"select count(*) from intermediate.int_{kind}s").fetchall()[0][0]
        found = rows(
            con,
            f"""
            select due.{kind}_id as subject_id, max(known.{kind}_name) as name, min(due.occurred_at) as first_at,
                sum(case when due.operation <> 'void' then 1 else 0 end) as firing_count,
                sum(case when due.operation = 'void' then 1 else 0 end) as void_count
            from {DUE} as due left join intermediate.int_{kind}s as known on due.{kind}_id = known.{kind}_id
            where due.rule_id = ? and due.{kind}_id is not null group by due.{kind}_id
            """,
            [rule.rule_id],
        )
    effects = [
        Effect(
            row["subject_id"],
            row["name"] or row["subject_id"],
            row["firing_count"],
            row["void_count"],
            row["first_at"],
            before.get(row["subject_id"], 0),
            after.get(row["subject_id"], 0),
        )
        for row in found
    ]
    effects.sort(key=lambda e: (-abs(e.after_points - e.before_points), e.subject_id))
    return Trial(as_of_at, looked_at, matched, effects)


def _balances(con: duckdb.DuckDBPyConnection, kind: str) -> dict[str, int]:
    query = f"select {kind}_id, points from {_BALANCES} where subject_kind = ?"
    return dict(con.execute(query, [kind]).fetchall())


def _subject(con: duckdb.DuckDBPyConnection, key: str, subject_id: str, as_of_at: datetime) -> dict[str, Any]:
    """The row that conditions stand over: an account, or a contact with its account."""
    row = {key: subject_id, "moment_at": as_of_at, "known_at": as_of_at}
    if key == "contact_id":
        found = con.execute(
            "select account_id from intermediate.int_spine__contacts where contact_id = ?", [subject_id]
        ).fetchone()
        row["account_id"] = found[0] if found else None
    return row


def _attribute_models(workspace: Workspace, rule: Rule) -> list[Any]:
    """The SQL of the account attributes, where the rule asks one that the last refresh did not compute."""
    if not workspace.warehouse.exists():
        raise UserError("nothing has been loaded yet: run scoring refresh first")
    needed = {name for tree in rule.trees for name in attributes_of(tree)}
    with open_warehouse(workspace) as con:
        known = {
            name
            for (name,) in con.execute(
                "select attribute from settings.criteria union select attribute from settings.condition_attributes"
            ).fetchall()
        }
    return read_project(workspace).select("int_account_attributes") if needed - known else []


def _ready(con: duckdb.DuckDBPyConnection, rule: Rule, models: list[Any]) -> datetime:
    """Make everything that the rule reads; returns the moment that the warehouse describes."""
    ensure_relations(con)
    if models:
        for name in sorted({name for tree in rule.trees for name in attributes_of(tree)}):
            con.execute("insert into settings.condition_attributes values (?)", [name])
        run_models(con, models)
    return con.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0]


def _settle(con: duckdb.DuckDBPyConnection, as_of_at: datetime) -> None:
    """Load what the last refresh made its rules do: it was landed after the tables had been loaded."""
    columns = ", ".join(COLUMNS)
    con.execute(
        f"insert into raw.{TABLE} ({columns}, _key_hash, _row_hash, _file, _row, _arrived_at) "
        f"select {columns}, hash(adjustment_id) // 2, 0, 'firings', row_number() over (), ? from {DUE} "
        f"where adjustment_id not in (select adjustment_id from raw.{TABLE})",
        [as_of_at],
    )


def _add_parts(
    con: duckdb.DuckDBPyConnection,
    node: Node,
    subject: dict[str, Any],
    parts: list[PartResult],
    depth: int,
    name: str = "",
) -> None:
    holds = con.execute(
        f"select {expression_of(node).sql(dialect=DIALECT)} from (select "
        + ", ".join(f"cast(? as {'timestamp' if name.endswith('_at') else 'varchar'}) as {name}" for name in subject)
        + ") as subject",
        [*subject.values()],
    ).fetchall()[0][0]
    prefix = f"{name}: " if name else ""
    if isinstance(node, Group):
        word = {"and": "all of", "or": "at least one of"}[node.combinator]
        parts.append(PartResult(depth, f"{prefix}{'not ' if node.is_not else ''}{word}", bool(holds)))
        for rule in node.rules:
            _add_parts(con, rule, subject, parts, depth + 1)
        return
    text = node.text
    if isinstance(node, Comparison):
        text += f" (it is {_shown(_values_of(con, node, subject))})"
    parts.append(PartResult(depth, prefix + text, bool(holds)))


def _values_of(con: duckdb.DuckDBPyConnection, node: Comparison, subject: dict[str, Any]) -> list[Any]:
    """The subject's own values of the field that a rule asks."""
    lookup = node.field.lookup
    if lookup is None or lookup.of not in subject:
        return []
    where = [f"{lookup.key} = ?", *(f"{column} = ?" for column, _ in lookup.where), f"{node.field.column} is not null"]
    given: list[Any] = [subject[lookup.of], *(text for _, text in lookup.where)]
    if lookup.has_history:
        where.append("valid_from <= ? and valid_to > ?")
        given += [subject["moment_at"]] * 2
    column = "value_text" if node.field.column == "value_micro" else node.field.column
    found = con.execute(
        f"select distinct {column} from {lookup.relation} where {' and '.join(where)} order by 1 limit 5", given
    ).fetchall()
    return [value for (value,) in found]


def _shown(values: list[Any]) -> str:
    return ", ".join(str(value) for value in values) if values else "missing"
