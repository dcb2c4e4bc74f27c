"""Ends of reservations as the scripts of the counters queue them."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from authz.store.closed import Closed
from authz.store.records import Entry, Source
from authz.store.redis import names


def closed(entry: Entry) -> Closed:
    """What becomes this entry."""
    source = entry.note.source
    expired = source is Source.EXPIRED
    facts = entry.facts
    if expired:  # entered as it was held
        facts = msgspec.structs.replace(facts, hold=entry.note.usage, hold_cost=entry.note.cost)
    return Closed(
        entry.reservation,
        entry.gateway,
        entry.at,
        entry.ended_at,
        msgspec.msgpack.encode(facts),
        b"" if expired else msgspec.msgpack.encode(entry.note),
        expired=expired,
        late=source is Source.CORRECTED,
    )


def packed(end: Closed) -> bytes:
    """An array, as Lua makes it."""
    return msgspec.msgpack.encode(msgspec.structs.astuple(end))


def queue(client: Any, ends: Iterable[Entry | Closed | bytes], shards: Sequence[str] = ("0",)) -> None:
    """One after the other, to the shards by turns."""
    pipeline = client.pipeline(transaction=False)
    for number, end in enumerate(ends):
        made = closed(end) if isinstance(end, Entry) else end
        body = made if isinstance(made, bytes) else packed(made)
        pipeline.xadd(names.closed(shards[number % len(shards)]), {"c": body})
    pipeline.execute()
