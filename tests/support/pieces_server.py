"""A model server of which a test says every byte: what it answers, in which pieces, and where it waits."""

import socket
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

_MOST_HEADER = 65536


@dataclass(frozen=True, kw_only=True)
class Pieces:
    """An answer. Each piece leaves by itself; before the one with index `waits_at` it waits for `go_on`."""

    pieces: Sequence[bytes]
    content_type: str = "application/json"
    status: int = 200
    headers: tuple[str, ...] = ()
    chunked: bool = True
    waits_at: int | None = None
    breaks_off: bool = False  # without the end that was promised


@dataclass(frozen=True)
class Request:
    """What arrived. The head as text, the body without its transfer coding."""

    head: str
    body: bytes

    def values(self, name: str) -> list[str]:
        """Of every header of that name."""
        lines = [line.partition(":") for line in self.head.split("\r\n")[1:]]
        return [value.strip() for key, _, value in lines if key.lower() == name]


@dataclass
class PiecesServer:
    """A context manager. One thread for each connection."""

    answer: Pieces = field(default_factory=lambda: Pieces(pieces=[b"{}"]))
    received: list[Request] = field(default_factory=list)
    go_on: threading.Event = field(default_factory=threading.Event)
    port: int = 0

    def __enter__(self) -> Self:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.go_on.set()
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)

    def will_answer(self, answer: Pieces) -> None:
        """From now on; what was received is forgotten."""
        self.answer = answer
        self.received.clear()
        self.go_on.clear()

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with connection, suppress(OSError), connection.makefile("rb") as stream:
            while True:
                head = b""
                while not head.endswith(b"\r\n\r\n"):
                    line = stream.readline(_MOST_HEADER)
                    if not line:
                        return
                    head += line
                request = Request(head.decode("latin-1"), b"")
                if request.values("transfer-encoding") == ["chunked"]:
                    body = b""
                    while size := int(stream.readline(), 16):
                        body += stream.read(size)
                        stream.readline()
                    stream.readline()
                else:
                    body = stream.read(int((request.values("content-length") or ["0"])[0]))
                answer = self.answer
                self.received.append(Request(request.head, body))
                self._answer(connection, answer)
                if answer.breaks_off:
                    return

    def _answer(self, connection: socket.socket, answer: Pieces) -> None:
        length = sum(map(len, answer.pieces))
        framing = "transfer-encoding: chunked" if answer.chunked else f"content-length: {length}"
        lines = (
            f"HTTP/1.1 {answer.status} Any",
            f"content-type: {answer.content_type}",
            framing,
            *answer.headers,
        )
        connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        for index, piece in enumerate(answer.pieces):
            if index == answer.waits_at:
                self.go_on.wait(20)
            connection.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if answer.chunked else piece)
        if answer.chunked and not answer.breaks_off:
            connection.sendall(b"0\r\n\r\n")
