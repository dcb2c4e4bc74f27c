"""Asks an ASGI application as uvicorn does."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Answer(NamedTuple):
    """An HTTP response as it went out."""

    status: int
    headers: dict[str, str]
    body: bytes


async def ask(
    app: Any,
    path: str,
    headers: Sequence[tuple[str, str]] = (),
    *,
    method: str = "POST",
    client: tuple[str, int] | None = ("127.0.0.1", 4711),
) -> Answer:
    """One request without a body."""
    target, _, query = path.partition("?")
    scope = {
        "type": "http",
        "method": method,
        "path": target,
        "raw_path": target.encode("latin-1"),
        "query_string": query.encode("latin-1"),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
        "client": client,
        "server": ("127.0.0.1", 9002),
    }
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    await app(scope, receive, send)
    answered = {name.decode(): value.decode("latin-1") for name, value in sent[0]["headers"]}
    return Answer(sent[0]["status"], answered, sent[1].get("body", b""))
