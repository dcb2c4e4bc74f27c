"""The counters as a deterministic state machine: reserve, extend, settle, peek over an explicit `now`.

Nothing is read from a clock, a file or a socket. Every change is first handed
to the journal as an `Op`; applying the same ops again rebuilds the same state
and the same ledger entries. An expiry alone is no op: it follows from the
deadline, and is made up for by what comes next. States are immutable, so what
changed since the last snapshot is handed out without copying.
"""

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from os import urandom

import msgspec
from msgspec import Struct

from authz.quota import MAX_AMOUNT, Unit
from authz.store import answers
from authz.store.closed import Closed
from authz.store.counting import State, pack
from authz.store.levels import combine
from authz.store.ops import Extend, Op, Reserve, Settle
from authz.store.protocols import (
    Exhausted,
    Hold,
    Outcome,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.reservations import REPLAY, Phase, Reservation, Reservations
from authz.store.staging import Stage, stage
from authz.store.tables import Tables

_OPEN, _BRIEF, _REQUESTS = Phase.OPEN, Phase.BRIEF, Unit.REQUESTS  # quicker to find than a member


class Changes(Struct, frozen=True):
    """What is to be written in one transaction."""

    counters: Mapping[str, State]
    reservations: Mapping[str, Reservation | None]  # None: it is gone
    closed: Sequence[Closed]  # in the order they ended


class Engine:
    """Counters, leases and reservations in memory.

    `journal` takes every change before it is made; what it raises refuses the
    change. `cold` finds a counter that is not in memory; see `Tables`.
    """

    def __init__(
        self,
        *,
        journal: Callable[[Op], None] | None = None,
        cold: Callable[[str], State | None] | None = None,
        most_counters: int = 1_000_000,
        most_open: int = 500_000,
    ) -> None:
        self.journal = journal
        self.tables = Tables(cold, most_counters, keep_changes=journal is not None)
        self.reservations = Reservations(self._expire, most_open=most_open)
        self._closed: deque[Closed] = deque()
        self._serial = int.from_bytes(urandom(5))  # names differ after a restart too, whatever the clock says
        self._newest = 0  # the latest moment that a recovered reservation was made
        self.expired = 0  # reservations that nobody told the end of

    def reserve(
        self,
        now: int,
        reservation: str,
        gateway: str,
        holds: Sequence[Hold],
        ttl_ms: int,
        facts: bytes = b"",
    ) -> Reserved | Exhausted:
        """Make every hold or none. `ttl_ms` is how long the request may run.

        With `ttl_ms` 0 nobody will settle it: one without slots is over at once.
        """
        known = self.reservations
        if now >= known.next_sweep:
            known.sweep(now)
        before = known.get(reservation)
        if before is not None or known.was_settled(reservation):
            if before is not None and _is_retry(before, gateway, now):
                states = answers.views(self.tables, holds, now)
                left = answers.left(holds, states)
                return Reserved(answers.levels(self.tables, holds, states, left, now), True)
            reservation = self._another(reservation, now)
        staged = stage(self.tables, holds, now)
        if staged.denied:
            return answers.exhausted(self.tables, staged.denied, holds, now)
        if staged.fresh and len(self.tables.counters) + staged.fresh > self.tables.most:
            raise StoreUnavailable(
                f"{self.tables.most} counters are in use, which is as many as fit; "
                "use a store on disk, or limits with fewer partitions"
            )
        if known.is_full and staged.has_slots:
            raise StoreUnavailable("as many requests are running as are remembered")
        kept = staged.has_slots or not (known.is_full or (facts and not ttl_ms))
        if not kept:
            reservation = self._another(reservation, now)  # nobody settles it
        holds = tuple(holds) if not staged.over else tuple([_bounded(hold) for hold in holds])
        if self.journal is not None:
            self.journal(Reserve(now, reservation, gateway, ttl_ms, holds, facts, kept))
        self._commit(staged, now, reservation, gateway, ttl_ms, holds, facts, kept)
        levels = answers.levels(self.tables, holds, staged.states, staged.left, now)
        return Reserved(levels, False, tuple(staged.over))

    def find(self, now: int, reservation: str, gateway: str) -> Remembered | Outcome:
        """What may be settled, or why it may not."""
        found = self.reservations.find(reservation, gateway, now)
        if isinstance(found, Outcome):
            return found
        return Remembered(found.facts, found.created, found.is_late(now))

    def settle(
        self, now: int, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        """Charge `actual` instead of what was held (a missing unit: as held)."""
        found = self.reservations.find(reservation, gateway, now)
        if isinstance(found, Outcome):
            return Settled(found)
        late = found.is_late(now)
        clean = {unit: min(MAX_AMOUNT, max(0, amount)) for unit, amount in actual.items()}
        if self.journal is not None:
            self.journal(Settle(now, reservation, clean, note, late))
        states = self._settle(now, reservation, found, clean, note, late)
        outcome = Outcome.CORRECTED if late else Outcome.SETTLED
        return answers.settled(self.tables, outcome, found, states, now)

    def extend(self, now: int, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        """Move the deadline on. False: it is not open, or its slot was given up and may be another's."""
        found = self.reservations.find(reservation, gateway, now)
        if isinstance(found, Outcome) or found.phase is not _OPEN or found.is_late(now):
            return False
        if not all(leases and leases.has(reservation) for leases in self.tables.slots_of(found)):
            return False
        deadline = min(now + ttl_ms, found.created + life_ms)
        if deadline > found.deadline:
            if self.journal is not None:
                self.journal(Extend(reservation, deadline))
            self._extend(reservation, found, deadline)
        return True

    def peek(self, now: int, holds: Sequence[Hold]) -> Reserved | Exhausted:
        """What `reserve` would answer. Changes nothing."""
        self.sweep(now)
        staged = stage(self.tables, holds, now)
        if staged.denied:
            return answers.exhausted(self.tables, staged.denied, holds, now)
        levels = answers.levels(self.tables, holds, staged.states, staged.left, now, asked=True)
        return Reserved(levels, False, tuple(staged.over))

    def apply(self, op: Op) -> None:
        """Make a change that was admitted before. It is charged whatever the counters say.

        Nothing is swept: what had expired by then is told by the op.
        """
        known = self.reservations.get(op.reservation)
        if isinstance(op, Reserve):
            if known is not None:  # it was over and forgotten when the name came again
                if known.phase is _OPEN:
                    self._expire(op.reservation, known)
                self.reservations.forget(op.reservation)
            self._newest = max(self._newest, op.now)
            staged = stage(
                self.tables, [msgspec.structs.replace(hold, shadow=True) for hold in op.holds], op.now
            )
            self._commit(staged, op.now, op.reservation, op.gateway, op.ttl_ms, op.holds, op.facts, op.kept)
        elif known is None:
            return
        elif isinstance(op, Settle):
            self._settle(op.now, op.reservation, known, op.actual, op.note, op.late)
        elif known.phase is _OPEN:
            self._extend(op.reservation, known, op.deadline)

    def sweep(self, now: int) -> None:
        """Let leases and reservations end that are over at `now`. What was held stays charged."""
        if now >= self.reservations.next_sweep:
            self.reservations.sweep(now)

    def is_behind(self, now: int) -> bool:
        """Whether more is over at `now` than the last sweep ended."""
        return now >= self.reservations.next_sweep

    # -- the steps ---------------------------------------------------------------------------------

    def _another(self, reservation: str, now: int) -> str:
        """A name that is not in use, for an attempt under a name that is."""
        self._serial += 1
        return f"{reservation}~{now}.{self._serial:x}"

    def _commit(
        self,
        staged: Stage,
        now: int,
        reservation: str,
        gateway: str,
        ttl_ms: int,
        holds: tuple[Hold, ...],
        facts: bytes,
        kept: bool,
    ) -> None:
        self.tables.put(staged.counters)
        if not kept:
            if facts:
                self._closed.append(Closed(reservation, gateway, now, now, facts, expired=True))
            return
        phase = _OPEN if facts else _phase_of(holds)
        if phase is _BRIEF and ttl_ms <= 0:
            return
        made = Reservation(phase, gateway, now, now + ttl_ms, holds, tuple(staged.states), facts)
        self.reservations.add(reservation, made)
        if phase is _OPEN:
            self.tables.take(reservation, made)

    def _extend(self, reservation: str, known: Reservation, deadline: int) -> None:
        for leases in self.tables.slots_of(known):
            if leases is not None:
                leases.take(reservation, deadline)
        self.reservations.extend(reservation, deadline)

    def _expire(self, reservation: str, known: Reservation) -> None:
        """What was held stays charged, and is entered as used."""
        self.tables.release(reservation, known)
        if known.facts:
            self.expired += 1
            self._closed.append(
                Closed(reservation, known.gateway, known.created, known.deadline, known.facts, expired=True)
            )

    def _settle(
        self,
        now: int,
        reservation: str,
        known: Reservation,
        actual: Mapping[Unit, int],
        note: bytes,
        late: bool,
    ) -> dict[str, State | None]:
        if known.phase is _OPEN:
            if late:  # nobody had looked yet
                self._expire(reservation, known)
            else:
                self.tables.release(reservation, known)
        self.reservations.settle(reservation, now)
        if known.facts:
            self._closed.append(
                Closed(reservation, known.gateway, known.created, now, known.facts, note, late=late)
            )
        return self.tables.correct(known, actual, now)

    # -- snapshots ---------------------------------------------------------------------------------

    def take_changes(self) -> Changes:
        """What changed since the last call."""
        return Changes(self.tables.take_changes(), self.reservations.take_changes(), self.take_closed())

    def drop_changes(self) -> None:
        """Nobody writes them. What ended is kept for `take_closed`."""
        self.tables.take_changes()
        self.reservations.take_changes()

    def take_closed(self) -> Sequence[Closed]:
        """What ended since the last call. Any thread may ask."""
        closed = []
        while self._closed:
            closed.append(self._closed.popleft())
        return closed

    @property
    def has_changes(self) -> bool:
        return bool(self.tables.changed or self.reservations.has_changes or self._closed)

    def restore(self, counters: Mapping[str, State], reservations: Mapping[str, Reservation]) -> None:
        """Begin with what a snapshot holds."""
        self.tables.counters.update(counters)
        for name, reservation in reservations.items():
            self._newest = max(self._newest, reservation.created)
            self.reservations.add(name, reservation)
            if reservation.phase is _OPEN:
                self.tables.take(name, reservation)
        self.reservations.take_changes()

    def recovered(self) -> None:
        """All is restored and applied. A slot that was over when another was taken stays given up."""
        self.tables.give_up_slots(self._newest)

    def standings(self, prefix: str) -> Mapping[str, bytes]:
        """Counters by key, for `authz.store.levels.level_of`. Any thread may ask."""
        counters = self.tables.counters.items()
        states = {key: pack(state) for key, state in counters if key.startswith(prefix)}
        return combine(states, [made for _, made in self.reservations.items()], prefix)

    def __len__(self) -> int:
        return len(self.tables.counters)


def _bounded(hold: Hold) -> Hold:
    """Only a shadow hold can be admitted with an amount that no store keeps."""
    return hold if hold.amount <= MAX_AMOUNT else msgspec.structs.replace(hold, amount=MAX_AMOUNT)


def _phase_of(holds: Sequence[Hold]) -> Phase:
    """Of a reservation without facts: more than requests is settled."""
    for hold in holds:
        if hold.unit is not _REQUESTS:
            return _OPEN
    return _BRIEF


def _is_retry(before: Reservation, gateway: str, now: int) -> bool:
    return (
        before.phase is not Phase.LATE
        and before.gateway == gateway
        and now < min(before.deadline, before.created + REPLAY)
    )
