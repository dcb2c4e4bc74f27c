"""Whether a request is over a limit: all of its descriptors in one reservation.

A refused request charges nothing anywhere. With `compat` it charges every counter, also those that are over
already, as envoyproxy/ratelimit does: it adds first and compares then.
"""

from collections.abc import Callable, Sequence

from msgspec import Struct

from authz.quota import MAX_AMOUNT, Unit
from authz.ratelimit.headers import HeaderNames
from authz.ratelimit.limits import Limit, Rules
from authz.ratelimit.match import BadRequest, Descriptor, Match, counter_of, match_all
from authz.store.protocols import Counters, Exhausted, Hold, Kind, Level

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


class _Ask:
    """What a request wants of one counter: several of its descriptors may be the same one."""

    __slots__ = ("amount", "at", "limits")

    def __init__(self, at: int) -> None:
        self.at = at  # which hold it is
        self.amount = 0
        self.limits: list[Limit] = []

    def hold(self, counter: str) -> Hold:
        """All of it together must fit the smallest of its limits that refuse at all."""
        live = [limit for limit in self.limits if not limit.shadow] or self.limits
        smallest = min(live, key=_requests)
        assert smallest.period is not None
        return _hold(
            counter, smallest.period.seconds, smallest.requests_per_unit, self.amount, live[0].shadow
        )


def _requests(limit: Limit) -> int:
    return limit.requests_per_unit


def _hold(counter: str, seconds: int, quota: int, amount: int, shadow: bool) -> Hold:
    return Hold(counter, Kind.FIXED, Unit.REQUESTS, quota, amount, seconds * 1000, shadow=shadow)


_NOT_LIMITED = Status()
_UNLIMITED = Status(remaining=UNLIMITED)


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
        """`hits` counts for descriptors that do not say how many; 0 is 1. Suspends only where the store does.

        Raises BadRequest and StoreUnavailable.
        """
        if not domain:
            raise BadRequest("rate limit domain must not be empty")
        if not descriptors:
            raise BadRequest("rate limit descriptor list must not be empty")
        matches = match_all(self.rules, domain, descriptors)
        amounts = [min(MAX_AMOUNT, (hits or 1) if each.hits is None else each.hits) for each in descriptors]
        asks: dict[str, _Ask] = {}
        counters: list[str] = []
        for found, amount in zip(matches, amounts, strict=True):
            if found is None or found.limit.period is None:
                counters.append("")
                continue
            counter = counter_of(domain, found.counted, found.limit.period.name)
            counters.append(counter)
            ask = asks.get(counter)
            if ask is None:
                ask = asks[counter] = _Ask(len(asks))
            ask.amount = min(MAX_AMOUNT, ask.amount + amount)
            ask.limits.append(found.limit)
        if not asks:
            statuses = [_idle(found) for found in matches]
        elif self._compat:
            statuses = await self._added(matches, amounts, counters, asks)
        else:
            statuses = await self._reserved(matches, counters, asks)
        return self._answer(statuses)

    async def _reserved(
        self, matches: Sequence[Match | None], counters: Sequence[str], asks: dict[str, _Ask]
    ) -> list[Status]:
        holds = [ask.hold(counter) for counter, ask in asks.items()]
        result = await self._counters.reserve(self._new_id(), "", holds, self._undone_within_ms)
        denied = result.denied if isinstance(result, Exhausted) else ()
        statuses = []
        for found, counter in zip(matches, counters, strict=True):
            if found is None or not counter:
                statuses.append(_idle(found))
                continue
            at = asks[counter].at
            level, limit = result.levels[at], found.limit
            remaining = max(0, level.remaining + limit.requests_per_unit - holds[at].quota)
            statuses.append(Status(at in denied and not limit.shadow, limit, remaining, _seconds(level)))
        return statuses

    async def _added(
        self,
        matches: Sequence[Match | None],
        amounts: Sequence[int],
        counters: Sequence[str],
        asks: dict[str, _Ask],
    ) -> list[Status]:
        """Nothing is ever refused by the store: what it counted is compared here."""
        holds = []
        for counter, ask in asks.items():
            period = ask.limits[0].period
            assert period is not None
            holds.append(_hold(counter, period.seconds, MAX_AMOUNT, ask.amount, True))
        levels = (await self._counters.reserve(self._new_id(), "", holds, 0)).levels
        # One descriptor after the other: of two that share a counter the second sees what the first added.
        used = {counter: MAX_AMOUNT - levels[ask.at].remaining - ask.amount for counter, ask in asks.items()}
        statuses = []
        for found, counter, amount in zip(matches, counters, amounts, strict=True):
            if found is None or not counter:
                statuses.append(_idle(found))
                continue
            used[counter] += amount
            limit = found.limit
            remaining = limit.requests_per_unit - used[counter]
            reset = _seconds(levels[asks[counter].at])
            statuses.append(Status(remaining < 0 and not limit.shadow, limit, max(0, remaining), reset))
        return statuses

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


def _idle(found: Match | None) -> Status:
    return _NOT_LIMITED if found is None else _UNLIMITED


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
