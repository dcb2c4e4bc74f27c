"""The store on Redis for a command: records to read and change, counters to look at."""

from collections.abc import Sequence

from authz.store.durable import DurableLedger
from authz.store.looking import LookingCounters, NoDenials, written
from authz.store.protocols import (
    Clock,
    Exhausted,
    Hold,
    Reserved,
)
from authz.store.redis import names
from authz.store.redis.client import sync_client
from authz.store.redis.counters import RedisCounters
from authz.store.redis.ledger.reading import RedisLedger
from authz.store.redis.link_open import open_link
from authz.store.redis.records import CommandRecords
from authz.store.redis.standing import counter_levels
from authz.store.redis.target import CLUSTER, Target
from authz.store.store import Store


class ViewCounters(LookingCounters):
    """Peeks. Charges nothing, ever."""

    def __init__(self, target: Target) -> None:
        self._target = target

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        link = open_link(self._target)
        await link.start()
        try:
            return await RedisCounters(link).peek(holds)
        finally:
            await link.close()


class ViewRedisStore(Store):
    """What a command needs, beside running services or without one."""

    def __init__(self, target: Target, clock: Clock) -> None:
        self._client = client = sync_client(target)
        self._records = CommandRecords(target, clock, counter_levels)
        self.counters = ViewCounters(target)
        self.directory = self._records.directory
        self.registry = self._records.registry
        self.denials = NoDenials()
        self.denial_log = self._records.denial_log
        self.trial_log = self._records.trial_log
        shards = names.SPREAD if target.kind == CLUSTER else names.SINGLE
        self.ledger = DurableLedger(RedisLedger(client, shards, clock), written)

    async def close(self) -> None:
        self._records.close()
        self._client.close()
