"""Has a store that answers again take in what was let through without it."""

import asyncio
import logging
import random
from collections.abc import Callable
from contextlib import suppress

from msgspec import Struct

from authz.store.backlog import ENDED_TTL_MS, Backlog, Enter, Waiting
from authz.store.protocols import Clock, Counters, StoreUnavailable
from authz.store.reservations import LATE
from authz.store.sightings import Sightings

log = logging.getLogger("authz.store")

AT_ONCE = 64  # entered in one write, once the first was taken
PAUSES_S = (0.1, 0.2, 0.4, 0.8, 1.0)
"""Between two attempts, the last one for good; jittered."""
LAST_ATTEMPT_S = 2.0


class Without(Struct):
    """What was decided without the store, since the process started."""

    since: int = 0  # ms since the epoch that it does not answer, or does not know all yet; 0: all is well
    shared: int = 0  # requests let through by a share
    unlimited: int = 0  # requests let through with no limit left that says no
    refused: int = 0  # requests that a share had no room for
    entered: int = 0  # told to the store afterwards
    lost: int = 0  # not told: it was too late, or the process ended
    waiting: int = 0  # let through, and the store does not know of it yet


class Reconciler:
    """Enters what waits in the backlog; `done` is told when nothing waits any more."""

    def __init__(
        self,
        primary: Counters,
        clock: Clock,
        backlog: Backlog,
        sightings: Sightings,
        enter: Enter,
        without: Without,
        done: Callable[[], None],
    ) -> None:
        self._primary = primary
        self._clock = clock
        self._backlog = backlog
        self._sightings = sightings
        self._enter = enter
        self._without = without
        self._done = done
        self._awake = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None

    def wake(self) -> None:
        """Something waits."""
        self._awake.set()

    async def reconcile(self) -> bool:
        """Enter what waits, until nothing does (True) or the store takes no more of it."""
        at_once = 1  # to see whether it answers
        while len(self._backlog):
            batch = self._backlog.next(at_once)
            for waiting in batch:
                waiting.under_way = True
            taken = await asyncio.gather(*[self._take_in(waiting) for waiting in batch])
            if not any(taken):
                return False
            at_once = AT_ONCE
        self._done()
        return True

    async def _take_in(self, waiting: Waiting) -> bool:
        """Whether the store knows all of it now, or never will."""
        try:
            if not waiting.entered:
                await self._charge(waiting)
            if waiting.end is not None:
                end = waiting.end
                await self._primary.settle(waiting.name, waiting.gateway, end.actual, end.note)
        except StoreUnavailable as failure:
            if self._clock() < waiting.deadline + LATE:
                self._backlog.postpone(waiting)
                return False
            log.error("reservation %s is lost, a day after its end: %s", waiting.name, failure)
            if not waiting.entered:
                self._backlog.charged(waiting)
            self._without.lost += 1
        else:
            self._without.entered += 1
        finally:
            waiting.under_way = False
        self._backlog.remove(waiting)
        return True

    async def _charge(self, waiting: Waiting) -> None:
        now = self._clock()
        holds = waiting.still_counting(now)
        ttl_ms = max(1, waiting.deadline - now)  # one that expired may still be corrected by a report
        if waiting.end is not None:
            ttl_ms = ENDED_TTL_MS
        told = None
        if holds or waiting.facts:
            told = await self._enter(self._primary, waiting, holds, ttl_ms, now)
        self._backlog.charged(waiting)
        if told is not None:
            self._sightings.note(holds, told.levels, self._clock(), self._backlog.owed)

    # -- upkeep ------------------------------------------------------------------------------------

    def start(self) -> None:
        """Enter what waits from now on, as soon as the store takes it."""
        self._upkeep = asyncio.get_running_loop().create_task(self._look_after())

    async def _look_after(self) -> None:
        while True:
            await self._awake.wait()
            self._awake.clear()
            attempt = 0
            while not await self._attempt():
                pause = PAUSES_S[min(attempt, len(PAUSES_S) - 1)]
                attempt += 1
                await asyncio.sleep(pause * random.uniform(0.75, 1.25))  # noqa: S311  (not all at once)

    async def _attempt(self) -> bool:
        try:
            return await self.reconcile()
        except Exception:  # a fault of ours must not end the upkeep
            log.exception("what was let through without the store could not be entered")
            return False

    async def close(self) -> None:
        """Enter what waits if the store takes it now; the rest is lost with the process, and said so."""
        if self._upkeep is not None:
            self._upkeep.cancel()
            await asyncio.wait([self._upkeep])
            self._upkeep = None
        with suppress(TimeoutError):
            await asyncio.wait_for(self._attempt(), LAST_ATTEMPT_S)
        if len(self._backlog):
            self._without.lost += len(self._backlog)
            log.error(
                "%d requests that were let through without the store are lost: it still does not answer",
                len(self._backlog),
            )
