"""Why a request was let through or refused: one table, one row per reason.

HTTP status, gRPC status (google.rpc.Code), the OpenAI-style error `type` and
`code`, the sentence for a person, and whether trying again can help.
"""

from enum import StrEnum
from typing import NamedTuple


class Reason(StrEnum):
    """Stable names: they appear in metrics, logs and `authz decisions`."""

    ALLOWED = "allowed"

    BAD_PATH = "bad_path"
    BAD_HOST = "bad_host"
    BAD_METHOD = "bad_method"
    BAD_HEADER = "bad_header"
    BAD_BODY = "bad_body"
    DUPLICATE_FIELD = "duplicate_field"
    BODY_REQUIRED = "body_required"
    BODY_INCOMPLETE = "body_incomplete"
    BODY_TOO_LARGE = "body_too_large"
    UNSUPPORTED_MEDIA_TYPE = "unsupported_media_type"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    MODEL_REQUIRED = "model_required"
    MODEL_CONFLICT = "model_conflict"
    BAD_PARAMETER = "bad_parameter"
    TOO_MANY_OUTPUT_TOKENS = "too_many_output_tokens"
    BAD_PREFERENCE = "bad_preference"
    TARGET_NOT_ALLOWED = "target_not_allowed"

    DUPLICATE_CREDENTIAL = "duplicate_credential"
    CONFLICTING_CREDENTIALS = "conflicting_credentials"
    CREDENTIAL_MISSING = "credential_missing"
    KEY_MALFORMED = "key_malformed"
    KEY_UNKNOWN = "key_unknown"
    KEY_EXPIRED = "key_expired"
    KEY_REVOKED = "key_revoked"
    USER_DISABLED = "user_disabled"
    TOKEN_INVALID = "token_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    TOKEN_WRONG_ISSUER = "token_wrong_issuer"
    TOKEN_WRONG_AUDIENCE = "token_wrong_audience"
    PASSWORD_WRONG = "password_wrong"
    SECRET_WRONG = "secret_wrong"
    CERTIFICATE_INVALID = "certificate_invalid"
    CERTIFICATE_EXPIRED = "certificate_expired"
    NETWORK_REFUSED = "network_refused"

    NO_ROUTE = "no_route"
    NOT_AUTHORIZED = "not_authorized"
    MODEL_UNKNOWN = "model_unknown"
    MODEL_NOT_ALLOWED = "model_not_allowed"
    GATEWAY_UNPROVEN = "gateway_unproven"

    RATE_LIMITED = "rate_limited"
    CONCURRENCY_LIMITED = "concurrency_limited"
    QUOTA_EXHAUSTED = "quota_exhausted"
    TOO_MANY_TRIES = "too_many_tries"

    HASHING_BUSY = "hashing_busy"
    KEYS_UNAVAILABLE = "keys_unavailable"
    STORE_UNAVAILABLE = "store_unavailable"
    INTERNAL_ERROR = "internal_error"


class Answer(NamedTuple):
    """One row: what a gateway and a client are told."""

    http: int
    grpc: int
    code: str
    type: str
    text: str
    retryable: bool = False
    wait_ms: int | None = None  # after which another try may succeed, where that is always the same


_INVALID, _UNAUTHENTICATED, _FORBIDDEN, _EXHAUSTED, _UNAVAILABLE = 3, 16, 7, 8, 14
_REQUEST, _AUTH, _PERMISSION = "invalid_request_error", "authentication_error", "permission_error"
_RATE, _QUOTA, _SERVER = "rate_limit_error", "insufficient_quota", "server_error"


def _bad(code: str, text: str, http: int = 400) -> Answer:
    return Answer(http, _INVALID, code, _REQUEST, text)


def _unauthenticated(code: str, text: str) -> Answer:
    return Answer(401, _UNAUTHENTICATED, code, _AUTH, text)


def _forbidden(code: str, text: str) -> Answer:
    return Answer(403, _FORBIDDEN, code, _PERMISSION, text)


