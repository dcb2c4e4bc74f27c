"""Requests that set one text beside many: rerank and score (vLLM, Cohere, Jina).

The one text is read once for each of the others, so the body's bytes alone do not bound the input.
"""

import msgspec
from msgspec import Raw

MOST_COUNTED = 50_000  # commas; beyond, each is taken for the border of an item
PAIRS = frozenset(
    {"/rerank", "/v1/rerank", "/v2/rerank", "/reranking", "/v1/reranking", "/score", "/v1/score"}
)
"""The paths of such requests."""


_ONE = ("query", "queries", "text_1", "data_1")
_MANY = ("documents", "texts", "items", "text_2", "data_2")
"""The names that servers know for the one text and for those beside it (vLLM, llama.cpp, TEI)."""

_members = msgspec.json.Decoder(dict[str, Raw])
_items = msgspec.json.Decoder(list[Raw])


def pairs_of(body: bytes) -> tuple[int, int]:
    """How many pairs a JSON object asks for, and the bytes that are read again and again.

    Where both sides are lists, each of the one is read with one of the other: less than is reckoned.
    """
    asked = _members.decode(body)
    ones = sum(len(bytes(asked[name])) for name in _ONE if name in asked)
    many = max([_length(asked[name]) for name in (*_MANY, *_ONE) if name in asked] or [1])
    return many, ones * (many - 1)


def _length(raw: Raw) -> int:
    text = bytes(raw)
    if text[:1] == b"{":  # vLLM: the list of parts is within, each a text or an image
        return max([1, *(_items_of(bytes(part)) for part in _members.decode(text).values())])
    return _items_of(text)


def _items_of(text: bytes) -> int:
    if text[:1] != b"[":
        return 1
    most = text.count(b",") + 1
    return most if most > MOST_COUNTED else max(1, len(_items.decode(text)))
