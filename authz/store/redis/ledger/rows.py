"""How an entry is written down, where it is, and what is summed of it."""

from collections.abc import Iterable, Sequence
from hashlib import blake2b
from typing import Final, NamedTuple

import msgspec
from msgspec.structs import astuple

from authz.quota import MAX_AMOUNT
from authz.store.protocols import StoreUnavailable
from authz.store.records import Entry, Facts, Note, Price, Source
from authz.store.sums import AMOUNTS
from authz.usage import Usage

DAY_MS: Final = 86_400_000

# -- an entry --------------------------------------------------------------------------------------

_FORMAT: Final = 1
_FACTS: Final = Facts.__struct_fields__
_NOTE: Final = Note.__struct_fields__
_PRICE: Final = Price.__struct_fields__
_HOLD, _PRICED, _USED = _FACTS.index("hold"), _FACTS.index("price"), _NOTE.index("usage")
_SOURCE: Final = _NOTE.index("source")

_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


def encode(entry: Entry) -> bytes:
    """An entry without the names of its fields, which would be the greater part. New fields come last."""
    facts, note = list(astuple(entry.facts)), list(astuple(entry.note))
    facts[_HOLD], facts[_PRICED] = astuple(entry.facts.hold), astuple(entry.facts.price)
    note[_USED] = astuple(entry.note.usage)
    return _encode(
        (_FORMAT, entry.reservation, entry.gateway, entry.at, entry.ended_at - entry.at, facts, note)
    )


def decode(body: bytes) -> Entry:
    """Raises StoreUnavailable."""
    try:
        format, reservation, gateway, at, lasted, facts, note = _decode(body)
        if format != _FORMAT:
            raise ValueError(f"its format is {format}")
        facts[_HOLD] = Usage(*facts[_HOLD])
        facts[_PRICED] = Price(**dict(zip(_PRICE, facts[_PRICED], strict=False)))
        note[_USED] = Usage(*note[_USED])
        note[_SOURCE] = Source(note[_SOURCE])
        return Entry(
            reservation=reservation,
            gateway=gateway,
            at=at,
            ended_at=at + lasted,
            facts=Facts(**dict(zip(_FACTS, facts, strict=False))),
            note=Note(**dict(zip(_NOTE, note, strict=False))),
        )
    except (msgspec.MsgspecError, ValueError, TypeError, IndexError) as error:
        raise StoreUnavailable(
            f"the ledger holds an entry that this authz cannot read: {error}. "
            "A newer authz wrote it, or it is damaged: upgrade authz"
        ) from error


# -- where it is -----------------------------------------------------------------------------------


class Place(NamedTuple):
    """Of an entry in the stream of its day. Never before the moment at which it was let through."""

    ms: int
    number: int

    @property
    def id(self) -> str:
        return f"{self.ms}-{self.number}"

    def next(self, ms: int) -> "Place":
        """The place of an entry that belongs at `ms`, behind this one."""
        return Place(ms, 0) if ms > self.ms else Place(self.ms, self.number + 1)


def place_of(id: bytes) -> Place:
    ms, _, number = id.partition(b"-")
    return Place(int(ms), int(number))


class Spot(NamedTuple):
    """Where an id is looked up: in one of the small hashes of a day's index."""

    part: int
    field: bytes


def spot_of(id: str, fan: int) -> Spot:
    """Not all ids of a spot are the same: whoever looks it up compares."""
    digest = blake2b(id.encode(), digest_size=8).digest()
    return Spot(int.from_bytes(digest[4:], "big") % fan, digest[:4])


_PLACE: Final = 8  # bytes: 5 for ms since the day began (34 years), 3 for the number


def pack_places(day: int, places: Iterable[Place]) -> bytes:
    return b"".join(
        (each.ms - day * DAY_MS).to_bytes(5, "big") + each.number.to_bytes(3, "big") for each in places
    )


def unpack_places(day: int, packed: bytes) -> list[Place]:
    return [
        Place(day * DAY_MS + int.from_bytes(each[:5], "big"), int.from_bytes(each[5:], "big"))
        for each in (packed[at : at + _PLACE] for at in range(0, len(packed), _PLACE))
    ]


# -- what is summed of it --------------------------------------------------------------------------

Group = tuple[str, ...]
"""What a sum is of, in the order of DIMENSIONS."""

Sums = tuple[int, ...]
"""Of AMOUNTS, and last the requests."""

NO_SUMS: Final[Sums] = (0,) * (len(AMOUNTS) + 1)

_group = msgspec.msgpack.Decoder(tuple[str, ...]).decode


def group_of(entry: Entry) -> Group:
    facts = entry.facts
    return (
        facts.user,
        facts.team,
        facts.key,
        facts.model,
        facts.route,
        entry.gateway,
        str(entry.note.source),
    )


def sums_of(entry: Entry) -> Sums:
    """Of one request; no figure is more than any store keeps of one."""
    usage = entry.note.usage
    amounts = (usage.input, usage.output, usage.cached, usage.reasoning, entry.note.cost)
    return (*(min(amount, MAX_AMOUNT) for amount in amounts), 1)


def added(one: Sequence[int], other: Sequence[int], sign: int = 1) -> Sums:
    return tuple(a + sign * b for a, b in zip(one, other, strict=True))


def pack_group(group: Group) -> bytes:
    return _encode(group)


def unpack_group(packed: bytes) -> Group:
    return _group(packed)


def pack_sums(sums: Sums) -> bytes:
    return b" ".join(b"%d" % each for each in sums)


def unpack_sums(packed: bytes | None) -> Sums:
    return NO_SUMS if packed is None else tuple(map(int, packed.split()))
