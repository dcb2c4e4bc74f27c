"""A peer that speaks in single frames, straight into a connection: every byte of both sides is seen."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, NamedTuple, cast

from authz.transport.lane import Caller, ClientStream, Lane, Limits, Refused, Unary
from authz.transport.lane.connection import Connection
from authz.transport.lane.replies import field
from authz.transport.lane.wire import (
    ACK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    frame,
    number,
)

GREETING = PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0)


class Frame(NamedTuple):
    kind: int
    flags: int
    stream: int
    payload: bytes


class Wire(asyncio.Transport):
    """Keeps what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.closed = False
        self.aborted = False
        self.reading = True

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.closed = self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Peer:
    """One connection, greeted unless asked otherwise."""

    def __init__(self, lane: Lane, *, greet: bool = True) -> None:
        self.connection: Connection = lane.connection()
        self.wire = Wire()
        self.connection.connection_made(self.wire)
        if greet:
            self.send(GREETING)
            self.wire.written = b""

    def send(self, *frames: bytes) -> None:
        """All in one piece, as a network may bring it."""
        self.connection.data_received(b"".join(frames))

    def take(self) -> list[Frame]:
        """What was written since the last time."""
        data, found = self.wire.written, []
        while data:
            length = int.from_bytes(data[:3], "big")
            found.append(Frame(data[3], data[4], int.from_bytes(data[5:9], "big"), data[9 : 9 + length]))
            data = data[9 + length :]
        self.wire.written = b""
        return found

    async def until(self, kind: int) -> list[Frame]:
        """What was written until a frame of that kind came."""
        found: list[Frame] = []
        async with asyncio.timeout(20):
            while not any(each.kind == kind for each in found):
                await asyncio.sleep(0)
                found += self.take()
        return found

    def lose(self) -> None:
        self.wire.closed = True
        self.connection.connection_lost(None)


def errors(frames: list[Frame]) -> list[tuple[str, int, int]]:
    """("connection", 0, code) for each GOAWAY, ("stream", its number, code) for each RST_STREAM."""
    found = []
    for each in frames:
        if each.kind == GOAWAY:
            found.append(("connection", 0, int.from_bytes(each.payload[4:8], "big")))
        elif each.kind == RST_STREAM:
            found.append(("stream", each.stream, int.from_bytes(each.payload, "big")))
    return found


def statuses(frames: list[Frame]) -> dict[int, int]:
    """The grpc-status of each stream that was answered."""
    found = {}
    for each in frames:
        if each.kind == HEADERS and b"grpc-status" in each.payload:
            rest = each.payload.split(b"grpc-status", 1)[1]
            found[each.stream] = int(rest[1 : 1 + rest[0]])
    return found


def block(path: str = "/t/Echo", *more: tuple[str, str], **changed: str | None) -> bytes:
    """A header block of literals. `changed` replaces pseudo-header fields, or leaves them out."""
    fields: list[tuple[str, str]] = []
    for name, value in (("method", "POST"), ("scheme", "http"), ("path", path), ("authority", "h")):
        used = changed.get(name, value)
        if used is not None:
            fields.append((":" + name, used))
    kind = changed.get("content_type", "application/grpc")
    if kind is not None:
        fields.append(("content-type", kind))
    fields += [("te", "trailers"), *more]
    return b"".join(field(name.encode(), value.encode("latin-1")) for name, value in fields)


def headers(stream: int, data: bytes | None = None, *, ended: bool = False, whole: bool = True) -> bytes:
    flags = (END_STREAM if ended else 0) | (END_HEADERS if whole else 0)
    return frame(HEADERS, flags, stream, block() if data is None else data)


def continuation(stream: int, data: bytes, *, whole: bool = True) -> bytes:
    return frame(CONTINUATION, END_HEADERS if whole else 0, stream, data)


def data(stream: int, payload: bytes, *, ended: bool = True) -> bytes:
    return frame(DATA, END_STREAM if ended else 0, stream, payload)


def message(payload: bytes = b"hello", *, compressed: int = 0) -> bytes:
    return bytes([compressed]) + len(payload).to_bytes(4, "big") + payload


def call(stream: int, path: str = "/t/Echo", payload: bytes = b"hello") -> bytes:
    return headers(stream, block(path)) + data(stream, message(payload))


def reset(stream: int, code: int = 8) -> bytes:
    return frame(RST_STREAM, 0, stream, number(code))


class Scripted:
    """Handlers of every kind, and what became of them."""

    def __init__(self) -> None:
        self.callers: list[Caller] = []
        self.cancelled = 0
        self.waiting: list[asyncio.Future[bytes]] = []
        self.reported: list[BaseException] = []

    def lane(self, limits: Limits | None = None, **options: Any) -> Lane:
        routes = {
            "/t/Echo": Unary(self.echo),
            "/t/Ready": Unary(self.ready),
            "/t/Wait": Unary(self.wait),
            "/t/Future": Unary(lambda message, caller: self.future()),
            "/t/Break": Unary(self.fail),
            "/t/Refuse": Unary(self.refuse),
            "/t/Wrong": Unary(self.wrong),
            "/t/Collect": ClientStream(self.collect),
            "/t/Early": ClientStream(self.early),
        }
        return Lane(routes, limits=limits, report=self.reported.append, **options)

    def future(self) -> "asyncio.Future[bytes]":
        future = asyncio.get_running_loop().create_future()
        self.waiting.append(future)
        return future

    def echo(self, message: bytes, caller: Caller) -> bytes:
        self.callers.append(caller)
        return message

    async def ready(self, message: bytes, caller: Caller) -> bytes:
        """Never suspends."""
        return message

    async def wait(self, message: bytes, caller: Caller) -> bytes:
        try:
            return message + await self.future()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def fail(self, message: bytes, caller: Caller) -> bytes:
        raise ValueError("a secret")

    async def refuse(self, message: bytes, caller: Caller) -> bytes:
        raise Refused(7, "nö 100%")

    def wrong(self, message: bytes, caller: Caller) -> bytes:
        return cast(bytes, "text")

    async def collect(self, messages: AsyncIterator[bytes], caller: Caller) -> bytes:
        try:
            return b"|".join([each async for each in messages])
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def early(self, messages: AsyncIterator[bytes], caller: Caller) -> bytes:
        return b"early " + await anext(aiter(messages), b"nothing")
