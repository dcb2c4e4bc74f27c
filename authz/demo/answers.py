"""What the demo model says, in the shapes of OpenAI and Anthropic. The same question gets the same answer.

One word is one token, so that usage can be checked by counting.
"""

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Protocol

CREATED_AT = 1_767_225_600  # s since the epoch; a constant, so that answers can be compared
CONTEXT = 8192  # tokens; told, and not insisted on
DEFAULT_TOKENS = 16
MOST_TOKENS = 100_000
_WORDS = (
    "This",
    "is",
    "a",
    "demo",
    "model",
    ":",
    "it",
    "streams",
    "the",
    "same",
    "words",
    "for",
    "every",
    "question",
    ".",
)

Json = dict[str, Any]


class Answer(Protocol):
    """An answer to one question, to be sent at once or event by event."""

    def whole(self) -> Json: ...
    def events(self) -> Iterator[Json]: ...


def words(count: int) -> list[str]:
    """`count` tokens of text, each but the first with its space."""
    return [(" " if index else "") + _WORDS[index % len(_WORDS)] for index in range(count)]


def wanted_tokens(asked: Json) -> int:
    """How long the answer shall be."""
    for key in ("max_completion_tokens", "max_tokens", "max_output_tokens"):
        value = asked.get(key)
        if type(value) is int and value > 0:
            return min(value, MOST_TOKENS)
    return DEFAULT_TOKENS


def count_tokens(value: Any) -> int:
    """Words in every text of a prompt, `messages` or `input`, whatever its nesting."""
    if isinstance(value, str):
        return len(value.split())
    if isinstance(value, list):
        return sum(count_tokens(item) for item in value)
    if isinstance(value, dict):
        return count_tokens(value.get("content", value.get("text", "")))
    return 0


def answer_id(prefix: str, body: bytes) -> str:
    return f"{prefix}{sha256(body).hexdigest()[:24]}"


def openai_usage(prompt: int, completion: int) -> Json:
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def anthropic_usage(prompt: int, completion: int) -> Json:
    return {"input_tokens": prompt, "output_tokens": completion}


def responses_usage(prompt: int, completion: int) -> Json:
    return {
        "input_tokens": prompt,
        "input_tokens_details": {"cached_tokens": 0},
        "output_tokens": completion,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": prompt + completion,
    }


class ChatAnswer:
    """`/v1/chat/completions` and, with `chat=False`, `/v1/completions`."""

    def __init__(self, asked: Json, body: bytes, *, chat: bool = True) -> None:
        self._chat = chat
        self._count = wanted_tokens(asked)
        self._choices = asked["n"] if type(asked.get("n")) is int and 0 < asked["n"] <= 128 else 1
        self._usage = openai_usage(
            count_tokens(asked.get("messages" if chat else "prompt")), self._count * self._choices
        )
        options = asked.get("stream_options")
        self._include_usage = isinstance(options, dict) and options.get("include_usage") is True
        self._head: Json = {
            "id": answer_id("chatcmpl-" if chat else "cmpl-", body),
            "object": "chat.completion" if chat else "text_completion",
            "created": CREATED_AT,
            "model": asked.get("model", "demo"),
        }

    def whole(self) -> Json:
        text = "".join(words(self._count))
        choices = [
            {"index": index, "finish_reason": "length", "logprobs": None}
            | ({"message": {"role": "assistant", "content": text}} if self._chat else {"text": text})
            for index in range(self._choices)
        ]
        return {**self._head, "choices": choices, "usage": self._usage}

    def events(self) -> Iterator[Json]:
        """One event per token, then the finish, then usage if it was asked for."""
        head = {**self._head, "object": "chat.completion.chunk" if self._chat else "text_completion"}
        if self._include_usage:
            head["usage"] = None
        for word in words(self._count):
            for index in range(self._choices):
                yield {**head, "choices": [self._choice(index, word)]}
        for index in range(self._choices):
            yield {**head, "choices": [self._choice(index, "", "length")]}
        if self._include_usage:
            yield {**head, "choices": [], "usage": self._usage}

    def _choice(self, index: int, text: str, finish: str | None = None) -> Json:
        choice: Json = {"index": index, "finish_reason": finish, "logprobs": None}
        if self._chat:
            return choice | {"delta": {"content": text} if finish is None else {}}
        return choice | {"text": text}


