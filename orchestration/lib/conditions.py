"""Conditions over accounts: what a web query builder emits, checked against the fields that there are, as a SQL expression.

The format is react-querybuilder's: groups `{combinator, not, rules}`, rules `{field, operator, value}`, and for contacts and
touchpoints its subqueries `{field, match: {mode, threshold}, value: <group>}`. A document becomes a typed, checked tree, and the tree
an expression tree of sqlglot; text of users only ever becomes a literal node. Nothing here knows rules, segments or
files: whoever has a condition calls `check_condition` or `compile_condition`. Nothing is read or run but a regular expression, to
see whether it is one.

The expression stands over one row `subject` (account_id, moment_at, known_at; of a contact also contact_id): what happened
after `moment_at`, or was not known at `known_at`, is not seen. Every rule is true or false, never null: a missing value fulfils
no comparison, also not `!=`; `null` asks for it, and `not` around a group turns what is false into true.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any, Literal

from orchestration.lib.contracts import Contract
from orchestration.lib.errors import UserError
from orchestration.lib.scorecard_settings import CATEGORY_ATTRIBUTES, CELLS, GRADES, LEVELS, NUMBER_ATTRIBUTES
from orchestration.lib.signals import known_signals

if TYPE_CHECKING:
    from sqlglot import exp

SUBJECT = "subject"
DIALECT = "duckdb"
DEEPEST_GROUP = 20
MOST_RULES = 500
LONGEST_VALUE = 2_000
LONGEST_PATTERN = 500
MOST_DAYS = 36_500

FieldType = Literal["text", "number", "micro", "boolean", "timestamp", "age", "custom"]
#: How types are called to people.
_TYPE_NAMES = {
    "text": "text",
    "number": "a number",
    "micro": "a number",
    "boolean": "true or false",
    "timestamp": "a date or time",
    "age": "a whole number of days",
    "custom": "text or a number",
}
_EQUAL = ("=", "!=", "in", "notIn")
_ORDER = ("<", "<=", ">", ">=", "between", "notBetween")
_NULL = ("null", "notNull")
_TEXT = ("contains", "doesNotContain", "beginsWith", "doesNotBeginWith", "endsWith", "doesNotEndWith", "matches")
OPERATORS: Mapping[str, tuple[str, ...]] = {
    "text": (*_EQUAL, *_TEXT, *_NULL),
    "number": (*_EQUAL, *_ORDER, *_NULL),
    "micro": (*_EQUAL, *_ORDER, *_NULL),
    "boolean": ("=", "!=", *_NULL),
    "timestamp": ("=", "!=", *_ORDER, *_NULL),
    "age": (*_ORDER, *_NULL),
    "custom": (*_EQUAL, *_ORDER, *_TEXT, *_NULL),
}
MATCH_MODES = ("some", "none", "all", "atLeast", "atMost", "exactly")
#: Keys that query builders add for their own screens.
_SCREEN_KEYS = {"id", "path", "disabled", "valueSource"}

#: The relations that conditions read, with the columns that they need.
RELATIONS: Mapping[str, str] = {
    "intermediate.int_accounts": "account_id varchar, account_name varchar, domain varchar, created_at timestamp, "
    "won_deal_count bigint, is_holdout boolean",
    "intermediate.int_account_attributes": "account_id varchar, attribute varchar, value_text varchar, value_micro bigint, "
    "valid_from timestamp, valid_to timestamp",
    "intermediate.int_accounts__states": "account_id varchar, state varchar",
    "intermediate.int_accounts__scored": "account_id varchar, fit_points bigint, engagement_points bigint, model_points bigint, "
    "fit_grade varchar, engagement_level varchar, cell varchar, win_probability double",
    "intermediate.int_spine__contacts": "contact_id varchar, account_id varchar",
    "intermediate.int_contacts": "contact_id varchar, job_title varchar, job_function varchar, seniority varchar, "
    "is_unsubscribed boolean",
    "intermediate.int_touchpoints": "source varchar, touchpoint_id varchar, signal varchar, occurred_at timestamp, "
    "known_at timestamp, contact_id varchar, account_id varchar, campaign_id varchar",
    "staging.stg_web__events": "event_id varchar, url varchar, form_name varchar, product varchar",
}


class ConditionError(UserError):
    """A condition breaks rules. `problems` holds one line per broken rule: where, field, rule and value."""

    def __init__(self, problems: list[str]):
        super().__init__("\n".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Lookup:
    """Where a field of an account, contact or touchpoint stands, if not on the row itself: the rows with `key` = its `of`.

    `where`: column and text that those rows have; `only`: column and text that the row itself must have.
    """

    relation: str
    key: str
    of: str
    where: tuple[tuple[str, str], ...] = ()
    only: tuple[tuple[str, str], ...] = ()
    has_history: bool = False


@dataclass(frozen=True)
class Field:
    """What a rule can ask.

    Attributes
    ----------
    column : of the row itself, or of the lookup's relation; of type "micro" in millionths.
    values : all values that there are; empty = any.
    is_spelled_so : the column has the letters of `values`, small and capital, so that it can be compared as it is: making letters
        small costs more than comparing them.
    attribute : the account attribute that has to be computed for it; None = nothing has to.
    """

    name: str
    type: FieldType
    column: str
    lookup: Lookup | None = None
    values: tuple[str, ...] = ()
    attribute: str | None = None
    is_spelled_so: bool = False

    @property
    def operators(self) -> tuple[str, ...]:
        return OPERATORS[self.type]


@dataclass(frozen=True)
class Elements:
    """Things that a subject has many of, with the fields of each: a rule asks how many fulfil a group.

    `key`: the column of the relation, and of the subject, that says whose they are.
    """

    name: str
    relation: str
    fields: Mapping[str, Field]
    is_timed: bool = False
    key: str = "account_id"


@dataclass(frozen=True)
class Catalogue:
    """Everything that a condition can ask.

    Attributes
    ----------
    fields : of the account, by name; a column of the user's own is `custom.<column>` and stands not here.
    elements : contacts and touchpoints.
    segments : saved conditions, by name; the field `segment` stands for them.
    of_segments : what saved conditions can ask; None = the same.
    """

    fields: Mapping[str, Field]
    elements: Mapping[str, Elements]
    segments: Mapping[str, Any] = field(default_factory=dict)
    of_segments: Catalogue | None = None

    def describe(self) -> list[dict[str, Any]]:
        """One row per field, for screens and web query builders: name, type, operators, values."""
        rows = [_described(found, found.name) for found in self.fields.values()]
        for elements in self.elements.values():
            rows += [_described(found, f"{elements.name}.{found.name}") for found in elements.fields.values()]
        return rows


def condition_catalogue(contracts: Mapping[str, Contract], segments: Mapping[str, Any] | None = None) -> Catalogue:
    """The fields that there are. Types and lists of values are those of the contracts.

    Parameters
    ----------
    segments : name -> condition document; they may use each other, but not in a circle
    """
    accounts = contracts["crm__accounts"]
    found: list[Field] = []
    for name in (*NUMBER_ATTRIBUTES, *CATEGORY_ATTRIBUTES):
        is_number = name in NUMBER_ATTRIBUTES
        values = accounts.property_named(name).valid_values if name in accounts.column_names else ()
        found.append(_attribute_field(name, "micro" if is_number else "text", tuple(str(v) for v in values)))
    for relation, columns in {
        "int_accounts": {
            "account_name": "text",
            "domain": "text",
            "created_at": "timestamp",
            "won_deal_count": "number",
            "is_holdout": "boolean",
        },
        "int_accounts__states": {"state": "text"},
        "int_accounts__scored": {
            "fit_points": "number",
            "engagement_points": "number",
            "model_points": "number",
            "win_probability": "number",
            "fit_grade": "text",
            "engagement_level": "text",
            "cell": "text",
        },
    }.items():
        lookup = Lookup(f"intermediate.{relation}", "account_id", "account_id")
        for name, kind in columns.items():
            known_values = _KNOWN_VALUES.get(name, ())
            found.append(Field(name, kind, name, lookup, known_values, is_spelled_so=bool(known_values)))  # type: ignore[arg-type]
    found.append(
        Field("account_age_days", "age", "created_at", Lookup("intermediate.int_accounts", "account_id", "account_id"))
    )
    contacts = contracts["crm__contacts"]
    person = Lookup("intermediate.int_contacts", "contact_id", "contact_id")
    of_contact = [
        Field(name, "text", name, person, tuple(str(v) for v in contacts.property_named(name).valid_values))
        for name in ("job_title", "job_function", "seniority")
    ]
    of_contact.append(Field("is_unsubscribed", "boolean", "is_unsubscribed", person))
    page = Lookup("staging.stg_web__events", "event_id", "touchpoint_id", only=(("source", "web"),))
    of_touchpoint = [
        Field("signal", "text", "signal", values=tuple(sorted(known_signals(contracts))), is_spelled_so=True),
        Field("source", "text", "source", values=_TOUCHPOINT_SOURCES, is_spelled_so=True),
        Field("campaign_id", "text", "campaign_id"),
        Field("contact_id", "text", "contact_id"),
        Field("occurred_at", "timestamp", "occurred_at"),
        Field("days_ago", "age", "occurred_at"),
        *(Field(name, "text", name, page) for name in ("form_name", "product", "url")),
        *(replace(known, name=f"contact_{known.name}") for known in of_contact if known.name != "is_unsubscribed"),
    ]
    return Catalogue(
        fields={known.name: known for known in found},
        elements={
            "contacts": Elements(
                "contacts", "intermediate.int_spine__contacts", {known.name: known for known in of_contact}
            ),
            "touchpoints": Elements(
                "touchpoints",
                "intermediate.int_touchpoints",
                {known.name: known for known in of_touchpoint},
                is_timed=True,
            ),
        },
        segments=dict(segments or {}),
    )


def contact_catalogue(accounts: Catalogue) -> Catalogue:
    """What a condition on a contact can ask: `contact.<field>` of its own, its own touchpoints, and all else of its account.

    The subject has a contact_id too. A saved condition stays one on the account, with the account's touchpoints.
    """
    own = {f"contact.{name}": known for name, known in accounts.elements["contacts"].fields.items()}
    return Catalogue(
        fields={**{name: replace(known, name=name) for name, known in own.items()}, **accounts.fields},
        elements={**accounts.elements, "touchpoints": replace(accounts.elements["touchpoints"], key="contact_id")},
        segments=accounts.segments,
        of_segments=accounts,
    )


_TOUCHPOINT_SOURCES = ("web", "email", "social", "activity", "campaign", "survey")
_KNOWN_VALUES: Mapping[str, tuple[str, ...]] = {
    "state": ("scored", "no data", "suppressed", "disqualified", "customer"),
    "fit_grade": GRADES,
    "engagement_level": LEVELS,
    "cell": CELLS,
}


def _attribute_field(name: str, kind: FieldType, values: tuple[str, ...] = ()) -> Field:
    lookup = Lookup(
        "intermediate.int_account_attributes", "account_id", "account_id", (("attribute", name),), has_history=True
    )
    return Field(name, kind, "value_micro" if kind == "micro" else "value_text", lookup, values, attribute=name)


def _described(found: Field, name: str) -> dict[str, Any]:
    return {
        "name": name,
        "type": _TYPE_NAMES[found.type],
        "operators": list(found.operators),
        "values": list(found.values),
    }


# --------------------------------------------------------------------------- the checked tree


@dataclass(frozen=True)
class Comparison:
    """A checked rule on one field; `value` is of the field's type, a tuple for `in` and `between`, None for `null`."""

    where: str
    field: Field
    operator: str
    value: Any

    @property
    def text(self) -> str:
        return _sentence(self.field.name, self.operator, self.value)


