"""kill -9 of Envoy, of authz and of clients in the middle of streams: no slot stays taken, no reservation is lost."""

from pathlib import Path

import pytest

from tests.reliability.leak_rounds import leak_rounds

ROUNDS = 20


@pytest.mark.timeout(600)
def test_nothing_leaks(tmp_path: Path) -> None:
    figures = leak_rounds(tmp_path, ROUNDS)
    print(f"\n{figures}")
    assert figures.deaths == ROUNDS
