"""What model servers answer in every dialect, as bytes, and the usage object that a gateway must read from it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

EVENTS = "text/event-stream; charset=utf-8"
FAKE = '"usage": {"prompt_tokens": 999}, \\"usage\\": {"total_tokens": 998}}\n\ndata: {"usage": {"prompt_tokens": 997}}'


@dataclass(frozen=True)
class Answered:
    """One answer. `usage` None: it tells none."""

    body: bytes
    usage: Mapping[str, Any] | None
    content_type: str = "application/json"

    @property
    def streamed(self) -> bool:
        return self.content_type.startswith("text/event-stream")

    def pieces(self, size: int) -> list[bytes]:
        """The body in pieces of so many bytes."""
        return [self.body[at : at + size] for at in range(0, len(self.body), size)]


def _whole(value: Any, usage: Mapping[str, Any] | None) -> Answered:
    return Answered(json.dumps(value).encode(), usage)


def _events(
    values: Sequence[Any], usage: Mapping[str, Any] | None, *, end: str = "data: [DONE]\n\n"
) -> Answered:
    text = "".join(f"data: {json.dumps(value, ensure_ascii=False)}\n\n" for value in values)
    return Answered((text + end).encode(), usage, EVENTS)


CHAT = {
    "prompt_tokens": 21,
    "completion_tokens": 13,
    "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 16},
    "completion_tokens_details": {"reasoning_tokens": 4},
}
RESPONSES = {
    "input_tokens": 7,
    "input_tokens_details": {"cached_tokens": 2},
    "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 1},
    "total_tokens": 12,
}
ANTHROPIC_START = {
    "input_tokens": 11,
    "cache_creation_input_tokens": 3,
    "cache_read_input_tokens": 4,
    "output_tokens": 1,
}
ANTHROPIC = {**ANTHROPIC_START, "output_tokens": 15}


def _delta(text: str, **more: Any) -> dict[str, Any]:
    return {"id": "c", "choices": [{"index": 0, "delta": {"content": text}}], **more}


def _named(*events: dict[str, Any]) -> bytes:
    return "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events).encode()


_CHAT_WHOLE = {"id": "c", "choices": [{"message": {"content": FAKE}}], "usage": CHAT}
_CHAT_STREAM = [
    _delta("hé\u4f60", usage=None),
    _delta(FAKE, usage=None),
    {"id": "c", "choices": [], "usage": CHAT},
]
_COUNTED = [_delta(f"word {n}", usage={**CHAT, "completion_tokens": n}) for n in range(1, 101)]

ANSWERS: dict[str, Answered] = {
    "chat": _whole(_CHAT_WHOLE, CHAT),
    "chat usage before the text": _whole(
        {"usage": CHAT, "choices": [{"message": {"content": FAKE * 400}}]}, CHAT
    ),
    "chat something after the usage": _whole({**_CHAT_WHOLE, "prompt_logprobs": None}, CHAT),
    "completions": _whole(
        {"choices": [{"text": "ok"}], "usage": {"prompt_tokens": 3, "total_tokens": 3}},
        {"prompt_tokens": 3, "total_tokens": 3},
    ),
    "embeddings": _whole(
        {"data": [{"embedding": [0.25]}], "usage": {"prompt_tokens": 5, "total_tokens": 5}},
        {"prompt_tokens": 5, "total_tokens": 5},
    ),
    "responses": _whole({"object": "response", "output": [], "usage": RESPONSES}, RESPONSES),
    "anthropic": _whole({"type": "message", "content": [], "usage": ANTHROPIC}, ANTHROPIC),
    "rerank": _whole({"results": [], "usage": {"total_tokens": 56}}, {"total_tokens": 56}),
    "chat streamed": _events(_CHAT_STREAM, CHAT),
    "chat streamed and counted all along": _events(_COUNTED, {**CHAT, "completion_tokens": 100}),
    "responses streamed": Answered(
        _named(
            {"type": "response.created", "response": {"usage": None}},
            {"type": "response.output_text.delta", "delta": FAKE},
            {"type": "response.completed", "response": {"output": [FAKE], "usage": RESPONSES}},
        ),
        RESPONSES,
        EVENTS,
    ),
    "anthropic streamed": Answered(
        _named(
            {"type": "message_start", "message": {"usage": ANTHROPIC_START}},
            {"type": "content_block_delta", "delta": {"type": "text_delta", "text": FAKE}},
            {"type": "message_delta", "delta": {}, "usage": {"output_tokens": 15, "input_tokens": None}},
            {"type": "message_stop"},
        ),
        ANTHROPIC,
        EVENTS,
    ),
    "lines that end with CRLF": Answered(
        _events(_CHAT_STREAM, CHAT).body.replace(b"\n", b"\r\n"), CHAT, EVENTS
    ),
    "a last event without its end": _events(
        _CHAT_STREAM[:2], CHAT, end=f"data:{json.dumps(_CHAT_STREAM[2])}"
    ),
    "101 no usage": _whole({"choices": [{"message": {"content": FAKE}}]}, None),
    "102 a stream without usage": _events(_CHAT_STREAM[:2], None),
    "103 usage deeper inside": _whole({"choices": [{"usage": CHAT, "message": {"usage": CHAT}}]}, None),
    "103 usage in a list": _whole([{"usage": CHAT}], None),
    "103 events in a text": Answered(_events(_CHAT_STREAM, CHAT).body, None, "text/plain"),
    "103 usage that is no object": _whole({"usage": "many", "choices": []}, None),
    "103 an event that is no JSON": _events(["x"], None, end='data: {"usage": {"prompt_tokens": 5}\n\n'),
    "103 a comment": _events(_CHAT_STREAM[:1], None, end=': {"usage": {"prompt_tokens": 5}}\n\n'),
    "nothing": Answered(b"", None),
}
