"""Rules: who gets which points when. Their files, their versions, and the SQL by which they find accounts and events.

A rule is a YAML file in the workspace's folder `rules`; its name is the file's. Conditions are the business of `conditions`; what a
match comes to (how often, cap, which points) is dbt's (`int_rules__due`). A firing is landed once and never computed again: see
`docs/rules.md`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import duckdb
from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt, StrictStr, model_validator

from orchestration.lib.condition_files import (
    Refusal,
    check_conditions,
    condition_files,
    ensure_relations,
    read_definition,
    read_each,
    replace_matches,
    runnable,
)
from orchestration.lib.conditions import (
    SUBJECT,
    Catalogue,
    Group,
    Node,
    accounts_now,
    attributes_of,
    condition_catalogue,
    contact_catalogue,
    contacts_now,
    expression_of,
)
from orchestration.lib.contracts import load_contracts
from orchestration.lib.documents import land_document, landed_documents
from orchestration.lib.landing import land_due
from orchestration.lib.ledger import COLUMNS, FIRINGS, TABLE
from orchestration.lib.settings_file import SettingsError
from orchestration.lib.settings_tables import RULE_TABLES
from orchestration.lib.warehouse import transaction
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

if TYPE_CHECKING:
    from sqlglot import exp

RULES = "scoring/rules"
BEGINNING, END = datetime(1900, 1, 1), datetime(9999, 12, 31)
DUE = "intermediate.int_rules__due"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class DaysApart(_Strict):
    """Not again within so many days: from one firing to the next there are that many at least."""

    once_per_days: Annotated[StrictInt, Field(ge=1, le=3650)]


class Active(_Strict):
    """From when until before when what happens counts."""

    since: datetime | date | None = Field(None, alias="from")
    until: datetime | date | None = Field(None, alias="to")

    @model_validator(mode="after")
    def _in_order(self) -> Active:
        if self.since is not None and self.until is not None and _moment(self.until) <= _moment(self.since):
            raise ValueError(f"`to` must be later than `from` (value: {self.until})")
        return self


class EffectiveFrom(_Strict):
    """A change holds from this date on: what earlier versions did since is taken back."""

    since: datetime | date = Field(alias="from")


class Definition(_Strict):
    """What a rule's file says."""

    title: Annotated[StrictStr, Field(min_length=1, max_length=200)]
    description: StrictStr = ""
    subject: Literal["account", "contact"] = "account"
    operation: Literal["add", "subtract", "set"]
    points: Annotated[StrictInt, Field(ge=0, le=100_000)]
    conditions: dict[str, Any] | None = None
    event: dict[str, Any] | None = None
    delay_days: Annotated[StrictInt, Field(ge=0, le=3650)] | None = None
    last_of_series: StrictBool = False
    unless: dict[str, Any] | None = None
    how_often: Literal["once", "every_event"] | DaysApart = "once"
    cap: Annotated[StrictInt, Field(ge=1, le=1_000_000)] | None = None
    active: Active = Active.model_construct()
    effective: Literal["now", "always"] | EffectiveFrom = "now"
    expires_after_days: Annotated[StrictInt, Field(ge=1, le=36_500)] | None = None

    @model_validator(mode="after")
    def _makes_sense(self) -> Definition:
        if self.event is None:
            if self.conditions is None:
                raise ValueError("a rule needs `conditions`, or an `event` that makes it fire, or both")
            for name in ("delay_days", "unless"):
                if getattr(self, name) is not None:
                    raise ValueError(f"`{name}` needs an `event` that it is about")
            if self.how_often == "every_event" or self.last_of_series:
                raise ValueError("`how_often: every_event` and `last_of_series` need an `event`")
        if self.operation == "set" and self.cap is not None:
            raise ValueError("`cap` limits what is added or subtracted: it does not go with `operation: set`")
        return self


@dataclass(frozen=True)
class Rule:
    """One rule that can run: its definition with its checked conditions."""

    rule_id: str
    definition: Definition
    conditions: Group | None
    event: Group | None
    unless: Group | None

    @property
    def definition_hash(self) -> str:
        """Changes exactly when the rule would do something else; a new title or description is no change."""
        said = self.definition.model_dump(mode="json", exclude={"title", "description"})
        # Left out where it is the account: rules of before there were others are the same rules.
        if self.definition.subject == "account":
            del said["subject"]
        # It once meant periods of the calendar: such a rule does something else now.
        if isinstance(self.definition.how_often, DaysApart):
            said["how_often"] = {"days_apart": self.definition.how_often.once_per_days}
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def trees(self) -> list[Group]:
        return [tree for tree in (self.conditions, self.event, self.unless) if tree is not None]


