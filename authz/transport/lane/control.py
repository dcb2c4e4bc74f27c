"""Frames of the connection as a whole, and of a stream without carrying any of it (RFC 9113 section 6)."""

from collections.abc import Callable

from authz.transport.lane.budget import Budget
from authz.transport.lane.calls import Calls
from authz.transport.lane.leaving import Leaving
from authz.transport.lane.limits import Limits
from authz.transport.lane.wire import (
    ACK,
    CONTINUATION,
    ENHANCE_YOUR_CALM,
    FRAME_SIZE_ERROR,
    GOAWAY,
    LARGEST_STREAM,
    PING,
    PRIORITY,
    PROTOCOL_ERROR,
    PUSH_PROMISE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    ConnectionFault,
    frame,
)

_CREDIT_OF_A_CALL = 4  # control frames that are in order beside a call
_PING_SIZE = 8


class Control:
    """Of one connection."""

    def __init__(
        self, limits: Limits, calls: Calls, leaving: Leaving, write: Callable[[bytes], None], now: float
    ) -> None:
        self.greeted = False  # the peer's SETTINGS came
        self.acknowledged = False  # and it took ours
        self._calls = calls
        self._leaving = leaving
        self._write = write
        self._budget = Budget(limits.control_frames, limits.control_frames_per_second, now)

    def call(self) -> None:
        """A call came: with it, a few control frames are in order."""
        self._budget.earn(_CREDIT_OF_A_CALL)

    def take(self, kind: int, flags: int, stream: int, payload: bytes, now: float) -> None:
        """Any frame but DATA, HEADERS and what continues them."""
        if not self.greeted and (kind != SETTINGS or flags & ACK):
            raise ConnectionFault(PROTOCOL_ERROR, "the first frame has to be SETTINGS")
        if kind == RST_STREAM:
            _exactly(4, payload)
            _of_stream(stream)
            if not self._calls.reset(stream, now):
                self.spend(now)
            return
        self.spend(now)
        if kind == WINDOW_UPDATE:
            _exactly(4, payload)
            increment = int.from_bytes(payload, "big") & LARGEST_STREAM
            if stream:
                self._calls.widen(stream, increment, now)
            elif not increment:
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE by nothing")
            else:
                self._calls.outbox.widen(increment, now)
        elif kind == SETTINGS:
            _of_connection(stream)
            self._settings(flags, payload, now)
        elif kind == PING:
            _of_connection(stream)
            _exactly(_PING_SIZE, payload)
            if flags & ACK:
                self._leaving.answered(payload, now)
            else:
                self._write(frame(PING, ACK, 0, payload))
        elif kind == PRIORITY:
            _of_stream(stream)
            _exactly(5, payload)
            check_priority(stream, payload)
        elif kind == GOAWAY:
            _of_connection(stream)
            if len(payload) < 8:
                raise ConnectionFault(FRAME_SIZE_ERROR, "GOAWAY too short")
        elif kind in (PUSH_PROMISE, CONTINUATION):
            raise ConnectionFault(PROTOCOL_ERROR, "PUSH_PROMISE, or CONTINUATION of nothing")

    def spend(self, now: float) -> None:
        """Count a frame that carries nothing."""
        if not self._budget.spend(now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many frames that carry nothing")

    def _settings(self, flags: int, payload: bytes, now: float) -> None:
        if flags & ACK:
            _exactly(0, payload)
            self.acknowledged = True
            return
        self.greeted = True
        outbox = self._calls.outbox
        peer = outbox.peer.changed_by(payload)
        self._write(frame(SETTINGS, ACK, 0))  # before the DATA that a wider window lets out
        outbox.settle(peer, now)


def check_priority(stream: int, payload: bytes) -> None:
    """Deprecated and without effect (section 5.3.2), but it must be well-formed (RFC 7540 section 5.3.1)."""
    if int.from_bytes(payload[:4], "big") & LARGEST_STREAM == stream:
        raise ConnectionFault(PROTOCOL_ERROR, "a stream that depends on itself")


def _exactly(length: int, payload: bytes) -> None:
    if len(payload) != length:
        raise ConnectionFault(FRAME_SIZE_ERROR, "a frame of the wrong length")


def _of_connection(stream: int) -> None:
    if stream:
        raise ConnectionFault(PROTOCOL_ERROR, "a frame of the connection on a stream")


def _of_stream(stream: int) -> None:
    if not stream:
        raise ConnectionFault(PROTOCOL_ERROR, "a frame of a stream on none")
