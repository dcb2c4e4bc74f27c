"""What a request's holds would do to the counters: the all of "all or nothing", before any of it is done."""

from collections.abc import Sequence

from authz.store.counting import KINDS, State
from authz.store.leases import Leases
from authz.store.protocols import Hold, Kind
from authz.store.tables import Tables

_CONCURRENCY = Kind.CONCURRENCY  # quicker to find than a member
_CHARGE = tuple(kind.charge for kind in KINDS)
_USED = tuple(kind.used for kind in KINDS)


class Stage:
    """The counters with every hold on them, and which holds do not fit."""

    __slots__ = ("counters", "denied", "fresh", "has_slots", "left", "over", "states")

    def __init__(self) -> None:
        self.counters: dict[str, State] = {}
        self.states: list[State | None] = []  # the same in the order of the holds; None: a slot
        self.left: list[int] = []  # what is neither used then nor owed, in the same order; 0 for a slot
        self.denied: list[int] = []  # indices of the holds
        self.over: list[int] = []  # of the shadow holds that would be denied
        self.fresh = 0  # counters that begin
        self.has_slots = False


def stage(tables: Tables, holds: Sequence[Hold], now: int) -> Stage:
    """Charge every hold to a copy. ValueError: two holds share a counter."""
    staged = Stage()
    counters, states, all_left, slots = staged.counters, staged.states, staged.left, None
    there = tables.counters
    for index, hold in enumerate(holds):
        kind = hold.kind
        if kind is _CONCURRENCY:
            slots = {hold.key} if slots is None else slots | {hold.key}
            states.append(None)
            all_left.append(0)
            _stage_slot(tables.leases.get(hold.key), staged, index, hold, now)
            continue
        key = hold.key
        state = there.get(key)
        if state is not None and state[0] == kind and state[1] == hold.window:
            kind = state[0]  # a plain number, which is quicker to look up by
        else:
            state = tables.find(hold)  # on the disk perhaps
            if state is None:
                staged.fresh += 1
        after = _CHARGE[kind](hold, state, now)
        left = hold.quota - hold.owed - _USED[kind](after)
        if left < 0 and hold.amount:
            if not hold.shadow:
                staged.denied.append(index)
            else:
                staged.over.append(index)
                after = KINDS[kind].cap(after)
        counters[key] = after
        states.append(after)
        all_left.append(left)
    staged.has_slots = slots is not None
    if len(counters) + len(slots or ()) != len(holds):
        raise ValueError("two holds share a counter: each would fit alone, together they would not")
    return staged


def _stage_slot(leases: Leases | None, staged: Stage, index: int, hold: Hold, now: int) -> None:
    taken = leases.count(now) if leases is not None else 0
    if hold.amount and taken >= hold.quota - hold.owed:
        (staged.over if hold.shadow else staged.denied).append(index)
