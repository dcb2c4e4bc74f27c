"""Holding the ledger to its age, and its days to the time zone of the configuration."""

import secrets
from collections.abc import Mapping, Sequence

from authz.store.days import Days
from authz.store.redis.ledger.plan import Command, Plan, Word
from authz.store.redis.ledger.rows import (
    DAY_MS,
    NO_SUMS,
    Group,
    Place,
    Sums,
    added,
    decode,
    group_of,
    pack_group,
    pack_sums,
    place_of,
    sums_of,
    unpack_group,
    unpack_sums,
)
from authz.store.redis.ledger.saving import over_at
from authz.store.redis.ledger.state import (
    SLACK,
    SUMS_KEPT,
    Change,
    ask_days,
    ask_meta,
    bucket_keys,
    days_key,
    days_of,
    entries_key,
    lock_key,
    meta_key,
    meta_of,
    sums_key,
    time_left,
)
from authz.store.sums import MOST

LOCK_MS = 60_000  # of whoever sums anew, from the last sign of life
UNFINISHED_MS = 3_600_000  # that sums of nobody's are there
READ_ON_MS = 60_000  # that sums are there which were replaced: somebody may be reading them
TOGETHER = 500


def trim(shard: str, now: int) -> Plan[None]:
    """Drop the days whose last entry is older than the retention; sums of days stay longer."""
    reply, days = yield [ask_meta(shard), ask_days(shard)]
    meta, buckets = meta_of(reply), days_of(days)
    (named,) = yield [("SMEMBERS", sums_key(shard, meta.sums))]
    old = sorted(day for day in buckets if (day + 1) * DAY_MS <= now - meta.retention)
    oldest = Days(meta.timezone).at(max(0, now - SUMS_KEPT)).name
    gone = [name for name in (each.decode() for each in named) if name < oldest]
    if not old and not gone:
        return
    change = Change(shard, meta.turn)
    for day in old:
        change.drop(bucket_keys(shard, day, buckets[day]))
        change.add("HDEL", days_key(shard), day)
    if old:
        kept_from = max(meta.kept_from, (old[-1] + 1) * DAY_MS)
        change.add("HSET", meta_key(shard), "kept_from", kept_from)
    for name in gone:
        change.drop([sums_key(shard, meta.sums, name)])
        change.add("SREM", sums_key(shard, meta.sums), name)
    yield from change.commit()  # where another change came first, the next round does it


def keep(shard: str, retention: int, now: int) -> Plan[bool]:
    """Keep single entries for so long (ms), those too that are there. False: to be tried again."""
    reply, days, applied = yield [
        ask_meta(shard),
        ask_days(shard),
        ("HGET", meta_key(shard), "applied"),
    ]
    meta = meta_of(reply)
    if meta.retention != retention:
        change = Change(shard, meta.turn)
        change.add("HSET", meta_key(shard), "retention", retention)
        if not (yield from change.commit()):
            return False
    if int(applied or meta.retention) == retention:
        return True
    for day, bucket in days_of(days).items():
        left = time_left((day + 1) * DAY_MS + retention + SLACK, now)
        keys = bucket_keys(shard, day, bucket)
        for begin in range(0, len(keys), TOGETHER):
            yield [("PEXPIRE", key, left) for key in keys[begin : begin + TOGETHER]]
    yield [("HSET", meta_key(shard), "applied", retention)]
    return True


def set_timezone(shard: str, timezone: str, now: int) -> Plan[bool]:
    """Sum by the days of this zone: whatever there are entries of anew, older days stay as they were.

    Takes its time; nothing is folded meanwhile. Whoever dies over it leaves everything as it was. False:
    another is at it, or came between; to be tried again.
    """
    (reply,) = yield [ask_meta(shard)]
    if meta_of(reply).timezone == timezone:
        return True
    generation = secrets.token_hex(8)
    (locked,) = yield [("SET", lock_key(shard), generation, "NX", "PX", LOCK_MS)]
    if not locked:
        return False
    done = yield from _Resumming(shard, timezone, generation, now).run()
    yield [("DEL", lock_key(shard))]
    return done


