"""Requests that set one text beside many: rerank and score (vLLM, Cohere, Jina).

The one text is read once for each of the others, so the body's bytes alone do not bound the input.
"""

import msgspec
from msgspec import Raw, Struct

MOST_COUNTED = 50_000  # commas; beyond, each is taken for the border of an item
PAIRS = frozenset({"/rerank", "/v1/rerank", "/v2/rerank", "/score", "/v1/score"})
"""The paths of such requests."""


class _Pairs(Struct):
    """The names that servers know, the one text's first."""

    query: Raw = Raw()
    queries: Raw = Raw()
    text_1: Raw = Raw()
    documents: Raw = Raw()
    text_2: Raw = Raw()


_pairs = msgspec.json.Decoder(_Pairs)
_items = msgspec.json.Decoder(list[Raw])


def pairs_of(body: bytes) -> tuple[int, int]:
    """How many pairs a JSON object asks for, and the bytes that are read again and again."""
    asked = _pairs.decode(body)
    ones = len(bytes(asked.query)) + len(bytes(asked.queries)) + len(bytes(asked.text_1))
    many = max(_length(asked.documents), _length(asked.text_2), 1)
    return many, ones * (many - 1)


def _length(raw: Raw) -> int:
    text = bytes(raw)
    if text[:1] != b"[":
        return 1
    most = text.count(b",") + 1
    return most if most > MOST_COUNTED else len(_items.decode(text))
