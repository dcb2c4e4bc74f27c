"""The demo model: the shapes that clients expect, usage that can be counted, and what the tests measure with."""

import json
import sys
import time
from collections.abc import Iterator
from hashlib import sha256
from itertools import pairwise
from typing import Any

import httpx2
import pytest
from openai import NotFoundError, OpenAI
from websockets.sync.client import connect

from tests.support.model import DemoModel, arrival
from tests.support.ports import free_port
from tests.support.processes import Process, port_answers
from tests.support.raw_http import exchange, request_bytes

ASKED: list[Any] = [{"role": "user", "content": "three words here"}]


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DemoModel]:
    with DemoModel(tmp_path_factory.mktemp("model")) as model:
        yield model


@pytest.fixture
def model(running: DemoModel) -> DemoModel:
    running.reset()
    return running


@pytest.fixture
def client(model: DemoModel) -> Iterator[OpenAI]:
    with OpenAI(base_url=f"http://127.0.0.1:{model.port}/v1", api_key="any", max_retries=0) as client:
        yield client


def test_chat(client: OpenAI) -> None:
    answer = client.chat.completions.create(model="demo", messages=ASKED, max_tokens=5)
    again = client.chat.completions.create(model="demo", messages=ASKED, max_tokens=5)
    assert answer == again
    assert answer.choices[0].message.content == "This is a demo model"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens) == (
        3,
        5,
        8,
    )


@pytest.mark.parametrize("include_usage", [True, False])
def test_chat_streamed(client: OpenAI, include_usage: bool) -> None:
    options: Any = {"include_usage": True} if include_usage else {}
    stream = client.chat.completions.create(
        model="demo", messages=ASKED, max_completion_tokens=4, n=2, stream=True, stream_options=options
    )
    texts, usages = {0: "", 1: ""}, []
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
        if chunk.usage is not None:
            usages.append(chunk.usage.completion_tokens)
    assert texts == {0: "This is a demo", 1: "This is a demo"}
    assert usages == ([8] if include_usage else [])


def test_completions_embeddings_models_and_responses(client: OpenAI) -> None:
    completion = client.completions.create(model="demo", prompt="two words", max_tokens=2)
    assert (completion.choices[0].text, completion.usage.prompt_tokens) == ("This is", 2)  # type: ignore[union-attr]
    first, second = client.embeddings.create(model="demo", input=["a b", "c"], encoding_format="float").data
    assert len(first.embedding) == len(second.embedding) == 8
    assert first.embedding != second.embedding
    assert [each.id for each in client.models.list()] == ["demo"]
    answer = client.responses.create(model="demo", input="two words", max_output_tokens=3)
    assert (answer.output_text, answer.usage.output_tokens) == ("This is a", 3)  # type: ignore[union-attr]
    events = [event.type for event in client.responses.create(model="demo", input="x", stream=True)]
    assert events[0] == "response.created"
    assert events[-1] == "response.completed"


def test_anthropics_messages(model: DemoModel) -> None:
    url = f"http://127.0.0.1:{model.port}/v1/messages"
    asked = {"model": "demo", "max_tokens": 3, "system": "be short", "messages": ASKED}
    with httpx2.Client(trust_env=False) as client:
        whole = client.post(url, json=asked).json()
        assert whole["content"][0]["text"] == "This is a"
        assert whole["usage"] == {"input_tokens": 5, "output_tokens": 3}
        lines = client.post(url, json={**asked, "stream": True}).text.splitlines()
    names = [line.removeprefix("event: ") for line in lines if line.startswith("event: ")]
    assert names[0] == "message_start"
    assert names[-2:] == ["message_delta", "message_stop"]


def test_what_is_echoed_is_what_came(model: DemoModel) -> None:
    body = bytes(range(256)) * 300
    headers: list[Any] = [("X-Twice", "1"), ("x-twice", b"\xe9")]
    data = request_bytes("PUT", "/echo/a/../b?x=%2F#y", headers, body)
    echoed = exchange(model.port, data).json()
    assert (echoed["method"], echoed["target"]) == ("PUT", "/echo/a/../b?x=%2F#y")
    assert echoed["headers"][1:3] == [["x-twice", "1"], ["x-twice", "\xe9"]]
    assert (echoed["body_length"], echoed["body_sha256"]) == (len(body), sha256(body).hexdigest())
    assert model.last().target == "/echo/a/../b?x=%2F#y"


def test_bad_requests_are_told_so(client: OpenAI, model: DemoModel) -> None:
    cases = [("POST", b"{", 400), ("POST", b"{}", 400), ("POST", b"[]", 400), ("GET", b"", 405)]
    for method, body, status in cases:
        assert exchange(model.port, request_bytes(method, "/v1/completions", None, body)).status == status
    assert exchange(model.port, request_bytes("GET", "/elsewhere")).status == 404


def test_a_websocket_is_echoed(model: DemoModel) -> None:
    with connect(f"ws://127.0.0.1:{model.port}/ws?a=1", proxy=None) as echo:
        for message in ("text", b"\x00\xff"):
            echo.send(message)
            assert echo.recv(timeout=5) == message
    assert model.last().target == "/ws?a=1"


def test_events_tell_when_they_left(model: DemoModel) -> None:
    asked = {"model": "demo", "messages": ASKED, "stream": True, "max_tokens": 5}
    with httpx2.Client(trust_env=False) as client:
        url = f"http://127.0.0.1:{model.port}/v1/chat/completions"
        with client.stream("POST", url, json=asked, headers={"x-demo-interval-ms": "20"}) as response:
            arrivals = [found for line in response.iter_lines() if (found := arrival(line))]
    sent = [found.sent_ns for found in arrivals]
    assert len(arrivals) == 6
    assert all(
        later - earlier >= 18_000_000 for earlier, later in pairwise(sent)
    )  # a loop's timer may be early
    assert all(0 <= found.lag_ms < 1000 for found in arrivals)


def test_it_stops_when_the_client_is_gone(model: DemoModel) -> None:
    asked = {"model": "demo", "messages": ASKED, "stream": True, "max_tokens": 100_000}
    with httpx2.Client(trust_env=False) as client:
        url = f"http://127.0.0.1:{model.port}/v1/chat/completions"
        with client.stream("POST", url, json=asked, headers={"x-demo-interval-ms": "1"}) as response:
            next(response.iter_lines())
    deadline = time.monotonic() + 5
    while model.last().finished is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert model.last().finished is False


def test_only_named_models_and_no_recording_unless_asked_for(tmp_path: Any) -> None:
    port = free_port()
    argv = [
        sys.executable,
        "-m",
        "authz.demo.model_server",
        "--port",
        str(port),
        "--model",
        "a",
        "--model",
        "b",
    ]
    process = Process(argv, log=tmp_path / "model.log")
    try:
        process.wait_until(lambda: port_answers(port))
        with OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="any", max_retries=0) as client:
            assert [each.id for each in client.models.list()] == ["a", "b"]
            with pytest.raises(NotFoundError):
                client.chat.completions.create(model="c", messages=ASKED)
        response = exchange(port, request_bytes("GET", "/__received"))
        assert (response.status, json.loads(response.body)["error"]["code"]) == (404, "not_found")
    finally:
        process.stop()
    assert not process.running
