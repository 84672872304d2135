"""Why open deals are expected to be won: effects of what is known of them, in sums and in words.

Belongs here: reading `deal_forecast_effects` for people. Does not: the effects (`ml.forecast.effects`), tables on screens.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import duckdb

from orchestration.lib.marts_reader import rows

#: Factor -> how it is called before people.
CALLED = {
    "age": "age of the deal",
    "stage": "stage",
    "time_in_stage": "time in its stage",
    "moves_back": "moves back in stage",
    "promised_date": "promised close date",
    "pushes": "times the date was put off",
    "amount": "amount",
    "account_score": "score of the account",
    "engagement": "engagement of the account",
    "engagement_trend": "trend of the engagement",
    "owner": "owner",
}
#: Column of chances in `deal_forecasts` -> column of effects on it.
EFFECT_ON = {
    f"won_{until}_probability": f"won_{until}_effect" for until in ("this_month", "this_quarter", "next_quarter")
}
LEAST_SHOWN = Decimal("0.005")


def effects_in_sum(con: duckdb.DuckDBPyConnection, chance: str) -> list[dict[str, Any]]:
    """What each factor adds to what is expected of all explained open deals with an amount: the typical deal first, then as in `CALLED`.

    Parameters
    ----------
    chance : one of the columns of `EFFECT_ON`

    Returns
    -------
    factor, deals, raised, lowered (deals whose chance it changes by half a percentage point or more), effect (mean, of a deal), amount
    (sum of effect x amount; over all rows, what is expected of the deals).
    """
    effect = EFFECT_ON[chance]
    found = rows(
        con,
        f"""
        select factor, count(*) as deals,
            coalesce(sum(case when {effect} >= {LEAST_SHOWN} then 1 else 0 end), 0) as raised,
            coalesce(sum(case when {effect} <= -{LEAST_SHOWN} then 1 else 0 end), 0) as lowered,
            avg({effect}) as effect, coalesce(sum({effect} * amount), 0) as amount
        from deal_forecast_effects where amount is not null group by factor
        """,
    )
    order = {name: place for place, name in enumerate(("typical", *CALLED))}
    return sorted(found, key=lambda row: order[row["factor"]])


def effects_of(con: duckdb.DuckDBPyConnection, deals: Sequence[str], chance: str) -> dict[str, list[dict[str, Any]]]:
    """Deal -> factor, observed and effect on this chance: the typical deal first, then the largest effects."""
    found = rows(
        con,
        f"""
        select opportunity_id, factor, observed, {EFFECT_ON[chance]} as effect from deal_forecast_effects
        where list_contains(?, opportunity_id)
        order by opportunity_id, case when factor = 'typical' then 0 else 1 end, abs({EFFECT_ON[chance]}) desc, factor
        """,
        [list(deals)],
    )
    result: dict[str, list[dict[str, Any]]] = {}
    for row in found:
        result.setdefault(row["opportunity_id"], []).append(row)
    return result


def in_points(effect: Decimal) -> str:
    """0.123 -> "+12"; what rounds to nothing has no sign."""
    return f"{100 * effect:+.0f}" if abs(effect) >= LEAST_SHOWN else "0"


def reasons(effects: Sequence[dict[str, Any]], most: int = 3) -> str:
    """The largest effects of a deal, as in "stage (Negotiation) +12, pushes (3) -3"; empty where all are small."""
    shown = [row for row in effects if row["factor"] != "typical" and abs(row["effect"]) >= LEAST_SHOWN]
    return ", ".join(f"{CALLED[row['factor']]} ({row['observed']}) {in_points(row['effect'])}" for row in shown[:most])
