"""A revoked key is let in nowhere a second later: three replicas, each a process, under load.

`tests/redis/test_revocation.py` has what becomes of it with messages that are lost.
"""

from pathlib import Path

from tests.acceptance.revocations import WITHIN_S, measure
from tests.support.redis import RedisServer

TRIALS = 10


def test_the_last_allow_of_three_processes(tmp_path: Path, server: RedisServer) -> None:
    lags = measure(tmp_path, server, f"{server.url}?budget=10000ms", TRIALS)
    print(f"\n{lags}")
    assert max(lags.found) <= WITHIN_S
