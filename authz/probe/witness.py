"""What authz itself noted of a request: the only way to see from outside whom it took the caller for."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from msgspec.structs import replace

from authz.authenticate.key_format import digest, mint
from authz.quota import parse_quota
from authz.store.protocols import DenialLog, Ledger, Registry
from authz.store.records import Denial, Entry, Key
from authz.store.store import Store

Found = TypeVar("Found")

PATIENCE: Final = 8.0  # seconds; a settlement takes a second at most, behind Caddy five
NOBODY: Final = "authz-gateways-test"
_STEP: Final = 0.05
_KEY_LIVES: Final = 600_000  # ms, if the command dies before it revokes the key


class Witness:
    """The store of the service behind the gateway."""

    def __init__(self, store: Store, now: Callable[[], int]) -> None:
        self._ledger: Ledger = store.ledger
        self._denials: DenialLog = store.denial_log
        self._registry: Registry = store.registry
        self._now = now

    def entry(self, request_id: str) -> Entry | None:
        """The request in the ledger, once it is settled."""
        return _waited(lambda: self._ledger.entry(request_id))

    def denial(self, request_id: str) -> Denial | None:
        """The refusal that was noted."""
        return _waited(lambda: self._denials.show(request_id))

    @contextmanager
    def key_for(self, secret: str, model: str) -> Iterator[str]:
        """A key that may ask once a minute, with the rights of the given one; revoked afterwards."""
        hashed = digest(secret)
        like = next((key for key in list(self._registry.keys()) if key.digest == hashed), None)
        minted = mint()
        now = self._now()
        key = Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=like.user if like is not None else NOBODY,
            name="of authz gateways test",
            team=like.team if like is not None else None,
            models=frozenset({model}),
            roles=like.roles if like is not None else frozenset(),
            quotas=(parse_quota("requests=1/m"),),
            created_at=now,
            expires_at=now + _KEY_LIVES,
        )
        self._registry.add_key(key)
        try:
            yield minted.key
        finally:
            if like is None:
                self._registry.remove_user(NOBODY)  # revokes the key, too
            else:
                self._registry.put_key(replace(key, revoked_at=self._now()))


def _waited(look: Callable[[], Found | None]) -> Found | None:
    deadline = time.monotonic() + PATIENCE
    while (found := look()) is None and time.monotonic() < deadline:
        time.sleep(_STEP)
    return found
