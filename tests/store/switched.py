"""A shared store with a switch on each replica's way to it."""

import asyncio
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from typing import Any

from msgspec.structs import replace

from authz.quota import Unit
from authz.store.embedded import EmbeddedStore
from authz.store.fallback import FallbackCounters
from authz.store.memory import open_memory
from authz.store.protocols import (
    Counters,
    Exhausted,
    Hold,
    OnFailure,
    Outcome,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.records import Entry
from tests.contract.kit import Clock, facts, settled

LOCAL, ALLOW, DENY = OnFailure.LOCAL, OnFailure.ALLOW, OnFailure.DENY

TTL = 600_000
HANG_S = 0.005


class Way(Enum):
    UP = auto()
    DOWN = auto()  # fails at once, as with an open breaker
    HANGS = auto()  # no answer within the budget; the call never runs
    LOST = auto()  # the call runs, its answer is lost, and the store takes a request's own reservation back


class Switched:
    """One replica's view of the counters that all share.

    `lost` names a call whose answers are lost, while others go through; `budget` is how many calls go through.
    """

    def __init__(self, counters: Counters, way: Way = Way.UP) -> None:
        self.way = way
        self.lost = ""
        self.budget = -1
        self.gate: asyncio.Event | None = None  # until it opens, answers to reservations are on their way
        self.calls: list[str] = []
        self._counters = counters

    async def _fails(self, call: str) -> bool:
        """Whether it fails after it has run."""
        self.calls.append(call)
        self.budget -= self.budget > 0
        if self.way is Way.DOWN or self.budget == 0:
            raise StoreUnavailable("switched off")
        if self.way is Way.HANGS:
            await asyncio.sleep(HANG_S)
            raise StoreUnavailable("no answer within the budget")
        return self.way is Way.LOST or self.lost == call

    def place(self, holds: Sequence[Hold]) -> str:
        return self._counters.place(holds)

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        lost = await self._fails("reserve")
        if lost and not reservation.startswith("local-"):
            raise StoreUnavailable("the answer was lost, and the call taken back")
        outcome = await self._counters.reserve(reservation, gateway, holds, ttl_ms, facts)
        if self.gate is not None:
            await self.gate.wait()
        if lost:
            raise StoreUnavailable("the answer was lost")
        return outcome

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        if await self._fails("find"):
            raise StoreUnavailable("the answer was lost")
        return await self._counters.find(reservation, gateway)

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        lost = await self._fails("settle")
        settled = await self._counters.settle(reservation, gateway, actual, note)
        if lost:
            raise StoreUnavailable("the answer was lost")
        return settled

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        lost = await self._fails("extend")
        lives = await self._counters.extend(reservation, gateway, ttl_ms, life_ms)
        if lost:
            raise StoreUnavailable("the answer was lost")
        return lives

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        if await self._fails("peek"):
            raise StoreUnavailable("the answer was lost")
        return await self._counters.peek(holds)


TROUBLES = [Way.DOWN, Way.HANGS, Way.LOST]


class Site:
    """One replica, of as many as a test says, before a store in memory."""

    def __init__(self, replicas: int = 1, **more: Any) -> None:
        self.clock = Clock()
        self.store: EmbeddedStore = open_memory(self.clock)
        self.way = Switched(self.store.counters)
        self.replicas = replicas
        self.counters = FallbackCounters(self.way, self.clock, replicas=lambda: self.replicas, **more)
        self.made = 0

    async def ask(self, *holds: Hold, known: bytes = b"", ttl: int = TTL) -> Reserved | Exhausted:
        self.made += 1
        return await self.counters.reserve(f"r{self.made}", "edge", holds, ttl, known)

    async def fill(self, hold: Hold, most: int = 500) -> int:
        """How many of these are let through before one is refused."""
        for admitted in range(most):
            if isinstance(await self.ask(hold), Exhausted):
                return admitted
        return most

    async def left(self, hold: Hold) -> int:
        """What the store itself says is left."""
        outcome = await self.store.counters.peek([replace(hold, amount=0)])
        return outcome.levels[0].remaining

    async def entries(self) -> Sequence[Entry]:
        """The ledger, the oldest first."""
        await settled(self.store)
        return [*reversed(self.store.ledger.entries(limit=1000))]


async def admit(site: Site, *holds: Hold, known: bytes | None = None, ttl: int = TTL) -> str:
    """One request let through without the store; its name."""
    site.way.way = Way.DOWN
    made = await site.ask(*holds, known=facts() if known is None else known, ttl=ttl)
    assert isinstance(made, Reserved)
    assert made.local
    return made.name


async def back(site: Site) -> None:
    site.way.way = Way.UP
    assert await site.counters.reconcile()
    assert site.counters.without.waiting == 0
    assert site.counters.without.since == 0
