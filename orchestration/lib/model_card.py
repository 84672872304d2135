"""The model card of a scorecard version: one page that says what the card is, how good it is and what it cannot do.

Belongs here: which figures of a stored version stand on the page (after Mitchell et al. 2019, "Model Cards for Model
Reporting"). Does not: computing any figure (`ml.evaluate`, `ml.evidence`), their words (`version_texts`), how plots look
(`model_card_plots`), how the page looks (`templates/model_card.html.j2`).

The page is made of the stored documents alone: the same version gives the same bytes. What an older document does not
hold is said to be missing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib.card_store import StoredCard
from orchestration.lib.pages import template
from orchestration.lib.version_texts import (
    CALIBRATION_WORDS,
    LEAK_WORDS,
    MISSING_MODEL_WORDS,
    MODEL_WORDS,
    NBSP,
    NONE,
    SIGNAL_WORDS,
    STATE_WORDS,
    counted,
    day,
    decimal,
    definition_words,
    edited_sentence,
    evidence_words,
    in_segment,
    interval_note,
    label_sentences,
    limit_sentences,
    listed,
    moment,
    p_value,
    percent,
    plain,
    price_sentences,
    rounding_sentence,
    segment_name,
    signed,
    span,
)

if TYPE_CHECKING:
    from ml.card import Card, CardBand

#: Changes against the parent that are listed; the count says how many there are.
CHANGES_SHOWN = 15


def write_model_card(stored: StoredCard, *, history: Sequence[StoredCard], path: Path) -> Path:
    """Write the page of one version and return its path; missing folders are made.

    Parameters
    ----------
    history : all versions of the workspace, for the parent, the active one and the list at the end
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(model_card_html(stored, history=history), encoding="utf-8")
    return path


def model_card_html(stored: StoredCard, *, history: Sequence[StoredCard]) -> str:
    """The page of one version: HTML without scripts and without any reference to the outside.

    Raises
    ------
    ValueError
        The stored card is of a format that `ml.card.Card.from_document` does not read.
    """
    return template("model_card.html.j2").render(_page(stored, history)) + "\n"


def _page(stored: StoredCard, history: Sequence[StoredCard]) -> dict[str, Any]:
    """Everything that the template shows, as text and plain rows."""
    from ml.card import Card

    document = stored.document
    card = Card.from_document(document["card"])
    evaluation = card.evaluation
    tested = evaluation.get("state") == "tested"
    signal_words, signal_tone = SIGNAL_WORDS.get(evaluation.get("signal", "unknown"), SIGNAL_WORDS["unknown"])
    untested = f"Not tested: {counted(card.deal_count, 'closed deal')}, too few to keep some aside for a test."
    return {
        "version": stored.version,
        "state": stored.state,
        "state_words": STATE_WORDS.get(stored.state, stored.state),
        "signal_words": signal_words,
        "signal_tone": signal_tone,
        "verdict": list(card.verdict) or ["This version was stored without a verdict."],
        "facts": _facts(stored, history),
        "tiles": _tiles(card, tested),
        "label": label_sentences(document.get("label") or document["card"].get("label")),
        "data": _data_sentences(stored, card),
        "edited": edited_sentence(evaluation),
        "comparison": _comparison(evaluation) if tested else None,
        "origins": _origins(evaluation),
        "reliability": _reliability(evaluation),
        "gains": _gains(evaluation),
        "probability": _probability(card),
        "untested": untested,
        "has_beliefs": any(band.expert_points for band in card.bands),
        "has_pins": any(band.is_pinned for band in card.bands),
        "weights": _weights(card, document.get("criteria") or {}),
        "tables": _tables(card),
        "criteria": _criteria(evaluation),
        "leaks": _leaks(evaluation),
        "protected": _protected(evaluation),
        "choices": _choices(card, document),
        "changes": _changes(stored, card, history),
        "limits": limit_sentences(card, tested),
        "parameters": _parameters(card, document),
        "history": _history(stored, history),
        "is_old": document["card"].get("format") == "scorecard/1",
    }


# --------------------------------------------------------------------------- numbers for people


# --------------------------------------------------------------------------- the version


