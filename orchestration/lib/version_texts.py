"""The words of a scorecard version for people who do not fit models: its numbers, its label, its limits.

Belongs here: sentences about one stored version, and how numbers are written in them. Does not: which of them stand on a
page and in what order (`model_card`), the verdict, which the fit itself gives (`ml.evaluate`).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from orchestration.lib import wording

if TYPE_CHECKING:
    from ml.card import Card, CardBand

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

#: Rules of `ml.leaks`.
LEAK_WORDS = {
    "filled_late": "filled at or after close",
    "too_good": "too good to be true",
    "changed_since": "changes when later records are taken away",
}

#: Under so many deals a band is called thin among the limits: a share won of 10 deals is uncertain by 25 points.
THIN_BAND_DEALS = 10

NBSP = "\u00a0"

MINUS = "\u2212"

NONE = "\u2013"


def decimal(value: float | None, digits: int = 3) -> str:
    """1234.5 -> "1,234.500"; a dash for what is not known, a typographic minus, no sign on what rounds to 0."""
    if value is None or not math.isfinite(value):
        return NONE
    # A difference that rounds to nothing has no sign.
    text = f"{value + 0.0:,.{digits}f}" if round(value, digits) else f"{0:.{digits}f}"
    return text.replace("-", MINUS)


def percent(share: float | None, digits: int = 0) -> str:
    """0.463 -> "46 %"."""
    return NONE if share is None else f"{decimal(100 * share, digits)}{NBSP}%"


def signed(value: float, digits: int = 0) -> str:
    """With its sign, "+5"; 0 has none."""
    text = decimal(value, digits)
    return f"+{text}" if value > 0 and round(value, digits) else text


def span(ends: Sequence[float | None] | None, digits: int = 3, *, percent: bool = False) -> str:
    """[0.64, 0.83] -> "0.640 to 0.830"; empty when an end is not known."""
    if not ends or any(end is None for end in ends):
        return ""
    low, high = (decimal(100 * end if percent else end, digits) for end in ends if end is not None)
    return f"{low} to {high}{NBSP}%" if percent else f"{low} to {high}"


def counted(count: int, thing: str) -> str:
    """1 deal, 2,000 deals; no line ends between number and thing."""
    return wording.counted(count, thing).replace(" ", NBSP, 1)


def moment(text: Any) -> str:
    """ISO text in UTC to the minute; any other text as it is."""
    try:
        return f"{datetime.fromisoformat(str(text)):%Y-%m-%d %H:%M} UTC"
    except ValueError:
        return str(text) if text else NONE


def day(text: Any) -> str:
    """ISO text as a day."""
    return moment(text)[:10]


def plain(name: str) -> str:
    """A name of ours as words: "days_since_last" -> "days since last"."""
    return name.replace("_", " ")


def listed(names: Iterable[str]) -> str:
    """Names after each other."""
    return ", ".join(names)


def segment_name(segment: str, card: Card) -> str:
    """Who is scored by the rows of a segment."""
    if segment:
        return f"{plain(card.segment_by or 'segment')}: {segment}"
    return "Everybody else" if len(card.segments) > 1 else "Everybody"


def in_segment(segment: str | None, card: Card) -> str:
    """Where a row stands, as an addition to its name; nothing for the rows of everybody."""
    return f" ({segment_name(segment, card)})" if segment else ""


def label_sentences(label: Mapping[str, Any] | None) -> list[str]:
    """The label definition of a version in words; see `scorecard_settings.Label.definition`."""
    if not label:
        return ["The label definition was not stored with this version."]
    version = label.get("version")
    label = label.get("definition") or label
    known = {
        "target",
        "since",
        "reopened",
        "stages",
        "exclude_deal_types",
        "exclude_loss_reasons",
        "within_days",
        "account_months",
        "version",
    }
    if label.get("target") == "account_wins":
        sentences = [
            f"Account wins within {counted(int(label.get('within_days', 90)), 'day')}: one row per account and month, seen "
            "as of the start of the month. It counts as won when the account won a deal within that time. Months whose time "
            "had not run out had no outcome yet and were left out. Where this page says deal, it means such a row."
        ]
        months = label.get("account_months") or {}
        if months:
            sentences.append(
                f"The last {counted(int(months['months']), 'month')}, of at most {months['most_accounts']:,} accounts."
            )
    else:
        sentences = [
            "Deal won: one row per closed deal, seen as of the day when it was opened. Open deals were left out, not counted "
            "as lost."
        ]
    stages = label.get("stages") or {}
    for outcome in ("won", "lost"):
        if stages.get(outcome):
            sentences.append(f"Stages that mean {outcome}, whatever the status says: {listed(stages[outcome])}.")
    if label.get("reopened") == "first":
        sentences.append("A deal that was opened again counts by its first outcome.")
    elif label.get("reopened") == "newest":
        sentences.append("A deal that was opened again counts by its newest outcome.")
    sentences.append(f"Since {label['since']}." if label.get("since") else "No earliest date was set.")
    for key, words in (("exclude_deal_types", "deal types"), ("exclude_loss_reasons", "loss reasons")):
        if label.get(key):
            sentences.append(f"Left out, {words}: {listed(label[key])}.")
    sentences += [
        f"{plain(key).capitalize()}: {figure_text(key, value)}."
        for key, value in label.items()
        if key not in known and value not in (None, [], {})
    ]
    if version:
        sentences.append(f"Version of this definition: {version}.")
    return sentences


def interval_note(text: str) -> str:
    """The words before an interval that is not empty."""
    return f"90{NBSP}% interval {text}" if text else ""


def rounding_sentence(rounding: Mapping[str, Any] | None) -> str:
    """What whole points cost, see `ml.evaluate`; empty when it was not measured."""
    if not rounding:
        return ""
    return (
        f"Whole points instead of exact weights change log loss by {signed(rounding['log_loss_cost'], 5)} and AUC by "
        f"{signed(-rounding['auc_cost'], 5)} on these deals; no total is further than "
        f"{decimal(rounding['largest_points'], 1)} points from its exact weights "
        f"(it could be {decimal(rounding['bound_points'], 1)} at most)."
    )


def definition_words(name: str, card: Card, criteria: Mapping[str, Any]) -> str:
    """How the value of a criterion is made; empty when its name says it already."""
    pair = next((pair for pair in card.pairs if pair.name == name), None)
    if pair:
        return f"pair of {plain(pair.left)} and {plain(pair.right)}"
    definition = (criteria.get(name) or {}).get("definition") or {}
    if not definition:
        return ""
    if definition.get("attribute"):
        said = [] if definition["attribute"] == name else [f"attribute {plain(definition['attribute'])}"]
        return "; ".join([*said, *(["with the accounts below"] if definition.get("rolls_up") else [])])
    signals = listed(
        plain(signal) + ("" if worth == 1 else f" (x {worth:g})")
        for signal, worth in (definition.get("signals") or {}).items()
    )
    parts = [f"{'days since the last' if definition.get('measure') == 'days_since_last' else 'count of'} {signals}"]
    for key, words in (
        ("half_life_days", "half-life {:g} days"),
        ("window_days", "last {:g} days"),
        ("cap_per_day", "at most {:g} a day"),
        ("cap_per_person", "at most {:g} a person"),
        ("floor", "never under {:g}"),
        ("ceiling", "never over {:g}"),
    ):
        if definition.get(key):
            parts.append(words.format(definition[key]))
    for weights in (definition.get("role_weights") or {}).values():
        parts.append(listed(f"{plain(role)} x {weight:g}" for role, weight in weights.items()))
    if definition.get("rolls_up"):
        parts.append("with the accounts below")
    fading = definition.get("decay")
    if fading == "linear":
        parts.append("fading in a line to nothing at the end of the window")
    elif fading:
        parts.append(", ".join(f"{share:.0%} from {age} days on" for age, share in fading.items()))
    return "; ".join(parts)


def evidence_words(band: CardBand) -> str:
    """The card's own words; for documents that have none, the same question answered by the share of data."""
    if band.evidence:
        return band.evidence
    if band.deal_count == 0:
        return "no deals: belief alone"
    if band.data_share_pct < 50:
        return "mostly belief"
    return "mostly data"


