"""What replicas of an older version send, and sent once: holds that end before the newer fields."""

from typing import Any

import msgspec
import pytest

from authz.store.protocols import Exhausted, Hold, Outcome, Reserved
from authz.store.redis import calls
from authz.store.redis.counters import RedisCounters
from tests.contract.kit import HOUR, MINUTE, Clock, slot, tokens
from tests.redis.direct import DirectLink, at_once
from tests.redis.scripts_kit import HOLDS, left, reserve, settle, undo

LENGTH = Hold.__struct_fields__.index("owed")


@pytest.fixture
def older(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Until it is undone, holds are sent without what came after."""
    encode = msgspec.msgpack.Encoder().encode

    def shorter(value: Any) -> bytes:
        if isinstance(value, dict):
            return encode(value)
        return encode([[*msgspec.structs.astuple(hold)][:LENGTH] for hold in value])

    monkeypatch.setattr(calls, "_encode", shorter)
    return monkeypatch


def test_they_are_admitted_and_refused(older: pytest.MonkeyPatch, counters: RedisCounters) -> None:
    for name in ("a", "b"):
        assert isinstance(reserve(counters, name, *HOLDS), Reserved)
    refused = reserve(counters, "c", *HOLDS)
    assert isinstance(refused, Exhausted)
    assert refused.denied == (1, 2, 3)
    assert [level.remaining for level in refused.levels] == [58, 200, 200, 0]
    assert reserve(counters, "d", slot(0)).wait_ms == -1
    assert left(counters, *HOLDS) == [58, 200, 200, 0]


def test_whoever_is_newer_ends_them(
    older: pytest.MonkeyPatch, link: DirectLink, counters: RedisCounters, clock: Clock
) -> None:
    reserve(counters, "told", *HOLDS)
    reserve(counters, "taken-back", *HOLDS[:3], ttl=HOUR)
    older.undo()
    assert undo(link) == 1
    done = at_once(counters.settle("told", "edge", tokens(100)))
    assert (done.outcome, done.holds) == (Outcome.SETTLED, HOLDS[:3])
    assert [level.remaining for level in done.levels] == [59, 900, 900]


def test_they_expire_and_carry_their_debt(
    older: pytest.MonkeyPatch, counters: RedisCounters, clock: Clock
) -> None:
    reserve(counters, "a", *HOLDS)
    older.undo()
    clock.pass_(MINUTE)
    assert settle(counters, "a", tokens=2400) is Outcome.CORRECTED
    assert left(counters, *HOLDS) == [60, 0, 0, 2]
    clock.pass_(MINUTE)
    assert left(counters, HOLDS[1]) == [0]
