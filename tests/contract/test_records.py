"""Keys, users, teams, models, overrides and grants, on every store."""

import pytest
from msgspec.structs import replace

from authz.quota import Unit, parse_quota
from authz.store.levels import level_of
from authz.store.protocols import Duplicate, InUse, NotFound, Reserved
from authz.store.records import Access, Adjustment, Key, Model, Price, Team, User
from authz.store.store import ServiceStore
from tests.contract.kit import NOON, Clock, fixed, settled, slot


def a_key(number: str = "1", **more: object) -> Key:
    digest = number.encode().ljust(32, b"\xff")
    fields = {"user": "alice", "created_at": NOON, "display": f"sk-az-{number}..."} | more
    return Key(id=f"key_{number}", digest=digest, **fields)  # type: ignore[arg-type]


FULL = a_key(
    "full",
    name="notebook",
    team="nlp",
    models=frozenset({"llama3", "ü"}),
    roles=frozenset({"senior"}),
    quotas=(parse_quota("tokens=10k/day"), parse_quota("60r/m"), parse_quota("cost=5/month")),
    expires_at=NOON + 1,
    revoked_at=NOON + 2,
)


async def test_a_key_comes_back_as_it_went_in(store: ServiceStore) -> None:
    store.registry.add_key(FULL)
    assert store.registry.keys() == [FULL]
    assert store.registry.find_key("key_full") == FULL
    assert store.registry.find_key("sk-az-full...") == FULL
    assert store.directory.key(FULL.digest) == FULL
    assert store.directory.key(b"\0" * 32) is None


async def test_a_key_makes_its_user(store: ServiceStore) -> None:
    store.registry.add_key(a_key(team="nlp"))
    assert store.directory.user("alice") == User(name="alice", team="nlp", created_at=NOON)
    with pytest.raises(NotFound, match="'bob'"):
        store.registry.add_key(a_key("2", user="bob"), create_user=False)
    assert [each.id for each in list(store.registry.keys())] == ["key_1"]


async def test_a_key_does_not_replace_its_user(store: ServiceStore) -> None:
    user = User(name="alice", email="a@example.com", disabled=True)
    store.registry.put_user(user, new=True)
    store.registry.add_key(a_key())
    assert store.directory.user("alice") == user


async def test_several_are_put_together(store: ServiceStore) -> None:
    team, user = Team(name="nlp", models=frozenset({"llama3"})), User(name="alice", email="a@example.com")
    store.registry.put_together(teams=[team], users=[user], keys=[FULL, a_key("2")])
    changed = replace(FULL, name="desktop")
    store.registry.put_together(teams=[], users=[], keys=[changed, a_key("3")])
    assert store.directory.team("nlp") == team
    assert store.directory.user("alice") == user
    assert store.directory.key(FULL.digest) == changed
    assert [each.id for each in list(store.registry.keys())] == ["key_full", "key_2", "key_3"]


@pytest.mark.parametrize("twin", [a_key("1"), replace(a_key("2"), digest=a_key("1").digest)])
async def test_of_several_all_are_put_or_none(store: ServiceStore, twin: Key) -> None:
    """`twin`: an id with another hash, and a hash with another id."""
    first = replace(a_key("1"), digest=b"\1" * 32) if twin.id == "key_1" else a_key("1")
    store.registry.add_key(first)
    with pytest.raises(Duplicate):
        store.registry.put_together(
            teams=[Team(name="nlp")], users=[User(name="bob")], keys=[a_key("9", user="bob"), twin]
        )
    assert list(store.registry.keys()) == [first]
    assert list(store.registry.teams()) == []
    assert [each.name for each in store.registry.users()] == ["alice"]
    assert store.directory.user("bob") is None


@pytest.mark.parametrize("twin", [a_key("1", user="bob"), replace(a_key("2"), digest=a_key("1").digest)])
async def test_a_key_exists_once(store: ServiceStore, twin: Key) -> None:
    store.registry.add_key(a_key("1"))
    with pytest.raises(Duplicate):
        store.registry.add_key(twin)
    assert store.registry.keys() == [a_key("1")]
    assert store.directory.user("bob") is None, "nothing of a refused change stays"


