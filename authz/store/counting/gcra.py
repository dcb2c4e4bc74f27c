"""A bucket that drains steadily: the generic cell rate algorithm (ITU-T I.371), kept as a level.

State: `(kind, window, rate, level, at, returned, since)`. The level is scaled
by the window length, so that `rate` units per `window` ms drain `rate` of it
each ms and nothing is ever rounded. It admits at most burst + rate x t in any t.

Giving back needs three guards, each of which keeps a refund from making
capacity: no more than what the hold left behind minus what drained since;
minus what other refunds `returned` since; and nothing if the bucket was empty
meanwhile (`since` is when it last began to fill).
"""

from typing import Any

from authz.quota import MAX_AMOUNT
from authz.store.protocols import Hold, Kind

State = tuple[int, ...]

GCRA = Kind.GCRA.value  # a plain number: the collector has nothing to follow in a state
WINDOW, RATE, LEVEL, AT, RETURNED, SINCE = range(1, 7)
NEVER = MAX_AMOUNT


def view(hold: Hold, state: State | None, now: int) -> State:
    if state is None:
        return (GCRA, hold.window, hold.rate, 0, now, 0, now)
    kind, window, rate, level, at, returned, since = state
    if now > at:
        level -= hold.rate * (now - at)
        if level < 0:
            level = 0
        return (kind, window, hold.rate, level, now, returned, since)
    return state if rate == hold.rate else (kind, window, hold.rate, level, at, returned, since)


def charge(hold: Hold, state: State | None, now: int) -> State:
    if state is None:
        return (GCRA, hold.window, hold.rate, hold.amount * hold.window, now, 0, now)
    kind, window, _, level, at, returned, since = state
    rate = hold.rate
    if now > at:
        level -= rate * (now - at)
        at = now
    if level <= 0:  # a new busy period: older holds have drained
        level = returned = 0
        since = at
    return (kind, window, rate, level + hold.amount * window, at, returned, since)


def used(state: State) -> int:
    return -(-state[LEVEL] // state[WINDOW])


def wait(hold: Hold, state: State, now: int) -> int:
    room = hold.quota - hold.owed - hold.amount
    if room < 0 or hold.rate <= 0:
        return -1
    excess = state[LEVEL] - room * hold.window
    return max(1, -(-excess // hold.rate) + state[AT] - now)


def reset(state: State, now: int) -> int:
    level, rate = state[LEVEL], state[RATE]
    if level == 0:
        return 0
    if rate <= 0:
        return NEVER
    left = state[AT] - now - (-level // rate)
    return left if left > 0 else 0


def refund(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State | None:
    if state is None:
        return None
    kind, window, rate, level, at, returned, since = _rolled(state, now)
    charged_at = label[AT]
    if charged_at < since:
        return state
    drained = max(rate, hold.rate) * (at - charged_at)
    left = label[LEVEL] - (returned - label[RETURNED]) - drained
    give = min(amount * window, max(0, left), level)
    return (kind, window, rate, level - give, at, returned + give, since) if give else state


def owe(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State:
    kind, window, rate, level, at, returned, since = (
        view(hold, None, now) if state is None else _rolled(state, now)
    )
    if level == 0:
        returned, since = 0, at
    return (kind, window, rate, min(MAX_AMOUNT * window, level + amount * window), at, returned, since)


def _rolled(state: State, now: int) -> State:
    """By the rate in force now, which is not always that of the hold: a reload may have changed it."""
    kind, window, rate, level, at, returned, since = state
    if now <= at:
        return state
    return (kind, window, rate, max(0, level - rate * (now - at)), now, returned, since)


def cap(state: State) -> State:
    return (*state[:LEVEL], min(state[LEVEL], MAX_AMOUNT * state[WINDOW]), *state[AT:])


def mark(state: State) -> int:
    return 0


def spent_at(state: State) -> int:
    if state[LEVEL] == 0:
        return state[AT]
    return state[AT] - (-state[LEVEL] // state[RATE]) if state[RATE] > 0 else NEVER


def pack(state: State) -> tuple[Any, ...]:
    """Level and odometer can outgrow 64 bits when scaled: each as units and remainder."""
    kind, window, rate, level, at, returned, since = state
    return (kind, window, rate, *divmod(level, window), at, *divmod(returned, window), since)


def unpack(packed: list[Any]) -> State:
    kind, window, rate, level, part, at, returned, part_returned, since = packed
    return (kind, window, rate, level * window + part, at, returned * window + part_returned, since)
