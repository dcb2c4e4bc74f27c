"""`authz store copy` and `backup`: everything that is in one store, in another."""

import asyncio
import json
import signal
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authz.store.copying.redis_side import RedisSide
from authz.store.embedded import EmbeddedStore
from authz.store.open import open_store, open_view, wall_clock
from authz.store.protocols import Outcome
from authz.store.redis.counters import RedisCounters
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from tests.cli.conftest import Authz
from tests.cli.copying import add_old_days, facts, fill, levels, settle, stands, token_holds
from tests.contract.kit import HOUR, Clock, settled
from tests.support.processes import Process
from tests.support.redis import RedisCluster, RedisServer

PARTS = [
    "entries",
    "keys",
    "users",
    "teams",
    "models",
    "adjustments",
    "day sums",
    "refusals",
    "trials",
    "counters",
    "running requests",
]


@pytest.fixture(scope="module")
def _redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
def redis(_redis: RedisServer) -> RedisServer:
    _redis.call("FLUSHALL")
    return _redis


@pytest.fixture(scope="module")
def _cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisCluster]:
    with RedisCluster(tmp_path_factory.mktemp("cluster")) as cluster:
        yield cluster


@pytest.fixture
def cluster(_cluster: RedisCluster) -> RedisCluster:
    _cluster.flush()
    return _cluster


@pytest.fixture
def clock() -> Clock:
    """Some minutes ago: the command goes by the wall's time."""
    return Clock(wall_clock() - 160_000)


@pytest.fixture
def service(tmp_path: Path, clock: Clock) -> EmbeddedStore:
    store = asyncio.run(fill(tmp_path / "a.db", clock))
    add_old_days(store, clock.now)
    return store


def close(store: EmbeddedStore) -> None:
    asyncio.run(store.close())


def counts(rows: list[dict[str, Any]]) -> dict[str, int]:
    assert [row["part"] for row in rows] == PARTS
    assert all(row["source_digest"] == row["target_digest"] for row in rows), rows
    return {row["part"]: row["source"] for row in rows}


def seen(url: str) -> Any:
    """What commands see."""
    store = open_view(url)
    registry, ledger = store.registry, store.ledger
    now = wall_clock()
    found = (
        registry.keys(),
        registry.users(),
        registry.teams(),
        registry.models(),
        registry.adjustments(),
        {entry.reservation: entry for entry in ledger.entries(limit=1000)},
        ledger.usage(since=0, until=now + HOUR, by=["day", "user", "model", "source"]),
        store.denial_log.list(),
        store.denial_log.show("req_no2"),
        store.trial_log.list(),
    )
    with pytest.raises(StopIteration):
        store.close().send(None)
    return found


def test_there_and_back(
    authz: Authz, service: EmbeddedStore, clock: Clock, redis: RedisServer, tmp_path: Path
) -> None:
    before = asyncio.run(levels(service, clock))
    close(service)
    a, b = f"sqlite://{tmp_path}/a.db", f"sqlite://{tmp_path}/b.db"
    first = counts(authz("store", "copy", a, redis.url, "--json").json)
    assert first == {
        "entries": 30,
        "keys": 3,
        "users": 2,
        "teams": 1,
        "models": 1,
        "adjustments": 1,
        "day sums": first["day sums"],
        "refusals": 1,
        "trials": 1,
        "counters": 6,
        "running requests": first["running requests"],
    }
    assert first["running requests"] == 20, "ten run, ten expired and may still be put right"
    assert first["day sums"] >= 4 + 1
    assert seen(redis.url) == seen(a)
    assert stands(redis.url, clock) == before
    second = counts(authz("store", "copy", redis.url, b, "--json").json)
    assert second == first
    assert seen(b) == seen(a)


def test_what_runs_is_settled_where_it_was_copied_to(
    authz: Authz, service: EmbeddedStore, clock: Clock, redis: RedisServer, tmp_path: Path
) -> None:
    close(service)
    assert authz("store", "copy", f"sqlite://{tmp_path}/a.db", redis.url).code == 0
    before = stands(redis.url, clock)

    async def tell() -> list[Outcome]:
        link = open_link(Target.parse(f"{redis.url}?budget=10000ms"))
        await link.start()
        counters = RedisCounters(link, clock)
        names = ("rsv_20", "rsv_20", "rsv_30", "rsv_1")
        found = [(await settle(counters, name, 10)).outcome for name in names]
        await link.close()
        return found

    assert asyncio.run(tell()) == [Outcome.SETTLED, Outcome.ALREADY, Outcome.CORRECTED, Outcome.UNKNOWN]
    after = stands(redis.url, clock)
    alice = [(one.remaining, other.remaining) for one, other in zip(before[0], after[0], strict=True)]
    # Both were Alice's: 400 tokens held each, 30 used; the expired one had given its slot up.
    assert alice[1][1] - alice[1][0] == alice[2][1] - alice[2][0] == alice[3][1] - alice[3][0] == 2 * 370
    assert after[0][4].held == before[0][4].held - 1
    store = open_view(redis.url)
    assert store.ledger.entry("req_rsv_20") is not None
    (row,) = store.ledger.usage(since=0, until=wall_clock() + HOUR, by=(), only={"source": "corrected"})
    assert (row.requests, row.input_tokens) == (1, 10)


