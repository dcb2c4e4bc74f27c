"""46-83 through each gateway: tokens, passwords and keys that nobody may be let in with.

What no gateway has a part in is tried where it is judged: key sets of providers (52, 54, 55, 57-60) in
tests/authenticate, floods (57, 74) in tests/reliability, the admin address (80, 81) in tests/telemetry, addresses that
clients name (82) in tests/seeds/test_baseten.py.
"""

import hmac
import json
import time
from base64 import b64encode
from collections.abc import Callable
from hashlib import sha256

import pytest

from tests.acceptance.lab import eventually
from tests.attacks.site import PASSWORD, UPSTREAM, Provider, Way, basic, bearer, signed
from tests.seeds.identity_provider import ISSUER
from tests.seeds.takeoff import b64

Made = Callable[[Provider], str]
ES256 = b64(b'{"alg": "ES256", "kid": "first"}')


def claims(idp: Provider, **more: object) -> bytes:
    return json.dumps(idp.claims() | more).encode()


def hmacked(idp: Provider, secret: bytes, header: dict[str, object]) -> str:
    text = f"{b64(json.dumps(header).encode())}.{b64(claims(idp))}"
    return f"{text}.{b64(hmac.digest(secret, text.encode(), sha256))}"


def without_signature(idp: Provider, algorithm: str) -> str:
    return f"{b64(json.dumps({'alg': algorithm, 'typ': 'JWT'}).encode())}.{b64(claims(idp))}."


def altered(idp: Provider, change: Callable[[str, str, str], str]) -> str:
    head, body, signature = idp.token().split(".")
    return change(head, body, signature)


def nested(idp: Provider, depth: int) -> bytes:
    return claims(idp)[:-1] + b', "x": ' + b"[" * depth + b"]" * depth + b"}"


