"""Changes to the records: all of one or nothing, and with it a note for every replica that follows.

A change is thought out here from what was read, and applied by one script if nobody changed anything
since; otherwise it is thought out anew. Notes go into a stream, for whoever looks, and a message says
that there is one, for whoever listens.
"""

import random
import secrets
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec

from authz.store.protocols import StoreUnavailable
from authz.store.redis.failures import FAILURES, explained
from authz.store.redis.kept import Kind
from authz.store.redis.names import records
from authz.store.redis.sources import source

VERSION = records("version")
NOTES = records("changes")
CHANNEL = records("changes")
NOTES_KEPT = 100_000
"""Entries of the stream. A replica that is further behind reads everything anew."""

TOGETHER = 500  # arguments of one command, names in one note
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

    def commands(self) -> list[tuple[str, str, list[str]]]:
        """In pieces that Lua can unpack (its stack holds 8,000); all is text (its msgpack knows no bytes)."""
        found: list[tuple[str, str, list[str]]] = [
            ("SET", place, [value]) for place, value in self._values.items()
        ]
        for place, fields in self._fields.items():
            put = [(name, value) for name, value in fields.items() if value is not None]
            dropped = [(name,) for name, value in fields.items() if value is None]
            found += [("HSET", place, piece) for piece in _pieces(put)]
            found += [("HDEL", place, piece) for piece in _pieces(dropped)]
        for place, members in self._members.items():
            put = [("0", each) for each, there in members.items() if there]
            dropped = [(each,) for each, there in members.items() if not there]
            found += [("ZADD", place, piece) for piece in _pieces(put)]
            found += [("ZREM", place, piece) for piece in _pieces(dropped)]
        return found

    def notes(self) -> list[bytes]:
        notes = list(self._notes)
        return [
            msgspec.msgpack.encode(notes[begin : begin + TOGETHER])
            for begin in range(0, len(notes), TOGETHER)
        ]


def _pieces(items: Sequence[tuple[str, ...]]) -> Iterable[list[str]]:
    for begin in range(0, len(items), TOGETHER):
        yield [argument for item in items[begin : begin + TOGETHER] for argument in item]


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
            before = client.get(VERSION) or b""
            if before == own.encode():
                return  # only the answer was lost
            change = Change()
            plan(change)
            try:
                if _apply(client, change, before, own):
                    return
            except FAILURES:
                if is_sent:
                    raise
                is_sent = True  # perhaps in vain: sent again, it is done once
                continue
        if time.monotonic() > until:
            raise StoreUnavailable("others change the records without a pause; try again")
        time.sleep(random.uniform(0, 0.02))  # noqa: S311  (so that two do not meet again)


def _apply(client: Any, change: Change, before: bytes, own: str) -> bool:
    keys = [VERSION, NOTES, *change.places]
    commands = msgspec.msgpack.encode(change.commands())
    arguments = [before, own, NOTES_KEPT, CHANNEL, commands, *change.notes()]
    return bool(client.eval(_CHANGE, len(keys), *keys, *arguments))
