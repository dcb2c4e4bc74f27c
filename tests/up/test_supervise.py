"""Supervision without a single real child: clock, sleep and start are the test's."""

import asyncio
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from authz.gateway.backoff import Backoff
from authz.gateway.child import Child, Command
from authz.gateway.supervise import Supervisor, ending, stop_all, tail


class FakeChild:
    """Runs until `end` is called, or a signal ends it."""

    def __init__(self, pid: int, *, deaf: bool = False) -> None:
        self.pid = pid
        self.signals: list[int] = []
        self._deaf = deaf
        self._code: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def wait(self) -> int:
        return await asyncio.shield(self._code)

    def end(self, code: int) -> None:
        self._code.set_result(code)

    def signal(self, number: int) -> None:
        self.signals.append(number)
        if not self._code.done() and (number == signal.SIGKILL or not self._deaf):
            self.end(-number)


class World:
    """What a supervisor sees of the world, by hand."""

    def __init__(self, log: Path) -> None:
        self.command = Command(name="envoy", arguments=("/bin/envoy",), log=log, environment={})
        self.now = 1000.0
        self.slept: list[float] = []
        self.said: list[str] = []
        self.children: list[FakeChild] = []
        self.broken: OSError | None = None
        self.deaf = False
        self.awake = asyncio.Event()
        self.awake.set()

    async def start(self, command: Command) -> Child:
        if self.broken is not None:
            raise self.broken
        self.children.append(FakeChild(len(self.children) + 1, deaf=self.deaf))
        return self.children[-1]

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await self.awake.wait()

    def supervisor(self, *, listens: Callable[[int], bool] | None = None) -> Supervisor:
        return Supervisor(
            self.command,
            start=self.start,
            say=self.said.append,
            clock=lambda: self.now,
            sleep=self.sleep,
            backoff=Backoff(shortest=0.1, longest=2.0, steady=30.0),
            listens=listens,
        )


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    return World(tmp_path / "envoy.log")


async def turn() -> None:
    """Let everything that can run do so."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_child_that_dies_is_started_again_ever_more_slowly(world: World) -> None:
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    for _ in range(7):
        await turn()
        world.children[-1].end(1)
    await turn()
    assert world.slept == [0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]
    assert len(world.children) == 8
    await supervisor.stop(1)
    await running


async def test_a_child_that_ran_long_enough_has_a_clean_slate(world: World) -> None:
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    for lived in (0, 0, 29.9, 30, 0):
        await turn()
        world.now += lived
        world.children[-1].end(1)
    await turn()
    assert world.slept == [0.1, 0.2, 0.4, 0.1, 0.2]
    await supervisor.stop(1)
    await running


async def test_a_child_that_came_to_listen_has_a_clean_slate(world: World) -> None:
    supervisor = world.supervisor(listens=lambda pid: pid % 3 == 0)
    running = asyncio.create_task(supervisor.run())
    for _ in range(7):
        await turn()
        world.children[-1].end(-signal.SIGKILL)
    await turn()
    assert world.slept == [0.1, 0.2, 0.1, 0.2, 0.4, 0.1, 0.2]
    await supervisor.stop(1)
    await running


async def test_a_death_is_said_with_its_cause_and_the_last_lines_of_this_life(world: World) -> None:
    world.command.log.write_text("an older life\n")
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    await turn()
    lines = "".join(f"line {number}\n" for number in range(9))
    world.command.log.write_text("an older life\n" + lines + "cannot bind \x1b[31mport\n")
    world.children[0].end(-signal.SIGSEGV)
    await turn()
    (said,) = world.said
    assert said.startswith("envoy was killed by SIGSEGV\n")
    assert "line 5\n" in said
    assert "cannot bind  [31mport" in said
    assert "line 4" not in said
    assert "older life" not in said
    assert said.endswith(f"Starting it again in 0.1 s; its log is {world.command.log}")
    assert supervisor.first_death.result().startswith("was killed by SIGSEGV")
    await supervisor.stop(1)
    await running


async def test_a_program_that_cannot_be_started_is_tried_again(world: World) -> None:
    world.broken = FileNotFoundError(2, "No such file or directory")
    world.awake.clear()
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    await turn()
    assert world.said[0].startswith("envoy cannot be started: No such file or directory")
    world.broken = None
    world.awake.set()
    await turn()
    assert supervisor.pid == 1
    await supervisor.stop(1)
    await running


async def test_stop_asks_first(world: World) -> None:
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    await turn()
    await supervisor.stop(60)
    await running
    assert world.children[0].signals == [signal.SIGTERM]
    assert len(world.children) == 1
    assert world.said == []


async def test_a_child_that_does_not_listen_is_killed(world: World) -> None:
    world.deaf = True
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    await turn()
    await supervisor.stop(0)
    await running
    assert world.children[0].signals == [signal.SIGTERM, signal.SIGKILL]


async def test_a_child_that_comes_into_being_while_told_to_stop_is_killed(world: World) -> None:
    started = asyncio.Event()
    plain_start = world.start

    async def slow_start(command: Command) -> Child:
        await started.wait()
        return await plain_start(command)

    world.start = slow_start  # type: ignore[method-assign]
    supervisor = world.supervisor()
    running = asyncio.create_task(supervisor.run())
    await turn()
    stopping = asyncio.create_task(supervisor.stop(60))
    await turn()
    assert not stopping.done()
    started.set()
    await stopping
    await running
    assert world.children[0].signals == [signal.SIGKILL]


async def test_children_are_stopped_one_after_the_other(tmp_path: Path) -> None:
    first, second = World(tmp_path / "a.log"), World(tmp_path / "b.log")
    first.deaf = True
    supervisors = [first.supervisor(), second.supervisor()]
    running = [asyncio.create_task(supervisor.run()) for supervisor in supervisors]
    await turn()
    stopping = asyncio.create_task(stop_all(supervisors, 0.02))
    await turn()
    assert first.children[0].signals == [signal.SIGTERM]
    assert second.children[0].signals == []
    await stopping
    await asyncio.gather(*running)
    assert first.children[0].signals == [signal.SIGTERM, signal.SIGKILL]
    assert second.children[0].signals == [signal.SIGTERM]


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "ended with exit code 0"),
        (3, "ended with exit code 3"),
        (-9, "was killed by SIGKILL"),
        (-250, "was killed by 250"),
    ],
)
def test_an_ending_in_words(code: int, words: str) -> None:
    assert ending(code) == words


def test_the_tail_of_a_large_log_is_short(tmp_path: Path) -> None:
    log = tmp_path / "x.log"
    log.write_text("a" * 100_000 + "\n\n  \nlast\n")
    assert tail(log) == ["a" * 300, "last"]
    assert tail(tmp_path / "missing.log") == []
