"""Each real gateway, as rendered, proves itself by its certificate alone, and by no other's (invariant 10)."""

import json
from collections.abc import Iterator

import pytest
from cryptography import x509

from authz.store.open import open_view
from authz.store.records import Entry, Source
from tests.acceptance.lab import eventually
from tests.mtls.lab import GATEWAYS, UPSTREAM, Lab, shows
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered import Rendered, RenderedNginxWithoutNjs

Headers = list[tuple[str | bytes, str | bytes]]


@pytest.fixture(scope="module", params=GATEWAYS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def gateway(lab: Lab, kind: str) -> Iterator[Rendered]:
    with lab.gateway(kind) as gateway:
        yield gateway


def ask(lab: Lab, gateway: Rendered, target: str, key: str | None = None, body: bytes = b"") -> RawResponse:
    lab.model.reset()
    headers: Headers = [("Authorization", f"Bearer {key}")] if key else []
    headers += [("Content-Type", "application/json")] if body else []
    data = request_bytes("POST" if body else "GET", target, headers, body=body, host="localhost")
    return exchange(gateway.around.https, data, tls=lab.certificates.trust())


def test_it_gets_the_upstream_credential(lab: Lab, gateway: Rendered) -> None:
    assert ask(lab, gateway, "/echo/headers", lab.key().key).status == 200
    (received,) = lab.model.received()
    assert received.header("authorization") == f"Bearer {UPSTREAM}"


def test_what_it_says_of_its_client_is_believed(lab: Lab, gateway: Rendered) -> None:
    assert ask(lab, gateway, "/echo/here").status == 200


def test_it_gets_the_list_of_models(lab: Lab, gateway: Rendered) -> None:
    answer = ask(lab, gateway, "/v1/models", lab.key().key)
    assert [model["id"] for model in answer.json()["data"]] == ["demo"]


def test_it_settles(lab: Lab, gateway: Rendered, kind: str) -> None:
    """Caddy tells bytes only, all others what the model server counted."""
    minted = lab.key()
    chat = {"model": "demo", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}
    assert ask(lab, gateway, "/v1/chat/completions", minted.key, json.dumps(chat).encode()).status == 200
    entries: list[Entry] = []

    def settled() -> bool:
        ledger = open_view(lab.service.store).ledger
        entries[:] = [each for each in ledger.entries(limit=50) if each.facts.key == minted.id]
        return bool(entries)

    eventually(settled)
    assert [each.gateway for each in entries] == [kind]
    assert (entries[0].note.source is Source.REPORTED) is (kind != "caddy")


def test_nginx_without_njs(lab: Lab) -> None:
    with lab.gateway("nginx", kind=RenderedNginxWithoutNjs) as gateway:
        assert ask(lab, gateway, "/echo/headers", lab.key().key).status == 200
        (received,) = lab.model.received()
        assert received.header("authorization") == f"Bearer {UPSTREAM}"
        assert ask(lab, gateway, "/echo/here").status == 200


@pytest.mark.parametrize("which", ["of another authority", "of nobody that is named"])
def test_another_certificate_proves_nothing(lab: Lab, kind: str, which: str) -> None:
    """One that is good for nobody is at the worst a program of this machine: it gets no upstream credential."""
    foreign = which == "of another authority"
    authority = lab.certified.foreign if foreign else lab.certified.authority
    names = [x509.DNSName(f"{kind}.lab" if foreign else "nobody.lab")]
    key = lab.key().key
    with lab.gateway(kind, shows(authority.issue(f"{kind}-{which.replace(' ', '-')}", names))) as gateway:
        answer = ask(lab, gateway, "/echo/headers", key)
        if foreign:
            assert (answer.status, answer.json()["error"]["code"]) == (503, "authz_unavailable")
            assert lab.model.received() == []
            return
        assert answer.status == 200
        (received,) = lab.model.received()
        assert UPSTREAM not in repr(received)
        assert ask(lab, gateway, "/echo/here").status in (401, 403)
