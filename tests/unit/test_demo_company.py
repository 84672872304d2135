"""The demo company: same seed same files, contracts kept, references whole, outcomes as planted.

The planted values are recomputed from the landed Parquet files alone, in SQL.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from orchestration.lib.demo_company import (
    BASE_LOG_ODDS,
    CRITERIA,
    SIGNALS,
    TRUTH_DEALS_FILE,
    TRUTH_FILE,
    DemoSummary,
    directory_target,
    generate,
)
from orchestration.lib.demo_company.criteria import LOG_ODDS_PER_POINT, ValueColumn, band_numbers
from orchestration.lib.demo_company.features import days_since_last, decayed_counts
from orchestration.lib.demo_company.tables import LandingFiles, contract_schema, numbered
from orchestration.lib.demo_company.vocabulary import company_names
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import SOURCE_CONTRACTS

UNTIL = datetime.date(2026, 11, 1)
TABLES = sorted(path.name.removesuffix(".odcs.yaml") for path in SOURCE_CONTRACTS.glob("*.odcs.yaml"))
# What the company's own people decide the demo has none of, and it sells in one currency.
LANDED = [table for table in TABLES if not table.startswith("scoring__") and table != "market__exchange_rates"]
CUSTOM = {"crm__accounts": {"tech_stack": pa.string(), "open_positions": pa.int64()}}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, DemoSummary]:
    """The default company: 2,000 accounts, 24 months, 120,000 events."""
    directory = tmp_path_factory.mktemp("demo")
    return directory, generate(directory, until=UNTIL)


@pytest.fixture(scope="module")
def database(demo: tuple[Path, DemoSummary]) -> duckdb.DuckDBPyConnection:
    """The landed files as tables, the last file's row of a key winning as updated_at says."""
    connection = duckdb.connect()
    for table in LANDED:
        files = f"{_folder(demo[0], table)}/*.parquet"
        connection.execute(f"create table landed_{table} as select * from read_parquet('{files}', filename = true)")
        keys = ", ".join(_keys(table))
        newest = "updated_at desc" if "updated_at" in contract_schema(table).names else "1"
        connection.execute(
            f"create view {table} as select * from landed_{table}"
            f" qualify row_number() over (partition by {keys} order by {newest}, filename desc) = 1"
        )
    connection.execute(f"create table truth as select * from read_parquet('{demo[0] / TRUTH_DEALS_FILE}')")
    return connection


def _folder(directory: Path, table: str) -> Path:
    return directory.joinpath(*table.split("__", 1))


def _row(database: duckdb.DuckDBPyConnection, sql: str, parameters: list[Any] | None = None) -> tuple[Any, ...]:
    row = database.execute(sql, parameters).fetchone()
    assert row is not None
    return row


def _properties(table: str) -> list[dict[str, Any]]:
    return yaml.safe_load((SOURCE_CONTRACTS / f"{table}.odcs.yaml").read_text())["schema"][0]["properties"]


def _keys(table: str) -> list[str]:
    keys = [p for p in _properties(table) if p.get("primaryKey")]
    return [p["name"] for p in sorted(keys, key=lambda p: p["primaryKeyPosition"])]


def _digests(directory: Path) -> dict[str, str]:
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(directory.rglob("*"))
        if path.is_file()
    }


# --- the same and not the same ---------------------------------------------------------------------


def test_generate__same_arguments_same_bytes(tmp_path: Path) -> None:
    arguments: dict[str, Any] = {"accounts": 150, "events": 6_000, "months": 12, "until": UNTIL}
    generate(tmp_path / "a", seed=3, **arguments)
    generate(tmp_path / "b", seed=3, **arguments)
    generate(tmp_path / "c", seed=4, **arguments)
    first, again, other = (_digests(tmp_path / name) for name in "abc")
    assert first == again
    differing = {name for name in first if first[name] != other.get(name)}
    fixed = {"crm/users/users.parquet", "crm/products/products.parquet"}
    assert differing == set(first) - fixed


