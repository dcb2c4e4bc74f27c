"""What is remembered of a reservation, and for how long.

A reservation with something to settle, or with facts for the ledger, is OPEN
until its deadline, then LATE (a correction may still come), then forgotten. One
that only counts requests is BRIEF: remembered for the gateway's own retry alone.
Forgetting never gives anything back: what was held stays charged. Every table
here has a cap.
"""

from collections import deque
from collections.abc import Callable
from enum import IntEnum
from heapq import heappop, heappush
from typing import Any

import msgspec
from msgspec import Struct

from authz.recent import RecentOfMany
from authz.store.counting import State, pack, unpack
from authz.store.protocols import Hold, Kind, Outcome
from authz.store.shards import Shards

REPLAY = 5_000  # ms: a gateway's own retry comes within this; later the same id is another attempt
LATE = 86_400_000  # ms after its deadline that a reservation may still be settled
SETTLED = 600_000  # ms that an id is known as settled after anybody asked, at least; at most twice that
GRAIN = 100  # ms: what is due is looked at in steps of this
LATE_GRAIN = 60_000  # ms: a day of them is kept in few places
ENDED_AT_ONCE = 100  # phases that end in one sweep: a pause of about a millisecond


class Phase(IntEnum):
    BRIEF = 0
    OPEN = 1
    LATE = 2


_SLIDING = Kind.SLIDING
_BRIEF, _OPEN, _LATE = Phase  # a global is found in a tenth of the time that a member of an enum takes


