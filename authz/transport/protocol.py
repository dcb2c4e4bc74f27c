"""HTTP/1.1 on the wire: uvicorn's httptools protocol, bounded and answering in JSON.

It also keeps what ASGI alone loses: the request target as it was sent, and the peer's certificate.
"""

import asyncio
from typing import Any, cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from authz.transport.asgi import CERTIFICATE, RAW_TARGET
from authz.transport.peer_certificate import PeerCertificate, of_tls

LARGEST_HEAD = 128 * 1024  # bytes of request line and headers; the gateways in front allow less

_SILENCE = 0.5  # seconds that a new connection has for its first question when we stop

_RESPONSE = (
    b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\nx-should-retry: false\r\n"
    b"connection: close\r\ncontent-length: %d\r\n\r\n%s"
)
_ERROR = b'{"error":{"message":"%s","type":"invalid_request_error","code":"invalid_header","param":null}}'


class ServerConfig(uvicorn.Config):
    """uvicorn's settings for our protocol."""

    draining = False  # every answer says that it is the connection's last


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a gateway."""

    _in_head = False
    _head = 0  # bytes received of a head that is not complete
    _certificate: PeerCertificate | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._certificate = of_tls(transport.get_extra_info("ssl_object"))

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            self._head = 0
            return
        self._head += len(data)
        if self._head > LARGEST_HEAD and not self.transport.is_closing():
            self._reject(431, b"Request Header Fields Too Large", b"The request headers are too large.")

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        if cast(ServerConfig, self.config).draining and self.cycle is not None:
            # A gateway that asked on while we close could not know whether it was heard.
            self.cycle.keep_alive = False
        scope = cast(dict[str, Any], self.scope)
        scope[RAW_TARGET] = self.url
        if self._certificate is not None:
            scope[CERTIFICATE] = self._certificate

    def shutdown(self) -> None:
        """Close after what is under way. On a new connection a question may be: it is waited for."""
        if self.cycle is None and not self.transport.is_closing():
            self.loop.call_later(_SILENCE, self._close_if_silent)
        else:
            super().shutdown()

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._reject(400, b"Bad Request", b"The HTTP request is malformed.")

    def _unsupported_upgrade_warning(self) -> None:
        """A WebSocket's auth call carries Upgrade too and is answered as any other: nothing to warn of."""

    def _reject(self, status: int, phrase: bytes, message: bytes) -> None:
        body = _ERROR % message
        self.transport.write(_RESPONSE % (status, phrase, len(body), body))
        self.transport.close()
