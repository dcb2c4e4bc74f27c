"""Attacks on JSON Web Tokens (46-69), each against an authenticator that accepts the honest token."""

import hashlib
import hmac
import json
from collections.abc import Callable
from typing import Any

import jwt.algorithms
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from authz.authenticate.jwt import JwtAuthenticator
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.subject import Subject
from tests.authenticate.fakes import (
    ISSUER,
    NOW,
    SECRET,
    MemoryDirectory,
    at_once,
    b64,
    bearer,
    claims,
    dumps,
    jwk,
    present,
    private_key,
    settings,
    sign,
    sign_parts,
    with_keys,
    with_secret,
)

INVALID = Reason.TOKEN_INVALID
HEADER = b64(dumps({"alg": "HS256"}))
BODY = b64(dumps(claims()))
GOOD = sign_parts(HEADER, BODY)
SIGNATURE = GOOD.rsplit(".", 1)[1]
STANDARD_BODY = b64(dumps(claims(x="???>>>~~~"))).translate(str.maketrans("-_", "+/"))
assert "+" in STANDARD_BODY or "/" in STANDARD_BODY


def judge(authenticator: JwtAuthenticator, token: str) -> Subject | Refused | None:
    """The outcome, had without suspending; a refusal never repeats the token."""
    outcome = at_once(authenticator.authenticate(bearer(token)))
    if isinstance(outcome, Refused):
        assert len(token) < 8 or token not in repr(outcome)
    return outcome


def refused(outcome: object) -> Reason:
    assert isinstance(outcome, Refused), outcome
    return outcome.reason


def accepted(outcome: object) -> Subject:
    assert isinstance(outcome, Subject), outcome
    return outcome


def test_the_honest_token_is_accepted() -> None:
    assert accepted(judge(with_secret(), GOOD)).user == "sso:alice"


def unsigned(alg: object) -> str:
    return f"{b64(dumps({'alg': alg}))}.{BODY}."


