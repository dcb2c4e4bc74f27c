"""`decisions.tls` in the config: what is read at once, what is doubtful, what cannot be rendered."""

from pathlib import Path

import pytest

from authz.config import ConfigErrors, load
from authz.config.load import Loaded
from authz.gateway.from_config import settings_for
from authz.gateway.settings import UnusableSettings
from tests.mtls.lab import Certified

GATEWAYS = """
  edge: {kind: nginx, mtls: {subjects: [edge.lab]}}
  old: {kind: envoy, token: token-of-the-old-envoy-in-the-tests}
"""


@pytest.fixture
def certified(tmp_path: Path) -> Certified:
    return Certified(tmp_path / "tls")


def loaded(tmp_path: Path, tls: str, *, http: str = "127.0.0.1:9000") -> Loaded:
    path = tmp_path / "authz.yaml"
    path.write_text(f"decisions: {{http: {http}, tls: {tls}}}\ngateways: {GATEWAYS}")
    return load(path)


def test_its_files_are_watched(tmp_path: Path, certified: Certified) -> None:
    read = loaded(tmp_path, certified.tls)
    assert {certified.server.cert, certified.server.key, certified.authority.file} <= read.files
    before = read.digest
    certified.servers.issue("authz", server=True)
    assert loaded(tmp_path, certified.tls).digest != before


def test_a_key_that_others_can_read_and_an_envoy_that_is_kept_out(
    tmp_path: Path, certified: Certified
) -> None:
    certified.server.key.chmod(0o644)
    said = [str(problem) for problem in loaded(tmp_path, certified.tls).warnings]
    assert [line for line in said if "others can read the private key (mode 0644); chmod 600 it" in line]
    assert [line for line in said if "keeps out whoever shows no certificate: give it `mtls`" in line]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        ("no file", "cannot be read: No such file"),
        ("no certificate", "are not a certificate in PEM and the key that belongs to it"),
        ("another key", "are not a certificate in PEM and the key that belongs to it"),
        ("no authority", "holds no certificate in PEM"),
    ],
)
def test_what_cannot_be_used_is_said_at_once(
    tmp_path: Path, certified: Certified, spoil: str, said: str
) -> None:
    match spoil:
        case "no file":
            certified.server.cert.unlink()
        case "no certificate":
            certified.server.cert.write_text("hunter2")
        case "another key":
            certified.server.key.write_bytes(certified.envoy.key.read_bytes())
        case "no authority":
            certified.authority.file.write_text("hunter2")
    with pytest.raises(ConfigErrors) as raised:
        loaded(tmp_path, certified.tls)
    (problem,) = [str(each) for each in raised.value.problems]
    assert said in problem
    assert ":1:" in problem
    assert "hunter2" not in problem


def test_a_name_is_needed_where_the_address_has_none(tmp_path: Path, certified: Certified) -> None:
    tls = certified.tls.replace(", server_name: localhost", "")
    with pytest.raises(UnusableSettings, match="server_name"):
        settings_for(loaded(tmp_path, tls).config, "edge")
    made = settings_for(loaded(tmp_path, tls, http="localhost:9000").config, "edge").authz_tls
    assert made is not None
    assert (made.server_name, made.authority) == ("localhost", str(certified.servers.file))
    assert (made.certificate, made.key) == ("/etc/authz/tls/gateway.crt", "/etc/authz/tls/gateway.key")


def test_an_envoy_that_would_be_kept_out_is_not_rendered(tmp_path: Path, certified: Certified) -> None:
    config = loaded(tmp_path, certified.tls).config
    with pytest.raises(UnusableSettings, match="gRPC"):
        settings_for(config, "old")
    without = certified.tls.replace(f" client_ca: {certified.authority.file},", "")
    (tmp_path / "token").write_text("t" * 20)
    decisions = f"decisions: {{http: localhost:9000, tls: {without}}}"
    gateways = "gateways: {old: {kind: envoy, token: {file: token}}}"
    (tmp_path / "authz.yaml").write_text(f"{decisions}\n{gateways}\n")
    made = settings_for(load(tmp_path / "authz.yaml").config, "old")
    assert made.authz_tls is not None
    assert (made.authz_tls.certificate, made.proven) == (None, True)
