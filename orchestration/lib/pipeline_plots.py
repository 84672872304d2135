"""Draws the waterfall of the open pipeline: from its start through each bucket to its end.

Belongs here: what the plot shows and how. Does not: the steps (`pipeline_changes`), what all plots have in common (`page_plots`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib.forecast_plots import amount_axis, amount_text
from orchestration.lib.page_plots import ON_PAPER, bare, check_file, save_drawing
from orchestration.lib.wording import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure, SubFigure

Row = dict[str, Any]
#: Groups that have a drawing of their own; the table has all.
MOST_GROUPS = 8


def groups_drawn(steps: Sequence[Row]) -> list[str]:
    """The groups with the largest pipeline at either end, at most `MOST_GROUPS`, in the order of their size."""
    size: dict[str, float] = {}
    for row in steps:
        if row["step"] in ("start", "end"):
            size[row["group"]] = max(size.get(row["group"], 0.0), float(row["amount"]))
    return sorted(size, key=lambda name: (-size[name], name))[:MOST_GROUPS]


def waterfall_words(steps: Sequence[Row]) -> str:
    """The waterfall of one group for those who do not see it."""
    return "; ".join(
        f"{row['step'].replace('_', ' ')} {'' if row['step'] in ('start', 'end') else '+' if row['amount'] > 0 else ''}"
        f"{amount_text(row['amount'])} ({counted(row['deals'], 'deal')})"
        for row in steps
    )


def draw_changes(steps: Sequence[Row], file: Path, *, title: str) -> None:
    """Write the waterfall, or those of the largest groups, into a .png or .svg file.

    Raises
    ------
    UserError
        Another suffix, or a folder that does not exist.
    """
    check_file(file, (".png", ".svg"))
    groups = groups_drawn(steps)

    def draw(figure: Figure) -> None:
        figure.suptitle(title, x=0.01, ha="left", fontsize=11)
        draw_waterfalls(figure, steps, groups, ON_PAPER)

    lines = -(-len(groups) // 2) if len(groups) > 1 else 1
    words = ". ".join(f"{name}: {waterfall_words([r for r in steps if r['group'] == name])}" for name in groups)
    save_drawing(
        draw,
        file,
        width=11.0,
        height=4.4 if lines == 1 else 3.0 * lines + 0.4,
        title=title,
        description=words.removeprefix(": "),
    )


def draw_waterfalls(
    figure: Figure | SubFigure, steps: Sequence[Row], groups: Sequence[str], colours: Mapping[str, str]
) -> None:
    """One waterfall, or one per group in two columns.

    Parameters
    ----------
    steps : rows of `pipeline_changes.waterfall`
    """
    columns = 1 if len(groups) == 1 else 2
    lines = -(-len(groups) // columns)
    places = list(figure.subplots(lines, columns, squeeze=False).flat)
    for axis in places[len(groups) :]:
        axis.set_axis_off()
    for axis, name in zip(places, groups, strict=False):
        mine = [row for row in steps if row["group"] == name]
        amounts = [float(row["amount"]) for row in mine]
        levels = [0.0]
        for row, amount in zip(mine, amounts, strict=True):
            levels.append(amount if row["step"] in ("start", "end") else levels[-1] + amount)
        levels = levels[1:]
        least, most = min(levels), max(levels)
        # Changes of some per cent are not seen on an axis that begins at 0; where it begins is said.
        floor = max(0.0, least - 0.6 * (most - least)) if 0 < most - least < 0.5 * most else 0.0
        for x, (row, amount, level) in enumerate(zip(mine, amounts, levels, strict=True)):
            is_end = row["step"] in ("start", "end")
            low = floor if is_end else min(level, level - amount)
            height = level - floor if is_end else abs(amount)
            colour = colours["other"] if is_end else colours["card"] if amount >= 0 else colours["share-1"]
            axis.bar(
                x, height, 0.62, bottom=low, color=colour, linewidth=0.8, edgecolor=colour, alpha=0.85,
                hatch=None if is_end or amount >= 0 else "////", fill=is_end or amount >= 0,
            )  # fmt: skip
            if not is_end and amount == 0:
                axis.hlines(level, x - 0.31, x + 0.31, color=colours["ink"], linewidth=1.5)
            text = amount_text(amount) if is_end else f"{'+' if amount > 0 else ''}{amount_text(amount)}"
            axis.annotate(
                text.replace("-", "\u2212"), (x, low + height), xytext=(0, 3), textcoords="offset points", ha="center",
                va="bottom", fontsize=8, color=colours["ink"],
            )  # fmt: skip
            if x + 1 < len(mine):
                axis.hlines(level, x + 0.31, x + 0.69, color=colours["other"], linewidth=0.8)
        axis.set_xticks(range(len(mine)), [row["step"].replace("_", "\n") for row in mine], fontsize=8)
        axis.set_xlim(-0.6, len(mine) - 0.4)
        axis.set_ylim(floor, most + 0.12 * (most - floor or 1.0))
        axis.set_ylabel("open pipeline" + (f"; axis begins at {amount_text(floor)}" if floor else ""), fontsize=8)
        amount_axis(axis)
        axis.locator_params(axis="y", nbins=6)
        if name:
            axis.set_title(name, loc="left", fontsize=9.5)
        bare(axis, grid="y", colours=colours)
