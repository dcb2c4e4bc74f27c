"""`authz render envoy`: the committed file is its output, and Envoy takes whatever it writes."""

import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from authz.gateway.envoy import PARTS
from authz.gateway.render import render
from authz.gateway.settings import (
    Address,
    AuthzTls,
    RenderSettings,
    Tls,
    TokenSource,
    UnusableSettings,
    Upstream,
)
from tests.gateways.forward_auth_contract import with_model
from tests.gateways.rendered_contract import RenderedContract, Run
from tests.support.certificates import CLIENT_URI, Certificates
from tests.support.gateway import REPOSITORY, Around, Swap
from tests.support.model import DemoModel
from tests.support.processes import executable
from tests.support.raw_http import exchange, request_bytes
from tests.support.rendered import Change, Rendered
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.stub_authz import Allowing, StubAuthz

VARIANTS: dict[str, Change] = {
    "as-shipped": lambda settings: settings,
    "client-certificates": lambda s: replace(s, tls=replace(s.tls, client_ca=s.tls.certificate)),
    "several-models": lambda s: replace(
        s,
        upstreams=(
            Upstream("vllm-a", "http://10.0.0.5:8000", ("llama3-8b", "org/llama:70b")),
            Upstream("VLLM.A", "https://models.example"),
            Upstream("six", "http://[::1]:8000"),
        ),
    ),
    "several-authz": lambda s: replace(
        s,
        authz_http=(Address("10.0.0.1", 9000), Address("::1", 9000)),
        authz_grpc=(Address("10.0.0.1", 9001), Address("::1", 9001)),
    ),
    "authz-by-name": lambda s: replace(s, authz_grpc=(Address("authz.internal", 9001),)),
    "named": lambda s: replace(s, server_name="llm.lab"),
    "unproven": lambda s: replace(s, token=None),
    "tls-to-authz": lambda s: replace(s, authz_tls=AuthzTls("authz.lab")),
    "tls-to-authz-unproven": lambda s: replace(s, token=None, authz_tls=AuthzTls("authz.lab")),
    "certificate-to-authz": lambda s: replace(
        s,
        token=None,
        authz_tls=AuthzTls("authz.lab", s.tls.certificate, s.tls.certificate, s.tls.key),
        authz_http=(Address("10.0.0.1", 9000), Address("::1", 9000)),
    ),
    "plain-http": lambda s: replace(s, plain_http=True, http=Address("127.0.0.1", 8080)),
    "other-port": lambda s: replace(s, https=Address("::", 8443)),
    "quick": lambda s: replace(s, auth_timeout=0.25, max_body=1, stream_timeout=60),
}


@pytest.fixture
def settings(certificates: Certificates, tmp_path: Path) -> RenderSettings:
    token = tmp_path / "token"
    token.write_text("a-token")
    return RenderSettings(
        tls=Tls(str(certificates.server), str(certificates.server_key)), token=TokenSource("file", str(token))
    )


def check(path: Path, text: str, **environment: str) -> None:
    """The test fails if Envoy does not take it."""
    path.write_text(text)
    command = [executable("envoy"), "--mode", "validate", "--log-level", "error", "--config-path", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env=environment)
    assert done.returncode == 0, done.stderr


def test_the_committed_file_is_rendered() -> None:
    files = render("envoy", RenderSettings())
    assert (REPOSITORY / "envoy" / "envoy.yaml").read_text() == files["envoy.yaml"], "authz render envoy"
    assert {path.name for path in (REPOSITORY / "envoy").iterdir()} == set(files)


@pytest.mark.parametrize("variant", VARIANTS)
def test_envoy_takes_it(tmp_path: Path, settings: RenderSettings, variant: str) -> None:
    check(tmp_path / "envoy.yaml", render("envoy", VARIANTS[variant](settings))["envoy.yaml"])


def test_the_token_may_come_from_the_environment(tmp_path: Path, settings: RenderSettings) -> None:
    changed = replace(settings, token=TokenSource("env", "GATEWAY_TOKEN"))
    check(tmp_path / "envoy.yaml", render("envoy", changed)["envoy.yaml"], GATEWAY_TOKEN="a-token")


