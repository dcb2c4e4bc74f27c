"""Look-ups of the hot path: in memory, kept up by push with what any process writes to Redis.

A message says that there is a note, and the note names what to read again. Looking comes often beside it,
so that a message that is lost costs `FOLLOW_MS` at most. While Redis cannot be reached the records of
before count, for `AUTH_TTL_S`; then nobody is let in by them any more.
"""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from threading import Lock
from typing import Any

from authz.store.protocols import StoreUnavailable
from authz.store.records import Key, Model, Team, User
from authz.store.redis import following
from authz.store.redis.failures import FAILURES
from authz.store.redis.following import follow, later, load, now, rejoin
from authz.store.redis.listening import Listener
from authz.store.redis.mirror import Adjustments, Mirror
from authz.store.redis.tasks import end
from authz.store.troubles import Troubles

AUTH_TTL_S = 60.0
"""For how long who was known is let in while nothing is heard of Redis."""

FOLLOW_MS = 1000
"""A change is in force everywhere this long after it was made, though no message of it arrives."""

LOOK_S = FOLLOW_MS / 1000 / 4
MASTER_S = FOLLOW_MS / 1000 / 2  # between two questions who the master is, where Sentinels know

LOADING = "loading the records from"
FOLLOWING = "following the records in"

log = logging.getLogger("authz.store")


class RedisDirectory:
    """A mirror of the records. Not one look-up waits for Redis.

    `client` is asynchronous, for the mirror alone; `at_hand` is synchronous, for `follow`.
    Both are of redis-py, without decoding, retries, or long timeouts.
    """

    def __init__(
        self,
        client: Any,
        at_hand: Any,
        troubles: Troubles,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._client = client
        self._at_hand = at_hand
        self._troubles = troubles
        self._monotonic = monotonic
        self._mirror: Mirror | None = None
        self._good_at = 0.0  # everything that Redis held then is in the mirror
        self._has_gap = False  # something that was changed may have been missed
        self._used: dict[str, int] = {}
        self._within = dict.fromkeys((LOADING, FOLLOWING), following.STEP_S)
        self._swapping = Lock()
        self._wake = asyncio.Event()
        self._tried = asyncio.Event()
        self._listener = Listener(client, self._wake.set)
        self._tasks: list[asyncio.Task[None]] = []

    # -- look-ups ----------------------------------------------------------------------------------

    def revision(self) -> int:
        return self._recent().revision

    def key(self, digest: bytes) -> Key | None:
        return self._recent().keys.get(digest)

    def user(self, name: str) -> User | None:
        return self._recent().users.get(name)

    def team(self, name: str) -> Team | None:
        return self._recent().teams.get(name)

    def models(self) -> Mapping[str, Model]:
        return self._loaded().models

    def adjustments(self, policy: str) -> Adjustments:
        return self._loaded().adjustments.get(policy, {})

    def used(self, key_id: str, at: int) -> None:
        self._used[key_id] = at

    def take_used(self) -> dict[str, int]:
        """When keys were last used, since the last call."""
        used, self._used = self._used, {}
        return used

    def _loaded(self) -> Mirror:
        """Where nobody is let in by it, what was known last goes on counting."""
        if self._mirror is None:
            raise StoreUnavailable("the records were not yet read from Redis; until then nobody is let in")
        return self._mirror

    def _recent(self) -> Mirror:
        mirror = self._loaded()
        if self._monotonic() - self._good_at > AUTH_TTL_S:
            raise StoreUnavailable(
                f"nothing was heard of Redis for {AUTH_TTL_S:.0f} s: keys may have been revoked meanwhile"
            )
        return mirror

    # -- keeping up --------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to follow. Returns once everything is read, or could not be; then it is tried again."""
        self._tasks = [
            asyncio.create_task(self._keep_loaded(), name="authz-records-load"),
            asyncio.create_task(self._keep_followed(), name="authz-records-follow"),
            asyncio.create_task(self._listener.listen(), name="authz-records-listen"),
            asyncio.create_task(self._keep_to_master(), name="authz-records-master"),
        ]
        await self._tried.wait()

    async def close(self) -> None:
        await end(self._tasks)
        self._tasks = []

    def follow(self) -> None:
        """Take over at once what this process changed. Any thread may; what fails is made up for later."""
        mirror = self._mirror
        with suppress(StoreUnavailable):
            if mirror is not None and not now(follow(mirror), self._at_hand):
                self._swap(mirror, now(load(), self._at_hand))

    async def _keep_loaded(self) -> None:
        while True:
            if self._mirror is None or self._has_gap:
                await self._attempt(LOADING, self._load())
                self._tried.set()
            await asyncio.sleep(random.uniform(0.1, 0.4))  # noqa: S311  (not all replicas at once)

    async def _keep_followed(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            look = loop.call_later(random.uniform(0.8, 1.0) * LOOK_S, self._wake.set)  # noqa: S311
            await self._wake.wait()
            look.cancel()
            self._wake.clear()
            await self._attempt(FOLLOWING, self._follow())

    async def _keep_to_master(self) -> None:
        """An old master that goes on answering does not hear of what was changed since."""
        find = getattr(self._client, "find_master", None)
        while find is not None:
            await asyncio.sleep(random.uniform(0.8, 1.0) * MASTER_S)  # noqa: S311  (not all replicas at once)
            with suppress(*FAILURES):  # the master itself may work
                await find()

    async def _attempt(self, doing: str, work: Awaitable[None]) -> None:
        """Whatever goes wrong is trouble, and tried again; nothing ends the task."""
        try:
            await work
        except Exception as error:
            if not isinstance(error, StoreUnavailable):
                log.exception("%s the store", doing)
            self._troubles.note(doing, error)
            self._within[doing] = following.PATIENT_S
        else:
            self._troubles.note(doing, None)
            self._within[doing] = following.STEP_S

    async def _load(self) -> None:
        before, began = self._mirror, self._monotonic()
        fresh = await later(load(), self._client, self._within[LOADING])
        if self._swap(before, fresh):
            self._good_at = began

    async def _follow(self) -> None:
        mirror, began = self._mirror, self._monotonic()
        if mirror is None:
            return
        if not await later(follow(mirror), self._client, self._within[FOLLOWING]):
            # What comes from now on is taken over while everything is read anew.
            await later(rejoin(mirror), self._client, self._within[FOLLOWING])
            self._has_gap = self._has_gap or self._mirror is mirror
        elif self._mirror is mirror and not self._has_gap:
            self._good_at = began

    def _swap(self, before: Mirror | None, fresh: Mirror) -> bool:
        """Unless another was faster: it may have read later."""
        with self._swapping:
            if self._mirror is not before:
                return False
            self._mirror = fresh
            self._has_gap = False
            return True
