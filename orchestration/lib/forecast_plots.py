"""Draws the forecast: a fan per month beside the target, past forecasts beside what came, coverage and error of the past.

Belongs here: what these plots show and how. Does not: their figures (`forecast_marts`), what all plots have in common (`page_plots`).
No colour says anything alone: marks and patterns differ too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib import forecast_marts
from orchestration.lib.errors import UserError
from orchestration.lib.page_plots import ON_PAPER, bare, check_file, percent_axis, save_drawing

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure, SubFigure

Row = dict[str, Any]
Colours = Mapping[str, str]
SUFFIXES = (".png", ".svg", ".html")
#: Methods as they are called.
METHODS = {
    "forecast": "forecast",
    "model": "model alone, not calibrated",
    "run_rate": "run rate: the last days again",
    "last_year": "the same days of last year",
    "open_win_rate": "open amount x win rate",
    "stage_weighted": "stage-weighted",
    "age_hazard": "life table by age",
}


def draw_forecast(con: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Write all plots of the newest forecast into one file.

    Parameters
    ----------
    con : the published marts, with a forecast in them
    file : .png or .svg

    Raises
    ------
    UserError
        Another suffix, or a folder that does not exist.
    """
    check_file(file, SUFFIXES[:2])
    months = [row for row in forecast_marts.sums(con) if row["period_type"] == "month"]
    if not months:
        raise UserError("the newest forecast has no month: run scoring forecast make")
    tests, coverage, errors = forecast_marts.tests(con), forecast_marts.coverage(con), forecast_marts.errors(con)

    def draw(figure: Figure) -> None:
        if not tests:
            draw_fan(figure, months, ON_PAPER)
            figure.suptitle(fan_title(months), x=0.01, ha="left", fontsize=11)
            return
        upper, middle, lower = figure.subfigures(3, 1, squeeze=False, height_ratios=[3.1, 3.1, 3.0]).flat
        draw_fan(upper, months, ON_PAPER)
        upper.suptitle(fan_title(months), x=0.01, ha="left", fontsize=11)
        left, right = middle.subfigures(1, 2, squeeze=False).flat
        draw_coverage(left, coverage, ON_PAPER)
        left.suptitle("How often the intervals held at past moments", x=0.02, ha="left", fontsize=11)
        draw_errors(right, errors, ON_PAPER)
        right.suptitle("How far off: error over what came (WAPE)", x=0.02, ha="left", fontsize=11)
        draw_tests(lower, tests, ON_PAPER)
        lower.suptitle("What was forecast at past moments, and what came", x=0.01, ha="left", fontsize=11)

    save_drawing(
        draw, file, width=11.0, height=10.4 if tests else 4.0, title=fan_title(months),
        description=" ".join([fan_words(months), *coverage_words(coverage)]),
    )  # fmt: skip


def fan_title(months: Sequence[Row]) -> str:
    """What the fan shows."""
    return f"Won per month, forecast as of {months[0]['forecast_as_of_at']:%Y-%m-%d}"


def fan_words(months: Sequence[Row]) -> str:
    """The fan for those who do not see it."""
    return "; ".join(
        f"{row['period_label']}: 80 % between {amount_text(row['p10'])} and {amount_text(row['p90'])}, median {amount_text(row['p50'])}"
        + (f", target {amount_text(row['target'])}" if row["target"] is not None else "")
        for row in months
    )


def coverage_words(coverage: Sequence[Row]) -> list[str]:
    """A sentence per horizon."""
    horizons = sorted({row["horizon_days"] for row in coverage})
    return [
        f"{horizon} days ahead, of {next(r['count'] for r in coverage if r['horizon_days'] == horizon)} moments: "
        + ", ".join(
            f"the {100 * row['stated']:.0f} % interval held {100 * row['held']:.0f} %"
            for row in coverage
            if row["horizon_days"] == horizon
        )
        for horizon in horizons
    ]


def amount_text(value: Any) -> str:
    """An amount in a few figures: 1,234,567 -> 1.23 m; the unit does not leave its figure."""
    number = float(value or 0)
    for size, unit in ((1e9, "bn"), (1e6, "m"), (1e3, "k")):
        if abs(number) >= size:
            figures = (
                f"{number / size:.2f}"
                if abs(number) < 10 * size
                else f"{number / size:.1f}"
                if abs(number) < 100 * size
                else f"{number / size:.0f}"
            )
            return f"{figures}\u00a0{unit}"
    return f"{number:.0f}"


def amount_axis(axis: Axes, side: str = "y") -> None:
    """Amounts along an axis, in a few figures."""

    def text(value: float, _: int) -> str:
        for size, unit in ((1e9, " bn"), (1e6, " m"), (1e3, " k")):
            if abs(value) >= size:
                return f"{value / size:.3g}{unit}"
        return f"{value:.3g}"

    getattr(axis, f"{side}axis").set_major_formatter(text)


