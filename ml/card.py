"""What a scorecard is: its specification, its bands, its points, its win probability and its document.

Belongs here: plain frozen data, how a value finds its band, how points become a probability, the JSON form.
Does not: finding bands (`ml.banding`), fitting weights (`ml.scorecard`), calibrating (`ml.calibration`).
The warehouse scores with the same rules in SQL; the two must agree to the integer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import numpy as np
import pandas as pd

Kind = Literal["explicit", "implicit"]
ValueType = Literal["number", "category"]
BandType = Literal["range", "values", "other", "missing"]
Direction = Literal["increasing", "decreasing"]

POINTS_TO_DOUBLE = 20
"""Points that double the odds of winning."""

WEIGHT_PER_POINT = math.log(2) / POINTS_TO_DOUBLE
"""Log-odds of one point, before calibration."""

Z_90 = 1.645
"""Half-width of a central 90 % interval, in standard deviations; the SQL holds the same figure."""

Sign = Literal["positive", "negative"]

DOCUMENT_FORMAT = "scorecard/2"

READABLE_FORMATS = ("scorecard/1", "scorecard/2")
"""Documents that `Card.from_document` reads; the first had neither segments nor pairs nor choices."""


def round_half_up(values: Any) -> np.ndarray:
    """Round to whole numbers as the warehouse does, ``floor(x + 0.5)``: engines differ on halves
    otherwise.
    """
    return np.floor(np.asarray(values, dtype=float) + 0.5).astype(np.int64)


def points_from_weights(weights: Any) -> np.ndarray:
    """Log-odds to whole points: ``round_half_up(20 / ln 2 * weight)``."""
    return round_half_up(np.asarray(weights, dtype=float) / WEIGHT_PER_POINT)


# --------------------------------------------------------------------------- what people ask for


@dataclass(frozen=True)
class BandSpec:
    """One band as an analyst wrote it.

    Attributes
    ----------
    label : shown to people; None = made from the limits or the values.
    lower, upper : half-open range ``[lower, upper)`` of a number; None = unbounded.
    values : the values of a category; None for numbers.
    points : what the experts believe; +20 doubles the odds.
    is_pinned : the fit holds `points` as they are.
    """

    label: str | None = None
    lower: float | None = None
    upper: float | None = None
    values: tuple[str, ...] | None = None
    points: int = 0
    is_pinned: bool = False


@dataclass(frozen=True)
class CriterionSpec:
    """One thing that is scored, before any data.

    Attributes
    ----------
    bands : None = found from the deals.
    missing_points : points of the band "missing".
    monotone : direction in which the weights of a number may only go; None = free.
    other_points : for categories, points of everything not listed; for numbers, of gaps between listed
        ranges.
    whole_numbers : whether labels may read "10-49" instead of "10-50"; None = seen from the values.
    sign : "positive": no known band may have points below 0; "negative": none above 0; "missing" is free.
    insist : keep the criterion although `ml.leaks` takes it for a leak.
    """

    name: str
    kind: Kind = "explicit"
    value_type: ValueType = "number"
    bands: tuple[BandSpec, ...] | None = None
    missing_points: int = 0
    monotone: Direction | None = None
    other_points: int = 0
    whole_numbers: bool | None = None
    sign: Sign | None = None
    insist: bool = False

    def __post_init__(self) -> None:
        if self.kind not in ("explicit", "implicit"):
            raise ValueError(f"criterion {self.name}: kind must be explicit or implicit, got {self.kind!r}")
        if self.value_type not in ("number", "category"):
            raise ValueError(f"criterion {self.name}: value_type must be number or category, got {self.value_type!r}")
        if self.monotone not in (None, "increasing", "decreasing"):
            raise ValueError(
                f"criterion {self.name}: monotone must be increasing, decreasing or None, got {self.monotone!r}"
            )
        if self.sign not in (None, "positive", "negative"):
            raise ValueError(f"criterion {self.name}: sign must be positive, negative or None, got {self.sign!r}")
        if self.monotone and self.value_type == "category":
            raise ValueError(f"criterion {self.name}: monotone needs a number; categories have no order")
        if self.bands is not None:
            (_check_ranges if self.value_type == "number" else _check_values)(self.name, self.bands)


def _check_ranges(name: str, bands: Sequence[BandSpec]) -> None:
    previous_upper: float | None = -math.inf
    for band in sorted(bands, key=lambda b: -math.inf if b.lower is None else b.lower):
        if band.values is not None:
            raise ValueError(f"criterion {name}: a band of a number has limits, got values {band.values}")
        lower = -math.inf if band.lower is None else band.lower
        upper = math.inf if band.upper is None else band.upper
        if math.isnan(lower) or math.isnan(upper) or not lower < upper:
            raise ValueError(
                f"criterion {name}: the lower limit must be under the upper, got {band.lower} to {band.upper}"
            )
        if previous_upper is None or lower < previous_upper:
            raise ValueError(f"criterion {name}: bands must not overlap, got {lower:g} below {previous_upper:g}")
        previous_upper = upper


def _check_values(name: str, bands: Sequence[BandSpec]) -> None:
    seen: set[str] = set()
    for band in bands:
        if not band.values:
            raise ValueError(f"criterion {name}: a band of a category lists its values, got none")
        if band.lower is not None or band.upper is not None:
            raise ValueError(f"criterion {name}: a band of a category has values, no limits")
        twice = seen.intersection(band.values)
        if twice or len(set(band.values)) < len(band.values):
            raise ValueError(f"criterion {name}: a value belongs to one band, got {sorted(twice or band.values)} twice")
        seen.update(band.values)


@dataclass(frozen=True)
class Pin:
    """Points that a person holds: of one band of one criterion, everywhere or in one segment.

    Attributes
    ----------
    band : the band's label.
    segment : "" = the rows for everybody, and through them those of all segments.
    """

    criterion: str
    band: str
    points: int
    segment: str = ""


@dataclass(frozen=True)
class Choices:
    """What people fixed; the rest is fitted round it, and it travels to later versions until it is lifted.

    Attributes
    ----------
    signs : criterion -> sign that no known band may contradict.
    locked_bands : criterion -> the bands to keep instead of finding them anew.
    locked_pairs : pairs to keep; their own bands, and those of both criteria, must be locked too.
    """

    pins: tuple[Pin, ...] = ()
    signs: Mapping[str, Sign] = field(default_factory=dict)
    locked_bands: Mapping[str, CriterionBands] = field(default_factory=dict)
    locked_pairs: tuple[Pair, ...] = ()

    def __post_init__(self) -> None:
        for pair in self.locked_pairs:
            for name in (pair.name, pair.left, pair.right):
                if name not in self.locked_bands:
                    raise ValueError(f"pair {pair.name}: the bands of {name} must be locked with it")

    def __bool__(self) -> bool:
        return bool(self.pins or self.signs or self.locked_bands or self.locked_pairs)

    def to_document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        return {
            "pins": [asdict(pin) for pin in self.pins],
            "signs": dict(self.signs),
            "locked_bands": {name: bands.to_document() for name, bands in self.locked_bands.items()},
            "locked_pairs": [asdict(pair) for pair in self.locked_pairs],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Choices:
        """What `to_document` wrote; keys that are not there mean: nothing fixed."""
        return cls(
            pins=tuple(Pin(**pin) for pin in document.get("pins", ())),
            signs=dict(document.get("signs", {})),
            locked_bands={
                name: CriterionBands.from_document(bands) for name, bands in document.get("locked_bands", {}).items()
            },
            locked_pairs=tuple(Pair(**pair) for pair in document.get("locked_pairs", ())),
        )


@dataclass(frozen=True)
class CardSpec:
    """All criteria and what is believed about the experts, before any data.

    Attributes
    ----------
    belief_deals : deals that one expert belief is worth: the centre of what is learnt, or the fixed figure.
    belief_grid : strengths that are tried; empty = `belief_deals` is fixed.
    trust, trust_sd : slope on all expert points before any deal, and its standard deviation (0 = fixed).
    expected_win_rate : share won (0-1) to expect before the first deal closes.
    expected_win_rate_deals : deals that this expectation is worth.
    max_bands, min_band_share : limits of bands that are found automatically: most ranges of a number (None = as
        many as the deals carry, 5 to 10); least share of the known values, 0-1.
    max_categories : most values of a category that get a band of their own when bands are found.
    segment_by : category criterion whose bands get rows of their own where deals closed; None = no segments.
    choices : what people fixed.
    max_pairs : most pairs of criteria that may be added; 0 = none are looked for.
    """

    criteria: tuple[CriterionSpec, ...]
    belief_deals: float = 40.0
    belief_grid: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0, 160.0)
    trust: float = 0.7
    trust_sd: float = 0.3
    expected_win_rate: float = 0.25
    expected_win_rate_deals: float = 10.0
    max_bands: int | None = None
    min_band_share: float = 0.03
    max_categories: int = 12
    segment_by: str | None = None
    choices: Choices = field(default_factory=Choices)
    max_pairs: int = 3

    def __post_init__(self) -> None:
        names = [criterion.name for criterion in self.criteria]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"criterion {name}: a name may be used once, got {names.count(name)} times")
        for key in ("belief_deals", "expected_win_rate_deals"):
            if not getattr(self, key) > 0:
                raise ValueError(f"{key} must be above 0, got {getattr(self, key)}")
        if any(not strength > 0 for strength in self.belief_grid):
            raise ValueError(f"belief_grid must hold figures above 0, got {self.belief_grid}")
        if not 0 < self.expected_win_rate < 1:
            raise ValueError(f"expected_win_rate must lie between 0 and 1, got {self.expected_win_rate}")
        if self.max_pairs < 0:
            raise ValueError(f"max_pairs must be 0 or more, got {self.max_pairs}")
        if self.segment_by is not None:
            segmenting = [c for c in self.criteria if c.name == self.segment_by]
            if not segmenting:
                raise ValueError(f"segment_by must name a criterion of the card, got {self.segment_by!r}")
            if segmenting[0].value_type != "category":
                raise ValueError(f"segment_by must name a category, got the number {self.segment_by}")
        for name, sign in self.choices.signs.items():
            if sign not in ("positive", "negative"):
                raise ValueError(f"criterion {name}: sign must be positive or negative, got {sign!r}")


# --------------------------------------------------------------------------- bands and labels


@dataclass(frozen=True)
class Band:
    """A band with its place decided: what a value must be to fall into it, and what experts gave it."""

    label: str
    band_type: BandType
    lower: float | None = None
    upper: float | None = None
    values: tuple[str, ...] | None = None
    expert_points: int = 0
    is_pinned: bool = False


def format_number(value: float) -> str:
    """Shortest plain text of a number: 50, 0.5, 250,000, 1.2M, 4B; never an exponent."""
    for limit, letter in ((1e9, "B"), (1e6, "M")):
        shortened = value / limit
        if abs(shortened) >= 1 and math.isclose(shortened, round(shortened, 3), rel_tol=1e-12):
            return f"{shortened:.3f}".rstrip("0").rstrip(".") + letter
    if float(value).is_integer():
        return f"{int(value):,}" if abs(value) >= 10_000 else str(int(value))
    return f"{value:.6f}".rstrip("0").rstrip(".")


def range_label(lower: float | None, upper: float | None, whole_numbers: bool) -> str:
    """Text of ``[lower, upper)``: "< 10", "10-49" (whole numbers), "0.5-2", ">= 1000", "1.2M-1.6M"."""
    if lower is None and upper is None:
        return "any value"
    if lower is None:
        return f"< {format_number(float(upper))}"  # type: ignore[arg-type]
    if upper is None:
        return f">= {format_number(lower)}"
    joint = " to " if lower < 0 else "-"
    # Of large numbers nobody counts the last unit: 1.2M-1.6M, not 1,200,000-1,599,999.
    if whole_numbers and upper <= 10_000 and float(lower).is_integer() and float(upper).is_integer():
        if upper - lower == 1:
            return format_number(lower)
        return f"{format_number(lower)}{joint}{format_number(upper - 1)}"
    return f"{format_number(lower)}{joint}{format_number(upper)}"


@dataclass(frozen=True)
class CriterionBands:
    """The bands of one criterion, in order: ranges or values, then other (categories), then missing.

    Every value falls into exactly one band: ranges cover the whole line, `other` takes unknown categories.
    """

    name: str
    kind: Kind
    value_type: ValueType
    bands: tuple[Band, ...]
    monotone: Direction | None = None

    def to_document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text."""
        return {
            **asdict(self),
            "bands": [{**asdict(b), "values": None if b.values is None else list(b.values)} for b in self.bands],
        }

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> CriterionBands:
        """What `to_document` wrote."""
        bands = [{**b, "values": None if b["values"] is None else tuple(b["values"])} for b in document["bands"]]
        return cls(**{**document, "bands": tuple(Band(**band) for band in bands)})

    def encode(self, column: pd.Series) -> np.ndarray:
        """Position of each value's band, shape (n,), int16, 0-based.

        Raises
        ------
        ValueError
            A number criterion got text that is no number.
        """
        missing = len(self.bands) - 1
        if self.value_type == "number":
            values = as_numbers(self.name, column)
            edges = [band.lower for band in self.bands[1:missing]]
            codes = np.searchsorted(np.asarray(edges, dtype=float), values, side="right").astype(np.int16)
            codes[np.isnan(values)] = missing
            return codes
        position = {value: number for number, band in enumerate(self.bands) for value in (band.values or ()) if value}
        known_codes, known = pd.factorize(column, use_na_sentinel=True)
        lookup = np.array([position.get(str(value), missing - 1) for value in known] + [missing], dtype=np.int16)
        return lookup[known_codes]


