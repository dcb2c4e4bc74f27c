"""How counters stand, read from what the service committed: for commands that look from outside."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.counting import KINDS, State, pack, unpack
from authz.store.protocols import Hold, Kind, Level
from authz.store.reservations import Phase, Reservation, decode


class Standing(Struct, frozen=True, array_like=True):
    """One counter: its packed state (None for concurrency), and what running requests hold of it."""

    state: list[Any] | None
    running: list[tuple[int, int, int]]  # (window mark, deadline, amount)


def encode_state(state: State) -> bytes:
    return msgspec.msgpack.encode(pack(state))


def decode_state(encoded: bytes) -> State:
    return unpack(msgspec.msgpack.decode(encoded))


def level_of(encoded: bytes, hold: Hold, now: int) -> Level:
    """A counter's level at `now` for the policy that `hold` describes; its amount does not matter."""
    settled, held, reset = _figures(encoded, hold, now)
    return Level(max(0, hold.quota - settled - held), reset, held)


def settled_of(encoded: bytes, hold: Hold, now: int) -> int:
    """What is used of a counter for good, debt included: beside it stands what running requests hold."""
    return _figures(encoded, hold, now)[0]


def _figures(encoded: bytes, hold: Hold, now: int) -> tuple[int, int, int]:
    """What is settled, what is held, and after how many milliseconds all of it is free again."""
    standing = msgspec.msgpack.decode(encoded, type=Standing)
    hold = replace(hold, amount=0)
    if hold.kind is Kind.CONCURRENCY:
        ends = [deadline for _, deadline, _ in standing.running if deadline > now]
        return 0, len(ends), max(ends, default=now) - now
    kind = KINDS[hold.kind]
    state = unpack(standing.state) if standing.state is not None else None
    if state is not None and (state[0] != hold.kind or state[1] != hold.window):
        state = None
    state = kind.view(hold, state, now)
    used = kind.used(state)
    mark = kind.mark(state)
    held = sum(amount for at, deadline, amount in standing.running if at == mark and deadline > now)
    held = min(held, used)
    return used - held, held, kind.reset(state, now)


def standings(
    counters: Mapping[str, bytes], reservations: Mapping[str, bytes], prefix: str
) -> Mapping[str, bytes]:
    """Counters by key, each with what open reservations hold of it, for `level_of`."""
    return combine(
        {key: msgspec.msgpack.decode(state) for key, state in counters.items()},
        [decode(body) for body in reservations.values()],
        prefix,
    )


def combine(states: Mapping[str, Any], reservations: list[Reservation], prefix: str) -> Mapping[str, bytes]:
    """The same from packed states and reservations in memory."""
    running: dict[str, list[tuple[int, int, int]]] = {}
    for reservation in reservations:
        if reservation.phase is not Phase.OPEN:
            continue
        for hold, label in zip(reservation.holds, reservation.labels, strict=True):
            if hold.unit is Unit.REQUESTS or not hold.key.startswith(prefix):
                continue
            mark = 0 if label is None else KINDS[hold.kind].mark(label)
            running.setdefault(hold.key, []).append((mark, reservation.deadline, hold.amount))
    keys = {*states, *running}
    return {
        key: msgspec.msgpack.encode(Standing(states.get(key), running.get(key, []))) for key in sorted(keys)
    }
