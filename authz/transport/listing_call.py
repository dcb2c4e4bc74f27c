"""`GET /v1/models`: a request to us, passed on by a gateway of any kind."""

from authz.decision import Deny
from authz.reason import Reason
from authz.refusal import Refusal
from authz.request import BodyState, Request
from authz.transport.dialect import Call, Certificate, only, plain_deny, refusal, request_of
from authz.transport.listing import listing_body
from authz.transport.reply import Reply, json_reply, lines
from authz.transport.service import Desk


class ListingCall:
    """The question what models there are, see `authz.transport.exchange.Question`."""

    def __init__(self, desk: Desk, call: Call, certificate: Certificate, most: int) -> None:
        self.most = most
        self._desk = desk
        self._call = call
        self._certificate = certificate

    async def answer(self, body: bytes) -> Reply:
        """The models that the caller may use."""
        request = self._read()
        if isinstance(request, Refusal):
            return self._refuse(request)
        answer = await self._desk.list_models(request)
        if isinstance(answer, Deny):
            return refusal(plain_deny, answer)
        return json_reply(200, listing_body(answer), *lines(answer.client))

    def too_large(self) -> Reply:
        return self._refuse(Refusal(Reason.BODY_TOO_LARGE))

    def fault(self, error: Exception) -> Reply:
        call = self._call
        return refusal(plain_deny, self._desk.fault(call.gateway.name, call.request_id, error))

    def _refuse(self, refused: Refusal) -> Reply:
        call = self._call
        return refusal(plain_deny, self._desk.refuse(call.gateway.name, call.request_id, refused))

    def _read(self) -> Request | Refusal:
        call = self._call
        name = "x-forwarded-host" if "x-forwarded-host" in call.fields.gateway else "host"
        host = only(call.fields, name, Reason.BAD_HOST)
        if isinstance(host, Refusal):
            return host
        return request_of(
            call,
            b"",
            method=call.method,
            target=call.target,
            host=host,
            state=BodyState.NONE,
            certificate=self._certificate,
        )
