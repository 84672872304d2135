"""What was known of every deal at any moment.

Belongs here: versions of deals, the one function that says which version held as of a moment, and what follows
from a deal's earlier versions (time in stage, moves back, pushes). Does not: bands, hazards, sums.

Times inside are float days since 1970-01-01 UTC, NaN where unknown. "As of T" is what was known at T: versions
with ``known_from <= T``. With whole dates, as of May 31 is the end of that day, and what follows begins after it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from ml.forecast.account_series import ENGAGEMENT, NAMES, SCORE, AccountSeries

OPEN, WON, LOST = 0, 1, 2
STATUS = ("open", "won", "lost")

REQUIRED = ("deal_id", "known_from", "status", "opened_at", "closed_at")
OPTIONAL = ("stage", "amount_cents", "expected_close_date", "owner", "account", "merged_into", "is_deleted")

WHAT_IS_LACKING = {
    "stage": "no stage history: time in stage and moves back are unknown",
    "amount_cents": "no amounts of open deals: each is worth what won deals are worth on average",
    "expected_close_date": "no promised close dates: no distance to them, no pushes, no slip probability",
    "owner": "no owners: all deals are of one pool",
    SCORE: "no account scores as they stood then",
    ENGAGEMENT: "no engagement of accounts and no trend of it",
}


def days(times: object) -> np.ndarray:
    """Times as float days since 1970-01-01, NaN where missing; shape of the input."""
    values = pd.to_datetime(pd.Series(times)).to_numpy().astype("datetime64[us]")
    result = values.astype(np.int64) / 86_400e6
    result[np.isnat(values)] = np.nan
    return result


def day(moment: object) -> float:
    """One moment as float days since 1970-01-01."""
    return float(days([moment])[0])


def timestamps(values: np.ndarray) -> np.ndarray:
    """Float days as datetime64[s]; NaT where NaN. The inverse of `days`, to the second."""
    known = np.isfinite(values)
    seconds = np.round(np.where(known, values, 0.0) * 86_400).astype("datetime64[s]")
    seconds[~known] = np.datetime64("NaT")
    return seconds


def versions_of_deals(deals: pd.DataFrame) -> pd.DataFrame:
    """Versions from an export that has one row per deal: known when opened, and again when closed.

    Parameters
    ----------
    deals : `deal_id`, `opened_at`, `closed_at`, `status`; optionally `amount_cents` (known from the opening on),
        `closed_amount_cents` (known at the close only) and columns that never change. Nothing else may be given:
        a value of today that changes (stage, promised date) would leak into the past.

    Returns
    -------
    Deal versions. Deals without an opening date are kept; `DealHistory` counts and leaves them out.
    """
    changing = [name for name in ("stage", "expected_close_date") if name in deals]
    if changing:
        raise ValueError(f"an export of one row per deal has today's {', '.join(changing)} only: give versions")
    opened = deals.drop(columns="closed_amount_cents", errors="ignore").assign(
        known_from=deals["opened_at"], status="open", closed_at=None
    )
    closed = deals[deals["status"] != "open"].assign(known_from=lambda rows: rows["closed_at"])
    if "closed_amount_cents" in deals:
        closed = closed.assign(amount_cents=closed["closed_amount_cents"]).drop(columns="closed_amount_cents")
        if "amount_cents" not in opened:
            opened = opened.assign(amount_cents=np.nan)
    return pd.concat([opened, closed], ignore_index=True)


@dataclass(frozen=True)
class DealHistory:
    """Versions of deals, sorted by deal and `known_from`. Arrays have shape (versions,).

    Attributes
    ----------
    deal_ids : shape (deals,); `deal` points into it.
    valid_to : `known_from` of the deal's next version, infinity for the last.
    labels : name of a column of codes (stage, owner, account, groups, merged_into) -> its values; code -1 = unknown.
    account_series : name of `ml.forecast.account_series.NAMES` -> what was known of accounts over time; see `with_account_series`.
    observed_from : first day of which all closings are known. Exports often hold closed deals from some date on: who closed
        before it is missing, so nobody's survival before it counts (left truncation).
    undated_count : deals left out because nobody knows when they opened.
    stage_orders : (day from which it was known, open stages in their order), oldest first; the first one also stands for the time before.
        No stages: learnt from the deals that were won. Empty = `stage` is by one order at all moments. See `staged_as_of`.
    """

    deal_ids: np.ndarray
    deal: np.ndarray
    known_from: np.ndarray
    valid_to: np.ndarray
    status: np.ndarray
    opened: np.ndarray
    closed: np.ndarray
    amount: np.ndarray
    promised: np.ndarray
    stage: np.ndarray
    stage_since: np.ndarray
    moves_back: np.ndarray
    pushes: np.ndarray
    is_deleted: np.ndarray
    codes: dict[str, np.ndarray]
    labels: dict[str, np.ndarray]
    groups: tuple[str, ...]
    observed_from: float
    undated_count: int
    given: frozenset[str] = field(default_factory=frozenset)
    account_series: Mapping[str, AccountSeries] = field(default_factory=dict)
    stage_orders: tuple[tuple[float, tuple[str, ...]], ...] = ()

    @classmethod
    def from_versions(
        cls,
        versions: pd.DataFrame,
        *,
        stages: Sequence[str] = (),
        groups: Sequence[str] = (),
        observed_from: object = None,
        stage_orders: Sequence[tuple[object, Sequence[str]]] = (),
    ) -> DealHistory:
        """Sort versions and count what each deal did before.

        Parameters
        ----------
        versions : see docs/forecast.md. Several versions of one moment: the last row holds.
        stages : open stages in their order; a stage that is not among them has no place in it.
        groups : columns by which sums are wanted, beside `owner`; their latest value as of a moment counts.
        observed_from : None = the earliest closing known.
        stage_orders : (moment, stages) for `staged_as_of`; none = `stages` at all moments.

        Raises
        ------
        ValueError
            A column is missing, a status is unknown, a closed version has no `closed_at`.
        """
        missing = [name for name in (*REQUIRED, *groups) if name not in versions]
        if missing:
            raise ValueError(f"deal versions must have the columns {', '.join(missing)}")
        status = pd.Index(STATUS).get_indexer(pd.Index(versions["status"]))
        if (status < 0).any():
            raise ValueError(f"status must be open, won or lost, got {versions['status'][status < 0].iloc[0]!r}")
        codes, deal_ids = pd.factorize(versions["deal_id"])
        known_from, opened = days(versions["known_from"]), days(versions["opened_at"])
        closed = np.where(status == OPEN, np.nan, days(versions["closed_at"]))
        if (np.isnan(closed) & (status != OPEN)).any():
            raise ValueError(
                f"a closed deal needs closed_at: {deal_ids[codes[np.isnan(closed) & (status != OPEN)][0]]!r}"
            )
        known_from = np.where(np.isnan(known_from), opened, known_from)
        dated = np.isfinite(known_from) & np.isfinite(opened)
        undated = len(deal_ids) - len(np.unique(codes[dated]))
        order = np.flatnonzero(dated)
        order = order[np.lexsort((order, known_from[order], codes[order]))]
        # Of several versions of one moment the last counts.
        last = np.ones(len(order), dtype=bool)
        last[:-1] = (np.diff(codes[order]) != 0) | (np.diff(known_from[order]) != 0)
        order = order[last]
        deal, known_from, status = codes[order], known_from[order], status[order].astype(np.int8)
        opened, closed = opened[order], closed[order]
        first = np.ones(len(order), dtype=bool)
        first[1:] = np.diff(deal) != 0
        valid_to = np.full(len(order), np.inf)
        valid_to[:-1][~first[1:]] = known_from[1:][~first[1:]]

        def number(name: str) -> np.ndarray:
            if name not in versions:
                return np.full(len(order), np.nan)
            column = versions[name]
            return (
                days(column)[order]
                if name == "expected_close_date"
                else column.to_numpy("float64", na_value=np.nan)[order]
            )

        coded: dict[str, np.ndarray] = {}
        labels: dict[str, np.ndarray] = {}
        for name in dict.fromkeys(("owner", "account", "merged_into", *groups)):
            if name in versions:
                coded[name], labels[name] = _factorize(versions[name].iloc[order])
        stage = np.full(len(order), -1, dtype=np.int16)
        if "stage" in versions:
            names = list(stages) or sorted(versions.loc[versions["status"] == "open", "stage"].dropna().unique())
            stage = pd.Index(names).get_indexer(pd.Index(versions["stage"].iloc[order])).astype(np.int16)
            labels["stage"] = np.array(names, dtype=object)
            if stage_orders:
                coded["stage_name"], labels["stage_name"] = _factorize(versions["stage"].iloc[order])
        promised = number("expected_close_date")
        before = np.arange(len(order)) - 1
        same = ~first
        stage_since, moves_back = _track(stage, first, opened, known_from, status)
        with np.errstate(invalid="ignore"):
            pushed = same & (promised > promised[before]) & (status == OPEN)
        observed = day(observed_from) if observed_from is not None else float(np.nanmin(closed, initial=np.inf))
        deleted = (
            versions["is_deleted"].fillna(False).to_numpy(bool)[order]
            if "is_deleted" in versions
            else np.zeros(len(order), bool)
        )
        return cls(
            deal_ids=np.asarray(deal_ids),
            deal=deal.astype(np.int32),
            known_from=known_from,
            valid_to=valid_to,
            status=status,
            opened=opened,
            closed=closed,
            amount=number("amount_cents"),
            promised=promised,
            stage=stage,
            stage_since=stage_since,
            moves_back=moves_back,
            pushes=_count_so_far(pushed, first),
            is_deleted=deleted,
            codes=coded,
            labels=labels,
            groups=tuple(groups),
            observed_from=observed,
            undated_count=undated,
            given=frozenset(name for name in OPTIONAL if name in versions),
            stage_orders=tuple(sorted((day(moment), tuple(names)) for moment, names in stage_orders))
            if "stage" in versions
            else (),
        )

    def staged_as_of(self, moment: float) -> DealHistory:
        """The same deals with the order of stages, and the moves back in it, as it was known at a moment (float days)."""
        if not self.stage_orders:
            return self
        held = [names for known_from, names in self.stage_orders if known_from <= moment]
        names = list(held[-1] if held else self.stage_orders[0][1]) or self.stages_learnt(moment)
        if names == list(self.labels["stage"]):
            return self
        place = np.append(pd.Index(names).get_indexer(pd.Index(self.labels["stage_name"])), -1).astype(np.int16)
        stage = place[self.codes["stage_name"]]
        first = np.ones(len(stage), dtype=bool)
        first[1:] = np.diff(self.deal) != 0
        stage_since, moves_back = _track(stage, first, self.opened, self.known_from, self.status)
        labels = self.labels | {"stage": np.array(names, dtype=object)}
        return replace(self, stage=stage, stage_since=stage_since, moves_back=moves_back, labels=labels)

    def stages_learnt(self, moment: float) -> list[str]:
        """Open stages in the order in which deals that were known as won at a moment had come into them.

        By the mean place among the stages of a deal, as `int_deals__stages` does it.
        """
        now = self.live(self.as_of(moment))
        won = np.zeros(len(self.deal_ids), dtype=bool)
        won[self.deal[now[self.status[now] == WON]]] = True
        code = self.codes["stage_name"]
        seen = won[self.deal] & (self.known_from <= moment) & (self.status == OPEN) & (code >= 0) & ~self.is_deleted
        rows = pd.DataFrame(
            {
                "deal": self.deal[seen],
                "stage": self.labels["stage_name"][code[seen]],
                "entered": self.known_from[seen],
            }
        )
        entries = rows.groupby(["deal", "stage"], sort=False)["entered"].min().reset_index()
        entries = entries.sort_values(["deal", "entered", "stage"])
        places = (entries.groupby("deal").cumcount() + 1).groupby(entries["stage"]).mean()
        ranked = places.rename("place").reset_index().sort_values(["place", "stage"])
        return [str(name) for name in ranked["stage"]]

    def with_account_series(
        self,
        steps: Mapping[str, pd.DataFrame],
        *,
        begins: Mapping[str, float] | None = None,
        before: Mapping[str, float] | None = None,
    ) -> DealHistory:
        """The same deals with what was known of their accounts.

        Parameters
        ----------
        steps : name of `ml.forecast.account_series.NAMES` -> `account`, `known_from`, `value`; one row per account and moment
            from which the value held.
        begins : name -> float day before which the value of every account is unknown, because nothing was recorded.
        before : name -> value of an account before its first step; unknown where nothing is said.

        Raises
        ------
        ValueError
            The deal versions have no `account`, or a name is none of the known ones.
        """
        unknown = [name for name in steps if name not in NAMES]
        if unknown:
            raise ValueError(f"account series must be among {', '.join(NAMES)}, got {', '.join(unknown)}")
        if "account" not in self.codes:
            raise ValueError("deal versions must have the column account to know anything of accounts")
        found = {
            name: AccountSeries.of(
                frame,
                self.labels["account"],
                begins=(begins or {}).get(name, -np.inf),
                before=(before or {}).get(name, np.nan),
            )
            for name, frame in steps.items()
        }
        return replace(self, account_series=found, given=self.given | found.keys())

    def as_of(self, moment: float) -> np.ndarray:
        """Positions of the versions that held at a moment (float days): one per deal known and opened by then.

        Deleted and merged deals are among them; `live` leaves them out. Infinity = the latest versions.
        """
        moment = min(moment, 1e9)
        return np.flatnonzero((self.known_from <= moment) & (moment < self.valid_to) & (self.opened <= moment))

    def live(self, rows: np.ndarray) -> np.ndarray:
        """Of these versions those of deals that were neither deleted nor merged into another."""
        gone = self.is_deleted[rows]
        if "merged_into" in self.codes:
            gone = gone | (self.codes["merged_into"][rows] >= 0)
        return rows[~gone]

    def open_as_of(self, moment: float) -> np.ndarray:
        """Positions of the versions of deals that were open, as far as anybody knew, at a moment."""
        rows = self.live(self.as_of(moment))
        return rows[self.status[rows] == OPEN]

    def lacking(self) -> list[str]:
        """What the sources do not have, and what follows from it, as sentences."""
        found = [text for name, text in WHAT_IS_LACKING.items() if name not in self.given]
        if self.undated_count:
            found.append(f"{self.undated_count} deals have no opening date and are left out")
        return found

    def snapshot(self, moment: object) -> pd.DataFrame:
        """What was known at a moment: one row per deal that was neither deleted nor merged by then."""
        rows = self.live(self.as_of(day(moment)))
        result = pd.DataFrame(
            {
                "deal_id": self.deal_ids[self.deal[rows]],
                "status": np.array(STATUS, dtype=object)[self.status[rows]],
                "opened_at": timestamps(self.opened[rows]),
                "closed_at": timestamps(self.closed[rows]),
                "stage_no": self.stage[rows],
                "stage_since": timestamps(self.stage_since[rows]),
                "moves_back": self.moves_back[rows],
                "pushes": self.pushes[rows],
                "amount_cents": pd.array(self.amount[rows], dtype="Float64"),
                "expected_close_date": timestamps(self.promised[rows]),
            }
        )
        for name in dict.fromkeys(("owner", *self.groups)):
            if name in self.codes:
                result[name] = self.label_of(name, rows)
        return result

    def label_of(self, name: str, rows: np.ndarray) -> np.ndarray:
        """Labels of a column of codes at these versions; None where unknown."""
        return np.append(self.labels[name], np.array([None], dtype=object))[self.codes[name][rows]]


def _track(
    stage: np.ndarray, first: np.ndarray, opened: np.ndarray, known_from: np.ndarray, status: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Since when a deal is in the stage of a version, and how often it had moved back by then; shapes (versions,)."""
    before = np.arange(len(stage)) - 1
    run_start = np.maximum.accumulate(np.where(first | (stage != stage[before]), np.arange(len(stage)), 0))
    entered = np.where(first, np.minimum(opened, known_from), known_from)
    went_back = ~first & (stage >= 0) & (stage[before] >= 0) & (stage < stage[before]) & (status == OPEN)
    return entered[run_start], _count_so_far(went_back, first)


def _factorize(column: pd.Series) -> tuple[np.ndarray, np.ndarray]:
    codes, labels = pd.factorize(column, sort=False)
    return codes.astype(np.int32), np.asarray(labels, dtype=object)


def _count_so_far(flag: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Running count of flags within each deal."""
    total = np.cumsum(flag)
    start = np.maximum.accumulate(np.where(first, np.arange(len(flag)), 0))
    return (total - (total - flag)[start]).astype(np.int16) if len(flag) else total.astype(np.int16)
