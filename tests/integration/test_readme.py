"""What the README tells a user to type and to run works as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import click
import pytest

from orchestration.lib.workspace import PROJECT_ROOT
from tests.conftest import Company

README = (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
#: Run elsewhere: the demo is the fixture of this suite, the tests are this suite.
ELSEWHERE = {"pip install uv && uv run scoring demo", "uv run pytest"}


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.S)


@pytest.fixture(scope="module")
def directory(demo: Company, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the demo company as ./workspace and an export in ./my-company, as after the README's first part."""
    directory = tmp_path_factory.mktemp("readme")
    (directory / "workspace").symlink_to(demo.workspace.home)
    return directory


def test_readme__has_the_two_commands() -> None:
    lines = {line for block in blocks("sh") for line in block.strip().splitlines()}
    assert lines >= ELSEWHERE


def test_readme__commands_run(directory: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "SCORING_HOME"}
    commands = [line for block in blocks("sh") for line in block.strip().splitlines() if line not in ELSEWHERE]
    assert len(commands) >= 5
    for command in commands:
        words = shlex.split(command)
        assert words[:3] == ["uv", "run", "scoring"], command
        if words[-1] == "refresh":
            accounts = directory / "my-company" / "inbox" / "crm" / "accounts" / "accounts.csv"
            accounts.write_text("account_id,account_name\n1,Alpha\n")
            os.utime(accounts, (time.time() - 60, time.time() - 60))
        ended = subprocess.run(
            [sys.executable, "-c", "from orchestration.cli import main; main()", *words[3:]],
            cwd=directory,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, (command, ended.stderr[-2000:])


def test_readme__python_runs(directory: Path) -> None:
    for code in blocks("python"):
        ended = subprocess.run([sys.executable, "-c", code], cwd=directory, capture_output=True, text=True)
        assert ended.returncode == 0, (code, ended.stderr[-2000:])
        assert ended.stdout.strip()


def test_readme__commands_in_the_table_exist() -> None:
    from orchestration.cli.main import COMMANDS, main

    for text in re.findall(r"`uv run scoring ([^`]+)`", README):
        words = [word for word in shlex.split(text) if word not in ("--home", "my-company")]
        # The command, and within a group the command of the group.
        command = main.get_command(None, words[0])  # type: ignore[arg-type]
        assert words[0] in COMMANDS, text
        if isinstance(command, click.Group) and len(words) > 1 and not words[1].startswith("--"):
            command = command.commands[words[1]]
        options = {option for parameter in command.params for option in parameter.opts}  # type: ignore[union-attr]
        for argument in words:
            if argument.startswith("--"):
                assert argument in options, (text, argument)


def test_notebook__runs(directory: Path) -> None:
    for notebook in sorted((PROJECT_ROOT / "notebooks").glob("*.py")):
        ended = subprocess.run(
            [sys.executable, str(notebook)],
            cwd=directory,
            env={key: value for key, value in os.environ.items() if key != "SCORING_HOME"},
            capture_output=True,
            text=True,
        )
        assert ended.returncode == 0, (notebook.name, ended.stderr[-2000:])


def test_readme__shows_the_demo_as_it_is(demo: Company) -> None:
    """The screen in the README is that of the demo; SCORING_REGENERATE=1 writes it anew."""
    from click.testing import CliRunner

    from orchestration.cli.main import main

    output = CliRunner().invoke(main, ["--home", str(demo.workspace.home), "report", "--top", "5"]).output
    shown = "\n".join(line.rstrip() for line in output.splitlines())
    shown = shown.replace(str(demo.workspace.home), "workspace").replace("--home workspace ", "")
    # Each refresh of the fixture has a number of its own.
    shown = re.sub(r"snapshot \d+", "snapshot 1", shown)
    block = f"<!-- demo:begin -->\n```text\n{shown.strip()}\n```\n<!-- demo:end -->"
    if os.environ.get("SCORING_REGENERATE"):
        text = re.sub(r"<!-- demo:begin -->.*<!-- demo:end -->", lambda _: block, README, flags=re.S)
        (PROJECT_ROOT / "README.md").write_text(text, encoding="utf-8")
        return
    assert block in README
