"""Header names, methods and paths."""

import re
from typing import Annotated, Any

from pydantic import PlainValidator, WithJsonSchema

from authz.canonical import METHOD_OVERRIDES, METHODS
from authz.config.base import Wrong, nearest, shorten, spell
from authz.config.words import text_of

_FIELD_NAME = r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}"  # RFC 9110 5.6.2
_OURS = re.compile(r"x[-_.]?authz([-_.]|\Z)")
_FRAMING = frozenset(
    [
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ]
)
# What gateways and servers obey: a claim's text in one of them would lead a request elsewhere (attack 114).
_OBEYED = frozenset(
    {"authorization", "content-encoding", "content-type", "cookie", "forwarded", *METHOD_OVERRIDES}
)
_OBEYED_KINDS = ("proxy-", "sec-", "x-envoy-", "x-forwarded-", "x-original-", "x-rewrite-")


def _header(value: Any) -> str:
    name = text_of(value, "a header's name")
    if not re.fullmatch(_FIELD_NAME, name):
        raise Wrong(f"{shorten(name)!r} is not the name of a header (RFC 9110 5.6.2)")
    name = name.lower()
    if _OURS.match(name):
        raise Wrong("headers that begin with x-authz- belong to the gateway and to authz alone")
    if name in _FRAMING:
        raise Wrong(f"the header {name} frames the message; it cannot be used here")
    return name


def _upstream_header(value: Any) -> str:
    name = _header(value)
    if name in _OBEYED or name.startswith(_OBEYED_KINDS):
        raise Wrong(f"the header {name} has a meaning of its own upstream; choose another")
    return name


_HEADER_JSON = WithJsonSchema({"type": "string", "pattern": f"^{_FIELD_NAME}$"})
Header = Annotated[str, PlainValidator(_header), _HEADER_JSON]
UpstreamHeader = Annotated[str, PlainValidator(_upstream_header), _HEADER_JSON]

_PATH = re.compile(r"/[A-Za-z0-9._~!$&'()+,=:@{}*/-]*")
_VARIABLE = re.compile(r"\{[a-z_][a-z0-9_]*\}")


def _method(value: Any) -> str:
    method = text_of(value, "a method")
    if method not in METHODS:
        raise Wrong(
            f"{shorten(method)!r} is not one of {spell(METHODS)}", suggestion=nearest(method, METHODS)
        )
    return method


def _path_pattern(value: Any) -> str:
    path = text_of(value, "a path")
    if not path.startswith("/"):
        raise Wrong(f"the path {shorten(path)!r} must begin with a slash", suggestion="/" + shorten(path))
    if not _PATH.fullmatch(path):
        raise Wrong(
            f"the path {shorten(path)!r} holds a character that a canonical path does not have undecoded"
        )
    segments = path.split("/")[1:]
    if any(segment in {".", ".."} for segment in segments) or "" in segments[:-1]:
        raise Wrong(
            f"the path {shorten(path)!r} has empty or dot segments; requests with them are refused anyway"
        )
    variables = []
    for index, segment in enumerate(segments):
        if "*" in segment and (segment != "*" or index != len(segments) - 1):
            raise Wrong(
                f"in the path {shorten(path)!r} a star may only stand alone as the last segment, as in /v1/*"
            )
        if "{" in segment or "}" in segment:
            if not _VARIABLE.fullmatch(segment):
                message = (
                    f"in the path {shorten(path)!r} a variable must be a whole segment, as in /v1/{{id}}/x"
                )
                raise Wrong(message)
            variables.append(segment)
    if len(set(variables)) != len(variables):
        raise Wrong(f"in the path {shorten(path)!r} two variables have the same name")
    return path


def _exact_path(value: Any) -> str:
    path = _path_pattern(value)
    if "*" in path or "{" in path:
        raise Wrong("a limit's `when` compares whole paths; for a pattern, give its route a limit of its own")
    return path


_PATH_JSON = WithJsonSchema({"type": "string", "pattern": "^/"})
Method = Annotated[str, PlainValidator(_method), WithJsonSchema({"enum": list(METHODS)})]
PathPattern = Annotated[str, PlainValidator(_path_pattern), _PATH_JSON]
ExactPath = Annotated[str, PlainValidator(_exact_path), _PATH_JSON]
