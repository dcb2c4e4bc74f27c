"""The streams of one connection that are open: how they end, and what they hold and may still send."""

from asyncio import AbstractEventLoop
from collections.abc import Callable

from authz.transport.lane.limits import Limits
from authz.transport.lane.messages import PREFIX
from authz.transport.lane.numbers import Numbers
from authz.transport.lane.outbox import Outbox
from authz.transport.lane.room import Room
from authz.transport.lane.status import RESOURCE_EXHAUSTED, Refused
from authz.transport.lane.stream import Stream
from authz.transport.lane.wire import NO_ERROR, RST_STREAM, WINDOW_UPDATE, frame, number


def stream_window(limits: Limits) -> int:
    """Room for one message whatever else of the stream we have not acknowledged yet, which is up to half."""
    return 2 * (limits.message_bytes + PREFIX)


class OpenStreams:
    """By number."""

    def __init__(
        self, limits: Limits, room: Room, loop: AbstractEventLoop, write: Callable[[bytes], None]
    ) -> None:
        self.by_number: dict[int, Stream] = {}
        self.outbox = Outbox(self.by_number, write, self.close)
        self.numbers = Numbers()
        self.window = stream_window(limits)  # of a new stream
        self._most_held = limits.held_bytes
        self._room = room
        self._loop = loop
        self._write = write
        self._held = 0

    def has(self, stream: Stream) -> bool:
        """Whether it is still open."""
        return self.by_number.get(stream.number) is stream

    def close(self, stream: Stream) -> None:
        """Nothing of the stream is left. What the peer still sends of it is not wanted."""
        if not stream.ended:
            self._write(frame(RST_STREAM, 0, stream.number, number(NO_ERROR)))
            self.numbers.leave(stream.number)
        del self.by_number[stream.number]
        self._held -= stream.held
        self._room.taken -= stream.held
        if stream.timer is not None:
            stream.timer.cancel()
        if stream.pending is not None:
            self.outbox.remove(stream)
        if stream.task is not None:
            # Not at once: a task that has not begun would never run, and what it is left of would see no end.
            self._loop.call_soon(stream.task.cancel)

    def reset(self, which: int, code: int) -> None:
        """End one with an error."""
        self._write(frame(RST_STREAM, 0, which, number(code)))
        stream = self.by_number.get(which)
        if stream is not None and not stream.ended:
            stream.ended = True  # said already
        self.numbers.leave(which)
        if stream is not None:
            self.close(stream)

    def hold(self, stream: Stream, size: int) -> None:
        """Bytes kept for a stream, or kept no longer. Raises Refused where too much is kept."""
        stream.held += size
        self._held += size
        self._room.taken += size
        if size <= 0:
            return
        if self._held > self._most_held:
            raise Refused(RESOURCE_EXHAUSTED, "Too much is waiting on this connection.")
        if self._room.taken > self._room.most:
            raise Refused(RESOURCE_EXHAUSTED, "Too much is waiting here.")

    def credit(self, stream: Stream, size: int) -> None:
        """Bytes that are no longer ours to keep: in larger steps the peer may send as many more."""
        stream.uncredited += size
        if not stream.ended and stream.uncredited >= self.window // 2:
            self._write(frame(WINDOW_UPDATE, 0, stream.number, number(stream.uncredited)))
            stream.window += stream.uncredited
            stream.uncredited = 0
