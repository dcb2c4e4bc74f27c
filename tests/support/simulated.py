"""The simulator as a process of its own, and its books."""

import json
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support import corpus
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers


@dataclass(frozen=True)
class Page:
    """What the model server knows of one request."""

    reservation: str
    path: str
    stream: bool
    asked: str  # the body that reached it
    usage: tuple[int, int, int, int] | None  # input, output, cached, reasoning: what it truly used
    told: tuple[int, int, int, int] | None  # the last of it that was said whole
    status: int
    finished: bool
    limit: int | None  # output tokens that it was allowed
    was_cut: bool  # by that limit


class SimulatedModel:
    """A context manager: the process runs inside. Has `port`, as `DemoModel` does."""

    def __init__(self, directory: Path) -> None:
        self.port = free_port()
        self.tokenizer = directory / "tokenizer.json"
        self._directory = directory
        self._process: Process | None = None

    def __enter__(self) -> "SimulatedModel":
        self._directory.mkdir(parents=True, exist_ok=True)
        corpus.train(self.tokenizer)
        argv = [sys.executable, "-m", "tests.support.simulator", "--port", str(self.port)]
        argv += ["--tokenizer", str(self.tokenizer)]
        self._process = Process(argv, log=self._directory / "simulator.log")
        self._process.wait_until(lambda: port_answers(self.port))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.stop()

    def books(self) -> list[Page]:
        """In order, since the last `reset`."""
        return [_page(page) for page in self._call("GET")["books"]]

    def reset(self) -> None:
        self._call("DELETE")

    def _call(self, method: str) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}/__books", method=method)
        with urllib.request.urlopen(request, timeout=30) as response:
            return json.load(response)


def _page(told: dict[str, Any]) -> Page:
    for name in ("usage", "told"):
        told[name] = None if told[name] is None else tuple(told[name])
    return Page(**told)
