"""How results look in a terminal: tables of the published marts. No numbers are made here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import duckdb
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.measure import Measurement
from rich.table import Table

from orchestration.lib.condition_files import Refusal
from orchestration.lib.marts_reader import rows
from orchestration.lib.publishing import FILE_NAME
from orchestration.lib.wording import counted
from orchestration.lib.workspace import Workspace


def console() -> Console:
    """Standard output; where it is no terminal, wide enough that no cell is cut."""
    result = Console(highlight=False)
    return result if result.is_terminal else Console(highlight=False, width=150)


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.0f} %"


def figure(value: float | None, digits: int) -> str:
    return "" if value is None else f"{value:.{digits}f}"


def money(value: Any) -> str:
    return "" if value is None else f"{float(value):,.0f}"


def signed(points: int | None) -> str:
    return "" if points is None else f"{points:+d}"


def table(title: str, *columns: str) -> Table:
    """A plain table; columns that start with > are right-aligned."""
    result = Table(title=title or None, box=box.SIMPLE_HEAD, title_justify="left", title_style="bold", pad_edge=False)
    for column in columns:
        result.add_column(column.lstrip(">"), justify="right" if column.startswith(">") else "left", overflow="fold")
    return result


def fits(out: Console, found: Table) -> bool:
    """Whether no number of a table would be folded in the middle."""
    return Measurement.get(out, out.options.update(width=10_000), found).minimum <= out.width


def print_table(
    out: Console, title: str, keys: Sequence[str], columns: Sequence[str], lines: Sequence[Sequence[str]], beside: int
) -> None:
    """Print a table; where the screen is too narrow for its numbers, its columns from `beside` on stand in a second one below.

    Parameters
    ----------
    keys, columns : the columns that say what a line is about, and the others; those that start with > are right-aligned
    lines : cells of all columns
    beside : number of the first column (not counting `keys`) that may stand in the second table
    """
    count = len(keys)

    def of(name: str, first: int, last: int) -> Table:
        result = table(name, *keys, *columns[first:last])
        for line in lines:
            result.add_row(*line[:count], *line[count + first : count + last])
        return result

    whole = of(title, 0, len(columns))
    if fits(out, whole):
        out.print(whole)
        return
    out.print(of(title, 0, beside))
    out.print(of("Beside it", beside, len(columns)))


def show_top_accounts(out: Console, con: duckdb.DuckDBPyConnection, limit: int) -> None:
    found = rows(con, "select * from scored_accounts where state = 'scored' order by rank limit ?", [limit])
    result = table(
        "Top accounts", ">rank", "account", "cell", "next action", ">points", ">win probability", ">90 % interval", ">expected value",
        "strongest reasons",
    )  # fmt: skip
    for row in found:
        result.add_row(
            str(row["rank"]), escape(row["account_name"]), row["cell"], row["next_action"], str(row["total_points"]),
            percent(row["win_probability"]),
            f"{percent(row['win_probability_low'])[:-2]}-{percent(row['win_probability_high'])}",
            money(row["expected_value"]), escape(row["top_reasons"] or "").replace("; ", "\n"),
        )  # fmt: skip
    if found:
        out.print(result)
    states = rows(con, "select state, count(*) as n from scored_accounts group by state order by n desc")
    out.print("Accounts by state: " + (", ".join(f"{r['n']:,} {r['state']}" for r in states) or "none") + "\n")


def show_matrix(out: Console, con: duckdb.DuckDBPyConnection) -> None:
    cells = {row["cell"]: row for row in rows(con, "select * from score_matrix")}
    result = table(
        "Matrix: accounts now; deals won of those that the card learnt from",
        "fit", *(f"engagement {level}" for level in "1234"),
    )  # fmt: skip
    for grade in "ABCD":
        line = []
        for level in "1234":
            row = cells.get(grade + level)
            if row is None:
                line.append("")
                continue
            rate = (
                f"{percent(row['win_rate'])} ({row['won_count']}/{row['deal_count']})"
                if row["deal_count"]
                else "no deals"
            )
            line.append(f"{counted(row['account_count'], 'account')}\n{rate}\n{row['next_action']}")
        result.add_row(grade, *line)
    out.print(result)


def show_forecast(out: Console, con: duckdb.DuckDBPyConnection) -> None:
    found = rows(
        con,
        """
        select period_label, sum(target_amount) as target, sum(won_amount) as won, sum(open_deal_count) as deals,
            sum(open_amount) as open_amount, sum(stage_weighted_amount) as stage, sum(model_weighted_amount) as model,
            sum(expected_amount) as expected
        from pipeline_forecast group by period_label order by period_label
        """,
    )
    result = table(
        "Pipeline forecast by promised close date, open deals only",
        "month", ">target", ">won so far",
        ">open deals", ">open amount", ">stage-weighted", ">model-weighted", ">won + model", ">of target",
    )  # fmt: skip
    for row in found:
        share = float(row["expected"]) / float(row["target"]) if row["target"] else None
        result.add_row(
            row["period_label"], money(row["target"]), money(row["won"]), str(row["deals"]), money(row["open_amount"]),
            money(row["stage"]), money(row["model"]), money(row["expected"]), percent(share),
        )  # fmt: skip
    if found:
        out.print(result)


def show_card(out: Console, con: duckdb.DuckDBPyConnection, verdict: list[str]) -> None:
    found = rows(
        con,
        "select scorecard_version, count(distinct criterion) as criteria from scorecard group by scorecard_version",
    )
    if not found:
        out.print("No scorecard yet: no accounts have landed.\n")
        return
    out.print(f"[bold]Scorecard {found[0]['scorecard_version']}[/bold], {found[0]['criteria']} criteria")
    for sentence in verdict:
        out.print(f"  {escape(sentence)}")
    out.print()


def show_health(out: Console, con: duckdb.DuckDBPyConnection) -> None:
    """The checks of the card in use that warn or fail; one line where none does."""
    found = rows(
        con,
        """
        select status, check_name, subject, message from model_health where status in ('warn', 'fail')
        order by status, check_name, subject
        """,
    )
    counted = rows(
        con, "select count(*) as n, sum(case when status = 'unknown' then 1 else 0 end) as open from model_health"
    )
    if not found:
        if counted[0]["n"]:
            unknown = f"; {counted[0]['open']} cannot be answered yet" if counted[0]["open"] else ""
            out.print(f"Model health: none of {counted[0]['n']} checks warns{unknown}\n")
        return
    result = table(
        f"Model health: {len(found)} of {counted[0]['n']} checks warn or fail", "status", "check", "subject", "what"
    )
    for row in found[:10]:
        result.add_row(
            row["status"], row["check_name"].replace("_", " "), escape(row["subject"]), escape(row["message"])
        )
    out.print(result)
    if len(found) > 10:
        out.print(f"{len(found) - 10} more: scoring sql \"from model_health where status in ('warn', 'fail')\"\n")


def show_refusals(out: Console, refused: Sequence[Refusal]) -> None:
    """The files that are left out, with every reason."""
    for refusal in refused:
        for reason in refusal.reasons:
            out.print(f"[bold]Refused[/bold]: {escape(reason)}", soft_wrap=True)


def show_where(out: Console, con: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    published = rows(con, "select version, as_of_at from publication")[0]
    out.print(
        f"[bold]Published marts[/bold], snapshot {published['version']}, as of {published['as_of_at']:%Y-%m-%d %H:%M} UTC"
    )
    out.print(f"  {workspace.published.parent}/{FILE_NAME}, schema marts, read-only", soft_wrap=True)
    out.print('  scoring sql "select * from scored_accounts order by rank limit 10"', soft_wrap=True)
    query = f"duckdb.connect('{workspace.published}', read_only=True).sql('from marts.scored_accounts')"
    out.print(f'  python -c "import duckdb; print({query})"', soft_wrap=True)
