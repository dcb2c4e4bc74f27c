"""What model servers answer, and the usage that is in it: every API, whole and as server-sent events."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

JSON = "application/json"
EVENTS = "text/event-stream; charset=utf-8"
HUGE = 2**53 + 1
FAKE = {"prompt_tokens": 999, "completion_tokens": 999, "total_tokens": 1998}


@dataclass(frozen=True, kw_only=True)
class Answer:
    """One answer. `usage` None: it says nothing that counts."""

    content_type: str
    parts: Sequence[bytes]
    usage: dict[str, Any] | None


def document(answer: Any, usage: dict[str, Any] | None, *, content_type: str = JSON) -> Answer:
    return Answer(content_type=content_type, parts=[json.dumps(answer).encode()], usage=usage)


def events(*given: Any, usage: dict[str, Any] | None, end: bytes = b"\n\n", named: bool = False) -> Answer:
    """Each one a part; `[DONE]` follows where events have no names."""
    parts = []
    for event in given:
        name = b"event: " + event["type"].encode() + end[: len(end) // 2] if named else b""
        text = event if isinstance(event, bytes) else json.dumps(event, separators=(",", ":")).encode()
        parts.append(name + b"data: " + text + end)
    if not named:
        parts.append(b"data: [DONE]" + end)
    return Answer(content_type=EVENTS, parts=parts, usage=usage)


def chunk(text: str, **fields: Any) -> dict[str, Any]:
    """Of a streamed chat completion."""
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "choices": [choice], **fields}


CHAT = {
    "prompt_tokens": 11,
    "completion_tokens": 7,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 2},
}
RESPONSES = {
    "input_tokens": 21,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 30,
}
MESSAGES = {
    "input_tokens": 31,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 3,
    "output_tokens": 12,
}
QUOTED = f'Say {{"usage": {json.dumps(FAKE)}}} and\n\ndata: {{"usage": {json.dumps(FAKE)}}}\n\n"usage"'
MESSAGE = {"id": "msg_1", "type": "message", "content": [], "usage": MESSAGES | {"output_tokens": 1}}
EMBEDDED = {"object": "embedding", "index": 0, "embedding": [0.25, -1.5e-3]}

WITH_USAGE: dict[str, Answer] = {
    "chat": document({"choices": [{"message": {"content": "Hi"}}], "usage": CHAT}, CHAT),
    "chat-usage-first": document({"usage": CHAT, "choices": [], "service_tier": "x"}, CHAT),
    "chat-stream": events(
        chunk("Hel"), chunk("lo"), {"id": "chatcmpl-1", "choices": [], "usage": CHAT}, usage=CHAT
    ),
    "chat-stream-null-until-the-end": events(
        chunk("Hel", usage=None), chunk("lo", usage=None), {"choices": [], "usage": CHAT}, usage=CHAT
    ),
    "chat-stream-null-afterwards": events(
        chunk("Hi", usage=CHAT), b'{"choices":[],"usage": null}', usage=CHAT
    ),
    "chat-stream-continuous": events(
        *(chunk("a", usage=CHAT | {"completion_tokens": count}) for count in range(7)),
        chunk("", usage=CHAT),
        usage=CHAT,
    ),
    "chat-stream-crlf": events(chunk("Hi"), {"choices": [], "usage": CHAT}, usage=CHAT, end=b"\r\n\r\n"),
    "chat-stream-cr": events(chunk("Hi"), {"choices": [], "usage": CHAT}, usage=CHAT, end=b"\r\r"),
    "chat-stream-no-last-line-end": Answer(
        content_type=EVENTS,
        parts=[b"data:" + json.dumps({"choices": [], "usage": CHAT}).encode()],
        usage=CHAT,
    ),
    "completion": document({"object": "text_completion", "choices": [], "usage": CHAT}, CHAT),
    "embeddings": document(
        {"object": "list", "data": [EMBEDDED], "usage": {"prompt_tokens": 8, "total_tokens": 8}},
        {"prompt_tokens": 8, "total_tokens": 8},
    ),
    "responses": document({"object": "response", "output": [], "usage": RESPONSES}, RESPONSES),
    "responses-stream": events(
        {"type": "response.created", "response": {"id": "resp_1", "usage": None}},
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.completed", "response": {"id": "resp_1", "usage": RESPONSES}},
        usage=RESPONSES,
        named=True,
    ),
    "responses-stream-incomplete": events(
        {"type": "response.output_text.delta", "delta": "Hi"},
        {"type": "response.incomplete", "response": {"id": "resp_1", "usage": RESPONSES}},
        usage=RESPONSES,
        named=True,
    ),
    "messages": document(MESSAGE | {"usage": MESSAGES}, MESSAGES),
    "messages-stream": events(
        {"type": "message_start", "message": MESSAGE},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}},
        {"type": "message_stop"},
        usage=MESSAGES,
        named=True,
    ),
    "rerank": document({"results": [], "usage": {"total_tokens": 56}}, {"total_tokens": 56}),
    "problem-json": document({"usage": CHAT}, CHAT, content_type="application/problem+json"),
    "numbers-as-they-are": document(
        {"usage": {"prompt_tokens": HUGE, "completion_tokens": -1, "x": "many"}},
        {"prompt_tokens": HUGE, "completion_tokens": -1, "x": "many"},
    ),
    "numbers-as-they-are-stream": events(
        {"usage": {"prompt_tokens": HUGE, "completion_tokens": -1}},
        usage={"prompt_tokens": HUGE, "completion_tokens": -1},
    ),
    "103-real-beside-the-fake": document(
        {"choices": [{"message": {"content": QUOTED, "usage": FAKE}}], "usage": CHAT, "x": {"usage": FAKE}}, CHAT
    ),
    "103-real-beside-the-fake-stream": events(
        chunk(QUOTED), {"choices": [{"delta": {"usage": FAKE}}], "usage": CHAT}, chunk(QUOTED), usage=CHAT
    ),
}  # fmt: skip

WITHOUT_USAGE: dict[str, Answer] = {
    "102-none": document({"choices": [{"message": {"content": "Hi"}}]}, None),
    "102-none-stream": events(chunk("Hel"), chunk("lo"), usage=None),
    "102-null": document({"choices": [], "usage": None}, None),
    "102-null-stream": events(chunk("Hel", usage=None), usage=None),
    "103-in-the-text": document({"choices": [{"message": {"content": QUOTED}}]}, None),
    "103-in-the-text-stream": events(chunk(QUOTED), usage=None),
    "103-in-a-tool-call": document({"content": [{"type": "tool_use", "input": {"usage": FAKE}}]}, None),
    "103-in-a-tool-call-stream": events(
        {"delta": {"usage": FAKE}, "usage_": FAKE, "Usage": FAKE}, usage=None
    ),
    "103-in-no-data-line": Answer(
        content_type=EVENTS,
        parts=[b": " + json.dumps({"usage": FAKE}).encode(), b"\n\nevent: {", b'"usage":{"a":1}}\n\n'],
        usage=None,
    ),
    "103-plain-text": document({"usage": FAKE}, None, content_type="text/plain"),
    "no-object": document([{"usage": FAKE}], None),
    "usage-no-object": document({"usage": [1]}, None),
    "usage-no-object-stream": events({"usage": 7}, usage=None),
    "broken-json": Answer(content_type=JSON, parts=[b'{"usage":{"prompt_tokens":1}'], usage=None),
    "broken-json-stream": events(b'{"usage":{"prompt_tokens":1}', usage=None),
    "empty": Answer(content_type=JSON, parts=[], usage=None),
}
