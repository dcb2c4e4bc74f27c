"""A clock, a directory, a provider's key endpoint and its signing keys, all in memory."""

import json
from base64 import urlsafe_b64encode
from collections.abc import Coroutine, Mapping, Sequence
from functools import cache
from typing import Any, TypeVar

import jwt.algorithms
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from authz.authenticate.jwt import JwtAuthenticator
from authz.authenticate.jwt_settings import JwtSettings
from authz.authenticate.presented import Presented
from authz.request import Gateway, GatewayKind, Request
from authz.store.records import Adjustment, Key, Model, Team, User

T = TypeVar("T")

EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)
NOW = 1_800_000_000  # seconds since the epoch
ISSUER = "https://idp.test"
JWKS_URL = "https://idp.test/keys"
SECRET = bytes(range(32))


class Clock:
    """Stands still until it is moved."""

    def __init__(self) -> None:
        self.ms = NOW * 1000

    def __call__(self) -> int:
        return self.ms

    def forward(self, seconds: float) -> None:
        self.ms += int(seconds * 1000)


class MemoryDirectory:
    """Records in dicts; counts what it is asked."""

    def __init__(self, *records: Key | User | Team) -> None:
        self.keys: dict[bytes, Key] = {}
        self.users: dict[str, User] = {}
        self.teams: dict[str, Team] = {}
        self.asked: list[bytes] = []
        self.changes = 0
        self.uses: list[tuple[str, int]] = []
        for record in records:
            self.put(record)

    def revision(self) -> int:
        return self.changes

    def put(self, record: Key | User | Team) -> None:
        self.changes += 1
        if isinstance(record, Key):
            self.keys[record.digest] = record
        elif isinstance(record, User):
            self.users[record.name] = record
        else:
            self.teams[record.name] = record

    def key(self, digest: bytes) -> Key | None:
        self.asked.append(digest)
        return self.keys.get(digest)

    def user(self, name: str) -> User | None:
        return self.users.get(name)

    def team(self, name: str) -> Team | None:
        return self.teams.get(name)

    def models(self) -> Mapping[str, Model]:
        return {}

    def adjustments(self, policy: str) -> Mapping[tuple[tuple[str, str], ...], Sequence[Adjustment]]:
        return {}

    def used(self, key_id: str, at: int) -> None:
        self.uses.append((key_id, at))


class MemoryFetcher:
    """Answers from a dict; an exception as a document is raised. Counts the calls."""

    def __init__(self, documents: dict[str, bytes | Exception] | None = None) -> None:
        self.documents = documents or {}
        self.calls: list[str] = []
        self.closed = False

    async def get(self, url: str) -> bytes:
        self.calls.append(url)
        document = self.documents[url]
        if isinstance(document, Exception):
            raise document
        return document

    async def close(self) -> None:
        self.closed = True


def request(
    headers: Mapping[str, str] | None = None,
    *,
    target: str = "/v1/models",
    repeated: frozenset[str] = frozenset(),
    ip: str | None = None,
    certificate: str | None = None,
) -> Request:
    return Request(
        gateway=EDGE,
        request_id="r",
        method="GET",
        target=target,
        host="llm.test",
        scheme="https",
        headers=headers or {},
        repeated=repeated,
        ip=ip,
        certificate=certificate,
    )


def present(headers: Mapping[str, str] | None = None, **others: Any) -> Presented:
    return Presented(request(headers, **others))


def bearer(credential: str) -> Presented:
    return present({"authorization": f"Bearer {credential}"})


def at_once(coroutine: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that must not suspend."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value  # type: ignore[no-any-return]
    coroutine.close()
    raise AssertionError("it suspended")


def b64(raw: bytes) -> str:
    return urlsafe_b64encode(raw).decode().rstrip("=")


def dumps(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


@cache
def private_key(name: str) -> Any:
    """A signing key by name: `rsa`, `rsa2`, `rsa1024`, `p256`, `p384`, `p521`, `secp256k1`, `ed25519`."""
    curves: dict[str, ec.EllipticCurve] = {
        "p256": ec.SECP256R1(),
        "p384": ec.SECP384R1(),
        "p521": ec.SECP521R1(),
        "secp256k1": ec.SECP256K1(),
    }
    if name in curves:
        return ec.generate_private_key(curves[name])
    if name == "ed25519":
        return ed25519.Ed25519PrivateKey.generate()
    return rsa.generate_private_key(65537, 1024 if name == "rsa1024" else 2048)


def jwk(name: str, kid: str | None = None, **members: Any) -> dict[str, Any]:
    """The public JWK of a signing key."""
    key = private_key(name).public_key()
    kind = jwt.algorithms.RSAAlgorithm if name.startswith("rsa") else jwt.algorithms.ECAlgorithm
    public = (jwt.algorithms.OKPAlgorithm if name == "ed25519" else kind).to_jwk(key, as_dict=True)
    public.pop("key_ops", None)
    return {**public, **({"kid": kid} if kid is not None else {}), **members}


def claims(**changed: Any) -> dict[str, Any]:
    """Good claims; a change to `...` leaves one out."""
    good = {"iss": ISSUER, "aud": "llm", "sub": "alice", "iat": NOW, "exp": NOW + 300}
    return {name: value for name, value in (good | changed).items() if value is not ...}


def sign(payload: dict[str, Any] | bytes, *, alg: str = "HS256", key: Any = SECRET, **header: Any) -> str:
    """A token with this payload, signed as `alg` says; `header` adds to its header or changes it."""
    head = {"alg": alg, **header}
    body = payload if isinstance(payload, bytes) else dumps(payload)
    return sign_parts(b64(dumps(head)), b64(body), alg=alg, key=key)


def sign_parts(head: str, body: str, *, alg: str = "HS256", key: Any = SECRET) -> str:
    """Two parts as they are, and a true signature over them."""
    signed = f"{head}.{body}".encode()
    primitive = jwt.algorithms.get_default_algorithms()[alg]
    return f"{head}.{body}.{b64(primitive.sign(signed, private_key(key) if isinstance(key, str) else key))}"


def settings(**changed: Any) -> JwtSettings:
    """One issuer and audience, and HS256 with SECRET unless other keys are named."""
    fields: dict[str, Any] = {
        "name": "sso",
        "algorithms": frozenset({"HS256"}),
        "issuers": frozenset({ISSUER}),
        "audiences": frozenset({"llm"}),
        "leeway_ms": 0,
    }
    if not {"jwks_url", "discovery"} & changed.keys():
        fields["sign_key"] = SECRET
    return JwtSettings(**(fields | changed))


def with_secret(*records: User | Team, clock: Clock | None = None, **changed: Any) -> JwtAuthenticator:
    return JwtAuthenticator(settings(**changed), MemoryDirectory(*records), clock or Clock())


def key_set(*keys: Any) -> bytes:
    return dumps({"keys": list(keys)})


async def with_keys(
    *keys: Any, algorithms: Sequence[str] = ("RS256", "ES256"), clock: Clock | None = None, **changed: Any
) -> tuple[JwtAuthenticator, MemoryFetcher]:
    """An authenticator that has fetched these keys already."""
    fetcher = MemoryFetcher({JWKS_URL: key_set(*keys)})
    authenticator = JwtAuthenticator(
        settings(algorithms=frozenset(algorithms), jwks_url=JWKS_URL, **changed),
        MemoryDirectory(),
        clock or Clock(),
        fetcher=fetcher,
    )
    assert authenticator.jwks is not None
    await authenticator.jwks.search("any")
    assert authenticator.jwks.ready
    return authenticator, fetcher
