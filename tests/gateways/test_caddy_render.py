"""`authz render caddy`: the committed file is its output, and Caddy takes whatever it writes."""

import base64
import os
import ssl
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

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
from tests.gateways.rendered_contract import RenderedContract
from tests.support.caddy import scratch_home
from tests.support.certificates import Certificates
from tests.support.gateway import REPOSITORY
from tests.support.processes import executable
from tests.support.rendered import RenderedCaddy
from tests.support.stub_authz import StubAuthz

Change = Callable[[RenderSettings], RenderSettings]

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
    "token-from-environment": lambda s: replace(s, token=TokenSource("env", "GATEWAY_TOKEN")),
    "plain-http": lambda s: replace(s, plain_http=True, http=Address("127.0.0.1", 8080)),
    "quick": lambda s: replace(s, auth_timeout=0.25, max_body=1, stream_timeout=60),
    "log-nowhere": lambda s: replace(s, log=None),
    "claims": lambda s: replace(s, claim_headers=("x-is-admin", "x-paypal")),
}


def test_the_committed_file_is_rendered() -> None:
    files = render("caddy", RenderSettings())
    assert (REPOSITORY / "caddy" / "Caddyfile").read_text() == files["Caddyfile"], "authz render caddy"
    assert {path.name for path in (REPOSITORY / "caddy").iterdir()} == set(files)


def run(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [executable("caddy"), *arguments],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
        env={**os.environ, **scratch_home(str(tmp_path))},
    )


def check(tmp_path: Path, text: str) -> None:
    """The test fails if Caddy does not take it, or would format it differently."""
    path = tmp_path / "Caddyfile"
    path.write_text(text)
    done = run(tmp_path, "validate", "--adapter", "caddyfile", "--config", str(path))
    assert done.returncode == 0, done.stderr
    assert "not formatted" not in done.stderr


@pytest.fixture
def settings(certificates: Certificates) -> RenderSettings:
    return RenderSettings(tls=Tls(str(certificates.server), str(certificates.server_key)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_caddy_takes_it(tmp_path: Path, settings: RenderSettings, variant: str) -> None:
    check(tmp_path, render("caddy", VARIANTS[variant](settings))["Caddyfile"])


def test_the_parts_fit_into_a_caddyfile_that_exists(tmp_path: Path, settings: RenderSettings) -> None:
    snippets = render("caddy", settings, "snippets")["snippets"]
    (tmp_path / "site").write_text(render("caddy", settings, "site")["site"])
    (tmp_path / "log").write_text(render("caddy", settings, "log")["log"])
    check(
        tmp_path, f"{{\n\timport {tmp_path}/log\n}}\n\n{snippets}\nllm.lab {{\n\timport {tmp_path}/site\n}}\n"
    )


@pytest.mark.parametrize(
    "unusable",
    [
        RenderSettings(version="2.9.1"),
        RenderSettings(version="new"),
        RenderSettings(server_name="a {"),
        RenderSettings(upstreams=(Upstream("m x", "http://h"),)),
        RenderSettings(upstreams=(Upstream("m", "http://h", ("new\nline",)),)),
        RenderSettings(tls=Tls(certificate="/{env.HOME}")),
        RenderSettings(token=TokenSource("file", "/a} {")),
        RenderSettings(claim_headers=("x-a b",)),
    ],
)
def test_what_caddy_cannot_do_is_refused(unusable: RenderSettings) -> None:
    with pytest.raises(UnusableSettings):
        render("caddy", unusable)


def test_the_part_of_the_log_needs_an_address() -> None:
    with pytest.raises(UnusableSettings, match="9004"):
        render("caddy", RenderSettings(log=None), "log")


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(UnusableSettings, match="snippets"):
        render("caddy", RenderSettings(), "everything")


class TestRenderedCaddy(RenderedContract):
    rendered = RenderedCaddy

    def check_certificate(self, authz: StubAuthz, certificates: Certificates) -> None:
        told = base64.b64decode(authz.last.header("x-client-cert") or "", validate=True)
        assert told == ssl.PEM_cert_to_DER_cert(certificates.client.read_text())
