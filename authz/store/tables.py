"""Counters, slots and what running requests hold: the engine's memory, and the upkeep of it."""

from collections.abc import Callable, Mapping

from authz.quota import Unit
from authz.store.counter_table import CounterTable
from authz.store.counting import KINDS, State, spent_at
from authz.store.leases import Leases
from authz.store.protocols import Hold
from authz.store.reservations import Reservation
from authz.store.shards import SHARDS, Shards

GRACE = 7_200_000  # ms that a spent counter is kept: a clock that steps back finds it as it was
TIDY_STEP = 1_000  # counters looked at in one call of `tidy`
TIDY_SHARD = 10  # as many fewer for each shard: with room to spare, a call looks at some shards only

_REQUESTS = Unit.REQUESTS  # quicker to find than a member
_REFUND = tuple(kind.refund for kind in KINDS)
_OWE = tuple(kind.owe for kind in KINDS)


class Tables:
    """`cold` finds a counter that is not in memory (None: there is none).

    It is asked only once `has_cold` is set, and with it clean counters leave
    memory when room is short.
    """

    __slots__ = (
        "_cold",
        "_hand",
        "_part",
        "changed",
        "counters",
        "has_cold",
        "held",
        "keep_changes",
        "leases",
        "most",
    )

    def __init__(self, cold: Callable[[str], State | None] | None, most: int, *, keep_changes: bool) -> None:
        self.counters = CounterTable()
        self.changed: dict[str, State] = {}  # since they were last taken
        self.leases: dict[str, Leases] = {}
        self.held: Shards[tuple[int, int]] = Shards()  # by key: mark, and what running requests hold
        self.keep_changes = keep_changes
        self.has_cold = False
        self.most = most
        self._cold = cold
        self._hand: list[str] = []  # keys that are looked at next,
        self._part = 0  # and then those of this shard

    def find(self, hold: Hold) -> State | None:
        """The counter of this key. One of another kind or window is another counter."""
        state = self.counters.get(hold.key)
        if state is None and self.has_cold:
            state = self._thaw(hold.key)
        if state is None or state[1] != hold.window or state[0] != hold.kind:
            return None
        return state

    def _thaw(self, key: str) -> State | None:
        state = self._cold(key) if self._cold is not None else None
        if state is not None:
            self.counters[key] = state
        return state

    def put(self, staged: Mapping[str, State]) -> None:
        self.counters.update(staged)
        if self.keep_changes:
            self.changed.update(staged)

    def correct(
        self, reservation: Reservation, actual: Mapping[Unit, int], now: int
    ) -> dict[str, State | None]:
        """Give back what was held and not used, charge what was used and not held. The counters after it."""
        corrected = {}
        labels = reservation.labels
        for index, hold in enumerate(reservation.holds):
            label = labels[index]
            if label is None:
                continue
            key = hold.key
            after = state = self.find(hold)
            unused = hold.amount - actual.get(hold.unit, hold.amount)
            if unused and (state is not None or key not in self.counters):  # else: of another shape by now
                if unused > 0:
                    after = _REFUND[hold.kind](hold, state, label, unused, now)
                else:
                    after = _OWE[hold.kind](hold, state, label, -unused, now)
                if after is not state:
                    self.counters[key] = after
                    if self.keep_changes:
                        self.changed[key] = after
            corrected[key] = after
        return corrected

    # -- what runs: derived from the open reservations, never stored itself --------------------------

    def take(self, name: str, made: Reservation) -> None:
        """Slots and running holds of a reservation."""
        labels = made.labels
        for index, hold in enumerate(made.holds):
            label = labels[index]
            if label is not None:
                if hold.unit is not _REQUESTS and hold.amount:
                    mark = KINDS[hold.kind].mark(label)
                    at, held = self.held.get(hold.key) or (mark, 0)
                    if mark >= at:
                        self.held[hold.key] = (mark, hold.amount + (held if mark == at else 0))
            elif hold.amount:
                leases = self.leases.get(hold.key)
                if leases is None:
                    leases = self.leases[hold.key] = Leases()
                leases.take(name, made.deadline)

    def release(self, name: str, made: Reservation) -> None:
        """The request runs no more (or so we must assume): the inverse of `take`."""
        labels = made.labels
        for index, hold in enumerate(made.holds):
            label = labels[index]
            if label is None:
                leases = self.leases.get(hold.key)
                if leases is not None and leases.give_up(name):
                    del self.leases[hold.key]
            elif hold.unit is not _REQUESTS and (running := self.held.get(hold.key)) is not None:
                at, held = running
                if at == KINDS[hold.kind].mark(label):
                    if held > hold.amount:
                        self.held[hold.key] = (at, held - hold.amount)
                    else:
                        self.held.pop(hold.key)

    def slots_of(self, made: Reservation) -> list[Leases | None]:
        """Where the reservation holds, or held, a slot."""
        return [
            self.leases.get(hold.key)
            for hold, label in zip(made.holds, made.labels, strict=True)
            if label is None and hold.amount
        ]

    def give_up_slots(self, now: int) -> None:
        """Those that are over at `now`: another may have taken them."""
        for key, leases in list(self.leases.items()):
            if not leases.count(now):
                del self.leases[key]

    # -- keeping house -----------------------------------------------------------------------------

    def take_changes(self) -> dict[str, State]:
        changed, self.changed = self.changed, {}
        return changed

    def tidy(self, now: int, saving: Mapping[str, State]) -> None:
        """Look at some counters; forget the spent ones and, when room is short, put away clean ones.

        `saving` are those on their way to the disk. A live counter is never forgotten, so
        a flood of new ones resets nobody (attack 108).
        """
        short = len(self.counters) > self.most * 3 // 4
        grace = 0 if short else GRACE
        budget = TIDY_STEP
        while budget > 0:
            if not self._hand:
                if self._part == SHARDS:
                    self._part = 0
                    return
                self._hand = self.counters.keys_of(self._part)
                self._part += 1
                budget -= 1 if short else TIDY_SHARD
                continue
            budget -= 1
            key = self._hand.pop()
            state = self.counters.get(key)
            if state is None or key in self.changed or key in saving:
                continue
            if spent_at(state) + grace <= now:
                del self.counters[key]
            elif short and self._cold is not None:
                del self.counters[key]
                self.has_cold = True
