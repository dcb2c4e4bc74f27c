"""The blog post "Securing large language models with a reverse proxy": its five methods, alone and together, four gateways."""

import base64
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import bcrypt
import pytest

from authz.authenticate.key_format import mint
from tests.seeds.site import Headers, Site, code
from tests.seeds.takeoff import SIGN_KEY, one_bit_changed, signed
from tests.support.any_server import AnyServer
from tests.support.certificates import CLIENT_URI
from tests.support.installed import KINDS
from tests.support.raw_http import RawResponse

OFFICE, ELSEWHERE, BALANCER = "127.0.0.2", "127.0.0.3", "127.0.0.4"  # all of 127.0.0.0/8 is this machine's
PASSWORD = "correct horse battery staple"
UPSTREAM = "the-key-of-the-model-server"

# Each method has a path of its own; `/ollama` is for clients that can show nothing but where they are.
CONFIG = """
authenticators:
  office: {type: network, allow: [OFFICE/32]}
  staff:  {type: basic, htpasswd: {file: users.htpasswd}}
  mtls:   {type: certificate}
  keys:   {type: api_key, headers: [X-APIKEY]}
  apps:   {type: jwt, sign_key: SIGN_KEY, algorithms: [HS256], issuers: [https://login.test], audiences: [llm]}
  lists:  {type: api_key}
routes:
  - {name: ip, match: {paths: [/ip, /ollama/api/chat]}, authenticate: {any_of: [office]}, authorize: [{models: any}]}
  - {name: basic, match: {paths: [/basic]}, authenticate: {any_of: [staff]}, authorize: [{models: any}]}
  - {name: mtls, match: {paths: [/mtls]}, authenticate: {any_of: [mtls]}, authorize: [{models: any}]}
  - {name: key, match: {paths: [/key]}, authenticate: {any_of: [keys]}, authorize: [{models: any}]}
  - {name: jwt, match: {paths: [/jwt]}, authenticate: {any_of: [apps]}, authorize: [{models: any}]}
  - {name: both, match: {paths: [/both]}, authenticate: {all_of: [office, staff]}, authorize: [{models: any}]}
  - {name: models, match: {methods: [GET], paths: [/v1/models]}, authenticate: {any_of: [lists]}, authorize: [{models: any}]}
backends:
  model: {url: URL, models: any, bearer: {file: upstream-key}}
"""


@dataclass(frozen=True)
class Way:
    """One of the gateways."""

    kind: str
    site: Site
    model: AnyServer

    def ask(self, target: str, headers: Headers = (), **more: Any) -> RawResponse:
        return self.site.ask(self.kind, "GET", target, headers, **more)

    def passes(self, user: str, target: str, headers: Headers = (), **more: Any) -> None:
        """It reaches the model server as that user's, with the server's own key and nothing of the client's."""
        assert self.ask(target, headers, **more).status == 200
        received = self.model.last()
        assert received.target == target
        assert received.header("x-authz-user") == user
        assert received.header("authorization") == f"Bearer {UPSTREAM}"
        names = {name for name, _ in received.headers}
        assert not names & {
            "x-apikey",
            "x-forwarded-tls-client-cert",
            "x-client-cert",
            "x-forwarded-client-cert",
        }
        for secret in (PASSWORD, base64.b64encode(f"carol:{PASSWORD}".encode()).decode()):
            assert secret not in repr(received)

    def is_refused(
        self, status: int, reason: str, target: str, headers: Headers = (), **more: Any
    ) -> RawResponse:
        answer = self.ask(target, headers, **more)
        assert code(answer) == (status, reason)
        assert not self.model.received
        return answer


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    scratch = tmp_path_factory.mktemp("blog")
    with AnyServer() as model:
        config = CONFIG.replace("OFFICE", OFFICE).replace("SIGN_KEY", SIGN_KEY).replace("URL", model.url)
        hops = dict.fromkeys(KINDS, f", trusted_hops: [{BALANCER}/32]")
        site = Site(scratch, config, kinds=KINDS, more=hops)
        # As `htpasswd -nB carol` prints it.
        hashed = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(5)).replace(b"$2b$", b"$2y$").decode()
        for name, text in (("users.htpasswd", f"carol:{hashed}\n"), ("upstream-key", f"{UPSTREAM}\n")):
            file = scratch / "authz" / name
            file.write_text(text)
            file.chmod(0o600)
        with site:
            yield {kind: Way(kind, site, model) for kind in KINDS}


