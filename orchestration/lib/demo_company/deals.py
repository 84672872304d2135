"""Deals of one block: when they open, what was known then, how they end, and every change on the way.

An outcome is drawn at the opening from the planted points of `criteria` on values of `features` that end at
that moment. Deals of one account are drawn in their order, because what follows a first deal is past for the
second one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.lib.demo_company import features
from orchestration.lib.demo_company.criteria import (
    BASE_LOG_ODDS,
    CRITERIA,
    LOG_ODDS_PER_POINT,
    ValueColumn,
    band_numbers,
    band_points,
)
from orchestration.lib.demo_company.population import (
    DAY,
    HOUR,
    Accounts,
    Bools,
    Calendar,
    Contacts,
    Longs,
    Visitors,
)
from orchestration.lib.demo_company.touchpoints import KIND_OF_SIGNAL, Touches, TouchMaker, together

DEALS_PER_ACCOUNT = 0.95
MAX_DEALS_PER_ACCOUNT = 4
# An account is at least this old when its first deal opens.
FIRST_DEAL_AFTER = 10 * DAY
MEDIAN_CYCLE_DAYS = 52.0

# Openings carry half a second, touches and records whole ones: nothing ever happens at the very moment of an
# opening.
OPENING_MICROS = 500_000

STAGES = ["Qualification", "Discovery", "Proposal", "Negotiation", "Closed Won", "Closed Lost"]
WON_STAGE, LOST_STAGE = 4, 5
STAGE_STARTS = np.array([0.0, 0.18, 0.45, 0.74])  # share of a cycle
LOST_IN_STAGE = np.array([0.28, 0.3, 0.26, 0.16])
FORECAST_CATEGORIES = ["pipeline", "best case", "commit", "closed", "omitted"]
CATEGORY_OF_STAGE = np.array([0, 0, 1, 2, 3, 4])
MAX_PUSHES = 4


@dataclass
class Deals:
    """Deals of a block, by account and opening; every array has shape (deals,)."""

    account: Longs
    opened_at: Longs  # whole seconds; the moment itself is OPENING_MICROS later
    ordinal: Longs  # 0 for the account's first deal
    won: Bools  # how it ends, even where that is after the history
    closed_at: Longs  # when it ends, even where that is after the history
    amount: Longs  # at the opening, whole currency units
    product: Longs
    values: dict[str, ValueColumn]  # by criterion, as of the opening
    bands: dict[str, Longs]
    log_odds: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.account)

    def is_closed(self, calendar: Calendar) -> Bools:
        """Ended inside the history."""
        return self.closed_at < calendar.until


@dataclass
class Changes:
    """Stage history of the deals, by deal and time; every array has shape (changes,)."""

    deal: Longs
    changed_at: Longs
    stage: Longs
    amount: Longs
    expected_close_day: Longs
    is_last: Bools


def open_deals(rng: np.random.Generator, accounts: Accounts, calendar: Calendar) -> tuple[Longs, Longs]:
    """Accounts and opening moments of the block's deals, by account and time, shape (deals,)."""
    possible_from = np.maximum(accounts.created_at, calendar.start) + FIRST_DEAL_AFTER
    room = calendar.until - 6 * DAY - possible_from
    rate = DEALS_PER_ACCOUNT * accounts.interest * np.where(accounts.account_type == 2, 0.7, 1.0)
    # Half of the openings depend on how long the account has been there.
    rate = rate * (0.5 + 0.5 * np.clip(room / (calendar.until - calendar.start), 0, 1))
    count = np.minimum(rng.poisson(rate), MAX_DEALS_PER_ACCOUNT)
    count[room <= 0] = 0
    account = np.repeat(np.arange(len(accounts)), count)
    moment = possible_from[account] + (rng.random(len(account)) * room[account]).astype(np.int64)
    day = moment // DAY
    weekday = (day + 3) % 7
    day = day + np.where(weekday >= 5, 7 - weekday, 0)
    opened_at = day * DAY + 8 * HOUR + rng.integers(0, 10 * HOUR, len(day))
    order = np.lexsort((opened_at, account))
    return account[order], opened_at[order]


