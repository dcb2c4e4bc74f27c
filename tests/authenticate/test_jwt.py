"""Where tokens are found, whom they name, and how long they are remembered."""

from base64 import b64decode
from collections.abc import Callable
from typing import Any

import pytest
from rich.pretty import pretty_repr

from authz.authenticate.compact import Compact, split
from authz.authenticate.jwt import JwtAuthenticator
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.presented import AUTHORIZATION, Presented, Slot
from authz.authenticate.protocol import Outcome, Refused
from authz.quota import parse_quota
from authz.reason import Reason
from authz.store.records import Team, User
from authz.subject import Subject
from tests.authenticate.fakes import (
    ISSUER,
    JWKS_URL,
    NOW,
    Clock,
    MemoryDirectory,
    at_once,
    bearer,
    claims,
    present,
    settings,
    sign,
    with_secret,
)

GOOD = sign(claims())


def subject(outcome: Outcome) -> Subject:
    assert isinstance(outcome, Subject), outcome
    return outcome


def reason(outcome: Outcome) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def named(payload: dict[str, Any], **changed: Any) -> Subject:
    return subject(at_once(with_secret(**changed).authenticate(bearer(sign(payload)))))


# The walk-through of a Caddy reverse proxy with caddy-jwt: its key, its token, its settings.
WALK_THROUGH_TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjk5NTU4OTI2NzAsImp0aSI6IjgyMjk0YTYzLTk2NjAtNGM2Mi1hOGE4LTVhNjI2NWVm"
    "Y2Q0ZSIsInN1YiI6IjM0MDYzMjc5NjM1MTY5MzIiLCJpc3MiOiJodHRwczovL2FwaS5leGFtcGxlLmNvbSIsImF1ZCI6WyJodHRwczovL2FwaS5l"
    "eGFtcGxlLmlvIl0sInVzZXJuYW1lIjoiZ2dpY2NpIn0.O8kvRO9y6xQO3AymqdFE7DDqLRBQhkntf78O9kF71F8"
)
WALK_THROUGH = JwtSettings(
    name="takeoff",
    sign_key=b64decode("TkZMNSowQmMjOVU2RUB0bm1DJkU3U1VONkd3SGZMbVk="),
    algorithms=frozenset({"HS256"}),
    jwks_url="https://api.example.com/jwk/keys",
    token_from=(
        Slot("query", "access_token"),
        Slot("query", "token"),
        Slot("header", "x-api-token"),
        Slot("cookie", "user_session"),
        AUTHORIZATION,
    ),
    issuers=frozenset({"https://api.example.com"}),
    audiences=frozenset({"https://api.example.io", "https://learn.example.com"}),
    user=("aud", "uid", "user_id", "username", "login"),
    claim_headers=(("IsAdmin", "x-is-admin"), ("settings.payout.paypal.enabled", "x-paypal")),
)


@pytest.mark.parametrize(
    "presented",
    [
        present(target=f"/generate?access_token={WALK_THROUGH_TOKEN}"),
        present(target=f"/generate?token={WALK_THROUGH_TOKEN}"),
        present({"x-api-token": WALK_THROUGH_TOKEN}),
        present({"cookie": f"a=b; user_session={WALK_THROUGH_TOKEN}"}),
        present({"authorization": f"Bearer {WALK_THROUGH_TOKEN}"}),
        present(
            {"authorization": f"Bearer {WALK_THROUGH_TOKEN}", "x-api-token": "rubbish"}, target="/?token=x"
        ),
    ],
    ids=["access_token", "token", "X-Api-Token", "cookie", "authorization", "after three that are rubbish"],
)
def test_the_walk_through_from_every_source(presented: Presented) -> None:
    authenticator = JwtAuthenticator(WALK_THROUGH, MemoryDirectory(), Clock())
    found = subject(at_once(authenticator.authenticate(presented)))
    assert found.user == "takeoff:ggicci", (
        "`aud` is a list, so `username` is the first claim that names the user"
    )
    assert found.claims["sub"] == "3406327963516932"
    assert found.headers == ()
    assert authenticator.asserts == {"x-is-admin", "x-paypal"}
    assert authenticator.jwks is None, "sign_key beats jwks_url"