async def test_an_ambiguous_display_names_no_key(store: ServiceStore) -> None:
    store.registry.add_key(a_key("1", display="same"))
    store.registry.add_key(a_key("2", display="same"))
    with pytest.raises(NotFound, match="2 keys"):
        store.registry.find_key("same")


async def test_keys_by_owner(store: ServiceStore) -> None:
    for key in (a_key("1"), a_key("2", user="bob", team="nlp"), a_key("3", team="nlp")):
        store.registry.add_key(key)
    assert [each.id for each in store.registry.keys(user="alice")] == ["key_1", "key_3"]
    assert [each.id for each in store.registry.keys(team="nlp")] == ["key_2", "key_3"]
    assert [each.id for each in store.registry.keys(user="alice", team="nlp")] == ["key_3"]


async def test_revoking_is_in_force_at_once(store: ServiceStore) -> None:
    store.registry.add_key(a_key())
    store.registry.put_key(a_key(revoked_at=NOON + 5))
    found = store.directory.key(a_key().digest)
    assert found is not None
    assert found.revoked_at == NOON + 5


async def test_each_change_of_who_may_is_another_revision(store: ServiceStore) -> None:
    seen = {store.directory.revision()}

    def is_another() -> bool:
        revision = store.directory.revision()
        if revision in seen:
            return False
        seen.add(revision)
        return True

    store.registry.put_team(Team(name="nlp"))
    assert is_another()
    store.registry.add_key(a_key(team="nlp"))
    assert is_another()
    store.registry.put_key(a_key(team="nlp", revoked_at=NOON))
    assert is_another()
    store.registry.put_user(User(name="alice", disabled=True))
    assert is_another()
    store.registry.remove_user("alice")
    assert is_another()


@pytest.mark.parametrize("key", [a_key("missing"), replace(a_key(), digest=b"\1" * 32)])
async def test_only_a_known_key_is_put(store: ServiceStore, key: Key) -> None:
    store.registry.add_key(a_key())
    with pytest.raises(NotFound):
        store.registry.put_key(key)
    with pytest.raises(NotFound):
        store.registry.find_key("key_missing")


async def test_70_names_are_never_sql(store: ServiceStore) -> None:
    evil = "x' OR '1'='1; DROP TABLE keys;--"
    store.registry.add_key(a_key(user=evil))
    assert store.registry.keys(user="x") == []
    assert [each.user for each in list(store.registry.keys(user=evil))] == [evil]
    store.registry.remove_user(evil)
    assert len(store.registry.keys()) == 1


async def test_users(store: ServiceStore) -> None:
    bob = User(
        name="bob", team="nlp", models=frozenset(), roles=frozenset({"r"}), quotas=(parse_quota("60r/m"),)
    )
    store.registry.put_user(bob, new=True)
    with pytest.raises(Duplicate):
        store.registry.put_user(bob, new=True)
    store.registry.put_user(User(name="alice"))
    assert store.registry.users() == [User(name="alice"), bob]
    assert store.directory.user("bob") == bob
    store.registry.put_user(replace(bob, disabled=True))
    assert store.directory.user("bob") == replace(bob, disabled=True)


async def test_a_removed_users_keys_are_revoked(store: ServiceStore, clock: Clock) -> None:
    store.registry.add_key(a_key("1"))
    store.registry.add_key(a_key("2", revoked_at=7))
    clock.pass_(50)
    store.registry.remove_user("alice")
    assert [each.revoked_at for each in list(store.registry.keys())] == [NOON + 50, 7]
    assert store.directory.user("alice") is None
    found = store.directory.key(a_key().digest)
    assert found is not None
    assert found.revoked_at == NOON + 50
    with pytest.raises(NotFound):
        store.registry.remove_user("alice")


