"""A Redis as it is copied from and to."""

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec

from authz.store.copying.redis_counting import OwnerOf, home_of, read_counting, write_counting
from authz.store.copying.side import TOGETHER, Counting, DaySums, Frame, Group, Sums
from authz.store.floods import Row
from authz.store.protocols import Clock, StoreUnavailable
from authz.store.records import Denial, Entry
from authz.store.redis import denials, names
from authz.store.redis.client import sync_client
from authz.store.redis.failures import explained
from authz.store.redis.ledger.fold import Folder
from authz.store.redis.ledger.plan import Plan, ask, carry_out
from authz.store.redis.ledger.rows import (
    DAY_MS,
    NO_SUMS,
    Place,
    added,
    decode,
    pack_group,
    pack_sums,
    place_of,
    unpack_group,
    unpack_sums,
)
from authz.store.redis.ledger.saving import save, write_sums
from authz.store.redis.ledger.state import (
    Change,
    Meta,
    ask_days,
    ask_meta,
    days_of,
    entries_key,
    meta_key,
    meta_of,
    sums_key,
)
from authz.store.redis.ledger.upkeep import keep, set_timezone
from authz.store.redis.registry import RedisRegistry
from authz.store.redis.target import CLUSTER, SINGLE, Target, shown
from authz.store.sqlite.reading import reader
from authz.store.sums import MOST
from authz.store.trials import HOUR_MS, Partition, Trial

PATIENCE_S = 30.0  # for others that change the same ledger
SAVED_TOGETHER = 128  # entries in one change: Redis is busy with it for about a millisecond

_REPLICAS = names.records("replicas")
_ROWS, _TIMES = names.records("denials"), names.records("denials-by-time")
_COUNTS, _HOURS = names.records("trials"), names.records("trials-by-hour")

_denial = reader(Denial)
_refused = msgspec.msgpack.Decoder(tuple[list[str], str])
_trial = msgspec.json.Decoder(tuple[int, str, Partition])


