"""Every dialect of usage, and what no dialect may say."""

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.usage import Usage
from authz.usage_dialect import DIALECTS, METADATA, MOST_TOKENS, Fault, Reading, read_usage

DETAILS = {
    "prompt_tokens_details": {"cached_tokens": 4},
    "completion_tokens_details": {"reasoning_tokens": 1},
}


@pytest.mark.parametrize(
    ("raw", "usage"),
    [
        pytest.param(
            {"prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17}, Usage(12, 5), id="chat"
        ),
        pytest.param(
            {"prompt_tokens": 12, "completion_tokens": 5, **DETAILS}, Usage(12, 5, 4, 1), id="details"
        ),
        pytest.param(
            {"prompt_tokens": 12, "completion_tokens": 5, "prompt_tokens_details": None},
            Usage(12, 5),
            id="vllm",
        ),
        pytest.param({"prompt_tokens": 8, "total_tokens": 8}, Usage(8), id="embeddings"),
        pytest.param({"prompt_tokens": 8, "completion_tokens": None}, Usage(8), id="null-output"),
        pytest.param(
            {
                "input_tokens": 12,
                "output_tokens": 5,
                "input_tokens_details": {"cached_tokens": 4},
                "output_tokens_details": {"reasoning_tokens": 1},
                "total_tokens": 17,
            },
            Usage(12, 5, 4, 1),
            id="responses",
        ),
        pytest.param({"input_tokens": 12, "output_tokens": 5}, Usage(12, 5), id="anthropic-without-cache"),
        pytest.param(
            {
                "input_tokens": 10,
                "cache_read_input_tokens": 100,
                "cache_creation_input_tokens": 20,
                "output_tokens": 5,
            },
            Usage(130, 5, 100),
            id="anthropic",
        ),
        pytest.param(
            {"input_tokens": 10, "cache_creation_input_tokens": 0, "output_tokens": 5},
            Usage(10, 5),
            id="one-of-it",
        ),
        pytest.param(
            {"input_tokens": 10, "cache_read_input_tokens": None, "output_tokens": 5},
            Usage(10, 5),
            id="null-cache",
        ),
        pytest.param({"total_tokens": 33}, Usage(33), id="rerank"),
        pytest.param({"total_tokens": 33, "search_units": 1}, Usage(33), id="rerank-units"),
        pytest.param(
            {"prompt_tokens": 12, "completion_tokens": 5, "cache_read_input_tokens": 4},
            Usage(12, 5),
            id="mixed",
        ),
        pytest.param({"prompt_tokens": 12.0, "completion_tokens": 5.0}, Usage(12, 5), id="whole-floats"),
        pytest.param({"prompt_tokens": MOST_TOKENS}, Usage(MOST_TOKENS), id="the-most"),
    ],
)
def test_what_each_api_says(raw: dict[str, Any], usage: Usage) -> None:
    assert read_usage(raw) == Reading(usage)


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        pytest.param(-1, Fault.NEGATIVE, id="100-negative"),
        pytest.param(-1.0, Fault.NEGATIVE, id="100-negative-float"),
        pytest.param(-(2**70), Fault.NEGATIVE, id="100-very-negative"),
        pytest.param(MOST_TOKENS + 1, Fault.TOO_LARGE, id="100-huge"),
        pytest.param(2**53, Fault.TOO_LARGE, id="100-2-53"),
        pytest.param(10**5000, Fault.TOO_LARGE, id="100-5000-digits"),
        pytest.param(1e300, Fault.TOO_LARGE, id="huge-float"),
        pytest.param(0.5, Fault.NOT_A_NUMBER, id="fraction"),
        pytest.param(math.nan, Fault.NOT_A_NUMBER, id="nan"),
        pytest.param(math.inf, Fault.NOT_A_NUMBER, id="infinity"),
        pytest.param("5", Fault.NOT_A_NUMBER, id="text"),
        pytest.param(True, Fault.NOT_A_NUMBER, id="flag"),
        pytest.param([5], Fault.NOT_A_NUMBER, id="list"),
        pytest.param({"tokens": 5}, Fault.NOT_A_NUMBER, id="object"),
        pytest.param(b"5", Fault.NOT_A_NUMBER, id="bytes"),
    ],
)
@pytest.mark.parametrize("name", ["prompt_tokens", "completion_tokens"])
def test_what_is_no_count(name: str, value: object, fault: Fault) -> None:
    raw = {"prompt_tokens": 5, "completion_tokens": 2, name: value}
    assert read_usage(raw) == Reading(None, fault)


@pytest.mark.parametrize(
    ("raw", "fault"),
    [
        (None, Fault.NOT_AN_OBJECT),
        ([{"prompt_tokens": 1}], Fault.NOT_AN_OBJECT),
        ("prompt_tokens", Fault.NOT_AN_OBJECT),
        ({}, Fault.NO_COUNTS),
        ({"usage": {"prompt_tokens": 1}}, Fault.NO_COUNTS),
        ({"prompt_tokens": None}, Fault.NO_COUNTS),
        ({"completion_tokens": 5}, Fault.INCOMPLETE),
        ({"cache_read_input_tokens": 5, "output_tokens": 1}, Fault.INCOMPLETE),
        ({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}, Fault.ZERO),
        ({"total_tokens": 0}, Fault.ZERO),
    ],
    ids=lambda each: str(each)[:60],
)
def test_what_is_no_usage(raw: object, fault: Fault) -> None:
    assert read_usage(raw) == Reading(None, fault)


def test_counts_that_are_too_large_only_together() -> None:
    raw = {"input_tokens": MOST_TOKENS, "cache_read_input_tokens": MOST_TOKENS, "output_tokens": 1}
    assert read_usage(raw) == Reading(None, Fault.TOO_LARGE)


_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=5), inner, max_size=2),
    max_leaves=4,
)
_names = sorted(
    {
        key
        for dialect in (*DIALECTS, *METADATA)
        for key in (*dialect.marks, *dialect.cached, *dialect.reasoning, *dialect.input)
    }
)


@given(st.dictionaries(st.sampled_from(_names), _value, max_size=6))
def test_no_value_makes_an_absurd_usage(raw: dict[str, object]) -> None:
    for dialects in (DIALECTS, METADATA):
        reading = read_usage(raw, dialects)
        usage = reading.usage
        if usage is None:
            assert reading.fault is not None
            continue
        assert 0 <= usage.cached <= usage.input <= MOST_TOKENS
        assert 0 <= usage.reasoning <= usage.output <= MOST_TOKENS
        assert usage.input + usage.output > 0
