"""How an account is scored as of any moment, past or to come, by the refresh's own SQL in a transaction that is rolled back.

Before the last refresh: only what had happened and was known by then counts. After it: what is left if nothing happens until then,
which is how points decay. What an account *was shown with* on a past day is another question: see `score_history`.

Only what concerns the account is made, as an increment makes it:

    past:    who is who as of then, of everybody          full queries, of what the as-of moment can change
             -> whoever was the account's                 told as "changed", into tables of touchpoints that begin empty
             -> their touchpoints, bots recognised        incremental queries
    always:  the account's row, features, points          queries of its rows
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import duckdb

from orchestration.lib.card_store import active_card
from orchestration.lib.compiled_project import CompiledModel, CompiledProject
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows
from orchestration.lib.model_builds import make_rows, rolled_back, run_models
from orchestration.lib.rules import write_rules
from orchestration.lib.scorecard_settings import ScorecardSettings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace

MARTS = ("scored_accounts", "score_contributions")
#: Who is who: what touchpoints are matched by, and what the account's own row is made from.
IDENTITIES = (
    *("int_accounts", "int_account_descendants", "int_contact_accounts", "int_contact_emails", "int_contacts"),
    *("int_contacts__known", "int_contacts__role_weights", "int_visitor_identities"),
)
#: Tables of touchpoints that are made of the account's people alone, each in its way, in this order.
FOUND = ("int_touchpoints__looked_at",)
JUDGED = ("int_bots__looked_at", "int_bots", "int_touchpoints__changed", "int_touchpoints__kept")
COUNTED = (
    "int_survey_touchpoints",
    "int_touchpoints__moved",
    "int_touchpoints__daily",
    "int_account_nps",
    "int_people__engaged",
)
#: What is so for the whole company: as the last refresh left it.
OF_ALL = ("int_signals", "int_bots__agents")
#: What the marts are made from, beside what follows.
OF_ONE = ("int_accounts__contributions", "int_accounts__scored", "int_adjustments__balances")
#: What an account has only among all others; left empty.
AMONG_OTHERS = ("int_accounts__ranks", "int_accounts__reasons")
#: The columns of `scored_accounts` that come from there.
NOT_TOLD = ("expected_value", "rank", "percentile", "top_reasons")


@dataclass(frozen=True)
class ScoredAt:
    """One account as of one moment.

    Attributes
    ----------
    account : its row of `scored_accounts` without what hangs on all other accounts (`NOT_TOLD`)
    contributions : its rows of `score_contributions`
    """

    account: dict[str, Any]
    contributions: list[dict[str, Any]]


def score_at(
    workspace: Workspace,
    settings: ScorecardSettings,
    account_id: str,
    moments: Sequence[datetime],
    *,
    say: Callable[[str], None],
) -> list[ScoredAt]:
    """The account as of each moment (naive UTC), by the active scorecard. The caller holds the writer lock.

    No rule fires in it: what rules did up to the moment stands in the ledger. Of moments to come, nothing that is dated later than the
    last refresh counts.

    Raises
    ------
    UserError
        Nothing is scored yet, or the account did not exist at a moment.
    """
    card = active_card(workspace)
    if card is None or not workspace.warehouse.exists():
        raise UserError("nothing is scored yet: run scoring refresh first")
    project = read_project(workspace)
    result = []
    with open_warehouse(workspace) as con:
        (refreshed_at,) = con.execute("select as_of_at from settings.refresh").fetchall()[0]
        for moment in moments:
            say(f"scoring as of {moment:%Y-%m-%d %H:%M}")
            with rolled_back(con):
                write_settings(con, settings, card, moment, in_transaction=True)
                write_rules(con, [], {}, moment, in_transaction=True)
                if moment < refreshed_at:
                    run_models(con, _changed_by_settings(project.upstream_of(*IDENTITIES)))
                _keep_account(con, project.models["int_accounts"], account_id, moment)
                if moment < refreshed_at:
                    _make_touchpoints(con, project, account_id)
                _score(con, project, account_id)
                result.append(_scored(con, account_id))
    return result


def _changed_by_settings(models: Sequence[CompiledModel]) -> list[CompiledModel]:
    """Those of the models, in the order of building, that may be others under other settings; the as-of moment is one of them."""
    found: dict[str, CompiledModel] = {}
    for model in models:
        reads_settings = any(source == "settings" for source, _ in model.sources)
        if reads_settings or not found.keys().isdisjoint(model.depends_on):
            found[model.name] = model
    return list(found.values())


def _keep_account(con: duckdb.DuckDBPyConnection, accounts: CompiledModel, account_id: str, moment: datetime) -> None:
    """Leave this account alone in the table of accounts."""
    con.execute(
        f"create or replace temp table kept_account as from {accounts.relation} where account_id = ?", [account_id]
    )
    if not con.execute("from temp.main.kept_account").fetchall():
        raise UserError(f"account {account_id} was not known on {moment:%Y-%m-%d %H:%M}")
    con.execute(f"create or replace table {accounts.relation} as from temp.main.kept_account")


def _make_touchpoints(con: duckdb.DuckDBPyConnection, project: CompiledProject, account_id: str) -> None:
    """Make the tables of touchpoints of all that may be the account's, and of nothing else."""
    models = project.models
    _write_people(con, account_id)
    changed = [model for name, model in models.items() if "__changed_" in name and model.layer == "staging"]
    for model in changed:
        con.execute(f"create or replace table {model.relation} as select * from {model.relation} limit 0")
    con.execute("create schema if not exists increment")
    con.execute(
        "create or replace table increment.int_bots__differences as select *, 1 as _side from intermediate.int_bots limit 0"
    )
    _run_increments(con, models, FOUND)
    # A bot is recognised among all events of a message or of an address in a minute: those of the account's people are looked at anew.
    for source in ("email", "web"):
        landed, found = (models[f"stg_{source}__{name}"].relation for name in ("events", "changed_events"))
        con.execute(
            f"insert into {found} by name select *, false as _is_repeated from {landed} where _key_hash in "
            f"(select touchpoint_key from intermediate.int_touchpoints__looked_at where source = '{source}')"
        )
    _run_increments(con, models, JUDGED)
    run_models(con, project.select(*COUNTED))