class RedisSide:
    """`owner_of` is asked on a Cluster alone, where what has one owner is kept together."""

    shuts_out = False

    def __init__(self, target: Target, clock: Clock, owner_of: OwnerOf) -> None:
        self._client = sync_client(target)
        self._shards = names.SPREAD if target.kind == CLUSTER else names.SINGLE
        self._target = target
        self._clock = clock
        self._owner_of = owner_of
        self._folder = Folder(self._client, self._shards, clock)
        self._seen: dict[tuple[str, int], Place] = {}
        self.registry = RedisRegistry(self._client, clock)

    @property
    def place(self) -> str:
        hosts = ",".join(shown(address) for address in self._target.hosts)
        name = f"/{self._target.name}" if self._target.name else ""
        scheme = "redis" if self._target.kind == SINGLE else f"redis+{self._target.kind}"
        return f"{scheme}://{hosts}{name}" + (f"/{self._target.db}" if self._target.db else "")

    def own(self) -> None:
        """Redis shuts nobody out."""

    def used_by(self) -> str:
        with explained():
            seconds, micros = self._client.time(**self._anywhere)
            now = seconds * 1000 + micros // 1000
            count = self._client.zcount(_REPLICAS, f"({now}", "+inf")
        return f"{count} running" if count else ""

    @property
    def _anywhere(self) -> dict[str, Any]:
        """On a Cluster a command without a key is sent to one server that is named."""
        if not hasattr(self._client, "get_node_from_key"):
            return {}
        return {"target_nodes": self._client.get_node_from_key(_REPLICAS)}

    def is_empty(self) -> bool:
        with explained():
            return all(key == _REPLICAS.encode() for key in self._client.scan_iter("az:{*}:*", count=1000))

    # -- the ledger --------------------------------------------------------------------------------

    def frame(self) -> Frame:
        metas = self._metas()
        now = self._clock()
        return Frame(
            metas[0].timezone,
            max(meta.complete_from(now) for meta in metas),
            max(meta.retention for meta in metas),
        )

    def fit(self, frame: Frame) -> None:
        now = self._clock()
        self._insist(lambda shard: set_timezone(shard, frame.timezone, now))
        metas = dict(zip(self._shards, self._metas(), strict=True))
        retention = max(frame.retention, *(meta.retention for meta in metas.values()))
        self._insist(lambda shard: keep(shard, retention, now))
        self._insist(lambda shard: _keep_from(shard, frame.kept_from))

    def days(self) -> Sequence[int]:
        self._folder.fold()
        return sorted(
            {
                day
                for reply in ask(self._client, [ask_days(shard) for shard in self._shards])
                for day in days_of(reply)
            }
        )

    def entries(self, day: int) -> Iterator[Sequence[Entry]]:
        for shard in self._shards:
            for entries, _ in self._after(shard, day, Place(day * DAY_MS, 0)):
                yield entries

    def news(self) -> Iterator[Sequence[Entry]]:
        self._folder.fold()
        for shard, reply in zip(
            self._shards, ask(self._client, [ask_days(shard) for shard in self._shards]), strict=True
        ):
            for day, bucket in days_of(reply).items():
                begin = self._seen.get((shard, day), Place(day * DAY_MS, 0))
                if begin > bucket.last:
                    continue
                for entries, behind in self._after(shard, day, begin):
                    yield entries
                    self._seen[shard, day] = behind

    def _after(self, shard: str, day: int, begin: Place) -> Iterator[tuple[Sequence[Entry], Place]]:
        """Entries from a place on, and the place behind them."""
        while True:
            (rows,) = ask(
                self._client,
                [("XRANGE", entries_key(shard, day), begin.id, "+", "COUNT", TOGETHER)],
            )
            if not rows:
                return
            last = place_of(rows[-1][0])
            begin = last.next(last.ms)
            yield [decode(fields[b"b"]) for _, fields in rows], begin

    def save(self, entries: Sequence[Entry]) -> None:
        homes: dict[str, list[Entry]] = {}
        for entry in entries:
            homes.setdefault(home_of(entry.reservation, self._shards), []).append(entry)
        now = self._clock()
        for shard, its in homes.items():
            for begin in range(0, len(its), SAVED_TOGETHER):
                self._insist(
                    lambda shard, piece=its[begin : begin + SAVED_TOGETHER]: save(shard, piece, now),
                    (shard,),
                )

    def sums(self) -> Mapping[str, DaySums]:
        self._folder.fold()
        found: dict[str, dict[Group, Sums]] = {}
        for tables in carry_out(self._client, [_all_sums(shard) for shard in self._shards]):
            for day, table in tables.items():
                total = found.setdefault(day, {})
                for group, sums in table.items():
                    total[group] = added(total.get(group, NO_SUMS), sums)
        return found

    def raise_sums(self, sums: Mapping[str, DaySums]) -> None:
        there, now = self.sums(), self._clock()
        for day, table in sums.items():
            lacking = {
                group: tuple(
                    max(0, one - other)
                    for one, other in zip(figures, there.get(day, {}).get(group, NO_SUMS), strict=True)
                )
                for group, figures in table.items()
            }
            lacking = {group: more for group, more in lacking.items() if any(more)}
            if lacking:
                shard = names.shard_of(day, self._shards)
                self._insist(lambda shard, day=day, more=lacking: _add_sums(shard, day, more, now), (shard,))

    def _metas(self) -> list[Meta]:
        return [meta_of(reply) for reply in ask(self._client, [ask_meta(shard) for shard in self._shards])]

    def _insist(self, plan: Any, shards: Sequence[str] | None = None) -> None:
        """Until it is done in each of the shards: others may change the same ledger meanwhile."""
        until = time.monotonic() + PATIENCE_S
        left = list(self._shards if shards is None else shards)
        while True:
            done = carry_out(self._client, [plan(shard) for shard in left])
            left = [shard for shard, is_done in zip(left, done, strict=True) if not is_done]
            if not left:
                return
            if time.monotonic() > until:
                raise StoreUnavailable(f"others change the ledger in {self.place} without a pause")
            time.sleep(0.02)

    # -- refusals and trials -----------------------------------------------------------------------

    def denials(self) -> Iterator[Sequence[Row]]:
        begin = 0
        while True:
            with explained():
                found = self._client.zrange(_TIMES, begin, begin + TOGETHER - 1)
                bodies = self._client.hmget(_ROWS, found) if found else []
            if not found:
                return
            begin += len(found)
            yield [_row(name, body) for name, body in zip(found, bodies, strict=True) if body is not None]

    def save_denials(self, rows: Sequence[Row]) -> None:
        now = self._clock()
        for begin in range(0, len(rows), denials.TOGETHER):
            saving = denials.save(_Awaited(self._client), rows[begin : begin + denials.TOGETHER], now)
            try:
                saving.send(None)
            except StopIteration:  # it never suspends
                continue

    def trials(self) -> Sequence[Trial]:
        with explained():
            found = list(self._client.hscan_iter(_COUNTS, count=TOGETHER))
        trials = []
        for row, counts in found:
            _, policy, partition = _trial.decode(row)
            trials.append(Trial(policy, partition, *map(int, counts.split())))
        return trials

    def save_trials(self, trials: Sequence[Trial]) -> None:
        there = {_hour(each): each for each in self.trials()}
        for each in trials:
            hour = _hour(each)
            had = there.get(hour, each)
            counts = (
                max(had.would, each.would),
                max(had.live, each.live),
                min(had.first_at, each.first_at),
                max(had.last_at, each.last_at),
            )
            row = msgspec.json.encode(hour)
            ask(
                self._client,
                [("HSET", _COUNTS, row, " ".join(map(str, counts))), ("ZADD", _HOURS, hour[0], row)],
            )

    # -- counters ----------------------------------------------------------------------------------

    def counting(self) -> Counting:
        return read_counting(self._client)

    def set_counting(self, counting: Counting) -> None:
        write_counting(self._client, counting, self._shards, self._owner_of, self._clock())

    def close(self) -> None:
        self._client.close()


