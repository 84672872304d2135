"""Draws the forecast: a fan per month beside the target, and past forecasts beside what came. Reads published marts only."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib.errors import UserError
from orchestration.lib.marts_reader import rows

if TYPE_CHECKING:
    import duckdb
    from matplotlib.axes import Axes

SUFFIXES = (".png", ".svg")
_WIDE, _NARROW, _LINE, _TARGET, _WON = "#c6dbef", "#6baed6", "#08519c", "#d94801", "#238b45"


def draw_forecast(con: duckdb.DuckDBPyConnection, file: Path) -> None:
    """Write the plots into a file.

    Parameters
    ----------
    con : the published marts, with a forecast in them
    file : .png or .svg

    Raises
    ------
    UserError
        Another suffix, or a folder that does not exist.
    """
    if file.suffix.lower() not in SUFFIXES:
        raise UserError(f"a chart is a {' or '.join(SUFFIXES)} file (value: {file.name})")
    if not file.absolute().parent.is_dir():
        raise UserError(f"the chart's folder does not exist: {file.absolute().parent}")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    months = rows(
        con,
        """
        select made.period_label, made.forecast_as_of_at, made.p10, made.p25, made.p50, made.p75, made.p90, won.mean_amount as won,
            targets.amount as target
        from forecast_snapshots as made
        left join forecast_snapshots as won
            on won.is_newest and won.method = 'forecast' and won.part = 'won' and won.dimension = 'all'
            and won.period_label = made.period_label
        left join (select period_label, sum(target_amount) as amount from pipeline_forecast group by period_label) as targets
            on made.period_label = targets.period_label
        where made.is_newest and made.method = 'forecast' and made.part = 'total' and made.dimension = 'all'
            and made.period_type = 'month'
        order by made.period_start
        """,
    )
    tests = rows(
        con,
        "select * from forecast_backtest where dimension = 'all' and method = 'forecast' order by horizon_days, origin_at",
    )
    horizons = sorted({row["horizon_days"] for row in tests})
    figure = Figure(figsize=(9.0, 3.6 * (1 + len(horizons))), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots(1 + len(horizons), 1, squeeze=False)[:, 0]
    _draw_months(axes[0], months)
    for axis, horizon in zip(axes[1:], horizons, strict=True):
        _draw_tests(axis, [row for row in tests if row["horizon_days"] == horizon], horizon)
    # The same figures give the same bytes.
    figure.savefig(file, dpi=110, metadata={"Date": None} if file.suffix.lower() == ".svg" else None)


def _draw_months(axis: Axes, months: list[dict[str, Any]]) -> None:
    at = list(range(len(months)))

    def values(name: str) -> list[float]:
        return [float(row[name] or 0) / 1000 for row in months]

    low, high = values("p10"), values("p90")
    axis.bar(at, [h - p for h, p in zip(high, low, strict=True)], 0.55, bottom=low, color=_WIDE, label="80 % between")
    low, high = values("p25"), values("p75")
    axis.bar(at, [h - p for h, p in zip(high, low, strict=True)], 0.55, bottom=low, color=_NARROW, label="half between")
    axis.hlines(
        values("p50"), [x - 0.275 for x in at], [x + 0.275 for x in at], color=_LINE, linewidth=2, label="median"
    )
    axis.scatter(at, values("won"), color=_WON, marker="^", zorder=3, label="won so far")
    targets = [(x, float(row["target"]) / 1000) for x, row in zip(at, months, strict=True) if row["target"] is not None]
    if targets:
        xs, ys = zip(*targets, strict=True)
        axis.hlines(ys, [x - 0.4 for x in xs], [x + 0.4 for x in xs], color=_TARGET, linestyle="--", label="target")
    axis.set_xticks(at, [row["period_label"] for row in months])
    axis.set_title(f"Won per month, forecast as of {months[0]['forecast_as_of_at']:%Y-%m-%d}", loc="left")
    _finish(axis)


def _draw_tests(axis: Axes, tests: list[dict[str, Any]], horizon: int) -> None:
    at = list(range(len(tests)))
    low, high = ([float(row[name]) / 1000 for row in tests] for name in ("p10", "p90"))
    axis.vlines(at, low, high, color=_NARROW, linewidth=6, label="80 % interval as of then")
    axis.scatter(
        at,
        [float(row["point_amount"]) / 1000 for row in tests],
        color=_LINE,
        marker="_",
        s=90,
        zorder=3,
        label="median",
    )
    held = [row["is_within_80"] for row in tests]
    for inside, colour, text in ((True, _WON, "came, inside"), (False, _TARGET, "came, outside")):
        chosen = [
            (x, float(row["actual_amount"]) / 1000)
            for x, row in zip(at, tests, strict=True)
            if row["is_within_80"] is inside
        ]
        if chosen:
            xs, ys = zip(*chosen, strict=True)
            axis.scatter(xs, ys, color=colour, zorder=4, s=26, label=text)
    step = max(1, len(tests) // 12)
    axis.set_xticks(at[::step], [f"{row['origin_at']:%Y-%m}" for row in tests][::step])
    axis.set_title(
        f"Won in the {horizon} days after: the 80 % interval held {sum(held)} of {len(held)} times", loc="left"
    )
    _finish(axis)


def _finish(axis: Axes) -> None:
    axis.set_ylabel("amount, thousands")
    axis.set_ylim(bottom=0)
    axis.grid(axis="y", color="#e0e0e0", linewidth=0.6)
    axis.set_axisbelow(True)
    for side in ("top", "right"):
        axis.spines[side].set_visible(False)
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), frameon=False, fontsize=8)
