"""The page of a scorecard version: it holds the version's figures, nothing from outside, and nobody's markup."""

from __future__ import annotations

import copy
import html
import math
import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from ml.card import WEIGHT_PER_POINT, Calibration, Card
from ml.evidence import CriterionEvidence
from ml.leaks import Leak
from orchestration.lib.card_store import StoredCard
from orchestration.lib.model_card import model_card_html, write_model_card
from orchestration.lib.model_card_plots import (
    COLOURS,
    SEGMENT_MARKS,
    Estimate,
    WeightMark,
    gains_svg,
    share_class,
    weights_svg,
)

SECTIONS = (
    "version",
    "label",
    "later-deals",
    "origins",
    "reliability",
    "gains",
    "probability",
    "weights",
    "card",
    "criteria",
    "leaks",
    "protected",
    "choices",
    "changes",
    "limits",
    "parameters",
    "history",
)
HOSTILE = "<script>alert('x')</script><img src=x onerror=alert(1)> $\\frac{1}{2}$ --> ]]> \" &amp; {{ 7*7 }} #010101"


# --------------------------------------------------------------------------- made-up versions


def a_band(criterion: str, number: int, label: str, points: int, **changes: Any) -> dict[str, Any]:
    weight = points * WEIGHT_PER_POINT
    band = {
        "criterion": criterion,
        "kind": "explicit",
        "band_no": number,
        "band": label,
        "band_type": "values",
        "lower": None,
        "upper": None,
        "values": [label],
        "expert_points": points + 3 * (-1) ** number,
        "points": points,
        "weight": weight,
        "weight_low": weight - 0.3,
        "weight_high": weight + 0.3,
        "deal_count": 40 + 7 * number,
        "won_count": 10 + number,
        "data_share_pct": float((13 * number + 20 * len(criterion)) % 101),
        "segment": "",
        "account_count": 1200 + number,
        "is_pinned": False,
        "evidence": f"{10 + number} won deals: {criterion} {number}",
    }
    return {**band, **changes}


def card_rows(segment: str = "", shift: int = 0) -> list[dict[str, Any]]:
    rows = []
    for criterion, labels in {
        "employees": ("< 10", "10-49", "50-249", ">= 250", "missing"),
        "region": ("north", "south", "east", "west", "other", "missing"),
        "pricing_page_views": ("< 1", "1-2", ">= 3", "missing"),
    }.items():
        for number, label in enumerate(labels, start=1):
            points = (7 * number + 3 * len(criterion)) % 41 - 20 + shift
            kind = "implicit" if criterion.startswith("pricing") else "explicit"
            kinds = {"missing": "missing", "other": "other"}
            fixed = {"band_type": kinds[label], "values": None} if label in kinds else {}
            rows.append(a_band(criterion, number, label, points, segment=segment, kind=kind, **fixed))
    return rows


def pair_rows(segment: str = "") -> list[dict[str, Any]]:
    return [
        a_band("employees_x_views", 1, "big and curious", 14, segment=segment, values=["4|3"]),
        a_band("employees_x_views", 2, "other", 0, segment=segment, band_type="other", values=None),
    ]


def some_figures(shift: float = 0.0) -> dict[str, float | None]:
    return {
        "auc": 0.7411 - shift,
        "log_loss": 0.5303 + shift,
        "brier": 0.1777 + shift,
        "ece": 0.0321 + shift,
        "calibration_intercept": -0.1664,
        "calibration_slope": 0.888,
        "lift_10": 2.5,
        "lift_20": 2.2917,
    }