class Reservation(Struct, frozen=True, array_like=True, gc=False):
    """`labels` are the states that each hold left behind, None for a lease. `gc=False`: it is in no cycle."""

    phase: Phase
    gateway: str
    created: int
    deadline: int
    holds: tuple[Hold, ...]
    labels: tuple[State | None, ...]
    facts: bytes = b""  # for the ledger; empty: its end is no entry there

    def is_late(self, now: int) -> bool:
        """Whether it has expired, looked after or not."""
        return self.phase is _LATE or now >= self.deadline

    def grain(self) -> int:
        """When the phase ends, in steps of GRAIN, rounded up."""
        if self.phase is _OPEN:
            return self.deadline // GRAIN + 1
        if self.phase is _BRIEF:
            return (self.created + REPLAY) // GRAIN + 1
        return ((self.deadline + LATE) // LATE_GRAIN + 1) * (LATE_GRAIN // GRAIN)


class _Packed(Struct, array_like=True):
    phase: Phase
    gateway: str
    created: int
    deadline: int
    holds: tuple[Hold, ...]
    labels: tuple[list[Any] | None, ...]
    facts: bytes = b""


_decode = msgspec.msgpack.Decoder(_Packed).decode
_encode = msgspec.msgpack.Encoder().encode


def encode(reservation: Reservation) -> bytes:
    """What a refund needs of a label is where it was charged: a sliding window's older parts are left out."""
    labels = [
        None if label is None else (*label[:-1], ()) if label[0] == _SLIDING else pack(label)
        for label in reservation.labels
    ]
    made = reservation
    return _encode((made.phase, made.gateway, made.created, made.deadline, made.holds, labels, made.facts))


def decode(encoded: bytes) -> Reservation:
    packed = _decode(encoded)
    labels = tuple(None if label is None else unpack(label) for label in packed.labels)
    return Reservation(
        packed.phase, packed.gateway, packed.created, packed.deadline, packed.holds, labels, packed.facts
    )


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
        self._most_late = most_late
        self._known: Shards[Reservation] = Shards()
        self._brief = self._open = 0
        self._late: deque[str] = deque()
        self._settled: RecentOfMany[str, str] = RecentOfMany(2 * most_settled)  # id -> gateway
        self._settled_turns_at = 0
        self._due: dict[int, dict[str, None]] = {}  # no sets, which the collector would visit
        self._due_order: list[int] = []
        self.next_sweep = 0
        self._changed: dict[str, Reservation | None] = {}
        self._extended: set[str] = set()

    def get(self, reservation: str) -> Reservation | None:
        return self._known.get(reservation)

    def _of(self, name: str) -> Reservation:
        known = self._known.get(name)
        assert known is not None, name
        return known

    def was_settled(self, reservation: str) -> bool:
        return self._settled.get(reservation) is not None

    def find(self, reservation: str, gateway: str, now: int) -> Reservation | Outcome:
        """What may be settled at `now`, or why it may not."""
        known = self._known.get(reservation)
        if known is None:
            self._turn(now)
            by = self._settled.get(reservation)
            if by is None:
                return Outcome.UNKNOWN
            return Outcome.ALREADY if by == gateway else Outcome.FOREIGN
        if known.gateway != gateway:
            return Outcome.FOREIGN
        return known if now < known.deadline + LATE else Outcome.UNKNOWN

    def items(self) -> list[tuple[str, Reservation]]:
        return list(self._known.items())

    @property
    def is_full(self) -> bool:
        """As many are OPEN as are remembered."""
        return self._open >= self._most_open

    @property
    def has_changes(self) -> bool:
        return bool(self._changed)

    def take_changes(self) -> dict[str, Reservation | None]:
        """What changed since the last call; None: it is gone. BRIEF ones are not kept."""
        changed, self._changed = self._changed, {}
        self._extended.clear()
        return changed

    def add(self, name: str, reservation: Reservation) -> None:
        if reservation.phase is _BRIEF:
            if self._brief >= self._most_brief:
                return  # a retry of this one would be charged again: the safe side
            self._brief += 1
        else:
            self._open += reservation.phase is _OPEN
            self._changed[name] = reservation
            if reservation.phase is _LATE:
                self._remember_late(name)
        self._known[name] = reservation
        self._schedule(name, reservation)

    def extend(self, name: str, deadline: int) -> None:
        """Another deadline of an OPEN one."""
        before = self._of(name)
        self._unschedule(name, before)
        self._known[name] = after = msgspec.structs.replace(before, deadline=deadline)
        self._schedule(name, after)
        if name not in self._changed:
            self._extended.add(name)
        self._changed[name] = after

    def settle(self, name: str, now: int) -> None:
        """The reservation is done with; only that it was settled is remembered."""
        self._turn(now)
        self._settled.put(name, self._of(name).gateway)
        self.forget(name)

    def _turn(self, now: int) -> None:
        if now >= self._settled_turns_at:
            self._settled.turn()
            if now >= self._settled_turns_at + SETTLED:  # nobody looked for so long
                self._settled.turn()
            self._settled_turns_at = now + SETTLED

    def sweep(self, now: int) -> None:
        """Let phases end that are over at `now`: so many at a time, the rest at the next call."""
        budget = ENDED_AT_ONCE
        while self._due_order and self._due_order[0] * GRAIN <= now:
            due = self._due[self._due_order[0]]
            while due and budget:
                self._end_phase(due.popitem()[0])
                budget -= 1
            if due:
                return
            del self._due[heappop(self._due_order)]
        self.next_sweep = self._due_order[0] * GRAIN if self._due_order else now + SETTLED

    def _end_phase(self, name: str) -> None:
        reservation = self._of(name)
        if reservation.phase is not _OPEN:
            self.forget(name)
            return
        self._open -= 1
        self._on_expiry(name, reservation)
        late = msgspec.structs.replace(reservation, phase=_LATE)
        self._known[name] = self._changed[name] = late
        self._remember_late(name)
        self._schedule(name, late)

    def _remember_late(self, name: str) -> None:
        self._late.append(name)
        if len(self._late) > self._most_late:
            oldest = self._late.popleft()
            known = self._known.get(oldest)
            if known is not None and known.phase is _LATE:
                self.forget(oldest)

    def forget(self, name: str) -> None:
        """Nothing of it can be settled any more."""
        reservation = self._known.pop(name)
        self._unschedule(name, reservation)
        if reservation.phase is _BRIEF:
            self._brief -= 1
            return
        self._open -= reservation.phase is _OPEN
        unsaved = self._changed.pop(name, None)
        if unsaved is None or unsaved.phase is not _OPEN or name in self._extended:
            self._changed[name] = None  # a row may exist

    def _schedule(self, name: str, reservation: Reservation) -> None:
        grain = reservation.grain()
        due = self._due.get(grain)
        if due is not None:
            due[name] = None
            return
        self._due[grain] = {name: None}
        heappush(self._due_order, grain)
        self.next_sweep = min(self.next_sweep, grain * GRAIN)

    def _unschedule(self, name: str, reservation: Reservation) -> None:
        due = self._due.get(reservation.grain())
        if due is not None:
            due.pop(name, None)