def p_value(value: float | None) -> str:
    """A p or q value; those below a thousandth are not told apart."""
    return "< 0.001" if value is not None and value < 0.001 else decimal(value)


def figure_text(key: str, value: Any) -> str:
    """A figure by what its name says of its unit."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list | tuple):
        if len(value) == 2 and all(isinstance(v, int | float) for v in value):
            return " to ".join(figure_text(key, v) for v in value)
        return listed(figure_text(key, v) for v in value)
    if isinstance(value, dict):
        return "; ".join(f"{plain(k)} {figure_text(k, v)}" for k, v in value.items())
    if isinstance(value, int):
        return f"{value:,}".replace("-", MINUS)
    if isinstance(value, float):
        if key.endswith("_pct"):
            return f"{decimal(value, 1)}{NBSP}%"
        if any(word in key for word in ("rate", "probability", "share")):
            return percent(value, 1)
        return decimal(value, 1 if "points" in key else 3)
    return str(value)


def price_sentences(price: Any) -> list[str]:
    """What choices cost, in sentences; see `ml.edits.price_of_change`. Other shapes are listed key by key."""
    if not price:
        return ["Their price is not part of this version: it was not measured, or there were too few closed deals."]
    if isinstance(price, str):
        return [price]
    if "before" in price and "after" in price:
        where = f"On the {price['deal_count']:,} deals that closed last ({price['won_count']:,} won)"
        if price.get("gain") is None:
            return [f"{where} it cannot be measured: too few of one outcome."]
        ends = price.get("gain_interval")
        outcome = "neither better nor worse beyond chance"
        if ends and None not in ends:
            outcome = "better" if ends[0] > 0 else "worse" if ends[1] < 0 else outcome
        return [
            f"{where}, log loss went from {decimal(price['before']['log_loss'], 4)} to "
            f"{decimal(price['after']['log_loss'], 4)} and AUC from {decimal(price['before']['auc'])} to "
            f"{decimal(price['after']['auc'])}: {outcome}"
            + (f" (log loss lower by {signed(price['gain'], 4)}, {interval_note(span(ends, 4))})." if ends else ".")
        ]
    return [
        value if isinstance(value, str) else f"{plain(key).capitalize()}: {figure_text(key, value)}."
        for key, value in price.items()
        if value is not None
    ]


def edited_sentence(evaluation: Mapping[str, Any]) -> str:
    """Whose figures the evaluation holds, where points were changed by hand after it."""
    edited = evaluation.get("edited")
    if not edited:
        return ""
    count = counted(len(edited["rows"]), "row")
    return (
        f"The verdict and the figures on later deals are those of {edited['from_version']}: {count} of this card had points "
        "changed by hand afterwards, without a new fit."
    )


def edited_sentences(evaluation: Mapping[str, Any]) -> list[str]:
    """The same, and what the changes cost."""
    edited = evaluation.get("edited")
    return [edited_sentence(evaluation), *price_sentences(edited.get("price"))] if edited else []


def own_figures(evaluation: Mapping[str, Any]) -> Mapping[str, Any]:
    """The card's figures on later deals; none where points were changed by hand after they had been measured."""
    return {} if evaluation.get("edited") else evaluation.get("card") or {}


