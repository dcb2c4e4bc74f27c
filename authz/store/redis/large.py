"""Changes to the records that are too large for one script: Redis does nothing else while one runs.

Pieces are staged where nobody reads them, and expire if whoever stages them dies. One small script then has
all of them be valid, if nobody changed anything since the change was thought out; from there on nothing takes
it back. What is left is to write the pieces to where the records are, one in each call. Meanwhile no reader
sees a half: mirrors take the pieces themselves (`following`), all others wait (`steady`). If whoever writes
them dies, the next who waits goes on. One at a time writes: so decisions get their turn between two pieces.
"""

import random
import secrets
import time
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

import msgspec

from authz.store.protocols import StoreUnavailable
from authz.store.redis import kept
from authz.store.redis.failures import FAILURES, explained
from authz.store.redis.kept import Kind
from authz.store.redis.link import Word
from authz.store.redis.names import records
from authz.store.redis.sources import source

LAST = records("large-change")
"""The large change that came last: its `name`; `left`, the pieces that are not yet written to the records;
`by`, who writes them, and `till` when nobody else does."""

MOST = 500
"""Fields and members that one script writes: one or two ms of Redis's time, where their values are short."""

MOST_BYTES = 100_000
"""What one script writes; a single record may be longer."""

STAGED_MS = 60_000  # how long pieces wait for the next one
LEASE_MS = 2_000  # after so long without a piece somebody else goes on
KEPT_MS = 600_000  # how long a mirror may be behind and still find the pieces; else it reads everything anew
PATIENCE_S = 5.0  # how long one waits for a large change that does not get on
LONGEST_PAUSE_S = 0.01  # between two pieces; shorter ones are followed by as long a pause

_STAGE = source("stage_change")
_PUBLISH = source("publish_change")
_APPLY = source("apply_change")

Command = tuple[str, str, list[str]]
"""What Redis is told: command, place, arguments."""

Here = TypeVar("Here")
Words = ParamSpec("Words")
Result = TypeVar("Result")

_commands = msgspec.msgpack.Decoder(list[Command]).decode
_KINDS = {place: kind for kind, place in kept.HASHES.items()}


def staged(name: str) -> str:
    """Where the pieces of a large change are, by number from 1."""
    return records(f"large-change:{name}")


def stage(client: Any, name: str, pieces: Sequence[bytes]) -> None:
    """Nobody reads them yet. Raises what redis-py raises."""
    for number, piece in enumerate(pieces, 1):
        _tell(client, _STAGE, (LAST, staged(name)), name, number, piece, STAGED_MS)


def publish(client: Any, name: str, pieces: int, keys: Sequence[str], words: Sequence[Word]) -> bool:
    """Have them be valid, all or none; False: none, as others were first.

    `keys` and `words`: the version and the stream of notes, and what a change is told of them.
    """
    if _tell(client, _PUBLISH, (*keys, LAST, staged(name)), *words, name, pieces):
        return True
    client.delete(staged(name))
    return False


def finish(client: Any, name: str) -> bool:
    """Write what is valid to the records, or wait until it is. False: it may have been lost.

    Raises StoreUnavailable; then whoever comes next goes on.
    """
    me = secrets.token_hex(8)
    keys = (LAST, staged(name), *kept.PLACES)
    last, until = -1, time.monotonic() + PATIENCE_S
    while True:
        begun = time.monotonic()
        left = int(_tell(client, _APPLY, keys, name, me, LEASE_MS, KEPT_MS))
        if left == 0:
            return True
        if left == -1:
            return False
        if left == -3:
            raise StoreUnavailable(
                "Redis dropped a part of a large change of the records, so that only some of it was made: "
                "make it again, and set maxmemory-policy to noeviction"
            )
        now = time.monotonic()
        if left > 0:
            time.sleep(min(now - begun, LONGEST_PAUSE_S))
        else:
            left = int(client.hget(LAST, "left") or 0)
            time.sleep(random.uniform(0.005, 0.02))  # noqa: S311  (not all that wait at once)
        if left != last:
            last, until = left, now + PATIENCE_S
        elif now > until:
            raise StoreUnavailable("a large change of the records does not get on; try again")


def settle(client: Any) -> bytes:
    """Returns once no large change is half written; the name of the last one. Raises StoreUnavailable."""
    while True:
        name, left = client.hmget(LAST, "name", "left")
        if not int(left or 0):
            return name or b""
        finish(client, name.decode())


def steady(read: Callable[Concatenate[Here, Words], Result]) -> Callable[Concatenate[Here, Words], Result]:
    """For a method that reads by `self._client`: it never sees a half of a large change.

    Turns what redis-py raises into StoreUnavailable.
    """

    @wraps(read)
    def reading(self: Here, /, *args: Words.args, **more: Words.kwargs) -> Result:
        client: Any = self._client  # type: ignore[attr-defined]
        with explained():
            while True:
                last = settle(client)
                found = read(self, *args, **more)
                if (client.hget(LAST, "name") or b"") == last:
                    return found

    return reading


def bodies(piece: bytes) -> list[tuple[Kind, str, bytes | None]]:
    """The records that a piece puts or drops."""
    found: list[tuple[Kind, str, bytes | None]] = []
    for command, place, words in _commands(piece):
        if place not in _KINDS:
            continue
        kind = _KINDS[place]
        if command == "HSET":
            found += [(kind, name, body.encode()) for name, body in zip(words[::2], words[1::2], strict=True)]
        else:
            found += [(kind, name, None) for name in words]
    return found


def _tell(client: Any, script: str, keys: Sequence[str], *words: Word) -> Any:
    """Each of the scripts may run twice: where the answer is lost, it is told again."""
    try:
        return client.eval(script, len(keys), *keys, *words)
    except FAILURES:
        return client.eval(script, len(keys), *keys, *words)
