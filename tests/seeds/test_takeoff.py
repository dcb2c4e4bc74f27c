"""The TitanML Takeoff documentation's "Deploying Reverse Proxy with Caddy", with authz in the place of two Caddy plugins.

Its own token and its own five curls; the config says what the `jwtauth` and `rate_limit` blocks of its
Caddyfile say. Only the address differs: our configuration of Caddy serves https.
"""

import base64
import hmac
import json
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from tests.seeds.takeoff import Takeoff
from tests.support.caddy import Caddy
from tests.support.certificates import Certificates, make_certificates
from tests.support.gateway import Around, RealGateway
from tests.support.rendered import RenderedCaddy
from tests.support.service import AuthzService

SIGN_KEY = "TkZMNSowQmMjOVU2RUB0bm1DJkU3U1VONkd3SGZMbVk="
TOKEN = (
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJleHAiOjk5NTU4OTI2NzAsImp0aSI6IjgyMjk0YTYzLTk2NjAtNGM2Mi1hOGE4LTVhNjI2"
    "NWVmY2Q0ZSIsInN1YiI6IjM0MDYzMjc5NjM1MTY5MzIiLCJpc3MiOiJodHRwczovL2FwaS5leGFtcGxlLmNvbSIsImF1ZCI6WyJodHRwczovL2"
    "FwaS5leGFtcGxlLmlvIl0sInVzZXJuYW1lIjoiZ2dpY2NpIn0.O8kvRO9y6xQO3AymqdFE7DDqLRBQhkntf78O9kF71F8"
)
GATEWAY_TOKEN = "gateway-token-of-the-tests"

# {method} 2r/m on every path; sign_key beats the address of the key set, as in caddy-jwt.
CONFIG = """
gateways:
  caddy: {{kind: caddy, token: {gateway}}}
authenticators:
  jwtauth:
    type: jwt
    sign_key: {sign_key}
    algorithms: [HS256]
    jwks_url: https://api.example.com/jwk/keys
    token_from: [{{query: access_token}}, {{query: token}}, {{header: X-Api-Token}}, {{cookie: user_session}}, {{header: authorization}}]
    issuers: [https://api.example.com]
    audiences: [https://api.example.io, https://learn.example.com]
    subject: {{user: [aud, uid, user_id, username, login]}}
    claim_headers: {{IsAdmin: x-is-admin, settings.payout.paypal.enabled: x-is-paypal-enabled}}
    map_users: true
routes:
  - name: all
    match: {{paths: ["/*"]}}
    authenticate: {{any_of: [jwtauth]}}
    authorize: [{{models: any}}]
    limits: [per-method]
limits:
  per-method: {{unit: requests, quota: {quota}, window: 1m, partition_by: [method]}}
"""


@dataclass
class Stack:
    """Caddy, authz and the inference server."""

    gateway: RealGateway
    authz: AuthzService
    takeoff: Takeoff
    certificates: Certificates

    def curl(self, *arguments: str, path: str) -> tuple[int, Any]:
        """The real curl: the status, and the body decoded."""
        done = subprocess.run(
            [
                _curl(),
                *("--silent", "--show-error", "--cacert", str(self.certificates.authority)),
                *("--write-out", "\n%{http_code}", "--max-time", "10", "--noproxy", "*"),
                *arguments,
                f"{self.gateway.https}{path}",
            ],
            capture_output=True,
            text=True,
            timeout=20,
        )
        assert done.returncode == 0, done.stderr
        body, _, status = done.stdout.rpartition("\n")
        return int(status), json.loads(body)


def _curl() -> str:
    found = shutil.which("curl")
    assert found is not None, "these tests run the curl commands of the document: install curl"
    return found


@contextmanager
def stack(scratch: Path, gateway: type[RealGateway], *, quota: int) -> Iterator[Stack]:
    certificates = make_certificates(scratch / "certificates")
    config = CONFIG.format(gateway=GATEWAY_TOKEN, sign_key=SIGN_KEY, quota=quota)
    with Takeoff() as takeoff, AuthzService(scratch / "authz", config) as authz:
        around = Around(
            directory=scratch,
            certificates=certificates,
            authz_http=authz.http,
            authz_grpc=authz.grpc,
            model=takeoff.port,
            token=GATEWAY_TOKEN,
        )
        with gateway(around) as running:
            yield Stack(running, authz, takeoff, certificates)


