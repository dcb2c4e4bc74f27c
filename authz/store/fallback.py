"""Counters that go on while their store does not answer, as far as the limits of a request allow it.

A request with a hold that says DENY is refused. Else it is let through without the store: holds that say
ALLOW are counted and limit nothing, those that say LOCAL limit by this replica's share, whose bound stands
in `authz.store.shares`. It gets a name of its own, by which this replica settles it; when the store
answers again everything is entered there once (`authz.store.backlog`), and then any replica settles
it. Meanwhile requests that the store does answer are held against quotas less what this replica still
owes them. So one replica alone is never over; many are at most by the bound.

What was asked of the store and not answered charges nothing there: the store takes it back. A gateway's
own retry that comes to another replica, or after one that the store did answer, is another request.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from itertools import count

from msgspec.structs import replace

from authz.quota import Unit
from authz.store.backlog import Backlog, End, Enter, Waiting, enter
from authz.store.protocols import (
    Clock,
    Counters,
    Exhausted,
    Hold,
    OnFailure,
    Outcome,
    Remembered,
    Reserved,
    Settled,
    StoreUnavailable,
)
from authz.store.reconciling import Reconciler, Without
from authz.store.reservations import REPLAY
from authz.store.shares import RETRY_MS, Shares
from authz.store.sightings import Sightings

log = logging.getLogger("authz.store")

MOST_WAITING = 100_000  # reservations: with their facts some 2 kB each


class FallbackCounters:
    """Counters around those of a shared store. `start` has what waits entered; `close` tries so once more."""

    def __init__(
        self,
        primary: Counters,
        clock: Clock,
        *,
        replicas: Callable[[], int] = lambda: 1,
        enter: Enter = enter,
        most_waiting: int = MOST_WAITING,
    ) -> None:
        """`replicas` is how many live, as far as is known, this one included."""
        self._without = Without()
        self._primary = primary
        self._clock = clock
        self._replicas = replicas
        self._enter = enter
        self._most = most_waiting
        self._sightings = Sightings()
        self._shares: Shares | None = None
        self._backlog = Backlog(most_waiting)
        self._serial = count(clock())  # names differ after a restart too
        self._reconciler = Reconciler(
            primary, clock, self._backlog, self._sightings, enter, self._without, self._end_if_done
        )

    @property
    def without(self) -> Without:
        """What was decided without the store; for metrics."""
        self._without.waiting = len(self._backlog)
        return self._without

    @property
    def owes(self) -> bool:
        """Whether the store does not know of everything that was let through."""
        return len(self._backlog) > 0

    async def durable(self) -> None:
        """Whether the store knows of every settlement. Raises StoreUnavailable: a restart loses some."""
        if self._backlog.ends:
            raise StoreUnavailable(
                f"{self._backlog.ends} requests that were let through without the store are over, "
                "and it was not told yet"
            )

    # -- Counters ----------------------------------------------------------------------------------

    def place(self, holds: Sequence[Hold]) -> str:
        return self._primary.place(holds)

    async def reserve(
        self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
    ) -> Reserved | Exhausted:
        asked: Sequence[Hold] = holds
        if len(self._backlog):
            before = self._backlog.asked_for(reservation)
            if before is not None and self._is_retry(before, gateway):
                return self._again(before, holds)
            asked = self._backlog.less_owed(holds)
        try:
            outcome = await self._primary.reserve(reservation, gateway, asked, ttl_ms, facts)
        except StoreUnavailable as failure:
            return self._reserve_without(failure, reservation, gateway, holds, ttl_ms, facts)
        self._sightings.note(asked, outcome.levels, self._clock(), self._backlog.owed)
        if self._without.since:
            self._end_if_done()
        if asked is not holds and isinstance(outcome, Exhausted):
            return _not_for_ever(outcome, holds)
        return outcome

    async def find(self, reservation: str, gateway: str) -> Remembered | Outcome:
        if self._shares is not None and self._backlog.get(reservation) is not None:
            return self._shares.engine.find(self._clock(), reservation, gateway)
        return await self._primary.find(reservation, gateway)

    async def settle(
        self, reservation: str, gateway: str, actual: Mapping[Unit, int], note: bytes = b""
    ) -> Settled:
        waiting = self._backlog.get(reservation)
        if self._shares is not None and waiting is not None:
            done = self._shares.engine.settle(self._clock(), reservation, gateway, actual, note)
            self._forget_changes(self._shares)
            if done.outcome in (Outcome.SETTLED, Outcome.CORRECTED):
                self._backlog.ended(waiting, End(dict(actual), note))
            return Settled(done.outcome)  # how a share stands says nothing of the counter
        done = await self._primary.settle(reservation, gateway, actual, note)
        self._sightings.note(done.holds, done.levels, self._clock(), self._backlog.owed)
        return done

    async def extend(self, reservation: str, gateway: str, ttl_ms: int, life_ms: int) -> bool:
        waiting = self._backlog.get(reservation)
        if self._shares is not None and waiting is not None:
            now = self._clock()
            lives = self._shares.engine.extend(now, reservation, gateway, ttl_ms, life_ms)
            self._forget_changes(self._shares)
            if lives:
                waiting.deadline = max(waiting.deadline, min(now + ttl_ms, waiting.created + life_ms))
            return lives
        return await self._primary.extend(reservation, gateway, ttl_ms, life_ms)

    async def peek(self, holds: Sequence[Hold]) -> Reserved | Exhausted:
        asked = self._backlog.less_owed(holds) if len(self._backlog) else holds
        try:
            return await self._primary.peek(asked)
        except StoreUnavailable:
            if any(_denies(hold) for hold in holds):
                raise
            shares = self._shares or self._new_shares()
            return shares.peek(self._clock(), holds)

    # -- without the store -------------------------------------------------------------------------

    def _reserve_without(
        self,
        failure: StoreUnavailable,
        reservation: str,
        gateway: str,
        holds: Sequence[Hold],
        ttl_ms: int,
        facts: bytes,
    ) -> Reserved | Exhausted:
        if any(_denies(hold) for hold in holds):
            raise failure
        if self._backlog.is_full:
            raise StoreUnavailable(
                f"{failure}; {self._most} requests were let through meanwhile, and no more are remembered"
            ) from failure
        now = self._clock()
        shares = self._begin(now, failure)
        name = f"local-{next(self._serial):x}-{reservation}"
        outcome = shares.reserve(now, name, gateway, holds, ttl_ms, facts)
        self._forget_changes(shares)
        if isinstance(outcome, Exhausted):
            self._without.refused += 1
            return outcome
        if any(hold.on_failure is OnFailure.LOCAL for hold in holds):
            self._without.shared += 1
        else:
            self._without.unlimited += 1
        self._backlog.add(
            Waiting(name, reservation, gateway, tuple(holds), facts, created=now, deadline=now + ttl_ms)
        )
        self._reconciler.wake()
        return replace(outcome, name=name)

    def _is_retry(self, before: Waiting, gateway: str) -> bool:
        now = self._clock()
        return (
            before.gateway == gateway
            and before.end is None
            and now < min(before.deadline, before.created + REPLAY)
        )

    def _again(self, before: Waiting, holds: Sequence[Hold]) -> Reserved:
        """The gateway's own retry: what it asks for is held already."""
        assert self._shares is not None
        peeked = self._shares.peek(self._clock(), [replace(hold, amount=0) for hold in holds])
        return Reserved(peeked.levels, replay=True, local=True, name=before.name)

    def _begin(self, now: int, failure: StoreUnavailable) -> Shares:
        if self._shares is None:
            self._shares = self._new_shares()
        if not self._without.since:
            self._without.since = now
            log.warning("limits with on_store_failure allow or local go on without the store: %s", failure)
        return self._shares

    def _new_shares(self) -> Shares:
        return Shares(self._sightings, self._replicas(), most_open=self._most)

    def _forget_changes(self, shares: Shares) -> None:
        """Nobody writes what the shares changed."""
        shares.engine.drop_changes()
        shares.engine.take_closed()

    def _end_if_done(self) -> None:
        """The store answers and knows everything: the next spell begins with what it tells."""
        if len(self._backlog):
            return
        if self._shares is not None:
            self._shares.close(self._clock())
            self._shares = None
        without = self._without
        if without.since:
            log.warning(
                "the store answers again, and knows what was decided without it: by now %d by shares, "
                "%d without a limit, %d refused",
                without.shared,
                without.unlimited,
                without.refused,
            )
            without.since = 0

    # -- the store answers again -------------------------------------------------------------------

    async def reconcile(self) -> bool:
        """Enter what waits, until nothing does (True) or the store takes no more of it."""
        return await self._reconciler.reconcile()

    async def start(self) -> None:
        """Enter what waits from now on, as soon as the store takes it."""
        self._reconciler.start()

    async def close(self) -> None:
        """Enter what waits if the store takes it now; the rest is lost with the process, and said so."""
        await self._reconciler.close()


def _not_for_ever(outcome: Exhausted, holds: Sequence[Hold]) -> Exhausted:
    """What never fits beside what is owed may fit once the store knows of it."""
    if outcome.wait_ms >= 0 or any(holds[index].amount > holds[index].quota for index in outcome.denied):
        return outcome
    return replace(outcome, wait_ms=RETRY_MS)


def _denies(hold: Hold) -> bool:
    return hold.on_failure is OnFailure.DENY and not hold.shadow
