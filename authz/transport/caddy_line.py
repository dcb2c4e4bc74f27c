"""One line of Caddy's access log, as the rendered configuration writes it.

https://caddyserver.com/docs/caddyfile/directives/log · https://caddyserver.com/docs/caddyfile/directives/log_append

Caddy cannot read a response, so a line tells bytes and no tokens. `content_type` is added after the
response: where it is missing the response broke off. Whether the client left or the model server did,
Caddy does not tell.
"""

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from authz.report import Report

CLIENT_LEFT = 499
SWITCHED = 101  # a WebSocket, which has no content type

_Text = Annotated[str, Meta(max_length=256)]
_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class Line(Struct, frozen=True, kw_only=True):
    """What is read of a line; everything else in it is ignored."""

    reservation: _Text | None = None  # None or empty: authz holds nothing for this request
    seal: _Text | None = None
    status: Annotated[int, Meta(ge=0, le=999)] = 0
    size: _Count = 0  # bytes of the body, as the client got it
    duration: Annotated[float, Meta(ge=0, le=1e9)] = 0.0  # seconds; 0 where the response broke off
    content_type: str | UnsetType | None = UNSET
    unreached: _Text | None = None  # anything: no connection to the model server came about


_line = msgspec.json.Decoder(Line)


def read_line(text: bytes) -> Line | None:
    """None for what is no line of ours."""
    try:
        return _line.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None


def read_report(line: Line) -> Report:
    """The end of the response that a line tells."""
    kind = line.content_type
    broke_off = kind is UNSET and line.status != SWITCHED
    return Report(
        reservation=line.reservation or "",
        status=line.status,
        reached=not line.unreached,
        aborted=broke_off or line.status == CLIENT_LEFT,
        streamed=kind.lower().startswith("text/event-stream") if isinstance(kind, str) else None,
        response_bytes=line.size,
        duration_ms=round(line.duration * 1000) if line.duration else None,
    )
