"""What model servers answer, and the usage that is in it: every API, whole and as server-sent events."""

import json
from typing import Final

from tests.gateways.answer import EVENTS, Answer, chunk, document, event, events

HUGE: Final = 2**53 + 1
FAKE: Final = {"prompt_tokens": 999, "completion_tokens": 999, "total_tokens": 1998, "input_tokens": 1}
_COMPACT = json.dumps({"usage": FAKE}, separators=(",", ":"))
QUOTED: Final = (
    f'Say {{"usage": {json.dumps(FAKE)}}} and\n\ndata: {{"usage": {json.dumps(FAKE)}}}\n\n'
    f'\\"usage\\": {{"total_tokens": 998}}}}\n\ndata: {_COMPACT}\n\n"usage"'
)
"""A text of a model that has, as text, everything that an answer's own usage looks like."""

CHAT: Final = {
    "prompt_tokens": 21,
    "completion_tokens": 13,
    "total_tokens": 34,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "accepted_prediction_tokens": 0},
}
RESPONSES: Final = {
    "input_tokens": 21,
    "input_tokens_details": {"cached_tokens": 5},
    "output_tokens": 9,
    "output_tokens_details": {"reasoning_tokens": 3},
    "total_tokens": 30,
}
MESSAGES: Final = {
    "input_tokens": 31,
    "cache_creation_input_tokens": 2,
    "cache_read_input_tokens": 3,
    "output_tokens": 12,
}
FEW: Final = {"prompt_tokens": 8, "total_tokens": 8}
COMPLETION: Final = {"prompt_tokens": 7, "completion_tokens": 3}

_MESSAGE = {"role": "assistant", "content": QUOTED}
_WHOLE = {"id": "c-1", "choices": [{"index": 0, "message": _MESSAGE}], "usage": CHAT}
_LAST = chunk("") | {"choices": [], "usage": CHAT}
CHUNKS: Final = [chunk("h\u00e9\u4f60", usage=None), chunk(QUOTED, usage=None), _LAST]
_EMBEDDED = {"object": "embedding", "index": 0, "embedding": [0.25, -1.5e-3]}
_OUTPUT = [{"type": "message", "content": [{"type": "output_text", "text": QUOTED}]}]
_RESPONSE = {"id": "resp_1", "output": _OUTPUT, "usage": RESPONSES, "user": None}
_CREATED = {"type": "response.created", "response": {"id": "resp_1", "usage": None}}
_WRITTEN = {"type": "response.output_text.delta", "delta": QUOTED}
_TOOL = {"type": "tool_use", "name": "bill", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
_BEGUN = {"id": "msg_1", "type": "message", "content": [], "usage": MESSAGES | {"output_tokens": 1}}
_TEXT = {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": QUOTED}}
_CALL = {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": QUOTED}}
_STOP = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 12}}

WITH_USAGE: Final[dict[str, Answer]] = {
    "chat": document(_WHOLE, CHAT),
    "chat-more-after-the-usage": document(_WHOLE | {"prompt_logprobs": None, "system_fingerprint": None}, CHAT),
    "chat-usage-first": document({"usage": CHAT, "choices": [], "service_tier": "x"}, CHAT),
    "chat-usage-before-a-long-text": document(
        {"usage": CHAT, "choices": [{"message": {"content": QUOTED * 120}}]}, CHAT
    ),
    "chat-stream": events(
        chunk("Hel"), chunk("lo"), {"id": "chatcmpl-1", "choices": [], "usage": CHAT}, usage=CHAT
    ),
    "chat-stream-null-until-the-end": events(*CHUNKS, usage=CHAT),
    "chat-stream-null-afterwards": events(
        chunk("Hi", usage=CHAT), b'{"choices":[],"usage": null}', usage=CHAT
    ),
    "chat-stream-continuous": events(
        *(chunk("a", usage=CHAT | {"completion_tokens": count}) for count in range(7)),
        chunk("", usage=CHAT),
        usage=CHAT,
    ),
    "chat-stream-continuous-and-long": events(
        *(chunk(f"word {count}", usage=CHAT | {"completion_tokens": count}) for count in range(1, 101)),
        usage=CHAT | {"completion_tokens": 100},
    ),
    "chat-stream-crlf": events(*CHUNKS, usage=CHAT, end=b"\r\n\r\n"),
    "chat-stream-cr": events(*CHUNKS, usage=CHAT, end=b"\r\r"),
    "chat-stream-no-last-line-end": Answer(
        content_type=EVENTS,
        parts=[*map(event, CHUNKS[:2]), b"data:" + json.dumps(CHUNKS[2]).encode()],
        usage=CHAT,
    ),
    "completion": document({"object": "text_completion", "choices": [{"text": QUOTED}], "usage": COMPLETION}, COMPLETION),
    "completion-without-output": document({"choices": [{"text": "ok"}], "usage": FEW}, FEW),
    "completion-stream": events(
        {"choices": [{"text": "a"}]}, {"choices": [], "usage": COMPLETION}, usage=COMPLETION
    ),
    "embeddings": document({"object": "list", "data": [_EMBEDDED], "usage": FEW}, FEW),
    "embeddings-usage-first": document(
        {"model": "m", "usage": FEW, "data": [_EMBEDDED]}, FEW, content_type="application/json; charset=utf-8"
    ),
    "responses": document(
        {"object": "response", "output": _OUTPUT, "usage": RESPONSES, "metadata": {"usage": "{}"}}, RESPONSES
    ),
    "responses-stream": events(
        _CREATED, _WRITTEN, {"type": "response.completed", "response": _RESPONSE}, usage=RESPONSES, named=True
    ),
    "responses-stream-incomplete": events(
        _CREATED, {"type": "response.incomplete", "response": _RESPONSE}, usage=RESPONSES, named=True
    ),
    "messages": document(_BEGUN | {"usage": MESSAGES}, MESSAGES),
    "messages-tool-and-tier": document(
        {
            "type": "message",
            "content": [_TOOL, {"type": "text", "text": QUOTED}],
            "stop_reason": "end_turn",
            "usage": MESSAGES | {"service_tier": "standard"},
        },
        MESSAGES | {"service_tier": "standard"},
    ),
    "messages-stream": events(
        {"type": "message_start", "message": _BEGUN},
        _TEXT,
        _CALL,
        _STOP,
        {"type": "message_stop"},
        usage=MESSAGES,
        named=True,
    ),
    "messages-stream-null-at-the-end": events(
        {"type": "message_start", "message": _BEGUN},
        _STOP | {"usage": {"output_tokens": 12, "input_tokens": None}},
        {"type": "message_stop"},
        usage=MESSAGES,
        named=True,
    ),
    "rerank": document({"results": [], "usage": {"total_tokens": 56}}, {"total_tokens": 56}),
    "rerank-usage-first": document(
        {"id": "r", "usage": {"total_tokens": 56}, "results": [{"document": {"text": QUOTED}}]},
        {"total_tokens": 56},
    ),
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
