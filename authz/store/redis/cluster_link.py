"""The link to a Redis Cluster: one connection to each master, and a map of who has which slots."""

import asyncio
import logging
from collections.abc import Coroutine, Iterable, Sequence
from contextlib import suppress
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.redis.batch import Call
from authz.store.redis.breaker import Pauses
from authz.store.redis.cluster_slots import (
    Elsewhere,
    Range,
    read_redirection,
    read_slots,
    shards_of,
    slot_of,
)
from authz.store.redis.errors import Refused
from authz.store.redis.link_calls import Caller
from authz.store.redis.names import SPREAD
from authz.store.redis.node import Node
from authz.store.redis.node_connect import ask, connect
from authz.store.redis.node_wire import Wire
from authz.store.redis.target import Address, Target, shown

MOST_HOPS = 4
"""Redirections of one call. More would mean that two servers send it to each other."""

AGAIN_SECONDS = 0.01
"""Until a call is tried again whose slot is half here and half there."""

REST_SECONDS = 10.0
"""How often the map is read where nothing seems wrong with it."""

KEEP_SECONDS = 60.0
"""How long a server without slots stays connected: it may be about to take some over."""

log = logging.getLogger("authz.store")


class ClusterLink(Caller):
    """A part of the Cluster that is down makes the calls for its slots fail, and no others."""

    shards = SPREAD

    def __init__(self, target: Target) -> None:
        super().__init__(target)
        self._by_address: dict[Address, Node] = {}
        self._by_slot: dict[int, Node] = {}  # of the slots that we use
        self._without: dict[Address, float] = {}  # servers without slots, since when
        self._lost_map: str | None = "Redis is not connected yet"  # why there is no map
        self._stale = asyncio.Event()
        self._mapping: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()  # nodes that start or close

    @property
    def trouble(self) -> str | None:
        """None while any part can be used: the others say so in the log, and to the calls that need them."""
        if not self._by_slot:
            return self._lost_map
        troubles = [node.trouble for node in set(self._by_slot.values())]
        return None if None in troubles else troubles[0]

    async def start(self) -> None:
        if self._mapping is None:
            await self._read_map()
            if self._tasks:
                await asyncio.wait(set(self._tasks))
            self._mapping = asyncio.create_task(self._keep_map(), name="redis-cluster")

    async def close(self) -> None:
        if self._mapping is not None:
            self._mapping.cancel()
            await asyncio.wait({self._mapping})
        await super().close()
        if self._tasks:
            for task in self._tasks:
                task.cancel()
            await asyncio.wait(set(self._tasks))

    def _node_of(self, key: str) -> Node | None:
        if key:
            return self._by_slot.get(slot_of(key))
        nodes = list(self._by_slot.values())
        return next((node for node in nodes if node.trouble is None), nodes[0] if nodes else None)

    def _nodes(self) -> Iterable[Node]:
        return self._by_address.values()

    def _node_at(self, address: Address) -> Node:
        node = self._by_address.get(address)
        if node is None:

            async def here() -> Address:
                return address

            node = self._by_address[address] = Node(self._target, self, here, probe_key="")
            node.address = address
            self._aside(node.start())
        return node

    # Calls that are answered with another address.

    def sent_on(self, node: Node, call: Call, error: Refused) -> bool:
        """MOVED, ASK and TRYAGAIN say that the call did not run: it is sent on, within its own budget.

        A script is not sent after the first of its keys that moved (ASK): there it would take those that
        have not arrived for empty. It waits until all of them have (MOVED), or its budget is over.
        """
        if error.code in {"CLUSTERDOWN", "READONLY", "MASTERDOWN"}:
            self._stale.set()
        if error.code not in {"MOVED", "ASK", "TRYAGAIN"}:
            return False
        if error.code == "TRYAGAIN" or (error.code == "ASK" and call.script is not None):
            if call.future is None:
                return False
            self._loop.call_later(AGAIN_SECONDS, self._send_on, node, call)
            return True
        call.hops += 1
        found = read_redirection(error, node.address)
        if found is None or call.hops > MOST_HOPS:
            return False
        self._follow(call, found)
        return True

    def _follow(self, call: Call, found: Elsewhere) -> None:
        other = self._node_at(found.address)
        if found.for_good:
            self._by_slot[found.slot] = other
            self._stale.set()
        else:
            self._without.setdefault(found.address, self._loop.time())
        call.asking = not found.for_good
        self._send_on(other, call)

    def _send_on(self, node: Node, call: Call) -> None:
        """A server that is not connected yet may be in a moment; the call's own deadline ends it."""
        if call.future is not None and call.future.done():
            return
        if node.push(*((Call(None, ("ASKING",)), call) if call.asking else (call,))):
            return
        if call.future is not None:
            self._loop.call_later(AGAIN_SECONDS, self._send_on, node, call)
        elif call.undo is not None:
            self.owe(call.undo)

    # The map.

    async def _keep_map(self) -> None:
        pauses = Pauses(0.05, 0.5)
        while True:
            wrong = self._lost_map is not None or any(node.trouble for node in self._by_slot.values())
            with suppress(TimeoutError):
                async with asyncio.timeout(pauses.take() if wrong else REST_SECONDS):
                    await self._stale.wait()
            if self._stale.is_set():
                self._stale.clear()
                await asyncio.sleep(pauses.take())  # many calls find out at once; not each of them asks
            if not wrong:
                pauses.restart()
            try:
                await self._read_map()
            except Exception:  # whatever it is: without this loop no other server would ever be found
                log.exception("the slots of the Redis Cluster cannot be read")

    async def _read_map(self) -> None:
        reasons = []
        for address in self._who_may_know():
            try:
                ranges = await self._ask(address)
            except StoreUnavailable as error:
                reasons.append(str(error))
                continue
            self._adopt(ranges)
            return
        why = f"no server of the Redis Cluster can be asked for its slots: {reasons[0]}"
        if self._lost_map != why:
            log.warning("%s", why)
        self._lost_map = why

    def _who_may_know(self) -> list[Address]:
        """Who works first, then who may; those of the URL last."""
        known = sorted(self._by_address.items(), key=lambda each: each[1].trouble is not None)
        return list(dict.fromkeys([*(address for address, _ in known), *self._target.hosts]))

    async def _ask(self, address: Address) -> list[Range]:
        """Raises StoreUnavailable, also where it has no slots to tell of."""
        node = self._by_address.get(address)
        if node is not None and node.trouble is None:
            call = Call(self._loop.create_future(), ("CLUSTER", "SLOTS"))
            node.send(call, 0.5)
            assert call.future is not None
            ranges = read_slots(await call.future, address)
        else:
            ranges = await _ask_once(self._target, address)
        if not ranges:
            raise StoreUnavailable(f"Redis at {shown(address)} is of a Cluster without slots")
        return ranges

    def _adopt(self, ranges: Sequence[Range]) -> None:
        shards = shards_of(ranges)
        self._by_slot = {}
        for address, mine in shards.items():
            node = self._node_at(address)
            self._without.pop(address, None)
            for shard in mine:
                self._by_slot[slot_of(f"az:{{{shard}}}:")] = node
            node.probe_key = f"az:{{{mine[0]}}}:probe" if mine else ""
        self._lost_map = None
        self._undoing.hurry()
        now = self._loop.time()
        for address in set(self._by_address) - set(shards):
            if now - self._without.setdefault(address, now) > KEEP_SECONDS:
                del self._without[address]
                self._aside(self._by_address.pop(address).close())

    def _aside(self, work: Coroutine[Any, Any, None]) -> None:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


class _Asking:
    """Listens to a connection that asks one question."""

    def __init__(self, address: Address) -> None:
        self._where = shown(address)

    def refused(self, call: Call, error: Refused) -> None:
        call.fail(error.unavailable(self._where))

    def answered(self, calls: int, begun: float) -> None:
        pass

    def unwanted(self, call: Call) -> None:
        pass

    def lost(self, wire: Wire, calls: Sequence[Call]) -> None:
        for call in calls:
            call.fail(StoreUnavailable(f"the connection to Redis at {self._where} was lost"))


async def _ask_once(target: Target, address: Address) -> list[Range]:
    connected = await connect(target, address, _Asking(address))
    try:
        async with asyncio.timeout(0.5):
            reply: Any = await ask(connected.wire, ("CLUSTER", "SLOTS"))[0]
    except TimeoutError:
        raise StoreUnavailable(f"Redis at {shown(address)} does not answer") from None
    finally:
        connected.wire.abort()
        await asyncio.wait({connected.wire.gone}, timeout=1)
    return read_slots(reply, address)
