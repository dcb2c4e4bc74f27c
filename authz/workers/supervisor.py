"""Starts the workers, replaces those that end, passes signals on, and ends when the last has ended."""

import asyncio
import signal
import tempfile
import time
from asyncio.subprocess import Process
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from authz.workers.place import socket_of

STOP_WITHIN = 15.0  # seconds, then a worker is killed
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds before a worker that ended is replaced
STEADY = 30.0  # seconds: who lived that long is replaced without a pause

log = structlog.get_logger("authz.workers")


class Supervisor:
    """`number` processes. `command` starts one; its number and the directory where they meet are appended."""

    def __init__(self, command: Sequence[str], number: int) -> None:
        self._command = command
        self._number = number
        self._running: dict[int, Process] = {}
        self._stopping = asyncio.Event()

    async def run(self) -> None:
        """Returns once all have ended after SIGTERM or SIGINT."""
        loop = asyncio.get_running_loop()
        for signum in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(signum, self._stopping.set)
        loop.add_signal_handler(signal.SIGHUP, self._tell, signal.SIGHUP)
        with tempfile.TemporaryDirectory(prefix="authz-workers-") as directory:
            log.info("starting workers", workers=self._number)
            async with asyncio.TaskGroup() as keepers:
                for number in range(self._number):
                    keepers.create_task(self._keep(number, Path(directory)))
        log.info("all workers stopped")

    async def _keep(self, number: int, directory: Path) -> None:
        """One worker after another, until told to stop."""
        pause = FIRST_PAUSE
        while not self._stopping.is_set():
            started = time.monotonic()
            # A group of its own: Ctrl-C is for us, who then end the workers in order.
            worker = await asyncio.create_subprocess_exec(
                *self._command, str(number), str(directory), process_group=0
            )
            self._running[number] = worker
            code = await self._ended(worker)
            del self._running[number]
            socket_of(directory, number).unlink(missing_ok=True)
            if self._stopping.is_set():
                return
            lived = time.monotonic() - started
            pause = FIRST_PAUSE if lived >= STEADY else pause
            log.error(
                "a worker ended and is replaced", worker=number, exit_code=code, lived_s=round(lived, 1)
            )
            await self._wait(pause)
            pause = min(LONGEST_PAUSE, pause * 2)

    async def _ended(self, worker: Process) -> int:
        """Its exit code, once it ended by itself or because it was told to."""
        ended = asyncio.ensure_future(worker.wait())
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((ended, stopping), return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if not ended.done():
            with suppress(ProcessLookupError):  # it has just ended by itself
                worker.terminate()
            await asyncio.wait((ended,), timeout=STOP_WITHIN)
        if not ended.done():
            log.error("a worker did not stop in time and is killed", pid=worker.pid, seconds=STOP_WITHIN)
            with suppress(ProcessLookupError):
                worker.kill()
        return await ended

    async def _wait(self, seconds: float) -> None:
        stopping = asyncio.ensure_future(self._stopping.wait())
        await asyncio.wait((stopping,), timeout=seconds)
        stopping.cancel()

    def _tell(self, signum: signal.Signals) -> None:
        for worker in self._running.values():
            with suppress(ProcessLookupError):  # one that has just ended keeps it from no other
                worker.send_signal(signum)
