"""The server: makes a protocol for each connection, keeps time for them, and ends them."""

import asyncio
from collections.abc import Callable

from authz.transport.lane.connection import Connection
from authz.transport.lane.limits import Limits
from authz.transport.lane.routes import Routes

_TICK = 0.5  # seconds


class Lane:
    """gRPC on connections that somebody else accepts: `loop.create_server(lane.connection, ..., ssl=...)`.

    A TLS context has to offer the ALPN protocol `h2`.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        limits: Limits | None = None,
        report: Callable[[BaseException], None] | None = None,
    ) -> None:
        """`report` is told what handlers raise; else the event loop's exception handler is."""
        self._routes = routes
        self._limits = limits or Limits()
        self._report = report or _to_loop
        self._connections: set[Connection] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._leaving = False
        self._empty: asyncio.Event = asyncio.Event()

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    def connection(self) -> Connection:
        """A protocol for one connection, as `create_server` asks for it."""
        loop = asyncio.get_running_loop()
        return Connection(self._routes, self._limits, loop, self._report, self._made, self._lost)

    def drain(self) -> None:
        """Have every peer go elsewhere, those that come from now on too. Their calls are answered."""
        self._leaving = True
        for connection in list(self._connections):
            connection.leave()

    async def stop(self, within: float) -> None:
        """Drain, wait until every connection is closed, and close what is left after so many seconds.

        The listening socket has to be closed before.
        """
        self.drain()
        if self._connections:
            self._empty.clear()
            try:
                await asyncio.wait_for(self._empty.wait(), within)
            except TimeoutError:
                for connection in list(self._connections):
                    connection.close()

    def _made(self, connection: Connection) -> None:
        self._connections.add(connection)
        if self._leaving:
            connection.leave()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_TICK, self._tick)

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(_TICK, self._tick)
        now = loop.time()
        for connection in list(self._connections):
            connection.tick(now)


def _to_loop(error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "a handler of the gRPC lane failed", "exception": error}
    )
