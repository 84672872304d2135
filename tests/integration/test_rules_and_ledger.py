"""Points by people and by rules, from the command line through real refreshes to the published ledger."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestration.cli.main import main
from orchestration.lib.landing import landing_file
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

LARGE = """
title: Large and known to buy
operation: add
points: 12
conditions:
  combinator: and
  rules:
    - {field: employees, operator: ">=", value: 200}
    - {field: state, operator: "=", value: scored}
"""
HOT = """
title: Those whom the rule gave points
rank_by: both
most: 20
conditions:
  rules:
    - {field: employees, operator: ">=", value: 200}
    - {field: cell, operator: beginsWith, value: A}
"""
FORMS = """
title: Filled in a form
operation: add
points: 5
how_often: every_event
cap: 12
effective: {from: 2026-05-01}
event:
  rules: [{field: signal, operator: "=", value: form_submission}]
"""


def run(workspace: Workspace, *arguments: str) -> str:
    result = CliRunner().invoke(main, ["--home", str(workspace.home), *arguments])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture(scope="module")
def company(demo: Company, refresh: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The demo company with two rules, and one that is refused, as of now."""
    workspace = demo.copy(tmp_path_factory.mktemp("ruled") / "workspace")
    workspace.rules.mkdir(exist_ok=True)
    for name, text in {"large": LARGE, "forms": FORMS, "typo": LARGE.replace("employees", "emploees")}.items():
        (workspace.rules / f"{name}.yml").write_text(text, encoding="utf-8")
    (workspace.segments / "hot.yml").write_text(HOT, encoding="utf-8")
    # As files of before the ledger were: without its newer columns.
    at = datetime.fromisoformat(demo.as_of) - timedelta(days=1)
    account = smallest_account(demo.workspace)["account_id"]
    with landing_file(workspace, "scoring__adjustments", "adjustments.csv") as path:
        path.write_text(
            "adjustment_id,account_id,operation,points,note,author,occurred_at,expires_at\n"
            f"a1,{account},add,7,met at the fair,ann,{at.isoformat()},\n"
            f"a2,{account},set,30,board contact,ann,{(at + timedelta(hours=1)).isoformat()},\n"
            f"a3,{account},subtract,5,budget cut,ann,{(at + timedelta(hours=2)).isoformat()},\n"
            f"a4,{account},add,99,campaign,ann,{at.isoformat()},{(at + timedelta(hours=3)).isoformat()}\n"
        )
    refresh(workspace)
    return workspace


def smallest_account(workspace: Workspace) -> dict[str, Any]:
    """One that the rules leave alone: it has no form and too few employees."""
    with open_marts(workspace) as con:
        return rows(
            con,
            "select accounts.* from scored_accounts as accounts inner join score_contributions as contributions using (account_id) "
            "where state = 'scored' and criterion = 'employees' and band = '< 10' and account_id not in ("
            "select account_id from score_contributions where criterion = 'form_submissions' and value <> '0') "
            "order by account_id limit 1",
        )[0]


def test_adjustments__of_an_older_file_add_up_in_their_order_and_change_no_probability(
    demo: Company, company: Workspace
) -> None:
    account = smallest_account(demo.workspace)["account_id"]
    with open_marts(company) as con:
        found = rows(con, "select * from scored_accounts where account_id = ?", [account])[0]
        row = rows(con, "select * from score_contributions where account_id = ? and kind = 'adjustment'", [account])
        ledger = rows(
            con,
            "select operation, balance_after from score_ledger where account_id = ? and source <> 'form' order by occurred_at",
            [account],
        )
    assert found["adjustment_points"] == 25
    assert found["total_points"] == found["fit_points"] + found["engagement_points"] + 25
    assert [r["points"] for r in row] == [25]
    assert [entry["operation"] for entry in ledger][-2:] == ["set", "subtract"]
    assert ledger[-1]["balance_after"] == 25


def test_segments__have_members_changes_and_a_feed(company: Workspace, tmp_path: Path) -> None:
    with open_marts(company) as con:
        members = rows(con, "select * from segment_members order by rank_no")
        entered = rows(con, "select account_id from segment_changes where segment = 'hot' and change = 'entered'")
        cells = rows(
            con,
            "select distinct cell from scored_accounts where account_id in (select account_id from segment_members)",
        )
    assert 0 < len(members) <= 20
    assert [row["rank_no"] for row in members] == list(range(1, len(members) + 1))
    assert {row["account_id"] for row in entered} == {row["account_id"] for row in members}
    assert all(row["cell"].startswith("A") for row in cells)
    assert "employees >= 200 and cell beginsWith A" in run(company, "segments", "list")
    file = tmp_path / "hot.csv"
    told = run(company, "segments", "export", "hot", "--to", str(file), "--consumer", "crm")
    assert len(file.read_text(encoding="utf-8").splitlines()) == 1 + len(members)
    run(company, "segments", "confirm", "hot", "--consumer", "crm", told.split()[-1])
    assert "0 changes of hot for crm" in run(
        company, "segments", "export", "hot", "--to", str(file), "--consumer", "crm"
    )


