"""A bounded map that forgets what was not used lately."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Holds at most `most` entries, in two generations.

    When the young generation is full it becomes the old one, and the former
    old one is forgotten; an old entry that is asked for turns young again. So
    a hit costs one dict look-up, where a strict LRU reorders on each of them.
    What is forgotten is freed entry by entry: tens of thousands at once would
    be a pause of tens of milliseconds. None is no value.
    """

    __slots__ = ("_forgotten", "_old", "_share", "_young")

    def __init__(self, most: int) -> None:
        self._share = max(1, most // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}
        self._forgotten: list[dict[K, V]] = []

    def get(self, key: K) -> V | None:
        """The value, or None where it is unknown or forgotten."""
        found = self._young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, in place of an earlier one of that key."""
        if key not in self._young:
            if len(self._young) >= self._share:
                self.turn()
            if self._forgotten:
                self._free_one(self._forgotten)
        self._young[key] = value

    def turn(self) -> None:
        """Let the young be the old, and forget the old."""
        if self._old:
            self._forgotten.append(self._old)
        self._old, self._young = self._young, {}

    @staticmethod
    def _free_one(forgotten: list[dict[K, V]]) -> None:
        forgotten[-1].popitem()
        if not forgotten[-1]:
            forgotten.pop()

    def forget(self, key: K) -> None:
        """Drop a key at once."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())


SHARDS = 128  # empty they take 40 KB; of a million each has 8,000


class RecentOfMany(Generic[K, V]):
    """The same for a great many, in small ones: none takes long to grow."""

    __slots__ = ("_shards",)

    def __init__(self, most: int) -> None:
        self._shards: list[Recent[K, V]] = [Recent(most // SHARDS) for _ in range(SHARDS)]

    def get(self, key: K) -> V | None:
        """See Recent."""
        return self._shards[hash(key) % SHARDS].get(key)

    def put(self, key: K, value: V) -> None:
        """See Recent."""
        self._shards[hash(key) % SHARDS].put(key, value)

    def turn(self) -> None:
        """See Recent."""
        for shard in self._shards:
            shard.turn()

    def __len__(self) -> int:
        return sum(map(len, self._shards))
