"""Measures refreshes of a demo company beside one hand-written script that does the same scoring.

Here: the order of things, processes and their cost, and the proof that both sides say the same. The script is
`benchmark_baseline.sql`; how figures look on a screen is in the command. What is measured, and what is not: `docs/benchmark.md`.

Everything that is measured runs as a whole process of its own.
"""

from __future__ import annotations

import importlib.metadata
import json
import multiprocessing
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass, field
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import Workspace

#: The company's history ends here, whatever the day is, so that a seed always means the same company.
UNTIL = date(2026, 7, 1)
TICK = timedelta(minutes=5)
PACKAGES = ("duckdb", "dbt-core", "dbt-duckdb", "dagster", "great-expectations", "scikit-learn", "pyarrow")
#: Below this some of the company's tables have no rows and so no files, which the hand-written script does not provide for.
MIN_ACCOUNTS, MIN_EVENTS = 100, 5_000

_SCORING = [sys.executable, "-c", "from orchestration.cli import main; main()"]
_PROGRESS_LINE = re.compile(r"^\s*\d+\.\d s  (?:(\w+__\w+): )?")
#: Starts a command and reports its cost. A small process in between, because Linux takes what the process that starts another one
#: ever had in memory for a part of the other one's peak.
_LAUNCHER = """
import json, os, sys, time
started = time.monotonic()
command = sys.argv[2:]
pid = os.posix_spawn(command[0], command, os.environ)
_, status, usage = os.wait4(pid, 0)
cost = {
    "status": os.waitstatus_to_exitcode(status), "wall": time.monotonic() - started,
    "cpu": usage.ru_utime + usage.ru_stime, "maxrss": usage.ru_maxrss,
}
os.write(int(sys.argv[1]), json.dumps(cost).encode())
"""
_T = TypeVar("_T")

Progress = Callable[[str], None]


@dataclass(frozen=True)
class Sizes:
    """What is generated. `events` are touchpoints of all kinds; `new_records` arrive before a tick."""

    accounts: int = 100_000
    events: int = 10_000_000
    months: int = 24
    seed: int = 7
    new_records: int = 50_000


@dataclass(frozen=True)
class Measurement:
    """The cost of one process, from its start to its end.

    Attributes
    ----------
    cpu_seconds : float
        User and system time of all threads.
    peak_mib : float
        Most memory that it had resident at a time.
    load_average : float
        Processes that wanted a core in the minute before it started: what the machine was shared with.
    steps : list of (name, seconds)
        Where the time went, in order; empty where it is not known.
    tables : dict
        Landed table -> seconds to load its files.
    models : dict
        dbt model -> seconds. Two run at a time, so they sum up to more than their step.
    """

    wall_seconds: float
    cpu_seconds: float
    peak_mib: float
    load_average: float
    steps: list[tuple[str, float]] = field(default_factory=list)
    tables: dict[str, float] = field(default_factory=dict)
    models: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """A refresh and the hand-written script on the same landed files, as of the same moment.

    Attributes
    ----------
    counts : dict
        What was scored and read; see `compare`.
    """

    refresh: Measurement
    baseline: Measurement
    counts: dict[str, int]

    @property
    def ratios(self) -> dict[str, float]:
        """Refresh : baseline."""
        return {
            name: getattr(self.refresh, name) / getattr(self.baseline, name)
            for name in ("wall_seconds", "cpu_seconds", "peak_mib")
        }


@dataclass(frozen=True)
class BenchmarkReport:
    """All figures of one benchmark. `full` and `ticks` have one entry per run."""

    sizes: Sizes
    environment: dict[str, Any]
    generation: Measurement
    first_refresh: Measurement
    full: list[Comparison]
    ticks: list[Comparison]
    bytes_on_disk: dict[str, int]

    def to_document(self) -> dict[str, Any]:
        """The report as plain lists and dictionaries, with the ratios."""
        document = asdict(self)
        for name in ("full", "ticks"):
            for entry, comparison in zip(document[name], getattr(self, name), strict=True):
                entry["ratios"] = comparison.ratios
        return document


