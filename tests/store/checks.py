"""What must hold of a store after every step of the machine, told from what happened alone."""

import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize
from msgspec import Struct

from authz.store.counting import KINDS, gcra
from authz.store.open import open_store
from authz.store.protocols import Hold, Kind, Outcome, Settled
from authz.store.records import Source
from authz.store.reservations import GRAIN, LATE
from authz.usage import Usage
from tests.contract.kit import DAY, HOUR, Clock, at
from tests.store.oracle import POLICIES, Account

STARTS = [
    at("2024-03-31 02:00", "Europe/Helsinki"),
    at("2024-10-27 02:00", "Europe/Helsinki"),
    at("2024-10-26 23:59:58", "Europe/Helsinki"),
    at("2024-03-09 23:00", "America/Havana"),
    at("2024-02-29 18:00"),
    1_700_000_000_123,
]


class Ending(NamedTuple):
    """How an example ends: with a request that is told of after its time, as this says."""

    asks: dict[str, int]
    after: int  # ms since its deadline
    looked: bool  # whether somebody saw before that it had expired
    share: int  # of what was held, in tenths
    exact: int


ENDINGS = st.builds(
    Ending,
    asks=st.dictionaries(
        st.sampled_from(sorted({*POLICIES} - {"slots"})), st.integers(0, 70), min_size=1, max_size=5
    ),
    after=st.sampled_from([0, 1, 100, 200, HOUR, LATE - 1]),
    looked=st.booleans(),
    share=st.integers(0, 13),
    exact=st.integers(0, 70),
)


class Life(Struct):
    """One admitted request, as it was told of."""

    name: str  # its reservation
    request: str  # its request id; empty: it came without facts
    asks: dict[str, int]
    held: Usage
    created: int
    deadline: int
    ended: tuple[int, Source, Usage] | None = None  # when it was settled, and as what


def answer(question: Coroutine[Any, Any, Any]) -> Any:
    """An embedded store never suspends."""
    try:
        question.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("the store waited for something")


class Checked(RuleBasedStateMachine):
    """A store and the books beside it. `steps` counts what was done to all stores of a class."""

    on_disk: ClassVar[bool] = False
    crashes: ClassVar[bool] = False
    steps: ClassVar[int] = 0
    corrected: ClassVar[int] = 0
    expired: ClassVar[int] = 0

    @initialize(start=st.sampled_from(STARTS), ending=ENDINGS)
    def begin(self, start: int, ending: Ending) -> None:
        self.clock = Clock(start)
        self.newest = start
        self.ending = ending
        self.store: Any = self.opened()
        self.accounts = {key: Account(policy) for key, policy in POLICIES.items()}
        self.lives: list[Life] = []
        self.open: dict[str, Life] = {}  # what may be settled
        self.ended: dict[str, int] = {}  # what was settled, and when
        self.ended_before: list[str] = []  # the same, of processes that are gone
        self.leases: dict[str, int] = {}
        self.serial = 0

    def opened(self) -> Any:
        """A store with nothing in it."""
        self.place = Path(tempfile.mkdtemp(prefix="authz-machine-"))
        self.url = f"sqlite://{self.place}/authz.db" if self.on_disk else "memory://"
        store = open_store(self.url, clock=self.clock)
        store.keep_ledger(1000 * DAY)
        return store

    # -- what holds after every step ---------------------------------------------------------------

    @property
    def now(self) -> int:
        return self.clock.now

    @property
    def counters(self) -> dict[str, Any]:
        return dict(self.store._engine.tables.counters.items())

    def after(self) -> None:
        type(self).steps += 1
        self.newest = max(self.newest, self.now)
        states = self.counters
        for key, account in self.accounts.items():
            policy, state = account.policy, states.get(key)
            if policy.kind is Kind.CONCURRENCY:
                # Once over is over: a clock that steps back brings no lease to life again.
                assert sum(end > self.newest for end in self.leases.values()) <= policy.quota
                continue
            account.check_promise()
            if policy.kind is Kind.GCRA:
                self.check_bucket(account, state)
            elif state is None:
                assert account.used(self.now) == 0, "a counter was forgotten"
            else:
                view = KINDS[policy.kind].view(policy.hold(key, 0, self.now), state, self.now)
                assert KINDS[policy.kind].used(view) == account.used(self.now), (key, state)

    def keep_up(self) -> None:
        """What is over ends, and all is written."""
        self.newest = max(self.newest, self.now)
        for _ in range(2):
            self.store.keep_up()
            self.store.wait_for_writer()
        assert self.store.trouble is None
        self.check_ledger()
        self.after()

    def check_bucket(self, account: Account, state: Any) -> None:
        if state is None:
            assert account.drained(self.now, account.debts) == 0
            return
        assert state[gcra.AT] <= self.newest, "a bucket is ahead of every clock it saw"
        account.latest = state[gcra.AT]  # a refund, too, brings a bucket to its moment
        used = gcra.used(gcra.view(account.policy.hold("", 0, self.now), state, self.now))
        assert used >= account.drained(self.now, account.debts), "a refund made capacity"

    def check_levels(self, settled: Settled) -> None:
        for hold, level in zip(settled.holds, settled.levels, strict=True):
            assert 0 <= level.remaining <= hold.quota
            assert level.held >= 0
            if hold.kind is not Kind.GCRA:
                used = self.accounts[hold.key].used(self.now)
                assert level.remaining == max(0, hold.quota - used), hold.key

    def check_ledger(self) -> None:
        """Every request that is over once, as it ended, and no other."""
        entries = self.store.ledger.entries(limit=10_000)
        found = {entry.facts.request_id: entry for entry in entries}
        assert len(found) == len(entries), "an entry twice"
        for life in self.lives:
            entry = found.pop(life.request, None)
            if not life.request:
                assert entry is None
            elif life.ended is not None:
                assert entry is not None, "a settlement was lost"
                assert (entry.ended_at, entry.note.source, entry.note.usage) == life.ended
            elif entry is None:
                assert self.now < (life.deadline // GRAIN + 1) * GRAIN, "an expiry was lost"
            else:
                assert self.newest >= life.deadline, "it expired before its time"
                expected = (life.deadline, Source.EXPIRED, life.held)
                assert (entry.ended_at, entry.note.source, entry.note.usage) == expected
                type(self).expired += 1
            assert entry is None or (entry.at, entry.gateway) == (life.created, "edge")
        assert not found, "an entry of nothing"
        sums = self.store.ledger.usage(since=0, until=10**13, by=())
        used = [entry.note.usage for entry in entries]
        assert sum(each.requests for each in sums) == len(entries)
        assert sum(each.input_tokens for each in sums) == sum(each.input for each in used)
        assert sum(each.output_tokens for each in sums) == sum(each.output for each in used)

    def levels(self, holds: list[Hold]) -> list[tuple[int, int]]:
        reserved = answer(self.store.counters.peek(holds))
        return [(level.remaining, level.held) for level in reserved.levels]

    def check_memory(self) -> None:
        """Without any upkeep: what was settled was not lost, and is not open again."""
        for name in self.ended_before:
            assert isinstance(answer(self.store.counters.find(name, "edge")), Outcome)
        entries = {entry.facts.request_id for entry in self.store.ledger.entries(limit=10_000)}
        assert {life.request for life in self.lives if life.request and life.ended is not None} <= entries

    def put_away(self) -> None:
        try:
            answer(self.store.close())
        finally:
            shutil.rmtree(self.place)
