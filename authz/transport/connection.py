"""HTTP/1.1 on the wire, for whatever answers a request as a whole.

Framing is httptools' (llhttp). A request is handed on once its head is there and
answered once its body is; where the answer does not suspend, that is within the
call that brought the last byte: no task, no event, no message is made for it.
Answers leave in the order of the requests (RFC 9112 9.3.2).
"""

import asyncio
from collections import deque
from collections.abc import Coroutine
from typing import Any, NamedTuple

import httptools
import structlog
from uvicorn.server import ServerState

from authz.transport.address import peer_of
from authz.transport.exchange import Answering, Head, Question
from authz.transport.fault import FAILED, HEAD_TOO_LARGE, MALFORMED
from authz.transport.lane.stepping import Remainder
from authz.transport.peer_certificate import PeerCertificate, of_tls
from authz.transport.protocol import LARGEST_HEAD, SILENCE, ServerConfig
from authz.transport.reply import Reply, spell

_CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

log = structlog.get_logger("authz.transport")


class _Ready(NamedTuple):
    """A request to which nothing is missing any more."""

    opened: Reply | Question
    body: bytes
    last: bool  # nothing is answered after it
    bare: bool  # to HEAD


class HttpConnection(asyncio.Protocol):
    """One connection of a gateway."""

    _transport: asyncio.Transport
    _idle: asyncio.TimerHandle
    _peer: str
    _certificate: PeerCertificate | None

    def __init__(
        self,
        config: ServerConfig,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        """As uvicorn's server calls it."""
        self._app: Answering = config.loaded_app
        self._config = config
        self._server = server_state
        self._loop = _loop or asyncio.get_running_loop()
        self._parser = httptools.HttpRequestParser(self)
        self._parser.set_dangerous_leniencies(lenient_data_after_close=True)  # we do not listen to it
        self._heard = 0.0  # when, on the loop's clock
        self._barren = 0  # bytes since that brought neither a whole head nor any of a body
        self._moved = False
        self._in_head = False
        self._asked = False  # at least once
        self._target = b""
        self._fields: list[tuple[bytes, bytes]] = []
        self._opened: Question | None = None  # what waits for its body
        self._body: bytes | bytearray = b""
        self._last = self._bare = False
        self._waiting: deque[_Ready] = deque()
        self._deciding = False
        self._clogged = False  # the peer does not read
        self._deaf = False  # whatever comes is of no interest
        self._leaving = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._peer = peer_of(transport)
        self._certificate = of_tls(transport.get_extra_info("ssl_object"))
        self._server.connections.add(self)  # type: ignore[arg-type]  # it shuts them down, nothing else
        self._heard = self._loop.time()
        self._idle = self._loop.call_later(self._config.timeout_keep_alive, self._close_if_idle)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._idle.cancel()
        del self._parser  # it knows us, too: only the collector would find out
        self._opened, self._deaf = None, True
        self._waiting.clear()

    def data_received(self, data: bytes) -> None:
        if self._deaf:
            return
        self._heard = self._loop.time()
        self._moved = False
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            pass  # a WebSocket's auth call carries Upgrade too and is answered as any other
        except httptools.HttpParserCallbackError as error:
            log.error("request failed", exc_info=error.__context__)
            self._refuse(FAILED)
        except httptools.HttpParserError:
            self._refuse(MALFORMED)
        if self._moved:
            self._barren = len(data) if self._in_head else 0
        else:
            self._barren += len(data)
        if self._barren > LARGEST_HEAD:
            self._refuse(HEAD_TOO_LARGE)
        elif self._opened is not None:
            self._encourage()

    def on_message_begin(self) -> None:
        self._in_head = True
        self._target = b""
        self._fields = []

    def on_url(self, url: bytes) -> None:
        self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._in_head:  # no trailer is of interest
            self._fields.append((name, value))

    def on_headers_complete(self) -> None:
        self._in_head, self._asked, self._moved = False, True, True
        if self._deaf:
            return
        parser = self._parser
        method = parser.get_method().decode("ascii")
        self._last = not parser.should_keep_alive() or parser.get_http_version() != "1.1"
        self._bare = method == "HEAD"
        opened = self._app.open(
            Head(method, self._target.decode("latin-1"), self._fields, self._peer, self._certificate)
        )
        if isinstance(opened, Reply):
            self._answer_in_turn(opened)
        else:
            self._opened = opened

    def on_body(self, part: bytes) -> None:
        self._moved = True
        opened = self._opened
        if opened is None:
            return  # answered already: the rest is read only to find its end
        if len(self._body) + len(part) > opened.most:
            self._answer_in_turn(opened.too_large())
        elif not self._body:
            self._body = part
        elif isinstance(self._body, bytearray):
            self._body += part
        else:
            self._body = bytearray(self._body + part)

    def on_message_complete(self) -> None:
        self._moved = True
        if self._opened is not None:
            self._answer_in_turn(self._opened)
        self._deaf |= self._last

    def pause_writing(self) -> None:
        self._clogged = True

    def resume_writing(self) -> None:
        self._clogged = False
        self._answer_waiting()

    def shutdown(self) -> None:
        """Close after what is under way. On a new connection a question may be: it is waited for."""
        self._leaving = True
        if not self._asked:
            self._loop.call_later(SILENCE, self._close_if_silent)
        elif not (self._deciding or self._waiting or self._in_head or self._opened is not None):
            self._transport.close()

    def _close_if_silent(self) -> None:
        if not self._asked:
            self._transport.close()

    def _close_if_idle(self) -> None:
        if self._deciding:
            self._heard = self._loop.time()
        idle_at = self._heard + self._config.timeout_keep_alive
        if idle_at > self._loop.time():
            self._idle = self._loop.call_at(idle_at, self._close_if_idle)
        else:
            self._transport.close()

    def _refuse(self, reply: Reply) -> None:
        """Say so in its turn, and listen no more."""
        if self._deaf:
            return
        self._last, self._bare = True, False
        self._answer_in_turn(reply)
        self._deaf = True

    def _answer_in_turn(self, opened: Reply | Question) -> None:
        ready = _Ready(opened, bytes(self._body), self._last, self._bare)
        self._opened, self._body = None, b""
        if self._deciding or self._clogged or self._waiting:
            self._waiting.append(ready)
            self._transport.pause_reading()
        else:
            self._answer(ready)

    def _answer_waiting(self) -> None:
        while self._waiting and not (self._deciding or self._clogged):
            self._answer(self._waiting.popleft())
        if not self._waiting and not self._transport.is_closing():
            self._transport.resume_reading()
            self._encourage()

    def _answer(self, ready: _Ready) -> None:
        opened = ready.opened
        if isinstance(opened, Reply):
            self._send(opened, ready)
            return
        coroutine = opened.answer(ready.body)
        try:
            waits_for = coroutine.send(None)
        except StopIteration as done:
            self._send(done.value, ready)
        except Exception as error:
            self._send(opened.fault(error), ready)
        else:
            self._deciding = True
            task = self._loop.create_task(self._finish(coroutine, waits_for, ready, opened))
            self._server.tasks.add(task)
            task.add_done_callback(self._server.tasks.discard)

    async def _finish(
        self, coroutine: Coroutine[Any, Any, Reply], waits_for: Any, ready: _Ready, question: Question
    ) -> None:
        """The rest of an answer that suspended."""
        try:
            reply = await Remainder(coroutine, waits_for)
        except Exception as error:
            reply = question.fault(error)
        except asyncio.CancelledError:  # the server stops and waits no longer
            self._transport.close()
            raise
        self._deciding = False
        if not self._transport.is_closing():
            self._send(reply, ready)
            self._answer_waiting()

    def _send(self, reply: Reply, ready: _Ready) -> None:
        # A gateway that asked on while we close could not know whether it was heard.
        leaving = (self._leaving or self._config.draining) and not self._waiting
        last = ready.last or leaving
        try:
            data = spell(reply, last=last, bare=ready.bare)
        except ValueError as error:
            opened = ready.opened
            reply = FAILED if isinstance(opened, Reply) else opened.fault(error)
            data = spell(reply, last=last, bare=ready.bare)
        self._transport.write(data)
        if last:
            self._deaf = True
            self._waiting.clear()
            self._transport.close()

    def _encourage(self) -> None:
        """Ask for a body that its sender waits with (RFC 9110 10.1.1)."""
        if self._opened is None or self._deciding or self._waiting:
            return
        for name, value in self._fields:
            if name.lower() == b"expect" and value.lower() == b"100-continue":
                self._transport.write(_CONTINUE)
        self._fields = []
