"""The counters as a deterministic state machine: reserve, settle, peek over an explicit `now`.

Nothing is read from a clock, a file or a socket. Every change is first handed
to the journal as an `Op`; applying the same ops again rebuilds the same state.
States are immutable, so what changed since the last snapshot is handed out
without copying.
"""

from collections.abc import Callable, Mapping, Sequence

import msgspec

from authz.quota import MAX_AMOUNT, Unit
from authz.store.counting import KINDS, State, pack, spent_at
from authz.store.leases import Leases
from authz.store.levels import combine
from authz.store.ops import Op, Reserve, Settle
from authz.store.protocols import Exhausted, Hold, Kind, Level, Reserved, StoreUnavailable
from authz.store.reservations import LATE, REPLAY, Phase, Reservation, Reservations

GRACE = 7_200_000  # ms that a spent counter is kept: a clock that steps back finds it as it was
TIDY_STEP = 5_000  # counters looked at in one call of `tidy`

_CHARGE = tuple(kind.charge for kind in KINDS)
_FULL = tuple(kind.full for kind in KINDS)
_USED = tuple(kind.used for kind in KINDS)
_RESET = tuple(kind.reset for kind in KINDS)


class _Stage:
    """What a reserve would change."""

    __slots__ = ("counters", "denied", "fresh", "leases", "over")

    def __init__(self) -> None:
        self.counters: dict[str, State] = {}
        self.leases: dict[str, Leases] = {}
        self.denied: list[int] = []
        self.over: list[int] = []
        self.fresh = 0  # counters that begin


