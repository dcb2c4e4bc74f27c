"""One Redis server: connected as long as it can be, with a breaker before it."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from time import monotonic
from typing import Protocol

from authz.store.protocols import StoreUnavailable
from authz.store.redis.batch import Call, Debt
from authz.store.redis.breaker import Breaker, Pauses
from authz.store.redis.errors import TROUBLES, Refused
from authz.store.redis.link import Script, Undo
from authz.store.redis.node_connect import ask, connect
from authz.store.redis.node_wire import Wire
from authz.store.redis.target import Address, Target, shown
from authz.store.waits import Waits

log = logging.getLogger("authz.store")

MOST_WAITING = 4096
"""Calls on one connection. A server that is this far behind cannot answer the next one in time."""

STALL_SECONDS = 0.5
"""Without an answer to a probe for so long, the connection is given up."""

HEARTBEAT_SECONDS = 1.0
"""An idle connection is probed this often, so that trouble shows before a request meets it."""

LOOK_SECONDS = 0.001
"""So long before a deadline we look who still waits. A timer may come late, because we were busy ourselves or
had no processor, and some event loops run timers before they read: so what is there is read in between."""


class Fates(Protocol):
    """What a node leaves to its link."""

    scripts: dict[str, Script]
    """By SHA-1: what every server should know from the start."""

    waits: Waits
    """Where calls that are `counted` tell how long they took."""

    def sent_on(self, node: "Node", call: Call, error: Refused) -> bool:
        """The server says that another one has the key, or soon. False: not followed."""
        ...

    def owe(self, undo: Undo | Debt) -> None: ...
    def paid(self) -> None: ...
    def usable(self, node: "Node") -> None: ...


class Node:
    """`send` is for the event loop only, never waits, and fails a call at once in trouble."""

    def __init__(
        self,
        target: Target,
        fates: Fates,
        locate: Callable[[], Awaitable[Address]],
        *,
        probe_key: str,  # "": it keeps no key
        breaker: Breaker | None = None,
    ) -> None:
        self.trouble: str | None = "Redis is not connected yet"
        self.version: tuple[int, ...] = ()
        self.probe_key = probe_key
        self.address: Address = target.hosts[0]
        self._target = target
        self._fates = fates
        self._locate = locate
        self._breaker = breaker or Breaker()
        self._loop = asyncio.get_running_loop()
        self._wire: Wire | None = None
        self._heard = 0  # of the wire, at the last failure
        self._queue: list[Call] = []
        self._packed: list[bytes] = []
        self._groups: dict[float, list[Call]] = {}  # of the queue, by budget
        self._begun = 0.0  # of the queue: when its first call came
        self._alarm: asyncio.Future[None] = self._loop.create_future()
        self._tried = asyncio.Event()
        self._keeper: asyncio.Task[None] | None = None

    @property
    def where(self) -> str:
        return shown(self.address)

    # What calls go through.

    def send(self, call: Call, budget: float, *, counted: bool = False) -> None:
        """`budget` in seconds. `counted`: how long it takes is told."""
        wire = self._wire
        if wire is None or self.trouble is not None:
            call.fail(StoreUnavailable(self.trouble or "Redis is not connected"))
        elif len(wire.waiting) + len(self._queue) >= MOST_WAITING:
            call.fail(StoreUnavailable(f"too many calls wait for Redis at {self.where}"))
        else:
            self._enqueue(call)
            if counted:
                call.begun = self._begun
            group = self._groups.get(budget)
            if group is None:
                self._groups[budget] = [call]
            else:
                group.append(call)

    def push(self, *calls: Call) -> bool:
        """Send what has its deadline already, or none, in trouble too. False: there is no way to send."""
        wire = self._wire
        if wire is None or len(wire.waiting) + len(self._queue) >= MOST_WAITING:
            return False
        for call in calls:
            self._enqueue(call)
        return True

    def _enqueue(self, call: Call) -> None:
        packed = call.packed()  # first: what cannot be packed is the caller's error, and nobody else's
        if not self._queue:
            self._begun = monotonic()
            self._loop.call_soon(self._flush)
        self._queue.append(call)
        self._packed.append(packed)

    def _flush(self) -> None:
        calls, packed, groups = self._queue, self._packed, self._groups
        self._queue, self._packed, self._groups = [], [], {}
        wire = self._wire
        if wire is None:
            self._end(calls, ran=False)
            return
        wire.write(calls, packed[0] if len(packed) == 1 else b"".join(packed))
        now = self._loop.time()
        for budget, group in groups.items():
            due = now + budget
            self._loop.call_at(due - LOOK_SECONDS, self._look, group, due, budget)

    def _look(self, calls: Sequence[Call], due: float, budget: float) -> None:
        if late := _unanswered(calls):
            self._loop.call_at(max(due, self._loop.time() + LOOK_SECONDS), self._expire, late, budget)

    def _expire(self, calls: Sequence[Call], budget: float) -> None:
        late = _unanswered(calls)
        if not late:
            return
        text = f"Redis at {self.where} does not answer within {budget * 1000:.0f} ms"
        for call in late:
            self._fail(call, StoreUnavailable(text))
            self._owe(call)
        self._failed(text)

    def _end(self, calls: Sequence[Call], *, ran: bool) -> None:
        """They will have no reply. Not `ran`: they never left."""
        text = self.trouble or f"the connection to Redis at {self.where} was lost"
        for call in calls:
            if ran or call.future is None:
                self._owe(call)
            self._fail(call, StoreUnavailable(text))

    def _fail(self, call: Call, error: StoreUnavailable) -> None:
        """Nothing if it has its answer already."""
        if call.begun and call.future is not None and not call.future.done():
            self._fates.waits.add(monotonic() - call.begun, 1)
        call.fail(error)

    def _owe(self, call: Call) -> None:
        if call.undo is not None:
            self._fates.owe(call.undo)
            call.undo = None

    # What the wire tells.

    def refused(self, call: Call, error: Refused) -> None:
        abandoned = call.future is not None and call.future.done()
        if error.code == "NOSCRIPT" and call.script is not None and not call.whole:
            call.whole = True
            self._fates.scripts[call.script.sha] = call.script
            if not abandoned and not self.push(call):
                self._end([call], ran=False)
            return
        if not abandoned and self._fates.sent_on(self, call, error):
            return
        if call.future is None or error.ran:
            self._owe(call)
        unavailable = error.unavailable(self.where)
        self._fail(call, unavailable)
        if error.code == "READONLY":
            self.leave(str(unavailable))  # by its name there may be another master now
        elif error.code in TROUBLES:
            self._failed(str(unavailable))

    def answered(self, calls: int, begun: float) -> None:
        if begun:
            self._fates.waits.add(monotonic() - begun, calls)

    def unwanted(self, call: Call) -> None:
        if call.future is None:
            if call.undo is not None:
                call.undo = None
                self._fates.paid()
        elif call.future.cancelled():
            self._owe(call)

    def lost(self, wire: Wire, calls: Sequence[Call]) -> None:
        if wire is self._wire:
            self._wire = None
            if self.trouble is None:
                self._say(f"the connection to Redis at {self.where} was lost")
        self._end(calls, ran=True)

    # What keeps it usable.

    async def start(self) -> None:
        """Returns at the first success or failure, and goes on trying."""
        if self._keeper is None:
            self._keeper = asyncio.create_task(self._keep(), name="redis-node")
        await self._tried.wait()

    def leave(self, why: str) -> None:
        """Connect anew, to where the server is now."""
        if self._wire is not None:
            self._say(why)
            self._wire.abort()

    @property
    def connected(self) -> bool:
        return self._wire is not None

    @property
    def idle(self) -> bool:
        """Nothing is on the way."""
        return self._wire is None or not (self._queue or self._wire.waiting)

    async def close(self) -> None:
        """Disconnect at once. What is on the way is lost."""
        self.trouble = f"the connection to Redis at {self.where} is closed"
        if self._keeper is not None:
            self._keeper.cancel()
            await asyncio.wait({self._keeper})
            self._keeper = None

    async def _keep(self) -> None:
        pauses = Pauses(0.05, 0.3)
        while True:
            try:
                if await self._live():
                    pauses.restart()
            except StoreUnavailable as error:
                self._say(str(error))
            except Exception:  # whatever it is: without this loop nothing would ever work again
                log.exception("the connection to Redis at %s failed", self.where)
            self._tried.set()
            await asyncio.sleep(pauses.take())

    async def _live(self) -> bool:
        """From one connection's beginning to its end. Whether it was of any use."""
        self.address = await self._locate()
        connected = await connect(self._target, self.address, self, self._fates.scripts.values())
        self.version = connected.version
        try:
            return await self._watch(connected.wire)
        finally:
            connected.wire.abort()
            await asyncio.wait({connected.wire.gone}, timeout=1)

    async def _watch(self, wire: Wire) -> bool:
        """Until the connection ends. Whether it was ever usable."""
        self._wire = wire
        self._breaker.trip()
        useful = False
        while not wire.ended.done():
            if self._breaker.open:
                if await self._probe(wire, in_time=True):
                    self._recovered()
                    useful = True
                else:
                    await asyncio.wait({wire.ended}, timeout=self._breaker.pauses.take())
                continue
            heard = wire.heard
            self._alarm = self._loop.create_future()
            await asyncio.wait(
                {wire.ended, self._alarm}, timeout=HEARTBEAT_SECONDS, return_when=asyncio.FIRST_COMPLETED
            )
            if self._breaker.open or wire.ended.done():
                continue
            # Asked in traffic too: Redis 6 lets a script write where a command would have no leave to
            # (min-replicas-to-write). How long it takes there, the calls themselves tell.
            if not await self._probe(wire, in_time=wire.heard == heard):
                self._breaker.trip()
        return useful

    async def _probe(self, wire: Wire, *, in_time: bool) -> bool:
        """Whether it answers, and takes writes: SETRANGE of nothing changes nothing, yet is one."""
        begun = self._loop.time()
        write = [("SETRANGE", self.probe_key, 0, b"")] if self.probe_key else []
        replies = ask(wire, ("PING",), *write)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                await asyncio.gather(*replies)
        except TimeoutError:
            self.leave(f"Redis at {self.where} does not answer")
            return False
        except StoreUnavailable as error:
            self._say(str(error))
            return False
        finally:
            self._tried.set()
        budget = self._target.budget_ms
        if in_time and (self._loop.time() - begun) * 1000 > budget:
            self._say(f"Redis at {self.where} takes more than {budget} ms for an answer")
            return False
        return True

    def _failed(self, text: str) -> None:
        heard = self._wire.heard if self._wire is not None else 0
        if heard != self._heard:  # it answered since the last failure
            self._breaker.failures = 0
            self._heard = heard
        if self._breaker.failed():
            self._say(text)
            if not self._alarm.done():
                self._alarm.set_result(None)

    def _recovered(self) -> None:
        self._breaker.close()
        if self.trouble is not None:
            log.info("Redis at %s is usable", self.where)
        self.trouble = None
        self._fates.usable(self)

    def _say(self, text: str) -> None:
        if self.trouble != text:
            log.warning("%s", text)
        self.trouble = text


def _unanswered(calls: Sequence[Call]) -> list[Call]:
    return [call for call in calls if call.future is not None and not call.future.done()]
