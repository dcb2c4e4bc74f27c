"""A store by its URL."""

import time
from pathlib import Path

from authz.store.embedded import EmbeddedStore
from authz.store.memory import open_memory
from authz.store.protocols import Clock, StoreUnusable
from authz.store.sqlite.service import open_sqlite
from authz.store.sqlite.view import ViewStore
from authz.store.store import Store

SUPPORTED = "memory:// and sqlite:///absolute/path.db (or sqlite://./relative.db)"


def wall_clock() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def open_store(url: str, *, clock: Clock = wall_clock, timezone: str = "UTC") -> EmbeddedStore:
    """The service's store. Raises StoreUnusable, which says what to do next.

    `sqlite:///var/lib/authz/authz.db` is the file /var/lib/authz/authz.db:
    what follows `sqlite://` is the path, relative to the working directory
    unless it begins with a slash. The ledger sums by the days of `timezone`.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory" and not rest:
        return open_memory(clock, timezone=timezone)
    return open_sqlite(_path(url), clock, timezone=timezone)


def open_view(url: str, *, clock: Clock = wall_clock) -> Store:
    """A command's store: changes records, reads counters and refusals. Raises StoreUnusable."""
    if url.partition("://")[0] == "memory":
        raise StoreUnusable(
            "memory:// lives inside the service, where a command cannot reach it; "
            "use a store on disk such as sqlite:///var/lib/authz/authz.db"
        )
    return ViewStore(_path(url), clock)


def _path(url: str) -> Path:
    scheme, separator, path = url.partition("://")
    if not separator or scheme != "sqlite":
        raise StoreUnusable(f"the store {scheme!r} is not known; write {SUPPORTED}")
    if not path or path.endswith("/"):
        raise StoreUnusable(f"{url!r} names no file; write for example sqlite:///var/lib/authz/authz.db")
    return Path(path)
