"""Dagster's event log in one SQLite file whose connections stay open.

A refresh writes some 900 events in 2,500 statements. Dagster's own class opens and closes the file for each of them, waits for the disk at
each commit and asks before most of them which tables and columns there are, which took more than half of a small refresh. And it keeps for
ever what checks said. Nothing else differs: same file, same tables.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from typing import Any

import sqlalchemy
from dagster import EventLogEntry
from dagster._core.storage.event_log import ConsolidatedSqliteEventLogStorage
from dagster._core.storage.event_log.schema import AssetCheckExecutionsTable
from dagster._core.storage.sqlite import SQLITE_BUSY_TIMEOUT_SECONDS


class OpenSqliteEventLog(ConsolidatedSqliteEventLogStorage):
    """Named in a workspace's `dagster.yaml`."""

    @cached_property
    def _engine(self) -> sqlalchemy.Engine:
        engine = sqlalchemy.create_engine(
            self._conn_string, connect_args={"timeout": SQLITE_BUSY_TIMEOUT_SECONDS, "check_same_thread": False}
        )

        @sqlalchemy.event.listens_for(engine, "connect")
        def _commit_without_waiting(connection: Any, _: Any) -> None:
            # With a write-ahead log this cannot break the file; a power cut may cost the last events of a run's record.
            connection.execute("pragma synchronous = normal")

        return engine

    @cached_property
    def _of_thread(self) -> threading.local:
        return threading.local()

    @cached_property
    def _known(self) -> set[str]:
        """Tables, and columns of `asset_keys`, that were found once: a migration only adds."""
        return set()

    @contextmanager
    def _connect(self) -> Iterator[sqlalchemy.Connection]:
        """A connection in a transaction of its own, or in the one that this thread is in."""
        begun = getattr(self._of_thread, "connection", None)
        if begun is not None:
            yield begun
            return
        with self._engine.connect() as connection, connection.begin():
            self._of_thread.connection = connection
            try:
                yield connection
            finally:
                self._of_thread.connection = None

    def store_event(self, event: EventLogEntry) -> None:
        """The event and what the tables of assets and checks say of it, in one transaction."""
        with self._connect():
            super().store_event(event)

    def store_event_batch(self, events: Sequence[EventLogEntry]) -> None:
        """All of them in one transaction: what a run intends to do, before it begins."""
        with self._connect():
            for event in events:
                super().store_event(event)

    def delete_events(self, run_id: str) -> None:
        """The events of a run, and what its checks said: Dagster leaves that, a hundred rows of each refresh."""
        with self._connect() as connection:
            super().delete_events(run_id)
            connection.execute(AssetCheckExecutionsTable.delete().where(AssetCheckExecutionsTable.c.run_id == run_id))

    def has_table(self, table_name: str) -> bool:
        if table_name not in self._known and super().has_table(table_name):
            self._known.add(table_name)
        return table_name in self._known

    def _has_asset_key_col_on_connection(self, conn: sqlalchemy.Connection, column_name: str) -> bool:
        name = f"asset_keys.{column_name}"
        if name not in self._known and super()._has_asset_key_col_on_connection(conn, column_name):
            self._known.add(name)
        return name in self._known

    def dispose(self) -> None:
        """Close what is open; Dagster calls it when the instance ends."""
        super().dispose()
        self._engine.dispose()
        del self.__dict__["_engine"]