TOKENS: dict[str, Made] = {
    "46 alg none": lambda idp: without_signature(idp, "none"),
    "46 alg nOnE": lambda idp: without_signature(idp, "nOnE"),
    "46 no signature": lambda idp: altered(idp, lambda head, body, _: f"{head}.{body}."),
    "47 HMAC with the public key": lambda idp: hmacked(
        idp, idp.public_pem("first"), {"alg": "HS256", "kid": "first"}
    ),
    "48 another algorithm of the key": lambda idp: signed(idp, {"alg": "PS256"}),
    "48 an algorithm of another key": lambda idp: signed(idp, {"alg": "ES256"}),
    "49 a key of its own": lambda idp: hmacked(
        idp, b"k" * 32, {"alg": "HS256", "jwk": {"kty": "oct", "k": b64(b"k" * 32)}}
    ),
    "50 an unknown crit": lambda idp: signed(idp, {"crit": ["x"], "x": True}),
    "51 b64 false": lambda idp: signed(idp, {"crit": ["b64"], "b64": False}),
    "53 padding": lambda idp: idp.token() + "==",
    "53 a stray character": lambda idp: altered(
        idp, lambda head, body, end: f"{head}.{body[:9]}!{body[9:]}.{end}"
    ),
    "56 kid a path": lambda idp: signed(idp, {"kid": "../../../dev/null"}),
    "56 kid SQL": lambda idp: signed(idp, {"kid": "x' UNION SELECT 'k"}),
    "56 kid a number": lambda idp: signed(idp, {"kid": 7}),
    "56 kid null": lambda idp: signed(idp, {"kid": None}),
    "61 nested deeply": lambda idp: signed(idp, claims=nested(idp, 5000)),
    "62 a header of 12 KB": lambda idp: signed(idp, {"x": "y" * 12_000}),
    "63 JWE": lambda idp: "eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.AAAA.AAAA.AAAA.AAAA",
    "63 p2c": lambda idp: signed(idp, {"alg": "PBES2-HS256+A128KW", "p2c": 2**31, "zip": "DEF"}),
    "64 part of the issuer": lambda idp: idp.token(iss=ISSUER[:-1]),
    "64 more than the issuer": lambda idp: idp.token(iss=ISSUER + ".evil.example"),
    "64 issuers": lambda idp: idp.token(iss=[ISSUER]),
    "64 part of the audience": lambda idp: idp.token(aud="ll"),
    "64 an audience that contains it": lambda idp: idp.token(aud="llm2"),
    "64 no audience": lambda idp: idp.token(aud=None),
    "65 expired": lambda idp: idp.token(exp=int(time.time()) - 3600),
    "65 not yet": lambda idp: idp.token(nbf=int(time.time()) + 3600),
    "65 exp a list": lambda idp: idp.token(exp=[2**31]),
    "65 exp text": lambda idp: idp.token(exp="4102444800"),
    "65 exp 1e400": lambda idp: signed(
        idp, claims=claims(idp)[:-1].replace(b'"exp"', b'"old"') + b', "exp": 1e400}'
    ),
    "65 exp true": lambda idp: idp.token(exp=True),
    "66 a claim twice": lambda idp: signed(idp, claims=claims(idp)[:-1] + b', "sub": "admin"}'),
    "66 a claim twice, escaped": lambda idp: signed(
        idp, claims=claims(idp)[:-1] + b', "\\u0073ub": "admin"}'
    ),
    "67 an empty ES256 signature": lambda idp: altered(
        idp, lambda _, body, __: f"{ES256}.{body}.{b64(bytes(64))}"
    ),
    "68 cut": lambda idp: idp.token()[:-8],
    "68 longer": lambda idp: idp.token() + "AAAA",
    "69 a dot more": lambda idp: idp.token() + ".",
    "69 a dot before": lambda idp: "." + idp.token(),
    "69 JSON serialisation": lambda idp: json.dumps({"payload": "e30", "signatures": []}),
    "69 Bearer twice": lambda idp: "Bearer " + idp.token(),
    "one character changed": lambda idp: altered(
        idp, lambda head, body, end: f"{head}.{body}.{'B' if end[0] == 'A' else 'A'}{end[1:]}"
    ),
}


@pytest.mark.parametrize("case", TOKENS)
def test_a_token_that_is_none(way: Way, case: str) -> None:
    """Also right after the honest one, which is remembered (68)."""
    way.passes("/sso", bearer(way.idp.token()))
    token = TOKENS[case](way.idp)
    way.is_refused((400, 401), "/sso", bearer(token))
    way.is_refused((400, 401), "/sso", {"Cookie": f"session={token}"})
    assert token not in way.site.service.log


def test_62_a_token_longer_than_any(way: Way) -> None:
    """Each gateway has a size of its own, from which on it refuses by itself."""
    for size in (50_000, 150_000, 900_000):
        answer = way.ask("/sso", bearer("e" * size))
        assert 400 <= answer.status < 500
        assert not way.model.received


@pytest.mark.parametrize("separator", ["  ", "\t", ", ", ""], ids=repr)
def test_69_between_scheme_and_token_stands_one_space(way: Way, separator: str) -> None:
    way.is_refused((400, 401), "/sso", {"Authorization": f"Bearer{separator}{way.idp.token()}"})


STRINGS = {
    "70 SQL": "' OR '1'='1' --",
    "70 SQL with our prefix": "sk-az-' UNION SELECT digest FROM keys --",
    "nothing but the prefix": "sk-az-",
    "69 ours, twice": "sk-az-a sk-az-a",
    "10,000 characters": "sk-az-" + "a" * 10_000,
}


@pytest.mark.parametrize("case", STRINGS)
def test_a_key_that_is_none(way: Way, case: str) -> None:
    way.is_refused(401, "/keys", {"X-APIKEY": STRINGS[case]})
    way.is_refused(401, "/keys", bearer(STRINGS[case]))


