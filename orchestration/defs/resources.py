"""Resources that assets ask for: the workspace and the right to write to it. No logic beyond opening and closing."""

from collections.abc import Iterator
from contextlib import contextmanager

import dagster as dg

from orchestration.lib.warehouse import warehouse_stays_open, writer_lock
from orchestration.lib.workspace import Workspace


class ScoringWorkspace(dg.ConfigurableResource):
    """The directory with a company's settings, landing zone, warehouse and marts."""

    home: str

    def locate(self) -> Workspace:
        return Workspace.locate(self.home).require()


class WriterLock(dg.ConfigurableResource):
    """Held for the whole run of a job: a schedule, a second daemon and a person at the command line never write at
    once. As long as it is held, the warehouse stays open."""

    home: str
    wait_seconds: float = 0

    @contextmanager
    def yield_for_execution(self, context: dg.InitResourceContext) -> Iterator["WriterLock"]:
        log = context.log

        def say(message: str) -> None:
            if log is not None:
                log.info(message)

        home = Workspace.locate(self.home)
        with writer_lock(home, wait_seconds=self.wait_seconds, on_wait=say), warehouse_stays_open(home):
            yield self