def test_generate__callable_target_gets_the_same_files_as_a_directory(tmp_path: Path) -> None:
    opened: list[str] = []
    landed: list[str] = []

    @contextmanager
    def open_file(table: str, file_name: str) -> Iterator[Path]:
        path = _folder(tmp_path / "callable", table) / file_name
        path.parent.mkdir(parents=True, exist_ok=True)
        opened.append(file_name)
        yield path
        landed.append(file_name)

    arguments: dict[str, Any] = {"accounts": 80, "events": 4_000, "months": 12, "until": UNTIL}
    done: list[tuple[int, int]] = []
    summary = generate(open_file, **arguments, progress=lambda *step: done.append(step))
    generate(tmp_path / "directory", **arguments)
    expected = _digests(tmp_path / "directory")
    assert {expected.pop(TRUTH_FILE), expected.pop(TRUTH_DEALS_FILE)}
    assert _digests(tmp_path / "callable") == expected
    assert sorted(landed) == sorted(opened)
    assert sum(summary.file_counts.values()) == len(opened)
    assert done[-1] == (80, 80)
    # Versions of the accounts land in the order of their extracts.
    assert [f for f in landed if f.startswith("accounts-")] == sorted(f for f in opened if f.startswith("accounts-"))


def test_generate__failure_lands_nothing_that_is_half_written(tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        raise RuntimeError("stopped by the test")

    with pytest.raises(RuntimeError, match="stopped by the test"):
        generate(tmp_path, accounts=40, events=1_000, months=6, until=UNTIL, progress=stop)
    landed = {path.name for path in tmp_path.rglob("*.parquet")} - {TRUTH_DEALS_FILE}
    assert landed == {"events-0001.parquet"}  # whole files of the first block, nothing else
    assert not list(tmp_path.rglob("*.partial"))


def test_landing_files__failed_write_is_raised_and_lands_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(pq.ParquetWriter, "write_table", full)

    def write() -> None:
        with LandingFiles(directory_target(tmp_path)) as files:
            files.append("crm__users", "one.parquet", {"user_id": pa.array(["a"])})
            files.finish("crm__users", "one.parquet")
            files.append("crm__users", "two.parquet", {"user_id": pa.array(["b"])})

    with pytest.raises(OSError, match="No space left"):
        write()
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("name", "value"),
    [("accounts", 0), ("months", 0), ("events", -1), ("seed", -1), ("until", datetime.date(1999, 1, 1))],
)
def test_generate__size_out_of_range_is_named(tmp_path: Path, name: str, value: object) -> None:
    arguments: dict[str, Any] = {
        "accounts": 10,
        "events": 100,
        "months": 6,
        "seed": 1,
        "until": UNTIL,
        name: value,
    }
    with pytest.raises(UserError, match=rf"^{name}: must .* \(value: {value}\)$"):
        generate(tmp_path, **arguments)


@pytest.mark.parametrize(
    ("accounts", "events", "months"), [(1, 0, 1), (3, 0, 6), (1, 500, 24), (7, 20, 2), (40, 20_000, 120)]
)
def test_generate__extreme_sizes_still_keep_the_contracts(
    tmp_path: Path, accounts: int, events: int, months: int
) -> None:
    summary = generate(tmp_path, accounts=accounts, events=events, months=months, until=UNTIL)
    assert summary.row_counts["crm__accounts"] >= accounts
    for table, rows in summary.row_counts.items():
        read = sum(pq.read_metadata(path).num_rows for path in _folder(tmp_path, table).glob("*.parquet"))
        assert read == rows, table


# --- contracts -------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", LANDED)
def test_landed_table__has_the_columns_and_types_of_its_contract(demo: tuple[Path, DemoSummary], table: str) -> None:
    types = {
        "varchar": pa.string(),
        "bigint": pa.int64(),
        "boolean": pa.bool_(),
        "date": pa.date32(),
        "timestamp": pa.timestamp("us"),
        "decimal(18,2)": pa.decimal128(18, 2),
        "decimal(18,4)": pa.decimal128(18, 4),
    }
    expected = {p["name"]: types[p["physicalType"]] for p in _properties(table)} | CUSTOM.get(table, {})
    files = list(_folder(demo[0], table).glob("*.parquet"))
    assert files
    for path in files:
        schema = pq.read_schema(path)
        assert dict(zip(schema.names, schema.types, strict=True)) == expected, path.name


