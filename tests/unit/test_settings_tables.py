"""The schema `settings`: what scorecard.yml and the active card say, in the exact integers that dbt computes with."""

from __future__ import annotations

import dataclasses
import math
from datetime import date, datetime
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from orchestration.lib import settings_tables
from orchestration.lib.card_store import StoredCard
from orchestration.lib.scorecard_settings import (
    CELLS,
    DealRisks,
    Forecast,
    Pipeline,
    ScorecardSettings,
    Segments,
    criterion_key,
)
from orchestration.lib.settings_tables import (
    HIGHEST_MICRO,
    LOWEST_MICRO,
    Decay,
    fiscal_periods,
    holdout_hash_below,
    write_settings,
)

AS_OF = datetime(2026, 11, 30, 18, 30)
SETTINGS = """
version: 1
currency: EUR
label: {since: 2024-01-01, exclude_deal_types: [" Renewal"], exclude_loss_reasons: [duplicate]}
states:
  customer_when: [won_deal]
  customer_lifecycle_stages: [Customer]
  disqualified_lifecycle_stages: [Churned]
  decision_maker_seniorities: [C_Level]
forecast: {months: 3}
criteria:
  employees: {kind: explicit, attribute: employees}
  views:
    kind: implicit
    signals: {page_view: 0.5, download: 2}
    half_life_days: 30
    window_days: 90
    cap_per_day: 2.5
    cap_per_person: 8
  endless: {kind: implicit, signals: [page_view]}
  last_touch: {kind: implicit, signals: [page_view], measure: days_since_last, window_days: 365}
"""


@pytest.fixture
def con() -> duckdb.DuckDBPyConnection:
    return duckdb.connect()


def settings_with(**criteria: dict[str, Any]) -> ScorecardSettings:
    document = yaml.safe_load(SETTINGS)
    document["criteria"] |= criteria
    actions = {"sales": ["A1"], "nurture": list(CELLS[1:])}
    return ScorecardSettings.model_validate({**document, "matrix": {"next_actions": actions}})


def stored_card(settings: ScorecardSettings, version: str = "v3", **changes: Any) -> StoredCard:
    """A card fitted with these criteria, as the first form of the document had it; changes are made to its card."""
    whole = {"points": 3, "expert_points": 5, "weight": 0.1, "weight_low": 0.0, "weight_high": 0.2, "deal_count": 40,
             "won_count": 10, "data_share_pct": 50.0}  # fmt: skip

    def band(number: int, **changes: Any) -> dict[str, Any]:
        start = {"criterion": "employees", "kind": "explicit", "band_no": number, "band": f"b{number}", "values": None}
        return {**start, "band_type": "range", "lower": None, "upper": None, **whole, **changes}

    document = {
        "scorecard_version": version,
        "created_at": "2026-11-01T10:00:00",
        "as_of_at": "2026-11-01T09:00:00",
        "criteria": {
            name: {"criterion_key": criterion_key(name, c.definition()), "definition": c.definition()}
            for name, c in settings.criteria.items()
        },
        "matrix": {"fit_grades": {"A": 40, "B": 10, "C": -5}, "engagement_levels": {"1": 30, "2": 20, "3": 0}},
        "card": {
            "format": "scorecard/1",
            "trust": 0.7,
            "belief_deals": 40,
            "deal_count": 40,
            "won_count": 10,
            "evaluation": {},
            "verdict": ["Learnt from 40 deals.", "AUC 0.7."],
            "base_rate": 0.25,
            "calibration": {
                "intercept": -1.5,
                "slope": 0.03,
                "var_intercept": 0.01,
                "covariance": -0.0001,
                "var_slope": 0.00001,
            },
            "bands": [
                band(0, band_type="missing"),
                band(1, upper=0.01),
                band(2, lower=0.01, upper=1234.567891),
                band(3, lower=1234.567891, upper=math.inf),
                band(0, criterion="views", kind="implicit", band_type="values", values=["retail", "food"]),
            ],
        }
        | changes,
    }
    return StoredCard(version, "active", document, {"at": "2026-11-02T09:00:00", "author": "ada", "note": "n"})