def test_the_five_curls_of_the_document(tmp_path: Path) -> None:
    post = ("-X", "POST", "-H", "Content-Type: application/json", "-d", '{"text": "Hello, world!"}')
    bearer = ("-H", f"Authorization: Bearer {TOKEN}")
    with stack(tmp_path, Caddy, quota=2) as lab:
        answers = [
            lab.curl(*post, path="/generate"),
            lab.curl(*post, *bearer, path="/generate"),
            lab.curl(*post, *bearer, path="/generate"),
            lab.curl(*post, *bearer, path="/generate"),
            lab.curl("-X", "GET", *bearer, path="/status"),
        ]
        assert [status for status, _ in answers] == [401, 200, 200, 429, 200]
        assert [body["error"]["code"] for status, body in answers if status != 200] == [
            "missing_credentials",
            "rate_limit_exceeded",
        ]
        assert "'per-method' of method POST is used up" in answers[3][1]["error"]["message"]
        assert [(each.method, each.target) for each in lab.takeoff.received] == [
            ("POST", "/generate"),
            ("POST", "/generate"),
            ("GET", "/status"),
        ]
        for received in lab.takeoff.received:
            assert received.headers["x-authz-user"] == "ggicci"
            assert TOKEN not in repr(received)
        assert lab.takeoff.received[0].body == b'{"text": "Hello, world!"}'
        assert TOKEN not in lab.authz.log
        assert TOKEN not in lab.gateway.log


@pytest.fixture(scope="module")
def roomy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """With a limit that nothing here reaches, and Caddy as `authz render` writes it for the claim headers."""
    with stack(tmp_path_factory.mktemp("takeoff"), CaddyWithClaims, quota=1000) as lab:
        yield lab


class CaddyWithClaims(RenderedCaddy):
    """Rendered for a config with `claim_headers`."""

    def __init__(self, around: Around) -> None:
        names = ("x-is-admin", "x-is-paypal-enabled")
        super().__init__(around, lambda settings: replace(settings, claim_headers=names))


@pytest.fixture
def lab(roomy: Stack) -> Stack:
    roomy.takeoff.received.clear()
    return roomy


SOURCES = {
    "the query's access_token": ((), "/generate?access_token=TOKEN&n=1", "/generate?n=1"),
    "the query's token": ((), "/generate?n=1&token=TOKEN", "/generate?n=1"),
    "the header X-Api-Token": (("-H", "X-Api-Token: TOKEN"), "/generate", "/generate"),
    "the cookie user_session": (("--cookie", "theme=dark; user_session=TOKEN"), "/generate", "/generate"),
    "Authorization": (("-H", "Authorization: Bearer TOKEN"), "/generate", "/generate"),
}


def present(lab: Stack, source: str, token: str, *more: str) -> int:
    """The status of a GET with the token in that place."""
    arguments, path, _ = SOURCES[source]
    filled = [argument.replace("TOKEN", token) for argument in arguments]
    return lab.curl(*filled, *more, path=path.replace("TOKEN", token))[0]


@pytest.mark.parametrize("source", SOURCES)
def test_the_token_is_found(lab: Stack, source: str) -> None:
    assert present(lab, source, TOKEN) == 200
    (received,) = lab.takeoff.received
    assert received.target == SOURCES[source][2]
    assert received.headers["x-authz-user"] == "ggicci"
    assert received.headers.get("cookie") == ("theme=dark" if "cookie" in source else None)
    assert TOKEN not in repr(received)
    assert TOKEN not in lab.gateway.log + lab.authz.log


