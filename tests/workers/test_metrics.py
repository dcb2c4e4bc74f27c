"""One page tells what every worker counted."""

from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from authz.admin.access import AdminAccess
from authz.admin.app import AdminApp
from authz.telemetry.metrics import CONTENT_TYPE
from authz.transport.health import Health
from authz.transport.serve import start_http
from authz.workers.metrics import gather
from authz.workers.place import Worker, socket_of

OWN = b'# HELP answers_total Answers.\n# TYPE answers_total counter\nanswers_total{route="a"} 3.0\n'


def samples(page: bytes) -> dict[tuple[str, str], float]:
    return {
        (sample.name, sample.labels["worker"]): sample.value
        for family in text_string_to_metric_families(page.decode())
        for sample in family.samples
    }


async def test_alone_it_tells_its_own(tmp_path: Path) -> None:
    page = await gather(Worker(0, tmp_path), lambda: OWN)
    assert samples(page) == {("answers_total", "0"): 3.0}
    assert page.count(b"# TYPE answers_total counter") == 1


async def test_the_others_are_asked(tmp_path: Path) -> None:
    async def theirs() -> bytes:
        return OWN.replace(b"3.0", b"4.0") + b"# TYPE more gauge\nmore 1.0\n"

    health = Health(version="1", config=lambda: "", store=lambda: "ok")
    other = AdminApp(AdminAccess(()), health, theirs, CONTENT_TYPE)
    server = await start_http(other, f"unix:{socket_of(tmp_path, 1)}")
    try:
        page = await gather(Worker(0, tmp_path), lambda: OWN)
    finally:
        await server.stop()
    assert samples(page) == {("answers_total", "0"): 3.0, ("answers_total", "1"): 4.0, ("more", "1"): 1.0}
    assert page.count(b"# TYPE answers_total counter") == 1


async def test_a_page_of_many_pieces_is_read_to_its_end(tmp_path: Path) -> None:
    lines = [b'answers_total{route="%d"} 1.0\n' % number for number in range(30_000)]

    async def theirs() -> bytes:
        return OWN.replace(b'answers_total{route="a"} 3.0\n', b"".join(lines))

    health = Health(version="1", config=lambda: "", store=lambda: "ok")
    server = await start_http(
        AdminApp(AdminAccess(()), health, theirs, CONTENT_TYPE), f"unix:{socket_of(tmp_path, 1)}"
    )
    try:
        page = await gather(Worker(0, tmp_path), lambda: OWN)
    finally:
        await server.stop()
    assert page.count(b'worker="1"') == len(lines)


async def test_one_that_is_gone_is_left_out(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    socket_of(tmp_path, 1).touch()
    assert samples(await gather(Worker(0, tmp_path), lambda: OWN)) == {("answers_total", "0"): 3.0}
