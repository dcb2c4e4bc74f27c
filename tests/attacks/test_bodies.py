"""Attacks 84-99, 104, 106 and 107: what each is answered, and what it is charged. 95 and 100-105 stand in tests/settle."""

import json
from typing import Any

import pytest

from authz.decision import Allow, Deny
from authz.reason import Reason
from authz.request import BodyState
from authz.usage import Usage
from tests.settle.scene import OURS, Scene, charge

NOTHING = charge(Usage(), requests=0)
_BOUNDARY = "multipart/form-data; boundary=x"
_FORM = b'--x\r\nContent-Disposition: form-data; name="model"\r\n\r\nllama3\r\n'


def body(**members: Any) -> bytes:
    return json.dumps({"model": "llama3", "messages": [], "max_tokens": 16} | members).encode()


def raw(members: bytes) -> bytes:
    return b'{"model": "llama3", "messages": [], ' + members + b"}"


@pytest.fixture
def scene() -> Scene:
    return Scene()


REFUSED = [
    ("84-model-twice", {"body": b'{"model": "llama3", "model": "big"}'}, Reason.DUPLICATE_FIELD),
    ("84-max-tokens-twice", {"body": raw(b'"max_tokens": 1, "max_tokens": 2048')}, Reason.DUPLICATE_FIELD),
    ("85-escaped-twin", {"body": b'{"model": "llama3", "\\u006dodel": "big"}'}, Reason.DUPLICATE_FIELD),
    ("85-case-twin", {"body": b'{"model": "llama3", "Model": "big"}'}, Reason.DUPLICATE_FIELD),
    ("86-utf-16", {"body": body().decode().encode("utf-16")}, Reason.BAD_BODY),
    ("86-bom", {"body": b"\xef\xbb\xbf" + body()}, Reason.BAD_BODY),
    ("87-nan", {"body": raw(b'"temperature": NaN')}, Reason.BAD_BODY),
    ("87-infinity", {"body": raw(b'"max_tokens": 1E400')}, Reason.BAD_PARAMETER),
    ("88-5000-digits", {"body": raw(b'"seed": ' + b"9" * 5000)}, Reason.BAD_PARAMETER),
    ("89-negative", {"body": body(max_tokens=-1)}, Reason.BAD_PARAMETER),
    ("89-float", {"body": raw(b'"max_tokens": 1.0')}, Reason.BAD_PARAMETER),
    ("89-text", {"body": body(max_tokens="10")}, Reason.BAD_PARAMETER),
    ("89-true", {"body": body(max_tokens=True)}, Reason.BAD_PARAMETER),
    ("89-2-63", {"body": body(max_tokens=2**63)}, Reason.BAD_PARAMETER),
    ("91-too-many-answers", {"body": body(n=129)}, Reason.BAD_PARAMETER),
    (
        "92-many-members",
        {"body": json.dumps({f"k{i}": 1 for i in range(150_000)}).encode()},
        Reason.BODY_TOO_LARGE,
    ),
    ("93-gzip", {"headers": {"content-encoding": "gzip"}}, Reason.UNSUPPORTED_ENCODING),
    ("93-zstd", {"headers": {"content-encoding": "zstd"}}, Reason.UNSUPPORTED_ENCODING),
    ("94-partial", {"body_state": BodyState.PARTIAL}, Reason.BODY_INCOMPLETE),
    ("96-trailing-bytes", {"body": body() + b'{"model": "big"}'}, Reason.BAD_BODY),
    (
        "97-multipart",
        {"body": _FORM + _FORM, "headers": {"content-type": _BOUNDARY}},
        Reason.UNSUPPORTED_MEDIA_TYPE,
    ),
    ("98-text-plain", {"headers": {"content-type": "text/plain"}}, Reason.UNSUPPORTED_MEDIA_TYPE),
    ("98-no-type", {"headers": {"content-type": ""}}, Reason.UNSUPPORTED_MEDIA_TYPE),
    ("99-no-body", {"body": b""}, Reason.BODY_REQUIRED),
    ("99-withheld", {"body_state": BodyState.WITHHELD}, Reason.BODY_REQUIRED),
]


@pytest.mark.parametrize(("how", "reason"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_refused_and_charged_nothing(scene: Scene, how: dict[str, Any], reason: Reason) -> None:
    denied = scene.lab.decide(scene.request(**how))
    assert isinstance(denied, Deny)
    assert denied.reason is reason
    assert 400 <= denied.status < 500
    assert scene.charged() == NOTHING
    assert scene.entries() == []


@pytest.mark.parametrize(
    ("members", "output"),
    [
        pytest.param({"max_tokens": 10, "max_completion_tokens": 50}, 50, id="90-the-larger-counts"),
        pytest.param({"max_tokens": 50, "max_completion_tokens": 10}, 50, id="90-in-any-order"),
        pytest.param({"n": 4}, 64, id="91-n"),
        pytest.param({"max_tokens": None}, 2048, id="91-nothing-asked-is-the-most-of-the-model"),
    ],
)
def test_held_as_the_most_that_it_can_use(scene: Scene, members: dict[str, Any], output: int) -> None:
    scene.ask(body=body(**members))
    assert scene.charged()["output"] == output


@pytest.mark.parametrize(
    ("members", "output"),
    [
        pytest.param({"prompt": ["a", "b", "c"]}, 48, id="91-prompts"),
        pytest.param({"prompt": ["a", "b"], "n": 2, "best_of": 3}, 96, id="91-best-of-times-prompts"),
    ],
)
def test_91_every_prompt_is_answered(scene: Scene, members: dict[str, Any], output: int) -> None:
    asked = json.dumps({"model": "llama3", "max_tokens": 16} | members).encode()
    scene.ask(target="/v1/completions", body=asked)
    assert scene.charged()["output"] == output


def test_95_a_repeated_check_is_charged_once(scene: Scene) -> None:
    for _ in range(3):
        scene.ask(gateway=OURS, request_id="the-same")
    assert scene.charged()["requests"] == 1
    assert scene.charged()["output"] == 16


def test_104_what_is_admitted_at_once_fits_together(scene: Scene) -> None:
    admitted = [scene.lab.decide(scene.request(body=body(max_tokens=2048))) for _ in range(60)]
    allowed = [each for each in admitted if isinstance(each, Allow)]
    hold = scene.charged()["tokens"] // len(allowed)
    assert 100_000 - hold < scene.charged()["tokens"] <= 100_000
    refused = [each.reason for each in admitted if isinstance(each, Deny)]
    assert set(refused) == {Reason.RATE_LIMITED}  # only running requests are in the way


def test_106_an_id_that_a_client_managed_to_fix_joins_no_two_requests(scene: Scene) -> None:
    for tokens in (10, 20, 30):
        scene.ask(gateway=OURS, request_id="fixed", body=body(max_tokens=tokens))
    assert scene.charged()["requests"] == 3
    assert scene.charged()["output"] == 60


@pytest.mark.parametrize("hours", [1, -1])
def test_107_a_clock_that_steps_opens_no_window(scene: Scene, hours: int) -> None:
    scene.ask()
    before = scene.charged()
    scene.lab.clock.advance(hours * 3600)
    assert scene.charged()["output"] == before["output"]
    for _ in range(3):
        scene.ask()
    assert scene.charged()["output"] == before["output"] + 48
