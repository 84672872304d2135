"""Has dbt compile its project, once per state of it, and runs its unit tests. What is compiled is run by `model_builds`.

dbt is imported only when the project has changed: a refresh does without it.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

from orchestration.lib import compiled_project
from orchestration.lib.compiled_project import Column, CompiledModel, CompiledProject, CompiledTest, Following, Kept
from orchestration.lib.errors import UserError
from orchestration.lib.workspace import DBT_PROJECT, Workspace


@dataclass(frozen=True)
class UnitTestResult:
    """What became of one unit test."""

    name: str
    status: str
    message: str

    @property
    def is_good(self) -> bool:
        return self.status == "pass"


def read_project(workspace: Workspace) -> CompiledProject:
    """The project as it is now, compiled unless that has been done before.

    It is kept beside the project, for every workspace of the installation; where that may not be written, in the workspace.

    Raises
    ------
    UserError
        dbt refuses the project.
    """
    return _compiled(project_fingerprint(), workspace)


@cache
def _compiled(fingerprint: str, workspace: Workspace) -> CompiledProject:
    folder = DBT_PROJECT / "target" if os.access(DBT_PROJECT, os.W_OK) else workspace.dbt
    file = folder / f"compiled-{fingerprint[:16]}.json"
    if not file.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        _compile().write(file)
        for old in folder.glob("compiled-*.json"):
            if old != file:
                old.unlink(missing_ok=True)
    return CompiledProject.read(file)


def _compile() -> CompiledProject:
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        # The name of the file is that of the database in the SQL.
        warehouse = Workspace(scratch).warehouse
        manifest = _invoke(scratch, warehouse, ["parse", "--no-partial-parse"]).result
        full = ["compile", "--no-introspect", "--full-refresh"]
        increment = ["compile", "--no-introspect", "--select", "resource_type:model"]
        # The nodes are the manifest's own: the next call writes over what this one compiled.
        increment_sql = {
            result.node.unique_id: result.node.compiled_code
            for result in _invoke(scratch, warehouse, increment, manifest).result.results
        }
        nodes = [result.node for result in _invoke(scratch, warehouse, full, manifest).result.results]
    names = {node.unique_id: node.name for node in nodes if node.resource_type == "model"}
    sources = {key: (source.source_name, source.name) for key, source in manifest.sources.items()}
    models = [
        CompiledModel(
            name=node.name,
            layer=node.schema,
            group=node.fqn[2] if len(node.fqn) > 3 else "",
            relation=node.relation_name,
            materialized="kept" if node.config.materialized == "incremental" else node.config.materialized,
            description=node.description,
            tags=tuple(node.config.tags),
            sql=node.compiled_code,
            increment_sql=increment_sql[node.unique_id],
            depends_on=tuple(sorted({names[key] for key in node.depends_on.nodes if key in names})),
            sources=tuple(sorted({sources[key] for key in node.depends_on.nodes if key in sources})),
            kept=_kept(node) if node.config.materialized == "incremental" else None,
            columns=_contract(node),
            joins_as_written=bool(node.config.meta.get("joins_as_written")),
            following=_following(node),
        )
        for node in nodes
        if node.resource_type == "model"
    ]
    keys = {model.name: model.following.rows_by for model in models}
    tests = [
        CompiledTest(
            name=node.name,
            sql=node.compiled_code,
            only_warns=node.config.severity.lower() == "warn",
            models=tuple(sorted({names[key] for key in node.depends_on.nodes if key in names})),
            rows_by=_tested_by(node, {key: keys[name] for key, name in names.items()}),
            sources=tuple(sorted({sources[key] for key in node.depends_on.nodes if key in sources})),
        )
        for node in nodes
        if node.resource_type == "test"
    ]
    return CompiledProject.of(models, tests)


def _kept(node: Any) -> Kept:
    meta = node.config.meta
    return Kept(
        remove_before=meta.get("remove_before", ""),
        own_rows=meta.get("own_rows", ""),
        unique_key=node.config.unique_key or "",
        remove_after=meta.get("remove_after", ""),
    )


def _following(node: Any) -> Following:
    meta = node.config.meta
    reads_by = [
        (table, one)
        for table, rows in meta.get("reads_by", {}).items()
        for one in (rows if isinstance(rows, list) else [rows])
    ]
    return Following(
        rows_by=meta.get("rows_by", ""),
        reads_by=tuple(reads_by),
        differs_in=meta.get("differs_in", ""),
        is_difference=bool(meta.get("is_difference")),
        every_refresh=bool(meta.get("every_refresh")),
        every_day=bool(meta.get("every_day")),
        is_compared=bool(meta.get("is_compared")),
        stamped=meta.get("stamped", ""),
        refreshed_from=meta.get("refreshed_from", ""),
    )


def _tested_by(node: Any, keys: Mapping[str, str]) -> str:
    """The column by which a data test can be asked of some rows alone: told under `meta`, or known of what the test says.

    keys : id of a model -> the column by which its rows are followed
    """
    metadata = getattr(node, "test_metadata", None)
    if metadata is None:
        return str(node.config.meta.get("rows_by", ""))
    column = metadata.kwargs.get("column_name", "")
    if metadata.name == "unique" or (metadata.name == "relationships" and metadata.kwargs["field"] == column):
        return str(column)
    if metadata.name == "one_row_per":
        columns = metadata.kwargs["columns"]
        key = keys.get(node.attached_node or "", "")
        return key if key in columns else str(columns[0])
    return ""


def _contract(node: Any) -> tuple[Column, ...]:
    if not node.config.contract.enforced:
        return ()
    return tuple(
        Column(
            name=column.name,
            data_type=column.data_type,
            is_required=any(constraint.type == "not_null" for constraint in column.constraints),
            description=column.description,
        )
        for column in node.columns.values()
    )


def run_unit_tests(workspace: Workspace, *, select: str = "") -> list[UnitTestResult]:
    """Run the unit tests of the project: each model on rows of its own, nothing of the warehouse's data.

    The relations that the models read must exist, because dbt takes the types of the columns from them: build first.

    Parameters
    ----------
    select : only the unit tests of these models, e.g. "int_deals"; all without it

    Raises
    ------
    UserError
        dbt could not start, for example because the warehouse is locked.
    """
    wanted = f"{select},test_type:unit" if select else "test_type:unit"
    outcome = _invoke(workspace.dbt, workspace.warehouse, ["test", "--select", wanted])
    return [
        UnitTestResult(result.node.name, str(result.status), (result.message or "").strip())
        for result in outcome.result.results
    ]


def _invoke(folder: Path, warehouse: Path, arguments: list[str], manifest: Any = None) -> Any:
    os.environ["SCORING_WAREHOUSE"] = str(warehouse)
    os.environ["DBT_SEND_ANONYMOUS_USAGE_STATS"] = "false"
    os.environ["DO_NOT_TRACK"] = "1"
    from dbt.adapters.duckdb.connections import DuckDBConnectionManager
    from dbt.cli.main import dbtRunner as Runner

    options = [
        "--project-dir", str(DBT_PROJECT),
        "--profiles-dir", str(DBT_PROJECT),
        "--target-path", str(folder / "target"),
        "--log-path", str(folder / "logs"),
        "--log-level", "none",
        "--log-level-file", "warn",
        "--no-write-json",
    ]  # fmt: skip
    try:
        outcome = Runner(manifest=manifest).invoke([*arguments, *options])
    finally:
        # dbt keeps the file open, and so locked, until told otherwise.
        DuckDBConnectionManager.close_all_connections()
    if outcome.result is None:
        raise UserError(f"dbt {arguments[0]} failed: {outcome.exception}")
    return outcome


def project_fingerprint() -> str:
    """A digest of all of dbt's files and of what compiles them: another one means other transformations."""
    digest = hashlib.sha256(f"{version('dbt-core')} {version('dbt-duckdb')}".encode())
    for path in sorted(DBT_PROJECT.rglob("*")):
        name = path.relative_to(DBT_PROJECT)
        if path.is_file() and path.suffix in (".sql", ".yml") and "target" not in name.parts:
            digest.update(str(name).encode())
            digest.update(path.read_bytes())
    for module in (Path(__file__), Path(compiled_project.__file__)):
        digest.update(module.read_bytes())
    return digest.hexdigest()
