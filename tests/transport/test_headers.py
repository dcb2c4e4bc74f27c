import pytest

from authz.transport import headers
from authz.transport.headers import encode, read_fields
from authz.transport.request_id import RequestIds, is_request_id


@pytest.mark.parametrize(
    "name",
    [
        "x-authz-user",
        "X-Authz-User",
        "x_authz_user",
        "x.authz.user",
        "x-authz_user",
        "X.AUTHZ-anything",
        "x-authz",
    ],
    ids=lambda name: f"attack-27-29-{name}",
)
def test_identity_headers_of_a_client_are_kept_apart(name: str) -> None:
    fields = read_fields([(name.encode(), b"admin")])
    assert (fields.client, fields.gateway, fields.spoofed) == ({}, {}, [name.lower()])


@pytest.mark.parametrize("name", ["x-authzed", "xx-authz-user", "x-auth-user", "x--authz"])
def test_names_that_only_look_alike_are_the_clients(name: str) -> None:
    assert read_fields([(name.encode(), b"1")]).client == {name: "1"}


@pytest.mark.parametrize(
    "name",
    [
        "x-forwarded-for",
        "x-forwarded-uri",
        "x-original-uri",
        "x-envoy-original-path",
        "forwarded",
        "via",
        "x-real-ip",
        "connection",
        "te",
        "upgrade",
        "transfer-encoding",
        "content-length",
        "host",
        "x-request-id",
        ":path",
        "x-client-cert",
        "x-client-verify",
        "x-forwarded-client-cert",
        "keep-alive",
        "expect",
        "trailer",
    ],
)
def test_plumbing_never_reaches_the_core(name: str) -> None:
    fields = read_fields([(name, b"1")])
    assert (fields.client, fields.gateway) == ({}, {name: "1"})


def test_repeated_fields_are_joined_and_marked() -> None:
    fields = read_fields([(b"X-Api-Key", b"a"), (b"accept", b"x"), (b"x-api-key", b"b")])
    assert fields.client == {"x-api-key": "a, b", "accept": "x"}
    assert fields.repeated == {"x-api-key"}, "attack 37"


def test_any_byte_survives() -> None:
    every = bytes([9, *range(0x20, 0x7F), *range(0x80, 0x100)])
    fields = read_fields([(b"authorization", every)])
    assert fields.client["authorization"].encode("latin-1") == every, "attack 38"
    assert fields.malformed is None


@pytest.mark.parametrize(
    "value", [b"a\x00b", b"a\r\n b", b"a\nb", b"\x7f", b"\x1b[0m"], ids=lambda v: f"attack-39-{v!r}"
)
def test_control_characters_are_found(value: bytes) -> None:
    assert read_fields([("accept", b"x"), ("x-a", value)]).malformed == "x-a"


def test_names_that_clients_make_up_do_not_fill_the_memory() -> None:
    for number in range(10_000):
        read_fields([(f"x-{number}".encode(), b"1")])
    assert len(headers._known) <= 4096
    before = len(headers._known)
    assert read_fields([(b"x-" + b"y" * 5000, b"1")]).client
    assert len(headers._known) == before


def test_values_leave_as_they_came_or_as_utf8() -> None:
    assert encode("x-authz-user", "alice") == b"alice"
    assert encode("x-name", "é") == "é".encode()
    assert encode("cookie", "é") == b"\xe9"


def test_request_ids_are_distinct_and_well_formed() -> None:
    new = RequestIds()
    made = [new() for _ in range(5000)]
    assert len(set(made)) == 5000
    assert all(
        len(one) == 26 and one.startswith("req_") and one[4:].isalnum() and one.isascii() for one in made
    )
    assert len(set("".join(one[4:] for one in made))) == 62


@pytest.mark.parametrize(
    ("text", "good"),
    [
        ("0f8fad5b-d9cb-469f-a165-70867728950e", True),
        ("req_1", True),
        ("", False),
        ("a" * 129, False),
        ("a b", False),
        ("a\n", False),
        ("é", False),
        ("../x", False),
        ("-a", False),
    ],
)
def test_ids_of_others_are_checked(text: str, good: bool) -> None:
    assert is_request_id(text) is good
