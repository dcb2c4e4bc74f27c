"""Caps on one request: refused with what is too much, and charged nowhere."""

import pytest

from authz.decision import Allow, Deny
from tests.support.lab import Lab

CONFIG = """
store: memory://
gateways: {edge: {kind: envoy, token: "edge-token-of-the-tests"}}
authenticators: {keys: {type: api_key}}
models: {m: {max_output: 4000}, bare: {}}
routes:
  - name: inference
    match: {api: [openai, anthropic]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [rpm]
    caps: {characters: 300, tokens: 1000, inputs: 3}
  - name: ranks
    match: {paths: [/v1/rerank]}
    authenticate: {any_of: [keys]}
    authorize: [{models: any}]
    limits: [rpm]
    caps: {inputs: 2}
limits:
  rpm: {unit: requests, quota: 5, window: 1m, partition_by: [key]}
"""
CHAT, EMBED, RANK = "/v1/chat/completions", "/v1/embeddings", "/v1/rerank"


def chat(content: str, more: str = ',"max_tokens":10') -> str:
    return f'{{"model":"m","messages":[{{"content":"{content}"}}]{more}}}'


FITS = [
    (CHAT, chat("x" * (300 - len(chat(""))))),
    (CHAT, chat("\u20ac" * (300 - len(chat(""))))),  # three bytes each: characters are capped, not bytes
    (CHAT, chat("x", ',"max_tokens":894')),  # 42 bytes are read at most, and 64 around them
    (EMBED, '{"model":"m","input":["a","b","c"]}'),
    (RANK, '{"model":"m","query":"q","documents":["a","b"]}'),
    ("/v1/models", ""),
]
TOO_MUCH = [
    (CHAT, chat("x" * (301 - len(chat("")))), 413, "301 characters; at most 300", None),
    (CHAT, chat("\u20ac" * (301 - len(chat("")))), 413, "301 characters; at most 300", None),
    (CHAT, chat("x", ',"max_tokens":895'), 400, "With `max_tokens` at most 894 it is accepted", "max_tokens"),
    (CHAT, chat("x", ',"max_tokens":445,"n":2'), 400, "at most 444 it", "max_tokens"),
    (CHAT, chat("x", ""), 400, "4000 of output; at most 1000 together", "max_tokens"),
    ("/v1/responses", '{"model":"m","input":"a"}', 400, "`max_output_tokens` at most 911", "max_output_tokens"),
    (CHAT, '{"model":"bare"}', 400, "nothing bounds them", "max_tokens"),
    (EMBED, '{"model":"m","input":["a","b","c","d"]}', 400, "4 inputs; at most 3", None),
    ("/v1/completions", '{"model":"m","prompt":["a","b","c","d"],"max_tokens":1}', 400, "4 inputs; at most 3", None),
    (RANK, '{"model":"m","query":"q","documents":["a",{"text":"b"},"c"]}', 400, "3 inputs; at most 2", None),
]  # fmt: skip


@pytest.mark.parametrize(("target", "body"), FITS, ids=range(len(FITS)))
def test_as_much_as_is_allowed(target: str, body: str) -> None:
    lab = Lab(CONFIG)
    method = "POST" if body else "GET"
    assert isinstance(lab.decide(lab.request(method, target, key=lab.key(), body=body.encode())), Allow)


@pytest.mark.parametrize(("target", "body", "status", "text", "param"), TOO_MUCH, ids=range(len(TOO_MUCH)))
def test_one_more_is_refused_and_charged_nowhere(
    target: str, body: str, status: int, text: str, param: str | None
) -> None:
    lab = Lab(CONFIG)
    key = lab.key()
    for _ in range(9):  # more often than the limit of requests would let through
        denied = lab.decide(lab.request(target=target, key=key, body=body.encode()))
        assert isinstance(denied, Deny)
        assert (denied.status, text in denied.message) == (status, True), denied.message
        assert (f'"param":"{param}"' if param else '"param":null').encode() in denied.body
    assert dict(denied.headers)["x-should-retry"] == "false"
    allowed = lab.decide(lab.request(key=key, body=chat("x").encode()))
    assert isinstance(allowed, Allow)
    assert allowed.limits[0].remaining == 4
