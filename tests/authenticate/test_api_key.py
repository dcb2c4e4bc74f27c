"""API keys against records (attacks 35-38, 70-72)."""

from typing import Any

import pytest
from msgspec.structs import replace

from authz.authenticate.api_key import ApiKeyAuthenticator
from authz.authenticate.key_format import MintedKey, digest, mint
from authz.authenticate.presented import AUTHORIZATION, Slot
from authz.authenticate.protocol import Refused
from authz.quota import parse_quota
from authz.reason import Reason
from authz.store.records import Key, Team, User
from authz.subject import Subject
from tests.authenticate.fakes import Clock, MemoryDirectory, at_once, bearer, present

X_API_KEY = Slot("header", "x-api-key")
SLOTS = (AUTHORIZATION, X_API_KEY, Slot("query", "key"), Slot("cookie", "key"))


def record(minted: MintedKey, **fields: Any) -> Key:
    given = {
        "id": minted.id,
        "digest": minted.digest,
        "display": minted.display,
        "user": "alice",
        "created_at": 0,
    }
    return Key(**(given | fields))


def set_up(*records: Key | User | Team, **options: Any) -> tuple[ApiKeyAuthenticator, MemoryDirectory, Clock]:
    directory, clock = MemoryDirectory(*records), Clock()
    return ApiKeyAuthenticator("keys", SLOTS, directory, clock, **options), directory, clock


ONE, TWO = mint(), mint()
ALICE, BOB = User(name="alice"), User(name="bob")


def subject(outcome: object) -> Subject:
    assert isinstance(outcome, Subject), outcome
    return outcome


def reason(outcome: object) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


@pytest.mark.parametrize(
    "presented",
    [
        present({"authorization": f"Bearer {ONE.key}"}),
        present({"authorization": f"bearer {ONE.key}"}),
        present({"x-api-key": ONE.key}),
        present(target=f"/v1/models?key={ONE.key}"),
        present({"cookie": f"key={ONE.key}"}),
    ],
    ids=["bearer", "lower case", "header", "query", "cookie"],
)
def test_a_key_in_any_slot(presented: Any) -> None:
    keys, directory, clock = set_up(record(ONE), ALICE)
    found = subject(at_once(keys.authenticate(presented)))
    assert (found.user, found.key, found.authenticator) == ("alice", ONE.id, "keys")
    assert directory.uses == [(ONE.id, clock())]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Basic YTpi"},
        {"authorization": ONE.key},
        {"x-api-key": ""},
        {"x-other": ONE.key},
    ],
)
def test_no_key(headers: dict[str, str]) -> None:
    keys, directory, _ = set_up(record(ONE), ALICE)
    assert at_once(keys.authenticate(present(headers))) is None
    assert directory.uses == []


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        pytest.param(ONE.key[:-1], Reason.KEY_MALFORMED, id="cut"),
        pytest.param("sk-az-" + "A" * 46, Reason.KEY_MALFORMED, id="invented"),
        pytest.param(" " + ONE.key, Reason.KEY_UNKNOWN, id="attack 69: two spaces"),
        pytest.param(ONE.key + " ", Reason.KEY_MALFORMED, id="attack 69: trailing space"),
        pytest.param("", Reason.KEY_UNKNOWN, id="Bearer alone"),
        pytest.param(mint().key, Reason.KEY_UNKNOWN, id="well-formed, unknown"),
        pytest.param("sk-some-other", Reason.KEY_UNKNOWN, id="imported, unknown"),
        pytest.param("clé-é", Reason.KEY_MALFORMED, id="attack 71: not ASCII"),
        pytest.param("sk-az-é" + "A" * 45, Reason.KEY_MALFORMED, id="attack 71: not ASCII, our prefix"),
        pytest.param("\xff\xfe", Reason.KEY_MALFORMED, id="attack 38: not UTF-8"),
        pytest.param("\ufffd", Reason.KEY_MALFORMED, id="attack 38: replaced bytes"),
        pytest.param("A" * 5000, Reason.KEY_MALFORMED, id="too long"),
        pytest.param(ONE.digest.hex(), Reason.KEY_UNKNOWN, id="attack 72: the stored hash in hex"),
        pytest.param(ONE.digest.decode("latin-1"), Reason.KEY_MALFORMED, id="attack 72: the stored hash"),
        pytest.param(ONE.display, Reason.KEY_MALFORMED, id="what is shown of it"),
        pytest.param(ONE.id, Reason.KEY_UNKNOWN, id="its id"),
        pytest.param("' OR 1=1 --", Reason.KEY_UNKNOWN, id="attack 70: SQL"),
        pytest.param(f"{ONE.key},{ONE.key}", Reason.KEY_MALFORMED, id="attack 37: joined by a gateway"),
    ],
)
def test_a_bad_key(credential: str, expected: Reason) -> None:
    keys, directory, _ = set_up(record(ONE), ALICE)
    outcome = at_once(keys.authenticate(bearer(credential)))
    assert reason(outcome) is expected
    assert directory.uses == []
    assert not credential.strip() or credential not in repr(outcome)