class Engine:
    """Counters, leases and reservations in memory.

    `journal` takes every change before it is made; what it raises refuses the
    change. `cold` finds a counter that is not in memory (None: there is none);
    it is asked only once `has_cold` is set, and with it clean counters leave
    memory when room is short.
    """

    def __init__(
        self,
        *,
        journal: Callable[[Op], None] | None = None,
        cold: Callable[[str], State | None] | None = None,
        most_counters: int = 1_000_000,
    ) -> None:
        self.journal = journal
        self.has_cold = False
        self.keep_changes = journal is not None  # for `take_changes`
        self._cold = cold
        self._most = most_counters
        self._counters: dict[str, State] = {}
        self._changed: dict[str, State] = {}
        self._leases: dict[str, Leases] = {}
        self._held: dict[str, tuple[int, int]] = {}  # key -> (mark, what running requests hold)
        self._reservations = Reservations(self._release)
        self._serial = 0
        self._hand: list[str] = []

    def reserve(
        self, now: int, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int
    ) -> Reserved | Exhausted:
        """Make every hold or none. `ttl_ms` is how long the request may run.

        With `ttl_ms` 0 a reservation that only counts requests is not remembered at all.
        """
        known = self._reservations
        if now >= known.next_sweep:
            known.sweep(now)
        before = known.get(reservation)
        if before is not None or known.was_settled(reservation):
            if before is not None and _is_retry(before, gateway, now):
                return Reserved(self._levels(self._views(holds, now), holds, now), True)
            self._serial += 1
            reservation = f"{reservation}~{now}.{self._serial}"
        stage = self._stage(holds, now)
        if stage.denied:
            return self._exhausted(stage, holds, now)
        if stage.fresh and len(self._counters) + stage.fresh > self._most:
            raise StoreUnavailable(
                f"{self._most} counters are in use, which is as many as fit; "
                "use a store on disk, or limits with fewer partitions"
            )
        known.check_room()
        holds = tuple(holds) if not stage.over else tuple([_bounded(hold) for hold in holds])
        if self.journal is not None:
            self.journal(Reserve(now, reservation, gateway, ttl_ms, holds))
        self._commit(stage, now, reservation, gateway, ttl_ms, holds)
        return Reserved(self._levels(stage.counters, holds, now), False, tuple(stage.over))

    def settle(self, now: int, reservation: str, gateway: str, actual: Mapping[Unit, int]) -> bool:
        """Charge `actual` instead of what was held (a missing unit: as held). True if this call did it."""
        known = self._reservations.get(reservation)
        if known is None or known.gateway != gateway or now >= known.deadline + LATE:
            return False
        clean = {unit: min(MAX_AMOUNT, max(0, amount)) for unit, amount in actual.items()}
        if self.journal is not None:
            self.journal(Settle(now, reservation, clean))
        self._settle(now, reservation, known, clean)
        return True

    def peek(self, now: int, holds: Sequence[Hold]) -> Reserved | Exhausted:
        """What `reserve` would answer. Changes nothing."""
        self.sweep(now)
        stage = self._stage(holds, now)
        if stage.denied:
            return self._exhausted(stage, holds, now)
        return Reserved(self._levels(stage.counters, holds, now, asked=True), False, tuple(stage.over))

    def apply(self, op: Op) -> None:
        """Make a change that was admitted before. It is charged whatever the counters say."""
        if isinstance(op, Reserve):
            self.sweep(op.now)
            stage = self._stage([msgspec.structs.replace(hold, shadow=True) for hold in op.holds], op.now)
            self._commit(stage, op.now, op.reservation, op.gateway, op.ttl_ms, op.holds)
            return
        known = self._reservations.get(op.reservation)
        if known is not None:
            self._settle(op.now, op.reservation, known, op.actual)

    def sweep(self, now: int) -> None:
        """Let leases and reservations end that are over at `now`. What was held stays charged."""
        if now >= self._reservations.next_sweep:
            self._reservations.sweep(now)

    # -- the steps ---------------------------------------------------------------------------------

    def _stage(self, holds: Sequence[Hold], now: int) -> _Stage:
        stage = _Stage()
        staged = stage.counters
        for index, hold in enumerate(holds):
            if hold.kind is Kind.CONCURRENCY:
                self._stage_lease(stage, index, hold, now)
                continue
            state = self._find(hold)
            if state is None:
                stage.fresh += 1
            kind = hold.kind
            after = _CHARGE[kind](hold, state, now)
            if hold.amount and _FULL[kind](hold, after):
                if not hold.shadow:
                    stage.denied.append(index)
                else:
                    stage.over.append(index)
                    after = KINDS[kind].cap(after)
            staged[hold.key] = after
        if len(staged) + len(stage.leases) != len(holds):
            raise ValueError("two holds share a counter: each would fit alone, together they would not")
        return stage

    def _stage_lease(self, stage: _Stage, index: int, hold: Hold, now: int) -> None:
        leases = self._leases.get(hold.key) or Leases()
        if hold.amount and leases.count(now) >= hold.quota:
            (stage.over if hold.shadow else stage.denied).append(index)
        stage.leases[hold.key] = leases

    def _find(self, hold: Hold) -> State | None:
        """The counter of this key. One of another kind or window is another counter."""
        state = self._counters.get(hold.key)
        if state is None and self.has_cold:
            state = self._thaw(hold.key)
        if state is None or state[1] != hold.window or state[0] != hold.kind:
            return None
        return state

    def _thaw(self, key: str) -> State | None:
        state = self._cold(key) if self._cold is not None else None
        if state is not None:
            self._counters[key] = state
        return state

    def _commit(
        self, stage: _Stage, now: int, reservation: str, gateway: str, ttl_ms: int, holds: tuple[Hold, ...]
    ) -> None:
        staged = stage.counters
        self._counters.update(staged)
        if self.keep_changes:
            self._changed.update(staged)
        phase = Phase.BRIEF
        for hold in holds:
            if hold.unit is not Unit.REQUESTS:
                phase = Phase.OPEN
                break
        if phase is Phase.BRIEF:
            if ttl_ms > 0:
                labels: tuple[State | None, ...] = tuple(staged.values())
                self._reservations.add(
                    reservation, Reservation(phase, gateway, now, now + ttl_ms, holds, labels)
                )
            return
        labels = tuple([staged.get(hold.key) for hold in holds])
        made = Reservation(phase, gateway, now, now + ttl_ms, holds, labels)
        self._reservations.add(reservation, made)
        self._take(reservation, made)

    def _take(self, reservation: str, made: Reservation) -> None:
        """Leases and running holds of a reservation: derived from it, never stored themselves."""
        for hold, label in zip(made.holds, made.labels, strict=True):
            if label is not None:
                if hold.unit is not Unit.REQUESTS and hold.amount:
                    mark = KINDS[hold.kind].mark(label)
                    at, held = self._held.get(hold.key, (mark, 0))
                    if mark >= at:
                        self._held[hold.key] = (mark, hold.amount + (held if mark == at else 0))
            elif hold.amount:
                leases = self._leases.get(hold.key)
                if leases is None:
                    leases = self._leases[hold.key] = Leases()
                leases.take(reservation, made.deadline)

    def _release(self, reservation: str, made: Reservation) -> None:
        """The request runs no more (or so we must assume): the inverse of `_take`."""
        for hold, label in zip(made.holds, made.labels, strict=True):
            if label is None:
                leases = self._leases.get(hold.key)
                if leases is not None and leases.give_up(reservation):
                    del self._leases[hold.key]
            elif hold.unit is not Unit.REQUESTS and hold.key in self._held:
                at, held = self._held[hold.key]
                if at == KINDS[hold.kind].mark(label):
                    if held > hold.amount:
                        self._held[hold.key] = (at, held - hold.amount)
                    else:
                        del self._held[hold.key]

    def _settle(self, now: int, reservation: str, known: Reservation, actual: Mapping[Unit, int]) -> None:
        if known.phase is Phase.OPEN:
            self._release(reservation, known)
        self._reservations.settle(reservation, now)
        for hold, label in zip(known.holds, known.labels, strict=True):
            if label is None:
                continue
            used = actual.get(hold.unit, hold.amount)
            if used == hold.amount:
                continue
            state, kind = self._find(hold), KINDS[hold.kind]
            if state is None and hold.key in self._counters:
                continue  # the key names a counter of another shape by now
            if used < hold.amount:
                after = kind.refund(hold, state, label, hold.amount - used, now)
            else:
                after = kind.owe(hold, state, label, used - hold.amount, now)
            if after is not state:
                self._counters[hold.key] = after
                if self.keep_changes:
                    self._changed[hold.key] = after

    # -- the answers -------------------------------------------------------------------------------

    def _views(self, holds: Sequence[Hold], now: int) -> dict[str, State]:
        return {
            hold.key: KINDS[hold.kind].view(hold, self._find(hold), now)
            for hold in holds
            if hold.kind is not Kind.CONCURRENCY
        }

    def _exhausted(self, stage: _Stage, holds: Sequence[Hold], now: int) -> Exhausted:
        views = self._views(holds, now)
        waits = []
        for index in stage.denied:
            hold = holds[index]
            if hold.kind is Kind.CONCURRENCY:
                waits.append(stage.leases[hold.key].wait(now) if hold.quota > 0 else -1)
            else:
                waits.append(KINDS[hold.kind].wait(hold, views[hold.key], now))
        wait = -1 if min(waits) < 0 else max(waits)
        return Exhausted(tuple(stage.denied), wait, self._levels(views, holds, now))

    def _levels(
        self, states: Mapping[str, State], holds: Sequence[Hold], now: int, asked: bool = False
    ) -> tuple[Level, ...]:
        levels = []
        for hold in holds:
            kind = hold.kind
            if kind is Kind.CONCURRENCY:
                levels.append(self._lease_level(hold, now, asked))
                continue
            state = states[hold.key]
            used = _USED[kind](state)
            held = self._held.get(hold.key) if self._held else None
            running = 0 if held is None or held[0] != KINDS[kind].mark(state) else min(held[1], used)
            left = hold.quota - used
            levels.append(Level(left if left > 0 else 0, _RESET[kind](state, now), running))
        return tuple(levels)

    def _lease_level(self, hold: Hold, now: int, asked: bool) -> Level:
        """`asked`: as it would be with one more."""
        leases = self._leases.get(hold.key)
        running = leases.count(now) if leases is not None else 0
        reset = leases.reset(now) if leases is not None else 0
        return Level(max(0, hold.quota - running - (asked and hold.amount > 0)), reset, running)

    # -- keeping house -----------------------------------------------------------------------------

    def take_changes(self) -> tuple[dict[str, State], dict[str, Reservation | None]]:
        """Counters and reservations changed since the last call; None: the reservation is gone."""
        counters, self._changed = self._changed, {}
        reservations, self._reservations.changed = self._reservations.changed, {}
        return counters, reservations

    @property
    def has_changes(self) -> bool:
        return bool(self._changed or self._reservations.changed)

    def restore(self, counters: Mapping[str, State], reservations: Mapping[str, Reservation]) -> None:
        """Begin with what a snapshot holds."""
        self._counters.update(counters)
        for name, reservation in reservations.items():
            self._reservations.add(name, reservation)
            if reservation.phase is Phase.OPEN:
                self._take(name, reservation)
        self._reservations.changed = {}

    def tidy(self, now: int, saving: Mapping[str, State]) -> None:
        """Look at some counters; forget the spent ones and, when room is short, put away clean ones.

        `saving` are those on their way to the disk. A live counter is never forgotten, so
        a flood of new ones resets nobody (attack 108).
        """
        short = len(self._counters) > self._most * 3 // 4
        grace = 0 if short else GRACE
        if not self._hand:
            self._hand = list(self._counters)
            self._hand.reverse()  # `pop` takes the oldest first
        for _ in range(min(TIDY_STEP, len(self._hand))):
            key = self._hand.pop()
            state = self._counters.get(key)
            if state is None or key in self._changed or key in saving:
                continue
            if spent_at(state) + grace <= now:
                del self._counters[key]
            elif short and self._cold is not None:
                del self._counters[key]
                self.has_cold = True

    def standings(self, prefix: str) -> Mapping[str, bytes]:
        """Counters by key, for `authz.store.levels.level_of`. Any thread may ask."""
        states = {key: pack(state) for key, state in self._counters.copy().items() if key.startswith(prefix)}
        return combine(states, [made for _, made in self._reservations.items()], prefix)

    def __len__(self) -> int:
        return len(self._counters)


def _bounded(hold: Hold) -> Hold:
    """Only a shadow hold can be admitted with an amount that no store keeps."""
    return hold if hold.amount <= MAX_AMOUNT else msgspec.structs.replace(hold, amount=MAX_AMOUNT)


def _is_retry(before: Reservation, gateway: str, now: int) -> bool:
    return (
        before.phase is not Phase.LATE
        and before.gateway == gateway
        and now < min(before.deadline, before.created + REPLAY)
    )
