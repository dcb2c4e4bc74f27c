"""Waiting until replicas of Redis have what was written, where the store's URL asks for it.

Redis acknowledges a write before its replicas have it, so a failover may lose the last ones. WAIT tells
how many have everything up to the last write of a connection: so one is made, on a connection that no
decision waits for, after all that is asked about (https://redis.io/docs/latest/commands/wait/).
"""

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.redis.failures import explained
from authz.store.redis.names import ledger

PATIENCE_MS = 1_000


class Confirmed:
    """Who asks while an answer is under way shares the next one."""

    def __init__(self, client: Any, shards: Sequence[str], replicas: int) -> None:
        self._client = client
        self._shards = shards
        self._replicas = replicas
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authz-replicas")
        self._waiting: list[asyncio.Future[None]] = []
        self._asked: asyncio.Future[None] | None = None

    async def durable(self) -> None:
        """Return once everything that was acknowledged so far is where the URL wants it.

        Raises StoreUnavailable.
        """
        if not self._replicas:
            return
        loop = asyncio.get_running_loop()
        waiter = loop.create_future()
        self._waiting.append(waiter)
        if self._asked is None:
            self._begin(loop)
        await waiter

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        waiting, self._waiting = self._waiting, []
        self._asked = loop.run_in_executor(self._thread, self._ask)
        self._asked.add_done_callback(lambda asked: self._tell(loop, asked, waiting))

    def _tell(
        self,
        loop: asyncio.AbstractEventLoop,
        asked: asyncio.Future[None],
        waiting: Sequence[asyncio.Future[None]],
    ) -> None:
        error = asked.exception()
        for waiter in waiting:
            if waiter.done():
                continue
            if error is None:
                waiter.set_result(None)
            else:
                waiter.set_exception(StoreUnavailable(str(error)))
        self._asked = None
        if self._waiting:
            self._begin(loop)

    def _ask(self) -> None:
        with explained():
            for server, key in self._servers():
                pipeline = server.pipeline(transaction=False)
                pipeline.set(key, "", px=PATIENCE_MS)
                pipeline.execute_command("WAIT", self._replicas, PATIENCE_MS)
                _, have = pipeline.execute()
                if have < self._replicas:
                    raise StoreUnavailable(
                        f"{have} of {self._replicas} replicas of Redis have the last writes; "
                        "bring the others back, or lower wait_replicas in the store's URL"
                    )

    def _servers(self) -> list[tuple[Any, str]]:
        """Each server that holds a part, with a key that is there."""
        keys = [ledger(shard, "wait") for shard in self._shards]
        if not hasattr(self._client, "get_node_from_key"):
            return [(self._client, keys[0])]
        nodes = {self._client.get_node_from_key(key): key for key in keys}
        return [(self._client.get_redis_connection(node), key) for node, key in nodes.items()]

    async def close(self) -> None:
        await asyncio.get_running_loop().run_in_executor(None, self._thread.shutdown)
