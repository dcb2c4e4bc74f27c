"""What is done to the scripts, in few words."""

from typing import Any

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Outcome, Reserved
from authz.store.redis import names
from authz.store.redis.counters import RedisCounters
from tests.contract.kit import MINUTE, fixed, gcra, note, sliding, slot
from tests.redis.direct import DirectLink, at_once
from tests.redis.twins import awaited, closed_of

HOLDS = (gcra(60), fixed(1000, 400), sliding(1000, 400), slot(2))


def reserve(
    counters: RedisCounters, name: str, *holds: Hold, ttl: int = MINUTE, known: bytes = b"facts"
) -> Reserved | Exhausted:
    answer: Reserved | Exhausted = at_once(counters.reserve(name, "edge", holds, ttl, known))
    return answer


def left(counters: RedisCounters, *holds: Hold) -> list[int]:
    bare = [
        Hold(hold.key, hold.kind, hold.unit, hold.quota, 0, hold.window, hold.rate, hold.bounds)
        for hold in holds
    ]
    answer = at_once(counters.peek(bare))
    return [level.remaining for level in answer.levels]


def settle(counters: RedisCounters, name: str, **used: int) -> Outcome:
    actual = {Unit(unit): amount for unit, amount in used.items()}
    outcome: Outcome = at_once(counters.settle(name, "edge", actual, note())).outcome
    return outcome


def undo(link: DirectLink) -> Any:
    (last,) = link.undos
    return at_once(awaited(link.run(last.script, last.keys, last.args)))


def ended(link: DirectLink) -> list[Any]:
    return [closed_of(fields[1]) for _, fields in link.command("XRANGE", names.closed("0"), "-", "+").value]
