"""Tells the operator of what went wrong on the gRPC lane: connections that it cut off, and faults of ours."""

import time
from collections.abc import Callable

import structlog

_QUIET = 1.0  # seconds; whoever connects over and over must not fill the log

log = structlog.get_logger("authz.transport")


class CutOff:
    """Counts connections by the error with which they were ended (RFC 9113 section 7)."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self.counts: dict[str, int] = {}
        self._clock = clock
        self._quiet_until = -_QUIET
        self._untold = 0

    def ended(self, peer: str, error: str, why: str) -> None:
        """A connection was. Of many only one each second is logged, with how many were not."""
        self.counts[error] = self.counts.get(error, 0) + 1
        now = self._clock()
        if now < self._quiet_until:
            self._untold += 1
            return
        self._quiet_until = now + _QUIET
        log.warning("gRPC connection cut off", peer=peer, error=error, why=why, more=self._untold)
        self._untold = 0

    def failed(self, error: BaseException) -> None:
        """A handler raised what it never should: the call ended as UNKNOWN."""
        log.error("gRPC call failed", exc_info=error)
