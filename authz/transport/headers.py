"""Header fields as they came, in two heaps: the client's, and the gateway's own plumbing.

Whatever the gateway, the client's heap looks the same: names in lower case,
values as latin-1 text, no hop-by-hop field, nothing that a gateway adds, and no
`x-authz-*` in any spelling.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from authz.header_text import is_field_value

GATEWAY_TOKEN = "x-authz-gateway-token"  # noqa: S105  (a header's name)
GATEWAY_CAN = "x-authz-gateway-can"
MOST_HEADERS = 256

_OURS = re.compile(r"x[-_.]authz(?:[-_.]|$)")
_PLUMBING = re.compile(
    r":|x-forwarded-|x-original-|x-envoy-|x-client-(?:verify|cert)$"
    r"|(?:forwarded|via|x-real-ip|x-request-id|host|content-length|expect)$"
    r"|(?:connection|keep-alive|proxy-connection|te|trailer|transfer-encoding|upgrade)$"  # RFC 9110 7.6.1
)
_JOINED = re.compile(r",(?! )")
_MOST_KNOWN = 4096
_LONGEST_KNOWN = 64

CLIENT, GATEWAY, SPOOFED = 0, 1, 2
"""The heaps. What is spoofed stands in none."""
_known: dict[str | bytes, tuple[str, int]] = {}


class Fields(Struct, gc=False):
    """A request's header fields, told apart.

    A name in `repeated` (the client's) or `doubled` (the gateway's) came more
    than once; its values are joined by ", ".
    `spoofed` are `x-authz-*` fields that a client sent past its gateway.
    `malformed` names a field whose value holds a control character.
    """

    client: dict[str, str]
    gateway: dict[str, str]
    repeated: set[str]
    doubled: set[str]
    spoofed: list[str]
    malformed: str | None


def read_fields(pairs: Iterable[tuple[str | bytes, bytes]]) -> Fields:
    """Tell the fields apart. Names may come in any case."""
    client: dict[str, str] = {}
    gateway: dict[str, str] = {}
    repeated: set[str] = set()
    doubled: set[str] = set()
    spoofed: list[str] = []
    malformed: str | None = None
    known = _known
    for raw, value in pairs:
        name, heap = known.get(raw) or _learn(raw)
        text = value.decode("latin-1")
        if not is_field_value(text):
            malformed = name
        if heap == CLIENT:
            into = client
        elif heap == GATEWAY:
            into = gateway
        else:
            spoofed.append(name)
            continue
        if name in into:
            (repeated if heap == CLIENT else doubled).add(name)
            into[name] = f"{into[name]}, {text}"
        else:
            into[name] = text
    return Fields(client, gateway, repeated, doubled, spoofed, malformed)


def mark_joined(fields: Fields) -> None:
    """Where Envoy joined repeated fields before we saw them, take what looks so for repeated.

    It puts a comma without a space between them. No credential holds one, so
    none is lost; a Cookie is joined by "; " and stays one field.
    """
    for name, value in fields.client.items():
        if "," in value and name != "cookie" and _JOINED.search(value):
            fields.repeated.add(name)


def classify(raw: str | bytes) -> tuple[str, int]:
    """A field's name in lower case, and the heap that it belongs to."""
    return _known.get(raw) or _learn(raw)


def _learn(raw: str | bytes) -> tuple[str, int]:
    """Classify a name. What clients make up may fill the table, never outgrow it."""
    name = (raw if isinstance(raw, str) else raw.decode("latin-1")).lower()
    if name in (GATEWAY_TOKEN, GATEWAY_CAN):
        heap = GATEWAY
    elif _OURS.match(name):
        heap = SPOOFED
    else:
        heap = GATEWAY if _PLUMBING.match(name) else CLIENT
    if len(name) <= _LONGEST_KNOWN:
        if len(_known) >= _MOST_KNOWN:
            _known.clear()
        _known[raw] = (name, heap)
    return name, heap


def encode(name: str, value: str) -> bytes:
    """A header value as bytes. A Cookie returns as it came (latin-1), anything else is UTF-8."""
    if value.isascii():
        return value.encode("ascii")
    return value.encode("latin-1" if name == "cookie" else "utf-8")
