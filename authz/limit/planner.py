"""One policy at work: which counter a request touches, and by how much."""

from authz.calendar import calendar_bounds
from authz.decision import Limit
from authz.limit.estimate import BOUND_IN
from authz.limit.headers import shown
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
from authz.limit.planned import Planned
from authz.limit.policy import Policy
from authz.limit.spending import Spending
from authz.quota import Algorithm, OwnedQuotas
from authz.recent import Recent
from authz.store.protocols import Directory, Hold, Kind, OnFailure

_KINDS = {
    Algorithm.GCRA: Kind.GCRA,
    Algorithm.FIXED: Kind.FIXED,
    Algorithm.SLIDING: Kind.SLIDING,
    Algorithm.CALENDAR: Kind.CALENDAR,
    Algorithm.CONCURRENCY: Kind.CONCURRENCY,
}
_ON_FAILURE = {"deny": OnFailure.DENY, "allow": OnFailure.ALLOW, "local": OnFailure.LOCAL}
_NO_BOUNDS = (0, 0, 0, 0)
_STEADY = frozenset({"key", "user", "team", "model", "route"})
MOST_KEPT = 16_384  # partitions of one policy, or owners of limits, whose part is kept


class Planner:
    """A policy at work. It keeps what it planned for the partitions seen last, because most come again."""

    __slots__ = ("_beside", "_kept", "_needed", "_read", "_read_owner", "_window", "policy")

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self._read = reader_of(policy.partition_by)
        self._read_owner = owner_reader(policy.partition_by)
        self._needed = BOUND_IN[policy.quota.unit]
        self._kept: Recent[tuple[Values, str, int | None], Planned] = Recent(MOST_KEPT)
        self._window = str(policy.quota.window)
        self._beside = Planner(policy.beside()) if policy.shadow_amount is not None else None

    @property
    def is_steady(self) -> bool:
        """Whether it counts all requests of one subject for one model alike, but for how much they use."""
        return self.policy.when is None and _STEADY.issuperset(self.policy.partition_by)

    def plan(self, spending: Spending, directory: Directory, now: int) -> list[Planned]:
        """This policy's part of the request, and its shadow's; nothing where it does not apply."""
        policy = self.policy
        if policy.when is not None and not policy.when(spending):
            return []
        values, needed = self._read(spending), self._needed(spending.bound)
        owner = self._read_owner(spending) if self._read_owner is not None else ""
        adjustments = directory.adjustments(policy.name)
        amount = None
        if adjustments:
            amount = policy.amount_for(partition_of(policy.partition_by, values), adjustments, now)
        planned = [self.part(values, owner, needed, now, amount)]
        if self._beside is not None:
            planned.append(self._beside.part(values, owner, needed, now, policy.shadow_amount))
        return planned

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
                return kept.needing(needed)
        partition = partition_of(self.policy.partition_by, values)
        in_force = self.policy.amount_for(partition, {}, now) if amount is None else amount
        hold = hold_of(self.policy, partition, in_force, needed=needed, now=now, owner=owner)
        limit = _limit(self.policy, partition, hold, self._window)
        planned = Planned(self.policy, partition, hold, limit, shown(limit))
        self._kept.put((values, owner, amount), planned)
        return planned


def hold_of(
    policy: Policy, partition: Partition, amount: int, *, needed: int, now: int, owner: str = ""
) -> Hold:
    """The hold of `needed` units on a policy's counter for one partition, where its quota is `amount`.

    `owner` is whose the counter is, where the partition does not say it.
    """
    quota, window = policy.quota, policy.quota.window
    most = quota.burst_of(amount) if window.algorithm is Algorithm.GCRA else amount
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
        allowance=policy.allowance,
    )


def _limit(policy: Policy, partition: Partition, hold: Hold, window: str) -> Limit:
    seconds = -(-hold.window // 1000)
    if hold.kind is Kind.CALENDAR:
        seconds = (hold.bounds[2] - hold.bounds[1]) // 1000
    return Limit(
        policy=policy.name,
        unit=policy.quota.unit.value,
        partition=spell(partition),
        quota=hold.rate if hold.kind is Kind.GCRA else hold.quota,  # what a window holds, not the burst
        window=window,
        window_seconds=seconds,
        needed=hold.amount,
        shadow=hold.shadow,
    )
