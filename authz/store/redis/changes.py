"""Changes to the records: all of one or nothing, and with it a note for every replica that follows.

A change is thought out here from what was read, and applied by one script if nobody changed anything
since; otherwise it is thought out anew. One that is too large for a script goes in pieces (`large`). Notes go
into a stream, for whoever looks, and a message says that there is one, for whoever listens.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from authz.store.protocols import StoreUnavailable
from authz.store.redis import large
from authz.store.redis.failures import FAILURES, explained
from authz.store.redis.kept import Kind
from authz.store.redis.link import Word
from authz.store.redis.names import records
from authz.store.redis.sources import source

VERSION = records("version")
NOTES = records("changes")
CHANNEL = records("changes")
NOTES_KEPT = 100_000
"""Entries of the stream. A replica that is further behind reads everything anew."""

PATIENCE_S = 5.0  # how long a change waits for those of others

_CHANGE = source("change_records")

Note = tuple[Kind, str]


class Change:
    """What is to be written, told as what shall stand where."""

    def __init__(self) -> None:
        self._fields: dict[str, dict[str, str | None]] = {}
        self._members: dict[str, dict[str, bool]] = {}
        self._values: dict[str, str] = {}
        self._notes: dict[Note, None] = {}

    def field(self, place: str, name: str, value: str | None) -> None:
        """A field of a hash; None: it shall not be there."""
        self._fields.setdefault(place, {})[name] = value

    def member(self, place: str, member: str, *, there: bool) -> None:
        """A member of an index."""
        self._members.setdefault(place, {})[member] = there

    def value(self, place: str, value: str) -> None:
        self._values[place] = value

    def note(self, kind: Kind, name: str) -> None:
        """Who follows shall read this record again."""
        self._notes[kind, name] = None

    @property
    def places(self) -> list[str]:
        return list({**self._values, **self._fields, **self._members})

    def pieces(self) -> list[bytes]:
        """What is to be written, each in the time that one script may take: lists of `large.Command`.

        All is text: Redis's msgpack knows no bytes.
        """
        found: list[bytes] = []
        commands: dict[tuple[str, str], list[str]] = {}
        count = size = 0
        for command, place, words in self._writes():
            length = sum(map(len, words))
            if count and (count == large.MOST or size + length > large.MOST_BYTES):
                found.append(_packed(commands))
                commands, count, size = {}, 0, 0
            commands.setdefault((command, place), []).extend(words)
            count, size = count + 1, size + length
        return [*found, _packed(commands)]

    def note_of_all(self) -> bytes:
        return msgspec.msgpack.encode(list(self._notes))

    def _writes(self) -> Iterator[tuple[str, str, tuple[str, ...]]]:
        """One by one: command, place, arguments."""
        for place, value in self._values.items():
            yield "SET", place, (value,)
        for place, fields in self._fields.items():
            for name, body in fields.items():
                yield ("HDEL", place, (name,)) if body is None else ("HSET", place, (name, body))
        for place, members in self._members.items():
            for each, there in members.items():
                yield ("ZADD", place, ("0", each)) if there else ("ZREM", place, (each,))


def _packed(commands: dict[tuple[str, str], list[str]]) -> bytes:
    return msgspec.msgpack.encode([(*command, words) for command, words in commands.items()])


def commit(client: Any, plan: Callable[[Change], None]) -> None:
    """Have a change thought out by `plan`, as often as others come between, and put it in force.

    `plan` reads by the same client and raises where the change may not be made. Raises StoreUnavailable.
    """
    own = secrets.token_hex(8)
    find_master = getattr(client, "find_master", None)
    if find_master is not None:
        with explained():
            find_master()
    until = time.monotonic() + PATIENCE_S
    is_sent = False
    while True:
        with explained():
            before = client.get(VERSION) or b""  # first: what is valid since then has another
            large.settle(client)
            if before == own.encode():
                return  # only the answer was lost
            change = Change()
            plan(change)
            pieces = change.pieces()
            try:
                if _apply(client, change, pieces, before, own):
                    return
            except FAILURES:
                if is_sent:
                    raise
                is_sent = True  # perhaps in vain: sent again, it is done once
                continue
        if time.monotonic() > until:
            raise StoreUnavailable("others change the records without a pause; try again")
        time.sleep(random.uniform(0, 0.02))  # noqa: S311  (so that two do not meet again)


def _apply(client: Any, change: Change, pieces: list[bytes], before: bytes, own: str) -> bool:
    if len(pieces) > 1:
        name = secrets.token_hex(8)  # each attempt's: what comes late of one is not taken for the next one's
        large.stage(client, name, pieces)
        words: list[Word] = [before, own, NOTES_KEPT, CHANNEL]
        is_valid = large.publish(client, name, len(pieces), (VERSION, NOTES), words)
        return is_valid and large.finish(client, name)
    keys = [VERSION, NOTES, *change.places]
    words = [before, own, NOTES_KEPT, CHANNEL, *pieces, change.note_of_all()]
    return bool(client.eval(_CHANGE, len(keys), *keys, *words))
