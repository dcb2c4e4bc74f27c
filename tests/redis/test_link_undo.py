"""Undos that are owed: bounded in number and time, in portions, until they have run."""

import asyncio

import pytest

from authz.store.redis import link_undo
from authz.store.redis.batch import Call
from authz.store.redis.link import Undo
from authz.store.redis.link_undo import Undoing
from tests.redis.link_kit import UNDO, places, until


def undo(number: int, for_ms: int = 60_000) -> Undo:
    return Undo(UNDO, places(), [str(number)], for_ms)


class Way:
    """Where undos are pushed to, while it is open."""

    def __init__(self) -> None:
        self.is_open = True
        self.sent: list[Call] = []

    def push(self, call: Call, key: str) -> bool:
        assert key == places()[0]
        if self.is_open:
            self.sent.append(call)
        return self.is_open

    @property
    def numbers(self) -> list[str]:
        return [str(call.words[-1]) for call in self.sent]


async def test_they_leave_together_in_the_next_tick_and_in_order() -> None:
    way = Way()
    undoing = Undoing(way.push)
    for number in range(5):
        undoing.owe(undo(number))
    assert not way.sent
    await asyncio.sleep(0.001)
    assert way.numbers == ["0", "1", "2", "3", "4"]
    assert undoing.owed == 5
    for _ in way.sent:
        undoing.paid()
    assert undoing.owed == 0


async def test_one_that_did_not_run_is_tried_again_after_a_pause() -> None:
    way = Way()
    undoing = Undoing(way.push)
    undoing.owe(undo(1))
    await until(lambda: way.sent)
    debt = way.sent[0].undo
    assert debt is not None
    undoing.owe(debt)
    await asyncio.sleep(0)
    assert (len(way.sent), undoing.owed) == (1, 1)
    await until(lambda: len(way.sent) == 2)
    assert way.sent[1].undo == debt  # its time goes on
    undoing.stop()


async def test_without_a_way_they_wait_and_hurry_when_there_is_one() -> None:
    way = Way()
    way.is_open = False
    undoing = Undoing(way.push)
    undoing.owe(undo(1))
    await asyncio.sleep(2 * link_undo.PAUSE)
    assert (way.sent, undoing.owed) == ([], 1)
    way.is_open = True
    undoing.hurry()
    await asyncio.sleep(0.001)
    assert way.numbers == ["1"]
    undoing.stop()


async def test_many_leave_in_portions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_undo, "CHUNK", 10)
    way = Way()
    undoing = Undoing(way.push)
    for number in range(25):
        undoing.owe(undo(number))
    seen = set()
    while len(way.sent) < 25:
        await asyncio.sleep(0.001)
        seen.add(len(way.sent))
    assert seen <= {0, 10, 20, 25}
    undoing.stop()


async def test_their_number_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link_undo, "MOST", 3)
    way = Way()
    undoing = Undoing(way.push)
    for number in range(5):
        undoing.owe(undo(number))
    assert (undoing.owed, undoing.given_up) == (3, 2)
    await until(lambda: len(way.sent) == 3)
    undoing.owe(undo(6))
    assert (undoing.owed, undoing.given_up) == (3, 3)  # those on the way count too
    undoing.stop()


async def test_their_time_is_bounded() -> None:
    way = Way()
    way.is_open = False
    undoing = Undoing(way.push)
    undoing.owe(undo(1, for_ms=1))
    await until(lambda: undoing.given_up == 1)
    assert undoing.owed == 0


async def test_stopped_they_are_given_up() -> None:
    way = Way()
    way.is_open = False
    undoing = Undoing(way.push)
    undoing.owe(undo(1))
    undoing.stop()
    undoing.owe(undo(2))
    way.is_open = True
    await asyncio.sleep(2 * link_undo.PAUSE)
    assert (way.sent, undoing.owed, undoing.given_up) == ([], 0, 2)
