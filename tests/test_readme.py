"""Every block of the README does what it says, in order, as a stranger would type it."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from tests.support.gateway import REPOSITORY
from tests.support.ports import free_port
from tests.support.processes import Process

WITHIN = 5.0
"""Seconds for what the README promises within one: this machine has other work, and an answer takes a process."""
Seen = TypeVar("Seen")
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(kind, text) for kind, text in BLOCK.findall((REPOSITORY / "README.md").read_text())]


@dataclass(frozen=True)
class Running:
    """What `make run` printed, and where it runs."""

    directory: Path
    lines: dict[str, str]
    environment: dict[str, str]

    def adapt(self, text: str) -> str:
        """The README's addresses, key and paths are those of this run."""
        for said, here in (
            ("http://127.0.0.1:8080", self.lines["gateway"]),
            ("sk-az-...", self.lines["key"]),
            ("run/authz.yaml", self.lines["config"]),
            ("$PWD/.venv/bin", str(Path(sys.executable).parent)),
        ):
            text = text.replace(said, here)
        return text

    def shell(self, script: str) -> subprocess.CompletedProcess[str]:
        exports = "\n".join(text for kind, text in BLOCKS if kind == "sh" and text.startswith("export"))
        return subprocess.run(
            ["bash", "-c", f"set -eu\n{self.adapt(exports)}\n{self.adapt(script)}"],
            cwd=self.directory, env=self.environment, capture_output=True, text=True, timeout=60,
        )  # fmt: skip


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    scratch = tmp_path_factory.mktemp("readme")
    make = shutil.which("make")
    assert make is not None
    log = scratch / "make.log"
    arguments = f"--port {free_port()} --dir {scratch / 'run'}"
    # The virtual environment of the tests is the one that `make run` would make: it is there already.
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST", "AUTHZ"))}
    process = Process([make, "-C", str(REPOSITORY), "run", f"ARGS={arguments}"], log=log, env=environment)
    lines: dict[str, str] = {}

    def printed() -> bool:
        lines.update(re.findall(r"^(gateway|admin|key|config): (\S+)$", log.read_text(), re.MULTILINE))
        return len(lines) == 4

    try:
        process.wait_until(printed, seconds=120)
        yield Running(scratch, lines, environment)
    finally:
        process.stop()


def asked_within(seconds: float, ask: Callable[[], Seen], right: Callable[[Seen], bool]) -> Seen:
    """The first right answer, or that to the first question after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline
        seen = ask()
        if late or right(seen):
            return seen


def block(containing: str) -> str:
    found = [text for _, text in BLOCKS if containing in text]
    assert len(found) == 1, f"{len(found)} blocks hold {containing!r}"
    return found[0]


def test_make_run_prints_the_four_lines(running: Running) -> None:
    assert list(running.lines) == ["gateway", "admin", "key", "config"]
    assert re.fullmatch(r"sk-az-[0-9A-Za-z]{46}", running.lines["key"])
    shown = [line.partition(":")[0] for line in block("key: sk-az-...\nconfig").splitlines()]
    assert shown == list(running.lines)


def test_curl_streams_a_chat(running: Running) -> None:
    done = running.shell(block("curl --no-buffer"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("data: ") > 2
    assert done.stdout.rstrip().endswith("data: [DONE]")


def test_the_sdk_streams_a_chat(running: Running) -> None:
    script = running.adapt(block("from openai"))
    environment = running.environment | {"KEY": running.lines["key"]}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 3


def test_what_was_used_is_in_the_ledger(running: Running) -> None:
    running.shell(block("curl --no-buffer"))
    told = asked_within(
        WITHIN, lambda: running.shell(block("authz usage")), lambda told: "demo" in told.stdout
    )
    assert told.returncode == 0, told.stderr
    header, row, *_ = (line.split("\t") for line in told.stdout.splitlines())
    used = dict(zip(header, row, strict=True))
    assert int(used["requests"]) >= 1
    assert int(used["input_tokens"]) >= 1
    assert int(used["output_tokens"]) >= 16
    assert int(used["estimated_output_tokens"]) == 0  # it was asked for, so nothing was guessed


def test_without_a_key_401(running: Running) -> None:
    done = running.shell(block("curl -i"))
    assert done.stdout.startswith("HTTP/1.1 401")
    assert '"code":"missing_credentials"' in done.stdout


def test_a_key_for_alice_is_in_force_within_a_second(running: Running) -> None:
    done = running.shell(block("keys create"))
    assert done.returncode == 0, done.stderr
    key = re.search(r"sk-az-[0-9A-Za-z]{46}", done.stdout)
    assert key is not None
    assert "alice" in done.stdout
    script = (
        "curl -s -o /dev/null -w '%{http_code}' http://127.0.0.1:8080/v1/chat/completions "
        f"-H 'Authorization: Bearer {key[0]}' -H 'Content-Type: application/json' "
        """-d '{"model": "demo", "messages": [{"role": "user", "content": "Hello"}]}'"""
    )

    def status() -> str:
        return running.shell(script).stdout

    first = asked_within(WITHIN, status, lambda status: status != "401")
    assert [first, status(), status()] == ["200", "200", "429"]


def test_check_explains_and_decisions_are_listed(running: Running) -> None:
    done = running.shell(block("authz check"))
    assert done.returncode == 0, done.stderr
    for words in ("route", "authenticate", "authorize", "limits"):
        assert words in done.stdout
    assert running.lines["key"] not in done.stdout
    assert "missing_credentials" in done.stdout or "credential_missing" in done.stdout


def test_a_config_validates_and_nginx_is_rendered(running: Running) -> None:
    done = running.shell(block("authz render"))
    assert done.returncode == 0, done.stderr
    assert (running.directory / "rendered" / "nginx.conf").is_file()


def test_up_says_plainly_that_an_upstream_is_not_there(running: Running) -> None:
    line = block("authz up").replace("8000", str(free_port()))
    port = free_port()
    script = f"timeout 20 {line.strip()} --port {port} --dir other 2>&1 & sleep 0.1; wait"
    done = running.shell(script)
    assert "127.0.0.1" in done.stdout


def test_every_block_is_run() -> None:
    """No block of the README is without a test above; `make test` is this very suite."""
    tested = (
        "curl --no-buffer",
        "from openai",
        "curl -i",
        "keys create",
        "authz check",
        "authz render",
        "authz up",
        "authz usage",
    )
    for kind, text in BLOCKS:
        if kind in ("sh", "python") and not text.startswith(("export", "make ")):
            assert sum(marker in text for marker in tested) == 1, text
