"""What should be: an event log of every counter, and arithmetic of its own over it."""

from fractions import Fraction
from typing import NamedTuple

from authz.calendar import calendar_bounds
from authz.quota import Unit
from authz.store.protocols import Hold, Kind


class Policy(NamedTuple):
    kind: Kind
    unit: Unit
    quota: int
    window: int = 0  # ms
    rate: int = 0
    period: str = ""
    zone: str = "UTC"
    week_start: int = 0

    def hold(self, key: str, amount: int, now: int) -> Hold:
        bounds = (
            calendar_bounds(now, self.period, self.zone, self.week_start) if self.period else (0, 0, 0, 0)
        )
        return Hold(key, self.kind, self.unit, self.quota, amount, self.window, self.rate, bounds)

    @property
    def is_exact(self) -> bool:
        """What it has left is known to the unit; of a bucket, only a bound."""
        return self.kind not in (Kind.GCRA, Kind.CONCURRENCY)

    def instance(self, moment: int) -> tuple[int, int]:
        """Start and end of the window that holds the moment."""
        if self.period:
            return calendar_bounds(moment, self.period, self.zone, self.week_start)[1:3]
        start = moment // self.window * self.window
        return start, start + self.window


POLICIES = {
    "fixed": Policy(Kind.FIXED, Unit.TOKENS, 100, 1000),
    "day": Policy(Kind.CALENDAR, Unit.TOKENS, 150, period="day", zone="Europe/Helsinki"),
    "week": Policy(Kind.CALENDAR, Unit.COST, 120, period="week", zone="America/Havana", week_start=6),
    "month": Policy(Kind.CALENDAR, Unit.INPUT_TOKENS, 90, period="month", zone="Asia/Kathmandu"),
    "sliding": Policy(Kind.SLIDING, Unit.TOKENS, 100, 1200),
    "gcra": Policy(Kind.GCRA, Unit.TOKENS, 60, 1000, rate=100),
    "slow": Policy(Kind.GCRA, Unit.COST, 50, 3000, rate=7),
    "requests": Policy(Kind.FIXED, Unit.REQUESTS, 300, 60_000),
    "slots": Policy(Kind.CONCURRENCY, Unit.CONCURRENCY, 3),
}


class Charge:
    """One hold as it was charged: its effective moment and what of it still counts."""

    def __init__(self, name: str, moment: int, amount: int) -> None:
        self.name, self.moment, self.amount, self.stays = name, moment, amount, amount


class Account:
    """Everything that happened to one counter."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.charges: list[Charge] = []
        self.debts: list[tuple[int, int]] = []
        self.latest = 0  # a counter never rolls back: what comes after a step back counts at this moment

    def hold(self, name: str, now: int, amount: int) -> None:
        self.latest = max(self.latest, now)
        self.charges.append(Charge(name, self.latest, amount))

    def settle(self, name: str, now: int, actual: int) -> None:
        (charge,) = [each for each in self.charges if each.name == name]
        if actual > charge.amount:
            self.latest = max(self.latest, now)
            self.debts.append((self.latest, actual - charge.amount))
        elif actual < charge.amount and self.is_live(charge, now):
            charge.stays = actual
            if self.policy.kind is Kind.SLIDING:
                self.latest = max(self.latest, now)

    def is_live(self, charge: Charge, now: int) -> bool:
        if self.policy.kind is Kind.SLIDING:
            return self._part(max(now, self.latest)) - self._part(charge.moment) <= 60
        if self.policy.kind is Kind.GCRA:
            return True
        instance = self.policy.instance(self.latest)
        return self.policy.instance(charge.moment) == instance and now < instance[1]

    def _part(self, moment: int) -> int:
        return moment // (self.policy.window // 60)

    def used(self, now: int) -> int:
        """Settled and held, as this kind of window counts it at `now`."""
        moment = max(now, self.latest)
        events = [(each.moment, each.stays, 0) for each in self.charges] + [
            (at, 0, owed) for at, owed in self.debts
        ]
        if self.policy.kind is Kind.SLIDING:
            return sum(base + owed for at, base, owed in events if self._part(moment) - self._part(at) <= 60)
        totals: dict[tuple[int, int], list[int]] = {}
        for at_, base, owed in events:
            total = totals.setdefault(self.policy.instance(at_), [0, 0])
            total[0] += base
            total[1] += owed
        end, used, debt = 0, 0, 0
        for (start, until), (base, owed) in sorted(totals.items()):
            carry = min(self.policy.quota, debt, max(0, used - self.policy.quota)) if end == start else 0
            used, debt, end = carry + base + owed, carry + owed, until
        current = self.policy.instance(moment)
        if current[1] == end:
            return used
        return min(self.policy.quota, debt, max(0, used - self.policy.quota)) if current[0] == end else 0

    def check_promise(self) -> None:
        """Never over: what was admitted, settlements counted from the start, fits every window."""
        policy, charges = self.policy, self.charges
        if policy.kind is Kind.SLIDING:
            for first in charges:
                inside = [
                    each for each in charges if first.moment <= each.moment < first.moment + policy.window
                ]
                assert sum(each.stays for each in inside) <= policy.quota
        elif policy.kind is Kind.GCRA:
            self.drained(charges[-1].moment if charges else 0, [], check=True)
        else:
            for first in charges:
                inside = [
                    each for each in charges if policy.instance(each.moment) == policy.instance(first.moment)
                ]
                assert sum(each.stays for each in inside) <= policy.quota

    def drained(self, now: int, debts: list[tuple[int, int]], *, check: bool = False) -> Fraction:
        """The exact level of a bucket to which each hold had come with what it used."""
        rate = Fraction(self.policy.rate, self.policy.window)
        level, before = Fraction(0), 0
        for moment, amount in sorted([(each.moment, each.stays) for each in self.charges] + debts):
            level = max(Fraction(0), level - rate * (moment - before)) + amount
            before = moment
            assert not check or level <= self.policy.quota
        return max(Fraction(0), level - rate * max(0, max(now, self.latest) - before))
