"""Each kind of credential, good and bad, through each gateway."""

import pytest

from authz.store.records import User
from tests.acceptance.lab import in_force
from tests.credentials.lab import BALANCER, ELSEWHERE, GATEWAYS, OFFICE, WORKER, Way, basic
from tests.support.certificates import CLIENT_URI
from tests.support.raw_http import RawResponse
from tests.support.websocket import connect

SPOOFED = (
    ("X-Forwarded-For", OFFICE),
    ("X-Real-IP", OFFICE),
    ("Forwarded", f"for={OFFICE}"),
    ("X-Client-IP", OFFICE),
    ("X-Envoy-External-Address", OFFICE),
    ("X-Authz-User", "admin"),
)


def code(response: RawResponse) -> str:
    return str(response.json()["error"]["code"])


class TestPasswords:
    @pytest.mark.parametrize(("user", "password"), [("carol", "tulip"), ("dave", "rose")])
    def test_right(self, way: Way, user: str, password: str) -> None:
        for _ in range(2):
            assert way.ask("/echo/staff", basic(user, password)).status == 200
            assert way.received.header("x-authz-user") == f"staff:{user}"
            assert "authorization" not in way.received.names

    @pytest.mark.parametrize(
        "header",
        [
            basic("carol", "rose"),
            basic("mallory", "tulip"),
            ("Authorization", "Basic dTpw!!"),
            ("Authorization", "Basic"),
        ],
        ids=["wrong", "73 unknown user", "76 junk", "nothing"],
    )
    def test_wrong(self, way: Way, header: tuple[str, str]) -> None:
        response = way.ask("/echo/staff", header)
        assert (response.status, code(response)) == (401, "invalid_credentials")
        assert response.header("www-authenticate") == 'Basic realm="authz", charset="UTF-8"'
        assert way.untouched

    def test_none(self, way: Way) -> None:
        response = way.ask("/echo/staff")
        assert response.status == 401
        assert response.header("www-authenticate") == 'Basic realm="authz", charset="UTF-8"'


class TestCertificates:
    def test_shown(self, way: Way) -> None:
        assert way.ask("/echo/mtls", with_client=True).status == 200
        assert way.received.header("x-authz-user") == f"mtls:{CLIENT_URI}"
        told = {"x-forwarded-tls-client-cert", "x-forwarded-client-cert", "x-client-cert", "x-client-verify"}
        assert not way.received.names & told

    def test_none(self, way: Way) -> None:
        assert way.ask("/echo/mtls").status == 401
        assert way.untouched

    def test_43_forged(self, way: Way) -> None:
        pem = way.lab.certificates.client.read_text()
        plain = "".join(pem.splitlines()[1:-1])
        escaped = pem.replace("\n", "%0A").replace(" ", "%20").replace("+", "%2B")
        response = way.ask(
            "/echo/mtls",
            ("X-Forwarded-Tls-Client-Cert", plain),
            ("X-Forwarded-Client-Cert", f'Cert="{escaped}";URI={CLIENT_URI}'),
            ("X-Client-Cert", escaped if way.name == "nginx" else plain),
            ("X-Client-Verify", "SUCCESS"),
            ("X-SSL-Client-Cert", escaped),
        )
        assert response.status == 401
        assert way.untouched

    def test_beside_a_bad_key_the_certificate_counts(self, way: Way) -> None:
        assert way.ask("/echo/keys", ("X-APIKEY", "unknown"), with_client=True).status == 200
        assert way.ask("/echo/keys", ("X-APIKEY", "unknown")).status == 401


class TestNetworks:
    def test_inside(self, way: Way) -> None:
        assert way.ask("/echo/office", source=OFFICE).status == 200
        assert way.received.header("x-authz-user") == "network:office"

    @pytest.mark.parametrize("headers", [(), SPOOFED], ids=["plain", "40 spoofed"])
    def test_outside(self, way: Way, headers: tuple[tuple[str, str], ...]) -> None:
        response = way.ask("/echo/office", *headers, source=ELSEWHERE)
        assert (response.status, code(response)) == (403, "network_not_allowed")
        assert way.untouched

    @pytest.mark.parametrize(
        ("source", "password", "status"),
        [
            (OFFICE, "tulip", 200),
            (OFFICE, "wrong", 401),
            (OFFICE, None, 401),
            (ELSEWHERE, "tulip", 403),
            (ELSEWHERE, "wrong", 403),
            (ELSEWHERE, None, 403),
        ],
    )
    def test_address_and_password_together(
        self, way: Way, source: str, password: str | None, status: int
    ) -> None:
        headers = [basic("carol", password)] if password is not None else []
        assert way.ask("/echo/both", *headers, source=source).status == status
        if status == 200:
            assert way.received.header("x-authz-user") == "staff:carol"
        else:
            assert way.untouched


