"""Keeps child processes alive, says why one died, and stops them in time.

Clock, sleep and the starting of processes are injected, so that the tests need no real child.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from pathlib import Path

from authz.gateway.backoff import Backoff
from authz.gateway.child import Child, Command

Start = Callable[[Command], Awaitable[Child]]
Say = Callable[[str], None]
Listens = Callable[[int], bool]
"""Whether the process of that id has its port open."""

TAIL_LINES = 5
_TAIL_BYTES = 8192
_LONGEST_LINE = 300
_LOOK_EVERY = 0.05  # seconds


class Supervisor:
    """One child: started, watched, and started again with a growing pause when it dies.

    `listens` tells a child that works from one that fails at its start: the first death of one that came to
    listen is answered at once, however many there were before.
    """

    def __init__(
        self,
        command: Command,
        *,
        start: Start,
        say: Say,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        backoff: Backoff | None = None,
        listens: Listens | None = None,
    ) -> None:
        self.command = command
        self._start = start
        self._say = say
        self._clock = clock
        self._sleep = sleep
        self._backoff = backoff or Backoff()
        self._listens = listens
        self._came_to_listen = False
        self._child: Child | None = None
        self._stopping = False
        self._gone = asyncio.Event()
        self._gone.set()
        self.first_death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        """Resolves with the reason when the child ends for the first time."""

    @property
    def pid(self) -> int | None:
        """The running child's process id; None between two lives."""
        return self._child.pid if self._child is not None else None

    async def run(self) -> None:
        """Until `stop`. A child that cannot be started counts as one that died."""
        failures = 0
        while not self._stopping:
            begun, read_from = self._clock(), _size(self.command.log)
            reason = await self._live()
            if self._stopping:
                return
            well = self._came_to_listen or self._clock() - begun >= self._backoff.steady
            failures = 1 if well else failures + 1
            delay = self._backoff.delay(failures)
            reason += "".join(f"\n    {line}" for line in tail(self.command.log, read_from))
            if not self.first_death.done():
                self.first_death.set_result(reason)
            again = f"Starting it again in {delay:g} s; its log is {self.command.log}"
            self._say(f"{self.command.name} {reason}\n  {again}")
            await self._sleep(delay)

    async def _live(self) -> str:
        """One life; returns how it ended."""
        self._gone.clear()
        self._came_to_listen = False
        watching = None
        try:
            self._child = await self._start(self.command)
            if self._stopping:  # it was told to stop while it came into being
                self._child.signal(signal.SIGKILL)
            watching = asyncio.create_task(self._watch(self._child.pid))
            return ending(await self._child.wait())
        except OSError as error:
            return f"cannot be started: {error.strerror or error}"
        finally:
            if watching is not None:
                watching.cancel()
            self._child = None
            self._gone.set()

    async def _watch(self, pid: int) -> None:
        """Until it listens."""
        while self._listens is not None and not self._came_to_listen:
            self._came_to_listen = self._listens(pid)
            await asyncio.sleep(_LOOK_EVERY)

    async def stop(self, grace: float) -> None:
        """Ask it to end; after `grace` seconds make it."""
        self._stopping = True
        self._signal(signal.SIGTERM)
        try:
            async with asyncio.timeout(grace):
                await self._gone.wait()
        except TimeoutError:
            self.kill()
            await self._gone.wait()

    def kill(self) -> None:
        """End it at once."""
        self._stopping = True
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        if self._child is not None:
            self._child.signal(number)


async def stop_all(supervisors: Sequence[Supervisor], grace: float) -> None:
    """Stop them one after the other, each with its share of `grace` seconds."""
    deadline = asyncio.get_running_loop().time() + grace
    for position, supervisor in enumerate(supervisors):
        left = max(0.0, deadline - asyncio.get_running_loop().time())
        await supervisor.stop(left / (len(supervisors) - position))


def ending(code: int) -> str:
    """How a process ended, in words."""
    if code >= 0:
        return f"ended with exit code {code}"
    name = str(-code)
    with suppress(ValueError):
        name = signal.Signals(-code).name
    return f"was killed by {name}"


def tail(log: Path, read_from: int = 0, lines: int = TAIL_LINES) -> list[str]:
    """The last lines that were written behind `read_from`."""
    try:
        with log.open("rb") as stream:
            size = stream.seek(0, 2)
            stream.seek(max(read_from, size - _TAIL_BYTES))
            text = stream.read(_TAIL_BYTES).decode("utf-8", "replace")
    except OSError:
        return []
    printable = ("".join(c if c.isprintable() else " " for c in line).rstrip() for line in text.splitlines())
    return [line[:_LONGEST_LINE] for line in printable if line][-lines:]


def _size(log: Path) -> int:
    try:
        return log.stat().st_size
    except OSError:
        return 0
