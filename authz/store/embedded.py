"""The embedded store: everything in this process, written down by one thread.

On the event loop every 200 ms: end what is over, gather what changed, hand it
to the writer. The loop itself never waits for the disk.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait

from authz.quota import Unit
from authz.store.engine import Changes, Engine
from authz.store.floods import Floods
from authz.store.journal import Journal
from authz.store.ops import Op
from authz.store.protocols import (
    Clock,
    Counters,
    DenialLog,
    Denials,
    Directory,
    Exhausted,
    Hold,
    Outcome,
    Registry,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.sqlite.commit import Batch, commit, trim, trim_denials
from authz.store.sqlite.database import Database
from authz.store.sqlite.directory import MirrorDirectory

TICK_S = 0.2
TRIM_MS = 600_000
TRIM_ROWS = 2_000  # refusals written since the last trim that call for one, whatever the time

log = logging.getLogger("authz.store")


class Store:
    """What is remembered, behind the protocols. `start` begins the upkeep, `close` writes all of it down."""

    counters: Counters
    directory: Directory
    registry: Registry
    denials: Denials
    denial_log: DenialLog

    @property
    def trouble(self) -> str | None:
        """Why the store cannot be read or written right now; for readiness."""
        return None

    async def start(self) -> None:
        """Begin the upkeep on the running event loop."""

    async def close(self) -> None:
        """Write down what is not yet, and let go of every file."""


class EngineCounters:
    """The engine by the store's clock. Answers without suspending."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        self._engine = engine
        self._clock = clock

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


class EmbeddedStore(Store):
    """One process's store. `journal` is None where nothing outlives the process."""

    def __init__(
        self,
        *,
        clock: Clock,
        engine: Engine,
        mirror: MirrorDirectory,
        registry: Registry,
        floods: Floods,
        log_of: Callable[[Callable[[], None]], DenialLog],
        writer: Database,
        journal: Journal | None,
        on_close: Callable[[bool], None],
    ) -> None:
        self.counters = EngineCounters(engine, clock)
        self.directory = mirror
        self.registry = registry
        self.denials = floods
        self.denial_log = log_of(self._bring_in)
        self._clock = clock
        self._engine = engine
        self._mirror = mirror
        self._floods = floods
        self._writer = writer
        self._journal = journal
        self._on_close = on_close
        self._write_thread = ThreadPoolExecutor(1, thread_name_prefix="authz-writer")
        self._read_thread = ThreadPoolExecutor(1, thread_name_prefix="authz-reader")
        self._batch: Batch | None = None
        self._writing: Future[None] | None = None
        self._reading: Future[None] | None = None
        self._troubles: dict[str, str] = {}
        self._trim_at = 0
        self._untrimmed = 0  # refusals written since the last trim; the writer's own
        self._timer: asyncio.TimerHandle | None = None

    @property
    def dropped_denials(self) -> int:
        """Refusals that did not fit into the log, since the start."""
        return self._floods.dropped

    async def start(self) -> None:
        self._schedule(asyncio.get_running_loop())

    def _schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_later(TICK_S, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        self._schedule(loop)
        self.keep_up()

    def keep_up(self) -> None:
        """One round of upkeep; `start` has it done every 200 ms."""
        now = self._clock()
        self._engine.sweep(now)
        self._engine.tables.tidy(now, self._batch.changes.counters if self._batch is not None else {})
        self._conclude()
        if self._writing is None:
            self._begin(now)
        if self._reading is None or self._reading.done():
            self._report(self._reading, "reading")
            self._reading = self._read_thread.submit(self._mirror.poll)

    def wait_for_writer(self) -> None:
        """Return once what `keep_up` handed over is written, or has failed. Blocks."""
        for pending in (self._writing, self._reading):
            if pending is not None:
                wait([pending])
        self._conclude()

    def _begin(self, now: int) -> None:
        """Hand the writer what has gathered, or once more what it could not write."""
        if self._batch is None:
            self._batch = self._gather()
        trimming = now >= self._trim_at
        if trimming:
            self._trim_at = now + TRIM_MS
        if self._batch is not None or trimming:
            self._writing = self._write_thread.submit(self._write, self._batch, now, trimming)

    def _gather(self) -> Batch | None:
        generation, changes, journal = None, Changes({}, {}, ()), self._journal
        if journal is None:
            changes = Changes({}, {}, self._engine.take_changes().closed)  # counters are written nowhere
        elif journal.may_flip and (self._engine.has_changes or not journal.is_empty):
            generation = journal.flip()
            changes = self._engine.take_changes()
        batch = Batch(generation, changes, self._mirror.take_used(), self._floods.take())
        return batch if batch else None

    def _write(self, batch: Batch | None, now: int, trimming: bool) -> None:
        if batch is not None:
            commit(self._writer, batch)
            self._untrimmed += len(batch.denials)
        if trimming:
            trim(self._writer, now)
        elif self._untrimmed >= TRIM_ROWS:
            trim_denials(self._writer, now)
        else:
            return
        self._untrimmed = 0

    def _conclude(self) -> None:
        """Take note of a commit that is done. One that failed keeps its batch and is tried again."""
        if self._writing is None or not self._writing.done():
            return
        done, self._writing = self._writing, None
        if self._report(done, "writing"):
            batch, self._batch = self._batch, None
            if batch is not None and batch.generation is not None and self._journal is not None:
                self._journal.commit(batch.generation)

    def _report(self, done: Future[None] | None, what: str) -> bool:
        error = done.exception() if done is not None else None
        if error is None:
            self._troubles.pop(what, None)
            return True
        if self._troubles.get(what) != str(error):
            log.error("%s the store failed: %s", what, error)
        self._troubles[what] = str(error)
        return False

    @property
    def trouble(self) -> str | None:
        return next(iter(self._troubles.values()), None)

    def _bring_in(self) -> None:
        """For a store in memory: refusals are in the log at once."""
        if self._journal is None:
            changes = Changes({}, {}, self._engine.take_closed())
            commit(self._writer, Batch(None, changes, {}, self._floods.take()))

    async def close(self) -> None:
        """Stop the transports first: from here on nothing is counted any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._engine.journal = _closed
        self._on_close(self._write_all())

    def _write_all(self) -> bool:
        """The last commits: one may be under way, one may have failed, one gathers the rest."""
        self._read_thread.shutdown(wait=True)
        self._write_thread.shutdown(wait=True)
        self._conclude()
        try:
            for _ in range(2):
                batch = self._batch or self._gather()
                if batch is None:
                    break
                commit(self._writer, batch)
                if batch.generation is not None and self._journal is not None:
                    self._journal.commit(batch.generation)
                self._batch = None
        except StoreUnavailable as error:
            log.error(
                "closing the store: %s; the changes stay in the journal and are read at the next start", error
            )
            return False
        return True


def _closed(op: Op) -> None:
    raise StoreUnavailable("the store is closed")
