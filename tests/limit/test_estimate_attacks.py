"""What a client may write so that it uses more than is held: none of it does."""

import json
import time
import unicodedata
from typing import Any

import pytest

from authz.limit.estimate import TOOLS_OVERHEAD, Bound
from authz.limit.growth import growth
from authz.peek import MOST_PROMPTS, Peek, peek
from authz.printed import indentation
from authz.refusal import Refusal
from authz.store.records import Model
from tests.core.test_peek import ask
from tests.limit.test_estimate import CHAT, MODEL, bound

COMPLETIONS, SCORE = "/v1/completions", "/v1/score"
LARGE = Model(name="m", context=1 << 30, max_output=2048)


def of(path: str, members: dict[str, Any], model: Model | None = MODEL) -> Bound:
    return bound(path, json.dumps({"model": "m", **members}, separators=(",", ":")), model)


@pytest.mark.parametrize(
    ("members", "answers"),
    [
        pytest.param({"n_cmpl": 8}, 8, id="llama.cpp's own name of n"),
        pytest.param({"n": 1, "n_cmpl": 8}, 8, id="which goes before n"),
        pytest.param({"prompt": [[1], "b", "c"]}, 3, id="tokens and texts"),
        pytest.param({"prompt": [[1], {"prompt_string": "b"}]}, 2, id="tokens and objects"),
        pytest.param({"prompt": [{"prompt_string": "a"}, {"prompt_string": "b"}]}, 2, id="objects"),
        pytest.param({"input": [{"role": "user"}, {"role": "user"}]}, 1, id="messages are one prompt"),
        pytest.param({"prompt": [1, "b", 3]}, 1, id="a prompt of tokens and texts"),
    ],
)
def test_91_every_answer_is_held(members: dict[str, Any], answers: int) -> None:
    assert of(COMPLETIONS, members).answers == answers


@pytest.mark.parametrize("twin", ["N_CMPL", "n_Cmpl"])
def test_85_case_twins_of_n_cmpl_are_refused(twin: str) -> None:
    assert isinstance(peek(ask(json.dumps({twin: 8}))), Refusal)


def test_91_many_mixed_prompts_are_refused() -> None:
    assert isinstance(peek(ask(json.dumps({"prompt": [[1], *["b"] * MOST_PROMPTS]}))), Refusal)


@pytest.mark.parametrize(
    ("path", "name"),
    [("/v1/responses", "max_tokens"), (COMPLETIONS, "max_completion_tokens"), (CHAT, "max_output_tokens")],
)
def test_90_a_field_that_some_server_obeys_raises_the_bound(path: str, name: str) -> None:
    """llama.cpp answers every API by one function, which knows them all."""
    assert of(path, {name: 5000}, Model(name="m", context=4096)).answer == 5000


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"data_1": "q" * 500, "data_2": ["d"] * 40}, id="vLLM"),
        pytest.param({"queries": "q" * 500, "items": ["d"] * 40}, id="vLLM's items"),
        pytest.param({"query": "q" * 500, "texts": ["d"] * 40}, id="TEI"),
        pytest.param({"text_1": "q" * 500, "text_2": {"content": ["d"] * 40}}, id="parts"),
    ],
)
@pytest.mark.parametrize("path", [SCORE, "/v1/rerank", "/reranking", "/v1/reranking"])
def test_the_one_text_is_reckoned_with_each_of_the_others(path: str, members: dict[str, Any]) -> None:
    found = of(path, members)
    assert (found.inputs, found.output) == (40, 0)
    assert found.input >= 40 * 500


