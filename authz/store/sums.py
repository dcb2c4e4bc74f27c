"""What the ledger sums, and how a range of time falls into whole days and single entries."""

from collections.abc import Sequence
from typing import NamedTuple

from authz.store.days import Days

DIMENSIONS = ("user", "team", "key", "model", "route", "gateway", "source")
AMOUNTS = ("input", "output", "cached", "reasoning", "cost")
MOST = 2**63 - 1  # of a sum: what 64 bits hold

Span = tuple[int, int]
"""Moments [begin, end) in ms; the same twice: nothing."""

NOTHING: Span = (0, 0)


class Parts(NamedTuple):
    """A range as whole days [first, last), and the entries of a day before and of a day after them."""

    first: str
    last: str
    head: str  # the day that `before` is of
    before: Span
    tail: str  # the day that `after` is of
    after: Span


def split(days: Days, kept_from: int, since: int, until: int) -> Parts:
    """The parts of [since, until). Of a moment whose single entries are not kept, the whole day counts."""
    head, tail = days.at(since), days.at(until)
    first, before, last, after = head.name, NOTHING, tail.name, NOTHING
    if head.start < since >= kept_from:
        first, before = days.at(head.end).name, (since, min(until, head.end))
    if tail.start < until and not (head == tail and any(before)):
        if tail.start >= kept_from:
            after = (tail.start, until)
        else:
            last = days.at(tail.end).name
    return Parts(first, last, head.name, before, tail.name, after)


def check_known(names: Sequence[str], among: Sequence[str]) -> None:
    """Raises ValueError for what the ledger does not have."""
    for name in names:
        if name not in among:
            raise ValueError(f"the ledger has no {name!r}; it has {', '.join(among)}")
