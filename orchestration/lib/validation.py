"""Runs a contract's rules on rows with Great Expectations and says which rows break which rule.

The rules stand in the contracts alone; this module translates them. Types are not checked here: the casts of
`loading` have done that, and only rows that passed them come here.
"""

from __future__ import annotations

import logging
import os
import re
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from orchestration.lib.contracts import Contract
from orchestration.lib.errors import UserError
from orchestration.lib.ingest_casting import sql_name, sql_text

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa


NOT_NULL = "expect_column_values_to_not_be_null"
#: Whether a row keeps one of these depends on other rows. Rows come in files and parts of files, so nothing could
#: check them; what must be unique is said by the contract's key.
ACROSS_ROWS = frozenset(
    {
        "expect_column_values_to_be_unique",
        "expect_compound_columns_to_be_unique",
        "expect_column_values_to_be_increasing",
        "expect_column_values_to_be_decreasing",
        "expect_column_value_z_scores_to_be_less_than",
    }
)


#: What Python and DuckDB (RE2) read in two ways in a regular expression: a class of letters by name, a repetition without its least number.
_READ_OTHERWISE = ("[:", "{,")


class RuleError(UserError):
    """A rule of a contract could not be run.

    That is a fault of the contract, never a reason to let rows pass.
    """


@dataclass(frozen=True)
class Rule:
    """One rule as Great Expectations runs it and as a person reads it.

    `columns` are those that it is about.
    """

    text: str
    columns: tuple[str, ...]
    expectation_type: str
    kwargs: dict[str, Any]


@dataclass(frozen=True)
class BrokenRule:
    """The rows of one table that break one rule: positions in the table, from 0, ascending."""

    rule: Rule
    positions: list[int]


def rules_of(contract: Contract) -> list[Rule]:
    """Every rule of a contract: required columns first, then values, then rules over whole rows."""
    rules = []
    for prop in contract.properties:
        if prop.required:
            rules.append(_rule("required", prop.name, NOT_NULL))
    for prop in contract.properties:
        if prop.valid_values:
            text = "one of " + ", ".join(prop.valid_values)
            values = list(prop.valid_values)
            rules.append(_rule(text, prop.name, "expect_column_values_to_be_in_set", value_set=values))
        if prop.minimum is not None or prop.maximum is not None:
            low, high = prop.minimum, prop.maximum
            text = f"at most {high}" if low is None else f"at least {low}" if high is None else f"{low} to {high}"
            expectation = "expect_column_values_to_be_between"
            rules.append(_rule(text, prop.name, expectation, min_value=low, max_value=high))
        if prop.pattern is not None:
            expectation = "expect_column_values_to_match_regex"
            rules.append(_rule(f"matches {prop.pattern}", prop.name, expectation, regex=prop.pattern))
    rules.extend(
        Rule(rule.description, rule.columns, rule.expectation_type, dict(rule.kwargs)) for rule in contract.table_rules
    )
    return rules


def _rule(text: str, column: str, expectation_type: str, **kwargs: Any) -> Rule:
    return Rule(text, (column,), expectation_type, {"column": column, **kwargs})


