"""Answers of model servers that tell no usage, however much some of them look like it."""

from typing import Final

from tests.gateways.answer import DONE, EVENTS, JSON, Answer, chunk, document, event, events
from tests.gateways.answers_with_usage import CHAT, CHUNKS, FAKE, QUOTED

_ONE = b'{"usage":{"prompt_tokens":1}}'


def _bytes(content_type: str, *parts: bytes) -> Answer:
    return Answer(content_type=content_type, parts=parts, usage=None)


WITHOUT_USAGE: Final[dict[str, Answer]] = {
    "102-none": document({"choices": [{"message": {"content": "Hi"}}]}, None),
    "102-none-stream": events(chunk("Hel"), chunk("lo"), usage=None),
    "102-null": document({"choices": [], "usage": None}, None),
    "102-null-stream": events(chunk("Hel", usage=None), usage=None),
    "102-null-and-no-choice-stream": events({"choices": [], "usage": None}, usage=None),
    "103-in-the-text": document({"choices": [{"message": {"content": QUOTED}}]}, None),
    "103-in-the-text-stream": events(chunk(QUOTED), usage=None),
    "103-in-the-text-beside-null-stream": events(*CHUNKS[:2], usage=None),
    "103-in-a-choice": document({"choices": [{"usage": CHAT, "message": {"usage": CHAT}}]}, None),
    "103-in-a-choice-stream": events({"choices": [{"delta": {"usage": FAKE}}]}, usage=None),
    "103-in-a-tool-call": document({"content": [{"type": "tool_use", "input": {"usage": FAKE}}]}, None),
    "103-in-a-tool-call-first": document({"content": [{"input": {"usage": FAKE}}], "id": "x"}, None),
    "103-in-a-tool-call-last": document({"id": "x", "content": [{"input": {"usage": FAKE}}]}, None),
    "103-in-a-tool-call-stream": events(
        {"delta": {"usage": FAKE}, "usage_": FAKE, "Usage": FAKE}, usage=None
    ),
    "103-in-a-key": _bytes(JSON, b'{"a\\"usage":{"prompt_tokens":1}}'),
    "103-in-no-data-line": _bytes(EVENTS, b": " + _ONE, b"\n\nevent: {", b'"usage":{"a":1}}\n\n'),
    "103-in-a-comment": _bytes(EVENTS, event(CHUNKS[0]), b": data: " + _ONE + b"\n\n", DONE),
    "103-in-other-fields": _bytes(EVENTS, b"event: " + _ONE + b'\nid: {"usage":{}}\n\n', DONE),
    "103-plain-text": document({"usage": FAKE}, None, content_type="text/plain"),
    "103-events-as-plain-text": _bytes("text/plain", *map(event, CHUNKS), DONE),
    "no-object": document([{"usage": CHAT}], None),
    "usage-no-object": document({"usage": [1]}, None),
    "usage-a-text": document({"usage": "many", "choices": []}, None),
    "usage-no-object-stream": events({"usage": 7}, usage=None),
    "broken-json": _bytes(JSON, b'{"usage":{"prompt_tokens":1}'),
    "broken-json-in-a-key": _bytes(JSON, b'{"usage":{"prompt_tokens'),
    "broken-json-stream": events(b'{"usage":{"prompt_tokens":1}', usage=None),
    "broken-json-after-a-text-stream": _bytes(EVENTS, event("x"), b'data: {"usage": {"prompt_tokens": 5}\n\n'),
    "empty": _bytes(JSON),
}  # fmt: skip
