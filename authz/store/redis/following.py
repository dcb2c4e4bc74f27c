"""How a mirror is filled and kept up, as steps that know no connection.

A step yields commands and is sent their replies, in order: `now` runs steps on a synchronous client,
`later` on an asynchronous one.
"""

import asyncio
from collections.abc import Generator, Mapping, Sequence
from typing import Any, TypeVar

import msgspec

from authz.store.redis import kept, large
from authz.store.redis.changes import NOTES
from authz.store.redis.failures import explained
from authz.store.redis.kept import Kind
from authz.store.redis.mirror import Found, Mirror

PAGE = 500  # records, or notes, in one reply
FEW = 10  # pieces of a large change in one reply
STEP_S = 1.0  # what one step may take: a connection that hangs is given up, and another tried
PATIENT_S = 10.0  # what it may take after that: it has to find out first which servers there are

Result = TypeVar("Result")
Command = tuple[bytes | str | int, ...]
Steps = Generator[Sequence[Command], Sequence[Any], Result]
NoteRead = tuple[bytes, Mapping[bytes, bytes]]

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
    """As of a moment, but for what is noted since."""
    while True:
        # Before the records: of what follows nothing is missed.
        mirror = Mirror((yield from _latest()))
        ((name, left),) = yield [("HMGET", large.LAST, "name", "left")]
        for kind, place in kept.HASHES.items():
            cursor = 0
            while True:
                ((cursor, page),) = yield [("HSCAN", place, cursor, "COUNT", PAGE)]
                mirror.put((kind, kept.text(name), body) for name, body in page.items())
                if not cursor:
                    break
        if not int(left or 0):
            return mirror
        found = yield from _read_large(name.decode())  # valid, but the records had perhaps only half of it
        if found is not None:
            mirror.put(found)
            return mirror


def follow(mirror: Mirror) -> Steps[bool]:
    """Read again what was changed since the last look.

    False: the notes do not reach back that far, or are not those that the mirror followed (the server was
    emptied, or lost its last writes): `load` again.
    """
    while True:
        since = mirror.seen
        (before,) = yield [("HGET", large.LAST, "name")]
        notes = yield from _since(since)
        if notes is None:
            return False
        if not notes:
            return True
        found = yield from _noted([fields for _, fields in notes])
        if found is None:
            return False
        (last,) = yield [("HGET", large.LAST, "name")]
        if last == before:  # else what was read may have some of a change that the notes do not tell of
            mirror.advance(since, notes[-1][0], found)


def _since(since: bytes | None) -> Steps[list[NoteRead] | None]:
    """The notes that follow. None: there may have been others."""
    found: list[NoteRead] = []
    while True:
        (notes,) = yield [("XRANGE", NOTES, since or "-", "+", "COUNT", PAGE + 1)]
        if since is None:
            return None if notes else found  # an older note may have been dropped already
        if not notes or notes[0][0] != since:
            return None
        found += notes[1:]
        if len(notes) <= PAGE:
            return found
        since = notes[-1][0]


def _noted(notes: Sequence[Mapping[bytes, bytes]]) -> Steps[list[Found] | None]:
    """The records that the notes tell of, in their order: the latest counts. None: they are not all there."""
    found: list[Found] = []
    names: dict[tuple[Kind, str], None] = {}
    for fields in notes:
        if b"n" in fields:
            for each in _names(fields[b"n"]):
                names.pop(each, None)
                names[each] = None
            continue
        found += yield from _read(list(names))
        names.clear()
        pieces = yield from _read_large(fields[b"p"].decode())
        if pieces is None:
            return None
        found += pieces
    found += yield from _read(list(names))
    return found


def _read_large(name: str) -> Steps[list[Found] | None]:
    """The records of a large change. None: it was made so long ago that its pieces are gone."""
    place = large.staged(name)
    (count,) = yield [("HLEN", place)]
    found: list[Found] = []
    for begin in range(1, count + 1, FEW):
        pieces = yield [("HGET", place, number) for number in range(begin, min(begin + FEW, count + 1))]
        if None in pieces:
            return None
        for piece in pieces:
            found += large.bodies(piece)
    return found if count else None


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