class TestBehindABalancer:
    """40: the walk of X-Forwarded-For, from the gateway outwards."""

    @pytest.mark.parametrize(
        ("forwarded_for", "status"),
        [
            (OFFICE, 200),
            (f"{ELSEWHERE}, {OFFICE}", 200),
            (f"{OFFICE}, {BALANCER}", 200),
            (f"::ffff:{OFFICE}", 200),
            (ELSEWHERE, 403),
            (f"{OFFICE}, {ELSEWHERE}", 403),
            (f"{OFFICE}, {ELSEWHERE}, 127.0.9.7", 403),
            (f"{OFFICE}, garbage", 403),
            ("garbage", 403),
            ("127.0.0.02", 403),
            (None, 403),
        ],
    )
    def test_the_last_that_is_no_proxy(self, way: Way, forwarded_for: str | None, status: int) -> None:
        headers = [("X-Forwarded-For", forwarded_for)] if forwarded_for is not None else []
        others = [header for header in SPOOFED if header[0] != "X-Forwarded-For"]
        assert way.ask("/echo/office", *headers, *others, source=BALANCER).status == status

    def test_several_fields_are_one_list(self, way: Way) -> None:
        fields = [("X-Forwarded-For", OFFICE), ("X-Forwarded-For", ELSEWHERE)]
        assert way.ask("/echo/office", *fields, source=BALANCER).status == 403
        assert way.ask("/echo/office", *reversed(fields), source=BALANCER).status == 200

    def test_who_is_no_proxy_speaks_for_nobody(self, way: Way) -> None:
        response = way.ask("/echo/office", ("X-Forwarded-For", f"{OFFICE}, {BALANCER}"), source=ELSEWHERE)
        assert response.status == 403

    def test_other_forwarding_headers_stay_out(self, way: Way) -> None:
        names = ["X-Forwarded-Uri", "X-Forwarded-Method", "X-Forwarded-User"]
        if way.name == "envoy":  # it goes by a pattern there, which must leave but one
            names += ["X-Forwarded", "X-Forwarded-F", "X-Forwarded-Fo", "X-Forwarded-Fox", "X-Forwarded-Form"]
        forged = [(name, "/admin") for name in names]
        assert way.ask("/echo/office", ("X-Forwarded-For", OFFICE), *forged, source=BALANCER).status == 200
        assert not [name for name, value in way.received.headers if value == "/admin"]

    @pytest.mark.parametrize(
        "forged",
        [
            {"X-Forwarded-Uri": "/echo/office"},
            {"X-Forwarded-Method": "OPTIONS"},
            {"X-Forwarded-Host": "elsewhere.test"},
            {"X-Forwarded-Prefix": "/echo/office"},
            {"X-Forwarded-Proto": "http"},
            {"X-Original-URI": "/echo/office"},
        ],
        ids=lambda forged: next(iter(forged)),
    )
    def test_a_proxy_is_believed_of_addresses_and_of_nothing_else(
        self, way: Way, forged: dict[str, str]
    ) -> None:
        """22, 25: what a client says past a trusted proxy decides no route, and nothing of it goes upstream."""
        headers = [("X-Forwarded-For", OFFICE), *forged.items()]
        assert way.ask("/echo/staff", *headers, source=BALANCER).status == 401  # another route's
        assert way.untouched
        assert way.ask("/echo/office", *headers, source=BALANCER).status == 200
        assert not {*forged.items()} & {(name.title(), value) for name, value in way.received.headers}


