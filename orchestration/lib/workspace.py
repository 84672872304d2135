"""Where a user's own state lives. Only paths: what is in the files is the business of the module that reads them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from orchestration.lib.errors import UserError

PROJECT_ROOT = Path(__file__).resolve().parents[2]
DBT_PROJECT = PROJECT_ROOT / "dbt_project"
SOURCE_CONTRACTS = PROJECT_ROOT / "data_contracts" / "sources"
MART_CONTRACTS = PROJECT_ROOT / "data_contracts" / "marts"

HOME_VARIABLE = "SCORING_HOME"
DEFAULT_HOME = "workspace"


@dataclass(frozen=True)
class Workspace:
    """A directory with one company's settings, landed records, warehouse and published marts.

    Parameters
    ----------
    home : Path
        The directory, absolute.
    """

    home: Path

    @classmethod
    def locate(cls, home: str | os.PathLike[str] | None = None) -> Workspace:
        """The workspace named by `home`, else by the environment variable SCORING_HOME, else ./workspace."""
        return cls(Path(home or os.environ.get(HOME_VARIABLE) or DEFAULT_HOME).expanduser().resolve())

    def require(self) -> Workspace:
        """Return self, or raise UserError when `scoring init` has not been run here."""
        for file in (self.scorecard_file, self.sources_file):
            if not file.is_file():
                raise UserError(
                    f"{self.home} is not a workspace: {file.name} is missing. Make one with: scoring --home {self.home} init"
                )
        return self

    @property
    def scorecard_file(self) -> Path:
        return self.home / "scorecard.yml"

    @property
    def sources_file(self) -> Path:
        return self.home / "sources.yml"

    @property
    def segments(self) -> Path:
        """The user's segments, one file each."""
        return self.home / "segments"

    @property
    def rules(self) -> Path:
        """The folder with a file per rule."""
        return self.home / "rules"

    @property
    def inbox(self) -> Path:
        return self.home / "inbox"

    @property
    def landing(self) -> Path:
        return self.home / "landing"

    @property
    def warehouse(self) -> Path:
        return self.home / "warehouse.duckdb"

    @property
    def marts(self) -> Path:
        return self.home / "marts"

    @property
    def published(self) -> Path:
        """The file that readers open."""
        return self.marts / "current" / "scoring.duckdb"

    @property
    def mlflow(self) -> Path:
        return self.home / "mlflow"

    @property
    def dagster(self) -> Path:
        return self.home / "dagster"

    @property
    def dbt(self) -> Path:
        return self.home / "dbt"

    @property
    def lock_file(self) -> Path:
        return self.home / ".writer.lock"

    @property
    def server_lock_file(self) -> Path:
        return self.home / ".server.lock"