@pytest.fixture(params=KINDS)
def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    found = ways[request.param]
    found.model.received.clear()
    return found


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


SPOOFED = {
    "X-Forwarded-For": OFFICE,
    "X-Real-IP": OFFICE,
    "Forwarded": f"for={OFFICE}",
    "X-Envoy-External-Address": OFFICE,
}


class TestIpAllowlist:
    """Who is connected counts, whatever it claims."""

    def test_from_there(self, way: Way) -> None:
        way.passes("network:office", "/ip", source=OFFICE)

    def test_from_elsewhere(self, way: Way) -> None:
        way.is_refused(403, "network_not_allowed", "/ip", source=ELSEWHERE)

    def test_40_a_spoofed_address(self, way: Way) -> None:
        way.is_refused(403, "network_not_allowed", "/ip", SPOOFED, source=ELSEWHERE)
        two = [("X-Forwarded-For", OFFICE), ("X-Forwarded-For", f"{OFFICE}, {OFFICE}")]
        way.is_refused(403, "network_not_allowed", "/ip", two, source=ELSEWHERE)

    @pytest.mark.parametrize(
        ("forwarded", "status"),
        [
            ((OFFICE,), 200),
            ((f"{ELSEWHERE}, {OFFICE}",), 200),
            ((f"{OFFICE}, {ELSEWHERE}",), 403),
            ((OFFICE, ELSEWHERE), 403),
            ((f"{OFFICE}, nonsense",), 403),
            ((), 403),
        ],
        ids=str,
    )
    def test_40_behind_a_trusted_hop(self, way: Way, forwarded: tuple[str, ...], status: int) -> None:
        """From right to left, over the hops that are trusted: the first other address is the client."""
        headers = [("X-Forwarded-For", each) for each in forwarded]
        assert way.ask("/ip", headers, source=BALANCER).status == status

    def test_a_client_that_can_do_no_basic_auth(self, way: Way) -> None:
        """Ollama's."""
        way.passes("network:office", "/ollama/api/chat", source=OFFICE)
        way.model.received.clear()
        way.is_refused(403, "network_not_allowed", "/ollama/api/chat", source=ELSEWHERE)


class TestBasicAuth:
    """A line of `htpasswd -nB`."""

    def test_the_right_password(self, way: Way) -> None:
        way.passes("staff:carol", "/basic", basic("carol", PASSWORD))

    @pytest.mark.parametrize("headers", [{}, basic("carol", "wrong"), basic("mallory", PASSWORD)])
    def test_anything_else(self, way: Way, headers: dict[str, str]) -> None:
        reason = "invalid_credentials" if headers else "missing_credentials"
        answer = way.is_refused(401, reason, "/basic", headers)
        assert (answer.header("www-authenticate") or "").startswith("Basic ")


class TestApiKey:
    """In a header of one's choice."""

    def test_a_known_one(self, way: Way) -> None:
        way.passes("alice", "/key", {"X-APIKEY": way.site.key().key})

    def test_an_unknown_one(self, way: Way) -> None:
        way.is_refused(401, "invalid_api_key", "/key", {"X-APIKEY": mint().key})

    def test_another_header_holds_no_key(self, way: Way) -> None:
        headers = {"Authorization": f"Bearer {way.site.key().key}"}
        way.is_refused(401, "missing_credentials", "/key", headers)


