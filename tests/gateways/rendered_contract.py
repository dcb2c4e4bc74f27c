"""What rendered configurations have to do, each run in the real gateway."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, ClassVar

import pytest

from tests.gateways.forward_auth_contract import with_model
from tests.support.certificates import Certificates
from tests.support.gateway import Around
from tests.support.model import DemoModel
from tests.support.ports import free_port
from tests.support.raw_http import exchange, request_bytes
from tests.support.rendered import Change, Rendered, with_two_models
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

Run = Callable[[Change], Rendered]


class RenderedContract:
    """`rendered` is the gateway."""

    rendered: ClassVar[type[Rendered]]

    @pytest.fixture
    def run(self, around: Around) -> Iterator[Run]:
        """Run the gateway with changed settings, until the test ends."""
        running: list[Rendered] = []

        def run(change: Change) -> Rendered:
            gateway = self.rendered(with_model(around, around.model), change)
            running.append(gateway)
            gateway.start()
            return gateway

        yield run
        for gateway in running:
            gateway.stop()

    def test_authz_chooses_among_models(
        self,
        run: Run,
        authz: StubAuthz,
        model: DemoModel,
        certificates: Certificates,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        with DemoModel(tmp_path_factory.mktemp("other")) as other:
            gateway = run(with_two_models(other.port))

            def send(*chosen: tuple[str, str]) -> int:
                model.reset()
                other.reset()
                authz.answer = Allowing(upstream=(*IDENTITY.items(), *chosen))
                spoofed: Any = [("X-Authz-Backend", "other")]
                data = request_bytes("GET", "/echo", spoofed)
                return exchange(gateway.around.https, data, tls=certificates.trust()).status

            assert send(("x-authz-backend", "model")) == 200
            assert (len(model.received()), len(other.received())) == (1, 0)
            assert "x-authz-backend" not in model.last().names
            assert send(("x-authz-backend", "other")) == 200
            assert (len(model.received()), len(other.received())) == (0, 1)
            assert send(("x-authz-backend", "unheard-of")) == 503
            assert send() == 503
            assert (len(model.received()), len(other.received())) == (0, 0)

    def test_claim_headers_are_set_or_removed(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        gateway = run(lambda settings: replace(settings, claim_headers=("x-is-admin", "x-paypal")))
        authz.answer = Allowing(upstream=(*IDENTITY.items(), ("x-is-admin", "false")))
        data = request_bytes(
            "GET", "/echo", [("X-Is-Admin", "true"), ("X-Authz-User", "admin"), ("X-Other", "1")]
        )
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert model.last().header("x-is-admin") == "false"
        assert model.last().header("x-other") == "1"
        authz.answer = Allowing(remove=("x-is-admin",))
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert "x-is-admin" not in model.last().names

    def test_client_certificates_are_told(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        authority = str(certificates.authority)
        gateway = run(lambda settings: replace(settings, tls=replace(settings.tls, client_ca=authority)))
        forged: Any = [("X-Client-Cert", "forged"), ("X-Client-Verify", "SUCCESS")]
        data = request_bytes("GET", "/echo", forged, host="localhost")
        with_certificate = certificates.trust(with_client=True)
        assert exchange(gateway.around.https, data, tls=with_certificate).status == 200
        self.check_certificate(authz, certificates)
        assert not model.last().names & {"x-client-cert", "x-client-verify"}
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert authz.last.header("x-client-cert") in (None, "")
        assert authz.last.header("x-client-verify") in (None, "NONE")

    def check_certificate(self, authz: StubAuthz, certificates: Certificates) -> None:
        """The gateway told the certificate in its own dialect."""
        raise NotImplementedError

    def test_plain_http_without_token(self, run: Run, authz: StubAuthz, model: DemoModel) -> None:
        gateway = run(lambda settings: replace(settings, plain_http=True, token=None))
        data = request_bytes("POST", "/echo", [("X-Authz-Gateway-Token", "guessed")], b"{}")
        assert exchange(gateway.around.http, data, method="POST").status == 200
        assert authz.last.token is None
        assert authz.last.header("x-forwarded-proto") == "http"
        assert model.last().header("x-authz-user") == "alice"

    def test_two_authz_one_dead(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        dead = free_port()
        gateway = run(
            lambda settings: replace(
                settings, authz_http=(replace(settings.authz_http[0], port=dead), *settings.authz_http)
            )
        )
        for _ in range(6):
            data = request_bytes("POST", "/echo", None, b"{}")
            assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert len(authz.asked) == 6
