"""The arithmetic of each kind of counter: pure functions over tuples of integers.

A counter holds ONE number, settled + held: a hold is charged in full when it
is made and only ever corrected later, so a crash needs no work. States are
immutable tuples that describe themselves, `(kind, window, ...)`; what a change
returns is the next state, so a snapshot of many counters is a copy of nothing.
They hold numbers only, so the garbage collector does not follow them: a million
counters add nothing to its pauses.

Every kind offers the same functions:

- `charge(hold, state, now)`: the state rolled to `now` with the hold on it
- `view(hold, state, now)`: the state rolled to `now`
- `used(state)`: settled + held, in units, rounded up; more than the quota leaves beside what is owed:
  the hold does not fit
- `wait(hold, state, now)`: ms until the hold could fit; -1: never
- `reset(state, now)`: ms until all is free again
- `refund(hold, state, label, amount, now)`: give back an unused part of a hold
- `owe(hold, state, label, amount, now)`: charge what went beyond a hold
- `cap(state)`: held to the largest number that a store keeps; only a shadow counter gets there
- `mark(state)`: the window instance that a hold charged to this state belongs to; 0 where windows roll
- `spent_at(state)`: the moment from which the state is as good as none

`label` is the state that `charge` returned for the hold. A clock that steps
back never rolls a counter back.
"""

from types import ModuleType
from typing import Any

from authz.store.counting import aligned, gcra, sliding
from authz.store.protocols import Kind

State = tuple[Any, ...]

KINDS: tuple[ModuleType, ...] = (gcra, aligned, sliding, aligned)
"""By `Kind`, concurrency apart: leases are no arithmetic."""


def pack(state: State) -> tuple[Any, ...]:
    """For msgpack: every integer fits 64 bits."""
    return gcra.pack(state) if state[0] == Kind.GCRA else state


def unpack(packed: list[Any]) -> State:
    """The inverse of `pack`, from what msgpack reads back."""
    kind: int = packed[0]
    if kind == Kind.GCRA:
        return gcra.unpack(packed)
    if kind == Kind.SLIDING:
        return (kind, *packed[1:-1], tuple((bucket, amount) for bucket, amount in packed[-1]))
    return (kind, *packed[1:])


def spent_at(state: State) -> int:
    """The moment (ms) from which the state is as good as none."""
    moment: int = KINDS[state[0]].spent_at(state)
    return moment
