"""The store on disk for a command: records to read and change, counters to look at."""

from collections.abc import Sequence
from pathlib import Path

from authz.store.durable import DurableLedger
from authz.store.engine import Engine
from authz.store.levels import decode_state
from authz.store.looking import LookingCounters, NoDenials, written
from authz.store.protocols import (
    Clock,
    Exhausted,
    Hold,
    Reserved,
)
from authz.store.reservations import decode
from authz.store.sqlite.database import Database, prepare
from authz.store.sqlite.denials import SqliteDenialLog
from authz.store.sqlite.directory import QueryDirectory
from authz.store.sqlite.ledger_reading import SqliteLedger
from authz.store.sqlite.registry import SqliteRegistry
from authz.store.sqlite.trials import SqliteTrialLog
from authz.store.store import Store


class ViewCounters(LookingCounters):
    """Peeks at what the service committed last. Charges nothing, ever."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        engine = Engine()
        states = {
            hold.key: self._database.one("SELECT state FROM counters WHERE key = ?", (hold.key,))
            for hold in holds
        }
        reservations = self._database.read("SELECT id, body FROM reservations")
        engine.restore(
            {key: decode_state(state) for key, state in states.items() if state is not None},
            {name: decode(body) for name, body in reservations},
        )
        now = self._clock()
        engine.sweep(now)
        return engine.peek(now, holds)


class ViewStore(Store):
    """What a command needs, beside a running service or without one."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._database = prepare(path, thorough=False)
        self.counters = ViewCounters(self._database, clock)
        self.directory = QueryDirectory(self._database)
        self.registry = SqliteRegistry(self._database, clock)
        self.denials = NoDenials()
        self.denial_log = SqliteDenialLog(self._database)
        self.trial_log = SqliteTrialLog(self._database)
        self.ledger = DurableLedger(SqliteLedger(self._database), written)

    async def close(self) -> None:
        self._database.close()