async def test_teams(store: ServiceStore) -> None:
    team = Team(name="nlp", models=frozenset({"m"}), quotas=(parse_quota("tokens=1M/week"),), created_at=3)
    store.registry.put_team(team, new=True)
    with pytest.raises(Duplicate):
        store.registry.put_team(team, new=True)
    assert store.registry.teams() == [team]
    assert store.directory.team("nlp") == team


@pytest.mark.parametrize("member", ["user", "key"])
async def test_a_team_with_members_stays(store: ServiceStore, member: str) -> None:
    store.registry.put_team(Team(name="nlp", models=frozenset({"m"})))
    if member == "user":
        store.registry.put_user(User(name="bob", team="nlp"))
    else:
        store.registry.put_user(User(name="alice"))
        store.registry.add_key(a_key(team="nlp"))
    with pytest.raises(InUse, match="1 users or keys"):
        store.registry.remove_team("nlp")
    assert store.directory.team("nlp") is not None
    store.registry.put_user(User(name="bob"))
    if member == "key":
        store.registry.put_key(a_key())
    store.registry.remove_team("nlp")
    assert store.directory.team("nlp") is None
    with pytest.raises(NotFound):
        store.registry.remove_team("nlp")


async def test_models(store: ServiceStore) -> None:
    model = Model(name="m", context=8192, price=Price(input=5), access=Access(roles=frozenset({"senior"})))
    store.registry.put_model(model, new=True)
    with pytest.raises(Duplicate):
        store.registry.put_model(model, new=True)
    assert store.registry.models() == [model]
    assert store.directory.models() == {"m": model}
    store.registry.remove_model("m")
    assert store.directory.models() == {}
    with pytest.raises(NotFound):
        store.registry.remove_model("m")


async def test_overrides_and_grants(store: ServiceStore) -> None:
    nlp, vision = (("team", "nlp"),), (("team", "vision"), ("model", "m"))
    first = Adjustment(id="a", policy="month", partition=nlp, grant=5, until=NOON, created_by="ops")
    second = Adjustment(id="b", policy="month", partition=nlp, override=9)
    third = Adjustment(id="c", policy="day", partition=vision, override=0)
    for each in (first, second, third):
        store.registry.add_adjustment(each)
    with pytest.raises(Duplicate):
        store.registry.add_adjustment(first)
    assert store.registry.adjustments() == [first, second, third]
    assert store.directory.adjustments("month") == {nlp: [first, second]}
    assert store.directory.adjustments("day") == {vision: [third]}
    assert store.directory.adjustments("other") == {}
    store.registry.remove_adjustment("a")
    assert store.directory.adjustments("month") == {nlp: [second]}
    with pytest.raises(NotFound):
        store.registry.remove_adjustment("a")


async def test_when_a_key_was_last_used_is_written_later(store: ServiceStore, clock: Clock) -> None:
    store.registry.add_key(a_key())
    store.directory.used("key_1", NOON + 5)
    store.directory.used("key_1", NOON + 9)
    await settled(store)
    assert store.registry.find_key("key_1").last_used_at == NOON + 9


async def test_counter_levels_are_there_for_commands(store: ServiceStore) -> None:
    hold, other = fixed(1000, 400, key="month|3:nlp"), fixed(9, 1, key="day|3:nlp")
    assert isinstance(await store.counters.reserve("a", "edge", [hold, other, slot(3)], 60_000), Reserved)
    assert isinstance(await store.counters.reserve("b", "edge", [hold], 60_000), Reserved)
    assert await store.counters.settle("a", "edge", {Unit.TOKENS: 50})
    await settled(store)
    levels = store.registry.counter_levels("month|")
    assert list(levels) == ["month|3:nlp"]
    level = level_of(levels["month|3:nlp"], hold, NOON)
    assert (level.remaining, level.held) == (550, 400)
    assert isinstance(await store.counters.reserve("c", "edge", [slot(3)], 60_000), Reserved)
    await settled(store)
    busy = level_of(store.registry.counter_levels()["slots"], slot(3), NOON)
    assert (busy.remaining, busy.held, busy.reset_ms) == (2, 1, 60_000)
