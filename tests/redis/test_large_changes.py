"""A change that is too large for one script: no script writes much of it, and nobody sees a part of it, whoever dies."""

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis
from msgspec.structs import replace

from authz.store.protocols import Duplicate, NotFound, StoreUnavailable
from authz.store.records import Key, Model, Team, User
from authz.store.redis import kept, large
from authz.store.redis.changes import VERSION
from authz.store.redis.client import sync_client
from authz.store.redis.following import follow, load, now
from authz.store.redis.mirror import Mirror
from authz.store.redis.query import QueryDirectory
from authz.store.redis.registry import RedisRegistry
from authz.store.redis.target import Target
from tests.contract.kit import Clock
from tests.contract.test_records import a_key
from tests.redis.records_kit import command, known, replica, until
from tests.redis.test_directory import proceed
from tests.support.redis import RedisCluster, RedisServer

COUNT = 300
TEAM, USERS = Team(name="nlp"), [User(name=f"user{number}", team="nlp") for number in range(COUNT)]
KEYS = [a_key(f"{number:04d}", user=f"user{number}", team="nlp") for number in range(COUNT)]
REVOKED = [replace(key, revoked_at=5) for key in KEYS]
PLACES = [*kept.HASHES.values(), kept.DIGESTS, kept.DISPLAYS, kept.KEYS_BY_USER, kept.KEYS_BY_TEAM]


class Died(BaseException):
    """No `except` of the code under test takes it for a failure of Redis."""


