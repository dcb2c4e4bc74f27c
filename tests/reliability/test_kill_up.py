"""kill -9 of `authz up` under load: no orphan, and the next one takes up where it was."""

import signal
from pathlib import Path

import pytest

from tests.reliability.kill_rounds import end_up

ROUNDS = 20


@pytest.mark.timeout(900)
def test_kill_up(tmp_path: Path) -> None:
    end_up(signal.SIGKILL, tmp_path, ROUNDS)