def full_evaluation() -> dict[str, Any]:
    names = ("base_rate", "expert_card", "active_card", "naive_bayes", "logistic_regression", "gradient_boosting")
    baselines = {name: some_figures(0.011 * number - 0.02) for number, name in enumerate(names)}
    baselines["active_card"] |= {"deal_count": 70, "card": some_figures(0.001)}
    intervals: dict[str, Any] = {"auc": [0.68, 0.79], "log_loss": [0.49, 0.57], "lift_20": [1.9, 2.7], "ece": None}
    intervals |= {f"gain_over_{name}": [-0.03 + 0.012 * n, 0.01 + 0.02 * n] for n, name in enumerate(names)}
    origins = [
        {
            "earlier_until": f"2026-0{month}-01T00:00:00",
            "later_until": f"2026-0{month + 2}-01T00:00:00",
            "earlier_count": 200 * month,
            "fitted_count": 200 * month,
            "later_count": 190 + month,
            "later_won_count": 50 + month,
            "card": some_figures(0.01 * month),
            "baselines": {name: some_figures(0.012 * month) for name in ("base_rate", "naive_bayes")},
        }
        for month in (1, 3, 5)
    ]
    return {
        "state": "tested",
        "signal": "shown",
        "deal_count": 4012,
        "won_count": 1183,
        "earlier_count": 3210,
        "later_count": 802,
        "later_won_count": 244,
        "earlier_until": "2026-07-20 09:55:17",
        "later_until": "2026-11-19 16:02:04",
        "card": some_figures(),
        "baselines": baselines,
        "intervals": intervals,
        "gains": [
            {
                "top_pct": 10 * n,
                "deal_count": 80.2 * n,
                "won_count": 24.4 * n,
                "won_share_pct": round(100 * math.sqrt(n / 10), 2),
                "won_amount_share_pct": round(100 * (n / 10) ** 0.4, 2),
            }
            for n in range(1, 11)
        ],
        "reliability": [
            {
                "deal_count": 80 + n,
                "won_count": 8 * n + 4,
                "win_probability": 0.07 * n + 0.05,
                "win_rate": 0.08 * n + 0.03,
                "win_rate_low": max(0.0, 0.08 * n - 0.03),
                "win_rate_high": 0.08 * n + 0.1,
            }
            for n in range(10)
        ],
        "rounding": {
            "log_loss_weights": 0.5302,
            "log_loss_points": 0.5303,
            "log_loss_cost": 0.0001,
            "auc_weights": 0.7412,
            "auc_points": 0.7411,
            "auc_cost": 0.0001,
            "largest_points": 1.2,
            "bound_points": 1.5,
        },
        "origins": origins,
        "origins_mean": {
            "origin_count": 3,
            "later_count": 579,
            "card": some_figures(0.003),
            "baselines": {"base_rate": some_figures(0.05), "naive_bayes": some_figures(0.02)},
            "intervals": {"auc": [0.7, 0.77], "log_loss": [0.5, 0.56]},
        },
        "leaks": [
            Leak(
                "close_reason", "filled_late", "97 % of its values were first seen on or after the day of closing."
            ).to_document()
        ],
        "criteria": [
            CriterionEvidence(
                criterion="employees",
                kind="explicit",
                deal_count=3900,
                auc=0.631,
                auc_low=0.612,
                auc_high=0.65,
                information_value=0.2134,
                p_value=0.00001,
                test="mann_whitney",
                q_value=0.0004,
                is_significant=True,
                importance_points=7.25,
                importance_share_pct=41.2,
                belief="agree",
                belief_p_value=0.0001,
                sentence="As believed: more employees, more won deals.",
                bands=(),
            ).to_document(),
            CriterionEvidence(
                criterion="employees_x_views",
                kind="explicit",
                deal_count=312,
                auc=None,
                auc_low=None,
                auc_high=None,
                information_value=0.0101,
                p_value=None,
                test="none",
                q_value=None,
                is_significant=None,
                importance_points=1.0,
                importance_share_pct=5.7,
                belief="none",
                belief_p_value=None,
                sentence="Found on these deals.",
                bands=(),
            ).to_document(),
        ],
        "protected": {
            "gender": {
                "is_scored": False,
                "reference": "male",
                "groups": [
                    {
                        "group": group,
                        "deal_count": deals,
                        "won_count": won,
                        "points_mean": points,
                        "win_probability_mean": won / deals,
                        "win_rate": won / deals,
                        "win_rate_low": won / deals - 0.02,
                        "win_rate_high": won / deals + 0.02,
                    }
                    for group, deals, won, points in (("female", 1200, 365, 11.5), ("male", 1900, 553, 9.0))
                ],
                "differences": [
                    {
                        "group": "female",
                        "points": 2.5,
                        "points_low": 1.25,
                        "points_high": 3.75,
                        "win_probability": 0.0131,
                        "win_probability_low": None,
                        "win_probability_high": None,
                        "win_rate": 0.0131,
                        "win_rate_low": -0.0143,
                        "win_rate_high": 0.041,
                    }
                ],
            }
        },
    }


