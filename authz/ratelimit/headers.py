"""Headers that tell a client about the limit that is nearest.

https://github.com/envoyproxy/ratelimit#custom-headers
"""

from collections.abc import Mapping

from msgspec import Struct


class HeaderNames(Struct, frozen=True):
    """What the headers are called."""

    limit: str = "RateLimit-Limit"
    remaining: str = "RateLimit-Remaining"
    reset: str = "RateLimit-Reset"


_TRUE = frozenset({"1", "t", "true"})


def header_names(environ: Mapping[str, str]) -> HeaderNames | None:
    """By the variables of envoyproxy/ratelimit; None: no headers are wanted."""
    if environ.get("LIMIT_RESPONSE_HEADERS_ENABLED", "").lower() not in _TRUE:
        return None
    usual = HeaderNames()
    return HeaderNames(
        environ.get("LIMIT_LIMIT_HEADER", usual.limit),
        environ.get("LIMIT_REMAINING_HEADER", usual.remaining),
        environ.get("LIMIT_RESET_HEADER", usual.reset),
    )
