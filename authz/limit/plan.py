"""Which counters a request touches, by how much, and how they stand afterwards."""

from collections.abc import Sequence
from functools import lru_cache

from msgspec import Struct

from authz.decision import LimitState
from authz.limit.calendar import calendar_bounds
from authz.limit.estimate import upper_bound
from authz.limit.policy import Partition, Policy, Spending, counter_key, partition_of, spell
from authz.quota import Algorithm, Quota
from authz.store.protocols import Directory, Exhausted, Hold, Kind, Reserved

_KINDS = {
    Algorithm.GCRA: Kind.GCRA,
    Algorithm.FIXED: Kind.FIXED,
    Algorithm.SLIDING: Kind.SLIDING,
    Algorithm.CALENDAR: Kind.CALENDAR,
    Algorithm.CONCURRENCY: Kind.CONCURRENCY,
}


class Planned(Struct, frozen=True):
    """One policy's part of a request: the hold to make and what it means to a person."""

    policy: Policy
    partition: Partition
    hold: Hold


@lru_cache(maxsize=4096)
def _owned(kind: str, quota: Quota) -> Policy:
    """The policy that an owner's own limit amounts to: it counts that owner as a whole, on every route."""
    return Policy(name=f"{kind}:{quota}", quota=quota, partition_by=(kind,))


def plan(policies: Sequence[Policy], spending: Spending, directory: Directory, now: int) -> list[Planned]:
    """Every policy of the route that applies, and every limit of the key, the user and the team."""
    planned: dict[str, Planned] = {}
    for policy in policies:
        if policy.when is None or policy.when(spending):
            partition = partition_of(policy, spending)
            amount = policy.amount_for(partition, directory.adjustments(policy.name), now)
            _add(planned, policy, partition, amount, policy.shadow, spending, now)
            if policy.shadow_amount is not None:
                _add(planned, _beside(policy), partition, policy.shadow_amount, True, spending, now)
    for owned in spending.subject.quotas:
        partition = ((owned.kind, owned.owner),)
        for quota in owned.quotas:
            policy = _owned(owned.kind, quota)
            _add(planned, policy, partition, quota.amount, False, spending, now)
    return list(planned.values())


@lru_cache(maxsize=1024)
def _beside(policy: Policy) -> Policy:
    """The shadow twin of a live policy; it counts for itself."""
    return Policy(
        name=f"{policy.name}~shadow", quota=policy.quota, partition_by=policy.partition_by, shadow=True
    )


def _add(
    planned: dict[str, Planned],
    policy: Policy,
    partition: Partition,
    amount: int,
    shadow: bool,
    spending: Spending,
    now: int,
) -> None:
    needed = upper_bound(policy.quota.unit, spending)
    hold = hold_of(policy, partition, amount, needed=needed, shadow=shadow, now=now)
    planned[hold.key] = Planned(policy, partition, hold)


def hold_of(
    policy: Policy, partition: Partition, amount: int, *, needed: int, shadow: bool = False, now: int
) -> Hold:
    """The hold of `needed` units on a policy's counter for one partition, where its quota is `amount`."""
    quota, window = policy.quota, policy.quota.window
    most = amount
    if window.algorithm is Algorithm.GCRA and quota.burst != quota.amount:
        most = max(1, quota.burst * amount // quota.amount) if quota.amount else 0
    return Hold(
        key=counter_key(policy.name, partition),
        kind=_KINDS[window.algorithm],
        unit=quota.unit,
        quota=most,
        amount=needed,
        window=window.length_ms,
        rate=amount,
        bounds=calendar_bounds(now, window.period, window.timezone, window.week_start)
        if window.period
        else NO_BOUNDS,
        shadow=shadow,
    )


NO_BOUNDS = (0, 0, 0, 0)


def states(planned: Sequence[Planned], outcome: Reserved | Exhausted) -> tuple[LimitState, ...]:
    """The figures of every policy, in plan order."""
    denied = outcome.denied if isinstance(outcome, Exhausted) else ()
    return tuple(
        LimitState(
            policy=each.policy.name,
            unit=each.policy.quota.unit,
            partition=spell(each.partition),
            quota=each.hold.quota,
            window=str(each.policy.quota.window),
            window_seconds=_seconds(each.hold),
            needed=each.hold.amount,
            remaining=level.remaining,
            reset_after=level.reset_ms / 1000,
            exhausted=index in denied,
            shadow=each.hold.shadow,
        )
        for index, (each, level) in enumerate(zip(planned, outcome.levels, strict=True))
    )


def _seconds(hold: Hold) -> int:
    if hold.kind is Kind.CALENDAR:
        return (hold.bounds[2] - hold.bounds[1]) // 1000
    return -(-hold.window // 1000)
