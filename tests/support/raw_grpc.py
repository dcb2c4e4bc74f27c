"""A gRPC client that asks Check as Envoy would, and shows the answer as an HTTP response."""

import grpc
from envoy.service.auth.v3 import external_auth_pb2 as auth

from tests.support.raw_http import RawResponse

METHOD = "/envoy.service.auth.v3.Authorization/Check"
_DECHUNK_END = b"0\r\n"


class RawGrpc:
    """One channel to `decisions.grpc`, with a gateway's token."""

    def __init__(self, port: int, token: str) -> None:
        self._channel = grpc.insecure_channel(
            f"127.0.0.1:{port}", options=[("grpc.max_receive_message_length", 1 << 24)]
        )
        self._check = self._channel.unary_unary(
            METHOD,
            request_serializer=auth.CheckRequest.SerializeToString,
            response_deserializer=auth.CheckResponse.FromString,
        )
        self._metadata = [("x-authz-gateway-token", token)]

    def check(self, data: bytes) -> RawResponse:
        """Of a request's bytes: the headers all by themselves (encode_raw_headers), the body whole."""
        answer = self._check(check_request(data), metadata=self._metadata, timeout=10)
        kind = answer.WhichOneof("http_response")
        part = answer.ok_response if kind == "ok_response" else answer.denied_response
        options = part.response_headers_to_add if kind == "ok_response" else part.headers
        headers = tuple(
            (option.header.key.lower(), option.header.value or option.header.raw_value.decode("latin-1"))
            for option in options
        )
        if kind == "ok_response":
            return RawResponse(200, headers, b"")
        return RawResponse(part.status.code, headers, part.body.encode())

    def close(self) -> None:
        self._channel.close()


def check_request(data: bytes) -> auth.CheckRequest:
    """The CheckRequest that Envoy makes of these bytes."""
    head, _, body = data.partition(b"\r\n\r\n")
    first, *lines = head.split(b"\r\n")
    method, _, rest = first.partition(b" ")
    target, _, _ = rest.rpartition(b" ")
    request = auth.CheckRequest()
    http = request.attributes.request.http
    http.method = method.decode()
    http.path = target.decode("latin-1")
    http.scheme = "https"
    http.protocol = "HTTP/1.1"
    request.attributes.context_extensions["max_request_bytes"] = str(4 << 20)
    request.attributes.source.address.socket_address.address = "127.0.0.1"
    pairs = [
        (name.strip().lower(), value.strip()) for name, _, value in (line.partition(b":") for line in lines)
    ]
    if (b"transfer-encoding", b"chunked") in pairs:
        body = _dechunk(body)
    for name, value in [(b":method", method), (b":path", target), (b":scheme", b"https"), *pairs]:
        if name == b"host":
            http.host = value.decode("latin-1")
            name = b":authority"
        if name.startswith((b"x-authz", b"x_authz", b"x.authz")) or name == b"connection":
            continue
        header = http.header_map.headers.add()
        header.key = name.decode()
        header.raw_value = value
    http.raw_body = body
    return request


def _dechunk(body: bytes) -> bytes:
    whole = b""
    while body and not body.startswith(_DECHUNK_END):
        size, _, body = body.partition(b"\r\n")
        length = int(size, 16)
        whole += body[:length]
        body = body[length + 2 :]
    return whole