class TestJwt:
    """From the application's own login."""

    def token(self, **changes: Any) -> dict[str, str]:
        own = {"iss": "https://login.test", "aud": "llm", "sub": "dave", "exp": int(time.time()) + 600}
        return {"Authorization": f"Bearer {signed(own | changes)}"}

    def test_a_valid_one(self, way: Way) -> None:
        way.passes("apps:dave", "/jwt", self.token())

    def test_any_other(self, way: Way) -> None:
        way.is_refused(401, "missing_credentials", "/jwt")
        way.is_refused(401, "expired_token", "/jwt", self.token(exp=1_700_000_000))
        for headers in (self.token(aud="other"), {"Authorization": f"Bearer {one_bit_changed(2)}"}):
            way.is_refused(401, "invalid_token", "/jwt", headers)


class TestMutualTls:
    """The gateway verifies; what it says of the certificate counts, what a client says does not."""

    def test_a_certificate_of_our_authority(self, way: Way) -> None:
        way.passes(f"mtls:{CLIENT_URI}", "/mtls", certificate=True)

    def test_none(self, way: Way) -> None:
        way.is_refused(401, "missing_credentials", "/mtls")

    def test_43_a_forged_header(self, way: Way) -> None:
        pem = way.site.certificates.client.read_text()
        plain = "".join(pem.splitlines()[1:-1])
        escaped = pem.replace("+", "%2B").replace("\n", "%0A").replace(" ", "%20")
        forged = {
            "X-Forwarded-Client-Cert": f'Hash=00;Cert="{escaped}";URI={CLIENT_URI}',
            "X-Forwarded-Tls-Client-Cert": plain,
            "X-Client-Cert": escaped if way.kind == "nginx" else plain,
            "X-Client-Verify": "SUCCESS",
            "X-SSL-Client-Verify": "SUCCESS",
            "X-Authz-User": f"mtls:{CLIENT_URI}",
        }
        way.is_refused(401, "missing_credentials", "/mtls", forged)

    def test_a_host_that_tls_was_not_opened_with(self, way: Way) -> None:
        """Caddy wants both to agree where it asks for certificates; for the others there is one rule for all hosts."""
        answer = way.ask("/mtls", certificate=True, host="other.test")
        assert code(answer) == ((400, "invalid_request") if way.kind == "caddy" else (200, None))


class TestIpAndBasicTogether:
    """The post's example, which Traefik has as two middlewares."""

    @pytest.mark.parametrize(
        ("source", "password", "status", "reason"),
        [
            (OFFICE, PASSWORD, 200, None),
            (OFFICE, "wrong", 401, "invalid_credentials"),
            (OFFICE, None, 401, "missing_credentials"),
            (ELSEWHERE, PASSWORD, 403, "network_not_allowed"),
            (ELSEWHERE, "wrong", 403, "network_not_allowed"),
        ],
    )
    def test_both_are_needed(
        self, way: Way, source: str, password: str | None, status: int, reason: str | None
    ) -> None:
        headers = basic("carol", password) if password is not None else {}
        if reason is None:
            way.passes("staff:carol", "/both", headers, source=source)
        else:
            way.is_refused(status, reason, "/both", headers | SPOOFED, source=source)


class TestSecondHop:
    """From the gateway to the model server: the server's key instead of the client's (`passes` looks at each method)."""

    def test_the_clients_key_is_replaced(self, way: Way) -> None:
        key = way.site.key().key
        assert way.ask("/key", {"X-APIKEY": key}).status == 200
        received = way.model.last()
        assert received.header("authorization") == f"Bearer {UPSTREAM}"
        assert key not in repr(received)

    def test_a_clients_authorization_is_dropped_where_it_is_no_credential(self, way: Way) -> None:
        headers = {"X-APIKEY": way.site.key().key, "Authorization": "Bearer of-another-service"}
        way.passes("alice", "/key", headers)

    def test_the_servers_key_is_told_to_nobody(self, way: Way) -> None:
        answer = way.ask("/basic", basic("carol", PASSWORD))
        assert answer.status == 200
        assert UPSTREAM not in repr(answer)
        assert UPSTREAM not in way.site.logs
