"""The waterfall: every deal in one bucket, and start + changes = end to the cent for any filter."""

from collections import Counter
from datetime import date, timedelta

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ml.forecast.history import DealHistory
from ml.forecast.waterfall import BUCKETS, pipeline_changes, waterfall

DAY = date(2026, 1, 1)
STAGES = ["discovery", "proposal", "negotiation"]


def moment(number):
    return DAY + timedelta(days=number)


def version(
    deal, known, status="open", amount=100, promised=40, owner="ann", region="north", stage="discovery", **more
):
    return {
        "deal_id": deal,
        "known_from": moment(known),
        "status": status,
        "opened_at": moment(more.pop("opened", 0)),
        "closed_at": moment(more.pop("closed", known)) if status != "open" else None,
        "amount_cents": amount,
        "expected_close_date": None if promised is None else moment(promised),
        "owner": owner,
        "region": region,
        "stage": stage,
        "merged_into": more.pop("merged_into", None),
        "is_deleted": more.pop("is_deleted", False),
    }


def history_of(versions):
    return DealHistory.from_versions(pd.DataFrame(versions), stages=STAGES, groups=["region"])


def bucket_of(*changes, opened=0, **first):
    """The bucket of one deal known on day 1, changed as given on day 20, looked at on days 10 and 30."""
    versions = [version("d", 1, opened=opened, **first)]
    versions += [version("d", 20, opened=opened, **{**first, **change}) for change in changes]
    rows = pipeline_changes(history_of(versions), moment(10), moment(30), dimensions=("owner", "region"))
    assert rows["deal_id"].nunique() == 1
    assert rows["bucket"].nunique() == 1
    return rows["bucket"].iloc[0], rows["start_cents"].sum(), rows["change_cents"].sum(), rows["end_cents"].sum()


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ("unchanged", 100, 0, 100)),
        ({"amount": 130}, ("up", 100, 30, 130)),
        ({"amount": None}, ("down", 100, -100, 0)),
        ({"promised": 95}, ("pushed_out", 100, 0, 100)),
        ({"promised": None}, ("pushed_out", 100, 0, 100)),
        ({"promised": 35, "amount": 130}, ("up", 100, 30, 130)),
        ({"promised": 3, "amount": 90}, ("pulled_in", 100, -10, 90)),
        ({"owner": "bob", "amount": 90}, ("owner_moved", 100, -10, 90)),
        ({"region": "south"}, ("owner_moved", 100, 0, 100)),
        ({"stage": "negotiation"}, ("stage_forward", 100, 0, 100)),
        ({"status": "won", "amount": 250, "owner": "bob"}, ("won", 100, -100, 0)),
        ({"status": "lost"}, ("lost", 100, -100, 0)),
        ({"merged_into": "other"}, ("merged", 100, -100, 0)),
        ({"is_deleted": True}, ("deleted", 100, -100, 0)),
    ],
)
def test_bucket__is_the_first_that_fits(change, expected):
    assert bucket_of(change) == expected


def test_bucket__of_stages_back_and_of_reopened_deals():
    assert bucket_of({"stage": "discovery"}, stage="proposal")[0] == "stage_back"
    versions = [version("d", 1), version("d", 5, "lost"), version("d", 20)]
    rows = pipeline_changes(history_of(versions), moment(10), moment(30))
    assert rows[["bucket", "start_cents", "end_cents"]].to_numpy().tolist() == [["reopened", 0, 100]]


def test_new_deals__and_deals_created_and_won_between_the_moments():
    versions = [
        version("late", 20, opened=15),
        version("quick", 12, opened=12),
        version("quick", 25, "won", 70, opened=12),
    ]
    rows = pipeline_changes(history_of(versions), moment(10), moment(30)).set_index("deal_id")
    assert rows.loc["late", ["bucket", "change_cents"]].tolist() == ["new", 100]
    assert rows.loc["quick", ["bucket", "change_cents", "won_cents"]].tolist() == ["won", 0, 70]


def test_moved_deals__leave_one_filter_and_arrive_in_the_other():
    versions = [version("d", 1, promised=40), version("d", 20, promised=95, owner="bob", amount=130)]
    rows = pipeline_changes(history_of(versions), moment(10), moment(30))
    sides = rows.set_index("owner")[["side", "close_month", "start_cents", "change_cents", "end_cents"]]
    assert sides.loc["ann"].tolist() == ["left", "2026-02", 100, -100, 0]
    assert sides.loc["bob"].tolist() == ["arrived", "2026-04", 0, 130, 130]
    steps = waterfall(rows).set_index("step")["cents"]
    assert (steps["start"], steps["owner_moved"], steps["end"]) == (100, 30, 130)


def test_moments__must_be_in_order():
    with pytest.raises(ValueError, match="must not be after"):
        pipeline_changes(history_of([version("d", 1)]), moment(30), moment(10))


VERSIONS = st.lists(
    st.builds(
        version,
        st.sampled_from("abcde"),
        st.integers(0, 40),
        st.sampled_from(["open", "open", "open", "won", "lost"]),
        st.one_of(st.none(), st.integers(0, 10**12)),
        st.one_of(st.none(), st.integers(0, 200)),
        st.sampled_from(["ann", "bob", None]),
        st.sampled_from(["north", "south"]),
        st.sampled_from([*STAGES, None]),
        merged_into=st.sampled_from([None, None, None, "z"]),
        is_deleted=st.sampled_from([False, False, False, True]),
        opened=st.integers(0, 20),
    ),
    min_size=1,
    max_size=25,
)


def open_cents(versions, at, **filters):
    """The open pipeline by its plain definition: each deal's last version known by then, if open."""
    latest = {}
    for _number, row in sorted(enumerate(versions), key=lambda pair: (pair[1]["known_from"], pair[0])):
        if row["known_from"] <= at:
            latest[row["deal_id"]] = row
    total = 0
    for row in latest.values():
        is_live = row["status"] == "open" and not row["is_deleted"] and row["merged_into"] is None
        month = row["expected_close_date"].strftime("%Y-%m") if row["expected_close_date"] else "(none)"
        seen = {"owner": row["owner"], "region": row["region"], "close_month": month}
        if is_live and row["opened_at"] <= at and all(seen[name] == value for name, value in filters.items()):
            total += row["amount_cents"] or 0
    return total


@settings(max_examples=50, deadline=None)
@given(VERSIONS, st.integers(0, 45), st.integers(0, 45))
def test_waterfall__is_an_identity_for_every_filter_on_random_histories(versions, one, other):
    first, last = moment(min(one, other)), moment(max(one, other))
    rows = pipeline_changes(history_of(versions), first, last, dimensions=("owner", "region"))
    assert str(rows["change_cents"].dtype) == "int64"
    assert set(rows["bucket"]) <= set(BUCKETS)
    assert (
        max(Counter(deal for deal, _ in set(zip(rows["deal_id"], rows["bucket"], strict=True))).values(), default=1)
        == 1
    )
    months = sorted(set(rows["close_month"]))[:3]
    filters = [{}, {"owner": "ann"}, {"region": "south"}, {"owner": "bob", "region": "north"}]
    filters += [{"close_month": month} for month in months] + [
        {"owner": "ann", "close_month": month} for month in months
    ]
    for each in filters:
        kept = rows
        for name, value in each.items():
            kept = kept[kept[name] == value]
        steps = waterfall(kept).set_index("step")["cents"]
        assert steps["start"] == open_cents(versions, first, **each)
        assert steps["end"] == open_cents(versions, last, **each)
        assert steps["start"] + steps.drop(["start", "end"]).sum() == steps["end"]
