"""Runs the demo company block by block and lands it; the entry point is `generate`.

What the company is like is in the other modules; here are only the order of things, the sizes of blocks and
the truth file.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from orchestration.lib.demo_company import criteria as planted
from orchestration.lib.demo_company import vocabulary as words
from orchestration.lib.demo_company.deals import OPENING_MICROS, Deals, history, open_deals, play
from orchestration.lib.demo_company.landing_rows import Block, BlockWriter, Numbers
from orchestration.lib.demo_company.population import Calendar, make_accounts, make_contacts, make_visitors
from orchestration.lib.demo_company.seller import make_calendar, make_campaigns, write_company, write_targets
from orchestration.lib.demo_company.tables import (
    LandingFiles,
    OpenFile,
    directory_target,
    moments,
    numbered,
    texts,
)
from orchestration.lib.demo_company.touchpoints import TouchMaker, together
from orchestration.lib.errors import UserError

DEFAULT_ACCOUNTS = 2_000
DEFAULT_MONTHS = 24
DEFAULT_EVENTS_PER_ACCOUNT = 60
DEFAULT_SEED = 7

TRUTH_FILE = "demo_truth.json"
TRUTH_DEALS_FILE = "demo_truth_deals.parquet"
TOUCH_TABLES = ("web__events", "email__events", "social__interactions", "crm__activities")

# A block is what is in memory at once: about 150 bytes per touch and as much again while its columns are
# written.
TOUCHES_PER_BLOCK = 2_000_000
MAX_ACCOUNTS_PER_BLOCK = 20_000
MIN_BLOCKS = 4  # so that even a small company has several files per event table

# Below this many events per account there is room for fewer of the touches that carry points.
SIGNAL_EVENTS_PER_ACCOUNT = 34.0
EVENTS_PER_DEAL = 3.6  # that follow an opening

Progress = Callable[[int, int], None]
"""``progress(accounts_done, accounts_in_all)``, called after every block."""


@dataclass(frozen=True)
class DemoSummary:
    """What was generated.

    Attributes
    ----------
    row_counts, file_counts : dict
        Per landed table.
    history_start, until : date
        The history is ``history_start <= t < until``.
    deal_count, closed_count, won_count : int
    truth : dict
        The planted criteria and how the data came to be; the content of `demo_truth.json`.
    """

    row_counts: dict[str, int]
    file_counts: dict[str, int]
    history_start: datetime.date
    until: datetime.date
    deal_count: int
    closed_count: int
    won_count: int
    truth: dict[str, Any]

    @property
    def event_count(self) -> int:
        """Touchpoints in all: web, email, social and activities."""
        return sum(self.row_counts.get(table, 0) for table in TOUCH_TABLES)

    @property
    def win_rate(self) -> float:
        """Won share of the closed deals; nan without any."""
        return self.won_count / self.closed_count if self.closed_count else float("nan")


def generate(
    target: OpenFile | Path | str,
    *,
    accounts: int = DEFAULT_ACCOUNTS,
    events: int | None = None,
    months: int = DEFAULT_MONTHS,
    seed: int = DEFAULT_SEED,
    until: datetime.date,
    truth_directory: Path | str | None = None,
    progress: Progress | None = None,
) -> DemoSummary:
    """Write a believable company's exports, the same bytes for the same arguments.

    Parameters
    ----------
    target : callable or directory
        ``target(table_name, file_name)`` is a context manager that gives a path to write to and lands the
        file at its end. Several are open at a time; they end in the order in which they were opened, and
        after an error they end with it. A directory gets ``<source>/<table>/<file>``.
    accounts : int
        Number of accounts, at least 1.
    events : int, optional
        About how many touchpoints there are in all (web, email, social, activities); 60 per account by
        default. Below about 40 per account the touches that carry planted points become fewer too.
    months : int
        Length of the history.
    seed : int
        The only source of chance.
    until : date
        The history ends at this day's midnight, UTC.
    truth_directory : directory, optional
        Where `demo_truth.json` and `demo_truth_deals.parquet` go; the latter has one row per deal: each
        criterion's value and band as of the opening, and the log-odds that its outcome was drawn from. By
        default the directory target itself, and nowhere for a callable.
    progress : callable, optional
        Called as ``progress(accounts_done, accounts)``.

    Raises
    ------
    UserError
        A size is out of range.
    """
    if events is None:
        events = accounts * DEFAULT_EVENTS_PER_ACCOUNT
    _check_sizes(accounts, events, months, seed, until)
    if callable(target):
        open_file = target
    else:
        open_file = directory_target(Path(target))
        truth_directory = target if truth_directory is None else truth_directory

    calendar = make_calendar(until, months)
    campaigns = make_campaigns(calendar)
    numbers = Numbers()
    block_size = _accounts_per_block(accounts, events)
    won_amount = np.zeros((len(words.USERS), len(campaigns.month_starts)), dtype=np.int64)
    closed_count = won_count = 0
    truth_deals = _TruthDeals(Path(truth_directory) if truth_directory is not None else None)

    with LandingFiles(open_file) as files, truth_deals:
        # The first number of a key tells the block from the company; streams never meet.
        write_company(np.random.default_rng([0, seed, 0]), files, calendar, campaigns)
        for number, first in enumerate(range(0, accounts, block_size)):
            count = min(block_size, accounts - first)
            rng = np.random.default_rng([1, seed, number])
            block = _make_block(rng, number, first, count, events * count / accounts, calendar, numbers)
            dress = np.random.default_rng([2, seed, number])
            won_amount += BlockWriter(dress, block, calendar, campaigns, files, numbers, seed).write()
            truth_deals.append(block, calendar, numbers.deal)
            closed = block.deals.is_closed(calendar)
            closed_count += int(closed.sum())
            won_count += int((closed & block.deals.won).sum())
            numbers.contact += len(block.contacts)
            numbers.visitor += len(block.visitors)
            numbers.message += block.message_count
            numbers.deal += len(block.deals)
            if progress is not None:
                progress(first + count, accounts)
        write_targets(np.random.default_rng([3, seed, 0]), files, calendar, campaigns, won_amount)

    truth = {
        "seed": seed,
        "accounts": accounts,
        "events": events,
        "months": months,
        "until": until.isoformat(),
        "points_per_doubling": planted.POINTS_PER_DOUBLING,
        "base_log_odds": planted.BASE_LOG_ODDS,
        "closed_deals": closed_count,
        "won_deals": won_count,
        "signals": {name: list(source) for name, source in planted.SIGNALS.items()},
        "criteria": planted.CRITERIA,
    }
    if truth_directory is not None:
        text = json.dumps(truth, indent=2, ensure_ascii=False) + "\n"
        (Path(truth_directory) / TRUTH_FILE).write_text(text, encoding="utf-8")
    return DemoSummary(
        row_counts=dict(files.row_counts),
        file_counts=dict(files.file_counts),
        history_start=datetime.date(1970, 1, 1) + datetime.timedelta(seconds=calendar.start),
        until=until,
        deal_count=numbers.deal,
        closed_count=closed_count,
        won_count=won_count,
        truth=truth,
    )


def _check_sizes(accounts: int, events: int, months: int, seed: int, until: datetime.date) -> None:
    for name, value, lowest, highest in [
        ("accounts", accounts, 1, 10_000_000),
        ("events", events, 0, 10_000_000_000),
        ("months", months, 1, 240),
        ("seed", seed, 0, 2**31 - 1),
    ]:
        if not lowest <= value <= highest:
            raise UserError(f"{name}: must be between {lowest} and {highest} (value: {value})")
    if not 2000 <= until.year <= 2150:
        raise UserError(f"until: must lie in the years 2000 to 2150 (value: {until})")


def _accounts_per_block(accounts: int, events: int) -> int:
    by_memory = TOUCHES_PER_BLOCK * accounts // max(events, 1)
    return max(1, min(MAX_ACCOUNTS_PER_BLOCK, by_memory, -(-accounts // MIN_BLOCKS)))


def _make_block(
    rng: np.random.Generator,
    number: int,
    first_account: int,
    account_count: int,
    event_budget: float,
    calendar: Calendar,
    numbers: Numbers,
) -> Block:
    """Draw one block: people, then everything that they do, then the deals from what was known at their
    openings."""
    accounts = make_accounts(rng, first_account + np.arange(account_count), calendar)
    contacts = make_contacts(rng, accounts, numbers.contact, calendar)
    visitors = make_visitors(rng, contacts)
    maker = TouchMaker(rng, accounts, contacts, visitors, calendar)
    account, opened_at = open_deals(rng, accounts, calendar)
    scale = min(1.0, event_budget / (SIGNAL_EVENTS_PER_ACCOUNT * account_count))
    quiet = np.setdiff1d(np.arange(account_count), account)
    parts = [
        maker.signals(account, opened_at, scale),
        maker.identifications(scale),
        maker.gateway_clicks(quiet, scale),
    ]
    so_far = sum(len(part) for part in parts)
    parts.append(maker.filler(int(event_budget - so_far - EVENTS_PER_DEAL * len(account))))
    touches = maker.without_mail_after_unsubscribing(together(parts))
    deals, touches = play(rng, maker, touches, account, opened_at)
    return Block(
        number=number,
        accounts=accounts,
        contacts=contacts,
        visitors=visitors,
        touches=touches,
        deals=deals,
        changes=history(rng, deals, calendar),
        unsubscribed_at=maker.unsubscribed_at,
        message_count=maker.message_count,
    )


class _TruthDeals:
    """The side file with what each outcome was drawn from; without a directory it writes nothing."""

    def __init__(self, directory: Path | None):
        self._directory = directory
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _TruthDeals:
        return self

    def __exit__(self, *error: object) -> None:
        if self._writer is not None:
            self._writer.close()

    def append(self, block: Block, calendar: Calendar, first_deal: int) -> None:
        if self._directory is None or not len(block.deals):
            return
        table = _truth_table(block, calendar, first_deal)
        if self._writer is None:
            self._directory.mkdir(parents=True, exist_ok=True)
            self._writer = pq.ParquetWriter(self._directory / TRUTH_DEALS_FILE, table.schema, compression="zstd")
        self._writer.write_table(table)


def _truth_table(block: Block, calendar: Calendar, first_deal: int) -> pa.Table:
    deals: Deals = block.deals
    closed = deals.is_closed(calendar)
    columns: dict[str, pa.Array] = {
        "opportunity_id": numbered("OPP-", first_deal + np.arange(len(deals)), 8),
        "account_id": numbered("ACC-", block.accounts.number[deals.account], 8),
        "opened_at": moments(deals.opened_at, micros=OPENING_MICROS),
        "status": texts(["open", "won", "lost"], np.where(closed, np.where(deals.won, 1, 2), 0)).dictionary_decode(),
        "log_odds": pa.array(deals.log_odds),
    }
    for name, column in deals.values.items():
        if column.categories is not None:
            values = texts(column.categories, column.values, column.missing).dictionary_decode()
        else:
            values = pa.array(column.values, mask=column.missing)
        columns[f"{name}__value"] = values
        columns[f"{name}__band"] = pa.array(deals.bands[name])
    return pa.table(columns)
