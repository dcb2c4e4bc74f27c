"""A refusal names the longest answer that would fit: with it the request passes, with one more it does not."""

import re

import pytest

from authz.authenticate.key_format import MintedKey
from authz.decision import Allow, Decision, Deny
from tests.support.lab import Lab

CONFIG = """
store: memory://
gateways: {{edge: {{kind: envoy, token: "edge-token-of-the-tests"}}}}
authenticators: {{keys: {{type: api_key}}}}
models: {{m: {{context: 100000, max_output: 50000, price: {{input: 1.5, output: 7.3}}}}}}
routes:
  - name: inference
    match: {{api: [openai, anthropic]}}
    authenticate: {{any_of: [keys]}}
    authorize: [{{models: any}}]
    limits: [{names}]
limits:
{limits}
"""
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"


def lab_with(*limits: str) -> Lab:
    names = ", ".join(f"l{index}" for index in range(len(limits)))
    lines = "\n".join(f"  l{index}: {{partition_by: [key], {limit}}}" for index, limit in enumerate(limits))
    return Lab(CONFIG.format(names=names, limits=lines))


def refused(decision: Decision) -> Deny:
    assert isinstance(decision, Deny), decision
    assert decision.status == 429
    return decision


DAY = "window: day, quota"
CASES = [
    ("tokens", [f"unit: tokens, {DAY}: 10k"], CHAT, '"messages":[]'),
    ("output", [f"unit: output_tokens, {DAY}: 10k"], CHAT, '"messages":[]'),
    ("cost", [f"unit: cost, {DAY}: 0.05"], CHAT, '"messages":[]'),
    ("n", [f"unit: tokens, {DAY}: 10k"], CHAT, '"messages":[],"n":7'),
    ("cost of n", [f"unit: cost, {DAY}: 0.05"], CHAT, '"messages":[],"n":3'),
    ("prompts", [f"unit: tokens, {DAY}: 10k"], COMPLETIONS, '"prompt":["a","b","c"],"best_of":2'),
    ("responses", [f"unit: tokens, {DAY}: 10k"], RESPONSES, '"input":"a"'),
    ("messages", [f"unit: tokens, {DAY}: 10k"], "/v1/messages", '"messages":[]'),
    ("sliding", ["unit: tokens, window: 1h, quota: 10k"], CHAT, '"messages":[]'),
    ("gcra", ["unit: tokens, window: 1h, quota: 10k, algorithm: gcra"], CHAT, '"messages":[]'),
    ("fixed", ["unit: tokens, window: 1h, quota: 10k, algorithm: fixed"], CHAT, '"messages":[]'),
    ("several", [f"unit: tokens, {DAY}: 10k", f"unit: output_tokens, {DAY}: 9k", "unit: cost, window: month, quota: 0.06"], CHAT, '"messages":[],"n":2'),
    ("a shadow", [f"unit: tokens, {DAY}: 10k", f"mode: shadow, unit: tokens, {DAY}: 100"], CHAT, '"messages":[]'),
]  # fmt: skip


def body_of(target: str, members: str, tokens: int | None) -> bytes:
    field = "max_output_tokens" if target == RESPONSES else "max_tokens"
    limit = f',"{field}":{tokens}' if tokens is not None else ""
    return f'{{"model":"m",{members}{limit}}}'.encode()


@pytest.mark.parametrize("asked", [None, 30_000], ids=["the model's maximum", "30000"])
@pytest.mark.parametrize("spent", [0, 1370])
@pytest.mark.parametrize(
    ("limits", "target", "members"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_exactly(limits: list[str], target: str, members: str, spent: int, asked: int | None) -> None:
    """Larger than any quota: into an empty window the request could fit, whatever is left of this one."""
    lab = lab_with(*limits)
    key, other = lab.key(), lab.key("bob")

    def ask(tokens: int | None, key: MintedKey) -> Decision:
        return lab.decide(lab.request(target=target, key=key, body=body_of(target, members, tokens)))

    if spent:
        assert isinstance(ask(spent // 7, key), Allow)
    denied = refused(ask(asked, key))
    assert denied.reason == "quota_exhausted"
    named = re.search(r"With `(\w+)` at most (\d+) it could fit\.", denied.message)
    assert named, denied.message
    assert named[1] == ("max_output_tokens" if target == RESPONSES else "max_tokens")
    refused(ask(int(named[2]) + 1, other))
    assert isinstance(ask(int(named[2]), other), Allow)


@pytest.mark.parametrize(
    ("limits", "target", "members"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_exactly_now(limits: list[str], target: str, members: str) -> None:
    """Some of each quota is used; what is asked for would fit into an empty window."""
    lab = lab_with(*limits)
    key = lab.key()

    def ask(tokens: int) -> Decision:
        return lab.decide(lab.request(target=target, key=key, body=body_of(target, members, tokens)))

    largest = 1
    while isinstance(ask(largest), Allow):  # the same again does not fit any more after a while
        lab.clock.advance(0.9)
        largest = largest * 3 // 2 + 1
    text = refused(ask(largest)).message
    named = re.search(r"With `\w+` at most (\d+) it would fit now\.", text)
    assert named, text
    refused(ask(int(named[1]) + 1))
    assert isinstance(ask(int(named[1])), Allow)


def test_nothing_fits() -> None:
    lab = lab_with(f"unit: tokens, {DAY}: 1k")
    key = lab.key()
    long = b'{"model":"m","max_tokens":5,"messages":[{"role":"user","content":"%s"}]}' % (b"x" * 1000)
    denied = refused(lab.decide(lab.request(key=key, body=long)))
    assert denied.reason == "quota_exhausted"
    assert denied.message.endswith("No `max_tokens` is small enough: the input alone takes too much.")
    short = b'{"model":"m","max_tokens":850,"messages":[]}'
    assert isinstance(lab.decide(lab.request(key=key, body=short)), Allow)
    denied = refused(lab.decide(lab.request(key=key, body=short)))
    assert denied.message.endswith("No `max_tokens` is small enough now: the input alone takes too much.")


@pytest.mark.parametrize(
    ("limits", "target", "body"),
    [
        ([f"unit: requests, {DAY}: 1", f"unit: tokens, {DAY}: 1k"], CHAT, b'{"model":"m","max_tokens":900}'),
        (["unit: requests, window: 1m, quota: 1"], CHAT, b'{"model":"m","max_tokens":900}'),
        ([f"unit: input_tokens, {DAY}: 150"], CHAT, b'{"model":"m","max_tokens":900}'),
        ([f"unit: tokens, {DAY}: 150"], "/v1/embeddings", b'{"model":"m","input":"a"}'),
    ],
    ids=["requests too", "requests alone", "input", "no answer"],
)
def test_where_a_shorter_answer_does_not_help_none_is_named(
    limits: list[str], target: str, body: bytes
) -> None:
    lab = lab_with(*limits)
    key = lab.key()
    lab.decide(lab.request(target=target, key=key, body=body))
    denied = refused(lab.decide(lab.request(target=target, key=key, body=body)))
    assert "at most" not in denied.message
