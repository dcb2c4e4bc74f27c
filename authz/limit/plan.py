"""What one request holds: the parts of all policies that count it."""

from collections.abc import Iterator, Sequence

from msgspec import Struct

from authz.limit.estimate import BOUND_IN, Bound
from authz.limit.planned import Planned
from authz.limit.planner import MOST_KEPT, Planner
from authz.limit.policy import Policy
from authz.limit.spending import Spending
from authz.quota import TOKEN_UNITS, OwnedQuotas
from authz.recent import Recent
from authz.store.protocols import Directory, Hold
from authz.subject import Subject


class Plan(Struct, frozen=True, gc=False):
    """The parts in the order of the route's policies, then the limits of the key, the user and the team."""

    parts: tuple[Planned, ...] = ()
    holds: tuple[Hold, ...] = ()  # those of the parts

    def with_part(self, part: Planned) -> "Plan":
        """One policy more."""
        return Plan((*self.parts, part), (*self.holds, part.hold))


class Planners:
    """The policies of one route at work.

    Where none of them looks at more than the subject and the model, the whole plan
    of a caller is kept: most come again. How much a request uses may differ.
    """

    __slots__ = ("_are_steady", "_kept", "_names", "_planners")

    def __init__(self, planners: Sequence[Planner]) -> None:
        self._planners = tuple(planners)
        self._names = tuple([planner.policy.name for planner in planners])
        self._are_steady = all(planner.is_steady for planner in planners)
        self._kept: Recent[tuple[str, str | None, str | None], _Kept] = Recent(MOST_KEPT)

    def __iter__(self) -> Iterator[Planner]:
        return iter(self._planners)

    def plan(self, spending: Spending, directory: Directory, now: int) -> Plan:
        """Every policy of the route that applies, and every limit of the key, the user and the team."""
        if not self._are_steady or self._are_adjusted(directory):
            return self._make(spending, directory, now)
        subject = spending.subject
        caller = (subject.user, subject.key, spending.model)
        kept = self._kept.get(caller)
        if kept is None or kept.subject is not subject or not kept.since <= now < kept.until:
            kept = _Kept.of(subject, self._make(spending, directory, now))
            self._kept.put(caller, kept)
        return kept.needing(spending.bound) if kept.measured else kept.plan

    def _are_adjusted(self, directory: Directory) -> bool:
        """Whether any quota is another for a while: those are looked at anew each time."""
        return any(map(directory.adjustments, self._names))

    def _make(self, spending: Spending, directory: Directory, now: int) -> Plan:
        parts: list[Planned] = []
        for planner in self._planners:
            parts += planner.plan(spending, directory, now)
        for owned in spending.subject.quotas:
            parts += [planner.of_owner(owned, spending, now) for planner in _planners_of(owned)]
        return Plan(tuple(parts), tuple([part.hold for part in parts]))


class _Kept(Struct, frozen=True, gc=False):
    """The plan of a caller's last request."""

    subject: Subject  # told by identity: whoever changes a record makes another
    plan: Plan
    since: int  # ms; the calendar windows of the plan are others before
    until: int  # and from then on
    measured: tuple[int, ...]  # the parts of which each request needs another amount

    @classmethod
    def of(cls, subject: Subject, plan: Plan) -> "_Kept":
        bounds = [hold.bounds for hold in plan.holds if hold.bounds[2]]
        return cls(
            subject,
            plan,
            since=max([start for _, start, _, _ in bounds], default=0),
            until=min([end for _, _, end, _ in bounds], default=1 << 62),
            measured=tuple([at for at, hold in enumerate(plan.holds) if hold.unit in TOKEN_UNITS]),
        )

    def needing(self, bound: Bound) -> Plan:
        parts, holds = list(self.plan.parts), list(self.plan.holds)
        for index in self.measured:
            part = parts[index] = parts[index].needing(BOUND_IN[holds[index].unit](bound))
            holds[index] = part.hold
        return Plan(tuple(parts), tuple(holds))


_owners: dict[int, tuple[OwnedQuotas, tuple[Planner, ...]]] = {}


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
    if len(_owners) >= MOST_KEPT:
        _owners.clear()
    _owners[id(owned)] = (owned, planners)
    return planners