def run_benchmark(directory: Path, sizes: Sizes, *, runs: int, progress: Progress) -> BenchmarkReport:
    """Generate a company in `directory` and measure full builds and ticks on it.

    Parameters
    ----------
    directory : an existing directory of the benchmark's own
    sizes : Sizes
    runs : how often both are measured; each run's tick stays in the landing zone for the next run's full build
    progress : given one line of text per process

    Raises
    ------
    UserError
        A size is out of range, or a process failed.
    RuntimeError
        The published marts and the hand-written script do not say the same, or a tick did not load what had landed.
    """
    if sizes.accounts < MIN_ACCOUNTS or sizes.events < MIN_EVENTS:
        raise UserError(
            f"the benchmark needs at least {MIN_ACCOUNTS} accounts and {MIN_EVENTS:,} events "
            f"(values: {sizes.accounts:,} and {sizes.events:,})"
        )
    workspace = Workspace(directory / "workspace")
    home = ["--home", str(workspace.home)]
    company = [f"--{name}={getattr(sizes, name)}" for name in ("accounts", "events", "months", "seed")]
    progress(f"generating {sizes.accounts:,} accounts and about {sizes.events:,} events in {workspace.home}")
    generation = measure([*_SCORING, *home, "generate", *company, "--until", UNTIL.isoformat()])

    def refresh(moment: datetime, *options: str) -> Measurement:
        started_at = time.time()
        measured = measure([*_SCORING, *home, "refresh", "--as-of", moment.isoformat(), *options])
        steps, models = _in_own_process(read_steps, workspace.home)
        return with_steps(measured, started_at, steps, models)

    def beside(refreshed: Measurement, moment: datetime) -> Comparison:
        progress(f"  {refreshed.wall_seconds:.1f} s. The same by the hand-written script")
        output = directory / "by_hand.duckdb"
        module = [sys.executable, "-m", "orchestration.lib.benchmark_baseline"]
        by_hand = measure([*module, str(workspace.landing), moment.isoformat(), str(output)])
        counts = _in_own_process(compare, workspace.published, output)
        progress(f"  {by_hand.wall_seconds:.1f} s. Both say the same of {counts['scored accounts']:,} accounts")
        return Comparison(refreshed, by_hand, counts)

    moment = datetime.combine(UNTIL, datetime.min.time())
    progress(f"  {generation.wall_seconds:.1f} s. First refresh, with the fit of the card")
    first = refresh(moment)
    progress(f"  {first.wall_seconds:.1f} s")
    full, ticks = [], []
    for run in range(runs):
        progress(f"run {run + 1} of {runs}: full build")
        full.append(beside(refresh(moment, "--full"), moment))
        _in_own_process(land_new_records, workspace.home, sizes.new_records, moment, sizes.seed)
        moment += TICK
        progress(f"run {run + 1} of {runs}: tick of {sizes.new_records:,} new records")
        ticks.append(beside(refresh(moment), moment))
        loaded = ticks[-1].counts["rows loaded"] - full[-1].counts["rows loaded"]
        if loaded != sizes.new_records:
            raise RuntimeError(f"the tick loaded {loaded:,} rows of the {sizes.new_records:,} that had landed")
    return BenchmarkReport(
        sizes,
        environment(),
        generation,
        first,
        full,
        ticks,
        _bytes_on_disk(workspace, directory / "by_hand.duckdb"),
    )


def measure(command: Sequence[str]) -> Measurement:
    """Run a command to its end and return what it cost. Its progress lines date the loading of tables.

    Raises
    ------
    UserError
        It ended with another status than 0; the message has the last lines that it wrote.
    """
    load_average = os.getloadavg()[0]
    read_end, write_end = os.pipe()
    process = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _LAUNCHER, str(write_end), *command],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        pass_fds=[write_end],
        text=True,
        encoding="utf-8",
        errors="replace",
    )
    os.close(write_end)
    assert process.stderr is not None
    tables: dict[str, float] = {}
    last_lines: list[str] = []
    # The first table's time would have the start of everything in it: its share cannot be told from the lines.
    previous: float | None = None
    for line in process.stderr:
        now = time.monotonic()
        last_lines = [*last_lines[-19:], line.rstrip()]
        found = _PROGRESS_LINE.match(line)
        if found:
            if found[1] and previous is not None:
                tables[found[1]] = tables.get(found[1], 0.0) + now - previous
            previous = now
    process.stderr.close()
    process.wait()
    with open(read_end, encoding="utf-8") as pipe:
        cost = json.loads(pipe.read())
    if cost["status"] != 0:
        said = "\n".join(last_lines)
        raise UserError(f"{' '.join(command[1:])} ended with status {cost['status']}:\n{said}")
    # Kibibytes on Linux, bytes on macOS.
    peak = cost["maxrss"] / (1024 if sys.platform != "darwin" else 1024 * 1024)
    return Measurement(
        wall_seconds=round(cost["wall"], 3),
        cpu_seconds=round(cost["cpu"], 3),
        peak_mib=round(peak, 1),
        load_average=round(load_average, 2),
        tables={name: round(seconds, 3) for name, seconds in tables.items()},
    )


