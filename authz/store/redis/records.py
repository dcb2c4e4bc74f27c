"""The records of a store on Redis: what the service follows and writes, and what a command reads and changes.

All clients are of redis-py, without decoding of replies (`authz.store.redis.client`).
"""

import asyncio
import secrets
from collections.abc import Callable, Mapping
from typing import Any

from authz.store.floods import Floods
from authz.store.protocols import Clock
from authz.store.redis.denials import RedisDenialLog
from authz.store.redis.directory import RedisDirectory
from authz.store.redis.query import QueryDirectory
from authz.store.redis.registry import RedisRegistry
from authz.store.redis.trials import RedisTrialLog
from authz.store.redis.writing import Writing
from authz.store.trials import Trials
from authz.store.troubles import Troubles

Levels = Callable[[str], Mapping[str, bytes]]
"""How counters stand, of those whose keys begin so; for `authz.store.levels.level_of`."""


class ServiceRecords:
    """Of one replica. `behind` is an asynchronous client of its own, `at_hand` a synchronous one."""

    def __init__(self, behind: Any, at_hand: Any, clock: Clock, levels: Levels | None = None) -> None:
        self._behind = behind
        self._at_hand = at_hand
        self._troubles = Troubles()
        self.directory = RedisDirectory(behind, at_hand, self._troubles)
        self.registry = RedisRegistry(at_hand, clock, self.directory.follow, levels)
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
    """Of a command, beside running services or without one."""

    def __init__(self, client: Any, clock: Clock, levels: Levels | None = None) -> None:
        self._client = client
        self.directory = QueryDirectory(client)
        self.registry = RedisRegistry(client, clock, levels=levels)
        self.denial_log = RedisDenialLog(client)
        self.trial_log = RedisTrialLog(client)

    def close(self) -> None:
        self._client.close()
