"""Envoy's API by betterproto2, a second and independent codec. Slow, so for tests only."""

import warnings
from typing import Any

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the generated code uses a spelling that pydantic deprecates
    from envoy_data_plane.envoy.config.core import v3 as core
    from envoy_data_plane.envoy.service.auth import v3 as auth


def check_request() -> bytes:
    """A CheckRequest with raw header fields."""
    pairs = [
        (":method", b"POST"),
        (":path", b"/v1/x?a=b"),
        (":authority", b"llm.test"),
        ("content-length", b"2"),
    ]
    pairs += [("authorization", b"Bearer \xff"), ("x-api-key", b"1"), ("x-api-key", b"2")]
    http = auth.AttributeContextHttpRequest(
        id="17",
        method="POST",
        path="/v1/x?a=b",
        host="llm.test",
        scheme="https",
        protocol="HTTP/2",
        raw_body=b"{}",
        header_map=core.HeaderMap([core.HeaderValue(key=name, raw_value=value) for name, value in pairs]),
    )
    address = core.Address(socket_address=core.SocketAddress(address="203.0.113.7", port_value=5))
    return bytes(
        auth.CheckRequest(
            attributes=auth.AttributeContext(
                source=auth.AttributeContextPeer(address=address, principal="spiffe://x"),
                request=auth.AttributeContextRequest(http=http),
                context_extensions={"max_request_bytes": "65536"},
            )
        )
    )


def parse_check_response(raw: bytes) -> Any:
    """A CheckResponse."""
    return auth.CheckResponse.parse(raw)
