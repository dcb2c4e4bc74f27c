"""What one entry of Envoy's access log tells: that a response runs, or how it ended.

https://www.envoyproxy.io/docs/envoy/latest/api-v3/data/accesslog/v3/accesslog.proto
"""

from typing import Any

from envoy.data.accesslog.v3 import accesslog_pb2
from msgspec import Struct

from authz.report import Report
from authz.usage_dialect import METADATA, Fault, Reading, read_usage

DECISION = "envoy.filters.http.ext_authz"  # dynamic metadata: what our answer to the check told
USAGE = "authz.usage"  # dynamic metadata: what the rendered filters read from the response
RESERVATION = "x-authz-reservation"

_END = 6  # AccessLogType DownstreamEnd; older Envoys leave it at 0
_ENDS = frozenset({0, _END})
_PERIODIC = 5  # DownstreamPeriodic
_EVENTS = "text/event-stream"

# Flags of a response that did not end by itself, whoever ended it: a usage that is told piece by piece
# (Anthropic) is then not the whole.
_CUT = (
    "downstream_connection_termination",
    "downstream_remote_reset",
    "downstream_protocol_error",
    "upstream_connection_termination",
    "upstream_remote_reset",
    "upstream_protocol_error",
    "upstream_request_timeout",
    "upstream_max_stream_duration_reached",
    "local_reset",
    "stream_idle_timeout",
    "duration_timeout",
    "overload_manager",
)


class Running(Struct, frozen=True):
    """The response still runs."""

    reservation: str


class End(Struct, frozen=True):
    """It ended. Without a reservation in its report, `request_id` is Envoy's own id of the request."""

    report: Report
    request_id: str = ""
    fault: Fault | None = None  # what was wrong with its usage


def read_entry(entry: accesslog_pb2.HTTPAccessLogEntry) -> Running | End | None:
    """What an entry tells; None: nothing that concerns a reservation."""
    common = entry.common_properties
    kind = common.access_log_type
    if kind not in _ENDS and kind != _PERIODIC:
        return None
    flags = common.response_flags
    reached = common.HasField("upstream_remote_address") and not (
        flags.upstream_connection_failure or flags.no_healthy_upstream or flags.no_route_found
    )
    told = common.metadata.filter_metadata
    reservation, request_id = "", ""
    if DECISION in told:
        reservation = _text(told[DECISION].fields, "reservation")
        if not reservation:
            return None  # it was refused
    elif reached:
        # Behind HTTP ext_authz there is no metadata. The header proves something only once our answer has
        # replaced what a client sent: of a request that went on.
        reservation = entry.request.request_headers.get(RESERVATION, "")
    if kind == _PERIODIC or common.intermediate_log_entry:
        return Running(reservation) if reservation else None
    if not reservation:
        request_id = entry.request.request_id
        if not request_id:
            return None
    usage = _usage(told[USAGE].fields) if USAGE in told else _UNTOLD
    response = entry.response
    kinds = response.response_headers
    last = common.time_to_last_downstream_tx_byte
    report = Report(
        reservation=reservation,
        usage=usage.usage,
        status=response.response_code.value,
        reached=reached,
        aborted=common.HasField("response_flags") and any(getattr(flags, name) for name in _CUT),
        streamed=kinds["content-type"].startswith(_EVENTS) if "content-type" in kinds else None,
        response_bytes=response.response_body_bytes,
        duration_ms=last.seconds * 1000 + last.nanos // 1_000_000,
    )
    return End(report, request_id, usage.fault)


_UNTOLD = Reading(None)


def _usage(fields: Any) -> Reading:
    reading = read_usage(_counts(fields), METADATA)
    return _UNTOLD if reading.fault is Fault.NO_COUNTS else reading


def _text(fields: Any, name: str) -> str:
    return str(fields[name].string_value) if name in fields else ""


def _counts(fields: Any) -> dict[str, object]:
    """The fields as plain values; what is no number stays what it is, to be refused."""
    counts: dict[str, object] = {}
    for name, value in fields.items():
        kind = value.WhichOneof("kind")
        counts[name] = None if kind in (None, "null_value") else getattr(value, kind)
    return counts
