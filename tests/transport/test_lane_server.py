"""What the gRPC server of our own adds to the services: proof found once, faults told, the other address."""

import asyncio
import socket
import subprocess
import sys
from typing import Any

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse
from grpc import aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from structlog.testing import capture_logs

from authz.request import GatewayKind
from authz.transport import proof
from authz.transport.access_log import AccessLog
from authz.transport.address import socket_peer
from authz.transport.cut_off import CutOff
from authz.transport.grpc_services import GrpcServices
from authz.transport.lane import Caller
from authz.transport.listen import bind, parse_listen
from authz.transport.serve_lane import start_lane
from authz.transport.serve_other import OtherServer
from tests.support.ports import free_port
from tests.transport.support import TOKENS, FakeService, check, grpc_app, registry

PROOF = (("x-authz-gateway-token", TOKENS[GatewayKind.ENVOY]),)
CHECK = "/envoy.service.auth.v3.Authorization/Check"
HOST = "127.0.0.1"


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ((HOST, 4711), HOST),
        (("::1", 4711, 0, 0), "::1"),
        ("", "unix"),
        ("/run/x.sock", "unix"),
        (b"\0abstract", "unix"),
        (None, ""),
    ],
    ids=["IPv4", "IPv6", "unix", "unix with a path", "abstract", "unknown"],
)
def test_peers(name: object, peer: str) -> None:
    assert socket_peer(name) == peer


@pytest.mark.parametrize(
    ("metadata", "token"),
    [((), None), (PROOF, PROOF[0][1]), (PROOF * 2, ""), ((("x-authz-gateway-token", ""),), "")],
    ids=["none", "one", "twice", "empty"],
)
def test_tokens(metadata: tuple[tuple[str, str], ...], token: str | None) -> None:
    assert proof.of_caller(Caller((("te", "trailers"), *metadata), (HOST, 1), None)).token == token


def services(**options: Any) -> GrpcServices:
    service = FakeService()
    return GrpcServices(grpc_app(service, **options), AccessLog(service, registry()))


async def test_what_is_not_http2_is_cut_off_and_told_of() -> None:
    cut_off = CutOff()
    server = await start_lane(services(), f"{HOST}:0", cut_off=cut_off)
    with capture_logs() as logs:
        reader, writer = await asyncio.open_connection(HOST, server.address.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        async with asyncio.timeout(20):
            await reader.read()
        writer.close()
    await server.stop()
    assert cut_off.counts == {"PROTOCOL_ERROR": 1}
    [line] = logs
    assert (line["event"], line["peer"], line["why"]) == (
        "gRPC connection cut off",
        HOST,
        "this is not HTTP/2",
    )


def test_of_many_that_are_cut_off_few_are_logged() -> None:
    now = 0.0
    cut_off = CutOff(lambda: now)
    with capture_logs() as logs:
        for at in range(30):
            now = at / 10
            cut_off.ended("192.0.2.1", "ENHANCE_YOUR_CALM", "too many streams reset")
    assert [line["more"] for line in logs] == [0, 9, 9]
    assert cut_off.counts == {"ENHANCE_YOUR_CALM": 30}


async def test_the_other_address_follows_and_says_what_the_first_does() -> None:
    port = free_port()
    other = OtherServer(["a.Service"], f"{HOST}:{port}")
    other.start()
    async with aio.insecure_channel(f"{HOST}:{port}") as channel:
        asked = health_pb2.HealthCheckRequest(service="a.Service")
        watch = health_pb2_grpc.HealthStub(channel).Watch(asked, wait_for_ready=True, timeout=60)
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.SERVING
        await other.drain()
        assert (await watch.read()).status == health_pb2.HealthCheckResponse.NOT_SERVING
        await other.stop()
    bind(parse_listen(f"{HOST}:{port}")).close()


async def test_without_the_other_address_all_else_runs() -> None:
    with socket.socket() as taken:
        taken.bind((HOST, 0))
        taken.listen()
        other = OtherServer([], f"{HOST}:{taken.getsockname()[1]}")
        with capture_logs() as logs:
            other.start()
            async with asyncio.timeout(60):
                while not logs:
                    await asyncio.sleep(0.01)
        await other.stop()
    assert logs[0]["event"] == "reflection is not served"
    assert "in use" in logs[0]["problem"]


async def test_stopped_before_the_other_address_is_served() -> None:
    other = OtherServer([], f"{HOST}:0")
    other.start()
    await other.stop()
    never = OtherServer([], f"{HOST}:0")
    await never.drain()
    await never.stop()


async def test_who_connects_while_we_stop_is_answered_or_refused() -> None:
    """Never reset: a call that was made is answered, and who was refused made none."""
    server = await start_lane(services(), f"{HOST}:0")
    answered = 0
    refused: list[str] = []

    async def ask() -> None:
        nonlocal answered
        async with aio.insecure_channel(str(server.address)) as channel:
            try:
                await channel.unary_unary(CHECK)(check().SerializeToString(), metadata=PROOF, timeout=20)
                answered += 1
            except aio.AioRpcError as error:
                refused.append(str(error.details()))

    await ask()
    stopping = asyncio.ensure_future(server.stop())
    while not stopping.done():
        await ask()
    assert answered >= 1
    assert refused
    assert [each for each in refused if "Connection refused" not in each] == []


async def test_a_message_is_as_large_as_the_largest_body_and_some() -> None:
    server = await start_lane(services(max_body=9_000_000), f"{HOST}:0")
    options = (("grpc.max_receive_message_length", -1),)
    async with aio.insecure_channel(str(server.address), options=options) as channel:
        large = check(body=b"x" * 9_000_000).SerializeToString()
        answer = await channel.unary_unary(CHECK)(large, metadata=PROOF, timeout=30)
        assert CheckResponse.FromString(answer).status.code == 0
    await server.stop()


def test_a_start_imports_no_grpcio() -> None:
    """It takes longer than the rest of the transports together."""
    code = "import sys, authz.running; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
