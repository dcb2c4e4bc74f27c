"""How counters stand, put as the answers of a store: levels, and when what was refused could fit."""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from authz.quota import Unit
from authz.store.counting import KINDS, State, aligned
from authz.store.protocols import Exhausted, Hold, Kind, Level, Outcome, Settled
from authz.store.reservations import Reservation
from authz.store.shards import Shards
from authz.store.tables import Tables

_CALENDAR, _CONCURRENCY = Kind.CALENDAR, Kind.CONCURRENCY  # quicker to find than a member
_REQUESTS = Unit.REQUESTS
_VIEW = tuple(kind.view for kind in KINDS)
_USED = tuple(kind.used for kind in KINDS)
_RESET = tuple(kind.reset for kind in KINDS)
_MARK = tuple(kind.mark for kind in KINDS)
_NOTHING_HELD = (0, 0)


def views(tables: Tables, holds: Sequence[Hold], now: int) -> list[State | None]:
    """The counter of each hold as it stands at `now`; None: a slot."""
    return [
        _VIEW[hold.kind](hold, tables.find(hold), now) if hold.kind is not _CONCURRENCY else None
        for hold in holds
    ]


def exhausted(tables: Tables, denied: Sequence[int], holds: Sequence[Hold], now: int) -> Exhausted:
    """The refusal: how all counters stand, and the wait until every denied hold could fit."""
    states = views(tables, holds, now)
    waits = []
    for index in denied:
        hold, state = holds[index], states[index]
        if state is not None:
            waits.append(KINDS[hold.kind].wait(hold, state, now))
        elif hold.quota > hold.owed:
            waits.append(tables.leases[hold.key].wait(now))
        else:
            waits.append(-1)
    wait = -1 if min(waits) < 0 else max(waits)
    return Exhausted(tuple(denied), wait, levels(tables, holds, states, left(holds, states), now))


def left(holds: Sequence[Hold], states: Sequence[State | None]) -> list[int]:
    """What of each quota is neither used nor owed, as `levels` wants it; below 0 where more is."""
    return [
        hold.quota - hold.owed - _USED[state[0]](state) if state is not None else 0
        for hold, state in zip(holds, states, strict=True)
    ]


def levels(
    tables: Tables,
    holds: Sequence[Hold],
    states: Sequence[State | None],
    left: Sequence[int],
    now: int,
    *,
    asked: bool = False,
) -> tuple[Level, ...]:
    """A level for each hold, the state of its counter and what it leaves of the quota.

    `asked`: slots as they would be with one more.
    """
    answer = []
    running = tables.held
    for index, hold in enumerate(holds):
        state, rest = states[index], left[index]
        if state is None:
            answer.append(_slots(tables, hold, now, asked))
            continue
        held = _held(running, hold, state, rest) if hold.unit is not _REQUESTS else 0
        answer.append(Level(rest if rest > 0 else 0, _RESET[state[0]](state, now), held))
    return tuple(answer)


def _held(running: Shards[tuple[int, int]], hold: Hold, state: State, left: int) -> int:
    """What of the used part running requests hold, in the same window."""
    mark, held = running.get(hold.key) or _NOTHING_HELD
    return min(held, hold.quota - hold.owed - left) if held and mark == _MARK[state[0]](state) else 0


def _slots(tables: Tables, hold: Hold, now: int, asked: bool) -> Level:
    leases = tables.leases.get(hold.key)
    running = leases.count(now) if leases is not None else 0
    reset = leases.reset(now) if leases is not None else 0
    left = hold.quota - hold.owed - running - (asked and hold.amount > 0)
    return Level(max(0, left), reset, running)


def settled(
    tables: Tables, outcome: Outcome, made: Reservation, after: Mapping[str, State | None], now: int
) -> Settled:
    """How the counters of a settled reservation stand. They may be in a window that its holds do not know."""
    holds, states = [], []
    for index, hold in enumerate(made.holds):
        label = made.labels[index]
        if label is None:
            continue
        key, kind = hold.key, hold.kind
        if kind is _CALENDAR:
            states.append(aligned.current(hold, after[key], label, now))
        else:
            states.append(_VIEW[kind](hold, after[key], now))
        holds.append(hold if not hold.owed else replace(hold, owed=0))
    return Settled(outcome, tuple(holds), levels(tables, holds, states, left(holds, states), now))
