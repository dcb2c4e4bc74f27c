"""Runs handlers and sends what they answer."""

from asyncio import AbstractEventLoop, CancelledError, Task, ensure_future
from collections.abc import Awaitable, Callable
from types import CoroutineType
from typing import Any

from authz.transport.lane import replies
from authz.transport.lane.messages import PREFIX
from authz.transport.lane.open_streams import OpenStreams
from authz.transport.lane.routes import Unary
from authz.transport.lane.status import CANCELLED, UNKNOWN, Refused
from authz.transport.lane.stepping import Remainder
from authz.transport.lane.stream import Stream

_TEXTS = {405: b"Only POST.\n", 415: b"Only application/grpc.\n", 431: b"Too large.\n"}


class Answers:
    """Of one connection."""

    def __init__(
        self,
        streams: OpenStreams,
        loop: AbstractEventLoop,
        write: Callable[[bytes], None],
        report: Callable[[BaseException], None],
    ) -> None:
        """`report` is told what a handler raised."""
        self._open = streams
        self._loop = loop
        self._write = write
        self._report = report
        self._tasks: set[Task[Any]] = set()

    @property
    def running(self) -> int:
        """Handlers that are at work in tasks, also those that nobody waits for any more."""
        return len(self._tasks)

    def refuse(self, stream: Stream, status: int, text: str) -> None:
        """Answer with a status instead of a message."""
        self._write(replies.refusal(stream.number, status, text))
        self._open.close(stream)

    def run(self, stream: Stream, unary: Unary, message: bytes) -> None:
        """Hand a whole message to its handler; answer at once if that does not suspend."""
        try:
            answer = unary.handler(message, stream.head.caller)
            if type(answer) is CoroutineType:
                try:
                    waits_for = answer.send(None)
                except StopIteration as done:
                    answer = done.value
                else:
                    self.start(stream, Remainder(answer, waits_for).finish())
                    return
            elif not isinstance(answer, bytes):
                self.start(stream, answer)
                return
        except (Exception, CancelledError) as error:
            self.error(stream, error)
        else:
            self._answer(stream, answer)

    def start(self, stream: Stream, rest: Awaitable[Any]) -> None:
        """Answer a stream when `rest` is done."""
        task = stream.task = ensure_future(rest, loop=self._loop)
        self._tasks.add(task)
        task.add_done_callback(lambda done: self._done(stream, done))

    def error(self, stream: Stream, error: BaseException) -> None:
        """Answer what a handler raised."""
        if isinstance(error, Refused):
            self.refuse(stream, error.status, error.text)
        elif isinstance(error, CancelledError):
            self.refuse(stream, CANCELLED, "")
        else:
            self._report(error)
            self.refuse(stream, UNKNOWN, "The handler failed.")

    def plain(self, stream: Stream) -> None:
        """Answer a request that is no gRPC call."""
        head = stream.head
        self._write(replies.plain(stream.number, head.http, ends=not head.answers_body))
        if head.answers_body:
            self._later(stream, _TEXTS[head.http], b"")
        else:
            self._open.close(stream)

    def _answer(self, stream: Stream, message: Any) -> None:
        if not isinstance(message, bytes):
            self.error(stream, TypeError(f"a handler answered {type(message).__name__}, not bytes"))
            return
        number = stream.number
        if self._open.outbox.fits(stream, PREFIX + len(message)):
            self._write(replies.whole(number, message))
            self._open.close(stream)
            return
        self._write(replies.opening(number))
        self._later(stream, replies.prefixed(message), replies.closing(number))

    def _done(self, stream: Stream, task: "Task[Any]") -> None:
        self._tasks.discard(task)
        error = CancelledError() if task.cancelled() else task.exception()
        if not self._open.has(stream):
            if error is not None and not isinstance(error, Refused | CancelledError):
                self._report(error)
            return
        stream.task = None
        if error is not None:
            self.error(stream, error)
        else:
            self._answer(stream, task.result())

    def _later(self, stream: Stream, data: bytes, trailers: bytes) -> None:
        if stream.timer is not None:
            stream.timer.cancel()
        self._open.outbox.add(stream, data, trailers, self._loop.time())
