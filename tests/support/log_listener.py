"""authz's side of Caddy's log, in a thread of its own, with a service that keeps what it is told."""

import asyncio
import threading
from types import TracebackType
from typing import Any, Self

from authz.report import Report
from authz.request import Gateway, GatewayKind
from authz.store.protocols import Outcome
from authz.transport.caddy_log import CaddyLog, LoggingGateway
from authz.transport.seal import seal

KEY = b"key of the seals in the tests..."


class Recorder:
    """Settles everything. What else a service does nobody asks of it here."""

    def __init__(self) -> None:
        self.settled: list[Report] = []

    async def settle(self, report: Report, gateway: Gateway) -> Outcome:
        self.settled.append(report)
        return Outcome.SETTLED


class LogListener:
    """A context manager. Listens on a port of this machine."""

    def __init__(self, port: int) -> None:
        self.settled: list[Report] = []
        self.rejected: list[tuple[str, str]] = []
        self.port = port
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_until_complete, args=(self._run(),), daemon=True
        )

    async def _run(self) -> None:
        gateway = Gateway(name="edge", kind=GatewayKind.CADDY, proven=True)
        recorder: Any = Recorder()
        recorder.settled = self.settled
        log = CaddyLog(
            recorder,
            [LoggingGateway(gateway, KEY, f"127.0.0.1:{self.port}")],
            lambda *what: self.rejected.append(what),
        )
        self._stop = asyncio.Event()
        await log.start()
        self._ready.set()
        await self._stop.wait()
        await log.stop()

    def reset(self) -> None:
        """Forget what was told."""
        self.settled.clear()
        self.rejected.clear()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)
        self._loop.close()


def sealed(reservation: str) -> tuple[tuple[str, str], ...]:
    """The headers by which authz lets a request through and gives its reservation and seal."""
    return (("x-authz-reservation", reservation), ("x-authz-seal", seal(KEY, reservation)))
