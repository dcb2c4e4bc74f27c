import json

import pytest

from authz.denial import LONGEST_MESSAGE, deny
from authz.reason import ANSWERS, Reason

DENIALS = [reason for reason in Reason if reason is not Reason.ALLOWED]


@pytest.mark.parametrize("reason", DENIALS)
def test_every_reason_has_a_body_in_openais_shape(reason: Reason) -> None:
    denied = deny("req_1", reason)
    answer = ANSWERS[reason]
    assert denied.status == answer.http
    assert json.loads(denied.body) == {
        "error": {"message": answer.text, "type": answer.type, "code": answer.code, "param": None}
    }
    headers = dict(denied.headers)
    assert headers["content-type"] == "application/json"
    assert headers["x-request-id"] == "req_1"
    assert ("www-authenticate" in headers) is (answer.http == 401)
    assert ("x-should-retry" in headers) is not answer.retryable


@pytest.mark.parametrize(
    ("wait_ms", "seconds", "milliseconds"),
    [(0, "0", "0"), (1, "1", "1"), (1000, "1", "1000"), (1001, "2", "1001")],
)
def test_waiting_is_told_in_both_units(wait_ms: int, seconds: str, milliseconds: str) -> None:
    headers = dict(deny("req_1", Reason.RATE_LIMITED, wait_ms=wait_ms).headers)
    assert headers["retry-after"] == seconds
    assert headers["retry-after-ms"] == milliseconds
    assert "x-should-retry" not in headers


@pytest.mark.parametrize("wait_ms", [None, -1])
def test_where_nobody_can_say_there_is_no_retry_after(wait_ms: int | None) -> None:
    headers = dict(deny("req_1", Reason.QUOTA_EXHAUSTED, wait_ms=wait_ms).headers)
    assert "retry-after" not in headers
    assert "retry-after-ms" not in headers
    assert headers["x-should-retry"] == "false"


def test_a_challenge_of_the_route_goes_first() -> None:
    headers = dict(deny("req_1", Reason.KEY_UNKNOWN, challenge='Basic realm="x"').headers)
    assert headers["www-authenticate"] == 'Basic realm="x"'
    assert dict(deny("r", Reason.KEY_UNKNOWN).headers)["www-authenticate"] == 'Bearer realm="authz"'


@pytest.mark.parametrize("message", ["käse", "a\r\nb", 'quote " and \\', "\ud800", "名前", "x" * 5000])
def test_the_body_fits_a_header_value(message: str) -> None:
    denied = deny("req_1", Reason.MODEL_UNKNOWN, message=message, param="model")
    text = denied.body.decode("ascii")
    assert text.isprintable()
    assert json.loads(text)["error"]["message"] == message[:LONGEST_MESSAGE]
    assert json.loads(text)["error"]["param"] == "model"
