"""How the service is: alive, ready, draining."""

import json
from collections.abc import Callable

from msgspec import Struct


class Readiness(Struct, frozen=True, kw_only=True):
    """What `/readyz` reports."""

    status: str  # "ready", "starting", "draining" or "store_unavailable"
    config: str  # digest of the configuration in force
    version: str
    store: str  # "ok", or what is wrong with it

    @property
    def ready(self) -> bool:
        return self.status == "ready"


class Health:
    """Alive from the start, ready once told, draining for ever after that.

    Trouble with the store makes `/readyz` fail but neither `/livez` nor the
    gRPC health check: a restart cures no store, and limits whose policy lets
    requests through without one still need somebody to say so.
    """

    def __init__(self, *, version: str, config: Callable[[], str], store: Callable[[], str]) -> None:
        """`config` gives the digest in force; `store` gives "ok" or what is wrong. Neither may block."""
        self._version = version
        self._config = config
        self._store = store
        self._stage = "starting"

    def started(self) -> None:
        self._stage = "ready"

    def drain(self) -> None:
        self._stage = "draining"

    def readiness(self) -> Readiness:
        store = self._store()
        status = self._stage
        if status == "ready" and store != "ok":
            status = "store_unavailable"
        return Readiness(status=status, config=self._config(), version=self._version, store=store)

    def readyz(self) -> tuple[int, bytes]:
        """Status and JSON of `/readyz`."""
        now = self.readiness()
        shown = {"status": now.status, "config": now.config, "version": now.version, "store": now.store}
        return 200 if now.ready else 503, json.dumps(shown).encode("ascii")