@dataclass(frozen=True)
class Matching:
    """How many of an account's contacts or touchpoints fulfil a group."""

    where: str
    elements: Elements
    mode: str
    threshold: int
    group: Group
    text: str


@dataclass(frozen=True)
class Group:
    """Rules that must all hold (and), or at least one of them (or); the other way round where `is_not`."""

    where: str
    combinator: Literal["and", "or"]
    is_not: bool
    rules: tuple[Node, ...]

    @property
    def text(self) -> str:
        inner = f" {self.combinator} ".join(
            f"({rule.text})" if isinstance(rule, Group) and not rule.is_not else rule.text for rule in self.rules
        )
        return f"not ({inner})" if self.is_not else inner


Node = Comparison | Matching | Group


def check_condition(document: Any, catalogue: Catalogue, *, of: str | None = None, where: str = "conditions") -> Group:
    """A document as a checked tree.

    Parameters
    ----------
    of : "contacts" or "touchpoints", where the condition is on one of these and not on an account
    where : what the document is called in errors

    Raises
    ------
    ConditionError
        One line per broken rule: where it stands, the field, the rule and the value.
    """
    checker = _Checker(catalogue)
    tree = checker.group(document, where, catalogue.elements[of] if of else None, depth=1)
    if checker.problems or tree is None:
        raise ConditionError(checker.problems)
    return tree


