"""What authz adds to the time between a chunk leaving the model and reaching the client: nothing to speak of.

Both ways are measured at the same moment, so that what else this machine does weighs on both: the gateway
with authz, and the same binary without.
"""

import asyncio
import gc
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from tests.acceptance.lab import Way
from tests.acceptance.passthrough import PASSTHROUGH
from tests.support.gateway import RealGateway
from tests.support.model import arrival
from tests.support.raw_http import request_bytes

ROUNDS = 10
CHUNKS = 40  # of text; one more ends the answer, one more tells the usage
INTERVAL_MS = 8
MOST_ADDED_MS = 5.0  # at the 99th percentile
QUIET_MS = 5.0  # where that of the gateway alone is higher, the machine was busy: measured again, as is what is too slow
ATTEMPTS = 4


@pytest.fixture
def without(way: Way) -> Iterator[RealGateway]:
    with PASSTHROUGH[way.name](way.lab.around(way.name)) as gateway:
        yield gateway


async def test_chunks_come_as_soon_as_without_authz(
    way: Way, without: RealGateway, capsys: pytest.CaptureFixture[str]
) -> None:
    key = way.lab.key().key
    for _ in range(ATTEMPTS):
        with without_collector():
            through, plain = await _measure((way.port, without.around.https), way.lab.tls, key)
        added = percentile(through, 99) - percentile(plain, 99)
        with capsys.disabled():
            print(
                f"\n{way.name}: with authz {_spell(through)}; without {_spell(plain)}; p99 grows by {added:.2f} ms"
            )
        if percentile(plain, 99) < QUIET_MS and added < MOST_ADDED_MS:
            break
    assert added < MOST_ADDED_MS


async def _measure(ports: tuple[int, int], tls: ssl.SSLContext, key: str) -> tuple[list[float], list[float]]:
    """The lags of all chunks through each of the two ports."""
    lags: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        order = (0, 1) if turn % 2 else (1, 0)
        streams = await asyncio.gather(*(_lags(ports[side], tls, key) for side in order))
        for side, measured in zip(order, streams, strict=True):
            assert len(measured) == CHUNKS + 2
            lags[side].extend(measured)
    return lags


@contextmanager
def without_collector() -> Iterator[None]:
    """A full collection of everything that pytest holds would take longer than what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _lags(port: int, tls: ssl.SSLContext, key: str) -> list[float]:
    """Of every chunk of one stream, in milliseconds."""
    asked = {
        "model": "demo",
        "stream": True,
        "stream_options": {"include_usage": True},  # as a gateway would ask for it
        "max_tokens": CHUNKS,
        "messages": [],
    }
    data = request_bytes(
        "POST",
        "/v1/chat/completions",
        [
            ("Authorization", f"Bearer {key}"),
            ("Content-Type", "application/json"),
            ("X-Demo-Interval-Ms", str(INTERVAL_MS)),
        ],
        json.dumps(asked).encode(),
    )
    reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=tls, server_hostname="localhost")
    writer.write(data)
    lags = []
    async for line in reader:
        arrived = arrival(line.decode())
        if arrived is not None:
            lags.append(arrived.lag_ms)
    writer.close()
    await writer.wait_closed()
    return lags


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


def _spell(lags: Sequence[float]) -> str:
    return f"p50 {percentile(lags, 50):.2f} p99 {percentile(lags, 99):.2f} max {max(lags):.2f} ms of {len(lags)} chunks"
