"""The plots of a model card, each as one piece of SVG that is put into the page.

Belongs here: what a plot shows and how. Does not: where its figures come from and what is said about them (`model_card`); what all
plots have in common (`page_plots`).
Colours are names: the page's style sheet says what they are in light and dark. Text stays text, so that it can be read
aloud, searched and printed; the same figures give the same bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from orchestration.lib.page_plots import COLOURS, FONT_SIZE, bare, percent_axis, svg_for_page

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

#: Upper limits (per cent of data) of the first four colours of a weight.
SHARE_LIMITS = (20.0, 40.0, 60.0, 80.0)

#: Marks of the segments within one plot: more are not told apart, further ones get plots of their own.
SEGMENT_MARKS = ("o", "s", "^", "v")

#: Characters of a label that fit beside a plot; the table below the plots has all of it.
LABEL_LENGTH = 20

#: Inches; the page scales the drawing.
WEIGHTS_WIDTH = 4.4


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its interval; `low` and `high` None = not known."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class ReliabilityBin:
    """Deals of like win probability: promised and seen share won (0-1), its interval, number of deals."""

    promised: float
    seen: Estimate
    deal_count: int


@dataclass(frozen=True)
class WeightMark:
    """One weight, in points: of which band and which segment (place in the legend), and what the experts gave."""

    band: str
    segment_no: int
    points: Estimate
    expert_points: float | None
    data_share_pct: float
    is_pinned: bool = False


def share_class(data_share_pct: float) -> int:
    """Colour of a share of data, 1 (all belief) to 5 (all data)."""
    return 1 + sum(data_share_pct >= limit for limit in SHARE_LIMITS)


def reliability_svg(bins: Sequence[ReliabilityBin], *, name: str, title: str, description: str) -> str:
    """Promised against seen win rate with intervals, above the number of deals of each bin."""

    def draw(figure: Figure) -> None:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=[3.4, 1])
        ends = [
            e for item in bins for e in (item.promised, item.seen.value, item.seen.low, item.seen.high) if e is not None
        ]
        least, top = math.floor(10 * min(ends)) / 10, math.ceil(10 * max(ends)) / 10
        span = top - least
        upper.plot([least, top], [least, top], color=COLOURS["other"], linestyle=(0, (4, 3)), linewidth=1.2)
        upper.annotate(
            "as promised",
            (top, least + 0.72 * span),
            xytext=(-4, 0),
            textcoords="offset points",
            ha="right",
            color=COLOURS["other"],
        )
        for item in bins:
            _whisker(upper, item.promised, item.seen, colour=COLOURS["card"])
            upper.plot(
                item.promised,
                item.seen.value,
                "o",
                color=COLOURS["card"],
                markersize=6,
                markeredgecolor=COLOURS["paper"],
            )
        upper.set_xlim(least, top)
        upper.set_ylim(least - 0.01 * span, top + 0.01 * span)
        upper.set_ylabel("share won, seen")
        most = max(item.deal_count for item in bins)
        # Bars as wide as the gap to the nearest bin allows, so that neighbours never cover each other.
        places = sorted(item.promised for item in bins)
        gaps = [right - left for left, right in pairwise(places) if right > left]
        width = max(min([span / 30, *(0.8 * gap for gap in gaps)]), span / 200)
        lower.bar([b.promised for b in bins], [b.deal_count for b in bins], width=width, color=COLOURS["card"])
        lower.set_ylim(0, most * 1.15)
        lower.set_yticks([0, most])
        lower.set_yticklabels(["0", f"{most:,}"])
        lower.set_ylabel("deals")
        lower.set_xlabel("win probability, promised")
        for axes, sides in ((upper, "xy"), (lower, "x")):
            percent_axis(axes, sides)
            bare(axes)

    return svg_for_page(draw, width=4.6, height=4.1, name=name, title=title, description=description)


def gains_svg(
    lines: Sequence[tuple[str, Sequence[tuple[float, float]]]], *, name: str, title: str, description: str
) -> str:
    """Share of the won deals in the best x % of deals.

    Parameters
    ----------
    lines : label and (top_pct, won_share_pct) points, 0-100, without the origin; the first is the card.
    """

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.plot([0, 100], [0, 100], color=COLOURS["other"], linestyle=(0, (4, 3)), linewidth=1.2)
        axes.annotate("random order", (62, 62), xytext=(6, -10), textcoords="offset points", color=COLOURS["other"])
        for number, (label, points) in enumerate(lines):
            x, y = zip((0.0, 0.0), *points, strict=True)
            colour = COLOURS["card"] if number == 0 else COLOURS["ink"]
            axes.plot(
                x, y, color=colour, marker="o" if number == 0 else None, markersize=4, linewidth=2 if number == 0 else 1
            )
            at = min(len(points), 2 + number)
            # The card's name below its line, the others' above theirs: they lie close together.
            below = number == 0 and len(lines) > 1
            axes.annotate(
                label,
                (x[at], y[at]),
                xytext=(6, -11) if below else (-5, 5),
                textcoords="offset points",
                ha="left" if below else "right",
                color=colour,
            )
        axes.set_xlim(0, 100)
        axes.set_ylim(0, 102)
        axes.set_xlabel("best deals by points, % of all")
        axes.set_ylabel("% of the won deals among them")
        bare(axes)

    return svg_for_page(draw, width=4.6, height=4.1, name=name, title=title, description=description)


def probability_svg(
    points: Sequence[int],
    probability: Sequence[float],
    low: Sequence[float],
    high: Sequence[float],
    base_rate: float,
    *,
    name: str,
    title: str,
    description: str,
) -> str:
    """Win probability (0-1) by total points with its band, and the base rate."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.fill_between(points, low, high, color=COLOURS["card"], alpha=0.22, linewidth=0)
        axes.plot(points, probability, color=COLOURS["card"], linewidth=2)
        axes.axhline(base_rate, color=COLOURS["other"], linestyle=(0, (4, 3)), linewidth=1.2)
        axes.annotate(
            f"base rate {100 * base_rate:.0f} %",
            (points[0], base_rate),
            xytext=(4, 4),
            textcoords="offset points",
            color=COLOURS["other"],
        )
        if len(points) > 1:
            axes.set_xlim(points[0], points[-1])
        axes.set_ylim(0, min(1.0, max(0.2, math.ceil(max(high) * 10) / 10)))
        axes.locator_params(axis="x", integer=True)
        axes.set_xlabel("total points")
        axes.set_ylabel("win probability")
        percent_axis(axes, "y")
        bare(axes)

    return svg_for_page(draw, width=4.6, height=3.4, name=name, title=title, description=description)


