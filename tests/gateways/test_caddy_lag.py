"""What Caddy's log to authz adds to a chunk's way: nothing to speak of."""

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.gateways.clients import wait_for
from tests.gateways.forward_auth_contract import with_model
from tests.support.caddy import Caddy
from tests.support.certificates import Certificates
from tests.support.gateway import Around, Swap
from tests.support.log_listener import LogListener, sealed
from tests.support.ports import free_port
from tests.support.streaming_lag import added_ms
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

MOST_ADDED_MS = 2.0  # at the 99th percentile


class WithoutLog(Caddy):
    """The same, but nothing is told to authz."""

    def swaps(self) -> list[Swap]:
        target = f"output net 127.0.0.1:{self.around.log} {{\n\t\t\tsoft_start\n\t\t\tdial_timeout 1s\n\t\t}}"
        return [*super().swaps(), Swap(target, "output discard")]


@pytest.fixture
def listener() -> Iterator[LogListener]:
    with LogListener(free_port()) as listening:
        yield listening


@pytest.fixture
def logging(around: Around, listener: LogListener) -> Iterator[Caddy]:
    with Caddy(replace(with_model(around, around.model), log=listener.port)) as gateway:
        yield gateway


@pytest.fixture
def without(around: Around) -> Iterator[Caddy]:
    with WithoutLog(around) as gateway:
        yield gateway


async def test_chunks_come_as_soon_as_untold(
    logging: Caddy,
    without: Caddy,
    listener: LogListener,
    authz: StubAuthz,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
) -> None:
    authz.answer = Allowing(upstream=tuple({**IDENTITY, **dict(sealed("rsv_1"))}.items()))
    added = await added_ms(
        logging.around.https, without.around.https, certificates.trust(), enough=MOST_ADDED_MS
    )
    with capsys.disabled():
        print(f"\ncaddy: telling the end adds {added:.2f} ms at p99")
    wait_for(lambda: bool(listener.settled))
    assert added < MOST_ADDED_MS
