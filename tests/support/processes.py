"""Child processes of a test: started by argv, awaited until they answer, stopped by pid, never left."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

# Stands between us and the program, which from then on dies with us (prctl(2)); leaves at once if we are gone
# already. A `preexec_fn` would do the same, but may deadlock in a process with threads.
_LAUNCH = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
if os.getppid() != int(sys.argv[1]):
    sys.exit(1)
os.execv(sys.argv[2], sys.argv[2:])
"""


class ProcessFailed(AssertionError):
    """It ended, or did not answer in time. The text holds the end of its log."""


def executable(name: str) -> str:
    """The command of that name beside this Python. A missing one is a failure, never a skip."""
    found = shutil.which(name, path=str(Path(sys.executable).parent))
    if found is None:
        raise ProcessFailed(f"the command {name} is not installed beside {sys.executable}")
    return found


def port_answers(port: int) -> bool:
    """Whether something accepts TCP connections there."""
    with socket.socket() as probe:
        probe.settimeout(0.2)
        return probe.connect_ex(("127.0.0.1", port)) == 0


class Process:
    """One running child. Its output goes to the file `log`."""

    def __init__(
        self,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self.argv = list(argv)
        assert Path(self.argv[0]).is_absolute(), f"{self.argv[0]} is no whole path: see executable()"
        self.log = log
        with log.open("ab") as output:
            self._child = subprocess.Popen(
                [sys.executable, "-ISc", _LAUNCH, str(os.getpid()), *self.argv],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                env={**os.environ, **(env or {})},
                process_group=0,
            )

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def running(self) -> bool:
        return self._child.poll() is None

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def wait_until(self, answers: Callable[[], bool], *, seconds: float = 60) -> None:
        """Return once `answers` is true; raise ProcessFailed if the child ends first or takes longer.

        `seconds` are more than a busy machine needs: only a failure takes them all.
        """
        deadline = time.monotonic() + seconds
        while not answers():
            if not self.running:
                raise ProcessFailed(f"{self.argv[0]} ended with {self._child.returncode}\n{self._tail()}")
            if time.monotonic() > deadline:
                raise ProcessFailed(f"{self.argv[0]} did not answer in {seconds} s\n{self._tail()}")
            time.sleep(0.02)

    def signal(self, number: int) -> None:
        if self.running:
            self._child.send_signal(number)

    def wait(self, *, seconds: float = 10) -> int:
        """Its exit code; -N where signal N ended it."""
        return self._child.wait(seconds)

    def stop(self, *, seconds: float = 5) -> int:
        """SIGTERM, after `seconds` SIGKILL; then what is left of its group."""
        self.signal(signal.SIGTERM)
        try:
            code = self._child.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            code = self._child.wait()
        with suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        return code

    def _tail(self) -> str:
        return "\n".join(self.output().splitlines()[-40:])
