"""The gRPC server on a real socket, asked by a real client and by a second, independent codec."""

import asyncio
import json
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path

import grpc
import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2, reflection_pb2_grpc

from authz.request import BodyState, GatewayKind
from authz.transport import access_log, ext_authz
from authz.transport.access_log import AccessLog
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.listen import AddressInUse, CannotListen
from authz.transport.serve_grpcio import GrpcioServer, start_other
from authz.transport.serve_lane import LaneServer
from tests.transport import second_codec
from tests.transport.support import (
    GRPC_SERVERS,
    TOKENS,
    FakeService,
    allow,
    check,
    grpc_app,
    limited,
    networks,
    registry,
    start_grpc,
)

CHECK = f"/{ext_authz.SERVICE}/Check"
STREAM = f"/{access_log.SERVICE}/StreamAccessLogs"
PROOF = (("x-authz-gateway-token", TOKENS[GatewayKind.ENVOY]),)


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture(params=GRPC_SERVERS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
async def server(service: FakeService, kind: str) -> AsyncIterator[LaneServer | GrpcioServer]:
    app = grpc_app(service, max_body=100_000)
    started = await start_grpc(kind, app, AccessLog(service, registry()))
    yield started
    await started.stop()


@pytest.fixture
async def channel(server: LaneServer | GrpcioServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(str(server.address)) as opened:
        yield opened


async def ask(
    channel: aio.Channel, message: bytes, metadata: tuple[tuple[str, str], ...] = PROOF
) -> CheckResponse:
    call = channel.unary_unary(CHECK, response_deserializer=CheckResponse.FromString)
    answer = await call(message, metadata=metadata, timeout=30)
    assert isinstance(answer, CheckResponse)
    return answer


async def test_a_real_client_gets_its_answer(channel: aio.Channel, service: FakeService) -> None:
    answer = await ask(
        channel, check(headers=[("authorization", "Bearer k")], body=b"{}").SerializeToString()
    )
    assert answer.ok_response.headers[0].header.value == "alice"
    assert service.last.gateway.proven
    assert service.last.headers == {"authorization": "Bearer k"}
    service.answer = limited()
    answer = await ask(channel, check().SerializeToString())
    assert answer.denied_response.body.encode() == limited().body


@pytest.mark.parametrize(
    "metadata",
    [(("x-authz-gateway-token", "wrong"),), PROOF * 2, (("x-authz-gateway-token", ""),)],
    ids=["wrong", "twice", "empty"],
)
async def test_a_wrong_token_is_refused(
    channel: aio.Channel, service: FakeService, metadata: tuple[tuple[str, str], ...]
) -> None:
    answer = await ask(channel, check().SerializeToString(), metadata)
    assert json.loads(answer.denied_response.body)["error"]["code"] == "gateway_unproven"
    assert service.asked == []


async def test_from_is_compared_with_the_real_peer(service: FakeService, kind: str) -> None:
    def only(network: str) -> GatewayRegistry:
        digest = sha256(b"t").digest()
        return GatewayRegistry(
            [GatewayEntry(name="e", kind=GatewayKind.ENVOY, token_digest=digest, networks=networks(network))]
        )

    app = grpc_app(service, gateways=only("127.0.0.0/8"))
    server = await start_grpc(kind, app, AccessLog(service, registry()))
    async with aio.insecure_channel(str(server.address)) as channel:
        metadata = (("x-authz-gateway-token", "t"),)
        assert (await ask(channel, check().SerializeToString(), metadata)).status.code == 0
        app.gateways = only("10.0.0.0/8")
        assert (await ask(channel, check().SerializeToString(), metadata)).status.code == 7
    await server.stop()


async def test_without_a_token_loopback_is_unproven(channel: aio.Channel, service: FakeService) -> None:
    assert (await ask(channel, check().SerializeToString(), ())).status.code == 0
    assert (service.last.gateway.name, service.last.gateway.proven) == ("envoy", False)


async def test_a_body_beyond_every_bound_is_refused_by_the_server(channel: aio.Channel) -> None:
    assert (
        await ask(channel, check(body=b"x" * 100_001).SerializeToString())
    ).denied_response.status.code == 413
    with pytest.raises(aio.AioRpcError) as refused:
        await ask(channel, check(body=b"x" * 3_000_000).SerializeToString())
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


async def test_health_is_honest(server: LaneServer | GrpcioServer, channel: aio.Channel) -> None:
    health = health_pb2_grpc.HealthStub(channel)
    serving, draining = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
    for name in ("", ext_authz.SERVICE, access_log.SERVICE):
        assert (await health.Check(health_pb2.HealthCheckRequest(service=name))).status == serving
    with pytest.raises(aio.AioRpcError) as unknown:
        await health.Check(health_pb2.HealthCheckRequest(service="another"))
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
    await server.drain()
    assert (await health.Check(health_pb2.HealthCheckRequest())).status == draining
    assert (await ask(channel, check().SerializeToString())).status.code == 0, (
        "a draining server still answers"
    )


async def reflected(channel: aio.Channel) -> set[str]:
    stub = reflection_pb2_grpc.ServerReflectionStub(channel)

    async def requests() -> AsyncIterator[reflection_pb2.ServerReflectionRequest]:
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    return {
        each.name
        async for answer in stub.ServerReflectionInfo(requests(), timeout=30)
        for each in answer.list_services_response.service
    }


async def test_grpcio_has_reflection_and_the_lane_says_that_it_has_not(
    channel: aio.Channel, kind: str
) -> None:
    if kind == "grpcio":
        assert {ext_authz.SERVICE, access_log.SERVICE, "grpc.health.v1.Health"} <= await reflected(channel)
        return
    # One message: of a stream that is ended while it is written grpcio tells no more than that.
    path = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    with pytest.raises(aio.AioRpcError) as refused:
        await call(b"", timeout=30)
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_other_address_tells_what_is_served_and_serves_none_of_it() -> None:
    server = await start_other((ext_authz.SERVICE,), "127.0.0.1:0")
    async with aio.insecure_channel(str(server.address)) as channel:
        assert {ext_authz.SERVICE, "grpc.health.v1.Health"} <= await reflected(channel)
        with pytest.raises(aio.AioRpcError) as refused:
            await ask(channel, check().SerializeToString())
        assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED
        asked = health_pb2.HealthCheckRequest(service=ext_authz.SERVICE)
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked, timeout=30)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await server.drain()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await server.stop()
        with pytest.raises(aio.AioRpcError):
            await watch.read()


async def test_a_taken_port_is_said_so(
    server: LaneServer | GrpcioServer, service: FakeService, kind: str
) -> None:
    app, log = grpc_app(service), AccessLog(service, registry())
    with pytest.raises(AddressInUse, match=f"{server.address} is in use"):
        await start_grpc(kind, app, log, listen=str(server.address))
    with pytest.raises(CannotListen, match="no address of this machine"):
        await start_grpc(kind, app, log, listen="203.0.113.1:0")


async def test_a_unix_socket_is_this_machine(service: FakeService, kind: str, tmp_path: Path) -> None:
    at = f"unix:{tmp_path / 's'}"
    server = await start_grpc(kind, grpc_app(service), AccessLog(service, registry()), listen=at)
    async with aio.insecure_channel(at) as channel:
        assert (await ask(channel, check().SerializeToString(), ())).status.code == 0
    await server.stop()


async def test_a_pending_check_is_answered_while_stopping(service: FakeService, kind: str) -> None:
    waiting: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def decide(_request: object) -> object:
        await waiting
        return allow()

    service.answer = decide  # type: ignore[assignment]
    server = await start_grpc(kind, grpc_app(service), AccessLog(service, registry()))
    async with aio.insecure_channel(str(server.address)) as channel:
        asked = asyncio.ensure_future(ask(channel, check().SerializeToString()))
        while not service.asked:
            await asyncio.sleep(0.01)
        stopping = asyncio.ensure_future(server.stop())
        await asyncio.sleep(0.1)
        waiting.set_result(None)
        assert (await asked).status.code == 0
        await asyncio.wait_for(stopping, 20)


async def test_a_second_codec_is_read_and_reads_us(channel: aio.Channel, service: FakeService) -> None:
    raw = second_codec.check_request()
    assert CheckRequest.FromString(raw).attributes.request.http.path == "/v1/x?a=b"
    service.answer = allow(query="a=b", upstream=(("x-authz-user", "zoë"),))
    call = channel.unary_unary(CHECK, response_deserializer=second_codec.parse_check_response)
    answer = await call(raw, metadata=PROOF)
    request = service.last
    assert (request.method, request.target, request.host, request.scheme) == (
        "POST",
        "/v1/x?a=b",
        "llm.test",
        "https",
    )
    assert request.headers == {"authorization": "Bearer \xff", "x-api-key": "1, 2"}
    assert (request.repeated, request.ip) == ({"x-api-key"}, "203.0.113.7")
    assert (request.body, request.body_state) == (b"{}", BodyState.WHOLE)
    ok = answer.ok_response
    assert [(o.header.key, o.header.value.encode()) for o in ok.headers] == [
        ("x-authz-user", "zoë".encode()),
        (":path", b"/v1/x?a=b"),
    ]
    assert {option.append_action.name for option in ok.headers} == {"OVERWRITE_IF_EXISTS_OR_ADD"}
    assert list(ok.headers_to_remove) == ["x-api-key", "x-authz-team"]
    service.answer = limited()
    denied = (await call(raw, metadata=PROOF)).denied_response
    assert (int(denied.status.code), denied.body.encode()) == (429, limited().body)
    assert [(o.header.key, o.header.value) for o in denied.headers] == list(limited().headers)
