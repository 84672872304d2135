"""The whole line on the demo company, whose true weights are known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import duckdb
import pandas as pd

from orchestration.lib.demo_company import CRITERIA, TRUTH_DEALS_FILE
from orchestration.lib.landing import landing_file
from orchestration.lib.marts_reader import open_marts, rows
from orchestration.lib.workspace import Workspace
from tests.conftest import Company

#: These tell of the run itself, not of what was seen; all other marts must be the same again.
RUN_TABLES = {"publication"}


def marts_of(workspace: Workspace, *, without: set[str] = frozenset()) -> dict[str, list[tuple[Any, ...]]]:
    """All rows of all published marts, sorted; of load_report without the hand-overs, which a refresh lands and only the next one loads."""
    not_its_own = {"load_report": "where source_table <> 'scoring__handoff_crossings'"}
    with open_marts(workspace) as con:
        names = [name for (name,) in con.execute("select table_name from duckdb_tables()").fetchall()]
        return {
            name: con.execute(f'select * from "{name}" {not_its_own.get(name, "")} order by all').fetchall()
            for name in sorted(set(names) - RUN_TABLES - set(without))
        }


def test_demo__every_mart_has_rows(demo: Company) -> None:
    empty = {name for name, found in marts_of(demo.workspace).items() if not found}
    # What only people, a second day or a switch bring.
    by_people = {
        "score_ledger",
        "forecast_submissions",
        "segments",
        "segment_members",
        "segment_changes",
        "score_value_holdout",
        "account_hierarchy",
        "gone_records",
        "score_versions_compared",
    }
    # No period that was forecast is over.
    assert empty <= {"quarantined_rows", "score_changes", "forecast_accuracy", *by_people}, empty


def test_contributions__sum_to_the_total_of_every_scored_account(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        wrong = rows(
            con,
            """
            select account_id, total_points, sum(points) as summed from scored_accounts
            join score_contributions using (account_id) group by all having total_points is distinct from sum(points)
            """,
        )
        scored = rows(con, "select count(*) as n from scored_accounts where state = 'scored'")[0]["n"]
        explained = rows(con, "select count(distinct account_id) as n from score_contributions")[0]["n"]
    assert not wrong
    assert scored == explained > 1_000


def test_states__each_account_is_in_one(demo: Company) -> None:
    with open_marts(demo.workspace) as con:
        found = rows(
            con,
            "select state, count(*) as n, count(total_points) as with_points from scored_accounts group by state",
        )
    by_state = {row["state"]: row for row in found}
    assert {"scored", "customer", "suppressed", "disqualified"} <= set(by_state)
    assert all((row["with_points"] == row["n"]) == (state == "scored") for state, row in by_state.items())


def test_win_probability__is_the_published_curve_of_the_points(demo: Company) -> None:
    from ml.card import Card
    from orchestration.lib.card_store import active_card

    card = active_card(demo.workspace)
    assert card is not None
    curve = Card.from_document(card.document["card"]).calibration
    with open_marts(demo.workspace) as con:
        found = rows(
            con,
            "select fit_points + engagement_points as points, win_probability as p from scored_accounts where state = 'scored'",
        )
    expected = curve.win_probability([row["points"] for row in found])[0]
    assert [row["p"] for row in found] == expected.tolist()


def test_card_in_python__gives_the_points_of_the_warehouse(demo: Company) -> None:
    """Scoring is SQL and the fit is Python: on the same features they must agree to the integer."""
    from ml.card import Card
    from orchestration.lib.card_store import active_card
    from orchestration.lib.training import read_features

    card = active_card(demo.workspace)
    assert card is not None
    with duckdb.connect(str(demo.workspace.warehouse), read_only=True) as con:
        features = read_features(con, card.document["criteria"], "accounts")
        in_sql = con.execute("select spine_id, criterion, points from intermediate.int_accounts__points").df()
    in_python = Card.from_document(card.document["card"]).points(features)
    wide = in_sql.pivot(index="spine_id", columns="criterion", values="points").loc[in_python.index, in_python.columns]
    pd.testing.assert_frame_equal(wide, in_python, check_names=False, check_dtype=False)


def test_features__are_those_of_the_planted_truth(demo: Company) -> None:
    """Every closed deal's value of every planted criterion, as of its opening, computed twice: by the generator and by
    dbt."""
    truth = pd.read_parquet(demo.workspace.home / TRUTH_DEALS_FILE).set_index("opportunity_id")
    with duckdb.connect(str(demo.workspace.warehouse), read_only=True) as con:
        features = con.execute(
            """
            select f.spine_id, c.criterion, f.value_micro, f.value_text
            from (from features.ftr_deals__explicit union all from features.ftr_deals__implicit) as f
            join settings.criteria as c using (criterion_key)
            join intermediate.int_spine__deals as d using (spine_id)
            where d.is_won is not null
            """
        ).df()
    assert features["spine_id"].nunique() > 1_000
    for name, criterion in CRITERIA.items():
        ours = features[features["criterion"] == name].set_index("spine_id")
        theirs = truth.loc[ours.index, f"{name}__value"]
        if criterion["type"] == "category":
            assert ours["value_text"].fillna("").tolist() == theirs.fillna("").str.lower().tolist(), name
        else:
            values = ours["value_micro"].astype(float) / 1e6
            difference = (values - theirs.astype(float)).abs()
            assert (values.isna() == theirs.isna()).all(), name
            # Each day's count is cut off at a millionth; nothing else may differ.
            assert difference.max() < 1e-3, (name, difference.max(), difference.idxmax())


def test_weights__recover_the_planted_ones_in_sign_order_and_size(demo: Company) -> None:
    """The fit's points against the planted ones, within a criterion and as differences: the common level is not
    identified."""
    with open_marts(demo.workspace) as con:
        card = con.execute("select * from scorecard").df()
    pairs = []
    for name, criterion in CRITERIA.items():
        bands = card[(card["criterion"] == name) & (card["deal_count"] >= 40)]
        for _, band in bands.iterrows():
            planted = _planted_points(criterion, band)
            if planted is not None:
                pairs.append((name, band["band"], planted, band["points"], band["deal_count"]))
    found = pd.DataFrame(pairs, columns=["criterion", "band", "planted", "fitted", "deals"])
    assert found["criterion"].nunique() >= 12
    for column in ("planted", "fitted"):
        weighted = found[column] * found["deals"]
        level = weighted.groupby(found["criterion"]).transform("sum") / found.groupby("criterion")["deals"].transform(
            "sum"
        )
        found[column] = found[column] - level
    clear = found[found["planted"].abs() >= 8]
    assert (clear["planted"] * clear["fitted"] > 0).all(), clear
    assert found["planted"].corr(found["fitted"], method="spearman") > 0.85
    assert found["planted"].corr(found["fitted"]) > 0.9
    slope = (found["planted"] * found["fitted"]).sum() / (found["planted"] ** 2).sum()
    assert 0.75 < slope < 1.25


def _planted_points(criterion: dict[str, Any], band: pd.Series) -> int | None:
    for planted in criterion["bands"]:
        if band["band_type"] == "missing":
            if planted.get("missing"):
                return planted["points"]
        elif band["band_type"] == "other":
            if planted.get("other"):
                return planted["points"]
        elif "values" in planted:
            if band["band"].lower() in [value.lower() for value in planted["values"]]:
                return planted["points"]
        elif (
            "lower" in planted
            and band["band_type"] == "range"
            and _first_number(band["band"]) == (planted["lower"] or None)
        ):
            return planted["points"]
    return None


def _first_number(label: str) -> float | None:
    """The lower limit that a band's label names; None for the lowest band."""
    if label.startswith("<") or label == "none":
        return None
    return float(label.removeprefix(">= ").split("-")[0].replace(",", ""))