def _write_people(con: duckdb.DuckDBPyConnection, account_id: str) -> None:
    """Whoever was the account's, or one's below it, at any time: its records, people, their addresses and the visitors that they were."""
    con.execute(
        """
        create or replace temp table own_accounts as
        select account_id from intermediate.int_accounts
        union
        select below_account_id from intermediate.int_account_descendants where account_id = ?
        """,
        [account_id],
    )
    con.execute(
        """
        create or replace table intermediate.int_identities__changed as
        with people as (
            select distinct landed_contact_id as id from intermediate.int_contact_accounts
            where account_id in (from temp.main.own_accounts)
        )
        select 'contact' as kind, id from people
        union
        select 'email', email from intermediate.int_contact_emails where contact_id in (from people)
        union
        select 'visitor', visitor_id from intermediate.int_visitor_identities where contact_id in (from people)
        union
        select 'account', account_id from staging.stg_crm__account_survivors
        where surviving_account_id in (from temp.main.own_accounts)
        """
    )


def _run_increments(con: duckdb.DuckDBPyConnection, models: Mapping[str, CompiledModel], names: Sequence[str]) -> None:
    """Make tables of what an increment would add to them."""
    for name in names:
        model = models[name]
        con.execute(f"set disabled_optimizers = '{'build_side_probe_side' if model.joins_as_written else ''}'")
        # Aside first: a model may read the table that it is added to.
        con.execute(f"create or replace temp table new_rows as {model.increment_sql}")
        con.execute(f"create or replace table {model.relation} as from temp.main.new_rows")
    con.execute("set disabled_optimizers = ''")


def _score(con: duckdb.DuckDBPyConnection, project: CompiledProject, account_id: str) -> None:
    """Make the account's features, points and marts."""
    for name in AMONG_OTHERS:
        relation = project.models[name].relation
        con.execute(f"create or replace table {relation} as select * from {relation} limit 0")
    there = {model.name for model in project.upstream_of(*IDENTITIES, *FOUND, *JUDGED, *COUNTED, *OF_ALL)}
    for model in [*project.upstream_of(*OF_ONE), *project.select(*MARTS)]:
        if model.name in there or not model.is_table:
            continue
        if model.kept is None and model.following.rows_by in ("account_id", "spine_id"):
            make_rows(con, model, project.models, [account_id])
        else:
            run_models(con, [model])


def _scored(con: duckdb.DuckDBPyConnection, account_id: str) -> ScoredAt:
    (account,) = rows(
        con,
        f"select * exclude ({', '.join(NOT_TOLD)}) from marts.scored_accounts where account_id = ?",
        [account_id],
    )
    contributions = rows(
        con,
        "select * from marts.score_contributions where account_id = ? order by kind, abs(points) desc, criterion",
        [account_id],
    )
    return ScoredAt(account, contributions)
