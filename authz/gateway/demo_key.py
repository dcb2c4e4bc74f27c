"""The key that `authz up` prints: a new one on every run, the one before revoked."""

from msgspec.structs import replace

from authz.authenticate.key_format import mint
from authz.store.protocols import Registry
from authz.store.records import Key

USER = "demo"
NAME = "made by authz up"


def renew(registry: Registry, now: int) -> str:
    """Revoke the keys of earlier runs and make a new one; `now` is in ms since the epoch."""
    for key in registry.keys(user=USER):
        if key.name == NAME and key.revoked_at is None:
            registry.put_key(replace(key, revoked_at=now))
    minted = mint()
    registry.add_key(
        Key(
            id=minted.id,
            digest=minted.digest,
            display=minted.display,
            user=USER,
            name=NAME,
            created_at=now,
        )
    )
    return minted.key
