"""200 sudden deaths in the middle of streams."""

from pathlib import Path

import pytest

from tests.reliability.leak_rounds import leak_rounds

ROUNDS = 200


@pytest.mark.timeout(3600)
def test_nothing_leaks(tmp_path: Path) -> None:
    figures = leak_rounds(tmp_path, ROUNDS)
    print(f"\n{figures}")
    assert figures.deaths == ROUNDS
