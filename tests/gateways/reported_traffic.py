"""Requests through a gateway that tells the stub of authz what became of them."""

import itertools
import ssl
from collections.abc import Sequence
from typing import Any

from tests.gateways.clients import wait_for
from tests.support.pieces_server import Pieces, PiecesServer
from tests.support.raw_http import RawResponse, exchange, request_bytes
from tests.support.stub_authz import IDENTITY, Allowing, Pairs, StubAuthz

ASKED = b'{"model":"demo","messages":[]}'


class Traffic:
    """Requests through the gateway, each with a reservation of its own."""

    _serial = itertools.count(1)

    def __init__(self, port: int, tls: ssl.SSLContext, authz: StubAuthz, server: PiecesServer) -> None:
        self.port, self.tls, self.authz, self.server = port, tls, authz, server
        self.reservation = ""

    def allow(self, *, more: Pairs = (), **fields: Any) -> None:
        """The next question, with a new reservation and these headers more."""
        self.reservation = f"rsv_{next(self._serial)}"
        upstream = IDENTITY | {"x-authz-reservation": self.reservation}
        self.authz.answer = Allowing(upstream=(*upstream.items(), *more), **fields)

    def ask(self, answer: Pieces, headers: Sequence[tuple[str, str]] = ()) -> RawResponse:
        self.allow()
        self.server.will_answer(answer)
        return self.send(headers)

    def send(self, headers: Sequence[tuple[str, str]] = (), body: bytes = ASKED) -> RawResponse:
        given: Any = [("Content-Type", "application/json"), *headers]
        return exchange(self.port, request_bytes("POST", "/v1/chat/completions", given, body), tls=self.tls)

    def told(self) -> dict[str, Any]:
        """What was reported of the last request, in any case once."""
        wait_for(lambda: self.reservation in [item["reservation"] for item in self.authz.ended])
        (mine,) = [item for item in self.authz.ended if item["reservation"] == self.reservation]
        return mine
