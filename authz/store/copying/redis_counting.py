"""Counters and reservations as the scripts keep them in Redis, read into the engine's form and back.

The layouts are those of `lua/parts/counters.lua` and `lua/parts/reservations.lua`; what is settled, or only
kept for a gateway's own retry, is left out.
"""

import re
import struct
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from math import gcd
from typing import Any, NamedTuple

import msgspec

from authz.quota import MAX_AMOUNT, Unit
from authz.store.copying.side import Counting
from authz.store.counting import KINDS, State, spent_at
from authz.store.counting.gcra import AT, LEVEL, RATE, RETURNED, SINCE, WINDOW
from authz.store.protocols import Hold, Kind
from authz.store.redis import names
from authz.store.redis.failures import explained
from authz.store.redis.ledger.plan import TOGETHER, Command, ask
from authz.store.redis.scripts import GRACE
from authz.store.redis.spread import parts_of
from authz.store.redis.standing import decode_counter
from authz.store.reservations import LATE, LATE_GRAIN, Phase, Reservation

_NAME = re.compile(rb"az:\{(\w+)\}:([clrx]):(.*)", re.DOTALL)
_PATTERNS = ("az:{*}:[clrx]:*", "az:{*}:open", "az:{*}:late")
_AT_ONCE = 500
_LABEL = struct.Struct("<ddd")
_RESERVATION = struct.Struct("<Bdd")
_HEAD = struct.Struct("<Bddd")
_SHORT, _LONG = struct.Struct("<H"), struct.Struct("<I")
_BEYOND = MAX_AMOUNT + 1  # of a sum over a sliding window

_holds = msgspec.msgpack.Decoder(tuple[Hold, ...]).decode
_encode = msgspec.msgpack.Encoder().encode

OwnerOf = Callable[[str], str]
"""Whose a counter is (`Hold.owner`), by its key."""


class _Part(NamedTuple):
    """What one shard has of a reservation."""

    made: Reservation
    elsewhere: str


# -- reading ---------------------------------------------------------------------------------------


def read_counting(client: Any) -> Counting:
    counters: dict[str, State] = {}
    parts: dict[str, dict[str, _Part]] = {}
    for found in _pieces(client):
        replies = ask(client, [("GET", name) for name, _ in found])
        for (_, match), raw in zip(found, replies, strict=True):
            if raw is None:
                continue
            shard, kind, rest = match[1].decode(), match[2], match[3].decode()
            if kind == b"c":
                counters[rest] = decode_counter(raw)[0]
            elif raw[0] in (Phase.OPEN, Phase.LATE):
                parts.setdefault(rest, {})[shard] = _decode(raw)
    return Counting(counters, {id: _together(found) for id, found in parts.items()})


def _pieces(client: Any) -> Iterator[list[tuple[bytes, "re.Match[bytes]"]]]:
    piece: dict[bytes, re.Match[bytes]] = {}
    for name in _scan(client, "az:{*}:[cr]:*"):
        match = _NAME.fullmatch(name)
        if match is not None:
            piece[name] = match
        if len(piece) == _AT_ONCE:
            yield list(piece.items())
            piece = {}
    if piece:
        yield list(piece.items())


def _scan(client: Any, pattern: str) -> Iterator[bytes]:
    with explained():
        yield from client.scan_iter(match=pattern, count=1000)


def _together(parts: dict[str, _Part]) -> Reservation:
    """The home's with the holds of all: it alone knows of others, and has the facts."""
    home = next((part for part in parts.values() if part.elsewhere), None) or next(iter(parts.values()))
    others = [part.made for part in parts.values() if part is not home]
    return msgspec.structs.replace(
        home.made,
        holds=home.made.holds + tuple(hold for each in others for hold in each.holds),
        labels=home.made.labels + tuple(label for each in others for label in each.labels),
    )


def _decode(raw: bytes) -> _Part:
    phase, created, deadline = _RESERVATION.unpack_from(raw)
    at = _RESERVATION.size
    gateway, at = _text(raw, at, _SHORT)
    _, at = _text(raw, at, _SHORT)
    elsewhere, at = _text(raw, at, _SHORT)
    packed, at = _text(raw, at, _LONG)
    labels, at = _text(raw, at, _LONG)
    holds = _holds(packed)
    made = Reservation(
        Phase(phase),
        gateway.decode(),
        int(created),
        int(deadline),
        holds,
        tuple(
            _label(hold, *map(int, label))
            for hold, label in zip(holds, _LABEL.iter_unpack(labels), strict=True)
        ),
        raw[at:],
    )
    return _Part(made, elsewhere.decode())


def _text(raw: bytes, at: int, size: struct.Struct) -> tuple[bytes, int]:
    (length,) = size.unpack_from(raw, at)
    begin = at + size.size
    return raw[begin : begin + length], begin + length


def _label(hold: Hold, one: int, two: int, three: int) -> State | None:
    kind = hold.kind.value
    if kind == Kind.CONCURRENCY:
        return None
    if kind == Kind.GCRA:
        times = gcd(hold.window, hold.rate)
        return (kind, hold.window, hold.rate, one * times, two, three * times, 0)
    if kind == Kind.SLIDING:
        return (kind, hold.window, one, 0, 0, ())
    return (kind, hold.window, one, two, three, 0, 0)


# -- writing ---------------------------------------------------------------------------------------


