"""What a client may wish for one request: how long, how often, where to; and how far its route goes along.

    X-Baseten-Request-Preferences: {"timeout_s": 30, "max_retries": 2, "target_host": "https://gpu.example.com"}

The fields are those of Baseten's performance client. Their header never goes
upstream; what came of them goes to the gateway, and to the limits.
"""

from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from msgspec import Struct

from authz.authenticate.strict_json import Malformed, read_object
from authz.decision import Header
from authz.limit.planner import Planner
from authz.peek import is_model_name
from authz.reason import ANSWERS, Reason
from authz.refusal import Refusal
from authz.request import GatewayKind, Request
from authz.upstream import Backend

LONGEST = 4096
"""Characters of the header."""

FIELDS = ("timeout_s", "max_retries", "hedge_delay", "max_concurrent_requests", "target_host")
_MS_PER_S = 1000
_LONGEST_TOLD = 100  # characters of a target, for the operator
_PORTS = {"http": 80, "https": 443}


class Offer(Struct, frozen=True, kw_only=True):
    """What one route lets its clients wish. What is None is not offered: the field is refused."""

    header: str | None = None  # of the JSON; lower case, as the others
    model_header: str | None = None
    target_header: str | None = None
    most_timeout_ms: int | None = None
    most_retries: int | None = None
    least_hedge_ms: int | None = None
    most_concurrent: int | None = None
    concurrency: Planner | None = None  # of `most_concurrent`
    targets: Mapping[str, Backend] = {}  # by the origin that clients name
    ignored: frozenset[str] = frozenset()  # fields that are read and change nothing

    @property
    def headers(self) -> tuple[str, ...]:
        """Those that never go upstream."""
        return tuple(name for name in (self.header, self.model_header, self.target_header) if name)

    @property
    def needs_model(self) -> bool:
        """Whether the body is read for its model, to compare it with the header or the target's models."""
        return self.model_header is not None or bool(self.targets)


class Wishes(Struct, frozen=True, kw_only=True):
    """What one request wishes, as far as its route grants it."""

    timeout_ms: int | None = None
    retries: int = 0
    hedge_ms: int | None = None
    concurrent: int | None = None
    target: Backend | None = None
    model: str | None = None

    def told(self, offer: "Offer") -> str:
        """For a person, with what came of a wish for more; empty where nothing is wished."""
        said = []
        if self.timeout_ms is not None:
            most = _limit(self.timeout_ms, offer.most_timeout_ms, "most")
            said.append(f"is given up after {_spelled(self.timeout_ms)}{most}")
        if self.retries:
            most = _limit(self.retries, offer.most_retries, "most")
            said.append(f"is tried again at most {self.retries} times{most}")
        if self.hedge_ms is not None:
            least = _limit(self.hedge_ms, offer.least_hedge_ms, "least")
            said.append(f"is sent a second time after {_spelled(self.hedge_ms)} without an answer{least}")
        if self.concurrent is not None:
            most = _limit(self.concurrent, offer.most_concurrent, "most")
            said.append(f"is one of at most {self.concurrent} of the key at once{most}")
        if self.target is not None:
            said.append(f"goes to the backend {self.target.name!r}")
        return ", ".join(said)


NO_WISHES = Wishes()


def _limit(granted: int, bound: int | None, which: str) -> str:
    return f" (the {which} that the route grants)" if granted == bound else ""


def _spelled(ms: int) -> str:
    return f"{ms} ms" if ms % _MS_PER_S else f"{ms // _MS_PER_S} s"


class _Fault(Exception):
    """Carries a refusal out of the readers."""

    def __init__(self, reason: Reason, message: str, param: str | None, detail: str = "") -> None:
        super().__init__(message)
        self.refusal = Refusal(reason, message, param, detail=detail)


def read(offer: Offer, request: Request) -> Wishes | Refusal:
    """The wishes of a request, or why they cannot be granted."""
    try:
        fields = _fields(offer, request)
        return Wishes(
            timeout_ms=_timeout(offer, fields),
            retries=_retries(offer, fields),
            hedge_ms=_hedge(offer, fields),
            concurrent=_concurrent(offer, fields),
            target=_target(offer, request, fields),
            model=_model(offer, request),
        )
    except _Fault as fault:
        return fault.refusal


def gateway_headers(wishes: Wishes, kind: GatewayKind) -> list[Header]:
    """What tells the gateway; it takes them off again. Envoy can do all of it, Traefik end a request.

    https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#http-headers-consumed
    A second try goes to the same cluster, so never to a server with another credential. Hedging is a try
    of its own that begins when the first has not answered in time.
    """
    if kind is GatewayKind.TRAEFIK and wishes.timeout_ms is not None:
        return [("x-authz-timeout-ms", str(wishes.timeout_ms))]
    if kind is not GatewayKind.ENVOY:
        return []
    headers: list[Header] = []
    if wishes.timeout_ms is not None:
        headers.append(("x-envoy-upstream-rq-timeout-ms", str(wishes.timeout_ms)))
    retries = wishes.retries or (1 if wishes.hedge_ms is not None else 0)
    if retries:
        headers.append(("x-envoy-retry-on", "5xx"))  # and where the connection broke or none was made
        headers.append(("x-envoy-max-retries", str(retries)))
    if wishes.hedge_ms is not None:
        headers.append(("x-envoy-hedge-on-per-try-timeout", "true"))
        headers.append(("x-envoy-upstream-rq-per-try-timeout-ms", str(wishes.hedge_ms)))
    return headers


