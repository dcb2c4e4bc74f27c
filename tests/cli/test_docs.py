"""What the command line offers is in docs/cli.md, and completion can be installed."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cyclopts import App

from authz.cli.main import app

DOCS = (Path(__file__).parents[2] / "docs" / "cli.md").read_text()
_OWN = {"--help", "-h", "--version", "--install-completion"}


def commands(parent: App, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], App]]:
    """Every command below, with its words."""
    for name in parent:
        if name not in _OWN:
            child = parent[name]
            yield (*path, name), child
            yield from commands(child, (*path, name))


ALL = list(commands(app))


def test_there_are_commands() -> None:
    assert ("limits", "adjustments", "remove") in [path for path, _ in ALL]


@pytest.mark.parametrize("path", [path for path, _ in ALL], ids=" ".join)
def test_every_command_is_documented(path: tuple[str, ...]) -> None:
    assert re.search(rf"\b{path[-1]}\b", _section(path[0]))


@pytest.mark.parametrize(("path", "command"), ALL, ids=[" ".join(path) for path, _ in ALL])
def test_every_option_is_documented(path: tuple[str, ...], command: App) -> None:
    if command.default_command is None:
        return
    options = {
        name
        for argument in command.assemble_argument_collection(default_parameter=app.default_parameter)
        for name in argument.names
        if name.startswith("--")
    }
    positional = {f"--{name}" for name in ("name", "amount")} if path[-1] != "create" else set()
    missing = {
        name for name in options - positional if name not in _section(path[0]) and name not in _common()
    }
    assert missing == set()


def _section(group: str) -> str:
    """The part of the document about a group; users and teams share one."""
    parts = re.split(r"^### ", DOCS, flags=re.MULTILINE)[1:]
    return "".join(part for part in parts if f"`authz {group}`" in part.split("\n")[0])


def _common() -> str:
    return DOCS.split("## Running")[0]


def test_completion_can_be_installed(tmp_path: Path) -> None:
    environment = {**os.environ, "HOME": str(tmp_path), "SHELL": "/bin/bash"}
    command = [str(Path(sys.executable).parent / "authz"), "--install-completion", "--shell", "bash"]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    script = next(path for path in tmp_path.rglob("authz") if path.is_file())
    asked = f"source {script}; COMP_WORDS=(authz keys cr); COMP_CWORD=2; _authz; echo ${{COMPREPLY[@]}}"
    shell = subprocess.run(["/bin/bash", "-c", asked], capture_output=True, text=True)
    assert shell.stdout.split() == ["create"]
