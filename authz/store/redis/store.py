"""The store of a service that shares it with others: everything in Redis, the records mirrored in memory."""

import asyncio
import time

from authz.store.allowances import Allowances
from authz.store.durable import DurableLedger
from authz.store.fallback import FallbackCounters
from authz.store.protocols import Clock
from authz.store.reconciling import Without
from authz.store.redis import scripts
from authz.store.redis.allowance.counters import AllowanceCounters
from authz.store.redis.client import sync_client
from authz.store.redis.counters import RedisCounters
from authz.store.redis.ledger.confirmed import Confirmed
from authz.store.redis.ledger.keeper import LedgerKeeper
from authz.store.redis.ledger.reading import RedisLedger
from authz.store.redis.link_open import open_link
from authz.store.redis.on_demand import OnDemand
from authz.store.redis.presence import PRESENT, Presence
from authz.store.redis.records import ServiceRecords
from authz.store.redis.settings import Watch
from authz.store.redis.standing import counter_levels
from authz.store.redis.sweeper import Sweeper
from authz.store.redis.target import Target
from authz.store.store import ServiceStore
from authz.store.troubles import Troubles
from authz.store.waits import Shared

_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
"""Never steps, and goes on while the machine is suspended: what was set aside before is over then."""


def _steady_ms() -> int:
    return time.clock_gettime_ns(_STEADY) // 1_000_000


class RedisStore(ServiceStore):
    """One replica's. In a running event loop only; it connects at `start`, or as soon as Redis is there.

    `clock` is for the records and the ledger; reservations go by Redis's own time, unless a test brings
    its own as `counted_by`.
    """

    def __init__(self, target: Target, clock: Clock, timezone: str, counted_by: Clock | None = None) -> None:
        self._link = open_link(target)
        self._link.teach(*scripts.ALL, PRESENT)
        self._troubles = Troubles()
        self._records = ServiceRecords(target, clock, counter_levels)
        counters = RedisCounters(self._link, counted_by, most_counters=target.most_counters)
        self._counted = counters
        self._sweeper = Sweeper(counters.calls)
        self._watch = Watch(self._link, target.most_counters)
        self._presence = Presence(self._link)
        self._reading = OnDemand(lambda: sync_client(target))
        self._folding = OnDemand(lambda: sync_client(target))
        self._keeper = LedgerKeeper(self._folding, self._link.shards, clock, timezone, self._troubles)
        self._fallback = FallbackCounters(
            counters, counted_by or clock, replicas=lambda: self._presence.replicas
        )
        self._ahead = AllowanceCounters(
            self._fallback,
            counters,
            counted_by or _steady_ms,
            may_grow=lambda: not self._fallback.owes,
            replicas=lambda: self._presence.replicas,
        )
        self.counters = self._ahead
        self.directory = self._records.directory
        self.registry = self._records.registry
        self.denials = self._records.denials
        self.denial_log = self._records.denial_log
        self.trials = self._records.trials
        self.trial_log = self._records.trial_log
        # A settlement is in Redis, its entry in the same step, before it is acknowledged.
        self._confirmed = Confirmed(self._folding, self._link.shards, target.wait_replicas)
        self.ledger = DurableLedger(RedisLedger(self._reading, self._link.shards, clock), self._durable)

    @property
    def dropped_denials(self) -> int:
        return self._records.dropped_denials

    @property
    def expired(self) -> int:
        return self._counted.expired

    @property
    def without(self) -> Without:
        return self._fallback.without

    @property
    def shared(self) -> Shared:
        return self._link.figures

    @property
    def allowances(self) -> Allowances:
        return self._ahead.figures

    @property
    def trouble(self) -> str | None:
        return self._link.trouble or self._records.trouble or self._troubles.first

    async def others(self) -> int:
        return await self._presence.others()

    def keep_ledger(self, milliseconds: int) -> None:
        self._keeper.retention = milliseconds

    async def start(self) -> None:
        await self._link.start()
        await self._watch.start()
        await self._records.start()
        await self._presence.start()
        await self._fallback.start()
        await self._ahead.start()
        await self._sweeper.start()
        await self._keeper.start()

    async def _durable(self) -> None:
        await self._fallback.durable()
        await self._confirmed.durable()

    async def caught_up(self) -> None:
        """Returns once what is over has ended, is in the ledger, and all that gathered is written."""
        await self._sweeper.sweep()
        await asyncio.to_thread(self._fold)
        await self._records.written()

    def _fold(self) -> None:
        self._keeper.keep_up()
        self._keeper.wait()

    async def close(self) -> None:
        """Stop the transports first: from here on nothing is counted any more."""
        await self._ahead.close()
        await self._sweeper.close()
        await self._fallback.close()
        await self._presence.close()
        await self._keeper.close()
        await self._confirmed.close()
        await self._records.close()
        await self._counted.close()
        await self._watch.close()
        await self._link.close()
        await asyncio.to_thread(self._folding.close)
        await asyncio.to_thread(self._reading.close)