def a_card(*, segments: tuple[str, ...] = ("north", "south"), with_pairs: bool = True) -> dict[str, Any]:
    bands = []
    for number, segment in enumerate(("", *segments)):
        bands += card_rows(segment, shift=3 * number)
        bands += pair_rows(segment) if with_pairs else []
    bands[2]["is_pinned"] = True
    totals = range(-90, 121)
    p = [round(1 / (1 + math.exp(1.2 - 0.03 * t)), 9) for t in totals]
    return {
        "format": "scorecard/2",
        "points_to_double": 20,
        "bands": bands,
        "pairs": [{"name": "employees_x_views", "left": "employees", "right": "pricing_page_views"}]
        if with_pairs
        else [],
        "segment_by": "region" if segments else None,
        "calibration": {
            "method": "isotonic",
            "deal_count": 4012,
            "points_from": -90,
            "probability": p,
            "low": [round(0.85 * v, 9) for v in p],
            "high": [round(min(0.999, 1.1 * v), 9) for v in p],
        },
        "base_rate": 0.2949,
        "trust": 0.8975,
        "belief_deals": 160.0,
        "deal_count": 4012,
        "won_count": 1183,
        "verdict": ["The card ranks better than chance.", "Its win probabilities hold on later deals."],
        "evaluation": full_evaluation(),
        "choices": {
            "pins": [{"criterion": "employees", "band": "50-249", "points": 12, "segment": ""}],
            "signs": {"pricing_page_views": "positive"},
            "locked_bands": {},
        },
    }


def a_version(card: dict[str, Any], version: str = "v2", state: str = "active", **changes: Any) -> StoredCard:
    document = {
        "scorecard_version": version,
        "created_at": "2026-11-20T08:30:00",
        "as_of_at": "2026-11-20T00:00:00",
        "author": "Ada",
        "note": "after the fair in Hanover",
        "parent": "v1",
        "mlflow_run_id": "849aeb9b",
        "label": {
            "target": "deal_won",
            "since": "2024-01-01",
            "reopened": "newest",
            "stages": {"won": ["closed won"], "lost": []},
            "exclude_deal_types": ["renewal"],
            "exclude_loss_reasons": [],
        },
        "criteria": {
            "employees": {"criterion_key": "employees@1", "definition": {"kind": "explicit", "attribute": "employees"}},
            "pricing_page_views": {
                "criterion_key": "p@1",
                "definition": {"signals": {"pricing_page_view": 1.0}, "half_life_days": 30, "cap_per_person": 5},
            },
        },
        "matrix": {"fit_grades": {"A": 21, "B": 9, "C": -8}, "engagement_levels": {"1": 19, "2": 2, "3": -10}},
        "card": card,
        **changes,
    }
    activation = {"author": "Grace", "note": "better on later deals", "at": "2026-11-21T10:00:00", "state": "active"}
    return StoredCard(version, state, document, activation if state == "active" else None)


def full_version() -> tuple[StoredCard, list[StoredCard]]:
    before = a_card()
    for band in before["bands"][:4]:
        band["points"] -= 5
    old = a_version(before, "v1", "retired", parent=None, note="the first")
    new = a_version(a_card())
    return new, [old, new]


def cold_version() -> StoredCard:
    """No deal has closed: the experts' card, of which nothing is known but what they believe."""
    card = a_card(segments=(), with_pairs=False)
    card["bands"] = [
        {**b, "points": b["expert_points"], "deal_count": 0, "won_count": 0, "data_share_pct": 0.0, "evidence": ""}
        for b in card["bands"]
    ]
    card |= {
        "deal_count": 0,
        "won_count": 0,
        "base_rate": 0.25,
        "verdict": ["No closed deals yet: the card is the experts' card."],
        "evaluation": {"state": "too_few_deals", "signal": "unknown", "deal_count": 0, "won_count": 0},
        "choices": {},
    }
    card["calibration"] |= {"method": "sigmoid", "deal_count": 0}
    return a_version(card, "v1", "active", parent=None)


