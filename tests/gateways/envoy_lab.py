"""An Envoy between a stub of authz and a model server of which the test says every byte."""

import ssl
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from tests.gateways.clients import leaving, wait_for
from tests.support.certificates import Certificates
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.rendered_envoy import RenderedEnvoy
from tests.support.stub_authz import Pairs, StubAuthz

USAGE = "authz.usage"
AUTHZ = "envoy.filters.http.ext_authz"
PERIODIC, END = 5, 6  # AccessLogType
CHAT = "/v1/chat/completions"


@dataclass(frozen=True)
class EnvoyLab:
    """Lease of 3 s, so that Envoy tells every second that a response runs."""

    gateway: RenderedEnvoy
    authz: StubAuthz
    model: PiecesServer
    certificates: Certificates

    def forget(self) -> None:
        self.authz.reset()
        self.model.will_answer(Pieces(pieces=[b"{}"]))

    def ask(
        self,
        body: bytes = b"{}",
        *,
        headers: Pairs = (),
        target: str = CHAT,
        data: bytes | None = None,
        seconds: float = 30,
    ) -> RawResponse:
        """One request over HTTP/1.1, or its exact bytes in `data`."""
        data = data or request_bytes("POST", target, list(headers), body)
        tls = self.certificates.trust()
        return exchange(self.gateway.around.https, data, tls=tls, method="POST", seconds=seconds)

    def leaving(self, data: bytes) -> AbstractContextManager[ssl.SSLSocket]:
        """A client that has sent that, and leaves at the end of the context."""
        return leaving(self.gateway.around.https, self.certificates.trust(), data)

    def answered(self, answer: Pieces, **asked: Any) -> tuple[RawResponse, Any]:
        """What the client got of that answer, and the entry that ended it."""
        self.model.will_answer(answer)
        self.authz.asked.clear()
        response = self.ask(**asked)
        return response, self.end()

    def end(self) -> Any:
        """The entry that ended the only request."""
        wait_for(lambda: bool(self.entries(END)))
        (entry,) = self.entries(END)
        return entry

    def entries(self, kind: int) -> list[Any]:
        """Of the requests that authz was asked about. Those of a test before may come as late as now."""
        asked = {each.header("x-request-id") for each in self.authz.asked}
        return [
            entry
            for entry in self.authz.access_log
            if entry.common_properties.access_log_type == kind and entry.request.request_id in asked
        ]


def usage_of(entry: Any) -> dict[str, float | str]:
    """What the entry tells of tokens."""
    fields = entry.common_properties.metadata.filter_metadata[USAGE].fields
    return {
        name: value.number_value if value.WhichOneof("kind") == "number_value" else value.string_value
        for name, value in fields.items()
    }


def told(entry: Any, name: str) -> str | None:
    """What authz told this Envoy of the request."""
    fields = entry.common_properties.metadata.filter_metadata[AUTHZ].fields
    return fields[name].string_value if name in fields else None
