"""ModelRelay's "TLS Setup" with our nginx and Caddy configurations: workers over wss, clients over https, SSE, redirect."""

import http.client
import json
import re
import sqlite3
import ssl
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest
from websockets.exceptions import InvalidStatus

from tests.acceptance.lab import eventually, in_force
from tests.seeds.site import Site, code
from tests.support import websocket
from tests.support.any_server import Answer, AnyServer
from tests.support.gateway import REPOSITORY
from tests.support.raw_http import RawResponse, exchange, request_bytes

KINDS = ("nginx", "caddy")
CONNECT = "/v1/worker/connect"
SECRET = "the-secret-of-all-workers"
CHAT = {"model": "llama3-8b", "messages": [{"role": "user", "content": "Hello"}], "stream": True}

CONFIG = """
authenticators:
  keys: {type: api_key}
  workers: {type: shared_secret, secrets: {gpu: {file: worker-secret}}, headers: [x-worker-secret], query: [worker_secret]}
routes:
  - {name: workers, match: {methods: [GET], paths: [/v1/worker/connect]}, authenticate: {any_of: [workers]}, authorize: [{models: any}]}
  - {name: models, match: {methods: [GET], paths: [/v1/models]}, authenticate: {any_of: [keys]}, authorize: [{models: allowed}]}
  - {name: inference, match: {api: [openai, anthropic]}, authenticate: {any_of: [keys]}, authorize: [{models: allowed}]}
models:
  llama3-8b: {context: 8192, max_output: 2048}
backends:
  relay: {url: URL, models: [llama3-8b]}
"""


@dataclass(frozen=True)
class Way:
    """One of the two gateways."""

    kind: str
    site: Site
    relay: AnyServer

    def ask(self, *, target: str = "/v1/models", key: str | None = None) -> RawResponse:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return self.site.ask(self.kind, "GET", target, headers)

    def handshake(
        self, secret: str | None, *, source: str | None = None, query: str | None = None
    ) -> tuple[int, str | None]:
        """The answer to a worker that connects: the status, and the code of a refusal."""
        headers = {
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
        }
        if secret is not None:
            headers["X-Worker-Secret"] = secret
        target = CONNECT if query is None else f"{CONNECT}?id=7&worker_secret={query}"
        answer = self.site.ask(self.kind, "GET", target, headers, source=source)
        return code(answer)


@pytest.fixture(scope="module")
def ways(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Way]]:
    scratch = tmp_path_factory.mktemp("modelrelay")
    with AnyServer() as relay:
        site = Site(scratch, CONFIG.replace("URL", relay.url), kinds=KINDS)
        secret = scratch / "authz" / "worker-secret"
        secret.write_text(f"{SECRET}\n")
        secret.chmod(0o600)
        with site:
            yield {kind: Way(kind, site, relay) for kind in KINDS}


@pytest.fixture(params=KINDS)
def way(ways: dict[str, Way], request: pytest.FixtureRequest) -> Way:
    found = ways[request.param]
    found.relay.received.clear()
    found.relay.answer = lambda _: Answer()
    return found


class TestTlsRedirectStreamingTimeouts:
    """https and SSE unbuffered, :80 to 301, wss, and WebSockets that last a day."""

    def test_http_is_redirected_to_https(self, way: Way) -> None:
        around = way.site.gateways[way.kind].around
        answer = exchange(around.http, request_bytes(target="/v1/models?a=b", host="relay.test"))
        assert answer.status == 301
        assert re.fullmatch(r"https://relay\.test(:\d+)?/v1/models\?a=b", answer.header("location") or "")
        assert not way.relay.received

    def test_https_has_our_certificate(self, way: Way) -> None:
        key = way.site.key().key
        answer = way.ask(key=key)
        assert (answer.status, [each["id"] for each in answer.json()["data"]]) == (200, ["llama3-8b"])
        strangers = ssl.create_default_context()
        around = way.site.gateways[way.kind].around
        with pytest.raises(ssl.SSLCertVerificationError):
            exchange(around.https, request_bytes(target="/v1/models"), tls=strangers)

    def test_plain_http_is_not_served_on_the_tls_port(self, way: Way) -> None:
        answer = exchange(way.site.gateways[way.kind].around.https, request_bytes(target="/v1/models"))
        assert answer.status == 400

    def test_events_pass_while_the_answer_runs(self, way: Way) -> None:
        go_on = threading.Event()
        events = (*(b'data: {"n": %d}\n\n' % n for n in range(3)), b"data: [DONE]\n\n")
        way.relay.answer = lambda _: Answer(pieces=events, content_type="text/event-stream", go_on=go_on)
        connection = http.client.HTTPSConnection(
            "localhost",
            way.site.gateways[way.kind].around.https,
            context=way.site.certificates.trust(),
            timeout=15,
        )
        headers = {"Authorization": f"Bearer {way.site.key().key}", "Content-Type": "application/json"}
        try:
            connection.request("POST", "/v1/chat/completions", json.dumps(CHAT), headers)
            response = connection.getresponse()
            assert (response.status, response.getheader("content-type")) == (200, "text/event-stream")
            # The relay says no more until the first event is here.
            assert response.readline() == b'data: {"n": 0}\n'
            go_on.set()
            assert response.read() == b"\n" + b"".join(events[1:])
        finally:
            go_on.set()
            connection.close()

    def test_websockets_may_last_a_day(self, way: Way) -> None:
        """As shipped; what is rendered for this site has the same."""
        if way.kind == "nginx":
            shipped = (REPOSITORY / "nginx/nginx.conf").read_text()
            assert re.search(r"^\s*proxy_read_timeout 86400s;$", shipped, re.MULTILINE)
            assert re.search(r"^\s*proxy_send_timeout 86400s;$", shipped, re.MULTILINE)
        else:
            shipped = (REPOSITORY / "caddy/Caddyfile").read_text()
            assert re.search(r"^\s*stream_timeout 86400s$", shipped, re.MULTILINE)