@pytest.mark.parametrize("kind", ["gcra", "fixed", "sliding", "calendar"])
def test_what_is_given_back_later_is_what_it_would_have_been(
    authz: Authz, clock: Clock, redis: RedisServer, tmp_path: Path, kind: str
) -> None:
    """One of two is settled before the copy, the other after it, here and there."""
    hold = next(each for each in token_holds() if each.key == kind)
    url = f"sqlite://{tmp_path}/a.db"

    async def begin() -> None:
        store = open_store(url, clock=clock)
        for name in ("rsv_a", "rsv_b", "rsv_c", "rsv_d"):
            await store.counters.reserve(name, "edge", [hold], 10 * HOUR, facts(name, "alice"))
            clock.pass_(70_000)
        await settle(store.counters, "rsv_a", 10)
        await store.close()

    async def go_on(store: Any) -> list[Any]:
        found = []
        for name, used in (("rsv_c", 0), ("rsv_b", 0), ("rsv_d", 200)):
            done = await settle(store, name, used)
            found.append((done.outcome, done.levels))
        return found

    async def there() -> list[Any]:
        link = open_link(Target.parse(f"{redis.url}?budget=10000ms"))
        await link.start()
        found = await go_on(RedisCounters(link, clock))
        await link.close()
        return found

    async def here() -> list[Any]:
        store = open_store(url, clock=clock)
        found = await go_on(store.counters)
        await store.close()
        return found

    asyncio.run(begin())
    assert authz("store", "copy", url, redis.url).code == 0
    assert asyncio.run(there()) == asyncio.run(here())


CLUSTERED = """\
store: {url}
limits:
  user-rpm: {{unit: requests, quota: 60, window: 1h, partition_by: [user]}}
  all-days: {{unit: tokens, quota: 1M, window: 1000d, algorithm: fixed}}
  user-tokens: {{unit: tokens, quota: 100k, window: 1h, partition_by: [user]}}
  team-month: {{unit: tokens, quota: 1M, window: month, partition_by: [team]}}
  user-slots: {{unit: concurrency, quota: 4, partition_by: [user]}}
"""


