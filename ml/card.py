"""What a scorecard is: its specification, its bands, its points, its win probability and its document.

Belongs here: plain frozen data, how a value finds its band, how points become a probability, the JSON form.
Does not: finding bands (`ml.banding`), fitting weights (`ml.scorecard`), calibrating (`ml.calibration`).
The warehouse scores with the same rules in SQL; the two must agree to the integer.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
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

DOCUMENT_FORMAT = "scorecard/1"


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
    """

    label: str | None = None
    lower: float | None = None
    upper: float | None = None
    values: tuple[str, ...] | None = None
    points: int = 0


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
    """

    name: str
    kind: Kind = "explicit"
    value_type: ValueType = "number"
    bands: tuple[BandSpec, ...] | None = None
    missing_points: int = 0
    monotone: Direction | None = None
    other_points: int = 0
    whole_numbers: bool | None = None

    def __post_init__(self) -> None:
        if self.kind not in ("explicit", "implicit"):
            raise ValueError(f"criterion {self.name}: kind must be explicit or implicit, got {self.kind!r}")
        if self.value_type not in ("number", "category"):
            raise ValueError(f"criterion {self.name}: value_type must be number or category, got {self.value_type!r}")
        if self.monotone not in (None, "increasing", "decreasing"):
            raise ValueError(
                f"criterion {self.name}: monotone must be increasing, decreasing or None, got {self.monotone!r}"
            )
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
class CardSpec:
    """All criteria and what is believed about the experts, before any data.

    Attributes
    ----------
    belief_deals : deals that one expert belief is worth: the centre of what is learnt, or the fixed figure.
    belief_grid : strengths that are tried; empty = `belief_deals` is fixed.
    trust, trust_sd : slope on all expert points before any deal, and its standard deviation (0 = fixed).
    expected_win_rate : share won (0-1) to expect before the first deal closes.
    expected_win_rate_deals : deals that this expectation is worth.
    max_bands, min_band_share : limits of bands that are found automatically; share of the known values, 0-1.
    max_categories : most values of a category that get a band of their own when bands are found.
    """

    criteria: tuple[CriterionSpec, ...]
    belief_deals: float = 40.0
    belief_grid: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0, 160.0)
    trust: float = 0.7
    trust_sd: float = 0.3
    expected_win_rate: float = 0.25
    expected_win_rate_deals: float = 10.0
    max_bands: int = 5
    min_band_share: float = 0.05
    max_categories: int = 12

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


# --------------------------------------------------------------------------- the fitted card


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


@dataclass(frozen=True)
class Calibration:
    """``logit(win probability) = intercept + slope * total points``, with the covariance of the two."""

    intercept: float
    slope: float
    var_intercept: float
    covariance: float
    var_slope: float

    def win_probability(self, total_points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Probability and its central 90 % interval, each of the shape of `total_points`.

        The closed form that the warehouse uses: ``1 / (1 + exp(-(a + b * points)))``, and the same at
        ``a + b * points -+ 1.645 * sqrt(va + 2 * points * cab + points^2 * vb)``.
        """
        points = np.asarray(total_points, dtype=float)
        centre = self.intercept + self.slope * points
        variance = self.var_intercept + 2 * points * self.covariance + points**2 * self.var_slope
        half = Z_90 * np.sqrt(np.maximum(variance, 0.0))
        return _sigmoid(centre), _sigmoid(centre - half), _sigmoid(centre + half)


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

    @property
    def criteria(self) -> tuple[str, ...]:
        """Names of the criteria in the card's order."""
        return tuple(dict.fromkeys(band.criterion for band in self.bands))

    def criterion_bands(self) -> tuple[CriterionBands, ...]:
        """The bands again in the form that encodes values, one entry per criterion."""
        rows: dict[str, list[CardBand]] = {}
        for band in self.bands:
            rows.setdefault(band.criterion, []).append(band)
        return tuple(
            CriterionBands(
                name,
                bands[0].kind,
                "number" if any(band.band_type == "range" for band in bands) else "category",
                tuple(Band(b.band, b.band_type, b.lower, b.upper, b.values, b.expert_points) for b in bands),
            )
            for name, bands in rows.items()
        )

    def band_numbers(self, X: pd.DataFrame) -> pd.DataFrame:
        """`band_no` of every value: rows as in `X`, one column per criterion."""
        return pd.DataFrame(
            {
                bands.name: bands.encode(column_of(X, bands.name)).astype(np.int64) + 1
                for bands in self.criterion_bands()
            },
            index=X.index,
        )

    def points(self, X: pd.DataFrame) -> pd.DataFrame:
        """Points per criterion: rows as in `X`, one int64 column per criterion.

        Raises
        ------
        ValueError
            `X` lacks the column of a criterion, or a number criterion got text.
        """
        numbers = self.band_numbers(X)
        table: dict[str, list[int]] = {}
        for band in self.bands:
            table.setdefault(band.criterion, []).append(band.points)
        return pd.DataFrame(
            {name: np.asarray(table[name], dtype=np.int64)[numbers[name].to_numpy() - 1] for name in table},
            index=X.index,
        )

    def total_points(self, X: pd.DataFrame) -> pd.Series:
        """Sum of the points of all criteria, int64, index as in `X`."""
        return self.points(X).sum(axis=1).astype(np.int64).rename("total_points")

    def win_probability(self, total_points: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Win probability of whole total points with its 90 % interval; see `Calibration.win_probability`."""
        return self.calibration.win_probability(total_points)

    def to_document(self) -> dict[str, Any]:
        """Plain dicts, lists, numbers and text: what is landed as a scorecard version."""
        document = asdict(self)
        document["bands"] = [
            {**band, "values": None if band["values"] is None else list(band["values"])} for band in document["bands"]
        ]
        document["verdict"] = list(self.verdict)
        return {"format": DOCUMENT_FORMAT, "points_to_double": POINTS_TO_DOUBLE, **document}

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Card:
        """The card that `to_document` wrote, also after a trip through JSON.

        Raises
        ------
        ValueError
            The document is of another format.
        """
        if document.get("format") != DOCUMENT_FORMAT:
            raise ValueError(f"scorecard document: format must be {DOCUMENT_FORMAT}, got {document.get('format')!r}")
        bands: Iterable[Mapping[str, Any]] = document["bands"]
        return cls(
            bands=tuple(
                CardBand(**{**band, "values": None if band["values"] is None else tuple(band["values"])})
                for band in bands
            ),
            calibration=Calibration(**document["calibration"]),
            base_rate=document["base_rate"],
            trust=document["trust"],
            belief_deals=document["belief_deals"],
            deal_count=document["deal_count"],
            won_count=document["won_count"],
            verdict=tuple(document["verdict"]),
            evaluation=dict(document["evaluation"]),
        )
