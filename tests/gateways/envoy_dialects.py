"""What model servers answer in each API, event by event, and the usage in it by the names of the access log."""

import json
from dataclasses import dataclass
from typing import Any, Final

SSE: Final = "text/event-stream; charset=utf-8"
JSON: Final = "application/json"
DONE: Final = b"data: [DONE]\n\n"
FAKE: Final = '\n\ndata: {"usage":{"prompt_tokens":1,"completion_tokens":1,"input_tokens":1}}\n\n'

OPENAI: Final = {
    "prompt_tokens": 120,
    "completion_tokens": 34,
    "total_tokens": 154,
    "prompt_tokens_details": {"cached_tokens": 64, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 20, "accepted_prediction_tokens": 0},
}
RESPONSES: Final = {
    "input_tokens": 120,
    "input_tokens_details": {"cached_tokens": 64},
    "output_tokens": 34,
    "output_tokens_details": {"reasoning_tokens": 20},
    "total_tokens": 154,
}
COUNTED: Final = {"input": 120, "output": 34, "total": 154, "cached": 64, "reasoning": 20}


@dataclass(frozen=True)
class Dialect:
    """One answer of one API."""

    content_type: str
    events: tuple[bytes, ...]
    counted: dict[str, float]


def event(value: Any, name: str | None = None) -> bytes:
    """A server-sent event."""
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(value, separators=(',', ':'))}\n\n".encode()


def spaced(value: Any) -> bytes:
    """JSON as Python's default has it, with spaces."""
    return json.dumps(value).encode()


def _chat(text: str, **more: Any) -> Any:
    choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
    return {"id": "c-1", "object": "chat.completion.chunk", "model": "demo", "choices": choices, **more}


def _named(value: Any) -> bytes:
    return event(value, value["type"])


_ANTHROPIC_START = {"input_tokens": 12, "cache_read_input_tokens": 100, "cache_creation_input_tokens": 8}
_CHOICE = {"index": 0, "message": {"role": "assistant", "content": f'say "usage": {FAKE}'}}
_TOOL = {"type": "tool_use", "name": "bill", "input": {"usage": {"input_tokens": 1, "output_tokens": 1}}}
_OUTPUT = [{"type": "message", "content": [{"type": "output_text", "text": FAKE}]}]

DIALECTS: Final[dict[str, Dialect]] = {
    "chat": Dialect(
        JSON,
        (spaced({"id": "c-1", "choices": [_CHOICE], "usage": OPENAI, "system_fingerprint": None}),),
        COUNTED,
    ),
    "chat-stream": Dialect(
        SSE,
        (
            event(_chat("Hello", usage=None)),
            event(_chat(FAKE, usage=None)),
            event({**_chat(""), "choices": [], "usage": OPENAI}),
            DONE,
        ),
        COUNTED,
    ),
    "completions": Dialect(
        JSON,
        (spaced({"choices": [{"text": FAKE}], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),),
        {"input": 7, "output": 3},
    ),
    "completions-stream": Dialect(
        SSE,
        (
            event({"choices": [{"text": "a"}]}),
            event({"choices": [], "usage": {"prompt_tokens": 7, "completion_tokens": 3}}),
            DONE,
        ),
        {"input": 7, "output": 3},
    ),
    "embeddings": Dialect(
        JSON,
        (
            spaced(
                {
                    "object": "list",
                    "data": [{"embedding": [0.5, -0.25]}],
                    "usage": {"prompt_tokens": 9, "total_tokens": 9},
                }
            ),
        ),
        {"input": 9, "total": 9},
    ),
    "embeddings-usage-first": Dialect(
        "application/json; charset=utf-8",
        (
            spaced(
                {"model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9}, "data": [{"embedding": [1]}]}
            ),
        ),
        {"input": 9, "total": 9},
    ),
    "responses": Dialect(
        JSON, (spaced({"output": _OUTPUT, "usage": RESPONSES, "metadata": {"usage": "{}"}}),), COUNTED
    ),
    "responses-stream": Dialect(
        SSE,
        (
            _named({"type": "response.created", "response": {"usage": None}}),
            _named({"type": "response.output_text.delta", "delta": FAKE}),
            _named(
                {
                    "type": "response.completed",
                    "response": {"output": _OUTPUT, "usage": RESPONSES, "user": None},
                }
            ),
        ),
        COUNTED,
    ),
    "responses-incomplete": Dialect(
        SSE,
        (
            _named({"type": "response.created", "response": {"usage": None}}),
            _named({"type": "response.incomplete", "response": {"output": _OUTPUT, "usage": RESPONSES}}),
        ),
        COUNTED,
    ),
    "messages": Dialect(
        JSON,
        (
            spaced(
                {
                    "type": "message",
                    "content": [_TOOL, {"type": "text", "text": FAKE}],
                    "stop_reason": "end_turn",
                    "usage": {**_ANTHROPIC_START, "output_tokens": 34, "service_tier": "standard"},
                }
            ),
        ),
        {"input": 12, "cache_read": 100, "cache_creation": 8, "output": 34},
    ),
    "messages-stream": Dialect(
        SSE,
        (
            _named({"type": "message_start", "message": {"usage": {**_ANTHROPIC_START, "output_tokens": 1}}}),
            _named(
                {"type": "content_block_delta", "delta": {"type": "input_json_delta", "partial_json": FAKE}}
            ),
            _named(
                {
                    "type": "message_delta",
                    "delta": {"stop_reason": "end_turn"},
                    "usage": {"output_tokens": 34},
                }
            ),
            _named({"type": "message_stop"}),
        ),
        {"input": 12, "cache_read": 100, "cache_creation": 8, "output": 34},
    ),
    "vllm-continuous": Dialect(
        SSE,
        (
            *(
                event(
                    _chat(
                        "x", usage={"prompt_tokens": 5, "completion_tokens": count, "total_tokens": 5 + count}
                    )
                )
                for count in (1, 2, 3)
            ),
            DONE,
        ),
        {"input": 5, "output": 3, "total": 8},
    ),
    "rerank": Dialect(
        JSON,
        (spaced({"id": "r", "usage": {"total_tokens": 56}, "results": [{"document": {"text": FAKE}}]}),),
        {"total": 56},
    ),
}
"""Each API, streamed and whole."""
