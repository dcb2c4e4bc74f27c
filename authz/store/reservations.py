"""What is remembered of a reservation, and for how long.

A reservation with something to settle is OPEN until its deadline, then LATE (a
correction may still come), then forgotten. One that only counts requests is
BRIEF: remembered for the gateway's own retry alone. Forgetting never gives
anything back: what was held stays charged. Every table here has a cap.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

import msgspec
from msgspec import Struct

from authz.store.counting import State, pack, unpack
from authz.store.protocols import Hold, Kind, StoreUnavailable

REPLAY = 5_000  # ms: a gateway's own retry comes within this; later the same id is another attempt
LATE = 3_600_000  # ms after its deadline that a reservation may still be settled
SETTLED = 600_000  # ms that an id is known as settled
GRAIN = 100  # ms: what is due is looked at in steps of this
ENDED_AT_ONCE = 500  # phases that end in one sweep: a pause of well under a millisecond


class Phase(IntEnum):
    BRIEF = 0
    OPEN = 1
    LATE = 2


class Reservation(Struct, frozen=True, array_like=True, gc=False):
    """`labels` are the states that each hold left behind, None for a lease. `gc=False`: it is in no cycle."""

    phase: Phase
    gateway: str
    created: int
    deadline: int
    holds: tuple[Hold, ...]
    labels: tuple[State | None, ...]

    def due_at(self) -> int:
        """When the phase ends."""
        if self.phase is Phase.BRIEF:
            return self.created + REPLAY
        return self.deadline if self.phase is Phase.OPEN else self.deadline + LATE


class _Packed(Struct, array_like=True):
    phase: Phase
    gateway: str
    created: int
    deadline: int
    holds: tuple[Hold, ...]
    labels: tuple[list[Any] | None, ...]


_decoder = msgspec.msgpack.Decoder(_Packed)


def encode(reservation: Reservation) -> bytes:
    """What a refund needs of a label is where it was charged: a sliding window's older parts are left out."""
    labels = [
        None if label is None else (*label[:-1], ()) if label[0] == Kind.SLIDING else pack(label)
        for label in reservation.labels
    ]
    return msgspec.msgpack.encode((*msgspec.structs.astuple(reservation)[:-1], labels))


def decode(encoded: bytes) -> Reservation:
    packed = _decoder.decode(encoded)
    labels = tuple(None if label is None else unpack(label) for label in packed.labels)
    return Reservation(packed.phase, packed.gateway, packed.created, packed.deadline, packed.holds, labels)


class Reservations:
    """The reservations in memory. `on_expiry` hears of each OPEN one that becomes LATE."""

    def __init__(
        self,
        on_expiry: Callable[[str, Reservation], None],
        *,
        most_open: int = 500_000,
        most_brief: int = 200_000,
        most_late: int = 100_000,
        most_settled: int = 100_000,
    ) -> None:
        self._on_expiry = on_expiry
        self._most_open, self._most_brief = most_open, most_brief
        self._most_late, self._most_settled = most_late, most_settled
        self._known: dict[str, Reservation] = {}
        self._brief = self._open = 0
        self._late: deque[str] = deque()
        self._settled: dict[str, None] = {}
        self._settled_before: dict[str, None] = {}
        self._settled_turns_at = 0
        self._due: dict[int, set[str]] = {}
        self._due_order: list[int] = []
        self.next_sweep = 0
        self.changed: dict[str, Reservation | None] = {}  # since the last snapshot; BRIEF ones are not kept

    def get(self, reservation: str) -> Reservation | None:
        return self._known.get(reservation)

    def was_settled(self, reservation: str) -> bool:
        return reservation in self._settled or reservation in self._settled_before

    def items(self) -> list[tuple[str, Reservation]]:
        return list(self._known.items())

    def check_room(self) -> None:
        if self._open >= self._most_open:
            raise StoreUnavailable(
                f"{self._most_open} requests are running, which is as many as are remembered"
            )

    def add(self, name: str, reservation: Reservation) -> None:
        if reservation.phase is Phase.BRIEF:
            if self._brief >= self._most_brief:
                return  # a retry of this one would be charged again: the safe side
            self._brief += 1
        else:
            self._open += reservation.phase is Phase.OPEN
            self.changed[name] = reservation
            if reservation.phase is Phase.LATE:
                self._remember_late(name)
        self._known[name] = reservation
        self._schedule(name, reservation)

    def settle(self, name: str, now: int) -> None:
        """The reservation is done with; only that it was settled is remembered."""
        self._forget(name)
        if now >= self._settled_turns_at or len(self._settled) >= self._most_settled:
            self._settled_before, self._settled = self._settled, {}
            self._settled_turns_at = now + SETTLED
        self._settled[name] = None

    def sweep(self, now: int) -> None:
        """Let phases end that are over at `now`: so many at a time, the rest at the next call."""
        budget = ENDED_AT_ONCE
        while self._due_order and self._due_order[0] * GRAIN <= now:
            due = self._due[self._due_order[0]]
            while due and budget:
                self._end_phase(due.pop())
                budget -= 1
            if due:
                return
            del self._due[heappop(self._due_order)]
        self.next_sweep = self._due_order[0] * GRAIN if self._due_order else now + SETTLED

    def _end_phase(self, name: str) -> None:
        reservation = self._known[name]
        if reservation.phase is not Phase.OPEN:
            self._forget(name)
            return
        self._open -= 1
        self._on_expiry(name, reservation)
        late = msgspec.structs.replace(reservation, phase=Phase.LATE)
        self._known[name] = self.changed[name] = late
        self._remember_late(name)
        self._schedule(name, late)

    def _remember_late(self, name: str) -> None:
        self._late.append(name)
        if len(self._late) > self._most_late:
            oldest = self._late.popleft()
            known = self._known.get(oldest)
            if known is not None and known.phase is Phase.LATE:
                self._forget(oldest)

    def _forget(self, name: str) -> None:
        reservation = self._known.pop(name)
        due = self._due.get(reservation.due_at() // GRAIN + 1)
        if due is not None:
            due.discard(name)
        if reservation.phase is Phase.BRIEF:
            self._brief -= 1
            return
        self._open -= reservation.phase is Phase.OPEN
        unsaved = self.changed.pop(name, None)
        if unsaved is None or unsaved.phase is not Phase.OPEN:
            self.changed[name] = None  # a row may exist

    def _schedule(self, name: str, reservation: Reservation) -> None:
        grain = reservation.due_at() // GRAIN + 1
        due = self._due.get(grain)
        if due is not None:
            due.add(name)
            return
        self._due[grain] = {name}
        heappush(self._due_order, grain)
        self.next_sweep = min(self.next_sweep, grain * GRAIN)
