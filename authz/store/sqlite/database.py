"""A connection to the database, and what can be wrong with the file."""

import os
import sqlite3
import stat
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import RLock
from typing import Any

from authz.store.protocols import StoreUnavailable, StoreUnusable
from authz.store.sqlite.schema import APPLICATION, VERSION, upgrade

BUSY_S = 5.0  # how long a change waits for another process's
LOG_PAGES = 8_000  # of the write-ahead log (32 MiB), until each page is put into the file once
CACHE_KIB = 16_384  # of pages that the one who writes keeps in memory
CHECKED_BYTES = 64 << 20  # files up to this size are checked whole before the service uses them


class Database:
    """One connection that any thread may use, one at a time. Changes are durable when `change` ends."""

    def __init__(self, connection: sqlite3.Connection, place: str) -> None:
        self._connection = connection
        self._place = place
        self._lock = RLock()

    def read(self, sql: str, arguments: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        with self._lock, self._explained():
            return self._connection.execute(sql, arguments).fetchall()

    def one(self, sql: str, arguments: Sequence[Any] = ()) -> Any:
        """The first column of the first row; None without a row."""
        with self._lock, self._explained():
            row = self._connection.execute(sql, arguments).fetchone()
        return None if row is None else row[0]

    @contextmanager
    def change(self) -> Iterator[sqlite3.Connection]:
        """One transaction: committed at the end, undone by an exception."""
        with self._lock, self._explained():
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
                self._connection.execute("COMMIT")
            except BaseException:
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.IntegrityError:
            raise
        except sqlite3.Error as error:
            raise StoreUnavailable(explain(error, self._place)) from error


def explain(error: sqlite3.Error, place: str) -> str:
    """What is wrong and what to do next."""
    name = getattr(error, "sqlite_errorname", None) or ""
    if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
        return f"{place} is locked by another program; close what holds it (a sqlite3 shell?) and try again"
    if name.startswith("SQLITE_FULL"):
        return f"no space left for {place}; free some and try again"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"{place} cannot be written; check the permissions of the file and of its directory"
    if name.startswith(("SQLITE_NOTADB", "SQLITE_CORRUPT")):
        return f"{place} is damaged or not a database ({error}); move it aside and restore a backup"
    return f"{place}: {error}"


def connect(path: Path) -> Database:
    """Another connection to a database that `prepare` saw."""
    return Database(_open(path), str(path))


def in_memory() -> Database:
    """A database that lives with this process."""
    connection = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    upgrade(connection)
    return Database(connection, "memory://")


def prepare(path: Path, *, thorough: bool) -> Database:
    """Open the file, make it if it is missing, refuse it if it is not ours. Nothing is ever overwritten.

    `thorough` also checks a file of moderate size from end to end. Raises StoreUnusable.
    """
    _check_place(path)
    connection = None
    try:
        connection = _open(path)
        connection.execute(f"PRAGMA cache_size = -{CACHE_KIB}")
        _check(connection, path, thorough)
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise StoreUnusable(explain(error, str(path))) from error
    except StoreUnavailable:
        if connection is not None:
            connection.close()
        raise
    return Database(connection, str(path))


def _check_place(path: Path) -> None:
    parent = path.parent
    if not parent.is_dir():
        raise StoreUnusable(
            f"the directory {parent} does not exist; create it, or change `store` in the configuration"
        )
    try:
        mode = path.stat().st_mode
    except FileNotFoundError:
        if not os.access(parent, os.W_OK | os.X_OK, effective_ids=True):
            raise StoreUnusable(f"the directory {parent} cannot be written; change its permissions") from None
        os.close(
            os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        )  # SQLite would make it readable to all
        return
    except PermissionError as error:
        raise StoreUnusable(f"{path} cannot be reached; change the permissions of {parent}") from error
    if not stat.S_ISREG(mode):
        raise StoreUnusable(f"{path} is not a file; change `store` in the configuration")
    if not os.access(path, os.R_OK | os.W_OK, effective_ids=True):
        raise StoreUnusable(f"{path} is read-only for this user; change its owner or permissions")


def _open(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None, check_same_thread=False)
    connection.execute("PRAGMA synchronous = FULL")  # durable before it is acknowledged
    connection.execute("PRAGMA journal_size_limit = 67108864")
    connection.execute(f"PRAGMA wal_autocheckpoint = {LOG_PAGES}")
    return connection


def _check(connection: sqlite3.Connection, path: Path, thorough: bool) -> None:
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    tables = connection.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0]
    if application == 0 and tables == 0:
        connection.execute("PRAGMA journal_mode = WAL")
        upgrade(connection)
        return
    if application != APPLICATION:
        raise StoreUnusable(f"{path} is a database of another program; choose another file for `store`")
    if version > VERSION:
        raise StoreUnusable(
            f"{path} was written by a newer authz (schema {version}, this one knows {VERSION}); upgrade authz"
        )
    if thorough and path.stat().st_size <= CHECKED_BYTES:
        verdict = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            found = verdict.splitlines()[-1]  # SQLite puts a heading before it
            raise StoreUnusable(f"{path} is damaged ({found}); move it aside and restore a backup")
    if connection.execute("PRAGMA journal_mode = WAL").fetchone()[0] != "wal":
        raise StoreUnusable(f"{path} cannot use a write-ahead log; put it on a local disk")
    if version < VERSION:
        upgrade(connection)
