"""The planted truth: which criteria decide the demo company's deals, and by how many points.

Only data and the lookup of points by band. How a value is counted as of a moment is in `features`; how an
outcome is drawn from the points is in `deals`. Nothing here is read by the warehouse: it is what its fit is
checked against.

Conventions, the same as in a scorecard: +20 points double the odds; a numeric band holds
``lower <= value < upper``, an absent bound is open; `values` lists categories; ``missing: True`` is the
band of an absent value; ``other: True`` takes every category that is not listed. Kind, type,
attribute, signals, measure, half-life, window and caps are called as in `scorecard.yml`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

POINTS_PER_DOUBLING = 20
LOG_ODDS_PER_POINT = math.log(2) / POINTS_PER_DOUBLING

# Set by experiment so that 25 to 30 per cent of the closed deals are won at the default size.
BASE_LOG_ODDS = -1.92

# Where each signal comes from: landed table and its event type.
SIGNALS: dict[str, tuple[str, str]] = {
    "page_view": ("web__events", "page_view"),
    "product_page_view": ("web__events", "product_page_view"),
    "pricing_page_view": ("web__events", "pricing_page_view"),
    "download": ("web__events", "download"),
    "form_submission": ("web__events", "form_submission"),
    "trial_sign_up": ("web__events", "trial_sign_up"),
    "opt_in": ("web__events", "opt_in"),
    "email_clicked": ("email__events", "clicked"),
    "email_unsubscribed": ("email__events", "unsubscribed"),
    "meeting": ("crm__activities", "meeting"),
    "trade_fair_visit": ("crm__activities", "trade_fair_visit"),
}

Band = dict[str, Any]


def _ranges(*edges_and_points: float) -> list[Band]:
    """Bands from ``points, edge, points, edge, points``: the first and last are open."""
    points, edges = edges_and_points[::2], edges_and_points[1::2]
    lowers, uppers = [None, *edges], [*edges, None]
    return [{"lower": low, "upper": up, "points": int(p)} for low, up, p in zip(lowers, uppers, points, strict=True)]


def _decayed(signals: list[str], half_life: int, window: int, cap: int, bands: list[Band]) -> dict[str, Any]:
    return {
        "kind": "implicit",
        "type": "number",
        "measure": "count",
        "signals": signals,
        "half_life_days": half_life,
        "window_days": window,
        "cap_per_day": cap,
        "bands": bands,
    }


def _category(attribute: str, points: dict[str, int], other: int = 0, missing: int | None = None) -> dict[str, Any]:
    bands: list[Band] = [{"values": [value], "points": p} for value, p in points.items()]
    bands.append({"other": True, "points": other})
    if missing is not None:
        bands.append({"missing": True, "points": missing})
    return {"kind": "explicit", "type": "category", "attribute": attribute, "bands": bands}


# Decayed counts start above zero at 2^-(window / half-life) >= 0.0156, so an edge of 0.01 parts "none" from
# "some".
CRITERIA: dict[str, dict[str, Any]] = {
    "employees": {
        "kind": "explicit",
        "type": "number",
        "attribute": "employees",
        "bands": [*_ranges(-20, 10, -5, 50, 10, 250, 15, 1000, 5), {"missing": True, "points": -4}],
    },
    "industry": _category(
        "industry",
        {
            "software": 15,
            "manufacturing": 8,
            "finance": 4,
            "logistics": 0,
            "retail": -10,
            "public administration": -12,
        },
        other=0,
        missing=-3,
    ),
    "account_type": _category("account_type", {"sole_trader": -25, "public_sector": -4}),
    "lead_source": _category(
        "lead_source", {"network": 12, "partner": 8, "online": 2, "cold": -10, "tender": -8}, missing=0
    ),
    "country": _category("country", {"DE": 5, "CH": 6, "FR": -6}),
    "tech_stack": _category("custom.tech_stack", {"cloud": 9, "hybrid": 3, "on_premises": -7}, missing=0),
    "decision_makers": {
        "kind": "explicit",
        "type": "number",
        "attribute": "decision_maker_count",
        "seniorities": ["c_level", "head"],
        "bands": _ranges(0, 1, 12),
    },
    "pricing_page_views": _decayed(["pricing_page_view"], 30, 180, 3, _ranges(-8, 0.01, 0, 1, 10, 3, 18)),
    "product_page_views": _decayed(["product_page_view"], 45, 180, 5, _ranges(-5, 0.01, 0, 1, 4, 3, 9)),
    "email_clicks": _decayed(["email_clicked"], 30, 180, 3, _ranges(-4, 0.01, 2, 1, 9)),
    "content_and_trials": _decayed(["download", "trial_sign_up"], 60, 365, 2, _ranges(-3, 0.01, 4, 0.5, 12)),
    "meetings_and_fairs": _decayed(["meeting", "trade_fair_visit"], 90, 365, 1, _ranges(-5, 0.01, 5, 0.7, 14)),
    "unsubscribes": _decayed(["email_unsubscribed"], 180, 365, 1, _ranges(0, 0.01, -15)),
    "days_since_last_touch": {
        "kind": "implicit",
        "type": "number",
        "measure": "days_since_last",
        "signals": [s for s in SIGNALS if s != "email_unsubscribed"],
        "bands": [*_ranges(6, 7, 0, 30, -6, 90, -10), {"missing": True, "points": -12}],
    },
}


@dataclass(frozen=True)
class ValueColumn:
    """Values of one criterion for many deals.

    Attributes
    ----------
    values : array, shape (n,)
        Numbers, or codes into `categories`.
    missing : bool array, shape (n,)
    categories : list of str, or None for numbers and truth values
    """

    values: NDArray[Any]
    missing: NDArray[np.bool_]
    categories: list[str] | None = None


def band_numbers(criterion: str, column: ValueColumn) -> NDArray[np.int64]:
    """The position in ``CRITERIA[criterion]["bands"]`` of each value, shape (n,).

    Raises
    ------
    ValueError
        A value falls into no band: the table above has a gap.
    """
    result = np.full(column.values.shape, -1, dtype=np.int64)
    other: int | None = None
    for number, band in enumerate(CRITERIA[criterion]["bands"]):
        if band.get("missing"):
            result[column.missing] = number
        elif band.get("other"):
            other = number
        elif "values" in band:
            if column.categories is None:
                inside = np.isin(column.values, band["values"])
            else:
                codes = [column.categories.index(v) for v in band["values"] if v in column.categories]
                inside = np.isin(column.values, codes)
            result[inside & ~column.missing] = number
        else:
            inside = ~column.missing
            if band["lower"] is not None:
                inside &= column.values >= band["lower"]
            if band["upper"] is not None:
                inside &= column.values < band["upper"]
            result[inside] = number
    if other is not None:
        result[result < 0] = other
    if (result < 0).any():
        raise ValueError(f"criterion {criterion}: {int((result < 0).sum())} values fall into no band")
    return result


def band_points(criterion: str, bands: NDArray[np.int64]) -> NDArray[np.int64]:
    """Planted points of each band number, shape (n,)."""
    return np.array([band["points"] for band in CRITERIA[criterion]["bands"]], dtype=np.int64)[bands]