def compile_condition(document: Any, fields: Catalogue) -> exp.Expression:
    """A document as a SQL expression over one row per account, named `subject`: see the module.

    Raises
    ------
    ConditionError
        As `check_condition`.
    """
    return expression_of(check_condition(document, fields))


def select_accounts(condition: exp.Expression) -> exp.Expression:
    """The accounts for which a condition holds, as of the refresh's moment: a query with the one column account_id."""
    return _selected([_column(SUBJECT, "account_id")], accounts_now(), condition)


def accounts_now() -> exp.Expression:
    """Every account as a subject, at the refresh's moment."""
    from sqlglot import exp

    return (
        exp.select(
            _column("accounts", "account_id"),
            exp.alias_(_column("refresh", "as_of_at"), "moment_at"),
            exp.alias_(_column("refresh", "as_of_at"), "known_at"),
        )
        .from_(_table("intermediate.int_accounts", "accounts"))
        .join(_table("settings.refresh", "refresh"), join_type="cross")
        .subquery(SUBJECT)
    )


def contacts_now() -> exp.Expression:
    """Every contact as a subject with its account, if it has one, at the refresh's moment."""
    from sqlglot import exp

    same = _equals(_column("contacts", "contact_id"), _column("spine", "contact_id"))
    return (
        exp.select(
            _column("contacts", "contact_id"),
            _column("spine", "account_id"),
            exp.alias_(_column("refresh", "as_of_at"), "moment_at"),
            exp.alias_(_column("refresh", "as_of_at"), "known_at"),
        )
        .from_(_table("intermediate.int_contacts", "contacts"))
        .join(_table("intermediate.int_spine__contacts", "spine"), on=same, join_type="left")
        .join(_table("settings.refresh", "refresh"), join_type="cross")
        .subquery(SUBJECT)
    )


