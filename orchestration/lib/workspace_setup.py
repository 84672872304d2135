"""Makes a workspace: the commented settings files, the folders, and Dagster's own settings. Never overwrites a user's
file."""

from __future__ import annotations

from pathlib import Path

from orchestration.lib.contracts import load_contracts
from orchestration.lib.errors import UserError
from orchestration.lib.sources import DEFAULT_SOURCES_YML
from orchestration.lib.workspace import SOURCE_CONTRACTS, Workspace

TEMPLATES = Path(__file__).resolve().parents[1] / "templates"

#: Run by the daemon. One writer at a time, hung runs ended, nothing sent to anybody, old ticks forgotten.
DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
# On the screen what steps say, and none of the thousand events of a run: they are in the store.
python_logs:
  python_log_level: INFO
# One file for all runs' events: the default writes most of them twice, which took longer than dbt's models.
event_log_storage:
  module: orchestration.defs.event_store
  class: OpenSqliteEventLog
  config:
    base_dir: {env: DAGSTER_HOME}
run_monitoring:
  enabled: true
  start_timeout_seconds: 300
  max_runtime_seconds: 7200
  free_slots_after_run_end_seconds: 60
concurrency:
  runs:
    max_concurrent_runs: 2
    tag_concurrency_limits:
      - key: scoring/writer
        limit: 1
retention:
  schedule:
    purge_after_days: {skipped: 1, success: 30, failure: 90}
"""

#: What earlier versions wrote: replaced where nobody has edited it.
_DAGSTER_YAML_BEFORE = "".join(
    line
    for line in DAGSTER_YAML.splitlines(keepends=True)
    if not line.startswith(("# On the screen", "python_logs:", "  python_log_level:"))
)


def create_workspace(workspace: Workspace, *, extra_criteria: str = "") -> list[Path]:
    """Make what is missing of a workspace. Returns the settings files that were written.

    Parameters
    ----------
    extra_criteria : YAML text, put behind the criteria of the default `scorecard.yml`

    Raises
    ------
    UserError
        The path is a file.
    """
    if workspace.home.exists() and not workspace.home.is_dir():
        raise UserError(f"{workspace.home} is a file, not a directory")
    contracts = load_contracts(SOURCE_CONTRACTS)
    for contract in contracts.values():
        (workspace.inbox / contract.source / contract.table).mkdir(parents=True, exist_ok=True)
    for directory in (workspace.rules, workspace.segments):
        directory.mkdir(parents=True, exist_ok=True)
    make_stores(workspace)
    texts = {
        workspace.scorecard_file: (TEMPLATES / "scorecard.yml").read_text(encoding="utf-8") + extra_criteria,
        workspace.sources_file: DEFAULT_SOURCES_YML,
        workspace.rules / "example.yml": (TEMPLATES / "rule.yml").read_text(encoding="utf-8"),
        workspace.segments / "example.yml": (TEMPLATES / "segment.yml").read_text(encoding="utf-8"),
    }
    written = []
    for path, text in texts.items():
        if not path.exists():
            path.write_text(text, encoding="utf-8")
            written.append(path)
    return written


def make_stores(workspace: Workspace) -> None:
    """Make what the tools write to, where it is missing: all but the landing zone may be deleted at any time."""
    for directory in (workspace.landing, workspace.marts, workspace.mlflow, workspace.dagster, workspace.dbt):
        directory.mkdir(parents=True, exist_ok=True)
    settings = workspace.dagster / "dagster.yaml"
    if not settings.exists() or settings.read_text(encoding="utf-8") == _DAGSTER_YAML_BEFORE:
        settings.write_text(DAGSTER_YAML, encoding="utf-8")