SHARED_SECRET: dict[str, tuple[str, Reason]] = {
    "46 alg none": (unsigned("none"), INVALID),
    "46 alg None": (unsigned("None"), INVALID),
    "46 alg nOnE": (unsigned("nOnE"), INVALID),
    "46 alg none with a signature": (unsigned("none") + SIGNATURE, INVALID),
    "46 empty signature": (f"{HEADER}.{BODY}.", INVALID),
    "46 alg empty": (unsigned(""), INVALID),
    "46 alg null": (unsigned(None), INVALID),
    "46 alg a list": (unsigned(["HS256"]), INVALID),
    "46 alg an object": (unsigned({"a": 1}), INVALID),
    "46 no alg": (sign_parts(b64(dumps({"typ": "JWT"})), BODY), INVALID),
    "46 alg in another case": (sign_parts(b64(dumps({"alg": "hs256"})), BODY), INVALID),
    "48 another HMAC than configured": (sign(claims(), alg="HS384", key=SECRET * 2), INVALID),
    "50 unknown crit": (sign(claims(), crit=["x"], x=1), INVALID),
    "50 empty crit": (sign(claims(), crit=[]), INVALID),
    "50 crit null": (sign(claims(), crit=None), INVALID),
    "50 crit names exp": (sign(claims(), crit=["exp"], exp=NOW + 9), INVALID),
    "51 b64 false": (sign(claims(), b64=False), INVALID),
    "51 b64 false and critical": (sign(claims(), b64=False, crit=["b64"]), INVALID),
    "51 b64 true": (sign(claims(), b64=True), INVALID),
    "53 padded header": (sign_parts(b64(dumps({"alg": "HS256", "a": 1})) + "=", BODY), INVALID),
    "53 padded payload": (sign_parts(HEADER, b64(dumps(claims(x="12"))) + "=="), INVALID),
    "53 padded signature": (GOOD + "=", INVALID),
    "53 stray character in the header": (sign_parts(HEADER[:8] + "?" + HEADER[8:], BODY), INVALID),
    "53 stray character in the payload": (sign_parts(HEADER, BODY + "!"), INVALID),
    "53 standard alphabet": (sign_parts(HEADER, STANDARD_BODY), INVALID),
    "53 line break in the payload": (sign_parts(HEADER, BODY[:8] + "\n" + BODY[8:]), INVALID),
    "53 unused bits": (GOOD[:-1] + chr(ord(GOOD[-1]) + 1), INVALID),
    "56 kid a number": (sign(claims(), kid=7), INVALID),
    "56 kid null": (sign(claims(), kid=None), INVALID),
    "56 kid a list": (sign(claims(), kid=["a"]), INVALID),
    "56 kid too long": (sign(claims(), kid="k" * 257), INVALID),
    "56 kid of 1 MiB": (sign(claims(), kid="k" * 2**20), INVALID),
    "61 100,000 lists in the header": (sign_parts(b64(b'{"alg":' + b"[" * 100_000), BODY), INVALID),
    "61 deep payload": (sign(b'{"a":' + b"[" * 5000 + b"]" * 5000 + b"}"), INVALID),
    "61 deep header": (sign(claims(), a=json.loads("[" * 900 + "]" * 900)), INVALID),
    "62 20,000 characters": (sign(claims(x="x" * 20_000)), INVALID),
    "62 10 MB": ("eyJ" + "A" * 10**7, INVALID),
    "62 long header": (sign(claims(), x="x" * 4000), INVALID),
    "63 JWE": ("eyJhbGciOiJSU0EtT0FFUCIsImVuYyI6IkEyNTZHQ00ifQ.a.b.c.d", INVALID),
    "63 enc in a signed token": (sign(claims(), enc="A256GCM"), INVALID),
    "63 p2c and zip": (sign(claims(), zip="DEF", p2c=2**31), INVALID),
    "64 issuer is part of it": (sign(claims(iss="https://idp")), Reason.TOKEN_WRONG_ISSUER),
    "64 issuer begins like it": (sign(claims(iss=ISSUER + ".evil")), Reason.TOKEN_WRONG_ISSUER),
    "64 issuer with a slash": (sign(claims(iss=ISSUER + "/")), Reason.TOKEN_WRONG_ISSUER),
    "64 issuer in another case": (sign(claims(iss=ISSUER.upper())), Reason.TOKEN_WRONG_ISSUER),
    "64 no issuer": (sign(claims(iss=...)), Reason.TOKEN_WRONG_ISSUER),
    "64 issuer null": (sign(claims(iss=None)), Reason.TOKEN_WRONG_ISSUER),
    "64 issuer a list": (sign(claims(iss=[ISSUER])), INVALID),
    "64 issuer an object": (sign(claims(iss={ISSUER: 1})), INVALID),
    "64 audience is part of it": (sign(claims(aud="ll")), Reason.TOKEN_WRONG_AUDIENCE),
    "64 audience contains it": (sign(claims(aud="llm2")), Reason.TOKEN_WRONG_AUDIENCE),
    "64 no audience": (sign(claims(aud=...)), Reason.TOKEN_WRONG_AUDIENCE),
    "64 audience empty": (sign(claims(aud=[])), Reason.TOKEN_WRONG_AUDIENCE),
    "64 audience an object": (sign(claims(aud={"llm": 1})), INVALID),
    "64 audience null": (sign(claims(aud=None)), INVALID),
    "64 audience with a number": (sign(claims(aud=["llm", 1])), INVALID),
    "64 audience nested": (sign(claims(aud=[["llm"]])), INVALID),
    "65 exp a list": (sign(claims(exp=[NOW + 9])), INVALID),
    "65 exp a string": (sign(claims(exp=str(NOW + 9))), INVALID),
    "65 exp null": (sign(claims(exp=None)), INVALID),
    "65 exp true": (sign(claims(exp=True)), INVALID),
    "65 exp 2^63": (sign(claims(exp=2**63)), INVALID),
    "65 exp -1": (sign(claims(exp=-1)), INVALID),
    "65 exp an object": (sign(claims(exp={})), INVALID),
    "65 exp 1e400": (sign(dumps(claims()).replace(str(NOW + 300).encode(), b"1e400")), INVALID),
    "65 exp 1e300": (sign(dumps(claims()).replace(str(NOW + 300).encode(), b"1e300")), INVALID),
    "65 exp NaN": (sign(dumps(claims()).replace(str(NOW + 300).encode(), b"NaN")), INVALID),
    "65 exp Infinity": (sign(dumps(claims()).replace(str(NOW + 300).encode(), b"Infinity")), INVALID),
    "65 exp of 5,000 digits": (sign(dumps(claims()).replace(str(NOW + 300).encode(), b"9" * 5000)), INVALID),
    "65 nbf a string": (sign(claims(nbf=str(NOW))), INVALID),
    "65 nbf a list": (sign(claims(nbf=[])), INVALID),
    "65 nbf true": (sign(claims(nbf=True)), INVALID),
    "65 iat a string": (sign(claims(iat="now")), INVALID),
    "65 iat 2^63": (sign(claims(iat=2**63)), INVALID),
    "65 no exp": (sign(claims(exp=...)), INVALID),
    "65 expired": (sign(claims(exp=NOW)), Reason.TOKEN_EXPIRED),
    "65 exp 0": (sign(claims(exp=0)), Reason.TOKEN_EXPIRED),
    "65 not yet valid": (sign(claims(nbf=NOW + 1)), Reason.TOKEN_NOT_YET_VALID),
    "65 issued in the future": (sign(claims(iat=NOW + 1)), Reason.TOKEN_NOT_YET_VALID),
    "66 alg twice": (sign_parts(b64(b'{"alg":"none","alg":"HS256"}'), BODY), INVALID),
    "66 sub twice": (sign(b'{"sub":"bob",' + dumps(claims())[1:]), INVALID),
    "66 sub twice, escaped": (sign(b'{"s\\u0075b":"bob",' + dumps(claims())[1:]), INVALID),
    "66 a nested claim twice": (sign(b'{"x":{"a":1,"a":2},' + dumps(claims())[1:]), INVALID),
    "69 JSON serialisation, flattened": (
        json.dumps(dict(zip(("protected", "payload", "signature"), GOOD.split("."), strict=True))),
        INVALID,
    ),
    "69 JSON serialisation": (
        json.dumps({"payload": BODY, "signatures": [{"protected": HEADER, "signature": SIGNATURE}]}),
        INVALID,
    ),
    "69 a dot more": (GOOD + ".", INVALID),
    "69 a dot before": ("." + GOOD, INVALID),
    "69 a part more": (GOOD + ".x", INVALID),
    "69 a part less": (GOOD.rsplit(".", 1)[0], INVALID),
    "69 two spaces after Bearer": (" " + GOOD, INVALID),
    "69 a space behind": (GOOD + " ", INVALID),
    "69 a tab before": ("\t" + GOOD, INVALID),
    "69 Bearer twice": ("Bearer " + GOOD, INVALID),
    "69 nothing": ("", INVALID),
    "69 two tokens": (f"{GOOD},{GOOD}", INVALID),
    "69 not ASCII": ("eyé" + GOOD[3:], INVALID),
    "a logout token": (sign(claims(), typ="logout+jwt"), INVALID),
    "typ a number": (sign(claims(), typ=1), INVALID),
    "payload a list": (sign(b"[]"), INVALID),
    "payload empty": (sign(b""), INVALID),
    "payload a nested token": (sign(GOOD.encode(), cty="JWT"), INVALID),
    "header a list": (sign_parts(b64(b'["HS256"]'), BODY), INVALID),
    "one bit of the signature": (GOOD[:-5] + ("A" if GOOD[-5] != "A" else "B") + GOOD[-4:], INVALID),
    "another payload": (f"{HEADER}.{b64(dumps(claims(sub='root')))}.{GOOD.rsplit('.', 1)[1]}", INVALID),
    "another secret": (sign(claims(), key=b"x" * 32), INVALID),
    "an empty secret": (sign(claims(), key=b""), INVALID),
}  # fmt: skip


