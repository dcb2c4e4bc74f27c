"""Group commit: what gathers on the event loop is written by one thread, in one transaction at a time.

On disk, one batch is under way while the next gathers; a batch that failed is
kept and tried again. Who has to know that something is on the disk waits for
the batch that holds it, and has it begun without waiting for the next round of
upkeep. In memory nothing has to last: what readers look for is brought in as
they ask.
"""

import asyncio
import contextlib
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from threading import Lock

from authz.store.aside import thread_aside
from authz.store.counting import State
from authz.store.engine import Changes, Engine
from authz.store.floods import Floods, Row
from authz.store.journal import Journal
from authz.store.protocols import Clock, StoreUnavailable
from authz.store.sqlite.commit import Batch, commit, trim, trim_denials, trim_ledger
from authz.store.sqlite.database import Database
from authz.store.sqlite.directory import MirrorDirectory
from authz.store.trials import Trial, Trials
from authz.store.troubles import Troubles

GROUP_S = 0.02  # how long a commit that is waited for lets others come along
USED_MS = 5_000  # when keys were last used is written this often: a thread that wakes delays who decides
TRIM_MS = 600_000
LEDGER_KEPT_MS = 90 * 86_400_000  # until the configuration says otherwise
TRIM_ROWS = 2_000  # refusals written since the last trim that call for one, whatever the time

CLOSED = "the store is closed"
_NOTHING = Changes({}, {}, ())


