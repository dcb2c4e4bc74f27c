"""A policy: a quota, whom it counts apart, and when it applies."""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import IPv4Network, IPv6Network, ip_address
from itertools import combinations
from typing import Any, Literal

from msgspec import Struct

from authz.authenticate.presented import Twice
from authz.limit.partition import Partition, claim, sent, spell_claim
from authz.limit.spending import Spending
from authz.quota import TOKEN_UNITS, Quota
from authz.store.records import Adjustment

BESIDE = "~shadow"  # behind the name of the live limit that a shadow stands beside


class When(Struct, frozen=True, kw_only=True):
    """When a policy applies: every part that is given must hold."""

    models: frozenset[str] = frozenset()
    methods: frozenset[str] = frozenset()
    paths: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    teams: frozenset[str] = frozenset()
    users: frozenset[str] = frozenset()
    slots: tuple[tuple[str, str | None], ...] = ()  # (`header:x`, value); None: any value
    claims: tuple[tuple[str, str | None], ...] = ()
    networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def __call__(self, spending: Spending) -> bool:
        subject, target = spending.subject, spending.target
        return (
            (not self.models or spending.model in self.models)
            and (not self.methods or target.method in self.methods)
            and (not self.paths or target.path in self.paths)
            and (not self.roles or bool(self.roles & subject.roles))
            and (not self.teams or subject.team in self.teams)
            and (not self.users or subject.user in self.users)
            and (not self.slots or self._slots(spending))
            and (not self.claims or self._claims(subject.claims))
            and (not self.networks or _is_within(spending.request.ip, self.networks))
        )

    def _slots(self, spending: Spending) -> bool:
        """What was sent twice may be either: nobody is out of a limit because of it."""
        for name, value in self.slots:
            try:
                there = sent(name, spending)
            except Twice:
                continue
            if not (there == value if value is not None else there):
                return False
        return True

    def _claims(self, claims: Mapping[str, Any]) -> bool:
        for name, value in self.claims:
            there = claim(claims, name)
            values = [spell_claim(each) for each in (there if isinstance(there, list) else [there])]
            if not (value in values if value is not None else any(values)):
                return False
        return True


@lru_cache(maxsize=4096)
def _is_within(ip: str | None, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """An address that is not known is within none."""
    return ip is not None and any(ip_address(ip) in network for network in networks)


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
    allowance: int = 0  # units that a replica may set aside ahead, of a store that others share
    refusal_status: int | None = None  # in the place of 429
    refusal_message: str | None = None  # in the place of ours

    @property
    def needs_model(self) -> bool:
        by_model = "model" in self.partition_by or bool(self.when and self.when.models)
        return by_model or self.quota.unit in TOKEN_UNITS

    def beside(self) -> "Policy":
        """The shadow twin of a live policy; it counts for itself."""
        return Policy(
            name=self.name + BESIDE,
            quota=self.quota,
            partition_by=self.partition_by,
            shadow=True,
            allowance=self.allowance,
        )

    def amount_for(
        self, partition: Partition, adjustments: Mapping[Partition, Sequence[Adjustment]], now: int
    ) -> int:
        """The quota in force: a run-time override before one of the config, grants on top."""
        amount = self.quota.amount
        if self.overrides:
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


def _parts(partition: Partition) -> Sequence[Partition]:
    """Every choice of dimensions, the whole partition last (so that the most exact override wins)."""
    return [some for size in range(len(partition) + 1) for some in combinations(partition, size)]
