"""A store driven through whatever may happen to requests, beside an oracle that knows only what happened."""

import hypothesis.strategies as st
from hypothesis.stateful import precondition, rule
from msgspec.structs import replace

from authz.quota import Unit
from authz.store.protocols import Exhausted, Hold, Outcome, Remembered, Reserved, Settled
from authz.store.records import Source
from authz.store.reservations import LATE, REPLAY, SETTLED
from authz.usage import Usage
from tests.contract.kit import DAY, HOUR, MINUTE, facts, note
from tests.store.checks import Checked, Life, answer
from tests.store.crashing import WAYS, crash_and_recover
from tests.store.oracle import POLICIES

AMOUNTS = st.one_of(st.integers(0, 12), st.integers(0, 70), st.sampled_from([0, 1, 50, 60, 100, 101, 150]))
OWED = st.sampled_from([0, 0, 0, 1, 30, 90, 200])
LONG = [MINUTE, HOUR, 23 * HOUR, DAY - MINUTE, DAY, 25 * HOUR, 8 * DAY, 31 * DAY]
LIFE = 2 * MINUTE
ALL = max(policy.quota for policy in POLICIES.values())

EXACT = {key for key, policy in POLICIES.items() if policy.is_exact}


class Machine(Checked):
    # -- what may happen ---------------------------------------------------------------------------

    @rule(
        milliseconds=st.one_of(
            st.integers(0, 60), st.integers(0, 3000), st.integers(0, 30_000), st.sampled_from(LONG)
        )
    )
    def advance(self, milliseconds: int) -> None:
        self.clock.now += milliseconds
        self.after()

    @rule(milliseconds=st.one_of(st.integers(1, 200), st.integers(1, 5000)))
    def step_back(self, milliseconds: int) -> None:
        self.clock.now -= milliseconds
        self.after()

    @rule()
    def look_after(self) -> None:
        self.keep_up()

    def holds(self, asks: dict[str, int], owed: int = 0) -> list[Hold]:
        """So much is owed to each counter, at most its quota."""
        wholes = [POLICIES[key].hold(key, amount, self.now) for key, amount in asks.items()]
        return [replace(whole, owed=min(whole.quota, owed)) for whole in wholes]

    def ask(
        self, name: str, asks: dict[str, int], ttl: int, known: bool, owed: int = 0
    ) -> Reserved | Exhausted:
        self.serial += 1
        request = f"q{self.serial}" if known else ""
        holds = self.holds(asks, owed)
        most = max(asks.values(), default=0)
        held = Usage(input=most, output=self.serial)
        told = facts(request, hold=held) if known else b""
        reserved: Reserved | Exhausted
        reserved = answer(self.store.counters.reserve(name, "edge", holds, ttl, told))
        if isinstance(reserved, Reserved) and not reserved.replay:
            life = Life(name, request, asks, held, self.now, self.now + ttl)
            self.lives.append(life)
            for key, amount in asks.items():
                if key == "slots":
                    self.leases[f"{name}/{self.serial}"] = life.deadline
                else:
                    self.accounts[key].hold(f"{name}/{self.serial}", self.now, amount)
            life.name = f"{name}/{self.serial}"
        return reserved

    @rule(
        asks=st.dictionaries(st.sampled_from(sorted(POLICIES)), AMOUNTS, max_size=5),
        ttl=st.sampled_from([50, 500, 3000, 60_000]),
        known=st.sampled_from([True, True, True, False]),
        owed=OWED,
    )
    def reserve(self, asks: dict[str, int], ttl: int, known: bool, owed: int) -> None:
        asks = {key: 1 if key == "slots" else amount for key, amount in asks.items()}
        name, before = f"r{self.serial + 1}", self.counters
        holds = self.holds(asks, owed)
        expected = answer(self.store.counters.peek(holds))
        too_much = [
            index
            for index, hold in enumerate(holds)
            if hold.key in EXACT
            and hold.amount
            and self.accounts[hold.key].used(self.now) + hold.amount > hold.quota - hold.owed
        ]
        reserved = self.ask(name, asks, ttl, known, owed)
        assert type(expected) is type(reserved)
        if isinstance(reserved, Exhausted):
            assert self.counters == before, "a denial charged something"
            assert answer(self.store.counters.find(name, "edge")) is Outcome.UNKNOWN
            assert reserved.wait_ms == -1 or reserved.wait_ms >= 1
            exact = [index for index in reserved.denied if list(asks)[index] in EXACT]
            assert exact == too_much
        else:
            assert not too_much
            assert [level.remaining for level in reserved.levels] == [
                level.remaining for level in expected.levels
            ]
            for hold, level in zip(holds, reserved.levels, strict=True):
                if hold.key in EXACT:
                    used = self.accounts[hold.key].used(self.now)
                    assert level.remaining == max(0, hold.quota - hold.owed - used), hold.key
            self.open[name] = self.lives[-1]
        self.after()

    @rule(key=st.sampled_from(["fixed", "day"]), used=st.integers(0, 300), owed=OWED)
    def turn(self, key: str, used: int, owed: int) -> None:
        """A debt goes on into the next window with whoever comes first, whatever is owed beside it."""
        name = f"r{self.serial + 1}"
        if isinstance(self.ask(name, {key: 10}, 60_000, known=True, owed=owed), Reserved):
            self.open[name] = self.lives[-1]
            self.end(name, used, 0, release=False)
        self.clock.now = max(self.now, POLICIES[key].instance(self.now)[1])
        assert isinstance(self.ask(f"r{self.serial + 1}", {key: 0}, 3000, known=True, owed=owed), Reserved)
        self.after()

    def outcomes(self, life: Life) -> set[Outcome]:
        """What a settlement now may answer. Where the clock stepped back, it depends on who looked when."""
        brief = not life.request and all(POLICIES[key].unit is Unit.REQUESTS for key in life.asks)
        late = life.deadline + LATE
        allowed = {Outcome.UNKNOWN} if self.now >= late else {Outcome.CORRECTED}
        if self.now < life.deadline:
            allowed = (
                {Outcome.SETTLED, Outcome.CORRECTED} if self.newest >= life.deadline else {Outcome.SETTLED}
            )
        newest = max(self.newest, self.now)
        if newest >= late or (brief and (self.crashes or newest >= life.created + REPLAY)):
            allowed.add(Outcome.UNKNOWN)
        return allowed

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        share=st.one_of(st.integers(-3, 10), st.just(13)),
        exact=st.one_of(AMOUNTS, st.just(-7)),
        release=st.booleans(),
    )
    def settle(self, data: st.DataObject, share: int, exact: int, release: bool) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.open))), share, exact, release)

    @precondition(lambda self: self.open)
    @rule(
        data=st.data(),
        after=st.sampled_from([-1, 0, 1, 100, 200, HOUR, DAY, LATE - 1, LATE, LATE + MINUTE]),
        looked=st.booleans(),
        share=st.integers(0, 13),
        exact=AMOUNTS,
    )
    def settle_around_its_deadline(
        self, data: st.DataObject, after: int, looked: bool, share: int, exact: int
    ) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        self.clock.now = max(self.now, self.open[name].deadline + after)
        if looked:
            self.keep_up()
        self.end(name, share, exact, release=False)

    def end(self, name: str, share: int, exact: int, release: bool) -> None:
        life = self.open.pop(name)
        most = max((amount for key, amount in life.asks.items() if key != "slots"), default=0)
        actual = {Unit.TOKENS: most * share // 10, Unit.COST: exact}
        if release:
            actual = dict.fromkeys(Unit, 0)
        told = Usage(input=max(0, actual[Unit.TOKENS]), output=abs(share))
        source = Source.RELEASED if release else Source.REPORTED
        before, seen = self.counters, answer(self.store.counters.find(name, "edge"))
        note_ = note(told.input, told.output, source=source)
        done: Settled = answer(self.store.counters.settle(name, "edge", actual, note_))
        assert done.outcome in self.outcomes(life)
        self.leases.pop(life.name, None)
        if done.outcome is Outcome.UNKNOWN:
            assert seen is Outcome.UNKNOWN
            assert self.counters == before
            self.after()
            return
        assert isinstance(seen, Remembered)
        assert (seen.created, seen.expired) == (life.created, done.outcome is Outcome.CORRECTED)
        if done.outcome is Outcome.CORRECTED:
            source = Source.CORRECTED
            type(self).corrected += bool(life.request)
        life.ended = (self.now, source, told)
        self.ended[name] = self.now
        for key in life.asks:
            unit = POLICIES[key].unit
            if unit in actual and key != "slots":
                self.accounts[key].settle(life.name, self.now, max(0, actual[unit]))
        self.after()
        self.check_levels(done)

    @precondition(lambda self: self.ended or self.ended_before)
    @rule(data=st.data(), amount=AMOUNTS)
    def settle_again(self, data: st.DataObject, amount: int) -> None:
        before = self.counters
        name = data.draw(st.sampled_from([*self.ended, *self.ended_before]))
        done: Settled = answer(self.store.counters.settle(name, "edge", {Unit.TOKENS: amount}, note(amount)))
        if name in self.ended and self.newest < self.ended[name] + SETTLED:
            assert done.outcome is Outcome.ALREADY
        assert done.outcome in (Outcome.ALREADY, Outcome.UNKNOWN)
        assert self.counters == before
        assert not answer(self.store.counters.extend(name, "edge", MINUTE, LIFE))
        self.after()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), ttl=st.sampled_from([100, 4000, 50_000, HOUR]))
    def extend(self, data: st.DataObject, ttl: int) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        life, before = self.open[name], self.counters
        runs = answer(self.store.counters.extend(name, "edge", ttl, LIFE))
        assert self.counters == before
        if runs:
            assert self.now < life.deadline, "what is over was revived"
            life.deadline = max(life.deadline, min(self.now + ttl, life.created + LIFE))
            if life.name in self.leases:
                self.leases[life.name] = life.deadline
        elif life.request:
            assert self.newest >= life.deadline, "what runs was not extended"
        self.after()

    @precondition(lambda self: self.open)
    @rule(data=st.data(), seen=st.booleans(), again=st.booleans(), way=st.sampled_from(WAYS))
    def run_long(self, data: st.DataObject, seen: bool, again: bool, way: str) -> None:
        """Extended to the last, it is not over before; whether that was written down, or the process ended."""
        name = data.draw(st.sampled_from(sorted(self.open)))
        life = self.open[name]
        if seen:
            self.keep_up()
        if self.newest < life.deadline and answer(self.store.counters.extend(name, "edge", HOUR, LIFE)):
            life.deadline = max(life.deadline, life.created + LIFE)
            if life.name in self.leases:
                self.leases[life.name] = life.deadline
            if self.crashes:
                self.crash(way)
            self.clock.now = max(self.now, life.deadline - 1)
            self.store.keep_up()
            found = answer(self.store.counters.find(name, "edge"))
            assert not isinstance(found, Remembered) or not found.expired
            assert isinstance(found, Remembered) or not life.request
            if again:
                self.end(name, 5, 5, release=False)
        self.after()

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def retry_and_strangers(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.open)))
        life = self.open[name]
        self.newest = max(self.newest, self.now)
        before = self.counters
        for question in (
            self.store.counters.settle(name, "stranger", {Unit.TOKENS: 0}, note()),
            self.store.counters.settle(f"{name}~", "edge", {Unit.TOKENS: 0}, note()),
        ):
            assert answer(question).outcome in (Outcome.FOREIGN, Outcome.UNKNOWN)
        assert not answer(self.store.counters.extend(name, "stranger", MINUTE, LIFE))
        if (
            life.request
            and life.created <= self.now
            and self.newest < min(life.deadline, life.created + REPLAY)
        ):
            again = self.ask(name, life.asks, 60_000, known=True)
            assert isinstance(again, Reserved)
            assert again.replay
        assert self.counters == before
        self.after()

    @precondition(lambda self: self.ended)
    @rule(data=st.data(), asks=st.dictionaries(st.sampled_from(["fixed", "gcra"]), AMOUNTS, min_size=1))
    def same_id_again(self, data: st.DataObject, asks: dict[str, int]) -> None:
        """Another attempt: it is charged, entered as held when its time is over, and nobody settles it."""
        name = data.draw(st.sampled_from(sorted(self.ended)))
        if self.newest < self.ended[name] + SETTLED <= self.now + SETTLED:
            reserved = self.ask(name, asks, 3000, known=True)
            assert isinstance(reserved, Exhausted) or not reserved.replay
        self.after()

    @precondition(lambda self: self.crashes)
    @rule(way=st.sampled_from(WAYS))
    def crash(self, way: str) -> None:
        holds = [policy.hold(key, 0, self.now) for key, policy in POLICIES.items()]
        before = self.levels(holds)
        self.store = crash_and_recover(self.store, self.url, self.clock, way)
        self.store.keep_ledger(1000 * DAY)
        self.ended_before += self.ended
        self.ended.clear()
        if self.now >= self.newest:
            assert self.levels(holds) == before
        self.check_memory()
        self.after()

    def teardown(self) -> None:
        if not hasattr(self, "store"):
            return
        try:
            self.end_late()
            self.keep_up()
        finally:
            self.put_away()

    def end_late(self) -> None:
        """Whatever was before: of three more requests one is refused, one told of after its time, one never."""
        asks, after, looked, share, exact = self.ending
        before = self.counters
        refused = self.ask("refused", dict.fromkeys(asks, 1), 500, known=True, owed=ALL)
        assert isinstance(refused, Exhausted), "nothing is left beside what is owed"
        assert (refused.wait_ms, self.counters) == (-1, before)
        for name in ("told-late", "never-told"):
            if isinstance(self.ask(name, asks, 500, known=True), Exhausted):
                made = self.ask(name, dict.fromkeys(asks, 0), 500, known=True)
                assert isinstance(made, Reserved), "nothing was refused"
            self.open[name] = self.lives[-1]
        self.clock.now = self.open["told-late"].deadline + after
        if looked:
            self.keep_up()
        corrected = self.corrected
        self.end("told-late", share, exact, release=False)
        assert self.corrected == corrected + 1
        self.clock.now += MINUTE  # by then the other one is in the ledger


class InMemory(Machine):
    pass


class OnDisk(Machine):
    on_disk = True


class OnDiskWithCrashes(Machine):
    on_disk = True
    crashes = True
