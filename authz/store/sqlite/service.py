"""Open the store on disk for the service: alone, recovered, ready."""

import fcntl
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from authz.store import ops
from authz.store.counting import State
from authz.store.embedded import EmbeddedStore
from authz.store.engine import Engine
from authz.store.floods import Floods
from authz.store.journal import Journal
from authz.store.levels import decode_state
from authz.store.protocols import Clock, StoreUnavailable, StoreUnusable
from authz.store.reservations import decode
from authz.store.sqlite.commit import Batch, commit
from authz.store.sqlite.database import Database, connect, prepare
from authz.store.sqlite.directory import MirrorDirectory
from authz.store.sqlite.ledger_upkeep import set_timezone
from authz.store.sqlite.registry import SqliteRegistry

LOADED_AT_START = 200_000  # counters; the others are found on disk when they are asked for

log = logging.getLogger("authz.store")


def open_sqlite(
    path: Path, clock: Clock, *, most_counters: int = 1_000_000, timezone: str = "UTC"
) -> EmbeddedStore:
    """The service's store. Raises StoreUnusable; what is on disk is then left as it was."""
    writer = prepare(path, thorough=True)
    opened = [writer]
    lock = journal = None
    try:
        lock = _lock(path)
        set_timezone(writer, timezone)
        cold, records, reader, reading = (_also(path, opened) for _ in range(4))
        mirror = MirrorDirectory(reader)
        engine = Engine(cold=lambda key: _find(cold, key), most_counters=most_counters)
        journal = _recover(path, writer, engine)
        _tell_power_cut(writer)
        writer_journal = journal
        engine.journal = lambda op: writer_journal.append(ops.encode(op))
    except BaseException:
        for database in opened:
            database.close()
        if journal is not None:
            journal.close(clean=False)
        if lock is not None:
            os.close(lock)
        raise
    held, kept = lock, journal

    def close(clean: bool) -> None:
        if clean:
            _mark(writer, clean=True)
        kept.close(clean=clean)
        for database in opened:
            database.close()
        os.close(held)

    return EmbeddedStore(
        clock=clock,
        engine=engine,
        mirror=mirror,
        registry=SqliteRegistry(records, clock, mirror.follow),
        floods=Floods(f"{clock():x}.{os.getpid():x}"),
        database=writer,
        reading=reading,
        journal=journal,
        on_close=close,
    )


def _lock(path: Path) -> int:
    """Only one service counts on one database. The lock goes with the process, however it ends."""
    place = path.with_name(f"{path.name}-serve.lock")
    try:
        file = os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreUnusable(f"{place} cannot be written ({error.strerror}); check its permissions") from error
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        owner = os.read(file, 32).decode("ascii", "replace").strip() or "unknown"
        os.close(file)
        raise StoreUnusable(
            f"{path} is in use by another authz service (process {owner}); stop it, or use another store"
        ) from error
    os.ftruncate(file, 0)
    os.write(file, str(os.getpid()).encode())
    return file


def _also(path: Path, opened: list[Database]) -> Database:
    opened.append(connect(path))
    return opened[-1]


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """What is whole by every checksum may still be of a shape that we do not know."""
    try:
        yield
    except (msgspec.MsgspecError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise StoreUnusable(
            f"{path} holds counters that this authz cannot read: {error}. "
            "A newer authz wrote them, or they are damaged: upgrade authz, or restore a backup"
        ) from error


def _recover(path: Path, writer: Database, engine: Engine) -> Journal:
    """Counters as they were committed, then every later change from the journal, then all of it committed."""
    rows = writer.read("SELECT key, state FROM counters LIMIT ?", (LOADED_AT_START + 1,))
    engine.tables.has_cold = len(rows) > LOADED_AT_START
    reservations = writer.read("SELECT id, body FROM reservations")
    with _readable(path):
        engine.restore(
            {key: decode_state(state) for key, state in rows[:LOADED_AT_START]},
            {name: decode(body) for name, body in reservations},
        )
    committed = writer.one("SELECT value FROM meta WHERE name = 'generation'")
    journal = Journal(path, writer.one("SELECT value FROM meta WHERE name = 'identity'"), committed)
    try:
        engine.tables.keep_changes = True
        count = 0
        with _readable(path):
            for payload in journal.recover():
                engine.apply(ops.decode(payload))
                count += 1
        engine.recovered()
        newest = journal.newest
        commit(writer, Batch(newest, engine.take_changes(), {}, ()))
        journal.begin(newest)
    except BaseException:
        journal.close(clean=False)
        raise
    if count:
        log.info("recovered %d counter changes that the last run had written ahead", count)
    return journal


def _find(database: Database, key: str) -> State | None:
    encoded = database.one("SELECT state FROM counters WHERE key = ?", (key,))
    return None if encoded is None else decode_state(encoded)


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


def _tell_power_cut(writer: Database) -> None:
    """A journal in memory pages outlives the process, not the machine: say so when it may have mattered."""
    before = writer.one("SELECT value FROM meta WHERE name = 'running_since_boot'")
    if before and before != _boot():
        log.warning(
            "the machine stopped while the service ran: what it counted since the last group commit "
            "(less than a second) may be missing"
        )
    _mark(writer, clean=False)


def _mark(writer: Database, *, clean: bool) -> None:
    value = "" if clean else _boot()
    try:
        with writer.change() as connection:
            connection.execute("INSERT OR REPLACE INTO meta VALUES ('running_since_boot', ?)", (value,))
    except StoreUnavailable as error:
        if not clean:
            raise StoreUnusable(str(error)) from error
        log.error("closing the store: %s", error)