def weights_svg(
    marks: Sequence[WeightMark], *, limits: tuple[float, float], name: str, title: str, description: str
) -> str:
    """Points of one criterion per band with intervals; several segments stand under each other within a band.

    Parameters
    ----------
    limits : of the points' axis, the same for all criteria so that they can be compared; an interval that leaves them
        ends in an arrow.
    """
    bands = list(dict.fromkeys(mark.band for mark in marks))
    segments = max(mark.segment_no for mark in marks) + 1
    step = 0.78 / segments

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
        for mark in marks:
            y = bands.index(mark.band) + (mark.segment_no - (segments - 1) / 2) * step
            colour = COLOURS[f"share-{share_class(mark.data_share_pct)}"]
            if mark.points.low is not None and mark.points.high is not None:
                low, high = (min(max(end, limits[0]), limits[1]) for end in (mark.points.low, mark.points.high))
                axes.plot([low, high], [y, y], color=colour, linewidth=2.4, solid_capstyle="butt")
                for end, limit, arrow in ((mark.points.low, limits[0], "<"), (mark.points.high, limits[1], ">")):
                    if (end < limit) if arrow == "<" else (end > limit):
                        axes.plot(limit, y, arrow, color=colour, markersize=4, clip_on=False)
            shape = SEGMENT_MARKS[mark.segment_no % len(SEGMENT_MARKS)]
            axes.plot(
                mark.points.value, y, shape, color=colour, markersize=6, markeredgecolor=COLOURS["paper"], clip_on=False
            )
            if mark.is_pinned:
                axes.plot(
                    mark.points.value,
                    y,
                    "o",
                    markersize=12,
                    markerfacecolor="none",
                    markeredgecolor=COLOURS["ink"],
                    markeredgewidth=1,
                    clip_on=False,
                )
            if mark.expert_points is not None:
                axes.plot(
                    mark.expert_points,
                    y,
                    "D",
                    markersize=7.5,  # round the fitted mark where both are equal, so that neither hides the other
                    markerfacecolor="none",
                    markeredgecolor=COLOURS["ink"],
                    markeredgewidth=1,
                    clip_on=False,
                )
        axes.set_yticks(range(len(bands)), [_shortened(band) for band in bands])
        axes.set_ylim(len(bands) - 0.45, -0.55)
        axes.set_xlim(*limits)
        bare(axes, grid="x")
        # Margins by hand: the axis lies at the same place in every plot, so that plots can be compared.
        figure.subplots_adjust(left=1.36 / WEIGHTS_WIDTH, right=1 - 0.2 / WEIGHTS_WIDTH, top=1, bottom=0.24 / height)

    rows = len(bands) * (1 + 0.45 * (segments - 1))
    height = 0.3 + 0.27 * rows
    return svg_for_page(
        draw, width=WEIGHTS_WIDTH, height=height, name=name, title=title, description=description, layout=None
    )


