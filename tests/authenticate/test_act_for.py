"""Keys that name the user they act for."""

from typing import Any

import pytest
from msgspec.structs import replace

from authz.authenticate.act_for import ActFor
from authz.authenticate.api_key import ApiKeyAuthenticator
from authz.authenticate.key_format import mint
from authz.authenticate.presented import AUTHORIZATION
from authz.authenticate.protocol import Refused
from authz.quota import parse_quota
from authz.reason import Reason
from authz.store.records import Key, Team, User
from authz.subject import Subject
from tests.authenticate.fakes import Clock, MemoryDirectory, at_once, present

HEADER = "x-openwebui-user-email"
MINTED = mint()
KEY_LIMIT, ALICE_LIMIT, OWNER_LIMIT, TEAM_LIMIT = (
    parse_quota(text) for text in ("requests=60/m", "requests=5/m", "tokens=1M/day", "tokens=9M/day")
)
KEY = Key(
    id=MINTED.id,
    digest=MINTED.digest,
    display=MINTED.display,
    user="webui",
    roles=frozenset({"act_for"}),
    quotas=(KEY_LIMIT,),
    created_at=0,
)
WEBUI = User(name="webui", team="it", quotas=(OWNER_LIMIT,))
ALICE = User(name="alice@lab.test", team="nlp", roles=frozenset({"ml"}), quotas=(ALICE_LIMIT,))
NLP, IT = Team(name="nlp", quotas=(TEAM_LIMIT,)), Team(name="it")


class Scene:
    def __init__(self, *records: Key | User | Team) -> None:
        self.directory = MemoryDirectory(KEY, WEBUI, ALICE, NLP, IT, *records)
        act_for = ActFor("keys", HEADER, "act_for", self.directory)
        self.keys = ApiKeyAuthenticator("keys", (AUTHORIZATION,), self.directory, Clock(), act_for=act_for)

    def ask(self, user: str | None, *, repeated: bool = False) -> Any:
        headers = {"authorization": f"Bearer {MINTED.key}"}
        if user is not None:
            headers[HEADER] = user
        names = frozenset({HEADER} if repeated else ())
        return at_once(self.keys.authenticate(present(headers, repeated=names)))


def reason(outcome: Any) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def test_the_request_is_the_users_by_the_key() -> None:
    found = Scene().ask("alice@lab.test")
    assert (found.user, found.key, found.team) == ("alice@lab.test", MINTED.id, "nlp")
    assert found.roles == {"act_for", "ml"}


def test_limits_of_key_owner_user_and_team_all_apply() -> None:
    owned = {(each.kind, each.owner): each.quotas for each in Scene().ask("alice@lab.test").quotas}
    assert owned == {
        ("key", MINTED.id): (KEY_LIMIT,),
        ("user", "webui"): (OWNER_LIMIT,),
        ("user", "alice@lab.test"): (ALICE_LIMIT,),
        ("team", "nlp"): (TEAM_LIMIT,),
    }


@pytest.mark.parametrize(
    ("key", "user", "models"),
    [
        (None, None, None),
        ({"a", "b"}, None, {"a", "b"}),
        (None, {"a"}, {"a"}),
        ({"a", "b"}, {"b", "c"}, {"b"}),
        ({"a"}, {"b"}, set()),
        ({"a"}, set(), set()),
    ],
    ids=["neither", "key", "user", "both", "nothing in common", "user may nothing"],
)
def test_model_lists_intersect(key: Any, user: Any, models: Any) -> None:
    def some(names: Any) -> Any:
        return None if names is None else frozenset(names)

    found = Scene(replace(KEY, models=some(key)), replace(ALICE, models=some(user))).ask("alice@lab.test")
    assert (found.models, found.inherits_models) == (models, models is None)


def test_a_user_whom_the_store_does_not_know_is_kept_apart() -> None:
    found = Scene().ask("bob@lab.test")
    assert (found.user, found.key, found.team) == ("keys:bob@lab.test", MINTED.id, "it")
    assert found.inherits_models


@pytest.mark.parametrize("user", [None, ""])
def test_naming_nobody_is_the_keys_own_request(user: str | None) -> None:
    assert Scene().ask(user).user == "webui"


@pytest.mark.parametrize("user", ["alice@lab.test", "a:b", "\x07"])
def test_without_the_role_the_header_says_nothing(user: str) -> None:
    scene = Scene(replace(KEY, roles=frozenset({"other"})))
    for repeated in (False, True):
        assert scene.ask(user, repeated=repeated).user == "webui"


def test_the_role_may_be_the_owners() -> None:
    scene = Scene(replace(KEY, roles=frozenset()), replace(WEBUI, roles=frozenset({"act_for"})))
    assert scene.ask("alice@lab.test").user == "alice@lab.test"


@pytest.mark.parametrize(
    "user",
    [
        pytest.param("sso:alice", id="a user of another source"),
        pytest.param(" alice", id="space"),
        pytest.param("al\tice", id="39 control character"),
        pytest.param("a" * 300, id="too long"),
        pytest.param("\xff\xfe", id="38 not UTF-8"),
        pytest.param("\xe2\x80\xa8", id="line separator"),
    ],
)
def test_what_names_no_user(user: str) -> None:
    outcome = Scene().ask(user)
    assert reason(outcome) is Reason.BAD_HEADER
    assert user not in repr(outcome)


def test_names_are_utf_8() -> None:
    assert Scene(User(name="zoë")).ask("zoë".encode().decode("latin-1")).user == "zoë"


def test_37_two_users() -> None:
    assert reason(Scene().ask("alice@lab.test, bob@lab.test", repeated=True)) is Reason.DUPLICATE_CREDENTIAL


def test_disabled() -> None:
    assert reason(Scene(replace(ALICE, disabled=True)).ask("alice@lab.test")) is Reason.USER_DISABLED
    assert reason(Scene(replace(WEBUI, disabled=True)).ask("alice@lab.test")) is Reason.USER_DISABLED


def test_a_change_of_user_team_or_key_is_in_force_at_once() -> None:
    scene = Scene()
    found = scene.ask("alice@lab.test")
    assert scene.ask("alice@lab.test") is found
    for changed in (replace(ALICE, models=frozenset({"a"})), Team(name="nlp"), replace(KEY, name="new")):
        scene.directory.put(changed)
        again = scene.ask("alice@lab.test")
        assert again is not found
        found = again
    scene.directory.put(replace(ALICE, disabled=True))
    assert reason(scene.ask("alice@lab.test")) is Reason.USER_DISABLED


def test_the_header_never_goes_upstream() -> None:
    assert Scene().keys.asserts == {HEADER}
    assert isinstance(Scene().ask("alice@lab.test"), Subject)
