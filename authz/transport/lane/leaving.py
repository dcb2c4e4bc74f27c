"""Leaves a connection without losing a call (RFC 9113 section 6.8).

First it is said that we leave, with the highest number there is, and a PING. What the peer sent before it
heard that comes before its answer to the PING: all of it is served. Then the last number is said for certain,
and what comes above was never looked at: the peer asks another replica. The peer closes when its calls are
answered; were it us, bytes on their way to us would make the kernel destroy what we sent last.
"""

from collections.abc import Callable

from authz.transport.lane.calls import Calls
from authz.transport.lane.wire import LARGEST_STREAM, NO_ERROR, PING, frame, goaway

_PING = b"leaving\0"


class Leaving:
    """Of one connection."""

    def __init__(self, calls: Calls, write: Callable[[bytes], None], linger: float) -> None:
        """`linger` is in seconds: for the peer's answer, and again for it to close."""
        self._calls = calls
        self._write = write
        self._linger = linger
        self._announced: float | None = None
        self._last_call: float | None = None  # since when no call was left after the certain number was said

    def begin(self, now: float) -> None:
        """Announce it, once."""
        if self._announced is None:
            self._announced = now
            self._write(goaway(LARGEST_STREAM, NO_ERROR) + frame(PING, 0, 0, _PING))

    def answered(self, payload: bytes, now: float) -> None:
        """The peer acknowledged a PING."""
        if self._announced is not None and payload == _PING:
            self._decide()

    def tick(self, now: float) -> bool:
        """Whether the connection is to be closed now."""
        if self._announced is None:
            return False
        if now - self._announced > self._linger:
            self._decide()
        if not self._calls.refusing or self._calls.streams:
            return False
        if self._last_call is None:
            self._last_call = now
        return now - self._last_call > self._linger

    def _decide(self) -> None:
        if not self._calls.refusing:
            self._calls.refusing = True
            self._write(goaway(self._calls.numbers.last, NO_ERROR))
