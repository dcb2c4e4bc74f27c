"""The log of refusals: bounded, newest first, written by many replicas at once."""

from collections.abc import Sequence
from typing import Any

import msgspec

from authz.store.floods import Row
from authz.store.records import Denial
from authz.store.redis.failures import explained
from authz.store.redis.names import records
from authz.store.redis.sources import source
from authz.store.sqlite.reading import reader

ROWS_KEPT = 100_000
NOBODYS_KEPT = 20_000  # of those without a user: a flood of them displaces no others
KEPT_MS = 30 * 86_400_000
TOGETHER = 100  # rows in one call: Redis does nothing else meanwhile
STEP = 200  # rows that a call drops at most, for each reason: more than it brings
PAGE = 500  # rows in one reply

PLACES = (
    records("denials"),
    records("denials-by-time"),
    records("denials-of-nobody"),
    records("denials-by-id"),
)
_ROWS, _TIMES, _, _IDS = PLACES

_SAVE = source("save_denials")
_encode = msgspec.json.Encoder().encode
_decode = reader(Denial)
_pack = msgspec.msgpack.Encoder().encode
_unpack = msgspec.msgpack.Decoder(tuple[list[str], str]).decode


class RedisDenialLog:
    """Reads refusals back. Synchronous."""

    def __init__(self, client: Any) -> None:
        self._client = client

    @explained()
    def list(
        self, *, since: int = 0, user: str = "", status: int = 0, reason: str = "", limit: int = 100
    ) -> Sequence[Denial]:
        """Newest first; `since` in ms. Empty and zero mean any."""
        found: dict[str, Denial] = {}  # by name: one that grows while we read comes twice
        begin = 0
        while len(found) < limit:
            names = self._client.zrevrange(_TIMES, begin, begin + PAGE - 1)
            begin += PAGE
            rows = self._client.hmget(_ROWS, names) if names else []
            for name, row in zip(names, rows, strict=True):
                if row is None:
                    continue
                denial = _denial(row)
                if denial.last_at < since:
                    return list(found.values())[:limit]
                if (
                    user in ("", denial.user)
                    and status in (0, denial.status)
                    and reason in ("", denial.reason)
                ):
                    found.setdefault(name, denial)
            if len(names) < PAGE:
                break
        return list(found.values())[:limit]

    @explained()
    def show(self, id: str) -> Denial | None:
        """By the request id that the client saw: the first of a flood or one of its latest."""
        name = self._client.hget(_IDS, id)
        row = None if name is None else self._client.hget(_ROWS, name)
        return None if row is None else _denial(row)


async def save(client: Any, rows: Sequence[Row], now: int) -> bool:
    """Add rows (at most `TOGETHER`), or bring them up to date where they have grown.

    Without rows it only drops what is too much or too old. Whether there is more of that.
    """
    bounds = [now - KEPT_MS, ROWS_KEPT, NOBODYS_KEPT, STEP, KEPT_MS]
    arguments = [argument for row in rows for argument in _arguments(row)]
    with explained():
        return bool(await client.eval(_SAVE, len(PLACES), *PLACES, *bounds, *arguments))


def _arguments(row: Row) -> tuple[str, int, int, bytes, bytes]:
    denial = row.denial()
    ids = list(dict.fromkeys((denial.id, *row.also)))
    return (
        _sortable(row.name),
        denial.last_at,
        int(not denial.user),
        _pack(ids),
        _pack((ids, _encode(denial).decode())),
    )


def _sortable(name: str) -> str:
    """Rows of one moment stand in the order of their names: the number in it as many digits as any."""
    prefix, _, number = name.rpartition("-")
    return f"{prefix}-{int(number):012d}"


def _denial(row: bytes) -> Denial:
    _, body = _unpack(row)
    return _decode(body)
