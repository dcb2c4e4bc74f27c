"""A side of a copy by its URL."""

from collections.abc import Callable

from authz.store.copying.side import Side
from authz.store.copying.sqlite_side import SqliteSide
from authz.store.open import file_of, need_redis
from authz.store.protocols import Clock, StoreUnusable

OwnerOf = Callable[[str], str]
"""Whose a counter is (`Hold.owner`), by its key."""


def open_side(url: str, clock: Clock, owner_of: OwnerOf, *, new: bool) -> Side:
    """`new`: a file that is not there is made. Raises StoreUnusable, StoreUnavailable."""
    scheme = url.partition(":")[0]
    if scheme == "memory":
        raise StoreUnusable(
            "memory:// lives inside the service and ends with it: it cannot be copied, nor copied to"
        )
    if scheme.startswith("redis"):
        need_redis()
        from authz.store.copying.redis_side import RedisSide
        from authz.store.redis.target import Target

        return RedisSide(Target.parse(url), clock, owner_of)
    return SqliteSide(file_of(url), clock, new=new)


def is_spread(url: str) -> bool:
    """Whether what has one owner is kept together there, so that each counter's owner is asked for."""
    return "+cluster" in url.partition(":")[0]


def has_password(url: str) -> bool:
    """Whether a secret stands in the URL itself."""
    login, _, _ = url.partition("://")[2].partition("/")[0].rpartition("@")
    return ":" in login
