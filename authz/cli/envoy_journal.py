"""The journal of the Envoy that `authz render envoy` configures: its lines, read back into reports of usage.

Each line that is a JSON object is one request that ended; anything between them is Envoy's own log.
"""

import gzip
import zlib
from collections.abc import Iterator, Mapping
from enum import StrEnum
from io import BufferedReader
from typing import Final

import msgspec
from msgspec import Struct

from authz.transport.usage import LONGEST_RESERVATION

LONGEST_LINE: Final = 1 << 20
"""Bytes. Envoy writes none that comes near: a longer one is not from it."""

_NEVER_THERE: Final = frozenset({"UF", "UH", "NR"})  # no model server was reached
# The response did not end by itself: the client left, the model server broke off, or a time was over.
_CUT: Final = frozenset({"DC", "DR", "DPE", "UC", "UR", "UPE", "UT", "UMSDR", "LR", "SI", "DT", "OM"})
_ENDED: Final = "DownstreamEnd"
_GZIP: Final = b"\x1f\x8b"

# The metadata's names as APIs spell them; a count apart for the cache tells Anthropic's from the others.
_OPENAI: Final = {"input": "prompt_tokens", "output": "completion_tokens", "total": "total_tokens"}
_OPENAI_DETAILS: Final = {
    "cached": ("prompt_tokens_details", "cached_tokens"),
    "reasoning": ("completion_tokens_details", "reasoning_tokens"),
}
_ANTHROPIC: Final = {
    "input": "input_tokens",
    "output": "output_tokens",
    "cache_read": "cache_read_input_tokens",
    "cache_creation": "cache_creation_input_tokens",
}


class Skipped(StrEnum):
    """Why a line makes no report."""

    NOTHING_HELD = "nothing_held"  # a refusal, a redirect, the list of models
    OTHER_GATEWAY = "other_gateway"
    UNREADABLE = "unreadable"


class Line(Struct, frozen=True):
    """What a settlement needs of one. Unknown keys are ignored."""

    reservation: str | None
    type: str = _ENDED
    gateway: str = "-"
    usage: Mapping[str, object] | None = None
    status: int = 0
    flags: str | None = None
    upstream: str | None = None
    content_type: str | None = None
    sent_bytes: int | None = None
    milliseconds: int | None = None


_line = msgspec.json.Decoder(Line)


def read_lines(stream: BufferedReader) -> Iterator[bytes | Skipped]:
    """The JSON lines of a journal, plain or compressed with gzip.

    What cannot be read is told and passed over; of a compressed file that was cut off the end is lost.
    """
    is_compressed = stream.peek(len(_GZIP)).startswith(_GZIP)
    lines = _lines(gzip.GzipFile(fileobj=stream) if is_compressed else stream)
    while True:
        try:
            yield next(lines)
        except StopIteration:
            return
        except (EOFError, zlib.error, gzip.BadGzipFile):
            yield Skipped.UNREADABLE
            return


def _lines(source: BufferedReader | gzip.GzipFile) -> Iterator[bytes | Skipped]:
    held, is_too_long = b"", False
    while part := source.read(1 << 16):
        first, *others = part.split(b"\n")
        held += first
        for other in others:
            yield from _whole(held, is_too_long)
            held, is_too_long = other, False
        if len(held) > LONGEST_LINE:
            held, is_too_long = b"", True
    yield from _whole(held, is_too_long)


def _whole(line: bytes, is_too_long: bool) -> Iterator[bytes | Skipped]:
    if is_too_long:
        yield Skipped.UNREADABLE
    elif line.startswith(b"{"):
        yield line


def read_report(text: bytes, gateway: str) -> dict[str, object] | Skipped:
    """A line as an item of `POST /v1/usage`. A line that names no gateway may be this one's."""
    try:
        line = _line.decode(text)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return Skipped.UNREADABLE
    if line.gateway not in ("-", gateway):
        return Skipped.OTHER_GATEWAY
    if not line.reservation or line.type != _ENDED:
        return Skipped.NOTHING_HELD
    if len(line.reservation) > LONGEST_RESERVATION:
        return Skipped.UNREADABLE
    flags = frozenset((line.flags or "").split(","))
    streamed = None if line.content_type is None else line.content_type.startswith("text/event-stream")
    return {
        "reservation": line.reservation,
        "usage": _usage(line.usage),
        "status": line.status,
        "reached": line.upstream is not None and not flags & _NEVER_THERE,
        "aborted": bool(flags & _CUT),
        "streamed": streamed,
        "response_bytes": line.sent_bytes,
        "duration_ms": line.milliseconds,
    }


def _usage(counts: Mapping[str, object] | None) -> dict[str, object] | None:
    if not counts:
        return None
    if "cache_read" in counts or "cache_creation" in counts:
        return {_ANTHROPIC[name]: value for name, value in counts.items() if name in _ANTHROPIC}
    usage: dict[str, object] = {_OPENAI[name]: value for name, value in counts.items() if name in _OPENAI}
    for name, (group, key) in _OPENAI_DETAILS.items():
        if name in counts:
            usage[group] = {key: counts[name]}
    return usage
