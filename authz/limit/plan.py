"""What one request holds: the parts of all policies that count it."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from authz.limit.planned import Planned
from authz.limit.planner import MOST_KEPT, Planner
from authz.limit.policy import Policy
from authz.limit.spending import Spending
from authz.quota import OwnedQuotas
from authz.recent import Recent
from authz.store.protocols import Directory, Hold, Kind


class Plan(Struct, frozen=True, gc=False):
    """The parts in the order of the route's policies, then the limits of the key, the user and the team."""

    parts: tuple[Planned, ...] = ()
    holds: tuple[Hold, ...] = ()  # those of the parts

    def with_part(self, part: Planned) -> "Plan":
        """One policy more."""
        return Plan((*self.parts, part), (*self.holds, part.hold))

    def without_slots(self) -> "Plan":
        """The same of a request that is over at once: it never runs beside others."""
        parts = tuple([part for part in self.parts if part.hold.kind is not Kind.CONCURRENCY])
        return Plan(parts, tuple([part.hold for part in parts]))


class Planners:
    """The policies of one route at work."""

    __slots__ = ("_names", "_planners", "are_steady")

    def __init__(self, planners: Sequence[Planner]) -> None:
        self._planners = tuple(planners)
        self._names = tuple([planner.policy.name for planner in planners])
        self.are_steady = all(planner.is_steady for planner in planners)
        """None of them looks at more than the subject and the model; how much a request uses may differ."""

    def __iter__(self) -> Iterator[Planner]:
        return iter(self._planners)

    def plan(self, spending: Spending, directory: Directory, now: int) -> Plan:
        """Every policy of the route that applies, and every limit of the key, the user and the team."""
        parts: list[Planned] = []
        for planner in self._planners:
            parts += planner.plan(spending, directory, now)
        for owned in spending.subject.quotas:
            parts += [planner.of_owner(owned, spending, now) for planner in _planners_of(owned)]
        return Plan(tuple(parts), tuple([part.hold for part in parts]))

    def are_adjusted(self, directory: Directory) -> bool:
        """Whether any quota is another for a while: those are looked at anew each time."""
        return any(map(directory.adjustments, self._names))


_owners: Recent[int, tuple[OwnedQuotas, tuple[Planner, ...]]] = Recent(MOST_KEPT)


def _planners_of(owned: OwnedQuotas) -> tuple[Planner, ...]:
    """An owner's own limits as policies: each counts that owner as a whole, on every route.

    Told by identity: a changed record is another object.
    """
    known = _owners.get(id(owned))
    if known is not None and known[0] is owned:
        return known[1]
    planners = tuple(
        Planner(Policy(name=f"{owned.kind}:{quota}", quota=quota, partition_by=(owned.kind,)))
        for quota in dict.fromkeys(owned.quotas)
    )
    _owners.put(id(owned), (owned, planners))
    return planners
