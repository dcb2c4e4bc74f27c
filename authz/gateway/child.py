"""One child process that cannot outlive us, in a process group of its own.

`PR_SET_PDEATHSIG` (prctl(2)) has the kernel kill the child when the thread that started it ends, so even
a `kill -9` of this process leaves no orphan. The child sets it on itself before it becomes the program,
and leaves at once if by then it has another parent. (Between fork and exec, where `preexec_fn` runs, a
process with threads may deadlock.) The group of its own keeps a terminal's Ctrl-C from reaching the
child: we decide in which order things stop.
"""

import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

_TIE_TO_PARENT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)  # PR_SET_PDEATHSIG, SIGKILL
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """What to run: `arguments` begin with the whole path of the program. Its output is added to `log`."""

    name: str
    arguments: tuple[str, ...]
    log: Path
    environment: Mapping[str, str]


class Child(Protocol):
    """A process that runs, or ran."""

    @property
    def pid(self) -> int: ...
    async def wait(self) -> int:
        """The exit code; -N where signal N ended it."""
        ...

    def signal(self, number: int) -> None:
        """To the whole process group. Nothing happens where it has ended."""
        ...


class Process:
    """A `Child` of the operating system."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def wait(self) -> int:
        first = self._process.returncode is None
        code = await self._process.wait()
        if first:
            # What it started itself goes with it, while the group's number cannot be anybody else's yet.
            self._signal_group(signal.SIGKILL)
        return code

    def signal(self, number: int) -> None:
        if self._process.returncode is None:
            self._signal_group(number)

    def _signal_group(self, number: int) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


async def start(command: Command) -> Process:
    """Start it. Raises OSError where it cannot be."""
    command.log.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with _open_log(command.log) as log:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-ISc",
            _TIE_TO_PARENT,
            str(os.getpid()),
            *command.arguments,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=log,
            stderr=asyncio.subprocess.STDOUT,
            env=dict(command.environment),
            process_group=0,
        )
    return Process(process)


def _open_log(path: Path) -> BinaryIO:
    """To append to. A log names users and their requests: a new one is for us alone."""
    return os.fdopen(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY | os.O_CLOEXEC, 0o600), "ab")
