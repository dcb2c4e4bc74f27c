"""Workers are started, replaced, told and ended; none is left behind."""

import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authz.workers.supervisor import Supervisor
from tests.support.processes import Process

# Stands for a worker: says who it is, then notes what it is told.
WORKER = """
import os, signal, sys, time
place, number, meeting = sys.argv[1:]
def note(what):
    with open(f"{place}/log", "a") as log:
        log.write(f"{number} {os.getpid()} {what}\\n")
def end(*_):
    note("term")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGHUP, lambda *_: note("hup"))
note("began" if os.path.isdir(meeting) else "nowhere")
while True:
    time.sleep(0.05)
"""
SUPERVISOR = "import sys; from authz.running import supervise; supervise(sys.argv[1:], 3)"


class Watched:
    def __init__(self, scratch: Path) -> None:
        (scratch / "worker.py").write_text(WORKER)
        self._log = scratch / "log"
        worker = [sys.executable, "-I", str(scratch / "worker.py"), str(scratch)]
        self.process = Process(
            [sys.executable, "-c", SUPERVISOR, *worker], log=scratch / "supervisor.log", cwd=Path.cwd()
        )

    def notes(self, what: str) -> list[tuple[int, int]]:
        """(number, pid) of the workers that noted it, in order."""
        lines = self._log.read_text().splitlines() if self._log.exists() else []
        return [(int(number), int(pid)) for number, pid, word in map(str.split, lines) if word == what]

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + 20
        while not condition():
            assert time.monotonic() < deadline, self.process.output()
            time.sleep(0.02)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(tmp_path)
    watched.wait(lambda: len(watched.notes("began")) == 3)
    yield watched
    watched.process.stop()
    watched.wait(lambda: not any(_lives(pid) for _, pid in watched.notes("began")))


def _lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_each_has_its_number_and_a_place_to_meet(watched: Watched) -> None:
    assert sorted(number for number, _ in watched.notes("began")) == [0, 1, 2]
    assert watched.notes("nowhere") == []


def test_one_that_was_killed_is_replaced_under_its_number(watched: Watched) -> None:
    number, pid = watched.notes("began")[1]
    os.kill(pid, signal.SIGKILL)
    watched.wait(lambda: len(watched.notes("began")) == 4)
    assert watched.notes("began")[3][0] == number
    assert "replaced" in watched.process.output()


def test_hangup_reaches_all(watched: Watched) -> None:
    watched.process.signal(signal.SIGHUP)
    watched.wait(lambda: len(watched.notes("hup")) == 3)


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT], ids=["TERM", "INT"])
def test_all_end_in_order_and_none_is_replaced(watched: Watched, signum: signal.Signals) -> None:
    watched.process.signal(signum)
    watched.wait(lambda: not watched.process.running)
    assert sorted(number for number, _ in watched.notes("term")) == [0, 1, 2]
    assert len(watched.notes("began")) == 3


class Told:
    """Stands for a worker, one that has ended or one that lives."""

    def __init__(self, *, ended: bool) -> None:
        self.ended = ended
        self.signals: list[signal.Signals] = []

    def send_signal(self, signum: signal.Signals) -> None:
        if self.ended:
            raise ProcessLookupError
        self.signals.append(signum)


def test_one_that_has_just_ended_keeps_a_hangup_from_no_other() -> None:
    supervisor, gone, lives = Supervisor([], 2), Told(ended=True), Told(ended=False)
    supervisor._running |= {0: gone, 1: lives}  # type: ignore[dict-item]
    supervisor._tell(signal.SIGHUP)
    assert lives.signals == [signal.SIGHUP]
