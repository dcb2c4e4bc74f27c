"""`authz gateways test` finds each fault of a gateway, and finds it where it is."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cli.careless_gateway import CarelessGateway, Faults
from tests.cli.gateways_lab import ProbedLab, Report, probed_lab
from tests.support.certificates import make_certificates
from tests.support.gateway import Swap
from tests.support.nginx import Nginx

RECEIVES = "what the model server receives"
SECOND = "the second of one request a minute"
TRICKS = ("the path //v1/models", "the path /v1//models", "the path /v1/./models", "the path /v1/x/../models")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ProbedLab]:
    certificates = make_certificates(tmp_path_factory.mktemp("certificates"))
    with probed_lab(tmp_path_factory.mktemp("lab"), certificates) as lab:
        yield lab


def probed(lab: ProbedLab, faults: Faults, *, echo: bool = True) -> Report:
    with CarelessGateway(lab.around("traefik"), faults) as gateway:
        return lab.probe("traefik", gateway.url, echo=echo)


def test_one_without_a_fault_has_none(lab: ProbedLab) -> None:
    report = probed(lab, Faults())
    assert report.those("wrong") == {}
    assert report.those("not seen") == {}
    assert report.code == 0


@pytest.mark.parametrize(
    ("faults", "wrong"),
    [
        (Faults(passes_identity=True), [RECEIVES]),
        (Faults(passes_aliases=True), [RECEIVES]),
        (Faults(passes_key=True), [RECEIVES]),
        (Faults(passes_token=True), ["a chat with x-authz-gateway-token", "no key, but x-authz-user"]),
        (Faults(trusts_path=True), ["another path in X-Forwarded-Uri, X-Original-*"]),
        (Faults(trusts_address=True), ["X-Forwarded-For of the client"]),
        (Faults(normalises=True), [*TRICKS]),
        (Faults(first_authorization=True), ["Authorization twice"]),
        (Faults(buffers=True), ["a stream"]),
        (Faults(turns_429=True), [SECOND]),
        (Faults(bare_429=True), [SECOND]),
        (Faults(any_size=True), ["a body over 4194304 bytes"]),
        (Faults(does_not_settle=True), ["its settlement"]),
        (Faults(no_request_id=True), ["the key: a chat"]),
        (Faults(no_body=True), ["the key: a chat"]),
    ],
    ids=lambda value: (
        next(name for name, on in vars(value).items() if on) if isinstance(value, Faults) else ""
    ),
)
def test_a_fault_is_found(lab: ProbedLab, faults: Faults, wrong: list[str]) -> None:
    report = probed(lab, faults)
    assert sorted(report.those("wrong")) == sorted(wrong), report.told
    assert report.code == 1
    assert all(each["advice"] for each in report.told["findings"] if each["verdict"] == "wrong")


def test_one_that_hands_authz_no_body_is_told_so(lab: ProbedLab) -> None:
    (found,) = [
        each for each in probed(lab, Faults(no_body=True)).told["findings"] if each["verdict"] == "wrong"
    ]
    assert found["seen"] == "400 body_required"
    assert "hand the body on to authz" in found["advice"]


def test_one_that_asks_nobody(lab: ProbedLab) -> None:
    report = probed(lab, Faults(asks_nobody=True))
    assert report.those("wrong")["a chat with a wrong key"] == "200"
    assert report.code == 1


def test_one_that_does_not_prove_itself(lab: ProbedLab) -> None:
    """Plain decisions only: whatever it reports, authz believes nothing."""
    wrong = probed(lab, Faults(shows_no_token=True)).those("wrong")
    assert {"the gateway's proof", "X-Forwarded-For of the client", "its settlement"} <= {*wrong}


def test_without_an_echo_it_says_what_it_could_not_see(lab: ProbedLab) -> None:
    report = probed(lab, Faults(passes_identity=True), echo=False)
    assert RECEIVES in report.those("not seen")
    assert report.code == 0


def test_without_the_store_it_says_what_it_could_not_see(lab: ProbedLab, tmp_path: Path) -> None:
    """As on another machine: the config is there, what authz noted is not."""
    config = lab.service.config.read_text().replace(lab.service.store, "memory://")
    (tmp_path / "authz.yaml").write_text(config)
    with CarelessGateway(lab.around("traefik"), Faults(does_not_settle=True)) as gateway:
        report = lab.probe("traefik", gateway.url, "--config", str(tmp_path / "authz.yaml"))
    assert report.those("wrong") == {}
    unseen = report.those("not seen")
    assert {"the gateway's proof", "its settlement", SECOND, "X-Forwarded-For of the client"} <= {*unseen}
    assert report.verdict("the path //v1/models") == "ok"
    assert report.code == 0


def test_nginx_with_its_buffer_left_on(lab: ProbedLab) -> None:
    class Buffering(Nginx):
        def swaps(self) -> list[Swap]:
            return [*super().swaps(), Swap("proxy_buffering off;", "proxy_buffering on;", times=2)]

    with Buffering(lab.around("nginx", directory="buffering")) as gateway:
        report = lab.probe("nginx", gateway.https, "--ca", str(lab.certificates.authority))
    assert list(report.those("wrong")) == ["a stream"], report.told
