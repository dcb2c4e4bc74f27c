"""Redis against the oracle of the other stores: it knows what happened to requests, and nothing of Lua."""

from collections.abc import Iterator
from typing import Any, ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import initialize, run_state_machine_as_test

from tests.contract.kit import Clock
from tests.redis.counted import CountedStore
from tests.redis.direct import DirectLink
from tests.store.checks import STARTS
from tests.store.machine import Machine
from tests.store.oracle import POLICIES, Account
from tests.support.redis import RedisServer

EXAMPLES = 60
STEPS = 40  # of one example at most
SEEDS = 4  # what one never comes to, because of what is imported just then, another does


class OnRedis(Machine):
    link: ClassVar[DirectLink]

    @initialize(start=st.sampled_from(STARTS))
    def begin(self, start: int) -> None:
        self.clock = Clock(start)
        self.newest = start
        self.store: Any = CountedStore(self.link, self.clock)
        self.accounts = {key: Account(policy) for key, policy in POLICIES.items()}
        self.lives = []
        self.open = {}
        self.ended = {}
        self.ended_before = []
        self.leases = {}
        self.serial = 0

    @property
    def counters(self) -> dict[str, Any]:
        return dict(self.store.states)

    def teardown(self) -> None:
        if hasattr(self, "store"):
            self.keep_up()


@pytest.fixture
def machine(server: RedisServer) -> Iterator[type[OnRedis]]:
    OnRedis.link = DirectLink(server.port)
    yield OnRedis
    OnRedis.link.connection.disconnect()


def run(machine: type[OnRedis], examples: int) -> None:
    machine.steps = machine.corrected = machine.expired = 0
    for number in range(SEEDS):
        run_state_machine_as_test(
            seed(number)(machine),
            settings=settings(
                max_examples=examples // SEEDS,
                stateful_step_count=STEPS,
                deadline=None,
                database=None,
                derandomize=False,
                suppress_health_check=list(HealthCheck),
            ),
        )
    print(f"{machine.steps} steps, {machine.corrected} corrected, {machine.expired} expired")


def test_machine(machine: type[OnRedis]) -> None:
    """Never over, never negative, a denial charges nothing, settled twice is once."""
    run(machine, EXAMPLES)
    assert machine.steps >= 1000
    assert machine.corrected >= 1
    assert machine.expired > 10
