"""Many fields read in pages, so that no one reply holds Redis up. Synchronous."""

from collections.abc import Sequence
from typing import Any

from authz.store.redis import kept

PAGE = 500


def every(client: Any, place: str) -> dict[str, bytes]:
    """All of a hash. What is put or dropped meanwhile may be in it or not; all else is."""
    found: dict[str, bytes] = {}
    cursor = 0
    while True:
        cursor, page = client.hscan(place, cursor, count=PAGE)
        found.update((kept.text(name), value) for name, value in page.items())
        if not cursor:
            return found


def fetch(client: Any, place: str, names: Sequence[str]) -> dict[str, bytes]:
    """Those of the named fields that are there."""
    found: dict[str, bytes] = {}
    for begin in range(0, len(names), PAGE):
        page = names[begin : begin + PAGE]
        values = client.hmget(place, page)
        found.update((name, value) for name, value in zip(page, values, strict=True) if value is not None)
    return found


def members(client: Any, place: str, owner: str) -> list[str]:
    """The names in an owner's part of an index."""
    low, high = kept.of_owner(owner)
    found: list[str] = []
    while True:
        page = client.zrangebylex(place, low, high, 0, PAGE)
        found += [kept.name_of(owner, each) for each in page]
        if len(page) < PAGE:
            return found
        low = b"(" + page[-1]
