"""`authz render traefik`: the committed files are its output, and Traefik takes whatever it writes."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

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
from tests.gateways.forward_auth_contract import KEY, UNAVAILABLE, Headers, ssl_connection
from tests.gateways.rendered_contract import RenderedContract, Run
from tests.support.certificates import Certificates
from tests.support.gateway import REPOSITORY, Around
from tests.support.model import DemoModel, arrival
from tests.support.raw_http import exchange, request_bytes
from tests.support.rendered import with_two_models
from tests.support.rendered_traefik import RenderedTraefik
from tests.support.stub_authz import CLIENT, IDENTITY, Allowing, StubAuthz
from tests.support.websocket import connect

SPELLINGS = [
    "X_Authz_User",
    "X-Authz_User",
    "X.Authz.User",
    "X-Authz.Team",
    "X_Forwarded_Uri",
    "X.Original.Url",
]


def test_the_committed_files_are_rendered() -> None:
    files = render("traefik", RenderSettings())
    found = {str(path.relative_to(REPOSITORY / "traefik")): path for path in _files(REPOSITORY / "traefik")}
    assert set(found) == set(files)
    for name, text in files.items():
        assert found[name].read_text() == text, f"authz render traefik: {name}"


def _files(directory: Path) -> list[Path]:
    return [path for path in directory.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    "unusable",
    [
        RenderSettings(version="3.6.2"),
        RenderSettings(version="2.11"),
        RenderSettings(version="new"),
        RenderSettings(server_name="a`) || Path(`/"),
        RenderSettings(server_name="*"),
        RenderSettings(upstreams=(Upstream("m x", "http://h"),)),
        RenderSettings(authz_http=(Address("10.0.0.1", 9000), Address("10.0.0.2", 9000))),
        RenderSettings(tls=Tls(certificate="/a\n  b: c")),
        RenderSettings(claim_headers=("x-a b",)),
        RenderSettings(authz_tls=AuthzTls("authz.lab", certificate="/a b", key="/k")),
    ],
)
def test_what_traefik_cannot_do_is_refused(unusable: RenderSettings) -> None:
    with pytest.raises(UnusableSettings):
        render("traefik", unusable)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnusableSettings, match="middlewares"):
        render("traefik", RenderSettings(), "everything")


@pytest.mark.parametrize(
    ("version", "known"), [(None, True), ("3.7", True), ("v3.7.12", True), ("3.7.6", False)]
)
def test_an_older_traefik_is_spared_what_it_does_not_know(version: str | None, known: bool) -> None:
    text = render("traefik", RenderSettings(version=version), "static")["static"]
    assert ("aliasHeadersStrategy" in text) is known


def test_only_proxies_that_are_named_are_believed() -> None:
    assert "trustedIPs:" not in render("traefik", RenderSettings())["traefik.yml"]
    files = render("traefik", RenderSettings(trusted_hops=("10.0.0.0/8", "2001:db8::/32")))
    assert files["traefik.yml"].count('trustedIPs: ["10.0.0.0/8", "2001:db8::/32"]') == 1
    assert files["dynamic.yml"].count("trustedHops: true") == 1  # the other guard takes the same over


@pytest.mark.parametrize("part", ["middlewares", "routers"])
def test_a_part_stands_in_the_whole_as_it_is(part: str) -> None:
    whole = render("traefik", RenderSettings())["dynamic.yml"]
    text = render("traefik", RenderSettings(), part)[part]
    assert "\n".join(f"    {line}" for line in text.splitlines()) in whole


@pytest.mark.parametrize("token", ["", "two words"])
def test_without_a_usable_token_it_serves_nothing(around: Around, tmp_path: Path, token: str) -> None:
    class Broken(RenderedTraefik):
        def token_file(self) -> Path:
            path = self.directory / "gateway-token"
            path.write_text(token)
            return path

        def answers(self) -> bool:
            return "authzguard: the token is empty or not one word" in self.log and self.status() == 404

        def status(self) -> int | None:
            """None until the certificate is there, which is after the plugins."""
            data = request_bytes("GET", "/echo")
            try:
                return exchange(self.around.https, data, tls=around.certificates.trust()).status
            except OSError:
                return None

    with Broken(replace(around, directory=tmp_path)) as gateway:
        assert gateway.status() == 404


class TestRenderedTraefik(RenderedContract):
    rendered = RenderedTraefik

    def test_client_certificates_are_told(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        authority = str(certificates.authority)
        gateway = run(lambda settings: replace(settings, tls=replace(settings.tls, client_ca=authority)))
        forged: Any = [
            ("X-Forwarded-Tls-Client-Cert", "forged"),
            ("X-Forwarded-Uri", "/forged"),
            ("X-Forwarded-Method", "FORGED"),
            ("X-Forwarded-For", "10.9.8.7"),
        ]
        data = request_bytes("POST", "/echo?x=1", forged, b"{}", host="localhost")
        assert exchange(gateway.around.https, data, tls=certificates.trust(with_client=True)).status == 200
        told = authz.last.header("x-forwarded-tls-client-cert") or ""
        pem = "".join(certificates.client.read_text().splitlines()[1:-1])
        assert told.split(",")[0] == pem  # its authority follows
        assert authz.last.header("x-forwarded-uri") == "/echo?x=1"
        assert authz.last.header("x-forwarded-method") == "POST"
        assert authz.last.header("x-forwarded-for") == "127.0.0.1"
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert authz.last.header("x-forwarded-tls-client-cert") in (None, "")
        assert "forged" not in str(authz.last.headers).lower() + str(model.last().headers).lower()

    def test_two_authz_one_dead(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """Traefik asks one address, which a name can make several."""
        with pytest.raises(UnusableSettings, match="one address"):
            run(lambda settings: replace(settings, authz_http=settings.authz_http * 2))

    def test_the_token_may_come_from_the_environment(
        self, run: Run, authz: StubAuthz, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("GATEWAY_TOKEN", "token-of-the-environment")
        gateway = run(lambda settings: replace(settings, token=TokenSource("env", "GATEWAY_TOKEN")))
        data = request_bytes("GET", "/echo")
        assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
        assert authz.last.token == "token-of-the-environment"

    def test_26_27_28_the_plugin_alone_removes_every_spelling(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        """As with a Traefik that cannot refuse such names."""
        gateway = run(lambda settings: replace(settings, version="3.7.0"))
        for identity in (tuple(IDENTITY.items()), ()):
            authz.answer = Allowing(upstream=identity)
            spoofed: Headers = [(name, "spoofed") for name in SPELLINGS]
            data = request_bytes("GET", "/echo", spoofed)
            assert exchange(gateway.around.https, data, tls=certificates.trust()).status == 200
            assert "spoofed" not in str(authz.last.headers) + str(model.last().headers)

    def test_a_named_gateway_serves_no_other_host(
        self, run: Run, authz: StubAuthz, model: DemoModel, certificates: Certificates
    ) -> None:
        gateway = run(lambda settings: replace(settings, server_name="llm.test"))
        for host, status in (("llm.test", 200), ("other.test", 404)):
            data = request_bytes("GET", "/echo", host=host)
            assert exchange(gateway.around.https, data, tls=certificates.trust()).status == status
        assert len(authz.asked) == 1

    def test_the_plugins_own_proxy_is_as_good(
        self,
        run: Run,
        authz: StubAuthz,
        model: DemoModel,
        certificates: Certificates,
        tmp_path_factory: pytest.TempPathFactory,
    ) -> None:
        """With several model servers: streams, WebSockets, paths, headers, a dead one."""
        other = DemoModel(tmp_path_factory.mktemp("other"))
        gateway = run(with_two_models(other.port))
        tls = certificates.trust()
        authz.answer = Allowing(upstream=(*IDENTITY.items(), ("x-authz-backend", "model")))

        target = "/echo/a%20b//c;d?x=%2F&y&key="
        data = request_bytes("POST", target, [("Authorization", KEY), ("Connection", "x-authz-user")], b"{}")
        response = exchange(gateway.around.https, data, tls=tls)
        assert response.status == 200
        received = model.last()
        assert (received.target, received.body) == (target, "{}")
        assert authz.last.header("x-forwarded-uri") == target
        assert received.header("host") == "llm.test"
        assert received.header("x-authz-user") == "alice"
        assert received.header("x-forwarded-for") == "127.0.0.1"
        assert KEY not in str(received)
        for name, value in CLIENT:
            assert [v for n, v in response.headers if n == name] == [value]

        body = json.dumps({"model": "demo", "stream": True, "max_tokens": 10}).encode()
        data = request_bytes("POST", "/v1/chat/completions", [("X-Demo-Interval-Ms", "40")], body)
        lags = []
        with ssl_connection(gateway.around.https, tls) as connection, connection.makefile("rb") as reader:
            connection.sendall(data)
            for line in reader:
                if arrived := arrival(line.decode()):
                    lags.append(arrived.lag_ms)
        assert len(lags) >= 10
        assert max(lags) < 200, lags

        with connect(f"wss://localhost:{gateway.around.https}/ws", ssl=tls) as echo:
            echo.send("hello")
            assert echo.recv(timeout=5) == "hello"

        authz.answer = Allowing(upstream=(*IDENTITY.items(), ("x-authz-backend", "other")))
        response = exchange(gateway.around.https, request_bytes("GET", "/echo?key=secret"), tls=tls)
        assert (response.status, response.json()["error"]["code"]) == (502, "upstream_unavailable")
        assert response.header("ratelimit") == dict(CLIENT)["ratelimit"]
        assert "secret" not in gateway.log

    def test_authz_chooses_none(
        self, run: Run, authz: StubAuthz, certificates: Certificates, model: DemoModel
    ) -> None:
        gateway = run(with_two_models(1))
        response = exchange(gateway.around.https, request_bytes("GET", "/echo"), tls=certificates.trust())
        assert (response.status, response.json()) == (503, UNAVAILABLE)
        assert not model.received()

    def test_a_stream_outlives_the_time_for_reading_a_request(
        self, run: Run, authz: StubAuthz, certificates: Certificates, model: DemoModel
    ) -> None:
        gateway = run(lambda settings: replace(settings, auth_timeout=0.5))
        body = json.dumps({"model": "demo", "stream": True, "max_tokens": 6}).encode()
        data = request_bytes("POST", "/v1/chat/completions", [("X-Demo-Interval-Ms", "200")], body)
        begun = time.monotonic()
        response = exchange(gateway.around.https, data, tls=certificates.trust())
        assert response.body.endswith(b"data: [DONE]\n\n")
        assert time.monotonic() - begun > 1
