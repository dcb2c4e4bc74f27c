"""Python's cyclic collector: off for all that stays, on for the young, and a walk where much is left."""

import asyncio
import gc
from collections.abc import Iterator
from typing import Any

import pytest

from authz import collector
from authz.collector import Collector


@pytest.fixture(autouse=True)
def as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


class Ring:
    """Garbage that only the collector finds."""

    def __init__(self) -> None:
        self.itself = self


@pytest.fixture
def walks() -> Iterator[list[int]]:
    """The generations collected, as they are."""
    seen: list[int] = []

    def note(phase: str, info: dict[str, Any]) -> None:
        if phase == "stop":
            seen.append(info["generation"])

    gc.callbacks.append(note)
    yield seen
    gc.callbacks.remove(note)


async def test_the_young_are_collected_and_the_old_not_walked(walks: list[int]) -> None:
    usual = gc.get_threshold()
    running = Collector()
    running.start()
    walks.clear()
    kept = [[Ring()] for _ in range(20 * usual[0] * usual[1])]
    assert set(walks) == {0, 1}
    assert kept
    running.stop()
    assert gc.get_threshold() == usual


async def test_what_is_left_behind_is_found_where_it_is_much(
    walks: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(collector, "MOST_LEFT", 1_000)
    running = Collector()
    running.start()
    walks.clear()
    running.look()
    assert 2 not in walks, "there is little"
    kept: list[Any] = [Ring() for _ in range(2_000)]
    gc.collect(1)  # now they are old
    running.look()
    assert walks[-1] == 2
    assert kept
    running.stop()


async def test_it_looks_again_and_again_until_it_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collector, "LOOK_EVERY", 0)
    looked = asyncio.Event()
    running = Collector()
    running.start()
    first = running._timer
    asyncio.get_running_loop().call_later(0, looked.set)
    await asyncio.wait_for(looked.wait(), 30)
    async with asyncio.timeout(30):
        while running._timer is first:
            await asyncio.sleep(0)
    running.stop()
    assert running._timer is not None
    assert running._timer.cancelled()


async def test_what_a_reload_brings_is_not_walked_either() -> None:
    running = Collector()
    running.start()
    frozen, brought = gc.get_freeze_count(), [[] for _ in range(1_000)]
    running.loaded()
    assert gc.get_freeze_count() >= frozen + len(brought)
    running.stop()
