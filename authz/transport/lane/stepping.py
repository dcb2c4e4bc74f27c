"""Runs a coroutine without a task as far as it goes."""

from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Remainder(Generic[T]):
    """What is left of a coroutine that was stepped once and yielded `waits_for`.

    Awaited in a task, it hands that over first. A future that was yielded is marked as being waited for, and
    that mark is still there for the task to find: nothing may step the coroutine in between.
    """

    __slots__ = ("_coroutine", "_waits_for")

    def __init__(self, coroutine: Coroutine[Any, Any, T], waits_for: Any) -> None:
        self._coroutine = coroutine
        self._waits_for = waits_for

    def __await__(self) -> Generator[Any, Any, T]:
        waits_for = self._waits_for
        try:
            while True:
                try:
                    sent = yield waits_for
                except GeneratorExit:
                    self._coroutine.close()
                    raise
                except BaseException as thrown:
                    waits_for = self._coroutine.throw(thrown)
                else:
                    waits_for = self._coroutine.send(sent)
        except StopIteration as done:
            result: T = done.value
            return result

    async def finish(self) -> T:
        """As a coroutine, which is what a task takes."""
        return await self
