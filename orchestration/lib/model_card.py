"""The model card of a scorecard version: one page that says what the card is, how good it is and what it cannot do.

Belongs here: which figures of a stored version stand on the page, and their words (after Mitchell et al. 2019, "Model
Cards for Model Reporting"). Does not: computing any figure (`ml.evaluate`, `ml.evidence`), how plots look
(`model_card_plots`), how the page looks (`templates/model_card.html.j2`).

The page is made of the stored documents alone: the same version gives the same bytes. What an older document does not
hold is said to be missing.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib.card_store import StoredCard

if TYPE_CHECKING:
    from ml.card import Card, CardBand

TEMPLATES = Path(__file__).parents[1] / "templates"

STATE_WORDS = {
    "draft": "Draft: nobody has decided on it, it scores nothing.",
    "shadow": "Shadow: it scores beside the active version and decides nothing.",
    "active": "Active: its points rank the accounts.",
    "retired": "Retired: it was decided on and scores nothing now.",
}

#: Signal of the evaluation -> what is said in one line, and how it is coloured.
SIGNAL_WORDS = {
    "shown": ("Ranks better than chance on later deals", "good"),
    "not_shown": ("No signal shown yet: an opinion, not a finding", "fair"),
    "none": ("No signal: do not rank by these weights", "poor"),
    "unknown": ("Not tested on later deals", "fair"),
}

#: Models that a card is compared with, in the order of the table.
MODEL_WORDS = {
    "card": "This card",
    "active_card": "Active card, as it scored then",
    "expert_card": "Experts' points alone",
    "base_rate": "Base rate for every deal",
    "naive_bayes": "Naive Bayes",
    "logistic_regression": "Logistic regression",
    "gradient_boosting": "Gradient boosting (the ceiling)",
}

#: Why a model may be missing from the table.
MISSING_MODEL_WORDS = {
    "active_card": "no version was active, or too few deals closed after its own fit",
    "expert_card": "the experts gave no points",
    "naive_bayes": "not computed in this version",
    "logistic_regression": "not computed in this version",
    "gradient_boosting": "too few earlier deals to fit it",
}

CALIBRATION_WORDS = {
    "sigmoid": "a line in log-odds",
    "isotonic": "a curve that never falls",
    "flat": "the same for everybody",
}

#: Under so many deals a band is called thin among the limits: a share won of 10 deals is uncertain by 25 points.
THIN_BAND_DEALS = 10

#: Changes against the parent that are listed; the count says how many there are.
CHANGES_SHOWN = 15

NBSP = "\u00a0"
MINUS = "\u2212"
NONE = "\u2013"


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
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,  # names, labels and notes come from people
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template("model_card.html.j2").render(_page(stored, history)) + "\n"


def _page(stored: StoredCard, history: Sequence[StoredCard]) -> dict[str, Any]:
    """Everything that the template shows, as text and plain rows."""
    from ml.card import Card

    document = stored.document
    card = Card.from_document(document["card"])
    evaluation = card.evaluation
    tested = evaluation.get("state") == "tested"
    signal_words, signal_tone = SIGNAL_WORDS.get(evaluation.get("signal", "unknown"), SIGNAL_WORDS["unknown"])
    untested = f"Not tested: {_counted(card.deal_count, 'closed deal')}, too few to keep some aside for a test."
    return {
        "version": stored.version,
        "state": stored.state,
        "state_words": STATE_WORDS.get(stored.state, stored.state),
        "signal_words": signal_words,
        "signal_tone": signal_tone,
        "verdict": list(card.verdict) or ["This version was stored without a verdict."],
        "facts": _facts(stored, history),
        "tiles": _tiles(card, tested),
        "label": _label_sentences(document.get("label") or document["card"].get("label")),
        "data": _data_sentences(stored, card),
        "comparison": _comparison(evaluation) if tested else None,
        "origins": _origins(evaluation),
        "reliability": _reliability(evaluation),
        "gains": _gains(evaluation),
        "probability": _probability(card),
        "untested": untested,
        "weights": _weights(card, document.get("criteria") or {}),
        "tables": _tables(card),
        "criteria": _criteria(evaluation),
        "leaks": _leaks(evaluation),
        "protected": _protected(evaluation),
        "choices": _choices(card, document),
        "changes": _changes(stored, card, history),
        "limits": _limits(card, tested),
        "parameters": _parameters(card, document),
        "history": _history(stored, history),
        "is_old": document["card"].get("format") == "scorecard/1",
    }


# --------------------------------------------------------------------------- numbers for people


def _number(value: float | None, digits: int = 3) -> str:
    if value is None or not math.isfinite(value):
        return NONE
    # A difference that rounds to nothing has no sign.
    text = f"{value + 0.0:,.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def _percent(share: float | None, digits: int = 0) -> str:
    """0.463 -> "46 %"."""
    return NONE if share is None else f"{_number(100 * share, digits)}{NBSP}%"


def _signed(value: float, digits: int = 0) -> str:
    text = _number(value, digits)
    return f"+{text}" if value > 0 and round(value, digits) else text


def _range(ends: Sequence[float | None] | None, digits: int = 3, *, percent: bool = False) -> str:
    if not ends or any(end is None for end in ends):
        return ""
    low, high = (_number(100 * end if percent else end, digits) for end in ends if end is not None)
    return f"{low} to {high}{NBSP}%" if percent else f"{low} to {high}"


def _counted(count: int, thing: str) -> str:
    return f"{count:,}{NBSP}{thing}{'' if count == 1 else 's'}"


def _moment(text: Any) -> str:
    try:
        return f"{datetime.fromisoformat(str(text)):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return str(text) if text else NONE


def _day(text: Any) -> str:
    return _moment(text)[:10]


def _words(name: str) -> str:
    return name.replace("_", " ")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)


def _segment_words(segment: str, card: Card) -> str:
    if segment:
        return f"{_words(card.segment_by or 'segment')}: {segment}"
    return "Everybody else" if len(card.segments) > 1 else "Everybody"


# --------------------------------------------------------------------------- the version


def _facts(stored: StoredCard, history: Sequence[StoredCard]) -> list[tuple[str, str]]:
    document, activation = stored.document, stored.activation
    active = next((card.version for card in history if card.state == "active"), None)
    if activation:
        why = activation.get("note") or "no note"
        decided = f"by {activation.get('author', 'unknown')} on {_moment(activation.get('at'))}"
        if activation.get("rollback_of"):
            decided += f", taking back {activation['rollback_of']}"
        activated, reason = decided, why
    else:
        activated, reason = "never", ""
    facts = [
        ("Version", stored.version),
        ("State", STATE_WORDS.get(stored.state, stored.state)),
        ("Made", f"by {document.get('author') or 'unknown'} on {_moment(document.get('created_at'))}"),
        ("Why it was made", document.get("note") or "no note"),
        ("Activated", activated),
    ]
    if reason:
        facts.append(("Why it was activated", reason))
    if active and active != stored.version:
        facts.append(("Active today", active))
    facts += [
        ("Parent", document.get("parent") or "none: the first of its line"),
        ("As of", f"{_moment(document.get('as_of_at'))}: nothing later was seen"),
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
                "made": _day(other.document.get("created_at")),
                "author": other.document.get("author") or "unknown",
                "note": other.document.get("note") or "",
                "parent": other.document.get("parent") or NONE,
                "activated": _day(other.activation["at"]) if other.activation else NONE,
                "activation_note": other.activation.get("note", "") if other.activation else "",
                "deals": f"{card['deal_count']:,}" if "deal_count" in card else NONE,
                "auc": _number(figures.get("auc")),
                "log_loss": _number(figures.get("log_loss")),
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
        (key, before.get(key), now.get(key)) for key in dict.fromkeys([*now, *before]) if before.get(key) != now.get(key)
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
            "segment": _segment_words(segment, card) if segment else "",
            "criterion": _words(criterion),
            "band": band,
            "before": NONE if old is None else _signed(old),
            "now": NONE if new is None else _signed(new),
            "change": _signed((new or 0) - (old or 0)),
        }
        for (segment, criterion, band), old, new in changed[:CHANGES_SHOWN]
    ]
    return {"words": words, "parent": parent, "rows": rows}


# --------------------------------------------------------------------------- label and data


def _label_sentences(label: Mapping[str, Any] | None) -> list[str]:
    if not label:
        return ["The label definition was not stored with this version."]
    known = {
        "target",
        "since",
        "reopened",
        "stages",
        "exclude_deal_types",
        "exclude_loss_reasons",
        "within_days",
        "account_months",
    }
    if label.get("target") == "account_wins":
        sentences = [
            f"Account wins within {_counted(int(label.get('within_days', 90)), 'day')}: one row per account and month, seen "
            "as of the start of the month. It counts as won when the account won a deal within that time. Months whose time "
            "had not run out had no outcome yet and were left out."
        ]
        months = label.get("account_months") or {}
        if months:
            sentences.append(
                f"The last {_counted(int(months['months']), 'month')}, of at most {months['most_accounts']:,} accounts."
            )
    else:
        sentences = [
            "Deal won: one row per closed deal, seen as of the day when it was opened. Open deals were left out, not counted "
            "as lost."
        ]
    stages = label.get("stages") or {}
    for outcome in ("won", "lost"):
        if stages.get(outcome):
            sentences.append(f"Stages that mean {outcome}, whatever the status says: {_listed(stages[outcome])}.")
    if label.get("reopened") == "first":
        sentences.append("A deal that was opened again counts by its first outcome.")
    elif label.get("reopened") == "newest":
        sentences.append("A deal that was opened again counts by its newest outcome.")
    sentences.append(f"Since {label['since']}." if label.get("since") else "No earliest date was set.")
    for key, words in (("exclude_deal_types", "deal types"), ("exclude_loss_reasons", "loss reasons")):
        if label.get(key):
            sentences.append(f"Left out, {words}: {_listed(label[key])}.")
    sentences += [f"{_words(key)}: {value}" for key, value in label.items() if key not in known and value not in (None, [])]
    return sentences


def _data_sentences(stored: StoredCard, card: Card) -> list[str]:
    if card.deal_count == 0:
        return ["No deal had closed: the card holds what the experts believe, and nothing else."]
    lost = card.deal_count - card.won_count
    sentences = [
        f"{_counted(card.deal_count, 'closed deal')}: {card.won_count:,} won, {lost:,} lost; "
        f"{_percent(card.won_count / card.deal_count, 1)} won."
    ]
    period = _closing_period(stored.training_rows)
    evaluation = card.evaluation
    if period:
        sentences.append(f"They closed from {period[0]} to {period[1]}.")
    elif evaluation.get("later_until"):
        sentences.append(f"The newest closed on {_day(evaluation['later_until'])}.")
    if evaluation.get("state") == "tested":
        sentences.append(
            f"For the test, the {evaluation['later_count']:,} deals that closed last "
            f"({evaluation['later_won_count']:,} won; after {_day(evaluation['earlier_until'])}, until "
            f"{_day(evaluation['later_until'])}) were kept aside, and a card was fitted on the {evaluation['earlier_count']:,} "
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
            "value": _counted(card.deal_count, "deal"),
            "note": f"{card.won_count:,} won, {lost:,} lost",
        },
        {
            "name": "Data behind the weights",
            "value": _percent(_mean_data_share(card)),
            "note": f"mean over {_counted(len(card.bands), 'weight')}; the rest is belief",
        },
    ]
    if not tested:
        return [*tiles, {"name": "On later deals", "value": "not tested", "note": "too few closed deals"}]
    figures, intervals = evaluation["card"], evaluation.get("intervals") or {}
    top = [None if end is None else 0.2 * end for end in intervals.get("lift_20") or ()]
    return [
        {
            "name": "Ranking (AUC)",
            "value": _number(figures.get("auc"), 2),
            "note": _interval_note(_range(intervals.get("auc"), 2)) or "0.50 is chance",
        },
        {
            "name": "Won deals in the best 20" + NBSP + "%",
            "value": _percent(0.2 * figures["lift_20"]) if figures.get("lift_20") is not None else NONE,
            "note": _interval_note(_range(top, 0, percent=True)),
        },
        {
            "name": "Promised against seen (ECE)",
            "value": f"{_number(100 * figures['ece'], 1)}{NBSP}points",
            "note": "mean gap in percentage points",
        },
        *tiles,
    ]


def _interval_note(text: str) -> str:
    return f"90{NBSP}% interval {text}" if text else ""


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
    differences: list[tuple[str, Estimate]] = []
    for name in [*MODEL_WORDS, *(other for other in baselines if other not in MODEL_WORDS)]:
        if name not in baselines:
            continue
        row = _figure_row(name, baselines[name])
        own = baselines[name].get("card") or evaluation["card"]
        ends = intervals.get(f"gain_over_{name}")
        if baselines[name].get("deal_count") not in (None, evaluation["later_count"]):
            row["name"] += f", on {_counted(baselines[name]['deal_count'], 'deal')}"
        if own.get("log_loss") is not None and baselines[name].get("log_loss") is not None:
            gain = baselines[name]["log_loss"] - own["log_loss"]
            row["gain"] = _signed(gain, 3)
            row["gain_interval"] = _range(ends)
            if ends and None not in ends:
                row["outcome"] = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else "no difference shown"
                differences.append((MODEL_WORDS.get(name, _words(name)), Estimate(gain, *ends)))
        rows.append(row)
    said = [
        f"{label.lower() if label[0] != 'E' else label}: {_signed(estimate.value, 3)} "
        f"({_number(estimate.low)} to {_number(estimate.high)})"
        for label, estimate in differences
    ]
    return {
        "later_count": f"{evaluation['later_count']:,}",
        "later_won_count": f"{evaluation['later_won_count']:,}",
        "after": _day(evaluation["earlier_until"]),
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
        "rounding": _rounding(evaluation.get("rounding")),
    }


def _short_model(label: str) -> str:
    return label.split(",")[0].split(" (")[0].removesuffix(" for every deal")


def _figure_row(
    name: str, figures: Mapping[str, Any], intervals: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    return {
        "name": MODEL_WORDS.get(name, _words(name)),
        "is_card": name == "card",
        "cells": [
            {"value": _number(figures.get(key), digits), "interval": _range((intervals or {}).get(key), digits)}
            for key, _, digits in FIGURES
        ],
        "gain": "",
        "gain_interval": "",
        "outcome": "",
    }


def _rounding(rounding: Mapping[str, Any] | None) -> str:
    if not rounding:
        return ""
    return (
        f"Whole points instead of exact weights cost {_signed(rounding['log_loss_cost'], 5)} log loss and "
        f"{_signed(rounding['auc_cost'], 5)} AUC on these deals; no total is further than "
        f"{_number(rounding['largest_points'], 1)} points from its exact weights "
        f"(it could be {_number(rounding['bound_points'], 1)} at most)."
    )


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
                {"auc": _number(of(origin, name).get("auc")), "log_loss": _number(of(origin, name).get("log_loss"))}
                for name in names
            ],
        }

    rows = [
        row(
            f"after {_day(o['earlier_until'])}",
            _day(o["later_until"]),
            o,
            f"{o['later_won_count']:,} / {o['later_count']:,}",
        )
        for o in origins
    ]
    if mean:
        rows.append({**row("All of them", "", mean, f"{mean['later_count']:,} deals"), "is_total": True})
        intervals = mean.get("intervals") or {}
        rows[-1]["note"] = (
            f"Over all of them the card's AUC is {_number(of(mean, 'card').get('auc'))} "
            f"(90{NBSP}% interval {_range(intervals.get('auc')) or 'unknown'}), "
            f"its log loss {_number(of(mean, 'card').get('log_loss'))} "
            f"({_range(intervals.get('log_loss')) or 'unknown'})."
        )
    lines: list[tuple[str, list[Estimate | None]]] = []
    for name in names:
        values = [of(origin, name).get("auc") for origin in origins]
        if name != "base_rate" and any(value is not None for value in values):
            lines.append((_short_model(MODEL_WORDS[name]), [None if v is None else Estimate(v) for v in values]))
    plot = None
    if lines:
        card_values = ", ".join(
            f"{_day(origin['later_until'])} {_number(of(origin, 'card').get('auc'), 2)}" for origin in origins
        )
        plot = _markup(
            series_svg(
                [f"to {_day(origin['later_until'])}" for origin in origins],
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
            "promised": _percent(b["win_probability"], 1),
            "seen": _percent(b["win_rate"], 1),
            "interval": _range([b.get("win_rate_low"), b.get("win_rate_high")], 0, percent=True),
            "deals": f"{b['won_count']:,} / {b['deal_count']:,}",
        }
        for b in found
    ]
    said = "; ".join(f"{row['promised']} promised, {row['seen']} seen of {row['deals'].split(' / ')[1]}" for row in rows)
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
            "won": f"{_number(g['won_share_pct'], 1)}{NBSP}%",
            "lift": _number(g["won_share_pct"] / g["top_pct"], 2),
            "deals": f"{_number(g['won_count'], 1)} / {_number(g['deal_count'], 1)}" if "won_count" in g else NONE,
            "amount": f"{_number(g['won_amount_share_pct'], 1)}{NBSP}%" if has_amounts else "",
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
    step = max(1, 10 * math.ceil(len(table) / most / 10))
    chosen = [t for t in totals if t % step == 0] or [totals[0]]
    rows = [
        {
            "points": _signed(t),
            "p": _percent(table[t - totals[0]][0], 1),
            "interval": _range(table[t - totals[0]][1:], 1, percent=True),
        }
        for t in chosen
    ]
    if is_flat:
        words = (
            f"The win probability is {rows[0]['p']} for every account, whatever its points "
            f"(90{NBSP}% interval {rows[0]['interval']}): no order has been shown to mean anything, so none is promised."
        )
        return {"words": words, "plot": None, "rows": rows[:1]}
    words = (
        f"Calibrated by {CALIBRATION_WORDS.get(calibration.method, calibration.method)} on "
        f"{_counted(calibration.deal_count, 'closed deal')}, each with the points of a fit that had not seen it."
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
                    {"shape": shape, "name": _segment_words(segment, card)}
                    for shape, segment in zip(shapes, group, strict=False)
                ]
                if len(group) > 1
                else [],
                "plots": [
                    {
                        "criterion": _words(name),
                        "words": _definition_words(name, card, criteria),
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
                f"{f'{segment}, ' if segment else ''}{band.band}: {_signed(band.points)} points "
                f"({_signed(low)} to {_signed(high)})" + (f", experts {_signed(band.expert_points)}" if believed else "")
            )
    return weights_svg(
        marks,
        limits=limits,
        name=plot_name,
        title=f"Points of {_words(name)} by band, with 90 % intervals",
        description="; ".join(said) + ".",
    )


def _definition_words(name: str, card: Card, criteria: Mapping[str, Any]) -> str:
    pair = next((pair for pair in card.pairs if pair.name == name), None)
    if pair:
        return f"pair of {_words(pair.left)} and {_words(pair.right)}"
    definition = (criteria.get(name) or {}).get("definition") or {}
    if not definition:
        return ""
    if definition.get("attribute"):
        return f"attribute {_words(definition['attribute'])}"
    signals = _listed(
        _words(signal) + ("" if worth == 1 else f" (x {worth:g})")
        for signal, worth in (definition.get("signals") or {}).items()
    )
    parts = [f"{'days since the last' if definition.get('measure') == 'days_since_last' else 'count of'} {signals}"]
    for key, words in (
        ("half_life_days", "half-life {:g} days"),
        ("window_days", "last {:g} days"),
        ("cap_per_day", "at most {:g} a day"),
        ("cap_per_person", "at most {:g} a person"),
    ):
        if definition.get(key):
            parts.append(words.format(definition[key]))
    return "; ".join(parts)


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
                        "values": _listed(band.values) if band.values and list(band.values) != [band.band] else "",
                        "points": _signed(band.points),
                        "bar": round(100 * abs(band.points) / reach, 1),
                        "is_negative": band.points < 0,
                        "interval": f"{_signed(low)} to {_signed(high)}",
                        "expert": _signed(band.expert_points),
                        "won": f"{band.won_count:,} / {band.deal_count:,}",
                        "rate": _percent(band.won_count / band.deal_count) if band.deal_count else NONE,
                        "accounts": NONE if band.account_count is None else f"{band.account_count:,}",
                        "share": f"{_number(band.data_share_pct, 0)}{NBSP}%",
                        "share_class": share_class(band.data_share_pct),
                        "evidence": _evidence_words(band),
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
            groups.append({"criterion": _words(name), "kind": bands[0].kind, "rows": rows})
        tables.append({"name": _segment_words(segment, card), "groups": groups})
    return tables


def _name_pair_values(
    rows: list[dict[str, Any]], bands: Sequence[CardBand], sides: Sequence[Mapping[str, str]]
) -> None:
    """Say which bands of the two criteria meet, in place of their numbers ("3|1")."""
    for row, band in zip(rows, bands, strict=True):
        met = [value.split("|") for value in band.values or ()]
        names = [" and ".join(side.get(no, no) for side, no in zip(sides, pair, strict=False)) for pair in met]
        row["values"] = _listed(name for name in names if name != band.band)


def _evidence_words(band: CardBand) -> str:
    """The card's own words; for documents that have none, the same question answered by the share of data."""
    if band.evidence:
        return band.evidence
    if band.deal_count == 0:
        return "no deals: belief alone"
    if band.data_share_pct < 50:
        return "mostly belief"
    return "mostly data"