def test_to_a_cluster_and_back(
    authz: Authz,
    service: EmbeddedStore,
    clock: Clock,
    cluster: RedisCluster,
    tmp_path: Path,
    config: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A Cluster keeps what has one owner together: the config says whose each counter is."""
    before = asyncio.run(levels(service, clock))
    close(service)
    head = config.read_text().partition("limits:\n  key-rpm")[0].replace("store: sqlite:authz.db\n", "")
    written = tmp_path / "cluster.yaml"
    written.write_text(
        CLUSTERED.format(url=cluster.url) + head.replace("    limits: [key-rpm, team-month]\n", "")
    )
    a, b = f"sqlite://{tmp_path}/a.db", f"sqlite://{tmp_path}/b.db"
    first = counts(authz("store", "copy", a, f"@{written}", "--config", str(written), "--json").json)
    assert seen(cluster.url)[:5] == seen(a)[:5]
    assert stands(cluster.url, clock) == before
    monkeypatch.setenv("THE_STORE", cluster.url)
    assert counts(authz("store", "copy", "env:THE_STORE", b, "--json").json) == first
    assert seen(b) == seen(a)


def test_it_follows_a_service_until_that_ends(
    service: EmbeddedStore, clock: Clock, redis: RedisServer, tmp_path: Path
) -> None:
    a = f"sqlite://{tmp_path}/a.db"
    argv = [sys.executable, "-m", "authz.cli", "store", "copy", a, redis.url, "--follow", "--json"]
    child = Process(argv, log=tmp_path / "copy.log")
    with redis.client() as client:
        child.wait_until(lambda: client.exists("az:{0}:d:days") == 1)
        asyncio.run(settle(service.counters, "rsv_21", 10))
        asyncio.run(settle(service.counters, "rsv_31", 10))
        service.registry.remove_model("llama3")
        asyncio.run(settled(service))
        child.wait_until(lambda: not client.exists("az:{r}:models"))
        assert child.running
        asyncio.run(settle(service.counters, "rsv_22", 10))
    close(service)
    assert child.wait(seconds=60) == 0, child.output()
    rows = json.loads(child.output()[child.output().index("[") :])
    assert counts(rows)["entries"] == 32
    assert "a service may start" in child.output()
    assert seen(redis.url) == seen(a)


def test_it_ends_when_it_is_told_to(service: EmbeddedStore, redis: RedisServer, tmp_path: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "authz.cli",
        "store",
        "copy",
        f"sqlite://{tmp_path}/a.db",
        redis.url,
        "--follow",
    ]
    child = Process(argv, log=tmp_path / "copy.log")
    with redis.client() as client:
        child.wait_until(lambda: client.exists("az:{0}:d:days") == 1)
        child.signal(signal.SIGINT)
        assert child.wait(seconds=60) == 0, child.output()
    assert "still in use" in child.output()
    close(service)


def test_again_into_what_is_there(
    authz: Authz, service: EmbeddedStore, redis: RedisServer, tmp_path: Path
) -> None:
    a = f"sqlite://{tmp_path}/a.db"
    assert authz("store", "copy", a, redis.url).code == 0
    asyncio.run(settle(service.counters, "rsv_21", 10))
    close(service)
    refused = authz("store", "copy", a, redis.url)
    assert (refused.code, refused.out) == (1, "")
    assert "has something in it" in refused.err
    rows = authz("store", "copy", a, redis.url, "--into-nonempty", "--json").json
    assert counts(rows)["entries"] == 31
    assert seen(redis.url) == seen(a)


def test_what_is_missing_is_said(
    authz: Authz, service: EmbeddedStore, redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    close(service)
    save = RedisSide.save
    monkeypatch.setattr(RedisSide, "save", lambda side, entries: save(side, entries[1:]))
    ran = authz("store", "copy", f"sqlite://{tmp_path}/a.db", redis.url)
    assert ran.code == 1
    (row,) = [line.split("\t") for line in ran.out.splitlines() if line.startswith("entries")]
    assert int(row[3]) >= 1
    assert "lacks some of: entries" in ran.err


def test_a_target_in_use_is_refused(
    authz: Authz, service: EmbeddedStore, redis: RedisServer, tmp_path: Path
) -> None:
    a = f"sqlite://{tmp_path}/a.db"
    ran = authz("store", "copy", redis.url, a, "--into-nonempty")
    assert (ran.code, "is in use (process" in ran.err) == (1, True)
    close(service)
    redis.call("ZADD", "az:{r}:replicas", wall_clock() + 30_000, "a")
    ran = authz("store", "copy", a, redis.url)
    assert (ran.code, "is in use (1 running)" in ran.err) == (1, True)


@pytest.mark.parametrize(
    ("source", "target", "code", "said"),
    [
        ("memory://", "sqlite:///tmp/b.db", 1, "cannot be copied"),
        ("sqlite:///nowhere/a.db", "sqlite:///tmp/b.db", 1, "there is no file"),
        ("redis://:secret@127.0.0.1:1/0", "sqlite:///tmp/b.db", 2, "a password on a command line"),
        ("sqlite:///tmp/a.db", "redis+cluster://u:secret@h1,h2", 2, "a password on a command line"),
        ("env:NOT_SET", "sqlite:///tmp/b.db", 1, "NOT_SET is not set"),
        ("authz.db", "sqlite:///tmp/b.db", 2, "a store is a URL"),
        ("redis://127.0.0.1:1/0", "redis://127.0.0.1:1/0", 2, "the same store"),
        ("http://x/y", "sqlite:///tmp/b.db", 1, "is not known"),
    ],
    ids=["memory", "no-file", "password", "password-of-several", "no-variable", "no-url", "same", "unknown"],
)
def test_what_cannot_be_copied_is_said(authz: Authz, source: str, target: str, code: int, said: str) -> None:
    ran = authz("store", "copy", source, target)
    assert (ran.code, ran.out) == (code, "")
    assert said in ran.err
    assert "secret" not in ran.err


def test_a_redis_that_is_away(authz: Authz, tmp_path: Path) -> None:
    ran = authz("store", "copy", "redis://127.0.0.1:1/0", f"sqlite://{tmp_path}/b.db")
    assert ran.code == 1
    assert "cannot be reached" in ran.err


@pytest.mark.parametrize("running", [True, False], ids=["while-it-runs", "stopped"])
def test_a_backup(authz: Authz, service: EmbeddedStore, tmp_path: Path, config: Path, running: bool) -> None:
    config.write_text(config.read_text().replace("sqlite:authz.db", "sqlite:a.db"))
    if not running:
        close(service)
    kept = tmp_path / "kept.db"
    ran = authz("store", "backup", str(kept), "--json")
    assert counts(ran.json)["entries"] == 30
    assert kept.stat().st_mode & 0o777 == 0o600
    assert sqlite3.connect(kept).execute("PRAGMA quick_check").fetchone() == ("ok",)
    assert seen(f"sqlite://{kept}") == seen(f"sqlite://{tmp_path}/a.db")
    again = authz("store", "backup", str(kept))
    assert (again.code, "is there already" in again.err) == (1, True)
    assert ("make another backup" in ran.err) == running  # it takes no --into-nonempty
    assert "--into-nonempty" not in ran.err
    if running:
        close(service)


def test_a_backup_into_no_directory_is_not_the_stores_fault(authz: Authz, tmp_path: Path) -> None:
    ran = authz("store", "backup", str(tmp_path / "nowhere" / "kept.db"))
    assert (ran.code, f"there is no directory {tmp_path}/nowhere" in ran.err) == (1, True)
    assert "`store`" not in ran.err
