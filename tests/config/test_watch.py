"""Reload on SIGHUP and on change, debounced; a wrong file is told, not applied; nothing is left behind."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from authz.config import ConfigErrors, Loaded, load
from authz.config.watch import ConfigWatcher, Outcome

PATIENCE = 20.0  # seconds; only a failure waits that long
QUIET = 1.0  # seconds in which nothing may come

CONFIG = "gateways: {edge: {kind: envoy, token: {file: edge}}}\n"


class Seen:
    """What the watcher called back with."""

    def __init__(self) -> None:
        self.outcomes: asyncio.Queue[Outcome] = asyncio.Queue()
        self.loads = 0

    async def next(self) -> Outcome:
        return await asyncio.wait_for(self.outcomes.get(), PATIENCE)

    async def loaded(self) -> Loaded:
        """What a write in place gave: a watcher may first see the file that the write has only emptied yet."""
        while True:
            outcome = await self.next()
            if isinstance(outcome, Loaded):
                return outcome
            assert [problem.message for problem in outcome.problems] == ["the file is empty"]

    async def nothing(self) -> bool:
        await asyncio.sleep(QUIET)
        return self.outcomes.empty()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "edge").write_text("the-first-token-of-edge\n")
    path = tmp_path / "authz.yaml"
    path.write_text(CONFIG)
    return path


@asynccontextmanager
async def watching(path: Path, *, before: Callable[[], object] = lambda: None) -> AsyncIterator[Seen]:
    seen = Seen()

    def reload() -> Loaded:
        seen.loads += 1
        return load(path)

    current = load(path)
    before()
    async with ConfigWatcher(current, reload, seen.outcomes.put_nowait, settle_s=0.1):
        yield seen


def token(outcome: Outcome) -> str:
    assert isinstance(outcome, Loaded)
    secret = outcome.config.gateways["edge"].token
    assert secret is not None
    return secret.reveal()


def _replace(path: Path, text: str) -> None:
    """At once, as editors do: nobody sees the file half written."""
    new = path.with_name(f"{path.name}.new")
    new.write_text(text)
    new.replace(path)


async def test_a_written_file_is_loaded(path: Path) -> None:
    async with watching(path) as seen:
        path.write_text(CONFIG + "currency: USD\n")
        assert (await seen.loaded()).config.currency == "USD"


async def test_a_replaced_file_is_loaded(path: Path) -> None:
    """Editors write beside the file and rename."""
    async with watching(path) as seen:
        for currency in ("USD", "CHF"):
            _replace(path, CONFIG + f"currency: {currency}\n")
            outcome = await seen.next()
            assert isinstance(outcome, Loaded)
            assert outcome.config.currency == currency


async def test_a_secret_file_is_loaded_again(path: Path) -> None:
    async with watching(path) as seen:
        _replace(path.parent / "edge", "the-second-token-of-edge")
        assert token(await seen.next()) == "the-second-token-of-edge"


async def test_a_swapped_link_is_noticed(path: Path) -> None:
    """Kubernetes mounts a secret as a link into a directory that is itself a link, and swaps that one."""
    folder = path.parent / "mounted"
    for number in ("1", "2"):
        (folder / number).mkdir(parents=True)
        (folder / number / "edge").write_text(f"the-token-of-edge-number-{number}")
    (folder / "data").symlink_to("1")
    (folder / "edge").symlink_to("data/edge")
    path.write_text(CONFIG.replace("file: edge", "file: mounted/edge"))
    async with watching(path) as seen:
        (folder / "next").symlink_to("2")
        (folder / "next").replace(folder / "data")
        assert token(await seen.next()) == "the-token-of-edge-number-2"


async def test_a_wrong_file_is_told_and_mended(path: Path) -> None:
    async with watching(path) as seen:
        _replace(path, "gatways: {}\n")
        errors = await seen.next()
        assert isinstance(errors, ConfigErrors)
        assert [(p.line, p.column, p.suggestion) for p in errors.problems] == [(1, 1, "gateways")]
        path.write_text(CONFIG)
        assert token(await seen.loaded()) == "the-first-token-of-edge"


async def test_a_missing_secret_is_waited_for(path: Path) -> None:
    async with watching(path) as seen:
        folder = path.parent / "elsewhere"
        folder.mkdir()
        _replace(path, CONFIG.replace("file: edge", "file: elsewhere/edge"))
        assert isinstance(await seen.next(), ConfigErrors)
        _replace(folder / "edge", "the-token-from-elsewhere")
        assert token(await seen.next()) == "the-token-from-elsewhere"


async def test_a_change_before_the_start_is_not_missed(path: Path) -> None:
    def change() -> None:
        path.write_text(CONFIG + "currency: USD\n")

    async with watching(path, before=change) as seen:
        outcome = await seen.next()
        assert isinstance(outcome, Loaded)
        assert outcome.config.currency == "USD"


async def test_sighup_loads_at_once_even_without_a_change(path: Path) -> None:
    async with watching(path) as seen:
        os.kill(os.getpid(), signal.SIGHUP)
        assert token(await seen.next()) == "the-first-token-of-edge"


async def test_what_means_nothing_is_not_told(path: Path) -> None:
    async with watching(path) as seen:
        path.touch()
        _replace(path, CONFIG)
        for number in range(50):
            (path.parent / "authz.db-wal").write_bytes(b"x" * number)
        assert await seen.nothing()
        assert seen.loads <= 4  # the one at the start, and at most a few for the touched config


async def test_a_burst_of_changes_is_one_reload(path: Path) -> None:
    async with watching(path) as seen:
        for number in range(20):
            _replace(path, CONFIG + f"# {number}\ncurrency: USD\n")
        last = await seen.next()
        while not await seen.nothing():  # the writing itself was held up
            last = await seen.next()
        assert isinstance(last, Loaded)
        assert last.digest == load(path).digest
        assert seen.loads <= 4


async def test_nothing_is_left_behind(path: Path) -> None:
    before = set(threading.enumerate())
    for _ in range(3):
        async with watching(path):
            assert len(set(threading.enumerate()) - before) == 1
        assert set(threading.enumerate()) <= before  # one of a test before may end meanwhile
    assert not asyncio.get_running_loop().remove_signal_handler(signal.SIGHUP)


async def test_no_descriptor_stays_open(path: Path) -> None:
    def opened() -> int:
        return len(os.listdir("/proc/self/fd"))

    async with watching(path):
        pass
    before = opened()
    for _ in range(5):
        async with watching(path):
            pass
    async with asyncio.timeout(PATIENCE):
        while opened() > before:  # the watcher's native thread closes its own a moment later
            await asyncio.sleep(0.01)


async def test_stop_is_prompt_and_harmless_twice(path: Path) -> None:
    watcher = ConfigWatcher(load(path), lambda: load(path), lambda outcome: None, on_hangup=False)
    await watcher.stop()
    await watcher.start()
    await asyncio.wait_for(watcher.stop(), PATIENCE)
    await watcher.stop()
