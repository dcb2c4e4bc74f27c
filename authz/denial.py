"""A refusal in the words of the client: the one place that spells error bodies and their headers.

The body is OpenAI's error object in pure ASCII, so that it also fits a header
value where a gateway can carry it in no other way.
"""

from collections.abc import Sequence
from functools import lru_cache
from json.encoder import encode_basestring_ascii as quoted

from authz.decision import Deny, Header, LimitState
from authz.reason import ANSWERS, Reason
from authz.subject import Subject

LONGEST_MESSAGE = 1000  # characters; the body must fit a gateway's header buffer
DEFAULT_CHALLENGE = 'Bearer realm="authz"'


def deny(
    request_id: str,
    reason: Reason,
    *,
    message: str | None = None,
    param: str | None = None,
    route: str | None = None,
    subject: Subject | None = None,
    model: str | None = None,
    limits: Sequence[LimitState] = (),
    wait_ms: int | None = None,
    challenge: str | None = None,
    headers: tuple[Header, ...] = (),
    status: int | None = None,
    client_request_id: str = "",
    detail: str = "",
) -> Deny:
    """The denial for a reason.

    `message` replaces the reason's own text and must hold no credential;
    `param` names the field at fault. `wait_ms` is after how long another try may
    succeed (None: what the reason says; negative: never). `challenge` is the
    WWW-Authenticate of a 401 (RFC 9110 11.6.1). `headers` are sent besides. `status` replaces
    the reason's own. `detail` is kept for the operator, and sent to nobody.
    """
    answer = ANSWERS[reason]
    text = answer.text if message is None else message[:LONGEST_MESSAGE]
    sent = [("content-type", "application/json"), ("x-request-id", request_id)]
    if answer.http == 401:
        sent.append(("www-authenticate", challenge or DEFAULT_CHALLENGE))
    if wait_ms is None:
        wait_ms = answer.wait_ms
    if wait_ms is not None and wait_ms >= 0:
        sent.append(("retry-after", str(-(-wait_ms // 1000))))
        sent.append(("retry-after-ms", str(wait_ms)))
    if not answer.retryable:
        sent.append(("x-should-retry", "false"))
    return Deny(
        request_id=request_id,
        reason=reason,
        route=route,
        status=answer.http if status is None else status,
        headers=(*sent, *headers),
        body=_standing(reason) if message is None and param is None else error_body(reason, text, param),
        message=text,
        subject=subject,
        model=model,
        limits=limits,
        client_request_id=client_request_id,
        detail=detail,
    )


def error_body(reason: Reason, message: str, param: str | None) -> bytes:
    """`{"error": {"message", "type", "code", "param"}}` as the OpenAI API has it."""
    about = quoted(param) if param is not None else "null"
    return f'{{"error":{{"message":{quoted(message)},{_kind(reason)},"param":{about}}}}}'.encode("ascii")


@lru_cache(maxsize=len(Reason))
def _kind(reason: Reason) -> str:
    answer = ANSWERS[reason]
    return f'"type":{quoted(answer.type)},"code":{quoted(answer.code)}'


@lru_cache(maxsize=len(Reason))
def _standing(reason: Reason) -> bytes:
    """The body of a denial that says no more than its reason."""
    return error_body(reason, ANSWERS[reason].text, None)
