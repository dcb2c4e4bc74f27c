"""Ends reservations that nobody told the end of. Any process may, at any time: each is ended once."""

import asyncio
import logging
from random import uniform

from authz.store.protocols import StoreUnavailable
from authz.store.redis.calls import Calls, all_of

log = logging.getLogger("authz.store")

AT_ONCE = 50  # ended in one call: of 20 holds each, a pause of some 20 ms for the others on the server
PERIOD_S = 1.0
SPREAD_PERIOD_S = 10.0  # on a Cluster, where every shard is asked
BUDGET_MS = 1000


class Sweeper:
    """Admissions end what is over on the way; this ends the rest, also where nobody asks for anything."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._period = PERIOD_S if len(calls.link.shards) == 1 else SPREAD_PERIOD_S
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
            self._task = None

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(self._period * uniform(0.5, 1.5))  # noqa: S311 - replicas that do not meet
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.debug("nothing is swept: %s", error)  # the link says what is wrong

    async def sweep(self) -> int:
        """End all that is over now. How many entries in the ledger that made. Raises StoreUnavailable."""
        entries = 0
        shards = list(self._calls.link.shards)
        while shards:
            ended = await all_of([self._calls.sweep(shard, AT_ONCE, BUDGET_MS) for shard in shards])
            entries += sum(expired for _, expired in ended)
            shards = [
                shard for shard, (looked_at, _) in zip(shards, ended, strict=True) if looked_at == AT_ONCE
            ]
        self._calls.expired += entries
        return entries
