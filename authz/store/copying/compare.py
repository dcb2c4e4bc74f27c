"""Whether two stores hold the same: by number and digest, part for part."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from msgspec.structs import replace

from authz.store.copying.side import DENIALS_KEPT_MS, Counting, Side, Sums
from authz.store.counting import KINDS, spent_at
from authz.store.records import Entry, Source
from authz.store.reservations import LATE
from authz.store.trials import HOUR_MS

_MOST = 1 << 64
_encode = msgspec.json.Encoder(order="sorted").encode


class Part(NamedTuple):
    """One kind of thing in both stores. Digests do not depend on an order."""

    part: str
    source: int  # how many
    target: int
    missing: int  # of the source's, in the target
    source_digest: str
    target_digest: str

    @property
    def is_whole(self) -> bool:
        """Everything is there. More may be where something was before."""
        return not self.missing


class Tally:
    """How many, and which: a sum of hashes."""

    def __init__(self) -> None:
        self.count = 0
        self._sum = 0

    def add(self, hashes: Iterable[int]) -> None:
        for each in hashes:
            self.count += 1
            self._sum = (self._sum + each) % _MOST

    @property
    def digest(self) -> str:
        return f"{self._sum:016x}"


def compare(source: Side, target: Side, counting: Counting, now: int) -> Iterator[Part]:
    """Every part but the single entries. `counting` is what the target was given of the source's."""
    for name in ("keys", "users", "teams", "models", "adjustments"):
        yield _part(name, _records(source, name), _records(target, name))
    sums, target_sums = dict(_sums(source)), dict(_sums(target))
    part = _part("day sums", sums.items(), target_sums.items())
    less = [name for name, figures in sums.items() if not _reaches(target_sums.get(name), figures)]
    yield part._replace(missing=len(less))
    recent = now - DENIALS_KEPT_MS
    yield _part("refusals", _refusals(source, recent), _refusals(target, recent))
    trials, target_trials = _trials(source), _trials(target)
    part = _part("trials", trials.items(), target_trials.items())
    less = [name for name, figures in trials.items() if not _reaches(target_trials.get(name), figures)]
    yield part._replace(missing=len(less))
    other = target.counting()
    yield _part("counters", _counters(counting, now), _counters(other, now))
    yield _part("running requests", _reservations(counting, now), _reservations(other, now))


def compare_entries(source: Side, target: Side, repair: Callable[[list[Entry]], None]) -> Part:
    """Day for day. What is missing is handed to `repair`, and looked for once more.

    A service may use the target meanwhile: it adds, and puts right what had expired.
    """
    wanted, there = Tally(), Tally()
    missing = 0
    for day in sorted({*source.days(), *target.days()}):
        held = _Held(target, day)
        lacking = held.lacking(source, day)
        if lacking:
            repair(lacking)
            held = _Held(target, day)
            missing += len(held.lacking(source, day))
        wanted.add({_hash(entry) for entries in source.entries(day) for entry in entries})
        there.add(held.hashes)
    return Part("entries", wanted.count, there.count, missing, wanted.digest, there.digest)


class _Held:
    """Entries of a day, by hash."""

    def __init__(self, side: Side, day: int) -> None:
        self.hashes: set[int] = set()
        self._corrected: set[tuple[str, int]] = set()
        for entries in side.entries(day):
            for entry in entries:
                self.hashes.add(_hash(entry))
                if entry.note.source is Source.CORRECTED:
                    self._corrected.add((entry.reservation, entry.at))

    def lacking(self, source: Side, day: int) -> list[Entry]:
        return [entry for entries in source.entries(day) for entry in entries if not self._holds(entry)]

    def _holds(self, entry: Entry) -> bool:
        if _hash(entry) in self.hashes:
            return True
        return entry.note.source is Source.EXPIRED and (entry.reservation, entry.at) in self._corrected


def _part(name: str, source: Iterable[Any], target: Iterable[Any]) -> Part:
    wanted, there = {_hash(each) for each in source}, {_hash(each) for each in target}
    one, other = Tally(), Tally()
    one.add(wanted)
    other.add(there)
    return Part(name, one.count, other.count, len(wanted - there), one.digest, other.digest)


def _hash(thing: Any) -> int:
    return int.from_bytes(blake2b(_encode(thing), digest_size=8).digest(), "big")


def _records(side: Side, name: str) -> Iterable[Any]:
    if name == "keys":  # a running service goes on noting when one was used
        return [replace(key, last_used_at=None) for key in side.registry.keys()]  # noqa: SIM118  (no dict)
    read: Callable[[], Iterable[Any]] = getattr(side.registry, name)
    return read()


def _sums(side: Side) -> Iterator[tuple[Any, Sums]]:
    for day, table in side.sums().items():
        for group, sums in table.items():
            yield (day, group), sums


def _trials(side: Side) -> dict[Any, Sums]:
    return {
        (each.first_at // HOUR_MS, each.policy, each.partition): (each.would, each.live)
        for each in side.trials()
    }


def _reaches(there: Sums | None, wanted: Sums) -> bool:
    """Where something was before, there may be more."""
    return there is not None and all(one >= other for one, other in zip(there, wanted, strict=True))


def _refusals(side: Side, since: int) -> Iterator[Any]:
    for rows in side.denials():
        for row in rows:
            if row.last_at >= since:
                yield row.denial()


def _counters(counting: Counting, now: int) -> Iterator[Any]:
    """What is used of those that still count."""
    for key, state in counting.counters.items():
        if spent_at(state) > now:
            yield key, state[0], state[1], KINDS[state[0]].used(state)


def _reservations(counting: Counting, now: int) -> Iterator[Mapping[str, Any]]:
    for id, made in counting.reservations.items():
        if made.deadline + LATE > now:
            yield {
                "id": id,
                "phase": made.phase,
                "gateway": made.gateway,
                "created": made.created,
                "deadline": made.deadline,
                "facts": made.facts,
                "holds": sorted(map(_encode, made.holds)),
            }
