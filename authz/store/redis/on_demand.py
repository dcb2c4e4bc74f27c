"""A client that connects when it is first used: so that a service can start before its Redis."""

from collections.abc import Callable
from threading import Lock
from typing import Any


class OnDemand:
    """Stands for what `make` makes. `make` may raise; the next use tries again."""

    def __init__(self, make: Callable[[], Any]) -> None:
        self._make = make
        self._made: Any = None
        self._making = Lock()

    def __getattr__(self, name: str) -> Any:
        with self._making:
            if self._made is None:
                self._made = self._make()
        return getattr(self._made, name)

    def close(self) -> None:
        with self._making:
            if self._made is not None:
                self._made.close()
                self._made = None
