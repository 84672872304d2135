"""Criterion values as of a deal's opening, counted as the warehouse defines them but by an independent route
(numpy).

The definition, for one account and one moment `as_of`:

- a touch counts when it happened at or before `as_of` **and** its person was known at or before `as_of`
  (a web visitor is known from its first event that carries a contact or an email; its earlier events then
  count too);
- age is the difference of the two UTC dates in whole days; touches of ``age <= window_days`` are inside the
  window;
- value = sum over (contact, day) of min(count on that day, cap_per_day) x 2^-(age / half_life_days).

This is the oracle of the tests of the warehouse, which is why it is not shared with it: law 2 (one
definition of a feature) is about what trains and scores; this module does neither.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

SECONDS_PER_DAY = 86_400

Longs = NDArray[np.int64]


def stable_order(keys: Longs) -> Longs:
    """Rows that sort the keys, ties in their old order, shape (n,).

    Key and row share one integer, because numpy sorts integers several times faster than it sorts rows by a
    key, and because ties must not depend on the processor. Keys may span less than 2^63 / n.
    """
    n = len(keys)
    if not n:
        return np.zeros(0, dtype=np.int64)
    return np.sort((keys - keys.min()) * n + np.arange(n)) % n


def pair_with_events(accounts: Longs, event_accounts: Longs) -> tuple[Longs, Longs]:
    """All pairs of a subject and an event of the same account.

    Parameters
    ----------
    accounts : int array, shape (n,)
        Account of each subject.
    event_accounts : int array, shape (m,)
        Account of each event, ascending.

    Returns
    -------
    (subject, event)
        Row numbers, shape (pairs,), ascending by subject, then event.
    """
    first = np.searchsorted(event_accounts, accounts, side="left")
    count = np.searchsorted(event_accounts, accounts, side="right") - first
    subject = np.repeat(np.arange(len(accounts)), count)
    starts = np.cumsum(count) - count
    event = np.arange(len(subject)) - np.repeat(starts - first, count)
    return subject, event


def decayed_counts(
    subject: Longs,
    contact: Longs,
    day: Longs,
    as_of_day: Longs,
    subject_count: int,
    half_life_days: int,
    window_days: int,
    cap_per_day: int,
) -> NDArray[np.float64]:
    """Capped, decayed count per subject, shape (subject_count,).

    Parameters
    ----------
    subject, contact, day, as_of_day : int arrays, shape (pairs,)
        One row per counted touch: its subject, its person, its day and the day of the subject's as-of
        moment, days since 1970. Only touches already known at the as-of moment.
    """
    age = as_of_day - day
    inside = (age >= 0) & (age <= window_days)
    subject, contact, day, age = subject[inside], contact[inside], day[inside], age[inside]
    order = np.lexsort((day, contact, subject))
    subject, contact, day, age = subject[order], contact[order], day[order], age[order]
    if not len(subject):
        return np.zeros(subject_count)
    is_first = np.ones(len(subject), dtype=bool)
    is_first[1:] = (np.diff(subject) != 0) | (np.diff(contact) != 0) | (np.diff(day) != 0)
    starts = np.flatnonzero(is_first)
    count = np.diff(np.append(starts, len(subject)))
    factor = np.exp2(-age[starts] / half_life_days)
    return np.bincount(
        subject[starts], weights=np.minimum(count, cap_per_day) * factor, minlength=subject_count
    ).astype(np.float64)


def days_since_last(
    subject: Longs, day: Longs, as_of_day: Longs, subject_count: int
) -> tuple[Longs, NDArray[np.bool_]]:
    """Age in days of each subject's newest touch, and whether it has none at all; shape (subject_count,)
    each."""
    newest = np.full(subject_count, np.iinfo(np.int64).max, dtype=np.int64)
    np.minimum.at(newest, subject, as_of_day - day)
    missing = newest == np.iinfo(np.int64).max
    return np.where(missing, 0, newest), missing
