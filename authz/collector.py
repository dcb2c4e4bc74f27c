"""When Python's cyclic collector walks everything: at the start, and later only where much was left behind.

Such a walk visits each entry of each table, tens of milliseconds for a million, in
which nothing is decided. Counters, reservations and records are in no cycle; what
is in one mostly dies young, and the young are still collected all the time.
"""

import asyncio
import gc

LOOK_EVERY = 60.0  # seconds
MOST_LEFT = 100_000  # objects that outlived the young; some tens of megabytes

_NEVER = 2**31 - 1


class Collector:
    """Of this process."""

    def __init__(self) -> None:
        self._usual = gc.get_threshold()
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Set it so, and look every now and then. Needs a running loop."""
        self.spare()
        self._look_later()

    def spare(self) -> None:
        """All that is loaded now stays, and is never walked again."""
        gc.collect()
        gc.freeze()
        self._usual = gc.get_threshold()
        gc.set_threshold(self._usual[0], self._usual[1], _NEVER)

    def loaded(self) -> None:
        """The same for what a reload brought."""
        gc.freeze()

    def look(self) -> None:
        """Walk everything if much is there to be walked that should not be."""
        if len(gc.get_objects(generation=2)) > MOST_LEFT:
            gc.collect()
        self._look_later()

    def stop(self) -> None:
        """Leave it as it was."""
        if self._timer is not None:
            self._timer.cancel()
            gc.set_threshold(*self._usual)

    def _look_later(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(LOOK_EVERY, self.look)
