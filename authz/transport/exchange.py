"""What an HTTP connection and what answers on it say to one another."""

from collections.abc import Coroutine
from typing import Any, Protocol, runtime_checkable

from msgspec import Struct

from authz.transport.peer_certificate import PeerCertificate
from authz.transport.reply import Reply


class Head(Struct, frozen=True):
    """A request up to its body, as it was on the wire."""

    method: str
    target: str  # latin-1, nothing decoded
    fields: list[tuple[bytes, bytes]]  # names in any case
    peer: str  # address of who is connected; UNIX, or UNKNOWN where it left already
    certificate: PeerCertificate | None = None  # verified; None: it showed none


class Question(Protocol):
    """A request that is answered when its body is there."""

    most: int  # bytes of body that are taken

    def answer(self, body: bytes) -> Coroutine[Any, Any, Reply]:
        """What to say. Where the coroutine does not suspend, no task is made for it."""
        ...

    def too_large(self) -> Reply:
        """What to say where the body exceeds `most`."""
        ...

    def fault(self, error: Exception) -> Reply:
        """What to say where `answer` raised, or said what cannot be sent."""
        ...


@runtime_checkable
class Answering(Protocol):
    """What a connection hands its requests to."""

    def open(self, head: Head) -> Reply | Question:
        """Answer at once, whatever the body, or say what answers once that is there."""
        ...
