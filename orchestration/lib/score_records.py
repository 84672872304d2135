"""What was scored on a past day, kept in the landing zone: one small Parquet file per day, never changed.

A record is what the marts `score_history` and `score_changes` of the day's last snapshot said of that day, so nothing is compared
or computed here. It is written by the first refresh of a later day: only then is it known which snapshot was the day's last.
The first record is whole (every account, every criterion), later ones hold only what changed, and every 28th is whole again, so
that the state of a day never needs more than 28 files. How dbt folds them is in `int_score_days` and `int_scores__recorded`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

import duckdb

from orchestration.lib.documents import land_document, landed_documents
from orchestration.lib.publishing import FILE_NAME, published_versions
from orchestration.lib.workspace import Workspace

SCORE_RECORDS = "scoring/score_records"
WHOLE_EVERY = 28
_MOMENT = "%Y%m%dT%H%M%S%f"
_NAME = re.compile(r"^(?P<recorded>\d{8}T\d{12})Z-[0-9a-f]{12}-(?P<form>whole|delta)-(?P<as_of>\d{8}T\d{12})\.parquet$")

#: What is kept of an account, as `score_history` has it.
_FACTS = {
    "account_id": "varchar",
    "from_date": "date",
    "state": "varchar",
    "owner_id": "varchar",
    "segment": "varchar",
    "fit_points": "bigint",
    "engagement_points": "bigint",
    "adjustment_points": "bigint",
    "total_points": "bigint",
    "fit_grade": "varchar",
    "engagement_level": "varchar",
    "cell": "varchar",
    "next_action": "varchar",
    "action_from_date": "date",
    "win_probability": "double",
    "scorecard_version": "varchar",
    "bands_digest": "bigint",
}
#: What is kept of an account's criterion, as `score_changes` has it; before = after in a whole record where nothing changed.
_POINTS = {
    "criterion": "varchar",
    "kind": "varchar",
    "points_before": "bigint",
    "points_after": "bigint",
    "band_before": "varchar",
    "band_after": "varchar",
    "reason": "varchar",
}
#: The tables of the schema `history`: what dbt reads.
TABLES = {
    "score_days": {
        "record_date": "date",
        "as_of_at": "timestamp",
        "recorded_at": "timestamp",
        "is_whole": "boolean",
        "file_name": "varchar",
    },
    "score_accounts": {"record_date": "date", **_FACTS},
    "score_points": {"record_date": "date", "account_id": "varchar", **_POINTS},
}


@dataclass(frozen=True)
class ScoreRecord:
    """One landed day."""

    file: Path
    as_of_at: datetime
    recorded_at: datetime
    is_whole: bool

    @property
    def day(self) -> date:
        """The day that the record describes."""
        return self.as_of_at.date()


def score_records(workspace: Workspace) -> list[ScoreRecord]:
    """The landed days, oldest first. Days are landed in their order, so this is also the order of arrival."""
    found = []
    for path in landed_documents(workspace, SCORE_RECORDS):
        name = _NAME.match(path.name)
        if name:
            as_of_at, recorded_at = (datetime.strptime(name[part], _MOMENT) for part in ("as_of", "recorded"))
            found.append(ScoreRecord(path, as_of_at, recorded_at, name["form"] == "whole"))
    return found


def land_score_records(workspace: Workspace, before: date) -> list[ScoreRecord]:
    """Land every published day that lies after the last landed one and before the day of this refresh.

    Of a day the last snapshot that is still kept counts. Days only ever follow each other: a refresh as of an earlier day lands
    nothing, and neither does a snapshot that did not know the newest landed day.

    Parameters
    ----------
    before : the day that this refresh describes; it is not over yet
    """
    snapshots: dict[date, tuple[Path, datetime, date | None]] = {}
    for version in published_versions(workspace):
        file = workspace.marts / f"v{version:08d}" / FILE_NAME
        described = _described(file)
        if described is not None and described[0].date() < before:
            snapshots[described[0].date()] = (file, *described)
    landed = []
    for day in sorted(snapshots):
        records = score_records(workspace)
        file, as_of_at, previous = snapshots[day]
        last = records[-1].day if records else None
        if previous == last and (last is None or day > last):
            landed.append(_land(workspace, file, as_of_at, records))
    return landed


def load_score_records(con: duckdb.DuckDBPyConnection, workspace: Workspace) -> int:
    """Read the records that the warehouse does not have yet into the schema `history`; returns how many those were.

    All of them or none: a day without its points would look like a day on which nothing changed.
    """
    con.execute("begin")
    try:
        con.execute("create schema if not exists history")
        for table, columns in TABLES.items():
            typed = ", ".join(f"{name} {its_type}" for name, its_type in columns.items())
            con.execute(f"create table if not exists history.{table} ({typed})")
        known = {name for (name,) in con.execute("select file_name from history.score_days").fetchall()}
        new = [record for record in score_records(workspace) if record.file.name not in known]
        for record in new:
            _load(con, record)
        con.execute("commit")
    except BaseException:
        con.execute("rollback")
        raise
    return len(new)


def _described(file: Path) -> tuple[datetime, date | None] | None:
    """The moment of a snapshot and the newest landed day that it knew; None = it has no scores to keep."""
    with duckdb.connect(str(file), read_only=True) as con:
        try:
            found = con.execute("select as_of_at, previous_date from marts.score_days where not is_recorded").fetchall()
        except duckdb.CatalogException:
            return None  # published before there was a history
    return found[0] if found else None


def _land(workspace: Workspace, file: Path, as_of_at: datetime, records: Sequence[ScoreRecord]) -> ScoreRecord:
    is_whole = not any(record.is_whole for record in records[-(WHOLE_EVERY - 1) :])
    building = workspace.landing / SCORE_RECORDS / ".building.parquet"
    building.parent.mkdir(parents=True, exist_ok=True)
    building.unlink(missing_ok=True)
    with duckdb.connect(str(file), read_only=True) as con:
        target = str(building).replace("'", "''")
        con.execute(
            f"copy ({_WHOLE if is_whole else _DELTA}) to '{target}' (format parquet, compression zstd)",
            [as_of_at.date()],
        )
    form = "whole" if is_whole else "delta"
    landed = land_document(workspace, SCORE_RECORDS, f"{form}-{as_of_at:{_MOMENT}}.parquet", building.read_bytes())
    building.unlink()
    return next(record for record in score_records(workspace) if record.file == landed)


def _load(con: duckdb.DuckDBPyConnection, record: ScoreRecord) -> None:
    con.execute(
        "insert into history.score_days values (?, ?, ?, ?, ?)",
        [record.day, record.as_of_at, record.recorded_at, record.is_whole, record.file.name],
    )
    con.execute(
        f"insert into history.score_accounts select cast(? as date), {', '.join(_FACTS)} from read_parquet(?)",
        [record.day, str(record.file)],
    )
    con.execute(
        f"insert into history.score_points select cast(? as date), account_id, {', '.join(f'point.{c}' for c in _POINTS)} "
        "from (select account_id, unnest(points) as point from read_parquet(?))",
        [record.day, str(record.file)],
    )


_POINT = "{" + ", ".join(f"'{name}': {name}" for name in _POINTS) + "}"
_FACT_LIST = ", ".join(f"history.{name}" for name in _FACTS)
#: Accounts of which anything changed on the day, each with its criteria that changed.
_DELTA = f"""
    select {_FACT_LIST}, coalesce(changes.points, []) as points
    from marts.score_history as history
    left join (
        select account_id, list({_POINT}) as points
        from marts.score_changes where change_date = $1
        group by account_id
    ) as changes on history.account_id = changes.account_id
    where history.from_date = $1
    order by history.account_id
"""
#: Every account as it stood at the end of the day, with all of its criteria.
_WHOLE = f"""
    with points as (
        select
            coalesce(changes.account_id, kept.account_id) as account_id,
            coalesce(changes.criterion, kept.criterion) as criterion,
            coalesce(changes.kind, kept.kind) as kind,
            case when changes.account_id is null then kept.points else changes.points_before end as points_before,
            case when changes.account_id is null then kept.points else changes.points_after end as points_after,
            case when changes.account_id is null then kept.band else changes.band_before end as band_before,
            case when changes.account_id is null then kept.band else changes.band_after end as band_after,
            changes.reason
        from marts.score_contributions as kept
        full join (select * from marts.score_changes where change_date = $1) as changes
            on kept.account_id = changes.account_id and kept.criterion = changes.criterion
    )
    select {_FACT_LIST}, coalesce(listed.points, []) as points
    from marts.score_history as history
    left join (
        select account_id, list({_POINT}) as points from points group by account_id
    ) as listed on history.account_id = listed.account_id
    where history.until_date is null and (history.state <> 'gone' or history.from_date = $1)
    order by history.account_id
"""
