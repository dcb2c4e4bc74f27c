"""Takes Caddy's access log over TCP and settles by it what Caddy let through.

Whoever may connect may write lines, so each proves itself by its seal. Lines without reservation are
refusals, which Caddy logs as well. Everything is bounded: a line, the connections, what waits.
"""

import asyncio
import heapq
import time
from asyncio import IncompleteReadError, LimitOverrunError, StreamReader, StreamWriter
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial

import structlog
from msgspec import Struct

from authz.report import Report
from authz.request import Gateway
from authz.store.protocols import StoreUnavailable
from authz.transport.caddy_line import read_line, read_report
from authz.transport.listen import bind, parse_listen
from authz.transport.seal import is_seal
from authz.transport.service import Service

LONGEST_LINE = 16 << 10  # bytes
MOST_CONNECTIONS = 32
MOST_WAITING = 100_000
PATIENCE = 5.0
"""Seconds that the report of a model server may come later than the line (config `usage: backend`)."""

_BAD_LINES = 100  # of one connection, then it is closed
_AT_A_TIME = 50  # lines, then decisions get their turn
_RETRY = 0.5  # seconds

log = structlog.get_logger("authz.transport")

Reject = Callable[[str, str], None]
"""Told of what was not believed: gateway, reason."""


class LoggingGateway(Struct, frozen=True):
    """A gateway whose log is listened to."""

    gateway: Gateway
    key: bytes  # of its seals
    listen: str  # the address at which its log is expected
    waits: float = 0.0  # seconds that a line waits for a better report

    def __repr__(self) -> str:
        return f"<LoggingGateway {self.gateway.name}>"


class CaddyLog:
    """Listens at every address that a gateway names."""

    def __init__(
        self,
        service: Service,
        gateways: Iterable[LoggingGateway],
        reject: Reject,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`gateways` may be replaced when the configuration changes; addresses are fixed at the start."""
        self.gateways = tuple(gateways)
        self._service = service
        self._reject = reject
        self._clock = clock
        self._servers: list[asyncio.Server] = []
        self._connections: dict[StreamWriter, float] = {}  # when each last proved a line
        self._waiting: list[tuple[float, int, Report, Gateway]] = []  # a heap by the moment it is due
        self._count = 0
        self._woken = asyncio.Event()
        self._settling: asyncio.Task[None] | None = None

    async def start(self, *, shared: bool = False) -> None:
        """Accept lines, alone or with others. Raises CannotListen or ValueError (not an address)."""
        for address in dict.fromkeys(each.listen for each in self.gateways):
            bound = bind(parse_listen(address), shared=shared)
            take = partial(self._connection, address)
            self._servers.append(await asyncio.start_server(take, sock=bound, limit=LONGEST_LINE))
        if self._servers:
            self._settling = asyncio.get_running_loop().create_task(self._settle_all(), name="caddy log")

    async def stop(self) -> None:
        """Accept nothing more, and settle what waits, due or not."""
        for server in self._servers:
            server.close()
        for writer in list(self._connections):
            writer.close()
        if self._settling is not None:
            self._settling.cancel()
            with suppress(asyncio.CancelledError):
                await self._settling
        while self._waiting:
            _, _, report, gateway = heapq.heappop(self._waiting)
            if not await self._settle(report, gateway):
                break

    async def _connection(self, address: str, reader: StreamReader, writer: StreamWriter) -> None:
        if (
            len(self._connections) >= MOST_CONNECTIONS
        ):  # whoever proved nothing for the longest time gives way
            oldest = min(self._connections, key=self._connections.__getitem__)
            del self._connections[oldest]
            oldest.close()
        self._connections[writer] = 0.0
        try:
            await self._lines(address, reader, writer)
        except (OSError, IncompleteReadError):
            pass  # the gateway went away
        finally:
            self._connections.pop(writer, None)
            writer.close()

    async def _lines(self, address: str, reader: StreamReader, writer: StreamWriter) -> None:
        bad = taken = 0
        while bad < _BAD_LINES:
            fault = None
            try:
                text = await reader.readuntil(b"\n")
            except LimitOverrunError as error:
                await _skip_line(reader, error)
                fault = "too_long"
            else:
                fault = self._take(address, text, writer)
            if fault is not None:
                bad += 1
                self._reject(self._name(address), fault)
            taken += 1
            if taken % _AT_A_TIME == 0:
                await asyncio.sleep(0)

    def _name(self, address: str) -> str:
        return next((each.gateway.name for each in self.gateways if each.listen == address), "unidentified")

    def _take(self, address: str, text: bytes, writer: StreamWriter) -> str | None:
        """Put what a line tells in the queue; what is wrong with it."""
        line = read_line(text)
        if line is None:
            return "malformed"
        if not line.reservation:
            return None
        for each in self.gateways:
            if each.listen == address and is_seal(line.seal or "", each.key, line.reservation):
                break
        else:
            return "gateway_unproven"
        if writer in self._connections:
            self._connections[writer] = self._clock()
        if len(self._waiting) >= MOST_WAITING:
            return "too_many"
        self._count += 1
        due = self._clock() + each.waits
        heapq.heappush(self._waiting, (due, self._count, read_report(line), each.gateway))
        self._woken.set()
        return None

    async def _settle_all(self) -> None:
        while True:
            if not self._waiting:
                self._woken.clear()
                await self._woken.wait()
            rest = self._waiting[0][0] - self._clock()
            if rest > 0:
                self._woken.clear()
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._woken.wait(), rest)
                continue
            item, settled = heapq.heappop(self._waiting), False
            try:
                settled = await self._settle(*item[2:])
            finally:
                if not settled:
                    heapq.heappush(self._waiting, item)
            await asyncio.sleep(0 if settled else _RETRY)

    async def _settle(self, report: Report, gateway: Gateway) -> bool:
        """False where the store did not answer: to be tried again."""
        try:
            await self._service.settle(report, gateway)
        except StoreUnavailable:
            return False
        except Exception as error:
            log.error(
                "settling by a log line failed",
                gateway=gateway.name,
                reservation=report.reservation,
                exc_info=error,
            )
        return True


async def _skip_line(reader: StreamReader, error: LimitOverrunError) -> None:
    """Read to the end of a line that is too long, and forget it."""
    while True:
        await reader.readexactly(error.consumed)
        try:
            await reader.readuntil(b"\n")
            return
        except LimitOverrunError as further:
            error = further
