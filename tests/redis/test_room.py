"""How many counters there may be in Redis: who makes up one after another uses up no one else's room (attack 108)."""

import pytest

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Reserved, StoreUnavailable, StoreUnusable
from authz.store.redis.counters import RedisCounters
from authz.store.redis.target import Target
from tests.contract.kit import DAY, MINUTE, Clock, facts, fixed, gcra, slot, tokens
from tests.redis.direct import DirectLink

ROOM = 40


@pytest.fixture
def few(link: DirectLink, clock: Clock) -> RedisCounters:
    return RedisCounters(link, clock, most_counters=ROOM)


def mine(key: str = "mine", **more: object) -> Hold:
    return fixed(2, key=key, window=DAY, unit=Unit.REQUESTS, owner="user:alice", **more)


async def flood(counters: RedisCounters, kind: str, owner: str = "") -> int:
    """Ask by one counter after another until one is refused; how many were let through."""
    for number in range(10 * ROOM):
        key = f"{kind}-{number}"
        made = {
            "gcra": gcra(60, key=key, owner=owner),
            "fixed": fixed(60, key=key, owner=owner),
            "slots": slot(5, key=key, owner=owner),
        }[kind]
        try:
            await counters.reserve(f"r-{key}", "edge", [made], 60_000 if kind == "slots" else 0)
        except StoreUnavailable:
            return number
    raise AssertionError("nothing bounds it")


@pytest.mark.parametrize("kind", ["gcra", "fixed", "slots"])
async def test_108_a_flood_of_nobodys_counters_ends(
    few: RedisCounters, link: DirectLink, clock: Clock, kind: str
) -> None:
    assert isinstance(await few.reserve("first", "edge", [mine()], 0), Reserved)
    assert 0 < await flood(few, kind) <= ROOM // 2
    known = mine()
    assert isinstance(await few.reserve("second", "edge", [known], 0), Reserved), "what is there counts on"
    assert isinstance(await few.reserve("third", "edge", [known], 0), Exhausted), "and is not forgotten"
    assert isinstance(await few.reserve("bob", "edge", [mine("bobs")], 0), Reserved), (
        "room for who is somebody"
    )


async def test_108_of_somebodys_counters_too(few: RedisCounters) -> None:
    assert await flood(few, "gcra", owner="user:mallory") == ROOM


async def test_what_is_refused_for_want_of_room_charges_nothing(few: RedisCounters) -> None:
    await flood(few, "gcra")
    known, fresh = mine(), gcra(5, key="fresh")
    await few.reserve("first", "edge", [known], 0)
    with pytest.raises(StoreUnavailable, match=r"\?most_counters="):
        await few.reserve("second", "edge", [known, fresh], 60_000, facts())
    peeked = await few.peek([mine(), fresh])
    assert isinstance(peeked, Reserved)
    assert [level.remaining for level in peeked.levels] == [0, 4], "each as if one were taken now"


async def test_settlements_find_their_counters_all_the_same(few: RedisCounters, clock: Clock) -> None:
    """The window that is charged for what came late is a counter that is there, or is made."""
    hold = fixed(1000, 10, key="mine", owner="user:alice", unit=Unit.TOKENS)
    await few.reserve("r", "edge", [hold], 10 * MINUTE, facts())
    await flood(few, "gcra")
    clock.pass_(2 * MINUTE)
    settled = await few.settle("r", "edge", tokens(30))
    assert [each.remaining for each in settled.levels] == [980]


async def test_there_is_room_again_when_counters_are_over(few: RedisCounters, link: DirectLink) -> None:
    at = await flood(few, "gcra")
    for name in (f"az:{{0}}:c:gcra-{number}" for number in range(at)):
        assert link.connection.send_command("DEL", name) is None
        link.connection.read_response()
    assert await flood(few, "fixed") > 0


def test_the_url_says_how_many() -> None:
    assert Target.parse("redis://h?most_counters=1000").most_counters == 1000
    assert Target.parse("redis://h").most_counters == 5_000_000
    for wrong in ("many", "0", "-1", "9999999999"):
        with pytest.raises(StoreUnusable, match="most_counters"):
            Target.parse(f"redis://h?most_counters={wrong}")
