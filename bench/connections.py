"""One connection of the bench's own client: HTTP/2 with many calls at once, or HTTP/1.1 with one."""

import socket
import struct
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Protocol

from bench.h2_frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    PING,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    frame,
    frames,
    header_block,
    opening,
)

Answered = Callable[[int, bytes], None]
"""Told the number of a request and what came back: the message of a gRPC call, the status line of HTTP/1.1.

Nothing came back, `b""`, where a call failed.
"""


class Connection(Protocol):
    """What the client needs of one."""

    plain: socket.socket

    @property
    def free(self) -> bool:
        """Whether it takes another request now."""

    def send(self, number: int, request: bytes) -> None: ...

    def receive(self) -> None:
        """Read what there is, and tell of what was answered."""


def _connect(port: int) -> socket.socket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=10)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return plain


class Http2:
    """Unary gRPC. A request is its message, framed."""

    def __init__(
        self, port: int, path: str, headers: Mapping[str, str], streams: int, answered: Answered
    ) -> None:
        fields = {":method": "POST", ":scheme": "http", ":path": path, ":authority": "127.0.0.1", **headers}
        self._block = header_block(fields)
        self._streams = streams
        self._answered = answered
        self._next = 1
        self._open: dict[int, tuple[int, list[bytes]]] = {}
        self._buffer = bytearray()
        self._window = 65535  # what the server takes on this connection
        self._waiting: deque[tuple[int, bytes]] = deque()  # until it takes more
        self.plain = _connect(port)
        self.plain.sendall(opening())

    @property
    def free(self) -> bool:
        return len(self._open) + len(self._waiting) < self._streams

    def send(self, number: int, request: bytes) -> None:
        if self._waiting or len(request) > self._window:
            self._waiting.append((number, request))
            return
        self._window -= len(request)
        stream, self._next = self._next, self._next + 2
        self._open[stream] = (number, [])
        head = frame(HEADERS, END_HEADERS, stream, self._block)
        self.plain.sendall(head + frame(DATA, END_STREAM, stream, request))

    def receive(self) -> None:
        got = self.plain.recv(1 << 18)
        if not got:
            raise ConnectionError("the server closed the connection")
        self._buffer += got
        reply = b""
        for kind, flags, stream, payload in frames(self._buffer):
            if kind == DATA:
                self._open[stream][1].append(payload)
                if flags & END_STREAM:
                    self._done(stream)
            elif kind == HEADERS:
                if flags & END_STREAM:
                    self._done(stream)
            elif kind == WINDOW_UPDATE:
                if not stream:
                    self._window += struct.unpack(">I", payload)[0]
            elif kind == SETTINGS:
                reply += b"" if flags & ACK else frame(SETTINGS, ACK, 0, b"")
            elif kind == PING:
                reply += b"" if flags & ACK else frame(PING, ACK, 0, payload)
            elif kind == RST_STREAM:
                self._open[stream][1].clear()
                self._done(stream)
            elif kind == GOAWAY:
                raise ConnectionError(f"the server sent GOAWAY: {payload[8:]!r}")
        if reply:
            self.plain.sendall(reply)
        while self._waiting and len(self._waiting[0][1]) <= self._window:
            number, request = self._waiting.popleft()
            waiting, self._waiting = self._waiting, deque()
            self.send(number, request)
            self._waiting = waiting

    def _done(self, stream: int) -> None:
        number, parts = self._open.pop(stream)
        self._answered(number, b"".join(parts)[5:] or (b"\0" if parts else b""))


class Http1:
    """A request is all of its bytes; one after the other."""

    def __init__(self, port: int, answered: Answered) -> None:
        self.plain = _connect(port)
        self._answered = answered
        self._asked: int | None = None
        self._buffer = bytearray()

    @property
    def free(self) -> bool:
        return self._asked is None

    def send(self, number: int, request: bytes) -> None:
        self._asked = number
        self.plain.sendall(request)

    def receive(self) -> None:
        got = self.plain.recv(1 << 18)
        if not got:
            raise ConnectionError("the server closed the connection")
        self._buffer += got
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = bytes(self._buffer[:end]).lower()
        length = 0
        with suppress(IndexError):
            length = int(head.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer.clear()
        number, self._asked = self._asked, None
        assert number is not None
        self._answered(number, head.split(b"\r\n")[0])