@pytest.mark.parametrize("part", sorted(PARTS))
def test_a_part_stands_in_the_whole_as_it_is(part: str) -> None:
    whole = render("envoy", RenderSettings())["envoy.yaml"]
    text = render("envoy", RenderSettings(), part)[part]
    YAML(typ="safe").load(text)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    assert "\n".join(lines) in "\n".join(line.strip() for line in whole.splitlines() if line.strip())


@pytest.mark.parametrize(
    "unusable",
    [
        RenderSettings(version="1.34.1"),
        RenderSettings(version="new"),
        RenderSettings(server_name="a: {"),
        RenderSettings(upstreams=(Upstream("m x", "http://h"),)),
        RenderSettings(upstreams=(Upstream("m", "http://h", ("new\nline",)),)),
        RenderSettings(tls=Tls(certificate="/a\n  b: c")),
    ],
)
def test_what_envoy_cannot_do_is_refused(unusable: RenderSettings) -> None:
    with pytest.raises(UnusableSettings):
        render("envoy", unusable)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnusableSettings, match="clusters"):
        render("envoy", RenderSettings(), "everything")
    with pytest.raises(UnusableSettings, match="token"):
        render("envoy", RenderSettings(token=None), "secret")


class NothingLeftOut(RenderedEnvoy):
    """Envoy that goes on to ask an authz that fails."""

    name = "rendered-envoy-nothing-left-out"

    def put(self, name: str, text: str, swaps: Sequence[Swap] = ()) -> str:
        never = (
            ("enforcing_consecutive_gateway_failure: 100", "enforcing_consecutive_gateway_failure: 0"),
            (
                "consecutive_5xx: 3",
                "enforcing_consecutive_5xx: 0",
            ),
        )
        return super().put(name, text, [*swaps, *(Swap(find, replace) for find, replace in never)])


def with_another(other: StubAuthz) -> Change:
    """Two authz over gRPC."""
    second = Address("127.0.0.1", other.grpc_port)
    return lambda settings: replace(settings, authz_grpc=(*settings.authz_grpc, second))


def ask(gateway: Rendered, certificates: Certificates) -> int:
    """The status of one request that authz decides."""
    data = request_bytes("POST", "/echo", None, b"{}")
    return exchange(gateway.around.https, data, tls=certificates.trust()).status


def ids(stub: StubAuthz) -> set[str | None]:
    """Envoy's ids of the requests that it was asked about."""
    return {asked.header("x-request-id") for asked in stub.asked}


def statistics(gateway: Rendered) -> str:
    admin = gateway.settings().admin
    assert isinstance(admin, Address)
    with urllib.request.urlopen(f"http://127.0.0.1:{admin.port}/stats", timeout=10) as response:
        return str(response.read(), "utf-8")


def test_a_lease_is_told_to_authz_and_kept_by_envoy() -> None:
    text = render("envoy", RenderSettings(lease_ms=30_000, name="edge"))["envoy.yaml"]
    assert 'can: "edit, lease=30000"' in text
    assert "access_log_flush_interval: 10s" in text
    assert "gateway: edge" in text


