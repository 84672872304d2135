"""What is in the repository: nothing of one machine or network, and documents that point at what exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from orchestration.lib.workspace import PROJECT_ROOT
from tests.conventions.project import shown, tracked_files

TEXT = {".py", ".sql", ".yml", ".yaml", ".md", ".toml", ".cfg", ".txt", ".json", ".sh", ""}
#: Made by tools, or the licence's own words.
EXEMPT = {"uv.lock", "LICENSE"}
#: Hosts that nobody can reach, made for examples (RFC 2606, RFC 5737), and this machine itself.
HARMLESS_HOST = re.compile(
    r"([\w-]+\.)*(example|test|invalid|localhost)(\.(com|net|org))?|127\.0\.0\.1|0\.0\.0\.0|"
    r"192\.0\.2\.\d+|198\.51\.100\.\d+|203\.0\.113\.\d+|\{[^}]*\}",
)
HOST = re.compile(r"\b(?:https?|ftp|ssh|postgres(?:ql)?)://(?:[^/@\s\"'`<>)]*@)?([^/:\s\"'`<>)]+)")
#: Four numbers with points; a version number has three.
IP_ADDRESS = re.compile(r"(?<![\w.])((?:25[0-5]|2[0-4]\d|1?\d?\d)(?:\.(?:25[0-5]|2[0-4]\d|1?\d?\d)){3})(?![\w.])")
MACHINE_PATH = re.compile(r"(?<![\w./~*-])(?:/(?:home|root|Users|mnt|work|var|tmp|opt|private)/[\w.-]|[A-Z]:\\)")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")


def text_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix in TEXT and path.name not in EXEMPT]


def markdown_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".md"]


@pytest.mark.parametrize("path", text_files(), ids=shown)
def test_file__names_no_machine_and_no_network(path: Path) -> None:
    found = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        hosts = [host for host in HOST.findall(line) if not HARMLESS_HOST.fullmatch(host)]
        addresses = [a for a in IP_ADDRESS.findall(line) if not HARMLESS_HOST.fullmatch(a)]
        paths = MACHINE_PATH.findall(line)
        found += [f"{shown(path)}:{number}: {what}" for what in (*hosts, *addresses, *paths)]
    assert not found


def test_files__are_small_enough_to_read() -> None:
    """Data, models and pictures do not belong into the repository."""
    large = {shown(p): p.stat().st_size for p in tracked_files() if p.stat().st_size > 100_000 and p.name not in EXEMPT}
    assert not large
    binary = {
        shown(p) for p in tracked_files() if p.suffix in {".duckdb", ".parquet", ".pkl", ".joblib", ".xlsx", ".db"}
    }
    assert not binary


def anchors(path: Path) -> set[str]:
    """The anchors of a page's headings, as hosts of Markdown make them."""
    headings = re.findall(r"^#+ +(.+?) *$", path.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("path", markdown_files(), ids=shown)
def test_link__leads_to_something(path: Path) -> None:
    broken = []
    for target in LINK.findall(re.sub(r"```.*?```", "", path.read_text("utf-8"), flags=re.DOTALL)):
        if re.match(r"[a-z]+:", target):
            continue  # addresses are the business of the test above
        file, _, anchor = target.partition("#")
        other = (path.parent / file).resolve() if file else path
        if not other.exists():
            broken.append(f"{target}: no such file")
        elif anchor and (other.suffix != ".md" or anchor not in anchors(other)):
            broken.append(f"{target}: no such heading")
    assert not broken


@pytest.mark.parametrize("path", markdown_files(), ids=shown)
def test_document__names_files_that_exist(path: Path) -> None:
    """Paths of the repository between backquotes. A part in <angle brackets>, * or {} stands for several."""
    top = {part.relative_to(PROJECT_ROOT).parts[0] for part in tracked_files()}
    gone = []
    for quoted in re.findall(r"`([\w./-]+)`", path.read_text("utf-8")):
        if "/" in quoted and quoted.split("/")[0] in top and not (PROJECT_ROOT / quoted).exists():
            gone.append(quoted)
    assert not gone


def test_workspace__is_not_tracked() -> None:
    state = {"landing", "marts", "inbox", "mlflow", "dagster"}
    found = [shown(p) for p in tracked_files() if p.relative_to(PROJECT_ROOT).parts[0] in state | {"workspace"}]
    assert not found
