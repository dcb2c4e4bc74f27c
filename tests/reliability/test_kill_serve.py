"""kill -9 of the service under load: Envoy refuses meanwhile, nothing is lost, nothing given back."""

from pathlib import Path

import pytest

from tests.reliability.kill_rounds import kill_child

ROUNDS = 20


@pytest.mark.timeout(900)
def test_kill_serve(tmp_path: Path) -> None:
    findings = kill_child("serve", tmp_path, ROUNDS)
    assert findings.figures["unavailable"] > ROUNDS  # Envoy did answer meanwhile
