import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from authz.telemetry.logging import configure_logging
from authz.telemetry.redact import HIDDEN, redact, redact_value

KEY = "sk-az-0123456789abcdefghijABCDEFGHIJ0123456789abcdef"
JWT = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbGljZSJ9.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
SECRETS = [
    KEY,
    JWT,
    "sk-proj-abcDEF123",
    JWT.rsplit(".", 1)[0] + ".",
    "Basic dXNlcjpwYXNzd29yZA==",
    "bearer abcdef123456",
]


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(stream: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize(
    "text",
    ["{}", "before {} after", "x={}", "('authorization', '{}')", "path?access_token={}&a=b", '{{"k":"{}"}}'],
)
def test_no_credential_passes(secret: str, text: str) -> None:
    shown = redact(text.format(secret))
    assert secret.rpartition(" ")[2] not in shown
    assert HIDDEN in shown


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/v1/x?access_token=abc&a=b", f"/v1/x?access_token={HIDDEN}&a=b"),
        ("/x?api_key=abc", f"/x?api_key={HIDDEN}"),
        ("redis://:hunter2@host:6379/0", f"redis://:{HIDDEN}@host:6379/0"),
        ("postgres://me:hunter2@host", f"postgres://me:{HIDDEN}@host"),
        ("password=hunter2", f"password={HIDDEN}"),
    ],
)
def test_credentials_in_addresses(text: str, shown: str) -> None:
    assert redact(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "GET /v1/models 200",
        "user alice",
        "max_tokens=10",
        "tokens=10000/day",
        "https://idp.example.com/x",
        "task-1",
        "a bearer of news",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redact(text) == text


def test_values_of_any_shape_are_searched() -> None:
    value = {
        "Authorization": "anything",
        "headers": [("x-api-key", "anything"), (b"cookie", b"anything"), ("accept", "json")],
        "raw": f"key {KEY}".encode(),
        "deep": {"list": [f"see {JWT}"], "n": 1, "ok": True, "none": None},
        "object": RuntimeError(KEY),
    }
    shown = repr(redact_value(value))
    assert "anything" not in shown
    assert KEY not in shown
    assert JWT not in shown
    assert "json" in shown


def test_what_nests_without_end_is_cut() -> None:
    endless: list[object] = []
    endless.append(endless)
    assert HIDDEN in repr(redact_value(endless))


def test_lines_are_json_and_hold_no_secret() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    log = structlog.get_logger("authz.test")
    log.info("hello", user="zoë", authorization=f"Bearer {KEY}", note=f"with {KEY}")
    try:
        raise ValueError(f"cannot parse {JWT}")
    except ValueError as error:
        log.error("failed", exc_info=error)
    logging.getLogger("some.library").warning("got %s", KEY, extra={"token": "t"})
    first, second, third = lines(stream)
    assert list(first)[:3] == ["timestamp", "level", "event"]
    assert (first["event"], first["user"], first["level"]) == ("hello", "zoë", "info")
    assert "ValueError: cannot parse" in str(second["exception"])
    assert third["token"] == HIDDEN
    for secret in (KEY, JWT):
        assert secret not in stream.getvalue(), "attack 79"


def test_a_traceback_shows_no_local_variable() -> None:
    for format in ("json", "console"):
        stream = io.StringIO()
        configure_logging(format=format, stream=stream)  # type: ignore[arg-type]

        def fail() -> None:
            local = "hunter2-hunter2"
            raise RuntimeError(len(local))

        try:
            fail()
        except RuntimeError as error:
            structlog.get_logger("authz.test").error("failed", exc_info=error)
        text = stream.getvalue()
        assert "RuntimeError: 15" in text
        assert "hunter2-hunter2" not in text.replace('local = "hunter2-hunter2"', "")


def test_one_event_is_one_line() -> None:
    stream = io.StringIO()
    configure_logging(stream=stream)
    structlog.get_logger("authz.test").info("a\nb", path="/x\r\nlevel=error")
    assert len(stream.getvalue().splitlines()) == 1


def test_the_console_is_for_a_person() -> None:
    stream = io.StringIO()
    configure_logging(format="console", stream=stream)
    structlog.get_logger("authz.test").info("hello", user="alice", token="t")
    assert "hello" in stream.getvalue()
    assert "user=alice" in stream.getvalue()
    assert HIDDEN in stream.getvalue()
    assert "\x1b" not in stream.getvalue(), "no colours where nobody sees them"


def test_levels() -> None:
    stream = io.StringIO()
    configure_logging(level="warning", stream=stream)
    structlog.get_logger("authz.test").info("quiet")
    logging.getLogger("uvicorn.error").info("quiet")
    structlog.get_logger("authz.test").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud"]
    with pytest.raises(ValueError, match="not a log level"):
        configure_logging(level="loud")
