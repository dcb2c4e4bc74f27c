"""The calls of one connection: opened by header blocks, fed by DATA."""

from asyncio import AbstractEventLoop
from collections.abc import Callable

from authz.transport.lane.answers import Answers
from authz.transport.lane.budget import Budget
from authz.transport.lane.feed import Feed
from authz.transport.lane.head import Head, are_trailers
from authz.transport.lane.limits import Limits
from authz.transport.lane.messages import PREFIX, Messages, message_size
from authz.transport.lane.open_streams import OpenStreams
from authz.transport.lane.room import Room
from authz.transport.lane.routes import Unary
from authz.transport.lane.status import DEADLINE_EXCEEDED, INTERNAL, UNIMPLEMENTED, Refused
from authz.transport.lane.stream import Stream
from authz.transport.lane.wire import (
    CANCEL,
    ENHANCE_YOUR_CALM,
    FLOW_CONTROL_ERROR,
    PROTOCOL_ERROR,
    REFUSED_STREAM,
    STREAM_CLOSED,
    ConnectionFault,
    StreamFault,
)

_OF_A_MESSAGE = 64  # bytes that one costs us beside its own


class Calls:
    """Frames of streams in, frames out. Methods raise StreamFault and ConnectionFault."""

    def __init__(
        self,
        limits: Limits,
        room: Room,
        loop: AbstractEventLoop,
        write: Callable[[bytes], None],
        report: Callable[[BaseException], None],
        now: float,
    ) -> None:
        """`report` is told what a handler raised."""
        self.refusing = False  # told the peer that no further stream is looked at
        self.opened: list[Stream] = []  # since `arm` was called last
        self._open = OpenStreams(limits, room, loop, write)
        self.streams = self._open.by_number
        self.numbers = self._open.numbers
        self.outbox = self._open.outbox
        self._answers = Answers(self._open, loop, write, report)
        self._limits = limits
        self._loop = loop
        self._resets = Budget(limits.resets, limits.resets_per_second, now)

    def headers(self, number: int, ended: bool, head: Head) -> None:
        """A header block: a new call, or the end of one that is open."""
        stream = self.streams.get(number)
        if stream is not None:
            if stream.ended:
                raise StreamFault(number, STREAM_CLOSED)
            if not ended or not are_trailers(head.fields):
                raise StreamFault(number, PROTOCOL_ERROR)
            self.data(number, True, b"", 0)
            return
        if self.numbers.was_left(number) or (self.refusing and number > self.numbers.last):
            return
        self.numbers.open(number)
        if head.malformed or (ended and head.length):
            raise StreamFault(number, PROTOCOL_ERROR)
        if len(self.streams) >= self._limits.streams or self._answers.running >= self._limits.streams:
            raise StreamFault(number, REFUSED_STREAM)
        stream = Stream(number, head, self._open.window)
        self.streams[number] = stream
        self.opened.append(stream)
        if head.refusal is not None:
            stream.ended = ended
            self._answers.refuse(stream, *head.refusal)
            return
        if head.streaming is not None:
            stream.feed = Feed(self._loop, lambda size: self._taken(stream, size))
            try:
                self._answers.start(stream, head.streaming.handler(stream.feed, head.caller))
            except Exception as error:
                stream.ended = ended
                self._answers.error(stream, error)
                return
        if ended:
            self.data(number, True, b"", 0)

    def data(self, number: int, ended: bool, payload: bytes, length: int) -> None:
        """The payload of a DATA frame; `length` counts its padding too."""
        stream = self.streams.get(number)
        if stream is None:
            self._stray(number)
            return
        if stream.ended:
            raise StreamFault(number, STREAM_CLOSED)
        stream.window -= length
        if stream.window < 0:
            raise StreamFault(number, FLOW_CONTROL_ERROR)
        stream.received += len(payload)
        head = stream.head
        if head.length is not None and (
            stream.received > head.length or (ended and stream.received != head.length)
        ):
            raise StreamFault(number, PROTOCOL_ERROR)
        stream.ended = ended
        if length != len(payload):
            self._open.credit(stream, length - len(payload))
        try:
            if head.unary is not None:
                self._of_unary(stream, head.unary, payload)
            elif stream.feed is not None:
                self._of_stream(stream, stream.feed, payload)
            else:
                self._open.credit(stream, len(payload))
                if ended and stream.pending is None:
                    self._answers.plain(stream)
        except Refused as refused:
            self._answers.refuse(stream, refused.status, refused.text)

    def reset(self, number: int, now: float) -> bool:
        """The peer gave up a stream; whether there was one."""
        stream = self.streams.get(number)
        if stream is None:
            if self.numbers.is_idle(number) and not (self.refusing and number & 1):
                raise ConnectionFault(PROTOCOL_ERROR, "RST_STREAM for an idle stream")
            return False
        self._count_reset(now)
        stream.ended = True
        self._open.close(stream)
        return True

    def widen(self, number: int, increment: int, now: float) -> None:
        """WINDOW_UPDATE of a stream."""
        stream = self.streams.get(number)
        if stream is None:
            if self.numbers.is_idle(number) and not (self.refusing and number & 1):
                raise ConnectionFault(PROTOCOL_ERROR, "WINDOW_UPDATE for an idle stream")
        elif not increment:
            raise StreamFault(number, PROTOCOL_ERROR)
        else:
            self.outbox.widen_stream(stream, increment, now)

    def fail(self, fault: StreamFault, now: float) -> None:
        """Reset a stream for what the peer did. Too often is too often, whoever resets (CVE-2025-8671)."""
        self._count_reset(now)
        self._open.reset(fault.stream, fault.code)

    def arm(self, now: float) -> None:
        """Start the clocks of calls that were opened and not answered at once."""
        for stream in self.opened:
            if not self._open.has(stream) or stream.pending is not None:
                continue
            seconds = stream.head.timeout
            deadline = None if seconds is None else now + seconds
            if stream.feed is None and not stream.ended:
                most = self._limits.message_seconds
                seconds = most if seconds is None else min(seconds, most)
            if seconds is not None:
                stream.timer = self._loop.call_later(seconds, self._late, stream, deadline)
        self.opened.clear()

    def tick(self, now: float) -> None:
        """Give up answers that nobody takes."""
        for stream in self.outbox.stalled(now - self._limits.stalled_seconds):
            self._open.reset(stream.number, CANCEL)

    def close(self) -> None:
        """The connection is gone, and every call with it."""
        for stream in list(self.streams.values()):
            stream.ended = True
            self._open.close(stream)

    def _of_unary(self, stream: Stream, unary: Unary, payload: bytes) -> None:
        largest = self._limits.message_bytes
        if stream.messages is None:
            if (
                stream.ended
                and len(payload) >= PREFIX
                and message_size(payload, largest) == len(payload) - PREFIX
            ):
                self._answers.run(stream, unary, payload[PREFIX:])
                return
            stream.messages = Messages(largest)
        stream.messages.add(payload)
        self._open.hold(stream, len(payload))
        excess = stream.messages.excess()
        if excess > 0 or (stream.ended and not len(stream.messages)):
            raise Refused(UNIMPLEMENTED, "The method takes exactly one message.")
        if stream.ended:
            message = stream.messages.take()
            if message is None:
                raise Refused(INTERNAL, "The message was cut short.")
            self._open.hold(stream, -stream.held)
            self._answers.run(stream, unary, message)

    def _of_stream(self, stream: Stream, feed: Feed, payload: bytes) -> None:
        if stream.task is None:  # answered already
            self._open.credit(stream, len(payload))
            return
        if stream.messages is None:
            stream.messages = Messages(self._limits.message_bytes)
        stream.messages.add(payload)
        self._open.hold(stream, len(payload))
        while (message := stream.messages.take()) is not None:
            self._open.hold(stream, _OF_A_MESSAGE)
            feed.put(message)
        if stream.ended:
            if len(stream.messages):
                raise Refused(INTERNAL, "The message was cut short.")
            feed.end()

    def _late(self, stream: Stream, deadline: float | None) -> None:
        if stream.ended and (deadline is None or self._loop.time() < deadline):  # the message came in time
            if deadline is not None:
                stream.timer = self._loop.call_at(deadline, self._late, stream, deadline)
        elif stream.head.http != 200:
            self._answers.plain(stream)
        else:
            self._answers.refuse(stream, DEADLINE_EXCEEDED, "The deadline is over.")

    def _count_reset(self, now: float) -> None:
        if not self._resets.spend(now):
            raise ConnectionFault(ENHANCE_YOUR_CALM, "too many streams reset")

    def _stray(self, which: int) -> None:
        """DATA of a stream that is not open."""
        if self.numbers.is_idle(which):
            if not (self.refusing and which & 1):
                raise ConnectionFault(PROTOCOL_ERROR, "DATA for an idle stream")
        elif not self.numbers.was_left(which):
            raise StreamFault(which, STREAM_CLOSED)

    def _taken(self, stream: Stream, size: int) -> None:
        if self._open.has(stream):
            self._open.hold(stream, -(PREFIX + size + _OF_A_MESSAGE))
            self._open.credit(stream, PREFIX + size)
