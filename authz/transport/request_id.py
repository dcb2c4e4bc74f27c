"""Request ids: `req_` and 22 base62 characters, 131 random bits."""

import os

from authz.header_text import is_request_id
from authz.request import Gateway
from authz.transport.headers import Fields

_ALPHABET = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_LENGTH = 22
_POOL = 4096  # random bytes fetched at a time: one system call for about 180 ids

# Bytes from 248 on are dropped: 248 = 4 x 62, so every character is equally likely.
_DIGITS = (_ALPHABET * 5)[:256]
_UNFAIR = bytes(range(248, 256))


class RequestIds:
    """Makes ids. Belongs to one thread."""

    __slots__ = ("_at", "_pool")

    def __init__(self) -> None:
        self._pool = ""
        self._at = 0

    def __call__(self) -> str:
        start = self._at
        end = start + _LENGTH
        if end > len(self._pool):
            self._pool = os.urandom(_POOL).translate(_DIGITS, _UNFAIR).decode("ascii")
            start, end = 0, _LENGTH
        self._at = end
        return f"req_{self._pool[start:end]}"


def request_id_of(gateway: Gateway, fields: Fields, ours: str) -> str:
    """The gateway's own id where it vouches for it; a client's is never used (attack 106)."""
    if gateway.request_id_is_ours and "x-request-id" not in fields.doubled:
        theirs = fields.gateway.get("x-request-id", "")
        if is_request_id(theirs):
            return theirs
    return ours
