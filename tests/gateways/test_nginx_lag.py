"""What reading the usage adds to a chunk's way through nginx: nothing to speak of."""

from collections.abc import Iterator

import pytest

from tests.gateways.clients import wait_for
from tests.gateways.forward_auth_contract import with_model
from tests.support.certificates import Certificates
from tests.support.gateway import Around, Swap
from tests.support.nginx import Nginx
from tests.support.streaming_lag import added_ms
from tests.support.stub_authz import StubAuthz

GATEWAY = Nginx
MOST_ADDED_MS = 2.0  # at the 99th percentile


class WithoutTee(Nginx):
    """The same, but no response is read."""

    def swaps(self) -> list[Swap]:
        tee = "js_body_filter authz_usage.tee buffer_type=buffer;"
        return [*super().swaps(), Swap(tee, "", times=2)]


@pytest.fixture
def without(around: Around) -> Iterator[Nginx]:
    with WithoutTee(with_model(around, around.model)) as gateway:
        yield gateway


async def test_chunks_come_as_soon_as_unread(
    gateway: Nginx,
    without: Nginx,
    authz: StubAuthz,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
) -> None:
    added = await added_ms(
        gateway.around.https, without.around.https, certificates.trust(), enough=MOST_ADDED_MS
    )
    with capsys.disabled():
        print(f"\nnginx: reading the usage adds {added:.2f} ms at p99")
    wait_for(lambda: bool(authz.ended))
    assert added < MOST_ADDED_MS
