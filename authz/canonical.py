"""One canonical reading of a request's method, host and target.

We reject, never repair: where two parsers could read a path differently, no
backend receives it. So what is judged here is, byte for byte, what was sent.
"""

import re
from functools import lru_cache

from msgspec import Struct

from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import Request

LONGEST_TARGET = 8192
LONGEST_HOST = 255
LONGEST_KNOWN = 512  # characters of method, target and host, together, that are remembered
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")

# Backends exist that obey these, so the method judged here would not be the method executed.
METHOD_OVERRIDES = ("x-http-method-override", "x-http-method", "x-method-override")
_OVERRIDES = frozenset(METHOD_OVERRIDES)

# RFC 3986 pchar without ";" (path parameters) and without any escape.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9._~!$&'()*+,=:@-]+)*/?", re.ASCII)
_ESCAPE = re.compile(r"%(?:([0-9A-F]{2})|)")
_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?\[\]|^`{}\"<>\\-]|%[0-9A-Fa-f]{2})*", re.ASCII)
_HOST = re.compile(r"((?:[A-Za-z0-9_-]+\.)*[A-Za-z0-9_-]+|\[[0-9A-Fa-f:.]+\])(\.?)(?::(\d{1,5}))?", re.ASCII)
# What _PLAIN takes as it is: servers decode a path before they choose a handler, so that has one spelling.
_NEEDS_NO_ESCAPE = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~!$&'()*+,=:@"
)
_METHODS = frozenset(METHODS)
_SEPARATORS = frozenset(b"/\\;%?#")


class Target(Struct, frozen=True, gc=False):
    """What is asked for, in canonical form."""

    method: str
    host: str  # lower case, without trailing dot and default port
    path: str
    query: str


def read(request: Request) -> Target | Refusal:
    """The request's canonical target, or why it has none (attacks 1-19)."""
    method, target, host = request.method, request.target, request.host
    # A query may hold a credential, and is seldom the same: only what has none is remembered.
    common = "?" not in target and len(method) + len(target) + len(host) <= LONGEST_KNOWN
    read = (_known_target if common else _target)(method, target, host)
    if _OVERRIDES.isdisjoint(request.headers) or isinstance(read, Refusal):
        return read
    name = next(name for name in METHOD_OVERRIDES if name in request.headers)
    return Refusal(Reason.BAD_HEADER, f"The header {name} is not accepted. Send the method itself.", name)


def _target(method: str, target: str, host: str) -> Target | Refusal:
    if method not in _METHODS:
        return Refusal(
            Reason.BAD_METHOD,
            "The HTTP method is not accepted. Use one of " + ", ".join(sorted(METHODS)) + ".",
        )
    path, mark, query = target.partition("?")
    fault = path_fault(path) if len(target) <= LONGEST_TARGET else "is longer than 8192 bytes"
    if fault:
        return Refusal(Reason.BAD_PATH, f"The path {fault}. Send it in canonical form.")
    if mark and _QUERY.fullmatch(query) is None:
        return Refusal(Reason.BAD_PATH, "The query holds a character that must be percent-encoded.")
    name = canonical_host(host)
    return Target(method, name, path, query) if name is not None else Refusal(Reason.BAD_HOST)


_known_target = lru_cache(maxsize=4096)(_target)


@lru_cache(maxsize=4096)
def path_fault(path: str) -> str | None:
    """What is wrong with a raw path; None when its raw and canonical forms are the same."""
    if not path.startswith("/"):
        return "does not begin with a slash"
    if "//" in path:
        return "holds an empty segment"
    segments = path.split("/")
    if "." in segments or ".." in segments:
        return "holds a dot segment"
    if _PLAIN.fullmatch(path):
        return None
    return _odd_path_fault(path)


def _odd_path_fault(path: str) -> str | None:
    if "#" in path:
        return "holds a fragment"
    if "\\" in path or ";" in path:
        return "holds a backslash or a semicolon"
    decoded = bytearray()
    position = 0
    while position < len(path):
        character = path[position]
        if character != "%":
            if not _PLAIN.fullmatch("/" + character) and character != "/":
                return "holds a character that must be percent-encoded"
            decoded += character.encode()
            position += 1
            continue
        escape = _ESCAPE.match(path, position)
        if escape is None or escape[1] is None:
            return "holds a percent sign that is not followed by two upper-case hexadecimal digits"
        byte = int(escape[1], 16)
        if byte in _SEPARATORS:
            return "holds an encoded separator"
        if byte < 0x20 or byte == 0x7F:
            return "holds an encoded control character"
        if byte in _NEEDS_NO_ESCAPE:
            return "encodes a character that needs no encoding"
        decoded.append(byte)
        position += 3
    try:
        decoded.decode("utf-8")
    except UnicodeDecodeError:
        return "is not UTF-8 once decoded"
    return None


def canonical_host(host: str) -> str | None:
    """Lower case, no trailing dot, no default port; None when it is not a host (RFC 9110 7.2)."""
    return _known_host(host) if len(host) <= LONGEST_HOST else None


@lru_cache(maxsize=1024)
def _known_host(host: str) -> str | None:
    match = _HOST.fullmatch(host)
    if match is None:
        return None
    name, _, port = match.groups()
    if port is not None and not 0 < int(port) < 65536:
        return None
    return name.lower() if port in (None, "80", "443") else f"{name.lower()}:{int(port)}"