def test_the_walk_through_with_one_bit_changed() -> None:
    authenticator = JwtAuthenticator(WALK_THROUGH, MemoryDirectory(), Clock())
    changed = WALK_THROUGH_TOKEN[:-2] + "E8"
    assert reason(at_once(authenticator.authenticate(bearer(changed)))) is Reason.TOKEN_INVALID


SOURCES = (Slot("query", "token"), Slot("header", "x-api-token"), AUTHORIZATION)


def from_sources(presented: Presented, **changed: Any) -> Outcome:
    return at_once(with_secret(token_from=SOURCES, **changed).authenticate(presented))


def test_no_source_holds_anything() -> None:
    assert from_sources(present({"authorization": "Basic YTpi"})) is None


def test_attack_36_two_valid_tokens_of_two_users() -> None:
    presented = present({"authorization": f"Bearer {GOOD}", "x-api-token": sign(claims(sub="bob"))})
    assert reason(from_sources(presented)) is Reason.CONFLICTING_CREDENTIALS


def test_two_valid_tokens_of_one_user() -> None:
    presented = present({"authorization": f"Bearer {GOOD}", "x-api-token": sign(claims(exp=NOW + 9))})
    assert subject(from_sources(presented)).user == "sso:alice"


@pytest.mark.parametrize("name", ["x-api-token", "authorization"])
def test_attack_37_a_source_twice_beside_a_valid_one(name: str) -> None:
    presented = present(
        {"authorization": f"Bearer {GOOD}", "x-api-token": GOOD},
        target=f"/?token={GOOD}",
        repeated=frozenset({name}),
    )
    assert reason(from_sources(presented)) is Reason.DUPLICATE_CREDENTIAL


def test_of_several_bad_tokens_the_telling_one() -> None:
    presented = present({"authorization": "Bearer rubbish", "x-api-token": sign(claims(exp=NOW - 1))})
    assert reason(from_sources(presented)) is Reason.TOKEN_EXPIRED
    other = present(
        {"authorization": f"Bearer {sign(claims(exp=NOW - 1))}", "x-api-token": GOOD[:-4] + "AAAA"}
    )
    assert reason(from_sources(other)) is Reason.TOKEN_EXPIRED


def test_what_is_no_token_is_said_to_be_foreign() -> None:
    outcome = from_sources(present({"authorization": "Bearer sk-az-whatever"}))
    assert outcome == Refused(Reason.TOKEN_INVALID, "The credential is not a JSON Web Token.", foreign=True)


@pytest.mark.parametrize(
    ("fields", "user"),
    [
        ({}, "sso:alice"),
        ({"map_users": True}, "alice"),
        ({"issuers": frozenset({ISSUER, "https://b.test"})}, "sso:https%3A%2F%2Fidp.test:alice"),
        ({"issuers": frozenset()}, "sso:https%3A%2F%2Fidp.test:alice"),
        ({"name": "azure"}, "azure:alice"),
    ],
)
def test_users_are_namespaced(fields: dict[str, Any], user: str) -> None:
    assert named(claims(), **fields).user == user


def test_issuers_cannot_name_each_others_users() -> None:
    both = frozenset({"https://a.test", "https://a.test:x"})
    one = named(claims(iss="https://a.test", sub="x:bob"), issuers=both).user
    other = named(claims(iss="https://a.test:x", sub="bob"), issuers=both).user
    assert one != other


@pytest.mark.parametrize(
    "changed",
    [
        {"sub": ...},
        {"sub": ""},
        {"sub": ["alice"]},
        {"sub": True},
        {"sub": None},
        {"sub": 1.5},
        {"sub": {"a": 1}},
    ]
    + [{"sub": bad} for bad in ("a\r\nx-admin: 1", "a\x00", " alice", "alice ", "a\u202eb", "x" * 257)],
    ids=str,
)
def test_a_token_that_names_no_user(changed: dict[str, Any]) -> None:
    outcome = at_once(with_secret().authenticate(bearer(sign(claims(**changed)))))
    assert reason(outcome) is Reason.TOKEN_INVALID


