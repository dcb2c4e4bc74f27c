"""Changes written ahead: torn tails, stale turns, growth, a full disk."""

import errno
import os
from pathlib import Path

import pytest

from authz.quota import Unit
from authz.store import journal, writer
from authz.store.embedded import EmbeddedStore
from authz.store.journal import Journal
from authz.store.open import open_store
from authz.store.protocols import Outcome, Reserved, StoreUnavailable
from tests.contract.kit import Clock, fixed, gcra, settle, settled, slot
from tests.store.crashing import crash

IDENTITY = b"identity"
PAYLOADS = [f"change number {n}".encode() for n in range(10)]


def reread(base: Path, committed: int = 0, identity: bytes = IDENTITY) -> list[bytes]:
    opened = Journal(base, identity, committed)
    try:
        return list(opened.recover())
    finally:
        opened.close(clean=False)


def written(base: Path, payloads: list[bytes], committed: int = 0) -> Path:
    opened = Journal(base, IDENTITY, committed)
    opened.begin(committed)
    for payload in payloads:
        opened.append(payload)
    opened.close(clean=False)
    return base.with_name(f"{base.name}-counters.0")


def test_what_was_written_is_read_back(tmp_path: Path) -> None:
    written(tmp_path / "x", PAYLOADS)
    assert reread(tmp_path / "x") == PAYLOADS
    assert reread(tmp_path / "x", committed=1) == []


@pytest.mark.parametrize("cut", range(1, len(PAYLOADS[-1]) + 8))
def test_a_torn_tail_is_ignored(tmp_path: Path, cut: int) -> None:
    """However much of the last record is missing, the ones before it count."""
    file = written(tmp_path / "x", PAYLOADS)
    content = bytearray(file.read_bytes())
    end = content.index(PAYLOADS[-1]) + len(PAYLOADS[-1])
    content[end - cut : end] = bytes(cut)
    file.write_bytes(content)
    assert reread(tmp_path / "x") == PAYLOADS[:-1]


@pytest.mark.parametrize("position", [0, 8, 15, 16, 19])
def test_a_torn_header_means_an_empty_segment(tmp_path: Path, position: int) -> None:
    file = written(tmp_path / "x", PAYLOADS)
    content = bytearray(file.read_bytes())
    content[position] ^= 0xFF
    file.write_bytes(content)
    assert reread(tmp_path / "x") == []


def test_nothing_after_a_damaged_record_counts(tmp_path: Path) -> None:
    file = written(tmp_path / "x", PAYLOADS)
    content = bytearray(file.read_bytes())
    content[content.index(PAYLOADS[4])] ^= 1
    file.write_bytes(content)
    assert reread(tmp_path / "x") == PAYLOADS[:4]


def test_another_databases_journal_does_not_count(tmp_path: Path) -> None:
    written(tmp_path / "x", PAYLOADS)
    assert reread(tmp_path / "x", identity=b"stranger") == []


def test_an_earlier_turn_in_the_same_file_does_not_count(tmp_path: Path) -> None:
    written(tmp_path / "x", PAYLOADS)
    written(tmp_path / "x", PAYLOADS[:3], committed=1)
    assert reread(tmp_path / "x", committed=1) == PAYLOADS[:3]


def test_both_segments_are_read_in_order(tmp_path: Path) -> None:
    opened = Journal(tmp_path / "x", IDENTITY, 0)
    opened.begin(0)
    opened.append(b"one")
    assert opened.may_flip
    assert opened.flip() == 1
    opened.append(b"two")
    assert not opened.may_flip, "what the other segment holds is not safe yet"
    opened.close(clean=False)
    assert reread(tmp_path / "x") == [b"one", b"two"]
    assert reread(tmp_path / "x", committed=1) == [b"two"]


def test_a_segment_grows(tmp_path: Path) -> None:
    big = [bytes([n + 1]) * (1 << 20) for n in range(9)]
    file = written(tmp_path / "x", big)
    assert file.stat().st_size > 2 * journal.SEGMENT
    assert reread(tmp_path / "x") == big


def full_disk(descriptor: int, offset: int, length: int) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_is_met_before_the_mapping_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = Journal(tmp_path / "x", IDENTITY, 0)
    opened.begin(0)
    opened.append(b"small")
    with monkeypatch.context() as patched:
        patched.setattr(os, "posix_fallocate", full_disk)
        with pytest.raises(StoreUnavailable, match="no space left"):
            opened.append(bytes(journal.SEGMENT))
    opened.append(b"small too")
    opened.close(clean=False)
    assert reread(tmp_path / "x") == [b"small", b"small too"]


