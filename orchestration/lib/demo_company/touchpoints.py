"""What people do: visits, messages, meetings and fairs of one block, drawn without looking at any deal's
outcome.

Which deals exist and how they end is in `deals`; it calls `deal_work` for the touches that follow an
opening. How touches become rows of landed tables is in `landing_rows`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from orchestration.lib.demo_company import vocabulary as words
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

# Codes of what happened, by landed table; the order inside a table is the order of `*_TYPES`.
WEB_TYPES = [
    "page_view", "product_page_view", "pricing_page_view", "download",
    "form_submission", "trial_sign_up", "opt_in",
]  # fmt: skip
EMAIL_TYPES = ["sent", "delivered", "opened", "clicked", "bounced", "unsubscribed"]
ACTIVITY_TYPES = ["call", "meeting", "trade_fair_visit", "tender"]
WEB, EMAIL, SOCIAL, ACTIVITY = 0, 10, 20, 30
PAGE_VIEW, PRODUCT_VIEW, PRICING_VIEW, DOWNLOAD, FORM, TRIAL, OPT_IN = range(WEB, WEB + 7)
SENT, DELIVERED, OPENED, CLICKED, BOUNCED, UNSUBSCRIBED = range(EMAIL, EMAIL + 6)
CALL, MEETING, FAIR_VISIT, TENDER = range(ACTIVITY, ACTIVITY + 4)

KIND_OF_SIGNAL = {
    **{name: WEB + i for i, name in enumerate(WEB_TYPES)},
    "email_clicked": CLICKED,
    "email_unsubscribed": UNSUBSCRIBED,
    "meeting": MEETING,
    "trade_fair_visit": FAIR_VISIT,
}

# Mean number per burst of interest (strength 1), and per account and year without one.
PER_BURST = {
    PRODUCT_VIEW: 3.6,
    PRICING_VIEW: 2.2,
    DOWNLOAD: 0.6,
    TRIAL: 0.22,
    CLICKED: 1.3,
    MEETING: 0.6,
    FORM: 0.2,
}
PER_YEAR = {
    PRODUCT_VIEW: 1.2,
    PRICING_VIEW: 0.35,
    DOWNLOAD: 0.15,
    CLICKED: 1.1,
    MEETING: 0.15,
    UNSUBSCRIBED: 0.12,
}
FAIR_VISIT_SHARE = 0.05  # of accounts, per fair
BURSTS_WITHOUT_DEAL = 0.4  # per account over the history
MEAN_BURST_DAYS = 16.0

# Shares of the filler: touches that carry no planted points and bring the total to what was asked for.
FILLER_SHARES = {"page_view": 0.36, "email": 0.54, "social": 0.03, "call": 0.07}
EVENTS_PER_MESSAGE = 1 + 1 + 0.36  # sent, delivered or bounced, opened

IDENTIFYING = (FORM, TRIAL, OPT_IN, DOWNLOAD)


@dataclass
class Touches:
    """Touches of a block; every array has shape (touches,).

    Attributes
    ----------
    kind : int8 array
        Codes as above.
    time : int array
        Seconds since 1970.
    contact : int32 array
        Row in `Contacts`, -1 where nobody is known.
    account : int32 array
        Row in `Accounts`, -1 for strangers.
    visitor : int32 array
        Row in `Visitors` for web touches, else -1.
    message : int32 array
        Message inside the block for email touches, else -1.
    deal : int32 array
        Deal inside the block for activities that belong to one, else -1.
    is_gateway : bool array
        Made by a mail-security gateway, not by a person.
    """

    kind: NDArray[np.int8]
    time: Longs
    contact: NDArray[np.int32]
    account: NDArray[np.int32]
    visitor: NDArray[np.int32]
    message: NDArray[np.int32]
    deal: NDArray[np.int32]
    is_gateway: Bools

    def __len__(self) -> int:
        return len(self.kind)

    def take(self, rows: NDArray) -> Touches:
        """The touches at these rows, or where this mask is true."""
        return Touches(**{f.name: getattr(self, f.name)[rows] for f in fields(self)})


def touches_of(
    kind: int | Longs,
    time: Longs,
    contact: Longs,
    account: Longs,
    *,
    message: Longs | None = None,
    deal: Longs | None = None,
) -> Touches:
    """Touches with defaults for what a kind does not have."""
    n = len(time)
    none = np.full(n, -1, dtype=np.int32)
    return Touches(
        kind=np.broadcast_to(np.asarray(kind, dtype=np.int8), (n,)),
        time=time,
        contact=contact.astype(np.int32),
        account=account.astype(np.int32),
        visitor=none,
        message=none if message is None else message.astype(np.int32),
        deal=none if deal is None else deal.astype(np.int32),
        is_gateway=np.zeros(n, dtype=bool),
    )


def together(parts: list[Touches]) -> Touches:
    """One after the other."""
    return Touches(**{f.name: np.concatenate([getattr(part, f.name) for part in parts]) for f in fields(Touches)})


class TouchMaker:
    """Draws touches of one block and keeps the state that they share: who unsubscribed, which message comes
    next.

    Parameters
    ----------
    rng : numpy Generator
        The only source of chance.
    accounts, contacts, visitors, calendar
        Of the block. `visitors.identified_at` is moved forward as identifying touches are drawn.
    """

    def __init__(
        self,
        rng: np.random.Generator,
        accounts: Accounts,
        contacts: Contacts,
        visitors: Visitors,
        calendar: Calendar,
    ):
        self.rng, self.accounts, self.contacts, self.visitors, self.calendar = (
            rng,
            accounts,
            contacts,
            visitors,
            calendar,
        )
        self.active_from = np.maximum(calendar.start, accounts.created_at)
        self.message_count = 0

    # -- who and when

    def days_back(self, end: Longs, days: NDArray[np.float64]) -> Longs:
        """A moment that lies `days` before `end`, moved out of most weekends and into the day."""
        return self.in_office(end - (days * DAY).astype(np.int64))

    def in_office(self, time: Longs) -> Longs:
        """The same days without weekends, between 07:00 and 19:00, most of it around 13:00."""
        day = time // DAY
        weekday = (day + 3) % 7  # 1970-01-01 was a Thursday
        day = day - (weekday == 5) + (weekday == 6)
        u = self.rng.random((2, len(time)), dtype=np.float32).sum(axis=0)
        return day * DAY + 7 * HOUR + (u * (6 * HOUR)).astype(np.int64)

    def people(self, account: Longs) -> Longs:
        """A contact of each account; the first ones do more."""
        u = self.rng.random(len(account), dtype=np.float32)
        count = self.contacts.count[account]
        return self.contacts.first[account] + np.minimum((count * u * np.sqrt(u)).astype(np.int64), count - 1)

    def known_people(self, account: Longs, time: Longs) -> tuple[Longs, Bools]:
        """As `people`, but somebody who was in the CRM by then; the mask is false where nobody was."""
        contact = self.people(account)
        too_early = self.contacts.created_at[contact] > time
        contact = np.where(too_early, self.contacts.first[account], contact)
        return contact, self.contacts.created_at[contact] <= time

    def _kept(self, time: Longs) -> Bools:
        return (time >= self.calendar.start) & (time < self.calendar.until)

    # -- kinds of touches

    def of_kind(self, kind: int, account: Longs, time: Longs, deal: Longs | None = None) -> Touches:
        """Touches of one kind at the accounts; those before the first known person or outside the history
        are left out."""
        keep = self._kept(time)
        account, time = account[keep], time[keep]
        deal = None if deal is None else deal[keep]
        if kind in (CLICKED, UNSUBSCRIBED):
            return self._message(kind, account, time)
        if kind in (PAGE_VIEW, PRODUCT_VIEW, PRICING_VIEW):
            contact = self.people(account)
            return self._on_web(touches_of(kind, time, contact, account))
        contact, known = self.known_people(account, time)
        if kind >= ACTIVITY:
            # The CRM writes the account on an activity itself, so its person must be one whom the CRM links
            # to it too.
            contact = np.where(self.contacts.is_linked[contact], contact, self.contacts.first[account])
        touches = touches_of(kind, time, contact, account, deal=deal).take(known)
        return self._on_web(touches) if kind < EMAIL else touches

    def _on_web(self, touches: Touches) -> Touches:
        """Give web touches a device; identifying ones make the device known."""
        contact = touches.contact.astype(np.int64)
        second = self.visitors.second_of[contact]
        use_second = (second >= 0) & (self.rng.random(len(contact), dtype=np.float32) < 0.3)
        touches.visitor = np.where(use_second, second, contact).astype(np.int32)
        identifies = np.isin(touches.kind, IDENTIFYING)
        np.minimum.at(self.visitors.identified_at, touches.visitor[identifies], touches.time[identifies])
        return touches

    def _message(self, last: int, account: Longs, time: Longs) -> Touches:
        """Whole stories of messages that end in a click or an unsubscription at `time`."""
        contact, known = self.known_people(account, time)
        account, time, contact = account[known], time[known], contact[known]
        n = len(time)
        message = self.message_count + np.arange(n)
        self.message_count += n
        lag = (self.rng.exponential(5 * HOUR, n)).astype(np.int64) + 90
        sent = np.maximum(np.maximum(time - lag, self.contacts.created_at[contact]), self.calendar.start)
        sent = np.minimum(sent, time)
        story = [
            (SENT, sent),
            (DELIVERED, np.minimum(sent + 2, time)),
            (OPENED, np.maximum(np.minimum(sent + 2, time), time - 20)),
            (last, time),
        ]
        return together([touches_of(kind, at, contact, account, message=message) for kind, at in story])

    # -- the parts of a history

    def signals(self, opened_account: Longs, opened_at: Longs, scale: float) -> Touches:
        """Bursts of interest, before most openings and elsewhere, and what happens without a burst.

        Parameters
        ----------
        opened_account, opened_at : int arrays, shape (deals,)
        scale : float
            At most 1; below it fewer of everything, for tiny event budgets.
        """
        rng, n = self.rng, len(self.accounts)
        warm = rng.random(len(opened_at)) < 0.62
        lead = rng.exponential(6.0, int(warm.sum()))
        lone_count = rng.poisson(BURSTS_WITHOUT_DEAL * self.accounts.interest)
        lone_account = np.repeat(np.arange(n), lone_count)
        lone_end = self._uniform_times(lone_account)
        account = np.concatenate([opened_account[warm], lone_account])
        end = np.concatenate([opened_at[warm] - (lead * DAY).astype(np.int64), lone_end])
        strength = rng.gamma(1.6, 1 / 1.6, len(account)) * scale

        years = (self.calendar.until - self.active_from) / (365.25 * DAY)
        parts = []
        for kind in sorted(set(PER_BURST) | set(PER_YEAR)):
            in_burst = np.repeat(np.arange(len(account)), rng.poisson(PER_BURST.get(kind, 0.0) * strength))
            back = rng.exponential(MEAN_BURST_DAYS, len(in_burst))
            calm = np.repeat(np.arange(n), rng.poisson(PER_YEAR.get(kind, 0.0) * scale * years))
            at = np.concatenate([self.days_back(end[in_burst], back), self.in_office(self._uniform_times(calm))])
            parts.append(self.of_kind(kind, np.concatenate([account[in_burst], calm]), at))
        for fair in self.calendar.fair_starts:
            visiting = np.flatnonzero(
                rng.random(n) < FAIR_VISIT_SHARE * scale * np.minimum(self.accounts.interest, 2) / 0.9
            )
            at = fair + rng.integers(0, 3, len(visiting)) * DAY + 9 * HOUR + rng.integers(0, 8 * HOUR, len(visiting))
            parts.append(self.of_kind(FAIR_VISIT, visiting, at))
        return together(parts)

    def identifications(self, scale: float) -> Touches:
        """Forms and opt-ins by which most, not all, devices become known."""
        rng, contacts = self.rng, self.contacts
        contact = np.flatnonzero(rng.random(len(contacts)) < 0.6 * scale)
        since = np.maximum(contacts.created_at[contact], self.calendar.start)
        wait = rng.random(len(contact)) ** 2 * (self.calendar.until - since)
        # The form that made the contact, for those who are new in the history; later for the others.
        is_new = (contacts.created_at[contact] >= self.calendar.start) & (rng.random(len(contact)) < 0.5)
        time = since + np.where(is_new, 0, wait).astype(np.int64)
        kind = np.where(rng.random(len(contact)) < 0.55, OPT_IN, FORM)
        touches = touches_of(kind, time, contact, contacts.account[contact])
        return self._on_web(touches.take(self._kept(time)))

    def filler(self, count: int) -> Touches:
        """About `count` touches that no planted weight looks at, spread very unevenly over the accounts."""
        if count <= 0:
            return together(
                [touches_of(PAGE_VIEW, np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64))]
            )
        rng = self.rng
        life = (self.calendar.until - self.active_from) / DAY
        share = life * self.accounts.interest * np.exp(rng.normal(0, 0.8, len(self.accounts)))
        share /= share.sum()

        def spread(part: float) -> tuple[Longs, Longs]:
            account = np.repeat(np.arange(len(share)), rng.poisson(count * part * share))
            return account, self.in_office(self._uniform_times(account))

        stranger_part = 0.12
        parts = [self.of_kind(PAGE_VIEW, *spread(FILLER_SHARES["page_view"] * (1 - stranger_part)))]
        parts.append(self._strangers(int(count * FILLER_SHARES["page_view"] * stranger_part)))
        parts.append(self._mailing(*spread(FILLER_SHARES["email"] / EVENTS_PER_MESSAGE)))
        account, time = spread(FILLER_SHARES["social"])
        kept = self._kept(time)
        contact, known = self.known_people(account[kept], time[kept])
        kinds = SOCIAL + rng.choice(len(words.SOCIAL_TYPES), len(contact), p=[0.2, 0.45, 0.12, 0.13, 0.05, 0.05])
        parts.append(touches_of(kinds, time[kept], np.where(known, contact, -1), account[kept]))
        parts.append(self.of_kind(CALL, *spread(FILLER_SHARES["call"] * 0.95)))
        parts.append(self.of_kind(TENDER, *spread(FILLER_SHARES["call"] * 0.05)))
        return together(parts)

    def _strangers(self, count: int) -> Touches:
        """Page views of devices that belong to nobody we know."""
        rng = self.rng
        visitor = rng.integers(self.visitors.strangers_from, len(self.visitors), count)
        time = self.in_office(rng.integers(self.calendar.start + DAY, self.calendar.until - 2 * DAY, count))
        nobody = np.full(count, -1, dtype=np.int64)
        touches = touches_of(PAGE_VIEW, time, nobody, nobody)
        touches.visitor = visitor.astype(np.int32)
        return touches

    def _mailing(self, account: Longs, time: Longs) -> Touches:
        """Messages that nobody clicks."""
        rng = self.rng
        contact, known = self.known_people(account, time)
        known &= self._kept(time)
        account, time, contact = account[known], time[known], contact[known]
        n = len(time)
        message = self.message_count + np.arange(n)
        self.message_count += n
        sent = touches_of(SENT, time, contact, account, message=message)
        bounced = rng.random(n, dtype=np.float32) < 0.015
        answer = touches_of(np.where(bounced, BOUNCED, DELIVERED), time + 2, contact, account, message=message)
        opened = np.flatnonzero(~bounced & (rng.random(n, dtype=np.float32) < 0.36))
        opened_at = time[opened] + 60 + rng.exponential(6 * HOUR, len(opened)).astype(np.int64)
        in_time = opened_at < self.calendar.until
        opened, opened_at = opened[in_time], opened_at[in_time]
        read = touches_of(OPENED, opened_at, contact[opened], account[opened], message=message[opened])
        return together([sent, answer, read])

    def gateway_clicks(self, account: Longs, scale: float) -> Touches:
        """Clicks that mail-security gateways make within seconds of delivery, at the accounts given."""
        rng = self.rng
        chosen = account[rng.random(len(account)) < 0.03 * scale]
        chosen = np.repeat(chosen, 1 + rng.poisson(2.0, len(chosen)))
        time = self.in_office(self._uniform_times(chosen))
        contact, known = self.known_people(chosen, time)
        known &= self._kept(time) & self._kept(time + 60)
        chosen, time, contact = chosen[known], time[known], contact[known]
        message = self.message_count + np.arange(len(chosen))
        self.message_count += len(chosen)
        sent = touches_of(SENT, time, contact, chosen, message=message)
        delivered = touches_of(DELIVERED, time + 1, contact, chosen, message=message)
        links = np.repeat(np.arange(len(chosen)), 2 + rng.poisson(1.5, len(chosen)))
        at = time[links] + 2 + rng.integers(0, 5, len(links))
        clicked = touches_of(CLICKED, at, contact[links], chosen[links], message=message[links])
        clicked.is_gateway = np.ones(len(links), dtype=bool)
        return together([sent, delivered, clicked])

    def deal_work(self, account: Longs, opened_at: Longs, ends_at: Longs, won: Bools, deal: Longs) -> Touches:
        """What follows an opening: much of it where the deal will be won, which is why no feature may see it.

        Parameters
        ----------
        account, opened_at, ends_at, won, deal : arrays, shape (deals,)
            `ends_at` is the close, or the end of the history for deals that stay open; `deal` is the deal's
            number.
        """
        parts = []
        for kind, if_won, if_lost in [
            (MEETING, 1.8, 0.5),
            (CALL, 2.0, 1.0),
            (PRODUCT_VIEW, 2.0, 0.6),
            (PRICING_VIEW, 1.2, 0.3),
        ]:
            row = np.repeat(np.arange(len(account)), self.rng.poisson(np.where(won, if_won, if_lost)))
            time = opened_at[row] + (self.rng.random(len(row)) * (ends_at - opened_at)[row]).astype(np.int64)
            time = np.maximum(self.in_office(time), opened_at[row] + 1)
            time = np.minimum(time, self.calendar.until - 1)
            parts.append(self.of_kind(kind, account[row], time, deal[row] if kind >= ACTIVITY else None))
        return together(parts)

    def without_mail_after_unsubscribing(self, touches: Touches) -> Touches:
        """Leave out the email touches of a contact after its first unsubscription."""
        first = np.full(len(self.contacts), Visitors.NEVER, dtype=np.int64)
        gone = touches.kind == UNSUBSCRIBED
        np.minimum.at(first, touches.contact[gone], touches.time[gone])
        is_mail = (touches.kind >= EMAIL) & (touches.kind < SOCIAL)
        late = np.zeros(len(touches), dtype=bool)
        late[is_mail] = touches.time[is_mail] > first[touches.contact[is_mail]]
        self.unsubscribed_at = first
        return touches.take(~late) if late.any() else touches

    def _uniform_times(self, account: Longs) -> Longs:
        since = self.active_from[account]
        u = self.rng.random(len(account))
        return since + (u * (self.calendar.until - since)).astype(np.int64)
