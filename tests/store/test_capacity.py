"""Bounded memory: a flood of new keys resets nobody and, on disk, locks nobody out (attack 108)."""

import asyncio
import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from authz.quota import Unit
from authz.store import writer
from authz.store.engine import Engine
from authz.store.memory import open_memory
from authz.store.protocols import Exhausted, Outcome, Reserved, StoreUnavailable
from authz.store.reservations import ENDED_AT_ONCE, LATE, REPLAY, Phase, Reservation, Reservations
from authz.store.sqlite.service import open_sqlite
from authz.store.tables import GRACE
from tests.contract.kit import DAY, MINUTE, NOON, Clock, calendar, fixed, gcra, settled, sliding, slot

ROOM = 100


async def test_108_on_disk_a_flood_resets_nobody_and_locks_nobody_out(tmp_path: Path) -> None:
    clock = Clock()
    store = open_sqlite(tmp_path / "a.db", clock, most_counters=ROOM)
    mine = fixed(1, window=DAY, key="mine", unit=Unit.REQUESTS)
    assert isinstance(await store.counters.reserve("first", "edge", [mine], 0), Reserved)
    flood = [fixed(2, window=DAY, key=f"flood-{n}", unit=Unit.REQUESTS) for n in range(10 * ROOM)]
    for n, hold in enumerate(flood):
        assert isinstance(await store.counters.reserve(f"f{n}", "edge", [hold], 0), Reserved)
        if n % 20 == 19:
            await settled(store)
            assert len(store._engine) <= ROOM
    assert isinstance(await store.counters.reserve("again", "edge", [mine], 0), Exhausted)
    for hold in flood[::97]:
        answer = await store.counters.peek([hold])
        assert isinstance(answer, Reserved)
        assert answer.levels[0].remaining == 0, "one taken, one asked for"
        await settled(store)
    await store.close()


