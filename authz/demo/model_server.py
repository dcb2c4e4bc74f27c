"""An OpenAI-compatible model server without a model.

    python -m authz.demo.model_server --port 8000

Answers `/v1/models`, `/v1/chat/completions`, `/v1/completions`, `/v1/embeddings`, `/v1/responses` and
`/v1/messages`, streamed or whole; echoes over a WebSocket at `/ws`, and tells at `/echo...` what it received.

For measurements: with the request header `x-demo-interval-ms: N` a stream pauses N ms between two
events, and each event holds `"demo": {"index", "sent_ns"}`, the moment at which it left by
CLOCK_MONOTONIC, which is the same for every process of a machine. With `--record` it keeps the last
requests for `GET /__received`, and `DELETE /__received` forgets them.
"""

import argparse
import asyncio
import importlib.util
import json
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final

import uvicorn

from authz.demo.answers import (
    CONTEXT,
    CREATED_AT,
    Answer,
    ChatAnswer,
    Json,
    MessagesAnswer,
    ResponsesAnswer,
    embeddings,
)
from authz.demo.exact import ExactTargetProtocol, exact_target

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

MOST_BODY: Final = 64 << 20  # bytes
_MOST_RECORDED: Final = 2000
_LONGEST_INTERVAL: Final = 10_000  # ms
_STREAMING: Final[dict[str, Callable[[Json, bytes], Answer]]] = {
    "/v1/chat/completions": ChatAnswer,
    "/v1/completions": lambda asked, body: ChatAnswer(asked, body, chat=False),
    "/v1/messages": MessagesAnswer,
    "/v1/responses": ResponsesAnswer,
}
_NAMED_EVENTS: Final = frozenset({"/v1/messages", "/v1/responses"})


class ModelServer:
    """The ASGI application. `models` empty: any name is served."""

    def __init__(self, models: Sequence[str] = (), *, record: bool = False) -> None:
        self._models = tuple(models)
        self._received: deque[Json] | None = deque(maxlen=_MOST_RECORDED) if record else None

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await self._websocket(scope, receive, send)
            return
        target = exact_target(scope)
        path = target.partition("?")[0]
        if path == "/__received" and self._received is not None:
            if scope["method"] == "DELETE":
                self._received.clear()
            await _respond(send, 200, {"received": list(self._received)})
            return
        body = await _read(receive)
        if body is None:
            await _respond(send, 413, _error("The body is larger than this demo reads.", "request_too_large"))
            return
        seen = _seen(scope, target, body)
        if self._received is not None:
            self._received.append(seen)
        if path == "/echo" or path.startswith("/echo/"):
            await _respond(send, 200, seen)
        elif path == "/v1/models" and scope["method"] == "GET":
            await _respond(send, 200, self._list())
        elif path in _STREAMING or path == "/v1/embeddings":
            await self._infer(path, scope, body, seen, receive, send)
        else:
            await _respond(send, 404, _error(f"Nothing is served at {path}.", "not_found"))

    async def _infer(
        self, path: str, scope: Any, body: bytes, seen: Json, receive: Receive, send: Send
    ) -> None:
        if scope["method"] != "POST":
            await _respond(send, 405, _error("Use POST.", "method_not_allowed"))
            return
        try:
            asked = json.loads(body)
        except ValueError:
            asked = None
        if not isinstance(asked, dict) or not isinstance(asked.get("model"), str):
            message = "The body is no JSON object with a model."
            await _respond(send, 400, _error(message, "invalid_request"))
            return
        if self._models and asked["model"] not in self._models:
            message = f"The model {asked['model']} does not exist."
            await _respond(send, 404, _error(message, "model_not_found"))
            return
        if path == "/v1/embeddings":
            await _respond(send, 200, embeddings(asked))
            return
        answer = _STREAMING[path](asked, body)
        if asked.get("stream") is True:
            seen["finished"] = None  # while it runs
            events = answer.events()
            seen["finished"] = await _stream(events, path in _NAMED_EVENTS, _interval(scope), receive, send)
        else:
            await _respond(send, 200, answer.whole())

    async def _websocket(self, scope: Any, receive: Receive, send: Send) -> None:
        """Say everything back at `/ws`; elsewhere refuse the handshake."""
        target = exact_target(scope)
        if self._received is not None:
            self._received.append(_seen(scope, target, b""))
        await receive()
        if target.partition("?")[0] != "/ws":
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            text = message.get("text")
            echo = {"text": text} if text is not None else {"bytes": message["bytes"]}
            await send({"type": "websocket.send", **echo})

    def _list(self) -> Json:
        return {
            "object": "list",
            "data": [
                {
                    "id": name,
                    "object": "model",
                    "created": CREATED_AT,
                    "owned_by": "demo",
                    "max_model_len": CONTEXT,
                }
                for name in self._models or ("demo",)
            ],
        }


async def _stream(
    events: Iterator[Json], named: bool, interval: float | None, receive: Receive, send: Send
) -> bool:
    """Server-sent events; false if the client went away before they ended. `interval` is in seconds."""
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(receive())  # after the body the only message left is http.disconnect
    try:
        for index, event in enumerate(events):
            if gone.done():
                return False
            if interval is not None:
                if index:
                    await asyncio.sleep(interval)
                event["demo"] = {"index": index, "sent_ns": time.clock_gettime_ns(time.CLOCK_MONOTONIC)}
            name = f"event: {event['type']}\n" if named else ""
            chunk = f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        end = b"" if named else b"data: [DONE]\n\n"
        await send({"type": "http.response.body", "body": end})
        return True
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _read(receive: Receive) -> bytes | None:
    parts, size = [], 0
    while (message := await receive())["type"] == "http.request":
        part = message.get("body", b"")
        size += len(part)
        if size > MOST_BODY:
            return None
        parts.append(part)
        if not message.get("more_body", False):
            break
    return b"".join(parts)


async def _respond(send: Send, status: int, value: Json) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def _seen(scope: Any, target: str, body: bytes) -> Json:
    """What was received. Header names are in lower case, as ASGI has them; bytes are shown as latin-1."""
    return {
        "method": scope.get("method", "GET"),
        "target": target,
        "http_version": scope["http_version"],
        "headers": [[name.decode("latin-1"), value.decode("latin-1")] for name, value in scope["headers"]],
        "body": body[:65536].decode("latin-1"),
        "body_length": len(body),
        "body_sha256": sha256(body).hexdigest(),
    }


def _interval(scope: Any) -> float | None:
    for name, value in scope["headers"]:
        if name == b"x-demo-interval-ms" and value.isdigit():
            return min(int(value[:6]), _LONGEST_INTERVAL) / 1000
    return None


def _error(message: str, code: str) -> Json:
    return {"error": {"message": message, "type": "invalid_request_error", "code": code, "param": None}}


def config(app: ModelServer, *, host: str, port: int) -> uvicorn.Config:
    """How uvicorn runs it. WebSocket needs the package `websockets`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        http=ExactTargetProtocol,
        ws="websockets-sansio" if importlib.util.find_spec("websockets") else "none",
        ws_ping_interval=None,
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        timeout_keep_alive=300,  # longer than gateways keep an idle connection: none meets a closing one
        timeout_graceful_shutdown=1,
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m authz.demo.model_server")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--model", action="append", default=[], help="serve only this name; may be repeated")
    parser.add_argument("--record", action="store_true", help="keep the last requests for GET /__received")
    given = parser.parse_args(arguments)
    app = ModelServer(given.model, record=given.record)
    uvicorn.Server(config(app, host=given.host, port=given.port)).run()


if __name__ == "__main__":
    main()
