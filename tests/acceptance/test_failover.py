"""A replica of Redis that lags is promoted with writes in flight: what is lost, against the bound that docs/redis.md states."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from authz.store.open import open_view
from authz.store.redis import names
from tests.acceptance.lab import add_key, ask, eventually
from tests.acceptance.store_checks import charged
from tests.acceptance.store_load import Answer, Caller, Load
from tests.acceptance.store_trouble import CONFIG, TOKEN, Place
from tests.support.asking import Asker, usage
from tests.support.redis import RedisServer, Sentinels, wait_for
from tests.support.service import AuthzService
from tests.support.toxic import Toxic

RATE = 60.0
DOWN_AFTER = 2_000  # ms: a busy machine is no reason for a failover of its own
STEADY = 1.0  # seconds of load before
LAG = 0.3  # seconds that the replica is behind when the master dies
MAX_LAG = 1  # seconds: `min-replicas-max-lag`
NOTICED = 3  # seconds until a lag that is too long is one for Redis and for authz
ROOM = 2.0  # seconds, for a busy machine
GUARD = ("min-replicas-to-write", "1", "min-replicas-max-lag", str(MAX_LAG))


@dataclass(frozen=True)
class Group:
    """A master, a replica that hears of it by a proxy, Sentinels, and authz on them."""

    sentinels: Sentinels
    replication: Toxic
    at: Place

    def known_to_both(self) -> float:
        """When all that the replica has by now, at least, had been written."""
        begun = time.monotonic()
        marker = f"az:test:{begun}"
        self.sentinels.master.call("SET", marker, 1)
        wait_for(self.sentinels.replica, lambda: bool(self.sentinels.replica.call("EXISTS", marker)))
        return begun

    def fail_over(self) -> float:
        """The master dies with all that is still on its way; when that was.

        The successor's own replica is the old master, emptied.
        """
        old, new = self.sentinels.master, self.sentinels.replica
        old.kill()
        died = time.monotonic()
        self.replication.cut()
        _let_replicas_be(self.sentinels, ms=5_000)  # of this depends too when a split vote is tried again
        eventually(lambda: self.sentinels.current() == new.port, seconds=60)
        wait_for(new, lambda: new.call("ROLE")[0] == b"master")
        old.restart()
        old.call("REPLICAOF", "127.0.0.1", new.port)
        return died


@contextmanager
def group(scratch: Path, *options: str) -> Iterator[Group]:
    with (
        Sentinels(scratch, *options, down_after=DOWN_AFTER) as sentinels,
        Toxic(sentinels.master.port) as replication,
    ):
        _let_replicas_be(sentinels, ms=600_000)
        sentinels.replica.call("REPLICAOF", "127.0.0.1", replication.port)
        wait_for(sentinels.replica, lambda: _follows(sentinels.replica, replication.port))
        store = f"{sentinels.url}?wait_replicas=1"
        with AuthzService(scratch / "authz", CONFIG, store=store) as service:
            at = Place(sentinels.replica, replication, service, open_view(store))
            yield Group(sentinels, replication, at)


def _let_replicas_be(sentinels: Sentinels, ms: int) -> None:
    """So long Sentinels leave a replica alone that does not follow the master itself (`failover-timeout`)."""
    for each in sentinels.sentinels:
        each.call("SENTINEL", "SET", sentinels.NAME, "failover-timeout", ms)


def _follows(replica: RedisServer, port: int) -> bool:
    role, _, of, state, _ = replica.call("ROLE")
    return bool(role == b"slave" and of == port and state == b"connected")


@pytest.mark.parametrize("options", [(), GUARD], ids=["lagging", "min-replicas"])
def test_what_a_failover_loses(tmp_path: Path, options: Sequence[str]) -> None:
    lose(tmp_path, options, RATE)


def lose(scratch: Path, options: Sequence[str], rate: float) -> None:
    """One failover: what is lost is within the bound, and what was confirmed is not lost."""
    with group(scratch, *options) as here:
        key = add_key(here.at.view.registry)
        eventually(lambda: ask(here.at.service, key.key).status == 200)
        caller, control = Caller("deny", key.key, "on-deny", rate), Caller("nobody", "sk-none", "on-deny", 30)
        with Load(here.at.service.http, TOKEN, [caller, control]) as load:
            eventually(lambda: len(load.settled) > 10)
            time.sleep(STEADY)
            since = here.known_to_both()
            assert _follows(here.sentinels.replica, here.replication.port)
            here.replication.hold()
            if options:
                held = time.monotonic()
                eventually(lambda: _refused(load, held), seconds=60)
            else:
                time.sleep(LAG)
            confirmed = {name for name, outcome in list(load.settled.items()) if outcome != "unknown"}
            died = here.fail_over()
            failed_over = time.monotonic()
            eventually(lambda: len(_let_in(load, failed_over)) > 20, seconds=60)
        admitted = _let_in(load)
        lost = [each for each in admitted if not _is_known(here.sentinels.replica, each)]
        bound = [each for each in admitted if since <= each.done and each.due < died]
        last = max(each.done for each in bound)
        back = min(each.done for each in _let_in(load, died))
        print(
            f"\n{'min-replicas' if options else 'lagging'}: {len(admitted)} let through, {len(lost)} lost; "
            f"bound: {len(bound)}, let through in the {last - since:.2f} s before the master "
            f"{'was left' if options else 'died'}; back {back - died:.1f} s after its death"
        )
        assert {each.reservation for each in lost} <= {each.reservation for each in bound}
        # The quota has back what was lost, and no more.
        assert len(admitted) - charged(here.at, "deny", key.id) == len(lost)
        if options:
            stall = max(each.done - each.due for each in load.of("nobody"))
            assert last - since <= MAX_LAG + NOTICED + stall + ROOM
        else:
            assert lost != []
        assert {each.status for each in load.of("deny")} <= {200, 503}
        assert {each.status for each in load.of("nobody")} == {401}
        forgotten = {name for name, outcome in load.settled.items() if outcome == "unknown"}
        assert forgotten <= {each.reservation for each in lost}
        assert asyncio.run(_report_again(here.at.service.http, sorted(confirmed))) == {"already"}


async def _report_again(port: int, reservations: Sequence[str]) -> set[str]:
    """How it came out: `already` where the settlement was kept."""
    async with Asker(port, TOKEN) as asker:
        return {
            outcome for name in reservations for outcome in await asker.report(usage(name, input=1, output=1))
        }


def _let_in(load: Load, since: float = 0.0) -> list[Answer]:
    return [each for each in load.of("deny", since) if each.status == 200]


def _refused(load: Load, since: float) -> bool:
    """Nobody was let in since some time."""
    late = load.of("deny", max(since, time.monotonic() - 0.5))
    return len(late) > 10 and all(each.status == 503 for each in late)


def _is_known(server: RedisServer, answer: Answer) -> bool:
    return bool(server.call("EXISTS", names.reservation("0", answer.reservation)))
