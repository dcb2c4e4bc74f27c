"""Turns `run` and `command` into calls to nodes, and sees to the undos that they leave behind."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.redis.batch import Call, Debt, script_words
from authz.store.redis.errors import Refused
from authz.store.redis.link import COMMAND_MS, Script, Undo, Word
from authz.store.redis.link_undo import Undoing
from authz.store.redis.node import Node
from authz.store.redis.target import Target
from authz.store.waits import Shared, Waits

DRAIN_SECONDS = 1.0
"""How long `close` waits for what is on the way."""


class Caller(ABC):
    """A link without its servers: which of them has a key is for the subclass to say."""

    shards: tuple[str, ...]

    def __init__(self, target: Target) -> None:
        self.scripts: dict[str, Script] = {}
        self.waits = Waits()
        self._target = target
        self._budget = target.budget_ms / 1000
        self._loop = asyncio.get_running_loop()
        self._undoing = Undoing(self._push)
        self._closed = False

    @property
    @abstractmethod
    def trouble(self) -> str | None: ...

    @abstractmethod
    def _node_of(self, key: str) -> Node | None:
        """The server of a key, "": any. None: not known right now."""

    @abstractmethod
    def _nodes(self) -> Iterable[Node]: ...

    @property
    def owed(self) -> int:
        """Undos of which it is not known that they ran."""
        return self._undoing.owed

    @property
    def given_up(self) -> int:
        """Undos that never ran."""
        return self._undoing.given_up

    @property
    def figures(self) -> Shared:
        """See `Link`."""
        return Shared(self.waits, self.owed, self.given_up)

    def teach(self, *scripts: Script) -> None:
        """Scripts that every server shall know as soon as it is connected, so that no call brings them."""
        self.scripts.update((script.sha, script) for script in scripts)

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        budget_ms: int = 0,
        undo: Undo | None = None,
    ) -> asyncio.Future[Any]:
        """See `Link`."""
        future = self._loop.create_future()
        call = Call(future, script_words(script, keys, args), script, undo)
        node = self._node_of(keys[0])
        if node is None or self._closed:
            call.fail(self._unavailable())
        else:
            node.send(call, budget_ms / 1000 if budget_ms else self._budget, counted=not budget_ms)
        return future

    def command(self, *words: Word, key: str = "", budget_ms: int = COMMAND_MS) -> asyncio.Future[Any]:
        """See `Link`."""
        call = Call(future := self._loop.create_future(), words)
        node = self._node_of(key)
        if node is None or self._closed:
            call.fail(self._unavailable())
        else:
            node.send(call, budget_ms / 1000)
        return future

    async def close(self) -> None:
        """See `Link`."""
        self._closed = True
        due = self._loop.time() + DRAIN_SECONDS
        # Nothing tells of the last reply: that keeps replies cheap.
        while self._loop.time() < due and self._busy():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        self._undoing.stop()
        for node in list(self._nodes()):
            await node.close()

    def _busy(self) -> bool:
        connected = [node for node in self._nodes() if node.connected]
        return any(not node.idle for node in connected) or bool(connected and self._undoing.owed)

    def _unavailable(self) -> StoreUnavailable:
        return StoreUnavailable(
            self.trouble or "no server of the Redis Cluster has this part of the keys: see CLUSTER SLOTS"
        )

    # What nodes leave to their link.

    def sent_on(self, node: Node, call: Call, error: Refused) -> bool:
        return False

    def owe(self, undo: Undo | Debt) -> None:
        self._undoing.owe(undo)

    def paid(self) -> None:
        self._undoing.paid()

    def usable(self, node: Node) -> None:
        self._undoing.hurry()

    def _push(self, call: Call, key: str) -> bool:
        node = self._node_of(key)
        return node is not None and node.push(call)