def test_the_first_claim_that_can_name_the_user() -> None:
    user = ("preferred_username", "sub")
    assert named(claims(preferred_username="Zoë"), user=user).user == "sso:Zoë"
    assert named(claims(), user=user).user == "sso:alice"
    assert named(claims(sub=3406327963516932)).user == "sso:3406327963516932"


def test_teams_roles_scopes_and_models_from_claims() -> None:
    payload = claims(
        groups=["nlp", "vision"],
        realm_access={"roles": ["senior", 7]},
        scope="read write",
        models=["llama3-8b"],
        mail="a@example.com",
    )
    found = named(
        payload, teams=("groups",), roles=("realm_access.roles",), models=("models",), email=("mail",)
    )
    assert found.team == "nlp"
    assert found.roles == {"senior"}
    assert found.scopes == {"read", "write"}
    assert found.models == {"llama3-8b"}
    assert found.claims["email"] == "a@example.com"
    assert not found.inherits_models


@pytest.mark.parametrize(
    ("value", "models"),
    [
        (..., None),
        (None, None),
        ([], frozenset()),
        ("llama3-8b", {"llama3-8b"}),
        ("", frozenset()),
        (7, frozenset()),
        ({"a": 1}, frozenset()),
        ([1, None], frozenset()),
    ],
)
def test_a_models_claim_of_another_kind_allows_nothing(value: object, models: set[str] | None) -> None:
    found = named(claims(models=value), models=("models",))
    assert found.models == models
    assert found.inherits_models is False


@pytest.mark.parametrize("team", [7, {"a": 1}, ["ok\n"], [["x"]], "a\r\n", True, "user:bob", ["user:bob"]])
def test_a_team_of_another_kind_refuses(team: object) -> None:
    """Dropped, it would take the team's limits with it."""
    outcome = at_once(with_secret(teams=("groups",)).authenticate(bearer(sign(claims(groups=team)))))
    assert reason(outcome) is Reason.TOKEN_INVALID


@pytest.mark.parametrize(("team", "expected"), [("nlp", "nlp"), ([], None), (None, None), (["a", "b"], "a")])
def test_the_first_team(team: object, expected: str | None) -> None:
    assert named(claims(groups=team), teams=("groups",)).team == expected


def test_scp_stands_in_for_scope() -> None:
    assert named(claims(scp=["a", "b c"])).scopes == {"a", "b c"}
    assert named(claims(scp=["a"], scope="x")).scopes == {"x"}


def test_attack_32_claims_that_become_headers() -> None:
    payload = claims(
        IsAdmin=False,
        settings={"payout": {"paypal": {"enabled": True}}},
        nick="a\r\nx-admin: 1",
        n=7,
        empty="",
        nul=None,
    )
    made = (
        ("IsAdmin", "x-is-admin"),
        ("settings.payout.paypal.enabled", "x-paypal"),
        ("nick", "x-nick"),
        ("n", "x-n"),
        ("empty", "x-empty"),
        ("nul", "x-nul"),
        ("missing", "x-missing"),
    )
    assert named(payload, claim_headers=made).headers == (
        ("x-is-admin", "false"),
        ("x-paypal", "true"),
        ("x-nick", "a%0D%0Ax-admin: 1"),
        ("x-n", "7"),
    )


def test_a_claim_too_long_for_a_header_refuses() -> None:
    authenticator = with_secret(claim_headers=(("nick", "x-nick"),))
    outcome = at_once(authenticator.authenticate(bearer(sign(claims(nick="é" * 400)))))
    assert reason(outcome) is Reason.TOKEN_INVALID


RPM, TPD = parse_quota("requests=60/m"), parse_quota("tokens=10k/day")


