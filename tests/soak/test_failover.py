"""Failovers one after another: each loses what the bound allows at most."""

from pathlib import Path

import pytest

from tests.acceptance.test_failover import GUARD, lose

ROUNDS = 20


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("options", [(), GUARD], ids=["lagging", "min-replicas"])
def test_what_failovers_lose(tmp_path: Path, options: tuple[str, ...]) -> None:
    for number in range(ROUNDS):
        scratch = tmp_path / str(number)
        scratch.mkdir()
        lose(scratch, options, rate=100.0)