def with_steps(
    measured: Measurement, started_at: float, steps: list[tuple[str, float, float]], models: dict[str, float]
) -> Measurement:
    """Put what is before, between and after the steps of the run beside them, so that all sum up to the wall time."""
    named: list[tuple[str, float]] = []
    previous = started_at
    for name, begin, end in steps:
        named.append(("start" if not named else "between steps", begin - previous))
        named.append((name, end - begin))
        previous = end
    named.append(("end", started_at + measured.wall_seconds - previous))
    summed: dict[str, float] = {}
    for name, seconds in named:
        summed[name] = summed.get(name, 0.0) + seconds
    values = asdict(measured) | {
        "steps": [(name, round(seconds, 3)) for name, seconds in summed.items()],
        "models": models,
    }
    return Measurement(**values)


def _in_own_process(function: Callable[..., _T], *arguments: Any) -> _T:
    # So that the memory of one check is not missing to what is measured next.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(function, *arguments).result()


# --- run in processes of their own
# -------------------------------------------------------------------------------------------------------


def read_steps(home: Path) -> tuple[list[tuple[str, float, float]], dict[str, float]]:
    """The steps of a workspace's last run (name, begin, end in seconds since 1970) and the seconds of each dbt model."""
    os.environ["DAGSTER_HOME"] = str(home / "dagster")
    import dagster as dg

    with dg.DagsterInstance.get() as instance:
        run_id = instance.get_run_records(limit=1)[0].dagster_run.run_id
        steps = [
            (stats.step_key, stats.start_time, stats.end_time)
            for stats in instance.get_run_step_stats(run_id)
            if stats.start_time is not None and stats.end_time is not None
        ]
        models = {}
        for entry in instance.all_logs(run_id, of_type=dg.DagsterEventType.ASSET_MATERIALIZATION):
            materialization = entry.asset_materialization
            if materialization is not None and "seconds" in materialization.metadata:
                models[materialization.asset_key.path[-1]] = float(str(materialization.metadata["seconds"].value))
    return sorted(steps, key=lambda step: step[1]), models


def compare(published: Path, by_hand: Path) -> dict[str, int]:
    """Check that the hand-written script says of every account and deal what the published marts say.

    Compared are, exactly: state, points of both kinds, total, cell, rank and reasons of every account; every contribution with its
    value and band; the points as of its opening of every open deal; closed and won deals per range of points.

    Returns
    -------
    dict
        Row counts: accounts, scored accounts, contributions, deals, touchpoints, rows in, rows loaded.

    Raises
    ------
    RuntimeError
        They differ; the message names what and the first rows.
    """
    import duckdb

    both = {
        "account": (
            'select account_id, state, fit_points, engagement_points, total_points, cell, "rank", top_reasons from ',
            "published.marts.scored_accounts",
            "by_hand.scored_accounts",
        ),
        "contribution": (
            "select account_id, kind, criterion, value, band, points from ",
            "published.marts.score_contributions",
            "by_hand.score_contributions",
        ),
        "open deal": (
            "select opportunity_id, points_at_opening from ",
            "published.marts.scored_opportunities where points_at_opening is not null",
            "(select opportunity_id, total_points as points_at_opening from by_hand.scored_deals where status = 'open')",
        ),
        "range of points": (
            "select points_from, deal_count, won_count from ",
            "published.marts.win_rate_by_score",
            "(select cast(floor(total_points / 20.0) * 20 as bigint) as points_from, count(*) as deal_count, "
            "count(*) filter (where status = 'won') as won_count from by_hand.scored_deals where status <> 'open' group by 1)",
        ),
    }
    with duckdb.connect() as con:
        con.execute("set enable_progress_bar = false")
        for name, file in (("published", published.resolve()), ("by_hand", by_hand)):
            escaped = str(file).replace("'", "''")
            con.execute(f"attach '{escaped}' as {name} (read_only)")
        for what, (columns, here, there) in both.items():
            for side, one, other in (("published", here, there), ("by hand", there, here)):
                rows = con.execute(f"{columns} {one} except all {columns} {other}").fetchall()
                if rows:
                    raise RuntimeError(f"{len(rows):,} rows per {what} are only {side}, the first: {rows[:3]}")
        queries = {
            "accounts": "select count(*) from published.marts.scored_accounts",
            "scored accounts": "select count(*) from published.marts.scored_accounts where state = 'scored'",
            "contributions": "select count(*) from published.marts.score_contributions",
            "deals": "select count(*) from by_hand.scored_deals",
            "touchpoints": "select sum(touchpoint_count) from published.marts.touchpoint_counts",
            "rows in": "select sum(rows_in) from published.marts.load_report",
            "rows loaded": "select sum(rows_loaded) from published.marts.load_report",
        }
        return {name: int(con.execute(query).fetchall()[0][0]) for name, query in queries.items()}