def test_refresh__again_changes_nothing(demo: Company, refresh: Callable[..., Any], tmp_path: Path) -> None:
    workspace = demo.copy(tmp_path / "again")
    before = marts_of(demo.workspace)
    refresh(workspace, demo.as_of)
    assert marts_of(workspace) == before


def test_warehouse__deleted_and_refreshed_gives_identical_marts(
    demo: Company, refresh: Callable[..., Any], tmp_path: Path
) -> None:
    workspace = demo.copy(tmp_path / "rebuilt")
    workspace.warehouse.unlink()
    refresh(workspace, demo.as_of)
    assert marts_of(workspace) == marts_of(demo.workspace)


def test_future_rows__change_no_score_and_no_training_feature(
    demo: Company, refresh: Callable[..., Any], tmp_path: Path
) -> None:
    """Events, edits and closings after the moment are landed; seen as of the moment, everything is as it was."""
    workspace = demo.copy(tmp_path / "future")
    moment = datetime.fromisoformat(demo.as_of)
    later = moment + timedelta(days=3)
    with open_marts(demo.workspace) as con:
        account = rows(con, "select account_id from scored_accounts where state = 'scored' order by rank limit 1")[0][
            "account_id"
        ]
        deal = rows(
            con,
            "select * from scored_opportunities where account_id is not null order by opportunity_id limit 1",
        )[0]
        contact = rows(con, "select contact_id from scored_contacts where account_id = ? limit 1", [account])[0][
            "contact_id"
        ]
    with duckdb.connect(str(demo.workspace.warehouse), read_only=True) as con:
        closed = rows(
            con,
            "select spine_id from intermediate.int_spine__deals where is_won = 0 order by spine_id limit 1",
        )[0]["spine_id"]
        visitor = rows(
            con,
            "select visitor_id from intermediate.int_touchpoints where match_status = 'no_person' limit 1",
        )[0]["visitor_id"]

    def land(table: str, record: dict[str, Any]) -> None:
        with landing_file(workspace, table, f"later-{record[next(iter(record))]}.parquet") as path:
            duckdb.connect().from_df(pd.DataFrame([record])).write_parquet(str(path))

    land(
        "web__events",
        {
            "event_id": "later-1",
            "occurred_at": later,
            "event_type": "pricing_page_view",
            "visitor_id": "v",
            "contact_id": contact,
        },
    )
    # An old anonymous visitor is identified later: its earlier events were not known then.
    land(
        "web__events",
        {
            "event_id": "later-2",
            "occurred_at": later,
            "event_type": "opt_in",
            "visitor_id": visitor,
            "contact_id": contact,
        },
    )
    land("crm__accounts", {"account_id": account, "account_name": "Renamed", "employees": 3, "industry": "retail", "lifecycle_stage": "customer",
                           "is_suppressed": True, "updated_at": later})  # fmt: skip
    land("crm__opportunities", {"opportunity_id": deal["opportunity_id"], "account_id": deal["account_id"], "status": "lost", "stage": "Closed lost",
                                "amount": 1.0, "opened_at": deal["opened_at"], "closed_at": later, "updated_at": later})  # fmt: skip
    # A tag set, and an outcome turned round, long after a deal was closed.
    land("crm__opportunities", {"opportunity_id": closed, "account_id": account, "status": "won", "stage": "Closed won", "amount": 9e6,
                                "opened_at": moment - timedelta(days=300), "closed_at": later, "updated_at": later})  # fmt: skip
    land("crm__opportunities", {"opportunity_id": "later-deal", "account_id": account, "status": "open", "stage": "Discovery", "amount": 5e5,
                                "opened_at": later, "updated_at": later})  # fmt: skip
    refresh(workspace, demo.as_of)

    # The report on loads rightly tells of the new files.
    assert marts_of(workspace, without={"load_report"}) == marts_of(demo.workspace, without={"load_report"})
    query = "select * from features.{} order by all"
    for table in (
        "ftr_deals__explicit",
        "ftr_deals__implicit",
        "ftr_accounts__explicit",
        "ftr_accounts__implicit",
    ):
        with (
            duckdb.connect(str(demo.workspace.warehouse), read_only=True) as before,
            duckdb.connect(str(workspace.warehouse), read_only=True) as after,
        ):
            assert before.execute(query.format(table)).fetchall() == after.execute(query.format(table)).fetchall(), (
                table
            )

    refresh(workspace, later.isoformat())
    with open_marts(workspace) as con:
        assert (
            rows(con, "select state from scored_accounts where account_id = ?", [account])[0]["state"] == "suppressed"
        )
