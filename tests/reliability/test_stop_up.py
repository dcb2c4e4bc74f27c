"""SIGTERM to `authz up` under load: all of it ends in time, with exit code 0, and nothing is lost."""

import signal
from pathlib import Path

import pytest

from tests.reliability.kill_rounds import end_up

ROUNDS = 4


@pytest.mark.timeout(900)
def test_stop_up(tmp_path: Path) -> None:
    end_up(signal.SIGTERM, tmp_path, ROUNDS)