async def left(store: EmbeddedStore, key: str = "f") -> int:
    answer = await store.counters.peek([fixed(1000, 0, key=key)])
    assert isinstance(answer, Reserved)
    return answer.levels[0].remaining


@pytest.mark.parametrize("upkeep_after", [None, 0, 3, 7], ids=str)
async def test_counters_and_open_reservations_outlive_the_process(
    tmp_path: Path, upkeep_after: int | None
) -> None:
    """Whether the changes were committed, are in one segment or in both."""
    url, clock = f"sqlite://{tmp_path}/a.db", Clock()
    store = open_store(url, clock=clock)
    for n in range(10):
        holds = [gcra(60), fixed(1000, 40), slot(12)]
        assert isinstance(await store.counters.reserve(f"r{n}", "edge", holds, 60_000), Reserved)
        if n == upkeep_after:
            await settled(store)
    assert await settle(store, "r0", "edge", {Unit.TOKENS: 10}) is Outcome.SETTLED
    crash(store)

    store = open_store(url, clock=clock)
    answer = await store.counters.peek([gcra(60, 0), fixed(1000, 0), fixed(9, 0, key="other")])
    assert [level.remaining for level in answer.levels] == [50, 630, 9]
    assert answer.levels[1].held == 360
    slots = await store.counters.peek([slot(12)])
    assert slots.levels[0].held == 9
    assert await settle(store, "r0", "edge", {Unit.TOKENS: 0}) is Outcome.ALREADY, "settled before the end"
    assert await settle(store, "r9", "edge", {Unit.TOKENS: 0}) is Outcome.SETTLED
    assert await left(store) == 670
    await store.close()

    store = open_store(url, clock=clock)
    assert await left(store) == 670
    await store.close()


async def test_a_commit_that_fails_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url, clock = f"sqlite://{tmp_path}/a.db", Clock()
    store = open_store(url, clock=clock)
    await store.counters.reserve("a", "edge", [fixed(1000, 100)], 60_000)

    def fail(*_: object) -> None:
        raise StoreUnavailable("no space left for a.db; free some and try again")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "commit", fail)
        await settled(store)
        await store.counters.reserve("b", "edge", [fixed(1000, 100)], 60_000)
        await settled(store)
        assert store.trouble is not None
        assert "no space left" in store.trouble
        crashed_here = await left(store)
    assert crashed_here == 800
    await settled(store)
    await settled(store)
    assert store.trouble is None
    crash(store)
    store = open_store(url, clock=clock)
    assert await left(store) == 800
    await store.close()


async def test_changes_that_never_get_committed_are_still_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url, clock = f"sqlite://{tmp_path}/a.db", Clock()
    store = open_store(url, clock=clock)

    def fail(*_: object) -> None:
        raise StoreUnavailable("no space left for a.db; free some and try again")

    with monkeypatch.context() as patched:
        patched.setattr(writer, "commit", fail)
        for name in ("a", "b", "c"):
            await store.counters.reserve(name, "edge", [fixed(1000, 100)], 60_000)
            await settled(store)
        await store.close()
    store = open_store(url, clock=clock)
    assert await left(store) == 700
    await store.close()


async def test_a_change_that_cannot_be_written_ahead_is_refused_and_not_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = open_store(f"sqlite://{tmp_path}/a.db", clock=Clock())
    monkeypatch.setattr(journal, "LARGEST", journal.SEGMENT)
    admitted, refusal = 0, ""
    while not refusal:
        try:
            await store.counters.reserve("x" * 2000 + str(admitted), "edge", [fixed(10**6)], 60_000)
            admitted += 1
        except StoreUnavailable as error:
            refusal = str(error)
    assert "wait in" in refusal
    answer = await store.counters.peek([fixed(10**6, 0)])
    assert answer.levels[0].remaining == 10**6 - admitted
    await settled(store)
    assert isinstance(await store.counters.reserve("again", "edge", [fixed(10**6)], 60_000), Reserved)
    await store.close()


async def test_after_closing_nothing_is_counted(tmp_path: Path) -> None:
    store = open_store(f"sqlite://{tmp_path}/a.db", clock=Clock())
    await store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.counters.reserve("a", "edge", [gcra(60)], 60_000)
