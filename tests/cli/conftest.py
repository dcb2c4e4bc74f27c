"""A config with a store of its own, and commands run in this process."""

import io
import json
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from authz.cli.main import run

CONFIG = """\
store: sqlite:authz.db
authenticators:
  keys: {type: api_key}
models:
  llama3: {context: 8192, max_output: 2048, price: {input: 0.1, output: 0.4}}
  big: {access: {roles: [senior]}}
backends:
  vllm: {url: http://127.0.0.1:8000, models: any}
routes:
  - name: inference
    match: {api: [openai]}
    authenticate: {any_of: [keys]}
    authorize: [{models: allowed}]
    limits: [key-rpm, team-month]
limits:
  key-rpm: {unit: requests, quota: 60, window: 1m, partition_by: [key]}
  team-month: {unit: tokens, quota: 50M, window: month, partition_by: [team]}
  user-cost: {unit: cost, quota: 5, window: month, partition_by: [user, model]}
  all-day: {unit: requests, quota: 1M, window: day}
"""


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        assert self.code == 0, self.err
        return json.loads(self.out)

    @property
    def rows(self) -> list[dict[str, str]]:
        """Of a list in its piped form."""
        assert self.code == 0, self.err
        header, *lines = [line.split("\t") for line in self.out.splitlines()]
        return [dict(zip(header, line, strict=True)) for line in lines]


Authz = Callable[..., Ran]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def without_styles(text: str) -> str:
    """Text that was meant for a terminal, without its colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", text)


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "authz.yaml"
    path.write_text(CONFIG)
    monkeypatch.setenv("AUTHZ_CONFIG", str(path))
    return path


@pytest.fixture
def authz(config: Path, monkeypatch: pytest.MonkeyPatch) -> Authz:
    """Runs a command line; with `terminal=True` it finds a terminal of `columns` to write to."""

    def command(*arguments: str, stdin: str = "", terminal: bool = False, columns: int = 120) -> Ran:
        out, err = (Terminal(), Terminal()) if terminal else (io.StringIO(), io.StringIO())
        with monkeypatch.context() as patched:
            patched.setenv("COLUMNS", str(columns))
            patched.setenv("TERM", "xterm")
            patched.setattr(sys, "stdin", io.StringIO(stdin))
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            code = run(arguments)
        return Ran(code, without_styles(out.getvalue()), without_styles(err.getvalue()))

    return command
