"""The queue before slow hashes (attack 74)."""

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest

from authz.authenticate.hash_pool import HALF_LIFE, MOST_OF_AN_ORIGIN, MOST_WAITING, HashPool

DEADLINE = 10.0


class Bench:
    """A pool of one thread, whose checks wait to be let on."""

    def __init__(self, pool: HashPool) -> None:
        self.pool = pool
        self.begun: list[str] = []
        self.learned: list[tuple[str, bool]] = []
        self.busy = threading.Event()
        self.gate = threading.Event()

    def check(self, origin: str, outcome: bool = False) -> "asyncio.Future[bool | None]":
        def run() -> bool:
            self.begun.append(origin)
            self.busy.set()
            assert self.gate.wait(DEADLINE)
            return outcome

        return self.pool.submit(origin, run, lambda right: self.learned.append((origin, right)))

    async def occupy(self) -> "asyncio.Future[bool | None]":
        """Let one check take the only thread."""
        first = self.check("first", True)
        await asyncio.to_thread(self.busy.wait, DEADLINE)
        return first


class Time:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def made() -> AsyncIterator[Callable[..., Bench]]:
    benches: list[Bench] = []

    def make(patience: float = DEADLINE, now: Callable[[], float] | None = None) -> Bench:
        bench = Bench(HashPool(threads=1, patience=patience, now=now or Time()))
        benches.append(bench)
        return bench

    yield make
    for bench in benches:
        bench.gate.set()
        bench.pool.close()


async def test_answers(made: Callable[..., Bench]) -> None:
    bench = made()
    bench.gate.set()
    assert await bench.check("a", True) is True
    assert await bench.check("a", False) is False
    assert bench.learned == [("a", True), ("a", False)]


async def test_a_check_that_fails_answers_nothing(made: Callable[..., Bench]) -> None:
    def fails() -> bool:
        raise ValueError("hunter2")

    bench = made()
    assert await bench.pool.submit("a", fails, lambda right: bench.learned.append(("a", right))) is None
    assert bench.learned == []
    bench.gate.set()
    assert await bench.check("a", True) is True, "and the thread is free again"


async def test_74_who_was_wrong_least_goes_first(made: Callable[..., Bench]) -> None:
    bench = made()
    bench.gate.set()
    for _ in range(3):
        assert await bench.check("flood") is False
    bench.gate.clear()
    bench.busy.clear()
    bench.begun.clear()
    first = await bench.occupy()
    waiting = [bench.check("flood") for _ in range(5)]
    waiting += [bench.check("carol", True), bench.check("dave", True)]
    bench.gate.set()
    await asyncio.gather(first, *waiting)
    assert bench.begun == ["first", "carol", "dave", *["flood"] * 5]


async def test_origins_that_are_all_wrong_take_turns(made: Callable[..., Bench]) -> None:
    bench = made()
    first = await bench.occupy()
    waiting = [bench.check(origin) for origin in ("a", "a", "a", "b", "b", "c")]
    bench.gate.set()
    await asyncio.gather(first, *waiting)
    assert bench.begun == ["first", "a", "b", "c", "a", "b", "a"]


async def test_wrong_passwords_are_forgiven(made: Callable[..., Bench]) -> None:
    time = Time()
    bench = made(now=time)
    bench.gate.set()
    for _ in range(3):
        await bench.check("once bad")
    time.now += 2 * HALF_LIFE
    await bench.check("lately bad")
    bench.gate.clear()
    bench.busy.clear()
    bench.begun.clear()
    first = await bench.occupy()
    waiting = [bench.check("lately bad", True), bench.check("once bad", True)]
    bench.gate.set()
    await asyncio.gather(first, *waiting)
    assert bench.begun == ["first", "once bad", "lately bad"]


async def test_an_origins_share_of_the_queue_and_the_whole_queue_are_bounded(
    made: Callable[..., Bench],
) -> None:
    bench = made()
    first = await bench.occupy()
    waiting = [bench.check("flood") for _ in range(MOST_OF_AN_ORIGIN)]
    assert await bench.check("flood") is None
    waiting += [bench.check(f"origin {number}") for number in range(MOST_WAITING - MOST_OF_AN_ORIGIN)]
    assert await bench.check("another") is None
    assert not any(each.done() for each in waiting)
    bench.gate.set()
    assert set(await asyncio.gather(*waiting)) == {False}
    assert await first is True


async def test_what_takes_too_long_is_too_busy_and_learned_all_the_same(made: Callable[..., Bench]) -> None:
    bench = made(patience=0.05)
    first = await bench.occupy()
    waiting = bench.check("never begun", True)
    assert [await first, await waiting] == [None, None]
    bench.gate.set()
    async with asyncio.timeout(DEADLINE):
        while not bench.learned:
            await asyncio.sleep(0.005)
    assert bench.learned == [("first", True)]
    assert bench.begun == ["first"], "whoever was told to try again no longer waits"


async def test_closing_answers_all_who_wait(made: Callable[..., Bench]) -> None:
    bench = made()
    await bench.occupy()
    waiting = bench.check("a")
    bench.pool.close()
    assert await waiting is None
    assert await bench.check("b") is None
    assert bench.begun == ["first"]