@pytest.mark.parametrize("table", LANDED)
def test_landed_table__keeps_every_rule_of_its_contract(database: duckdb.DuckDBPyConnection, table: str) -> None:
    for column in _properties(table):
        name, options = column["name"], column.get("logicalTypeOptions", {})
        rules = []
        if column.get("required"):
            rules.append(f"{name} is null")
        if "minimum" in options:
            rules.append(f"{name} < {options['minimum']}")
        if "maximum" in options:
            rules.append(f"{name} > {options['maximum']}")
        if "pattern" in options:
            rules.append(f"not regexp_full_match({name}, '{options['pattern']}')")
        for quality in column.get("quality", []):
            allowed = ", ".join(f"'{value}'" for value in quality["arguments"]["validValues"])
            rules.append(f"{name} not in ({allowed})")
        for rule in rules:
            (broken,) = _row(database, f"select count(*) from landed_{table} where {rule}")
            assert broken == 0, f"{table}: {rule}"
    keys = ", ".join(_keys(table))
    (repeated,) = _row(
        database,
        f"select count(*) from (select filename, {keys} from landed_{table} group by all having count(*) > 1)",
    )
    assert repeated == 0, f"{table}: a key stands twice in one file"


def test_opportunities__close_after_they_open_and_only_when_closed(
    database: duckdb.DuckDBPyConnection,
) -> None:
    (broken,) = _row(
        database,
        "select count(*) from crm__opportunities"
        " where closed_at < opened_at or (status = 'open') <> (closed_at is null) or closed_at >= ?",
        [UNTIL],
    )
    assert broken == 0


REFERENCES = [
    ("crm__accounts", "owner_id", "crm__users", "user_id"),
    ("crm__accounts", "parent_account_id", "crm__accounts", "account_id"),
    ("crm__accounts", "merged_into_account_id", "crm__accounts", "account_id"),
    ("crm__contacts", "account_id", "crm__accounts", "account_id"),
    ("crm__contacts", "merged_into_contact_id", "crm__contacts", "contact_id"),
    ("crm__opportunities", "account_id", "crm__accounts", "account_id"),
    ("crm__opportunities", "contact_id", "crm__contacts", "contact_id"),
    ("crm__opportunities", "owner_id", "crm__users", "user_id"),
    ("crm__opportunities", "product", "crm__products", "product"),
    ("crm__opportunities", "campaign_id", "crm__campaigns", "campaign_id"),
    ("crm__opportunity_stage_history", "opportunity_id", "crm__opportunities", "opportunity_id"),
    ("crm__activities", "account_id", "crm__accounts", "account_id"),
    ("crm__activities", "contact_id", "crm__contacts", "contact_id"),
    ("crm__activities", "opportunity_id", "crm__opportunities", "opportunity_id"),
    ("crm__activities", "campaign_id", "crm__campaigns", "campaign_id"),
    ("crm__campaign_members", "campaign_id", "crm__campaigns", "campaign_id"),
    ("crm__campaign_members", "contact_id", "crm__contacts", "contact_id"),
    ("crm__targets", "owner_id", "crm__users", "user_id"),
    ("web__events", "contact_id", "crm__contacts", "contact_id"),
    ("web__events", "email", "crm__contacts", "email"),
    ("web__events", "campaign_id", "crm__campaigns", "campaign_id"),
    ("email__events", "contact_id", "crm__contacts", "contact_id"),
    ("email__events", "email", "crm__contacts", "email"),
    ("email__events", "campaign_id", "crm__campaigns", "campaign_id"),
    ("social__interactions", "contact_id", "crm__contacts", "contact_id"),
    ("social__interactions", "account_id", "crm__accounts", "account_id"),
    ("survey__nps_answers", "contact_id", "crm__contacts", "contact_id"),
    ("market__industry_benchmarks", "industry", "crm__accounts", "industry"),
]


@pytest.mark.parametrize(("table", "column", "other", "key"), REFERENCES)
def test_reference__is_whole_and_used(
    database: duckdb.DuckDBPyConnection, table: str, column: str, other: str, key: str
) -> None:
    used, dangling = _row(
        database,
        f"select count({column}), count(case when {column} not in (select {key} from {other}) then 1 end) from {table}",
    )
    assert used > 0
    assert dangling == 0


# --- a believable company --------------------------------------------------------------------------