def _selected(columns: list[Any], source: Any, condition: Any) -> exp.Expression:
    from sqlglot import exp

    return exp.select(*columns).from_(source).where(condition)


def attributes_of(node: Node) -> set[str]:
    """The account attributes that a condition asks: they have to be computed for it."""
    if isinstance(node, Group):
        return {name for rule in node.rules for name in attributes_of(rule)}
    if isinstance(node, Matching):
        return attributes_of(node.group)
    return {node.field.attribute} if node.field.attribute else set()


def parts_of(node: Node) -> Iterator[Comparison | Matching]:
    """The single rules of a condition in their order, those within `match` not taken apart."""
    if isinstance(node, Group):
        for rule in node.rules:
            yield from parts_of(rule)
    else:
        yield node


class _Checker:
    """Turns a document into a tree, and keeps what is wrong with it instead of stopping at the first error."""

    def __init__(self, catalogue: Catalogue):
        self.catalogue = catalogue
        self.problems: list[str] = []
        self.rule_count = 0
        self.open_segments: tuple[str, ...] = ()

    def fail(self, where: str, rule: str, value: Any = None) -> None:
        shown = "" if value is None else f" (value: {_shortened(value)})"
        self.problems.append(f"{where}: {rule}{shown}")

    def group(self, document: Any, where: str, within: Elements | None, depth: int) -> Group | None:
        if not isinstance(document, Mapping):
            self.fail(where, "must be a group with combinator and rules", document)
            return None
        unknown = sorted(str(key) for key in set(document) - {"combinator", "not", "rules", *_SCREEN_KEYS})
        if unknown:
            self.fail(where, f"a group has combinator, not and rules, but no {', '.join(unknown)}")
            return None
        if depth > DEEPEST_GROUP:
            self.fail(where, f"groups are nested deeper than {DEEPEST_GROUP}")
            return None
        combinator = document.get("combinator", "and")
        if combinator not in ("and", "or"):
            self.fail(where, "combinator must be and, or or", combinator)
            return None
        is_not = document.get("not", False)
        if not isinstance(is_not, bool):
            self.fail(where, "not must be true or false", is_not)
            return None
        rules = document.get("rules")
        if not isinstance(rules, list | tuple) or not rules:
            self.fail(
                where, "rules must be a list of at least one rule or group: an empty group would hold for everybody"
            )
            return None
        nodes: list[Node | None] = []
        for number, rule in enumerate(rules, 1):
            place = f"{where}, rule {number}"
            if isinstance(rule, Mapping) and "rules" in rule:
                nodes.append(self.group(rule, place, within, depth + 1))
            else:
                nodes.append(self.rule(rule, place, within, depth))
        if any(node is None for node in nodes):
            return None
        return Group(where, combinator, is_not, tuple(node for node in nodes if node is not None))

    def rule(self, document: Any, where: str, within: Elements | None, depth: int) -> Node | None:
        if not isinstance(document, Mapping) or not isinstance(document.get("field"), str):
            self.fail(where, "must be a rule with field, operator and value, or a group with rules", document)
            return None
        self.rule_count += 1
        if self.rule_count > MOST_RULES:
            if self.rule_count == MOST_RULES + 1:
                self.fail(where, f"a condition has at most {MOST_RULES} rules")
            return None
        name = document["field"]
        where = f"{where}: field {_shortened(name)}"
        unknown = sorted(str(key) for key in set(document) - {"field", "operator", "value", "match", *_SCREEN_KEYS})
        if unknown:
            self.fail(where, f"a rule has field, operator, value and match, but no {', '.join(unknown)}")
            return None
        if document.get("valueSource", "value") != "value":
            self.fail(where, "comparing two fields is not possible: valueSource must be value", document["valueSource"])
            return None
        if within is None:
            if name == "segment":
                return self.segment(document, where, depth)
            collection, _, rest = name.partition(".")
            if collection in self.catalogue.elements:
                return self.matching(document, where, self.catalogue.elements[collection], rest, depth)
        found = self.find(name, within)
        if found is None:
            self.fail(where, f"there is no such field{self.suggestion(name, within)}")
            return None
        if "match" in document:
            self.fail(where, "match is only for contacts and touchpoints")
            return None
        return self.comparison(found, document, where)

    def comparison(self, found: Field, document: Mapping[str, Any], where: str) -> Comparison | None:
        operator = document.get("operator", "=")
        if operator not in found.operators:
            near = difflib.get_close_matches(str(operator), found.operators, 1)
            self.fail(
                where,
                f"the operator must be one of {' '.join(found.operators)}, as it is {_TYPE_NAMES[found.type]}"
                + (f"; did you mean {near[0]}?" if near else ""),
                operator,
            )
            return None
        value = document.get("value")
        if operator in _NULL:
            return Comparison(where, found, operator, None)
        if operator in ("in", "notIn", "between", "notBetween"):
            items = value.split(",") if isinstance(value, str) else value
            if not isinstance(items, list | tuple) or not items:
                self.fail(where, f"{operator} needs a list of values", value)
                return None
            if "etween" in operator and len(items) != 2:
                self.fail(where, f"{operator} needs two values", value)
                return None
            items = [item.strip() if isinstance(value, str) else item for item in items]
            found = self.settled(found, items[0], operator)
            typed = [self.value(found, item, operator, where) for item in items]
            return None if any(item is None for item in typed) else Comparison(where, found, operator, tuple(typed))
        found = self.settled(found, value, operator)
        item = self.value(found, value, operator, where)
        return None if item is None else Comparison(where, found, operator, item)

    def settled(self, found: Field, value: Any, operator: str) -> Field:
        """A column of the user's own is text or a number, as it is compared: `value_micro` is empty where it is no number."""
        if found.type != "custom":
            return found
        is_number = operator in _ORDER or (isinstance(value, int | float | Decimal) and not isinstance(value, bool))
        return replace(found, type="micro", column="value_micro") if is_number else replace(found, type="text")

    def value(self, found: Field, value: Any, operator: str, where: str) -> Any:
        """The value in the field's type, or None after a complaint."""
        try:
            typed = _VALUES[found.type](value)
        except (ValueError, InvalidOperation):
            self.fail(where, f"the value must be {_TYPE_NAMES[found.type]}", value)
            return None
        if operator == "matches":
            problem = _pattern_problem(typed)
            if problem:
                self.fail(where, f"not a regular expression: {problem}", typed)
                return None
        elif found.values and operator in _EQUAL:
            spelled = {known.lower(): known for known in found.values}
            if typed.lower() in spelled:
                return spelled[typed.lower()] if found.is_spelled_so else typed
            near = difflib.get_close_matches(typed, found.values, 1)
            few = f"one of {', '.join(found.values)}" if len(found.values) <= 16 else "one that there is"
            self.fail(where, f"the value must be {few}" + (f"; did you mean {near[0]}?" if near else ""), typed)
            return None
        return typed

    def matching(
        self, document: Mapping[str, Any], where: str, elements: Elements, rest: str, depth: int
    ) -> Matching | None:
        operator = document.get("operator", "=")
        if not rest:
            return self.subquery(document, where, elements, depth)
        if elements.is_timed and operator in ("happened", "notHappened"):
            return self.happened(document, where, elements, rest)
        found = elements.fields.get(rest)
        if found is None:
            asks_signal = elements.is_timed and rest in elements.fields["signal"].values
            self.fail(
                where,
                "the operator of a signal must be happened or notHappened"
                if asks_signal
                else f"there is no such field{self.suggestion(f'{elements.name}.{rest}', None)}",
                operator if asks_signal else None,
            )
            return None
        comparison = self.comparison(found, document, where)
        if comparison is None:
            return None
        text = f"some of its {elements.name}: {comparison.text}"
        return Matching(where, elements, "some", 1, Group(where, "and", False, (comparison,)), text)

    def happened(self, document: Mapping[str, Any], where: str, elements: Elements, signal: str) -> Matching | None:
        known = elements.fields["signal"].values
        if signal not in known:
            near = difflib.get_close_matches(signal, known, 3)
            self.fail(
                where, "there is no such signal" + (f"; did you mean {' or '.join(near)}?" if near else ""), signal
            )
            return None
        value = document.get("value")
        asked = {"within_days": value} if not isinstance(value, Mapping) else dict(value)
        unknown = sorted(str(key) for key in set(asked) - {"within_days", "at_least"})
        if unknown:
            self.fail(where, f"the value has within_days and at_least, but no {', '.join(unknown)}")
            return None
        days, least = asked.get("within_days"), asked.get("at_least", 1)
        parts: list[Node] = [Comparison(where, elements.fields["signal"], "=", signal)]
        text = f"{signal} {'happened' if document['operator'] == 'happened' else 'did not happen'}"
        if days not in (None, ""):
            try:
                days = _days(days)
            except ValueError:
                self.fail(where, f"within_days must be a whole number from 0 to {MOST_DAYS:,}", days)
                return None
            parts.append(Comparison(where, elements.fields["days_ago"], "<", days))
            text += f" within {days} days"
        if not isinstance(least, int) or isinstance(least, bool) or not 1 <= least <= 10**9:
            self.fail(where, "at_least must be a whole number from 1", least)
            return None
        if least > 1:
            text += f" at least {least} times"
        mode = ("atLeast" if least > 1 else "some") if document["operator"] == "happened" else "atMost"
        threshold = least if mode != "atMost" else least - 1
        return Matching(where, elements, mode, threshold, Group(where, "and", False, tuple(parts)), text)

    def subquery(self, document: Mapping[str, Any], where: str, elements: Elements, depth: int) -> Matching | None:
        match = document.get("match", {"mode": "some"})
        mode = match.get("mode") if isinstance(match, Mapping) else None
        if mode not in MATCH_MODES:
            self.fail(where, f"match.mode must be one of {' '.join(MATCH_MODES)}", match)
            return None
        threshold = match.get("threshold", 1)
        if mode in ("atLeast", "atMost", "exactly") and (
            not isinstance(threshold, int) or isinstance(threshold, bool) or not 0 <= threshold <= 10**9
        ):
            self.fail(where, f"match.threshold of {mode} must be a whole number", threshold)
            return None
        group = self.group(document.get("value"), f"{where}, value", elements, depth + 1)
        if group is None:
            return None
        number = f" {threshold}" if mode in ("atLeast", "atMost", "exactly") else ""
        return Matching(where, elements, mode, threshold, group, f"{mode}{number} of its {elements.name}: {group.text}")

    def segment(self, document: Mapping[str, Any], where: str, depth: int) -> Group | None:
        """A segment is a saved condition: its own tree stands here."""
        operator, value = document.get("operator", "="), document.get("value")
        if operator not in _EQUAL:
            self.fail(where, f"the operator must be one of {' '.join(_EQUAL)}", operator)
            return None
        names = value.split(",") if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not names or not all(isinstance(name, str) for name in names):
            self.fail(where, "the value must be a segment's name, or a list of names", value)
            return None
        trees = []
        for name in (name.strip() for name in names):
            if name not in self.catalogue.segments:
                near = difflib.get_close_matches(name, self.catalogue.segments, 1)
                self.fail(where, "there is no such segment" + (f"; did you mean {near[0]}?" if near else ""), name)
            elif name in self.open_segments:
                self.fail(where, f"segments ask for each other in a circle: {' -> '.join((*self.open_segments, name))}")
            else:
                before = self.catalogue, self.open_segments
                self.open_segments = (*self.open_segments, name)
                self.catalogue = self.catalogue.of_segments or self.catalogue
                trees.append(self.group(self.catalogue.segments[name], f"segment {name}", None, depth + 1))
                self.catalogue, self.open_segments = before
        if len(trees) < len(names) or any(tree is None for tree in trees):
            return None
        return Group(where, "or", operator in ("!=", "notIn"), tuple(tree for tree in trees if tree is not None))

    def find(self, name: str, within: Elements | None) -> Field | None:
        if within is not None:
            return within.fields.get(name)
        if name.startswith("custom.") and name != "custom.":
            return _attribute_field(name, "custom")
        return self.catalogue.fields.get(name)

    def suggestion(self, name: str, within: Elements | None) -> str:
        if within is not None:
            known = list(within.fields)
        else:
            known = [*self.catalogue.fields, "segment"]
            for elements in self.catalogue.elements.values():
                known += [elements.name, *(f"{elements.name}.{inner}" for inner in elements.fields)]
                if elements.is_timed:
                    known += [f"{elements.name}.{signal}" for signal in elements.fields["signal"].values]
        near = difflib.get_close_matches(name, known, 3)
        if near:
            return f"; did you mean {' or '.join(near)}?"
        return (
            "; a column of your own is called custom.<column>" if within is None else f"; there are {', '.join(known)}"
        )


