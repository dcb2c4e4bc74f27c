"""What Redis is set to and how full it is, as far as the store depends on it: said in the log."""

import asyncio
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from random import uniform

from authz.store.protocols import StoreUnavailable
from authz.store.redis.link import Link
from authz.store.redis.tasks import end

EVERY_S = 60.0
"""Between two looks at a server that is there all the time: an operator may change it, or a failover."""

AGAIN_S = 1.0
"""Between two attempts to look, and at most from a new connection to the look."""

log = logging.getLogger("authz.store")


class Watch:
    """Looks at the start, soon after each reconnection and now and then, behind the decisions.

    Each doubt is told once, and again where it was gone in between.
    """

    def __init__(self, link: Link, most_counters: int) -> None:
        self._link = link
        self._most_counters = most_counters
        self._told: frozenset[str] = frozenset()
        self._due = 0.0  # of the event loop's time
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._run(), name="authz-redis-settings")

    async def close(self) -> None:
        if self._task is not None:
            await end([self._task])
            self._task = None

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(AGAIN_S * uniform(0.5, 1.0))  # noqa: S311  (not all replicas at once)
            if self._link.trouble is not None:
                self._due = 0.0  # what comes back may be another server
            elif loop.time() >= self._due:
                try:
                    await self._look()
                except Exception:  # whatever it is, the next look may find something
                    log.exception("the settings of Redis cannot be looked at")
                    self._due = loop.time() + EVERY_S

    async def _look(self) -> None:
        with suppress(StoreUnavailable):  # the link says what is wrong
            doubts = await doubtful(self._link, self._most_counters)
            for doubt in doubts:
                if doubt not in self._told:
                    log.warning("%s", doubt)
            self._told = frozenset(doubts)
            self._due = asyncio.get_running_loop().time() + EVERY_S


async def doubtful(link: Link, most_counters: int) -> Sequence[str]:
    """What should be otherwise at a server (of a Cluster: one of them). Raises StoreUnavailable."""
    found = []
    memory = _fields(await link.command("INFO", "memory"))
    policy = memory.get("maxmemory_policy", "noeviction")
    if memory.get("maxmemory", "0") != "0" and policy != "noeviction":
        found.append(
            f"Redis drops what it holds when its memory is full (maxmemory-policy {policy}): quotas are "
            "given back and keys forgotten; set it to noeviction"
        )
    if _fields(await link.command("INFO", "persistence")).get("aof_enabled") == "0":
        found.append(
            "Redis keeps no append-only file: a restart of it forgets what came since its last snapshot, "
            "keys and quotas too; set appendonly to yes"
        )
    names = await link.command("DBSIZE")
    if names >= most_counters * 2 // 5:
        found.append(
            f"Redis holds two fifths of {most_counters} names or more: from half of them on, no counter "
            "begins that is nobody's alone; see which limit makes so many, or allow more by ?most_counters= "
            "in the store's URL"
        )
    return found


def _fields(information: bytes) -> Mapping[str, str]:
    """What INFO tells, by name."""
    lines = information.decode(errors="replace").splitlines()
    return {name: value for name, colon, value in (line.partition(":") for line in lines) if colon}
