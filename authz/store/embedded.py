"""The embedded store: everything in this process, written down by one thread.

On the event loop every 200 ms: end what is over, gather what changed, hand it
to the writer. The loop itself never waits for the disk.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, wait

from authz.quota import Unit
from authz.store.aside import thread_aside
from authz.store.durable import DurableLedger
from authz.store.engine import Engine
from authz.store.floods import Floods
from authz.store.journal import Journal
from authz.store.ops import Op
from authz.store.protocols import (
    Clock,
    Exhausted,
    Hold,
    Outcome,
    Registry,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.sqlite.database import Database
from authz.store.sqlite.denials import SqliteDenialLog
from authz.store.sqlite.directory import MirrorDirectory
from authz.store.sqlite.ledger_reading import SqliteLedger
from authz.store.sqlite.trials import SqliteTrialLog
from authz.store.store import ServiceStore
from authz.store.trials import Trials
from authz.store.troubles import Troubles
from authz.store.writer import CLOSED, Writer

TICK_S = 0.2
SWEEP_S = 0.01


class EngineCounters:
    """The engine by the store's clock. Answers without suspending."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

    def place(self, holds: Sequence[Hold]) -> str:
        return ""

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        return self._engine.reserve(self._clock(), reservation, gateway, holds, ttl_ms, facts)

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        return self._engine.find(self._clock(), reservation, gateway)

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        return self._engine.settle(self._clock(), reservation, gateway, actual, note)

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        return self._engine.extend(self._clock(), reservation, gateway, ttl_ms, life_ms)

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        return self._engine.peek(self._clock(), holds)


class EmbeddedStore(ServiceStore):
    """One process's store. `journal` is None where nothing outlives the process."""

    def __init__(
        self,
        *,
        clock: Clock,
        engine: Engine,
        mirror: MirrorDirectory,
        registry: Registry,
        floods: Floods,
        database: Database,
        reading: Database,
        journal: Journal | None,
        on_close: Callable[[bool], None],
    ) -> None:
        self._troubles = Troubles()
        self.trials = Trials()
        self._writer = Writer(
            clock=clock,
            engine=engine,
            mirror=mirror,
            floods=floods,
            trials=self.trials,
            database=database,
            journal=journal,
            troubles=self._troubles,
        )
        self.counters = EngineCounters(engine, clock)
        self.directory = mirror
        self.registry = registry
        self.denials = floods
        self.denial_log = SqliteDenialLog(reading, self._writer.bring_in)
        self.trial_log = SqliteTrialLog(reading, self._writer.bring_in)
        self.ledger = DurableLedger(SqliteLedger(reading, self._writer.bring_in), self._writer.durable)
        self._clock = clock
        self._engine = engine
        self._mirror = mirror
        self._floods = floods
        self._is_shared = journal is not None  # other processes write to what is on a disk
        self._on_close = on_close
        self._read_thread = thread_aside("authz-reader")
        self._reading: Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped_denials(self) -> int:
        """Refusals that did not fit into the log, since the start."""
        return self._floods.dropped

    @property
    def expired(self) -> int:
        """Reservations that nobody told the end of, since the start."""
        return self._engine.expired

    def keep_ledger(self, milliseconds: int) -> None:
        """How long single entries are kept, from the next trim on."""
        self._writer.ledger_kept_ms = milliseconds

    async def start(self) -> None:
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule(loop)
        self.keep_up()
        self._catch_up(loop)

    def _catch_up(self, loop: asyncio.AbstractEventLoop) -> None:
        """More is over than one sweep ends: go on, with pauses in which others are served."""
        now = self._clock()
        if self._engine.is_behind(now) and self._timer is not None:
            self._engine.sweep(now)
            loop.call_later(SWEEP_S, self._catch_up, loop)

    def keep_up(self) -> None:
        """One round of upkeep; `start` has it done every 200 ms."""
        now = self._clock()
        self._engine.sweep(now)
        self._engine.tables.tidy(now, self._writer.saving)
        self._writer.keep_up(now)
        if self._is_shared and (self._reading is None or self._reading.done()):
            if self._reading is not None:
                self._troubles.note("reading", self._reading.exception())
            self._reading = self._read_thread.submit(self._mirror.poll)

    def wait_for_writer(self) -> None:
        """Return once what `keep_up` handed over is written, or has failed. Blocks."""
        self._writer.wait()
        if self._reading is not None:
            wait([self._reading])

    @property
    def trouble(self) -> str | None:
        return self._troubles.first

    async def close(self) -> None:
        """Stop the transports first: from here on nothing is counted any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._engine.journal = _closed
        self._read_thread.shutdown(wait=True)
        self._on_close(self._writer.finish())


def _closed(op: Op) -> None:
    raise StoreUnavailable(CLOSED)
