"""Check read and written by hand: the same as protobuf reads and writes it, whatever the bytes are."""

import pytest
from envoy.config.core.v3.base_pb2 import HeaderValue
from envoy.service.auth.v3.external_auth_pb2 import CheckRequest, CheckResponse
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from authz.request import Gateway, GatewayKind
from authz.transport.check.entries import fields_of, split
from authz.transport.check.reading import Read, read_check
from authz.transport.check.writing import allowed
from tests.transport.support import allow

EDGE = Gateway(name="edge", kind=GatewayKind.ENVOY, proven=True)
TEXT = st.one_of(st.text(max_size=20), st.text("aä", min_size=100, max_size=400))
OCTETS = st.one_of(st.binary(max_size=20), st.binary(min_size=100, max_size=400))


def by_protobuf(entry: bytes) -> tuple[str, bytes] | None:
    try:
        read = HeaderValue.FromString(entry)
    except DecodeError:
        return None
    return read.key, read.raw_value or read.value.encode()


def by_us(entry: bytes) -> tuple[str, bytes] | None:
    try:
        return split(entry)
    except DecodeError:
        return None


@given(TEXT, TEXT, OCTETS)
def test_an_entry_is_what_protobuf_reads(key: str, value: str, raw_value: bytes) -> None:
    for entry in (
        HeaderValue(key=key, raw_value=raw_value),
        HeaderValue(key=key, value=value),
        HeaderValue(key=key, value=value, raw_value=raw_value),
    ):
        written = entry.SerializeToString()
        assert by_us(written) == by_protobuf(written)
        turned = (
            HeaderValue(raw_value=raw_value).SerializeToString() + HeaderValue(key=key).SerializeToString()
        )
        assert by_us(turned) == by_protobuf(turned)


@given(st.binary(max_size=40), TEXT, OCTETS, st.integers(0, 500), st.integers(0, 255))
def test_a_damaged_entry_is_what_protobuf_reads(
    noise: bytes, key: str, raw_value: bytes, place: int, octet: int
) -> None:
    written = bytearray(HeaderValue(key=key, raw_value=raw_value).SerializeToString())
    if written:
        written[place % len(written)] = octet
    for entry in (bytes(written), bytes(written[:place]), bytes(written) + noise, noise):
        assert by_us(entry) == by_protobuf(entry)


@pytest.mark.parametrize("repeat", [1, 2])
def test_a_remembered_field_is_read_as_the_first_time(repeat: int) -> None:
    entries = [
        HeaderValue(key=key, raw_value=value).SerializeToString()
        for key, value in (
            ("accept", b"text/plain"), ("Accept", b"a"), (":path", b"/"), ("x-authz-user", b"eve"),
            ("x_authz_key", b"\x01"), ("cookie", b"a=\xff"), ("x-broken", b"a\nb"), ("x-forwarded-proto", b"https"),
        )
    ]  # fmt: skip
    fields = fields_of(entries * repeat)
    assert fields.client["accept"] == ", ".join(["text/plain, a"] * repeat)
    assert fields.client["cookie"] == ", ".join(["a=\xff"] * repeat)
    assert fields.gateway == {
        ":path": ", ".join(["/"] * repeat),
        "x-forwarded-proto": ", ".join(["https"] * repeat),
    }
    assert fields.spoofed == ["x-authz-user", "x_authz_key"] * repeat
    assert fields.malformed == "x-broken"
    assert ("accept" in fields.repeated, "cookie" in fields.repeated) == (True, repeat == 2)
    assert (":path" in fields.doubled) == (repeat == 2)


NAMES = st.text("abc-", min_size=1, max_size=12).map(lambda name: f"x-{name}")
VALUES = st.one_of(st.text("abc ,;=", max_size=30), st.text("ä€", max_size=90), st.just("v" * 2000))
PAIRS = st.lists(st.tuples(NAMES, VALUES), max_size=6).map(tuple)


@given(steady=PAIRS, upstream=PAIRS, client=PAIRS, gone=st.lists(NAMES, max_size=4), again=st.booleans())
def test_an_answer_is_what_protobuf_reads(
    steady: tuple[tuple[str, str], ...],
    upstream: tuple[tuple[str, str], ...],
    client: tuple[tuple[str, str], ...],
    gone: list[str],
    again: bool,
) -> None:
    named = {name for name, _ in (*steady, *upstream)}
    removed = tuple(name for name in gone if name not in named)
    decision = allow(steady=steady, upstream=steady + upstream, client=client, remove=removed)
    request = CheckRequest()
    request.attributes.request.http.method, request.attributes.request.http.path = "GET", "/"
    read = read_check(request.SerializeToString(), EDGE, "req_1", 1 << 20)
    assert isinstance(read, Read)
    written = allowed(read, decision)
    if again:
        assert allowed(read, decision) == written
    answer = CheckResponse.FromString(written)
    ok = answer.ok_response
    assert [(option.header.key, option.header.value) for option in ok.headers] == [*steady, *upstream]
    assert [(option.header.key, option.header.value) for option in ok.response_headers_to_add] == [*client]
    assert {option.append_action for option in (*ok.headers, *ok.response_headers_to_add)} <= {2}
    assert list(ok.headers_to_remove) == [*removed]
    assert answer.status.code == 0
    told = {name: value.string_value for name, value in answer.dynamic_metadata.fields.items()}
    assert told == {
        "request_id": "req_1", "reason": "allowed", "route": "inference", "model": "llama3", "user": "alice",
        "team": "nlp", "key": "key_1", "reservation": "rsv_1",
    }  # fmt: skip
