"""What a shard's ledger says of itself, and one change of it."""

import secrets
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from authz.store.redis.ledger.plan import Command, Plan, Word, fold_script
from authz.store.redis.ledger.rows import DAY_MS, Place
from authz.store.redis.names import ledger

RETENTION: Final = 90 * DAY_MS  # until the configuration says otherwise
SUMS_KEPT: Final = 400 * DAY_MS
SLACK: Final = DAY_MS  # what is dropped by name is there so much longer by its TTL, and no longer

_FIELDS: Final = ("turn", "timezone", "retention", "kept_from", "sums")
_PIECE: Final = 1_000  # words of one command: Lua unpacks up to 8,000


class Meta(NamedTuple):
    """`turn` names the present state; no two states have one name."""

    turn: bytes
    timezone: str
    retention: int
    kept_from: int  # since when every entry is there; 0: since ever
    sums: str  # which generation of sums is in force

    def complete_from(self, now: int) -> int:
        """The same, where nobody has dropped by name what ended by its TTL."""
        return max(self.kept_from, (now - self.retention - SLACK) // DAY_MS * DAY_MS)


def ask_meta(shard: str) -> Command:
    return ("HMGET", meta_key(shard), *_FIELDS)


def meta_of(reply: Sequence[bytes | None]) -> Meta:
    turn, timezone, retention, kept_from, sums = reply
    return Meta(
        turn or b"",
        (timezone or b"UTC").decode(),
        int(retention or RETENTION),
        int(kept_from or 0),
        (sums or b"0").decode(),
    )


class Bucket(NamedTuple):
    """The entries of one UTC day."""

    fan: int  # in how many hashes its index is
    last: Place
    size: int  # entries that were added


def ask_days(shard: str) -> Command:
    return ("HGETALL", days_key(shard))


def days_of(reply: Mapping[bytes, bytes]) -> dict[int, Bucket]:
    """By number of the day since the epoch, in no order."""
    found = {}
    for day, packed in reply.items():
        fan, ms, number, count = map(int, packed.split())
        found[int(day)] = Bucket(fan, Place(ms, number), count)
    return found


def pack_bucket(bucket: Bucket) -> bytes:
    return b"%d %d %d %d" % (bucket.fan, *bucket.last, bucket.size)


# -- keys ------------------------------------------------------------------------------------------


def meta_key(shard: str) -> str:
    return ledger(shard, "meta")


def days_key(shard: str) -> str:
    return ledger(shard, "days")


def lock_key(shard: str) -> str:
    """Held by whoever sums anew: nothing is folded meanwhile."""
    return ledger(shard, "lock")


def entries_key(shard: str, day: int) -> str:
    return ledger(shard, f"e:{day}")


def index_key(shard: str, day: int, part: int) -> str:
    return ledger(shard, f"i:{day}:{part}")


def sums_key(shard: str, generation: str, day: str = "") -> str:
    """Of a local day (ISO 8601); without: of the set of these days."""
    return ledger(shard, f"s:{generation}:{day}" if day else f"s:{generation}")


def unreadable_key(shard: str) -> str:
    return ledger(shard, "unreadable")


def bucket_keys(shard: str, day: int, bucket: Bucket) -> list[str]:
    """Everything of a day's entries."""
    return [entries_key(shard, day), *(index_key(shard, day, part) for part in range(bucket.fan))]


# -- a change --------------------------------------------------------------------------------------


class Change:
    """Commands that are carried out together if the ledger is still as it was read, or not at all."""

    def __init__(self, shard: str, turn: bytes) -> None:
        self.shard = shard
        self._turn = turn
        self._words: list[Word] = []
        self._keys: dict[str, None] = {}

    def add(self, command: str, key: str, *words: Word) -> None:
        self._keys[key] = None
        self._words += (2 + len(words), command, key, *words)

    def put(self, key: str, fields: Sequence[Word]) -> None:
        """HSET, in as many pieces as it takes. `fields` are names and values by turns."""
        for begin in range(0, len(fields), _PIECE):
            self.add("HSET", key, *fields[begin : begin + _PIECE])

    def drop(self, keys: Sequence[str]) -> None:
        """UNLINK."""
        for key in keys:
            self.add("UNLINK", key)

    def commit(self) -> Plan[bool]:
        """False: another change came first, and nothing of this one was done."""
        words = (self._turn, secrets.token_hex(8), *self._words)
        keys = (meta_key(self.shard), *self._keys)
        (done,) = yield [fold_script(keys, words)]
        return bool(done)


def time_left(until: int, now: int) -> int:
    """A TTL in ms. What is late all the same has a day to be dropped by name."""
    return max(until - now, DAY_MS)
