"""What bots would do to scores: the demo company's mail gateways, with and without the filter, from the command line."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from orchestration.cli.main import main
from orchestration.lib.bot_effects import BotEffects, bot_effects
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.warehouse import open_warehouse, writer_lock
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

#: Limits that nothing in the traffic of the company's contacts reaches. The list of crawlers cannot be put aside; they visit unnamed.
NO_FILTER = (
    "bots: {seconds_after_delivery: 0, at_once_seconds: 0, links_at_once: 1000, recipients_per_minute: 1000000, "
    "data_centre_agents: []}"
)


@pytest.fixture(scope="module")
def company(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    workspace = demo.copy(tmp_path_factory.mktemp("bots") / "workspace")
    shutil.copytree(demo.workspace.home / "marts", workspace.home / "marts", symlinks=True, dirs_exist_ok=True)
    return workspace


@pytest.fixture(scope="module")
def effects(company: Workspace) -> BotEffects:
    with writer_lock(company):
        return bot_effects(company, say=print)


def test_bots__their_points_are_those_of_a_refresh_that_tells_nobody_apart(
    demo: Company, company: Workspace, effects: BotEffects, refresh: Callable[..., Any]
) -> None:
    with open_marts(company) as con:
        published = {row["account_id"]: row for row in rows(con, "from scored_accounts where state = 'scored'")}
        flagged = rows(
            con,
            "select account_id, count(*) as n from flagged_touchpoints where account_id is not null group by account_id",
        )
    assert {effect.account_id: effect.touchpoint_count for effect in effects.accounts} == {
        row["account_id"]: row["n"] for row in flagged
    }
    scored = [effect for effect in effects.accounts if effect.account_id in published]
    assert len(scored) > 10
    for effect in scored:
        row = published[effect.account_id]
        assert (effect.counted_engagement, effect.counted_fit, effect.counted_cell) == (
            row["engagement_points"], row["fit_points"], row["cell"],
        )  # fmt: skip

    unfiltered = Workspace(company.home.parent / "unfiltered")
    shutil.copytree(company.home, unfiltered.home, symlinks=True, ignore=shutil.ignore_patterns("marts"))
    text = unfiltered.scorecard_file.read_text()
    line = next(line for line in text.splitlines() if line.startswith("bots:"))
    unfiltered.scorecard_file.write_text(text.replace(line, NO_FILTER))
    refresh(unfiltered, demo.as_of)
    with open_marts(unfiltered) as con:
        assert rows(con, "from flagged_touchpoints where account_id is not null") == []
        naive = {row["account_id"]: row for row in rows(con, "from scored_accounts where state = 'scored'")}
    for effect in scored:
        row = naive[effect.account_id]
        assert (effect.with_bots_engagement, effect.with_bots_fit) == (row["engagement_points"], row["fit_points"])
    others = published.keys() - {effect.account_id for effect in effects.accounts}
    moved = [name for name in others if published[name]["engagement_points"] != naive[name]["engagement_points"]]
    assert moved == [], "accounts without a flagged touchpoint have nothing to do with bots"
    assert sum(effect.change for effect in effects.accounts) > 0, "gateways look like eager readers"


def test_bots__of_each_account_the_criteria_sum_to_the_change_and_the_largest_comes_first(effects: BotEffects) -> None:
    for effect in effects.accounts:
        assert effect.change == sum(row.with_bots_points - row.counted_points for row in effect.criteria)
    changes = [abs(effect.change) for effect in effects.accounts]
    assert changes == sorted(changes, reverse=True)


def test_bots__are_shown_and_the_warehouse_stays_as_it_was(company: Workspace, effects: BotEffects) -> None:
    def fingerprint() -> list[tuple[Any, ...]]:
        with open_warehouse(company) as con:
            return [
                con.execute(f"select count(*), bit_xor(hash(t)) from {table} as t").fetchall()[0]
                for table in (
                    "intermediate.int_touchpoints__kept",
                    "intermediate.int_touchpoints__daily",
                    "intermediate.int_spine__accounts",
                    "intermediate.int_accounts__points",
                )
            ]

    before = fingerprint()
    first = effects.accounts[0]
    result = CliRunner().invoke(main, ["--home", str(company.home), "bots", "--account", first.account_id])
    assert result.exit_code == 0, result.output
    assert first.account_name in result.output
    assert result.output.rstrip().splitlines()[-1].split()[-1] == f"{first.change:+d}"
    assert fingerprint() == before


def test_bots__of_a_workspace_without_scores_says_so(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w")
    assert CliRunner().invoke(main, ["--home", str(workspace.home), "init"]).exit_code == 0
    result = CliRunner().invoke(main, ["--home", str(workspace.home), "bots"])
    assert result.exit_code == 1
    assert "run scoring refresh" in result.output