def test_a_mapped_user_has_what_our_table_says() -> None:
    alice = User(
        name="alice", team="nlp", models=frozenset({"a"}), roles=frozenset({"senior"}), quotas=(RPM,)
    )
    team = Team(name="nlp", models=frozenset({"b"}), quotas=(TPD,))
    clock = Clock()
    directory = MemoryDirectory(alice, team)
    sso = JwtAuthenticator(settings(map_users=True, roles=("roles",)), directory, clock)
    token = sign(claims(roles=["ml"]))
    found = subject(at_once(sso.authenticate(bearer(token))))
    assert (found.user, found.team, found.models) == ("alice", "nlp", {"a"})
    assert found.roles == {"ml", "senior"}
    assert [(owned.kind, owned.owner) for owned in found.quotas] == [("user", "alice"), ("team", "nlp")]
    assert at_once(sso.authenticate(bearer(token))) is found

    directory.put(Team(name="nlp", models=frozenset({"c"})))
    directory.put(User(name="alice", team="nlp"))
    assert subject(at_once(sso.authenticate(bearer(token)))).models == {"c"}
    directory.put(User(name="alice", disabled=True))
    assert reason(at_once(sso.authenticate(bearer(token)))) is Reason.USER_DISABLED
    directory.put(User(name="alice"))
    assert subject(at_once(sso.authenticate(bearer(token)))).models is None


def test_what_the_token_says_comes_before_the_table() -> None:
    records = (User(name="alice", team="home", models=frozenset({"a"})), Team(name="work", quotas=(RPM,)))
    sso = with_secret(*records, map_users=True, models=("models",), teams=("groups",))
    found = subject(at_once(sso.authenticate(bearer(sign(claims(models=["x"], groups="work"))))))
    assert (found.models, found.team) == ({"x"}, "work")
    assert [(owned.kind, owned.owner) for owned in found.quotas] == [("team", "work")]


def test_a_mapped_user_that_our_table_does_not_know() -> None:
    found = named(claims(sub="stranger"), map_users=True)
    assert (found.user, found.models, found.inherits_models, found.quotas) == ("stranger", None, False, ())


def test_a_mapped_user_cannot_borrow_another_providers_name() -> None:
    sso = with_secret(map_users=True)
    assert reason(at_once(sso.authenticate(bearer(sign(claims(sub="other:bob")))))) is Reason.TOKEN_INVALID


def test_an_unmapped_user_is_not_looked_up() -> None:
    alice = User(name="alice", disabled=True, quotas=(RPM,))
    found = subject(
        at_once(with_secret(alice, User(name="sso:alice", disabled=True)).authenticate(bearer(GOOD)))
    )
    assert found.quotas == ()


def test_a_token_is_verified_once(monkeypatch: pytest.MonkeyPatch) -> None:
    sso = with_secret()
    first = at_once(sso.authenticate(bearer(GOOD)))
    monkeypatch.setattr(sso, "_verify", None)
    assert at_once(sso.authenticate(bearer(GOOD))) is first


def test_a_remembered_token_expires_on_time() -> None:
    clock = Clock()
    sso = with_secret(clock=clock)
    token = sign(claims(exp=NOW + 5))
    assert subject(at_once(sso.authenticate(bearer(token))))
    clock.forward(4.999)
    assert subject(at_once(sso.authenticate(bearer(token))))
    clock.forward(0.001)
    assert reason(at_once(sso.authenticate(bearer(token)))) is Reason.TOKEN_EXPIRED
    assert len(sso._tokens) == 0


def test_leeway_goes_both_ways() -> None:
    clock = Clock()
    sso = with_secret(clock=clock, leeway_ms=60_000)
    future, past = sign(claims(iat=NOW + 60, nbf=NOW + 60)), sign(claims(exp=NOW - 59))
    assert subject(at_once(sso.authenticate(bearer(future))))
    assert subject(at_once(sso.authenticate(bearer(past))))
    assert reason(at_once(sso.authenticate(bearer(sign(claims(iat=NOW + 61)))))) is Reason.TOKEN_NOT_YET_VALID
    clock.forward(1)
    assert reason(at_once(sso.authenticate(bearer(past)))) is Reason.TOKEN_EXPIRED


