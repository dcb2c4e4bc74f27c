"""User and password (attacks 70, 73-77)."""

import asyncio
from base64 import b64encode
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from authz.authenticate.basic import LONGEST, BasicAuthenticator
from authz.authenticate.hash_pool import HashPool
from authz.authenticate.htpasswd import Htpasswd, parse
from authz.authenticate.passwords import WRONG_MS, Passwords
from authz.authenticate.presented import Presented
from authz.authenticate.protocol import Refused
from authz.quota import parse_quota
from authz.reason import Reason
from authz.store.records import Team, User
from authz.subject import Subject
from tests.authenticate.fakes import Clock, MemoryDirectory, at_once, present
from tests.authenticate.test_htpasswd import argon, hashed, sha

USERS = parse(f"carol:{hashed('tulip')}\ndave:{argon('rose')}\nerin:{sha('lily: é')}\n")


class Scene:
    """An authenticator that counts what it hashes."""

    def __init__(self, users: Htpasswd = USERS, *records: User | Team, **options: Any) -> None:
        from authz.authenticate.htpasswd import fits

        def check(password: str, against: str) -> bool:
            self.hashed.append(against)
            return fits(password, against)

        self.hashed: list[str] = []
        self.clock = Clock()
        self.passwords = Passwords(self.clock, pool=HashPool(threads=1, patience=30), check=check)
        self.directory = MemoryDirectory(*records)
        self.authenticator = BasicAuthenticator("staff", users, self.directory, self.passwords, **options)

    async def ask(self, user: str, password: str, ip: str | None = "10.0.0.1") -> Any:
        return await self.authenticator.authenticate(basic(user, password, ip))


@pytest.fixture
async def scenes() -> AsyncIterator[Callable[..., Scene]]:
    made: list[Scene] = []

    def make(*arguments: Any, **options: Any) -> Scene:
        made.append(Scene(*arguments, **options))
        return made[-1]

    yield make
    for scene in made:
        scene.passwords.close()


def basic(user: str, password: str, ip: str | None = None) -> Presented:
    return present({"authorization": "Basic " + b64encode(f"{user}:{password}".encode()).decode()}, ip=ip)


def reason(outcome: Any) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


@pytest.mark.parametrize(("user", "password"), [("carol", "tulip"), ("dave", "rose"), ("erin", "lily: é")])
async def test_a_right_password(scenes: Callable[..., Scene], user: str, password: str) -> None:
    scene = scenes()
    expected = Subject(user=f"staff:{user}", authenticator="staff")
    assert await scene.ask(user, password) == expected
    assert at_once(scene.ask(user, password)) == expected, "remembered: nothing is awaited"
    assert len(scene.hashed) == 1
    assert reason(await scene.ask(user, password + "x")) is Reason.PASSWORD_WRONG


@pytest.mark.parametrize(
    ("user", "password"),
    [
        pytest.param("carol", "rose", id="another's"),
        pytest.param("carol", "", id="empty"),
        pytest.param("Carol", "tulip", id="user in another case"),
        pytest.param("carol ", "tulip", id="user and a space"),
        pytest.param("mallory", "tulip", id="73 unknown user with a known one's password"),
        pytest.param("' OR 1=1 --", "x", id="70 SQL"),
        pytest.param("carol", USERS.hashes["carol"], id="72 the stored hash"),
        pytest.param("carol", "t" * 100, id="75 over 72 bytes"),
    ],
)
async def test_a_wrong_password(scenes: Callable[..., Scene], user: str, password: str) -> None:
    scene = scenes()
    outcome = await scene.ask(user, password)
    assert reason(outcome) is Reason.PASSWORD_WRONG
    assert len(scene.hashed) == 1, "as for everybody"
    assert not password or password not in repr(outcome)


async def test_73_no_user_of_the_file_can_be_told_from_one_that_is_not(scenes: Callable[..., Scene]) -> None:
    """An unknown user's password is compared with one of the file's hashes, for one name always the same."""
    scene = scenes()
    names = [f"user{number}" for number in range(30)]
    for name in names:
        await scene.ask(name, "x")
    first = dict(zip(names, scene.hashed, strict=True))
    assert set(first.values()) == set(USERS.hashes.values()), "of each kind, as known users are"
    scene.hashed.clear()
    scene.clock.forward(WRONG_MS / 1000 + 1)
    for name in names:
        await scene.ask(name, "x")
    assert scene.hashed == list(first.values())
    # What is remembered for an unknown user tells nothing of the known one whose hash served.
    unknown = next(name for name in names if first[name] == USERS.hashes["carol"])
    assert reason(await scene.ask(unknown, "tulip")) is Reason.PASSWORD_WRONG
    scene.hashed.clear()
    assert isinstance(await scene.ask("carol", "tulip"), Subject)
    assert scene.hashed == [USERS.hashes["carol"]]
    assert reason(await scene.ask(unknown, "tulip")) is Reason.PASSWORD_WRONG


