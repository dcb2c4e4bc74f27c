"""One call each to one shard: what a script is told, and what its answer means."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from authz.quota import MAX_AMOUNT, Unit
from authz.store.protocols import (
    Clock,
    Exhausted,
    Hold,
    Kind,
    Level,
    Outcome,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.redis import names, scripts
from authz.store.redis.link import COMMAND_MS, Link, Undo
from authz.store.redis.scripts import Ending, Status

CANCELLED_MS = 600_000
"""How long a call that was given up may still come: as long as a stopped server keeps what it was sent."""

_UNANSWERED = {
    Status.JUMPED: "a calendar limit has no window where the clock of Redis is; compare the clocks of both",
    Status.TOO_FINE: "the rate of a gcra limit is too fine for Redis; choose a rounder quota or window",
    Status.FULL: "as many requests are running as are remembered",
    Status.NO_ROOM: "as many counters are in Redis as may be, so no new one begins; see which limit makes so "
    "many, by headers or addresses that clients choose, or allow more by ?most_counters= in the store's URL",
    Status.CANCELLED: "Redis came to the request when it had been given up",
}
_OUTCOMES = {
    Ending.UNKNOWN: Outcome.UNKNOWN,
    Ending.IN_TIME: Outcome.SETTLED,
    Ending.CORRECTED: Outcome.CORRECTED,
    Ending.ALREADY: Outcome.ALREADY,
    Ending.FOREIGN: Outcome.FOREIGN,
}
_DENIED, _REPLAYED, _REMEMBERED = Status.DENIED.value, Status.REPLAYED.value, Ending.REMEMBERED.value

_encode = msgspec.msgpack.Encoder().encode
_holds = msgspec.msgpack.Decoder(tuple[Hold, ...]).decode


class Calls:
    """The scripts of the counters over a link. `clock` None: the time is the server's own."""

    def __init__(
        self, link: Link, clock: Clock | None, *, most_open: int, most_late: int, most_counters: int
    ) -> None:
        self.link = link
        self.most_open = most_open
        self.most_late = most_late
        self.most_counters = most_counters
        self.expired = 0  # reservations that nobody told the end of, as far as these calls ended them
        self._clock = clock

    @property
    def now(self) -> int:
        """What the scripts are told of the time: nothing, but in tests."""
        return 0 if self._clock is None else self._clock()

    def reserve(
        self,
        shard: str,
        reservation: str,
        attempt: str,
        gateway: str,
        holds: Sequence[Hold],
        ttl_ms: int,
        facts: bytes,
        *,
        remember: bool = False,
        is_lot: bool = False,
        elsewhere: str = "",
    ) -> asyncio.Future[Any]:
        """For `answer`. Without a timely answer the attempt is taken back.

        `remember` it whatever it holds; what `is_lot` is rather not made than not remembered.
        """
        now, key = self.now, (names.running(shard),)
        return self.link.run(
            scripts.RESERVE,
            key,
            (
                now,
                reservation,
                attempt,
                gateway,
                ttl_ms,
                _encode(holds),
                facts,
                2 if is_lot else int(remember),
                elsewhere,
                self.most_open,
                self.most_late,
                self.most_counters,
            ),
            undo=Undo(scripts.CANCEL, key, (now, reservation, attempt, CANCELLED_MS)),
        )

    def cancel(self, shard: str, reservation: str, attempt: str) -> asyncio.Future[Any]:
        """Take an attempt back."""
        key, words = (names.running(shard),), (self.now, reservation, attempt, CANCELLED_MS)
        return self.link.run(scripts.CANCEL, key, words, undo=Undo(scripts.CANCEL, key, words))

    def peek(self, shard: str, holds: Sequence[Hold]) -> asyncio.Future[Any]:
        """For `answer`."""
        return self.link.run(
            scripts.PEEK, (names.running(shard),), (self.now, _encode(holds), self.most_late)
        )

    def sweep(self, shard: str, most: int, budget_ms: int) -> asyncio.Future[Any]:
        """End what is over: how many it looked at, and how many entries in the ledger that made."""
        return self.link.run(
            scripts.SWEEP, (names.running(shard),), (self.now, most, self.most_late), budget_ms=budget_ms
        )

    def answer(self, reply: Sequence[int]) -> Reserved | Exhausted:
        """What `reserve` or `peek` came back with. Raises StoreUnavailable where that is no answer."""
        status = reply[0]
        self.expired += reply[1]
        if status > _REPLAYED:
            raise unanswered(status)
        first = 4 + reply[3]
        indices, levels = tuple(reply[4:first]), _levels(reply, first)
        if status == _DENIED:
            return Exhausted(indices, reply[2], levels)
        return Reserved(levels, status == _REPLAYED, indices)

    async def find(self, shard: str, reservation: str, gateway: str) -> Remembered | Outcome:
        reply = await self.link.run(scripts.FIND, (names.running(shard),), (self.now, reservation, gateway))
        if reply[0] != _REMEMBERED:
            return _OUTCOMES[reply[0]]
        return Remembered(reply[3], reply[1], bool(reply[2]))

    async def settle(
        self,
        shard: str,
        reservation: str,
        gateway: str,
        actual: Mapping[Unit, int],
        note: bytes,
        budget_ms: int = 0,
    ) -> tuple[Settled, str]:
        """And the other shards that the reservation lies in."""
        used = {unit: min(MAX_AMOUNT, max(0, amount)) for unit, amount in actual.items()}
        words = (self.now, reservation, gateway, _encode(used), note)
        reply = await self.link.run(scripts.SETTLE, (names.running(shard),), words, budget_ms=budget_ms)
        outcome = _OUTCOMES[reply[0]]
        if len(reply) == 1:
            return Settled(outcome), ""
        self.expired += reply[1]
        holds = tuple([hold for hold in _holds(reply[3]) if hold.kind is not Kind.CONCURRENCY])
        return Settled(outcome, _plain(holds), _levels(reply, 4)), reply[2].decode()

    def give_back(
        self, shard: str, reservation: str, gateway: str, holds: Sequence[Hold]
    ) -> asyncio.Future[Any]:
        """Settle a lot (`allowance.lot`) that was made of these holds: what is left of it, nobody used."""
        nothing: dict[str, object] = dict.fromkeys([hold.unit for hold in holds], 0)
        words = (
            self.now,
            reservation,
            gateway,
            _encode(nothing | {"lot": [hold.amount for hold in holds]}),
            b"",
        )
        return self.link.run(scripts.SETTLE, (names.running(shard),), words, budget_ms=COMMAND_MS)

    async def extend(
        self, shard: str, reservation: str, gateway: str, ttl_ms: int, life_ms: int
    ) -> tuple[bool, str]:
        """And the other shards that the reservation lies in."""
        reply = await self.link.run(
            scripts.EXTEND, (names.running(shard),), (self.now, reservation, gateway, ttl_ms, life_ms)
        )
        return (True, reply[1].decode()) if reply[0] else (False, "")


