"""HTTP/1.1 answers (RFC 9112): spelled, checked and encoded once, where they leave."""

from collections.abc import Iterable
from http import HTTPStatus

from msgspec import Struct

from authz.decision import Header
from authz.header_text import CONTROLS
from authz.transport.headers import encode

JSON = "content-type: application/json"

_STATUS = {status.value: f"HTTP/1.1 {status.value} {status.phrase}" for status in HTTPStatus}
_LINE_BREAK = 2  # of them, CR and LF, end each line

# These say again what a client said, octet by octet.
_AS_IT_CAME = frozenset(
    ("cookie", "x-authz-cookie", "x-authz-uri", "x-authz-remove", "x-envoy-auth-headers-to-remove")
)


class Reply(Struct, frozen=True):
    """One answer. Its length, and whether the connection ends with it, are added when it leaves."""

    status: int
    fields: list[str]  # each "name: value"
    body: bytes = b""


class Unsendable(ValueError):
    """A field holds what would end it, or the head (attack 32)."""


def lines(headers: Iterable[Header]) -> list[str]:
    """Header fields as a reply has them."""
    return [f"{name}: {value}" for name, value in headers]


def json_reply(status: int, body: bytes, *fields: str) -> Reply:
    """One of JSON."""
    return Reply(status, [JSON, *fields], body)


def spell(reply: Reply, *, last: bool = False, bare: bool = False) -> bytes:
    """A reply as it leaves; `last`: the connection ends with it; `bare`: to HEAD, so without its body.

    Raises Unsendable, or UnicodeError for a name beyond ASCII.
    """
    status, body = reply.status, reply.body
    parts = [_STATUS.get(status) or f"HTTP/1.1 {status} ", *reply.fields, f"content-length: {len(body)}"]
    if last:
        parts.append("connection: close")
    text = "\r\n".join(parts)
    head = text.encode("ascii") if text.isascii() else _beyond_ascii(parts)
    if len(head) - len(head.translate(None, CONTROLS)) != _LINE_BREAK * (len(parts) - 1):
        raise Unsendable("A header field of the answer holds a control character.")
    return head + b"\r\n\r\n" if bare else b"%b\r\n\r\n%b" % (head, body)


def _beyond_ascii(parts: list[str]) -> bytes:
    status, *fields = parts
    return b"\r\n".join([status.encode("ascii"), *map(_octets, fields)])


def _octets(line: str) -> bytes:
    name, _, value = line.partition(": ")
    return name.encode("ascii") + b": " + encode("cookie" if name in _AS_IT_CAME else name, value)
