"""A model server in this process that a test tells what to answer, and that keeps what reached it."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import uvicorn

from tests.support.ports import free_port
from tests.support.processes import port_answers


@dataclass(frozen=True)
class Received:
    """One request, a WebSocket's handshake included (its method is GET)."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]  # names in lower case
    body: bytes = b""

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The only value of that name; None if there is none."""
        values = [value for key, value in self.headers if key == name]
        assert len(values) < 2, f"{name} came {len(values)} times: {values}"
        return values[0] if values else None


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What to say. Each piece leaves by itself; with `go_on` all but the first wait until it is set."""

    status: int = 200
    pieces: Sequence[bytes] = (b'{"text": "Hello to you, world."}',)
    content_type: str = "application/json"
    headers: Sequence[tuple[str, str]] = ()
    after: float = 0  # seconds
    go_on: threading.Event | None = None


@dataclass
class AnyServer:
    """A context manager. Any method and path; WebSockets get their messages back."""

    answer: Callable[[Received], Answer] = lambda _: Answer()
    received: list[Received] = field(default_factory=list)
    port: int = field(default_factory=free_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def last(self) -> Received:
        assert self.received, "nothing reached the model server"
        return self.received[-1]

    def __enter__(self) -> Self:
        self._server = uvicorn.Server(
            uvicorn.Config(
                self._serve,
                host="127.0.0.1",
                port=self.port,
                ws="websockets-sansio",
                ws_ping_interval=None,
                interface="asgi3",
                proxy_headers=False,
                lifespan="off",
                log_config=None,
                access_log=False,
                timeout_keep_alive=300,  # longer than gateways keep an idle connection
                timeout_graceful_shutdown=1,
            )
        )
        self._thread = threading.Thread(target=self._server.run, daemon=True)
        self._thread.start()
        while not port_answers(self.port):
            assert self._thread.is_alive(), "the model server did not start"
        return self

    def __exit__(self, *_: object) -> None:
        self._server.should_exit = True
        self._thread.join(10)

    async def _serve(self, scope: Any, receive: Any, send: Any) -> None:
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        received = Received(
            scope.get("method", "GET"),
            (scope["raw_path"] + query).decode("latin-1"),
            tuple((name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]),
            await _body(receive) if scope["type"] == "http" else b"",
        )
        self.received.append(received)
        if scope["type"] == "http":
            await _say(self.answer(received), send)
        else:
            await _echo(receive, send)


async def _body(receive: Any) -> bytes:
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message.get("body", b"")
        if not message.get("more_body", False):
            break
    return body


async def _say(answer: Answer, send: Any) -> None:
    await asyncio.sleep(answer.after)
    named = (("content-type", answer.content_type), *answer.headers)
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in named]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    for index, piece in enumerate(answer.pieces):
        while index and answer.go_on is not None and not answer.go_on.is_set():
            await asyncio.sleep(0.005)
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _echo(receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        text = message.get("text")
        echo = {"text": text} if text is not None else {"bytes": message["bytes"]}
        await send({"type": "websocket.send", **echo})
