"""Which server has which slots, as CLUSTER SLOTS and MOVED tell it."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from redis.crc import key_slot

from authz.store.protocols import StoreUnavailable
from authz.store.redis.errors import Refused
from authz.store.redis.names import RECORDS, SPREAD
from authz.store.redis.target import Address, shown

SLOTS_OF_SHARDS = {shard: key_slot(f"{{{shard}}}".encode()) for shard in (*SPREAD, RECORDS)}
"""All slots that we use: one for each shard, so that one look at a key's tag tells it."""


def slot_of(key: str) -> int:
    """The slot of a key (Redis Cluster specification, "Hash tags")."""
    end = key.find("}")
    if end > 0 and key.startswith("az:{"):
        slot = SLOTS_OF_SHARDS.get(key[4:end])
        if slot is not None:
            return slot
    return int(key_slot(key.encode()))


class Range(NamedTuple):
    """Slots, both ends included, and their master."""

    first: int
    last: int
    master: Address


def read_slots(reply: Any, asked: Address) -> list[Range]:
    """A reply to CLUSTER SLOTS. A server that does not know its own name is the one that was asked.

    Raises StoreUnavailable: it is no such reply.
    """
    try:
        return [
            Range(int(first), int(last), (_host(host, asked), int(port)))
            for first, last, (host, port, *_), *_ in reply
        ]
    except (TypeError, ValueError):
        raise StoreUnavailable(f"Redis at {shown(asked)} answers CLUSTER SLOTS with something else") from None


class Elsewhere(NamedTuple):
    """MOVED: for good. ASK: this once, with ASKING before it."""

    slot: int
    address: Address
    for_good: bool


def read_redirection(error: Refused, asked: Address) -> Elsewhere | None:
    """`MOVED 3999 127.0.0.1:6381`. None: not of that form."""
    match error.text.split():
        case [("MOVED" | "ASK") as word, slot, place] if slot.isdecimal():
            host, _, port = place.rpartition(":")
            if port.isdecimal():
                return Elsewhere(int(slot), (_host(host, asked), int(port)), word == "MOVED")
    return None


def _host(host: bytes | str | None, asked: Address) -> str:
    name = host.decode() if isinstance(host, bytes) else host or ""
    return name.strip("[]") if name not in {"", "?"} else asked[0]


def shards_of(ranges: Iterable[Range]) -> dict[Address, Sequence[str]]:
    """Our shards by master; one without any is in it too."""
    found: dict[Address, list[str]] = {}
    for each in ranges:
        mine = found.setdefault(each.master, [])
        mine += [shard for shard, slot in SLOTS_OF_SHARDS.items() if each.first <= slot <= each.last]
    return dict(found)
