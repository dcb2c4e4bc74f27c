"""Request targets exactly as they were on the wire; ASGI itself only has a parsed path."""

from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

EXACT_TARGET = "authz.demo.target"


class ExactTargetProtocol(HttpToolsProtocol):
    """uvicorn's HTTP/1.1, which also tells the target (bytes) in the scope."""

    def on_headers_complete(self) -> None:
        self.scope[EXACT_TARGET] = self.url  # type: ignore[literal-required]  # a key of our own in the scope
        super().on_headers_complete()


def exact_target(scope: Any) -> str:
    """The target, latin-1 decoded; put together again from its parts where the server keeps no raw one."""
    target: bytes | None = scope.get(EXACT_TARGET)
    if target is None:
        query: bytes = scope["query_string"]
        target = scope["raw_path"] + (b"?" + query if query else b"")
    return target.decode("latin-1")