@pytest.mark.parametrize(("token", "expected"), SHARED_SECRET.values(), ids=SHARED_SECRET.keys())
def test_with_a_shared_secret(token: str, expected: Reason) -> None:
    authenticator = with_secret()
    assert refused(judge(authenticator, token)) is expected
    assert refused(judge(authenticator, token)) is expected, "a refusal must not be remembered as a success"
    assert accepted(judge(authenticator, GOOD))


FINE: dict[str, str] = {
    "audience in a list": sign(claims(aud=["other", "llm"])),
    "exp as a float": sign(claims(exp=NOW + 0.5)),
    "iat now": sign(claims(iat=NOW)),
    "nbf now": sign(claims(nbf=NOW)),
    "no iat": sign(claims(iat=...)),
    "typ JWT": sign(claims(), typ="JWT"),
    "typ at+jwt": sign(claims(), typ="at+JWT"),
    "a kid": sign(claims(), kid="any"),
    "56 kid a path": sign(claims(), kid="../../../dev/null"),
    "56 kid SQL": sign(claims(), kid="x' UNION SELECT 'secret"),
    "spaces in the header": sign_parts(b64(b'{ "alg" : "HS256" }'), BODY),
    "49 jku, x5u, jwk and x5c are not looked at": sign(
        claims(), jku="https://evil", x5u="file:///etc", jwk={}, x5c=[]
    ),
}


