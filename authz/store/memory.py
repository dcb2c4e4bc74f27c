"""`memory://`: everything ends with the process. For tests, demonstrations and limits that may begin anew."""

from collections.abc import Mapping

from authz.store.embedded import EmbeddedStore
from authz.store.engine import Engine
from authz.store.floods import Floods
from authz.store.protocols import Clock
from authz.store.sqlite.database import in_memory
from authz.store.sqlite.directory import MirrorDirectory
from authz.store.sqlite.ledger_upkeep import set_timezone
from authz.store.sqlite.registry import SqliteRegistry


def open_memory(clock: Clock, *, most_counters: int = 1_000_000, timezone: str = "UTC") -> EmbeddedStore:
    """The same parts as on disk, over a database in memory and without a journal."""
    database = in_memory()
    set_timezone(database, timezone)
    engine = Engine(most_counters=most_counters)
    mirror = MirrorDirectory(database)

    def levels(prefix: str) -> Mapping[str, bytes]:
        return engine.standings(prefix)

    return EmbeddedStore(
        clock=clock,
        engine=engine,
        mirror=mirror,
        registry=SqliteRegistry(database, clock, mirror.follow, levels),
        floods=Floods("memory"),
        database=database,
        reading=database,
        journal=None,
        on_close=lambda clean: database.close(),
    )
