"""What all requests of a caller for one model on a route share: put together once, most come again."""

from msgspec import Struct

from authz.limit.estimate import BOUND_IN, Bound
from authz.limit.plan import Plan, Planners
from authz.limit.spending import Spending
from authz.passage import Passage, passage_of
from authz.quota import TOKEN_UNITS
from authz.recent import Recent, RecentOfMany
from authz.store.protocols import Directory
from authz.subject import Subject
from authz.upstream import Backend

MOST_OF_KEYS = 2_097_152  # courses of one route, of keys and models that are on record
MOST_OTHERS = 16_384  # where callers can choose a name
KEPT_MS = 600_000  # a course that nobody took for this long, or at most twice that, is forgotten


class Course(Struct, frozen=True, gc=False):
    """Of a caller's last request. `plan` is None where that one had a plan of its own."""

    subject: Subject  # told by identity: whoever changes a record makes another
    backend: Backend | None  # this too
    proven: bool
    passage: Passage
    plan: Plan | None = None
    since: int = 0  # ms; the calendar windows of the plan are others before
    until: int = 1 << 62  # and from then on
    measured: tuple[int, ...] = ()  # the parts of which each request needs another amount

    def needing(self, plan: Plan, bound: Bound) -> Plan:
        """The plan of a request that uses so much."""
        if not self.measured:
            return plan
        parts, holds = list(plan.parts), list(plan.holds)
        for index in self.measured:
            part = parts[index] = parts[index].needing(BOUND_IN[holds[index].unit](bound))
            holds[index] = part.hold
        return Plan(tuple(parts), tuple(holds))


_Caller = tuple[str, str | None, str | None]  # user, key, model


def _is_on_record(spending: Spending) -> bool:
    """Whether there are no more such callers than records: a key of its own user, and no model unknown."""
    subject = spending.subject
    is_own = subject.key is not None and not subject.key_home
    return is_own and (spending.model is None or spending.known is not None)


class Courses:
    """Those of one route. `remove` are request headers that never go upstream."""

    __slots__ = ("_of_keys", "_others", "_remove", "_turns_at", "planners")

    def __init__(self, planners: Planners, remove: tuple[str, ...] = ()) -> None:
        self.planners = planners
        self._remove = remove
        self._of_keys: RecentOfMany[_Caller, Course] = RecentOfMany(MOST_OF_KEYS)
        self._others: Recent[_Caller, Course] = Recent(MOST_OTHERS)
        self._turns_at = 0

    def of(
        self, spending: Spending, backend: Backend | None, directory: Directory, now: int
    ) -> tuple[Plan, Passage]:
        """What the request holds, and what it carries upstream.

        ValueError: a value cannot stand in a header (attack 32).
        """
        subject, proven = spending.subject, spending.request.gateway.proven
        if now >= self._turns_at:
            self._of_keys.turn()
            self._others.turn()
            self._turns_at = now + KEPT_MS
        caller = (subject.user, subject.key, spending.model)
        shares = self.planners.are_steady and not self.planners.are_adjusted(directory)
        course = self._of_keys.get(caller) or self._others.get(caller)
        if (
            course is None
            or course.subject is not subject
            or course.backend is not backend
            or course.proven is not proven
            or not course.since <= now < course.until
            or (shares and course.plan is None)  # what was adjusted then is no more
        ):
            plan = self.planners.plan(spending, directory, now) if shares else None
            course = self._begin(spending, backend, plan)
            (self._of_keys if _is_on_record(spending) else self._others).put(caller, course)
        if not shares or course.plan is None:
            return self.planners.plan(spending, directory, now), course.passage
        return course.needing(course.plan, spending.bound), course.passage

    def _begin(self, spending: Spending, backend: Backend | None, plan: Plan | None) -> Course:
        subject, proven = spending.subject, spending.request.gateway.proven
        passage = passage_of(subject, spending.model, backend, self._remove, proven=proven)
        if plan is None:
            return Course(subject, backend, proven, passage)
        bounds = [hold.bounds for hold in plan.holds if hold.bounds[2]]
        return Course(
            subject,
            backend,
            proven,
            passage,
            plan,
            since=max([start for _, start, _, _ in bounds], default=0),
            until=min([end for _, _, end, _ in bounds], default=1 << 62),
            measured=tuple([at for at, hold in enumerate(plan.holds) if hold.unit in TOKEN_UNITS]),
        )