@pytest.mark.parametrize("token", FINE.values(), ids=FINE.keys())
def test_honest_variants_are_accepted(token: str) -> None:
    assert accepted(judge(with_secret(), token)).user == "sso:alice"


@pytest.mark.parametrize("separator", ["", "  ", "\t", " \t", "\xa0"])
def test_69_bearer_needs_one_space(separator: str) -> None:
    outcome = at_once(with_secret().authenticate(present({"authorization": f"Bearer{separator}{GOOD}"})))
    assert not isinstance(outcome, Subject)


def test_49_an_embedded_key_is_never_used() -> None:
    evil = private_key("rsa2")
    with_rsa = [
        {"jwk": jwk("rsa2")},
        {"jku": "https://evil.test/keys"},
        {"x5c": ["MIIB"]},
        {"x5u": "https://evil.test"},
    ]
    for header in with_rsa:
        token = sign(claims(), alg="RS256", key=evil, **header)
        assert refused(run_rs(token)) is INVALID


def run_rs(token: str) -> object:
    """Judged by an authenticator that knows one RSA key, without an id."""
    import asyncio

    async def judged() -> object:
        authenticator, fetcher = await with_keys(jwk("rsa"))
        outcome = await authenticator.authenticate(bearer(token))
        assert len(fetcher.calls) == 1
        return outcome

    return asyncio.run(judged())


def public_forms() -> dict[str, bytes]:
    key = private_key("rsa").public_key()
    return {
        "PEM": key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
        "PEM without its last line break": key.public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ).strip(),
        "PKCS 1 PEM": key.public_bytes(Encoding.PEM, PublicFormat.PKCS1),
        "DER": key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
        "SSH": key.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH),
        "JWK": json.dumps(jwk("rsa", "a")).encode(),
        "modulus": jwk("rsa")["n"].encode(),
    }


@pytest.mark.parametrize("form", public_forms().keys())
def test_47_hmac_with_the_public_key(form: str) -> None:
    head, body = b64(dumps({"alg": "HS256", "kid": "a"})), BODY
    mac = hmac.new(public_forms()[form], f"{head}.{body}".encode(), hashlib.sha256).digest()
    assert refused(run_rs(f"{head}.{body}.{b64(mac)}")) is INVALID


