"""Windows that begin and end at set moments: `fixed` (aligned to the epoch) and `calendar`.

State: `(kind, window, start, end, next_end, used, debt)`. `debt` is the part
of `used` that came in beyond its holds; what of it stands above the quota is
carried into the window that follows, up to one quota. A hold belongs to its
window instance for ever: a closed one takes no refund.
"""

from authz.quota import MAX_AMOUNT
from authz.store.protocols import Hold, Kind, StoreUnavailable

State = tuple[int, ...]

START, END, NEXT_END, USED, DEBT = range(2, 7)


def _window(hold: Hold, now: int) -> tuple[int, int, int]:
    """(start, end, next end) of the window that holds `now`."""
    if hold.kind is not Kind.CALENDAR:
        length = hold.window
        start = now - now % length
        return start, start + length, start + 2 * length
    before, start, end, next_end = hold.bounds
    if start <= now < end:
        return start, end, next_end
    if before <= now < start:
        return before, start, end
    if end <= now < next_end:  # the border passed between the caller's look at the clock and ours
        return end, next_end, 2 * next_end - end
    raise StoreUnavailable("the clock jumped while a calendar limit was checked; try again")


def view(hold: Hold, state: State | None, now: int) -> State:
    if state is not None and state[START] <= now < state[END]:
        return state
    start, end, next_end = _window(hold, now)
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
        )  # the calendar itself was changed
    carry = min(hold.quota, state[DEBT], max(0, state[USED] - hold.quota)) if state[END] == start else 0
    return (hold.kind.value, hold.window, start, end, next_end, carry, carry)


def charge(hold: Hold, state: State | None, now: int) -> State:
    if state is None or not state[START] <= now < state[END]:
        state = view(hold, state, now)
    kind, window, start, end, next_end, used, debt = state
    return (kind, window, start, end, next_end, used + hold.amount, debt)


def used(state: State) -> int:
    return state[USED]


def full(hold: Hold, state: State) -> bool:
    return state[USED] > hold.quota


def wait(hold: Hold, state: State, now: int) -> int:
    return -1 if hold.amount > hold.quota else max(1, state[END] - now)


def reset(state: State, now: int) -> int:
    return max(0, state[END] - now)


def refund(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State | None:
    if state is None or state[START] != label[START] or now >= state[END]:
        return state
    return (*state[:USED], max(0, state[USED] - amount), state[DEBT])


def owe(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State:
    """To the window that is current now. Of a calendar only the hold's bounds are known: they go on."""
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
    if hold.kind is not Kind.CALENDAR:
        return view(hold, state, now)
    known = state if state is not None and state[START] >= label[START] else label
    start, end, next_end = known[START:USED]
    while now >= end:
        start, end, next_end = end, next_end, 2 * next_end - end
    if state is not None and state[START] == start:
        return state
    carry = 0
    if state is not None and state[END] == start:
        carry = min(hold.quota, state[DEBT], max(0, state[USED] - hold.quota))
    return (hold.kind.value, hold.window, start, end, next_end, carry, carry)


def cap(state: State) -> State:
    return (*state[:USED], min(state[USED], MAX_AMOUNT), state[DEBT])


def mark(state: State) -> int:
    return state[START]


def spent_at(state: State) -> int:
    return state[NEXT_END] if state[DEBT] else state[END]
