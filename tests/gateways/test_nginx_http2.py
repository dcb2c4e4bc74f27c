"""What nginx says by itself over HTTP/2: it measures the body once more on its way to an error page."""

import socket
import ssl
import struct

from tests.support.certificates import Certificates
from tests.support.nginx import Nginx
from tests.support.stub_authz import StubAuthz

GATEWAY = Nginx

DATA, HEADERS, RST_STREAM, SETTINGS, GOAWAY = 0, 1, 3, 4, 7
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: str, value: str) -> bytes:
    """A header that is in no table and not compressed (RFC 7541, 6.2.2)."""
    return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


def read_frame(connection: ssl.SSLSocket) -> tuple[int, int, bytes]:
    head = _exactly(connection, 9)
    return head[3], head[4], _exactly(connection, int.from_bytes(head[:3], "big"))


def _exactly(connection: ssl.SSLSocket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        part = connection.recv(size - len(data))
        assert part, "nginx closed the connection"
        data += part
    return data


def post_announcing(port: int, tls: ssl.SSLContext, length: int) -> bytes:
    """The body of the answer to a POST that announces so many bytes and sends none of them."""
    tls.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), 10) as raw,
        tls.wrap_socket(raw, server_hostname="localhost") as connection,
    ):
        fields = {":method": "POST", ":scheme": "https", ":path": "/v1/x", ":authority": "h"}
        block = b"".join(literal(*pair) for pair in {**fields, "content-length": str(length)}.items())
        connection.sendall(
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
            + frame(SETTINGS, 0, 0)
            + frame(HEADERS, END_HEADERS, 1, block)
        )
        body = b""
        while True:
            kind, flags, payload = read_frame(connection)
            assert kind not in (RST_STREAM, GOAWAY), "nginx gave no answer"
            if kind == SETTINGS and not flags & ACK:
                connection.sendall(frame(SETTINGS, ACK, 0))
            if kind == DATA:
                body += payload
            if kind in (DATA, HEADERS) and flags & END_STREAM:
                return body


def test_92_a_body_over_the_limit_is_refused_in_authzs_words(
    gateway: Nginx, certificates: Certificates, authz: StubAuthz
) -> None:
    body = post_announcing(gateway.around.https, certificates.trust(), 5_000_000)
    assert b'"code":"request_too_large"' in body, body
    assert not authz.asked
