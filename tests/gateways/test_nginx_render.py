"""`authz render nginx`: the committed files are its output, and nginx takes whatever it writes."""

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote

import pytest

from authz.gateway.nginx import backends
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
from tests.gateways.rendered_contract import RenderedContract, Run
from tests.support.certificates import Certificates
from tests.support.gateway import REPOSITORY
from tests.support.model import DemoModel
from tests.support.nginx import command
from tests.support.raw_http import exchange, request_bytes
from tests.support.rendered import RenderedNginx, RenderedNginxWithoutNjs
from tests.support.scripted_server import ScriptedServer
from tests.support.stub_authz import StubAuthz

Change = Callable[[RenderSettings], RenderSettings]

VARIANTS: dict[str, Change] = {
    "as-shipped": lambda settings: settings,
    "client-certificates": lambda s: replace(s, tls=replace(s.tls, client_ca=s.tls.certificate)),
    "several-models": lambda s: replace(
        s,
        upstreams=(
            Upstream("vllm-a", "http://10.0.0.5:8000", ("llama3-8b", "org/llama:70b")),
            Upstream("VLLM.A", "https://127.0.0.1"),
            Upstream("six", "http://[::1]:8000"),
        ),
    ),
    "several-authz": lambda s: replace(s, authz_http=(Address("10.0.0.1", 9000), Address("::1", 9000))),
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
    "quick": lambda s: replace(s, auth_timeout=0.25, max_body=1, stream_timeout=60),
    "own-request-ids": lambda s: replace(s, own_request_ids=True),
    "claims": lambda s: replace(s, claim_headers=("x-is-admin", "x-paypal")),
}


def test_the_committed_files_are_rendered() -> None:
    for name, text in render("nginx", RenderSettings()).items():
        assert (REPOSITORY / "nginx" / name).read_text() == text, (
            f"write nginx/{name} again: authz render nginx"
        )
    assert {path.name for path in (REPOSITORY / "nginx").iterdir()} == set(render("nginx", RenderSettings()))


def check(tmp_path: Path, configuration: str) -> str:
    """What `nginx -t` says. The test fails if it says no."""
    (tmp_path / "nginx.conf").write_text(configuration)
    argv = command(str(tmp_path), str(tmp_path / "nginx.conf"), "-t", "-q")
    done = subprocess.run(argv, capture_output=True, text=True, timeout=20, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr


@pytest.fixture
def settings(tmp_path: Path, certificates: Certificates) -> RenderSettings:
    (tmp_path / "gateway-token.conf").write_text('set $authz_gateway_token "t";\n')
    return RenderSettings(
        tls=Tls(str(certificates.server), str(certificates.server_key)),
        token=TokenSource("file", str(tmp_path / "gateway-token")),
    )


@pytest.mark.parametrize("part", ["all", "auth-request"])
@pytest.mark.parametrize("variant", VARIANTS)
def test_nginx_takes_it(tmp_path: Path, settings: RenderSettings, variant: str, part: str) -> None:
    changed = VARIANTS[variant](settings)
    (tmp_path / "authz.js").write_text(render("nginx", changed, "js")["js"])
    (tmp_path / "authz-usage.js").write_text(render("nginx", changed, "js-usage")["js-usage"])
    text = render("nginx", changed, part)[part].replace("pid /run/nginx.pid;", f"pid {tmp_path}/nginx.pid;")
    assert check(tmp_path, text) == ""  # not even a warning


def test_the_parts_fit_into_an_nginx_that_exists(tmp_path: Path, settings: RenderSettings) -> None:
    names = {"http": "http.conf", "server": "server.conf", "js": "authz.js", "js-usage": "authz-usage.js"}
    for part, name in names.items():
        (tmp_path / name).write_text(render("nginx", settings, part)[part])
    check(
        tmp_path,
        f"pid {tmp_path}/nginx.pid; events {{}} http {{ include http.conf; include server.conf; }}",
    )


def test_names_of_models_stay_apart() -> None:
    made = backends([Upstream(name, "http://h") for name in ("a.b", "a-b", "A_B")])
    assert len({backend.group for backend in made}) == 3


@pytest.mark.parametrize("version", ["1.30", "1.22.1", "v1.29.8"])
def test_an_older_nginx_is_told_what_to_do(version: str) -> None:
    old = RenderSettings(version=version)
    with pytest.raises(UnusableSettings, match="auth-request"):
        render("nginx", old)
    assert "auth_request /_authz;" in render("nginx", old, "auth-request")["auth-request"]


@pytest.mark.parametrize(
    "unusable",
    [
        RenderSettings(server_name="a; include /etc/passwd"),
        RenderSettings(upstreams=(Upstream('m" x', "http://h"),)),
        RenderSettings(upstreams=(Upstream("m", "http://h", ("new\nline",)),)),
        RenderSettings(tls=Tls(certificate="/a b")),
        RenderSettings(token=TokenSource("file", "/$x")),
        RenderSettings(claim_headers=("x-a;",)),
        RenderSettings(version="new"),
    ],
)
def test_words_that_end_a_directive_are_refused(unusable: RenderSettings) -> None:
    with pytest.raises(UnusableSettings):
        render("nginx", unusable)


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnusableSettings, match="auth-request"):
        render("nginx", RenderSettings(), "everything")


class TestRenderedNginx(RenderedContract):
    rendered = RenderedNginx

    @pytest.mark.parametrize("own_request_ids", [True, False], ids=["own-ids", "ids-of-authz"])
    def test_two_authz_one_hangs_up(
        self,
        run: Run,
        authz: StubAuthz,
        model: DemoModel,
        certificates: Certificates,
        own_request_ids: bool,
    ) -> None:
        """A question that was heard is repeated only to an authz that knows it again. The request never is."""

        def change(settings: RenderSettings) -> RenderSettings:
            both = (Address("127.0.0.1", hanging_up.port), *settings.authz_http)
            return replace(settings, authz_http=both, own_request_ids=own_request_ids)

        with ScriptedServer(b"") as hanging_up:
            gateway = run(change)
            data = request_bytes("POST", "/echo", None, b"{}")
            answers = [exchange(gateway.around.https, data, tls=certificates.trust()).status]
            while not hanging_up.asked:
                answers.append(exchange(gateway.around.https, data, tls=certificates.trust()).status)
            (heard,) = hanging_up.asked
        told = [asked.header("x-request-id") for asked in authz.asked]
        assert len(set(told)) == len(told)
        repeated = [each for each in told if each is not None and each.encode() in heard]
        assert len(repeated) == own_request_ids
        assert answers[-1] == (200 if own_request_ids else 503)
        assert len(model.received()) == answers.count(200)

    def check_certificate(self, authz: StubAuthz, certificates: Certificates) -> None:
        assert authz.last.header("x-client-verify") == "SUCCESS"
        assert unquote(authz.last.header("x-client-cert") or "") == certificates.client.read_text()


class TestRenderedNginxWithoutNjs(TestRenderedNginx):
    rendered = RenderedNginxWithoutNjs

    def test_two_authz_one_dead(self) -> None:  # type: ignore[override]
        """Without request ids of its own it asks one authz only: it sees a GET, and would ask twice."""
        text = render("nginx", RenderSettings(), "auth-request")["auth-request"]
        assert "proxy_next_upstream off; # a question is asked once" in text
