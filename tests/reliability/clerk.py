"""Somebody who makes and revokes keys while things die, and remembers what was acknowledged."""

import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

from msgspec.structs import replace

from authz.authenticate.key_format import MintedKey, mint
from authz.quota import parse_quota
from authz.store.protocols import Registry
from authz.store.records import Key
from tests.reliability.processes import wait_for
from tests.support.noon import NOON

PACE = 0.03  # seconds between two changes
KEPT_OF = 3  # of so many keys one is kept, the others are revoked


def new_key(registry: Registry, user: str, *quotas: str) -> MintedKey:
    """Durable when it returns. None of its days ends during a test."""
    minted = mint()
    registry.add_key(
        Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=user,
            quotas=tuple(parse_quota(quota, timezone=NOON) for quota in quotas),
            created_at=_now(),
        )
    )
    return minted


def _now() -> int:
    return time.time_ns() // 1_000_000


class Clerk:
    """Works on a thread of its own, as a command beside the service does. A context manager."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._thread = threading.Thread(target=self._work, daemon=True)
        self._stop = threading.Event()
        self._error: BaseException | None = None
        self.kept: list[MintedKey] = []
        self.revoked: list[MintedKey] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None and error is None:
            raise self._error

    def _work(self) -> None:
        try:
            for _ in self._paced():
                minted = new_key(self._registry, "clerk", "requests=1000/day")
                if len(self.kept) * (KEPT_OF - 1) <= len(self.revoked):
                    self.kept.append(minted)
                    continue
                self._registry.put_key(replace(self._registry.find_key(minted.id), revoked_at=_now()))
                self.revoked.append(minted)
        except BaseException as error:
            self._error = error

    def _paced(self) -> Iterator[None]:
        while not self._stop.wait(PACE):
            yield

    def await_some(self) -> None:
        """Return once there is something to lose."""
        wait_for("a key and a revocation", lambda: bool(self.kept and self.revoked), seconds=30)

    def lost(self) -> list[str]:
        """What was acknowledged and is not in the store."""
        kept, revoked = self.kept.copy(), self.revoked.copy()  # before the look: more comes all the time
        found = {key.id: key for key in self._registry.keys(user="clerk")}
        lost = [f"key {minted.id}" for minted in kept if _state(found, minted) != "in force"]
        return lost + [
            f"revocation of {minted.id}" for minted in revoked if _state(found, minted) != "revoked"
        ]


def _state(found: dict[str, Key], minted: MintedKey) -> str:
    key = found.get(minted.id)
    if key is None:
        return "lost"
    return "in force" if key.revoked_at is None else "revoked"