class Writer:
    """`journal` is None where nothing outlives the process."""

    def __init__(
        self,
        *,
        clock: Clock,
        engine: Engine,
        mirror: MirrorDirectory,
        floods: Floods,
        trials: Trials,
        database: Database,
        journal: Journal | None,
        troubles: Troubles,
    ) -> None:
        self._clock = clock
        self._engine = engine
        self._mirror = mirror
        self._floods = floods
        self._trials = trials
        self._database = database
        self._journal = journal
        self._troubles = troubles
        self._thread = thread_aside("authz-writer")
        self._batch: Batch | None = None
        self._writing: Future[None] | None = None
        self._in_batch: list[asyncio.Future[None]] = []  # who waits for the batch under way
        self._waiting: list[asyncio.Future[None]] = []  # who waits for the next
        self._soon: asyncio.TimerHandle | None = None
        self._bringing_in = Lock()
        self._used_at = 0  # ms
        self._trim_at = 0
        self._untrimmed = 0  # refusals written since the last trim; the thread's own
        self._ledger_is_long = False  # entries too old are left from the last trim
        self._is_closed = False
        self.ledger_kept_ms = LEDGER_KEPT_MS

    @property
    def saving(self) -> Mapping[str, State]:
        """Counters on their way to the disk."""
        return self._batch.changes.counters if self._batch is not None else {}

    def keep_up(self, now: int) -> None:
        """Take note of a commit that is done, and begin the next."""
        self._conclude()
        if self._writing is None:
            self._begin(now)

    def wait(self) -> None:
        """Return once what is under way is written, or has failed. Blocks."""
        if self._writing is not None:
            wait([self._writing])
        self._conclude()

    def _begin(self, now: int) -> None:
        """Hand the thread what has gathered, or once more what it could not write."""
        if self._batch is None:
            self._batch = self._gather(now)
            self._in_batch, self._waiting = self._waiting, []
            if self._batch is None:
                self._tell(None)
        trimming = now >= self._trim_at
        if trimming:
            self._trim_at = now + TRIM_MS
        if self._batch is not None or trimming or self._ledger_is_long or self._has_news:
            self._writing = self._thread.submit(self._write, self._batch, now, trimming)

    def _gather(self, now: int) -> Batch | None:
        generation, changes, journal = None, _NOTHING, self._journal
        rows: Sequence[Row] = ()
        tried: Sequence[Trial] = ()
        if journal is None:
            self._engine.drop_changes()  # they are written nowhere; the rest is brought in
        else:
            rows, tried = self._floods.take(), self._trials.take()
            if journal.may_flip and (self._engine.has_changes or not journal.is_empty):
                generation = journal.flip()
                changes = self._engine.take_changes()
        used: Mapping[str, int] = {}
        if now >= self._used_at or self._is_closed:
            self._used_at = now + USED_MS
            used = self._mirror.take_used()
        batch = Batch(generation, changes, used, rows, tried)
        return batch if batch else None

    def _write(self, batch: Batch | None, now: int, trimming: bool) -> None:
        self.bring_in()
        if batch is not None:
            commit(self._database, batch)
            self._untrimmed += len(batch.denials)
        if trimming or self._ledger_is_long:
            self._ledger_is_long = trim_ledger(self._database, now, self.ledger_kept_ms)
        if trimming:
            trim(self._database, now)
        elif self._untrimmed >= TRIM_ROWS:
            trim_denials(self._database, now)
        else:
            return
        self._untrimmed = 0

    def _conclude(self) -> None:
        """Take note of a commit that is done. One that failed keeps its batch and is tried again."""
        if self._writing is None or not self._writing.done():
            return
        done, self._writing = self._writing, None
        error = self._troubles.note("writing", done.exception())
        if error is None:
            batch, self._batch = self._batch, None
            if batch is not None and batch.generation is not None and self._journal is not None:
                self._journal.commit(batch.generation)
        self._tell(error)

    # -- who waits ---------------------------------------------------------------------------------

    async def durable(self) -> None:
        """Return once every change so far is on the disk. Raises StoreUnavailable."""
        if self._is_closed:
            raise StoreUnavailable(CLOSED)
        loop = asyncio.get_running_loop()
        if self._journal is None:
            await loop.run_in_executor(self._thread, self.bring_in)
            return
        self._conclude()
        if self._batch is None and self._journal.is_empty and not self._engine.has_changes:
            return
        waiter = loop.create_future()
        self._waiting.append(waiter)
        self._hurry(loop)
        await waiter

    def _hurry(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._soon is None:
            self._soon = loop.call_later(GROUP_S, self._commit_now, loop)

    def _commit_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._soon = None
        self.keep_up(self._clock())
        if self._writing is not None:
            self._writing.add_done_callback(lambda _: self._wake_soon(loop))

    def _wake_soon(self, loop: asyncio.AbstractEventLoop) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended meanwhile: nobody waits on it
            loop.call_soon_threadsafe(self._wake, loop)

    def _wake(self, loop: asyncio.AbstractEventLoop) -> None:
        self._conclude()
        if self._waiting and not self._is_closed:
            self._hurry(loop)

    def _tell(self, error: str | None) -> None:
        """The batch is on the disk, or it could not be written: then nobody waits for another try."""
        told, self._in_batch = self._in_batch, []
        if error is not None:
            told, self._waiting = [*told, *self._waiting], []
        _resolve(told, error)

    @property
    def _has_news(self) -> bool:
        """Whether there is anything to bring in. Most of the time nothing is, and no thread is woken."""
        if self._journal is not None:
            return False
        return not (self._floods.is_empty and self._trials.is_empty) or self._engine.has_changes

    def bring_in(self) -> None:
        """For a store in memory: what happened can be read at once. Any thread may ask."""
        if self._journal is None:
            with self._bringing_in:
                ended = Changes({}, {}, self._engine.take_closed())
                batch = Batch(None, ended, {}, self._floods.take(), self._trials.take())
                if batch:
                    commit(self._database, batch)
                    self._untrimmed += len(batch.denials)

    # -- the end -----------------------------------------------------------------------------------

    def finish(self) -> bool:
        """The last commits: one may be under way, one may have failed, one gathers the rest.

        False: not all is written. What is not stays in the journal.
        """
        self._is_closed = True
        if self._soon is not None:
            self._soon.cancel()
        self._thread.shutdown(wait=True)
        self._conclude()
        try:
            for _ in range(2):
                batch = self._batch or self._gather(self._clock())
                if batch is None:
                    break
                commit(self._database, batch)
                if batch.generation is not None and self._journal is not None:
                    self._journal.commit(batch.generation)
                self._batch = None
        except StoreUnavailable as error:
            self._troubles.note("closing", error)
            self._tell(str(error))
            return False
        _resolve(self._waiting, None)
        return True


def _resolve(waiters: Iterable[asyncio.Future[None]], error: str | None) -> None:
    for waiter in waiters:
        if waiter.done():
            continue
        if error is None:
            waiter.set_result(None)
        else:
            waiter.set_exception(StoreUnavailable(error))
