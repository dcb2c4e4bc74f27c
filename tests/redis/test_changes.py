"""A change of the records is all or nothing: beside others, without memory, and when its answer is lost."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import redis

from authz.store.protocols import Duplicate, StoreUnavailable
from authz.store.records import Adjustment, Team, User
from authz.store.redis import kept
from authz.store.redis.changes import NOTES, VERSION, Change, commit
from authz.store.redis.client import sync_client
from authz.store.redis.following import load, now
from authz.store.redis.registry import RedisRegistry
from authz.store.redis.target import Target
from tests.contract.kit import Clock
from tests.contract.test_records import a_key
from tests.redis.records_kit import command
from tests.support.redis import RedisServer


@pytest.fixture
def client(server: RedisServer) -> Iterator[Any]:
    opened = sync_client(Target.parse(server.url))
    yield opened
    opened.close()


class Losing:
    """A client whose connection breaks at the first scripts that it sends, before or after they ran."""

    def __init__(self, client: Any, times: int, *, ran: bool) -> None:
        self._client = client
        self._times = times
        self._ran = ran

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    def eval(self, *words: Any) -> Any:
        if self._times == 0:
            return self._client.eval(*words)
        self._times -= 1
        if self._ran:
            self._client.eval(*words)
        raise redis.ConnectionError("reset by peer")


@pytest.mark.parametrize("ran", [True, False], ids=["ran", "not run"])
def test_a_change_whose_answer_is_lost_is_made_once(client: Any, ran: bool) -> None:
    registry = RedisRegistry(Losing(client, 1, ran=ran), Clock())
    registry.add_key(a_key())
    registry.add_key(a_key("2"))
    assert [key.id for key in list(registry.keys())] == ["key_1", "key_2"]
    assert client.xlen(NOTES) == 2


@pytest.mark.parametrize("ran", [True, False], ids=["ran", "not run"])
def test_a_connection_that_breaks_again_is_said_so(client: Any, ran: bool) -> None:
    registry = RedisRegistry(Losing(client, 2, ran=ran), Clock())
    if ran:
        registry.add_key(a_key())
    else:
        with pytest.raises(StoreUnavailable, match="cannot be reached"):
            registry.add_key(a_key())
    assert len(registry.keys()) == ran


def test_a_script_that_comes_late_does_nothing(client: Any) -> None:
    """What was sent, given up and sent again may still be on its way."""
    sent: list[Any] = []

    class Watching(Losing):
        def eval(self, *words: Any) -> Any:
            sent.append(words)
            return super().eval(*words)

    RedisRegistry(Watching(client, 1, ran=False), Clock()).add_key(a_key(name="first"))
    client.eval(*sent[0])
    assert client.xlen(NOTES) == 1
    registry = RedisRegistry(client, Clock())
    registry.put_key(a_key(name="second"))
    assert client.eval(*sent[0]) == 0
    assert registry.find_key("key_1").name == "second"


def test_changes_of_many_at_once_are_all_made(server: RedisServer) -> None:
    def work(worker: int) -> None:
        with command(server.url) as records:
            for number in range(10):
                records.registry.add_key(a_key(f"{worker}x{number}", user=f"user{number}"))
                records.registry.add_adjustment(
                    Adjustment(id=f"{worker}x{number}", policy="month", partition=())
                )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    with command(server.url) as records:
        assert len(records.registry.keys()) == len(records.registry.adjustments()) == 40
        assert len(records.registry.users()) == 10
        assert len(records.registry.keys(user="user3")) == 4


def test_of_two_who_add_the_same_key_one_does(server: RedisServer) -> None:
    def work(worker: int) -> bool:
        with command(server.url) as records:
            try:
                records.registry.add_key(a_key(user=f"user{worker}"))
            except Duplicate:
                return False
        return True

    for _ in range(5):
        server.call("FLUSHALL")
        with ThreadPoolExecutor(4) as pool:
            assert sum(pool.map(work, range(4))) == 1
        with command(server.url) as records:
            assert len(records.registry.users()) == len(records.registry.keys()) == 1


def test_who_never_gets_a_turn_says_so(client: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("authz.store.redis.changes.PATIENCE_S", 0.05)

    def plan(change: Change) -> None:
        client.set(VERSION, client.incr("others"))

    with pytest.raises(StoreUnavailable, match="others change"):
        commit(client, plan)


def test_without_memory_nothing_of_a_change_is_made(tmp_path: Path) -> None:
    with RedisServer(tmp_path, "maxmemory-policy", "noeviction") as server, command(server.url) as records:
        records.registry.add_key(a_key())
        client = sync_client(Target.parse(server.url))
        before = now(load(), client)
        server.call("CONFIG", "SET", "maxmemory", "1")
        changed = a_key(user="bob", revoked_at=5)
        changes = (
            lambda: records.registry.put_together(
                teams=[Team(name="nlp")], users=[User(name="bob")], keys=[changed, a_key("2")]
            ),
            lambda: records.registry.add_key(a_key("2")),
            lambda: records.registry.remove_user("alice"),
        )
        for change in changes:
            with pytest.raises(StoreUnavailable, match="maxmemory"):
                change()
        server.call("CONFIG", "SET", "maxmemory", "0")
        after = now(load(), client)
        client.close()
        assert (after.keys, after.users, after.teams) == (before.keys, before.users, before.teams)
        assert after.seen == before.seen
        assert len(records.registry.keys(user="alice")) == 1


@pytest.mark.parametrize(
    ("one", "other"), [("a", "a:b"), ("1:a", "a"), ("a", "a;"), ("ü", "u\u0308"), ("a\n", "a"), ("", "0:")]
)
def test_no_name_reaches_into_anothers(server: RedisServer, one: str, other: str) -> None:
    with command(server.url) as records:
        registry = records.registry
        registry.put_together(
            teams=[Team(name=one), Team(name=other)],
            users=[User(name=one, team=one), User(name=other)],
            keys=[a_key("1", user=one, team=one, display=one), a_key("2", user=other, display=other)],
        )
        assert [key.id for key in registry.keys(user=one)] == ["key_1"]
        assert [key.id for key in registry.keys(user=other)] == ["key_2"]
        assert registry.find_key(other).id == "key_2"
        registry.remove_team(other)
        registry.remove_user(other)
        revoked = {key.id: key.revoked_at is not None for key in list(registry.keys())}
        assert revoked == {"key_1": False, "key_2": True}


def test_a_key_that_moves_is_where_it_is_now(server: RedisServer, client: Any) -> None:
    with command(server.url) as records:
        registry = records.registry
        registry.put_together(teams=[Team(name="a"), Team(name="b")], users=[User(name="bob")], keys=[])
        registry.add_key(a_key(team="a"))
        for key in (a_key(user="bob", team="b", display="new"), a_key(user="alice", display="newer")):
            registry.put_key(key)
            assert registry.keys(user=key.user) == registry.keys(team=key.team) == [key]
            assert registry.find_key(key.display) == key
        assert (registry.keys(user="bob"), registry.keys(team="a"), registry.keys(team="b")) == ([], [], [])
        registry.put_together(teams=[], users=[], keys=[a_key(user="bob", team="a")])
        assert registry.keys(team="a") == registry.keys(user="bob") == [a_key(user="bob", team="a")]
        indexes = (kept.DISPLAYS, kept.KEYS_BY_USER, kept.KEYS_BY_TEAM)
        assert [client.zcard(index) for index in indexes] == [1, 1, 1]