def values_as_of(
    accounts: Accounts,
    contacts: Contacts,
    visitors: Visitors,
    touches: Touches,
    calendar: Calendar,
    account: Longs,
    opened_at: Longs,
) -> dict[str, ValueColumn]:
    """Every criterion's values for deals of `account` at `opened_at`, from what was known at those moments
    only."""
    n = len(account)
    none_missing = np.zeros(n, dtype=bool)

    # Touches of people whose account the warehouse can find, at accounts that are asked for.
    wanted = np.zeros(len(accounts), dtype=bool)
    wanted[account] = True
    counted = np.zeros(128, dtype=bool)
    counted[list(KIND_OF_SIGNAL.values())] = True
    rows = np.flatnonzero(counted[touches.kind] & (touches.contact >= 0) & (touches.account >= 0))
    rows = rows[wanted[touches.account[rows]] & contacts.is_matched[touches.contact[rows]]]
    rows = rows[features.stable_order(touches.account[rows].astype(np.int64))]
    kind, time = touches.kind[rows], touches.time[rows]
    visitor = touches.visitor[rows]
    known_at = np.where(visitor >= 0, np.maximum(visitors.identified_at[visitor], time), time)
    person = touches.contact[rows].astype(np.int64)

    subject, event = features.pair_with_events(account, touches.account[rows].astype(np.int64))
    seen = known_at[event] <= opened_at[subject]  # known_at is never before the touch itself
    subject, event = subject[seen], event[seen]
    as_of_day, event_day, event_kind = opened_at[subject] // DAY, time[event] // DAY, kind[event]

    result: dict[str, ValueColumn] = {}
    for name, criterion in CRITERIA.items():
        match criterion.get("measure") or criterion["attribute"]:
            case "decision_maker_count":
                people = np.flatnonzero(contacts.is_decision_maker & contacts.is_matched)
                who, which = features.pair_with_events(account, contacts.account[people])
                present = contacts.created_at[people[which]] <= opened_at[who]
                result[name] = ValueColumn(np.bincount(who[present], minlength=n), none_missing)
            case "count":
                chosen = np.isin(event_kind, [KIND_OF_SIGNAL[s] for s in criterion["signals"]])
                counts = features.decayed_counts(
                    subject[chosen],
                    person[event[chosen]],
                    event_day[chosen],
                    as_of_day[chosen],
                    n,
                    criterion["half_life_days"],
                    criterion["window_days"],
                    criterion["cap_per_day"],
                )
                result[name] = ValueColumn(counts, none_missing)
            case "days_since_last":
                chosen = np.isin(event_kind, [KIND_OF_SIGNAL[s] for s in criterion["signals"]])
                result[name] = ValueColumn(
                    *features.days_since_last(subject[chosen], event_day[chosen], as_of_day[chosen], n)
                )
            case _:
                result[name] = accounts.attribute(name, account, opened_at, calendar)
    return result


