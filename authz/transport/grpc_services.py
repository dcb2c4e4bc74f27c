"""What gateways ask over gRPC, whichever server it is that they ask."""

from collections.abc import Iterable

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from msgspec import Struct

from authz.transport import access_log, ext_authz, ratelimit
from authz.transport.access_log import AccessLog
from authz.transport.ext_authz import ExtAuthz
from authz.transport.lane import Refused
from authz.transport.lane.status import INTERNAL, NOT_FOUND
from authz.transport.ratelimit import RateLimits

HEALTH = "grpc.health.v1.Health"

_HEADROOM = 1024 * 1024  # bytes of a CheckRequest beside its body

_Response = health_pb2.HealthCheckResponse
_SERVING: bytes = _Response(status=_Response.SERVING).SerializeToString()
_NOT_SERVING: bytes = _Response(status=_Response.NOT_SERVING).SerializeToString()


class GrpcServices(Struct, frozen=True):
    """Check, the access log, and rate limits where they are asked for."""

    check: ExtAuthz
    log: AccessLog
    limits: RateLimits | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """Of the services, as they are called in paths."""
        ours = (ext_authz.SERVICE, access_log.SERVICE)
        return ours if self.limits is None else (*ours, ratelimit.SERVICE)

    @property
    def largest(self) -> int:
        """Bytes of a message."""
        return self.check.max_body + _HEADROOM


class GrpcHealth:
    """`grpc.health.v1.Health/Check`: SERVING until told to stop.

    https://github.com/grpc/grpc/blob/master/doc/health-checking.md
    """

    def __init__(self, names: Iterable[str]) -> None:
        """`names` are those of the services; the empty one, for all of them, is known anyway."""
        self.draining = False
        self._names = frozenset(("", *names))

    def check(self, message: bytes) -> bytes:
        """A serialized HealthCheckRequest in, a serialized HealthCheckResponse out. Raises Refused."""
        try:
            service = health_pb2.HealthCheckRequest.FromString(message).service
        except DecodeError:
            raise Refused(INTERNAL, "This is no valid HealthCheckRequest.") from None
        if service not in self._names:
            raise Refused(NOT_FOUND, "There is no such service.")
        return _NOT_SERVING if self.draining else _SERVING
