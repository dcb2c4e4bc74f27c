"""An identity provider's published keys (RFC 7517), fetched beside the decisions and never by them.

Known keys answer at once, through any outage. A token with an unknown key id
may start a fetch and wait for it, within a budget; the cooldown holds whatever
tokens ask for.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from authz.authenticate.algorithms import KeySet, UnusableKey, public_key
from authz.authenticate.jwks_fetch import Fetcher, FetchFailed
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.strict_json import Malformed, read_object
from authz.authenticate.urls import fault_of_found_url
from authz.recent import Recent
from authz.store.protocols import Clock

BUDGET = 1.5  # seconds that a decision may wait for a fetch; gateways give up after 2
MOST_KEYS = 64
MOST_WAITING = 1024
MOST_UNKNOWN = 1024
UNKNOWN_FOR_MS = 60_000  # how long a key id that no fetch brought starts no other

_log = structlog.get_logger("authz.jwks")


class Jwks:
    """The current keys of one provider."""

    def __init__(
        self,
        settings: JwtSettings,
        fetcher: Fetcher,
        clock: Clock,
        *,
        budget: float = BUDGET,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._fetcher = fetcher
        self._clock = clock
        self._budget = budget
        self._sleep = sleep
        self.keys = KeySet()  # another object whenever the published keys changed
        self.ready = False  # whether keys were ever fetched
        self.fault = ""  # why the last fetch failed; empty after one that did not
        self._document: object = None
        self._started_at: int | None = None
        self._fetching: asyncio.Task[None] | None = None
        self._background: asyncio.Task[None] | None = None
        self._waiting: set[asyncio.Future[None]] = set()
        self._give_up: asyncio.TimerHandle | None = (
            None  # set while waiting for the running fetch makes sense
        )
        self._unknown: Recent[str, int] = Recent(MOST_UNKNOWN)

    def start(self) -> None:
        """Keep the keys fresh from now on. Returns at once."""
        if self._background is None:
            self._background = asyncio.get_running_loop().create_task(self._keep_fresh())

    async def close(self) -> None:
        """Stop all fetching and let everybody go who waits for it."""
        running = [task for task in (self._background, self._fetching) if task is not None]
        for task in running:
            task.cancel()
        await asyncio.gather(*running, return_exceptions=True)
        self._background = None
        self._let_go()
        await self._fetcher.close()

    async def search(self, kid: str | None) -> None:
        """Wait for a fetch that could bring an unknown key id; look at `keys` and `ready` afterwards.

        Returns at once where the id was missing from a fetch before, where the
        last fetch is too recent, or where too many wait already. Awaits one bare
        future, for at most the budget.
        """
        now = self._clock()
        until = self._unknown.get(kid) if kid is not None else None
        if until is not None and now < until:
            return
        if not self._begin() or self._give_up is None or len(self._waiting) >= MOST_WAITING:
            return
        future = asyncio.get_running_loop().create_future()
        self._waiting.add(future)
        await future
        if kid is not None and not self.fault and not self.keys.knows(kid):
            self._unknown.put(kid, now + UNKNOWN_FOR_MS)

    def _begin(self) -> bool:
        """Start a fetch unless one is running. False in the cooldown after the last start."""
        if self._fetching is not None:
            return True
        now = self._clock()
        if self._started_at is not None and 0 <= now - self._started_at < self._settings.cooldown * 1000:
            return False
        self._started_at = now
        loop = asyncio.get_running_loop()
        self._give_up = loop.call_later(self._budget, self._let_go)
        self._fetching = loop.create_task(self._fetch())
        return True

    def _let_go(self) -> None:
        if self._give_up is not None:
            self._give_up.cancel()
            self._give_up = None
        for future in self._waiting:
            if not future.done():
                future.set_result(None)
        self._waiting.clear()

    async def _keep_fresh(self) -> None:
        while True:
            if self._begin() and self._fetching is not None:
                await asyncio.wait({self._fetching})
            await self._sleep(self._settings.cooldown if self.fault else self._settings.refresh)

    async def _fetch(self) -> None:
        try:
            self._take(await self._published())
            self.fault = ""
        except (FetchFailed, Malformed) as error:
            self.fault = str(error)
        except Exception as error:  # whatever a fetcher breaks with, the known keys keep working
            self.fault = type(error).__name__
        finally:
            self._fetching = None
            self._let_go()
        if self.fault:
            _log.warning(
                "keys not fetched", authenticator=self._settings.name, why=self.fault, known=len(self.keys)
            )

    async def _published(self) -> object:
        url = self._settings.jwks_url or await self._discovered()
        document = read_object(await self._fetcher.get(url))
        keys = document.get("keys")
        if not isinstance(keys, list):
            raise Malformed("the key set has no list of keys")
        return keys[:MOST_KEYS]

    async def _discovered(self) -> str:
        """The key set's address in the provider's metadata (OpenID Connect Discovery 4)."""
        found_at = f"{(self._settings.discovery or '').rstrip('/')}/.well-known/openid-configuration"
        metadata = read_object(await self._fetcher.get(found_at))
        if metadata.get("issuer") not in self._settings.issuers:
            raise FetchFailed("the discovery document is another issuer's than those configured")
        url = metadata.get("jwks_uri")
        fault = fault_of_found_url(url, found_at) if isinstance(url, str) else "is missing"
        if fault or not isinstance(url, str):
            raise FetchFailed(f"the discovery document's jwks_uri {fault}")
        return url

    def _take(self, published: object) -> None:
        """Make the published keys the current ones, without unusable ones. The same again change nothing."""
        self.ready = True
        if published == self._document:
            return
        usable = []
        assert isinstance(published, list)
        for position, jwk in enumerate(published):
            try:
                usable.append(public_key(jwk, self._settings.algorithms))
            except UnusableKey as error:
                _log.info(
                    "key left out", authenticator=self._settings.name, position=position, why=str(error)
                )
        self.keys = KeySet(usable)
        self._document = published
