"""HTTP/1.1 on the wire for ASGI applications: uvicorn's httptools protocol, bounded and answering in JSON."""

from typing import cast

import uvicorn
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from authz.transport.fault import HEAD_TOO_LARGE, MALFORMED
from authz.transport.reply import Reply, spell

LARGEST_HEAD = 128 * 1024  # bytes of request line and headers; the gateways in front allow less
SILENCE = 0.5  # seconds that a new connection has for its first question when we stop


class ServerConfig(uvicorn.Config):
    """uvicorn's settings for our protocol."""

    draining = False  # every answer says that it is the connection's last


class BoundedProtocol(HttpToolsProtocol):
    """One connection."""

    _in_head = False
    _head = 0  # bytes received of a head that is not complete

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head:
            self._head = 0
            return
        self._head += len(data)
        if self._head > LARGEST_HEAD and not self.transport.is_closing():
            self._reject(HEAD_TOO_LARGE)

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head = True

    def on_headers_complete(self) -> None:
        super().on_headers_complete()
        self._in_head = False
        if cast(ServerConfig, self.config).draining and self.cycle is not None:
            # A gateway that asked on while we close could not know whether it was heard.
            self.cycle.keep_alive = False

    def shutdown(self) -> None:
        """Close after what is under way. On a new connection a question may be: it is waited for."""
        if self.cycle is None and not self.transport.is_closing():
            self.loop.call_later(SILENCE, self._close_if_silent)
        else:
            super().shutdown()

    def _close_if_silent(self) -> None:
        if self.cycle is None:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        self._reject(MALFORMED)

    def _unsupported_upgrade_warning(self) -> None:
        """Answered as any other: nothing to warn of."""

    def _reject(self, reply: Reply) -> None:
        self.transport.write(spell(reply, last=True))
        self.transport.close()
