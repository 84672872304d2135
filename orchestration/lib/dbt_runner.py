"""Runs dbt inside this process. A subprocess per step would import dbt again each time, which costs more than the
models.

Knows nothing of Dagster: `orchestration.defs.transform` turns the results into materializations and checks.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

from orchestration.lib.errors import UserError
from orchestration.lib.workspace import DBT_PROJECT, Workspace


@dataclass(frozen=True)
class NodeResult:
    """What became of one model or test."""

    unique_id: str
    status: str
    message: str
    failures: int | None
    seconds: float

    @property
    def is_good(self) -> bool:
        return self.status in ("success", "pass")


@dataclass(frozen=True)
class CompiledModel:
    """A model's SQL with all names filled in; `relation` is quoted and complete."""

    name: str
    relation: str
    is_table: bool
    sql: str


class DbtRunner:
    """dbt on one workspace's warehouse.

    The manifest is parsed once per state of the project and kept in the workspace; later runs of any process read it.
    """

    def __init__(self, workspace: Workspace):
        self.workspace = workspace
        self._parsed: Any = None

    @property
    def manifest_path(self) -> Path:
        return self.workspace.dbt / "target" / "manifest.json"

    def prepare(self) -> Path:
        """Parse the project unless the manifest already describes it. Returns the manifest's path."""
        stamp = self.workspace.dbt / "project.sha256"
        fingerprint = project_fingerprint()
        is_fresh = self.manifest_path.is_file() and stamp.is_file() and stamp.read_text() == fingerprint
        if not is_fresh:
            self.workspace.dbt.mkdir(parents=True, exist_ok=True)
            # From scratch: after a change, dbt's partial parsing loses what YAML says of tests, such as that one only warns.
            self._parsed = self._invoke(["parse", "--no-partial-parse"], write_json=True).result
            stamp.write_text(fingerprint)
        return self.manifest_path

    def manifest(self) -> dict[str, Any]:
        """The manifest as a document, parsed if need be."""
        return json.loads(self.prepare().read_text(encoding="utf-8"))

    def build(self, *, select: str, exclude: str = "", full: bool = True) -> list[NodeResult]:
        """Build the selected models and run their data tests. dbt's own order: what depends on a failure is skipped.

        Parameters
        ----------
        full : nothing is kept of the last build; False only after `increments.plan_build` has said so

        Raises
        ------
        UserError
            dbt could not start, for example because the warehouse is locked.
        """
        self.prepare()
        if self._parsed is None:
            # From dbt's own cache of the last parse; both builds of a run then share it.
            self._parsed = self._invoke(["parse"], write_json=False).result
        # buildable: a test over models of both steps runs in the second, when all of them are new.
        arguments = ["build", "--select", select, "--indirect-selection", "buildable"]
        arguments += ["--exclude-resource-type", "unit_test"]
        if exclude:
            arguments += ["--exclude", exclude]
        if full:
            arguments.append("--full-refresh")
        outcome = self._invoke(arguments)
        if outcome.result is None:
            raise UserError(f"dbt build of {select!r} did not run: {outcome.exception}")
        return _node_results(outcome.result)

    def compile(self, *, select: str, exclude: str = "") -> list[CompiledModel]:
        """The SQL of the selected models as a full refresh would run it now, in the order in which it would run it.

        Raises
        ------
        UserError
            dbt could not start, for example because the warehouse is locked.
        """
        self.prepare()
        if self._parsed is None:
            self._parsed = self._invoke(["parse"], write_json=False).result
        arguments = ["compile", "--select", select, "--no-introspect", "--full-refresh"]
        outcome = self._invoke([*arguments, "--exclude", exclude] if exclude else arguments)
        if outcome.result is None:
            raise UserError(f"dbt compile of {select!r} did not run: {outcome.exception}")
        nodes = [r.node for r in outcome.result.results if r.node.resource_type == "model"]
        models = {
            node.unique_id: CompiledModel(
                name=node.name,
                relation=node.relation_name,
                is_table=node.config.materialized in ("table", "incremental"),
                sql=node.compiled_code,
            )
            for node in nodes
        }
        depends = {node.unique_id: [d for d in node.depends_on.nodes if d in models] for node in nodes}
        return [models[unique_id] for unique_id in TopologicalSorter(depends).static_order()]

    def test_units(self, *, select: str = "") -> list[NodeResult]:
        """Run the unit tests of the project: each model on rows of its own, nothing of the warehouse's data.

        The relations that the models read must exist, because dbt takes the types of the columns from them: build
        first.

        Parameters
        ----------
        select : only the unit tests of these models, e.g. "int_deals"; all without it

        Raises
        ------
        UserError
            dbt could not start.
        """
        self.prepare()
        wanted = f"{select},test_type:unit" if select else "test_type:unit"
        outcome = self._invoke(["test", "--select", wanted])
        if outcome.result is None:
            raise UserError(f"dbt test of {wanted!r} did not run: {outcome.exception}")
        return _node_results(outcome.result)

    def _invoke(self, arguments: list[str], *, write_json: bool = False) -> Any:
        os.environ["SCORING_WAREHOUSE"] = str(self.workspace.warehouse)
        os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
        os.environ["DO_NOT_TRACK"] = "1"
        from dbt.adapters.duckdb.connections import DuckDBConnectionManager
        from dbt.cli.main import dbtRunner as Runner

        options = [
            "--project-dir", str(DBT_PROJECT),
            "--profiles-dir", str(DBT_PROJECT),
            "--target-path", str(self.workspace.dbt / "target"),
            "--log-path", str(self.workspace.dbt / "logs"),
            "--log-level", "none",
            "--log-level-file", "warn",
            "--write-json" if write_json else "--no-write-json",
        ]  # fmt: skip
        try:
            outcome = Runner(manifest=self._parsed).invoke([*arguments, *options])
        finally:
            # dbt keeps the file open, and so locked, until told otherwise.
            DuckDBConnectionManager.close_all_connections()
        if outcome.exception is not None and outcome.result is None:
            raise UserError(f"dbt {arguments[0]} failed: {outcome.exception}")
        return outcome


def _node_results(run: Any) -> list[NodeResult]:
    return [
        NodeResult(
            unique_id=result.node.unique_id,
            status=str(result.status),
            message=(result.message or "").strip(),
            failures=result.failures,
            seconds=result.execution_time,
        )
        for result in run.results
    ]


def project_fingerprint() -> str:
    """A digest of all of dbt's files: another one means other transformations."""
    digest = hashlib.sha256()
    for path in sorted(DBT_PROJECT.rglob("*")):
        if path.is_file() and path.suffix in (".sql", ".yml") and "target" not in path.relative_to(DBT_PROJECT).parts:
            digest.update(str(path.relative_to(DBT_PROJECT)).encode())
            digest.update(path.read_bytes())
    return digest.hexdigest()
