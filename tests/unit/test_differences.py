"""Models that follow what they read by the rows that differ: always equal to models made anew, and nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

import duckdb
import numpy as np
import pytest

from orchestration.lib import model_builds
from orchestration.lib.compiled_project import CompiledModel, CompiledProject, CompiledTest, Following
from orchestration.lib.dbt_runner import read_project
from orchestration.lib.differences import ANEW, FEATURES, MARTS, ROWS, SAME, Differences
from orchestration.lib.increments import (
    complete_features,
    complete_marts,
    differences_of,
    note_published,
    open_book,
    plan_build,
    snapshot_before,
)
from orchestration.lib.model_builds import FAILED, GOOD, LARGE_ROWS, WARNED, BuildResult, build, changes_of_marts
from orchestration.lib.publishing import MartChange
from orchestration.lib.workspace import Workspace

START = datetime(2026, 6, 30, 8)
FIVE_MINUTES = timedelta(minutes=5)


def model(
    name: str, sql: str, *, layer: str = "intermediate", view: bool = False, **following: object
) -> CompiledModel:
    read = [word for word in sql.replace("(", " ").replace(")", " ").split() if "." in word and word[0].isalpha()]
    names = [tuple(word.strip(",").split(".")) for word in read]
    tables = {n for n in names if n[0] in ("intermediate", "marts", "raw", "settings", "load")}
    for schema, table in tables:
        sql = sql.replace(f"{schema}.{table} ", f'"memory"."{schema}"."{table}" ')
    return CompiledModel(
        name=name, layer=layer, group="", relation=f'"memory"."{layer}"."{name}"',
        materialized="view" if view else "table", description="",
        tags=("after_the_card",) if layer == "marts" else (), sql=sql, increment_sql=sql,
        depends_on=tuple(sorted(table for schema, table in tables if schema in ("intermediate", "marts"))),
        sources=tuple(sorted((schema, table) for schema, table in tables if schema in ("raw", "settings", "load"))),
        following=Following(**following),  # type: ignore[arg-type]
    )  # fmt: skip


PROJECT = CompiledProject.of(
    [
        # Of a deal the row that came last counts; a deal without an account is deleted.
        model(
            "deals",
            "select deal_id, account_id, amount, closed_at, coalesce(closed_at <= (select as_of_at from settings.refresh ), false) as is_closed "
            "from (select *, row_number() over (partition by deal_id order by _row desc) as n from raw.deals ) where n = 1 and account_id is not null",
            rows_by="deal_id",
        ),
        model(
            "accounts",
            "select deals.account_id, sum(amount * factor) as amount, count(*) filter (where is_closed) as closed_count "
            "from intermediate.deals as deals cross join settings.rates group by all",
            rows_by="account_id",
        ),
        model("typical", "select floor(max(amount) / 100) as hundreds from intermediate.deals ", is_compared=True),
        model("open_deals", "select * from intermediate.deals where not is_closed", view=True, rows_by="deal_id"),
        # People of accounts: a link leads from the account that differs to them.
        model(
            "people",
            "select person_id, people.account_id, accounts.amount from raw.members as people "
            "left join intermediate.accounts as accounts on people.account_id = accounts.account_id",
            rows_by="person_id",
            reads_by=(("accounts", "account_id = members.account_id"),),
        ),
        model("ranks", "select account_id, row_number() over (order by amount desc, account_id) as rank_no from intermediate.accounts "),
        model(
            "board",
            "select accounts.account_id, accounts.amount, typical.hundreds, ranks.rank_no, refresh.as_of_at "
            "from intermediate.accounts as accounts join intermediate.ranks as ranks on accounts.account_id = ranks.account_id "
            "cross join intermediate.typical as typical cross join settings.refresh as refresh",
            layer="marts", rows_by="account_id", refreshed_from="ranks", stamped="as_of_at where true",
        ),
        model("summary", "select count(*) as account_count, sum(amount) as amount from marts.board ", layer="marts"),
        model("dear_deals", "select deal_id, amount from intermediate.open_deals where amount > 50 ", rows_by="deal_id"),
        model("opened", "select count(*) as deal_count from intermediate.open_deals ", layer="marts"),
        model("rated", "select factor from settings.rates ", layer="marts"),
        model("notices", "select note from load.notices ", layer="marts"),
    ],
    [
        CompiledTest("no_account_twice", 'select account_id from "memory"."marts"."board" group by 1 having count(*) > 1', False, ("board",), "account_id"),
        CompiledTest("no_large_account", 'select 1 from "memory"."marts"."board" where amount > 9000', True, ("board",), "account_id"),
    ],
)  # fmt: skip


class World:
    """What has landed, as the loader leaves it, and builds of the project on it."""

    def __init__(self) -> None:
        self.con = duckdb.connect(":memory:")
        self.now = START
        self.files = 0
        self.con.execute(
            """
            create schema raw; create schema load; create schema settings;
            create table raw.deals (deal_id varchar, account_id varchar, amount bigint, closed_at timestamp, _key_hash ubigint, _file varchar,
                _row bigint, _arrived_at timestamp, _is_repeated boolean);
            create table raw.members (person_id varchar, account_id varchar, _key_hash ubigint, _file varchar, _row bigint,
                _arrived_at timestamp, _is_repeated boolean);
            create table load.files (file varchar, source_table varchar, arrived_at timestamp, loaded_at timestamp);
            create table load.notices (note varchar);
            create table settings.refresh (as_of_at timestamp, as_of_date date);
            create table settings.rates (factor bigint); insert into settings.rates values (1);
            create table settings.bots (x int); create table settings.bot_agents (x int);
            create table settings.criteria (criterion_key int, measure int, decay_key int, window_days int, cap_per_day_milli int,
                cap_per_person_micro int, floor_micro int, ceiling_micro int, role_key int, is_rolled_up boolean, kind varchar);
            create table settings.criterion_signals (criterion_key int, signal int, multiplier_milli int);
            create table settings.decay (decay_key int, factor_nano int);
            """
        )
        self.at(self.now)

    def at(self, moment: datetime) -> None:
        self.now = moment
        self.con.execute("delete from settings.refresh")
        self.con.execute("insert into settings.refresh values (?, ?)", [moment, moment.date()])

    def land(self, table: str, *rows: tuple[object, ...]) -> None:
        self.files += 1
        self.con.execute("insert into load.files values (?, ?, ?, ?)", [f"f{self.files}", table, self.now, self.now])
        marks = ", ".join("?" * len(rows[0]))
        for row in rows:
            self.con.execute(
                f"insert into raw.{table} select {marks}, hash(?), ?, (select count(*) from raw.{table}), ?, false",
                [*row, row[0], f"f{self.files}", self.now],
            )
        # As the loader marks them.
        self.con.execute(
            f"update raw.{table} set _is_repeated = true where _key_hash in "
            f"(select _key_hash from raw.{table} group by _key_hash having count(*) > 1)"
        )

    def build(self, *, passed: timedelta = FIVE_MINUTES, fail_marts: bool = False) -> dict[str, str]:
        """A refresh this much later; model -> what is said to differ in it."""
        self.at(self.now + passed)
        tables = [f"{m.layer}.{m.name}" for m in PROJECT.models.values() if m.is_table]
        plan_build(self.con, "project", tables)
        found = {}
        for step, after in ((FEATURES, False), (MARTS, True)):
            models = PROJECT.step(after_the_card=after)
            differences = differences_of(self.con, PROJECT, step)
            results = list(build(self.con, models, PROJECT.tests_of(models, already_built=PROJECT.models), differences))
            assert not [result for result in results if result.status not in (GOOD, WARNED)]
            found |= {m.name: differences.of(m.name) for m in models}
            self.results: list[BuildResult] = results
            if step == FEATURES:
                complete_features(self.con, PROJECT)
                if fail_marts:
                    return found
        complete_marts(self.con, PROJECT)
        return found

    def tables(self) -> dict[str, list[tuple[object, ...]]]:
        return {
            name: self.con.execute(f"from {m.relation} order by all").fetchall() for name, m in PROJECT.models.items()
        }

    def anew(self) -> dict[str, list[tuple[object, ...]]]:
        """What the models say when they are made from nothing but what has landed."""
        with duckdb.connect(":memory:") as other:
            other.execute("create schema raw; create schema settings; create schema load; create schema increment")
            for table in ("raw.deals", "raw.members", "settings.refresh", "settings.rates", "load.notices"):
                frame = self.con.execute(f"from {table}").to_arrow_table()  # noqa: F841 - DuckDB reads it by its name
                other.execute(f"create table {table} as from frame")
            models = list(PROJECT.models.values())
            assert {result.status for result in build(other, models, [])} == {GOOD}
            return {
                name: other.execute(f"from {m.relation} order by all").fetchall() for name, m in PROJECT.models.items()
            }


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    made.land("deals", *((f"d{n}", f"a{n % 7}", 100 * n, None) for n in range(30)))
    made.land("members", *((f"p{n}", f"a{n % 9}") for n in range(20)))
    assert set(made.build().values()) == {ANEW}
    yield made
    made.con.close()


def test_build__a_view_reads_its_own_tables_by_the_rows_that_differ(world: World) -> None:
    world.land("deals", ("d3", "a3", 7_777, None), ("d4", "a4", 444, datetime(2026, 1, 2)))
    assert world.build()["dear_deals"] == ROWS
    assert world.tables() == world.anew()
    found = world.con.execute("select sql from duckdb_views() where view_name = 'open_deals__deals'").fetchall()
    assert len(found) == 1
    assert "keys_of_rows" in found[0][0]


def differing(world: World, name: str, key: str) -> set[str]:
    return {k for (k,) in world.con.execute(f'select distinct {key} from increment."{name}__differences"').fetchall()}


def test_build__where_nothing_landed_touches_nothing_but_the_moment(world: World) -> None:
    found = world.build()
    assert {name for name, state in found.items() if state != SAME} == {"notices"}
    assert world.tables() == world.anew(), "the stamp is of now"
    assert [result.message for result in world.results if result.kind == "test"] == [
        "nothing that it reads differs"
    ] * 2


def test_build__tells_of_files_that_did_not_land_though_none_did(world: World) -> None:
    world.con.execute("insert into load.notices values ('a duplicate')")
    world.build()
    assert world.tables() == world.anew()
    assert world.tables()["notices"] == [("a duplicate",)]


def test_build__a_failure_leaves_nothing_of_what_it_had_found(world: World) -> None:
    """The raw table is compared by its first reader; when that one fails, the next one must compare it again."""
    world.land("deals", ("d99", "a3", 5, None))
    world.at(world.now + FIVE_MINUTES)
    plan_build(world.con, "project")
    differences = differences_of(world.con, PROJECT, FEATURES)
    broken = replace(PROJECT.models["deals"], increment_sql=f"select nothing from ({PROJECT.models['deals'].sql})")
    results = build(world.con, [broken, PROJECT.models["deals"]], [], differences)
    assert [result.status for result in results] == [FAILED, GOOD]
    assert differing(world, "deals", "deal_id") == {"d99"}


@pytest.mark.parametrize("large_rows", [0, LARGE_ROWS])
def test_build__a_warning_stands_until_its_test_has_been_run_again(
    world: World, monkeypatch: pytest.MonkeyPatch, large_rows: int
) -> None:
    monkeypatch.setattr(model_builds, "LARGE_ROWS", large_rows)

    def warnings() -> list[tuple[str, int]]:
        return [(result.name, result.failures) for result in world.results if result.status == WARNED]

    assert not warnings()
    world.land("deals", ("d98", "a3", 9_500, None))
    world.build()
    assert warnings() == [("no_large_account", 1)]
    world.build()
    assert warnings() == [("no_large_account", 1)], "nothing differs, and it is as true as before"
    world.land("deals", ("d98", "a3", 5, None))
    world.build()
    assert not warnings()


def test_build__a_data_test_is_asked_of_the_rows_that_differ(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(model_builds, "LARGE_ROWS", 0)
    # Behind the back of the build: it kept the test when it was made.
    world.con.execute("insert into marts.board from marts.board where account_id = 'a6'")
    world.land("deals", ("d98", "a3", 2_800, None), ("d99", "a3", 2_700, None))
    assert world.build()["board"] == ROWS
    assert {(r.name, r.status, r.failures) for r in world.results if r.kind == "test"} == {
        ("no_account_twice", GOOD, 0),
        ("no_large_account", WARNED, 1),
    }
    # A small table is read whole.
    monkeypatch.undo()
    world.land("deals", ("d99", "a3", 5, None))
    with pytest.raises(AssertionError, match="no_account_twice"):
        world.build()


def test_build__one_new_deal_touches_its_account_and_its_people(world: World) -> None:
    world.land("deals", ("d99", "a3", 5, None))
    found = world.build()
    assert (found["deals"], found["accounts"], found["people"], found["board"]) == (ROWS,) * 4
    assert (found["typical"], found["rated"]) == (SAME, SAME), "compared, and not read"
    assert differing(world, "deals", "deal_id") == {"d99"}
    assert differing(world, "board", "account_id") == {"a3"}
    assert differing(world, "people", "person_id") == {"p3", "p12"}
    assert world.tables() == world.anew()


def test_build__a_deal_that_moves_touches_both_accounts(world: World) -> None:
    world.land("deals", ("d1", "a5", 100, None))
    world.build()
    assert differing(world, "accounts", "account_id") == {"a1", "a5"}
    assert world.tables() == world.anew()


def test_build__a_moment_that_passes_counts_though_nothing_landed(world: World) -> None:
    world.land("deals", ("d2", "a2", 200, world.now + 3 * FIVE_MINUTES))
    assert world.build()["accounts"] == SAME, "its closing is to come"
    assert world.build()["accounts"] == SAME
    assert world.build()["accounts"] == ROWS
    assert differing(world, "accounts", "account_id") == {"a2"}
    assert world.tables() == world.anew()


def test_build__of_another_day_or_after_other_settings_is_made_anew(world: World) -> None:
    world.con.execute("update settings.rates set factor = 3")
    found = world.build()
    assert (found["deals"], found["accounts"], found["rated"]) == (SAME, ANEW, ANEW)
    assert world.tables() == world.anew()
    assert set(world.build(passed=timedelta(days=1)).values()) == {ANEW}
    assert world.tables() == world.anew()


def test_build__after_marts_that_failed_makes_all_of_them_anew(world: World) -> None:
    world.land("deals", ("d99", "a3", 5, None))
    world.build(fail_marts=True)
    assert world.build()["board"] == ANEW, "the features know of the deal already, the marts do not"
    assert world.tables() == world.anew()


def test_changes__are_what_has_to_be_published(world: World) -> None:
    world.land("deals", ("d99", "a3", 5, None))
    world.build()
    changes = changes_of_marts(world.con, PROJECT, differences_of(world.con, PROJECT, MARTS))
    assert changes is not None
    assert changes["board"].key == "account_id"
    assert len(changes["board"].overwrite) == 2, "ranks and the moment"
    assert changes["summary"] == MartChange(), "as a whole"
    assert "rated" not in changes
    assert snapshot_before(world.con) is None
    note_published(world.con, 7)
    assert snapshot_before(world.con) is None, "the build that follows is what differs from it"
    world.build()
    assert snapshot_before(world.con) == 7
    world.build()
    assert snapshot_before(world.con) is None, "a build between the two was never published"


@pytest.mark.parametrize("seed", range(6))
def test_build__of_random_histories_equals_one_that_keeps_nothing(world: World, seed: int) -> None:
    chance = np.random.default_rng(seed)
    for _ in range(15):
        kinds = chance.choice(["deals", "members", "rates", "nothing", "day"], p=[0.5, 0.2, 0.1, 0.15, 0.05])
        if kinds == "deals":
            rows = []
            for _ in range(chance.integers(1, 5)):
                closed = world.now + timedelta(minutes=int(chance.integers(-20, 40))) if chance.random() < 0.4 else None
                account = None if chance.random() < 0.15 else f"a{chance.integers(0, 9)}"
                rows.append((f"d{chance.integers(0, 40)}", account, int(chance.integers(0, 4000)), closed))
            world.land("deals", *rows)
        elif kinds == "members":
            world.land("members", (f"p{100 + world.files}", f"a{chance.integers(0, 9)}"))
        elif kinds == "rates":
            world.con.execute("update settings.rates set factor = ?", [int(chance.integers(1, 4))])
        world.build(passed=timedelta(days=1) if kinds == "day" else FIVE_MINUTES)
        assert world.tables() == world.anew()


def test_book__of_another_form_is_begun_again() -> None:
    with duckdb.connect(":memory:") as con:
        con.execute("create schema increment; create table increment.plan (seen_until timestamp)")
        open_book(con)
        assert con.execute("select count(*) from increment.plan where is_known").fetchall() == [(0,)]
        first = Differences(con, is_known=True, step=FEATURES)
        first.set("a", SAME)
        first.keep()
        open_book(con)
        assert Differences(con, is_known=True, step=FEATURES).of("a") == SAME, "one of this form is kept"


# --------------------------------------------------------------------------- what the models say of themselves


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> CompiledProject:
    return read_project(Workspace(tmp_path_factory.mktemp("compiled")))


def test_model__follows_only_tables_that_it_reads(compiled: CompiledProject) -> None:
    wrong = []
    for name, one in compiled.models.items():
        how = one.following
        read = {*one.depends_on, *(table for _, table in one.sources)}
        named = {table for table, _ in how.reads_by}
        named |= {way.split(" = ")[1].split(".")[0] for _, way in how.reads_by if " = " in way}
        named |= {how.refreshed_from} - {""}
        wrong += [f"{name}: {table}" for table in named - read]
        if how.differs_in and how.differs_in not in {*compiled.models, *read}:
            wrong.append(f"{name}: {how.differs_in}")
        if (how.reads_by or how.refreshed_from) and not how.rows_by:
            wrong.append(f"{name}: follows tables and does not say by which column")
    assert not wrong


def test_mart__with_the_moment_of_the_refresh_has_it_stamped_or_is_made_anew(compiled: CompiledProject) -> None:
    """Where nothing else differs, the row must say the moment of now all the same."""
    wrong = [
        name
        for name, one in compiled.models.items()
        if one.layer == "marts"
        and "as_of_at" in {column.name for column in one.columns}
        and not one.following.stamped
        and not one.following.every_refresh
    ]
    assert not wrong


def test_model__comes_after_the_one_that_tells_its_inputs_differences(compiled: CompiledProject) -> None:
    place = {name: number for number, name in enumerate(compiled.models)}
    for name, one in compiled.models.items():
        for read in one.depends_on:
            told = compiled.models[read].following.differs_in
            if told in place and told != name:
                made_from_it = {m.name for m in compiled.upstream_of(told)}
                assert name in made_from_it or place[name] > place[told], (name, read, told)
