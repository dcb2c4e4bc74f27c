"""What holds for every test."""

import pytest
from hypothesis import HealthCheck, settings

# On a busy machine an example takes as long as it takes: that says nothing about the code.
# The same examples each time: a run is red for what was changed. `--hypothesis-profile exploring` looks further.
settings.register_profile("exploring", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", settings.get_profile("exploring"), derandomize=True, database=None)
settings.load_profile("patient")

pytest_plugins = ["tests.support.redis_fixtures"]

TIMED = (
    "tests/gateways/",
    "tests/up/",
    "tests/demo/",
    "tests/acceptance/test_streaming_lag.py",
    "tests/acceptance/test_revocation.py",
    "tests/reliability/test_flood.py",
)
"""Tests that wait by the wall clock for real processes, beside other tests on the same two cores."""


LONG = (
    "tests/acceptance/",
    "tests/reliability/",
    "tests/store/test_machine.py",
    "tests/test_readme.py",
    "tests/gateways/",
    "tests/up/",
    "tests/redis/",
    "tests/cli/",
)
"""Files that take minutes: they begin first, so that none of them is what all wait for in the end."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Only these are tried once more, and told as `rerun`. What must never happen is never tried again."""
    items.sort(key=lambda item: not item.nodeid.startswith(LONG))
    for item in items:
        if item.nodeid.startswith(TIMED):
            item.add_marker(pytest.mark.flaky(reruns=1, reruns_delay=2))