class TestKeys:
    @pytest.mark.parametrize("place", ["header", "query"])
    def test_in_any_header_or_the_query_and_never_upstream(self, way: Way, place: str) -> None:
        key = way.lab.key(user="alice").key
        if place == "header":
            response = way.ask("/echo/keys?page=2", ("X-APIKEY", key))
        else:
            response = way.ask(f"/echo/keys?page=2&api_key={key}&q=a%20b")
        assert response.status == 200
        assert way.received.target == (
            "/echo/keys?page=2" if place == "header" else "/echo/keys?page=2&q=a%20b"
        )
        assert key not in repr(way.received)
        assert "x-apikey" not in way.received.names

    def test_a_key_that_acts_for_a_user(self, way: Way) -> None:
        way.lab.user(User(name="erin@lab.test", team=None))
        key = way.lab.key(user="webui", roles=frozenset({"act_for"})).key
        response = way.ask("/echo/keys", ("X-APIKEY", key), ("X-OpenWebUI-User-Email", "erin@lab.test"))
        assert response.status == 200
        assert way.received.header("x-authz-user") == "erin@lab.test"
        assert "x-openwebui-user-email" not in way.received.names

    def test_without_the_role_it_acts_for_itself(self, way: Way) -> None:
        key = way.lab.key(user="alice").key
        response = way.ask("/echo/keys", ("X-APIKEY", key), ("X-OpenWebUI-User-Email", "erin@lab.test"))
        assert response.status == 200
        assert way.received.header("x-authz-user") == "alice"
        assert "x-openwebui-user-email" not in way.received.names

    def test_a_disabled_user_is_acted_for_by_nobody(self, way: Way) -> None:
        way.lab.user(User(name="gone@lab.test", disabled=True))
        key = way.lab.key(user="webui", roles=frozenset({"act_for"})).key
        in_force(way.lab.service)
        response = way.ask("/echo/keys", ("X-APIKEY", key), ("X-OpenWebUI-User-Email", "gone@lab.test"))
        assert (response.status, code(response)) == (401, "user_disabled")

    def test_the_header_is_removed_on_every_route(self, way: Way) -> None:
        response = way.ask(
            "/echo/staff", basic("carol", "tulip"), ("X-OpenWebUI-User-Email", "erin@lab.test")
        )
        assert response.status == 200
        assert "x-openwebui-user-email" not in way.received.names


class TestNobody:
    def test_limited_by_address(self, way: Way) -> None:
        source = f"127.0.1.{list(GATEWAYS).index(way.name) + 1}"
        for _ in range(3):
            assert way.ask("/echo/open", source=source).status == 200
            assert way.received.header("x-authz-user") == "anyone:guest"
        response = way.ask("/echo/open", source=source)
        assert response.status == 429
        assert response.header("retry-after") is not None

    @pytest.mark.parametrize(
        "header",
        [("Authorization", "Bearer wrong"), ("Authorization", "Basic YTpi"), ("X-Api-Key", "wrong")],
        ids=["bearer", "another scheme", "x-api-key"],
    )
    def test_35_no_failure_becomes_anonymous_access(self, way: Way, header: tuple[str, str]) -> None:
        assert way.ask("/echo/open", header).status == 401
        assert way.untouched


UPGRADE = (
    ("Connection", "Upgrade"),
    ("Upgrade", "websocket"),
    ("Sec-WebSocket-Version", "13"),
    ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
)


class TestSharedSecrets:
    @pytest.mark.parametrize("place", ["header", "query"])
    def test_a_worker_connects(self, way: Way, place: str) -> None:
        way.lab.model.reset()
        target = "/ws" if place == "header" else f"/ws?token={WORKER}"
        headers = {"X-Worker-Secret": WORKER} if place == "header" else {}
        trust = way.lab.certificates.trust()
        with connect(f"wss://localhost:{way.port}{target}", ssl=trust, headers=headers) as worker:
            worker.send("hello")
            assert worker.recv() == "hello"
        assert way.received.header("x-authz-user") == "machines:worker"
        assert WORKER not in repr(way.received)

    def test_nobody_else_does_and_guesses_are_throttled(self, way: Way) -> None:
        source = f"127.0.2.{list(GATEWAYS).index(way.name) + 1}"
        assert way.ask("/ws", *UPGRADE, source=source).status == 401
        for number in range(10):
            response = way.ask("/ws", *UPGRADE, ("X-Worker-Secret", f"guess {number}"), source=source)
            assert (response.status, code(response)) == (401, "invalid_credentials")
        for secret in ("one more guess", WORKER):
            response = way.ask("/ws", *UPGRADE, ("X-Worker-Secret", secret), source=source)
            assert (response.status, code(response)) == (429, "rate_limit_exceeded")
            assert response.header("retry-after") == "6"
        assert way.untouched
        response = way.ask("/ws", *UPGRADE, ("X-Worker-Secret", WORKER), source=f"127.0.3.{source[-1]}")
        assert response.status == 101, "others are not concerned"
