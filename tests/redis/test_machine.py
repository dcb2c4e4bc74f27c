"""Redis against the oracle of the other stores: it knows what happened to requests, and nothing of Lua."""

from collections.abc import Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.redis.counted import CountedStore
from tests.redis.direct import DirectLink
from tests.store.machine import Machine
from tests.support.redis import RedisServer

EXAMPLES = 60
STEPS = 40  # of one example at most
SEEDS = 4  # what one never comes to, because of what is imported just then, another does


class OnRedis(Machine):
    link: ClassVar[DirectLink]

    def opened(self) -> CountedStore:
        return CountedStore(self.link, self.clock)

    @property
    def counters(self) -> dict[str, Any]:
        return dict(self.store.states)

    def put_away(self) -> None:
        """The server is for all of them."""


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
    assert machine.corrected >= EXAMPLES
    assert machine.expired >= EXAMPLES
