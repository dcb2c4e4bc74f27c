"""Text as the value of a header."""

import re
import string
from urllib.parse import quote

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%" + string.ascii_letters)

_CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


def is_request_id(text: str) -> bool:
    """Whether the id that somebody else gave a request is fit for headers, logs and file names."""
    return _ID.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether a value can stand in a header field (RFC 9110 5.5)."""
    return text.isprintable() or _CONTROL.search(text) is None


def header_value(text: str) -> str:
    """A text that no line break, control or non-ASCII character survives in (attack 32).

    All but printable ASCII is percent-encoded as UTF-8, and so are `%` itself
    and blanks at the ends: one decoding gives the text back, whatever it was.
    """
    if text.isascii() and text.isprintable() and "%" not in text and text == text.strip(" "):
        return text
    encoded = quote(text, safe=_PLAIN)
    inner = encoded.strip(" ")
    left = len(encoded) - len(encoded.lstrip(" "))
    return "%20" * left + inner + "%20" * (len(encoded) - left - len(inner))