def first_format_version() -> StoredCard:
    """A document as the first release wrote it: no segment, evidence, choices, table of probabilities."""
    card = a_card(segments=(), with_pairs=False)
    new_keys = ("segment", "account_count", "is_pinned", "evidence")
    card["bands"] = [{k: v for k, v in band.items() if k not in new_keys} for band in card["bands"]]
    for key in ("pairs", "segment_by", "choices"):
        del card[key]
    for key in ("reliability", "rounding", "origins", "origins_mean", "leaks", "criteria", "protected"):
        del card["evaluation"][key]
    card["evaluation"]["gains"] = [{k: g[k] for k in ("top_pct", "won_share_pct")} for g in card["evaluation"]["gains"]]
    card["format"] = "scorecard/1"
    card["calibration"] = {
        "intercept": -1.77,
        "slope": 0.0355,
        "var_intercept": 0.0289,
        "covariance": -0.0005,
        "var_slope": 0.0000168,
    }
    version = a_version(card, "v1", "draft", parent=None)
    del version.document["label"]
    return version


def flat_version() -> StoredCard:
    card = a_card(segments=(), with_pairs=False)
    size = len(card["calibration"]["probability"])
    card["calibration"] |= {
        "method": "flat",
        "probability": [0.63] * size,
        "low": [0.62] * size,
        "high": [0.64] * size,
    }
    card["evaluation"]["signal"] = "none"
    return a_version(card, "v1", "active", parent=None)


# --------------------------------------------------------------------------- reading a page


