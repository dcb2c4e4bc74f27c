"""Which places of a request's body change on its way to the model server.

A stream reports what it used only where its client asks for that
(`stream_options.include_usage`, OpenAI API reference), so the gateway asks in the
client's place. What the client says itself is kept.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

import msgspec
from msgspec import Raw

from authz.edit import Splice
from authz.peek import OUTPUT_LIMITS, Peek

IncludeUsage = bool | Literal["continuous"]
"""Whether a stream is asked for its usage; `continuous`: in each of its chunks (vLLM)."""

LIMITS_OF: Mapping[str, tuple[str, ...]] = {
    "/v1/chat/completions": ("max_tokens", "max_completion_tokens"),
    "/v1/completions": ("max_tokens",),
    "/v1/responses": ("max_output_tokens",),
    "/v1/messages": ("max_tokens",),
}
"""The fields by which each API limits an answer, the usual one first. Servers pass over the others; but
llama.cpp lets `n_predict` override any of them."""

# The Responses API and Anthropic's messages report without being asked.
ASKABLE = frozenset({"/v1/chat/completions", "/v1/completions"})

_options = msgspec.json.Decoder(dict[str, Raw])


def ask_for_usage(path: str, body: Peek, wanted: IncludeUsage) -> Iterator[Splice]:
    """The splice that makes a stream report its usage, if it needs one."""
    if not wanted or not body.stream or path not in ASKABLE:
        return
    wishes = ["include_usage"] if wanted is True else ["include_usage", "continuous_usage_stats"]
    place = body.place("stream_options")
    if place is None:  # the object has a member, `stream`: a comma is right
        yield Splice(body.opening, 0, f'"stream_options":{{{_true(wishes)}}},')
        return
    offset, raw = place
    if raw == b"null":
        return
    options = _options.decode(raw)
    if "include_usage" in options:
        wishes.remove("include_usage")
        if bytes(options["include_usage"]) != b"true":
            return
    missing = [wish for wish in wishes if wish not in options]
    if missing:
        yield Splice(offset + 1, 0, _true(missing) + ("," if options else ""))


def _true(wishes: list[str]) -> str:
    return ",".join(f'"{wish}":true' for wish in wishes)


def limit_answer(path: str, body: Peek, tokens: int) -> Iterator[Splice]:
    """The splices that limit each answer to so many tokens. The path is in LIMITS_OF, the body no `{}`."""
    own, limited = LIMITS_OF[path], False
    for name in OUTPUT_LIMITS:
        limit = body.limits.get(name)
        if limit is not None:
            limited = limited or name in own
            if limit > tokens:
                yield _in_place_of(name, body, tokens)
    if limited:
        return
    yield _in_place_of(own[0], body, tokens)


def _in_place_of(name: str, body: Peek, tokens: int) -> Splice:
    """The member set to a number; a new one where there is none. The body is no `{}`."""
    place = body.place(name)
    if place is None:
        return Splice(body.opening, 0, f'"{name}":{tokens},')
    return Splice(place[0], len(place[1]), str(tokens))


def joined(splices: Iterable[Splice]) -> list[Splice]:
    """In order, with what goes to the same place as one splice."""
    merged: list[Splice] = []
    for splice in sorted(splices):
        if merged and not splice.remove and merged[-1].offset == splice.offset and not merged[-1].remove:
            merged[-1] = Splice(splice.offset, 0, merged[-1].text + splice.text)
        else:
            merged.append(splice)
    return merged