def limit_sentences(card: Card, tested: bool) -> list[str]:
    """What the page's reader must not conclude; each sentence only where it applies."""
    evaluation = card.evaluation
    sentences = []
    thin = sum(band.deal_count < THIN_BAND_DEALS for band in card.bands)
    believed = sum(band.data_share_pct < 50 for band in card.bands)
    sentences.append(
        f"Thin evidence: {thin:,} of {counted(len(card.bands), 'row')} rest on fewer than {THIN_BAND_DEALS} deals, and in "
        f"{believed:,} belief weighs more than data."
    )
    if tested:
        sentences.append(
            f"Drift: the figures hold for deals closed until {day(evaluation['later_until'])}. Whether they still hold, the mart "
            "model_health says, not this page."
        )
        if evaluation["later_won_count"] < 100:
            sentences.append(
                f"The test has {counted(evaluation['later_won_count'], 'won deal')}: the intervals are wide, and a difference "
                "inside them is no difference."
            )
    else:
        sentences.append(
            "Nothing was tested on later deals: the ranking is what the experts believe and the few deals say."
        )
    if card.calibration.method == "flat":
        sentences.append(
            "The win probability is the same for every account because no signal was found: it must not be used to rank."
        )
    elif card.calibration.deal_count == 0:
        sentences.append("The win probability was calibrated on no deal: it is an expectation, not a finding.")
    else:
        sentences.append(
            f"The win probability was calibrated on {counted(card.calibration.deal_count, 'closed deal')}. At totals that few of "
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
            f"Segments by {plain(card.segment_by or '')} borrow from the rows for everybody: with few deals of their own they stay "
            "close to them."
        )
    if card.pairs:
        sentences.append(
            "Pairs were found by looking at many: that they paid on later deals is part of how they were chosen."
        )
    return sentences
