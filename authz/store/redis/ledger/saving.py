"""Adding entries to a shard's ledger, and to the sums of their days."""

from collections.abc import Iterable, Sequence
from datetime import date

from authz.store.days import Days
from authz.store.records import Entry, Source
from authz.store.redis.ledger.plan import Plan, look_up
from authz.store.redis.ledger.rows import (
    DAY_MS,
    NO_SUMS,
    Group,
    Place,
    Spot,
    Sums,
    added,
    decode,
    encode,
    group_of,
    pack_group,
    pack_places,
    pack_sums,
    spot_of,
    sums_of,
    unpack_places,
    unpack_sums,
)
from authz.store.redis.ledger.state import (
    SLACK,
    SUMS_KEPT,
    Bucket,
    Change,
    Meta,
    ask_days,
    ask_meta,
    days_key,
    days_of,
    entries_key,
    index_key,
    meta_of,
    pack_bucket,
    sums_key,
    time_left,
)
from authz.store.sums import MOST

FIRST_FAN = 256  # of a ledger's first day
MOST_FAN = 4096
IDS_TOGETHER = 256  # in one hash of the index: Redis packs up to 512 tightly

_EPOCH = date(1970, 1, 1)

_Name = tuple[str, int]
"""An entry is known by its reservation and moment: an id may come again, long after."""

_Sum = tuple[str, Group]
_Found = tuple[Entry, Place | None]
"""An entry and its place; without: it is about to be added."""


