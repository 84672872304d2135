"""The benchmark: what a process cost, and that the hand-written script says exactly what the published marts say.

One refresh runs, in this process; the command starts several, as whole processes, and checks the same after each.
"""

from __future__ import annotations

import shutil
import sys
from datetime import datetime
from pathlib import Path

import duckdb
import pytest
from click.testing import CliRunner

from orchestration.cli.benchmark import benchmark
from orchestration.lib.benchmark import (
    TICK,
    UNTIL,
    Measurement,
    Sizes,
    compare,
    land_new_records,
    measure,
    read_steps,
    run_benchmark,
    with_steps,
)
from orchestration.lib.benchmark_baseline import score_by_hand
from orchestration.lib.errors import UserError
from orchestration.lib.job_runner import run_job
from orchestration.lib.workspace import Workspace

END = datetime.combine(UNTIL, datetime.min.time())
NOW = END + TICK
NEW_RECORDS = 1_000
TOUCH_TABLES = ("web/events", "email/events", "social/interactions", "crm/activities", "survey/nps_answers")


def _rows(workspace: Workspace, table: str, column: str, where: str = "true") -> list[object]:
    files = workspace.landing / table / "*.parquet"
    with duckdb.connect() as con:
        query = f"select {column} from read_parquet('{files}', union_by_name = true, filename = true) where {where}"
        return [value for (value,) in con.execute(query).fetchall()]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A company of 300 accounts as it landed. Tests that land more take a copy."""
    home = tmp_path_factory.mktemp("benchmark") / "workspace"
    options = ["--accounts=300", "--events=15000", "--months=12", "--seed=7", f"--until={UNTIL}"]
    command = [sys.executable, "-c", "from orchestration.cli import main; main()", "--home", str(home)]
    measure([*command, "generate", *options])
    return Workspace(home)


@pytest.fixture(scope="module")
def company(before: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The same five minutes later, with new records, refreshed."""
    workspace = Workspace(tmp_path_factory.mktemp("refreshed") / "workspace")
    shutil.copytree(before.home, workspace.home)
    land_new_records(workspace.home, NEW_RECORDS, END, seed=7)
    config = {"scoring_settings": {"as_of": NOW.isoformat()}}
    outcome = run_job(workspace, "scoring_refresh", config=config, quiet=True)
    assert outcome.success, outcome.errors
    return workspace


@pytest.fixture(scope="module")
def by_hand(company: Workspace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("by_hand") / "by_hand.duckdb"
    score_by_hand(company.landing, NOW, output)
    return output


def test_hand_written_script__says_what_the_marts_say(company: Workspace, by_hand: Path) -> None:
    counts = compare(company.published, by_hand)
    assert 200 < counts["scored accounts"] < counts["accounts"] <= 300
    with duckdb.connect(str(company.published), read_only=True) as con:
        criteria = con.execute("select count(distinct criterion) from marts.scorecard").fetchall()[0][0]
    assert counts["contributions"] == counts["scored accounts"] * criteria
    assert counts["deals"] > 100
    # The new records are touchpoints, but for the one new contact.
    landed = sum(len(_rows(company, table, "1", "filename not like '%redelivered%'")) for table in TOUCH_TABLES)
    answers = _rows(company, "crm/campaign_members", "1", "responded_at is not null and member_status <> 'invited'")
    assert counts["touchpoints"] == landed + len(answers) > 15_000


def test_hand_written_script__sees_nothing_later_than_the_moment(
    company: Workspace, by_hand: Path, tmp_path: Path
) -> None:
    earlier = tmp_path / "earlier.duckdb"
    score_by_hand(company.landing, END, earlier)
    with duckdb.connect(str(earlier), read_only=True) as con:
        assert con.execute("select max(as_of_at) from scored_accounts").fetchall() == [(END,)]
    with pytest.raises(RuntimeError, match="are only published"):
        compare(company.published, earlier)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            'update scored_accounts set total_points = total_points + 1 where "rank" = 1',
            "1 rows per account are only published",
        ),
        ('delete from scored_accounts where "rank" = 1', "1 rows per account are only published"),
        (
            "update score_contributions set band = '?' where criterion = 'industry'",
            "per contribution are only published",
        ),
        (
            "insert into score_contributions from score_contributions limit 1",
            "1 rows per contribution are only by hand",
        ),
        (
            "update scored_deals set total_points = total_points + 1 where status = 'open'",
            "per open deal are only published",
        ),
        (
            "update scored_deals set total_points = total_points + 20 where status = 'won'",
            "per range of points are only",
        ),
    ],
)
def test_compare__finds_every_kind_of_difference(
    company: Workspace, by_hand: Path, tmp_path: Path, change: str, message: str
) -> None:
    other = tmp_path / "other.duckdb"
    shutil.copy(by_hand, other)
    with duckdb.connect(str(other)) as con:
        con.execute(change)
    with pytest.raises(RuntimeError, match=message):
        compare(company.published, other)


