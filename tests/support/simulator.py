"""A model server that keeps books: what each request used, by a real tokenizer, and whether it said so.

    python -m tests.support.simulator --port 8000 --tokenizer tokenizer.json

Every dialect, streamed and whole. A request says in `"simulate"` how it goes: `kind` of text and `output` tokens
wanted, `usage: false` for a server that does not count, `status` for one that fails, `pause_ms` between events,
`cut` to hang up after so many events, `cached` and `reasoning` tokens, `fake: true` for content that looks like usage.
What it did is at `GET /__books`, by the reservation that the gateway passed on.
"""

import argparse
import asyncio
import json
import random
from collections.abc import Awaitable, Callable, Iterator, MutableMapping, Sequence
from contextlib import suppress
from typing import Any, Final

import uvicorn
from tokenizers import Tokenizer

from tests.support import corpus

Json = dict[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

FAKE: Final = '"usage":{"prompt_tokens":1,"completion_tokens":1,"input_tokens":1,"output_tokens":1}}\n\ndata: {"usage":{"prompt_tokens":2}}'
_MESSAGE_TOKENS: Final = 4  # of the template, for each message
_REPLY_TOKENS: Final = 3


class Simulator:
    """The ASGI application."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._books: list[Json] = []

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        path = scope["path"]
        if path == "/__books":
            await _respond(send, 200, {"books": self._books})
            if scope["method"] == "DELETE":
                self._books = []
            return
        body = b""
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                break
        asked = json.loads(body)
        headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
        page: Json = {
            "reservation": headers.get("x-authz-reservation", ""),
            "path": path,
            "stream": asked.get("stream") is True,
            "asked": body.decode(),
            "usage": None,  # what it truly used: input, output, cached, reasoning
            "told": None,  # the last usage that left this server whole
            "status": 0,
            "finished": False,
            "limit": None,
            "was_cut": False,  # by its limit
        }
        self._books.append(page)
        await self._serve(path, asked, page, receive, send)

    async def _serve(self, path: str, asked: Json, page: Json, receive: Receive, send: Send) -> None:
        plan = asked.get("simulate", {})
        page["status"] = status = plan.get("status", 200)
        if status != 200:
            page["finished"] = True
            await _respond(send, status, {"error": {"message": "simulated", "type": "server_error"}})
            return
        answer = _ANSWERS[path](self._tokenizer, asked, plan)
        page["usage"], page["limit"], page["was_cut"] = answer.usage, answer.limit, answer.was_cut
        if asked.get("stream") is True:
            await _stream(answer, plan, page, receive, send)
            return
        if plan.get("pause_ms"):
            await asyncio.sleep(plan["pause_ms"] / 1000)
        page["told"] = answer.usage if plan.get("usage", True) else None
        await _respond(send, 200, answer.whole())
        page["finished"] = True


class Answer:
    """One answer: its text in pieces, and what it used."""

    output_limits: tuple[str, ...] = ("max_completion_tokens", "max_tokens")
    details: tuple[str, ...] = ("cached", "reasoning")  # of its usage, which this API can tell

    def __init__(self, tokenizer: Tokenizer, asked: Json, plan: Json) -> None:
        self.asked, self.plan = asked, plan
        chance = random.Random(plan.get("seed", 0))
        wanted = plan.get("output", 16)
        limits = [asked[name] for name in self.output_limits if asked.get(name) is not None]
        self.limit = max(limits) if limits else None
        count = wanted if self.limit is None else min(wanted, self.limit)
        self.was_cut = count < wanted
        self.choices = max(asked.get("n") or 1, asked.get("best_of") or 1)
        pieces = corpus.pieces(tokenizer, plan.get("kind", "prose"), count, chance)
        self.pieces = [FAKE, *pieces] if plan.get("fake") else pieces
        self.counts = _shares(count, len(self.pieces))
        texts = list(self.texts())
        read = (
            sum(len(tokenizer.encode(text).ids) for text in texts)
            + _MESSAGE_TOKENS * len(texts)
            + _REPLY_TOKENS
        )
        output = count * self.choices
        cached, reasoning = (
            plan.get(name, 0) if name in self.details else 0 for name in ("cached", "reasoning")
        )
        self.usage = (read, output, min(cached, read), min(reasoning, output))

    def texts(self) -> Iterator[str]:
        """What it reads."""
        for message in self.asked.get("messages", []):
            yield message["content"]

    def whole(self) -> Json:
        raise NotImplementedError

    def events(self) -> Iterator[tuple[Json, tuple[int, int, int, int] | None]]:
        """Events, and the usage that each of them tells."""
        raise NotImplementedError

    @property
    def tells(self) -> bool:
        return bool(self.plan.get("usage", True))


class Chat(Answer):
    """OpenAI's chat completions."""

    object = "chat.completion"

    def texts(self) -> Iterator[str]:
        yield from super().texts()
        prompt = self.asked.get("prompt", [])
        yield from [prompt] if isinstance(prompt, str) else prompt

    def whole(self) -> Json:
        text = "".join(self.pieces)
        choices = [
            {"index": index, "finish_reason": "stop", **self._content(text)} for index in range(self.choices)
        ]
        body = {"id": "chatcmpl-1", "object": self.object, "model": self.asked["model"], "choices": choices}
        return {**body, "usage": _openai(self.usage)} if self.tells else body

    def _content(self, text: str) -> Json:
        return {"message": {"role": "assistant", "content": text}}

    def _delta(self, text: str) -> Json:
        return {"delta": {"content": text}}

    def events(self) -> Iterator[tuple[Json, tuple[int, int, int, int] | None]]:
        options = self.asked.get("stream_options") or {}
        include = self.tells and options.get("include_usage") is True
        running = include and options.get("continuous_usage_stats") is True
        head: Json = {"id": "chatcmpl-1", "object": f"{self.object}.chunk", "model": self.asked["model"]}
        if include:
            head["usage"] = None
        read, _, cached, _ = self.usage
        written = 0
        for piece, count in zip(self.pieces, self.counts, strict=True):
            for index in range(self.choices):
                written += count
                event = {**head, "choices": [{"index": index, "finish_reason": None, **self._delta(piece)}]}
                so_far = (read, written, cached, 0)
                if running:
                    event["usage"] = _openai(so_far)
                yield event, so_far if running else None
        yield {**head, "choices": [{"index": 0, "finish_reason": "stop", **self._delta("")}]}, None
        if include:
            yield {**head, "choices": [], "usage": _openai(self.usage)}, self.usage


class Completion(Chat):
    """OpenAI's completions."""

    object = "text_completion"

    def _content(self, text: str) -> Json:
        return {"text": text}

    def _delta(self, text: str) -> Json:
        return {"text": text}


class Messages(Answer):
    """Anthropic's messages. Their `input_tokens` leave out what came from the cache."""

    details = ("cached",)

    def _input(self) -> Json:
        read, _, cached, _ = self.usage
        counted: Json = {"input_tokens": read - cached}
        if cached:
            counted |= {"cache_read_input_tokens": cached, "cache_creation_input_tokens": 0}
        return counted

    def whole(self) -> Json:
        body: Json = {
            "id": "msg_1",
            "type": "message",
            "content": [{"type": "text", "text": "".join(self.pieces)}],
        }
        return body | {"usage": {**self._input(), "output_tokens": self.usage[1]}} if self.tells else body

    def events(self) -> Iterator[tuple[Json, tuple[int, int, int, int] | None]]:
        read, written, cached, _ = self.usage
        start: Json = {"id": "msg_1", "type": "message", "content": []}
        if self.tells:
            start["usage"] = {**self._input(), "output_tokens": 1}
        yield {"type": "message_start", "message": start}, (read, 1, cached, 0) if self.tells else None
        yield {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}, None
        for piece in self.pieces:
            delta = {"type": "text_delta", "text": piece}
            yield {"type": "content_block_delta", "index": 0, "delta": delta}, None
        yield {"type": "content_block_stop", "index": 0}, None
        end: Json = {"type": "message_delta", "delta": {"stop_reason": "end_turn"}}
        if self.tells:
            end["usage"] = {"output_tokens": written}
        yield end, (read, written, cached, 0) if self.tells else None
        yield {"type": "message_stop"}, None


class Responses(Answer):
    """OpenAI's responses."""

    output_limits = ("max_output_tokens",)

    def texts(self) -> Iterator[str]:
        yield self.asked["input"]
        if "instructions" in self.asked:
            yield self.asked["instructions"]

    def whole(self) -> Json:
        content = [{"type": "output_text", "text": "".join(self.pieces)}]
        output = [{"type": "message", "role": "assistant", "content": content}]
        status = "incomplete" if self.was_cut else "completed"
        body: Json = {"id": "resp_1", "object": "response", "status": status, "output": output}
        read, written, cached, reasoning = self.usage
        told = {
            "input_tokens": read,
            "input_tokens_details": {"cached_tokens": cached},
            "output_tokens": written,
            "output_tokens_details": {"reasoning_tokens": reasoning},
            "total_tokens": read + written,
        }
        return {**body, "usage": told if self.tells else None}

    def events(self) -> Iterator[tuple[Json, tuple[int, int, int, int] | None]]:
        begun: Json = {
            "id": "resp_1",
            "object": "response",
            "status": "in_progress",
            "output": [],
            "usage": None,
        }
        yield {"type": "response.created", "response": begun}, None
        for piece in self.pieces:
            yield {"type": "response.output_text.delta", "output_index": 0, "delta": piece}, None
        end = "response.incomplete" if self.was_cut else "response.completed"
        yield {"type": end, "response": self.whole()}, self.usage if self.tells else None


class Embeddings(Answer):
    """OpenAI's embeddings: they write nothing. `floats` is how long each vector is."""

    details = ()

    def __init__(self, tokenizer: Tokenizer, asked: Json, plan: Json) -> None:
        super().__init__(tokenizer, asked, {**plan, "output": 0, "fake": False})
        self.was_cut = False

    def texts(self) -> Iterator[str]:
        given = self.asked["input"]
        yield from [given] if isinstance(given, str) else given

    def whole(self) -> Json:
        vector = [0.12345678] * self.plan.get("floats", 8)
        data = [
            {"object": "embedding", "index": index, "embedding": vector}
            for index, _ in enumerate(self.texts())
        ]
        body = {"object": "list", "data": data, "model": self.asked["model"]}
        read = self.usage[0]
        return {**body, "usage": {"prompt_tokens": read, "total_tokens": read}} if self.tells else body


class Rerank(Embeddings):
    """A reranker, as vLLM and Jina have it."""

    def texts(self) -> Iterator[str]:
        yield self.asked["query"]
        yield from self.asked["documents"]

    def whole(self) -> Json:
        results = [
            {"index": index, "relevance_score": 0.5} for index, _ in enumerate(self.asked["documents"])
        ]
        body = {"id": "rerank-1", "model": self.asked["model"], "results": results}
        return {**body, "usage": {"total_tokens": self.usage[0]}} if self.tells else body


_ANSWERS: Final[dict[str, type[Answer]]] = {
    "/v1/chat/completions": Chat,
    "/v1/completions": Completion,
    "/v1/messages": Messages,
    "/v1/responses": Responses,
    "/v1/embeddings": Embeddings,
    "/v1/rerank": Rerank,
}
PATHS = tuple(_ANSWERS)
STREAMING = PATHS[:4]


def _openai(usage: tuple[int, int, int, int]) -> Json:
    read, written, cached, reasoning = usage
    return {
        "prompt_tokens": read,
        "completion_tokens": written,
        "total_tokens": read + written,
        "prompt_tokens_details": {"cached_tokens": cached},
        "completion_tokens_details": {"reasoning_tokens": reasoning},
    }


def _shares(total: int, parts: int) -> list[int]:
    """`total` over so many parts, as evenly as whole numbers allow."""
    return [total * (part + 1) // parts - total * part // parts for part in range(parts)]


async def _stream(answer: Answer, plan: Json, page: Json, receive: Receive, send: Send) -> None:
    named = page["path"] in ("/v1/messages", "/v1/responses")
    headers = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    gone = asyncio.ensure_future(receive())
    pause = plan.get("pause_ms", 0) / 1000
    try:
        for index, (event, told) in enumerate(answer.events()):
            if gone.done():
                return
            if index == plan.get("cut"):
                raise ConnectionResetError("simulated: the model server dies in the middle of its answer")
            name = f"event: {event['type']}\n" if named else ""
            chunk = f"{name}data: {json.dumps(event, separators=(',', ':'))}\n\n".encode()
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
            page["told"] = told or page["told"]
            await asyncio.sleep(pause)
        await send({"type": "http.response.body", "body": b"" if named else b"data: [DONE]\n\n"})
        page["finished"] = not gone.done()
    finally:
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone


async def _respond(send: Send, status: int, value: Json) -> None:
    body = json.dumps(value).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.simulator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--tokenizer", required=True)
    given = parser.parse_args(arguments)
    uvicorn.run(
        Simulator(Tokenizer.from_file(given.tokenizer)),
        host="127.0.0.1",
        port=given.port,
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="critical",  # a simulated death is no news
        timeout_keep_alive=300,
        timeout_graceful_shutdown=1,
    )


if __name__ == "__main__":
    main()