def test_tokens_without_exp_are_a_choice() -> None:
    eternal = sign(claims(exp=...))
    clock = Clock()
    sso = with_secret(clock=clock, require_exp=False)
    assert subject(at_once(sso.authenticate(bearer(eternal))))
    clock.forward(10**9)
    assert subject(at_once(sso.authenticate(bearer(eternal))))


def test_without_audiences_a_token_for_somebody_is_refused() -> None:
    """RFC 7519 4.1.3."""
    sso = with_secret(audiences=frozenset())
    assert reason(at_once(sso.authenticate(bearer(GOOD)))) is Reason.TOKEN_WRONG_AUDIENCE
    assert subject(at_once(sso.authenticate(bearer(sign(claims(aud=...))))))


def test_the_memory_of_tokens_is_bounded() -> None:
    sso = JwtAuthenticator(settings(), MemoryDirectory(), Clock(), remembered=10)
    for number in range(50):
        assert subject(at_once(sso.authenticate(bearer(sign(claims(sub=f"u{number}"))))))
        assert len(sso._tokens) <= 10


@pytest.mark.parametrize("show", [repr, pretty_repr])
def test_no_token_or_secret_in_any_repr(show: Callable[[object], str]) -> None:
    sso = with_secret()
    found = at_once(sso.authenticate(bearer(GOOD)))
    shown = "".join(show(each) for each in (found, sso, vars(sso), settings(), split(GOOD)))
    assert GOOD not in shown
    assert GOOD.split(".")[2] not in shown
    parts = split(GOOD)
    assert isinstance(parts, Compact)
    assert str(parts.signature) not in shown
    assert str(parts.signed) not in shown
    assert str(bytes(range(32))) not in shown


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"name": "a:b"}, "cannot be the name"),
        ({"name": ""}, "cannot be the name"),
        ({"name": "network"}, "cannot be the name"),
        ({"algorithms": frozenset()}, "algorithms must be some of"),
        ({"algorithms": frozenset({"none"})}, "algorithms must be some of"),
        ({"algorithms": frozenset({"HS256", "ES521"})}, "algorithms must be some of"),
        ({"algorithms": frozenset({"RS256"})}, "a shared secret cannot verify RS256"),
        ({"algorithms": frozenset({"HS256", "RS256"})}, "a shared secret cannot verify RS256"),
        ({"jwks_url": JWKS_URL}, "need a sign_key"),
        ({"algorithms": frozenset({"RS256"}), "sign_key": None}, "one of sign_key, jwks_url and discovery"),
        (
            {"algorithms": frozenset({"RS256"}), "discovery": ISSUER, "issuers": frozenset()},
            "discovery needs issuers",
        ),
        ({"algorithms": frozenset({"RS256"}), "jwks_url": "file:///etc/passwd"}, "not an http or https URL"),
        (
            {"algorithms": frozenset({"RS256"}), "jwks_url": "http://169.254.169.254/x"},
            "no identity provider",
        ),
        ({"algorithms": frozenset({"RS256"}), "jwks_url": "https://u:p@h/x"}, "user name or password"),
        ({"algorithms": frozenset({"RS256"}), "jwks_url": "https:///x"}, "names no host"),
        ({"leeway_ms": -1}, "leeway"),
        ({"leeway_ms": 600_001}, "leeway"),
        ({"cooldown": 0}, "cooldown"),
        ({"token_from": ()}, "token_from"),
        ({"user": ()}, "subject.user"),
        ({"claim_headers": (("a", "x-a"), ("b", "x-a"))}, "cannot share"),
    ]
    + [
        ({"claim_headers": (("a", name),)}, "cannot be a claim header")
        for name in (
            "authorization",
            "x-authz-user",
            "host",
            "x-envoy-upstream-rq-timeout-ms",
            "x a",
            "X-A",
            "",
            ":path",
        )
    ],
    ids=lambda part: part if isinstance(part, str) else "-".join(part),
)
def test_settings_that_make_no_sense(changed: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        settings(**changed)
