"""The surroundings of a gateway under test: a stub of authz, the demo model, certificates."""

import ssl
from collections.abc import Callable, Iterator

import pytest

from tests.gateways.reported_traffic import Traffic
from tests.support.certificates import Certificates, make_certificates
from tests.support.gateway import Around, RealGateway
from tests.support.model import DemoModel
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.stub_authz import StubAuthz

pytest.register_assert_rewrite("tests.gateways.forward_auth_contract", "tests.gateways.rendered_contract")


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return make_certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def running_stub() -> Iterator[StubAuthz]:
    with StubAuthz() as stub:
        yield stub


@pytest.fixture(scope="module")
def running_model(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoModel]:
    with DemoModel(tmp_path_factory.mktemp("model")) as model:
        yield model


@pytest.fixture(scope="module")
def server() -> Iterator[PiecesServer]:
    """A model server of which the test says every byte."""
    with PiecesServer() as running:
        yield running


@pytest.fixture(scope="module")
def around(
    tmp_path_factory: pytest.TempPathFactory,
    certificates: Certificates,
    running_stub: StubAuthz,
    request: pytest.FixtureRequest,
) -> Around:
    """With the model server that the module names as `MODEL`, by its fixture; else the demo model."""
    server = request.getfixturevalue(getattr(request.module, "MODEL", "running_model"))
    return Around(
        directory=tmp_path_factory.mktemp("gateway"),
        certificates=certificates,
        authz_http=running_stub.http_port,
        authz_grpc=running_stub.grpc_port,
        model=server.port,
    )


@pytest.fixture
def tls(certificates: Certificates) -> ssl.SSLContext:
    return certificates.trust()


@pytest.fixture
def authz(running_stub: StubAuthz) -> StubAuthz:
    """The stub, with nothing asked yet and allowing everything."""
    running_stub.reset()
    return running_stub


@pytest.fixture
def model(running_model: DemoModel) -> DemoModel:
    """The demo model, with nothing received yet."""
    running_model.reset()
    return running_model


@pytest.fixture(scope="module")
def gateway(around: Around, request: pytest.FixtureRequest) -> Iterator[RealGateway]:
    """The gateway that the module names as `GATEWAY`, running."""
    kind: Callable[[Around], RealGateway] = request.module.GATEWAY
    with kind(around) as running:
        yield running


@pytest.fixture
def traffic(gateway: RealGateway, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer) -> Traffic:
    server.will_answer(Pieces(pieces=[b"{}"]))
    return Traffic(gateway.around.https, tls, authz, server)
