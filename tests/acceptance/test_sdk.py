"""Clients as they are: the openai SDK, and a client of the Anthropic API, through each gateway."""

import math
import re
import ssl
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx2
import openai
import pytest
from openai.types.chat import ChatCompletionMessageParam

from authz.authenticate.key_format import mint
from authz.demo.answers import words
from tests.acceptance.lab import UPSTREAM, Way

SAY: list[ChatCompletionMessageParam] = [{"role": "user", "content": "say it again"}]


@dataclass
class Traffic:
    """What a client sent and got, by its own clock in seconds."""

    sent_at: list[float] = field(default_factory=list)
    got: list[tuple[float, httpx2.Response]] = field(default_factory=list)

    def send(self, request: httpx2.Request) -> None:
        self.sent_at.append(time.monotonic())

    def get(self, response: httpx2.Response) -> None:
        self.got.append((time.monotonic(), response))

    @property
    def statuses(self) -> list[int]:
        return [response.status_code for _, response in self.got]


@contextmanager
def plain_client(tls: ssl.SSLContext, traffic: Traffic | None = None) -> Iterator[httpx2.Client]:
    hooks: dict[str, list[Any]] = (
        {"request": [traffic.send], "response": [traffic.get]} if traffic is not None else {}
    )
    with httpx2.Client(verify=tls, trust_env=False, event_hooks=hooks, timeout=20) as client:
        yield client


@contextmanager
def sdk(way: Way, key: str, traffic: Traffic | None = None) -> Iterator[openai.OpenAI]:
    """The SDK with what a user gives it: a key and a base URL. It retries twice, as it does by itself."""
    with plain_client(way.lab.tls, traffic) as http:
        yield openai.OpenAI(api_key=key, base_url=f"{way.gateway.https}/v1", http_client=http)


def answered(way: Way, before: Counter[str]) -> dict[str, int]:
    """What authz has answered to this gateway since."""
    return dict(way.reasons() - before)


def test_a_chat_is_streamed(way: Way) -> None:
    key = way.lab.key().key
    with sdk(way, key) as client:
        stream = client.chat.completions.create(
            model="demo", messages=SAY, max_tokens=20, stream=True, stream_options={"include_usage": True}
        )
        chunks = list(stream)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == "".join(words(20))
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (3, 20)
    received = way.lab.model.last()
    assert received.header("authorization") == f"Bearer {UPSTREAM}"
    assert received.header("x-authz-user") == "alice"
    assert received.header("x-authz-model") == "demo"
    assert key not in repr(received)


def test_a_chat_is_answered_whole(way: Way) -> None:
    with sdk(way, way.lab.key().key) as client:
        answer = client.chat.completions.create(model="demo", messages=SAY, max_tokens=5)
    assert answer.choices[0].message.content == "".join(words(5))


def test_the_models_are_those_that_the_key_may_use(way: Way) -> None:
    with sdk(way, way.lab.key().key) as client:
        assert [model.id for model in client.models.list()] == ["demo"]
    with sdk(way, way.lab.key(roles=frozenset({"senior"})).key) as client:
        assert {model.id for model in client.models.list()} == {"demo", "big"}
    assert not way.lab.model.received()  # the list is authz's own answer


def test_embeddings_are_made(way: Way) -> None:
    with sdk(way, way.lab.key().key) as client:
        made = client.embeddings.create(model="demo", input=["one", "two words"])
    assert [len(each.embedding) for each in made.data] == [8, 8]
    assert made.usage.prompt_tokens == 3


def test_it_retries_when_it_was_told_to(way: Way) -> None:
    """Two calls in four seconds, one comes back after two: the third waits as long as it is told, and succeeds."""
    key, traffic, before = way.lab.key("requests=2/4s").key, Traffic(), way.reasons()
    with sdk(way, key, traffic) as client:
        for _ in range(3):
            client.chat.completions.create(model="demo", messages=SAY, max_tokens=1)
    assert traffic.statuses == [200, 200, 429, 200]
    assert answered(way, before) == {"allowed": 3, "rate_limited": 1}
    refused_at, refused = traffic.got[2]
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    told = int(refused.headers["retry-after-ms"]) / 1000
    assert 0 < told <= 2
    assert refused.headers["retry-after"] == str(math.ceil(told))
    assert "x-should-retry" not in refused.headers
    assert told <= traffic.sent_at[3] - refused_at < told + 5  # by itself it waits for half a second
    assert len(way.lab.model.received()) == 3


