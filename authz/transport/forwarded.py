"""The dialects that describe the original request in header fields: Traefik, Caddy, nginx."""

from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request
from authz.transport.dialect import Call, Certificate, only, request_of


def read_forwarded(
    call: Call,
    body: bytes,
    *,
    method_field: str,
    target_field: str,
    state: BodyState,
    certificate: Certificate,
) -> Request | Refusal:
    """The request that the fields describe. Fields of other dialects are a client's (attack 22)."""
    fields = call.fields
    method = only(fields, method_field, Reason.BAD_METHOD)
    if isinstance(method, Refusal):
        return method
    target = only(fields, target_field, Reason.BAD_PATH)
    if isinstance(target, Refusal):
        return target
    host = only(fields, "x-forwarded-host", Reason.BAD_HOST)
    if isinstance(host, Refusal):
        return host
    return request_of(
        call, body, method=method, target=target, host=host, state=state, certificate=certificate
    )
