"""The service's part in the ledger: folds what is queued, drops what is old, sums by the right days.

On a thread of its own, every few hundred milliseconds, off the path of every request. Any number of
services do it beside each other; whatever one leaves undone another does.
"""

import asyncio
import random
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Any

from authz.store.protocols import Clock
from authz.store.redis.ledger.fold import Folder
from authz.store.redis.ledger.plan import Plan, carry_out
from authz.store.redis.ledger.state import RETENTION
from authz.store.redis.ledger.upkeep import keep, set_timezone, trim
from authz.store.troubles import Troubles

TICK_S = 0.3
TRIM_MS = 600_000
FOLDING = "folding the ledger in"


class LedgerKeeper:
    """`client` is redis-py's, of a server or of a Cluster; who gave it closes it, after `close`."""

    def __init__(
        self, client: Any, shards: Sequence[str], clock: Clock, timezone: str, troubles: Troubles
    ) -> None:
        self._client = client
        self._shards = shards
        self._clock = clock
        self._timezone = timezone
        self._troubles = troubles
        self._folder = Folder(client, shards, clock)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authz-ledger")
        self._round: Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._trim_at = 0
        self._days_are_right = False
        self._kept = 0  # the retention that is in force
        self.retention = RETENTION

    async def start(self) -> None:
        """Begin on the running event loop."""
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        pause = TICK_S * random.uniform(0.75, 1.25)  # noqa: S311  (so that services do not meet again)
        self._timer = loop.call_later(pause, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule(loop)
        self.keep_up()

    def keep_up(self) -> None:
        """Begin a round where none is under way; `start` has it done again and again."""
        if self._round is None or self._round.done():
            if self._round is not None:
                self._troubles.note(FOLDING, self._round.exception())
            self._round = self._thread.submit(self._work)

    def wait(self) -> None:
        """Return once the round under way is done, or has failed. Blocks."""
        if self._round is not None:
            wait([self._round])
            self._troubles.note(FOLDING, self._round.exception())

    def _work(self) -> None:
        now = self._clock()
        if not self._days_are_right:
            self._days_are_right = self._done(lambda shard: set_timezone(shard, self._timezone, now))
        retention = self.retention
        if self._kept != retention and self._done(lambda shard: keep(shard, retention, now)):
            self._kept = retention
        self._folder.fold()
        if now >= self._trim_at:
            carry_out(self._client, [trim(shard, now) for shard in self._shards])
            self._trim_at = now + TRIM_MS

    def _done(self, plan: Callable[[str], Plan[bool]]) -> bool:
        """Whether it is so in every shard."""
        return all(carry_out(self._client, [plan(shard) for shard in self._shards]))

    async def close(self) -> None:
        """Let the round under way end. What is queued then, another folds."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
