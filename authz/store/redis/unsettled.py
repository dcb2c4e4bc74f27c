"""Parts of settled reservations whose server did not answer: settled again, until it does.

Each settlement may run twice: the second finds that it is done. What is given up stays charged as it was
held. The process alone knows of them, so those of one that dies stay so too.
"""

import asyncio
import logging
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

from authz.quota import Unit
from authz.store.protocols import StoreUnavailable
from authz.store.redis.calls import Calls
from authz.store.redis.link import COMMAND_MS
from authz.store.redis.tasks import end

MOST = 10_000
"""Parts that may wait; each is a few hundred bytes."""

PATIENT_S = 3_600.0
"""How long one is tried. Windows that closed meanwhile take nothing back."""

PAUSE_S = 1.0  # between two attempts
AT_ONCE = 50  # settled together, once the first of a shard was
CLOSING_S = 2.0  # what the last attempt may take

_AT_THE_END = "as this process ends"

log = logging.getLogger("authz.store")


class Unanswered(NamedTuple):
    """What one shard holds of a reservation, and what was used of it."""

    shard: str
    reservation: str
    gateway: str
    actual: Mapping[Unit, int]


class Unsettled:
    """Never waits, but in `close`. Works by a task of its own while there is something to do."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._waiting: dict[str, deque[tuple[Unanswered, float]]] = {}  # by shard, until when
        self._count = 0
        self._dropped = 0
        self._task: asyncio.Task[None] | None = None
        self._closed = False

    def __len__(self) -> int:
        return self._count

    def add(self, part: Unanswered) -> None:
        """Try it again. Where too many wait, or after `close`, it is given up."""
        if self._closed:
            _given_up(1, _AT_THE_END)
            return
        if self._count >= MOST:
            self._dropped += 1
            return
        loop = asyncio.get_running_loop()
        self._waiting.setdefault(part.shard, deque()).append((part, loop.time() + PATIENT_S))
        self._count += 1
        if self._task is None:
            self._task = loop.create_task(self._run(), name="authz-redis-unsettled")

    async def close(self) -> None:
        """One last attempt."""
        self._closed = True
        if self._task is not None:
            await end([self._task])
            self._task = None
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING_S):
                await self._try()
        if self._count:
            _given_up(self._count, _AT_THE_END)

    async def _run(self) -> None:
        while self._count:
            await asyncio.sleep(PAUSE_S)
            try:
                await self._try()
            except Exception:  # whatever it is: without this task nothing would be tried again
                log.exception("what is left of settlements cannot be settled")
        self._task = None

    async def _try(self) -> None:
        """All that wait, until the first failure of each shard; the shards at the same time."""
        if self._dropped:
            _given_up(self._dropped, "as too many wait")
            self._dropped = 0
        await asyncio.gather(*map(self._try_shard, list(self._waiting)))

    async def _try_shard(self, shard: str) -> None:
        waiting, at_once = self._waiting[shard], 1
        try:
            while waiting:
                tried = list(islice(waiting, at_once))
                answers = await asyncio.gather(*(self._settle(part) for part, _ in tried))
                for is_settled in answers:
                    each = waiting.popleft()
                    if is_settled:
                        self._count -= 1
                    else:
                        waiting.append(each)
                if not all(answers):
                    break
                at_once = AT_ONCE
        finally:
            self._give_up(waiting)
            if not waiting:
                del self._waiting[shard]

    async def _settle(self, part: Unanswered) -> bool:
        try:
            await self._calls.settle(part.shard, part.reservation, part.gateway, part.actual, b"", COMMAND_MS)
        except StoreUnavailable:  # the link says what is wrong
            return False
        return True

    def _give_up(self, waiting: deque[tuple[Unanswered, float]]) -> None:
        now = asyncio.get_running_loop().time()
        kept = [(part, until) for part, until in waiting if until > now]
        if len(kept) < len(waiting):
            _given_up(len(waiting) - len(kept), f"after {PATIENT_S:.0f} s")
            self._count -= len(waiting) - len(kept)
            waiting.clear()
            waiting.extend(kept)


def _given_up(count: int, why: str) -> None:
    log.warning(
        "a server of the Redis Cluster did not answer: %d parts of settled requests stay charged as held "
        "until their windows are over, given up %s",
        count,
        why,
    )
