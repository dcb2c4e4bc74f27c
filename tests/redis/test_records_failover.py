"""Another server, or an older state of it: the records are followed on, and what is lost is not believed."""

import asyncio
from pathlib import Path

import pytest
import redis.asyncio.sentinel
import redis.sentinel
from msgspec.structs import replace

from authz.store.protocols import StoreUnavailable
from authz.store.redis import kept
from authz.store.redis.client import async_client
from authz.store.redis.directory import RedisDirectory
from authz.store.redis.records import CommandRecords
from authz.store.redis.target import Target
from tests.contract.kit import NOON
from tests.contract.test_records import a_key
from tests.redis.records_kit import command, known, replica, until
from tests.support.redis import RedisServer, Sentinels


async def test_who_followed_the_old_master_follows_the_new(tmp_path: Path) -> None:
    with Sentinels(tmp_path) as group:
        async with replica(group.url) as here:
            with command(group.url) as operator:
                operator.registry.add_key(a_key())
            with group.master.client() as client:
                assert client.wait(1, 10_000) == 1
            await until(lambda: _is_there(here.directory))
            group.master.kill()
            with command(group.url) as operator:
                await until(lambda: _revoked(operator), seconds=60)
            await until(lambda: not _is_there(here.directory), seconds=60)
            await until(lambda: here.trouble is None)


async def test_an_old_master_that_answers_on_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off from the Sentinels, it takes it for granted that it is the master."""
    with RedisServer(tmp_path) as old, RedisServer(tmp_path, "replicaof", f"127.0.0.1 {old.port}") as new:
        master = old

        def named(self: object, name: str) -> tuple[str, int]:
            return "127.0.0.1", master.port

        async def named_later(self: object, name: str) -> tuple[str, int]:
            return named(self, name)

        monkeypatch.setattr(redis.sentinel.Sentinel, "discover_master", named)
        monkeypatch.setattr(redis.asyncio.sentinel.Sentinel, "discover_master", named_later)
        async with replica("redis+sentinel://127.0.0.1/main") as here:
            await asyncio.to_thread(here.registry.add_key, a_key())
            await until(lambda: _is_there(here.directory))
            await until(lambda: new.call("HLEN", kept.KEYS) == 1)
            new.call("REPLICAOF", "NO", "ONE")
            master = new
            with command(new.url) as operator:
                assert _revoked(operator)
            await until(lambda: not _is_there(here.directory))
            await asyncio.to_thread(here.registry.add_key, a_key("another"))
            assert (old.call("HLEN", kept.KEYS), new.call("HLEN", kept.KEYS)) == (1, 2)


async def test_a_connection_in_use_is_left_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It was taken from the pool before another became the master, and given back after."""
    with RedisServer(tmp_path) as old, RedisServer(tmp_path) as new:
        master = old

        async def named(self: object, name: str) -> tuple[str, int]:
            return "127.0.0.1", master.port

        monkeypatch.setattr(redis.asyncio.sentinel.Sentinel, "discover_master", named)
        client = async_client(Target.parse("redis+sentinel://127.0.0.1/main"))
        pool = client.connection_pool
        used = await pool.get_connection()
        master = new
        await client.find_master()
        await pool.release(used)
        await client.set("written", "here")
        await client.aclose()
        assert (old.call("EXISTS", "written"), new.call("EXISTS", "written")) == (0, 1)


async def test_sentinels_that_hang_delay_and_no_more(tmp_path: Path) -> None:
    with Sentinels(tmp_path) as group:
        with command(group.url) as operator:
            operator.registry.add_key(a_key())
        for each in group.sentinels[:2]:
            each.pause()
        async with replica(group.url) as here:
            await until(lambda: _is_there(here.directory))
            await until(lambda: here.trouble is None)
        for each in group.sentinels[:2]:
            each.resume()


async def test_a_server_that_lost_its_last_writes(tmp_path: Path) -> None:
    with RedisServer(tmp_path) as server, command(server.url) as operator:
        async with replica(server.url) as here:
            operator.registry.add_key(a_key())
            server.call("SAVE")
            operator.registry.add_key(a_key("lost"))
            await until(lambda: known(here.directory, a_key("lost")) is not None)
            server.kill()
            server.restart()

            def is_forgotten() -> bool:
                assert _is_there(here.directory)
                return known(here.directory, a_key("lost")) is None

            await until(is_forgotten)
            await until(lambda: here.trouble is None)


def _is_there(directory: RedisDirectory) -> bool:
    """Whether it lets the key in."""
    found = known(directory, a_key())
    return found is not None and found.revoked_at is None


def _revoked(operator: CommandRecords) -> bool:
    """False: there is no master right now."""
    try:
        operator.registry.put_key(replace(a_key(), revoked_at=NOON))
    except StoreUnavailable:
        return False
    return True
