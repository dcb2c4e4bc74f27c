"""The upper bound of a request: whatever a client writes, no less is held than it can use."""

import json

import pytest

from authz.canonical import Target
from authz.limit.estimate import BOUND_IN, UNSTATED_OUTPUT, Bound, bound_of, reads_elsewhere
from authz.peek import NOTHING, Peek, peek
from authz.quota import Unit
from authz.request import BodyState
from authz.store.records import Model, Price
from tests.core.test_peek import ask

CHAT = "/v1/chat/completions"
MODEL = Model(name="m", context=8192, max_output=2048, price=Price(input=3, output=7))


def bound(path: str, body: str, model: Model | None = MODEL) -> Bound:
    request = ask(body)
    seen = peek(request)
    assert isinstance(seen, Peek), seen
    return bound_of(request, Target("POST", "llm.test", path, ""), seen, "m", model)


@pytest.mark.parametrize(
    ("path", "body", "answer"),
    [
        (CHAT, '{"max_tokens":5}', 5),
        (CHAT, '{"max_completion_tokens":5}', 5),
        (CHAT, '{"max_tokens":5,"max_completion_tokens":9}', 9),
        (CHAT, '{"max_tokens":null}', 2048),
        (CHAT, "{}", 2048),
        # A field that the API passes over must not make the bound small (attack 90).
        (CHAT, '{"max_output_tokens":5}', 2048),
        (CHAT, '{"n_predict":5}', 2048),
        (CHAT, '{"max_tokens":5,"n_predict":900}', 900),
        ("/v1/completions", '{"max_completion_tokens":5}', 2048),
        ("/v1/responses", '{"max_tokens":5}', 2048),
        ("/v1/responses", '{"max_output_tokens":5}', 5),
        ("/v1/messages", '{"max_tokens":5}', 5),
        ("/v1/messages", '{"max_output_tokens":5}', 2048),
        ("/own/api", '{"max_tokens":5,"max_output_tokens":9}', 9),
        ("/v1/embeddings", '{"max_tokens":5}', 0),
        ("/v1/rerank", "{}", 0),
    ],
)
def test_one_answer(path: str, body: str, answer: int) -> None:
    assert bound(path, body).answer == answer


@pytest.mark.parametrize(
    ("model", "answer", "sure"),
    [
        (Model(name="m", max_output=100, context=500), 100, True),
        (Model(name="m", context=500), 500, True),
        (Model(name="m"), UNSTATED_OUTPUT, False),
        (None, UNSTATED_OUTPUT, False),
    ],
)
def test_an_answer_that_nobody_limits(model: Model | None, answer: int, sure: bool) -> None:
    found = bound(CHAT, '{"model":"m"}', model)
    assert (found.answer, found.sure, found.sure_input) == (answer, sure, True)


@pytest.mark.parametrize("member", ['"max_tokens":4096', '"max_completion_tokens" : 1', '"n_predict":7'])
@pytest.mark.parametrize(
    "body",
    ['{"model":"m",%s}', '{%s,"model":"m"}', '{"model":"m",%s,"x":1}', '{"model":"m",\n  %s}'],
)
def test_what_limits_the_answer_is_no_input(member: str, body: str) -> None:
    """So the same question with another limit has the same input: what a refusal names fits exactly."""
    assert bound(CHAT, body % member).input == bound(CHAT, body.replace(",\n  %s", "").replace("%s,", "").replace(",%s", "")).input  # fmt: skip


def test_every_unit() -> None:
    found = bound("/v1/completions", '{"model":"m","prompt":["a","b"],"n":3,"max_tokens":10}')
    read = len('{"model":"m","prompt":["a","b"],"n":3}') + 2 * 64
    assert {unit: BOUND_IN[unit](found) for unit in Unit} == {
        Unit.REQUESTS: 1,
        Unit.CONCURRENCY: 1,
        Unit.INPUT_TOKENS: read,
        Unit.OUTPUT_TOKENS: 60,
        Unit.TOKENS: read + 60,
        Unit.COST: -(-(read * 3 + 60 * 7) // 10**6),
    }


@pytest.mark.parametrize("path", ["/v1/rerank", "/rerank", "/v2/rerank"])
def test_the_one_text_of_a_rerank_is_read_with_each_document(path: str) -> None:
    query, documents = "q" * 500, ["d" * 10] * 40
    body = json.dumps({"model": "m", "query": query, "documents": documents})
    found = bound(path, body)
    assert found.inputs == 40
    assert found.input >= 40 * 500 + 40 * 10
    assert found.output == 0


@pytest.mark.parametrize(
    ("body", "inputs"),
    [
        ({"text_1": "a", "text_2": ["b", "c", "d"]}, 3),
        ({"text_1": "a", "text_2": "b"}, 1),
        ({"text_1": ["a", "b"], "text_2": ["c", "d"]}, 2),
        ({"documents": {"not": "a list"}}, 1),
        ({}, 1),
    ],
)
def test_pairs_of_a_score(body: dict[str, object], inputs: int) -> None:
    assert bound("/v1/score", json.dumps(body)).inputs == inputs


def test_very_many_pairs_are_not_counted_one_by_one() -> None:
    assert bound("/v1/rerank", '{"documents":[' + "1," * 60_000 + "1]}").inputs == 60_001


@pytest.mark.parametrize("word", ["image_url", "input_file", "previous_response_id", "document", "file"])
@pytest.mark.parametrize("spell", ["plain", "one escape", "all escapes", "upper case"])
def test_what_is_not_in_the_body_is_seen_in_every_spelling(word: str, spell: str) -> None:
    escaped = "".join(f"\\u{ord(letter):04x}" for letter in word)
    spelled = {
        "plain": word,
        "one escape": f"\\u{ord(word[0]):04x}{word[1:]}",
        "all escapes": escaped,
        "upper case": escaped.replace("\\u006f", "\\u006F"),
    }[spell]
    body = f'{{"messages":[{{"content":[{{"type":"{spelled}"}}]}}]}}'
    assert reads_elsewhere(body.encode())
    assert bound(CHAT, body).input == 8192
    found = bound(CHAT, body.replace("messages", "x"), Model(name="m", max_output=5))
    assert not found.sure_input


@pytest.mark.parametrize(
    "body",
    [
        '{"messages":[{"content":"an \\"image_url\\" in a text"}]}',
        '{"messages":[{"content":"\\u00e4\\u00f6 file \\u0066ile"}]}',
        '{"images":1,"file_":2}',
    ],
)
def test_a_text_about_it_is_a_text(body: str) -> None:
    assert not reads_elsewhere(body.encode())


def test_a_body_that_nobody_read_may_hold_anything() -> None:
    request = ask("not json")
    found = bound_of(request, Target("POST", "h", "/x", ""), NOTHING, None, None)
    assert (found.input, found.sure) == (8 + 64, False)


def test_no_body_and_no_model_is_nothing() -> None:
    request = ask(b"", state=BodyState.NONE)
    found = bound_of(request, Target("GET", "h", "/health", ""), NOTHING, None, None)
    assert (BOUND_IN[Unit.TOKENS](found), BOUND_IN[Unit.REQUESTS](found), found.sure) == (0, 1, True)