class Watched:
    """A client that calls `before` and `after` around each script, by the script's number from 0."""

    def __init__(
        self,
        client: Any,
        *,
        before: Callable[[int], None] = lambda number: None,
        after: Callable[[int], None] = lambda number: None,
    ) -> None:
        self._client = client
        self._before, self._after = before, after
        self.scripts = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def eval(self, *words: Any) -> Any:
        number, self.scripts = self.scripts, self.scripts + 1
        self._before(number)
        reply = self._client.eval(*words)
        self._after(number)
        return reply


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    opened = sync_client(Target.parse(server.url))
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few pieces: then each moment between two of them can be looked at. Nobody waits for the dead."""
    monkeypatch.setattr(large, "MOST", 500)
    monkeypatch.setattr(large, "LEASE_MS", 0)


def put(client: Any, keys: list[Key] = KEYS) -> None:
    RedisRegistry(client, Clock()).put_together(teams=[TEAM], users=USERS, keys=keys)


def scripts_of(change: Callable[[Any], None], client: Any) -> int:
    watched = Watched(client)
    change(watched)
    return watched.scripts


def part(mirror: Mirror) -> float:
    """Of the change, as far as a mirror knows it."""
    counts = len(mirror.keys), len(mirror.users), len(mirror.teams) * COUNT
    return sum(counts) / (3 * COUNT)


def part_for_commands(client: Any) -> float:
    registry = RedisRegistry(client, Clock())
    counts = len(registry.keys()), len(registry.users()), len(registry.teams()) * COUNT
    assert len(registry.keys(team="nlp")) == counts[0]
    return sum(counts) / (3 * COUNT)


def filled(client: Any) -> int:
    return sum(
        client.hlen(place) if client.type(place) == b"hash" else client.zcard(place) for place in PLACES
    )


# -- no script is long -----------------------------------------------------------------------------


def test_no_script_writes_more_than_a_piece(client: Any) -> None:
    grown: list[int] = []
    total = filled(client)

    def measure(number: int) -> None:
        nonlocal total
        before, total = total, filled(client)
        grown.append(total - before)

    put(Watched(client, after=measure))
    assert sum(grown) >= 5 * COUNT
    assert max(grown) <= large.MOST


def test_long_records_are_fewer_in_a_piece(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(large, "MOST_BYTES", 20_000)
    wordy = [replace(key, name="x" * 1_000) for key in KEYS[:50]]
    asked: list[int] = []

    class Sizes(Watched):
        def eval(self, *words: Any) -> Any:
            asked.append(max(len(word) for word in words[1:] if isinstance(word, bytes | str)))
            return super().eval(*words)

    put(Sizes(client), wordy)
    longest_texts = [size for size in asked if size > 5_000]
    assert len(longest_texts) >= 3
    assert max(asked) < 40_000
    assert list(RedisRegistry(client, Clock()).keys()) == wordy


def test_a_small_change_is_one_script(client: Any) -> None:
    assert scripts_of(lambda watched: put(watched, []), client) > 1
    assert scripts_of(lambda watched: RedisRegistry(watched, Clock()).add_key(KEYS[0]), client) == 1


# -- nobody sees a part ----------------------------------------------------------------------------


def test_it_is_there_all_at_once(client: Any) -> None:
    put_small(client)
    following = now(load(), client)
    seen: list[float] = []

    def look(number: int) -> None:
        assert now(follow(following), client)
        parts = {part(following), part(now(load(), client)), part_for_commands(client)}
        assert len(parts) == 1
        seen.append(parts.pop())

    put(Watched(client, after=look))
    assert set(seen) == {0, 1}
    assert seen == sorted(seen)


async def test_a_replica_lets_all_in_or_none(server: RedisServer) -> None:
    async with replica(server.url) as here:
        with command(server.url) as other:
            changing = asyncio.create_task(
                asyncio.to_thread(other.registry.put_together, teams=[TEAM], users=USERS, keys=KEYS)
            )
            seen = {0}
            while COUNT not in seen:
                seen.add(sum(known(here.directory, key) is not None for key in KEYS))
                await asyncio.sleep(0.001)
            await changing
            assert seen == {0, COUNT}
            revoked = asyncio.create_task(
                asyncio.to_thread(other.registry.put_together, teams=[], users=[], keys=REVOKED)
            )
            await until(lambda: all(known(here.directory, key) == key for key in REVOKED))
            await revoked


@pytest.mark.parametrize("when", ["before", "after"])
def test_who_dies_leaves_all_or_nothing(client: Any, when: str) -> None:
    number, parts = 0, []
    while True:
        client.flushall()
        put_small(client)
        following = now(load(), client)

        def die(script: int, number: int = number) -> None:
            if script == number:
                raise Died

        try:
            put(Watched(client, **{when: die}))
        except Died:
            assert now(follow(following), client)
            found = part(following)
            assert found == part(now(load(), client)) == part_for_commands(client)
            parts.append(found)
            RedisRegistry(client, Clock()).add_key(a_key("later"))
            assert part(now(load(), client)) == pytest.approx(found, abs=0.01)
            assert all(client.pttl(place) > 0 for place in client.keys(large.staged("*")))
        else:
            break
        number += 1
    assert set(parts) == {0, 1}
    assert parts == sorted(parts)


def test_who_comes_meanwhile_waits_for_the_one_who_writes(
    server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(large, "LEASE_MS", 60_000)
    monkeypatch.setattr(large, "PATIENCE_S", 60.0)

    def work(worker: int) -> None:
        mine = [a_key(f"{worker}x{number:03d}") for number in range(COUNT)]
        with command(server.url) as records:
            records.registry.put_together(teams=[], users=[], keys=mine)
            found = {key.id for key in list(records.registry.keys())}
            assert found >= {key.id for key in mine}
            assert len(found) % COUNT == 0, "of the others it sees all or none"

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with command(server.url) as records:
        keys = list(records.registry.keys())
        assert len(keys) == len({key.id for key in keys}) == 4 * COUNT


def test_one_that_stands_still_is_said_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def die(number: int) -> None:
        if client.hget(large.LAST, "left") == b"1":
            raise Died

    with pytest.raises(Died):
        put(Watched(client, after=die))
    client.hset(large.LAST, mapping={"by": "another", "till": 2**52})
    monkeypatch.setattr(large, "PATIENCE_S", 0.05)
    with pytest.raises(StoreUnavailable, match="does not get on"):
        RedisRegistry(client, Clock()).keys()
    client.hset(large.LAST, "till", 0)
    assert part_for_commands(client) == 1


# -- what gets lost --------------------------------------------------------------------------------


@pytest.mark.parametrize("ran", [True, False], ids=["ran", "not run"])
@pytest.mark.parametrize("times", [1, 2, 3])
def test_a_lost_answer_makes_no_half(client: Any, times: int, ran: bool) -> None:
    """`times` in a row, from each script on."""
    for number in range(scripts_of(put, client)):
        client.flushall()

        def lose(script: int, number: int = number) -> None:
            if number <= script < number + times:
                raise redis.ConnectionError("reset by peer")

        try:
            put(Watched(client, **{"after" if ran else "before": lose}))
        except StoreUnavailable:
            assert times > 1
            assert part_for_commands(client) in (0, 1)
        else:
            assert RedisRegistry(client, Clock()).keys() == KEYS
            assert part(now(load(), client)) == 1
            assert int(client.get(kept.NUMBER)) == COUNT, "each was given one number"


def test_a_piece_that_comes_late_changes_nothing(client: Any) -> None:
    sent: list[Any] = []

    class Sent(Watched):
        def eval(self, *words: Any) -> Any:
            sent.append(words)
            return super().eval(*words)

    put(Sent(client))
    put(client, REVOKED)
    before = client.get(VERSION), now(load(), client).keys
    for words in sent:
        client.eval(*words)
    assert (client.get(VERSION), now(load(), client).keys) == before
    assert all(client.pttl(place) > 0 for place in client.keys(large.staged("*")))


def test_pieces_that_expired_are_staged_again(client: Any) -> None:
    pieces = (scripts_of(put, client) - 1) // 2
    client.flushall()

    def expire(number: int) -> None:
        if number == pieces:  # the next makes them valid
            assert client.delete(*client.keys(large.staged("*"))) == 1

    put(Watched(client, before=expire))
    assert part_for_commands(client) == part(now(load(), client)) == 1


def test_a_mirror_that_is_far_behind_reads_everything_anew(client: Any) -> None:
    put_small(client)
    following = now(load(), client)
    put(client)
    client.delete(*client.keys(large.staged("*")))
    assert not now(follow(following), client)
    assert part(now(load(), client)) == 1


def test_pieces_that_redis_drops_are_missed_aloud(client: Any) -> None:
    """Only where it is set to drop what it was told to keep."""

    def evict(number: int) -> None:
        if client.hget(large.LAST, "left") == b"2":
            client.delete(*client.keys(large.staged("*")))

    with pytest.raises(StoreUnavailable, match="noeviction"):
        put(Watched(client, after=evict))
    put(client)
    assert part_for_commands(client) == part(now(load(), client)) == 1


def test_without_memory_it_is_made_or_not(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "maxmemory-policy", "noeviction") as server:
        client = sync_client(Target.parse(server.url))
        parts = []
        for number in range(scripts_of(put, client)):
            server.call("FLUSHALL")

            def fill(script: int, number: int = number) -> None:
                if script == number:
                    server.call("CONFIG", "SET", "maxmemory", "1")

            try:
                put(Watched(client, before=fill))
                parts.append(1)
            except StoreUnavailable:
                parts.append(0)
            server.call("CONFIG", "SET", "maxmemory", "0")
            assert part_for_commands(client) == part(now(load(), client)) == parts[-1]
        client.close()
    assert set(parts) == {0, 1}
    assert parts == sorted(parts)


# -- one after another -----------------------------------------------------------------------------


def test_of_what_is_changed_again_the_latest_counts(client: Any) -> None:
    """Small changes before and after, all met in one look."""
    put_small(client)
    following = now(load(), client)
    registry = RedisRegistry(client, Clock())
    registry.add_key(replace(KEYS[0], name="before"))
    registry.add_key(replace(KEYS[1], name="before"))
    put(client)
    registry.put_key(replace(KEYS[1], name="after"))
    put(client, [replace(key, name="again") for key in KEYS[2:]])
    registry.remove_user("user7")
    assert now(follow(following), client)
    fresh = now(load(), client)
    assert (following.keys, following.users) == (fresh.keys, fresh.users)
    names = [following.keys[key.digest].name for key in KEYS[:3]]
    assert names == ["", "after", "again"]
    assert "user7" not in following.users


def test_a_change_between_looking_and_reading_is_taken_whole(client: Any) -> None:
    """The names were read before it, the records after a half of it."""
    put_small(client)
    following = now(load(), client)
    registry = RedisRegistry(client, Clock())
    registry.add_key(KEYS[0])
    steps = follow(following)
    commands = next(steps)
    while commands[0][1] not in kept.HASHES.values():
        commands = steps.send([client.execute_command(*each) for each in commands])

    def die(number: int) -> None:
        if client.hget(large.LAST, "left") == b"1":
            raise Died

    with pytest.raises(Died):
        put(Watched(client, after=die), REVOKED)
    states: list[int] = []
    advance = following.advance

    def counted(*words: Any) -> bool:
        is_taken = advance(*words)
        states.append(sum(following.keys.get(key.digest) == key for key in REVOKED))
        return is_taken

    following.advance = counted  # type: ignore[method-assign,assignment]
    assert proceed(steps, client, [client.execute_command(*each) for each in commands])
    assert states == [COUNT]


def test_a_refused_one_stages_nothing(client: Any) -> None:
    registry = RedisRegistry(client, Clock())
    registry.add_key(replace(KEYS[0], digest=b"other".ljust(32)))
    with pytest.raises(Duplicate):
        put(client)
    assert not client.keys(large.staged("*"))
    assert [key.id for key in list(registry.keys())] == [KEYS[0].id]


def test_a_user_goes_with_all_keys(client: Any) -> None:
    put(client, [replace(key, user="user0") for key in KEYS])
    following = now(load(), client)
    registry = RedisRegistry(client, Clock())
    registry.remove_user("user0")
    assert now(follow(following), client)
    assert all(key.revoked_at is not None for key in following.keys.values())
    assert "user0" not in following.users
    with pytest.raises(NotFound):
        registry.remove_user("user0")


async def test_a_command_that_explains_sees_all(client: Any) -> None:
    def die(number: int) -> None:
        if client.hget(large.LAST, "left") is not None:
            raise Died

    with pytest.raises(Died):
        put(Watched(client, after=die))
    directory = QueryDirectory(client)
    assert [directory.key(key.digest) for key in KEYS] == KEYS
    assert [directory.user(user.name) for user in USERS] == USERS


async def test_on_a_cluster(cluster: RedisCluster) -> None:
    async with replica(cluster.url) as here:
        with command(cluster.url) as other:
            other.registry.put_together(teams=[TEAM], users=USERS, keys=KEYS)
            assert other.registry.keys() == KEYS
            await until(lambda: all(known(here.directory, key) == key for key in KEYS))


def put_small(client: Any) -> None:
    """A note that a mirror can follow on from; nothing that `part` counts."""
    RedisRegistry(client, Clock()).put_model(Model(name="m"))