class Saving:
    """Thinks out the change that adds entries. What is there already stays, but a correction replaces
    what had expired: so it does not matter how often an entry is saved."""

    def __init__(self, shard: str, meta: Meta, days: dict[int, Bucket], now: int) -> None:
        self.change = Change(shard, meta.turn)
        self._shard = shard
        self._meta = meta
        self._now = now
        self._local = Days(meta.timezone)
        self._days = days
        self._index: dict[tuple[int, Spot], list[Place]] = {}
        self._sums: dict[_Sum, Sums] = {}
        self._news: dict[_Sum, Sums] = {}
        self._spots: dict[tuple[int, str], Spot] = {}

    def add(self, entries: Sequence[Entry], *, summed: bool = True) -> Plan[None]:
        """To be called once. `summed` False: their days' sums are told apart."""
        for day in {_day(entry) for entry in entries} - self._days.keys():
            self._days[day] = Bucket(self._fan(day), Place(day * DAY_MS - 1, 0), 0)
        known = yield from self._look_up(entries)
        fresh: dict[_Name, Entry] = {}
        gone: list[tuple[Entry, Place]] = []
        for entry in entries:
            name = _name(entry)
            before = known.get(name)
            if before is not None:
                old, place = before
                if entry.note.source is not Source.CORRECTED or old.note.source is not Source.EXPIRED:
                    continue
                self._count(old, -1)
                fresh.pop(name, None)
                if place is not None:
                    gone.append((old, place))
            known[name] = entry, None
            fresh[name] = entry
            self._count(entry, 1)
        self._write_entries(list(fresh.values()), gone)
        if summed:
            yield from self._write_sums()

    def _fan(self, day: int) -> int:
        """A day's index as large as the day before wanted it."""
        before = [other for other in self._days if other < day]
        if not before:
            return FIRST_FAN
        wanted = 2 * self._days[max(before)].size // IDS_TOGETHER
        return min(1 << wanted.bit_length(), MOST_FAN)

    # -- what is there -----------------------------------------------------------------------------

    def _look_up(self, entries: Sequence[Entry]) -> Plan[dict[_Name, _Found]]:
        spots = list({(_day(entry), spot): None for entry in entries for spot in self._spots_of(entry)})
        sums = list({self._sum(entry): None for entry in entries})
        if not entries:
            return {}
        indexed = [(index_key(self._shard, day, spot.part), spot.field) for day, spot in spots]
        (replies,) = yield [look_up([*indexed, *map(self._field, sums)])]
        for (day, spot), packed in zip(spots, replies, strict=False):
            self._index[day, spot] = unpack_places(day, packed) if packed else []
        self._note_sums(sums, replies[len(spots) :])
        places = {
            (_day(entry), place): None
            for entry in entries
            for place in self._index[_day(entry), self._spot(entry, entry.reservation)]
        }
        if not places:
            return {}
        rows = yield [("XRANGE", entries_key(self._shard, day), place.id, place.id) for day, place in places]
        found: dict[_Name, _Found] = {}
        for (_, place), row in zip(places, rows, strict=True):
            if row:
                entry = decode(row[0][1][b"b"])
                found[_name(entry)] = entry, place
        return found

    def _spot(self, entry: Entry, id: str) -> Spot:
        day = _day(entry)
        spot = self._spots.get((day, id))
        if spot is None:
            spot = self._spots[day, id] = spot_of(id, self._days[day].fan)
        return spot

    def _spots_of(self, entry: Entry) -> Iterable[Spot]:
        ids = {entry.reservation: None, entry.facts.request_id: None}
        return [self._spot(entry, id) for id in ids if id]

    # -- entries -----------------------------------------------------------------------------------

    def _write_entries(self, fresh: Sequence[Entry], gone: Sequence[tuple[Entry, Place]]) -> None:
        change, shard = self.change, self._shard
        touched: dict[tuple[int, Spot], None] = {}
        for entry, place in gone:
            change.add("XDEL", entries_key(shard, _day(entry)), place.id)
            for spot in self._spots_of(entry):
                places = self._index.setdefault((_day(entry), spot), [])
                if place in places:
                    places.remove(place)
                    touched[_day(entry), spot] = None
        for entry in fresh:
            day = _day(entry)
            bucket = self._days[day]
            # Behind all that are there, never before its moment: who reads backwards knows when to stop.
            place = bucket.last.next(entry.at)
            self._days[day] = Bucket(bucket.fan, place, bucket.size + 1)
            change.add("XADD", entries_key(shard, day), place.id, "b", encode(entry))
            for spot in self._spots_of(entry):
                self._index[day, spot].append(place)
                touched[day, spot] = None
        for day in {_day(entry) for entry in fresh}:
            change.add("HSET", days_key(shard), day, pack_bucket(self._days[day]))
            self._expire(entries_key(shard, day), day)
        self._write_index(touched)

    def _write_index(self, touched: Iterable[tuple[int, Spot]]) -> None:
        parts: dict[tuple[int, int], list[tuple[bytes, bytes]]] = {}
        for day, spot in touched:
            packed = pack_places(day, self._index[day, spot])
            parts.setdefault((day, spot.part), []).append((spot.field, packed))
        for (day, part), fields in parts.items():
            key = index_key(self._shard, day, part)
            self.change.put(key, [word for field, packed in fields if packed for word in (field, packed)])
            for field, packed in fields:
                if not packed:
                    self.change.add("HDEL", key, field)
            self._expire(key, day)

    def _expire(self, key: str, day: int) -> None:
        end = (day + 1) * DAY_MS + self._meta.retention + SLACK
        self.change.add("PEXPIRE", key, time_left(end, self._now))

    # -- sums --------------------------------------------------------------------------------------

    def _sum(self, entry: Entry) -> _Sum:
        return self._local.at(entry.at).name, group_of(entry)

    def _count(self, entry: Entry, sign: int) -> None:
        place = self._sum(entry)
        self._news[place] = added(self._news.get(place, NO_SUMS), sums_of(entry), sign)

    def _field(self, place: _Sum) -> tuple[str, bytes]:
        day, group = place
        return sums_key(self._shard, self._meta.sums, day), pack_group(group)

    def _note_sums(self, places: Sequence[_Sum], replies: Sequence[bytes | None]) -> None:
        for place, packed in zip(places, replies, strict=True):
            self._sums[place] = unpack_sums(packed)

    def _write_sums(self) -> Plan[None]:
        news = {place: new for place, new in self._news.items() if any(new)}
        missing = [place for place in news if place not in self._sums]
        if missing:
            (replies,) = yield [look_up([*map(self._field, missing)])]
            self._note_sums(missing, replies)
        put: dict[str, list[bytes]] = {}
        for (day, group), new in news.items():
            after = tuple(
                min(one + min(more, MOST), MOST)
                for one, more in zip(self._sums[day, group], new, strict=True)
            )
            if after[-1] > 0:
                put.setdefault(day, []).extend((pack_group(group), pack_sums(after)))
            else:
                self.change.add("HDEL", *self._field((day, group)))
        for day, fields in put.items():
            write_sums(self.change, self._meta.sums, day, fields, self._now)


def save(shard: str, entries: Sequence[Entry], now: int) -> Plan[bool]:
    """Add entries to a shard's ledger. False: another changed it meanwhile, and nothing was added."""
    reply, days = yield [ask_meta(shard), ask_days(shard)]
    saving = Saving(shard, meta_of(reply), days_of(days), now)
    yield from saving.add(entries)
    return (yield from saving.change.commit())


def write_sums(change: Change, generation: str, day: str, fields: Sequence[bytes], now: int) -> None:
    """Groups and sums by turns, into a local day."""
    key = sums_key(change.shard, generation, day)
    change.put(key, fields)
    change.add("PEXPIRE", key, time_left(over_at(day) + SUMS_KEPT, now))
    change.add("SADD", sums_key(change.shard, generation), day)


def over_at(day: str) -> int:
    """A moment at which a local day is over in every time zone."""
    return ((date.fromisoformat(day) - _EPOCH).days + 2) * DAY_MS


def _day(entry: Entry) -> int:
    """The UTC day, by number: the same whatever the time zone of the sums is."""
    return entry.at // DAY_MS


def _name(entry: Entry) -> _Name:
    return entry.reservation, entry.at
