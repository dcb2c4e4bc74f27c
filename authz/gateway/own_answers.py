"""What a gateway answers by itself, in the shape of authz's refusals."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnAnswer:
    """One of them. `body` is JSON without a single quote, so that any configuration can hold it."""

    name: str
    status: int
    body: str


def _answer(name: str, status: int, message: str, kind: str, code: str | None = None) -> OwnAnswer:
    body = f'{{"error":{{"message":"{message}","type":"{kind}","code":"{code or name}","param":null}}}}'
    return OwnAnswer(name, status, body)


INVALID_REQUEST = _answer(
    "invalid_request",
    400,
    "The request is not valid HTTP: its path, a header or its framing is malformed, or a header came twice.",
    "invalid_request_error",
)
INVALID_METHOD = _answer("invalid_method", 400, "The HTTP method is not accepted.", "invalid_request_error")
INVALID_PATH = _answer(
    "invalid_path",
    400,
    "The path is too long or not in canonical form. Send it decoded and without dot segments.",
    "invalid_request_error",
)
NO_ROUTE = _answer(
    "no_route", 403, "This method and path are not served here.", "permission_error", "route_not_allowed"
)
TOO_LARGE = _answer("request_too_large", 413, "The body is too large.", "invalid_request_error")
UPSTREAM_UNAVAILABLE = _answer(
    "upstream_unavailable", 502, "The model server is unavailable. Try again shortly.", "server_error"
)
UPSTREAM_AUTH_FAILED = _answer(
    "upstream_auth_failed",
    502,
    "The model server refused the gateway: its own credential there is wrong. Tell the operator.",
    "server_error",
)
UPSTREAM_TIMEOUT = _answer(
    "upstream_timeout",
    504,
    "The model server did not answer within the time that the request allows.",
    "server_error",
)
UNAVAILABLE = _answer(
    "unavailable",
    503,
    "The authorization service is unavailable. Try again shortly.",
    "server_error",
    "authz_unavailable",
)

ALL = (
    INVALID_REQUEST,
    INVALID_METHOD,
    INVALID_PATH,
    NO_ROUTE,
    TOO_LARGE,
    UPSTREAM_UNAVAILABLE,
    UPSTREAM_AUTH_FAILED,
    UPSTREAM_TIMEOUT,
    UNAVAILABLE,
)