def test_default_company__has_the_promised_sizes(demo: tuple[Path, DemoSummary]) -> None:
    _, summary = demo
    assert summary.row_counts["crm__accounts"] > 2_000  # versions
    assert abs(summary.event_count / 120_000 - 1) < 0.1
    assert summary.closed_count >= 1_000
    assert 0.25 <= summary.win_rate <= 0.30
    assert summary.deal_count > summary.closed_count


def test_stage_history__agrees_with_the_deals(database: duckdb.DuckDBPyConnection) -> None:
    broken = database.execute(
        """
        with last as (
            select opportunity_id, min(changed_at) as first_at, max(changed_at) as last_at,
                max_by(stage, changed_at) as stage, max_by(amount, changed_at) as amount,
                max_by(expected_close_date, changed_at) as expected, max_by(owner_id, changed_at) as owner_id
            from crm__opportunity_stage_history group by opportunity_id
        )
        select deals.opportunity_id from crm__opportunities as deals left join last using (opportunity_id)
        where not (first_at = opened_at and last.stage = deals.stage and last.amount = deals.amount
            and expected = expected_close_date and last.owner_id = deals.owner_id
            and coalesce(last_at = closed_at, true)
            and (status = 'open') = (deals.stage not like 'Closed%') and last_at < ?)
        """,
        [UNTIL],
    ).fetchall()
    assert broken == []
    pushed, amended = _row(
        database,
        "select count(case when dates > 1 then 1 end), count(case when amounts > 1 then 1 end) from ("
        " select count(distinct expected_close_date) as dates, count(distinct amount) as amounts"
        " from crm__opportunity_stage_history where stage not like 'Closed%' group by opportunity_id)",
    )
    assert pushed > 200
    assert amended > 200


def test_accounts__changed_records_have_two_versions_with_rising_updated_at(
    database: duckdb.DuckDBPyConnection,
) -> None:
    rows = database.execute(
        "select account_id, count(distinct employees) as sizes, count(distinct owner_id) as owners"
        " from landed_crm__accounts group by account_id"
    ).df()
    assert (rows["sizes"] > 1).sum() > 50
    assert (rows["owners"] > 1).sum() > 20
    # A later extract shows either the same version or a later one, so updated_at alone orders them.
    (conflicting,) = _row(
        database,
        "select count(*) from (select account_id, updated_at from landed_crm__accounts group by all"
        " having count(distinct (employees, annual_revenue, owner_id, lifecycle_stage, is_customer,"
        " open_positions)) > 1)",
    )
    assert conflicting == 0


def test_web__some_visitors_stay_unknown_and_some_become_known_later(
    database: duckdb.DuckDBPyConnection,
) -> None:
    never, later, both = _row(
        database,
        """
        with visitors as (
            select visitor_id, min(occurred_at) as first_at,
                min(case when contact_id is not null or email is not null then occurred_at end) as known_at
            from web__events group by visitor_id
        )
        select count(case when known_at is null then 1 end), count(case when known_at > first_at then 1 end),
            count(*) from visitors
        """,
    )
    assert 0.3 < never / both < 0.8
    assert later > 500
    (two_people,) = _row(
        database,
        "select count(*) from (select visitor_id"
        " from web__events left join crm__contacts as by_mail using (email) group by visitor_id"
        " having count(distinct coalesce(web__events.contact_id, by_mail.contact_id)) > 1)",
    )
    assert two_people == 0


def test_messages__tell_their_story_in_order(database: duckdb.DuckDBPyConnection) -> None:
    (broken,) = _row(
        database,
        """
        with stories as (
            select message_id, min(case when event_type = 'sent' then occurred_at end) as sent_at,
                min(case when event_type = 'delivered' then occurred_at end) as delivered_at,
                min(case when event_type in ('opened', 'clicked', 'unsubscribed') then occurred_at end)
                    as read_at,
                count(distinct email) as people
            from email__events group by message_id
        )
        select count(*) from stories where sent_at is null or people <> 1 or delivered_at < sent_at
            or read_at < coalesce(delivered_at, 'infinity')
        """,
    )
    assert broken == 0


