"""A store by its URL."""

import time
from importlib.util import find_spec
from pathlib import Path

from authz.store.memory import open_memory
from authz.store.protocols import Clock, StoreUnusable
from authz.store.sqlite.service import open_sqlite
from authz.store.sqlite.view import ViewStore
from authz.store.store import ServiceStore, Store

SUPPORTED = (
    "memory://, sqlite:///absolute/path.db (or sqlite://./relative.db), redis://host:6379/0, "
    "redis+cluster://host1,host2 or redis+sentinel://host1,host2/master"
)


def wall_clock() -> int:
    """Milliseconds since the Unix epoch."""
    return time.time_ns() // 1_000_000


def open_store(url: str, *, clock: Clock = wall_clock, timezone: str = "UTC") -> ServiceStore:
    """The service's store. Raises StoreUnusable, which says what to do next.

    `sqlite:///var/lib/authz/authz.db` is the file /var/lib/authz/authz.db:
    what follows `sqlite://` is the path, relative to the working directory
    unless it begins with a slash. The ledger sums by the days of `timezone`. A store on Redis goes by
    Redis's own time unless `clock` is another than the wall's; it is opened in a running event loop.
    """
    scheme, _, rest = url.partition("://")
    if scheme == "memory" and not rest:
        return open_memory(clock, timezone=timezone)
    if scheme.startswith("redis"):
        need_redis()
        from authz.store.redis.store import RedisStore
        from authz.store.redis.target import Target

        counted_by = None if clock is wall_clock else clock
        return RedisStore(Target.parse(url), clock, timezone, counted_by)
    return open_sqlite(file_of(url), clock, timezone=timezone)


def open_view(url: str, *, clock: Clock = wall_clock) -> Store:
    """A command's store: changes records, reads counters and refusals. Raises StoreUnusable."""
    if url.partition("://")[0] == "memory":
        raise StoreUnusable(
            "memory:// lives inside the service, where a command cannot reach it; "
            "use a store on disk such as sqlite:///var/lib/authz/authz.db"
        )
    if url.startswith("redis"):
        need_redis()
        from authz.store.redis.target import Target
        from authz.store.redis.view import ViewRedisStore

        return ViewRedisStore(Target.parse(url), clock)
    return ViewStore(file_of(url), clock)


def check_url(url: str) -> None:
    """Whether a store of this kind can be opened here at all. Raises StoreUnusable."""
    scheme = url.partition("://")[0]
    if scheme.startswith("redis"):
        need_redis()
        from authz.store.redis.target import Target

        Target.parse(url)
    elif scheme != "memory":
        file_of(url)


def need_redis() -> None:
    """Redis's client is an extra: who keeps everything in a file does without. Raises StoreUnusable."""
    if find_spec("redis") is None or find_spec("hiredis") is None:
        raise StoreUnusable("a store on Redis needs its client; install it: pip install 'llm-authz[redis]'")


def file_of(url: str) -> Path:
    """The file of SQLite's URL. Raises StoreUnusable."""
    scheme, separator, path = url.partition("://")
    if not separator or scheme != "sqlite":
        raise StoreUnusable(f"the store {scheme!r} is not known; write {SUPPORTED}")
    if not path or path.endswith("/"):
        raise StoreUnusable(f"{url!r} names no file; write for example sqlite:///var/lib/authz/authz.db")
    return Path(path)
