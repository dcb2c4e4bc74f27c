"""How long JSON becomes where a chat template prints it: with spaces, on lines of its own, indented.

Llama's templates print tools by `tojson(indent=4)`, most others by plain `tojson`, which sets a space behind
each comma and colon. So a few bytes of deeply nested brackets become very many tokens.
"""

import re
from itertools import accumulate

INDENT = 4
MOST_BRACKETS = 20_000  # whose depth is reckoned; beyond, the deepest that parsers take is assumed
DEEPEST = 1_000

_STRING = re.compile(rb'"(?:[^"\\]++|\\.)*+"', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEP = {ord("["): 1, ord("{"): 1, ord("]"): -1, ord("}"): -1}


def _lines(text: bytes) -> tuple[int, int]:
    """Lines of valid JSON printed with an indentation, and how deep the deepest is, at most."""
    plain = _STRING.sub(b"", text)
    brackets = plain.translate(None, _NO_BRACKETS)
    if len(brackets) > MOST_BRACKETS:
        depth = DEEPEST
    else:
        depth = max(accumulate(_STEP[bracket] for bracket in brackets), default=0)
    return plain.count(b",") + len(brackets), depth


def indentation(text: bytes) -> int:
    """Characters that printing valid JSON with an indentation adds at most."""
    lines, depth = _lines(text)
    return lines * (1 + INDENT * depth) + text.count(b":")


def more_tokens(text: bytes) -> int:
    """Tokens that printing valid JSON with an indentation adds at most, where four spaces are one."""
    lines, depth = _lines(text)
    return lines * (1 + depth) + text.count(b":")
