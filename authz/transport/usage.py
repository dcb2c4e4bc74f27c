"""`POST /v1/usage`: gateways, and model servers behind them, tell what responses used.

One object or a list of them; every one is settled by itself, so a bad one spoils nothing
beside it. Answered only once the ledger is on the disk: whoever gets no 200 tells it again,
and nothing is charged twice. docs/settlement.md has the whole contract.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated

import msgspec
import structlog
from msgspec import Meta, Raw, Struct

from authz.decision import Deny
from authz.denial import deny
from authz.reason import Reason
from authz.report import Report
from authz.request import Gateway
from authz.store.protocols import Outcome, StoreUnavailable
from authz.transport.dialect import plain_deny, refusal
from authz.transport.gateways import UNIDENTIFIED
from authz.transport.headers import Fields
from authz.transport.reply import Reply, json_reply
from authz.transport.service import Service
from authz.usage_dialect import Fault, Reading, read_usage

Reject = Callable[[str, str], None]
"""Told of what was not believed: gateway, reason."""

MOST_ITEMS = 1000
MAX_BODY = 4 << 20
LONGEST_RESERVATION = 256
MOST_MEMBERS = 200_000
"""Commas in a body: bounds the work on a hostile one at some 200 a report."""

_SETTLED_AT_A_TIME = 50  # then decisions get their turn

_UNPROVEN = "Only a gateway that proves itself with its token may tell what a response used."

_ONLY_POST = json_reply(
    405,
    b'{"error":{"message":"Tell what a response used with POST.","type":"invalid_request_error",'
    b'"code":"method_not_allowed","param":null}}',
    "allow: POST",
)

log = structlog.get_logger("authz.transport")

_Count = Annotated[int, Meta(ge=0, le=2**53 - 1)]
_UNTOLD = Raw(b"null")


class Item(Struct, frozen=True, kw_only=True):
    """One report as it is written. Unknown keys are ignored."""

    reservation: Annotated[str, Meta(min_length=1, max_length=LONGEST_RESERVATION)]
    running: bool = False
    usage: Raw = _UNTOLD
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    reached: bool | None = None
    aborted: bool | None = None
    streamed: bool | None = None
    response_bytes: _Count | None = None
    duration_ms: _Count | None = None


class Invalid(Struct, frozen=True):
    """One that cannot be read, and why."""

    reason: str
    reservation: str | None = None


class Result(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What became of one report."""

    reservation: str | None
    outcome: str
    reason: str = ""


class Unreadable(ValueError):
    """The body is no list of reports. The message says why."""


class _Named(Struct):
    reservation: Annotated[str, Meta(max_length=LONGEST_RESERVATION)] | None = None


_items = msgspec.json.Decoder(list[Raw])
_item = msgspec.json.Decoder(Item)
_named = msgspec.json.Decoder(_Named)
_plain = msgspec.json.Decoder()
_WHITE = b" \t\r\n"


def read_items(body: bytes) -> list[Item | Invalid]:
    """The reports of a body; for one that cannot be read, why. Raises Unreadable."""
    if body.count(b",") > MOST_MEMBERS:
        raise Unreadable("The body holds too many fields.")
    stripped = body.lstrip(_WHITE)
    try:
        raws = _items.decode(body) if stripped.startswith(b"[") else [Raw(stripped.rstrip(_WHITE))]
    except (msgspec.MsgspecError, RecursionError) as error:
        raise Unreadable("The body is not valid JSON.") from error
    if len(raws) > MOST_ITEMS:
        raise Unreadable(f"The body holds more than {MOST_ITEMS} reports.")
    if not stripped.startswith((b"[", b"{")):
        raise Unreadable("The body must be a JSON object or a list of them.")
    items: list[Item | Invalid] = []
    for raw in raws:
        try:
            items.append(_item.decode(raw))
        except msgspec.ValidationError as error:
            items.append(Invalid(str(error), _name_of(raw)))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Unreadable("The body is not valid JSON.") from error
    return items


