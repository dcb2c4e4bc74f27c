"""One verdict: every row of the table through four real gateways, raw gRPC and raw HTTP.

The same status, reason, headers and error body everywhere, and at the model
exactly what was judged: nothing where it was refused, no client credential
where it was allowed. Every row has a fresh key for every way in.
"""

import base64
import json
import re
import ssl
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
import pytest

from authz.authenticate.key_format import MintedKey, mint
from authz.quota import parse_quota
from authz.store.records import Key
from tests.gateways.verdict_rows import CHAT, ROWS, Row
from tests.support.caddy import Caddy
from tests.support.certificates import Certificates
from tests.support.envoy import Envoy
from tests.support.gateway import Around, RealGateway
from tests.support.model import DemoModel, Received
from tests.support.nginx import Nginx
from tests.support.raw_grpc import RawGrpc
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService
from tests.support.traefik import Traefik

GATEWAYS: tuple[type[RealGateway], ...] = (Envoy, Traefik, Nginx, Caddy)
WAYS = ("envoy", "traefik", "nginx", "caddy", "raw grpc", "raw http")
SIGN_KEY = b"thirty-two bytes of the tests...".ljust(32, b".")
UPSTREAM = "upstream-secret-of-the-tests"

CONFIG = """
gateways:
  envoy: {{kind: envoy, token: {envoy}, request_id: gateway}}
  traefik: {{kind: traefik, token: {traefik}}}
  nginx: {{kind: nginx, token: {nginx}}}
  caddy: {{kind: caddy, token: {caddy}}}
  raw: {{kind: envoy, token: {raw}}}
authenticators:
  keys: {{type: api_key, headers: [authorization, x-api-key]}}
  sso:
    type: jwt
    issuers: [https://idp.test]
    audiences: [llm]
    algorithms: [HS256]
    sign_key: {sign_key}
    token_from: [{{query: access_token}}, {{header: x-api-token}}, {{cookie: user_session}}, {{header: authorization}}]
    subject: {{models: models}}
models:
  llama3: {{context: 8192, max_output: 2048}}
  big: {{access: {{roles: [senior]}}}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any, bearer: {upstream}}}
routes:
  - name: models
    match: {{methods: [GET], paths: [/v1/models]}}
    authenticate: {{any_of: [keys, sso]}}
    authorize: [{{models: allowed}}]
  - name: inference
    match: {{api: [openai, anthropic]}}
    authenticate: {{any_of: [keys, sso]}}
    authorize: [{{models: allowed}}]
  - name: limited
    match: {{methods: [GET], paths: [/echo/limited]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [few]
  - name: staff
    match: {{methods: [GET], paths: [/echo/staff]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{roles: [staff]}}]
  - name: opaque
    match: {{methods: [GET, POST], paths: [/echo/status, /echo/generate]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
limits:
  few: {{unit: requests, quota: 3, window: 1m, partition_by: [key]}}
"""


@dataclass(frozen=True)
class Lab:
    """Everything that stands for the whole table."""

    service: AuthzService
    model: DemoModel
    ways: dict[str, Callable[[bytes, Row, dict[str, str]], RawResponse]]
    keys: dict[tuple[str, str, str], MintedKey]  # (row, way, name)
    tokens: dict[str, str]


def _tokens() -> dict[str, str]:
    """Bearer tokens that the rows name."""

    def signed(key: bytes = SIGN_KEY, **changes: Any) -> str:
        claims: dict[str, Any] = {
            "iss": "https://idp.test", "aud": ["llm"], "sub": "carol", "exp": int(time.time()) + 3600, "models": ["llama3"],
        } | changes  # fmt: skip
        return jwt.encode({k: v for k, v in claims.items() if v is not None}, key, algorithm="HS256")

    good = signed()
    _, body, _ = good.split(".")
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').rstrip(b"=").decode()
    return {
        "jwt": good,
        "jwt_none": f"{none}.{body}.",
        "jwt_forged": signed(b"another key of thirty-two bytes!"),
        "jwt_expired": signed(exp=int(time.time()) - 3600),
        "jwt_issuer": signed(iss="https://other.test"),
        "jwt_audience": signed(aud="other"),
        "jwt_no_models": signed(models=None),
        "unknown": mint().key,
    }