def test_an_invented_key_of_ours_is_refused_without_a_look_up() -> None:
    keys, directory, _ = set_up()
    assert reason(at_once(keys.authenticate(bearer("sk-az-" + "A" * 46)))) is Reason.KEY_MALFORMED
    assert directory.asked == []


def test_imported_keys_can_be_shut_out() -> None:
    imported = record(ONE, digest=digest("sk-old"))
    assert subject(at_once(set_up(imported, ALICE)[0].authenticate(bearer("sk-old")))).user == "alice"
    keys, directory, _ = set_up(imported, ALICE, imported=False)
    assert reason(at_once(keys.authenticate(bearer("sk-old")))) is Reason.KEY_UNKNOWN
    assert directory.asked == []


def test_expiry_is_exclusive() -> None:
    clock = Clock()
    keys, _, clock = set_up(record(ONE, expires_at=clock() + 1000), ALICE)
    assert subject(at_once(keys.authenticate(bearer(ONE.key))))
    clock.forward(0.999)
    assert subject(at_once(keys.authenticate(bearer(ONE.key))))
    clock.forward(0.001)
    assert reason(at_once(keys.authenticate(bearer(ONE.key)))) is Reason.KEY_EXPIRED


@pytest.mark.parametrize("away", [-1000, 0, 1000])
def test_a_revoked_key_stays_revoked_when_the_clock_steps_back(away: int) -> None:
    keys, *_ = set_up(record(ONE, revoked_at=Clock()() + away), ALICE)
    assert reason(at_once(keys.authenticate(bearer(ONE.key)))) is Reason.KEY_REVOKED


@pytest.mark.parametrize("users", [[User(name="alice", disabled=True)], []], ids=["disabled", "removed"])
def test_a_key_needs_its_user(users: list[User]) -> None:
    keys, *_ = set_up(record(ONE), *users)
    assert reason(at_once(keys.authenticate(bearer(ONE.key)))) is Reason.USER_DISABLED


A, B, C = frozenset({"a"}), frozenset({"b"}), frozenset({"c"})
NONE: frozenset[str] = frozenset()


@pytest.mark.parametrize(
    ("key", "user", "team", "models", "inherits"),
    [
        (A, B, C, A, False),
        (None, B, C, B, False),
        (None, None, C, C, False),
        (None, None, None, None, True),
        (NONE, B, C, NONE, False),
        (None, NONE, C, NONE, False),
        (None, None, NONE, NONE, False),
    ],
)
def test_the_nearest_model_list_applies(
    key: frozenset[str] | None,
    user: frozenset[str] | None,
    team: frozenset[str] | None,
    models: frozenset[str] | None,
    inherits: bool,
) -> None:
    keys, *_ = set_up(
        record(ONE, models=key), User(name="alice", team="t", models=user), Team(name="t", models=team)
    )
    found = subject(at_once(keys.authenticate(bearer(ONE.key))))
    assert (found.models, found.inherits_models) == (models, inherits)


def test_roles_are_united_and_the_keys_team_comes_first() -> None:
    alice = User(name="alice", team="home", roles=frozenset({"ml"}))
    keys, directory, _ = set_up(record(ONE, roles=frozenset({"ops"}), team="work"), alice)
    found = subject(at_once(keys.authenticate(bearer(ONE.key))))
    assert (found.roles, found.team) == ({"ml", "ops"}, "work")
    directory.put(record(ONE))
    assert subject(at_once(keys.authenticate(bearer(ONE.key)))).team == "home"