def play(
    rng: np.random.Generator, maker: TouchMaker, touches: Touches, account: Longs, opened_at: Longs
) -> tuple[Deals, Touches]:
    """Draw every deal's outcome as of its opening, first deals first, and add the touches that follow each
    opening.

    Returns
    -------
    (deals, touches)
        `touches` are the given ones and those of the deals.
    """
    n = len(account)
    first = np.searchsorted(account, account, side="left")
    ordinal = np.arange(n) - first
    won = np.zeros(n, dtype=bool)
    closed_at = np.zeros(n, dtype=np.int64)
    log_odds = np.zeros(n)
    values: dict[str, ValueColumn] = {}
    bands = {name: np.zeros(n, dtype=np.int64) for name in CRITERIA}

    employees = maker.accounts.employees[account]
    drawn = np.exp(rng.normal(0, 0.55, n)) * 5_200 * np.maximum(employees, 3) ** 0.33
    amount = np.maximum(drawn // 50 * 50, 500).astype(np.int64)
    product = np.where(rng.random(n) < 0.75, np.digitize(amount, [9_000, 32_000]), 3 + rng.integers(0, 3, n))

    for turn in range(MAX_DEALS_PER_ACCOUNT):
        rows = np.flatnonzero(ordinal == turn)
        if not len(rows):
            break
        now = values_as_of(
            maker.accounts,
            maker.contacts,
            maker.visitors,
            touches,
            maker.calendar,
            account[rows],
            opened_at[rows],
        )
        points = np.zeros(len(rows), dtype=np.int64)
        for name, column in now.items():
            band = band_numbers(name, column)
            bands[name][rows] = band
            points += band_points(name, band)
            if name not in values:
                values[name] = ValueColumn(
                    np.zeros(n, dtype=column.values.dtype), np.zeros(n, dtype=bool), column.categories
                )
            values[name].values[rows] = column.values
            values[name].missing[rows] = column.missing
        log_odds[rows] = BASE_LOG_ODDS + LOG_ODDS_PER_POINT * points
        won[rows] = rng.random(len(rows)) < 1 / (1 + np.exp(-log_odds[rows]))
        # Larger deals take longer. Won and lost ones take equally long on average, or the deals still open
        # at the end would leave a sample of closed ones that is won more or less often than the planted odds
        # say.
        cycle = MEDIAN_CYCLE_DAYS * np.exp(rng.normal(0, 0.5, len(rows))) * (amount[rows] / 20_000) ** 0.12
        day = (opened_at[rows] + (np.maximum(cycle, 4) * DAY).astype(np.int64)) // DAY
        weekday = (day + 3) % 7
        day = day + np.where(weekday >= 5, 7 - weekday, 0)
        closed_at[rows] = day * DAY + 9 * HOUR + rng.integers(0, 8 * HOUR, len(rows))
        ends_at = np.minimum(closed_at[rows], maker.calendar.until)
        work = maker.deal_work(account[rows], opened_at[rows], ends_at, won[rows], rows)
        touches = together([touches, work])

    deals = Deals(
        account=account,
        opened_at=opened_at,
        ordinal=ordinal,
        won=won,
        closed_at=closed_at,
        amount=amount,
        product=product,
        values=values,
        bands=bands,
        log_odds=log_odds,
    )
    return deals, touches


def history(rng: np.random.Generator, deals: Deals, calendar: Calendar) -> Changes:
    """Stage moves, pushed close dates and amount changes of every deal, up to the end of the history."""
    n = len(deals)
    length = (deals.closed_at - deals.opened_at).astype(np.float64)
    # Stages reached: won deals go through all, lost ones leave somewhere.
    last_stage = np.where(deals.won, 3, rng.choice(4, n, p=LOST_IN_STAGE))
    scale = 1 / np.append(STAGE_STARTS[1:], 1.0)[last_stage]
    shift = rng.random((n, 3)) * 0.12 - 0.06

    columns: list[tuple[Longs, Longs, Bools]] = [(deals.opened_at, np.zeros(n, dtype=np.int64), np.ones(n, dtype=bool))]
    for step in (1, 2, 3):
        share = np.clip((STAGE_STARTS[step] + shift[:, step - 1]) * scale, 0.02, 0.97)
        at = deals.opened_at + (share * length).astype(np.int64)
        columns.append((at, np.full(n, step), step <= last_stage))
    reached_at = np.stack([np.where(used, at, Visitors.NEVER) for at, _, used in columns])
    # What the owner promises at the opening, and the pushes when that comes near.
    promised = deals.opened_at // DAY + np.maximum(rng.normal(56, 16, n), 14).astype(np.int64)
    promises = [promised]
    push_times = []
    for _ in range(MAX_PUSHES):
        at = (promised - rng.integers(0, 5, n)) * DAY + 10 * HOUR + rng.integers(0, 7 * HOUR, n)
        at = np.maximum(at, deals.opened_at + HOUR)
        promised = promised + rng.integers(14, 45, n)
        promises.append(promised)
        push_times.append(at)
        stage_then = (reached_at <= at).sum(axis=0) - 1
        columns.append((at, stage_then, at < deals.closed_at))
    closing = np.where(deals.won, WON_STAGE, LOST_STAGE)
    columns.append((deals.closed_at, closing, np.ones(n, dtype=bool)))

    deal = np.concatenate([np.flatnonzero(used) for _, _, used in columns])
    changed_at = np.concatenate([at[used] for at, _, used in columns])
    stage = np.concatenate([code[used] for _, code, used in columns])
    inside = changed_at < calendar.until
    deal, changed_at, stage = deal[inside], changed_at[inside], stage[inside]
    order = np.lexsort((stage, changed_at, deal))
    deal, changed_at, stage = deal[order], changed_at[order], stage[order]
    if len(deal):  # a push in the very second of a stage move is that move
        again = (np.diff(deal) == 0) & (np.diff(changed_at) == 0) & (np.diff(stage) == 0)
        keep = np.append(True, ~again)
        deal, changed_at, stage = deal[keep], changed_at[keep], stage[keep]

    pushes = np.zeros(len(deal), dtype=np.int64)
    for at in push_times:
        pushes += at[deal] <= changed_at
    expected = np.stack(promises)[pushes, deal]
    is_closing = stage >= WON_STAGE
    expected = np.where(is_closing, changed_at // DAY, expected)
    # Scope is settled with the proposal; some of it is given away in the negotiation.
    scoped = deals.amount * np.exp(rng.normal(0, 0.14, n))
    discounted = scoped * (1 - np.maximum(rng.normal(0.03, 0.05, n), 0))
    reached = np.where(is_closing, last_stage[deal], stage)
    amount = np.where(reached >= 3, discounted[deal], np.where(reached == 2, scoped[deal], deals.amount[deal]))
    amount = np.maximum(amount // 10 * 10, 100).astype(np.int64)
    is_last = np.append(np.diff(deal) != 0, True) if len(deal) else np.zeros(0, dtype=bool)
    return Changes(deal, changed_at, stage, amount, expected, is_last)