class TestRenderedEnvoy(RenderedContract):
    rendered = RenderedEnvoy

    def test_claim_headers_are_set_or_removed(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """Nothing depends on them: over gRPC authz names what is set and what is removed."""
        texts = {
            render("envoy", RenderSettings(claim_headers=names))["envoy.yaml"]
            for names in ((), ("x-is-admin",))
        }
        assert len(texts) == 1

    def test_client_certificates_are_told(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        authority = str(certificates.authority)
        gateway = run(lambda settings: replace(settings, tls=replace(settings.tls, client_ca=authority)))
        forged: Any = [("X-Forwarded-Client-Cert", "forged"), ("X-Client-Cert", "forged")]
        data = request_bytes("GET", "/echo", forged, host="localhost")
        assert exchange(gateway.around.https, data, tls=certificates.trust(with_client=True)).status == 200
        source = authz.last.check.attributes.source
        assert urllib.parse.unquote(source.certificate) == certificates.client.read_text()
        assert source.principal == CLIENT_URI
        assert "forged" not in str(authz.last.headers) + str(model.last().headers)
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert authz.last.check.attributes.source.certificate == ""

    def test_plain_http_without_token(self, run: Run, authz: StubAuthz, model: DemoModel) -> None:
        gateway = run(lambda settings: replace(settings, plain_http=True, token=None))
        data = request_bytes("POST", "/echo", [("X-Authz-Gateway-Token", "guessed")], b"{}")
        assert exchange(gateway.around.http, data, method="POST").status == 200
        assert authz.last.token is None
        assert authz.last.check.attributes.request.http.scheme == "http"
        assert model.last().header("x-authz-user") == "alice"

    def test_two_authz_one_dead(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        with StubAuthz() as other:
            gateway = run(with_another(other))
            before = 0
            while not other.asked:  # the one with the log's stream is chosen less often
                assert ask(gateway, certificates) == 200
                before += 1
            other.stop()
            for _ in range(30):
                assert ask(gateway, certificates) == 200
            assert len(ids(authz) | ids(other)) == before + 30

    def test_two_authz_one_does_not_answer(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        with StubAuthz(answer=Allowing(delay=60)) as other:
            gateway = run(with_another(other))
            while not other.asked:
                assert ask(gateway, certificates) == 200
            assert ids(other) <= ids(authz)  # the same request, so that it is charged once

    def test_two_authz_one_fails_all_the_time(
        self, around: Around, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """The retry alone has to save each request. The log's stream ends up at the other, which looks busier."""
        with StubAuthz(broken=True) as other, NothingLeftOut(around, with_another(other)) as gateway:
            for _ in range(60):
                assert ask(gateway, certificates) == 200
            assert len(other.asked) > 10
            assert ids(other) <= ids(authz)

    def test_two_authz_one_dies_with_many_requests(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """All that it drops is asked again, however much it is at once."""
        with StubAuthz(answer=Allowing(delay=60)) as other:
            # Long enough that no try ends before the other is dead.
            gateway = run(lambda settings: replace(with_another(other)(settings), auth_timeout=60))
            deadline = time.monotonic() + 30

            def until_many_wait(_: int) -> set[int]:
                seen = set()
                while len(other.asked) < 8 and time.monotonic() < deadline:
                    seen.add(ask(gateway, certificates))
                return seen

            with ThreadPoolExecutor(12) as pool:  # fewer than the stub has threads: it answers health checks
                answers = pool.map(until_many_wait, range(12))
                while len(other.asked) < 8:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                other.stop()
            assert set().union(*answers) == {200}
            assert ids(other) <= ids(authz)

    def test_two_authz_both_look_unwell(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """They are asked all the same: what they answer counts, and on a starved machine all may look like it."""
        with StubAuthz() as one, StubAuthz() as other:
            gateway = run(
                lambda settings: replace(
                    settings, authz_grpc=tuple(Address("127.0.0.1", each.grpc_port) for each in (one, other))
                )
            )
            assert ask(gateway, certificates) == 200
            one.look_unwell()
            other.look_unwell()
            assert gateway.process is not None
            gateway.process.wait_until(lambda: "cluster.authz.membership_healthy: 0" in statistics(gateway))
            for _ in range(4):
                assert ask(gateway, certificates) == 200

    def test_two_authz_one_lists_no_models(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        with StubAuthz(answer=Allowing(delay=60)) as other:
            gateway = run(
                lambda settings: replace(
                    settings, authz_http=(*settings.authz_http, Address("127.0.0.1", other.http_port))
                )
            )
            data = request_bytes("GET", "/v1/models")
            while not other.asked:  # hangs
                assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
            other.stop()  # is dead
            for _ in range(4):
                assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200

    def test_a_named_gateway_serves_no_other_host(
        self, around: Around, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        gateway = run(lambda settings: replace(settings, server_name="llm.test"))
        assert with_model(around, around.model)
        for host, status in (("llm.test", 200), ("llm.test:8443", 200), ("other.test", 403)):
            data = request_bytes("GET", "/echo", host=host)
            assert exchange(gateway.around.https, data, tls=certificates.trust()).status == status
        assert len(authz.asked) == 2
