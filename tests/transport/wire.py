"""An HTTP connection of ours without a socket: bytes in, bytes out."""

import asyncio
import re
import socket
from typing import Any, cast

from uvicorn.server import ServerState

from authz.transport.address import UNIX
from authz.transport.connection import HttpConnection
from authz.transport.exchange import Answering
from authz.transport.protocol import ServerConfig


class _Socket:
    """Of whatever family is to be seen."""

    def __init__(self, family: socket.AddressFamily) -> None:
        self.family = family

    def getsockname(self) -> tuple[str, int]:
        return "127.0.0.1", 9000

    def getpeername(self) -> tuple[str, int]:
        return "127.0.0.1", 4711


class _Transport:
    """Keeps what is written, and whether anybody reads."""

    def __init__(self, wire: "Wire", peer: str) -> None:
        self._wire = wire
        unix = peer == UNIX
        self._told = {
            "peername": (peer, 4711) if peer and not unix else None,
            "socket": _Socket(socket.AF_UNIX if unix else socket.AF_INET),
        }
        self.closed = False
        self.reading = True

    def get_extra_info(self, name: str) -> Any:
        return self._told.get(name)

    def write(self, data: bytes) -> None:
        assert not self.closed, "nothing is written to a closed connection"
        self._wire.written += data
        self._wire.changed.set()

    def is_closing(self) -> bool:
        return self.closed

    def close(self) -> None:
        if not self.closed:
            self.closed = True
            self._wire.changed.set()
            asyncio.get_running_loop().call_soon(self._wire.protocol.connection_lost, None)

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Wire:
    """One connection. Needs a running loop."""

    def __init__(
        self, app: Answering, *, peer: str = "127.0.0.1", keep_alive: float = 60, draining: bool = False
    ) -> None:
        """`keep_alive`: seconds that an idle connection stays."""
        self.config = ServerConfig(
            cast(Any, app),
            interface="asgi3",
            lifespan="off",
            log_config=None,
            ws="none",
            proxy_headers=False,
            timeout_keep_alive=cast(int, keep_alive),
        )
        self.config.draining = draining
        self.config.load()
        self.state = ServerState()
        self.written = b""
        self.changed = asyncio.Event()
        self.protocol = HttpConnection(self.config, self.state, {})
        self.transport = _Transport(self, peer)
        self.protocol.connection_made(cast(Any, self.transport))

    def send(self, data: bytes) -> None:
        """What the peer sends; nobody hears it once the connection is closed."""
        if data and not self.transport.closed:
            self.protocol.data_received(data)

    async def answer(self, *, bare: bool = False) -> bytes:
        """The next answer, with its body; `bare`: to HEAD, without one."""
        while (end := self._end(bare)) < 0:
            self.changed.clear()
            await asyncio.wait_for(self.changed.wait(), 30)
        taken, self.written = self.written[:end], self.written[end:]
        return taken

    def _end(self, bare: bool) -> int:
        """How long the first answer of those written is; negative: it is not there yet."""
        head, found, _ = self.written.partition(b"\r\n\r\n")
        length = re.search(rb"(?im)^content-length: (\d+)", head)
        end = len(head) + len(found) + (int(length[1]) if length and not bare else 0)
        return end if found and end <= len(self.written) else -1