def _facts(stored: StoredCard, history: Sequence[StoredCard]) -> list[tuple[str, str]]:
    document, activation = stored.document, stored.activation
    active = next((card.version for card in history if card.state == "active"), None)
    if activation:
        why = activation.get("note") or "no note"
        decided = f"by {activation.get('author', 'unknown')} on {moment(activation.get('at'))}"
        if activation.get("rollback_of"):
            decided += f", taking back {activation['rollback_of']}"
        activated, reason = decided, why
    else:
        activated, reason = "never", ""
    facts = [
        ("Version", stored.version),
        ("State", STATE_WORDS.get(stored.state, stored.state)),
        ("Made", f"by {document.get('author') or 'unknown'} on {moment(document.get('created_at'))}"),
        ("Why it was made", document.get("note") or "no note"),
        ("Activated", activated),
    ]
    if reason:
        facts.append(("Why it was activated", reason))
    if active and active != stored.version:
        facts.append(("Active today", active))
    facts += [
        ("Parent", document.get("parent") or "none: the first of its line"),
        ("As of", f"{moment(document.get('as_of_at'))}: nothing later was seen"),
        ("MLflow run", document.get("mlflow_run_id") or "none"),
    ]
    return facts


def _history(stored: StoredCard, history: Sequence[StoredCard]) -> list[dict[str, Any]]:
    rows = []
    for other in history:
        card = other.document.get("card") or {}
        evaluation = card.get("evaluation") or {}
        figures = evaluation.get("card") or {}
        rows.append(
            {
                "version": other.version,
                "is_this": other.version == stored.version,
                "state": other.state,
                "made": day(other.document.get("created_at")),
                "author": other.document.get("author") or "unknown",
                "note": other.document.get("note") or "",
                "parent": other.document.get("parent") or NONE,
                "activated": day(other.activation["at"]) if other.activation else NONE,
                "activation_note": other.activation.get("note", "") if other.activation else "",
                "deals": f"{card['deal_count']:,}" if "deal_count" in card else NONE,
                "auc": decimal(figures.get("auc")),
                "log_loss": decimal(figures.get("log_loss")),
            }
        )
    return rows


def _changes(stored: StoredCard, card: Card, history: Sequence[StoredCard]) -> dict[str, Any]:
    """Rows whose points differ from the parent's, the largest differences first."""
    from ml.card import Card as CardType

    parent = stored.document.get("parent")
    if not parent:
        return {"words": "There is no parent: nothing to compare with.", "rows": []}
    found = next((other for other in history if other.version == parent), None)
    if found is None:
        return {"words": f"The parent {parent} is not at hand.", "rows": []}
    before = {(b.segment, b.criterion, b.band): b.points for b in CardType.from_document(found.document["card"]).bands}
    now = {(b.segment, b.criterion, b.band): b.points for b in card.bands}
    changed = [
        (key, before.get(key), now.get(key))
        for key in dict.fromkeys([*now, *before])
        if before.get(key) != now.get(key)
    ]
    changed.sort(key=lambda item: -abs((item[2] or 0) - (item[1] or 0)))
    added, removed = sum(key not in before for key in now), sum(key not in now for key in before)
    words = (
        f"{len(changed) - added - removed:,} of {len(now):,} rows have other points than in {parent}; "
        f"{added:,} are new, {removed:,} are gone."
    )
    if len(changed) > CHANGES_SHOWN:
        words += f" The {CHANGES_SHOWN} largest changes:"
    rows = [
        {
            "segment": segment_name(segment, card) if segment else "",
            "criterion": plain(criterion),
            "band": band,
            "before": NONE if old is None else signed(old),
            "now": NONE if new is None else signed(new),
            "change": signed((new or 0) - (old or 0)),
        }
        for (segment, criterion, band), old, new in changed[:CHANGES_SHOWN]
    ]
    return {"words": words, "parent": parent, "rows": rows}


# --------------------------------------------------------------------------- label and data