def test_it_gives_up_at_once_where_waiting_does_not_help(way: Way) -> None:
    key, traffic, before = way.lab.key("requests=1/day").key, Traffic(), way.reasons()
    with sdk(way, key, traffic) as client:
        client.chat.completions.create(model="demo", messages=SAY, max_tokens=1)
        with pytest.raises(openai.RateLimitError) as caught:
            client.chat.completions.create(model="demo", messages=SAY, max_tokens=1)
    assert caught.value.code == "insufficient_quota"
    assert traffic.statuses == [200, 429]
    assert answered(way, before) == {"allowed": 1, "quota_exhausted": 1}
    _, refused = traffic.got[1]
    assert refused.headers["x-should-retry"] == "false"
    assert refused.headers["content-type"] == "application/json"
    assert 0 < int(refused.headers["retry-after"]) <= 24 * 3600
    assert refused.headers["x-ratelimit-remaining-requests"] == "0"
    error = refused.json()["error"]
    assert set(error) == {"message", "type", "code", "param"}
    assert re.search(r"left 0 of 1 requests per day, reset in .* \(request [\w-]+\)\.$", error["message"])
    assert refused.headers["x-request-id"] in error["message"]
    assert len(way.lab.model.received()) == 1


def test_an_unknown_key_is_an_authentication_error_at_once(way: Way) -> None:
    traffic, before = Traffic(), way.reasons()
    with sdk(way, mint().key, traffic) as client, pytest.raises(openai.AuthenticationError) as caught:
        client.chat.completions.create(model="demo", messages=SAY)
    assert caught.value.code == "invalid_api_key"
    assert traffic.statuses == [401]
    assert sum(answered(way, before).values()) == 1
    assert not way.lab.model.received()


def test_a_model_out_of_reach_is_a_permission_error_at_once(way: Way) -> None:
    key, traffic, before = way.lab.key().key, Traffic(), way.reasons()
    with sdk(way, key, traffic) as client, pytest.raises(openai.PermissionDeniedError):
        client.chat.completions.create(model="big", messages=SAY)
    assert traffic.statuses == [403]
    assert answered(way, before) == {"model_not_allowed": 1}
    assert not way.lab.model.received()


def test_the_anthropic_way(way: Way) -> None:
    """The key in x-api-key, streamed messages, and the same refusals."""
    key = way.lab.key("requests=1/day").key
    body: dict[str, Any] = {
        "model": "demo",
        "max_tokens": 4,
        "stream": True,
        "messages": [{"role": "user", "content": "hi"}],
    }
    with plain_client(way.lab.tls) as client:

        def post(headers: dict[str, str]) -> httpx2.Response:
            return client.post(f"{way.gateway.https}/v1/messages", json=body, headers=headers)

        first = post({"x-api-key": key, "anthropic-version": "2023-06-01"})
        assert first.status_code == 200
        assert first.headers["content-type"].startswith("text/event-stream")
        kinds = re.findall(r"^event: (.*)$", first.text, re.MULTILINE)
        assert kinds[0] == "message_start"
        assert kinds[-1] == "message_stop"
        assert kinds.count("content_block_delta") == 4
        second = post({"x-api-key": key, "anthropic-version": "2023-06-01"})
        assert (second.status_code, second.json()["error"]["code"]) == (429, "insufficient_quota")
        assert second.headers["x-should-retry"] == "false"
        none = post({"anthropic-version": "2023-06-01"})
        assert none.status_code == 401
        bob = way.lab.key(user="bob").key
        two = post({"x-api-key": key, "authorization": f"Bearer {bob}"})
        assert (two.status_code, two.json()["error"]["code"]) == (400, "conflicting_credentials")
    (received,) = way.lab.model.received()
    assert "x-api-key" not in received.names
    assert received.header("anthropic-version") == "2023-06-01"
    assert key not in repr(received)
