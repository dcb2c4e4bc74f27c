"""The records in memory: complete, followed, never empty while they are read anew, and not for ever."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from authz.store.protocols import StoreUnavailable
from authz.store.records import Adjustment, Key, Model, Team, User
from authz.store.redis import kept
from authz.store.redis.changes import CHANNEL, NOTES
from authz.store.redis.client import async_client, sync_client
from authz.store.redis.directory import AUTH_TTL_S, RedisDirectory
from authz.store.redis.following import PAGE, Steps, follow, load, now
from authz.store.redis.mirror import Mirror
from authz.store.redis.records import CommandRecords
from authz.store.redis.target import Target
from authz.store.troubles import Troubles
from tests.contract.kit import NOON
from tests.contract.test_records import a_key
from tests.redis.records_kit import command, known, replica, until
from tests.support.redis import RedisServer

NLP = (("team", "nlp"),)


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    opened = sync_client(Target.parse(server.url))
    yield opened
    opened.close()


@pytest.fixture
def other(server: RedisServer) -> Iterator[CommandRecords]:
    with command(server.url) as opened:
        yield opened


def step(steps: Steps[Any], client: Any) -> list[Any]:
    """The replies to the first commands of the steps, not yet taken over."""
    return [client.execute_command(*each) for each in next(steps)]


def proceed(steps: Steps[Any], client: Any, replies: list[Any]) -> Any:
    """Take over the replies, and go on to the end; what comes of it."""
    try:
        while True:
            replies = [client.execute_command(*each) for each in steps.send(replies)]
    except StopIteration as end:
        return end.value


# -- what others change ----------------------------------------------------------------------------


async def test_what_another_process_changes_is_seen(server: RedisServer, other: CommandRecords) -> None:
    async with replica(server.url) as here:
        directory, there = here.directory, other.registry
        there.add_key(a_key(team="nlp"))
        there.put_team(Team(name="nlp", created_at=1))
        there.put_model(Model(name="m", context=1))
        for each in ("a", "b", "c"):
            there.add_adjustment(Adjustment(id=each, policy="month", partition=NLP, grant=1))
        await until(lambda: len(directory.adjustments("month").get(NLP, ())) == 3)
        assert known(directory, a_key()) == a_key(team="nlp")
        assert directory.user("alice") == User(name="alice", team="nlp", created_at=NOON)
        assert directory.team("nlp") == Team(name="nlp", created_at=1)
        assert directory.models() == {"m": Model(name="m", context=1)}
        there.remove_adjustment("b")
        there.remove_model("m")
        there.remove_user("alice")
        there.put_key(replace(there.find_key("key_1"), team=None))
        there.remove_team("nlp")
        await until(lambda: directory.models() == {})
        await until(lambda: known(directory, a_key()).revoked_at is not None)  # type: ignore[union-attr]
        assert [each.id for each in directory.adjustments("month")[NLP]] == ["a", "c"]
        assert directory.user("alice") is None
        gone = asyncio.get_running_loop().time() + 30
        while directory.team("nlp") is not None:
            assert asyncio.get_running_loop().time() < gone
            await asyncio.sleep(0.01)


async def test_what_was_there_before_is_read_whole(server: RedisServer, other: CommandRecords) -> None:
    keys = [a_key(f"{number:04d}", user=f"user{number}") for number in range(3 * PAGE)]
    users = [User(name=key.user) for key in keys]
    other.registry.put_together(teams=[], users=users, keys=keys)
    async with replica(server.url) as here:
        assert [known(here.directory, key) for key in keys] == keys
        assert [here.directory.user(user.name) for user in users] == users


async def test_many_changes_at_once_are_followed(server: RedisServer, other: CommandRecords) -> None:
    async with replica(server.url) as here:
        other.registry.add_key(a_key())
        await until(lambda: known(here.directory, a_key()) is not None)
        keys = [a_key(f"{number:04d}") for number in range(2 * PAGE)]
        other.registry.put_together(teams=[], users=[], keys=keys)
        for number in range(PAGE // 10):
            other.registry.put_team(Team(name=f"team{number}"))
        await until(lambda: known(here.directory, keys[-1]) is not None)
        assert [known(here.directory, key) for key in keys] == keys


def test_what_changes_while_everything_is_read_is_not_missed(client: Any, other: CommandRecords) -> None:
    other.registry.add_key(a_key())
    steps = load()
    latest = step(steps, client)
    other.registry.put_key(a_key(revoked_at=5))
    other.registry.add_key(a_key("2"))
    mirror = proceed(steps, client, latest)
    assert mirror.keys == {each.digest: each for each in (a_key(revoked_at=5), a_key("2"))}
    assert now(follow(mirror), client)


def test_an_older_reading_never_replaces_a_newer(client: Any, other: CommandRecords) -> None:
    """Two follow the same mirror; the first to ask is the last to be answered."""
    other.registry.add_key(a_key())
    mirror = now(load(), client)
    other.registry.put_key(a_key(name="old"))
    slow = follow(mirror)
    notes = step(slow, client)
    bodies = [client.execute_command(*each) for each in slow.send(notes)]
    other.registry.put_key(a_key(name="new"))
    assert now(follow(mirror), client)
    assert proceed(slow, client, bodies)
    assert mirror.keys[a_key().digest].name == "new"


# -- notes that are gone ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["dropped", "emptied", "never noted"])
def test_who_cannot_follow_says_so(client: Any, other: CommandRecords, lost: str) -> None:
    if lost != "never noted":
        other.registry.add_key(a_key())
    mirror: Mirror = now(load(), client)
    assert now(follow(mirror), client)
    if lost == "emptied":
        client.flushall()
        assert not now(follow(mirror), client)
    other.registry.add_key(a_key("2"))
    if lost == "dropped":
        other.registry.add_key(a_key("3"))
        client.xtrim(NOTES, 1, approximate=False)
    assert not now(follow(mirror), client)
    assert "key_2" in {key.id for key in now(load(), client).keys.values()}


async def test_everything_is_read_anew_and_never_missing(
    server: RedisServer, client: Any, other: CommandRecords
) -> None:
    """Records that no note tells of, as after a failover that lost some: they are found, again and again."""
    other.registry.add_key(a_key())
    async with replica(server.url) as here:
        for number in range(5):
            other.registry.add_key(a_key(f"noted{number}"))
            await until(lambda: known(here.directory, a_key(f"noted{number}")) is not None)  # noqa: B023
            hidden = a_key(f"hidden{number}")
            client.hset(kept.KEYS, hidden.id, kept.numbered(number, hidden))
            client.delete(NOTES)

            def seen(hidden: Key = hidden) -> bool:
                assert known(here.directory, a_key()) is not None
                return known(here.directory, hidden) is not None

            await until(seen)
        await until(lambda: here.trouble is None)


async def test_an_emptied_redis_lets_nobody_in(server: RedisServer, other: CommandRecords) -> None:
    async with replica(server.url) as here:
        other.registry.add_key(a_key())
        await until(lambda: known(here.directory, a_key()) is not None)
        server.call("FLUSHALL")
        await until(lambda: known(here.directory, a_key()) is None)
        other.registry.add_key(a_key("2"))
        await until(lambda: known(here.directory, a_key("2")) is not None)


# -- a Redis that is away --------------------------------------------------------------------------


async def test_a_start_before_redis_lets_nobody_in_and_then_finds_it(tmp_path: Path) -> None:
    server = RedisServer(tmp_path)
    async with replica(server.url) as here:
        assert here.trouble is not None
        for look in (lambda: known(here.directory, a_key()), here.directory.models):
            with pytest.raises(StoreUnavailable, match="not yet read"):
                look()
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            here.registry.keys()
        with server:
            await until(lambda: here.trouble is None)
            here.registry.add_key(a_key())
            assert known(here.directory, a_key()) == a_key()


class Seconds:
    """A monotonic clock to turn."""

    def __init__(self) -> None:
        self.passed = 1000.0

    def __call__(self) -> float:
        return self.passed


@asynccontextmanager
async def by_a_clock(server: RedisServer, seconds: Seconds) -> AsyncIterator[tuple[RedisDirectory, Troubles]]:
    target, troubles = Target.parse(server.url), Troubles()
    client, at_hand = async_client(target), sync_client(target)
    directory = RedisDirectory(client, at_hand, troubles, monotonic=seconds)
    await directory.start()
    try:
        yield directory, troubles
    finally:
        await directory.close()
        await client.aclose()
        at_hand.close()


async def test_what_is_known_counts_for_a_while_and_then_nobody_is_let_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with RedisServer(tmp_path) as server, command(server.url) as other:
        other.registry.add_key(a_key())
        other.registry.put_model(Model(name="m"))
        seconds = Seconds()
        async with by_a_clock(server, seconds) as (directory, troubles):
            await until(lambda: known(directory, a_key()) == a_key())
            for name in ("STEP_S", "PATIENT_S"):
                monkeypatch.setattr(f"authz.store.redis.following.{name}", 0.5)
            server.pause()
            await until(lambda: troubles.first is not None)
            seconds.passed += AUTH_TTL_S - 1
            assert known(directory, a_key()) == a_key()
            seconds.passed += 2
            for look in (
                lambda: directory.key(b""),
                lambda: directory.user("alice"),
                lambda: directory.team("nlp"),
            ):
                with pytest.raises(StoreUnavailable, match="nothing was heard"):
                    look()
            assert directory.models() == {"m": Model(name="m")}
            assert directory.adjustments("month") == {}
            server.resume()
            await until(lambda: known(directory, a_key()) == a_key())
            await until(lambda: troubles.first is None)


async def test_a_gap_is_no_news(
    server: RedisServer, client: Any, other: CommandRecords, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What may have missed something grows old, though Redis answers; what still comes is taken over."""
    other.registry.add_key(a_key())
    seconds = Seconds()
    async with by_a_clock(server, seconds) as (directory, troubles):

        def unreadable() -> Steps[Mirror]:
            yield []
            raise StoreUnavailable("damaged")

        monkeypatch.setattr("authz.store.redis.directory.load", unreadable)
        client.delete(NOTES)
        await until(lambda: troubles.first == "damaged")

        def revoked() -> bool:
            other.registry.put_key(a_key(revoked_at=5))
            found = known(directory, a_key())
            return found is not None and found.revoked_at == 5

        await until(revoked)
        seconds.passed += AUTH_TTL_S + 1
        with pytest.raises(StoreUnavailable, match="nothing was heard"):
            directory.key(a_key().digest)
        monkeypatch.undo()
        await until(revoked)


