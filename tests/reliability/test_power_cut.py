"""What docs/adr/0002 says of a power cut, with the machine's part in it played by hand.

Pages in memory that nobody asked to be written end with the machine: whatever became of the journal's, the last
group commit is there, the records are whole, and the service says that counts may be missing.
"""

import signal
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from authz.quota import Unit
from authz.store.levels import level_of
from authz.store.protocols import Hold, Kind
from tests.reliability.clerk import new_key
from tests.reliability.processes import wait_for
from tests.support.raw_http import exchange, request_bytes
from tests.support.service import AuthzService

QUOTA = 100_000
DAY = 86_400_000  # ms
COMMITTED, SINCE = 60, 30  # requests before and after a group commit
CONFIG = """
gateways:
  edge: {kind: envoy, token: token-of-the-tests}
authenticators:
  keys: {type: api_key}
routes:
  - name: all
    match: {methods: [GET], paths: [/all]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [day]
limits:
  day: {unit: requests, quota: 100k, window: 24h, algorithm: sliding, partition_by: [key]}
rate_headers: always
"""


def never_written(journal: Path) -> None:
    journal.unlink()


def zeros(journal: Path) -> None:
    journal.write_bytes(bytes(journal.stat().st_size))


def only_the_first_page(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(content[:4096] + bytes(len(content) - 4096))


def all_but_the_first_page(journal: Path) -> None:
    content = journal.read_bytes()
    journal.write_bytes(bytes(4096) + content[4096:])


@pytest.fixture
def service(tmp_path: Path) -> Iterator[AuthzService]:
    made = AuthzService(tmp_path / "authz", CONFIG)
    yield made
    made.stop()


def remaining(service: AuthzService, key: str) -> int:
    """What an admission says is left after it."""
    headers: list[tuple[str | bytes, str | bytes]] = [
        ("x-authz-gateway-token", "token-of-the-tests"),
        ("authorization", f"Bearer {key}"),
    ]
    answer = exchange(service.http, request_bytes("GET", "/auth/envoy/all", headers))
    assert answer.status == 200, answer
    left = answer.header("x-ratelimit-remaining-requests")
    assert left is not None
    return int(left)


@pytest.mark.parametrize(
    "cut", [never_written, zeros, only_the_first_page, all_but_the_first_page], ids=lambda cut: cut.__name__
)
def test_power_cut(service: AuthzService, cut: Callable[[Path], None]) -> None:
    key = new_key(service.registry, "alice")
    service.start()
    for _ in range(COMMITTED):
        remaining(service, key.key)
    store = service.directory / "authz.db"
    wait_for("the group commit", lambda: _committed(service) == COMMITTED, seconds=30)
    for _ in range(SINCE):
        remaining(service, key.key)
    latest = new_key(service.registry, "bob")
    assert service.process is not None
    service.process.signal(signal.SIGKILL)
    service.process.wait()
    for journal in service.directory.glob("authz.db-counters.*"):
        cut(journal)
    with closing(sqlite3.connect(store)) as connection, connection:
        connection.execute("UPDATE meta SET value = 'an earlier boot' WHERE name = 'running_since_boot'")
    service.start()
    charged = QUOTA - remaining(service, key.key) - 1
    assert COMMITTED <= charged <= COMMITTED + SINCE
    assert "the machine stopped while the service ran" in service.log
    assert remaining(service, latest.key) == QUOTA - 1


def _committed(service: AuthzService) -> int:
    """How many requests the counter in the database holds."""
    (encoded,) = service.registry.counter_levels("day|").values() or (b"",)
    hold = Hold("", Kind.SLIDING, Unit.REQUESTS, QUOTA, 0, window=DAY)
    return QUOTA - level_of(encoded, hold, time.time_ns() // 1_000_000).remaining if encoded else 0
