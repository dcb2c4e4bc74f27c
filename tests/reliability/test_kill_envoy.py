"""kill -9 of Envoy under load: `authz up` starts it again, and what is charged stays right."""

from pathlib import Path

import pytest

from tests.reliability.kill_rounds import kill_child

ROUNDS = 20


@pytest.mark.timeout(900)
def test_kill_envoy(tmp_path: Path) -> None:
    findings = kill_child("envoy", tmp_path, ROUNDS)
    assert findings.figures["cut"] > 0  # it did happen in the middle of requests
