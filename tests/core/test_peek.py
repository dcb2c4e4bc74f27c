"""The body peek: strict where parsers disagree (attacks 84-93, 98, 99)."""

import json
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.peek import NOTHING, Peek, peek
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Gateway, GatewayKind, Request

FOUR_MB = (4 << 20) - 100
QUICK = 0.25  # seconds of processor time: some 15 ms where nothing else runs, seconds if it were not bounded
EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)


def ask(
    body: bytes | str, headers: dict[str, str] | None = None, state: BodyState = BodyState.WHOLE
) -> Request:
    return Request(
        gateway=EDGE,
        request_id="r",
        method="POST",
        target="/v1/chat/completions",
        host="llm.test",
        scheme="https",
        headers={"content-type": "application/json"} if headers is None else headers,
        body=body.encode() if isinstance(body, str) else body,
        body_state=state,
    )


def test_reads_what_it_governs() -> None:
    body = '{"model": "llama3", "stream": true, "max_tokens": 5, "max_completion_tokens": 7, "n": 2, "messages": []}'
    assert peek(ask(body)) == Peek(
        model="llama3",
        stream=True,
        limits={"max_tokens": 5, "max_completion_tokens": 7},
        choices=2,
        size=len(body),
        text=len('{"model":"llama3","stream":true,"n":2,"messages":[]}'),
        body=body.encode(),
    )


def test_finds_where_a_member_stands() -> None:
    seen = peek(ask(' {"model": "llama3", "max_tokens" : 5, "messages": []}'))
    assert isinstance(seen, Peek)
    assert (seen.opening, seen.place("max_tokens"), seen.place("n")) == (2, (36, b"5"), None)
    assert (NOTHING.place("max_tokens"), NOTHING.max_output) == (None, None)


@pytest.mark.parametrize(
    ("body", "prompts"),
    [
        ('{"prompt": "a"}', 1),
        ('{"prompt": ["a", "b", "c"]}', 3),
        ('{"prompt": [1, 2, 3]}', 1),
        ('{"prompt": [[1], [2]]}', 2),
        ('{"input": ["a", "b"]}', 2),
        ('{"input": "a"}', 1),
        ('{"input": [{"role": "user", "content": "a"}, {"role": "user", "content": "b"}]}', 1),
        ('{"prompt": []}', 1),
        ('{"prompt": [[1, 2], "a", {"prompt_string": "b, c"}]}', 3),
        ('{"prompt": [[' + "1," * 150_000 + '1], "a"]}', 2),
    ],
)
def test_counts_prompts(body: str, prompts: int) -> None:
    answer = peek(ask(body))
    assert isinstance(answer, Peek)
    assert answer.prompts == prompts


@pytest.mark.parametrize(
    "body",
    ["{}", " { } ", '{"a": {"b": 1, "b": 2}}', '{\n"a"\t:\r1 , "b":[{}]}\n', '{"model": null, "n": null}'],
)
def test_whitespace_and_nesting_are_fine(body: str) -> None:
    assert isinstance(peek(ask(body)), Peek)


