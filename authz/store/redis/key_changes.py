"""API keys that are added or replaced in one change: each id and each hash is one key's alone."""

from collections.abc import Sequence
from typing import Any

from authz.store.protocols import Duplicate, NotFound
from authz.store.records import Key
from authz.store.redis import kept
from authz.store.redis.changes import Change
from authz.store.redis.pages import fetch


class Keys:
    """What stands of the keys that a change concerns, and what it makes of them."""

    def __init__(self, client: Any, change: Change, keys: Sequence[Key], *, ids: Sequence[str] = ()) -> None:
        """Of the ids of `keys`, and of `ids`."""
        self._change = change
        bodies = fetch(
            client, kept.KEYS, list({**dict.fromkeys(ids), **dict.fromkeys(key.id for key in keys)})
        )
        self._there = {id: kept.unnumbered(body, kept.read_key) for id, body in bodies.items()}
        self._owners = {
            bytes.fromhex(digest): id.decode()
            for digest, id in fetch(client, kept.DIGESTS, [key.digest.hex() for key in keys]).items()
        }
        self._number = int(client.get(kept.NUMBER) or 0)

    @property
    def known(self) -> list[Key]:
        return [key for _, key in self._there.values()]

    def add(self, key: Key) -> None:
        """Raises Duplicate for an id or a hash that is there."""
        if key.id in self._there or key.digest in self._owners:
            raise Duplicate(f"the key {key.display!r} is in the store already")
        self._number += 1
        self._change.value(kept.NUMBER, str(self._number))
        self._write(self._number, None, key)

    def replace(self, key: Key) -> None:
        """Raises NotFound; a hash never changes."""
        number, before = self._there.get(key.id, (0, None))
        if before is None or before.digest != key.digest:
            raise NotFound(f"there is no key {key.id!r}")
        self._write(number, before, key)

    def put(self, key: Key) -> None:
        """Add or replace. Raises Duplicate for an id or a hash that is another key's."""
        if self._owners.get(key.digest, key.id) != key.id:
            raise Duplicate(f"the key {key.display!r} is in the store already")
        if key.id not in self._there:
            self.add(key)
        elif self._there[key.id][1].digest != key.digest:
            raise Duplicate(f"the id of the key {key.display!r} is another key's")
        else:
            self.replace(key)

    def _write(self, number: int, before: Key | None, key: Key) -> None:
        change = self._change
        for each, there in ((before, False), (key, True)):
            if each is None:
                continue
            change.member(kept.DISPLAYS, kept.member(each.display, each.id), there=there)
            change.member(kept.KEYS_BY_USER, kept.member(each.user, each.id), there=there)
            if each.team is not None:
                change.member(kept.KEYS_BY_TEAM, kept.member(each.team, each.id), there=there)
        change.field(kept.KEYS, key.id, kept.numbered(number, key))
        change.field(kept.DIGESTS, key.digest.hex(), key.id)
        change.note("key", key.id)
        self._there[key.id] = (number, key)
        self._owners[key.digest] = key.id