@dataclass(frozen=True)
class RuleVersion:
    """From when a version of a rule holds.

    `seen_at` is the moment of the refresh that saw it first; a retroactive one replaces what earlier versions did from
    `effective_at` on.
    """

    rule_version: str
    seen_at: datetime
    effective_at: datetime
    is_retroactive: bool


# --------------------------------------------------------------------------- files


def rule_catalogue() -> Catalogue:
    """The fields of conditions, by the contracts of this project."""
    return condition_catalogue(load_contracts(SOURCE_CONTRACTS))


def read_rules(workspace: Workspace, catalogue: Catalogue) -> tuple[list[Rule], list[Refusal]]:
    """All rules of the workspace, and the files that are refused."""
    return read_each(workspace.rules, lambda path: read_rule(path, catalogue))


def read_rule(path: Path, catalogue: Catalogue) -> Rule | None:
    """One file; None where everything in it is a comment.

    Raises
    ------
    SettingsError
        With the file, the field, the rule and the value of each problem.
    """
    definition = read_definition(path, Definition)
    if definition is None:
        return None
    if definition.subject == "contact":
        catalogue = contact_catalogue(catalogue)
    documents = {name: getattr(definition, name) for name in ("conditions", "event", "unless")}
    trees, problems = check_conditions(path, documents, catalogue, of={"event": "touchpoints"})
    event = trees["event"]
    if event is not None and _asks_age(event):
        problems.append(f"{path}: event: an event has no days_ago, it is the moment itself; put it under conditions")
    if problems:
        raise SettingsError(problems)
    return Rule(path.stem, definition, trees["conditions"], event, trees["unless"])


def _asks_age(node: Node) -> bool:
    if isinstance(node, Group):
        return any(_asks_age(rule) for rule in node.rules)
    return getattr(node, "field", None) is not None and node.field.type == "age"  # type: ignore[union-attr]


# --------------------------------------------------------------------------- versions


def land_versions(workspace: Workspace, rules: Sequence[Rule], as_of_at: datetime) -> dict[str, RuleVersion]:
    """The version of each rule, by its name. What changed since the last refresh is landed as a new one, and what is gone as gone.

    Parameters
    ----------
    as_of_at : the moment of this refresh, naive UTC
    """
    found = _landed_versions(workspace)
    versions = {}
    for rule in rules:
        history = found.get(rule.rule_id, [])
        last = history[-1] if history else None
        if last is None or last["definition_hash"] != rule.definition_hash:
            last = _new_version(rule, 1 + sum("rule_version" in document for document in history), as_of_at)
            _land(workspace, last)
        versions[rule.rule_id] = _version(last)
    # Also a file that is refused still stands for its rule: only one that is not there takes it away.
    there = {path.stem for path in condition_files(workspace.rules)}
    for rule_id, history in found.items():
        if rule_id not in there and history[-1]["definition_hash"] is not None:
            _land(workspace, {"rule_id": rule_id, "definition_hash": None, "seen_at": as_of_at.isoformat()})
    return versions


def last_change_at(workspace: Workspace) -> datetime:
    """When a refresh last saw a rule change; the beginning of time where none ever did."""
    moments = [
        datetime.fromisoformat(document["seen_at"])
        for history in _landed_versions(workspace).values()
        for document in history
    ]
    return max(moments, default=BEGINNING)


def version_of(workspace: Workspace, rule: Rule, as_of_at: datetime) -> RuleVersion:
    """The version of a rule that runs already, or the one that it would get if a refresh saw it now. Lands nothing."""
    history = _landed_versions(workspace).get(rule.rule_id, [])
    if history and history[-1]["definition_hash"] == rule.definition_hash:
        return _version(history[-1])
    return _version(_new_version(rule, 0, as_of_at))


def _new_version(rule: Rule, number: int, as_of_at: datetime) -> dict[str, Any]:
    effective = rule.definition.effective
    since = (
        {"now": as_of_at, "always": BEGINNING}[effective] if isinstance(effective, str) else _moment(effective.since)
    )
    return {
        "rule_id": rule.rule_id,
        "rule_version": f"v{number}" if number else "preview",
        "definition_hash": rule.definition_hash,
        "seen_at": as_of_at.isoformat(),
        "effective_at": since.isoformat(),
        "is_retroactive": effective != "now",
        "definition": rule.definition.model_dump(mode="json", by_alias=True),
    }


def _version(document: Mapping[str, Any]) -> RuleVersion:
    return RuleVersion(
        document["rule_version"],
        datetime.fromisoformat(document["seen_at"]),
        datetime.fromisoformat(document["effective_at"]),
        document["is_retroactive"],
    )


