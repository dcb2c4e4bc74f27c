"""`ShouldRateLimit` on a real socket: messages, proof, errors."""

from collections.abc import AsyncIterator, Mapping, Sequence
from hashlib import sha256
from ipaddress import ip_network
from typing import Any

import grpc
import pytest
from envoy.service.ratelimit.v3.rls_pb2 import RateLimitRequest, RateLimitResponse
from google.protobuf import json_format
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc

from authz.ratelimit.headers import HeaderNames
from authz.request import GatewayKind
from authz.store.protocols import Exhausted, Hold, Reserved, StoreUnavailable
from authz.store.store import ServiceStore
from authz.transport import ratelimit
from authz.transport.access_log import AccessLog
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.lane import Refused
from authz.transport.ratelimit import MOST_DESCRIPTORS, MOST_KNOWN, RateLimits
from authz.transport.serve_grpcio import GrpcioServer
from authz.transport.serve_lane import LaneServer
from tests.ratelimit.kit import limiter, rules_of
from tests.transport.support import GRPC_SERVERS, TOKENS, FakeService, grpc_app, registry, start_grpc

METHOD = f"/{ratelimit.SERVICE}/ShouldRateLimit"
PROOF = (("x-authz-gateway-token", TOKENS[GatewayKind.ENVOY]),)
FILE = """
domain: d
descriptors:
  - {key: two, rate_limit: {unit: minute, requests_per_unit: 2, name: pair}}
  - {key: free, rate_limit: {unlimited: true}}
"""


@pytest.fixture
def limits(store: ServiceStore) -> RateLimits:
    return RateLimits(limiter(store.counters, FILE, headers=HeaderNames()), registry())


