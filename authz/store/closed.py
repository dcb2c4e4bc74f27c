"""What the engine hands to the ledger when a request is over, and the entry that is made of it."""

import logging
from collections.abc import Callable
from typing import TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from authz.store.records import Entry, Facts, Note, Source

Part = TypeVar("Part", Facts, Note)

log = logging.getLogger("authz.store")

_facts = msgspec.msgpack.Decoder(Facts).decode
_note = msgspec.msgpack.Decoder(Note).decode

NO_FACTS = Facts(request_id="", user="")


class Closed(Struct, frozen=True, gc=False):
    """One end of one reservation. Cheap to make on the event loop; read by the writer."""

    reservation: str
    gateway: str
    at: int  # when it was let through
    ended_at: int
    facts: bytes
    note: bytes = b""  # empty: nobody told what it used
    expired: bool = False  # this is its expiry
    late: bool = False  # this corrects its expiry


def entry_of(closed: Closed) -> Entry:
    """The entry in the ledger. What nobody told, or cannot be read, is entered as it was held and charged."""
    facts = _read(closed, closed.facts, _facts, NO_FACTS)
    held = Note(
        usage=facts.hold, cost=facts.hold_cost, source=Source.EXPIRED if closed.expired else Source.ESTIMATED
    )
    note = _read(closed, closed.note, _note, held) if closed.note else held
    if closed.late:
        note = replace(note, source=Source.CORRECTED)
    elif note.source is Source.CORRECTED:  # it was thought to have expired; the clock then stepped back
        note = replace(note, source=Source.REPORTED)
    return Entry(
        reservation=closed.reservation,
        gateway=closed.gateway,
        at=closed.at,
        ended_at=closed.ended_at,
        facts=facts,
        note=note,
    )


def _read(closed: Closed, encoded: bytes, decode: Callable[[bytes], Part], otherwise: Part) -> Part:
    """One entry that cannot be read must not keep all later ones off the disk."""
    try:
        return decode(encoded)
    except msgspec.MsgspecError as error:
        log.error("the ledger entry of reservation %s is incomplete: %s", closed.reservation, error)
        return otherwise