async def test_108_what_is_not_on_disk_yet_never_leaves_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the writer cannot write, and while it is at it."""
    store = open_sqlite(tmp_path / "a.db", Clock(), most_counters=10)

    def fail(*_: object) -> None:
        raise StoreUnavailable("no space left for a.db; free some and try again")

    holds = [fixed(1, window=DAY, key=f"k{n}", unit=Unit.REQUESTS) for n in range(10)]
    with monkeypatch.context() as patched:
        patched.setattr(writer, "commit", fail)
        for half in (holds[:5], holds[5:]):  # the first half is being written, the second waits
            for hold in half:
                assert isinstance(await store.counters.reserve(hold.key, "edge", [hold], 0), Reserved)
            await settled(store)
        for _ in range(3):
            await settled(store)
        for hold in holds:
            assert isinstance(await store.counters.reserve("again", "edge", [hold], 0), Exhausted), hold.key
    await store.close()


async def test_108_in_memory_a_flood_resets_nobody(tmp_path: Path) -> None:
    clock = Clock()
    store = open_memory(clock, most_counters=ROOM)
    mine, friend = fixed(1, key="mine"), fixed(10, key="friend")
    for hold in (mine, friend):
        assert isinstance(await store.counters.reserve(hold.key, "edge", [hold], 0), Reserved)
    refused = 0
    for n in range(10 * ROOM):
        try:
            await store.counters.reserve(f"f{n}", "edge", [gcra(60, key=f"flood-{n}")], 0)
        except StoreUnavailable:
            refused += 1
        store.keep_up()
    assert refused == 10 * ROOM - (ROOM - 2)
    assert isinstance(await store.counters.reserve("a", "edge", [mine], 0), Exhausted)
    assert isinstance(await store.counters.reserve("b", "edge", [friend], 0), Reserved)
    clock.pass_(MINUTE)
    for _ in range(3):
        store.keep_up()
    assert isinstance(await store.counters.reserve("c", "edge", [gcra(60, key="new")], 0), Reserved)
    await store.close()


async def test_spent_counters_are_forgotten_everywhere(tmp_path: Path) -> None:
    clock = Clock()
    store = open_sqlite(tmp_path / "a.db", clock)
    for n in range(50):
        await store.counters.reserve(f"r{n}", "edge", [gcra(60, key=f"k{n}")], 0)
    await settled(store)
    assert (len(store._engine), len(store.registry.counter_levels())) == (50, 50)
    clock.pass_(MINUTE + GRACE)
    for _ in range(3):
        await settled(store)
    assert (len(store._engine), len(store.registry.counter_levels())) == (0, 0)
    await store.close()


def brief(now: int) -> Reservation:
    return Reservation(Phase.BRIEF, "edge", now, now + MINUTE, (), ())


def running(now: int) -> Reservation:
    return Reservation(Phase.OPEN, "edge", now, now + MINUTE, (), ())


def sweep_all(known: Reservations, now: int) -> None:
    while known.next_sweep <= now:
        known.sweep(now)


def test_one_sweep_ends_a_bounded_number() -> None:
    ended: list[str] = []
    known = Reservations(lambda name, made: ended.append(name))
    for n in range(3 * ENDED_AT_ONCE):
        known.add(f"r{n}", running(NOON))
    for times in (1, 2, 3):
        known.sweep(NOON + MINUTE + 100)
        assert len(ended) == times * ENDED_AT_ONCE


def test_the_collector_follows_no_counter_and_no_reservation() -> None:
    """Its pauses must not grow with what is remembered."""
    engine = Engine()
    kinds = [gcra(60), fixed(60), sliding(60), calendar(60, 1, NOON)]
    for n in range(3):
        engine.reserve(NOON + n, f"r{n}", "edge", kinds, MINUTE)
    gc.collect()
    gc.collect()
    for table in (engine.tables.counters._packed, engine.tables.held, engine.reservations._known):
        assert len(table) > 0
        assert not any(map(gc.is_tracked, table.shards))
    for _, made in engine.reservations.items():
        assert not any(map(gc.is_tracked, (made, made.holds, made.labels, *made.holds)))


@pytest.mark.parametrize("per_second", [100, 100_000])
def test_requests_alone_are_remembered_for_five_seconds_and_capped(per_second: int) -> None:
    known = Reservations(lambda name, made: None, most_brief=10_000)
    for n in range(3 * 50_000):
        now = NOON + n * 1000 // per_second
        known.sweep(now)
        known.add(f"r{n}", brief(now))
        assert len(known._known) <= min(10_000, per_second * (REPLAY + 200) // 1000 + 1)
    sweep_all(known, NOON + 3 * 50_000 * 1000 // per_second + REPLAY + 200)
    assert not known._known
    assert not known._due
    assert not known.has_changes, "they are never written"


def test_what_nobody_settles_is_capped_and_then_forgotten() -> None:
    ended: list[str] = []
    known = Reservations(lambda name, made: ended.append(name), most_late=100)
    for n in range(1000):
        known.add(f"r{n}", running(NOON))
    sweep_all(known, NOON + MINUTE + 100)
    assert len(ended) == 1000
    assert len(known._known) == 100
    sweep_all(known, NOON + 2 * MINUTE + LATE)
    assert not known._known
    assert not known._due


def test_settled_ids_are_capped() -> None:
    known = Reservations(lambda name, made: None, most_settled=1024)
    for n in range(5000):
        known.add(f"r{n}", running(NOON))
        known.settle(f"r{n}", NOON)
    assert known.was_settled("r4999")
    assert len(known._settled) <= 2048


def test_running_requests_have_a_cap_that_says_so() -> None:
    engine = Engine()
    engine.reservations._most_open = 3
    for n in range(3):
        assert isinstance(engine.reserve(NOON, f"r{n}", "edge", [slot(9)], MINUTE), Reserved)
    with pytest.raises(StoreUnavailable, match="as many requests are running"):
        engine.reserve(NOON, "r4", "edge", [slot(9)], MINUTE)
    assert engine.settle(NOON, "r0", "edge", {}).outcome is Outcome.SETTLED
    assert isinstance(engine.reserve(NOON, "r5", "edge", [slot(9)], MINUTE), Reserved)


async def test_what_one_sweep_leaves_is_ended_soon_after(monkeypatch: pytest.MonkeyPatch) -> None:
    """A backlog ends in steps between which others are served, not one step every 200 ms."""
    clock = Clock()
    store = open_memory(clock)
    for n in range(5 * ENDED_AT_ONCE):
        await store.counters.reserve(f"r{n}", "edge", [fixed(10_000, unit=Unit.TOKENS)], MINUTE, b"facts")
    clock.now += 2 * MINUTE
    loop = asyncio.get_running_loop()
    later: list[float] = []

    def at_once(delay: float, step: Callable[..., object], *arguments: Any) -> asyncio.Handle:
        later.append(delay)
        return loop.call_soon(step, *arguments)

    store._timer = loop.call_later(3600, print)  # it is started
    monkeypatch.setattr(type(store), "_schedule", lambda store, loop: None)
    monkeypatch.setattr(loop, "call_later", at_once)
    store._tick(loop)
    assert store.expired == 2 * ENDED_AT_ONCE
    while later and store.expired < 5 * ENDED_AT_ONCE:
        await asyncio.sleep(0)
    assert store.expired == 5 * ENDED_AT_ONCE
    assert max(later) < 0.05
    monkeypatch.undo()
    await store.close()
