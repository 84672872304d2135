"""Segments: their files, and the feed of changes that a consumer reads."""

from datetime import datetime
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from orchestration.lib.errors import UserError
from orchestration.lib.segments import (
    confirm,
    feed,
    members,
    prepare_segments,
    read_segments,
    segment_catalogue,
    write_rows,
)
from orchestration.lib.settings_tables import RULE_TABLES
from orchestration.lib.workspace import Workspace

AS_OF = datetime(2026, 5, 1)
LARGE = """
title: Large companies
conditions: {rules: [{field: employees, operator: ">=", value: 250}]}
"""


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    workspace = Workspace(tmp_path / "workspace")
    workspace.segments.mkdir(parents=True)
    return workspace


def write(workspace: Workspace, name: str, text: str) -> None:
    (workspace.segments / f"{name}.yml").write_text(text, encoding="utf-8")


def test_segments__one_that_is_wrong_is_refused_with_field_rule_and_value_and_the_others_run(
    workspace: Workspace,
) -> None:
    write(workspace, "large", LARGE)
    write(workspace, "comment", "# nothing yet\n")
    write(workspace, "broken", LARGE.replace("employees", "employes"))
    write(workspace, "ranked", LARGE + "rank_by: size\n")
    found, refused = read_segments(workspace, segment_catalogue(workspace))
    assert [segment.name for segment in found] == ["large"]
    assert [refusal.path.name for refusal in refused] == ["broken.yml", "ranked.yml"]
    text = "\n".join(reason for refusal in refused for reason in refusal.reasons)
    assert "broken.yml" in text
    assert "employes" in text
    assert "did you mean employees" in text
    assert "ranked.yml" in text
    assert "rank_by" in text


def test_segments__may_ask_for_one_another_and_change_with_it(workspace: Workspace) -> None:
    write(workspace, "large", LARGE)
    asking = "title: Large and hot\nconditions: {rules: [{field: segment, operator: '=', value: large}]}\n"
    write(workspace, "hot", asking)

    def hashes() -> dict[str, str]:
        return {s.name: s.definition_hash for s in read_segments(workspace, segment_catalogue(workspace))[0]}

    before = hashes()
    write(workspace, "large", LARGE.replace("Large companies", "Big ones"))
    assert hashes() == before, "a title changes nobody's membership"
    write(workspace, "large", LARGE.replace("250", "500"))
    after = hashes()
    assert before["large"] != after["large"]
    assert before["hot"] != after["hot"]


def test_prepare__makes_a_view_of_who_fulfils_the_condition_and_a_hostile_value_stays_a_value(
    workspace: Workspace,
) -> None:
    write(workspace, "large", LARGE)
    hostile = "x') or 1=1; drop table settings.refresh; --"
    write(
        workspace, "hostile", f'title: t\nconditions: {{rules: [{{field: city, operator: "=", value: "{hostile}"}}]}}\n'
    )
    con = duckdb.connect()
    con.execute("create schema settings; create table settings.refresh as select timestamp '2026-05-01' as as_of_at")
    con.execute(f"create table settings.condition_attributes ({RULE_TABLES['condition_attributes']})")
    con.execute("create schema raw; create table raw.scoring__segment_changes (changed_at timestamp)")
    assert prepare_segments(con, workspace, AS_OF) == (2, [])
    assert con.execute("select is_looking_back from settings.segment_clock").fetchall() == [(False,)]
    con.execute(
        "insert into intermediate.int_accounts (account_id) values ('a'), ('b');"
        "insert into intermediate.int_account_attributes values "
        "('a', 'employees', '300', 300000000, '1900-01-01', '9999-12-31'),"
        "('b', 'employees', '200', 200000000, '1900-01-01', '9999-12-31')"
    )
    assert con.execute("select segment, account_id from settings.segment_matches").fetchall() == [("large", "a")]
    assert con.execute("select attribute from settings.condition_attributes order by 1").fetchall() == [
        ("city",), ("employees",),
    ]  # fmt: skip
    con.execute("insert into raw.scoring__segment_changes values (?)", [AS_OF])
    prepare_segments(con, workspace, AS_OF)
    assert con.execute("select count(*) from settings.segments").fetchall() == [(2,)]
    assert con.execute("select is_looking_back from settings.segment_clock").fetchall() == [(True,)]


def state(**points: int) -> pa.Table:
    return pa.table(
        {
            "segment": ["s"] * len(points),
            "account_id": list(points),
            "total_points": list(points.values()),
            "as_of_at": [f"day {sum(points.values())}"] * len(points),
        }
    )


def told(rows: pa.Table) -> list[tuple[str, str]]:
    return sorted(zip(rows["change"].to_pylist(), rows["account_id"].to_pylist(), strict=True))


def test_feed__tells_only_what_the_consumer_has_not_confirmed(workspace: Workspace) -> None:
    first = feed(workspace, "crm", "s", state(a=1, b=2))
    assert told(first.rows) == [("entered", "a"), ("entered", "b")]
    again = feed(workspace, "crm", "s", state(a=1, b=2))
    assert again.feed_id == first.feed_id, "what was not confirmed is told again"

    confirm(workspace, "crm", "s", first.feed_id)
    assert told(feed(workspace, "crm", "s", state(a=1, b=2)).rows) == []
    assert told(feed(workspace, "mail", "s", state(a=1)).rows) == [("entered", "a")], "each consumer has its own"

    later = feed(workspace, "crm", "s", state(a=1, b=3, c=4))
    assert told(later.rows) == [("changed", "b"), ("entered", "c")]
    newest = feed(workspace, "crm", "s", state(b=3))
    assert told(newest.rows) == [("changed", "b"), ("left", "a")]
    # The consumer got the earlier of the two: what came after it is told the next time.
    confirm(workspace, "crm", "s", later.feed_id)
    assert told(feed(workspace, "crm", "s", state(b=3)).rows) == [("left", "a"), ("left", "c")]


def test_feed__refuses_a_wrong_name_and_what_was_never_told(workspace: Workspace) -> None:
    with pytest.raises(UserError, match=r"letters, digits, - and _ \(value: '../x'\)"):
        feed(workspace, "../x", "s", state(a=1))
    feed(workspace, "crm", "s", state(a=1))
    for wrong in ("abc", "confirmed", "../confirmed"):
        with pytest.raises(UserError, match="there is no feed to confirm of this name"):
            confirm(workspace, "crm", "s", wrong)


@pytest.mark.parametrize("form", ["csv", "parquet", "json"])
def test_export__writes_every_row_in_each_format_and_leaves_nothing_else(tmp_path: Path, form: str) -> None:
    path = tmp_path / f"it's.{form}"
    write_rows(state(a=1, b=2), path, form)
    reader = {"csv": "read_csv", "parquet": "read_parquet", "json": "read_json"}[form]
    with duckdb.connect() as con:
        found = con.execute(f"select account_id, total_points from {reader}(?)", [str(path)]).fetchall()
    assert found == [("a", 1), ("b", 2)]
    assert list(tmp_path.iterdir()) == [path]


def test_members__of_an_unknown_segment_is_an_error_and_of_an_empty_one_is_empty(tmp_path: Path) -> None:
    con = duckdb.connect()
    con.execute("create table segment_members (segment varchar, account_id varchar, rank_no bigint)")
    con.execute("create table segments as select 'empty' as segment")
    assert members(con, "empty").num_rows == 0
    with pytest.raises(UserError, match="there is no segment 'nope'"):
        members(con, "nope")
    pq.write_table(members(con, "empty"), tmp_path / "x.parquet")
