"""nginx and Caddy in front of the real service: what stands in the ledger in the end, and where it comes from."""

import json
import ssl
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from authz.store.open import open_view
from authz.store.records import Entry, Source
from authz.usage import Usage
from tests.acceptance.lab import add_key, eventually, in_force
from tests.gateways.answers_with_usage import WITH_USAGE
from tests.support.caddy import Caddy
from tests.support.certificates import Certificates
from tests.support.gateway import Around, RealGateway
from tests.support.nginx import Nginx
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.ports import free_port
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.service import AuthzService

TOKEN = "token-of-the-gateway-in-the-tests"
CONFIG = """
gateways:
  edge: {{kind: {kind}, token: {token}{more}}}
authenticators:
  keys: {{type: api_key}}
models:
  demo: {{context: 8192, max_output: 512}}
backends:
  model: {{url: "http://127.0.0.1:{model}", models: any}}
routes:
  - name: inference
    match: {{api: [openai, anthropic]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [tokens]
limits:
  tokens: {{unit: tokens, quota: 1M, window: 1h, partition_by: [key]}}
"""


class Scene:
    """Everything runs. `ask` goes through the gateway."""

    def __init__(
        self, service: AuthzService, server: PiecesServer, gateway: RealGateway, tls: ssl.SSLContext
    ) -> None:
        self.service, self.server, self.gateway, self.tls = service, server, gateway, tls
        self.key = add_key(service.registry).key
        in_force(service)

    def ask(self, path: str = "/v1/chat/completions", **body: Any) -> RawResponse:
        headers: list[tuple[str | bytes, str | bytes]] = [
            ("Content-Type", "application/json"),
            ("Authorization", f"Bearer {self.key}"),
        ]
        asked = {
            "model": "demo",
            "messages": [{"role": "user", "content": "Hello?"}],
            "max_tokens": 64,
            **body,
        }
        data = request_bytes("POST", path, headers, json.dumps(asked).encode())
        return exchange(self.gateway.around.https, data, tls=self.tls)

    def post(self, report: dict[str, Any]) -> str:
        """What a model server reports by itself; the outcome."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.service.http}/v1/usage",
            data=json.dumps(report).encode(),
            headers={"x-authz-gateway-token": TOKEN, "content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=10) as response:
            return str(json.load(response)["results"][0]["outcome"])

    def entries(self) -> list[Entry]:
        return list(open_view(self.service.store).ledger.entries(limit=1000))

    def only_entry(self) -> Entry:
        """The ledger's, once it is there."""
        eventually(lambda: bool(self.entries()), seconds=20)
        [entry] = self.entries()
        return entry


@contextmanager
def running(
    kind: type[RealGateway], directory: Path, certificates: Certificates, usage: str = ""
) -> Iterator[Scene]:
    with ExitStack() as stack:
        server = stack.enter_context(PiecesServer())
        log = free_port()
        more = f", log: 127.0.0.1:{log}{usage}" if kind is Caddy else ""
        config = CONFIG.format(kind=kind.name, token=TOKEN, more=more, model=server.port)
        service = stack.enter_context(AuthzService(directory / "authz", config))
        around = Around(
            directory=directory,
            certificates=certificates,
            authz_http=service.http,
            authz_grpc=service.grpc,
            model=server.port,
            token=TOKEN,
            log=log,
        )
        gateway = stack.enter_context(kind(around))
        yield Scene(service, server, gateway, certificates.trust())


TOLD = Usage(input=21, output=13, cached=16, reasoning=4)


def test_nginx_settles_by_what_the_model_server_told(tmp_path: Path, certificates: Certificates) -> None:
    answered = WITH_USAGE["chat-stream-null-until-the-end"]
    with running(Nginx, tmp_path, certificates) as scene:
        scene.server.will_answer(Pieces(pieces=answered.pieces(64), content_type=answered.content_type))
        assert scene.ask(stream=True, seed=9007199254740993).body == answered.body
        entry = scene.only_entry()
        assert (entry.note.source, entry.note.usage) == (Source.REPORTED, TOLD)
        sent = scene.server.received[0].body
    # The client asked for no usage: authz had nginx ask for it, and touch nothing else.
    assert json.loads(sent)["stream_options"] == {"include_usage": True}
    assert b'"seed": 9007199254740993' in sent


def test_caddy_settles_by_an_estimate_and_says_so(tmp_path: Path, certificates: Certificates) -> None:
    answered = WITH_USAGE["chat"]
    with running(Caddy, tmp_path, certificates) as scene:
        scene.server.will_answer(Pieces(pieces=[answered.body]))
        assert scene.ask().status == 200
        entry = scene.only_entry()
        assert entry.note.source is Source.ESTIMATED
        assert entry.note.usage.input > 0
        assert entry.note.usage.output > 0
        [reservation] = scene.server.received[0].values("x-authz-reservation")
        assert scene.post({"reservation": reservation, "usage": answered.usage, "status": 200}) == "already"


@pytest.mark.parametrize("posts", [True, False], ids=["it-posts", "it-does-not"])
def test_caddy_leaves_it_to_a_model_server_that_posts(
    tmp_path: Path, certificates: Certificates, posts: bool
) -> None:
    answered = WITH_USAGE["chat"]
    with running(Caddy, tmp_path, certificates, ", usage: backend") as scene:
        scene.server.will_answer(Pieces(pieces=[answered.body]))
        assert scene.ask().status == 200
        [reservation] = scene.server.received[0].values("x-authz-reservation")
        assert not scene.entries()
        if posts:
            assert (
                scene.post({"reservation": reservation, "usage": answered.usage, "status": 200}) == "settled"
            )
        entry = scene.only_entry()
        expected = (Source.REPORTED, TOLD) if posts else (Source.ESTIMATED, entry.note.usage)
        assert (entry.note.source, entry.note.usage) == expected
