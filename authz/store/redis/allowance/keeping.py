"""Sets lots aside, has Redis told what was spent of them, and gives back the rest."""

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import suppress
from itertools import count
from typing import Any

from authz.store.allowances import Allowances
from authz.store.protocols import Exhausted, Hold, StoreUnavailable
from authz.store.redis.allowance.drawing import Drawing
from authz.store.redis.allowance.lot import LIFE_MS, Lot
from authz.store.redis.allowance.outstanding import Outstanding
from authz.store.redis.allowance.pool import PATIENCE_MS, Pool
from authz.store.redis.calls import Calls
from authz.store.redis.tasks import end

log = logging.getLogger("authz.store")

PAUSE_S = 0.1
"""How long a spending waits for others to be told with."""

KEPT_MS = LIFE_MS + 10_000
"""How long a lot is held of which nobody says anything any more."""

TRIED_MS = 600_000
"""For how long it is tried to give a lot back."""

GATEWAY = "~allowance"  # whose reservation a lot is; no gateway has such a name
LAST_ATTEMPT_S = 2.0


class Keeper:
    """The lots of all pools. `me` is a name of this replica alone; see `AllowanceCounters` for the rest."""

    def __init__(
        self,
        calls: Calls,
        drawing: Drawing,
        me: str,
        now: Callable[[], int],
        may_grow: Callable[[], bool],
        replicas: Callable[[], int],
    ) -> None:
        self.figures = Allowances()
        self._calls = calls
        self._drawing = drawing
        self._me = me
        self._now = now
        self._may_grow = may_grow
        self._replicas = replicas
        self._serial = count()
        self._outstanding = Outstanding(now)
        self._pools: set[Pool] = set()  # that have lots
        self._over: list[Lot] = []  # spent no more, and not given back yet
        self._closing = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._giving_back = False
        self._clearing = asyncio.Lock()  # who comes second finds given back what can be
        self._awake = asyncio.Event()
        self._upkeep: asyncio.Task[None] | None = None

    def count_outstanding(self) -> Allowances:
        """The figures as they are now."""
        self.figures.outstanding = self._outstanding.by_unit()
        return self.figures

    def grow(self, pool: Pool, now: int) -> None:
        """Set another lot aside, if so much is left; the caller does not wait for it."""
        if self._closing or not self._may_grow():
            pool.not_before = now + PATIENCE_MS
            return
        pool.growing = True
        self.begin(self._grow(pool))

    async def _grow(self, pool: Pool) -> None:
        now = self._now()
        pool.not_before = now + PATIENCE_MS
        try:
            self._over += pool.take_over(now)
            if self._over or self._giving_back:  # first, for what they hold is part of the allowance
                await self._clear(now)
            holds = pool.next_lot(self._outstanding, self._replicas())
            if holds is not None and not self._closing:
                await self._set_aside(pool, holds)
        except StoreUnavailable as failure:
            log.debug("nothing is set aside: %s", failure)  # the link says what is wrong
        finally:
            pool.growing = False

    async def _set_aside(self, pool: Pool, holds: tuple[Hold, ...]) -> None:
        assert pool.shard is not None
        asked_at = self._now()
        name = f"{self._me}{next(self._serial):x}"
        self._outstanding.ask(holds)
        try:
            asked = self._calls.reserve(pool.shard, name, name, GATEWAY, holds, KEPT_MS, b"", is_lot=True)
            outcome = self._calls.answer(await asked)
        finally:
            self._outstanding.answered(holds)
        if isinstance(outcome, Exhausted):
            return
        lot = Lot(name, pool.shard, holds, outcome.levels, asked_at)
        self._outstanding.add(lot)
        self.figures.lots += 1
        self._awake.set()
        stays = pool.learn(outcome.levels, self._outstanding, self._replicas())
        if outcome.over or not stays:  # a limit on trial would refuse: it shall be told of each such request
            self._over.append(lot)
            return
        pool.grow(lot)
        self._pools.add(pool)
        pool.not_before = 0

    def begin(self, work: Coroutine[Any, Any, None]) -> None:
        """Do it behind the decision at hand."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def tell(self) -> None:
        """What was spent; what is not answered, the upkeep tells again."""
        with suppress(StoreUnavailable):
            await self._drawing.tell()

    # -- upkeep ------------------------------------------------------------------------------------

    async def upkeep(self) -> None:
        """Tell what was spent, and give back what is spent no more, as far as Redis answers."""
        now = self._now()
        for pool in list(self._pools):
            self._over += pool.take_over(now, all_of_them=self._closing)
            if not len(pool):
                self._pools.discard(pool)
        await self._clear(now)

    async def _clear(self, now: int) -> None:
        async with self._clearing:
            await self.tell()
            await self._give_back(now)

    async def _give_back(self, now: int) -> None:
        lots = [lot for lot in self._over if not lot.entering]
        self._over = [lot for lot in self._over if lot.entering]
        self._giving_back = bool(lots)
        asked = [self._calls.give_back(lot.shard, lot.id, GATEWAY, lot.holds) for lot in lots]
        done = 0
        try:
            for lot, question in zip(lots, asked, strict=True):
                try:
                    await question
                except StoreUnavailable as failure:
                    if now < lot.asked_at + TRIED_MS:
                        self._over.append(lot)
                        done += 1
                        continue
                    log.error(
                        "units that were set aside cannot be given back, and count as used: %s", failure
                    )
                    self.figures.stranded += 1
                self._outstanding.remove(lot)
                done += 1
        finally:
            self._over += lots[done:]  # of a stop: whether they were given back is not known
            self._giving_back = False

    def start(self) -> None:
        """Begin the upkeep on the running event loop."""
        self._upkeep = asyncio.get_running_loop().create_task(self._look_after())

    async def _look_after(self) -> None:
        while True:
            await self._awake.wait()
            await asyncio.sleep(PAUSE_S)
            try:
                await self.upkeep()
            except Exception:  # a fault of ours must not end the upkeep
                log.exception("what was set aside could not be looked after")
            if not (self._pools or self._over or len(self._drawing)):
                self._awake.clear()

    async def close(self) -> None:
        """Give everything back if Redis takes it now; what it does not take stays charged."""
        self._closing = True
        if self._upkeep is not None:
            await end([self._upkeep])
            self._upkeep = None
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=LAST_ATTEMPT_S)
        with suppress(TimeoutError):
            await asyncio.wait_for(self.upkeep(), LAST_ATTEMPT_S)
        if self._over or len(self._drawing):
            self.figures.stranded += len(self._over)
            log.error(
                "the store does not answer: what is left of %d allowances counts as used, "
                "and %d requests are in no ledger",
                len(self._over),
                len(self._drawing),
            )
