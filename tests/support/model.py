"""The demo model as a process of its own, which tells what reached it."""

import json
import sys
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.ports import free_port
from tests.support.processes import Process, port_answers


@dataclass(frozen=True)
class Received:
    """One request as the model server got it."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body_length: int
    body_sha256: str
    body: str  # the first 64 KiB, latin-1
    finished: bool | None = None  # of a stream: whether the client stayed to its end; None while it runs

    def values(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key == name]

    def header(self, name: str) -> str | None:
        """The only value of that name; None if there is none."""
        values = self.values(name)
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None

    @property
    def names(self) -> set[str]:
        return {name for name, _ in self.headers}


class DemoModel:
    """A context manager: the process runs inside."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self._directory = directory
        self._process: Process | None = None

    def __enter__(self) -> "DemoModel":
        self._directory.mkdir(parents=True, exist_ok=True)
        argv = [sys.executable, "-m", "authz.demo.model_server", "--port", str(self.port), "--record"]
        self._process = Process(argv, log=self._directory / "model.log")
        self._process.wait_until(lambda: port_answers(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    def reset(self) -> None:
        """Forget what was received."""
        self._call("DELETE")

    def received(self) -> list[Received]:
        """In order, since the last reset."""
        return [
            Received(
                method=seen["method"],
                target=seen["target"],
                headers=tuple((name, value) for name, value in seen["headers"]),
                body_length=seen["body_length"],
                body_sha256=seen["body_sha256"],
                body=seen["body"],
                finished=seen.get("finished"),
            )
            for seen in self._call("GET")["received"]
        ]

    def last(self) -> Received:
        received = self.received()
        assert received, "nothing reached the model server"
        return received[-1]

    def _call(self, method: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/__received", method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


@dataclass(frozen=True)
class Arrival:
    """One streamed event: when it left the model and when it was here, by one clock."""

    sent_ns: int
    arrived_ns: int

    @property
    def lag_ms(self) -> float:
        return (self.arrived_ns - self.sent_ns) / 1e6


def arrival(line: str) -> Arrival | None:
    """Of a `data:` line that holds the moment at which it was sent; None for any other."""
    now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
    if not line.startswith("data: {"):
        return None
    demo = json.loads(line.removeprefix("data: ")).get("demo")
    return Arrival(demo["sent_ns"], now) if demo else None