def _land(workspace: Workspace, document: Mapping[str, Any]) -> None:
    content = (json.dumps(document, indent=1, ensure_ascii=False) + "\n").encode()
    land_document(workspace, RULES, f"{document['rule_id']}.json", content)


def _landed_versions(workspace: Workspace) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for path in landed_documents(workspace, RULES):
        document = json.loads(path.read_text(encoding="utf-8"))
        found.setdefault(document["rule_id"], []).append(document)
    return found


# --------------------------------------------------------------------------- what a refresh does with them


def prepare_rules(
    con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of_at: datetime, catalogue: Catalogue
) -> tuple[int, list[Refusal]]:
    """Make the rules of the workspace run at this refresh. Returns how many do, and the files that are refused.

    A refresh of an earlier moment than that of the last firing or change looks back: no rule runs in it, because nothing new may
    happen in the past.
    """
    rules, refused = read_rules(workspace, catalogue)
    last = con.execute(
        f"select max(coalesce(recorded_at, occurred_at)) from raw.{TABLE} where rule_id is not null"
    ).fetchall()
    looks_back = as_of_at < max(last[0][0] or BEGINNING, last_change_at(workspace))
    if looks_back:
        write_rules(con, [], {}, as_of_at)
        return 0, refused
    ensure_relations(con)
    running, cannot_run = runnable(
        con,
        rules,
        lambda rule: workspace.rules / f"{rule.rule_id}.yml",
        lambda rule: matches_of(rule, BEGINNING),
    )
    write_rules(con, running, land_versions(workspace, running, as_of_at), as_of_at)
    return len(running), [*refused, *cannot_run]


def write_rules(
    con: duckdb.DuckDBPyConnection,
    rules: Sequence[Rule],
    versions: Mapping[str, RuleVersion],
    as_of_at: datetime,
    *,
    in_transaction: bool = False,
) -> None:
    """Replace the tables `settings.rules` and `settings.condition_attributes` and the view `settings.rule_matches`.

    Parameters
    ----------
    versions : of each rule, by its name
    in_transaction : the caller has begun a transaction, and commits or rolls back itself
    """
    queries = [matches_of(rule, versions[rule.rule_id].effective_at) for rule in rules]
    attributes = sorted({name for rule in rules for tree in rule.trees for name in attributes_of(tree)})
    with transaction(con, is_open=in_transaction):
        con.execute("create schema if not exists settings")
        for name in ("rules", "condition_attributes"):
            con.execute(f"create or replace table settings.{name} ({RULE_TABLES[name]})")
        for rule in rules:
            row = _row(rule, versions[rule.rule_id])
            con.execute(f"insert into settings.rules values ({', '.join('?' * len(row))})", row)
        for name in attributes:
            con.execute("insert into settings.condition_attributes values (?)", [name])
        replace_matches(con, "rule_matches", RULE_TABLES["rule_matches"], queries)


def _row(rule: Rule, version: RuleVersion) -> list[Any]:
    said = rule.definition
    frequency = "days_apart" if isinstance(said.how_often, DaysApart) else said.how_often
    return [
        rule.rule_id,
        version.rule_version,
        said.title,
        said.description.strip() or said.title,
        said.operation,
        said.points,
        frequency,
        said.how_often.once_per_days if isinstance(said.how_often, DaysApart) else None,
        said.cap,
        _moment(said.active.since) if said.active.since is not None else BEGINNING,
        _moment(said.active.until) if said.active.until is not None else END,
        version.effective_at,
        version.is_retroactive,
        said.delay_days is not None or said.last_of_series,
        version.seen_at,
        said.expires_after_days,
        said.subject,
    ]


def land_firings(con: duckdb.DuckDBPyConnection, workspace: Workspace, as_of_at: datetime) -> int:
    """Land what the rules did at this refresh, as facts that the next one reads. Returns how many."""
    query = f"select {', '.join(COLUMNS)} from {DUE} order by adjustment_id"
    return land_due(con, workspace, TABLE, query, f"{FIRINGS}{as_of_at:%Y%m%dT%H%M%S%f}")


# --------------------------------------------------------------------------- for whom a rule holds


