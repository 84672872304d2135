"""A project of a few models compiled by dbt and built without it: told node by node, equal to what dbt itself builds."""

from __future__ import annotations

import shutil
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import pytest
import sqlglot
from sqlglot import exp

from orchestration.lib import dbt_runner
from orchestration.lib.compiled_project import CompiledProject
from orchestration.lib.dbt_runner import read_project, run_unit_tests
from orchestration.lib.differences import FEATURES, Differences
from orchestration.lib.errors import UserError
from orchestration.lib.increments import open_book
from orchestration.lib.model_builds import FAILED, GOOD, SKIPPED, WARNED, BuildResult, build
from orchestration.lib.warehouse import open_warehouse
from orchestration.lib.workspace import DBT_PROJECT, Workspace

FILES = {
    "dbt_project.yml": """
        name: a_few_models
        version: "0.1.0"
        profile: a_few_models
        flags: {send_anonymous_usage_stats: false, use_colors: false}
    """,
    "profiles.yml": """
        a_few_models:
          target: embedded
          outputs:
            embedded: {type: duckdb, path: "{{ env_var('SCORING_WAREHOUSE') }}", threads: 1}
    """,
    "macros/increments.sql": "{% macro is_full_build() %}{{ return(flags.FULL_REFRESH) }}{% endmacro %}\n"
    + "{% macro remove_before() %}{% if is_incremental() %}"
    + "delete from {{ this }} where {{ model.config.meta.remove_before }}{% endif %}{% endmacro %}\n"
    + "{% macro remove_after() %}{% if is_incremental() %}"
    + "delete from {{ this }} where {{ model.config.meta.remove_after }}{% endif %}{% endmacro %}\n",
    "models/numbers.sql": "select i as number from range(5) as numbers(i)",
    "models/doubled.sql": "{{ config(materialized='table') }} select number, number * 2 as twice from {{ ref('numbers') }}",
    "models/after.sql": "{{ config(materialized='table', tags=['after_the_card']) }} select max(twice) as most from {{ ref('doubled') }}",
    "models/promised.sql": "{{ config(materialized='table') }} select twice, number from {{ ref('doubled') }}",
    "models/kept.sql": """
        select number, number * {% if is_full_build() %} 10 {% else %} 100 {% endif %} as times
        from {{ ref('numbers') }}
        {% if not is_full_build() %} where number between 2 and 3 {% endif %}
    """,
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
          - name: kept
            config:
              materialized: incremental
              incremental_strategy: delete+insert
              unique_key: number
              meta: {remove_before: number = 0, remove_after: times = 40}
              pre_hook: "{{ remove_before() }}"
              post_hook: "{{ remove_after() }}"
          - name: promised
            description: What is promised, in a word or two
            config: {contract: {enforced: true}, persist_docs: {relation: true, columns: true}}
            columns:
              - {name: number, data_type: bigint, description: "A customer's number", constraints: [{type: not_null}]}
              - {name: twice, data_type: bigint}
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


@pytest.fixture
def changed(project: Path) -> Iterator[Any]:
    """Writes over a file of the project; all is as before at the end."""
    original: dict[Path, str | None] = {}

    def change(name: str, text: str) -> None:
        path = project / name
        path.parent.mkdir(exist_ok=True)
        original.setdefault(path, path.read_text() if path.exists() else None)
        path.write_text(textwrap.dedent(text))

    yield change
    for path, text in original.items():
        path.unlink() if text is None else path.write_text(text)


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    home = Workspace(tmp_path / "home")
    home.dbt.mkdir(parents=True)
    return home


def build_all(workspace: Workspace, *, full: bool = True) -> dict[str, BuildResult]:
    project = read_project(workspace)
    models = [*project.models.values()]
    with open_warehouse(workspace) as con:
        open_book(con)
        differences = None if full else Differences(con, is_known=False, step=FEATURES)
        return {result.name: result for result in build(con, models, project.tests_of(models), differences)}


def rows(workspace: Workspace, table: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(str(workspace.warehouse), read_only=True) as con:
        return con.execute(f"from {table} order by all").fetchall()


def test_build__tells_of_every_model_and_test(project: Path, workspace: Workspace) -> None:
    results = build_all(workspace)
    assert {result.status for result in results.values()} == {GOOD}
    assert {name for name, result in results.items() if result.kind == "model"} == {
        "numbers", "doubled", "after", "kept", "promised",
    }  # fmt: skip
    assert [result.model for result in results.values() if result.kind == "test"] == ["doubled"] * 3
    assert rows(workspace, "after") == [(8,)]


def test_project__has_both_steps_and_what_models_are_made_from(project: Path, workspace: Workspace) -> None:
    compiled = read_project(workspace)
    assert [model.name for model in compiled.step(after_the_card=True)] == ["after"]
    assert [model.name for model in compiled.upstream_of("after")] == ["numbers", "doubled", "after"]
    assert [model.name for model in compiled.select("after", "numbers")] == ["numbers", "after"]
    assert compiled.tests_of(compiled.step(after_the_card=True), already_built=compiled.models) == []
    with pytest.raises(KeyError, match="unheard"):
        compiled.select("unheard")
    path = workspace.dbt / "again.json"
    compiled.write(path)
    assert CompiledProject.read(path) == compiled


def test_project__is_compiled_once_per_state(project: Path, workspace: Workspace, changed: Any) -> None:
    read_project(workspace)
    (file,) = (project / "target").glob("compiled-*.json")
    first = file.stat().st_mtime_ns
    dbt_runner._compiled.cache_clear()
    read_project(workspace)
    assert file.stat().st_mtime_ns == first
    changed("models/another.sql", "select 1 as one")
    assert "another" in read_project(workspace).models
    assert not file.exists(), "nobody needs the state before"


def test_project__that_dbt_refuses_is_an_error_of_the_user(project: Path, workspace: Workspace, changed: Any) -> None:
    changed("models/another.sql", "select * from {{ ref('nowhere') }}")
    with pytest.raises(UserError, match="nowhere"):
        read_project(workspace)


def test_build__keeps_what_dbt_itself_would_keep(project: Path, workspace: Workspace, tmp_path: Path) -> None:
    """A full build and an increment, once here and once by dbt: every table is the same, comments included."""
    by_dbt = Workspace(tmp_path / "by_dbt")
    by_dbt.dbt.mkdir(parents=True)
    for full in (True, False):
        results = build_all(workspace, full=full)
        assert {result.status for result in results.values()} == {GOOD}
        options = ["--full-refresh"] if full else []
        dbt_runner._invoke(by_dbt.dbt, by_dbt.warehouse, ["run", *options])
        for table in ("numbers", "doubled", "after", "kept", "promised"):
            assert rows(workspace, table) == rows(by_dbt, table), (table, full)
    assert rows(workspace, "kept") == [(1, 10), (2, 200), (3, 300)]
    comments = "(select table_name, column_name, column_index, is_nullable, data_type, coalesce(comment, '') from duckdb_columns() where not internal and schema_name <> 'increment')"
    assert rows(workspace, comments) == rows(by_dbt, comments)


def test_build__a_broken_contract_is_told_and_the_table_stays(
    project: Path, workspace: Workspace, changed: Any
) -> None:
    build_all(workspace)
    changed(
        "models/promised.sql",
        "{{ config(materialized='table') }} select number, 'x' as twice, 1 as more from {{ ref('doubled') }}",
    )
    result = build_all(workspace)["promised"]
    assert result.status == FAILED
    assert "promised breaks its contract" in result.message
    assert "twice is VARCHAR and not BIGINT" in result.message
    assert "more is INTEGER and not in the contract" in result.message
    changed(
        "models/promised.sql", "{{ config(materialized='table') }} select null::bigint as number, 1::bigint as twice"
    )
    result = build_all(workspace)["promised"]
    assert result.status == FAILED
    assert "NOT NULL" in result.message
    assert rows(workspace, "promised") == [(i, 2 * i) for i in range(5)]


def test_build__a_failing_test_is_told_and_what_depends_on_it_is_skipped(
    project: Path, workspace: Workspace, changed: Any
) -> None:
    changed(
        "models/numbers.sql", "select i as number from range(6) as numbers(i)"
    )  # six gives ten, which is not accepted
    results = build_all(workspace)
    failed = [result for result in results.values() if result.status == FAILED]
    assert [result.name.startswith("accepted_values_doubled_twice") for result in failed] == [True]
    assert failed[0].failures == 1
    assert {name for name, result in results.items() if result.status == SKIPPED} == {"after", "promised"}


def test_build__a_test_that_only_warns_stops_nothing(project: Path, workspace: Workspace, changed: Any) -> None:
    changed("models/numbers.sql", "select i as number from range(6) as numbers(i)")
    changed("dbt_project.yml", textwrap.dedent(FILES["dbt_project.yml"]) + "data_tests: {+severity: warn}\n")
    results = build_all(workspace)
    assert [result.failures for result in results.values() if result.status == WARNED] == [1]
    assert {result.status for result in results.values()} == {GOOD, WARNED}


def test_build__a_statement_may_end_in_a_comment(project: Path, workspace: Workspace, changed: Any) -> None:
    for name in ("numbers", "doubled", "promised", "kept"):
        text = textwrap.dedent(FILES[f"models/{name}.sql"]).rstrip()
        changed(f"models/{name}.sql", f"{text}\n-- the end")
    changed("tests/assert_no_number_is_odd.sql", "select * from {{ ref('doubled') }} where twice % 2 = 1 -- never")
    results = build_all(workspace)
    assert {result.status for result in results.values()} == {GOOD}, results
    assert "assert_no_number_is_odd" in results
    assert {result.status for result in build_all(workspace, full=False).values()} == {GOOD}


def test_build__a_view_that_becomes_a_table_replaces_it(project: Path, workspace: Workspace, changed: Any) -> None:
    build_all(workspace)
    changed("models/numbers.sql", "{{ config(materialized='table') }} select i as number from range(5) as numbers(i)")
    changed(
        "models/doubled.sql",
        "{{ config(materialized='view') }} select number, number * 2 as twice from {{ ref('numbers') }}",
    )
    assert {result.status for result in build_all(workspace).values()} == {GOOD}


def test_unit_tests__pass_and_fail_by_what_the_model_does(project: Path, workspace: Workspace, changed: Any) -> None:
    build_all(workspace)
    assert [(r.name, r.is_good) for r in run_unit_tests(workspace)] == [("test_doubled__is_twice_the_number", True)]
    assert [r.is_good for r in run_unit_tests(workspace, select="doubled")] == [True]
    assert run_unit_tests(workspace, select="after") == []
    changed("models/doubled.sql", "select number, number * 3 as twice from {{ ref('numbers') }}")
    (result,) = run_unit_tests(workspace)
    assert not result.is_good
    assert "42→63" in result.message


def test_unit_tests__of_a_locked_warehouse_fail_and_say_so(project: Path, workspace: Workspace) -> None:
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
            run_unit_tests(workspace)
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


def test_project__the_condition_of_an_outer_join_speaks_of_the_table_that_it_joins(tmp_path):
    """A part that speaks of the other side alone makes DuckDB compare each row with each: a minute for a ledger of 100,000 rows beside a
    million accounts."""
    project = read_project(Workspace(tmp_path))
    wrong = []
    for query in [*project.models.values(), *project.tests]:
        for join in sqlglot.parse_one(query.sql, dialect="duckdb").find_all(exp.Join):
            condition = join.args.get("on")
            if not join.side or condition is None or isinstance(condition, exp.Boolean):
                continue
            for part in condition.flatten() if isinstance(condition, exp.And) else [condition]:
                if join.this.alias_or_name not in {column.table for column in part.find_all(exp.Column)}:
                    wrong.append(f"{query.name}: {part.sql()}")
    assert wrong == []
