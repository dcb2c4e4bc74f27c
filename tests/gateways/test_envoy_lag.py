"""What reading the usage adds to a chunk's way through Envoy: nothing to speak of."""

import re
from collections.abc import Iterator, Sequence

import pytest

from tests.gateways.clients import wait_for
from tests.gateways.forward_auth_contract import with_model
from tests.support.certificates import Certificates
from tests.support.envoy import Envoy, command
from tests.support.gateway import Around, RealGateway
from tests.support.streaming_lag import added_ms
from tests.support.stub_authz import StubAuthz

GATEWAY = Envoy
MOST_ADDED_MS = 2.0  # at the 99th percentile

_SCRIPT = re.compile(r"^ *- name: envoy\.filters\.http\.lua\n(?:(?! *- name:).*\n)+", re.MULTILINE)


class WithoutScript(Envoy):
    """The same, but no answer is read."""

    name = "envoy-without-script"

    def write(self) -> Sequence[str]:
        path = self.committed("envoy/envoy.yaml", self.swaps())
        text, count = _SCRIPT.subn("", path.read_text())
        assert count == 1
        path.write_text(text)
        return command(str(path))


@pytest.fixture
def without(around: Around) -> Iterator[RealGateway]:
    with WithoutScript(with_model(around, around.model)) as gateway:
        yield gateway


async def test_chunks_come_as_soon_as_unread(
    gateway: RealGateway,
    without: RealGateway,
    authz: StubAuthz,
    certificates: Certificates,
    capsys: pytest.CaptureFixture[str],
) -> None:
    authz.access_log.clear()
    added = await added_ms(
        gateway.around.https, without.around.https, certificates.trust(), enough=MOST_ADDED_MS
    )
    with capsys.disabled():
        print(f"\nenvoy: reading the usage adds {added:.2f} ms at p99")
    assert added < MOST_ADDED_MS

    def who_read_it() -> set[bool]:
        metadata = [entry.common_properties.metadata.filter_metadata for entry in authz.access_log]
        return {"authz.usage" in each for each in metadata}

    wait_for(lambda: who_read_it() == {True, False})  # one of the two did, the other did not
