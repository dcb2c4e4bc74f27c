"""nginx without njs before the real authz: what a stub may forget to say, the service says."""

import ssl
from collections.abc import Callable, Iterator

import pytest

from authz.authenticate.key_format import MintedKey, mint
from authz.quota import parse_quota
from authz.store.records import Key
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.model import DemoModel
from tests.support.nginx import NginxWithoutNjs
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService

TOKEN = "token-of-nginx-in-the-tests"
CONFIG = """
gateways: {{edge: {{kind: nginx, token: {token}}}}}
authenticators: {{keys: {{type: api_key}}}}
models: {{llama3: {{}}}}
backends: {{model: {{url: "http://127.0.0.1:{model}", models: any, bearer: upstream-secret}}}}
routes:
  - {{name: opaque, match: {{methods: [GET], paths: [/echo/*]}}, authenticate: {{any_of: [keys]}}, authorize: [{{models: any}}]}}
  - {{name: inference, match: {{api: [openai]}}, authenticate: {{any_of: [keys]}}, authorize: [{{models: allowed}}]}}
"""
Send = Callable[..., RawResponse]


@pytest.fixture(scope="module")
def key() -> MintedKey:
    return mint()


@pytest.fixture(scope="module")
def send(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
    running_model: DemoModel,
    key: MintedKey,
) -> Iterator[Send]:
    scratch = tmp_path_factory.mktemp("auth-request")
    service = AuthzService(scratch / "authz", CONFIG.format(token=TOKEN, model=running_model.port))
    service.registry.add_key(
        Key(
            id=key.id, digest=key.digest, display=key.display, user="alice", created_at=0,
            quotas=(parse_quota("requests=4/day"),),
        )
    )  # fmt: skip
    with service:
        around = Around(
            directory=scratch, certificates=certificates, authz_http=service.http, authz_grpc=service.grpc,
            model=running_model.port, token=TOKEN,
        )  # fmt: skip
        tls: ssl.SSLContext = certificates.trust()
        with NginxWithoutNjs(around):
            yield lambda method, target, headers=(), body=b"": exchange(
                around.https, request_bytes(method, target, list(headers), body), tls=tls, method=method
            )


def test_it_answers_as_authz_says(send: Send, model: DemoModel, key: MintedKey) -> None:
    bearer = ("Authorization", f"Bearer {key.key}")
    allowed = send(
        "GET", "/echo/a?b=1", [bearer, ("Proxy-Authorization", "Basic c2VjcmV0"), ("X-Authz-User", "root")]
    )
    assert (allowed.status, allowed.header("x-ratelimit-remaining-requests")) == (200, "3")
    received = model.last()
    assert (received.target, received.header("x-authz-user")) == ("/echo/a?b=1", "alice")
    assert received.header("authorization") == "Bearer upstream-secret"
    assert not received.values("proxy-authorization")
    assert key.key not in str(received)

    by_other_header = send("GET", "/echo/a", [("X-Api-Key", key.key)])
    assert by_other_header.status == 200
    assert key.key not in str(model.last())

    listed = send("GET", "/v1/models", [bearer])
    assert [each["id"] for each in listed.json()["data"]] == ["llama3"]

    model.reset()
    inference = send(
        "POST", "/v1/chat/completions", [bearer, ("Content-Type", "application/json")], b'{"model": "llama3"}'
    )
    assert (inference.status, inference.json()["error"]["code"]) == (400, "body_required")
    nobody = send("GET", "/echo/a")
    assert (nobody.status, nobody.json()["error"]["code"]) == (401, "missing_credentials")
    assert send("GET", "/echo/a", [bearer]).status == 200
    model.reset()
    spent = send("GET", "/echo/a", [bearer])
    assert (spent.status, spent.json()["error"]["code"]) == (429, "insufficient_quota")
    assert spent.header("x-should-retry") == "false"
    assert not model.received()