def _data_sentences(stored: StoredCard, card: Card) -> list[str]:
    if card.deal_count == 0:
        return ["No deal had closed: the card holds what the experts believe, and nothing else."]
    lost = card.deal_count - card.won_count
    sentences = [
        f"{counted(card.deal_count, 'closed deal')}: {card.won_count:,} won, {lost:,} lost; "
        f"{percent(card.won_count / card.deal_count, 1)} won."
    ]
    period = _closing_period(stored.training_rows)
    evaluation = card.evaluation
    if period:
        sentences.append(f"They closed from {period[0]} to {period[1]}.")
    elif evaluation.get("later_until"):
        sentences.append(f"The newest closed on {day(evaluation['later_until'])}.")
    if evaluation.get("state") == "tested":
        sentences.append(
            f"For the test, the {evaluation['later_count']:,} deals that closed last "
            f"({evaluation['later_won_count']:,} won; after {day(evaluation['earlier_until'])}, until "
            f"{day(evaluation['later_until'])}) were kept aside, and a card was fitted on the {evaluation['earlier_count']:,} "
            "before them. The card on this page was then fitted on all of them."
        )
    return sentences


def _closing_period(training_rows: Path | None) -> tuple[str, str] | None:
    """First and last day of closing of the deals that the fit saw."""
    if training_rows is None or not training_rows.exists():
        return None
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    if "closed_at" not in pq.read_schema(training_rows).names:
        return None
    ends = pc.min_max(pq.read_table(training_rows, columns=["closed_at"])["closed_at"]).as_py()
    return None if ends["min"] is None else (f"{ends['min']:%Y-%m-%d}", f"{ends['max']:%Y-%m-%d}")


# --------------------------------------------------------------------------- figures on later deals


def _tiles(card: Card, tested: bool) -> list[dict[str, str]]:
    evaluation = card.evaluation
    lost = card.deal_count - card.won_count
    tiles = [
        {
            "name": "Learnt from",
            "value": counted(card.deal_count, "deal"),
            "note": f"{card.won_count:,} won, {lost:,} lost",
        },
        {
            "name": "Data behind the weights",
            "value": percent(_mean_data_share(card)),
            "note": f"mean over {counted(len(card.bands), 'weight')}; the rest is belief",
        },
    ]
    if not tested:
        return [*tiles, {"name": "On later deals", "value": "not tested", "note": "too few closed deals"}]
    figures, intervals = evaluation["card"], evaluation.get("intervals") or {}
    top = [None if end is None else 0.2 * end for end in intervals.get("lift_20") or ()]
    return [
        {
            "name": "Ranking (AUC)",
            "value": decimal(figures.get("auc"), 2),
            "note": interval_note(span(intervals.get("auc"), 2)) or "0.50 is chance",
        },
        {
            "name": "Won deals in the best 20" + NBSP + "%",
            "value": percent(0.2 * figures["lift_20"]) if figures.get("lift_20") is not None else NONE,
            "note": interval_note(span(top, 0, percent=True)),
        },
        {
            "name": "Promised against seen (ECE)",
            "value": f"{decimal(100 * figures['ece'], 1)}{NBSP}points",
            "note": "mean gap in percentage points",
        },
        *tiles,
    ]


def _mean_data_share(card: Card) -> float:
    return sum(band.data_share_pct for band in card.bands) / max(len(card.bands), 1) / 100


#: Figures of the comparison: key, heading, digits, its ideal.
FIGURES = (
    ("auc", "AUC", 3),
    ("log_loss", "Log loss", 3),
    ("brier", "Brier", 3),
    ("ece", "ECE", 3),
    ("calibration_slope", "Calibration slope", 2),
    ("calibration_intercept", "Calibration intercept", 2),
    ("lift_10", "Lift 10" + NBSP + "%", 2),
    ("lift_20", "Lift 20" + NBSP + "%", 2),
)


