"""`authz up` as a process of its own, before a model server that tells what reached it."""

import os
import random
import signal
import time
import uuid
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from authz.gateway.first_config import Wanted, keep
from authz.store.levels import Standing
from authz.store.open import open_view
from authz.store.protocols import Registry
from tests.reliability.processes import Seen, children, marked, wait_for
from tests.support.noon import NOON
from tests.support.ports import free_port
from tests.support.processes import Process, executable
from tests.up.running import USUAL_START

MARK = "AUTHZ_TEST_MARK"
_PROGRAMS = {"serve": "authz.cli serve", "envoy": "--config-path", "model": "authz.demo.model_server"}

# Besides what `authz up` writes: a zone in which it is around noon, so that no day ends while keys count by the
# day, and a route without concurrency for those who ask authz directly and never tell that a request ended.
_ALSO = """\
timezone: {zone}

routes:
  - name: direct
    match: {{methods: [GET], paths: [/echo/direct]}}
    authenticate: {{any_of: [keys]}}
    authorize:
      - models: any
    limits: []

"""


class Stack:
    """Directory, ports and processes of one `authz up`. A context manager: it runs inside."""

    def __init__(self, directory: Path, *options: str) -> None:
        """`options` are those of `authz up` that choose the model server."""
        self.directory = directory
        self.gateway, self.http, self.grpc, self.admin = free_port(), free_port(), free_port(), free_port()
        self.mark = uuid.uuid4().hex
        self.key = ""  # that `up` printed last
        self.deaths = 0  # so far, each in the middle of requests
        self.slowness = 1.0  # how many times the usual its last start took, at least 1
        self.process: Process | None = None
        self._options = options
        ports = {
            "decisions.http": self.http,
            "decisions.grpc": self.grpc,
            "decisions.grpc_other": free_port(),
            "admin.listen": self.admin,
        }
        directory.mkdir(parents=True)
        # Else the demo model would begin on port 8000, and so would that of another stack at the same moment.
        wanted = Wanted(listen=f"127.0.0.1:{self.gateway}", upstream=f"http://127.0.0.1:{free_port()}")
        self.config = keep(directory, wanted, ports)
        also = _ALSO.format(zone=NOON)
        self.config.write_text(self.config.read_text().replace("routes:\n", also))

    def launch(self) -> Process:
        """Start it without waiting."""
        argv = [executable("authz"), "up", *self._options, "--dir", str(self.directory)]
        self.process = Process(
            argv, log=self.directory / "up.log", cwd=self.directory, env={MARK: self.mark, "NO_COLOR": "1"}
        )
        return self.process

    def start(self) -> None:
        """Start it and wait for its four lines."""
        said, begun = len(self.log), time.monotonic()
        process = self.launch()
        process.wait_until(lambda: "\nconfig: " in f"\n{self.log[said:]}")
        self.slowness = max(1.0, (time.monotonic() - begun) / USUAL_START)
        lines = dict(line.partition(": ")[::2] for line in self.log[said:].splitlines())
        assert lines["gateway"] == f"http://127.0.0.1:{self.gateway}"
        assert lines["admin"] == f"http://127.0.0.1:{self.admin}"
        assert Path(lines["config"]) == self.config
        self.key = lines["key"]

    @property
    def ports(self) -> tuple[int, ...]:
        """All that it listens on."""
        return self.gateway, self.http, self.grpc, self.admin

    @property
    def up(self) -> Process:
        assert self.process is not None, "not started"
        return self.process

    @property
    def log(self) -> str:
        """What `up` said, over all of its lives."""
        path = self.directory / "up.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def registry(self) -> Registry:
        """The records, as a command beside the service has them."""
        return open_view(f"sqlite://{self.directory / 'authz.db'}").registry

    def running(self) -> dict[str, int]:
        """By counter of concurrency: how many requests hold a slot, as the service committed it last."""
        levels = self.registry.counter_levels("key-concurrency|")
        return {
            key: len(msgspec.msgpack.decode(level, type=Standing).running) for key, level in levels.items()
        }

    @property
    def token(self) -> str:
        """With which its Envoy proves itself."""
        return (self.directory / "gateway.token").read_text().strip()

    def child(self, name: str) -> Seen:
        """The `serve`, `envoy` or `model` that runs, or runs soon. Not the small program that becomes it."""
        found: list[Seen] = []

        def look() -> bool:
            found[:] = [
                seen
                for seen in children(self.up.pid)
                if _PROGRAMS[name] in seen.command and "PDEATHSIG" not in seen.command
            ]
            return bool(found)

        wait_for(f"a running {name}", look, seconds=30)
        return found[0]

    def kill(self, name: str) -> float:
        """SIGKILL to a child. The moment at which it was gone."""
        seen = self.child(name)
        os.kill(seen.pid, signal.SIGKILL)
        self.deaths += 1
        wait_for(f"the end of {name}", lambda: not seen.lives, seconds=30, every=0.001)
        return time.monotonic()

    def kill_twice(self, name: str) -> float:
        """The second time while the next one comes into being: it imports, opens the store, or serves already."""
        self.kill(name)
        self.child(name)
        time.sleep(random.uniform(0, 0.7))
        return self.kill(name)

    def left(self) -> list[Seen]:
        """Processes of this stack that live."""
        return marked(f"{MARK}={self.mark}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process is not None:
            self.process.stop()
        for seen in self.left():  # only where the test failed: it looks for orphans itself
            os.kill(seen.pid, signal.SIGKILL)
