"""Reading a ledger in Redis: sums over groups, and single entries. All shards at once."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from authz.store.days import Days
from authz.store.protocols import Clock, UsageRow
from authz.store.records import Entry, Source
from authz.store.redis.ledger.fold import Folder
from authz.store.redis.ledger.plan import Plan, carry_out
from authz.store.redis.ledger.rows import (
    DAY_MS,
    Group,
    Place,
    Sums,
    added,
    decode,
    group_of,
    place_of,
    spot_of,
    sums_of,
    unpack_group,
    unpack_places,
    unpack_sums,
)
from authz.store.redis.ledger.state import (
    Bucket,
    Meta,
    ask_days,
    ask_meta,
    days_of,
    entries_key,
    index_key,
    meta_of,
    sums_key,
)
from authz.store.sums import DIMENSIONS, Span, check_known, split

_UNCOUNTED = (str(Source.ESTIMATED), str(Source.EXPIRED))
_DAYS_TOGETHER = 31  # sums of so many days of a shard in one answer
_ROWS_TOGETHER = 500  # entries of a shard in one answer

_Summed = dict[tuple[str, Group], Sums]
"""By day and group."""


class _Placed(NamedTuple):
    entry: Entry
    place: Place


class RedisLedger:
    """What requests used. What is still queued is folded in first, so nothing that ended is missing."""

    def __init__(self, client: Any, shards: Sequence[str], clock: Clock) -> None:
        self._client = client
        self._shards = shards
        self._clock = clock
        self._folder = Folder(client, shards, clock)

    def usage(
        self, *, since: int, until: int, by: Sequence[str], only: Mapping[str, str] | None = None
    ) -> Sequence[UsageRow]:
        """Sums of [since, until), in the order of the groups. Raises ValueError for an unknown dimension.

        Whole days come from their sums, what is left of the range from its entries. Where the entries of
        a moment are no longer kept, its whole day counts.
        """
        only = only or {}
        check_known(list(only), DIMENSIONS)
        check_known(by, ("day", *DIMENSIONS))
        self._folder.fold()
        if since >= until:
            return []
        metas = self._metas()
        kept_from = self._kept_from(metas)
        plans = [
            _sums_of_range(shard, meta, kept_from, since, until)
            for shard, meta in zip(self._shards, metas, strict=True)
        ]
        parts = carry_out(self._client, plans)
        return _usage_rows(parts, by, only)

    def entries(
        self,
        *,
        since: int = 0,
        until: int | None = None,
        only: Mapping[str, str] | None = None,
        limit: int = 100,
    ) -> Sequence[Entry]:
        """Single entries of [since, until), the latest first. Raises ValueError for an unknown dimension."""
        only = only or {}
        check_known(list(only), DIMENSIONS)
        self._folder.fold()
        replies = carry_out(self._client, [_days(shard) for shard in self._shards])
        found: list[Entry] = []
        for day in sorted({day for days in replies for day in days}, reverse=True):
            if (until is not None and day * DAY_MS >= until) or (day + 1) * DAY_MS <= since:
                continue
            if len(found) >= limit:
                break
            span = (since, (day + 1) * DAY_MS if until is None else until)
            shards = [shard for shard, days in zip(self._shards, replies, strict=True) if day in days]
            placed = carry_out(
                self._client, [_latest(shard, day, span, only, limit - len(found)) for shard in shards]
            )
            together = sorted(
                (each for some in placed for each in some),
                key=lambda each: (each.entry.at, each.place),
                reverse=True,
            )
            found += [each.entry for each in together]
        return found[:limit]

    def entry(self, id: str) -> Entry | None:
        """By reservation or request id; of several requests that share an id, the latest."""
        self._folder.fold()
        found = [
            entry
            for entries in carry_out(self._client, [_named(shard, id) for shard in self._shards])
            for entry in entries
        ]
        return max(found, key=lambda entry: (entry.reservation == id, entry.at), default=None)

    @property
    def kept_from(self) -> int:
        """Since when single entries are kept, in ms; 0: since ever. Older ones are in sums of days."""
        return self._kept_from(self._metas())

    def _kept_from(self, metas: Sequence[Meta]) -> int:
        """Of all shards together: what one has dropped is missing from the whole."""
        now = self._clock()
        return max(meta.complete_from(now) for meta in metas)

    def _metas(self) -> list[Meta]:
        return carry_out(self._client, [_meta(shard) for shard in self._shards])


# -- plans for one shard ---------------------------------------------------------------------------


def _meta(shard: str) -> Plan[Meta]:
    (reply,) = yield [ask_meta(shard)]
    return meta_of(reply)


def _days(shard: str) -> Plan[dict[int, Bucket]]:
    (reply,) = yield [ask_days(shard)]
    return days_of(reply)


def _sums_of_range(shard: str, meta: Meta, kept_from: int, since: int, until: int) -> Plan[_Summed]:
    parts = split(Days(meta.timezone), kept_from, since, until)
    found: _Summed = {}
    named, reply = yield [("SMEMBERS", sums_key(shard, meta.sums)), ask_days(shard)]
    whole = sorted(day.decode() for day in named if parts.first <= day.decode() < parts.last)
    for begin in range(0, len(whole), _DAYS_TOGETHER):
        days = whole[begin : begin + _DAYS_TOGETHER]
        tables = yield [("HGETALL", sums_key(shard, meta.sums, day)) for day in days]
        for day, table in zip(days, tables, strict=True):
            for group, sums in table.items():
                _count(found, day, unpack_group(group), unpack_sums(sums))
    buckets = days_of(reply)
    for day, span in ((parts.head, parts.before), (parts.tail, parts.after)):
        for bucket in range(span[0] // DAY_MS, -(-span[1] // DAY_MS)):
            if bucket in buckets:
                yield from _count_entries(found, shard, bucket, day, span)
    return found


def _count_entries(found: _Summed, shard: str, bucket: int, day: str, span: Span) -> Plan[None]:
    """An entry never stands before its moment, so what stands before the span is not of it."""
    begin = Place(max(span[0], bucket * DAY_MS), 0)
    while True:
        (rows,) = yield [("XRANGE", entries_key(shard, bucket), begin.id, "+", "COUNT", _ROWS_TOGETHER)]
        for _, fields in rows:
            entry = decode(fields[b"b"])
            if span[0] <= entry.at < span[1]:
                _count(found, day, group_of(entry), sums_of(entry))
        if len(rows) < _ROWS_TOGETHER:
            return
        last = place_of(rows[-1][0])
        begin = last.next(last.ms)


def _latest(shard: str, day: int, span: Span, only: Mapping[str, str], limit: int) -> Plan[list[_Placed]]:
    """Read from the end: what stands before a place began no later than its ms."""
    found: list[_Placed] = []
    end = "+"
    together = min(limit, _ROWS_TOGETHER)
    while True:
        (rows,) = yield [("XREVRANGE", entries_key(shard, day), end, max(span[0], 0), "COUNT", together)]
        for id, fields in rows:
            entry = decode(fields[b"b"])
            if span[0] <= entry.at < span[1] and _matches(entry, only):
                found.append(_Placed(entry, place_of(id)))
        if len(found) >= limit:
            found.sort(key=lambda each: (each.entry.at, each.place), reverse=True)
            del found[limit:]
        if len(rows) < together:
            return found
        last = place_of(rows[-1][0])
        if len(found) >= limit and found[-1].entry.at >= last.ms:
            return found
        end, together = f"({last.id}", _ROWS_TOGETHER


def _named(shard: str, id: str) -> Plan[list[Entry]]:
    """Entries that have the id as a reservation's or a request's."""
    if not id:
        return []
    buckets = yield from _days(shard)
    if not buckets:
        return []
    spots = {day: spot_of(id, bucket.fan) for day, bucket in buckets.items()}
    replies = yield [("HGET", index_key(shard, day, spot.part), spot.field) for day, spot in spots.items()]
    places = [
        (day, place)
        for day, packed in zip(spots, replies, strict=True)
        for place in unpack_places(day, packed or b"")
    ]
    if not places:
        return []
    rows = yield [("XRANGE", entries_key(shard, day), place.id, place.id) for day, place in places]
    entries = [decode(row[0][1][b"b"]) for row in rows if row]
    return [entry for entry in entries if id in (entry.reservation, entry.facts.request_id)]


# -- putting together ------------------------------------------------------------------------------


def _count(found: _Summed, day: str, group: Group, sums: Sums) -> None:
    before = found.get((day, group))
    found[day, group] = sums if before is None else added(before, sums)


def _matches(entry: Entry, only: Mapping[str, str]) -> bool:
    group = group_of(entry)
    return all(group[DIMENSIONS.index(name)] == value for name, value in only.items())


def _usage_rows(parts: Sequence[_Summed], by: Sequence[str], only: Mapping[str, str]) -> Sequence[UsageRow]:
    wanted = [(DIMENSIONS.index(name), value) for name, value in only.items()]
    groups: dict[tuple[str, ...], list[int]] = {}
    for day, group, sums in _each(parts):
        if any(group[index] != value for index, value in wanted):
            continue
        named = (day, *group)
        total = groups.setdefault(tuple(named[_COLUMNS.index(name)] for name in by), [0] * 8)
        uncounted = sums[:2] if group[_SOURCE] in _UNCOUNTED else (0, 0)
        for index, amount in enumerate((*sums, *uncounted)):
            total[index] += amount
    return [_usage_row(dict(zip(by, group, strict=True)), groups[group]) for group in sorted(groups)]


_COLUMNS = ("day", *DIMENSIONS)
_SOURCE = DIMENSIONS.index("source")


def _each(parts: Sequence[_Summed]) -> Iterator[tuple[str, Group, Sums]]:
    for part in parts:
        for (day, group), sums in part.items():
            yield day, group, sums


def _usage_row(group: Mapping[str, str], total: Sequence[int]) -> UsageRow:
    input, output, cached, reasoning, cost, requests, uncounted_input, uncounted_output = total
    return UsageRow(
        group=group,
        requests=requests,
        input_tokens=input,
        output_tokens=output,
        cached_input_tokens=cached,
        reasoning_tokens=reasoning,
        cost=cost,
        estimated_input_tokens=uncounted_input,
        estimated_output_tokens=uncounted_output,
    )
