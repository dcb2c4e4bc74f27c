"""Takes secrets out of whatever is about to be logged (invariant 11).

A second line: no code here logs a credential. But messages of libraries,
exceptions among them, repeat what they choke on.
"""

import re
from typing import Any

HIDDEN = "[redacted]"

_SECRET_NAMES = frozenset(
    {
        "authorization",
        "proxy-authorization",
        "x-api-key",
        "api-key",
        "api_key",
        "apikey",
        "cookie",
        "set-cookie",
    }
    | {
        "x-authz-gateway-token",
        "x-api-token",
        "x-amz-security-token",
        "access_token",
        "refresh_token",
        "id_token",
    }
    | {"token", "password", "passwd", "secret", "client_secret", "sign_key", "bearer", "private_key"}
)
_PATTERNS = (
    # Keys: `sk-` and what follows, ours and other people's.
    (re.compile(r"\bsk-[A-Za-z0-9_-]{4,}"), "sk-" + HIDDEN),
    # JSON web tokens, signed or encrypted: a base64url `{"` and at least one more part.
    (re.compile(r"\beyJ[A-Za-z0-9_=-]{4,}(?:\.[A-Za-z0-9_=-]*){1,4}"), HIDDEN),
    (re.compile(r"(?i)\b(bearer|basic|negotiate)\s+[A-Za-z0-9._~+/=-]{6,}"), r"\1 " + HIDDEN),
    (re.compile(r"(?i)([?&;\s]|^)((?:access|refresh|id|auth|api)[_-]?(?:token|key)|token|password)=[^\s&;#\"']+"),
     r"\1\2=" + HIDDEN),
    # `scheme://user:password@host`
    (re.compile(r"(://[^/\s:@]*):[^/\s@]+@"), r"\1:" + HIDDEN + "@"),
)  # fmt: skip
_HINT = re.compile(r"sk-|eyJ|[Bb]earer|[Bb]asic|[Nn]egotiate|BEARER|BASIC|=|://")
_DEEPEST = 6


def redact(text: str) -> str:
    """The text without anything that looks like a credential."""
    if _HINT.search(text) is None:
        return text
    for pattern, replacement in _PATTERNS:
        text = pattern.sub(replacement, text)
    return text


def redact_value(value: Any, depth: int = 0) -> Any:
    """The same for whatever a log event may hold; an object of another kind goes by its repr."""
    if isinstance(value, str):
        return redact(value)
    if value is None or isinstance(value, bool | int | float):
        return value
    if depth >= _DEEPEST:
        return HIDDEN
    if isinstance(value, bytes | bytearray | memoryview):
        return redact(bytes(value).decode("latin-1"))
    if isinstance(value, dict):
        return {
            redact(str(name)): HIDDEN if is_secret_name(str(name)) else redact_value(item, depth + 1)
            for name, item in value.items()
        }
    if isinstance(value, tuple | list) and len(value) == 2 and is_secret_name(_text(value[0])):
        return (_text(value[0]), HIDDEN)  # a header as a pair
    if isinstance(value, tuple | list | set | frozenset):
        return [redact_value(item, depth + 1) for item in value]
    return redact(repr(value))


def is_secret_name(name: str) -> bool:
    """Whether a field or header of that name holds a credential."""
    return name.lower() in _SECRET_NAMES


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value if isinstance(value, str) else ""
