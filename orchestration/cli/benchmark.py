"""`scoring benchmark`: options, and how the figures look. What is measured is in `orchestration.lib.benchmark`."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import click

from orchestration.cli import screens
from orchestration.lib.benchmark import (
    MIN_ACCOUNTS,
    MIN_EVENTS,
    BenchmarkReport,
    Comparison,
    Measurement,
    Sizes,
    run_benchmark,
    spread,
    write_report,
)
from orchestration.lib.benchmark_fit import MIN_DEALS, FitReport, run_fit_benchmark, write_fit_report
from orchestration.lib.workspace import Workspace

_LISTED_MODELS = 12
_FIGURES = (("wall_seconds", "wall, s"), ("cpu_seconds", "CPU, s"), ("peak_mib", "peak memory, MiB"))
_DEFAULT = Sizes()


@click.command()
@click.option(
    "--accounts",
    default=_DEFAULT.accounts,
    show_default=True,
    type=click.IntRange(MIN_ACCOUNTS),
    help="Companies.",
)
@click.option(
    "--events",
    default=_DEFAULT.events,
    show_default=True,
    type=click.IntRange(MIN_EVENTS),
    help="Touchpoints, about.",
)
@click.option(
    "--months",
    default=_DEFAULT.months,
    show_default=True,
    type=click.IntRange(1),
    help="Length of the history.",
)
@click.option("--seed", default=_DEFAULT.seed, show_default=True, type=int, help="The only source of chance.")
@click.option(
    "--new-records",
    default=_DEFAULT.new_records,
    show_default=True,
    type=click.IntRange(100),
    help="What lands before a tick.",
)
@click.option("--runs", default=1, show_default=True, type=click.IntRange(1), help="How often both are measured.")
@click.option("--keep", is_flag=True, help="Leave the generated workspace where it is.")
@click.option(
    "--json",
    "json_file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write all figures to this file.",
)
@click.option("--fit", "fit_only", is_flag=True, help="Measure the fit of a scorecard instead of refreshes.")
@click.option("--deals", default=1_000_000, show_default=True, type=click.IntRange(MIN_DEALS), help="With --fit.")
@click.option("--criteria", default=40, show_default=True, type=click.IntRange(1, 500), help="With --fit.")
@click.pass_obj
def benchmark(
    workspace: Workspace,
    accounts: int,
    events: int,
    months: int,
    seed: int,
    new_records: int,
    runs: int,
    keep: bool,
    json_file: Path | None,
    fit_only: bool,
    deals: int,
    criteria: int,
) -> None:
    """Measure time and memory against one hand-written script.

    Generates a company in a directory of its own (inside the workspace where there is one, else among the system's temporary
    files; it is removed at the end), refreshes it as whole processes, has one DuckDB script score the same files, checks that both
    say the same, and prints the cost of each. The workspace's own data are neither read nor changed.

    With --fit: the fit of a scorecard on simulated deals, beside bare scikit-learn on the same bands' indicators.
    """
    if fit_only:
        report_of_fit = run_fit_benchmark(deals, criteria, seed=seed, progress=lambda text: click.echo(text, err=True))
        if json_file is not None:
            write_fit_report(report_of_fit, json_file)
        _show_fit(report_of_fit)
        return
    sizes = Sizes(accounts, events, months, seed, new_records)
    parent = workspace.home if workspace.home.is_dir() else None
    directory = Path(tempfile.mkdtemp(prefix="benchmark-", dir=parent))
    try:
        report = run_benchmark(directory, sizes, runs=runs, progress=lambda text: click.echo(text, err=True))
    finally:
        if not keep:
            _remove(directory)
    if json_file is not None:
        write_report(report, json_file)
    _show(report)
    if keep:
        click.echo(f"Kept: {directory}")


def _remove(directory: Path) -> None:
    # Published snapshots are read-only folders, which have to be writable to be removed.
    for folder in directory.rglob("*"):
        if folder.is_dir() and not folder.is_symlink():
            folder.chmod(0o755)
    shutil.rmtree(directory)


def _show(report: BenchmarkReport) -> None:
    out = screens.console()
    counts = report.full[-1].counts
    out.print()
    costs = screens.table(
        "Cost of whole processes" + (", least / median / most of the runs" if len(report.full) > 1 else ""),
        "", *(f">{label}" for _, label in _FIGURES),
    )  # fmt: skip
    kinds = (("full build", report.full), (f"tick of {report.sizes.new_records:,} new records", report.ticks))
    for title, comparisons in kinds:
        costs.add_row(f"{title}: scoring refresh", *_cells([c.refresh for c in comparisons]))
        costs.add_row(f"{title}: hand-written script, all anew", *_cells([c.baseline for c in comparisons]))
        costs.add_row(f"{title}: ratio", *_ratio_cells(comparisons))
    costs.add_row("beside: generating the company", *_cells([report.generation]))
    costs.add_row("beside: first refresh, with the fit", *_cells([report.first_refresh]))
    out.print(costs)

    names = list(dict.fromkeys(name for c in [*report.full, *report.ticks] for name, _ in c.refresh.steps))
    steps = screens.table("Where a refresh spends its wall time, s (median)", "step", ">full build", ">tick")
    for name in names:
        steps.add_row(name, *(_number(_median(comparisons, "steps", name)) for _, comparisons in kinds))
    out.print(steps)

    for title, attribute, count in (
        ("Slowest dbt models, s (median)", "models", _LISTED_MODELS),
        ("Loading by table, s (median; without the first file of each load)", "tables", 5),
    ):
        listed = screens.table(title, attribute.removesuffix("s"), ">full build", ">tick")
        medians = {name: _median(report.full, attribute, name) for name in getattr(report.full[-1].refresh, attribute)}
        for name in sorted(medians, key=lambda name: -medians[name])[:count]:
            listed.add_row(name, _number(medians[name]), _number(_median(report.ticks, attribute, name)))
        out.print(listed)

    out.print("Rows: " + ", ".join(f"{count:,} {name}" for name, count in counts.items()))
    out.print("Files, MiB: " + ", ".join(f"{size / 2**20:,.0f} {name}" for name, size in report.bytes_on_disk.items()))
    loads = spread([m.load_average for c in [*report.full, *report.ticks] for m in (c.refresh, c.baseline)])
    machine = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in report.environment.items())
    out.print(f"On: {machine}")
    out.print(f"Load average before each process: {loads[0]:.1f} to {loads[2]:.1f}")
    out.print(
        "Every account's state, points, cell, rank and reasons, every contribution and every deal's points were equal on both sides."
    )


def _show_fit(report: FitReport) -> None:
    out = screens.console()
    out.print()
    costs = screens.table(
        f"Fit of {report.deals:,} closed deals x {report.criteria} criteria ({report.bands:,} bands)",
        "", ">work, s", ">wall, s", ">CPU, s", ">peak memory, MiB", ">log loss",
    )  # fmt: skip
    titles = {
        "fit": "ours, with calibration and points out of fold",
        "fit_with_evaluation": "ours, with the evaluation on later deals too",
        "scikit_learn": "bare LogisticRegression on the same indicators",
    }
    for cost in report.costs:
        figures = (cost.work_seconds, cost.wall_seconds, cost.cpu_seconds, cost.peak_mib)
        costs.add_row(titles[cost.mode], *(_number(value) for value in figures), f"{cost.log_loss:.4f}")
    for mode in ("fit", "fit_with_evaluation"):
        ratios = [report.ratio(mode, name) for name in ("work_seconds", "wall_seconds", "cpu_seconds", "peak_mib")]
        costs.add_row(f"ratio: {titles[mode]}", *(_number(value) for value in ratios), "")
    out.print(costs)
    out.print(
        "Work is without the process's start and the making or reading of its input; log loss on the deals of the fit."
    )
    out.print(f"Load average before: {report.load_average:.1f}")


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2f}"


def _cell(values: Sequence[float]) -> str:
    return _number(values[0]) if len(values) == 1 else " / ".join(_number(value) for value in spread(values))


def _cells(measurements: Sequence[Measurement]) -> list[str]:
    return [_cell([getattr(m, name) for m in measurements]) for name, _ in _FIGURES]


def _ratio_cells(comparisons: Sequence[Comparison]) -> list[str]:
    return [_cell([c.ratios[name] for c in comparisons]) for name, _ in _FIGURES]


def _median(comparisons: Sequence[Comparison], attribute: str, name: str) -> float:
    """Median seconds of one step, model or table of the refreshes."""
    return spread([dict(getattr(c.refresh, attribute)).get(name, 0.0) for c in comparisons])[1]
