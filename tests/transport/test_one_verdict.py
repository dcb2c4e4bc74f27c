"""Through every gateway the same request is the same Request and the same denial the same answer."""

from typing import Any

import msgspec
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from authz.decision import Deny
from authz.denial import deny
from authz.reason import Reason
from authz.request import GatewayKind, Request
from tests.transport.support import TOKENS, FakeService, ask, check, grpc_app, http_app, limited, original

CASES: list[dict[str, Any]] = [
    {},
    {"method": "GET", "target": "/v1/models"},
    {
        "body": b'{"model":"x"}',
        "headers": [("content-type", "application/json"), ("authorization", "Bearer k")],
    },
    {"headers": [("x-api-key", "a"), ("x-api-key", "b")]},
    {"headers": [("authorization", "Bearer \xff\xe9")]},
    {"headers": [("cookie", 'a="b"; c=d'), ("Accept-Language", "de"), ("x-authz-user", "admin")]},
    {"headers": [("connection", "x-authz-user, close"), ("te", "trailers"), ("upgrade", "websocket")]},
    {"headers": [("x-forwarded-prefix", "/x"), ("x-real-ip", "1.1.1.1"), ("x-request-id", "mine")]},
    {"target": "/a/%2e%2e//b?x=%zz", "host": "EVIL.test.", "scheme": "http", "ip": "::ffff:10.0.0.1"},
    {"method": "DELETE", "ip": "2001:db8::1"},
    {
        "headers": [
            ("x-forwarded-for", "1.1.1.1"),
            ("x-envoy-attempt-count", "1"),
            ("x-envoy-attempt-count", "2"),
        ]
    },
]


async def through_all(
    service: FakeService, case: dict[str, Any]
) -> dict[str, tuple[int, dict[str, str], bytes]]:
    """Status, headers and body as each of the five adapters answers."""
    answers: dict[str, tuple[int, dict[str, str], bytes]] = {}
    for kind in GatewayKind:
        method, path, headers = original(kind, **case)
        answer = await ask(http_app(service), path, headers, case.get("body", b""), method=method)
        shown = {name: value for name, value in answer.headers.items() if name != "content-length"}
        answers[kind.value] = (answer.status, shown, answer.body)
    lower = [(name.lower(), value) for name, value in case.get("headers", [])]
    raw = check(**(case | {"headers": lower})).SerializeToString()
    grpc = CheckResponse.FromString(
        await grpc_app(service).answer(raw, TOKENS[GatewayKind.ENVOY], "127.0.0.1")
    )
    denied = grpc.denied_response
    shown = {option.header.key: option.header.value for option in denied.headers}
    answers["grpc"] = (denied.status.code, shown, denied.body.encode())
    return answers


@pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))
async def test_one_request(case: dict[str, Any]) -> None:
    service = FakeService()
    await through_all(service, case)
    assert len(service.asked) == 5

    def described(request: Request) -> dict[str, Any]:
        values = msgspec.structs.asdict(request)
        return {name: value for name, value in values.items() if name not in ("gateway", "request_id")}

    first = described(service.asked[0])
    for request in service.asked[1:]:
        assert described(request) == first, request.gateway.name


DENIALS: list[Deny] = [limited()] + [
    deny("req_1", reason) for reason in Reason if reason is not Reason.ALLOWED
]


@pytest.mark.parametrize("denial", DENIALS, ids=lambda denial: denial.reason.value)
async def test_one_denial(denial: Deny) -> None:
    answers = await through_all(FakeService(denial), {})
    status, headers, body = answers["nginx"]
    headers = {
        name: value for name, value in headers.items() if name not in ("x-authz-status", "x-authz-body")
    }
    answers["nginx"] = (status, headers, body)
    expected = (denial.status, dict(denial.headers), denial.body)
    for gateway, answer in answers.items():
        assert answer == expected, gateway