def _name_of(raw: Raw) -> str | None:
    try:
        return _named.decode(raw).reservation
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def read_report(item: Item) -> tuple[Report, Fault | None]:
    """The report, and what was wrong with its usage."""
    usage = _UNSAID if item.usage == _UNTOLD else _read_usage(item.usage)
    report = Report(
        reservation=item.reservation,
        usage=usage.usage,
        status=item.status or 0,
        reached=item.reached is not False,
        aborted=item.aborted is True,
        streamed=item.streamed,
        response_bytes=item.response_bytes,
        duration_ms=item.duration_ms,
    )
    return report, usage.fault


_UNSAID = Reading(None)


def _read_usage(raw: Raw) -> Reading:
    """What a model server wrote is never a reason to leave its response unsettled."""
    try:
        return read_usage(_plain.decode(raw))
    except msgspec.ValidationError:  # a number that no float holds
        return Reading(None, Fault.TOO_LARGE)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Reading(None, Fault.NOT_AN_OBJECT)


class Usages:
    """Takes reports from proven gateways."""

    def __init__(self, service: Service, reject: Reject) -> None:
        self._service = service
        self._reject = reject

    def open(
        self, method: str, gateway: Gateway | None, fields: Fields, request_id: str
    ) -> "Reply | UsageCall":
        """One call, refused before its body is read, or that is answered with it."""
        if method != "POST":
            return _ONLY_POST
        if gateway is None or not gateway.proven:
            self._reject(UNIDENTIFIED, Reason.GATEWAY_UNPROVEN.value)
            return _refused(deny(request_id, Reason.GATEWAY_UNPROVEN, message=_UNPROVEN))
        if fields.client.get("content-encoding", "identity") != "identity":
            return _refused(deny(request_id, Reason.UNSUPPORTED_ENCODING))
        return UsageCall(self, gateway, request_id)

    def unreadable(self, gateway: Gateway) -> None:
        """Count what is no list of reports."""
        self._reject(gateway.name, "malformed")

    async def take(self, body: bytes, gateway: Gateway) -> bytes:
        """Settle a body's reports, in order; the answer's body. Raises Unreadable, StoreUnavailable."""
        results: list[Result] = []
        for number, item in enumerate(read_items(body), 1):
            results.append(await self._one(item, gateway))
            if number % _SETTLED_AT_A_TIME == 0:
                await asyncio.sleep(0)
        await self._service.durable()
        return msgspec.json.encode({"results": results})

    async def _one(self, item: Item | Invalid, gateway: Gateway) -> Result:
        if isinstance(item, Invalid):
            self._reject(gateway.name, "malformed")
            return Result(reservation=item.reservation, outcome="invalid", reason=item.reason)
        if item.running:
            lives = await self._service.extend(item.reservation, gateway)
            return Result(reservation=item.reservation, outcome="extended" if lives else Outcome.UNKNOWN)
        report, fault = read_report(item)
        if fault is not None:
            self._reject(gateway.name, fault.value)
        return Result(reservation=item.reservation, outcome=await self._service.settle(report, gateway))


class UsageCall:
    """The reports of one call, see `authz.transport.exchange.Question`."""

    most = MAX_BODY

    def __init__(self, usages: Usages, gateway: Gateway, request_id: str) -> None:
        self._usages = usages
        self._gateway = gateway
        self._request_id = request_id

    async def answer(self, body: bytes) -> Reply:
        """What became of each report, once that is on the disk."""
        try:
            return json_reply(200, await self._usages.take(body, self._gateway))
        except Unreadable as error:
            self._usages.unreadable(self._gateway)
            return _refused(deny(self._request_id, Reason.BAD_BODY, message=str(error)))
        except StoreUnavailable:
            return _refused(deny(self._request_id, Reason.STORE_UNAVAILABLE))

    def too_large(self) -> Reply:
        return _refused(deny(self._request_id, Reason.BODY_TOO_LARGE))

    def fault(self, error: Exception) -> Reply:
        name = self._gateway.name
        log.error("usage report failed", request_id=self._request_id, gateway=name, exc_info=error)
        return _refused(deny(self._request_id, Reason.INTERNAL_ERROR))


def _refused(denied: Deny) -> Reply:
    return refusal(plain_deny, denied)
