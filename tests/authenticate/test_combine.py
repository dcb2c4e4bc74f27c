"""`any_of` and `all_of` (attacks 35, 36)."""

from itertools import permutations
from typing import Any

import pytest

from authz.authenticate.api_key import ApiKeyAuthenticator
from authz.authenticate.combine import AllOf, AnyOf, challenge, credential_slots
from authz.authenticate.key_format import mint
from authz.authenticate.network import NetworkAuthenticator
from authz.authenticate.presented import AUTHORIZATION, Presented, Slot
from authz.authenticate.protocol import Authenticator, Outcome, Refused
from authz.authenticate.ranking import TELLING, most_telling
from authz.quota import OwnedQuotas, parse_quota
from authz.reason import ANSWERS, Reason
from authz.store.records import Key, User
from authz.subject import Subject
from tests.authenticate.fakes import (
    NOW,
    Clock,
    MemoryDirectory,
    at_once,
    bearer,
    claims,
    present,
    sign,
    with_secret,
)

X_API_KEY = Slot("header", "x-api-key")
MINTED, OTHER = mint(), mint()


class Fixed:
    """Always the same outcome."""

    name = "fixed"
    wants = ""
    slots = (AUTHORIZATION,)
    asserts: frozenset[str] = frozenset()
    ambient = False

    def __init__(self, outcome: Outcome, challenge: str = "Bearer") -> None:
        self.outcome = outcome
        self.challenge = challenge
        self.asked = 0

    async def authenticate(self, presented: Presented) -> Outcome:
        self.asked += 1
        return self.outcome


def person(user: str, **fields: Any) -> Subject:
    return Subject(user=user, authenticator="fixed", **fields)


ALICE, BOB = person("alice"), person("bob")
OFFICE = NetworkAuthenticator("office", ["10.0.0.0/8"])
INSIDE, OUTSIDE = present(ip="10.0.0.1"), present(ip="203.0.113.1")


def refuse(reason: Reason, **fields: Any) -> Fixed:
    return Fixed(Refused(reason, **fields))


