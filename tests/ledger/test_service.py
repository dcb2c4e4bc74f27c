"""What the service settles is in the ledger of a command one round of upkeep later."""

from pathlib import Path

import msgspec
import pytest

from authz.quota import Unit
from authz.store.embedded import TICK_S
from authz.store.open import open_store, open_view
from authz.store.protocols import Outcome, Reserved
from authz.store.records import Facts, Note, Source
from authz.usage import Usage
from tests.contract.kit import Clock, fixed, settled

FACTS = msgspec.msgpack.encode(
    Facts(request_id="req_1", user="alice", team="nlp", model="llama3", hold=Usage(50, 100), hold_cost=7)
)


async def test_a_command_sees_a_request_within_a_second_of_its_settlement(tmp_path: Path) -> None:
    """A round of upkeep comes every TICK_S seconds; one that is slow leaves four more."""
    assert TICK_S <= 0.2
    clock, url = Clock(), f"sqlite://{tmp_path}/authz.db"
    service, command = open_store(url, clock=clock), open_view(url, clock=clock)
    reserved = await service.counters.reserve("rsv_1", "edge", [fixed(1000, 150)], 60_000, FACTS)
    assert isinstance(reserved, Reserved)
    await settled(service)
    assert command.ledger.usage(since=0, until=clock.now + 1, by=["user"]) == []
    note = Note(usage=Usage(12, 30, 2, 5), cost=3, source=Source.REPORTED, status=200)
    outcome = await service.counters.settle("rsv_1", "edge", {Unit.TOKENS: 42}, msgspec.msgpack.encode(note))
    assert outcome.outcome is Outcome.SETTLED
    service.keep_up()
    service.wait_for_writer()
    (row,) = command.ledger.usage(since=0, until=clock.now + 1, by=["user", "model", "source"])
    assert row.group == {"user": "alice", "model": "llama3", "source": "reported"}
    assert (row.requests, row.input_tokens, row.output_tokens, row.cost) == (1, 12, 30, 3)
    entry = command.ledger.entry("req_1")
    assert entry is not None
    assert (entry.reservation, entry.note, entry.at) == ("rsv_1", note, clock.now)
    await service.close()
    await command.close()


@pytest.mark.parametrize("late", [False, True], ids=["never told", "told late"])
async def test_what_nobody_tells_is_charged_as_held_and_put_right_once(tmp_path: Path, late: bool) -> None:
    clock, url = Clock(), f"sqlite://{tmp_path}/authz.db"
    service, command = open_store(url, clock=clock), open_view(url, clock=clock)
    await service.counters.reserve("rsv_1", "edge", [fixed(1000, 150)], 60_000, FACTS)
    clock.pass_(61_000)
    await settled(service)
    (row,) = command.ledger.usage(since=0, until=clock.now + 1, by=["source"])
    assert (row.group["source"], row.input_tokens, row.output_tokens, row.cost) == ("expired", 50, 100, 7)
    assert (row.estimated_input_tokens, row.estimated_output_tokens) == (50, 100)
    if late:
        note = msgspec.msgpack.encode(Note(usage=Usage(12, 30), cost=3, source=Source.CORRECTED))
        for expected in (Outcome.CORRECTED, Outcome.ALREADY):
            told = await service.counters.settle("rsv_1", "edge", {Unit.TOKENS: 42}, note)
            assert told.outcome is expected
        await settled(service)
        (row,) = command.ledger.usage(since=0, until=clock.now + 1, by=["source"])
        assert (row.group["source"], row.requests, row.input_tokens) == ("corrected", 1, 12)
        assert row.estimated_input_tokens == 0
    await service.close()
    await command.close()


async def test_the_days_are_those_of_the_zone_that_the_store_is_opened_with(tmp_path: Path) -> None:
    clock, url = Clock(), f"sqlite://{tmp_path}/authz.db"  # midnight in UTC
    for zone, day in (("UTC", "2023-11-15"), ("America/New_York", "2023-11-14")):
        service = open_store(url, clock=clock, timezone=zone)
        await service.counters.reserve(f"rsv_{zone}", "edge", [], 60_000, FACTS)
        clock.pass_(61_000)
        await settled(service)
        rows = service.ledger.usage(since=0, until=clock.now + 1, by=["day"])
        assert {row.group["day"] for row in rows} == {day}
        await service.close()
    assert [row.requests for row in rows] == [2]


async def test_single_entries_go_after_their_time_and_their_sums_stay(tmp_path: Path) -> None:
    clock = Clock()
    service = open_store(f"sqlite://{tmp_path}/authz.db", clock=clock)
    service.keep_ledger(7 * 86_400_000)
    await service.counters.reserve("rsv_1", "edge", [], 60_000, FACTS)
    begin = clock.now
    clock.pass_(61_000)
    await settled(service)
    assert len(service.ledger.entries()) == 1
    clock.pass_(8 * 86_400_000)
    await settled(service)
    assert service.ledger.entries() == []
    (row,) = service.ledger.usage(since=begin, until=clock.now, by=["user"])
    assert row.requests == 1
    await service.close()
