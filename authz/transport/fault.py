"""What a connection answers by itself, where no request could be handed on."""

from authz.denial import error_body
from authz.reason import ANSWERS, Reason
from authz.transport.reply import json_reply

_NO_USE = "x-should-retry: false"

MALFORMED = json_reply(400, error_body(Reason.BAD_HEADER, "The HTTP request is malformed.", None), _NO_USE)
HEAD_TOO_LARGE = json_reply(
    431, error_body(Reason.BAD_HEADER, "The request headers are too large.", None), _NO_USE
)

FAILED = json_reply(503, error_body(Reason.INTERNAL_ERROR, ANSWERS[Reason.INTERNAL_ERROR].text, None))
