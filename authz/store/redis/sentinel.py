"""The link to a master that Sentinels name, and to its successor.

Redis documentation, "Guidelines for Redis clients with support for Redis Sentinel": ask again on every
connection, and leave a server that turned out to be no master.
"""

import asyncio
import logging
from contextlib import suppress
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.redis.client import FAILURES, async_sentinels, sentinels_shown
from authz.store.redis.link_server import ServerLink
from authz.store.redis.target import Address, Target, shown

LOOK_SECONDS = 1.0
"""How often the Sentinels are asked whether the master is still that one."""

log = logging.getLogger("authz.store")


class SentinelLink(ServerLink):
    """One server at a time. The old master is left as soon as the Sentinels name another one."""

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._sentinels: Any = None
        self._looking: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await super().start()
        if self._looking is None:
            self._looking = asyncio.create_task(self._look(), name="redis-sentinels")

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.wait({self._looking})
        await super().close()
        if self._sentinels is not None:
            with suppress(*FAILURES):
                await self._sentinels.aclose()

    async def _locate(self) -> Address:
        target = self._target
        if self._sentinels is None:
            self._sentinels = async_sentinels(target)
        try:
            host, port = await self._sentinels.discover_master(target.name)
        except FAILURES:
            raise StoreUnavailable(
                f"no Sentinel of {sentinels_shown(target)} names a working master {target.name!r}: "
                "see SENTINEL MASTERS there, and whether they want a password (?sentinel_password_file=)"
            ) from None
        return str(host), int(port)

    async def _look(self) -> None:
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            try:
                address = await self._locate()
            except StoreUnavailable:
                continue  # the master itself may work: then nothing is wrong for now
            if address != self._node.address:
                self._node.leave(f"the master of Redis moved to {shown(address)}")