def _text_value(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError
    text = str(value)
    # A character of control cannot be typed, seen or, some of them, sent to an engine.
    if len(text) > LONGEST_VALUE or any(ord(letter) < 32 and letter not in "\t\n\r" for letter in text):
        raise ValueError
    text.encode("utf-8")  # a lone surrogate is a UnicodeEncodeError, which is a ValueError
    return text


def _number_value(value: Any) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, str | int | float | Decimal):
        raise ValueError
    number = Decimal(str(value).strip())
    if not number.is_finite() or abs(number) >= 10**12:
        raise ValueError
    return number


def _boolean_value(value: Any) -> bool:
    if isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if not isinstance(value, bool):
        raise ValueError
    return value


def _timestamp_value(value: Any) -> datetime:
    if isinstance(value, date) and not isinstance(value, datetime):
        return datetime(value.year, value.month, value.day)
    moment = value if isinstance(value, datetime) else datetime.fromisoformat(_text_value(value).strip())
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _days(value: Any) -> int:
    number = _number_value(value)
    if number != number.to_integral_value() or not 0 <= number <= MOST_DAYS:
        raise ValueError
    return int(number)


_VALUES: Mapping[str, Callable[[Any], Any]] = {
    "text": _text_value,
    "number": _number_value,
    "micro": _number_value,
    "boolean": _boolean_value,
    "timestamp": _timestamp_value,
    "age": _days,
}


