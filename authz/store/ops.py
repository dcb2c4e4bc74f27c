"""The changes that the counter engine makes, as they are written ahead.

Each says what was decided, not what to decide again: replayed in order they
give the same counters, reservations and ledger entries, whenever that is done.
"""

import msgspec
from msgspec import Struct

from authz.quota import Unit
from authz.store.protocols import Hold


class Reserve(Struct, frozen=True, array_like=True, tag=0):
    """An admitted reservation. One that is not `kept` had no room left: it is charged and over at once."""

    now: int
    reservation: str
    gateway: str
    ttl_ms: int
    holds: tuple[Hold, ...]
    facts: bytes = b""
    kept: bool = True


class Settle(Struct, frozen=True, array_like=True, tag=1):
    """A settlement of a reservation that was open, or `late`: that had expired."""

    now: int
    reservation: str
    actual: dict[Unit, int]
    note: bytes = b""
    late: bool = False


class Extend(Struct, frozen=True, array_like=True, tag=2):
    """A later deadline of a reservation that was open."""

    reservation: str
    deadline: int


Op = Reserve | Settle | Extend

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Op).decode
