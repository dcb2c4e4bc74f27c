"""Look-ups straight in Redis: for a command, which asks once and ends."""

from collections.abc import Mapping
from typing import Any

from authz.store.records import Key, Model, Team, User
from authz.store.redis import kept
from authz.store.redis.large import steady
from authz.store.redis.mirror import Adjustments, by_partition
from authz.store.redis.pages import every


class QueryDirectory:
    """`client` is of redis-py, synchronous: no look-up suspends."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._asked = 0

    def revision(self) -> int:
        self._asked += 1  # who knows what others changed
        return self._asked

    def key(self, digest: bytes) -> Key | None:
        body = self._key(digest)
        return None if body is None else kept.unnumbered(body, kept.read_key)[1]

    def user(self, name: str) -> User | None:
        body = self._body(kept.USERS, name)
        return None if body is None else kept.read_user(body)

    def team(self, name: str) -> Team | None:
        body = self._body(kept.TEAMS, name)
        return None if body is None else kept.read_team(body)

    @steady
    def models(self) -> Mapping[str, Model]:
        return {name: kept.read_model(body) for name, body in every(self._client, kept.MODELS).items()}

    @steady
    def adjustments(self, policy: str) -> Adjustments:
        bodies = every(self._client, kept.ADJUSTMENTS).values()
        return by_partition(
            each for each in kept.in_order(bodies, kept.read_adjustment) if each.policy == policy
        )

    def used(self, key_id: str, at: int) -> None:
        """A command that explains a decision uses no key."""

    @steady
    def _key(self, digest: bytes) -> bytes | None:
        id = self._client.hget(kept.DIGESTS, digest.hex())
        body: bytes | None = None if id is None else self._client.hget(kept.KEYS, id)
        return body

    @steady
    def _body(self, place: str, name: str) -> bytes | None:
        body: bytes | None = self._client.hget(place, name)
        return body
