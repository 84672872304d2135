"""Landed documents: decisions of people and fits, each an immutable small file in the landing zone.

Data files of the contracts' tables are the business of `landing`; both use the same form of name, so that arrival and
content
can be told from the name alone.
"""

from __future__ import annotations

import hashlib
import os
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

from orchestration.lib.workspace import Workspace

_STAMP = "%Y%m%dT%H%M%S%fZ"
_NAME = re.compile(r"^(\d{8}T\d{12}Z)-[0-9a-f]{12}-")


def land_document(workspace: Workspace, folder: str, name: str, content: bytes) -> Path:
    """Write a document into `landing/<folder>/`, whole or not at all, after all that are there.

    Parameters
    ----------
    folder : str
        For example "scoring/scorecards".
    name : str
        What a person recognises it by; moment and hash are put in front.
    """
    directory = workspace.landing / folder
    directory.mkdir(parents=True, exist_ok=True)
    moment = datetime.now(UTC).replace(tzinfo=None)
    landed = landed_documents(workspace, folder)
    if landed:
        # Two documents of one instant, or a clock set back, must not change their order.
        moment = max(moment, arrived_at(landed[-1]) + timedelta(microseconds=1))
    path = directory / f"{moment:{_STAMP}}-{hashlib.sha256(content).hexdigest()[:12]}-{name}"
    temporary = directory / f".{path.name}.tmp"
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.chmod(0o444)
    temporary.replace(path)
    sync_directory(directory)
    return path


def landed_documents(workspace: Workspace, folder: str) -> list[Path]:
    """The documents of a folder in the order of arrival."""
    directory = workspace.landing / folder
    if not directory.is_dir():
        return []
    return sorted(path for path in directory.iterdir() if _NAME.match(path.name))


def arrived_at(path: Path) -> datetime:
    """When a landed document arrived, naive UTC."""
    return datetime.strptime(path.name.split("-", 1)[0], _STAMP)


def sync_directory(directory: Path) -> None:
    """Make the names in a directory survive a power cut."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
