"""What was let through without the store, until the store knows of it.

Each is entered there once, whatever the counters say by then: what it holds is charged, and what it used
is settled if it is over, with the facts that make it an entry in the ledger. So counters come to the
truth, be it debt. Until then it is owed. A process that dies before loses what it owes, and nothing else.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

from msgspec import Struct
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.counting.sliding import PARTS
from authz.store.protocols import Counters, Exhausted, Hold, Kind, Outcome, Reserved, StoreUnavailable
from authz.store.reservations import REPLAY

ENDED_TTL_MS = 60_000
"""How long one that is over stays open at the store, if settling it does not follow at once."""

JOINS_MS = REPLAY - 1_000
"""So long after a first attempt another one is surely its retry."""


class End(Struct, frozen=True):
    """How it ended, as `Counters.settle` is told."""

    actual: Mapping[Unit, int]
    note: bytes


class Waiting:
    """One reservation that the store does not know yet."""

    __slots__ = (
        "asked_for",
        "created",
        "deadline",
        "end",
        "entered",
        "facts",
        "first_tried",
        "gateway",
        "holds",
        "name",
        "under_way",
    )

    def __init__(
        self,
        name: str,
        asked_for: str,
        gateway: str,
        holds: tuple[Hold, ...],
        facts: bytes,
        created: int,
        deadline: int,
    ) -> None:
        self.name = name
        self.asked_for = asked_for  # the id that it would have had
        self.gateway = gateway
        self.holds = holds
        self.facts = facts
        self.created = created
        self.deadline = deadline
        self.end: End | None = None
        self.first_tried = 0  # when it was first tried to enter it, since it was surely not there
        self.entered = False  # it is charged there; only its end may be missing
        self.under_way = False

    def still_counting(self, now: int) -> tuple[Hold, ...]:
        """The holds that are not over by themselves: their window, or with its request the slot."""
        return tuple(hold for hold in self.holds if self._counts(hold, now))

    def _counts(self, hold: Hold, now: int) -> bool:
        if hold.kind is Kind.CONCURRENCY:
            return self.end is None and now < self.deadline
        if hold.kind is Kind.CALENDAR:
            return now < (hold.bounds[2] if self.created < hold.bounds[2] else hold.bounds[3])
        if hold.kind is Kind.FIXED:
            return now // hold.window == self.created // hold.window
        if hold.kind is Kind.SLIDING:
            return now <= self.created + hold.window + hold.window // PARTS
        return True  # what drained of a level that others fill too, nobody knows


class Backlog:
    """All of them, the oldest first; and what they owe, by counter."""

    def __init__(self, most: int) -> None:
        self.owed: dict[str, int] = {}
        self.ends = 0  # of those that are over
        self._most = most
        self._waiting: dict[str, Waiting] = {}
        self._asked_for: dict[str, Waiting] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def is_full(self) -> bool:
        return len(self._waiting) >= self._most

    def get(self, name: str) -> Waiting | None:
        return self._waiting.get(name)

    def asked_for(self, reservation: str) -> Waiting | None:
        """The last one that was asked for under this id."""
        return self._asked_for.get(reservation)

    def add(self, waiting: Waiting) -> None:
        self._waiting[waiting.name] = self._asked_for[waiting.asked_for] = waiting
        for hold in waiting.holds:
            if hold.amount:
                self.owed[hold.key] = self.owed.get(hold.key, 0) + hold.amount

    def charged(self, waiting: Waiting) -> None:
        """The store has charged it, or it is given up: it is owed no more."""
        waiting.entered = True
        for hold in waiting.holds:
            if hold.amount:
                left = self.owed[hold.key] - hold.amount
                if left:
                    self.owed[hold.key] = left
                else:
                    del self.owed[hold.key]

    def ended(self, waiting: Waiting, end: End) -> None:
        """It is over; the store is to be told how."""
        self.ends += waiting.end is None
        waiting.end = end

    def remove(self, waiting: Waiting) -> None:
        del self._waiting[waiting.name]
        self.ends -= waiting.end is not None
        if self._asked_for.get(waiting.asked_for) is waiting:
            del self._asked_for[waiting.asked_for]

    def postpone(self, waiting: Waiting) -> None:
        """Others first, next time: one that the store does not take must not keep the rest from it."""
        self._waiting[waiting.name] = self._waiting.pop(waiting.name)

    def next(self, most: int) -> list[Waiting]:
        """The oldest that nobody is at work on."""
        found: list[Waiting] = []
        for waiting in self._waiting.values():
            if not waiting.under_way:
                found.append(waiting)
                if len(found) == most:
                    break
        return found

    def less_owed(self, holds: Sequence[Hold]) -> Sequence[Hold]:
        """The holds, each with what is owed to its counter: admitted against the rest of its quota."""
        owed = self.owed
        return [
            replace(hold, owed=min(hold.quota, owed[hold.key])) if hold.key in owed else hold
            for hold in holds
        ]


Enter = Callable[[Counters, Waiting, Sequence[Hold], int, int], Awaitable[Reserved | None]]
"""Have a store charge a reservation that was let through without it: these holds, for so many ms from now on.

Nothing, if it knows the name already. Raises StoreUnavailable: it may have been charged, ask again.
"""


async def enter(
    primary: Counters, waiting: Waiting, holds: Sequence[Hold], ttl_ms: int, now: int
) -> Reserved | None:
    """As a reservation that nothing denies. It counts as made now: a store knows its own clock only.

    Again soon after an attempt that was not answered, it joins that one as a retry does, and nobody takes
    it back any more. Later that attempt was taken back, unless the store knows it; of one that is open it is
    told that it runs, so that what would take it back comes too late.
    """
    if waiting.first_tried and now >= waiting.first_tried + JOINS_MS:
        if await primary.extend(waiting.name, waiting.gateway, ttl_ms, ttl_ms):
            return None
        known = await primary.find(waiting.name, waiting.gateway)
        if known is not Outcome.UNKNOWN:
            return None
        waiting.first_tried = 0
    waiting.first_tried = waiting.first_tried or now
    forced = [replace(hold, shadow=True) for hold in holds]
    outcome = await primary.reserve(waiting.name, waiting.gateway, forced, ttl_ms, waiting.facts)
    if isinstance(outcome, Exhausted):
        raise StoreUnavailable("the store refused what nothing may refuse; this is a fault of authz")
    return outcome