def differences_svg(rows: Sequence[tuple[str, Estimate]], *, unit: str, name: str, title: str, description: str) -> str:
    """Differences to other models with intervals; right of zero the card is the better one."""

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        axes.axvline(0, color=COLOURS["ink"], linewidth=0.8)
        for y, (_, estimate) in enumerate(rows):
            if estimate.low is not None and estimate.high is not None:
                axes.plot([estimate.low, estimate.high], [y, y], color=COLOURS["card"], linewidth=2.4)
            axes.plot(estimate.value, y, "o", color=COLOURS["card"], markersize=7, markeredgecolor=COLOURS["paper"])
        axes.set_yticks(range(len(rows)), [label for label, _ in rows])
        axes.set_ylim(len(rows) - 0.4, -0.6)
        ends = [e for _, est in rows for e in (est.value, est.low, est.high) if e is not None]
        lowest, highest = min(*ends, 0.0), max(*ends, 0.0)
        room = 0.08 * max(highest - lowest, 1e-3)
        axes.set_xlim(lowest - room, highest + room)
        axes.set_xlabel(f"{unit}; right of 0 the card is better")
        bare(axes, grid="x")

    return svg_for_page(draw, width=4.6, height=0.7 + 0.3 * len(rows), name=name, title=title, description=description)


def series_svg(
    labels: Sequence[str],
    lines: Sequence[tuple[str, Sequence[Estimate | None]]],
    *,
    unit: str,
    reference: float | None,
    name: str,
    title: str,
    description: str,
) -> str:
    """One figure at several moments; the first line is the card with its intervals, the others are marks."""
    shapes = ("o", "s", "^", "D", "v", "P", "X")

    def draw(figure: Figure) -> None:
        axes = figure.subplots()
        for number, (label, estimates) in enumerate(lines):
            known = [(x, e) for x, e in enumerate(estimates) if e is not None]
            # Side by side, so that intervals and marks of one moment do not hide each other.
            shift = (number - (len(lines) - 1) / 2) * min(0.12, 0.6 / len(lines))
            colour = COLOURS["card"] if number == 0 else COLOURS["ink"]
            for x, estimate in known:
                _whisker(axes, x + shift, estimate, colour=colour)
            axes.plot(
                [x + shift for x, _ in known],
                [e.value for _, e in known],
                shapes[number % len(shapes)],
                color=colour if number < 2 else COLOURS["other"],
                markerfacecolor=colour if number == 0 else "none",
                markersize=7 if number == 0 else 5.5,
                label=label,
            )
        if reference is not None:
            axes.axhline(reference, color=COLOURS["other"], linestyle=(0, (4, 3)), linewidth=1.2)
        axes.set_xticks(range(len(labels)), labels)
        axes.set_xlim(-0.5, len(labels) - 0.5)
        axes.set_ylabel(unit)
        axes.margins(y=0.12)
        axes.legend(frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.12), ncols=2, fontsize=FONT_SIZE)
        bare(axes, grid="y")

    return svg_for_page(draw, width=4.6, height=3.4, name=name, title=title, description=description)


# --------------------------------------------------------------------------- drawing


def _whisker(axes: Axes, x: float, estimate: Estimate, *, colour: str) -> None:
    if estimate.low is not None and estimate.high is not None:
        axes.plot([x, x], [estimate.low, estimate.high], color=colour, linewidth=1.6, solid_capstyle="butt")


def _shortened(label: str) -> str:
    text = " ".join(label.split())
    return text if len(text) <= LABEL_LENGTH else text[: LABEL_LENGTH - 1].rstrip() + "\u2026"
