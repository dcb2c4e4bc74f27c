"""A WebSocket client for tests that are no coroutines, on one thread.

The threaded client of `websockets` reads and writes one TLS connection at the same time, which OpenSSL forbids and
CPython before 3.13 does not prevent: now and then a handshake is lost, and waits for ever.
"""

import asyncio
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as dial


class WebSocket:
    """An open connection."""

    def __init__(self, runner: asyncio.Runner, connection: ClientConnection) -> None:
        self._runner = runner
        self._connection = connection

    def send(self, message: str | bytes) -> None:
        self._runner.run(self._connection.send(message))

    def recv(self, *, timeout: float = 5) -> str | bytes:
        """The next message. Raises TimeoutError after `timeout` seconds."""
        return self._runner.run(asyncio.wait_for(self._connection.recv(), timeout))


@contextmanager
def connect(
    address: str, *, ssl: ssl.SSLContext, headers: Mapping[str, str] | None = None
) -> Iterator[WebSocket]:
    """Open for as long as the context. Raises websockets.exceptions.InvalidStatus where it is refused."""

    async def opened() -> ClientConnection:
        return await dial(address, ssl=ssl, additional_headers=headers, proxy=None)

    with asyncio.Runner() as runner:
        connection = runner.run(opened())
        try:
            yield WebSocket(runner, connection)
        finally:
            runner.run(connection.close())
