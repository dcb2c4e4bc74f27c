"""How a mirror is filled and kept up, as steps that know no connection.

A step yields commands and is sent their replies, in order: `now` runs steps on a synchronous client,
`later` on an asynchronous one.
"""

import asyncio
from collections.abc import Generator, Sequence
from typing import Any, TypeVar

import msgspec

from authz.store.redis import kept
from authz.store.redis.changes import NOTES
from authz.store.redis.failures import explained
from authz.store.redis.kept import Kind
from authz.store.redis.mirror import Found, Mirror

PAGE = 500  # records, or notes, in one reply
STEP_S = 1.0  # what one step may take: a connection that hangs is given up, and another tried
PATIENT_S = 10.0  # what it may take after that: it has to find out first which servers there are

Result = TypeVar("Result")
Command = tuple[bytes | str | int, ...]
Steps = Generator[Sequence[Command], Sequence[Any], Result]

_names = msgspec.msgpack.Decoder(list[tuple[Kind, str]]).decode


def load() -> Steps[Mirror]:
    """Read everything, and what was changed meanwhile once more."""
    while True:
        mirror = yield from _read_all()
        if (yield from follow(mirror)):
            return mirror


def rejoin(mirror: Mirror) -> Steps[None]:
    """Follow from here on, though something may have been missed."""
    mirror.skip_to((yield from _latest()))


def _latest() -> Steps[bytes | None]:
    (notes,) = yield [("XREVRANGE", NOTES, "+", "-", "COUNT", 1)]
    return notes[0][0] if notes else None


def _read_all() -> Steps[Mirror]:
    mirror = Mirror((yield from _latest()))  # before the records: of what follows nothing is missed
    for kind, place in kept.HASHES.items():
        cursor = 0
        while True:
            ((cursor, page),) = yield [("HSCAN", place, cursor, "COUNT", PAGE)]
            mirror.put((kind, kept.text(name), body) for name, body in page.items())
            if not cursor:
                break
    return mirror


def follow(mirror: Mirror) -> Steps[bool]:
    """Read again what was changed since the last look.

    False: the notes do not reach back that far, or are not those that the mirror followed (the server was
    emptied, or lost its last writes): `load` again.
    """
    while True:
        since = mirror.seen
        (notes,) = yield [("XRANGE", NOTES, since or "-", "+", "COUNT", PAGE + 1)]
        if since is None:
            return not notes  # an older note may have been dropped already
        if not notes or notes[0][0] != since:
            return False
        if len(notes) == 1:
            return True
        names = dict.fromkeys(name for _, fields in notes[1:] for name in _names(fields[b"n"]))
        found = yield from _read(list(names))
        if mirror.advance(since, notes[-1][0], found) and len(notes) <= PAGE:
            return True


def _read(names: Sequence[tuple[Kind, str]]) -> Steps[list[Found]]:
    found: list[Found] = []
    for begin in range(0, len(names), PAGE):
        page = names[begin : begin + PAGE]
        bodies = yield [("HGET", kept.HASHES[kind], name) for kind, name in page]
        found += [(kind, name, body) for (kind, name), body in zip(page, bodies, strict=True)]
    return found


def now(steps: Steps[Result], client: Any) -> Result:
    """Raises StoreUnavailable."""
    try:
        commands = next(steps)
        while True:
            with explained(), client.pipeline(transaction=False) as pipeline:
                for command in commands:
                    pipeline.execute_command(*command)
                replies = pipeline.execute()
            commands = steps.send(replies)
    except StopIteration as end:
        result: Result = end.value
        return result


async def later(steps: Steps[Result], client: Any, within: float) -> Result:
    """`within`: so many seconds for each step. Raises StoreUnavailable."""
    try:
        commands = next(steps)
        while True:
            with explained():
                async with asyncio.timeout(within), client.pipeline(transaction=False) as pipeline:
                    for command in commands:
                        pipeline.execute_command(*command)
                    replies = await pipeline.execute()
            commands = steps.send(replies)
    except StopIteration as end:
        result: Result = end.value
        return result
