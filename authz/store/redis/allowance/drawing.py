"""Tells Redis what was spent of lots: many spendings in one call, each a reservation from then on.

A call whose answer did not come is sent again under the same name until it is answered; what it did already
it does not do twice. Until then nobody but this replica knows of these reservations.
"""

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from typing import NamedTuple

from msgspec import Struct
from msgspec.msgpack import Encoder
from msgspec.structs import replace

from authz.store.protocols import Hold, StoreUnavailable
from authz.store.redis import names, scripts
from authz.store.redis.allowance.lot import Lot
from authz.store.redis.calls import CANCELLED_MS, Calls
from authz.store.redis.link import COMMAND_MS, Word

log = logging.getLogger("authz.store")

AT_ONCE = 256  # in one call, which keeps others on the server waiting for some 5 ms

_encode = Encoder().encode


class Spending(Struct, frozen=True):
    """A request that was let through by a lot."""

    lot: Lot
    reservation: str
    gateway: str
    holds: tuple[Hold, ...]
    ttl_ms: int
    facts: bytes
    at: int  # ms of the clock that never steps


class _Batch(NamedTuple):
    """One call: its name, and what it tells."""

    name: str
    shard: str
    spendings: Sequence[Spending]


class Drawing:
    """What was spent and not told yet. `me` is a name of this replica alone."""

    def __init__(self, calls: Calls, me: str, now: Callable[[], int]) -> None:
        self._calls = calls
        self._me = me
        self._now = now
        self._serial = count()
        self._new: dict[str, list[Spending]] = {}
        self._unanswered: list[_Batch] = []
        self._untold: set[str] = set()
        self._telling: asyncio.Task[None] | None = None

    def __len__(self) -> int:
        return len(self._untold)

    def __contains__(self, reservation: str) -> bool:
        """Whether Redis may not know it yet."""
        return reservation in self._untold

    def add(self, spending: Spending) -> bool:
        """Whether so much came together that it should be told now."""
        spending.lot.entering += 1
        self._untold.add(spending.reservation)
        new = self._new.setdefault(spending.lot.shard, [])
        new.append(spending)
        return len(new) % AT_ONCE == 0

    async def tell(self) -> None:
        """All there is by now. Raises StoreUnavailable, and keeps what was not answered, to be told again.

        Who goes away meanwhile ends nothing: what is told is everybody's.
        """
        if self._telling is not None:  # without what came since it began
            with suppress(StoreUnavailable):
                await asyncio.shield(self._telling)
        if self._telling is not None or self._new or self._unanswered:
            await asyncio.shield(self._begin())

    def _begin(self) -> asyncio.Task[None]:
        """One at a time, for all who want it. One that is done tells no more, even before `_told` has run."""
        if self._telling is None or self._telling.done():
            self._telling = asyncio.get_running_loop().create_task(self._tell_all())
            self._telling.add_done_callback(self._told)
        return self._telling

    def _told(self, task: asyncio.Task[None]) -> None:
        if self._telling is task:
            self._telling = None
        if not task.cancelled():
            task.exception()  # nobody may wait for it any more: then it is no news for the log

    async def _tell_all(self) -> None:
        """What fails is told last, the next time; the rest of a shard without answers waits till then."""
        batches, self._unanswered = self._unanswered, []
        for shard, spendings in self._new.items():
            for first in range(0, len(spendings), AT_ONCE):
                name = f"{self._me}d{next(self._serial):x}"
                batches.append(_Batch(name, shard, spendings[first : first + AT_ONCE]))
        self._new = {}
        troubles: dict[str, StoreUnavailable] = {}
        failed: list[_Batch] = []
        told = 0
        try:
            for batch in batches:
                if batch.shard in troubles:
                    self._unanswered.append(batch)
                else:
                    try:
                        await self._tell(batch)
                    except StoreUnavailable as failure:
                        troubles[batch.shard] = failure
                        failed.append(batch)
                told += 1
        finally:
            self._unanswered += batches[told + 1 :] + failed + batches[told : told + 1]
        for trouble in troubles.values():
            raise trouble

    async def _tell(self, batch: _Batch) -> None:
        calls, now = self._calls, self._now()
        lots: dict[str, int] = {}
        words: list[Word] = []
        for spending in batch.spendings:
            words += (
                lots.setdefault(spending.lot.id, len(lots) + 1),
                spending.reservation,
                spending.gateway,
                now - spending.at,
                spending.ttl_ms,
                _encode(spending.holds),
                spending.facts,
            )
        head: list[Word] = [calls.now, batch.name, CANCELLED_MS, calls.most_open, len(lots), *lots]
        key = (names.running(batch.shard),)
        lost = await calls.link.run(scripts.DRAW, key, head + words, budget_ms=COMMAND_MS)
        if lost:
            log.error("Redis has forgotten the allowance of %d requests: it lost data", len(lost))
        for place in lost:
            await self._charge(batch.spendings[place])
        for spending in batch.spendings:
            spending.lot.entering -= 1
            self._untold.discard(spending.reservation)

    async def _charge(self, spending: Spending) -> None:
        """Whatever the counters say by then: it was let through."""
        holds = [replace(hold, shadow=True) for hold in spending.holds]
        attempt = f"{self._me}d{next(self._serial):x}"
        shard, name, gateway = spending.lot.shard, spending.reservation, spending.gateway
        try:
            calls = self._calls
            calls.answer(
                await calls.reserve(shard, name, attempt, gateway, holds, spending.ttl_ms, spending.facts)
            )
        except StoreUnavailable as failure:
            log.error("reservation %s is lost: %s", name, failure)
