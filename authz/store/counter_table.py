"""Counters by key, each in as few bytes as its numbers need.

As tuples of numbers they would take twice the memory, and the collector would
visit each of them.
"""

from collections.abc import Iterator, Mapping
from struct import Struct, error

import msgspec

from authz.store.counting import State, pack, unpack
from authz.store.shards import SHARDS, Shards

_FLAT = Struct("<B6q")  # kind and six numbers: what most counters are
_pack_flat, _unpack_flat = _FLAT.pack, _FLAT.unpack
_MOST_KINDS = 8  # the first byte is less in that form; in msgpack's it is that of an array
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder().decode


class CounterTable:
    """States go in and come out whole. A look-up costs what unpacking does: it steps into no other call."""

    __slots__ = ("_packed", "_shards")

    def __init__(self) -> None:
        self._packed: Shards[bytes] = Shards()
        self._shards = self._packed.shards

    def get(self, key: str) -> State | None:
        packed = self._shards[hash(key) % SHARDS].get(key)
        if packed is None:
            return None
        return _unpack_flat(packed) if packed[0] < _MOST_KINDS else unpack(_decode(packed))

    def __setitem__(self, key: str, state: State) -> None:
        try:
            packed = _pack_flat(*state)
        except error:  # a list of sub-windows, or a number beyond 64 bits
            packed = _encode(pack(state))
        shard = self._shards[hash(key) % SHARDS]
        if key in shard:
            shard[key] = packed
        else:
            self._packed[key] = packed

    def __delitem__(self, key: str) -> None:
        self._packed.pop(key)

    def __contains__(self, key: str) -> bool:
        return key in self._packed

    def __len__(self) -> int:
        return len(self._packed)

    def update(self, states: Mapping[str, State]) -> None:
        for key, state in states.items():
            self[key] = state

    def items(self) -> Iterator[tuple[str, State]]:
        """Any thread may ask."""
        for key, packed in self._packed.items():
            yield key, _unpack_flat(packed) if packed[0] < _MOST_KINDS else unpack(_decode(packed))

    def keys_of(self, part: int) -> list[str]:
        """The keys of one of SHARDS parts."""
        return list(self._packed.shards[part])
