"""How many replicas share the store: by it each knows what it may go on with alone, without an answer."""

import asyncio
import secrets
from contextlib import suppress
from random import uniform

from authz.store.protocols import StoreUnavailable
from authz.store.redis import names
from authz.store.redis.link import COMMAND_MS, Link
from authz.store.redis.script import compose
from authz.store.redis.tasks import end

PERIOD_S = 2.0
TTL_MS = 30_000
"""For how long a replica counts that says nothing: it may only have lost its way to Redis."""

UNHEARD = 1 << 30
"""Replicas, as long as nobody told how many: so that none takes the whole of a limit for its own share."""

PRESENT = compose("present")


class Presence:
    """Says again and again that this replica is there, and hears how many are."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._id = secrets.token_hex(8)
        self._task: asyncio.Task[None] | None = None
        self.replicas = UNHEARD  # as heard last, this one included

    async def start(self) -> None:
        with suppress(StoreUnavailable):
            await self.tell(TTL_MS)
        self._task = asyncio.create_task(self._run(), name="authz-presence")

    async def close(self) -> None:
        """Those that stay need not count this one any more."""
        if self._task is not None:
            await end([self._task])
            self._task = None
        with suppress(StoreUnavailable):
            await self.tell(0)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(PERIOD_S * uniform(0.5, 1.0))  # noqa: S311  (not all replicas at once)
            with suppress(StoreUnavailable):  # the link says what is wrong
                await self.tell(TTL_MS)

    async def others(self) -> int:
        """How many there are beside this one: as Redis knows now, else as heard last."""
        with suppress(StoreUnavailable):
            await self.tell(TTL_MS)
        return 0 if self.replicas == UNHEARD else self.replicas - 1

    async def tell(self, ttl_ms: int) -> None:
        """Raises StoreUnavailable."""
        place = names.records("replicas")
        count = await self._link.run(PRESENT, (place,), (self._id, ttl_ms), budget_ms=COMMAND_MS)
        self.replicas = max(1, int(count))