def test_gateway_clicks__stay_away_from_accounts_with_deals(database: duckdb.DuckDBPyConnection) -> None:
    clicks, at_deals = _row(
        database,
        "select count(*),"
        " count(case when account_id in (select account_id from crm__opportunities) then 1 end)"
        " from email__events join crm__contacts using (email)"
        " where user_agent like '%Guard%' and event_type = 'clicked'",
    )
    assert clicks > 20
    assert at_deals == 0


def test_company_names__are_unique_and_safe() -> None:
    names, domains = company_names(np.arange(300_000), seed=7)
    assert len(names.unique()) == len(domains.unique()) == 300_000
    assert all(domain.endswith(".example") and " " not in domain for domain in domains.slice(0, 1_000).to_pylist())
    beyond, _ = company_names(np.array([5, 5 + 10 * 1_651_440]), seed=7)
    assert beyond[0] != beyond[1]


def test_emails__are_unique_and_companies_own_the_reserved_domain(
    database: duckdb.DuckDBPyConnection,
) -> None:
    repeated, unmatched, by_domain = _row(
        database,
        "select (select count(*) from (select email from crm__contacts group by email having count(*) > 1)),"
        " count(case when account_id is null and email not like '%.example' then 1 end),"
        " count(case when account_id is null and email like '%.example' then 1 end) from crm__contacts",
    )
    assert repeated == 0
    assert unmatched > 0
    assert by_domain > 100


# --- the truth -------------------------------------------------------------------------------------

# What an outsider can know of a touch: which account, who, when it happened, from when the person was known.
TOUCHES_SQL = """
with people as (
    select contacts.contact_id, contacts.email, contacts.seniority, contacts.created_at,
        coalesce(contacts.account_id, accounts.account_id) as account_id
    from crm__contacts as contacts
    left join (
        select domain, min(account_id) as account_id from crm__accounts
        where merged_into_account_id is null group by domain
    ) as accounts on accounts.domain = split_part(contacts.email, '@', 2)
),
identities as (
    select visitor_id, min(occurred_at) as identified_at,
        min_by(coalesce(web__events.contact_id, people.contact_id), occurred_at) as contact_id
    from web__events left join people using (email)
    where web__events.contact_id is not null or email is not null
    group by visitor_id
),
touches as (
    select event_type as signal, occurred_at, greatest(occurred_at, identified_at) as known_at,
        identities.contact_id
    from web__events join identities using (visitor_id)
    union all
    select 'email_' || event_type, occurred_at, occurred_at, people.contact_id
    from email__events join people using (email)
    union all
    select activity_type, occurred_at, occurred_at, contact_id
    from crm__activities where contact_id is not null
)
select signal, occurred_at, known_at, contact_id, account_id from touches join people using (contact_id)
where account_id is not null
"""


def test_planted_values__equal_an_independent_count_from_the_landed_files(
    database: duckdb.DuckDBPyConnection,
) -> None:
    database.execute(f"create or replace table touches as {TOUCHES_SQL}")
    checked = 0
    for name, criterion in CRITERIA.items():
        if criterion["kind"] != "implicit":
            continue
        signals = ", ".join(f"'{signal}'" for signal in criterion["signals"])
        seen = (
            "select truth.opportunity_id, touches.contact_id,"
            " touches.occurred_at::date as day, count(*) as n,"
            " any_value(date_diff('day', touches.occurred_at::date, truth.opened_at::date)) as age"
            " from truth join touches on touches.account_id = truth.account_id"
            f" and touches.known_at <= truth.opened_at and signal in ({signals}) group by all"
        )
        if criterion["measure"] == "count":
            value = (
                f"coalesce(sum(case when age <= {criterion['window_days']}"
                f" then least(n, {criterion['cap_per_day']})"
                f" * pow(2.0, -age / {float(criterion['half_life_days'])}) end), 0)"
            )
        else:
            value = "min(age)"
        rows = database.execute(
            f"with seen as ({seen}) select any_value(truth.{name}__value) as planted, {value} as counted"
            " from truth left join seen using (opportunity_id) group by truth.opportunity_id"
        ).df()
        pd.testing.assert_series_equal(
            rows["planted"].astype(float),
            rows["counted"].astype(float),
            check_names=False,
            rtol=1e-12,
            obj=name,
        )
        assert rows["planted"].nunique() > 5 or name == "unsubscribes"
        checked += 1
    assert checked == 7