async def test_a_record_that_cannot_be_read_ends_no_task(
    server: RedisServer, client: Any, other: CommandRecords
) -> None:
    other.registry.add_key(a_key())
    async with replica(server.url) as here:
        whole = client.hget(kept.USERS, "alice")
        client.hset(kept.USERS, "alice", b'{"name": 5}')
        client.xadd(NOTES, {"n": b"\x91\x92\xa4user\xa5alice"})
        await until(lambda: "cannot read" in (here.trouble or ""))
        client.hset(kept.USERS, "alice", whole)
        await until(lambda: here.trouble is None)
        assert known(here.directory, a_key()) == a_key()


# -- the channel -----------------------------------------------------------------------------------


async def test_a_channel_that_breaks_is_opened_again(server: RedisServer) -> None:
    def listeners() -> int:
        return int(server.call("PUBSUB", "NUMSUB", CHANNEL)[1])

    async with replica(server.url):
        for _ in range(3):
            await until(lambda: listeners() == 1)
            assert server.call("CLIENT", "KILL", "TYPE", "pubsub") == 1
    await until(lambda: listeners() == 0)


async def test_the_latest_use_of_a_key_counts(server: RedisServer, other: CommandRecords) -> None:
    other.registry.add_key(a_key())
    async with replica(server.url) as first, replica(server.url) as second:
        for each, at in ((first, 7), (second, 9), (first, 8)):
            each.directory.used("key_1", at)
            await each.written()
        assert other.registry.find_key("key_1").last_used_at == 9
        second.directory.used("key_1", 12)
    assert other.registry.find_key("key_1").last_used_at == 12, "closing writes the rest"
