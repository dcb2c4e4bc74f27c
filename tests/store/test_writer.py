"""When the store's thread is woken: whoever decides at that moment waits for it."""

import os
import sys
from collections.abc import Callable

import pytest

from authz.store.aside import NICENESS, thread_aside
from authz.store.embedded import TICK_S, EmbeddedStore
from authz.store.memory import open_memory
from authz.store.records import Key
from authz.store.writer import USED_MS
from tests.support.lab import FakeClock

KEY = Key(id="key_1", digest=b"\xff" * 32, display="sk-az-1...", user="alice", created_at=0)


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def store(clock: FakeClock) -> EmbeddedStore:
    store = open_memory(clock)
    store.registry.add_key(KEY)
    return store


def rounds(store: EmbeddedStore, clock: FakeClock, seconds: float, before: Callable[[], None]) -> int:
    """How many rounds of upkeep there were in which the thread was woken."""
    woken = 0
    for _ in range(round(seconds / TICK_S)):
        clock.advance(TICK_S)
        before()
        store.keep_up()
        woken += store._writer._writing is not None
        store.wait_for_writer()
    return woken


def test_nothing_to_write_wakes_nobody(store: EmbeddedStore, clock: FakeClock) -> None:
    rounds(store, clock, 1, lambda: None)  # the trim at the start
    assert rounds(store, clock, 20, lambda: None) == 0


def test_that_a_key_is_in_use_is_written_every_few_seconds(store: EmbeddedStore, clock: FakeClock) -> None:
    rounds(store, clock, 1, lambda: None)
    woken = rounds(store, clock, 20, lambda: store.directory.used("key_1", clock()))
    assert woken <= 20_000 / USED_MS + 1
    last_used = store.registry.find_key("key_1").last_used_at
    assert last_used is not None
    assert clock() - last_used <= USED_MS


async def test_closing_writes_the_rest(store: EmbeddedStore, clock: FakeClock) -> None:
    store.keep_up()
    store.wait_for_writer()
    store.directory.used("key_1", clock())
    assert store._writer.finish()
    assert store.registry.find_key("key_1").last_used_at == clock()


def test_the_writer_gives_way_to_who_decides() -> None:
    own = os.getpriority(os.PRIO_PROCESS, 0)
    with thread_aside("test") as thread:
        there = thread.submit(lambda: os.getpriority(os.PRIO_PROCESS, 0)).result()
    has_its_own = sys.platform == "linux"
    assert there == (min(19, own + NICENESS) if has_its_own else own)
    assert os.getpriority(os.PRIO_PROCESS, 0) == own