class _Resumming:
    """Sums of another zone, as a generation beside the one in force."""

    def __init__(self, shard: str, timezone: str, generation: str, now: int) -> None:
        self._shard = shard
        self._timezone = timezone
        self._days = Days(timezone)
        self._generation = generation
        self._now = now
        self._sums: dict[str, dict[Group, Sums]] = {}  # of days that are not yet whole
        self._written: list[str] = []

    def run(self) -> Plan[bool]:
        shard = self._shard
        reply, days = yield [ask_meta(shard), ask_days(shard)]
        meta = meta_of(reply)
        (named,) = yield [("SMEMBERS", sums_key(shard, meta.sums))]
        before = sorted(each.decode() for each in named)
        old, kept_from = Days(meta.timezone), meta.complete_from(self._now)
        first = old.at(kept_from)
        begin = first.start if kept_from in (0, first.start) else first.end
        yield from self._take_over([day for day in before if day < old.at(begin).name], meta.sums, begin)
        for bucket in sorted(days_of(days)):
            yield from self._sum(bucket, begin)
            yield from self._write_before((bucket + 1) * DAY_MS)
        yield from self._write_before(None)
        change = Change(shard, meta.turn)
        change.add("HSET", meta_key(shard), "timezone", self._timezone, "sums", self._generation)
        if begin != first.start:
            change.add("HSET", meta_key(shard), "kept_from", begin)
        for day in self._written:
            left = time_left(over_at(day) + SUMS_KEPT, self._now)
            change.add("PEXPIRE", sums_key(shard, self._generation, day), left)
            change.add("SADD", sums_key(shard, self._generation), day)
        for day in ("", *before):
            change.add("PEXPIRE", sums_key(shard, meta.sums, day), READ_ON_MS)
        return (yield from change.commit())

    def _take_over(self, days: Sequence[str], generation: str, begin: int) -> Plan[None]:
        """Days as they were. What is summed anew may add to the last of them."""
        border = self._days.at(begin).name
        for day in days:
            (table,) = yield [("HGETALL", sums_key(self._shard, generation, day))]
            if day < border:
                yield from self._write(day, table)
            else:
                self._sums[day] = {unpack_group(group): unpack_sums(sums) for group, sums in table.items()}

    def _sum(self, bucket: int, begin: int) -> Plan[None]:
        place = Place(bucket * DAY_MS, 0)
        while True:
            _, rows = yield [
                ("PEXPIRE", lock_key(self._shard), LOCK_MS),
                ("XRANGE", entries_key(self._shard, bucket), place.id, "+", "COUNT", TOGETHER),
            ]
            for _, fields in rows:
                entry = decode(fields[b"b"])
                if entry.at >= begin:
                    sums = self._sums.setdefault(self._days.at(entry.at).name, {})
                    group = group_of(entry)
                    sums[group] = added(sums.get(group, NO_SUMS), sums_of(entry))
            if len(rows) < TOGETHER:
                return
            last = place_of(rows[-1][0])
            place = last.next(last.ms)

    def _write_before(self, moment: int | None) -> Plan[None]:
        """The days that are over at a moment, all of them without one."""
        today = None if moment is None else self._days.at(moment).name
        for day in sorted(self._sums):
            if today is None or day < today:
                sums = self._sums.pop(day)
                table = {
                    pack_group(group): pack_sums(tuple(min(each, MOST) for each in figures))
                    for group, figures in sums.items()
                }
                yield from self._write(day, table)

    def _write(self, day: str, table: Mapping[bytes, bytes]) -> Plan[None]:
        key = sums_key(self._shard, self._generation, day)
        words: list[Word] = [word for field in table.items() for word in field]
        commands: list[Command] = [
            ("HSET", key, *words[begin : begin + TOGETHER]) for begin in range(0, len(words), TOGETHER)
        ]
        yield [
            ("PEXPIRE", lock_key(self._shard), LOCK_MS),
            *commands,
            ("PEXPIRE", key, UNFINISHED_MS),
        ]
        self._written.append(day)
