"""What a client may write so that its input is counted too low, or counting takes too long."""

import asyncio
import json
from typing import Any

import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from authz.limit.tokenizer import LARGEST_AT_ONCE, LARGEST_COUNTED, InputCounter

ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


def of_bytes() -> Tokenizer:
    """The worst that there is: a token is a byte, as where a text is unlike all that it was trained on."""
    tokenizer = Tokenizer(models.BPE(vocab={letter: at for at, letter in enumerate(ALPHABET)}, merges=[]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    return tokenizer


@pytest.fixture(scope="module")
def counter() -> InputCounter:
    return InputCounter(of_bytes())


def tool_use(given: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "content": [{"type": "tool_use", "input": given}]}]}


def tool_call(arguments: Any) -> dict[str, Any]:
    return {"messages": [{"role": "assistant", "tool_calls": [{"function": {"arguments": arguments}}]}]}


FLOATS, INTS = [0.123456789012345] * 50, [123456789012345] * 50


@pytest.mark.parametrize(
    ("body", "printed"),
    [
        pytest.param({"text_1": "x" * 900, "text_2": "y" * 900}, "x" * 1800, id="a score's texts"),
        pytest.param({"inputs": "x" * 900}, "x" * 900, id="a text under another name"),
        pytest.param(tool_use({"k" * 900: 1}), "k" * 900, id="names in a tool's input"),
        pytest.param(tool_use({"a": FLOATS}), json.dumps(FLOATS), id="fractions in a tool's input"),
        pytest.param(tool_use({"a": INTS}), json.dumps(INTS), id="numbers in a tool's input"),
        pytest.param(tool_call({"k" * 900: INTS}), "k" * 900 + json.dumps(INTS), id="arguments as an object"),
        pytest.param(tool_call("[" + "1," * 400 + "1]"), json.dumps([1] * 401), id="arguments printed anew"),
    ],
)
def test_nothing_that_a_model_reads_is_left_out(
    counter: InputCounter, body: dict[str, Any], printed: str
) -> None:
    counted = counter.count(json.dumps(body, separators=(",", ":")).encode())
    assert counted is not None
    assert counted >= len(printed)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"tools":' + b"[" * 900 + b"]" * 900 + b"}", id="deep tools"),
        pytest.param(b'{"messages":[{"x":' + b"[" * 900 + b"]" * 900 + b"}]}", id="deep member"),
        pytest.param(b'{"messages":' + b"[" * 900 + b'"a"' + b"]" * 900 + b"}", id="deep messages"),
        pytest.param(b'{"messages":[{"arguments":"' + b"[" * 900 + b"]" * 900 + b'"}]}', id="deep arguments"),
        pytest.param(b'{"messages":[{"content":"\\ud800"}]}', id="half of a pair"),
        pytest.param(b'{"messages":[1e400]}', id="no number"),
        pytest.param(b'{"messages":[' + b"1" * 900 + b"]}", id="many digits"),
    ],
)
def test_what_would_take_long_or_cannot_be_read_is_not_counted(
    counter: InputCounter, body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Indented, 1,800 bytes of brackets are three megabytes: for nine seconds nobody would be answered."""
    encoded: list[int] = []

    def encode(texts: list[str], add_special_tokens: bool) -> list[Any]:
        encoded.append(sum(map(len, texts)))
        return []

    monkeypatch.setattr(counter, "_encode", encode)
    counter.count(body)
    assert sum(encoded) <= 4 * LARGEST_AT_ONCE


async def test_whoever_waits_for_the_counting_of_others_waits_for_little() -> None:
    """Of all models together: there is one thread."""
    counters = [InputCounter(of_bytes()) for _ in range(3)]
    body = json.dumps({"prompt": "x" * (LARGEST_COUNTED - 100)}).encode()
    found = await asyncio.gather(*(counter(body) for counter in counters for _ in range(2)))
    assert len(found) - found.count(None) == 2
    assert await counters[0](body) == LARGEST_COUNTED - 100
