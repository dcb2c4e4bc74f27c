"""Caddy's log lines: what each comes to, and that neither hostile nor broken ones are believed or do harm."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from authz.report import Report
from authz.request import Gateway, GatewayKind
from authz.store.protocols import Outcome, StoreUnavailable
from authz.transport import caddy_log
from authz.transport.caddy_line import read_line, read_report
from authz.transport.caddy_log import CaddyLog, LoggingGateway
from authz.transport.gateways import GatewayEntry, GatewayRegistry
from authz.transport.seal import is_seal, seal
from tests.support.ports import free_port
from tests.transport.support import FakeService

KEY = b"k" * 32
EDGE = Gateway(name="edge", kind=GatewayKind.CADDY, proven=True)
WHOLE = {"status": 200, "size": 10, "duration": 0.25, "content_type": "application/json"}


def line(reservation: str = "rsv_1", key: bytes = KEY, **fields: Any) -> bytes:
    said = {"reservation": reservation, "seal": seal(key, reservation), **WHOLE, **fields}
    return json.dumps({name: value for name, value in said.items() if value != "absent"}).encode() + b"\n"


LINES: dict[str, tuple[dict[str, Any], Report]] = {
    "whole": (
        {},
        Report(reservation="rsv_1", status=200, streamed=False, response_bytes=10, duration_ms=250),
    ),
    "streamed": (
        {"content_type": "Text/Event-Stream; charset=utf-8"},
        Report(reservation="rsv_1", status=200, streamed=True, response_bytes=10, duration_ms=250),
    ),
    "broken off": (
        {"content_type": "absent", "duration": 0},
        Report(reservation="rsv_1", status=200, aborted=True, response_bytes=10),
    ),
    "the client left before the answer": (
        {"status": 499, "size": 0, "content_type": ""},
        Report(
            reservation="rsv_1",
            status=499,
            aborted=True,
            streamed=False,
            response_bytes=0,
            duration_ms=250,
        ),
    ),
    "no model server": (
        {"status": 502, "unreached": "true"},
        Report(
            reservation="rsv_1",
            status=502,
            reached=False,
            streamed=False,
            response_bytes=10,
            duration_ms=250,
        ),
    ),
    "a websocket": (
        {"status": 101, "content_type": "absent"},
        Report(reservation="rsv_1", status=101, response_bytes=10, duration_ms=250),
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_tells_the_end_of_a_response(name: str) -> None:
    fields, report = LINES[name]
    read = read_line(line(**fields))
    assert read is not None
    assert read_report(read) == report


BROKEN = {
    "no JSON": b"{]\n",
    "no object": b"[]\n",
    "empty": b"\n",
    "no UTF-8": b'{"reservation": "\xff"}\n',
    "100 negative bytes": line(size=-1),
    "100 bytes above 2^53": line(size=2**53),
    "100 bytes in words": line(size="many"),
    "a negative duration": line(duration=-1),
    "a duration that is none": b'{"reservation": "r", "duration": NaN}\n',
    "an endless duration": b'{"reservation": "r", "duration": 1e400}\n',
    "a status that is none": line(status=1000),
    "a long reservation": line("r" * 257),
    "deep": b'{"x": ' + b"[" * 3000 + b"\n",
}


class Listening:
    """The log, open, with a service that keeps what it is told."""

    def __init__(self, **more: Any) -> None:
        self.service = FakeService()
        self.rejected: list[tuple[str, str]] = []
        self.now = 100.0
        self.port = free_port()
        gateway = LoggingGateway(EDGE, KEY, f"127.0.0.1:{self.port}", **more)
        self.log = CaddyLog(
            self.service, [gateway], lambda *what: self.rejected.append(what), lambda: self.now
        )

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def send(self, *data: bytes) -> None:
        _, writer = await self.connect()
        for part in data:
            writer.write(part)
            await writer.drain()
        writer.close()
        await writer.wait_closed()

    @property
    def settled(self) -> list[str]:
        return [report.reservation for report, gateway in self.service.settled if gateway == "edge"]


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


@pytest.fixture
async def listening() -> AsyncIterator[Listening]:
    made = Listening()
    await made.log.start()
    yield made
    await made.log.stop()


async def test_proven_lines_are_settled_in_order(listening: Listening) -> None:
    await listening.send(line("a") + line("b")[:20], line("b")[20:], line("c"))
    await eventually(lambda: len(listening.settled) == 3)
    assert listening.settled == ["a", "b", "c"]
    assert not listening.rejected


async def test_a_line_without_reservation_is_a_refusal_and_passed_over(listening: Listening) -> None:
    await listening.send(b'{"status": 401}\n', line("", seal=None), b'{"reservation": null}\n', line("last"))
    await eventually(lambda: bool(listening.settled))
    assert listening.settled == ["last"]
    assert not listening.rejected


@pytest.mark.parametrize(
    "forged",
    [
        line(seal=None),
        line(seal=""),
        line(key=b"x" * 32),
        line(seal=seal(KEY, "rsv_2")),
        line(seal=seal(KEY, "rsv_1").upper()),
        line(seal="\u00e9" * 32),
    ],
    ids=["none", "empty", "another-gateway", "another-reservation", "upper-case", "no-ascii"],
)
async def test_105_a_line_that_does_not_prove_itself_is_dropped_and_counted(
    listening: Listening, forged: bytes
) -> None:
    await listening.send(forged, line("last"))
    await eventually(lambda: bool(listening.settled))
    assert listening.settled == ["last"]
    assert listening.rejected == [("edge", "gateway_unproven")]


@pytest.mark.parametrize("name", BROKEN)
async def test_a_broken_line_is_counted_and_harms_no_other(listening: Listening, name: str) -> None:
    await listening.send(BROKEN[name], line("last"))
    await eventually(lambda: bool(listening.settled))
    assert listening.settled == ["last"]
    assert listening.rejected == [("edge", "malformed")]


async def test_a_line_that_is_too_long_is_passed_over(listening: Listening) -> None:
    long = line("a", padding="x" * 200_000)
    await listening.send(long, line("last"))
    await eventually(lambda: bool(listening.settled))
    assert listening.settled == ["last"]
    assert listening.rejected == [("edge", "too_long")]


async def test_a_line_without_its_end_is_none(listening: Listening) -> None:
    await listening.send(line("cut")[:-1])
    await listening.send(line("last"))
    await eventually(lambda: bool(listening.settled))
    assert listening.settled == ["last"]


async def test_a_connection_of_many_bad_lines_is_closed(listening: Listening) -> None:
    reader, writer = await listening.connect()
    writer.write(b"x\n" * 300)
    assert await reader.read() == b""
    assert len(listening.rejected) == 100
    writer.close()


async def test_connections_that_prove_nothing_give_way(listening: Listening) -> None:
    reader, writer = await listening.connect()
    writer.write(line("first"))
    await eventually(lambda: listening.settled == ["first"])
    idle = [await listening.connect() for _ in range(caddy_log.MOST_CONNECTIONS + 5)]
    assert await idle[0][0].read() == b""
    writer.write(line("second"))
    await eventually(lambda: listening.settled == ["first", "second"])
    for _, other in [*idle, (reader, writer)]:
        other.close()


async def test_what_waits_is_bounded(listening: Listening, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caddy_log, "MOST_WAITING", 2)
    listening.service.outcome = StoreUnavailable("away")
    await listening.send(*(line(f"r{number}") for number in range(5)))
    await eventually(lambda: len(listening.rejected) == 3)
    assert listening.rejected == [("edge", "too_many")] * 3
    listening.service.outcome = Outcome.SETTLED
    await eventually(lambda: len(set(listening.settled)) == 2)


async def test_a_line_waits_for_a_store_that_is_away(listening: Listening) -> None:
    listening.service.outcome = StoreUnavailable("away")
    await listening.send(line("a"), line("b"))
    await eventually(lambda: bool(listening.log._waiting))
    listening.service.outcome = Outcome.SETTLED
    await eventually(lambda: {"a", "b"} <= set(listening.settled))


async def test_a_fault_of_the_service_does_not_stop_the_log(listening: Listening) -> None:
    listening.service.outcome = RuntimeError("broken")
    await listening.send(line("a"))
    await eventually(lambda: not listening.log._waiting)
    listening.service.outcome = Outcome.SETTLED
    await listening.send(line("b"))
    await eventually(lambda: "b" in listening.settled)


async def test_a_line_waits_for_the_report_of_the_model_server() -> None:
    listening = Listening(waits=5.0)
    await listening.log.start()
    await listening.send(line("a"))
    await eventually(lambda: bool(listening.log._waiting))
    await asyncio.sleep(0.05)
    assert not listening.settled
    listening.now += 5.0
    await listening.send(line("b"))  # what comes looks at the clock again
    await eventually(lambda: listening.settled == ["a"])
    await eventually(lambda: len(listening.log._waiting) == 1)
    await listening.log.stop()  # nothing that waits is lost
    assert listening.settled == ["a", "b"]


async def test_another_configuration_is_in_force_at_once(listening: Listening) -> None:
    [old] = listening.log.gateways
    listening.log.gateways = (LoggingGateway(EDGE, b"n" * 32, old.listen),)
    await listening.send(line("old"), line("new", key=b"n" * 32))
    await eventually(lambda: listening.settled == ["new"])
    assert listening.rejected == [("edge", "gateway_unproven")]


def test_a_seal_is_given_only_where_a_log_is_read() -> None:
    def entry(name: str, *, log: bool) -> GatewayEntry:
        return GatewayEntry(
            name=name, kind=GatewayKind.CADDY, token_digest=KEY, seal_key=KEY if log else None
        )

    registry = GatewayRegistry([entry("edge", log=True), entry("mute", log=False)])
    given = registry.seal(EDGE, "rsv_1")
    assert given is not None
    assert is_seal(given, KEY, "rsv_1")
    assert registry.seal(Gateway(name="mute", kind=GatewayKind.CADDY, proven=True), "rsv_1") is None
    assert registry.seal(Gateway(name="edge", kind=GatewayKind.CADDY, proven=False), "rsv_1") is None
    assert KEY.decode() not in repr(LoggingGateway(EDGE, KEY, "127.0.0.1:1"))
