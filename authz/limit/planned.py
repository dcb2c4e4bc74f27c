"""A policy's part of one request, and how it stands after the decision."""

from collections.abc import Sequence
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from authz.decision import Limit, LimitState
from authz.limit.headers import Shown
from authz.limit.partition import Partition
from authz.limit.policy import Policy
from authz.store.protocols import Exhausted, Hold, Reserved


class Planned(Struct, frozen=True, gc=False):
    """One policy's part of a request: the hold to make and what it means to a person."""

    policy: Policy
    partition: Partition
    hold: Hold
    limit: Limit
    shown: Shown | None

    def needing(self, amount: int) -> "Planned":
        """The same of a request that uses more or less."""
        if amount == self.hold.amount:
            return self
        hold, limit = replace(self.hold, amount=amount), replace(self.limit, needed=amount)
        return Planned(self.policy, self.partition, hold, limit, self.shown)


class Standings(Sequence[LimitState]):
    """How every policy stands after a decision, in plan order. Put together when somebody looks."""

    __slots__ = ("_outcome", "_planned")

    def __init__(self, planned: Sequence[Planned], outcome: Reserved | Exhausted) -> None:
        self._planned = planned
        self._outcome = outcome

    def __len__(self) -> int:
        return len(self._planned)

    @overload
    def __getitem__(self, index: int) -> LimitState: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[LimitState]: ...
    def __getitem__(self, index: int | slice) -> LimitState | Sequence[LimitState]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        level, outcome = self._outcome.levels[index], self._outcome
        exhausted = isinstance(outcome, Exhausted) and index in outcome.denied
        return LimitState(self._planned[index].limit, level.remaining, level.reset_ms / 1000, exhausted)