class RuleChecker:
    """Checks tables against the rules of one contract.

    Great Expectations is imported at the first check (some 2 s), so a refresh without new rows never pays for
    it. Every rule is about single rows, so equal rows need to be checked only once.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract: Contract):
        self.contract = contract
        self.rules = rules_of(contract)
        self._suites: dict[tuple[int, ...], Any] = {}

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns that a table to be checked must have, in the contract's order."""
        needed = {column for rule in self.rules for column in rule.columns}
        for rule in self.rules:
            words = set(re.findall(r"\w+", str(rule.kwargs.get("row_condition") or "")))
            needed |= words & set(self.contract.column_names)
        return tuple(name for name in self.contract.column_names if name in needed)

    @property
    def presence_columns(self) -> frozenset[str]:
        """Columns of which the rules ask only whether there is a value.

        A table to be checked may hold anything there that is null where the value is. Great Expectations
        hashes every frame, and for 500,000 event ids that takes longer than all rules together.
        """
        asked = {
            column
            for rule in self.rules
            for column in rule.columns
            if rule.expectation_type != NOT_NULL or rule.kwargs.get("row_condition")
        }
        conditions = " ".join(str(rule.kwargs.get("row_condition") or "") for rule in self.rules)
        return frozenset(set(self.columns) - asked - set(re.findall(r"\w+", conditions)))

    def surely_kept(self, con: duckdb.DuckDBPyConnection, table: str) -> dict[str, str]:
        """Columns of a table -> the condition in DuckDB's words under which a value keeps all rules of its column.

        Great Expectations says what breaks a rule; this only says what it need not be asked about: most values of columns in which
        nearly each is another one, such as addresses and amounts. A value that does not meet the condition may keep the rules all the same.
        Not here: columns that must have a value or that a rule over rows reads, and what the two languages might read in two ways (patterns
        that are not plain, values that are not printable ASCII, bounds that are not whole).
        """
        conditions: dict[str, list[str] | None] = {}
        for rule in self.rules:
            found = _kept_condition(con, self.contract, rule, table)
            read = set(rule.columns) | set(re.findall(r"\w+", str(rule.kwargs.get("row_condition") or "")))
            for column in read & set(self.contract.column_names):
                known = conditions.setdefault(column, [])
                if found is None:
                    conditions[column] = None
                elif known is not None:
                    known.append(found)
        return {column: " and ".join(found) for column, found in conditions.items() if found}

    def surely_good(self, con: duckdb.DuckDBPyConnection, table: str) -> str | None:
        """The condition in DuckDB's words under which a row surely keeps all rules; None where of some rule that cannot be said.

        A row that does not meet it may be good all the same: Great Expectations says.
        """
        conditions = []
        for rule in self.rules:
            column = f"{table}.{sql_name(rule.columns[0])}" if rule.columns else ""
            if rule.expectation_type == NOT_NULL and set(rule.kwargs) == {"column"}:
                conditions.append(f"{column} is not null")
                continue
            found = _kept_condition(con, self.contract, rule, table)
            if found is None:
                return None
            conditions.append(f"({column} is null or {found})")
        return " and ".join(conditions)

    def require_rules_over_rows(self) -> None:
        """Refuse rules that are about something else than one row each.

        Raises
        ------
        RuleError
            A rule names no column, or compares rows with each other.
        """
        for rule in self.rules:
            if not rule.columns:
                raise RuleError(
                    f"{self.contract.path.name}: the rule {rule.text!r} names no column; {rule.expectation_type} "
                    "is not a rule over rows"
                )
            if rule.expectation_type in ACROSS_ROWS:
                raise RuleError(
                    f"{self.contract.path.name}: the rule {rule.text!r} compares rows with each other "
                    f"({rule.expectation_type}), and a contract's rules are about one row each"
                )

    def check(self, table: pa.Table) -> list[BrokenRule]:
        """The rows that break a rule, rule by rule.

        Parameters
        ----------
        table : pyarrow.Table
            With at least `columns`, in the contract's types. Some hundred thousand rows at a time keep memory
            bounded.

        Raises
        ------
        RuleError
            A rule could not be run, e.g. because its row condition names a column that is not there.
        """
        if table.num_rows == 0 or not self.rules:
            return []
        self.require_rules_over_rows()
        import pandas as pd

        frame = table.select(self.columns).to_pandas(types_mapper=pd.ArrowDtype)
        batch = _batch(frame)
        # Finding the rows is what costs (87 s where all of 10 M rows fail everything): counts first, rows of
        # the few.
        failing = [
            number for number, result in self._results(batch, range(len(self.rules)), "SUMMARY") if not result.success
        ]
        broken = []
        for number, result in self._results(batch, failing, "COMPLETE") if failing else ():
            positions = sorted(int(position) for position in result.result.get("unexpected_index_list") or ())
            if not positions:
                raise RuleError(
                    f"{self.contract.path.name}: the rule {self.rules[number].text!r} fails without naming "
                    f"a row; {self.rules[number].expectation_type} is not a rule over rows"
                )
            broken.append(BrokenRule(self.rules[number], positions))
        return broken

    def _results(self, batch: Any, numbers: Iterable[int], result_format: str) -> list[tuple[int, Any]]:
        chosen = tuple(numbers)
        if chosen not in self._suites:
            self._suites[chosen] = _suite(self.contract, [(number, self.rules[number]) for number in chosen])
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            outcome = batch.validate(self._suites[chosen], result_format={"result_format": result_format})
        found = []
        for result in outcome.results:
            number = result.expectation_config.meta["number"]
            problem = _exception_of(result)
            if problem is not None:
                raise RuleError(
                    f"{self.contract.path.name}: the rule {self.rules[number].text!r} could not be run: {problem}"
                )
            found.append((number, result))
        # Great Expectations leaves out of a suite what it does not know, with no more than a line in the log.
        for number in set(chosen) - {number for number, _ in found}:
            rule = self.rules[number]
            raise RuleError(
                f"{self.contract.path.name}: the rule {rule.text!r} is not accepted by Great Expectations: "
                f"{rule.expectation_type} with {rule.kwargs}"
            )
        return sorted(found, key=lambda item: item[0])