def card_with_segments(settings: ScorecardSettings, version: str = "v4") -> StoredCard:
    """A card of the present form: rows of a segment, a pair, a pinned row, a calibration table and evidence."""
    whole = {"points": 3, "expert_points": 5, "weight": 0.1, "weight_low": 0.0, "weight_high": 0.2, "deal_count": 40,
             "won_count": 10, "data_share_pct": 50.0, "lower": None, "upper": None, "values": None, "segment": "",
             "kind": "explicit", "account_count": 7, "is_pinned": False, "evidence": ""}  # fmt: skip

    def band(criterion: str, number: int, name: str, kind: str, **changes: Any) -> dict[str, Any]:
        return {**whole, "criterion": criterion, "band_no": number, "band": name, "band_type": kind, **changes}

    everybody = [
        band("region", 1, "north", "values", values=["kiel", "bremen"]),
        band("region", 2, "other", "other"),
        band("region", 3, "missing", "missing"),
        band("employees", 1, "any", "range", evidence="10 won deals"),
        band("employees", 2, "missing", "missing"),
        band("region_employees", 1, "north & any", "values", values=["1|1"]),
        band("region_employees", 2, "other", "other", points=0),
    ]
    own = [{**row, "segment": "north", "points": 9, "is_pinned": row["criterion"] == "employees"} for row in everybody]
    return stored_card(
        settings,
        version,
        format="scorecard/2",
        bands=everybody + own,
        pairs=[{"name": "region_employees", "left": "region", "right": "employees"}],
        segment_by="region",
        choices={},
        calibration={
            "method": "isotonic",
            "deal_count": 40,
            "points_from": -1,
            "probability": [0.1, 0.2, 0.4],
            "low": [0.05, 0.1, 0.3],
            "high": [0.2, 0.3, 0.5],
        },
        evaluation={
            "criteria": [
                {"criterion": "region", "kind": "explicit", "deal_count": 38, "auc": 0.6, "auc_low": 0.5, "auc_high": 0.7,
                 "information_value": 0.1, "p_value": 0.01, "q_value": 0.02, "is_significant": True,
                 "importance_share_pct": 40.0, "belief": "agree", "belief_p_value": 0.03, "sentence": "as believed",
                 "bands": []},
                {"criterion": "employees", "deal_count": 0, "auc": None},
            ],
            "leaks": [{"criterion": "status", "rule": "filled late", "evidence": "e", "is_left_out": True}],
        },
    )  # fmt: skip


def rows(con: duckdb.DuckDBPyConnection, query: str) -> list[tuple[Any, ...]]:
    return con.execute(query).fetchall()