def test_planted_values__of_accounts_are_the_versions_valid_at_the_opening(
    database: duckdb.DuckDBPyConnection,
) -> None:
    rows = database.execute(
        """
        with versions as (
            select distinct account_id, employees, industry, account_type, lead_source, country, tech_stack,
                updated_at
            from landed_crm__accounts
        ),
        ranked as (
            select *, row_number() over (partition by account_id order by updated_at) as version from versions
        ),
        makers as (
            select account_id, created_at from (
                select seniority, contacts.created_at,
                    coalesce(contacts.account_id, accounts.account_id) as account_id
                from crm__contacts as contacts left join crm__accounts as accounts
                    on accounts.domain = split_part(contacts.email, '@', 2)
                        and accounts.merged_into_account_id is null
            ) where seniority in ('c_level', 'head')
        )
        select truth.*, v.employees, v.industry, v.account_type, v.lead_source, v.country, v.tech_stack,
            (select count(*) from makers
             where makers.account_id = truth.account_id and makers.created_at <= truth.opened_at
            ) as decision_makers
        from truth join ranked as v using (account_id)
        where v.version = 1 or v.updated_at <= truth.opened_at
        qualify row_number() over (partition by opportunity_id order by v.version desc) = 1
        """
    ).df()
    assert len(rows) == _row(database, "select count(*) from truth")[0]
    explicit = [name for name, criterion in CRITERIA.items() if criterion["kind"] == "explicit"]
    assert set(explicit) <= set(rows.columns)
    for name in explicit:
        pd.testing.assert_series_equal(
            rows[f"{name}__value"], rows[name], check_names=False, check_dtype=False, obj=name
        )
    (grown,) = _row(
        database,
        "select count(*) from truth join landed_crm__accounts as first using (account_id)"
        " where first.employees <> truth.employees__value",
    )
    assert grown > 0  # some deals do see the later of two versions, or the other way round


def test_log_odds__are_the_base_and_the_points_of_the_bands(demo: tuple[Path, DemoSummary]) -> None:
    truth = pq.read_table(demo[0] / TRUTH_DEALS_FILE).to_pandas()
    points = np.zeros(len(truth))
    for name, criterion in CRITERIA.items():
        points += np.array([band["points"] for band in criterion["bands"]])[truth[f"{name}__band"]]
    np.testing.assert_allclose(truth["log_odds"], BASE_LOG_ODDS + LOG_ODDS_PER_POINT * points, rtol=1e-12)


def test_touches_after_an_opening__leak_the_outcome(database: duckdb.DuckDBPyConnection) -> None:
    """Won deals are worked on more after they open: the trap for features that look past the opening."""
    after = dict(
        database.execute(
            "select status, avg((select count(*) from crm__activities as a"
            " where a.opportunity_id = d.opportunity_id)) from crm__opportunities as d"
            " where status <> 'open' group by status"
        ).fetchall()
    )
    assert after["won"] > 1.5 * after["lost"]


def test_truth_file__says_what_was_planted(demo: tuple[Path, DemoSummary]) -> None:
    directory, summary = demo
    written = json.loads((directory / TRUTH_FILE).read_text())
    assert written == json.loads(json.dumps(summary.truth))
    assert written["criteria"] == CRITERIA
    assert written["closed_deals"] == summary.closed_count
    landed = {path.name for table in LANDED for path in _folder(directory, table).iterdir()}
    assert not any("truth" in name for name in landed)


def test_signals__are_event_types_of_the_contracts() -> None:
    for signal, (table, event_type) in SIGNALS.items():
        column = next(p for p in _properties(table) if p["name"] in ("event_type", "activity_type"))
        assert event_type in column["quality"][0]["arguments"]["validValues"], signal
    assert all(set(criterion.get("signals", [])) <= set(SIGNALS) for criterion in CRITERIA.values())


