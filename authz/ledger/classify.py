"""What a request is charged, told from how its response ended: one table.

| The report says | Source | Charged |
|---|---|---|
| usage, whatever the status | reported; corrected where it had expired | the usage |
| the same of an Anthropic stream that was cut off | estimated | the input; the output by bytes, if more |
| it never reached a model server | released | nothing, not even the request |
| nothing, of a request that uses no tokens | reported; released from 400 on | the request |
| a model server's 300 or above, but not 504 | released | the request |
| 200, whole or cut short, without usage | estimated | by the bytes of request and response |
| no answer: the client left (0, 499) or the gateway (504) | estimated | input by bytes, typical output |
"""

from msgspec import Struct
from msgspec.structs import replace

from authz.ledger.calibration import Calibration
from authz.report import Report
from authz.store.records import Facts, Source
from authz.usage import NO_USAGE, Usage

_CLIENT_LEFT = 499  # nginx's own status
_GAVE_UP = (
    504  # of a gateway, here or further on: whoever asks for long answers would wait for it, for nothing
)
_UNANSWERED = frozenset({0, _CLIENT_LEFT, _GAVE_UP})
_COUNTS_AT_THE_END = "/messages"  # Anthropic: `message_start` has the input, the last event the output


class Class(Struct, frozen=True):
    """What a request used, and how that is known."""

    source: Source
    usage: Usage = NO_USAGE
    counted: bool = True  # as a request; False: it is given back too


def classify(report: Report, facts: Facts, calibration: Calibration, *, expired: bool) -> Class:
    """The table above, top to bottom."""
    usage, status = report.usage, report.status
    if usage is not None:
        if report.aborted and facts.path.endswith(_COUNTS_AT_THE_END):
            estimate = _output(report, facts, calibration)
            if estimate > usage.output:
                return Class(Source.ESTIMATED, replace(usage, output=estimate))
        return Class(Source.CORRECTED if expired else Source.REPORTED, usage)
    if not report.reached:
        return Class(Source.RELEASED, counted=False)
    if facts.hold.input == 0 and facts.hold.output == 0:
        return Class(Source.REPORTED if status < 400 else Source.RELEASED)
    if status >= 300 and status not in _UNANSWERED:
        return Class(Source.RELEASED)
    read = calibration.input(facts, is_streamed(report, facts))
    return Class(Source.ESTIMATED, Usage(read, _output(report, facts, calibration)))


def is_streamed(report: Report, facts: Facts) -> bool:
    """Whether the answer came as events; where nobody says: whether the request asked for it."""
    return facts.stream if report.streamed is None else report.streamed


def _output(report: Report, facts: Facts, calibration: Calibration) -> int:
    streamed = is_streamed(report, facts)
    if (
        report.response_bytes is None
        or report.status == _GAVE_UP  # the bytes are the gateway's own
        or (report.status in _UNANSWERED and not report.response_bytes)
    ):
        return calibration.typical(facts, streamed)
    return calibration.output(facts, report.response_bytes, streamed)
