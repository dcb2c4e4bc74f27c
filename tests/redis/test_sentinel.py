"""The link to a master that Sentinels name: it follows them, and never goes back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from redis.exceptions import ResponseError

from authz.store.redis.client import async_client, sync_client
from authz.store.redis.link_open import open_link
from authz.store.redis.target import Target
from tests.redis.link_kit import PATIENT, linked, once, outcome, places, until
from tests.redis.link_load import loaded, quiet
from tests.support.ports import free_port
from tests.support.redis import RedisServer, Sentinels


@pytest.fixture
def group(tmp_path: Path) -> Iterator[Sentinels]:
    with Sentinels(tmp_path) as sentinels:
        yield sentinels


async def test_the_master_dies_and_comes_back_as_a_replica(group: Sentinels) -> None:
    async with loaded(group.url) as (link, load, lag):
        group.master.kill()
        load.forget()
        await until(lambda: load.failed > 10)
        await until(lambda: load.served > 50)
        assert max(load.waits) < 0.06 + lag.slack
        await until(lambda: link.owed == 0)
        counts = group.replica.call("HVALS", places()[0])
        assert set(counts) == {b"1"}  # what the replica had not heard of is lost; nothing ran twice
        group.master.start()  # for some seconds it takes itself for a master
        await quiet(load)
        assert link.trouble is None
        assert group.current() == group.replica.port


async def test_a_master_that_hangs_is_left_for_its_successor(group: Sentinels) -> None:
    async with loaded(group.url) as (link, load, lag):
        group.master.pause()
        load.forget()
        await until(lambda: load.failed > 10)
        await until(lambda: load.served > 50)
        assert group.current() == group.replica.port
        group.master.resume()  # for some seconds it takes itself for the master
        load.forget()
        await quiet(load)
        assert max(load.waits) < 0.06 + lag.slack
        await until(lambda: link.owed == 0)
        assert set(group.replica.call("HVALS", places()[0])) == {b"1"}


def handed_over(group: Sentinels) -> bool:
    """Whether a Sentinel begins it. One that has not heard of the replica lately says that there is none."""
    try:
        group.sentinels[0].call("SENTINEL", "FAILOVER", group.NAME)
    except ResponseError as error:
        if "NOGOODSLAVE" not in str(error):
            raise
        return False
    return True


async def test_a_master_that_is_replaced_while_it_works(group: Sentinels) -> None:
    """An operator's own SENTINEL FAILOVER: the old one answers READONLY, or the Sentinels tell first."""
    async with linked(group.url + PATIENT) as link:
        assert await once(link, "before") == 1
        await until(lambda: handed_over(group))
        await until(lambda: group.current() == group.replica.port)
        await until(
            lambda: link.trouble is None and str(group.replica.port) in next(iter(link._nodes())).where
        )
        assert await once(link, "after") == 1


async def test_who_asks_the_sentinels_otherwise(group: Sentinels) -> None:
    target = Target.parse(group.url)
    plain = sync_client(target)
    plain.set("az:{r}:x", b"\xff")
    plain.close()
    later = async_client(target)
    assert await later.get("az:{r}:x") == b"\xff"
    await later.aclose()


async def test_a_start_without_any_sentinel_says_so_and_goes_on_trying(server: RedisServer) -> None:
    ports = [free_port(), free_port()]
    hosts = ",".join(f"127.0.0.1:{port}" for port in ports)
    link = open_link(Target.parse(f"redis+sentinel://:hunter2@{hosts}/main{PATIENT}"))
    await link.start()
    trouble = link.trouble or ""
    assert "no Sentinel of" in trouble
    assert f"127.0.0.1:{ports[1]}" in trouble
    assert "'main'" in trouble
    assert "hunter2" not in trouble
    assert "no Sentinel" in await outcome(once(link, "x"))
    await link.close()


async def test_a_name_that_no_sentinel_knows(group: Sentinels) -> None:
    async with linked(group.url.replace("/main/", "/other/") + PATIENT) as link:
        assert "'other'" in (link.trouble or "")
