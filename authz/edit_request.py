"""Which places of a request's body change on its way to the model server.

A stream reports what it used only where its client asks for that
(`stream_options.include_usage`, OpenAI API reference), so the gateway asks in the
client's place. What the client says itself is kept.
"""

from collections.abc import Iterator
from typing import Literal

import msgspec
from msgspec import Raw

from authz.edit import Splice
from authz.peek import Peek

IncludeUsage = bool | Literal["continuous"]
"""Whether a stream is asked for its usage; `continuous`: in each of its chunks (vLLM)."""

# The Responses API and Anthropic's messages report without being asked.
ASKABLE = frozenset({"/v1/chat/completions", "/v1/completions"})

_options = msgspec.json.Decoder(dict[str, Raw])


def ask_for_usage(path: str, body: Peek, wanted: IncludeUsage) -> Iterator[Splice]:
    """The splice that makes a stream report its usage, if it needs one."""
    if not wanted or not body.stream or path not in ASKABLE:
        return
    wishes = ["include_usage"] if wanted is True else ["include_usage", "continuous_usage_stats"]
    place = body.places.get("stream_options")
    if place is None:  # the object has a member, `stream`: a comma is right
        yield Splice(body.opening, 0, f'"stream_options":{{{_true(wishes)}}},')
        return
    offset, raw = place
    if raw == b"null":
        return
    options = _options.decode(raw)
    if "include_usage" in options:
        wishes.remove("include_usage")
        if options["include_usage"] != b"true":
            return
    missing = [wish for wish in wishes if wish not in options]
    if missing:
        yield Splice(offset + 1, 0, _true(missing) + ("," if options else ""))


def _true(wishes: list[str]) -> str:
    return ",".join(f'"{wish}":true' for wish in wishes)