def draw_fan(figure: Figure | SubFigure, months: Sequence[Row], colours: Colours) -> None:
    """A bar per month: 95 % as a line, 80 and 50 % as bars, median, won so far and target as marks."""
    axis = figure.subplots()
    at = list(range(len(months)))

    def values(name: str) -> list[float]:
        return [float(row[name] or 0) for row in months]

    axis.vlines(at, values("p02_5"), values("p97_5"), color=colours["other"], linewidth=1, label="95 % between")
    for low_name, high_name, alpha, label in (
        ("p10", "p90", 0.28, "80 % between"),
        ("p25", "p75", 0.55, "half between"),
    ):
        low, high = values(low_name), values(high_name)
        axis.bar(
            at, [h - p for h, p in zip(high, low, strict=True)], 0.5, bottom=low, color=colours["card"], alpha=alpha, label=label,
            linewidth=0,
        )  # fmt: skip
    axis.hlines(
        values("p50"),
        [x - 0.25 for x in at],
        [x + 0.25 for x in at],
        color=colours["ink"],
        linewidth=2.2,
        label="median",
    )
    won = [(x, value) for x, value in zip(at, values("won"), strict=True) if value]
    if won:
        axis.plot(
            *zip(*won, strict=True), "^", color=colours["ink"], markersize=7, markerfacecolor="none", label="won so far"
        )
    targets = [(x, float(row["target"])) for x, row in zip(at, months, strict=True) if row["target"] is not None]
    if targets:
        xs, ys = zip(*targets, strict=True)
        axis.hlines(
            ys,
            [x - 0.4 for x in xs],
            [x + 0.4 for x in xs],
            color=colours["share-1"],
            linestyle=(0, (4, 2)),
            linewidth=1.8,
        )
        axis.plot([], [], color=colours["share-1"], linestyle=(0, (4, 2)), linewidth=1.8, label="target")
        axis.plot(xs, ys, "D", color=colours["share-1"], markersize=5)
    for x, row in zip(at, months, strict=True):
        axis.annotate(
            amount_text(row["p50"]), (x + 0.27, float(row["p50"] or 0)), xytext=(3, 0), textcoords="offset points", va="center",
            color=colours["ink"], fontsize=8.5,
            # A target near the median would strike the figure out.
            bbox={"boxstyle": "square,pad=0.1", "facecolor": colours["paper"], "edgecolor": "none"},
        )  # fmt: skip
    axis.set_xticks(at, [row["period_label"] for row in months])
    axis.set_xlim(-0.6, len(months) - 0.25)
    axis.set_ylim(bottom=0)
    axis.set_ylabel("won by the end of the month")
    amount_axis(axis)
    _finish(axis, colours, columns=6)


def draw_coverage(figure: Figure | SubFigure, coverage: Sequence[Row], colours: Colours) -> None:
    """Stated against held, with the binomial interval; a mark per horizon."""
    axis = figure.subplots()
    horizons = sorted({row["horizon_days"] for row in coverage})
    stated = sorted({row["stated"] for row in coverage})
    for x, value in enumerate(stated):
        axis.hlines(
            value,
            x - 0.42,
            x + 0.42,
            color=colours["other"],
            linestyle=(0, (4, 2)),
            linewidth=1.6,
            label="as stated" if x == 0 else "",
        )
    for number, horizon in enumerate(horizons):
        mine = [row for row in coverage if row["horizon_days"] == horizon]
        shift = (number - (len(horizons) - 1) / 2) * 0.36
        places = [stated.index(row["stated"]) + shift for row in mine]
        colour = colours["card"] if number == 0 else colours["share-1"]
        axis.vlines(places, [row["low"] for row in mine], [row["high"] for row in mine], color=colour, linewidth=2)
        axis.plot(
            places, [row["held"] for row in mine], "os^D"[number % 4], color=colour, markersize=7, markeredgecolor=colours["paper"],
            label=f"held, {horizon} days ahead ({mine[0]['count']} moments)",
        )  # fmt: skip
        for place, row in zip(places, mine, strict=True):
            axis.annotate(
                f"{100 * row['held']:.0f} %",
                (place, row["held"]),
                xytext=(6, 0),
                textcoords="offset points",
                va="center",
                color=colours["ink"],
                fontsize=8,
                bbox={"facecolor": colours["paper"], "edgecolor": "none", "pad": 0.6},
            )
    axis.set_xticks(range(len(stated)), [f"{100 * value:.0f} %" for value in stated])
    axis.set_xlim(-0.6, len(stated) - 0.3)
    axis.set_ylim(0, 1.04)
    axis.set_xlabel("interval, as stated")
    axis.set_ylabel("held, share of the moments")
    percent_axis(axis, "y")
    _finish(axis, colours, columns=1)


