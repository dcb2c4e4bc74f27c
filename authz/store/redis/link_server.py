"""The link to one server, wherever it is right now."""

from collections.abc import Iterable

from authz.store.redis.link_calls import Caller
from authz.store.redis.names import SINGLE, records
from authz.store.redis.node import Node
from authz.store.redis.target import Address, Target


class ServerLink(Caller):
    """All keys are on one server."""

    shards = SINGLE

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._node = Node(target, self, self._locate, probe_key=records("probe"))

    @property
    def trouble(self) -> str | None:
        return self._node.trouble

    async def start(self) -> None:
        await self._node.start()

    async def _locate(self) -> Address:
        return self._target.hosts[0]

    def _node_of(self, key: str) -> Node:
        return self._node

    def _nodes(self) -> Iterable[Node]:
        return (self._node,)