def unanswered(status: int) -> StoreUnavailable:
    """Why a reservation has no answer."""
    return StoreUnavailable(_UNANSWERED[Status(status)])


async def all_of(asked: Sequence[asyncio.Future[Any]]) -> list[Any]:
    """Every answer, in order. Raises StoreUnavailable, but waits for all first."""
    answers, trouble = [], None
    for question in asked:
        try:
            answers.append(await question)
        except StoreUnavailable as error:
            trouble = error
    if trouble is not None:
        raise trouble
    return answers


def sendable(holds: Sequence[Hold]) -> Sequence[Hold]:
    """Holds whose numbers Redis can take. ValueError: two share a counter."""
    if len(holds) > 1 and len({hold.key for hold in holds}) != len(holds):
        counters = {(hold.key, hold.kind is Kind.CONCURRENCY) for hold in holds}
        if len(counters) != len(holds):
            raise ValueError("two holds share a counter: each would fit alone, together they would not")
    for hold in holds:
        if hold.amount > MAX_AMOUNT or hold.quota > MAX_AMOUNT:
            return [_cut(hold) for hold in holds]
    return holds


def _cut(hold: Hold) -> Hold:
    """One more than the largest amount stays more than every quota."""
    return msgspec.structs.replace(
        hold,
        amount=min(hold.amount, MAX_AMOUNT + 1),
        quota=min(hold.quota, MAX_AMOUNT),
        owed=min(hold.owed, MAX_AMOUNT),
    )


def _plain(holds: tuple[Hold, ...]) -> tuple[Hold, ...]:
    """As a settlement tells of them: bounded, and with nothing that was owed when they were made."""
    if all(hold.amount <= MAX_AMOUNT and not hold.owed for hold in holds):
        return holds
    return tuple(
        [msgspec.structs.replace(hold, amount=min(hold.amount, MAX_AMOUNT), owed=0) for hold in holds]
    )


def _levels(reply: Sequence[int], first: int) -> tuple[Level, ...]:
    return tuple([Level(reply[at], reply[at + 1], reply[at + 2]) for at in range(first, len(reply), 3)])