@pytest.mark.parametrize(
    "members",
    [
        pytest.param({"conversation": "conv_1"}, id="a stored conversation"),
        pytest.param({"prompt": {"id": "pmpt_1"}}, id="a stored prompt"),
        pytest.param({"input": [{"type": "item_reference", "id": "msg_1"}]}, id="a stored message"),
        pytest.param({"prompt_embeds": "AAAA"}, id="embedded prompt"),
        pytest.param({"messages": [{"content": [{"type": "image_embeds"}]}]}, id="embedded image"),
        pytest.param({"images": ["AAAA"]}, id="images"),
        pytest.param({"prompt": [{"prompt_string": "a", "multimodal_data": ["AA"]}]}, id="llama.cpp's media"),
        pytest.param({"chat_template": "{% for i in range(10**6) %}a{% endfor %}"}, id="own template"),
        pytest.param({"chat_template_kwargs": {"chat_template": "x"}}, id="own template among settings"),
    ],
)
def test_what_is_not_in_the_body_is_held_at_the_context(members: dict[str, Any]) -> None:
    assert of(CHAT, members).input == 8192
    assert not of(CHAT, members, Model(name="m", max_output=5)).sure_input


def test_tools_are_held_as_they_are_printed() -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"enum": list(range(200))}}}]
    printed = json.dumps(tools, indent=4).replace("    ", "\t")  # a step of it is a token at most
    assert of(CHAT, {"tools": tools}, LARGE).input >= len(printed) + TOOLS_OVERHEAD
    for none in ([], None):
        assert of(CHAT, {"tools": none}, LARGE).input < TOOLS_OVERHEAD
    deep = '{"model":"m","tools":' + "[" * 900 + "]" * 900 + "}"
    assert bound(CHAT, deep, LARGE).input >= 900 * 899
    assert bound(CHAT, deep).input <= len(deep) + 8192 + 64 + TOOLS_OVERHEAD


def test_arguments_of_calls_are_held_with_the_spaces_of_their_print() -> None:
    numbers = [1] * 500
    calls = [{"function": {"name": "f", "arguments": json.dumps(numbers, separators=(",", ":"))}}]
    messages = [{"role": "assistant", "tool_calls": calls}, {"role": "user", "content": "and?"}]
    plain = of(CHAT, {"messages": [{"role": "user", "content": "1" * 1000}]}, LARGE).input
    assert of(CHAT, {"messages": messages}, LARGE).input > plain + 499


@pytest.mark.parametrize(
    "value",
    [[], {}, [[]], {"a": [1, {"b": "]]]],,,"}]}, [{"a": '"[' * 9}] * 3, "text", 1, [[[[1, 2], 3], 4], 5]],
)
def test_an_indentation_is_never_reckoned_too_short(value: Any) -> None:
    plain = json.dumps(value, separators=(",", ":"))
    assert indentation(plain.encode()) >= len(json.dumps(value, indent=4)) - len(plain)


def test_a_body_of_brackets_keeps_nobody_waiting() -> None:
    """As long as reading its text takes, ten times over."""
    deep = b'{"tools":[' + b"[]," * 1_000_000 + b"[]]}"
    begun = time.perf_counter()
    json.loads(deep)
    read = time.perf_counter() - begun
    begun = time.perf_counter()
    assert isinstance(peek(ask(deep)), Peek)
    assert time.perf_counter() - begun < max(10 * read, 1)


def test_no_text_grows_beyond_its_bound() -> None:
    """Qwen writes U+1D160, four bytes, as twelve; T5 writes U+FDFA, three, as eighteen characters."""
    for first in range(0x80, 0x20000, 64):
        for code in range(first, first + 64):
            if 0xD800 <= code < 0xE000:
                continue
            text = chr(code)
            least = len(text.encode())
            if growth(text.encode()):
                least += 15
            composed = len(unicodedata.normalize("NFC", text).encode())
            assert composed <= least, hex(code)
            for form in ("NFKC", "NFD", "NFKD"):
                assert len(unicodedata.normalize(form, text)) <= least, (form, hex(code))
    assert growth(b"plain") == growth("äé中文😀".encode()) == growth(b"\\ud834\\udd60") == 0
    assert growth(b"\\ufdfa\\uFDFA") == 30
    text = "\U0001d160" * 100
    assert bound(CHAT, json.dumps({"x": text}, ensure_ascii=False), LARGE).input >= 1200
