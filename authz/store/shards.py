"""A dictionary in many small ones: none takes long to grow.

Python moves a dictionary as a whole when it outgrows its table: with a million
entries that is a pause of tens of milliseconds.
"""

from collections.abc import Iterator
from typing import Generic, TypeVar

V = TypeVar("V")

SHARDS = 256  # a million entries are four thousand each, which move in a tenth of a millisecond


class Shards(Generic[V]):
    """Values by text. None is no value."""

    __slots__ = ("_count", "shards")

    def __init__(self) -> None:
        self.shards: list[dict[str, V]] = [{} for _ in range(SHARDS)]
        self._count = 0

    def get(self, key: str) -> V | None:
        return self.shards[hash(key) % SHARDS].get(key)

    def __setitem__(self, key: str, value: V) -> None:
        shard = self.shards[hash(key) % SHARDS]
        if key not in shard:
            self._count += 1
        shard[key] = value

    def pop(self, key: str) -> V:
        """Take it out. KeyError: it is not there."""
        value = self.shards[hash(key) % SHARDS].pop(key)
        self._count -= 1
        return value

    def __contains__(self, key: str) -> bool:
        return key in self.shards[hash(key) % SHARDS]

    def __len__(self) -> int:
        return self._count

    def items(self) -> Iterator[tuple[str, V]]:
        """Of one shard after the other, each as it is when its turn comes. Any thread may ask."""
        for shard in self.shards:
            yield from shard.copy().items()