def as_numbers(name: str, column: pd.Series) -> np.ndarray:
    """Column as float64, missing as NaN; ValueError that names criterion and value for text."""
    try:
        return np.asarray(pd.to_numeric(column).to_numpy(dtype=float, na_value=np.nan))
    except (TypeError, ValueError) as error:
        raise ValueError(f"criterion {name}: values must be numbers, {error}") from error


def column_of(X: pd.DataFrame, name: str) -> pd.Series:
    """Column of a criterion; ValueError that names it when it is not there."""
    if name not in X.columns:
        raise ValueError(f"criterion {name}: X has no such column; it has {', '.join(map(str, X.columns))}")
    return X[name]


def pair_value(left_band_no: int, right_band_no: int) -> str:
    """The value of a pair criterion: the places of the two bands, "3|1"."""
    return f"{left_band_no}|{right_band_no}"


# --------------------------------------------------------------------------- the fitted card


@dataclass(frozen=True)
class Pair:
    """A criterion made of the bands of two others: its bands hold values like "3|1", the rest is "other".

    Attributes
    ----------
    name : the pair's own name, unique among the criteria.
    left, right : criteria of the card; their `band_no`s make the value.
    """

    name: str
    left: str
    right: str


@dataclass(frozen=True)
class CardBand:
    """One row of the scorecard.

    Attributes
    ----------
    band_no : 1-based place within the criterion.
    points : ``floor(20 / ln 2 * weight + 0.5)``.
    weight, weight_low, weight_high : log-odds, with a central 90 % interval. The interval is that of the band
        against the other bands of its criterion: the common level of a criterion cannot be seen in deals and
        changes no ranking, so its uncertainty is left out.
    deal_count, won_count : closed deals of the fit in this band.
    data_share_pct : 0-100, how much of what is known of this weight comes from deals, the rest being belief.
    segment : "" = everybody without rows of their own; else the label of a band of the criterion `segment_by`.
    account_count : accounts of the fit's day in this band (and segment); None = not counted.
    is_pinned : a person holds the points; `weight` is then theirs.
    evidence : what the row rests on, in words.
    """

    criterion: str
    kind: Kind
    band_no: int
    band: str
    band_type: BandType
    lower: float | None
    upper: float | None
    values: tuple[str, ...] | None
    expert_points: int
    points: int
    weight: float
    weight_low: float
    weight_high: float
    deal_count: int
    won_count: int
    data_share_pct: float
    segment: str = ""
    account_count: int | None = None
    is_pinned: bool = False
    evidence: str = ""