def test_refresh__is_one_row_with_the_only_clock(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    assert rows(con, "from settings.refresh") == [(AS_OF, date(2026, 11, 30), "EUR", False, True)]


def test_label__is_one_row_and_has_no_months_unless_they_are_learnt_from(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    assert rows(con, "from settings.label") == [("deal_won", datetime(2024, 1, 1), "newest", 90, 20_000)]
    assert rows(con, "from settings.label_months") == []
    assert rows(con, "from settings.label_stages") == []


def test_label_months__are_the_last_ones_and_say_when_their_outcome_is_known(con: duckdb.DuckDBPyConnection) -> None:
    settings = settings_with()
    label = {
        "target": "account_wins",
        "within_days": 31,
        "stages": {"won": [" Signed"], "lost": ["Pilot"]},
        "account_months": {"months": 3, "most_accounts": 5},
    }
    changed = ScorecardSettings.model_validate({**settings.model_dump(by_alias=True), "label": label})
    write_settings(con, changed, None, datetime(2027, 1, 31))
    assert rows(con, "from settings.label_months") == [
        (datetime(2026, 11, 1), date(2026, 11, 1), datetime(2026, 12, 2)),
        (datetime(2026, 12, 1), date(2026, 12, 1), datetime(2027, 1, 1)),
        (datetime(2027, 1, 1), date(2027, 1, 1), datetime(2027, 2, 1)),
    ]
    assert rows(con, "from settings.label") == [("account_wins", None, "newest", 31, 5)]
    assert rows(con, "from settings.label_stages") == [("signed", "won"), ("pilot", "lost")]
    since = {**label, "since": date(2026, 12, 1)}
    later = ScorecardSettings.model_validate({**settings.model_dump(by_alias=True), "label": since})
    write_settings(con, later, None, datetime(2027, 1, 31))
    assert rows(con, "select count(*) from settings.label_months") == [(2,)]


def test_health_effort_and_holdout__are_rows(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    assert rows(con, "from settings.health_limits") == [
        ("psi", 0.1, 0.25),
        ("missing_change", 10, 30),
        ("score_band", 2.5, 3.5),
        ("calibration", 2, 3),
        ("silence", 1, 3),
        ("card_age", 180, 365),
    ]
    assert rows(con, "from settings.health") == [(90, 100, 30, 3)]
    assert rows(con, "from settings.effort") == [(Decimal(2), "newest_first")]
    assert rows(con, "from settings.holdout") == [("holdout", 0, "00000000", None)]


@given(share=st.floats(0, 90))
def test_holdout__has_the_share_of_digests_that_was_asked_for(share: float) -> None:
    below = holdout_hash_below(share)
    assert len(below) == 8
    assert abs(int(below, 16) / 2**32 - share / 100) < 1e-9


def test_words__are_compared_in_lower_case_without_blanks(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    assert rows(con, "from settings.label_exclusions") == [("deal_type", "renewal"), ("loss_reason", "duplicate")]
    assert rows(con, "from settings.lifecycle_states") == [("customer", "customer"), ("churned", "disqualified")]
    assert rows(con, "from settings.decision_maker_seniorities") == [("c_level",)]


def test_forecast_periods__are_whole_months_from_this_one_on_also_over_new_year(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    assert rows(con, "from settings.forecast_periods order by 1") == [
        (date(2026, 11, 1), date(2026, 12, 1), "2026-11"),
        (date(2026, 12, 1), date(2027, 1, 1), "2026-12"),
        (date(2027, 1, 1), date(2027, 2, 1), "2027-01"),
    ]


def test_matrix_actions__are_one_per_cell(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    found = dict(rows(con, "select cell, next_action from settings.matrix_actions"))
    assert set(found) == set(CELLS)
    assert (found["A1"], found["D4"]) == ("sales", "nurture")


def test_criteria__are_whole_numbers_in_the_units_of_the_features(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    found = rows(
        con,
        "select criterion, kind, measure, decay_key, window_days, cap_per_day_milli, cap_per_person_micro, "
        "is_current, is_active or is_shadow from settings.criteria order by criterion",
    )
    without = (36_500, 1_000_000_000, 1_000_000_000_000_000)
    assert found == [
        ("employees", "explicit", "count", "none", *without, True, False),
        ("endless", "implicit", "count", "none", *without, True, False),
        ("last_touch", "implicit", "days_since_last", "none", 365, *without[1:], True, False),
        ("views", "implicit", "count", "half_life:30", 90, 2_500, 8_000_000, True, False),
    ]
    assert rows(
        con,
        "select signal, multiplier_milli from settings.criterion_signals where criterion_key like 'views@%' order by 1",
    ) == [("download", 2_000), ("page_view", 500)]


def test_decay__reaches_as_far_as_anything_is_left(con: duckdb.DuckDBPyConnection) -> None:
    """To the end of the window, or to 30 half-lives: after them a single touch of a thousandth is less than a millionth."""
    quick = {"kind": "implicit", "signals": ["page_view"], "half_life_days": 2}
    write_settings(con, settings_with(quick=quick), None, AS_OF)
    found = rows(con, "select decay_key, count(*), max(age_days) from settings.decay group by all order by 1")
    assert found == [("half_life:2", 61, 60), ("half_life:30", 91, 90), ("none", 36_501, 36_500)]
    factors = dict(rows(con, "select age_days, factor_nano from settings.decay where decay_key = 'half_life:30'"))
    assert (factors[0], factors[30], factors[60], factors[10]) == (1_000_000_000, 500_000_000, 250_000_000, 793_700_526)
    assert 1_000 * half_life_of(2).nano(61) // 1_000_000 == 0


@given(half_life=st.integers(1, 3650), age=st.integers(0, 3650))
def test_decay__halves_each_half_life_and_never_rises(half_life: int, age: int) -> None:
    decay = half_life_of(half_life)
    assert abs(2 * decay.nano(age + half_life) - decay.nano(age)) <= 2
    assert decay.nano(age + 1) <= decay.nano(age)
    assert half_life_of(None).nano(age) == 1_000_000_000


def half_life_of(days: int | None) -> Decay:
    return Decay.of({"half_life_days": days})


def test_decay__in_a_line_ends_with_the_window() -> None:
    line = Decay.of({"half_life_days": None, "decay": "linear", "window_days": 90})
    assert (line.key, line.last_age) == ("linear:90", 90)
    assert [line.nano(age) for age in (0, 9, 45, 90, 91)] == [1_000_000_000, 900_000_000, 500_000_000, 0, 0]


def test_decay__in_steps_keeps_each_share_until_the_next() -> None:
    steps = Decay.of({"half_life_days": None, "decay": {"30": 0.5, "9": 0.8, "90": 0.0}})
    assert steps.key == "steps:9=0.8,30=0.5,90=0"
    assert [steps.nano(age) for age in (0, 8, 9, 29, 30, 89, 90, 4000)] == [
        1_000_000_000, 1_000_000_000, 800_000_000, 800_000_000, 500_000_000, 500_000_000, 0, 0,
    ]  # fmt: skip


def test_decay__every_shape_floor_and_ceiling_reach_the_settings_tables(con: duckdb.DuckDBPyConnection) -> None:
    count = {"kind": "implicit", "signals": ["page_view"]}
    settings = settings_with(
        line={**count, "decay": "linear", "window_days": 10, "floor": 0.5, "ceiling": 4},
        steps={**count, "decay": {2: 0.5}, "window_days": 3},
    )
    write_settings(con, settings, None, AS_OF)
    found = rows(
        con,
        "select decay_key, floor_micro, ceiling_micro from settings.criteria where criterion in ('line', 'steps') order by 1",
    )
    assert found == [("linear:10", 500_000, 4_000_000), ("steps:2=0.5", 0, 1_000_000_000 * 1_000_000)]
    left = rows(con, "select age_days, factor_nano from settings.decay where decay_key = 'steps:2=0.5' order by 1")
    assert left == [(0, 1_000_000_000), (1, 1_000_000_000), (2, 500_000_000), (3, 500_000_000)]


def test_roles_and_hierarchy__of_a_card_in_use_stay_beside_those_of_the_file(con: duckdb.DuckDBPyConnection) -> None:
    """Until the next fit the card's criteria count as they did at its own; explicit ones know neither."""
    before = settings_with()
    roles = {"functions": {"IT ": 0.25, "sales": 1}, "seniorities": {"head": 1.5}}
    changes = {"people": {"role_weights": roles}, "hierarchy": {"roll_up": True}}
    after = ScorecardSettings.model_validate({**before.model_dump(by_alias=True), **changes})
    write_settings(con, after, stored_card(before), AS_OF)
    weights = rows(con, "select role_key, field, value, weight_milli from settings.role_weights order by value")
    ((key,),) = rows(con, "select distinct role_key from settings.role_weights")
    assert weights == [(key, "seniority", "head", 1_500), (key, "job_function", "it", 250)]
    found = rows(
        con, "select criterion, is_current, is_active, role_key, is_rolled_up from settings.criteria order by all"
    )
    assert found == [
        ("employees", True, True, "none", False),
        ("endless", False, True, "none", False),
        ("endless", True, False, key, True),
        ("last_touch", False, True, "none", False),
        ("last_touch", True, False, "none", True),
        ("views", False, True, "none", False),
        ("views", True, False, key, True),
    ]


def test_card__is_empty_before_the_first_fit(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    for table in settings_tables.CARD_TABLES:
        assert rows(con, f"select count(*) from settings.{table}") == [(0,)]


def test_card__of_the_first_form_is_one_row_with_its_curve_as_a_table(con: duckdb.DuckDBPyConnection) -> None:
    """Its points are 3 and 3 for any account: one total, with the probability and interval of the line there."""
    settings = settings_with()
    write_settings(con, settings, stored_card(settings), AS_OF)
    assert rows(con, "from settings.scorecard") == [
        (
            *("v3", datetime(2026, 11, 1, 10), datetime(2026, 11, 1, 9), datetime(2026, 11, 2, 9)),
            *("Learnt from 40 deals. AUC 0.7.", 0.25, 40, 10, None, "sigmoid", 6, 6),
            *(40, 10, -5, 30, 20, 0),
        )
    ]
    ((version, points, *probabilities),) = rows(con, "from settings.scorecard_calibration")
    assert (version, points) == ("v3", 6)
    half = 1.645 * math.sqrt(0.01 + 2 * 6 * -0.0001 + 36 * 0.00001)
    for found, log_odds in zip(probabilities, (-1.32, -1.32 - half, -1.32 + half), strict=True):
        assert found == pytest.approx(1 / (1 + math.exp(-log_odds)), abs=1e-9)
    assert rows(con, "select distinct segment, account_count, is_pinned, evidence from settings.scorecard_bands") == [
        ("", None, False, None)
    ]
    for part in ("segments", "pairs", "criteria"):
        assert rows(con, f"from settings.scorecard_{part}") == []


def test_card__has_segments_pairs_its_calibration_and_evidence(con: duckdb.DuckDBPyConnection) -> None:
    settings = settings_with(region={"kind": "explicit", "attribute": "region", "type": "category"})
    write_settings(con, settings, card_with_segments(settings), AS_OF)
    keys = dict(rows(con, "select distinct criterion, criterion_key from settings.scorecard_bands"))
    assert keys["region"] == criterion_key("region", settings.criteria["region"].definition())
    assert rows(con, "from settings.scorecard_pairs") == [
        ("v4", keys["region_employees"], keys["region"], keys["employees"])
    ]
    assert keys["region_employees"] not in {
        key for (key,) in rows(con, "select criterion_key from settings.criteria")
    }, "a pair is made of located bands, not of a feature of its own"
    assert rows(con, "from settings.scorecard_segments") == [("v4", keys["region"], 1, "north")]
    assert rows(
        con,
        "select segment, count(*), sum(points), bool_or(is_pinned) from settings.scorecard_bands group by 1 order by 1",
    ) == [
        ("", 7, 18, False),
        ("north", 7, 63, True),
    ]
    assert rows(con, "from settings.scorecard_band_values order by value") == [
        ("v4", keys["region_employees"], "1|1", 1),
        ("v4", keys["region"], "bremen", 1),
        ("v4", keys["region"], "kiel", 1),
    ], "values stand once, not once per segment"
    assert rows(con, "from settings.scorecard_calibration") == [
        ("v4", -1, 0.1, 0.05, 0.2),
        ("v4", 0, 0.2, 0.1, 0.3),
        ("v4", 1, 0.4, 0.3, 0.5),
    ]
    assert rows(con, "select lowest_points, highest_points, segment_by from settings.scorecard") == [(-1, 1, "region")]
    assert rows(con, "from settings.scorecard_criteria") == [
        ("v4", "region", "explicit", 38, 0.6, 0.5, 0.7, 0.1, 0.01, 0.02, True, 40.0, "agree", 0.03, "as believed"),
        ("v4", "employees", None, 0, *[None] * 11),
    ]
    assert rows(con, "from settings.scorecard_leaks") == [("v4", "status", "filled late", "e", True)]


def test_shadows__have_tables_of_their_own_and_their_features_are_computed(con: duckdb.DuckDBPyConnection) -> None:
    settings = settings_with()
    other = settings_with(region={"kind": "explicit", "attribute": "region", "type": "category"})
    shadows = [card_with_segments(other), stored_card(settings, "v5")]
    write_settings(con, settings, stored_card(settings), AS_OF, shadows)
    versions = "select distinct scorecard_version from settings.{} order by 1"
    assert rows(con, versions.format("scorecard")) == [("v3",)]
    for part in ("", "_bands", "_band_values", "_calibration"):
        assert rows(con, versions.format(f"shadow_scorecard{part}")) == [("v4",), ("v5",)]
        assert rows(con, versions.format(f"scorecard{part}")) == [("v3",)]
    for part in ("_segments", "_pairs"):
        assert rows(con, versions.format(f"shadow_scorecard{part}")) == [("v4",)]
    found = rows(con, "select criterion, is_current, is_active, is_shadow from settings.criteria order by 1")
    assert found == [
        ("employees", True, True, True),
        ("endless", True, True, True),
        ("last_touch", True, True, True),
        ("region", False, False, True),
        ("views", True, True, True),
    ]


def test_out_of_fold_points__are_those_that_the_fit_kept(con: duckdb.DuckDBPyConnection, tmp_path: Path) -> None:
    file = tmp_path / "v3.parquet"
    con.execute(
        "copy (select * from (values ('d1', 12, -3, 1), ('d2', null, null, 0)) "
        f"as t (spine_id, fit_points, engagement_points, is_won)) to '{file}' (format parquet)"
    )
    settings = settings_with()
    card = dataclasses.replace(stored_card(settings), training_rows=file)
    write_settings(con, settings, card, AS_OF)
    assert rows(con, "from settings.out_of_fold_points") == [("d1", 12, -3)]
    write_settings(con, settings, stored_card(settings), AS_OF)
    assert rows(con, "from settings.out_of_fold_points") == []


def test_write__in_a_transaction_of_the_caller_is_undone_with_it(con: duckdb.DuckDBPyConnection) -> None:
    settings = settings_with()
    write_settings(con, settings, stored_card(settings), AS_OF)
    con.execute("begin")
    write_settings(con, settings, stored_card(settings, "v9"), AS_OF, in_transaction=True)
    assert rows(con, "select scorecard_version from settings.scorecard") == [("v9",)]
    con.execute("rollback")
    assert rows(con, "select scorecard_version from settings.scorecard") == [("v3",)]


def test_bands__have_their_edges_in_exact_millionths_without_a_gap(con: duckdb.DuckDBPyConnection) -> None:
    settings = settings_with()
    write_settings(con, settings, stored_card(settings), AS_OF)
    found = rows(
        con,
        "select band_no, lower_micro, upper_micro from settings.scorecard_bands where criterion = 'employees' order by 1",
    )
    assert found == [
        (0, None, None),
        (1, LOWEST_MICRO, 10_000),
        (2, 10_000, 1_234_567_891),
        (3, 1_234_567_891, HIGHEST_MICRO),
    ]
    assert rows(con, "select value, band_no from settings.scorecard_band_values order by 1") == [
        ("food", 0),
        ("retail", 0),
    ]


@given(edge=st.decimals(-(10**9), 10**9, places=6))
def test_edge__is_the_number_that_was_written(edge: Any) -> None:
    """0.1 + 0.2 and its like: through a float's text and not through its bits."""
    assert settings_tables._micro(float(edge), 0) == int(edge * 1_000_000)


def test_active_card__keeps_the_definitions_that_it_was_fitted_with(con: duckdb.DuckDBPyConnection) -> None:
    """An edited half-life is a criterion of its own, for the next fit; the points in use keep the old meaning."""
    card = stored_card(settings_with())
    views = {"kind": "implicit", "signals": ["page_view"], "half_life_days": 7, "window_days": 90}
    write_settings(con, settings_with(views=views), card, AS_OF)
    found = rows(
        con,
        "select decay_key, is_current, is_active from settings.criteria where criterion = 'views' order by 1",
    )
    assert found == [("half_life:30", False, True), ("half_life:7", True, False)]
    both = rows(con, "select distinct is_current, is_active from settings.criteria where criterion <> 'views'")
    assert both == [(True, True)], "where nothing changed a definition stands once"
    assert rows(con, "select distinct decay_key from settings.decay order by 1") == [
        ("half_life:30",),
        ("half_life:7",),
        ("none",),
    ]
    signals = rows(con, "select criterion_key, signal from settings.criterion_signals")
    assert len(signals) == len(set(signals))


def test_public_domains__hold_free_and_disposable_ones(con: duckdb.DuckDBPyConnection) -> None:
    write_settings(con, settings_with(), None, AS_OF)
    found = dict(rows(con, "from settings.public_email_domains"))
    assert found["gmail.com"] == "free"
    assert found["mailinator.com"] == "disposable"
    assert len(found) > 5_000


def test_write__replaces_everything_or_nothing(con: duckdb.DuckDBPyConnection, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with()
    write_settings(con, settings, stored_card(settings), AS_OF)
    before = {name: rows(con, f"from settings.{name} order by all") for name in settings_tables._TABLES}

    def broken(con: duckdb.DuckDBPyConnection) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(settings_tables, "_insert_public_domains", broken)
        with pytest.raises(OSError, match="no space left"):
            write_settings(con, settings, None, datetime(2027, 1, 1))
    assert {name: rows(con, f"from settings.{name} order by all") for name in settings_tables._TABLES} == before
    write_settings(con, settings, None, datetime(2027, 1, 1))
    assert rows(con, "select as_of_at from settings.refresh") == [(datetime(2027, 1, 1),)]
    assert rows(con, "from settings.scorecard") == []


def test_write__twice_gives_the_same_tables(tmp_path: Path) -> None:
    settings = settings_with()
    found = []
    for name in ("a", "b"):
        with duckdb.connect(str(tmp_path / name)) as con:
            write_settings(con, settings, stored_card(settings), AS_OF)
            write_settings(con, settings, stored_card(settings), AS_OF)
            found.append({table: rows(con, f"from settings.{table}") for table in settings_tables._TABLES})
    assert found[0] == found[1]


def test_pipeline_tables__hold_the_listed_stages_the_limits_of_risks_and_the_past_moments(
    con: duckdb.DuckDBPyConnection,
) -> None:
    chosen = {
        "pipeline": Pipeline(stages=["Talk", "Offer"]),
        "deal_risks": DealRisks(months=6, outcome_days=70, silent_days=14),
    }
    write_settings(con, settings_with().model_copy(update=chosen), None, AS_OF)
    assert rows(con, "from settings.pipeline_stages order by 2") == [("Talk", 1), ("Offer", 2)]
    assert rows(con, "from settings.account_groups") == [(None,)]
    assert rows(con, "from settings.deal_risk_rules") == [(0, 14, 90, 2, 2, 20, 50_000)]
    moments = [moment for (moment,) in rows(con, "from settings.deal_risk_moments order by 1")]
    assert moments == [datetime(2026, 6, 1), datetime(2026, 7, 1), datetime(2026, 8, 1), datetime(2026, 9, 1)]
    assert len(rows(con, "from settings.pipeline_comparisons where end_at = timestamp '2026-11-30 18:30'")) == 6


def test_account_groups__are_by_the_forecasts_own_attribute_or_else_by_that_of_the_weights(
    con: duckdb.DuckDBPyConnection,
) -> None:
    base = settings_with(branch={"kind": "explicit", "attribute": "industry", "type": "category"})
    weights = base.model_copy(update={"segments": Segments(by="branch")})
    write_settings(con, weights, None, AS_OF)
    assert rows(con, "from settings.account_groups") == [("industry",)]
    own = weights.model_copy(update={"forecast": Forecast(segment_by="custom.tier")})
    write_settings(con, own, None, AS_OF)
    assert rows(con, "from settings.account_groups") == [("custom.tier",)]


def test_pipeline_stages__have_one_place_each() -> None:
    with pytest.raises(ValueError, match="named twice: Talk"):
        Pipeline(stages=["Talk", "Offer", "Talk"])


def test_fiscal_periods__cover_each_day_once_per_kind_and_are_called_by_the_year_in_which_they_end() -> None:
    periods = fiscal_periods(date(2026, 2, 28), 4)
    for kind, count in (("month", 108), ("quarter", 36), ("year", 9)):
        found = [period for period in periods if period[0] == kind]
        assert len(found) == count
        assert all(one[2] == following[1] for one, following in pairwise(found))
        assert (found[0][1], found[-1][2]) == (date(2022, 4, 1), date(2031, 4, 1))
    assert ("quarter", date(2026, 1, 1), date(2026, 4, 1), "2026-Q4") in periods
    assert ("year", date(2025, 4, 1), date(2026, 4, 1), "2026") in periods
    assert ("year", date(2026, 1, 1), date(2027, 1, 1), "2026") in fiscal_periods(date(2026, 12, 31), 1)
