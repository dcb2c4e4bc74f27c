"""Structured logs: one line per event, JSON for machines or coloured for a person.

What libraries log by the standard library's `logging` takes the same way.
"""

import logging
import sys
from collections.abc import MutableMapping
from typing import Any, Literal, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from authz.telemetry.redact import HIDDEN, is_secret_name, redact_value

Format = Literal["json", "console"]

# Their chatter below a warning is about themselves.
_NOISY = ("uvicorn", "uvicorn.error", "uvicorn.access", "asyncio", "grpc", "httpx", "httpcore", "watchfiles")


def redact_event(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """A structlog processor: no credential passes, whatever the field is called."""
    return {name: HIDDEN if is_secret_name(name) else redact_value(value) for name, value in event.items()}


def configure_logging(*, format: Format = "json", level: str = "info", stream: TextIO | None = None) -> None:
    """Send every log line to `stream` (standard error). May be called again. Raises ValueError."""
    number = logging.getLevelNamesMapping().get(level.upper())
    if number is None:
        raise ValueError(f"{level!r} is not a log level; use debug, info, warning or error")
    stream = stream if stream is not None else sys.stderr
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.stdlib.PositionalArgumentsFormatter(),
    ]
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[*shared, structlog.stdlib.ExtraAdder()], processors=_last(format, stream)
    )
    handler = logging.StreamHandler(stream)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(number)
    for name in _NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=False,
    )


def _last(format: Format, stream: TextIO) -> list[Processor]:
    """Exceptions become text before the redaction, so that it sees them too."""
    chain: list[Processor] = [
        structlog.stdlib.ProcessorFormatter.remove_processors_meta,
        structlog.processors.format_exc_info,
        redact_event,
    ]
    if format == "json":
        return [*chain, _event_first, structlog.processors.JSONRenderer(ensure_ascii=True)]
    colours = stream.isatty()
    return [
        *chain,
        structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=structlog.dev.plain_traceback),
    ]


def _event_first(_logger: WrappedLogger, _method: str, event: EventDict) -> MutableMapping[str, Any]:
    """Time, level and event lead the line, where the eye looks for them."""
    led = {name: event[name] for name in ("timestamp", "level", "event") if name in event}
    return {**led, **event}