def land_new_records(home: Path, count: int, moment: datetime, seed: int) -> None:
    """Land what happened in the five minutes after `moment`: web and email events, and one new contact per thousand of them.

    Most visits are by known visitors and most messages go to known contacts; one visitor in twenty is new, and some of the
    forms are filled in by the new contacts, who belong to known accounts. What is opened, clicked and
    unsubscribed from are the 100,000 messages that were delivered last, one time in twenty by a mail-security gateway; one new
    visitor in forty is a crawler.

    Parameters
    ----------
    home : a workspace with a demo company
    count : records in all, exactly
    moment : naive UTC
    seed : with the moment, the only source of chance
    """
    import duckdb
    import numpy as np
    import pyarrow as pa

    from orchestration.lib.demo_company import vocabulary as words
    from orchestration.lib.demo_company.tables import LandingFiles, moments, numbered, texts
    from orchestration.lib.landing import landing_file

    workspace = Workspace(home)
    with duckdb.connect() as con:
        con.execute("set enable_progress_bar = false")
        con.execute("set variable landing = ?", [str(workspace.landing)])
        web_files, email_files, contact_files, account_files = (
            f"read_parquet(getvariable('landing') || '/{table}/*.parquet', union_by_name = true)"
            for table in ("web/events", "email/events", "crm/contacts", "crm/accounts")
        )
        next_web, next_visitor = _next_numbers(con, web_files, "event_id", "visitor_id")
        next_email, next_message = _next_numbers(con, email_files, "event_id", "message_id")
        (next_contact,) = _next_numbers(con, contact_files, "contact_id")
        contacts = con.execute(f"select contact_id, email from {contact_files} order by contact_id").to_arrow_table()
        accounts = con.execute(
            f"select account_id, max(domain) as domain from {account_files} group by account_id order by account_id"
        ).to_arrow_table()
        known = con.execute(
            f"select visitor_id, max(contact_id) as contact_id from {web_files} where contact_id is not null "
            "group by visitor_id order by visitor_id"
        ).to_arrow_table()
        recent = con.execute(
            f"select message_id, email from {email_files} where event_type = 'delivered' and occurred_at <= ? "
            "order by occurred_at desc, message_id limit 100_000",
            [moment],
        ).to_arrow_table()

    start = int((moment - datetime(1970, 1, 1)).total_seconds())
    rng = np.random.default_rng([4, seed, start])
    contact_count = max(1, count // 1_000)
    web_count = (count - contact_count) // 2
    email_count = count - contact_count - web_count

    account = rng.integers(0, len(accounts), contact_count)
    new_ids = numbered("CON-", next_contact + np.arange(contact_count), 8)
    domains = accounts["domain"].combine_chunks().take(pa.array(account))
    new_emails = pa.array([f"new.{next_contact + i}@{domain}" for i, domain in enumerate(domains.to_pylist())])
    new_moments = moments(start + rng.integers(0, 60, contact_count))

    def times(n: int) -> Any:
        return moments(start + np.sort(rng.integers(60, int(TICK.total_seconds()), n)))

    # Web: two visits in five by visitors whose contact is known, the others by visitors known by their number alone.
    types = [
        "page_view",
        "product_page_view",
        "pricing_page_view",
        "download",
        "form_submission",
        "trial_sign_up",
        "opt_in",
    ]
    kind = rng.choice(len(types), web_count, p=[0.70, 0.14, 0.06, 0.04, 0.03, 0.01, 0.02])
    is_known = rng.random(web_count) < 0.4
    is_new = ~is_known & (rng.random(web_count) < 0.08)
    known_row = rng.integers(0, len(known), web_count)
    number = np.where(
        is_new,
        next_visitor + rng.integers(0, max(1, web_count // 40), web_count),
        rng.integers(0, max(1, next_visitor), web_count),
    )
    visitor_ids = pa.compute.if_else(
        pa.array(is_known),
        known["visitor_id"].combine_chunks().take(pa.array(known_row)),
        numbered("v-", number, 12),
    )
    fills_form = (kind >= 3) & is_new
    web_agent = np.where(is_new & (number % 40 == 0), words.CRAWLER_AGENT, number % 5)

    # Email: what is delivered or bounces is what was sent, in its order; what is opened and clicked was delivered before.
    email_types = ["sent", "delivered", "opened", "clicked", "bounced", "unsubscribed"]
    email_kind = rng.choice(len(email_types), email_count, p=[0.37, 0.35, 0.20, 0.06, 0.01, 0.01])
    acts = np.isin(email_kind, [2, 3, 5])
    sends = email_kind == 0
    message = np.zeros(email_count, dtype=np.int64)
    message[sends] = np.arange(sends.sum())
    message[~sends & ~acts] = np.arange((~sends & ~acts).sum()) % max(1, sends.sum())
    receiver = rng.integers(0, len(contacts), email_count)[message]
    of_recent = rng.integers(0, len(recent), email_count)

    def of_message(recents: Any, news: Any) -> Any:
        return pa.compute.if_else(pa.array(acts), recents.combine_chunks().take(pa.array(of_recent)), news)

    email_agent = np.where(
        rng.random(email_count) < 0.05, words.GATEWAY_AGENT, rng.integers(0, words.HUMAN_AGENT_COUNT, email_count)
    )
    tick = f"{moment + TICK:%Y%m%dT%H%M}"
    with LandingFiles(lambda table, name: landing_file(workspace, table, name)) as files:
        files.append(
            "crm__contacts",
            f"contacts-{tick}.parquet",
            {
                "contact_id": new_ids,
                "account_id": accounts["account_id"].combine_chunks().take(pa.array(account)),
                "email": new_emails,
                "seniority": texts(["c_level", "head", "manager", "staff"], rng.integers(0, 4, contact_count)),
                "created_at": new_moments,
                "updated_at": new_moments,
            },
        )
        files.append(
            "web__events",
            f"events-{tick}.parquet",
            {
                "event_id": numbered("w-", next_web + np.arange(web_count), 12),
                "occurred_at": times(web_count),
                "event_type": texts(types, kind),
                "visitor_id": visitor_ids,
                "contact_id": texts(
                    known["contact_id"].combine_chunks(), known_row, ~is_known | (rng.random(web_count) < 0.5)
                ),
                "email": texts(new_emails, rng.integers(0, contact_count, web_count), ~fills_form),
                "url": texts(words.URLS, rng.integers(0, words.URL_PRODUCT, web_count)),
                "user_agent": texts(words.USER_AGENTS, web_agent),
                "ip_address": _addresses(number),
            },
        )
        files.append(
            "email__events",
            f"events-{tick}.parquet",
            {
                "event_id": numbered("e-", next_email + np.arange(email_count), 12),
                "occurred_at": times(email_count),
                "event_type": texts(email_types, email_kind),
                "message_id": of_message(recent["message_id"], numbered("m-", next_message + message, 12)),
                "contact_id": texts(
                    contacts["contact_id"].combine_chunks(), receiver, acts | (rng.random(email_count) < 0.2)
                ),
                "email": of_message(recent["email"], contacts["email"].combine_chunks().take(pa.array(receiver))),
                "link_url": texts(words.URLS, rng.integers(0, words.URL_FORM, email_count), email_kind != 3),
                "user_agent": texts(words.USER_AGENTS, email_agent, ~acts),
                "ip_address": pa.compute.if_else(pa.array(acts), _addresses(of_recent * 11), None),
            },
        )


def _addresses(numbers: Any) -> Any:
    """A network address for each number, shape (n,), of those that RFC 2544 keeps for benchmarks; they repeat after 131,072."""
    import pyarrow as pa

    return pa.array([f"198.{18 + (n >> 16) % 2}.{(n >> 8) % 256}.{n % 256}" for n in numbers.tolist()])


def _next_numbers(con: Any, files: str, *columns: str) -> list[int]:
    """For each column of keys such as w-000000000042 the number after the highest."""
    highest = ", ".join(f"max(cast(regexp_extract({column}, '[0-9]+$') as bigint))" for column in columns)
    return [int(value) + 1 for value in con.execute(f"select {highest} from {files}").fetchall()[0]]


# --- what it was measured on
# -------------------------------------------------------------------------------------------------------


def environment() -> dict[str, Any]:
    """Versions, cores and memory of this machine."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return {
        "cores": cores,
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in PACKAGES},
    }


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """Least, median and greatest of some figures."""
    return min(values), statistics.median(values), max(values)


def _bytes_on_disk(workspace: Workspace, by_hand: Path) -> dict[str, int]:
    landed = sum(path.stat().st_size for path in workspace.landing.rglob("*") if path.is_file())
    return {
        "landing": landed,
        "warehouse": workspace.warehouse.stat().st_size,
        "published": workspace.published.stat().st_size,
        "by hand": by_hand.stat().st_size,
    }


def write_report(report: BenchmarkReport, file: Path) -> None:
    """All figures as JSON."""
    file.write_text(json.dumps(report.to_document(), indent=2) + "\n", encoding="utf-8")
