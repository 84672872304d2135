"""Accounts, contacts and web visitors of one block: who exists, since when, and with which attributes.

What they do is in `touchpoints` and `deals`; how they are written is in `landing_rows`. All arrays of a
block are indexed by position inside the block; times are whole seconds since 1970, UTC.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orchestration.lib.demo_company import vocabulary as words
from orchestration.lib.demo_company.criteria import ValueColumn

DAY = 86_400
HOUR = 3_600

Longs = NDArray[np.int64]
Bools = NDArray[np.bool_]

CONTACT_COUNT_SHARES = np.array([0.2, 0.24, 0.2, 0.14, 0.09, 0.06, 0.04, 0.03])  # of 1 to 8 contacts


@dataclass(frozen=True)
class Calendar:
    """Moments of the demo, seconds since 1970.

    Attributes
    ----------
    start, until : int
        The history is ``start <= t < until``, both midnights.
    early_extract : int
        Midnight of the first export of the accounts, at 60 per cent of the history.
    enriched : int
        Two hours later a data provider's update changes attributes of some accounts. Nothing else happens at
        night, so between this moment and the extract of the changed accounts no other edit can hide when the
        change came.
    fair_starts : int array
        First day of each trade fair.
    """

    start: int
    until: int
    early_extract: int
    enriched: int
    fair_starts: Longs

    @property
    def years(self) -> float:
        return (self.until - self.start) / (365.25 * DAY)


@dataclass
class Accounts:
    """Accounts of a block; every array has shape (accounts,)."""

    number: Longs  # over all blocks, from 0
    created_at: Longs
    account_type: Longs
    industry: Longs
    industry_missing: Bools
    employees: Longs  # first version
    employees_later: Longs  # from `Calendar.enriched` on, where `is_changed`
    employees_missing: Bools
    annual_revenue: Longs
    annual_revenue_later: Longs
    revenue_missing: Bools
    country: Longs
    city: Longs
    founded_year: Longs
    lead_source: Longs
    lead_source_missing: Bools
    tech_stack: Longs
    tech_stack_missing: Bools
    open_positions: Longs
    open_positions_later: Longs
    open_positions_missing: Bools
    owner: Longs
    owner_later: Longs
    is_changed: Bools
    interest: NDArray[np.float64]  # how often the account shows interest and opens deals, mean 1

    def __len__(self) -> int:
        return len(self.number)

    def attribute(self, criterion: str, rows: Longs, at: Longs, calendar: Calendar) -> ValueColumn:
        """Values of an explicit criterion for deals of accounts `rows` at the moments `at`, as the records
        showed them then."""
        if criterion == "employees":
            later = self.is_changed[rows] & (at >= calendar.enriched)
            values = np.where(later, self.employees_later[rows], self.employees[rows])
            return ValueColumn(values, self.employees_missing[rows])
        none = np.zeros(len(rows), dtype=bool)
        match criterion:
            case "industry":
                return ValueColumn(self.industry[rows], self.industry_missing[rows], words.INDUSTRIES)
            case "account_type":
                return ValueColumn(self.account_type[rows], none, words.ACCOUNT_TYPES)
            case "lead_source":
                return ValueColumn(self.lead_source[rows], self.lead_source_missing[rows], words.LEAD_SOURCES)
            case "country":
                return ValueColumn(self.country[rows], none, words.COUNTRIES)
            case "tech_stack":
                return ValueColumn(self.tech_stack[rows], self.tech_stack_missing[rows], words.TECH_STACKS)
        raise ValueError(f"criterion {criterion} is not an attribute of an account")


@dataclass
class Contacts:
    """Contacts of a block, ordered by account; every array has shape (contacts,) but `first` and `count`
    (accounts,)."""

    first: Longs  # row of the account's first contact, who exists from the account's creation on
    count: Longs
    account: Longs
    created_at: Longs
    is_linked: Bools  # the CRM links the contact to its account
    is_free_mail: Bools
    seniority: Longs
    function: Longs
    first_name: Longs
    last_name: Longs
    has_opted_in: Bools
    birth_year: Longs
    gender_known: Bools
    number: Longs  # over all blocks, from 0

    def __len__(self) -> int:
        return len(self.account)

    @property
    def is_matched(self) -> Bools:
        """The warehouse finds the contact's account: by link, else by a company's email domain."""
        return self.is_linked | ~self.is_free_mail

    @property
    def is_decision_maker(self) -> Bools:
        return self.seniority <= words.SENIORITIES.index("head")


@dataclass
class Visitors:
    """Browsers of a block: row i < contacts is contact i's first device, the others second devices and
    strangers."""

    contact: Longs  # -1 for a stranger
    second_of: Longs  # shape (contacts,): row of the second device, -1 without one
    strangers_from: int  # rows from here on belong to nobody we know
    identified_at: Longs  # NEVER until an event carries a contact or an email

    NEVER = np.iinfo(np.int64).max

    def __len__(self) -> int:
        return len(self.contact)


def make_accounts(rng: np.random.Generator, number: Longs, calendar: Calendar) -> Accounts:
    """Draw the accounts with the given numbers."""
    n = len(number)
    span = calendar.until - calendar.start
    # 60 % are older than the history (up to four years), the others are created over it.
    age = np.where(rng.random(n) < 0.6, -rng.random(n) * 4 * 365 * DAY, rng.random(n) * (span - DAY))
    created_at = _office_hours(rng, calendar.start + age.astype(np.int64))

    kind = rng.choice(3, n, p=[0.86, 0.06, 0.08])
    is_public, is_sole = kind == 1, kind == 2
    industry = rng.choice(len(words.INDUSTRIES), n, p=words.INDUSTRY_SHARES)
    industry[is_public] = words.INDUSTRIES.index("public administration")
    employees = np.exp(rng.normal(np.log(60), 1.75, n)).astype(np.int64) + 1
    employees = np.minimum(np.where(is_sole, 1 + rng.integers(0, 4, n), employees), 250_000)
    revenue = (employees * np.exp(rng.normal(np.log(150_000), 0.5, n)) // 1000 * 1000).astype(np.int64)
    positions = rng.poisson(np.minimum(employees * 0.02, 400))

    country = rng.choice(len(words.COUNTRIES), n, p=words.COUNTRY_SHARES)
    region = words.COUNTRY_REGION[country]
    seat = rng.integers(0, words.USERS_PER_REGION, n)
    moves = rng.random(n) < 0.3
    is_changed = (rng.random(n) < 0.15) & (created_at < calendar.early_extract)
    growth = np.where(rng.random(n) < 0.8, 1.2 + rng.random(n) * 1.6, 0.6 + rng.random(n) * 0.3)
    grown = np.maximum(1, (employees * growth).astype(np.int64))
    created_year = created_at.astype("datetime64[s]").astype("datetime64[Y]").astype(np.int64) + 1970
    return Accounts(
        number=number,
        created_at=created_at,
        account_type=kind,
        industry=industry,
        industry_missing=(rng.random(n) < 0.03) & ~is_public,
        employees=employees,
        employees_later=np.where(is_changed, grown, employees),
        employees_missing=rng.random(n) < 0.06,
        annual_revenue=revenue,
        annual_revenue_later=np.where(is_changed, revenue * grown // employees // 1000 * 1000, revenue),
        revenue_missing=rng.random(n) < 0.12,
        country=country,
        city=country * words.CITIES_PER_COUNTRY + rng.integers(0, words.CITIES_PER_COUNTRY, n),
        founded_year=created_year - 1 - (rng.gamma(1.4, 16, n)).astype(np.int64),
        lead_source=rng.choice(len(words.LEAD_SOURCES), n, p=words.LEAD_SOURCE_SHARES),
        lead_source_missing=rng.random(n) < 0.02,
        tech_stack=rng.choice(3, n, p=[0.45, 0.3, 0.25]),
        tech_stack_missing=rng.random(n) < 0.15,
        open_positions=positions,
        open_positions_later=np.where(is_changed, rng.poisson(np.minimum(grown * 0.025, 400)), positions),
        open_positions_missing=rng.random(n) < 0.1,
        owner=region * words.USERS_PER_REGION + seat,
        owner_later=region * words.USERS_PER_REGION
        + np.where(is_changed & moves, (seat + 1) % words.USERS_PER_REGION, seat),
        is_changed=is_changed,
        interest=rng.gamma(1.3, 1 / 1.3, n),
    )


def make_contacts(rng: np.random.Generator, accounts: Accounts, first_number: int, calendar: Calendar) -> Contacts:
    """Draw one to eight contacts per account."""
    count = 1 + rng.choice(8, len(accounts), p=CONTACT_COUNT_SHARES).astype(np.int64)
    count[accounts.account_type == 2] = 1
    first = np.cumsum(count) - count
    account = np.repeat(np.arange(len(accounts)), count)
    m = len(account)
    ordinal = np.arange(m) - first[account]
    is_first = ordinal == 0
    # Later contacts turn up over the account's life, sooner rather than later; the first one comes with the
    # account.
    life = calendar.until - 2 * HOUR - accounts.created_at[account]
    created_at = accounts.created_at[account] + 60 + (life * rng.random(m) ** 2).astype(np.int64)
    created_at = np.minimum(
        np.maximum(_office_hours(rng, created_at), accounts.created_at[account] + 60), calendar.until - 60
    )
    created_at[is_first] = accounts.created_at[account[is_first]]
    unlinked = (rng.random(m) < 0.05) & ~is_first
    seniority = np.where(
        is_first, rng.choice(4, m, p=[0.14, 0.2, 0.3, 0.36]), rng.choice(4, m, p=[0.05, 0.12, 0.25, 0.58])
    )
    # Different first names within an account, so that first.last@domain is unique.
    name_start = rng.integers(0, len(words.FIRST_NAMES), len(accounts))
    return Contacts(
        first=first,
        count=count,
        account=account,
        created_at=created_at,
        is_linked=~unlinked,
        is_free_mail=rng.random(m) < np.where(accounts.account_type[account] == 2, 0.5, 0.05),
        seniority=seniority,
        function=rng.integers(0, len(words.FUNCTIONS), m),
        first_name=(name_start[account] + ordinal * 5) % len(words.FIRST_NAMES),
        last_name=rng.integers(0, len(words.LAST_NAMES), m),
        has_opted_in=rng.random(m) < 0.75,
        birth_year=np.where(rng.random(m) < 0.2, rng.integers(1958, 2003, m), 0),
        gender_known=rng.random(m) < 0.3,
        number=first_number + np.arange(m),
    )


def make_visitors(rng: np.random.Generator, contacts: Contacts) -> Visitors:
    """One or two devices per contact, and strangers beside them; nobody is identified yet."""
    m = len(contacts)
    has_second = rng.random(m) < 0.3
    second_of = np.full(m, -1, dtype=np.int64)
    second_of[has_second] = m + np.arange(int(has_second.sum()))
    strangers_from = m + int(has_second.sum())
    stranger_count = m // 2 + 1
    owner = np.concatenate([np.arange(m), np.flatnonzero(has_second), np.full(stranger_count, -1)])
    return Visitors(
        contact=owner,
        second_of=second_of,
        strangers_from=strangers_from,
        identified_at=np.full(len(owner), Visitors.NEVER, dtype=np.int64),
    )


def _office_hours(rng: np.random.Generator, seconds: Longs) -> Longs:
    """The same days, between 08:00 and 18:00."""
    return seconds // DAY * DAY + 8 * HOUR + (rng.random(len(seconds)) * 10 * HOUR).astype(np.int64)
