"""A bounded map that forgets what was not used lately."""

from typing import Generic, TypeVar

K = TypeVar("K")
V = TypeVar("V")


class Recent(Generic[K, V]):
    """Holds at most `most` entries, in two generations.

    When the young generation is full it becomes the old one, and the former
    old one is dropped; an old entry that is asked for turns young again. So a
    hit costs one dict look-up, where a strict LRU reorders on each of them.
    None is no value.
    """

    __slots__ = ("_old", "_share", "_young")

    def __init__(self, most: int) -> None:
        self._share = max(1, most // 2)
        self._young: dict[K, V] = {}
        self._old: dict[K, V] = {}

    def get(self, key: K) -> V | None:
        """The value, or None where it is unknown or forgotten."""
        found = self._young.get(key)
        if found is None and (found := self._old.pop(key, None)) is not None:
            self.put(key, found)
        return found

    def put(self, key: K, value: V) -> None:
        """Keep a value, in place of an earlier one of that key."""
        if len(self._young) >= self._share and key not in self._young:
            self._old, self._young = self._young, {}
        self._young[key] = value

    def forget(self, key: K) -> None:
        """Drop a key at once."""
        self._young.pop(key, None)
        self._old.pop(key, None)

    def __len__(self) -> int:
        return len(self._young.keys() | self._old.keys())
