"""Redis-py's own clients, for what is not on the path of a request: records, commands, pub/sub, Sentinels.

Nothing is tried twice by them: a command whose connection broke may have run.
"""

import asyncio
from threading import Lock
from typing import Any, cast

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.asyncio.retry import Retry as AsyncRetry
from redis.asyncio.sentinel import Sentinel as AsyncSentinel
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.credentials import CredentialProvider
from redis.exceptions import ClusterError, RedisClusterException
from redis.retry import Retry
from redis.sentinel import Sentinel

from authz.store.protocols import StoreUnavailable
from authz.store.redis.target import CLUSTER, SENTINEL, Target, shown

TIMEOUT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
SENTINEL_SECONDS = 0.5

FAILURES = (redis.RedisError, RedisClusterException, ClusterError, OSError)


class _Login(CredentialProvider):
    """User and password as they are when a connection is made."""

    def __init__(self, target: Target, *, sentinel: bool = False) -> None:
        self._target = target
        self._sentinel = sentinel

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        target = self._target
        if self._sentinel:
            user, password = target.sentinel_user, target.sentinel_password
        else:
            user, password = target.user, target.password
        return (user, password) if user else (password,)

    async def get_credentials_async(self) -> tuple[str] | tuple[str, str]:
        return self.get_credentials()


class _Sentinels(Sentinel):
    """Asked by one at a time.

    Redis-py then moves the one that answered to the front, by the place that it had before it was asked: two
    at once would lose one of them, and have another twice.
    """

    def __init__(self, *hosts: Any, **options: Any) -> None:
        super().__init__(*hosts, **options)  # type: ignore[no-untyped-call]
        self._asking = Lock()

    def discover_master(self, service_name: str) -> Any:
        with self._asking:
            return super().discover_master(service_name)  # type: ignore[no-untyped-call]


class _AsyncSentinels(AsyncSentinel):
    """Likewise."""

    def __init__(self, *hosts: Any, **options: Any) -> None:
        super().__init__(*hosts, **options)  # type: ignore[no-untyped-call]
        self._asking = asyncio.Lock()

    async def discover_master(self, service_name: str) -> Any:
        async with self._asking:
            return await super().discover_master(service_name)


class _Master(redis.Redis):
    """Closes its way to the Sentinels too."""

    sentinels: Any

    def find_master(self) -> None:
        """Ask who it is by now. Connections to another one are not used again.

        Redis-py asks when it connects, and leaves a server that takes no writes any more; an old master
        that is only cut off from the Sentinels takes them, and all of them are lost.
        """
        cast(Any, self.connection_pool).get_master_address()

    def close(self) -> None:
        super().close()
        self.sentinels.close()


class _AsyncMasterPool(SentinelConnectionPool):
    """Leaves no connection to a former master in use.

    Of those that are in use while another becomes the master, redis-py's own disconnects none; they came
    back, and went on being used for as long as the former one answered. Its synchronous one drops them.
    """

    async def release(self, connection: Any) -> None:
        if (connection.host, connection.port) != self.master_address:
            await connection.disconnect()  # it connects anew when it is used, and asks where to
        await super().release(connection)


class _AsyncMaster(redis.asyncio.Redis):
    """Closes its way to the Sentinels too."""

    sentinels: Any

    async def find_master(self) -> None:
        """As of `_Master`."""
        await cast(Any, self.connection_pool).get_master_address()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        await super().aclose(close_connection_pool)
        await self.sentinels.aclose()


def sync_client(target: Target) -> Any:
    """A `redis.Redis`, or what looks like one: close it. Speaks RESP2 and bytes.

    Raises StoreUnavailable where a Cluster cannot be reached; the others connect with the first command.
    """
    options = _options(target) | {"retry": Retry(NoBackoff(), 0)}
    if target.kind == CLUSTER:
        nodes = [ClusterNode(*address) for address in target.hosts]  # type: ignore[no-untyped-call]
        try:
            return redis.RedisCluster(startup_nodes=nodes, **options)
        except FAILURES as error:
            raise StoreUnavailable(f"no server of the Redis Cluster can be used: {error}") from None
    if target.kind == SENTINEL:
        sentinels = _Sentinels(target.hosts, sentinel_kwargs=_sentinel_options(target), **options)
        master = sentinels.master_for(target.name, redis_class=_Master, db=target.db)  # type: ignore[no-untyped-call]
        master.sentinels = sentinels
        return master
    host, port = target.hosts[0]
    return redis.Redis(host, port, db=target.db, **options)


def async_client(target: Target) -> Any:
    """The same for asyncio: `aclose` it. Connects with the first command."""
    options = _options(target) | {"retry": AsyncRetry(NoBackoff(), 0)}
    if target.kind == CLUSTER:
        return redis.asyncio.RedisCluster(
            startup_nodes=[AsyncClusterNode(*address) for address in target.hosts], **options
        )
    if target.kind == SENTINEL:
        sentinels = async_sentinels(target, **options)
        master = sentinels.master_for(
            target.name, redis_class=_AsyncMaster, connection_pool_class=_AsyncMasterPool, db=target.db
        )
        master.sentinels = sentinels
        return master
    host, port = target.hosts[0]
    return redis.asyncio.Redis(host=host, port=port, db=target.db, **options)


def async_sentinels(target: Target, **options: Any) -> Any:
    """Redis-py's view of the Sentinels; `discover_master(target.name)` asks them."""
    return _AsyncSentinels(target.hosts, sentinel_kwargs=_sentinel_options(target), **options)


def _options(target: Target) -> dict[str, Any]:
    options = _ways(target) | {
        "client_name": "authz",
        "socket_timeout": TIMEOUT_SECONDS,
        "socket_connect_timeout": CONNECT_SECONDS,
    }
    if target.user or target.password:
        options["credential_provider"] = _Login(target)
    return options


def _sentinel_options(target: Target) -> dict[str, Any]:
    options = _ways(target) | {
        "socket_timeout": SENTINEL_SECONDS,
        "socket_connect_timeout": SENTINEL_SECONDS,
        "retry": None,
    }
    if target.sentinel_user or target.sentinel_password_file:
        options["credential_provider"] = _Login(target, sentinel=True)
    return options


def _ways(target: Target) -> dict[str, Any]:
    if not target.tls:
        return {"protocol": 2}
    target.context()  # says what is wrong with the files, as redis-py does not
    return {
        "protocol": 2,
        "ssl": True,
        "ssl_ca_certs": target.ca or None,
        "ssl_certfile": target.cert or None,
        "ssl_keyfile": target.key or None,
    }


def sentinels_shown(target: Target) -> str:
    """For messages."""
    return ", ".join(shown(address) for address in target.hosts)