def origin_of(text: str) -> str | None:
    """Scheme, host and port of a URL in one spelling; None where it is none, or has more than that."""
    if not text.isascii() or not text.isprintable() or " " in text or "\\" in text:
        return None
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in _PORTS or not parts.hostname or parts.path not in ("", "/"):
        return None
    if parts.query or parts.fragment or "@" in parts.netloc or text[-1] in "?#":
        return None
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}:{_PORTS[parts.scheme] if port is None else port}"


def _once(request: Request, name: str | None) -> str | None:
    value = request.headers.get(name) if name is not None else None
    if value is not None and name in request.repeated:
        raise _Fault(Reason.BAD_PREFERENCE, f"The header {name} was sent twice. Send it once.", name)
    return value


def _fields(offer: Offer, request: Request) -> Mapping[str, Any]:
    name = offer.header
    text = _once(request, name)
    if text is None:
        return {}
    if len(text) > LONGEST:
        raise _Fault(Reason.BAD_PREFERENCE, f"{name} is longer than {LONGEST} characters.", name)
    try:
        fields = read_object(text.encode("latin-1"))
    except Malformed as malformed:
        raise _Fault(Reason.BAD_PREFERENCE, f"{name} {malformed}.", name) from None
    offered = _offered(offer)
    for field in fields:
        if field not in offered and field not in offer.ignored:
            known = ", ".join(sorted(offered | offer.ignored))
            message = f"{name} holds a field that is not offered here. There are {known}."
            raise _Fault(Reason.BAD_PREFERENCE, message, field if field in FIELDS else None)
    return fields


def _offered(offer: Offer) -> frozenset[str]:
    granted = (
        offer.most_timeout_ms,
        offer.most_retries,
        offer.least_hedge_ms,
        offer.most_concurrent,
        offer.targets or None,
    )
    return frozenset(name for name, bound in zip(FIELDS, granted, strict=True) if bound is not None)


def _seconds(fields: Mapping[str, Any], name: str) -> int | None:
    """In milliseconds."""
    value = fields.get(name)
    if name not in fields:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 10**9:
        raise _Fault(Reason.BAD_PREFERENCE, f"`{name}` must be a number of seconds above 0.", name)
    return max(1, round(value * _MS_PER_S))


def _whole(fields: Mapping[str, Any], name: str, least: int) -> int | None:
    value = fields.get(name)
    if name not in fields:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise _Fault(Reason.BAD_PREFERENCE, f"`{name}` must be a whole number from {least}.", name)
    return value


def _timeout(offer: Offer, fields: Mapping[str, Any]) -> int | None:
    wished = _seconds(fields, "timeout_s")
    return None if wished is None or offer.most_timeout_ms is None else min(wished, offer.most_timeout_ms)


def _retries(offer: Offer, fields: Mapping[str, Any]) -> int:
    return min(_whole(fields, "max_retries", 0) or 0, offer.most_retries or 0)


def _hedge(offer: Offer, fields: Mapping[str, Any]) -> int | None:
    wished = _seconds(fields, "hedge_delay")
    return None if wished is None or offer.least_hedge_ms is None else max(wished, offer.least_hedge_ms)


def _concurrent(offer: Offer, fields: Mapping[str, Any]) -> int | None:
    wished = _whole(fields, "max_concurrent_requests", 1)
    return None if wished is None or offer.most_concurrent is None else min(wished, offer.most_concurrent)


def _target(offer: Offer, request: Request, fields: Mapping[str, Any]) -> Backend | None:
    """The header before the field. Both must be on the list, whichever counts."""
    named = [(offer.target_header, _once(request, offer.target_header))]
    if "target_host" in fields:
        named.append(("target_host", fields["target_host"]))
    chosen: Backend | None = None
    for param, text in named:
        if text is None and param == offer.target_header:
            continue
        if not isinstance(text, str):
            raise _Fault(Reason.BAD_PREFERENCE, "`target_host` must be a URL.", param)
        origin = origin_of(text)
        backend = offer.targets.get(origin or "")
        if backend is None:
            # Only of what was read as an origin: the rest of a URL may hold a password.
            named_there = origin[:_LONGEST_TOLD] if origin is not None else "something that is no origin"
            listed = ", ".join(sorted(offer.targets)) or "none"
            detail = f"It names {named_there}; the route offers {listed}."
            raise _Fault(Reason.TARGET_NOT_ALLOWED, ANSWERS[Reason.TARGET_NOT_ALLOWED].text, param, detail)
        chosen = chosen or backend
    return chosen


def _model(offer: Offer, request: Request) -> str | None:
    name = offer.model_header
    model = _once(request, name)
    if model is not None and not is_model_name(model):
        message = f"The header {name} must be a name in printable ASCII of at most 256 characters."
        raise _Fault(Reason.BAD_PREFERENCE, message, name)
    return model
