"""A lean HTTP/1.1 client over TLS for many streams at once: keeps its connection, reads chunk by chunk, may leave."""

import asyncio
import json
import ssl
from dataclasses import dataclass, field
from typing import Any, Self

PATIENCE = 60.0  # seconds for one answer


@dataclass
class Reply:
    """An answer as far as it was read."""

    status: int
    headers: dict[str, str]
    chunks: list[bytes] = field(default_factory=list)
    whole: bool = False  # read to its end

    @property
    def body(self) -> bytes:
        return b"".join(self.chunks)

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def undecided(self) -> bool:
        """The gateway got no answer from authz in time: what authz made of the request nobody was told.

        The machine was busy with other things. The request never reached the model server; what authz may have
        held for it stays charged until it expires, unless the gateway tells.
        """
        return self.status == 503 and b'"authz_unavailable"' in self.body


class StreamClient:
    """One client with one connection at a time. An async context manager."""

    def __init__(self, port: int, tls: ssl.SSLContext | None, key: str) -> None:
        self._port = port
        self._tls = tls
        self._key = key
        self._open: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.hang_up()

    def hang_up(self) -> None:
        """Leave at once, whatever is under way."""
        if self._open is not None:
            self._open[1].transport.abort()
            self._open = None

    async def post(self, path: str, asked: dict[str, Any], *, leave_after: int | None = None) -> Reply:
        """Ask and read the answer; with `leave_after`, hang up after so many chunks of a 200's body.

        A connection that the gateway closed between two requests is opened anew. Raises OSError or
        EOFError where it breaks in the middle.
        """
        async with asyncio.timeout(PATIENCE):
            body = json.dumps(asked).encode()
            head = (
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self._key}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            fresh = self._open is None
            try:
                reader = await self._send(head.encode() + body)
                status, headers = await _head(reader)
            except (OSError, EOFError):
                if fresh:
                    raise
                self.hang_up()
                reader = await self._send(head.encode() + body)
                status, headers = await _head(reader)
            reply = Reply(status, headers)
            await self._body(reader, reply, leave_after if status == 200 else None)
            if headers.get("connection", "").lower() == "close" or not reply.whole:
                self.hang_up()
            return reply

    async def _send(self, data: bytes) -> asyncio.StreamReader:
        if self._open is None:
            name = "localhost" if self._tls is not None else None
            self._open = await asyncio.open_connection(
                "127.0.0.1", self._port, ssl=self._tls, server_hostname=name
            )
        reader, writer = self._open
        writer.write(data)
        await writer.drain()
        return reader

    async def _body(self, reader: asyncio.StreamReader, reply: Reply, leave_after: int | None) -> None:
        if reply.headers.get("transfer-encoding") == "chunked":
            while leave_after is None or len(reply.chunks) < leave_after:
                size = int((await reader.readuntil(b"\r\n")).split(b";")[0], 16)
                chunk = (await reader.readexactly(size + 2))[:-2]
                if not size:
                    reply.whole = True
                    return
                reply.chunks.append(chunk)
            return
        length = int(reply.headers.get("content-length", "0"))
        if leave_after is None:
            reply.chunks.append(await reader.readexactly(length))
            reply.whole = True


async def _head(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    headers = {}
    for line in lines[1:-2]:
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    return int(lines[0].split(" ")[1]), headers