def test_logistic_regression__recovers_the_planted_points(tmp_path: Path) -> None:
    """On more than 8,000 closed deals: differences between bands come back in sign, order and size."""
    from sklearn.linear_model import LogisticRegression

    generate(tmp_path, accounts=12_000, events=12_000 * 36, until=UNTIL, seed=11)
    truth = pq.read_table(tmp_path / TRUTH_DEALS_FILE).to_pandas().query("status != 'open'")
    columns, planted, owner = [], [], []
    for name, criterion in CRITERIA.items():
        bands = truth[f"{name}__band"].to_numpy()
        common = np.bincount(bands).argmax()
        for number, band in enumerate(criterion["bands"]):
            if number != common and (bands == number).sum() >= 250:
                columns.append(bands == number)
                planted.append(band["points"] - criterion["bands"][common]["points"])
                owner.append(f"{name} {band}")
    X = np.array(columns, dtype=float).T
    won = (truth["status"] == "won").to_numpy()
    fit = LogisticRegression(C=1e6, max_iter=500).fit(X, won)
    found = fit.coef_[0] / LOG_ODDS_PER_POINT
    planted_points = np.array(planted, dtype=float)
    # Standard errors from the information matrix: an honest yardstick instead of a guessed tolerance.
    probability = fit.predict_proba(X)[:, 1]
    design = np.column_stack([np.ones(len(X)), X])
    information = (design * (probability * (1 - probability))[:, None]).T @ design
    errors = np.sqrt(np.diag(np.linalg.inv(information)))[1:] / LOG_ODDS_PER_POINT
    z = (found - planted_points) / errors
    assert len(planted_points) >= 30
    assert np.abs(z).max() < 4, owner[int(np.abs(z).argmax())]
    assert 0.6 < np.mean(z**2) < 1.6  # as many misses as chance makes, no more and no fewer
    assert np.corrcoef(found, planted_points)[0, 1] > 0.95
    assert np.abs(found - planted_points).mean() < 3
    slope = np.polyfit(planted_points, found, 1)[0]
    assert 0.9 < slope < 1.1


# --- the pieces ------------------------------------------------------------------------------------


def test_decayed_counts__caps_per_person_and_day_and_halves_by_age() -> None:
    subject = np.array([0, 0, 0, 0, 0, 1, 1, 2])
    contact = np.array([1, 1, 1, 2, 1, 5, 5, 7])
    day = np.array([100, 100, 100, 100, 90, 70, 69, 101])
    counted = decayed_counts(
        subject, contact, day, np.full(8, 100), 4, half_life_days=10, window_days=30, cap_per_day=2
    )
    # 0: two of three on the day, one of another person, one ten days old; 1: 30 days is inside, 31 is not;
    # 2: later than the moment.
    np.testing.assert_allclose(counted, [2 + 1 + 0.5, 0.125, 0, 0])


def test_days_since_last__is_missing_without_any_touch() -> None:
    newest, missing = days_since_last(np.array([0, 0, 2]), np.array([3, 9, 10]), np.array([10, 10, 10]), 3)
    assert newest.tolist() == [1, 0, 0]
    assert missing.tolist() == [False, True, False]


def test_band_numbers__edges_belong_to_the_band_above_and_missing_to_its_own() -> None:
    values = ValueColumn(np.array([9, 10, 49, 50, 999, 1000, 0]), np.array([False] * 6 + [True]))
    assert band_numbers("employees", values).tolist() == [0, 1, 1, 2, 3, 4, 5]
    industries = ValueColumn(np.array([0, 1, 0]), np.array([False, False, True]), ["energy", "software"])
    assert band_numbers("industry", industries).tolist() == [6, 0, 7]


def test_numbered__writes_digits_and_refuses_to_collide() -> None:
    keys = numbered("w-", np.array([0, 42, 99_999_999]), 8, np.array([False, True, False]))
    assert keys.to_pylist() == ["w-00000000", None, "w-99999999"]
    assert numbered("w-", np.array([123_456_789_012]), 12).to_pylist() == ["w-123456789012"]
    with pytest.raises(ValueError, match="number 100000000 has more than 8 digits"):
        numbered("w-", np.array([100_000_000]), 8)


def test_landing_files__refuse_columns_and_types_that_the_contract_does_not_have(tmp_path: Path) -> None:
    with LandingFiles(None) as files:  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"crm__users: columns \['shoe_size'\]"):
            files.append("crm__users", "users.parquet", {"user_id": pa.array(["a"]), "shoe_size": pa.array([42])})
        with pytest.raises(ValueError, match=r"crm__users\.is_active: the contract's type is bool, not string"):
            files.append("crm__users", "users.parquet", {"user_id": pa.array(["a"]), "is_active": pa.array(["x"])})
