"""Windows that begin and end at set moments: `fixed` (aligned to the epoch) and `calendar`.

State: `(kind, window, start, end, next_end, used, debt)`. `debt` is the part
of `used` that came in beyond its holds; what of it stands above the quota is
carried into the window that follows, up to one quota. A hold belongs to its
window instance for ever: a closed one takes no refund. `next_end` is `end`
where it is not known, and 0 where that is not known either.
"""

from authz.quota import MAX_AMOUNT
from authz.store.protocols import Hold, Kind, StoreUnavailable

State = tuple[int, ...]

_CALENDAR = Kind.CALENDAR  # quicker to find than a member
START, END, NEXT_END, USED, DEBT = range(2, 7)
LONGEST = 64 * 86_400_000  # ms: no shorter than two months


def _window(hold: Hold, now: int) -> tuple[int, int, int, int]:
    """(start of the one before, start, end, next end) of the window that holds `now`."""
    if hold.kind is not _CALENDAR:
        length = hold.window
        start = now - now % length
        return start - length, start, start + length, start + 2 * length
    before, start, end, next_end = hold.bounds
    if start <= now < end:
        return before, start, end, next_end
    if before <= now < start:
        return before, before, start, end
    if end <= now < next_end:  # the border passed between the caller's look at the clock and ours
        return start, end, next_end, next_end
    raise StoreUnavailable("the clock jumped while a calendar limit was checked; try again")


def view(hold: Hold, state: State | None, now: int) -> State:
    if state is not None and state[START] <= now < state[END]:
        return state
    before, start, end, next_end = _window(hold, now)
    if state is None:
        return (hold.kind.value, hold.window, start, end, next_end, 0, 0)
    if start <= state[START]:
        if now < state[END]:
            return state
        return (
            hold.kind.value,
            hold.window,
            start,
            end,
            next_end,
            *state[USED:],
        )  # the calendar itself was changed, or where it ends was not known
    carry = _carry(hold, state) if state[END] == start or state[START] == before else 0
    return (hold.kind.value, hold.window, start, end, next_end, carry, carry)


def _carry(hold: Hold, state: State) -> int:
    """What of the debt stands above the quota, up to one quota."""
    return min(hold.quota, state[DEBT], max(0, state[USED] - hold.quota))


def charge(hold: Hold, state: State | None, now: int) -> State:
    if state is None or not state[START] <= now < state[END]:
        state = view(hold, state, now)
    kind, window, start, end, next_end, used, debt = state
    return (kind, window, start, end, next_end, used + hold.amount, debt)


def used(state: State) -> int:
    return state[USED]


def wait(hold: Hold, state: State, now: int) -> int:
    return -1 if hold.amount > hold.quota - hold.owed else max(1, state[END] - now)


def reset(state: State, now: int) -> int:
    left = state[END] - now
    return left if left > 0 else 0


def refund(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State | None:
    if state is None or state[START] != label[START] or now >= state[END]:
        return state
    return (*state[:USED], max(0, state[USED] - amount), state[DEBT])


def owe(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State:
    """To the window that is current now."""
    kind, window, start, end, next_end, used, debt = current(hold, state, label, now)
    return (
        kind,
        window,
        start,
        end,
        next_end,
        min(MAX_AMOUNT, used + amount),
        min(MAX_AMOUNT, debt + amount),
    )


def current(hold: Hold, state: State | None, label: State, now: int) -> State:
    """`view`, long after the hold was made: of a calendar only the borders met so far are known.

    A window whose end is beyond them is closed at once, with no next end: who comes with
    newer bounds finds its start, and goes on with it.
    """
    if hold.kind is not _CALENDAR:
        return view(hold, state, now)
    if state is not None and state[START] <= now < state[END]:
        return state
    floor = label[START] if state is None else max(label[START], state[START])
    now = max(now, floor)
    borders = {*hold.bounds, *_borders(label), *(_borders(state) if state is not None else ())}
    start = max(border for border in borders if border <= now)
    if state is not None and state[START] == start:
        return state
    later = sorted(border for border in borders if border > start)[:2] or [now + 1, 0]
    carry = _carry(hold, state) if state is not None and state[END] == start else 0
    return (hold.kind.value, hold.window, start, later[0], later[-1], carry, carry)


def _borders(state: State) -> State:
    return state[START:USED] if state[NEXT_END] else state[START:END]


def cap(state: State) -> State:
    return (*state[:USED], min(state[USED], MAX_AMOUNT), state[DEBT])


def mark(state: State) -> int:
    return state[START]


def spent_at(state: State) -> int:
    if state[NEXT_END] > state[END]:
        return state[NEXT_END] if state[DEBT] else state[END]
    return state[END] + LONGEST  # a border is not known
