"""Whether a request is over a limit: all of its descriptors in one reservation.

A refused request charges nothing anywhere. With `compat` it charges every counter, also those that are over
already, as envoyproxy/ratelimit does: it adds first and compares then.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from authz.quota import MAX_AMOUNT, Unit
from authz.ratelimit.headers import HeaderNames
from authz.ratelimit.limits import Limit, Rules
from authz.ratelimit.match import BadRequest, Descriptor, counter_of, match_all
from authz.store.protocols import Counters, Exhausted, Hold, Kind, Level

_FIXED, _REQUESTS = Kind.FIXED, Unit.REQUESTS  # quicker to find than members
UNLIMITED = 2**32 - 1  # what remains of a limit that is none


class Status(Struct, frozen=True):
    """How one descriptor fares. Without a limit it meets none, or an unlimited one."""

    over: bool = False
    limit: Limit | None = None
    remaining: int = 0
    reset_s: int = 0  # until the window ends, rounded up


class Answer(Struct, frozen=True):
    """Of a whole request; statuses follow the order of its descriptors."""

    over: bool
    statuses: Sequence[Status]
    headers: Sequence[tuple[str, str]] = ()


class Part(Struct, frozen=True):
    """What a question holds of one descriptor. Without a counter its status is always the same, `idle`."""

    idle: Status
    limit: Limit | None = None
    at: int = -1  # which hold counts it
    above: int = 0  # how much its quota is above that of the hold
    amount: int = 0


class Question(Struct, frozen=True):
    """A request under certain rules. As long as they are in force its bytes say what it asks, every time."""

    rules: Rules
    parts: tuple[Part, ...]
    holds: tuple[Hold, ...]


class _Ask:
    """What a request wants of one counter: several of its descriptors may be the same one."""

    __slots__ = ("amount", "at", "limits")

    def __init__(self, at: int) -> None:
        self.at = at  # which hold it is
        self.amount = 0
        self.limits: list[Limit] = []

    def hold(self, counter: str, *, compat: bool) -> Hold:
        """All of it together must fit the smallest of its limits that refuse at all; `compat`: it fits."""
        smallest = self.limits[0]
        if len(self.limits) > 1:
            live = [limit for limit in self.limits if not limit.shadow] or self.limits
            smallest = min(live, key=_requests)
        assert smallest.period is not None
        window = smallest.period.seconds * 1000
        quota = MAX_AMOUNT if compat else smallest.requests_per_unit
        shadow = compat or smallest.shadow
        return Hold(counter, _FIXED, _REQUESTS, quota, self.amount, window, shadow=shadow)


def _requests(limit: Limit) -> int:
    return limit.requests_per_unit


_NOT_LIMITED = Part(Status())
_UNLIMITED = Part(Status(remaining=UNLIMITED))


class RateLimiter:
    """Answers requests. `rules` may be replaced when the files change."""

    def __init__(
        self,
        counters: Counters,
        rules: Rules,
        new_id: Callable[[], str],
        *,
        compat: bool = False,
        headers: HeaderNames | None = None,
        undone_within_ms: int = 0,
    ) -> None:
        """`undone_within_ms`: how long the store must know a reservation to take it back.

        0 is right where the counters are in this process. A store that is reached over a network takes back
        what it did not answer in time, and a Cluster what one of its servers refused.
        """
        self.rules = rules
        self._counters = counters
        self._new_id = new_id
        self._compat = compat
        self._headers = headers
        self._undone_within_ms = undone_within_ms

    async def decide(self, domain: str, descriptors: Sequence[Descriptor], hits: int = 0) -> Answer:
        """`question` and `answer`."""
        return await self.answer(self.question(domain, descriptors, hits))

    def question(self, domain: str, descriptors: Sequence[Descriptor], hits: int = 0) -> Question:
        """By the rules of now. `hits` counts for descriptors that do not say how many; 0 is 1.

        Raises BadRequest.
        """
        if not domain:
            raise BadRequest("rate limit domain must not be empty")
        if not descriptors:
            raise BadRequest("rate limit descriptor list must not be empty")
        rules = self.rules
        asks: dict[str, _Ask] = {}
        parts: list[tuple[Limit | None, str, int]] = []
        for found, descriptor in zip(match_all(rules, domain, descriptors), descriptors, strict=True):
            if found is None or found.limit.period is None:
                parts.append((None if found is None else found.limit, "", 0))
                continue
            amount = min(MAX_AMOUNT, (hits or 1) if descriptor.hits is None else descriptor.hits)
            counter = counter_of(domain, found.counted, found.limit.period.name)
            ask = asks.get(counter)
            if ask is None:
                ask = asks[counter] = _Ask(len(asks))
            ask.amount = min(MAX_AMOUNT, ask.amount + amount)
            ask.limits.append(found.limit)
            parts.append((found.limit, counter, amount))
        holds = tuple([ask.hold(counter, compat=self._compat) for counter, ask in asks.items()])
        return Question(
            rules,
            tuple([_part(limit, asks.get(counter), amount, holds) for limit, counter, amount in parts]),
            holds,
        )

    async def answer(self, question: Question) -> Answer:
        """Suspends only where the store does. Raises StoreUnavailable."""
        if not question.holds:
            return self._answer([part.idle for part in question.parts])
        result = await self._counters.reserve(self._new_id(), "", question.holds, self._undone_within_ms)
        if self._compat:
            return self._answer(_added(question, result.levels))
        denied = result.denied if isinstance(result, Exhausted) else ()
        return self._answer(_reserved(question, result.levels, denied))

    def _answer(self, statuses: Sequence[Status]) -> Answer:
        over = any(status.over for status in statuses)
        if self._headers is None:
            return Answer(over, statuses)
        nearest = _nearest(statuses)
        if nearest is None or nearest.limit is None:
            return Answer(over, statuses)
        headers = (
            (self._headers.limit, str(nearest.limit.requests_per_unit)),
            (self._headers.remaining, str(nearest.remaining)),
            (self._headers.reset, str(nearest.reset_s)),
        )
        return Answer(over, statuses, headers)


def _part(limit: Limit | None, ask: _Ask | None, amount: int, holds: Sequence[Hold]) -> Part:
    if limit is None:
        return _NOT_LIMITED
    if ask is None:
        return _UNLIMITED
    return Part(_NOT_LIMITED.idle, limit, ask.at, limit.requests_per_unit - holds[ask.at].quota, amount)


def _reserved(question: Question, levels: Sequence[Level], denied: Sequence[int]) -> list[Status]:
    statuses = []
    for part in question.parts:
        limit, at = part.limit, part.at
        if limit is None:
            statuses.append(part.idle)
            continue
        remaining = levels[at].remaining + part.above
        over = at in denied and not limit.shadow
        statuses.append(Status(over, limit, remaining if remaining > 0 else 0, _seconds(levels[at])))
    return statuses


def _added(question: Question, levels: Sequence[Level]) -> list[Status]:
    """Nothing is ever refused by the store: what it counted is compared here."""
    # One descriptor after the other: of two that share a counter the second sees what the first added.
    used = [
        MAX_AMOUNT - level.remaining - hold.amount for hold, level in zip(question.holds, levels, strict=True)
    ]
    statuses = []
    for part in question.parts:
        limit, at = part.limit, part.at
        if limit is None:
            statuses.append(part.idle)
            continue
        used[at] += part.amount
        remaining = limit.requests_per_unit - used[at]
        statuses.append(
            Status(remaining < 0 and not limit.shadow, limit, max(0, remaining), _seconds(levels[at]))
        )
    return statuses


def _seconds(level: Level) -> int:
    return -(-level.reset_ms // 1000)


def _nearest(statuses: Sequence[Status]) -> Status | None:
    """The last that is over, else the first of those with the least left."""
    nearest: Status | None = None
    for status in statuses:
        if status.limit is None:
            continue
        if status.over or nearest is None or (status.remaining < nearest.remaining and not nearest.over):
            nearest = status
    return nearest
