"""Envoy's rate limit service over gRPC: `envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit`.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/ratelimit/v3/rls.proto

What cannot be answered is an error of the call: what Envoy does then is its filter's `failure_mode_deny`.
"""

from collections.abc import Callable
from typing import NoReturn

import structlog
from envoy.service.ratelimit.v3 import rls_pb2
from google.protobuf.message import DecodeError

from authz.ratelimit.limiter import Answer, Question, RateLimiter
from authz.ratelimit.match import BadRequest, Descriptor
from authz.recent import Recent
from authz.request import GatewayKind
from authz.store.protocols import StoreUnavailable
from authz.transport.gateways import GatewayRegistry
from authz.transport.lane import Refused
from authz.transport.lane.status import INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, UNAVAILABLE
from authz.transport.peer_certificate import PeerCertificate

SERVICE = "envoy.service.ratelimit.v3.RateLimitService"
MOST_DESCRIPTORS = 256  # of one request; each may be a counter
MOST_KNOWN = 4096
"""Requests of which it is remembered what they ask: who asks much asks the same. With the two bounds below
they take less than 20 MB, whatever clients send."""
LARGEST_KNOWN = 512  # bytes
MOST_OF_KNOWN = 8  # descriptors

_OK, _OVER_LIMIT = rls_pb2.RateLimitResponse.OK, rls_pb2.RateLimitResponse.OVER_LIMIT
_RateLimitRequest = rls_pb2.RateLimitRequest
_RateLimitResponse = rls_pb2.RateLimitResponse

log = structlog.get_logger("authz.transport")


def _ignored(operation: str) -> None:
    """Nobody counts."""


class RateLimits:
    """Answers ShouldRateLimit. Suspends only where the limiter does."""

    def __init__(
        self,
        limiter: RateLimiter,
        gateways: GatewayRegistry,
        *,
        store_failed: Callable[[str], None] = _ignored,
    ) -> None:
        """`gateways` may be replaced when the configuration changes."""
        self.gateways = gateways
        self.limiter = limiter
        self._store_failed = store_failed
        self._known: Recent[bytes, Question] = Recent(MOST_KNOWN)

    async def answer(
        self, message: bytes, token: str | None, peer: str, certificate: PeerCertificate | None = None
    ) -> bytes:
        """A serialized RateLimitRequest in, a serialized RateLimitResponse out. Raises Refused."""
        if self.gateways.identify(GatewayKind.ENVOY, token, peer, certificate) is None:
            raise Refused(
                PERMISSION_DENIED, "The gateway did not prove itself with its token or certificate."
            )
        try:
            question = self._known.get(message)
            if question is None or question.rules is not self.limiter.rules:
                question = self._question(message)
            return _respond(await self.limiter.answer(question))
        except DecodeError:
            _refuse("The gateway sent a RateLimitRequest that is no valid protobuf.")
        except BadRequest as error:
            _refuse(str(error))
        except StoreUnavailable as error:
            self._store_failed("reserve")
            raise Refused(UNAVAILABLE, "The store does not answer.") from error
        except Refused:
            raise
        except Exception as error:
            log.error("rate limit failed", exc_info=error)
            raise Refused(INTERNAL, "The rate limit failed internally.") from error

    def _question(self, message: bytes) -> Question:
        request = _RateLimitRequest.FromString(message)
        listed = request.descriptors
        if len(listed) > MOST_DESCRIPTORS:
            _refuse(f"The request has more than {MOST_DESCRIPTORS} descriptors.")
        descriptors = [
            Descriptor(
                tuple([(entry.key, entry.value) for entry in each.entries]),
                each.hits_addend.value if each.HasField("hits_addend") else None,
                (each.limit.requests_per_unit, each.limit.unit) if each.HasField("limit") else None,
            )
            for each in listed
        ]
        question = self.limiter.question(request.domain, descriptors, request.hits_addend)
        if len(message) <= LARGEST_KNOWN and len(descriptors) <= MOST_OF_KNOWN:
            self._known.put(message, question)
        return question


def _refuse(message: str) -> NoReturn:
    raise Refused(INVALID_ARGUMENT, message)


def _respond(answer: Answer) -> bytes:
    response = _RateLimitResponse()
    response.overall_code = _OVER_LIMIT if answer.over else _OK
    statuses = response.statuses
    for status in answer.statuses:
        told = statuses.add()
        told.code = _OVER_LIMIT if status.over else _OK
        told.limit_remaining = status.remaining
        limit = status.limit
        if limit is not None and limit.period is not None:
            current = told.current_limit
            current.requests_per_unit = limit.requests_per_unit
            current.unit = limit.period.number
            if limit.name:
                current.name = limit.name
            told.duration_until_reset.seconds = status.reset_s
    for name, value in answer.headers:
        header = response.response_headers_to_add.add()
        header.key = name
        header.value = value
    return bytes(response.SerializeToString())
