"""Which counters a request touches, by how much, and how they stand afterwards."""

from collections.abc import Sequence
from typing import overload

from msgspec import Struct
from msgspec.structs import replace

from authz.calendar import calendar_bounds
from authz.decision import Limit, LimitState
from authz.limit.estimate import BOUND_IN
from authz.limit.headers import Shown, shown
from authz.limit.partition import (
    Partition,
    Values,
    counter_key,
    owner_of,
    owner_reader,
    partition_of,
    reader_of,
    spell,
)
from authz.limit.policy import Policy
from authz.limit.spending import Spending
from authz.quota import TOKEN_UNITS, Algorithm, OwnedQuotas
from authz.store.protocols import Directory, Exhausted, Hold, Kind, OnFailure, Reserved

_KINDS = {
    Algorithm.GCRA: Kind.GCRA,
    Algorithm.FIXED: Kind.FIXED,
    Algorithm.SLIDING: Kind.SLIDING,
    Algorithm.CALENDAR: Kind.CALENDAR,
    Algorithm.CONCURRENCY: Kind.CONCURRENCY,
}
_ON_FAILURE = {"deny": OnFailure.DENY, "allow": OnFailure.ALLOW, "local": OnFailure.LOCAL}
_NO_BOUNDS = (0, 0, 0, 0)
MOST_KEPT = 16_384  # partitions of one policy, or owners of limits, whose part is kept


class Planned(Struct, frozen=True):
    """One policy's part of a request: the hold to make and what it means to a person."""

    policy: Policy
    partition: Partition
    hold: Hold
    limit: Limit
    shown: Shown | None


class Planner:
    """A policy at work. It keeps what it planned for the partitions seen last, because most come again."""

    __slots__ = ("_beside", "_by_one", "_kept", "_name", "_needed", "_read", "_read_owner", "_when", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._name = policy.name
        self._when = policy.when
        self._read = reader_of(policy.partition_by)
        self._read_owner = owner_reader(policy.partition_by)
        self._needed = BOUND_IN[policy.quota.unit]
        self._by_one = policy.quota.unit not in TOKEN_UNITS
        self._kept: dict[tuple[Values, str, int | None], Planned] = {}
        self._beside = Planner(policy.beside()) if policy.shadow_amount is not None else None

    def plan(self, spending: Spending, directory: Directory, now: int, planned: list[Planned]) -> None:
        """Append this policy's part of the request, and its shadow's; nothing where it does not apply."""
        if self._when is not None and not self._when(spending):
            return
        values, read_owner, amount = self._read(spending), self._read_owner, None
        owner = read_owner(spending) if read_owner is not None else ""
        needed = 1 if self._by_one else self._needed(spending.bound)
        adjustments = directory.adjustments(self._name)
        if adjustments:
            policy = self.policy
            amount = policy.amount_for(partition_of(policy.partition_by, values), adjustments, now)
        planned.append(self.part(values, owner, needed, now, amount))
        if self._beside is not None:
            planned.append(self._beside.part(values, owner, needed, now, self.policy.shadow_amount))

    def of_amount(self, spending: Spending, now: int, amount: int) -> Planned:
        """The part of the request, where the quota is what the request itself asks for."""
        owner = self._read_owner(spending) if self._read_owner is not None else ""
        return self.part(self._read(spending), owner, self._needed(spending.bound), now, amount)

    def of_owner(self, owned: OwnedQuotas, spending: Spending, now: int) -> Planned:
        """The part of the request, where the policy is a limit of one key, user or team alone."""
        return self.part(owned.owner, owned.home, self._needed(spending.bound), now)

    def part(self, values: Values, owner: str, needed: int, now: int, amount: int | None = None) -> Planned:
        """The part of one partition. `amount` is the quota in force; None: what the configuration says."""
        kept = self._kept.get((values, owner, amount))
        if kept is not None:
            hold = kept.hold
            if hold.bounds is _NO_BOUNDS or hold.bounds[1] <= now < hold.bounds[2]:
                return kept if hold.amount == needed else _needing(kept, needed)
        partition = partition_of(self.policy.partition_by, values)
        in_force = self.policy.amount_for(partition, {}, now) if amount is None else amount
        hold = hold_of(self.policy, partition, in_force, needed=needed, now=now, owner=owner)
        limit = _limit(self.policy, partition, hold)
        planned = Planned(self.policy, partition, hold, limit, shown(limit))
        if len(self._kept) >= MOST_KEPT:
            self._kept.clear()
        self._kept[values, owner, amount] = planned
        return planned


def _needing(planned: Planned, needed: int) -> Planned:
    """The same for a request that uses more or less."""
    hold, limit = replace(planned.hold, amount=needed), replace(planned.limit, needed=needed)
    return Planned(planned.policy, planned.partition, hold, limit, planned.shown)


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


def plan(planners: Sequence[Planner], spending: Spending, directory: Directory, now: int) -> list[Planned]:
    """Every policy of the route that applies, and every limit of the key, the user and the team."""
    planned: list[Planned] = []
    for planner in planners:
        planner.plan(spending, directory, now, planned)
    for owned in spending.subject.quotas:
        for planner in _planners_of(owned):
            planned.append(planner.of_owner(owned, spending, now))
    return planned


def hold_of(
    policy: Policy, partition: Partition, amount: int, *, needed: int, now: int, owner: str = ""
) -> Hold:
    """The hold of `needed` units on a policy's counter for one partition, where its quota is `amount`.

    `owner` is whose the counter is, where the partition does not say it.
    """
    quota, window = policy.quota, policy.quota.window
    most = amount
    if window.algorithm is Algorithm.GCRA and quota.burst != quota.amount:
        most = max(1, quota.burst * amount // quota.amount) if quota.amount else 0
    bounds = _NO_BOUNDS
    if window.period:
        bounds = calendar_bounds(now, window.period, window.timezone, window.week_start)
    return Hold(
        key=counter_key(policy.name, partition),
        kind=_KINDS[window.algorithm],
        unit=quota.unit,
        quota=most,
        amount=needed,
        window=window.length_ms,
        rate=amount,
        bounds=bounds,
        shadow=policy.shadow,
        owner=owner or owner_of(partition),
        on_failure=OnFailure.ALLOW if policy.shadow else _ON_FAILURE[policy.on_store_failure],
    )


def _limit(policy: Policy, partition: Partition, hold: Hold) -> Limit:
    seconds = -(-hold.window // 1000)
    if hold.kind is Kind.CALENDAR:
        seconds = (hold.bounds[2] - hold.bounds[1]) // 1000
    return Limit(
        policy=policy.name,
        unit=policy.quota.unit.value,
        partition=spell(partition),
        quota=hold.rate if hold.kind is Kind.GCRA else hold.quota,  # what a window holds, not the burst
        window=str(policy.quota.window),
        window_seconds=seconds,
        needed=hold.amount,
        shadow=hold.shadow,
    )


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