@pytest.mark.parametrize("form", ["PEM", "PKCS 1 PEM", "DER", "SSH", "JWK"])
def test_47_a_public_key_is_not_taken_for_a_secret(form: str) -> None:
    with pytest.raises(ValueError, match="a public key or certificate is no secret"):
        settings(sign_key=public_forms()[form])


KEYS = {
    "rsa": "RS256",
    "p256": "ES256",
    "p384": "ES384",
    "p521": "ES512",
    "secp256k1": "ES256K",
    "ed25519": "EdDSA",
}
ALL = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "ES256K", "EdDSA")


@pytest.mark.parametrize("alg", ALL)
async def test_every_algorithm_verifies_its_own(alg: str) -> None:
    name = {value: key for key, value in KEYS.items()}.get(alg, "rsa")
    authenticator, _ = await with_keys(jwk(name, "a"), jwk("rsa2", "b"), algorithms=ALL)
    assert accepted(judge(authenticator, sign(claims(), alg=alg, key=name, kid="a")))
    assert accepted(judge(authenticator, sign(claims(), alg=alg, key=name, kid="a")))
    assert refused(judge(authenticator, sign(claims(), alg=alg, key=name, kid="b"))) is INVALID


@pytest.mark.parametrize(("name", "alg"), [("rsa", "PS256"), ("rsa", "RS512"), ("rsa", "RS384")])
async def test_48_the_keys_algorithm_binds(name: str, alg: str) -> None:
    authenticator, _ = await with_keys(jwk(name, "a", alg="RS256"), algorithms=ALL)
    assert accepted(judge(authenticator, sign(claims(), alg="RS256", key=name, kid="a")))
    assert refused(judge(authenticator, sign(claims(), alg=alg, key=name, kid="a"))) is INVALID


async def test_48_the_config_binds_where_the_key_does_not() -> None:
    authenticator, _ = await with_keys(jwk("rsa", "a"), algorithms=("RS256",))
    assert refused(judge(authenticator, sign(claims(), alg="PS256", key="rsa", kid="a"))) is INVALID


async def test_a_published_private_key_is_left_out() -> None:
    leaked = {**jwt.algorithms.RSAAlgorithm.to_jwk(private_key("rsa"), as_dict=True), "kid": "a"}
    del leaked["key_ops"]
    authenticator, _ = await with_keys(leaked, {"kid": "c"}, "text", None, jwk("rsa2", "b"))
    assert authenticator.jwks is not None
    assert len(authenticator.jwks.keys) == 1


@pytest.mark.parametrize(
    "members",
    [
        {"use": "enc"},
        {"use": "SIG"},
        {"use": ["sig"]},
        {"use": None},
        {"key_ops": ["encrypt"]},
        {"key_ops": []},
        {"key_ops": "verify"},
        {"key_ops": None},
        {"alg": "RSA-OAEP"},
        {"alg": ["RS256"]},
        {"d": "AQAB"},
        {"kty": "oct"},
        {"kty": "EC"},
        {"kty": ["RSA"]},
        {"kid": 7},
        {"kid": "k" * 257},
        {"n": 12345},
        {"n": ""},
        {"n": "!!!"},
        {"n": "A" * 100_000},
        {"e": "A" * 100},
        {"e": ""},
        {"e": "AA"},
    ],
    ids=str,
)
async def test_52_and_60_an_unusable_key_is_left_out_and_the_others_work(members: dict[str, Any]) -> None:
    authenticator, _ = await with_keys({**jwk("rsa", "a"), **members}, jwk("rsa2", "b"))
    assert authenticator.jwks is not None
    assert len(authenticator.jwks.keys) == 1
    assert accepted(judge(authenticator, sign(claims(), alg="RS256", key="rsa2", kid="b")))
    assert not isinstance(
        await authenticator.authenticate(bearer(sign(claims(), alg="RS256", key="rsa", kid="a"))), Subject
    )


