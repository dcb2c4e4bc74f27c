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

Headers = Sequence[tuple[str | bytes, str | bytes]]


async def added_ms(port: int, plain: int, tls: ssl.SSLContext, *, enough: float) -> float:
    """By how much the 99th percentile at `port` exceeds that at `plain`, in milliseconds.

    What a gateway adds it adds every time: of several attempts the least counts, and the first below `enough`.
    """
    least = float("inf")
    for _ in range(ATTEMPTS):
        through, without = await lags_of_both((port, plain), tls)
        least = min(least, percentile(through, 99) - percentile(without, 99))
        if least < enough:
            break
    return least


async def lags_of_both(
    ports: tuple[int, int], tls: ssl.SSLContext, *, rounds: int = ROUNDS, headers: Headers = ()
) -> tuple[list[float], list[float]]:
    """The lags of all chunks through each of the two ports, in milliseconds."""
    lags: tuple[list[float], list[float]] = ([], [])
    with _without_collector():
        for turn in range(rounds):
            order = (0, 1) if turn % 2 else (1, 0)
            streams = await asyncio.gather(*(_lags(ports[side], tls, headers) for side in order))
            for side, measured in zip(order, streams, strict=True):
                assert len(measured) == CHUNKS + 2
                lags[side].extend(measured)
    return lags


def percentile(values: Sequence[float], percent: int) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, len(ordered) * percent // 100)]


@contextmanager
def _without_collector() -> Iterator[None]:
    """A full collection of everything that pytest holds would take longer than what is measured."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _lags(port: int, tls: ssl.SSLContext, headers: Headers) -> list[float]:
    """Of every chunk of one stream with usage, in milliseconds."""
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
        [*headers, ("Content-Type", "application/json"), ("X-Demo-Interval-Ms", str(INTERVAL_MS))],
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