def test_rules_and_adjustments__through_the_command_line(company: Workspace, refresh: Callable[..., Any]) -> None:
    with open_marts(company) as con:
        ((as_of_at,),) = con.execute("select as_of_at from publication").fetchall()
        account = rows(con, "select * from scored_accounts where adjustment_points = 12 order by rank limit 1")[0]
        contact = rows(con, "select * from scored_contacts where engagement_points is not null order by 1 limit 1")[0]
        by_form = rows(
            con,
            "select ledger.account_id, sum(points_applied) as points from score_ledger as ledger where source = 'form' group by 1",
        )
        unsummed = rows(
            con,
            "select accounts.account_id from scored_accounts as accounts left join (select account_id, sum(points_applied) as points "
            "from score_ledger group by account_id) as ledger using (account_id) where state = 'scored' "
            "and total_points <> fit_points + engagement_points + coalesce(ledger.points, 0)",
        )
    assert unsummed == []
    assert by_form
    assert max(row["points"] for row in by_form) <= 12

    listed = run(company, "rules", "list")
    assert "Large and known to buy" in listed
    assert "'emploees': there is no such field; did you mean employees?" in listed
    tested = run(company, "rules", "test", "large", "--account", account["account_id"])
    assert "holds for" in tested
    assert "yes  employees >= 200 (it is" in tested
    # It has fired for everybody whom it holds for, so nothing is left to do.
    assert "0 would gain 0 points, 0 would lose 0" in run(company, "rules", "preview", "large")

    run(company, "adjust", account["account_id"], "set", "40", "--note", "a strategic account", "--title", "Strategic")
    run(company, "adjust", "--contact", contact["contact_id"], "subtract", "3", "--note", "left the company")
    assert "2 new operations wait for the next refresh" in run(company, "adjustments", account["account_id"])
    # Fewer points, from May on: what the old version gave since is taken back.
    (company.rules / "forms.yml").write_text(FORMS.replace("points: 5", "points: 2"), encoding="utf-8")
    expected = run(company, "rules", "preview", "forms")
    refresh(company)
    with open_marts(company) as con:
        after = rows(con, "select * from scored_accounts where account_id = ?", [account["account_id"]])[0]
        person = rows(con, "select * from scored_contacts where contact_id = ?", [contact["contact_id"]])[0]
        (changed,) = rows(
            con,
            "select sum(case when operation = 'void' then 1 else 0 end) as voids, "
            "max(case when rule_version = 'v2' then points_applied end) as most from score_ledger where rule_id = 'forms'",
        )
        key = rows(
            con,
            "select ledger_id from score_ledger where account_id = ? and operation = 'set'",
            [account["account_id"]],
        )[0]
    assert after["adjustment_points"] == 40
    assert person["adjustment_points"] == -3
    assert person["total_points"] == person["engagement_points"] - 3
    assert changed["voids"] > 0
    assert changed["most"] == 2
    assert f"{len(by_form)} would lose" in expected

    told = run(company, "adjustments", account["account_id"])
    assert "a strategic account" in told
    assert "for the next refresh" not in told
    assert "balance 12" in run(company, "adjustments", account["account_id"], "--at", as_of_at.isoformat())
    run(company, "adjustments", "delete", key["ledger_id"][:10], "--note", "it was another company")
    # A new warehouse from the landing zone: the same ledger, but for what has been said since.
    refresh(company, full=True)
    with open_marts(company) as con:
        again = rows(con, "select * from scored_accounts where account_id = ?", [account["account_id"]])[0]
        history = rows(
            con,
            "select operation, entry_status from score_ledger where account_id = ? and rule_id is null order by entry_no",
            [account["account_id"]],
        )
    assert again["adjustment_points"] == 12
    assert [(row["operation"], row["entry_status"]) for row in history] == [("set", "voided"), ("void", "void")]


def test_example_rule__stands_in_a_new_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    run(workspace, "init")
    assert "There are no rules yet" in run(workspace, "rules", "list")
    assert "touchpoints.form_name" in run(workspace, "rules", "fields")