@pytest.mark.parametrize(
    "members",
    [{"use": "sig"}, {"key_ops": ["verify"]}, {"key_ops": ["sign", "verify"]}, {"x5t": "x"}],
    ids=str,
)
async def test_52_a_signing_key_is_taken(members: dict[str, Any]) -> None:
    authenticator, _ = await with_keys(jwk("rsa", "a", **members))
    assert accepted(judge(authenticator, sign(claims(), alg="RS256", key="rsa", kid="a")))


async def test_54_a_symmetric_key_in_a_key_set_is_never_used() -> None:
    symmetric = {"kty": "oct", "kid": "a", "k": b64(SECRET), "alg": "HS256"}
    authenticator, _ = await with_keys(symmetric, jwk("p256", "a"))
    assert refused(judge(authenticator, sign(claims(), kid="a"))) is INVALID
    assert accepted(judge(authenticator, sign(claims(), alg="ES256", key="p256", kid="a")))


async def test_54_keys_of_one_id_are_told_apart_by_algorithm_and_both_tried() -> None:
    authenticator, _ = await with_keys(jwk("rsa", "a"), jwk("p256", "a"), jwk("rsa2", "a"))
    for alg, name in (("RS256", "rsa"), ("ES256", "p256"), ("RS256", "rsa2")):
        assert accepted(judge(authenticator, sign(claims(), alg=alg, key=name, kid="a")))


async def test_54_without_an_id_every_key_that_fits_is_tried_but_not_too_many() -> None:
    token = sign(claims(), alg="RS256", key="rsa2")
    few, _ = await with_keys(jwk("p256", "a"), jwk("rsa", "b"), jwk("rsa2", "c"))
    assert accepted(judge(few, token))
    many, _ = await with_keys(*(jwk("rsa", f"k{number}") for number in range(4)), jwk("rsa2", "c"))
    assert refused(judge(many, token)) is INVALID


async def test_55_an_rsa_key_of_1024_bits_is_left_out() -> None:
    authenticator, _ = await with_keys(jwk("rsa1024", "a"), jwk("rsa", "b"))
    outcome = await authenticator.authenticate(bearer(sign(claims(), alg="RS256", key="rsa1024", kid="a")))
    assert refused(outcome) is INVALID


@pytest.mark.parametrize(("alg", "least"), [("HS256", 32), ("HS384", 48), ("HS512", 64)])
def test_55_a_secret_is_as_long_as_the_hash(alg: str, least: int) -> None:
    for length in (0, least - 1):
        with pytest.raises(ValueError, match=f"{alg} needs a secret of at least {least} bytes"):
            settings(algorithms=frozenset({alg}), sign_key=b"x" * length)
    secret = b"x" * least
    authenticator = with_secret(algorithms=frozenset({alg}), sign_key=secret)
    assert accepted(judge(authenticator, sign(claims(), alg=alg, key=secret)))


@pytest.mark.parametrize("kid", ["../../a", "a' OR '1'='1", "a\x00", "A", " a", ""])
async def test_56_an_id_is_compared_and_nothing_else(kid: str) -> None:
    authenticator, _ = await with_keys(jwk("rsa", "a"))
    assert (
        refused(await authenticator.authenticate(bearer(sign(claims(), alg="RS256", key="rsa", kid=kid))))
        is INVALID
    )


