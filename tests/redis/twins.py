"""The engine and the scripts side by side: each step is done to both, and both must say and hold the same."""

from collections import Counter
from collections.abc import Mapping, Sequence
from math import gcd
from typing import Any

import msgspec

from authz.quota import MAX_AMOUNT, Unit
from authz.recent import SHARDS
from authz.store.closed import Closed
from authz.store.engine import Engine
from authz.store.protocols import Exhausted, Hold, Kind, Level, Reserved, Settled, StoreUnavailable
from authz.store.redis import names
from authz.store.redis.counters import RedisCounters
from authz.store.redis.standing import decode_counter
from authz.store.reservations import SETTLED
from tests.contract.kit import Clock
from tests.redis.direct import DirectLink, at_once

SHARD = "0"


def closed_of(encoded: bytes) -> Closed:
    return Closed(*msgspec.msgpack.decode(encoded))


class Twins:
    """`step` through both by one clock. Nothing is forgotten by time of the wall: keys lose their TTL at once."""

    def __init__(self, link: DirectLink, clock: Clock) -> None:
        self.link, self.clock = link, clock
        link.keep_all = True
        self.engine = Engine()
        self.redis = RedisCounters(link, clock)
        self.settled_until: dict[str, int] = {}
        self.ids: set[str] = set()
        self.read_to = "-"
        self.rough: set[str] = set()  # counters that went beyond what a double tells exactly
        self.steps = 0
        self.answers: Counter[str] = Counter()

    # -- the steps ---------------------------------------------------------------------------------

    def reserve(
        self, name: str, gateway: str, holds: Sequence[Hold], ttl: int, facts: bytes
    ) -> Reserved | Exhausted | str:
        self.prepare()
        self.ids.add(name)
        theirs = _said(lambda: self.engine.reserve(self.clock(), name, gateway, holds, ttl, facts))
        ours = _said(lambda: at_once(self.redis.reserve(name, gateway, holds, ttl, facts)))
        self.compare(theirs, ours, holds)
        self.finish()
        return theirs

    def peek(self, holds: Sequence[Hold]) -> None:
        self.prepare()
        theirs = _said(lambda: self.engine.peek(self.clock(), holds))
        self.compare(theirs, _said(lambda: at_once(self.redis.peek(holds))), holds)
        self.finish()

    def find(self, name: str, gateway: str) -> None:
        self.prepare()
        theirs = self.engine.find(self.clock(), name, gateway)
        assert theirs == at_once(self.redis.find(name, gateway))
        self.finish()

    def settle(self, name: str, gateway: str, actual: Mapping[Unit, int], note: bytes) -> Settled:
        self.prepare()
        theirs = self.engine.settle(self.clock(), name, gateway, actual, note)
        ours = at_once(self.redis.settle(name, gateway, actual, note))
        if theirs.outcome in ("settled", "corrected"):
            self.settled_until[name] = self.clock() + SETTLED
        self.mark_rough(theirs.holds)
        assert (theirs.outcome, theirs.holds) == (ours.outcome, ours.holds)
        self.compare_levels(theirs.holds, theirs.levels, ours.levels)
        self.answers[theirs.outcome.value] += 1
        self.finish()
        return theirs

    def extend(self, name: str, gateway: str, ttl: int, life: int) -> None:
        self.prepare()
        theirs = self.engine.extend(self.clock(), name, gateway, ttl, life)
        assert theirs == at_once(self.redis.extend(name, gateway, ttl, life))
        self.answers[f"extended {theirs}"] += 1
        self.finish()

    def cancel(self, name: str) -> None:
        """What the last reservation of Redis was, taken back; to the engine it is a release that nobody enters."""
        self.prepare()
        (undo,) = self.link.undos
        known = self.engine.reservations.get(name)
        assert known is not None
        assert at_once(awaited(self.link.run(undo.script, undo.keys, undo.args))) == 1
        self.engine.settle(self.clock(), name, known.gateway, dict.fromkeys(Unit, 0))
        self.forget_settled(name)
        if known.facts:
            self.engine.take_closed()
        assert at_once(awaited(self.link.run(undo.script, undo.keys, undo.args))) == 0, "it is gone"
        self.finish()

    # -- what both forget, and what they hold --------------------------------------------------------

    def prepare(self) -> None:
        """End what is over, as the engine does before an admission."""
        self.steps += 1
        now = self.clock()
        self.engine.sweep(now)
        while at_once(awaited(self.redis.calls.sweep(SHARD, 100, 0)))[0] == 100:
            pass
        for name, until in list(self.settled_until.items()):
            if now >= until:  # the engine remembers it for up to twice as long
                assert at_once(self.redis.find(name, "edge")) == "unknown"
                self.forget_settled(name)
                self.link.command("DEL", names.reservation(SHARD, name))
        for name in list(self.ids):
            known = self.engine.reservations
            if known.get(name) is None and not known.was_settled(name):
                assert at_once(self.redis.find(name, "edge")) == "unknown"
                self.link.command("DEL", names.reservation(SHARD, name))
                self.ids.discard(name)

    def forget_settled(self, name: str) -> None:
        self.settled_until.pop(name, None)
        self.engine.reservations._settled._shards[hash(name) % SHARDS].forget(name)

    def finish(self) -> None:
        ended = Counter(_plain(closed) for closed in self.engine.take_closed())
        assert ended == Counter(_plain(closed) for closed in self.take_closed())
        self.compare_states()

    def take_closed(self) -> list[Closed]:
        entries = self.link.command("XRANGE", names.closed(SHARD), self.read_to, "+").value
        if entries:
            self.read_to = "(" + entries[-1][0].decode()
        return [closed_of(fields[1]) for _, fields in entries]

    def compare_states(self) -> None:
        ours = dict(self.engine.tables.counters.items())
        keys = list(ours)
        if not keys:
            return
        found = self.link.command("MGET", *[names.counter(SHARD, key) for key in keys]).value
        for key, raw in zip(keys, found, strict=True):
            state, mark, held = decode_counter(raw)
            if key in self.rough:
                continue
            assert state == ours[key]
            theirs = self.engine.tables.held.get(key)
            assert (theirs or (mark, 0)) == (mark, held), key

    # -- answers -----------------------------------------------------------------------------------

    def mark_rough(self, holds: Sequence[Hold]) -> None:
        """Redis stops at 2^53 - 1 parts; of running holds it tells no more than MAX_AMOUNT exactly."""
        for hold in holds:
            state = self.engine.tables.counters.get(hold.key) or (None,)
            most = (self.engine.tables.held.get(hold.key) or (0, 0))[1]
            if state[0] == Kind.GCRA:
                _, window, rate, level, _, returned, _ = state
                most = max(most, level // gcd(window, rate), returned // gcd(window, rate))
            elif state[0] == Kind.SLIDING:
                most = max(most, state[4])
            if most > MAX_AMOUNT:
                self.rough.add(hold.key)

    def compare(self, theirs: Any, ours: Any, holds: Sequence[Hold]) -> None:
        self.mark_rough(holds)
        if isinstance(theirs, str) or isinstance(ours, str):
            assert type(theirs) is type(ours), (theirs, ours)
            self.answers["unavailable"] += 1
            return
        assert type(theirs) is type(ours), (theirs, ours)
        if isinstance(theirs, Reserved):
            assert (theirs.replay, theirs.over) == (ours.replay, ours.over)
            self.answers["replay" if theirs.replay else "over" if theirs.over else "reserved"] += 1
        else:
            assert theirs.denied == ours.denied
            self.answers["exhausted"] += 1
            beside = [(holds[index], theirs.levels[index].remaining) for index in theirs.denied]
            self.answers["owed"] += any(left < hold.amount <= left + hold.owed for hold, left in beside)
            if not any(holds[index].key in self.rough for index in theirs.denied):
                self.compare_waits(theirs, ours, [holds[index] for index in theirs.denied])
        self.compare_levels(holds, theirs.levels, ours.levels)

    def compare_waits(self, theirs: Exhausted, ours: Exhausted, denied: Sequence[Hold]) -> None:
        if any(hold.kind is Kind.CONCURRENCY for hold in denied):  # the engine's is a lower bound
            assert theirs.wait_ms <= ours.wait_ms or theirs.wait_ms == -1 == ours.wait_ms
        else:
            assert theirs.wait_ms == ours.wait_ms

    def compare_levels(self, holds: Sequence[Hold], theirs: Sequence[Level], ours: Sequence[Level]) -> None:
        for hold, their, our in zip(holds, theirs, ours, strict=True):
            if hold.kind is Kind.CONCURRENCY:  # the engine's reset is an upper bound
                assert (their.remaining, their.held) == (our.remaining, our.held)
                assert their.reset_ms >= our.reset_ms
            elif hold.key in self.rough:
                assert their.remaining == our.remaining
            else:
                assert their == our, hold


def _plain(closed: Closed) -> tuple[Any, ...]:
    """An attempt under an id that is in use has a name that only its store knows."""
    name, *rest = msgspec.structs.astuple(closed)
    return (name.partition("~")[0], *rest)


def _said(question: Any) -> Any:
    try:
        return question()
    except StoreUnavailable as error:
        return str(error)


async def awaited(answered: Any) -> Any:
    return await answered
