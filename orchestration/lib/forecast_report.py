"""The page for the revenue meeting: what will be won, how sure that is, how right it was before, what changed and what is at risk.

Belongs here: which figures stand on the page and their words. Does not: the figures themselves (`forecast_marts`,
`pipeline_changes`), how plots look (`forecast_plots`, `pipeline_plots`), how the page looks (`templates/page.html.j2`).

A page is made of one published snapshot alone: the same snapshot gives the same bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from orchestration.lib import forecast_marts, forecast_said
from orchestration.lib.errors import UserError
from orchestration.lib.forecast_plots import (
    METHODS,
    amount_text,
    coverage_words,
    draw_coverage,
    draw_errors,
    draw_fan,
    draw_tests,
    fan_title,
    fan_words,
)
from orchestration.lib.page_plots import COLOURS, check_file, svg_for_page
from orchestration.lib.pages import Figure, Page, Section, Table, Tile, page_html
from orchestration.lib.pipeline_changes import (
    STEPS,
    Chosen,
    check_sum,
    comparisons,
    held_comparison,
    waterfall,
    won_deals,
)
from orchestration.lib.pipeline_plots import draw_waterfalls, groups_drawn, waterfall_words
from orchestration.lib.version_texts import NBSP, NONE
from orchestration.lib.wording import counted, told_apart

if TYPE_CHECKING:
    import duckdb

Row = dict[str, Any]
MOST_DEALS = 15
#: Groups of a table that are listed; the count says how many there are.
MOST_LABELS = 40
_LIST = (
    "won so far",
    "P10",
    "median",
    "P90",
    "run rate",
    "stage-weighted",
    "commit",
    "best case",
    "target",
    "median less target",
)


def write_report(con: duckdb.DuckDBPyConnection, file: Path, *, currency: str, period: str | None = None) -> None:
    """Write the page.

    Parameters
    ----------
    con : the published marts
    file : .html
    period : the one of the headline, 2026-Q3 or 2026-07; None = the present quarter

    Raises
    ------
    UserError
        No forecast, no such period, another suffix, or a folder that does not exist.
    """
    check_file(file, (".html", ".htm"))
    file.write_text(page_html(report(con, currency=currency, period=period)), encoding="utf-8")


def write_chart(con: duckdb.DuckDBPyConnection, file: Path, *, currency: str) -> None:
    """Write the plots of the forecast and their figures as a page; errors as of `write_report`."""
    check_file(file, (".html", ".htm"))
    newest = _newest(con)
    sums = forecast_marts.sums(con)
    chosen = _headline(sums, None)
    page = Page(
        eyebrow="Forecast",
        title=f"Forecast as of {newest['forecast_as_of_at']:%Y-%m-%d}",
        lead=_lead(newest, currency),
        **_verdict(chosen, forecast_marts.coverage(con), currency),
        sections=[_fan(sums), _record(con)],
        footer=_footer(newest),
    )
    file.write_text(page_html(page), encoding="utf-8")


def write_waterfall(
    steps: Sequence[Row],
    divided: Sequence[Row],
    file: Path,
    *,
    by: str | None,
    start_at: datetime,
    end_at: datetime,
    currency: str,
    chosen: str,
) -> None:
    """Write a waterfall as a page.

    Parameters
    ----------
    steps, divided : rows of `pipeline_changes.waterfall`, whole and by group
    chosen : which deals are meant, in words; "" = all
    """
    check_file(file, (".html", ".htm"))
    before, after = (float(sum(row["amount"] for row in steps if row["step"] == step)) for step in ("start", "end"))
    moments = f"from {start_at:%Y-%m-%d %H:%M} to {end_at:%Y-%m-%d %H:%M} UTC"
    page = Page(
        eyebrow="Pipeline",
        title=f"What changed in the open pipeline{', ' + chosen if chosen else ''}",
        lead=f"{moments[0].upper()}{moments[1:]}, each moment as it was known then. Amounts in {currency}.",
        verdict=f"{amount_text(before)} became {amount_text(after)} {currency}: {_signed(after - before)}",
        tone="neutral",
        sentences=["Every deal is in exactly one step; start and changes add up to the end, to the cent."],
        sections=[_waterfall_section(steps, "waterfall", "From the start to the end", by=None)]
        + ([_waterfall_section(divided, "groups", f"By {by}", by=by)] if by and divided else []),
        footer=f"Made of the published marts alone, {moments}; nothing on this page is fetched from anywhere.",
    )
    file.write_text(page_html(page), encoding="utf-8")


def report(con: duckdb.DuckDBPyConnection, *, currency: str, period: str | None = None) -> Page:
    """The page of the newest forecast; parameters and errors as of `write_report`."""
    newest = _newest(con)
    sums = forecast_marts.sums(con)
    chosen = _headline(sums, period)
    label = chosen["period_label"]
    by = {name: forecast_marts.sums(con, name, label) for name in ("owner", "team", "region", "segment", "product")}
    return Page(
        eyebrow="Forecast for the revenue meeting",
        title=f"What will be won in {label}",
        lead=_lead(newest, currency),
        **_verdict(chosen, forecast_marts.coverage(con), currency),
        tiles=_tiles(chosen),
        sections=[
            _fan(sums),
            _people(chosen, by["owner"], by["team"]),
            _groups(chosen, {name: by[name] for name in ("region", "segment", "product")}),
            _said(con, chosen),
            _record(con),
            _changes(con),
            _risks(con),
            _lacking(newest),
        ],
        footer=_footer(newest),
    )


def _newest(con: duckdb.DuckDBPyConnection) -> Row:
    found = forecast_marts.newest(con)
    if found is None:
        raise UserError(forecast_marts.NO_FORECAST)
    return found


def _lead(newest: Row, currency: str) -> str:
    return f"As of {newest['forecast_as_of_at']:%Y-%m-%d %H:%M} UTC: nothing later was seen. Amounts in {currency}."


def _footer(newest: Row) -> str:
    return (
        f"Forecast {newest['forecast_id']}, kept as it was made. Made of the published marts alone; nothing on this page is fetched "
        "from anywhere."
    )


def _headline(sums: Sequence[Row], period: str | None) -> Row:
    """The sum of everything that the page is about."""
    if period is not None:
        found = [row for row in sums if row["period_label"] == period]
        if not found:
            raise UserError(
                f"the newest forecast has no period {period!r}: it has {', '.join(row['period_label'] for row in sums)}"
            )
        return found[0]
    quarters = [row for row in sums if row["period_type"] == "quarter"]
    return (quarters or list(sums))[0]


def _verdict(chosen: Row, coverage: Sequence[Row], currency: str) -> dict[str, Any]:
    """Headline, tone and sentences: the range, and how often such a range held before."""
    said = f"{chosen['period_label']}: 80{NBSP}% sure between {amount_text(chosen['p10'])} and {amount_text(chosen['p90'])} {currency}"
    days = (chosen["period_end"] - chosen["forecast_as_of_at"].date()).days
    horizons = sorted({row["horizon_days"] for row in coverage}, key=lambda each: (abs(each - days), each))
    sentences = [_against_target(chosen, currency)]
    if not horizons:
        return {
            "verdict": f"{said}; how often such a range held before is not known",
            "tone": "poor",
            "sentences": [
                *sentences,
                f"The forecast was not tested on its own past: {forecast_marts.NOT_TESTED}",
            ],
        }
    row = next(r for r in coverage if r["horizon_days"] == horizons[0] and r["stated"] == 0.8)
    held = f"over the last {row['count']} past moments that range held {100 * row['held']:.0f}{NBSP}%"
    interval = f"{100 * row['low']:.0f} to {100 * row['high']:.0f}{NBSP}%"
    if row["high"] < 0.8:
        tone, words = "poor", "That is less often than it says: take the range for too narrow."
    elif row["low"] > 0.8:
        tone, words = "fair", "That is more often than it says: the range is wider than it had to be."
    else:
        tone, words = "good", "That agrees with what it says, as far as so few moments can tell."
    tested = (
        f"The period ends in {days} days; the nearest horizon that was tested is {row['horizon_days']} days, at moments from "
        f"{row['first_at']:%Y-%m} to {row['last_at']:%Y-%m}. Of so few moments all that "
        f"can be said is that it holds {interval} of the time (90 % interval, Wilson). {words}"
    )
    return {"verdict": f"{said}; {held}", "tone": tone, "sentences": [*sentences, tested]}


def _against_target(chosen: Row, currency: str) -> str:
    won = f"{amount_text(chosen['won'])} {currency} is won so far, the median is {amount_text(chosen['p50'])}."
    if chosen["target"] is None:
        return f"{won} No target was set for this period."
    target = float(chosen["target"])
    level = next(
        (
            words
            for name, words in (
                ("p02_5", "it is reached even at the lower end of the 95 % interval"),
                ("p10", "it is likely to be passed: it lies below the 80 % interval"),
                ("p50", "it lies in the lower half of the 80 % interval"),
                ("p90", "it lies in the upper half of the 80 % interval: more likely missed than not"),
                ("p97_5", "it is unlikely to be reached: it lies above the 80 % interval"),
            )
            if target <= float(chosen[name] or 0)
        ),
        "it lies above the 95 % interval",
    )
    gap = float(chosen["p50"] or 0) - target
    beside = f"{amount_text(abs(gap))} {'above' if gap >= 0 else 'short of'} it"
    return f"{won} The target is {amount_text(target)}: {level}; the median is {beside}."


def _tiles(chosen: Row) -> list[Tile]:
    target = chosen["target"]
    gap = None if target is None else float(chosen["p50"] or 0) - float(target)
    return [
        Tile(
            "Median",
            amount_text(chosen["p50"]),
            f"half of the scenarios: {amount_text(chosen['p25'])} to {amount_text(chosen['p75'])}",
        ),
        Tile(
            "Target",
            NONE if target is None else amount_text(target),
            "no target set" if gap is None else f"median {_signed(gap)}",
        ),
        Tile("Won so far", amount_text(chosen["won"]), f"{chosen['period_label']} until the as-of moment"),
        Tile("Run rate", _text(chosen["run_rate"]), "the last 90 days again, day by day"),
        Tile("Stage-weighted", _text(chosen["stage_weighted"]), "won + promised x win rate of the stage"),
        Tile("Commit", _text(chosen["committed"]), "won + what owners commit to"),
        Tile("Best case", _text(chosen["best_case"]), "won + commit + best case"),
    ]


def _fan(sums: Sequence[Row]) -> Section:
    months = [row for row in sums if row["period_type"] == "month"]
    rows = [[row["period_label"], *_sum_cells(row)] for row in sums]
    return Section(
        "periods",
        "Months and quarters",
        paragraphs=[
            "Dark bars hold the amount with one half, light bars with 80 %, thin lines with 95 %; the thick stroke is the median. "
            "Of a month that has begun, what is won already is part of it."
        ],
        figures=[
            Figure(
                fan_title(months),
                svg_for_page(
                    lambda figure: draw_fan(figure, months, COLOURS), width=9.4, height=3.7, name="fan", title=fan_title(months),
                    description=fan_words(months),
                ),
                is_wide=True,
            )
        ] if months else [],
        tables=[Table("Every period beside what simple methods and owners say", [("Period", True), *_columns()], rows)],
    )  # fmt: skip


def _people(chosen: Row, owners: Sequence[Row], teams: Sequence[Row]) -> Section:
    label = chosen["period_label"]
    sums = {name: sum(float(row[name] or 0) for row in owners) for name in ("p10", "p50", "p90", "mean_amount")}
    words = [
        f"The owners' medians add up to {amount_text(sums['p50'])}, the median of all is {amount_text(chosen['p50'])}; their P10s add up "
        f"to {amount_text(sums['p10'])} against {amount_text(chosen['p10'])}, their P90s to {amount_text(sums['p90'])} against "
        f"{amount_text(chosen['p90'])}. That is no error and is not forced to agree: owners rarely have their bad or good period "
        "together, so a team is surer than its people one by one; and amounts are skewed, so that a median is not a mean. All lines come "
        "from the same scenarios; "
        f"means do add up ({amount_text(sums['mean_amount'])} and {amount_text(chosen['mean_amount'])})."
    ]
    return Section(
        "people",
        "By team and owner",
        paragraphs=words if len(owners) > 1 else [],
        tables=[
            _group_table(f"Teams, {label}", "Team", teams, chosen),
            _group_table(f"Owners, {label}", "Owner", owners, chosen, with_team=True),
        ],
    )


def _groups(chosen: Row, by: dict[str, list[Row]]) -> Section:
    label = chosen["period_label"]
    known = {name: found for name, found in by.items() if any(row["label"] != "(none)" for row in found)}
    unknown = [name for name in by if name not in known]
    return Section(
        "groups",
        "By region, segment and product",
        paragraphs=[
            "Region and segment are those of the account as of the forecast; each table divides the same scenarios, so means add up to "
            "the whole. Targets are set for people, so there are none here."
        ],
        missing=f"No deal has a {' or a '.join(unknown)}."
        + (" Segments are named by forecast.segment_by in scorecard.yml." if "segment" in unknown else "")
        if unknown
        else "",
        tables=[
            _group_table(f"{name.capitalize()}s, {label}", name.capitalize(), found, chosen, with_target=False)
            for name, found in known.items()
        ],
    )


def _said(con: duckdb.DuckDBPyConnection, chosen: Row) -> Section:
    """What people said of the period and what they aim at, beside the model, and how right each source was before."""
    label = chosen["period_label"]
    title = "What people say, and how right they were"
    said = forecast_said.said_of(con, label, (chosen["period_end"] - chosen["forecast_as_of_at"].date()).days)
    numbers = [
        [
            f"{'all' if row['dimension'] == 'all' else row['label_name']}\n{'' if row['dimension'] == 'all' else row['dimension']}",
            f"{forecast_said.CALLED[row['method']]}\n{forecast_said.until(row)}",
            _whole(row["amount"])
            if row["amount"] is not None
            else f"no rate\n{_whole(row['submitted_amount'])} {row['currency']}",
            NONE
            if row["middle"] is None
            else f"{_whole(row['middle'])}\n{_whole(row['low'])} to {_whole(row['high'])}",
            _before(said.record_of(row)),
            f"{row['note']}\n{row['author']}, {row['recorded_at']:%Y-%m-%d}",
        ]
        for row in said.numbers
    ]
    targets = [
        [
            f"{row['owner_name']}\n{row['team']}", _whole(row["target_amount"]), _whole(row["gap_amount"]), _whole(row["middle"]),
            row["source"].replace("_", " "), f"{row['note'] or NONE}\n{row['author'] or ''}",
        ]
        for row in said.targets[:MOST_LABELS]
    ]  # fmt: skip
    more = f": the {MOST_LABELS} largest of {len(said.targets)}" if len(said.targets) > MOST_LABELS else ""
    records = [
        [
            forecast_said.CALLED[row["method"]] + ("" if row["dimension"] == "all" else f"\nby {row['dimension']}"),
            f"{row['horizon_days']}", f"{row['periods']}", _percent(row["wape"]), _percent(row["model_wape"]),
            NONE if row["bias"] is None else f"{100 * row['bias']:+z.0f}{NBSP}%".replace("-", "\u2212"), f"{row['closest']}",
        ]
        for row in said.records
    ]  # fmt: skip
    words = []
    if said.numbers:
        words.append(
            "None of these changes the model or another one. Beside a number stands how far its source was off in periods that are over, "
            f"at the last forecast {said.horizon_days} days or more before their end, and the model at the very same moments."
            if said.horizon_days
            else "None of these changes the model or another one."
        )
    if said.no_longer:
        words.append(
            f"{said.no_longer:,} more of this period no longer count: replaced, withdrawn or expired (scoring forecast submissions)."
        )
    missing = [] if said.numbers else [f"Nobody has said anything of {label}: scoring forecast submit."]
    missing += [] if said.targets else [f"No target was set for {label}."]
    missing += [] if said.records else ["No period that was forecast is over yet: who is how right is not known."]
    return Section(
        "said",
        title,
        paragraphs=words,
        tables=[
            *([Table(
                f"Submissions and overrides, {label}",
                [
                    ("Said of", True), ("what", True), ("amount", False), ("model: median, P10 to P90", False),
                    ("off by before", False), ("why, and who", True),
                ],
                numbers,
            )] if numbers else []),
            *([Table(
                f"Targets, {label}{more}",
                [
                    ("Target of", True), ("target", False), ("missing", False), ("model: median", False), ("set as", True),
                    ("why, and who", True),
                ],
                targets,
            )] if targets else []),
            *([Table(
                "How right each source was, in periods that are over",
                [
                    ("Source", True), ("days before the end", False), ("numbers", False), ("off by (WAPE)", False),
                    ("model on the same", False), ("bias", False), ("nobody closer", False),
                ],
                records,
                own=frozenset(number for number, row in enumerate(said.records) if row["method"] == "forecast"),
            )] if records else []),
        ],
        missing=" ".join(missing),
    )  # fmt: skip


def _before(record: Row | None) -> str:
    """How far off a source was before, and the model beside it."""
    if record is None or record["wape"] is None:
        return f"{NONE}\nnone is over yet"
    numbers = "1 number" if record["periods"] == 1 else f"{record['periods']} numbers"
    return f"{_percent(record['wape'])}\nmodel {_percent(record['model_wape'])}, {numbers}"


def _group_table(
    caption: str, head: str, found: Sequence[Row], whole: Row, *, with_team: bool = False, with_target: bool = True
) -> Table:
    rows = []
    names = told_apart({row["label"]: row["name"] for row in found})
    for row in found[:MOST_LABELS]:
        name = names[row["label"]]
        name = f"{name}\n{row['team'] or ''}" if with_team else name
        rows.append([name, *_sum_cells(row, with_target)])
    if len(found) > MOST_LABELS:
        caption += f": the {MOST_LABELS} with the largest medians of {len(found)}"
    rows.append(["all together", *_sum_cells(whole, with_target)])
    return Table(
        caption,
        [(head, True), *_columns(with_target)],
        rows,
        own=frozenset({len(rows) - 1}),
    )


def _columns(with_target: bool = True) -> list[tuple[str, bool]]:
    return [(name, False) for name in (_LIST if with_target else _LIST[:-2])]


def _sum_cells(row: Row, with_target: bool = True) -> list[str]:
    cells = [
        _whole(row[name])
        for name in ("won", "p10", "p50", "p90", "run_rate", "stage_weighted", "committed", "best_case")
    ]
    if with_target:
        target = row["target"]
        cells += [
            _whole(target),
            NONE if target is None else _whole(float(row["p50"] or 0) - float(target), signed=True),
        ]
    return cells


def _compared(own: float, other: float) -> str:
    # What reads the same is called the same.
    if _percent(own) == _percent(other):
        return "as far as"
    return "nearer than" if own < other else "further off than"


def _record(con: duckdb.DuckDBPyConnection) -> Section:
    coverage, errors, tests = forecast_marts.coverage(con), forecast_marts.errors(con), forecast_marts.tests(con)
    title = "How right it was before"
    if not tests:
        return Section(
            "record",
            title,
            missing=f"The forecast was not tested on its own past: {forecast_marts.NOT_TESTED}",
        )
    best = {horizon: list(found) for horizon, found in groupby(errors, key=lambda row: row["horizon_days"])}
    judged = []
    for horizon, found in best.items():
        simple = [row for row in found if row["method"] not in ("forecast", "model")]
        own = next(row for row in found if row["method"] == "forecast")
        if simple:
            nearest = min(simple, key=lambda row: (row["wape"], row["method"]))
            judged.append(
                f"{horizon} days ahead the forecast was off by {_percent(own['wape'])}, {_compared(own['wape'], nearest['wape'])} the "
                f"nearest simple method ({METHODS[nearest['method']]}, {_percent(nearest['wape'])})."
            )
    horizons = sorted({row["horizon_days"] for row in tests})
    figures = [
        Figure(
            "How often the intervals held",
            svg_for_page(
                lambda figure: draw_coverage(figure, coverage, COLOURS), width=5.2, height=3.9, name="coverage",
                title="Stated against held coverage", description=". ".join(coverage_words(coverage)),
            ),
            "bars: what chance alone allows for, 90 % (Wilson)",
        ),
        Figure(
            "How far off, beside simple methods",
            svg_for_page(
                lambda figure: draw_errors(figure, errors, COLOURS), width=5.2, height=3.9, name="errors", title="Error of each method",
                description="; ".join(f"{r['horizon_days']} days ahead, {METHODS[r['method']]}: {_percent(r['wape'])}" for r in errors),
            ),
            "error: sum of absolute errors over the sum of what came (WAPE)",
        ),
        Figure(
            "Past moments, one by one",
            svg_for_page(
                lambda figure: draw_tests(figure, tests, COLOURS), width=9.4, height=3.4, name="tests",
                title="What was forecast at past moments, and what came",
                description=". ".join(
                    f"{horizon} days ahead, {sum(bool(r['is_within_80']) for r in tests if r['horizon_days'] == horizon)} of "
                    f"{sum(r['horizon_days'] == horizon for r in tests)} inside the 80 % interval" for horizon in horizons
                ),
            ),
            "a cross is what came outside the interval",
            is_wide=True,
        ),
    ]  # fmt: skip
    by_group = []
    for name in ("team", "owner", "region", "segment", "product"):
        for row in forecast_marts.coverage(con, name):
            if row["stated"] == 0.5:
                by_group.append([f"{name}, {row['horizon_days']} days", f"{row['count']:,}"])
            by_group[-1].append(_percent(row["held"]))
    return Section(
        "record",
        title,
        paragraphs=[
            "At each past moment the forecast was made anew of what was known then alone, and calibrated on earlier moments only. "
            + " ".join(judged),
            "Windows that begin each month and last 90 days overlap: neighbouring moments share most of what came, so the bars are "
            "narrower than the truth.",
        ],
        figures=figures,
        tables=[
            Table(
                "Intervals of everything: stated and held",
                [("Horizon", True), ("stated", False), ("held", False), ("by chance", False), ("moments", False)],
                [
                    [
                        f"{r['horizon_days']} days", _percent(r["stated"]), _percent(r["held"]),
                        f"{100 * r['low']:.0f} to {_percent(r['high'])}", f"{r['count']}",
                    ]
                    for r in coverage
                ],
                is_hidden=True,
            ),
            Table(
                "Error of each method",
                [
                    ("Method", True), ("days ahead", False), ("moments", False), ("error (WAPE)", False),
                    ("forecast on the same", False), ("pinball", False),
                ],
                [
                    [
                        METHODS[r["method"]], f"{r['horizon_days']}", f"{r['count']}", _percent(r["wape"]), _percent(r["own_wape"]),
                        f"{r['pinball']:.3f}",
                    ]
                    for r in errors
                ],
                is_hidden=True,
            ),
            *([Table(
                "Intervals of groups: held",
                [("Group and horizon", True), ("group x moment", False), ("50 %", False), ("80 %", False), ("95 %", False)],
                by_group,
                is_hidden=True,
            )] if by_group else []),
        ],
    )  # fmt: skip


def _changes(con: duckdb.DuckDBPyConnection) -> Section:
    title = "What changed since last week"
    name = held_comparison(con, "7-days")
    steps = waterfall(con, Chosen(name)) if name else []
    if not name or not steps:
        return Section("changes", title, missing="No deal was open a week ago or is open now.")
    chosen = Chosen(name)
    moments = next(row for row in comparisons(con) if row["comparison"] == name)
    teams = waterfall(con, chosen, by="team")
    if not check_sum([*steps, *teams]):
        raise AssertionError("the start and the changes of the pipeline do not add up to its end")
    won = won_deals(con, chosen)
    section = _waterfall_section(steps, "changes", title, by=None, others=teams)
    words = (
        f"The open pipeline from {moments['start_at']:%Y-%m-%d %H:%M} to {moments['end_at']:%Y-%m-%d %H:%M} UTC, each moment as it was "
        "known then. Every deal is in one step; start and changes add up to the cent."
    )
    if won["deals"]:
        words += f" Won: {counted(won['deals'], 'deal')} at {_whole(won['amount'])}, whatever the amount was while it was open."
    return Section(section.key, section.title, [words], section.figures, section.tables)


def _waterfall_section(
    steps: Sequence[Row], key: str, title: str, *, by: str | None, others: Sequence[Row] = ()
) -> Section:
    groups = groups_drawn(steps) if by else [""]
    words = ". ".join(
        f"{name}: {waterfall_words([r for r in steps if r['group'] == name])}" for name in groups
    ).removeprefix(": ")
    all_groups = list(dict.fromkeys(row["group"] for row in steps))
    note = (
        f"the {len(groups)} largest of {len(all_groups)}; the table has all"
        if by and len(all_groups) > len(groups)
        else ""
    )
    return Section(
        key,
        title,
        figures=[
            Figure(
                "Open pipeline, from the start through each change to the end",
                svg_for_page(
                    lambda figure: draw_waterfalls(figure, steps, groups, COLOURS), width=9.4,
                    height=3.6 if len(groups) == 1 else 2.9 * (-(-len(groups) // 2)), name=f"{key}-drawing", title=title, description=words,
                ),
                note or "full bars add, hatched bars take away",
                is_wide=True,
            )
        ],
        tables=[_step_table(steps, by), *([_step_table(others, "team")] if others else [])],
    )  # fmt: skip


def _step_table(steps: Sequence[Row], by: str | None) -> Table:
    if by is None:
        rows = [
            [
                r["step"].replace("_", " "),
                f"{r['deals']:,}",
                _cents(r["amount"], signed=r["step"] not in ("start", "end")),
            ]
            for r in steps
        ]
        return Table(
            "Every step, to the cent",
            [("Step", True), ("deals", False), ("amount", False)],
            rows,
            own=frozenset({0, len(rows) - 1}),
        )
    present = {row["step"] for row in steps}
    names = [name for name in ("start", *STEPS) if name in present]
    rows = []
    for group in dict.fromkeys(row["group"] for row in steps):
        amounts = {row["step"]: row["amount"] for row in steps if row["group"] == group}
        cells = [
            _cents(amounts[name], signed=name not in ("start", "end")) if name in amounts else ""
            for name in [*names, "end"]
        ]
        rows.append([group, *cells])
    return Table(
        f"By {by}, to the cent",
        [(by.capitalize(), True), *((name.replace("_", " "), False) for name in [*names, "end"])],
        rows,
    )


def _risks(con: duckdb.DuckDBPyConnection) -> Section:
    title = "The riskiest deals"
    found = forecast_marts.riskiest(con, MOST_DEALS)
    if not found:
        return Section("risks", title, missing="No open deal has a risk with which past deals were won less often.")
    rows = []
    for _, group in groupby(found, key=lambda row: row["place"]):
        risks = list(group)
        first = risks[0]
        rows.append(
            [
                f"{first['opportunity_name'] or first['opportunity_id']}\n{first['account_name'] or NONE}, {first['owner_name']}",
                _whole(first["amount"]),
                _percent(first["won_this_quarter_probability"]),
                _percent(first["slip_probability"]),
                "\n".join(_risk_words(row) for row in risks),
            ]
        )
    effects: dict[str, Row] = {row["risk"]: row for row in found if row["effect"] != "too few deals"}
    points = [_effect_words(effects[name]) for name in sorted(effects)]
    count, worth = found[0]["deal_count"], amount_text(found[0]["total_amount"])
    return Section(
        "risks",
        title,
        paragraphs=[
            f"{count:,} open deals worth {worth} have a risk with which past deals were won less often; the largest are listed. "
            "It is an association: a deal may be stuck because it is lost."
        ],
        tables=[
            Table(
                "Open deals at risk, the largest first",
                [
                    ("Deal", True), ("amount", False), ("won this quarter", False), ("slips", False),
                    ("Risks, and what they meant for past deals", True),
                ],
                rows,
            )
        ],
        points=points,
    )  # fmt: skip


def _risk_words(row: Row) -> str:
    """One risk of one deal, and what it meant for past deals."""
    said = f"{row['risk'].replace('_', ' ').capitalize()}: {row['found_value']:,} {row['unit']}, limit {row['limit_value']:,}. "
    if row["effect"] == "too few deals":
        return said + "Too few past deals to tell what it means."
    said += f"Won {_percent(row['win_rate_with'])} with it, {_percent(row['win_rate_without'])} without"
    return said + (": no difference shown." if row["effect"] == "no difference shown" else ".")


def _effect_words(row: Row) -> str:
    """What a risk meant for past deals, with its intervals."""

    def rate(side: str) -> str:
        low, high = row[f"win_rate_{side}_low"], row[f"win_rate_{side}_high"]
        return f"{_percent(row[f'win_rate_{side}'])} were won ({100 * low:.0f} to {_percent(high)})"

    return (
        f"{row['risk'].replace('_', ' ').capitalize()}: of {row['deal_count_with']:,} past deals with it {rate('with')}, of "
        f"{row['deal_count_without']:,} without it {rate('without')}: {row['effect']}."
    )


def _lacking(newest: Row) -> Section:
    points = [text[0].upper() + text[1:] + "." for text in (newest["lacking"] or "").split("; ") if text]
    points.append(
        f"The intervals were calibrated on {newest['calibrated_on']} past moments."
        if newest["calibrated_on"]
        else "The intervals were calibrated on no past moment: they rest on what the method believes."
    )
    points.append(
        "What customers, competitors or the calendar will do otherwise than before is in no past deal, and not in this forecast."
    )
    return Section("lacking", "What the forecast does not know", points=points)


def _text(value: Any) -> str:
    return NONE if value is None else amount_text(value)


def _whole(value: Any, *, signed: bool = False) -> str:
    if value is None:
        return NONE
    return (f"{float(value):+z,.0f}" if signed else f"{float(value):,.0f}").replace("-", "\u2212")


def _cents(value: Any, *, signed: bool) -> str:
    return (f"{value:+,.2f}" if signed and value else f"{value:,.2f}").replace("-", "\u2212")


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else chr(0x2212)}{amount_text(abs(value))}"


def _percent(share: Any) -> str:
    return NONE if share is None else f"{100 * float(share):.0f}{NBSP}%"