def write_counting(
    client: Any, counting: Counting, shards: tuple[str, ...], owner_of: OwnerOf, now: int
) -> None:
    """In place of all that is there."""
    for pattern in _PATTERNS:
        found = list(_scan(client, pattern))
        ask(client, [("UNLINK", name) for name in found])
    running = sorted(counting.reservations.items(), key=lambda item: (item[1].deadline, item[0]))
    held = _held([made for _, made in running])
    commands = chain(
        _counters(counting, held, shards, owner_of, now),
        (command for id, made in running for command in _reservation(id, made, shards, now)),
    )
    while piece := list(islice(commands, TOGETHER)):
        ask(client, piece)


def _counters(
    counting: Counting,
    held: Mapping[str, tuple[int, int]],
    shards: tuple[str, ...],
    owner_of: OwnerOf,
    now: int,
) -> Iterator[Command]:
    for key, state in counting.counters.items():
        spent_in = spent_at(state) - now
        if spent_in + GRACE <= 0:
            continue
        shard = names.shard_of(owner_of(key) or key, shards)
        mark, amount = held.get(key, (0, 0))
        body = _HEAD.pack(state[0], state[1], mark, amount) + _body(state)
        yield ("SET", names.counter(shard, key), body, "PX", max(0, spent_in) + GRACE)


def _held(reservations: Sequence[Reservation]) -> dict[str, tuple[int, int]]:
    """What running requests hold of each counter, and of which window instance, as `Tables.take` has it."""
    held: dict[str, tuple[int, int]] = {}
    for made in reservations:
        if made.phase is not Phase.OPEN:
            continue
        for hold, label in zip(made.holds, made.labels, strict=True):
            if label is None or hold.unit is Unit.REQUESTS or not hold.amount:
                continue
            mark = KINDS[hold.kind].mark(label)
            at, amount = held.get(hold.key, (mark, 0))
            if mark >= at:
                held[hold.key] = (mark, min(MAX_AMOUNT, hold.amount + (amount if mark == at else 0)))
    return held


def _body(state: State) -> bytes:
    kind = state[0]
    if kind == Kind.GCRA:
        times = gcd(state[WINDOW], state[RATE])
        q, p = state[RATE] // times, state[WINDOW] // times
        level = min(MAX_AMOUNT, -(-state[LEVEL] // times))  # never less than it was
        returned = min(MAX_AMOUNT, -(-state[RETURNED] // times))
        return struct.pack("<dddddd", q, p, level, state[AT], returned, state[SINCE])
    if kind == Kind.SLIDING:
        _, _, head, newest, older_sum, older = state
        pairs = b"".join(struct.pack("<dd", *pair) for pair in older)
        return struct.pack("<ddd", head, newest, min(_BEYOND, older_sum)) + pairs
    return struct.pack("<ddddd", *state[2:])


def _three(label: State) -> tuple[int, int, int]:
    """Where a hold was charged."""
    kind = label[0]
    if kind == Kind.GCRA:
        times = gcd(label[WINDOW], label[RATE])
        # What is given back is never more for the rounding.
        return min(MAX_AMOUNT, label[LEVEL] // times), label[AT], label[RETURNED] // times
    if kind == Kind.SLIDING:
        return label[2], 0, 0
    return label[2], label[3], label[4]


def _reservation(id: str, made: Reservation, shards: tuple[str, ...], now: int) -> Iterator[Command]:
    labels = {hold.key: label for hold, label in zip(made.holds, made.labels, strict=True)}
    home = home_of(id, shards)
    parts = parts_of(made.holds, home, lambda hold: names.shard_of(hold.owner or hold.key, shards))
    elsewhere = ",".join(part.shard for part in parts[1:])
    for part in parts:
        packed_labels = b"".join(
            _LABEL.pack(*((0, 0, 0) if (label := labels[hold.key]) is None else _three(label)))
            for hold in part.holds
        )
        at_home = part.shard == home
        raw = b"".join(
            (
                _RESERVATION.pack(made.phase, made.created, made.deadline),
                _sized(made.gateway.encode(), _SHORT),
                _sized(b"", _SHORT),  # no attempt: nobody takes it back
                _sized(elsewhere.encode() if at_home else b"", _SHORT),
                _sized(_encode(part.holds), _LONG),
                _sized(packed_labels, _LONG),
                made.facts if at_home else b"",
            )
        )
        name = names.reservation(part.shard, id)
        if made.phase is Phase.OPEN:
            yield ("SET", name, raw)
            yield ("ZADD", names.running(part.shard), made.deadline, id)
            for hold in part.holds:
                if hold.kind is Kind.CONCURRENCY and hold.amount:
                    slots = names.leases(part.shard, hold.key)
                    yield ("ZADD", slots, made.deadline, id)
                    yield ("PEXPIRE", slots, max(0, made.deadline - now) + GRACE)
        elif made.deadline + LATE > now:
            late = f"az:{{{part.shard}}}:late"
            yield ("SET", name, raw, "PX", made.deadline + LATE + LATE_GRAIN - now)
            yield ("RPUSH", late, id)
            yield ("PEXPIRE", late, LATE + LATE_GRAIN)


def _sized(text: bytes, size: struct.Struct) -> bytes:
    return size.pack(len(text)) + text


def home_of(id: str, shards: tuple[str, ...]) -> str:
    """Where `RedisCounters` looks for a reservation, and where its entry in the ledger is."""
    if len(shards) == 1:
        return shards[0]
    _, _, shard = id.rpartition("-")
    return shard if shard in shards else names.shard_of(id, shards)