def _kept_condition(con: duckdb.DuckDBPyConnection, contract: Contract, rule: Rule, table: str) -> str | None:
    """The condition under which a value surely keeps a rule of its own column; None = it cannot be said."""
    import duckdb

    kwargs = dict(rule.kwargs)
    column = f"{table}.{sql_name(str(kwargs.pop('column', '')))}"
    if rule.expectation_type == "expect_column_values_to_be_between" and set(kwargs) == {"min_value", "max_value"}:
        low, high = kwargs["min_value"], kwargs["max_value"]
        if all(bound is None or type(bound) is int for bound in (low, high)):
            return " and ".join(
                f"{column} {sign} {bound}" for sign, bound in ((">=", low), ("<=", high)) if bound is not None
            )
    if rule.expectation_type == "expect_column_values_to_be_in_set" and set(kwargs) == {"value_set"}:
        values = kwargs["value_set"]
        if contract.property_named(rule.columns[0]).sql_type == "varchar" and all(
            type(value) is str for value in values
        ):
            return f"{column} in ({', '.join(map(sql_text, values))})"
    if rule.expectation_type == "expect_column_values_to_match_regex" and set(kwargs) == {"regex"}:
        pattern = str(kwargs["regex"])
        if pattern.isascii() and not any(text in pattern for text in _READ_OTHERWISE):
            try:
                con.execute("select regexp_matches('', ?)", [pattern])
            except duckdb.Error:
                return None
            return f"regexp_full_match({column}, '[ -~]*') and regexp_matches({column}, {sql_text(pattern)})"
    return None


def _exception_of(result: Any) -> str | None:
    """What a rule raised; Great Expectations reports it as a mapping, or as one mapping per metric."""
    info = result.exception_info or {}
    for entry in (info, *(value for value in info.values() if isinstance(value, dict))):
        if entry.get("raised_exception"):
            return str(entry.get("exception_message") or "no reason given")
    return None


def _suite(contract: Contract, rules: list[tuple[int, Rule]]) -> Any:
    from great_expectations.core.expectation_suite import ExpectationSuite
    from great_expectations.expectations.expectation_configuration import ExpectationConfiguration

    with warnings.catch_warnings():
        # A row condition in pandas' words is deprecated for 2.0, and is what a contract in YAML can say.
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            # The number tells the results apart: two rules may differ in nothing else that a result repeats.
            return ExpectationSuite(
                name=contract.name,
                expectations=[
                    ExpectationConfiguration(type=rule.expectation_type, kwargs=rule.kwargs, meta={"number": number})
                    for number, rule in rules
                ],
            )
        except Exception as error:  # Great Expectations raises its own, pydantic's and plain errors here
            raise RuleError(f"{contract.path.name}: a rule is not accepted by Great Expectations: {error}") from error


@lru_cache(maxsize=1)
def _batch_definition() -> Any:
    """An in-memory context that writes no file and asks no network; making one costs 0.3 s, so one serves a
    process.
    """
    os.environ.setdefault("GX_ANALYTICS_ENABLED", "false")
    logging.getLogger("great_expectations").setLevel(logging.ERROR)
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    # This module sets a level of its own.
    logging.getLogger("great_expectations.data_context.types.base").setLevel(logging.ERROR)
    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("rows").add_dataframe_asset("rows")
    return asset.add_batch_definition_whole_dataframe("rows")


def _batch(frame: Any) -> Any:
    return _batch_definition().get_batch({"dataframe": frame})
