"""Whether a password fits a hash, computed as rarely as can be."""

import asyncio
import secrets
from collections.abc import Callable
from hashlib import blake2b

from authz.authenticate.hash_pool import HashPool
from authz.authenticate.htpasswd import fits
from authz.recent import Recent
from authz.store.protocols import Clock

MOST_RIGHT = 16_384  # passwords that are remembered
MOST_WRONG = 4_096
WRONG_MS = 10_000  # how long a wrong one is not computed again

_DIGEST = 16  # bytes


class Passwords:
    """Remembers what fitted and asks the pool for the rest. Lives as long as the service.

    A password is known by a digest under a key of this process, together with
    its user and the very hash: another hash in the file ends what was remembered.
    Wrong ones have a memory of their own, so that no flood of them displaces the
    right ones.
    """

    def __init__(
        self, clock: Clock, *, pool: HashPool | None = None, check: Callable[[str, str], bool] = fits
    ) -> None:
        """`check` tells whether a password fits a hash."""
        self._clock = clock
        self._pool = pool or HashPool()
        self._check = check
        self._key = secrets.token_bytes(32)
        self._right: Recent[bytes, bool] = Recent(MOST_RIGHT)
        self._wrong: Recent[bytes, int] = Recent(MOST_WRONG)  # until when, ms
        self._under_way: dict[bytes, asyncio.Future[bool | None]] = {}

    def recall(self, user: str, hashed: str, password: str) -> bool | bytes:
        """Whether it fits, where that is known; else the digest to `compute` it by."""
        text = f"{user}\0{hashed}\0{password}"
        digest = blake2b(text.encode(), key=self._key, digest_size=_DIGEST).digest()
        if self._right.get(digest):
            return True
        until = self._wrong.get(digest)
        return False if until is not None and self._clock() < until else digest

    async def compute(self, digest: bytes, hashed: str, password: str, origin: str) -> bool | None:
        """Whether it fits; None: too busy. Computed once for all who ask the same at the same time."""
        under_way = self._under_way.get(digest)
        if under_way is None:
            under_way = self._pool.submit(
                origin, lambda: self._check(password, hashed), lambda right: self._learn(digest, right)
            )
            self._under_way[digest] = under_way
            under_way.add_done_callback(lambda _: self._under_way.pop(digest, None))
        # One of several who leaves takes the answer from nobody else.
        return await asyncio.shield(under_way)

    def _learn(self, digest: bytes, right: bool) -> None:
        if right:
            self._right.put(digest, True)
        else:
            self._wrong.put(digest, self._clock() + WRONG_MS)

    def close(self) -> None:
        """Let the threads go."""
        self._pool.close()
