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


@pytest.mark.parametrize(
    ("admission", "words"),
    [
        ("worst_case", "may use 146 tokens of input and 2048 of output"),
        ("fitted", "unless the service knows how long answers are and limits this one (fitted)"),
        ("learned", "so quotas may be overrun (learned)"),
    ],
)
def test_what_may_be_used_and_what_is_held(admission: str, words: str) -> None:
    lab = Lab(CONFIG.replace("    limits:", f"    admission: {admission}\n    limits:", 1))
    body = b'{"model":"llama3","stream":true,"messages":[{"role":"user","content":"hi there"}]}'
    asked = Question(path="/v1/chat/completions", body=body, key=lab.key().key)
    told = asyncio.run(explain(lab.loaded, lab.store, asked, lab.clock))
    assert isinstance(told.decision, Allow)
    assert words in told.stages[-1].text, told.stages[-1].text
    assert told.admission == admission
    assert told.bound is not None
    assert (told.bound.input, told.bound.sure) == (len(body) + 64, True)
    assert told.decision.edit == f'{len(body)} 1+0="stream_options":{{"include_usage":true}},'


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


RULES = """
  - name: wishes
    match: {methods: [POST], paths: [/wishes]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}, {when: "request.headers['x-tier'] == 'gold' || subject.team == 'nlp'"}]
    preferences: {header: x-wishes, timeout: 1m, max_retries: 2, max_concurrent_requests: 4}
limits:"""


@pytest.mark.parametrize(
    ("headers", "team", "words"),
    [
        ({}, "other", "The condition `request.headers['x-tier'] == 'gold' || subject.team == 'nlp'` cannot be evaluated"),
        ({"x-tier": "lead"}, "other", "subject.team == 'nlp'` is false."),
        ({"x-wishes": '{"timeout_s": 90}'}, "nlp", "as it wishes, it is given up after 60 s (the most that the route grants)"),
        ({"x-wishes": '{"max_retries": 9, "max_concurrent_requests": 2}'}, "nlp", "tried again at most 2 times (the most that the route grants), is one of at most 2 of the key at once"),
        ({"x-wishes": '{"hedge_delay": 1}'}, "nlp", "x-wishes holds a field that is not offered here. There are max_concurrent_requests, max_retries, timeout_s."),
    ],
)  # fmt: skip
def test_conditions_and_wishes_in_words(headers: dict[str, str], team: str, words: str) -> None:
    lab = Lab(CONFIG.replace("\nlimits:", RULES))
    key = lab.key(team=team)
    asked = Question(path="/wishes", key=key.key, headers=headers)
    told = asyncio.run(explain(lab.loaded, lab.store, asked, lab.clock))
    stage = next(each for each in told.stages if each.name == "authorize")
    assert words in stage.text
    assert stage.passed is isinstance(told.decision, Allow)