def _comparison(evaluation: Mapping[str, Any]) -> dict[str, Any]:
    """The card beside every baseline on the final test, and the paired differences as a plot."""
    from orchestration.lib.model_card_plots import Estimate, differences_svg

    baselines, intervals = evaluation["baselines"], evaluation.get("intervals") or {}
    rows = [_figure_row("card", evaluation["card"], intervals)]
    if evaluation.get("edited"):
        rows[0]["name"] = f"{evaluation['edited']['from_version']}, before the changes by hand"
    differences: list[tuple[str, Estimate]] = []
    for name in [*MODEL_WORDS, *(other for other in baselines if other not in MODEL_WORDS)]:
        if name not in baselines:
            continue
        row = _figure_row(name, baselines[name])
        own = baselines[name].get("card") or evaluation["card"]
        ends = intervals.get(f"gain_over_{name}")
        if baselines[name].get("deal_count") not in (None, evaluation["later_count"]):
            row["name"] += f", on {counted(baselines[name]['deal_count'], 'deal')}"
        if own.get("log_loss") is not None and baselines[name].get("log_loss") is not None:
            gain = baselines[name]["log_loss"] - own["log_loss"]
            row["gain"] = signed(gain, 3)
            row["gain_interval"] = span(ends)
            if ends and None not in ends:
                row["outcome"] = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "no difference shown"
                differences.append((MODEL_WORDS.get(name, plain(name)), Estimate(gain, *ends)))
        rows.append(row)
    said = [
        f"{label.lower() if label[0] != 'E' else label}: {signed(estimate.value, 3)} "
        f"({decimal(estimate.low)} to {decimal(estimate.high)})"
        for label, estimate in differences
    ]
    return {
        "later_count": f"{evaluation['later_count']:,}",
        "later_won_count": f"{evaluation['later_won_count']:,}",
        "after": day(evaluation["earlier_until"]),
        "figures": [heading for _, heading, _ in FIGURES],
        "rows": rows,
        "missing": [
            f"{MODEL_WORDS[name]}: {why}." for name, why in MISSING_MODEL_WORDS.items() if name not in baselines
        ],
        "plot": _markup(
            differences_svg(
                [(_short_model(label), estimate) for label, estimate in differences],
                unit="log loss lower by",
                name="differences",
                title="How much lower the card's log loss is than that of each other model",
                description="Difference with its 90 % interval. " + "; ".join(said) + ".",
            )
        )
        if differences
        else None,
        "rounding": rounding_sentence(evaluation.get("rounding")),
    }


def _short_model(label: str) -> str:
    return label.split(",")[0].split(" (")[0].removesuffix(" for every deal")


def _figure_row(name: str, figures: Mapping[str, Any], intervals: Mapping[str, Any] | None = None) -> dict[str, Any]:
    return {
        "name": MODEL_WORDS.get(name, plain(name)),
        "is_card": name == "card",
        "cells": [
            {"value": decimal(figures.get(key), digits), "interval": span((intervals or {}).get(key), digits)}
            for key, _, digits in FIGURES
        ],
        "gain": "",
        "gain_interval": "",
        "outcome": "",
    }


