"""Reload on SIGHUP or when the config, or a secret file that it names, changes.

One thread of its own waits for the file system and loads, so that the event loop never waits for either.
It watches directories, because editors and container runtimes replace files rather than write them.
"""

import asyncio
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from types import TracebackType
from typing import Generic, Protocol, TypeVar

from watchfiles._rust_notify import RustNotify

from authz.config.load import Loaded
from authz.config.problem import ConfigErrors, Problem

Outcome = Loaded | ConfigErrors

SETTLE_S = 0.3
STEP_MS = 50  # how long a stop may take


class Watched(Protocol):
    """What was loaded from files."""

    @property
    def digest(self) -> str:
        """Another one for other content."""
        ...

    @property
    def files(self) -> frozenset[Path]:
        """What it came from."""
        ...


_W = TypeVar("_W", bound=Watched)


class ConfigWatcher(Generic[_W]):
    """Calls back on the event loop with what a reload gave. An invalid file changes nothing by itself.

        async with ConfigWatcher(path, loaded, lambda: load(path), swap):
            ...

    `current` is what is in force now: it says which files to watch, and a reload that finds the very same
    content calls nobody. SIGHUP always calls back.
    """

    def __init__(
        self,
        current: _W,
        reload: Callable[[], _W],
        changed: Callable[[_W | ConfigErrors], None],
        *,
        on_hangup: bool = True,
        settle_s: float = SETTLE_S,
    ) -> None:
        self._reload = reload
        self._changed = changed
        self._on_hangup = on_hangup
        self._settle_s = settle_s
        self._files = current.files
        self._last: str | tuple[Problem, ...] = current.digest
        self._wake = threading.Event()
        self._asked = False
        self._stopping = False
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended: asyncio.Future[None] | None = None

    async def start(self) -> None:
        """Begins to watch. SIGHUP is only taken in the main thread."""
        self._loop = asyncio.get_running_loop()
        self._ended = self._loop.create_future()
        if self._on_hangup:
            self._loop.add_signal_handler(signal.SIGHUP, self.reload)
        watch = _Watch(self._files)
        self._thread = threading.Thread(target=self._run, args=(watch,), name="authz-config", daemon=True)
        self._thread.start()

    async def stop(self) -> None:
        """Ends the thread and gives SIGHUP back."""
        if self._loop is None or self._thread is None or self._ended is None:
            return
        if self._on_hangup:
            self._loop.remove_signal_handler(signal.SIGHUP)
        self._stopping = True
        self._wake.set()
        await self._ended
        self._thread.join()  # its last act was to end the future
        self._thread = None

    def reload(self) -> None:
        """Loads again now, changed or not."""
        self._asked = True
        self._wake.set()

    async def __aenter__(self) -> "ConfigWatcher[_W]":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # What follows runs in the thread.

    def _run(self, watch: "_Watch") -> None:
        try:
            moved = True  # a change between the first load and this moment must not be missed
            while True:
                if moved:
                    watch.settle(self._settle_s, self._wake)
                self._wake.clear()
                if self._stopping:
                    break
                asked = self._asked
                if asked:
                    self._asked = False
                if moved or asked:
                    files = self._load(asked)
                    if files != watch.files:
                        watch.close()
                        watch, moved = _Watch(files), True
                        continue  # nor one between that load and this watch
                moved = watch.wait(self._wake)
        finally:
            watch.close()
            self._call(self._end)

    def _load(self, asked: bool) -> frozenset[Path]:
        """Loads, tells, and returns what is worth watching from now on."""
        try:
            outcome: _W | ConfigErrors = self._reload()
        except ConfigErrors as errors:
            outcome = errors
        found = outcome.problems if isinstance(outcome, ConfigErrors) else outcome.digest
        if asked or found != self._last:
            self._last = found
            self._call(self._changed, outcome)
        return outcome.files or self._files

    def _call(self, function: Callable[..., None], *arguments: _W | ConfigErrors) -> None:
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(function, *arguments)

    def _end(self) -> None:
        if self._ended is not None and not self._ended.done():
            self._ended.set_result(None)


class _Watch:
    """The directories of some files. Other files there may change as they like."""

    def __init__(self, files: Iterable[Path]) -> None:
        self.files = frozenset(files)
        self._seen = self._fingerprint()
        folders = {str(folder) for path in self.files for folder in (path.parent, path.resolve().parent)}
        here = [folder for folder in folders if Path(folder).is_dir()]
        self._notify = RustNotify(here, False, False, 300, False, True)

    def wait(self, wake: threading.Event) -> bool:
        """Until something happens in a directory or `wake` is set. Whether it was to one of the files."""
        self._notify.watch(STEP_MS, STEP_MS, 0, wake)
        return self._moved()

    def settle(self, quiet_s: float, wake: threading.Event) -> None:
        """Until the files stay as they are for a moment: who writes a file empties it first."""
        self._moved()
        while not wake.wait(quiet_s) and self._moved():
            pass

    def _moved(self) -> bool:
        now = self._fingerprint()
        moved, self._seen = now != self._seen, now
        return moved

    def close(self) -> None:
        self._notify.close()

    def _fingerprint(self) -> dict[Path, tuple[int, ...] | None]:
        return {path: _stat(path) for path in self.files}


def _stat(path: Path) -> tuple[int, ...] | None:
    try:
        stat = path.stat()
    except OSError:
        return None
    return stat.st_dev, stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_mode