@pytest.mark.parametrize("source", [source for source in SOURCES if source != "Authorization"])
def test_a_source_that_does_not_verify_is_passed_over(lab: Stack, source: str) -> None:
    assert present(lab, source, "not-a-token", "-H", f"Authorization: Bearer {TOKEN}") == 200
    (received,) = lab.takeoff.received
    assert received.headers["x-authz-user"] == "ggicci"
    assert "not-a-token" not in repr(received)


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def signed(claims: dict[str, Any], *, algorithm: str = "HS256", key: bytes | None = None) -> str:
    """A token signed with the document's key, or another."""
    head, body = (
        _b64(json.dumps({"alg": algorithm, "typ": "JWT"}).encode()),
        _b64(json.dumps(claims).encode()),
    )
    mac = hmac.new(key or base64.b64decode(SIGN_KEY), f"{head}.{body}".encode(), sha256).digest()
    return f"{head}.{body}.{_b64(mac)}"


def claims(**changes: Any) -> dict[str, Any]:
    """The document's claims, changed."""
    padded = TOKEN.split(".")[1]
    own: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded + "=" * (-len(padded) % 4)))
    return {name: value for name, value in {**own, **changes}.items() if value is not None}


def one_bit_changed(part: int) -> str:
    """The document's token with the lowest bit of one part's middle byte turned."""
    parts = TOKEN.split(".")
    data = bytearray(base64.urlsafe_b64decode(parts[part] + "=" * (-len(parts[part]) % 4)))
    data[len(data) // 2] ^= 1
    parts[part] = _b64(bytes(data))
    return ".".join(parts)


NONE = _b64(b'{"alg":"none","typ":"JWT"}')
REFUSED = {
    "one bit of the header changed": one_bit_changed(0),
    "one bit of the claims changed": one_bit_changed(1),
    "one bit of the signature changed": one_bit_changed(2),
    "36 alg none": f"{NONE}.{TOKEN.split('.')[1]}.",
    "36 alg none, signed": f"{NONE}.{TOKEN.split('.', 1)[1]}",
    "another algorithm": signed(claims(), algorithm="HS384"),
    "another key": signed(claims(), key=b"another key of thirty-two bytes!"),
    "the key without its base64": signed(claims(), key=SIGN_KEY.encode()),
    "another issuer": signed(claims(iss="https://api.example.org")),
    "another audience": signed(claims(aud=["https://api.example.org"])),
    "expired": signed(claims(exp=1_700_000_000)),
    "not yet": signed(claims(nbf=9_955_892_000)),
    "nobody": signed(claims(username=None)),
}


@pytest.mark.parametrize("case", REFUSED)
def test_any_other_token_is_refused(lab: Stack, case: str) -> None:
    status, body = lab.curl("-H", f"Authorization: Bearer {REFUSED[case]}", path="/status")
    assert (status, body["error"]["type"]) == (401, "authentication_error")
    assert not lab.takeoff.received


def test_any_of_the_audiences_will_do(lab: Stack) -> None:
    for audience in (["https://learn.example.com"], ["https://other.example", "https://api.example.io"]):
        token = signed(claims(aud=audience, uid=42))
        assert lab.curl("-H", f"Authorization: Bearer {token}", path="/status")[0] == 200
    # The first of `aud uid user_id username login` that is text or a number: a list is passed over.
    assert [each.headers["x-authz-user"] for each in lab.takeoff.received] == ["42", "42"]


def test_claims_go_upstream_as_headers(lab: Stack) -> None:
    token = signed(claims(IsAdmin=True, settings={"payout": {"paypal": {"enabled": False}}}))
    spoofed = ("-H", "X-Is-Admin: true", "-H", "X-Is-Paypal-Enabled: true")
    assert lab.curl(*spoofed, "-H", f"Authorization: Bearer {token}", path="/status")[0] == 200
    assert lab.curl(*spoofed, "-H", f"Authorization: Bearer {TOKEN}", path="/status")[0] == 200
    told, untold = (each.headers for each in lab.takeoff.received)
    assert (told["x-is-admin"], told["x-is-paypal-enabled"]) == ("true", "false")
    assert "x-is-admin" not in untold
    assert "x-is-paypal-enabled" not in untold
