"""`authz gateways test` against the four gateways as we ship them: nothing is wrong, and all of it was seen."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.conftest import CONFIG, Authz
from tests.cli.gateways_lab import ProbedLab, probed_lab
from tests.support.caddy import Caddy
from tests.support.certificates import make_certificates
from tests.support.envoy import Envoy
from tests.support.gateway import RealGateway
from tests.support.nginx import Nginx
from tests.support.ports import free_port
from tests.support.scripted_server import ScriptedServer
from tests.support.traefik import Traefik


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedLab]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with probed_lab(tmp_path_factory.mktemp("lab"), certificates) as lab:
        yield lab


@pytest.mark.parametrize("kind", [Envoy, Traefik, Nginx, Caddy], ids=lambda kind: kind.name)
def test_a_gateway_as_shipped_is_all_green(lab: ProbedLab, kind: type[RealGateway]) -> None:
    with kind(lab.around(kind.name)) as gateway:
        report = lab.probe(kind.name, gateway.https, "--ca", str(lab.certificates.authority))
    assert report.those("wrong") == {}, report.told
    assert report.those("not seen") == {}
    assert report.code == 0
    assert report.told["ok"] == len(report.told["findings"]) >= 28


def test_its_key_is_revoked_and_its_cost_is_told(lab: ProbedLab) -> None:
    with Nginx(lab.around("nginx", directory="again")) as gateway:
        told = lab.probe("nginx", gateway.https, "--ca", str(lab.certificates.authority)).told
    made = [key for key in list(lab.service.registry.keys()) if key.name == "of authz gateways test"]
    assert made
    assert all(key.revoked_at is not None for key in made)
    assert told["asked"]["requests"] < 40
    assert told["asked"]["chats"] <= 10
    assert lab.key not in json.dumps(told)


EDGE = "gateways:\n  edge: {kind: nginx, token: token-of-nginx-in-the-tests}\n"


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["egde", "--url", "http://127.0.0.1:1", "--key", "-"], 1, "Did you mean 'edge'?"),
        (["edge", "--url", "llm.lab", "--key", "-"], 2, "scheme, host and port, such as https://llm.lab"),
        (["edge", "--url", "https://llm.lab/v1", "--key", "-"], 2, "scheme, host and port"),
        (["edge", "--url", "http://127.0.0.1:1", "--key", "sk-az-1234567890"], 2, "a key is no argument"),
        (
            ["edge", "--url", "http://127.0.0.1:1", "--key", "-", "--header", "cookie=a"],
            2,
            "may hold a secret",
        ),
        (["edge", "--url", "http://127.0.0.1:1", "--key", "-", "--ca", "/nowhere"], 0, ""),
        (["edge", "--url", "https://127.0.0.1:1", "--key", "-", "--ca", "/nowhere"], 1, "/nowhere holds no"),
        (["edge", "--key", "-"], 2, "--url"),
    ],
    ids=["name", "scheme", "path", "key", "header", "ca-of-http", "ca", "no-url"],
)
def test_what_cannot_be_probed(
    authz: Authz, config: Path, arguments: list[str], code: int, message: str
) -> None:
    config.write_text(EDGE + CONFIG)
    port = free_port()
    arguments = [each.replace("127.0.0.1:1", f"127.0.0.1:{port}") for each in arguments]
    ran = authz("gateways", "test", *arguments, stdin="sk-az-whatever")
    assert ran.code == (code or 1)
    assert (message or "nothing answers at") in ran.err
    assert "sk-az-1234567890" not in ran.err
    assert ran.out == ""


def test_one_that_answers_everything_alike(authz: Authz, config: Path) -> None:
    config.write_text(EDGE + CONFIG)
    with ScriptedServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as server:
        url = f"http://127.0.0.1:{server.port}"
        ran = authz("gateways", "test", "edge", "--url", url, "--key", "-", stdin="sk-az-whatever")
    assert ran.code == 1
    rows = [line.split("\t") for line in ran.out.splitlines()[1:]]
    verdicts = {probe: verdict for probe, _, _, verdict, _ in rows}
    assert verdicts["no key"] == verdicts["a wrong key"] == verdicts["the key: GET /v1/models"] == "wrong"
    assert verdicts["everything else"] == "not seen"
    assert "4 wrong, 1 not seen" in ran.err


def test_on_a_terminal_the_advice_stands_below(authz: Authz, config: Path) -> None:
    config.write_text(EDGE + CONFIG)
    with ScriptedServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok") as server:
        url = f"http://127.0.0.1:{server.port}"
        line = ("gateways", "test", "edge", "--url", url, "--key", "-")
        ran = authz(*line, stdin="sk-az-whatever", terminal=True)
    assert "advice" not in ran.out
    assert "\nno key: the gateway does not ask authz here" in ran.out
