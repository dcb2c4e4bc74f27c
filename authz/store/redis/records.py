"""The records of a store on Redis: what the service follows and writes, what a command reads and changes."""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from authz.store.floods import Floods
from authz.store.protocols import Clock
from authz.store.redis.client import async_client, sync_client
from authz.store.redis.denials import RedisDenialLog
from authz.store.redis.directory import RedisDirectory
from authz.store.redis.on_demand import OnDemand
from authz.store.redis.query import QueryDirectory
from authz.store.redis.registry import RedisRegistry
from authz.store.redis.target import Target
from authz.store.redis.trials import RedisTrialLog
from authz.store.redis.writing import Writing
from authz.store.trials import Trials
from authz.store.troubles import Troubles

Levels = Callable[[Any, str], Mapping[str, bytes]]
"""How counters stand, by a synchronous client, of those whose keys begin so; for `levels.level_of`."""


class ServiceRecords:
    """Of one replica. Connects when it is started, and once more for changes when there are some."""

    def __init__(self, target: Target, clock: Clock, levels: Levels | None = None) -> None:
        self._behind = behind = async_client(target)
        self._at_hand = at_hand = OnDemand(lambda: sync_client(target))
        self._troubles = Troubles()
        self.directory = RedisDirectory(behind, at_hand, self._troubles)
        self.registry = RedisRegistry(at_hand, clock, self.directory.follow, _of(levels, at_hand))
        self.denials = Floods(secrets.token_hex(6))
        self.denial_log = RedisDenialLog(at_hand)
        self.trials = Trials()
        self.trial_log = RedisTrialLog(at_hand)
        self._writing = Writing(behind, clock, self.directory, self.denials, self.trials, self._troubles)

    @property
    def trouble(self) -> str | None:
        """Why records cannot be read or written right now; for readiness."""
        return self._troubles.first

    @property
    def dropped_denials(self) -> int:
        """Refusals that did not fit into the log, since the start."""
        return self.denials.dropped

    async def start(self) -> None:
        """Read everything, then follow. Returns without Redis too: that is `trouble` until it is back."""
        await self.directory.start()
        await self._writing.start()

    async def written(self) -> None:
        """Returns once what had gathered is in Redis. Raises StoreUnavailable."""
        await self._writing.write()

    async def close(self) -> None:
        """Write the rest, if Redis takes it at once; then let go of the clients."""
        await self._writing.close()
        await self.directory.close()
        await self._behind.aclose()
        await asyncio.to_thread(self._at_hand.close)


class CommandRecords:
    """Of a command, beside running services or without one. Raises StoreUnavailable."""

    def __init__(self, target: Target, clock: Clock, levels: Levels | None = None) -> None:
        self._client = client = sync_client(target)
        self.directory = QueryDirectory(client)
        self.registry = RedisRegistry(client, clock, levels=_of(levels, client))
        self.denial_log = RedisDenialLog(client)
        self.trial_log = RedisTrialLog(client)

    def close(self) -> None:
        self._client.close()


def _of(levels: Levels | None, client: Any) -> Callable[[str], Mapping[str, bytes]] | None:
    return None if levels is None else lambda prefix: levels(client, prefix)
