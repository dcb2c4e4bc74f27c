"""The changes that the counter engine makes, as they are written ahead."""

import msgspec
from msgspec import Struct

from authz.quota import Unit
from authz.store.protocols import Hold


class Reserve(Struct, frozen=True, array_like=True, tag=0):
    """An admitted reservation."""

    now: int
    reservation: str
    gateway: str
    ttl_ms: int
    holds: tuple[Hold, ...]


class Settle(Struct, frozen=True, array_like=True, tag=1):
    """A settlement of a reservation that was open."""

    now: int
    reservation: str
    actual: dict[Unit, int]


Op = Reserve | Settle

encode = msgspec.msgpack.Encoder().encode
decode = msgspec.msgpack.Decoder(Op).decode
