"""One HTTP/2 connection of a gateway (RFC 9113): bytes into frames, and what concerns all streams."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, cast

from msgspec import Struct

from authz.transport.lane.blocks import Blocks
from authz.transport.lane.calls import Calls
from authz.transport.lane.control import Control, check_priority
from authz.transport.lane.head import Field, Head, read_head
from authz.transport.lane.leaving import Leaving
from authz.transport.lane.limits import Limits
from authz.transport.lane.open_streams import stream_window
from authz.transport.lane.peer_settings import (
    INITIAL_WINDOW_SIZE,
    MAX_CONCURRENT_STREAMS,
    MAX_HEADER_LIST_SIZE,
)
from authz.transport.lane.room import Room
from authz.transport.lane.routes import Caller, Routes
from authz.transport.lane.wire import (
    CONTINUATION,
    DATA,
    DEFAULT_WINDOW,
    END_HEADERS,
    END_STREAM,
    ENHANCE_YOUR_CALM,
    ERROR_NAMES,
    FLOW_CONTROL_ERROR,
    FRAME_SIZE_ERROR,
    HAS_PRIORITY,
    HEADER,
    HEADER_SIZE,
    HEADERS,
    INADEQUATE_SECURITY,
    LARGEST_FRAME,
    LARGEST_STREAM,
    PADDED,
    PREFACE,
    PROTOCOL_ERROR,
    SETTINGS_TIMEOUT,
    WINDOW_UPDATE,
    ConnectionFault,
    StreamFault,
    frame,
    goaway,
    number,
    settings,
    unpadded,
)

_TINY = 5  # bytes of DATA: less than a message's prefix
_unpack = HEADER.unpack_from


class Owner(Struct, frozen=True, kw_only=True):
    """What all connections of a lane have in common."""

    routes: Routes
    limits: Limits
    room: Room
    recognize: Callable[[Caller], Any]
    report: Callable[[BaseException], None]
    made: Callable[["Connection"], bool]  # False: one too many
    lost: Callable[["Connection"], None]
    ended: Callable[[Any, str, str], None]


class Connection(asyncio.Protocol):
    """Made by `Lane`, which calls `tick` now and then."""

    def __init__(self, owner: Owner, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        limits = owner.limits
        self._owner = owner
        self._limits = limits
        self._loop = loop
        self._transport: asyncio.Transport | None = None
        self._peer: object = None
        self._tls: object = None
        self._calls = Calls(limits, owner.room, loop, self.write, owner.report, now)
        self._leaving = Leaving(self._calls, self.write, limits.linger_seconds)
        self._blocks = Blocks(limits, self._read_head)
        self._control = Control(limits, self._calls, self._leaving, self.write, now)
        self._rest = b""  # of a frame that has begun
        self._block: list[bytes] | None = None  # of a header block that has begun
        self._block_of = (0, False)  # its stream, and whether it ends it
        self._block_bytes = 0
        self._window = self._full = max(limits.window_bytes, DEFAULT_WINDOW)
        self._out: list[bytes] = []
        self._reading = False
        self._flushing = False
        self._over = False
        self._preface = False
        self._born = self._heard = now
        self._partial_since: float | None = None
        self._stalled_since: float | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._peer = transport.get_extra_info("peername")
        self._tls = transport.get_extra_info("ssl_object")
        if not self._owner.made(self):
            self._fail(ConnectionFault(ENHANCE_YOUR_CALM, "too many connections"))
            return
        if self._tls is not None and self._tls.selected_alpn_protocol() != "h2":  # type: ignore[attr-defined]
            self._fail(ConnectionFault(INADEQUATE_SECURITY, "h2 was not negotiated"))
            return
        self.write(
            settings(
                {
                    MAX_CONCURRENT_STREAMS: self._limits.streams,
                    INITIAL_WINDOW_SIZE: stream_window(self._limits),
                    MAX_HEADER_LIST_SIZE: self._limits.header_bytes,
                }
            )
        )
        if self._full > DEFAULT_WINDOW:
            self.write(frame(WINDOW_UPDATE, 0, 0, number(self._full - DEFAULT_WINDOW)))

    def connection_lost(self, exc: BaseException | None) -> None:
        self._over = True
        self._calls.close()
        self._out.clear()
        self._owner.lost(self)

    def pause_writing(self) -> None:
        """The peer does not read: until it does we do not listen either."""
        self._stalled_since = self._loop.time()
        if self._transport is not None and not self._transport.is_closing():
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        self._stalled_since = None
        if self._partial_since is not None:
            self._partial_since = self._loop.time()  # it was we who did not listen
        if self._transport is not None and not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        if self._over:
            return
        now = self._heard = self._loop.time()
        if self._rest:
            data = self._rest + data
        self._reading = True
        try:
            used = self._frames(data, now)
        except ConnectionFault as fault:
            self._fail(fault)
            return
        finally:
            self._reading = False
        self._rest = data[used:]
        if used:
            self._partial_since = None
        if (self._rest or self._block is not None) and self._partial_since is None:
            self._partial_since = now
        if self._calls.opened:
            self._calls.arm(now)
        if self._window < self._full >> 1:
            self._out.append(frame(WINDOW_UPDATE, 0, 0, number(self._full - self._window)))
            self._window = self._full
        self._flush()

    # what the lane asks

    def leave(self) -> None:
        """Have the peer go elsewhere; every call that it made before it knows is answered."""
        if not self._over:
            self._leaving.begin(self._loop.time())

    def close(self) -> None:
        """Now, whatever is under way."""
        if not self._over:
            self._over = True
            self._out.append(goaway(self._calls.numbers.last, 0))
            self._end()

    def tick(self, now: float) -> None:
        """What time alone brings. Called every second or so."""
        limits = self._limits
        if self._over:
            if self._transport is not None and now - self._heard > limits.linger_seconds:
                self._transport.abort()  # it does not even read that we went
        elif self._stalled_since is not None:
            if now - self._stalled_since > limits.stalled_seconds and self._transport is not None:
                self._over = True
                self._tell(ENHANCE_YOUR_CALM, "it does not read what we answer")
                self._transport.abort()
        elif not self._control.acknowledged and now - self._born > limits.greeting_seconds:
            self._fail(ConnectionFault(SETTINGS_TIMEOUT, "no greeting, or no answer to ours"))
        elif self._partial_since is not None and now - self._partial_since > limits.frame_seconds:
            self._fail(ConnectionFault(ENHANCE_YOUR_CALM, "a frame or header block took too long"))
        elif self._leaving.tick(now):
            self._over = True
            self._end()
        else:
            self._calls.tick(now)
            if not self._calls.streams and now - self._heard > limits.idle_seconds:
                self._leaving.begin(now)

    def write(self, data: bytes) -> None:
        """Goes out with all else of this turn of the loop."""
        self._out.append(data)
        if not self._reading and not self._flushing:
            self._flushing = True
            self._loop.call_soon(self._flush)

    # frames

    def _frames(self, data: bytes, now: float) -> int:
        """Take every frame that is whole; how many bytes they were."""
        at, end = 0, len(data)
        if not self._preface:
            if not PREFACE.startswith(data[: len(PREFACE)]):
                raise ConnectionFault(PROTOCOL_ERROR, "this is not HTTP/2")
            if end < len(PREFACE):
                return 0
            self._preface = True
            at = len(PREFACE)
        calls = self._calls
        while end - at >= HEADER_SIZE:
            high, low, kind, flags, stream = _unpack(data, at)
            length = high << 16 | low
            if length > LARGEST_FRAME:
                raise ConnectionFault(FRAME_SIZE_ERROR, "a frame larger than we take")
            start = at + HEADER_SIZE
            stop = start + length
            if stop > end:
                break
            at = stop
            stream &= LARGEST_STREAM
            try:
                if self._block is not None:
                    self._continue(kind, flags, stream, data[start:stop])
                elif kind == DATA:
                    self._window -= length
                    if self._window < 0:
                        raise ConnectionFault(FLOW_CONTROL_ERROR, "more than the connection's window")
                    if length < _TINY and not flags & END_STREAM:
                        self._control.spend(now)
                    payload = data[start:stop]
                    if flags & PADDED:
                        payload = unpadded(flags, payload)
                    calls.data(stream, flags & END_STREAM != 0, payload, length)
                elif kind == HEADERS and self._control.greeted:
                    self._headers(flags, stream, data[start:stop])
                else:
                    self._control.take(kind, flags, stream, data[start:stop], now)
            except StreamFault as fault:
                calls.fail(fault, now)
        return at

    def _headers(self, flags: int, stream: int, payload: bytes) -> None:
        if flags & (PADDED | HAS_PRIORITY):
            payload = unpadded(flags, payload)
            if flags & HAS_PRIORITY:
                if len(payload) < 5:
                    raise ConnectionFault(FRAME_SIZE_ERROR, "HEADERS too short for their priority")
                check_priority(stream, payload)
                payload = payload[5:]
        self._control.call()
        if flags & END_HEADERS:
            self._calls.headers(stream, flags & END_STREAM != 0, self._blocks.read(payload))
            return
        self._block = [payload]
        self._block_of = stream, flags & END_STREAM != 0
        self._block_bytes = len(payload)

    def _continue(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        """Within a header block nothing else may come (section 4.3)."""
        assert self._block is not None
        if kind != CONTINUATION or stream != self._block_of[0]:
            raise ConnectionFault(PROTOCOL_ERROR, "a header block that is not continued")
        self._block.append(payload)
        self._block_bytes += len(payload)
        if self._block_bytes > self._limits.block_bytes or len(self._block) > 1 + self._limits.continuations:
            raise ConnectionFault(ENHANCE_YOUR_CALM, "a header block too long")
        if flags & END_HEADERS:
            block, self._block = b"".join(self._block), None
            self._calls.headers(*self._block_of, self._blocks.read(block))

    def _read_head(self, fields: Sequence[Field]) -> Head:
        own = self._owner
        return read_head(fields, own.routes, own.recognize, own.limits.header_bytes, self._peer, self._tls)

    # output

    def _flush(self) -> None:
        self._flushing = False
        if self._out and self._transport is not None:
            out = b"".join(self._out)
            self._out.clear()
            self._transport.write(out)

    def _fail(self, fault: ConnectionFault) -> None:
        self._over = True
        self._tell(fault.code, fault.text)
        self._calls.close()
        self._out.append(goaway(self._calls.numbers.last, fault.code, fault.text))
        self._end()

    def _tell(self, error: int, why: str) -> None:
        self._owner.ended(self._peer, ERROR_NAMES[error], why)

    def _end(self) -> None:
        self._calls.close()
        self._flush()
        if self._transport is not None:
            self._transport.close()
