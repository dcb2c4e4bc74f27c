"""A sliding window of 60 sub-windows, each counted whole: never over the quota in any interval of its length.

State: `(kind, window, head, newest, older_sum, older)`. `head` numbers the
newest sub-window, `newest` is what is in it, `older` the pairs (number, amount)
before it that still count, newest first. A charge touches `newest` alone.
"""

from typing import Any

from authz.quota import MAX_AMOUNT
from authz.store.protocols import Hold, Kind

State = tuple[Any, ...]

PARTS = 60
SLIDING = Kind.SLIDING.value
WINDOW, HEAD, NEWEST, OLDER_SUM, OLDER = range(1, 6)


def view(hold: Hold, state: State | None, now: int) -> State:
    head = now // (hold.window // PARTS)
    if state is None:
        return (SLIDING, hold.window, head, 0, 0, ())
    if head <= state[HEAD]:
        return state
    kind, window, last, newest, older_sum, older = state
    if newest:
        older, older_sum = ((last, newest), *older), older_sum + newest
    kept = len(older)
    while kept and older[kept - 1][0] < head - PARTS:
        kept -= 1
        older_sum -= older[kept][1]
    if kept < len(older):
        older = older[:kept]
    return (kind, window, head, 0, older_sum, older)


def charge(hold: Hold, state: State | None, now: int) -> State:
    kind, window, head, newest, older_sum, older = view(hold, state, now)
    return (kind, window, head, newest + hold.amount, older_sum, older)


def used(state: State) -> int:
    total: int = state[NEWEST] + state[OLDER_SUM]
    return total


def wait(hold: Hold, state: State, now: int) -> int:
    room = hold.quota - hold.owed - hold.amount
    if room < 0:
        return -1
    left = used(state)
    for bucket, amount in (*reversed(state[OLDER]), (state[HEAD], state[NEWEST])):
        left -= amount
        if left <= room:
            return max(1, _gone_at(bucket, state) - now)
    return max(1, _gone_at(state[HEAD], state) - now)


def _gone_at(bucket: int, state: State) -> int:
    moment: int = (bucket + PARTS + 1) * (state[WINDOW] // PARTS)
    return moment


def reset(state: State, now: int) -> int:
    return max(0, spent_at(state) - now) if used(state) else 0


def refund(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State | None:
    if state is None:
        return None
    kind, window, head, newest, older_sum, older = view(hold, state, now)
    charged = label[HEAD]
    if charged == head:
        return (kind, window, head, max(0, newest - amount), older_sum, older)
    if charged < head - PARTS:
        return state
    # What was cut (`cap`) is not there to be given back.
    give = min(amount, next((held for bucket, held in older if bucket == charged), 0))
    corrected = ((bucket, held - give if bucket == charged else held) for bucket, held in older)
    return (kind, window, head, newest, older_sum - give, tuple(pair for pair in corrected if pair[1]))


def owe(hold: Hold, state: State | None, label: State, amount: int, now: int) -> State:
    kind, window, head, newest, older_sum, older = view(hold, state, now)
    return (kind, window, head, min(MAX_AMOUNT, newest + amount), older_sum, older)


def cap(state: State) -> State:
    return (*state[:NEWEST], min(state[NEWEST], MAX_AMOUNT), *state[OLDER_SUM:])


def mark(state: State) -> int:
    return 0


def spent_at(state: State) -> int:
    if state[NEWEST]:
        return _gone_at(state[HEAD], state)
    return _gone_at(state[OLDER][0][0], state) if state[OLDER] else 0
