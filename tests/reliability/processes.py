"""What the kernel knows of processes (proc(5)): who lives, who started whom, who carries a mark."""

import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_ENDED = "ZX"  # a zombie runs no more: that nobody has asked for its exit code is not its fault


class TooSlow(AssertionError):
    """What was waited for did not come in time."""


@dataclass(frozen=True, order=True)
class Seen:
    """One process. With the moment of its start the number is nobody else's."""

    pid: int
    started: int  # clock ticks after boot
    command: str

    @property
    def lives(self) -> bool:
        stat = _stat(self.pid)
        return stat is not None and stat[0] not in _ENDED and int(stat[19]) == self.started


def kept_waiting(pid: int) -> float:
    """Seconds in which the first thread of a process was ready and others had the processors (schedstat)."""
    with suppress(OSError, IndexError):
        return int(Path(f"/proc/{pid}/schedstat").read_text().split()[1]) / 1e9
    return 0.0


def all_kept_waiting(pid: int) -> float:
    """The same of all threads that a process has now, one after the other."""
    waited = 0.0
    with suppress(OSError):
        for thread in os.listdir(f"/proc/{pid}/task"):
            waited += kept_waiting(int(thread))
    return waited


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat behind the name: state, parent, ..."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return None


def see(pid: int) -> Seen | None:
    """A process that lives."""
    stat = _stat(pid)
    if stat is None or stat[0] in _ENDED:
        return None
    command = b""
    with suppress(OSError):
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    return Seen(pid, int(stat[19]), command.replace(b"\0", b" ").decode(errors="replace").strip())


def children(pid: int) -> list[Seen]:
    """Those that a process started and that live."""
    found = []
    for other in _pids():
        stat = _stat(other)
        if stat is not None and int(stat[1]) == pid and (seen := see(other)) is not None:
            found.append(seen)
    return sorted(found)


def marked(mark: str) -> list[Seen]:
    """Every process that has the mark in its environment: what a marked one starts inherits it."""
    found = []
    for pid in _pids():
        with suppress(OSError):
            if mark.encode() in Path(f"/proc/{pid}/environ").read_bytes() and (seen := see(pid)) is not None:
                found.append(seen)
    return sorted(found)


def _pids() -> list[int]:
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def wait_for(what: str, true: Callable[[], bool], *, seconds: float, every: float = 0.01) -> float:
    """Poll until `true`; the seconds that it took. Raises TooSlow."""
    begun = time.monotonic()
    while not true():
        if time.monotonic() - begun > seconds:
            raise TooSlow(f"{what}: not within {seconds} s")
        time.sleep(every)
    return time.monotonic() - begun
