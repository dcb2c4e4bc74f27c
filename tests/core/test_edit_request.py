"""What changes in a body, and that nothing else does (attack 102)."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz import edit
from authz.edit import Splice
from authz.edit_request import LIMITS_OF, ask_for_usage, joined, limit_answer
from authz.peek import GOVERNED, Peek, peek
from tests.core.test_peek import ask
from tests.support.edits import apply

CHAT = "/v1/chat/completions"


def seen(body: str | bytes) -> Peek:
    answer = peek(ask(body))
    assert isinstance(answer, Peek), answer
    return answer


def asked(body: str, wanted: Any = True, path: str = CHAT) -> str:
    """The body after it was made to ask for usage."""
    splices = list(ask_for_usage(path, seen(body), wanted))
    return apply(edit.spell(len(body), splices), body.encode()).decode() if splices else body


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ('{"stream":true}', '{"stream_options":{"include_usage":true},"stream":true}'),
        (' {\n "stream" : true }', ' {"stream_options":{"include_usage":true},\n "stream" : true }'),
        (
            '{"stream":true,"stream_options":{}}',
            '{"stream":true,"stream_options":{"include_usage":true}}',
        ),
        (
            '{"stream":true,"stream_options":{ }}',
            '{"stream":true,"stream_options":{"include_usage":true }}',
        ),
        (
            '{"stream_options": {"x": {"include_usage": 1}}, "stream": true}',
            '{"stream_options": {"include_usage":true,"x": {"include_usage": 1}}, "stream": true}',
        ),
        ('{"stream":true,"stream_options":{"include_usage":false}}', None),
        ('{"stream":true,"stream_options":{"include_usage":true}}', None),
        ('{"stream":true,"stream_options":{"include\\u005fusage":false}}', None),
        ('{"stream":true,"stream_options":null}', None),
        ('{"stream":false}', None),
        ('{"stream":null}', None),
        ('{"messages":[{"content":"\\"stream\\":true"}]}', None),
    ],
)
def test_a_stream_is_asked_for_its_usage_unless_its_client_spoke(body: str, after: str | None) -> None:
    assert asked(body) == (after or body)
    assert asked(body, wanted=False) == body


@pytest.mark.parametrize(
    ("body", "after"),
    [
        (
            '{"stream":true}',
            '{"stream_options":{"include_usage":true,"continuous_usage_stats":true},"stream":true}',
        ),
        (
            '{"stream":true,"stream_options":{"include_usage":true}}',
            '{"stream":true,"stream_options":{"continuous_usage_stats":true,"include_usage":true}}',
        ),
        (
            '{"stream":true,"stream_options":{"continuous_usage_stats":false}}',
            '{"stream":true,"stream_options":{"include_usage":true,"continuous_usage_stats":false}}',
        ),
        ('{"stream":true,"stream_options":{"include_usage":false}}', None),
    ],
)
def test_in_each_chunk(body: str, after: str | None) -> None:
    assert asked(body, wanted="continuous") == (after or body)


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/messages", "/v1/embeddings", "/v1/chat/completions/"])
def test_other_apis_are_left_alone(path: str) -> None:
    assert asked('{"stream":true}', path=path) == '{"stream":true}'


def limited(body: str, tokens: int, path: str = CHAT) -> str:
    splices = list(limit_answer(path, seen(body), tokens))
    return apply(edit.spell(len(body), splices), body.encode()).decode() if splices else body


@pytest.mark.parametrize(
    ("path", "body", "after"),
    [
        (CHAT, '{"model":"a"}', '{"max_tokens":100,"model":"a"}'),
        (CHAT, '{"max_tokens": 4096}', '{"max_tokens": 100}'),
        (CHAT, '{"max_tokens": 100}', None),
        (CHAT, '{"max_tokens": 7}', None),
        (CHAT, '{"max_tokens": null, "n": 1}', '{"max_tokens": 100, "n": 1}'),
        (CHAT, '{"max_completion_tokens":4096}', '{"max_completion_tokens":100}'),
        (CHAT, '{"max_completion_tokens":9}', None),
        (
            CHAT,
            '{"max_tokens":4096,"x":"\u20ac","max_completion_tokens":101}',
            '{"max_tokens":100,"x":"\u20ac","max_completion_tokens":100}',
        ),
        (CHAT, '{"max_tokens":null,"max_completion_tokens":101}', '{"max_tokens":null,"max_completion_tokens":100}'),
        (CHAT, '{"max_tokens":null,"max_completion_tokens":null}', '{"max_tokens":100,"max_completion_tokens":null}'),
        # Fields that the API does not know limit nothing; llama.cpp's own one wins over the API's.
        (CHAT, '{"max_output_tokens":5}', '{"max_tokens":100,"max_output_tokens":5}'),
        (CHAT, '{"n_predict":5}', '{"max_tokens":100,"n_predict":5}'),
        (CHAT, '{"n_predict":500,"max_tokens":5}', '{"n_predict":100,"max_tokens":5}'),
        ("/v1/responses", '{"input":"a"}', '{"max_output_tokens":100,"input":"a"}'),
        ("/v1/responses", '{"max_tokens":5}', '{"max_output_tokens":100,"max_tokens":5}'),
        ("/v1/messages", '{"max_tokens":1024}', '{"max_tokens":100}'),
        ("/v1/completions", '{"prompt":"a","max_completion_tokens":1}', '{"max_tokens":100,"prompt":"a","max_completion_tokens":1}'),
    ],
)  # fmt: skip
def test_an_answer_is_limited(path: str, body: str, after: str | None) -> None:
    splices = list(limit_answer(path, seen(body.encode()), 100))
    raw = body.encode()
    changed = apply(edit.spell(len(raw), splices), raw).decode() if splices else body
    assert changed == (after or body)


def test_two_insertions_at_one_place_are_one_splice() -> None:
    splices = [Splice(1, 0, '"a":1,'), Splice(9, 2, "5"), Splice(1, 0, '"b":2,')]
    assert joined(splices) == [Splice(1, 0, '"a":1,"b":2,'), Splice(9, 2, "5")]


names = st.text(st.characters(codec="utf-8"), max_size=20).filter(
    lambda name: name.casefold() not in GOVERNED
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(10**25), 10**25)
    | st.floats(allow_nan=False, allow_infinity=False)
)
nested = st.recursive(
    leaves | st.text(st.characters(codec="utf-8")),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=4),
    max_leaves=8,
)
limits = st.none() | st.integers(1, 2**31 - 1)
options = st.fixed_dictionaries(
    {},
    optional={
        "include_usage": st.booleans(),
        "continuous_usage_stats": st.booleans(),
        "other": nested,
        "in\u20acclude_usage": st.text(),
    },
)
bodies = st.fixed_dictionaries(
    {"model": st.just("llama3"), "stream": st.booleans()},
    optional={
        "stream_options": st.none() | options,
        "max_tokens": limits,
        "max_completion_tokens": limits,
        "max_output_tokens": limits,
        "n_predict": st.integers(1, 2**31 - 1),
        "messages": nested,
    },
)


@st.composite
def written(draw: st.DrawFn) -> tuple[dict[str, Any], str]:
    """A body and one of the many ways to write it."""
    body = {**draw(bodies), **draw(st.dictionaries(names, nested.filter(_short), max_size=5))}
    order = draw(st.permutations(list(body)))
    body = {name: body[name] for name in order}
    space = st.text(" \t\r\n", max_size=3)
    ascii_only = draw(st.booleans())
    members = [
        f"{draw(space)}{_name(draw, name, ascii_only)}{draw(space)}:{draw(space)}"
        f"{json.dumps(value, ensure_ascii=ascii_only, separators=draw(st.sampled_from([(',', ':'), (', ', ': ')])))}"
        for name, value in body.items()
    ]
    return body, draw(space) + "{" + f"{draw(space)},".join(members) + draw(space) + "}" + draw(space)


def _short(value: Any) -> bool:
    """A number at the top level may not have very many digits."""
    return not isinstance(value, int | float) or len(json.dumps(value)) <= 32


def _name(draw: st.DrawFn, name: str, ascii_only: bool) -> str:
    spelled = json.dumps(name, ensure_ascii=ascii_only)
    if name and name.isascii() and name.isalpha() and draw(st.booleans()):
        spelled = f'"\\u{ord(name[0]):04x}{name[1:]}"'  # a member that a reader of bytes would miss
    return spelled


@given(
    written(),
    st.sampled_from([False, True, "continuous"]),
    st.sampled_from(sorted(LIMITS_OF)),
    st.integers(1, 5000),
)
def test_the_change_is_the_wanted_one_and_every_other_byte_stays(
    case: tuple[dict[str, Any], str], wanted: Any, path: str, tokens: int
) -> None:
    value, text = case
    raw = text.encode()
    body = seen(raw)
    splices = joined([*ask_for_usage(path, body, wanted), *limit_answer(path, body, tokens)])
    changed = apply(edit.spell(len(raw), splices), raw)

    assert json.loads(changed) == expected(value, wanted, path, tokens)
    names = [name for name, _ in json.loads(changed, object_pairs_hook=list)]
    assert len(names) == len(set(names))
    # Taken out again, the original is left: nothing else was touched.
    undone = changed
    for splice in splices:
        end = splice.offset + len(splice.text)
        undone = undone[: splice.offset] + raw[splice.offset : splice.offset + splice.remove] + undone[end:]
    assert undone == raw


def expected(value: dict[str, Any], wanted: Any, path: str, tokens: int) -> dict[str, Any]:
    """The same in terms of JSON."""
    after = dict(value)
    if wanted and value["stream"] and path in (CHAT, "/v1/completions"):
        given = value.get("stream_options", {})
        if given is not None and given.get("include_usage", True):
            more = {"include_usage": True} | (
                {"continuous_usage_stats": True} if wanted == "continuous" else {}
            )
            after["stream_options"] = more | given
    for name in ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict"):
        if (after.get(name) or 0) > tokens:
            after[name] = tokens
    if not any(after.get(name) for name in LIMITS_OF[path]):
        after[LIMITS_OF[path][0]] = tokens
    return after