def test_steps__are_those_of_the_last_run(company: Workspace) -> None:
    steps, models = read_steps(company.home)
    names = [name for name, _, _ in steps]
    assert names[0] == "raw_tables"
    assert names.index("dbt_features") < names.index("dbt_marts")
    assert all(begin <= end for _, begin, end in steps)
    assert models["scored_accounts"] > 0


def test_new_records__are_new_in_the_window_and_the_same_again(before: Workspace, tmp_path: Path) -> None:
    tables = ("crm/contacts", "web/events", "email/events")
    new_file = "filename like '%20260701T0005%'"
    of_row = "concat_ws('|', *columns(* exclude (filename)))"
    landed = []
    for name in ("one", "two"):
        workspace = Workspace(tmp_path / name)
        shutil.copytree(before.landing, workspace.landing)
        land_new_records(workspace.home, NEW_RECORDS, END, seed=7)
        files = [path.relative_to(workspace.landing) for path in workspace.landing.rglob("*-20260701T0005.parquet")]
        assert sorted("/".join(path.parts[:2]) for path in files) == sorted(tables)
        landed.append([_rows(workspace, table, of_row, new_file) for table in tables])
    # By what the files say: their bytes depend on what the compressor did before.
    assert landed[0] == landed[1]
    count = 0
    for table, key, moment in [
        ("crm/contacts", "contact_id", "created_at"),
        ("web/events", "event_id", "occurred_at"),
        ("email/events", "event_id", "occurred_at"),
    ]:
        keys = _rows(workspace, table, key, new_file)
        assert len(set(keys)) == len(keys)
        assert not set(keys) & set(_rows(workspace, table, key, f"not {new_file}"))
        assert all(END <= at < NOW for at in _rows(workspace, table, moment, new_file))
        count += len(keys)
    assert count == NEW_RECORDS
    visitors = set(_rows(workspace, "web/events", "visitor_id", new_file))
    known = set(_rows(workspace, "web/events", "visitor_id", f"not {new_file}"))
    assert 0 < len(visitors - known) < len(visitors & known)
    acted = f"{new_file} and event_type in ('opened', 'clicked', 'unsubscribed')"
    delivered = _rows(workspace, "email/events", "message_id || email", f"not {new_file} and event_type = 'delivered'")
    assert set(_rows(workspace, "email/events", "message_id || email", acted)) <= set(delivered)
    assert all(_rows(workspace, "email/events", "ip_address is not null and user_agent is not null", acted))
    gateway = f"{acted} and user_agent like '%MailGuard%'"
    assert 0 < len(_rows(workspace, "email/events", "1", gateway)) < len(_rows(workspace, "email/events", "1", acted))


def test_measure__counts_memory_and_time_of_the_whole_process() -> None:
    small = measure([sys.executable, "-c", "pass"])
    code = "import time; block = b'x' * 200_000_000; time.sleep(0.3); sum(range(3_000_000))"
    large = measure([sys.executable, "-c", code])
    assert 180 < large.peak_mib - small.peak_mib < 215
    assert large.wall_seconds > 0.3
    assert 0 < large.cpu_seconds < large.wall_seconds + 0.1


def test_measure__dates_the_loading_of_tables() -> None:
    code = (
        "import sys, time\n"
        "for line in ('   1.0 s  crm__accounts: a: 1 rows loaded', '   1.3 s  web__events: b: 1 of 2 rows', 'noise',\n"
        "             '   1.6 s  web__events: b: 2 rows loaded', '   1.6 s  as of 2026-07-01'):\n"
        "    print(line, file=sys.stderr, flush=True); time.sleep(0.15)\n"
    )
    tables = measure([sys.executable, "-c", code]).tables
    assert set(tables) == {"web__events"}
    assert 0.4 < tables["web__events"] < 1.5


def test_measure__says_what_a_failed_process_said() -> None:
    with pytest.raises(UserError, match=r"(?s)ended with status 3.*no such thing"):
        measure([sys.executable, "-c", "import sys; print('no such thing', file=sys.stderr); sys.exit(3)"])


def test_steps__sum_up_to_the_wall_time() -> None:
    measured = with_steps(
        Measurement(10.0, 8.0, 100.0, 0.5),
        1_000.0,
        [("load", 1_002.0, 1_005.0), ("score", 1_005.5, 1_009.0)],
        {"m": 1.0},
    )
    assert dict(measured.steps) == {"start": 2.0, "load": 3.0, "between steps": 0.5, "score": 3.5, "end": 1.0}
    assert measured.models == {"m": 1.0}
    assert measured.cpu_seconds == 8.0


def test_sizes__too_small_are_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="at least 100 accounts and 5,000 events"):
        run_benchmark(tmp_path, Sizes(accounts=99), runs=1, progress=lambda text: None)
    result = CliRunner().invoke(benchmark, ["--accounts", "99"], obj=Workspace(tmp_path))
    assert result.exit_code == 2
    assert "99 is not in the range x>=100" in result.output
    assert list(tmp_path.iterdir()) == []