def reason(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def any_of(*authenticators: Authenticator, presented: Presented = OUTSIDE) -> Subject | Refused:
    return at_once(AnyOf(authenticators).authenticate(presented))


def all_of(*authenticators: Authenticator, presented: Presented = OUTSIDE) -> Subject | Refused:
    return at_once(AllOf(authenticators).authenticate(presented))


@pytest.mark.parametrize("combine", [any_of, all_of])
def test_of_nothing_nobody_is_enough(combine: Any) -> None:
    assert reason(combine()) is Reason.CREDENTIAL_MISSING
    assert reason(combine(presented=INSIDE)) is Reason.CREDENTIAL_MISSING


@pytest.mark.parametrize("combine", [any_of, all_of])
def test_nothing_presented(combine: Any) -> None:
    assert reason(combine(Fixed(None), Fixed(None))) is Reason.CREDENTIAL_MISSING


def test_any_of_takes_the_valid_one() -> None:
    bad = refuse(Reason.KEY_REVOKED)
    for order in permutations([Fixed(None), bad, Fixed(ALICE)]):
        assert any_of(*order) is ALICE


def test_36_any_of_two_users_conflict() -> None:
    for order in permutations([Fixed(ALICE), Fixed(BOB), Fixed(None)]):
        assert reason(any_of(*order)) is Reason.CONFLICTING_CREDENTIALS


def test_any_of_one_user_twice_is_the_first_authenticators() -> None:
    with_key = person("alice", key="key_1")
    assert any_of(Fixed(with_key), Fixed(ALICE)) is with_key
    assert any_of(Fixed(ALICE), Fixed(with_key)) is ALICE
    other_key = person("alice", key="key_2")
    assert reason(any_of(Fixed(with_key), Fixed(other_key))) is Reason.CONFLICTING_CREDENTIALS


@pytest.mark.parametrize("decisive", [Reason.DUPLICATE_CREDENTIAL, Reason.CONFLICTING_CREDENTIALS])
def test_36_nothing_heals_an_ambiguous_request(decisive: Reason) -> None:
    for order in permutations([Fixed(ALICE), refuse(decisive)]):
        assert reason(any_of(*order)) is decisive


@pytest.mark.parametrize(
    ("better", "worse"), [(TELLING[index], TELLING[index + 1]) for index in range(2, len(TELLING) - 1)]
)
def test_the_most_telling_refusal(better: Reason, worse: Reason) -> None:
    assert reason(any_of(refuse(better), refuse(worse))) is better
    assert reason(any_of(refuse(worse), refuse(better))) is better


def test_a_foreign_refusal_tells_least() -> None:
    foreign = Refused(Reason.TOKEN_INVALID, foreign=True)
    assert most_telling([foreign, Refused(Reason.KEY_UNKNOWN)]).reason is Reason.KEY_UNKNOWN
    assert most_telling([foreign]) is foreign


def test_every_reason_of_authentication_has_its_rank() -> None:
    about_credentials = {each for each, answer in ANSWERS.items() if answer.http == 401}
    assert about_credentials <= set(TELLING)


def real_keys() -> ApiKeyAuthenticator:
    key = Key(id=MINTED.id, digest=MINTED.digest, display=MINTED.display, user="alice", created_at=0)
    return ApiKeyAuthenticator(
        "keys", (AUTHORIZATION, X_API_KEY), MemoryDirectory(key, User(name="alice")), Clock()
    )


@pytest.mark.parametrize(
    ("credential", "expected"),
    [
        (MINTED.key[:-1], Reason.KEY_MALFORMED),
        (OTHER.key, Reason.KEY_UNKNOWN),
        ("sk-of-another-gateway", Reason.KEY_UNKNOWN),
        ("dummy", Reason.KEY_UNKNOWN),
        (sign(claims(exp=NOW - 1)), Reason.TOKEN_EXPIRED),
        (sign(claims(aud="x")), Reason.TOKEN_WRONG_AUDIENCE),
        (sign(claims(), key=b"z" * 32), Reason.TOKEN_INVALID),
        ("eyJhbGciOiJub25lIn0.e30.", Reason.TOKEN_INVALID),
        ("ey" + "x" * 600, Reason.TOKEN_INVALID),
    ],
    ids=["cut", "unknown", "imported", "dummy", "expired", "audience", "forged", "none", "long"],
)
def test_keys_and_tokens_in_one_header_are_told_apart(credential: str, expected: Reason) -> None:
    assert reason(any_of(real_keys(), with_secret(), presented=bearer(credential))) is expected
    assert reason(any_of(with_secret(), real_keys(), presented=bearer(credential))) is expected


def test_keys_and_tokens_in_one_header_both_work() -> None:
    for credential, user in ((MINTED.key, "alice"), (sign(claims()), "sso:alice")):
        found = any_of(real_keys(), with_secret(), presented=bearer(credential))
        assert isinstance(found, Subject)
        assert found.user == user


def test_36_a_key_and_a_token_of_two_users() -> None:
    presented = present({"authorization": f"Bearer {sign(claims())}", "x-api-key": MINTED.key})
    assert reason(any_of(real_keys(), with_secret(), presented=presented)) is Reason.CONFLICTING_CREDENTIALS


def test_a_key_and_a_token_of_one_mapped_user() -> None:
    presented = present({"authorization": f"Bearer {sign(claims())}", "x-api-key": MINTED.key})
    found = any_of(real_keys(), with_secret(map_users=True), presented=presented)
    assert isinstance(found, Subject)
    assert (found.user, found.key) == ("alice", MINTED.id)


@pytest.mark.parametrize("reversed_", [False, True])
def test_35_a_bad_credential_never_becomes_the_addresss_access(reversed_: bool) -> None:
    for credential in (OTHER.key, "dummy", "", MINTED.key[:-1]):
        presented = present({"authorization": f"Bearer {credential}"}, ip="10.0.0.1")
        both = (OFFICE, real_keys()) if reversed_ else (real_keys(), OFFICE)
        assert isinstance(any_of(*both, presented=presented), Refused)


@pytest.mark.parametrize("reversed_", [False, True])
def test_any_of_with_a_network(reversed_: bool) -> None:
    def judged(outcome: Outcome, presented: Presented) -> Subject | Refused:
        both = (OFFICE, Fixed(outcome)) if reversed_ else (Fixed(outcome), OFFICE)
        return any_of(*both, presented=presented)

    assert judged(ALICE, INSIDE) is ALICE, "an address is no second subject"
    assert judged(ALICE, OUTSIDE) is ALICE
    inside = judged(None, INSIDE)
    assert isinstance(inside, Subject)
    assert inside.user == "network:office"
    assert reason(judged(None, OUTSIDE)) is Reason.CREDENTIAL_MISSING, "a credential would have helped"
    assert reason(any_of(OFFICE)) is Reason.NETWORK_REFUSED


def test_all_of_needs_every_one() -> None:
    assert all_of(OFFICE, Fixed(ALICE), presented=INSIDE) is ALICE
    assert all_of(Fixed(ALICE), OFFICE, presented=INSIDE) is ALICE
    assert reason(all_of(OFFICE, Fixed(ALICE), presented=OUTSIDE)) is Reason.NETWORK_REFUSED
    assert reason(all_of(OFFICE, refuse(Reason.KEY_UNKNOWN), presented=INSIDE)) is Reason.KEY_UNKNOWN
    assert reason(all_of(OFFICE, Fixed(None), presented=INSIDE)) is Reason.CREDENTIAL_MISSING
    assert reason(all_of(Fixed(ALICE), Fixed(None))) is Reason.CREDENTIAL_MISSING
    assert reason(all_of(Fixed(None), Fixed(ALICE))) is Reason.CREDENTIAL_MISSING


def test_all_of_networks_alone_is_the_first_network() -> None:
    narrow = NetworkAuthenticator("desk", ["10.0.0.1"])
    found = all_of(OFFICE, narrow, presented=INSIDE)
    assert isinstance(found, Subject)
    assert found.user == "network:office"


def test_36_all_of_two_users_or_keys_conflict() -> None:
    assert reason(all_of(Fixed(ALICE), Fixed(BOB))) is Reason.CONFLICTING_CREDENTIALS
    keys = [Fixed(ALICE), Fixed(person("alice", key="key_1")), Fixed(person("alice", key="key_2"))]
    assert reason(all_of(*keys)) is Reason.CONFLICTING_CREDENTIALS


def test_all_of_unites() -> None:
    rpm = OwnedQuotas(kind="user", owner="alice", home="user:alice", quotas=(parse_quota("requests=60/m"),))
    tpd = OwnedQuotas(kind="key", owner="key_1", home="user:alice", quotas=(parse_quota("tokens=10k/day"),))
    one = person(
        "alice",
        roles=frozenset({"ml"}),
        models=frozenset({"a", "b"}),
        claims={"x": 1},
        headers=(("x-a", "1"),),
        quotas=(rpm,),
    )
    other = person(
        "alice",
        team="nlp",
        key="key_1",
        roles=frozenset({"ops"}),
        scopes=frozenset({"read"}),
        models=frozenset({"b", "c"}),
        inherits_models=False,
        claims={"x": 2, "y": 3},
        headers=(("x-a", "2"), ("x-b", "3")),
        quotas=(rpm, tpd),
    )
    found = all_of(Fixed(one), Fixed(other))
    assert isinstance(found, Subject)
    assert (found.user, found.team, found.key) == ("alice", "nlp", "key_1")
    assert found.roles == {"ml", "ops"}
    assert found.scopes == {"read"}
    assert found.models == {"b"}
    assert found.claims == {"x": 1, "y": 3}
    assert dict(found.headers) == {"x-a": "1", "x-b": "3"}
    assert found.quotas == (rpm, tpd)


@pytest.mark.parametrize(
    ("lists", "models", "inherits"),
    [
        ((None, None), None, False),
        ((None, frozenset({"a"})), {"a"}, False),
        ((frozenset({"a"}), None), {"a"}, False),
        ((frozenset({"a"}), frozenset({"b"})), frozenset(), False),
        ((frozenset(), frozenset({"b"})), frozenset(), False),
    ],
)
def test_all_of_model_lists_intersect(lists: tuple[Any, Any], models: Any, inherits: bool) -> None:
    found = all_of(*(Fixed(person("alice", models=each)) for each in lists))
    assert isinstance(found, Subject)
    assert (found.models, found.inherits_models) == (models, inherits)


def test_a_key_that_inherits_still_does_beside_a_token_without_a_list() -> None:
    found = all_of(Fixed(ALICE), Fixed(person("alice", key="key_1", inherits_models=True)))
    assert isinstance(found, Subject)
    assert found.inherits_models


def test_challenges_and_slots_of_a_route() -> None:
    keys = real_keys()
    sso = with_secret(claim_headers=(("a", "x-a"),), token_from=(AUTHORIZATION, Slot("cookie", "session")))
    combined = AnyOf([keys, sso, OFFICE, Fixed(None, 'Basic realm="staff"')])
    assert challenge(combined) == 'Bearer realm="authz", Basic realm="staff"'
    assert credential_slots(combined) == (AUTHORIZATION, X_API_KEY, Slot("cookie", "session"))
    assert challenge(AllOf([OFFICE])) == ""


def test_who_sent_nothing_is_told_what_to_send() -> None:
    def told(combined: AnyOf | AllOf) -> str:
        refused = at_once(combined.authenticate(OUTSIDE))
        assert isinstance(refused, Refused)
        return refused.detail

    keys, password = Fixed(None), Fixed(None)
    password.wants = "user and password"
    assert told(AnyOf([keys])) == told(AnyOf([keys, OFFICE])) == "", "the reason says it"
    assert told(AnyOf([password])) == "No credential was sent. Send user and password."
    assert (
        told(AnyOf([password, keys]))
        == "No credential was sent. Send an API key or token, or user and password."
    )
    assert told(AllOf([Fixed(ALICE), password])) == "No credential was sent. Send user and password."