def test_72_what_is_stored_is_no_key(way: Way) -> None:
    minted = way.site.key()
    stored = sha256(minted.key.encode())
    for text in (stored.hexdigest(), b64encode(stored.digest()).decode(), minted.id, minted.display):
        way.is_refused(401, "/keys", {"X-APIKEY": text})


def test_73_an_unknown_user_is_refused_like_a_wrong_password(way: Way) -> None:
    known = way.is_refused(401, "/staff", basic("carol", "wrong"))
    unknown = way.is_refused(401, "/staff", basic("mallory", "wrong"))
    assert known.body == unknown.body
    drop = ("x-request-id", "date")
    kept = [[each for each in answer.headers if each[0] not in drop] for answer in (known, unknown)]
    assert kept[0] == kept[1]


PASSWORDS = {
    "70 SQL": ("carol' --", "x"),
    "71 beyond ASCII": ("cärol", "tülip"),
    "75 longer than bcrypt looks": ("carol", PASSWORD + "xxx"),
    "75 of 1,000 bytes": ("carol", PASSWORD * 14),
    "77 no hash": ("empty", ""),
    "77 an unknown hash": ("odd", "abc"),
    "77 a hash that is the password": ("plain", "tulip"),
    "no user": ("", PASSWORD),
    "no password": ("carol", ""),
}


@pytest.mark.parametrize("case", PASSWORDS)
def test_a_password_that_is_none(way: Way, case: str) -> None:
    way.is_refused(401, "/staff", basic(*PASSWORDS[case]))


def test_75_the_right_one_of_70_bytes(way: Way) -> None:
    assert way.passes("/staff", basic("carol", PASSWORD)).header("x-authz-user") == "staff:carol"


@pytest.mark.parametrize(
    "junk",
    ["dTpw!!", "dTp w", "dTpw=", "====", "Y2Fyb2w6dHVsaXA\xe9", "Y2Fyb2w"],
    ids=["stray characters", "a space", "too much padding", "padding alone", "Latin-1", "no colon"],
)
def test_76_base64_that_is_none(way: Way, junk: str) -> None:
    way.is_refused((400, 401), "/staff", {"Authorization": f"Basic {junk}"})


def test_78_a_revoked_key_is_refused_within_a_second_or_so(way: Way) -> None:
    minted = way.site.key()
    way.passes("/keys", bearer(minted.key))
    way.site.service.run("keys", "revoke", minted.id)
    eventually(lambda: way.ask("/keys", bearer(minted.key)).status == 401)
    way.is_refused(401, "/keys", bearer(minted.key))


def test_79_no_secret_is_in_any_log(way: Way) -> None:
    """Those of the gateway too: what was let through, and what was refused."""
    minted, token = way.site.key(), way.idp.token(jti="79")
    guess = "sk-az-" + "g" * 46
    way.passes("/keys?q=1", bearer(minted.key))
    way.passes("/sso", {"Cookie": f"session={token}"})
    way.passes("/staff", basic("carol", PASSWORD))
    way.is_refused(401, "/keys", {"X-APIKEY": guess})
    way.is_refused(401, "/staff", basic("carol", "a wrong guess"))
    secrets = [minted.key, token, guess, PASSWORD, UPSTREAM, b64encode(f"carol:{PASSWORD}".encode()).decode()]
    assert not [secret for secret in secrets if secret in way.site.logs]


def test_83_names_that_look_alike_when_joined_share_no_limit(way: Way) -> None:
    pairs = [
        ("a:b", "c"),
        ("a", "b:c"),
        ("a|b", "c"),
        ("a", "b|c"),
        ("a,b", "c"),
        ("a%3Ab", "c"),
        ("a\\:b", "c"),
    ]
    for user, team in pairs:
        key = way.site.key(user=f"{way.kind}{user}", team=team).key
        way.passes("/few", bearer(key))
        assert way.ask("/few", bearer(key)).status == 429
