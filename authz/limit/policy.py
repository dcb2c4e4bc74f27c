"""A policy: a quota, whom it counts apart, and when it applies."""

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_network
from itertools import combinations
from typing import Literal

from msgspec import Struct

from authz.authenticate.presented import Presented, Slot, Twice
from authz.canonical import Target
from authz.peek import Peek
from authz.quota import Quota, Unit
from authz.request import Request
from authz.store.records import Adjustment, Model
from authz.subject import Subject

Partition = tuple[tuple[str, str], ...]

DIMENSIONS = frozenset({"key", "user", "team", "model", "route", "ip", "ip_prefix", "method", "path"})
PREFIXED_DIMENSIONS = ("header:", "query:", "cookie:", "claim:")
LONGEST_VALUE = 256


class Spending(Struct, frozen=True, kw_only=True):
    """What a request is about to spend, for whom and on what."""

    request: Request
    target: Target
    presented: Presented
    subject: Subject
    route: str
    model: str | None
    known: Model | None
    peek: Peek


class When(Struct, frozen=True, kw_only=True):
    """When a policy applies: every part that is given must hold."""

    models: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()

    def __call__(self, spending: Spending) -> bool:
        subject, target = spending.subject, spending.target
        return (
            (not self.models or spending.model in self.models)
            and (not self.methods or target.method in self.methods)
            and (not self.paths or target.path in self.paths)
            and (not self.roles or bool(self.roles & subject.roles))
            and (not self.teams or subject.team in self.teams)
            and (not self.users or subject.user in self.users)
        )


class Override(Struct, frozen=True):
    """Another quota for one partition; `partition` may name some of the dimensions only."""

    partition: Partition
    amount: int


class Policy(Struct, frozen=True, kw_only=True):
    """One entry of `limits:`."""

    name: str
    quota: Quota
    partition_by: tuple[str, ...] = ()
    when: When | None = None
    overrides: tuple[Override, ...] = ()
    shadow: bool = False  # counts and reports, never denies
    shadow_amount: int | None = None  # a figure tried beside the live one
    on_store_failure: Literal["deny", "allow", "local"] = "deny"

    @property
    def needs_model(self) -> bool:
        return (
            "model" in self.partition_by
            or bool(self.when and self.when.models)
            or self.quota.unit in TOKEN_UNITS
        )

    def amount_for(
        self, partition: Partition, adjustments: Mapping[Partition, Sequence[Adjustment]], now: int
    ) -> int:
        """The quota in force: a run-time override before one of the config, grants on top."""
        amount = self.quota.amount
        held = frozenset(partition)
        for override in self.overrides:
            if held.issuperset(override.partition):
                amount = override.amount
                break
        if not adjustments:
            return amount
        granted = 0
        for some in _parts(partition):
            for adjustment in adjustments.get(some, ()):
                if adjustment.until is None or now < adjustment.until:
                    amount = adjustment.override if adjustment.override is not None else amount
                    granted += adjustment.grant
        return amount + granted


TOKEN_UNITS = frozenset({Unit.TOKENS, Unit.INPUT_TOKENS, Unit.OUTPUT_TOKENS, Unit.COST})


def _parts(partition: Partition) -> Sequence[Partition]:
    """Every choice of dimensions, the whole partition last (so that the most exact override wins)."""
    return [some for size in range(len(partition) + 1) for some in combinations(partition, size)]


def partition_of(policy: Policy, spending: Spending) -> Partition:
    """Whom the policy counts this request for."""
    return tuple((dimension, _value(dimension, spending)) for dimension in policy.partition_by)


def counter_key(policy: str, partition: Partition) -> str:
    """Names a counter. Lengths keep `a:b` + `c` apart from `a` + `b:c` (attack 83)."""
    return policy + "".join(f"|{len(value)}:{value}" for _, value in partition)


def partition_in(policy: Policy, counter: str) -> Partition | None:
    """What `counter_key` was made of; None where the counter is not the policy's as it is now."""
    rest, values = counter.removeprefix(policy.name), []
    while rest:
        length, colon, behind = rest.removeprefix("|").partition(":")
        if rest[0] != "|" or not colon or not length.isdecimal():
            return None
        values.append(behind[: int(length)])
        rest = behind[int(length) :]
    if len(values) != len(policy.partition_by) or not counter.startswith(policy.name):
        return None
    return tuple(zip(policy.partition_by, values, strict=True))


def spell(partition: Partition) -> str:
    """For a person: `team=nlp, model=llama3`."""
    return ", ".join(f"{dimension}={value}" for dimension, value in partition)


def _value(dimension: str, spending: Spending) -> str:
    subject = spending.subject
    match dimension:
        case "key":
            # A caller without a key of ours is told apart by its user; so is one without a team (tenant = team, else user).
            return subject.key or f"user:{subject.user}"
        case "user":
            return subject.user
        case "team":
            return subject.team or f"user:{subject.user}"
        case "model":
            return spending.model or ""
        case "route":
            return spending.route
        case "method":
            return spending.target.method
        case "path":
            return spending.target.path[:LONGEST_VALUE]
        case "ip":
            return spending.request.ip or ""
        case "ip_prefix":
            return _prefix(spending.request.ip)
    kind, _, name = dimension.partition(":")
    return _presented(kind, name, spending)[:LONGEST_VALUE]


def _presented(kind: str, name: str, spending: Spending) -> str:
    if kind == "claim":
        value: object = spending.subject.claims
        for part in name.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        return str(value) if isinstance(value, str | int | bool) else ""
    try:
        return spending.presented.read(Slot(kind, name)) or ""  # type: ignore[arg-type]
    except Twice:
        return ""


def _prefix(ip: str | None) -> str:
    """/24 of an IPv4 address, /64 of an IPv6 one: what one customer usually holds."""
    if ip is None:
        return ""
    address = ip_address(ip)
    return str(ip_network((address, 24 if address.version == 4 else 64), strict=False))
