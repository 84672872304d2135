"""dbt in this process, on a project of three models: parsed once, results told node by node, the warehouse free again."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

from orchestration.lib import dbt_runner
from orchestration.lib.dbt_runner import DbtRunner, NodeResult
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import DBT_PROJECT, Workspace

FILES = {
    "dbt_project.yml": """
        name: three_models
        version: "0.1.0"
        profile: three_models
        flags: {send_anonymous_usage_stats: false, use_colors: false}
    """,
    "profiles.yml": """
        three_models:
          target: embedded
          outputs:
            embedded: {type: duckdb, path: "{{ env_var('SCORING_WAREHOUSE') }}", threads: 1}
    """,
    "models/numbers.sql": "select i as number from range(5) as numbers(i)",
    "models/doubled.sql": "select number, number * 2 as twice from {{ ref('numbers') }}",
    "models/after.sql": "{{ config(tags=['late']) }} select max(twice) as most from {{ ref('doubled') }}",
    "models/models.yml": """
        version: 2
        models:
          - name: doubled
            columns:
              - name: number
                data_tests: [unique, not_null]
              - name: twice
                data_tests:
                  - accepted_values: {arguments: {values: [0, 2, 4, 6, 8], quote: false}}
        unit_tests:
          - name: test_doubled__is_twice_the_number
            model: doubled
            given:
              - input: ref('numbers')
                rows: [{number: 21}]
            expect:
              rows: [{number: 21, twice: 42}]
    """,
}


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The project, in the place of ours."""
    root = tmp_path_factory.mktemp("dbt") / "project"
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text).lstrip(), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dbt_runner, "DBT_PROJECT", root)
        patch.setenv("SCORING_WAREHOUSE", "")  # put back what was there when dbt is done
        yield root


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return Workspace(tmp_path_factory.mktemp("home"))


def statuses(results: list[NodeResult]) -> dict[str, str]:
    return {result.unique_id.split(".")[2]: result.status for result in results}


def test_build__tells_of_every_model_and_test_and_leaves_the_warehouse_free(
    project: Path, workspace: Workspace
) -> None:
    results = DbtRunner(workspace).build(select="fqn:*", exclude="tag:late")
    assert all(result.is_good for result in results), results
    found = statuses(results)
    assert set(found) > {"numbers", "doubled"}
    assert "after" not in found
    assert "test_doubled__is_twice_the_number" not in found, "unit tests are not for every refresh"
    assert len(found) == 2 + 3
    with duckdb.connect(str(workspace.warehouse)) as con:  # writable: dbt must have let go of the file
        assert con.execute("select sum(twice) from doubled").fetchall() == [(20,)]


def test_prepare__parses_once_per_state_of_the_project(project: Path, workspace: Workspace) -> None:
    runner = DbtRunner(workspace)
    manifest = runner.prepare()
    first = manifest.stat().st_mtime_ns
    DbtRunner(workspace).prepare()
    assert manifest.stat().st_mtime_ns == first
    assert "model.three_models.after" in runner.manifest()["nodes"]
    model = project / "models" / "another.sql"
    model.write_text("select 1 as one")
    try:
        assert "model.three_models.another" in DbtRunner(workspace).manifest()["nodes"]
    finally:
        model.unlink()
    assert "model.three_models.another" not in DbtRunner(workspace).manifest()["nodes"]


def test_build__a_failing_test_is_told_and_what_depends_on_it_is_skipped(project: Path, workspace: Workspace) -> None:
    model = project / "models" / "numbers.sql"
    model.write_text("select i as number from range(6) as numbers(i)")  # six gives twelve, which is not accepted
    try:
        results = DbtRunner(workspace).build(select="fqn:*")
    finally:
        model.write_text(FILES["models/numbers.sql"])
    failed = [result for result in results if result.status == "fail"]
    assert len(failed) == 1
    assert failed[0].unique_id.startswith("test.three_models.accepted_values_doubled_twice")
    assert failed[0].failures == 1
    assert not failed[0].is_good
    assert statuses(results)["after"] == "skipped"


def test_units__pass_and_fail_by_what_the_model_does(project: Path, workspace: Workspace) -> None:
    runner = DbtRunner(workspace)
    assert statuses(runner.test_units()) == {"doubled": "pass"}
    assert statuses(runner.test_units(select="doubled")) == {"doubled": "pass"}
    assert runner.test_units(select="after") == []
    model = project / "models" / "doubled.sql"
    model.write_text("select number, number * 3 as twice from {{ ref('numbers') }}")
    try:
        (result,) = DbtRunner(workspace).test_units()
    finally:
        model.write_text(FILES["models/doubled.sql"])
    assert not result.is_good
    assert "42→63" in result.message


def test_build__of_a_locked_warehouse_fails_and_says_so(project: Path, workspace: Workspace) -> None:
    holder = "import duckdb, sys; con = duckdb.connect(sys.argv[1]); print('open', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", holder, str(workspace.warehouse)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "open\n"
        with pytest.raises(UserError, match="lock"):
            DbtRunner(workspace).build(select="fqn:*")
        other.communicate("")


def test_fingerprint__sees_every_file_of_our_project_and_nothing_that_dbt_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "project"
    shutil.copytree(DBT_PROJECT, copy, ignore=shutil.ignore_patterns("target", "logs"))
    monkeypatch.setattr(dbt_runner, "DBT_PROJECT", copy)
    before = dbt_runner.project_fingerprint()
    (copy / "target").mkdir()
    (copy / "target" / "compiled.sql").write_text("select 1")
    assert dbt_runner.project_fingerprint() == before
    (copy / "macros" / "engine.sql").write_text("changed")
    changed = dbt_runner.project_fingerprint()
    assert changed != before
    (copy / "macros" / "engine.sql").rename(copy / "macros" / "engines.sql")
    assert dbt_runner.project_fingerprint() not in (before, changed)