def test_quotas_of_every_owner_that_has_any() -> None:
    rpm, tpd = parse_quota("requests=60/m"), parse_quota("tokens=10k/day")
    keys, *_ = set_up(
        record(ONE, quotas=(rpm,)), User(name="alice", team="t"), Team(name="t", quotas=(tpd, rpm))
    )
    found = subject(at_once(keys.authenticate(bearer(ONE.key))))
    assert [(owned.kind, owned.owner, owned.quotas) for owned in found.quotas] == [
        ("key", ONE.id, (rpm,)),
        ("team", "t", (tpd, rpm)),
    ]


def test_a_change_of_any_record_counts_at_once() -> None:
    key, team = record(ONE), Team(name="t")
    keys, directory, _ = set_up(key, User(name="alice", team="t"), team)
    first = at_once(keys.authenticate(bearer(ONE.key)))
    assert at_once(keys.authenticate(bearer(ONE.key))) is first
    directory.put(replace(team, models=C))
    assert subject(at_once(keys.authenticate(bearer(ONE.key)))).models == C
    directory.put(User(name="alice", team="t", models=B))
    assert subject(at_once(keys.authenticate(bearer(ONE.key)))).models == B
    directory.put(replace(key, models=A))
    assert subject(at_once(keys.authenticate(bearer(ONE.key)))).models == A
    directory.put(User(name="alice", disabled=True))
    assert reason(at_once(keys.authenticate(bearer(ONE.key)))) is Reason.USER_DISABLED
    del directory.keys[ONE.digest]
    assert reason(at_once(keys.authenticate(bearer(ONE.key)))) is Reason.KEY_UNKNOWN


@pytest.mark.parametrize("repeated", ["authorization", "x-api-key"])
def test_attack_37_one_slot_twice(repeated: str) -> None:
    keys, directory, _ = set_up(record(ONE), ALICE)
    presented = present(
        {"authorization": f"Bearer {ONE.key}", "x-api-key": ONE.key}, repeated=frozenset({repeated})
    )
    assert reason(at_once(keys.authenticate(presented))) is Reason.DUPLICATE_CREDENTIAL
    assert directory.uses == []


@pytest.mark.parametrize("owner", ["alice", "bob"])
def test_attack_36_two_valid_keys_conflict_even_of_one_user(owner: str) -> None:
    keys, directory, _ = set_up(record(ONE), record(TWO, user=owner), ALICE, BOB)
    presented = present({"authorization": f"Bearer {ONE.key}", "x-api-key": TWO.key})
    assert reason(at_once(keys.authenticate(presented))) is Reason.CONFLICTING_CREDENTIALS
    assert directory.uses == []


def test_the_same_key_in_two_slots_is_one() -> None:
    keys, directory, _ = set_up(record(ONE), ALICE)
    presented = present({"authorization": f"Bearer {ONE.key}", "x-api-key": ONE.key})
    assert subject(at_once(keys.authenticate(presented))).key == ONE.id
    assert len(directory.uses) == 1


@pytest.mark.parametrize("bad", ["dummy", mint().key, "sk-az-x"], ids=["imported", "unknown", "malformed"])
def test_a_valid_key_beside_a_bad_one(bad: str) -> None:
    """SDKs insist on sending some Authorization."""
    keys, *_ = set_up(record(ONE), ALICE)
    one_way = present({"authorization": f"Bearer {bad}", "x-api-key": ONE.key})
    other_way = present({"authorization": f"Bearer {ONE.key}", "x-api-key": bad})
    assert subject(at_once(keys.authenticate(one_way))) == subject(at_once(keys.authenticate(other_way)))


def test_of_two_bad_keys_the_telling_one() -> None:
    keys, *_ = set_up(record(ONE, revoked_at=1), ALICE)
    presented = present({"authorization": "Bearer dummy", "x-api-key": ONE.key})
    assert reason(at_once(keys.authenticate(presented))) is Reason.KEY_REVOKED


def test_no_key_in_any_repr() -> None:
    keys, *_ = set_up(record(ONE), ALICE)
    found = at_once(keys.authenticate(bearer(ONE.key)))
    assert ONE.key not in repr(found) + repr(keys) + repr(vars(keys))
