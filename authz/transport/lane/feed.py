"""Hands the messages of a client stream to its handler, one by one."""

from asyncio import AbstractEventLoop, Future
from collections import deque
from collections.abc import Callable


class Feed:
    """An async iterator over messages that are still coming.

    Only what the handler takes widens the stream's window again: a slow handler slows its caller.
    """

    def __init__(self, loop: AbstractEventLoop, taken: Callable[[int], None]) -> None:
        """`taken` is told the bytes of each message that leaves."""
        self._loop = loop
        self._taken = taken
        self._messages: deque[bytes] = deque()
        self._ended = False
        self._waiter: Future[None] | None = None

    def put(self, message: bytes) -> None:
        self._messages.append(message)
        self._wake()

    def end(self) -> None:
        """No message follows."""
        self._ended = True
        self._wake()

    def __aiter__(self) -> "Feed":
        return self

    async def __anext__(self) -> bytes:
        while not self._messages:
            if self._ended:
                raise StopAsyncIteration
            self._waiter = self._loop.create_future()
            await self._waiter
        message = self._messages.popleft()
        self._taken(len(message))
        return message

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