def _origins(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    """The same test at several moments of the past."""
    from orchestration.lib.model_card_plots import Estimate, series_svg

    origins = evaluation.get("origins")
    if not origins:
        return None
    mean = evaluation.get("origins_mean") or {}
    names = ["card", *(n for n in MODEL_WORDS if n != "card" and any(n in o.get("baselines", {}) for o in origins))]

    def of(origin: Mapping[str, Any], name: str) -> Mapping[str, Any]:
        return (origin.get("card") if name == "card" else origin.get("baselines", {}).get(name)) or {}

    def row(title: str, until: str, origin: Mapping[str, Any], deals: str) -> dict[str, Any]:
        return {
            "title": title,
            "until": until,
            "deals": deals,
            "cells": [
                {"auc": decimal(of(origin, name).get("auc")), "log_loss": decimal(of(origin, name).get("log_loss"))}
                for name in names
            ],
        }

    rows = [
        row(
            f"after {day(o['earlier_until'])}",
            day(o["later_until"]),
            o,
            f"{o['later_won_count']:,} / {o['later_count']:,}",
        )
        for o in origins
    ]
    if mean:
        rows.append({**row("All of them", "", mean, f"{mean['later_count']:,} deals"), "is_total": True})
        intervals = mean.get("intervals") or {}
        rows[-1]["note"] = (
            f"Over all of them the card's AUC is {decimal(of(mean, 'card').get('auc'))} "
            f"(90{NBSP}% interval {span(intervals.get('auc')) or 'unknown'}), "
            f"its log loss {decimal(of(mean, 'card').get('log_loss'))} "
            f"({span(intervals.get('log_loss')) or 'unknown'})."
        )
    lines: list[tuple[str, list[Estimate | None]]] = []
    for name in names:
        values = [of(origin, name).get("auc") for origin in origins]
        if name != "base_rate" and any(value is not None for value in values):
            lines.append((_short_model(MODEL_WORDS[name]), [None if v is None else Estimate(v) for v in values]))
    plot = None
    if lines:
        card_values = ", ".join(
            f"{day(origin['later_until'])} {decimal(of(origin, 'card').get('auc'), 2)}" for origin in origins
        )
        plot = _markup(
            series_svg(
                [f"to {day(origin['later_until'])}" for origin in origins],
                lines,
                unit="AUC",
                reference=0.5,
                name="origins",
                title="AUC at each rolling origin, the card and the other models",
                description=f"Of the card, by the end of the test: {card_values}. 0.5 is chance.",
            )
        )
    return {
        "models": [_short_model(MODEL_WORDS[name]) for name in names],
        "rows": rows,
        "note": rows[-1].get("note", ""),
        "plot": plot,
    }


def _reliability(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    from orchestration.lib.model_card_plots import Estimate, ReliabilityBin, reliability_svg

    found = evaluation.get("reliability")
    if not found:
        return None
    bins = [
        ReliabilityBin(
            b["win_probability"],
            Estimate(b["win_rate"], b.get("win_rate_low"), b.get("win_rate_high")),
            b["deal_count"],
        )
        for b in found
    ]
    rows = [
        {
            "promised": percent(b["win_probability"], 1),
            "seen": percent(b["win_rate"], 1),
            "interval": span([b.get("win_rate_low"), b.get("win_rate_high")], 0, percent=True),
            "deals": f"{b['won_count']:,} / {b['deal_count']:,}",
        }
        for b in found
    ]
    said = "; ".join(
        f"{row['promised']} promised, {row['seen']} seen of {row['deals'].split(' / ')[1]}" for row in rows
    )
    plot = reliability_svg(
        bins,
        name="reliability",
        title="Reliability: promised win probability against the share of deals won",
        description=f"From the lowest probability up: {said}.",
    )
    return {"plot": _markup(plot), "rows": rows}


def _gains(evaluation: Mapping[str, Any]) -> dict[str, Any] | None:
    from orchestration.lib.model_card_plots import gains_svg

    found = evaluation.get("gains")
    if not found:
        return None
    lines = [("this card", [(float(g["top_pct"]), float(g["won_share_pct"])) for g in found])]
    has_amounts = all(g.get("won_amount_share_pct") is not None for g in found)
    if has_amounts:
        lines.append(("amount won", [(float(g["top_pct"]), float(g["won_amount_share_pct"])) for g in found]))
    rows = [
        {
            "top": f"{g['top_pct']}{NBSP}%",
            "won": f"{decimal(g['won_share_pct'], 1)}{NBSP}%",
            "lift": decimal(g["won_share_pct"] / g["top_pct"], 2),
            "deals": f"{decimal(g['won_count'], 1)} / {decimal(g['deal_count'], 1)}" if "won_count" in g else NONE,
            "amount": f"{decimal(g['won_amount_share_pct'], 1)}{NBSP}%" if has_amounts else "",
        }
        for g in found
    ]
    said = "; ".join(f"best {row['top']}: {row['won']}" for row in rows)
    plot = gains_svg(
        lines,
        name="gains",
        title="Gains: share of the won deals among the best deals by points, against random order",
        description=f"Of the won deals are among the {said}.",
    )
    return {"plot": _markup(plot), "rows": rows, "has_amounts": has_amounts}


def _probability(card: Card) -> dict[str, Any]:
    from orchestration.lib.model_card_plots import probability_svg

    calibration = card.calibration
    table = list(zip(calibration.probability, calibration.low, calibration.high, strict=True))
    is_flat = calibration.method == "flat" or len(set(calibration.probability)) == 1
    totals = range(calibration.points_from, calibration.points_from + len(table))
    most = 11  # rows that are read; the plot has the rest
    step = next(n * 10**k for k in range(9) for n in (1, 2, 3, 5) if n * 10**k * most >= len(table))
    chosen = [t for t in totals if t % step == 0] or [totals[0]]
    rows = [
        {
            "points": signed(t),
            "p": percent(table[t - totals[0]][0], 1),
            "interval": span(table[t - totals[0]][1:], 1, percent=True),
        }
        for t in chosen
    ]
    if is_flat:
        words = (
            f"The win probability is {rows[0]['p']} for every account, whatever its points "
            f"(90{NBSP}% interval {rows[0]['interval']}): no order has been shown to mean anything, so none is promised."
        )
        return {"words": words, "plot": None, "rows": rows[:1]}
    if calibration.deal_count:
        words = (
            f"Calibrated by {CALIBRATION_WORDS.get(calibration.method, calibration.method)} on "
            f"{counted(calibration.deal_count, 'closed deal')}, each with the points of a fit that had not seen it."
        )
    else:
        words = (
            "No closed deal stands behind these figures: they are the expected base rate, moved by the experts' points at the "
            "trust that was assumed."
        )
    plot = probability_svg(
        totals,
        calibration.probability,
        calibration.low,
        calibration.high,
        card.base_rate,
        name="probability",
        title="Win probability by total points, with its 90 % interval",
        description="; ".join(f"{row['points']} points: {row['p']} ({row['interval']})" for row in rows) + ".",
    )
    return {"words": words, "plot": _markup(plot), "rows": rows}


# --------------------------------------------------------------------------- the card


def _weights(card: Card, criteria: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Plots of the weights: groups of at most four segments, in each one plot per criterion."""
    from orchestration.lib.model_card_plots import SEGMENT_MARKS

    segments = card.segments
    own = [segment for segment in segments if segment]
    size = len(SEGMENT_MARKS) - 1
    groups = [["", *own[n : n + size]] for n in range(0, len(own), size)] or [[""]]
    limits = _points_limits(card)
    shapes = ["\u25cf", "\u25a0", "\u25b2", "\u25bc"]
    result = []
    for number, group in enumerate(groups):
        rows = [(segment, card.rows(segment)) for segment in group]
        names = list(dict.fromkeys(name for _, bands in rows for name in bands))
        result.append(
            {
                "legend": [
                    {"shape": shape, "name": segment_name(segment, card)}
                    for shape, segment in zip(shapes, group, strict=False)
                ]
                if len(group) > 1
                else [],
                "plots": [
                    {
                        "criterion": plain(name),
                        "words": definition_words(name, card, criteria),
                        "plot": _markup(_criterion_plot(name, rows, limits, f"weights-{number}-{place}")),
                    }
                    for place, name in enumerate(names)
                ],
            }
        )
    return result


def _points_limits(card: Card) -> tuple[float, float]:
    """One axis for all criteria: wide enough for every point and belief, not for every interval."""
    marks = [float(value) for band in card.bands for value in (band.points, band.expert_points)]
    ends = sorted(abs(end) for band in card.bands for end in _points_interval(band))
    usual = ends[int(0.9 * (len(ends) - 1))] if ends else 0.0
    reach = 5 * math.ceil(max(5.0, usual, 1.08 * max(map(abs, marks), default=0.0)) / 5)
    return -float(reach), float(reach)


def _points_interval(band: CardBand) -> tuple[float, float]:
    from ml.card import WEIGHT_PER_POINT

    return band.weight_low / WEIGHT_PER_POINT, band.weight_high / WEIGHT_PER_POINT


def _criterion_plot(
    name: str, rows: Sequence[tuple[str, Mapping[str, Sequence[CardBand]]]], limits: tuple[float, float], plot_name: str
) -> str:
    from orchestration.lib.model_card_plots import Estimate, WeightMark, weights_svg

    # Bands are told apart by place: two labels may be shortened to the same text.
    believed = any(band.expert_points for _, bands in rows for band in bands.get(name, ()))
    marks, said = [], []
    for number, (segment, bands) in enumerate(rows):
        for band in bands.get(name, ()):
            low, high = _points_interval(band)
            expert = float(band.expert_points) if believed else None
            marks.append(
                WeightMark(
                    band.band, number, Estimate(band.points, low, high), expert, band.data_share_pct, band.is_pinned
                )
            )
            said.append(
                f"{f'{segment}, ' if segment else ''}{band.band}: {signed(band.points)} points "
                f"({signed(low)} to {signed(high)})" + (f", experts {signed(band.expert_points)}" if believed else "")
            )
    return weights_svg(
        marks,
        limits=limits,
        name=plot_name,
        title=f"Points of {plain(name)} by band, with 90 % intervals",
        description="; ".join(said) + ".",
    )


def _tables(card: Card) -> list[dict[str, Any]]:
    """The whole card as rows, one table per segment."""
    from orchestration.lib.model_card_plots import share_class

    tables = []
    reach = max([1, *(abs(band.points) for band in card.bands)])
    for segment in card.segments:
        groups = []
        for name, bands in card.rows(segment).items():
            rows = []
            for band in bands:
                low, high = _points_interval(band)
                rows.append(
                    {
                        "band": band.band,
                        "values": listed(band.values) if band.values and list(band.values) != [band.band] else "",
                        "points": signed(band.points),
                        "bar": round(100 * abs(band.points) / reach, 1),
                        "is_negative": band.points < 0,
                        # Points that a person set have no interval.
                        "interval": f"{signed(low)} to {signed(high)}" if low < high else NONE,
                        "expert": signed(band.expert_points),
                        "won": f"{band.won_count:,} / {band.deal_count:,}",
                        "rate": percent(band.won_count / band.deal_count) if band.deal_count else NONE,
                        "accounts": NONE if band.account_count is None else f"{band.account_count:,}",
                        "share": f"{decimal(band.data_share_pct, 0)}{NBSP}%",
                        "share_class": share_class(band.data_share_pct),
                        "evidence": evidence_words(band),
                        "is_pinned": band.is_pinned,
                    }
                )
            if any(pair.name == name for pair in card.pairs):
                by_no = {
                    side: {str(b.band_no): b.band for b in card.rows(segment).get(side, ())}
                    for pair in card.pairs
                    if pair.name == name
                    for side in (pair.left, pair.right)
                }
                _name_pair_values(rows, bands, list(by_no.values()))
            groups.append({"criterion": plain(name), "kind": bands[0].kind, "rows": rows})
        tables.append({"name": segment_name(segment, card), "groups": groups})
    return tables


def _name_pair_values(
    rows: list[dict[str, Any]], bands: Sequence[CardBand], sides: Sequence[Mapping[str, str]]
) -> None:
    """Say which bands of the two criteria meet, in place of their numbers ("3|1")."""
    for row, band in zip(rows, bands, strict=True):
        met = [value.split("|") for value in band.values or ()]
        names = [" and ".join(side.get(no, no) for side, no in zip(sides, pair, strict=False)) for pair in met]
        row["values"] = listed(name for name in names if name != band.band)


# --------------------------------------------------------------------------- evidence, leaks, people


def _criteria(evaluation: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    found = evaluation.get("criteria")
    if not found:
        return None
    significant = {True: "yes", False: "no", None: "not tested"}
    return [
        {
            "criterion": plain(entry["criterion"]),
            "deals": f"{entry['deal_count']:,}" if entry.get("deal_count") is not None else NONE,
            "auc": decimal(entry.get("auc"), 2),
            "auc_interval": span([entry.get("auc_low"), entry.get("auc_high")], 2),
            "importance": decimal(entry.get("importance_points"), 1),
            "importance_share": f"{decimal(entry['importance_share_pct'], 0)}{NBSP}%"
            if entry.get("importance_share_pct") is not None
            else "",
            "information_value": decimal(entry.get("information_value"), 3),
            "p_value": p_value(entry.get("p_value")),
            "test": plain(entry.get("test") or "") if entry.get("p_value") is not None else "",
            "q_value": p_value(entry.get("q_value")),
            "is_significant": significant[entry.get("is_significant")],
            "sentence": entry.get("sentence") or "",
        }
        for entry in found
    ]


def _leaks(evaluation: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    if "leaks" not in evaluation:
        return None
    return [
        {
            "criterion": plain(leak["criterion"]),
            "rule": LEAK_WORDS.get(leak["rule"], plain(leak["rule"])),
            "evidence": leak.get("evidence", ""),
            "outcome": "left out" if leak.get("is_left_out") else "kept, because a person insists",
        }
        for leak in evaluation["leaks"]
    ]


def _protected(evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Groups of each protected attribute, with their differences to the largest group; see `ml.evidence`."""
    result = []
    for name, report in (evaluation.get("protected") or {}).items():
        difference_of = {row["group"]: row for row in report.get("differences", ())}
        rows = []
        for group in report["groups"]:
            difference = difference_of.get(group["group"], {})
            rows.append(
                {
                    "group": group["group"],
                    "deals": f"{group['won_count']:,} / {group['deal_count']:,}",
                    "points": decimal(group.get("points_mean"), 1),
                    "p": percent(group.get("win_probability_mean"), 1),
                    "rate": percent(group.get("win_rate"), 1),
                    "differences": [
                        _difference(difference, key, is_share=is_share)
                        for key, is_share in (("points", False), ("win_probability", True), ("win_rate", True))
                    ],
                }
            )
        result.append(
            {
                "name": plain(name),
                "words": "It is a criterion of this card: its bands have points of their own."
                if report.get("is_scored")
                else "It is no criterion of this card: what differs comes through other criteria.",
                "reference": report.get("reference"),
                "rows": rows,
            }
        )
    return result


def _difference(row: Mapping[str, Any], key: str, *, is_share: bool) -> dict[str, str]:
    if row.get(key) is None:
        return {"value": NONE, "interval": ""}
    scale = 100 if is_share else 1
    ends = [None if row.get(f"{key}_{end}") is None else scale * row[f"{key}_{end}"] for end in ("low", "high")]
    return {"value": signed(scale * row[key], 1), "interval": span(ends, 1)}


def _choices(card: Card, document: Mapping[str, Any]) -> dict[str, Any]:
    choices = card.choices
    rows = [
        (
            plain(pin.criterion),
            f"{pin.band}{in_segment(pin.segment, card)}: pinned to {signed(pin.points)}",
        )
        for pin in choices.pins
    ]
    rows += [
        (plain(name), f"no band may have points {'below' if sign == 'positive' else 'above'} 0")
        for name, sign in choices.signs.items()
    ]
    rows += [(plain(name), "band edges are kept as they were") for name in choices.locked_bands]
    edited = card.evaluation.get("edited") or {}
    rows += [
        (
            plain(row["criterion"]),
            f"{row['band']}{in_segment(row.get('segment'), card)}: set by hand from "
            f"{signed(row['points_before'])} to {signed(row['points'])}, in this version only",
        )
        for row in edited.get("rows", ())
    ]
    price = edited.get("price") or card.evaluation.get("choices_price") or document.get("choices_price")
    return {"rows": rows, "price": price_sentences(price) if rows or price else []}


# --------------------------------------------------------------------------- limits and parameters


def _parameters(card: Card, document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    calibration, matrix = card.calibration, document.get("matrix") or {}
    rows = [
        ("Trust in the experts", percent(card.trust), "share of the face value of their points that counts; learnt"),
        ("Worth of a belief", counted(round(card.belief_deals), "deal"), "deals that outweigh one belief; learnt"),
        (
            "Weights of evidence",
            percent(card.woe_share),
            "share of each weight that is what its criterion says alone, the rest is the fit of all together; learnt on later deals",
        ),
        (
            "Base rate",
            percent(card.base_rate, 1),
            "share won among the deals of the fit" if card.deal_count else "expected before the first deal closes",
        ),
        (
            "Points that double the odds",
            str(document["card"].get("points_to_double", 20)),
            "before calibration",
        ),
        (
            "Calibration",
            CALIBRATION_WORDS.get(calibration.method, calibration.method),
            f"on {counted(calibration.deal_count, 'closed deal')}, totals {signed(calibration.points_from)} to "
            f"{signed(calibration.points_to)}",
        ),
        ("Criteria", f"{len(card.criteria):,}", f"{counted(len(card.bands), 'row')} in all"),
        ("Segments", plain(card.segment_by) if card.segment_by else "none", listed(s for s in card.segments if s)),
        (
            "Pairs",
            f"{len(card.pairs)}" if card.pairs else "none",
            listed(f"{plain(pair.left)} and {plain(pair.right)}" for pair in card.pairs),
        ),
    ]
    for key, name in (("fit_grades", "Fit grades"), ("engagement_levels", "Engagement levels")):
        if matrix.get(key):
            limits = listed(f"{label} from {signed(points)}" for label, points in matrix[key].items())
            rows.append((name, limits, "points; the rest is " + ("D" if key == "fit_grades" else "4")))
    rows.append(("Document", str(document["card"].get("format", "")), "format of the stored card"))
    return rows


def _markup(svg: str) -> Any:
    """A drawing of our own: it escaped its texts itself."""
    from markupsafe import Markup

    return Markup(svg)
