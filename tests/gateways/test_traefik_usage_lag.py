"""What reading the usage adds to a chunk's way through Traefik: nothing to speak of."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.gateways.clients import wait_for
from tests.support.certificates import Certificates
from tests.support.gateway import Around, Swap
from tests.support.ports import free_port
from tests.support.streaming_lag import added_ms
from tests.support.stub_authz import StubAuthz
from tests.support.traefik import Traefik

GATEWAY = Traefik
MOST_ADDED_MS = 2.0  # at the 99th percentile


class WithoutTee(Traefik):
    """The same, but no response is read."""

    def dynamic_swaps(self) -> list[Swap]:
        return [*super().dynamic_swaps(), Swap("      usageUrl: ", "      # ")]


@pytest.fixture
def without(around: Around, tmp_path: Path) -> Iterator[Traefik]:
    with WithoutTee(replace(around, directory=tmp_path, http=free_port(), https=free_port())) as gateway:
        yield gateway


async def test_chunks_come_as_soon_as_unread(
    gateway: Traefik,
    without: Traefik,
    authz: StubAuthz,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
) -> None:
    added = await added_ms(
        gateway.around.https, without.around.https, certificates.trust(), enough=MOST_ADDED_MS
    )
    with capsys.disabled():
        print(f"\ntraefik: reading the usage adds {added:.2f} ms at p99")
    wait_for(lambda: bool(authz.ended))
    assert added < MOST_ADDED_MS
