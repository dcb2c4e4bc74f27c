"""Hears of changes as they are made. Whatever it misses is found by looking."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from authz.store.redis.changes import CHANNEL, VERSION
from authz.store.redis.failures import explained
from authz.store.troubles import Troubles

QUIET_S = 5.0  # after this long without a message the server is asked whether it is still there
AGAIN_S = 0.5  # between two attempts to subscribe
LISTENING = "changes are found by looking, because listening for them in"


class Listener:
    """Calls `heard` for every message, and when it begins to listen: something may have been missed."""

    def __init__(self, client: Any, heard: Callable[[], None]) -> None:
        self._client = client
        self._heard = heard
        self._troubles = Troubles()  # its own: what is not heard of is found, so that the store is well
        self._is_heard = False  # something, since the last failure

    async def listen(self) -> None:
        """Until it is cancelled. A channel that breaks is opened again."""
        while True:
            try:
                with explained():
                    await self._client.get(VERSION)  # a Cluster's client learns of its servers by it
                    await self._subscribed()
            except Exception as error:
                if not self._is_heard:  # it did not only break
                    self._troubles.note(LISTENING, error)
                self._is_heard = False
            await asyncio.sleep(random.uniform(0.2, 1.0) * AGAIN_S)  # noqa: S311  (not all replicas at once)

    async def _subscribed(self) -> None:
        channel = self._client.pubsub()
        try:
            await channel.subscribe(CHANNEL)
            await self._hear(channel)
        finally:
            with suppress(Exception):
                await channel.aclose()

    async def _hear(self, channel: Any) -> None:
        is_asked = False
        while True:
            message = await channel.get_message(timeout=QUIET_S)
            if message is not None:
                is_asked = False
                self._is_heard = True
                self._troubles.note(LISTENING, None)
                self._heard()
            elif is_asked:
                raise TimeoutError
            else:
                await channel.ping()
                is_asked = True
