"""authz is away for 3 seconds in the middle of 500 requests: afterwards the ledger is complete."""

import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.settling import KNOWN, SHIPPED_LEASE, Settling, settling
from tests.support.certificates import make_certificates
from tests.support.envoy import Envoy
from tests.support.gateway import RealGateway
from tests.support.nginx import Nginx
from tests.support.simulated import Page
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


async def _load(at: Settling, key: str, statuses: Counter[int]) -> None:
    numbers = iter(range(REQUESTS))
    await asyncio.gather(*(_client(at, key, numbers, statuses) for _ in range(CLIENTS)))


def _with_an_absence(at: Settling, key: str) -> Counter[int]:
    """The clients run beside us: a process that we start ends with the thread that started it."""
    statuses: Counter[int] = Counter()
    with ThreadPoolExecutor(1) as beside:
        clients = beside.submit(lambda: asyncio.run(_load(at, key, statuses)))
        while statuses[200] < REQUESTS // 3 and not clients.done():
            time.sleep(0.02)
        at.service.stop()
        time.sleep(AWAY)
        at.service.start()
        clients.result()
    return statuses


def _told_by_itself(at: Settling, pages: Sequence[Page]) -> int:
    """Entries once no more have come for two seconds."""
    told, quiet_since = -1, time.monotonic()
    while time.monotonic() - quiet_since < 2:
        time.sleep(0.1)
        now = len(at.entries().keys() & {page.reservation for page in pages})
        if now != told:
            told, quiet_since = now, time.monotonic()
    return told


@pytest.mark.timeout(240)
@pytest.mark.parametrize("kind", [Envoy, Nginx], ids=["envoy", "nginx"])
def test_complete_afterwards(kind: type[RealGateway], tmp_path: Path) -> None:
    with settling(kind, tmp_path, make_certificates(tmp_path), lease=SHIPPED_LEASE) as at:
        minted = at.key()
        statuses = _with_an_absence(at, minted.key)
        pages = at.model.books()
        assert statuses[200] == REQUESTS == sum(page.finished for page in pages)
        before = _told_by_itself(at, pages)
        if kind is Envoy:  # what its log stream lost, its journal has
            assert at.gateway.process is not None
            at.service.run("ledger", "replay", str(at.gateway.process.log))
        ledger = at.settled(pages)
        after = Counter(str(ledger[page.reservation].note.source) for page in pages)
        print(
            f"\n{kind.name}: answers {dict(statuses)}, told without help {before}, in the end {dict(after)}"
        )
        for page in pages:
            entry = ledger[page.reservation]
            assert entry.note.source in KNOWN, (page, entry)
            assert page.usage is not None
            assert (entry.note.usage.input, entry.note.usage.output) == page.usage[:2]