def _mint(service: AuthzService) -> dict[tuple[str, str, str], MintedKey]:
    registry = service.registry
    made = {}
    for row in ROWS:
        for way in WAYS:
            for name, spec in row.keys.items():
                minted = made[row.id, way, name] = mint()
                registry.add_key(
                    Key(
                        id=minted.id,
                        digest=minted.digest,
                        display=minted.display,
                        user=spec.user,
                        quotas=tuple(parse_quota(quota) for quota in spec.quotas),
                        created_at=0,
                        **spec.fields,
                    )
                )
    return made


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[Lab]:
    scratch = tmp_path_factory.mktemp("verdicts")
    tokens = {name: f"token-of-{name}-in-the-tests" for name in ("envoy", "traefik", "nginx", "caddy", "raw")}
    with DemoModel(scratch / "model") as model:
        config = CONFIG.format(
            **tokens, sign_key=base64.b64encode(SIGN_KEY).decode(), model=model.port, upstream=UPSTREAM
        )
        service = AuthzService(scratch / "authz", config)
        keys = _mint(service)
        with service:
            running: list[RealGateway] = []
            try:
                ways: dict[str, Callable[[bytes, Row, dict[str, str]], RawResponse]] = {}
                tls = certificates.trust()
                for kind in GATEWAYS:
                    gateway = kind(_around(scratch, certificates, service, model, tokens[kind.name]))
                    gateway.start()
                    running.append(gateway)
                    ways[kind.name] = _through(gateway.around.https, tls)
                raw = RawGrpc(service.grpc, tokens["raw"])
                ways["raw grpc"] = lambda data, row, filled: raw.check(data)
                ways["raw http"] = _directly(service.http, tokens["raw"])
                yield Lab(service, model, ways, keys, _tokens())
                raw.close()
            finally:
                for gateway in running:
                    gateway.stop()


def _around(
    scratch: Path, certificates: Certificates, service: AuthzService, model: DemoModel, token: str
) -> Around:
    return Around(
        directory=scratch, certificates=certificates, authz_http=service.http, authz_grpc=service.grpc,
        model=model.port, token=token,
    )  # fmt: skip


def _through(port: int, tls: ssl.SSLContext) -> Callable[[bytes, Row, dict[str, str]], RawResponse]:
    return lambda data, row, filled: exchange(port, data, tls=tls, method=row.method)


def _directly(port: int, token: str) -> Callable[[bytes, Row, dict[str, str]], RawResponse]:
    """What Envoy's HTTP ext_authz would send: the request below /auth/envoy, with the gateway's token."""

    def send(data: bytes, row: Row, filled: dict[str, str]) -> RawResponse:
        head, _, rest = data.partition(b"\r\n")
        method, target, version = head.split(b" ", 2) if head.count(b" ") == 2 else _split(head)
        if row.answered:
            line = b" ".join((method, target, version))
        else:
            line = b" ".join((method, b"/auth/envoy" + target, version))
        ours = f"\r\nx-authz-gateway-token: {token}\r\nx-forwarded-proto: https\r\nx-forwarded-for: 127.0.0.1\r\n"
        return exchange(port, line + ours.encode() + _without_ours(rest), method=row.method)

    return send


def _split(head: bytes) -> tuple[bytes, bytes, bytes]:
    method, _, rest = head.partition(b" ")
    target, _, version = rest.rpartition(b" ")
    return method, target, version


def _without_ours(rest: bytes) -> bytes:
    """A gateway removes these before it asks."""
    lines, separator, body = rest.partition(b"\r\n\r\n")
    kept = [
        line
        for line in lines.split(b"\r\n")
        if not re.match(rb"(?i)x[-_.]?authz|x-forwarded-(for|proto)", line)
    ]
    return b"\r\n".join(kept) + separator + body


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)
def test_verdict(lab: Lab, row: Row) -> None:
    seen: dict[str, Any] = {}
    for way in WAYS:
        filled = {name: lab.keys[row.id, way, name].key for name in row.keys} | lab.tokens
        filled["digest"] = lab.keys[row.id, way, "key"].digest.hex()
        data = _bytes(row, filled)
        for _ in range(row.before):
            assert lab.ways[way](data, row, filled).status == 200, way
        lab.model.reset()
        response = lab.ways[way](data, row, filled)
        received = lab.model.received()
        if way in row.instead:
            # What the gateway answers by itself, or mends before it asks: exactly as the row lists it.
            assert response.status == row.instead[way], f"{way}: {response}"
            if response.status == 200:
                sent_names = {name.lower() for name, _ in row.headers}
                assert (len(received), received[0].target) == (1, row.target), way
                assert not {"x-http-method-override"} & sent_names & received[0].names, way
            else:
                assert not received, f"{way} answered {response.status}, yet the model received the request"
            continue
        assert response.status == row.status, f"{way}: {response}"
        if way.startswith("raw"):
            pass
        elif row.status == 200 and not row.answered:
            _check_received(received, row, lab.keys[row.id, way, "key"], filled, way)
        else:
            assert not received, f"{way}: refused, yet the model received it"
        if row.status != 200:
            assert response.json()["error"]["code"] == row.code, way
            assert "application/json" in (response.header("content-type") or ""), way
        for name, value in row.facts.items():
            assert response.header(name) == value, (way, name)
        seen[way] = _comparable(response, row)
    _all_alike(seen)


