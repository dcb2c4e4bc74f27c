"""What a gateway says it can do: only a proven one is believed, and only where it is unmistakable."""

import pytest
from envoy.service.auth.v3.external_auth_pb2 import CheckResponse

from authz.request import GatewayKind
from authz.transport.capability import NONE, Capability, capability
from tests.transport.support import TOKENS, FakeService, allow, ask, check, grpc_app, http_app, original

CAN = "x-authz-gateway-can"
EDIT = '82 1+0="stream_options":{"include_usage":true},'


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("edit", Capability(True, None)),
        ("edit, lease=60000", Capability(True, 60000)),
        ("lease=3000 ,edit", Capability(True, 3000)),
        ("lease=0", Capability(False, 0)),
        ("edit, dance, sing=2", Capability(True, None)),  # of a later version
        ("", NONE),
        ("edit, edit", NONE),
        ("lease=1, lease=2", NONE),
        ("edit, lease", NONE),
        ("edit=1", NONE),
        ("edit,", NONE),
        ("edit; lease=60000", NONE),
        ("lease=-1", NONE),
        ("lease=1.5", NONE),
        ("lease=9999999999999", NONE),
        ("lease=\u0661", NONE),
        ("EDIT", NONE),
        ("edit" + " " * 200, NONE),
    ],
)
def test_reading(text: str, read: Capability) -> None:
    assert capability(text) == read


@pytest.mark.parametrize("kind", GatewayKind)
@pytest.mark.parametrize(
    ("token", "said", "believed"),
    [
        (True, ["edit, lease=60000"], (True, 60000)),
        (True, [], (False, None)),
        (True, ["edit", "edit"], (False, None)),
        (True, ["nonsense=x"], (False, None)),
        (False, ["edit, lease=60000"], (False, None)),
    ],
    ids=["proven", "says nothing", "twice", "malformed", "unproven"],
)
async def test_over_http(
    kind: GatewayKind, token: bool, said: list[str], believed: tuple[bool, int | None]
) -> None:
    if kind is GatewayKind.CADDY:  # it can do nothing of it: whoever says so is a client
        believed = (False, None)
    service = FakeService()
    method, path, headers = original(kind, token=token)
    answer = await ask(http_app(service), path, [*headers, *((CAN, text) for text in said)], method=method)
    assert answer.status == 200
    (request,) = service.asked
    assert (request.can_edit, request.lease_ms) == believed
    assert CAN not in request.headers


@pytest.mark.parametrize(
    ("token", "extensions", "believed"),
    [
        (TOKENS[GatewayKind.ENVOY], {"can": "edit, lease=60000"}, (True, 60000)),
        (TOKENS[GatewayKind.ENVOY], {}, (False, None)),
        (None, {"can": "edit, lease=60000"}, (False, None)),
    ],
    ids=["proven", "says nothing", "unproven"],
)
async def test_over_grpc(
    token: str | None, extensions: dict[str, str], believed: tuple[bool, int | None]
) -> None:
    """A client that writes the header of the others is not heard, and its header goes no further."""
    service = FakeService()
    message = check(headers=[(CAN, "edit, lease=1")])
    for name, value in extensions.items():
        message.attributes.context_extensions[name] = value
    raw = message.SerializeToString()
    answer = CheckResponse.FromString(await grpc_app(service).answer(raw, token, "127.0.0.1"))
    (request,) = service.asked
    assert (request.can_edit, request.lease_ms) == believed
    assert CAN in answer.ok_response.headers_to_remove


async def test_envoys_own_word_goes_no_further() -> None:
    method, path, headers = original(GatewayKind.ENVOY)
    answer = await ask(http_app(FakeService()), path, [*headers, (CAN, "edit")], method=method)
    assert CAN in answer.headers["x-envoy-auth-headers-to-remove"].split(",")


@pytest.mark.parametrize("kind", GatewayKind)
@pytest.mark.parametrize("edit", [None, EDIT])
async def test_the_edit_is_handed_over(kind: GatewayKind, edit: str | None) -> None:
    service = FakeService(allow(edit=edit))
    method, path, headers = original(kind)
    answer = await ask(http_app(service), path, headers, method=method)
    assert answer.headers.get("x-authz-edit") == edit


@pytest.mark.parametrize("edit", [None, EDIT])
async def test_the_edit_is_in_the_metadata(edit: str | None) -> None:
    raw = check().SerializeToString()
    app = grpc_app(FakeService(allow(edit=edit)))
    answer = CheckResponse.FromString(await app.answer(raw, TOKENS[GatewayKind.ENVOY], "127.0.0.1"))
    told = answer.dynamic_metadata.fields
    assert (told["edit"].string_value if "edit" in told else None) == edit
    assert all(option.header.key != "x-authz-edit" for option in answer.ok_response.headers)
