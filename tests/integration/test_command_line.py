"""The commands as a user types them, on the demo company and on broken input."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from orchestration.cli.main import COMMANDS, main
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.warehouse import only_process
from orchestration.lib.workspace import PROJECT_ROOT, Workspace
from tests.conftest import Company


def run(workspace: Workspace, *arguments: str) -> Result:
    return CliRunner().invoke(main, ["--home", str(workspace.home), *arguments])


def test_help__lists_every_command_and_each_has_help() -> None:
    text = CliRunner().invoke(main, ["--help"]).output
    for name in COMMANDS:
        assert f"  {name}" in text
        own = CliRunner().invoke(main, [name, "--help"])
        assert own.exit_code == 0, own.output
        assert "Usage:" in own.output


def test_help__imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from orchestration.cli.main import main; "
        "CliRunner().invoke(main, ['--help']); "
        "print([m for m in ('dagster', 'dbt', 'pandas', 'sklearn', 'mlflow', 'great_expectations') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert found.strip() == "[]"


def test_init__makes_a_workspace_and_never_overwrites(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    assert run(workspace, "init").exit_code == 0
    assert (workspace.inbox / "crm" / "accounts").is_dir()
    workspace.scorecard_file.write_text("mine")
    again = run(workspace, "init")
    assert again.exit_code == 0
    assert workspace.scorecard_file.read_text() == "mine"


def test_command__without_a_workspace_says_how_to_make_one(tmp_path: Path) -> None:
    result = run(Workspace(tmp_path / "nothing"), "refresh")
    assert result.exit_code == 1
    assert "is not a workspace" in result.output
    assert "init" in result.output


def test_refresh__names_file_line_and_rule_of_a_wrong_setting(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    text = workspace.scorecard_file.read_text().replace("half_life_days: 30", "half_life_days: -3", 1)
    line = next(number for number, found in enumerate(text.splitlines(), 1) if "half_life_days: -3" in found)
    workspace.scorecard_file.write_text(text)
    result = run(workspace, "refresh", "--quiet")
    assert result.exit_code == 1
    assert f"scorecard.yml:{line}: criteria.pricing_page_views.half_life_days" in result.output
    assert "greater than or equal to 1 (value: -3)" in result.output


def test_refresh__of_an_empty_workspace_publishes_empty_marts(tmp_path: Path, refresh: Callable[..., Any]) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    refresh(workspace)
    with open_marts(workspace) as con:
        assert rows(con, "select count(*) as n from scored_accounts") == [{"n": 0}]
    report = run(workspace, "report")
    assert report.exit_code == 0
    assert "No scorecard yet" in report.output


def test_first_day__a_card_without_any_deal_is_the_experts_card(tmp_path: Path, refresh: Callable[..., Any]) -> None:
    """Two accounts, no deals, no events: ranked by belief, and said so."""
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    (workspace.inbox / "crm" / "accounts" / "accounts.csv").write_text(
        "account_id,account_name,industry,employees\n1,Alpha,Software,120\n2,Beta,Retail,5\n"
    )
    time.sleep(2.1)  # a file that may still be written is left for the next refresh
    refresh(workspace)
    with open_marts(workspace) as con:
        found = rows(con, "select account_name, fit_points, win_probability from scored_accounts order by rank")
    # The settings' own points: software 10 + 50-249 employees 5, and so on; missing contacts count as none.
    assert [row["account_name"] for row in found] == ["Alpha", "Beta"]
    assert found[0]["fit_points"] - found[1]["fit_points"] == (10 + 5) - (-10 - 15)
    assert "experts" in run(workspace, "report").output


def test_refresh__with_a_refused_file_publishes_the_rest_and_ends_with_three(demo: Company, tmp_path: Path) -> None:
    workspace = demo.copy(tmp_path / "refused")
    (workspace.inbox / "crm" / "contacts" / "contacts.csv").write_text("Id,Mail\n1,a@b.example\n")
    # Old enough not to count as still being written.
    os.utime(workspace.inbox / "crm" / "contacts" / "contacts.csv", (time.time() - 60, time.time() - 60))
    rule = "title: t\noperation: add\npoints: 4\nconditions: {rules: [{field: FIELD, operator: '>', value: 1}]}\n"
    for folder, name, field in (
        ("rules", "typo", "emploees"),
        ("rules", "good", "employees"),
        ("segments", "slip", "citty"),
    ):
        text = rule.replace("FIELD", field)
        if folder == "segments":
            text = text.replace("operation: add\npoints: 4\n", "")
        (workspace.home / folder / f"{name}.yml").write_text(text)
    (workspace.inbox / "crm" / "stray.csv").write_text("Id\n1\n")
    result = run(workspace, "refresh", "--as-of", demo.as_of)
    assert result.exit_code == 3, result.output
    assert "not read: inbox/crm/stray.csv is in no table's folder; move it to one of inbox/crm/acc" in result.output
    assert "crm__contacts" in result.output
    assert "contact_id" in result.output
    with open_marts(workspace) as con:
        assert rows(con, "select count(*) as n from scored_contacts")[0]["n"] > 1_000
        refused = rows(con, "select * from load_report where status = 'refused' order by source_table")
        given = rows(con, "select count(*) as n from score_ledger where rule_id = 'good'")[0]["n"]
    assert given > 100, "the other rules go on"
    assert [(row["source_table"], row["file_name"]) for row in refused] == [
        ("crm__contacts", "contacts.csv"), ("rules", "typo.yml"), ("segments", "slip.yml"),
    ]  # fmt: skip
    for file, field in (("rules/typo.yml", "emploees"), ("segments/slip.yml", "citty")):
        assert f"{workspace.home / file}: conditions, rule 1: field '{field}': there is no such field" in result.output
    assert "did you mean employees?" in refused[1]["message"]


def test_report__shows_accounts_matrix_and_forecast(demo: Company) -> None:
    text = run(demo.workspace, "report", "--top", "3").output
    for part in ("Top accounts", "Matrix", "Won by the end of the period", "marts/current/scoring.duckdb", "AUC"):
        assert part in text


def test_explain__shows_points_that_add_up(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        account = rows(con, "select * from scored_accounts where state = 'scored' order by rank limit 1")[0]
    text = run(demo.workspace, "explain", account["account_name"]).output
    assert f"{account['total_points']} points = fit {account['fit_points']}" in text
    assert "deals won" in text
    assert text.rstrip().splitlines()[-1].split()[-2:] == ["total", str(account["total_points"])]
    assert run(demo.workspace, "explain", "no such company").exit_code == 1


def test_sql__reads_and_cannot_write(demo: Company) -> None:
    good = run(demo.workspace, "sql", "select count(*) as n from scored_accounts", "--format", "json")
    assert json.loads(good.stdout)[0]["n"] > 1_000
    bad = run(demo.workspace, "sql", "delete from scored_accounts")
    assert bad.exit_code == 1
    assert "read-only" in bad.output


def test_loads__accounts_for_every_row(demo: Company) -> None:
    result = run(demo.workspace, "loads")
    assert result.exit_code == 0
    with open_marts(demo.workspace) as con:
        wrong = rows(
            con, "select * from load_report where rows_in <> rows_loaded + rows_already_there + rows_quarantined"
        )
    assert wrong == []


def test_adjust__needs_a_reason(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        account = rows(con, "select account_id from scored_accounts order by rank limit 1")[0]["account_id"]
    assert run(demo.workspace, "adjust", account, "add", "15").exit_code == 2
    assert run(demo.workspace, "adjust", account, "add", "15", "--note", " ").exit_code == 1
    refused = run(demo.workspace, "adjust", account, "set", "-7", "--note", "too many")
    assert refused.exit_code == 2
    assert "a whole number from 0 to 100,000 (value: '-7')" in refused.output
    assert run(demo.workspace, "adjust", account, "set", "7", "--note", "-7", "--expires", "never").exit_code == 2, (
        "what is refused is the expiry, not the note"
    )


def test_fit__lands_a_draft_and_activates_on_request(demo: Company, tmp_path: Path) -> None:
    from orchestration.lib.card_store import active_card, stored_cards

    workspace = demo.copy(tmp_path / "fitted")
    result = run(workspace, "fit", "--as-of", demo.as_of, "--quiet")
    assert result.exit_code == 0, result.output
    assert [(card.version, card.state) for card in stored_cards(workspace)] == [("v1", "active"), ("v2", "draft")]
    assert run(workspace, "fit", "--activate").exit_code == 2
    result = run(workspace, "fit", "--as-of", demo.as_of, "--activate", "--note", "same deals, new version", "--quiet")
    assert result.exit_code == 0, result.output
    card = active_card(workspace)
    assert card is not None
    assert card.version == "v3"
    # The same deals give the same card.
    first, third = (stored.document["card"] for stored in (stored_cards(workspace)[0], card))
    assert first["bands"] == third["bands"]
    with open_marts(workspace) as con:
        assert rows(con, "select distinct scorecard_version as v from scored_accounts") == [{"v": "v3"}]


@pytest.mark.parametrize("command", [["refresh", "--full"], ["fit"], ["forecast", "make"]], ids=" ".join)
@pytest.mark.parametrize("moment", ["yesterday", "2026-13-01"])
def test_commands__as_of_must_be_a_moment_and_nothing_is_deleted(
    tmp_path: Path, command: list[str], moment: str
) -> None:
    workspace = Workspace(tmp_path)
    workspace.warehouse.write_bytes(b"as it was")
    result = run(workspace, *command, "--as-of", moment)
    assert result.exit_code == 2
    assert (
        f"as-of must be an ISO date or time such as 2026-06-30 or 2026-06-30T12:00 (value: {moment!r})" in result.output
    )
    assert workspace.warehouse.read_bytes() == b"as it was"


def test_pipeline_changes__takes_an_owner_by_id_or_name_and_refuses_nobody(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        (owner,) = rows(
            con, "select owner_id, owner_name from pipeline_forecast where owner_name <> '(none)' order by 1 limit 1"
        )
    by_id, by_name = (
        run(demo.workspace, "pipeline", "changes", "--from", "year-start", "--owner", who) for who in owner.values()
    )
    assert by_id.exit_code == 0, by_id.output
    assert by_id.output == by_name.output
    assert "start" in by_id.output
    refused = run(demo.workspace, "pipeline", "changes", "--from", "year-start", "--owner", "nobody")
    assert refused.exit_code == 1
    assert "no owner has the id or name 'nobody'" in refused.output


def test_status__says_that_all_is_well_with_a_company_that_is_refreshed(demo: Company) -> None:
    result = run(demo.workspace, "status")
    assert result.exit_code == 0, result.output
    assert re.search(
        r"Snapshot \d+, published \d{4}-\d\d-\d\d \d\d:\d\d UTC, .* ago; as of 2026-\d\d-\d\d 00:00 UTC", result.output
    )
    assert re.search(r"scoring_forecast +\d{4}-\d\d-\d\d \d\d:\d\d +good +\d+", result.output)
    assert re.search(r"landing +\d+ +[\d,]+ [MK]iB", result.output)
    assert "All is well" in result.output


def test_status__names_what_failed_and_what_is_blocked_until_it_is_mended(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    good = workspace.scorecard_file.read_text()
    workspace.scorecard_file.write_text(good.replace("half_life_days: 30", "half_life_days: -3", 1))
    assert run(workspace, "refresh", "--quiet").exit_code == 1
    failed = run(workspace, "status")
    assert failed.exit_code == 1
    assert "Look at this: nothing has been published yet" in failed.output
    assert re.search(
        r"Look at this: the last run of scoring_refresh failed at .* UTC: .*scorecard\.yml:\d+: .*-3", failed.output
    )

    workspace.scorecard_file.write_text(good)

    def drop(name: str, text: str) -> None:
        file = workspace.inbox / "crm" / "users" / name
        file.write_text(text)
        os.utime(file, (time.time() - 3600, time.time() - 3600))

    drop("users.csv", "name\nAnn\n")
    assert run(workspace, "refresh", "--quiet").exit_code == 3
    blocked = run(workspace, "status", "--max-age", "60")
    assert blocked.exit_code == 3
    assert "Blocked: crm__users: users.csv: refused: " in blocked.output
    assert "1 run failed in the last seven days" in blocked.output
    assert "Look at this" not in blocked.output

    drop("users2.csv", "user_id,user_name\nu1,Ann\n")
    assert run(workspace, "refresh", "--quiet").exit_code == 0
    followed = run(workspace, "status")
    assert followed.exit_code == 0
    assert re.search(r"none of its name has come since .*: crm__users: users\.csv: refused: ", followed.output)

    drop("users.csv", "user_id,user_name\nu2,Bo\n")
    assert run(workspace, "refresh", "--quiet").exit_code == 0
    assert "users.csv" not in run(workspace, "status").output


def test_refresh__says_that_the_clock_stands_before_the_last_one(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    ahead = run(workspace, "refresh", "--as-of", f"{tomorrow:%Y-%m-%dT%H:%M}")
    assert "that moment lies in the future" in ahead.output
    assert "before the last refresh's moment" not in ahead.output
    assert f"as of {tomorrow:%Y-%m-%d %H:%M} UTC, a moment to come" in run(workspace, "status").output
    back = run(workspace, "refresh")
    assert back.exit_code == 0
    assert f"before the last refresh's moment, {tomorrow:%Y-%m-%d %H:%M}:00: either it has gone back" in back.output
    assert "before the last refresh's moment" not in run(workspace, "refresh").output


def test_loads__shows_the_newest_files_and_counts_all(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        count = rows(con, "select count(*) as n from load_report where arrived_at is not null")[0]["n"]
    everything = run(demo.workspace, "loads", "--files", "10000", "--bad", "0").output
    assert everything.count("crm__accounts") > 1
    assert "newest (UTC)" not in everything
    few = run(demo.workspace, "loads", "--files", "1", "--bad", "0").output
    assert re.search(rf"All {count} files, of which \d+ are above", few)
    assert few.count("crm__accounts") < everything.count("crm__accounts")


def test_refresh__a_copy_of_the_landing_zone_and_the_settings_is_a_back_up(demo: Company, tmp_path: Path) -> None:
    restored = Workspace(tmp_path / "restored")
    shutil.copytree(demo.workspace.landing, restored.landing)
    for settings in (demo.workspace.scorecard_file, demo.workspace.sources_file):
        shutil.copy(settings, restored.home)
    result = run(restored, "refresh", "--quiet", "--as-of", demo.as_of)
    assert result.exit_code == 0, result.output
    with open_marts(demo.workspace) as con:
        before = con.execute("select * from scored_accounts order by account_id").fetchall()
        forecasts = con.execute("select * from forecast_snapshots order by all").fetchall()
    with open_marts(restored) as con:
        assert con.execute("select * from scored_accounts order by account_id").fetchall() == before
        assert con.execute("select * from forecast_snapshots order by all").fetchall() == forecasts
    assert len(forecasts) > 100


def test_serve__of_a_workspace_that_is_served_already_is_refused(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    with only_process(workspace.server_lock_file, "busy"):
        result = run(workspace, "serve", "--port", "45678")
    assert result.exit_code == 1
    assert f"{workspace.home} is served already (process {os.getpid()})" in result.output


def test_refresh__says_so_where_the_records_of_runs_cannot_be_opened(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "company")
    run(workspace, "init")
    (workspace.dagster / "runs.db").mkdir()
    (workspace.dagster / "history" / "runs.db").mkdir(parents=True)
    for command in ("refresh", "status"):
        result = run(workspace, command)
        assert result.exit_code == 1
        assert f"Error: the records of runs in {workspace.dagster}: unable to open database file" in result.output


@pytest.mark.skipif(sys.platform != "linux", reason="asks the kernel of Linux")
def test_serve__a_child_ends_when_its_server_is_killed() -> None:
    """As the three processes of the server are started, with a child that would sleep for a minute."""
    program = (
        "import subprocess, sys, time; from orchestration.lib.server import _end_with_parent; "
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=_end_with_parent); print(child.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=PROJECT_ROOT, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        child = int(server.stdout.readline())
        server.kill()
        server.wait()
    deadline = time.monotonic() + 20
    while _is_alive(child) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not _is_alive(child)


def _is_alive(process: int) -> bool:
    """A zombie, of whom only the exit status is left, is not."""
    try:
        state = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