def matches_of(rule: Rule, known_since: datetime) -> exp.Expression:
    """The accounts or contacts, and their events, that a rule holds for, as rows of `settings.rule_matches`.

    Without an event the moment is the refresh's. With one it is the event's, or so many days later; what was known by then, or
    when the event became known, decides.

    Parameters
    ----------
    known_since : events that were known before are not looked at
    """
    from sqlglot import exp

    def subject(name: str) -> Any:
        return exp.column(name, table=SUBJECT)

    conditions: list[Any] = []
    subject_id = f"{rule.definition.subject}_id"
    if rule.event is None:
        source: Any = contacts_now() if rule.definition.subject == "contact" else accounts_now()
        trigger: Any = exp.Literal.string("")
        signal: Any = exp.cast(exp.null(), "varchar")
    else:
        source = _events(rule)
        trigger, signal = subject("trigger_id"), subject("signal")
        as_of = exp.select(exp.column("as_of_at")).from_(exp.table_("refresh", db="settings")).subquery()
        conditions += [
            exp.LTE(this=subject("known_at"), expression=as_of),
            exp.Exists(
                this=exp.select(exp.Literal.number(1))
                .from_(
                    exp.alias_(exp.table_(f"int_{rule.definition.subject}s", db="intermediate"), "known", table=True)
                )
                .where(exp.EQ(this=exp.column(subject_id, table="known"), expression=subject(subject_id)))
            ),
        ]
        if rule.definition.effective == "now" and known_since > BEGINNING:
            conditions.append(exp.GTE(this=subject("known_at"), expression=_timestamp(known_since)))
        if rule.definition.last_of_series:
            conditions.append(exp.Not(this=_later_in_series()))
    if rule.conditions is not None:
        conditions.append(expression_of(rule.conditions))
    if rule.unless is not None:
        conditions.append(exp.Not(this=expression_of(rule.unless)))
    return (
        exp.select(
            exp.alias_(exp.Literal.string(rule.rule_id), "rule_id"),
            # Whose points these are: the other one of the two is no part of it.
            *(
                exp.alias_(subject(name) if name == subject_id else exp.cast(exp.null(), "varchar"), name)
                for name in ("account_id", "contact_id")
            ),
            exp.alias_(trigger, "trigger_id"),
            exp.alias_(signal, "signal"),
            exp.alias_(subject("moment_at"), "occurred_at"),
            exp.alias_(subject("known_at"), "known_at"),
        )
        .from_(source)
        .where(exp.and_(*conditions))
    )


def _events(rule: Rule) -> Any:
    """The touchpoints that are the rule's event, as subjects: each with its account and its moment."""
    from sqlglot import exp

    def touchpoint(name: str) -> Any:
        return exp.column(name, table="touchpoints")

    # What is known is never known before it happened, so without a delay the column itself will do, which engines can look up.
    moment, known = touchpoint("occurred_at"), touchpoint("known_at")
    if rule.definition.delay_days:
        days = exp.Interval(this=exp.Literal.string(str(rule.definition.delay_days)), unit=exp.Var(this="DAY"))
        moment = exp.Add(this=moment, expression=days)
        known = exp.Greatest(this=known, expressions=[moment.copy()])
    source_and_id = exp.DPipe(
        this=exp.DPipe(this=touchpoint("source"), expression=exp.Literal.string(":")),
        expression=touchpoint("touchpoint_id"),
    )
    assert rule.event is not None
    return (
        exp.select(
            touchpoint("account_id"),
            exp.alias_(source_and_id, "trigger_id"),
            touchpoint("signal"),
            touchpoint("contact_id"),
            touchpoint("campaign_id"),
            exp.alias_(touchpoint("occurred_at"), "event_at"),
            exp.alias_(moment, "moment_at"),
            exp.alias_(known, "known_at"),
        )
        .from_(exp.alias_(exp.table_("int_touchpoints", db="intermediate"), "touchpoints", table=True))
        .where(expression_of(rule.event, "touchpoints"))
        .subquery(SUBJECT)
    )


def _later_in_series() -> Any:
    """Whether the same person had the same signal of the same campaign again, up to the moment."""
    from sqlglot import exp

    def later(name: str) -> Any:
        return exp.column(name, table="later")

    def subject(name: str) -> Any:
        return exp.column(name, table=SUBJECT)

    same = [exp.EQ(this=later(name), expression=subject(name)) for name in ("contact_id", "campaign_id", "signal")]
    return exp.Exists(
        this=exp.select(exp.Literal.number(1))
        .from_(exp.alias_(exp.table_("int_touchpoints", db="intermediate"), "later", table=True))
        .where(
            exp.and_(
                *same,
                exp.GT(this=later("occurred_at"), expression=subject("event_at")),
                exp.LTE(this=later("occurred_at"), expression=subject("moment_at")),
            )
        )
    )


def _timestamp(moment: datetime) -> Any:
    from sqlglot import exp

    return exp.cast(exp.Literal.string(moment.isoformat(sep=" ")), "timestamp")


def _moment(value: datetime | date) -> datetime:
    if not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    if value.tzinfo is not None:
        value = (value - (value.utcoffset() or timedelta())).replace(tzinfo=None)
    return value
