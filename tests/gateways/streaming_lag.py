"""How long the chunks of a stream take through two gateways at the same moment: whatever else this machine does
weighs on both."""

import asyncio
import gc
import json
import ssl
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from tests.support.model import arrival
from tests.support.raw_http import request_bytes

ROUNDS = 8
CHUNKS = 40  # of text; one more ends the answer, one more tells the usage
INTERVAL_MS = 8
ATTEMPTS = 4


async def added_ms(port: int, plain: int, tls: ssl.SSLContext, *, enough: float) -> float:
    """By how much the 99th percentile at `port` exceeds that at `plain`, in milliseconds.

    What a gateway adds it adds every time: of several attempts the least counts, and the first below `enough`.
    """
    least = float("inf")
    for _ in range(ATTEMPTS):
        with _without_collector():
            through, without = await _measure((port, plain), tls)
        least = min(least, percentile(through, 99) - percentile(without, 99))
        if least < enough:
            break
    return least


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


async def _measure(ports: tuple[int, int], tls: ssl.SSLContext) -> tuple[list[float], list[float]]:
    lags: tuple[list[float], list[float]] = ([], [])
    for turn in range(ROUNDS):
        order = (0, 1) if turn % 2 else (1, 0)
        streams = await asyncio.gather(*(_lags(ports[side], tls) for side in order))
        for side, measured in zip(order, streams, strict=True):
            assert len(measured) == CHUNKS + 2
            lags[side].extend(measured)
    return lags


@contextmanager
def _without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _lags(port: int, tls: ssl.SSLContext) -> list[float]:
    """Of every chunk of one stream with usage, in milliseconds."""
    asked = {"model": "demo", "stream": True, "max_tokens": CHUNKS, "messages": []}
    asked["stream_options"] = {"include_usage": True}
    headers: list[tuple[str | bytes, str | bytes]] = [
        ("Content-Type", "application/json"),
        ("X-Demo-Interval-Ms", str(INTERVAL_MS)),
    ]
    data = request_bytes("POST", "/v1/chat/completions", headers, json.dumps(asked).encode())
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
