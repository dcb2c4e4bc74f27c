"""A real `authz up` of a test, and what can be seen of it from outside."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from authz.gateway.first_config import Wanted, keep
from authz.gateway.ports import listens
from tests.support.ports import free_port

AUTHZ = str(Path(sys.executable).parent / "authz")
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    text: str

    @property
    def json(self) -> Any:
        return json.loads(self.text)


USUAL_START = 2.5
"""Seconds from `authz up --demo` to its four lines on an idle machine of two cores."""


class RunningUp:
    """One `authz up` in a directory of its own, on ports of its own."""

    def __init__(self, directory: Path, *arguments: str, port: int | None = None) -> None:
        self.directory = directory
        self.port = port or free_port()
        self.slowness = 1.0
        """How many times `USUAL_START` this start took, at least 1: what is promised in seconds is promised for a
        machine that is not starved, and is given as much more time here as its start took."""
        if not (directory / "authz.yaml").exists():
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            places = ("decisions.http", "decisions.grpc", "decisions.grpc_other", "admin.listen")
            ports = {place: free_port() for place in places}
            keep(directory, Wanted(upstream=f"http://127.0.0.1:{free_port()}"), ports)
        self._errors = (directory / "stderr").open("w+")
        command = [AUTHZ, "up", "--dir", str(directory), "--port", str(self.port), *arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=self._errors, text=True)
        self.lines: list[str] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    @property
    def errors(self) -> str:
        return (self.directory / "stderr").read_text()

    @property
    def told(self) -> dict[str, str]:
        return dict(line.split(": ", 1) for line in self.lines)

    def ready(self, seconds: float = 60) -> "RunningUp":
        """Wait for its four lines."""
        took = eventually(lambda: len(self.lines) >= 4 or self.process.poll() is not None, seconds)
        self.slowness = max(1.0, took / USUAL_START)
        assert self.process.poll() is None, self.errors
        assert len(self.lines) == 4, (self.lines, self.errors)
        return self

    def get(self, path: str, *, key: str | None = None, body: Any = None) -> Answer:
        headers = {"content-type": "application/json"} if body is not None else {}
        if key is not None:
            headers["authorization"] = f"Bearer {key}"
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.told["gateway"] + path, data=data, headers=headers)
        try:
            with _DIRECT.open(request, timeout=10) as answer:
                return Answer(answer.status, dict(answer.headers), answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, dict(error.headers), error.read().decode())

    def children(self) -> dict[str, int]:
        """Process ids by what they are: model, serve, envoy."""
        found = {}
        for process in Path("/proc").iterdir():
            if process.name.isdigit() and alive(int(process.name)) and _parent(process) == self.process.pid:
                arguments = (process / "cmdline").read_text().split("\0")
                name = (
                    "envoy"
                    if arguments[0].endswith("envoy")
                    else "serve"
                    if "serve" in arguments
                    else "model"
                )
                found[name] = int(process.name)
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._errors.close()


def _parent(process: Path) -> int | None:
    try:
        return int((process / "stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def listening(pid: int) -> set[int]:
    """The TCP ports that a process listens on."""
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(line[1].rpartition(":")[2], 16) for line in lines if line[3] == "0A"}
    return {port for port in ports if listens(pid, port)}


def alive(pid: int) -> bool:
    """Whether a process runs; one that has ended and only waits to be reaped does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def eventually(holds: Callable[[], bool], seconds: float) -> float:
    """Wait until it holds; returns how long that took."""
    begun = time.monotonic()
    while not holds():
        assert time.monotonic() - begun < seconds, f"still not so after {seconds} s"
        time.sleep(0.02)
    return time.monotonic() - begun


def kill(pid: int, number: int = signal.SIGKILL) -> None:
    os.kill(pid, number)