ANSWERS: dict[Reason, Answer] = {
    Reason.ALLOWED: Answer(200, 0, "ok", "", "Allowed."),
    Reason.BAD_PATH: _bad("invalid_path", "The path is not in canonical form. Send it decoded and without dot segments, double slashes or encoded separators."),
    Reason.BAD_HOST: _bad("invalid_host", "The Host header is not a valid host name."),
    Reason.BAD_METHOD: _bad("invalid_method", "The HTTP method is not accepted."),
    Reason.BAD_HEADER: _bad("invalid_header", "A header is malformed."),
    Reason.BAD_BODY: _bad("invalid_json", "The body is not a valid JSON object in UTF-8."),
    Reason.DUPLICATE_FIELD: _bad("duplicate_field", "A field appears twice in the body, or under a name that differs only in case."),
    Reason.BODY_REQUIRED: _bad("body_required", "This endpoint needs a JSON body."),
    Reason.BODY_INCOMPLETE: _bad("request_too_large", "The body is larger than the gateway hands over for inspection.", 413),
    Reason.BODY_TOO_LARGE: _bad("request_too_large", "The body is too large.", 413),
    Reason.UNSUPPORTED_MEDIA_TYPE: _bad("unsupported_media_type", "Send the body as application/json.", 415),
    Reason.UNSUPPORTED_ENCODING: _bad("unsupported_encoding", "Send the body without Content-Encoding.", 415),
    Reason.MODEL_REQUIRED: _bad("model_required", "Name a model in the `model` field."),
    Reason.MODEL_CONFLICT: _bad("model_conflict", "The model in the path or a header differs from the one in the body."),
    Reason.BAD_PARAMETER: _bad("invalid_value", "A parameter has an invalid value."),
    Reason.TOO_MANY_OUTPUT_TOKENS: _bad("max_tokens_too_large", "More output tokens are asked for than the model may produce."),
    Reason.BAD_PREFERENCE: _bad("invalid_preference", "A preference of the request is not valid here."),
    Reason.TARGET_NOT_ALLOWED: _bad("target_not_allowed", "The target is not one that this route offers."),
    Reason.DUPLICATE_CREDENTIAL: _bad("duplicate_credential", "A credential header, parameter or cookie was sent twice. Send it once."),
    Reason.CONFLICTING_CREDENTIALS: _bad("conflicting_credentials", "Two valid credentials name different subjects. Send one."),
    Reason.CREDENTIAL_MISSING: _unauthenticated("missing_credentials", "No API key or token was sent. Send `Authorization: Bearer <key>`."),
    Reason.KEY_MALFORMED: _unauthenticated("invalid_api_key", "The API key is malformed. Check that it was copied whole."),
    Reason.KEY_UNKNOWN: _unauthenticated("invalid_api_key", "The API key is not known."),
    Reason.KEY_EXPIRED: _unauthenticated("expired_api_key", "The API key has expired. Ask for a new one."),
    Reason.KEY_REVOKED: _unauthenticated("revoked_api_key", "The API key was revoked. Ask for a new one."),
    Reason.USER_DISABLED: _unauthenticated("user_disabled", "The user of this credential is disabled."),
    Reason.TOKEN_INVALID: _unauthenticated("invalid_token", "The token is not valid here."),
    Reason.TOKEN_EXPIRED: _unauthenticated("expired_token", "The token has expired. Sign in again."),
    Reason.TOKEN_NOT_YET_VALID: _unauthenticated("invalid_token", "The token is not valid yet. Check the clocks."),
    Reason.TOKEN_WRONG_ISSUER: _unauthenticated("invalid_token", "The token comes from an issuer that is not accepted here."),
    Reason.TOKEN_WRONG_AUDIENCE: _unauthenticated("invalid_token", "The token is meant for another audience."),
    Reason.PASSWORD_WRONG: _unauthenticated("invalid_credentials", "The user or the password is wrong."),
    Reason.SECRET_WRONG: _unauthenticated("invalid_credentials", "The secret is wrong."),
    Reason.CERTIFICATE_INVALID: _unauthenticated("invalid_certificate", "The client certificate is not accepted here."),
    Reason.CERTIFICATE_EXPIRED: _unauthenticated("expired_certificate", "The client certificate has expired. Ask for a new one."),
    Reason.NETWORK_REFUSED: _forbidden("network_not_allowed", "Requests from this network are not accepted."),
    Reason.NO_ROUTE: _forbidden("route_not_allowed", "This method and path are not served here."),
    Reason.NOT_AUTHORIZED: _forbidden("not_authorized", "The caller does not meet this route's conditions."),
    Reason.MODEL_UNKNOWN: _forbidden("model_not_allowed", "The model does not exist or is not open to this caller."),
    Reason.MODEL_NOT_ALLOWED: _forbidden("model_not_allowed", "The model does not exist or is not open to this caller."),
    Reason.GATEWAY_UNPROVEN: _forbidden("gateway_unproven", "The gateway did not prove itself with its token or certificate."),
    Reason.RATE_LIMITED: Answer(429, _EXHAUSTED, "rate_limit_exceeded", _RATE, "Too many requests.", retryable=True),
    Reason.CONCURRENCY_LIMITED: Answer(429, _EXHAUSTED, "rate_limit_exceeded", _RATE, "Too many requests at once.", retryable=True),
    Reason.QUOTA_EXHAUSTED: Answer(429, _EXHAUSTED, "insufficient_quota", _QUOTA, "The quota is used up."),
    Reason.TOO_MANY_TRIES: Answer(429, _EXHAUSTED, "rate_limit_exceeded", _RATE, "Too many wrong secrets came from this address. Wait before the next try.", retryable=True, wait_ms=6_000),
    Reason.HASHING_BUSY: Answer(503, _UNAVAILABLE, "authentication_busy", _SERVER, "Too many passwords are waiting to be checked. Try again in a moment.", retryable=True, wait_ms=1_000),
    Reason.KEYS_UNAVAILABLE: Answer(503, _UNAVAILABLE, "keys_unavailable", _SERVER, "The signing keys of the identity provider cannot be fetched.", retryable=True),
    Reason.STORE_UNAVAILABLE: Answer(503, _UNAVAILABLE, "authz_unavailable", _SERVER, "The authorization store does not answer.", retryable=True),
    Reason.INTERNAL_ERROR: Answer(503, _UNAVAILABLE, "authz_unavailable", _SERVER, "Authorization failed internally.", retryable=True),
}  # fmt: skip