class Page(HTMLParser):
    """Tags with attributes, tables as rows of cell texts by caption, and the text of each section."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.sections: dict[str, str] = {}
        self._rows: list[list[str]] = []
        self._caption = ""
        self._section = ""
        self._inside: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if tag == "h2":
            self._section = str(attributes["id"])
        self._inside.append(tag)
        if tag == "table":
            self._rows, self._caption = [], ""
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("td", "th"):
            self._rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        while self._inside and self._inside.pop() != tag:
            pass
        if tag == "table":
            self.tables[self._caption] = self._rows

    def handle_data(self, data: str) -> None:
        self.sections[self._section] = self.sections.get(self._section, "") + data
        if "caption" in self._inside:
            self._caption += data
        elif self._rows and self._rows[-1] and ("td" in self._inside or "th" in self._inside):
            separator = " | " if "small" in self._inside and self._rows[-1][-1] else ""
            self._rows[-1][-1] += separator + data

    def table(self, caption: str) -> list[list[str]]:
        """Rows of the one table whose caption begins so, with plain spaces."""
        found = [rows for text, rows in self.tables.items() if text.startswith(caption)]
        assert len(found) == 1, list(self.tables)
        return [[cell.replace("\u00a0", " ").strip() for cell in row] for row in found[0]]


@pytest.fixture(scope="module")
def full_html() -> str:
    version, history = full_version()
    return model_card_html(version, history=history)


@pytest.fixture(scope="module")
def page(full_html: str) -> Page:
    return Page(full_html)


MAKERS = {
    "full": lambda: full_version()[0],
    "cold": cold_version,
    "first format": first_format_version,
    "flat": flat_version,
}


@cache
def page_text(kind: str) -> str:
    """The page of a made-up version without any other version; drawn once, as drawing takes a second."""
    return model_card_html(MAKERS[kind](), history=[])


# --------------------------------------------------------------------------- the page


@pytest.mark.parametrize("kind", MAKERS)
def test_page__has_every_section_with_something_in_it(kind: str) -> None:
    page = Page(page_text(kind))
    assert [str(a["id"]) for tag, a in page.tags if tag == "h2"] == list(SECTIONS)
    links = [a["href"] for tag, a in page.tags if tag == "a"]
    assert links == [f"#{section}" for section in SECTIONS]
    for section in SECTIONS:
        assert len(page.sections[section].split()) > 8, section
    assert "None" not in " ".join(page.sections.values())
    assert "nan" not in re.findall(r"\w+", " ".join(page.sections.values()))


@pytest.mark.parametrize("kind", MAKERS)
def test_page__needs_nothing_from_outside(kind: str) -> None:
    text = page_text(kind)
    page = Page(text)
    assert not re.search(r"https?:|//[a-z]|@import|javascript:", text, flags=re.IGNORECASE)
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", text))
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object", "embed", "img", "base")
        assert "src" not in attributes
        assert not [name for name in attributes if name.startswith("on")]
        assert str(attributes.get("href", "#")).startswith("#")
    policy = next(a["content"] for tag, a in page.tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy == "default-src 'none'; style-src 'unsafe-inline'"


def test_page__same_version_same_bytes(full_html: str, tmp_path: Path) -> None:
    version, history = full_version()
    file = write_model_card(version, history=history, path=tmp_path / "cards" / "v2.html")
    assert file.read_bytes() == full_html.encode()


def test_page__does_not_take_the_style_of_the_machine(full_html: str) -> None:
    import matplotlib as mpl

    version, history = full_version()
    with mpl.rc_context({"font.size": 25, "axes.grid": False, "text.usetex": False, "axes.facecolor": "red"}):
        assert model_card_html(version, history=history) == full_html


def test_page__ids_are_unique_and_references_resolve(full_html: str) -> None:
    ids = re.findall(r'\sid="([^"]+)"', full_html)
    assert len(ids) == len(set(ids))
    targets = set(re.findall(r'href="#([^"]+)"|url\(#([^)]+)\)', full_html))
    assert {left or right for left, right in targets} <= set(ids)
    labelled = " ".join(re.findall(r'aria-labelledby="([^"]+)"', full_html)).split()
    assert set(labelled) <= set(ids)


def test_page__plots_have_texts_and_tables_have_captions(page: Page) -> None:
    plots = [a for tag, a in page.tags if tag == "svg"]
    assert len(plots) == 5 + 4  # differences, origins, reliability, gains, probability; four criteria
    assert all(a["role"] == "img" and a["aria-labelledby"] for a in plots)
    assert sum(tag == "title" for tag, _ in page.tags) == 1 + len(plots)
    assert sum(tag == "caption" for tag, _ in page.tags) == sum(tag == "table" for tag, _ in page.tags)
    assert [a["lang"] for tag, a in page.tags if tag == "html"] == ["en"]
    assert sum(tag == "h1" for tag, _ in page.tags) == 1


def test_page__drawing_colours_are_all_named(full_html: str) -> None:
    assert not [colour for colour in COLOURS.values() if colour in full_html]
    used = set(re.findall(r"var\(--(plot-[a-z0-9-]+)\)", full_html))
    assert used <= {f"plot-{name}" for name in COLOURS}
    for theme in re.findall(r":root \{(.*?)\n\s*\}", full_html, flags=re.DOTALL):
        assert used <= set(re.findall(r"--(plot-[a-z0-9-]+):", theme))


# --------------------------------------------------------------------------- figures


def test_figures__of_the_comparison_are_the_cards(page: Page) -> None:
    evaluation = full_evaluation()
    header, *rows = page.table("Figures on later deals")
    assert header[:3] == ["Model", "AUC", "Log loss"]
    names = [row[0] for row in rows]
    assert names == [
        "This card",
        "Active card, as it scored then, on 70 deals",
        "Experts' points alone",
        "Base rate for every deal",
        "Naive Bayes",
        "Logistic regression",
        "Gradient boosting (the ceiling)",
    ]
    assert rows[0][1:3] == ["0.741 | 0.680 to 0.790", "0.530 | 0.490 to 0.570"]
    keys = ["active_card", "expert_card", "base_rate", "naive_bayes", "logistic_regression", "gradient_boosting"]
    for row, key in zip(rows[1:], keys, strict=True):
        assert row[1] == f"{evaluation['baselines'][key]['auc']:.3f}"
        assert row[2] == f"{evaluation['baselines'][key]['log_loss']:.3f}"
        low, high = evaluation["intervals"][f"gain_over_{key}"]
        assert row[-1].split(" | ")[2] == ("better" if low > 0 else "worse" if high < 0 else "no difference shown")
    # The active card is compared on the deals that closed after its own fit.
    gain = (
        evaluation["baselines"]["active_card"]["log_loss"] - evaluation["baselines"]["active_card"]["card"]["log_loss"]
    )
    assert rows[1][-1].startswith(f"{gain:+.3f}".replace("-", "\u2212"))


@pytest.mark.parametrize("kind", ["full", "first format"])
def test_figures__every_row_of_the_card_is_on_the_page(kind: str) -> None:
    version = MAKERS[kind]()
    page = Page(page_text(kind))
    card = Card.from_document(version.document["card"])
    for segment in card.segments:
        name = f"region: {segment}" if segment else "Everybody else" if len(card.segments) > 1 else "Everybody"
        rows = [row for row in page.table(f"{name}:")[1:] if len(row) > 1]
        bands = [band for band in card.bands if band.segment == segment]
        assert len(rows) == len(bands)
        for row, band in zip(rows, bands, strict=True):
            signed = f"{band.points:+d}" if band.points else "0"
            assert row[0].startswith(band.band)
            assert row[1] == signed.replace("-", "\u2212")
            assert row[4] == f"{band.won_count:,} / {band.deal_count:,}"
            assert row[6] == (f"{band.account_count:,}" if band.account_count is not None else "\u2013")
            assert row[7] == f"{band.data_share_pct:.0f} %"
            assert row[8] == band.evidence or (not band.evidence and row[8])


def test_figures__win_probabilities_are_those_that_the_card_gives(page: Page) -> None:
    card = Card.from_document(full_version()[0].document["card"])
    rows = page.table("Win probability of some totals")[1:]
    assert len(rows) >= 8
    for points, probability, interval in rows:
        p, low, high = (float(values) for values in card.win_probability(int(points.replace("\u2212", "-"))))
        assert probability == f"{100 * p:.1f} %"
        assert interval == f"{100 * low:.1f} to {100 * high:.1f} %"


def test_figures__origins_reliability_and_gains_are_the_evaluations(page: Page) -> None:
    evaluation = full_evaluation()
    header, *origins = page.table("AUC, and below it log loss")
    assert header == ["Closed", "Won / deals", "This card", "Base rate", "Naive Bayes"]
    assert [row[2] for row in origins[:-1]] == [
        f"{o['card']['auc']:.3f} | {o['card']['log_loss']:.3f}" for o in evaluation["origins"]
    ]
    assert origins[-1][:2] == ["All of them", "579 deals"]
    bins = page.table("Later deals by promised")[1:]
    assert [row[1] for row in bins] == [f"{100 * b['win_rate']:.1f} %" for b in evaluation["reliability"]]
    assert [row[3] for row in bins] == [f"{b['won_count']} / {b['deal_count']}" for b in evaluation["reliability"]]
    gains = page.table("Share of the won deals")[1:]
    assert [row[1] for row in gains] == [f"{g['won_share_pct']:.1f} %" for g in evaluation["gains"]]
    assert [row[4] for row in gains] == [f"{g['won_amount_share_pct']:.1f} %" for g in evaluation["gains"]]


def test_figures__evidence_leaks_protected_and_choices_are_there(page: Page) -> None:
    assert page.table("What each criterion says alone")[1:] == [
        [
            "employees",
            "3,900",
            "0.63 | 0.61 to 0.65",
            "7.2 | 41 %",
            "0.213",
            "< 0.001 | mann whitney",
            "< 0.001",
            "yes",
            "As believed: more employees, more won deals.",
        ],
        [
            "employees x views",
            "312",
            "\u2013",
            "1.0 | 6 %",
            "0.010",
            "\u2013",
            "\u2013",
            "not tested",
            "Found on these deals.",
        ],
    ]
    assert page.table("Criteria that may know the outcome")[1] == [
        "close reason",
        "filled at or after close",
        "97 % of its values were first seen on or after the day of closing.",
        "left out",
    ]
    assert page.table("Groups of gender")[1:] == [
        ["female", "365 / 1,200", "11.5", "30.4 %", "30.4 %", "+2.5 | 1.2 to 3.8", "+1.3", "+1.3 | \u22121.4 to 4.1"],
        ["male", "553 / 1,900", "9.0", "29.1 %", "29.1 %", "\u2013", "\u2013", "\u2013"],
    ]
    assert "against male, the largest group" in page.sections["protected"]
    assert page.table("What is fixed")[1:] == [
        ["employees", "50-249: pinned to +12"],
        ["pricing page views", "no band may have points below 0"],
    ]


def test_figures__changes_are_against_the_parent(page: Page) -> None:
    header, *rows = page.table("Points before and now")
    assert header[2:] == ["v1", "v2", "Change"]
    assert len(rows) == 4
    assert {row[4] for row in rows} == {"+5"}
    assert "4 of 51 rows have other points than in v1; 0 are new, 0 are gone." in page.sections["changes"]


def test_words__say_who_why_and_on_what(page: Page) -> None:
    version = page.sections["version"]
    for text in (
        "by Ada on 2026-11-20 08:30 UTC",
        "after the fair in Hanover",
        "by Grace on 2026-11-21 10:00 UTC",
        "v1",
    ):
        assert text in version
    assert "better on later deals" in version
    label = page.sections["label"].replace("\u00a0", " ")
    for text in ("Left out, deal types: renewal.", "Since 2024-01-01.", "4,012 closed deals: 1,183 won, 2,829 lost"):
        assert text in label
    assert "half-life 30 days" in page.sections["weights"]
    assert "50-249" in page.sections["weights"]
    assert "big and curious" in page.sections["card"]
    assert ">= 250 and >= 3" in page.sections["card"]  # what the pair's "4|3" means
    assert "90 %" in page.sections["parameters"].replace("\u00a0", " ")


def test_words__an_edited_card_says_whose_figures_it_shows() -> None:
    version, _ = full_version()
    rows = [{"segment": "north", "criterion": "employees", "band": "10-49", "points": 9, "points_before": -4}]
    price = {
        "deal_count": 80,
        "won_count": 24,
        "before": {"auc": 0.735, "log_loss": 0.5296},
        "after": {"auc": 0.7, "log_loss": 0.5496},
        "gain": -0.02,
        "gain_interval": [-0.03, -0.01],
    }
    version.document["card"]["evaluation"]["edited"] = {"from_version": "v1", "rows": rows, "price": price}
    page = Page(model_card_html(version, history=[]))
    warning = "The verdict and the figures on later deals are those of v1: 1 row of this card had"
    for section in ("", "later-deals"):  # beside the verdict, and beside the figures
        assert warning in page.sections[section].replace("\u00a0", " ")
    assert page.table("Figures on later deals")[1][0] == "v1, before the changes by hand"
    choice = page.table("What is fixed")[-1]
    assert choice == ["employees", "10-49 (region: north): set by hand from \u22124 to +9, in this version only"]
    assert (
        "On the 80 deals that closed last (24 won), log loss went from 0.5296 to 0.5496 and AUC from 0.735 to 0.700: worse "
        "(log loss lower by \u22120.0200, 90 % interval \u22120.0300 to \u22120.0100)."
    ) in page.sections["choices"].replace("\u00a0", " ")


def test_words__the_period_of_the_deals_is_that_of_the_rows_that_the_fit_saw(tmp_path: Path) -> None:
    import pandas as pd

    file = tmp_path / "v2.parquet"
    closed = pd.to_datetime(["2025-03-01 10:00", "2024-05-06 07:00", "2026-11-19 16:00"]).astype("datetime64[us]")
    pd.DataFrame({"spine_id": ["a", "b", "c"], "closed_at": closed}).to_parquet(file)
    seen = replace(full_version()[0], training_rows=file)
    assert "They closed from 2024-05-06 to 2026-11-19." in Page(model_card_html(seen, history=[])).sections["label"]


def test_words__account_wins_is_described_as_such() -> None:
    version, _ = full_version()
    version.document["label"] = {
        "target": "account_wins",
        "within_days": 60,
        "account_months": {"months": 24, "most_accounts": 20000},
    }
    text = Page(model_card_html(version, history=[])).sections["label"].replace("\u00a0", " ")
    assert "Account wins within 60 days" in text
    assert "at most 20,000 accounts" in text


# --------------------------------------------------------------------------- what is not there


def test_absent__without_deals_no_plot_of_a_test_is_drawn() -> None:
    text = page_text("cold")
    page = Page(text)
    for section in ("later-deals", "origins", "reliability", "gains"):
        assert "Not tested: 0 closed deals" in page.sections[section].replace("\u00a0", " "), section
    drawn = re.findall(r'<svg [^>]*aria-labelledby="(\S+)-title', text)
    assert drawn == ["probability", "weights-0-0", "weights-0-1", "weights-0-2"]
    assert "No deal had closed" in page.sections["label"]
    assert "no deals: belief alone" in page.sections["card"]


def test_absent__an_old_document_says_what_it_lacks() -> None:
    page = Page(page_text("first format"))
    assert "not stored" in page.sections["label"]
    assert "not recorded" in page.sections["origins"]
    assert "not recorded" in page.sections["reliability"]
    assert "No search for leaks was recorded" in page.sections["leaks"]
    assert "Nobody pinned" in page.sections["choices"]
    assert "mostly" in page.sections["card"]


def test_absent__a_flat_probability_is_said_and_not_drawn() -> None:
    text = page_text("flat")
    words = Page(text).sections["probability"].replace("\u00a0", " ")
    assert "63.0 % for every account, whatever its points" in words
    assert "probability-title" not in text
    assert "do not rank by these weights" in text


def test_absent__leaks_searched_and_none_found_is_not_no_search() -> None:
    version, _ = full_version()
    version.document["card"]["evaluation"]["leaks"] = []
    assert "Searched, none found" in Page(model_card_html(version, history=[])).sections["leaks"]


# --------------------------------------------------------------------------- people's text


def hostile(value: Any, keep: tuple[str, ...] = ()) -> Any:
    """Every text of a document made hostile, but for keys whose values are words of our own."""
    if isinstance(value, dict):
        return {key: item if key in keep else hostile(item, keep) for key, item in value.items()}
    if isinstance(value, list):
        return [hostile(item, keep) for item in value]
    return f"{HOSTILE} {value}" if isinstance(value, str) else value


def test_hostile__text_of_people_is_text() -> None:
    version, _ = full_version()
    ours = (
        "format",
        "method",
        "state",
        "signal",
        "kind",
        "band_type",
        "earlier_until",
        "later_until",
        "signs",
        "target",
        "reopened",
    )
    document = hostile(copy.deepcopy(version.document), ours)
    document["card"]["choices"]["locked_bands"] = {}
    activation = {"author": HOSTILE, "note": HOSTILE, "at": HOSTILE, "rollback_of": HOSTILE}
    bad = StoredCard(HOSTILE, "active", document, activation)
    text = model_card_html(bad, history=[bad])
    page = Page(text)
    harmless = {tag for tag, _ in Page(model_card_html(version, history=[version])).tags}
    assert {tag for tag, _ in page.tags} <= harmless
    assert not [name for _, attributes in page.tags for name in attributes if name.startswith("on")]
    assert "<script" not in text
    shown = html.unescape(text)
    assert shown.count(HOSTILE) > 100


def test_hostile__labels_of_a_plot_stay_as_they_are() -> None:
    for label in ("#010101 url(#a)", "$x_1$ < y", 'id="a" --> b', "企業 <b>"):
        marks = [WeightMark(label, 0, Estimate(3, 1, 5), 2.0, 50.0)]
        drawn = weights_svg(marks, limits=(-10, 10), name="w", title="t", description="d")
        texts = [html.unescape(text) for text in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)]
        assert label in texts, texts


# --------------------------------------------------------------------------- plots


def test_plots__the_lines_are_where_the_figures_are() -> None:
    drawn = gains_svg([("this card", [(50.0, 80.0), (100.0, 100.0)])], name="g", title="t", description="d")
    paths = re.findall(r'<path d="([^"]+)"[^>]*stroke: var\(--plot-card\); stroke-width: 2', drawn)
    assert len(paths) == 1
    points = [(float(x), float(y)) for x, y in re.findall(r"[ML] ([\d.]+) ([\d.]+)", paths[0])]
    (x0, y0), (x1, y1), (x2, y2) = points
    assert (x1 - x0) / (x2 - x0) == pytest.approx(0.5, abs=0.001)
    assert (y1 - y0) / (y2 - y0) == pytest.approx(0.8, abs=0.001)


def test_plots__an_interval_beyond_the_axis_ends_at_it() -> None:
    def interval(high: float) -> str:
        marks = [WeightMark("a", 0, Estimate(3, -4, high), None, 50.0)]
        drawn = weights_svg(marks, limits=(-10, 10), name="w", title="t", description="d")
        return re.findall(r'<path d="([^"]+)"[^>]*stroke-width: 2.4', drawn)[0]

    assert interval(10) == interval(400)
    assert interval(10) != interval(9)


def test_plots__more_segments_than_marks_are_split_into_groups() -> None:
    own = tuple(f"s{n}" for n in range(len(SEGMENT_MARKS) + 1))
    card = a_card(segments=own)
    text = model_card_html(a_version(card), history=[])
    groups = re.findall(r'aria-labelledby="weights-(\d)-0-title', text)
    assert groups == ["0", "1"]
    assert all(f"region: {segment}" in text for segment in own)


@pytest.mark.parametrize(("share", "colour"), [(0, 1), (19.99, 1), (20, 2), (50, 3), (79, 4), (80, 5), (100, 5)])
def test_plots__colour_follows_the_share_of_data(share: float, colour: int) -> None:
    assert share_class(share) == colour


def test_calibration__of_the_made_up_card_is_valid() -> None:
    table = full_version()[0].document["card"]["calibration"]
    columns = {key: tuple(table[key]) for key in ("probability", "low", "high")}
    assert Calibration(table["method"], 1, table["points_from"], **columns).points_to == 120
