"""The server: makes a protocol for each connection, keeps time for them, and ends them."""

import asyncio
from collections.abc import Callable
from typing import Any

from authz.transport.lane.connection import Connection, Owner
from authz.transport.lane.limits import Limits
from authz.transport.lane.room import Room
from authz.transport.lane.routes import Caller, Routes

_TICK = 0.5  # seconds
_TICK_LEAVING = 0.05


class Lane:
    """gRPC on connections that somebody else accepts: `loop.create_server(lane.connection, ..., ssl=...)`.

    A TLS context has to offer the ALPN protocol `h2`.
    """

    def __init__(
        self,
        routes: Routes,
        *,
        limits: Limits | None = None,
        most_connections: int = 4096,
        most_held: int = 1024 * 1024 * 1024,
        recognize: Callable[[Caller], Any] = lambda caller: caller,
        report: Callable[[BaseException], None] | None = None,
        ended: Callable[[Any, str, str], None] = lambda peer, error, why: None,
    ) -> None:
        """A connection beyond `most_connections` is closed at once. Of messages that are not whole or not
        taken yet at most `most_held` bytes are kept on all of them; then RESOURCE_EXHAUSTED.

        `recognize` makes of a caller what handlers are given in its place: once for many calls that begin
        with the same header fields, so what a handler would find out each time is best found out there. It
        must not raise. `report` is told what handlers raise; else the event loop's exception handler is.
        `ended` is told of connections that were cut off: the `peername`, an error of RFC 9113 section 7, why.
        """
        self._owner = Owner(
            routes=routes,
            limits=limits or Limits(),
            room=Room(most_held),
            recognize=recognize,
            report=report or _to_loop,
            made=self._made,
            lost=self._lost,
            ended=ended,
        )
        self._most = most_connections
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
        return Connection(self._owner, asyncio.get_running_loop())

    @property
    def _pause(self) -> float:
        return _TICK_LEAVING if self._leaving else _TICK

    def drain(self) -> None:
        """Have every peer go elsewhere, those that come from now on too. Their calls are answered."""
        self._leaving = True
        for connection in list(self._connections):
            connection.leave()
        if self._timer is not None:
            self._timer.cancel()
            self._tick()

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

    def _made(self, connection: Connection) -> bool:
        if len(self._connections) >= self._most:
            return False
        self._connections.add(connection)
        if self._leaving:
            connection.leave()
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(self._pause, self._tick)
        return True

    def _lost(self, connection: Connection) -> None:
        self._connections.discard(connection)
        if not self._connections:
            self._empty.set()
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._pause, self._tick)
        now = loop.time()
        for connection in list(self._connections):
            connection.tick(now)


def _to_loop(error: BaseException) -> None:
    asyncio.get_running_loop().call_exception_handler(
        {"message": "a handler of the gRPC lane failed", "exception": error}
    )
