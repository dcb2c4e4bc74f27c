"""From the queue of what ended into the ledger, exactly once, by any number of processes at once."""

import logging
from collections.abc import Sequence
from typing import Any

import msgspec

from authz.store.closed import Closed, entry_of
from authz.store.protocols import Clock
from authz.store.records import Entry
from authz.store.redis import names
from authz.store.redis.ledger.plan import Plan, ask, carry_out
from authz.store.redis.ledger.rows import place_of
from authz.store.redis.ledger.saving import Saving
from authz.store.redis.ledger.state import (
    ask_days,
    ask_meta,
    days_of,
    lock_key,
    meta_of,
    unreadable_key,
)

TOGETHER = 128  # ends in one change: Redis is busy with it for about a millisecond
UNREADABLE_KEPT = 10_000

log = logging.getLogger("authz.store")


class _Queued(Closed, frozen=True, array_like=True, gc=False):
    """As the scripts write it; a later authz may add fields behind."""


_decode = msgspec.msgpack.Decoder(_Queued).decode


class Folder:
    """`client` is redis-py's, of a server or of a Cluster."""

    def __init__(self, client: Any, shards: Sequence[str], clock: Clock) -> None:
        self._client = client
        self._shards = shards
        self._clock = clock

    def fold(self) -> int:
        """Bring in what is queued now; how much this process brought in. Raises StoreUnavailable."""
        lengths = ask(self._client, [("XLEN", names.closed(shard)) for shard in self._shards])
        waiting = {shard: length for shard, length in zip(self._shards, lengths, strict=True) if length}
        folded = 0
        while waiting:
            now, shards = self._clock(), list(waiting)
            for shard, done in zip(
                shards, carry_out(self._client, [fold(shard, now) for shard in shards]), strict=True
            ):
                if done is None:
                    continue  # another was faster, with the same ends: look again
                folded += done
                waiting[shard] -= done
                if done == 0 or waiting[shard] <= 0:
                    del waiting[shard]
        return folded


def fold(shard: str, now: int, most: int = TOGETHER) -> Plan[int | None]:
    """Bring in the oldest ends of a shard's queue: how many; None: another changed the ledger meanwhile.

    That the queue is read after the turn, and shortened with the change, makes it once.
    """
    queue = names.closed(shard)
    meta, days, locked, ends = yield [
        ask_meta(shard),
        ask_days(shard),
        ("EXISTS", lock_key(shard)),
        ("XRANGE", queue, "-", "+", "COUNT", most),
    ]
    if locked or not ends:
        return 0
    known = meta_of(meta)
    saving = Saving(shard, known, days_of(days), now)
    entries, unreadable = [], []
    for _, fields in ends:
        entry = _read(fields.get(b"c", b""))
        if entry is not None:
            entries.append(entry)
        else:
            unreadable.append(fields)
    _keep_apart(saving, unreadable, known.retention)
    yield from saving.add(entries)
    last = place_of(ends[-1][0])
    saving.change.add("XTRIM", queue, "MINID", last.next(last.ms).id)
    done = yield from saving.change.commit()
    return len(ends) if done else None


def _read(encoded: bytes) -> Entry | None:
    try:
        return entry_of(_decode(encoded))
    except msgspec.MsgspecError:
        return None


def _keep_apart(saving: Saving, unreadable: Sequence[dict[bytes, bytes]], retention: int) -> None:
    """One end that cannot be read must not keep all later ones out."""
    if not unreadable:
        return
    key = unreadable_key(saving.change.shard)
    log.error("%d ends of reservations cannot be read; they are kept apart in %s", len(unreadable), key)
    for fields in unreadable:
        words = [word for field in fields.items() for word in field]
        saving.change.add("XADD", key, "MAXLEN", "~", UNREADABLE_KEPT, "*", *words)
    saving.change.add("PEXPIRE", key, retention)
