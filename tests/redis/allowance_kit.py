"""Replicas that set units aside, on one server, by a clock to turn."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from msgspec.structs import replace

from authz.store.protocols import Exhausted, Hold, Reserved, StoreUnavailable
from authz.store.redis.allowance.counters import AllowanceCounters
from authz.store.redis.allowance.pool import HOT
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link import Script, Undo, Word
from authz.store.redis.link_calls import Caller
from tests.contract.kit import MINUTE, Clock

TTL = 10 * MINUTE
GATEWAY = "edge"


class Watched:
    """A link that counts calls by script, and can lose the answers of one of them."""

    def __init__(self, link: Caller) -> None:
        self._link = link
        self.calls: Counter[str] = Counter()
        self.unanswered: set[str] = set()  # scripts that run, and of whose answer nobody hears
        self.refused: set[str] = set()  # scripts that never come there
        self.on_the_way_back: Callable[[], None] = lambda: None  # before an answer is heard of

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        budget_ms: int = 0,
        undo: Undo | None = None,
    ) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self._run(script, keys, args, undo))

    async def _run(self, script: Script, keys: Sequence[str], args: Sequence[Word], undo: Undo | None) -> Any:
        self.calls[script.name] += 1
        if script.name in self.refused:
            raise StoreUnavailable("nobody is there")
        answer = await self._link.run(script, keys, args, undo=undo)
        self.on_the_way_back()
        if script.name in self.unanswered:
            if undo is not None:
                await self._link.run(undo.script, undo.keys, undo.args)
            raise StoreUnavailable("nobody heard of it")
        return answer

    def __getattr__(self, name: str) -> Any:
        return getattr(self._link, name)


class Replica:
    """One service's counters, which Redis counts by the clock of `server`.

    `pause` is what it does instead of waiting for another to tell.
    """

    def __init__(
        self,
        link: Caller,
        clock: Clock,
        *,
        replicas: int = 1,
        server: Clock | None = None,
        pause: Callable[[float], Awaitable[None]] | None = None,
        **more: Any,
    ) -> None:
        self.link = Watched(link)
        self.redis = RedisCounters(self.link, server or clock)
        if pause is not None:
            more["pause"] = pause
        self.counters = AllowanceCounters(self.redis, self.redis, clock, replicas=lambda: replicas, **more)
        self.keeper = self.counters.keeper
        self._asked = 0

    async def ask(self, *holds: Hold, name: str = "", facts: bytes = b"facts") -> Reserved | Exhausted:
        """One more request."""
        self._asked += 1
        name = name or f"{id(self):x}-{self._asked}"
        outcome = await self.counters.reserve(name, GATEWAY, holds, TTL, facts)
        return replace(outcome, name=outcome.name or name) if isinstance(outcome, Reserved) else outcome

    async def quiet(self) -> None:
        """What was begun behind decisions is done."""
        while self.keeper._tasks:
            await asyncio.wait(self.keeper._tasks)

    async def hot(self, *holds: Hold) -> int:
        """Ask until units are set aside; how often that was."""
        for asked in range(1, HOT + 1):
            assert isinstance(await self.ask(*holds), Reserved)
            await self.quiet()
            if self.keeper.figures.lots:
                return asked
        raise AssertionError("nothing was set aside")
