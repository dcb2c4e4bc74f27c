"""What we may send: the peer's windows, and the answers that wait for them (RFC 9113 section 5.2)."""

from collections.abc import Callable, Mapping
from itertools import chain

from authz.transport.lane.peer_settings import PeerSettings
from authz.transport.lane.stream import Stream
from authz.transport.lane.wire import (
    DATA,
    DEFAULT_WINDOW,
    END_STREAM,
    FLOW_CONTROL_ERROR,
    LARGEST_WINDOW,
    ConnectionFault,
    StreamFault,
    frame,
)


class Outbox:
    """Of one connection. Answers leave in the order in which they were ready, as far as windows let them.

    A stream's window is the peer's initial one plus the stream's `credit`: so a change of the initial one
    costs the same however many streams there are.
    """

    def __init__(
        self, streams: Mapping[int, Stream], write: Callable[[bytes], None], sent: Callable[[Stream], None]
    ) -> None:
        """`streams` are the open ones. `sent` is told the stream whose answer has left whole."""
        self._streams = streams
        self._write = write
        self._sent = sent
        self.peer = PeerSettings()
        self.window = DEFAULT_WINDOW
        self._ready: dict[int, Stream] = {}  # wait for the connection's window
        self._blocked: dict[int, Stream] = {}  # wait for their own
        self._most_credit = 0  # that any stream ever had: below it nothing needs to be looked at

    def fits(self, stream: Stream, length: int) -> bool:
        """Whether DATA of that many bytes may be sent at once; if so, it is taken off the windows.

        Nothing is overtaken: where others wait for the connection's window there is none left.
        """
        if (
            length > self.window
            or length > self.peer.window + stream.credit
            or length > self.peer.largest_frame
        ):
            return False
        self.window -= length
        stream.credit -= length
        return True

    def add(self, stream: Stream, data: bytes, trailers: bytes, now: float) -> None:
        """Send as soon as windows let it. Empty `trailers`: the last DATA frame ends the stream."""
        stream.pending = memoryview(data)
        stream.trailers = trailers
        stream.stalled_since = now
        self._ready[stream.number] = stream
        self._flush(now)

    def remove(self, stream: Stream) -> None:
        """The stream is gone."""
        stream.pending = None
        self._ready.pop(stream.number, None)
        self._blocked.pop(stream.number, None)

    def settle(self, peer: PeerSettings, now: float) -> None:
        """The peer has other settings now."""
        wider = peer.window > self.peer.window
        self.peer = peer
        if peer.window + self._most_credit > LARGEST_WINDOW and any(
            peer.window + each.credit > LARGEST_WINDOW for each in self._streams.values()
        ):
            raise ConnectionFault(FLOW_CONTROL_ERROR, "an initial window that makes one exceed 2^31-1")
        if wider and self._blocked:
            self._ready.update(self._blocked)
            self._blocked.clear()
            self._flush(now)

    def widen(self, increment: int, now: float) -> None:
        """The connection's window."""
        self.window += increment
        if self.window > LARGEST_WINDOW:
            raise ConnectionFault(FLOW_CONTROL_ERROR, "the connection's window exceeds 2^31-1")
        self._flush(now)

    def widen_stream(self, stream: Stream, increment: int, now: float) -> None:
        """One stream's window."""
        stream.credit += increment
        if stream.credit + self.peer.window > LARGEST_WINDOW:
            raise StreamFault(stream.number, FLOW_CONTROL_ERROR)
        self._most_credit = max(self._most_credit, stream.credit)
        if self._blocked.pop(stream.number, None) is not None:
            self._ready[stream.number] = stream
            self._flush(now)

    def stalled(self, before: float) -> list[Stream]:
        """Whose answers have not moved since then."""
        waiting = chain(self._ready.values(), self._blocked.values())
        return [each for each in waiting if each.stalled_since is not None and each.stalled_since < before]

    def _flush(self, now: float) -> None:
        while self._ready:
            number, stream = next(iter(self._ready.items()))
            pending = stream.pending
            assert pending is not None
            if self.window <= 0:
                return
            room = min(self.window, self.peer.window + stream.credit, self.peer.largest_frame, len(pending))
            if room <= 0:
                del self._ready[number]
                self._blocked[number] = stream
                continue
            self.window -= room
            stream.credit -= room
            stream.stalled_since = now
            stream.pending = pending[room:]
            last = not stream.pending
            ends = last and not stream.trailers
            self._write(frame(DATA, END_STREAM if ends else 0, number, bytes(pending[:room])))
            if last:
                del self._ready[number]
                stream.pending = None
                if stream.trailers:
                    self._write(stream.trailers)
                self._sent(stream)