def es256(alter: Callable[[int, int, int], tuple[int, int]]) -> str:
    """A token whose signature (r, s) was altered; n is the order of P-256."""
    key = private_key("p256")
    head, body = b64(dumps({"alg": "ES256", "kid": "a"})), BODY
    algorithm = jwt.algorithms.get_default_algorithms()["ES256"]
    raw = algorithm.sign(f"{head}.{body}".encode(), key)
    n = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    r, s = alter(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"), n)
    width = 32 if max(r, s) < 2**256 else 40
    return f"{head}.{body}.{b64(r.to_bytes(width, 'big') + s.to_bytes(width, 'big'))}"


@pytest.mark.parametrize(
    "alter",
    [
        lambda r, s, n: (0, s),
        lambda r, s, n: (r, 0),
        lambda r, s, n: (0, 0),
        lambda r, s, n: (1, 1),
        lambda r, s, n: (n, s),
        lambda r, s, n: (r, n),
        lambda r, s, n: (n - 1, n - 1),
        lambda r, s, n: (s, r),
        lambda r, s, n: (r + n, s),
        lambda r, s, n: (2**256 - 1, 2**256 - 1),
    ],
)
async def test_67_edges_of_r_and_s(alter: Callable[[int, int, int], tuple[int, int]]) -> None:
    authenticator, _ = await with_keys(jwk("p256", "a"))
    assert accepted(judge(authenticator, es256(lambda r, s, n: (r, s))))
    assert refused(judge(authenticator, es256(alter))) is INVALID


async def test_67_a_der_signature_is_refused() -> None:
    key: Any = private_key("p256")
    head = b64(dumps({"alg": "ES256", "kid": "a"}))
    from cryptography.hazmat.primitives import hashes

    der = key.sign(f"{head}.{BODY}".encode(), ec.ECDSA(hashes.SHA256()))
    assert decode_dss_signature(der)
    authenticator, _ = await with_keys(jwk("p256", "a"))
    assert refused(judge(authenticator, f"{head}.{BODY}.{b64(der)}")) is INVALID


@pytest.mark.parametrize("name", ["p384", "p521", "secp256k1"])
async def test_67_a_key_on_another_curve(name: str) -> None:
    authenticator, _ = await with_keys(jwk(name, "a"), algorithms=ALL)
    wrong = jwt.algorithms.ECAlgorithm(jwt.algorithms.ECAlgorithm.SHA256)
    head = b64(dumps({"alg": "ES256", "kid": "a"}))
    token = f"{head}.{BODY}.{b64(wrong.sign(f'{head}.{BODY}'.encode(), private_key(name)))}"
    assert refused(judge(authenticator, token)) is INVALID


@pytest.mark.parametrize(
    "members",
    [{"y": jwk("secp256k1")["y"]}, {"x": "AA"}, {"crv": "P-384"}, {"crv": None}],
    ids=["another-y", "another-x", "another-curve", "no-curve"],
)
async def test_67_a_point_that_is_not_on_its_curve_is_left_out(members: dict[str, Any]) -> None:
    authenticator, _ = await with_keys(jwk("p256", "a", **members), jwk("rsa", "b"), algorithms=ALL)
    assert authenticator.jwks is not None
    assert len(authenticator.jwks.keys) == 1


def test_68_what_one_provider_verified_is_nothing_to_another() -> None:
    """The same secret and the same token: neither another issuer nor other rules may find it remembered."""
    directory = MemoryDirectory()
    first = with_secret()
    assert accepted(judge(first, GOOD))
    for changed, reason in (
        ({"issuers": frozenset({"https://other.test"})}, Reason.TOKEN_WRONG_ISSUER),
        ({"audiences": frozenset({"other"})}, Reason.TOKEN_WRONG_AUDIENCE),
        ({"sign_key": b"y" * 32}, INVALID),
    ):
        other = JwtAuthenticator(settings(name="other", **changed), directory, lambda: NOW * 1000)
        assert refused(judge(other, GOOD)) is reason


def test_68_tokens_that_begin_alike_are_two() -> None:
    authenticator = with_secret()
    assert accepted(judge(authenticator, GOOD))
    assert refused(judge(authenticator, GOOD[:-1])) is INVALID
    assert refused(judge(authenticator, GOOD[:-2] + "AA")) is INVALID