class TestWorkerConnect:
    """Its own class of credential: 101 with it, 401 without, throttled by address, never a 5xx."""

    @pytest.mark.parametrize("legacy", [False, True], ids=["header", "query"])
    def test_a_worker_connects_over_wss(self, way: Way, legacy: bool) -> None:
        address = f"wss://localhost:{way.site.gateways[way.kind].around.https}{CONNECT}"
        query = f"?worker_secret={SECRET}&id=7" if legacy else "?id=7"
        headers = {} if legacy else {"X-Worker-Secret": SECRET}
        trust = way.site.certificates.trust()
        with websocket.connect(f"{address}{query}", ssl=trust, headers=headers) as worker:
            for message in ("register", b"\0" * 70_000):
                worker.send(message)
                assert worker.recv() == message
        received = way.relay.last()
        assert received.target == f"{CONNECT}?id=7"
        assert received.header("x-authz-user") == "workers:gpu"
        assert SECRET not in repr(received)
        assert SECRET not in way.site.logs

    def test_not_without_the_secret(self, way: Way) -> None:
        address = f"wss://localhost:{way.site.gateways[way.kind].around.https}{CONNECT}"
        trust = way.site.certificates.trust()
        with pytest.raises(InvalidStatus) as refused, websocket.connect(address, ssl=trust):
            pass
        assert refused.value.response.status_code == 401
        assert not way.relay.received

    def test_with_anything_else_it_is_401(self, way: Way) -> None:
        key = way.site.key().key
        source = {"nginx": "127.0.0.21", "caddy": "127.0.0.22"}[way.kind]
        for secret in (SECRET[:-1], SECRET.upper(), f"{SECRET}x", key):
            assert way.handshake(secret, source=source) == (401, "invalid_credentials")
            assert way.handshake(None, query=secret, source=source) == (401, "invalid_credentials")
        assert way.handshake(None, source=source) == (401, "missing_credentials")
        # The key is a client's, and the secret a worker's: neither is good for the other's route.
        assert way.ask(key=key).status == 200
        assert code(way.ask(key=SECRET))[0] == 401
        assert not way.relay.received

    def test_an_upgrade_on_any_other_path_is_no_way_round(self, way: Way) -> None:
        headers = {"Upgrade": "websocket", "Connection": "Upgrade", "X-Worker-Secret": SECRET}
        for target in ("/v1/worker/other", "/", "/v1/worker/connect/"):
            assert way.site.ask(way.kind, "GET", target, headers).status == 403
        assert not way.relay.received

    def test_failed_tries_are_throttled_by_address(self, way: Way) -> None:
        source, neighbour = {
            "nginx": ("127.0.0.31", "127.0.0.32"),
            "caddy": ("127.0.0.33", "127.0.0.34"),
        }[way.kind]
        answers = [way.handshake(f"guess-{n}", source=source) for n in range(30)]
        assert answers[:10] == [(401, "invalid_credentials")] * 10
        assert (429, "rate_limit_exceeded") in answers
        assert {status for status, _ in answers} == {401, 429}
        # One who knows the secret is let in from next door.
        assert way.handshake(SECRET, source=neighbour) == (101, None)


class TestClientKeys:
    """A prefix and random characters, SHA-256 at rest, shown once, last used, revoked."""

    def test_the_life_of_a_key(self, ways: dict[str, Way]) -> None:
        way = ways["nginx"]
        service = way.site.service
        made = service.run("keys", "create", "--user", "alice")
        key, id = made["key"], made["id"]
        assert re.fullmatch(r"sk-az-[0-9A-Za-z]{46}", key)  # 40 at random are 238 bits
        in_force(service)
        assert way.ask(key=key).status == 200

        shown_again = json.dumps(service.run("keys", "list"))
        assert id in shown_again
        assert key not in shown_again
        for file in Path(service.directory).glob("authz.db*"):
            assert key.encode() not in file.read_bytes(), file
        assert key not in way.site.logs
        eventually(lambda: service.registry.find_key(id).last_used_at is not None, seconds=20)
        assert service.run("keys", "show", id)["last_used_at"]

        service.run("keys", "revoke", id)
        eventually(lambda: code(way.ask(key=key)) == (401, "revoked_api_key"))

    def test_what_is_at_rest_is_its_sha256(self, way: Way) -> None:
        minted = way.site.key()
        with closing(
            sqlite3.connect(f"file:{way.site.service.directory}/authz.db?mode=ro", uri=True)
        ) as database:
            (digest,) = database.execute("SELECT digest FROM keys WHERE id = ?", (minted.id,)).fetchone()
        assert digest == sha256(minted.key.encode()).digest()


class TestNothingIsOpen:
    """Without an admin token every admin call is refused; what no route names is closed."""

    @pytest.mark.parametrize("target", ["/", "/admin", "/metrics", "/v1/worker", "/api/v1/keys", "/livez"])
    def test_what_no_route_names(self, way: Way, target: str) -> None:
        key = way.site.key().key
        assert code(way.ask(target=target)) == (403, "route_not_allowed")
        assert code(way.ask(target=target, key=key)) == (403, "route_not_allowed")
        assert not way.relay.received

    def test_no_admin_call_is_answered(self, way: Way) -> None:
        for method in ("GET", "POST", "DELETE"):
            request = urllib.request.Request(
                f"http://127.0.0.1:{way.site.service.admin}/api/v1/keys",
                method=method,
                headers={"Authorization": "Bearer "},
            )
            with pytest.raises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(request, timeout=5)
            assert refused.value.code == 401
            refused.value.close()