# --------------------------------------------------------------------------- evidence, leaks, people


def _criteria(evaluation: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    found = evaluation.get("criteria")
    if not found:
        return None
    return [
        {
            "criterion": _words(entry["criterion"]),
            "deals": f"{entry['deal_count']:,}" if entry.get("deal_count") is not None else NONE,
            "auc": _number(entry.get("auc"), 2),
            "information_value": _number(entry.get("information_value"), 3),
            "p_value": _p_value(entry.get("p_value")),
            "q_value": _p_value(entry.get("q_value")),
            "is_significant": bool(entry.get("is_significant")),
            "sanity": entry.get("sanity") or "",
        }
        for entry in found
    ]


def _p_value(value: float | None) -> str:
    return "< 0.001" if value is not None and value < 0.001 else _number(value)


def _leaks(evaluation: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    if "leaks" not in evaluation:
        return None
    return [
        {
            "criterion": _words(leak["criterion"]),
            "rule": _words(leak.get("rule", "")),
            "evidence": leak.get("evidence", ""),
            "outcome": "left out" if leak.get("is_left_out") else "kept, because the analyst insisted",
        }
        for leak in evaluation["leaks"]
    ]


def _protected(evaluation: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """One table per protected criterion, from whatever the report holds: rows of groups, and single figures."""
    if "protected" not in evaluation:
        return None
    result = []
    for criterion, report in (evaluation["protected"] or {}).items():
        content = report if isinstance(report, dict) else {"groups": report}
        groups = next((value for value in content.values() if _is_rows(value)), [])
        columns = list(dict.fromkeys(key for group in groups for key in group))
        result.append(
            {
                "criterion": _words(criterion),
                "columns": [_words(column.removesuffix("_pct")) for column in columns],
                "rows": [[_figure(column, group.get(column)) for column in columns] for group in groups],
                "sentences": [
                    str(value) if isinstance(value, str) else f"{_words(key).capitalize()}: {_figure(key, value)}."
                    for key, value in content.items()
                    if not _is_rows(value) and value is not None
                ],
            }
        )
    return result


def _is_rows(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _figure(key: str, value: Any) -> str:
    """A figure by what its name says of its unit."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(v, int | float) for v in value):
            return " to ".join(_figure(key, v) for v in value)
        return _listed(_figure(key, v) for v in value)
    if isinstance(value, dict):
        return "; ".join(f"{_words(k)} {_figure(k, v)}" for k, v in value.items())
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float):
        if key.endswith("_pct"):
            return f"{_number(value, 1)}{NBSP}%"
        if any(word in key for word in ("rate", "probability", "share")):
            return _percent(value, 1)
        return _number(value, 1 if "points" in key else 3)
    return str(value)


def _choices(card: Card, document: Mapping[str, Any]) -> dict[str, Any]:
    choices = card.choices
    rows = [
        (
            _words(pin.criterion),
            f"{pin.band}{f' ({_segment_words(pin.segment, card)})' if pin.segment else ''}: pinned to {_signed(pin.points)}",
        )
        for pin in choices.pins
    ]
    rows += [
        (_words(name), f"no band may have points {'below' if sign == 'positive' else 'above'} 0")
        for name, sign in choices.signs.items()
    ]
    rows += [(_words(name), "band edges are kept as they were") for name in choices.locked_bands]
    price = next(
        (place[key] for place in (card.evaluation, document["card"], document) for key in ("choices_price",) if key in place),
        None,
    )
    return {"rows": rows, "price": _price(price, card) if rows or price else []}


def _price(price: Any, card: Card) -> list[str]:
    if not price:
        return ["Their price was not measured: too few closed deals, or the version was made without measuring it."]
    if isinstance(price, str):
        return [price]
    return [
        f"{_words(key).capitalize()}: {_figure(key, value)}." if not isinstance(value, str) else value
        for key, value in price.items()
        if value is not None
    ]


# --------------------------------------------------------------------------- limits and parameters


def _limits(card: Card, tested: bool) -> list[str]:
    """What the page's reader must not conclude; each sentence only where it applies."""
    evaluation = card.evaluation
    sentences = []
    thin = sum(band.deal_count < THIN_BAND_DEALS for band in card.bands)
    believed = sum(band.data_share_pct < 50 for band in card.bands)
    sentences.append(
        f"Thin evidence: {thin:,} of {_counted(len(card.bands), 'row')} rest on fewer than {THIN_BAND_DEALS} deals, and in "
        f"{believed:,} belief weighs more than data."
    )
    if tested:
        sentences.append(
            f"Drift: the figures hold for deals closed until {_day(evaluation['later_until'])}. Whether they still hold, the mart "
            "model_health says, not this page."
        )
        if evaluation["later_won_count"] < 100:
            sentences.append(
                f"The test has {_counted(evaluation['later_won_count'], 'won deal')}: the intervals are wide, and a difference "
                "inside them is no difference."
            )
    else:
        sentences.append("Nothing was tested on later deals: the ranking is what the experts believe and the few deals say.")
    if card.calibration.method == "flat":
        sentences.append(
            "The win probability is the same for every account because no signal was found: it must not be used to rank."
        )
    else:
        sentences.append(
            f"The win probability was calibrated on {_counted(card.calibration.deal_count, 'closed deal')}. At totals that few of "
            "them had it is an extrapolation, and its interval is wider there."
        )
    sentences += [
        "The interval of a win probability says how well the share won among deals of these points is known; a single deal is won "
        "or lost. The interval of a weight is that of a band against the other bands of its criterion.",
        "Points say what went with won deals. They do not say that changing an account's value would win it.",
        "The card learnt from accounts that had a deal. Accounts that never had one are scored by their likeness to those.",
        "Where the CRM's export keeps no history, a value that was changed while a deal went on may look better than it is.",
    ]
    if len(card.segments) > 1:
        sentences.append(
            f"Segments by {_words(card.segment_by or '')} borrow from the rows for everybody: with few deals of their own they stay "
            "close to them."
        )
    if card.pairs:
        sentences.append("Pairs were found by looking at many: that they paid on later deals is part of how they were chosen.")
    return sentences


def _parameters(card: Card, document: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    calibration, matrix = card.calibration, document.get("matrix") or {}
    rows = [
        ("Trust in the experts", _percent(card.trust), "share of the face value of their points that counts; learnt"),
        ("Worth of a belief", _counted(round(card.belief_deals), "deal"), "deals that outweigh one belief; learnt"),
        (
            "Base rate",
            _percent(card.base_rate, 1),
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
            f"on {_counted(calibration.deal_count, 'closed deal')}, totals {_signed(calibration.points_from)} to "
            f"{_signed(calibration.points_to)}",
        ),
        ("Criteria", f"{len(card.criteria):,}", f"{_counted(len(card.bands), 'row')} in all"),
        ("Segments", _words(card.segment_by) if card.segment_by else "none", _listed(s for s in card.segments if s)),
        (
            "Pairs",
            f"{len(card.pairs)}" if card.pairs else "none",
            _listed(f"{_words(pair.left)} and {_words(pair.right)}" for pair in card.pairs),
        ),
    ]
    for key, name in (("fit_grades", "Fit grades"), ("engagement_levels", "Engagement levels")):
        if matrix.get(key):
            limits = _listed(f"{label} from {_signed(points)}" for label, points in matrix[key].items())
            rows.append((name, limits, "points; the rest is " + ("D" if key == "fit_grades" else "4")))
    rows.append(("Document", str(document["card"].get("format", "")), "format of the stored card"))
    return rows


def _markup(svg: str) -> Any:
    """A drawing of our own: it escaped its texts itself."""
    from markupsafe import Markup

    return Markup(svg)