def _pattern_problem(pattern: str) -> str | None:
    """What the engine says against a regular expression; None = nothing."""
    if len(pattern) > LONGEST_PATTERN:
        return f"longer than {LONGEST_PATTERN} characters"
    import duckdb

    with duckdb.connect(":memory:") as con:
        try:
            con.execute("select regexp_matches('', ?)", [f"(?i){pattern}"])
        except duckdb.Error as error:
            return str(error).split("\n", 1)[0].removeprefix("Invalid Input Error: ")
    return None


def _shortened(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _sentence(name: str, operator: str, value: Any) -> str:
    if operator in _NULL:
        return f"{name} is {'missing' if operator == 'null' else 'known'}"
    shown = ", ".join(str(item) for item in value) if isinstance(value, tuple) else str(value)
    return f"{name} {operator} {shown}"


# --------------------------------------------------------------------------- the expression


def expression_of(node: Node, row: str = SUBJECT) -> exp.Expression:
    """A checked tree as an expression that is true or false.

    Parameters
    ----------
    row : the alias of the row that the condition is on: `subject`, or that of a contact or touchpoint. There must be a `subject`
        in either case
    """
    from sqlglot import exp

    if isinstance(node, Group):
        inner = [expression_of(rule, row) for rule in node.rules]
        joined = exp.and_(*inner) if node.combinator == "and" else exp.or_(*inner)
        return exp.Not(this=exp.Paren(this=joined)) if node.is_not else exp.Paren(this=joined)
    if isinstance(node, Matching):
        return _matching_expression(node)
    found = node.field
    if found.lookup is None:
        column = _column(row, found.column)
        if node.operator == "null":
            return exp.Is(this=column, expression=exp.null())
        return exp.Paren(this=exp.and_(_is_known(column), _predicate(node, column)))
    lookup = found.lookup
    alias = "looked_up"
    conditions = [_equals(_column(alias, lookup.key), _column(row, lookup.of))]
    conditions += [_equals(_column(alias, column), exp.Literal.string(text)) for column, text in lookup.where]
    conditions += [_equals(_column(row, column), exp.Literal.string(text)) for column, text in lookup.only]
    if lookup.has_history:
        moment = _column(SUBJECT, "moment_at")
        conditions += [
            exp.LTE(this=_column(alias, "valid_from"), expression=moment),
            exp.GT(this=_column(alias, "valid_to"), expression=moment.copy()),
        ]
    column = _column(alias, found.column)
    conditions.append(_is_known(column))
    if node.operator not in _NULL:
        conditions.append(_predicate(node, column))
    exists = _exists(_table(lookup.relation, alias), conditions)
    return exp.Not(this=exists) if node.operator == "null" else exists


def _matching_expression(node: Matching) -> exp.Expression:
    from sqlglot import exp

    alias = node.elements.name
    source = _table(node.elements.relation, alias)
    key = node.elements.key
    conditions: list[Any] = [_equals(_column(alias, key), _column(SUBJECT, key))]
    if node.elements.is_timed:
        conditions += [
            exp.LTE(this=_column(alias, "occurred_at"), expression=_column(SUBJECT, "moment_at")),
            exp.LTE(this=_column(alias, "known_at"), expression=_column(SUBJECT, "known_at")),
        ]
    fulfilled = expression_of(node.group, alias)
    if node.mode == "all":
        return exp.Not(this=_exists(source, [*conditions, exp.Not(this=fulfilled)]))
    conditions.append(fulfilled)
    if node.mode == "some" or (node.mode, node.threshold) == ("atLeast", 1):
        return _exists(source, conditions)
    if node.mode == "none" or (node.mode, node.threshold) == ("atMost", 0):
        return exp.Not(this=_exists(source, conditions))
    count = exp.select(exp.Count(this=exp.Star())).from_(source).where(exp.and_(*conditions)).subquery()
    compare: Any = {"atLeast": exp.GTE, "atMost": exp.LTE, "exactly": exp.EQ}[node.mode]
    # Some engines give null and not zero for a count over nothing.
    return compare(
        this=exp.Coalesce(this=count, expressions=[exp.Literal.number(0)]),
        expression=exp.Literal.number(node.threshold),
    )


def _predicate(node: Comparison, column: Any) -> Any:
    from sqlglot import exp

    kind: str = node.field.type
    operator, value = node.operator, node.value
    if kind == "age":
        return _age_predicate(operator, value, column)
    if kind in ("text", "custom"):
        if operator == "matches":
            return exp.RegexpLike(this=column, expression=exp.Literal.string(f"(?i){value}"))
        is_spelled_so = node.field.is_spelled_so and operator in _EQUAL
        kind = "spelled" if is_spelled_so else "text"
        column = column if is_spelled_so else exp.Lower(this=column)
    literals = [_literal(kind, item) for item in (value if isinstance(value, tuple) else (value,))]
    first = literals[0]
    if operator in ("in", "notIn"):
        found: Any = exp.In(this=column, expressions=literals)
        return exp.Not(this=found) if operator == "notIn" else found
    if operator in ("between", "notBetween"):
        found = exp.Between(this=column, low=first, high=literals[1])
        return exp.Not(this=found) if operator == "notBetween" else found
    if operator in _TEXT:
        name = {"C": "contains", "B": "starts_with", "E": "ends_with"}[operator.removeprefix("doesNot")[0].upper()]
        # Functions of the engine take the text as it is: a percent sign or an underscore means itself.
        found = exp.func(name, column, first, dialect=DIALECT)
        return exp.Not(this=found) if operator.startswith("doesNot") else found
    compare = {"=": exp.EQ, "!=": exp.NEQ, "<": exp.LT, "<=": exp.LTE, ">": exp.GT, ">=": exp.GTE}[operator]
    return compare(this=column, expression=first)


def _age_predicate(operator: str, value: Any, column: Any) -> Any:
    """Less than 30 days ago = later than the moment minus 30 days."""
    from sqlglot import exp

    def before(days: int) -> Any:
        return exp.Sub(
            this=_column(SUBJECT, "moment_at"),
            expression=exp.Interval(this=exp.Literal.string(str(days)), unit=exp.Var(this="DAY")),
        )

    if operator in ("between", "notBetween"):
        found = exp.Between(this=column, low=before(value[1]), high=before(value[0]))
        return exp.Not(this=found) if operator == "notBetween" else found
    compare = {"<": exp.GT, "<=": exp.GTE, ">": exp.LT, ">=": exp.LTE}[operator]
    return compare(this=column, expression=before(value))


def _literal(kind: str, value: Any) -> Any:
    from sqlglot import exp

    if kind == "number":
        return _number(value)
    if kind == "micro":
        return _number(value * 1_000_000)
    if kind == "boolean":
        return exp.Boolean(this=value)
    if kind == "timestamp":
        return exp.cast(exp.Literal.string(value.isoformat(sep=" ")), "timestamp")
    if kind == "spelled":
        return exp.Literal.string(value)
    # The engine's own lower case, for the column's letters were made small by it too.
    return exp.Lower(this=exp.Literal.string(str(value)))


def _number(value: Decimal) -> Any:
    from sqlglot import exp

    literal = exp.Literal.number(format(abs(value).normalize(), "f"))
    return exp.Neg(this=literal) if value < 0 else literal


def _exists(source: Any, conditions: list[Any]) -> Any:
    from sqlglot import exp

    return exp.Exists(this=exp.select(exp.Literal.number(1)).from_(source).where(exp.and_(*conditions)))


def _equals(left: Any, right: Any) -> Any:
    from sqlglot import exp

    return exp.EQ(this=left, expression=right)


def _is_known(column: Any) -> Any:
    from sqlglot import exp

    return exp.Not(this=exp.Is(this=column.copy(), expression=exp.null()))


def _column(table: str, name: str) -> Any:
    from sqlglot import exp

    return exp.column(name, table=table)


def _table(name: str, alias: str) -> Any:
    from sqlglot import exp

    schema, table = name.split(".")
    return exp.alias_(exp.table_(table, db=schema), alias, table=True)