@pytest.mark.parametrize(
    ("attack", "body", "reason"),
    [
        (84, '{"model": "a", "model": "b"}', Reason.DUPLICATE_FIELD),
        (84, '{"model": "a", "model": "a"}', Reason.DUPLICATE_FIELD),
        (84, '{"model": "a", "x": 1, "model": "a"}', Reason.DUPLICATE_FIELD),
        (84, '{"x": 1, "model": "a", "x": 1}', Reason.DUPLICATE_FIELD),
        (84, '{"x": 1, "x": 12}', Reason.DUPLICATE_FIELD),
        (84, '{"x": 12, "x": 1}', Reason.DUPLICATE_FIELD),
        (84, '{"a": 1, "a": 1, "b": 1}', Reason.DUPLICATE_FIELD),
        (85, '{"model": "a", "\\u006dodel": "b"}', Reason.DUPLICATE_FIELD),
        (85, '{"\\u006dodel": "b", "model": "b"}', Reason.DUPLICATE_FIELD),
        (85, '{"Model": "a"}', Reason.DUPLICATE_FIELD),
        (85, '{"model": "a", "MODEL": "b"}', Reason.DUPLICATE_FIELD),
        (85, '{"\u017ftream": true}', Reason.DUPLICATE_FIELD),
        (85, '{"max_to\u212aens": 1}', Reason.DUPLICATE_FIELD),
        (86, '{"model": "a"}'.encode("utf-16"), Reason.BAD_BODY),
        (86, b'\xef\xbb\xbf{"model": "a"}', Reason.BAD_BODY),
        (86, b'{"model": "\xff"}', Reason.BAD_BODY),
        (86, b'{"x": "\xed\xa0\x80"}', Reason.BAD_BODY),
        (87, '{"temperature": NaN}', Reason.BAD_BODY),
        (87, '{"temperature": Infinity}', Reason.BAD_BODY),
        (87, '{"max_tokens": 1E400}', Reason.BAD_PARAMETER),
        (88, '{"seed": ' + "1" * 5000 + "}", Reason.BAD_PARAMETER),
        (89, '{"max_tokens": -1}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": 0}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": 1.0}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": "10"}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": true}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": 9223372036854775808}', Reason.BAD_PARAMETER),
        (89, '{"max_tokens": [1]}', Reason.BAD_PARAMETER),
        (91, '{"n": 129}', Reason.BAD_PARAMETER),
        (91, '{"best_of": 1e9}', Reason.BAD_PARAMETER),
        (84, '{"model": ["a"]}', Reason.BAD_PARAMETER),
        (84, '{"model": ""}', Reason.BAD_PARAMETER),
        (32, '{"model": "a\\r\\nx-authz-user: root"}', Reason.BAD_PARAMETER),
        (84, '{"model": "' + "a" * 257 + '"}', Reason.BAD_PARAMETER),
        (84, '{"stream": "true"}', Reason.BAD_PARAMETER),
        (84, '{"stream_options": true}', Reason.BAD_PARAMETER),
        (84, '{"stream_options": [{"include_usage": true}]}', Reason.BAD_PARAMETER),
        (61, '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", Reason.BAD_BODY),
        (84, "[]", Reason.BAD_BODY),
        (84, '"a"', Reason.BAD_BODY),
        (84, "", Reason.BAD_BODY),
        (84, '{"a": 1} {"a": 2}', Reason.BAD_BODY),
        (84, "{'a': 1}", Reason.BAD_BODY),
        (84, '{"a": 1,}', Reason.BAD_BODY),
        (84, '{"a": 01}', Reason.BAD_BODY),
        (84, '{"a": 1 /* */}', Reason.BAD_BODY),
    ],
)
def test_bodies_that_parsers_disagree_about_are_refused(
    attack: int, body: bytes | str, reason: Reason
) -> None:
    answer = peek(ask(body))
    assert isinstance(answer, Refusal)
    assert answer.reason is reason


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ({}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ({"content-type": "text/plain"}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ({"content-type": "application/x-www-form-urlencoded"}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ({"content-type": "multipart/form-data; boundary=x"}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ({"content-type": "application/json; charset=utf-16"}, Reason.UNSUPPORTED_MEDIA_TYPE),
        ({"content-type": "application/json", "content-encoding": "gzip"}, Reason.UNSUPPORTED_ENCODING),
        ({"content-type": "application/json", "content-encoding": "br"}, Reason.UNSUPPORTED_ENCODING),
    ],
)
def test_only_plain_json_is_read(headers: dict[str, str], reason: Reason) -> None:
    answer = peek(ask('{"model": "a"}', headers))
    assert isinstance(answer, Refusal)
    assert answer.reason is reason


@pytest.mark.parametrize(
    "kind",
    [
        "application/json",
        "Application/JSON; charset=UTF-8",
        "application/vnd.x+json",
        "application/json;charset=utf8",
    ],
)
def test_json_by_any_of_its_names(kind: str) -> None:
    assert isinstance(
        peek(ask('{"model": "a"}', {"content-type": kind, "content-encoding": "identity"})), Peek
    )


@pytest.mark.parametrize(
    ("state", "reason"),
    [(BodyState.PARTIAL, Reason.BODY_INCOMPLETE), (BodyState.WITHHELD, Reason.BODY_REQUIRED)],
)
def test_a_body_is_never_guessed(state: BodyState, reason: Reason) -> None:
    answer = peek(ask('{"model": "a"}', state=state))
    assert isinstance(answer, Refusal)
    assert answer.reason is reason


def test_no_body_is_nothing() -> None:
    assert peek(ask(b"", state=BodyState.NONE)) is NOTHING


@pytest.mark.parametrize(
    "body",
    [
        b"{" + b",".join(b'"%d":0' % i for i in range(1_000_000)) + b"}",
        b'{"a":{' + b",".join(b'"%d":0' % i for i in range(1_000_000)) + b"}}",
        b"{" + b",".join(b'"%d":0' % i for i in range(90_000)) + b"}",
        b'{"' + b"x" * FOUR_MB + b'": 1}',
        b'{"' + b"\\u0041" * (FOUR_MB // 6) + b'": 1}',
        b'{"model":[' + b"[]," * (FOUR_MB // 3) + b"[]]}",
        b'{"model":{"a":[' + b"[]," * (FOUR_MB // 3) + b"[]]}}",
        b'{"stream":[' + b"1," * (FOUR_MB // 2) + b"1]}",
        b'{"prompt":[' + b"[]," * (FOUR_MB // 3) + b"[]]}",
        b'{"prompt":["a",' + b"1," * (FOUR_MB // 2) + b"1]}",
        b'{"prompt":[' + b"[]," * (FOUR_MB // 3) + b'"a"]}',
        b'{"prompt":[{},' + b"1," * (FOUR_MB // 2) + b"1]}",
        b'{"input":[' + b'"a",' * 49_000 + b'"a"]}',
    ],
    ids=["fields", "nested fields", "many fields", "a long name", "a long name in escapes", "model is lists",
         "model is an object", "stream is a list", "prompts of nothing", "mixed prompts",
         "lists and a text", "an object and numbers", "many inputs"],
)  # fmt: skip
def test_attack_92_what_is_too_much_is_refused_early(body: bytes) -> None:
    begun = time.thread_time()
    answer = peek(ask(body))
    assert time.thread_time() - begun < QUICK
    assert isinstance(answer, Refusal)
    assert answer.reason in (Reason.BODY_TOO_LARGE, Reason.BAD_PARAMETER)


@pytest.mark.parametrize(
    "body",
    [
        b'{"prompt":[' + b"1," * (FOUR_MB // 2) + b"1]}",
        b'{"messages":[' + b"{}," * (FOUR_MB // 3) + b"{}]}",
        b'{"x": "' + b"x" * FOUR_MB + b'"}',
        b'{"messages":[{"content": "' + "\u20ac".encode() * (FOUR_MB // 3) + b'"}]}',
    ],
    ids=["a list of tokens", "many messages", "a long text", "a long text that is not ascii"],
)
def test_what_is_large_and_fine_is_read_quickly(body: bytes) -> None:
    begun = time.thread_time()
    assert isinstance(peek(ask(body)), Peek)
    assert time.thread_time() - begun < QUICK


@pytest.mark.parametrize(
    "value", ["1e999999", "1e400", "-1e999", "{}", "[1]", "0.5", "1E400", '"x', "nul", '"\\ud800"']
)
@pytest.mark.parametrize("name", ["model", "stream", "max_tokens", "n", "prompt", "input"])
def test_no_value_of_a_governed_field_is_an_internal_error(name: str, value: str) -> None:
    peek(ask(f'{{"{name}": {value}}}'))
    peek(ask(f'{{"{name}": [{value}]}}'))
    peek(ask(f'{{"{name}": ["a", {value}]}}'))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(10**20), 10**20) | st.text(),
    lambda v: st.lists(v) | st.dictionaries(st.text(), v),
)


@given(st.dictionaries(st.text(), json_values), st.booleans(), st.sampled_from([None, 1]))
def test_no_valid_object_is_taken_for_one_with_repeats(
    value: dict[str, object], ascii_only: bool, indent: int | None
) -> None:
    """Any object with distinct names passes the repeat check, however it is written.

    Fields that are read are left out: Hypothesis takes texts from our sources, too, and would name them.
    """
    governed = {
        "model",
        "stream",
        "max_tokens",
        "max_completion_tokens",
        "max_output_tokens",
        "n",
        "best_of",
        "n_cmpl",
        "n_predict",
        "prompt",
        "input",
    }
    value = {
        k: v
        for k, v in value.items()
        if k.casefold() not in governed | {"messages", "stream_options", "previous_response_id", "usage"}
    }
    answer = peek(ask(json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "replace")))
    assert isinstance(answer, Peek), answer


@given(st.dictionaries(st.text(st.characters(codec="utf-8")), json_values, min_size=1), st.data())
def test_every_repeat_is_found(value: dict[str, object], data: st.DataObject) -> None:
    members = [(json.dumps(k), json.dumps(v)) for k, v in value.items()]
    name, _ = data.draw(st.sampled_from(members))
    again = (name, json.dumps(data.draw(json_values)))
    members.insert(data.draw(st.integers(0, len(members))), again)
    text = "{" + ",".join(f"{k}:{v}" for k, v in members) + "}"
    answer = peek(ask(text))
    assert isinstance(answer, Refusal)