class _Awaited:
    """A client for one thread, where a coroutine wants one for asyncio."""

    def __init__(self, client: Any) -> None:
        self._client = client

    async def eval(self, *words: Any) -> Any:
        return self._client.eval(*words)


def _hour(trial: Trial) -> tuple[int, str, Partition]:
    return trial.first_at // HOUR_MS, trial.policy, trial.partition


def _row(name: bytes, packed: bytes) -> Row:
    _, body = _refused.decode(packed)
    denial = _denial(body)
    return Row(name.decode(), denial, denial.count, denial.last_at, denial.also)


def _keep_from(shard: str, kept_from: int) -> Plan[bool]:
    (reply,) = yield [ask_meta(shard)]
    meta = meta_of(reply)
    if meta.kept_from >= kept_from:
        return True
    change = Change(shard, meta.turn)
    change.add("HSET", meta_key(shard), "kept_from", kept_from)
    return (yield from change.commit())


def _all_sums(shard: str) -> Plan[dict[str, dict[Group, Sums]]]:
    (reply,) = yield [ask_meta(shard)]
    generation = meta_of(reply).sums
    (days,) = yield [("SMEMBERS", sums_key(shard, generation))]
    found = {}
    for day in sorted(each.decode() for each in days):
        (table,) = yield [("HGETALL", sums_key(shard, generation, day))]
        if table:
            found[day] = {unpack_group(group): unpack_sums(sums) for group, sums in table.items()}
    return found


def _add_sums(shard: str, day: str, more: Mapping[Group, Sums], now: int) -> Plan[bool]:
    (reply,) = yield [ask_meta(shard)]
    meta = meta_of(reply)
    groups = {pack_group(group): sums for group, sums in more.items()}
    replies = yield [("HGET", sums_key(shard, meta.sums, day), group) for group in groups]
    fields: list[bytes] = []
    for (group, sums), before in zip(groups.items(), replies, strict=True):
        after = tuple(min(each, MOST) for each in added(unpack_sums(before), sums))
        fields += (group, pack_sums(after))
    change = Change(shard, meta.turn)
    write_sums(change, meta.sums, day, fields, now)
    return (yield from change.commit())
