"""Refusals, counts of limits on trial and uses of keys, on their way to Redis: behind every decision."""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from authz.store.floods import Floods, Row
from authz.store.protocols import Clock, StoreUnavailable
from authz.store.redis import denials, kept, trials
from authz.store.redis.directory import RedisDirectory
from authz.store.redis.failures import explained
from authz.store.redis.sources import source
from authz.store.redis.tasks import end
from authz.store.trials import Trials
from authz.store.troubles import Troubles

EVERY_S = 1.0
TRIM_MS = 600_000
CLOSING_S = 2.0  # what the last write may take
TOGETHER = 500  # uses of keys in one call
WRITING = "writing to"

_SAVE_USED = source("save_used")

log = logging.getLogger("authz.store")


class Writing:
    """Takes what gathers, once a second. What Redis does not take is kept and sent again.

    `client` is of redis-py, asynchronous.
    """

    def __init__(
        self,
        client: Any,
        clock: Clock,
        directory: RedisDirectory,
        floods: Floods,
        counted: Trials,
        troubles: Troubles,
    ) -> None:
        self._client = client
        self._clock = clock
        self._directory = directory
        self._floods = floods
        self._counted = counted
        self._troubles = troubles
        self._rows: list[Row] = []
        self._batches: list[trials.Batch] = []
        self._used: list[tuple[str, int]] = []
        self._trim_at = 0
        self._one_at_a_time = asyncio.Lock()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self._run(), name="authz-records-write")

    async def close(self) -> None:
        """Write the rest, if Redis takes it at once."""
        if self._task is None:
            return
        await end([self._task])
        self._task = None
        with suppress(StoreUnavailable, TimeoutError):
            await asyncio.wait_for(self.write(), CLOSING_S)

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(EVERY_S)
            try:
                await self.write()
            except Exception as error:
                if not isinstance(error, StoreUnavailable):
                    log.exception("%s the store", WRITING)
                self._troubles.note(WRITING, error)
            else:
                self._troubles.note(WRITING, None)

    async def write(self) -> None:
        """Returns once what had gathered is in Redis. Raises StoreUnavailable."""
        async with self._one_at_a_time:
            await self._write()  # what was left of the last time
            self._rows = self._floods.take()
            self._batches = trials.batches(self._counted.take())
            self._used = list(self._directory.take_used().items())
            await self._write()

    async def _write(self) -> None:
        now = self._clock()
        trimming = now >= self._trim_at
        while self._rows or trimming:
            trimming = await denials.save(self._client, self._rows[: denials.TOGETHER], now) and trimming
            del self._rows[: denials.TOGETHER]
            self._trim_at = now + TRIM_MS
        while self._batches:
            await trials.save(self._client, self._batches[0], now)
            del self._batches[0]
        while self._used:
            words = [word for pair in self._used[:TOGETHER] for word in pair]
            with explained():
                await self._client.eval(_SAVE_USED, 1, kept.KEY_USE, *words)
            del self._used[:TOGETHER]