def _bytes(row: Row, filled: dict[str, str]) -> bytes:
    def fill(text: str) -> str:
        return re.sub(r"\{(\w+)\}", lambda match: filled[match[1]], text)

    pairs: list[tuple[str | bytes, str | bytes]] = [(name, fill(value)) for name, value in row.headers]
    if not row.body and row.method == "POST":
        pairs.append(("Content-Length", "0"))
    return request_bytes(row.method, fill(row.target), pairs, row.body, host=row.host, length=row.length)


def _check_received(
    received: list[Received], row: Row, key: MintedKey, filled: dict[str, str], way: str
) -> None:
    """At the model: what was judged, who it is, and nothing of the client's credentials."""
    assert len(received) == 1, way
    (at,) = received
    target = row.target if row.upstream_target is None else row.upstream_target
    assert (at.method, at.target) == (row.method, target), way
    assert at.header("host") == row.host, way
    assert at.header("x-authz-user") == row.user, way
    assert at.header("x-authz-key") == (None if row.user.startswith("sso:") else key.id), way
    assert not at.values("x-authz-team"), way
    assert at.header("x-authz-request-id"), way
    if row.target.startswith("/v1/"):
        assert at.header("x-authz-model") == json.loads(row.upstream_body or row.body)["model"], way
    assert at.header("authorization") == f"Bearer {UPSTREAM}", way
    theirs = {name for name in at.names if re.match(r"x[-_.]?authz", name)}
    assert theirs <= {f"x-authz-{name}" for name in ("user", "key", "model", "reservation", "request-id")}, (
        way
    )
    text = at.target + repr(at.headers)
    for name, secret in filled.items():
        assert secret not in text, f"{way}: {name} reached the model"
    expected = row.body if row.upstream_body is None else row.upstream_body
    assert at.body_length == len(expected), way
    assert at.body.encode("latin-1") == expected[: len(at.body)], way


_LIMIT_NAMES = (
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "retry-after-ms",
    "x-should-retry",
    "www-authenticate",
)


def _comparable(response: RawResponse, row: Row) -> dict[str, Any]:
    """A response without what is unlike by nature: ids, key names, and the seconds that pass."""
    compared: dict[str, Any] = {"status": response.status}
    for name, value in response.headers:
        if name in _LIMIT_NAMES or name.startswith("x-ratelimit-"):
            compared[name] = _plain(value)
    if response.status != 200 or (row.answered and response.body):
        compared["body"] = _plain(response.body.decode())
    return compared


def _plain(text: str) -> str:
    text = re.sub(r"key_[0-9A-Za-z]{16}", "<key>", text)
    text = re.sub(r"request [-\w]{8,}\)", "request <id>)", text)
    return re.sub(r"pk=:[^:]*:", "pk=<key>", text)


def _all_alike(seen: dict[str, Any]) -> None:
    """The same everywhere; a number of seconds may differ by one."""
    ways = list(seen)
    for way in ways[1:]:
        one, other = seen[ways[0]], seen[way]
        if "raw grpc" in (ways[0], way) and one["status"] == 200:
            one, other = (
                {k: v for k, v in each.items() if k != "body"} for each in (one, other)
            )  # Check has no body to answer
        assert one.keys() == other.keys(), f"{ways[0]} and {way}: {one} {other}"
        for name in one:
            left, right = str(one[name]), str(other[name])
            if left == right:
                continue
            near = 1000 if name.endswith("-ms") else 1
            numbers = list(zip(re.findall(r"\d+", left), re.findall(r"\d+", right), strict=True))
            assert re.sub(r"\d+", "#", left) == re.sub(r"\d+", "#", right), (
                f"{name}: {ways[0]} {left} / {way} {right}"
            )
            assert all(abs(int(a) - int(b)) <= near for a, b in numbers), (
                f"{name}: {ways[0]} {left} / {way} {right}"
            )


def test_the_table_is_large_enough() -> None:
    assert len(ROWS) >= 60
    assert len({row.id for row in ROWS}) == len(ROWS)
    assert CHAT.startswith(b"{")