CalibrationMethod = Literal["sigmoid", "isotonic", "flat"]

PROBABILITY_DIGITS = 9
"""Decimals of a calibration's probabilities: what is landed is what is scored, in every engine."""

LEAST_PROBABILITY = 10.0**-PROBABILITY_DIGITS
"""No win probability is as extreme as 0 or 1: nobody knows that."""


@dataclass(frozen=True)
class Calibration:
    """Win probability of every whole total that a card can give.

    Attributes
    ----------
    method : "sigmoid" (a line in log-odds), "isotonic" (any curve that never falls), "flat" (the same at any
        points). How it was made stands in `ml.calibration`; scoring needs the table alone.
    deal_count : closed deals that it was fitted on.
    points_from : total points of the first entry; the next entries are one point apart.
    probability, low, high : win probability and its central 90 % interval, each in (0, 1) with nine decimals;
        `probability` never falls.
    """

    method: CalibrationMethod
    deal_count: int
    points_from: int
    probability: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]

    def __post_init__(self) -> None:
        if self.method not in ("sigmoid", "isotonic", "flat"):
            raise ValueError(f"calibration: method must be sigmoid, isotonic or flat, got {self.method!r}")
        if not len(self.probability) == len(self.low) == len(self.high) > 0:
            raise ValueError(
                "calibration: probability, low and high need the same number of entries, at least 1, got "
                f"{len(self.probability)}, {len(self.low)} and {len(self.high)}"
            )
        p, low, high = (np.asarray(values) for values in (self.probability, self.low, self.high))
        wrong = ~((low > 0) & (low <= p) & (p <= high) & (high < 1))  # NaN is wrong too
        if wrong.any():
            at = int(wrong.argmax())
            raise ValueError(
                f"calibration: 0 < low <= probability <= high < 1 must hold, got {low[at]}, {p[at]}, {high[at]} "
                f"at {self.points_from + at} points"
            )
        if (np.diff(p) < 0).any():
            at = int((np.diff(p) < 0).argmax()) + 1
            raise ValueError(
                f"calibration: the probability must not fall with points, got {p[at]} after {p[at - 1]} "
                f"at {self.points_from + at} points"
            )

    @property
    def points_to(self) -> int:
        """Total points of the last entry."""
        return self.points_from + len(self.probability) - 1

    def win_probability(self, total_points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probability and its central 90 % interval, each of the shape of `total_points`.

        What the warehouse joins: the entry of the whole points; totals beyond either end take that end's.
        """
        place = np.clip(round_half_up(total_points) - self.points_from, 0, len(self.probability) - 1)
        return tuple(np.asarray(values)[place] for values in (self.probability, self.low, self.high))

    @classmethod
    def from_log_odds(
        cls,
        log_odds: Any,
        sd: Any,
        *,
        method: CalibrationMethod,
        deal_count: int,
        points_from: int,
    ) -> Calibration:
        """The table of log-odds and their standard deviations, both of shape (totals,), from `points_from` on.

        The interval is ``log_odds -+ 1.645 sd``. Raises ValueError when the log-odds fall.
        """
        centre = np.asarray(log_odds, dtype=float)
        half = Z_90 * np.asarray(sd, dtype=float)
        columns = [
            np.clip(np.round(_sigmoid(line), PROBABILITY_DIGITS), LEAST_PROBABILITY, 1 - LEAST_PROBABILITY)
            for line in (centre, centre - half, centre + half)
        ]
        return cls(method, deal_count, points_from, *(tuple(map(float, column)) for column in columns))

    @classmethod
    def from_document(
        cls, document: Mapping[str, Any], *, lowest_points: int, highest_points: int, deal_count: int
    ) -> Calibration:
        """The calibration of a landed document; those of `scorecard/1` hold a line, and its table is made.

        lowest_points, highest_points, deal_count : of the card, for a line.
        """
        if "probability" in document:
            columns = {key: tuple(document[key]) for key in ("probability", "low", "high")}
            return cls(document["method"], document["deal_count"], document["points_from"], **columns)
        points = np.arange(lowest_points, highest_points + 1, dtype=float)
        variance = document["var_intercept"] + 2 * points * document["covariance"] + points**2 * document["var_slope"]
        slope = max(document["slope"], 0.0)  # a falling line was possible once
        return cls.from_log_odds(
            document["intercept"] + slope * points,
            np.sqrt(np.maximum(variance, 0.0)),
            method="sigmoid" if slope > 0 else "flat",
            deal_count=deal_count,
            points_from=lowest_points,
        )

    def to_document(self) -> dict[str, Any]:
        """Plain text, numbers and lists of numbers."""
        return {
            "method": self.method,
            "deal_count": self.deal_count,
            "points_from": self.points_from,
            "probability": list(self.probability),
            "low": list(self.low),
            "high": list(self.high),
        }


def points_range(bands: Iterable[CardBand]) -> tuple[int, int]:
    """Lowest and highest total that these bands can give: the sums of each criterion's least and most points."""
    least: dict[str, int] = {}
    most: dict[str, int] = {}
    for band in bands:
        least[band.criterion] = min(band.points, least.get(band.criterion, band.points))
        most[band.criterion] = max(band.points, most.get(band.criterion, band.points))
    return sum(least.values()), sum(most.values())


def _sigmoid(values: np.ndarray) -> np.ndarray:
    # exp of at most 700 stays finite; a probability of e-304 is not told from 0 by anyone.
    return np.asarray(1.0 / (1.0 + np.exp(-np.clip(values, -700.0, 700.0))))


@dataclass(frozen=True)
class Card:
    """A fitted scorecard: immutable, JSON-able, all that scoring needs.

    Attributes
    ----------
    base_rate : share won among the deals of the fit; the expected one where there were none.
    trust : slope on the experts' points: 1 = at face value, 0 = they say nothing.
    belief_deals : deals that one expert belief was worth in this fit.
    verdict : what a user should know before relying on it, in plain sentences.
    evaluation : figures on deals closed later than those of the fit that they test; see `ml.evaluate`.
    bands : rows, those of the empty segment first; within a segment by criterion, pairs last. Every segment
        has the same bands for the same criteria: only the points differ.
    pairs : criteria among the rows that are made of two others.
    segment_by : the category criterion whose bands' labels are the segments.
    choices : what people fixed in this fit.
    woe_share : part of every weight (0-1) that is what the criterion says alone, see `ml.woe`.
    """

    bands: tuple[CardBand, ...]
    calibration: Calibration
    base_rate: float
    trust: float
    belief_deals: float
    deal_count: int
    won_count: int
    verdict: tuple[str, ...] = ()
    evaluation: dict[str, Any] = field(default_factory=dict)
    pairs: tuple[Pair, ...] = ()
    segment_by: str | None = None
    choices: Choices = field(default_factory=Choices)
    woe_share: float = 0.0

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria in the card's order, pairs last."""
        return tuple(dict.fromkeys(band.criterion for band in self.bands))

    @property
    def segments(self) -> tuple[str, ...]:
        """Segments with rows of their own; "" (everybody else) comes first."""
        return tuple(dict.fromkeys(band.segment for band in self.bands))

    def rows(self, segment: str = "") -> dict[str, list[CardBand]]:
        """The rows of one segment by criterion, in order of `band_no`."""
        result: dict[str, list[CardBand]] = {}
        for band in self.bands:
            if band.segment == segment:
                result.setdefault(band.criterion, []).append(band)
        return result

    def criterion_bands(self) -> tuple[CriterionBands, ...]:
        """The bands again in the form that encodes values, one entry per criterion; pairs are not among them."""
        made = {pair.name for pair in self.pairs}
        return tuple(
            CriterionBands(
                name,
                bands[0].kind,
                "number" if any(band.band_type == "range" for band in bands) else "category",
                tuple(Band(b.band, b.band_type, b.lower, b.upper, b.values, b.expert_points) for b in bands),
            )
            for name, bands in self.rows().items()
            if name not in made
        )

    def pair_bands(self) -> dict[str, CriterionBands]:
        """The bands of the pairs by name: cells, then "other"."""
        rows = self.rows()
        return {
            pair.name: CriterionBands(
                pair.name,
                rows[pair.name][0].kind,
                "category",
                tuple(
                    Band(b.band, b.band_type, None, None, b.values, 0, b.band_type == "other") for b in rows[pair.name]
                ),
            )
            for pair in self.pairs
        }

    def locked(self, names: Iterable[str]) -> tuple[dict[str, CriterionBands], tuple[Pair, ...]]:
        """What `Choices` must hold so that these criteria and pairs keep their bands: `locked_bands`, `locked_pairs`.

        Raises
        ------
        ValueError
            The card has no such criterion.
        """
        wanted = set(names)
        if unknown := wanted.difference(self.criteria):
            raise ValueError(
                f"the card has no criterion {', '.join(sorted(unknown))}; it has {', '.join(self.criteria)}"
            )
        pairs = tuple(pair for pair in self.pairs if pair.name in wanted)
        for pair in pairs:
            wanted.update((pair.left, pair.right))
        bands = {bands.name: bands for bands in self.criterion_bands()} | self.pair_bands()
        return {name: bands[name] for name in self.criteria if name in wanted}, pairs

    def band_numbers(self, X: pd.DataFrame) -> pd.DataFrame:
        """`band_no` of every value: rows as in `X`, one int64 column per criterion, pairs last."""
        columns = {
            bands.name: bands.encode(column_of(X, bands.name)).astype(np.int64) + 1 for bands in self.criterion_bands()
        }
        rows = self.rows()
        for pair in self.pairs:
            place = {value: b.band_no for b in rows[pair.name] for value in b.values or ()}
            shape = (len(rows[pair.left]) + 1, len(rows[pair.right]) + 1)
            other = next(b.band_no for b in rows[pair.name] if b.band_type == "other")
            lookup = np.full(shape, other, dtype=np.int64)
            for left in range(1, shape[0]):
                for right in range(1, shape[1]):
                    lookup[left, right] = place.get(pair_value(left, right), other)
            columns[pair.name] = lookup[columns[pair.left], columns[pair.right]]
        return pd.DataFrame(columns, index=X.index)

    def segments_of(self, X: pd.DataFrame) -> pd.Series:
        """Segment whose rows score each row of `X`: "" where the segment criterion's band has none of its own."""
        own = set(self.segments)
        if self.segment_by is None or own <= {""}:
            return pd.Series("", index=X.index, dtype=object, name="segment")
        criterion = next(c for c in self.criterion_bands() if c.name == self.segment_by)
        labels = np.array(
            [b.label if b.band_type == "values" and b.label in own else "" for b in criterion.bands], dtype=object
        )
        codes = criterion.encode(column_of(X, self.segment_by))
        return pd.Series(labels[codes], index=X.index, dtype=object, name="segment")

    def points(self, X: pd.DataFrame) -> pd.DataFrame:
        """Points per criterion: rows as in `X`, one int64 column per criterion, pairs last.

        Raises
        ------
        ValueError
            `X` lacks the column of a criterion, or a number criterion got text.
        """
        numbers = self.band_numbers(X)
        tables = {
            segment: {
                name: np.array([band.points for band in rows], dtype=np.int64)
                for name, rows in self.rows(segment).items()
            }
            for segment in self.segments
        }
        common = tables.get("", {})
        result = {name: common[name][numbers[name].to_numpy() - 1] for name in common}
        if len(tables) > 1:
            segment_of = self.segments_of(X).to_numpy()
            for segment in tables.keys() - {""}:
                inside = np.flatnonzero(segment_of == segment)
                for name, table in tables[segment].items():
                    result[name][inside] = table[numbers[name].to_numpy()[inside] - 1]
        return pd.DataFrame(result, index=X.index, dtype=np.int64)

    def total_points(self, X: pd.DataFrame) -> pd.Series:
        """Sum of the points of all criteria, int64, index as in `X`."""
        return self.points(X).sum(axis=1).astype(np.int64).rename("total_points")

    def win_probability(self, total_points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Win probability of whole total points with its 90 % interval; see `Calibration.win_probability`."""
        return self.calibration.win_probability(total_points)

    def to_document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text: what is landed as a scorecard version."""
        document = asdict(replace(self, choices=Choices()))
        document["bands"] = [
            {**band, "values": None if band["values"] is None else list(band["values"])} for band in document["bands"]
        ]
        document["calibration"] = self.calibration.to_document()
        document["verdict"] = list(self.verdict)
        document["pairs"] = [asdict(pair) for pair in self.pairs]
        document["choices"] = self.choices.to_document()
        return {"format": DOCUMENT_FORMAT, "points_to_double": POINTS_TO_DOUBLE, **document}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Card:
        """The card that `to_document` wrote, also after a trip through JSON.

        Raises
        ------
        ValueError
            The document is of another format.
        """
        if document.get("format") not in READABLE_FORMATS:
            raise ValueError(
                f"scorecard document: format must be {' or '.join(READABLE_FORMATS)}, got {document.get('format')!r}"
            )
        rows: Iterable[Mapping[str, Any]] = document["bands"]
        bands = tuple(
            CardBand(**{**band, "values": None if band["values"] is None else tuple(band["values"])}) for band in rows
        )
        lowest, highest = points_range(bands)
        return cls(
            bands=bands,
            calibration=Calibration.from_document(
                document["calibration"],
                lowest_points=lowest,
                highest_points=highest,
                deal_count=document["deal_count"],
            ),
            base_rate=document["base_rate"],
            trust=document["trust"],
            belief_deals=document["belief_deals"],
            deal_count=document["deal_count"],
            won_count=document["won_count"],
            verdict=tuple(document["verdict"]),
            evaluation=dict(document["evaluation"]),
            pairs=tuple(Pair(**pair) for pair in document.get("pairs", ())),
            segment_by=document.get("segment_by"),
            choices=Choices.from_document(document.get("choices", {})),
            woe_share=document.get("woe_share", 0.0),
        )