async def test_a_wrong_password_is_not_hashed_again_at_once(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    for _ in range(3):
        assert reason(await scene.ask("carol", "x")) is Reason.PASSWORD_WRONG
    assert len(scene.hashed) == 1
    scene.clock.forward(WRONG_MS / 1000)
    await scene.ask("carol", "x")
    assert len(scene.hashed) == 2


async def test_no_flood_of_wrong_ones_displaces_right_ones(scenes: Callable[..., Scene]) -> None:
    scene = scenes(parse(f"erin:{sha('lily')}"))
    assert isinstance(await scene.ask("erin", "lily"), Subject)
    for number in range(5_000):
        scene.passwords._learn(number.to_bytes(16, "big"), False)
    assert isinstance(at_once(scene.ask("erin", "lily")), Subject)


async def test_the_same_password_at_the_same_time_is_hashed_once(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    found = await asyncio.gather(*(scene.ask("carol", "tulip") for _ in range(20)))
    assert {each.user for each in found} == {"staff:carol"}
    assert len(scene.hashed) == 1


async def test_who_leaves_takes_the_answer_from_nobody_else(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    leaving = asyncio.ensure_future(scene.ask("carol", "tulip"))
    staying = asyncio.ensure_future(scene.ask("carol", "tulip"))
    await asyncio.sleep(0)
    leaving.cancel()
    assert (await staying).user == "staff:carol"
    assert leaving.cancelled()


async def test_another_hash_ends_what_was_remembered(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    assert isinstance(await scene.ask("carol", "tulip"), Subject)
    changed = parse(f"carol:{hashed('new')}\ndave:{USERS.hashes['dave']}")
    after = BasicAuthenticator("staff", changed, scene.directory, scene.passwords)
    assert reason(await after.authenticate(basic("carol", "tulip"))) is Reason.PASSWORD_WRONG
    assert reason(await after.authenticate(basic("erin", "lily: é"))) is Reason.PASSWORD_WRONG
    scene.hashed.clear()
    assert isinstance(await after.authenticate(basic("carol", "new")), Subject)
    assert isinstance(await after.authenticate(basic("dave", "rose")), Subject)


async def test_too_busy(scenes: Callable[..., Scene]) -> None:
    scene = scenes()
    scene.passwords.close()
    assert reason(at_once(scene.ask("carol", "tulip"))) is Reason.HASHING_BUSY


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("Basic", id="scheme alone"),
        pytest.param("Basic ", id="nothing"),
        pytest.param("Basic dTpw!!", id="76 junk"),
        pytest.param("Basic dTpw\n", id="76 line break"),
        pytest.param("Basic dTp", id="76 cut"),
        pytest.param("Basic  dTpw", id="69 two spaces"),
        pytest.param("Basic dTpw dTpw", id="two"),
        pytest.param("Basic dTpw,Basic dTpw", id="37 joined"),
        pytest.param("Basic _-8=", id="76 url alphabet"),
        pytest.param("Basic " + b64encode(b"carol").decode(), id="no colon"),
        pytest.param("Basic " + b64encode(b":tulip").decode(), id="no user"),
        pytest.param("Basic " + b64encode(b"carol:tul\0ip").decode(), id="control character"),
        pytest.param("Basic " + b64encode(b"carol\n:tulip").decode(), id="line break in the user"),
        pytest.param("Basic " + b64encode("carol:tulip".encode("utf-16")).decode(), id="UTF-16"),
        pytest.param("Basic " + b64encode(b"carol:\xff").decode(), id="38 not UTF-8"),
        pytest.param("Basic " + b64encode(b"carol:" + b"t" * LONGEST).decode(), id="too long"),
        pytest.param("Basic \xe9\xe9\xe9\xe9", id="71 not ASCII"),
    ],
)
async def test_malformed(scenes: Callable[..., Scene], value: str) -> None:
    scene = scenes()
    outcome = at_once(scene.authenticator.authenticate(present({"authorization": value})))
    assert reason(outcome) is Reason.PASSWORD_WRONG
    assert scene.hashed == []


@pytest.mark.parametrize(
    "headers", [{}, {"authorization": "Bearer dTpw"}, {"authorization": "BasicdTpw"}, {"x-api-key": "dTpw"}]
)
async def test_none(scenes: Callable[..., Scene], headers: dict[str, str]) -> None:
    assert at_once(scenes().authenticator.authenticate(present(headers))) is None


async def test_36_sent_twice(scenes: Callable[..., Scene]) -> None:
    headers = {"authorization": "Basic dTpw, Basic dTpw"}
    outcome = at_once(
        scenes().authenticator.authenticate(present(headers, repeated=frozenset({"authorization"})))
    )
    assert reason(outcome) is Reason.DUPLICATE_CREDENTIAL


async def test_77_a_file_without_users_lets_nobody_in(scenes: Callable[..., Scene]) -> None:
    assert reason(at_once(scenes(parse("carol:plain")).ask("carol", "plain"))) is Reason.PASSWORD_WRONG


async def test_mapped_users_have_their_records(scenes: Callable[..., Scene]) -> None:
    quota = parse_quota("requests=5/m")
    carol = User(name="carol", team="nlp", roles=frozenset({"ml"}), models=frozenset({"m"}), quotas=(quota,))
    scene = scenes(USERS, carol, Team(name="nlp"), User(name="dave", disabled=True), map_users=True)
    found = await scene.ask("carol", "tulip")
    assert (found.user, found.team, found.roles, found.models) == ("carol", "nlp", {"ml"}, {"m"})
    assert [owned.quotas for owned in found.quotas] == [(quota,)]
    assert reason(await scene.ask("dave", "rose")) is Reason.USER_DISABLED
    assert (await scene.ask("erin", "lily: é")).user == "erin"
    assert (await scene.ask("erin", "lily: é")).models is None
