"""What is wrong with Redis, in words that say what to do next. Never what was sent: it may be a secret."""

from collections.abc import Iterator
from contextlib import contextmanager

import redis
from redis.exceptions import ClusterError, RedisClusterException

from authz.store.protocols import StoreUnavailable
from authz.store.redis.errors import Refused

FAILURES = (redis.RedisError, RedisClusterException, OSError)


@contextmanager
def explained() -> Iterator[None]:
    """Turns whatever redis-py raises into StoreUnavailable."""
    try:
        yield
    except FAILURES as error:
        raise StoreUnavailable(explain(error)) from error


def explain(error: Exception) -> str:
    said = str(error)
    match error:
        case redis.AuthenticationError():
            return "Redis refuses the user or password; correct them in the store's URL"
        case redis.exceptions.NoPermissionError():
            return f"Redis does not permit it: {said}; give the user of the store's URL ~az:* &az:* +@all"
        case redis.BusyLoadingError():
            return "Redis is loading its data; it answers when it is done"
        case redis.ReadOnlyError():
            return "this Redis is a replica, which takes no changes; point the store's URL at the master"
        case redis.exceptions.OutOfMemoryError():
            return "Redis is at its maxmemory; raise it, or move what else is in it elsewhere"
        case ClusterError() | RedisClusterException():
            return f"the Redis Cluster does not serve all of its slots: {said}; look at CLUSTER INFO"
        case redis.TimeoutError() | TimeoutError():
            return "Redis did not answer in time; see whether it is overloaded, or far away"
        case redis.ConnectionError() | OSError():
            return f"Redis cannot be reached: {said}"
        case _:
            return f"Redis refuses: {Refused(said).words()}"
