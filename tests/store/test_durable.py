"""Waiting until a settlement is on the disk: it hurries the commit, and never waits for one that fails."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from authz.store import embedded, writer
from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store, open_view
from authz.store.protocols import StoreUnavailable
from authz.store.sqlite.commit import commit
from tests.contract.kit import Clock, facts, fixed, note, tokens


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite://{tmp_path}/a.db"


@pytest.fixture
async def store(url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[EmbeddedStore]:
    monkeypatch.setattr(embedded, "TICK_S", 3600)  # nothing but the waiting itself brings a commit about
    opened = open_store(url, clock=Clock())
    await opened.start()
    yield opened
    await opened.close()


async def end(store: EmbeddedStore, name: str) -> None:
    await store.counters.reserve(name, "edge", [fixed(10**6, 400)], 60_000, facts(f"req-{name}"))
    await store.counters.settle(name, "edge", tokens(100), note(100))


async def test_another_process_reads_what_was_waited_for(store: EmbeddedStore, url: str) -> None:
    view = open_view(url)
    await end(store, "a")
    assert view.ledger.entry("a") is None
    await asyncio.wait_for(store.ledger.durable(), 30)
    assert view.ledger.entry("a") is not None
    await view.ledger.durable()
    await view.close()


async def test_nothing_to_wait_for_is_no_wait(store: EmbeddedStore) -> None:
    await asyncio.wait_for(store.ledger.durable(), 30)
    waiting = store.ledger.durable()
    with pytest.raises(StopIteration):
        waiting.send(None)


async def test_many_share_a_commit_and_what_comes_meanwhile_the_next(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    commits = []

    def counted(*arguments: Any) -> None:
        commits.append(time.monotonic())
        time.sleep(0.05)  # long enough for the second half to come while it runs
        commit(*arguments)

    monkeypatch.setattr(writer, "commit", counted)
    await store.ledger.durable()
    commits.clear()

    async def one(n: int) -> None:
        await end(store, f"r{n}")
        await store.ledger.durable()
        assert store.ledger.entry(f"r{n}") is not None

    first = [asyncio.create_task(one(n)) for n in range(50)]
    while not commits:
        await asyncio.sleep(0.001)
    second = [asyncio.create_task(one(n)) for n in range(50, 100)]
    await asyncio.wait_for(asyncio.gather(*first, *second), 30)
    assert len(commits) == 2


async def test_a_commit_that_fails_is_told_and_tried_again(
    store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise StoreUnavailable("no space left for a.db; free some and try again")

    await end(store, "a")
    with monkeypatch.context() as patched:
        patched.setattr(writer, "commit", fail)
        for _ in range(2):
            with pytest.raises(StoreUnavailable, match="no space left"):
                await asyncio.wait_for(store.ledger.durable(), 30)
        assert store.trouble is not None
    await end(store, "b")
    await asyncio.wait_for(store.ledger.durable(), 30)
    assert store.trouble is None
    assert [each.reservation for each in store.ledger.entries()] == ["b", "a"]
    (sums,) = store.ledger.usage(since=0, until=10**13, by=())
    assert (sums.requests, sums.input_tokens) == (2, 200), "no entry twice"


async def test_who_left_is_not_missed(store: EmbeddedStore) -> None:
    await end(store, "a")
    leaving = asyncio.create_task(store.ledger.durable())
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.wait_for(store.ledger.durable(), 30)
    assert store.ledger.entry("a") is not None


async def test_closing_writes_what_is_waited_for(url: str) -> None:
    store = open_store(url, clock=Clock())
    await end(store, "a")
    waiting = asyncio.create_task(store.ledger.durable())
    await asyncio.sleep(0)
    await store.close()
    await asyncio.wait_for(waiting, 30)
    view = open_view(url)
    assert view.ledger.entry("a") is not None
    await view.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.ledger.durable()
