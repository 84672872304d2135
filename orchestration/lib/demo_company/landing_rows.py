"""Rows of landed tables for one block: turns people, touches and deals into the columns of the data
contracts.

Nothing is decided here that a weight depends on; only how much of what happened each source system shows.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from orchestration.lib.demo_company import vocabulary as words
from orchestration.lib.demo_company.deals import (
    CATEGORY_OF_STAGE,
    FORECAST_CATEGORIES,
    OPENING_MICROS,
    STAGES,
    WON_STAGE,
    Changes,
    Deals,
)
from orchestration.lib.demo_company.features import stable_order
from orchestration.lib.demo_company.population import (
    DAY,
    Accounts,
    Bools,
    Calendar,
    Contacts,
    Longs,
    Visitors,
)
from orchestration.lib.demo_company.seller import Campaigns, user_ids
from orchestration.lib.demo_company.tables import LandingFiles, dates, moments, money, numbered, texts
from orchestration.lib.demo_company.touchpoints import (
    ACTIVITY,
    ACTIVITY_TYPES,
    CALL,
    CLICKED,
    DOWNLOAD,
    EMAIL,
    EMAIL_TYPES,
    FAIR_VISIT,
    FORM,
    IDENTIFYING,
    MEETING,
    OPENED,
    OPT_IN,
    PRICING_VIEW,
    PRODUCT_VIEW,
    SENT,
    SOCIAL,
    TENDER,
    TRIAL,
    UNSUBSCRIBED,
    WEB,
    WEB_TYPES,
    Touches,
)

REDELIVERED_ROWS = 200


@dataclass
class Numbers:
    """First free number of every kind of key; blocks move them on."""

    contact: int = 0
    visitor: int = 0
    message: int = 0
    deal: int = 0
    web: int = 0
    email: int = 0
    social: int = 0
    activity: int = 0
    answer: int = 0


@dataclass
class Block:
    """All of one block, ready to be written."""

    number: int
    accounts: Accounts
    contacts: Contacts
    visitors: Visitors
    touches: Touches
    deals: Deals
    changes: Changes
    unsubscribed_at: Longs  # per contact, Visitors.NEVER without
    message_count: int


class BlockWriter:
    """Writes one block's rows.

    Parameters
    ----------
    rng : numpy Generator
        For what only dresses the rows: pages, browsers, outcomes in words.
    block, calendar, campaigns, files, numbers, seed
        What is written, where, and the first numbers of its keys.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        block: Block,
        calendar: Calendar,
        campaigns: Campaigns,
        files: LandingFiles,
        numbers: Numbers,
        seed: int,
    ):
        self.rng, self.block, self.calendar, self.campaigns = rng, block, calendar, campaigns
        self.files, self.numbers = files, numbers
        accounts, contacts = block.accounts, block.contacts
        n = len(accounts)
        has_deals = np.zeros(n, dtype=bool)
        has_deals[block.deals.account] = True
        self.quiet = ~has_deals
        # A few records were entered twice and merged later. Only accounts without deals, so that whether a
        # warehouse resolves merges as of then or as of now cannot move a planted value.
        self.merged_into = np.full(n, -1, dtype=np.int64)
        quiet_rows = np.flatnonzero(self.quiet)
        if len(quiet_rows) >= 2:
            pairs = np.arange(0, len(quiet_rows) - 1, 2)
            chosen = pairs[rng.random(len(pairs)) < 0.012]
            self.merged_into[quiet_rows[chosen + 1]] = quiet_rows[chosen]
        self.account_ids = numbered("ACC-", accounts.number, 8)
        names, domains = words.company_names(accounts.number, seed)
        survivor = pa.array(np.where(self.merged_into >= 0, self.merged_into, np.arange(n)))
        is_merged = pa.array(self.merged_into >= 0)
        self.domains = domains.take(survivor)
        own = pc.binary_join_element_wise(names.take(survivor), pa.scalar("(double)"), " ")
        self.names = pc.if_else(is_merged, own, names)
        self.contact_ids = numbered("CON-", contacts.number, 8)
        self.first = pa.array(words.FIRST_NAMES).take(pa.array(contacts.first_name))
        self.last = pa.array(words.LAST_NAMES).take(pa.array(contacts.last_name))
        self.emails = self._addresses()

    def _addresses(self) -> pa.Array:
        contacts = self.block.contacts
        local = pc.binary_join_element_wise(pc.utf8_lower(self.first), pc.utf8_lower(self.last), ".")
        private = pc.binary_join_element_wise(local, pa.array(contacts.number.astype(str)), ".")
        provider = texts(words.FREE_MAIL_DOMAINS, contacts.number % len(words.FREE_MAIL_DOMAINS)).dictionary_decode()
        at_work = pc.binary_join_element_wise(local, self.domains.take(pa.array(contacts.account)), "@")
        at_home = pc.binary_join_element_wise(private, provider, "@")
        return pc.if_else(pa.array(contacts.is_free_mail), at_home, at_work)

    def write(self) -> Longs:
        """Append all rows; returns won amounts in whole units per owner and month, shape (owners, months)."""
        self._accounts()
        self._contacts()
        won = self._opportunities()
        self._web_events()
        self._email_events()
        self._social()
        self._activities()
        self._campaign_members()
        self._nps_answers()
        return won

    # -- CRM records

    def _accounts(self) -> None:
        rng, accounts, calendar = self.rng, self.block.accounts, self.calendar
        n = len(accounts)
        u = rng.random(n)
        fixed = {
            "is_suppressed": self.quiet & (u < 0.02),
            "is_disqualified": self.quiet & (u > 0.97),
            "is_deleted": self.quiet & (u > 0.5) & (u < 0.503) & (self.merged_into < 0),
        }
        parent = np.arange(n) - rng.integers(1, 30, n)
        no_parent = (rng.random(n) > 0.05) | (parent < 0) | (accounts.account_type == 2)
        early_stage = rng.integers(0, 3, n)
        extracts = [
            (calendar.early_extract, accounts.created_at < calendar.early_extract, "all"),
            (calendar.enriched + 3_600, accounts.is_changed, "changed"),
            (calendar.until, np.ones(n, dtype=bool), "all"),
        ]
        deals = self.block.deals
        for moment, included, label in extracts:
            rows = np.flatnonzero(included)
            is_later = accounts.is_changed & (moment > calendar.enriched)
            opened, closed = deals.opened_at < moment, deals.closed_at < moment
            is_customer = np.zeros(n, dtype=bool)
            is_customer[deals.account[closed & deals.won]] = True
            in_deal = np.zeros(n, dtype=bool)
            in_deal[deals.account[opened & ~closed]] = True
            updated_at = np.where(is_later, calendar.enriched, accounts.created_at)
            np.maximum.at(updated_at, deals.account[opened], deals.opened_at[opened] + 1)
            np.maximum.at(updated_at, deals.account[closed], deals.closed_at[closed] + 1)
            stage = np.where(is_customer, 4, np.where(in_deal, 3, early_stage))

            def version(first: NDArray, later: NDArray, is_later: Bools = is_later, rows: Longs = rows) -> NDArray:
                return np.where(is_later, later, first)[rows]

            picked = pa.array(rows)
            none_here = no_parent[rows]
            merged = self.merged_into[rows]
            columns = {
                "account_id": self.account_ids.take(picked),
                "account_name": self.names.take(picked),
                "domain": self.domains.take(picked),
                "industry": texts(words.INDUSTRIES, accounts.industry[rows], accounts.industry_missing[rows]),
                "employees": pa.array(
                    version(accounts.employees, accounts.employees_later),
                    mask=accounts.employees_missing[rows],
                ),
                "annual_revenue": money(
                    version(accounts.annual_revenue, accounts.annual_revenue_later),
                    accounts.revenue_missing[rows],
                ),
                "country": texts(words.COUNTRIES, accounts.country[rows]),
                "region": texts(words.REGIONS, words.COUNTRY_REGION[accounts.country[rows]]),
                "city": texts(words.CITIES, accounts.city[rows]),
                "founded_year": accounts.founded_year[rows],
                "account_type": texts(words.ACCOUNT_TYPES, accounts.account_type[rows]),
                "lifecycle_stage": texts(
                    ["subscriber", "lead", "marketing qualified", "opportunity", "customer"], stage[rows]
                ),
                "lead_source": texts(
                    words.LEAD_SOURCES, accounts.lead_source[rows], accounts.lead_source_missing[rows]
                ),
                "owner_id": texts(user_ids(), version(accounts.owner, accounts.owner_later)),
                "parent_account_id": texts(self.account_ids, np.where(none_here, 0, parent[rows]), none_here),
                "is_customer": is_customer[rows],
                "merged_into_account_id": texts(self.account_ids, np.maximum(merged, 0), merged < 0),
                "created_at": moments(accounts.created_at[rows]),
                "updated_at": moments(updated_at[rows]),
                **{name: values[rows] for name, values in fixed.items()},
            }
            custom = {
                "tech_stack": texts(words.TECH_STACKS, accounts.tech_stack[rows], accounts.tech_stack_missing[rows]),
                "open_positions": pa.array(
                    version(accounts.open_positions, accounts.open_positions_later),
                    mask=accounts.open_positions_missing[rows],
                ),
            }
            self.files.append("crm__accounts", accounts_file(moment, label), columns, custom)

    def _contacts(self) -> None:
        rng, contacts = self.rng, self.block.contacts
        m = len(contacts)
        code, seniority = contacts.function, contacts.seniority
        titles = np.select(
            [seniority == 0, seniority == 1, seniority == 2],
            [code, len(words.FUNCTIONS) + code, 2 * len(words.FUNCTIONS) + code],
            3 * len(words.FUNCTIONS) + code,
        )
        all_titles = words.C_LEVEL_TITLES + [
            pattern.format(function)
            for pattern in ("Head of {}", "{} Manager", "{} Specialist")
            for function in words.FUNCTION_TITLES
        ]
        mergeable = (
            self.quiet[contacts.account] & contacts.is_linked & (np.arange(m) != contacts.first[contacts.account])
        )
        merged = mergeable & (rng.random(m) < 0.012)
        unsubscribed = self.block.unsubscribed_at < self.calendar.until
        updated_at = np.where(
            unsubscribed, np.maximum(self.block.unsubscribed_at, contacts.created_at), contacts.created_at
        )
        account = self.block.accounts
        self.files.append(
            "crm__contacts",
            "contacts.parquet",
            {
                "contact_id": self.contact_ids,
                "account_id": texts(self.account_ids, contacts.account, ~contacts.is_linked),
                "email": self.emails,
                "contact_name": pc.binary_join_element_wise(self.first, self.last, " "),
                "job_title": texts(all_titles, titles),
                "job_function": texts(words.FUNCTIONS, code),
                "seniority": texts(words.SENIORITIES, seniority),
                "country": texts(words.COUNTRIES, account.country[contacts.account]),
                "city": texts(words.CITIES, account.city[contacts.account]),
                "birth_year": pa.array(contacts.birth_year, mask=contacts.birth_year == 0),
                "gender": texts(["female", "male"], contacts.first_name % 2, ~contacts.gender_known),
                "has_opted_in": contacts.has_opted_in,
                "is_unsubscribed": unsubscribed,
                "merged_into_contact_id": texts(self.contact_ids, contacts.first[contacts.account], ~merged),
                "created_at": moments(contacts.created_at),
                "updated_at": moments(updated_at),
                "is_deleted": np.zeros(m, dtype=bool),
            },
        )

    def _opportunities(self) -> Longs:
        rng, deals, changes, accounts = self.rng, self.block.deals, self.block.changes, self.block.accounts
        n = len(deals)
        months = len(self.campaigns.month_starts)
        if not n:
            return np.zeros((len(words.USERS), months), dtype=np.int64)
        self.deal_ids = numbered("OPP-", self.numbers.deal + np.arange(n), 8)
        deal = changes.deal
        moved = accounts.is_changed[deals.account[deal]] & (changes.changed_at >= self.calendar.enriched)
        of_account = deals.account[deal]
        owner = np.where(moved, accounts.owner_later[of_account], accounts.owner[of_account])
        self.files.append(
            "crm__opportunity_stage_history",
            "stage-history.parquet",
            {
                "opportunity_id": texts(self.deal_ids, deal),
                "changed_at": moments(changes.changed_at, micros=OPENING_MICROS),
                "stage": texts(STAGES, changes.stage),
                "amount": money(changes.amount),
                "expected_close_date": dates(changes.expected_close_day),
                "owner_id": texts(user_ids(), owner),
                "forecast_category": texts(FORECAST_CATEGORIES, CATEGORY_OF_STAGE[changes.stage]),
            },
        )
        last = np.flatnonzero(changes.is_last)
        is_closed = deals.is_closed(self.calendar)
        won = is_closed & deals.won
        first_won = np.full(len(accounts), Visitors.NEVER, dtype=np.int64)
        np.minimum.at(first_won, deals.account[won], deals.closed_at[won])
        expands = first_won[deals.account] < deals.opened_at
        webinar = self.campaigns.running(self.campaigns.webinar_of_month, deals.opened_at)
        search = self.campaigns.running(self.campaigns.search_of_month, deals.opened_at)
        draw = rng.random(n)
        picked = pa.array(deals.account)
        product = texts(words.PRODUCTS, deals.product)
        self.files.append(
            "crm__opportunities",
            "opportunities.parquet",
            {
                "opportunity_id": self.deal_ids,
                "opportunity_name": pc.binary_join_element_wise(
                    self.names.take(picked), product.dictionary_decode(), " - "
                ),
                "account_id": texts(self.account_ids, deals.account),
                "contact_id": texts(self.contact_ids, self.block.contacts.first[deals.account]),
                "owner_id": texts(user_ids(), owner[last]),
                "product": product,
                "stage": texts(STAGES, changes.stage[last]),
                "status": texts(["open", "won", "lost"], np.where(won, 1, np.where(is_closed, 2, 0))),
                "amount": money(changes.amount[last]),
                "currency": texts(["EUR"], np.zeros(n), rng.random(n) < 0.1),
                "opened_at": moments(deals.opened_at, micros=OPENING_MICROS),
                "expected_close_date": dates(changes.expected_close_day[last]),
                "closed_at": moments(deals.closed_at, ~is_closed, micros=OPENING_MICROS),
                "lead_source": texts(
                    words.LEAD_SOURCES,
                    accounts.lead_source[deals.account],
                    accounts.lead_source_missing[deals.account],
                ),
                "campaign_id": texts(self.campaigns.ids, np.where(draw < 0.08, webinar, search), draw > 0.18),
                "loss_reason": texts(
                    words.LOSS_REASONS,
                    rng.choice(6, n, p=[0.24, 0.2, 0.2, 0.18, 0.1, 0.08]),
                    won | ~is_closed,
                ),
                "deal_type": texts(["new", "expansion"], expands),
                "forecast_category": texts(FORECAST_CATEGORIES, CATEGORY_OF_STAGE[changes.stage[last]]),
                "updated_at": moments(changes.changed_at[last], micros=OPENING_MICROS),
                "is_deleted": np.zeros(n, dtype=bool),
            },
        )
        won_rows = changes.stage[last] == WON_STAGE
        month = np.searchsorted(self.campaigns.month_starts, changes.changed_at[last][won_rows], side="right") - 1
        totals = np.zeros((len(words.USERS), months), dtype=np.int64)
        np.add.at(totals, (owner[last][won_rows], month), changes.amount[last][won_rows])
        return totals

    # -- touches

    def _in_order(self, first_kind: int, last_kind: int) -> Touches:
        kind = self.block.touches.kind
        rows = np.flatnonzero((kind >= first_kind) & (kind < last_kind))
        return self.block.touches.take(rows[stable_order(self.block.touches.time[rows])])

    def _web_events(self) -> None:
        rng, visitors = self.rng, self.block.visitors
        touches = self._in_order(WEB, EMAIL)
        n = len(touches)
        kind, visitor = touches.kind, touches.visitor
        identifies = np.zeros(128, dtype=bool)
        identifies[list(IDENTIFYING)] = True
        identifies = identifies[kind]
        # From the first form on the tracker knows some of the visits, never one before it.
        remembered = (visitors.identified_at[visitor] <= touches.time) & (rng.random(n, dtype=np.float32) < 0.4)
        has_contact = np.where(identifies, rng.random(n, dtype=np.float32) < 0.5, remembered)
        contact = np.maximum(touches.contact, 0)
        product = rng.integers(0, len(words.PRODUCTS), n, dtype=np.int8)
        url = rng.integers(words.URL_PAGE, words.URL_PRODUCT, n, dtype=np.int8)
        form_words = words.DOWNLOADS + words.FORMS + ["trial", "newsletter"]
        form = np.zeros(n, dtype=np.int8)
        for code, first, count in [
            (DOWNLOAD, words.URL_DOWNLOAD, len(words.DOWNLOADS)),
            (FORM, words.URL_FORM, len(words.FORMS)),
            (TRIAL, words.URL_TRIAL, 1),
            (OPT_IN, words.URL_NEWSLETTER, 1),
        ]:
            rows = np.flatnonzero(kind == code)
            url[rows] = first + rng.integers(0, count, len(rows))
            form[rows] = url[rows] - words.URL_DOWNLOAD
        rows = np.flatnonzero(kind == PRODUCT_VIEW)
        url[rows] = words.URL_PRODUCT + product[rows]
        rows = np.flatnonzero(kind == PRICING_VIEW)
        url[rows] = words.URL_PRICING + (rng.random(len(rows)) < 0.3)
        agent = (visitor * np.int32(7) + np.int32(self.numbers.visitor % 5)) % 5
        crawler = (visitor >= visitors.strangers_from) & (visitor % 40 == 0)
        agent = np.where(crawler, words.CRAWLER_AGENT, agent)
        self._write_events(
            "web__events",
            {
                "event_id": numbered("w-", self.numbers.web + np.arange(n), 12),
                "occurred_at": moments(touches.time),
                "event_type": texts(WEB_TYPES, kind),
                "visitor_id": texts(numbered("v-", self.numbers.visitor + np.arange(len(visitors)), 12), visitor),
                "contact_id": texts(self.contact_ids, contact, ~has_contact),
                "email": texts(self.emails, contact, ~identifies),
                "url": texts(words.URLS, url),
                "form_name": texts(form_words, form, ~identifies),
                "product": texts(words.PRODUCTS, product, kind != PRODUCT_VIEW),
                "campaign_id": texts(
                    self.campaigns.ids,
                    self.campaigns.running(self.campaigns.search_of_month, touches.time),
                    rng.random(n, dtype=np.float32) > 0.06,
                ),
                "user_agent": texts(words.USER_AGENTS, agent),
                "ip_address": texts(words.IP_ADDRESSES, visitor * np.int32(13) % len(words.IP_ADDRESSES)),
            },
        )
        self.numbers.web += n

    def _email_events(self) -> None:
        rng = self.rng
        touches = self._in_order(EMAIL, SOCIAL)
        n = len(touches)
        kind, contact = touches.kind, touches.contact
        campaign_of = np.zeros(self.block.message_count, dtype=np.int64)
        sent = kind == SENT
        campaign_of[touches.message[sent]] = self.campaigns.running(
            self.campaigns.newsletter_of_month, touches.time[sent]
        )
        acted = (kind == OPENED) | (kind == CLICKED) | (kind == UNSUBSCRIBED)
        agent = np.where(touches.is_gateway, words.GATEWAY_AGENT, contact % words.HUMAN_AGENT_COUNT)
        self._write_events(
            "email__events",
            {
                "event_id": numbered("e-", self.numbers.email + np.arange(n), 12),
                "occurred_at": moments(touches.time),
                "event_type": texts(EMAIL_TYPES, kind - EMAIL),
                "message_id": numbered("m-", self.numbers.message + touches.message.astype(np.int64), 12),
                "contact_id": texts(self.contact_ids, contact, rng.random(n, dtype=np.float32) < 0.2),
                "email": texts(self.emails, contact),
                "campaign_id": texts(self.campaigns.ids, campaign_of[touches.message]),
                "link_url": texts(words.URLS, rng.integers(0, words.URL_FORM, n, dtype=np.int8), kind != CLICKED),
                "user_agent": texts(words.USER_AGENTS, agent, ~acted),
                "ip_address": texts(words.IP_ADDRESSES, contact * np.int32(11) % len(words.IP_ADDRESSES), ~acted),
            },
        )
        self.numbers.email += n

    def _write_events(self, table: str, columns: dict[str, pa.Array]) -> None:
        """One file per block, and once a small file of events that the tracker delivered twice."""
        file_name = f"events-{self.block.number + 1:04d}.parquet"
        self.files.append(table, file_name, columns)
        self.files.finish(table, file_name)
        if self.block.number == 0:
            again = {name: column.slice(0, REDELIVERED_ROWS) for name, column in columns.items()}
            self.files.append(table, "events-redelivered.parquet", again)

    def _social(self) -> None:
        rng = self.rng
        touches = self._in_order(SOCIAL, ACTIVITY)
        n = len(touches)
        known = touches.contact >= 0
        by_contact = rng.random(n) < 0.75
        contact = np.maximum(touches.contact, 0)
        self.files.append(
            "social__interactions",
            "interactions.parquet",
            {
                "interaction_id": numbered("s-", self.numbers.social + np.arange(n), 12),
                "occurred_at": moments(touches.time),
                "network": texts(words.SOCIAL_NETWORKS, rng.choice(3, n, p=[0.7, 0.2, 0.1])),
                "interaction_type": texts(words.SOCIAL_TYPES, touches.kind - SOCIAL),
                "contact_id": texts(self.contact_ids, contact, ~(known & by_contact)),
                "email": texts(self.emails, contact, ~(known & ~by_contact)),
                "account_id": texts(self.account_ids, touches.account, known),
            },
        )
        self.numbers.social += n

    def _activities(self) -> None:
        rng, accounts = self.rng, self.block.accounts
        touches = self._in_order(ACTIVITY, ACTIVITY + len(ACTIVITY_TYPES))
        n = len(touches)
        kind = touches.kind
        at_fair = kind == FAIR_VISIT
        fair = np.zeros(n, dtype=np.int64)
        if at_fair.any():
            fair[at_fair] = self.campaigns.fair_of[
                np.searchsorted(self.calendar.fair_starts, touches.time[at_fair], side="right") - 1
            ]
        minutes = np.select(
            [kind == CALL, kind == MEETING, at_fair],
            [rng.integers(2, 25, n), rng.integers(6, 19, n) * 5, rng.integers(10, 40, n)],
            0,
        )
        moved = accounts.is_changed[touches.account] & (touches.time >= self.calendar.enriched)
        owner = np.where(moved, accounts.owner_later[touches.account], accounts.owner[touches.account])
        has_deal = touches.deal >= 0
        deal_ids = self.deal_ids if len(self.block.deals) else pa.array([""])
        self.files.append(
            "crm__activities",
            "activities.parquet",
            {
                "activity_id": numbered("ACT-", self.numbers.activity + np.arange(n), 12),
                "activity_type": texts(ACTIVITY_TYPES, kind - ACTIVITY),
                "occurred_at": moments(touches.time),
                "account_id": texts(self.account_ids, touches.account),
                "contact_id": texts(self.contact_ids, np.maximum(touches.contact, 0), kind == TENDER),
                "opportunity_id": texts(deal_ids, np.maximum(touches.deal, 0), ~has_deal),
                "owner_id": texts(user_ids(), owner),
                "campaign_id": texts(self.campaigns.ids, fair, ~at_fair),
                "outcome": texts(words.CALL_OUTCOMES, rng.choice(4, n, p=[0.45, 0.3, 0.15, 0.1]), kind != CALL),
                "duration_minutes": pa.array(minutes, mask=kind == TENDER),
                "updated_at": moments(touches.time),
                "is_deleted": np.zeros(n, dtype=bool),
            },
        )
        self.numbers.activity += n

    def _campaign_members(self) -> None:
        rng, contacts, campaigns = self.rng, self.block.contacts, self.campaigns
        visits = self._in_order(FAIR_VISIT, FAIR_VISIT + 1)
        members: list[tuple[Longs, Longs, Longs, Longs]] = []  # campaign, contact, status, at
        if len(visits):
            fair = np.searchsorted(self.calendar.fair_starts, visits.time, side="right") - 1
            key = fair * len(contacts) + visits.contact
            _, first = np.unique(key, return_index=True)
            members.append(
                (
                    campaigns.fair_of[fair[first]],
                    visits.contact[first].astype(np.int64),
                    np.full(len(first), 2),
                    visits.time[first],
                )
            )
        for webinar in np.unique(campaigns.webinar_of_month):
            at = np.minimum(campaigns.first_day[webinar] * DAY + 40 * DAY, self.calendar.until - DAY)
            there = (contacts.created_at < at) & contacts.has_opted_in & (at >= self.calendar.start)
            invited = np.flatnonzero(there & (rng.random(len(contacts)) < 0.06))
            status = rng.choice(3, len(invited), p=[0.7, 0.18, 0.12])
            when = np.full(len(invited), at, dtype=np.int64) + 15 * 3_600 + rng.integers(0, 600, len(invited))
            members.append((np.full(len(invited), webinar), invited, status, when))
        campaign, contact, status, at = (np.concatenate([part[i] for part in members]) for i in range(4))
        self.files.append(
            "crm__campaign_members",
            "campaign-members.parquet",
            {
                "campaign_id": texts(campaigns.ids, campaign),
                "contact_id": texts(self.contact_ids, contact),
                "member_status": texts(["invited", "responded", "attended"], status),
                "responded_at": moments(at, status == 0),
                "updated_at": moments(at),
            },
        )

    def _nps_answers(self) -> None:
        rng, contacts, deals = self.rng, self.block.contacts, self.block.deals
        since = np.maximum(contacts.created_at, self.calendar.start)
        won = deals.is_closed(self.calendar) & deals.won
        customer_from = np.full(len(self.block.accounts), Visitors.NEVER, dtype=np.int64)
        np.minimum.at(customer_from, deals.account[won], deals.closed_at[won])
        customer_from = customer_from[contacts.account]
        is_customer = customer_from < self.calendar.until
        since = np.where(is_customer, np.maximum(since, customer_from), since)
        chosen = np.flatnonzero(rng.random(len(contacts)) < np.where(is_customer, 0.3, 0.04))
        n = len(chosen)
        at = since[chosen] + (rng.random(n) * (self.calendar.until - since[chosen])).astype(np.int64)
        score = np.clip(np.round(rng.normal(np.where(is_customer[chosen], 8.2, 7.2), 1.9)), 0, 10).astype(np.int64)
        by_contact = rng.random(n) < 0.7
        self.files.append(
            "survey__nps_answers",
            "nps-answers.parquet",
            {
                "answer_id": numbered("NPS-", self.numbers.answer + np.arange(n), 8),
                "answered_at": moments(at),
                "nps_score": score,
                "contact_id": texts(self.contact_ids, chosen, ~by_contact),
                "email": texts(self.emails, chosen, by_contact),
            },
        )
        self.numbers.answer += n


def accounts_file(moment: int, label: str) -> str:
    """Name of an extract of the accounts, e.g. ``accounts-20260102-all.parquet``."""
    day = str(np.datetime64(moment, "s").astype("datetime64[D]")).replace("-", "")
    return f"accounts-{day}-{label}.parquet"
