"""The access log of the nginx that `authz render nginx` configures, read back into reports of usage.

A line is an item of `POST /v1/usage` already, but for its usage, which stands there as text; without
njs it has none.
"""

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from authz.cli.envoy_journal import Skipped
from authz.transport.usage import LONGEST_RESERVATION


class Line(Struct, frozen=True):
    """What a settlement needs of one. Unknown keys are ignored."""

    reservation: Annotated[str, Meta(max_length=LONGEST_RESERVATION)]
    gateway: str = "-"
    usage: str = ""  # JSON
    status: int = 0
    reached: bool = True
    aborted: bool = False
    streamed: bool = False
    response_bytes: int = 0
    duration_ms: int = 0


_line = msgspec.json.Decoder(Line)
_usage = msgspec.json.Decoder(dict[str, Raw])


def read_report(text: bytes, gateway: str) -> dict[str, object] | Skipped:
    """A line as an item of `POST /v1/usage`. A line that names no gateway may be this one's."""
    try:
        line = _line.decode(text)
        usage = _usage.decode(line.usage) if line.usage else None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Skipped.UNREADABLE
    if line.gateway not in ("-", gateway):
        return Skipped.OTHER_GATEWAY
    if not line.reservation:
        return Skipped.NOTHING_HELD
    return {
        "reservation": line.reservation,
        "usage": usage,
        "status": line.status,
        "reached": line.reached,
        "aborted": line.aborted,
        "streamed": line.streamed,
        "response_bytes": line.response_bytes,
        "duration_ms": line.duration_ms,
    }
