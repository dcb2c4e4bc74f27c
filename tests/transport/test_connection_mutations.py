"""Requests that were damaged on their way, in pieces: answered, refused or waited for, and never worse.

uvicorn's protocol, which frames by the same parser, is asked the same: whatever it takes for a request is one.
"""

import asyncio
import random
from typing import Any, cast

import pytest
from uvicorn.server import ServerState

from authz.transport.connection import HttpConnection
from authz.transport.exchange import Head
from authz.transport.protocol import BoundedProtocol, ServerConfig
from authz.transport.reply import Reply
from tests.transport.wire import Wire

SEEDS = 12
MUTATIONS = 25
REQUESTS = [
    b"GET /a HTTP/1.1\r\nHost: a\r\n\r\n",
    b"POST /b HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    b"POST /c HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nTrailer: x\r\n\r\n",
    b"HEAD /d HTTP/1.1\r\nX-Long: %s\r\n\r\n" % (b"v" * 300),
    b"PUT /e HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    b"GET /f HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    b"POST /g HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx",
    b"GET /h HTTP/1.1\r\nConnection: close\r\n\r\n",
]
NASTY = [
    b"\r\n",
    b"\n",
    b"\0",
    b" ",
    b":",
    b"\xff",
    b"0",
    b"Content-Length: 3\r\n",
    b"Transfer-Encoding: chunked\r\n",
]


class Whole:
    """Says back what it was asked, and keeps it."""

    most = 1_000

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, bytes]] = []
        self._head: Head | None = None

    def open(self, head: Head) -> "Whole":
        self._head = head
        return self

    async def answer(self, body: bytes) -> Reply:
        assert self._head is not None
        self.asked.append((self._head.method, self._head.target, body))
        return Reply(200, ["x-one: line"], b"ok")

    def too_large(self) -> Reply:
        return Reply(413, [])

    def fault(self, error: Exception) -> Reply:
        raise error


def mutated(chance: random.Random) -> list[bytes]:
    sent = bytearray(b"".join(chance.choices(REQUESTS, k=chance.randint(1, 4))))
    for _ in range(chance.randint(0, 3)):
        at = chance.randrange(len(sent))
        match chance.randrange(4):
            case 0:
                sent[at] = chance.randrange(256)
            case 1:
                del sent[at : at + chance.randint(1, 8)]
            case 2:
                sent[at:at] = chance.choice(NASTY)
            case _:
                sent[at:at] = sent[at : at + chance.randint(1, 30)]
    cuts = sorted(chance.randrange(len(sent) + 1) for _ in range(chance.randint(0, 4)))
    return [bytes(sent[start:end]) for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True)]


async def by_uvicorn(pieces: list[bytes]) -> list[tuple[str, bytes]]:
    """What its protocol takes for whole requests."""
    asked: list[tuple[str, bytes]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message["body"], message["more_body"]
        asked.append((scope["method"], body))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = ServerConfig(app, lifespan="off", log_config=None, ws="none", proxy_headers=False)
    config.load()
    wire = Wire(Whole())
    wire.protocol = cast(HttpConnection, BoundedProtocol(config, ServerState(), {}))
    wire.protocol.connection_made(cast(Any, wire.transport))
    state = cast(BoundedProtocol, wire.protocol).server_state
    for piece in pieces:
        wire.send(piece)
        for _ in range(30):
            await asyncio.sleep(0)
    wire.transport.close()
    async with asyncio.timeout(30):
        while state.tasks:
            await asyncio.sleep(0)
    return asked


@pytest.mark.parametrize("seed", range(SEEDS))
async def test_a_damaged_request_is_answered_refused_or_waited_for(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(MUTATIONS):
        pieces = mutated(chance)
        app = Whole()
        wire = Wire(app)
        for piece in pieces:
            wire.send(piece)
        statuses = [part[:3] for part in wire.written.split(b"HTTP/1.1 ")[1:]]
        assert set(statuses) <= {b"100", b"200", b"400"}, pieces
        assert statuses.count(b"200") == len(app.asked), pieces
        assert b"400" not in statuses[:-1], "a refusal is the last word"
        assert wire.transport.closed or b"400" not in statuses
        ours = [(method, body) for method, _, body in app.asked]
        theirs = await by_uvicorn(pieces)
        both = min(len(ours), len(theirs))
        assert ours[:both] == theirs[:both], pieces
        # It answers nothing that came along with damage, and goes on after a line without a version.
        assert len(ours) == len(theirs) or wire.transport.closed, pieces
        wire.transport.close()
        await asyncio.sleep(0)
