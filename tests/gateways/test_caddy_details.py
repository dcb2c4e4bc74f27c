"""What only Caddy does: refusing by itself, placeholders, a target that it would write differently."""

import ssl

import pytest

from tests.support.caddy import Caddy
from tests.support.model import DemoModel
from tests.support.raw_http import exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, StubAuthz

GATEWAY = Caddy


REFUSED_EARLY = {
    "8 bad escape": b"GET /%zz HTTP/1.1\r\nHost: h\r\n\r\n",
    "14 no slash": b"GET x HTTP/1.1\r\nHost: h\r\n\r\n",
    "space in the path": b"GET /a b HTTP/1.1\r\nHost: h\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "17 host with a path": b"GET / HTTP/1.1\r\nHost: ok/public?\r\n\r\n",
    "39 nul in a header": b"GET / HTTP/1.1\r\nHost: h\r\nX-A: a\x00b\r\n\r\n",
    "a space before the colon": b"GET / HTTP/1.1\r\nHost: h\r\nX-Authz-User : admin\r\n\r\n",
}


@pytest.mark.parametrize("case", REFUSED_EARLY)
def test_what_go_refuses_by_itself_is_a_bare_400(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel, case: str
) -> None:
    response = exchange(gateway.around.https, REFUSED_EARLY[case], tls=tls)
    assert response.status == 400
    assert not authz.asked
    assert not model.received()


def test_19_a_method_that_caddy_takes_for_none_by_its_length(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    response = exchange(gateway.around.https, request_bytes("A" * 33, "/echo", host="localhost"), tls=tls)
    assert (response.status, response.json()["error"]["code"]) == (400, "invalid_method")
    assert not authz.asked
    assert not model.received()


@pytest.mark.parametrize(
    ("sent", "judged"),
    [
        ("/echo#f", "/echo#f"),
        ("/echo\\x", "/echo\\x"),
        ("http://elsewhere.example/echo", "http://elsewhere.example/echo"),
        ("/echo/it's?key=1", "/echo/it's"),  # Caddy would write %27
        ("/echo?a={x}&key=1", "/echo?a={x}"),  # and %7Bx%7D
        ("/echo?key=1", "/elsewhere.example#x"),
    ],
)
def test_a_target_that_caddy_would_alter_goes_nowhere(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel, sent: str, judged: str
) -> None:
    """Even if authz allowed it. It refuses the first three; the others carry a credential in the query."""
    authz.answer = Allowing(target=None if sent == judged else judged)
    response = exchange(gateway.around.https, request_bytes("GET", sent), tls=tls)
    assert (response.status, response.json()["error"]["code"]) == (400, "invalid_path")
    assert not model.received()


def test_placeholders_in_what_a_client_sends_stay_text(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    text = f"{{env.HOME}} {{file.{gateway.directory}/gateway-token}} {{vars.authz_stage}}"
    target = "/echo?x={env.HOME}&y={vars.authz_stage}"
    headers: list[tuple[str | bytes, str | bytes]] = [("X-Text", text), ("Cookie", text), ("X-Api-Key", text)]
    authz.answer = Allowing(upstream=(*IDENTITY.items(), ("authorization", text)), cookie=text)
    data = request_bytes("POST", target, headers, text.encode())
    assert exchange(gateway.around.https, data, tls=tls).status == 200
    assert authz.last.header("x-forwarded-uri") == target
    assert authz.last.header("x-api-key") == text
    assert authz.last.body == text.encode()
    received = model.last()
    assert received.target == target
    assert received.body == text
    assert received.header("x-text") == received.header("cookie") == text
    assert received.header("authorization") == text


def test_up_to_twelve_names_are_removed_and_a_longer_list_is_refused(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    names = [f"x-token-{n}" for n in range(13)]
    data = request_bytes("GET", "/echo", [(name, "secret") for name in names])
    authz.answer = Allowing(remove=tuple(names[:12]))
    assert exchange(gateway.around.https, data, tls=tls).status == 200
    assert [name for name in names if name in model.last().names] == names[12:]
    model.reset()
    authz.answer = Allowing(remove=tuple(names))
    assert exchange(gateway.around.https, data, tls=tls).status == 503
    assert not model.received()


def test_no_placeholder_reaches_the_model_where_authz_says_nothing(
    gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz, model: DemoModel
) -> None:
    authz.answer = Allowing(upstream=(), client=(), remove=())
    assert exchange(gateway.around.https, request_bytes("POST", "/echo", None, b"{}"), tls=tls).status == 200
    assert "{" not in str(model.last().headers)
    assert "{" not in str(authz.last.headers)


def test_the_access_log_tells_the_request_id(gateway: Caddy, tls: ssl.SSLContext, authz: StubAuthz) -> None:
    exchange(gateway.around.https, request_bytes("GET", "/echo/logged?x=1"), tls=tls)
    request_id = authz.last.header("x-request-id")
    assert request_id
    [line] = [line for line in gateway.log_with("/echo/logged").splitlines() if "/echo/logged" in line]
    assert request_id in line
    assert "/echo/logged?..." in line
