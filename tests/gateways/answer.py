"""An answer of a model server, and how it is written: whole, or as server-sent events."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream; charset=utf-8"
DONE: Final = b"data: [DONE]\n\n"
MOST_PIECES: Final = 3000  # more take a gateway too long

# As Envoy's access log names them, and where a usage object has them.
_COUNTS: Final = {
    "input": ("prompt_tokens", "input_tokens"),
    "output": ("completion_tokens", "output_tokens"),
    "total": ("total_tokens",),
    "cache_read": ("cache_read_input_tokens",),
    "cache_creation": ("cache_creation_input_tokens",),
}
_DETAILS: Final = {
    "cached": ("cached_tokens", "prompt_tokens_details", "input_tokens_details"),
    "reasoning": ("reasoning_tokens", "completion_tokens_details", "output_tokens_details"),
}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer. `usage` None: it says nothing that counts."""

    content_type: str
    parts: Sequence[bytes]
    usage: Mapping[str, Any] | None

    @property
    def body(self) -> bytes:
        return b"".join(self.parts)

    @property
    def streamed(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    @property
    def counted(self) -> dict[str, float]:
        """The numbers in `usage`, by their names in Envoy's access log."""
        usage = self.usage or {}
        paths = [(name, usage, key) for name, keys in _COUNTS.items() for key in keys]
        paths += [
            (name, usage.get(each, {}), key) for name, (key, *objects) in _DETAILS.items() for each in objects
        ]
        return {name: float(where[key]) for name, where, key in paths if key in where}

    def pieces(self, size: int) -> list[bytes]:
        """The body in pieces of so many bytes; of more where they were too many."""
        size = max(size, -(-len(self.body) // MOST_PIECES))
        return [self.body[at : at + size] for at in range(0, len(self.body), size)]


def spaced(value: Any) -> bytes:
    """JSON as Python's default has it, with spaces."""
    return json.dumps(value).encode()


def event(value: Any, *, end: bytes = b"\n\n", named: bool = False) -> bytes:
    """A server-sent event, of JSON without spaces or of these bytes."""
    name = b"event: " + value["type"].encode() + end[: len(end) // 2] if named else b""
    compact = {"ensure_ascii": False, "separators": (",", ":")}
    text = value if isinstance(value, bytes) else json.dumps(value, **compact).encode()  # type: ignore[arg-type]
    return name + b"data: " + text + end


def document(answer: Any, usage: Mapping[str, Any] | None, *, content_type: str = JSON) -> Answer:
    return Answer(content_type=content_type, parts=[spaced(answer)], usage=usage)


def events(*given: Any, usage: Mapping[str, Any] | None, end: bytes = b"\n\n", named: bool = False) -> Answer:
    """Each one a part; `[DONE]` follows where events have no names."""
    parts = [event(each, end=end, named=named) for each in given]
    if not named:
        parts.append(event(b"[DONE]", end=end))
    return Answer(content_type=EVENTS, parts=parts, usage=usage)


def chunk(text: str, **fields: Any) -> dict[str, Any]:
    """Of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "model": "demo",
        "choices": [choice],
        **fields,
    }
