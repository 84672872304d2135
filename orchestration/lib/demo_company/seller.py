"""The demo company itself: its calendar, users, products, campaigns, the market's figures and the targets.

Everything here is small and the same for every account; accounts and what they do are in `population` and
`touchpoints`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from orchestration.lib.demo_company import vocabulary as words
from orchestration.lib.demo_company.population import DAY, HOUR, Calendar, Longs
from orchestration.lib.demo_company.tables import LandingFiles, dates, decimals, moments, money

EPOCH = datetime.date(1970, 1, 1)
TARGET_MONTHS_AHEAD = 12
FAIR_EVERY_MONTHS = 3
NEWSLETTER, WEBINAR, TRADE_FAIR, PAID_SEARCH = range(4)
CAMPAIGN_TYPES = ["newsletter", "webinar", "trade_fair", "paid_search"]


def add_months(date: datetime.date, months: int) -> datetime.date:
    """The same day of another month, or its last day where it has no such day."""
    index = date.year * 12 + date.month - 1 + months
    year, month = divmod(index, 12)
    following = datetime.date(year + (month == 11), (month + 1) % 12 + 1, 1)
    last = (following - datetime.timedelta(days=1)).day
    return datetime.date(year, month + 1, min(date.day, last))


def midnight(date: datetime.date) -> int:
    """Seconds since 1970 of 00:00 UTC."""
    return (date - EPOCH).days * DAY


def make_calendar(until: datetime.date, months: int) -> Calendar:
    """The moments of a history of `months` months that ends at midnight of `until`."""
    start = midnight(add_months(until, -months))
    end = midnight(until)
    early = start + (end - start) * 6 // 10 // DAY * DAY
    first_month = add_months(until, -months).replace(day=1)
    fairs = [midnight(add_months(first_month, m)) + 13 * DAY for m in range(1, months + 1, FAIR_EVERY_MONTHS)]
    return Calendar(
        start=start,
        until=end,
        early_extract=early,
        enriched=early + 2 * HOUR,
        fair_starts=np.array([f for f in fairs if start <= f and f + 3 * DAY <= end], dtype=np.int64),
    )


@dataclass(frozen=True)
class Campaigns:
    """All campaigns, with the way from a moment to the one that ran then.

    Attributes
    ----------
    ids : list of str
    kind, first_day, last_day : int arrays, shape (campaigns,)
        `kind` codes CAMPAIGN_TYPES; days since 1970.
    month_starts : int array, shape (months,)
        Seconds; first days of the calendar months that the history touches.
    newsletter_of_month, webinar_of_month, search_of_month : int arrays, shape (months,)
        Position of the campaign that runs in that month.
    fair_of : int array, shape (fairs,)
        Position of each trade fair's campaign, in the order of `Calendar.fair_starts`.
    """

    ids: list[str]
    names: list[str]
    kind: Longs
    first_day: Longs
    last_day: Longs
    month_starts: Longs
    newsletter_of_month: Longs
    webinar_of_month: Longs
    search_of_month: Longs
    fair_of: Longs

    def running(self, of_month: Longs, time: Longs) -> Longs:
        """Position of the campaign of a kind that ran at each moment."""
        return of_month[np.searchsorted(self.month_starts, time, side="right") - 1]


def make_campaigns(calendar: Calendar) -> Campaigns:
    """A newsletter per month, a webinar and a search campaign per quarter, and the trade fairs."""
    first = (EPOCH + datetime.timedelta(days=calendar.start // DAY)).replace(day=1)
    months = []
    while midnight(first) < calendar.until:
        months.append(first)
        first = add_months(first, 1)
    ids: list[str] = []
    names: list[str] = []
    kind: list[int] = []
    first_day: list[int] = []
    last_day: list[int] = []

    def add(code: int, label: str, start: datetime.date, end: datetime.date) -> int:
        names.append(label)
        ids.append(f"CMP-{len(ids) + 1:04d}")
        kind.append(code)
        first_day.append((start - EPOCH).days)
        last_day.append((end - EPOCH).days)
        return len(ids) - 1

    newsletter: list[int] = []
    webinar: list[int] = []
    search: list[int] = []
    for month in months:
        end = add_months(month, 1) - datetime.timedelta(days=1)
        newsletter.append(add(NEWSLETTER, f"Newsletter {month:%Y-%m}", month, end))
        if not webinar or month.month % 3 == 1:
            quarter_end = add_months(month, 3 - (month.month - 1) % 3) - datetime.timedelta(days=1)
            quarter = f"{month.year} Q{(month.month + 2) // 3}"
            webinar_campaign = add(WEBINAR, f"Webinar {quarter}", month, quarter_end)
            search_campaign = add(PAID_SEARCH, f"Search ads {quarter}", month, quarter_end)
        webinar.append(webinar_campaign)
        search.append(search_campaign)
    fair_of = []
    for number, fair in enumerate(calendar.fair_starts):
        start = EPOCH + datetime.timedelta(days=int(fair) // DAY)
        label = f"{['Process Expo', 'Office Summit', 'Trade Days'][number % 3]} {start:%Y-%m}"
        fair_of.append(add(TRADE_FAIR, label, start, start + datetime.timedelta(days=2)))
    return Campaigns(
        ids=ids,
        names=names,
        kind=np.array(kind),
        first_day=np.array(first_day),
        last_day=np.array(last_day),
        month_starts=np.array([midnight(month) for month in months]),
        newsletter_of_month=np.array(newsletter),
        webinar_of_month=np.array(webinar),
        search_of_month=np.array(search),
        fair_of=np.array(fair_of, dtype=np.int64),
    )


def write_company(rng: np.random.Generator, files: LandingFiles, calendar: Calendar, campaigns: Campaigns) -> None:
    """Land users, products, campaigns and the market's figures."""
    n = len(words.USERS)
    region = np.arange(n) // words.USERS_PER_REGION
    long_ago = calendar.start - 30 * DAY + 9 * HOUR
    files.append(
        "crm__users",
        "users.parquet",
        {
            "user_id": pa.array(user_ids()),
            "user_name": pa.array(words.USERS),
            "manager": pa.array([words.MANAGERS[r] for r in region]),
            "team": pa.array([f"Sales {words.REGIONS[r]}" for r in region]),
            "region": pa.array([words.REGIONS[r] for r in region]),
            "is_active": pa.array([True] * n),
            "updated_at": moments(np.full(n, long_ago)),
        },
    )
    files.append(
        "crm__products",
        "products.parquet",
        {
            "product": pa.array(words.PRODUCTS),
            "product_family": pa.array(words.PRODUCT_FAMILIES),
            "list_price": money(np.array(words.PRODUCT_PRICES)),
            "updated_at": moments(np.full(len(words.PRODUCTS), long_ago)),
        },
    )
    costs = np.array([400, 3_500, 42_000, 9_000])[campaigns.kind] * rng.uniform(0.8, 1.25, len(campaigns.ids))
    files.append(
        "crm__campaigns",
        "campaigns.parquet",
        {
            "campaign_id": pa.array(campaigns.ids),
            "campaign_name": pa.array(campaigns.names),
            "campaign_type": pa.array([CAMPAIGN_TYPES[k] for k in campaigns.kind]),
            "started_on": dates(campaigns.first_day),
            "ended_on": dates(campaigns.last_day),
            "cost": money(costs.astype(np.int64) // 10 * 10),
            "updated_at": moments(np.minimum(campaigns.first_day * DAY, calendar.until - DAY)),
        },
    )
    # Figures of a year come out in the following March; those not yet out at the end are not landed.
    first_year = (EPOCH + datetime.timedelta(days=calendar.start // DAY)).year - 2
    rows = []
    for code, industry in enumerate(words.INDUSTRIES):
        growth = 3.0 + 6.0 * (code == 0) + rng.normal(0, 1.0)
        for year in range(first_year, first_year + 60):
            published = midnight(datetime.date(year + 1, 3, 10 + code)) + 7 * HOUR
            if published >= calendar.until:
                break
            rows.append((industry, year, published, growth + rng.normal(0, 1.5), 2.5 + code % 4 + 0.3 * rng.random()))
    industries, years, published_at, growth_pct, spend_pct = zip(*rows, strict=True)
    files.append(
        "market__industry_benchmarks",
        "industry-benchmarks.parquet",
        {
            "industry": pa.array(industries),
            "year": pa.array(years, pa.int64()),
            "published_at": moments(np.array(published_at)),
            "market_growth_pct": decimals(_scaled(growth_pct), 18, 4),
            "digital_spend_pct": decimals(_scaled(spend_pct), 18, 4),
        },
    )


def write_targets(
    rng: np.random.Generator, files: LandingFiles, calendar: Calendar, campaigns: Campaigns, won_amount: Longs
) -> None:
    """Land a target per owner and month, for the history and the twelve months after it.

    Parameters
    ----------
    won_amount : int array, shape (owners, months)
        What was won in the months of the history, whole currency units; targets lie around its level with a
        growth of 8 per cent a year, so that attainment is neither hopeless nor free.
    """
    history_months = len(campaigns.month_starts)
    first = EPOCH + datetime.timedelta(days=int(campaigns.month_starts[0]) // DAY)
    starts = [add_months(first, m) for m in range(history_months + TARGET_MONTHS_AHEAD)]
    # The first months have no closings yet, because every deal of the demo opens inside the history.
    settled = won_amount[:, min(3, history_months - 1) :]
    level = np.maximum(settled.mean(axis=1) * 0.5 + settled.mean() * 0.5, 1_000.0)
    owners = len(won_amount)
    season = np.array([0.85, 0.95, 1.1, 0.95, 1.0, 1.1, 0.85, 0.8, 1.1, 1.05, 1.1, 1.15])
    growth = 1.08 ** ((np.arange(len(starts)) - history_months / 2) / 12)
    month = np.array([s.month - 1 for s in starts])
    target = level[:, None] * 1.05 * season[month] * growth * rng.uniform(0.92, 1.08, (owners, 1))
    days = np.array([(s - EPOCH).days for s in starts])
    year_start = np.array([(s.replace(month=1, day=1) - EPOCH).days for s in starts])
    set_at = np.minimum((year_start - 20) * DAY + 10 * HOUR, calendar.until - HOUR)
    files.append(
        "crm__targets",
        "targets.parquet",
        {
            "owner_id": pa.array(np.repeat(user_ids(), len(starts)).tolist()),
            "period_start": dates(np.tile(days, owners)),
            "period_type": pa.array(["month"] * (owners * len(starts))),
            "target_amount": money(target.reshape(-1).astype(np.int64) // 100 * 100),
            "updated_at": moments(np.tile(set_at, owners)),
        },
    )


def user_ids() -> list[str]:
    """Keys of the users, in the order of `vocabulary.USERS`."""
    return [f"USR-{i + 1:02d}" for i in range(len(words.USERS))]


def _scaled(values: tuple[float, ...]) -> NDArray[np.int64]:
    return np.round(np.array(values) * 100).astype(np.int64) * 100
