"""A gRPC server as an asyncio protocol: path and bytes in, bytes out.

HTTP/2 (RFC 9113) over cleartext with prior knowledge or TLS, header compression by `hpack`, gRPC on it
(https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md). It serves what gateways ask on every
request: `envoy.service.auth.v3.Authorization/Check`, Envoy's access log as a client stream and
unary health checks. It knows nothing of them; reflection and server streams are grpcio's.

A call whose handler does not suspend is answered within the turn of the loop that brought it, without a task.
"""

from authz.transport.lane.lane import Lane
from authz.transport.lane.limits import Limits
from authz.transport.lane.routes import Caller, ClientStream, Routes, Unary
from authz.transport.lane.status import Refused

__all__ = ["Caller", "ClientStream", "Lane", "Limits", "Refused", "Routes", "Unary"]
