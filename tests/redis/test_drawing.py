"""Telling what was spent of lots, step by step of the event loop."""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from authz.store.protocols import Level
from authz.store.redis.allowance.drawing import Drawing, Spending
from authz.store.redis.allowance.lot import Lot
from authz.store.redis.calls import Calls
from authz.store.redis.link import Script, Word
from tests.contract.kit import NOON, fixed

HOLD = fixed(100, key="a")
ID = 7  # of the first reservation, among the words of a call about one lot


class Link:
    """Answers when it is told to. What it was asked is a list of the reservations' ids."""

    def __init__(self) -> None:
        self.asked: list[Word] = []
        self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

    def run(
        self, script: Script, keys: Sequence[str], args: Sequence[Word], *, budget_ms: int
    ) -> asyncio.Future[Any]:
        self.asked.append(args[ID])
        self.answer = asyncio.get_running_loop().create_future()
        return self.answer


class Told:
    """As much of `Calls` as telling needs."""

    now = NOON
    most_open = 1000

    def __init__(self) -> None:
        self.link = Link()


def spending(name: str) -> Spending:
    lot = Lot("lot", "0", (HOLD,), (Level(100, 60_000),), 0)
    return Spending(lot, name, "edge", (HOLD,), 60_000, b"", 0)


async def test_what_comes_as_a_telling_ends_is_told_by_the_next() -> None:
    """The telling is done, and those who wait for it are about to hear so: what comes in between is not in it."""
    calls = Told()
    drawing = Drawing(cast(Calls, calls), "me", lambda: 0)
    drawing.add(spending("first"))
    first = asyncio.ensure_future(drawing.tell())
    while not calls.link.asked:
        await asyncio.sleep(0)
    second = drawing.tell()

    def come(_: object) -> None:
        """Right after the answer was taken note of."""
        assert len(drawing) == 0
        assert not first.done()
        drawing.add(spending("second"))
        second.send(None)  # StopIteration: it takes the telling that is done for one of this

    calls.link.answer.add_done_callback(come)
    with failing() as failures:
        calls.link.answer.set_result([])
        while len(calls.link.asked) < 2 and not failures:
            await asyncio.sleep(0)
    assert failures == []
    assert calls.link.asked == ["first", "second"]
    calls.link.answer.set_result([])
    await first
    while len(drawing):
        await asyncio.sleep(0)
    second.close()


@contextmanager
def failing() -> Iterator[list[object]]:
    """What callbacks of the loop raise meanwhile."""
    loop, failures = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, about: failures.append(about.get("exception")))
    yield failures
    loop.set_exception_handler(None)
