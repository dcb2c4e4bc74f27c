"""The drills of tests/reliability, for long enough to meet what is rare."""

import signal
from pathlib import Path

import pytest

from tests.reliability.kill_rounds import end_up, kill_child

ROUNDS = 150


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("name", ["serve", "envoy"])
def test_kill_child(tmp_path: Path, name: str) -> None:
    kill_child(name, tmp_path, ROUNDS)


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_end_up(tmp_path: Path, number: signal.Signals) -> None:
    end_up(number, tmp_path, ROUNDS)
