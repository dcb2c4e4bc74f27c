"""Envoy's access log on a real socket, and what its entries say."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from envoy.data.accesslog.v3.accesslog_pb2 import HTTPAccessLogEntry
from envoy.service.accesslog.v3.als_pb2 import StreamAccessLogsMessage, StreamAccessLogsResponse
from grpc import aio

from authz.report import Report
from authz.request import Gateway, GatewayKind
from authz.store.protocols import StoreUnavailable
from authz.transport import access_log
from authz.transport.access_log import AccessLog
from authz.transport.access_log_entry import DECISION, RESERVATION, USAGE, End, Running, read_entry
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.lane import Refused
from authz.transport.peer_certificate import PeerCertificate
from authz.transport.serve_grpcio import GrpcioServer
from authz.transport.serve_lane import LaneServer
from authz.usage import Usage
from authz.usage_dialect import Fault
from tests.transport.support import GRPC_SERVERS, TOKENS, FakeService, grpc_app, registry, start_grpc

STREAM = f"/{access_log.SERVICE}/StreamAccessLogs"
PROOF = (("x-authz-gateway-token", TOKENS[GatewayKind.ENVOY]),)


def entry(
    reservation: str | None = None,
    *,
    logged: str | None = None,
    kind: int = 6,
    intermediate: bool = False,
    told: bool = False,
    reached: bool = True,
    flags: tuple[str, ...] = (),
    usage: dict[str, Any] | None = None,
    status: int = 200,
    content_type: str | None = None,
    size: int = 0,
    milliseconds: int = 0,
    request_id: str = "",
) -> HTTPAccessLogEntry:
    made = HTTPAccessLogEntry()
    common = made.common_properties
    common.access_log_type = kind  # type: ignore[assignment]
    common.intermediate_log_entry = intermediate
    common.time_to_last_downstream_tx_byte.FromMilliseconds(milliseconds)
    for flag in flags:
        setattr(common.response_flags, flag, True)
    if reached:
        common.upstream_remote_address.socket_address.address = "10.0.0.5"
    if reservation is not None or told:
        fields = common.metadata.filter_metadata[DECISION].fields
        fields["request_id"].string_value = "req_1"
        if reservation is not None:
            fields["reservation"].string_value = reservation
    if usage is not None:
        common.metadata.filter_metadata[USAGE].update(usage)
    if logged is not None:
        made.request.request_headers[RESERVATION] = logged
    if content_type is not None:
        made.response.response_headers["content-type"] = content_type
    made.response.response_code.value = status
    made.response.response_body_bytes = size
    made.request.request_id = request_id
    return made


def message(*entries: HTTPAccessLogEntry) -> bytes:
    made = StreamAccessLogsMessage()
    made.http_logs.log_entry.extend(entries)
    return made.SerializeToString()


def envoy() -> Gateway:
    found = registry().identify(GatewayKind.ENVOY, TOKENS[GatewayKind.ENVOY], "127.0.0.1")
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("told", "reservation"),
    [
        pytest.param(entry("rsv_1"), "rsv_1", id="end"),
        pytest.param(entry("rsv_1", kind=0), "rsv_1", id="end-of-an-older-envoy"),
        pytest.param(entry("rsv_1", kind=4), None, id="start"),
        pytest.param(entry("rsv_1", kind=9), None, id="upstream-end"),
        pytest.param(entry(logged="rsv_1"), "rsv_1", id="header-behind-http-ext-authz"),
        pytest.param(entry("rsv_1", logged="rsv_2"), "rsv_1", id="metadata-before-header"),
        pytest.param(entry(told=True, logged="rsv_2"), None, id="105-refused-with-a-forged-header"),
        pytest.param(entry(logged="rsv_2", reached=False), None, id="105-forged-header-never-passed-us"),
        pytest.param(entry(logged=""), None, id="empty-header"),
        pytest.param(entry(), None, id="nothing"),
        pytest.param(HTTPAccessLogEntry(), None, id="empty"),
    ],
)
def test_which_reservation_ended(told: HTTPAccessLogEntry, reservation: str | None) -> None:
    read = read_entry(told)
    assert (read.report.reservation if isinstance(read, End) else read) == reservation


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(entry("rsv_1", kind=5), id="periodic"),
        pytest.param(entry("rsv_1", kind=0, intermediate=True), id="intermediate"),
        pytest.param(entry("rsv_1", kind=6, intermediate=True), id="intermediate-of-the-end"),
        pytest.param(entry(logged="rsv_1", kind=5), id="header"),
    ],
)
def test_a_response_that_runs(told: HTTPAccessLogEntry) -> None:
    assert read_entry(told) == Running("rsv_1")


@pytest.mark.parametrize("told", [entry(kind=5), entry(told=True, kind=5)], ids=["unknown", "refused"])
def test_what_runs_without_a_reservation_is_nobodys(told: HTTPAccessLogEntry) -> None:
    assert read_entry(told) is None


DC, DR = ("downstream_connection_termination",), ("downstream_remote_reset",)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        pytest.param(
            {"size": 1234, "milliseconds": 532}, {"response_bytes": 1234, "duration_ms": 532}, id="size"
        ),
        pytest.param({"status": 503}, {"status": 503}, id="status"),
        pytest.param(
            {"flags": DC, "status": 0}, {"aborted": True, "status": 0}, id="101-left-before-the-answer"
        ),
        pytest.param({"flags": DC}, {"aborted": True}, id="101-left"),
        pytest.param({"flags": DR}, {"aborted": True}, id="101-reset"),
        pytest.param({"reached": False}, {"reached": False}, id="no-upstream"),
        pytest.param({"flags": ("upstream_connection_failure",)}, {"reached": False}, id="UF"),
        pytest.param({"flags": ("no_healthy_upstream",)}, {"reached": False}, id="UH"),
        pytest.param({"flags": ("no_route_found",)}, {"reached": False}, id="NR"),
        pytest.param({"flags": ("upstream_remote_reset",)}, {"aborted": True}, id="UR"),
        pytest.param({"content_type": "text/event-stream; charset=utf-8"}, {"streamed": True}, id="stream"),
        pytest.param({"content_type": "application/json"}, {"streamed": False}, id="json"),
        pytest.param({"usage": {"input": 5, "output": 2}}, {"usage": Usage(5, 2)}, id="usage"),
        pytest.param(
            {"usage": {"input": 5, "output": 2, "cached": 3, "reasoning": 1, "total": 7}},
            {"usage": Usage(5, 2, 3, 1)},
            id="usage-with-details",
        ),
        pytest.param(
            {"usage": {"input": 5, "output": 2, "cache_read": 3, "cache_creation": 4}},
            {"usage": Usage(12, 2, 3)},
            id="usage-of-anthropic",
        ),
        pytest.param({"usage": {"total": 9}}, {"usage": Usage(9)}, id="usage-of-a-rerank"),
        pytest.param({"usage": {}}, {}, id="102-no-usage-in-the-stream"),
        pytest.param({"usage": {"something": 1}}, {}, id="other-metadata"),
    ],
)
def test_how_it_ended(told: dict[str, Any], expected: dict[str, Any]) -> None:
    base: dict[str, Any] = {"status": 200, "response_bytes": 0, "duration_ms": 0}
    assert read_entry(entry("rsv_1", **told)) == End(Report(reservation="rsv_1", **{**base, **expected}))


@pytest.mark.parametrize(
    ("usage", "fault"),
    [
        pytest.param({"input": -1, "output": 2}, Fault.NEGATIVE, id="100-negative"),
        pytest.param({"input": 1e300, "output": 2}, Fault.TOO_LARGE, id="100-huge"),
        pytest.param({"input": float("nan"), "output": 2}, Fault.NOT_A_NUMBER, id="nan"),
        pytest.param({"input": float("inf"), "output": 2}, Fault.NOT_A_NUMBER, id="infinity"),
        pytest.param({"input": 1.5, "output": 2}, Fault.NOT_A_NUMBER, id="fraction"),
        pytest.param({"input": "5", "output": 2}, Fault.NOT_A_NUMBER, id="text"),
        pytest.param({"input": True, "output": 2}, Fault.NOT_A_NUMBER, id="flag"),
        pytest.param({"input": {"a": 1}, "output": 2}, Fault.NOT_A_NUMBER, id="object"),
        pytest.param({"input": [1], "output": 2}, Fault.NOT_A_NUMBER, id="list"),
        pytest.param({"input": None, "output": 2}, Fault.INCOMPLETE, id="null"),
    ],
)
async def test_a_usage_that_cannot_be_is_counted_and_not_believed(
    service: FakeService, usage: dict[str, Any], fault: Fault
) -> None:
    rejected: list[tuple[str, str]] = []
    log = AccessLog(service, registry(), reject=lambda gateway, reason: rejected.append((gateway, reason)))
    await log.take(message(entry("rsv_1", usage=usage)), envoy())
    assert [report.usage for report in service.reports] == [None]
    assert rejected == [("my-envoy", fault.value)]


@pytest.fixture
async def service() -> FakeService:
    return FakeService()


@pytest.fixture(params=GRPC_SERVERS)
async def server(
    service: FakeService, request: pytest.FixtureRequest
) -> AsyncIterator[LaneServer | GrpcioServer]:
    started = await start_grpc(request.param, grpc_app(service), AccessLog(service, registry()))
    yield started
    await started.stop()


@pytest.fixture
async def channel(server: LaneServer | GrpcioServer) -> AsyncIterator[aio.Channel]:
    async with aio.insecure_channel(str(server.address)) as opened:
        yield opened


async def stream(
    channel: aio.Channel, *messages: bytes, metadata: tuple[tuple[str, str], ...] = PROOF
) -> StreamAccessLogsResponse:
    call = channel.stream_unary(STREAM, response_deserializer=StreamAccessLogsResponse.FromString)
    answer = await call(iter(messages), metadata=metadata, timeout=30)
    assert isinstance(answer, StreamAccessLogsResponse)
    return answer


async def test_ends_settle_periods_extend_and_the_unknown_is_matched(
    channel: aio.Channel, service: FakeService
) -> None:
    left = entry(reached=False, status=0, flags=DC, request_id="id-7")
    await stream(channel, message(entry("rsv_1", kind=5)), message(entry("rsv_1", size=9), left))
    assert service.extended == [("rsv_1", "my-envoy")]
    expected = Report(reservation="rsv_1", status=200, response_bytes=9, duration_ms=0)
    assert service.settled == [(expected, "my-envoy")]
    [(request_id, report, gateway)] = service.matched
    assert (request_id, gateway) == ("id-7", "my-envoy")
    assert (report.reservation, report.reached, report.aborted) == ("", False, True)


@pytest.mark.parametrize("metadata", [(), (("x-authz-gateway-token", "wrong"),)], ids=["unproven", "wrong"])
async def test_attack_105_only_a_proven_gateway_is_listened_to(
    channel: aio.Channel, service: FakeService, metadata: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(aio.AioRpcError) as refused:
        await stream(channel, message(entry("rsv_1")), metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert service.settled == []


@pytest.mark.parametrize("kind", GRPC_SERVERS)
async def test_attack_105_a_stream_ends_with_the_token_that_opened_it(
    service: FakeService, kind: str
) -> None:
    """Streams last as long as their gateway, longer than a config that a reload replaces."""
    log = AccessLog(service, registry())
    server = await start_grpc(kind, grpc_app(service), log)
    async with aio.insecure_channel(str(server.address)) as channel:
        call = channel.stream_unary(STREAM)(metadata=PROOF)
        await call.write(message(entry("rsv_1")))
        while not service.settled:
            await asyncio.sleep(0.01)
        log.gateways = GatewayRegistry([])
        await call.write(message(entry("rsv_2")))
        assert await call.code() is grpc.StatusCode.PERMISSION_DENIED
    await server.stop()
    assert [report.reservation for report in service.reports] == ["rsv_1"]


async def test_attack_105_a_stream_ends_with_the_certificate_that_opened_it(service: FakeService) -> None:
    now = [0.0]
    edge = GatewayEntry(name="edge", kind=GatewayKind.ENVOY, fingerprints=("f",))
    log = AccessLog(service, GatewayRegistry([edge], clock=lambda: now[0]))

    async def messages() -> AsyncIterator[bytes]:
        yield message(entry("rsv_1"))
        now[0] = 11
        yield message(entry("rsv_2"))

    with pytest.raises(Refused):
        await log.stream(messages(), None, "127.0.0.1", PeerCertificate(frozenset(), "f", 0, 10))
    assert [report.reservation for report in service.reports] == ["rsv_1"]


async def test_a_large_node_and_many_entries(channel: aio.Channel, service: FakeService) -> None:
    first = StreamAccessLogsMessage.FromString(message(*[entry(f"rsv_{n}") for n in range(100)]))
    first.identifier.log_name = "authz"
    first.identifier.node.id = "n" * 58_000
    await stream(channel, first.SerializeToString(), message(entry("rsv_100")))
    assert [report.reservation for report in service.reports] == [f"rsv_{n}" for n in range(101)]


async def test_neither_a_bad_message_nor_a_failing_store_ends_the_stream(
    channel: aio.Channel, service: FakeService
) -> None:
    service.outcome = StoreUnavailable("gone")
    await stream(channel, b"\xff\xff\xff", message(entry("rsv_1")), message(entry("rsv_2", kind=5)))
    assert service.settled == []
    assert service.extended == [("rsv_2", "my-envoy")]


@pytest.mark.parametrize("kind", GRPC_SERVERS)
async def test_stopping_ends_the_streams_at_once(service: FakeService, kind: str) -> None:
    server = await start_grpc(kind, grpc_app(service), AccessLog(service, registry()))
    async with aio.insecure_channel(str(server.address)) as channel:
        call = channel.stream_unary(STREAM, response_deserializer=StreamAccessLogsResponse.FromString)(
            metadata=PROOF
        )
        await call.write(message(entry("rsv_1")))
        while not service.settled:
            await asyncio.sleep(0.01)
        started = asyncio.get_running_loop().time()
        await server.stop()
        assert asyncio.get_running_loop().time() - started < 0.9, "no stream holds up the stop"
        assert isinstance(await call, StreamAccessLogsResponse)


@pytest.mark.parametrize(
    "flag",
    [
        "downstream_connection_termination",
        "downstream_remote_reset",
        "upstream_remote_reset",
        "upstream_connection_termination",
        "stream_idle_timeout",
        "upstream_max_stream_duration_reached",
        "local_reset",
    ],
)
def test_attack_101_whatever_cut_a_stream_its_usage_is_not_taken_for_the_whole(flag: str) -> None:
    """A client that stops reading is cut off by the gateway, with Anthropic's first event as the only usage."""
    told = read_entry(entry("rsv_1", flags=(flag,), usage={"input": 9, "output": 1}))
    assert isinstance(told, End)
    assert told.report.aborted