def embeddings(asked: Json) -> Json:
    """Eight numbers per input, made from its digest."""
    given = asked.get("input", "")
    texts = given if isinstance(given, list) and given and not isinstance(given[0], int) else [given]
    vectors = [[(byte - 128) / 128 for byte in sha256(repr(text).encode()).digest()[:8]] for text in texts]
    used = sum(len(text) if isinstance(text, list) else count_tokens(text) for text in texts)
    return {
        "object": "list",
        "model": asked.get("model", "demo"),
        "data": [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, vector in enumerate(vectors)
        ],
        "usage": {"prompt_tokens": used, "total_tokens": used},
    }


class MessagesAnswer:
    """Anthropic's `/v1/messages`."""

    def __init__(self, asked: Json, body: bytes) -> None:
        self._count = wanted_tokens(asked)
        self._prompt = count_tokens(asked.get("messages")) + count_tokens(asked.get("system"))
        self._head: Json = {
            "id": answer_id("msg_", body),
            "type": "message",
            "role": "assistant",
            "model": asked.get("model", "demo"),
        }

    def whole(self) -> Json:
        return {
            **self._head,
            "content": [{"type": "text", "text": "".join(words(self._count))}],
            "stop_reason": "max_tokens",
            "stop_sequence": None,
            "usage": anthropic_usage(self._prompt, self._count),
        }

    def events(self) -> Iterator[Json]:
        start = {**self._head, "content": [], "stop_reason": None, "stop_sequence": None}
        yield {"type": "message_start", "message": start | {"usage": anthropic_usage(self._prompt, 1)}}
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
        for word in words(self._count):
            yield {
                "type": "content_block_delta",
                "index": 0,
                "delta": {"type": "text_delta", "text": word},
            }
        yield {"type": "content_block_stop", "index": 0}
        yield {
            "type": "message_delta",
            "delta": {"stop_reason": "max_tokens", "stop_sequence": None},
            "usage": {"output_tokens": self._count},
        }
        yield {"type": "message_stop"}


class ResponsesAnswer:
    """OpenAI's `/v1/responses`, the plain text of it."""

    def __init__(self, asked: Json, body: bytes) -> None:
        self._count = wanted_tokens(asked)
        self._usage = responses_usage(
            count_tokens(asked.get("input")) + count_tokens(asked.get("instructions")), self._count
        )
        self._item_id = answer_id("msg_", body)
        self._head: Json = {
            "id": answer_id("resp_", body),
            "object": "response",
            "created_at": CREATED_AT,
            "model": asked.get("model", "demo"),
            "error": None,
            "incomplete_details": None,
            "instructions": asked.get("instructions"),
            "metadata": {},
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
        }

    def whole(self) -> Json:
        text = {"type": "output_text", "text": "".join(words(self._count)), "annotations": []}
        item = {
            "id": self._item_id,
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text],
        }
        return {**self._head, "status": "completed", "output": [item], "usage": self._usage}

    def events(self) -> Iterator[Json]:
        begun = {**self._head, "status": "in_progress", "output": [], "usage": None}
        yield {"type": "response.created", "sequence_number": 0, "response": begun}
        for number, word in enumerate(words(self._count), 1):
            yield {
                "type": "response.output_text.delta",
                "sequence_number": number,
                "item_id": self._item_id,
                "output_index": 0,
                "content_index": 0,
                "delta": word,
                "logprobs": [],
            }
        yield {"type": "response.completed", "sequence_number": self._count + 1, "response": self.whole()}
