"""The counter engine against an oracle that knows only the log of events and does its own arithmetic."""

from fractions import Fraction
from typing import NamedTuple

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from authz.calendar import calendar_bounds
from authz.quota import Unit
from authz.store import ops
from authz.store.counting import KINDS, State, gcra
from authz.store.engine import Engine
from authz.store.levels import decode_state, encode_state
from authz.store.protocols import Exhausted, Hold, Kind, Outcome, Reserved
from authz.store.reservations import LATE, REPLAY, decode, encode
from tests.contract.kit import DAY, HOUR, at


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
    "slots": Policy(Kind.CONCURRENCY, Unit.CONCURRENCY, 3),
}
STARTS = [
    at("2024-03-31 02:00", "Europe/Helsinki"),
    at("2024-10-27 02:00", "Europe/Helsinki"),
    at("2024-03-09 23:00", "America/Havana"),
    at("2024-02-29 18:00"),
    1_700_000_000_123,
]


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


AMOUNTS = st.one_of(st.integers(0, 12), st.integers(0, 70), st.sampled_from([0, 1, 50, 60, 100, 101, 150]))


class Machine(RuleBasedStateMachine):
    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: int) -> None:
        self.now = self.newest = start
        self.journal: list[bytes] = []
        self.engine = Engine(journal=lambda op: self.journal.append(ops.encode(op)))
        self.accounts = {key: Account(policy) for key, policy in POLICIES.items()}
        self.open: dict[str, tuple[int, dict[str, int]]] = {}
        self.created: dict[str, int] = {}
        self.ended: list[str] = []
        self.leases: dict[str, int] = {}
        self.serial = 0

    def state_of(self, key: str) -> State | None:
        return self.engine.tables.counters.get(key)

    def after(self) -> None:
        self.newest = max(self.newest, self.now)
        for key, account in self.accounts.items():
            policy, state = account.policy, self.state_of(key)
            if policy.kind is Kind.GCRA and state is not None:
                assert state[gcra.AT] <= self.newest, "a bucket is ahead of every clock it saw"
                account.latest = state[gcra.AT]  # a refund, too, brings a bucket to its moment
            if policy.kind is Kind.CONCURRENCY:
                # Once over is over: a clock that steps back brings no lease to life again.
                assert sum(end > self.newest for end in self.leases.values()) <= policy.quota
                continue
            account.check_promise()
            if state is None:
                assert not account.charges
                continue
            kind = KINDS[policy.kind]
            used = kind.used(kind.view(policy.hold(key, 0, self.now), state, self.now))
            if policy.kind is Kind.GCRA:
                assert used >= account.drained(self.now, account.debts), "a refund made capacity"
            else:
                assert used == account.used(self.now), (key, state)

    @rule(
        milliseconds=st.one_of(
            st.integers(0, 60),
            st.integers(0, 3000),
            st.integers(0, 30_000),
            st.sampled_from([HOUR, 23 * HOUR, 25 * HOUR, DAY, 8 * DAY, 31 * DAY]),
        )
    )
    def advance(self, milliseconds: int) -> None:
        self.now += milliseconds
        self.after()

    @rule(milliseconds=st.one_of(st.integers(1, 200), st.integers(1, 5000)))
    def step_back(self, milliseconds: int) -> None:
        self.now -= milliseconds
        self.after()

    @rule(
        asks=st.dictionaries(st.sampled_from(sorted(POLICIES)), AMOUNTS, min_size=1, max_size=5),
        ttl=st.sampled_from([50, 500, 3000, 60_000]),
    )
    def reserve(self, asks: dict[str, int], ttl: int) -> None:
        asks = {key: 1 if key == "slots" else amount for key, amount in asks.items()}
        self.serial += 1
        name, before = f"r{self.serial}", dict(self.engine.tables.counters)
        holds = [POLICIES[key].hold(key, amount, self.now) for key, amount in asks.items()]
        expected = self.engine.peek(self.now, holds)
        written = len(self.journal)
        answer = self.engine.reserve(self.now, name, "edge", holds, ttl)
        assert type(expected) is type(answer)
        if isinstance(answer, Exhausted):
            assert self.engine.tables.counters == before, "a denial charged something"
            assert len(self.journal) == written
            assert answer.wait_ms == -1 or answer.wait_ms >= 1
            return
        assert [level.remaining for level in answer.levels] == [level.remaining for level in expected.levels]
        for key, amount in asks.items():
            if key == "slots":
                self.leases[name] = self.now + ttl
            else:
                self.accounts[key].hold(name, self.now, amount)
        self.open[name] = (self.now + ttl, asks)
        self.created[name] = self.now
        self.after()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), share=st.one_of(st.integers(0, 10), st.just(13)), exact=AMOUNTS)
    def settle(self, data: st.DataObject, share: int, exact: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        deadline, asks = self.open.pop(name)
        most = max((amount for key, amount in asks.items() if key != "slots"), default=0)
        actual = {Unit.TOKENS: most * share // 10, Unit.COST: exact}
        before = dict(self.engine.tables.counters)
        done = self.engine.settle(self.now, name, "edge", actual).outcome in (
            Outcome.SETTLED,
            Outcome.CORRECTED,
        )
        if not done:
            assert self.engine.tables.counters == before
            assert self.engine.reservations.get(name) is None or self.now >= deadline + LATE
            self.leases.pop(name, None)
            return
        self.ended.append(name)
        self.leases.pop(name, None)
        for key in asks:
            unit = POLICIES[key].unit
            if unit in actual:
                self.accounts[key].settle(name, self.now, actual[unit])
        self.after()

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), amount=AMOUNTS)
    def settle_again(self, data: st.DataObject, amount: int) -> None:
        before = dict(self.engine.tables.counters)
        name = data.draw(st.sampled_from(self.ended))
        assert self.engine.settle(self.now, name, "edge", {Unit.TOKENS: amount}).outcome in (
            Outcome.ALREADY,
            Outcome.UNKNOWN,
        )
        assert self.engine.tables.counters == before

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def retry_and_strangers(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        deadline, asks = self.open[name]
        self.engine.sweep(self.now)
        before = dict(self.engine.tables.counters)
        assert not self.engine.settle(self.now, name, "stranger", {Unit.TOKENS: 0}).holds
        if self.created[name] <= self.now < min(deadline - 100, self.created[name] + REPLAY):
            known = self.engine.reservations.get(name)
            if known is not None and known.phase.name == "OPEN":
                holds = [POLICIES[key].hold(key, amount, self.now) for key, amount in asks.items()]
                answer = self.engine.reserve(self.now, name, "edge", holds, 60_000)
                assert isinstance(answer, Reserved)
                assert answer.replay
        assert self.engine.tables.counters == before

    def teardown(self) -> None:
        """The journal alone, and a snapshot alone, rebuild the same counters."""
        replayed = Engine()
        for payload in self.journal:
            replayed.apply(ops.decode(payload))
        assert replayed.tables.counters == self.engine.tables.counters
        restored = Engine()
        restored.restore(
            {key: decode_state(encode_state(state)) for key, state in self.engine.tables.counters.items()},
            {name: decode(encode(made)) for name, made in self.engine.reservations.items()},
        )
        assert restored.tables.counters == self.engine.tables.counters
        holds = [policy.hold(key, 0, self.now) for key, policy in POLICIES.items()]
        ours, theirs = self.engine.peek(self.now, holds), restored.peek(self.now, holds)
        assert type(ours) is type(theirs)
        for hold, mine, other in zip(holds, ours.levels, theirs.levels, strict=True):
            if hold.key == "slots" and self.now < self.newest:
                assert mine.held <= other.held  # a lease that was over may be back in the restored one
                continue
            assert (mine.remaining, mine.held) == (other.remaining, other.held), hold
            # Of slots only a bound is known: a settled request may have been the last to end.
            assert mine.reset_ms >= other.reset_ms if hold.key == "slots" else mine.reset_ms == other.reset_ms


TestMachine = Machine.TestCase
TestMachine.settings = settings(
    max_examples=300,
    stateful_step_count=50,
    deadline=None,
    database=None,
    derandomize=True,
    suppress_health_check=list(HealthCheck),
)