@pytest.fixture(params=GRPC_SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(limits: RateLimits, kind: str) -> AsyncIterator[LaneServer | GrpcioServer]:
    service = FakeService()
    started = await start_grpc(kind, grpc_app(service), AccessLog(service, registry()), limits=limits)
    yield started
    await started.stop()


@pytest.fixture
async def channel(server: LaneServer | GrpcioServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(str(server.address)) as opened:
        yield opened


def request(*descriptors: Mapping[str, Any], domain: str = "d", hits: int = 0) -> bytes:
    """Descriptors as JSON has them."""
    described = {"domain": domain, "descriptors": list(descriptors), "hitsAddend": hits}
    return json_format.ParseDict(described, RateLimitRequest()).SerializeToString()


def entries(*pairs: tuple[str, str], **more: Any) -> dict[str, Any]:
    return {"entries": [{"key": key, "value": value} for key, value in pairs], **more}


TWO, FREE, NONE = entries(("two", "x")), entries(("free", "x")), entries(("none", "x"))


async def ask(channel: aio.Channel, message: bytes, metadata: Any = PROOF) -> dict[str, Any]:
    call = channel.unary_unary(METHOD, response_deserializer=RateLimitResponse.FromString)
    answer = json_format.MessageToDict(await call(message, metadata=metadata, timeout=30))
    for status in answer["statuses"]:
        status.pop("durationUntilReset", None)
    assert isinstance(answer, dict)
    return answer


async def test_every_field_of_the_answer(channel: aio.Channel) -> None:
    limit = {"name": "pair", "requestsPerUnit": 2, "unit": "MINUTE"}
    assert await ask(channel, request(TWO, FREE, NONE)) == {
        "overallCode": "OK",
        "statuses": [
            {"code": "OK", "currentLimit": limit, "limitRemaining": 1},
            {"code": "OK", "limitRemaining": 4294967295},
            {"code": "OK"},
        ],
        "responseHeadersToAdd": [
            {"key": "RateLimit-Limit", "value": "2"},
            {"key": "RateLimit-Remaining", "value": "1"},
            {"key": "RateLimit-Reset", "value": "60"},
        ],
    }
    await ask(channel, request(TWO))
    answer = await ask(channel, request(FREE, TWO))
    assert answer["overallCode"] == "OVER_LIMIT"
    assert answer["statuses"][1] == {"code": "OVER_LIMIT", "currentLimit": limit}


async def test_hits_and_overrides_are_read(channel: aio.Channel) -> None:
    override = {"requestsPerUnit": 7, "unit": "HOUR"}
    answer = await ask(channel, request({**TWO, "limit": override}, {**TWO, "hitsAddend": "0"}, hits=3))
    assert answer["statuses"][0]["currentLimit"] == override
    assert [status.get("limitRemaining") for status in answer["statuses"]] == [4, 2]


async def test_when_the_window_ends(limits: RateLimits) -> None:
    answer = RateLimitResponse.FromString(await limits.answer(request(TWO), None, "127.0.0.1"))
    assert answer.statuses[0].duration_until_reset.seconds == 60


async def test_the_same_bytes_ask_the_same_until_the_rules_change(limits: RateLimits) -> None:
    async def code(message: bytes) -> tuple[int, int]:
        answer = RateLimitResponse.FromString(await limits.answer(message, None, "127.0.0.1"))
        return answer.overall_code, answer.statuses[0].current_limit.requests_per_unit

    ok, over = RateLimitResponse.OK, RateLimitResponse.OVER_LIMIT
    twice, other = request(TWO, hits=1), request(entries(("two", "y")), hits=1)
    assert [await code(twice) for _ in range(3)] == [(ok, 2), (ok, 2), (over, 2)]
    assert await code(other) == (ok, 2)
    limits.limiter.rules = rules_of(FILE.replace("requests_per_unit: 2", "requests_per_unit: 3"))
    assert [await code(twice) for _ in range(2)] == [(ok, 3), (over, 3)]
    limits.limiter.rules = rules_of(FILE)
    assert await code(other) == (ok, 2)


@pytest.mark.parametrize(
    "message",
    [request(entries(("two", "x" * 600))), request(*[entries(("two", str(at))) for at in range(9)])],
    ids=["long", "many descriptors"],
)
async def test_what_is_large_is_not_remembered(limits: RateLimits, message: bytes) -> None:
    """Clients choose what is in it."""
    await limits.answer(message, None, "127.0.0.1")
    assert len(limits._known) == 0
    for number in range(3 * MOST_KNOWN // 2):
        await limits.answer(request(entries(("none", str(number)))), None, "127.0.0.1")
    assert 0 < len(limits._known) <= MOST_KNOWN


@pytest.mark.parametrize(
    ("message", "said"),
    [
        pytest.param(b"\xff\xff", "no valid protobuf", id="garbage"),
        pytest.param(request(TWO, domain=""), "rate limit domain must not be empty", id="no domain"),
        pytest.param(request(), "rate limit descriptor list must not be empty", id="no descriptors"),
        pytest.param(request({**TWO, "limit": {"requestsPerUnit": 1}}), "needs a unit", id="no unit"),
        pytest.param(request(*[NONE] * (MOST_DESCRIPTORS + 1)), "more than 256", id="too many descriptors"),
    ],
)
async def test_what_cannot_be_answered(channel: aio.Channel, message: bytes, said: str) -> None:
    with pytest.raises(aio.AioRpcError, match=said) as raised:
        await ask(channel, message)
    assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class Failing:
    """Counters of which every call fails."""

    def __init__(self, error: Exception) -> None:
        self.error = error

    async def reserve(self, *_: Any) -> Reserved | Exhausted:
        raise self.error


@pytest.mark.parametrize(
    ("error", "code"),
    [(StoreUnavailable("gone"), "UNAVAILABLE"), (RuntimeError("a fault of ours"), "INTERNAL")],
    ids=["store", "fault"],
)
async def test_trouble_is_an_error_of_the_call(error: Exception, code: str) -> None:
    failed: list[str] = []
    limits = RateLimits(limiter(Failing(error), FILE), registry(), store_failed=failed.append)  # type: ignore[arg-type]
    with pytest.raises(Refused) as raised:
        await limits.answer(request(TWO), None, "127.0.0.1")
    assert raised.value.status == grpc.StatusCode[code].value[0]
    assert str(error) not in raised.value.text
    assert failed == (["reserve"] if code == "UNAVAILABLE" else [])


@pytest.mark.parametrize(
    ("token", "peer", "proven"),
    [
        (None, "127.0.0.1", True),
        (None, "203.0.113.9", False),
        ("wrong", "127.0.0.1", False),
        ("right", "203.0.113.9", True),
        ("right", "198.51.100.1", False),
    ],
    ids=["this machine", "elsewhere", "a wrong token", "a token", "a token from elsewhere"],
)
async def test_gateways_prove_themselves(
    store: ServiceStore, token: str | None, peer: str, proven: bool
) -> None:
    entry = GatewayEntry(
        name="edge",
        kind=GatewayKind.ENVOY,
        token_digest=sha256(b"right").digest(),
        networks=(ip_network("203.0.113.0/24"),),
    )
    limits = RateLimits(limiter(store.counters, FILE), GatewayRegistry([entry]))
    if proven:
        await limits.answer(request(TWO), token, peer)
        return
    with pytest.raises(Refused) as raised:
        await limits.answer(request(TWO), token, peer)
    assert raised.value.status == grpc.StatusCode.PERMISSION_DENIED.value[0]


async def test_it_is_healthy_and_absent_without_files(channel: aio.Channel, kind: str) -> None:
    stub = health_pb2_grpc.HealthStub(channel)
    asked = health_pb2.HealthCheckRequest(service=ratelimit.SERVICE)
    assert (await stub.Check(asked)).status == health_pb2.HealthCheckResponse.SERVING
    service = FakeService()
    bare = await start_grpc(kind, grpc_app(service), AccessLog(service, registry()))
    try:
        async with aio.insecure_channel(str(bare.address)) as opened:
            with pytest.raises(aio.AioRpcError) as raised:
                await ask(opened, request(TWO))
        assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED
    finally:
        await bare.stop()


@pytest.mark.parametrize("compat", [False, True], ids=["all or nothing", "compat"])
def test_a_hold_is_of_requests_alone(store: ServiceStore, compat: bool) -> None:
    """So that nothing is left to settle, and nothing stands in the ledger."""
    seen: list[Hold] = []

    class Noting:
        async def reserve(
            self, reservation: str, gateway: str, holds: Sequence[Hold], ttl_ms: int, facts: bytes = b""
        ) -> Reserved | Exhausted:
            assert (gateway, ttl_ms, facts) == ("", 7, b"")
            seen.extend(holds)
            return await store.counters.reserve(reservation, gateway, holds, ttl_ms, facts)

    limits = RateLimits(limiter(Noting(), FILE, compat=compat, undone_within_ms=7), registry())  # type: ignore[arg-type]
    with pytest.raises(StopIteration):
        limits.answer(request(TWO), None, "127.0.0.1").send(None)
    assert [hold.unit.value for hold in seen] == ["requests"]
