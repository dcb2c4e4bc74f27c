"""The metrics of all workers as one page: each sample says in the label `worker` whose it is."""

import asyncio
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from authz.workers.place import Worker

PATIENCE = 1.0  # seconds: a worker that is being replaced must not keep a scrape waiting
MOST = 16 << 20  # bytes of one worker's page

_REQUEST = b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"

log = structlog.get_logger("authz.workers")


async def gather(worker: Worker, own: Callable[[], bytes]) -> bytes:
    """The text format, of this worker and of all others that answer."""
    others = list(worker.others)
    pages = await asyncio.gather(*(_page(path) for _, path in others), return_exceptions=True)
    told = {worker.number: own()}
    for (number, _), page in zip(others, pages, strict=True):
        if isinstance(page, bytes):
            told[number] = page
        else:
            log.warning("a worker's metrics are missing", worker=number, problem=str(page))
    return generate_latest(_registry(told))


async def _page(path: Path) -> bytes:
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_unix_connection(str(path), limit=MOST)
        try:
            writer.write(_REQUEST)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200 "):
                raise ConnectionError(head.partition(b"\r\n")[0].decode("latin-1"))
            return await _rest(reader)
        finally:
            writer.close()


async def _rest(reader: asyncio.StreamReader) -> bytes:
    """All until the end: a single `read` returns what has arrived, which may be half a line."""
    pieces, size = [], 0
    while piece := await reader.read(1 << 16):
        pieces.append(piece)
        size += len(piece)
        if size > MOST:
            raise ConnectionError(f"its page is longer than {MOST} bytes")
    return b"".join(pieces)


class _Together:
    """A prometheus_client collector of pages in the text format."""

    def __init__(self, pages: Mapping[int, bytes]) -> None:
        self._pages = pages

    def collect(self) -> Iterable[Metric]:
        families: dict[str, Metric] = {}
        for number, page in sorted(self._pages.items()):
            for family in text_string_to_metric_families(page.decode()):
                whole = families.setdefault(
                    family.name, Metric(family.name, family.documentation, family.type)
                )
                for sample in family.samples:
                    labels = {**sample.labels, "worker": str(number)}
                    whole.add_sample(sample.name, labels, sample.value, sample.timestamp)
        return families.values()


def _registry(pages: Mapping[int, bytes]) -> CollectorRegistry:
    registry = CollectorRegistry()
    registry.register(_Together(pages))
    return registry
