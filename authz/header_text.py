"""Text as the value of a header."""

import re
import string
from urllib.parse import quote

CONTROLS = bytes((*range(0x09), *range(0x0A, 0x20), 0x7F))
"""Octets that no header field may hold (RFC 9110 5.5)."""

_PLAIN = "".join(chr(code) for code in range(0x20, 0x7F) if chr(code) not in "%" + string.ascii_letters)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}", re.ASCII)


def is_request_id(text: str) -> bool:
    """Whether the id that somebody else gave a request is fit for headers, logs and file names."""
    return _ID.fullmatch(text) is not None


def is_field_value(text: str) -> bool:
    """Whether a value can stand in a header field (RFC 9110 5.5)."""
    if text.isprintable():
        return True
    octets = text.encode("utf-8", "surrogatepass")  # where only a control character has its octet
    return len(octets.translate(None, CONTROLS)) == len(octets)


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
