"""authz is away for 3 seconds in the middle of 500 requests: afterwards the ledger is complete."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.settling import KNOWN, SHIPPED_LEASE, Settling, settling
from tests.support.certificates import make_certificates
from tests.support.envoy import Envoy
from tests.support.gateway import RealGateway
from tests.support.nginx import Nginx
from tests.support.stream_client import StreamClient

REQUESTS = 500
CLIENTS = 20
AWAY = 3.0  # seconds


def _question(number: int) -> dict[str, Any]:
    return {
        "model": "sim",
        "messages": [{"role": "user", "content": f"question {number}"}],
        "max_tokens": 100,
        "stream": True,
        "simulate": {"output": 20 + number % 20, "pause_ms": 10, "seed": number},
    }


async def _client(at: Settling, key: str, numbers: Iterator[int], statuses: Counter[int]) -> None:
    async with StreamClient(at.port, at.tls, key) as client:
        for number in numbers:
            while True:
                reply = await client.post("/v1/chat/completions", _question(number))
                statuses[reply.status] += 1
                if reply.status == 200:
                    assert reply.whole
                    break
                assert reply.status == 503, reply
                await asyncio.sleep(0.2)


async def _load(at: Settling, key: str) -> Counter[int]:
    statuses: Counter[int] = Counter()
    numbers = iter(range(REQUESTS))
    clients = [asyncio.create_task(_client(at, key, numbers, statuses)) for _ in range(CLIENTS)]
    while statuses[200] < REQUESTS // 3:
        await asyncio.sleep(0.02)
    await asyncio.to_thread(at.service.stop)
    await asyncio.sleep(AWAY)
    await asyncio.to_thread(at.service.start)
    await asyncio.gather(*clients)
    return statuses


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", [Envoy, Nginx], ids=["envoy", "nginx"])
def test_complete_afterwards(kind: type[RealGateway], tmp_path: Path) -> None:
    with settling(kind, tmp_path, make_certificates(tmp_path), lease=SHIPPED_LEASE) as at:
        minted = at.key()
        statuses = asyncio.run(_load(at, minted.key))
        pages = at.model.books()
        assert statuses[200] == REQUESTS == sum(page.finished for page in pages)
        begun = time.monotonic()
        before = Counter(str(entry.note.source) for entry in at.settled(pages, seconds=30).values())
        if kind is Envoy:  # what its log stream lost, its journal has
            assert at.gateway.process is not None
            at.service.run("ledger", "replay", str(at.gateway.process.log))
        ledger = at.settled(pages)
        after = Counter(str(ledger[page.reservation].note.source) for page in pages)
        print(
            f"\n{kind.name}: {statuses}, told by itself {before}, in the end {after}, {time.monotonic() - begun:.1f} s"
        )
        for page in pages:
            entry = ledger[page.reservation]
            assert entry.note.source in KNOWN, (page, entry)
            assert page.usage is not None
            assert (entry.note.usage.input, entry.note.usage.output) == page.usage[:2]
