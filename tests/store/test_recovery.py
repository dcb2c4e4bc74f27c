"""Wherever the process ends, counters and ledger are afterwards as if it had not: nothing lost, nothing twice."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from authz.quota import Unit
from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store
from authz.store.protocols import Outcome, Reserved
from authz.store.records import Source
from tests.contract.kit import DAY, MINUTE, Clock, facts, fixed, note, settled, slot, tokens
from tests.store.crashing import WAYS, crash_and_recover

HOLDS = [
    fixed(10_000, 400, window=10 * DAY),
    fixed(100, 1, key="requests", unit=Unit.REQUESTS, window=DAY),
    slot(9),
]


async def reserve(store: EmbeddedStore, name: str, ttl: int) -> None:
    answer = await store.counters.reserve(name, "edge", HOLDS, ttl, facts(f"req-{name}"))
    assert isinstance(answer, Reserved)
    assert not answer.replay


async def settle(store: EmbeddedStore, name: str, used: int, outcome: Outcome) -> None:
    told = note(used, source=Source.REPORTED if used else Source.RELEASED)
    assert (await store.counters.settle(name, "edge", tokens(used), told)).outcome is outcome


async def extend(store: EmbeddedStore, name: str) -> None:
    assert await store.counters.extend(name, "edge", 10 * MINUTE, DAY)


async def look(store: EmbeddedStore) -> None:
    store._engine.sweep(store._clock())


Step = tuple[int, Callable[[EmbeddedStore], Awaitable[None]]]

STEPS: list[Step] = [  # milliseconds that pass before it, and what is done
    (0, lambda store: reserve(store, "reported", MINUTE)),
    (1, lambda store: reserve(store, "late", MINUTE)),
    (1, lambda store: reserve(store, "lost", MINUTE)),
    (1, lambda store: reserve(store, "extended", MINUTE)),
    (1, lambda store: settle(store, "reported", 100, Outcome.SETTLED)),
    (1, lambda store: extend(store, "extended")),
    (2 * MINUTE, look),
    (1, lambda store: settle(store, "late", 500, Outcome.CORRECTED)),
    (1, lambda store: reserve(store, "unseen", 10)),
    (10, lambda store: settle(store, "unseen", 300, Outcome.CORRECTED)),
    (1, lambda store: settle(store, "extended", 0, Outcome.SETTLED)),
]
USED = 100 + 500 + 400 + 300
LEDGER = {
    "reported": (Source.REPORTED, 100),
    "late": (Source.CORRECTED, 500),
    "lost": (Source.EXPIRED, 400),
    "extended": (Source.RELEASED, 0),
    "unseen": (Source.CORRECTED, 300),
}


async def check(store: EmbeddedStore) -> None:
    await settled(store)
    found = store.ledger.entries()
    assert len(found) == len(LEDGER)
    assert {
        each.reservation: (each.note.source, each.note.usage.input + each.note.usage.output) for each in found
    } == LEDGER
    (sums,) = store.ledger.usage(since=0, until=10**13, by=())
    assert (sums.requests, sums.input_tokens + sums.output_tokens) == (len(LEDGER), USED)
    answer = await store.counters.peek([fixed(10_000, 0, window=10 * DAY), *HOLDS[1:]])
    assert isinstance(answer, Reserved)
    assert [level.remaining for level in answer.levels] == [10_000 - USED, 100 - len(LEDGER) - 1, 8]
    assert [level.held for level in answer.levels] == [0, 0, 0]


async def run(url: str, way: str, ends_after: int, committed_after: int | None) -> None:
    clock = Clock()
    store = open_store(url, clock=clock)
    for number, (passing, step) in enumerate(STEPS):
        clock.pass_(passing)
        await step(store)
        if number == committed_after:
            await settled(store)
        if number == ends_after:
            store = crash_and_recover(store, url, clock, way)
    await check(store)
    store = crash_and_recover(store, url, clock, way)
    await check(store)
    await store.close()


@pytest.mark.parametrize("ends_after", range(len(STEPS)))
@pytest.mark.parametrize("way", WAYS)
async def test_wherever_the_process_ends(tmp_path: Path, way: str, ends_after: int) -> None:
    """With nothing committed before, with a commit half way, and with one just before."""
    for committed_after in {None, ends_after // 2, ends_after}:
        await run(f"sqlite://{tmp_path}/{committed_after}.db", way, ends_after, committed_after)


async def test_107_a_slot_that_was_over_does_not_come_back_with_the_process(tmp_path: Path) -> None:
    url, clock = f"sqlite://{tmp_path}/a.db", Clock()
    store = open_store(url, clock=clock)
    assert isinstance(await store.counters.reserve("a", "edge", [slot(1)], 10, facts()), Reserved)
    clock.pass_(10)
    assert isinstance(await store.counters.reserve("b", "edge", [slot(1)], MINUTE, facts()), Reserved)
    await settled(store)
    store = crash_and_recover(store, url, clock, WAYS[0])
    clock.pass_(-5)
    assert not await store.counters.extend("a", "edge", MINUTE, DAY)
    assert await store.counters.extend("b", "edge", MINUTE, DAY)
    await store.close()


async def test_without_an_end_it_is_the_same(tmp_path: Path) -> None:
    await run(f"sqlite://{tmp_path}/a.db", WAYS[0], -1, None)


async def test_attempts_under_one_id_are_told_apart_over_a_restart_at_one_moment(tmp_path: Path) -> None:
    """The clock stepped back by just as much as passed: an attempt of before is not taken for this one."""
    url, clock = f"sqlite://{tmp_path}/a.db", Clock()
    store = open_store(url, clock=clock)
    await reserve(store, "a", MINUTE)
    clock.pass_(2 * MINUTE)
    await reserve(store, "a", MINUTE)
    await settled(store)
    store = crash_and_recover(store, url, clock, WAYS[0])
    await reserve(store, "a", MINUTE)
    clock.pass_(2 * MINUTE)
    await settled(store)
    entries = store.ledger.entries()
    assert len(entries) == 3
    assert len({entry.reservation for entry in entries}) == 3
    await store.close()
