"""What the store asks of Redis: scripts on the path of a request, commands behind it.

Every `run` of one tick of the event loop leaves in one write for each server, and comes back as a bare
future: no task, lock or timer of its own. A server that does not answer costs a caller its budget, and
soon nothing: while it is in trouble every `run` fails at once.
"""

import asyncio
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from authz.store.waits import Shared

Word = bytes | str | int

BUDGET_MS = 50
"""What a decision may wait for Redis."""

COMMAND_MS = 1000
"""What work behind a decision may wait for it."""


class Script(Protocol):
    """A Lua script: sent by its SHA-1, as a whole only to a server that does not know it."""

    @property
    def name(self) -> str: ...
    @property
    def sha(self) -> str: ...
    @property
    def source(self) -> str: ...


class Undo(NamedTuple):
    """What takes a call back that nobody waited for: it may have run, may yet run, or may never.

    Must do no harm when it runs twice, or before the call. Tried until it succeeds or for `for_ms`.
    """

    script: Script
    keys: Sequence[str]
    args: Sequence[Word]
    for_ms: int = 60_000


class Link(Protocol):
    """The way to a server, to the master that Sentinels name, or to a Cluster."""

    @property
    def trouble(self) -> str | None:
        """Why it cannot be used right now, and what to do; None: it can. Never a secret."""
        ...

    @property
    def shards(self) -> tuple[str, ...]:
        """Parts of the key space that share one server (`authz.store.redis.names`)."""
        ...

    @property
    def figures(self) -> Shared:
        """How long calls with the target's budget waited, and what is owed; for metrics."""
        ...

    def run(
        self,
        script: Script,
        keys: Sequence[str],
        args: Sequence[Word],
        *,
        budget_ms: int = 0,
        undo: Undo | None = None,
    ) -> asyncio.Future[Any]:
        """Run a script on the server of `keys[0]`, at most once. A bare future of its reply (RESP2, bytes).

        Without a reply after `budget_ms` (0: the target's, 50 unless told otherwise) it raises
        StoreUnavailable; so it does, at once, while the server is in trouble or too much waits for it,
        and where the server refuses. The link then sees to it that `undo` runs if the script may
        have run, or may yet.
        """
        ...

    def command(self, *words: Word, key: str = "", budget_ms: int = COMMAND_MS) -> asyncio.Future[Any]:
        """One command on the server of `key`; without, on any. Not for what blocks the connection.

        Raises StoreUnavailable as `run` does; an error of the command itself too.
        """
        ...

    def teach(self, *scripts: Script) -> None:
        """Scripts that every server shall know as soon as it is connected, so that no call brings them."""
        ...

    async def start(self) -> None:
        """Connect, and stay connected. Returns at the first success or failure; a failure is `trouble`."""
        ...

    async def close(self) -> None:
        """Let what was sent finish, briefly, and disconnect."""
        ...