def draw_errors(figure: Figure | SubFigure, errors: Sequence[Row], colours: Colours) -> None:
    """Error of each method, a mark per horizon; the forecast stands first."""
    axis = figure.subplots()
    if not errors:
        axis.set_axis_off()
        axis.text(
            0.5, 0.5, "nothing was won after these moments", ha="center", va="center", color=colours["ink"], fontsize=9
        )
        return
    horizons = sorted({row["horizon_days"] for row in errors})
    ranked = sorted(
        {row["method"] for row in errors},
        key=lambda name: (name != "forecast", min(r["wape"] for r in errors if r["method"] == name), name),
    )
    most = 2.5 * max(sorted(row["wape"] for row in errors)[len(errors) // 2], 0.05)
    for number, horizon in enumerate(horizons):
        mine = [row for row in errors if row["horizon_days"] == horizon]
        ys = [ranked.index(row["method"]) + (number - (len(horizons) - 1) / 2) * 0.36 for row in mine]
        colour = colours["card"] if number == 0 else colours["share-1"]
        axis.plot(
            [min(row["wape"], most) for row in mine], ys, "os^D"[number % 4], color=colour, markersize=7,
            markeredgecolor=colours["paper"], label=f"{horizon} days ahead", clip_on=False,
        )  # fmt: skip
        for y, row in zip(ys, mine, strict=True):
            beyond = row["wape"] > most
            axis.annotate(
                f"{100 * row['wape']:.0f} %" + (" \u2192" if beyond else ""), (min(row["wape"], most), y),
                xytext=(-7, 0) if beyond else (7, 0), textcoords="offset points", va="center", ha="right" if beyond else "left",
                color=colours["ink"], fontsize=8,
            )  # fmt: skip
    axis.axhspan(-0.45, 0.45, color=colours["card"], alpha=0.08, linewidth=0)
    axis.set_yticks(range(len(ranked)), [METHODS[name] for name in ranked])
    axis.set_ylim(len(ranked) - 0.4, -0.6)
    axis.set_xlim(0, most * 1.12)
    axis.set_xlabel("less is better")
    percent_axis(axis, "x")
    _finish(axis, colours, columns=3, grid="x")


def draw_tests(figure: Figure | SubFigure, tests: Sequence[Row], colours: Colours) -> None:
    """Per horizon: the 80 % interval of each past moment, and what came, inside or outside it."""
    horizons = sorted({row["horizon_days"] for row in tests})
    for axis, horizon in zip(figure.subplots(1, len(horizons), squeeze=False)[0], horizons, strict=True):
        mine = [row for row in tests if row["horizon_days"] == horizon]
        at = list(range(len(mine)))
        low, high = ([float(row[name]) for row in mine] for name in ("p10", "p90"))
        axis.bar(
            at, [h - p for h, p in zip(high, low, strict=True)], 0.55, bottom=low, color=colours["card"], alpha=0.28, linewidth=0,
            label="80 % interval as of then",
        )  # fmt: skip
        middle = [float(row["point_amount"]) for row in mine]
        axis.hlines(
            middle, [x - 0.28 for x in at], [x + 0.28 for x in at], color=colours["ink"], linewidth=1.6, label="median"
        )
        for inside, mark, colour, text in (
            (True, "o", colours["card"], "came, inside"),
            (False, "X", colours["share-1"], "came, outside"),
        ):
            chosen = [
                (x, float(row["actual_amount"]))
                for x, row in zip(at, mine, strict=True)
                if bool(row["is_within_80"]) is inside
            ]
            if chosen:
                axis.plot(
                    *zip(*chosen, strict=True),
                    mark,
                    color=colour,
                    markersize=7,
                    markeredgecolor=colours["paper"],
                    linestyle="none",
                    label=text,
                )
        step = max(1, -(-len(mine) // 7))
        axis.set_xticks(at[::step], [f"{row['origin_at']:%Y-%m}" for row in mine][::step])
        axis.set_title(f"won in the {horizon} days after", loc="left", fontsize=9.5)
        axis.set_ylim(bottom=0)
        amount_axis(axis)
        _finish(axis, colours, columns=2)


def _finish(axis: Axes, colours: Colours, *, columns: int, grid: str = "y") -> None:
    bare(axis, grid=grid, colours=colours)
    axis.legend(
        loc="upper center",
        bbox_to_anchor=(0.5, -0.13 if not axis.get_xlabel() else -0.22),
        frameon=False,
        ncols=columns,
        fontsize=8.5,
    )
