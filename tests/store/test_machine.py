"""Every store against the oracle: thousands of steps, of which none may be wrong."""

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.store.machine import InMemory, Machine, OnDisk, OnDiskWithCrashes

STEPS = 50  # of one example at most


@pytest.mark.parametrize(
    ("machine", "examples", "least"),
    [(InMemory, 120, 4_500), (OnDisk, 80, 2_500), (OnDiskWithCrashes, 80, 3_000)],
    ids=["memory", "sqlite", "sqlite-with-crashes"],
)
def test_machine(machine: type[Machine], examples: int, least: int) -> None:
    """More than 10,000 steps in all: never over, never negative, a denial charges nothing, settled twice is once."""
    machine.steps = machine.corrected = machine.expired = 0
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            derandomize=True,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(
        f"{machine.__name__}: {machine.steps} steps, {machine.corrected} corrected, {machine.expired} expired"
    )
    assert machine.steps >= least
    assert machine.corrected >= examples
    assert machine.expired >= examples
