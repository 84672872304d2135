"""What is learnt from: the deals' labels and features in a refreshed warehouse, before and after people edit closed deals."""

from __future__ import annotations

import duckdb
import pytest

from orchestration.lib.dbt_runner import read_project
from orchestration.lib.model_builds import GOOD, build
from orchestration.lib.scorecard_settings import Label, ScorecardSettings, read_scorecard_settings
from orchestration.lib.settings_tables import write_settings
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

TABLES = {
    "spine": "intermediate.int_spine__deals",
    "explicit": "features.ftr_deals__explicit",
    "implicit": "features.ftr_deals__implicit",
}
MODELS = (
    "stg_crm__opportunity_versions",
    "int_deals",
    "int_deals__labelled",
    "int_label_counts",
    "int_spine__deals",
    "ftr_deals__explicit",
    "ftr_deals__implicit",
)
#: Everything that a form lets people change, a second before the demo's as-of moment.
EDIT = """
    insert into raw.crm__opportunities
    select edited.* replace (
        'renewal' as deal_type,
        'duplicate' as loss_reason,
        opened_at - interval 100 day as opened_at,
        closed_at + interval 40 day as closed_at,
        amount * 3 as amount,
        (select min(account_id) from raw.crm__accounts) as account_id,
        timestamp '2026-06-29 23:59:59' as updated_at,
        _arrived_at + interval 1 second as _arrived_at,
        hash(opportunity_id, 'edited') // 2 as _key_hash,
        hash(opportunity_id, 'edited') // 2 as _row_hash,
        10000000 + _row as _row,
        true as _is_repeated
    )
    from (
        from raw.crm__opportunities
        qualify row_number() over (partition by opportunity_id order by updated_at desc, _arrived_at desc) = 1
    ) as edited
    where status in ('won', 'lost')
"""


def contents(con: duckdb.DuckDBPyConnection) -> dict[str, list[tuple[object, ...]]]:
    return {name: con.execute(f"from {table} order by all").fetchall() for name, table in TABLES.items()}


def build_again(workspace: Workspace, *names: str) -> None:
    models = read_project(workspace).select(*names)
    with open_warehouse(workspace) as con:
        bad = [result for result in build(con, models, []) if result.status != GOOD]
    assert not bad


@pytest.fixture(scope="module")
def workspace(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo.copy(tmp_path_factory.mktemp("labels") / "workspace")


def test_edits_of_closed_deals__change_no_label_and_no_feature(workspace: Workspace) -> None:
    with open_warehouse(workspace) as con:
        before = contents(con)
        (edited,) = con.execute(EDIT).fetchone() or (0,)
        con.execute("update raw.crm__opportunities set _is_repeated = true")
    assert edited > 100
    build_again(workspace, *MODELS)
    with open_warehouse(workspace) as con:
        after = contents(con)
        changed = con.execute("select count(*) from intermediate.int_deals where deal_type = 'renewal'").fetchall()
    assert changed[0][0] > 100, "the edits did not arrive: the test shows nothing"
    for name in TABLES:
        assert after[name] == before[name], f"{name}: edits of closed deals changed what is learnt"


def test_counts__hold_every_deal_once(workspace: Workspace) -> None:
    with open_warehouse(workspace) as con:
        counts = con.execute("select outcome, sum(row_count) from intermediate.int_label_counts group by 1").fetchall()
        ((deals,),) = con.execute("select count(*) from intermediate.int_deals").fetchall()
        learnt = con.execute(
            "select case is_won when 1 then 'won' when 0 then 'lost' else 'waiting' end, count(*) "
            "from intermediate.int_spine__deals group by 1"
        ).fetchall()
    assert sum(count for _, count in counts) == deals
    assert {outcome: count for outcome, count in counts if outcome != "excluded"} == dict(learnt)


def test_account_months__have_features_by_the_same_macros_and_see_nothing_later(
    workspace: Workspace, demo: Company
) -> None:
    """An account's features at the beginning of a month are those of a deal that was opened at that moment."""
    from orchestration.lib.contracts import load_contracts
    from orchestration.lib.signals import known_signals
    from orchestration.lib.workspace import SOURCE_CONTRACTS

    settings = read_scorecard_settings(workspace.scorecard_file, known_signals(load_contracts(SOURCE_CONTRACTS)))
    label = Label.model_validate({"target": "account_wins", "account_months": {"months": 6, "most_accounts": 150}})
    changed = settings.model_copy(update={"label": label})
    assert isinstance(changed, ScorecardSettings)
    with open_warehouse(workspace) as con:
        as_of_at = con.execute("select as_of_at from settings.refresh").fetchall()[0][0]
        write_settings(con, changed, None, as_of_at)
    months_models = ("int_deals__labelled", "int_spine__account_months")
    build_again(workspace, *months_models, "ftr_account_months__explicit", "ftr_account_months__implicit")
    with open_warehouse(workspace) as con:
        accounts, months, rows = con.execute(
            "select count(distinct account_id), count(distinct as_of_at), count(*) from intermediate.int_spine__account_months"
        ).fetchall()[0]
        assert 100 < accounts <= 150, "young accounts of the sample are in no month"
        assert months == 6
        outcomes = con.execute(
            "select as_of_at + interval 90 day > timestamp '2026-06-30' as is_running, count(is_won), sum(is_won) "
            "from intermediate.int_spine__account_months group by 1 order by 1"
        ).fetchall()
        assert outcomes[0][1] > outcomes[0][2] > 0
        assert outcomes[1][1:] == (0, None)
        ((criteria,),) = con.execute("select count(*) from settings.criteria").fetchall()
        ((features,),) = con.execute(
            "select count(*) from (from features.ftr_account_months__explicit union all from features.ftr_account_months__implicit)"
        ).fetchall()
        assert features == rows * criteria
        # The deals' spine, moved to the months: the same accounts and moments through the other models.
        con.execute(
            "create or replace table intermediate.int_spine__deals as "
            "select spine_id, account_id, contact_id, as_of_at, as_of_date, is_won, closed_at, amount "
            "from intermediate.int_spine__account_months"
        )
        months_features = {
            kind: con.execute(f"from features.ftr_account_months__{kind} order by all").fetchall()
            for kind in ("explicit", "implicit")
        }
    build_again(workspace, "ftr_deals__explicit", "ftr_deals__implicit")
    with open_warehouse(workspace) as con:
        for kind, expected in months_features.items():
            assert con.execute(f"from features.ftr_deals__{kind} order by all").fetchall() == expected
