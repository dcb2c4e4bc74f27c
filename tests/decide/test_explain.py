"""`authz check`: each stage in words, and nothing spent."""

import asyncio

import pytest

from authz.decision import Allow, Deny
from authz.explain import Question, explain
from tests.decide.test_decide import CONFIG
from tests.support.lab import Lab


@pytest.mark.parametrize(
    ("question", "stages", "words"),
    [
        ({"model": "llama3"}, 5, "'rpm' needs 1, left 2 of 3 requests per 1m"),
        ({"model": "big"}, 4, "does not exist or is not open"),
        ({"model": "llama3", "path": "/admin"}, 2, "No route serves POST /admin"),
        ({"model": "llama3", "path": "//v1"}, 1, "empty segment"),
        ({"model": "llama3", "key": "sk-az-junk"}, 3, "malformed"),
    ],
)
def test_stages_up_to_the_first_refusal(question: dict[str, str], stages: int, words: str) -> None:
    lab = Lab(CONFIG)
    asked = Question(**{"path": "/v1/chat/completions", "key": lab.key().key} | question)  # type: ignore[arg-type]
    told = asyncio.run(explain(lab.loaded, lab.store, asked, lab.clock))
    assert len(told.stages) == stages
    assert words in told.stages[-1].text
    assert all(stage.passed for stage in told.stages[:-1])
    assert told.stages[-1].passed is isinstance(told.decision, Allow)


def test_nothing_is_spent() -> None:
    lab = Lab(CONFIG)
    key = lab.key()
    asked = Question(path="/v1/chat/completions", model="llama3", key=key.key)
    for _ in range(9):
        assert isinstance(asyncio.run(explain(lab.loaded, lab.store, asked, lab.clock)).decision, Allow)
    for _ in range(3):
        assert isinstance(lab.decide(lab.request(key=key)), Allow)
    assert isinstance(asyncio.run(explain(lab.loaded, lab.store, asked, lab.clock)).decision, Deny)
    assert key.key not in repr(asked)
